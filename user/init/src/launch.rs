//! Starts a program: makes its process, gives it memory and a membership in the supervisor's group.

use core::fmt;

use abi::{Cap, Rights, cpu_features};
use user_rt::arch::memory;
use user_rt::cap::{Group, Handle, SchedControl, Untyped};
use user_rt::elf::{Image, ImageError};
use user_rt::invoke::transfer;
use user_rt::layout::{PROGRAM_SLOTS, slot};
use user_rt::spawn::{
    Child, Entry, Home, Nursery, ProcessSpec, Run, SpawnError, StartIn, TaskSpec, own, process, task,
};
use user_rt::supervisor::{PARENT, say_died};
use user_rt::views::{Frames, NURSERY_LOG2, NURSERY_SLOTS, Views};
use user_rt::{boot, info, report};

use user_rt::archive::Program;

use crate::programs;
use crate::security::Policy;

/// Exposures of the supervisor's group: where process 1 listens is [`PARENT`], and here is the
/// program's first task.
const CHILD: u32 = 1;

/// Priorities: process 1 above everything that a program may start, so that it can end the program.
const INIT_PRIORITY: u8 = 250;
const PROGRAM_CEILING: u8 = INIT_PRIORITY - 1;
const PROGRAM_PRIORITY: u8 = 200;

/// What a program gets.
const TASKS: u32 = 2048;
const TABLES: u32 = 128;
/// An Untyped smaller than this (as logarithm) cannot hold a program's process.
const BUILD_LOG2: u8 = 23;

const STACK_PAGES: u32 = 14;

/// Why a program cannot be started.
#[derive(Clone, Copy, Debug)]
pub enum LaunchError {
    Image(ImageError),
    NoMemory,
    Spawn(SpawnError),
    /// The step, and why the kernel refused it.
    Step(&'static str, user_rt::Refusal),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Image(error) => error.fmt(f),
            LaunchError::NoMemory => f.write_str("the machine has too little memory for a program"),
            LaunchError::Spawn(error) => error.fmt(f),
            LaunchError::Step(step, refusal) => write!(f, "{step}: {refusal}"),
        }
    }
}

impl core::error::Error for LaunchError {}

/// Names the step at which the kernel refused an operation.
fn at<T>(step: &'static str, result: user_rt::Result<T>) -> Result<T, LaunchError> {
    result.map_err(|refusal| LaunchError::Step(step, refusal))
}

/// Returns the nursery in which process 1 builds, and the Untyped for the program. Of two Untypeds
/// of some size the program gets the larger one whole; a single one is halved.
fn share_memory() -> Result<(Nursery, Untyped, u8), LaunchError> {
    let facts = boot::facts();
    let sizes = &facts.untyped_log2[..(facts.untyped_count as usize).min(abi::BOOT_UNTYPED_MAX)];
    match *sizes {
        [largest, second, ..] if second >= BUILD_LOG2 => {
            Ok((Nursery::of_program(1), Untyped::at(slot::UNTYPED), largest))
        }
        [largest, ..] if largest > BUILD_LOG2 => {
            let mut nursery = Nursery::of_program(0);
            let half = largest - 1;
            let share = at("halving the memory", nursery.make::<Untyped>(u64::from(half)))?;
            Ok((nursery, share, half))
        }
        _ => Err(LaunchError::NoMemory),
    }
}

/// A program that runs, and the views that are kept for it.
pub struct Launched {
    pub child: Child,
    pub views: Views<Frames>,
}

/// Makes the program's process and starts its first task.
pub fn launch(program: &Program<'_>, policy: &Policy<'_>) -> Result<Launched, LaunchError> {
    let description = programs::of(program.name());
    let mut image = Image::parse(program.file).map_err(LaunchError::Image)?;
    if description.starts_others {
        image.file = memory::archive();
    }
    let (mut nursery, share, share_log2) = share_memory()?;
    at("setting rules and starting the audit", policy.begin(&mut nursery, boot::facts().cpus))?;
    at("setting the own priority", set_own_priority())?;
    let spec = ProcessSpec {
        image: &image,
        vector: false,
        tasks: TASKS,
        slots: PROGRAM_SLOTS,
        tables: TABLES,
        with_file: true,
        untyped_log2: &[share_log2],
        groups: StartIn::Makers,
    };
    let child = process(&mut nursery, &spec).map_err(LaunchError::Spawn)?;
    at("setting its label", policy.confine(&child.process, &share))?;
    at("giving it the machine", child.give_machine(description.machine, program.channel))?;
    at("giving it authority over CPU time", give_authority(&mut nursery, &child))?;
    at("giving it memory", transfer(share, child.cnode.slot(slot::UNTYPED)))?;
    let frames = at("memory for views", nursery.split(NURSERY_LOG2, NURSERY_SLOTS))?;
    start(&mut nursery, &child, program)?;
    Ok(Launched { child, views: Views::new(Frames::new(frames)) })
}

/// Lets a program use all CPUs, below process 1.
fn give_authority(nursery: &mut Nursery, child: &Child) -> user_rt::Result<()> {
    let control: SchedControl = nursery.make(0)?;
    for first in (0..boot::facts().cpus as u32).step_by(64) {
        own::sched_control().allow(&control, PROGRAM_CEILING, first, u64::MAX)?;
    }
    child.give_sched_control(&control)
}

fn start(nursery: &mut Nursery, child: &Child, program: &Program<'_>) -> Result<(), LaunchError> {
    let group: Group = at("making its group", nursery.make_group(4, 4))?;
    at("listening for it", group.expose_task(PARENT, &own::task()))?;
    let custom = u16::from(program.channel);
    at("letting it report", child.join(&group, slot::SUPERVISOR, Rights::SEND, custom))?;
    let first = TaskSpec {
        index: 0,
        cpu: 0,
        priority: PROGRAM_PRIORITY,
        stack_pages: STACK_PAGES,
        run: Run::Main,
        argument: 0,
    };
    let first = at("making its first task", task(nursery, &child.home(), &first))?;
    info!("{} begins: task {}, log channel {}", program.name(), first.id.raw(), program.channel);
    if boot::has(cpu_features::TRACE) {
        report!("program task={:#x} name={}", first.id.raw(), program.name());
    }
    at("exposing it", group.expose_task(CHILD, &first.task))?;
    let watcher = TaskSpec {
        index: 1,
        cpu: 0,
        priority: INIT_PRIORITY,
        stack_pages: 4,
        run: Run::Function(watch as Entry),
        argument: u64::from(group.cap().0),
    };
    let watcher = at("making its watcher", Home::own(|home| task(nursery, home, &watcher)))?;
    at("starting its watcher", watcher.task.resume())?;
    at("starting it", first.task.resume())
}

fn set_own_priority() -> user_rt::Result<()> {
    let slice = (boot::facts().tsc_hz / 100).max(1);
    user_rt::cap::SchedContext::at(slot::SCHED).configure(INIT_PRIORITY, slice)
}

/// Waits in a call that nobody answers, until the called task is no more; then says so.
extern "C" fn watch(group: u64) -> ! {
    let group = Group::at(Cap(group as u32));
    let end = group.exposure(CHILD).call(&user_rt::ipc::Message::default()).err();
    let told = say_died(group.exposure(PARENT), end);
    panic!("the supervisor went on after its program's end: {told:?}");
}
