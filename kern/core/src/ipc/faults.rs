//! Faults as messages: the kernel makes a call for a task that faults, and the answer says how the
//! task continues.
//!
//! The task waits in the states of a caller, with [`FLAG_IN_FAULT`]. So its CPU time is lent. Its
//! handler may forward the message, keep it, or die. The task may be suspended and killed
//! meanwhile. These are the differences from other calls:
//!
//! * **Registers.** All registers of the task stay in its frame (`full` is 1). Its UTCB is left
//!   alone, because the task may have been writing a message there. The receiver of the message
//!   gets the registers in its bulk words. To another CPU they travel in the message block
//!   ([`kern_base::task::Message::frame`]), which belongs to the CPU that holds it. The registers
//!   of an answer travel in the same way.
//! * **The answer** is checked before it is used. A handler that gives an invalid answer gets an
//!   error, and still has the call. [`PENDING_FAULT`](kern_base::task::PENDING_FAULT) keeps the
//!   fastpaths from answering this call.
//! * **An error** cannot be reported to the task. Its process ends, as if there were no handler.
//!
//! A fault has no deadline. A cancel has no effect on it, because the right to suspend a task does
//! not include the right to end it.

use abi::{Error, FLAG_FAULT, FaultAnswer, FaultKind, MsgInfo, RegIndex, Rights, Target};
use abi::{RFLAGS_RESUME, RFLAGS_TRAP};
use kern_base::block::Block;
use kern_base::header::FLAG_DYING;
use kern_base::machine::{FaultEnd, Machine};
use kern_base::task::{FLAG_IN_FAULT, FLAG_VECTOR, Message, State, Task, TaskHot, ctl};
use smp::door::Ref;
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;
use test_abi::trace::{Event, How, Path};

use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::ends::End;
use crate::ipc::ways::{Direct, Queue, Sent, There};
use crate::payload::carry::PAYLOAD_FLAGS;
use crate::registers::{load_registers, read_registers, registers};
use crate::rooms::Ipc;
use crate::{OpenTask, Refusal, Result, refuse_if};

/// Exceptions that have more detail than their number.
const DEBUG: u8 = 1;
const PAGE_FAULT: u8 = 14;
/// Page fault error bit: the page is present, and does not allow the access.
const PRESENT: u64 = 1 << 0;
/// Bits of DR6: a step; the breakpoints that hit.
const DR6_STEP: u64 = 1 << 14;
const DR6_HITS: u64 = 0xf;
/// `BadArgument`'s detail for an answer that does not exist: not an argument is wrong, but the
/// label.
const NO_SUCH_ANSWER: u64 = u64::MAX;

/// Returns what DR7 says about one breakpoint: whether it is enabled, its condition, and its length
/// in bytes.
pub fn breakpoint(dr7: u64, n: usize) -> (bool, u64, u64) {
    let (condition, length) = (dr7 >> (16 + 4 * n) & 3, dr7 >> (18 + 4 * n) & 3);
    (dr7 >> (2 * n) & 3 != 0, condition, [1, 2, 8, 4][length as usize])
}

/// Conditions of a breakpoint: before an instruction, at an access to a port.
const ON_EXECUTE: u64 = 0;
const ON_PORT: u64 = 2;

/// Checks that debug registers may be loaded: they watch no kernel address and set no reserved bit.
pub fn check_debug(addresses: &[u64], dr7: u64) -> Result<()> {
    if let Some(n) = addresses.iter().position(|at| *at >= abi::USER_TOP) {
        return Err(Refusal::new(Error::BadAddress, n as u64));
    }
    let legal = |(n, at): (usize, &u64)| {
        let (on, condition, length) = breakpoint(dr7, n);
        !on || condition != ON_PORT && at % length == 0 && (condition != ON_EXECUTE || length == 1)
    };
    refuse_if(
        dr7 & !abi::DEBUG_CONTROL != 0 || !addresses.iter().enumerate().all(legal),
        Refusal::argument(5),
    )?;
    Ok(())
}

/// Copies a faulter's frame into its message block, which is about to leave the frame's CPU.
pub fn take_registers_along(hot: &TaskHot, msg: &Message) {
    if hot.has_flag(FLAG_IN_FAULT) {
        for (register, cell) in registers(&hot.regs) {
            msg.frame[register as usize].set(cell.get());
        }
    }
}

