//! The context of the task that runs next: address space, segment registers, vector state, debug
//! registers, branch predictors. The other registers are loaded by the exit code (`trap/entry.s`).
//!
//! # Segment registers
//! The selectors in DS, ES, FS and GS are not part of a task's state. They stay unchanged within an
//! address space, and are 0 after a switch to another one. So no process can read the selectors of
//! another process. The bases of FS and GS, which loading a selector changes, are loaded afterwards
//! by the exit code.
//!
//! # Vector state
//! A task without vector state runs with CR0.TS set: a vector instruction faults. The registers are
//! reset before that, so that they reveal nothing about the last task. After an interrupt a task
//! with vector state finds its own values. After a system call that let another task run it finds
//! the initial image: vector state is dead across such calls. The CPU's live state was saved when
//! its task was preempted, or is dead.

use core::arch::asm;

use abi::Counter;
use kern_base::cpu::CpuHere;
use kern_base::memory::VSpace;
use kern_base::task::{FLAG_DEBUG, FLAG_VECTOR, FLAGS_ON, LABEL_MASK, OpenTask, SPECIAL};
use smp::cpu::Pin;
use smp::door::Ref;

use super::{debug, mitigations, vector};
use crate::mem::tlb;

/// Makes the CPU's address space, segment registers, vector state and debug registers those of its
/// current task, and flushes the branch predictors if tasks with another security label trained
/// them. Returns the task; `None` where the CPU has none.
///
/// Called when the current task is not the one whose context the CPU had on entry.
#[inline(always)]
pub fn load<'k>(cpu: CpuHere<'k>) -> Option<OpenTask<'k>> {
    let task = OpenTask::open(cpu.own().hot.current.get(cpu.pin())?, cpu.pin())?;
    load_for(cpu, task);
    Some(task)
}

/// Loads the address space of the task that runs next and, where they differ from what is loaded,
/// its label, vector state and debug registers.
#[inline(always)]
pub fn load_for(cpu: CpuHere<'_>, task: OpenTask<'_>) {
    let pin = cpu.pin();
    if let Some(process) = task.process_if_any(pin)
        && let Some(vspace) = process.get().vspace.get(pin)
        // SAFETY: each CPU writes its own alone.
        && !unsafe { cpu.vspace.is_own(vspace) }
    {
        enter_space(cpu, vspace);
    }
    let wanted = task.word() as u32 & SPECIAL;
    if wanted != cpu.own().hot.special_on.get() {
        enter_special(cpu, wanted, task);
    }
}

/// Changes to another address space.
#[inline(always)]
fn enter_space(cpu: CpuHere<'_>, vspace: Ref<'_, VSpace>) {
    // Shown before the switch, so that a CPU that changes its tables knows that this CPU may hold
    // translations.
    cpu.vspace.set(Some(vspace));
    let cr3 = vspace.get().cr3();
    // SAFETY: the tables of a live VSpace share the kernel's half; a dying one is left by every CPU
    // before its memory is used again.
    unsafe { tlb::switch_to(cr3) };
    clear_selectors();
    if cr3 & tlb::NO_FLUSH != 0 {
        forget_changed(cpu.pin(), vspace.get());
    }
}

/// Makes DS, ES, FS and GS null, if they are not. Reading them costs a fraction of loading one, so
/// another function loads them.
#[inline(always)]
fn clear_selectors() {
    // SAFETY: 64-bit code needs no data segment, and the kernel uses neither FS nor GS; the exit
    // code loads their bases before user code runs.
    unsafe {
        asm!(
            "mov {all:e}, ds",
            "mov {one:e}, es", "or {all:e}, {one:e}",
            "mov {one:e}, fs", "or {all:e}, {one:e}",
            "mov {one:e}, gs", "or {all:e}, {one:e}",
            "jnz 7f",
            "6:",
            ".pushsection .text.unlikely.selectors,\"ax\",@progbits",
            "7: xor {all:e}, {all:e}",
            "mov ds, {all:e}", "mov es, {all:e}", "mov fs, {all:e}", "mov gs, {all:e}",
            "jmp 6b",
            ".popsection",
            all = out(reg) _, one = out(reg) _, options(nomem, nostack)
        );
    }
}

/// Flushes the translations that this CPU has kept of the space that it just entered, if the space
/// has changed since. Called after CR3 is loaded, so a CPU that changes the space later finds it
/// loaded here.
#[cold]
fn forget_changed(pin: Pin<'_>, vspace: &VSpace) {
    if vspace.has_changed(pin) {
        tlb::flush_current();
    }
}

/// Loads vector state and debug registers of a task that is about to run, and flushes the branch
/// predictors if its security label is not the last task's. `wanted` are the label and the flags of
/// what it has. Called only if the two tasks differ in these.
#[inline(never)]
fn enter_special(cpu: CpuHere<'_>, wanted: u32, task: OpenTask<'_>) {
    let flags = wanted & !LABEL_MASK;
    let on = cpu.own().hot.special_on.replace(if flags == 0 { wanted } else { wanted | FLAGS_ON });
    if (wanted ^ on) & LABEL_MASK != 0 {
        cpu.counters[Counter::LabelSwitch as usize].bump();
        mitigations::flush_predictors();
    }
    let (wanted, on) = ((wanted >> 8) as u8, (on >> 8) as u8);
    if (wanted | on) & FLAG_VECTOR != 0 {
        enter_vector(cpu.pin(), on & FLAG_VECTOR != 0, wanted & FLAG_VECTOR != 0, task);
    }
    if wanted & FLAG_DEBUG != 0 {
        debug::load(task.debug());
    } else if on & FLAG_DEBUG != 0 {
        debug::off();
    }
}

/// Requires: this task or the last one has vector state.
///
/// The registers are reset on the way in, too, though they were on the way out: QEMU executes
/// XRSTOR whatever CR0.TS says.
fn enter_vector(pin: Pin<'_>, is_on: bool, wanted: bool, task: OpenTask<'_>) {
    if !is_on {
        vector::clear_ts();
    }
    if wanted && task.regs.full.get() != 0 {
        // SAFETY: TS is clear; the area was initialised when the task was configured and written by
        // `save` since.
        unsafe { vector::restore(task.get().vector(pin).as_ptr()) }
        return;
    }
    // SAFETY: TS is clear; what is live belongs to a task that has it saved or dead.
    unsafe { vector::reset() }
    // Only now: XRSTOR faults while TS is set. Some CPUs let code that must fault on a vector
    // register compute with it (LazyFP), and XGETBV(1) needs no vector instruction: both find the
    // initial image.
    if !wanted {
        vector::set_ts();
    }
}
