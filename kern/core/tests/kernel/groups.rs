//! Groups, case by case.

use abi::membership::{ALONE, JOINED, LEFT, WITHDRAWN, watch};
use abi::{Cap, Error, FLAG_NONBLOCK, MEMBER_RIGHTS, ObjType, Op, Rights, Target};
use kern_base::group::Group;
use kern_base::notification::Notification;
use kern_base::task::State;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use crate::scene::{GROUP, Scene, call};
use crate::world::gate::Why;
use crate::world::make::{INIT, Proc, at};
use crate::world::{Regs, World};

/// Steps that another CPU takes in the middle, at most.
const STEPS: usize = 200;

/// How an exposure with one task per CPU is asked for: its entries start at `first`.
fn per_cpu(first: u64) -> u64 {
    1 | first << 32
}

#[test]
fn a_refused_exposure_per_cpu_changes_nothing() {
    let mut s = Scene::new(2);
    let (task, _) = s.running(1, 10);
    let head = Target::new(s.group, 8).0;
    let fresh = s.w.make(0, abi::ObjType::Task, 0);
    let refused = s.w.ask(0, Op::Expose, &[head, fresh.arg(), per_cpu(10)]);
    assert_eq!(refused.map_err(|e| e.0), Err(Error::BadState), "a task that is not configured");
    s.w.must(0, Op::Expose, &[Target::new(s.group, 13).0, task.cap.arg(), 0]);
    let refused = s.w.ask(0, Op::Expose, &[head, task.cap.arg(), per_cpu(12)]);
    assert_eq!(refused.map_err(|e| e.0), Err(Error::SlotOccupied), "its entry of CPU 1 has a task");
    // The head is as free as before: for one task.
    s.w.must(0, Op::Expose, &[head, task.cap.arg(), 0]);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&client, call(Target::new(GROUP, 8)));
    assert!(s.w.runs(1, &task), "it is found there");
}

/// A member that is removed while it begins an exposure with one task per CPU leaves index and
/// entries free.
#[test]
fn who_is_removed_meanwhile_begins_no_exposure_per_cpu() {
    let mut refused = 0;
    for at in 0.. {
        let mut s = Scene::new(2);
        let (group, process) = (s.group, s.w.process());
        let index = s.w.join(group, process, GROUP, Rights::LISTEN, 0);
        let task = s.w.start(process, 1, 10);
        s.w.give(task.cap, process, Cap(21));
        s.w.run();
        s.w.prepare(1, Regs::op(Op::Expose, &[Target::new(GROUP, 8).0, Cap(21).arg(), per_cpu(10)]));
        let mut points = 0..;
        let torn = s.w.tear(
            1,
            Why::SystemCall,
            move |_| points.next() == Some(at),
            |w| {
                w.begin(0, Regs::op(Op::GroupRemove, &[Target::new(group, index as u32).0]));
                let _ = (0..STEPS).all(|_| w.step(0));
                if w.is_over(0) {
                    w.dismiss(0);
                }
            },
        );
        if !torn {
            assert!(refused > 0, "no point is between the first look and the second");
            return;
        }
        s.w.run();
        if s.w.result(&task).error().is_some() {
            refused += 1;
            let object = s.w.object::<Group>(group).expect("the group");
            for index in 8..12 {
                let pin = host_test::pin(0);
                let entry = object.get().exposures.get(pin, index).expect("an exposure").get();
                let marks = (entry.per_cpu.load(Relaxed), entry.part_of.load(Relaxed));
                assert_eq!(marks, (0, 0), "point {at}: exposure {index} is taken");
            }
        }
    }
}

/// A group with a watcher, process 1's, whose bits are shifted by 8.
struct Watched {
    w: World,
    group: Cap,
    note: Cap,
}

