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

/// How a CPU is ([`Op::CpuInfo`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuState {
    /// How many tasks have their place there.
    pub tasks: u64,
    /// It takes no tasks.
    pub is_parked: bool,
    /// TSC ticks since it was asked for a sign of life that it has not given yet; 0: it owes none.
    pub owes_for: u64,
}

impl Machine {
    /// Parks a CPU without tasks. Returns whether it was parked before.
    pub fn park_cpu(&self, cpu: u32) -> Result<bool> {
        self.set_parked(cpu, 1)
    }

    /// Lets a CPU take tasks again. Returns whether it was parked.
    pub fn unpark_cpu(&self, cpu: u32) -> Result<bool> {
        self.set_parked(cpu, 0)
    }

    fn set_parked(&self, cpu: u32, parked: u64) -> Result<bool> {
        let args = Args::plain(Op::CpuPark, Target::new(self.cap(), cpu).0, parked, 0, 0);
        Ok(syscall(args).check()?.rdi != 0)
    }

    /// Returns how a CPU is. With `asks`, also asks it for a sign of life, which this does not wait
    /// for.
    pub fn cpu_state(&self, cpu: u32, asks: bool) -> Result<CpuState> {
        let args = Args::plain(Op::CpuInfo, Target::new(self.cap(), cpu).0, asks.into(), 0, 0);
        let answer = syscall(args).check()?;
        Ok(CpuState { tasks: answer.rdi, is_parked: answer.rsi != 0, owes_for: answer.rdx })
    }
}

/// Finds CPUs that do not answer any more, of the first 64. The program that asks has to outrank
/// what it watches: a CPU serves the mail of others when it has time for that.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    /// Ticks for which a CPU may owe a sign of life.
    limit: u64,
    /// CPUs that were late at the last look, and the silent ones: a bit each.
    late: u64,
    silent: u64,
}

impl Watchdog {
    /// Least ticks for which a CPU may owe a sign: twice as long as a CPU defers mail.
    pub const LEAST: u64 = 2 << 22;

    /// Makes a watchdog for which a CPU is silent that owes a sign for so many ticks, at least
    /// [`Watchdog::LEAST`], at two looks in a row. (The first one makes the question urgent, if
    /// another program has asked it.)
    pub const fn new(limit: u64) -> Watchdog {
        let limit = if limit < Watchdog::LEAST { Watchdog::LEAST } else { limit };
        Watchdog { limit, late: 0, silent: 0 }
    }

    /// Returns the CPUs that were silent at the last look.
    pub const fn silent(&self) -> u64 {
        self.silent
    }

    /// Returns how many ticks after a look the next one is due.
    pub const fn pause(&self) -> u64 {
        self.limit / 4
    }

    /// Looks at a CPU, and asks it for the next sign. Returns whether it is silent, if that is
    /// news.
    pub fn look(&mut self, machine: &Machine, cpu: u32) -> Result<Option<bool>> {
        Ok(self.judge(cpu, machine.cpu_state(cpu, true)?.owes_for))
    }

    fn judge(&mut self, cpu: u32, owes_for: u64) -> Option<bool> {
        let bit = 1_u64.checked_shl(cpu).unwrap_or(0);
        let is_late = owes_for >= self.limit;
        let is_silent = is_late && self.late & bit != 0;
        let was_silent = self.silent & bit != 0;
        let set = |word: u64, on: bool| if on { word | bit } else { word & !bit };
        (self.late, self.silent) = (set(self.late, is_late), set(self.silent, is_silent));
        (is_silent != was_silent).then_some(is_silent)
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
    fn a_cpu_is_silent_that_owes_a_sign_for_too_long_at_two_looks() {
        let mut watchdog = Watchdog::new(0);
        let limit = Watchdog::LEAST;
        assert_eq!(watchdog.pause(), limit / 4, "it takes no less");
        assert_eq!([1, limit - 1, limit].map(|owes| watchdog.judge(3, owes)), [None; 3]);
        assert_eq!((watchdog.judge(3, limit), watchdog.silent()), (Some(true), 1 << 3));
        assert_eq!((watchdog.judge(3, 2 * limit), watchdog.judge(2, 0)), (None, None));
        assert_eq!((watchdog.judge(3, 1), watchdog.silent()), (Some(false), 0));
        // Late, then in time, then late.
        assert_eq!([limit, 1, limit].map(|owes| watchdog.judge(5, owes)), [None; 3]);
    }

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
