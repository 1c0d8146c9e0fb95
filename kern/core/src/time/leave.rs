//! When a task can leave its CPU for another one, and how it stops for that.
//!
//! A task that was told to move while something kept it stops here as soon as nothing does, at the
//! end of a wait or of a call that it served. The entry in which that happens may still be in the
//! middle of other work for the task. So the task is only suspended, and mail resumes it: that
//! sends it away ([`crate::life::migration`]). A task that is suspended by others leaves in the
//! same way, and stays suspended.

use abi::Error;
use kern_base::machine::Machine;
use kern_base::task::{Ending, OpenTask, State, Task, ctl};
use sched::PrioQueued;
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::outbox::mail::{LOWEST_RANK, rank_of};
use crate::rooms::Time;
use crate::{Refusal, Result};

impl<'k, M: Machine> Time<'k, M> {
    /// Returns whether a task of this CPU can leave now for the CPU where it is to run. Time that
    /// another task has lent it goes back then.
    pub fn can_leave(self, task: OpenTask<'k>) -> bool {
        !self.gives_away(task)
            && self.own_goes_along(task, task.start_on()) == Some(true)
            && self.gets_free(task)
    }

    /// Returns whether a task that leaves this CPU has its own time with it, or has none. `None`:
    /// that time may not run on the other CPU; only the CPU of the time knows.
    #[inline(always)]
    pub fn own_goes_along(self, task: OpenTask<'k>, to: CpuId) -> Option<bool> {
        let Some(own) = task.time.own(self.pin()) else { return Some(true) };
        let Some(own) = self.open_time(own) else { return Some(false) };
        own.state.may_run_on(to).then_some(own.task.is(task.object()))
    }

    /// Gives the time back that another task has lent this one, if it is not in the middle of a
    /// call and waits for no bits. Returns whether that is so. What a caller that is dead has left
    /// it, it keeps until it receives.
    #[inline(always)]
    pub fn gets_free(self, task: OpenTask<'k>) -> bool {
        let borrowed = self.borrowed_by(task);
        let is_left = borrowed.is_some() && task.time.lender(self.pin()).is_none();
        let is_free = self.stands_free(task) && !is_left;
        if is_free && let Some(sc) = borrowed {
            self.give_back_borrowed(task.part(), sc);
        }
        is_free
    }

    /// Returns whether a task of this CPU waits for nothing but a message, and nobody waits for its
    /// answer.
    #[inline(always)]
    fn stands_free(self, task: OpenTask<'k>) -> bool {
        let pin = self.pin();
        matches!(task.state(), State::Ready | State::Exhausted | State::Recv | State::RecvTimed)
            && task.ending() == Ending::None
            && task.caller(pin).is_none()
            && task.first_reply(pin).is_none()
            && self.has_block(task.object())
    }

    /// Returns whether a task is in the middle of a system call that gives pages or capabilities
    /// away, or ends what was in a CNode.
    #[inline(always)]
    pub fn gives_away(self, task: OpenTask<'k>) -> bool {
        task.lends_pages() || !task.get().zombies.is_null()
    }

    /// Whether a task of this CPU has its message block, and the block is not under way with a call
    /// or a request.
    pub fn has_block(self, task: Ref<'k, Task>) -> bool {
        task.get().message(self.pin()).is_some_and(|msg| !msg.stage().is_under_way())
    }

    /// Takes a place for a task on a CPU.
    /// Errors: Parked.
    #[inline(always)]
    pub fn take_place(self, cpu: CpuId) -> Result<()> {
        match self.k.block(self.pin(), cpu).residents.admit() {
            true => Ok(()),
            false => Err(parked(cpu)),
        }
    }

    /// Gives the place of a task on a CPU back.
    #[inline(always)]
    pub fn leave_place(self, cpu: CpuId) {
        self.k.block(self.pin(), cpu).residents.leave();
    }

    /// Gives the place of a task on this CPU back.
    #[inline(always)]
    pub fn leave_place_here(self) {
        self.cpu.residents.leave();
    }

    /// Takes a runnable task's context off the CPU or out of the run queue. The task keeps the
    /// context.
    #[inline(always)]
    pub fn stop_running(self, task: OpenTask<'k>) {
        if task.state() == State::Exhausted {
            return self.stop_rest(task);
        }
        if !task.is_runnable() {
            return;
        }
        if let Some(sc) = self.time_of(task) {
            self.withdraw(sc);
        }
    }

    /// Does what [`Time::stop_running`] does for a task that has no time of others.
    #[inline(always)]
    pub fn stop_own(self, task: OpenTask<'k>) {
        if task.state() == State::Exhausted {
            return self.stop_rest(task);
        }
        if let Some(own) = task.time.own(self.pin()) {
            self.take_off(own);
        }
    }

    /// Lets a task stay that was to move: its time may not run there.
    fn stay(self, task: OpenTask<'k>) {
        let to = task.start_on();
        task.end_move();
        task.set_start_on(self.id());
        self.leave_place(to);
    }

    /// Returns the rank of what makes a task leave: that of its time, or of its best caller.
    fn rank_to_leave(self, task: OpenTask<'k>) -> u32 {
        let time = self.time_of(task).and_then(|sc| self.open_time(sc));
        let first = task.callers().tasks().first(self.pin());
        let waits = first.and_then(|first| first.prio_links(self.pin()).priority());
        let best = time.map(|time| time.state.priority()).max(waits);
        best.map_or(LOWEST_RANK, |priority| rank_of(priority, true))
    }

    /// Stops a task that is to move, if nothing keeps it here any more. Mail resumes it, and sends
    /// it away. Returns: whether it has stopped.
    #[cold]
    #[inline(never)]
    pub fn leave_if_free(self, task: OpenTask<'k>) -> bool {
        if !task.is_to_move() {
            return false;
        }
        if self.own_goes_along(task, task.start_on()).is_none() {
            self.stay(task);
            return false;
        }
        let rank = self.rank_to_leave(task);
        if !self.can_leave(task) {
            return false;
        }
        let before = self.sched.works_for.replace(rank);
        self.stop_running(task);
        task.suspend();
        self.outbox().raise_control(task.object(), ctl::RESUME);
        self.sched.works_for.set(before);
        true
    }
}

#[cold]
#[inline(never)]
fn parked(cpu: CpuId) -> Refusal {
    Refusal::new(Error::Parked, cpu.index() as u64)
}
