//! Scenarios: makes the tasks and processes of a row, runs them, destroys them.

use alloc::vec::Vec;
use core::fmt;

use abi::{Cap, Counter, Rights, Target, machine_rights};
use user_rt::arch;
use user_rt::arch::shared::Shared;
use user_rt::boot;
use user_rt::cap::{
    Access, CNode, EventPool, Frame, Group, Handle, Notification, Process, Task, Untyped, VSpace,
};
use user_rt::elf::Image;
use user_rt::events::Pool;
use user_rt::invoke::{copy, transfer};
use user_rt::layout::{FREE_SLOTS, slot, utcb_va};
use user_rt::spawn::{
    Child, Entry, Home, Nursery, ProcessSpec, Run, SpawnError, Spawned, StartIn, TaskSpec, end, own, process,
    task,
};

use crate::block::{Block, COUNTED_CPUS, EXPOSURE_DONE, When, Word};
use crate::carry::{COPY_VA, Carried, idle_server};
use crate::events::LISTENER_CELLS_LOG2;
use crate::roles::{MAP_VA, PAGER_LOG2, PAGER_SPACE, READY_BIT, chain_server, echo_server};
use crate::rows::{Behind, Cpus, Row, Spaces};

/// Priority of clients and servers, which take turns. It is below the bench's own.
const PRIORITY: u8 = 100;
const BACKGROUND_PRIORITY: u8 = 10;
const LOWEST_PRIORITY: u8 = 5;
const STACK_PAGES: u32 = 4;
/// Seconds (of the time-stamp counter) that a row may take.
const LIMIT_SECONDS: u64 = 60;
/// Slots and page tables of a process of a scenario.
const CHILD_SLOTS: u32 = 2048;
const CHILD_TABLES: u32 = 32;
/// Slots of a row's two Notifications, in both processes.
const NOTES: Cap = Cap(FREE_SLOTS + 64);
/// Page tables of a process that has only an event pool and a task's UTCB.
const LISTENER_TABLES: u64 = 8;
/// Places of tasks in an address space: servers, then clients, then the background task. Place 0
/// belongs to the bench's own first task.
const FIRST_INDEX: u32 = 1;

/// Settings of all rows.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub samples: u64,
    pub warmup: u64,
    pub trace: bool,
    pub seed: u64,
}

/// The stage: holds what the rows are measured with.
pub struct Stage {
    /// Maker of all objects of one row.
    pub nursery: Nursery,
    pub shared: Shared,
    /// Notification in which clients raise their bits.
    pub done: Notification,
    pub cpus: u64,
    /// Whether the machine has the device of [`crate::irqs`].
    pub has_device: bool,
    pub settings: Settings,
    /// The row's tasks, which end after it.
    pub tasks: Vec<Task>,
}

impl Stage {
    /// Waits for some seconds, in which no task raises a bit.
    pub fn pause(&self, seconds: u64) {
        let ticks = seconds.saturating_mul(boot::facts().tsc_hz);
        let _ = self.done.wait_until(arch::now().saturating_add(ticks));
    }

    fn end_tasks(&mut self) -> user_rt::Result<()> {
        self.tasks.drain(..).try_for_each(|task| end(&task))
    }
}

/// The result of a row.
#[derive(Default)]
pub struct Outcome {
    pub samples: Vec<u64>,
    pub overhead: u64,
    /// Counts of each CPU while the row was measured.
    pub counters: Vec<(u64, [u64; Counter::ALL.len()])>,
}

/// The reason why a row has no figures.
#[derive(Debug)]
pub enum RowError {
    Spawn(SpawnError),
    Refused(&'static str, user_rt::Refusal),
    /// Operation number, and message word of the answer.
    Wrong(u64, u64),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Spawn(error) => error.fmt(f),
            RowError::Refused(step, refusal) => write!(f, "{step}: {refusal}"),
            RowError::Wrong(number, info) => {
                write!(f, "operation {number} answered wrong, message word {info:#x}")
            }
        }
    }
}

impl core::error::Error for RowError {}

fn at<T>(step: &'static str, result: user_rt::Result<T>) -> Result<T, RowError> {
    result.map_err(|refusal| RowError::Refused(step, refusal))
}

/// Positions in a group and a CSpace: fixed, or drawn at random.
#[derive(Clone, Copy, Debug)]
struct Placement {
    members: u16,
    exposures: u16,
    /// Exposure of the first server.
    first_server: u32,
    /// Slot of the group in the processes of the row.
    slot: Cap,
}

