//! The context of the task that runs next: address space, vector state, debug registers. The other registers
//! are loaded by the exit code (`trap/entry.s`).
//!
//! # Vector state
//! A task without vector state runs with CR0.TS set: a vector instruction faults. A task with it finds,
//! after an interrupt, what it left; after a system call that let another task run, the initial image:
//! vector state is dead across those. What was live on the CPU was saved when its task was preempted,
//! or is dead.

use kern_base::cpu::{CpuHere, CpuHot};
use kern_base::memory::VSpace;
use kern_base::task::{FLAG_DEBUG, FLAG_VECTOR, FLAGS_SPECIAL, Task, TaskHot};
use smp::cpu::Pin;
use smp::door::Ref;

use super::{debug, percpu, vector};
use crate::mem::tlb;

/// Makes the CPU's address space, vector state and debug registers those of its current task; `false` where it has none.
///
/// Called when the current task is not the one whose context the CPU had on entry.
#[inline(always)]
pub fn load(cpu: CpuHere<'_>) -> bool {
    let Some(task) = cpu.own().hot.current.get(cpu.pin()) else { return false };
    load_for(cpu, task, task.get().hot.here(cpu.pin()));
    true
}

/// The same for the current task, opened.
#[inline(always)]
pub fn load_for(cpu: CpuHere<'_>, task: Ref<'_, Task>, task_hot: &TaskHot) {
    let (pin, hot) = (cpu.pin(), &cpu.own().hot);
    enter_space(cpu, task_hot);
    let wanted = (task_hot.state.get() >> 8) as u8 & FLAGS_SPECIAL;
    if wanted | hot.special_on.get() != 0 {
        enter_special(pin, hot, wanted, task, task_hot);
    }
}

#[inline(always)]
fn enter_space(cpu: CpuHere<'_>, task: &TaskHot) {
    let pin = cpu.pin();
    let Some(process) = task.process.get(pin) else { return };
    let Some(vspace) = process.get().vspace.get(pin) else { return };
    // SAFETY: each CPU writes its own alone.
    if unsafe { cpu.vspace.is_own(vspace) } {
        return;
    }
    // Shown before the switch, so that whoever changes its tables knows that this CPU may hold
    // translations.
    cpu.vspace.set(Some(vspace));
    let cr3 = vspace.get().cr3();
    // SAFETY: the tables of a live VSpace share the kernel's half; a dying one is left by every CPU
    // before its memory is used again.
    unsafe { tlb::switch_to(cr3) };
    if cr3 & tlb::NO_FLUSH != 0 {
        forget_changed(pin, vspace.get());
    }
}

/// Translations of the space just entered were kept: if it changed since it last ran here, they go.
/// Checked after CR3 is loaded, so whoever changes it later finds it shown here.
#[cold]
fn forget_changed(pin: Pin<'_>, vspace: &VSpace) {
    if vspace.has_changed(pin) {
        tlb::flush_current();
    }
}

/// Vector state and debug registers, of which either this task or the last one has some.
#[inline(never)]
fn enter_special(pin: Pin<'_>, hot: &CpuHot, wanted: u8, task: Ref<'_, Task>, task_hot: &TaskHot) {
    let on = hot.special_on.replace(wanted);
    if (wanted | on) & FLAG_VECTOR != 0 {
        enter_vector(pin, on & FLAG_VECTOR != 0, wanted & FLAG_VECTOR != 0, task, task_hot);
    }
    if wanted & FLAG_DEBUG != 0 {
        debug::load(&task_hot.debug);
    } else if on & FLAG_DEBUG != 0 {
        debug::off();
    }
}

fn enter_vector(pin: Pin<'_>, is_on: bool, wanted: bool, task: Ref<'_, Task>, task_hot: &TaskHot) {
    if wanted != is_on {
        if wanted { vector::clear_ts() } else { vector::set_ts() }
    }
    if !wanted {
        return;
    }
    if task_hot.regs.full.get() != 0 {
        // SAFETY: TS is clear; the area was initialised when the task was configured and written by
        // `save` since.
        unsafe { vector::restore(task.get().vector(pin).as_ptr()) }
    } else {
        let Some(cpu) = percpu::this() else { panic!("not on a kernel stack") };
        // SAFETY: TS is clear; what is live belongs to a task that has it saved or dead.
        unsafe { vector::reset(cpu.features) }
    }
}
