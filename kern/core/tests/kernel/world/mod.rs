//! A whole machine in one thread: the kernel under test, simulated CPUs, and programs that consist
//! only of the system calls that a test makes for them.
//!
//! The world does what trap code and image do around the portable kernel: it writes arguments into
//! the frame of the running task, enters the kernel, settles grace rounds at the exit, idles CPUs,
//! and delivers interrupts. The test decides which CPU continues next, and when an interrupt is
//! taken.
//!
//! Each task is always at the same `SYSCALL` instruction, at [`PC`]. The instruction pointer in its
//! frame is [`PC`] while the system call must be made again, and [`AFTER`] once the call is over.

pub mod check;
pub mod dice;
mod fast;
pub mod gate;
pub mod machine;
pub mod make;
pub mod stop;

use abi::devices::is_msi;
use abi::{Cap, Error, MsgInfo, Op, Target, TaskId};
use kern_base::accounts::Accounts;
use kern_base::cpu::{CpuBlock, CpuPair};
use kern_base::phys::Phys;
use std::ops::Range;

use kern_base::frames::{FrameInfo, FrameRange, FrameTable};
use kern_base::irq::{Lines, Route};
use kern_base::machine::FaultEnd;
use kern_base::task::{RegFrame, State, Task, TaskHot};
use kern_core::door::entry::Interrupt;
use kern_core::ipc::faults::Fault;
use kern_core::rooms::Door;
use kern_core::{Kernel, StaticTables};
use sched::PRIORITIES;
use smp::chaos::Point;
use smp::cpu::Pin;
use smp::door::{Ref, Region, Table};
use smp::host_test;
use smp::mailbox::Idle;

use gate::Gate;
pub use gate::Mode;
pub use gate::Why;
pub use machine::Fake;
use stop::Part;

/// Where every program's SYSCALL instruction is, and what comes behind it.
pub const PC: u64 = 0x40_0000;
pub const AFTER: u64 = PC + 2;

/// How large a world is, besides its Untyped memory.
#[derive(Clone, Copy)]
struct Size {
    /// Slots of process 1.
    slots: usize,
    /// Memory of the kernel, and of process 1.
    bytes: u64,
}

const USUAL: Size = Size { slots: make::SLOTS, bytes: 1 << 20 };

/// Steps after which [`World::run`] takes the kernel to be going round in circles.
const PATIENCE: usize = 20_000;

/// Registers that carry a system call's arguments in, or its results out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Regs {
    pub rax: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r12: u64,
}

impl Regs {
    /// The arguments of an operation that takes plain values.
    pub fn op(op: Op, args: &[u64]) -> Regs {
        let arg = |i: usize| args.get(i).copied().unwrap_or(0);
        let [rdi, rsi, rdx, r8, r9, r10] = core::array::from_fn(arg);
        Regs { rax: op as u64, rdi, rsi, rdx, r8, r9, r10, r12: 0 }
    }

    /// Returns the registers of a message: its target, and its words.
    pub fn message(op: Op, target: Target, regs: [u64; 4]) -> Regs {
        let [rdx, r8, r9, r10] = regs;
        Regs { rax: op as u64, rdi: target.0, rdx, r8, r9, r10, ..Regs::default() }
    }

    pub fn flag(mut self, flag: u64) -> Regs {
        self.rax |= flag;
        self
    }

    pub fn deadline(self, at: u64) -> Regs {
        Regs { rsi: at, ..self.flag(abi::FLAG_DEADLINE) }
    }

    pub fn words(mut self, words: u8) -> Regs {
        self.rax |= u64::from(words) << 8;
        self
    }

    pub fn info(&self) -> MsgInfo {
        MsgInfo(self.rax)
    }

    pub fn error(&self) -> Option<Error> {
        self.info().status().err()
    }

    pub fn msg(&self) -> [u64; 4] {
        [self.rdx, self.r8, self.r9, self.r10]
    }

    pub fn sender(&self) -> TaskId {
        TaskId::from_raw(self.rsi)
    }

    /// Into a frame; r12 is no argument.
    fn write(&self, regs: &RegFrame) {
        regs.rax.set(self.rax);
        regs.rdi.set(self.rdi);
        regs.rsi.set(self.rsi);
        regs.rdx.set(self.rdx);
        regs.r8.set(self.r8);
        regs.r9.set(self.r9);
        regs.r10.set(self.r10);
    }

