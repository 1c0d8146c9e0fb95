//! CPU time, case by case: which task continues on whose time.

use abi::{Cap, Error, FLAG_NONBLOCK, ObjType, Op, Target};
use kern_core::door::entry::Interrupt;
use kern_core::time::schedule::{MAIL_REST_FACTOR, REST_FACTOR, REST_MAX, rest_after};

use crate::scene::{Scene, call};
use crate::world::Regs;
use crate::world::make::at;

#[test]
fn a_first_resume_from_elsewhere_moves_the_task() {
    let mut s = Scene::new(3);
    let (task, _) = s.task(1, 10, true);
    assert_eq!(task.home(), 0, "where it was made");
    s.w.must(2, Op::TaskResume, &[task.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(1, &task), "it runs where it was to run");
}

/// A slice that is made shorter while its task runs is over that much earlier, and what was used of
/// it is still known.
#[test]
fn a_running_task_can_cut_its_own_slice() {
    let mut s = Scene::new(1);
    let process = s.process;
    let (first, _) = s.running(0, 10);
    let (second, _) = s.running(0, 10);
    s.w.give(first.sc, process, Cap(20));
    s.w.give(abi::INIT_SCHED_CONTROL, process, Cap(21));
    assert!(s.w.runs(0, &first));
    s.w.does_and_run(&first, Regs::op(Op::SchedConfigure, &[Cap(21).arg(), Cap(20).arg(), 10, 200]));
    assert!(s.w.runs(0, &first), "its slice has only begun");
    s.w.does_and_run(&first, Regs::op(Op::SchedInfo, &[Cap(20).arg()]));
    let used = first.regs().rdi;
    assert!(used <= s.w.now(), "it has used {used:#x} ticks");
    s.w.advance(201);
    s.w.interrupt(0, Interrupt::Timer);
    assert!(s.w.runs(0, &second), "the slice is over");
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

/// The answer of a server that receives next.
pub fn answer() -> Regs {
    Regs::message(Op::ReplyRecv, Target(0), [0; 4])
}

#[test]
fn a_server_serves_who_waits_before_whom_it_answered_calls_again() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 10);
    let clients = [(); 3].map(|()| s.running(0, 10).0);
    // The slice ends in the server: the others call, and wait.
    s.w.does_and_run(&clients[0], call(target));
    s.w.does_and_run(&server, Regs::op(Op::Yield, &[]));
    for client in &clients[1..] {
        assert!(s.w.runs(0, client), "its turn");
        s.w.does_and_run(client, call(target));
    }
    for _ in &clients[1..] {
        assert!(s.w.runs(0, &server), "whom it has answered would find it busy again");
        s.w.does_and_run(&server, answer());
    }
    s.w.does_and_run(&server, answer());
    // Nobody waits. The last goes on, and is served immediately as often as it calls.
    for _ in 0..3 {
        assert!(s.w.runs(0, &clients[2]), "it has the rest of its slice");
        s.w.does_and_run(&clients[2], call(target));
        assert!(s.w.runs(0, &server), "nothing else waits");
        s.w.does_and_run(&server, answer());
    }
    // Then it is the turn of those who were answered first.
    s.w.does_and_run(&clients[2], Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(0, &clients[0]), "it was answered first");
    s.w.does_and_run(&clients[0], Regs::op(Op::Yield, &[]));
    assert!(s.w.runs(0, &clients[1]), "it was answered second");
}

#[test]
fn a_server_of_callers_elsewhere_displaces_no_equal() {
    let mut s = Scene::new(2);
    let (server, target) = s.server(0, 5);
    s.delete(server.sc);
    let callers = [(); 2].map(|()| s.running(1, 10).0);
    for caller in &callers {
        s.w.does_and_run(caller, call(target));
    }
    assert!(s.w.runs(0, &server));
    let (equal, _) = s.running(0, 10);
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &equal), "its turn has come");
}

#[test]
fn who_is_answered_goes_on_before_a_worse_caller_is_served() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 10);
    let (client, _) = s.running(0, 10);
    let (worse, _) = s.running(0, 9);
    s.w.does_and_run(&client, call(target));
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&worse, call(target));
    s.w.resume(&server);
    s.w.run();
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(0, &client), "it outranks the caller that waits");
}

