//! The assembly of the system call entry, with its offsets, and the handlers behind it.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abi::{Counter, MsgInfo, ObjType, Op, Rights};
use kern_base::cpu::{Count, CpuBlock, CpuHot};
use kern_base::group::{Exposure, Group, MEMBER_SEND_LIMIT};
use kern_base::memory::VSpace;
use kern_base::process::Process;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::slot::Slot;
use kern_base::task::{FLAG_VECTOR, Message, RegFrame, State, Task, TaskHot};
use kern_hal::cpu::features::Features;
use kern_hal::cpu::vector;
use smp::cpu::Entry;
use smp::door::{ADDR_SHIFT, Homed, OBJECT_ALIGN, RIGHTS_SHIFT, TYPE_MASK};

/// The entry point: with the fastpath, or without.
#[cfg(feature = "fastpath")]
macro_rules! entry_source {
    () => {
        include_str!("fastpath.s")
    };
}
#[cfg(not(feature = "fastpath"))]
macro_rules! entry_source {
    () => {
        include_str!("nofast.s")
    };
}

/// What the portable kernel does for the entry code. `kern/image` implements it.
pub trait Handlers: 'static {
    /// Serves `op` for the running task of `block`, whose registers are in its frame.
    fn system_call(entry: &mut Entry, block: &'static CpuBlock, op: Op);
    /// Answers an operation number that does not exist.
    fn bad_system_call(entry: &mut Entry, block: &'static CpuBlock);
    /// Another task is current than the one that entered, or none: loads the context of the one that
    /// is, idling until there is one.
    fn switch(entry: &mut Entry, block: &'static CpuBlock);
}

/// A handler as the assembly calls it.
type Handler = extern "C" fn(&'static CpuBlock);

/// What the assembly calls.
#[repr(C)]
pub struct Table {
    /// By operation number.
    ops: [Handler; Op::COUNT],
    bad: Handler,
    switch: Handler,
}

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
/// knows which operation it is.
pub const fn table<H: Handlers>() -> Table {
    Table {
        ops: serve_all!(H;
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21
            22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42),
        bad: bad::<H>,
        switch: switch::<H>,
    }
}

/// # Safety
/// Called by the entry assembly on the CPU of `block`.
unsafe fn entry_of(block: &CpuBlock) -> Entry {
    // SAFETY: interrupts are off (FMASK), and the kernel entry that this call serves is the only one on
    // this CPU: the assembly drops everything of it before it leaves the kernel or calls again.
    unsafe { Entry::new(block.id) }
}

extern "C" fn serve<H: Handlers, const OP: u8>(block: &'static CpuBlock) {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    if let Some(op) = const { Op::from_raw(OP) } {
        H::system_call(&mut entry, block, op);
    }
}

extern "C" fn bad<H: Handlers>(block: &'static CpuBlock) {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::bad_system_call(&mut entry, block);
}

extern "C" fn switch<H: Handlers>(block: &'static CpuBlock) {
    // SAFETY: in the table only.
    let mut entry = unsafe { entry_of(block) };
    H::switch(&mut entry, block);
}

/// From the CPU block to what its CPU owns.
const HOT: usize = offset_of!(CpuBlock, hot) + Homed::<CpuHot>::VALUE_OFFSET;
/// From a task to what its home CPU owns, and to its registers.
const TASK: usize = offset_of!(Task, hot) + Homed::<TaskHot>::VALUE_OFFSET;
const REGS: usize = TASK + offset_of!(TaskHot, regs);

/// From a SchedContext to the task that has it.
const SC_TASK: usize =
    offset_of!(SchedContext, hot) + Homed::<SchedHot>::VALUE_OFFSET + offset_of!(SchedHot, task);
/// From a task to the callee in its message block.
const CALLEE: usize = offset_of!(Task, msg) + Homed::<Message>::VALUE_OFFSET + offset_of!(Message, callee);

const fn counter(which: Counter) -> usize {
    offset_of!(CpuBlock, counters) + which as usize * size_of::<Count>()
}

const SEND: u32 = Rights::SEND.0 << RIGHTS_SHIFT;

/// Whether XGETBV with ECX = 1 exists, for the fastpath. Written once at boot.
#[unsafe(no_mangle)]
static AURORA_XGETBV1: AtomicBool = AtomicBool::new(false);

/// Tells the entry code what this CPU can do; the other CPUs can do the same. At boot.
pub fn set_features(features: Features) {
    AURORA_XGETBV1.store(features.contains(Features::XGETBV1), Ordering::Relaxed);
}

global_asm!(
    ".section .text.entry,\"ax\",@progbits",
    entry_source!(),
    include_str!("entry.s"),
    // Operations.
    op_call = const Op::Call as u8,
    op_reply_recv = const Op::ReplyRecv as u8,
    op_null = const Op::Null as u8,
    op_count = const Op::COUNT,
    not_fast = const MsgInfo::NOT_FAST,
    bad = const offset_of!(Table, bad),
    switch = const offset_of!(Table, switch),
    // The CPU block.
    current = const HOT + offset_of!(CpuHot, current),
    recv_half = const HOT + offset_of!(CpuHot, recv_half),
    await_half = const HOT + offset_of!(CpuHot, await_half),
    recv_vector_half = const HOT + offset_of!(CpuHot, recv_vector_half),
    await_vector_half = const HOT + offset_of!(CpuHot, await_vector_half),
    scratch = const HOT + offset_of!(CpuHot, scratch),
    kernel_stack = const HOT + offset_of!(CpuHot, kernel_stack),
    vspace = const HOT + offset_of!(CpuHot, vspace),
    cpu_id = const offset_of!(CpuBlock, id),
    fast_call = const counter(Counter::FastCall),
    fast_reply = const counter(Counter::FastReply),
    miss_call_message = const counter(Counter::MissCallMessage),
    miss_call_cap = const counter(Counter::MissCallCap),
    miss_call_member = const counter(Counter::MissCallMember),
    miss_call_exposure = const counter(Counter::MissCallExposure),
    miss_call_receiver = const counter(Counter::MissCallReceiver),
    miss_call_vector = const counter(Counter::MissCallVector),
    miss_reply_message = const counter(Counter::MissReplyMessage),
    miss_reply_caller = const counter(Counter::MissReplyCaller),
    miss_reply_pending = const counter(Counter::MissReplyPending),
    miss_reply_sched = const counter(Counter::MissReplySched),
    miss_reply_vector = const counter(Counter::MissReplyVector),
    // Tasks.
    state = const TASK + offset_of!(TaskHot, state),
    state_ready = const State::Ready as u8,
    state_recv = const State::Recv as u8,
    state_await = const State::Await as u8,
    flag_vector = const FLAG_VECTOR,
    pending = const TASK + offset_of!(TaskHot, pending),
    process = const TASK + offset_of!(TaskHot, process),
    sc = const TASK + offset_of!(TaskHot, sc),
    own_sc = const TASK + offset_of!(TaskHot, own_sc),
    caller = const TASK + offset_of!(TaskHot, caller),
    callee = const CALLEE,
    sc_task = const SC_TASK,
    id = const offset_of!(Task, id),
    fs_base = const TASK + offset_of!(TaskHot, fs_base),
    gs_base = const TASK + offset_of!(TaskHot, gs_base),
    // Capabilities and groups.
    cspace_base = const Process::CSPACE_BASE_OFFSET,
    cspace_len = const Process::CSPACE_LEN_OFFSET,
    key = const Process::KEY_OFFSET,
    vspace_of = const offset_of!(Process, vspace),
    slot_word = const offset_of!(Slot, word),
    slot_meta = const Slot::META_OFFSET,
    slot_shift = const size_of::<Slot>().ilog2(),
    cap_mask = const TYPE_MASK as u32 | SEND,
    cap_group_send = const ObjType::Group as u32 | SEND,
    addr_shift = const ADDR_SHIFT,
    object_align = const OBJECT_ALIGN,
    members = const offset_of!(Group, members) + smp::door::Table::<AtomicU64>::BASE_OFFSET,
    member_send_limit = const MEMBER_SEND_LIMIT,
    exposures = const offset_of!(Group, exposures) + smp::door::Table::<Exposure>::BASE_OFFSET,
    exposures_len = const offset_of!(Group, exposures) + smp::door::Table::<Exposure>::LEN_OFFSET,
    exposure_shift = const size_of::<Exposure>().ilog2(),
    exposure_word = const offset_of!(Exposure, slot) + offset_of!(Slot, word),
    exposure_tag = const offset_of!(Exposure, tag),
    exposure_per_cpu = const offset_of!(Exposure, per_cpu),
    type_task = const ObjType::Task as u8,
    // Address spaces and vector state.
    cr3 = const VSpace::CR3_OFFSET,
    generation = const VSpace::GENERATION_OFFSET,
    seen = const VSpace::SEEN_OFFSET,
    initial_mxcsr = const vector::INITIAL_MXCSR,
    initial_vector = sym vector::INITIAL,
    // Registers.
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

const _: () = {
    assert!(size_of::<Slot>().is_power_of_two() && size_of::<Exposure>().is_power_of_two());
    assert!(MEMBER_SEND_LIMIT <= i32::MAX as u64, "the comparison takes a sign-extended immediate");
};

unsafe extern "C" {
    static syscall_entry: u8;
}

/// Address of the common entry, for the CPUs' entry slots.
pub fn common_entry() -> u64 {
    (&raw const syscall_entry) as u64
}
