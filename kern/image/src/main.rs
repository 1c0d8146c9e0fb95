//! The kernel binary: wires the machine (`kern-hal`), the system call entry (`ipc-fast`) and the
//! portable kernel (`kern-core`) together, and starts process 1.
//!
//! The only unsafe code here is in [`boot`]: it turns the remaining memory into the first regions,
//! and marks where a kernel entry begins.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod boot;
#[cfg(feature = "chaos")]
mod chaos;
mod process1;

use abi::{Counter, Op};
use boot::block_of;
use ipc_fast::entry::Table;
use kern_base::cpu::{CpuBlock, CpuEntry};
use kern_base::events::EventPool;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::sched_context::SchedContext;
use kern_base::task::Task;
use kern_core::Cx;
use kern_core::door::entry::{ExitAction, Interrupt, Interrupted};
use kern_core::door::timer::ShortEnd;
use kern_core::ipc::faults::Fault;
use kern_core::rooms::Door;
use kern_hal::boot::{Boot, Kernel as Hooks, give_up};
use kern_hal::cpu::idle::{self, IdleMode};
use kern_hal::cpu::{context, percpu, start, syscall};
use kern_hal::dev::faults;
use kern_hal::mem::kernel;
use kern_hal::pc::Pc;
use kern_hal::trap;
use smp::cpu::CpuId;
use smp::door::Ptr;
use smp::mailbox::Idle;
use smp::quiesce;
use test_abi::trace::Event;

kern_hal::kernel!(Hooks { main, ap_main: run, on_interrupt, on_timer, on_device, on_fault });
ipc_fast::handlers!(
    Table {
        ops: ipc_fast::operations!(system_call, bad_system_call),
        switch,
        call_elsewhere,
        reply_elsewhere,
        answer_fault,
        map: map_page::<{ Op::Map as u8 }>,
        unmap: map_page::<{ Op::Unmap as u8 }>,
        tell_reader,
        yield_next,
    },
    yield_in_grace
);

/// Returns the context of one step of an entry.
#[inline(always)]
fn context(entry: &CpuEntry) -> Door<'_, Pc> {
    Door::of(Cx { k: boot::kernel(entry), cpu: entry.here() })
}

/// Serves the system call with the operation number `OP`.
extern "C" fn system_call<const OP: u8>(block: &'static CpuBlock) {
    let op = const { Op::from_raw(OP).expect("an operation") };
    let entry = boot::entry_of(block);
    // The export of the state is the image's: `kern_core` does not know it.
    #[cfg(feature = "dump")]
    if op == Op::MachineDump {
        return kern_dump::machine_dump::on_system_call(context(&entry));
    }
    context(&entry).system_call(op);
}

/// Refuses a system call whose number has no operation.
extern "C" fn bad_system_call(block: &'static CpuBlock) {
    context(&boot::entry_of(block)).bad_system_call();
}

extern "C" fn call_elsewhere(
    block: &'static CpuBlock,
    me: Ptr<Task>,
    callee: Ptr<Task>,
    tag: u64,
    target: u64,
) -> ! {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    let action = cx.call_elsewhere(me.get(cx.pin()), callee.get(cx.pin()), tag, target);
    exit(&mut entry, action)
}

extern "C" fn reply_elsewhere(block: &'static CpuBlock, me: Ptr<Task>, caller: Ptr<Task>) -> ! {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    let action = cx.reply_elsewhere(me.get(cx.pin()), caller.get(cx.pin()));
    exit(&mut entry, action)
}

extern "C" fn answer_fault(block: &'static CpuBlock, me: Ptr<Task>, faulter: Ptr<Task>) -> ! {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    let action = cx.answer_fault_here(me.get(cx.pin()), faulter.get(cx.pin()));
    exit(&mut entry, action)
}

/// Serves Map or Unmap (`OP`) of one page on the fast path, or else on the general one.
extern "C" fn map_page<const OP: u8>(
    rdi: u64,
    rsi: u64,
    rdx: u64,
    block: &'static CpuBlock,
    r8: u64,
    process: Ptr<Process>,
) -> ! {
    let op = const { Op::from_raw(OP).expect("an operation") };
    let mut entry = boot::entry_of(block);
    let mem = context(&entry).mem();
    let (process, args) = (process.get(mem.pin()), [rdi, rsi, rdx, r8]);
    let done = if op == Op::Map { mem.map_one(process, args) } else { mem.unmap_one(process, args) };
    if done.is_some() {
        boot::done(&entry);
    }
    serve_mapping(&mut entry, op)
}

