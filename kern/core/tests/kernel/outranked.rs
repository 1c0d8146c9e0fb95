//! Cases in which a CPU let a better task wait, or a task that should have ended run, until it
//! looked into its mailbox next. Those that are ignored are known faults, which the book lists.

use abi::{Cap, ObjType, Op, Target};
use kern_base::task::State;
use kern_core::door::entry::Interrupt;

use crate::deferral::{
    COUNT, NOTES, PACE, PROGRAM, better_sender, has_mail, is_interrupted, look_at, notify, notify_and_suspend,
};
use crate::scene::{GROUP, Scene, call};
use crate::world::make::Proc;
use crate::world::{Regs, Tcb};

/// Lets all happen that needs no time: interrupts that came, and timers that are due.
fn settle(s: &mut Scene) {
    for _ in 0..10_000 {
        if (0..s.w.cpus()).filter(|n| s.w.event(*n)).count() == 0 {
            return;
        }
    }
    panic!("interrupts for ever");
}

/// A scene with Notifications of CPU 1, and a sender of CPU 0 that has them. Before the sender,
/// others are made.
fn with_sender<T>(
    cpus: usize,
    sender: u64,
    first: impl FnOnce(&mut Scene, &[Cap]) -> T,
) -> (Scene, Tcb, Proc, T) {
    let mut s = Scene::new(cpus);
    let notes: Vec<Cap> = (0..COUNT).map(|_| s.w.make(1, ObjType::Notification, 0)).collect();
    let made = first(&mut s, &notes);
    let (process, sender) = s.somebody(0, sender);
    for (note, number) in notes.iter().zip(NOTES..) {
        s.w.give(*note, process, Cap(number));
    }
    s.w.run();
    s.w.k.machine.hardware().pace = PACE;
    (s, sender, process, made)
}

/// A task of a CPU with this Notification in slot NOTES, which waits for it.
fn waits(s: &mut Scene, n: usize, priority: u64, note: Cap) -> Tcb {
    let (process, task) = s.somebody(n, priority);
    s.w.give(note, process, Cap(NOTES));
    s.w.does_and_run(&task, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    task
}

/// A stale recall waits on CPU 1, which rests. A kill is joined with it.
#[test]
fn a_kill_that_is_joined_with_other_bits_is_urgent() {
    let mut s = Scene::new(3);
    let (server, target) = s.server(1, 20);
    let (program, _) = s.running(1, 11);
    let (client, _) = s.running(0, 11);
    let _ = s.running(0, 1);
    s.w.run();
    s.w.k.machine.hardware().pace = 10 * PACE;
    let deadline = s.w.now() + 15_000;
    s.w.does(&client, call(target).deadline(deadline));
    s.w.event(1);
    s.w.k.machine.hardware().pace = 1;
    assert!(s.w.runs(1, &program) && look_at(&s).is_some(), "an equal is not urgent");
    s.w.does(&program, Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(1, &server) && look_at(&s).is_some());
    let now = s.w.now();
    s.w.advance(deadline.saturating_sub(now) + 100);
    s.w.event(0);
    assert_eq!(client.state(), State::AwaitRemote);
    assert!(has_mail(&s) && !is_interrupted(&s), "the recall waits");
    s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert!(s.w.runs(1, &program));
    assert!(has_mail(&s) && !is_interrupted(&s), "the recall still waits: {:?} {}", look_at(&s), s.w.now());
    s.w.event(0);
    assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
    assert!(s.w.runs(0, &client));
    // A task of the highest priority kills it.
    s.w.begin(2, Regs::op(Op::TaskKill, &[client.cap.arg()]));
    settle(&mut s);
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert_eq!(client.state(), State::Dead, "killed, and it runs still; cpu1 looks in {left:?}");
}

/// A low bit of a task waits on its home CPU, which rests. The recall of its message, for a
/// better task, is joined with it, and does not get to the CPU that has the message, which is idle.
#[test]
fn a_recall_that_is_joined_with_other_bits_is_urgent() {
    let (mut s, low, process, (task, _busy)) = with_sender(2, PROGRAM - 5, |s, _| {
        let (busy, target) = s.running(0, 3);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, s.process, Cap(40));
        s.w.does_and_run(&busy, Regs::op(Op::Wait, &[Cap(40).arg()]));
        let (task, _) = s.running(1, PROGRAM + 10);
        s.w.does_and_run(&task, call(target));
        assert_eq!(task.state(), State::AwaitRemote);
        let (program, _) = s.running(1, PROGRAM);
        assert!(s.w.runs(1, &program));
        (task, busy)
    });
    s.w.k.machine.hardware().pace = 0;
    let cap = Cap(41);
    s.w.give(task.cap, process, cap);
    s.w.k.machine.hardware().pace = PACE;
    notify(&mut s, &low, 1);
    s.w.event(1);
    assert!(look_at(&s).is_some());
    s.w.does(&low, Regs::op(Op::TaskResume, &[cap.arg()]));
    assert!(has_mail(&s) && !is_interrupted(&s));
    s.w.begin(1, Regs::op(Op::TaskCancel, &[task.cap.arg()]));
    s.w.dismiss(1);
    settle(&mut s);
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(task.is_through(), "cancelled by the best task, and waits for a rest; cpu1 looks in {left:?}");
}

