//! A suspended task is read out in the middle of a system call, and a fresh one goes on in its place.

use abi::{Cap, Error, ObjType, Op, Rewound, Target};
use kern_base::task::State;

use crate::scene::{Scene, call};
use crate::world::{Regs, Tcb};

const ANSWER: [u64; 4] = [5, 6, 7, 8];
/// Where the process has the Notification that its tasks wait for.
const BELL: Cap = Cap(7);

fn suspend(s: &mut Scene, task: &Tcb) {
    s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
    s.w.run();
}

/// Takes a task of CPU 0 out of its system call.
fn rewind(s: &mut Scene, task: &Tcb) -> Rewound {
    let number = s.w.must(0, Op::TaskRewind, &[task.cap.arg(), 0]).rdi;
    s.w.run();
    Rewound::from_raw(number).expect("a number that is documented")
}

/// The same until it is out.
pub fn rewind_whole(s: &mut Scene, task: &Tcb) {
    suspend(s, task);
    let first = rewind(s, task);
    let last = if first == Rewound::Asked { rewind(s, task) } else { first };
    assert_eq!(last, Rewound::Done);
}

/// A fresh task of CPU 0 goes on with the registers of another, which ends; and its exposure.
pub fn replace(s: &mut Scene, old: &Tcb, priority: u64) -> (Tcb, Target) {
    let (fresh, target) = s.task(0, priority, true);
    s.w.must(0, Op::TaskReadRegs, &[old.cap.arg()]);
    s.w.must(0, Op::TaskWriteRegs, &[fresh.cap.arg()]);
    s.kill(old);
    s.w.resume(&fresh);
    s.w.run();
    (fresh, target)
}

#[test]
fn who_receives() {
    for timed in [false, true] {
        let mut s = Scene::new(1);
        let (server, _) = s.running(0, 20);
        let deadline = s.w.now() + 50_000;
        let receive = Regs::op(Op::Recv, &[]);
        s.w.does_and_run(&server, if timed { receive.deadline(deadline) } else { receive });
        rewind_whole(&mut s, &server);
        let (fresh, target) = replace(&mut s, &server, 20);
        assert_eq!(fresh.state(), if timed { State::RecvTimed } else { State::Recv });
        if timed {
            s.w.advance(60_000);
            s.w.run();
            assert_eq!(s.w.result(&fresh).error(), Some(Error::Timeout), "at the same time");
        } else {
            let (client, _) = s.running(0, 10);
            s.w.does_and_run(&client, call(target));
            assert_eq!(s.w.result(&fresh).msg(), [1, 2, 3, 4]);
        }
    }
}

