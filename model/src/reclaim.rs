//! How objects end: delete, revoke, reset.
//!
//! A capability that is not its object's last is deleted immediately. The last capability ends the
//! object first. A task cannot end the objects that it runs in, and nobody can end a pinned frame.
//! Then the end stays incomplete, and the object stays *dying*.

use alloc::vec::Vec;

use abi::{Error, ObjType, Rights, machine_rights, process_rights};

use crate::growth::Reach;
use crate::object::{CallAt, State};
use crate::{Answer, Args, Id, Kind, Model, Place, Refusal, Result};

/// Whether pins keep a frame, or end with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pins {
    Hold,
    Go,
}

impl Model {
    // --- operations ------------------------------------------------------------------------------

    pub fn cap_delete(&mut self, me: Id, args: &Args) -> Result {
        let place = self.find_slot(me, args.target(0), Rights::GRANT)?;
        self.delete(me, place, Pins::Hold)?;
        self.empty_zombies(me);
        Ok(Answer::DONE)
    }

    pub fn cap_revoke(&mut self, me: Id, args: &Args) -> Result {
        let place = self.find_slot(me, args.target(0), Rights::GRANT)?;
        self.revoke(me, place, Pins::Hold)?;
        self.empty_zombies(me);
        Ok(Answer::DONE)
    }

    pub fn untyped_reset(&mut self, me: Id, args: &Args) -> Result {
        let found = self.find(me, args.cap(0), ObjType::Untyped, Rights::NONE)?;
        let pins = match args.0[1] {
            0 => Pins::Hold,
            1 => {
                self.find(me, args.cap(3), ObjType::Machine, machine_rights::DMA)?;
                Pins::Go
            }
            _ => return Err(Refusal::argument(1)),
        };
        if self.lives_in(me, found.object) {
            return Err(Error::InUse.into());
        }
        self.revoke(me, found.place, pins)?;
        self.empty_zombies(me);
        // A table that ended may have had the last capability of the memory from which this
        // descends.
        if self.slots.get(&found.place).is_none_or(|it| it.object != found.object) {
            return Err(Refusal::new(Error::NoCapability, u64::from(args.cap(0).0)));
        }
        if self.zombies.iter().any(|cnode| self.is_inside(*cnode, found.object)) {
            return Err(Error::InUse.into());
        }
        let untyped = self.untyped_mut(found.object);
        (untyped.low, untyped.high) = (0, untyped.size);
        Ok(Answer::one(untyped.size))
    }

    // --- deleting --------------------------------------------------------------------------------

    /// Deletes everything that was derived from a capability, leaves first.
    fn revoke(&mut self, me: Id, place: Place, pins: Pins) -> Result<()> {
        while let Some(leaf) = self.first_leaf(place) {
            self.delete(me, leaf, pins)?;
        }
        Ok(())
    }

    pub fn delete(&mut self, me: Id, place: Place, pins: Pins) -> Result<()> {
        let Some(object) = self.slots.get(&place).map(|it| it.object) else { return Ok(()) };
        if self.references(object) > 1 {
            self.unlink(place);
            return Ok(());
        }
        if self.is_part_of(me, object) {
            return Err(Error::InUse.into());
        }
        if let Kind::Frame(frame) = &mut self.objects[object.0].kind {
            match pins {
                Pins::Hold if frame.pins != 0 => return Err(Error::InUse.into()),
                Pins::Hold => {}
                Pins::Go => frame.pins = 0,
            }
        }
        self.objects[object.0].dying = true;
        if let Err(refusal) = self.end(me, place, object, pins) {
            // Memory in which something does not end now serves on, and so does a group that
            // exposes the caller, or a pool that it reads.
            let kind = self.object_type(object);
            let serves_on = matches!(kind, ObjType::Untyped | ObjType::Group | ObjType::EventPool);
            self.objects[object.0].dying = !serves_on;
            return Err(refusal);
        }
        self.unlink(place);
        match self.objects[object.0].kind {
            // It ends when it is empty.
            Kind::CNode(_) => self.zombies.insert(0, object),
            _ => self.objects[object.0].ended = true,
        }
        Ok(())
    }

