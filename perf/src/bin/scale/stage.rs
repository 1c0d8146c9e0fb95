//! Makes the processes and tasks of a load, runs them, destroys them.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Counter, Rights, Target, machine_rights};
use user_rt::arch::shared::Shared;
use user_rt::cap::{Group, Handle, Notification, Task};
use user_rt::elf::Image;
use user_rt::layout::slot;
use user_rt::spawn::{
    Child, Home, Nursery, ProcessSpec, Run, SpawnError, Spawned, StartIn, TaskSpec, end, own, process, task,
};
use user_rt::{arch, boot};

use crate::block::{Block, EXPOSURE_DONE, Word};
use crate::loads::{Load, Pattern};

/// Priority of clients and servers, which take turns. It is below the program's own. The receiver
/// of a storm is above the clients, since otherwise it would never run on a CPU that has one.
const PRIORITY: u8 = 100;
const HEARER_PRIORITY: u8 = 110;
const STACK_PAGES: u32 = 4;
/// Seconds (of the time-stamp counter) that a load may take.
const LIMIT_SECONDS: u64 = 300;
const CHILD_SLOTS: u32 = 512;
const CHILD_TABLES: u32 = 32;
/// Tasks of one process.
const CHILD_TASKS: u32 = 80;
/// Exposure of the first server. If each CPU has a server, it is the exposure of their head, and
/// the entries follow it.
const FIRST_SERVER: u32 = 1;

/// The stage: holds what the loads run with.
pub struct Stage {
    /// Maker of all objects of one load.
    pub nursery: Nursery,
    pub shared: Shared,
    /// Notification that is raised when all clients are done.
    pub done: Notification,
    pub cpus: u64,
    /// Operations of each client.
    pub operations: u64,
    /// The load's tasks, which end after it.
    pub tasks: Vec<Task>,
}

/// The reason why a load has no figures.
pub enum LoadError {
    Spawn(SpawnError),
    Refused(&'static str, user_rt::Refusal),
    Wrong(u64),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Spawn(error) => error.fmt(f),
            LoadError::Refused(step, refusal) => write!(f, "{step}: {refusal}"),
            LoadError::Wrong(count) => write!(f, "{count} operations did not answer as they should"),
        }
    }
}

fn at<T>(step: &'static str, result: user_rt::Result<T>) -> Result<T, LoadError> {
    result.map_err(|refusal| LoadError::Refused(step, refusal))
}

/// Sums over all CPUs.
pub type Counters = [u64; Counter::ALL.len()];

/// The processes of a load.
struct Cast {
    client: Child,
    server: Child,
    next_index: u32,
}

impl Stage {
    /// Runs a load. Returns the kernel's counts on all CPUs during it.
    pub fn run(&mut self, image: &Image<'_>, load: &Load) -> Result<Counters, LoadError> {
        let outcome = self.run_tasks(image, load).map(|()| self.counters());
        at("ending the load's tasks", self.tasks.drain(..).try_for_each(|task| end(&task)))?;
        at("taking the load's objects away", self.nursery.reset())?;
        self.collect(load, outcome?)
    }

    fn run_tasks(&mut self, image: &Image<'_>, load: &Load) -> Result<(), LoadError> {
        let group: Group = at("making the group", self.nursery.make_group(4, self.cpus as u16 + 2))?;
        at("exposing the end", group.expose_notification(EXPOSURE_DONE, &self.done))?;
        let mut cast =
            Cast { client: self.child(image, &group)?, server: self.child(image, &group)?, next_index: 1 };
        for cpu in load.servers(self.cpus) {
            self.start_server(&mut cast, load, &group, cpu)?;
        }
        self.run_clients(&mut cast, load)
    }

