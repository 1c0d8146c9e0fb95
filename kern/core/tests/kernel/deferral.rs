//! When a CPU that runs a program looks into its mailbox.

use abi::{Cap, FLAG_PAGES, ObjType, Op, PageMode, PageRange, Rights, Target};
use kern_base::cpu::Mail;
use kern_base::limits::{PROGRAM_MAIL, SORT_STEPS};
use kern_base::task::{PLAIN, State, state_half};
use kern_core::door::entry::Interrupt;
use smp::chaos::Point;
use smp::{host_test, quiesce};

use crate::pages::{FROM, lists as lists_pages, pooled};
use crate::scene::{GROUP, Scene, call};
use crate::world::gate::Why;
use crate::world::make::Proc;
use crate::world::stop::Part;
use crate::world::{Regs, Tcb};

/// Ticks between two readings of the clock.
pub const PACE: u64 = 100;
/// Priority of the program that is interrupted.
pub const PROGRAM: u64 = 10;
/// Notifications of the program's CPU, in slots of the sender from here on.
pub const NOTES: u32 = 20;
/// How many there are.
pub const COUNT: u32 = 12;
/// The slot of a process's own CNode, and one that its task empties and fills again.
const CNODE: Cap = Cap(18);
const FREED: Cap = Cap(19);
/// Interrupts in which a CPU sorts so much mail: one, unless limits are small.
const SORTED: u32 = COUNT.div_ceil(SORT_STEPS as u32);

/// A program runs on CPU 1, and a task of this priority on CPU 0 can notify that CPU.
fn scene(sender: u64) -> (Scene, Tcb, Tcb) {
    let (s, program, sender, _) = scene_with_notes(sender);
    (s, program, sender)
}

/// The scene, and its Notifications as the first process has them.
fn scene_with_notes(sender: u64) -> (Scene, Tcb, Tcb, Vec<Cap>) {
    let mut s = Scene::new(2);
    let (program, _) = s.running(1, PROGRAM);
    let (process, sender) = s.somebody(0, sender);
    let notes: Vec<Cap> = (0..COUNT).map(|_| s.w.make(1, ObjType::Notification, 0)).collect();
    for (note, number) in notes.iter().zip(NOTES..) {
        s.w.give(*note, process, Cap(number));
    }
    s.w.run();
    s.w.k.machine.hardware().pace = PACE;
    (s, program, sender, notes)
}

pub fn notify(s: &mut Scene, sender: &Tcb, number: u32) {
    s.w.does(sender, Regs::op(Op::Notify, &[Cap(NOTES + number).arg(), 1]));
}

pub fn is_interrupted(s: &Scene) -> bool {
    s.w.woken().contains(&1)
}

pub fn has_mail(s: &Scene) -> bool {
    s.w.block(1).mailbox().has_mail()
}

/// When CPU 1 looks, if it defers its mail.
pub fn look_at(s: &Scene) -> Option<u64> {
    let cx = s.w.look(1);
    cx.cpu.inbox().is_deferring().then(|| cx.sched.look_at.get())
}

/// Lets time pass until CPU 1 looks, and lets it look.
fn look(s: &mut Scene) {
    let at = look_at(s).expect("it defers its mail");
    let now = s.w.now();
    s.w.advance(at - now);
    s.w.event(1);
}

#[test]
fn a_flood_of_low_priority_interrupts_a_program_seldom() {
    let (mut s, program, sender) = scene(PROGRAM - 5);
    notify(&mut s, &sender, 0);
    assert!(is_interrupted(&s), "the first mail comes immediately");
    let began = s.w.now();
    s.w.event(1);
    let (now, at) = (s.w.now(), look_at(&s).expect("it was not urgent"));
    assert!(at - now >= 10 * (now - began), "{at} is too soon after {began} to {now}");
    for number in 1..COUNT {
        notify(&mut s, &sender, number);
        assert!(!is_interrupted(&s), "nothing interrupts the program");
    }
    assert!(s.w.runs(1, &program) && has_mail(&s));
    // Each look takes a few, and the next comes later.
    let mut looks = 0;
    while has_mail(&s) {
        look(&mut s);
        looks += 1;
        assert!(!is_interrupted(&s));
    }
    assert!(looks >= 3, "{looks} looks");
    // When there is no mail, the next mail comes immediately again.
    look(&mut s);
    assert_eq!(look_at(&s), None);
    assert!(s.w.look(1).sched.timer.get() > s.w.now(), "nor does the timer interrupt the program");
    notify(&mut s, &sender, 0);
    assert!(is_interrupted(&s));
}

