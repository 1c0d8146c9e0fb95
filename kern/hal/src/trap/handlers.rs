//! Handlers of exceptions and interrupts. The assembly of [`super::entry`] calls these functions.

use core::sync::atomic::{AtomicBool, Ordering};

use kern_base::cpu::CpuBlock;
use x86_64::registers::control::Cr2;

use super::frame::KernelFrame;
use super::{APIC_ERROR, DEBUG, Meaning, PAGE_FAULT, SPURIOUS, WAKE, device_of, dump, entry, epitaph};
use crate::boot::AURORA_KERNEL;
use crate::cpu::{debug, idle, percpu};
use crate::dev::log::Shown;
use crate::dev::{exit, lapic, logport};
use crate::eprintln;

/// Set once a CPU has begun to die: the others stop at the next NMI.
static DYING: AtomicBool = AtomicBool::new(false);

/// Handles a trap that did not go to a task.
pub(super) extern "C" fn kernel_trap(frame: &mut KernelFrame) {
    #[cfg(feature = "faults")]
    if super::attempt::stopped(frame) {
        return;
    }
    match super::meaning(frame, entry::exit_iret()) {
        Meaning::NonMaskable => non_maskable(frame),
        // No handler gets it.
        Meaning::LateDebug => drop(debug::take_status()),
        Meaning::FrameRefused => bad_exit(frame),
        Meaning::KernelFault => die_of_exception(frame),
    }
}

/// Turns the refusal of the current task's frame into a fault of that task.
fn bad_exit(frame: &KernelFrame) -> ! {
    let Some(block) = percpu::this().and_then(|cpu| cpu.block()) else {
        die_of_exception(frame);
    };
    // SAFETY: `meaning` said that the exit's IRET refused the frame; the exit keeps nothing on the
    // stack.
    unsafe { entry::blame_task(block, frame.vector, frame.error) }
}

/// Handles an exception in user mode. The registers are in the current task's frame.
pub(super) extern "C" fn user_fault(block: &'static CpuBlock, vector: u64, error: u64, address: u64) {
    let address = if vector == u64::from(PAGE_FAULT) {
        address
    } else if vector == u64::from(DEBUG) {
        // CR2 is of an earlier page fault, perhaps another task's.
        debug::take_status()
    } else {
        0
    };
    (AURORA_KERNEL.on_fault)(block, vector as u8, error, address);
}

/// Handles an interrupt in user mode. The registers are in the current task's frame.
pub(super) extern "C" fn user_interrupt(block: &'static CpuBlock, vector: u64) {
    if vector == u64::from(WAKE) {
        lapic::end_of_interrupt();
        (AURORA_KERNEL.on_interrupt)(block, WAKE);
    } else if let Some(place) = device_of(vector) {
        // Not acknowledged yet: the kernel masks the device's line before.
        (AURORA_KERNEL.on_device)(block, place);
    } else {
        rare_interrupt(block, vector as u8);
    }
}

/// Handles an interrupt in user mode that is neither the timer's nor mail, nor a device's.
#[cold]
#[inline(never)]
fn rare_interrupt(block: &'static CpuBlock, vector: u8) {
    if !acknowledge(vector) {
        (AURORA_KERNEL.on_interrupt)(block, vector);
    }
}

/// Handles the timer's interrupt of user code. The registers are in the current task's frame.
pub(super) extern "C" fn user_timer(block: &'static CpuBlock) {
    lapic::end_of_interrupt();
    (AURORA_KERNEL.on_timer)(block);
}

/// Handles the timer's interrupt of the code of [`idle`]. Returns the bit that says so.
pub(super) extern "C" fn idle_timer() -> u64 {
    lapic::end_of_interrupt();
    idle::TIMER
}

/// Handles an interrupt in kernel mode, but the timer's: only the code of [`idle`] has interrupts
/// enabled. Returns a bit that says which interrupt that code has to handle.
pub(super) extern "C" fn idle_interrupt(vector: u64) -> u64 {
    if vector == u64::from(WAKE) {
        lapic::end_of_interrupt();
        return idle::WOKEN;
    }
    if let Some(place) = device_of(vector) {
        return 1 << (idle::DEVICE_SHIFT + place as u32);
    }
    match acknowledge(vector as u8) {
        true => 0,
        false => idle::OTHER,
    }
}

