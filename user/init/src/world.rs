//! The system that runs: its processes and groups, and what process 1 needs to look after them.

use core::fmt;

use abi::Cap;
use heapless::Vec;
use protocols::system::{GROUPS_MAX, MEMORY_REST, PRIORITY_MAX, PROCESSES_MAX, system, text};
use user_rt::archive::Archive;
use user_rt::cap::{CNode, Group, Handle, SchedContext};
use user_rt::layout::slot;
use user_rt::log::Shown;
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, Spawned, own};
use user_rt::supervisor::PARENT;
use user_rt::views::{Frames, NURSERY_LOG2, NURSERY_SLOTS, Views};
use user_rt::{boot, report, warn};

use crate::charges::Pager;
use crate::devices::{self, Found};
use crate::front::Front;
use crate::launch::{LaunchError, at};
use crate::memory::Memory;
use crate::pace::Pace;
use crate::pci::Bus;
use crate::places::{self, NOTES, Place, SLOTS, State, building_log2};
use crate::restarts::{Fate, Restarts};
use crate::security::Policy;

/// Exposure at which process 1 learns that a process has ended.
const ENDS: u32 = 1;
/// Microseconds after which process 1 tries again to take back the memory of a process.
const CLEAR_AGAIN: u64 = 10_000;
/// The priority of process 1: above everything that a process may have, so that it can end each.
const PRIORITY: u8 = PRIORITY_MAX + 1;

/// Whether a process was ended that gave no sign of life.
pub enum Silent {
    Ended,
    /// The next sign is due at this time, if there is one.
    None(Option<u64>),
}

/// All that process 1 keeps for a system.
pub struct World<'a> {
    pub system: system::Reader<'a>,
    pub policy: &'a Policy<'a>,
    pub memory: Memory,
    /// In which all processes call process 1.
    pub group: Group,
    /// The system's groups, in the order of the description.
    pub groups: Vec<Group, { GROUPS_MAX as usize }>,
    pub places: Vec<Place<'a>, { PROCESSES_MAX as usize }>,
    pub views: Views<Frames>,
    /// What was found of devices.
    pub found: Found,
    /// The bus on which some of them are.
    pub bus: Option<Bus>,
    /// An empty slot, for what is made and then given away.
    pub scratch: Cap,
    /// The first of slots for handlers of devices, one for each of the description.
    pub handlers: Cap,
    /// Receives the calls.
    pub front: Front,
    pub pace: Pace,
    /// Slots that were left for objects of process 1 when the system began.
    pub spare: u32,
    /// The machine's verdict, once it is known.
    pub verdict: Option<bool>,
}

