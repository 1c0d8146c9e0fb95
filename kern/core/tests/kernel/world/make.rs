//! Makes objects: process 1 directly, as the image does, and everything else by system calls of
//! process 1's agents, one on every CPU.

use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, RegIndex, Rights, Target};
use kern_base::header::RootId;
use kern_base::memory::{Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::Objects;
use kern_base::paging::TABLE_BYTES;
use kern_base::pcids::PcidShare;
use kern_base::process::{PROCESS_ALIGN, Process, TaskNumber};
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::{Bound, SchedControl};
use kern_base::slot::{CNode, Slot};
use kern_base::task::{TASK_BYTES, Task};
use kern_core::{MAX_ROOTS, MachineObject};
use smp::cpu::CpuId;
use smp::door::masked::FilledTable;
use smp::door::{KernelObject, Ref, Region};
use smp::host_test;
use smp::sync::{AtomicU64, Ordering::Relaxed};

use super::gate::Why;
use super::machine::PCIDS;
use super::{AFTER, Regs, Tcb, World};

pub const BOOT_ROOT: RootId = RootId(MAX_ROOTS as u16 - 1);
/// Slots of process 1.
pub const SLOTS: usize = 2048;
/// Priority of agents: above everything else.
const AGENT_PRIORITY: u64 = 255;
/// Slice of CPU time that nobody gave another one.
const SLICE: u64 = 10_000_000;

/// What process 1 has made.
#[derive(Default)]
pub struct Made {
    /// How many slots process 1 has.
    slots: usize,
    next_slot: u32,
    next_utcb: u64,
    agents: Vec<Agent>,
    init: Option<Ref<'static, Process>>,
}

/// A task of process 1 that acts for the test on one CPU.
#[derive(Clone, Copy)]
pub struct Agent {
    pub tcb: Tcb,
    /// The Notification at which it waits while it has nothing to do.
    pub bell: Cap,
}

/// A process that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proc {
    pub process: Cap,
    pub cnode: Cap,
    pub vspace: Cap,
}

/// Process 1 itself.
pub const INIT: Proc = Proc { process: abi::INIT_PROCESS, cnode: abi::INIT_CNODE, vspace: abi::INIT_VSPACE };

/// A slot of process 1's CNode, as an argument.
pub fn at(slot: Cap) -> u64 {
    Target::new(abi::INIT_CNODE, slot.0).0
}

/// Process 1's SchedControl, as an argument. It allows everything.
pub const CONTROL: u64 = (abi::INIT_SCHED_CONTROL.0 as u64) << 32;

fn piece<T>(region: &Region) -> Option<smp::door::Piece> {
    region.carve((size_of::<T>() as u64).next_multiple_of(64), 64)
}

impl World {
    // --- process 1 -------------------------------------------------------------------------------

    /// Makes process 1 and its agents.
    pub(super) fn boot(&mut self, own: Region, memory: Region, slots: usize) {
        self.made.next_slot = 64;
        self.made.next_utcb = 0x5000_0000;
        self.made.slots = slots;
        let init = self.process_one(&own, memory);
        let Some(init) = init else { panic!("the boot region is too small") };
        self.gate.leave(&mut host_test::local_entry(self.block(0)));
        for n in 1..self.cpus() {
            self.k.machine.cpu.store(n, Relaxed);
            self.gate.leave(&mut host_test::local_entry(self.block(n)));
        }
        self.k.machine.cpu.store(0, Relaxed);
        self.first_agent(init);
        for n in 1..self.cpus() {
            self.other_agent(n);
        }
    }

