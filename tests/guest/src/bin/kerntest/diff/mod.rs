//! `run=diff`: the guest's part of the differential test.
//!
//! Players, in five processes with and without vector state, make random operations on the same
//! groups, Notifications, Replies, SchedContexts and on each other. Before each operation its
//! player exports a snapshot of the kernel's state, and reports the result of its last one (every
//! register, the message words) and the next operation. The harness boots kernels with and without
//! fastpaths with one seed, and their reports and states must agree. Time has no influence:
//! slices and deadlines are so long that none ends, and the order in which the players run follows
//! from their operations.
//!
//! When all players are blocked, the *fixer*, of the lowest priority, unblocks some of them.
//!
//! Options: `seed=`, `steps=`, and `show=`, which selects the one step before which the state is
//! exported.

mod board;
mod choice;
mod player;
mod pool;
mod props;

use abi::{Counter, MEMBER_RIGHTS, Rights, sched_rights};
use guest_tests::board::Part as _;
use user_rt::arch;
use user_rt::cap::{Group, Handle, Notification, Reply, SchedContext};
use user_rt::invoke::{copy, transfer};
use user_rt::layout::slot;
use user_rt::report;
use user_rt::spawn::{Spawned, own};

use crate::lab::{Lab, Place, Wanted};
use crate::suite::{Failure, Outcome, Tally};
use crate::{expect, expect_eq};

pub use board::Board;
use board::{Of, PLAYERS, Where, Word};
use choice::{AGE, Role};
use player::{passive, player};
use props::{BOUND, DONE, GROUPS, NOTES, REPLIES, SPARE, Set, TASKS, TIMES};

/// Place of the fixer among the players: the last.
const FIXER: usize = PLAYERS - 1;
const FIXER_PRIORITY: u8 = 2;
/// Whether each process has vector state. The last one is the fixer's.
const PROCESSES: [bool; 5] = [false, false, true, true, false];
/// The process of each player.
const HOMES: [usize; PLAYERS] = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4];
/// Players that serve only on donated time.
const PASSIVE: [usize; 2] = [2, 7];
/// Players to which a Notification is bound.
const LISTENERS: [usize; BOUND.count as usize] = [1, 4, 8];
/// The roles of all players, in games about calls, about turns, and about both. The fixer is the
/// last.
const ROLES: [[Role; PLAYERS]; 3] = {
    use Role::{Client, Fixer, Server, Turns};
    [
        [Client, Server, Server, Client, Client, Server, Client, Server, Server, Client, Fixer],
        [Turns, Server, Server, Turns, Turns, Turns, Client, Server, Server, Client, Fixer],
        [Turns, Server, Server, Turns, Client, Server, Client, Server, Server, Client, Fixer],
    ]
};
/// Exposures of a group.
const EXPOSURES: u16 = 64;
const STEPS: u64 = 300;

/// Plays one game. Its only test is that the game ends.
pub fn run(lab: &mut Lab<'_>) -> Tally {
    let outcome = play(lab);
    let mut tally = Tally::default();
    tally.add("diff", "game", &outcome.into());
    tally
}

