//! A deadline passes while the reply is on its way: there is one outcome, on which both sides
//! agree, and the recall of this call does not end the next call. `common/message.rs` has the
//! rules.

use crate::common::message::{Broken, HOME, Shared, Stage, run_down};
use crate::common::model;
use loom::thread;

/// CPU 0 calls CPU 1, its deadline passes, and when it has its message back it calls once more.
fn explore(broken: Broken, preemptions: usize) {
    model(preemptions, move || {
        let shared = Shared::new(2);
        let mut home = shared.cpu(HOME, broken);
        let mut callee = shared.cpu(1, broken);
        let there = thread::spawn(move || {
            for _ in 0..2 {
                callee.take_interrupt();
                callee.reply();
            }
            callee
        });
        home.call(1, 1);
        home.take_interrupt();
        home.recall();
        home.take_interrupt();
        if home.waits_for.is_none() {
            home.call(2, 1);
        }
        let mut cpus = [home, there.join().unwrap()];
        loop {
            run_down(&mut cpus);
            let [home, callee] = &mut cpus;
            if home.outcomes.len() == 1 && home.waits_for.is_none() {
                home.call(2, 1);
            } else if !callee.reply() {
                break;
            }
        }
        let [home, callee] = cpus;
        assert!(home.has_message(), "the message is lost");
        let first = if callee.replied.contains(&1) { Stage::Replied } else { Stage::Recalled };
        assert_eq!(home.outcomes, [(1, first), (2, Stage::Replied)], "a wrong outcome");
    });
}

#[test]
fn a_deadline_meets_a_reply() {
    explore(Broken::Nothing, 6);
}

#[test]
#[should_panic(expected = "a wrong outcome")]
fn caught_recall_that_hits_the_next_call() {
    explore(Broken::NoNumber, 5);
}

#[test]
#[should_panic(expected = "mailbox: a node was used as if it belongs to cpu0")]
fn caught_caller_that_does_not_wait_for_its_message() {
    explore(Broken::Impatient, 5);
}