#[test]
fn equal_priority_is_not_urgent() {
    let (mut s, _, sender) = scene(PROGRAM);
    notify(&mut s, &sender, 0);
    s.w.event(1);
    assert!(look_at(&s).is_some());
}

/// A worse program that may map in the program's address space interrupts it seldom. One of the
/// same priority, which may be a task of the same process, does not wait.
#[test]
fn a_shootdown_is_as_urgent_as_the_task_that_waits_for_it() {
    const AT: u64 = 0x9300_0000;
    const SPACE: Cap = Cap(18);
    const FRAME: Cap = Cap(19);
    for (priority, is_urgent) in [(PROGRAM - 5, false), (PROGRAM, true), (PROGRAM + 5, true)] {
        let mut s = Scene::new(2);
        let (program, _) = s.running(1, PROGRAM);
        let (process, other) = s.somebody(0, priority);
        let frame = s.w.make(0, ObjType::Frame, 12);
        s.w.give(s.process.vspace, process, SPACE);
        s.w.give(frame, process, FRAME);
        s.w.run();
        s.w.k.machine.hardware().pace = PACE;
        for turn in 0..4 {
            let map = |op| Regs::op(op, &[SPACE.arg(), FRAME.arg(), AT, 1]);
            s.w.does(&other, map(Op::Map));
            while s.w.must_restart(0) {
                s.w.syscall(0);
            }
            assert_eq!(s.w.result(&other).error(), None);
            assert!(s.w.touch(1, AT));
            s.w.does(&other, map(Op::Unmap));
            assert_eq!(is_interrupted(&s), is_urgent || turn == 0);
            if is_interrupted(&s) {
                s.w.event(1);
            } else {
                look(&mut s);
            }
            assert_eq!(look_at(&s).is_none(), is_urgent);
            while !other.is_through() {
                assert!(s.w.event(0) || s.w.step(0));
            }
            assert!(s.w.runs(1, &program) && !s.w.touch(1, AT));
        }
    }
}

#[test]
fn mail_of_higher_priority_is_urgent() {
    let (mut s, _, sender) = scene(PROGRAM + 1);
    for number in 0..COUNT {
        notify(&mut s, &sender, number);
        assert!(is_interrupted(&s), "each interrupts the program");
        s.w.event(1);
        assert_eq!(look_at(&s), None);
    }
}

#[test]
fn urgent_mail_that_is_left_is_taken_immediately() {
    let (mut s, _, sender) = scene(PROGRAM + 1);
    for number in 0..COUNT {
        notify(&mut s, &sender, number);
    }
    s.w.event(1);
    assert!(has_mail(&s) && is_interrupted(&s));
    while s.w.event(1) {}
    assert!(!has_mail(&s));
}

#[test]
fn a_message_for_a_better_task_is_urgent() {
    let (mut s, _, sender) = scene(PROGRAM - 5);
    let (server, target) = s.server(1, PROGRAM + 10);
    let (client, _) = s.running(0, PROGRAM + 5);
    // The callee runs on its caller's time.
    s.w.does(&client, call(target));
    s.w.event(1);
    assert!(s.w.runs(1, &server) && look_at(&s).is_none());
    assert!(s.w.runs(0, &sender));
}

#[test]
fn a_program_of_lower_priority_does_not_inherit_the_deferral() {
    let (mut s, program, sender) = scene(PROGRAM - 5);
    let (lower, _) = s.running(1, PROGRAM - 8);
    s.w.k.machine.hardware().pace = PACE;
    (0..3).for_each(|number| notify(&mut s, &sender, number));
    s.w.event(1);
    assert!(has_mail(&s) && look_at(&s).is_some_and(|at| at > s.w.now() + PACE));
    // The mail outranks who runs next.
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &lower) && !has_mail(&s));
}

/// A task of CPU 0 that outranks the program and shares Notification 0 with the sender. It is
/// suspended.
pub fn better_sender(s: &mut Scene, note: Cap) -> Tcb {
    let (process, better) = s.somebody(0, PROGRAM + 1);
    s.w.give(note, process, Cap(NOTES));
    s.w.must(0, Op::TaskSuspend, &[better.cap.arg()]);
    better
}

