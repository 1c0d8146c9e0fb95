//! The layout of an address space and of a CSpace made by this runtime.
//!
//! Process 1 is made by the kernel, at the addresses of [`abi`]; every other process gets the boot
//! page and the archive at the same addresses, so that all programs start in the same way.
//!
//! ```text
//! 0x0040_0000  image, as linked
//! 0x1000_0000  boot page (read-only); process 1 also has its UTCB and stack near here
//! 0x2000_0000  archive: the boot archive, or the program's own ELF file (read-only)
//! 0x4000_0000  tasks: 64 KiB each: guard, stack, UTCB
//! 0x5000_0000  stacks and stacklets of a keeper
//! 0x6000_0000  window: one frame at a time, while it is being filled
//! 0x7000_0000  heap
//! 0x8000_0000  memory shared between processes
//! 0xf000_0000  registers of devices
//! 0x1_0000_0000  regions that a pager serves
//! ```

use abi::Cap;

use crate::stack::Span;

/// Capabilities every process is given, in the slots that process 1 has them in.
pub mod slot {
    use abi::Cap;

    pub const CNODE: Cap = abi::INIT_CNODE;
    pub const VSPACE: Cap = abi::INIT_VSPACE;
    pub const PROCESS: Cap = abi::INIT_PROCESS;
    /// The capability of the process's first task.
    pub const TASK: Cap = abi::INIT_TASK;
    pub const SCHED: Cap = abi::INIT_SCHED;
    pub const MACHINE: Cap = abi::INIT_MACHINE;
    /// The SchedControl by which the process may set CPU time and start tasks. Empty if its parent
    /// gave it none.
    pub const SCHED_CONTROL: Cap = abi::INIT_SCHED_CONTROL;
    /// The group in which the parent listens at exposure 0 ([`crate::supervisor`]).
    pub const SUPERVISOR: Cap = Cap(8);
    /// Groups that the parent makes the process a member of, and those it starts in
    /// ([`crate::spawn::StartIn`]): up to [`PAGER`].
    pub const GROUPS: Cap = Cap(9);
    /// The group in which the process's pager listens ([`crate::paging`]), where it has one.
    pub const PAGER: Cap = Cap(16);
    /// First Untyped.
    pub const UNTYPED: Cap = abi::INIT_UNTYPED;
}

/// First slot that a program may fill as it likes; between it and [`slot::UNTYPED`] are Untypeds.
pub const FREE_SLOTS: u32 = slot::UNTYPED.0 + abi::BOOT_UNTYPED_MAX as u32;

/// Slots of a program that starts others.
pub const PROGRAM_SLOTS: u32 = abi::INIT_CNODE_SLOTS as u32;

pub const TASKS_VA: u64 = 0x4000_0000;
/// Address space of one task: a guard page, its stack, its UTCB in the last page.
pub const TASK_STRIDE: u64 = 0x1_0000;
/// Tasks of one process that fit.
pub const TASKS_MAX: u32 = 4096;

/// Where a [keeper](crate::stack::Keeper) of stacks finds their places.
pub const STACKS_VA: u64 = 0x5000_0000;
pub const STACKS_END: u64 = WINDOW_VA;
pub const WINDOW_VA: u64 = 0x6000_0000;
pub const HEAP_VA: u64 = 0x7000_0000;
pub const SHARED_VA: u64 = 0x8000_0000;
/// Where a driver maps registers of its devices.
pub const DEVICES_VA: u64 = 0xf000_0000;

/// Returns the address of the UTCB of the task in place `index`.
pub const fn utcb_va(index: u32) -> u64 {
    TASKS_VA + (index as u64 + 1) * TASK_STRIDE - abi::PAGE_SIZE
}

/// Returns the stack top of the task in place `index`: right below its UTCB.
pub const fn stack_top(index: u32) -> u64 {
    utcb_va(index)
}

/// Returns the range into which the stack of the task in place `index` can grow without moving. Its
/// guard page is below.
pub const fn stack_span(index: u32) -> Span {
    Span { low: TASKS_VA + index as u64 * TASK_STRIDE + abi::PAGE_SIZE, top: stack_top(index) }
}

/// Returns the slot that a task has in its own process's CSpace, so that it can end itself, if
/// another process made the task.
pub const fn task_slot(index: u32) -> Cap {
    Cap(FREE_SLOTS + index)
}

const _: () = assert!(TASKS_VA + TASKS_MAX as u64 * TASK_STRIDE <= STACKS_VA);
const _: () = assert!(abi::ARCHIVE_VA < TASKS_VA);