    /// The outcome as a result: `Err` with the error and its detail.
    pub fn result(self) -> Result<Regs, (Error, u64)> {
        match self.error() {
            None => Ok(self),
            Some(error) => Err((error, self.rdi)),
        }
    }
}

/// A task, as tests know it: its capability in process 1, the object, its TaskId.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tcb {
    pub cap: Cap,
    pub sc: Cap,
    pub object: Ref<'static, Task>,
    pub id: TaskId,
    /// The identity of its process.
    pub of: u64,
}

impl std::fmt::Debug for Tcb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task {}", self.id.raw())
    }
}

impl Tcb {
    /// A task of a process.
    pub fn new(cap: Cap, sc: Cap, object: Ref<'static, Task>) -> Tcb {
        Tcb { cap, sc, object, id: object.get().id(), of: object.get().of_process() }
    }

    /// The CPU where it is, or that it is under way to.
    pub fn home(&self) -> usize {
        self.object.get().hot.destination().index()
    }

    pub fn pin(&self) -> Pin<'static> {
        host_test::pin(self.home())
    }

    pub fn hot(&self) -> &'static TaskHot {
        host_test::inside(self.object.map(|task| &task.hot))
    }

    pub fn state(&self) -> State {
        self.hot().state()
    }

    /// The address of its own time, or 0.
    pub fn own_time(&self) -> u64 {
        self.hot().time.own(self.pin()).map_or(0, Ref::addr)
    }

    /// What its last system call answered, or what it asks for if that is not over.
    pub fn regs(&self) -> Regs {
        let r = &self.hot().regs;
        if self.hot().is_plain() && self.state() == State::Ready {
            return Regs { rdx: r.rdx.get(), ..Regs::default() };
        }
        Regs {
            rax: r.rax.get(),
            rdi: r.rdi.get(),
            rsi: r.rsi.get(),
            rdx: r.rdx.get(),
            r8: r.r8.get(),
            r9: r.r9.get(),
            r10: r.r10.get(),
            r12: r.r12.get(),
        }
    }

    /// Puts back what it was answered, after it was made to do something that does not count.
    pub fn put_regs(&self, answered: &Regs) {
        self.hot().materialise_frame();
        answered.write(&self.hot().regs);
        self.hot().regs.r12.set(answered.r12);
    }

    /// Whether it is ready to make its system call again, when it has its turn.
    pub fn must_restart(&self) -> bool {
        self.state() == State::Ready && self.hot().regs.rip.get() == PC
    }

    /// Whether its last system call is over.
    pub fn is_through(&self) -> bool {
        self.state() == State::Ready && self.hot().regs.rip.get() == AFTER
    }
}

/// The machine with its kernel.
pub struct World {
    pub k: &'static Kernel<Fake>,
    pub gate: Gate,
    /// What process 1 has made so far.
    made: make::Made,
    /// Whether invariants are checked after every kernel entry.
    pub checked: bool,
    /// Whether kernel entries are printed.
    pub trace: bool,
    /// The CPU in the middle of whose system call others act.
    torn: Option<usize>,
    /// The memory in which all this stands: the kernel's, process 1's, and the Untyped's.
    pub regions: [Range<u64>; 3],
}

impl Drop for World {
    fn drop(&mut self) {
        *self.k.machine.hardware() = machine::Hardware::default();
        self.regions.iter().for_each(|region| host_test::give_back(region.start));
    }
}

/// `count` of something, in a region's memory.
fn table<T: 'static>(region: &Region, count: usize, make: impl FnMut(usize) -> T) -> Option<Table<T>> {
    region.carve((count * size_of::<T>()) as u64, 64)?.emplace_slice(make)
}

/// The kernel and what it keeps of each CPU, in a region's memory.
fn kernel(region: &Region, cpus: usize, memory: &[&Region]) -> Option<&'static Kernel<Fake>> {
    let pairs = |n| table(region, cpus, |_| CpuPair::new(host_test::cpu(n)));
    let mut pairs: Vec<Table<CpuPair>> = (0..cpus).map(pairs).collect::<Option<_>>()?;
    let mut pairs_of = |n: usize| core::mem::replace(&mut pairs[n], Table::empty());
    let blocks = table(region, cpus, |n| kern_base::cpu::new_block(host_test::cpu(n), pairs_of(n)))?;
    let blocks = host_test::all_cpus(blocks);
    let range = |memory: &&Region| {
        let infos = table(region, (memory.size() / abi::PAGE_SIZE) as usize, |_| FrameInfo::default())?;
        Some(FrameRange::new(Phys(memory.base()), infos))
    };
    let frames = FrameTable::new(memory.iter().map(range).collect::<Option<Vec<_>>>()?);
    let piece = region.carve(size_of::<Kernel<Fake>>() as u64, 64)?;
    let tables = StaticTables {
        accounts: Box::leak(Box::new(Accounts::new())),
        lines: Box::leak(Box::new(Lines::new())),
    };
    let kernel = Kernel::new(Fake::default(), blocks, frames, tables);
    Some(piece.emplace(host_test::pin(0), kernel)?.get())
}