extern "C" fn tell_reader(block: &'static CpuBlock, me: Ptr<Task>, pool: Ptr<EventPool>) -> ! {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    let me = me.get(cx.pin());
    cx.events().tell_of_event(me, pool.get(cx.pin()));
    if cx.hot.current.is(me) {
        boot::done(&entry);
    }
    leave(&mut entry)
}

/// Serves Yield on the short way, or else on the general one.
extern "C" fn yield_next(block: &'static CpuBlock, me: Ptr<Task>) -> ! {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    match cx.on_yield(me.get(cx.pin())) {
        ShortEnd::Runs(task) => {
            context::load_for(cx.cpu, task);
            boot::resume_loaded(&entry, task)
        }
        ShortEnd::Continues => boot::done(&entry),
        ShortEnd::General => yield_slowly(&mut entry),
    }
}

/// Ends the grace in which a task has yielded, where the fast path has switched tasks.
#[inline(always)]
fn yield_in_grace(block: &'static CpuBlock, old: Ptr<SchedContext>, next: Ptr<SchedContext>) {
    let entry = boot::entry_of(block);
    let cx = context(&entry);
    let [old, next] = [old, next].map(|time| cx.open_time(time.get(cx.pin())));
    if let Some((old, next)) = old.zip(next) {
        cx.yielded_in_grace(old, next);
    }
}

extern "C" fn switch(block: &'static CpuBlock) -> ! {
    let mut entry = boot::entry_of(block);
    if !has_to_settle(&entry)
        && let Some(task) = context::load(entry.here())
    {
        boot::resume_loaded(&entry, task)
    }
    leave_slowly(&mut entry)
}

/// Serves Map or Unmap on the general path.
#[cold]
#[inline(never)]
fn serve_mapping(entry: &mut CpuEntry, op: Op) -> ! {
    serve_whole(entry, op)
}

/// Serves Yield on the general path.
#[cold]
#[inline(never)]
fn yield_slowly(entry: &mut CpuEntry) -> ! {
    serve_whole(entry, Op::Yield)
}

/// Serves on the general path what a short one could not. Inlined, so that the compiler knows which
/// operations `op` may be, and makes no code for the others.
#[inline(always)]
fn serve_whole(entry: &mut CpuEntry, op: Op) -> ! {
    let cx = context(entry);
    let me = cx.current();
    if let Some(me) = me {
        me.regs.rax.set(op as u64);
    }
    cx.system_call(op);
    match me {
        Some(me) if cx.hot.current.is(me.object()) => boot::resume_call(entry, me),
        _ => leave(entry),
    }
}

/// Leaves the kernel as [`leave`] does, out of line: the code without this call needs no registers
/// that a call preserves.
#[cold]
#[inline(never)]
fn leave_slowly(entry: &mut CpuEntry) -> ! {
    leave(entry)
}

/// Returns whether this CPU has grace rounds or mail to handle before user code runs.
#[inline(always)]
fn has_to_settle(entry: &CpuEntry) -> bool {
    let cx = context(entry);
    cx.cpu.grace().is_unsettled() || cx.has_to_attend()
}

/// Ends a kernel entry in which a message went to another CPU: idles, or continues the current
/// task.
#[inline(always)]
fn exit(entry: &mut CpuEntry, action: ExitAction) -> ! {
    if matches!(action, ExitAction::Idle) { idle_now(entry) } else { leave(entry) }
}

/// Idles as [`fn@idle`] does, where there is nothing to do before.
#[inline(always)]
fn idle_now(entry: &mut CpuEntry) -> ! {
    wait_once(entry);
    idle_on(entry)
}

/// Continues the current task of this CPU, whose context is not loaded, or idles until there is
/// one.
#[inline(always)]
fn leave(entry: &mut CpuEntry) -> ! {
    go_to_current(entry);
    idle(entry)
}

