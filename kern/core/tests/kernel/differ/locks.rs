//! Locks: words that programs write, the choice of waits and passes, and what the waits come to.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use abi::{Cap, FLAG_DEADLINE, FLAG_NONBLOCK, LockWord, MsgInfo, ObjType, Op, Rights, Target, TaskId};
use model::object::{LockWait, State};
use model::{Answer, Args, Id, Kind, Model, Place};
use smp::host_test;

use super::pair::{Outcome, Pair};
use super::pick::Pick;
use crate::world::dice::Dice;

/// How often waits for locks began, were refused and ended, and how.
pub type Waits = BTreeMap<(&'static str, &'static str), u64>;

/// What all waits of a test run must have come to, each at least once.
pub const REACHED: [(&str, &str); 26] = [
    ("begins", ON_ITS_CPU),
    ("begins", ON_ANOTHER_CPU),
    ("begins", BEHIND_A_WAIT),
    ("begins", BEHIND_WAITS_OF_CPUS),
    ("does not begin", CHANGED),
    ("does not begin", OWN_LOCK),
    ("does not begin", CYCLE),
    ("does not begin", CYCLE_OF_CPUS),
    ("does not begin", "BadArgument"),
    ("does not begin", "Forbidden"),
    ("does not begin", "NoCapability"),
    ("does not begin", "NoRight"),
    ("does not begin", "NotMember"),
    ("does not begin", "OwnerDied"),
    ("does not begin", "Timeout"),
    ("does not begin", "WouldBlock"),
    ("ends", PASSED),
    ("ends", PASSED_TO_SEVERAL),
    ("ends", PASSED_BESIDE_OTHERS),
    ("ends", WHILE_SUSPENDED),
    ("ends", OWNER_MOVED),
    ("ends", CHANGED_UNDER_WAY),
    ("ends", WAITER_DIES),
    ("ends", "OwnerDied"),
    ("ends", "Timeout"),
    ("ends", "Cancelled"),
];

const ON_ITS_CPU: &str = "on the owner's CPU";
const ON_ANOTHER_CPU: &str = "on another CPU";
const BEHIND_A_WAIT: &str = "behind another wait";
const BEHIND_WAITS_OF_CPUS: &str = "behind waits of several CPUs";
const CHANGED: &str = "since the word is another one";
const OWN_LOCK: &str = "since it has the lock itself";
const CYCLE: &str = "since it closes a cycle";
const CYCLE_OF_CPUS: &str = "since it closes a cycle of several CPUs";
const PASSED: &str = "passed on";
const PASSED_TO_SEVERAL: &str = "passed on, as others";
const PASSED_BESIDE_OTHERS: &str = "passed on, not as others";
const WHILE_SUSPENDED: &str = "while it is suspended";
const OWNER_MOVED: &str = "since the owner has moved";
const CHANGED_UNDER_WAY: &str = "since the word has changed under way";
const WAITER_DIES: &str = "with the waiter";

/// Locks that one chain of waits can have in a test.
const CHAIN: usize = 16;

impl Pair {
    // --- words -----------------------------------------------------------------------------------