impl Placement {
    fn plain(row: &Row, pairs: u64) -> Placement {
        let servers = pairs * (1 + u64::from(row.behind.count()));
        let exposures = row.exposures.max(servers as u16 + 1);
        Placement { members: 4, exposures, first_server: 1, slot: slot::GROUPS }
    }

    fn random(pairs: u64, random: &mut oorandom::Rand64) -> Placement {
        let exposures = pairs + 1 + random.rand_range(0..300);
        Placement {
            members: 3 + random.rand_range(0..300) as u16,
            exposures: exposures as u16,
            first_server: random.rand_range(1..exposures + 1 - pairs) as u32,
            // After the slots that tasks of the process may find occupied.
            slot: Cap(FREE_SLOTS
                + 64
                + random.rand_range(0..u64::from(CHILD_SLOTS - FREE_SLOTS - 64)) as u32),
        }
    }
}

/// Measures a row.
pub fn run(stage: &mut Stage, image: &Image<'_>, row: &Row) -> Result<Outcome, RowError> {
    let pairs = if row.cpus == Cpus::Every { stage.cpus } else { 1 };
    let mut outcome = Outcome::default();
    let times = if let Spaces::Shuffled { times } = row.spaces { times } else { 1 };
    let mut random = oorandom::Rand64::new(u128::from(stage.settings.seed));
    for _ in 0..times {
        let placement = match row.spaces {
            Spaces::Shuffled { .. } => Placement::random(pairs, &mut random),
            _ => Placement::plain(row, pairs),
        };
        let result = run_once(stage, image, row, pairs, &placement);
        at("ending the row's tasks", stage.end_tasks())?;
        at("taking the row's objects away", stage.nursery.reset())?;
        result?;
        for pair in 0..pairs {
            collect(Block::at(pair), &mut outcome)?;
        }
    }
    Ok(outcome)
}

fn run_once(
    stage: &mut Stage,
    image: &Image<'_>,
    row: &Row,
    pairs: u64,
    placement: &Placement,
) -> Result<(), RowError> {
    for pair in 0..pairs {
        prepare_block(stage, row, pair, pairs, placement);
    }
    if matches!(row.spaces, Spaces::Same) {
        // First: large memory has to begin at a multiple of its size.
        let memory: Untyped = at("making an Untyped", stage.nursery.make(row.memory_log2))?;
        Block::at(0).set(Word::Untyped, u64::from(memory.cap().0));
    }
    let members = placement.members + row.listeners as u16;
    let group: Group = at("making the group", stage.nursery.make_group(members, placement.exposures))?;
    at("exposing the end", group.expose_notification(EXPOSURE_DONE, &stage.done))?;
    let mut cast = Cast::new(stage, image, row, &group, placement)?;
    for pair in 0..pairs {
        let server_cpu = Block::at(pair).get(Word::ServerCpu) as u32;
        if let Some(entry) = row.server {
            let server = cast.add(stage, Side::Server, entry, pair, server_cpu)?;
            let exposure = placement.first_server + pair as u32;
            at("exposing a server", group.expose_task(exposure, &server.task))?;
            if let Some([client, _]) = cast.processes.as_ref().filter(|_| row.faults) {
                let handler = Target::new(placement.slot, exposure);
                at("naming the handler", client.process.fault_handler(Some(handler)))?;
            }
            Block::at(pair).set(Word::TaskServer, u64::from(server.task.cap().0));
            Block::at(pair).set(Word::Time, u64::from(server.sched.cap().0));
            set_slice(row, &server)?;
            at("starting a server", server.task.resume())?;
        }
        for number in 0..row.behind.count() {
            let (side, entry) = match row.behind {
                Behind::Server(entry) => (Side::Server, entry),
                _ if number + 1 == row.behind.count() => (Side::of_link(number), echo_server as Entry),
                _ => (Side::of_link(number), chain_server as Entry),
            };
            // A server of a chain finds the next one by its number.
            let argument = pair | u64::from(number + 1) << 32;
            let behind = cast.add(stage, side, entry, argument, server_cpu)?;
            let exposure = placement.first_server + pairs as u32 * (number + 1) + pair as u32;
            at("exposing the server behind", group.expose_task(exposure, &behind.task))?;
            at("starting the server behind", behind.task.resume())?;
        }
        if row.cpus == Cpus::Around
            && let Some(entry) = row.server
        {
            for cpu in 2..stage.cpus as u32 {
                let more = cast.add(stage, Side::Server, entry, pair, cpu)?;
                at("starting a server", more.task.resume())?;
            }
        }
        if row.seen {
            let idle = cast.add(stage, Side::Client, idle_server, pair, 1)?;
            at("starting another task", idle.task.resume())?;
        }
        if let Some((entry, tasks)) = row.beside {
            for _ in 0..tasks {
                let beside = cast.add(stage, Side::Client, entry, pair, 0)?;
                at("starting a task beside", beside.task.resume())?;
            }
        }
        if let Some(entry) = row.lowest {
            let lowest = cast.add(stage, Side::Lowest, entry, pair, server_cpu)?;
            at("starting the task of the lowest priority", lowest.task.resume())?;
        }
        if let Some(entry) = row.background {
            let background = cast.add(stage, Side::Background, entry, pair, server_cpu)?;
            Block::at(pair).set(Word::Time, u64::from(background.sched.cap().0));
            Block::at(pair).set(Word::Background, u64::from(background.task.cap().0));
            at("starting the background", background.task.resume())?;
        }
    }
    if row.server_reports {
        wait_for(stage, 1 << READY_BIT)?;
    }
    cast.run_clients(stage, row, pairs)
}

