//! What the machine layer calls: system call, interrupt, and the way out. Faults: [`crate::faults`].

use abi::trace::{Event, Irq, Why};
use abi::{Counter, Error, Op};
use kern_base::limits::EXPIRE_STEPS;
use kern_base::machine::Machine;
use kern_base::task::FLAG_VECTOR;
use sched::NEVER;

use crate::Cx;
use crate::schedule::has_flag;

/// A fault of the running program.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub vector: u8,
    pub error: u64,
    /// CR2, for a page fault; DR6, for a debug exception.
    pub address: u64,
}

/// Why an interrupt came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    Timer,
    /// Another CPU put something in the mailbox.
    Mail,
    Other,
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Entry by system call; the running task's registers are in its frame.
    #[inline(always)]
    pub fn on_system_call(self, op: Op) {
        self.system_call(op);
    }

    /// Entry by interrupt.
    pub fn on_interrupt(self, what: Interrupt) {
        self.stand_still();
        self.count(Counter::Interrupt);
        self.note_interrupt(what);
        let before = self.hot.current.get(self.pin());
        match what {
            Interrupt::Timer => self.timer_fired(),
            Interrupt::Mail | Interrupt::Other => {}
        }
        let _ = self.take_mail();
        if let Some(task) = before {
            self.save_preempted(task);
        }
    }

    /// At the beginning of an interrupt: stops where another CPU looks into what all own. In builds that export the state.
    #[inline(always)]
    pub fn stand_still(self) {
        #[cfg(feature = "dump")]
        self.k.standstill.stand(self.pin());
    }

    /// An interrupt that came while the CPU was idle. The caller takes the mail afterwards.
    pub fn on_idle_interrupt(self, what: Interrupt) {
        self.count(Counter::Interrupt);
        self.note_interrupt(what);
        if what == Interrupt::Timer {
            self.timer_fired();
        }
    }

    /// The timer fired: expires deadlines, ends the slice if it is over, arms the timer again.
    fn timer_fired(self) {
        self.sched.timer.set(NEVER);
        let now = self.k.machine.now();
        self.expire_deadlines(now);
        let now = self.charge();
        if let Some((_, hot)) =
            self.running().filter(|(_, hot)| hot.state.remaining() == 0 || cfg!(feature = "chaos"))
        {
            if self.sched.queue.has_at_least(self.pin(), hot.state.priority()) {
                self.rotate(Why::SliceOver);
            } else {
                hot.state.refill();
                self.sched.until.set(hot.state.start(now));
            }
        }
        self.dispatch();
        self.arm_timer_for_slice();
        self.arm_timer(self.sched.deadlines.soonest());
    }

    /// Ends with [`Error::Timeout`] the waits whose deadline has passed, a bounded number. If there are more,
    /// the timer, which is set for the soonest, fires again at once.
    fn expire_deadlines(self, now: u64) {
        for _ in 0..EXPIRE_STEPS {
            let Some(task) = self.sched.deadlines.pop_expired(self.pin(), now) else { return };
            if let Some(hot) = self.task_hot(task) {
                self.fail_wait(task, hot, Error::Timeout);
            }
        }
    }

    /// An interrupt was taken.
    #[inline(always)]
    pub fn note_interrupt(self, what: Interrupt) {
        self.event(|| Event::Interrupt {
            irq: match what {
                Interrupt::Timer => Irq::Timer,
                Interrupt::Mail => Irq::Mail,
                Interrupt::Other => Irq::Other,
            },
        });
    }

    /// A preempted task's vector state goes to its save area before anybody else runs.
    fn save_preempted(self, task: smp::door::Ref<'k, kern_base::task::Task>) {
        if self.hot.current.is(task) {
            return;
        }
        if self.task_hot(task).is_some_and(|hot| has_flag(hot, FLAG_VECTOR)) {
            self.k.machine.save_vector(task.get().vector(self.pin()));
        }
    }

    /// Before the return to user mode: if mail is left, nobody else will interrupt for it. This CPU
    /// interrupts itself, and takes it right after the next instruction.
    pub fn announce_left_mail(self) {
        if self.sched.more_mail.take() {
            self.k.machine.wake(self.id());
        }
    }
}
