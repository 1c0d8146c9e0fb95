//! Operations that are refused late: until then, other CPUs must see nothing of them.

use abi::audit::may;
use abi::{Cap, Error, INIT_MACHINE, ObjType, Op, Rights, Target};
use smp::chaos::Point;

use crate::events::{BITS, LOG2, POOL_VA};
use crate::world::make::{CONTROL, INIT};
use crate::world::{Regs, World};

/// Runs `then` while a system call of the first CPU stands at the point with this number, and
/// finishes the call. Returns the call's error and what `then` found; `None` if the call has no
/// such point.
fn beside(
    w: &mut World,
    args: Regs,
    point: usize,
    then: impl FnOnce(&mut World) -> bool,
) -> Option<(Option<Error>, bool)> {
    let mut points = 0..;
    let mut found = false;
    let is_there = move |_: Point| points.next() == Some(point);
    let stood = w.torn_where(0, args, is_there, |w| found = then(w));
    let error = w.finish(0).error();
    stood.then_some((error, found))
}

/// Makes a world at each point of a system call and plays there, until the call has no such point.
fn at_each_point(mut play: impl FnMut(usize) -> Option<(Option<Error>, bool)>, refused: Error) {
    let mut points = 0;
    while let Some((error, found)) = play(points) {
        assert_eq!(error, Some(refused), "point {points}");
        assert!(!found, "seen at point {points}");
        points += 1;
    }
    assert!(points > 5, "{points} points");
}

/// Nothing is exposed that has no identity: calls to such a task would never end.
#[test]
fn a_task_that_is_configured_in_vain_is_not_exposed() {
    let play = |point| {
        let mut w = World::new(2);
        let p = w.process();
        let group = w.group(4, 4);
        w.join_all(group, p, Cap(5));
        let t = w.make(0, ObjType::Task, 0);
        let used = w.agent(0).object.get().utcb_address();
        let args = Regs::op(Op::TaskConfigure, &[CONTROL, t.arg(), INIT.process.arg(), used, 0]);
        let expose = [Target::new(group, 1).0, t.arg(), 0];
        beside(&mut w, args, point, |w| w.ask(1, Op::Expose, &expose).is_ok())
    };
    at_each_point(play, Error::Mapped);
}

/// What a rule forbids for a task without label stays forbidden while the task is configured in
/// vain for a process with a label.
#[test]
fn a_task_that_is_configured_in_vain_has_no_label() {
    let play = |point| {
        let mut w = World::new(2);
        let (subject, lender) = (w.process(), w.process());
        w.must(0, Op::LabelSet, &[INIT_MACHINE.arg(), subject.process.arg(), 5]);
        w.must(0, Op::LabelSet, &[INIT_MACHINE.arg(), lender.process.arg(), 6]);
        w.must(0, Op::LabelRule, &[INIT_MACHINE.arg(), 5, 0, u64::from(may::ALL & !may::GRANT)]);
        let used = w.start(lender, 0, 10).object.get().utcb_address();
        let t = w.make(0, ObjType::Task, 0);
        let copy = [t.arg(), Target::new(subject.cnode, 9).0, u64::from(Rights::ALL.0), 0];
        let args = Regs::op(Op::TaskConfigure, &[CONTROL, t.arg(), lender.process.arg(), used, 0]);
        beside(&mut w, args, point, |w| w.ask(1, Op::CapCopy, &copy).is_ok())
    };
    at_each_point(play, Error::Mapped);
}

/// An event that a pool takes reaches its process: a pool that is bound in vain takes none.
#[test]
fn a_pool_that_is_bound_in_vain_takes_no_event() {
    let play = |point| {
        let mut w = World::new(2);
        let (p, victim) = (w.process(), w.process());
        let client = w.start(p, 1, 10);
        let reader = w.start(victim, 0, 20);
        let group = w.group(4, 4);
        w.join_all(group, p, Cap(5));
        w.expose(group, 1, reader.cap);
        let pool = w.make(0, ObjType::EventPool, u64::from(LOG2));
        let used = reader.object.get().utcb_address();
        let args = [pool.arg(), victim.process.arg(), reader.cap.arg(), used, BITS];
        let found = beside(&mut w, Regs::op(Op::PoolBind, &args), point, |w| {
            w.does_and_run(&client, Regs::message(Op::Send, Target::new(Cap(5), 1), [42, 2, 3, 4]));
            client.is_through() && client.regs().error().is_none()
        });
        // In vain, the pool was nobody's: it can be bound immediately.
        let args = [pool.arg(), victim.process.arg(), reader.cap.arg(), POOL_VA, BITS];
        w.must(0, Op::PoolBind, &args);
        found
    };
    at_each_point(play, Error::Mapped);
}