/// Writes a client's instructions to its block.
fn prepare_block(stage: &Stage, row: &Row, pair: u64, pairs: u64, placement: &Placement) {
    let block = Block::at(pair);
    block.clear();
    let (client_cpu, server_cpu) = match row.cpus {
        Cpus::Local => (0, 0),
        Cpus::Cross => (0, 1),
        Cpus::Every => (pair, pair),
        Cpus::Around => (0, 1),
    };
    block.set(Word::Carried, row.carried.map_or(0, Carried::word));
    let samples = match row.spaces {
        Spaces::Shuffled { times } => stage.settings.samples.div_ceil(u64::from(times)),
        _ => stage.settings.samples,
    };
    block.set(Word::Samples, samples.min(row.samples_max));
    block.set(Word::Warmup, stage.settings.warmup.min(row.samples_max));
    block.set(Word::Trace, u64::from(stage.settings.trace));
    block.set(Word::Server, u64::from(placement.first_server) + pair);
    block.set(Word::Listeners, row.listeners);
    block.set(Word::DoneBit, pair);
    block.set(Word::ClientCpu, client_cpu);
    block.set(Word::ServerCpu, server_cpu);
    let parties = match row.cpus {
        Cpus::Around => stage.cpus,
        _ if row.seen => 2,
        _ => pairs,
    };
    block.set(Word::Parties, parties);
}

/// Waits until all these bits have been raised.
fn wait_for(stage: &Stage, wanted: u64) -> Result<(), RowError> {
    let deadline = arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz;
    let mut seen = 0;
    while seen & wanted != wanted {
        seen |= at("waiting for the row's end", stage.done.wait_until(deadline))?;
    }
    Ok(())
}

/// The part of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Server,
    Client,
    Background,
    /// Below the background.
    Lowest,
}

impl Side {
    /// Returns the process of a server in a chain, by its number behind the first one.
    fn of_link(number: u32) -> Side {
        if number.is_multiple_of(2) { Side::Client } else { Side::Server }
    }
}

/// The processes of a row.
struct Cast {
    /// The client's process and the server's; `None`: the bench's own.
    processes: Option<[Child; 2]>,
    next_index: u32,
}

impl Cast {
    fn new(
        stage: &mut Stage,
        image: &Image<'_>,
        row: &Row,
        group: &Group,
        placement: &Placement,
    ) -> Result<Cast, RowError> {
        let processes = match row.spaces {
            Spaces::Same => {
                prepare_own(stage, row, group)?;
                for _ in 0..row.listeners {
                    at("making a process that listens", listener(stage, group))?;
                }
                None
            }
            Spaces::Two { vector } => {
                let both = two_processes(stage, image, vector, group, placement)?;
                if let Some(carried) = row.carried {
                    at("making pages to send", give_pages(stage, &both[0], carried))?;
                }
                if row.maps {
                    at("giving the server memory", give_memory(stage, &both))?;
                }
                if row.notes {
                    at("giving both Notifications", give_notes(stage, &both))?;
                }
                Some(both)
            }
            Spaces::Shuffled { .. } => Some(two_processes(stage, image, [false; 2], group, placement)?),
        };
        Ok(Cast { processes, next_index: FIRST_INDEX })
    }

