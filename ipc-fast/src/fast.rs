//! The fastpaths: the offsets of `fastpath.s` (call, reply_recv), `light.s` (notify, wait,
//! yield_to) and `send.s`, and the values that boot gives them.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

use abi::events::{self, EventControl};
use abi::{Counter, MSG_UTCB_WORDS, MsgInfo, ObjType, Op, Rights, TaskId, Utcb, task_rights};
use kern_base::cpu::{Count, CpuBlock, CpuHot, CpuOwn, CpuSched, CpuShared};
use kern_base::events::{Cell, EventPool};
use kern_base::group::{Exposure, Group, MEMBER_KEY_SHIFT, MEMBER_SEND_LIMIT, Member};
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::memory::VSpace;
use kern_base::notification::{Notification, NotificationHot};
use kern_base::process::Process;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::slot::Slot;
use kern_base::task::{
    FLAG_IN_FAULT, FLAG_VECTOR, Message, PENDING_FAULT, PLAIN, RegFrame, State, Task, TaskHot,
};
use kern_hal::cpu::vector;
use kern_hal::trap::entry::{HOT, REGS, TASK};
use sched::{QueueLinks, RunQueue, ScState};
use smp::door::masked::NamedTable;
use smp::door::{ADDR_SHIFT, Homed, OBJECT_ALIGN, RIGHTS_SHIFT, TYPE_MASK};
#[cfg(feature = "trace")]
use smp::trace::Rings;
#[cfg(feature = "trace")]
use test_abi::trace::{EVENT_WORDS, FIELD_A, How, Kind, Path, TaskState, Why, message_word, stop_word};

use crate::entry::{self, OP_NUMBERS};

/// From the CPU block to its scheduler.
const SCHED: usize = CpuBlock::OWN_OFFSET + offset_of!(CpuOwn, sched);
/// From a SchedContext to what the CPU that it is on owns, and to its accounts.
const SC: usize = offset_of!(SchedContext, hot) + Homed::<SchedHot>::VALUE_OFFSET;
const SC_STATE: usize = SC + offset_of!(SchedHot, state);
/// From a Notification to what its home CPU owns.
const NOTE: usize = offset_of!(Notification, hot) + Homed::<NotificationHot>::VALUE_OFFSET;
/// From a task to the callee in its message block.
const CALLEE: usize = MSG + Message::CALLEE_OFFSET;
/// From a task to its message block.
const MSG: usize = Task::MESSAGE_OFFSET;

const fn counter(which: Counter) -> usize {
    CpuBlock::SHARED_OFFSET + offset_of!(CpuShared, counters) + which as usize * size_of::<Count>()
}

/// The offset of a word in an event's first cell.
const fn cell(word: usize) -> usize {
    word * size_of::<u64>()
}

/// The type and these rights in the word of a capability.
const fn word(object_type: ObjType, rights: Rights) -> u32 {
    object_type as u32 | (rights.0 << RIGHTS_SHIFT)
}

unsafe extern "C" {
    fn syscall_slow();
    fn fast_map();
    fn fast_unmap();
    fn fast_send();
}

/// A place in the entry assembly, which Rust never calls.
type Place = unsafe extern "C" fn();

/// Where an operation without words, flags and label is served, by its number, if not by one of the
/// comparisons before.
#[unsafe(no_mangle)]
static AURORA_FAST: [Place; OP_NUMBERS] = {
    let mut table: [Place; OP_NUMBERS] = [syscall_slow; OP_NUMBERS];
    table[Op::Map as usize] = fast_map;
    table[Op::Unmap as usize] = fast_unmap;
    table[Op::Send as usize] = fast_send;
    table
};