impl World {
    /// A machine with `cpus` CPUs, on each of which an agent of process 1 waits to be told what to
    /// do.
    pub fn new(cpus: usize) -> World {
        World::with_memory(cpus, 8 << 20)
    }

    /// Makes a world with `bytes` of Untyped memory.
    pub fn with_memory(cpus: usize, bytes: u64) -> World {
        World::make_world(cpus, bytes, USUAL, true)
    }

    /// Makes a world without checks of its invariants, for tests that make many.
    pub fn unchecked(cpus: usize, bytes: u64) -> World {
        World::make_world(cpus, bytes, USUAL, false)
    }

    /// Makes a small world quickly, for tests that make very many.
    pub fn small(cpus: usize, bytes: u64) -> World {
        World::make_world(cpus, bytes, Size { slots: 512, bytes: 1 << 19 }, false)
    }

    fn make_world(cpus: usize, bytes: u64, size: Size, checked: bool) -> World {
        let shared = host_test::region(size.bytes, 4096);
        let own = host_test::region(size.bytes, 4096);
        // Aligned so that what is made of it stands at the same places in each world.
        let memory = host_test::region(bytes, bytes.next_power_of_two().clamp(4096, 16 << 20));
        let Some(k) = kernel(&shared, cpus, &[&memory, &own]) else {
            panic!("no room for the kernel's own memory")
        };
        k.machine.hardware().now = 1000;
        let mut world = World {
            k,
            regions: [&shared, &own, &memory].map(|region| region.base()..region.base() + region.size()),
            gate: Gate::new(k, cpus),
            made: make::Made::default(),
            checked,
            trace: false,
            torn: None,
        };
        world.boot(own, memory, size.slots);
        world
    }

    pub fn cpus(&self) -> usize {
        self.gate.cpus()
    }

