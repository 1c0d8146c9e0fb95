//! The cast of a storm: processes, tasks on all CPUs, and the objects that they share. All of it is
//! made of one Untyped, so that one reset ends it.

use core::sync::atomic::Ordering::Relaxed;

use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::status::SchedEvent;
use abi::{Cap, MAP_POOL, MEMBER_RIGHTS, ObjType, Op, Target};
use kern_base::events::EventPool;
use kern_base::memory::Frame;

use super::deeds::{FIRST, PAGES};
use super::model::Model;
use crate::world::check::view;
use crate::world::make::{CONTROL, Proc};
use crate::world::{Regs, Tcb, World};

/// Slots of every process of the cast.
pub const GROUP: Cap = Cap(5);
pub const FIRST_REPLY: u32 = 10;
pub const FIRST_NOTE: u32 = 20;
pub const FIRST_TASK: u32 = 30;
/// Its event pool.
pub const POOL: Cap = Cap(8);
/// A process's own CNode, an Untyped, its VSpace, itself.
pub const OWN: Cap = Cap(1);
pub const MEMORY: Cap = Cap(2);
pub const SPACE: Cap = Cap(3);
pub const SELF: Cap = Cap(4);
/// The machine: to pin frames, and to make them of device memory.
pub const MACHINE: Cap = Cap(6);
/// Authority over CPU time.
pub const AUTHORITY: Cap = Cap(9);
/// A page of locks.
pub const LOCKS: Cap = Cap(60);
/// The space of another process, where there is one.
pub const OTHER: Cap = Cap(7);
/// Replies per CPU.
pub const REPLIES: usize = 2;
/// Spare SchedContexts per CPU.
pub const SPARES: usize = 2;
const MEMORY_LOG2: u64 = 20;
/// Pages of a pool in the beginning.
const POOLED: u64 = 3;
const POOL_VA: u64 = 0x7c00_0000;

pub struct Cast {
    pub world: World,
    pub model: Model,
    pub memory: Cap,
    pub processes: Vec<Proc>,
    pub tasks: Vec<Tcb>,
    /// By CPU, in process 1.
    pub replies: Vec<Cap>,
    pub notes: Vec<Cap>,
    /// CPU time of each CPU that is nobody's at first.
    pub spares: Vec<Vec<Cap>>,
    pub group: Cap,
    /// Where the page of locks is.
    pub locks: u64,
    /// Somebody writes anything into the page of locks.
    pub lies: bool,
    /// Most of what tasks do is with memory and capabilities, not messages.
    pub busy_with_memory: bool,
    /// CPU time comes and goes: it is deleted, made and given away all the time.
    pub poor: bool,
    /// A CPU that is long in noticing anything: its mail piles up.
    pub slow: Option<usize>,
    /// The pool that CPUs report to, if they do.
    pub watch: Option<Cap>,
    /// What the agent of each CPU is busy with.
    pub busy: Vec<Option<Op>>,
    /// What it does next.
    pub next: Vec<Option<Regs>>,
}

/// A small generator for what is fixed before the storm begins.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

impl Cast {
    pub fn new(cpus: usize, seed: u64) -> Cast {
        let mut dice = Dice(seed);
        let mut world = World::with_memory(cpus, 4 << 20);
        world.gate.fast = !seed.is_multiple_of(4);
        if dice.below(2) == 0 {
            world.gate.set_idle(smp::mailbox::Idle::Poll);
        }
        world.checked = false;
        let memory = world.make(0, ObjType::Untyped, MEMORY_LOG2);
        let group = world.make_of(0, memory, ObjType::Group, 8 | 32 << 16);
        let processes: Vec<Proc> = (0..1 + dice.below(2)).map(|_| world.process_of(memory, 12, 64)).collect();
        for process in &processes {
            world.join(group, *process, GROUP, MEMBER_RIGHTS, 7);
        }
        let mut cast = Cast {
            busy: vec![None; cpus],
            next: vec![None; cpus],
            world,
            model: Model::default(),
            memory,
            processes,
            tasks: Vec::new(),
            replies: Vec::new(),
            notes: Vec::new(),
            spares: Vec::new(),
            group,
            locks: 0,
            lies: seed.is_multiple_of(2),
            busy_with_memory: dice.below(3) == 0,
            poor: (seed >> 32).is_multiple_of(3),
            watch: None,
            slow: if dice.below(2) == 0 { Some(dice.below(cpus)) } else { None },
        };
        cast.make_tasks(&mut dice);
        cast.make_shared();
        cast.give_pools(&mut dice);
        cast.watch(&mut dice);
        cast.set_going(&mut dice);
        cast.world.checked = true;
        cast
    }

    fn make_tasks(&mut self, dice: &mut Dice) {
        for _ in 0..if self.poor { 6 } else { 3 + dice.below(4) } {
            let of = self.processes[dice.below(self.processes.len())];
            let n = dice.below(self.world.cpus());
            let priority = [10, 10, 20, 30][dice.below(4)];
            let own_time = dice.below(4) != 0 || self.tasks.is_empty();
            let task = self.world.task_of(self.memory, of, n, priority, own_time);
            self.tasks.push(task);
        }
    }