/// Lets a suspended task of CPU 0 raise a bit, and suspends it again.
pub fn notify_and_suspend(s: &mut Scene, task: &Tcb) {
    s.w.must(0, Op::TaskResume, &[task.cap.arg()]);
    notify(s, task, 0);
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
}

/// Bits of several tasks in one message: the best of them counts, in whatever order they come.
#[test]
fn a_better_task_that_raises_the_same_notification_is_urgent() {
    let (mut s, _, low, notes) = scene_with_notes(PROGRAM - 5);
    let better = better_sender(&mut s, notes[0]);
    notify(&mut s, &low, 0);
    notify_and_suspend(&mut s, &better);
    s.w.event(1);
    assert_eq!(look_at(&s), None, "the mail was urgent");
    // The rank does not stay.
    notify(&mut s, &low, 0);
    s.w.event(1);
    assert!(look_at(&s).is_some());
}

/// The program's CPU defers its mail, and mail of the sender waits. Lets better tasks of CPU 0 and
/// of the program's CPU get ready before.
fn deferring<T>(prepare: impl FnOnce(&mut Scene, &[Cap]) -> T) -> (Scene, T) {
    let (mut s, program, low, notes) = scene_with_notes(PROGRAM - 5);
    let prepared = prepare(&mut s, &notes);
    s.w.run();
    flood(&mut s, &program, &low);
    (s, prepared)
}

/// Lets CPU 1 defer its mail for the program there: bits that a worse task raises.
fn flood(s: &mut Scene, program: &Tcb, low: &Tcb) {
    notify(s, low, 1);
    s.w.event(1);
    (2..COUNT).for_each(|number| notify(s, low, number));
    assert!(s.w.runs(1, program) && has_mail(s) && !is_interrupted(s));
}

/// The task that CPU 1 runs.
fn program(s: &Scene) -> Tcb {
    Tcb::new(Cap::NULL, Cap::NULL, s.w.current(1).expect("the program"))
}

/// Lets CPU 1 take all its mail, as soon as it may.
fn take_all(s: &mut Scene) {
    while has_mail(s) {
        if !s.w.event(1) {
            look(s);
        }
    }
}

/// How often CPU 1 was interrupted until this task ran there, without a rest.
fn looks_until(s: &mut Scene, task: &Tcb) -> u32 {
    let mut looks = 0;
    while !s.w.runs(1, task) {
        assert!(s.w.event(1), "the CPU rests after {looks} looks");
        looks += 1;
    }
    looks
}

/// CPU 1 defers its mail, and a better task of CPU 0 notifies one that waits there, which is
/// returned.
fn told_while_deferring() -> (Scene, Tcb) {
    let (s, waiter, ()) = told_while_deferring_with(|_| ());
    (s, waiter)
}

