//! When a CPU that runs a program looks into its mailbox.
//!
//! Mail interrupts the program. Mail is *urgent* if it lets a task of higher priority run, if it
//! was sent for a task that outranks the program ([`crate::outbox::mail`]), or if it is a shootdown
//! for an equal. If no mail was urgent, its senders may be about to send more. So
//! the CPU then *defers* its mail ([`smp::mailbox`]): for a while no push of mail up to the
//! program's rank interrupts it. It sets its timer, and looks when that fires. So however much
//! other CPUs send for tasks of low priority, the program keeps nearly all of its CPU:
//!
//! * One look takes at most [`PROGRAM_MAIL`] messages.
//! * The time between two looks is [`MAIL_REST_FACTOR`] times what the last look took. A factor of
//!   the time fits every machine: where an emulator makes a look slow, the program is as slow.
//! * [`REST_MAX`](crate::time::schedule::REST_MAX) bounds that time, since a hypervisor may have
//!   stopped the CPU meanwhile.
//!
//! A push of mail above the program's rank interrupts it all the same. Then the CPU serves the
//! better mail, and sets aside what came before it, which waits for the time of the next look. Some
//! mail may not overtake other mail ([`crate::door::order`]). If such mail is above the rank, the
//! CPU serves what was set aside, in order and without a rest, until it has served it, too. Mail
//! above the rank that came before the deferral began, behind other mail, counts as well.
//!
//! An interrupt takes a bounded number of messages. If better mail is left, the CPU interrupts
//! itself. A look that finds no mail ends the deferral, and so does one that takes all of it, some
//! of it urgent. The CPU also looks when it goes on with a program of lower priority. Until then
//! the assembly fast paths go on with no other ready task: each exit to another program makes them
//! miss ([`crate::time::schedule`]). A CPU that idles takes all its mail.
//!
//! # Invariants
//! * While a CPU defers, its timer is set for `look_at`, or earlier, and `more_mail` is set.
//! * An interrupt of a program serves mail only if the CPU does not defer, if `look_at` has come,
//!   or if mail above the program's rank waits.

use kern_base::limits::{MAIL_WORK, PROGRAM_MAIL, SORT_STEPS};
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use smp::door::Ref;
use smp::mailbox::{Drained, Picked};

use crate::OpenTask;
use crate::outbox::mail::{rank_of, rank_with};
use crate::rooms::Door;
use crate::time::schedule::MAIL_REST_FACTOR;

