//! A caller is killed while its message is on another CPU: the message comes back to the caller's
//! home, exactly once, wherever it was and whatever crossed it; no control bit is lost.
//! `common/message.rs` has the rules.

use crate::common::message::{Broken, HOME, KILL, SUSPEND, Shared, Stage, run_down};
use crate::common::model;
use loom::thread;
use smp::planted::{Fault, Planted};

/// CPU 0 calls CPU 1, while CPU 2 kills and then suspends the caller. Does the callee ever reply?
fn killed_from_elsewhere(replies: bool, broken: Broken, preemptions: usize) {
    model(preemptions, move || {
        let shared = Shared::new(3);
        let mut home = shared.cpu(HOME, broken);
        let mut callee = shared.cpu(1, broken);
        let killer = shared.cpu(2, broken);
        let there = thread::spawn(move || {
            callee.take_interrupt();
            if replies {
                callee.reply();
            }
            callee.take_interrupt();
            callee
        });
        let elsewhere = thread::spawn(move || {
            killer.raise(HOME, KILL);
            killer.raise(HOME, SUSPEND);
        });
        home.call(1, 1);
        home.take_interrupt();
        home.take_interrupt();
        elsewhere.join().unwrap();
        let mut cpus = [home, there.join().unwrap()];
        run_down(&mut cpus);
        let [home, callee] = cpus;
        assert_eq!(home.seen, KILL | SUSPEND, "a control bit is lost");
        assert!(home.has_message() && home.waits_for.is_none(), "the message is lost");
        let stage = if callee.replied.is_empty() { Stage::Recalled } else { Stage::Replied };
        assert_eq!(home.outcomes, [(1, stage)], "caller and callee disagree");
        assert!(callee.holds.is_none(), "the callee still has it");
    });
}

/// CPU 0 calls CPU 1, which forwards to CPU 2, and wants the call back.
fn forwarded(broken: Broken, preemptions: usize) {
    model(preemptions, move || {
        let shared = Shared::new(3);
        let mut home = shared.cpu(HOME, broken);
        let mut first = shared.cpu(1, broken);
        let mut second = shared.cpu(2, broken);
        first.forwards_to = Some(2);
        let first = thread::spawn(move || {
            first.take_interrupt();
            first
        });
        let second = thread::spawn(move || {
            second.take_interrupt();
            second
        });
        home.call(1, 1);
        home.recall();
        home.take_interrupt();
        let mut cpus = [home, first.join().unwrap(), second.join().unwrap()];
        run_down(&mut cpus);
        let [home, _, second] = cpus;
        assert!(home.has_message() && second.holds.is_none(), "the message is lost");
        assert_eq!(home.outcomes, [(1, Stage::Recalled)]);
    });
}

#[test]
fn killed_while_the_callee_has_the_call() {
    killed_from_elsewhere(false, Broken::Nothing, 4);
}

#[test]
fn killed_while_the_reply_is_on_its_way() {
    killed_from_elsewhere(true, Broken::Nothing, 4);
}

#[test]
fn recalled_while_the_call_is_forwarded() {
    forwarded(Broken::Nothing, 5);
}

#[test]
#[should_panic(expected = "is lost")]
fn caught_lost_recall() {
    let _planted = Planted::new(Fault::LostRecall);
    killed_from_elsewhere(false, Broken::Nothing, 4);
}

#[test]
#[should_panic(expected = "is lost")]
fn caught_bits_that_are_dropped_on_the_way() {
    killed_from_elsewhere(false, Broken::BitsDropped, 3);
}

#[test]
#[should_panic(expected = "the message is lost")]
fn caught_recall_that_overtakes_the_call() {
    forwarded(Broken::NoComparison, 3);
}
