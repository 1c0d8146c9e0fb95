//! The kernel binary: wires the machine (`kern-hal`), the system call entry (`ipc-fast`) and the
//! portable kernel (`kern-core`) together, and starts process 1.
//!
//! The only unsafe code here is in [`boot`]: it turns the memory that is left into the first regions,
//! and says where a kernel entry begins.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod boot;
#[cfg(feature = "chaos")]
mod chaos;
mod process1;

use abi::{Op, TaskId};
use kern_base::cpu::CpuBlock;
use kern_core::entry::Interrupt;
use kern_core::{Cx, Kernel};
use kern_hal::boot::{Boot, Kernel as Hooks, release_cpus};
use kern_hal::cpu::idle::{self, IdleMode};
use kern_hal::cpu::percpu::CpuLocal;
use kern_hal::cpu::{context, percpu, syscall};
use kern_hal::pc::Pc;
use kern_hal::trap::{self, Fault};
use kern_hal::{eprintln, println};
use smp::cpu::{CpuId, Entry, Pin};
use smp::mailbox::Idle;
use smp::quiesce;
use spin::Once;

kern_hal::kernel!(Hooks { main, ap_main, on_interrupt, on_fault });
ipc_fast::handlers!(Handlers);

static KERNEL: Once<Kernel<Pc>> = Once::new();
static IDLE: Once<IdleMode> = Once::new();

/// The portable kernel. Nothing that needs it runs before it is there.
#[inline(always)]
fn kernel() -> &'static Kernel<Pc> {
    match KERNEL.get() {
        Some(kernel) => kernel,
        None => panic!("the kernel was entered before it was made"),
    }
}

/// The block of a CPU.
fn block_of(cpu: CpuId) -> &'static CpuBlock {
    kernel().block(boot::boot_pin(), cpu)
}

/// The context of an entry on the CPU of `block`.
#[inline(always)]
fn context<'k>(pin: Pin<'k>, block: &'static CpuBlock) -> Cx<'k, Pc> {
    match Cx::new(kernel(), pin, block) {
        Some(cx) => cx,
        None => panic!("{:?} runs with the block of {:?}", pin.cpu(), block.id),
    }
}

/// The system call entry's way into the portable kernel.
struct Handlers;

impl ipc_fast::entry::Handlers for Handlers {
    #[inline(always)]
    fn system_call(entry: &mut Entry, block: &'static CpuBlock, op: Op) {
        context(entry.pin(), block).on_system_call(op);
    }

    fn bad_system_call(entry: &mut Entry, block: &'static CpuBlock) {
        context(entry.pin(), block).bad_system_call();
    }

    #[inline(always)]
    fn switch(entry: &mut Entry, block: &'static CpuBlock) {
        // Mostly there is a task to run and nothing else to do.
        let sched = block.sched.here(entry.pin());
        if sched.grace.is_unsettled() || sched.more_mail.get() || !context::load(entry.pin(), block) {
            leave(entry, block);
        }
    }
}

/// Makes the CPU ready to run its current task, idling until it has one.
fn leave(entry: &mut Entry, block: &'static CpuBlock) {
    let Some(cpu) = percpu::this() else { panic!("not on a kernel stack") };
    loop {
        let cx = context(entry.pin(), block);
        if cx.sched.grace.is_unsettled() {
            settle(entry, block);
            continue;
        }
        if context::load(cx.pin, block) {
            cx.announce_left_mail();
            return;
        }
        if !cx.sched.more_mail.get() {
            cx.note_idle();
            wait_for_work(entry, block, cpu);
            if cpu.arrived.any() {
                take_interrupts(entry, block, cpu);
            }
        }
        context(entry.pin(), block).take_mail();
    }
}

/// A quiescent point: grace rounds go on.
#[cold]
fn settle(entry: &mut Entry, block: &'static CpuBlock) {
    let _ = quiesce::settle(kernel(), entry);
    context(entry.pin(), block).wake_grace_waiters();
}

/// The interrupts that came while this CPU was idle.
fn take_interrupts(entry: &mut Entry, block: &'static CpuBlock, cpu: &CpuLocal) {
    while let Some(vector) = cpu.arrived.take() {
        context(entry.pin(), block).on_idle_interrupt(interrupt_of(vector));
    }
}

