//! The boot sequence. [`super`] has its order.

use core::arch::{asm, global_asm};
use core::sync::atomic::Ordering::Relaxed;

use abi::Power;
use kern_base::cpu::CpuBlock;
use kern_base::task::VECTOR_AREA;
use raw_cpuid::CpuId as CpuInfo;
use smp::cpu::{CpuId, MAX_CPUS};
use spin::{Mutex, MutexGuard, Once};

use super::info::{self, BootInfo, InfoError};
use crate::cpu::features::Features;
use crate::cpu::idle::{self, IdleMode};
use crate::cpu::{enable, machine_check, mitigations, percpu, start, tables, time, vector};
use crate::dev::acpi::Tables;
use crate::dev::exit::{self, Exit};
use crate::dev::log::{self, Shown};
use crate::dev::{clock, ioapic, lapic, logport, serial};
use crate::layout::{self, DIRECT_MAP};
use crate::mem::kernel;
use crate::mem::ranges::Range;
use crate::mem::table::MapError;
use crate::mem::tlb;
use crate::{eprintln, info, println, warn};

global_asm!(
    include_str!("entry.s"),
    pvh_magic = const info::PVH_BOOT,
    direct_map_slot = const layout::table_index(DIRECT_MAP, 4),
    fast_map = const DIRECT_MAP,
    exit_panic = const Exit::Panic as u8,
    main = sym boot_main,
    options(att_syntax)
);

