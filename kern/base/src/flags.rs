//! Flags of a message word that only the kernel knows: `abi` leaves their bits free.

use abi::{MSG_FLAGS, MsgInfo};

/// A [`Send`](abi::Op::Send) that waits for room. User level never sees it.
pub const FLAG_EVENT: u64 = 1 << 21;

/// A [`LockWait`](abi::Op::LockWait) that waits for the owner. User level never sees it.
pub const FLAG_LOCK: u64 = 1 << 27;

/// A system call that takes several entries and is made again. `rdx` has the identity of what it
/// began with ([`CapDelete`](abi::Op::CapDelete), [`CapRevoke`](abi::Op::CapRevoke),
/// [`UntypedReset`](abi::Op::UntypedReset), [`ProcessKill`](abi::Op::ProcessKill)); `rsi` that for
/// which [`CapRevoke`](abi::Op::CapRevoke) and [`GroupRemove`](abi::Op::GroupRemove) wait, or the
/// caller whom [`Reply`](abi::Op::Reply) answers by a Reply.
pub const FLAG_AGAIN: u64 = 1 << 23;

const _: () = {
    let mut at = 0;
    while at < MSG_FLAGS.len() {
        assert!(MSG_FLAGS[at].value & (FLAG_EVENT | FLAG_LOCK | FLAG_AGAIN) == 0, "a flag has two meanings");
        at += 1;
    }
    assert!((FLAG_EVENT | FLAG_LOCK | FLAG_AGAIN) & !MsgInfo::FLAGS == 0, "no bit of a flag");
};
