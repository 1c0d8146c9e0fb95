//! The checker of histories, on possible and on impossible histories.

use abi::{Cap, FLAG_NONBLOCK, MsgInfo, ObjType, Op, Rights, Target};
use model::linear::{Call, History, Verdict};
use model::object::{self, State};
use model::parts::System;
use model::{Args, Id, Kind, Model, Place, Sizes};

const OWN: Cap = Cap(1);
const MEMORY: Cap = Cap(2);
const PROCESS: Cap = Cap(3);
const GROUP: Cap = Cap(20);
/// Slots that are played with.
const FIRST: u32 = 8;
const SLOTS: u32 = 6;

fn at(slot: u32) -> u64 {
    Target::new(OWN, slot).0
}

/// Makes a process with a task on each of two CPUs, and memory.
fn world() -> (Model, [Id; 2]) {
    let sizes = Sizes { notification: 64, group: 64, ..Sizes::default() };
    let mut model = Model { sizes, cpus: 2, ..Model::default() };
    let cnode = model.put(Kind::CNode(object::CNode { slots: 64, process: None }));
    let of = object::Process { cnode: Some(cnode), ..object::Process::default() };
    let process = model.put(Kind::Process(of));
    model.cnode_mut(cnode).process = Some(process);
    let memory = object::Untyped { base: 1 << 30, size: 4096, low: 0, high: 4096 };
    let memory = model.put(Kind::Untyped(memory));
    for (slot, object) in [(OWN, cnode), (MEMORY, memory), (PROCESS, process)] {
        model.give(Place::Slot(cnode, slot.0), object, Rights::ALL, 0);
    }
    let tasks = [0, 1].map(|home| {
        let task = object::Task {
            process: Some(process),
            home,
            state: State::Ready,
            time: Some(memory),
            ..object::Task::default()
        };
        model.put(Kind::Task(Box::new(task)))
    });
    (model, tasks)
}

/// Calls by one task after the other, as the model itself answers them.
struct Past {
    model: Model,
    before: Model,
    tasks: [Id; 2],
    calls: Vec<Call>,
    clock: u64,
}

impl Past {
    fn new() -> Past {
        let (model, tasks) = world();
        Past { before: model.clone(), model, tasks, calls: Vec::new(), clock: 0 }
    }

    fn call(&mut self, task: usize, op: Op, args: [u64; 6]) -> usize {
        self.call_with(task, op, args, 0)
    }

    fn call_with(&mut self, task: usize, op: Op, args: [u64; 6], flags: u64) -> usize {
        let (me, args) = (self.tasks[task], Args(args, MsgInfo(op as u64 | flags)));
        let _ = self.model.step(me, op, &args);
        let mut found = self.model.task(me).regs.values;
        if op == Op::CapInspect {
            // The model leaves identities to the kernel.
            let held = self.model.slots.get(&Place::Slot(Id(0), args.target(0).index()));
            found[4] = held.map_or(0, |it| it.object.0 as u64);
        }
        self.clock += 2;
        self.calls.push(Call { me, op, args, found, began: self.clock, ended: self.clock + 1 });
        self.calls.len() - 1
    }

    fn retype(&mut self, task: usize, slot: u32) -> usize {
        let what = Target::new(MEMORY, ObjType::Notification as u32).0;
        self.call(task, Op::Retype, [what, 0, at(slot), 1, 0, 0])
    }

    fn copy(&mut self, task: usize, from: u32, to: u32, rights: Rights) -> usize {
        self.call(task, Op::CapCopy, [Cap(from).arg(), at(to), u64::from(rights.0), 0, 0, 0])
    }

    fn inspect(&mut self, slot: u32) -> usize {
        self.call(0, Op::CapInspect, [at(slot), 0, 0, 0, 0, 0])
    }

    fn poll(&mut self, slot: u32) -> usize {
        self.call_with(0, Op::Wait, [Cap(slot).arg(), 0, 0, 0, 0, 0], FLAG_NONBLOCK)
    }

    /// Makes calls overlap: all are under way at one time.
    fn overlap(&mut self, calls: &[usize]) {
        let began = calls.iter().map(|call| self.calls[*call].began).min().unwrap();
        let ended = calls.iter().map(|call| self.calls[*call].ended).max().unwrap();
        for call in calls {
            (self.calls[*call].began, self.calls[*call].ended) = (began, ended);
        }
    }

