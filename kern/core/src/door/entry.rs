//! The entry points that the machine layer calls: system call, interrupt, and the exit.
//! [`crate::ipc::faults`] has the entry point for faults.

use abi::{Counter, Error, Op};
use kern_base::limits::EXPIRE_STEPS;
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_VECTOR, Task};
use sched::NEVER;
use smp::door::Ref;
use test_abi::trace::{Event, Irq, Why};

use crate::rooms::Door;

/// What a CPU does at the end of a kernel entry whose message went to another CPU.
pub enum ExitAction {
    /// It idles: it runs no task, and none is queued.
    Idle,
    /// It loads the context of its current task, or idles if it has none.
    Load,
}

/// The reason for an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    Timer,
    /// Another CPU has pushed a message into the mailbox.
    Mail,
    Other,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Serves an interrupt of user code.
    pub fn on_interrupt(self, what: Interrupt) {
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

    /// Serves an interrupt that arrived while the CPU was idle. The caller takes the mail
    /// afterwards.
    pub fn on_idle_interrupt(self, what: Interrupt) {
        self.count(Counter::Interrupt);
        self.note_interrupt(what);
        if what == Interrupt::Timer {
            self.timer_fired();
        }
    }

    /// Serves the timer: expires deadlines, ends the slice if it is over, arms the timer again.
    fn timer_fired(self) {
        self.sched.timer.set(NEVER);
        let now = self.k.machine.now();
        self.expire_deadlines(now);
        let now = self.time().charge();
        let is_over = |sc: &OpenTime<'k>| sc.state.remaining() == 0 || cfg!(feature = "chaos");
        if let Some(sc) = self.running().filter(is_over) {
            if self.sched.queue.has_at_least(self.pin(), sc.state.priority()) {
                self.time().rotate(Why::SliceOver);
            } else {
                sc.state.refill();
                self.sched.until.set(sc.state.start(now));
            }
        }
        self.time().dispatch();
        self.time().arm_timer_for_slice();
        self.time().arm_timer(self.sched.deadlines.soonest());
    }

    /// Ends waits whose deadline has passed with [`Error::Timeout`], a bounded number. If there are
    /// more, the timer, which is set for the soonest, fires again immediately.
    fn expire_deadlines(self, now: u64) {
        for _ in 0..EXPIRE_STEPS {
            let Some(task) = self.sched.deadlines.pop_expired(self.pin(), now) else { return };
            if let Some(task) = self.open(task) {
                self.life().fail_wait(task, Error::Timeout);
            }
        }
    }

    /// Records an interrupt in the trace.
    #[inline(always)]
    pub fn note_interrupt(self, what: Interrupt) {
        self.trace().event(|| Event::Interrupt {
            irq: match what {
                Interrupt::Timer => Irq::Timer,
                Interrupt::Mail => Irq::Mail,
                Interrupt::Other => Irq::Other,
            },
        });
    }

    /// Saves a preempted task's vector state before another task runs.
    fn save_preempted(self, task: smp::door::Ref<'k, kern_base::task::Task>) {
        if self.hot.current.is(task) {
            return;
        }
        if self.open(task).is_some_and(|hot| hot.has_flag(FLAG_VECTOR)) {
            self.k.machine.save_vector(task.get().vector(self.pin()));
        }
    }

    /// Interrupts this CPU itself if mail is left before the return to user mode, because no other
    /// CPU will interrupt it for that mail. The CPU takes the mail right after the next
    /// instruction.
    pub fn announce_left_mail(self) {
        if self.sched.more_mail.take() {
            self.k.machine.wake(self.id());
        }
    }

    /// Continues a call for which the fast path found its callee on another CPU. `target` is the
    /// caller's target word.
    #[inline(always)]
    pub fn call_elsewhere(
        self,
        me: Ref<'k, Task>,
        callee: Ref<'k, Task>,
        tag: u64,
        target: u64,
    ) -> ExitAction {
        let sent = self.ipc().fast_call(me, callee, tag);
        if sent { self.after_send() } else { self.start_over(Op::Call, me, me, target) }
    }

    /// Continues a reply_recv for which the fast path found the caller on another CPU.
    #[inline(always)]
    pub fn reply_elsewhere(self, me: Ref<'k, Task>, caller: Ref<'k, Task>) -> ExitAction {
        let sent = self.ipc().fast_reply(me, caller);
        if sent { self.after_send() } else { self.start_over(Op::ReplyRecv, me, caller, 0) }
    }

    /// Continues a reply_recv whose reply, as the fast path found, answers a fault of a task on
    /// this CPU.
    #[inline(always)]
    pub fn answer_fault_here(self, me: Ref<'k, Task>, faulter: Ref<'k, Task>) -> ExitAction {
        let answered = self.ipc().fast_answer(me, faulter);
        if answered { ExitAction::Load } else { self.start_over(Op::ReplyRecv, me, faulter, 0) }
    }

    /// Chooses the next task after the running task has stopped.
    #[inline(always)]
    fn after_send(self) -> ExitAction {
        if self.sched.queue.is_empty() { ExitAction::Idle } else { self.run_next() }
    }

    fn run_next(self) -> ExitAction {
        self.time().dispatch();
        ExitAction::Load
    }

    /// Starts the system call again on the slow path, with its arguments where the slow path
    /// expects them.
    #[cold]
    #[inline(never)]
    fn start_over(self, op: Op, me: Ref<'k, Task>, block: Ref<'k, Task>, target: u64) -> ExitAction {
        if let Some((hot, msg)) = self.open(me).zip(block.get().message(self.pin())) {
            self.ipc().write_registers(hot.part(), msg);
            hot.regs.rax.set(msg.info().op(op).0);
            hot.regs.rdi.set(target);
            hot.regs.rsi.set(0);
            match op {
                Op::Call => self.system_call(Op::Call),
                _ => self.system_call(Op::ReplyRecv),
            }
        }
        ExitAction::Load
    }
}
