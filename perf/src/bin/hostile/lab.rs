//! The victims' side: makes processes, tasks and what attackers are given.

use abi::{Cap, Rights, frame_rights, machine_rights};
use user_rt::arch::{self, memory, shared::Shared};
use user_rt::cap::{Access, CNode, Group, Handle, Notification, SchedControl, Task, Untyped};
use user_rt::elf::Image;
use user_rt::invoke::{copy, start_regs, transfer};
use user_rt::layout::{DEVICES_VA, PROGRAM_SLOTS, slot};
use user_rt::spawn::{
    Child, Entry, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, own, process, task,
};
use user_rt::views::{Range, Wanted};
use user_rt::{boot, devices, heap, supervisor};

use crate::attackers::{ATTACKER_PRIORITY, ATTACKER_TASKS, spin, starts_at};
use crate::victims::{STRANGER, Victims};
use crate::words::{self, Word};
use crate::{Failure, at};

/// The CPU of all victims.
pub const VICTIM_CPU: u32 = 0;
/// Each of the two memories of the attackers' process, as a base-2 logarithm.
const ATTACKER_LOG2: u8 = 25;
/// Notifications, and tasks, of the victims' CPU that attackers are given.
pub const GIVEN: u32 = 256;
/// The one of these tasks that is exposed in the victims' group.
pub const GIVEN_STRANGER: u32 = GIVEN - 1;
const HEAP_PAGES: u32 = 64;
/// The place of the device in the description, and of its registers among its memory.
const DEVICE: u16 = 0;
const REGISTERS: u16 = 0;
/// So many that a task can make processes.
const STACK_PAGES: u32 = 8;
/// The attackers' slots of what they are given besides tables.
pub const SECOND_MEMORY: Cap = Cap(slot::UNTYPED.0 + 1);
const SPACE_SLOT: Cap = Cap(PROGRAM_SLOTS - 1);
pub const LOCKS_SLOT: Cap = Cap(PROGRAM_SLOTS - 2);
/// The first of the attackers' slots that are not theirs to fill.
pub const IRQ_SLOT: Cap = Cap(PROGRAM_SLOTS - 3);

/// What everything is made with.
pub struct Lab {
    pub nursery: Nursery,
    pub shared: Shared,
    /// Nobody raises it: for waits until a time.
    pub quiet: Notification,
    /// Ticks in a second.
    pub hz: u64,
    /// An empty slot.
    pub spare: Cap,
    next_index: u32,
}

/// How large a process is: frames for page tables, slots, task numbers.
pub struct Size {
    pub tables: u32,
    pub slots: u32,
    pub tasks: u32,
    /// Give it its own file, so that it can start others of its kind.
    pub with_file: bool,
}

impl Lab {
    pub fn new() -> Result<Lab, Failure> {
        let mut nursery = Nursery::of_program(0);
        at("making a heap", heap::add(&own::vspace(), &mut nursery, HEAP_PAGES))?;
        let shared = at("sharing memory", Shared::new(&mut nursery, words::PAGES))?;
        let quiet = at("making a Notification", nursery.make(0))?;
        let spare = at("taking a slot", nursery.take_slot())?;
        Ok(Lab { nursery, shared, quiet, hz: boot::facts().tsc_hz, spare, next_index: 1 })
    }

    /// Waits for so many ticks.
    pub fn sleep(&self, ticks: u64) {
        let deadline = arch::now() + ticks;
        while arch::now() < deadline {
            let _ = self.quiet.wait_until(deadline);
        }
    }

