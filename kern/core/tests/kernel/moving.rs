//! Tasks that move to another CPU after they have run.

use abi::{Cap, Error, ObjType, Op, Target};
use kern_base::sched_context::SchedContext;
use kern_base::task::{FLAG_SUSPENDED, State};
use kern_core::door::entry::Interrupt;
use smp::host_test;
use smp::sync::Ordering::Relaxed;

use crate::scene::{GROUP, Scene, call};
use crate::time::answer;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb, World, check};

/// Steps that others take in the middle, at most.
const STEPS: usize = 100;
const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const THIRD: usize = 2;
/// Bits that are raised.
const RAISED: u64 = 4;

fn to(task: &Tcb, cpu: usize) -> Regs {
    Regs::op(Op::TaskMove, &[CONTROL, task.cap.arg(), cpu as u64])
}

/// The agent of a CPU asks, and all comes to its end.
fn moves(w: &mut World, n: usize, task: &Tcb, cpu: usize) -> Option<Error> {
    let answer = w.ask(n, Op::TaskMove, &[CONTROL, task.cap.arg(), cpu as u64]);
    w.run();
    answer.err().map(|refusal| refusal.0)
}

fn time_is_at(w: &World, task: &Tcb, cpu: usize) -> bool {
    w.object::<SchedContext>(task.sc).expect("its time").get().hot.home().index() == cpu
}

#[test]
fn a_task_that_runs_goes_on_elsewhere() {
    for asks in 0..3 {
        let mut s = Scene::new(3);
        let (task, _) = s.running(SOURCE, 20);
        assert!(s.w.runs(SOURCE, &task));
        assert_eq!(moves(&mut s.w, asks, &task, DESTINATION), None);
        assert!(s.w.runs(DESTINATION, &task) && time_is_at(&s.w, &task, DESTINATION));
        let told = task.object.get().utcb(host_test::pin(DESTINATION)).home_cpu.load(Relaxed);
        assert_eq!(told, DESTINATION as u64, "its UTCB says where it is");
        s.w.must(asks, Op::TaskSuspend, &[task.cap.arg()]);
        s.w.run();
        assert_eq!(moves(&mut s.w, asks, &task, THIRD), None);
        assert_eq!((task.home(), task.state()), (THIRD, State::Ready));
        assert!(!s.w.runs(THIRD, &task), "it stays suspended");
        s.w.must(asks, Op::TaskResume, &[task.cap.arg()]);
        s.w.run();
        assert!(s.w.runs(THIRD, &task));
    }
}

#[test]
fn a_task_moves_itself() {
    let mut s = Scene::new(2);
    let (process, task) = s.somebody(SOURCE, 20);
    let (mine, allows) = (Cap(30), Cap(31));
    s.w.give(task.cap, process, mine);
    s.w.give(abi::INIT_SCHED_CONTROL, process, allows);
    s.w.does_and_run(&task, Regs::op(Op::TaskMove, &[allows.arg(), mine.arg(), 1]));
    assert_eq!((s.w.result(&task).error(), task.home()), (None, 1));
    assert!(s.w.runs(1, &task));
}

#[test]
fn a_server_that_waits_is_called_where_it_is() {
    for deadline in [None, Some(100_000)] {
        let mut s = Scene::new(3);
        let (client, _) = s.running(THIRD, 10);
        let (server, target) = s.running(SOURCE, 20);
        let recv = Regs::op(Op::Recv, &[]);
        let recv = deadline.map_or(recv, |at| recv.deadline(s.w.now() + at));
        s.w.does_and_run(&server, recv);
        assert_eq!(moves(&mut s.w, THIRD, &server, DESTINATION), None);
        assert!(server.state() == if deadline.is_some() { State::RecvTimed } else { State::Recv });
        s.w.does_and_run(&client, call(target));
        s.w.does_and_run(&server, answer());
        assert!(s.w.runs(THIRD, &client) && server.home() == DESTINATION);
    }
}

