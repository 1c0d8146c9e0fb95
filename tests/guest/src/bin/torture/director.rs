//! Runs the rounds: makes spaces and workers, destroys some and makes them again while the others
//! work, lets all of them check everything at the end, destroys all and counts the memory that
//! comes back.

use abi::PAGE_SIZE;
use guest_tests::failure::Failure;
use guest_tests::random::Random;
use guest_tests::run::{Run as _, show_state, wait_ticks};
use user_rt::arch::shared::Shared;
use user_rt::arch::{self, memory};
use user_rt::cap::Notification;
use user_rt::elf::Image;
use user_rt::invoke::Pins;
use user_rt::spawn::Nursery;
use user_rt::{boot, report};

use crate::board::{Board, Of, Stage, Total};
use crate::cast::Cast;
use crate::handlers::Handlers;

/// Operations between two ends of a space, on average.
const GAP: u64 = 2500;
/// Operations between two signs of life.
const TELL_EVERY: u64 = 100_000;
/// The director's sequence of random numbers in its first round: no worker has this number.
const DIRECTORS_NUMBER: u64 = u64::MAX;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub cpus: u32,
    pub ops: u64,
    pub rounds: u64,
}

/// An action of the director, for the report of a run that stalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Step {
    Making = 0,
    Watching,
    Unmaking,
    Remaking,
    Resting,
    Resetting,
}

pub fn step_name(step: u64) -> &'static str {
    let names = ["making", "watching", "unmaking a space", "making a space again", "resting", "resetting"];
    names.get(step as usize).copied().unwrap_or("nothing known")
}

pub struct Director {
    plan: Plan,
    /// Maker of all objects of a round.
    nursery: Nursery,
    shared: Shared,
    handlers: Handlers,
    board: &'static Board,
}

impl Director {
    pub fn new(plan: Plan, nursery: Nursery, shared: Shared, handlers: Handlers) -> Director {
        Director { plan, nursery, shared, handlers, board: Board::open() }
    }

    /// Runs all rounds. The board has the counts of failures.
    pub fn run(mut self) -> Result<(), Failure> {
        let before = self.reset()?;
        for round in 0..self.plan.rounds {
            let goal = self.plan.ops * (round + 1) / self.plan.rounds;
            report!("progress round {} of {}: up to {goal} operations", round + 1, self.plan.rounds);
            self.round(goal, &mut Random::new(self.plan.seed, DIRECTORS_NUMBER - round))?;
            if round + 1 == self.plan.rounds {
                show_state();
            }
            let after = self.reset()?;
            self.board.add(Total::LeakedPages, before.saturating_sub(after).div_ceil(PAGE_SIZE));
            if self.board.wrong() > 0 {
                break;
            }
        }
        for (kind, name) in crate::ops::names().enumerate() {
            let count = self.board.kind(kind).load(core::sync::atomic::Ordering::Acquire);
            report!("note torture: {count} times {name}");
        }
        self.board.print_passed();
        Ok(())
    }

    fn step(&self, step: Step) {
        self.board.set(Total::Director, step as u64);
        self.board.add(Total::Life, 1);
    }

    /// Destroys everything that was made. Returns the bytes that are free then.
    fn reset(&mut self) -> Result<u64, Failure> {
        self.step(Step::Resetting);
        Ok(self.nursery.reset_with(Pins::Ignore)?)
    }

    fn round(&mut self, goal: u64, random: &mut Random) -> Result<(), Failure> {
        self.step(Step::Making);
        let image = Image::parse(memory::archive()).map_err(Failure::Image)?;
        self.board.set(Total::Stage, Stage::Work as u64);
        let pause: Notification = self.nursery.make(0)?;
        let mut cast = Cast::new(self.plan.cpus, &mut self.nursery, &self.shared, &image, &self.handlers)?;
        for space in 0..cast.spaces() {
            cast.make(space, random)?;
        }
        let mut next = self.board.get(Total::Ops) + random.below(2 * GAP);
        let mut told = self.board.get(Total::Ops);
        while self.working(goal) {
            self.step(Step::Watching);
            let ops = self.board.get(Total::Ops);
            if ops >= told + TELL_EVERY {
                report!("progress {ops} operations of {}", self.plan.ops);
                told = ops;
            }
            wait_ticks(&pause, boot::facts().tsc_hz / 500)?;
            if self.board.get(Total::Ops) >= next && self.working(goal) {
                self.remake(&mut cast, random)?;
                next = self.board.get(Total::Ops) + random.below(2 * GAP);
            }
        }
        for stage in [Stage::Rest, Stage::Check] {
            self.wait_for(stage, &pause)?;
        }
        cast.dismiss_all(random)?;
        Ok(())
    }

    fn working(&self, goal: u64) -> bool {
        self.board.get(Total::Ops) < goal && self.board.get(Total::Complaints) == 0
    }

    /// Destroys a space with all in it, and makes it again of the same memory.
    fn remake(&self, cast: &mut Cast<'_>, random: &mut Random) -> Result<(), Failure> {
        let space = random.below(cast.spaces() as u64) as usize;
        self.step(Step::Unmaking);
        cast.unmake(space, random)?;
        self.step(Step::Remaking);
        cast.make(space, random)?;
        self.board.add(Total::Remade, 1);
        Ok(())
    }

    /// Waits until all workers have completed a stage.
    fn wait_for(&self, stage: Stage, pause: &Notification) -> Result<(), Failure> {
        self.step(Step::Resting);
        self.board.set(Total::Stage, stage as u64);
        let patience = arch::now() + 60 * boot::facts().tsc_hz;
        let late = |worker: &usize| self.board.workers[*worker].get(Of::Done) < stage as u64;
        let workers = self.board.get(Total::Workers) as usize;
        while (0..workers).any(|worker| late(&worker)) {
            if arch::now() > patience {
                let who = (0..workers).find(late).unwrap_or_default();
                let what = crate::ops::name(self.board.workers[who].get(Of::Doing));
                self.board.complain(Total::Stuck, format_args!("worker {who} does not end: {what}"));
                break;
            }
            wait_ticks(pause, boot::facts().tsc_hz / 1000)?;
        }
        Ok(())
    }
}
