//! What a shell asks: which processes, groups and devices there are; to start, end or restart a
//! process.
//! The description says which processes may ask, and which ones they may start and end.

use protocols::capnp;
use protocols::manager::{Refusal, Server, State as Shown, answer, request};
use protocols::system::{MEMORY_REST, text};
use user_rt::ipc::Received;
use user_rt::{boot, report};

use crate::charges::Pager;
use crate::places::{self, State};
use crate::restarts::Restarts;
use crate::supervise::Parent;
use crate::world::{World, now};

/// Servers of a group in one answer, at most, and twice its members.
const LISTED_MAX: u32 = 180;

type Done = Result<(), Refusal>;

impl World<'_> {
    /// Whether a process may start, end and restart another one.
    fn may_end(&self, number: usize, other: usize) -> bool {
        let controls = self.places[number].is.get_controls();
        controls.is_ok_and(|controls| controls.iter().any(|place| usize::from(place) == other))
    }

    /// Whether a process can be started more than once. The rest of the memory can be given once,
    /// and a judge ends with the machine.
    fn can_begin_again(&self, number: usize) -> bool {
        self.places[number].is.get_memory() != MEMORY_REST && !self.judges(number)
    }

    /// Starts a process as soon as possible, whatever its description says. Ends it first, if it
    /// runs.
    fn restart(&mut self, number: usize) {
        self.clear(number);
        let place = &mut self.places[number];
        place.restarts = Restarts::new(places::rule(place.is));
        place.state = State::Waits(now());
        self.ended(number);
    }
}

impl Parent<'_, '_> {
    /// Returns the process that calls, if it may ask.
    fn manager(&self) -> Result<usize, Refusal> {
        let manages = |number: &usize| self.world.places[*number].is.get_manages();
        self.caller.filter(manages).ok_or(Refusal::NotAllowed)
    }

    /// Returns the process that calls, and the one of this name, if the former may start and end
    /// the latter.
    fn controlled(&self, name: capnp::Result<capnp::text::Reader<'_>>) -> Result<(usize, usize), Refusal> {
        let manager = self.manager()?;
        let name = name?.to_str().map_err(|_| Refusal::BadRequest)?;
        let other = self.world.places.iter().position(|place| place.name() == name);
        let other = other.ok_or(Refusal::NoSuch)?;
        match self.world.may_end(manager, other) {
            true => Ok((manager, other)),
            false => Err(Refusal::NotAllowed),
        }
    }

    /// Refuses to start a process whose pager has ended for good.
    fn has_pager(&self, number: usize) -> Done {
        if self.world.pager(number) == Pager::Ended { Err(Refusal::NoPager) } else { Ok(()) }
    }

    /// Says that a process ends another one, and forgets the call if that is the caller itself.
    fn ends(&mut self, manager: usize, other: usize) {
        report!("died program={}: {} has ended it", self.name(other), self.name(manager));
        if manager == other
            && let Some(saved) = self.saved.take()
        {
            self.world.front.forget(saved);
        }
    }
}

impl Server<Received> for Parent<'_, '_> {
    fn process(
        &mut self,
        _: &Received,
        asked: request::process::Reader<'_>,
        answer: answer::process::Builder<'_>,
    ) -> Done {
        let manager = self.manager()?;
        let number = usize::from(asked.get_place());
        let place = self.world.places.get(number).ok_or(Refusal::NoSuch)?;
        let mut to = answer.init_process();
        to.set_name(place.name());
        to.set_program(text(place.is.get_program()));
        to.set_starts(place.starts);
        to.set_priority(place.is.get_priority());
        to.set_cpu(place.is.get_cpu());
        to.set_memory(1 << place.log2);
        to.set_may_end(self.world.may_end(manager, number));
        let state = match &place.state {
            State::Runs(_, first) => {
                to.set_task(first.id.raw());
                to.set_used(first.sched.info().map_or(0, |info| boot::micros(info.used)));
                Shown::Runs
            }
            State::Waits(_) => Shown::Waits,
            State::Ended => Shown::Ended,
        };
        to.set_state(state);
        Ok(())
    }

    fn group(
        &mut self,
        _: &Received,
        asked: request::group::Reader<'_>,
        answer: answer::group::Builder<'_>,
    ) -> Done {
        self.manager()?;
        let groups = self.world.system.get_groups()?;
        let group = groups.iter().nth(asked.get_place().into()).ok_or(Refusal::NoSuch)?;
        let (exposes, members) = (group.get_exposes()?, group.get_members()?);
        if exposes.len() + 2 * members.len() > LISTED_MAX {
            return Err(Refusal::TooLong);
        }
        let mut to = answer.init_group();
        to.set_name(text(group.get_name()));
        to.set_servers(exposes)?;
        let mut listed = to.reborrow().init_members(members.len());
        (0..).zip(members).for_each(|(place, member)| listed.set(place, member.get_process()));
        let mut customs = to.init_customs(members.len());
        (0..).zip(members).for_each(|(place, member)| customs.set(place, member.get_custom()));
        Ok(())
    }

    fn device(
        &mut self,
        _: &Received,
        asked: request::device::Reader<'_>,
        answer: answer::device::Builder<'_>,
    ) -> Done {
        self.manager()?;
        let place = asked.get_place();
        let device = self.world.system.get_devices()?.iter().nth(place.into()).ok_or(Refusal::NoSuch)?;
        let drives = |number: &usize| {
            let driven = self.world.places[*number].is.get_devices();
            driven.is_ok_and(|driven| driven.iter().any(|driven| driven == place))
        };
        let mut to = answer.init_device();
        to.set_name(text(device.get_name()));
        // The host tool allows no device without a driver.
        to.set_driver((0..self.world.places.len()).find(drives).map_or(0, |number| number as u16));
        Ok(())
    }

    fn machine(&mut self, _: &Received, mut answer: answer::machine::Builder<'_>) -> Done {
        self.manager()?;
        let facts = boot::facts();
        let sizes = facts.untyped_log2.iter().take(facts.untyped_count as usize);
        answer.set_memory(sizes.map(|log2| 1u64 << log2).sum());
        answer.set_leaked((self.world.spare - self.world.memory.own.slots_left()).into());
        Ok(())
    }

    fn kill(&mut self, _: &Received, asked: request::kill::Reader<'_>) -> Done {
        let (manager, other) = self.controlled(asked.get_name())?;
        if self.world.places[other].child().is_none() {
            return Err(Refusal::NotRunning);
        }
        self.ends(manager, other);
        self.world.end(other, true);
        Ok(())
    }

    fn start(&mut self, _: &Received, asked: request::start::Reader<'_>) -> Done {
        let (_, other) = self.controlled(asked.get_name())?;
        let place = &self.world.places[other];
        if !matches!(place.state, State::Ended) {
            return Err(Refusal::Running);
        }
        if place.starts > 0 && !self.world.can_begin_again(other) {
            return Err(Refusal::Once);
        }
        self.has_pager(other)?;
        self.world.restart(other);
        Ok(())
    }

    fn restart(&mut self, _: &Received, asked: request::restart::Reader<'_>) -> Done {
        let (manager, other) = self.controlled(asked.get_name())?;
        if !self.world.can_begin_again(other) {
            return Err(Refusal::Once);
        }
        self.has_pager(other)?;
        if self.world.places[other].child().is_some() {
            self.ends(manager, other);
        }
        self.world.restart(other);
        Ok(())
    }
}
