//! CPU time: never lost, never doubled, with whom the rules say; and the right task runs.

use kern_base::cpu::CpuOwn;
use kern_base::reply::Reply;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{Stage, State};
use smp::door::Ref;
use smp::host_test;

use super::{Seen, View, hold, view};
use crate::world::{Mode, World};

pub fn check(world: &World, seen: &Seen) {
    for sc in seen.contexts() {
        context(world, sc);
    }
    for task in &seen.tasks {
        let task = view(*task);
        owner(&task);
        spends(&task);
        lender(&task);
        starving(&task);
        plain(world, &task);
    }
    for n in 0..world.cpus() {
        running(world, n);
    }
    if (0..world.cpus()).all(|n| !world.block(n).mailbox().has_mail()) {
        for task in &seen.tasks {
            neglected(&view(*task));
        }
    }
}

fn inside(sc: Ref<'static, SchedContext>) -> (usize, &'static SchedHot) {
    let home = sc.get().hot.home().index();
    (home, sc.get().hot.here(host_test::pin(home)))
}

fn context(world: &World, sc: Ref<'static, SchedContext>) {
    let (home, hot) = inside(sc);
    let pin = host_test::pin(home);
    let sched = &world.look(home).cpu.own().sched;
    let active = sched.current.is(sc) || sched.queue.contains(pin, sc);
    if let Some(owner) = hot.owner.get(pin).map(view) {
        let knows = owner.hot.own_sc.is(sc) || owner.is_dying() && owner.state != State::Dead;
        hold!(knows, "a context on cpu{home} is owned by {}, which does not know it", owner.name());
    }
    hold!(!(sched.current.is(sc) && sched.queue.contains(pin, sc)), "a context runs and is queued");
    let Some(holder) = hot.task.get(pin).map(view) else {
        hold!(!active, "a context is on cpu{home} for nobody");
        return;
    };
    let name = holder.name();
    let spent = holder.home == home && holder.hot.sc.is(sc) && !holder.has_lent();
    let own_rests = holder.home == home && holder.hot.own_sc.is(sc) && !holder.hot.sc.is(sc);
    let under_way = matches!(holder.msg.stage.get(), Stage::Out | Stage::Back | Stage::Ask | Stage::AskDone);
    let in_block = holder.msg_home == home && holder.msg.sc.is(sc) && (holder.home != home || under_way);
    hold!(spent || own_rests || in_block, "a context on cpu{home} is with {name}, which does not have it");
    let should = spent && holder.is_runnable();
    hold!(active == should, "a context of {name}: on the CPU or queued {active}, and should be {should}");
}

/// Owner and owned know each other.
fn owner(task: &View) {
    let Some(own) = task.hot.own_sc.get(host_test::pin(task.home)) else { return };
    let (home, hot) = inside(own);
    hold!(hot.owner.is(task.task), "{} owns time that does not know it", task.name());
    if (task.is_runnable() || task.receives()) && !task.is_dying() {
        let here = home == task.home && hot.task.is(task.task);
        hold!(here, "{} goes on without its own time", task.name());
    }
}

/// What a task thinks it spends is its.
fn spends(task: &View) {
    if task.has_lent() || task.is_dying() {
        return;
    }
    let Some(sc) = task.hot.sc.get(host_test::pin(task.home)) else { return };
    let (home, hot) = inside(sc);
    let its = home == task.home && hot.task.is(task.task);
    hold!(its, "{} has time that is another's", task.name());
}

fn lender(task: &View) {
    let Some(lender) = task.lender() else { return };
    let (name, of) = (task.name(), lender.name());
    if task.is_dying() {
        return;
    }
    hold!(lender.is_at_callee() || lender.is_dying(), "{name} has the time of {of}");
    hold!(lender.msg.callee.is(task.task), "{name} has the time of {of}, which calls another");
    // A fast reply gives the time back by leaving the lender's `sc` as it is.
    let spends = !task.awaits() && !task.hot.sc.is_null() && lender.home == task.home;
    hold!(!spends || lender.hot.sc.addr() == task.hot.sc.addr(), "{name} spends other time than {of} lent");
    let own = !task.hot.own_sc.is_null() && task.hot.own_sc.addr() == task.hot.sc.addr();
    hold!(task.awaits() || !own, "{name} spends its own time as that of {of}");
}

