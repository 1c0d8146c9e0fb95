//! What a killer does: it makes scene after scene, and kills the tasks in it.
//!
//! It always kills the servers, and most of the clients, in random order, after random times, some
//! as soon as they begin a chosen kind of operation. The other clients must then end by themselves,
//! because every call of a client goes to a server.

use guest_tests::failure::Failure;
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch;
use user_rt::boot;
use user_rt::cap::{Handle, Notification, Task, VSpace};
use user_rt::spawn::own;
use user_rt::{Refusal, report};

use abi::Error;

use super::board::{ACTORS, Board, Doing, Doom, Killer, Of, Total};
use super::scene::{SERVERS, Scene, Stage, house_of, image, plays};

/// Polls for a task to begin the operation at which it is to be killed.
const LOOKS: u64 = 3000;
/// Seconds that killed tasks may take to die, and other tasks to end.
const PATIENCE_SECONDS: u64 = 30;
/// Scenes between two checks for leftovers; after each check scenes get new address spaces.
const LOOK_ROUND: u64 = 64;

struct Storm<'a> {
    stage: Stage<'a>,
    board: &'static Board,
    me: usize,
    random: Random,
    /// The tasks that were killed.
    killed: [bool; ACTORS],
    plays: u64,
}

/// Entry of a killer.
pub extern "C" fn killer(me: u64) -> ! {
    let board = Board::open();
    let me = me as usize;
    if let Some(image) = image() {
        let none = || VSpace::at(abi::Cap::NULL);
        let stage = Stage { board, me, image: &image, spaces: [none(), none()] };
        let random = Random::new(board.get(Total::Seed), me as u64);
        let mut storm = Storm { stage, board, me, random, killed: [false; ACTORS], plays: 0 };
        if let Err(failure) = storm.scenes() {
            board.complain(
                Total::Wrong,
                format_args!("killer {me} at step {}: {failure}", board.killers[me].get(Killer::Step)),
            );
        }
    } else {
        board.add(Total::Wrong, 1);
    }
    board.killers[me].set(Killer::Through, 1);
    loop {
        let _ = user_rt::ipc::recv();
    }
}