    /// Returns whether an object is a task, its process, a space of that, or memory that has one of
    /// these.
    fn is_part_of(&self, me: Id, object: Id) -> bool {
        self.home(me).contains(&object)
            || self.object_type(object) == ObjType::Untyped && self.lives_in(me, object)
    }

    fn lives_in(&self, me: Id, untyped: Id) -> bool {
        self.home(me).into_iter().any(|it| self.is_inside(it, untyped))
    }

    fn home(&self, me: Id) -> Vec<Id> {
        let process = self.process_of(me);
        let spaces = self.tables_of(process).into_iter().chain(self.process(process).vspace);
        [me, process].into_iter().chain(spaces).collect()
    }

    /// Makes an object inert that has one capability left.
    pub(crate) fn end(&mut self, me: Id, place: Place, object: Id, pins: Pins) -> Result<()> {
        match self.object_type(object) {
            ObjType::Untyped => self.revoke(me, place, pins)?,
            ObjType::Task => self.kill(object),
            ObjType::Process => self.end_process(object),
            ObjType::CNode => {
                if let Some(process) = self.cnode(object).process {
                    self.end_process(process);
                }
            }
            ObjType::VSpace => {
                if let Some(process) = self.vspace(object).process {
                    self.end_process(process);
                }
                self.vspace_mut(object).pages.clear();
            }
            ObjType::Frame => self.unmap_everywhere(object),
            ObjType::Group => {
                for index in 0..self.group(object).exposures.len() as u32 {
                    self.delete(me, Place::Exposure(object, index), Pins::Hold)?;
                }
            }
            ObjType::SchedContext => self.end_time(object),
            ObjType::Notification => self.end_notification(object),
            ObjType::Reply => self.end_reply(object),
            ObjType::EventPool => {
                self.delete(me, Place::Reader(object), Pins::Hold)?;
                self.part_pool(object);
            }
            ObjType::IrqHandler => {
                self.delete(me, Place::Target(object), Pins::Hold)?;
                *self.irq_handler_mut(object) = crate::object::IrqHandler::default();
            }
            ObjType::SchedControl | ObjType::IoPort | ObjType::Machine => {}
        }
        Ok(())
    }

    /// Ends a process: it has no spaces and tasks afterwards, and cannot be used again.
    fn end_process(&mut self, process: Id) {
        self.objects[process.0].dying = true;
        for task in self.process(process).tasks.clone().into_iter().flatten() {
            self.kill(task);
        }
        self.leave_groups(process);
        if let Some(pool) = self.process(process).pool {
            self.part_pool(pool);
        }
        for table in self.tables_of(process) {
            self.cnode_mut(table).process = None;
        }
        let it = self.process_mut(process);
        (it.cnode, it.more) = (None, Vec::new());
        if let Some(vspace) = self.process_mut(process).vspace.take() {
            self.vspace_mut(vspace).process = None;
        }
    }

    pub fn process_kill(&mut self, me: Id, args: &Args) -> Result {
        let process = self.find(me, args.cap(0), ObjType::Process, process_rights::DESTROY)?.object;
        if process == self.process_of(me) {
            self.leave_groups(process);
            self.objects[process.0].dying = true;
            for task in self.process(process).tasks.clone().into_iter().flatten() {
                self.kill(task);
            }
            return Ok(Answer::Settled);
        }
        self.objects[process.0].dying = true;
        for task in self.process(process).tasks.clone().into_iter().flatten() {
            self.kill(task);
        }
        self.withdraw_tasks(me, process);
        self.end_process(process);
        Ok(Answer::DONE)
    }

