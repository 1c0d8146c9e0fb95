//! The machine, as the portable kernel sees it. `kern/hal` implements it for x86_64; host tests
//! implement it with plain memory and a clock they turn by hand.

use abi::{Error, TaskId};
use smp::cpu::CpuId;

use crate::memory::{Phys, VSpace};
use crate::task::VectorArea;

/// What a mapping allows besides reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub write: bool,
    pub execute: bool,
}

/// A fault that nobody handled, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultEnd {
    pub task: TaskId,
    pub vector: u8,
    pub error: u32,
    pub address: u64,
    pub rip: u64,
    /// `None`: there is no handler. Else how the call to it ended.
    pub why: Option<Error>,
}

/// What `kern/core` asks of the hardware. All methods act on the calling CPU unless they name one.
pub trait Machine: Sized + Sync + 'static {
    /// TSC ticks.
    fn now(&self) -> u64;

    /// Programs the one-shot timer for an absolute TSC value; `None` switches it off.
    fn set_timer(&self, at: Option<u64>);

    /// Interrupts a CPU so that it drains its mailbox.
    fn wake(&self, cpu: CpuId);

    /// Physical address of memory that the kernel reaches at `addr` (direct map).
    fn phys(&self, addr: u64) -> Phys;

    /// Where the kernel reaches a physical address.
    fn virt(&self, at: Phys) -> u64;

    /// Prepares an all-zero page as the root table of an address space: shares the kernel's half.
    /// Returns what CR3 gets.
    fn init_root_table(&self, root: Phys) -> u64;

    /// An address space is gone: no CPU is in it or remembers translations of it.
    fn end_space(&self, cr3: u64);

    /// Maps `1 << log2` bytes (4 KiB or 2 MiB) at `va`. Takes page-table frames from the VSpace's pool.
    /// The caller holds the VSpace's lock and has checked alignment, range and W^X.
    fn map(&self, vspace: &VSpace, va: u64, at: Phys, log2: u8, access: Access) -> Result<(), Error>;

    /// Removes the page table that stands where a mapping of 2 MiB at `va` would be, if that is empty;
    /// whether it was. CPUs may go on using it until they forget translations.
    fn drop_empty_table(&self, vspace: &VSpace, va: u64) -> bool;

    /// Removes a mapping and its translation on this CPU; whether there was one.
    fn unmap(&self, vspace: &VSpace, va: u64, log2: u8) -> bool;

    /// Drops every user translation this CPU may hold; with `leave`, also leaves the present address
    /// space for the kernel's own.
    fn forget_translations(&self, leave: bool);

    /// Sets the FS and GS bases of the running program.
    fn set_bases(&self, fs: u64, gs: u64);

    /// Saves the vector state that is live on this CPU to its task's save area.
    fn save_vector(&self, area: &VectorArea);

    /// Writes the initial vector image to a save area.
    fn init_vector(&self, area: &VectorArea);

    /// A fault that nobody handled ends a process: says so to whoever looks after the machine.
    fn report_fault(&self, end: &FaultEnd);

    /// Writes one record to the log port.
    fn log(&self, channel: u8, bytes: &[u8]);

    /// Ends the machine.
    fn exit(&self, pass: bool) -> !;
}
