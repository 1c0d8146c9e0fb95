//! What directed tests begin with: servers and clients of one process, exposed in one group.

use abi::{Cap, ObjType, Op, Target};

use crate::world::make::{Proc, at};
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

    /// A scene in a machine with `bytes` of memory, whose invariants are not checked after each kernel entry: for tests
    /// that make thousands of them.
    pub fn unchecked(cpus: usize, bytes: u64) -> Scene {
        Scene::of(World::unchecked(cpus, bytes))
    }

    fn of(mut w: World) -> Scene {
        let process = w.process();
        let group = w.group(4, 16);
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
        self.w.must(0, Op::SchedConfigure, &[sc.arg(), priority, 1000]);
        sc
    }
}

pub fn call(target: Target) -> Regs {
    Regs::message(Op::Call, target, [1, 2, 3, 4])
}
