//! The initial state of directed tests: servers and clients of one process, exposed in one group.

use abi::{Cap, Error, FLAG_CAPS, Grant, ObjType, Op, Rights, Target};

use crate::grants::{OFFER, holds, listens, lists};
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb, World};

/// The group, in the process's CSpace.
pub const GROUP: Cap = Cap(5);

pub struct Scene {
    pub w: World,
    pub process: Proc,
    pub group: Cap,
    exposed: u32,
}

impl Scene {
    pub fn new(cpus: usize) -> Scene {
        Scene::of(World::new(cpus))
    }

    /// A scene in a machine with `bytes` of memory, whose invariants are not checked after each
    /// kernel entry: for tests that make thousands of them.
    pub fn unchecked(cpus: usize, bytes: u64) -> Scene {
        Scene::of(World::unchecked(cpus, bytes))
    }

    fn of(mut w: World) -> Scene {
        let process = w.process();
        Scene::with(w, process, 16)
    }

    /// A scene with room for so many tasks that are exposed.
    pub fn of_room(cpus: usize, tasks: usize) -> Scene {
        let mut w = World::new(cpus);
        let process = w.process_of(abi::INIT_UNTYPED, tasks as u64, 64);
        Scene::with(w, process, tasks as u64 + 1)
    }

    fn with(mut w: World, process: Proc, exposures: u64) -> Scene {
        let group = w.group(4, exposures);
        w.join_all(group, process, GROUP);
        Scene { w, process, group, exposed: 0 }
    }

    /// A task on CPU `n` that has not been resumed, and its exposure.
    pub fn task(&mut self, n: usize, priority: u64, own_time: bool) -> (Tcb, Target) {
        let task = self.w.task_with(self.process, n, priority, own_time);
        self.exposed += 1;
        self.w.expose(self.group, self.exposed, task.cap);
        (task, Target::new(GROUP, self.exposed))
    }

    /// One with time of its own that runs, or will.
    pub fn running(&mut self, n: usize, priority: u64) -> (Tcb, Target) {
        let (task, target) = self.task(n, priority, true);
        self.w.resume(&task);
        self.w.run();
        (task, target)
    }

    /// One that receives.
    pub fn server(&mut self, n: usize, priority: u64) -> (Tcb, Target) {
        let (server, target) = self.running(n, priority);
        self.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        (server, target)
    }

    /// A process with its own CNode in slot 2, and a task of it on a CPU.
    pub fn somebody(&mut self, n: usize, priority: u64) -> (Proc, Tcb) {
        let process = self.w.process();
        self.w.give(process.cnode, process, Cap(2));
        let task = self.w.start(process, n, priority);
        (process, task)
    }

    pub fn delete(&mut self, cap: Cap) {
        self.w.must(0, Op::CapDelete, &[at(cap)]);
        self.w.run();
    }

    pub fn kill(&mut self, task: &Tcb) {
        self.w.must(0, Op::TaskKill, &[task.cap.arg()]);
        self.w.run();
    }

    /// New time, which nobody has.
    pub fn time(&mut self, priority: u64) -> Cap {
        let sc = self.w.make(0, ObjType::SchedContext, 0);
        self.w.must(0, Op::SchedConfigure, &[CONTROL, sc.arg(), priority, 1000]);
        sc
    }
}

pub fn call(target: Target) -> Regs {
    Regs::message(Op::Call, target, [1, 2, 3, 4])
}

/// An answer that takes several entries, and the call that it is for is over: a server answers with
/// a capability that must first be disposed of, since the caller does not listen, and the caller
/// gives up.
pub struct LateAnswer {
    pub s: Scene,
    /// Whose call is over, and its process.
    pub caller: (Proc, Tcb),
    /// The task that answers. It is suspended before the answer has gone.
    first: Tcb,
    /// Another task of the server, which shares its Reply. It receives.
    second: Tcb,
    to_second: Target,
}

impl LateAnswer {
    /// The Reply by which the server answers, and what it answers with.
    const REPLY: Cap = Cap(7);
    const NOTE: Cap = Cap(20);

    pub fn new() -> LateAnswer {
        let mut s = Scene::new(1);
        let (process, reply) = (s.process, s.w.make(0, ObjType::Reply, 0));
        s.w.give(reply, process, LateAnswer::REPLY);
        let (first, to_first) = s.server(0, 10);
        let (second, to_second) = s.server(0, 11);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, process, LateAnswer::NOTE);
        let (its, one) = LateAnswer::client(&mut s, 8);
        LateAnswer::keeps(&mut s, &first, &one, to_first);
        listens(&one, OFFER, 0);
        lists(&first, &[Grant::Move { cap: LateAnswer::NOTE }]);
        let answer = Regs::message(Op::Reply, Target(LateAnswer::REPLY.arg()), [0x111; 4]);
        s.w.does(&first, answer.flag(FLAG_CAPS));
        assert!(first.must_restart(), "{:x?}", first.regs());
        s.w.must(0, Op::TaskSuspend, &[first.cap.arg()]);
        s.w.must(0, Op::TaskCancel, &[one.cap.arg()]);
        assert_eq!(one.regs().error(), Some(Error::Cancelled));
        s.w.run();
        LateAnswer { s, caller: (its, one), first, second, to_second }
    }

    /// A process that may call, and a task of it, which offers a slot for what an answer brings.
    pub fn client(s: &mut Scene, priority: u64) -> (Proc, Tcb) {
        let (group, process) = (s.group, s.w.process());
        s.w.join(group, process, GROUP, Rights::SEND, priority as u16);
        let task = s.w.start(process, 0, priority);
        listens(&task, OFFER, 1);
        (process, task)
    }

    /// A server keeps the call of a client in the Reply.
    fn keeps(s: &mut Scene, server: &Tcb, client: &Tcb, target: Target) {
        s.w.does_and_run(client, call(target));
        s.w.does_and_run(server, Regs::op(Op::SaveReply, &[LateAnswer::REPLY.arg()]));
        assert_eq!(s.w.result(server).error(), None);
    }

    /// A client calls the second task, which keeps the call in the Reply. Then the first task goes
    /// on with its answer.
    ///
    /// Returns: whether the client was answered, and whether it has got the capability.
    pub fn goes_on_after_call(&mut self, process: Proc, client: &Tcb) -> (bool, bool) {
        let s = &mut self.s;
        LateAnswer::keeps(s, &self.second, client, self.to_second);
        s.w.does_and_run(&self.second, Regs::op(Op::Recv, &[]));
        s.w.resume(&self.first);
        s.w.run();
        (client.is_through(), holds(s, process, OFFER).is_some())
    }
}
