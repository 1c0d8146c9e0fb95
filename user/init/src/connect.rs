//! Connections by name ([`user_rt::names`]): members of a system's groups, as long as the servers
//! run.

use abi::{Cap, Error, Rights, TaskId};
use protocols::capnp::{self, primitive_list};
use protocols::names::{self, Refusal, Server, answer, request};
use protocols::system::{member, text};
use protocols::{WORDS_MAX, compose_plain};
use user_rt::cap::{Group, Handle};
use user_rt::ipc::{Message, Received};
use user_rt::log::Shown;
use user_rt::spawn::own;
use user_rt::talk::put;
use user_rt::{debug, report};

use crate::places::{State, Waiting};
use crate::supervise::Parent;
use crate::world::{World, now};

/// Further attempts to make a process a member.
const JOIN_TRIES: u32 = 4;

/// A connection that was made: the process, the group, and the slot of its capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    number: usize,
    group: usize,
    slot: u32,
}

/// How the servers of a group are: the worst of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Servers {
    /// All run.
    Run,
    /// One has ended, and is started again soon.
    Start,
    /// One has ended, and is not started again.
    Gone,
}

impl<'a> World<'a> {
    /// Returns the group that a name means to a process.
    fn look_up(&self, number: usize, wanted: &str) -> Option<usize> {
        let uses = self.places[number].is.get_uses().ok()?;
        let named = uses.iter().find(|uses| text(uses.get_name()) == wanted);
        named.map(|uses| usize::from(uses.get_group()))
    }

    /// Returns how the servers of a group are.
    fn servers(&self, group: usize) -> Servers {
        let Ok(exposes) = self.exposes(group) else { return Servers::Gone };
        let each = exposes.iter().map(|server| match self.places[usize::from(server)].state {
            State::Runs(..) => Servers::Run,
            State::Waits(_) => Servers::Start,
            State::Ended => Servers::Gone,
        });
        each.max().unwrap_or(Servers::Run)
    }

    pub fn exposes(&self, group: usize) -> capnp::Result<primitive_list::Reader<'a, u16>> {
        self.system.get_groups()?.get(group as u32).get_exposes()
    }

    /// Ends the server of a group whose first task is this one, if that is dead. That may be news:
    /// the kernel tells a task's callers first, and other tasks of the process may go on.
    fn end_server(&mut self, group: usize, dead: TaskId) {
        let Ok(exposes) = self.exposes(group) else { return };
        for server in exposes.iter().map(usize::from) {
            let State::Runs(_, first) = &self.places[server].state else { continue };
            // A resume does nothing to a task that runs.
            if first.id == dead && first.task.resume().is_err_and(|refusal| refusal.error == Error::BadState)
            {
                report!("died program={}: its first task has ended", self.places[server].name());
                self.end(server, true);
            }
        }
    }

    /// Returns what a description says of a process's membership.
    pub fn member_of(&self, number: usize, group: usize) -> Option<member::Reader<'_>> {
        let members = self.system.get_groups().ok()?.get(group as u32).get_members().ok()?;
        members.iter().find(|member| usize::from(member.get_process()) == number)
    }

    /// Makes a process a member of a group. Its earlier membership ends.
    fn join(&self, number: usize, group: usize, slot: u32) -> Result<(), Refusal> {
        let member = self.member_of(number, group).ok_or(Refusal::Unknown)?;
        // To offer slot 0 is to offer none.
        if slot == 0 {
            return Err(Refusal::BadSlot);
        }
        self.part(number, group)?;
        let child = self.places[number].child().ok_or(Refusal::Failed)?;
        let (rights, custom) = (Rights(member.get_rights()), member.get_custom());
        let mut joined = child.join(&self.groups[group], Cap(slot), rights, custom);
        for _ in 0..JOIN_TRIES {
            // A process has one offer, and its own tasks offer slots, too.
            if joined.is_err_and(|refusal| refusal.error == Error::NoConsent) {
                joined = child.join(&self.groups[group], Cap(slot), rights, custom);
            }
        }
        if joined.is_err() {
            _ = child.process.accept_none();
        }
        joined.map(|_| ()).map_err(|refusal| self.refused(number, refusal))
    }

    /// Ends a process's membership in a group. Returns whether it was a member.
    fn part(&self, number: usize, group: usize) -> Result<bool, Refusal> {
        let child = self.places[number].child().ok_or(Refusal::Failed)?;
        let found = own::cnode().inspect(child.process.cap());
        let identity = found.map_err(|refusal| self.refused(number, refusal))?.map(|it| it.identity);
        let group: &Group = &self.groups[group];
        let Some(member) = group.members().find(|member| Some(member.process) == identity) else {
            return Ok(false);
        };
        group.remove(member.index).map_err(|refusal| self.refused(number, refusal))?;
        Ok(true)
    }

    fn refused(&self, number: usize, refusal: user_rt::Refusal) -> Refusal {
        if is_of_slot(refusal) {
            return Refusal::BadSlot;
        }
        debug!("connecting {}: {}", self.places[number].name(), Shown(refusal));
        Refusal::Failed
    }

    /// Answers those that wait for a connection, where that has become clear.
    pub fn answer_waiting(&mut self) {
        for number in 0..self.places.len() {
            let Some(Waiting { group, slot, saved }) = self.places[number].waiting else { continue };
            let answer = match self.servers(group) {
                Servers::Start => continue,
                Servers::Run => self.join(number, group, slot),
                Servers::Gone => Err(Refusal::Gone),
            };
            self.places[number].waiting = None;
            self.places[number].heard = now();
            let answered = self.front.answer(saved, &answer_of(answer));
            if answered.is_err() && answer.is_ok() {
                self.undo(Connection { number, group, slot });
            }
        }
    }

    /// Ends a connection of which nobody knows: the task that asked for it was cancelled or killed.
    pub fn undo(&self, Connection { number, group, slot }: Connection) {
        _ = self.part(number, group);
        _ = self.places[number].child().map(|child| child.cnode.delete(Cap(slot)));
    }

    /// Lets the task whose call is served wait until the servers of a group run. A task of its
    /// process that waits already is answered: there is room for one.
    fn wait(&mut self, number: usize, waiting: Waiting) {
        if let Some(earlier) = self.places[number].waiting.replace(waiting) {
            // It may have been cancelled or killed.
            _ = self.front.answer(earlier.saved, &answer_of(Err(Refusal::Busy)));
        }
    }
}

