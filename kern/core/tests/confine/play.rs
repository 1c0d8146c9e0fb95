//! Plays one case: operations one after the other, each judged by the pictures before and after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use abi::{FaultAnswer, MsgInfo, ObjType, Op, RegIndex, Rights, Target, task_rights};
use confine::{Bound, Excess, Judge, Ledger, Mark, Offer, OfferKind, Picture};
use kern_base::task::State;
use smp::host_test;
use snapshot::Task;

use crate::acts::{Act, Chooser, listening};
use crate::cast::{Cast, POOL_BIT, WINDOW, WINDOW_BYTES};
use crate::pick::{self, Held};
use crate::rounds::{Focus, Pairs};
use crate::world::check::record;
use crate::world::dice::Dice;
use crate::world::machine::DEVICES;
use crate::world::{AFTER, Regs, Tcb};

/// Operations of a case.
const OPERATIONS: usize = 160;
/// Turns of others until a task must have had its own.
const TURNS: usize = 24;
/// The place of the first mark in the UTCB: the message registers come before.
const IN_UTCB: u32 = 4;
/// The places of marks in other registers, and in long arguments.
const IN_REGISTERS: u8 = 80;
const IN_BULK: u8 = 100;

/// What a case has come to.
#[derive(Default, Clone, Debug)]
pub struct Outcome {
    pub operations: u64,
    pub done: u64,
    pub exceeded: Vec<Excess>,
    pub leaked: Vec<String>,
    /// By the operation's number: how often it was tried, and how often nothing was wrong with it.
    pub tried: BTreeMap<u8, (u32, u32)>,
    /// By the operation's number and the error: how often it was refused.
    pub refused: BTreeMap<(u8, String), u32>,
    pub pairs: Pairs,
}

/// A system call that a task is about to make.
pub struct Made {
    pub task: Tcb,
    pub me: Task,
    pub held: Vec<Held>,
    pub op: Op,
    pub act: Act,
    written: u32,
}

/// A message whose sender waits: its mark may reach the task that is exposed there by then.
struct Sending {
    task: u64,
    act: u32,
    regs: Regs,
}

pub struct Play {
    pub cast: Cast,
    pub dice: Dice,
    pub before: Picture,
    pub after: Picture,
    judge: Judge,
    bound: Bound,
    pub ledger: Ledger,
    pub numbers: Numbers,
    offers: Vec<Offer>,
    sending: Vec<Sending>,
    /// Tasks that were given registers, and by which acts.
    given: Vec<(u64, u32)>,
    tell: bool,
    /// Somebody has set labels in this case.
    pub relabelled: bool,
    /// Rules that are left out.
    without: Vec<String>,
    pub outcome: Outcome,
}

/// The numbers by which marks name processes, in the order in which the processes were first seen:
/// their identities.
#[derive(Default)]
pub struct Numbers(RefCell<Vec<u64>>);

impl Numbers {
    /// Returns the number of a process, as marks have it; 0 for none.
    pub fn of(&self, picture: &Picture, process: u64) -> u32 {
        let Some(identity) = picture.process(process).map(|process| process.identity) else { return 0 };
        let mut seen = self.0.borrow_mut();
        let number = seen.iter().position(|it| *it == identity).unwrap_or_else(|| {
            seen.push(identity);
            seen.len() - 1
        });
        (number as u32 + 1) & 63
    }

    /// Returns the number as a bit.
    fn bit(&self, picture: &Picture, process: u64) -> u64 {
        1 << self.of(picture, process)
    }
}

impl Play {
    pub fn new(seed: u64, tell: bool, rich: bool, without: &[String]) -> Play {
        let mut dice = Dice::new(seed);
        let cast = Cast::new(&mut dice, rich);
        let mut play = Play {
            cast,
            dice,
            before: Picture::default(),
            after: Picture::default(),
            judge: Judge::new(POOL_BIT),
            bound: Bound::default(),
            ledger: Ledger::default(),
            numbers: Numbers::default(),
            offers: Vec::new(),
            sending: Vec::new(),
            given: Vec::new(),
            tell,
            relabelled: false,
            without: without.to_vec(),
            outcome: Outcome::default(),
        };
        play.look();
        play.begin();
        play
    }