/// Continues the current task of this CPU, whose context is not loaded, if there is one. Otherwise
/// returns, with all mail and grace rounds handled.
#[inline(always)]
fn go_to_current(entry: &mut CpuEntry) {
    if has_to_settle(entry) {
        work_off(entry);
    } else if let Some(task) = context::load(entry.here()) {
        boot::resume_loaded(entry, task);
    }
}

/// Idles until there is a task to run.
/// Requires: no mail and no grace round has to be handled.
#[inline(always)]
fn idle(entry: &mut CpuEntry) -> ! {
    idle_once(entry);
    idle_on(entry)
}

/// Continues after idling, when the first event was not a message that let one task run.
#[inline(never)]
fn idle_on(entry: &mut CpuEntry) -> ! {
    loop {
        go_to_current(entry);
        idle_once(entry);
    }
}

/// Does what a CPU does before it idles, and waits once.
#[inline(always)]
fn idle_once(entry: &mut CpuEntry) {
    if entry.here().own().sched.before_idle.get() {
        prepare_to_idle(entry);
    }
    wait_once(entry);
}

/// Waits for one interrupt or message, and handles it. Does not return if it was a message that let
/// one task run.
#[inline(always)]
fn wait_once(entry: &mut CpuEntry) {
    context(entry).time().note_idle();
    // What comes now is an entry of its own.
    context(entry).begin_work();
    let mode = IdleMode::of_number(entry.here().own().sched.waits_by.get());
    // Two calls, so that each has the constant, and no test of it.
    let came = if mode == IdleMode::HALT {
        wait_for_work(entry, mode, Idle::Halt)
    } else {
        wait_for_work(entry, mode, Idle::Poll)
    };
    if let Some(came) = came {
        context(entry).trace().event(|| Event::Woken {});
        quiesce::end_idle(entry);
        take_idle_interrupts(entry, came);
    } else {
        let_interrupts_in(entry);
    }
    if let Some(task) = context(entry).take_mail() {
        context::load_for(entry.here(), task);
        boot::resume_call(entry, task);
    }
}

/// Lets the timer fire for tasks that rest. Prints reports of faults until none is left, mail
/// comes, or the timer is due. Then looks whether a policy is to be told, and whether this CPU is
/// parked.
#[cold]
#[inline(never)]
fn prepare_to_idle(entry: &mut CpuEntry) {
    context(entry).time().end_rest_above();
    let is_due = |entry: &CpuEntry| {
        let cx = context(entry);
        entry.block().mailbox().has_mail() || cx.k.machine.now() >= cx.sched.timer.get()
    };
    while !is_due(entry) {
        if !faults::print_next() {
            return context(entry).time().look_before_idle(idle::mode().number(), IdleMode::HALT.number());
        }
    }
}

/// Handles grace rounds and mail until none is left, and then continues the current task. Returns
/// if there is none. Interrupts are on for a moment between two drains.
#[cold]
#[inline(never)]
fn work_off(entry: &mut CpuEntry) {
    loop {
        let cx = context(entry);
        if cx.cpu.grace().is_unsettled() {
            settle(entry);
        } else if cx.current().is_some() {
            if !cx.attends_to_mail()
                && let Some(task) = context::load(cx.cpu)
            {
                boot::resume_loaded(entry, task);
            }
        } else if cx.sched.more_mail.get() {
            cx.time().end_rest_above();
            let_interrupts_in(entry);
            context(entry).take_mail_left();
        } else {
            return;
        }
    }
}

/// Enables interrupts for a moment between two steps of a CPU that runs no program and has work: it
/// may send itself mail for as long as it likes. What follows is an entry of its own.
#[cold]
#[inline(never)]
fn let_interrupts_in(entry: &mut CpuEntry) {
    let came = idle::pause();
    context(entry).begin_work();
    take_idle_interrupts(entry, came);
}

/// Handles the interrupts that came while this CPU ran no program, except for the mail.
#[inline(always)]
fn take_idle_interrupts(entry: &mut CpuEntry, came: u64) {
    note_woken(entry, came);
    if came & !idle::WOKEN != 0 {
        take_interrupts(entry, came);
    }
}

