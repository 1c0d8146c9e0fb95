//! Tasks that are told to move while they wait in a call, for bits, or serve a call: they move when
//! nothing keeps them any more.

use abi::{Cap, Error, FLAG_NONBLOCK, ObjType, Op, Target};
use kern_base::task::{FLAG_SUSPENDED, State};

use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::make::CONTROL;
use crate::world::{Regs, Tcb, World};

const HOME: usize = 0;
const FAR: usize = 1;
const THIRD: usize = 2;
/// The Reply, in the process's CSpace.
const REPLY: Cap = Cap(30);

/// Tells a task to move. Returns whether it moves later.
fn is_later(w: &mut World, task: &Tcb, cpu: usize) -> bool {
    let answer = w.must(HOME, Op::TaskMove, &[CONTROL, task.cap.arg(), cpu as u64]);
    w.run();
    answer.rdi == 1
}

/// How many tasks have a place on each CPU.
fn places(w: &mut World) -> [u64; 3] {
    [HOME, FAR, THIRD].map(|cpu| {
        let machine = Target::new(abi::INIT_MACHINE, cpu as u32);
        w.must(HOME, Op::CpuInfo, &[machine.0, 0]).rdi
    })
}

fn recv() -> Regs {
    Regs::op(Op::Recv, &[])
}

#[test]
fn a_caller_moves_when_it_is_answered_and_a_server_when_it_has_answered() {
    for (far, deadline) in [(HOME, None), (FAR, None), (HOME, Some(1_000_000)), (FAR, Some(1_000_000))] {
        let mut s = Scene::new(3);
        let (server, target) = s.server(far, 3);
        let (client, _) = s.running(HOME, 20);
        let regs = deadline.map_or(call(target), |at| call(target).deadline(s.w.now() + at));
        s.w.does_and_run(&client, regs);
        let before = places(&mut s.w);
        assert_eq!([&client, &server].map(|task| is_later(&mut s.w, task, THIRD)), [true; 2]);
        assert_eq!((client.home(), server.home()), (HOME, far));
        assert!(s.w.runs(far, &server), "it goes on with the call");
        assert_eq!(places(&mut s.w), [before[0], before[1], before[2] + 2], "they have two places each");
        s.w.does_and_run(&server, answer());
        assert_eq!((client.home(), server.home(), server.state()), (THIRD, THIRD, State::Recv));
        assert!(s.w.runs(THIRD, &client) && s.w.result(&client).error().is_none());
        let mut after = before;
        after[HOME] -= 1;
        after[far] -= 1;
        after[THIRD] += 2;
        assert_eq!(places(&mut s.w), after);
        s.w.does_and_run(&client, call(target));
        s.w.does_and_run(&server, answer());
        assert!(s.w.runs(THIRD, &client));
    }
}

/// A server that always has a next caller moves all the same, and the callers that wait come along.
#[test]
fn a_server_moves_between_two_calls() {
    for own_time in [true, false] {
        let mut s = Scene::new(3);
        let (server, target) = s.task(HOME, 3, own_time);
        s.w.resume(&server);
        if own_time {
            s.w.run();
            s.w.does_and_run(&server, recv());
        }
        let clients = [0, 1, 2, 3, 4, 5].map(|n| {
            let (client, _) = s.running([HOME, FAR, THIRD][n % 3], 10 + n as u64);
            s.w.does_and_run(&client, call(target));
            client
        });
        if !own_time {
            // It has run on the time of its first caller, and receives now.
            s.w.does_and_run(&server, recv());
        }
        assert!(is_later(&mut s.w, &server, FAR));
        for answered in 0..clients.len() {
            assert_eq!(server.home(), if answered == 0 { HOME } else { FAR }, "{answered} are answered");
            assert!(s.w.runs(server.home(), &server), "{answered} are answered");
            s.w.does_and_run(&server, answer());
            for client in clients.iter().filter(|client| client.state() == State::Ready) {
                s.w.must(HOME, Op::TaskSuspend, &[client.cap.arg()]);
            }
            s.w.run();
        }
        assert!(clients.iter().all(|client| s.w.result(client).error().is_none()));
    }
}