/// A server of CPU 1 runs on a client's time, which is more than its own, and the CPU defers its
/// mail. Returns also the sender, a task that waits for a Notification, the server and the client.
fn on_more_time() -> (Scene, Tcb, Tcb, Tcb, Tcb) {
    let (mut s, low, _, (waiter, server, client, target)) = with_sender(2, 5, |s, notes| {
        let waiter = waits(s, 1, 6, notes[0]);
        let (server, target) = s.server(1, 3);
        let (client, _) = s.running(0, 12);
        (waiter, server, client, target)
    });
    s.w.does(&client, call(target));
    s.w.event(1);
    assert!(s.w.runs(1, &server) && s.w.runs(0, &low));
    notify(&mut s, &low, 1);
    s.w.event(1);
    assert!(look_at(&s).is_some());
    (s, low, waiter, server, client)
}

/// A server answers, and goes on with its own time, which is less. Better mail has waited for the
/// client's sake.
#[test]
fn a_server_goes_on_with_less_time_after_its_reply() {
    let (mut s, low, waiter, server, _) = on_more_time();
    notify(&mut s, &low, 0);
    assert!(has_mail(&s) && !is_interrupted(&s), "the server runs at the client's priority");
    s.w.does(&server, Regs::message(Op::Reply, Target(0), [1; 4]));
    while s.w.event(1) {}
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(
        s.w.runs(1, &waiter),
        "priority 3 runs (server: {}), bits for a task of priority 6 are here; cpu1 looks in {left:?}",
        s.w.runs(1, &server)
    );
}

/// The client's time is taken from the server by mail, and the server goes on with less. Bits
/// for a better task come later.
#[test]
fn a_server_goes_on_with_less_time_after_a_recall() {
    let (mut s, low, waiter, server, client) = on_more_time();
    s.w.begin(0, Regs::op(Op::TaskCancel, &[client.cap.arg()]));
    s.w.dismiss(0);
    assert!(is_interrupted(&s));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &server), "on its own time");
    while s.w.event(0) {}
    s.w.does(&client, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &low));
    notify(&mut s, &low, 0);
    while s.w.event(1) {}
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(
        s.w.runs(1, &waiter),
        "priority 3 runs, bits for a task of priority 6 are here; cpu1 looks in {left:?}"
    );
}

