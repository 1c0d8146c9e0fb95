//! Connections by name ([`user_rt::names`]): members of a system's groups, as long as the servers
//! run.

use abi::{Cap, Error, Rights, TaskId};
use protocols::names::{self, Refusal, Server, answer, request};
use protocols::system::{member, text};
use protocols::{WORDS_MAX, compose_plain};
use user_rt::cap::{Group, Handle};
use user_rt::ipc::{Message, Received};
use user_rt::report;
use user_rt::spawn::own;
use user_rt::talk::put;

use crate::places::{State, Waiting};
use crate::supervise::Parent;
use crate::world::World;

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

impl World<'_> {
    /// Returns the place of a name in a process's description, and the group that it means.
    fn look_up(&self, number: usize, wanted: &str) -> Option<(u32, usize)> {
        let uses = self.places[number].is.get_uses().ok()?;
        let named = (0..).zip(uses).find(|(_, uses)| text(uses.get_name()) == wanted);
        named.map(|(place, uses)| (place, usize::from(uses.get_group())))
    }

    /// Returns how the servers of a group are, for a client that knows a task to be `dead`. That may
    /// be news: the kernel tells a server's callers first.
    fn servers(&self, group: usize, dead: TaskId) -> Servers {
        let exposes = self.system.get_groups().and_then(|groups| groups.get(group as u32).get_exposes());
        let Ok(exposes) = exposes else { return Servers::Gone };
        let each = exposes.iter().map(|server| match self.places[usize::from(server)].state {
            State::Runs(_, first) if first == dead => Servers::Start,
            State::Runs(..) => Servers::Run,
            State::Waits(_) => Servers::Start,
            State::Ended => Servers::Gone,
        });
        each.max().unwrap_or(Servers::Run)
    }

    /// Returns what a description says of a process's membership.
    fn member_of(&self, number: usize, group: usize) -> Option<member::Reader<'_>> {
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
        let joined = child.join(&self.groups[group], Cap(slot), rights, custom);
        if let Err(refusal) = joined {
            // The offer of the slot stands for the process: it must not lead to another group.
            _ = child.process.accept_none();
            return Err(self.refused(number, refusal));
        }
        Ok(())
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
        match refusal.error {
            Error::SlotOccupied | Error::BadArgument | Error::NoCapability => Refusal::BadSlot,
            _ => {
                report!("note init: connecting {}: {refusal}", self.places[number].name());
                Refusal::Failed
            }
        }
    }

    /// Answers those that wait for a connection, where that has become clear.
    pub fn answer_waiting(&mut self) {
        for number in 0..self.places.len() {
            let Some(Waiting { name, slot, dead }) = self.places[number].waiting else { continue };
            let uses = self.places[number].is.get_uses();
            let Ok(group) = uses.map(|uses| usize::from(uses.get(name).get_group())) else { continue };
            let answer = match self.servers(group, dead) {
                Servers::Start => continue,
                Servers::Run => self.join(number, group, slot),
                Servers::Gone => Err(Refusal::Gone),
            };
            let place = &mut self.places[number];
            place.waiting = None;
            // The caller may have ended, or been cancelled.
            _ = place.reply.reply(&answer_of(answer));
        }
    }
}

/// Returns the answer to a request for a connection.
fn answer_of(result: Result<(), Refusal>) -> Message {
    let fill = |mut answer: answer::Builder<'_>| match result {
        Ok(()) => answer.set_connect(()),
        Err(refusal) => answer.set_refused(refusal),
    };
    compose_plain::<answer::Owned, WORDS_MAX, _>(fill, |bytes| put(names::ANSWER, bytes))
}

impl Server<Received> for Parent<'_, '_> {
    fn connect(&mut self, _: &Received, asked: request::connect::Reader<'_>) -> Result<(), Refusal> {
        let number = self.caller.ok_or(Refusal::Unknown)?;
        let name = asked.get_name().ok().and_then(|name| name.to_str().ok()).ok_or(Refusal::BadRequest)?;
        let (name, group) = self.world.look_up(number, name).ok_or(Refusal::Unknown)?;
        let (slot, dead) = (asked.get_slot(), TaskId::from_raw(asked.get_dead()));
        match self.world.servers(group, dead) {
            Servers::Run => self.world.join(number, group, slot),
            Servers::Gone => Err(Refusal::Gone),
            Servers::Start => {
                let place = &mut self.world.places[number];
                if place.waiting.is_some() {
                    return Err(Refusal::Busy);
                }
                place.reply.save().map_err(|_| Refusal::Failed)?;
                place.waiting = Some(Waiting { name, slot, dead });
                self.is_answered = true;
                Ok(())
            }
        }
    }

    fn leave(&mut self, _: &Received, asked: request::leave::Reader<'_>) -> Result<(), Refusal> {
        let number = self.caller.ok_or(Refusal::Unknown)?;
        let name = asked.get_name().ok().and_then(|name| name.to_str().ok()).ok_or(Refusal::BadRequest)?;
        let (_, group) = self.world.look_up(number, name).ok_or(Refusal::Unknown)?;
        match self.world.part(number, group)? {
            true => Ok(()),
            false => Err(Refusal::NotConnected),
        }
    }
}
