//! Sets of CPUs: a plain one for owned state, and an atomic one to share.
//!
//! Both have room for [`MAX_CPUS`] members, however many CPUs the machine has: 128 bytes. So a set
//! can be part of an object whose size is part of the interface.
//!
//! # Memory ordering
//! [`AtomicCpuSet`]'s changes and snapshots are sequentially consistent. Such a set records which
//! CPUs may hold something, for example a translation. A CPU that adds itself must do so before its
//! next loads; on x86 the locked instruction is that fence already.

use core::cell::Cell;

use crate::cpu::{CpuId, MAX_CPUS};
use crate::sync::{AtomicU64, Ordering};

const WORDS: usize = MAX_CPUS / 64;

const fn word_of(cpu: CpuId) -> usize {
    cpu.index() / 64
}

const fn bit_of(cpu: CpuId) -> u64 {
    1 << (cpu.index() % 64)
}

/// A set of CPUs.
#[derive(Clone, Copy, Default)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// Returns CPUs 0 to 63 as bits. For surveys.
    pub const fn first_word(self) -> u64 {
        self.0[0]
    }

    pub const fn insert(&mut self, cpu: CpuId) {
        self.0[word_of(cpu)] |= bit_of(cpu);
    }

    pub const fn remove(&mut self, cpu: CpuId) {
        self.0[word_of(cpu)] &= !bit_of(cpu);
    }

    #[inline(always)]
    pub const fn contains(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu) % WORDS] & bit_of(cpu) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// Returns the members, lowest first.
    pub fn iter(mut self) -> impl Iterator<Item = CpuId> {
        core::iter::from_fn(move || {
            let (word, bits) = self.0.iter_mut().enumerate().find(|(_, bits)| **bits != 0)?;
            let bit = bits.trailing_zeros() as usize;
            *bits &= *bits - 1;
            CpuId::new(word * 64 + bit)
        })
    }
}

/// A set of CPUs as part of the state that one CPU owns. Operations on a machine of `count` CPUs
/// look only at the words that such a machine needs.
#[derive(Default)]
#[repr(transparent)]
pub struct CpuSetCell([Cell<u64>; WORDS]);

impl CpuSetCell {
    #[inline(always)]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu) % WORDS].get() & bit_of(cpu) != 0
    }

    /// Makes the members those of a shared set.
    #[inline(always)]
    pub fn become_as(&self, other: &AtomicCpuSet, count: usize) {
        self.0[0].set(other.0[0].load(Ordering::SeqCst));
        if count > 64 {
            self.become_as_beyond(other);
        }
    }

    #[cold]
    fn become_as_beyond(&self, other: &AtomicCpuSet) {
        self.0.iter().zip(&other.0).for_each(|(word, other)| word.set(other.load(Ordering::SeqCst)));
    }

    /// Returns whether every member is one of a shared set.
    #[inline(always)]
    pub fn is_within(&self, all: &AtomicCpuSet, count: usize) -> bool {
        let first = self.0[0].get() & !all.0[0].load(Ordering::SeqCst) == 0;
        first && (count <= 64 || self.is_within_beyond(all))
    }

    #[cold]
    fn is_within_beyond(&self, all: &AtomicCpuSet) -> bool {
        self.0.iter().zip(&all.0).all(|(word, all)| word.get() & !all.load(Ordering::SeqCst) == 0)
    }

    /// Returns whether all CPUs of the machine are members.
    pub fn is_full(&self, count: usize) -> bool {
        self.0.iter().zip((0..count).step_by(64)).all(|(word, first)| {
            let asked = if count - first < 64 { (1 << (count - first)) - 1 } else { u64::MAX };
            asked & !word.get() == 0
        })
    }

    /// Returns CPUs 0 to 63 as bits. For surveys.
    pub fn first_word(&self) -> u64 {
        self.0[0].get()
    }
}