    /// Takes the picture before the next operation.
    fn look(&mut self) {
        record(&self.cast.w, self.before.begin());
        self.before.index();
    }

    fn begin(&mut self) {
        let init = self.cast.w.init_process().addr();
        self.bound = Bound::of(&self.before, &[init]);
        let owners: Vec<u64> = self.before.s.processes.iter().map(|process| process.at).collect();
        for owner in owners.into_iter().filter(|owner| *owner != init) {
            self.write_page(owner, true);
        }
        self.write_unseen();
        self.write_registers();
    }

    /// Tasks that are suspended have marks in their registers.
    fn write_registers(&mut self) {
        for tcb in self.cast.tasks.clone() {
            let Some(task) = self.before.task(tcb.object.addr()).filter(|task| task.suspended).copied()
            else {
                continue;
            };
            let act = self.ledger.write(self.numbers.of(&self.before, task.owner), None);
            self.given.push((task.at, act));
            let registers = [RegIndex::Rbx, RegIndex::Rbp, RegIndex::R8, RegIndex::R12, RegIndex::R15];
            let mark = |register: RegIndex| Mark { act, place: IN_BULK + register as u8 }.word();
            registers.into_iter().for_each(|it| self.cast.w.bulk(0, it as usize, mark(it)));
            self.cast.w.bulk(0, RegIndex::Rip as usize, AFTER);
            let _ = self.cast.w.ask(0, Op::TaskWriteRegs, &[tcb.cap.arg()]);
            registers.into_iter().chain([RegIndex::Rip]).for_each(|it| self.cast.w.bulk(0, it as usize, 0));
        }
        self.look();
    }

    /// What nobody sees has marks, too: pages of spaces in which nobody lives, and memory of which
    /// nothing is made yet. Of the latter nobody may ever see what is in it.
    fn write_unseen(&mut self) {
        let hidden =
            self.before.views().iter().filter(|view| self.before.resident(view.space) == 0 && view.present);
        let pages: Vec<u64> = hidden.map(|view| view.page).filter(|page| *page < DEVICES).collect();
        for page in pages {
            let label = self.before.owner_of(page).map(|thing| thing.label);
            let act = self.ledger.write(0, label);
            host_test::words(page, 1)[0].store(Mark { act, place: 0 }.word(), Relaxed);
        }
        let init = self.cast.w.init_process().addr();
        let held = |at: u64| {
            self.before.slots().any(|slot| slot.object == at && self.before.holder(slot.table) != init)
        };
        let free = self.before.s.untypeds.iter().filter(|it| held(it.at));
        let act = self.ledger.write(0, None);
        for untyped in free {
            let free = untyped.base + untyped.low..untyped.base + untyped.size - untyped.high;
            for page in
                (free.start.next_multiple_of(abi::PAGE_SIZE)..free.end).step_by(abi::PAGE_SIZE as usize)
            {
                host_test::words(page, 1)[0].store(Mark { act, place: 0 }.word(), Relaxed);
            }
        }
    }

    /// Plays all operations, or until something is wrong.
    pub fn run(&mut self) {
        for _ in 0..OPERATIONS {
            if !self.step() || self.is_wrong() {
                break;
            }
        }
    }

    pub fn step(&mut self) -> bool {
        // Before others are let go on: a message that arrives then takes the slots that it fills
        // out of the offer.
        self.offer();
        let Some(task) = self.choose() else { return self.wake() };
        let mut acts = vec![self.owner(&task)];
        // Who had to make a system call again may do so while others are let go on.
        self.may_go_on(&mut acts);
        if !self.bring_on(&task) {
            return self.wake();
        }
        self.may_go_on(&mut acts);
        self.act(&task, &acts);
        true
    }

