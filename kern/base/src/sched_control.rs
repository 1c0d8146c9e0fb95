//! SchedControls: authority over CPU time.
//!
//! A SchedControl allows priorities up to its ceiling on the CPUs that it covers. The system calls
//! that set a SchedContext, or give a task its CPU, name a SchedControl. Process 1 starts with one
//! that allows everything, and each other one is extended by one that allows at least as much.
//! (seL4 has a capability of this name for each core, which limits no priority; there, a priority
//! is limited by that of a task that the caller controls.)
//!
//! # Invariants
//! - The ceiling is set once, before the first CPU is covered, and no CPU is taken away. So another
//!   CPU that reads both while they change finds nothing that was not allowed.
//! - Nothing refers to a SchedControl but capabilities.
//!
//! # Memory ordering
//! A CPU becomes a member by a sequentially consistent operation after the ceiling was set. A
//! reader that finds the member, also finds the ceiling.

use abi::ObjType;
use smp::cpu::CpuId;
use smp::cpuset::AtomicCpuSet;
use smp::sync::AtomicU32;
use smp::sync::Ordering::{Acquire, Relaxed, Release};

use crate::header::{Header, RootId};

/// A SchedControl.
#[repr(C, align(64))]
pub struct SchedControl {
    pub header: Header,
    /// Ceiling + 1; 0 before it is set.
    bound: AtomicU32,
    cpus: AtomicCpuSet,
}

impl SchedControl {
    /// Makes a SchedControl that allows nothing.
    pub fn new(root: RootId) -> SchedControl {
        SchedControl {
            header: Header::new(ObjType::SchedControl, root),
            bound: AtomicU32::new(0),
            cpus: AtomicCpuSet::default(),
        }
    }

    /// Returns the highest priority that it allows, on the CPUs that it covers; `None` before that
    /// is set.
    pub fn ceiling(&self) -> Option<u8> {
        self.bound.load(Acquire).checked_sub(1).map(|ceiling| ceiling as u8)
    }

    /// Returns the CPUs that it covers.
    pub fn cpus(&self) -> &AtomicCpuSet {
        &self.cpus
    }

    /// Returns whether it covers a CPU.
    pub fn covers(&self, cpu: CpuId) -> bool {
        self.cpus.contains(cpu)
    }

    /// Returns which of 64 CPUs it covers; bit 0 is the CPU `first`, a multiple of 64.
    pub fn word(&self, first: CpuId) -> u64 {
        self.cpus.word(first)
    }

    /// Makes it cover more CPUs, with `ceiling`. Returns the ceiling that it has, if that is
    /// another one; then nothing has changed.
    pub fn extend(&self, ceiling: u8, first: CpuId, cpus: u64) -> Result<(), u8> {
        let bound = u32::from(ceiling) + 1;
        let before = self.bound.compare_exchange(0, bound, Release, Relaxed);
        if let Err(has) = before
            && has != bound
        {
            return Err((has - 1) as u8);
        }
        self.cpus.insert_word(first, cpus);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn cpu(n: usize) -> CpuId {
        CpuId::new(n).expect("a CPU")
    }

    #[test]
    fn the_ceiling_is_set_once_and_cpus_are_added() {
        let control = SchedControl::new(RootId(0));
        assert_eq!(control.ceiling(), None);
        assert!(!control.covers(cpu(0)));
        assert_eq!(control.extend(255, cpu(0), 0b101), Ok(()));
        assert_eq!((control.ceiling(), control.word(cpu(0))), (Some(255), 0b101));
        assert_eq!(control.extend(254, cpu(64), 1), Err(255));
        assert_eq!(control.word(cpu(64)), 0, "a refused extension changes nothing");
        assert_eq!(control.extend(255, cpu(64), 2), Ok(()));
        assert!(control.covers(cpu(65)) && control.covers(cpu(2)) && !control.covers(cpu(1)));
        assert!(control.cpus().members(smp::cpu::MAX_CPUS).map(CpuId::index).eq([0, 2, 65]));
    }
}
