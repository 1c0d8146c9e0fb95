//! Serves the processes of a system until its end, and starts again those that have ended.
//!
//! Process 1 never calls the others: they call it ([`front`](crate::front)). It learns of their
//! ends by a Notification that watches the group in which they are members.

use abi::Error;
use protocols::supervisor::{self as protocol, Refusal, Server, request};
use protocols::{clients, devices, manager, names, tasks};
use user_rt::ipc::{Message, Received};
use user_rt::supervisor::{lend, take_back};
use user_rt::talk::put;
use user_rt::{boot, info, report};

use crate::connect::Connection;
use crate::front::{Asked, CALLED, Saved};
use crate::world::{Silent, World, now};

impl World<'_> {
    /// Starts all processes, in the order of the description, and serves them. Returns whether the
    /// system passed.
    pub fn run(&mut self) -> bool {
        for number in 0..self.places.len() {
            if self.places[number].is.get_when_asked() {
                continue;
            }
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
            let pause = self.pace.pause(now());
            if pause.is_none()
                && let Some(asked) = self.front.next()
            {
                self.pace.count();
                self.serve(&asked);
                continue;
            }
            // While calls wait, nobody is late: those that come first may be a flood.
            let sign = match pause {
                Some(_) => None,
                None => match self.end_silent() {
                    Silent::Ended => continue,
                    Silent::None(due) => due.map(|due| due + 1),
                },
            };
            let bell = self.front.bell();
            let until = [next, pause, sign].into_iter().flatten().min();
            match until.map_or_else(|| bell.wait(), |time| bell.wait_until(boot::ticks(time))) {
                Ok(bits) if bits & !CALLED != 0 => self.find_ended(),
                Ok(_) => {}
                Err(refusal) if refusal.error == Error::Timeout => {}
                Err(refusal) => {
                    report!("error init: waiting: {refusal}");
                    return false;
                }
            }
        }
    }

    fn serve(&mut self, asked: &Asked) {
        // A forwarded call says what another process was told.
        let caller = self.number_of(asked.call.custom).filter(|_| !asked.call.forwarded);
        let mut parent = Parent { world: self, caller, saved: Some(asked.reply), joined: None };
        let answer = parent.answer(asked);
        let Parent { saved, joined, .. } = parent;
        let Some(saved) = saved else { return };
        // The caller may have ended meanwhile.
        if let (Err(_), Some(connection)) = (self.front.answer(saved, &answer), joined) {
            self.undo(connection);
        }
    }
}

/// Process 1, as it serves one call.
pub struct Parent<'w, 'a> {
    pub world: &'w mut World<'a>,
    /// The process that calls.
    pub caller: Option<usize>,
    /// The call, unless it waits on, or its caller has been ended.
    pub saved: Option<Saved>,
    /// The connection that the answer reports.
    pub joined: Option<Connection>,
}

impl<'a> Parent<'_, 'a> {
    fn answer(&mut self, asked: &Asked) -> Message {
        let call = &asked.call;
        let label = call.message.label;
        let known =
            [protocol::LABEL, names::LABEL, devices::LABEL, manager::LABEL, clients::LABEL, tasks::LABEL];
        if let Some(number) = self.caller
            && !known.contains(&label)
        {
            let name = self.name(number);
            self.world.note(number, format_args!("note init: {name} said something unknown: label {label}"));
        }
        asked.with_bytes(|bytes| match label {
            names::LABEL => names::serve(self, call, label, bytes, |answer| put(names::ANSWER, answer)),
            devices::LABEL => devices::serve(self, call, label, bytes, |answer| put(devices::ANSWER, answer)),
            manager::LABEL => manager::serve(self, call, label, bytes, |answer| put(manager::ANSWER, answer)),
            clients::LABEL => clients::serve(self, call, label, bytes, |answer| put(clients::ANSWER, answer)),
            tasks::LABEL => tasks::serve(self, call, label, bytes, |answer| put(tasks::ANSWER, answer)),
            _ => protocol::serve(self, call, label, bytes, |answer| put(protocol::ANSWER, answer)),
        })
    }

    /// Ends the process that calls.
    fn end(&mut self, number: usize, failed: bool) {
        self.world.end(number, failed);
        if let Some(saved) = self.saved.take() {
            self.world.front.forget(saved);
        }
    }

    pub fn name(&self, number: usize) -> &'a str {
        self.world.places[number].name()
    }
}

type Done = Result<(), Refusal>;

impl Server<Received> for Parent<'_, '_> {
    fn done(&mut self, _: &Received, asked: request::done::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let failed = asked.get_failed() != 0;
        info!("{} ends: {}", self.name(number), if failed { "fail" } else { "pass" });
        self.end(number, failed);
        Ok(())
    }

    fn panicked(&mut self, _: &Received, asked: request::panicked::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let (name, task) = (self.name(number), asked.get_task());
        self.world.note(number, format_args!("died program={name}: task {task:#x} panicked"));
        // Its other tasks might wait for this one for ever.
        self.end(number, true);
        Ok(())
    }

    /// Reports the loss, which is otherwise the program's own affair.
    fn lost(&mut self, _: &Received, asked: request::lost::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let (name, task) = (self.name(number), asked.get_task());
        let (reason, address) = (asked.get_reason(), asked.get_address());
        self.world.note(
            number,
            format_args!("note init: {name} lost task {task:#x} (reason {reason}, address {address:#x})"),
        );
        Ok(())
    }

    fn view(&mut self, _: &Received, asked: request::view::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        let granted = self.world.views_of(number).map_err(|_| Refusal::Refused)?;
        let World { places, views, .. } = &mut *self.world;
        let child = places[number].child().ok_or(Refusal::NotAllowed)?;
        lend(views, number as u16, asked, &granted, |slot| child.cnode.slot(slot))
    }

    fn alive(&mut self, _: &Received) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        self.world.places[number].heard = now();
        Ok(())
    }

    fn view_back(&mut self, _: &Received, asked: request::view_back::Reader<'_>) -> Done {
        let number = self.caller.ok_or(Refusal::NotAllowed)?;
        take_back(&mut self.world.views, number as u16, asked)
    }
}
