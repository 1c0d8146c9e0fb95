//! The errors of system calls.
//!
//! A refused call changes nothing. `rax` carries the [`Error`], `rdi` a detail whose meaning the
//! error names (which argument, which rights were missing, what was expected).

macro_rules! errors {
    ($($(#[doc = $doc:expr])* $name:ident = $value:literal, blame $blame:ident;)*) => {
        /// Why a system call was refused. The numbers are stable.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Error { $($(#[doc = $doc])* $name = $value,)* }

        impl Error {
            /// Every error there is, for tables and exhaustive tests.
            pub const ALL: &'static [Error] = &[$(Error::$name,)*];

            /// Returns the error of this number; `None` for 0 (success) and for numbers without
            /// one.
            pub const fn from_raw(raw: u8) -> Option<Error> {
                match raw { $($value => Some(Error::$name),)* _ => None }
            }

            /// Returns the error's name, as in the source.
            pub const fn name(self) -> &'static str {
                match self { $(Error::$name => stringify!($name),)* }
            }

            /// Returns the side that must change something after this error.
            pub const fn blame(self) -> Blame {
                match self { $(Error::$name => Blame::$blame,)* }
            }

            /// Returns the error's documentation, in one line.
            pub const fn text(self) -> &'static str {
                match self { $(Error::$name => concat!($($doc,)* ""),)* }
            }
        }
    };
}

/// The side at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The caller passed something wrong, or asked for what it may not do.
    Caller,
    /// The other side of the message died, left, or did not answer in time.
    Peer,
    /// Memory, table space or CPU time that somebody has to provide.
    Resources,
    /// Nobody: the state is as it is; ask again later, or not.
    State,
}

errors! {
    /// No operation has this number; detail: how many there are.
    BadSyscall = 1, blame Caller;
    /// An argument is out of range; detail: its position (0 = rdi).
    BadArgument = 2, blame Caller;
    /// The capability slot is empty or outside the CSpace; detail: the slot.
    NoCapability = 3, blame Caller;
    /// The capability is of another type; detail: the type it has.
    WrongType = 4, blame Caller;
    /// The capability lacks rights; detail: the missing ones.
    NoRight = 5, blame Caller;
    /// The caller's process is not a member of the group, or its record lacks the right.
    NotMember = 6, blame Caller;
    /// Nothing is exposed at this index of the group; detail: the index.
    NoExposure = 7, blame Caller;
    /// The task called died before it replied; rsi names it.
    Dead = 8, blame Peer;
    /// There is no call to reply to; or the callee dropped the call without an answer; or the
    /// awaited object was deleted.
    Gone = 9, blame Peer;
    /// The deadline passed first.
    Timeout = 10, blame Peer;
    /// Somebody with the right to do so cancelled the operation.
    Cancelled = 11, blame Peer;
    /// It would have to wait, and the caller asked not to.
    WouldBlock = 12, blame State;
    /// A task called itself, which could never return.
    SelfCall = 13, blame Caller;
    /// A task without CPU time of its own cannot wait for bits, and no Notification is bound to it.
    /// Or the callee has no CPU time, and the call brings none: its caller has none either, or
    /// lives on that of others, who took it back. That is told where the call was forwarded, or the
    /// callee moved to its CPU meanwhile.
    NoTime = 14, blame Resources;
    /// The destination slot is in use.
    SlotOccupied = 15, blame Caller;
    /// The Untyped has too little room; detail: bytes free.
    NoMemory = 16, blame Resources;
    /// The object is in a state in which this cannot be done (not configured, already started, …).
    BadState = 17, blame Caller;
    /// The object belongs to another CPU; detail: which.
    WrongCpu = 18, blame Caller;
    /// The object is in use and has to be freed of its users first.
    InUse = 19, blame State;
    /// The message is longer than its buffer; detail: words allowed. Or it has too many ranges or
    /// pages ([`pages_max`](crate::pages_max)), or capabilities; detail: how many it can have.
    TooLong = 20, blame Caller;
    /// The VSpace has no frame left for a page table.
    NoTables = 21, blame Resources;
    /// The address is not canonical, not aligned, or outside what user level may map.
    BadAddress = 22, blame Caller;
    /// Something is mapped there already.
    Mapped = 23, blame Caller;
    /// The table is full: a group's members, a process's task numbers, a frame's mappings.
    Full = 24, blame Resources;
    /// The process did not offer a slot in which to accept a membership.
    NoConsent = 25, blame Peer;
    /// The machine has no such CPU, or it did not come up; detail: how many are up.
    NoCpu = 26, blame Caller;
    /// All identifiers of this kind have been used up.
    Retired = 27, blame Resources;
    /// The mapping would be writable and executable.
    WriteExecute = 28, blame Caller;
    /// Rights that the source does not have cannot be passed on; detail: the excess.
    Amplifies = 29, blame Caller;
    /// The object is being destroyed, or reset.
    Dying = 30, blame State;
    /// This kernel was built without what was asked for.
    NotBuilt = 31, blame State;
    /// The receiver made no room for the pages of the message; detail: the address that is taken,
    /// or bytes wanted.
    NoRoom = 32, blame Peer;
    /// There is no page there that a message could carry, or not in that way; detail: the address.
    NoPage = 33, blame Caller;
    /// The process of the task that is exposed there has no event pool; detail: the index.
    NoPool = 34, blame Peer;
    /// The security labels do not allow it; detail: the subject's label in the upper half, the
    /// object's in the lower.
    Forbidden = 35, blame Caller;
    /// The SchedControl does not allow it; detail: the highest priority that it allows, or all ones
    /// if it does not cover the CPU, or the room for this budget (`time::room_left`).
    OverLimit = 36, blame Caller;
    /// The SchedContext has changed since the caller has seen it; detail: its sequence number.
    Stale = 37, blame State;
    /// The lock's word names no task that is alive and exposed in the group: its owner died, or has
    /// left. rsi names the task, if its death ended the wait.
    OwnerDied = 38, blame Peer;
    /// The owner of the lock waits, directly or through the owners of other locks, for a lock of
    /// the caller; or so many wait for each other that the kernel does not follow them.
    Deadlock = 39, blame Caller;
    /// The CPU is parked: it takes no task; detail: which.
    Parked = 40, blame State;
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{self:?}:{}", self.text())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_every_error_explains_itself() {
        for &e in Error::ALL {
            assert_eq!(Error::from_raw(e as u8), Some(e));
            assert!(e.text().len() > 10, "{e:?} has no text");
        }
        assert_eq!(Error::from_raw(0), None);
        assert_eq!(Error::from_raw(Error::ALL.len() as u8 + 1), None);
    }
}