    // --- who acts --------------------------------------------------------------------------------

    fn choose(&mut self) -> Option<Tcb> {
        let ready = self.ready();
        (!ready.is_empty()).then(|| ready[self.dice.below(ready.len())])
    }

    /// The tasks that may make a system call now.
    pub fn ready(&self) -> Vec<Tcb> {
        let init = self.cast.w.init_process().addr();
        let ready = |tcb: &&Tcb| {
            let task = self.before.task(tcb.object.addr());
            let its = |task: &Task| {
                task.id == tcb.id.raw() && task.owner != init && !task.suspended && !task.ending
            };
            task.is_some_and(its) && tcb.is_through()
        };
        self.cast.tasks.iter().filter(ready).copied().collect()
    }

    /// Others of its CPU, which are its equals, let a task run.
    pub fn bring_on(&mut self, task: &Tcb) -> bool {
        let n = task.home();
        for _ in 0..TURNS {
            match self.cast.w.current(n) {
                Some(current) if current == task.object => return true,
                Some(current) => {
                    if !self.cast.tasks.iter().any(|tcb| tcb.object == current) {
                        self.cast.tasks.push(Tcb::new(abi::Cap::NULL, abi::Cap::NULL, current));
                    }
                    self.cast.w.issue(n, Regs::op(Op::Yield, &[]));
                }
                None => return false,
            }
            self.cast.w.run();
        }
        false
    }

    /// Process 1 wakes somebody who waits; whether that can help.
    fn wake(&mut self) -> bool {
        let waits = |tcb: &&Tcb| {
            let hot = self.before.task(tcb.object.addr()).filter(|task| task.id == tcb.id.raw());
            hot.is_some_and(|task| !task.ending && task.state != snapshot::State::Dead)
        };
        let waiting: Vec<Tcb> =
            self.cast.tasks.iter().filter(waits).filter(|tcb| tcb.cap.0 != 0).copied().collect();
        if waiting.is_empty() {
            return false;
        }
        let chosen = waiting[self.dice.below(waiting.len())];
        self.outcome.operations += 1;
        let op = if self.dice.once_in(2) { Op::TaskCancel } else { Op::TaskResume };
        let _ = self.cast.w.ask(0, op, &[chosen.cap.arg()]);
        self.cast.w.run();
        let mut acts = vec![self.cast.w.init_process().addr()];
        self.may_go_on(&mut acts);
        self.conclude(&acts);
        true
    }

    // --- what it does ----------------------------------------------------------------------------

    fn act(&mut self, task: &Tcb, acts: &[u64]) {
        let Some(me) = self.before.task(task.object.addr()).copied() else { return };
        let faults = self.dice.once_in(60);
        let held = pick::holdings(&self.before, me.owner);
        let op = pick::operation(&mut self.dice, me.caller != 0, &held);
        let Some(made) = self.make(task, op, None) else { return };
        self.carry_out(&made, faults);
        self.conclude(acts);
        if self.dice.once_in(4) {
            self.write_page(me.owner, false);
        }
    }

    /// Chooses the arguments of an operation, and writes what it carries.
    pub fn make(&mut self, task: &Tcb, op: Op, focus: Option<&Focus>) -> Option<Made> {
        let me = self.before.task(task.object.addr()).copied()?;
        let held = pick::holdings(&self.before, me.owner);
        let player = self.numbers.of(&self.before, me.owner) as usize % 9;
        let cpus = self.cast.w.cpus() as u32;
        let (picture, dice) = (&self.before, &mut self.dice);
        let mut act = Chooser { picture, me: &me, held: &held, dice, cpus, player, op, focus }.act(op);
        let written = self.write(task, &me, op, &mut act);
        self.offer_of(&me);
        Some(Made { task: *task, me, held, op, act, written })
    }

