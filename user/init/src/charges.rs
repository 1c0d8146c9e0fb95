//! What pagers and scheduling policies ask for: the processes that their descriptions put in their
//! charge ([`protocols::clients`], [`protocols::tasks`]).
//!
//! Process 1 does not call them: they ask when they begin, a pager when a client calls that it
//! does not know, and a policy when its Notification says that something has changed. So both
//! can be started again at any time. The clients of a pager end with it, because the pager has
//! their memory.

use abi::{Cap, Rights, Target, sched_rights, task_rights};
use protocols::clients::{self, NUMBER_MAX};
use protocols::system::{NONE, member};
use protocols::tasks::{self, CHANGED_BIT};
use user_rt::cap::Notification;
use user_rt::invoke::copy;
use user_rt::ipc::Received;
use user_rt::layout::slot;
use user_rt::paging::SERVER;
use user_rt::report;
use user_rt::spawn::Child;

use crate::connect::is_of_slot;
use crate::launch::{LaunchError, at};
use crate::places::{Place, State};
use crate::supervise::Parent;
use crate::world::World;

/// How the pager of a process is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pager {
    /// It runs, or the process has none.
    Runs,
    /// It is started soon.
    Waits,
    Ended,
}

impl Place<'_> {
    /// Returns the group of the process's pager, if it has one.
    fn paged_in(&self) -> Option<usize> {
        let group = self.is.get_pager().get_group();
        (group != NONE).then_some(group.into())
    }

    /// Whether the process places another one on CPUs.
    fn schedules(&self, number: usize) -> bool {
        let theirs = self.is.get_schedules();
        theirs.is_ok_and(|theirs| theirs.iter().any(|place| usize::from(place) == number))
    }
}

// --- pagers --------------------------------------------------------------------------------------

impl World<'_> {
    /// Returns the pager of a process, if it has one.
    fn pager_of(&self, number: usize) -> Option<usize> {
        let group = self.places[number].paged_in()?;
        Some(self.exposes(group).ok()?.iter().next()?.into())
    }

    /// Returns how the pager of a process is.
    pub fn pager(&self, number: usize) -> Pager {
        let Some(pager) = self.pager_of(number) else { return Pager::Runs };
        match self.places[pager].state {
            State::Runs(..) => Pager::Runs,
            State::Waits(_) => Pager::Waits,
            State::Ended => Pager::Ended,
        }
    }

    /// Returns a client's custom bits in the group of its pager ([`protocols::clients`]).
    fn custom_of_client(&self, number: usize, member: member::Reader<'_>) -> u16 {
        member.get_custom() & 0xff | u16::from(self.places[number].starts as u8) << 8
    }

    /// Makes a process that is being started a client of its pager, which serves its faults.
    pub fn give_pager(&self, number: usize, child: &Child) -> Result<(), LaunchError> {
        let Some(group) = self.places[number].paged_in() else { return Ok(()) };
        let (Some(member), Pager::Runs) = (self.member_of(number, group), self.pager(number)) else {
            return Err(LaunchError::NoPager);
        };
        let custom = self.custom_of_client(number, member);
        let rights = Rights(member.get_rights());
        at("giving it a pager", child.join(&self.groups[group], slot::PAGER, rights, custom))?;
        let handler = Target::new(slot::PAGER, SERVER);
        at("naming its pager for faults", child.process.fault_handler(Some(handler)))
    }

    /// Ends the clients of a pager that has ended: their memory is gone.
    pub fn end_clients(&mut self, pager: usize) {
        for number in 0..self.places.len() {
            if self.places[number].child().is_some() && self.pager_of(number) == Some(pager) {
                report!("died program={}: its pager has ended", self.places[number].name());
                self.end(number, true);
            }
        }
    }

    /// Returns the client that a pager knows by these custom bits, while it runs.
    fn client_of(&self, pager: usize, custom: u16) -> Option<usize> {
        (0..self.places.len()).find(|number| {
            let place = &self.places[*number];
            let is_its = place.child().is_some() && self.pager_of(*number) == Some(pager);
            let member = place.paged_in().and_then(|group| self.member_of(*number, group));
            is_its && member.is_some_and(|member| self.custom_of_client(*number, member) == custom)
        })
    }
}