#[test]
fn a_server_moves_after_a_reply() {
    for keeps in [false, true] {
        let mut s = Scene::new(3);
        let made = s.w.make(HOME, ObjType::Reply, 0);
        s.w.must(HOME, Op::CapMove, &[made.arg(), Target::new(s.process.cnode, REPLY.0).0]);
        let (server, target) = s.server(HOME, 20);
        let (client, _) = s.running(FAR, 10);
        s.w.does_and_run(&client, call(target));
        if keeps {
            s.w.does_and_run(&server, Regs::op(Op::SaveReply, &[REPLY.arg()]));
        }
        assert!(is_later(&mut s.w, &server, FAR));
        if keeps {
            s.w.does_and_run(&server, recv().flag(FLAG_NONBLOCK));
            assert_eq!((s.w.result(&server).error(), server.home()), (Some(Error::WouldBlock), HOME));
        }
        let to = if keeps { Target(REPLY.arg()) } else { Target(0) };
        s.w.does_and_run(&server, Regs::message(Op::Reply, to, [7; 4]));
        assert_eq!((s.w.result(&server).error(), server.home()), (None, FAR));
        assert!(s.w.runs(FAR, &server) && s.w.result(&client).msg() == [7; 4]);
    }
}

/// It answers and does not want to wait: what waits for it, it takes on its new CPU.
#[test]
fn a_server_that_polls_moves() {
    let mut s = Scene::new(3);
    let (server, target) = s.server(HOME, 20);
    let clients = [HOME, FAR, THIRD].map(|cpu| s.running(cpu, 10).0);
    for client in &clients {
        s.w.does_and_run(client, call(target));
    }
    assert!(is_later(&mut s.w, &server, THIRD));
    for at in [HOME, THIRD, THIRD] {
        assert!(s.w.runs(at, &server));
        s.w.does_and_run(&server, answer().flag(FLAG_NONBLOCK));
    }
    assert_eq!((s.w.result(&server).error(), server.home()), (Some(Error::WouldBlock), THIRD));
    assert!(clients.iter().all(|client| s.w.result(client).error().is_none()));
}

#[test]
fn a_task_that_waits_for_bits_moves_with_them() {
    for deadline in [None, Some(50_000)] {
        let mut s = Scene::new(3);
        let (task, _) = s.running(HOME, 20);
        let (process, note) = (s.process, s.w.make(HOME, ObjType::Notification, 0));
        s.w.give(note, process, Cap(20));
        let wait = Regs::op(Op::Wait, &[Cap(20).arg()]);
        let wait = deadline.map_or(wait, |at| wait.deadline(s.w.now() + at));
        s.w.does_and_run(&task, wait);
        assert!(is_later(&mut s.w, &task, FAR));
        assert_eq!((task.home(), task.state()), (HOME, State::WaitBits));
        match deadline {
            None => _ = s.w.must(HOME, Op::Notify, &[note.arg(), 4]),
            Some(at) => {
                s.w.advance(at + 10);
                s.w.interrupt(HOME, kern_core::door::entry::Interrupt::Timer);
            }
        }
        s.w.run();
        assert!(s.w.runs(FAR, &task), "{:?}", task.state());
        let got = s.w.result(&task);
        assert_eq!(got.error(), deadline.map(|_| Error::Timeout));
        assert!(deadline.is_some() || got.rdx == 4);
    }
}

#[test]
fn the_last_order_counts() {
    let mut s = Scene::new(3);
    let (server, target) = s.server(FAR, 3);
    let (client, _) = s.running(HOME, 20);
    let before = places(&mut s.w);
    s.w.does_and_run(&client, call(target));
    for (cpu, later) in [(FAR, true), (THIRD, true), (HOME, false), (THIRD, true), (THIRD, true), (FAR, true)]
    {
        assert_eq!(is_later(&mut s.w, &client, cpu), later, "to {cpu}");
        let mut now = before;
        now[cpu] += u64::from(later);
        assert_eq!(places(&mut s.w), now);
    }
    assert!(!is_later(&mut s.w, &client, HOME), "it is taken back");
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(HOME, &client));
    assert_eq!(places(&mut s.w), before);
}

#[test]
fn one_that_dies_before_it_moves_leaves_both_places() {
    let mut s = Scene::new(3);
    let (_server, target) = s.server(FAR, 3);
    let before = places(&mut s.w);
    let (client, _) = s.running(HOME, 20);
    s.w.does_and_run(&client, call(target));
    assert!(is_later(&mut s.w, &client, THIRD));
    s.kill(&client);
    assert_eq!(client.state(), State::Dead);
    assert_eq!(places(&mut s.w), before);
}

#[test]
fn one_that_is_suspended_meanwhile_moves_and_stays_suspended() {
    for far in [HOME, FAR] {
        let mut s = Scene::new(3);
        let (server, target) = s.server(far, 3);
        let (client, _) = s.running(HOME, 20);
        s.w.does_and_run(&client, call(target));
        assert!(is_later(&mut s.w, &client, THIRD));
        s.w.must(HOME, Op::TaskSuspend, &[client.cap.arg()]);
        s.w.does_and_run(&server, answer());
        assert_eq!((client.home(), client.state()), (THIRD, State::Ready));
        assert!(!s.w.runs(THIRD, &client), "nobody has resumed it");
        s.w.must(HOME, Op::TaskResume, &[client.cap.arg()]);
        s.w.run();
        assert!(s.w.runs(THIRD, &client) && s.w.result(&client).error().is_none());
    }
}