/// Idles this CPU until something has happened.
fn wait_for_work(entry: &mut Entry, block: &'static CpuBlock, cpu: &CpuLocal) {
    let mode = IDLE.get().copied().unwrap_or_default();
    let how = if mode == IdleMode::Halt { Idle::Halt } else { Idle::Poll };
    if !quiesce::park(kernel(), entry, how) {
        return;
    }
    let quiet = || !block.mailbox.has_mail() && !cpu.arrived.any();
    match mode {
        IdleMode::Halt => idle::halt(),
        IdleMode::Poll => {
            while quiet() {
                idle::poll();
            }
        }
        IdleMode::Mwait => {
            while quiet() {
                idle::mwait(block.mailbox.line(), quiet);
            }
        }
    }
    quiesce::unpark(kernel(), entry);
}

fn interrupt_of(vector: u8) -> Interrupt {
    match vector {
        trap::TIMER => Interrupt::Timer,
        trap::WAKE => Interrupt::Mail,
        _ => Interrupt::Other,
    }
}

/// An interrupt of user code.
fn on_interrupt(block: &'static CpuBlock, vector: u8) {
    let mut entry = boot::entry_of(block);
    let (before, after) = {
        let cx = context(entry.pin(), block);
        let before = cx.hot.current.addr();
        cx.on_interrupt(interrupt_of(vector));
        (before, cx.hot.current.addr())
    };
    if before != after || context(entry.pin(), block).sched.grace.is_unsettled() {
        leave(&mut entry, block);
        return;
    }
    context(entry.pin(), block).announce_left_mail();
    // The interrupted program goes on with all its registers: by IRET.
    quiesce::left_by_iret(kernel(), &mut entry);
}

/// User code faulted: its process is torn down, and the machine says what happened.
fn on_fault(block: &'static CpuBlock, fault: Fault) {
    let mut entry = boot::entry_of(block);
    let what = kern_core::entry::Fault { vector: fault.vector, error: fault.error, address: fault.address };
    let cx = context(entry.pin(), block);
    let rip = cx.current().map_or(0, |me| me.hot.regs.rip.get());
    let who = cx.on_fault(what).unwrap_or(TaskId::NONE);
    println!(
        "aurora: process {} (task {}) ended: exception {} error {:#x} address {:#x} at {:#x}",
        who.process().number(),
        who.task(),
        fault.vector,
        fault.error,
        fault.address,
        rip
    );
    leave(&mut entry, block);
}

fn main(boot: &'static Boot) -> ! {
    IDLE.call_once(|| boot.idle);
    let made = boot::make(boot, &KERNEL);
    let Some(made) = made else {
        eprintln!("aurora: not enough memory for the kernel's own objects");
        kern_hal::dev::exit::exit(kern_hal::dev::exit::Exit::Panic)
    };
    for cpu in percpu::all() {
        let block = block_of(cpu.id);
        percpu::bind(cpu.id, block);
    }
    if syscall::write_slots(block_of, ipc_fast::entry::common_entry()).is_err() {
        eprintln!("aurora: no memory for the system call entries");
        kern_hal::dev::exit::exit(kern_hal::dev::exit::Exit::Panic)
    }
    #[cfg(feature = "fastpath")]
    ipc_fast::fast::set_features(boot.features);
    if let Err(why) = process1::start(boot, kernel(), &made) {
        eprintln!("aurora: process 1 can't start: {why}");
        kern_hal::dev::exit::exit(kern_hal::dev::exit::Exit::Panic)
    }
    #[cfg(feature = "chaos")]
    chaos::start(boot);
    release_cpus();
    run(CpuId::BOOT)
}

fn ap_main(cpu: CpuId) -> ! {
    run(cpu)
}

/// The CPU enters its life: runs tasks, idles when there are none.
fn run(cpu: CpuId) -> ! {
    let block = block_of(cpu);
    boot::accept_system_calls(cpu);
    let mut entry = boot::entry_of(block);
    {
        let cx = context(entry.pin(), block);
        cx.hot.kernel_stack.set(percpu::stack_top(cpu, 0));
        cx.dispatch();
    }
    leave(&mut entry, block);
    boot::run_first_task(block)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    trap::die_of_panic(info)
}
