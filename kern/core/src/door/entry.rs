//! What the machine layer calls: system call, interrupt, and the way out. Faults: [`crate::ipc::faults`].

use abi::{Counter, Error, Op};
use kern_base::limits::EXPIRE_STEPS;
use kern_base::machine::Machine;
use kern_base::task::{FLAG_VECTOR, Task};
use sched::NEVER;
use test_abi::trace::{Event, Irq, Why};

use crate::ipc::express::Left;
use crate::rooms::Door;
use crate::state::has_flag;
use smp::door::Ref;

/// Why an interrupt came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupt {
    Timer,
    /// Another CPU put something in the mailbox.
    Mail,
    Other,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Entry by system call; the running task's registers are in its frame.
    #[inline(always)]
    pub fn on_system_call(self, op: Op) {
        self.system_call(op);
    }

    /// Entry by interrupt.
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
        let now = self.time().charge();
        if let Some((_, hot)) =
            self.running().filter(|(_, hot)| hot.state.remaining() == 0 || cfg!(feature = "chaos"))
        {
            if self.sched.queue.has_at_least(self.pin(), hot.state.priority()) {
                self.time().rotate(Why::SliceOver);
            } else {
                hot.state.refill();
                self.sched.until.set(hot.state.start(now));
            }
        }
        self.time().dispatch();
        self.time().arm_timer_for_slice();
        self.time().arm_timer(self.sched.deadlines.soonest());
    }

    /// Ends with [`Error::Timeout`] the waits whose deadline has passed, a bounded number. If there are more,
    /// the timer, which is set for the soonest, fires again at once.
    fn expire_deadlines(self, now: u64) {
        for _ in 0..EXPIRE_STEPS {
            let Some(task) = self.sched.deadlines.pop_expired(self.pin(), now) else { return };
            if let Some(hot) = self.task_hot(task) {
                self.life().fail_wait(task, hot, Error::Timeout);
            }
        }
    }

    /// An interrupt was taken.
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

    /// What the fastpath of call does with a callee of another CPU; `target` as the caller named it.
    #[inline(always)]
    pub fn call_elsewhere(self, me: Ref<'k, Task>, callee: Ref<'k, Task>, tag: u64, target: u64) -> Left {
        if self.ipc().express_call(me, callee, tag) {
            self.next()
        } else {
            self.start_over(Op::Call, me, me, target)
        }
    }

    /// What the fastpath of reply_recv does with a caller of another CPU.
    #[inline(always)]
    pub fn reply_elsewhere(self, me: Ref<'k, Task>, caller: Ref<'k, Task>) -> Left {
        if self.ipc().express_reply(me, caller) {
            self.next()
        } else {
            self.start_over(Op::ReplyRecv, me, caller, 0)
        }
    }

    /// What the fastpath of reply_recv does with the answer to a fault of this CPU.
    #[inline(always)]
    pub fn answer_fault_here(self, me: Ref<'k, Task>, faulter: Ref<'k, Task>) -> Left {
        if self.ipc().express_answer(me, faulter) {
            Left::Another
        } else {
            self.start_over(Op::ReplyRecv, me, faulter, 0)
        }
    }

    /// The running task has stopped: who goes on?
    #[inline(always)]
    fn next(self) -> Left {
        if self.sched.queue.is_empty() {
            return Left::Nobody;
        }
        self.time().dispatch();
        Left::Another
    }

    /// The system call begins again in the general path: its arguments go where that looks for them.
    #[cold]
    #[inline(never)]
    fn start_over(self, op: Op, me: Ref<'k, Task>, block: Ref<'k, Task>, target: u64) -> Left {
        if let Some((hot, msg)) = self.task_hot(me).zip(block.get().msg.open(self.pin())) {
            self.ipc().write_registers(hot, msg);
            hot.regs.rax.set(msg.info.get().op(op).0);
            hot.regs.rdi.set(target);
            hot.regs.rsi.set(0);
            match op {
                Op::Call => self.system_call(Op::Call),
                _ => self.system_call(Op::ReplyRecv),
            }
        }
        if self.hot.current.is(me) { Left::Same } else { Left::Another }
    }
}
