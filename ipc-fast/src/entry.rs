//! The assembly of the system call entry, with its offsets, and the handlers behind it.

use core::arch::global_asm;
use core::mem::offset_of;

use abi::{MsgInfo, Op};
use kern_base::cpu::{CpuBlock, CpuEntry, CpuHot, CpuOwn};
use kern_base::events::EventPool;
use kern_base::process::Process;
use kern_base::task::{RegFrame, Task, TaskHot};
use smp::door::{Homed, Ptr};

/// What the portable kernel does for the entry code. `kern/image` implements it.
pub trait Handlers: 'static {
    /// Serves `op` for the running task, whose registers are in its frame.
    fn system_call(entry: &mut CpuEntry, op: Op);
    /// Answers an operation number that does not exist.
    fn bad_system_call(entry: &mut CpuEntry);
    /// The running task `me` calls `callee`, which is of another CPU: the fastpath has made all
    /// checks of capability, member record and exposure, and left the message in the caller's
    /// message block. `tag` has the callee's generation in its upper half, and nothing else. Goes
    /// on as the task that runs then.
    fn call_elsewhere(entry: &mut CpuEntry, me: Ptr<Task>, callee: Ptr<Task>, tag: u64, target: u64) -> !;
    /// The running task `me` answers `caller`, of another CPU, whose time it has, and receives:
    /// nothing waits to be received. The answer is in the caller's message block. Goes on as the
    /// task that runs then.
    fn reply_elsewhere(entry: &mut CpuEntry, me: Ptr<Task>, caller: Ptr<Task>) -> !;
    /// The running task `me` answers the fault of `faulter`, whose time it has, and receives:
    /// nothing waits to be received. The answer is in the faulter's message block. Goes on as the
    /// task that runs then.
    fn answer_fault(entry: &mut CpuEntry, me: Ptr<Task>, faulter: Ptr<Task>) -> !;
    /// Maps or unmaps one page for the running task, which is of `process`, with these arguments
    /// (rdi, rsi, rdx, r8; r9 is 0, and r10 at most 1). They are in the frame, too, without the
    /// operation.
    fn map_page(entry: &mut CpuEntry, op: Op, process: Ptr<Process>, args: [u64; 4]) -> !;
    /// Wakes the reader of `pool`, into which the running task `me` has sent an event, and ends the
    /// system call, which has succeeded.
    fn tell_reader(entry: &mut CpuEntry, me: Ptr<Task>, pool: Ptr<EventPool>) -> !;
    /// Another task is current than the one that entered, or none: loads the context of the one
    /// that is, idling until there is one.
    fn switch(entry: &mut CpuEntry) -> !;
}

/// A handler as the assembly calls it.
type Handler = extern "C" fn(&'static CpuBlock);

/// As many as a message word's byte for the operation can name: what is above has words, flags or a
/// label.
pub(crate) const OP_NUMBERS: usize = MsgInfo::new(0, 1).0 as usize;

/// What the assembly calls.
#[repr(C)]
pub struct Table {
    /// The handlers, indexed by the operation byte of a message word. Speculation may take any of
    /// them, whatever comparison came before, so each byte has a handler. The fields after this
    /// table take kernel pointers.
    ops: [Handler; OP_NUMBERS],
    switch: extern "C" fn(&'static CpuBlock) -> !,
    pub(crate) call_elsewhere: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>, u64, u64) -> !,
    pub(crate) reply_elsewhere: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>) -> !,
    pub(crate) answer_fault: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<Task>) -> !,
    pub(crate) map: DirectHandler,
    pub(crate) unmap: DirectHandler,
    pub(crate) tell_reader: extern "C" fn(&'static CpuBlock, Ptr<Task>, Ptr<EventPool>) -> !,
}

