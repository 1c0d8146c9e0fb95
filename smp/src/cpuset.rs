//! Sets of CPUs: one for the state of a CPU, and an atomic one to share.
//!
//! Both have room for [`MAX_CPUS`] members, however many CPUs the machine has: 128 bytes. So a set
//! can be part of an object whose size is part of the interface.
//!
//! # Memory ordering
//! [`AtomicCpuSet`]'s changes and reads are sequentially consistent. Such a set records which
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

/// Lists CPUs whose bits `word` returns for each 64 CPUs of a machine of `count`, lowest first. It
/// asks for a word when it comes to it.
#[inline(always)]
fn members(count: usize, word: impl Fn(usize) -> u64) -> impl Iterator<Item = CpuId> {
    let (mut end, mut bits) = (0, 0u64);
    core::iter::from_fn(move || {
        while bits == 0 {
            if end >= count.min(MAX_CPUS) {
                return None;
            }
            bits = word(end / 64);
            end += 64;
        }
        let bit = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        CpuId::new(end - 64 + bit)
    })
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

    pub fn insert(&self, cpu: CpuId) {
        let word = &self.0[word_of(cpu)];
        word.set(word.get() | bit_of(cpu));
    }

    pub fn remove(&self, cpu: CpuId) {
        let word = &self.0[word_of(cpu)];
        word.set(word.get() & !bit_of(cpu));
    }

    /// Takes out all members, lowest first, each 64 when the iterator comes to them.
    pub fn take_all(&self, count: usize) -> impl Iterator<Item = CpuId> {
        members(count, |n| self.0[n % WORDS].take())
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

    /// Returns the members, lowest first, each 64 as they are when the iterator comes to them.
    #[inline(always)]
    pub fn members(&self, count: usize) -> impl Iterator<Item = CpuId> {
        members(count, |n| self.0[n % WORDS].load(Ordering::SeqCst))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::host_test::cpu;
    use std::vec::Vec;

    fn numbers(members: impl Iterator<Item = CpuId>) -> Vec<usize> {
        members.map(CpuId::index).collect()
    }

    #[test]
    fn members_come_and_are_listed_in_order() {
        let set = CpuSetCell::default();
        assert!(numbers(set.take_all(MAX_CPUS)).is_empty());
        [1023, 64, 3, 64, 63, 0].into_iter().for_each(|n| set.insert(cpu(n)));
        assert_eq!(set.first_word(), 1 << 63 | 1 << 3 | 1);
        [64, 64, 3].into_iter().for_each(|n| set.remove(cpu(n)));
        assert_eq!(numbers(set.take_all(MAX_CPUS)), [0, 63, 1023]);
        assert!(numbers(set.take_all(MAX_CPUS)).is_empty(), "they were taken");
    }

    #[test]
    fn a_set_has_room_for_every_cpu() {
        let set = CpuSetCell::default();
        (0..MAX_CPUS).for_each(|n| set.insert(cpu(n)));
        assert!(numbers(set.take_all(MAX_CPUS)).into_iter().eq(0..MAX_CPUS));
    }

    #[test]
    fn shared_set() {
        let set = AtomicCpuSet::default();
        set.insert(cpu(70));
        set.insert(cpu(70));
        assert!(set.contains(cpu(70)) && !set.contains(cpu(6)));
        assert_eq!(numbers(set.members(MAX_CPUS)), [70]);
        set.insert_word(cpu(128), 1 << 63 | 1);
        assert_eq!(numbers(set.members(MAX_CPUS)), [70, 128, 191]);
        assert_eq!(numbers(set.members(129)), [70, 128, 191], "it looks at whole words");
        assert_eq!(numbers(set.members(128)), [70]);
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
