//! The local APIC of each CPU: timer, interrupts between CPUs, end of interrupt.
//!
//! Set-up and rare commands use the `x2apic` crate. The operations of each interrupt are a few
//! instructions, which are written here. The kernel uses x2APIC mode where CPUID shows it.
//!
//! Three facts about the crate (0.5.1). In xAPIC mode the caller must shift the destination. The
//! crate leaves the LINT pins unmasked and the error interrupt masked. It unmasks the timer before
//! it enables the APIC; a disabled APIC ignores that, so it must be done again.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x2apic::lapic::{IpiAllShorthand, LocalApic, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::registers::model_specific::Msr;

use crate::cpu::features::Features;
use crate::cpu::time;
use crate::mem::kernel;
use crate::mem::table::MapError;
use crate::trap;

const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const ERROR_STATUS: u32 = 0x280;
const COMMAND_LOW: u32 = 0x300;
const COMMAND_HIGH: u32 = 0x310;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;

/// The timer is set longer by one part in two to this: 30 millionths.
const TIMER_MARGIN: u32 = 15;
const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 0b100 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const X2APIC_COMMAND: u32 = 0x830;
const TSC_DEADLINE: u32 = 0x6e0;

/// Address of the xAPIC registers; 0 in x2APIC mode.
static REGISTERS: AtomicU64 = AtomicU64::new(0);
/// The boot CPU's APIC works.
static READY: AtomicBool = AtomicBool::new(false);
/// The timer compares with the TSC.
static DEADLINE_MODE: AtomicBool = AtomicBool::new(false);
/// Timer counts for each TSC tick, 32.32 fixed point, and the margin.
static COUNTS_PER_TICK: AtomicU64 = AtomicU64::new(0);
/// Most TSC ticks for which the timer is set, so that the counts fit.
static MOST_TICKS: AtomicU64 = AtomicU64::new(0);

fn x2apic_mode() -> bool {
    REGISTERS.load(Ordering::Relaxed) == 0
}

fn msr_of(register: u32) -> Msr {
    Msr::new(0x800 + (register >> 4))
}

/// Returns the address of an APIC register in xAPIC mode; `None` in x2APIC mode.
#[inline(always)]
fn address_of(register: u32) -> Option<*mut u32> {
    let base = REGISTERS.load(Ordering::Relaxed);
    (base != 0).then(|| (base + u64::from(register)) as *mut u32)
}

#[inline(always)]
fn read(register: u32) -> u32 {
    match address_of(register) {
        // SAFETY: x2APIC mode is on; reading APIC registers has no effect on memory.
        None => unsafe { msr_of(register).read() as u32 },
        // SAFETY: mapped as registers by `init`, one 4 KiB page; `register` is inside.
        Some(address) => unsafe { address.read_volatile() },
    }
}

/// # Safety
/// The effect on this CPU's interrupts is wanted, and `register` exists in the mode that is on.
#[inline(always)]
unsafe fn write(register: u32, value: u32) {
    match address_of(register) {
        // SAFETY: the caller's promise.
        None => unsafe { msr_of(register).write(value.into()) },
        // SAFETY: as above, and the address is in the mapped register page.
        Some(address) => unsafe { address.write_volatile(value) },
    }
}

/// Returns the `x2apic` crate's view of this CPU's APIC. Making it touches no register.
fn local_apic() -> LocalApic {
    let mode =
        if DEADLINE_MODE.load(Ordering::Relaxed) { TimerMode::TscDeadline } else { TimerMode::OneShot };
    let built = LocalApicBuilder::new()
        .timer_vector(trap::TIMER.into())
        .error_vector(trap::APIC_ERROR.into())
        .spurious_vector(trap::SPURIOUS.into())
        .timer_mode(mode)
        .timer_divide(TimerDivide::Div1)
        .timer_initial(0)
        .set_xapic_base(REGISTERS.load(Ordering::Relaxed))
        .build();
    match built {
        Ok(apic) => apic,
        // All fields are given, so the builder has nothing to refuse.
        Err(e) => panic!("local APIC: {e}"),
    }
}