impl Watched {
    fn new(cpus: usize, members: u64) -> Watched {
        let mut w = World::new(cpus);
        let group = w.make(0, ObjType::Group, members | 8 << 16);
        let note = w.make(0, ObjType::Notification, 0);
        w.must(0, Op::Expose, &[Target::new(group, 3).0, note.arg(), watch(8)]);
        Watched { w, group, note }
    }

    fn join(&mut self, process: Proc, rights: Rights) {
        self.w.join(self.group, process, Cap(5), rights, 9);
    }

    /// What it was told since it was last asked.
    fn told(&mut self) -> u64 {
        self.w.run();
        let args = Regs::op(Op::Wait, &[self.note.arg()]).flag(FLAG_NONBLOCK);
        match self.w.call(0, args).result() {
            Ok(regs) => regs.rdx >> 8,
            Err(why) => {
                assert_eq!(why, (Error::WouldBlock, 0));
                0
            }
        }
    }

    /// Index, rights and custom bits of all members.
    fn members(&mut self) -> Vec<(u64, u64, u64)> {
        let mut members = Vec::new();
        let mut from = 0;
        loop {
            let it = self.w.must(0, Op::GroupMember, &[Target::new(self.group, from).0]);
            if it.rdi == 0 {
                return members;
            }
            members.push((it.rsi, it.rdx, it.r8));
            from = it.rsi as u32 + 1;
        }
    }
}

#[test]
fn watchers_are_told_of_members_that_come_and_go() {
    let mut t = Watched::new(2, 4);
    let [a, b, c] = [0; 3].map(|_| t.w.process());
    let listen = u64::from(Rights::LISTEN.0);
    t.join(a, Rights::LISTEN);
    assert_eq!((t.told(), t.told()), (JOINED, 0));
    t.join(b, Rights::SEND);
    t.join(c, Rights::LISTEN);
    assert_eq!(t.told(), JOINED);
    assert_eq!(t.members(), [(0, listen, 9), (1, u64::from(Rights::SEND.0), 9), (2, listen, 9)]);
    t.w.must(0, Op::GroupRemove, &[Target::new(t.group, 1).0]);
    assert_eq!(t.told(), LEFT);
    assert_eq!(t.members(), [(0, listen, 9), (2, listen, 9)]);
    // The process ends: its record is taken away, and only one is left.
    t.w.must(0, Op::CapDelete, &[at(a.process)]);
    assert_eq!(t.told(), LEFT | ALONE);
    assert_eq!(t.members(), [(2, listen, 9)]);
    t.w.join(t.group, b, Cap(6), Rights::SEND, 0);
    assert_eq!(t.told(), JOINED, "the record of the dead one is free");
    t.w.must(0, Op::GroupRemove, &[Target::new(t.group, 2).0]);
    t.w.must(0, Op::GroupRemove, &[Target::new(t.group, 0).0]);
    assert_eq!((t.told(), t.members()), (LEFT | ALONE, vec![]));
    let refused = t.w.ask(0, Op::GroupRemove, &[Target::new(t.group, 0).0]);
    assert_eq!((refused.map(drop), t.told()), (Err((Error::NotMember, 0)), 0));
}

#[test]
fn watchers_are_told_of_crashes_and_of_exposures() {
    let mut t = Watched::new(2, 4);
    let [a, b] = [0; 2].map(|_| t.w.process());
    t.join(a, MEMBER_RIGHTS);
    t.join(b, MEMBER_RIGHTS);
    let task = t.w.start(a, 1, 10);
    t.w.run();
    t.w.must(0, Op::Expose, &[Target::new(t.group, 1).0, task.cap.arg(), 0]);
    assert_eq!(t.told(), JOINED);
    t.w.must(0, Op::Withdraw, &[Target::new(t.group, 1).0]);
    assert_eq!(t.told(), WITHDRAWN);
    // No task handles its fault: the process is killed, though another process has its capability.
    t.w.fault(1, 0x1000);
    assert_eq!(t.told(), LEFT | ALONE);
    assert_eq!(t.members().len(), 1);
    t.w.must(0, Op::Withdraw, &[Target::new(t.group, 3).0]);
    t.w.must(0, Op::GroupRemove, &[Target::new(t.group, 1).0]);
    assert_eq!(t.told(), 0, "it watches no more");
}

