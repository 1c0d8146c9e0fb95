//! The attackers' side: a process with memory of its own, and authority over the lowest priority on
//! its CPUs. Attacks run in it and have nothing else.

use core::arch::naked_asm;
use core::sync::atomic::AtomicU32;

use abi::{Cap, FLAG_NONBLOCK, Op, REG_COUNT, RegIndex, Target, Utcb};
use user_rt::arch::{self, Args, memory, syscall};
use user_rt::cap::{
    CNode, EventPool, Handle, IrqHandler, Notification, Process, SchedContext, Task, Untyped, VSpace,
};
use user_rt::elf::Image;
use user_rt::invoke::start_regs;
use user_rt::layout::{DEVICES_VA, FREE_SLOTS, slot};
use user_rt::slots::Slots;
use user_rt::spawn::{
    Child, Entry, Home, Nursery, ProcessSpec, Run, Spawned, StartIn, TaskSpec, own, process, task,
};
use user_rt::{Result, boot, ipc, report};

use crate::attacks::ATTACKS;
use crate::lab::{GIVEN, IRQ_SLOT, SECOND_MEMORY};
use crate::words::Word;

/// All that attackers may have.
pub const ATTACKER_PRIORITY: u8 = 1;
/// Task numbers of the attackers' process.
pub const ATTACKER_TASKS: u32 = 4000;
const STACK_PAGES: u32 = 2;
/// Registers of the device, of 32 bits.
const REGISTERS: usize = abi::PAGE_SIZE as usize / 4;
/// First index of the attackers' own tasks: the first one's is lower. Its slot depends on that.
const FIRST_INDEX: u32 = 64;

/// Where the attackers are at home.
pub struct Den {
    pub nursery: Nursery,
    /// Nobody raises it: for waits until a time.
    quiet: Notification,
    next_index: u32,
}

/// The first task of the attackers' process.
pub extern "C" fn begin(_: u64) -> ! {
    let attack = &ATTACKS[Word::Attack.get() as usize % ATTACKS.len()];
    let slots = Slots::new(FREE_SLOTS + FIRST_INDEX..IRQ_SLOT.0);
    let mut nursery = Nursery::new(Untyped::at(slot::UNTYPED), slots);
    let quiet = match nursery.make(0) {
        Ok(quiet) => quiet,
        Err(refusal) => give_up("making a Notification", refusal),
    };
    let mut den = Den { nursery, quiet, next_index: FIRST_INDEX };
    if let Err(refusal) = (attack.run)(&mut den) {
        give_up(attack.name, refusal);
    }
    sit(0)
}

fn give_up(what: &str, refusal: user_rt::Refusal) -> ! {
    report!("error hostile: {what}: {refusal}");
    sit(0)
}

/// Counts a round of the attack: its authors are alive.
pub fn alive() {
    Word::Alive.add(1);
}

/// Counts a round of the attack, if it did what it was to.
pub fn alive_if(is_done: bool) {
    if is_done {
        alive();
    }
}

/// Binds a pool to the own process, at an address.
pub fn bind_pool(pool: &EventPool, reader: &Task, at: u64) -> Result<()> {
    let args = Args::plain(Op::PoolBind, pool.arg(), own::process().arg(), reader.arg(), at);
    syscall(Args { r9: 1, ..args }).done()
}

/// Sends events to the reader of a pool until the pool is full.
pub fn fill_pool(reader: Target) {
    let mut send = Args::plain(Op::Send, reader.0, 0, 0, 0);
    send.info = send.info.flag(FLAG_NONBLOCK);
    while syscall(send).done().is_ok() {}
}

/// Receives for ever, and answers nobody.
pub extern "C" fn sit(_: u64) -> ! {
    loop {
        let _ = ipc::recv();
    }
}

/// Runs for ever.
#[unsafe(naked)]
pub extern "C" fn spin() {
    naked_asm!("2:", "pause", "jmp 2b")
}

