//! Pairs: an operation that moves authority, and another process's operation on the same objects,
//! after the first or inside it.
//!
//! A case of pairs plays [`ROUNDS`] pairs. The number of the case decides which, so that any range
//! of consecutive cases plays each pair about equally often.

use std::collections::BTreeMap;

use abi::{Cap, Op, Target};
use confine::Picture;
use kern_core::ipc::faults::Fault;
use smp::chaos::Point;
use snapshot::Task;

use crate::acts::Act;
use crate::pick::Held;
use crate::play::Play;
use crate::world::Tcb;
use crate::world::gate::Why;

/// Every operation that moves authority, or ends it.
pub const MOVERS: &[Op] = &[
    Op::Call,
    Op::ReplyRecv,
    Op::Recv,
    Op::Reply,
    Op::Forward,
    Op::SaveReply,
    Op::Notify,
    Op::Wait,
    Op::Retype,
    Op::CapCopy,
    Op::CapMove,
    Op::CapDelete,
    Op::CapRevoke,
    Op::UntypedReset,
    Op::GroupAdd,
    Op::GroupRemove,
    Op::Expose,
    Op::Withdraw,
    Op::PoolBind,
    Op::Send,
    Op::Broadcast,
    Op::ProcessConfigure,
    Op::ProcessAccept,
    Op::CSpaceGrow,
    Op::TaskConfigure,
    Op::TaskWriteRegs,
    Op::TaskReadRegs,
    Op::TaskResume,
    Op::TaskSuspend,
    Op::TaskKill,
    Op::ProcessKill,
    Op::TaskCancel,
    Op::SchedConfigure,
    Op::SchedAllow,
    Op::TaskMove,
    Op::SchedBind,
    Op::NotificationBind,
    Op::Map,
    Op::Unmap,
    Op::Protect,
    Op::PageCopy,
    Op::PageTransfer,
    Op::FramePin,
    Op::FrameUnpin,
    Op::FaultHandler,
    Op::LabelSet,
    Op::LabelRule,
];

/// Pairs of a case.
const ROUNDS: u64 = 40;
/// How often a process tries an operation before the round is given up.
const TRIES: usize = 4;
/// Named points of a kernel entry, at one of which the second operation runs.
const POINTS: usize = 12;
/// Neighbouring rounds have nothing to do with each other: a prime that divides no number of pairs.
const STRIDE: u64 = 7919;

/// The two operations of a round.
fn pair(case: u64, round: u64) -> (Op, Op) {
    let count = MOVERS.len() as u64;
    let number = (case % (count * count) * ROUNDS + round).wrapping_mul(STRIDE) % (count * count);
    (MOVERS[(number / count) as usize], MOVERS[(number % count) as usize])
}

/// How pairs went.
#[derive(Default, Clone, Debug)]
pub struct Pairs {
    /// Both were done: by the operations' numbers, how often; and how often the second named
    /// something that the first had named.
    pub done: BTreeMap<(u8, u8), (u32, u32)>,
    /// How many second operations ran inside of the first.
    pub inside: u64,
}

impl Pairs {
    pub fn add(&mut self, other: &Pairs) {
        for (pair, (done, met)) in &other.done {
            let of = self.done.entry(*pair).or_default();
            *of = (of.0 + done, of.1 + met);
        }
        self.inside += other.inside;
    }

    /// What has been done, for people.
    pub fn text(&self) -> String {
        let (all, met) = (MOVERS.len().pow(2), self.done.values().filter(|(_, met)| *met != 0).count());
        let (done, times) =
            (self.done.len(), self.done.values().map(|(done, _)| u64::from(*done)).sum::<u64>());
        let inside = self.inside;
        format!(
            "pairs: {done} of {all} done, {met} on the same objects; {times} times, {inside} inside of the first"
        )
    }

    /// Pairs that were never done.
    pub fn missing(&self) -> impl Iterator<Item = (Op, Op)> {
        let all = MOVERS.iter().flat_map(|one| MOVERS.iter().map(move |other| (*one, *other)));
        all.filter(|pair| !self.done.contains_key(&(pair.0 as u8, pair.1 as u8)))
    }
}

/// What an operation named: the next one is made to name it, too.
#[derive(Default, Clone, Debug)]
pub struct Focus {
    /// Objects that were named.
    named: Vec<u64>,
    /// These, and what belongs to them.
    pub objects: Vec<u64>,
    /// Slots of CNodes, exposures of groups.
    pub places: Vec<(u64, u32)>,
    pub pages: Vec<u64>,
    /// The process whose turn is over.
    pub not: u64,
}