/// CPU 1 defers its mail, a better task was notified there, and `more` was made before.
fn told_while_deferring_with<T>(more: impl FnOnce(&mut Scene) -> T) -> (Scene, Tcb, T) {
    let (mut s, (better, waiter, more)) = deferring(|s, notes| {
        let (process, waiter) = s.somebody(1, PROGRAM + 5);
        give_slots(s, process, notes[0]);
        s.w.does_and_run(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
        let more = more(s);
        (better_sender(s, notes[0]), waiter, more)
    });
    notify_and_suspend(&mut s, &better);
    (s, waiter, more)
}

#[test]
fn bits_of_a_better_task_end_a_rest() {
    let (mut s, waiter) = told_while_deferring();
    let rest = look_at(&s);
    assert!(looks_until(&mut s, &waiter) <= SORTED, "it does not wait for what came before");
    // The rest goes on, and what it was for comes later.
    assert!(has_mail(&s) && look_at(&s) == rest);
    s.w.does(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    assert!(!has_mail(&s) || look_at(&s).is_some());
}

#[test]
fn a_call_of_a_better_task_ends_a_rest() {
    let (mut s, (client, target, server)) = deferring(|s, _| {
        let (server, target) = s.server(1, PROGRAM + 8);
        let (client, _) = s.running(0, PROGRAM + 5);
        s.w.must(0, Op::TaskSuspend, &[client.cap.arg()]);
        (client, target, server)
    });
    s.w.must(0, Op::TaskResume, &[client.cap.arg()]);
    s.w.does(&client, call(target));
    assert!(looks_until(&mut s, &server) <= SORTED, "it runs on its caller's time");
}

/// After the better mail was taken, what comes from others waits again.
#[test]
fn mail_behind_the_better_mail_rests() {
    let (mut s, waiter) = told_while_deferring();
    looks_until(&mut s, &waiter);
    assert!(!s.w.look(1).cpu.inbox().has_urgent());
}

/// What waits on CPU 1, oldest first.
fn waiting(s: &Scene) -> Vec<u64> {
    let mut found = Vec::new();
    s.w.look(1).cpu.inbox().each_message(|mail| match mail {
        Mail::Bits(object) => found.push(object.addr()),
        Mail::Message(parcel) => found.push(parcel.addr()),
        Mail::Control(task) | Mail::Arrival(task) => found.push(task.addr()),
        Mail::Grace(_) | Mail::Shoot(_) | Mail::ShootAll(_) | Mail::Sign => found.push(0),
    });
    found
}

#[test]
fn what_waits_keeps_its_order() {
    let (mut s, waiter) = told_while_deferring();
    let all = waiting(&s);
    looks_until(&mut s, &waiter);
    assert_eq!(waiting(&s), all[..all.len() - 1], "all but the better mail, which was the newest");
    s.w.does(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    while s.w.event(1) {}
    let left = waiting(&s);
    look(&mut s);
    assert_eq!(waiting(&s), left[PROGRAM_MAIL..], "the oldest were served");
}

/// Bits of a better task join a message that was set aside.
#[test]
fn a_message_that_waits_may_become_better() {
    let (mut s, (first, second, waiter)) = deferring(|s, notes| {
        let (process, second) = s.somebody(0, PROGRAM + 2);
        s.w.give(notes[5], process, Cap(NOTES));
        s.w.must(0, Op::TaskSuspend, &[second.cap.arg()]);
        let (process, waiter) = s.somebody(1, PROGRAM + 5);
        s.w.give(notes[5], process, Cap(NOTES));
        s.w.does_and_run(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
        (better_sender(s, notes[0]), second, waiter)
    });
    notify_and_suspend(&mut s, &first);
    while s.w.event(1) {}
    let aside = waiting(&s).len();
    assert!(aside > 4 && !s.w.runs(1, &waiter));
    notify_and_suspend(&mut s, &second);
    looks_until(&mut s, &waiter);
    assert!(has_mail(&s), "what came later still waits");
}

/// A task of CPU 1 that outranks the program, and which waits until a time. Returns also the time.
fn sleeper(s: &mut Scene) -> (Tcb, u64) {
    let (_, task) = s.somebody(1, PROGRAM + 5);
    let at = s.w.now() + 1_000_000;
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]).deadline(at));
    (task, at)
}

/// The timer wakes the sleeper, while an interrupt of mail is due.
fn wake_sleeper(s: &mut Scene, (task, at): &(Tcb, u64)) {
    let now = s.w.now();
    s.w.advance(at.saturating_sub(now));
    assert!(is_interrupted(s));
    s.w.interrupt(1, Interrupt::Timer);
    assert!(s.w.runs(1, task));
}

/// Mail that has come for worse tasks before does not delay a task that the timer wakes.
#[test]
fn who_wakes_in_time_does_not_wait_for_mail_that_came_before() {
    let (mut s, _, sender) = scene(PROGRAM - 5);
    let sleeper = sleeper(&mut s);
    s.w.k.machine.hardware().pace = PACE;
    (0..3).for_each(|number| notify(&mut s, &sender, number));
    let before = waiting(&s);
    wake_sleeper(&mut s, &sleeper);
    while s.w.event(1) {}
    assert_eq!(waiting(&s), before, "it serves none");
    assert!(look_at(&s).is_some_and(|at| at > s.w.now()), "and looks later");
    s.w.does(&sleeper.0, Regs::op(Op::Recv, &[]));
    take_all(&mut s);
}

/// On a CPU that defers its mail for the program, mail is urgent for that and not for the task that
/// wakes.
#[test]
fn who_wakes_in_time_does_not_wait_for_what_was_urgent_before() {
    let (mut s, (better, sleeper)) = deferring(|s, notes| {
        let sleeper = sleeper(s);
        (better_sender(s, notes[0]), sleeper)
    });
    notify_and_suspend(&mut s, &better);
    let before = waiting(&s);
    wake_sleeper(&mut s, &sleeper);
    while s.w.event(1) {}
    assert_eq!(waiting(&s), before, "it serves none");
    // The program goes on, for which the mail is urgent still.
    s.w.does(&sleeper.0, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(!s.w.look(1).cpu.inbox().has_urgent());
}

/// The rest of a program goes on after a better task that the timer wakes during it: the CPU looks
/// neither when that task runs nor when the program goes on.
#[test]
fn a_rest_goes_on_after_a_task_that_the_timer_wakes() {
    let (mut s, program, low) = scene(PROGRAM - 5);
    let (sleeper, at) = sleeper(&mut s);
    s.w.k.machine.hardware().pace = PACE;
    let now = s.w.now();
    s.w.advance(at - now - 20 * PACE);
    flood(&mut s, &program, &low);
    let (rest, before) = (look_at(&s), waiting(&s));
    assert!(rest.is_some_and(|rest| rest > at + 20 * PACE), "the rest is shorter than it should be here");
    let now = s.w.now();
    s.w.advance(at.saturating_sub(now));
    s.w.interrupt(1, Interrupt::Timer);
    assert!(s.w.runs(1, &sleeper) && look_at(&s) == rest);
    s.w.does(&sleeper, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &program) && look_at(&s) == rest, "the program's rest goes on");
    assert_eq!(waiting(&s), before, "nothing was served");
}

/// A CPU attends once to mail that waits for a program's sake, and not at each exit to a program of
/// that priority. It does again for a program of lower priority, and after the next look.
#[test]
fn mail_that_waits_is_attended_to_once() {
    let (mut s, lower) = deferring(|s, _| s.running(1, PROGRAM - 8).0);
    let program = program(&s);
    assert!(s.w.look(1).has_to_attend() && !s.w.look(1).attends_to_mail());
    assert!(!s.w.look(1).has_to_attend(), "it has attended");
    look(&mut s);
    assert!(has_mail(&s) && s.w.look(1).has_to_attend(), "there was a look since then");
    assert!(!s.w.look(1).attends_to_mail());
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &lower) && !has_mail(&s), "the mail outranks this one");
}