#[test]
fn a_process_leaves_many_groups_and_groups_end() {
    let mut w = World::new(1);
    let memory = w.make(0, ObjType::Untyped, 18);
    let (process, other) = (w.process(), w.process());
    let groups: Vec<Cap> = (0..40).map(|_| w.make_of(0, memory, ObjType::Group, 2 | 1 << 16)).collect();
    for (slot, group) in (10..).zip(&groups) {
        w.join(*group, process, Cap(slot), Rights::SEND, 0);
    }
    // Some end first, from anywhere in the list.
    for group in [0, 20, 39] {
        w.must(0, Op::CapRevoke, &[at(groups[group])]);
        w.must(0, Op::CapDelete, &[at(groups[group])]);
    }
    w.join(groups[5], other, Cap(5), Rights::SEND, 0);
    w.must(0, Op::CapDelete, &[at(process.process)]);
    for group in [1, 5, 38] {
        let first = w.must(0, Op::GroupMember, &[Target::new(groups[group], 0).0]);
        assert_eq!((first.rdi != 0, first.rsi), if group == 5 { (true, 1) } else { (false, 0) });
    }
    w.must(0, Op::CapRevoke, &[at(memory)]);
    w.must(0, Op::UntypedReset, &[memory.arg()]);
    w.must(0, Op::CapDelete, &[at(other.process)]);
}

#[test]
fn who_may_not_watch_is_refused() {
    let mut t = Watched::new(1, 300);
    let process = t.w.process();
    let task = t.w.start(process, 0, 10);
    t.join(process, Rights::SEND);
    let note = t.w.make(0, ObjType::Notification, 0);
    let mut expose = |index: u32, object: Cap, how: u64| {
        t.w.ask(0, Op::Expose, &[Target::new(t.group, index).0, object.arg(), how]).map(drop)
    };
    assert_eq!(expose(1, task.cap, watch(0)), Err((Error::WrongType, ObjType::Task as u64)));
    assert_eq!(expose(1, note, watch(61)), Err((Error::BadArgument, 2)));
    assert_eq!(expose(3, note, watch(0)), Err((Error::SlotOccupied, 0)));
    assert_eq!(expose(8, note, watch(0)), Err((Error::NoExposure, 8)));
    assert_eq!(expose(1, note, 3), Err((Error::BadArgument, 2)));
    t.w.run();
    t.w.does_and_run(&task, Regs::op(Op::GroupMember, &[Cap(5).arg()]));
    assert_eq!(t.w.result(&task).error(), Some(Error::NoRight), "a member without LISTEN");
    assert_eq!(t.members().len(), 1, "over more records than an entry looks at");
}

#[test]
fn who_listens_takes_back_only_its_own_exposure_per_cpu() {
    let mut s = Scene::new(2);
    let other = s.w.process();
    s.w.join(s.group, other, GROUP, Rights::LISTEN | Rights::SEND, 0);
    let (worker, _) = s.running(1, 10);
    let stranger = s.w.start(other, 0, 5);
    s.w.run();
    let head = Target::new(GROUP, 8).0;
    s.w.must(0, Op::Expose, &[Target::new(s.group, 8).0, worker.cap.arg(), per_cpu(10)]);
    s.w.does_and_run(&stranger, Regs::op(Op::Withdraw, &[head]));
    let missing = u64::from(Rights::REMOVE.0);
    assert_eq!(s.w.result(&stranger).result(), Err((Error::NoRight, missing)));
    // Its own it does, also where some CPUs have no task there.
    s.w.must(0, Op::Withdraw, &[Target::new(s.group, 8).0]);
    s.w.must(0, Op::Withdraw, &[Target::new(s.group, 11).0]);
    s.w.give(stranger.cap, other, Cap(20));
    s.w.does_and_run(&stranger, Regs::op(Op::Expose, &[head, Cap(20).arg(), per_cpu(10)]));
    assert_eq!(s.w.result(&stranger).error(), None);
    s.w.does_and_run(&stranger, Regs::op(Op::Withdraw, &[head]));
    assert_eq!(s.w.result(&stranger).error(), None);
    s.w.does_and_run(&stranger, Regs::op(Op::Withdraw, &[head]));
    assert_eq!(s.w.result(&stranger).result(), Err((Error::NoExposure, 8)));
}

