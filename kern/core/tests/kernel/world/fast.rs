//! What the entry code hands on to the portable kernel in other ways than through the system call
//! table: its fast paths, as far as they are in Rust.

use abi::{MsgInfo, Op, TaskId};
use kern_base::block::Block;
use kern_base::message::{SenderInfo, Words};
use kern_base::task::{FLAG_IN_FAULT, RegFrame, Task};
use kern_core::answer::write_values;
use kern_core::door::entry::ExitAction;
use kern_core::door::timer::ShortEnd;
use kern_core::rooms::Door;
use smp::door::Ref;

use super::Fake;

/// Checks that a CPU which is to idle after a fast path has left no mail.
fn check_exit(cx: Door<'_, Fake>, action: ExitAction) {
    let is_left = cx.sched.more_mail.get() || cx.sched.before_idle.get();
    assert!(action != ExitAction::Idle || !is_left, "it idles with mail that is left");
}

/// What the fastpath does with a call to, or an answer for, a task of another CPU: whether this was
/// one.
fn elsewhere(cx: Door<'_, Fake>) -> bool {
    let Some(me) = cx.current() else { return false };
    let regs = &me.regs;
    let is_elsewhere = |task: Ref<'_, Task>| cx.open(task).is_none();
    match Op::from_raw(regs.rax.get() as u8) {
        Some(Op::Call) if regs.rax.get() as u32 == Op::Call as u32 => {
            let target = abi::Target(regs.rdi.get());
            let Ok(dest) = cx.caps().resolve_task(me, target, abi::Rights::SEND) else { return false };
            if !is_elsewhere(dest.task) {
                return false;
            }
            let block = Block::take(me.object(), cx.pin());
            block.write(words_in(regs), SenderInfo { sender: TaskId::NONE, target, custom: dest.custom });
            block.rest();
            check_exit(cx, cx.call_elsewhere(me.object(), dest.task, dest.tag >> 32 << 32, target.0));
        }
        Some(Op::ReplyRecv) if regs.rax.get() as u32 == Op::ReplyRecv as u32 => {
            let caller = me.caller(cx.pin()).filter(|caller| is_elsewhere(*caller));
            let Some(caller) = caller.filter(|_| !me.has_pending()) else { return false };
            if !me.time.is_lent_by(caller) {
                return false;
            }
            let block = me.take_only_caller(cx.pin()).unwrap();
            let info = MsgInfo(regs.rax.get() & !0xff);
            block.write(Words { info, ..words_in(regs) }, block.sender());
            me.serve(block);
            check_exit(cx, cx.reply_elsewhere(me.object(), caller));
        }
        _ => return false,
    }
    true
}

/// The message in a system call's registers, as the fastpath leaves it in a message block.
fn words_in(regs: &RegFrame) -> Words {
    let info = MsgInfo(regs.rax.get());
    Words { info, regs: [&regs.rdx, &regs.r8, &regs.r9, &regs.r10].map(std::cell::Cell::get) }
}

/// What the fastpath does with the answer to a fault of the own CPU: whether this was one.
fn answers_fault(cx: Door<'_, Fake>) -> bool {
    let Some(me) = cx.current() else { return false };
    let regs = &me.regs;
    let Some(caller) = me.caller(cx.pin()).filter(|_| regs.rax.get() as u32 == Op::ReplyRecv as u32) else {
        return false;
    };
    let fault = cx.open(caller).is_some_and(|hot| hot.has_flag(FLAG_IN_FAULT));
    if !fault || me.has_pending_bits() || !me.callers().is_empty() || !me.time.is_lent_by(caller) {
        return false;
    }
    let block = me.take_caller(cx.pin()).unwrap();
    block.write(words_in(regs), block.sender());
    me.serve(block);
    me.serve_fault();
    cx.answer_fault_here(me.object(), caller);
    true
}

/// Maps or unmaps one page on the fast path, if possible. Returns whether it was.
fn maps_page(cx: Door<'_, Fake>, op: Op) -> bool {
    let Some(me) = cx.current() else { return false };
    let regs = &me.regs;
    if regs.rax.get() != op as u64 || regs.r9.get() != 0 || regs.r10.get() > 1 {
        return false;
    }
    let args = [&regs.rdi, &regs.rsi, &regs.rdx, &regs.r8].map(|register| register.get());
    let process = me.process(cx.pin());
    let done = match op {
        Op::Map => cx.mem().map_one(process, args),
        Op::Unmap => cx.mem().unmap_one(process, args),
        _ => None,
    };
    if done.is_some() {
        write_values(regs, MsgInfo(0), [0; 4]);
    }
    done.is_some()
}

/// Yields on the short way, if possible. Returns whether it was.
fn yields(cx: Door<'_, Fake>) -> bool {
    let Some(me) = cx.current().filter(|me| me.regs.rax.get() == Op::Yield as u64) else { return false };
    let end = cx.on_yield(me.object());
    if matches!(end, ShortEnd::Continues) {
        write_values(&me.regs, MsgInfo(0), [0; 4]);
    }
    !matches!(end, ShortEnd::General)
}

/// The system call that is in the frame of the running task. Returns whether a short way has served
/// it that [`Gate::short`](super::gate::Gate::short) counts.
pub fn serve(cx: Door<'_, Fake>, fast: bool) -> bool {
    let Some(me) = cx.current() else { return false };
    match Op::from_raw(me.regs.rax.get() as u8) {
        Some(_) if fast && yields(cx) => return true,
        Some(op) if fast && (elsewhere(cx) || answers_fault(cx) || maps_page(cx, op)) => {}
        Some(op) => cx.system_call(op),
        None => cx.bad_system_call(),
    }
    false
}
