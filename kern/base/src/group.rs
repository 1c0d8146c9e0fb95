//! Groups: which process may call which task.
//!
//! A member record is one word, so removal is one store and a check is one load:
//!
//! ```text
//!  63                        26  25  24        16 15        0
//! +----------------------------+----+------------+-----------+
//! |    process key (38 bits)   | !S |   rights   |  custom   |
//! +----------------------------+----+------------+-----------+
//! ```
//! `!S` is SEND inverted and `rights` are the other nine shared rights, so that XOR with the
//! caller's key, shifted up, gives a number below `1 << 25` exactly when the key matches and SEND
//! is held.
//!
//! An exposure holds a real capability slot, derived from the capability it was made with: revoking
//! or destroying the object empties the exposure as it empties any other slot.

use core::cell::Cell;
use core::iter::Zip;
use core::slice::Iter;

use smp::sync::{AtomicU32, AtomicU64, Ordering};

use abi::{ObjType, Rights};
use smp::cpu::Pin;
use smp::door::masked::NamedTable;
use smp::door::{AtomicLink, Ref};
use smp::lock::Lock;

use crate::header::{Header, RootId};
use crate::process::{KillName, Process, ProcessKey};
use crate::slot::Slot;

/// Where the process key starts in a member record.
pub const MEMBER_KEY_SHIFT: u32 = 64 - ProcessKey::BITS;
/// Set where the member may not send.
pub const MEMBER_NO_SEND: u64 = 1 << (MEMBER_KEY_SHIFT - 1);
/// A record XOR the key, at most: key equal and SEND held.
pub const MEMBER_SEND_LIMIT: u64 = MEMBER_NO_SEND - 1;
/// Where the other nine shared rights start in a member record, above the custom bits.
pub const MEMBER_RIGHTS_SHIFT: u32 = 16;

/// One member record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Member(pub u64);

impl Member {
    /// An empty record. No process has key 0, so the empty record matches none.
    pub const EMPTY: Member = Member(0);

    pub fn new(key: ProcessKey, rights: Rights, custom: u16) -> Member {
        let no_send = if rights.contains(Rights::SEND) { 0 } else { MEMBER_NO_SEND };
        let others = u64::from(rights.and(abi::MEMBER_RIGHTS).0 >> 1) << MEMBER_RIGHTS_SHIFT;
        Member((key.raw() << MEMBER_KEY_SHIFT) | no_send | others | u64::from(custom))
    }

    /// Decodes a member record, and reads it exactly once.
    #[inline(always)]
    pub fn read(record: &AtomicU64) -> Member {
        Member(record.load(Ordering::Acquire))
    }

    pub fn key(self) -> ProcessKey {
        ProcessKey::from_raw(self.0 >> MEMBER_KEY_SHIFT)
    }

    /// Returns whether the record is of the process with this key, and has SEND. `key_word` has the
    /// key at its place in a record.
    #[inline(always)]
    pub const fn may_send(self, key_word: u64) -> bool {
        self.0 ^ key_word <= MEMBER_SEND_LIMIT
    }

    /// Returns whether the record is of the process with this key. `key_word` has the key at its
    /// place in a record.
    #[inline(always)]
    pub const fn is_of(self, key_word: u64) -> bool {
        (self.0 ^ key_word) >> MEMBER_KEY_SHIFT == 0
    }

    /// Returns whether the record has LISTEN, and is not of the process with this key. `key_word`
    /// has the key at its place in a record.
    #[inline(always)]
    pub const fn listens_besides(self, key_word: u64) -> bool {
        self.0 as u32 & Member::right_bit(Rights::LISTEN) != 0 && !self.is_of(key_word)
    }

    pub fn rights(self) -> Rights {
        let send = if self.0 & MEMBER_NO_SEND == 0 { Rights::SEND.0 } else { 0 };
        Rights(send | (((self.0 >> MEMBER_RIGHTS_SHIFT) as u32 & 0x1ff) << 1))
    }

    /// Returns the bit of a record that stands for a right, which is not SEND.
    pub const fn right_bit(right: Rights) -> u32 {
        (right.0 >> 1) << MEMBER_RIGHTS_SHIFT
    }

    pub fn custom(self) -> u16 {
        self.0 as u16
    }
}

/// A member record's place among those of its process. It changes under the group's root lock and
/// the process's [`memberships`](Process::memberships).
#[repr(C)]
#[derive(Default)]
pub struct Membership {
    /// Null where the record is empty.
    pub group: AtomicLink<Group>,
    /// The process that the record names. Any CPU reads it.
    pub process: AtomicLink<Process>,
    pub next: AtomicLink<Membership>,
    pub prev: AtomicLink<Membership>,
}

impl Membership {
    /// Returns the process that the member record of this place names, if the record is still the
    /// same.
    ///
    /// The process is that of the record: a record and its place change together, and no process is
    /// made at the place of another one while a kernel entry lasts, so a key names one process.
    #[inline(always)]
    pub fn process_of<'k>(&self, pin: Pin<'k>, member: Member) -> Option<Ref<'k, Process>> {
        let process = self.process.get(pin)?;
        member.is_of(process.get().key_word()).then_some(process)
    }
}

/// Consecutive member records of a group, each with its place.
pub type Members<'k> = Zip<Iter<'k, AtomicU64>, Iter<'k, Membership>>;

