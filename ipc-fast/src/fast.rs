//! The fastpaths: the offsets of `fastpath.s` (call, reply_recv), `light.s` (notify, wait,
//! yield, yield_to) and `send.s`, and the values that boot gives them.

use core::mem::offset_of;
use core::sync::atomic::AtomicU64;

use abi::events::{self, EventControl};
use abi::{Counter, MSG_UTCB_WORDS, MsgInfo, ObjType, Op, Rights, Utcb, task_rights};
use kern_base::cpu::{Count, CpuBlock, CpuHot, CpuOwn, CpuSched, CpuShared};
use kern_base::events::{EventCell, EventPool};
use kern_base::group::{Exposure, Group, MEMBER_KEY_SHIFT, MEMBER_SEND_LIMIT, Member};
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::limits::TAG_BITS;
use kern_base::memory::VSpace;
use kern_base::notification::{Notification, NotificationHot};
use kern_base::process::Process;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::slot::Slot;
use kern_base::task::{
    FLAG_IN_FAULT, FLAG_VECTOR, Message, NONE_READY, PENDING_FAULT, PLAIN, RegFrame, State, TAG_SHIFT, Task,
    TaskHot,
};
use kern_hal::assembly;
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
/// From a task to its message block.
const MSG: usize = Task::MESSAGE_OFFSET;

/// From the CPU block to its counters.
const COUNTERS: usize = CpuBlock::SHARED_OFFSET + offset_of!(CpuShared, counters);

/// Returns the byte offset of word number `word` in an event's first cell.
const fn cell(word: usize) -> usize {
    word * size_of::<u64>()
}

/// Returns the part of a capability's word that has the type and the rights.
const fn word(object_type: ObjType, rights: Rights) -> u32 {
    object_type as u32 | (rights.0 << RIGHTS_SHIFT)
}

unsafe extern "C" {
    fn syscall_slow();
    fn fast_map();
    fn fast_unmap();
    fn fast_send();
    fn fast_yield_next();
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
    table[Op::Yield as usize] = fast_yield_next;
    table
};

