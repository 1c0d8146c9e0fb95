//! The stage of scenarios: a pager, a store, a policy and workers, made for one scenario and
//! destroyed after it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use abi::{Error, MachineRights};
use guest_tests::board::Part as _;
use guest_tests::verdict::Failure;
use user_rt::arch::shared::Shared;
use user_rt::arch::{self, memory};
use user_rt::archive::Archive;
use user_rt::boot;
use user_rt::cap::{Frame, Group, Handle, Notification};
use user_rt::elf::Image;
use user_rt::ipc::{Message, Patience};
use user_rt::layout::stack_span;
use user_rt::paging::{
    self, Counts, Denial, Limits, Manager, PagerSetup, Service, ServiceSpec, Store, pager_slot,
};
use user_rt::spawn::{
    Child, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, end, own, process, task, task_on, unloaded,
};

use crate::block::{self, BLOCKS, Word};
use crate::worker::{Job, Outcome, worker};

/// Memory (as base-2 logarithm) and slots of one scenario.
pub const SCENARIO_LOG2: u8 = 26;
pub const SCENARIO_SLOTS: u32 = 3500;
/// The pagers' memory, and the store's.
const PAGER_LOG2: u8 = 22;
/// The second pager's memory: the first pager serves its heap.
const SECOND_LOG2: u8 = 21;
const STORE_LOG2: u8 = 22;
pub const STORE_SLOTS: u32 = 768;
const HEAP_PAGES: u16 = 450;
/// Frames that the second pager may hold for its heap.
const HEAP_FRAMES: u32 = 6;
/// The file that workers run: this program's own.
const WORKER: &str = "paging";
/// Priorities: servers above their clients, all below the program itself.
const PAGER_PRIORITY: u8 = 120;
const STORE_PRIORITY: u8 = 130;
const WORKER_PRIORITY: u8 = 100;
const STACK_PAGES: u32 = 6;
const WORKER_SLOTS: u32 = 256;
/// Each region needs page tables; so do the image, the task and the blocks.
const WORKER_TABLES: u32 = 24;
/// Seconds that a worker may take.
pub const LIMIT_SECONDS: u64 = 60;

pub type Result<T = ()> = core::result::Result<T, Failure>;

/// The programs of the archive that scenarios start.
pub struct Images<'a> {
    pager: Image<'a>,
    store: Image<'a>,
    policy: Image<'a>,
    worker: Image<'a>,
}

impl<'a> Images<'a> {
    pub fn load() -> Result<Images<'a>> {
        let archive = Archive::new(memory::archive()).map_err(|error| Failure::Of(format!("{error}")))?;
        let image = |name: &str| {
            let program =
                archive.program(name).ok_or_else(|| Failure::Of(format!("no {name} in the archive")))?;
            Image::parse(program.file).map_err(|error| Failure::Of(format!("{name}: {error}")))
        };
        // A pager serves the files of the archive.
        let mut pager = image("pager")?;
        pager.file = memory::archive();
        Ok(Images { pager, store: image("store")?, policy: image("oom")?, worker: image(WORKER)? })
    }
}

/// State of all scenarios.
pub struct Stage<'a> {
    pub nursery: Nursery,
    images: Images<'a>,
    shared: Shared,
    /// A Notification that is never raised.
    alarm: Notification,
    pub cpus: u32,
    /// Seed of a scenario's random numbers.
    pub seed: u64,
}

/// A pager with its store, its policy and its clients.
pub struct System {
    pub pager: Service,
    pub manager: Manager,
    store: Service,
    _policy: Service,
    windows: Vec<Frame>,
    pub workers: Vec<Worker>,
    group: Group,
}

/// A worker.
pub struct Worker {
    child: Child,
    pub first: Spawned,
    /// Its client number; its block has its index in [`System::workers`].
    pub client: u16,
}

/// Properties of a new worker.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub job: Job,
    pub cpu: u32,
    pub pages: u64,
    pub amount: u64,
    pub limits: Limits,
    /// Whether its image and its stack are the pager's, too.
    pub whole: bool,
}

/// How a worker ended, as seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Finished,
    Dead,
    Stuck,
}

