//! The ends of the system call entry in Rust, and the handlers behind it.

use core::mem::offset_of;

use abi::{MsgInfo, Op};
use kern_base::cpu::{CpuBlock, CpuEntry};
use kern_base::events::EventPool;
use kern_base::process::Process;
use kern_base::task::Task;
use smp::door::Ptr;

/// A handler as the assembly calls it.
pub type Handler = extern "C" fn(&'static CpuBlock);

/// As many as a message word's byte for the operation can name: what is above has words, flags or a
/// label.
pub(crate) const OP_NUMBERS: usize = MsgInfo::new(0, 1).0 as usize;

/// What the assembly calls, on the CPU of the block, as the only kernel entry there: what the
/// portable kernel does for the entry code. `kern/image` fills it in.
#[repr(C)]
pub struct Table {
    /// Serve an operation for the running task, whose registers are in its frame. They are indexed
    /// by the operation byte of a message word ([`operations`](crate::operations)). Speculation may
    /// take any of them, whatever comparison came before, so each byte has a handler. The fields
    /// after this table take kernel pointers.
    pub ops: [Handler; OP_NUMBERS],
    /// Another task is current than the one that entered, or none: loads the context of the one
    /// that is, idling until there is one.
    pub switch: extern "C" fn(&'static CpuBlock) -> !,
    /// The running task calls a task of another CPU: the fastpath has made all checks of
    /// capability, member record and exposure, and left the message in the caller's message block.
    /// Takes caller, callee, the callee's generation in the upper half of a word, and the target.
    /// Goes on as the task that runs then.
    pub call_elsewhere: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>, u64, u64) -> !,
    /// The running task answers its caller, of another CPU, whose time it has, and receives:
    /// nothing waits to be received. The answer is in the caller's message block. Takes the running
    /// task and the caller. Goes on as the task that runs then.
    pub reply_elsewhere: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>) -> !,
    /// The running task answers the fault of a task whose time it has, and receives: nothing waits
    /// to be received. The answer is in the faulting task's message block. Takes the running task
    /// and the faulting one. Goes on as the task that runs then.
    pub answer_fault: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>) -> !,
    pub map: DirectHandler,
    pub unmap: DirectHandler,
    /// Wakes the reader of a pool, into which the running task has sent an event, and ends the
    /// system call, which has succeeded.
    pub tell_reader: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<EventPool>) -> !,
    /// Carries out Yield for the running task, which it takes. Goes on as the task that runs then.
    pub yield_next: extern "C" fn(&'static CpuBlock, Ptr<Task>) -> !,
}

/// Maps or unmaps one page for the running task. Takes what `map.s` has: the arguments rdi, rsi,
/// rdx, the CPU block, the argument r8, and the task's process. r9 is 0, and r10 at most 1. The
/// frame has them, too, without the operation.
type DirectHandler = extern "C" fn(u64, u64, u64, &'static CpuBlock, u64, Ptr<Process>) -> !;

/// Names to the entry code the image's [`Table`], and the function that ends a grace.
///
/// That function is called when the running task has yielded in a grace, and its time, which has
/// neither a budget nor a watcher, has changed places with another's. It takes both, ends the
/// grace, and starts the other time. No other function that the fast paths call returns. So it is
/// called by its name: behind a call through the table stands a stop.
#[macro_export]
macro_rules! handlers {
    ($table:expr, $end_grace:path) => {
        // SAFETY: the name is this crate's own; the macro is used once, in the image.
        #[unsafe(no_mangle)]
        static AURORA_HANDLERS: $crate::entry::Table = $table;

        // SAFETY: as above.
        #[unsafe(no_mangle)]
        extern "C" fn aurora_yield_in_grace(
            block: &'static kern_base::cpu::CpuBlock,
            old: smp::door::Ptr<kern_base::sched_context::SchedContext>,
            next: smp::door::Ptr<kern_base::sched_context::SchedContext>,
        ) {
            $end_grace(block, old, next);
        }
    };
}

/// Makes the handlers of all operation bytes: each operation of the list in `abi` has a function of
/// its own, `$serve` of its number, in which the compiler knows which operation it is; `$bad`
/// refuses each number without an operation.
#[macro_export]
macro_rules! operations {
    ($serve:ident, $bad:ident) => {
        abi::operations!(ipc_fast::operations!($serve, $bad))
    };
    ($serve:ident, $bad:ident; $($number:literal)*) => {
        $crate::entry::by_number([$($serve::<$number>),*], $bad)
    };
}

/// Returns a table of handlers by operation number: `served`, followed by `bad` for each number
/// without an operation.
pub const fn by_number(served: [Handler; Op::COUNT], bad: Handler) -> [Handler; OP_NUMBERS] {
    let mut ops = [bad; OP_NUMBERS];
    let mut number = 0;
    while number < served.len() {
        ops[number] = served[number];
        number += 1;
    }
    ops
}

/// Leaves the kernel: the current task of the CPU of `entry` continues at the end of a system call
/// that succeeded, with zeros in all answer registers.
///
/// # Safety
/// The task entered the kernel by a system call in this entry, and is what the CPU's context is of.
/// No kernel data that the abandoned stack holds is needed.
#[inline(always)]
pub unsafe fn done(entry: &CpuEntry) -> ! {
    // SAFETY: the caller's promise; `syscall_done` wants the block in rcx, and leaves the stack.
    unsafe {
        core::arch::asm!(
            "jmp syscall_done",
            in("rcx") core::ptr::from_ref(entry.block()),
            options(noreturn)
        )
    }
}

const _: () = assert!(offset_of!(Table, ops) == 0 && OP_NUMBERS == 1 << u8::BITS, "indexed by a byte");

unsafe extern "C" {
    static syscall_entry: u8;
    static syscall_plain: u8;
}

/// Returns the address of the common system call entry, for the CPUs' entry slots: the entry with
/// the fast paths, or the one without.
pub fn common_entry() -> u64 {
    let entry = if cfg!(feature = "fastpath") { &raw const syscall_entry } else { &raw const syscall_plain };
    entry as u64
}