impl Storm<'_> {
    fn step(&self, number: u64, detail: u64) {
        self.board.killers[self.me].set(Killer::Step, number);
        self.board.killers[self.me].set(Killer::Detail, detail);
        self.board.add(Total::Life, 1);
    }

    fn scenes(&mut self) -> Result<(), Failure> {
        let all = self.stage.clear()?;
        let all_spaces = self.stage.renew_spaces()?;
        for number in 1.. {
            if self.board.get(Total::Kills) >= self.board.get(Total::Goal) || self.board.wrong() > 0 {
                break;
            }
            self.step(1, number);
            self.plays = self.random.next() & plays::ALL;
            self.killed = [false; ACTORS];
            self.board.killers[self.me].set(Killer::Scene, number);
            self.board.killers[self.me].set(Killer::Plays, self.plays);
            let scene = self.stage.make(self.plays, &mut self.random)?;
            self.step(2, 0);
            for task in &scene.tasks {
                self.unless_dead(task.resume())?;
            }
            self.play(&scene)?;
            self.step(8, 0);
            let left = self.stage.clear()?;
            if left < all {
                self.board.add(Total::LeakedPages, (all - left).div_ceil(abi::PAGE_SIZE));
                report!("error fuzz: scene {number} of killer {}: {left} bytes of {all} came back", self.me);
            }
            if number % LOOK_ROUND == 0 {
                self.stage.look_for_left_overs();
                self.step(9, 0);
                let left = self.stage.renew_spaces()?;
                self.board.add(Total::LeakedPages, (all_spaces - left).div_ceil(abi::PAGE_SIZE));
            }
            self.board.add(Total::Scenes, 1);
        }
        Ok(())
    }

    fn play(&mut self, scene: &Scene) -> Result<(), Failure> {
        if self.random.chance(8) {
            // The reset kills all of them.
            self.sleep(&scene.note, 10_000);
            (0..ACTORS).for_each(|actor| self.note_kill(actor, Total::ByReset));
            return Ok(());
        }
        let mut order: [usize; ACTORS] = core::array::from_fn(|n| n);
        for n in (1..ACTORS).rev() {
            order.swap(n, self.random.below(n as u64 + 1) as usize);
        }
        for actor in order {
            if !self.killed[actor] && (actor < SERVERS || self.random.chance(65)) {
                self.lie_in_wait(scene, actor);
                self.kill(scene, actor)?;
            }
        }
        self.step(5, 0);
        self.board.killers[self.me].set(Killer::Over, 1);
        self.await_ends(scene);
        Ok(())
    }

    fn sleep(&mut self, note: &Notification, times: u64) {
        // Mostly up to a tenth of a millisecond.
        let most = boot::facts().tsc_hz / times;
        let _ = note.wait_until(arch::now() + self.random.below(most.max(1)));
    }

    fn lie_in_wait(&mut self, scene: &Scene, actor: usize) {
        self.step(3, actor as u64);
        match self.random.below(10) {
            0..2 => {}
            2..5 => self.sleep(&scene.note, 20_000),
            5..6 => self.sleep(&scene.note, 2_000),
            _ => {
                let wanted = Doing::ALL[self.random.below(Doing::ALL.len() as u64) as usize] as u64;
                let seen = |_: &u64| {
                    arch::pause();
                    self.board.actors[self.me][actor].get(Of::Doing) == wanted
                };
                let _ = (0..LOOKS).find(seen);
                for _ in 0..self.random.below(40) {
                    arch::pause();
                }
            }
        }
    }

    /// Counts the kill of a task.
    fn note_kill(&mut self, actor: usize, how: Total) {
        if core::mem::replace(&mut self.killed[actor], true) {
            return;
        }
        // A fault that no task handles ends the faulting task's process.
        self.board.doom_perhaps(self.me, actor);
        self.board.doom(self.me, actor, Doom::Killed);
        if self.board.actors[self.me][actor].get(Of::Done) == 0 {
            self.board.add(Total::Kills, 1);
            if how != Total::Kills {
                self.board.add(how, 1);
            }
        }
    }

    fn kill(&mut self, scene: &Scene, actor: usize) -> Result<(), Failure> {
        let task = &scene.tasks[actor];
        let way = self.random.below(100);
        self.step(4, way << 8 | actor as u64);
        if way < 12 {
            let house = house_of(actor);
            (0..ACTORS)
                .filter(|it| house_of(*it) == house)
                .for_each(|it| self.note_kill(it, Total::ByProcess));
            return Ok(scene.houses[house].process.kill()?);
        }
        self.note_kill(actor, Total::Kills);
        if way < 35 {
            // Not by `spawn::end`, which kills it first.
            self.board.doom(self.me, actor, Doom::Ended);
            own::cnode().revoke(task.cap())?;
            return Ok(own::cnode().delete(task.cap())?);
        }
        self.unless_dead(task.kill())
    }

    /// Accepts that a task is dead already, in scenes where others than the killer end tasks.
    fn unless_dead(&self, done: user_rt::Result<()>) -> Result<(), Failure> {
        match done {
            Err(Refusal { error: Error::BadState, .. })
                if self.plays & (plays::FAULTS | plays::KILLS) != 0 =>
            {
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Waits until killed tasks are dead and others have ended by themselves.
    fn await_ends(&mut self, scene: &Scene) {
        let deadline = arch::now() + PATIENCE_SECONDS * boot::facts().tsc_hz;
        let mut torn = false;
        for actor in 0..ACTORS {
            while self.killed[actor] || self.board.actors[self.me][actor].get(Of::Done) == 0 {
                self.step(6, actor as u64);
                let perhaps = self.killed[actor] || self.board.is_doomed(self.me, actor);
                if perhaps && is_dead(&scene.tasks[actor]) {
                    torn |= !self.killed[actor];
                    break;
                }
                if arch::now() > deadline {
                    let what = if self.killed[actor] { "does not die" } else { "does not come to its end" };
                    self.board
                        .complain(Total::Stuck, format_args!("killer {}: task {actor} {what}", self.me));
                    return self.board.print_scene(self.me);
                }
                let _ = scene.note.wait_until(arch::now() + boot::facts().tsc_hz / 10_000);
            }
        }
        self.board.add(Total::Torn, u64::from(torn));
    }
}

/// Whether a task has ended. Resumes a living task that was started.
fn is_dead(task: &Task) -> bool {
    task.resume().is_err_and(|refusal| matches!(refusal.error, Error::BadState | Error::NoCapability))
}