    pub fn block(&self, n: usize) -> &'static CpuBlock {
        self.gate.block(n)
    }

    pub fn look(&self, n: usize) -> Door<'static, Fake> {
        self.gate.look(n)
    }

    pub fn mode(&self, n: usize) -> Mode {
        self.gate.mode(n)
    }

    pub fn now(&self) -> u64 {
        self.k.machine.hardware().now
    }

    pub fn advance(&self, ticks: u64) {
        self.k.machine.hardware().now += ticks;
    }

    // --- kernel entries --------------------------------------------------------------------------

    /// The task that runs on a CPU.
    pub fn current(&self, n: usize) -> Option<Ref<'static, Task>> {
        self.gate.current(n)
    }

    pub fn runs(&self, n: usize, task: &Tcb) -> bool {
        self.current(n) == Some(task.object)
    }

    /// The address of the context that a task spends, or would; 0: of none.
    pub fn time_of(&self, task: &Tcb) -> u64 {
        let time = self.look(task.home()).time();
        time.open(task.object).and_then(|task| time.time_of(task)).map_or(0, Ref::addr)
    }

    /// Whether the task that runs on a CPU has to make its system call again.
    pub fn must_restart(&self, n: usize) -> bool {
        self.current(n).is_some_and(|t| t.get().hot.here(host_test::pin(n)).regs.rip.get() == PC)
    }

    /// Makes a system call as the task that runs on CPU `n`. The result is in its frame.
    pub fn issue(&mut self, n: usize, args: Regs) {
        assert!(!self.must_restart(n), "cpu{n}: the last system call is not over");
        let Some(task) = self.current(n) else { panic!("cpu{n} runs nothing") };
        args.write(&task.get().hot.here(host_test::pin(n)).regs);
        self.syscall(n);
    }

    /// The SYSCALL instruction, with whatever is in the frame of the task that runs on CPU `n`.
    pub fn syscall(&mut self, n: usize) {
        self.announce(n);
        self.pass(n, Why::SystemCall);
    }

    /// One whole kernel entry.
    pub fn pass(&mut self, n: usize, why: Why) {
        self.gate.pass(n, why);
        self.after_entry();
    }

    /// Writes the arguments of a system call into the frame of the task that runs on CPU `n`, for
    /// an entry to come.
    pub fn prepare(&self, n: usize, args: Regs) {
        let Some(task) = self.current(n) else { panic!("cpu{n} runs nothing") };
        args.write(&task.get().hot.here(host_test::pin(n)).regs);
    }

    /// Keeps a CPU where it is, or no CPU any more: it takes no [step](World::step) meanwhile.
    pub fn hold(&mut self, n: Option<usize>) {
        self.torn = n;
    }

    /// Checks that no CPU remembers a translation that leads into some memory.
    pub fn nobody_remembers(&self, memory: Range<u64>) {
        for (n, tlb) in &self.k.machine.hardware().tlb {
            let into = tlb.iter().find(|(_, (_, page))| memory.contains(&page.at.0));
            assert!(into.is_none(), "cpu{n} remembers memory that is free: {into:x?}");
        }
    }

    /// Prints a system call that is about to be made, where entries are printed.
    fn announce(&self, n: usize) {
        let Some(task) = self.current(n).filter(|_| self.trace) else { return };
        let regs = &task.get().hot.here(host_test::pin(n)).regs;
        let (op, who) = (Op::from_raw(regs.rax.get() as u8), check::view(task).name());
        let arguments = [&regs.rax, &regs.rdi, &regs.rsi, &regs.rdx, &regs.r8].map(|r| r.get());
        println!("  cpu{n} {who}: {op:?} {arguments:x?}");
    }

    /// The agent of CPU `n` makes a system call, in the middle of which other CPUs act: at the
    /// labelled point with number `at`, counted from 0. Returns whether there was such a point. The
    /// system call may have to be [finished](World::finish).
    pub fn torn(&mut self, n: usize, args: Regs, at: usize, others: impl FnOnce(&mut World)) -> bool {
        let mut points = 0..;
        self.torn_where(n, args, move |point| point.is_named() && points.next() == Some(at), others)
    }

    /// As [`torn`](World::torn), at the first point that `here` takes.
    pub fn torn_where(
        &mut self,
        n: usize,
        args: Regs,
        here: impl FnMut(Point) -> bool + 'static,
        others: impl FnOnce(&mut World),
    ) -> bool {
        self.summon(n);
        args.write(&self.agent(n).hot().regs);
        self.tear(n, Why::SystemCall, here, others)
    }

    /// As [`torn_where`](World::torn_where), but what is torn is the entry in which CPU `n` takes
    /// its mail.
    pub fn torn_mail(
        &mut self,
        n: usize,
        here: impl FnMut(Point) -> bool + 'static,
        others: impl FnOnce(&mut World),
    ) -> bool {
        self.k.machine.hardware().wakes.remove(&n);
        self.tear(n, Why::Interrupt(Interrupt::Mail), here, others)
    }

    /// One whole kernel entry, in the middle of which others act at the first point that `here`
    /// takes: whether there was one.
    pub fn tear(
        &mut self,
        n: usize,
        why: Why,
        mut here: impl FnMut(Point) -> bool + 'static,
        others: impl FnOnce(&mut World),
    ) -> bool {
        let mut found = false;
        let wanted = move |point| {
            found = found || here(point);
            found
        };
        let mut part = Part::begin(&self.gate, n, why, wanted);
        let stopped = part.stop().is_some();
        if stopped {
            let checked = core::mem::take(&mut self.checked);
            self.torn = Some(n);
            part.beside(|| others(self));
            self.torn = None;
            part.finish();
            self.checked = checked;
        }
        self.after_entry();
        stopped
    }

    /// An interrupt on CPU `n`.
    pub fn interrupt(&mut self, n: usize, what: Interrupt) {
        if self.trace {
            println!("  cpu{n} {what:?}, {:?}", self.mode(n));
        }
        self.pass(n, Why::Interrupt(what));
    }

    /// The program on CPU `n`, which is in no system call, faults by an access to `address`.
    pub fn fault(&mut self, n: usize, address: u64) {
        self.fault_with(n, Fault { vector: 14, error: 4, address });
    }

    pub fn fault_with(&mut self, n: usize, fault: Fault) {
        assert!(!self.must_restart(n), "cpu{n}: the last system call is not over");
        if let Some(task) = self.current(n).filter(|_| self.trace) {
            println!("  cpu{n} {}: {fault:x?}", check::view(task).name());
        }
        self.pass(n, Why::Fault(fault));
    }

    /// The faults that have ended a process since the last time.
    pub fn take_fault_ends(&self) -> Vec<FaultEnd> {
        core::mem::take(&mut self.k.machine.hardware().fault_ends)
    }

    fn after_entry(&self) {
        if self.trace {
            self.print();
        }
        if self.checked {
            check::all(self);
        }
    }

    /// The program on CPU `n` reads memory.
    pub fn touch(&self, n: usize, address: u64) -> bool {
        let page = self.translation(n, address);
        let remembered = self.remembered(n, address).is_some();
        let reached = self.mode(n) == Mode::User && self.k.machine.hardware().touch(n, address, page);
        if reached && !remembered {
            self.note_use(n, address);
        }
        reached
    }

    /// What the hardware notes when it goes through the tables.
    fn note_use(&self, n: usize, address: u64) {
        let cx = self.look(n);
        let Some(vspace) = cx.cpu.vspace.get(cx.pin()) else { return };
        let spot = cx.tables().spot::<2>(vspace, address).filter(|spot| spot.load().is_page(2));
        let Some(spot) = spot.or_else(|| cx.tables().spot::<1>(vspace, address)) else { return };
        let (name, space) = (spot.name(), vspace.get());
        let index = space.index_at(name.table().0) + (name.0 - name.table().0) as usize / 8;
        if let Some(entry) = space.entries.get(cx.pin(), index) {
            entry.get().update(|entry| entry.used(false));
        }
    }

    /// What the tables say of an address of the space that CPU `n` is in.
    fn translation(&self, n: usize, address: u64) -> Option<machine::Page> {
        let cx = self.look(n);
        let vspace = cx.cpu.vspace.get(cx.pin())?;
        let spot = cx.tables().spot::<2>(vspace, address).filter(|spot| spot.load().is_page(2));
        check::page(spot.or_else(|| cx.tables().spot::<1>(vspace, address))?)
    }

    /// What CPU `n` remembers of an address of the space that it is in.
    pub fn remembered(&self, n: usize, address: u64) -> Option<machine::Page> {
        self.k.machine.hardware().remembered(n, address)
    }

    /// A translation by which the program on a CPU reaches what it may not: which CPU, and of which
    /// address.
    pub fn stale(&self) -> Option<(usize, u64)> {
        let remembers =
            |n: usize| self.k.machine.hardware().remembered_all(n).into_iter().map(move |one| (n, one));
        let is_stale = |(n, (address, page)): &(usize, (u64, machine::Page))| {
            let allows = |is: machine::Page| {
                is.at == page.at && (is.write || !page.write) && (is.execute || !page.execute)
            };
            self.mode(*n) == Mode::User && !self.translation(*n, *address).is_some_and(allows)
        };
        (0..self.cpus()).flat_map(remembers).find(is_stale).map(|(n, (address, _))| (n, address))
    }

    // --- devices ---------------------------------------------------------------------------------

    /// Where the machine sends the interrupts of a line.
    pub fn wired(&self, line: u32) -> Option<Route> {
        self.k.machine.hardware().lines.get(&line).and_then(|line| line.to)
    }

    /// A device signals. Returns whether that interrupts a CPU.
    pub fn signal(&mut self, line: u32) -> bool {
        let state = self.k.machine.hardware().lines.get(&line).copied().unwrap_or_default();
        let Some(to) = state.to.filter(|_| state.is_open || is_msi(line)) else { return false };
        self.device_interrupts(to.cpu.index(), to.place);
        true
    }

    /// A device writes a message, whatever the kernel thinks of it now.
    pub fn message(&mut self, address: u64, word: u64) {
        self.device_interrupts((address >> 12 & 0xff) as usize, word as u8);
    }

    fn device_interrupts(&mut self, cpu: usize, place: u8) {
        self.k.machine.hardware().in_service += 1;
        self.pass(cpu, Why::Device(place));
        assert_eq!(self.k.machine.hardware().in_service, 0, "an interrupt is not acknowledged");
    }

    // --- letting things happen -------------------------------------------------------------------

    /// Whether something waits to happen on a CPU without its program's doing.
    pub fn has_event(&self, n: usize) -> bool {
        let hardware = self.k.machine.hardware();
        let timer = hardware.timers.get(&n).is_some_and(|at| *at <= hardware.now);
        let polled = self.mode(n) == Mode::Idle(Idle::Poll) && self.block(n).mailbox().has_mail();
        timer || polled || hardware.wakes.contains(&n)
    }

    /// The CPUs that were interrupted and have not noticed yet.
    pub fn woken(&self) -> Vec<usize> {
        self.k.machine.hardware().wakes.iter().copied().collect()
    }

    /// The next such event on a CPU; whether there was one.
    pub fn event(&mut self, n: usize) -> bool {
        let what = {
            let mut hardware = self.k.machine.hardware();
            let now = hardware.now;
            let due = hardware.timers.get(&n).is_some_and(|at| *at <= now);
            if hardware.wakes.remove(&n) {
                Some(Interrupt::Mail)
            } else if due {
                hardware.timers.remove(&n);
                Some(Interrupt::Timer)
            } else {
                None
            }
        };
        match what {
            Some(what) => self.interrupt(n, what),
            None if self.has_event(n) => self.pass(n, Why::Mail),
            None => return false,
        }
        true
    }

    /// One step on a CPU that the kernel owes: an event, or a system call that has to be made
    /// again.
    pub fn step(&mut self, n: usize) -> bool {
        if self.torn == Some(n) {
            return false;
        }
        if self.event(n) {
            return true;
        }
        if self.must_restart(n) {
            self.syscall(n);
            return true;
        }
        false
    }

    /// Lets everything happen that programs have no part in.
    pub fn run(&mut self) {
        self.run_until(|_| false);
    }

    /// Runs all CPUs until something holds. Returns whether it does.
    pub fn run_until(&mut self, done: impl FnMut(&World) -> bool) -> bool {
        self.run_until_but(usize::MAX, done)
    }

    /// Runs all CPUs but one until something holds. Returns whether it does.
    pub fn run_until_but(&mut self, but: usize, mut done: impl FnMut(&World) -> bool) -> bool {
        for _ in 0..PATIENCE {
            if done(self) {
                return true;
            }
            let moved = (0..self.cpus()).filter(|n| *n != but && self.step(*n)).count() > 0;
            if !moved && !self.wait_for_look() {
                return done(self);
            }
        }
        panic!("the kernel goes round in circles");
    }

    /// Lets time pass until a CPU looks that defers its mail, and has some, or deadlines that have
    /// passed, or tasks whose waits are over. Returns whether there is one.
    fn wait_for_look(&mut self) -> bool {
        let now = self.now();
        let deferred = |n: usize| {
            let cx = self.look(n);
            let has_mail = cx.cpu.inbox().is_deferring() && self.block(n).mailbox().has_mail();
            let look = has_mail.then(|| cx.sched.look_at.get());
            let has_deadlines = cx.sched.deadlines.soonest(cx.pin(), 0..PRIORITIES) <= now;
            let expiry = has_deadlines.then(|| cx.sched.expire_at.get());
            let wakes = cx.is_any_over().then(|| cx.sched.timer.get());
            look.into_iter().chain(expiry).chain(wakes).min().filter(|_| self.torn != Some(n))
        };
        let Some(at) = (0..self.cpus()).filter_map(deferred).min() else { return false };
        let mut hardware = self.k.machine.hardware();
        hardware.now = hardware.now.max(at);
        true
    }

    /// Lets time pass to `at`, timers firing as they come.
    pub fn wait_until(&mut self, at: u64) {
        loop {
            self.run();
            let next = self.k.machine.hardware().timers.values().min().copied();
            let next = next.unwrap_or(u64::MAX).min(at);
            let mut hardware = self.k.machine.hardware();
            if hardware.now >= at {
                break;
            }
            hardware.now = hardware.now.max(next);
        }
        self.run();
    }

    /// Every task and its time, in words.
    fn print(&self) {
        let hex = |at: u64| if at == 0 { String::from("-") } else { format!("{:x}", at >> 6 & 0xffff) };
        for task in check::snapshot(self).tasks {
            println!(
                "    task {} ({:?}, {:?}, cpu{}) at {} msg cpu{} borrowed {} own {} lender {} caller {} callee {} \
                 msg.sc {} {}",
                task.id,
                task.state,
                task.stage,
                task.home,
                hex(task.at),
                task.message_home,
                hex(task.borrowed),
                hex(task.own_context),
                hex(task.lender),
                hex(task.caller),
                hex(task.callee),
                hex(task.message_context),
                if task.suspended { "suspended" } else { "" }
            );
        }
    }

    // --- looking ---------------------------------------------------------------------------------

    /// The task a capability of process 1 refers to.
    pub fn task(&self, cap: Cap) -> Ref<'static, Task> {
        match self.object::<Task>(cap) {
            Some(task) => task,
            None => panic!("{cap:?} is no task"),
        }
    }
}