    /// Replies and Notifications on every CPU, and what tasks may do to each other.
    fn make_shared(&mut self) {
        for n in 0..self.world.cpus() {
            for _ in 0..REPLIES {
                self.replies.push(self.world.make_of(n, self.memory, ObjType::Reply, 0));
            }
            let note = self.world.make_of(n, self.memory, ObjType::Notification, 0);
            self.notes.push(note);
            let spares = (0..SPARES).map(|_| self.spare(n)).collect();
            self.spares.push(spares);
        }
        let locks = self.world.make_of(0, self.memory, ObjType::Frame, 12);
        self.locks = self.world.object::<Frame>(locks).map_or(0, |frame| frame.get().base().0);
        let spaces: Vec<Cap> = self.processes.iter().map(|process| process.vspace).collect();
        for (number, process) in self.processes.clone().into_iter().enumerate() {
            self.world.give(spaces[(number + 1) % spaces.len()], process, OTHER);
            self.fill_pool(process);
            let memory = self.world.make_of(0, self.memory, ObjType::Untyped, 16);
            self.world.give(process.cnode, process, OWN);
            self.world.must(0, Op::CapMove, &[memory.arg(), Target::new(process.cnode, MEMORY.0).0]);
            self.world.give(locks, process, LOCKS);
            self.world.give(process.vspace, process, SPACE);
            self.world.give(process.process, process, SELF);
            self.world.give(abi::INIT_MACHINE, process, MACHINE);
            self.world.give(abi::INIT_SCHED_CONTROL, process, AUTHORITY);
            for (i, reply) in self.replies.clone().into_iter().enumerate() {
                self.world.give(reply, process, Cap(FIRST_REPLY + i as u32));
            }
            for (i, note) in self.notes.clone().into_iter().enumerate() {
                self.world.give(note, process, Cap(FIRST_NOTE + i as u32));
            }
            for (i, task) in self.tasks.clone().into_iter().enumerate() {
                self.world.give(task.cap, process, Cap(FIRST_TASK + i as u32));
            }
        }
    }

    /// A process has some pages in its pool from the beginning.
    fn fill_pool(&mut self, process: Proc) {
        let frame = self.world.make_of(0, self.memory, ObjType::Frame, 12 | POOLED << 8);
        let how = MAP_POOL | 1;
        self.world.must(0, Op::Map, &[process.vspace.arg(), frame.arg(), PAGES, how]);
        self.world.must(0, Op::CapMove, &[frame.arg(), Target::new(process.cnode, FIRST).0]);
    }

    /// Most processes have an event pool, which some task of theirs reads.
    fn give_pools(&mut self, dice: &mut Dice) {
        for process in self.processes.clone() {
            let of = self.world.object::<kern_base::process::Process>(process.process);
            let of = of.map(|process| process.get().header.identity());
            let own: Vec<Tcb> = self.tasks.iter().copied().filter(|task| Some(task.of) == of).collect();
            if own.is_empty() || dice.below(4) == 0 {
                continue;
            }
            let reader = own[dice.below(own.len())];
            let pool = self.world.make_of(0, self.memory, ObjType::EventPool, 6);
            let args = [pool.arg(), process.process.arg(), reader.cap.arg(), POOL_VA, 1 << 40];
            self.world.must(0, Op::PoolBind, &args);
            self.world.give(pool, process, POOL);
            // Nearly full.
            let first = self.world.object::<EventPool>(pool).and_then(|pool| pool.get().pages().next());
            if let Some([head]) = first.map(|(at, _)| smp::host_test::words(at.at().0, 1)) {
                head.store(0u64.wrapping_sub(60), Relaxed);
            }
        }
    }