    fn child(&mut self, image: &Image<'_>, group: &Group) -> Result<Child, LoadError> {
        let spec = ProcessSpec {
            image,
            vector: false,
            tasks: CHILD_TASKS,
            slots: CHILD_SLOTS,
            tables: CHILD_TABLES,
            with_file: false,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        let child = process(&mut self.nursery, &spec).map_err(LoadError::Spawn)?;
        at("sharing memory", self.shared.map_into(&child.vspace))?;
        let rights = Rights::SEND | Rights::NOTIFY | Rights::STRING;
        at("joining the group", child.join(group, slot::GROUPS, rights, 0))?;
        at("letting it count", child.give_machine(machine_rights::INFO, 0))?;
        Ok(child)
    }

    fn start_server(
        &mut self,
        cast: &mut Cast,
        load: &Load,
        group: &Group,
        cpu: u64,
    ) -> Result<(), LoadError> {
        let exposure = FIRST_SERVER + cpu as u32;
        if load.pattern == Pattern::Storm {
            return self.start_hearer(cast, load, group, exposure);
        }
        let server = self.add(cast, false, load, cpu, cpu)?;
        let exposed = match load.pattern {
            Pattern::PerCpu => group.expose_per_cpu(FIRST_SERVER, FIRST_SERVER + 1, &server.task),
            _ => group.expose_task(exposure, &server.task),
        };
        at("exposing a server", exposed)?;
        at("starting a server", server.task.resume())
    }

    /// Starts the receiver of a storm in the program's own process, which has the Notification.
    fn start_hearer(
        &mut self,
        cast: &mut Cast,
        load: &Load,
        group: &Group,
        exposure: u32,
    ) -> Result<(), LoadError> {
        let heard: Notification = at("making a Notification", self.nursery.make(0))?;
        at("exposing it", group.expose_notification(exposure, &heard))?;
        let spec = TaskSpec {
            index: cast.next_index,
            cpu: 0,
            priority: HEARER_PRIORITY,
            stack_pages: STACK_PAGES,
            run: Run::Function(load.server),
            argument: u64::from(heard.cap().0),
        };
        cast.next_index += 1;
        let made = at("making a task", Home::own(|home| task(&mut self.nursery, home, &spec)))?;
        self.tasks.push(made.task.again());
        at("starting a task", made.task.resume())
    }

    /// Makes one task of the client's or the server's process.
    fn add(
        &mut self,
        cast: &mut Cast,
        client: bool,
        load: &Load,
        cpu: u64,
        argument: u64,
    ) -> Result<Spawned, LoadError> {
        let spec = TaskSpec {
            index: cast.next_index,
            cpu: cpu as u32,
            priority: PRIORITY,
            stack_pages: STACK_PAGES,
            run: Run::Function(if client { load.client } else { load.server }),
            argument,
        };
        cast.next_index += 1;
        let home = if client { cast.client.home() } else { cast.server.home() };
        let made = at("making a task", task(&mut self.nursery, &home, &spec))?;
        self.tasks.push(made.task.again());
        Ok(made)
    }

    fn run_clients(&mut self, cast: &mut Cast, load: &Load) -> Result<(), LoadError> {
        let clients = load.clients(self.cpus);
        // Written before any client begins.
        for cpu in 0..self.cpus {
            Block::at(cpu).clear();
        }
        for cpu in clients.clone() {
            self.tell(load, cpu);
        }
        let mut made = Vec::new();
        for cpu in clients {
            made.push(self.add(cast, true, load, cpu, cpu)?);
        }
        for client in &made {
            at("starting a client", client.task.resume())?;
        }
        let deadline = arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz;
        at("waiting for the end", self.done.wait_until(deadline)).map(drop)
    }

    /// Writes a client's instructions to its block.
    fn tell(&self, load: &Load, cpu: u64) {
        let block = Block::at(cpu);
        let clients = load.clients(self.cpus);
        let exposure = match load.pattern {
            Pattern::PerCpu => FIRST_SERVER,
            _ => FIRST_SERVER + load.server_of(cpu, self.cpus) as u32,
        };
        block.set(Word::Target, Target::new(slot::GROUPS, exposure).0);
        block.set(Word::Operations, self.operations);
        block.set(Word::Parties, clients.end - clients.start);
        block.set(Word::Group, u64::from(slot::GROUPS.0));
        // The first client counts the CPUs that have no client.
        let first = if cpu == clients.start { 0 } else { cpu };
        block.set(Word::FirstCounted, first);
        block.set(Word::CountedCpus, cpu + 1 - first);
    }

    /// Reads the counters of all CPUs.
    fn counters(&self) -> Counters {
        Counter::ALL.iter().fold([0; Counter::ALL.len()], |mut sums, &counter| {
            let read = |cpu| own::machine().counter(cpu as u32, counter).unwrap_or(0);
            sums[counter as usize] = (0..self.cpus).map(read).sum();
            sums
        })
    }

    /// Collects the clients' results, and the counts since they began.
    fn collect(&self, load: &Load, mut counted: Counters) -> Result<Counters, LoadError> {
        let mut wrong = 0;
        for block in load.clients(self.cpus).map(Block::at) {
            wrong += block.get(Word::Wrong);
            for &counter in Counter::ALL {
                let before = block.counter(counter).load(Relaxed);
                counted[counter as usize] = counted[counter as usize].wrapping_sub(before);
            }
        }
        if wrong == 0 { Ok(counted) } else { Err(LoadError::Wrong(wrong)) }
    }
}
