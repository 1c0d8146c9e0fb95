//! CPU time, case by case: who goes on with whose.

use abi::{Error, Op, Target};

use crate::scene::{Scene, call};
use crate::world::Regs;

#[test]
fn a_first_resume_from_elsewhere_moves_the_task() {
    let mut s = Scene::new(3);
    let (task, _) = s.task(1, 10, true);
    assert_eq!(task.home(), 0, "where it was made");
    s.w.must(2, Op::TaskResume, &[task.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(1, &task), "it runs where it was to run");
}

#[test]
fn a_callee_borrows_from_whoever_in_its_queue_has_time() {
    let mut s = Scene::new(1);
    let (server, target) = s.task(0, 0, false);
    let (first, _) = s.running(0, 20);
    s.w.does_and_run(&first, call(target));
    s.delete(first.sc);
    let (second, _) = s.running(0, 10);
    s.w.does_and_run(&second, call(target));
    s.w.resume(&server);
    s.w.run();
    assert!(s.w.runs(0, &server), "the best caller has no time, the next has");
}

#[test]
fn a_receiver_that_is_given_time_takes_none_of_whom_it_served() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    s.delete(server.sc);
    // So the fastpath leaves it: while a task receives, this says nothing.
    server.hot().lender.set(Some(client.object));
    let sc = s.time(20);
    s.w.must(0, Op::SchedBind, &[sc.arg(), server.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(0, &client), "it has the time that came back to it");
}

#[test]
fn time_for_a_waiting_caller_serves_its_callee() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.delete(client.sc);
    s.delete(server.sc);
    assert!(!s.w.runs(0, &server), "nobody has any time left");
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), client.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(0, &server), "its caller's time is its to spend");
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
}

#[test]
fn time_is_destroyed_while_it_is_away() {
    let mut s = Scene::new(3);
    let (server, target) = s.server(1, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    assert!(s.w.runs(1, &server) && client.hot().sc.is_null(), "the client's time went along");
    s.w.must(2, Op::CapDelete, &[crate::world::make::at(client.sc)]);
    s.w.run();
    assert!(client.hot().own_sc.is_null(), "its owner knows that it is gone");
    assert!(s.w.runs(1, &server), "the server goes on with its own");
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
    assert!(!s.w.runs(0, &client), "the client was answered and has no time");
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), client.cap.arg()]);
    assert!(s.w.runs(0, &client), "until it gets some");
}