/// The program blocks, the CPU takes all its mail, and a task wakes by that. More mail comes just
/// before the CPU ends the deferral: that push does not interrupt it.
#[test]
fn mail_that_comes_as_a_deferral_ends_is_attended_to() {
    let (mut s, program, low, notes) = scene_with_notes(PROGRAM - 5);
    let (process, waiter) = s.somebody(1, PROGRAM + 5);
    s.w.give(notes[2], process, Cap(NOTES));
    s.w.does_and_run(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    notify(&mut s, &low, 1);
    s.w.event(1);
    notify(&mut s, &low, 2);
    assert!(s.w.runs(1, &program) && has_mail(&s) && !s.w.look(1).attends_to_mail());
    s.w.prepare(1, Regs::op(Op::Recv, &[]));
    let mut blocks =
        Part::begin(&s.w.gate, 1, Why::SystemCall, |point| matches!(point, Point::IdleRetracting));
    assert!(blocks.stop().is_some() && !has_mail(&s), "it has taken all");
    s.w.hold(Some(1));
    blocks.beside(|| notify(&mut s, &low, 3));
    blocks.finish();
    s.w.hold(None);
    assert!(s.w.runs(1, &waiter) && has_mail(&s));
    assert!(is_interrupted(&s) || look_at(&s).is_some(), "the mail waits, and the CPU knows nothing of it");
    take_all(&mut s);
}

/// A program that the mail outranks runs next. The mail was set aside for a better one.
#[test]
fn a_program_of_lower_priority_does_not_leave_better_mail_aside() {
    let (mut s, (better, lower)) = deferring(|s, notes| {
        let (lower, _) = s.running(1, PROGRAM - 8);
        (better_sender(s, notes[0]), lower)
    });
    notify_and_suspend(&mut s, &better);
    while s.w.event(1) {}
    assert!(waiting(&s).len() > 4);
    let program = program(&s);
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &lower) && !has_mail(&s));
}

