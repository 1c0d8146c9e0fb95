//! Authority over CPU time: what SchedControls allow, how they are extended, and that nobody sets
//! or starts anything beyond that.

use abi::{Cap, Error, ObjType, Op, Target, sched_control_rights};

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

const NOT_COVERED: (Error, u64) = (Error::OverLimit, u64::MAX);

/// A SchedControl with a ceiling, on CPUs.
fn control(s: &mut Scene, ceiling: u64, cpus: u64) -> Cap {
    s.w.control_of(0, abi::INIT_UNTYPED, ceiling, cpus)
}

/// CPU time as it is made: nobody has set it.
fn inert(s: &mut Scene) -> Cap {
    s.w.retype_of(0, abi::INIT_UNTYPED, ObjType::SchedContext, 0)
}

fn configure(s: &mut Scene, control: Cap, time: Cap, priority: u64) -> Result<(), (Error, u64)> {
    s.w.ask(0, Op::SchedConfigure, &[control.arg(), time.arg(), priority, 1000]).map(drop)
}

fn bind(s: &mut Scene, time: Cap, task: &Tcb) -> Result<(), (Error, u64)> {
    s.w.ask(0, Op::SchedBind, &[time.arg(), task.cap.arg()]).map(drop)
}

/// Starts a task on time of its own that may run on a control's CPUs only.
fn start_on(s: &mut Scene, control: Cap, task: &Tcb) {
    let time = inert(s);
    configure(s, control, time, 9).expect("it is nobody's");
    bind(s, time, task).expect("it may run there");
    s.w.resume(task);
    s.w.run();
}

#[test]
fn new_time_is_inert_until_it_is_set() {
    let mut s = Scene::new(1);
    let (task, time) = (s.task(0, 10, false).0, inert(&mut s));
    assert_eq!(bind(&mut s, time, &task).map_err(|e| e.0), Err(Error::BadState));
    let info = s.w.must(0, Op::SchedInfo, &[time.arg()]);
    assert_eq!((info.rsi, info.rdx), (0, 0), "neither priority nor slice");
    let low = control(&mut s, 7, 1);
    assert_eq!(configure(&mut s, low, time, 7), Ok(()));
    assert_eq!(bind(&mut s, time, &task), Ok(()));
}

#[test]
fn nothing_goes_beyond_a_ceiling() {
    let mut s = Scene::new(1);
    let time = inert(&mut s);
    let new = s.w.make(0, ObjType::SchedControl, 0);
    assert_eq!(configure(&mut s, new, time, 0), Err(NOT_COVERED), "a new one allows nothing");
    let low = control(&mut s, 9, 1);
    assert_eq!(configure(&mut s, low, time, 10), Err((Error::OverLimit, 9)));
    assert_eq!(configure(&mut s, low, time, 9), Ok(()));
    // Nor does it raise the time of a task that runs.
    let (_, task) = s.somebody(0, 5);
    assert_eq!(bind(&mut s, time, &task).map_err(|e| e.0), Err(Error::InUse));
    assert_eq!(configure(&mut s, low, task.sc, 200), Err((Error::OverLimit, 9)));
}

#[test]
fn no_task_gets_a_cpu_that_is_not_covered() {
    let mut s = Scene::new(2);
    let first = control(&mut s, 9, 1);
    let task = s.w.make(0, ObjType::Task, 0);
    let on = |s: &mut Scene, cpu| {
        let args = [first.arg(), task.arg(), s.process.process.arg(), 0x5a00_0000, cpu];
        s.w.ask(0, Op::TaskConfigure, &args).map(drop)
    };
    assert_eq!(on(&mut s, 1), Err(NOT_COVERED));
    assert_eq!(on(&mut s, 2).map_err(|e| e.0), Err(Error::NoCpu));
    assert_eq!(on(&mut s, 0), Ok(()));
    // Time for one CPU does not come to another one by being bound before the task starts there.
    let (there, time) = (s.task(1, 10, false).0, inert(&mut s));
    assert_eq!(configure(&mut s, first, time, 9), Ok(()));
    assert_eq!(bind(&mut s, time, &there), Err(NOT_COVERED));
    let second = control(&mut s, 9, 2);
    assert_eq!(configure(&mut s, second, time, 9), Ok(()));
    assert_eq!(bind(&mut s, time, &there), Ok(()));
    s.w.resume(&there);
    s.w.run();
    assert!(s.w.runs(1, &there));
}

/// While a task has time, its CPUs stay, and setting it takes authority over all of them.
#[test]
fn time_in_use_is_set_by_who_may_set_it_everywhere() {
    let mut s = Scene::new(2);
    let (both, first) = (control(&mut s, 9, 3), control(&mut s, 100, 1));
    let (task, time) = (s.task(1, 10, false).0, inert(&mut s));
    configure(&mut s, both, time, 5).expect("it is nobody's");
    bind(&mut s, time, &task).expect("it may run there");
    assert_eq!(configure(&mut s, first, time, 50), Err(NOT_COVERED), "it would start on cpu1");
    assert_eq!(configure(&mut s, both, time, 6), Ok(()));
    s.w.resume(&task);
    s.w.run();
    assert!(s.w.runs(1, &task), "its CPUs are as before");
}

