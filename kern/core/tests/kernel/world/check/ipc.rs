//! Every blocked task is linked exactly where its state says, and nobody else is.

use abi::Error;
use kern_base::header::FLAG_DEAD;
use kern_base::notification::Notification;
use kern_base::reply::{Reply, ReplyHot};
use kern_base::task::{PENDING_BITS, PENDING_FAULT, PENDING_SENDERS, Stage, State, ctl};
use smp::door::Ref;
use smp::host_test;

use super::{Seen, View, hold, view};
use crate::world::World;

pub fn check(world: &World, seen: &Seen) {
    for task in &seen.tasks {
        let task = view(*task);
        state(world, &task);
        block(&task);
        pending(&task);
        clients(&task);
        if task.state == State::Dead {
            dead(&task);
        }
    }
    for n in 0..world.cpus() {
        deadlines(world, n);
    }
    for object in seen.objects::<Notification>() {
        notification(object);
    }
    for reply in seen.objects::<Reply>() {
        self::reply(reply);
    }
}

fn inside(reply: Ref<'static, Reply>) -> &'static ReplyHot {
    reply.get().hot.here(host_test::pin(reply.get().hot.home().index()))
}

/// How many times the callee knows of a call: as served, queued, or kept.
fn known_as(caller: &View, callee: &View) -> (bool, bool, bool) {
    let pin = host_test::pin(callee.home);
    let served = callee.hot.caller.is(caller.task);
    let queues = [&callee.hot.senders, &callee.hot.posters];
    let queued = queues.iter().any(|queue| queue.iter(pin).any(|(_, t)| t == caller.task));
    let kept = core::iter::successors(callee.hot.replies.get(pin), |r| inside(*r).next.get(pin))
        .any(|r| inside(r).caller.is(caller.task));
    (served, queued, kept)
}

fn state(world: &World, task: &View) {
    let name = task.name();
    let timed = task.hot.deadline.is_queued();
    if task.is_dying() {
        hold!(!timed, "{name} is dying with a deadline");
        hold!(task.is_suspended() || task.state == State::Dead, "{name} is dying and may run");
        return;
    }
    if task.is_in_fault() {
        hold!(task.awaits() && !timed, "{name} has faulted, and waits for no answer");
        hold!(task.hot.regs.full.get() == 1, "{name} has faulted, and its frame is not whole");
    }
    match task.state {
        State::Sending | State::Await | State::AwaitTimed => {
            hold!(task.msg_home == task.home, "{name}: its message is away");
            let Some(callee) = task.callee() else { panic!("invariant: {name} calls nobody") };
            hold!(callee.home == task.home, "{name} calls {} locally", callee.name());
            let known = known_as(task, &callee);
            let queued = task.state == State::Sending;
            hold!(
                known.1 == queued && (known.0 || known.2) != queued,
                "{name} is known to {} as {known:?}",
                callee.name()
            );
            hold!(known.2 != task.msg.held.is_null(), "{name}: kept or not by {}", callee.name());
        }
        State::AwaitRemote => {
            let stage = task.msg.stage.get();
            let away = matches!(stage, Stage::Out | Stage::Back | Stage::Queued | Stage::Owed);
            hold!(away, "{name} waits for a message that goes nowhere");
        }
        State::WaitBits => {
            let object = task.hot.waits_for.get(host_test::pin(task.home));
            let Some(object) = object else { panic!("invariant: {name} waits for no Notification") };
            let hot = object.get().hot.here(host_test::pin(task.home));
            hold!(
                hot.waiter.is(task.task) && hot.bits.get() == 0,
                "{name} waits for bits that are there, or unknown"
            );
            hold!(!object.get().header.has_flag(FLAG_DEAD), "{name} waits for a dead Notification");
        }
        State::Restart => {
            let asks = matches!(task.msg.stage.get(), Stage::Ask | Stage::AskDone | Stage::Mourning);
            let waits = waits_for_grace(world, task);
            hold!(asks != waits, "{name}: asks {asks}, waits for a grace period {waits}");
            hold!(
                !asks || task.msg.callee.is_null(),
                "{name} asks, with a reference to who may die meanwhile"
            );
        }
        State::Recv | State::RecvTimed if !task.is_suspended() => {
            // Unless it has refused many, and goes on by mail.
            let goes_on = task.task.get().ctl.glance() & ctl::RECEIVE != 0;
            let nothing = task.hot.senders.is_empty() || goes_on;
            hold!(nothing, "{name} receives while callers are queued");
            let bits = task.hot.pending.get() & PENDING_BITS != 0;
            hold!(!bits || task.hot.sc.is_null(), "{name} receives while its Notification has bits");
        }
        State::Fresh | State::Ready | State::Recv | State::RecvTimed | State::Faulted | State::Dead => {}
    }
    let may = match task.state {
        State::RecvTimed | State::AwaitTimed => Some(true),
        State::Sending | State::AwaitRemote | State::WaitBits => None,
        _ => Some(false),
    };
    hold!(may.is_none_or(|must| must == timed), "{name}: deadline {timed}");
}

fn waits_for_grace(world: &World, task: &View) -> bool {
    let pin = host_test::pin(task.home);
    let next = |t: &Ref<'static, kern_base::task::Task>| t.get().hot.here(pin).wait_next.get(pin);
    core::iter::successors(world.look(task.home).sched.grace_waiters.get(pin), next).any(|t| t == task.task)
}

/// Message block and node are where they belong.
fn block(task: &View) {
    let name = task.name();
    let home = task.state != State::AwaitRemote && task.state != State::Restart && !task.is_dying();
    if home {
        hold!(task.msg_home == task.home, "{name}: its message is on cpu{}", task.msg_home);
        hold!(task.task.get().msg_node.is_here(host_test::pin(task.home)), "{name}: its node is under way");
    }
    let rests = matches!(task.msg.stage.get(), Stage::Queued | Stage::Owed | Stage::Mourning);
    if rests && !home {
        hold!(
            task.task.get().msg_node.is_here(host_test::pin(task.msg_home)),
            "{name}: its node is not with its message"
        );
    }
    if task.state == State::AwaitRemote && rests && !task.is_dying() {
        let Some(callee) = task.callee() else { panic!("invariant: {name} calls nobody") };
        hold!(callee.home == task.msg_home, "{name}: its message is not with {}", callee.name());
        let known = known_as(task, &callee);
        let queued = task.msg.stage.get() == Stage::Queued;
        hold!(
            known.1 == queued && (known.0 || known.2) != queued,
            "{name} is known to {} as {known:?}",
            callee.name()
        );
    }
}

/// What `pending` says, so that a receive never overlooks anything.
fn pending(task: &View) {
    let name = task.name();
    let pending = task.hot.pending.get();
    if task.state == State::Dead {
        return;
    }
    let senders = !task.hot.senders.is_empty();
    hold!((pending & PENDING_SENDERS != 0) == senders, "{name}: pending senders, and queue {senders}");
    let serves = task.hot.caller.get(host_test::pin(task.home)).map(view);
    let fault = serves.is_some_and(|caller| caller.is_in_fault());
    hold!((pending & PENDING_FAULT != 0) == fault, "{name}: a fault is pending, and it serves {fault}");
    let bound = task.hot.bound.get(host_test::pin(task.home));
    let bits = bound.map_or(0, |n| n.get().hot.here(host_test::pin(task.home)).bits.get());
    hold!((pending & PENDING_BITS != 0) == (bits != 0), "{name}: pending bits, and {bits:#x} are there");
}

/// Those whom a task owes an answer wait for it.
fn clients(task: &View) {
    let pin = host_test::pin(task.home);
    let served = task.hot.caller.get(pin).into_iter();
    let queued = task.hot.senders.iter(pin).chain(task.hot.posters.iter(pin)).map(|(_, t)| t);
    for caller in served.chain(queued) {
        let caller = view(caller);
        hold!(caller.msg.callee.is(task.task), "{} has {}, which calls another", task.name(), caller.name());
        let ended = caller.is_dying() && caller.msg_home == caller.home && caller.home != task.home;
        hold!(
            !ended && (caller.is_at_callee() || caller.is_dying()),
            "{} has {}",
            task.name(),
            caller.name()
        );
    }
    for reply in core::iter::successors(task.hot.replies.get(pin), |r| inside(*r).next.get(pin)) {
        hold!(inside(reply).server.is(task.task), "{} lists a Reply of another", task.name());
        hold!(!reply.get().header.has_flag(FLAG_DEAD), "{} lists a dead Reply", task.name());
        let caller = inside(reply).caller.get(pin).map(view);
        let Some(caller) = caller else { panic!("invariant: {} lists an empty Reply", task.name()) };
        hold!(caller.msg.held.is(reply), "{} does not know that its call is kept", caller.name());
    }
}

fn dead(task: &View) {
    let (name, hot) = (task.name(), task.hot);
    let linked = [hot.process.is_null(), hot.sc.is_null(), hot.own_sc.is_null(), hot.caller.is_null()];
    hold!(linked.iter().all(|null| *null), "{name} is linked: {linked:?}");
    hold!(hot.replies.is_null() && hot.senders.is_empty() && hot.mourners.is_empty(), "{name} has clients");
    hold!(hot.posters.is_empty(), "{name} has senders that wait for room");
    hold!(hot.bound.is_null() && hot.waits_for.is_null(), "{name} has Notifications");
    hold!(task.msg_home == task.home, "{name}: its message is away");
    hold!(task.task.get().header.has_flag(FLAG_DEAD), "{name} is not marked");
}

fn deadlines(world: &World, n: usize) {
    let sched = &world.look(n).cpu.own().sched;
    let mut soonest = u64::MAX;
    for (at, task) in sched.deadlines.iter(host_test::pin(n)) {
        let task = view(task);
        soonest = soonest.min(at);
        hold!(task.home == n, "{} has its deadline on cpu{n}", task.name());
    }
    hold!(sched.deadlines.soonest() == soonest, "cpu{n}: the soonest deadline is {soonest}");
    let armed = world.k.machine.hardware().timers.get(&n).copied().unwrap_or(u64::MAX);
    hold!(armed <= soonest, "cpu{n}: a deadline at {soonest}, the timer at {armed}");
}

fn notification(object: Ref<'static, Notification>) {
    let home = object.get().hot.home().index();
    let pin = host_test::pin(home);
    let hot = object.get().hot.here(pin);
    if let Some(waiter) = hot.waiter.get(pin).map(view) {
        hold!(
            waiter.state == State::WaitBits && waiter.hot.waits_for.is(object),
            "a Notification has {}",
            waiter.name()
        );
    }
    if let Some(bound) = hot.bound.get(pin).map(view) {
        hold!(
            bound.home == home && bound.hot.bound.is(object),
            "a Notification is bound to {}",
            bound.name()
        );
    }
}

fn reply(reply: Ref<'static, Reply>) {
    let hot = inside(reply);
    hold!(hot.caller.is_null() == hot.server.is_null(), "a Reply knows one side only");
    let pin = host_test::pin(reply.get().hot.home().index());
    if let Some(caller) = hot.caller.get(pin).map(view) {
        let gone = caller.hot.recall.get() == Error::Dying as u8;
        hold!(caller.is_at_callee() || gone, "a Reply keeps the call of {}", caller.name());
    }
}