    /// Some program writes the word of a lock: mostly that a task has it for which others wait.
    pub fn write_lock(&mut self, dice: &mut Dice) {
        let is_frame = |id: &Id| {
            let object = &self.model.objects[id.0];
            !object.ended && matches!(object.kind, Kind::Frame(_))
        };
        let frames: Vec<Id> = self.model.ids().filter(is_frame).collect();
        let Some(first) = frames.first() else { return };
        let frame = if dice.once_in(3) { dice.of(&frames) } else { *first };
        let it = self.model.frame(frame);
        let last = ((it.pages << (it.log2 - 3)) - 1) as u32;
        let number = dice.of(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 3, last.min(511), last]);
        let word = self.some_word(dice);
        self.write_word(frame, number, word);
    }

    fn write_word(&mut self, frame: Id, number: u32, word: LockWord) {
        self.write_memory(frame, number, word);
        self.model.write_word(frame, number, word.0);
    }

    /// Writes a word in the kernel's memory.
    pub fn write_memory(&self, frame: Id, number: u32, word: LockWord) {
        let at = self.model.frame(frame).base + 8 * u64::from(number);
        host_test::words(at, 1)[0].store(word.0, SeqCst);
        if self.tell {
            println!("    word {number} of {frame:?} is {:x}", word.0);
        }
    }

    // --- waits under way -------------------------------------------------------------------------

    /// Returns the word of a lock for which a task is to wait at an owner of another CPU. It may
    /// change while the wait is under way.
    pub fn word_under_way(&self, me: Id, args: &Args) -> Option<(Id, u32)> {
        let mut after = self.model.clone();
        let _ = after.step(me, Op::LockWait, args);
        let owner = after.lock_wait_of(me)?.owner;
        let frame = self.model.find_any(me, args.cap(2)).ok()?.object;
        let is_far = self.model.task(owner).home != self.model.task(me).home;
        is_far.then_some((frame, args.target(2).index()))
    }

    /// The model ends a wait that finds, on the owner's CPU, that the lock is free.
    pub fn ends_under_way(&mut self, me: Id, frame: Id, number: u32) {
        self.model.write_word(frame, number, LockWord::FREE.0);
        self.model.looks_again(me);
        self.model.let_leave();
        *self.tally.waits.entry(("ends", CHANGED_UNDER_WAY)).or_default() += 1;
    }

    /// Tasks that are exposed in a group wait for locks of one another, if they can: in a chain, or
    /// for one lock or two of one owner. Process 1 and its members have the group in these slots.
    pub fn contend(&mut self, of_init: Cap, of_members: Cap, dice: &mut Dice) -> Outcome {
        let is_frame = |id: &Id| matches!(self.model.objects[id.0].kind, Kind::Frame(_));
        let frame = self.model.ids().find(is_frame);
        let group = self.model.find_any(self.agents[0], of_init).ok().map(|found| found.object);
        let Some((frame, group)) = frame.zip(group) else { return Ok(()) };
        let exposed = (0..self.model.group(group).exposures.len() as u32).filter_map(|index| {
            let object = self.model.slots.get(&Place::Exposure(group, index))?.object;
            matches!(self.model.objects[object.0].kind, Kind::Task(_)).then_some((index, object))
        });
        let (exposed, how) = (exposed.collect::<Vec<(u32, Id)>>(), dice.below(3));
        for (number, (_, me)) in exposed.iter().enumerate().skip(1) {
            let (owner, lock) = [(number - 1, number - 1), (0, 0), (0, number % 2)][how];
            let (index, owner) = exposed[owner];
            let word = LockWord::of(self.model.task(owner).id, index).with_waits();
            self.write_word(frame, lock as u32, word);
            let cnode = self.model.process(self.model.process_of(*me)).cnode;
            let mut slots = self.model.slots.iter().filter_map(|(place, it)| match *place {
                Place::Slot(table, slot) if Some(table) == cnode && it.object == frame => Some(Cap(slot)),
                _ => None,
            });
            let Some(slot) = slots.next() else { continue };
            let args = [of_members.arg(), 0, Target::new(slot, lock as u32).0, word.0, 0, 0];
            self.may_do(*me, Op::LockWait, &Args(args, MsgInfo(0)))?;
        }
        Ok(())
    }

    fn some_word(&self, dice: &mut Dice) -> LockWord {
        let (mut owners, mut heads, may_be_dead) = (Vec::new(), Vec::new(), dice.once_in(8));
        for (place, it) in &self.model.slots {
            let Place::Exposure(group, index) = *place else { continue };
            let Kind::Task(task) = &self.model.objects[it.object.0].kind else { continue };
            if task.state == State::Dead && !may_be_dead {
                continue;
            }
            owners.push((task.id, index));
            let exposures = self.model.group(group).exposures.iter().zip(0..);
            heads.extend(exposures.filter(|(it, _)| it.per_cpu.is_some()).map(|(_, head)| (task.id, head)));
        }
        let Some((id, index)) = (!owners.is_empty()).then(|| dice.of(&owners)) else {
            return LockWord(LockWord::WAITS);
        };
        match dice.below(20) {
            0 => LockWord::FREE,
            1 => LockWord::of(id, index),
            2 => LockWord::of(id, index + 1).with_waits(),
            3 => LockWord::of(TaskId::from_raw(id.raw() + 1), index).with_waits(),
            4 if !heads.is_empty() => {
                let (id, head) = dice.of(&heads);
                LockWord::of(id, head).with_waits()
            }
            5 => LockWord(dice.word()),
            _ => LockWord::of(id, index).with_waits(),
        }
    }

    // --- what waits come to ----------------------------------------------------------------------

    /// Returns the tasks that wait for locks.
    pub fn lock_waits(&self) -> Vec<(Id, LockWait)> {
        self.tasks.iter().filter_map(|(id, _)| Some((*id, self.model.lock_wait_of(*id)?))).collect()
    }

    /// Counts how a wait begins, after the step in which a task asks for it.
    pub fn note_wait(&mut self, me: Id, args: &Args, answer: &model::Result) {
        let model = &self.model;
        let word = LockWord(args.0[3]);
        let cpus = |owner: Id| {
            let next = |at: &Id| model.lock_wait_of(*at).map(|wait| wait.owner).filter(|at| *at != me);
            let homes = std::iter::successors(Some(owner), next).take(CHAIN).map(|at| model.task(at).home);
            homes.fold(vec![model.task(me).home], |mut all, home| {
                all.extend((!all.contains(&home)).then_some(home));
                all
            })
        };
        let seen = match answer {
            Err(why) if why.error == abi::Error::Deadlock && word.names(model.task(me).id) => {
                ("does not begin", OWN_LOCK)
            }
            Err(why) if why.error == abi::Error::Deadlock => {
                let owner = model.resolve_task(me, Target::new(args.cap(0), word.index()), Rights::SEND);
                let is_far = owner.is_ok_and(|(owner, _)| cpus(owner).len() > 1);
                ("does not begin", if is_far { CYCLE_OF_CPUS } else { CYCLE })
            }
            Err(why) => ("does not begin", why.error.name()),
            Ok(Answer::Settled) => {
                let Some(LockWait { owner, .. }) = model.lock_wait_of(me) else { return };
                match (model.lock_wait_of(owner).is_some(), cpus(owner).len() > 1) {
                    (true, true) => ("begins", BEHIND_WAITS_OF_CPUS),
                    (true, false) => ("begins", BEHIND_A_WAIT),
                    (false, true) => ("begins", ON_ANOTHER_CPU),
                    (false, false) => ("begins", ON_ITS_CPU),
                }
            }
            Ok(_) => ("does not begin", CHANGED),
        };
        *self.tally.waits.entry(seen).or_default() += 1;
    }

    /// Counts how waits have ended in a step; `before`: those that there were, `op`: what was done.
    pub fn note_ends_of_waits(&mut self, before: &[(Id, LockWait)], op: Option<Op>) {
        let model = &self.model;
        let is_over = |it: &&(Id, LockWait)| model.task(it.0).state != State::InLock(it.1);
        let ended: Vec<&(Id, LockWait)> = before.iter().filter(is_over).collect();
        let mut ends = Vec::new();
        for (waiter, wait) in &ended {
            let task = model.task(*waiter);
            let error = MsgInfo(task.regs.values[0]).status().err();
            let left = model.lock_waiters(wait.owner).len();
            ends.push(match error {
                _ if task.state == State::Dead => WAITER_DIES,
                Some(error) => error.name(),
                None if op != Some(Op::LockPass) => OWNER_MOVED,
                None if left > 0 => PASSED_BESIDE_OTHERS,
                None if ended.len() > 1 => PASSED_TO_SEVERAL,
                None => PASSED,
            });
            ends.extend((task.suspended && task.state == State::Ready).then_some(WHILE_SUSPENDED));
        }
        for end in ends {
            *self.tally.waits.entry(("ends", end)).or_default() += 1;
        }
    }
}

