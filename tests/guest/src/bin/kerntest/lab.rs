//! The lab: processes and puppets, made for a test and destroyed after it.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::{Acquire, Release};
use core::sync::atomic::fence;

use abi::{Cap, Error, MEMBER_RIGHTS, MachineRights, Op, Rights, Target, TaskId, machine_rights};
use guest_tests::board::Part as _;
use user_rt::arch::shared::Shared;
use user_rt::arch::{self, Answer, Args};
use user_rt::cap::{Group, Handle, Notification, SchedContext, Task, Untyped};
use user_rt::elf::Image;
use user_rt::invoke::transfer;
use user_rt::layout::{FREE_SLOTS, slot};
use user_rt::spawn::{
    Child, Entry, Home, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, end, own, process, task,
};
use user_rt::{boot, heap};

use crate::block::{self, Block, Word};
use crate::expect_eq;
use crate::puppet::{EXPOSURE_COMMANDS, EXPOSURE_DONE, puppet};
use crate::quiet::Idlers;
use crate::suite::Failure;

/// Most puppets of a test.
pub const PUPPETS_MAX: u32 = 48;
/// Memory (as base-2 logarithm) and slots for one test.
const TEST_LOG2: u8 = 25;
const TEST_SLOTS: u32 = 3000;
const HEAP_PAGES: u32 = 128;
/// Seconds that a puppet may take to carry out a command.
const LIMIT_SECONDS: u64 = 20;
/// Slots of a test's process: the group that directs it, the tested group, its puppets' Untypeds
/// and Notifications, then empty slots.
pub const CHILD_SLOTS: u32 = 512;
const CHILD_CONTROL: Cap = slot::GROUPS;
pub const CHILD_GROUP: Cap = Cap(slot::GROUPS.0 + 1);
const CHILD_UNTYPED: u32 = FREE_SLOTS + 128;
const CHILD_NOTE: u32 = CHILD_UNTYPED + 64;
pub const CHILD_FREE: u32 = CHILD_NOTE + 64;
const STACK_PAGES: u32 = 4;
/// Priority of puppets unless a test says otherwise: below the director's own.
pub const PRIORITY: u8 = 100;

/// A process of a test: this program's own, or one made for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Own,
    Child(usize),
}

pub struct Lab<'a> {
    /// Maker of all objects of a test.
    pub nursery: Nursery,
    pub image: &'a Image<'a>,
    pub cpus: u32,
    pub children: Vec<Child>,
    groups: Option<Groups>,
    shared: Shared,
    done: Notification,
    idlers: Idlers,
    puppets: u32,
    tasks: Vec<Task>,
    next_index: u32,
    /// Whether the test has tasks that are always busy.
    pub busy: bool,
}

/// The groups of a test.
struct Groups {
    /// The group that directs puppets.
    control: Group,
    /// The tested group, with puppet `n` at exposure `n + 1`.
    tested: Group,
}

/// A task that makes system calls on command.
pub struct Puppet {
    pub number: u32,
    pub task: Task,
    pub sched: SchedContext,
    pub id: TaskId,
    pub place: Place,
    /// Slot of the tested group in its CSpace.
    pub group: Cap,
}

/// Properties of a new puppet.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub place: Place,
    pub cpu: u32,
    pub priority: u8,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { place: Place::Own, cpu: 0, priority: PRIORITY }
    }
}

/// The result of a puppet's system call.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub answer: Answer,
    /// Registers that should be zero, ORed.
    pub dirt: u64,
}

impl Shown {
    /// Returns the error, if the call was refused.
    pub fn error(&self) -> Option<Error> {
        self.answer.info.status().err()
    }
}

