//! Accountability: entries of [`Op::CapList`](crate::Op::CapList), which tell who holds what; security labels.

use crate::{ObjType, Rights};

/// Security labels that there are, 0, which is none, among them.
pub const LABELS: u32 = 32;

/// What a rule of [`Op::LabelRule`](crate::Op::LabelRule) allows subjects of a label with objects of another: a set of bits.
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
    /// As it stands in the bulk words: slot and, above it, label; type and, above it, rights; badge; identity.
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
}