/// Its time is on another CPU when it is told to move, so nobody knows then that it may not come.
#[test]
fn one_whose_time_may_not_come_along_stays() {
    let mut s = Scene::new(3);
    let (server, target) = s.server(FAR, 3);
    let (client, _) = s.task(HOME, 20, false);
    let (narrow, time) = (s.w.control_of(HOME, abi::INIT_UNTYPED, 200, 0b11), s.time(20));
    s.w.must(HOME, Op::SchedConfigure, &[narrow.arg(), time.arg(), 20, 1000]);
    s.w.must(HOME, Op::SchedBind, &[time.arg(), client.cap.arg()]);
    s.w.resume(&client);
    s.w.run();
    let before = places(&mut s.w);
    s.w.does_and_run(&client, call(target));
    assert!(is_later(&mut s.w, &client, THIRD));
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(HOME, &client) && s.w.result(&client).error().is_none());
    assert_eq!(places(&mut s.w), before, "it has its place here alone");
    s.w.does_and_run(&client, recv());
    assert_eq!((client.home(), client.state()), (HOME, State::Recv));
}

/// A caller that another one helps, since it serves in turn.
#[test]
fn the_middle_of_a_chain_moves_when_it_has_answered() {
    for cpus in [[HOME; 3], [HOME, FAR, THIRD], [FAR, HOME, HOME]] {
        let mut s = Scene::new(3);
        let (last, to_last) = s.server(cpus[2], 3);
        let (middle, to_middle) = s.server(cpus[1], 5);
        let (first, _) = s.running(cpus[0], 20);
        s.w.does_and_run(&first, call(to_middle));
        s.w.does_and_run(&middle, call(to_last));
        let to = (cpus[1] + 1) % 3;
        assert!(is_later(&mut s.w, &middle, to));
        s.w.does_and_run(&last, answer());
        assert!(middle.home() == cpus[1] && s.w.runs(cpus[1], &middle), "it has a call to answer");
        s.w.does_and_run(&middle, answer());
        assert_eq!((middle.home(), middle.state()), (to, State::Recv));
        assert!(s.w.runs(cpus[0], &first));
    }
}

/// Until it moves, it runs where it is: time that may not run there is not for it.
#[test]
fn no_time_is_bound_that_may_not_run_where_the_task_still_is() {
    let mut s = Scene::new(3);
    let (server, target) = s.task(HOME, 20, false);
    s.w.resume(&server);
    let (client, _) = s.running(FAR, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, recv());
    assert!(is_later(&mut s.w, &server, FAR));
    let there = s.w.control_of(HOME, abi::INIT_UNTYPED, 255, 1 << FAR);
    let both = s.w.control_of(HOME, abi::INIT_UNTYPED, 255, 1 << FAR | 1 << HOME);
    for (control, refused) in [(there, Some(Error::OverLimit)), (both, None)] {
        let time = s.w.make(HOME, ObjType::SchedContext, 0);
        s.w.must(HOME, Op::SchedConfigure, &[control.arg(), time.arg(), 200, 1000]);
        let bound = s.w.ask(HOME, Op::SchedBind, &[time.arg(), server.cap.arg()]);
        assert_eq!(bound.err().map(|why| why.0), refused);
    }
}

/// A server waits for bits, and its client dies meanwhile: the bits let it go.
#[test]
fn a_server_that_waits_for_bits_moves_with_them() {
    for deadline in [None, Some(1_000_000)] {
        let mut s = Scene::new(2);
        let (server, target) = s.server(HOME, 20);
        let (process, note) = (s.process, s.w.make(HOME, ObjType::Notification, 0));
        s.w.give(note, process, Cap(20));
        let (client, _) = s.running(FAR, 30);
        s.w.does_and_run(&client, call(target));
        assert!(is_later(&mut s.w, &server, FAR));
        let wait = Regs::op(Op::Wait, &[Cap(20).arg()]);
        let wait = deadline.map_or(wait, |at| wait.deadline(s.w.now() + at));
        s.w.does_and_run(&server, wait);
        s.kill(&client);
        assert_eq!((server.home(), server.state()), (HOME, State::WaitBits));
        s.w.must(HOME, Op::Notify, &[note.arg(), 4]);
        s.w.run();
        assert!(s.w.runs(FAR, &server) && s.w.result(&server).rdx == 4);
    }
}

