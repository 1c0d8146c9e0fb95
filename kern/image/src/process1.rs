//! Makes process 1. The kernel does that itself, because no process exists yet that could retype
//! objects for it.
//!
//! Its image, stack, boot page and the archive are plain mappings without Frame objects: they are
//! part of the boot memory and stay as long as the machine runs.

use smp::sync::AtomicU64;

use abi::{BootPage, Cap, Error, PAGE_SIZE, cpu_features};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use kern_base::machine::Access;
use kern_base::memory::VSpace;
use kern_base::paging::TABLE_BYTES;
use kern_base::phys::{PhysPage, PhysRange};
use kern_base::process::{PROCESS_ALIGN, Process, TaskNumber};
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::{Bound, SchedControl};
use kern_base::slot::{CNode, Slot};
use kern_base::task::{TASK_BYTES, Task};
use kern_core::MachineObject;
use kern_core::rooms::Door;
use kern_hal::boot::{self, Boot};
use kern_hal::cpu::features::Features;
use kern_hal::cpu::{percpu, time, vector};
use kern_hal::mem::ranges::Range;
use kern_hal::pc::Pc;
use smp::cpu::{CpuId, Pin};
use smp::door::masked::FilledTable;
use smp::door::{Ref, Region};
use test_abi::build;

use crate::boot::{BOOT_ROOT, Made, archive_bytes, archive_pages, boot_context, make_table, memory_of};

/// Page tables for process 1: enough for its image, stack, scratch windows and a large archive.
const TABLE_POOL: u64 = 128;
const TASK_NUMBERS: usize = 64;
/// Priority of process 1: above what it starts unless it says otherwise.
const PRIORITY: u8 = 200;
/// Slice of process 1, in TSC ticks, until it sets its own.
const SLICE: u64 = 10_000_000;

/// Why process 1 can't be started.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("the loader gave no boot archive (QEMU: -initrd FILE)")]
    NoArchive,
    #[error("the boot archive has no file named \"init\"")]
    NoInit,
    #[error("\"init\" is not a program for this machine: {0}")]
    BadElf(&'static str),
    #[error("its memory does not suffice")]
    NoMemory,
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl From<kern_core::Refusal> for Why {
    fn from(refusal: kern_core::Refusal) -> Why {
        match refusal {
            kern_core::Refusal::Error { error, .. } => Why::Kernel(error),
            _ => Why::Kernel(Error::BadState),
        }
    }
}

/// What is made for process 1.
struct First<'a> {
    cx: Door<'static, Pc>,
    region: &'a Region,
    vspace: Ref<'static, VSpace>,
}

/// Builds process 1 and makes it ready on the boot CPU.
pub fn start(boot: &'static Boot, made: &Made) -> Result<(), Why> {
    let cx = boot_context().ok_or(Why::Kernel(Error::WrongCpu))?;
    let module = boot.module.ok_or(Why::NoArchive)?;
    let archive = archive_bytes(module);
    let vspace = make_vspace(cx, &made.region).ok_or(Why::NoMemory)?;
    let first = First { cx, region: &made.region, vspace };
    let entry = first.load(find_init(archive)?)?;
    first.map_archive(module)?;
    let stack = abi::INIT_STACK_TOP - abi::INIT_STACK_SIZE..abi::INIT_STACK_TOP;
    for page in stack.step_by(PAGE_SIZE as usize) {
        first.map_page(page, &[], Access::Write)?;
    }
    first.map_boot_page(boot, made, archive.len() as u64)?;
    first.start(made, entry)
}

fn find_init(archive: &'static [u8]) -> Result<&'static [u8], Why> {
    let archive = tar_no_std::TarArchiveRef::new(archive).map_err(|_| Why::NoArchive)?;
    let init = archive.entries().find(|entry| entry.filename().as_str() == Ok("init"));
    init.map(|entry| entry.data()).ok_or(Why::NoInit)
}

fn make_vspace(cx: Door<'static, Pc>, region: &Region) -> Option<Ref<'static, VSpace>> {
    let tables = region.carve((1 + TABLE_POOL) * TABLE_BYTES, PAGE_SIZE)?;
    let seen = make_table(region, cx.k.cpu_count(), |_| AtomicU64::new(0))?;
    let vspace = cx.make().new_vspace(BOOT_ROOT, tables.clear(), seen)?;
    vspace.take_pcid(&cx.k.machine, None);
    carve(region, cx.pin(), vspace)
}

fn carve<T: 'static>(region: &Region, pin: Pin<'static>, object: T) -> Option<Ref<'static, T>> {
    region
        .carve((size_of::<T>() as u64).next_multiple_of(64), align_of::<T>().max(64) as u64)?
        .emplace(pin, object)
}

