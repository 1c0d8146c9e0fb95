//! CPUs that are parked, and signs of life.

use abi::{Error, ObjType, Op, Target};
use kern_base::task::State;
use smp::mailbox::Idle;
use smp::sync::Ordering::Relaxed;

use crate::scene::Scene;
use crate::world::make::CONTROL;
use crate::world::{Mode, Regs, Tcb, World};

/// CPUs of the test: the agents are on all but the last, which has nobody.
const CPUS: usize = 3;
const EMPTY: usize = 2;

fn scene() -> Scene {
    let mut s = Scene::new(CPUS);
    // Its agent ends: from now on that CPU is empty.
    let agent = s.w.agent(EMPTY);
    s.kill(&agent);
    s
}

fn machine(cpu: usize) -> u64 {
    Target::new(abi::INIT_MACHINE, cpu as u32).0
}

/// Parks a CPU, or ends that. Returns whether it was parked, or the error.
fn park(w: &mut World, cpu: usize, parked: bool) -> Result<bool, (Error, u64)> {
    let answer = w.ask(0, Op::CpuPark, &[machine(cpu), parked.into()]);
    w.run();
    answer.map(|answer| answer.rdi != 0)
}

/// How a CPU is: its tasks, whether it is parked, and for how long it has owed a sign of life.
fn state(w: &mut World, cpu: usize, asks: bool) -> [u64; 3] {
    let answer = w.must(0, Op::CpuInfo, &[machine(cpu), asks.into()]);
    [answer.rdi, answer.rsi, answer.rdx]
}

fn moves(w: &mut World, task: &Tcb, cpu: usize) -> Option<(Error, u64)> {
    let answer = w.ask(0, Op::TaskMove, &[CONTROL, task.cap.arg(), cpu as u64]);
    w.run();
    answer.err()
}

#[test]
fn a_cpu_without_tasks_parks_and_takes_none() {
    let mut s = scene();
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(false));
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(true), "it is parked already");
    assert_eq!(state(&mut s.w, EMPTY, false), [0, 1, 0]);
    let refused = Some((Error::Parked, EMPTY as u64));
    let (task, _) = s.running(1, 20);
    assert_eq!(moves(&mut s.w, &task, EMPTY), refused);
    assert!(s.w.runs(1, &task), "it goes on where it is");
    let (process, fresh) = (s.process.process, s.w.make(0, ObjType::Task, 0));
    let at = |cpu: usize| [CONTROL, fresh.arg(), process.arg(), 0x70_0000, cpu as u64];
    assert_eq!(s.w.ask(0, Op::TaskConfigure, &at(EMPTY)).err(), refused);
    assert_eq!(park(&mut s.w, EMPTY, false), Ok(true));
    assert_eq!(park(&mut s.w, EMPTY, false), Ok(false));
    s.w.must(0, Op::TaskConfigure, &at(EMPTY));
    assert_eq!(moves(&mut s.w, &task, EMPTY), None);
    assert!(s.w.runs(EMPTY, &task));
    assert_eq!(state(&mut s.w, EMPTY, false), [2, 0, 0]);
}

#[test]
fn a_cpu_with_tasks_does_not_park() {
    let mut s = scene();
    let (task, _) = s.running(EMPTY, 20);
    assert_eq!(park(&mut s.w, EMPTY, true), Err((Error::InUse, 1)));
    // It waits, or is suspended: it has its place all the same.
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    assert_eq!(task.state(), State::Recv);
    assert_eq!(park(&mut s.w, EMPTY, true), Err((Error::InUse, 1)));
    let (other, _) = s.task(1, 20, true);
    assert_eq!(moves(&mut s.w, &other, EMPTY), None);
    assert_eq!(park(&mut s.w, EMPTY, true), Err((Error::InUse, 2)), "one was never resumed");
    s.kill(&task);
    assert_eq!(moves(&mut s.w, &other, 1), None);
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(false), "one is dead, the other has gone");
}

/// A task that was configured for a CPU and not resumed yet is elsewhere, and has its place there.
#[test]
fn a_place_is_taken_before_the_task_comes() {
    let mut s = scene();
    let (process, fresh) = (s.process.process, s.w.make(0, ObjType::Task, 0));
    s.w.must(0, Op::TaskConfigure, &[CONTROL, fresh.arg(), process.arg(), 0x70_0000, EMPTY as u64]);
    assert_eq!(park(&mut s.w, EMPTY, true), Err((Error::InUse, 1)));
    s.w.must(0, Op::TaskKill, &[fresh.arg()]);
    s.w.run();
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(false));
}

