//! Calls: message blocks are where they belong, and callees know their callers.

use snapshot::{MailKind, Stage, State, Task};

use crate::facts::{Facts, is_at_callee, name_of};
use crate::report::Findings;
use crate::rules::is_shell;

const PENDING_SENDERS: u32 = 1 << 0;
const PENDING_BITS: u32 = 1 << 1;
const PENDING_FAULT: u32 = 1 << 2;
pub const PENDING_MOVE: u32 = 1 << 3;

/// A task that has its message block has its mailbox node. Where the block rests with another CPU,
/// the node does too, and the callee is of that CPU.
pub fn message_blocks(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks() {
        let name = || name_of(task);
        let home = task.state != State::AwaitRemote && task.state != State::Restart && !task.ending;
        if home {
            hold!(
                out,
                task.message_home == task.home,
                "{}: its message is on cpu{}",
                name(),
                task.message_home
            );
            let here = task.message_node == task.home;
            hold!(out, here || task.under_way, "{}: its node is under way", name());
        }
        let rests = matches!(task.stage, Stage::Queued | Stage::Owed | Stage::Kept);
        if rests && !home {
            hold!(
                out,
                task.message_node == task.message_home,
                "{}: its node is not with its message",
                name()
            );
        }
        if task.state == State::AwaitRemote && rests && !task.ending {
            let there = f.task(task.callee).is_some_and(|callee| callee.home == task.message_home);
            hold!(
                out,
                there || f.follows(task),
                "{}: its message is not with {}",
                name(),
                f.name(task.callee)
            );
        }
    }
}

/// A call or event that has to follow its receiver waits. As long as there are such calls on a CPU,
/// one is in that CPU's own mailbox, and nowhere else is one that was sent.
pub fn followers(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for task in &f.s.tasks {
        let links = f.linked.map(|linked| linked.of(f, task)).unwrap_or_default();
        if links.follows == 0 {
            continue;
        }
        let (name, n) = (|| name_of(task), links.follows - 1);
        let waits = match task.state {
            State::Sending => task.home == n,
            _ => task.home != n && (task.state == State::AwaitRemote || task.ending),
        };
        let is_queued = waits && task.stage == Stage::Queued && task.held == 0;
        hold!(out, is_queued, "{} follows from cpu{n}, and does not wait", name());
        let known = f.task(task.callee).is_some() || is_shell(f, task.callee);
        hold!(out, known, "{} follows nobody", name());
    }
    for cpu in &f.s.cpus {
        let (n, sent) = (cpu.id, f.task(cpu.sent_follower));
        let waits = cpu.first_followers | cpu.followers != 0;
        hold!(out, !waits || sent.is_some(), "cpu{n} keeps calls that follow, and sends none");
        let Some(sent) = sent else { continue };
        let about = |mail: &snapshot::Mail| mail.kind == MailKind::Message && mail.about == sent.at;
        let there = f.s.mails.iter().any(|mail| about(mail) && mail.cpu == n);
        hold!(out, there && sent.stage == Stage::Out, "{} is not in the mailbox of cpu{n}", name_of(sent));
    }
}

/// What a task notes as pending is there, so that a receive overlooks nothing: callers, bits of the
/// bound Notification, a fault of the caller that it serves, a move to another CPU.
pub fn pending(f: &Facts<'_>, out: &mut Findings) {
    for task in f.steady_tasks().filter(|task| task.state != State::Dead) {
        let name = || name_of(task);
        let is = |bit: u32| task.pending & bit != 0;
        // One that ends has told its callers some entries before it is done with that.
        let told = task.ending && task.senders == 0;
        let senders = is(PENDING_SENDERS) == (task.senders != 0);
        hold!(out, senders || told, "{}: pending senders, and a queue", name());
        let caller = f.task(task.caller).filter(|caller| f.is_steady(caller) || task.caller == 0);
        let fault = caller.is_some_and(|caller| caller.in_fault);
        let known = caller.is_some() || task.caller == 0;
        hold!(
            out,
            is(PENDING_FAULT) == fault || !known,
            "{}: a fault is pending, and it serves {fault}",
            name()
        );
        let bits = f.notification(task.bound).map_or(0, |bound| bound.bits);
        hold!(out, is(PENDING_BITS) == (bits != 0), "{}: pending bits, and {bits:#x} are there", name());
        let is_away = task.starts_on != task.home;
        hold!(out, is_away || !is(PENDING_MOVE), "{}: is to move to where it is", name());
    }
}

/// Each caller whose call a task has waits for that task: the caller that it serves, those in its
/// queues, those that Replies keep.
pub fn clients(f: &Facts<'_>, out: &mut Findings) {
    for caller in f.steady_tasks() {
        let Some(links) = f.linked.map(|linked| linked.of(f, caller)) else { return };
        let servers = [links.server, links.callee, links.reader, links.lock_owner];
        for server in servers.into_iter().filter(|at| *at != 0) {
            let Some(server) = f.task(server) else { continue };
            waits(f, server, caller, out);
        }
        let places = links.servers + links.replies;
        hold!(out, places <= 1, "{} is served, or kept, {places} times", name_of(caller));
        if links.replies != 0 && !caller.ending {
            hold!(out, caller.held == links.reply, "{} does not know that its call is kept", name_of(caller));
        }
    }
    for reply in f.s.replies.iter().filter(|reply| !f.is_busy(reply.home)) {
        hold!(out, (reply.caller == 0) == (reply.server == 0), "Reply {:#x} knows one side only", reply.at);
        hold!(out, reply.server == 0 || !reply.dead, "Reply {:#x} is dead, and keeps a call", reply.at);
        let unclaimed = reply.server == 0 && !reply.dead;
        hold!(out, reply.unclaimed == unclaimed, "Reply {:#x} is unclaimed: {}", reply.at, reply.unclaimed);
        let linked = reply.server == 0 && reply.next | reply.prev != 0;
        hold!(out, !linked, "Reply {:#x} is of no task, and listed", reply.at);
    }
}

fn waits(f: &Facts<'_>, server: &Task, caller: &Task, out: &mut Findings) {
    let _ = f;
    hold!(
        out,
        caller.callee == server.at,
        "{} has {}, which calls another",
        name_of(server),
        name_of(caller)
    );
    let ended = caller.ending && caller.message_home == caller.home && caller.home != server.home;
    let there = is_at_callee(caller) || caller.ending;
    hold!(out, !ended && there, "{} has {}", name_of(server), name_of(caller));
}
