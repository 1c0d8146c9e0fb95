//! The unsafe parts of the image: they make kernel entries, and hand out the boot memory.
//!
//! Once, at boot, this module makes the kernel's own structures and the first objects, from memory
//! that no Untyped covers. The rest of the memory becomes process 1's Untypeds.
#![allow(unsafe_code, reason = "the one module of the image that may")]

use core::cmp::Reverse;

use abi::{BOOT_UNTYPED_MAX, BootPage, Level};
use kern_base::accounts::Accounts;
use kern_base::cpu::{self, CpuBlock, CpuBlocks, CpuEntry, CpuPair};
use kern_base::frames::{FrameInfo, FrameRange, FrameTable, RANGES_MAX};
use kern_base::header::RootId;
use kern_base::irq::Lines;
use kern_base::memory::Untyped;
use kern_base::pcids::PcidShare;
use kern_base::phys::{Phys, PhysPage};
use kern_base::task::OpenTask;
use kern_core::rooms::Door;
use kern_core::{Cx, Kernel, MAX_ROOTS, StaticTables};
use kern_hal::cpu::{percpu, syscall};
use kern_hal::dev::log;
use kern_hal::layout::DIRECT_MAP;
use kern_hal::mem::kernel;
use kern_hal::mem::ranges::Range;
use kern_hal::mem::tlb;
use kern_hal::pc::Pc;
use kern_hal::trap;
use smp::cpu::{CpuId, Pin};
use smp::door::{Ref, Region, Table, Vouched};
use smp::quiesce;
use spin::Once;

/// The root of everything made here: never reset.
pub const BOOT_ROOT: RootId = RootId(MAX_ROOTS as u16 - 1);
/// Room for process 1 and what belongs to it: CNode, tables, stack, image.
const PROCESS_1_ROOM: u64 = 6 << 20;
/// Smallest block that becomes an Untyped.
const UNTYPED_MIN_LOG2: u32 = 16;

/// What process 1 is made of.
pub struct Made {
    /// Memory for process 1.
    pub region: Region,
    pub untypeds: heapless::Vec<Ref<'static, Untyped>, BOOT_UNTYPED_MAX>,
}

static KERNEL: Once<Kernel<Pc>> = Once::new();

static ACCOUNTS: Accounts = Accounts::new();
static LINES: Lines = Lines::new();

/// Returns the portable kernel. The block of every entry shows that it exists.
#[inline(always)]
pub fn kernel(_: &CpuEntry) -> &'static Kernel<Pc> {
    // SAFETY: an entry has a block, and blocks are only reached through the kernel in `KERNEL`.
    unsafe { KERNEL.get_unchecked() }
}

/// Returns the block of a CPU, once the kernel is made.
pub fn block_of(cpu: CpuId) -> &'static CpuBlock {
    let Some(kernel) = KERNEL.get() else { panic!("the kernel was entered before it was made") };
    kernel.block(boot_pin(), cpu)
}

/// Returns a pin for boot code: the boot CPU runs alone, and nothing made here ever dies.
pub fn boot_pin() -> Pin<'static> {
    // SAFETY: the other CPUs wait to be released, interrupts are off, and no reclaim can touch boot
    // objects, so references of any lifetime hold.
    unsafe { Pin::new(CpuId::BOOT) }
}

/// Returns the context of boot code; `None` before the kernel is made.
pub fn boot_context() -> Option<Door<'static, Pc>> {
    let k = KERNEL.get()?;
    Some(Door::of(Cx { k, cpu: block_of(CpuId::BOOT).here(boot_pin())? }))
}

/// Returns the kernel entry that a system call, a trap of user code or a CPU's start begins. Called
/// once for each.
#[inline(always)]
pub fn entry_of(block: &'static CpuBlock) -> CpuEntry {
    // SAFETY: called by the handlers that the entry and trap code call, and by a CPU that starts.
    // It is called on the CPU of `block`, with interrupts off, as the only entry: the assembly
    // drops everything of it before it leaves the kernel or calls again.
    unsafe { CpuEntry::new(block) }
}

/// Lets user code of this CPU enter the kernel.
pub fn accept_system_calls(cpu: CpuId) {
    // SAFETY: the entry slots are written before CPUs are released; called by the CPU itself.
    unsafe { syscall::enable(cpu) }
}

/// Leaves the kernel for good: continues `task`, the current task, whose context is loaded.
#[inline(always)]
pub fn resume_loaded(entry: &CpuEntry, task: OpenTask<'_>) -> ! {
    match task.regs.full.get() {
        0 => resume_call(entry, task),
        // SAFETY: as in `resume_call`; the frame has all registers.
        _ => unsafe { trap::entry::resume_interrupted(task.get()) },
    }
}