/// One exposure: index → Task, one Task per CPU, or Notification.
#[derive(Default)]
#[repr(C, align(64))]
pub struct Exposure {
    /// The object. Its rights are none, so that the word is address and type only.
    pub slot: Slot,
    /// For a task: the tag half of the state word that it must have. Stable while `slot` is full.
    pub tag: AtomicU64,
    /// For one task per CPU: index of the first of its entries, plus one; else 0.
    pub per_cpu: AtomicU32,
    /// For a Notification that watches the group: the shift of its bits, plus one; else 0. Stable
    /// while `slot` is full.
    pub watch: AtomicU32,
    /// The process that has exposed this, by its [identity](Header::identity), because the exposure
    /// may outlive the process. Stable while `slot` is full, and while `per_cpu` says that entries
    /// start somewhere.
    pub owner: AtomicU64,
    /// For an entry of an exposure with one task per CPU: that one's index, plus one; else 0.
    /// Nothing else is exposed here.
    pub part_of: AtomicU32,
}

smp::zeroed! {
    Membership { group, process, next, prev }
    Exposure { slot, tag, per_cpu, watch, owner, part_of }
}

/// A group: member records and exposures, both tables sized at retype.
#[repr(C, align(64))]
pub struct Group {
    pub header: Header,
    pub members: NamedTable<AtomicU64>,
    pub exposures: NamedTable<Exposure>,
    /// By member.
    pub memberships: NamedTable<Membership>,
    /// How many members there are. Under the root lock.
    pub count: AtomicU32,
    /// All records before this one are in use. Under the root lock.
    pub free: AtomicU32,
    /// Which exposures may be watchers: a bit each.
    pub watched: AtomicU64,
    /// How often its end was refused, after which it served on. Under the root lock.
    pub refused: AtomicU64,
    /// The last kill that has checked all exposures here: the tasks of its process are not exposed
    /// any more.
    pub withdrawn: Lock<Cell<KillName>>,
}

impl Group {
    pub fn new(
        root: RootId,
        members: NamedTable<AtomicU64>,
        exposures: NamedTable<Exposure>,
        memberships: NamedTable<Membership>,
    ) -> Group {
        let header = Header::new(ObjType::Group, root);
        let (count, free) = (AtomicU32::new(0), AtomicU32::new(0));
        let (watched, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        let withdrawn = Lock::new(Cell::new(KillName::default()));
        Group { header, members, exposures, memberships, count, free, watched, refused, withdrawn }
    }

    /// Returns the member record at an index that the kernel chose, read once.
    pub fn member(&self, pin: Pin<'_>, index: usize) -> Option<Member> {
        self.members.known().get(pin, index).map(|record| Member::read(record.get()))
    }

    /// Returns the member record of the group capability in a slot, read once: the low half of the
    /// badge is the record's byte offset.
    #[inline(always)]
    pub fn member_of(&self, pin: Pin<'_>, slot: &Slot) -> Option<Member> {
        let index = (slot.badge() as u32 / 8) as usize;
        self.members.get(pin, index).map(|record| Member::read(record.get()))
    }

    /// Returns whether an index leads to another task on each CPU.
    pub fn is_per_cpu(&self, pin: Pin<'_>, index: u32) -> bool {
        let entry = self.exposures.get(pin, index as usize);
        entry.is_some_and(|entry| entry.get().per_cpu.load(Ordering::Acquire) != 0)
    }

    /// Returns the index of a member record by its place, which is one of this group's.
    pub fn index_of(&self, pin: Pin<'_>, place: Ref<'_, Membership>) -> usize {
        let first = self.memberships.known().get(pin, 0).map_or(0, Ref::addr);
        (place.addr() - first) as usize / size_of::<Membership>()
    }

    /// Returns at most `most` member records from index `first` on, which user level chose, each
    /// with its place.
    #[inline(always)]
    pub fn members_from<'k>(&self, pin: Pin<'k>, first: usize, most: usize) -> Members<'k> {
        let row = self.members.masked(first).and_then(|first| {
            let count = most.min(self.members.known().len() - first);
            self.members.known().row(pin, first, count).zip(self.memberships.known().row(pin, first, count))
        });
        let (records, places) = row.unwrap_or_default();
        records.iter().zip(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_record_checks_key_and_send_in_one_comparison() {
        let key = ProcessKey::from_raw(0x2a_0000_0077);
        let ok = |m: Member, k: ProcessKey| (m.0 ^ (k.raw() << MEMBER_KEY_SHIFT)) <= MEMBER_SEND_LIMIT;
        let m = Member::new(key, Rights::SEND | Rights::ADD, 0xbeef);
        assert!(ok(m, key));
        assert!(!ok(m, ProcessKey::from_raw(key.raw() + 1)));
        assert!(!ok(m, ProcessKey::from_raw(key.raw() ^ 1 << (ProcessKey::BITS - 1))));
        assert!(!ok(Member::EMPTY, key));
        assert!(!ok(Member::new(key, abi::MEMBER_RIGHTS.minus(Rights::SEND), 0), key));
        assert_eq!((m.key(), m.rights(), m.custom()), (key, Rights::SEND | Rights::ADD, 0xbeef));
        assert!(m.0 as u32 & Member::right_bit(Rights::ADD) != 0);
        assert!(m.0 as u32 & Member::right_bit(Rights::NOTIFY) == 0);
    }
}