impl<'a> Lab<'a> {
    pub fn new(image: &'a Image<'a>) -> user_rt::Result<Lab<'a>> {
        let mut nursery = Nursery::of_program(0);
        heap::add(&own::vspace(), &mut nursery, HEAP_PAGES)?;
        let shared = Shared::new(&mut nursery, block::PAGES)?;
        let done: Notification = nursery.make(0)?;
        let cpus = boot::facts().cpus as u32;
        let idlers = Idlers::new(&mut nursery, &shared, cpus, &done)?;
        let nursery = nursery.split(TEST_LOG2, TEST_SLOTS)?;
        Ok(Lab {
            nursery,
            image,
            cpus,
            children: Vec::new(),
            groups: None,
            shared,
            done,
            idlers,
            puppets: 0,
            tasks: Vec::new(),
            next_index: 1,
            busy: false,
        })
    }

    /// Destroys all that the test made.
    pub fn reset(&mut self) -> user_rt::Result<()> {
        self.children.clear();
        self.groups = None;
        self.puppets = 0;
        self.next_index = 1;
        self.busy = false;
        for task in self.tasks.drain(..) {
            end(&task)?;
        }
        self.nursery.reset()?;
        Ok(())
    }

    /// Destroys all that the test made without ending tasks first: they end with their memory.
    /// Requires: none of these tasks is in this process.
    pub fn reset_roughly(&mut self) -> user_rt::Result<()> {
        self.tasks.clear();
        self.reset()
    }

    /// Returns the Notification that informs the director.
    pub fn done(&self) -> &Notification {
        &self.done
    }

    fn groups(&mut self) -> Result<&Groups, Failure> {
        if self.groups.is_none() {
            let control = self.nursery.make_group(16, PUPPETS_MAX as u16 + 1)?;
            control.expose_notification(EXPOSURE_DONE, &self.done)?;
            let tested = self.nursery.make_group(16, PUPPETS_MAX as u16 + 16)?;
            self.groups = Some(Groups { control, tested });
        }
        self.groups.as_ref().ok_or_else(|| Failure::Of("no groups".into()))
    }

    /// Returns the tested group.
    pub fn group(&mut self) -> Result<Group, Failure> {
        Ok(self.groups()?.tested.again())
    }

    /// Makes a process of this image, a member of the tested group with all rights.
    pub fn process(&mut self, vector: bool) -> Result<Place, Failure> {
        self.process_with(vector, MEMBER_RIGHTS, 0)
    }

    /// Makes a process of this image, a member with these rights and custom bits.
    pub fn process_with(&mut self, vector: bool, rights: Rights, custom: u16) -> Result<Place, Failure> {
        let index = self.process_alone(vector)?;
        self.groups()?;
        if let Some(groups) = &self.groups {
            let child = &self.children[index];
            child.join(&groups.control, CHILD_CONTROL, MEMBER_RIGHTS, 0)?;
            child.join(&groups.tested, CHILD_GROUP, rights, custom)?;
        }
        Ok(Place::Child(index))
    }

    /// Makes a process of this image that is in no group: it can have no puppets.
    pub fn process_alone(&mut self, vector: bool) -> Result<usize, Failure> {
        let spec = ProcessSpec {
            image: self.image,
            vector,
            tasks: 64,
            slots: CHILD_SLOTS,
            tables: 32,
            with_file: false,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        let child = process(&mut self.nursery, &spec)?;
        self.shared.map_into(&child.vspace)?;
        child.give_machine(MachineRights::REPORT | machine_rights::INFO | machine_rights::DUMP, 0)?;
        child.give_sched_control(&own::sched_control())?;
        self.children.push(child);
        Ok(self.children.len() - 1)
    }

    /// Returns a process of the test, as its maker sees it.
    pub fn child(&self, place: Place) -> Result<&Child, Failure> {
        match place {
            Place::Child(index) => Ok(&self.children[index]),
            Place::Own => Err(Failure::Of("the own process is nobody's child".into())),
        }
    }

    /// Makes a task that runs `entry`, not yet resumed.
    pub fn task(&mut self, wanted: &Wanted, entry: Entry, argument: u64) -> Result<Spawned, Failure> {
        let spec = TaskSpec {
            index: self.next_index,
            cpu: wanted.cpu,
            priority: wanted.priority,
            stack_pages: STACK_PAGES,
            run: Run::Function(entry),
            argument,
        };
        self.next_index += 1;
        let made = match wanted.place {
            Place::Own => Home::own(|home| task(&mut self.nursery, home, &spec)),
            Place::Child(child) => task(&mut self.nursery, &self.children[child].home(), &spec),
        }?;
        self.tasks.push(made.task.again());
        Ok(made)
    }

    /// Makes a puppet, ready for commands and exposed in the tested group.
    pub fn puppet(&mut self, wanted: &Wanted) -> Result<Puppet, Failure> {
        self.puppet_with(wanted, |_| Ok(()))
    }

    /// Makes a puppet, and prepares its task before the task first runs.
    pub fn puppet_with(
        &mut self,
        wanted: &Wanted,
        prepare: impl FnOnce(&Task) -> user_rt::Result<()>,
    ) -> Result<Puppet, Failure> {
        let number = self.puppets;
        assert!(number < PUPPETS_MAX, "a test with too many puppets");
        self.puppets += 1;
        let Spawned { task, sched, id } = self.task(wanted, puppet, u64::from(number))?;
        let memory: Untyped = self.nursery.make(12)?;
        let groups = self.groups()?;
        groups.tested.expose_task(number + 1, &task)?;
        let (control, tested) = (groups.control.cap(), groups.tested.cap());
        let (control, tested, untyped, note) = match wanted.place {
            Place::Own => (control, tested, memory.cap(), self.nursery.take_slot()?),
            Place::Child(child) => {
                let (untyped, note) = (Cap(CHILD_UNTYPED + number), Cap(CHILD_NOTE + number));
                transfer(memory, self.children[child].cnode.slot(untyped))?;
                (CHILD_CONTROL, CHILD_GROUP, untyped, note)
            }
        };
        let block = Block::at(number);
        block.clear();
        for (word, slot) in [(Word::Control, control), (Word::Untyped, untyped), (Word::Note, note)] {
            block.set(word, u64::from(slot.0));
        }
        prepare(&task)?;
        task.resume()?;
        self.wait_until(|| block.get(Word::Ready) != 0, || format!("puppet {number} did not come up"))?;
        let made = Puppet { number, task, sched, id, place: wanted.place, group: tested };
        let shown = self.run(&made, &Args::new(Op::WhoAmI))?;
        expect_eq!((shown.answer.rdi, shown.answer.rsi), (id.raw(), u64::from(wanted.cpu)), "who it is");
        Ok(made)
    }

    /// Waits until a condition holds. Puppets that finish a command wake the director.
    fn wait_until(
        &self,
        so: impl Fn() -> bool,
        otherwise: impl Fn() -> alloc::string::String,
    ) -> Result<(), Failure> {
        let deadline = arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz;
        while !so() {
            if self.done.wait_until(deadline).is_err() {
                return Err(Failure::Of(otherwise()));
            }
            fence(Acquire);
        }
        Ok(())
    }

    /// Tells a puppet to make a system call.
    pub fn ask(&self, puppet: &Puppet, args: &Args) -> Result<(), Failure> {
        let block = Block::at(puppet.number);
        block.set_args(args);
        block.set(Word::Sent, 0);
        self.start(puppet)
    }

    /// Tells a puppet to make a system call, with words in its UTCB.
    pub fn ask_with_words(&self, puppet: &Puppet, args: &Args, words: &[u64]) -> Result<(), Failure> {
        let block = Block::at(puppet.number);
        block.set_args(args);
        for (to, from) in block.sent.iter().zip(words) {
            to.store(*from, core::sync::atomic::Ordering::Relaxed);
        }
        block.set(Word::Sent, words.len() as u64);
        self.start(puppet)
    }

    /// Tells a puppet to make a system call, after it overwrites all of the kernel's words in its
    /// UTCB.
    pub fn ask_with_scribble(&self, puppet: &Puppet, args: &Args) -> Result<(), Failure> {
        Block::at(puppet.number).set(Word::Scribble, 1);
        self.ask(puppet, args)
    }

    fn start(&self, puppet: &Puppet) -> Result<(), Failure> {
        let block = Block::at(puppet.number);
        fence(Release);
        block.set(Word::Asked, block.get(Word::Asked) + 1);
        let Some(groups) = &self.groups else { return Err(Failure::Of("no puppets".into())) };
        groups.control.exposure(EXPOSURE_COMMANDS + puppet.number).notify(1)?;
        Ok(())
    }

    /// Whether the puppet has carried out its command.
    pub fn is_through(&self, puppet: &Puppet) -> bool {
        let block = Block::at(puppet.number);
        let through = block.get(Word::Finished) == block.get(Word::Asked);
        fence(Acquire);
        through
    }

    /// Waits for a system call to return, and returns its result.
    pub fn answer(&self, puppet: &Puppet) -> Result<Shown, Failure> {
        let block = Block::at(puppet.number);
        let op = abi::Op::from_raw(block.args().info.0 as u8);
        let what = || format!("puppet {} does not come back from {op:?}", puppet.number);
        self.wait_until(|| self.is_through(puppet), what)?;
        Ok(Shown { answer: block.answer(), dirt: block.get(Word::Dirt) })
    }

    /// Tells a puppet to make a system call, and returns its result.
    pub fn run(&self, puppet: &Puppet, args: &Args) -> Result<Shown, Failure> {
        self.ask(puppet, args)?;
        self.answer(puppet)
    }

    /// Lets all other tasks run until they have nothing to do. In a test with tasks that are always
    /// busy, lets them run for a hundredth of a second.
    pub fn settle(&self) {
        let second = boot::facts().tsc_hz;
        let patience = if self.busy { second / 100 } else { LIMIT_SECONDS * second };
        self.idlers.quiet(&self.done, arch::now() + patience);
    }

    /// Lets all other tasks run for `ticks`.
    pub fn sleep(&self, ticks: u64) {
        let deadline = arch::now() + ticks;
        while arch::now() < deadline {
            let _ = self.done.wait_until(deadline);
        }
    }

    /// Waits until a condition holds, of which no Notification tells.
    pub fn until(&self, what: &str, so: impl Fn() -> bool) -> Result<(), Failure> {
        for _ in 0..20_000 {
            if so() {
                return Ok(());
            }
            self.sleep(200_000);
        }
        Err(Failure::Of(alloc::format!("never: {what}")))
    }

    /// Fails if a puppet that should be blocked returns.
    pub fn stays_blocked(&self, puppet: &Puppet) -> Result<(), Failure> {
        self.settle();
        if !self.is_through(puppet) {
            return Ok(());
        }
        let shown = Block::at(puppet.number).answer();
        Err(Failure::Of(format!("puppet {} should be blocked, came back with {shown:?}", puppet.number)))
    }

    /// Returns the target at which `from` reaches `to`.
    pub fn target(&self, from: &Puppet, to: &Puppet) -> Target {
        Target::new(from.group, to.number + 1)
    }

    /// Returns the words of `puppet`'s UTCB after its system call.
    pub fn words(&self, puppet: &Puppet) -> [u64; abi::MSG_UTCB_WORDS] {
        let got = &Block::at(puppet.number).got;
        core::array::from_fn(|index| got[index].load(core::sync::atomic::Ordering::Relaxed))
    }
}