/// A CPU that defers its mail runs nothing for a moment, takes all mail, and goes on with an equal
/// of the program.
fn emptied_by_an_idle_cpu() -> (Scene, Tcb, Tcb, Tcb) {
    let (mut s, low, _, (equal, program, better)) = with_sender(2, PROGRAM - 5, |s, notes| {
        let equal = waits(s, 1, PROGRAM, notes[0]);
        let (program, _) = s.running(1, PROGRAM);
        (equal, program, better_sender(s, notes[2]))
    });
    notify(&mut s, &low, 1);
    s.w.event(1);
    assert!(look_at(&s).is_some() && s.w.runs(1, &program));
    notify(&mut s, &low, 0);
    assert!(!is_interrupted(&s) && has_mail(&s));
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(1, &equal) && !has_mail(&s));
    (s, low, better, equal)
}

/// A CPU that defers its mail looks before it leaves the kernel for another program.
#[test]
fn a_cpu_that_defers_knows_it() {
    let (s, _, _, _) = emptied_by_an_idle_cpu();
    let more = s.w.look(1).sched.more_mail.get();
    assert!(look_at(&s).is_none() || more, "it defers its mail, and does not look at the exit");
}

/// After such a CPU has taken all its mail, a program of lower priority runs.
#[test]
fn a_lower_program_inherits_the_deferral() {
    let (mut s, low, _, (equal, program, lower, waiter)) = with_sender(2, PROGRAM - 5, |s, notes| {
        let waiter = waits(s, 1, PROGRAM - 4, notes[4]);
        let lower = waits(s, 1, PROGRAM - 8, notes[5]);
        let equal = waits(s, 1, PROGRAM, notes[0]);
        let (program, _) = s.running(1, PROGRAM);
        (equal, program, lower, waiter)
    });
    notify(&mut s, &low, 1);
    s.w.event(1);
    assert!(look_at(&s).is_some() && s.w.runs(1, &program));
    notify(&mut s, &low, 0);
    notify(&mut s, &low, 5);
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(1, &equal) && !has_mail(&s));
    s.w.does(&equal, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    assert!(s.w.runs(1, &lower));
    notify(&mut s, &low, 4);
    while s.w.event(1) {}
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(
        s.w.runs(1, &waiter),
        "priority 2 runs, bits of priority 5 for a task of priority 6 wait; cpu1 looks in {left:?}"
    );
}

/// A CPU that runs nothing takes an interrupt for better mail, but not all mail before it, since
/// the entry has no work left. It goes on with an equal of the program, and leaves the better mail
/// for the time of the next look.
#[test]
fn better_mail_that_an_idle_cpu_leaves_is_served() {
    let (mut s, low, _, (equal, best, program, better)) = with_sender(2, PROGRAM - 5, |s, notes| {
        let best = waits(s, 1, PROGRAM + 4, notes[11]);
        let equal = waits(s, 1, PROGRAM, notes[0]);
        let (program, _) = s.running(1, PROGRAM);
        (equal, best, program, better_sender(s, notes[11]))
    });
    notify(&mut s, &low, 1);
    s.w.event(1);
    assert!(look_at(&s).is_some() && s.w.runs(1, &program));
    notify(&mut s, &low, 0);
    (1..11).for_each(|number| notify(&mut s, &low, number));
    assert!(!is_interrupted(&s));
    notify_and_suspend(&mut s, &better);
    assert!(is_interrupted(&s));
    // The interrupt comes when the program has stopped: `let_interrupts_in` in the image's
    // `work_off` takes it, and only counts it.
    s.w.k.machine.hardware().wakes.remove(&1);
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(1, &equal) || s.w.runs(1, &best));
    while s.w.event(1) {}
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(
        s.w.runs(1, &best),
        "an equal of the program runs; bits for a better task wait; cpu1 looks in {left:?}"
    );
}