#[test]
fn a_deadline_moves_along() {
    let mut s = Scene::new(2);
    let (server, _) = s.running(SOURCE, 20);
    let at = s.w.now() + 50_000;
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]).deadline(at));
    assert_eq!(moves(&mut s.w, SOURCE, &server, DESTINATION), None);
    s.w.advance(at - s.w.now());
    s.w.interrupt(SOURCE, Interrupt::Timer);
    assert_eq!(server.state(), State::RecvTimed, "its old CPU has nothing to do with it");
    s.w.interrupt(DESTINATION, Interrupt::Timer);
    s.w.run();
    assert_eq!(s.w.result(&server).error(), Some(Error::Timeout));
    assert!(s.w.runs(DESTINATION, &server));
}

#[test]
fn a_move_is_refused_beyond_what_was_allowed() {
    let mut s = Scene::new(3);
    let (task, _) = s.running(SOURCE, 20);
    let refused = |w: &mut World, by: Cap, cpu: u64| {
        w.ask(THIRD, Op::TaskMove, &[by.arg(), task.cap.arg(), cpu]).map(drop)
    };
    let narrow = s.w.control_of(0, abi::INIT_UNTYPED, 200, 0b11);
    assert_eq!(refused(&mut s.w, abi::INIT_SCHED_CONTROL, 3), Err((Error::NoCpu, 3)));
    assert_eq!(refused(&mut s.w, narrow, 2), Err((Error::OverLimit, u64::MAX)), "beyond the control");
    let fresh = s.w.make(0, ObjType::Task, 0);
    let new = s.w.ask(0, Op::TaskMove, &[CONTROL, fresh.arg(), 1]).map(drop);
    assert_eq!(new.map_err(|refusal| refusal.0), Err(Error::BadState));
    let time = s.time(20);
    s.w.must(0, Op::SchedConfigure, &[narrow.arg(), time.arg(), 20, 1000]);
    let (bare, _) = s.task(SOURCE, 20, false);
    s.w.must(0, Op::SchedBind, &[time.arg(), bare.cap.arg()]);
    for n in 0..3 {
        let beyond = s.w.ask(n, Op::TaskMove, &[CONTROL, bare.cap.arg(), 2]).map(drop);
        assert_eq!(beyond, Err((Error::OverLimit, u64::MAX)), "beyond its time");
    }
    s.kill(&task);
    let dead = s.w.ask(0, Op::TaskMove, &[CONTROL, task.cap.arg(), 1]).map(drop);
    assert_eq!(dead.map_err(|refusal| refusal.0), Err(Error::BadState));
}

#[test]
fn a_task_that_was_never_resumed_moves_too() {
    let mut s = Scene::new(3);
    let (task, _) = s.task(DESTINATION, 20, true);
    for cpu in [THIRD, SOURCE, THIRD] {
        assert_eq!(moves(&mut s.w, DESTINATION, &task, cpu), None);
        assert!(task.home() == cpu && !s.w.runs(cpu, &task));
    }
    s.w.resume(&task);
    s.w.run();
    assert!(s.w.runs(THIRD, &task));
}

#[test]
fn a_task_that_rests_does_so_elsewhere() {
    let mut s = Scene::new(2);
    let (task, _) = s.running(SOURCE, 20);
    s.w.must(SOURCE, Op::SchedConfigure, &[CONTROL, task.sc.arg(), 20, 1_000_000, 5_000, 50_000]);
    let began = s.w.now();
    s.w.advance(6_000);
    s.w.interrupt(SOURCE, Interrupt::Timer);
    assert_eq!(task.state(), State::Exhausted);
    assert_eq!(moves(&mut s.w, SOURCE, &task, DESTINATION), None);
    assert_eq!((task.home(), task.state()), (DESTINATION, State::Exhausted));
    s.w.advance(began + 50_010 - s.w.now());
    s.w.interrupt(DESTINATION, Interrupt::Timer);
    s.w.run();
    assert!(s.w.runs(DESTINATION, &task), "with the next window");
}

