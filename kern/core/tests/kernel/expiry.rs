//! Many deadlines that pass together: which tasks wake first, and what the running program loses.

use abi::{Error, Op, Target};
use kern_base::limits::PROGRAM_WAKES;
use sched::PRIORITIES;
use smp::host_test;

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

/// Ticks between two readings of the clock.
const PACE: u64 = 100;
/// Priorities of the tasks that wait.
const LOW: u64 = 1;
const HIGH: u64 = 200;
/// Priority of the program that is interrupted.
const PROGRAM: u64 = 100;
/// Tasks of low priority.
const COUNT: usize = 24;

/// The scene with priorities that the program outranks, and one that outranks it.
fn scene() -> (Scene, Vec<Tcb>, Tcb, Tcb, u64) {
    scene_of(|_| LOW, HIGH)
}

/// Tasks of CPU 0 that wait with a deadline each: many of priorities `low`, and one of priority
/// `high`, whose deadline is the last. A program runs. Returns when all deadlines have passed.
/// Those of tasks that outrank the program come later than the others.
fn scene_of(low: impl Fn(usize) -> u64, high: u64) -> (Scene, Vec<Tcb>, Tcb, Tcb, u64) {
    let mut s = Scene::new(1);
    let at = s.w.now() + 100_000;
    let waiter = |s: &mut Scene, priority: u64, at: u64| {
        let (_, task) = s.somebody(0, priority);
        s.w.does_and_run(&task, Regs::op(Op::Recv, &[]).deadline(at));
        task
    };
    let late = |n: usize| if low(n) > PROGRAM { 2_000 } else { 0 };
    let low: Vec<Tcb> = (0..COUNT).map(|n| waiter(&mut s, low(n), at + late(n) + n as u64)).collect();
    let end = at + 5_000;
    let high = waiter(&mut s, high, end);
    let (_, program) = s.somebody(0, PROGRAM);
    assert!(s.w.runs(0, &program), "the others wait");
    s.w.k.machine.hardware().pace = PACE;
    (s, low, high, program, end)
}

fn is_over(task: &Tcb) -> bool {
    task.regs().error() == Some(Error::Timeout)
}

/// How many of these waits are over.
fn over(tasks: &[Tcb]) -> usize {
    tasks.iter().filter(|task| is_over(task)).count()
}

/// The scene, when all deadlines have passed and the timer of CPU 0 has fired once.
fn all_passed() -> (Scene, Vec<Tcb>, Tcb, Tcb) {
    let (mut s, low, high, program, end) = scene();
    s.w.advance(end - s.w.now());
    assert!(s.w.event(0));
    (s, low, high, program)
}

/// A task that wakes does not wait for tasks that outrank the program and not this task.
#[test]
fn only_equals_wake_together_with_a_better_task() {
    let (mut s, middle, high, _, end) = scene_of(|_| PROGRAM + 50, HIGH);
    s.w.advance(end - s.w.now());
    assert!(s.w.event(0));
    assert!(s.w.runs(0, &high) && is_over(&high) && over(&middle) == 0);
    s.w.does(&high, Regs::op(Op::Recv, &[]));
    while s.w.event(0) {}
    assert!(over(&middle) > 0, "they wake before the program goes on");
}

/// Tasks worse than one that has woken, whose deadlines have passed with its, do not interrupt it
/// immediately.
#[test]
fn a_better_task_that_has_woken_is_left_alone_at_first() {
    let (mut s, middle, high, _, end) = scene_of(|_| PROGRAM + 50, HIGH);
    s.w.advance(end - s.w.now());
    let took = fire(&mut s);
    assert!(s.w.runs(0, &high) && over(&middle) == 0);
    let next = s.w.k.machine.hardware().timers.get(&0).copied().expect("a timer is set");
    let now = s.w.now();
    assert!(next >= now + 10 * took, "the timer fires at {next}, and it is {now}");
}