#[test]
fn authority_is_extended_only_downwards() {
    let mut s = Scene::new(2);
    let (by, to) = (control(&mut s, 20, 1), s.w.make(0, ObjType::SchedControl, 0));
    let mut allow = |ceiling, first, cpus| {
        s.w.ask(0, Op::SchedAllow, &[by.arg(), to.arg(), ceiling, first, cpus]).map(drop)
    };
    assert_eq!(allow(21, 0, 1), Err((Error::OverLimit, 20)));
    assert_eq!(allow(20, 0, 3), Err(NOT_COVERED));
    assert_eq!(allow(20, 64, 1), Err(NOT_COVERED));
    assert_eq!(allow(256, 0, 1), Err((Error::BadArgument, 2)));
    assert_eq!(allow(20, 63, 1), Err((Error::BadArgument, 3)));
    assert_eq!(allow(20, 1024, 0), Err((Error::BadArgument, 3)));
    assert_eq!(allow(10, 0, 1), Ok(()));
    assert_eq!(allow(11, 0, 1), Err((Error::BadState, 10)), "its ceiling stays");
    let time = inert(&mut s);
    assert_eq!(configure(&mut s, to, time, 11), Err((Error::OverLimit, 10)));
    // Who may use one may not extend it.
    let (process, task) = s.somebody(0, 5);
    let rights = sched_control_rights::SCHEDULE.rights();
    for (slot, cap) in [(Cap(20), by), (Cap(21), to)] {
        let args = [cap.arg(), Target::new(process.cnode, slot.0).0, u64::from(rights.0), 0];
        s.w.must(0, Op::CapCopy, &args);
    }
    s.w.does_and_run(&task, Regs::op(Op::SchedAllow, &[Cap(20).arg(), Cap(21).arg(), 10, 0, 1]));
    let lacks = u64::from(sched_control_rights::CONFIGURE.rights().0);
    assert_eq!(s.w.result(&task).result().map(drop), Err((Error::NoRight, lacks)));
}

/// Memory makes objects, and no CPU time: a program with an Untyped, and without a SchedControl,
/// starts no task, and sets no priority.
#[test]
fn memory_alone_is_no_cpu_time() {
    let mut s = Scene::new(2);
    let (process, task) = s.somebody(0, 5);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    s.w.must(0, Op::CapMove, &[memory.arg(), Target::new(process.cnode, 20).0]);
    s.w.give(process.process, process, Cap(3));
    s.w.give(task.sc, process, Cap(4));
    for (kind, slot) in [(ObjType::SchedControl, 30), (ObjType::SchedContext, 31), (ObjType::Task, 32)] {
        let args = [Target::new(Cap(20), kind as u32).0, 0, Target::new(Cap(2), slot).0, 1];
        s.w.does_and_run(&task, Regs::op(Op::Retype, &args));
        assert_eq!(s.w.result(&task).error(), None, "{kind:?} is made");
    }
    let [own, time, new] = [30, 31, 32].map(|slot| Cap(slot).arg());
    let none = Cap(40).arg();
    let tries: [(Op, &[u64], Error); 9] = [
        (Op::SchedConfigure, &[own, time, 0, 1000], Error::OverLimit),
        (Op::SchedConfigure, &[none, time, 0, 1000], Error::NoCapability),
        (Op::SchedConfigure, &[time, time, 0, 1000], Error::WrongType),
        (Op::SchedConfigure, &[own, Cap(4).arg(), 255, 1000], Error::OverLimit),
        (Op::SchedAllow, &[own, own, 0, 0, 1], Error::OverLimit),
        (Op::SchedAllow, &[none, own, 0, 0, 1], Error::NoCapability),
        (Op::TaskConfigure, &[own, new, Cap(3).arg(), 0x5a00_0000, 0], Error::OverLimit),
        (Op::TaskConfigure, &[own, new, Cap(3).arg(), 0x5a00_0000, 1], Error::OverLimit),
        (Op::SchedBind, &[time, new], Error::BadState),
    ];
    for (op, args, expected) in tries {
        s.w.does_and_run(&task, Regs::op(op, args));
        assert_eq!(s.w.result(&task).error(), Some(expected), "{op:?} {args:x?}");
    }
}

