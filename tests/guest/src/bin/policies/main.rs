//! A scheduling policy at work: the process `policy` places and sets this program's workers, and
//! this program judges the result.
//!
//! - `policy=static`: workers of one priority that take all the time they can get. Each stays on
//!   its CPU, and they get equal shares.
//! - `policy=balance`: workers with different amounts of work, all made on CPU 0. No CPU idles
//!   for long while there is work, although the policy is killed half-way and another one takes
//!   over.
//! - `policy=edf`: workers with a job in each period. As many are admitted as there is time for. No
//!   job is late, and a worker that never ends its jobs gets no more than its budget.
//!
//! In the end, unless there are deadlines, the policy parks a CPU: its tasks go to others, nobody
//! comes, and then it takes tasks again. With `hang=1` a CPU stops for ever instead ([`cpus`]), and
//! with `lie=1` a task in place of the policy lies and hangs ([`lies`]).
//!
//! Options: `policy=`, `seed=`, `load=` (how much of each CPU is promised, in thousandths),
//! `tasks=`, `jobs=` (a worker's jobs or pieces of work, on the average, or windows of lies),
//! `kill=0` (no policy is killed), `hang=`, `lie=`.
//!
//! [`worker`]: what workers do. [`stage`]: makes them, and the policy's process. [`board`]: the
//! memory in which they note it.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod board;
mod cpus;
mod lies;
mod stage;
mod worker;

use alloc::vec::Vec;

use guest_tests::failure::Failure;
use guest_tests::run::{Run as _, wait_ticks};
use guest_tests::watchdog;
use policy_core::orders::{Kind, Setup, Verdict, Wish};
use user_rt::arch::shared::Shared;
use user_rt::cap::Notification;
use user_rt::spawn::{Nursery, Spawned, own};
use user_rt::{arch, boot, heap};

use board::{Board, Of, Total, WORKERS_MAX};
use stage::{Policy, Stage};

user_rt::program!(begin);

const HEAP_PAGES: u32 = 8;
/// Memory (as a base-2 logarithm) and slots for all workers.
const WORKERS_LOG2: u8 = 23;
const WORKERS_SLOTS: u32 = 700;
/// Priority of workers; with deadlines, the lowest.
const PRIORITY: u8 = 60;
/// Ticks of a slice, so that a run has many.
const SLICE: u64 = 100_000;
/// Slices that each worker gets while shares are measured.
const SLICES: u64 = 1_000;
const WORKERS_ON_A_CPU: u64 = 3;
/// Thousandths of the time that workers of a CPU use together, at least, if they want all of it.
const USED: u64 = 950;
/// Workers for each CPU without which CPUs idle at the end of the work, whatever the policy does.
const BALANCED: u64 = 8;
/// Thousandths by which shares may differ, and of the time that a CPU may idle while there is work.
const SHARE_TOLERANCE: u64 = 20;
const IDLE_TOLERANCE: u64 = 100;
/// A worker's CPU time in its period has so many ticks more than its job, at least: what the kernel
/// takes for itself, and what the loops of a job differ.
const MARGIN: u64 = 40_000;
/// Ticks of a worker's period.
const PERIODS: core::ops::Range<u64> = 2_000_000..9_000_000;
/// A window's budget may be exceeded by what an entry takes at most.
const OVERRUN: u64 = 10_500;

fn begin(_: u64) -> ! {
    let board = Board::open;
    let number = Board::number;
    let cpus = boot::facts().cpus.max(1);
    let setup =
        Setup { kind: board::kind(), cpus: cpus as u32, capacity: number("load", 950).min(1_000) as u32 };
    match Director::new(setup) {
        Ok(director) => board().end(director.run()),
        Err(failure) => user_rt::supervisor::finish(0, report(&failure)),
    }
}

/// Reports a failure before there is a board.
fn report(failure: &Failure) -> u64 {
    user_rt::report!("error policies: {failure}");
    1
}

/// Returns how a worker is to be scheduled that may use all the time that it gets.
fn without_budget(number: u16, stays: bool) -> Wish {
    Wish { number, priority: PRIORITY, stays, slice: SLICE, budget: 0, period: 0 }
}

struct Director<'a> {
    board: &'static Board,
    stage: Stage<'a>,
    setup: Setup,
    random: oorandom::Rand64,
    workers: Vec<Spawned>,
    note: Notification,
    /// Loops that take a million ticks.
    pace: u64,
}