/// A batch goes into an empty mailbox while its CPU is about to defer. Its first message is not
/// urgent, its second is.
#[test]
fn a_batch_does_not_hide_its_rank() {
    let (mut s, low, _, (task, client, resumer, program)) = with_sender(2, 5, |s, _| {
        let (process, resumer) = s.somebody(0, 4);
        let (task, target) = s.task(1, 2, false);
        s.w.give(task.cap, process, Cap(NOTES));
        let (client, _) = s.running(0, PROGRAM + 3);
        s.w.does_and_run(&client, call(target));
        assert_eq!(client.state(), State::Sending);
        let (program, _) = s.running(1, PROGRAM);
        (task, client, resumer, program)
    });
    notify(&mut s, &low, 1);
    assert!(is_interrupted(&s));
    s.w.does(&low, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &resumer));
    let torn = s.w.torn_mail(
        1,
        |point| point == smp::chaos::Point::BitsPopped,
        |w| {
            w.does(&resumer, Regs::op(Op::TaskResume, &[Cap(NOTES).arg()]));
        },
    );
    assert!(torn);
    assert!(s.w.runs(1, &program) && has_mail(&s) && is_interrupted(&s));
    while s.w.event(1) {}
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    let _ = client;
    assert!(s.w.runs(1, &task), "a call of priority 13 waits, priority 10 runs; cpu1 looks in {left:?}");
}

/// Such a batch comes when the CPU defers already.
#[test]
fn a_batch_tells_its_rank() {
    let (mut s, low, _, (task, resumer, program)) = with_sender(2, 5, |s, _| {
        let (process, resumer) = s.somebody(0, 4);
        let (task, target) = s.task(1, 2, false);
        s.w.give(task.cap, process, Cap(NOTES));
        let (client, _) = s.running(0, PROGRAM + 3);
        s.w.does_and_run(&client, call(target));
        let (program, _) = s.running(1, PROGRAM);
        (task, resumer, program)
    });
    notify(&mut s, &low, 1);
    s.w.event(1);
    s.w.does(&low, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(1, &program) && look_at(&s).is_some());
    s.w.does(&resumer, Regs::op(Op::TaskResume, &[Cap(NOTES).arg()]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &task));
}

/// The recall of a better task's message because of a deadline.
#[test]
fn a_deadline_of_a_better_task_is_urgent() {
    let (mut s, low, _, (client, target)) = with_sender(2, 5, |s, _| {
        let (busy, target) = s.running(1, 3);
        let note = s.w.make(1, ObjType::Notification, 0);
        s.w.give(note, s.process, Cap(40));
        s.w.does_and_run(&busy, Regs::op(Op::Wait, &[Cap(40).arg()]));
        let (client, _) = s.running(0, PROGRAM + 10);
        let (program, _) = s.running(1, PROGRAM);
        assert!(s.w.runs(1, &program));
        (client, target)
    });
    let deadline = s.w.now() + 20_000;
    s.w.does(&client, call(target).deadline(deadline));
    while s.w.event(1) {}
    let now = s.w.now();
    s.w.advance(deadline.saturating_sub(now + 4_000));
    while s.w.event(1) {}
    notify(&mut s, &low, 1);
    while s.w.event(1) {}
    assert!(look_at(&s).is_some());
    let now = s.w.now();
    s.w.advance(deadline.saturating_sub(now) + 10);
    settle(&mut s);
    let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
    assert!(client.is_through(), "its deadline has passed, a worse program runs; cpu1 looks in {left:?}");
}

/// A task raises bits, and then cancels the waiter, at a higher priority.
#[test]
#[ignore = "a known fault"]
fn a_cancel_overtakes_bits_of_one_sender() {
    let (mut s, low, process, waiter) = with_sender(2, 5, |s, notes| {
        let waiter = waits(s, 1, 3, notes[0]);
        let (program, _) = s.running(1, PROGRAM);
        assert!(s.w.runs(1, &program));
        waiter
    });
    s.w.k.machine.hardware().pace = 0;
    s.w.give(waiter.cap, process, Cap(41));
    s.w.k.machine.hardware().pace = PACE;
    notify(&mut s, &low, 1);
    s.w.event(1);
    notify(&mut s, &low, 0);
    assert!(has_mail(&s) && !is_interrupted(&s));
    s.w.must(0, Op::SchedConfigure, &[abi::INIT_SCHED_CONTROL.arg(), low.sc.arg(), PROGRAM + 4, 1000]);
    s.w.does(&low, Regs::op(Op::TaskCancel, &[Cap(41).arg()]));
    while s.w.event(1) {}
    s.w.run();
    assert_eq!(s.w.result(&waiter).error(), None, "the bits came first");
}

