//! Mailboxes, and the number of steps of kernel entries.

use snapshot::{FREE_NODE, IN_MAILBOX, MailKind, Stage};

use super::memory::is_free;
use crate::facts::{Facts, is_under_way, name_of};
use crate::report::Findings;

/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// What a mailbox has is about a live task or Notification, or about one that has ended and whose
/// memory nobody uses yet. A message block there belongs to that CPU, and is on its way.
pub fn mailboxes(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for mail in &f.s.mails {
        let n = mail.cpu;
        match mail.kind {
            MailKind::Message => {
                let Some(task) = f.task(mail.about) else {
                    out.add(format_args!("cpu{n} has a message of {}", f.name(mail.about)));
                    continue;
                };
                hold!(
                    out,
                    task.message_home == n,
                    "cpu{n} has the message of {}, which is another's",
                    name_of(task)
                );
                hold!(
                    out,
                    is_under_way(task),
                    "cpu{n} has the message of {}, which is not under way",
                    name_of(task)
                );
                let callee = task.stage == Stage::Out && f.task(task.callee).is_none();
                hold!(
                    out,
                    !callee || is_shell(f, task.callee),
                    "{} calls {}",
                    name_of(task),
                    f.name(task.callee)
                );
            }
            MailKind::Arrival => {
                let moves = f.task(mail.about).is_some_and(|task| task.under_way && task.home == n);
                hold!(out, moves, "cpu{n} is to get {}, which does not move there", f.name(mail.about));
            }
            MailKind::Control if f.task(mail.about).is_none() => {
                hold!(out, is_shell(f, mail.about), "cpu{n} has control bits for {}", f.name(mail.about));
            }
            MailKind::Bits if f.notification(mail.about).is_none() => {
                hold!(out, is_shell(f, mail.about), "cpu{n} has bits for {}", f.name(mail.about));
            }
            _ => {}
        }
    }
}

/// Returns whether an object may have been at an address whose memory was not used again since.
pub fn is_shell(f: &Facts<'_>, at: u64) -> bool {
    let (piece, untyped) = f.index.memory(at);
    piece.is_none() && untyped.is_some() && !is_free(f, at)
}

/// A mailbox node whose record says that it is in a mailbox is in one, once. A node that carries
/// bits is in a mailbox exactly while bits are raised.
pub fn nodes(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for task in &f.s.tasks {
        let Some(links) = f.linked.map(|linked| linked.of(f, task)) else { return };
        let sent = u32::from(task.message_node == IN_MAILBOX);
        hold!(
            out,
            links.messages == sent,
            "the message of {} is in {} mailboxes of {sent}",
            name_of(task),
            links.messages
        );
        let raised = u32::from(task.control != 0);
        let node = if task.control != 0 { IN_MAILBOX } else { FREE_NODE };
        hold!(
            out,
            links.controls == raised,
            "the control bits of {} are in {} mailboxes of {raised}",
            name_of(task),
            links.controls
        );
        hold!(out, task.control_node == node, "the control bits of {} have another node", name_of(task));
    }
    for object in &f.s.notifications {
        let about = |mail: &&snapshot::Mail| mail.kind == MailKind::Bits && mail.about == object.at;
        let there = f.s.mails.iter().filter(about).count();
        let raised = usize::from(object.remote != 0);
        let node = if object.remote != 0 { IN_MAILBOX } else { FREE_NODE };
        let fits = there == raised && object.node == node;
        hold!(out, fits, "the bits of Notification {:#x} are in {there} mailboxes of {raised}", object.at);
    }
    for cpu in &f.s.cpus {
        let question = |mail: &&snapshot::Mail| mail.kind == MailKind::Sign && mail.cpu == cpu.id;
        let there = f.s.mails.iter().filter(question).count();
        let owed = usize::from(cpu.owes_sign);
        hold!(out, there == owed, "cpu{} owes {owed} signs, and is asked for {there}", cpu.id);
    }
}

/// A CPU that has mail will look into its mailbox: it is interrupted, looks all the time, or defers
/// its mail. If it defers, its timer fires when it looks, or earlier. A mailbox says that it has
/// mail exactly while it has.
pub fn wake_ups(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for cpu in &f.s.cpus {
        let there = f.s.mails.iter().any(|mail| mail.cpu == cpu.id);
        hold!(
            out,
            there == cpu.has_mail,
            "cpu{} has mail {}, and its mailbox has some {there}",
            cpu.id,
            cpu.has_mail
        );
        let Some(hardware) = f.s.hardwares.iter().find(|hardware| hardware.cpu == cpu.id) else { continue };
        let defers = cpu.look_at != NEVER;
        let comes = hardware.interrupted || hardware.polls || defers;
        hold!(out, comes || !cpu.has_mail, "cpu{} has mail, and nothing makes it look", cpu.id);
        let fires = !defers || hardware.interrupted || hardware.timer <= cpu.look_at;
        hold!(out, fires, "cpu{} defers its mail until {}, and has no timer for it", cpu.id, cpu.look_at);
    }
}

/// No kernel entry takes more steps than the bound, if the build counts steps.
pub fn steps(f: &Facts<'_>, out: &mut Findings) {
    let max = f.kernel.steps_max;
    for cpu in f.s.cpus.iter().filter(|_| max != 0) {
        hold!(out, cpu.steps <= max, "an entry on cpu{} took {} steps, of {max} at most", cpu.id, cpu.steps);
    }
}