#[test]
fn the_owner_dies_while_its_time_is_away() {
    let mut s = Scene::new(2);
    let (server, target) = s.server(1, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.kill(&client);
    assert!(s.w.runs(1, &server), "the server keeps the time for now");
    s.w.does_and_run(&server, Regs::message(Op::Reply, Target(0), [5, 6, 7, 8]));
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert!(!s.w.runs(1, &server), "it receives");
    // Nobody's now, so it can become another's: where it was left.
    let (other, _) = s.task(1, 10, false);
    s.w.resume(&other);
    s.w.run();
    assert!(!s.w.runs(1, &other));
    s.w.must(1, Op::SchedBind, &[client.sc.arg(), other.cap.arg()]);
    assert!(s.w.runs(1, &other), "with the time of the dead");
}

/// The time of `client`, which calls with a deadline, is lent on by a server of its CPU to one of another.
#[test]
fn a_timed_out_caller_gets_its_time_back_from_down_the_chain() {
    let mut s = Scene::new(2);
    let (far, far_target) = s.server(1, 20);
    let (near, near_target) = s.server(0, 20);
    s.delete(near.sc);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does_and_run(&client, call(near_target).deadline(deadline));
    assert!(s.w.runs(0, &near), "on the client's time");
    s.w.does_and_run(&near, call(far_target));
    assert!(s.w.runs(1, &far), "on the client's time");
    s.w.wait_until(deadline + 1);
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
    assert!(s.w.runs(0, &client), "it goes on at once, with its own time");
    assert!(s.w.runs(1, &far), "and who had it last, with its own");
    // The two calls further down go on. The near server's ends where nobody has time for it.
    s.w.does_and_run(&far, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert_eq!(s.w.result(&near).msg(), [5, 6, 7, 8]);
    assert!(!s.w.runs(0, &near), "it has no time");
    s.w.does_and_run(&client, call(near_target));
    assert!(s.w.runs(0, &near), "its next caller has");
}

/// The same where all of the chain is on one CPU, in the middle of it.
#[test]
fn a_timed_out_lender_gets_its_time_back_from_its_own_cpu() {
    let mut s = Scene::new(1);
    let (last, last_target) = s.server(0, 20);
    let (near, near_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does_and_run(&client, call(near_target).deadline(deadline));
    s.w.does_and_run(&near, call(last_target));
    s.delete(last.sc);
    assert!(s.w.runs(0, &last), "on the client's time");
    s.w.wait_until(deadline + 1);
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
    assert!(s.w.runs(0, &last), "on the time of its caller, who outranks the client");
    assert!(near.hot().own_sc.addr() == last.hot().sc.addr(), "its own, which had rested");
}

#[test]
fn time_given_to_a_task_whose_call_is_far_away_rests_till_that_is_over() {
    let mut s = Scene::new(2);
    let (far, far_target) = s.server(1, 20);
    let (near, near_target) = s.server(0, 20);
    s.delete(near.sc);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(near_target));
    s.w.does_and_run(&near, call(far_target));
    assert!(s.w.runs(1, &far), "on the client's time");
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), near.cap.arg()]);
    s.w.does_and_run(&far, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert!(
        s.w.runs(0, &near) && near.hot().sc.addr() == client.hot().own_sc.addr(),
        "on the client's time again"
    );
    s.w.does_and_run(&near, Regs::message(Op::ReplyRecv, Target(0), [9, 9, 9, 9]));
    assert!(s.w.runs(0, &client), "which it gave back");
    assert_eq!(s.w.result(&client).msg(), [9, 9, 9, 9]);
}

#[test]
fn a_forwarded_call_without_time_brings_nobody_elses() {
    let mut s = Scene::new(1);
    let (server, server_target) = s.server(0, 20);
    let (relay, relay_target) = s.server(0, 20);
    let (former, _) = s.running(0, 10);
    let (client, _) = s.running(0, 5);
    s.w.does_and_run(&former, call(server_target));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    // So the fastpath leaves it: while a task receives, this says nothing.
    server.hot().lender.set(Some(former.object));
    s.w.does_and_run(&former, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&client, call(relay_target));
    s.delete(client.sc);
    s.w.does_and_run(&relay, Regs::message(Op::Forward, server_target, [1, 2, 3, 4]));
    assert!(server.hot().lender.is_null(), "it goes on with its own");
}

/// The time of a caller up the chain is fetched back from its far end; the time of one in the middle, which
/// had rested, takes its place and comes back with the answers.
#[test]
fn time_from_the_middle_of_a_chain_is_known_to_all_above() {
    let mut s = Scene::new(3);
    let (end, end_target) = s.server(2, 20);
    let (far, far_target) = s.server(1, 20);
    s.delete(far.sc);
    let (near, near_target) = s.server(0, 20);
    let (middle, middle_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does_and_run(&client, call(middle_target).deadline(deadline));
    s.w.does_and_run(&middle, call(near_target));
    s.w.does_and_run(&near, call(far_target));
    s.w.does_and_run(&far, call(end_target));
    s.w.wait_until(deadline + 1);
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
    s.w.does_and_run(&client, Regs::op(Op::Recv, &[]));
    let answer = Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]);
    s.w.does_and_run(&end, answer);
    assert!(s.w.runs(1, &far), "it has found time");
    s.w.does_and_run(&far, answer);
    let own = middle.hot().own_sc.addr();
    assert!(s.w.runs(0, &near) && near.hot().sc.addr() == own, "on the time of its caller");
    assert_eq!(middle.hot().sc.addr(), own, "who has it in mind, as a fast reply needs");
    s.w.does_and_run(&near, answer);
    assert!(s.w.runs(0, &middle) && middle.hot().sc.addr() == own);
}
