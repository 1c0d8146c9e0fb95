//! A policy that lies: a task with the authority of a policy, in place of one. It makes settings at
//! random that are wrong, out of date or useless, until it hangs. Nobody gets more time than a
//! budget or an authority allows, and what it has set last stands.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use abi::status::Seen;
use abi::{Cap, Error};
use guest_tests::failure::Failure;
use guest_tests::run::Run as _;
use user_rt::arch;
use user_rt::cap::{Handle, SchedContext, SchedControl, Task};
use user_rt::invoke::Settings;
use user_rt::spawn::own;

use crate::board::{Board, Of, Total};
use crate::stage::{CEILING, POLICY_PRIORITY};
use crate::{Director, PRIORITY, worker};

/// Ticks of a window of everybody's budget, and of the budgets of workers and of the liar.
const PERIOD: u64 = 1_000_000;
const BUDGET: u64 = 150_000;
const LIAR: u64 = 300_000;
/// Priority of workers without a budget, below all that the liar sets.
const LOWEST: u8 = 2;
/// Windows for which it lies, unless `jobs=` says it.
const WINDOWS: u64 = 200;
/// Windows in which all others go on while it hangs: many, for hosts that run CPUs in turn.
const HANGS: u64 = 2_000;

/// The liar's authority, and how many workers there are.
static CONTROL: AtomicU32 = AtomicU32::new(0);
static COUNT: AtomicU32 = AtomicU32::new(0);
/// It is to lie no more.
static HANG: AtomicBool = AtomicBool::new(false);

/// Returns how a worker is set, as to its budget always in the same way.
const fn settings(priority: u8, slice: u64) -> Settings {
    Settings { priority, slice, budget: BUDGET, period: PERIOD }
}

impl Director<'_> {
    /// Two workers with budgets for each CPU, one without, and the liar.
    pub fn run_lies(&mut self) -> Result<(), Failure> {
        let cpus = self.setup.cpus;
        let control: SchedControl = self.stage.control(CEILING)?;
        CONTROL.store(control.cap().0, Relaxed);
        COUNT.store(2 * cpus, Relaxed);
        for number in 0..3 * cpus {
            let made = self.stage.worker(worker::greedy)?;
            let (task, sched) = (made.task.cap().0, made.sched.cap().0);
            let it = &self.board.workers[number as usize];
            it.set(Of::Task, u64::from(task));
            it.set(Of::Sched, u64::from(sched));
            match number < 2 * cpus {
                true => made.sched.configure_all(&own::sched_control(), None, settings(PRIORITY, PERIOD))?,
                false => made.sched.configure(LOWEST, PERIOD)?,
            }
            made.task.move_to(number % cpus)?;
            self.workers.push(made);
        }
        self.board.set(Total::Tasks, u64::from(3 * cpus));
        let liar = self.stage.worker(lie)?;
        liar.sched.configure_budget(POLICY_PRIORITY, PERIOD, LIAR, PERIOD)?;
        let begin = arch::now();
        for made in self.workers.iter().chain([&liar]) {
            made.task.resume()?;
        }
        for _ in 0..Board::number("jobs", WINDOWS) {
            self.wait(PERIOD)?;
            self.board.add(Total::Life, 1);
        }
        HANG.store(true, Relaxed);
        self.judge_budgets(begin)?;
        let used = liar.sched.info()?.used;
        let passed = arch::now() - begin;
        self.judge_used(format_args!("the liar"), used, (LIAR, PERIOD), passed, self.has_time_for_all());
        let set = self.settings_made()?;
        self.judge_hang()?;
        if liar.sched.info()?.used == used {
            self.complain(Total::Lost, format_args!("the liar does not hang"));
        }
        if self.settings_made()? != set {
            self.complain(Total::Lost, format_args!("the last settings do not stand"));
        }
        Ok(())
    }

    /// Returns whether there is time for all budgets: on one CPU, whose clock counts its
    /// instructions.
    fn has_time_for_all(&self) -> bool {
        Board::number("exact", 0) != 0 && self.setup.cpus == 1
    }

    /// Returns the priorities and slices of all workers.
    fn settings_made(&self) -> Result<Vec<(u8, u64)>, Failure> {
        self.workers
            .iter()
            .map(|made| {
                let info = made.sched.info()?;
                Ok((info.priority, info.slice))
            })
            .collect()
    }

    /// Complains about workers that have used more than their budgets.
    fn judge_budgets(&self, begin: u64) -> Result<(), Failure> {
        for (number, made) in self.workers.iter().enumerate().take(2 * self.setup.cpus as usize) {
            let info = made.sched.info()?;
            let (who, passed) = (format_args!("worker {number}"), arch::now() - begin);
            self.judge_used(who, info.used, (BUDGET, PERIOD), passed, self.has_time_for_all());
            if info.budget != BUDGET || info.priority > CEILING {
                self.complain(Total::Overrun, format_args!("worker {number} is set so: {info:?}"));
            }
        }
        Ok(())
    }

    /// The liar takes all the time that it can get, and does nothing more. The others go on.
    fn judge_hang(&self) -> Result<(), Failure> {
        let (before, begin) = (self.work_done(), arch::now());
        let stands = || self.work_done().iter().zip(&before).position(|(after, before)| after == before);
        while let Some(number) = stands() {
            if arch::now() - begin > HANGS * PERIOD {
                self.complain(Total::Stuck, format_args!("worker {number} does not go on"));
                break;
            }
            self.wait(PERIOD)?;
            self.board.add(Total::Life, 1);
        }
        Ok(())
    }
}

