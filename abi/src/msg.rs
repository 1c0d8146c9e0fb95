//! The message word and the target word.

use crate::{Error, Named, Op};

/// Message registers that travel in CPU registers.
pub const MSG_REGS: usize = 4;
/// Words a message may carry in the UTCB beyond them.
pub const MSG_UTCB_WORDS: usize = 64;

/// The word in `rax`, in and out.
///
/// ```text
///  63          32 31        16 15         8 7          0
/// +--------------+------------+------------+------------+
/// | label, free  |   flags    | UTCB words | op / error |
/// +--------------+------------+------------+------------+
/// ```
/// Flags that [`MSG_FLAGS`] does not list are the kernel's own: a program leaves them 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct MsgInfo(pub u64);

macro_rules! flags {
    ($($(#[doc = $doc:expr])* $name:ident = $bit:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: u64 = 1 << $bit;)*

        /// All flags.
        pub const MSG_FLAGS: &[Named<u64>] = &[$(Named {
            name: stringify!($name), value: $name, doc: concat!($($doc, "\n",)*),
        },)*];
    };
}

flags! {
    /// Asked of the kernel: `rsi` holds an absolute deadline in TSC ticks.
    FLAG_DEADLINE = 16;
    /// Asked of the kernel: answer [`Error::WouldBlock`] rather than wait. A call then reaches only
    /// a task that is receiving on the caller's CPU.
    FLAG_NONBLOCK = 17;
    /// Told by the kernel: this is not a call but bits of the bound Notification, in message
    /// register 0.
    FLAG_NOTIFICATION = 18;
    /// Told by the kernel: this is a fault of the sender, whose registers are in the UTCB's bulk
    /// words.
    FLAG_FAULT = 19;
    /// Asked of the kernel: the message carries the page ranges that the UTCB lists. Told by the
    /// kernel: such arrived, and the UTCB lists where.
    FLAG_PAGES = 20;
    /// Asked of the kernel: the message carries the capabilities that the UTCB lists. Told by the
    /// kernel: such arrived, and the UTCB lists the fate of each.
    FLAG_CAPS = 22;
    /// Told by the kernel: the call was handed on by [`Forward`](Op::Forward). The sender is the
    /// caller, and the words are those of the forwarder, whose custom bits these are.
    FLAG_FORWARDED = 24;
    /// Asked of the kernel, in a call: the caller listens for capabilities of the reply. The call
    /// first waits until the next slots that the UTCB offers can be filled. A slot that was emptied
    /// a moment ago cannot, and the reply does not wait for it.
    FLAG_LISTEN = 25;
    /// Told by the kernel, in a reply: the replier sent pages that the caller could not take, that
    /// labels forbid to the caller, or that the replier does not have any more. The words arrived,
    /// and the whole payload stays with the replier.
    FLAG_UNTAKEN = 26;
}

impl MsgInfo {
    pub const FLAGS: u64 = 0xffff_0000;

    pub const fn new(label: u32, words: u8) -> MsgInfo {
        MsgInfo(((label as u64) << 32) | ((words as u64) << 8))
    }

    pub const fn op(self, op: Op) -> MsgInfo {
        MsgInfo((self.0 & !0xff) | op as u64)
    }

    pub const fn flag(self, flag: u64) -> MsgInfo {
        MsgInfo(self.0 | (flag & Self::FLAGS))
    }

    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub const fn words(self) -> usize {
        ((self.0 >> 8) & 0xff) as usize
    }

    pub const fn flags(self) -> u64 {
        self.0 & Self::FLAGS
    }

    pub const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Decodes the low byte of the kernel's answer.
    pub const fn status(self) -> Result<(), Error> {
        match Error::from_raw(self.0 as u8) {
            None => Ok(()),
            Some(e) => Err(e),
        }
    }

    /// Makes an answer that carries only an error.
    pub const fn error(e: Error) -> MsgInfo {
        MsgInfo(e as u64)
    }
}

/// Where a message goes: a group capability and the index of an exposure in that group.
/// Where a call wants just a capability, the index is its second parameter, or 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Target(pub u64);

impl Target {
    pub const fn new(cap: Cap, index: u32) -> Target {
        Target(((cap.0 as u64) << 32) | index as u64)
    }

    pub const fn cap(self) -> Cap {
        Cap((self.0 >> 32) as u32)
    }

    pub const fn index(self) -> u32 {
        self.0 as u32
    }
}

/// A capability by its slot number in the caller's CSpace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Cap(pub u32);

impl Cap {
    /// Slot 0 is never filled.
    pub const NULL: Cap = Cap(0);

    /// Returns the capability alone, as an argument.
    pub const fn arg(self) -> u64 {
        Target::new(self, 0).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_word_fields_do_not_overlap() {
        let m = MsgInfo::new(0xdead_beef, 63).op(Op::ReplyRecv).flag(FLAG_DEADLINE);
        assert_eq!((m.label(), m.words(), m.has(FLAG_DEADLINE)), (0xdead_beef, 63, true));
        assert_eq!(m.0 & 0xff, Op::ReplyRecv as u64);
        assert_eq!(MsgInfo::error(Error::Gone).status(), Err(Error::Gone));
        assert_eq!(MsgInfo::new(1, 0).status(), Ok(()));
        let t = Target::new(Cap(7), 9);
        assert_eq!((t.cap(), t.index()), (Cap(7), 9));
    }
}
