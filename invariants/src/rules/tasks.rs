//! Tasks: each task's links and fields fit its state.

use snapshot::{MailKind, Stage, State};

use crate::facts::{Facts, awaits, awaits_here, name_of, receives};
use crate::lists::Links;
use crate::report::Findings;
use crate::rules::calls::PENDING_MOVE;

const PENDING_BITS: u32 = 1 << 1;

fn links(f: &Facts<'_>, task: &snapshot::Task) -> Links {
    f.linked.map(|linked| linked.of(f, task)).unwrap_or_default()
}

/// A task's state word names its home. One that is being killed does not run. One that has faulted
/// waits for an answer, with all its registers. One whose call is on its own CPU has its message
/// block there. One that receives has nothing to receive.
pub fn states(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let name = || name_of(task);
        let known = task.state_home == task.home || task.under_way;
        hold!(out, known, "{} has cpu{} in its state", name(), task.state_home);
        if task.ending {
            hold!(
                out,
                task.suspended || task.state == State::Dead,
                "{} is being killed, and may run",
                name()
            );
            continue;
        }
        if task.in_fault {
            hold!(
                out,
                awaits(task) && task.deadline_rank == 0,
                "{} has faulted, and waits for no answer",
                name()
            );
            hold!(out, task.full_frame, "{} has faulted, and its frame is not whole", name());
        }
        if awaits_here(task) {
            hold!(out, task.message_home == task.home, "{}: its message is away", name());
            let callee = f.task(task.callee);
            let here = callee.is_some_and(|callee| callee.home == task.home);
            hold!(out, here || f.follows(task), "{} calls {} locally", name(), f.name(task.callee));
            let kept = task.held != 0;
            hold!(out, kept == (links(f, task).replies > 0), "{}: kept or not", name());
        }
        if task.state == State::AwaitRemote {
            let away = matches!(task.stage, Stage::Out | Stage::Back | Stage::Queued | Stage::Owed);
            hold!(out, away, "{} waits for a message that goes nowhere", name());
        }
        hold!(
            out,
            task.state != State::WaitBits || task.waits_for != 0,
            "{} waits for no Notification",
            name()
        );
        if receives(task) && !task.suspended {
            hold!(out, task.senders == 0 || task.receives_on, "{} receives while callers are queued", name());
            let bits = task.pending & PENDING_BITS != 0;
            hold!(
                out,
                !bits || f.time(task).is_none(),
                "{} receives while its Notification has bits",
                name()
            );
        }
    }
}

/// A task has the security label of its process, unless nobody has told the task of a new one yet.
/// The fastpath of a CPU switches only to tasks with the label of the task that runs.
pub fn labels(f: &Facts<'_>, out: &mut Findings) {
    let settled = !f.any_busy() && !f.kernel.spaces_locked;
    for task in f.steady_tasks().filter(|task| settled && !task.ending && !task.label_comes) {
        let told = f.process(task.process).filter(|process| task.number < process.label_told);
        hold!(
            out,
            told.is_none_or(|process| process.label == task.state_label),
            "{} has label {}, and its process another",
            name_of(task),
            task.state_label
        );
        hold!(
            out,
            told.is_none_or(|process| process.label == task.label),
            "{} is an object of label {}, and its process another",
            name_of(task),
            task.label
        );
    }
    for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy) {
        let (n, labels) = (cpu.id, cpu.expects_labels);
        let fits = match f.task(cpu.current) {
            Some(task) => labels == 1 << task.state_label,
            None => labels.count_ones() <= 1,
        };
        hold!(out, fits, "cpu{n}: the fastpath switches to tasks with labels {labels:#x}");
    }
}

/// A task that is under way to another CPU stands still: it is ready or receives, and is suspended
/// meanwhile, or it is new and goes to who configures it. It is in the mailbox there, and takes its
/// message block, its CPU time and its Notification with it. Nothing else is under way.
pub fn moves(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let moves = task.under_way;
        let name = || name_of(task);
        let parts = [
            Some((task.message_under_way, task.message_home)),
            f.context(task.own_context).map(|own| (own.under_way, own.home)),
            f.notification(task.bound).map(|bound| (bound.under_way, bound.home)),
        ];
        for (under_way, home) in parts.into_iter().flatten() {
            let fits = under_way == moves && (home == task.home || !moves);
            hold!(out, fits, "{} moves {moves}, and a part of it to cpu{home} {under_way}", name());
        }
        if moves {
            let may = matches!(task.state, State::Ready | State::Recv | State::RecvTimed) && task.suspended;
            let made = task.state == State::Fresh && task.process == 0;
            hold!(out, may || made, "{} moves, and does not stand still", name());
            let owes = task.caller | task.replies | task.borrowed;
            hold!(out, owes == 0, "{} moves in the middle of a call", name());
            let callers = task.senders | task.posters | task.lock_waiters;
            hold!(out, callers == 0, "{} moves with its callers", name());
            let about = |mail: &snapshot::Mail| mail.kind == MailKind::Arrival && mail.about == task.at;
            let sent = f.s.mails.iter().any(|mail| about(mail) && mail.cpu == task.home);
            hold!(out, sent || f.any_busy(), "{} moves, and is in no mailbox", name());
        }
    }
    let moves = |at| f.task(at).is_some_and(|task| task.under_way || !f.is_steady(task));
    for context in f.s.contexts.iter().filter(|context| context.under_way && !f.is_busy(context.home)) {
        hold!(out, moves(context.owner), "SchedContext {:#x} moves, and no owner", context.at);
    }
    for object in f.s.notifications.iter().filter(|object| object.under_way && !f.is_busy(object.home)) {
        hold!(
            out,
            moves(object.bound),
            "Notification {:#x} moves, and no task that it is bound to",
            object.at
        );
    }
}