/// Marks a quiescent point, so that grace rounds advance.
#[cold]
#[inline(never)]
fn settle(entry: &mut CpuEntry) {
    let _ = quiesce::settle(boot::kernel(entry), entry.quiescent());
    context(entry).wake_waiters();
}

/// Idles until an interrupt or mail comes. Returns the interrupts, or `None` if there was
/// mail or a grace round to handle already.
#[inline(always)]
fn wait_for_work(entry: &mut CpuEntry, mode: IdleMode, how: Idle) -> Option<u64> {
    let mailbox = entry.block().mailbox();
    if !quiesce::go_idle(entry, how) {
        return None;
    }
    context(entry).trace().note_waiting(how);
    Some(if mode == IdleMode::POLL {
        idle::poll_until(|| mailbox.has_queued())
    } else if mode == IdleMode::HALT {
        idle::halt()
    } else {
        idle::mwait_until(mailbox.line(), || mailbox.has_queued())
    })
}

/// Notes that other CPUs have woken this one, if that is among the interrupts that came.
#[inline(always)]
fn note_woken(entry: &mut CpuEntry, came: u64) {
    if came & idle::WOKEN != 0 {
        stop_if_asked(context(entry));
        context(entry).count(Counter::Interrupt);
        context(entry).note_interrupt(Interrupt::Mail);
    }
}

/// Handles the interrupts besides wake-ups that came while this CPU ran no program. Does not return
/// if the timer or a device alone has come, and one task runs now.
#[cold]
#[inline(never)]
fn take_interrupts(entry: &mut CpuEntry, came: u64) {
    let cx = context(entry);
    if came == idle::TIMER
        && let ShortEnd::Runs(task) = cx.on_idle_timer()
    {
        context::load_for(cx.cpu, task);
        boot::resume_call(entry, task)
    }
    // One bit alone, and that of a device.
    if came >= 1 << idle::DEVICE_SHIFT
        && came & (came - 1) == 0
        && let ShortEnd::Runs(task) = cx.on_idle_device((came.trailing_zeros() - idle::DEVICE_SHIFT) as usize)
    {
        context::load_for(cx.cpu, task);
        boot::resume_call(entry, task)
    }
    take_several(entry, came);
}

/// Handles the interrupts besides wake-ups on the general way. If a message with pages follows the
/// timer, lets interrupts in once before that: it may be the work of a whole entry. Not again if
/// the timer fires again, as it does while a look is due.
#[cold]
#[inline(never)]
fn take_several(entry: &mut CpuEntry, came: u64) {
    take_each(entry, came);
    if came & idle::TIMER != 0 && context(entry).next_has_pages() {
        let came = idle::pause();
        context(entry).begin_work();
        note_woken(entry, came);
        take_each(entry, came);
    }
}

/// Handles interrupts on the general way, of devices the topmost first, as the APIC expects: they
/// are not acknowledged yet. There are three at most, one of each class of vectors.
fn take_each(entry: &mut CpuEntry, came: u64) {
    for (bit, what) in [(idle::TIMER, Interrupt::Timer), (idle::OTHER, Interrupt::Other)] {
        if came & bit != 0 {
            context(entry).on_idle_interrupt(what);
        }
    }
    let mut devices = came >> idle::DEVICE_SHIFT;
    while let Some(place) = devices.checked_ilog2() {
        devices &= !(1 << place);
        context(entry).take_idle_device(place as usize);
    }
}

fn interrupt_of(vector: u8) -> Interrupt {
    match vector {
        trap::WAKE => Interrupt::Mail,
        _ => Interrupt::Other,
    }
}

/// Ends the run with a snapshot at the beginning of an interrupt, if the `chaos` build was asked
/// for one, and stands still while another CPU takes one. Does nothing in builds that do not export
/// the state.
#[inline(always)]
fn stop_if_asked(_cx: Door<'_, Pc>) {
    #[cfg(all(feature = "chaos", feature = "dump"))]
    chaos::end_if_asked(_cx);
    #[cfg(feature = "dump")]
    kern_dump::machine_dump::stand_still(*_cx);
}

/// Handles an interrupt of user code, but the timer's and devices'.
fn on_interrupt(block: &'static CpuBlock, vector: u8) {
    let mut entry = boot::entry_of(block);
    stop_if_asked(context(&entry));
    serve_interrupt(&mut entry, interrupt_of(vector));
}