/// Equals of a task that has woken do not rest for its sake. For the sake of a better task that
/// wakes before their turn they do.
#[test]
fn a_better_task_that_wakes_later_is_left_alone_too() {
    for low_rest in [false, true] {
        better_wakes_later(low_rest);
    }
}

/// `low_rest`: tasks that are worse than all of them rest meanwhile.
fn better_wakes_later(low_rest: bool) {
    const LOW_ONES: usize = 4;
    let is_low = |n: usize| low_rest && n < LOW_ONES;
    let (mut s, all, high, _, end) = scene_of(|n| if is_low(n) { LOW } else { PROGRAM + 50 }, HIGH);
    let middle = &all[if low_rest { LOW_ONES } else { 0 }..];
    if low_rest {
        s.w.advance(end - 4_900 - s.w.now());
        fire(&mut s);
        assert!(over(&all[..LOW_ONES]) < LOW_ONES && over(middle) == 0, "some rest");
    }
    s.w.advance(end - 1_000 - s.w.now());
    fire(&mut s);
    let woken = over(middle);
    assert!(woken > 0 && woken < middle.len() && !is_over(&high), "the timer goes on with them");
    s.w.advance(end - s.w.now());
    let took = fire(&mut s);
    assert!(s.w.runs(0, &high) && over(middle) == woken);
    let next = s.w.k.machine.hardware().timers.get(&0).copied().expect("a timer is set");
    let now = s.w.now();
    assert!(next >= now + 10 * took, "the timer fires at {next}, and it is {now}");
    fire(&mut s);
    assert!(over(middle) > woken, "they have rested");
}

/// Lets time pass until the timer of CPU 0 fires, and lets it fire. Returns the ticks inside of the
/// kernel.
fn fire(s: &mut Scene) -> u64 {
    let at = s.w.k.machine.hardware().timers.get(&0).copied().expect("a timer is set");
    s.w.advance(at.saturating_sub(s.w.now()));
    let entered = s.w.now();
    assert!(s.w.event(0));
    s.w.now() - entered
}

#[test]
fn a_task_of_high_priority_wakes_first() {
    let (s, low, high, _) = all_passed();
    assert!(s.w.runs(0, &high), "one entry lets it run, however many deadlines were sooner");
    assert!(is_over(&high) && over(&low) < COUNT / 2);
}

#[test]
fn the_program_keeps_its_cpu() {
    let (mut s, low, high, program) = all_passed();
    s.w.does(&high, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &program));
    let (began, mut inside, mut fires) = (s.w.now(), 0, 0);
    while over(&low) < COUNT {
        let before = over(&low);
        inside += fire(&mut s);
        fires += 1;
        let after = over(&low);
        assert!(after - before <= PROGRAM_WAKES, "{before} to {after}");
        assert!(s.w.runs(0, &program));
        assert!(fires <= 2 * COUNT, "it never ends");
    }
    let all = s.w.now() - began;
    assert!(inside * 10 <= all, "{inside} of {all} ticks are not the program's");
}

#[test]
fn deadlines_of_the_programs_rank_wait_no_longer_than_a_rest() {
    let (mut s, low, _, program, end) = scene();
    s.kill(&program);
    s.w.advance(end - s.w.now());
    for _ in 0..3 * COUNT {
        if over(&low) == COUNT {
            return;
        }
        fire(&mut s);
    }
    panic!("some wait for ever");
}

/// The program that those of low priority did not outrank waits by then.
#[test]
fn a_rest_of_low_bands_delays_no_task_of_a_higher_one() {
    let (mut s, _, high, program, end) = scene();
    let (_, best) = s.somebody(0, 250);
    s.w.advance(end - 4_000 - s.w.now());
    s.w.event(0);
    assert!(s.w.runs(0, &best) && s.w.look(0).sched.expire_at.get() > end, "those of low priority rest");
    s.w.does(&best, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &program) && !is_over(&high));
    fire(&mut s);
    assert!(s.w.runs(0, &high));
    assert!(s.w.now() < end + 20 * PACE, "{} is too late for {end}", s.w.now());
}