impl Pick<'_> {
    pub fn arguments_of_locks(&mut self, op: Op) -> [u64; 6] {
        if op == Op::LockPass { [self.lock_to_pass(), 0, 0, 0, 0, 0] } else { self.lock_to_wait_for() }
    }

    /// Frames that the task has: its capabilities, and which they are.
    fn frames(&self) -> Vec<(Cap, Id)> {
        let caps = self.slots_with(|it| it == Some(ObjType::Frame)).into_iter().map(Cap);
        caps.filter_map(|cap| Some((cap, self.pair.model.find_any(self.me, cap).ok()?.object))).collect()
    }

    /// Mostly a lock for which somebody waits.
    fn lock_to_pass(&mut self) -> u64 {
        let model = &self.pair.model;
        let mut found = Vec::new();
        for (cap, frame) in self.frames() {
            let it = model.frame(frame);
            let waits = model.lock_waiters(self.me).into_iter().filter_map(|id| model.lock_wait_of(id));
            let within = waits.filter_map(|wait| wait.word.checked_sub(it.base));
            let within = within.filter(|bytes| *bytes < it.pages << it.log2);
            found.extend(within.map(|bytes| Target::new(cap, (bytes / 8) as u32).0));
        }
        if !found.is_empty() && !self.dice.once_in(8) {
            return self.dice.of(&found);
        }
        let number = self.dice.of(&[0, 1, 2, 3, 511, 512, 1023, 1024]);
        Target::new(self.cap_of(ObjType::Frame), number).0
    }

    /// Mostly a lock that another task has, also one that waits itself.
    fn lock_to_wait_for(&mut self) -> [u64; 6] {
        let (model, may_lack_rights) = (&self.pair.model, self.dice.once_in(6));
        let (mut all, mut taken, mut chains) = (Vec::new(), Vec::new(), Vec::new());
        let is_member = |cap: &Cap| may_lack_rights || model.find_group(self.me, *cap, Rights::SEND).is_ok();
        let is_mapped =
            |cap: Cap| may_lack_rights || model.find(self.me, cap, ObjType::Frame, Rights::MAP).is_ok();
        let groups = self.slots_with(|it| it == Some(ObjType::Group)).into_iter().map(Cap);
        let groups: Vec<Cap> = groups.filter(is_member).collect();
        for (cap, frame) in self.frames().into_iter().filter(|(cap, _)| is_mapped(*cap)) {
            for (number, word) in &model.frame(frame).words {
                for group in &groups {
                    let args = [group.arg(), 0, Target::new(cap, *number).0, *word, 0, 0];
                    all.push(args);
                    let owner = self.owner_by(*group, LockWord(*word));
                    taken.extend(owner.map(|_| args));
                    chains.extend(owner.and_then(|owner| model.lock_wait_of(owner)).map(|_| args));
                }
            }
        }
        if all.is_empty() || self.dice.once_in(10) {
            let number = self.dice.of(&[0, 1, 511, 512, 1024]);
            let frame = Target::new(self.cap_of(ObjType::Frame), number).0;
            let word = self.dice.of(&[LockWord::WAITS, LockWord::WAITS | 2, 0, u64::MAX]);
            return [self.cap_of(ObjType::Group).arg(), 0, frame, word, 0, 0];
        }
        let mut args = if !chains.is_empty() && self.dice.once_in(2) {
            self.dice.of(&chains)
        } else if !taken.is_empty() && !self.dice.once_in(6) {
            self.dice.of(&taken)
        } else {
            self.dice.of(&all)
        };
        if self.dice.once_in(12) {
            args[3] ^= self.dice.of(&[LockWord::WAITS, 2, 1 << 13, 1 << 63]);
        }
        args
    }

    /// Returns the live task that a lock's word names in a group, if it is another one.
    fn owner_by(&self, group: Cap, word: LockWord) -> Option<Id> {
        let model: &Model = &self.pair.model;
        let (owner, _) = model.resolve_task(self.me, Target::new(group, word.index()), Rights::SEND).ok()?;
        let it = model.task(owner);
        (word.waits() && word.names(it.id) && it.state != State::Dead && owner != self.me).then_some(owner)
    }

    /// Sometimes waits only until a deadline, or not at all.
    pub fn may_give_up(&mut self, args: &mut Args) {
        let mut info = 0;
        if self.dice.once_in(4) {
            info |= FLAG_DEADLINE;
            args.0[1] = if self.dice.once_in(6) { 1 } else { self.pair.later };
        }
        if self.dice.once_in(12) {
            info |= FLAG_NONBLOCK;
        }
        args.1 = MsgInfo(info);
    }
}
