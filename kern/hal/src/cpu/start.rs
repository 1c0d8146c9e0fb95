//! Starting the other CPUs.
//!
//! The boot CPU starts them one after the other: it prepares the CPU's window, puts the start
//! code's arguments in place, sends INIT and SIPI, waits for the CPU to report, and measures its
//! TSC. If a CPU does not answer in time, or lacks a feature of the boot CPU, the boot CPU logs
//! that and leaves the CPU out. It sends that CPU another INIT, so that it cannot wake up later,
//! and uses its window for the next CPU.
//!
//! When a CPU turns paging on, it executes code in the start page, at its physical address. So its
//! first page tables must map that page there. The boot page tables do; the kernel's tables, which
//! the start code loads next, never map the lower half. Also, the start code loads 32 bits of
//! CR3, so the first page tables must be below 4 GiB, where the boot page tables are linked.

use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, Ordering};

use raw_cpuid::CpuId as CpuInfo;
use smp::cpu::{CpuId, MAX_CPUS};

use super::features::Features;
use super::percpu::{self, CpuLocal};
use super::{enable, idle, tables, time};
use crate::dev::acpi::Tables;
use crate::dev::lapic;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::mem::kernel;
use crate::mem::ranges::Range;
use crate::mem::table::MapError;
use crate::{info, warn};

/// Between INIT and the first SIPI, in microseconds (Intel's sequence).
const AFTER_INIT: u64 = 10_000;
/// Before the second SIPI is sent.
const AFTER_STARTUP: u64 = 1_000;
/// How long a CPU has to come up.
const PATIENCE: u64 = 2_000_000;

/// What the start code reads, at a fixed place in the start page.
#[repr(C, align(16))]
struct StartArgs {
    /// Null, 64-bit code.
    gdt: [u64; 2],
    /// Operand of LGDT: limit, address.
    gdt_pointer: [u16; 3],
    /// Operand of the far jump: offset, selector.
    far_64: [u16; 3],
    start_tables: u32,
    kernel_tables: u64,
    stack: u64,
    local: u64,
    entry: u64,
}

/// Where the arguments are in the start page.
const ARGS: usize = 1024;

crate::assembly! {
    (include_str!("start.s"),)
    { ARGS, StartArgs: gdt_pointer far_64 start_tables kernel_tables stack local entry };
    main = sym ap_main,
    options(att_syntax)
}

unsafe extern "C" {
    /// In the boot segment, which is free memory only once all CPUs are up; below 4 GiB.
    static boot_pml4: u8;
    static ap_start_code: u8;
    static ap_start_64: u8;
    static ap_start_end: u8;
    fn ap_enter_kernel();
}

/// Set when the kernel is ready for the other CPUs.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// The page where CPUs start.
struct StartPage(Range);

impl StartPage {
    /// Takes a page below 1 MiB and writes code and constant arguments to it.
    fn prepare() -> Result<StartPage, MapError> {
        let below_1m = Range::new(PAGE, 1 << 20).ok_or(MapError::NoTable)?;
        let page =
            kernel::with_free_memory(|free| free.take(PAGE, PAGE, below_1m)).ok_or(MapError::NoTable)?;
        let code = &raw const ap_start_code;
        let len = (&raw const ap_start_end) as usize - code as usize;
        assert!(len <= ARGS, "the start code runs into its arguments");
        // SAFETY: `len` bytes of code from the image to a page that was just taken.
        unsafe { core::ptr::copy_nonoverlapping(code, (DIRECT_MAP + page.start()) as *mut u8, len) };
        let base = page.start() as u32;
        let gdt = base + (ARGS + offset_of!(StartArgs, gdt)) as u32;
        let code_64 = base + (&raw const ap_start_64 as usize - code as usize) as u32;
        let args = StartArgs {
            gdt: [0, 0x00af_9b00_0000_ffff],
            gdt_pointer: [15, gdt as u16, (gdt >> 16) as u16],
            far_64: [code_64 as u16, (code_64 >> 16) as u16, tables::KERNEL_CODE],
            start_tables: (&raw const boot_pml4) as u32,
            kernel_tables: kernel::root(),
            stack: 0,
            local: 0,
            entry: ap_enter_kernel as *const () as u64,
        };
        let start = StartPage(page);
        // SAFETY: inside the start page, which is ours; no CPU reads it yet.
        unsafe { start.args().write(args) };
        Ok(start)
    }

    fn args(&self) -> *mut StartArgs {
        (DIRECT_MAP + self.0.start() + ARGS as u64) as *mut StartArgs
    }

    /// Names the CPU that may start next; a stack of 0 lets none start.
    fn set_cpu(&self, local: Option<&CpuLocal>) {
        let stack = local.map_or(0, |l| percpu::stack_top(l.id, 0));
        let args = self.args();
        // SAFETY: inside the start page. A CPU that starts at this moment sees the old stack or the
        // new one, and the block that belongs to it: `local` is written first.
        unsafe {
            (&raw mut (*args).local).write_volatile(local.map_or(0, |l| core::ptr::from_ref(l) as u64));
            core::sync::atomic::fence(Ordering::SeqCst);
            (&raw mut (*args).stack).write_volatile(stack);
        }
    }

    fn sipi_page(&self) -> u8 {
        (self.0.start() / PAGE) as u8
    }
}