/// What the image plugs into this crate.
pub struct Kernel {
    /// Runs on the boot CPU when the machine is ready; the other CPUs wait for
    /// [`start::release`].
    pub main: fn(&'static Boot) -> !,
    /// Runs on each other CPU after that.
    pub ap_main: fn(CpuId) -> !,
    /// Another interrupt than the timer's or a device's came while user code ran, and has been
    /// acknowledged.
    /// Returns to resume the current task, which may be another one by then.
    pub on_interrupt: fn(&'static CpuBlock, u8),
    /// The timer fired while user code ran, and has been acknowledged. Returns as above.
    pub on_timer: fn(&'static CpuBlock),
    /// A device's interrupt came while user code ran, by its place in the CPU's table. It is not
    /// acknowledged yet. Returns as above.
    pub on_device: fn(&'static CpuBlock, usize),
    /// User code faulted: the vector, the error code (0 for exceptions without), and CR2 for page
    /// faults or what DR6 says for debug exceptions. Returns as above.
    pub on_fault: fn(&'static CpuBlock, u8, u64, u64),
}

/// Names the image's [`Kernel`] to this crate.
#[macro_export]
macro_rules! kernel {
    ($kernel:expr) => {
        // SAFETY: the name is this crate's own; the macro is used once, in the image.
        #[unsafe(no_mangle)]
        static AURORA_KERNEL: $crate::boot::Kernel = $kernel;
    };
}

unsafe extern "Rust" {
    /// Defined by [`kernel!`](crate::kernel) in the image; immutable.
    pub(crate) safe static AURORA_KERNEL: Kernel;
}

/// What boot found out.
pub struct Boot {
    pub info: &'static BootInfo,
    /// The boot archive, in whole pages of its own.
    pub module: Option<Range>,
    pub features: Features,
}

/// Returns the value of a boot option, once the loader's information is read.
pub fn option(key: &str) -> Option<&'static str> {
    info::option(READ_INFO.get()?.command_line(), key)
}

static INFO: Mutex<BootInfo> = Mutex::new(BootInfo::new());
/// [`INFO`], filled; its lock is never released.
static READ_INFO: Once<&'static BootInfo> = Once::new();
/// Where firmware says that IOAPICs are, and their first lines; `None` where those are more than
/// there is room for.
static IO_APICS: Once<Option<heapless::Vec<(u64, u32), IO_APICS_MAX>>> = Once::new();
const IO_APICS_MAX: usize = 32;
static POWER: Once<Power> = Once::new();
static BOOT: Once<Boot> = Once::new();

/// Returns RAM as the boot page tables show it.
fn early_bytes(at: u64, len: usize) -> Option<&'static [u8]> {
    if at == 0 || at.checked_add(len as u64)? > 4 << 30 {
        return None;
    }
    // SAFETY: the boot tables map the first 4 GiB; nothing writes the loader's information.
    Some(unsafe { core::slice::from_raw_parts((DIRECT_MAP + at) as *const u8, len) })
}

/// Ends the boot with a message.
pub fn give_up(why: core::fmt::Arguments<'_>) -> ! {
    eprintln!("aurora: can't boot: {why}");
    exit::exit(Exit::Panic)
}

/// Runs the first Rust code, on the boot stack and the boot page tables.
extern "C" fn boot_main(magic: u32, loader_info: u32) -> ! {
    serial::init();
    println!("aurora {} boots", env!("CARGO_PKG_VERSION"));
    let features = Features::detect(&CpuInfo::new());
    if !features.missing().is_empty() {
        // A person without a serial line has to read it, too; whether there is a screen, the loader
        // says.
        let _ = read_info(magic, loader_info);
        eprintln!("aurora: this CPU lacks required features: {}", features.missing());
        exit::exit(Exit::Panic);
    }
    // SAFETY: NX is a required feature; this is the boot CPU, interrupts are off.
    unsafe {
        enable::no_execute();
        tables::init_interrupts();
    }
    let boot_info = read_info(magic, loader_info).unwrap_or_else(|e| give_up(format_args!("{e}")));
    #[cfg(feature = "faults")]
    super::faults::leave_protections_off();
    kernel::find_free_memory(boot_info);
    if let Err(e) = kernel::build(boot_info, features) {
        give_up(format_args!("no memory for page tables ({e:?})"));
    }
    // SAFETY: NX is on; image and boot stack (in the direct map) are mapped by the new tables.
    unsafe { tlb::switch_to(kernel::root()) };
    let boot_cpu = lapic::init(features)
        .and_then(|()| percpu::make_window(CpuId::BOOT, lapic::id(), features))
        .unwrap_or_else(|e| give_up(format_args!("no memory for the boot CPU ({e:?})")));
    percpu::count_in(boot_cpu.id);
    vector::HAS_XGETBV1.store(features.contains(Features::XGETBV1), Relaxed);
    // SAFETY: CR3 has no low bits; the features are this CPU's; the window is new and its own.
    unsafe {
        enable::control_registers(features);
        tables::load(boot_cpu);
        tables::use_own_stacks();
    }
    if vector::area_size() > VECTOR_AREA {
        give_up(format_args!("vector state takes {} bytes, tasks have {VECTOR_AREA}", vector::area_size()));
    }
    switch_stack(percpu::stack_top(boot_cpu.id, 0))
}

fn read_info(magic: u32, loader_info: u32) -> Result<&'static BootInfo, InfoError> {
    let mut boot_info = INFO.lock();
    boot_info.read(magic, loader_info, &early_bytes)?;
    if boot_info.text_screen().is_some() {
        // SAFETY: the loader says so; the boot tables show the first 4 GiB, and `kernel::build`
        // maps the screen again.
        unsafe { serial::add_screen() };
    }
    // Never written again.
    Ok(READ_INFO.call_once(|| MutexGuard::leak(boot_info)))
}

/// Continues in [`boot_on_own_stack`], and leaves the boot stack for good.
fn switch_stack(top: u64) -> ! {
    // SAFETY: `top` is the end of this CPU's kernel stack, unused so far; nothing on the old stack
    // is needed again.
    unsafe {
        asm!(
            "mov rsp, {top}",
            "xor ebp, ebp",
            "call {next}",
            "int3",
            top = in(reg) top,
            next = sym boot_on_own_stack,
            options(noreturn)
        )
    }
}

/// Continues the boot, on the boot CPU's kernel stack, up to the first user task.
extern "C" fn boot_on_own_stack() -> ! {
    let Some(cpu) = percpu::this() else {
        give_up(format_args!("the kernel stack is not a CPU's own"));
    };
    let features = cpu.features;
    let Some(&boot_info) = READ_INFO.get() else {
        give_up(format_args!("the loader's information was not read"));
    };
    idle::set_mode(read_options(boot_info.command_line(), features));
    print_info(boot_info, features);
    clock::mask_pic();
    if let Err(e) = bring_up(boot_info, features) {
        give_up(format_args!("no memory while starting CPUs ({e:?})"));
    }
    start::print_skew();
    mitigations::print();
    if let Some(segment) = kernel::boot_segment() {
        kernel::with_free_memory(|free| free.add(segment));
    }
    let module = boot_info.module.map(|m| {
        kernel::settle_module(m)
            .unwrap_or_else(|e| give_up(format_args!("no memory for the archive ({e:?})")))
    });
    let free = kernel::with_free_memory(|free| free.total());
    info!("{} CPUs, {} MiB free", percpu::count(), free >> 20);
    (AURORA_KERNEL.main)(BOOT.call_once(|| Boot { info: boot_info, module, features }))
}

/// Applies the boot options that this crate knows. Returns how CPUs wait.
fn read_options(line: &str, features: Features) -> IdleMode {
    let knows_log = logport::choose(option("log"));
    log::choose(line);
    if !knows_log {
        warn!("boot option log= takes e9, com2, text or off: taken as off");
    }
    if !option("level").is_none_or(abi::level::is_value) {
        warn!(
            "boot option level= takes off, error, warn, info, debug or trace, and part=level: the rest is ignored"
        );
    }
    match IdleMode::from_option(option("idle")) {
        Some(IdleMode::MWAIT) if !features.contains(Features::MONITOR) => {
            warn!("boot option idle=mwait: this CPU has no MONITOR: taken as halt");
            IdleMode::HALT
        }
        Some(mode) => mode,
        None => {
            warn!("boot option idle= takes halt, poll or mwait: taken as halt");
            IdleMode::HALT
        }
    }
}

fn print_info(boot_info: &BootInfo, features: Features) {
    let loader = boot_info.loader.unwrap_or("nobody");
    info!("loaded by {}, command line \"{}\"", loader, boot_info.command_line());
    if boot_info.command_line_cut {
        warn!("the command line is longer than {} bytes: cut", info::MAX_COMMAND_LINE);
    }
    for region in &boot_info.regions {
        let kind = Shown(format_args!("{:?}", region.kind));
        info!("memory {:#012x}-{:#012x} {}", region.range.start(), region.range.end(), kind);
    }
    if boot_info.regions_lost > 0 {
        warn!("{} memory regions too many: not used", boot_info.regions_lost);
    }
    if let Some(module) = boot_info.module {
        info!("boot archive at {:#x}, {} bytes", module.start(), module.size());
    }
    info!("features {}", Shown(features));
}

/// Brings up ACPI, clocks and the other CPUs.
fn bring_up(boot_info: &BootInfo, features: Features) -> Result<(), MapError> {
    info!("{}", lapic::mode_name());
    mitigations::enable_here();
    machine_check::init();
    let firmware = Tables::find(&boot_info.root_pointer);
    let pm_timer = firmware.as_ref().and_then(Tables::pm_timer);
    if time::calibrate(features, pm_timer).is_none() {
        give_up(format_args!("no clock runs against which to measure the TSC"));
    }
    let limit = match option("cpus").map(str::parse) {
        Some(Ok(n)) => n,
        Some(Err(_)) => {
            warn!("boot option cpus= takes a number: ignored");
            MAX_CPUS
        }
        None => MAX_CPUS,
    };
    IO_APICS.call_once(|| {
        let (mut found, mut all) = (heapless::Vec::new(), true);
        if let Some(firmware) = &firmware {
            firmware.for_each_io_apic(|at, first| all &= found.push((at, first)).is_ok());
        }
        Some(found).filter(|_| all)
    });
    ioapic::init(IO_APICS.get().and_then(Option::as_ref).into_iter().flatten().copied())?;
    POWER.call_once(|| firmware.as_ref().map(Tables::power).unwrap_or_default());
    match firmware {
        Some(firmware) => start::start_all(&firmware, limit, features),
        None => Ok(()),
    }
}

/// Returns where the machine is switched off and reset, as firmware says.
pub fn power() -> Power {
    POWER.get().copied().unwrap_or_default()
}

/// Whether a range is device memory that programs may have: no RAM except firmware's tables, no
/// interrupt controller, and within what CPUs can address.
pub fn is_device_memory(at: u64, bytes: u64) -> bool {
    let bits =
        CpuInfo::new().get_processor_capacity_feature_info().map_or(36, |info| info.physical_address_bits());
    let Some(range) = Range::sized(at, bytes).filter(|range| range.end() <= 1 << bits) else { return false };
    let own = Range::sized(lapic::physical_base(), 0x1000);
    let known = READ_INFO.get().is_some_and(|info| info.is_device(range));
    let others = IO_APICS.get().and_then(Option::as_ref);
    let is_free =
        |(at, _): &(u64, u32)| !Range::sized(*at, 0x1000).is_some_and(|other| other.overlaps(range));
    known && !own.is_some_and(|own| own.overlaps(range)) && others.is_some_and(|all| all.iter().all(is_free))
}

/// Continues another CPU, which has been released.
pub(crate) fn ap_ready(cpu: CpuId) -> ! {
    #[cfg(feature = "faults")]
    super::faults::run_on_other_cpu(cpu);
    (AURORA_KERNEL.ap_main)(cpu)
}