    /// Changes a call's answer to an error without detail.
    fn is_refused(&mut self, call: usize, error: abi::Error) {
        self.calls[call].found = [error as u64, 0, 0, 0, 0, 0, 0, 0];
    }

    fn verdict(&self) -> Verdict {
        self.verdict_in(100_000)
    }

    fn verdict_in(&self, steps: u64) -> Verdict {
        let before = System::new(self.before.clone());
        History { before: &before, calls: &self.calls, settled: self.clock - 1 }.check(steps)
    }

    #[track_caller]
    fn diverges(&self) {
        assert!(matches!(self.verdict(), Verdict::Diverges { .. }), "{:?}", self.verdict());
    }

    #[track_caller]
    fn fits(&self) {
        assert_eq!(self.verdict(), Verdict::Fits);
    }
}

fn dice(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

/// Makes a random call of those that the checker divides into parts.
fn random_call(past: &mut Past, seed: &mut u64) {
    let mut slot = || FIRST + dice(seed, u64::from(SLOTS)) as u32;
    let (a, b) = (slot(), slot());
    let (task, index) = (dice(seed, 2) as usize, dice(seed, 4) as u32);
    let group = if dice(seed, 2) == 0 { GROUP } else { Cap(a) };
    let _ = match dice(seed, 16) {
        0 | 1 => past.retype(task, a),
        2 | 3 => past.copy(task, a, b, Rights(dice(seed, 1 << 17) as u32)),
        4 => past.call(task, Op::CapMove, [Cap(a).arg(), at(b), 0, 0, 0, 0]),
        5 => past.call(task, Op::CapDelete, [at(a), 0, 0, 0, 0, 0]),
        6 => past.call(task, Op::CapRevoke, [at(a), 0, 0, 0, 0, 0]),
        7 => past.call(task, Op::Notify, [Cap(a).arg(), 1 << index, 0, 0, 0, 0]),
        8 => past.poll(a),
        9 => past.inspect(a),
        10 => past.call(task, Op::ProcessAccept, [PROCESS.arg(), u64::from(a), GROUP.arg(), 0, 0, 0]),
        11 => {
            let rights = u64::from((Rights::NOTIFY | Rights::ADD | Rights::REMOVE).0);
            past.call(task, Op::GroupAdd, [group.arg(), PROCESS.arg(), rights, 5, 0, 0])
        }
        12 => past.call(task, Op::GroupRemove, [Target::new(group, index).0, 0, 0, 0, 0, 0]),
        13 => {
            let args = [Target::new(group, index).0, Cap(a).arg(), 0, 0, 0, 0];
            past.call(task, Op::Expose, args)
        }
        14 => past.call(task, Op::Withdraw, [Target::new(group, index).0, 0, 0, 0, 0, 0]),
        _ if dice(seed, 4) > 0 => {
            past.call(task, Op::Notify, [Target::new(group, index).0, 1 << index, 0, 0, 0, 0])
        }
        _ => past.call(task, Op::UntypedReset, [MEMORY.arg(), 0, 0, 0, 0, 0]),
    };
}

fn random_past(seed: u64) -> Past {
    let mut past = Past::new();
    let what = Target::new(MEMORY, ObjType::Group as u32).0;
    past.call(0, Op::Retype, [what, 2 | 3 << 16, at(GROUP.0), 1, 0, 0]);
    let mut state = seed;
    for _ in 0..60 {
        random_call(&mut past, &mut state);
    }
    past
}

/// Part by part and without others in between, an operation does what the model does in one step.
#[test]
fn parts_alone_do_what_a_step_does() {
    for seed in 0..2_000 {
        let past = random_past(seed);
        assert_eq!(past.verdict(), Verdict::Fits, "seed {seed}");
    }
}

/// Calls that are said to have overlapped can still have been one after the other.
#[test]
fn what_fits_in_order_fits_when_it_overlaps() {
    for seed in 0..500 {
        let mut past = random_past(seed);
        let mut state = seed;
        for first in (1..55).step_by(6) {
            let count = 2 + dice(&mut state, 4) as usize;
            past.overlap(&(first..first + count).collect::<Vec<_>>());
        }
        assert_eq!(past.verdict(), Verdict::Fits, "seed {seed}");
    }
}

/// An answer that was changed is seen, nearly always: some say nothing that anything else depends
/// on.
#[test]
fn a_changed_answer_is_seen() {
    let mut seen = 0;
    for seed in 0..400 {
        let mut past = random_past(seed);
        let which = 30 + seed as usize % 30;
        past.calls[which].found[0] ^= 1;
        seen += u32::from(past.verdict_in(5_000) != Verdict::Fits);
    }
    assert!(seen > 390, "{seen} of 400");
}

#[test]
fn rights_that_grow_are_seen() {
    let mut past = Past::new();
    past.retype(0, 8);
    past.copy(1, 8, 9, Rights::NOTIFY);
    let look = past.inspect(9);
    past.fits();
    past.calls[look].found[2] |= u64::from(Rights::LISTEN.0);
    past.diverges();
}

#[test]
fn a_copy_that_revoke_leaves_is_seen() {
    let mut past = Past::new();
    past.retype(0, 8);
    past.copy(0, 8, 9, Rights::ALL);
    let look = past.inspect(9);
    let found = past.calls[look].found;
    past.call(0, Op::CapRevoke, [at(8), 0, 0, 0, 0, 0]);
    let look = past.inspect(9);
    past.fits();
    past.calls[look].found = found;
    past.diverges();
}

#[test]
fn bits_come_later_from_another_cpu_but_come() {
    let mut past = Past::new();
    past.retype(0, 8);
    past.call(1, Op::Notify, [Cap(8).arg(), 4, 0, 0, 0, 0]);
    let early = past.poll(8);
    let bits = past.calls[early].found;
    let late = past.poll(8);
    past.fits();
    // They were on their way at the first look.
    past.calls[early].found = past.calls[late].found;
    past.calls[late].found = bits;
    past.fits();
    // They never came.
    past.calls[late].found = past.calls[early].found;
    past.diverges();
}

#[test]
fn a_slot_has_one_capability() {
    let mut past = Past::new();
    past.retype(0, 8);
    let first = past.copy(0, 8, 9, Rights::ALL);
    let second = past.copy(1, 8, 9, Rights::NOTIFY);
    past.overlap(&[first, second]);
    past.fits();
    past.calls[second].found = past.calls[first].found;
    past.diverges();
}

/// The task that claimed the slot finds its source gone. Before that, another task learned that the
/// slot is taken.
#[test]
fn a_claim_in_vain_is_seen_by_others() {
    let mut past = Past::new();
    past.retype(0, 8);
    past.retype(0, 10);
    past.copy(0, 8, 11, Rights::ALL);
    let vain = past.copy(0, 11, 9, Rights::ALL);
    let delete = past.call(1, Op::CapDelete, [at(11), 0, 0, 0, 0, 0]);
    let told = past.copy(1, 10, 9, Rights::ALL);
    past.overlap(&[vain, delete, told]);
    past.is_refused(vain, abi::Error::Dying);
    past.calls.truncate(told + 1);
    past.fits();
    // One after the other that cannot be.
    past.calls[told].began = past.calls[vain].ended + 1;
    past.calls[told].ended = past.calls[told].began + 1;
    past.diverges();
}

const NOTE: u32 = 9;

/// Makes a group whose process is a member by the capability in slot 8, and offers slot 10 for one
/// more record.
fn group_with_a_member() -> Past {
    let mut past = Past::new();
    let what = Target::new(MEMORY, ObjType::Group as u32).0;
    past.call(0, Op::Retype, [what, 2 | 3 << 16, at(GROUP.0), 1, 0, 0]);
    past.retype(0, NOTE);
    past.accept(0, 8);
    past.add(0, GROUP);
    past.accept(0, 10);
    past
}

impl Past {
    fn accept(&mut self, task: usize, slot: u32) -> usize {
        self.call(task, Op::ProcessAccept, [PROCESS.arg(), u64::from(slot), GROUP.arg(), 0, 0, 0])
    }

    fn add(&mut self, task: usize, by: Cap) -> usize {
        let rights = Rights::NOTIFY | Rights::LISTEN | Rights::ADD | Rights::REMOVE;
        self.call(task, Op::GroupAdd, [by.arg(), PROCESS.arg(), u64::from(rights.0), 5, 0, 0])
    }

    fn remove(&mut self, task: usize, by: Cap, index: u32) -> usize {
        self.call(task, Op::GroupRemove, [Target::new(by, index).0, 0, 0, 0, 0, 0])
    }

    /// Changes a call's answer to an error, which is possible only if these others were under way
    /// with it.
    #[track_caller]
    fn only_beside(&mut self, call: usize, error: abi::Error, others: &[usize]) {
        self.is_refused(call, error);
        self.diverges();
        let earlier = others.iter().map(|other| self.calls[*other].began).min().unwrap();
        self.calls[call].began = self.calls[call].began.min(earlier);
        let later = others.iter().map(|other| self.calls[*other].ended).max().unwrap();
        self.calls[call].ended = self.calls[call].ended.max(later);
        self.fits();
    }
}

/// The offer is taken back before the slot is filled.
#[test]
fn an_offer_is_gone_before_its_slot_is_filled() {
    let mut past = group_with_a_member();
    let early = past.inspect(10);
    let empty = past.calls[early].found;
    let added = past.add(0, GROUP);
    let told = past.add(1, GROUP);
    assert_eq!(past.calls[told].found[0], abi::Error::NoConsent as u64);
    let late = past.inspect(10);
    past.fits();
    past.calls[late].found = empty;
    past.diverges();
    past.calls[added].ended = past.calls[late].ended + 1;
    past.fits();
}

/// An operation that begins again had claimed a slot before, and may then be refused.
#[test]
fn a_claim_of_who_adds_a_member_is_seen_by_others() {
    let mut past = group_with_a_member();
    let told = past.copy(1, NOTE, 10, Rights::ALL);
    past.is_refused(told, abi::Error::SlotOccupied);
    past.accept(1, 0);
    let added = past.add(0, GROUP);
    past.diverges();
    past.calls[added].began = past.calls[told].began - 1;
    past.fits();
}

/// A process that adds, and is no longer a member under the lock, had claimed a slot before.
#[test]
fn a_member_that_was_removed_had_claimed_a_slot() {
    let mut past = group_with_a_member();
    let told = past.copy(1, NOTE, 10, Rights::ALL);
    past.is_refused(told, abi::Error::SlotOccupied);
    let removed = past.remove(1, GROUP, 0);
    let added = past.add(0, Cap(8));
    past.only_beside(added, abi::Error::NotMember, &[told, removed]);
}

/// A member that exposes something, and is removed: others may have seen what it exposed.
#[test]
fn what_is_taken_back_was_exposed_meanwhile() {
    let mut past = group_with_a_member();
    past.add(0, GROUP);
    let exposed = past.call(1, Op::Expose, [Target::new(Cap(8), 1).0, Cap(NOTE).arg(), 0, 0, 0, 0]);
    let removed = past.remove(0, GROUP, 0);
    let raised = past.call(0, Op::Notify, [Target::new(Cap(10), 1).0, 4, 0, 0, 0, 0]);
    past.poll(NOTE);
    past.call(0, Op::Withdraw, [Target::new(GROUP, 1).0, 0, 0, 0, 0, 0]);
    past.fits();
    let withdrawn = past.calls.len() - 1;
    past.calls[withdrawn].found = [abi::Error::NoExposure as u64, 1, 0, 0, 0, 0, 0, 0];
    past.only_beside(exposed, abi::Error::NotMember, &[raised, removed]);
}

/// A removal of a member by a capability that goes in the meantime.
#[test]
fn a_capability_that_goes_removes_nobody() {
    let mut past = group_with_a_member();
    let removed = past.remove(0, Cap(8), 0);
    let gone = past.call(1, Op::CapDelete, [at(8), 0, 0, 0, 0, 0]);
    past.only_beside(removed, abi::Error::Dying, &[gone]);
}

/// A revoke that waits for another CPU picks the first descendant again: then both objects are
/// dying.
#[test]
fn a_revoke_that_waited_begins_with_what_is_new() {
    let told_of = |home: usize| {
        let mut past = Past::new();
        past.retype(home, 8);
        let revoke = past.call(0, Op::CapRevoke, [at(MEMORY.0), 0, 0, 0, 0, 0]);
        let older = past.copy(1, 8, 10, Rights::ALL);
        past.retype(home, 9);
        let newer = past.copy(1, 9, 11, Rights::ALL);
        let again = past.copy(1, 8, 10, Rights::ALL);
        past.calls[revoke].ended = past.calls[again].ended + 1;
        for told in [older, newer, again] {
            past.is_refused(told, abi::Error::Dying);
        }
        past
    };
    told_of(1).fits();
    // Of its own CPU it ends one after the other.
    told_of(0).diverges();
}