/// Acknowledges an interrupt at the APIC. Returns true if nothing else has to be done about it.
fn acknowledge(vector: u8) -> bool {
    match vector {
        // The APIC changed its mind, and expects no acknowledgement.
        SPURIOUS => return true,
        APIC_ERROR => tell_apic_errors(),
        _ => (),
    }
    lapic::end_of_interrupt();
    vector == APIC_ERROR
}

/// Reports the errors of this CPU's APIC. Never inlined: it would lengthen the entries of all
/// interrupts.
#[cold]
#[inline(never)]
fn tell_apic_errors() {
    let errors = lapic::take_errors();
    crate::warn!("APIC of {} reports errors {:#x}", Shown(dump::cpu_name()), errors);
}

/// Handles an NMI: another CPU stops the machine, or a person pressed a button to see where the
/// CPUs are.
fn non_maskable(frame: &KernelFrame) {
    if DYING.load(Ordering::Acquire) {
        exit::halt();
    }
    if let Some(cpu) = percpu::this() {
        cpu.nmis.fetch_add(1, Ordering::Relaxed);
        let mode = if frame.from_user() { "user" } else { "kernel" };
        let then = if cfg!(feature = "trace") { "the run ends" } else { "ignored" };
        eprintln!("aurora: NMI on {:?} in {mode} code at {:#x}, {then}", cpu.id, frame.rip);
        crate::frame!(Warn, warn, "NMI in {} code at {:#x}, {}", mode, frame.rip, then);
        if !frame.from_user() {
            dump::backtrace(frame.rip, frame.rbp);
        }
    }
    // A person who presses the button of a tracing kernel wants to see its events.
    #[cfg(feature = "trace")]
    exit::exit(exit::Exit::Fail)
}

fn die_of_exception(frame: &KernelFrame) -> ! {
    let name = dump::name(frame.vector as u8);
    begin_to_die(format_args!(
        "{name}, error {:#x}, at {:#x}, rsp {:#x}, cr2 {:#x}",
        frame.error,
        frame.rip,
        frame.rsp,
        Cr2::read_raw()
    ));
    dump::exception(frame);
    crate::frame!(Error, error, "kernel exception: {}, error {:#x}, at {:#x}", name, frame.error, frame.rip);
    exit::exit(exit::Exit::Panic)
}

/// Leaves an epitaph, stops the other CPUs and makes this one the only one that prints. Comes back
/// at most once: a second CPU that dies at the same time stops here.
pub fn begin_to_die(why: core::fmt::Arguments<'_>) {
    stop_others(|| {
        // SAFETY: `DYING` lets one CPU through, once.
        unsafe { epitaph::write(percpu::this().map(|cpu| cpu.id.raw()), why) }
    });
    logport::close();
}

/// Stops the other CPUs and makes this one the only one that prints, after it has done `first`. A
/// second CPU that comes here stops, too.
fn stop_others(first: impl FnOnce()) {
    x86_64::instructions::interrupts::disable();
    if DYING.swap(true, Ordering::AcqRel) {
        exit::halt();
    }
    first();
    crate::dev::serial::silence_others();
    lapic::stop_others();
}

/// Stops all CPUs where they are, for a debugger to look at: this one here, the others by NMI, so
/// that none of them executes another instruction of its own.
pub fn freeze(why: core::fmt::Arguments<'_>) -> ! {
    stop_others(|| ());
    eprintln!("aurora: {why}");
    crate::dev::serial::drain();
    exit::halt()
}

/// Reports a panic and its place, for the kernel's panic handler, and ends the run.
pub fn die_of_panic(info: &core::panic::PanicInfo<'_>) -> ! {
    begin_to_die(format_args!("{info}"));
    eprintln!("\naurora: kernel panic on {}: {}", dump::cpu_name(), info.message());
    if let Some(at) = info.location() {
        eprintln!("  at {}:{}:{}", at.file(), at.line(), at.column());
    }
    dump::backtrace_here();
    let place = info.location().map_or("", |at| at.file());
    let line = info.location().map_or(0, |at| at.line());
    crate::frame!(Error, error, "kernel panic: {} at {}:{}", Shown(info.message()), place, line);
    exit::exit(exit::Exit::Panic)
}