    /// In half of the storms all CPUs report to a policy's pool, in which most tasks are watched.
    fn watch(&mut self, dice: &mut Dice) {
        if dice.below(2) == 0 {
            return;
        }
        // Of other memory than the storm's, which has just room for what storms make.
        let process = self.world.process();
        let task = self.world.task_with(process, 0, 1, false);
        let size = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 };
        let pool = self.world.make(0, ObjType::EventPool, size.raw());
        let args = [pool.arg(), process.process.arg(), task.cap.arg(), POOL_VA, 1];
        self.world.must(0, Op::PoolBind, &args);
        for n in 0..self.world.cpus() {
            let machine = Target::new(abi::INIT_MACHINE, n as u32).0;
            self.world.must(0, Op::CpuWatch, &[machine, pool.arg(), n as u64]);
        }
        for task in self.tasks.clone() {
            if task.sc.0 != 0 && dice.below(4) != 0 {
                let events = u64::from(SchedEvent::MASK);
                self.world.must(0, Op::SchedWatch, &[task.sc.arg(), pool.arg(), 8, events]);
            }
        }
        self.watch = Some(pool);
    }

    /// CPU time that nobody has; some of it runs only on CPU `n`.
    fn spare(&mut self, n: usize) -> Cap {
        let sc = self.world.make_of(n, self.memory, ObjType::SchedContext, 0);
        let mut control = CONTROL;
        if sc.0.is_multiple_of(3) {
            control = self.world.control_of(n, self.memory, 255, 1 << n).arg();
        }
        self.world.must(n, Op::SchedConfigure, &[control, sc.arg(), 15, 1000]);
        sc
    }

    /// Exposes and starts the tasks; some get a Notification that is bound to them.
    fn set_going(&mut self, dice: &mut Dice) {
        for (i, task) in self.tasks.clone().into_iter().enumerate() {
            self.world.expose(self.group, i as u32, task.cap);
            if dice.below(3) == 0 && task.own_time() != 0 {
                let note = self.world.make_of(0, self.memory, ObjType::Notification, 0);
                self.world.must(0, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
                self.notes.push(note);
                for process in self.processes.clone() {
                    let slot = Cap(FIRST_NOTE + self.notes.len() as u32 - 1);
                    self.world.give(note, process, slot);
                }
            }
            self.model.add(task);
        }
        // Who handles whose faults: mostly somebody of the process, or another.
        let count = self.tasks.len();
        for of in self
            .processes
            .iter()
            .map(|p| p.process)
            .chain(self.tasks.iter().map(|t| t.cap))
            .collect::<Vec<_>>()
        {
            if dice.below(3) != 0 {
                let handler = self.target(dice.below(count)).0;
                self.world.must(0, Op::FaultHandler, &[of.arg(), handler]);
            }
        }
        for task in self.tasks.clone() {
            if dice.below(6) != 0 {
                self.world.resume(&task);
                self.world.run();
            }
        }
    }

    /// The word of a lock.
    pub fn lock_word(&self, number: u32) -> abi::LockWord {
        abi::LockWord(smp::host_test::words(self.locks + 8 * u64::from(number), 1)[0].load(Relaxed))
    }

    pub fn write_lock(&self, number: u32, word: abi::LockWord) {
        smp::host_test::words(self.locks + 8 * u64::from(number), 1)[0].store(word.0, Relaxed);
    }

    pub fn target(&self, task: usize) -> Target {
        Target::new(GROUP, task as u32)
    }

    /// Whether a CPU runs a task that the tasks of the cast have made: nobody judges those.
    pub fn runs_wild(&self, n: usize) -> bool {
        let known = |task| self.tasks.iter().any(|t| t.object == task);
        let agent = self.world.agent(n).object;
        self.world.current(n).is_some_and(|task| task != agent && !known(task))
    }

    pub fn index_of(&self, n: usize) -> Option<usize> {
        let current = self.world.current(n)?;
        self.tasks.iter().position(|t| t.object == current)
    }

    /// With nothing left to happen, no message is under way.
    fn nothing_is_lost(&self) {
        use kern_base::task::{Stage, State};
        for task in &self.tasks {
            let task = view(task.object);
            let lost = match task.state {
                State::AwaitRemote => !matches!(task.msg.stage(), Stage::Queued | Stage::Owed),
                State::Restart | State::Faulted => true,
                _ => false,
            };
            assert!(!lost, "{} waits for what never comes", task.name());
        }
        let in_lock = |task: &&Tcb| matches!(task.state(), State::Sending | State::AwaitRemote);
        for task in self.tasks.iter().filter(in_lock).filter(|_| !self.lies) {
            let args = task.regs();
            if args.rax as u8 == Op::LockWait as u8 {
                let now = self.lock_word(Target(args.rdx).index());
                assert_eq!(now, abi::LockWord(args.r8), "{task:?} waits for a lock that was passed on");
            }
        }
    }

    /// Everything is destroyed; all callers have been told, all memory is back.
    pub fn end(&mut self) {
        self.finish_agents();
        self.nothing_is_lost();
        for task in self.tasks.clone() {
            // The remaining tasks are killed one by one, and the others learn of it.
            if self.model.lives(task) {
                let killed = self.world.ask(0, Op::TaskKill, &[task.cap.arg()]);
                self.model.killed(task);
                assert!(killed.is_ok() || self.model.may_be_gone(task), "a task can't be killed: {killed:?}");
                self.world.run();
                self.look_at_all();
            }
        }
        self.look_at_all();
        self.model.nobody_waits();
        // Whatever is pinned.
        let reset = self.world.ask(0, Op::UntypedReset, &[self.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
        let Ok(regs) = reset else { panic!("the memory does not come back: {reset:?}") };
        assert_eq!(regs.rdi, 1 << MEMORY_LOG2, "memory that came back");
        self.world.run();
        let again = self.world.make_of(0, self.memory, ObjType::Frame, 12);
        self.world.must(0, Op::CapDelete, &[crate::world::make::at(again)]);
    }
}