fn play(lab: &mut Lab<'_>) -> Outcome {
    let option = |key, default| {
        user_rt::boot::options().number(key, default).map_err(|bad| Failure::Of(alloc::format!("{bad}")))
    };
    let board = Board::open();
    board.clear();
    let seed = option("seed", 1)?;
    board.set(Word::Random, seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    board.set(Word::Victims, 2);
    let game = Game::new(lab, board, seed as usize % ROLES.len())?;
    game.give_props(lab)?;
    // The players get ready and suspend themselves. The timer interrupts of their first, short
    // slices pass meanwhile.
    game.resume()?;
    lab.settle();
    lab.sleep(user_rt::boot::facts().tsc_hz / 10);
    let before = counters()?;
    let interrupts = || own::machine().counter(0, Counter::Interrupt);
    let interrupted = interrupts()?;
    let (began, used) = (arch::now(), game.used()?);
    board.set(Word::Shown, option("show", 0)?);
    board.set(Word::Steps, option("steps", STEPS)?);
    game.resume()?;
    lab.done().wait()?;
    let (used, elapsed) = (game.used()? - used, arch::now() - began);
    let steps = board.get(Word::Step);
    for (name, count) in
        counters()?.into_iter().zip(before).map(|((name, now), (_, then))| (name, now - then))
    {
        report!("taken {name}={count}");
    }
    report!("steps {steps}");
    // The moment of an interrupt depends on how long things take.
    expect_eq!(interrupts()?, interrupted, "timer interrupts while time was to play no part");
    // The reports cannot compare the time of each operation, but some player must have been charged
    // for it.
    expect!(used.abs_diff(elapsed) < elapsed / 1000, "{used} ticks were charged, {elapsed} have passed");
    Ok(())
}

/// Counts what the fastpaths served, and why they left the rest to the slow path: the two kernels
/// may differ only in this.
fn counters() -> user_rt::Result<alloc::vec::Vec<(&'static str, u64)>> {
    let of_fastpaths = |name: &str| name.starts_with("fast_") || name.starts_with("miss_");
    let counters = Counter::ALL.iter().filter(|counter| of_fastpaths(counter.name()));
    counters.map(|counter| Ok((counter.name(), own::machine().counter(0, *counter)?))).collect()
}

/// Objects of a game, as the director has them.
struct Game {
    board: &'static Board,
    /// Index into [`ROLES`].
    kind: usize,
    places: [Place; PROCESSES.len()],
    made: alloc::vec::Vec<Spawned>,
    groups: [Group; 2],
}

impl Game {
    fn new(lab: &mut Lab<'_>, board: &'static Board, kind: usize) -> Result<Game, Failure> {
        let mut places = [Place::Own; PROCESSES.len()];
        for (place, vector) in places.iter_mut().zip(PROCESSES) {
            *place = Place::Child(lab.process_alone(vector)?);
        }
        let groups = [lab.nursery.make_group(8, EXPOSURES)?, lab.nursery.make_group(8, EXPOSURES)?];
        let mut game = Game { board, kind, places, made: alloc::vec::Vec::new(), groups };
        for at in 0..PLAYERS {
            let made = game.player(lab, at)?;
            game.made.push(made);
        }
        for at in PASSIVE {
            game.made[at].task.resume()?;
        }
        // The players are in their first receive, and continue with what callers send.
        lab.settle();
        for at in PASSIVE {
            own::cnode().delete(game.made[at].sched.cap())?;
        }
        Ok(game)
    }

    fn player(&self, lab: &mut Lab<'_>, at: usize) -> Result<Spawned, Failure> {
        let board = self.board;
        let role = ROLES[self.kind][at];
        board.players[at].set(Of::Role, role as u64);
        board.players[at].set(Of::Vector, u64::from(PROCESSES[HOMES[at]]));
        let priority = match role {
            Role::Fixer => FIXER_PRIORITY,
            // Each pair has its own priority, or its members have different ones.
            Role::Turns if self.kind == 1 => 30 + 20 * u8::from(at.is_multiple_of(3)),
            Role::Turns => 20 + 10 * board.below(4) as u8,
            Role::Client | Role::Server => 30 + 10 * board.below(2) as u8,
        };
        let entry = if PASSIVE.contains(&at) { passive } else { player };
        let made = lab.task(&Wanted { place: self.places[HOMES[at]], cpu: 0, priority }, entry, at as u64)?;
        // Several ages for each, so that a slice that changes hands is visible.
        let slice = if board.chance(50) { u64::MAX } else { AGE * (1 + at as u64) };
        made.sched.configure(priority, slice)?;
        Ok(made)
    }

    /// Returns the time that all players of a game have used.
    fn used(&self) -> user_rt::Result<u64> {
        let players = self.made.iter().enumerate().filter(|(at, _)| !PASSIVE.contains(at));
        let mut sum = SchedContext::at(slot::SCHED).info()?.used;
        for (_, made) in players {
            sum += made.sched.info()?.used;
        }
        Ok(sum)
    }

    /// Resumes all suspended players.
    fn resume(&self) -> Outcome {
        for (_, made) in self.made.iter().enumerate().filter(|(at, _)| !PASSIVE.contains(at)) {
            made.task.resume()?;
        }
        Ok(())
    }

    /// Gives each player its objects, and exposes the players.
    fn give_props(&self, lab: &mut Lab<'_>) -> Outcome {
        self.join(lab)?;
        self.expose_tasks()?;
        for (index, made) in (0..).zip(&self.made) {
            self.give(lab, &made.task, TASKS.nth(index), Rights::ALL)?;
            if index as usize != FIXER && !PASSIVE.contains(&(index as usize)) {
                self.give(lab, &made.sched, TIMES.nth(index), Rights::ALL)?;
            }
        }
        self.give(lab, &self.made[0].sched, TIMES.weak(), sched_rights::OBSERVE)?;
        self.give(lab, &self.made[0].task, TASKS.weak(), Rights::NONE)?;
        self.give_notes(lab)?;
        self.give_pools(lab)?;
        let fixer = lab.child(self.places[HOMES[FIXER]])?;
        copy(lab.done(), fixer.cnode.slot(DONE), Rights::NOTIFY, 0)?;
        Ok(())
    }

    /// Copies a capability into every process.
    fn give<T: Handle>(
        &self,
        lab: &Lab<'_>,
        object: &T,
        slot: abi::Cap,
        rights: impl Into<T::Rights> + Copy,
    ) -> Outcome {
        for place in self.places {
            copy(object, lab.child(place)?.cnode.slot(slot), rights, 0)?;
        }
        Ok(())
    }

    /// Adds every process to the first group with all rights. In the second group its record may
    /// lack a right that its capability has, as after an earlier membership.
    fn join(&self, lab: &Lab<'_>) -> Outcome {
        let missing = [Rights::NONE, Rights::STRING, Rights::NOTIFY, Rights::SEND, Rights::NONE];
        let first = self.board.below(missing.len() as u64) as usize;
        for (at, place) in self.places.into_iter().enumerate() {
            let child = lab.child(place)?;
            let missing = missing[(first + at) % missing.len()];
            let custom = self.board.random() as u16;
            child.join(&self.groups[0], GROUPS.nth(0), MEMBER_RIGHTS, custom)?;
            let member = child.join(&self.groups[1], GROUPS.nth(1), MEMBER_RIGHTS, !custom)?;
            if missing != Rights::NONE {
                self.groups[1].remove(member)?;
                child.join(&self.groups[1], SPARE.weak(), MEMBER_RIGHTS.minus(missing), !custom)?;
            }
        }
        Ok(())
    }

    /// Exposes an object at a free index of one of the groups.
    fn expose<T: Handle>(&self, object: &T, second: bool) -> Result<Where, Failure> {
        let group = &self.groups[usize::from(second)];
        loop {
            let index = self.board.below(u64::from(EXPOSURES) - 8) as u32;
            let args = abi::Target::new(group.cap(), index).0;
            let answer =
                user_rt::arch::syscall(user_rt::arch::Args::plain(abi::Op::Expose, args, object.arg(), 0, 0));
            match answer.check() {
                Ok(_) => return Ok(Where { second, index }),
                Err(refusal) if refusal.error == abi::Error::SlotOccupied => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    fn expose_tasks(&self) -> Outcome {
        for (at, made) in self.made.iter().enumerate().take(FIXER) {
            let serves = (ROLES[self.kind][at] == Role::Server).then_some(PROCESSES[HOMES[at]]);
            self.board.add_task(self.expose(&made.task, false)?, serves);
            self.board.add_task(self.expose(&made.task, true)?, serves);
            if at.is_multiple_of(3) {
                // As the task of its CPU; the last entries are reserved for that.
                let first = u32::from(EXPOSURES) - 8 + at as u32 / 3;
                let head = self.board.below(u64::from(EXPOSURES) - 8) as u32;
                if self.groups[0].expose_per_cpu(head, first, &made.task).is_ok() {
                    self.board.add_task(Where { second: false, index: head }, serves);
                }
            }
        }
        Ok(())
    }

    /// Makes Notifications and Replies. The fixer gets the first capability of each.
    fn give_notes(&self, lab: &mut Lab<'_>) -> Outcome {
        for index in 0..NOTES.count {
            let note: Notification = lab.nursery.make(0)?;
            self.board.add_note(self.expose(&note, index % 2 == 1)?);
            self.hand_out(lab, note, NOTES, index, Rights::LISTEN)?;
        }
        for (index, listener) in (0..).zip(LISTENERS) {
            let note: Notification = lab.nursery.make(0)?;
            note.bind(&self.made[listener].task)?;
            self.board.add_note(self.expose(&note, index % 2 == 0)?);
            self.hand_out(lab, note, BOUND, index, Rights::NOTIFY)?;
        }
        for index in 0..REPLIES.count {
            let reply: Reply = lab.nursery.make(0)?;
            self.hand_out(lab, reply, REPLIES, index, Rights::NONE)?;
        }
        Ok(())
    }

    fn hand_out<T: Handle>(&self, lab: &Lab<'_>, object: T, set: Set, index: u32, weak: Rights) -> Outcome {
        let (fixer, others) = self.places.split_last().ok_or(Failure::Of("nobody plays".into()))?;
        for place in others {
            let cnode = &lab.child(*place)?.cnode;
            copy(&object, cnode.slot(set.nth(index)), Rights::ALL, 0)?;
            if index == 0 {
                copy(&object, cnode.slot(set.weak()), weak, 0)?;
            }
        }
        Ok(transfer(object, lab.child(*fixer)?.cnode.slot(set.nth(index)))?)
    }
}