    fn process_one(&mut self, region: &Region, memory: Region) -> Option<Ref<'static, Task>> {
        let cx = self.look(0);
        let pin = cx.pin();
        let slots = region.carve((self.made.slots * size_of::<Slot>()) as u64, 64)?;
        let slots = FilledTable::new(slots.emplace_slice(|_| Slot::new())?)?;
        let cnode = piece::<CNode>(region)?.emplace(pin, CNode::new(BOOT_ROOT, slots))?;
        let seen = region.carve(self.cpus() as u64 * 8, 64)?.emplace_slice(|_| AtomicU64::new(0))?;
        let tables = region.carve(33 * TABLE_BYTES, 4096)?;
        let vspace = cx.make().new_vspace(BOOT_ROOT, tables.clear(), seen)?;
        vspace.take_pcid(&cx.k.machine, None);
        let vspace = piece::<VSpace>(region)?.emplace(pin, vspace)?;
        let numbers = region.carve(64 * size_of::<TaskNumber>() as u64, 64)?;
        let numbers = numbers.emplace_slice(|_| TaskNumber::default())?;
        let place = region.carve(size_of::<Process>() as u64, PROCESS_ALIGN)?;
        let process = Process::make(place, pin, BOOT_ROOT, numbers)?;
        cx.make().begin_with(process);
        self.made.init = Some(process);
        let task = Task::make(
            region.carve_cleared(size_of::<Task>() as u64, TASK_BYTES, 4096)?,
            pin,
            BOOT_ROOT,
            cx.id(),
        )?;
        let sc = piece::<SchedContext>(region)?.emplace(pin, SchedContext::new(BOOT_ROOT, cx.id()))?;
        let machine = piece::<MachineObject>(region)?.emplace(pin, MachineObject::new(BOOT_ROOT))?;
        let log2 = memory.size().ilog2() as u8;
        let pcids = PcidShare::new(PCIDS as u32 - 1);
        let untyped = Untyped::new(RootId(0), log2, memory, pcids);
        let untyped = piece::<Untyped>(region)?.emplace(pin, untyped)?;
        let node = cnode.get();
        cx.make().fill_boot(node, abi::INIT_CNODE, cnode)?;
        cx.make().fill_boot(node, abi::INIT_VSPACE, vspace)?;
        cx.make().fill_boot(node, abi::INIT_PROCESS, process)?;
        cx.make().fill_boot(node, abi::INIT_TASK, task)?;
        cx.make().fill_boot(node, abi::INIT_SCHED, sc)?;
        cx.make().fill_boot(node, abi::INIT_MACHINE, machine)?;
        let control = piece::<SchedControl>(region)?.emplace(pin, SchedControl::new(BOOT_ROOT))?;
        control.get().extend(Bound::ALL, CpuId::BOOT, u64::MAX).ok()?;
        cx.make().fill_boot(node, abi::INIT_SCHED_CONTROL, control)?;
        cx.make().fill_boot(node, abi::INIT_UNTYPED, untyped)?;
        cx.make().bind_process(process, cnode, vspace, false).ok()?;
        cx.make().bind_task(None, task, process, abi::INIT_UTCB_VA, cx.id()).ok()?;
        let time = &cx.open_time(sc)?.state;
        time.set_priority(AGENT_PRIORITY as u8);
        time.set_slice(SLICE);
        time.set_cpus(control.get().cpus(), cx.k.cpu_count());
        cx.make().bind_time(sc, task).ok()?;
        let open = cx.open(task)?;
        open.regs.rip.set(AFTER);
        cx.life().resume(open);
        cx.time().dispatch();
        Some(task)
    }

    fn first_agent(&mut self, task: Ref<'static, Task>) {
        let bell = self.slot();
        let args = [Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32).0, 0, at(bell), 1];
        self.issue(0, Regs::op(Op::Retype, &args));
        let tcb = Tcb::new(abi::INIT_TASK, abi::INIT_SCHED, task);
        assert_eq!(tcb.regs().error(), None, "the first system call");
        self.made.agents.push(Agent { tcb, bell });
        self.dismiss(0);
    }

    fn other_agent(&mut self, n: usize) {
        let tcb = self.task_with(INIT, n, AGENT_PRIORITY, true);
        self.resume(&tcb);
        self.run();
        assert!(self.runs(n, &tcb), "the agent of cpu{n} does not run");
        let bell = self.slot();
        let args = [Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32).0, 0, at(bell), 1];
        self.issue(n, Regs::op(Op::Retype, &args));
        self.run();
        assert_eq!(tcb.regs().error(), None, "cpu{n}'s agent makes its bell");
        self.made.agents.push(Agent { tcb, bell });
        self.dismiss(n);
    }

    pub fn agent(&self, n: usize) -> Tcb {
        self.made.agents[n].tcb
    }

    /// The agent waits for its bell: others run.
    pub fn dismiss(&mut self, n: usize) {
        let bell = self.made.agents[n].bell;
        self.issue(n, Regs::op(Op::Wait, &[bell.arg()]));
    }

    /// Wakes the agent of a CPU, as an interrupt would.
    pub fn summon(&mut self, n: usize) {
        let Agent { tcb, bell } = self.made.agents[n];
        let Some(bell) = self.object::<Notification>(bell) else { panic!("cpu{n}'s agent lost its bell") };
        self.pass(n, Why::Bell(bell));
        assert!(self.runs(n, &tcb), "the agent of cpu{n} does not come");
    }

    // --- system calls of the agents --------------------------------------------------------------

    /// The agent of CPU `n` makes a system call; everything that the kernel needs for it happens.
    pub fn call(&mut self, n: usize, args: Regs) -> Regs {
        self.begin(n, args);
        self.finish(n)
    }

    /// The agent begins a system call.
    pub fn begin(&mut self, n: usize, args: Regs) {
        self.summon(n);
        self.issue(n, args);
    }

    /// Whether the agent's system call is over.
    pub fn is_over(&self, n: usize) -> bool {
        let agent = self.agent(n);
        agent.is_through() && self.runs(n, &agent)
    }

    /// Lets the agent's system call come to its end.
    pub fn finish(&mut self, n: usize) -> Regs {
        let over = self.run_until(|w| w.is_over(n));
        assert!(over, "the agent's system call never ends: {:?}", self.agent(n).regs());
        let regs = self.agent(n).regs();
        self.dismiss(n);
        regs
    }

    /// Makes a system call by an operation and plain arguments.
    pub fn ask(&mut self, n: usize, op: Op, args: &[u64]) -> Result<Regs, (Error, u64)> {
        self.call(n, Regs::op(op, args)).result()
    }

    /// Makes a system call that must succeed.
    pub fn must(&mut self, n: usize, op: Op, args: &[u64]) -> Regs {
        match self.ask(n, op, args) {
            Ok(regs) => regs,
            Err((error, detail)) => panic!("{op:?}{args:x?}: {error:?}, detail {detail:#x}"),
        }
    }

    // --- objects ---------------------------------------------------------------------------------

    /// A slot of process 1 that nothing was ever put into.
    pub fn slot(&mut self) -> Cap {
        self.slots(1)
    }

    pub fn slots(&mut self, count: u32) -> Cap {
        let first = self.made.next_slot;
        self.made.next_slot += count;
        assert!((self.made.next_slot as usize) < self.made.slots, "process 1 has used all its slots");
        Cap(first)
    }

    /// Makes an object on CPU `n` out of `untyped`. CPU time is then set, so that a task can have
    /// it.
    pub fn make_of(&mut self, n: usize, untyped: Cap, what: ObjType, size: u64) -> Cap {
        let slot = self.retype_of(n, untyped, what, size);
        if what == ObjType::SchedContext {
            self.must(n, Op::SchedConfigure, &[CONTROL, slot.arg(), 0, SLICE]);
        }
        slot
    }

    /// Makes an object on CPU `n` out of `untyped`, and does nothing else with it.
    pub fn retype_of(&mut self, n: usize, untyped: Cap, what: ObjType, size: u64) -> Cap {
        let slot = self.slot();
        self.must(n, Op::Retype, &[Target::new(untyped, what as u32).0, size, at(slot), 1]);
        slot
    }

    /// Makes a SchedControl on CPU `n` out of `untyped`: with a ceiling, for some of the first
    /// CPUs.
    pub fn control_of(&mut self, n: usize, untyped: Cap, ceiling: u64, cpus: u64) -> Cap {
        let control = self.make_of(n, untyped, ObjType::SchedControl, 0);
        self.must(n, Op::SchedAllow, &[CONTROL, control.arg(), ceiling, 0, cpus]);
        control
    }

    /// Makes an object of the boot memory.
    pub fn make(&mut self, n: usize, what: ObjType, size: u64) -> Cap {
        self.make_of(n, abi::INIT_UNTYPED, what, size)
    }

    /// The object a capability of process 1 refers to.
    pub fn object<T: KernelObject<Set = Objects>>(&self, cap: Cap) -> Option<Ref<'static, T>> {
        let pin = host_test::pin(0);
        self.slot_at(cap).get().word.load(pin).get::<T>()
    }

    /// A slot of process 1.
    pub fn slot_at(&self, cap: Cap) -> Ref<'static, Slot> {
        let pin = host_test::pin(0);
        let process = self.init_process();
        let slot =
            process.get().cnode.get(pin).and_then(|c| c.get().slots.get_but_first(pin, cap.0 as usize));
        match slot {
            Some(slot) => slot,
            None => panic!("process 1 has no slot {cap:?}"),
        }
    }

    pub fn init_process(&self) -> Ref<'static, Process> {
        match self.made.init {
            Some(process) => process,
            None => panic!("process 1 is not made yet"),
        }
    }

    /// Makes a process with room for `tasks` tasks and `slots` capabilities.
    pub fn process_of(&mut self, untyped: Cap, tasks: u64, slots: u64) -> Proc {
        let cnode = self.make_of(0, untyped, ObjType::CNode, slots);
        let vspace = self.make_of(0, untyped, ObjType::VSpace, 16);
        let process = self.make_of(0, untyped, ObjType::Process, tasks);
        self.must(0, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 0]);
        Proc { process, cnode, vspace }
    }

    pub fn process(&mut self) -> Proc {
        self.process_of(abi::INIT_UNTYPED, 8, 64)
    }

    /// Makes a task, suspended, which will run on CPU `n`; with CPU time of its own or not.
    pub fn task_of(&mut self, untyped: Cap, of: Proc, n: usize, priority: u64, own_time: bool) -> Tcb {
        let cap = self.make_of(0, untyped, ObjType::Task, 0);
        let utcb = self.made.next_utcb;
        self.made.next_utcb += 0x1000;
        self.must(0, Op::TaskConfigure, &[CONTROL, cap.arg(), of.process.arg(), utcb, n as u64]);
        let object = self.task(cap);
        let mut sc = Cap::NULL;
        if own_time {
            sc = self.make_of(0, untyped, ObjType::SchedContext, 0);
            self.must(0, Op::SchedConfigure, &[CONTROL, sc.arg(), priority, 1000]);
            self.must(0, Op::SchedBind, &[sc.arg(), cap.arg()]);
        }
        self.bulk(0, RegIndex::Rip as usize, AFTER);
        self.must(0, Op::TaskWriteRegs, &[cap.arg()]);
        self.bulk(0, RegIndex::Rip as usize, 0);
        Tcb::new(cap, sc, object)
    }

    pub fn task_with(&mut self, of: Proc, n: usize, priority: u64, own_time: bool) -> Tcb {
        self.task_of(abi::INIT_UNTYPED, of, n, priority, own_time)
    }

    /// A task with time of its own that runs on CPU `n`.
    pub fn start(&mut self, of: Proc, n: usize, priority: u64) -> Tcb {
        let tcb = self.task_with(of, n, priority, true);
        self.resume(&tcb);
        self.run();
        tcb
    }

    pub fn resume(&mut self, task: &Tcb) {
        self.must_on_first_agent(Op::TaskResume, task);
    }

    fn must_on_first_agent(&mut self, op: Op, task: &Tcb) {
        if self.made.agents.is_empty() {
            panic!("{op:?} of {task:?} without agents");
        }
        self.must(0, op, &[task.cap.arg()]);
    }

    /// A word of the agent's UTCB.
    pub fn bulk(&self, n: usize, index: usize, value: u64) {
        let agent = self.agent(n);
        agent.object.get().utcb(agent.pin()).bulk[index].store(value, Relaxed);
    }

    // --- groups ----------------------------------------------------------------------------------

    /// A group of `members` members at most and `exposures` exposures.
    pub fn group(&mut self, members: u64, exposures: u64) -> Cap {
        self.make(0, ObjType::Group, members | exposures << 16)
    }

    /// Makes a process a member with rights; its capability of the group will be in `slot` of its
    /// CSpace. Returns the member index.
    pub fn join(&mut self, group: Cap, who: Proc, slot: Cap, rights: Rights, custom: u16) -> u64 {
        self.must(0, Op::ProcessAccept, &[who.process.arg(), u64::from(slot.0), group.arg()]);
        let args = [group.arg(), who.process.arg(), u64::from(rights.0), u64::from(custom)];
        self.must(0, Op::GroupAdd, &args).rdi
    }

    /// Makes a process a member with all rights and no custom bits.
    pub fn join_all(&mut self, group: Cap, who: Proc, slot: Cap) {
        self.join(group, who, slot, MEMBER_RIGHTS, 0);
    }

    pub fn expose(&mut self, group: Cap, index: u32, object: Cap) {
        self.must(0, Op::Expose, &[Target::new(group, index).0, object.arg(), 0]);
    }

    /// Copies a capability of process 1 into another CSpace.
    pub fn give(&mut self, cap: Cap, to: Proc, slot: Cap) {
        let args = [cap.arg(), Target::new(to.cnode, slot.0).0, u64::from(Rights::ALL.0), 0];
        self.must(0, Op::CapCopy, &args);
    }

    // --- what tasks do ---------------------------------------------------------------------------

    /// Task `who`, which has to be running, makes a system call.
    pub fn does(&mut self, who: &Tcb, args: Regs) {
        let n = who.home();
        assert!(
            self.runs(n, who),
            "{who:?} does not run on cpu{n}: {:?}",
            self.current(n).map(|t| t.get().id())
        );
        self.issue(n, args);
    }

    /// Makes a system call as a task, and runs all that follows from it.
    pub fn does_and_run(&mut self, who: &Tcb, args: Regs) {
        self.does(who, args);
        self.run();
    }

    /// What a task's last system call answered, once it is over.
    pub fn result(&self, who: &Tcb) -> Regs {
        assert!(who.is_through(), "{who:?} is {:?}, its last system call is not over", who.state());
        who.regs()
    }
}