/// The callers of a task, wherever they are.
fn callers(task: &View) -> Vec<View> {
    let pin = host_test::pin(task.home);
    let kept_in = |r: Ref<'static, Reply>| r.get().hot.here(pin);
    let kept = core::iter::successors(task.hot.replies.get(pin), |r| kept_in(*r).next.get(pin));
    let callers = task.hot.caller.get(pin).into_iter().chain(task.hot.senders.iter(pin).map(|(_, t)| t));
    callers.chain(kept.filter_map(|r| kept_in(r).caller.get(pin))).map(view).collect()
}

/// Ready, alive and without time.
fn starves(task: &View) -> bool {
    task.is_runnable() && task.hot.sc.is_null() && !task.is_dying()
}

/// With no mail under way: who starves can't get any time from whoever waits for it, directly or not, on any
/// CPU.
fn neglected(task: &View) {
    if !starves(task) {
        return;
    }
    let (mut found, mut at) = (vec![*task], 0);
    while at < found.len() {
        for caller in callers(&found[at]) {
            let name = (task.name(), caller.name());
            if let Some(own) = caller.hot.own_sc.get(host_test::pin(caller.home)) {
                let rests = inside(own).1.task.is(caller.task) && !caller.is_dying();
                hold!(!rests, "{} is ready without time, and {} up its calls has some", name.0, name.1);
            }
            if !found.iter().any(|known| known.task == caller.task) {
                found.push(caller);
            }
        }
        at += 1;
    }
}

/// Who is ready and has no time can't get any here.
fn starving(task: &View) {
    if !starves(task) {
        return;
    }
    let pin = host_test::pin(task.home);
    hold!(task.hot.own_sc.is_null(), "{} is ready and has time, which it does not use", task.name());
    for caller in callers(task) {
        let here = caller.home == task.home;
        let sc = if here { &caller.hot.sc } else { &caller.msg.sc };
        let own = caller.hot.own_sc.get(pin).filter(|_| here).map(inside);
        let own = own.filter(|(home, own)| *home == task.home && own.task.is(caller.task));
        let rests = (!sc.is_null() || own.is_some()) && !caller.has_lent();
        hold!(!rests, "{} is ready without time while that of {} rests", task.name(), caller.name());
    }
}

/// The plain bit says what it should.
fn plain(world: &World, task: &View) {
    if !task.hot.is_plain() {
        return;
    }
    let (name, pin) = (task.name(), host_test::pin(task.home));
    hold!(!world.look(task.home).hot.current.is(task.task), "{name} runs and is plain");
    hold!(
        !task.hot.sc.is_null() && task.hot.regs.full.get() == 0,
        "{name} is plain, without time or its whole frame"
    );
    match task.state {
        State::WaitBits => {
            hold!(!task.hot.deadline.is_queued(), "{name} is plain and has a deadline");
            hold!(
                task.hot.sc.get(pin) == task.hot.own_sc.get(pin),
                "{name} is plain and waits with borrowed time"
            );
        }
        other => hold!(other == State::Ready, "{name} is plain in {other:?}"),
    }
}

/// The best runs, and a CPU that idles has nothing to run.
fn running(world: &World, n: usize) {
    let pin = host_test::pin(n);
    let CpuOwn { hot, sched } = world.look(n).cpu.own();
    let current = sched.current.get(pin).map(|sc| inside(sc).1);
    let task = current.and_then(|sc| sc.task.get(pin));
    hold!(task == hot.current.get(pin), "cpu{n}: running task and running context disagree");
    if let Some(task) = task.map(view) {
        hold!(task.is_runnable() && task.home == n, "cpu{n} runs {}", task.name());
    }
    let priority = current.map(|sc| sc.state.priority());
    if let Some(best) = sched.queue.iter(pin).map(|(priority, _)| priority).max() {
        hold!(priority.is_some_and(|p| p >= best), "cpu{n} runs priority {priority:?}, and {best} is queued");
        let armed = world.k.machine.hardware().timers.contains_key(&n);
        hold!(priority != Some(best) || armed, "cpu{n}: equals wait, and no timer will end the slice");
    }
    let parked = world.mode(n) != Mode::User;
    hold!(parked == current.is_none(), "cpu{n} is parked {parked}");
    hold!(sched.idle.get() == parked, "cpu{n} is parked {parked}, and idle {}", sched.idle.get());
}
