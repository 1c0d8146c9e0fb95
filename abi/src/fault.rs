//! Faults as messages: the call that the kernel makes to a fault exposure, and the possible
//! answers.
//!
//! A fault of a task becomes a call to the exposure that
//! [`Op::FaultHandler`](crate::Op::FaultHandler) named, with [`FLAG_FAULT`](crate::FLAG_FAULT) in
//! the message word:
//!
//! | part of the message | contents |
//! |---|---|
//! | label | the [`FaultKind`] |
//! | message register 0 | for a page fault the address; for [`Step`](FaultKind::Step) and [`Watch`](FaultKind::Watch) DR6: bit 14 a step, bits 0 to 3 which of DR0 to DR3; else 0 |
//! | message register 1 | RIP |
//! | message register 2 | the CPU's error code; in the upper half the exception's number |
//! | message register 3 | RSP |
//! | UTCB bulk words | the register set, in the order of [`RegIndex`](crate::RegIndex) |
//!
//! The answer's label is a [`FaultAnswer`].

macro_rules! numbered {
    ($($(#[$outer:meta])* $name:ident { $($(#[doc = $doc:expr])* $value:ident = $number:literal;)* })*) => {$(
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])* $value = $number,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$value,)*];

            /// Decodes a label; `None` if no kind has it.
            pub const fn from_label(label: u32) -> Option<$name> {
                match label { $($number => Some($name::$value),)* _ => None }
            }

            pub const fn label(self) -> u32 {
                self as u32
            }

            /// Returns the kind's documentation, as in the source.
            pub const fn doc(self) -> &'static str {
                match self { $($name::$value => concat!($($doc, "\n",)*),)* }
            }
        }
    )*};
}

numbered! {
    /// What kind of fault it is: the label of its message.
    FaultKind {
        /// An access that the mapping does not allow, or where nothing is mapped.
        Page = 1;
        /// A page fault within a page of RSP, where nothing is mapped: most likely the stack is
        /// used up.
        StackOverflow = 2;
        /// General protection: a privileged instruction, an address that is not canonical, a
        /// segment that is none.
        Protection = 3;
        /// No such instruction.
        Instruction = 4;
        /// Divided by zero, or the quotient does not fit.
        Divide = 5;
        /// The breakpoint instruction (INT3), behind which RIP is.
        Breakpoint = 6;
        /// One instruction was executed with the trap flag, which is off again.
        Step = 7;
        /// A debug register hit: before an instruction, past which RF then lets the task get, or
        /// behind the one that accessed data.
        Watch = 8;
        /// An access that is not aligned, with the alignment check on.
        Alignment = 9;
        /// An exception of x87 or SSE that is not masked.
        Float = 10;
        /// A vector instruction in a process without vector state.
        NoVector = 11;
        /// Any other exception: its number is in message register 2.
        Other = 12;
    }

    /// What is to become of the task: the label of the answer.
    FaultAnswer {
        /// It goes on as it is: where the cause was not removed, it faults again.
        Resume = 0;
        /// It goes on at the address in message register 1.
        ResumeAt = 1;
        /// It goes on as it is for one instruction, and then faults with [`Step`](FaultKind::Step).
        Step = 2;
        /// It goes on with the register set in the answering task's UTCB bulk words, checked as by
        /// [`TaskWriteRegs`](crate::Op::TaskWriteRegs).
        Registers = 3;
        /// It is killed.
        Kill = 4;
        /// Its process is killed.
        TearDown = 5;
    }
}

/// Flags of [`RegIndex::Rflags`](crate::RegIndex::Rflags) that debuggers need: one step, and past a
/// breakpoint.
pub const RFLAGS_TRAP: u64 = 1 << 8;
pub const RFLAGS_RESUME: u64 = 1 << 16;

/// Addresses that [`Op::TaskDebug`](crate::Op::TaskDebug) takes: DR0 to DR3.
pub const DEBUG_ADDRESSES: usize = 4;
/// Bits of DR7 that [`Op::TaskDebug`](crate::Op::TaskDebug) allows: enables, exactness, conditions
/// and lengths.
pub const DEBUG_CONTROL: u64 = 0xffff_03ff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_round_trip_and_say_what_they_are() {
        for &kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_label(kind.label()), Some(kind));
            assert!(kind.doc().len() > 10);
        }
        for &answer in FaultAnswer::ALL {
            assert_eq!(FaultAnswer::from_label(answer.label()), Some(answer));
            assert!(answer.doc().len() > 10);
        }
        assert_eq!(FaultKind::from_label(0), None, "an ordinary call is no fault");
        assert_eq!(FaultAnswer::from_label(FaultAnswer::ALL.len() as u32), None);
    }
}
