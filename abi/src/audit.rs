//! Accountability: entries of [`Op::CapList`], which show which process holds what; security
//! labels; and records of the audit, which show how a process got what it holds.

use crate::{Error, ObjType, Op, Rights, TaskId};

/// Security labels that there are, 0, which is none, among them.
pub const LABELS: u32 = 32;

/// What a rule of [`Op::LabelRule`] allows subjects of a label with objects of another: a set of
/// bits.
pub mod may {
    /// Get a capability of it from elsewhere into its CSpace, or have it made there.
    pub const GRANT: u8 = 1 << 0;
    /// Become a member of it, a group.
    pub const JOIN: u8 = 1 << 1;
    /// Map it, a frame.
    pub const READ: u8 = 1 << 2;
    /// Map it to be written; READ goes with that.
    pub const WRITE: u8 = 1 << 3;
    pub const ALL: u8 = GRANT | JOIN | READ | WRITE;
}

/// Words of a [`CapEntry`].
pub const CAP_ENTRY_WORDS: usize = 4;
/// Most that one system call answers: what the UTCB's bulk words have room for.
pub const CAP_LIST_MAX: usize = 64;

/// A full slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CapEntry {
    pub slot: u32,
    pub object: ObjType,
    pub rights: Rights,
    pub badge: u64,
    /// What no other object ever had or gets.
    pub identity: u64,
    /// The object's security label.
    pub label: u32,
}

impl CapEntry {
    /// Encodes the entry for the bulk words: slot and, above it, label; type and, above it, rights;
    /// badge; identity.
    pub const fn words(&self) -> [u64; CAP_ENTRY_WORDS] {
        let of = self.slot as u64 | (self.label as u64) << 32;
        [of, self.object as u64 | (self.rights.0 as u64) << 32, self.badge, self.identity]
    }

    pub const fn from_words(words: [u64; CAP_ENTRY_WORDS]) -> Option<CapEntry> {
        let [of, what, badge, identity] = words;
        let Some(object) = ObjType::from_raw(what as u8) else { return None };
        let rights = Rights((what >> 32) as u32);
        Some(CapEntry { slot: of as u32, object, rights, badge, identity, label: (of >> 32) as u32 })
    }
}

/// Words of a [`Record`].
pub const RECORD_WORDS: usize = 8;
/// Most that one system call answers: what the UTCB's bulk words have room for.
pub const AUDIT_READ_MAX: usize = 32;
/// Records that the ring of one CPU can have room for: the base-2 logarithm, least and most.
pub const AUDIT_LOG2: core::ops::RangeInclusive<u8> = 4..=12;
/// Bytes that all rings together can have.
pub const AUDIT_BYTES_MAX: u64 = 2 << 20;

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal;)*) => {
        /// The event that a [`Record`] describes.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum AuditEvent {
            $($(#[doc = $doc])* $name = $number,)*
        }

        impl AuditEvent {
            pub const ALL: &'static [AuditEvent] = &[$(AuditEvent::$name),*];

            /// Returns the event's documentation, as in the source.
            pub const fn doc(self) -> &'static str {
                match self { $(AuditEvent::$name => concat!($($doc, "\n",)*),)* }
            }

            pub const fn from_raw(raw: u8) -> Option<AuditEvent> {
                match raw {
                    $($number => Some(AuditEvent::$name),)*
                    _ => None,
                }
            }
        }
    };
}