#[test]
fn members_are_looked_for_a_bounded_number_at_a_time() {
    const MEMBERS: u64 = 200;
    let mut w = World::new(1);
    let group = w.make(0, ObjType::Group, MEMBERS | 1 << 16);
    let first = w.slots(MEMBERS as u32 + 1);
    for n in 0..MEMBERS as u32 {
        assert_eq!(w.join(group, INIT, Cap(first.0 + n), Rights::SEND, 0), u64::from(n));
    }
    w.must(0, Op::ProcessAccept, &[INIT.process.arg(), first.0 as u64 + MEMBERS, group.arg()]);
    let add = Regs::op(Op::GroupAdd, &[group.arg(), INIT.process.arg(), u64::from(Rights::SEND.0), 0]);
    assert_eq!(w.call(0, add).result().map(drop), Err((Error::Full, 0)));
    // The lowest that is free, wherever it is.
    for index in [150, 3] {
        w.must(0, Op::GroupRemove, &[Target::new(group, index).0]);
    }
    assert_eq!(w.call(0, add).rdi, 3);
    w.must(0, Op::CapDelete, &[at(Cap(first.0 + MEMBERS as u32))]);
    w.must(0, Op::ProcessAccept, &[INIT.process.arg(), first.0 as u64 + MEMBERS, group.arg()]);
    w.begin(0, add);
    assert!(!w.is_over(0), "it looks at more than an entry may");
    assert_eq!(w.finish(0).rdi, 150);
    // A list that begins behind the last is empty.
    for index in [MEMBERS as u32, u32::MAX - 1, u32::MAX] {
        assert_eq!(w.must(0, Op::GroupMember, &[Target::new(group, index).0]).rdi, 0);
    }
}

#[test]
fn a_group_that_exposes_who_deletes_it_serves_on() {
    let mut w = World::new(2);
    let group = w.group(4, 200);
    let notes = [0; 3].map(|_| w.make(0, ObjType::Notification, 0));
    let agent = w.agent(1).cap;
    for (index, object) in [(1, notes[0]), (150, agent), (151, notes[1])] {
        w.expose(group, index, object);
    }
    w.must(0, Op::CapDelete, &[at(agent)]);
    for _ in 0..2 {
        assert_eq!(w.ask(1, Op::CapDelete, &[at(group)]).map(drop), Err((Error::InUse, 0)));
    }
    // What was before is gone, and its place serves others. So does the group.
    let refs = |w: &World| notes.map(|note| w.object::<Notification>(note).map(|it| it.get().header.refs()));
    assert_eq!(refs(&w), [Some(1), Some(2), Some(1)]);
    for (index, note) in [(1, notes[0]), (2, notes[2])] {
        w.expose(group, index, note);
    }
    let other = w.process();
    w.join_all(group, other, GROUP);
    w.must(1, Op::CapInspect, &[at(group)]);
    // Another process ends it, and with it the task.
    w.must(0, Op::CapDelete, &[Target::new(other.cnode, GROUP.0).0]);
    w.must(0, Op::CapDelete, &[at(group)]);
    assert_eq!(refs(&w), [Some(1); 3]);
    assert_eq!(w.agent(1).state(), State::Dead);
}