/// Lies until it is to hang.
extern "C" fn lie(_: u64) -> ! {
    let board = Board::open();
    let mut random = oorandom::Rand64::new(board.get(Total::Seed).into());
    let control = SchedControl::at(Cap(CONTROL.load(Relaxed)));
    while !HANG.load(Relaxed) {
        let number = random.rand_range(0..u64::from(COUNT.load(Relaxed))) as usize;
        let (what, answer, wanted) = one_lie(&mut random, &control, &board.workers[number]);
        board.add(Total::Settings, 1);
        let error = answer.err().map(|refusal| refusal.error);
        if !wanted.contains(&error) {
            board.complain(Total::Lost, format_args!("{what} of worker {number} is answered with {error:?}"));
        }
    }
    loop {
        worker::spin(1_000);
        arch::pause();
    }
}

type Lie = (&'static str, user_rt::Result<()>, &'static [Option<Error>]);

/// Makes one setting that a policy should not make. Returns which, the answer, and what may be
/// answered.
fn one_lie(random: &mut oorandom::Rand64, control: &SchedControl, of: &guest_tests::board::Row<Of>) -> Lie {
    let cap = |word: Of| Cap(of.get(word) as u32);
    let (task, sched) = (Task::at(cap(Of::Task)), SchedContext::at(cap(Of::Sched)));
    let set = |settings: Settings| sched.configure_all(control, None, settings);
    let stale = Some(Seen(random.rand_u64() as u32));
    match random.rand_range(0..8) {
        0 => ("a priority above the ceiling", set(settings(255, PERIOD)), &[Some(Error::OverLimit)]),
        1 => ("a move to no CPU", task.move_by(control, 1 << 20, None).map(drop), &[Some(Error::NoCpu)]),
        2 => {
            let answer = sched.configure_all(control, stale, settings(CEILING, PERIOD));
            ("a setting that is out of date", answer, &[Some(Error::Stale)])
        }
        3 => {
            let bad = Settings { budget: 2 * PERIOD, ..settings(PRIORITY, PERIOD) };
            ("a budget longer than its window", set(bad), &[Some(Error::BadArgument)])
        }
        4 => {
            let bad = Settings { slice: 0, ..settings(PRIORITY, PERIOD) };
            ("no slice", set(bad), &[Some(Error::BadArgument)])
        }
        5 => {
            // To and fro, wherever it is.
            let to = random.rand_range(0..u64::from(user_rt::boot::facts().cpus.max(1) as u32)) as u32;
            ("a move", task.move_by(control, to, None).map(drop), &[None])
        }
        6 => {
            // With the same budget again: the window stays.
            let priority = random.rand_range(u64::from(LOWEST) + 1..u64::from(CEILING) + 1) as u8;
            ("a setting", set(settings(priority, random.rand_range(1..PERIOD))), &[None])
        }
        _ => ("a move that is out of date", task.move_by(control, 0, stale).map(drop), &[Some(Error::Stale)]),
    }
}