/// Each task of a process has a place on the CPU where it is to run, and on the one that it is
/// still to leave. A parked CPU has no task.
pub fn residents(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for cpu in &f.s.cpus {
        let leaves = |task: &snapshot::Task| task.pending & PENDING_MOVE != 0 && task.home == cpu.id;
        let places = |task: &snapshot::Task| u32::from(task.starts_on == cpu.id) + u32::from(leaves(task));
        let there: u32 = f.s.tasks.iter().filter(|task| task.process != 0).map(places).sum();
        hold!(out, cpu.residents == there, "cpu{} has {} tasks, and counts {}", cpu.id, there, cpu.residents);
        hold!(out, !cpu.parked || there == 0, "cpu{} is parked, and has {there} tasks", cpu.id);
    }
}

/// A task that is to make its system call again waits for one thing: for the answer to a request,
/// where its message block is with it or with who asks for it, or for a grace period.
pub fn waiting(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let links = links(f, task);
        let grace = links.grace == task.home + 1;
        let restarts = task.state == State::Restart;
        hold!(out, links.grace == 0 || grace && restarts, "{} waits for a grace period", name_of(task));
        if restarts && !task.ending {
            let asks = matches!(task.stage, Stage::Ask | Stage::AskDone | Stage::Kept);
            hold!(out, asks != grace, "{}: asks {asks}, waits for a grace period {grace}", name_of(task));
            let nobody = !asks || task.callee == 0;
            hold!(
                out,
                nobody,
                "{} has a request with a reference to an object that may die meanwhile",
                name_of(task)
            );
        }
        let kept_on = links.shootdown.max(links.unanswered);
        let kept = links.victim != 0 || kept_on == task.message_home + 1;
        let waits = task.stage == Stage::Kept;
        hold!(out, kept == waits, "{} waits for a death or a shootdown, or is listed so", name_of(task));
        hold!(out, links.queues <= 1, "{} is in {} queues", name_of(task), links.queues);
        let queued = (task.queue_place != 0) == (links.queues == 1);
        hold!(out, queued, "{} has place {} in {} queues", name_of(task), task.queue_place, links.queues);
        if task.queue_place == 0 {
            let free = task.queue_next | task.queue_prev | task.queue_lower | task.queue_higher == 0;
            hold!(out, free, "{} is in no queue, and has neighbours", name_of(task));
        }
    }
}

/// A task has a deadline exactly where its state says so, in the heap of its home CPU.
pub fn deadlines(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let timed = task.deadline_rank != 0;
        let listed = links(f, task).deadline == task.home + 1;
        hold!(
            out,
            timed == listed,
            "{} has rank {}, and is in the heap {listed}",
            name_of(task),
            task.deadline_rank
        );
        let must = match task.state {
            _ if task.ending || task.under_way => Some(false),
            State::RecvTimed | State::AwaitTimed | State::Exhausted => Some(true),
            State::Sending | State::AwaitRemote | State::WaitBits => None,
            _ => Some(false),
        };
        hold!(out, must.is_none_or(|must| must == timed), "{}: deadline {timed}", name_of(task));
    }
}

/// A dead task is linked nowhere, and has its message block. A task that ends before it has a
/// process is marked as dead, and stays what it was.
pub fn dead_tasks(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks().filter(|task| task.state == State::Dead) {
        let name = || name_of(task);
        let own = [task.process, task.borrowed, task.own_context, task.caller, task.owner, task.space];
        hold!(out, own.iter().all(|at| *at == 0), "{} is linked: {own:x?}", name());
        let clients = [task.replies, task.senders, task.posters, task.lock_waiters, task.death_waiters];
        hold!(out, clients.iter().all(|at| *at == 0), "{} has clients: {clients:x?}", name());
        hold!(out, task.bound | task.waits_for == 0, "{} has Notifications", name());
        hold!(out, task.message_home == task.home, "{}: its message is away", name());
        hold!(out, task.dead, "{} is not marked", name());
    }
    for task in f.steady_tasks().filter(|task| task.dead) {
        let is_new = task.state == State::Fresh && task.process == 0;
        hold!(out, task.state == State::Dead || is_new, "{} is marked as dead", name_of(task));
    }
}