/// The result of a look into the mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    /// The CPU defers its mail still, or has no work left for it.
    NotYet,
    /// A better task has woken, and does not wait for mail.
    Left,
    /// There was no mail.
    Nothing,
    /// All mail was taken.
    All,
    /// Some is left.
    Some,
    /// There is some, and none could be reached yet.
    Unreachable,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Takes mail at an interrupt of a program that came at `now`, if it is time for that. Returns
    /// also the task that runs now, if a message that was alone has let it run on the fast path.
    #[inline(always)]
    pub fn look(self, now: u64) -> (Look, Option<OpenTask<'k>>) {
        let inbox = self.cpu.inbox();
        if !inbox.is_deferring()
            && let Some(only) = inbox.pop_only()
        {
            self.sched.best_rank.set(0);
            return (Look::All, self.receive_first(only.open()));
        }
        (self.look_for_more(now), None)
    }

    /// Takes mail at an interrupt, if there is none, if there is more than one message, or if this
    /// CPU defers its mail.
    #[inline(never)]
    fn look_for_more(self, now: u64) -> Look {
        self.time().stop_clock();
        let inbox = self.cpu.inbox();
        if let Some(deferred_for) = inbox.deferred_for() {
            let is_early = now < self.sched.look_at.get();
            if inbox.has_urgent() {
                let outranks = self.rank_of_program() > deferred_for;
                let served = !outranks && self.take_better(deferred_for, now);
                // A message with pages comes first in an entry, and so does one for which no work
                // is left.
                let is_spent = || !self.has_work(MAIL_WORK) || self.next_has_pages();
                if !outranks && (is_early || served && is_spent()) {
                    return Look::NotYet;
                }
            } else if is_early {
                return Look::NotYet;
            }
        }
        self.sched.best_rank.set(0);
        match self.drain_some(PROGRAM_MAIL) {
            (Drained::More, 0) => Look::Unreachable,
            (Drained::More, _) => Look::Some,
            (Drained::Empty, 0) => Look::Nothing,
            (Drained::Empty, _) => Look::All,
        }
    }

    /// Returns whether the message that is taken next carries pages.
    pub fn next_has_pages(self) -> bool {
        self.cpu.inbox().peek(|mail| self.has_pages(mail)).unwrap_or(false)
    }

    /// Serves mail above the rank for which this CPU defers its mail, and sets aside what came
    /// before it. If better mail is left, the CPU interrupts itself. Returns whether there was
    /// some.
    fn take_better(self, deferred_for: u32, began: u64) -> bool {
        let inbox = self.cpu.inbox();
        // Marks the newest message.
        let _ = inbox.defer(deferred_for);
        let mut served = 0;
        for _ in 0..SORT_STEPS {
            let pick_has_pages = || inbox.peek_picked(|mail| self.has_pages(mail)).unwrap_or(false);
            if served > 0 && (pick_has_pages() || !self.has_work(MAIL_WORK)) {
                break;
            }
            let mail = match inbox.pick(|mail| self.order_of(mail)) {
                Picked::Mail(mail) => mail,
                Picked::Aside => continue,
                Picked::Over => break,
            };
            let _ = self.receive_mail(mail);
            self.note_work(MAIL_WORK);
            served += 1;
            if served >= PROGRAM_MAIL {
                break;
            }
        }
        self.defer_for(deferred_for, began);
        served > 0
    }

    /// Notes that all mail was taken, and defers mail no more. Returns `false` if mail has come
    /// meanwhile, while it was deferred: its push did not interrupt this CPU.
    #[must_use = "mail that has come meanwhile is not announced again"]
    pub fn end_deferral(self) -> bool {
        let inbox = self.cpu.inbox();
        let is_over = !inbox.is_deferring() || inbox.end_deferral();
        if is_over {
            self.time().note_no_mail();
        }
        is_over
    }

    /// Defers mail up to a rank, in an entry that began then. If better mail waits, the CPU
    /// interrupts itself. It only looks again soon if no mail can be reached: a hypervisor may have
    /// stopped the sender, and the program goes on meanwhile.
    fn defer_for(self, rank: u32, began: u64) {
        let inbox = self.cpu.inbox();
        if !inbox.defer(rank) {
            return;
        }
        if inbox.is_broken() {
            let soon = self.time().end_of_rest(began, 1);
            self.sched.look_at.set(self.sched.look_at.get().min(soon));
        } else {
            self.k.machine.wake(self.id());
        }
    }

    /// Decides at the end of an interrupt when this CPU looks next. The interrupt came at `began`.
    /// Urgent mail has a rank above `rank`; `better` says that a better task runs now.
    pub fn plan_look(self, look: Look, began: u64, rank: u32, better: bool) {
        let urgent = better || self.sched.best_rank.get() > rank;
        let is_over = match look {
            Look::NotYet => return self.arm_look(),
            Look::Left => return self.leave_mail(began),
            Look::Nothing => true,
            Look::All => urgent,
            Look::Some | Look::Unreachable => false,
        };
        if is_over && self.end_deferral() {
            return;
        }
        // A message that cannot be reached may be urgent. Its sender may have been stopped by a
        // hypervisor.
        let factor = if look == Look::Unreachable { 1 } else { MAIL_REST_FACTOR };
        self.rest_until(self.time().end_of_rest(began, factor), rank, began);
    }

    /// Defers mail for a better task that the timer has woken. A look or an interrupt of mail may
    /// be due still, which was for a worse program.
    #[inline(never)]
    fn leave_mail(self, began: u64) {
        let inbox = self.cpu.inbox();
        let is_deferring = inbox.is_deferring();
        if is_deferring && began < self.sched.look_at.get() && !inbox.has_urgent() {
            // The worse program's rest goes on, also after the better task.
            return self.arm_look();
        }
        if is_deferring || inbox.has_mail() {
            let rest = self.time().end_of_rest(began, MAIL_REST_FACTOR);
            let planned = if is_deferring { self.sched.look_at.get() } else { 0 };
            self.rest_until(rest.max(planned), self.rank_of_program(), began);
        }
    }

    /// Defers mail up to a rank until a time, in an entry that began at `began`.
    fn rest_until(self, at: u64, rank: u32, began: u64) {
        self.sched.look_at.set(at);
        self.defer_for(rank, began);
        self.time().mind_mail();
        self.arm_look();
    }

    /// Returns whether the CPU has to attend to mail that is left, or to tasks that rest, before
    /// the current task runs ([`Door::attends_to_mail`]).
    #[inline(always)]
    pub fn has_to_attend(self) -> bool {
        self.sched.more_mail.get() && !self.has_attended()
    }

    /// Returns whether the CPU has left it at that for a program of the same priority as this one,
    /// or a lower one.
    #[cold]
    #[inline(never)]
    fn has_attended(self) -> bool {
        let attended = self.sched.attended.get();
        let has = attended != 0 && self.rank_of_program() >= attended;
        if has {
            self.time().expect_none_ready();
        }
        has
    }

    /// Attends to mail that is left, and to tasks that rest, when a program is about to run. If the
    /// CPU defers its mail for a program of higher priority than this one, it looks now. Returns
    /// whether it did: then the best task may be another. Otherwise mail that an idle CPU has left
    /// interrupts the program.
    pub fn attends_to_mail(self) -> bool {
        let Some(deferred_for) = self.cpu.inbox().deferred_for() else {
            if self.sched.more_mail.get() {
                self.time().end_rest_above();
                self.defer_what_is_left();
            }
            return false;
        };
        if (self.sched.resting.get() | self.sched.waiters_resting.get()) != 0 {
            self.time().end_rest_above();
        }
        let rank = self.rank_of_program();
        if rank >= deferred_for {
            if self.cpu.inbox().has_urgent() {
                // A CPU that idled has left it.
                self.k.machine.wake(self.id());
            } else {
                self.sched.attended.set(rank);
            }
            return false;
        }
        self.look_for(rank)
    }

    /// Looks into the mailbox for a program of this rank that is about to run. Returns `true`.
    #[cold]
    #[inline(never)]
    fn look_for(self, rank: u32) -> bool {
        let (program, began) = (self.hot.current.addr(), self.k.machine.now());
        self.begin_work_of_interrupt();
        self.time().begin_interrupt(began);
        self.sched.look_at.set(began);
        let look = self.look_for_more(began);
        self.plan_look(look, began, rank, self.hot.current.addr() != program);
        self.time().start_clock();
        true
    }

    /// Lets mail that an idle CPU has left interrupt the program that is about to run. The CPU
    /// defers its mail until that interrupt: what it has set aside is found only by a look.
    #[cold]
    #[inline(never)]
    fn defer_what_is_left(self) {
        if !self.cpu.inbox().has_mail() {
            self.time().note_no_mail();
            self.sched.attended.set(self.rank_of_program());
            return;
        }
        self.sched.look_at.set(self.k.machine.now());
        let _ = self.cpu.inbox().defer(self.rank_of_program());
        self.arm_look();
        self.k.machine.wake(self.id());
    }

    /// Returns the rank that mail must exceed to be urgent for a program on this CPU time.
    pub fn rank_of_time(self, sc: Option<Ref<'k, SchedContext>>) -> u32 {
        sc.and_then(|sc| self.open_time(sc)).map_or(0, |sc| rank_of(sc.state.priority(), false))
    }

    /// Returns whether the task that runs outranks a program on this CPU time.
    pub fn outranks(self, sc: Option<Ref<'k, SchedContext>>) -> bool {
        self.rank_of_program() > self.rank_of_time(sc)
    }

    /// Returns the rank that mail must exceed to be urgent for the program that runs.
    pub fn rank_of_program(self) -> u32 {
        self.running().map_or(0, |sc| rank_with(&sc))
    }

    /// Sets the timer for the next look, if this CPU defers its mail, and keeps the fast path from
    /// other programs.
    pub fn arm_look(self) {
        if self.cpu.inbox().is_deferring() {
            // The entry may have gone to another program and back.
            self.time().expect_none_ready();
            self.time().arm_timer(self.sched.look_at.get());
        }
    }
}