/// Where a task is to run is where it is, once it has been resumed, or where it goes next: what may
/// be bound to it depends on that.
#[test]
fn a_task_that_is_just_being_resumed_moves_then() {
    let mut s = Scene::new(3);
    let (task, _) = s.running(DESTINATION, 20);
    s.w.must(DESTINATION, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.run();
    let resume = Regs::op(Op::TaskResume, &[task.cap.arg()]);
    // The order to continue comes into the mailbox in the middle of the system call.
    assert!(s.w.torn_where(DESTINATION, to(&task, THIRD), |_| true, |w| w.begin(SOURCE, resume)));
    assert_eq!(s.w.finish(DESTINATION).result().map(|answer| answer.rdi), Ok(1), "later");
    s.w.finish(SOURCE);
    s.w.run();
    assert!(s.w.runs(THIRD, &task) && task.hot().start_on().index() == THIRD);
}

/// A task that moves in the middle of what others do, and all that is its own.
struct Mover {
    memory: Cap,
    task: Tcb,
    note: Cap,
    target: Target,
    callers: Vec<Tcb>,
    control: Cap,
}

fn mover(receives: bool) -> (World, Mover) {
    let mut w = World::new(3);
    w.checked = false;
    let memory = w.make(SOURCE, ObjType::Untyped, 20);
    let (process, clients) = (w.process_of(memory, 8, 64), w.process_of(abi::INIT_UNTYPED, 16, 64));
    let task = w.task_of(memory, process, SOURCE, 10, true);
    let note = w.make_of(SOURCE, memory, ObjType::Notification, 0);
    w.must(SOURCE, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
    let group = w.group(4, 16);
    w.join_all(group, clients, GROUP);
    w.expose(group, 1, task.cap);
    w.resume(&task);
    w.run();
    if receives {
        w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    }
    let cpus = [SOURCE, DESTINATION, THIRD];
    let callers = cpus.map(|cpu| w.start(clients, cpu, 5));
    // No CPU is ever without something to run: it would wait for the rest of a message that is
    // being sent.
    let _ = cpus.map(|cpu| w.start(clients, cpu, 1));
    w.run();
    w.checked = true;
    let (target, control) = (Target::new(GROUP, 1), abi::INIT_SCHED_CONTROL);
    (w, Mover { memory, task, note, target, callers: callers.into(), control })
}

/// What the others do while the task leaves or arrives.
fn acts() -> Vec<fn(&Mover) -> Regs> {
    vec![
        |m| Regs::op(Op::TaskKill, &[m.task.cap.arg()]),
        |m| Regs::op(Op::TaskSuspend, &[m.task.cap.arg()]),
        |m| Regs::op(Op::TaskResume, &[m.task.cap.arg()]),
        |m| Regs::op(Op::TaskCancel, &[m.task.cap.arg()]),
        |m| Regs::op(Op::Notify, &[m.note.arg(), RAISED]),
        |m| Regs::op(Op::CapDelete, &[at(m.note)]),
        |m| Regs::op(Op::CapDelete, &[at(m.task.sc)]),
        |m| Regs::op(Op::CapDelete, &[at(m.task.cap)]),
        |m| Regs::op(Op::SchedConfigure, &[CONTROL, m.task.sc.arg(), 12, 900, 5_000, 50_000]),
        |m| Regs::op(Op::TaskMove, &[m.control.arg(), m.task.cap.arg(), THIRD as u64]),
        |m| Regs::op(Op::TaskMove, &[m.control.arg(), m.task.cap.arg(), SOURCE as u64]),
    ]
}

/// The entry that is torn.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// The task leaves by a system call on its CPU.
    Leaves,
    /// It leaves by a request of a third CPU.
    IsSent,
    /// It has answered the call that kept it.
    LeavesLater,
    Arrives,
}

/// Plays an act, and calls of all CPUs, at each point of an entry, each in a world of its own.
/// Afterwards a living task has served all that called it, and all memory starts again.
fn play(entry: Entry, receives: bool, act: fn(&Mover) -> Regs) {
    for point in 0.. {
        let (mut w, m) = mover(receives);
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let by = act(&m);
        let (who, acts, cpu) = match entry {
            Entry::Leaves => (SOURCE, THIRD, SOURCE),
            Entry::IsSent | Entry::LeavesLater => (DESTINATION, THIRD, SOURCE),
            Entry::Arrives => (SOURCE, THIRD, DESTINATION),
        };
        let others = |w: &mut World| {
            w.begin(acts, by);
            for caller in m.callers.iter().filter(|caller| caller.home() != cpu) {
                if w.runs(caller.home(), caller) {
                    w.does(caller, call(m.target));
                }
            }
            let _ = (0..STEPS).all(|_| w.step(0) | w.step(1) | w.step(2));
        };
        let asked = to(&m.task, DESTINATION);
        let stands = match entry {
            Entry::Leaves => w.torn_where(who, asked, here, others),
            Entry::IsSent => {
                w.begin(who, asked);
                w.torn_mail(cpu, here, others)
            }
            Entry::LeavesLater => {
                w.does_and_run(&m.callers[cpu], call(m.target));
                assert_eq!(moves(&mut w, who, &m.task, DESTINATION), None);
                w.does(&m.task, answer());
                assert!(m.task.hot().has_flag(FLAG_SUSPENDED) && m.task.home() == cpu);
                w.torn_mail(cpu, here, others)
            }
            Entry::Arrives => {
                w.begin(who, asked);
                w.dismiss(who);
                w.torn_mail(cpu, here, others)
            }
        };
        if !stands {
            assert!(point > 2, "{entry:?}: there is no such point");
            return;
        }
        if matches!(entry, Entry::Leaves | Entry::IsSent) {
            w.finish(who);
        }
        w.finish(acts);
        w.run();
        finish(&mut w, &m);
    }
}

/// Lets the task serve all that have called it.
fn finish(w: &mut World, m: &Mover) {
    w.checked = false;
    // Nobody can resume a task without capability.
    if w.object::<kern_base::task::Task>(m.task.cap).is_none() {
        return;
    }
    // Who does not wait is in nobody's way any more.
    let waits = |caller: &&Tcb| !matches!(caller.state(), State::Ready | State::Dead);
    for caller in m.callers.iter().filter(|caller| !waits(caller)) {
        w.must(SOURCE, Op::TaskSuspend, &[caller.cap.arg()]);
    }
    w.run();
    if m.task.state() != State::Dead {
        w.must(SOURCE, Op::TaskResume, &[m.task.cap.arg()]);
        w.run();
        // The bits, and a first receive, besides the calls.
        for _ in 0..m.callers.len() + 2 {
            if w.runs(m.task.home(), &m.task) {
                w.does_and_run(&m.task, answer());
            }
            for caller in m.callers.iter().filter(|caller| caller.state() == State::Ready) {
                w.must(SOURCE, Op::TaskSuspend, &[caller.cap.arg()]);
            }
            w.run();
        }
    }
    for caller in &m.callers {
        assert!(!waits(&caller), "{:?} waits for {:?}", caller.state(), m.task.state());
    }
    w.must(SOURCE, Op::UntypedReset, &[m.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
    check::all(w);
}

#[test]
fn others_act_while_a_task_leaves() {
    for act in acts() {
        play(Entry::Leaves, false, act);
        play(Entry::Leaves, true, act);
    }
}

#[test]
fn others_act_while_a_task_is_sent_from_afar() {
    for act in acts() {
        play(Entry::IsSent, false, act);
        play(Entry::IsSent, true, act);
    }
}

#[test]
fn others_act_while_a_task_leaves_after_a_call() {
    for act in acts() {
        play(Entry::LeavesLater, true, act);
    }
}

#[test]
fn others_act_while_a_task_arrives() {
    for act in acts() {
        play(Entry::Arrives, false, act);
        play(Entry::Arrives, true, act);
    }
}
