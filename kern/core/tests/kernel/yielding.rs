//! Notices before the end of a slice: who gets one, for how long, and who pays for it.

use std::sync::atomic::Ordering::Relaxed;

use abi::time::GRACE_MAX;
use abi::{Counter, Error, Op, Target};
use kern_base::task::State;

use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::dice::Dice;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb};

const SLICE: u64 = 20_000;
const GRACE: u64 = SLICE / 2;
const PRIORITY: u64 = 20;

fn wants(task: &Tcb) {
    task.object.get().utcb(task.pin()).wants_notice.store(1, Relaxed);
}

/// Until when a task may run on, as it sees it; 0: it has no notice.
fn notice(task: &Tcb) -> u64 {
    task.object.get().utcb(task.pin()).preempt_pending.load(Relaxed)
}

fn set(s: &mut Scene, task: &Tcb, slice: u64, budget: [u64; 2]) {
    s.w.must(0, Op::SchedConfigure, &[CONTROL, task.sc.arg(), PRIORITY, slice, budget[0], budget[1]]);
    s.w.run();
}

/// Graces granted, yielded, revoked and expired.
fn counts(s: &Scene) -> [u64; 4] {
    let counters =
        [Counter::GraceGranted, Counter::GraceYielded, Counter::GraceRevoked, Counter::GraceExpired];
    counters.map(|counter| (0..s.w.cpus()).map(|n| s.w.block(n).counters[counter as usize].racy()).sum())
}

/// What a task has used, and the rest of its slice.
fn account(s: &Scene, task: &Tcb) -> (u64, u64) {
    let cx = s.w.look(0);
    cx.time().charge();
    let time = cx.time().open_time(s.w.object(task.sc).expect("time")).expect("here");
    (time.state.consumed(), time.state.remaining())
}

/// Lets the slice of what runs be over.
fn end_slice(s: &mut Scene) {
    s.w.advance(SLICE);
    s.w.event(0);
}

/// A task that wants notices, and runs, and an equal that waits. Both have short slices.
fn two() -> (Scene, Tcb, Tcb) {
    let (s, task, other, _) = two_and_target();
    (s, task, other)
}

/// As [`two`], with the target of a call to the other task.
fn two_and_target() -> (Scene, Tcb, Tcb, Target) {
    on_cpus(1)
}

fn on_cpus(cpus: usize) -> (Scene, Tcb, Tcb, Target) {
    let mut s = Scene::new(cpus);
    let (task, _) = s.running(0, PRIORITY);
    let (other, target) = s.running(0, PRIORITY);
    for task in [&task, &other] {
        set(&mut s, task, SLICE, [0; 2]);
    }
    wants(&task);
    while !s.w.runs(0, &task) {
        end_slice(&mut s);
    }
    // Its slice began a moment ago.
    assert_eq!((notice(&task), counts(&s)), (0, [0; 4]));
    (s, task, other, target)
}

/// As [`two`], in the task's grace.
fn in_grace() -> (Scene, Tcb, Tcb) {
    let (mut s, task, other) = two();
    begin_grace(&mut s, &task);
    (s, task, other)
}

fn begin_grace(s: &mut Scene, task: &Tcb) {
    end_slice(s);
    assert!(s.w.runs(0, task), "its slice is over, and it has a notice");
    assert!(notice(task) >= s.w.now() && notice(task) <= s.w.now() + GRACE);
    assert_eq!(counts(s), [1, 0, 0, 0]);
}

#[test]
fn who_yields_in_its_grace_pays_with_its_next_slice() {
    for fast in [false, true] {
        let (mut s, task, other) = in_grace();
        s.w.gate.fast = fast;
        s.w.advance(1_000);
        let rest = notice(&task) - s.w.now();
        s.w.does(&task, Regs::op(Op::Yield, &[]));
        assert!(s.w.runs(0, &other), "it has yielded");
        assert_eq!((notice(&task), counts(&s)), (0, [1, 1, 0, 0]));
        let (_, left) = account(&s, &task);
        let expected = SLICE - (GRACE - rest);
        assert!(left.abs_diff(expected) < 100, "{left} instead of about {expected}");
        let fires = s.w.k.machine.hardware().timers.get(&0).copied();
        let until = s.w.look(0).sched.until.get();
        assert_eq!(fires, Some(until), "the timer fires when the other's slice is over, and not before");
    }
}