/// The arguments of a direct system call as `map.s` has them: rdi, rsi, rdx, the CPU block, r8,
/// the process.
type DirectHandler = extern "C" fn(u64, u64, u64, &'static CpuBlock, u64, Ptr<Process>) -> !;

/// Names the image's [`Handlers`] to the entry code.
#[macro_export]
macro_rules! handlers {
    ($handlers:ty) => {
        // SAFETY: the name is this crate's own; the macro is used once, in the image.
        #[unsafe(no_mangle)]
        static AURORA_HANDLERS: $crate::entry::Table = $crate::entry::table::<$handlers>();
    };
}

macro_rules! serve_all {
    ($handlers:ident; $($number:literal)*) => {
        [$(serve::<$handlers, $number>),*]
    };
}

/// The table of a set of handlers: each operation has a function of its own, in which the compiler
/// knows which operation it is; each number without an operation is refused.
pub const fn table<H: Handlers>() -> Table {
    let served: [Handler; Op::COUNT] = serve_all!(H;
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21
        22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43
        44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 67 68);
    let mut ops: [Handler; OP_NUMBERS] = [bad::<H>; OP_NUMBERS];
    let mut number = 0;
    while number < served.len() {
        ops[number] = served[number];
        number += 1;
    }
    Table {
        ops,
        switch: switch::<H>,
        call_elsewhere: call_elsewhere::<H>,
        reply_elsewhere: reply_elsewhere::<H>,
        answer_fault: answer_fault::<H>,
        map: direct::<H, { Op::Map as u8 }>,
        unmap: direct::<H, { Op::Unmap as u8 }>,
        tell_reader: tell_reader::<H>,
    }
}

/// # Safety
/// Called by the entry assembly on the CPU of `block`.
unsafe fn entry_of(block: &'static CpuBlock) -> CpuEntry {
    // SAFETY: interrupts are off (FMASK), and the kernel entry that this call serves is the only
    // one on this CPU: the assembly drops everything of it before it leaves the kernel or calls
    // again.
    unsafe { CpuEntry::new(block) }
}

extern "C" fn serve<H: Handlers, const OP: u8>(block: &'static CpuBlock) {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    if let Some(op) = const { Op::from_raw(OP) } {
        H::system_call(&mut entry, op);
    }
}

extern "C" fn bad<H: Handlers>(block: &'static CpuBlock) {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::bad_system_call(&mut entry);
}

extern "C" fn switch<H: Handlers>(block: &'static CpuBlock) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::switch(&mut entry)
}

extern "C" fn call_elsewhere<H: Handlers>(
    block: &'static CpuBlock,
    me: Ptr<Task>,
    callee: Ptr<Task>,
    tag: u64,
    target: u64,
) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::call_elsewhere(&mut entry, me, callee, tag, target)
}

extern "C" fn reply_elsewhere<H: Handlers>(block: &'static CpuBlock, me: Ptr<Task>, caller: Ptr<Task>) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::reply_elsewhere(&mut entry, me, caller)
}

extern "C" fn answer_fault<H: Handlers>(block: &'static CpuBlock, me: Ptr<Task>, faulter: Ptr<Task>) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::answer_fault(&mut entry, me, faulter)
}

extern "C" fn tell_reader<H: Handlers>(block: &'static CpuBlock, me: Ptr<Task>, pool: Ptr<EventPool>) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::tell_reader(&mut entry, me, pool)
}

extern "C" fn direct<H: Handlers, const OP: u8>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    block: &'static CpuBlock,
    r8: u64,
    process: Ptr<Process>,
) -> ! {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::map_page(&mut entry, const { Op::from_raw(OP).expect("an operation") }, process, [rdi, rsi, rdx, r8])
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

/// From the CPU block to what its CPU owns.
pub(crate) const HOT: usize = CpuBlock::OWN_OFFSET + offset_of!(CpuOwn, hot);
/// From a task to what its home CPU owns, and to its registers.
pub(crate) const TASK: usize = offset_of!(Task, hot) + Homed::<TaskHot>::VALUE_OFFSET;
pub(crate) const REGS: usize = TASK + offset_of!(TaskHot, regs);

global_asm!(
    ".section .text.entry,\"ax\",@progbits",
    include_str!("entry.s"),
    switch = const offset_of!(Table, switch),
    current = const HOT + offset_of!(CpuHot, current),
    kernel_stack = const HOT + offset_of!(CpuHot, kernel_stack),
    rax = const REGS + offset_of!(RegFrame, rax),
    rdx = const REGS + offset_of!(RegFrame, rdx),
    rsi = const REGS + offset_of!(RegFrame, rsi),
    rdi = const REGS + offset_of!(RegFrame, rdi),
    r8 = const REGS + offset_of!(RegFrame, r8),
    r9 = const REGS + offset_of!(RegFrame, r9),
    r10 = const REGS + offset_of!(RegFrame, r10),
    r12 = const REGS + offset_of!(RegFrame, r12),
    rip = const REGS + offset_of!(RegFrame, rip),
    rsp = const REGS + offset_of!(RegFrame, rsp),
    rflags = const REGS + offset_of!(RegFrame, rflags),
);

const _: () = assert!(offset_of!(Table, ops) == 0 && OP_NUMBERS == 1 << u8::BITS, "indexed by a byte");

#[cfg(not(feature = "fastpath"))]
global_asm!(
    ".section .text.entry,\"ax\",@progbits",
    include_str!("nofast.s"),
    op_null = const Op::Null as u8,
);

unsafe extern "C" {
    static syscall_entry: u8;
}

/// Address of the common entry, for the CPUs' entry slots.
pub fn common_entry() -> u64 {
    (&raw const syscall_entry) as u64
}
