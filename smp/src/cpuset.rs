//! Sets of CPUs: a plain one for owned state, and an atomic one to share.
//!
//! Both have room for [`MAX_CPUS`] members, however many CPUs the machine has: 128 bytes. So a set
//! can be part of an object whose size is part of the interface.
//!
//! # Memory ordering
//! [`AtomicCpuSet`]'s changes and snapshots are sequentially consistent. Such a set records which
//! CPUs may hold something, for example a translation. A CPU that adds itself must do so before its
//! next loads; on x86 the locked instruction is that fence already.

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
    pub const ALL: CpuSet = CpuSet([u64::MAX; WORDS]);

    /// Returns CPUs 0 to 63 as bits. For surveys.
    pub const fn first_word(self) -> u64 {
        self.0[0]
    }

    pub const fn insert(&mut self, cpu: CpuId) {
        self.0[word_of(cpu)] |= bit_of(cpu);
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

/// A set of CPUs that CPUs share. No CPU leaves it.
#[derive(Default)]
#[repr(C)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    /// Adds `cpu`. A full fence.
    pub fn insert(&self, cpu: CpuId) {
        self.0[word_of(cpu)].fetch_or(bit_of(cpu), Ordering::SeqCst);
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
    }
}