    /// Makes one task.
    fn add(
        &mut self,
        stage: &mut Stage,
        side: Side,
        entry: Entry,
        pair: u64,
        cpu: u32,
    ) -> Result<Spawned, RowError> {
        let priority = match side {
            Side::Server | Side::Client => PRIORITY,
            Side::Background => BACKGROUND_PRIORITY,
            Side::Lowest => LOWEST_PRIORITY,
        };
        let spec = TaskSpec {
            index: self.next_index,
            cpu,
            priority,
            stack_pages: STACK_PAGES,
            run: Run::Function(entry),
            argument: pair,
        };
        self.next_index += 1;
        let made = match &self.processes {
            None => Home::own(|home| task(&mut stage.nursery, home, &spec)),
            Some([client, server]) => {
                let child = if side == Side::Client { client } else { server };
                task(&mut stage.nursery, &child.home(), &spec)
            }
        };
        let made = at("making a task", made)?;
        stage.tasks.push(made.task.again());
        Ok(made)
    }

    fn run_clients(&mut self, stage: &mut Stage, row: &Row, pairs: u64) -> Result<(), RowError> {
        let mut clients = Vec::new();
        for pair in 0..pairs {
            let cpu = Block::at(pair).get(Word::ClientCpu) as u32;
            let client = self.add(stage, Side::Client, row.client, pair, cpu)?;
            Block::at(pair).set(Word::TaskClient, u64::from(client.task.cap().0));
            set_slice(row, &client)?;
            if row.budget {
                let window = boot::facts().tsc_hz / 100;
                let set = client.sched.configure_budget(PRIORITY, window, window, window);
                at("giving the client's time a budget", set)?;
            }
            clients.push(client);
        }
        for client in &clients {
            at("starting a client", client.task.resume())?;
        }
        wait_for(stage, u64::MAX >> (64 - pairs))
    }
}

/// Gives a task slices of the row's length, if it has one.
fn set_slice(row: &Row, made: &Spawned) -> Result<(), RowError> {
    if row.slice == 0 {
        return Ok(());
    }
    at("setting a slice", made.sched.configure(PRIORITY, row.slice))
}

/// For rows within the bench's own process: makes Notifications, or prepares the slot in which a
/// server on another CPU makes its own.
fn prepare_own(stage: &mut Stage, row: &Row, group: &Group) -> Result<(), RowError> {
    let block = Block::at(0);
    block.set(Word::Group, u64::from(group.cap().0));
    let waits: Notification = at("making a Notification", stage.nursery.make(0))?;
    block.set(Word::NoteClient, u64::from(waits.cap().0));
    let server_waits = if row.server_reports {
        at("finding a slot", stage.nursery.take_slot())?
    } else {
        at("making a Notification", stage.nursery.make::<Notification>(0))?.cap()
    };
    block.set(Word::NoteServer, u64::from(server_waits.0));
    let slots = at("finding slots", stage.nursery.take_slots(row.slots))?;
    block.set(Word::Slots, u64::from(slots.0));
    if row.pages > 0 {
        let frame: Frame = at("making a frame", stage.nursery.make(12 | row.pages << 8))?;
        block.set(Word::Frame, u64::from(frame.cap().0));
    }
    Ok(())
}

/// Makes a process that listens in a group, and whose events no task reads.
fn listener(stage: &mut Stage, group: &Group) -> user_rt::Result<()> {
    let nursery = &mut stage.nursery;
    let (cnode, vspace): (CNode, VSpace) = (nursery.make(16)?, nursery.make(LISTENER_TABLES)?);
    let process: Process = nursery.make(1)?;
    process.configure(&cnode, &vspace, false)?;
    let task: Task = nursery.make(0)?;
    task.configure(&process, utcb_va(0), 0)?;
    let pool: EventPool = nursery.make(u64::from(LISTENER_CELLS_LOG2))?;
    Pool::bind(pool, LISTENER_CELLS_LOG2, &process, &task, MAP_VA, 1)?;
    process.accept(Cap(1), group)?;
    group.add(&process, Rights::LISTEN, 0)?;
    Ok(())
}