    /// Makes a system call, or faults instead. Returns whether nothing was wrong with it.
    pub fn carry_out(&mut self, made: &Made, faults: bool) -> bool {
        self.announce(made);
        if faults {
            self.fault(&made.task, &made.me);
        } else {
            self.cast.w.issue(made.task.home(), made.act.regs);
            self.cast.w.run();
        }
        self.see_through(made, faults)
    }

    /// Lets a task make its system call again until it is over, or waits.
    pub fn see_through(&mut self, made: &Made, faults: bool) -> bool {
        for _ in 0..TURNS {
            if !made.task.must_restart() || !self.bring_on(&made.task) {
                break;
            }
            self.cast.w.run();
        }
        self.note(made, faults)
    }

    /// Says to the ledger who may see what a system call brings about.
    pub fn announce(&mut self, made: &Made) {
        self.expect(&made.task, &made.me, &made.held, made.op, &made.act, made.written);
    }

    /// As [`announce`](Play::announce), by what everything is like afterwards.
    pub fn announce_after(&mut self, made: &[&Made]) {
        record(&self.cast.w, self.after.begin());
        self.after.index();
        core::mem::swap(&mut self.before, &mut self.after);
        for made in made {
            let held = pick::holdings(&self.before, made.me.owner);
            let me = self.before.task(made.me.at).copied().unwrap_or(made.me);
            self.expect(&made.task, &me, &held, made.op, &made.act, made.written);
        }
        core::mem::swap(&mut self.before, &mut self.after);
    }

    pub fn is_wrong(&self) -> bool {
        !self.outcome.exceeded.is_empty() || !self.outcome.leaked.is_empty()
    }

    pub fn owner(&self, task: &Tcb) -> u64 {
        self.before.task(task.object.addr()).map_or(0, |task| task.owner)
    }

    /// Takes the picture after an operation, judges, and goes on from it.
    pub fn conclude(&mut self, acts: &[u64]) {
        record(&self.cast.w, self.after.begin());
        self.after.index();
        self.check(acts);
        core::mem::swap(&mut self.before, &mut self.after);
    }

    /// Adds the processes whose tasks wait for something, are suspended, or have to make a system
    /// call again.
    pub fn may_go_on(&self, acts: &mut Vec<u64>) {
        let unfinished = self.cast.tasks.iter().filter(|tcb| tcb.must_restart());
        let unfinished =
            unfinished.filter_map(|tcb| self.before.task(tcb.object.addr())).map(|task| task.owner);
        let suspended = self.before.s.tasks.iter().filter(|task| task.suspended && task.owner != 0);
        let suspended = suspended.map(|task| task.owner);
        for other in unfinished.chain(suspended).chain(self.before.pending()) {
            if !acts.contains(&other) {
                acts.push(other);
            }
        }
    }