#[test]
fn a_grace_ends_by_the_timer() {
    let (mut s, task, other) = in_grace();
    s.w.advance(GRACE);
    s.w.event(0);
    assert!(s.w.runs(0, &other));
    assert_eq!((notice(&task), counts(&s)), (0, [1, 0, 0, 1]));
    let (_, left) = account(&s, &task);
    assert_eq!(left, SLICE - GRACE);
    end_slice(&mut s);
    assert!(s.w.runs(0, &task), "the other wants no notice");
    s.w.advance(left);
    s.w.event(0);
    assert_eq!(counts(&s)[0], 2, "the shorter slice is over, too");
}

#[test]
fn what_outranks_the_task_preempts_it_and_ends_its_grace() {
    for fast in [false, true] {
        let (mut s, task, other) = two();
        let (high, _) = s.running(0, PRIORITY + 1);
        let until = s.w.now() + SLICE + GRACE / 2;
        s.w.does(&high, Regs::op(Op::Recv, &[]).deadline(until));
        s.w.gate.fast = fast;
        begin_grace(&mut s, &task);
        s.w.advance(until.saturating_sub(s.w.now()));
        s.w.event(0);
        assert!(s.w.runs(0, &high));
        assert_eq!((notice(&task), counts(&s)), (0, [1, 0, 1, 0]));
        s.kill(&high);
        assert!(s.w.runs(0, &other), "the task's slice was over");
        let (_, left) = account(&s, &task);
        assert!(left > SLICE - GRACE && left < SLICE, "it pays for what it has used: {left}");
    }
}

#[test]
fn who_waits_ends_its_grace() {
    let (mut s, task, other) = in_grace();
    let until = s.w.now() + 200;
    s.w.does(&task, Regs::op(Op::Recv, &[]).deadline(until));
    assert!(s.w.runs(0, &other));
    assert_eq!((notice(&task), counts(&s)), (0, [1, 0, 1, 0]));
    s.w.advance(200);
    s.w.event(0);
    assert!(task.state() == State::Ready);
    assert!(s.w.runs(0, &other), "the task wakes with a slice of its own, and waits for its turn");
}

#[test]
fn a_server_works_in_its_clients_grace_and_no_longer() {
    let (mut s, task, other) = two();
    let (server, target) = s.server(0, PRIORITY + 1);
    begin_grace(&mut s, &task);
    s.w.does(&task, call(target));
    assert!(s.w.runs(0, &server));
    s.w.advance(GRACE);
    s.w.event(0);
    assert!(s.w.runs(0, &other), "the time was the client's");
    assert_eq!((notice(&task), counts(&s)), (0, [1, 0, 1, 0]), "it does not give up its next slice");
    end_slice(&mut s);
    assert!(s.w.runs(0, &server));
    s.w.does(&server, answer());
    assert!(s.w.runs(0, &task));
}

#[test]
fn a_call_to_another_cpu_ends_the_grace_if_others_go_on() {
    for fast in [false, true] {
        let (mut s, task, other, _) = on_cpus(2);
        let (server, target) = s.server(1, PRIORITY);
        begin_grace(&mut s, &task);
        s.w.gate.fast = fast;
        s.w.does_and_run(&task, call(target));
        assert!(s.w.runs(0, &other) && s.w.runs(1, &server));
        s.w.does_and_run(&server, answer());
        assert!(s.w.runs(0, &other) && task.state() == State::Ready, "it waits for its turn");
        assert_eq!((notice(&task), counts(&s)), (0, [1, 0, 1, 0]));
        let (_, left) = account(&s, &task);
        assert!(left > SLICE / 2 && left < SLICE, "its turn is a slice, less what it has used: {left}");
    }
}