impl First<'_> {
    /// Loads the program's segments; returns its entry point.
    fn load(&self, file: &'static [u8]) -> Result<u64, Why> {
        let bad = |_| Why::BadElf("damaged headers");
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(bad)?;
        if elf.ehdr.e_machine != elf::abi::EM_X86_64 || elf.ehdr.e_type != elf::abi::ET_EXEC {
            return Err(Why::BadElf("not a static x86-64 executable"));
        }
        let segments = elf.segments().ok_or(Why::BadElf("no segments"))?;
        for segment in segments.iter().filter(|s| s.p_type == elf::abi::PT_LOAD) {
            let data = elf.segment_data(&segment).map_err(|_| Why::BadElf("a segment is cut off"))?;
            self.load_segment(segment.p_vaddr, segment.p_memsz, segment.p_flags, data)?;
        }
        Ok(elf.ehdr.e_entry)
    }

    fn load_segment(&self, address: u64, size: u64, flags: u32, data: &[u8]) -> Result<(), Why> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Why::BadElf("a segment does not start on a page"));
        }
        let access = match (flags & elf::abi::PF_W != 0, flags & elf::abi::PF_X != 0) {
            (false, false) => Access::Read,
            (true, false) => Access::Write,
            (false, true) => Access::Execute,
            (true, true) => return Err(Why::BadElf("a segment is writable and executable")),
        };
        let pages = size.div_ceil(PAGE_SIZE);
        for page in 0..pages {
            let start = (page * PAGE_SIZE) as usize;
            let end = (start + PAGE_SIZE as usize).min(data.len());
            let bytes = data.get(start..end.max(start)).unwrap_or(&[]);
            self.map_page(address + page * PAGE_SIZE, bytes, access)?;
        }
        Ok(())
    }

    /// Maps one fresh page that starts with `bytes`. Returns its physical address.
    fn map_page(&self, at: u64, bytes: &[u8], access: Access) -> Result<(), Why> {
        let (_, page) = self.region.carve_cleared(0, PAGE_SIZE, PAGE_SIZE).ok_or(Why::NoMemory)?;
        let memory = PhysRange::of_piece(&self.cx.k.machine, page.with_bytes(bytes));
        self.map(at, memory.page(0, abi::PAGE_LOG2).ok_or(Why::NoMemory)?, access)
    }

    fn map(&self, at: u64, page: PhysPage, access: Access) -> Result<(), Why> {
        let _guard = self.vspace.get().lock(self.cx.pin());
        Ok(self.cx.mem().map_plain(None, self.vspace, at, page, access)?)
    }

    fn map_archive(&self, module: Range) -> Result<(), Why> {
        (0..)
            .zip(archive_pages(module))
            .try_for_each(|(number, page)| self.map(abi::ARCHIVE_VA + number * PAGE_SIZE, page, Access::Read))
    }

    fn map_boot_page(&self, boot: &Boot, made: &Made, archive_len: u64) -> Result<(), Why> {
        let line = boot.info.command_line().as_bytes();
        let line = &line[..line.len().min(abi::CMDLINE_MAX)];
        let piece = self.region.carve_cleared(0, size_of::<BootPage>() as u64, PAGE_SIZE);
        let (_, piece) = piece.ok_or(Why::NoMemory)?;
        let fill = |page: &mut BootPage| {
            page.magic = abi::BOOT_MAGIC;
            page.cpus = percpu::count() as u64;
            page.tsc_hz = time::tsc_hz();
            page.archive_len = archive_len;
            page.untyped_count = made.untypeds.len() as u64;
            page.xsave_bytes = vector::area_size() as u64;
            page.features = features(boot.features);
            page.kernel_loop_ticks = time::kernel_loop_ticks();
            page.power = boot::power();
            for (log2, untyped) in page.untyped_log2.iter_mut().zip(&made.untypeds) {
                *log2 = untyped.get().log2;
            }
            page.cmdline_len = line.len() as u64;
            page.cmdline[..line.len()].copy_from_slice(line);
        };
        let page = piece.emplace_filled(self.cx.pin(), fill).ok_or(Why::NoMemory)?;
        self.map(abi::BOOT_PAGE_VA, memory_of(page), Access::Read)
    }

    /// Makes the process with its objects, and lets its task run at `entry`.
    fn start(&self, made: &Made, entry: u64) -> Result<(), Why> {
        let (cx, region, pin) = (self.cx, self.region, self.cx.pin());
        let slots = make_table(region, abi::INIT_CNODE_SLOTS, |_| Slot::new());
        let slots = slots.and_then(FilledTable::new).ok_or(Why::NoMemory)?;
        let cnode = carve(region, pin, CNode::new(BOOT_ROOT, slots)).ok_or(Why::NoMemory)?;
        let numbers = make_table(region, TASK_NUMBERS, |_| TaskNumber::default()).ok_or(Why::NoMemory)?;
        let piece = region.carve(size_of::<Process>() as u64, PROCESS_ALIGN);
        let process = piece.and_then(|piece| Process::make(piece, pin, BOOT_ROOT, numbers));
        let process = process.ok_or(Why::NoMemory)?;
        cx.make().begin_with(process);
        let task = region.carve_cleared(size_of::<Task>() as u64, TASK_BYTES, PAGE_SIZE);
        let task = task.and_then(|p| Task::make(p, pin, BOOT_ROOT, CpuId::BOOT)).ok_or(Why::NoMemory)?;
        let sc = carve(region, pin, SchedContext::new(BOOT_ROOT, CpuId::BOOT)).ok_or(Why::NoMemory)?;
        let control = carve(region, pin, SchedControl::new(BOOT_ROOT)).ok_or(Why::NoMemory)?;
        for cpu in (0..cx.k.cpu_count()).step_by(64).filter_map(CpuId::new) {
            // A fresh one has no other ceiling.
            _ = control.get().extend(Bound::ALL, cpu, u64::MAX);
        }
        let machine = carve(region, pin, MachineObject::new(BOOT_ROOT)).ok_or(Why::NoMemory)?;
        let node = cnode.get();
        cx.make().fill_boot(node, abi::INIT_CNODE, cnode);
        cx.make().fill_boot(node, abi::INIT_VSPACE, self.vspace);
        cx.make().fill_boot(node, abi::INIT_PROCESS, process);
        cx.make().fill_boot(node, abi::INIT_TASK, task);
        cx.make().fill_boot(node, abi::INIT_SCHED, sc);
        cx.make().fill_boot(node, abi::INIT_MACHINE, machine);
        cx.make().fill_boot(node, abi::INIT_SCHED_CONTROL, control);
        for (i, untyped) in made.untypeds.iter().enumerate() {
            let cap = Cap(abi::INIT_UNTYPED.0 + i as u32);
            cx.make().fill_boot(node, cap, *untyped);
        }
        cx.make().bind_process(process, cnode, self.vspace, false)?;
        cx.make().bind_task(None, task, process, abi::INIT_UTCB_VA, CpuId::BOOT)?;
        let time = &cx.here(&sc.get().hot)?.state;
        time.set_priority(PRIORITY);
        time.set_slice(SLICE);
        time.set_cpus(control.get().cpus(), cx.k.cpu_count());
        cx.make().bind_time(sc, task)?;
        let task = cx.open_here(task)?;
        task.regs.rip.set(entry);
        task.regs.rsp.set(abi::INIT_STACK_TOP);
        task.regs.rdi.set(abi::INIT_UTCB_VA);
        task.get().set_to_suspend(false);
        cx.life().resume(task);
        Ok(())
    }
}

/// Returns the features of CPU and kernel in the form for process 1.
fn features(cpu: Features) -> u64 {
    let built = [
        (cfg!(feature = "fastpath"), cpu_features::FASTPATH),
        (cfg!(feature = "dump"), build::DUMP),
        (cfg!(feature = "chaos"), build::CHAOS),
        (cfg!(feature = "trace"), cpu_features::TRACE),
        (cfg!(feature = "faults"), build::ATTEMPTS),
    ];
    let told = (cpu & Features::TOLD).bits();
    built.iter().filter(|(on, _)| *on).fold(told, |bits, (_, bit)| bits | bit)
}
