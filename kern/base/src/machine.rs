//! The hardware's interface to the portable kernel. `kern/hal` implements it for x86_64; host tests
//! implement it with plain memory and a clock that they advance.

use abi::audit::Record;
use abi::{Error, TaskId};
use smp::cpu::CpuId;
use test_abi::Attempt;

use crate::irq::{Line, Route};
use crate::paging::Pte;
use crate::phys::{Phys, PhysPage};
use crate::task::VectorArea;

/// What a mapping allows. Nothing is ever mapped to be written and executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Access {
    Read = 0,
    /// And to read.
    Write = 1,
    /// And to read.
    Execute = 2,
}

impl Access {
    /// Decodes the number that system calls use.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Option<Access> {
        match raw {
            0 => Some(Access::Read),
            1 => Some(Access::Write),
            2 => Some(Access::Execute),
            _ => None,
        }
    }

    /// Returns the access that both `self` and `other` allow.
    pub const fn and(self, other: Access) -> Access {
        if self as u8 == other as u8 { self } else { Access::Read }
    }
}

/// A fault without a handler, and the reason.
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

/// The part of a save area that is in use, which components it can have, and which bits of MXCSR
/// there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VectorFormat {
    pub words: usize,
    pub components: u64,
    pub mxcsr: u32,
}

/// What `kern/core` asks of the hardware. All methods act on the calling CPU unless they name one.
pub trait Machine: Sized + Sync + 'static {
    /// Returns the time, in TSC ticks.
    fn now(&self) -> u64;

    /// Programs the one-shot timer for an absolute TSC value; `None` switches it off.
    fn set_timer(&self, at: Option<u64>);

    /// Interrupts a CPU so that it drains its mailbox.
    fn wake(&self, cpu: CpuId);

    /// Returns whether the machine has an interrupt line with this number. It has all of
    /// [`abi::devices::is_msi`].
    fn has_line(&self, line: u32) -> bool;

    /// Returns the address and the word of a message that interrupts where a route leads, if a
    /// message can.
    fn message_to(&self, to: Route) -> Option<(u64, u32)>;

    /// Masks a line, and says where its interrupts arrive from now on; `None`: nowhere. Returns
    /// `false` if the line cannot interrupt that CPU: then nothing has changed.
    fn route_line(&self, line: Line, to: Option<Route>) -> bool;

    /// Lets the next interrupt of a line come, if it arrives somewhere.
    fn open_line(&self, line: u32);

    /// Masks a line.
    fn mask_line(&self, line: u32);

    /// Masks whatever line interrupts this CPU at a place of its table.
    fn mask_place(&self, place: u8);

    /// Acknowledges the interrupt of a device that has come to this CPU.
    fn end_of_interrupt(&self);

    /// Returns the first of some I/O ports that the kernel uses itself.
    fn used_port(&self, first: u16, last: u16) -> Option<u16>;

    /// Reads 1, 2 or 4 bytes of an I/O port that the kernel does not use itself.
    fn read_port(&self, port: u16, bytes: u8) -> u32;

    /// Writes 1, 2 or 4 bytes of an I/O port that the kernel does not use itself.
    fn write_port(&self, port: u16, bytes: u8, value: u32);

    /// Returns the physical address of memory that the kernel reaches at `addr` (direct map).
    fn phys(&self, addr: u64) -> Phys;

    /// Returns the address at which the kernel reaches a physical address.
    fn virt(&self, at: Phys) -> u64;

    /// Returns whether a range has only device memory, none of which the kernel uses itself.
    fn is_device(&self, at: Phys, bytes: u64) -> bool;

    /// Prepares an empty table, which is at `at`, as the root of an address space: lets `set` set
    /// the entries of the kernel's half. Returns what CR3 gets.
    fn init_root_table(&self, at: Phys, set: &mut dyn FnMut(usize, Pte)) -> u64;

    /// Takes a free PCID. Returns what CR3 gets besides the root table, so that a switch keeps the
    /// translations of the address space; 0 if there is none.
    fn take_pcid(&self) -> u64;

    /// Ends the address space with this value of CR3, and gives its PCID back.
    /// Requires: no CPU has loaded it, or has translations of it.
    fn end_space(&self, cr3: u64);

    /// Drops the translations of an address and of the tables on the way to it, in the address
    /// space that this CPU has loaded.
    fn forget_page(&self, address: u64);

    /// Drops every translation of the address space that this CPU has loaded.
    fn forget_space(&self);

    /// Drops every user translation this CPU may hold; with `leave`, also leaves the present
    /// address space for the kernel's own.
    fn forget_translations(&self, leave: bool);

    /// Clears a page of unused memory.
    fn clear(&self, page: PhysPage);

    /// Reads a word of a page, once. Programs may change it at any time.
    /// Requires: the page has that many words.
    fn read_word(&self, page: PhysPage, number: u64) -> u64;

    /// Copies the contents of one page to another of equal size.
    /// Requires: no CPU writes either page.
    fn copy(&self, from: PhysPage, to: PhysPage);

    /// Makes this CPU's branch predictors forget what they learned, if the CPU can do that.
    fn flush_predictors(&self);

    /// Sets the FS and GS bases of the running program.
    fn set_bases(&self, fs: u64, gs: u64);

    /// Saves the vector registers of the running task, which this CPU has, to the task's save area.
    fn save_vector(&self, area: &VectorArea);

    /// Returns the format of vector save areas on this machine.
    fn vector_format(&self) -> VectorFormat;

    /// Writes the initial contents of the vector registers to a save area.
    fn init_vector(&self, area: &VectorArea);

    /// Keeps a report that a fault without handler ends a process, until this CPU has nothing else
    /// to do.
    fn report_fault(&self, end: &FaultEnd);

    /// Ends the machine because process 1 dies: no other program could end it. On a real machine
    /// this does not return.
    fn first_process_dies(&self) {}

    /// Tries what the machine's protections forbid, and continues either way. Returns 0 if it
    /// succeeded, else what stopped it, as [`abi::Op::MachineAttempt`] answers; `None` if this
    /// build cannot try.
    fn attempt(&self, _what: Attempt, _address: u64) -> Option<u64> {
        None
    }

    /// Logs a grant, a refusal or a kill if the boot options ask for that. A refusal is an
    /// operation that returned any error.
    fn tell(&self, _record: &Record) {}

    /// Writes one record of a log channel to the log port.
    fn log(&self, channel: u8, bytes: &[u8]);

    /// Ends the machine, and reports success (`pass`) or failure.
    fn exit(&self, pass: bool) -> !;
}
