//! SchedControls: authority over CPU time.
//!
//! A SchedControl allows priorities up to its ceiling on the CPUs that it covers. The system calls
//! that set a SchedContext, or give a task its CPU, name a SchedControl. Process 1 starts with one
//! that allows everything, and each other one is extended by one that allows at least as much.
//! (seL4 has a capability of this name for each core, which limits no priority; there, a priority
//! is limited by that of a task that the caller controls.)
//!
//! # Invariants
//! - The ceiling and the account are set once, before the first CPU is covered, and no CPU is taken
//!   away. So another CPU that reads them while they change finds nothing that was not allowed.
//! - Nothing refers to a SchedControl but capabilities.
//!
//! # Memory ordering
//! A CPU becomes a member by a sequentially consistent operation after the ceiling was set. A
//! reader that finds the member, also finds the ceiling and the account.

use abi::ObjType;
use smp::cpu::CpuId;
use smp::cpuset::AtomicCpuSet;
use smp::entries::Counted;
use smp::sync::AtomicU64;
use smp::sync::Ordering::{Acquire, Release};

use crate::accounts::AccountId;
use crate::header::{FLAG_DYING, Header, RootId};

/// A SchedControl.
#[repr(C, align(64))]
pub struct SchedControl {
    pub header: Header,
    /// 0 before it is set; then [`Bound::raw`].
    bound: AtomicU64,
    cpus: AtomicCpuSet,
    /// Whether its account counts it.
    counted: Counted,
}

/// What a SchedControl allows on the CPUs that it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// The highest priority.
    pub ceiling: u8,
    /// The account from which budgets are taken. `None`: it gives CPU time without limit.
    pub account: Option<AccountId>,
}

impl Bound {
    /// What the first SchedControl of a machine allows.
    pub const ALL: Bound = Bound { ceiling: u8::MAX, account: None };

    fn raw(self) -> u64 {
        let account = self.account.map_or(0, AccountId::raw);
        account << CEILING_BITS | (u64::from(self.ceiling) + 1)
    }

    fn from_raw(raw: u64) -> Option<Bound> {
        Some(Bound { ceiling: ceiling_of(raw)?, account: AccountId::from_raw(raw >> CEILING_BITS) })
    }
}

/// The ceiling + 1 has so many bits of a raw bound.
const CEILING_BITS: u32 = 16;

/// Returns the ceiling of a raw bound.
#[inline(always)]
fn ceiling_of(raw: u64) -> Option<u8> {
    (raw as u16).checked_sub(1).map(|ceiling| ceiling as u8)
}

impl SchedControl {
    /// Makes a SchedControl that allows nothing.
    pub fn new(root: RootId) -> SchedControl {
        SchedControl {
            header: Header::new(ObjType::SchedControl, root),
            bound: AtomicU64::new(0),
            cpus: AtomicCpuSet::default(),
            counted: Counted::default(),
        }
    }

    /// Returns what it allows; `None` before that is set.
    pub fn bound(&self) -> Option<Bound> {
        Bound::from_raw(self.bound.load(Acquire))
    }

    /// Returns the highest priority that it allows, on the CPUs that it covers; `None` before that
    /// is set.
    #[inline(always)]
    pub fn ceiling(&self) -> Option<u8> {
        ceiling_of(self.bound.load(Acquire))
    }

    /// Returns whether it takes budgets from an account.
    #[inline(always)]
    pub fn has_account(&self) -> bool {
        self.bound.load(Acquire) >> CEILING_BITS != 0
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

    /// Makes it cover more CPUs, with this bound. Returns whether it had none before. Or returns
    /// the bound that it has, if that is another one; then nothing has changed.
    pub fn extend(&self, bound: Bound, first: CpuId, cpus: u64) -> Result<bool, Bound> {
        let before = self.bound.compare_exchange(0, bound.raw(), Release, Acquire);
        if let Err(has) = before
            && let Some(has) = Bound::from_raw(has)
            && has != bound
        {
            return Err(has);
        }
        self.cpus.insert_word(first, cpus);
        Ok(before.is_ok())
    }

    /// Notes that its account counts it. Returns whether it is dying: then its end may not have
    /// seen that.
    pub fn set_counted(&self) -> bool {
        self.counted.begin(|| self.header.has_flag(FLAG_DYING))
    }

    /// Returns the account that counts this SchedControl, which is dying. From here on it does not
    /// count it any more.
    pub fn leave_account(&self) -> Option<AccountId> {
        let is_counted = self.counted.end();
        self.bound().filter(|_| is_counted).and_then(|bound| bound.account)
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
        let bound = |ceiling, account| Bound { ceiling, account: AccountId::from_raw(account) };
        assert_eq!(control.bound(), None);
        assert!(!control.covers(cpu(0)));
        assert_eq!(control.extend(bound(255, 7), cpu(0), 0b101), Ok(true));
        assert_eq!((control.bound(), control.word(cpu(0))), (Some(bound(255, 7)), 0b101));
        for other in [bound(254, 7), bound(255, 8), bound(255, 0)] {
            assert_eq!(control.extend(other, cpu(64), 1), Err(bound(255, 7)));
        }
        assert_eq!(control.word(cpu(64)), 0, "a refused extension changes nothing");
        assert_eq!(control.extend(bound(255, 7), cpu(64), 2), Ok(false));
        assert!(control.covers(cpu(65)) && control.covers(cpu(2)) && !control.covers(cpu(1)));
        assert!(control.cpus().members(smp::cpu::MAX_CPUS).map(CpuId::index).eq([0, 2, 65]));
    }
}
