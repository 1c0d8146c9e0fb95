//! The timer's everyday interrupt and yields: the short way and the general one lead to the same
//! state.

use std::sync::atomic::Ordering::Relaxed;

use abi::{BUDGET_MIN, Cap, Error, ObjType, Op};
use kern_base::task::State;

use crate::scene::Scene;
use crate::world::make::{CONTROL, Proc};
use crate::world::{Regs, Tcb};

/// Priority of the program that is interrupted.
const PROGRAM: u64 = 100;
const SLICE: u64 = 20_000;
/// How long the sleeper sleeps.
const SLEEP: u64 = 10_000;
const PERIOD: u64 = 1_000_000;
/// Where a process has its Notification.
const NOTE: Cap = Cap(3);

/// A program runs on CPU 0, and a task sleeps there.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The sleeper's priority.
    sleeper: u64,
    /// The sleeper waits for bits, or else for calls.
    bits: bool,
    /// Another task of the program's priority is ready.
    equal: bool,
    /// A task of another priority sleeps longer.
    other: bool,
    /// The program's slice is over when the timer fires.
    over: bool,
    /// The sleeper's time has a budget.
    budget: bool,
    /// The program and the sleeper have vector state.
    vector: bool,
    /// The program wants a notice when its slice is over.
    notice: bool,
}

impl Case {
    fn all() -> impl Iterator<Item = Case> {
        [PROGRAM - 1, PROGRAM, PROGRAM + 40].into_iter().flat_map(|sleeper| {
            (0..1 << 7).map(move |bits| {
                let has = |bit: u32| bits & 1 << bit != 0;
                Case {
                    sleeper,
                    bits: has(0),
                    equal: has(1),
                    other: has(2),
                    over: has(3),
                    budget: has(4),
                    vector: has(5),
                    notice: has(6),
                }
            })
        })
    }
}

fn process(s: &mut Scene, vector: bool) -> Proc {
    if !vector {
        return s.w.process();
    }
    let (cnode, vspace) = (s.w.make(0, ObjType::CNode, 64), s.w.make(0, ObjType::VSpace, 16));
    let process = s.w.make(0, ObjType::Process, 8);
    s.w.must(0, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 1]);
    Proc { process, cnode, vspace }
}

/// A task of its own process, which runs or is ready.
fn task(s: &mut Scene, priority: u64, budget: bool, vector: bool) -> Tcb {
    let process = process(s, vector);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, process, NOTE);
    let task = s.w.task_with(process, 0, priority, true);
    let budget = if budget { [BUDGET_MIN * 50, PERIOD] } else { [0, 0] };
    let settings = [CONTROL, task.sc.arg(), priority, SLICE, budget[0], budget[1]];
    s.w.must(0, Op::SchedConfigure, &settings);
    s.w.resume(&task);
    s.w.run();
    task
}

fn sleep(s: &mut Scene, task: &Tcb, bits: bool, until: u64) {
    let args = if bits { Regs::op(Op::Wait, &[NOTE.arg()]) } else { Regs::op(Op::Recv, &[]) };
    s.w.does(task, args.deadline(until));
}

/// What can be told apart after some interrupts of the timer.
fn outcome(case: Case, fast: bool) -> (Vec<String>, usize) {
    let mut s = Scene::new(1);
    s.w.gate.fast = fast;
    let sleeper = task(&mut s, 200, false, case.vector);
    let budget = if case.budget { [BUDGET_MIN * 50, PERIOD] } else { [0, 0] };
    let other = task(&mut s, 10, false, false);
    let until = s.w.now() + SLEEP;
    s.w.must(0, Op::SchedConfigure, &[CONTROL, sleeper.sc.arg(), case.sleeper, SLICE, budget[0], budget[1]]);
    s.w.run();
    assert!(s.w.runs(0, &sleeper));
    sleep(&mut s, &sleeper, case.bits, until);
    if case.other {
        sleep(&mut s, &other, false, until + 5 * SLEEP);
    }
    let program = task(&mut s, PROGRAM, false, case.vector);
    let utcb = program.object.get().utcb(program.pin());
    utcb.wants_notice.store(case.notice.into(), Relaxed);
    let equal = case.equal.then(|| task(&mut s, PROGRAM, false, false));
    let tasks: Vec<&Tcb> =
        [Some(&sleeper), Some(&other), Some(&program), equal.as_ref()].into_iter().flatten().collect();
    let mut log = Vec::new();
    s.w.gate.short.set(0);
    let mut note = |s: &Scene, what: &str, exact: bool| {
        let cx = s.w.look(0);
        let running = tasks.iter().position(|task| s.w.runs(0, task));
        let soonest = cx.sched.deadlines.soonest(cx.pin(), 0..256);
        let timer = s.w.k.machine.hardware().timers.get(&0).copied().unwrap_or(u64::MAX);
        // It may fire early.
        assert!(timer <= soonest, "{what}: the timer fires at {timer}, and a deadline is {soonest}");
        let notice = utcb.preempt_pending.load(Relaxed);
        log.push(format!("{what}: {running:?} runs, deadlines from {soonest}, notice {}", notice != 0));
        for task in &tasks {
            let time = cx.time().open_time(s.w.object(task.sc).expect("time")).expect("here");
            // What runs is charged when it stops. After a while the general way has served more
            // interrupts, which take time: it leaves the timer set for longer.
            let runs = cx.sched.current.is(time.object());
            let rest = time.state.remaining();
            let left = if runs { cx.sched.until.get().wrapping_sub(s.w.now()) } else { rest };
            let used = time.state.consumed().wrapping_add(rest).wrapping_sub(left);
            let used = if exact { used } else { 0 };
            log.push(format!(
                "{:?} {:?} place {:?} used {} full {}",
                task.state(),
                task.regs(),
                time.state.links.survey().2,
                used,
                task.hot().regs.full.get(),
            ));
        }
    };
    note(&s, "before", true);
    let wake = until.saturating_sub(s.w.now()) + if case.over { SLICE } else { 1 };
    s.w.advance(wake);
    s.w.event(0);
    note(&s, "after the deadline", true);
    assert!(sleeper.state() == State::Ready && sleeper.regs().error() == Some(Error::Timeout), "{case:?}");
    for _ in 0..3 {
        s.w.advance(SLICE);
        s.w.event(0);
        note(&s, "a slice later", false);
    }
    for _ in 0..3 {
        let runs = tasks.iter().find(|task| s.w.runs(0, task)).expect("somebody is ready");
        s.w.does(runs, Regs::op(Op::Yield, &[]));
        note(&s, "after a yield", false);
    }
    (log, s.w.gate.short.get())
}

#[test]
fn the_short_way_does_what_the_general_one_does() {
    for case in Case::all() {
        let ((short, served), (general, none)) = (outcome(case, true), outcome(case, false));
        assert_eq!(none, 0);
        assert!(served > 0, "{case:?}: the short way serves none of them");
        for (short, general) in short.iter().zip(&general) {
            assert_eq!(short, general, "{case:?}");
        }
    }
}
