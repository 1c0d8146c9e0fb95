//! Tasks wait for grace periods and quiet periods: the room [`Grace`].
//!
//! [`smp::quiesce`] implements the periods. This module gives it access to each CPU's part of the
//! protocol's state, and parks tasks until a period is over.
//!
//! # Two ways to wait
//! * **For an epoch** ([`Grace::wait_for_grace`]), at which an emptied slot is reusable. A system
//!   call that answers [`Refusal::Restart`] parks its task, and the CPU requests the missing
//!   rounds. Then the task restarts its system call, which checks again whether it can continue.
//! * **For a quiet period** ([`Grace::wait_quiet`]), after which no operation uses a capability
//!   that was taken away before. The system call keeps the period's ticket in a register, and waits
//!   for an epoch before each check of the ticket.
//!
//! # Invariants
//! * A task in a CPU's list of grace waiters has its home on that CPU, in [`State::Restart`], and
//!   has its message block, whose links the list uses. Only that CPU changes the list. A task that
//!   is killed while it waits leaves the list first.
//! * Every waiter wakes: the rounds up to its epoch were requested, and after each
//!   [`quiesce::settle`] the CPU checks its list ([`crate::door::wake`]).
//! * The first waiter of a priority waits for at most a few rounds more than those behind it. So
//!   these may wait for the first one, which has requested the rounds that it needs.
//! * A CPU answers the question of a round after all calls and events have left that were about to
//!   follow their receivers when the question came ([`crate::life::followers`]).
//! * User level can write the register with the ticket. The kernel accepts only a ticket that this
//!   CPU has given out, so a task that has moved begins to wait again. If a task forges a ticket,
//!   its own call returns too early. That frees no memory: a reset waits by a ticket that the
//!   kernel keeps ([`Region::begin_reset`](smp::door::Region::begin_reset)).
//!
//! # Memory ordering
//! This module has no fence: [`smp::quiesce`] explains how a period orders an unlink before the
//! period and the reuse after it. A CPU that parks a task reads the epoch once more after it has
//! requested rounds. If another CPU's round had already raised the epoch far enough, nothing was
//! requested, and the task must not be parked. If not, a round of this CPU will come, and wakes the
//! task.

use kern_base::cpu::{CpuBlocks, CpuOwn, CpuShared, Mail};
use kern_base::machine::Machine;
use kern_base::task::State;
use sched::PrioQueued;
use smp::cpu::{CpuId, Pin};
use smp::percpu::Cpus;
use smp::quiesce::{self, GraceMail, Ticket};

use crate::begun::{is_again, mark_again};
use crate::outbox::mail::{LOWEST_RANK, rank_of};
use crate::rooms::Grace;
use crate::{Cx, Kernel, OpenTask, Refusal, Result};

/// Least rounds of a quiet period.
const QUIET_ROUNDS: u64 = 2;
/// Flag beside the ticket in a register: the ticket is that of the second quiet period.
const SECOND_PERIOD: u64 = 1 << 63;

impl<M: Machine> Cpus for Kernel<M> {
    type Own = CpuOwn;
    type Shared = CpuShared;
    type Mail = Mail;

    fn all(&self) -> &CpuBlocks {
        &self.cpus
    }

    fn interrupt(&self, cpu: CpuId) {
        self.machine.wake(cpu);
    }

    fn rank(&self, pin: Pin<'_>, to: CpuId) -> u32 {
        let here = self.cpus.block(pin, pin.cpu()).here(pin);
        here.map_or(0, |cpu| Cx { k: self, cpu }.rank_for(to))
    }

    fn rank_of_round(&self, pin: Pin<'_>) -> u32 {
        let here = self.cpus.block(pin, pin.cpu()).here(pin);
        here.map_or(0, |cpu| Cx { k: self, cpu }.rank_of_round())
    }
}

impl<M: Machine> Cx<'_, M> {
    /// Returns the rank of a round that begins: that of the best task that waits here, or the
    /// lowest rank.
    fn rank_of_round(self) -> u32 {
        let best = self.sched.grace_waiters.first(self.pin());
        let priority = best.and_then(|task| task.prio_links(self.pin()).priority());
        priority.map_or(LOWEST_RANK, |priority| rank_of(priority, false))
    }
}

impl<'k, M: Machine> Grace<'k, M> {
    /// Parks the running task until the epoch reaches this value, unless it already has.
    pub fn wait_for_grace(self, me: OpenTask<'k>, epoch: u64) {
        quiesce::request_epoch(self.k, self.pin(), epoch);
        // Read after the request. If another CPU's round has reached the epoch, there is no
        // request, and nothing would wake the task.
        if self.k.cpus.epoch.now() >= epoch {
            self.time().dispatch();
            return;
        }
        self.time().leave_rest(me);
        me.enter(State::Restart);
        let priority = self.running().map_or(0, |sc| sc.state.priority());
        me.wait_epoch.set(epoch);
        self.sched.grace_waiters.insert(self.pin(), me.object(), priority);
        quiesce::hasten(self.k, self.pin(), || rank_of(priority, false));
        self.ipc().park(me);
    }

    /// Returns the ticket of a system call that only has to wait for quiet periods
    /// ([`Grace::wait_quiet`]); `rsi` holds the ticket. A task that forges it is answered too
    /// early.
    #[inline(always)]
    pub fn quiet_ticket(self, me: OpenTask<'k>) -> Option<Ticket> {
        let kept = me.regs.rsi.get();
        if kept == 0 || !is_again(me.part()) {
            None
        } else {
            quiesce::ticket(self.k, self.pin(), kept & !SECOND_PERIOD)
        }
    }

    /// Waits until everything has ended that was under way when the system call began to wait:
    /// entries of other CPUs, and mail. A CPU may forward a piece of mail once, to the new home of
    /// a task. So there are two quiet periods.
    pub fn wait_quiet(self, me: OpenTask<'k>) -> Result<()> {
        if self.k.cpus.len() == 1 {
            return Ok(());
        }
        let now = self.k.cpus.epoch.now();
        let regs = &me.regs;
        let begin = |mark: u64| {
            mark_again(me.part());
            regs.rsi.set(quiesce::request_quiet(self.k, self.pin()).raw() | mark);
            Err(Refusal::Restart { epoch: now + QUIET_ROUNDS })
        };
        match self.quiet_ticket(me) {
            None => begin(0),
            Some(ticket) if !quiesce::is_quiet(self.k, self.pin(), ticket) => {
                Err(Refusal::Restart { epoch: now + 1 })
            }
            Some(_) if regs.rsi.get() & SECOND_PERIOD == 0 => begin(SECOND_PERIOD),
            Some(_) => Ok(()),
        }
    }

    /// Handles a grace message that arrived in this CPU's mailbox.
    pub fn grace_arrived(self, mail: GraceMail) {
        if !self.comes_later(mail) {
            quiesce::receive(self.k, self.pin(), mail);
        }
    }

    /// Puts a question off while calls and events are here that have to follow their receivers:
    /// they refer to tasks that may be dead. Returns whether it did.
    fn comes_later(self, mail: GraceMail) -> bool {
        let followers = &self.sched.followers;
        let waits = !followers.is_idle()
            && mail.asker(self.id()).is_some_and(|asker| followers.puts_off(self.pin(), asker));
        if waits {
            quiesce::put_off(self.k, self.pin(), mail);
        }
        waits
    }
}