/// Names the kind of a task's fault.
#[inline(always)]
fn kind_of(fault: &Fault, hot: &TaskHot) -> FaultKind {
    if fault.vector == PAGE_FAULT {
        let above = fault.address.wrapping_sub(hot.regs.rsp.get()).wrapping_add(abi::PAGE_SIZE);
        let near = above < 2 * abi::PAGE_SIZE;
        return if near && fault.error & PRESENT == 0 { FaultKind::StackOverflow } else { FaultKind::Page };
    }
    kind_of_other(fault, hot)
}

/// Names the kind of a fault that is no page fault, and handles debug exceptions. Out of line, so
/// that a page fault passes only one comparison of vectors.
#[cold]
#[inline(never)]
fn kind_of_other(fault: &Fault, hot: &TaskHot) -> FaultKind {
    if fault.vector == DEBUG {
        settle_debug(hot, fault.address);
    }
    match fault.vector {
        0 => FaultKind::Divide,
        DEBUG if fault.address & DR6_HITS != 0 => FaultKind::Watch,
        DEBUG if fault.address & DR6_STEP != 0 => FaultKind::Step,
        3 => FaultKind::Breakpoint,
        6 => FaultKind::Instruction,
        7 => FaultKind::NoVector,
        10..=13 => FaultKind::Protection,
        16 | 19 => FaultKind::Float,
        17 => FaultKind::Alignment,
        _ => FaultKind::Other,
    }
}

/// A fault of the running program.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub vector: u8,
    pub error: u64,
    /// CR2, for a page fault; DR6, for a debug exception.
    pub address: u64,
}

impl<'k, M: Machine> Ipc<'k, M> {
    // --- the call --------------------------------------------------------------------------------

    /// Sends the running task's fault to its handler. If that fails, or there is no handler, ends
    /// the process. All registers are in the task's frame.
    pub fn on_fault(self, fault: Fault) {
        let me = self.entrant();
        self.trace().event(|| Event::Fault {
            task: me.get().id(),
            address: fault.address,
            vector: fault.vector,
        });
        let details = u64::from(fault.vector) << 32 | fault.error & u64::from(u32::MAX);
        let [address, about] = &me.fault;
        address.set(fault.address);
        about.set(details);
        let info = MsgInfo::new(kind_of(&fault, me.part()).label(), 0).flag(FLAG_FAULT);
        let regs = &me.regs;
        let words = Words { info, regs: [fault.address, regs.rip.get(), details, regs.rsp.get()] };
        if let Err(why) = self.tell_handler(me, words) {
            self.end_of_fault(me, why);
        }
    }

    /// Calls the handler of the running task's fault.
    /// Errors: the reason why the handler cannot be called, or `None` if there is no handler.
    /// Nothing was changed then.
    #[inline(always)]
    fn tell_handler(self, me: OpenTask<'k>, words: Words) -> core::result::Result<(), Option<Error>> {
        let target = match me.get().fault_handler.load(Relaxed) {
            0 => me.process(self.pin()).get().fault_handler.load(Relaxed),
            own => own,
        };
        if target == 0 {
            return Err(None);
        }
        let dest = match self.caps().resolve_task(me, Target(target), Rights::SEND | Rights::STRING) {
            Ok(dest) => dest,
            Err(Refusal::Error { error, .. }) => return Err(Some(error)),
            Err(_) => return Err(Some(Error::BadState)),
        };
        if dest.task == me.object() {
            return Err(Some(Error::SelfCall));
        }
        let from = SenderInfo { sender: me.get().id(), target: Target(target), custom: dest.custom };
        if me.has_flag(FLAG_VECTOR) {
            self.k.machine.save_vector(me.get().vector(self.pin()));
        }
        let sent = Sent { callee: dest.task, words, from };
        let Some(handler) = self.open(dest.task) else {
            me.begin_fault();
            self.begin(me, There { tag: dest.tag }, &sent, None);
            return Ok(());
        };
        let receiving = self.is_receiving(handler.part());
        if !handler.is_meant_by(dest.tag) || !receiving && handler.is_dying() {
            return Err(Some(Error::Dead));
        }
        me.begin_fault();
        if receiving {
            self.begin(me, Direct::<true>(handler), &sent, None);
        } else {
            self.begin(me, Queue(handler), &sent, None);
        }
        Ok(())
    }