    /// Withdraws a process's tasks from the groups that its CSpace names.
    fn withdraw_tasks(&mut self, me: Id, process: Id) {
        let Some(cnode) = self.process(process).cnode else { return };
        for (_, place) in self.places_in(Reach::cspace(cnode)) {
            let Some(it) = self.slots.get(&place) else { continue };
            let group = it.object;
            if self.object_type(group) != ObjType::Group {
                continue;
            }
            for index in 0..self.group(group).exposures.len() as u32 {
                let place = Place::Exposure(group, index);
                let exposed = self.slots.get(&place).map(|it| &self.objects[it.object.0].kind);
                if matches!(exposed, Some(Kind::Task(task)) if task.born_in == Some(process)) {
                    let _ = self.delete(me, place, Pins::Hold);
                }
            }
        }
    }

    fn end_time(&mut self, time: Id) {
        if let Some(owner) = self.sched_context_mut(time).owner.take() {
            self.task_mut(owner).time = None;
        }
        self.give_share_back(time);
    }

    fn end_notification(&mut self, object: Id) {
        if let Some(waiter) = self.notification_mut(object).waiter.take() {
            self.fail(waiter, Error::Gone.into());
        }
        if let Some(bound) = self.notification_mut(object).bound.take() {
            self.task_mut(bound).bound = None;
        }
    }

    fn end_reply(&mut self, object: Id) {
        if let Some(caller) = self.reply_object(object).caller {
            self.fail(caller, Error::Gone.into());
        }
    }

    /// Empties the CNodes without capabilities, except those with objects that the task cannot end.
    fn empty_zombies(&mut self, me: Id) {
        let mut at = 0;
        while let Some(cnode) = self.zombies.get(at).copied() {
            let slots = self.cnode(cnode).slots;
            let emptied = (1..slots).try_for_each(|n| self.delete(me, Place::Slot(cnode, n), Pins::Hold));
            at = match emptied {
                Ok(()) => {
                    self.zombies.retain(|it| *it != cnode);
                    self.objects[cnode.0].ended = true;
                    0
                }
                // What it has of the caller's own is left to others.
                Err(_) => self.zombies.iter().position(|it| *it == cnode).expect("it is still there") + 1,
            };
        }
    }

    // --- tasks -----------------------------------------------------------------------------------

    /// Ends a task: tasks that wait for its answer or for its locks get an error, and its number is
    /// free.
    pub fn kill(&mut self, task: Id) {
        if matches!(self.task(task).state, State::Dead | State::Fresh) {
            return;
        }
        let calls = self.task(task).state == State::Calling;
        self.unwait(task);
        let dead = Refusal::dead(self.task(task).id);
        for client in self.clients(task) {
            self.fail(client, dead);
        }
        for waiter in self.lock_waiters(task) {
            self.fail(waiter, crate::locks::owner_died(dead.who));
        }
        if let Some(object) = self.task_mut(task).bound.take() {
            self.notification_mut(object).bound = None;
        }
        if let Some(time) = self.task_mut(task).time.take() {
            let it = self.sched_context_mut(time);
            (it.owner, it.left) = (None, it.left || calls);
        }
        let process = self.process_of(task);
        let address = self.task(task).utcb_address;
        if let Some(vspace) = self.process(process).vspace {
            self.vspace_mut(vspace).pages.remove(&address);
        }
        let numbers = self.process_mut(process).tasks.iter_mut();
        numbers.filter(|number| **number == Some(task)).for_each(|number| *number = None);
        let it = self.task_mut(task);
        (it.state, it.suspended, it.process) = (State::Dead, true, None);
    }

    /// Returns all tasks that wait for a task's answer.
    pub fn clients(&self, task: Id) -> Vec<Id> {
        let waits = |id: &Id| {
            let Kind::Task(it) = &self.objects[id.0].kind else { return false };
            match it.call.map(|call| call.at) {
                Some(CallAt::Queued(callee) | CallAt::Served(callee)) => callee == task,
                Some(CallAt::Kept(reply)) => self.reply_object(reply).server == Some(task),
                None => false,
            }
        };
        self.ids().filter(waits).collect()
    }
}
