//! What clients see of servers that end and are started again.

use alloc::format;

use abi::{Error, TaskId};
use guest_tests::verdict::{Failure, Outcome, Tally};
use guest_tests::{expect, expect_eq};
use protocols::Failure as Answer;
use protocols::names::Refusal as Denial;
use user_rt::ipc::Message;
use user_rt::names::{NameError, Service, ends_connection};
use user_rt::spawn::{Nursery, own};
use user_rt::{Refusal, arch, boot, heap, supervisor};

use crate::servers::{COUNT, HANG, Way, slot};

const HEAP_PAGES: u32 = 8;

/// A test, with its name.
type Test = (&'static str, fn() -> Outcome);

const ALL: [Test; 7] = [
    ("a_server_comes_back_without_memory", comes_back),
    ("clients_lose_their_connection", clients_are_disconnected),
    ("a_server_that_is_not_started_again_is_gone", mortal_is_gone),
    ("a_server_that_ends_too_often_is_gone", restless_is_gone),
    ("names_are_those_of_the_description", unknown_names),
    ("a_connection_can_be_left", leaves),
    ("a_server_that_hangs_is_started_again", hangs),
];

/// Tests all, and ends the system with the verdict.
pub fn ask() -> ! {
    let _ = supply_heap();
    let mut tally = Tally::default();
    for (name, test) in ALL {
        tally.add("systems", name, &test().into());
    }
    supervisor::finish(tally.passed, tally.failed)
}

/// Asks the first of many links, and ends the system with the verdict.
pub fn head() -> ! {
    let _ = supply_heap();
    let mut tally = Tally::default();
    tally.add("systems", "a_chain_of_processes_answers", &chain().into());
    supervisor::finish(tally.passed, tally.failed)
}

/// Supplies the heap out of the program's memory. Returns the rest of that.
pub fn supply_heap() -> Nursery {
    let mut nursery = Nursery::of_program(0);
    let added = heap::add(&own::vspace(), &mut nursery, HEAP_PAGES);
    added.unwrap_or_else(|refusal| panic!("no heap: {refusal}"));
    nursery
}

fn chain() -> Outcome {
    let links = boot::options().number("links", 1).unwrap_or(1);
    let first = connected("next", 0)?;
    for _ in 0..3 {
        expect_eq!(first.server(0).call(&Message::default())?.regs[0], links, "links that answered");
    }
    Ok(())
}

/// Connects by a name, or fails.
pub fn connected(name: &'static str, at: u32) -> Result<Service, Failure> {
    Service::connect(name, slot(at)).map_err(|error| Failure::Of(format!("connecting to {name}: {error:?}")))
}

pub fn reconnected(service: &mut Service, refusal: &Refusal) -> Outcome {
    let again = service.reconnect(refusal);
    again.map_err(|error| Failure::Of(format!("connecting to {} again: {error:?}", service.name())))
}

/// Lets a counter count. Returns how far it is, and its task.
pub fn count(service: &Service) -> user_rt::Result<(u64, TaskId)> {
    let message = Message { label: COUNT, ..Message::default() };
    let answer = service.server(0).call(&message)?;
    Ok((answer.regs[0], TaskId::from_raw(answer.regs[1])))
}

/// Makes a counter end, and returns the error of the call that it did not answer.
pub fn end(service: &Service, way: Way) -> Result<Refusal, Failure> {
    let message = Message { label: way as u32, ..Message::default() };
    let answer = service.server(0).call(&message);
    answer.err().ok_or(Failure::Of(format!("it has answered: {way:?}")))
}

fn comes_back() -> Outcome {
    let mut counter = connected("counter", 0)?;
    let mut last = TaskId::NONE;
    for way in Way::ALL {
        let (first, task) = count(&counter)?;
        expect_eq!((first, count(&counter)?.0), (1, 2), "counted, before {way:?}");
        expect!(task != last, "the same task after an end: {task:?}");
        last = task;
        let refusal = end(&counter, way)?;
        expect_eq!((refusal.error, refusal.who), (Error::Dead, task), "the end by {way:?}");
        let next = count(&counter).err();
        expect!(next.as_ref().is_some_and(ends_connection), "after {way:?}: {next:?}");
        reconnected(&mut counter, &refusal)?;
    }
    counter.leave().map_err(unexpected)
}

pub fn unexpected(error: NameError) -> Failure {
    Failure::Of(format!("{error:?}"))
}

/// Two connections to one server, by two names: only one of them sees the end in a call.
fn clients_are_disconnected() -> Outcome {
    let (mut one, mut other) = (connected("counter", 0)?, connected("witness", 1)?);
    count(&one)?;
    count(&other)?;
    let dead = end(&one, Way::Kill)?;
    reconnected(&mut one, &dead)?;
    let refusal = count(&other).err().ok_or(Failure::Of("it is connected".into()))?;
    expect_eq!(refusal.error, Error::NotMember, "the other connection");
    reconnected(&mut other, &refusal)?;
    expect_eq!(count(&one)?.0 + count(&other)?.0, 3, "one server again");
    one.leave().map_err(unexpected)?;
    other.leave().map_err(unexpected)
}

fn mortal_is_gone() -> Outcome {
    let mut mortal = connected("mortal", 0)?;
    count(&mortal)?;
    let dead = end(&mortal, Way::Fault)?;
    expect_eq!(dead.error, Error::Dead, "its end");
    expect_eq!(mortal.reconnect(&dead), Err(Answer::Refused(Denial::Gone)), "connecting again");
    Ok(())
}

/// Its description allows two restarts.
fn restless_is_gone() -> Outcome {
    let mut restless = connected("restless", 0)?;
    for _ in 0..2 {
        let dead = end(&restless, Way::Panic)?;
        reconnected(&mut restless, &dead)?;
        expect_eq!(count(&restless)?.0, 1, "started again");
    }
    let dead = end(&restless, Way::Panic)?;
    expect_eq!(restless.reconnect(&dead), Err(Answer::Refused(Denial::Gone)), "after the third end");
    Ok(())
}

fn unknown_names() -> Outcome {
    for name in ["", "log", "counters", "the-name-of-a-service-that-is-too-long"] {
        let refused = Service::connect(name, slot(0)).err();
        expect_eq!(refused, Some(Answer::Refused(Denial::Unknown)), "the name {name:?}");
    }
    for taken in [abi::Cap(0), abi::INIT_CNODE, abi::Cap(u32::MAX)] {
        let refused = Service::connect("counter", taken).err();
        expect_eq!(refused, Some(Answer::Refused(Denial::BadSlot)), "the slot {taken:?}");
    }
    let counter = connected("counter", 0)?;
    count(&counter)?;
    let refused = Service::connect("counter", slot(0)).err();
    expect_eq!(refused, Some(Answer::Refused(Denial::BadSlot)), "a slot that is taken");
    own::cnode().delete(slot(0))?;
    Ok(())
}

fn leaves() -> Outcome {
    let counter = connected("counter", 0)?;
    count(&counter)?;
    counter.leave().map_err(unexpected)?;
    let counter = connected("counter", 0)?;
    let other = connected("counter", 1)?;
    count(&other)?;
    other.leave().map_err(unexpected)?;
    expect_eq!(counter.leave(), Err(Answer::Refused(Denial::NotConnected)), "left twice");
    Ok(())
}

/// A server that gives signs of life is left alone, and one that stops is started again.
fn hangs() -> Outcome {
    let mut beater = connected("beater", 0)?;
    let (_, task) = count(&beater)?;
    let until = arch::now() + boot::facts().tsc_hz / 10;
    while arch::now() < until {
        expect_eq!(count(&beater)?.1, task, "the server, which works");
    }
    let message = Message { label: HANG, ..Message::default() };
    let refusal = beater.server(0).call(&message).err().ok_or(Failure::Of("it has answered".into()))?;
    expect_eq!((refusal.error, refusal.who), (Error::Dead, task), "the end of one that hangs");
    reconnected(&mut beater, &refusal)?;
    let (first, next) = count(&beater)?;
    expect_eq!(first, 1, "counted by its successor");
    expect!(next != task, "the same task");
    beater.leave().map_err(unexpected)
}
