//! System calls about CPU time and new tasks that are on another CPU.

use abi::time::priority_and_period;
use abi::{Cap, Error, ObjType, Op};
use kern_base::sched_context::SchedContext;
use kern_base::task::State;
use kern_core::door::entry::Interrupt;

use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::gate::Why;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb, World, check};

const SLICE: u64 = 777_000;
const BUDGET: u64 = 5_000;
const PERIOD: u64 = 50_000;
/// Steps that others take in the middle, at most.
const STEPS: usize = 200;

fn configure(sc: Cap, priority: u64) -> Regs {
    Regs::op(Op::SchedConfigure, &[CONTROL, sc.arg(), priority, SLICE])
}

/// What SchedInfo tells: priority, slice, budget, period.
fn told(w: &mut World, n: usize, sc: Cap) -> [u64; 4] {
    let told = w.must(n, Op::SchedInfo, &[sc.arg()]);
    let (priority, period) = priority_and_period(told.rsi);
    [priority.into(), told.rdx, told.r8, period]
}

fn home(w: &World, sc: Cap) -> usize {
    w.object::<SchedContext>(sc).expect("the context").get().hot.home().index()
}

#[test]
fn the_time_of_a_task_of_another_cpu_is_set_and_told() {
    let mut s = Scene::new(3);
    let (far, _) = s.running(1, 20);
    s.w.must(0, Op::SchedConfigure, &[CONTROL, far.sc.arg(), 30, SLICE, BUDGET, PERIOD]);
    for n in 0..3 {
        assert_eq!(told(&mut s.w, n, far.sc), [30, SLICE, BUDGET, PERIOD]);
    }
    s.w.advance(100);
    let used = s.w.must(0, Op::SchedInfo, &[far.sc.arg()]).rdi;
    assert!(used >= 100, "what it uses just now counts: {used}");
    s.w.advance(BUDGET);
    s.w.interrupt(1, Interrupt::Timer);
    assert_eq!(far.state(), State::Exhausted, "the budget holds");
    let call = s.w.call(0, configure(far.sc, 30));
    assert_eq!((call.error(), far.state()), (None, State::Ready), "taking it away ends the rest");
}

#[test]
fn a_setting_from_another_cpu_chooses_who_runs() {
    let mut s = Scene::new(2);
    let (low, _) = s.running(1, 5);
    let (high, _) = s.running(1, 20);
    assert!(s.w.runs(1, &high));
    assert_eq!(s.w.call(0, configure(high.sc, 4)).error(), None);
    s.w.run();
    assert!(s.w.runs(1, &low), "the other is not the best any more");
    assert_eq!(s.w.call(0, configure(high.sc, 6)).error(), None);
    s.w.run();
    assert!(s.w.runs(1, &high), "it is again");
}

/// A setting reaches time that a call takes to another CPU and back, wherever it is by then; and
/// the calls are not disturbed.
#[test]
fn a_setting_finds_time_that_travels() {
    for (torn, far) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for point in 0.. {
            let mut s = Scene::new(3);
            let (client, _) = s.running(1, 20);
            let (server, target) = s.server(2, 3);
            let mut points = 0..;
            let here = move |_| points.next() == Some(point);
            let others = |w: &mut World| {
                w.begin(0, configure(client.sc, 30));
                let _ = (0..STEPS).all(|_| w.step(0) | w.step(1) | w.step(2));
            };
            // The call leaves or arrives; or the reply does.
            if torn == 1 {
                s.w.does_and_run(&client, call(target));
            }
            let (cpu, to, does) = if torn == 0 { (1, 2, call(target)) } else { (2, 1, answer()) };
            assert!(s.w.runs(cpu, [&client, &server][torn]));
            s.w.prepare(cpu, does);
            let stands = if far == 0 {
                s.w.tear(cpu, Why::SystemCall, here, others)
            } else {
                s.w.syscall(cpu);
                s.w.torn_mail(to, here, others)
            };
            if !stands {
                assert!(point > 0, "there is no such point");
                break;
            }
            assert_eq!(s.w.finish(0).error(), None);
            s.w.run();
            assert_eq!(told(&mut s.w, 0, client.sc), [30, SLICE, 0, 0]);
            if torn == 0 {
                s.w.does_and_run(&server, answer());
            }
            assert!(s.w.runs(1, &client) && server.state() == State::Recv, "the call is over");
        }
    }
}

/// A request, the entry in which others act, and what they do there.
struct Ask {
    /// The entry in which the request arrives, not the one in which it leaves.
    arriving: bool,
    what: fn(&Far) -> Regs,
    ends: fn(&Far) -> Regs,
}

/// A task of CPU 1, made of memory of its own, and a task of CPU 0 that may set its time.
struct Far {
    memory: Cap,
    task: Tcb,
    /// Time that nobody has, of CPU 0.
    free: Cap,
    /// A task without time, of CPU 1.
    bare: Tcb,
    /// A new task, of CPU 1.
    fresh: Cap,
    asker: Tcb,
}