/// Leaves the kernel for good: continues the current task at the end of its system call.
#[inline(always)]
pub fn resume_call(_: &CpuEntry, task: OpenTask<'_>) -> ! {
    // SAFETY: the caller has loaded the task's context; its frame was checked when it was written,
    // and is one of a system call: `Door::take_mail` returns a task in one only. Nothing on the
    // stack has to be dropped: the kernel entry is over.
    unsafe { trap::entry::resume_call(task.get()) }
}

/// Counts that this CPU leaves a kernel entry by IRET: the trap code does so right after this call.
#[inline(always)]
pub fn left_by_iret(entry: &mut CpuEntry) {
    // SAFETY: the last thing that the handler of an interrupt of user code does.
    unsafe { quiesce::left_by_iret(entry) }
}

/// Leaves the kernel for good: continues the current task, whose system call answers only its
/// success, if no other task has run since.
#[inline(always)]
pub fn done(entry: &CpuEntry) -> ! {
    // SAFETY: as in `resume_call`; called for the task that entered, whose context is the CPU's.
    unsafe { ipc_fast::entry::done(entry) }
}

/// Returns the boot archive's bytes.
pub fn archive_bytes(module: Range) -> &'static [u8] {
    // SAFETY: the loader put the archive there, the direct map shows it, boot keeps its range out
    // of the free memory, and nothing writes it.
    unsafe { core::slice::from_raw_parts((DIRECT_MAP + module.start()) as *const u8, module.size() as usize) }
}

/// Returns the pages of the boot archive.
pub fn archive_pages(module: Range) -> impl Iterator<Item = PhysPage> {
    let pages = (module.start()..module.end()).step_by(abi::PAGE_SIZE as usize);
    // SAFETY: the loader put the archive there, boot keeps its range out of the free memory, and
    // nothing writes it.
    pages.map(|at| PhysPage::vouched(unsafe { Vouched::new(at) }))
}

/// Returns the memory of the boot page.
pub fn memory_of(page: Ref<'static, BootPage>) -> PhysPage {
    // SAFETY: process 1 may read the page, which is its only purpose, and nothing writes it any
    // more.
    PhysPage::vouched(unsafe { Vouched::new(page.addr() - DIRECT_MAP) })
}

/// Takes memory that is never given back.
fn take(size: u64) -> Option<Region> {
    let range = kernel::take_pages(size.next_multiple_of(4096), 4096)?;
    // SAFETY: just taken from the free memory, which the direct map shows; nothing else uses it.
    Some(unsafe { Region::new(DIRECT_MAP + range.start(), range.size()) })
}

/// Makes a table of `len` elements in a region. `None` if the region is too small.
pub fn make_table<T: 'static>(region: &Region, len: usize, make: impl FnMut(usize) -> T) -> Option<Table<T>> {
    region.carve((len * size_of::<T>()) as u64, 64)?.emplace_slice(make)
}

/// Makes the kernel and the first Untypeds. `None` if there is too little memory.
pub fn make() -> Option<Made> {
    let cpus = percpu::count();
    let pair_bytes = (cpus * size_of::<CpuPair>()).next_multiple_of(64);
    let own = cpus * (size_of::<CpuBlock>() + pair_bytes);
    let own_region = take(own as u64 + 4096)?;
    let blocks = make_blocks(&own_region, cpus)?;
    // SAFETY: each CPU that boot found has its block there, at its number, and its entries are of
    // it (`entry_of`).
    let blocks = unsafe { CpuBlocks::new(blocks) };
    let frames = make_frames()?;
    let tables = StaticTables { accounts: &ACCOUNTS, lines: &LINES };
    let kernel = KERNEL.call_once(|| Kernel::new(Pc, blocks, frames, tables));
    if log::is_on(Level::Debug) {
        kernel.log_events();
    }
    #[cfg(feature = "trace")]
    make_rings()?;
    let region = take(PROCESS_1_ROOM)?;
    let descriptors = take((BOOT_UNTYPED_MAX * size_of::<Untyped>()) as u64)?;
    Some(Made { region, untypeds: make_untypeds(kernel, &descriptors) })
}

