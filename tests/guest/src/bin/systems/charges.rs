//! Tests of pagers and scheduling policies that end, and of the processes in their charge.

use alloc::format;

use guest_tests::verdict::{Failure, Outcome, Tally};
use guest_tests::{expect, expect_eq};
use policy_core::orders::{Order, Verdict, Wish};
use protocols::Failure as Answer;
use protocols::manager::{Client, Refusal as Denied};
use protocols::names::Refusal as Denial;
use user_rt::cap::Notification;
use user_rt::ipc::Message;
use user_rt::names::{Service, ends_connection};
use user_rt::paging::Denial as NoPages;
use user_rt::supervisor::to_parent;
use user_rt::talk::Line;
use user_rt::{Refusal, arch, boot, supervisor};

use crate::asker::{connected, count, end, reconnected, supply_heap, unexpected};
use crate::killer::starts;
use crate::servers::{COUNT, GREEDY, Way, sleep};

/// A test, with its name.
type Test = (&'static str, fn(&Notification) -> Outcome);

const ALL: [Test; 6] = [
    ("clients_of_a_pager_have_memory", have_memory),
    ("a_client_that_is_started_again_gets_new_memory", new_memory),
    ("clients_end_with_their_pager", end_together),
    ("without_a_pager_nothing_starts", no_pager),
    ("a_policy_places_processes", places),
    ("a_policy_knows_its_own_tasks_only", orders),
];

/// Restarts of a client: together its predecessors have had more memory than the pager has.
const RESTARTS: u32 = 12;
/// Calls that are counted, more than a hoard's region has pages.
const CALLS: u64 = 40;
/// Seconds until a task is where its policy wants it, or a process is started.
const PATIENCE_S: u64 = 10;

/// Tests all, and ends the system with the verdict.
pub fn judge() -> ! {
    let mut nursery = supply_heap();
    let bell = nursery.make(0).unwrap_or_else(|refusal| panic!("no Notification: {refusal}"));
    let mut tally = Tally::default();
    for (name, test) in ALL {
        tally.add("systems", name, &test(&bell).into());
    }
    supervisor::finish(tally.passed, tally.failed)
}

fn parent() -> Client<Line> {
    Client(to_parent())
}

fn kill(name: &str) -> Outcome {
    let killed = parent().kill(|mut kill| kill.set_name(name));
    killed.map_err(|error| Failure::Of(format!("killing {name}: {error:?}")))
}

/// Waits until something is so.
fn until(bell: &Notification, what: &str, is: impl Fn() -> Result<bool, Failure>) -> Outcome {
    let end = arch::now() + PATIENCE_S * boot::facts().tsc_hz;
    while !is()? {
        expect!(arch::now() < end, "{what}: not after {PATIENCE_S} s");
        sleep(bell, boot::ticks(500));
    }
    Ok(())
}

/// Counts, and sees that it is the first calls of a new server.
fn count_from_one(service: &Service, calls: u64) -> Outcome {
    for expected in 1..=calls {
        expect_eq!(count(service)?.0, expected, "counted by {}", service.name());
    }
    Ok(())
}

/// Each hoard sees that its pages have what it has written, and new ones zeroes.
fn have_memory(_: &Notification) -> Outcome {
    let (hoard, other) = (connected("hoard", 0)?, connected("other", 1)?);
    for expected in 1..=CALLS {
        expect_eq!((count(&hoard)?.0, count(&other)?.0), (expected, expected), "counted");
    }
    let message = Message { label: GREEDY, ..Message::default() };
    let denied = hoard.server(0).call(&message)?.regs[0];
    expect_eq!(denied, NoPages::Limit as u64, "more pages than its description allows");
    other.leave().map_err(unexpected)?;
    hoard.leave().map_err(unexpected)
}

fn new_memory(_: &Notification) -> Outcome {
    let mut hoard = connected("hoard", 0)?;
    let before = starts("pager");
    for _ in 0..RESTARTS {
        let refusal = end(&hoard, Way::Kill)?;
        reconnected(&mut hoard, &refusal)?;
        count_from_one(&hoard, CALLS)?;
    }
    expect_eq!(starts("pager"), before, "starts of the pager");
    hoard.leave().map_err(unexpected)
}

/// Only one of the two clients is to be started again.
fn end_together(_: &Notification) -> Outcome {
    let (mut hoard, mut other) = (connected("hoard", 0)?, connected("other", 1)?);
    let before = starts("pager");
    kill("pager")?;
    let refusal = lost(&other)?;
    expect_eq!(other.reconnect(&refusal), Err(Answer::Refused(Denial::Gone)), "the one that stays ended");
    let refusal = lost(&hoard)?;
    reconnected(&mut hoard, &refusal)?;
    count_from_one(&hoard, CALLS)?;
    expect_eq!(starts("pager"), before + 1, "starts of the pager");
    start("other-hoard")?;
    let other = connected("other", 1)?;
    count_from_one(&other, CALLS)?;
    other.leave().map_err(unexpected)?;
    hoard.leave().map_err(unexpected)
}

/// Returns the error of a call by a connection that has ended.
fn lost(service: &Service) -> Result<Refusal, Failure> {
    let refusal = count(service).err().ok_or(Failure::Of(format!("{} answers", service.name())))?;
    expect!(ends_connection(&refusal), "{}: {refusal}", service.name());
    Ok(refusal)
}

fn start(name: &str) -> Outcome {
    let started = parent().start(|mut start| start.set_name(name));
    started.map_err(|error| Failure::Of(format!("starting {name}: {error:?}")))
}

/// The pager is not to be started again, and its client is.
fn no_pager(_: &Notification) -> Outcome {
    let mut hoard = connected("last", 0)?;
    count_from_one(&hoard, CALLS)?;
    kill("last-pager")?;
    let refusal = lost(&hoard)?;
    expect_eq!(hoard.reconnect(&refusal), Err(Answer::Refused(Denial::Gone)), "its client");
    let refused = parent().start(|mut start| start.set_name("last-hoard"));
    expect!(matches!(refused, Err(Answer::Refused(Denied::NoPager))), "starting it alone: {refused:?}");
    start("last-pager")?;
    start("last-hoard")?;
    let hoard = connected("last", 0)?;
    count_from_one(&hoard, CALLS)?;
    hoard.leave().map_err(unexpected)
}

/// Returns the CPU of a counter.
fn cpu_of(service: &Service) -> user_rt::Result<u64> {
    let message = Message { label: COUNT, ..Message::default() };
    Ok(service.server(0).call(&message)?.regs[2])
}

/// The description lets all begin on CPU 0.
fn places(bell: &Notification) -> Outcome {
    let (first, mut second) = (connected("first", 0)?, connected("second", 1)?);
    let there = 1 % boot::facts().cpus as u64;
    until(bell, "the second is placed", || Ok(cpu_of(&second)? == there))?;
    expect_eq!(cpu_of(&first)?, 0, "the CPU of the first");
    for policy_ends in [false, true, false] {
        if policy_ends {
            let before = starts("policy");
            kill("policy")?;
            until(bell, "the policy is started again", || Ok(starts("policy") == before + 1))?;
        }
        let refusal = end(&second, Way::Kill)?;
        reconnected(&mut second, &refusal)?;
        until(bell, "its successor is placed", || Ok(cpu_of(&second)? == there))?;
    }
    second.leave().map_err(unexpected)?;
    first.leave().map_err(unexpected)
}

/// Sends a policy an order, and returns its verdict.
fn ask(policy: &Service, order: Order) -> user_rt::Result<u32> {
    let (label, regs) = order.words();
    Ok(policy.server(0).call(&Message { label, regs, ..Message::default() })?.label)
}

fn orders(_: &Notification) -> Outcome {
    let mut policy = connected("policy", 0)?;
    let wish = Wish { number: 5, priority: 1, stays: true, slice: 1_000_000, budget: 0, period: 0 };
    for order in [Order::Manage(wish), Order::Manage(Wish { number: 0, ..wish }), Order::Forget { number: 0 }]
    {
        expect_eq!(
            ask(&policy, order)?,
            Verdict::BadOrder as u32,
            "an order to manage what it manages itself"
        );
    }
    expect_eq!(ask(&policy, Order::Report)?, Verdict::Done as u32, "a report");
    kill("policy")?;
    let refusal = ask(&policy, Order::Report).err().ok_or(Failure::Of("it lives".into()))?;
    reconnected(&mut policy, &refusal)?;
    expect_eq!(ask(&policy, Order::Report)?, Verdict::Done as u32, "a report of its successor");
    policy.leave().map_err(unexpected)
}