/// Slots of the one that asks.
const TIME: u64 = 30 << 32;
const ALLOWS: u64 = 31 << 32;
const FREE: u64 = 32 << 32;
const BARE: u64 = 33 << 32;
const FRESH: u64 = 34 << 32;
const PROCESS: u64 = 35 << 32;

/// In most tests no CPU is ever without something to run: it would wait for the rest of a message
/// that is being sent.
fn far() -> (World, Far) {
    far_with(&[0, 1, 2])
}

/// Only these CPUs always have something to run.
fn far_with(busy: &[usize]) -> (World, Far) {
    let mut w = World::new(3);
    w.checked = false;
    let memory = w.make(0, ObjType::Untyped, 20);
    let process = w.process_of(memory, 8, 64);
    let task = w.task_of(memory, process, 1, 20, true);
    let bare = w.task_of(memory, process, 1, 20, false);
    w.resume(&task);
    w.resume(&bare);
    let free = w.make_of(0, memory, ObjType::SchedContext, 0);
    w.must(0, Op::SchedConfigure, &[CONTROL, free.arg(), 9, SLICE]);
    let fresh = w.make_of(1, memory, ObjType::Task, 0);
    let own = w.process_of(abi::INIT_UNTYPED, 8, 64);
    let asker = w.start(own, 0, 30);
    let given = [
        (task.sc, TIME),
        (abi::INIT_SCHED_CONTROL, ALLOWS),
        (free, FREE),
        (bare.cap, BARE),
        (fresh, FRESH),
        (process.process, PROCESS),
    ];
    for (cap, slot) in given {
        w.give(cap, own, Cap((slot >> 32) as u32));
    }
    for cpu in busy {
        w.start(own, *cpu, 1);
    }
    w.run();
    w.checked = true;
    (w, Far { memory, task, free, bare, fresh, asker })
}

fn asks() -> [fn(&Far) -> Regs; 5] {
    [
        |_| Regs::op(Op::SchedConfigure, &[ALLOWS, TIME, 30, SLICE]),
        |_| Regs::op(Op::SchedInfo, &[TIME]),
        |_| Regs::op(Op::SchedBind, &[FREE, BARE]),
        |_| Regs::op(Op::TaskConfigure, &[ALLOWS, FRESH, PROCESS, 0x7000_0000, 1]),
        |_| Regs::op(Op::YieldTo, &[BARE]),
    ]
}

