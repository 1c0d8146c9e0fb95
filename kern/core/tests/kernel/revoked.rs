//! Revoked authority has no effect: if an operation on another CPU is stopped at any point while
//! the capability that it uses is revoked, the operation must not take effect after the revoke has
//! ended.

use abi::{Cap, ObjType, Op, Rights, Target};
use kern_base::flags::FLAG_AGAIN;
use kern_base::memory::Frame;
use kern_base::notification::Notification;
use kern_base::objects::Objects;
use kern_base::process::Process;
use smp::cpu::MAX_CPUS;
use smp::door::{KernelObject, Ref};

use crate::scene::Scene;
use crate::world::make::at;
use crate::world::{Regs, World};

/// Steps of the CPU that revokes.
const STEPS: usize = 100;

/// What CPU 0 does by way of a copy of a capability, which CPU 1 revokes, and what shows that it
/// has been done.
struct Deed {
    what: Regs,
    revoked: Cap,
    shows: Box<dyn Fn(&World) -> u64>,
}

/// A copy of a capability, with all rights.
fn copy(s: &mut Scene, cap: Cap) -> Cap {
    let copy = s.w.slot();
    s.w.must(0, Op::CapCopy, &[cap.arg(), at(copy), u64::from(Rights::ALL.0), 0]);
    copy
}

/// The deed stands at each point in turn while the other CPU revokes; both come to their end.
fn at_every_point(begin: impl Fn(&mut Scene) -> Deed) {
    let (mut refused, mut done) = (false, false);
    for point in 0.. {
        let mut s = Scene::new(2);
        let Deed { what, revoked, shows } = begin(&mut s);
        let (before, mut points, mut then) = (shows(&s.w), 0.., None);
        let stands = s.w.torn_where(
            0,
            what,
            move |_| points.next() == Some(point),
            |w| {
                w.begin(1, Regs::op(Op::CapRevoke, &[at(revoked)]));
                let _ = (0..STEPS).all(|_| w.step(1));
                then = w.is_over(1).then(|| shows(w));
            },
        );
        refused |= s.w.finish(0).error().is_some();
        let after = shows(&s.w);
        done |= after != before;
        if !stands {
            assert!(point > 0 && refused && done, "refused: {refused}, done: {done}");
            return;
        }
        assert_eq!(s.w.finish(1).error(), None);
        assert!(
            then.is_none_or(|then| then == after),
            "at {point}: {then:x?} when it is over, then {after:x}"
        );
    }
}

fn object<T: KernelObject<Set = Objects>>(w: &World, cap: Cap) -> Ref<'static, T> {
    w.object::<T>(cap).expect("the object")
}

#[test]
fn no_copy_goes_into_a_table_that_was_revoked() {
    at_every_point(|s| {
        let (note, table) = (s.w.make(0, ObjType::Notification, 0), s.w.make(0, ObjType::CNode, 8));
        let to = copy(s, table);
        let what = Regs::op(Op::CapCopy, &[note.arg(), Target::new(to, 3).0, u64::from(Rights::ALL.0), 0]);
        let shows = move |w: &World| u64::from(object::<Notification>(w, note).get().header.refs());
        Deed { what, revoked: table, shows: Box::new(shows) }
    });
}

#[test]
fn no_frame_is_pinned_by_a_machine_that_was_revoked() {
    at_every_point(|s| {
        let (frame, machine) = (s.w.make(0, ObjType::Frame, 12), copy(s, abi::INIT_MACHINE));
        let by = copy(s, machine);
        let what = Regs::op(Op::FramePin, &[frame.arg(), by.arg()]);
        let shows = move |w: &World| u64::from(object::<Frame>(w, frame).get().pins());
        Deed { what, revoked: machine, shows: Box::new(shows) }
    });
}

#[test]
fn no_time_is_bound_that_was_revoked() {
    at_every_point(|s| {
        let (task, time) = (s.w.task_with(s.process, 0, 10, false), s.w.make(0, ObjType::SchedContext, 0));
        let by = copy(s, time);
        let what = Regs::op(Op::SchedBind, &[by.arg(), task.cap.arg()]);
        Deed { what, revoked: time, shows: Box::new(move |w: &World| w.time_of(&task)) }
    });
}

#[test]
fn no_offer_is_made_for_a_process_that_was_revoked() {
    at_every_point(|s| {
        let (process, group) = (s.process.process, s.group);
        let by = copy(s, process);
        let what = Regs::op(Op::ProcessAccept, &[by.arg(), 9, group.arg()]);
        let shows = move |w: &World| u64::from(object::<Process>(w, process).get().offer.get().slot);
        Deed { what, revoked: process, shows: Box::new(shows) }
    });
}

/// What an operation asks another CPU to do has been done, too, before a revoke is over.
#[test]
fn what_is_in_the_mail_comes_before_a_revoke_is_over() {
    let mut s = Scene::new(3);
    let (task, _) = s.running(2, 10);
    let by = copy(&mut s, task.cap);
    s.w.begin(0, Regs::op(Op::TaskSuspend, &[by.arg()]));
    s.w.begin(1, Regs::op(Op::CapRevoke, &[at(task.cap)]));
    let _ = (0..STEPS).all(|_| s.w.step(0) || s.w.step(1));
    assert!(!s.w.is_over(1), "CPU 2 has not looked into its mailbox");
    assert!(s.w.run_until(|w| w.is_over(1)));
    assert!(!s.w.runs(2, &task), "it is suspended");
}

/// A revoke keeps its wait in a register. A task that forges the register is answered all the same.
#[test]
fn a_revoke_ends_whatever_it_seems_to_wait_for() {
    const FIRST: u64 = MAX_CPUS as u64;
    let mut s = Scene::new(2);
    let note = s.w.make(0, ObjType::Notification, 0);
    let identity = s.w.must(0, Op::CapInspect, &[at(note)]).r8;
    for ticket in
        [0, 1, 2, FIRST - 1, FIRST, FIRST + 1, FIRST * 2, FIRST * 100, 1 << 63, u64::MAX - 1, u64::MAX]
    {
        for flag in [0, FLAG_AGAIN] {
            let copy = copy(&mut s, note);
            let revoke = Regs::op(Op::CapRevoke, &[at(note), ticket, identity]).flag(flag);
            assert_eq!(s.w.call(0, revoke).error(), None);
            let is_there = s.w.must(0, Op::CapInspect, &[at(copy)]).rdi != 0;
            // Who says that it only waits has nothing revoked.
            assert!(!is_there || flag != 0, "revoke with {ticket:#x}");
        }
    }
}