    /// Shows all registers of `caller`, whose fault `handler` has just received, in the handler's
    /// UTCB. Marks that the fastpaths must not answer this call.
    #[inline(always)]
    pub fn show_fault(self, caller: Ref<'k, Task>, handler: OpenTask<'k>) {
        handler.serve_fault();
        let bulk = &handler.get().utcb(self.pin()).bulk;
        if let Some(caller) = self.open(caller) {
            for (register, cell) in registers(&caller.regs) {
                bulk[register as usize].store(cell.get(), Relaxed);
            }
        } else if let Some(msg) = caller.get().message(self.pin()) {
            for (word, cell) in bulk.iter().zip(&msg.frame) {
                word.store(cell.get(), Relaxed);
            }
        }
    }

    /// Ends the process of the running task, whose fault no handler can receive.
    #[cold]
    fn end_of_fault(self, me: OpenTask<'k>, why: Option<Error>) {
        self.report_fault(me, why);
        me.enter(State::Faulted);
        // The task keeps its time until the kill returns it.
        self.work_without_time(|| _ = self.time().stop_current(), || self.tear_down_later(me));
        self.time().dispatch();
    }

    /// Reports a fault that ends a process, to the audit and to the machine layer, which prints it
    /// when this CPU has nothing else to do.
    fn report_fault(self, task: OpenTask<'k>, why: Option<Error>) {
        self.security().audit_teardown(task.object());
        let [address, about] = &task.fault;
        self.sched.before_idle.set(true);
        self.k.machine.report_fault(&FaultEnd {
            task: task.get().id(),
            vector: (about.get() >> 32) as u8,
            error: about.get() as u32,
            address: address.get(),
            rip: task.regs.rip.get(),
            why,
        });
        self.end_with_first(task.process(self.pin()));
    }

    /// Begins by mail to end a faulter's process, because the end may kill a task that is in the
    /// middle of a system call.
    fn tear_down_later(self, task: OpenTask<'k>) {
        self.prepare_teardown(task.part());
        self.outbox().raise_control(task.object(), ctl::TEAR_DOWN);
    }

    /// Marks a task and its process as dying, before the process ends.
    pub fn prepare_teardown(self, hot: &TaskHot) {
        hot.mark_killed_last();
        if let Some(process) = hot.process_if_any(self.pin()) {
            process.get().header.set_flag(FLAG_DYING);
            // The CPU that binds a task takes the task's number and then looks for the mark.
            fence(SeqCst);
        }
    }

    // --- the answer ------------------------------------------------------------------------------

    /// Whether a call that this CPU has is a fault of its caller.
    pub fn is_fault(self, caller: Ref<'k, Task>) -> bool {
        match self.open(caller) {
            Some(caller) => caller.has_flag(FLAG_IN_FAULT),
            None => caller.get().message(self.pin()).is_some_and(|msg| msg.info().has(FLAG_FAULT)),
        }
    }

    /// Checks an answer to `caller`'s fault. Copies a register set that comes with it into the
    /// message block.
    #[inline(always)]
    pub fn check_answer(self, me: OpenTask<'k>, caller: Ref<'k, Task>, words: &Words) -> Result<FaultAnswer> {
        let no_such = Refusal::new(Error::BadArgument, NO_SUCH_ANSWER);
        let answer = FaultAnswer::from_label(words.info.label()).ok_or(no_such)?;
        if words.info.has(PAYLOAD_FLAGS) {
            // The faulter did not ask for a payload, and its UTCB may hold a message of its own.
            return Err(no_such);
        }
        match answer {
            FaultAnswer::ResumeAt if words.regs[1] >= abi::USER_TOP => {
                return Err(Refusal::new(Error::BadAddress, RegIndex::Rip as u64));
            }
            FaultAnswer::Registers => self.take_register_set(me, caller)?,
            _ => {}
        }
        Ok(answer)
    }

