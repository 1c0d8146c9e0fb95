//! Makes workers, and the policy process that manages them.

use abi::{Rights, machine_rights};
use guest_tests::failure::Failure;
use policy_core::orders::{Order, POLICY, Role, Setup, Verdict, Watch, Wish, slots};
use user_rt::arch::memory;
use user_rt::archive::Archive;
use user_rt::cap::{Group, SchedControl, Untyped};
use user_rt::elf::{Image, ImageError};
use user_rt::invoke::{copy, transfer};
use user_rt::ipc::Message;
use user_rt::layout::{PROGRAM_SLOTS, slot};
use user_rt::spawn::{
    Child, Entry, Home, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, own, process, task,
};

/// Highest priority that the policy may give, and its own.
pub const CEILING: u8 = 140;
pub const POLICY_PRIORITY: u8 = 150;
/// Ticks that a policy or a watchdog may use in each window. One that hangs leaves the rest.
const POLICY_BUDGET: u64 = 500_000;
const POLICY_PERIOD: u64 = 1_000_000;
/// Memory of a policy and its process (as base-2 logarithms), and slots.
const POLICY_LOG2: u8 = 17;
const PROCESS_LOG2: u8 = 22;
const PROCESS_SLOTS: u32 = 300;
const WORKER_STACK_PAGES: u32 = 2;
/// The policy has all that it knows on its stack.
const POLICY_STACK_PAGES: u32 = 14;
/// Places in the address space: tasks of the run's own come first.
const FIRST_INDEX: u32 = 4;

/// A policy that runs, or a watchdog.
pub struct Policy {
    group: Group,
}

/// Makes processes and tasks.
pub struct Stage<'a> {
    image: Image<'a>,
    setup: Setup,
    workers: Nursery,
    /// What a policy consists of.
    policy: Nursery,
    made: u32,
}

impl<'a> Stage<'a> {
    pub fn new(workers: Nursery, from: &mut Nursery, setup: Setup) -> Result<Stage<'a>, Failure> {
        let archive = Archive::new(memory::archive()).map_err(|_| Failure::Image(ImageError::NotElf))?;
        let program = archive.program("policy").ok_or(Failure::Image(ImageError::NotElf))?;
        let image = Image::parse(program.file).map_err(Failure::Image)?;
        let policy = from.split(PROCESS_LOG2, PROCESS_SLOTS)?;
        Ok(Stage { image, setup, workers, policy, made: 0 })
    }

    /// Makes a worker on CPU 0, which does not run yet.
    pub fn worker(&mut self, entry: Entry) -> Result<Spawned, Failure> {
        let spec = TaskSpec {
            index: FIRST_INDEX + self.made,
            cpu: 0,
            priority: 1,
            stack_pages: WORKER_STACK_PAGES,
            run: Run::Function(entry),
            argument: self.made.into(),
        };
        self.made += 1;
        Ok(Home::own(|home| task(&mut self.workers, home, &spec))?)
    }

    /// Makes the authority of a policy: priorities up to a ceiling, on all CPUs.
    pub fn control(&mut self, ceiling: u8) -> Result<SchedControl, Failure> {
        let control: SchedControl = self.policy.make(0)?;
        own::sched_control().allow(&control, ceiling, 0, u64::MAX)?;
        Ok(control)
    }

    /// Starts a policy, which gets the capabilities of these workers.
    pub fn start(&mut self, workers: &[Spawned]) -> Result<Policy, Failure> {
        let child = process(&mut self.policy, &spec(&self.image))?;
        let rights = machine_rights::LOG.union(machine_rights::SECURITY).union(machine_rights::INFO);
        child.give_machine(rights, 0)?;
        let control = self.control(CEILING)?;
        child.give_sched_control(&control)?;
        let memory: Untyped = self.policy.make(POLICY_LOG2.into())?;
        transfer(memory, child.cnode.slot(slot::UNTYPED))?;
        for (number, worker) in (0..).zip(workers) {
            let (task, sched) = slots(number);
            copy(&worker.task, child.cnode.slot(task), Rights::ALL, 0)?;
            copy(&worker.sched, child.cnode.slot(sched), Rights::ALL, 0)?;
        }
        first_task(&mut self.policy, &child, Role::Policy(self.setup))
    }

    /// Starts a watchdog, for as long as the run lasts.
    pub fn watchdog(&mut self, limit: u64) -> Result<Policy, Failure> {
        let child = process(&mut self.workers, &spec(&self.image))?;
        child.give_machine(machine_rights::LOG.union(machine_rights::INFO), 0)?;
        first_task(&mut self.workers, &child, Role::Watchdog(Watch { cpus: self.setup.cpus, limit }))
    }

    /// Ends the policy's process, whatever it does.
    pub fn kill(&mut self, _: Policy) -> Result<(), Failure> {
        self.policy.reset()?;
        Ok(())
    }
}

/// Describes a process of the policy's program.
fn spec<'a>(image: &'a Image<'a>) -> ProcessSpec<'a> {
    ProcessSpec {
        image,
        vector: false,
        tasks: 4,
        slots: PROGRAM_SLOTS,
        tables: 64,
        with_file: false,
        untyped_log2: &[POLICY_LOG2],
        groups: StartIn::None,
        line: None,
    }
}

/// Starts the first task of such a process, and exposes it in a group.
fn first_task(nursery: &mut Nursery, child: &Child, role: Role) -> Result<Policy, Failure> {
    let spec = TaskSpec {
        index: 0,
        cpu: 0,
        priority: POLICY_PRIORITY,
        stack_pages: POLICY_STACK_PAGES,
        run: Run::Main,
        argument: role.argument(),
    };
    let first = task(nursery, &child.home(), &spec)?;
    let group = nursery.make_group(4, 1)?;
    group.expose_task(POLICY, &first.task)?;
    first.sched.configure_budget(POLICY_PRIORITY, POLICY_PERIOD, POLICY_BUDGET, POLICY_PERIOD)?;
    first.task.resume()?;
    Ok(Policy { group })
}

impl Policy {
    /// Gives an order. Returns the verdict, and the registers of the answer.
    pub fn order(&self, order: Order) -> Result<(Verdict, [u64; 4]), Failure> {
        let (label, regs) = order.words();
        let answer = self.group.exposure(POLICY).call(&Message { label, regs, ..Message::default() })?;
        Ok((Verdict::from_label(answer.label), answer.regs))
    }

    /// Lets the policy manage a worker. Returns the verdict, the worker's CPU, and a time at which
    /// a window of its budget has begun.
    pub fn manage(&self, wish: Wish) -> Result<(Verdict, u32, u64), Failure> {
        let (verdict, [cpu, begins, ..]) = self.order(Order::Manage(wish))?;
        Ok((verdict, cpu as u32, begins))
    }

    /// Returns how often it has moved tasks, how often it has set them, and how long a CPU has
    /// idled meanwhile.
    pub fn report(&self) -> Result<[u64; 3], Failure> {
        let (_, [moves, settings, idled, _]) = self.order(Order::Report)?;
        Ok([moves, settings, idled])
    }
}