/// Whether the kernel refused because of the slot of a process that was to be filled.
pub fn is_of_slot(refusal: user_rt::Refusal) -> bool {
    matches!(refusal.error, Error::SlotOccupied | Error::BadArgument | Error::NoCapability)
}

/// Returns the answer to a request for a connection.
fn answer_of(result: Result<(), Refusal>) -> Message {
    let fill = |mut answer: answer::Builder<'_>| match result {
        Ok(()) => answer.set_connect(()),
        Err(refusal) => answer.set_refused(refusal),
    };
    compose_plain::<answer::Owned, WORDS_MAX, _>(fill, |bytes| put(names::ANSWER, bytes))
}

impl Parent<'_, '_> {
    /// Returns the process that calls, and the group that a name means to it.
    fn meant(&self, name: capnp::Result<capnp::text::Reader<'_>>) -> Result<(usize, usize), Refusal> {
        let number = self.caller.ok_or(Refusal::Unknown)?;
        let name = name.ok().and_then(|name| name.to_str().ok()).ok_or(Refusal::BadRequest)?;
        let group = self.world.look_up(number, name).ok_or(Refusal::Unknown)?;
        Ok((number, group))
    }
}

impl Server<Received> for Parent<'_, '_> {
    fn connect(&mut self, _: &Received, asked: request::connect::Reader<'_>) -> Result<(), Refusal> {
        let (number, group) = self.meant(asked.get_name())?;
        let slot = asked.get_slot();
        self.world.end_server(group, TaskId::from_raw(asked.get_dead()));
        // The caller may have ended with that server, as a client of a pager does.
        self.world.places[number].child().ok_or(Refusal::Failed)?;
        match self.world.servers(group) {
            Servers::Run => {
                self.world.join(number, group, slot)?;
                self.joined = Some(Connection { number, group, slot });
                Ok(())
            }
            Servers::Gone => Err(Refusal::Gone),
            Servers::Start => {
                let saved = self.saved.take().ok_or(Refusal::Failed)?;
                self.world.wait(number, Waiting { group, slot, saved });
                Ok(())
            }
        }
    }

    fn leave(&mut self, _: &Received, asked: request::leave::Reader<'_>) -> Result<(), Refusal> {
        let (number, group) = self.meant(asked.get_name())?;
        match self.world.part(number, group)? {
            true => Ok(()),
            false => Err(Refusal::NotConnected),
        }
    }
}