/// Assembles the fastpaths: first what they say in traces, if they do, then they themselves.
/// Operands of the former come last.
macro_rules! fastpaths {
    ([$($trace:tt)*] [$($operands:tt)*]) => {
        global_asm!(
            ".section .text.entry,\"ax\",@progbits",
            $($trace)*
            include_str!("common.s"),
            include_str!("fastpath.s"),
            include_str!("light.s"),
            include_str!("send.s"),
            include_str!("map.s"),
            op_send = const Op::Send as u8,
            op_numbers = const OP_NUMBERS,
            map = const offset_of!(entry::Table, map),
            unmap = const offset_of!(entry::Table, unmap),
            tell_reader = const offset_of!(entry::Table, tell_reader),
            op_reply_recv = const Op::ReplyRecv as u8,
            op_null = const Op::Null as u8,
            op_wait = const Op::Wait as u8,
            op_yield_to = const Op::YieldTo as u8,
            words_end = const MsgInfo::new(0, MSG_UTCB_WORDS as u8 + 1).0,
            current = const HOT + offset_of!(CpuHot, current),
            recv_half = const HOT + offset_of!(CpuHot, recv_half),
            await_half = const HOT + offset_of!(CpuHot, await_half),
            plain_half = const HOT + offset_of!(CpuHot, plain_half),
            wait_half = const HOT + offset_of!(CpuHot, wait_half),
            recv_vector_half = const HOT + offset_of!(CpuHot, recv_vector_half),
            await_vector_half = const HOT + offset_of!(CpuHot, await_vector_half),
            zero = const HOT + offset_of!(CpuHot, zero),
            scratch = const HOT + offset_of!(CpuHot, scratch),
            vspace = const CpuBlock::SHARED_OFFSET + offset_of!(CpuShared, vspace),
            front = const SCHED + offset_of!(CpuSched, queue) + RunQueue::<SchedContext>::FRONT_OFFSET,
            top = const SCHED + offset_of!(CpuSched, queue) + RunQueue::<SchedContext>::TOP_OFFSET,
            running = const SCHED + offset_of!(CpuSched, current),
            until = const SCHED + offset_of!(CpuSched, until),
            timer = const SCHED + offset_of!(CpuSched, timer),
            cpu_id = const CpuBlock::ID_OFFSET,
            fast_call = const counter(Counter::FastCall),
            fast_reply = const counter(Counter::FastReply),
            express_call = const counter(Counter::ExpressCall),
            express_reply = const counter(Counter::ExpressReply),
            fast_notify = const counter(Counter::FastNotify),
            fast_send = const counter(Counter::FastSend),
            fast_wait = const counter(Counter::FastWait),
            fast_yield = const counter(Counter::FastYield),
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
            miss_notify = const counter(Counter::MissNotify),
            miss_send = const counter(Counter::MissSend),
            miss_wait = const counter(Counter::MissWait),
            miss_yield = const counter(Counter::MissYield),
            state = const TASK + TaskHot::WORD_OFFSET,
            state_ready = const State::Ready as u8,
            state_recv = const State::Recv as u8,
            state_await = const State::Await as u8,
            state_ready_plain = const State::Ready as u8 | PLAIN,
            state_wait_plain = const State::WaitBits as u8 | PLAIN,
            flag_vector = const FLAG_VECTOR,
            flag_in_fault = const FLAG_IN_FAULT,
            pending_fault = const PENDING_FAULT,
            pending = const TASK + TaskHot::PENDING_OFFSET,
            process = const TASK + TaskHot::PROCESS_OFFSET,
            lender = const TASK + TaskHot::LENDER_OFFSET,
            own_sc = const TASK + TaskHot::OWN_TIME_OFFSET,
            caller = const TASK + TaskHot::CALLER_OFFSET,
            callee = const CALLEE,
            task_home = const offset_of!(Task, hot) + Homed::<TaskHot>::HOME_OFFSET,
            msg_info = const MSG + Message::INFO_OFFSET,
            msg_regs = const MSG + Message::REGS_OFFSET,
            msg_target = const MSG + Message::TARGET_OFFSET,
            msg_custom = const MSG + Message::CUSTOM_OFFSET,
            kernel_stack = const HOT + offset_of!(CpuHot, kernel_stack),
            call_elsewhere = const offset_of!(entry::Table, call_elsewhere),
            reply_elsewhere = const offset_of!(entry::Table, reply_elsewhere),
            answer_fault = const offset_of!(entry::Table, answer_fault),
            waits_for = const TASK + TaskHot::WAITS_FOR_OFFSET,
            utcb = const Task::UTCB_OFFSET,
            sc_task = const SC + offset_of!(SchedHot, task),
            sc_rank = const SC_STATE + ScState::<SchedContext>::RANK_OFFSET,
            sc_remaining = const SC_STATE + ScState::<SchedContext>::REMAINING_OFFSET,
            sc_granted = const SC_STATE + ScState::<SchedContext>::GRANTED_OFFSET,
            sc_slice = const SC_STATE + ScState::<SchedContext>::SLICE_OFFSET,
            sc_place = const SC_STATE + offset_of!(ScState<SchedContext>, links) + QueueLinks::<SchedContext>::PLACE_OFFSET,
            note_flags = const offset_of!(Notification, header) + Header::FLAGS_OFFSET,
            note_home = const offset_of!(Notification, hot) + Homed::<NotificationHot>::HOME_OFFSET,
            note_bits = const NOTE + offset_of!(NotificationHot, bits),
            note_waiter = const NOTE + offset_of!(NotificationHot, waiter),
            note_bound = const NOTE + offset_of!(NotificationHot, bound),
            id = const Task::ID_OFFSET,
            id_other_bits = const u32::BITS - TaskId::GENERATION_BITS,
            owner = const Task::OWNER_OFFSET,
            task_flags = const offset_of!(Task, header) + Header::FLAGS_OFFSET,
            flag_dead = const FLAG_DEAD,
            pool_of = const offset_of!(Process, pool),
            pool_reserved = const offset_of!(EventPool, reserved),
            pool_cells_log2 = const offset_of!(EventPool, cells_log2),
            pool_control = const EventPool::CONTROL_OFFSET,
            pool_stamps = const EventPool::STAMPS_OFFSET,
            pool_cells = const EventPool::CELLS_OFFSET,
            pool_cells_len = const EventPool::CELLS_LEN_OFFSET,
            control_head = const offset_of!(EventControl, head),
            control_armed = const offset_of!(EventControl, armed),
            stamp_size = const EventPool::STAMP_SIZE,
            cell_shift = const size_of::<Cell>().ilog2(),
            cell_info = const cell(events::INFO),
            cell_sender = const cell(events::SENDER),
            cell_exposure = const cell(events::WAY),
            cell_custom = const cell(events::WAY) + events::CUSTOM_SHIFT as usize / 8,
            cell_free = const cell(events::GROUP),
            cell_regs = const cell(events::REGS),
            fs_base = const TASK + offset_of!(TaskHot, fs_base),
            gs_base = const TASK + offset_of!(TaskHot, gs_base),
            cspace_base = const Process::CSPACE_BASE_OFFSET,
            cspace_len = const Process::CSPACE_LEN_OFFSET,
            key = const Process::KEY_OFFSET,
            vspace_of = const offset_of!(Process, vspace),
            slot_word = const offset_of!(Slot, word),
            slot_meta = const Slot::META_OFFSET,
            slot_shift = const size_of::<Slot>().ilog2(),
            cap_group_send = const word(ObjType::Group, Rights::SEND),
            cap_group_string = const word(ObjType::Group, Rights::SEND.union(Rights::STRING)),
            cap_group_notify = const word(ObjType::Group, Rights::NOTIFY),
            cap_note_notify = const word(ObjType::Notification, Rights::NOTIFY),
            cap_note_listen = const word(ObjType::Notification, Rights::LISTEN),
            cap_task_schedule = const word(ObjType::Task, task_rights::SCHEDULE.rights()),
            type_mask = const TYPE_MASK,
            addr_shift = const ADDR_SHIFT,
            object_align = const OBJECT_ALIGN,
            members = const offset_of!(Group, members) + NamedTable::<AtomicU64>::BASE_OFFSET,
            member_send_limit = const MEMBER_SEND_LIMIT,
            member_key_shift = const MEMBER_KEY_SHIFT,
            member_string = const Member::right_bit(Rights::STRING),
            member_notify = const Member::right_bit(Rights::NOTIFY),
            exposures = const offset_of!(Group, exposures) + NamedTable::<Exposure>::BASE_OFFSET,
            exposures_len = const offset_of!(Group, exposures) + NamedTable::<Exposure>::LEN_OFFSET,
            exposure_shift = const size_of::<Exposure>().ilog2(),
            exposure_word = const offset_of!(Exposure, slot) + offset_of!(Slot, word),
            exposure_tag = const offset_of!(Exposure, tag),
            exposure_generation = const offset_of!(Exposure, tag) + size_of::<u32>(),
            exposure_per_cpu = const offset_of!(Exposure, per_cpu),
            exposure_part_of = const offset_of!(Exposure, part_of),
            type_task = const ObjType::Task as u8,
            type_notification = const ObjType::Notification as u8,
            cr3 = const VSpace::CR3_OFFSET,
            generation = const VSpace::GENERATION_OFFSET,
            seen = const VSpace::SEEN_OFFSET,
            has_xgetbv1 = sym vector::HAS_XGETBV1,
            initial_mxcsr = const vector::INITIAL_MXCSR,
            initial_vector = sym vector::INITIAL,
            rdi = const REGS + offset_of!(RegFrame, rdi),
            rsi = const REGS + offset_of!(RegFrame, rsi),
            rdx = const REGS + offset_of!(RegFrame, rdx),
            r8 = const REGS + offset_of!(RegFrame, r8),
            r9 = const REGS + offset_of!(RegFrame, r9),
            r10 = const REGS + offset_of!(RegFrame, r10),
            rip = const REGS + offset_of!(RegFrame, rip),
            rsp = const REGS + offset_of!(RegFrame, rsp),
            rflags = const REGS + offset_of!(RegFrame, rflags),
            $($operands)*
        );
    };
}