impl Focus {
    /// What a system call of a task names.
    pub fn of(picture: &Picture, me: &Task, held: &[Held], act: &Act) -> Focus {
        let mut focus = Focus { not: me.owner, ..Focus::default() };
        let r = &act.regs;
        let words = [r.rdi, r.rsi, r.rdx, r.r8, r.r9, r.r10];
        for target in words.map(Target) {
            let named = held.iter().filter(|held| held.number == target.cap().0 && target.cap() != Cap::NULL);
            for held in named {
                focus.named.push(held.slot.object);
                focus.places.push((held.slot.object, target.index()));
            }
        }
        let granted = act.grants.iter().map(|grant| match grant {
            abi::Grant::Copy { cap, .. }
            | abi::Grant::Move { cap }
            | abi::Grant::Dispose { cap, .. }
            | abi::Grant::Settled { cap, .. } => cap.0,
        });
        let granted = granted.filter_map(|number| held.iter().find(|held| held.number == number));
        focus.named.extend(granted.map(|held| held.slot.object));
        focus.objects = focus.named.clone();
        for at in &focus.named {
            focus.objects.extend(belongings(picture, *at));
        }
        for (table, number) in &focus.places {
            let its = |slot: &&snapshot::Slot| slot.table == *table && slot.number == *number;
            focus.objects.extend(picture.slots().find(its).map(|slot| slot.object));
        }
        let spaces = focus.objects.iter().copied().chain([me.space]);
        let shown = |space: u64| words.into_iter().filter_map(move |address| picture.view(space, address));
        focus.pages.extend(spaces.flat_map(shown).map(|view| view.page));
        let frames = focus.objects.iter().filter_map(|at| picture.frame(*at));
        focus.pages.extend(frames.map(|frame| frame.base));
        focus
    }

    /// Whether the next operation named an object that this one named, or one that belongs to it,
    /// or the same page.
    fn meets(&self, next: &Focus) -> bool {
        self.objects.iter().any(|at| next.named.contains(at))
            || self.pages.iter().any(|at| next.pages.contains(at))
    }
}

/// What an object has to do with: a process its tasks, tables, space and pool; a task or table its
/// process; a group what it shows; memory what is made of it.
fn belongings(picture: &Picture, at: u64) -> Vec<u64> {
    let s = &picture.s;
    let mut found = Vec::new();
    if let Some(process) = picture.process(at) {
        found.extend([process.cnode, process.vspace, process.pool]);
        found.extend(s.tasks.iter().filter(|task| task.owner == at).map(|task| task.at));
    }
    found.extend([picture.task(at).map_or(0, |task| task.owner), picture.holder(at), picture.resident(at)]);
    found.extend(s.exposures.iter().filter(|it| it.group == at).map(|it| picture.exposed(it)));
    let memory = s.untypeds.iter().find(|untyped| untyped.at == at).map(|it| it.base..it.base + it.size);
    if let Some(memory) = memory {
        found.extend(picture.things().iter().map(|thing| thing.at).filter(|at| memory.contains(at)));
    }
    found.retain(|at| *at != 0);
    found
}

impl Play {
    /// Plays the rounds of a case of pairs, with an operation of anybody's in between.
    pub fn run_pairs(&mut self, case: u64) {
        for round in 0..ROUNDS {
            self.round(pair(case, round));
            if self.is_wrong() || !self.step() || self.is_wrong() {
                break;
            }
        }
    }

    fn round(&mut self, (one, other): (Op, Op)) {
        let inside = self.cast.w.cpus() > 1 && self.dice.once_in(2);
        if inside && self.both_at_once(one, other) {
            return;
        }
        let Some(first) = self.try_to(one, &Focus::default()) else { return };
        if let Some(second) = self.try_to(other, &first) {
            self.count((one, other), first.meets(&second));
        }
    }

    fn count(&mut self, pair: (Op, Op), met: bool) {
        let of = self.outcome.pairs.done.entry((pair.0 as u8, pair.1 as u8)).or_default();
        *of = (of.0 + 1, of.1 + u32::from(met));
    }

    /// Somebody who can makes a system call: what it named, if it was done.
    fn try_to(&mut self, op: Op, focus: &Focus) -> Option<Focus> {
        for _ in 0..TRIES {
            if self.is_wrong() {
                return None;
            }
            self.make_way(op);
            self.offer();
            let task = self.somebody(op, focus, None)?;
            let mut acts = vec![self.owner(&task)];
            self.may_go_on(&mut acts);
            if !self.bring_on(&task) {
                return None;
            }
            self.may_go_on(&mut acts);
            let made = self.make(&task, op, Some(focus))?;
            let named = Focus::of(&self.before, &made.me, &made.held, &made.act);
            let done = self.carry_out(&made, false);
            self.conclude(&acts);
            if done {
                return Some(named);
            }
        }
        None
    }

    /// What has to be before an operation can be done, where somebody can see to it.
    fn make_way(&mut self, op: Op) {
        let before = match op {
            Op::GroupAdd => Op::ProcessAccept,
            Op::TaskReadRegs | Op::TaskWriteRegs | Op::TaskResume => Op::TaskSuspend,
            Op::FrameUnpin => Op::FramePin,
            Op::Withdraw => Op::Expose,
            Op::Reply | Op::Forward | Op::SaveReply | Op::ReplyRecv => {
                let serves = self.before.s.tasks.iter().any(|task| task.caller != 0);
                if !serves {
                    self.once(Op::Recv);
                    self.once(Op::Call);
                }
                return;
            }
            Op::Call => Op::Recv,
            _ => return,
        };
        if self.dice.once_in(2) {
            self.once(before);
        }
    }