#[test]
fn who_loses_its_time_loses_the_notice() {
    let (mut s, task, other, _) = on_cpus(2);
    begin_grace(&mut s, &task);
    s.w.must(1, Op::CapDelete, &[at(task.sc)]);
    s.w.run();
    assert!(s.w.runs(0, &other));
    assert_eq!(notice(&task), 0);
}

#[test]
fn there_is_nothing_to_give_in_a_grace() {
    let (mut s, task, other, target) = two_and_target();
    begin_grace(&mut s, &task);
    let (_, before) = account(&s, &other);
    s.w.does(&task, Regs::op(Op::YieldTo, &[target.0]));
    assert!(s.w.runs(0, &other));
    assert_eq!((notice(&task), counts(&s)), (0, [1, 1, 0, 0]));
    let (_, left) = account(&s, &other);
    assert!(before - left < 100, "it has the rest of its own slice: {before}, {left}");
}

/// A task of CPU 0, and a friend and two equals of the friend on CPU 1, with short slices.
fn friend_afar() -> (Scene, Tcb, (Tcb, Target), [Tcb; 2]) {
    let mut s = Scene::new(2);
    let (giver, _) = s.running(0, PRIORITY);
    let friend = s.running(1, PRIORITY);
    let equals = [s.running(1, PRIORITY).0, s.running(1, PRIORITY).0];
    for task in [&friend.0, &equals[0], &equals[1]] {
        set(&mut s, task, SLICE, [0; 2]);
    }
    (s, giver, friend, equals)
}

/// Lets the slice of what runs on CPU 1 be over.
fn end_slice_afar(s: &mut Scene) {
    s.w.advance(SLICE);
    s.w.event(1);
}

