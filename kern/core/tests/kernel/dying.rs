//! The end of a large process beside a program that outranks it: whose time it takes.

use core::cell::Cell;

use abi::{Op, Target};
use kern_base::task::State;
use smp::host_test;

use crate::scene::{GROUP, Scene};
use crate::world::{Regs, Tcb};

/// Tasks of the process, besides the one that faults.
const COUNT: u64 = 40;
const LOW: u64 = 1;
/// Priority of the program.
const PROGRAM: u64 = 100;
/// Ticks between two readings of the clock.
const PACE: u64 = 100;
/// Points of an interrupt of the program, at most.
const POINTS: u64 = 300;

/// A process of many tasks on CPU 0, one of which has faulted. Its handler, on CPU 1, has taken the
/// fault. A program of another process runs on CPU 0. Returns the handler, the tasks, the program.
fn scene() -> (Scene, Tcb, Vec<Tcb>, Tcb) {
    let mut s = Scene::unchecked(2, 32 << 20);
    let other = s.w.process();
    let handler = s.w.start(other, 1, LOW);
    s.w.expose(s.group, 9, handler.cap);
    s.w.does_and_run(&handler, Regs::op(Op::Recv, &[]));
    let process = s.w.process_of(abi::INIT_UNTYPED, COUNT + 1, 16);
    s.w.join_all(s.group, process, GROUP);
    s.w.must(0, Op::FaultHandler, &[process.process.arg(), Target::new(GROUP, 9).0]);
    let tasks: Vec<Tcb> = (0..=COUNT).map(|_| s.w.start(process, 0, LOW)).collect();
    assert!(tasks.iter().any(|task| s.w.runs(0, task)));
    s.w.fault(0, 0xdead_b000);
    s.w.run();
    assert!(s.w.runs(1, &handler), "it takes the fault");
    let (_, program) = s.somebody(0, PROGRAM);
    assert!(s.w.runs(0, &program));
    (s, handler, tasks, program)
}

fn dead(tasks: &[Tcb]) -> usize {
    tasks.iter().filter(|task| task.state() == State::Dead).count()
}

/// The fault fails because the handler ends, and with it the process of the faulter. All that
/// happens at the handler's priority, which the program outranks.
#[test]
fn a_program_keeps_its_cpu_while_a_process_of_low_priority_dies() {
    let (mut s, _, tasks, program) = scene();
    s.w.k.machine.hardware().pace = PACE;
    s.w.fault(1, 0xdead_0000);
    let points = Cell::new(0);
    let mut count = |_| points.set(points.get() + 1);
    let (began, mut inside) = (s.w.now(), 0);
    for round in 0.. {
        if dead(&tasks) == tasks.len() {
            break;
        }
        while s.w.event(1) {}
        let entered = s.w.now();
        points.set(0);
        let came = host_test::at_points(&mut count, || s.w.event(0));
        inside += s.w.now() - entered;
        assert!(points.get() <= POINTS, "an interrupt of the program has {} points", points.get());
        assert!(s.w.runs(0, &program));
        if !came {
            let at = s.w.k.machine.hardware().timers.get(&0).copied().expect("a timer is set");
            s.w.advance(at.saturating_sub(s.w.now()));
        }
        assert!(round < 20 * COUNT, "it never ends: {} of {} are dead", dead(&tasks), tasks.len());
    }
    let all = s.w.now() - began;
    assert!(inside * 10 <= all, "{inside} of {all} ticks are not the program's");
}
