//! Watching CPUs and SchedContexts, as a scheduling policy does: [`abi::status`] explains it.

use abi::status::{Doing, SchedEvent, Status};
use abi::{Op, Target};

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{EventPool, Handle, Machine, SchedContext};

/// Returns the bits of the events that a policy wants to get.
pub fn events(wanted: &[SchedEvent]) -> u16 {
    wanted.iter().fold(0, |bits, event| bits | *event as u16)
}

/// Returns how much of the time between two readings of a CPU's status word the CPU was busy, in
/// thousandths. `now` is the time of the later reading.
pub fn busy_permille(earlier: (u64, Status), later: (u64, Status)) -> u64 {
    let idled = |(now, status): (u64, Status)| {
        status.ticks + if status.doing == Doing::Rests { now.saturating_sub(status.since) } else { 0 }
    };
    let passed = later.0.saturating_sub(earlier.0).max(1);
    let idle = idled(later).saturating_sub(idled(earlier)).min(passed);
    (passed - idle) * 1_000 / passed
}

impl Machine {
    /// Makes a CPU report to a pool that has a process. Its status word there has the number
    /// `word`.
    pub fn watch_cpu(&self, cpu: u32, pool: &EventPool, word: u16) -> Result<()> {
        let of = Target::new(self.cap(), cpu).0;
        syscall(Args::plain(Op::CpuWatch, of, pool.arg(), u64::from(word), 0)).done()
    }

    /// Makes a CPU report to nobody.
    pub fn unwatch_cpu(&self, cpu: u32) -> Result<()> {
        syscall(Args::plain(Op::CpuWatch, Target::new(self.cap(), cpu).0, 0, 0, 0)).done()
    }
}

impl SchedContext {
    /// Gives the SchedContext a status word in a pool to which its CPU reports. The pool gets the
    /// events whose bits are in `events`.
    pub fn watch(&self, pool: &EventPool, word: u16, events: u16) -> Result<()> {
        let (word, events) = (u64::from(word), u64::from(events));
        syscall(Args::plain(Op::SchedWatch, self.arg(), pool.arg(), word, events)).done()
    }

    /// Makes nobody watch the SchedContext.
    pub fn unwatch(&self) -> Result<()> {
        syscall(Args::plain(Op::SchedWatch, self.arg(), 0, 0, 0)).done()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_what_is_left_of_idling() {
        let at = |doing, ticks, since| Status { doing, ticks, since, ..Status::default() };
        let busy = at(Doing::Runs, 100, 1_000);
        assert_eq!(busy_permille((1_000, busy), (2_000, busy)), 1_000);
        let idles = at(Doing::Rests, 100, 1_500);
        assert_eq!(busy_permille((1_000, busy), (2_000, idles)), 500, "it idles since the middle");
        assert_eq!(busy_permille((2_000, idles), (3_000, idles)), 0);
        let again = at(Doing::Runs, 850, 2_250);
        assert_eq!(busy_permille((2_000, idles), (3_000, again)), 750);
        assert_eq!(busy_permille((2_000, again), (2_000, again)), 1_000, "no time has passed");
    }
}