    /// Writes marks wherever the task can, and what the system call carries: the number of the act.
    fn write(&mut self, task: &Tcb, me: &Task, op: Op, act: &mut Act) -> u32 {
        let number = self.numbers.of(&self.before, me.owner);
        let written = self.ledger.write(number, None);
        let mark = |place: u32| Mark { act: written, place: place as u8 }.word();
        let utcb = task.object.get().utcb(task.pin());
        for (word, place) in utcb.msg.iter().zip(IN_UTCB..) {
            word.store(mark(place), Relaxed);
        }
        for (word, place) in utcb.bulk.iter().zip(0..abi::REG_COUNT as u32) {
            word.store(mark(u32::from(IN_BULK) + place), Relaxed);
        }
        for (register, value) in [
            (RegIndex::Rip, AFTER),
            (RegIndex::Rsp, 0x1000),
            (RegIndex::Rflags, 0x202),
            (RegIndex::FsBase, 0),
        ] {
            utcb.bulk[register as usize].store(value, Relaxed);
        }
        utcb.bulk[RegIndex::GsBase as usize].store(0, Relaxed);
        utcb.user[0].store(mark(u32::from(IN_REGISTERS) + 8), Relaxed);
        utcb.listening.store(listening(&mut self.dice).word(), Relaxed);
        utcb.window[0].store(WINDOW, Relaxed);
        utcb.window[1].store(WINDOW_BYTES, Relaxed);
        utcb.grant_count.store(act.grants.len() as u64, Relaxed);
        for (words, grant) in utcb.grants.iter().zip(&act.grants) {
            words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
        }
        utcb.range_count.store(act.ranges.len() as u64, Relaxed);
        for (words, range) in utcb.ranges.iter().zip(&act.ranges) {
            words.iter().zip(range.words()).for_each(|(word, value)| word.store(value, Relaxed));
        }
        let regs = &task.hot().regs;
        for (register, place) in [&regs.rbx, &regs.rbp, &regs.r13, &regs.r14, &regs.r15].into_iter().zip(0..)
        {
            register.set(mark(u32::from(IN_REGISTERS) + place));
        }
        if is_message(op) {
            [act.regs.rdx, act.regs.r8, act.regs.r9, act.regs.r10] = [0, 1, 2, 3].map(mark);
            let answers_at = FaultAnswer::ResumeAt.label();
            let fault = self.before.task(me.caller).is_some_and(|caller| caller.in_fault);
            if fault && MsgInfo(act.regs.rax).label() == answers_at {
                act.regs.r8 = AFTER;
            }
        }
        written
    }

    /// A task's program writes a mark into a page that it can write.
    fn write_page(&mut self, owner: u64, everywhere: bool) {
        let Some(space) = self.before.process(owner).map(|process| process.vspace) else { return };
        let mine =
            self.before.views().iter().filter(|view| view.space == space && view.present && !view.plain);
        let pages: Vec<u64> = mine.filter(|view| view.writable).map(|view| view.page).collect();
        for page in pages {
            if page >= DEVICES || !everywhere && !self.dice.once_in(2) {
                continue;
            }
            let label = self.before.owner_of(page).map(|thing| thing.label);
            let act = self.ledger.write(self.numbers.of(&self.before, owner), label);
            let place = self.dice.below(8) as u8;
            let mark = Mark { act, place };
            host_test::words(page, 8)[usize::from(place)].store(mark.word(), Relaxed);
            let views = self.before.views_of(page).filter(|view| view.present);
            let readers = views.map(|view| self.before.resident(view.space)).filter(|at| *at != 0);
            let readers = readers.fold(0, |all, at| all | self.numbers.bit(&self.before, at));
            self.ledger.show(mark, readers);
        }
    }

    /// What everybody offers for messages.
    pub fn offer(&mut self) {
        self.offers.clear();
        for task in
            self.before.s.tasks.iter().filter(|task| task.id != 0 && !task.in_fault && task.owner != 0)
        {
            self.offers.extend(offers_of(task));
        }
        for pool in self.before.s.pools.iter().filter(|pool| pool.process != 0) {
            let control = host_test::words(pool.base, 4);
            self.offers.push(slots(pool.process, control[2].load(Relaxed)));
            let window = abi::events::Window::from_word(control[3].load(Relaxed));
            let count = window.pages * abi::PAGE_SIZE;
            let kind = OfferKind::Addresses;
            self.offers.push(Offer { process: pool.process, first: window.address, count, kind });
        }
    }

    /// What a task offers now that it has written its UTCB, beside what everybody offered before.
    fn offer_of(&mut self, task: &Task) {
        self.offers.extend(offers_of(task));
    }

    // --- who may see what ------------------------------------------------------------------------