/// A task suspends another one, and then calls it, at a higher priority.
#[test]
#[ignore = "a known fault"]
fn a_call_overtakes_a_suspend_of_one_sender() {
    let (mut s, low, process, (server, target)) = with_sender(2, 5, |s, _| {
        let (server, target) = s.server(1, PROGRAM + 8);
        let (program, _) = s.running(1, PROGRAM);
        assert!(s.w.runs(1, &program));
        (server, target)
    });
    s.w.k.machine.hardware().pace = 0;
    s.w.give(server.cap, process, Cap(41));
    s.w.join_all(s.group, process, GROUP);
    s.w.k.machine.hardware().pace = PACE;
    notify(&mut s, &low, 1);
    s.w.event(1);
    s.w.does(&low, Regs::op(Op::TaskSuspend, &[Cap(41).arg()]));
    assert!(has_mail(&s) && !is_interrupted(&s));
    s.w.must(0, Op::SchedConfigure, &[abi::INIT_SCHED_CONTROL.arg(), low.sc.arg(), PROGRAM + 4, 1000]);
    s.w.does(&low, call(target));
    while s.w.event(1) {}
    assert!(!s.w.runs(1, &server), "it was suspended by its caller, before the call");
}

/// A program gets a label while its CPU defers its mail.
#[test]
fn a_label_lets_the_fast_path_go_on() {
    let mut s = Scene::new(2);
    let (process, program) = s.somebody(1, PROGRAM);
    s.w.give(abi::INIT_MACHINE, process, Cap(30));
    s.w.give(process.process, process, Cap(31));
    let (sending, sender) = s.somebody(0, PROGRAM - 5);
    let note = s.w.make(1, ObjType::Notification, 0);
    s.w.give(note, sending, Cap(NOTES));
    s.w.run();
    s.w.k.machine.hardware().pace = PACE;
    notify(&mut s, &sender, 0);
    s.w.event(1);
    let never =
        |s: &Scene| s.w.look(1).hot.plain_half.get() & u64::from(kern_base::task::FLAG_NEVER) << 8 != 0;
    assert!(look_at(&s).is_some() && never(&s));
    s.w.does(&program, Regs::op(Op::LabelSet, &[Cap(30).arg(), Cap(31).arg(), 3]));
    assert_eq!(program.regs().error(), None);
    assert!(look_at(&s).is_none() || never(&s), "it defers its mail, and the fast path goes on with others");
}

/// Slots of a process that unmaps pages, and where these are.
const SPACE: Cap = Cap(40);
const PAGE: u64 = 0x1_0000_0000;

/// A process with two pages.
fn with_pages(s: &mut Scene) -> Proc {
    let process = s.w.process();
    s.w.give(process.vspace, process, SPACE);
    for n in 0..2u32 {
        let frame = s.w.make(0, ObjType::Frame, 12);
        let address = PAGE + u64::from(n) * abi::PAGE_SIZE;
        s.w.must(0, Op::Map, &[process.vspace.arg(), frame.arg(), address, 1, 0, 1]);
        s.w.give(frame, process, Cap(SPACE.0 + 1 + n));
    }
    process
}

fn unmap(n: u32) -> Regs {
    let address = PAGE + u64::from(n) * abi::PAGE_SIZE;
    Regs::op(Op::Unmap, &[SPACE.arg(), Cap(SPACE.0 + 1 + n).arg(), address, 0, 0, 1])
}

