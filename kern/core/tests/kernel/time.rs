//! CPU time, case by case: who goes on with whose.

use abi::{Cap, ObjType, Op, Target};

use crate::world::make::at;
use crate::world::{Regs, Tcb, World};

const GROUP: Cap = Cap(5);

/// Servers and clients of one process, and how to call one of them.
struct Scene {
    w: World,
    process: crate::world::make::Proc,
    group: Cap,
    exposed: u32,
}

impl Scene {
    fn new(cpus: usize) -> Scene {
        let mut w = World::new(cpus);
        let process = w.process();
        let group = w.group(4, 16);
        w.join_all(group, process, GROUP);
        Scene { w, process, group, exposed: 0 }
    }

    /// A task on CPU `n` that has not been resumed, and its exposure.
    fn task(&mut self, n: usize, priority: u64, own_time: bool) -> (Tcb, Target) {
        let task = self.w.task_with(self.process, n, priority, own_time);
        self.exposed += 1;
        self.w.expose(self.group, self.exposed, task.cap);
        (task, Target::new(GROUP, self.exposed))
    }

    fn running(&mut self, n: usize, priority: u64) -> (Tcb, Target) {
        let (task, target) = self.task(n, priority, true);
        self.w.resume(&task);
        self.w.run();
        (task, target)
    }

    fn delete(&mut self, cap: Cap) {
        self.w.must(0, Op::CapDelete, &[at(cap)]);
        self.w.run();
    }

    /// New time, which nobody has.
    fn time(&mut self, priority: u64) -> Cap {
        let sc = self.w.make(0, ObjType::SchedContext, 0);
        self.w.must(0, Op::SchedConfigure, &[sc.arg(), priority, 1000]);
        sc
    }
}

fn call(target: Target) -> Regs {
    Regs::message(Op::Call, target, [1, 2, 3, 4])
}

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
    let (server, target) = s.running(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
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
    let (server, target) = s.running(0, 20);
    let (client, _) = s.running(0, 10);
    s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
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