/// A deadline that passes after the others were looked after is not late.
#[test]
fn a_rest_ends_with_the_deadlines_that_were_its_reason() {
    let (mut s, low, high, program) = all_passed();
    s.w.does(&high, Regs::op(Op::Recv, &[]));
    while over(&low) < COUNT {
        fire(&mut s);
    }
    assert_eq!(s.w.look(0).sched.expire_at.get(), 0);
    let at = s.w.now() + 10_000;
    s.w.does(&program, Regs::op(Op::Recv, &[]).deadline(at));
    s.w.advance(at - s.w.now());
    assert!(s.w.event(0) && is_over(&program), "its wait ends with the first interrupt");
}

/// A server that has replied to a client of low priority waits at its own, and wakes as soon.
#[test]
fn a_server_waits_at_its_own_priority() {
    for cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (server, to_server) = s.server(0, HIGH);
        let (client, _) = s.running(cpu, LOW);
        s.w.does_and_run(&client, call(to_server));
        let at = s.w.now() + 100_000;
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]).deadline(at));
        let soonest = |range| s.w.look(0).sched.deadlines.soonest(host_test::pin(0), range);
        assert_eq!(soonest(HIGH as usize..PRIORITIES), at, "its client is of CPU {cpu}");
        assert!(soonest(0..HIGH as usize) > at);
    }
}

/// Lets CPU 0 go on until it has nothing to do but its program. No time passes. Those of these
/// tasks that run wait again, without deadline. Returns their numbers, in the order in which they
/// ran.
fn order(s: &mut Scene, tasks: &[Tcb]) -> Vec<usize> {
    s.w.k.machine.hardware().pace = 0;
    let mut order = Vec::new();
    loop {
        if let Some(n) = tasks.iter().position(|task| s.w.runs(0, task)) {
            s.w.does(&tasks[n], Regs::op(Op::Recv, &[]));
            order.push(n);
        } else if !s.w.event(0) {
            return order;
        }
    }
}

/// Priorities that differ little from each other, and from the program's.
#[test]
fn a_task_that_is_little_better_than_the_others_wakes_first() {
    let (mut s, others, best, program, end) = scene_of(|n| PROGRAM - 1 + n as u64 % 3, PROGRAM + 2);
    s.w.advance(end - s.w.now());
    assert!(s.w.event(0));
    assert!(s.w.runs(0, &best), "one entry lets it run, however many deadlines were sooner");
    s.w.does(&best, Regs::op(Op::Recv, &[]));
    // All others that outrank the program run before it, those with the soonest deadlines first.
    let outranks = |n: &usize| n % 3 == 2;
    let order = order(&mut s, &others).into_iter().filter(outranks);
    assert!(order.eq((0..COUNT).filter(outranks)) && s.w.runs(0, &program));
}

#[test]
fn tasks_wake_in_the_order_of_their_priorities() {
    let priority = |n: usize| 110 + n as u64 * 7 % COUNT as u64;
    let (mut s, tasks, _, _, end) = scene_of(priority, 1);
    s.w.advance(end - s.w.now());
    let order = order(&mut s, &tasks);
    assert_eq!(order.len(), COUNT);
    assert!(order.into_iter().map(priority).eq((110..110 + COUNT as u64).rev()));
}

/// A task that rests for the sake of a program wakes before a program that it outranks, and before
/// the CPU idles. No time passes meanwhile.
#[test]
fn a_rest_ends_with_the_program_for_whose_sake_it_is() {
    for idles in [false, true] {
        let (mut s, tasks, _, program, end) = scene_of(|_| PROGRAM + 1, 1);
        let (_, best) = s.somebody(0, 250);
        s.w.advance(end - 2_000 - s.w.now());
        s.w.event(0);
        assert!(s.w.runs(0, &best) && s.w.look(0).sched.expire_at.get() > end, "they rest");
        assert!(over(&tasks) < COUNT / 2);
        if idles {
            s.kill(&program);
        }
        s.w.does(&best, Regs::op(Op::Recv, &[]));
        assert_eq!(order(&mut s, &tasks).len(), COUNT, "some rest still");
        assert_eq!(s.w.runs(0, &program), !idles);
    }
}