impl Den {
    /// Returns the CPUs that the attackers may use.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + use<> {
        let bits = Word::Cpus.get();
        (0..u64::BITS).filter(move |cpu| bits >> cpu & 1 != 0)
    }

    /// Returns the attackers' last CPU: another one than the first task's, if there is another.
    pub fn last_cpu(&self) -> u32 {
        self.cpus().last().unwrap_or(0)
    }

    /// Returns the attackers' second memory, with so many slots. An attack calls it once.
    pub fn second_memory(&mut self, slots: u32) -> Result<Nursery> {
        let first = self.nursery.take_slots(slots)?.0;
        Ok(Nursery::new(Untyped::at(SECOND_MEMORY), Slots::new(first..first + slots)))
    }

    /// Waits for so many milliseconds.
    pub fn sleep(&self, milliseconds: u64) {
        let deadline = arch::now() + boot::facts().tsc_hz / 1000 * milliseconds;
        while arch::now() < deadline {
            self.wait_until(deadline);
        }
    }

    /// Waits until a time, or not quite.
    pub fn wait_until(&self, deadline: u64) {
        let _ = self.quiet.wait_until(deadline);
    }

    /// Makes a task of the attackers' process. It is suspended.
    pub fn task(&mut self, cpu: u32, entry: Entry, argument: u64) -> Result<Spawned> {
        let index = self.next_index;
        self.next_index += 1;
        let (priority, run) = (ATTACKER_PRIORITY, Run::Function(entry));
        let spec = TaskSpec { index, cpu, priority, stack_pages: STACK_PAGES, run, argument };
        Home::own(|home| task(&mut self.nursery, home, &spec))
    }

    /// Starts a task of the attackers' process.
    pub fn start(&mut self, cpu: u32, entry: Entry, argument: u64) -> Result<()> {
        self.task(cpu, entry, argument)?.task.resume()
    }

    /// Starts a task on each of the attackers' CPUs. It is told its place among them.
    pub fn start_on_all(&mut self, entry: Entry) -> Result<()> {
        let cpus = self.cpus();
        (0..).zip(cpus).try_for_each(|(place, cpu)| self.start(cpu, entry, place))
    }

    /// Starts a task on each of the attackers' CPUs, with memory of its own and a slot.
    pub fn start_with_memory(&mut self, entry: Entry, log2: u64) -> Result<()> {
        let cpus = self.cpus();
        for cpu in cpus {
            let memory: Untyped = self.nursery.make(log2)?;
            let place = self.nursery.take_slot()?;
            self.start(cpu, entry, memory_and_slot(&memory, place))?;
        }
        Ok(())
    }

    /// Makes a process of the attackers', in memory that is taken back later.
    pub fn process(&self, nursery: &mut Nursery, tasks: u32) -> Result<Child> {
        let file = memory::archive();
        let image = Image::parse(file).map_err(|_| user_rt::Refusal::local(abi::Error::BadArgument, 0))?;
        let spec = ProcessSpec {
            image: &image,
            vector: false,
            tasks,
            slots: 512,
            tables: 64,
            with_file: false,
            untyped_log2: &[],
            groups: StartIn::None,
            line: None,
        };
        process(nursery, &spec).map_err(|error| error.refusal)
    }
}

/// Returns the argument of a task with memory of its own and a slot.
pub fn memory_and_slot(memory: &Untyped, slot: Cap) -> u64 {
    u64::from(memory.cap().0) << 32 | u64::from(slot.0)
}

/// Returns memory and slot of a task, from its argument.
pub fn with_memory(argument: u64) -> (Untyped, Cap) {
    (Untyped::at(Cap((argument >> 32) as u32)), Cap(argument as u32))
}

/// Returns a Notification of the victims' CPU that the attackers were given.
pub fn given_note(number: u32) -> Notification {
    Notification::at(Cap(Word::Notes.get() as u32 + number % GIVEN))
}

/// Returns a task of the attackers' own process, on the victims' CPU, that they were given.
pub fn given_task(number: u32) -> Task {
    Task::at(Cap(Word::Tasks.get() as u32 + number % GIVEN))
}