#[test]
fn who_has_replied_receives() {
    let mut s = Scene::new(1);
    let (server, target) = s.server(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    rewind_whole(&mut s, &server);
    let (fresh, target) = replace(&mut s, &server, 20);
    assert_eq!(s.w.result(&client).msg(), ANSWER, "once");
    s.w.does_and_run(&client, call(target));
    assert_eq!(s.w.result(&fresh).msg(), [1, 2, 3, 4]);
}

#[test]
fn who_waits_for_bits() {
    for (timed, early, read) in [
        (false, false, false),
        (false, true, false),
        (true, false, false),
        (false, false, true),
        (true, false, true),
    ] {
        let mut s = Scene::new(1);
        let bell = s.w.make(0, ObjType::Notification, 0);
        let process = s.process;
        s.w.give(bell, process, BELL);
        let (task, _) = s.running(0, 20);
        let deadline = s.w.now() + 50_000;
        let wait = Regs::op(Op::Wait, &[BELL.arg()]);
        s.w.does_and_run(&task, if timed { wait.deadline(deadline) } else { wait });
        assert_eq!(task.state(), State::WaitBits);
        if read {
            // Reading a task's registers out changes nothing.
            suspend(&mut s, &task);
            s.w.must(0, Op::TaskReadRegs, &[task.cap.arg()]);
        }
        rewind_whole(&mut s, &task);
        if early {
            // What comes between belongs to nobody yet.
            s.w.must(0, Op::Notify, &[bell.arg(), 0x30]);
        }
        let (fresh, _) = replace(&mut s, &task, 20);
        if timed {
            s.w.advance(60_000);
            s.w.run();
            assert_eq!(s.w.result(&fresh).error(), Some(Error::Timeout));
            continue;
        }
        if !early {
            s.w.must(0, Op::Notify, &[bell.arg(), 0x30]);
            s.w.run();
        }
        assert_eq!(s.w.result(&fresh).rdx, 0x30);
    }
}

/// Of a wait that came by the fastpath nothing is left but the Notification: a capability of it is looked for, some slots
/// in an entry. It is found wherever it stands.
#[test]
fn a_wait_is_rewound_by_a_capability_in_any_slot() {
    for slot in BELL.0..64 {
        let mut s = Scene::new(1);
        let (bell, process) = (s.w.make(0, ObjType::Notification, 0), s.process);
        s.w.give(bell, process, Cap(slot));
        let (task, _) = s.running(0, 20);
        s.w.does_and_run(&task, Regs::op(Op::Wait, &[Cap(slot).arg()]));
        assert_eq!(task.state(), State::WaitBits);
        // As the fastpath would have left it.
        task.hot().regs.rax.set(0);
        rewind_whole(&mut s, &task);
        let (fresh, _) = replace(&mut s, &task, 20);
        s.w.must(0, Op::Notify, &[bell.arg(), 0x30]);
        s.w.run();
        assert_eq!(s.w.result(&fresh).rdx, 0x30, "by slot {slot}");
    }
}

#[test]
fn who_can_wait_no_more() {
    let mut s = Scene::new(1);
    let bell = s.w.make(0, ObjType::Notification, 0);
    let process = s.process;
    s.w.give(bell, process, BELL);
    let (task, _) = s.running(0, 20);
    s.w.does_and_run(&task, Regs::op(Op::Wait, &[BELL.arg()]));
    s.w.must(0, Op::CapDelete, &[Target::new(process.cnode, BELL.0).0]);
    suspend(&mut s, &task);
    let refused = s.w.ask(0, Op::TaskRewind, &[task.cap.arg(), 0]).map(|_| ());
    assert_eq!(refused, Err((Error::NoCapability, 0)));
    assert_eq!(task.state(), State::WaitBits, "it waits on");
    s.w.must(0, Op::Notify, &[bell.arg(), 1]);
    s.w.must(0, Op::TaskResume, &[task.cap.arg()]);
    s.w.run();
    assert_eq!(s.w.result(&task).rdx, 1);
}

#[test]
fn who_waits_for_a_receiver() {
    for (cpu, timed) in [(0, false), (0, true), (1, false), (1, true)] {
        let mut s = Scene::new(2);
        let (server, target) = s.running(cpu, 20);
        // On the own CPU the server sleeps, so that the client can call.
        if cpu == 0 {
            suspend(&mut s, &server);
        }
        let (client, _) = s.running(0, 10);
        let deadline = s.w.now() + 50_000;
        let message = if timed { call(target).deadline(deadline) } else { call(target) };
        s.w.does_and_run(&client, message);
        rewind_whole(&mut s, &client);
        let (fresh, _) = replace(&mut s, &client, 10);
        assert_eq!(fresh.state(), if cpu == 0 { State::Sending } else { State::AwaitRemote });
        if cpu == 0 {
            s.w.resume(&server);
            s.w.run();
        }
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let got = s.w.result(&server);
        assert_eq!((got.msg(), got.sender()), ([1, 2, 3, 4], fresh.id), "CPU {cpu}, timed: {timed}");
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
        assert_eq!(s.w.result(&fresh).msg(), ANSWER);
        assert_eq!(server.state(), State::Recv, "nobody else called");
    }
}

#[test]
fn what_was_received_ends_with_the_reply() {
    for cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (server, target) = s.server(cpu, 20);
        let (client, _) = s.running(0, 10);
        s.w.does_and_run(&client, call(target));
        suspend(&mut s, &client);
        if cpu == 1 {
            assert_eq!(rewind(&mut s, &client), Rewound::Asked);
        }
        for _ in 0..2 {
            assert_eq!(rewind(&mut s, &client), Rewound::Received);
        }
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
        assert_eq!(rewind(&mut s, &client), Rewound::Done);
        let (fresh, _) = replace(&mut s, &client, 10);
        assert_eq!(s.w.result(&fresh).msg(), ANSWER);
    }
}