/// A task of CPU 0 waits for a shootdown. CPU 1 answers while a program of low priority runs
/// there, and CPU 0 defers its mail for one that is better than that, and worse than the waiter.
#[test]
fn the_answer_of_a_shootdown_is_urgent() {
    for defers in [false, true] {
        let mut s = Scene::new(3);
        let process = with_pages(&mut s);
        let better = s.w.start(process, 0, PROGRAM + 10);
        s.w.must(0, Op::TaskSuspend, &[better.cap.arg()]);
        let there = s.w.start(process, 1, 3);
        let (_, program) = s.somebody(0, PROGRAM);
        let (sending, low) = s.somebody(2, 5);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, sending, Cap(NOTES));
        s.w.run();
        assert!(s.w.runs(1, &there) && s.w.runs(0, &program) && s.w.runs(2, &low));
        s.w.k.machine.hardware().pace = PACE;
        if defers {
            notify(&mut s, &low, 0);
            s.w.event(0);
            assert!(s.w.look(0).cpu.inbox().is_deferring());
        }
        s.w.must(0, Op::TaskResume, &[better.cap.arg()]);
        s.w.does(&better, unmap(0));
        assert_eq!(better.state(), State::Restart);
        assert!(s.w.runs(0, &program));
        settle(&mut s);
        let left = s.w.look(0).sched.look_at.get() as i64 - s.w.now() as i64;
        assert!(
            better.state() != State::Restart,
            "defers {defers}: all CPUs have answered (mail: {}), a worse program runs; cpu0 looks in {left}",
            s.w.block(0).mailbox().has_mail()
        );
    }
}

/// A better task's shootdown is joined with that of a worse one, which waits on CPU 1.
#[test]
fn a_shootdown_that_a_better_task_joins_becomes_urgent() {
    for joined in [false, true] {
        let mut s = Scene::new(3);
        let process = with_pages(&mut s);
        let better = s.w.start(process, 0, PROGRAM + 10);
        s.w.must(0, Op::TaskSuspend, &[better.cap.arg()]);
        let there = s.w.start(process, 1, PROGRAM);
        let worse = s.w.start(process, 0, 4);
        let (sending, low) = s.somebody(2, 5);
        let note = s.w.make(1, ObjType::Notification, 0);
        s.w.give(note, sending, Cap(NOTES));
        s.w.run();
        assert!(s.w.runs(1, &there) && s.w.runs(0, &worse) && s.w.runs(2, &low));
        s.w.k.machine.hardware().pace = PACE;
        notify(&mut s, &low, 0);
        s.w.event(1);
        assert!(look_at(&s).is_some());
        if joined {
            s.w.does(&worse, unmap(1));
            assert_eq!(worse.state(), State::Restart);
            assert!(!is_interrupted(&s), "it waits for a worse task");
        }
        s.w.must(0, Op::TaskResume, &[better.cap.arg()]);
        s.w.does(&better, unmap(0));
        assert_eq!(better.state(), State::Restart);
        settle(&mut s);
        let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
        assert!(
            better.state() != State::Restart,
            "joined {joined}: the best task waits while a worse program runs on cpu1, which looks in {left:?}"
        );
    }
}

/// A task of CPU 0 whose own time may run only there.
fn narrow(s: &mut Scene, priority: u64) -> Tcb {
    let control = s.w.control_of(0, abi::INIT_UNTYPED, 255, 1);
    let (task, _) = s.task(0, priority, false);
    let sc = s.w.make(0, ObjType::SchedContext, 0);
    s.w.must(0, Op::SchedConfigure, &[control.arg(), sc.arg(), priority, 1000]);
    s.w.must(0, Op::SchedBind, &[sc.arg(), task.cap.arg()]);
    s.w.resume(&task);
    s.w.run();
    task
}