/// Returns the device that the attackers were given, and its registers.
pub fn given_device() -> (IrqHandler, &'static [AtomicU32]) {
    // SAFETY: `lab` has mapped the page of registers there, for good. They are accessed by whole
    // words, and the device writes no memory.
    let registers = unsafe { core::slice::from_raw_parts(DEVICES_VA as *const AtomicU32, REGISTERS) };
    (IrqHandler::at(IRQ_SLOT), registers)
}

/// Returns an address space that runs on the victims' CPU, into which the attackers may map.
pub fn given_space() -> VSpace {
    VSpace::at(Cap(Word::Space.get() as u32))
}

/// Tasks without stacks, in a table of the CSpace.
pub struct Crowd {
    table: CNode,
    first: Cap,
    count: u32,
    made: u32,
}

/// UTCBs of such tasks, by the slots of the tasks.
const CROWD_UTCBS: u64 = 0x2_0000_0000;

impl Crowd {
    /// Makes a table for so many tasks and their CPU time, and adds it to the own CSpace.
    pub fn new(nursery: &mut Nursery, count: u32) -> Result<Crowd> {
        let table: CNode = nursery.make(2 * u64::from(count) + 2)?;
        let first = own::process().grow(&table)?;
        Ok(Crowd { table, first, count, made: 0 })
    }

    /// Makes a task of a process, with these registers. It has CPU time if `has_time`.
    pub fn add(
        &mut self,
        nursery: &Nursery,
        process: &Process,
        cpu: u32,
        has_time: bool,
        set: impl FnOnce(&mut [u64; REG_COUNT]),
    ) -> Result<Task> {
        let number = self.made;
        self.made += 1;
        let task = self.object::<Task>(nursery, number)?;
        let page = u64::from(self.first.0 + number);
        task.configure(process, CROWD_UTCBS + page * abi::PAGE_SIZE, cpu)?;
        if has_time {
            let time = self.object::<SchedContext>(nursery, self.count + number)?;
            time.configure(ATTACKER_PRIORITY, boot::facts().tsc_hz / 100)?;
            time.bind(&task)?;
        }
        let mut regs = start_regs(0, 0);
        set(&mut regs);
        task.write_regs(&regs)?;
        Ok(task)
    }

    /// Makes an object without a size in the table.
    fn object<T: Handle>(&self, nursery: &Nursery, number: u32) -> Result<T> {
        nursery.untyped().retype::<T>(0, self.table.slot(Cap(1 + number)), 1)?;
        Ok(T::at(Cap(self.first.0 + number)))
    }

    /// Returns the task that was made as this one.
    pub fn task(&self, number: u32) -> Task {
        Task::at(Cap(self.first.0 + number))
    }

    /// Returns where the UTCB of the task is that was made as this one, or will be.
    pub fn utcb_address(&self, number: u32) -> u64 {
        CROWD_UTCBS + u64::from(self.first.0 + number) * abi::PAGE_SIZE
    }

    /// Returns the UTCB of the task that was made as this one.
    pub fn utcb(&self, number: u32) -> &'static Utcb {
        let at = self.utcb_address(number);
        // SAFETY: the kernel has mapped the task's UTCB there, all of whose fields are atomic words
        // and may have any value.
        unsafe { &*(at as *const Utcb) }
    }

    /// Returns how many tasks were made.
    pub fn count_made(&self) -> u32 {
        self.made
    }

    /// Returns the CPU time of a task that was made with some.
    pub fn time(&self, number: u32) -> SchedContext {
        SchedContext::at(Cap(self.first.0 + self.count + number))
    }

    /// Lets the next tasks be made where the first ones were: those are gone.
    pub fn restart(&mut self) {
        self.made = 0;
    }
}

/// Sets where a task starts.
pub fn starts_at(regs: &mut [u64; REG_COUNT], code: extern "C" fn()) {
    regs[RegIndex::Rip as usize] = code as *const () as u64;
}

/// Returns the slot of the attackers' membership of the victims' group.
pub const fn victims() -> Cap {
    slot::GROUPS
}
