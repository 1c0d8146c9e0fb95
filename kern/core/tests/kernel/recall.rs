//! Recalls of calls across CPUs, case by case: whatever other mail crosses them.

use abi::{Error, Op, Target};
use kern_base::task::State;

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

const ANSWER: [u64; 4] = [5, 6, 7, 8];

/// A client on CPU 0 whose call with a deadline is served on CPU 1 when the deadline passes there,
/// and whose recall is on its way.
fn recalled() -> (Scene, Tcb, Tcb, Target) {
    let mut s = Scene::new(2);
    let (server, target) = s.server(1, 20);
    // CPU 1 is never idle, so it looks into its mailbox only when the test says so.
    let _ = s.running(1, 5);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does(&client, call(target).deadline(deadline));
    s.w.event(1);
    assert!(s.w.runs(1, &server), "it serves the call");
    s.w.advance(6000);
    s.w.event(0);
    assert_eq!(client.state(), State::AwaitRemote, "it waits for its message");
    (s, client, server, target)
}

#[test]
fn a_recall_brings_the_call_back() {
    let (mut s, client, server, _) = recalled();
    s.w.run();
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
    s.w.does_and_run(&server, Regs::message(Op::Reply, Target(0), ANSWER));
    assert_eq!(s.w.result(&server).error(), Some(Error::Gone), "nobody waits for it");
}

#[test]
fn what_ended_a_wait_first_counts() {
    let (mut s, client, _, _) = recalled();
    s.w.must(0, Op::TaskCancel, &[client.cap.arg()]);
    assert_eq!(client.state(), State::AwaitRemote);
    s.w.run();
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout), "not Cancelled");
}

#[test]
fn a_reply_that_comes_first_counts() {
    let (mut s, client, server, target) = recalled();
    s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    s.w.event(0);
    assert_eq!(s.w.result(&client).msg(), ANSWER);
    // The recall is still in CPU 1's mailbox, and the next call goes in behind it.
    s.w.does(&client, call(target));
    s.w.run();
    assert_eq!(client.state(), State::AwaitRemote, "the next call is not the one that was wanted back");
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    assert_eq!(s.w.result(&client).msg(), ANSWER);
}

#[test]
fn a_recall_that_overtakes_its_call_is_not_lost() {
    let (mut s, client, server, target) = recalled();
    s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    s.w.event(0);
    // The next call is wanted back, too, and the recall is joined with the one that is still ahead
    // of it.
    let deadline = s.w.now() + 5000;
    s.w.does(&client, call(target).deadline(deadline));
    s.w.advance(6000);
    s.w.event(0);
    s.w.run();
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
}

#[test]
fn who_dies_while_its_time_is_fetched_takes_none() {
    let mut s = Scene::new(2);
    let (far, far_target) = s.server(1, 20);
    let (near, near_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does_and_run(&client, call(near_target).deadline(deadline));
    s.w.does_and_run(&near, call(far_target));
    s.w.advance(6000);
    s.w.event(0);
    assert_eq!(client.state(), State::Restart, "it asks for its time, which is on CPU 1");
    s.w.begin(0, Regs::op(Op::TaskKill, &[client.cap.arg()]));
    s.w.finish(0);
    s.w.run();
    assert_eq!(client.state(), State::Dead);
    assert!(s.w.runs(1, &far), "with its own time");
    let other = s.task(0, 10, false).0;
    s.w.resume(&other);
    s.w.must(0, Op::SchedBind, &[client.sc.arg(), other.cap.arg()]);
    assert!(s.w.runs(0, &other), "what was fetched is nobody's");
}

#[test]
fn a_call_forwarded_home_brings_its_time() {
    let mut s = Scene::new(2);
    let (server, server_target) = s.server(0, 20);
    s.delete(server.sc);
    let (relay, relay_target) = s.server(1, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(relay_target));
    s.w.does_and_run(&relay, Regs::message(Op::Forward, server_target, [1, 2, 3, 4]));
    assert!(s.w.runs(0, &server), "it has no other time than the client's");
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    assert_eq!(s.w.result(&client).msg(), ANSWER);
    assert!(s.w.runs(0, &client), "who has it back");
}