#[cfg(not(feature = "trace"))]
fastpaths! { [include_str!("trace_off.s"),] [] }

#[cfg(feature = "trace")]
fastpaths! {
    [include_str!("trace.s"),]
    [
        trace_on = const Rings::ON_OFFSET,
        rings = const Rings::RINGS_OFFSET,
        ring_shift = const Rings::RING_SHIFT,
        ring_words = const Rings::WORDS_OFFSET,
        ring_mask = const Rings::MASK_OFFSET,
        ring_head = const Rings::HEAD_OFFSET,
        event_words_log2 = const EVENT_WORDS.ilog2(),
        spilled = const HOT + offset_of!(CpuHot, spilled),
        field_a = const FIELD_A,
        event_run = const Kind::Run as u8,
        event_dequeued = const Kind::Dequeued as u8,
        event_enqueued = const Kind::Enqueued as u8,
        event_bits = const Kind::BitsTaken as u8,
        event_notified = const Kind::Notified as u8,
        event_call = const message_word(Kind::Call, Path::Fast, How::Delivered),
        event_reply = const message_word(Kind::Reply, Path::Fast, How::Delivered),
        event_stop_await = const stop_word(Why::HandedOver, TaskState::Await),
        event_stop_recv = const stop_word(Why::HandedOver, TaskState::Recv),
        event_stop_wait = const stop_word(Why::Blocked, TaskState::WaitBits),
        event_stop_yield = const stop_word(Why::Yielded, TaskState::Ready),
    ]
}

const _: () = {
    assert!(FLAG_DYING < 256 && FLAG_DEAD < 256 && cfg!(target_endian = "little"), "looked for in one byte");
    assert!(Op::Call as u8 == 0 && Op::ReplyRecv as u8 == 1, "the entry takes them to be that");
    assert!(Op::Null as u8 == 2 && Op::Notify as u8 == 3 && Op::Wait as u8 == 4, "compared in this order");
    assert!(offset_of!(Utcb, msg) == 0 && MSG_UTCB_WORDS < 255, "copied from the start, counted in a byte");
    assert!(smp::events::CLOSED == 1 << 63, "looked for as the sign");
    assert!(size_of::<Slot>().is_power_of_two() && size_of::<Exposure>().is_power_of_two());
    assert!(MEMBER_SEND_LIMIT <= i32::MAX as u64, "the comparison takes a sign-extended immediate");
};
