//! Sets of CPUs: a plain one to pass around and keep in owned state, and an atomic one to share.
//!
//! Both have room for [`MAX_CPUS`] members, whatever the machine has: 128 bytes, so that a set can
//! be part of an object whose size user level knows before boot has counted the CPUs.
//!
//! # Memory ordering
//! [`AtomicCpuSet`]'s changes and snapshots are sequentially consistent. It says which CPUs may
//! hold something (a translation, say), and a CPU that adds itself must be ordered before what it
//! loads next; on x86 the locked instruction is that fence already.

use core::cell::Cell;
use core::fmt;
use core::ops::{BitAnd, BitOr, Sub};

use crate::cpu::{CpuId, MAX_CPUS};
use crate::sync::{AtomicU64, Ordering};

const WORDS: usize = MAX_CPUS / 64;

/// A set of CPUs.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CpuSet([u64; WORDS]);

const fn word_of(cpu: CpuId) -> usize {
    cpu.index() / 64
}

const fn bit_of(cpu: CpuId) -> u64 {
    1 << (cpu.index() % 64)
}

/// A set that its owner changes in place.
pub struct CpuSetCell([Cell<u64>; WORDS]);

impl CpuSetCell {
    pub const fn new(set: CpuSet) -> CpuSetCell {
        let mut words = [const { Cell::new(0) }; WORDS];
        let mut word = 0;
        while word < WORDS {
            words[word] = Cell::new(set.0[word]);
            word += 1;
        }
        CpuSetCell(words)
    }

    pub fn get(&self) -> CpuSet {
        CpuSet(core::array::from_fn(|word| self.0[word].get()))
    }

    pub fn set(&self, set: CpuSet) {
        for (cell, word) in self.0.iter().zip(set.0) {
            cell.set(word);
        }
    }

    #[inline(always)]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu) % WORDS].get() & bit_of(cpu) != 0
    }
}

impl CpuSet {
    pub const EMPTY: CpuSet = CpuSet([0; WORDS]);
    pub const ALL: CpuSet = CpuSet([u64::MAX; WORDS]);