#[test]
fn a_receiver_that_is_given_time_takes_none_of_whom_it_served() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    s.delete(server.sc);
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
    assert!(s.w.runs(1, &server) && s.w.time_of(&client) == 0, "the client's time went along");
    s.w.must(2, Op::CapDelete, &[crate::world::make::at(client.sc)]);
    s.w.run();
    assert!(!client.hot().time.has_own(), "its owner knows that it is gone");
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

/// The time of `client`, which calls with a deadline, is lent on by a server of its CPU to one of
/// another.
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

/// Times out a lender in the middle of a chain whose tasks are all on one CPU.
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
    assert!(near.own_time() == s.w.time_of(&last), "its own, which had rested");
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
    assert!(s.w.runs(0, &near) && s.w.time_of(&near) == client.own_time(), "on the client's time again");
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
    s.w.does_and_run(&former, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&client, call(relay_target));
    s.delete(client.sc);
    s.w.does_and_run(&relay, Regs::message(Op::Forward, server_target, [1, 2, 3, 4]));
    assert!(server.hot().time.lender(server.pin()).is_none(), "it goes on with its own");
}

/// The time of a caller up the chain is fetched back from its far end; the time of one in the
/// middle, which had rested, takes its place and comes back with the answers.
#[test]
fn time_from_the_middle_of_a_chain_comes_back_to_its_owner() {
    let mut s = Scene::new(3);
    let (end, end_target) = s.server(2, 20);
    let (far, far_target) = s.server(1, 20);
    s.delete(far.sc);
    let (near, near_target) = s.server(0, 20);
    s.delete(near.sc);
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
    let own = middle.own_time();
    assert!(s.w.runs(0, &near) && s.w.time_of(&near) == own, "on the time of its caller");
    assert_eq!(s.w.time_of(&middle), 0, "who has lent it, and does not refer to it");
    s.w.does_and_run(&near, answer);
    assert!(s.w.runs(0, &middle) && s.w.time_of(&middle) == own);
}

/// The time of a caller that timed out is taken from the end of the chain of calls, on another CPU.
/// Who had it there goes on with the time of its own caller, which had rested.
#[test]
fn who_loses_lent_time_far_away_finds_its_callers_own() {
    let mut s = Scene::new(2);
    let (far, far_target) = s.server(1, 20);
    s.delete(far.sc);
    let (near, near_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    let deadline = s.w.now() + 5000;
    s.w.does_and_run(&client, call(near_target).deadline(deadline));
    s.w.does_and_run(&near, call(far_target));
    assert!(s.w.runs(1, &far), "on the client's time");
    s.w.wait_until(deadline + 1);
    assert_eq!(s.w.result(&client).error(), Some(Error::Timeout));
    assert!(s.w.runs(0, &client), "with its own time");
    let own = near.own_time();
    assert!(s.w.runs(1, &far) && s.w.time_of(&far) == own, "on the time of its caller");
    s.w.does_and_run(&client, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&far, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
    assert!(s.w.runs(0, &near) && s.w.time_of(&near) == own, "which comes back with the answer");
    assert_eq!(s.w.result(&near).msg(), [5, 6, 7, 8]);
}

/// The time that a chain of calls spends is destroyed at its end. The time of a task in the middle
/// rests.
#[test]
fn time_of_the_middle_serves_the_end_when_that_of_the_beginning_is_gone() {
    let mut s = Scene::new(3);
    let (far, far_target) = s.server(1, 20);
    s.delete(far.sc);
    let (near, near_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(near_target));
    s.w.does_and_run(&near, call(far_target));
    s.w.must(2, Op::CapDelete, &[crate::world::make::at(client.sc)]);
    s.w.run();
    let own = near.own_time();
    assert!(s.w.runs(1, &far) && s.w.time_of(&far) == own, "on the time of its caller");
    let answer = Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]);
    s.w.does_and_run(&far, answer);
    assert!(s.w.runs(0, &near));
    s.w.does_and_run(&near, answer);
    assert!(s.w.time_of(&near) == own, "and is nobody else's afterwards");
    assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
}