/// A better task calls, and its time does not go along.
#[test]
fn a_call_whose_time_stays_is_as_urgent() {
    for is_narrow in [false, true] {
        let (mut s, low, _, (client, server, target)) = with_sender(2, 5, |s, _| {
            let (server, target) = s.server(1, PROGRAM + 5);
            let (program, _) = s.running(1, PROGRAM);
            assert!(s.w.runs(1, &program));
            let client = if is_narrow { narrow(s, PROGRAM + 10) } else { s.running(0, PROGRAM + 10).0 };
            s.w.must(0, Op::TaskSuspend, &[client.cap.arg()]);
            (client, server, target)
        });
        notify(&mut s, &low, 1);
        s.w.event(1);
        assert!(look_at(&s).is_some());
        s.w.must(0, Op::TaskResume, &[client.cap.arg()]);
        s.w.does(&client, call(target));
        settle(&mut s);
        let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
        assert!(
            s.w.runs(1, &server),
            "narrow {is_narrow}: a call of priority 20 to a task of 15, and 10 runs; cpu1 looks in {left:?}"
        );
    }
}

/// A better task is answered, and its time does not come along.
#[test]
fn an_answer_whose_time_stays_is_as_urgent() {
    for is_narrow in [false, true] {
        let mut s = Scene::new(3);
        let (server, target) = s.server(1, PROGRAM + 5);
        let client = if is_narrow { narrow(&mut s, PROGRAM + 10) } else { s.running(0, PROGRAM + 10).0 };
        s.w.does_and_run(&client, call(target));
        assert!(s.w.runs(1, &server));
        let (_, program) = s.somebody(0, PROGRAM);
        let (sending, low) = s.somebody(2, 5);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, sending, Cap(NOTES));
        s.w.run();
        assert!(s.w.runs(0, &program));
        s.w.k.machine.hardware().pace = PACE;
        notify(&mut s, &low, 0);
        s.w.event(0);
        assert!(s.w.look(0).cpu.inbox().is_deferring());
        s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), [1; 4]));
        settle(&mut s);
        let left = s.w.look(0).sched.look_at.get() as i64 - s.w.now() as i64;
        assert!(
            s.w.runs(0, &client),
            "narrow {is_narrow}: the answer for a task of priority 20 is here, and 10 runs; cpu0 looks in {left}"
        );
    }
}

/// A better task kills its own process, another task of which runs on CPU 1.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "the kill is not over after one entry")]
fn the_end_of_the_own_process_is_urgent() {
    for defers in [false, true] {
        let (mut s, low, _, (killer, there)) = with_sender(2, 5, |s, _| {
            let process = s.w.process();
            s.w.give(process.process, process, SPACE);
            let there = s.w.start(process, 1, PROGRAM);
            let killer = s.w.start(process, 0, PROGRAM + 10);
            s.w.must(0, Op::TaskSuspend, &[killer.cap.arg()]);
            (killer, there)
        });
        assert!(s.w.runs(1, &there));
        if defers {
            notify(&mut s, &low, 1);
            s.w.event(1);
            assert!(look_at(&s).is_some());
        }
        s.w.must(0, Op::TaskResume, &[killer.cap.arg()]);
        s.w.does(&killer, Regs::op(Op::ProcessKill, &[SPACE.arg()]));
        settle(&mut s);
        let left = look_at(&s).map(|at| at as i64 - s.w.now() as i64);
        assert!(
            !s.w.runs(1, &there),
            "defers {defers}: killed at priority 20, it runs still at 10; cpu1 looks in {left:?}"
        );
    }
}

/// The sender of a message stands between the two steps of its push. Meanwhile the program of the
/// other CPU is to have half of that CPU.
#[test]
fn interrupts_while_a_message_cannot_be_reached() {
    let (mut s, low, _, program) = with_sender(2, 5, |s, _| s.running(1, PROGRAM).0);
    assert!(s.w.runs(1, &program) && s.w.runs(0, &low));
    s.w.prepare(0, Regs::op(Op::Notify, &[Cap(NOTES).arg(), 1]));
    let mut count = 0;
    let here = |point| point == smp::chaos::Point::PushExchanged;
    let torn = s.w.tear(0, crate::world::gate::Why::SystemCall, here, |w| {
        w.interrupt(1, Interrupt::Other);
        while count < 1000 && w.event(1) {
            count += 1;
        }
    });
    assert!(torn);
    assert!(count < 1000, "{count} interrupts one after the other, before each instruction of the program");
}