const _: () = assert!(NUMBER_MAX <= 0xff && NUMBER_MAX == user_rt::paging::CLIENTS_MAX);

impl clients::Server<Received> for Parent<'_, '_> {
    fn give(
        &mut self,
        _: &Received,
        asked: clients::request::Reader<'_>,
        mut answer: clients::answer::give::Builder<'_>,
    ) -> Result<(), clients::Refusal> {
        use clients::Refusal;

        let pager = self.caller.ok_or(Refusal::Unknown)?;
        let number = self.world.client_of(pager, asked.get_client()).ok_or(Refusal::Unknown)?;
        let place = &self.world.places[number];
        let (Some(client), Some(to)) = (place.child(), self.world.places[pager].child()) else {
            return Err(Refusal::Unknown);
        };
        let given = copy(&client.vspace, to.cnode.slot(Cap(asked.get_slot())), Rights::MAP, 0);
        given.map_err(|refusal| if is_of_slot(refusal) { Refusal::BadSlot } else { Refusal::Failed })?;
        let limits = place.is.get_pager();
        answer.set_frames(limits.get_frames());
        answer.set_pinned(limits.get_pinned());
        answer.set_pages(limits.get_pages());
        Ok(())
    }
}

// --- policies ------------------------------------------------------------------------------------

impl World<'_> {
    /// Tells the policies that schedule a process that it has started or ended.
    pub fn tell_policies(&self, number: usize) {
        for place in self.places.iter().filter(|place| place.schedules(number)) {
            if let Some(bell) = &place.bell {
                // It may have deleted the Notification: then it learns nothing.
                _ = bell.notify(1 << CHANGED_BIT);
            }
        }
    }
}

impl tasks::Server<Received> for Parent<'_, '_> {
    fn give(
        &mut self,
        _: &Received,
        asked: tasks::request::give::Reader<'_>,
        mut answer: tasks::answer::give::Builder<'_>,
    ) -> Result<(), tasks::Refusal> {
        use tasks::Refusal;

        let policy = self.caller.ok_or(Refusal::NotAllowed)?;
        let places = &self.world.places;
        let theirs = places[policy].is.get_schedules()?;
        let number = theirs.iter().nth(asked.get_place().into()).ok_or(Refusal::NotAllowed)?;
        let scheduled = &places[usize::from(number)];
        let State::Runs(_, first) = &scheduled.state else { return Err(Refusal::NotRunning) };
        let to = &places[policy].child().ok_or(Refusal::NotAllowed)?.cnode;
        let refused = |refusal| if is_of_slot(refusal) { Refusal::BadSlot } else { Refusal::Failed };
        let (task, sched) = (Cap(asked.get_task()), Cap(asked.get_sched()));
        let rights = task_rights::SCHEDULE.rights();
        copy(&first.task, to.slot(task), rights, 0).map_err(refused)?;
        let rights = sched_rights::CONFIGURE.union(sched_rights::OBSERVE).rights();
        copy(&first.sched, to.slot(sched), rights, 0).map_err(|refusal| {
            _ = to.delete(task);
            refused(refusal)
        })?;
        answer.set_priority(scheduled.is.get_priority());
        answer.set_may_move(scheduled.is.get_cpus()?.is_empty());
        answer.set_slice(scheduled.is.get_slice());
        answer.set_budget(scheduled.is.get_budget());
        answer.set_period(scheduled.is.get_period());
        Ok(())
    }

    fn bell(&mut self, _: &Received, asked: tasks::request::bell::Reader<'_>) -> Result<(), tasks::Refusal> {
        use tasks::Refusal;

        let policy = self.caller.ok_or(Refusal::NotAllowed)?;
        let place = &mut self.world.places[policy];
        if place.is.get_schedules()?.is_empty() {
            return Err(Refusal::NotAllowed);
        }
        if place.bell.is_none() {
            // It ends with the process.
            let made = place.building.make::<Notification>(0);
            place.bell = Some(made.map_err(|_| Refusal::Full)?);
        }
        let (Some(bell), Some(child)) = (&place.bell, place.child()) else { return Err(Refusal::Failed) };
        let given = copy(bell, child.cnode.slot(Cap(asked.get_slot())), Rights::ALL, 0);
        given.map_err(|refusal| if is_of_slot(refusal) { Refusal::BadSlot } else { Refusal::Failed })
    }
}
