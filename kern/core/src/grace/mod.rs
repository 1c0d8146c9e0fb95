//! Tasks wait for grace periods and quiet periods: the room [`Grace`].
//!
//! [`smp::quiesce`] runs the periods; here it learns where the parts of a CPU are, and tasks are parked until a period is over.
//!
//! # Two ways to wait
//! * **For an epoch** ([`Grace::wait_for_grace`]), from which on an emptied slot is reusable. A system call that answers
//!   [`Refusal::Restart`] parks its task, and the CPU asks for the rounds that are missing. Then the task makes its system call
//!   again, which finds out for itself whether it can go on.
//! * **For a quiet period** ([`Grace::wait_quiet`]), after which nothing does any more what a capability allowed before it was
//!   taken away. The system call keeps its ticket in a register, and waits for an epoch before each look at it.
//!
//! # Invariants
//! * A task in a CPU's list of grace waiters is at home there, in [`State::Restart`]. Only that CPU changes the list. A task
//!   that is killed while it waits leaves the list first ([`Grace::unlink_grace_waiter`]).
//! * Every waiter is woken: the rounds up to its epoch were asked for, and after each [`quiesce::settle`] the CPU looks
//!   through its list ([`Grace::wake_grace_waiters`]).
//! * User level can write the register with the ticket. Only a ticket that this CPU has given out counts, so a task that
//!   has moved begins to wait anew. Who forges one is told too soon that its own call is done. No memory is freed by that:
//!   a reset waits by a ticket that the kernel keeps ([`Region::begin_reset`](smp::door::Region::begin_reset)).
//!
//! # Memory ordering
//! No fence stands here: [`smp::quiesce`] says how a period orders what was unlinked before it and what follows it. A CPU that
//! parks a task reads the epoch once more after it has asked for rounds. If another CPU's round had raised the epoch far enough
//! before, nothing was asked for, and the task must not be parked; if not, a round of this CPU is to come, and wakes the task.

use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::task::{State, Task, TaskHot};
use smp::door::Ref;
use smp::quiesce::{self, GraceMail, Ticket};

use crate::begun::{is_again, mark_again};
use crate::rooms::Grace;
use crate::state::set_state;
use crate::{Kernel, Me, Refusal, Result};

/// Rounds that a quiet period takes at least.
const QUIET_ROUNDS: u64 = 2;
/// Beside the ticket in a register: it is that of the second quiet period.
const SECOND_PERIOD: u64 = 1 << 63;

smp::cpus! {
    impl<M: Machine> for Kernel<M> {
        mail: Mail,
        all: cpus,
        epoch: epoch,
        state: sched.grace,
        grace: grace,
        shoot: shoot,
        interrupt: |kernel, cpu| kernel.machine.wake(cpu),
    }
}

impl<'k, M: Machine> Grace<'k, M> {
    /// Parks the running task until the epoch gets there, which it may have done already.
    pub fn wait_for_grace(self, me: Me<'k>, epoch: u64) {
        quiesce::request_epoch(self.k, self.pin(), epoch);
        // Looked at behind the request, which is none where another CPU's round has got there: nobody would wake it then.
        if self.k.epoch.now() >= epoch {
            self.time().dispatch();
            return;
        }
        set_state(me.hot, State::Restart);
        me.hot.wait_epoch.set(epoch);
        me.hot.wait_next.set(self.sched.grace_waiters.get(self.pin()));
        self.sched.grace_waiters.set(Some(me.task));
        self.ipc().park(me);
    }

    /// Whether a system call has nothing left to do but what [`Grace::wait_quiet`] does. Who makes that up is answered too soon.
    #[inline(always)]
    pub fn awaits_quiet(self, me: Me<'k>) -> bool {
        self.quiet_ticket(me).is_some()
    }

    /// For what a system call waits that has begun to; it keeps that in `rsi`.
    #[inline(always)]
    fn quiet_ticket(self, me: Me<'k>) -> Option<Ticket> {
        let kept = me.hot.regs.rsi.get();
        if kept == 0 || !is_again(me.hot) {
            None
        } else {
            quiesce::ticket(self.k, self.pin(), kept & !SECOND_PERIOD)
        }
    }

    /// Waits until nothing is under way any more that was as the system call began to wait: no entry of another CPU, and no
    /// mail. What a CPU gets by mail it may send on, once, to where a task has gone: so there are two quiet periods.
    pub fn wait_quiet(self, me: Me<'k>) -> Result<()> {
        if self.k.cpus.len() == 1 {
            return Ok(());
        }
        let now = self.k.epoch.now();
        let regs = &me.hot.regs;
        let begin = |mark: u64| {
            mark_again(me.hot);
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

    /// A grace node came by.
    pub fn grace_arrived(self, mail: GraceMail) {
        quiesce::receive(self.k, self.pin(), mail);
    }

    /// Lets the tasks go on whose grace period is over. After every [`quiesce::settle`].
    pub fn wake_grace_waiters(self) {
        let now = self.k.epoch.now();
        let mut next = self.sched.grace_waiters.take(self.pin());
        while let Some(task) = next {
            let Some(hot) = self.task_hot(task) else { break };
            next = hot.wait_next.take(self.pin());
            if hot.wait_epoch.get() <= now {
                self.restart_now(task, hot);
            } else {
                hot.wait_next.set(self.sched.grace_waiters.get(self.pin()));
                self.sched.grace_waiters.set(Some(task));
            }
        }
        self.time().dispatch();
    }

    /// The task makes its system call again.
    fn restart_now(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        self.time().make_ready(task, hot);
        self.time().dispatch();
    }

    /// Takes a task out of the grace waiters.
    pub fn unlink_grace_waiter(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let next = hot.wait_next.take(self.pin());
        if self.sched.grace_waiters.is(task) {
            self.sched.grace_waiters.set(next);
            return;
        }
        let mut at = self.sched.grace_waiters.get(self.pin());
        while let Some(other) = at.and_then(|t| self.task_hot(t)) {
            if other.wait_next.is(task) {
                other.wait_next.set(next);
                return;
            }
            at = other.wait_next.get(self.pin());
        }
    }
}