/// Starts every enabled processor, at most `limit` CPUs with the boot CPU. Those up are in
/// [`percpu::all`].
pub fn start_all(firmware: &Tables, limit: usize, features: Features) -> Result<(), MapError> {
    let boot_id = lapic::id();
    let start = StartPage::prepare()?;
    let mut result = Ok(());
    firmware.for_each_processor(|apic_id, enabled| {
        // The boot CPU, or a CPU that the table lists twice (as APIC and as x2APIC).
        if apic_id == boot_id || percpu::all().any(|cpu| cpu.apic_id == apic_id) || result.is_err() {
            return;
        }
        if !enabled {
            info!("CPU with APIC id {:#x} is disabled by the firmware", apic_id);
        } else if !lapic::reaches(apic_id) {
            warn!("CPU with APIC id {:#x} left out: only x2APIC could address it", apic_id);
        } else if percpu::count() < limit.min(MAX_CPUS) {
            result = start_one(&start, apic_id, features);
        }
    });
    // No CPU uses the page any more.
    kernel::with_free_memory(|free| free.add(start.0));
    result
}

fn start_one(start: &StartPage, apic_id: u32, features: Features) -> Result<(), MapError> {
    let Some(id) = CpuId::new(percpu::count()) else {
        return Ok(());
    };
    let local = percpu::make_window(id, apic_id, features)?;
    time::reset_exchange();
    start.set_cpu(Some(local));
    wake_up(start, local);
    let report = *local.report.get().unwrap_or(&Err("it did not come up in time"));
    start.set_cpu(None);
    if let Err(reason) = report {
        warn!("CPU with APIC id {:#x} left out: {}", apic_id, reason);
        // SAFETY: it never got to kernel code beyond `ap_main`'s halt, or not even there.
        unsafe { lapic::send_init(apic_id) };
        time::delay(AFTER_INIT);
        return Ok(());
    }
    percpu::count_in(id);
    time::measure_skew(local);
    info!("cpu{} is up, APIC id {:#x}", id.raw(), apic_id);
    Ok(())
}

/// Sends INIT, SIPI, and a second SIPI if the first had no effect.
fn wake_up(start: &StartPage, local: &CpuLocal) {
    let wait = |microseconds| time::wait(microseconds, || local.report.is_completed());
    #[cfg(feature = "faults")]
    if local.id.index() == 1 && local.apic_id == 1 && crate::boot::faults::is("silent") {
        return wait(PATIENCE);
    }
    // SAFETY: the CPU has not been started.
    unsafe { lapic::send_init(local.apic_id) };
    time::delay(AFTER_INIT);
    // SAFETY: start code and arguments are in place.
    unsafe { lapic::send_startup(local.apic_id, start.sipi_page()) };
    wait(AFTER_STARTUP);
    if !local.report.is_completed() {
        // SAFETY: as above; a CPU that has started ignores it.
        unsafe { lapic::send_startup(local.apic_id, start.sipi_page()) };
        wait(PATIENCE);
    }
}

/// Starts an application processor in Rust, on its kernel stack, with the kernel's tables.
extern "C" fn ap_main(local: &'static CpuLocal) -> ! {
    let features = Features::detect(&CpuInfo::new());
    if !features.contains(local.features) {
        local.report.call_once(|| Err("it lacks features that the boot CPU has"));
        crate::dev::exit::halt();
    }
    // SAFETY: it has all features of the boot CPU; CR3 was loaded without low bits; the kernel's
    // tables are supervisor-only.
    unsafe { enable::control_registers(local.features) };
    // SAFETY: `local` was made for this CPU, which has loaded no TSS yet.
    unsafe { tables::load(local) };
    lapic::init_cpu();
    if lapic::id() != local.apic_id {
        local.report.call_once(|| Err("another CPU answered in its place"));
        crate::dev::exit::halt();
    }
    super::mitigations::enable_here();
    super::machine_check::init();
    #[cfg(feature = "faults")]
    crate::trap::attempt::write_before_sealing();
    local.report.call_once(|| Ok(()));
    time::answer_skew();
    while !RELEASED.load(Ordering::Acquire) {
        // Only the wake-up comes: nothing else is on yet.
        let _ = idle::halt();
    }
    // The kernel was sealed while this CPU waited.
    kernel::forget_write_access();
    crate::boot::ap_ready(local.id)
}

/// Releases the other CPUs into the kernel, whose own half of the address space is final.
pub fn release() {
    #[cfg(feature = "faults")]
    crate::boot::faults::run_on_boot_cpu();
    RELEASED.store(true, Ordering::SeqCst);
    for cpu in percpu::all().filter(|cpu| cpu.id != CpuId::BOOT) {
        lapic::send(cpu.apic_id, crate::trap::WAKE);
    }
}

/// Logs how far the TSCs are apart.
pub fn print_skew() {
    let measured = || percpu::all().filter_map(|cpu| Some((cpu.id, *cpu.tsc_skew.get()?)));
    if let Some((cpu, (skew, _))) = measured().max_by_key(|(_, (skew, _))| skew.unsigned_abs()) {
        let error = measured().map(|(_, (_, error))| error).max().unwrap_or(0);
        info!(
            "TSC skew to the boot CPU at most {} ticks (cpu{}), known to within {}",
            skew,
            cpu.raw(),
            error
        );
    }
}