#[test]
fn what_was_sent_on_was_received() {
    for cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (last, last_target) = s.running(cpu, 5);
        let (relay, relay_target) = s.server(cpu, 20);
        let (client, _) = s.running(0, 10);
        s.w.does_and_run(&client, call(relay_target));
        s.w.does_and_run(&relay, Regs::message(Op::Forward, last_target, ANSWER));
        s.w.does_and_run(&relay, Regs::op(Op::Recv, &[]));
        suspend(&mut s, &client);
        if cpu == 1 {
            assert_eq!(rewind(&mut s, &client), Rewound::Asked);
        }
        assert_eq!(rewind(&mut s, &client), Rewound::Received, "it waits in the next queue");
        s.w.does_and_run(&last, Regs::op(Op::Recv, &[]));
        s.w.does_and_run(&last, Regs::message(Op::Reply, Target(0), [9, 8, 7, 6]));
        s.w.resume(&client);
        s.w.run();
        assert_eq!(s.w.result(&client).msg(), [9, 8, 7, 6]);
    }
}

#[test]
fn it_goes_on_itself() {
    let mut s = Scene::new(2);
    let (server, target) = s.running(1, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    rewind_whole(&mut s, &client);
    s.w.resume(&client);
    s.w.run();
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    assert_eq!(s.w.result(&client).msg(), ANSWER);
    assert_eq!(server.state(), State::Recv, "it called once");
}

#[test]
fn what_is_asked_back_may_be_cancelled() {
    let mut s = Scene::new(2);
    let (server, target) = s.running(1, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&client, call(target));
    suspend(&mut s, &client);
    // CPU 1 hears of neither before both are asked.
    let number = s.w.call(0, Regs::op(Op::TaskRewind, &[client.cap.arg(), 0])).rdi;
    assert_eq!(number, Rewound::Asked as u64);
    s.w.must(0, Op::TaskCancel, &[client.cap.arg()]);
    s.w.run();
    assert_eq!(client.state(), State::Ready);
    s.w.resume(&client);
    s.w.run();
    // Either is right: it is cancelled, or was out before and calls again.
    if client.is_through() {
        assert_eq!(s.w.result(&client).error(), Some(Error::Cancelled));
    } else {
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        assert_eq!(s.w.result(&server).msg(), [1, 2, 3, 4]);
    }
}

/// A call that is asked back while it comes to its own CPU, after a callee that was started there.
#[test]
fn a_call_that_follows_its_callee_home_keeps_its_words() {
    let mut s = Scene::new(2);
    let (server, target) = s.task(1, 20, true);
    // CPU 1 is never idle, so it looks into its mailbox only when the test says so.
    let _ = s.running(1, 5);
    let (client, _) = s.running(1, 10);
    s.w.does(&client, call(target));
    s.w.begin(1, Regs::op(Op::TaskSuspend, &[client.cap.arg()]));
    s.w.begin(0, Regs::op(Op::TaskResume, &[server.cap.arg()]));
    s.w.issue(1, Regs::op(Op::TaskRewind, &[client.cap.arg(), 0]));
    assert_eq!(s.w.result(&s.w.agent(1)).rdi, Rewound::Asked as u64);
    s.w.dismiss(1);
    s.w.finish(0);
    s.w.run();
    let again = s.w.must(1, Op::TaskRewind, &[client.cap.arg(), 0]).rdi;
    assert_eq!(again, Rewound::Done as u64);
    s.w.must(1, Op::TaskResume, &[client.cap.arg()]);
    s.w.run();
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    assert_eq!(s.w.result(&server).msg(), [1, 2, 3, 4]);
}
