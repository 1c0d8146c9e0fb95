//! The context of the task that runs next: address space and vector state. The registers themselves
//! are loaded by the exit code (`trap/entry.s`).
//!
//! # Vector state
//! A task without vector state runs with CR0.TS set: a vector instruction faults. A task with it finds,
//! after an interrupt, what it left; after a system call that let another task run, the initial image:
//! vector state is dead across those. What was live on the CPU was saved when its task was preempted,
//! or is dead.

use core::sync::atomic::Ordering;

use kern_base::cpu::{CpuBlock, CpuHot};
use kern_base::task::{FLAG_VECTOR, Task, TaskHot};
use smp::cpu::Pin;
use smp::door::Ref;

use super::percpu::CpuLocal;
use super::vector;
use crate::mem::tlb;

/// Makes the CPU's address space and vector state those of its current task; `false` where it has none.
///
/// Called when the current task is not the one whose context the CPU had on entry.
pub fn load(pin: Pin<'_>, cpu: &CpuLocal, block: &CpuBlock) -> bool {
    let hot = block.hot.here(pin);
    let Some(task) = hot.current.get(pin) else { return false };
    let task_hot = task.get().hot.here(pin);
    enter_space(pin, hot, task_hot);
    enter_vector(pin, cpu, hot, task, task_hot);
    true
}

fn enter_space(pin: Pin<'_>, hot: &CpuHot, task: &TaskHot) {
    let Some(process) = task.process.get(pin) else { return };
    let Some(vspace) = process.get().vspace.get(pin) else { return };
    if hot.vspace.is(vspace) {
        return;
    }
    // Published before the switch, so that whoever changes its tables knows that this CPU may hold
    // translations.
    hot.vspace.set(Some(vspace));
    // SAFETY: the tables of a live VSpace share the kernel's half; a dying one is left by every CPU
    // before its memory is used again.
    unsafe { tlb::switch_to(vspace.get().cr3()) };
    if vspace.get().cr3() & tlb::NO_FLUSH == 0 {
        return;
    }
    // Translations were kept: if the space changed since it last ran here, they go. Rechecked after CR3 is
    // loaded, so whoever changes it later finds it published here.
    let Some(seen) = vspace.get().seen.get(pin, pin.cpu().index()) else { return };
    let generation = vspace.get().generation.load(Ordering::Acquire);
    if seen.get().load(Ordering::Relaxed) != generation {
        seen.get().store(generation, Ordering::Relaxed);
        tlb::flush_current();
    }
}

fn enter_vector(pin: Pin<'_>, cpu: &CpuLocal, hot: &CpuHot, task: Ref<'_, Task>, task_hot: &TaskHot) {
    let wanted = task_hot.state.get() & (u64::from(FLAG_VECTOR) << 8) != 0;
    if wanted != hot.vector_on.get() {
        if wanted {
            vector::clear_ts()
        } else {
            vector::set_ts()
        }
        hot.vector_on.set(wanted);
    }
    if !wanted {
        return;
    }
    if task_hot.regs.full.get() != 0 {
        // SAFETY: TS is clear; the area was initialised when the task was configured and written by
        // `save` since.
        unsafe { vector::restore(task.get().vector(pin).as_ptr()) }
    } else {
        // SAFETY: TS is clear; what is live belongs to a task that has it saved or dead.
        unsafe { vector::reset(cpu.features) }
    }
}