    /// Says to the ledger who may come to see what this operation brings about.
    fn expect(&mut self, task: &Tcb, me: &Task, held: &[Held], op: Op, act: &Act, written: u32) {
        for index in 0..self.sending.len() {
            let Sending { task, act, regs } = self.sending[index];
            if let Some(sender) = self.before.task(task).copied() {
                let (words, readers) = self.readers(&sender, &regs);
                self.ledger.send(act, words, readers);
            }
        }
        let (words, readers) = self.readers(me, &act.regs);
        self.ledger.send(written, words, readers);
        let target = act.regs.rdi >> 32;
        let named = held.iter().find(|held| u64::from(held.number) == target);
        let with =
            |need: Rights| named.filter(|it| Rights(it.slot.rights).contains(need)).map(|it| it.slot.object);
        match op {
            Op::TaskReadRegs => {
                let other = with(task_rights::REGISTERS.rights()).and_then(|at| self.tcb(at));
                let reader = self.numbers.bit(&self.before, me.owner);
                if let Some(other) = other {
                    self.show_frame(&other, reader);
                }
                let given = with(task_rights::REGISTERS.rights()).map_or(Vec::new(), |at| self.given_to(at));
                given.into_iter().for_each(|mark| self.ledger.show(mark, reader));
            }
            Op::TaskWriteRegs => {
                let owner = with(task_rights::REGISTERS.rights()).and_then(|at| self.before.task(at));
                let readers = owner.map_or(0, |task| self.numbers.bit(&self.before, task.owner));
                self.given.extend(owner.map(|task| (task.at, written)));
                self.show_bulk(task, readers);
            }
            Op::Reply | Op::ReplyRecv => {
                let kept = self.before.s.replies.iter().find(|reply| Some(reply.at) == with(Rights::SEND));
                let caller = if act.regs.rdi == 0 { me.caller } else { kept.map_or(0, |reply| reply.caller) };
                let faulter = self.before.task(caller).filter(|caller| caller.in_fault);
                let readers = faulter.map_or(0, |task| self.numbers.bit(&self.before, task.owner));
                self.show_bulk(task, readers);
            }
            Op::Forward => {
                // A fault stays one: the registers go along.
                let faulter =
                    self.before.task(me.caller).filter(|caller| caller.in_fault).map(|task| task.at);
                if let Some(faulter) = faulter.and_then(|at| self.tcb(at)) {
                    self.show_frame(&faulter, readers);
                }
            }
            _ => {}
        }
    }

    /// The marks in registers that were written to a task.
    fn given_to(&self, task: u64) -> Vec<Mark> {
        let acts = self.given.iter().filter(|(to, _)| *to == task).map(|(_, act)| *act);
        let places = IN_BULK..IN_BULK + abi::REG_COUNT as u8;
        acts.flat_map(|act| places.clone().map(move |place| Mark { act, place })).collect()
    }

    fn tcb(&self, at: u64) -> Option<Tcb> {
        self.cast.tasks.iter().find(|tcb| tcb.object.addr() == at).copied()
    }

    /// How many words of a message go out, and to which processes.
    fn readers(&self, me: &Task, regs: &Regs) -> (u32, u64) {
        let picture = &self.before;
        let info = MsgInfo(regs.rax);
        let Some(op) = Op::from_raw(regs.rax as u8) else { return (0, 0) };
        let target = Target(regs.rdi);
        let its = |slot: &&snapshot::Slot| picture.holder(slot.table) == me.owner;
        let numbered =
            |slot: &&snapshot::Slot| picture.number_in(me.owner, slot) == u64::from(target.cap().0);
        let slot = picture.slots().filter(its).find(numbered);
        if matches!(op, Op::Reply | Op::ReplyRecv) {
            let kept = slot.and_then(|slot| picture.s.replies.iter().find(|reply| reply.at == slot.object));
            let caller = if regs.rdi == 0 { me.caller } else { kept.map_or(0, |reply| reply.caller) };
            let readers = picture.task(caller).map_or(0, |caller| self.numbers.bit(picture, caller.owner));
            return (IN_UTCB + info.words() as u32, readers);
        }
        if !is_message(op) {
            return (0, 0);
        }
        let Some(slot) = slot.filter(|slot| slot.kind == ObjType::Group as u8) else { return (0, 0) };
        let Some(says) = picture.member(slot.object, slot.badge / 8) else { return (0, 0) };
        let key = picture.process(me.owner).map(|process| process.key);
        let may = |need: Rights| Rights(slot.rights).and(says.rights).contains(need);
        if key != Some(says.key) || !may(Rights::SEND) {
            return (0, 0);
        }
        let words = if may(Rights::STRING) { IN_UTCB + info.words() as u32 } else { IN_UTCB };
        if op == Op::Broadcast {
            let listening = picture.members(slot.object).filter(|says| says.rights.contains(Rights::LISTEN));
            let listening = listening.filter_map(|says| picture.process_with(says.key));
            return (words, listening.fold(0, |all, process| all | self.numbers.bit(picture, process.at)));
        }
        // What is forwarded goes by way of the caller's UTCB.
        let way = picture
            .task(me.caller)
            .filter(|_| op == Op::Forward)
            .map_or(0, |task| self.numbers.bit(picture, task.owner));
        (words, self.behind(slot.object, target.index()) | way)
    }

