//! Starts a process of the system: makes it of its own memory, gives it what its description says,
//! and lets its first task run.

use core::fmt;

use abi::{MachineRights, Rights, cpu_features};
use protocols::capnp;
use protocols::system::{MEMORY_REST, cpus_from, process, text};
use user_rt::cap::{SchedControl, Untyped};
use user_rt::elf::ImageError;
use user_rt::invoke::{Settings, transfer};
use user_rt::layout::slot;
use user_rt::spawn::{
    Child, Home, Nursery, ProcessSpec, Run, SpawnError, Spawned, StartIn, TaskSpec, own, process as make,
    task,
};
use user_rt::{boot, info, report};

use crate::line;
use crate::places::{self, NOTES, State};
use crate::world::{World, now};

/// Why a process cannot be started.
#[derive(Debug)]
pub enum LaunchError {
    /// The description cannot be read.
    Description(capnp::Error),
    /// The boot archive does not have its program.
    NoProgram,
    Image(ImageError),
    NoMemory,
    /// Its pager does not run.
    NoPager,
    /// Its command line is too long.
    Line,
    Spawn(SpawnError),
    /// The step, and why the kernel refused it.
    Step(&'static str, user_rt::Refusal),
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaunchError::Description(error) => write!(f, "its description is damaged: {error}"),
            LaunchError::NoProgram => f.write_str("the boot archive does not have its program"),
            LaunchError::Image(error) => error.fmt(f),
            LaunchError::NoMemory => f.write_str("the machine has too little memory for a program"),
            LaunchError::NoPager => f.write_str("its pager does not run"),
            LaunchError::Line => f.write_str("its command line and the machine's are too long together"),
            LaunchError::Spawn(error) => error.fmt(f),
            LaunchError::Step(step, refusal) => write!(f, "{step}: {refusal}"),
        }
    }
}

impl core::error::Error for LaunchError {}

impl From<capnp::Error> for LaunchError {
    fn from(error: capnp::Error) -> LaunchError {
        LaunchError::Description(error)
    }
}

/// Names the step at which the kernel refused an operation.
pub fn at<T>(step: &'static str, result: user_rt::Result<T>) -> Result<T, LaunchError> {
    result.map_err(|refusal| LaunchError::Step(step, refusal))
}