/// Three calls in a row over as many CPUs, and nobody has any time left: what the first is given is
/// found by who could go on.
#[test]
fn time_given_at_the_beginning_of_a_chain_is_found_at_its_end() {
    let mut s = Scene::new(3);
    let (end, end_target) = s.server(2, 20);
    let (far, far_target) = s.server(1, 20);
    let (near, near_target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(near_target));
    s.w.does_and_run(&near, call(far_target));
    s.w.does_and_run(&far, call(end_target));
    for task in [end, far, near, client] {
        s.delete(task.sc);
    }
    assert!((0..3).all(|n| s.w.current(n).is_none()), "nobody has any time");
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), client.cap.arg()]);
    s.w.run();
    let own = client.own_time();
    assert!(s.w.runs(2, &end) && s.w.time_of(&end) == own, "on the client's time");
    let answer = Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]);
    for (n, task) in [(2, end), (1, far), (0, near)] {
        assert!(s.w.runs(n, &task) && s.w.time_of(&task) == own);
        s.w.does_and_run(&task, answer);
    }
    assert!(s.w.runs(0, &client), "it has its time back");
}

/// Brings time through another task, which queues at a task in the middle.
#[test]
fn a_callers_time_serves_those_its_callee_waits_for() {
    let mut s = Scene::new(2);
    let (far, far_target) = s.server(1, 20);
    let (near, near_target) = s.server(0, 20);
    let (first, _) = s.running(0, 10);
    s.w.does_and_run(&first, call(near_target));
    s.w.does_and_run(&near, call(far_target));
    for task in [far, near, first] {
        s.delete(task.sc);
    }
    assert!(s.w.current(1).is_none());
    let (second, _) = s.running(0, 10);
    s.w.does_and_run(&second, call(near_target));
    let own = second.own_time();
    assert!(s.w.runs(1, &far) && s.w.time_of(&far) == own, "on the time of who waits for its caller");
    let answer = Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]);
    s.w.does_and_run(&far, answer);
    s.w.does_and_run(&near, answer);
    assert_eq!(s.w.result(&first).msg(), [5, 6, 7, 8]);
    assert!(s.w.runs(0, &near) && s.w.time_of(&near) == own, "it serves the second");
    s.w.does_and_run(&near, answer);
    assert!(s.w.runs(0, &second), "which has its time back");
}

/// Two tasks that call each other have no time; what somebody gives one of them helps nobody, and
/// that is all.
#[test]
fn time_for_a_cycle_of_calls_keeps_no_cpu_busy() {
    let mut s = Scene::new(2);
    let (one, one_target) = s.running(0, 10);
    let (other, other_target) = s.running(1, 10);
    s.w.does_and_run(&one, call(other_target));
    s.w.does_and_run(&other, call(one_target));
    for task in [one, other] {
        s.delete(task.sc);
    }
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), one.cap.arg()]);
    s.w.run();
    let (third, _) = s.running(0, 10);
    s.w.does_and_run(&third, call(one_target));
    assert!((0..2).all(|n| s.w.current(n).is_none()), "all wait");
    s.kill(&other);
    assert!(s.w.runs(0, &one), "told that its callee is dead");
}

/// Gives a caller time while the callee searches its callers, at every moment of the search.
#[test]
fn time_that_comes_while_a_callee_looks_for_it_is_found() {
    for steps in 0..12 {
        let mut s = Scene::new(2);
        let (far, far_target) = s.server(1, 20);
        let (one, _) = s.running(0, 10);
        let (two, _) = s.running(0, 10);
        let time = s.time(30);
        for caller in [one, two] {
            s.w.does_and_run(&caller, call(far_target));
        }
        for task in [far, one, two] {
            s.delete(task.sc);
        }
        assert!(s.w.current(1).is_none(), "nobody has any time");
        s.w.must(0, Op::TaskSuspend, &[far.cap.arg()]);
        s.w.run();
        s.w.must(0, Op::TaskResume, &[far.cap.arg()]);
        for step in 0..steps {
            s.w.step((step + 1) % 2);
        }
        s.w.must(0, Op::SchedBind, &[time.arg(), one.cap.arg()]);
        s.w.run();
        assert!(s.w.runs(1, &far), "the first caller has time, given after {steps} steps");
    }
}