/// An idle CPU had no time for all mail that it had set aside, and a program runs again. Then a
/// message comes that is urgent, and alone in the queue.
#[test]
fn what_an_idle_cpu_has_left_aside_is_not_forgotten() {
    let (mut s, waiter) = told_while_deferring();
    looks_until(&mut s, &waiter);
    assert!(has_mail(&s), "some is aside");
    // As an interrupt of an idle CPU does.
    s.w.look(1).cpu.inbox().retract();
    assert!(!s.w.look(1).attends_to_mail() && is_interrupted(&s));
    s.w.does(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    take_all(&mut s);
}

/// A program calls a server of another CPU, and nothing else is ready. So the CPU idles, but not
/// with mail that it has set aside.
#[test]
fn a_cpu_does_not_idle_with_mail_set_aside() {
    let (mut s, waiter, (program, target)) = told_while_deferring_with(|s| {
        let (_, target) = s.server(0, PROGRAM + 8);
        (s.w.current(1), target)
    });
    looks_until(&mut s, &waiter);
    s.w.does(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    assert!(has_mail(&s) && look_at(&s).is_some(), "some is aside");
    assert!(s.w.current(1) == program);
    s.w.issue(1, call(target));
    s.w.run();
    assert!(!has_mail(&s), "it is idle, or was");
}

/// A call to a task that is on its way comes after the task, however much better it is.
#[test]
fn a_call_does_not_overtake_its_receiver() {
    let (mut s, (resumer, receiver, client, target)) = deferring(|s, _| {
        let (process, resumer) = s.somebody(0, PROGRAM - 4);
        let (receiver, target) = s.task(1, PROGRAM - 6, true);
        s.w.give(receiver.cap, process, Cap(NOTES));
        let (client, _) = s.running(0, PROGRAM + 5);
        for task in [&resumer, &client] {
            s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
        }
        (resumer, receiver, client, target)
    });
    s.w.must(0, Op::TaskResume, &[resumer.cap.arg()]);
    s.w.does(&resumer, Regs::op(Op::TaskResume, &[Cap(NOTES).arg()]));
    s.w.must(0, Op::TaskSuspend, &[resumer.cap.arg()]);
    s.w.must(0, Op::TaskResume, &[client.cap.arg()]);
    s.w.does(&client, call(target));
    while s.w.event(1) {}
    assert_eq!(receiver.home(), 1, "it has arrived");
    assert!(!s.w.block(0).mailbox().has_mail(), "and the call did not go around");
}

/// A question of a flush is answered when all mail was served that came before it.
#[test]
fn a_question_of_a_grace_round_overtakes_nothing() {
    let (mut s, better) = deferring(|s, notes| better_sender(s, notes[0]));
    let before = waiting(&s);
    let _ = quiesce::request_quiet(s.w.k, host_test::pin(0));
    notify_and_suspend(&mut s, &better);
    let all = waiting(&s);
    assert!(all.contains(&0) && all.last() != Some(&0), "the question came before the better mail");
    for _ in 0..100 {
        if !s.w.event(1) {
            look(&mut s);
        }
        let waits = waiting(&s);
        if !waits.contains(&0) {
            assert!(!before.iter().any(|one| waits.contains(one)), "older mail waits still");
            return;
        }
    }
    panic!("the question is not answered");
}

/// Gives a process what its task needs to wait for a grace period.
fn give_slots(s: &mut Scene, process: Proc, note: Cap) {
    s.w.give(process.cnode, process, CNODE);
    s.w.give(note, process, Cap(NOTES));
    s.w.give(note, process, FREED);
}

/// Lets a task that runs empty a slot, and fill it again: that waits for a grace period.
fn wait_for_grace(s: &mut Scene, task: &Tcb) {
    let slot = Target::new(CNODE, FREED.0).0;
    s.w.does(task, Regs::op(Op::CapDelete, &[slot]));
    s.w.does(task, Regs::op(Op::CapCopy, &[Cap(NOTES).arg(), slot, u64::from(Rights::ALL.0)]));
    assert_eq!(task.state(), State::Restart);
}

/// Lets both CPUs go on until the task has its grace period. None of them rests meanwhile.
fn until_grace(s: &mut Scene, task: &Tcb) {
    while task.state() == State::Restart {
        assert!(s.w.event(1) | s.w.event(0), "a CPU rests, and so the period does not end");
    }
}

/// A task of CPU 0 that is suspended.
fn grace_waiter(s: &mut Scene, note: Cap, priority: u64) -> Tcb {
    let (process, task) = s.somebody(0, priority);
    give_slots(s, process, note);
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    task
}

/// When a round begins, its reason does not run any more.
#[test]
fn a_round_is_as_urgent_as_the_task_that_waits_for_it() {
    let (mut s, better) = deferring(|s, notes| grace_waiter(s, notes[0], PROGRAM + 3));
    s.w.must(0, Op::TaskResume, &[better.cap.arg()]);
    wait_for_grace(&mut s, &better);
    until_grace(&mut s, &better);
}

#[test]
fn a_round_that_a_better_task_joins_becomes_urgent() {
    let (mut s, (low, better)) = deferring(|s, notes| {
        (grace_waiter(s, notes[0], PROGRAM - 4), grace_waiter(s, notes[0], PROGRAM + 3))
    });
    s.w.must(0, Op::TaskResume, &[low.cap.arg()]);
    wait_for_grace(&mut s, &low);
    assert!(waiting(&s).contains(&0) && !is_interrupted(&s), "its question waits");
    s.w.must(0, Op::TaskResume, &[better.cap.arg()]);
    wait_for_grace(&mut s, &better);
    until_grace(&mut s, &better);
}

/// A better task of CPU 1 runs there, and the CPU defers its mail.
fn better_there() -> (Scene, Tcb) {
    let (mut s, waiter) = told_while_deferring();
    looks_until(&mut s, &waiter);
    assert!(look_at(&s).is_some());
    (s, waiter)
}

/// The CPU that answers runs a program of low priority.
#[test]
fn an_answer_is_as_urgent_as_its_question() {
    let (mut s, waiter) = better_there();
    wait_for_grace(&mut s, &waiter);
    until_grace(&mut s, &waiter);
}

#[test]
fn an_answer_that_waits_becomes_urgent() {
    let (mut s, waiter) = better_there();
    // Nobody waits for this period.
    let _ = quiesce::request_quiet(s.w.k, host_test::pin(1));
    s.w.interrupt(1, Interrupt::Other);
    while s.w.event(0) {}
    assert!(waiting(&s).contains(&0) && !is_interrupted(&s), "the answer waits");
    wait_for_grace(&mut s, &waiter);
    until_grace(&mut s, &waiter);
}

/// A call that waits is wanted back by a better task.
#[test]
fn a_recall_does_not_overtake_its_call() {
    let (mut s, (caller, better, target)) = deferring(|s, _| {
        let (_, target) = s.server(1, PROGRAM + 8);
        let (caller, _) = s.running(0, PROGRAM - 4);
        s.w.must(0, Op::TaskSuspend, &[caller.cap.arg()]);
        let (process, better) = s.somebody(0, PROGRAM + 3);
        s.w.give(caller.cap, process, Cap(NOTES));
        s.w.must(0, Op::TaskSuspend, &[better.cap.arg()]);
        (caller, better, target)
    });
    s.w.must(0, Op::TaskResume, &[caller.cap.arg()]);
    s.w.does(&caller, call(target));
    s.w.must(0, Op::TaskResume, &[better.cap.arg()]);
    s.w.does(&better, Regs::op(Op::TaskCancel, &[Cap(NOTES).arg()]));
    let mut events = 0;
    while s.w.event(1) {
        events += 1;
        assert!(events < 20, "it does not find the call");
    }
    s.w.event(0);
    assert!(caller.is_through(), "it is back without a rest");
}

/// The last message that an idle CPU takes lets a task run which outranks those of all others.
#[test]
fn an_idle_cpu_that_has_taken_all_its_mail_defers_none() {
    let (mut s, program, low, notes) = scene_with_notes(PROGRAM - 5);
    let (process, waiter) = s.somebody(1, PROGRAM + 5);
    s.w.give(notes[COUNT as usize - 1], process, Cap(NOTES));
    s.w.does_and_run(&waiter, Regs::op(Op::Wait, &[Cap(NOTES).arg()]));
    flood(&mut s, &program, &low);
    s.w.must(0, Op::TaskSuspend, &[program.cap.arg()]);
    while !s.w.runs(1, &waiter) {
        assert!(s.w.event(1), "it idles with mail");
    }
    assert!(!has_mail(&s) && look_at(&s).is_none());
}

/// The pages of one message are about an entry's work.
#[test]
fn a_message_with_pages_is_the_first_of_its_entry() {
    let (mut s, _, sender) = scene(PROGRAM - 5);
    let (_, target) = s.server(1, PROGRAM + 8);
    let (process, caller) = s.somebody(0, PROGRAM - 4);
    s.w.join_all(s.group, process, GROUP);
    pooled(&mut s, process.vspace, FROM, 1);
    s.w.must(0, Op::TaskSuspend, &[caller.cap.arg()]);
    lists_pages(&caller, &[PageRange::new(PageMode::Share, FROM, 1)]);
    notify(&mut s, &sender, 0);
    s.w.must(0, Op::TaskResume, &[caller.cap.arg()]);
    s.w.does(&caller, call(target).flag(FLAG_PAGES));
    assert_eq!(waiting(&s).len(), 2);
    s.w.event(1);
    assert_eq!(waiting(&s).len(), 1, "it comes with the next entry");
    look(&mut s);
    assert_eq!(waiting(&s).len(), 0);
}

/// What the timer did before comes on top of the work that pages are.
#[test]
fn pages_do_not_come_with_the_end_of_a_wait() {
    let (mut s, program, sender) = scene(PROGRAM - 5);
    let (_, target) = s.server(1, PROGRAM + 8);
    let (process, caller) = s.somebody(0, PROGRAM - 4);
    s.w.join_all(s.group, process, GROUP);
    pooled(&mut s, process.vspace, FROM, 1);
    lists_pages(&caller, &[PageRange::new(PageMode::Share, FROM, 1)]);
    s.w.must(0, Op::TaskSuspend, &[program.cap.arg()]);
    s.w.run();
    let (_, waiter) = s.somebody(1, PROGRAM - 7);
    let until = s.w.now() + (1 << 24);
    s.w.does_and_run(&waiter, Regs::op(Op::Recv, &[]).deadline(until));
    s.w.resume(&program);
    s.w.run();
    // Nothing of it is urgent, so the CPU defers what comes next.
    s.w.must(0, Op::TaskSuspend, &[caller.cap.arg()]);
    notify(&mut s, &sender, 0);
    s.w.event(1);
    s.w.must(0, Op::TaskResume, &[caller.cap.arg()]);
    s.w.does(&caller, call(target).flag(FLAG_PAGES));
    assert!(look_at(&s).is_some_and(|at| at < until));
    s.w.advance(until - s.w.now());
    s.w.event(1);
    assert_eq!(waiting(&s).len(), 1, "the timer has ended a wait");
    s.w.event(1);
    assert_eq!(waiting(&s).len(), 0, "they come with the next interrupt");
}

/// Whether the assembly fast paths of CPU 1 would go on with another ready task.
fn fast_path_goes_on(s: &Scene) -> bool {
    let cx = s.w.look(1);
    cx.hot.plain_half.get() == u64::from(state_half(State::Ready, 0, cx.id()) | u32::from(PLAIN))
}

#[test]
fn the_fast_path_leaves_no_deferral_to_another_program() {
    let (mut s, program, sender) = scene(PROGRAM - 5);
    assert!(fast_path_goes_on(&s));
    // The deferral ends in one of three ways: a look finds nothing, the CPU idles, or mail is
    // urgent.
    notify(&mut s, &sender, 0);
    s.w.event(1);
    assert!(look_at(&s).is_some() && !fast_path_goes_on(&s));
    look(&mut s);
    assert!(look_at(&s).is_none() && fast_path_goes_on(&s));
    notify(&mut s, &sender, 1);
    s.w.event(1);
    assert!(!fast_path_goes_on(&s));
    let (lower, _) = s.running(1, PROGRAM - 8);
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    while s.w.event(1) {}
    assert!(s.w.runs(1, &lower), "it has stopped on the slow path");
    s.w.does(&lower, Regs::op(Op::Recv, &[]));
    notify(&mut s, &sender, 2);
    while s.w.event(1) {}
    assert!(look_at(&s).is_none());
    s.w.resume(&program);
    assert!(fast_path_goes_on(&s));
}

#[test]
fn a_turn_of_an_equal_task_does_not_delay_the_look() {
    const SLICE: u64 = 1 << 30;
    let (mut s, program, sender) = scene(PROGRAM - 5);
    let (other, _) = s.running(1, PROGRAM);
    let (first, second) = if s.w.runs(1, &program) { (program, other) } else { (other, program) };
    notify(&mut s, &sender, 0);
    s.w.event(1);
    assert!(s.w.runs(1, &first) && look_at(&s).is_some());
    notify(&mut s, &sender, 1);
    s.w.advance(SLICE);
    s.w.event(1);
    assert!(s.w.runs(1, &second), "the slice is over");
    assert!(!has_mail(&s), "the CPU looks in the same interrupt");
}

#[test]
fn an_idle_cpu_takes_all_its_mail() {
    let (mut s, program, sender) = scene(PROGRAM - 5);
    (0..COUNT).for_each(|number| notify(&mut s, &sender, number));
    s.w.event(1);
    assert!(has_mail(&s));
    s.w.does(&program, Regs::op(Op::Recv, &[]));
    assert!(!has_mail(&s) && look_at(&s).is_none());
}