impl<'a> Stage<'a> {
    /// Prepares the stage. Scenarios are made of memory of their own, `scenarios`.
    pub fn new(nursery: &mut Nursery, scenarios: Nursery, cpus: u32) -> Result<Stage<'a>> {
        let shared = Shared::new(nursery, block::PAGES)?;
        let alarm = nursery.make(0)?;
        Ok(Stage { nursery: scenarios, images: Images::load()?, shared, alarm, cpus, seed: 1 })
    }

    pub fn cpu(&self, wanted: u32) -> u32 {
        wanted % self.cpus
    }

    /// Makes a pager with that many frames, a store and a policy, all of them running.
    pub fn system(&mut self, frames: u32, slots: u32) -> Result<System> {
        let nursery = &mut self.nursery;
        let spec = |image, memory_log2, cpu: u32, priority| ServiceSpec {
            image,
            memory_log2,
            cpu: cpu % self.cpus,
            priority,
            channel: 0,
        };
        let mut windows = Vec::new();
        for _ in 0..2 {
            windows.push(nursery.make(paging::WINDOW_SIZE)?);
        }
        let store_spec = spec(&self.images.store, STORE_LOG2, 2, STORE_PRIORITY);
        let store = paging::store(nursery, &store_spec, slots, &windows)?;
        let policy = paging::policy(nursery, &spec(&self.images.policy, 0, 0, STORE_PRIORITY))?;
        let setup = PagerSetup { frames, heap_pages: HEAP_PAGES, paged: false };
        let pager_spec = spec(&self.images.pager, PAGER_LOG2, 1, PAGER_PRIORITY);
        let pager = paging::pager(nursery, &pager_spec, setup)?;
        paging::connect_store(&pager, &store, 1, &windows[0])?;
        paging::connect_policy(&pager, &policy, 1)?;
        let group = nursery.make_group(BLOCKS as u16 + 2, BLOCKS as u16)?;
        for service in [&store, &policy, &pager] {
            service.first.task.resume()?;
        }
        let of_second = u64::from(slots / 4);
        for (number, share) in [(1, u64::from(slots) - of_second), (2, of_second)] {
            Store::of(&store.group).allow(number, share)?;
        }
        let manager = Manager::of(&pager.group);
        Ok(System { pager, manager, store, _policy: policy, windows, workers: Vec::new(), group })
    }

    /// Makes a second pager, whose heap the system's pager serves. It serves clients of its own.
    pub fn second_pager(&mut self, system: &System, frames: u32) -> Result<(Service, Manager)> {
        let spec = ServiceSpec {
            image: &self.images.pager,
            memory_log2: SECOND_LOG2,
            cpu: self.cpu(2),
            priority: PAGER_PRIORITY - 5,
            channel: 0,
        };
        let setup = PagerSetup { frames, heap_pages: HEAP_PAGES, paged: true };
        let second = paging::pager(&mut self.nursery, &spec, setup)?;
        paging::connect_store(&second, &system.store, 2, &system.windows[1])?;
        let limits = Limits { frames: HEAP_FRAMES, pinned: 0, pages: u32::from(HEAP_PAGES) };
        paging::entrust(&system.pager, &second.child, SECOND)?;
        system.manager.register(SECOND, limits)?;
        second.first.task.resume()?;
        let manager = Manager::of(&second.group);
        Ok((second, manager))
    }

    /// Adds a worker, a client of the system's pager or of another, and starts it.
    pub fn worker(&mut self, system: &mut System, of: Option<(&Service, Manager)>, wanted: &Task) -> Result {
        let client = system.workers.len() as u16 + 1;
        let child = self.make_worker(wanted)?;
        let (pager, manager) = of.unwrap_or((&system.pager, system.manager));
        paging::entrust(pager, &child, client)?;
        manager.register(client, wanted.limits)?;
        self.start(system, manager, child, client, wanted)
    }

    /// Adds a worker in a part of another worker's account. Returns the reason if the pager denies
    /// that.
    pub fn worker_in(
        &mut self,
        system: &mut System,
        part: u16,
        of: u16,
        wanted: &Task,
    ) -> Result<core::result::Result<(), Denial>> {
        let child = self.make_worker(wanted)?;
        match paging::entrust_part(&system.pager, &child, part, of)? {
            Ok(manager) => self.start(system, manager, child, part, wanted).map(Ok),
            Err(denial) => Ok(Err(denial)),
        }
    }

    fn start(
        &mut self,
        system: &mut System,
        manager: Manager,
        child: Child,
        client: u16,
        wanted: &Task,
    ) -> Result {
        let number = system.workers.len() as u32;
        if wanted.whole {
            manager.place_image(client, WORKER, &self.images.worker)?;
            manager.place_stack(client, stack_span(0))?;
        }
        let first = self.first_task(&child, number, wanted)?;
        system.group.expose_task(number, &first.task)?;
        let block = block::of_worker(number);
        block.clear();
        for (word, value) in [
            (Word::Job, wanted.job as u64),
            (Word::Seed, 1000 * self.seed + u64::from(number)),
            (Word::Pages, wanted.pages),
            (Word::Amount, wanted.amount),
        ] {
            block.set(word, value);
        }
        first.task.resume()?;
        system.workers.push(Worker { child, first, client });
        Ok(())
    }

    fn make_worker(&mut self, wanted: &Task) -> Result<Child> {
        let spec = ProcessSpec {
            image: &self.images.worker,
            vector: false,
            tasks: 4,
            slots: WORKER_SLOTS,
            tables: WORKER_TABLES,
            with_file: false,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        let nursery = &mut self.nursery;
        let child = if wanted.whole { unloaded(nursery, &spec)? } else { process(nursery, &spec)? };
        self.shared.map_into(&child.vspace)?;
        child.give_machine(MachineRights::REPORT, 0)?;
        Ok(child)
    }

    fn first_task(&mut self, child: &Child, number: u32, wanted: &Task) -> Result<Spawned> {
        let first = TaskSpec {
            index: 0,
            cpu: self.cpu(wanted.cpu),
            priority: WORKER_PRIORITY,
            stack_pages: if wanted.whole { 0 } else { STACK_PAGES },
            run: Run::Function(worker),
            argument: number.into(),
        };
        let nursery = &mut self.nursery;
        Ok(if wanted.whole {
            task_on(nursery, &child.home(), &first, stack_span(0))?
        } else {
            task(nursery, &child.home(), &first)?
        })
    }

    /// Waits for some ticks.
    pub fn wait(&self, ticks: u64) {
        let until = arch::now() + ticks;
        while arch::now() < until {
            let _ = self.alarm.wait_until(until);
        }
    }

    /// Destroys all that a scenario made.
    pub fn reset(&mut self) -> Result {
        self.nursery.reset()?;
        Ok(())
    }
}