    /// The processes of the tasks that an exposure shows.
    fn behind(&self, group: u64, index: u32) -> u64 {
        let picture = &self.before;
        let Some(exposure) = picture.exposure(group, index) else { return 0 };
        let range = match exposure.per_cpu {
            0 => index..index + 1,
            first => first - 1..first - 1 + self.cast.w.cpus() as u32,
        };
        let shown = range.filter_map(|number| picture.exposure(group, number)).map(|it| picture.exposed(it));
        let owners = shown.filter_map(|at| picture.task(at)).map(|task| task.owner);
        owners.fold(0, |all, owner| all | self.numbers.bit(picture, owner))
    }

    fn show_frame(&mut self, of: &Tcb, readers: u64) {
        for mark in crate::scan::registers(of).into_iter().filter_map(Mark::of) {
            self.ledger.show(mark, readers);
        }
    }

    fn show_bulk(&mut self, of: &Tcb, readers: u64) {
        let bulk = &of.object.get().utcb(of.pin()).bulk;
        for mark in bulk[..abi::REG_COUNT].iter().filter_map(|word| Mark::of(word.load(Relaxed))) {
            self.ledger.show(mark, readers);
        }
    }

    /// Makes the program fault. Its handler receives its registers.
    fn fault(&mut self, task: &Tcb, me: &Task) {
        let own = self.before.process(me.owner).map_or(0, |process| process.fault_handler);
        let handler = if me.fault_handler != 0 { me.fault_handler } else { own };
        let call = Regs { rdi: handler, ..Regs::op(Op::Call, &[]) };
        let (_, readers) = self.readers(me, &call);
        self.show_frame(task, readers);
        self.cast.w.fault_with(task.home(), Play::FAULT);
        self.cast.w.run();
    }

    // --- afterwards ------------------------------------------------------------------------------

    /// Counts a system call that has been made. Returns whether nothing was wrong with it.
    fn note(&mut self, made: &Made, faults: bool) -> bool {
        let Made { task, me, op, act, .. } = made;
        self.outcome.operations += 1;
        self.sending.retain(|sending| sending.task != me.at);
        let is_over = task.is_through();
        if !is_over && is_message(*op) && !faults {
            self.sending.push(Sending { task: me.at, act: made.written, regs: act.regs });
        }
        let answer = if is_over { task.regs().error() } else { None };
        let done = !faults && answer.is_none() && !task.must_restart();
        self.outcome.done += u64::from(is_over && answer.is_none());
        if !faults {
            let of = self.outcome.tried.entry(*op as u8).or_default();
            *of = (of.0 + 1, of.1 + u32::from(done));
            if let Some(error) = answer {
                *self.outcome.refused.entry((*op as u8, format!("{error:?}"))).or_default() += 1;
            }
        }
        if self.tell {
            let state = if is_over { format!("{answer:?}") } else { format!("{:?}", task.state()) };
            let what = if faults { "faults".to_owned() } else { format!("{op:?}") };
            let Regs { rdi, rsi, rdx, r8, r9, r10, rax, .. } = act.regs;
            println!(
                "{task:?} {what} {rax:x} {:x?} {:?} {:?}: {state}",
                [rdi, rsi, rdx, r8, r9, r10],
                act.grants,
                act.ranges
            );
        }
        done
    }