/// A call was forwarded back to its caller's CPU: the time that its caller was given meanwhile is
/// there for its new callee.
#[test]
fn time_given_meanwhile_is_there_when_a_call_is_forwarded_home() {
    let mut s = Scene::new(2);
    let (server, server_target) = s.running(0, 20);
    let (relay, relay_target) = s.server(1, 20);
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(relay_target));
    s.delete(client.sc);
    let sc = s.time(10);
    s.w.must(0, Op::SchedBind, &[sc.arg(), client.cap.arg()]);
    s.w.does_and_run(&relay, Regs::message(Op::Forward, server_target, [1, 2, 3, 4]));
    s.w.resume(&server);
    s.w.run();
    s.delete(server.sc);
    let own = client.own_time();
    assert!(s.w.runs(0, &server) && s.w.time_of(&server) == own, "on the time of who waits for it");
}

/// Time is looked for while that of a caller is being destroyed: another's, up the calls, serves as
/// well.
#[test]
fn time_is_found_further_up_while_that_of_a_caller_is_destroyed() {
    let mut s = Scene::new(3);
    let (far, far_target) = s.server(0, 20);
    s.delete(far.sc);
    let (near, near_target) = s.running(1, 20);
    let (client, _) = s.running(2, 10);
    s.w.does_and_run(&near, call(far_target));
    assert!(s.w.runs(0, &far), "on the time of its caller");
    s.w.does_and_run(&client, call(near_target));
    s.delete(near.sc);
    let own = client.own_time();
    assert!(s.w.runs(0, &far) && s.w.time_of(&far) == own, "on the time of who waits for its caller");
}

/// Calls of one CPU lead to another, and the time that went there is lost. A caller that gets time
/// serves the end, however many calls are in between, whether the time's owner calls already or
/// queues now.
#[test]
fn time_given_before_several_calls_of_one_cpu_is_found_at_their_far_end() {
    for queues in [false, true] {
        let mut s = Scene::new(2);
        let (far, far_target) = s.server(1, 20);
        let (near, near_target) = s.server(0, 20);
        let (middle, middle_target) = s.server(0, 20);
        let (client, _) = s.running(0, 10);
        s.w.does_and_run(&client, call(middle_target));
        s.w.does_and_run(&middle, call(near_target));
        s.w.does_and_run(&near, call(far_target));
        for task in [far, near, middle, client] {
            s.delete(task.sc);
        }
        assert!(s.w.current(1).is_none(), "nobody has any time");
        let owner = if queues {
            let (second, _) = s.running(0, 10);
            s.w.does_and_run(&second, call(middle_target));
            second
        } else {
            let sc = s.time(10);
            s.w.must(0, Op::SchedBind, &[sc.arg(), client.cap.arg()]);
            s.w.run();
            client
        };
        let own = owner.own_time();
        assert!(s.w.runs(1, &far) && s.w.time_of(&far) == own, "on that time; queues {queues}");
        let answer = Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]);
        for (n, task) in [(1, far), (0, near), (0, middle)] {
            assert!(s.w.runs(n, &task) && s.w.time_of(&task) == own);
            s.w.does_and_run(&task, answer);
        }
        assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
    }
}