/// Makes the frame table of the memory that is free now, the largest range first.
#[inline(never)]
fn make_frames() -> Option<FrameTable> {
    let mut free = heapless::Vec::<Range, { RANGES_MAX + 1 }>::new();
    kernel::with_free_memory(|memory| {
        for range in memory.ranges() {
            let _ = free.push(*range);
            free.sort_unstable_by_key(|range| (Reverse(range.size()), range.start()));
            // Of more ranges than there is room for, the smallest are left out, and become no
            // Untypeds.
            free.truncate(RANGES_MAX);
        }
    });
    let mut ranges = heapless::Vec::<FrameRange, RANGES_MAX>::new();
    for range in free {
        let pages = range.size() / abi::PAGE_SIZE;
        let infos = take(pages * size_of::<FrameInfo>() as u64)?;
        let infos = make_table(&infos, pages as usize, |_| FrameInfo::default())?;
        ranges.push(FrameRange::new(Phys(range.start()), infos)).ok()?;
    }
    Some(FrameTable::new(ranges))
}

/// Gives every CPU its ring of events: as many as the boot option `trace_events` says.
#[cfg(feature = "trace")]
fn make_rings() -> Option<()> {
    use kern_hal::boot::option;
    use smp::sync::AtomicU64;
    use test_abi::trace::{EVENT_WORDS, RING_EVENTS, RING_EVENTS_MAX};

    let wanted = option("trace_events").and_then(|events| events.parse().ok()).unwrap_or(RING_EVENTS);
    let words = wanted.clamp(2, RING_EVENTS_MAX).next_power_of_two() as usize * EVENT_WORDS;
    for cpu in percpu::all().map(|cpu| cpu.id) {
        let range = kernel::take_pages((words * size_of::<u64>()) as u64, 4096)?;
        // SAFETY: just taken from the free memory, which the direct map shows, for the rest of the
        // run; any bytes are atomics.
        let ring =
            unsafe { core::slice::from_raw_parts((DIRECT_MAP + range.start()) as *const AtomicU64, words) };
        smp::trace::provide(cpu, ring);
    }
    smp::trace::start();
    Some(())
}

fn make_blocks(region: &Region, cpus: usize) -> Option<Table<CpuBlock>> {
    let mut complete = true;
    let table = make_table(region, cpus, |n| {
        let id = CpuId::new(n).unwrap_or_default();
        let pairs = make_table(region, cpus, |_| CpuPair::new(id));
        complete &= pairs.is_some();
        cpu::new_block(id, pairs.unwrap_or(Table::empty()))
    });
    table.filter(|_| complete)
}

/// Candidates for Untypeds: room for the small blocks at the ends of ranges, too.
type Blocks = heapless::Vec<(u32, u64), { 4 * BOOT_UNTYPED_MAX }>;

/// Cuts the free memory into aligned powers of two, the largest first.
fn make_untypeds(
    kernel: &Kernel<Pc>,
    descriptors: &Region,
) -> heapless::Vec<Ref<'static, Untyped>, BOOT_UNTYPED_MAX> {
    let mut blocks = Blocks::new();
    kernel::with_free_memory(|free| {
        for range in free.ranges() {
            cut(*range, &mut blocks);
        }
    });
    blocks.sort_unstable_by_key(|(log2, at)| (Reverse(*log2), *at));
    let mut untypeds = heapless::Vec::new();
    let all: u64 = blocks.iter().map(|(log2, _)| 1 << log2).sum();
    let pcids = tlb::pcids_of_programs();
    let is_known = |at| kernel.frames.get(boot_pin(), Phys(at)).is_some();
    for &(log2, at) in blocks.iter().filter(|(_, at)| is_known(*at)) {
        let root = RootId(untypeds.len() as u16);
        // SAFETY: free memory after boot, each block once, shown by the direct map; nothing else
        // takes from the free list any more.
        let region = unsafe { Region::new(DIRECT_MAP + at, 1 << log2) };
        let Some(piece) = descriptors.carve(size_of::<Untyped>() as u64, 64) else { break };
        let share = PcidShare::new((pcids * (1 << log2) / all) as u32);
        let untyped = Untyped::new(root, log2 as u8, region, share);
        let Some(object) = piece.emplace(boot_pin(), untyped) else { break };
        if untypeds.push(object).is_err() {
            break;
        }
    }
    untypeds
}

fn cut(range: Range, blocks: &mut Blocks) {
    let mut at = range.start();
    while at < range.end() {
        let align = if at == 0 { 63 } else { at.trailing_zeros() };
        let log2 = align.min((range.end() - at).ilog2());
        if log2 >= UNTYPED_MIN_LOG2 {
            // A block too many is lost, and it is one of the smallest: ranges are few.
            let _ = blocks.push((log2, at));
        }
        at += 1 << log2;
    }
}