/// A program that no task outranks which rests does not end their rest.
#[test]
fn tasks_rest_for_the_sake_of_the_next_program_too() {
    let (mut s, tasks, _, program, end) = scene_of(|_| PROGRAM, 1);
    let (_, best) = s.somebody(0, 250);
    s.w.advance(end - 1 - s.w.now());
    s.w.event(0);
    let (at, waits) = (s.w.look(0).sched.expire_at.get(), COUNT - over(&tasks));
    assert!(s.w.runs(0, &best) && at > s.w.now() && waits > 0, "they rest");
    s.w.does(&best, Regs::op(Op::Recv, &[]));
    assert!(s.w.runs(0, &program));
    s.w.event(0);
    assert_eq!((s.w.look(0).sched.expire_at.get(), COUNT - over(&tasks)), (at, waits));
}

/// Two better tasks, of different priorities, wake again and again. A third task, whose deadline
/// has passed with theirs, is an equal of the program.
#[test]
fn better_tasks_that_come_again_do_not_keep_an_equal_waiting() {
    let mut s = Scene::new(1);
    let [high, middle, equal] = [HIGH, PROGRAM + 50, PROGRAM].map(|priority| s.somebody(0, priority).1);
    let (_, program) = s.somebody(0, PROGRAM);
    let mut at = s.w.now() + 20_000;
    let wait = |s: &mut Scene, task: &Tcb, at: u64| {
        s.w.does_and_run(task, Regs::op(Op::Recv, &[]).deadline(at));
    };
    for task in [&high, &middle, &equal] {
        wait(&mut s, task, at);
    }
    assert!(s.w.runs(0, &program));
    s.w.k.machine.hardware().pace = PACE;
    for _ in 0..20 {
        s.w.advance(at.saturating_sub(s.w.now()));
        let _ = s.w.event(0);
        at = s.w.now() + 15_000;
        for task in [&high, &middle] {
            while !s.w.runs(0, task) {
                assert!(s.w.event(0), "a better task does not wake");
            }
            s.w.does(task, Regs::op(Op::Recv, &[]).deadline(at));
        }
        while s.w.event(0) {}
        if is_over(&equal) {
            return;
        }
    }
    panic!("the equal does not wake");
}

/// A better task runs until after the time at which the slice of the program, which it has
/// preempted, would have been over. Equals of the program wait.
#[test]
fn a_slice_is_enforced_that_a_better_task_interrupted_for_long() {
    let mut s = Scene::new(1);
    let (_, high) = s.somebody(0, HIGH);
    let at = s.w.now() + 1_000_000;
    s.w.does_and_run(&high, Regs::op(Op::Recv, &[]).deadline(at));
    let (_, first) = s.somebody(0, LOW);
    let (_, second) = s.somebody(0, LOW);
    s.w.advance(at - s.w.now());
    while s.w.event(0) {}
    assert!(s.w.runs(0, &high) && is_over(&high));
    for _ in 0..20 {
        s.w.advance(3_000_000);
        while s.w.event(0) {}
    }
    assert!(s.w.runs(0, &high));
    s.w.does_and_run(&high, Regs::op(Op::Recv, &[]));
    let runs = [&first, &second].map(|task| s.w.runs(0, task));
    for _ in 0..20 {
        s.w.advance(3_000_000);
        while s.w.event(0) {}
        if [&first, &second].map(|task| s.w.runs(0, task)) != runs {
            return;
        }
    }
    panic!("the slice does not end");
}