/// Returns the physical address at which CPUs see their own APIC.
pub fn physical_base() -> u64 {
    // SAFETY: reads IA32_APIC_BASE.
    unsafe { xapic_base() }
}

/// Finds the APIC's registers, and turns the boot CPU's APIC on.
pub fn init(features: Features) -> Result<(), MapError> {
    if !features.contains(Features::X2APIC) {
        let base = physical_base();
        REGISTERS.store(kernel::map_device(base, 0x1000, kernel::DEVICE)?, Ordering::Relaxed);
    }
    DEADLINE_MODE.store(features.contains(Features::TSC_DEADLINE), Ordering::Relaxed);
    init_cpu();
    Ok(())
}

/// Turns this CPU's APIC on: timer quiet, LINT0 masked (as its PIC is), LINT1 the NMI line of the
/// PC.
pub fn init_cpu() {
    // SAFETY: interrupts are off and the IDT has entries for the vectors given to the builder.
    unsafe {
        let mut apic = local_apic();
        apic.enable();
        apic.enable_timer();
        write(LVT_ERROR, trap::APIC_ERROR.into());
        write(LVT_LINT0, MASKED);
        write(LVT_LINT1, DELIVER_NMI);
        write(TASK_PRIORITY, 0);
        write(ERROR_STATUS, 0);
        if !x2apic_mode() {
            write(ERROR_STATUS, 0);
        }
    }
    READY.store(true, Ordering::Release);
}

/// Returns this CPU's APIC id.
pub fn id() -> u32 {
    let raw = read(ID);
    if x2apic_mode() { raw } else { raw >> 24 }
}

/// Returns the names of the modes in which the APIC and its timer are used, for the boot lines.
pub fn mode_name() -> &'static str {
    match (x2apic_mode(), DEADLINE_MODE.load(Ordering::Relaxed)) {
        (false, false) => "xAPIC, one-shot timer",
        (false, true) => "xAPIC, TSC-deadline timer",
        (true, false) => "x2APIC, one-shot timer",
        (true, true) => "x2APIC, TSC-deadline timer",
    }
}

/// Whether an APIC id can be addressed in the mode that is on.
pub fn reaches(apic_id: u32) -> bool {
    x2apic_mode() || apic_id < 0xff
}

/// Acknowledges the interrupt being handled.
#[inline]
pub fn end_of_interrupt() {
    // SAFETY: lets the next interrupt come, which the CPU takes once interrupts are on.
    unsafe { write(END_OF_INTERRUPT, 0) }
}

/// Reads and clears the APIC's error flags.
pub fn take_errors() -> u32 {
    // SAFETY: a write latches the flags for reading; no other effect.
    unsafe { write(ERROR_STATUS, 0) };
    read(ERROR_STATUS)
}

/// Interrupts the CPU with `apic_id`.
#[inline]
pub fn send(apic_id: u32, vector: u8) {
    // Everything written before is visible to the CPU that takes the interrupt: in xAPIC mode the
    // uncached store orders it, in x2APIC mode the MSR write does not, so the fence does.
    let (Some(low), Some(high)) = (address_of(COMMAND_LOW), address_of(COMMAND_HIGH)) else {
        // SAFETY: `mfence; lfence` is the ordering that Intel asks for before a WRMSR to the ICR;
        // the vector has a handler on every CPU.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            Msr::new(X2APIC_COMMAND).write(u64::from(apic_id) << 32 | u64::from(vector));
        }
        return;
    };
    // SAFETY: registers in the mapped page. A fixed interrupt to a vector that has a handler on
    // every CPU. Interrupts are off, so nothing comes between the two halves.
    unsafe {
        while low.read_volatile() & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
        high.write_volatile(apic_id << 24);
        low.write_volatile(vector.into());
    }
}

/// Returns the destination in the form of the `x2apic` crate: in xAPIC mode it fills bits 32-63 of
/// the command register, of which 56-63 are the destination.
fn destination(apic_id: u32) -> u32 {
    if x2apic_mode() { apic_id } else { apic_id << 24 }
}

/// Resets a CPU: it then waits for [`send_startup`].
///
/// # Safety
/// The CPU is not running kernel code.
pub unsafe fn send_init(apic_id: u32) {
    // SAFETY: the caller's promise.
    unsafe { local_apic().send_init_ipi(destination(apic_id)) }
}