/// Assembles the fastpaths: first what they say in traces, if they do, then they themselves.
/// Numbers and operands of the former come last.
macro_rules! fastpaths {
    ([$($trace:tt)*] [$($numbers:tt)*] [$($operands:tt)*]) => {
        assembly! {
            (
                ".section .text.entry,\"ax\",@progbits",
                $($trace)*
                include_str!("common.s"),
                include_str!("entry.s"),
                include_str!("fastpath.s"),
                include_str!("light.s"),
                include_str!("send.s"),
                include_str!("map.s"),
            )
            { 0, entry::Table: switch map unmap tell_reader yield_next call_elsewhere reply_elsewhere answer_fault }
            { HOT, CpuHot: current recv_half await_half plain_half wait_half recv_vector_half }
            { HOT, CpuHot: await_vector_half zero scratch kernel_stack }
            { CpuBlock::SHARED_OFFSET, CpuShared: vspace }
            { SCHED, CpuSched: until timer more_mail }
            { TASK, TaskHot: fs_base gs_base }
            { REGS, RegFrame: rax rdi rsi rdx r8 r9 r10 rip rsp rflags }
            ( SCHED, CpuSched: running current )
            ( SC, SchedHot: sc_task task )
            ( NOTE, NotificationHot: note_bits bits, note_waiter waiter, note_bound bound )
            ( 0, EventPool: pool_reserved reserved, pool_cells_log2 cells_log2 )
            ( 0, EventControl: control_head head, control_armed armed )
            ( 0, Process: pool_of pool, vspace_of vspace )
            ( 0, Slot: slot_word word )
            ( 0, Exposure: exposure_tag tag, exposure_per_cpu per_cpu, exposure_part_of part_of )
            [ 0, 1, Op: op_send Send, op_reply_recv ReplyRecv, op_null Null, op_wait Wait, op_yield_to YieldTo ]
            [ 0, 1, State: state_ready Ready, state_recv Recv, state_await Await ]
            [ 0, 1, ObjType: type_task Task, type_notification Notification ]
            [ COUNTERS, size_of::<Count>(), Counter:
                fast_call FastCall, fast_reply FastReply, express_call ExpressCall, express_reply ExpressReply,
                fast_notify FastNotify, fast_send FastSend, fast_wait FastWait, fast_yield FastYield,
                miss_call_message MissCallMessage, miss_call_cap MissCallCap, miss_call_member MissCallMember,
                miss_call_exposure MissCallExposure, miss_call_receiver MissCallReceiver,
                miss_call_vector MissCallVector, miss_reply_message MissReplyMessage,
                miss_reply_caller MissReplyCaller, miss_reply_pending MissReplyPending,
                miss_reply_sched MissReplySched, miss_reply_vector MissReplyVector,
                miss_notify MissNotify, miss_send MissSend, miss_wait MissWait, miss_yield MissYield ]
            $($numbers)*
            < 0, CpuBlock: cpu_id ID_OFFSET >
            < TASK, TaskHot: state WORD_OFFSET, pending PENDING_OFFSET, process PROCESS_OFFSET >
            < TASK, TaskHot: lender LENDER_OFFSET, own_sc OWN_TIME_OFFSET, caller CALLER_OFFSET >
            < TASK, TaskHot: waits_for WAITS_FOR_OFFSET >
            < MSG, Message: callee CALLEE_OFFSET, msg_info INFO_OFFSET, msg_regs REGS_OFFSET >
            < MSG, Message: msg_target TARGET_OFFSET, msg_custom CUSTOM_OFFSET >
            < 0, Task: utcb UTCB_OFFSET, id ID_OFFSET, owner OWNER_OFFSET >
            < SC_STATE, ScState<SchedContext>: sc_rank RANK_OFFSET, sc_slice SLICE_OFFSET >
            < SC_STATE, ScState<SchedContext>: sc_remaining REMAINING_OFFSET, sc_granted GRANTED_OFFSET >
            < SC_STATE, ScState<SchedContext>: sc_grace GRACE_OFFSET, sc_has_budget HAS_BUDGET_OFFSET >
            < 0, EventPool: pool_control CONTROL_OFFSET, pool_stamps STAMPS_OFFSET, stamp_size STAMP_SIZE >
            < 0, EventPool: pool_cells CELLS_OFFSET, pool_cells_len CELLS_LEN_OFFSET >
            < 0, Process: cspace_base CSPACE_BASE_OFFSET, cspace_len CSPACE_LEN_OFFSET, key KEY_OFFSET >
            < 0, Slot: slot_meta META_OFFSET >
            < 0, VSpace: cr3 CR3_OFFSET, generation GENERATION_OFFSET, seen SEEN_OFFSET >;
            op_numbers = const OP_NUMBERS,
            words_end = const MsgInfo::new(0, MSG_UTCB_WORDS as u8 + 1).0,
            front = const SCHED + offset_of!(CpuSched, queue) + RunQueue::<SchedContext>::FRONT_OFFSET,
            top = const SCHED + offset_of!(CpuSched, queue) + RunQueue::<SchedContext>::TOP_OFFSET,
            state_ready_plain = const State::Ready as u8 | PLAIN,
            state_wait_plain = const State::WaitBits as u8 | PLAIN,
            flag_vector = const FLAG_VECTOR,
            flag_in_fault = const FLAG_IN_FAULT,
            none_ready = const NONE_READY,
            pending_fault = const PENDING_FAULT,
            task_home = const offset_of!(Task, hot) + Homed::<TaskHot>::HOME_OFFSET,
            sc_place = const SC_STATE + offset_of!(ScState<SchedContext>, links) + QueueLinks::<SchedContext>::PLACE_OFFSET,
            note_flags = const offset_of!(Notification, header) + Header::FLAGS_OFFSET,
            note_home = const offset_of!(Notification, hot) + Homed::<NotificationHot>::HOME_OFFSET,
            id_other_bits = const u32::BITS - TAG_BITS,
            task_flags = const offset_of!(Task, header) + Header::FLAGS_OFFSET,
            flag_dead = const FLAG_DEAD,
            cell_shift = const size_of::<EventCell>().ilog2(),
            cell_info = const cell(events::INFO),
            cell_sender = const cell(events::SENDER),
            cell_exposure = const cell(events::WAY),
            cell_custom = const cell(events::WAY) + events::CUSTOM_SHIFT as usize / 8,
            cell_free = const cell(events::GROUP),
            cell_regs = const cell(events::REGS),
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
            exposure_tag_part = const offset_of!(Exposure, tag) + TAG_SHIFT as usize / 8,
            has_xgetbv1 = sym vector::HAS_XGETBV1,
            initial_mxcsr = const vector::INITIAL_MXCSR,
            initial_vector = sym vector::INITIAL,
            $($operands)*
        }
    };
}

#[cfg(not(feature = "trace"))]
fastpaths! { [include_str!("trace_off.s"),] [] [] }

#[cfg(feature = "trace")]
fastpaths! {
    [include_str!("trace.s"),]
    [
        [ 0, 1, Kind: event_run Run, event_dequeued Dequeued, event_enqueued Enqueued ]
        [ 0, 1, Kind: event_bits BitsTaken, event_notified Notified ]
        < 0, Rings: trace_on ON_OFFSET, rings RINGS_OFFSET, ring_shift RING_SHIFT >
        < 0, Rings: ring_words WORDS_OFFSET, ring_mask MASK_OFFSET, ring_head HEAD_OFFSET >
    ]
    [
        event_words_log2 = const EVENT_WORDS.ilog2(),
        spilled = const HOT + offset_of!(CpuHot, spilled),
        field_a = const FIELD_A,
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
    assert!(ScState::<SchedContext>::BUDGET_AND_WATCHER_ARE_ONE_WORD);
    assert!(smp::events::CLOSED == 1 << 63, "looked for as the sign");
    assert!(size_of::<Slot>().is_power_of_two() && size_of::<Exposure>().is_power_of_two());
    assert!(MEMBER_SEND_LIMIT <= i32::MAX as u64, "the comparison takes a sign-extended immediate");
};
