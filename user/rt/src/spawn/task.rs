//! Making a task: its object, CPU time, stack, registers.

use abi::{Error, PAGE_SIZE, RegIndex, TaskId, cpu_features};

use super::{Nursery, own};
use crate::cap::{Access, CNode, Frame, Handle, Process, SchedContext, SchedControl, Task, VSpace};
use crate::invoke::{copy, start_regs};
use crate::layout::{TASKS_MAX, slot, stack_span, task_slot, utcb_va};
use crate::stack::Span;
use crate::{Refusal, Result, arch, boot, utcb};

/// What a task runs, other than the program's main function.
pub type Entry = extern "C" fn(u64) -> !;

/// What a task runs.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// The program's main function.
    Main,
    /// A function of this image, in a process of the same image.
    Function(Entry),
}

/// A task to be made.
#[derive(Clone, Copy, Debug)]
pub struct TaskSpec {
    /// Its place in the address space: 0 for a process's first task, a different number for each
    /// other task.
    pub index: u32,
    pub cpu: u32,
    pub priority: u8,
    pub stack_pages: u32,
    pub run: Run,
    pub argument: u64,
}

/// Where a task is to live.
#[derive(Clone, Copy, Debug)]
pub struct Home<'a> {
    pub process: &'a Process,
    pub vspace: &'a VSpace,
    /// CSpace of the process, where it is not the caller's own.
    pub cnode: Option<&'a CNode>,
    /// By whose authority the task gets its CPU and its CPU time, if not by the caller's own.
    pub control: Option<&'a SchedControl>,
    /// Address of the image's first instruction.
    pub start: u64,
}

impl Home<'_> {
    /// Runs `then` with the caller's own process as home.
    pub fn own<R>(then: impl FnOnce(&Home<'_>) -> R) -> R {
        let (process, vspace, start) = (own::process(), own::vspace(), arch::start_address());
        then(&Home { process: &process, vspace: &vspace, cnode: None, control: None, start })
    }
}

/// A task that was made. It is suspended until [`Task::resume`].
#[derive(Debug)]
pub struct Spawned {
    pub task: Task,
    pub sched: SchedContext,
    pub id: TaskId,
}

/// Returns the slice that every new task gets: a hundredth of a second.
fn slice() -> u64 {
    (boot::facts().tsc_hz / 100).max(1)
}

/// Makes a task with CPU time of its own, and a stack of `stack_pages` pages, which does not grow,
/// at the place of its index.
pub fn task(nursery: &mut Nursery, home: &Home<'_>, spec: &TaskSpec) -> Result<Spawned> {
    let bytes = u64::from(spec.stack_pages) * PAGE_SIZE;
    let Span { low, top } = stack_span(spec.index);
    if spec.index >= TASKS_MAX || bytes == 0 || bytes > top - low {
        return Err(Refusal::local(Error::BadArgument, u64::from(spec.index)));
    }
    task_on(nursery, home, spec, Span { low: top - bytes, top })
}

/// Makes a task with a stack that a [keeper](crate::stack::Keeper) of the process serves. Maps the
/// uppermost `stack_pages` pages of the stack: none, if the keeper gave it.
pub fn task_on(nursery: &mut Nursery, home: &Home<'_>, spec: &TaskSpec, stack: Span) -> Result<Spawned> {
    if spec.index >= TASKS_MAX || u64::from(spec.stack_pages) * PAGE_SIZE > stack.top - stack.low {
        return Err(Refusal::local(Error::BadArgument, u64::from(spec.index)));
    }
    let task: Task = nursery.make(0)?;
    let sched: SchedContext = nursery.make(0)?;
    let own_control = own::sched_control();
    let control = home.control.unwrap_or(&own_control);
    let id = task.configure_by(control, home.process, utcb_va(spec.index), spec.cpu)?;
    crate::debug!("makes task {} on cpu{}, priority {}", id.raw(), spec.cpu, spec.priority);
    if boot::has(cpu_features::TRACE) {
        // A reader of the trace sees only ids.
        crate::report!("spawned task={:#x} by={:#x}", id.raw(), utcb::current().task_id().raw());
    }
    sched.configure_by(control, spec.priority, slice())?;
    sched.bind(&task)?;
    map_stack(nursery, home.vspace, spec.stack_pages, stack.top)?;
    let own_slot = match home.cnode {
        None => task.cap(),
        Some(cnode) => give_own(&task, &sched, cnode, spec.index)?,
    };
    let mut regs = start_regs(home.start, stack.top);
    regs[RegIndex::Rdi as usize] = utcb_va(spec.index);
    regs[RegIndex::Rsi as usize] = match spec.run {
        Run::Main => 0,
        Run::Function(entry) => entry as *const () as u64,
    };
    regs[RegIndex::Rdx as usize] = spec.argument;
    regs[RegIndex::Rcx as usize] = u64::from(own_slot.0);
    regs[RegIndex::R8 as usize] = stack.low;
    regs[RegIndex::FsBase as usize] = utcb_va(spec.index);
    task.write_regs(&regs)?;
    Ok(Spawned { task, sched, id })
}

/// Ends a task and deletes its capabilities. When this returns, the task runs no more.
///
/// Taking memory back that a task of the own process stands on, while it may still run, would end
/// the whole process by a fault: end such tasks first.
pub fn end(task: &Task) -> Result<()> {
    // The revoke takes its exposures, and from then on others may take its locks.
    match task.kill_and_wait() {
        // It is dead, or was never configured, or its capability is gone.
        Ok(()) | Err(Refusal { error: Error::BadState | Error::NoCapability, .. }) => {}
        Err(refusal) => return Err(refusal),
    }
    own::cnode().revoke(task.cap())?;
    own::cnode().delete(task.cap())
}

fn map_stack(nursery: &mut Nursery, vspace: &VSpace, pages: u32, top: u64) -> Result<()> {
    if pages == 0 {
        return Ok(());
    }
    let bottom = top - u64::from(pages) * PAGE_SIZE;
    let frames = nursery.make_pages(pages)?;
    for (page, frame) in (0u64..).zip(frames.iter::<Frame>()) {
        vspace.map(&frame, bottom + page * PAGE_SIZE, Access::Write)?;
    }
    Ok(())
}

/// Gives a task of another process a capability of itself, so that it can end itself. Returns its
/// slot there.
fn give_own(task: &Task, sched: &SchedContext, cnode: &CNode, index: u32) -> Result<abi::Cap> {
    if index > 0 {
        let slot = task_slot(index);
        copy(task, cnode.slot(slot), abi::Rights::ALL, 0)?;
        return Ok(slot);
    }
    copy(task, cnode.slot(slot::TASK), abi::Rights::ALL, 0)?;
    copy(sched, cnode.slot(slot::SCHED), abi::Rights::ALL, 0)?;
    Ok(slot::TASK)
}