/// At each point of the entry, in a world of its own, the others act; then all comes to its end,
/// and all memory but the asker's starts again. Returns what the asker was answered.
fn answers(ask: &Ask) -> Vec<Option<Error>> {
    let mut all = Vec::new();
    for point in 0.. {
        let (mut w, far) = far();
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let ends = (ask.ends)(&far);
        let others = |w: &mut World| {
            w.begin(2, ends);
            let _ = (0..STEPS).all(|_| w.step(0) | w.step(1) | w.step(2));
        };
        assert!(w.runs(0, &far.asker));
        w.prepare(0, (ask.what)(&far));
        let stands = if ask.arriving {
            w.syscall(0);
            w.torn_mail(1, here, others)
        } else {
            w.tear(0, Why::SystemCall, here, others)
        };
        if !stands {
            assert!(point > 0, "there is no such point");
            return all;
        }
        assert_eq!(w.finish(2).error(), None);
        w.run();
        if far.asker.state() != State::Dead {
            all.push(w.result(&far.asker).error());
        }
        w.checked = false;
        w.must(0, Op::UntypedReset, &[far.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
        check::all(&w);
    }
    all
}

#[test]
fn what_ends_meanwhile_is_asked_for_no_more() {
    let revokes: [fn(&Far) -> Regs; 5] = [
        |far| Regs::op(Op::CapRevoke, &[at(far.task.sc)]),
        |far| Regs::op(Op::CapRevoke, &[at(far.task.sc)]),
        |far| Regs::op(Op::CapRevoke, &[at(far.free)]),
        |far| Regs::op(Op::CapRevoke, &[at(far.fresh)]),
        |far| Regs::op(Op::CapRevoke, &[at(far.bare.cap)]),
    ];
    let deletes: [fn(&Far) -> Regs; 5] = [
        |far| Regs::op(Op::UntypedReset, &[far.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]),
        |far| Regs::op(Op::UntypedReset, &[far.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]),
        |far| Regs::op(Op::TaskKill, &[far.bare.cap.arg()]),
        |far| Regs::op(Op::UntypedReset, &[far.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]),
        |far| Regs::op(Op::TaskKill, &[far.bare.cap.arg()]),
    ];
    for (n, what) in asks().into_iter().enumerate() {
        for (arriving, ends) in
            [(false, revokes[n]), (true, revokes[n]), (false, deletes[n]), (true, deletes[n])]
        {
            for error in answers(&Ask { arriving, what, ends }).into_iter().flatten() {
                let ends = matches!(error, Error::NoCapability | Error::Dying | Error::BadState)
                    || matches!((n, error), (4, Error::WouldBlock));
                assert!(ends, "operation {n}: {error:?}");
            }
        }
    }
}

#[test]
fn who_is_killed_while_it_asks_ends() {
    for what in asks() {
        for arriving in [false, true] {
            answers(&Ask { arriving, what, ends: |far| Regs::op(Op::TaskKill, &[far.asker.cap.arg()]) });
        }
    }
}

/// The asker's CPU idles until the answer comes, and has done before what others ask of it.
#[test]
fn an_answer_comes_to_a_cpu_that_idles() {
    let lets_be: fn(&Far) -> Option<Regs> = |_| None;
    let suspends: fn(&Far) -> Option<Regs> = |far| Some(Regs::op(Op::TaskSuspend, &[far.asker.cap.arg()]));
    let kills: fn(&Far) -> Option<Regs> = |far| Some(Regs::op(Op::TaskKill, &[far.asker.cap.arg()]));
    let takes_time: fn(&Far) -> Option<Regs> = |far| Some(Regs::op(Op::CapDelete, &[at(far.asker.sc)]));
    for (n, what) in asks().into_iter().enumerate() {
        for (case, meanwhile) in [lets_be, suspends, kills, takes_time].into_iter().enumerate() {
            let (mut w, far) = far_with(&[1, 2]);
            w.does(&far.asker, what(&far));
            assert!(w.current(0).is_none(), "case {case}: it waits");
            if let Some(act) = meanwhile(&far) {
                w.begin(2, act);
                let _ = (0..STEPS).all(|_| w.step(2) | w.step(0));
                if w.current(2).is_some() {
                    w.run();
                }
                assert_eq!(w.finish(2).error(), None);
            }
            w.run();
            match case {
                0 => assert!(w.runs(0, &far.asker)),
                1 => {
                    assert!(w.current(0).is_none(), "it is suspended");
                    w.must(2, Op::TaskResume, &[far.asker.cap.arg()]);
                    w.run();
                    assert!(w.runs(0, &far.asker));
                }
                2 => {
                    assert_eq!(far.asker.state(), State::Dead);
                    continue;
                }
                _ => {
                    assert!(w.current(0).is_none(), "it has no time");
                    continue;
                }
            }
            let refused = (n == 4).then_some(Error::WouldBlock);
            assert_eq!(w.result(&far.asker).error(), refused, "operation {n}, case {case}");
        }
    }
}

#[test]
fn time_is_given_to_a_task_of_another_cpu() {
    let (mut w, far) = far();
    w.does_and_run(&far.asker, Regs::op(Op::SchedBind, &[FREE, BARE]));
    assert_eq!(w.result(&far.asker).error(), None);
    assert_eq!(home(&w, far.free), 1, "it has gone there");
    assert!(far.bare.is_through() && far.bare.own_time() != 0);
    w.does_and_run(&far.asker, Regs::op(Op::SchedBind, &[FREE, BARE]));
    assert_eq!(w.result(&far.asker).error(), Some(Error::InUse));
}

#[test]
fn time_that_is_refused_is_free_again() {
    let (mut w, far) = far();
    let narrow = w.control_of(0, abi::INIT_UNTYPED, 200, 0b101);
    w.must(0, Op::SchedConfigure, &[narrow.arg(), far.free.arg(), 9, SLICE]);
    for n in [0, 2] {
        let refused = w.ask(n, Op::SchedBind, &[far.free.arg(), far.bare.cap.arg()]);
        assert_eq!(refused.map(drop), Err((Error::OverLimit, u64::MAX)), "not on that CPU");
    }
    w.must(2, Op::SchedConfigure, &[CONTROL, far.free.arg(), 9, SLICE]);
    w.must(2, Op::SchedBind, &[far.free.arg(), far.bare.cap.arg()]);
    w.run();
}

#[test]
fn a_task_is_configured_by_a_task_of_another_cpu() {
    let (mut w, far) = far();
    w.does_and_run(&far.asker, (asks()[3])(&far));
    assert_eq!(w.result(&far.asker).error(), None);
    assert_eq!(w.task(far.fresh).get().hot.home().index(), 0, "it came to who configured it");
    w.does_and_run(&far.asker, (asks()[3])(&far));
    assert_eq!(w.result(&far.asker).error(), Some(Error::BadState), "once");
    w.must(0, Op::TaskResume, &[far.fresh.arg()]);
    w.run();
    assert_eq!(w.task(far.fresh).get().hot.home().index(), 1);
}