impl World<'_> {
    /// Starts a process that does not run. After a failure nothing is left of it.
    pub fn start(&mut self, number: usize) -> Result<(), LaunchError> {
        let place = &mut self.places[number];
        (place.is_clear, place.notes) = (false, NOTES);
        place.starts = place.starts.wrapping_add(1);
        let launched = self.launch(number);
        let place = &mut self.places[number];
        match launched {
            Ok((child, first)) => {
                place.state = State::Runs(child, first);
                place.heard = now();
                self.tell_policies(number);
                Ok(())
            }
            Err(error) => {
                place.clear();
                Err(error)
            }
        }
    }

    fn launch(&mut self, number: usize) -> Result<(Child, Spawned), LaunchError> {
        let is = self.places[number].is;
        let program = self.places[number].program;
        let image = places::image(is, &program).map_err(LaunchError::Image)?;
        let line = line::of(boot::command_line(), text(is.get_options())).ok_or(LaunchError::Line)?;
        let share = self.share(number)?;
        let sizes = share.as_ref().map(|(_, log2)| *log2);
        let spec = ProcessSpec {
            image: &image,
            vector: is.get_vector(),
            tasks: is.get_tasks(),
            slots: is.get_slots(),
            tables: places::tables(is),
            with_file: true,
            untyped_log2: sizes.as_slice(),
            groups: StartIn::None,
            line: Some(&line),
        };
        let building = &mut self.places[number].building;
        let child = make(building, &spec).map_err(LaunchError::Spawn)?;
        at(
            "setting its label",
            self.policy.confine(is.get_label(), &child.process, share.as_ref().map(|(memory, _)| memory)),
        )?;
        let rights = MachineRights::from(Rights(is.get_machine()));
        at("giving it the machine", child.give_machine(rights, program.channel))?;
        let control = authority(building, is, 0)?;
        let theirs = authority(building, is, room_of(is))?;
        at("giving it authority over CPU time", child.give_sched_control(&theirs))?;
        if let Some((memory, _)) = share {
            at("giving it memory", transfer(memory, child.cnode.slot(slot::UNTYPED)))?;
        }
        self.give_pager(number, &child)?;
        let first = self.begin(number, &child, &control)?;
        Ok((child, first))
    }

    /// Returns a process's own memory, and its size as a logarithm, if it has any.
    fn share(&mut self, number: usize) -> Result<Option<(Untyped, u8)>, LaunchError> {
        let place = &mut self.places[number];
        if place.is.get_memory() == MEMORY_REST {
            return self.memory.take_rest().map(Some).ok_or(LaunchError::NoMemory);
        }
        let Some(log2) = places::memory_log2(place.is) else { return Ok(None) };
        Ok(Some((at("making its memory", place.building.make(log2.into()))?, log2)))
    }

    /// Makes a process's first task, makes it known to the process's clients and to its parent,
    /// and lets it run.
    fn begin(
        &mut self,
        number: usize,
        child: &Child,
        control: &SchedControl,
    ) -> Result<Spawned, LaunchError> {
        let place = &mut self.places[number];
        let is = place.is;
        // Names do not fit in registers.
        let rights = Rights::SEND | Rights::STRING;
        let joined = child.join(&self.group, slot::SUPERVISOR, rights, place.custom());
        at("letting it call its parent", joined)?;
        let first = TaskSpec {
            index: 0,
            cpu: is.get_cpu().into(),
            priority: is.get_priority(),
            stack_pages: is.get_stack_pages().into(),
            run: Run::Main,
            argument: 0,
        };
        // Its time may be used on its CPUs alone, also by servers that it calls.
        let home = Home { control: Some(control), ..child.home() };
        let first = at("making its first task", task(&mut place.building, &home, &first))?;
        let set = first.sched.configure_all(control, None, settings(is));
        at("setting its CPU time", set)?;
        info!("{} begins: task {}, log channel {}", place.name(), first.id.raw(), place.program.channel);
        if boot::has(cpu_features::TRACE) {
            report!("program task={:#x} name={}", first.id.raw(), place.program.name());
        }
        for serves in is.get_serves()? {
            let group = &self.groups[usize::from(serves.get_group())];
            at("exposing it", group.expose_task(serves.get_exposure().into(), &first.task))?;
        }
        at("starting it", first.task.resume())?;
        Ok(first)
    }
}

/// Makes a SchedControl for the priorities and CPUs that a description says, with so much room for
/// budgets; 0 is no limit.
fn authority(
    building: &mut Nursery,
    is: process::Reader<'_>,
    room: u32,
) -> Result<SchedControl, LaunchError> {
    const STEP: &str = "making authority over CPU time";
    let control: SchedControl = at(STEP, building.make(0))?;
    let cpus = is.get_cpus()?;
    for first in (0..boot::facts().cpus as u32).step_by(u64::BITS as usize) {
        let bits = cpus_from(cpus, first);
        if bits != 0 {
            let (ceiling, room) = (is.get_ceiling(), room.into());
            at(STEP, own::sched_control().allow_within(&control, ceiling, first, bits, room))?;
        }
    }
    Ok(control)
}

/// Returns a process's room for budgets. One with a budget has little if its description says
/// nothing of a room: with none at all it could set time without a budget.
fn room_of(is: process::Reader<'_>) -> u32 {
    if is.get_budget() == 0 { is.get_room() } else { is.get_room().max(1) }
}

/// Returns the CPU time of a process's first task.
fn settings(is: process::Reader<'_>) -> Settings {
    Settings {
        priority: is.get_priority(),
        slice: boot::ticks(is.get_slice()).max(1),
        budget: boot::ticks(is.get_budget()),
        period: boot::ticks(is.get_period()),
    }
}
