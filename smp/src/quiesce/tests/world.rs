//! Random worlds: CPUs take steps in random order, keep loaded references until their entry ends,
//! send each other messages about objects, empty slots and unlink objects. Whenever the protocol
//! reports that an object is unreachable, the world checks that. At the end the protocol must have
//! reported all unlinked objects.

use super::*;

#[repr(C, align(64))]
struct Thing {
    header: u64,
}

crate::kernel_objects! {
    enum Objects(header: u64) {
        Thing = 1, abi::SharedRights;
    }
}

/// A small generator of its own, so that a seed never changes its meaning (xorshift*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    User,
    Kernel,
    Idle(Idle),
}

/// One simulated CPU.
struct Player {
    mode: Mode,
    /// Must drain before anything else: it entered by an interrupt, or out of idle.
    drains: bool,
    /// Objects that the present entry found linked; it may send messages about them.
    loaded: Vec<usize>,
    /// Objects that the present entry took messages about.
    handled: Vec<usize>,
    /// Fillings of the slot that the present entry has read.
    readings: Vec<u64>,
}

impl Player {
    fn end_entry(&mut self) {
        self.loaded.clear();
        self.handled.clear();
        self.readings.clear();
    }

    fn uses(&self, object: usize) -> bool {
        self.loaded.contains(&object) || self.handled.contains(&object)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Linked,
    Unlinked(Ticket),
    Freed,
}

struct World {
    system: System,
    players: Vec<Player>,
    dice: Dice,
    lives: Vec<Life>,
    /// Messages under way about each object.
    under_way: Vec<usize>,
    slot: ObjWord<Objects>,
    /// Which filling of the slot is in it, or was last.
    filling: u64,
}

impl World {
    fn new(cpus: usize, seed: u64) -> World {
        let player = |_| Player {
            mode: Mode::User,
            drains: false,
            loaded: Vec::new(),
            handled: Vec::new(),
            readings: Vec::new(),
        };
        let world = World {
            system: system(cpus),
            players: (0..cpus).map(player).collect(),
            dice: Dice(seed.wrapping_mul(2) + 1),
            lives: Vec::new(),
            under_way: Vec::new(),
            slot: ObjWord::empty(),
            filling: 0,
        };
        world.slot.set(leak(Thing { header: 0 }), 0);
        world
    }

    fn step(&mut self, n: usize) {
        match self.players[n].mode {
            Mode::User => {
                let called = self.system.interrupts.borrow_mut().remove(&cpu(n));
                if called || self.dice.one_in(2) {
                    self.players[n].mode = Mode::Kernel;
                    self.players[n].drains = called;
                }
            }
            Mode::Idle(how) => {
                let polled = how == Idle::Poll && self.system.mailbox(n).has_mail();
                let called = self.system.interrupts.borrow_mut().remove(&cpu(n));
                if called || polled || self.dice.one_in(20) {
                    end_idle(&mut local_entry(self.system.block(n)));
                    self.players[n].mode = Mode::Kernel;
                    self.players[n].drains = true;
                }
            }
            Mode::Kernel if self.players[n].drains => self.drain(n),
            Mode::Kernel => match self.dice.below(12) {
                0..4 => self.load(n),
                4 | 5 => self.tell(n),
                6 => self.unlink(n),
                7 => self.retire_or_reuse(n),
                8 => self.drain(n),
                _ => self.leave(n),
            },
        }
        self.check();
    }

    fn drain(&mut self, n: usize) {
        let (system, under_way) = (&self.system, &mut self.under_way);
        let player = &mut self.players[n];
        let entry = entry(n);
        let pin = entry.pin();
        let left = system.mailbox(n).inbox(pin).drain(2, |mail| match mail {
            Mail::Grace(mail) => receive(system, pin, mail),
            Mail::About(object) => {
                under_way[object] -= 1;
                player.handled.push(object);
            }
        });
        player.drains = left == Drained::More;
    }

    fn load(&mut self, n: usize) {
        let linked: Vec<_> = (0..self.lives.len()).filter(|o| self.lives[*o] == Life::Linked).collect();
        if !linked.is_empty() {
            let pick = self.dice.below(linked.len());
            self.players[n].loaded.push(linked[pick]);
        }
        if self.slot.load(pin(n)).object_type() != 0 {
            self.players[n].readings.push(self.filling);
        }
    }

