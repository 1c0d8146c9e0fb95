//! The counters of kills: one case for each stage in which a killed task's message can be.

use abi::{Error, Op, Target};
use kern_base::task::{State, ctl};
use test_abi::kills::Kill;

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

/// A server of CPU 1, which receives; a client of CPU 0; another task of CPU 1, which runs.
fn remote() -> (Scene, Tcb, Tcb, Target) {
    let mut s = Scene::new(2);
    let (server, target) = s.server(1, 20);
    let _ = s.running(1, 5);
    let (client, _) = s.running(0, 10);
    (s, client, server, target)
}

fn all(s: &Scene, kill: Kill) -> u64 {
    (0..s.w.cpus()).map(|n| s.w.block(n).counters[kill.number()].racy()).sum()
}

fn found(s: &mut Scene, task: &Tcb, expected: &[Kill]) {
    s.kill(task);
    assert_eq!(task.state(), State::Dead);
    for kill in expected {
        assert_eq!(all(s, *kill), 1, "{}", kill.name());
    }
}

#[test]
fn a_call_that_nobody_has_taken() {
    let (mut s, client, _, target) = remote();
    s.w.does(&client, call(target));
    found(&mut s, &client, &[Kill::Out, Kill::RecallOwed]);
}

#[test]
fn a_call_that_is_served() {
    let (mut s, client, server, target) = remote();
    s.w.does(&client, call(target));
    s.w.event(1);
    assert!(s.w.runs(1, &server));
    found(&mut s, &client, &[Kill::There, Kill::RecallOwed]);
    found(&mut s, &server, &[Kill::Ready]);
    assert_eq!(all(&s, Kill::Serving), 0, "its caller is gone");
}

#[test]
fn a_call_that_is_queued() {
    let (mut s, client, server, target) = remote();
    let (first, _) = s.running(1, 30);
    s.w.does(&first, call(target));
    assert!(s.w.runs(1, &server));
    s.w.does(&client, call(target));
    s.w.event(1);
    found(&mut s, &client, &[Kill::There, Kill::RecallQueued]);
    found(&mut s, &server, &[Kill::Ready, Kill::Serving]);
    assert_eq!(s.w.result(&first).error(), Some(Error::Dead));
}

#[test]
fn an_answer_that_is_back_but_not_taken() {
    let (mut s, client, server, target) = remote();
    let _ = s.running(0, 5);
    s.w.does(&client, call(target));
    s.w.event(1);
    s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), [1, 2, 3, 4]));
    // By an entry of its CPU that has not come to the mailbox yet.
    s.w.look(0).life().send_control(s.w.task(client.cap), ctl::KILL);
    s.w.run();
    assert_eq!((client.state(), all(&s, Kill::Back)), (State::Dead, 1));
    found(&mut s, &server, &[Kill::Receiving]);
}

#[test]
fn calls_on_the_own_cpu() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 20);
    let (first, _) = s.running(0, 10);
    s.w.does(&first, call(target));
    let (second, _) = s.running(0, 30);
    s.w.does(&second, call(target));
    found(&mut s, &first, &[Kill::Owed]);
    found(&mut s, &second, &[Kill::Queued]);
    found(&mut s, &server, &[Kill::Ready]);
}