impl Director<'_> {
    fn new(setup: Setup) -> Result<Director<'static>, Failure> {
        let mut nursery = Nursery::of_program(0);
        heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
        Shared::new(&mut nursery, board::PAGES)?;
        let board = Board::open();
        let seed = Board::number("seed", 1);
        board.set(Total::Seed, seed);
        board.set(Total::Cpus, setup.cpus.into());
        watchdog::start::<Board>(&mut nursery)?;
        let note = nursery.make(0)?;
        let workers = nursery.split(WORKERS_LOG2, WORKERS_SLOTS)?;
        let stage = Stage::new(workers, &mut nursery, setup)?;
        let random = oorandom::Rand64::new(seed.into());
        let pace = worker::loops_of_a_million();
        Ok(Director { board, stage, setup, random, workers: Vec::new(), note, pace })
    }

    fn run(mut self) -> Result<(), Failure> {
        if Board::number("hang", 0) != 0 {
            return self.run_hang();
        }
        if Board::number("lie", 0) != 0 {
            return self.run_lies();
        }
        match self.setup.kind {
            Kind::Static => self.run_static(),
            Kind::Balance => self.run_balance(),
            Kind::Edf => self.run_deadlines(),
        }
    }

    fn wait(&self, ticks: u64) -> Result<(), Failure> {
        Ok(wait_ticks(&self.note, ticks)?)
    }

    fn complain(&self, which: Total, what: core::fmt::Arguments<'_>) {
        self.board.complain(which, what);
    }

    /// Lets a policy manage a worker. Returns a time at which a window of its budget has begun, or
    /// `None` if the policy does not take it.
    fn manage(&mut self, policy: &Policy, wish: Wish) -> Result<Option<u64>, Failure> {
        let (verdict, _, begins) = policy.manage(wish)?;
        match verdict {
            Verdict::Done => {
                self.board.add(Total::Tasks, u64::from(!wish.stays));
                Ok(Some(begins))
            }
            Verdict::Overload => Ok(None),
            Verdict::BadOrder | Verdict::Refused => {
                self.complain(
                    Total::Lost,
                    format_args!("worker {} is not managed: {verdict:?}", wish.number),
                );
                Ok(None)
            }
        }
    }

    /// Notes what a policy has done.
    fn note_work(&self, policy: &Policy) -> Result<(), Failure> {
        let figures = policy.report()?;
        for (total, figure) in [Total::Migrations, Total::Settings, Total::Idled].into_iter().zip(figures) {
            self.board.add(total, figure);
        }
        Ok(())
    }

    /// Waits until workers have done all their work.
    fn await_all(&self, count: usize) -> Result<(), Failure> {
        let is_done = |number: usize| {
            let it = &self.board.workers[number];
            it.get(Of::Done) >= it.get(Of::Jobs)
        };
        while !(0..count).all(is_done) {
            self.wait(SLICE)?;
        }
        Ok(())
    }

    // --- static ----------------------------------------------------------------------------------

    fn run_static(&mut self) -> Result<(), Failure> {
        let (cpus, count) = (self.setup.cpus, WORKERS_ON_A_CPU * u64::from(self.setup.cpus));
        let count = count.min(WORKERS_MAX as u64) as u16;
        for _ in 0..count {
            let made = self.stage.worker(worker::greedy)?;
            self.workers.push(made);
        }
        let policy = self.stage.start(&self.workers)?;
        for number in 0..count {
            self.manage(&policy, without_budget(number, false))?;
            self.workers[usize::from(number)].task.resume()?;
        }
        self.wait(10 * WORKERS_ON_A_CPU * SLICE)?;
        let (before, begin) = (self.used()?, arch::now());
        for _ in 0..SLICES {
            self.wait(WORKERS_ON_A_CPU * SLICE)?;
            self.board.add(Total::Life, 1);
        }
        let used: Vec<u64> =
            self.used()?.into_iter().zip(before).map(|(after, before)| after - before).collect();
        let passed = arch::now() - begin;
        for cpu in 0..cpus {
            self.judge_shares(cpu, &used, passed);
        }
        self.park_one(&policy)?;
        self.note_work(&policy)
    }

    /// Returns what each worker has used.
    fn used(&self) -> Result<Vec<u64>, Failure> {
        self.workers.iter().map(|worker| Ok(worker.sched.info()?.used)).collect()
    }

    /// Complains about workers of a CPU that were elsewhere, or got unequal shares, or all too
    /// little.
    fn judge_shares(&self, cpu: u32, used: &[u64], passed: u64) {
        let its: Vec<usize> = (0..used.len()).filter(|n| *n as u32 % self.setup.cpus == cpu).collect();
        let sum = its.iter().map(|n| used[*n]).sum::<u64>();
        let mean = sum / its.len().max(1) as u64;
        if sum * 1_000 < passed * USED {
            self.complain(
                Total::Overrun,
                format_args!("workers of cpu{cpu} have used {sum} ticks of {passed}"),
            );
        }
        for number in its {
            let at = self.board.workers[number].get(Of::Cpu);
            if at != u64::from(cpu) {
                self.complain(Total::Lost, format_args!("worker {number} is on cpu{at}, not on cpu{cpu}"));
            }
            if used[number].abs_diff(mean) * 1_000 > mean * SHARE_TOLERANCE {
                self.complain(
                    Total::Overrun,
                    format_args!(
                        "worker {number} has used {} ticks, where {mean} are its share",
                        used[number]
                    ),
                );
            }
        }
    }

    // --- balance ---------------------------------------------------------------------------------

    fn run_balance(&mut self) -> Result<(), Failure> {
        let count = Board::number("tasks", 64).clamp(1, WORKERS_MAX as u64) as u16;
        let jobs = Board::number("jobs", 100).max(2);
        let mut total = 0;
        for number in 0..usize::from(count) {
            let made = self.stage.worker(worker::busy)?;
            self.workers.push(made);
            let pieces = self.random.rand_range(jobs / 2..jobs * 3 / 2);
            total += pieces;
            self.board.workers[number].set(Of::Loops, self.pace / 20);
            self.board.workers[number].set(Of::Jobs, pieces);
        }
        let begin = arch::now();
        let mut policy = self.stage.start(&self.workers)?;
        for number in 0..count {
            self.manage(&policy, without_budget(number, false))?;
            self.workers[usize::from(number)].task.resume()?;
        }
        if Board::number("kill", 1) != 0 {
            let done = |board: &Board| board.workers.iter().map(|it| it.get(Of::Done)).sum::<u64>();
            while done(self.board) < total / 2 {
                self.wait(SLICE)?;
            }
            self.note_work(&policy)?;
            self.stage.kill(policy)?;
            self.board.add(Total::Kills, 1);
            self.wait(20 * SLICE)?;
            policy = self.stage.start(&self.workers)?;
            for number in 0..count {
                self.manage(&policy, without_budget(number, true))?;
            }
        }
        self.await_all(count.into())?;
        self.note_work(&policy)?;
        // If no CPU idles, the work is done as soon as it can be.
        let (idled, passed) = (self.board.get(Total::Idled), arch::now() - begin);
        let is_enough = u64::from(count) >= BALANCED * u64::from(self.setup.cpus);
        if is_enough && idled * 1_000 > passed * IDLE_TOLERANCE {
            self.complain(Total::Overrun, format_args!("a CPU has idled for {idled} ticks of {passed}"));
        }
        if self.setup.cpus > 1 && self.board.get(Total::Migrations) < u64::from(self.setup.cpus) {
            self.complain(Total::Lost, format_args!("all work began on one CPU, and hardly any has moved"));
        }
        self.park_one(&policy)
    }

    // --- deadlines -------------------------------------------------------------------------------

    /// Workers for each CPU, and one more that never ends its job, share what is promised. One more
    /// is refused.
    fn run_deadlines(&mut self) -> Result<(), Failure> {
        const WORKERS: u64 = 5;
        const GREEDY: u64 = 50;
        const LEFT: u64 = 12;
        let cpus = u64::from(self.setup.cpus);
        let jobs = Board::number("jobs", 60).max(1);
        let load = u64::from(self.setup.capacity).saturating_sub(GREEDY).max(10);
        let count = (cpus * (WORKERS + 1)) as usize;
        for number in 0..=count {
            let is_greedy = number as u64 % (WORKERS + 1) == WORKERS;
            let made = self.stage.worker(if is_greedy { worker::greedy } else { worker::periodic })?;
            self.workers.push(made);
        }
        let policy = self.stage.start(&self.workers)?;
        // Those of a CPU follow each other, so that they fit there when each takes the first CPU
        // that has room.
        let mut parts: Vec<u64> = Vec::new();
        for _ in 0..cpus {
            parts.extend(self.parts_of(load, WORKERS as usize));
            parts.push(GREEDY);
        }
        let mut greedy = Vec::new();
        for number in 0..count as u16 {
            let period = self.random.rand_range(PERIODS);
            let is_greedy = u64::from(number) % (WORKERS + 1) == WORKERS;
            let part = parts[usize::from(number)];
            let wish = Wish {
                number,
                priority: PRIORITY,
                stays: false,
                slice: period,
                // Rounded down, so that the parts are not more than the load.
                budget: period * part / 1_000,
                period,
            };
            let Some(begins) = self.manage(&policy, wish)? else {
                self.complain(
                    Total::Lost,
                    format_args!("worker {number} is refused, and there is room for it"),
                );
                continue;
            };
            if is_greedy {
                greedy.push((usize::from(number), wish, begins));
            } else {
                let it = &self.board.workers[usize::from(number)];
                // The next window, since this one has begun already.
                it.set(Of::Begin, begins + period);
                it.set(Of::Period, period);
                it.set(Of::Loops, wish.budget.saturating_sub(MARGIN) * self.pace / 1_000_000);
                // So that all end at about the same time: the load is there from begin to end.
                it.set(Of::Jobs, (jobs * (PERIODS.start + PERIODS.end) / 2 / period).max(1));
            }
            self.workers[usize::from(number)].task.resume()?;
        }
        let too_much = Wish {
            number: count as u16,
            priority: PRIORITY,
            stays: false,
            slice: SLICE,
            // More than rounding has left of each CPU.
            budget: SLICE * LEFT / 1_000,
            period: SLICE,
        };
        if policy.manage(too_much)?.0 != Verdict::Overload {
            self.complain(Total::Lost, format_args!("more of a CPU is promised than there is left"));
        }
        for bad in
            [Wish { budget: 0, ..too_much }, Wish { slice: 0, ..too_much }, Wish { number: 0, ..too_much }]
        {
            let verdict = policy.manage(bad)?.0;
            if verdict != Verdict::BadOrder {
                self.complain(Total::Lost, format_args!("{bad:?} is answered with {verdict:?}"));
            }
        }
        self.await_all(count)?;
        let now = arch::now();
        for (number, wish, begins) in greedy {
            self.judge_budget(number, wish, now - begins)?;
        }
        for number in 0..count {
            self.board.add(Total::Missed, self.board.workers[number].get(Of::Missed));
        }
        self.note_work(&policy)
    }

    /// Returns parts of a load for workers of a CPU, at random, and none of them small.
    fn parts_of(&mut self, load: u64, workers: usize) -> Vec<u64> {
        let weights: Vec<u64> = (0..workers).map(|_| self.random.rand_range(50..150)).collect();
        let sum: u64 = weights.iter().sum();
        weights.into_iter().map(|weight| load * weight / sum).collect()
    }

    /// Complains about a worker that wants all time, and got more than its budget, or less.
    fn judge_budget(&self, number: usize, wish: Wish, passed: u64) -> Result<(), Failure> {
        let used = self.workers[number].sched.info()?.used;
        self.judge_used(format_args!("worker {number}"), used, (wish.budget, wish.period), passed, true);
        Ok(())
    }

    /// Complains about time that was used beyond a budget in each period. With `all`, there was
    /// time for the whole budget, and hardly less was used.
    fn judge_used(
        &self,
        who: core::fmt::Arguments<'_>,
        used: u64,
        (budget, period): (u64, u64),
        passed: u64,
        all: bool,
    ) {
        // Its first window had begun, and the last one is not over.
        let windows = passed / period + 2;
        // Many windows see one overrun. Where the host decides when a timer fires, each may.
        let overruns = if Board::number("exact", 0) != 0 { 2 } else { windows };
        let most = windows * budget + overruns * OVERRUN;
        let least = if all { windows.saturating_sub(4) * budget * 9 / 10 } else { 0 };
        if !(least..=most).contains(&used) {
            let what =
                format_args!("{who} has used {used} ticks in {windows} windows, with {budget} in each");
            self.complain(Total::Overrun, what);
        }
    }
}