#[test]
fn a_configuration_that_fails_leaves_no_place() {
    let mut s = scene();
    let (process, fresh) = (s.process.process, s.w.make(0, ObjType::Task, 0));
    let bad = [CONTROL, fresh.arg(), process.arg(), abi::USER_TOP, EMPTY as u64];
    assert_eq!(s.w.ask(0, Op::TaskConfigure, &bad).err().map(|why| why.0), Some(Error::BadAddress));
    let taken = s.running(1, 20).0.object.get().utcb_address();
    let mapped = [CONTROL, fresh.arg(), process.arg(), taken, EMPTY as u64];
    assert_eq!(s.w.ask(0, Op::TaskConfigure, &mapped).err().map(|why| why.0), Some(Error::Mapped));
    assert_eq!(state(&mut s.w, EMPTY, false)[0], 0);
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(false));
}

/// However CPUs wait, a parked one halts, and waits as the others do when it is in use again.
#[test]
fn a_parked_cpu_halts() {
    let mut s = scene();
    for usual in [Idle::Poll, Idle::Halt] {
        s.w.gate.set_idle(usual);
        for parked in [true, false] {
            assert!(park(&mut s.w, EMPTY, parked).is_ok());
            let halts = if parked { Idle::Halt } else { usual };
            assert!(s.w.mode(EMPTY) == Mode::Idle(halts), "{usual:?}, parked {parked}");
        }
    }
}

/// A parked CPU still serves what is there: time without a task, and objects that end.
#[test]
fn a_parked_cpu_serves_others() {
    let mut s = scene();
    let (task, _) = s.running(EMPTY, 20);
    let sc = task.sc;
    s.kill(&task);
    assert_eq!(park(&mut s.w, EMPTY, true), Ok(false));
    s.w.must(0, Op::SchedConfigure, &[CONTROL, sc.arg(), 30, 500]);
    assert_eq!(s.w.must(0, Op::SchedInfo, &[sc.arg()]).rsi, 30);
    s.delete(sc);
    assert_eq!(state(&mut s.w, EMPTY, true)[1], 1);
}

/// The next question is answered with for how long the CPU owes a sign.
#[test]
fn a_cpu_owes_a_sign_until_it_serves_its_mail() {
    let mut s = scene();
    s.w.advance(50_000);
    assert_eq!(state(&mut s.w, EMPTY, false)[2], 0, "nobody has asked");
    let question = Regs::op(Op::CpuInfo, &[machine(EMPTY), 1]);
    s.w.call(0, question);
    s.w.advance(5_000);
    let owed = s.w.call(0, question).rdx;
    assert!(owed >= 5_000, "owed for {owed}");
    assert!(s.w.block(EMPTY).mailbox().has_mail());
    s.w.run();
    assert_eq!(state(&mut s.w, EMPTY, false)[2], 0, "it has answered");
    let answered = s.w.now();
    // The next question is another one.
    s.w.advance(5_000);
    s.w.call(0, question);
    s.w.advance(100);
    let owed = s.w.call(0, question).rdx;
    assert!((100..5_000).contains(&owed), "owed for {owed}");
    // A CPU that noted an older question: it counts from the last sign.
    s.w.block(EMPTY).asked_at.store(0, Relaxed);
    assert!(s.w.call(0, question).rdx <= s.w.now() - answered + 10_000);
    assert!(s.w.now() > 20_000, "the machine is old enough for that to say something");
    s.w.run();
    let own = s.w.call(0, Regs::op(Op::CpuInfo, &[machine(0), 1]));
    assert_eq!(own.rdx, 0, "a CPU that asks itself is alive");
}

#[test]
fn wrong_arguments_are_refused() {
    let mut s = scene();
    for op in [Op::CpuPark, Op::CpuInfo] {
        let none = s.w.ask(0, op, &[machine(CPUS), 0]).err();
        assert_eq!(none, Some((Error::NoCpu, CPUS as u64)));
        assert_eq!(s.w.ask(0, op, &[machine(1), 2]).err(), Some((Error::BadArgument, 1)));
        let sc = s.time(20);
        assert_eq!(s.w.ask(0, op, &[sc.arg(), 0]).err().map(|why| why.0), Some(Error::WrongType));
    }
}

/// One CPU parks another, at every point at which a third one sends a task there.
#[test]
fn nobody_comes_to_a_cpu_that_parks() {
    let (mut parked_before, mut came_before) = (0, 0);
    for point in 0.. {
        let mut s = scene();
        let (task, _) = s.running(1, 20);
        let go = Regs::op(Op::TaskMove, &[CONTROL, task.cap.arg(), EMPTY as u64]);
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let park = Regs::op(Op::CpuPark, &[machine(EMPTY), 1]);
        let stands = s.w.torn_where(1, go, here, |w| {
            w.begin(0, park);
            let _ = (0..100).all(|_| w.step(0));
        });
        if !stands {
            break;
        }
        let (moved, parked) = (s.w.finish(1).error(), s.w.finish(0).error());
        s.w.run();
        let came = task.home() == EMPTY;
        assert_eq!(
            (moved.is_none(), parked.is_none()),
            (came, !came),
            "point {point}: {moved:?}, {parked:?}"
        );
        *if came { &mut came_before } else { &mut parked_before } += 1;
    }
    assert!(parked_before > 0 && came_before > 0, "{parked_before} parked, {came_before} came");
}