/// A call to a CPU where the caller's time may not run leaves the time behind. The callee goes on
/// with its own, or, if it has none, the call is refused.
#[test]
fn time_stays_where_it_may_run() {
    let mut s = Scene::new(2);
    let first = control(&mut s, 9, 1);
    let ((client, _), (server, target)) = (s.task(0, 10, false), s.server(1, 10));
    start_on(&mut s, first, &client);
    for _ in 0..3 {
        s.w.does_and_run(&client, call(target));
        assert!(s.w.runs(1, &server), "it serves on its own time");
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [4, 3, 2, 1]));
        assert!(s.w.runs(0, &client));
        assert_eq!(s.w.result(&client).msg(), [4, 3, 2, 1]);
    }
    // Without time of its own nobody can serve it.
    s.delete(server.sc);
    s.w.does_and_run(&client, call(target));
    assert_eq!(s.w.result(&client).error(), Some(Error::NoTime));
    assert!(s.w.runs(0, &client), "and it goes on with its time");
}

/// Borrowed time stays behind, too: with the task that borrowed it.
#[test]
fn borrowed_time_stays_where_it_may_run() {
    let mut s = Scene::new(2);
    let first = control(&mut s, 9, 1);
    let (client, _) = s.task(0, 10, false);
    let (middle, to_middle) = s.server(0, 10);
    let (far, to_far) = s.server(1, 10);
    s.delete(middle.sc);
    start_on(&mut s, first, &client);
    for _ in 0..2 {
        s.w.does_and_run(&client, call(to_middle));
        assert!(s.w.runs(0, &middle), "on the client's time");
        s.w.does_and_run(&middle, call(to_far));
        assert!(s.w.runs(1, &far), "on its own");
        s.w.does_and_run(&far, Regs::message(Op::ReplyRecv, Target(0), [7; 4]));
        assert!(s.w.runs(0, &middle), "on the client's time again");
        s.w.does_and_run(&middle, Regs::message(Op::ReplyRecv, Target(0), [8; 4]));
        assert!(s.w.runs(0, &client));
        assert_eq!(s.w.result(&client).msg(), [8; 4]);
    }
    // The client gives up while its time rests with the one in the middle.
    s.w.does_and_run(&client, call(to_middle));
    s.w.does_and_run(&middle, call(to_far));
    s.w.must(0, Op::TaskCancel, &[client.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(0, &client), "it has its time back");
}

/// A server passes a call on to a CPU where the caller's time may not run: the time stays with
/// nobody, and its owner has it again when the call is over.
#[test]
fn forwarded_time_stays_where_it_may_run() {
    let mut s = Scene::new(3);
    let near = control(&mut s, 9, 3);
    let (client, _) = s.task(0, 10, false);
    let (server, target) = s.server(1, 10);
    let (far, to_far) = s.server(2, 10);
    start_on(&mut s, near, &client);
    for _ in 0..2 {
        s.w.does_and_run(&client, call(target));
        assert_ne!(s.w.time_of(&server), server.own_time(), "on the client's time");
        s.w.does_and_run(&server, Regs::message(Op::Forward, to_far, [5; 4]));
        assert_eq!(s.w.time_of(&far), far.own_time(), "on its own");
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        s.w.does_and_run(&far, Regs::message(Op::ReplyRecv, Target(0), [7; 4]));
        assert!(s.w.runs(0, &client));
        assert_eq!(s.w.result(&client).msg(), [7; 4]);
    }
    s.delete(far.sc);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::message(Op::Forward, to_far, [5; 4]));
    assert_eq!(s.w.result(&client).error(), Some(Error::NoTime));
}

/// A search for time passes by time that may not run everywhere, and finds what lies beyond it.
#[test]
fn a_search_takes_only_time_that_may_run_everywhere() {
    let mut s = Scene::new(2);
    let first = control(&mut s, 9, 1);
    let (inner, to_inner) = s.task(0, 10, false);
    let (server, target) = s.server(1, 10);
    start_on(&mut s, first, &inner);
    s.w.does_and_run(&inner, call(target));
    let (outer, _) = s.running(0, 10);
    s.w.does_and_run(&outer, call(to_inner));
    assert_eq!(s.w.time_of(&server), server.own_time());
    // It has lost its own: that of the outer caller comes, past the inner one's.
    s.delete(server.sc);
    assert_eq!(s.w.time_of(&server), outer.own_time());
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [7; 4]));
    assert_eq!(s.w.result(&inner).msg(), [7; 4]);
}

/// A SchedControl ends with its capabilities, and what was set by it stays.
#[test]
fn what_was_set_outlives_its_authority() {
    let mut s = Scene::new(1);
    let (low, time) = (control(&mut s, 9, 1), inert(&mut s));
    let next = s.w.make(0, ObjType::SchedControl, 0);
    s.w.must(0, Op::SchedAllow, &[low.arg(), next.arg(), 5, 0, 1]);
    configure(&mut s, low, time, 9).expect("it is nobody's");
    s.delete(low);
    assert_eq!(configure(&mut s, low, time, 1).map_err(|e| e.0), Err(Error::NoCapability));
    let info = s.w.must(0, Op::SchedInfo, &[time.arg()]);
    assert_eq!((info.rsi, info.rdx), (9, 1000));
    assert_eq!(configure(&mut s, next, time, 5), Ok(()), "nor is what it extended taken back");
}