/// A set of CPUs that CPUs share. No CPU leaves it.
#[derive(Default)]
#[repr(C)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    /// Adds `cpu`. A full fence.
    pub fn insert(&self, cpu: CpuId) {
        self.0[word_of(cpu)].fetch_or(bit_of(cpu), Ordering::SeqCst);
    }

    /// Adds the CPUs that are bits of `bits`; bit 0 is the CPU `first`, a multiple of 64 below
    /// [`MAX_CPUS`]. A full fence.
    pub fn insert_word(&self, first: CpuId, bits: u64) {
        self.0[word_of(first)].fetch_or(bits, Ordering::SeqCst);
    }

    /// Returns which of 64 CPUs were members at some moment of the call; bit 0 is the CPU `first`,
    /// a multiple of 64.
    pub fn word(&self, first: CpuId) -> u64 {
        self.0[word_of(first)].load(Ordering::SeqCst)
    }

    /// Whether `cpu` was a member at some moment of the call.
    #[inline]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu)].load(Ordering::SeqCst) & bit_of(cpu) != 0
    }

    /// Copies the members, each word as it was at one moment of the call.
    pub fn snapshot(&self) -> CpuSet {
        CpuSet(core::array::from_fn(|i| self.0[i].load(Ordering::SeqCst)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::host_test::cpu;
    use std::vec::Vec;

    fn members(set: CpuSet) -> Vec<usize> {
        set.iter().map(CpuId::index).collect()
    }

    #[test]
    fn members_come_and_are_listed_in_order() {
        let mut set = CpuSet::default();
        assert!(set.is_empty() && members(set).is_empty());
        for n in [1023, 64, 3, 64, 63, 0] {
            set.insert(cpu(n));
        }
        assert_eq!(members(set), [0, 3, 63, 64, 1023]);
        assert_eq!((set.first_word(), set.is_empty()), (1 << 63 | 1 << 3 | 1, false));
        [64, 64, 3].into_iter().for_each(|n| set.remove(cpu(n)));
        assert_eq!(members(set), [0, 63, 1023]);
    }

    #[test]
    fn a_set_has_room_for_every_cpu() {
        let mut set = CpuSet::default();
        (0..MAX_CPUS).for_each(|n| set.insert(cpu(n)));
        assert!(set.iter().map(CpuId::index).eq(0..MAX_CPUS));
    }

    #[test]
    fn shared_set() {
        let set = AtomicCpuSet::default();
        set.insert(cpu(70));
        set.insert(cpu(70));
        assert!(set.contains(cpu(70)) && !set.contains(cpu(6)));
        assert_eq!(members(set.snapshot()), [70]);
        set.insert_word(cpu(128), 1 << 63 | 1);
        assert_eq!(members(set.snapshot()), [70, 128, 191]);
        assert_eq!((set.word(cpu(64)), set.word(cpu(128))), (1 << 6, 1 << 63 | 1));
    }

    #[test]
    fn a_set_can_be_state_of_one_cpu() {
        let of = |list: &[usize]| {
            let set = AtomicCpuSet::default();
            list.iter().for_each(|n| set.insert(cpu(*n)));
            set
        };
        let cell = CpuSetCell::default();
        assert!(cell.is_within(&of(&[]), MAX_CPUS) && !cell.contains(cpu(0)));
        cell.become_as(&of(&[1, 70]), MAX_CPUS);
        assert!(cell.contains(cpu(70)) && !cell.contains(cpu(69)));
        assert!(cell.is_within(&of(&[1, 2, 70]), 71) && !cell.is_within(&of(&[1, 71]), 71));
        assert!(!cell.is_within(&of(&[2, 70]), 64), "it has CPU 1");
        assert!(cell.is_within(&of(&[1]), 64), "the machine has no CPU 70");
        assert_eq!(cell.first_word(), 2);
        assert!(cell.is_full(0) && !cell.is_full(1));
        cell.become_as(&of(&(0..66).collect::<Vec<_>>()), MAX_CPUS);
        assert!([1, 63, 64, 65, 66].into_iter().all(|count| cell.is_full(count)));
        assert!(!cell.is_full(67));
        cell.become_as(&of(&[3]), 64);
        assert!(cell.contains(cpu(3)) && !cell.contains(cpu(4)) && cell.contains(cpu(64)));
    }
}