    fn check(&mut self, acts: &[u64]) {
        let found = self.judge.judge(&self.before, &self.after, acts, &self.offers);
        self.outcome.exceeded.extend_from_slice(found);
        self.woken(acts);
        if self.outcome.operations.is_multiple_of(4) {
            self.bound.judge(&self.after, &mut self.outcome.exceeded);
        }
        self.relabelled |= self.sets_labels();
        let justified = self.outcome.exceeded.is_empty();
        let leaked = self.scan(justified);
        self.outcome.leaked.extend(leaked);
        let is_out = |rule: &str| self.without.iter().any(|out| out == rule);
        self.outcome.exceeded.retain(|excess| !is_out(excess.rule));
        if is_out("marks") {
            self.outcome.leaked.clear();
        }
        if self.tell {
            self.outcome
                .exceeded
                .iter()
                .for_each(|excess| println!("EXCEEDED {}: {}", excess.rule, excess.what));
            self.outcome.leaked.iter().for_each(|leak| println!("LEAKED {leak}"));
        }
    }

    /// Checks a task that waited for bits and has got them: some task could raise them.
    fn woken(&mut self, acts: &[u64]) {
        for tcb in &self.cast.tasks {
            let Some(was) = self.before.task(tcb.object.addr()).filter(|task| task.id == tcb.id.raw()) else {
                continue;
            };
            let waited = match was.state {
                snapshot::State::WaitBits => was.waits_for,
                snapshot::State::Recv | snapshot::State::RecvTimed => was.bound,
                _ => continue,
            };
            if waited == 0 || tcb.state() != State::Ready || !tcb.is_through() {
                continue;
            }
            let regs = tcb.regs();
            let told = was.state == snapshot::State::WaitBits || regs.info().has(abi::FLAG_NOTIFICATION);
            if told && regs.error().is_none() {
                let found = self.judge.raised(&self.before, &self.after, acts, waited, regs.rdx);
                self.outcome.exceeded.extend(found);
            }
        }
    }
}

/// The slots and addresses that a task's UTCB offers.
fn offers_of(task: &Task) -> [Offer; 2] {
    let utcb = UtcbWords(host_test::words(task.utcb, abi::UTCB_SIZE / 8));
    let [first, count] = utcb.window();
    let addresses = Offer { process: task.owner, first, count, kind: OfferKind::Addresses };
    [slots(task.owner, utcb.listening()), addresses]
}

fn slots(process: u64, word: u64) -> Offer {
    let offer = abi::Listening::from_word(word);
    Offer { process, first: u64::from(offer.next.0), count: u64::from(offer.count), kind: OfferKind::Slots }
}

/// Whether an operation sends words.
pub fn is_message(op: Op) -> bool {
    matches!(op, Op::Call | Op::Send | Op::Broadcast | Op::Forward | Op::Reply | Op::ReplyRecv)
}

/// A UTCB as words.
struct UtcbWords(&'static [std::sync::atomic::AtomicU64]);

impl UtcbWords {
    fn at(&self, offset: usize) -> u64 {
        self.0.get(offset / 8).map_or(0, |word| word.load(Relaxed))
    }

    fn listening(&self) -> u64 {
        self.at(core::mem::offset_of!(abi::Utcb, listening))
    }

    fn window(&self) -> [u64; 2] {
        let first = core::mem::offset_of!(abi::Utcb, window);
        [self.at(first), self.at(first + 8)]
    }
}
