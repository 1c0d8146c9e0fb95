//! The audit: for a holder of the right SECURITY of the machine.

use abi::audit::{AUDIT_READ_MAX, RECORD_WORDS, Record};
use abi::{Op, Target};

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{Handle, Machine, Untyped};
use crate::utcb;

/// A piece of a CPU's ring.
pub struct Records {
    records: [Option<Record>; AUDIT_READ_MAX],
    /// Records before these that were written over before they were read.
    pub lost: u64,
    /// Number of the record to go on with.
    pub next: u64,
}

impl Records {
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().flatten()
    }

    /// Returns whether the ring had no records that were not read yet.
    pub fn is_empty(&self) -> bool {
        self.records[0].is_none()
    }
}

impl Machine {
    /// Records grants, revokes, denials and kills from now on, in memory of `untyped`: rings with
    /// room for `1 << log2` records for each CPU. Until that memory is reset.
    pub fn start_audit(&self, untyped: &Untyped, log2: u8) -> Result<()> {
        syscall(Args::plain(Op::AuditStart, self.arg(), untyped.arg(), u64::from(log2), 0)).done()
    }

    /// Reads records of a CPU's ring from number `first` on, a bounded number.
    pub fn read_audit(&self, cpu: u32, first: u64) -> Result<Records> {
        let of = Target::new(self.cap(), cpu).0;
        let answer = syscall(Args::plain(Op::AuditRead, of, first, 0, 0)).check()?;
        let count = (answer.rdi as usize).min(AUDIT_READ_MAX);
        let mut words = [0; RECORD_WORDS * AUDIT_READ_MAX];
        utcb::current().read_bulk(&mut words[..count * RECORD_WORDS]);
        let mut records = [None; AUDIT_READ_MAX];
        for (record, words) in records.iter_mut().zip(words.as_chunks().0).take(count) {
            *record = Record::from_words(*words);
        }
        Ok(Records { records, lost: answer.rdx, next: answer.rsi })
    }
}
