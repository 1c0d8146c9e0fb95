//! Serves a program until its end, and judges the run.

use core::fmt;

use abi::{Error, TaskId};
use protocols::supervisor::{self as protocol, Refusal, Server, request};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::log::Shown;
use user_rt::spawn::Child;
use user_rt::supervisor::{lend, take_back};
use user_rt::talk::{put, with_bytes};
use user_rt::views::{Frames, Grant, Views};
use user_rt::{info, report, warn};

use user_rt::archive::Program;

use crate::launch::Launched;
use crate::programs;

/// Whether the program passed.
pub fn until_the_end(program: &Program<'_>, launched: &mut Launched) -> bool {
    let pass = serve(program, launched);
    // Nobody uses a device for it any more.
    match launched.views.ended(program.channel.into(), true) {
        Ok(0) => pass,
        Ok(taken) => {
            warn!("{} ended with {} views of device memory", program.name(), taken);
            pass
        }
        Err(denial) => {
            report!("error init: taking back the views of {}: {denial}", program.name());
            false
        }
    }
}

fn serve(program: &Program<'_>, launched: &mut Launched) -> bool {
    let Launched { child, views } = launched;
    let granted = programs::of(program.name()).views;
    let judge = Judge { name: program.name(), say, pass: None };
    let mut parent = Parent { judge, child, views, granted };
    let mut event = recv();
    loop {
        match event {
            Ok(Event::Call(call)) => {
                let answer = parent.answer(&call);
                if let Some(pass) = parent.judge.pass {
                    info!("{} ends: {}", program.name(), if pass { "pass" } else { "fail" });
                    return pass;
                }
                event = reply_recv(&answer);
            }
            Ok(Event::Bits(_)) => event = recv(),
            Err(refusal) => {
                report!("error init: listening to {}: {refusal}", program.name());
                return false;
            }
        }
    }
}

/// Says what is to be known of a program: the harness reads it, and a person reads it in the log.
fn say(text: fmt::Arguments<'_>) {
    warn!("{}", Shown(text));
    report!("{text}");
}

/// What a program's parent keeps for it.
struct Parent<'a> {
    judge: Judge<'a>,
    child: &'a Child,
    views: &'a mut Views<Frames>,
    granted: &'a [Grant],
}

impl Parent<'_> {
    fn answer(&mut self, call: &Received) -> Message {
        let label = call.message.label;
        if label != protocol::LABEL {
            self.judge
                .say(format_args!("note init: {} said something unknown: label {label}", self.judge.name));
        }
        with_bytes(&call.message, |bytes| {
            protocol::serve(self, call, label, bytes, |answer| put(protocol::ANSWER, answer))
        })
    }
}

type Done = Result<(), Refusal>;

impl Server<Received> for Parent<'_> {
    fn done(&mut self, _: &Received, asked: request::done::Reader<'_>) -> Done {
        self.judge.done(asked.get_failed());
        Ok(())
    }

    fn panicked(&mut self, _: &Received, asked: request::panicked::Reader<'_>) -> Done {
        self.judge.panicked(asked.get_task());
        Ok(())
    }

    fn died(&mut self, _: &Received, asked: request::died::Reader<'_>) -> Done {
        self.judge.died(asked.get_error(), asked.get_detail(), TaskId::from_raw(asked.get_task()));
        Ok(())
    }

    fn lost(&mut self, _: &Received, asked: request::lost::Reader<'_>) -> Done {
        self.judge.lost(asked.get_task(), asked.get_reason(), asked.get_address());
        Ok(())
    }

    fn view(&mut self, from: &Received, asked: request::view::Reader<'_>) -> Done {
        let cnode = &self.child.cnode;
        lend(self.views, from.custom, asked, self.granted, |slot| cnode.slot(slot))
    }

    fn view_back(&mut self, from: &Received, asked: request::view_back::Reader<'_>) -> Done {
        take_back(self.views, from.custom, asked)
    }
}

/// What messages mean for the run. What is to be known of one is said.
struct Judge<'a> {
    name: &'a str,
    say: fn(fmt::Arguments<'_>),
    /// Whether the program passed, once that is known.
    pass: Option<bool>,
}

impl Judge<'_> {
    fn say(&self, what: fmt::Arguments<'_>) {
        (self.say)(what);
    }

    fn done(&mut self, failed: u64) {
        self.pass = Some(failed == 0);
    }

    fn panicked(&mut self, task: u64) {
        self.say(format_args!("died program={}: task {task:#x} panicked", self.name));
        self.pass = Some(false);
    }

    fn died(&mut self, error: u8, detail: u64, who: TaskId) {
        let error = Error::from_raw(error);
        self.say(format_args!(
            "died program={}: its first task {:#x} is no more ({error:?}, {detail:#x})",
            self.name,
            who.raw()
        ));
        self.pass = Some(false);
    }

    /// Reports the loss, which is otherwise the program's own affair.
    fn lost(&mut self, task: u64, reason: u16, address: u64) {
        self.say(format_args!(
            "note init: {} lost task {task:#x} (reason {reason}, address {address:#x})",
            self.name
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_without_failures_passes() {
        let judged = |what: fn(&mut Judge<'_>)| {
            let mut judge = Judge { name: "x", say: |_| (), pass: None };
            what(&mut judge);
            judge.pass
        };
        assert_eq!(judged(|judge| judge.done(0)), Some(true));
        assert_eq!(judged(|judge| judge.done(1)), Some(false));
        assert_eq!(judged(|judge| judge.panicked(7)), Some(false));
        assert_eq!(judged(|judge| judge.died(1, 2, TaskId::NONE)), Some(false));
        assert_eq!(judged(|judge| judge.lost(7, 5, 0)), None, "its own affair");
    }
}