/// The time that comes back with the answer is used up. It rests where it is to run.
#[test]
fn a_caller_moves_without_time_left() {
    let mut s = Scene::new(2);
    let (server, target) = s.task(HOME, 3, false);
    s.w.resume(&server);
    let (client, _) = s.running(HOME, 20);
    s.w.must(HOME, Op::SchedConfigure, &[CONTROL, client.sc.arg(), 20, 1_000_000, 5_000, 50_000]);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, recv());
    assert!(s.w.runs(HOME, &server), "on its client's time");
    assert!(is_later(&mut s.w, &client, FAR));
    s.w.advance(4_999);
    s.w.does(&server, answer());
    s.w.run();
    assert_eq!(client.home(), FAR);
    s.w.advance(50_010);
    s.w.interrupt(FAR, kern_core::door::entry::Interrupt::Timer);
    s.w.run();
    assert!(s.w.runs(FAR, &client) && s.w.result(&client).error().is_none());
}

#[test]
fn a_server_whose_last_kept_call_ends_moves() {
    for by in [HOME, FAR] {
        let mut s = Scene::new(3);
        let made = s.w.make(HOME, ObjType::Reply, 0);
        let place = Target::new(s.process.cnode, REPLY.0);
        s.w.must(HOME, Op::CapMove, &[made.arg(), place.0]);
        let (server, target) = s.server(HOME, 20);
        let (client, _) = s.running(by, 10);
        s.w.does_and_run(&client, call(target));
        s.w.does_and_run(&server, Regs::op(Op::SaveReply, &[REPLY.arg()]));
        s.w.does_and_run(&server, recv());
        assert!(is_later(&mut s.w, &server, THIRD));
        s.w.must(by, Op::CapDelete, &[place.0]);
        s.w.run();
        assert_eq!((server.home(), server.state()), (THIRD, State::Recv), "by cpu{by}");
        assert_eq!(s.w.result(&client).error(), Some(Error::Gone));
    }
}

/// It has stopped by itself, to leave: nobody has suspended it.
#[test]
fn one_that_is_about_to_leave_is_not_suspended() {
    let mut s = Scene::new(2);
    let (server, target) = s.server(HOME, 20);
    let (client, _) = s.running(HOME, 10);
    let process = s.process;
    s.w.give(server.cap, process, Cap(21));
    s.w.does_and_run(&client, call(target));
    assert!(is_later(&mut s.w, &server, FAR));
    s.w.does(&server, answer());
    assert!(server.hot().has_flag(FLAG_SUSPENDED) && server.home() == HOME, "it is about to leave");
    s.w.does(&client, Regs::op(Op::TaskReadRegs, &[Cap(21).arg()]));
    assert_eq!(s.w.result(&client).error(), Some(Error::BadState));
    s.w.run();
    assert_eq!((server.home(), server.state()), (FAR, State::Recv));
}

/// What a dead caller has left a server without time of its own, the server keeps until it
/// receives.
#[test]
fn a_server_goes_on_with_the_time_of_a_dead_caller() {
    for marked in [true, false] {
        let mut s = Scene::new(2);
        let (server, target) = s.task(HOME, 20, false);
        s.w.resume(&server);
        let (client, _) = s.running(HOME, 10);
        s.w.does_and_run(&client, call(target));
        s.w.does_and_run(&server, recv());
        if marked {
            assert!(is_later(&mut s.w, &server, FAR));
        }
        s.kill(&client);
        assert!(marked || is_later(&mut s.w, &server, FAR));
        assert!(s.w.runs(HOME, &server), "with the time that it was lent");
        s.w.does_and_run(&server, recv());
        assert_eq!((server.home(), server.state()), (FAR, State::Recv));
    }
}

/// It has stopped to leave, and its CPU has better things to do. A better caller makes it leave.
#[test]
fn a_better_caller_does_not_wait_for_a_worse_server_to_leave() {
    let mut s = Scene::new(2);
    let (server, target) = s.server(HOME, 3);
    let (client, _) = s.running(HOME, 4);
    s.w.does_and_run(&client, call(target));
    assert!(is_later(&mut s.w, &server, FAR));
    let (caller, _) = s.task(HOME, 200, true);
    s.w.does(&server, answer());
    assert!(server.hot().has_flag(FLAG_SUSPENDED) && server.home() == HOME, "it is about to leave");
    s.w.resume(&caller);
    s.w.run();
    s.w.does_and_run(&caller, call(target));
    s.w.does_and_run(&server, answer());
    assert!(s.w.runs(HOME, &caller) && server.home() == FAR);
}