/// Starts a CPU that waits after INIT in real mode at `page * 4096`.
///
/// # Safety
/// The start code is at that page, and its arguments are in place.
pub unsafe fn send_startup(apic_id: u32, page: u8) {
    // SAFETY: the caller's promise.
    unsafe { local_apic().send_sipi(page, destination(apic_id)) }
}

/// Sends an NMI to the CPU with `apic_id`.
pub fn send_nmi(apic_id: u32) {
    // SAFETY: every CPU that runs has an NMI handler with a stack of its own.
    unsafe { local_apic().send_nmi(destination(apic_id)) }
}

/// Stops all other CPUs by NMI: the machine is about to end.
pub fn stop_others() {
    if READY.load(Ordering::Acquire) {
        // SAFETY: every CPU has an NMI handler, which halts once the machine is dying; CPUs that
        // never started ignore it.
        unsafe { local_apic().send_nmi_all(IpiAllShorthand::AllExcludingSelf) }
    }
}

/// Programs the timer for an absolute TSC value; `None` turns it off. May fire early if the
/// distance is more than the counter holds: the handler checks the clock.
#[inline]
pub fn set_timer(at: Option<u64>) {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        // 0 means off to the hardware; a deadline of 0 is long past, and so is 1.
        let value = at.map_or(0, |t| t.max(1));
        // SAFETY: the MSR exists in this mode; the fence orders it after the LVT write in xAPIC
        // mode.
        unsafe {
            core::arch::asm!("mfence", options(nostack, preserves_flags));
            Msr::new(TSC_DEADLINE).write(value);
        }
        return;
    }
    let count = match at {
        None => 0,
        Some(at) => {
            let (most, rate) = (MOST_TICKS.load(Ordering::Relaxed), COUNTS_PER_TICK.load(Ordering::Relaxed));
            // The clock is read last: the timer fires later by what comes after that.
            let ticks = at.saturating_sub(time::tsc()).min(most);
            ((u128::from(ticks) * u128::from(rate)) >> 32) as u32 + 1
        }
    };
    // SAFETY: starts or stops the one-shot timer, whose vector has a handler.
    unsafe { write(TIMER_INITIAL, count) };
}

/// Lets the timer count without interrupts while `during` runs. Gives the counts it made and the
/// TSC ticks that passed meanwhile, or `None` in TSC-deadline mode, where nothing needs measuring.
pub fn count_during(during: impl FnOnce()) -> Option<(u32, u64)> {
    if DEADLINE_MODE.load(Ordering::Relaxed) {
        return None;
    }
    let mut apic = local_apic();
    // SAFETY: masked while it counts, stopped afterwards.
    unsafe { apic.disable_timer() };
    // SAFETY: as above.
    unsafe { write(TIMER_INITIAL, u32::MAX) };
    // Both clocks are read one right after the other, in the same order at both ends.
    let begin = (read(TIMER_CURRENT), time::tsc_ordered());
    during();
    let end = (read(TIMER_CURRENT), time::tsc_ordered());
    // SAFETY: stopped, then unmasked: back to how `init_cpu` left it.
    unsafe { write(TIMER_INITIAL, 0) };
    // SAFETY: as above.
    unsafe { apic.enable_timer() };
    Some((begin.0 - end.0, end.1 - begin.1))
}

/// Notes the timer's speed against the TSC. The speed is known to some millionths. The timer is set
/// rather that much too late than too early, which would cost another interrupt.
pub fn set_speed(counts: u64, tsc_ticks: u64) {
    if tsc_ticks > 0 {
        let rate = (u128::from(counts) << 32) / u128::from(tsc_ticks);
        let rate = (rate + (rate >> TIMER_MARGIN)).clamp(1, u64::MAX.into()) as u64;
        COUNTS_PER_TICK.store(rate, Ordering::Relaxed);
        let most = (u128::from(u32::MAX - 1) << 32) / u128::from(rate);
        MOST_TICKS.store(most.min(u64::MAX.into()) as u64, Ordering::Relaxed);
    }
}
