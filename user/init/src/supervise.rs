//! Serves the processes of a system until its end, and starts again those that have ended.
//!
//! Process 1 never calls the others: they call it. It learns of their ends by a Notification that
//! watches the group in which they are members.

use core::fmt;

use abi::Error;
use protocols::names;
use protocols::supervisor::{self as protocol, Refusal, Server, request};
use user_rt::ipc::{Event, Message, Patience, Received, recv_within, reply};
use user_rt::log::Shown;
use user_rt::supervisor::{lend, take_back};
use user_rt::talk::{put, with_bytes};
use user_rt::{info, report, warn};

use crate::places::grants;
use crate::world::{World, ticks};

impl World<'_> {
    /// Starts all processes, in the order of the description, and serves them. Returns whether the
    /// system passed.
    pub fn run(&mut self) -> bool {
        for number in 0..self.places.len() {
            if let Err(error) = self.start(number) {
                report!("error init: cannot start {}: {error}", self.places[number].name());
                return false;
            }
        }
        loop {
            let next = self.start_due();
            if let Some(pass) = self.verdict {
                return pass;
            }
            if self.is_over() {
                report!("error init: all processes have ended");
                return false;
            }
            let patience = next.map_or(Patience::Forever, |time| Patience::Until(ticks(time)));
            match recv_within(patience) {
                Ok(Event::Call(call)) => self.serve(&call),
                Ok(Event::Bits(_)) => self.find_ended(),
                Err(refusal) if refusal.error == Error::Timeout => {}
                Err(refusal) => {
                    report!("error init: listening: {refusal}");
                    return false;
                }
            }
        }
    }

    fn serve(&mut self, call: &Received) {
        let caller = self.number_of(call.custom);
        let mut parent = Parent { world: self, caller, is_answered: false };
        let answer = parent.answer(call);
        if !parent.is_answered {
            // The caller may have ended meanwhile.
            _ = reply(&answer);
        }
    }
}

/// Says what is to be known of a program: the harness reads it, and a person reads it in the log.
fn say(text: fmt::Arguments<'_>) {
    warn!("{}", Shown(text));
    report!("{text}");
}

/// Process 1, as it serves one call.
pub struct Parent<'w, 'a> {
    pub world: &'w mut World<'a>,
    /// The process that calls.
    pub caller: Option<usize>,
    /// Nothing answers the call now: it waits, or its caller has been ended.
    pub is_answered: bool,
}

impl Parent<'_, '_> {
    fn answer(&mut self, call: &Received) -> Message {
        let label = call.message.label;
        if label != protocol::LABEL && label != names::LABEL {
            say(format_args!("note init: {} said something unknown: label {label}", self.name()));
        }
        with_bytes(&call.message, |bytes| match label {
            names::LABEL => names::serve(self, call, label, bytes, |answer| put(names::ANSWER, answer)),
            _ => protocol::serve(self, call, label, bytes, |answer| put(protocol::ANSWER, answer)),
        })
    }

    fn name(&self) -> &str {
        self.caller.map_or("?", |number| self.world.places[number].name())
    }
}

type Done = Result<(), Refusal>;

impl Server<Received> for Parent<'_, '_> {
    fn done(&mut self, _: &Received, asked: request::done::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let failed = asked.get_failed() != 0;
        info!("{} ends: {}", self.name(), if failed { "fail" } else { "pass" });
        self.world.end(number, failed);
        self.is_answered = true;
        Ok(())
    }

    fn panicked(&mut self, _: &Received, asked: request::panicked::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        say(format_args!("died program={}: task {:#x} panicked", self.name(), asked.get_task()));
        // Its other tasks might wait for this one for ever.
        self.world.end(number, true);
        self.is_answered = true;
        Ok(())
    }

    /// Reports the loss, which is otherwise the program's own affair.
    fn lost(&mut self, _: &Received, asked: request::lost::Reader<'_>) -> Done {
        let (task, reason, address) = (asked.get_task(), asked.get_reason(), asked.get_address());
        say(format_args!(
            "note init: {} lost task {task:#x} (reason {reason}, address {address:#x})",
            self.name()
        ));
        Ok(())
    }

    fn view(&mut self, from: &Received, asked: request::view::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let World { system, places, views, .. } = &mut *self.world;
        let child = places[number].child().ok_or(Refusal::NotAllowed)?;
        let devices = system.get_devices().map_err(|_| Refusal::Refused)?;
        let granted = grants(places[number].is, |place| devices.get(place.into()));
        let granted = granted.map_err(|_| Refusal::Refused)?;
        lend(views, from.custom, asked, &granted, |slot| child.cnode.slot(slot))
    }

    fn view_back(&mut self, from: &Received, asked: request::view_back::Reader<'_>) -> Done {
        take_back(&mut self.world.views, from.custom, asked)
    }
}