    /// Copies the register set in the handler's UTCB into the faulter's message block.
    #[inline(never)]
    fn take_register_set(self, me: OpenTask<'k>, caller: Ref<'k, Task>) -> Result<()> {
        let set = read_registers(&me.get().utcb(self.pin()).bulk)?;
        if let Some(msg) = caller.get().message(self.pin()) {
            for (cell, word) in msg.frame.iter().zip(set) {
                cell.set(word);
            }
        }
        Ok(())
    }

    /// Carries out the checked answer to a fault whose message block is `block`.
    #[inline(always)]
    pub fn answer_fault(self, me: OpenTask<'k>, block: Block<'k>, answer: FaultAnswer, words: Words) {
        let caller = block.task();
        if !goes_on(answer) {
            self.security().audit_answer(me, caller, answer);
        }
        let Some(caller) = self.open(caller) else { return self.answer_elsewhere(me, block, words) };
        self.trace().note_reply(caller.object(), me.object(), Path::Slow, How::Delivered, 0);
        if goes_on(answer) {
            self.apply(caller, answer, words.regs[1]);
            self.end_call(me, block, caller);
        } else {
            // The faulter has its time back, and does not continue.
            caller.suspend();
            self.end_call(me, block, caller);
            self.finish_off(caller, answer);
        }
    }

    /// Changes a faulter's registers as the answer says, and ends its fault.
    #[inline(always)]
    fn apply(self, task: OpenTask<'k>, answer: FaultAnswer, rip: u64) {
        task.end_fault();
        match answer {
            FaultAnswer::ResumeAt => task.regs.rip.set(rip),
            FaultAnswer::Step => task.regs.rflags.set(task.regs.rflags.get() | RFLAGS_TRAP),
            FaultAnswer::Registers => {
                if let Some(msg) = task.get().message(self.pin()) {
                    load_registers(task.part(), |i| msg.frame[i].get());
                }
            }
            _ => {}
        }
    }

    /// Kills a faulter, or its process, as the answer says. The audit already has the answer.
    /// Requires: the faulter waits for nothing any more, and is suspended.
    fn finish_off(self, task: OpenTask<'k>, answer: FaultAnswer) {
        task.end_fault();
        task.enter(State::Ready);
        if answer == FaultAnswer::TearDown {
            self.tear_down_later(task);
        } else {
            self.outbox().raise_control(task.object(), ctl::KILL);
        }
    }

    /// Ends the fault of a task of this CPU that waits for nothing any more, and is not dying.
    pub fn fault_is_over(self, task: OpenTask<'k>, end: End) {
        match end {
            End::Failed { error, .. } => self.fault_failed(task, error),
            End::Replied(words) => {
                let answer = FaultAnswer::from_label(words.info.label()).unwrap_or(FaultAnswer::TearDown);
                if goes_on(answer) {
                    self.apply(task, answer, words.regs[1]);
                    return self.time().make_ready(task);
                }
                task.suspend();
                self.finish_off(task, answer);
            }
            // The instruction faults again.
            End::Retry | End::Posted => {
                task.end_fault();
                self.time().make_ready(task);
            }
        }
    }

    /// Ends the process of a task whose fault no handler will answer.
    /// Requires: the task waits for nothing any more.
    #[cold]
    pub fn fault_failed(self, task: OpenTask<'k>, why: Error) {
        task.end_fault();
        self.report_fault(task, Some(why));
        self.tear_down_later(task);
    }
}

/// Ends a single step, if DR6 reports one. Lets the instruction at a breakpoint execute before that
/// breakpoint hits again.
#[cold]
fn settle_debug(hot: &TaskHot, dr6: u64) {
    let flags = &hot.regs.rflags;
    if dr6 & DR6_STEP != 0 {
        flags.set(flags.get() & !RFLAGS_TRAP);
    }
    let dr7 = hot.debug()[abi::DEBUG_ADDRESSES].get();
    let hit = |n: usize| {
        let (on, condition, _) = breakpoint(dr7, n);
        on && condition == ON_EXECUTE && dr6 >> n & 1 != 0
    };
    if (0..abi::DEBUG_ADDRESSES).any(hit) {
        flags.set(flags.get() | RFLAGS_RESUME);
    }
}

/// Returns whether the faulter continues to live after this answer.
fn goes_on(answer: FaultAnswer) -> bool {
    !matches!(answer, FaultAnswer::Kill | FaultAnswer::TearDown)
}
