//! Runs the rounds: fills the seats, disturbs them until the messages are sent, checks the results,
//! destroys everything, and counts the memory that comes back.

use core::sync::atomic::Ordering::Acquire;

use abi::PAGE_SIZE;
use guest_tests::failure::Failure;
use guest_tests::run::{Run as _, show_state, wait_ticks};
use user_rt::arch::shared::Shared;
use user_rt::arch::{self, memory};
use user_rt::cap::Notification;
use user_rt::elf::Image;
use user_rt::spawn::Nursery;
use user_rt::{boot, report};

use crate::board::{Board, DIRECTOR, Event, NOBODY, Of, Pair, Total};
use crate::cast::Cast;
use guest_tests::random::Random;

/// Mean time between two disturbances, in TSC ticks.
const GAP: u64 = 100_000;
/// The director's sequence of random numbers: no seat has this number.
const DIRECTORS_NUMBER: u64 = u64::MAX;

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub cpus: u32,
    pub messages: u64,
    pub seats: usize,
    pub rounds: u64,
    /// How many tasks are to move at each disturbance.
    pub moves: u64,
    /// Whether the same seed repeats the same events.
    pub replays: bool,
}

pub struct Director {
    plan: Plan,
    /// Maker of all objects of a round.
    nursery: Nursery,
    shared: Shared,
    board: &'static Board,
    random: Random,
}

impl Director {
    pub fn new(plan: Plan, nursery: Nursery, shared: Shared) -> Director {
        let random = Random::new(plan.seed, DIRECTORS_NUMBER);
        Director { plan, nursery, shared, board: Board::open(), random }
    }

    /// Runs all rounds. The board has the counts of failures.
    pub fn run(mut self) -> Result<(), Failure> {
        let before = self.nursery.reset()?;
        for round in 0..self.plan.rounds {
            let rounds = self.plan.rounds;
            let share = self.plan.messages * (round + 1) / rounds - self.plan.messages * round / rounds;
            report!("progress round {} of {rounds}: {share} messages", round + 1);
            self.round(share)?;
            if round + 1 == rounds {
                show_state();
            }
            let after = self.nursery.reset()?;
            let leaked = before.saturating_sub(after).div_ceil(PAGE_SIZE);
            self.board.add(Total::LeakedPages, leaked);
            self.board.event(DIRECTOR, Event::RoundOver, NOBODY, round);
        }
        self.check_cpus();
        Ok(())
    }

    fn round(&mut self, messages: u64) -> Result<(), Failure> {
        let image = Image::parse(memory::archive()).map_err(Failure::Image)?;
        self.board.clear_round();
        self.board.set(Total::Goal, messages);
        let done: Notification = self.nursery.make(0)?;
        let mut cast = Cast::new(self.plan, &mut self.nursery, &self.shared, &image, &done)?;
        for seat in 0..self.plan.seats {
            cast.fill(self.board, seat, &mut self.random)?;
        }
        self.board.event(DIRECTOR, Event::RoundMade, NOBODY, 0);
        while self.board.get(Total::Begun) < messages {
            self.pause(&done)?;
            self.disturb(&mut cast)?;
        }
        cast.resume_all(self.board)?;
        let all_finished = || (0..self.plan.seats).all(|s| self.board.seats[s].get(Of::Finished) != 0);
        while !all_finished() {
            wait_ticks(&done, GAP)?;
        }
        self.check_notifications(&done)?;
        self.check_calls();
        Ok(())
    }

    fn pause(&mut self, done: &Notification) -> Result<(), Failure> {
        let gap = self.random.below(2 * GAP);
        Ok(wait_ticks(done, gap)?)
    }

    fn disturb(&mut self, cast: &mut Cast) -> Result<(), Failure> {
        let board = self.board;
        for _ in 0..self.plan.moves {
            let seat = self.random.below(self.plan.seats as u64) as usize;
            cast.send_to(board, seat, self.random.below(u64::from(self.plan.cpus)) as u32)?;
        }
        let seat = self.random.below(self.plan.seats as u64) as usize;
        let suspended = board.seats[seat].get(Of::Suspended) != 0;
        match self.random.below(100) {
            0..25 => {
                cast.empty(board, seat, &mut self.random)?;
                cast.fill(board, seat, &mut self.random)
            }
            25..55 => cast.cancel(board, seat),
            55..60 => {
                cast.cancel(board, seat)?;
                cast.suspend(board, seat, !suspended)
            }
            60..80 => cast.suspend(board, seat, !suspended),
            _ => cast.resume_all(board),
        }
    }

    /// Checks that every notification to a living seat was received.
    fn check_notifications(&self, done: &Notification) -> Result<(), Failure> {
        // No task is busy with anything else; if instructions are counted, a shorter time suffices.
        let patience = boot::facts().tsc_hz / if self.plan.replays { 4 } else { 1 };
        let deadline = arch::now() + patience;
        while self.unheard().is_some() && arch::now() < deadline {
            wait_ticks(done, GAP)?;
        }
        for to in 0..self.plan.seats {
            for from in 0..to {
                if let Some((noted, heard)) = self.unheard_of(from, to) {
                    self.board.complain(
                        Total::Lost,
                        format_args!("seat {to} heard {heard} of {noted} notifications of seat {from}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn unheard(&self) -> Option<(u64, u64)> {
        (0..self.plan.seats)
            .flat_map(|to| (0..to).map(move |from| (from, to)))
            .find_map(|(from, to)| self.unheard_of(from, to))
    }

    fn unheard_of(&self, from: usize, to: usize) -> Option<(u64, u64)> {
        let noted = self.board.pair(Pair::Noted, from, to).load(Acquire);
        let heard = self.board.pair(Pair::Heard, from, to).load(Acquire);
        (heard < noted).then_some((noted, heard))
    }

    /// Checks that every call that was answered had arrived.
    fn check_calls(&self) {
        for to in 0..self.plan.seats {
            for from in 0..to {
                let get = |which| self.board.pair(which, from, to).load(Acquire);
                let (sent, came, answered) = (get(Pair::Sent), get(Pair::Came), get(Pair::Answered));
                if answered > came || came > sent {
                    self.board.complain(
                        Total::Lost,
                        format_args!("seat {from} to {to}: {sent} sent, {came} came, {answered} answered"),
                    );
                }
            }
        }
    }

    /// Checks that every CPU has served something, if there was enough for all.
    fn check_cpus(&self) {
        let cpus = self.plan.cpus.min(self.plan.seats as u32);
        for cpu in 0..cpus {
            let served = self.board.served_by(cpu as usize).load(Acquire);
            report!("note stress: CPU {cpu} served {served} calls");
            if served == 0 && self.plan.messages >= 1000 * u64::from(cpus) {
                self.board.complain(Total::Unanswered, format_args!("CPU {cpu} served nobody"));
            }
        }
    }
}