    /// Sends a message about something that the entry found linked, whatever has become of it
    /// since.
    fn tell(&mut self, n: usize) {
        let to = self.dice.below(self.players.len());
        let Some(object) = self.players[n].loaded.last().copied() else {
            return;
        };
        self.under_way[object] += 1;
        let node = leak(Node::new(cpu(n)));
        if self.system.mailbox(to).push(pin(n), node, Mail::About(object)).is_needed() {
            self.system.interrupt(cpu(to));
        }
    }

    fn unlink(&mut self, n: usize) {
        match self.lives.iter().position(|life| *life == Life::Linked) {
            Some(object) if self.dice.one_in(2) => {
                self.lives[object] = Life::Unlinked(request_quiet(&self.system, pin(n)));
            }
            _ => {
                self.lives.push(Life::Linked);
                self.under_way.push(0);
            }
        }
    }

    fn retire_or_reuse(&mut self, n: usize) {
        let word = self.slot.load(pin(n));
        if word.object_type() != 0 {
            self.system.all.epoch.retire(&self.slot);
        } else if self.system.all.epoch.is_reusable(word.empty_value()) {
            let old = self.filling;
            assert!(
                self.players.iter().all(|p| !p.readings.contains(&old)),
                "the slot is reused while an entry uses what it read there"
            );
            self.filling += 1;
            self.slot.set(leak(Thing { header: 0 }), 0);
        } else {
            request_epoch(&self.system, pin(n), word.empty_value() + 2);
        }
    }

    fn leave(&mut self, n: usize) {
        let mut entry = local_entry(self.system.block(n));
        self.players[n].end_entry();
        if self.system.all.grace(pin(n)).is_unsettled() {
            let _ = settle(&self.system, entry.quiescent());
        }
        if self.dice.one_in(4) {
            let how = if self.dice.one_in(2) { Idle::Halt } else { Idle::Poll };
            match go_idle(&mut entry, how) {
                true => self.players[n].mode = Mode::Idle(how),
                false => self.players[n].drains = true,
            }
            return;
        }
        if self.dice.one_in(2) {
            left_by_iret(&mut entry);
        }
        self.players[n].mode = Mode::User;
    }

    /// Frees what the protocol says is unreachable, and knows better.
    fn check(&mut self) {
        for (object, life) in self.lives.iter_mut().enumerate() {
            if let Life::Unlinked(ticket) = *life
                && is_quiet(&self.system, pin(0), ticket)
            {
                assert_eq!(self.under_way[object], 0, "freed with a message under way");
                assert!(!self.players.iter().any(|p| p.uses(object)), "freed while an entry uses it");
                *life = Life::Freed;
            }
        }
    }

    /// Runs down: no CPU starts anything new, and each does what it must.
    fn run_down(&mut self) {
        for _ in 0..40 {
            for n in 0..self.players.len() {
                match self.players[n].mode {
                    Mode::Kernel => {
                        self.drain(n);
                        self.players[n].end_entry();
                        let _ = settle(&self.system, &mut entry(n));
                        if !self.players[n].drains {
                            self.players[n].mode = Mode::User;
                        }
                    }
                    Mode::User if !self.system.interrupts.borrow().contains(&cpu(n)) => {}
                    _ => self.step(n),
                }
                self.check();
            }
        }
    }
}

#[test]
fn nothing_is_reused_too_early_or_never() {
    let (mut freed, mut reused) = (0, 0);
    let seeds = if cfg!(miri) { 6 } else { 3000 };
    for seed in 0..seeds {
        let cpus = 1 + seed as usize % 5;
        let mut world = World::new(cpus, seed);
        for _ in 0..400 {
            let n = world.dice.below(cpus);
            world.step(n);
        }
        world.run_down();
        let stuck = world.lives.iter().any(|life| matches!(life, Life::Unlinked(_)));
        assert!(!stuck, "seed {seed}: a quiet period does not end");
        freed += world.lives.iter().filter(|life| **life == Life::Freed).count() as u64;
        reused += world.filling;
    }
    assert!(freed > seeds && reused > seeds, "{freed} freed, {reused} reused: the test is idle");
}