/// Maps pages for the client to send, or to copy.
fn give_pages(stage: &mut Stage, client: &Child, carried: Carried) -> user_rt::Result<()> {
    let log2 = u64::from(if carried.large { abi::LARGE_PAGE_LOG2 } else { abi::PAGE_LOG2 });
    let size = if carried.large { log2 } else { log2 | carried.pages << 8 };
    let frame: Frame = stage.nursery.make(size)?;
    if carried.mode.is_some() {
        return client.vspace.map_pool(&frame, MAP_VA);
    }
    client.vspace.map(&frame, MAP_VA, Access::Write)?;
    let copy: Frame = stage.nursery.make(size)?;
    client.vspace.map(&copy, COPY_VA, Access::Write)
}

/// Gives the server memory, and a capability to the client's address space.
fn give_memory(stage: &mut Stage, [client, server]: &[Child; 2]) -> user_rt::Result<()> {
    let memory: Untyped = stage.nursery.make(PAGER_LOG2)?;
    transfer(memory, server.cnode.slot(slot::UNTYPED))?;
    copy(&client.vspace, server.cnode.slot(PAGER_SPACE), Rights::MAP, 0)
}

/// Gives each process a Notification, and a capability to the other's.
fn give_notes(stage: &mut Stage, both: &[Child; 2]) -> user_rt::Result<()> {
    for (word, place) in [(Word::NoteClient, NOTES), (Word::NoteServer, Cap(NOTES.0 + 1))] {
        let note: Notification = stage.nursery.make(0)?;
        for child in both {
            copy(&note, child.cnode.slot(place), Rights::ALL, 0)?;
        }
        Block::at(0).set(word, u64::from(place.0));
    }
    Ok(())
}

fn two_processes(
    stage: &mut Stage,
    image: &Image<'_>,
    vector: [bool; 2],
    group: &Group,
    placement: &Placement,
) -> Result<[Child; 2], RowError> {
    let spec = |vector| ProcessSpec {
        image,
        vector,
        tasks: 64,
        slots: CHILD_SLOTS,
        tables: CHILD_TABLES,
        with_file: false,
        untyped_log2: &[],
        groups: StartIn::None,
        line: None,
    };
    let mut make = |vector| -> Result<Child, RowError> {
        let child = process(&mut stage.nursery, &spec(vector)).map_err(RowError::Spawn)?;
        at("sharing memory", stage.shared.map_into(&child.vspace))?;
        let rights = Rights::SEND | Rights::NOTIFY | Rights::STRING | Rights::MAP | Rights::GRANT;
        at("joining the group", child.join(group, placement.slot, rights, 0))?;
        at("letting it count", child.give_machine(machine_rights::INFO, 0))?;
        at("giving it authority", child.give_sched_control(&own::sched_control()))?;
        Ok(child)
    };
    let both = [make(vector[0])?, make(vector[1])?];
    for pair in 0..stage.cpus {
        Block::at(pair).set(Word::Group, u64::from(placement.slot.0));
    }
    Ok(both)
}

/// Adds a client's results to the row's outcome.
fn collect(block: Block, outcome: &mut Outcome) -> Result<(), RowError> {
    let wrong = block.get(Word::Wrong);
    if wrong != 0 {
        return Err(RowError::Wrong(wrong - 1, block.get(Word::WrongInfo)));
    }
    outcome.samples.extend(block.samples());
    outcome.overhead = block.get(Word::Overhead);
    let cpus = [block.get(Word::ClientCpu), block.get(Word::ServerCpu)];
    for (place, cpu) in cpus.into_iter().enumerate() {
        if place > 0 && cpu == cpus[0] {
            continue;
        }
        let known = outcome.counters.iter().position(|(counted, _)| *counted == cpu);
        let index = known.unwrap_or_else(|| {
            outcome.counters.push((cpu, [0; Counter::ALL.len()]));
            outcome.counters.len() - 1
        });
        for &counter in Counter::ALL {
            outcome.counters[index].1[counter as usize] += counted(block, place, counter, cpus[0] == cpu);
        }
    }
    Ok(())
}

/// Returns the increase of one counter, without the client's own readings of counters.
fn counted(block: Block, place: usize, counter: Counter, own: bool) -> u64 {
    use core::sync::atomic::Ordering::Relaxed;
    let read = |when| block.counter(when, place, counter).load(Relaxed);
    let gained = read(When::After).wrapping_sub(read(When::Before));
    // Between two readings of one counter, the client makes one system call for each reading.
    let readings = if own && counter == Counter::SlowEntry { COUNTED_CPUS * Counter::ALL.len() } else { 0 };
    gained.saturating_sub(readings as u64)
}