    /// Makes the set of CPUs 0 to `count - 1`.
    pub const fn first(count: usize) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        let mut word = 0;
        while word < WORDS {
            set.0[word] = match count.saturating_sub(word * 64) {
                0 => 0,
                1..64 => (1 << (count % 64)) - 1,
                _ => u64::MAX,
            };
            word += 1;
        }
        set
    }

    /// Makes the set of one CPU.
    pub const fn only(cpu: CpuId) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        set.0[word_of(cpu)] = bit_of(cpu);
        set
    }

    /// Members 64 × `word` to 64 × `word` + 63 as bits; out of range: none. For passing sets by
    /// words.
    pub fn word(&self, word: usize) -> u64 {
        self.0.get(word).copied().unwrap_or(0)
    }

    /// Sets 64 members in one step, in the form of [`CpuSet::word`]; out of range: does nothing.
    pub fn set_word(&mut self, word: usize, bits: u64) {
        if let Some(w) = self.0.get_mut(word) {
            *w = bits;
        }
    }

    #[inline]
    pub const fn contains(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu)] & bit_of(cpu) != 0
    }

    /// Adds `cpu`; says whether it is new.
    pub const fn insert(&mut self, cpu: CpuId) -> bool {
        let new = !self.contains(cpu);
        self.0[word_of(cpu)] |= bit_of(cpu);
        new
    }

    /// Takes `cpu` out; says whether it was in.
    pub const fn remove(&mut self, cpu: CpuId) -> bool {
        let was = self.contains(cpu);
        self.0[word_of(cpu)] &= !bit_of(cpu);
        was
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// Returns the members, lowest first.
    pub fn iter(&self) -> Iter {
        Iter { left: *self, word: 0 }
    }

    fn zip(self, other: CpuSet, f: impl Fn(u64, u64) -> u64) -> CpuSet {
        CpuSet(core::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Default for CpuSet {
    fn default() -> Self {
        CpuSet::EMPTY
    }
}

impl BitOr for CpuSet {
    type Output = CpuSet;
    fn bitor(self, other: CpuSet) -> CpuSet {
        self.zip(other, |a, b| a | b)
    }
}

impl BitAnd for CpuSet {
    type Output = CpuSet;
    fn bitand(self, other: CpuSet) -> CpuSet {
        self.zip(other, |a, b| a & b)
    }
}

impl Sub for CpuSet {
    type Output = CpuSet;
    fn sub(self, other: CpuSet) -> CpuSet {
        self.zip(other, |a, b| a & !b)
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

impl IntoIterator for CpuSet {
    type Item = CpuId;
    type IntoIter = Iter;
    fn into_iter(self) -> Iter {
        self.iter()
    }
}

impl fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The members of a [`CpuSet`], lowest first.
pub struct Iter {
    left: CpuSet,
    word: usize,
}

impl Iterator for Iter {
    type Item = CpuId;

    fn next(&mut self) -> Option<CpuId> {
        while let Some(bits) = self.left.0.get_mut(self.word) {
            if *bits != 0 {
                let bit = bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                return CpuId::new(self.word * 64 + bit);
            }
            self.word += 1;
        }
        None
    }
}

/// A set of CPUs that CPUs share.
#[repr(C)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    #[cfg(not(loom))]
    pub const fn new() -> AtomicCpuSet {
        AtomicCpuSet([const { AtomicU64::new(0) }; WORDS])
    }

    #[cfg(loom)]
    pub fn new() -> AtomicCpuSet {
        AtomicCpuSet(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Adds `cpu`; says whether it is new. A full fence.
    pub fn insert(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu)].fetch_or(bit_of(cpu), Ordering::SeqCst) & bit_of(cpu) == 0
    }

    /// Takes `cpu` out; says whether it was in. A full fence.
    pub fn remove(&self, cpu: CpuId) -> bool {
        self.0[word_of(cpu)].fetch_and(!bit_of(cpu), Ordering::SeqCst) & bit_of(cpu) != 0
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

impl Default for AtomicCpuSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::host_test::cpu;
    use std::vec::Vec;

    #[test]
    fn first_has_exactly_that_many() {
        for count in [0, 1, 2, 63, 64, 65, 128, 255, 256, 1000, MAX_CPUS] {
            let set = CpuSet::first(count);
            assert_eq!(set.len(), count);
            assert!(set.iter().map(CpuId::index).eq(0..count));
            assert_eq!(set.is_empty(), count == 0);
        }
        assert_eq!(CpuSet::first(MAX_CPUS + 7), CpuSet::ALL);
    }

    #[test]
    fn members_come_and_go() {
        let mut set = CpuSet::only(cpu(64));
        assert!(set.insert(cpu(3)));
        assert!(!set.insert(cpu(3)));
        assert!(set.insert(cpu(1023)));
        assert_eq!(set.iter().map(CpuId::index).collect::<Vec<_>>(), [3, 64, 1023]);
        assert!(set.remove(cpu(64)));
        assert!(!set.remove(cpu(64)));
        assert!(!set.contains(cpu(64)));
        assert_eq!(set, [cpu(1023), cpu(3)].into_iter().collect());
        assert_eq!(std::format!("{set:?}"), "{cpu3, cpu1023}");
    }

    #[test]
    fn algebra() {
        let (low, odd) = (CpuSet::first(4), (1..9).step_by(2).map(cpu).collect::<CpuSet>());
        assert_eq!((low & odd).iter().map(CpuId::index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((low - odd).iter().map(CpuId::index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((low | odd).len(), 6);
    }

    #[test]
    fn words_carry_the_whole_set() {
        let set: CpuSet = [0, 63, 64, 700].map(cpu).into_iter().collect();
        let mut copy = CpuSet::EMPTY;
        for i in 0..WORDS {
            copy.set_word(i, set.word(i));
        }
        copy.set_word(WORDS, u64::MAX);
        assert_eq!((copy, set.word(WORDS)), (set, 0));
    }

    #[test]
    fn shared_set() {
        let set = AtomicCpuSet::new();
        assert!(set.insert(cpu(70)));
        assert!(!set.insert(cpu(70)));
        assert!(set.contains(cpu(70)) && !set.contains(cpu(6)));
        assert_eq!(set.snapshot(), CpuSet::only(cpu(70)));
        assert!(set.remove(cpu(70)));
        assert!(!set.remove(cpu(70)));
        assert!(set.snapshot().is_empty());
    }
}