// While it is being made, the stack has it several times.
const _: () = assert!(size_of::<World<'_>>() as u64 <= abi::INIT_STACK_SIZE / 3);

impl<'a> World<'a> {
    /// Makes the groups, and the places of processes. Nothing runs yet.
    pub fn new(
        archive: &Archive<'a>,
        system: system::Reader<'a>,
        policy: &'a Policy<'a>,
    ) -> Result<World<'a>, LaunchError> {
        let processes = system.get_processes()?;
        let with_rest = processes.iter().any(|is| is.get_memory() == MEMORY_REST);
        let memory = at("dividing the memory", Memory::divide(with_rest))?;
        let mut memory = memory.ok_or(LaunchError::NoMemory)?;
        at("setting rules and starting the audit", policy.begin(&mut memory.own, boot::facts().cpus))?;
        at("setting the own priority", set_own_priority())?;
        for rule in system.get_rules()? {
            let (subjects, objects) = (rule.get_subjects().into(), rule.get_objects().into());
            at("setting its rules", own::machine().set_rule(subjects, objects, rule.get_may()))?;
        }
        let (front, listener) = at("making the task for calls", Front::new(&mut memory.own, PRIORITY))?;
        let group = parents(&mut memory.own, processes.len(), &front, &listener);
        let group = at("making the group of all processes", group)?;
        at("starting the task for calls", listener.task.resume())?;
        let frames = at("memory for views", memory.own.split(NURSERY_LOG2, NURSERY_SLOTS))?;
        let mut groups = Vec::new();
        for group in system.get_groups()? {
            let (members, exposures) = (group.get_members()?.len(), group.get_exposes()?.len());
            // Process 1 is a member, too.
            let made = memory.own.make_group(members as u16 + 1, exposures.max(1) as u16);
            _ = groups.push(at("making a group", made)?);
        }
        let views = Views::new(Frames::new(frames));
        let places = Vec::new();
        let scratch = at("a slot", memory.own.take_slot())?;
        let handlers = at("slots of devices", memory.own.take_slots(system.get_devices()?.len().max(1)))?;
        let (found, bus) = devices::find(system.get_devices()?, &mut memory.own)?;
        let mut world = World {
            system,
            policy,
            memory,
            group,
            groups,
            places,
            views,
            found,
            bus,
            scratch,
            handlers,
            front,
            pace: Pace::default(),
            spare: 0,
            verdict: None,
        };
        world.make_places(archive)?;
        world.spare = world.memory.own.slots_left();
        Ok(world)
    }

    fn make_places(&mut self, archive: &Archive<'a>) -> Result<(), LaunchError> {
        let processes = self.system.get_processes()?;
        let slots = more_slots(&mut self.memory.own, processes.len() * SLOTS);
        let mut slots = at("slots for processes", slots)?;
        for is in processes {
            let program = archive.program(text(is.get_program())).ok_or(LaunchError::NoProgram)?;
            let image = places::image(is, &program).map_err(LaunchError::Image)?;
            let log2 = building_log2(is, &image);
            let memory = at("memory for a process", self.memory.take(log2))?;
            let building = Nursery::new(memory, at("slots for a process", slots.split(SLOTS))?);
            let restarts = Restarts::new(places::rule(is));
            let place = Place {
                is,
                program,
                building,
                log2,
                state: State::Ended,
                restarts,
                heard: 0,
                waiting: None,
                bell: None,
                number: self.places.len() as u8,
                starts: 0,
                is_clear: true,
                notes: NOTES,
            };
            _ = self.places.push(place);
        }
        Ok(())
    }

    /// Returns the process with these custom bits, if it runs.
    pub fn number_of(&self, custom: u16) -> Option<usize> {
        let number = usize::from(custom as u8).checked_sub(1)?;
        let place = self.places.get(number)?;
        (place.child().is_some() && place.custom() == custom).then_some(number)
    }

    /// Says something of a process that it brings about, unless that has been said too often.
    pub fn note(&mut self, number: usize, text: fmt::Arguments<'_>) {
        let place = &mut self.places[number];
        let Some(left) = place.notes.checked_sub(1) else { return };
        place.notes = left;
        warn!("{}", Shown(text));
        report!("{text}");
        if left == 0 {
            report!("note init: no more is said of {}", place.name());
        }
    }

    /// Finds processes that have ended by themselves, or that others have ended.
    pub fn find_ended(&mut self) {
        let mut members = 0u128;
        for number in self.group.members().filter_map(|member| self.number_of(member.custom)) {
            members |= 1 << number;
        }
        for number in 0..self.places.len() {
            if self.places[number].child().is_some() && members & 1 << number == 0 {
                report!("died program={}: its process has ended", self.places[number].name());
                self.end(number, true);
            }
        }
    }

    /// Ends a process, takes everything back that it had, and decides its fate.
    pub fn end(&mut self, number: usize, failed: bool) {
        if self.judges(number) {
            // The machine ends, and everything with it.
            self.verdict = Some(self.take_views(number) && !failed);
            return;
        }
        self.clear(number);
        let place = &mut self.places[number];
        place.state = match place.restarts.ended(now(), failed) {
            Fate::Again(time) => State::Waits(time),
            Fate::Ended => State::Ended,
            Fate::GivenUp => {
                report!("note init: {} stays ended", place.name());
                State::Ended
            }
        };
        self.ended(number);
    }

    /// Ends a process, if it runs, and takes back all that it had.
    pub fn clear(&mut self, number: usize) {
        let place = &mut self.places[number];
        let State::Runs(child, _) = core::mem::replace(&mut place.state, State::Ended) else { return };
        // An error says that it is dead already.
        _ = child.process.kill();
        place.bell = None;
        if let Some(waiting) = place.waiting.take() {
            self.front.forget(waiting.saved);
        }
        self.stop_messages(number);
        self.take_views(number);
        self.disconnect_clients(number);
        self.places[number].clear();
    }

    /// Tells those that depend on a process that it has ended, and whether it is started again.
    pub fn ended(&mut self, number: usize) {
        self.end_clients(number);
        self.tell_policies(number);
        self.answer_waiting();
    }

    /// Takes back the views of device memory that a process had: no device works for it any more.
    /// Returns whether none is left.
    fn take_views(&mut self, number: usize) -> bool {
        let name = self.places[number].name();
        match self.views.ended(number as u16, true) {
            Ok(0) => {}
            Ok(taken) => warn!("{} ended with {} views of device memory", name, taken),
            Err(denial) => {
                report!("error init: taking back the views of {name}: {denial}");
                return false;
            }
        }
        true
    }

    /// Ends the connections of all clients of a process: the next one is with its successor, which
    /// knows nothing of them.
    fn disconnect_clients(&self, number: usize) {
        let Ok(serves) = self.places[number].is.get_serves() else { return };
        for group in serves.iter().map(|serves| &self.groups[usize::from(serves.get_group())]) {
            // Process 1 has made the group, and is its first member.
            for member in group.members().filter(|member| member.index != 0) {
                // It may have left meanwhile.
                _ = group.remove(member.index);
            }
        }
    }

    /// Takes back the rest of processes that have ended, and starts those whose time has come.
    /// Returns when it has to be called again at the latest.
    pub fn start_due(&mut self) -> Option<u64> {
        let now = now();
        let mut next = None;
        let mut note = |time: u64| next = Some(next.map_or(time, |next: u64| next.min(time)));
        for number in 0..self.places.len() {
            let place = &mut self.places[number];
            if !place.is_clear && place.child().is_none() && !place.clear() {
                note(now + CLEAR_AGAIN);
                continue;
            }
            if matches!(place.state, State::Waits(time) if time <= now) {
                match self.pager(number) {
                    Pager::Runs => self.start_again(number),
                    // Its pager is before it in the list, and has said when to come again.
                    Pager::Waits => continue,
                    Pager::Ended => self.give_up(number),
                }
            }
            if let State::Waits(time) = self.places[number].state {
                note(time);
            }
        }
        next
    }

    /// Ends processes that should have given a sign of life. Called when no call waits to be
    /// served: a sign may be among these.
    pub fn end_silent(&mut self) -> Silent {
        let now = now();
        let is_late = |place: &Place<'_>| place.next_sign().is_some_and(|due| due < now);
        let Some(number) = self.places.iter().position(is_late) else {
            return Silent::None(self.places.iter().filter_map(Place::next_sign).min());
        };
        report!("died program={}: it gives no sign of life", self.places[number].name());
        self.end(number, true);
        Silent::Ended
    }

    /// Starts a process no more, since its pager has ended for good.
    fn give_up(&mut self, number: usize) {
        report!("note init: {} stays ended: it has no pager", self.places[number].name());
        self.places[number].state = State::Ended;
        self.answer_waiting();
    }

    fn start_again(&mut self, number: usize) {
        match self.start(number) {
            Ok(()) => {
                let place = &self.places[number];
                let again = if place.starts == 1 { "" } else { " again" };
                report!("note init: {} is started{again}", place.name());
                self.answer_waiting();
            }
            Err(error) => {
                report!("error init: starting {}: {error}", self.places[number].name());
                self.end(number, true);
            }
        }
    }

    /// Whether no process runs, and none will.
    pub fn is_over(&self) -> bool {
        self.places.iter().all(|place| matches!(place.state, State::Ended))
    }

    /// Whether this process decides about the machine.
    pub fn judges(&self, number: usize) -> bool {
        usize::from(self.system.get_verdict()) == number
    }
}

/// Returns the time in microseconds.
pub fn now() -> u64 {
    boot::micros(user_rt::arch::now())
}

/// Makes the group in which all processes call process 1, which learns of their ends by it.
fn parents(
    nursery: &mut Nursery,
    processes: u32,
    front: &Front,
    listener: &Spawned,
) -> user_rt::Result<Group> {
    let group = nursery.make_group(processes as u16 + 1, ENDS as u16 + 1)?;
    group.watch(ENDS, &front.bell(), 0)?;
    group.expose_task(PARENT, &listener.task)?;
    Ok(group)
}

/// Adds slots to the own CSpace.
fn more_slots(nursery: &mut Nursery, count: u32) -> user_rt::Result<Slots> {
    let table: CNode = nursery.make(u64::from(count) + 1)?;
    let first = own::process().grow(&table)?;
    Ok(Slots::new(first.0..first.0 + count))
}

fn set_own_priority() -> user_rt::Result<()> {
    let slice = (boot::facts().tsc_hz / 100).max(1);
    SchedContext::at(slot::SCHED).configure(PRIORITY, slice)
}