    /// One operation, whatever becomes of it.
    fn once(&mut self, op: Op) {
        if self.is_wrong() {
            return;
        }
        self.offer();
        let Some(task) = self.somebody(op, &Focus::default(), None) else { return };
        let mut acts = vec![self.owner(&task)];
        self.may_go_on(&mut acts);
        if !self.bring_on(&task) {
            return;
        }
        self.may_go_on(&mut acts);
        if let Some(made) = self.make(&task, op, Some(&Focus::default())) {
            self.carry_out(&made, false);
            self.conclude(&acts);
        }
    }

    /// Two tasks on two CPUs: the second operation runs inside of the first one's kernel entry.
    /// Whether there were two such tasks.
    fn both_at_once(&mut self, one: Op, other: Op) -> bool {
        self.make_way(one);
        self.make_way(other);
        if self.is_wrong() {
            return true;
        }
        self.offer();
        let Some(first) = self.somebody(one, &Focus::default(), None) else { return false };
        let not = Focus { not: self.owner(&first), ..Focus::default() };
        let Some(second) = self.somebody(other, &not, Some(first.home())) else { return false };
        let mut acts = vec![self.owner(&first), self.owner(&second)];
        self.may_go_on(&mut acts);
        let both = self.bring_on(&first) && self.bring_on(&second);
        let (n, m) = (first.home(), second.home());
        let stand = |task: &Tcb, n: usize| self.cast.w.current(n) == Some(task.object) && task.is_through();
        if !both || n == m || !stand(&first, n) || !stand(&second, m) {
            return false;
        }
        self.may_go_on(&mut acts);
        let Some(a) = self.make(&first, one, Some(&Focus::default())) else { return false };
        let named = Focus::of(&self.before, &a.me, &a.held, &a.act);
        let Some(b) = self.make(&second, other, Some(&named)) else { return false };
        let met = named.meets(&Focus::of(&self.before, &b.me, &b.held, &b.act));
        self.announce(&a);
        self.announce(&b);
        self.tear(n, m, &a.act, &b.act);
        let done = [self.see_through(&a, false), self.see_through(&b, false)];
        // The first operation's change decides which task received the second operation's words.
        self.announce_after(&[&a, &b]);
        self.conclude(&acts);
        if done == [true, true] {
            self.count((one, other), met);
            self.outcome.pairs.inside += 1;
        }
        true
    }

    /// CPU `n` makes a system call, and CPU `m` another, at a point of the first or behind it.
    fn tear(&mut self, n: usize, m: usize, first: &Act, second: &Act) {
        let at = self.dice.below(POINTS);
        let mut points = 0..;
        let here = move |point: Point| point.is_named() && points.next() == Some(at);
        let w = &mut self.cast.w;
        w.prepare(n, first.regs);
        let regs = second.regs;
        let issue = |w: &mut crate::world::World| {
            let ready = w.current(m).is_some() && !w.must_restart(m);
            if ready {
                w.issue(m, regs);
            }
        };
        let stopped = w.tear(n, Why::SystemCall, here, issue);
        if !stopped && w.current(m).is_some() && !w.must_restart(m) {
            w.issue(m, regs);
        }
        w.run();
    }

    /// A ready task of a process that can do something, on another CPU than `not_on`: of those that
    /// hold what it takes, with the rights, if there are any.
    fn somebody(&mut self, op: Op, focus: &Focus, not_on: Option<usize>) -> Option<Tcb> {
        let ready = self.ready();
        let ready: Vec<Tcb> = ready.into_iter().filter(|tcb| Some(tcb.home()) != not_on).collect();
        let fit = |play: &Play, tcb: &Tcb, strictly: bool| {
            let Some(me) = play.before.task(tcb.object.addr()) else { return false };
            let serves =
                me.caller != 0 || !matches!(op, Op::Reply | Op::ReplyRecv | Op::Forward | Op::SaveReply);
            let held = crate::pick::holdings(&play.before, me.owner);
            let mut forms = op.forms().iter();
            let able = forms.any(|form| crate::pick::has_operands(&held, form));
            let shares = held.iter().any(|held| focus.objects.contains(&held.slot.object));
            serves && able && (!strictly || me.owner != focus.not && (focus.objects.is_empty() || shares))
        };
        let of = |play: &Play, strictly| -> Vec<Tcb> {
            ready.iter().filter(|tcb| fit(play, tcb, strictly)).copied().collect()
        };
        let mut fitting = of(self, true);
        if fitting.is_empty() {
            fitting = of(self, false);
        }
        let chosen = self.dice.below(fitting.len());
        fitting.get(chosen).copied()
    }

    /// What a program's fault looks like.
    pub const FAULT: Fault = Fault { vector: 14, error: 4, address: 0x6666_6000 };
}