#[test]
fn a_task_of_another_cpu_runs_next_there() {
    let (mut s, giver, (friend, target), equals) = friend_afar();
    while !s.w.runs(1, &friend) {
        end_slice_afar(&mut s);
    }
    end_slice_afar(&mut s);
    let (_, before) = account(&s, &giver);
    s.w.does_and_run(&giver, Regs::op(Op::YieldTo, &[target.0]));
    assert_eq!(s.w.result(&giver).error(), None);
    assert!(s.w.runs(0, &giver), "it keeps its slice");
    assert!(before - account(&s, &giver).1 < SLICE / 2);
    assert!(!s.w.runs(1, &friend), "nor does who runs lose its own");
    end_slice_afar(&mut s);
    assert!(s.w.runs(1, &friend), "before the two that waited for longer");
    s.w.does_and_run(&giver, Regs::op(Op::YieldTo, &[target.0]));
    assert_eq!(s.w.result(&giver).error(), None, "it runs already");
    assert!(s.w.runs(1, &friend));
    s.w.must(1, Op::TaskSuspend, &[friend.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&giver, Regs::op(Op::YieldTo, &[target.0]));
    assert_eq!(s.w.result(&giver).error(), Some(Error::WouldBlock));
    assert!(equals.iter().any(|it| s.w.runs(1, it)));
}

#[test]
fn a_friend_on_another_cpu_takes_few_turns_from_others() {
    let (mut s, giver, (friend, target), _) = friend_afar();
    let mut turns = 0;
    for _ in 0..110 {
        s.w.does_and_run(&giver, Regs::op(Op::YieldTo, &[target.0]));
        assert_eq!(s.w.result(&giver).error(), None);
        turns += usize::from(s.w.runs(1, &friend));
        end_slice_afar(&mut s);
    }
    assert!((38..=44).contains(&turns), "four turns for three of each other, so 40, not {turns}");
}

#[test]
fn friends_who_yield_to_each_other_let_others_run() {
    let mut s = Scene::new(1);
    let friends = [s.running(0, PRIORITY), s.running(0, PRIORITY)];
    let (third, _) = s.running(0, PRIORITY);
    for task in [&friends[0].0, &friends[1].0, &third] {
        set(&mut s, task, SLICE, [0; 2]);
        wants(task);
    }
    let mut turns = 0;
    for _ in 0..60 {
        let friend = friends.iter().position(|(task, _)| s.w.runs(0, task));
        match friend {
            Some(n) if notice(&friends[n].0) != 0 => {
                s.w.does(&friends[n].0, Regs::op(Op::YieldTo, &[friends[1 - n].1.0]));
            }
            None if notice(&third) != 0 => {
                turns += 1;
                s.w.does(&third, Regs::op(Op::Yield, &[]));
            }
            _ => end_slice(&mut s),
        }
    }
    assert!(turns >= 9, "a third of 30 slices, not {turns}");
}

#[test]
fn nobody_gets_a_notice_in_vain() {
    let (mut s, task, other) = two();
    s.w.must(0, Op::TaskSuspend, &[other.cap.arg()]);
    s.w.run();
    end_slice(&mut s);
    assert!(s.w.runs(0, &task) && counts(&s) == [0; 4], "nobody waits");
    s.w.resume(&other);
    s.w.run();
    task.object.get().utcb(task.pin()).wants_notice.store(0, Relaxed);
    end_slice(&mut s);
    assert!(s.w.runs(0, &other) && counts(&s) == [0; 4], "it wants none");
}

#[test]
fn a_grace_is_no_longer_than_its_bound_and_than_the_budget() {
    let (mut s, task, other) = two();
    set(&mut s, &task, 100 * GRACE_MAX, [0; 2]);
    for task in [&task, &other] {
        set(&mut s, task, 100 * GRACE_MAX, [0; 2]);
    }
    while notice(&task) == 0 {
        s.w.advance(100 * GRACE_MAX);
        s.w.event(0);
    }
    assert!(notice(&task) <= s.w.now() + GRACE_MAX);
    s.w.does(&task, Regs::op(Op::Yield, &[]));
    set(&mut s, &task, SLICE, [SLICE + 1_000, 100 * SLICE]);
    while !s.w.runs(0, &task) {
        s.w.advance(100 * GRACE_MAX);
        s.w.event(0);
    }
    end_slice(&mut s);
    assert!(s.w.runs(0, &task) && notice(&task) <= s.w.now() + 1_000, "the rest of its budget");
    s.w.advance(1_000);
    s.w.event(0);
    assert!(s.w.runs(0, &other), "its budget is used up");
}

#[test]
fn notices_change_nobodys_share() {
    for seed in 1..=8 {
        let (mut s, task, other) = two();
        let (third, _) = s.running(0, PRIORITY);
        set(&mut s, &third, SLICE, [0; 2]);
        let tasks = [&task, &other, &third];
        let before = tasks.map(|task| account(&s, task).0);
        let mut dice = Dice::new(seed);
        for _ in 0..900 {
            let now = s.w.now();
            let until = s.w.look(0).sched.until.get().saturating_sub(now);
            if s.w.runs(0, &task) && notice(&task) != 0 && dice.below(3) != 0 {
                s.w.advance(until * dice.below(100) as u64 / 100);
                s.w.does(&task, Regs::op(Op::Yield, &[]));
            } else {
                s.w.advance(until + 1);
                s.w.event(0);
            }
        }
        assert!(counts(&s)[1] > 50 && counts(&s)[3] > 20, "seed {seed}: {:?}", counts(&s));
        let used: Vec<u64> = tasks.iter().zip(before).map(|(task, was)| account(&s, task).0 - was).collect();
        let (least, most) = (used.iter().min().unwrap(), used.iter().max().unwrap());
        assert!(most - least < 2 * SLICE, "seed {seed}: {used:?}");
    }
}