/// Serves an interrupt of user code on the general way. Returns if the interrupted program goes on.
#[inline(always)]
fn serve_interrupt(entry: &mut CpuEntry, what: Interrupt) {
    serve_interrupt_of(entry, what, |_, _| ());
}

/// Does what [`serve_interrupt`] does. If it is a device's interrupt, `arrives` tells its driver.
#[inline(always)]
fn serve_interrupt_of(
    entry: &mut CpuEntry,
    what: Interrupt,
    arrives: impl for<'k> FnOnce(Door<'k, Pc>, u64),
) {
    let cx = context(entry);
    let rest = match cx.on_interrupt(what, arrives) {
        Interrupted::Message(task) => {
            context::load_for(cx.cpu, task);
            boot::resume_call(entry, task)
        }
        Interrupted::Rest(rest) => rest,
    };
    if cx.cpu.grace().is_unsettled() {
        settle(entry);
    }
    if !context(entry).end_interrupt(rest) {
        leave(entry);
    }
    // The interrupted program continues with all its registers: by IRET.
    boot::left_by_iret(entry);
}

/// Handles the timer's interrupt of user code.
fn on_timer(block: &'static CpuBlock) {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    stop_if_asked(cx);
    match cx.on_timer() {
        ShortEnd::Runs(task) => {
            context::load_for(cx.cpu, task);
            boot::resume_loaded(&entry, task)
        }
        ShortEnd::Continues => boot::left_by_iret(&mut entry),
        ShortEnd::General => serve_timer(&mut entry),
    }
}

/// Handles the interrupt of a device that came to user code.
fn on_device(block: &'static CpuBlock, place: usize) {
    let mut entry = boot::entry_of(block);
    let cx = context(&entry);
    stop_if_asked(cx);
    match cx.on_device(place) {
        ShortEnd::Runs(task) => {
            context::load_for(cx.cpu, task);
            boot::resume_call(&entry, task)
        }
        ShortEnd::Continues => boot::left_by_iret(&mut entry),
        ShortEnd::General => serve_device(&mut entry, place),
    }
}

/// Serves the interrupt of a device on the general way.
#[cold]
#[inline(never)]
fn serve_device(entry: &mut CpuEntry, place: usize) {
    serve_interrupt_of(entry, Interrupt::Device, |cx, began| cx.events().interrupt_came(place, began));
}

/// Serves the timer's interrupt of user code on the general way.
#[cold]
#[inline(never)]
fn serve_timer(entry: &mut CpuEntry) {
    serve_interrupt(entry, Interrupt::Timer);
}

/// Handles a fault of user code: its handler runs next, or its process ends.
fn on_fault(block: &'static CpuBlock, vector: u8, error: u64, address: u64) {
    let mut entry = boot::entry_of(block);
    context(&entry).ipc().on_fault(Fault { vector, error, address });
    leave(&mut entry)
}

fn main(boot: &'static Boot) -> ! {
    let Some(made) = boot::make() else {
        give_up(format_args!("not enough memory for the kernel's own objects"));
    };
    percpu::all().for_each(|cpu| percpu::bind(cpu.id, block_of(cpu.id)));
    syscall::write_slots(block_of, ipc_fast::entry::common_entry());
    if kernel::seal().is_err() {
        give_up(format_args!("no memory for the system call entries"));
    }
    if let Err(why) = process1::start(boot, &made) {
        give_up(format_args!("process 1 can't start: {why}"));
    }
    #[cfg(feature = "chaos")]
    chaos::start();
    start::release();
    run(CpuId::BOOT)
}

/// Runs the tasks of this CPU for ever, and idles when there is none.
fn run(cpu: CpuId) -> ! {
    boot::accept_system_calls(cpu);
    let mut entry = boot::entry_of(block_of(cpu));
    let cx = context(&entry);
    cx.hot.kernel_stack.set(percpu::stack_top(cpu, 0));
    cx.sched.waits_by.set(idle::mode().number());
    cx.time().dispatch();
    leave(&mut entry)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    trap::die_of_panic(info)
}