/// The second pager's client number at the first.
pub const SECOND: u16 = 40;

impl Worker {
    /// Destroys its process and its address space, without informing the pager.
    pub fn destroy(&self) -> Result {
        end(&self.first.task)?;
        for cap in [self.child.process.cap(), self.child.vspace.cap()] {
            own::cnode().revoke(cap)?;
            own::cnode().delete(cap)?;
        }
        Ok(())
    }
}

impl System {
    /// Takes the address space of a client from the pager.
    pub fn take_space(&self, client: u16) -> Result {
        Ok(self.pager.child.cnode.delete(pager_slot::vspace(client))?)
    }

    pub fn store(&self) -> Store {
        Store::of(&self.store.group)
    }

    pub fn kill_store(&self) -> Result {
        Ok(self.store.first.task.kill()?)
    }

    /// Waits until a worker answers a call, or has ended.
    pub fn end(&self, number: usize) -> End {
        self.end_within(number, LIMIT_SECONDS * boot::facts().tsc_hz)
    }

    pub fn end_within(&self, number: usize, ticks: u64) -> End {
        let patience = Patience::Until(arch::now() + ticks);
        match self.group.exposure(number as u32).call_within(&Message::default(), patience) {
            Ok(_) => End::Finished,
            Err(refusal) if matches!(refusal.error, Error::Dead | Error::NoExposure) => End::Dead,
            Err(_) => End::Stuck,
        }
    }

    pub fn counts(&self) -> Result<Counts> {
        Ok(self.manager.counts()?)
    }
}

/// Returns a worker's outcome.
pub fn outcome(number: usize) -> Option<Outcome> {
    Outcome::from_raw(block::of_worker(number as u32).get(Word::Outcome))
}

/// Describes a worker with a wrong outcome.
pub fn tell(number: usize) -> String {
    let block = block::of_worker(number as u32);
    let get = |word| block.get(word);
    format!(
        "worker {number}: {:?}, why {}, where {:#x}, found {:#x}, progress {}",
        outcome(number),
        get(Word::Why),
        get(Word::Where),
        get(Word::Found),
        get(Word::Progress)
    )
}