    /// Makes a process of this program's image, which shares the words.
    pub fn process(&mut self, size: &Size) -> Result<Child, Failure> {
        let image = Image::parse(memory::archive()).map_err(|_| Failure::Image)?;
        let spec = ProcessSpec {
            image: &image,
            vector: false,
            tasks: size.tasks,
            slots: size.slots,
            tables: size.tables,
            with_file: size.with_file,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        let child = process(&mut self.nursery, &spec).map_err(Failure::Spawn)?;
        at("sharing words", self.shared.map_into(&child.vspace))?;
        at("letting it report", child.give_machine(machine_rights::LOG | Rights::SEND, 0))?;
        Ok(child)
    }

    /// Makes a task of a process. It is suspended.
    pub fn task(
        &mut self,
        child: &Child,
        cpu: u32,
        priority: u8,
        entry: Entry,
        argument: u64,
    ) -> Result<Spawned, Failure> {
        let index = self.next_index;
        self.next_index += 1;
        let run = Run::Function(entry);
        let spec = TaskSpec { index, cpu, priority, stack_pages: STACK_PAGES, run, argument };
        at("making a task", task(&mut self.nursery, &child.home(), &spec))
    }

    /// Makes the attackers' process: with memory, with authority over the lowest priority on its
    /// CPUs, in the victims' group, with the page of the victims' locks, and with what a client has
    /// of services on the victims' CPU.
    pub fn attackers(&mut self, cpus: u64, victims: &Victims) -> Result<Child, Failure> {
        let Victims { group, looping, locks, .. } = victims;
        let size = Size { tables: 256, slots: PROGRAM_SLOTS, tasks: ATTACKER_TASKS, with_file: true };
        let child = self.process(&size)?;
        for slot in [slot::UNTYPED, SECOND_MEMORY] {
            let memory: Untyped = at("making memory", self.nursery.make(u64::from(ATTACKER_LOG2)))?;
            at("giving memory", transfer(memory, child.cnode.slot(slot)))?;
        }
        let control: SchedControl = at("making a SchedControl", self.nursery.make(0))?;
        let mine = own::sched_control();
        at("giving it authority", mine.allow(&control, ATTACKER_PRIORITY, 0, cpus))?;
        at("giving the SchedControl", child.give_sched_control(&control))?;
        let rights = Rights::SEND | Rights::STRING | Rights::GRANT | Rights::MAP;
        at("joining the victims' group", child.join(group, slot::GROUPS, rights, 0))?;
        at("giving an address space", copy(&looping.vspace, child.cnode.slot(SPACE_SLOT), Rights::ALL, 0))?;
        let rights = Rights::MAP | frame_rights::WRITE.rights();
        at("giving a page of locks", copy(locks, child.cnode.slot(LOCKS_SLOT), rights, 0))?;
        Word::Space.set(u64::from(SPACE_SLOT.0));
        self.give_device(&child)?;
        self.give_notifications(&child)?;
        self.give_tasks(&child, group)?;
        Ok(child)
    }

    /// Gives a device whose interrupts come to the victims' CPU: its registers, and the right to
    /// ask for the next interrupt. Nobody waits for the bits that they raise.
    fn give_device(&mut self, child: &Child) -> Result<(), Failure> {
        let slots = at("taking slots", self.nursery.take_slots(2))?;
        let there = devices::memory(DEVICE, REGISTERS).map_err(|_| Failure::NoDevice)?;
        let page = Wanted { range: Range { pages: 1, ..there.range }, ..there };
        let frame = supervisor::view(page, slots).map_err(|_| Failure::NoDevice)?;
        at("mapping the device", child.vspace.map(&frame, DEVICES_VA, Access::Write))?;
        let irq = devices::interrupt(DEVICE, Cap(slots.0 + 1)).map_err(|_| Failure::NoDevice)?;
        let note: Notification = at("making a Notification", self.nursery.make(0))?;
        at("binding the interrupt", irq.bind(&own::sched_control(), VICTIM_CPU, &note, 1))?;
        at("giving the interrupt", transfer(irq, child.cnode.slot(IRQ_SLOT)))
    }

    fn give_notifications(&mut self, child: &Child) -> Result<(), Failure> {
        let table: CNode = at("making a table", self.nursery.make(u64::from(GIVEN) + 1))?;
        for first in (0..GIVEN).step_by(128) {
            let place = table.slot(Cap(1 + first));
            at(
                "making Notifications",
                self.nursery.untyped().retype::<Notification>(0, place, 128.min(GIVEN - first).into()),
            )?;
        }
        let first = at("giving Notifications", child.process.grow(&table))?;
        Word::Notes.set(first.0.into());
        Ok(())
    }

    /// Gives tasks of the attackers' process that are configured for the victims' CPU, and have no
    /// CPU time. One of them is exposed in the victims' group, as another user of their locks.
    fn give_tasks(&mut self, child: &Child, group: &Group) -> Result<(), Failure> {
        let table: CNode = at("making a table", self.nursery.make(u64::from(GIVEN) + 1))?;
        let spare = at("taking slots", self.nursery.take_slots(GIVEN))?;
        for number in 0..GIVEN {
            let slot = Cap(spare.0 + number);
            at("making a task", self.nursery.untyped().retype::<Task>(0, own::cnode().slot(slot), 1))?;
            let task = Task::at(slot);
            let utcb = GIVEN_UTCBS + u64::from(number) * abi::PAGE_SIZE;
            let id = at("configuring a task", task.configure(&child.process, utcb, VICTIM_CPU))?;
            if number == GIVEN_STRANGER {
                // It runs on the time of those that wait for it.
                let mut regs = start_regs(0, 0);
                starts_at(&mut regs, spin);
                at("preparing a task", task.write_regs(&regs))?;
                at("starting a task", task.resume())?;
                at("exposing a task", group.expose_task(STRANGER, &task))?;
                Word::Stranger.set(id.raw());
            }
            at("giving a task", transfer(task, table.slot(Cap(1 + number))))?;
        }
        let first = at("giving tasks", child.process.grow(&table))?;
        Word::Tasks.set(first.0.into());
        Ok(())
    }
}

/// UTCBs of tasks that attackers are given, in their address space.
const GIVEN_UTCBS: u64 = 0x1_8000_0000;