/// Time is looked for over three CPUs while somebody on the way is stopped, ended or told to give
/// up, at every moment of that: the time is its owner's again in the end.
#[test]
fn time_comes_back_whatever_happens_while_it_is_looked_for() {
    let deeds = [Op::TaskKill, Op::TaskCancel, Op::TaskSuspend, Op::CapDelete];
    for (deed, whom, steps) in (0..4 * 3 * 10).map(|i| (deeds[i % 4], i / 4 % 3, i / 12)) {
        let mut s = Scene::new(4);
        let (far, far_target) = s.server(2, 20);
        let (near, near_target) = s.server(1, 20);
        let (client, _) = s.running(0, 10);
        s.w.does_and_run(&client, call(near_target));
        s.w.does_and_run(&near, call(far_target));
        for task in [far, near, client] {
            s.delete(task.sc);
        }
        let sc = s.time(10);
        s.w.begin(0, Regs::op(Op::SchedBind, &[sc.arg(), client.cap.arg()]));
        s.w.dismiss(0);
        for step in 0..steps {
            s.w.step(step % 3);
        }
        let on = [client, near, far][whom];
        let args = if deed == Op::CapDelete { crate::world::make::at(sc) } else { on.cap.arg() };
        s.w.must(3, deed, &[args]);
        s.w.run();
        let what = format!("{deed:?} of {on:?} after {steps} steps");
        if deed == Op::TaskSuspend {
            s.w.must(3, Op::TaskResume, &[on.cap.arg()]);
            s.w.run();
            assert!(s.w.runs(2, &far), "{what}: it has the time");
        }
        for task in [far, near] {
            let _ = s.w.ask(3, Op::TaskKill, &[task.cap.arg()]);
            s.w.run();
        }
        let gone = deed == Op::CapDelete || whom == 0 && deed == Op::TaskKill;
        assert_eq!(s.w.runs(0, &client), !gone, "{what}: it is told, and has its time");
    }
}

/// A server on its caller's time has none when the caller is answered, so bits would find a task
/// that nothing can run.
#[test]
fn a_task_without_time_of_its_own_waits_for_no_bits() {
    let mut s = Scene::new(1);
    let process = s.process;
    let (server, target) = s.task(0, 10, false);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.resume(&server);
    let refused = s.w.ask(0, Op::NotificationBind, &[note.arg(), server.cap.arg()]);
    assert_eq!(refused.map(drop), Err((Error::NoTime, 0)));
    s.w.give(note, process, Cap(20));
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&server, Regs::op(Op::Wait, &[Cap(20).arg()]).flag(FLAG_NONBLOCK));
    assert_eq!(s.w.result(&server).error(), Some(Error::WouldBlock), "it asked not to wait");
    s.w.does_and_run(&server, Regs::op(Op::Wait, &[Cap(20).arg()]));
    assert_eq!(s.w.result(&server).error(), Some(Error::NoTime));
    s.w.must(0, Op::Notify, &[note.arg(), 1]);
    s.w.does_and_run(&server, Regs::op(Op::Wait, &[Cap(20).arg()]));
    assert_eq!((s.w.result(&server).error(), server.regs().rdx), (None, 1), "no wait, no time");
}

#[test]
fn bits_do_not_come_on_a_callers_time() {
    let mut s = Scene::new(1);
    let (server, target) = s.task(0, 10, true);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.must(0, Op::NotificationBind, &[note.arg(), server.cap.arg()]);
    s.w.must(0, Op::CapDelete, &[at(server.sc)]);
    s.w.resume(&server);
    let (first, _) = s.running(0, 10);
    s.w.does_and_run(&first, call(target));
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert_eq!(s.w.result(&server).sender(), first.id);
    s.w.must(0, Op::Notify, &[note.arg(), 1]);
    let (second, _) = s.running(0, 10);
    s.w.does_and_run(&server, Regs::op(Op::Yield, &[]));
    s.w.does_and_run(&second, call(target));
    s.w.does_and_run(&server, Regs::op(Op::Reply, &[]));
    s.w.does_and_run(&first, call(target));
    // It has the second caller's time, and none of its own.
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert_eq!(s.w.result(&server).sender(), second.id, "a call, not the bits");
}

/// A hypervisor may stop a CPU in the middle of the work from which it rests, for as long as it
/// likes. What better tasks wait for comes without a rest all the same.
#[test]
fn a_rest_has_a_limit_and_no_rest_is_none() {
    for took in [0, 1, 1000, REST_MAX - 1, REST_MAX, REST_MAX + 1, u64::MAX / 2, u64::MAX] {
        assert_eq!(rest_after(took, 0), 0, "{took}");
        for factor in [1, REST_FACTOR, MAIL_REST_FACTOR, 2 * MAIL_REST_FACTOR] {
            assert_eq!(
                rest_after(took, factor),
                took.saturating_mul(factor).min(REST_MAX),
                "{took} {factor}"
            );
        }
    }
}