events! {
    /// The audit began. Detail: records that the ring of each CPU has room for.
    Began = 1;
    /// A capability of the object came into the CSpace `to`, which is not the actor's own: copied,
    /// moved, made there, or received with a message, which its sender does. Detail: its badge.
    Grant = 2;
    /// The process `to` became a member of the object, a group, with these rights. Detail: the
    /// member's index.
    Join = 3;
    /// A member was removed from the object, a group; without an operation: the process `to`, which
    /// was one, ends. Detail: the member's index.
    Leave = 4;
    /// The object is exposed in the group `to`. Detail: the exposure's index.
    Expose = 5;
    /// An exposure of the object, a group, was taken back. Detail: its index.
    Withdraw = 6;
    /// A capability of the object was deleted from the CSpace `to`, which is not the actor's own.
    Take = 7;
    /// The descendants of a capability of the object are about to be deleted. If a revoke takes
    /// several entries, each entry that deletes something writes a record.
    Revoke = 8;
    /// A reset of the object, an Untyped, begins: what was made of it is about to go.
    Reset = 9;
    /// A system call was refused for want of a right, a membership or consent, or by the labels.
    /// Detail: the error's, and in `to` its first argument. Also: a reply was sent without pages or
    /// capabilities that labels forbid to its caller. There is one record for each reply.
    Denial = 10;
    /// The object, a task, process or group, is about to end, even if the end is given up: it is
    /// killed, its last capability is deleted, or a process loses the last capability of its
    /// address space or CSpace. The task that begins the end writes one record; for a group whose
    /// end was refused, the next attempt writes another. The operation is the acting one; for a
    /// fault's handler it is that of the answer. Without an operation, the actor has faulted
    /// without a handler, and the object is its process; or the object ends with a CNode that the
    /// actor ended before.
    Kill = 11;
    /// The last capability of the object, a task, process or group, is gone, and the object has
    /// ended; a group with its exposures and memberships. The actor deleted that capability, or the
    /// CNode that it was in: none, if that was before the audit began.
    End = 12;
    /// The actor, a task, is dead.
    Death = 13;
    /// The object has another security label. Detail: it, and in the upper half what it was.
    Label = 14;
    /// A rule has changed. Detail: what it allows, and in the upper half what it did; in `to` the
    /// subject's label in the upper half, the object's in the lower.
    Rule = 15;
    /// The object becomes part of the process `to`: a CNode or VSpace with all that is in it, an
    /// event pool, or a task, which acts for it from then on.
    Bind = 16;
    /// The object, a frame, was pinned for a device, or pins of it were taken back: one, or all by
    /// a reset. Detail: how many there are now.
    Pin = 17;
}

/// One event of the audit ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// TSC ticks.
    pub time: u64,
    pub event: AuditEvent,
    /// The operation that brought it about, if one did.
    pub op: Option<Op>,
    /// The error of a denial.
    pub error: Option<Error>,
    /// Whose doing it is, and its process's security label.
    pub actor: TaskId,
    pub label: u32,
    /// Type and identity of the object; none and 0 where there is none.
    pub object: Option<ObjType>,
    pub identity: u64,
    /// What the capability, or member, may do.
    pub rights: Rights,
    /// Identity of what the event says.
    pub to: u64,
    pub detail: u64,
}

/// In a record's second word: no operation.
const NO_OP: u8 = u8::MAX;

impl Record {
    /// Encodes the record for the ring and the bulk words. The last word is 0.
    pub const fn words(&self) -> [u64; RECORD_WORDS] {
        let op = match self.op {
            Some(op) => op as u8,
            None => NO_OP,
        };
        let error = match self.error {
            Some(error) => error as u8,
            None => 0,
        };
        let object = match self.object {
            Some(object) => object as u8,
            None => 0,
        };
        let what = self.event as u64 | (op as u64) << 8 | (error as u64) << 16 | (object as u64) << 24;
        [
            self.time,
            what | (self.rights.0 as u64) << 32,
            self.actor.raw(),
            self.identity,
            self.to,
            self.detail,
            self.label as u64,
            0,
        ]
    }

    pub const fn from_words(words: [u64; RECORD_WORDS]) -> Option<Record> {
        let [time, what, actor, identity, to, detail, label, _] = words;
        let Some(event) = AuditEvent::from_raw(what as u8) else { return None };
        Some(Record {
            time,
            event,
            op: Op::from_raw((what >> 8) as u8),
            error: Error::from_raw((what >> 16) as u8),
            actor: TaskId::from_raw(actor),
            label: label as u32,
            object: ObjType::from_raw((what >> 24) as u8),
            identity,
            rights: Rights((what >> 32) as u32),
            to,
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_round_trips() {
        let (object, rights) = (ObjType::Group, Rights::SEND | Rights::ADD);
        let entry =
            CapEntry { slot: 77, object, rights, badge: 1 << 47 | 3, identity: u64::MAX - 4, label: 9 };
        assert_eq!(CapEntry::from_words(entry.words()), Some(entry));
        assert_eq!(CapEntry::from_words([0; CAP_ENTRY_WORDS]), None);
    }

    #[test]
    fn records_round_trip() {
        let record = Record {
            time: 5,
            event: AuditEvent::Denial,
            op: Some(Op::CapCopy),
            error: Some(Error::Forbidden),
            actor: TaskId::from_raw(u64::MAX - 7),
            label: 31,
            object: Some(ObjType::EventPool),
            identity: 1 << 63 | 2,
            rights: Rights::ALL,
            to: 3,
            detail: u64::MAX,
        };
        assert_eq!(Record::from_words(record.words()), Some(record));
        let none = Record { op: None, error: None, object: None, ..record };
        assert_eq!(Record::from_words(none.words()), Some(none));
        assert_eq!(Record::from_words([0; RECORD_WORDS]), None);
        assert!(AuditEvent::ALL.iter().all(|event| AuditEvent::from_raw(*event as u8) == Some(*event)));
    }
}
