//! Holdings: all capabilities of a CSpace, and whether a process holds a certain one.
//!
//! Neither is a snapshot. A capability that is moved during the search may be reported twice or not
//! at all. Each slot is reported as it was when the kernel read it.

use abi::audit::{CAP_ENTRY_WORDS, CAP_LIST_MAX, CapEntry};
use abi::{Cap, Op, Rights, Target};

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{CNode, Handle, Process};
use crate::utcb;

/// A piece of a list of capabilities.
pub struct Piece {
    entries: [Option<CapEntry>; CAP_LIST_MAX],
    /// Where the next piece begins; `None` at the end of the CSpace.
    pub next: Option<Cap>,
}

impl Piece {
    pub fn entries(&self) -> impl Iterator<Item = &CapEntry> {
        self.entries.iter().flatten()
    }
}

fn list(of: Cap, first: Cap) -> Result<Piece> {
    let answer = syscall(Args::plain(Op::CapList, Target::new(of, first.0).0, 0, 0, 0)).check()?;
    let count = (answer.rsi as usize).min(CAP_LIST_MAX);
    let mut words = [0; CAP_ENTRY_WORDS * CAP_LIST_MAX];
    utcb::current().read_bulk(&mut words[..count * CAP_ENTRY_WORDS]);
    let mut entries = [None; CAP_LIST_MAX];
    for (entry, words) in entries.iter_mut().zip(words.as_chunks().0).take(count) {
        *entry = CapEntry::from_words(*words);
    }
    let next = (answer.rdi != 0).then_some(Cap(answer.rdi as u32));
    Ok(Piece { entries, next })
}

impl CNode {
    /// Lists the CNode's capabilities from slot `first` on: a bounded number.
    pub fn list(&self, first: Cap) -> Result<Piece> {
        list(self.cap(), first)
    }
}

impl Process {
    /// Lists the capabilities in the process's CSpace from slot `first` on: a bounded number.
    pub fn list(&self, first: Cap) -> Result<Piece> {
        list(self.cap(), first)
    }

    /// Returns the slot of the process's CSpace that holds a capability of the same object as
    /// `what`, with these rights or more, if there is one.
    pub fn holds<T: Handle>(&self, what: &T, rights: impl Into<T::Rights>) -> Result<Option<Cap>> {
        self.holds_raw(what.cap(), rights.into().into())
    }

    /// Returns the slot of the process's CSpace that holds a capability of the same object as
    /// `what`, of any type, with these rights or more, if there is one.
    pub fn holds_raw(&self, what: Cap, rights: Rights) -> Result<Option<Cap>> {
        let args = Args::plain(Op::CapVerify, self.arg(), what.arg(), u64::from(rights.0), 0);
        let slot = syscall(args).check()?.rdi;
        Ok((slot != 0).then_some(Cap(slot as u32)))
    }
}
