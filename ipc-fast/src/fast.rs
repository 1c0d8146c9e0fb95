//! The fastpath of call and reply_recv: the offsets of `fastpath.s`, and what it is told at boot.

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
use smp::door::{ADDR_SHIFT, Homed, OBJECT_ALIGN, RIGHTS_SHIFT, TYPE_MASK, Table};

use crate::entry::{HOT, REGS, TASK};

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
    include_str!("fastpath.s"),
    op_call = const Op::Call as u8,
    op_reply_recv = const Op::ReplyRecv as u8,
    op_null = const Op::Null as u8,
    not_fast = const MsgInfo::NOT_FAST,
    current = const HOT + offset_of!(CpuHot, current),
    recv_half = const HOT + offset_of!(CpuHot, recv_half),
    await_half = const HOT + offset_of!(CpuHot, await_half),
    recv_vector_half = const HOT + offset_of!(CpuHot, recv_vector_half),
    await_vector_half = const HOT + offset_of!(CpuHot, await_vector_half),
    scratch = const HOT + offset_of!(CpuHot, scratch),
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
    state = const TASK + offset_of!(TaskHot, state),
    state_ready = const State::Ready as u8,
    state_recv = const State::Recv as u8,
    state_await = const State::Await as u8,
    flag_vector = const FLAG_VECTOR,
    pending = const TASK + offset_of!(TaskHot, pending),
    process = const TASK + offset_of!(TaskHot, process),
    sc = const TASK + offset_of!(TaskHot, sc),
    lender = const TASK + offset_of!(TaskHot, lender),
    own_sc = const TASK + offset_of!(TaskHot, own_sc),
    caller = const TASK + offset_of!(TaskHot, caller),
    callee = const CALLEE,
    sc_task = const SC_TASK,
    id = const offset_of!(Task, id),
    fs_base = const TASK + offset_of!(TaskHot, fs_base),
    gs_base = const TASK + offset_of!(TaskHot, gs_base),
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
    members = const offset_of!(Group, members) + Table::<AtomicU64>::BASE_OFFSET,
    member_send_limit = const MEMBER_SEND_LIMIT,
    exposures = const offset_of!(Group, exposures) + Table::<Exposure>::BASE_OFFSET,
    exposures_len = const offset_of!(Group, exposures) + Table::<Exposure>::LEN_OFFSET,
    exposure_shift = const size_of::<Exposure>().ilog2(),
    exposure_word = const offset_of!(Exposure, slot) + offset_of!(Slot, word),
    exposure_tag = const offset_of!(Exposure, tag),
    exposure_per_cpu = const offset_of!(Exposure, per_cpu),
    type_task = const ObjType::Task as u8,
    cr3 = const VSpace::CR3_OFFSET,
    generation = const VSpace::GENERATION_OFFSET,
    seen = const VSpace::SEEN_OFFSET,
    initial_mxcsr = const vector::INITIAL_MXCSR,
    initial_vector = sym vector::INITIAL,
    rip = const REGS + offset_of!(RegFrame, rip),
    rsp = const REGS + offset_of!(RegFrame, rsp),
    rflags = const REGS + offset_of!(RegFrame, rflags),
);

const _: () = {
    assert!(size_of::<Slot>().is_power_of_two() && size_of::<Exposure>().is_power_of_two());
    assert!(MEMBER_SEND_LIMIT <= i32::MAX as u64, "the comparison takes a sign-extended immediate");
};
