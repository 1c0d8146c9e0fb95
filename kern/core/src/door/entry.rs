//! The entry points that the machine layer calls: system call, interrupt, and the exit.
//! [`crate::ipc::faults`] has the entry point for faults.

use abi::{Counter, Op};
use kern_base::limits::INTERRUPT_WORK;
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use kern_base::task::{FLAG_VECTOR, OpenTask, Task};
use sched::NEVER;
use smp::door::Ref;
use test_abi::trace::{Event, Irq};

use crate::door::look::Look;
use crate::rooms::Door;

/// What a CPU does at the end of a kernel entry whose message went to another CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitAction {
    /// It idles: it runs no task, none is queued, and it has left no mail.
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
    Device,
    Other,
}

/// How an interrupt of a program goes on.
pub enum Interrupted<'k> {
    /// This task runs now, and its system call is over: a message came for it.
    Message(OpenTask<'k>),
    /// The caller settles grace rounds, and then calls [`Door::end_interrupt`].
    Rest(Rest),
}

/// What the rest of an interrupt has to know.
#[derive(Clone, Copy)]
pub struct Rest {
    what: Interrupt,
    /// The address of the program's task; 0 if there was none,
    /// [`MOVED`](kern_base::cpu::MOVED) if it has moved.
    task: u64,
    /// The address of the CPU time on which it ran.
    time: u64,
    /// When the kernel was entered.
    began: u64,
    /// The rank that mail must exceed to be urgent.
    rank: u32,
    look: Look,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Serves an interrupt of a program. If it is a device's, `arrives` tells its driver. It gets
    /// the time at which the entry began.
    #[inline(always)]
    pub fn on_interrupt(self, what: Interrupt, arrives: impl FnOnce(Self, u64)) -> Interrupted<'k> {
        let began = self.k.machine.now();
        self.begin_work_of_interrupt();
        self.count(Counter::Interrupt);
        self.note_interrupt(what);
        let what = self.in_turn(what, began);
        self.time().begin_interrupt(began);
        let before = self.hot.current.get(self.pin());
        self.sched.interrupted.set(before.map_or(0, Ref::addr));
        let time = self.sched.current.get(self.pin());
        if what == Interrupt::Timer {
            self.time().stop_clock();
            self.timer_fired();
        }
        if what == Interrupt::Device {
            self.time().stop_clock();
            arrives(self, began);
        }
        let (look, runs) = match self.leaves_mail(what, before, time) {
            Some(look) => (look, None),
            None => self.look(began),
        };
        if let Some(task) = before {
            self.save_preempted(task);
        }
        let task = self.sched.interrupted.replace(0);
        match runs {
            Some(task) => {
                if what == Interrupt::Timer {
                    self.time().start_clock();
                    self.arm_timer_for_time();
                }
                Interrupted::Message(task)
            }
            None => {
                let (rank, time) = (self.rank_of_time(time), time.map_or(0, Ref::addr));
                Interrupted::Rest(Rest { what, task, time, began, rank, look })
            }
        }
    }

    /// Lets the timer's work wait for the next interrupt, if the last one has left a message with
    /// pages: then this is an interrupt of mail. Otherwise the timer could always have work, such
    /// as looks at tasks that wait for what is behind that message.
    #[inline(always)]
    fn in_turn(self, what: Interrupt, began: u64) -> Interrupt {
        if !self.sched.pages_wait.replace(false) || what != Interrupt::Timer {
            return what;
        }
        self.sched.timer.set(NEVER);
        self.time().arm_timer(began);
        Interrupt::Mail
    }

    /// Returns how an interrupt of a program goes on that takes no mail. A better task that wakes
    /// in time does not wait for mail, too. A message with pages comes first in its entry: it may
    /// be an entry's whole work.
    #[inline(always)]
    fn leaves_mail(
        self,
        what: Interrupt,
        before: Option<Ref<'k, Task>>,
        time: Option<Ref<'k, SchedContext>>,
    ) -> Option<Look> {
        if !matches!(what, Interrupt::Timer | Interrupt::Device) {
            return None;
        }
        if self.hot.current.addr() != before.map_or(0, Ref::addr) && self.outranks(time) {
            return Some(Look::Left);
        }
        let has_worked = what == Interrupt::Device || !self.has_work(INTERRUPT_WORK);
        let leaves_pages = has_worked && self.next_has_pages();
        if leaves_pages {
            self.sched.pages_wait.set(true);
        }
        leaves_pages.then_some(Look::NotYet)
    }

    /// Ends what [`Door::on_interrupt`] began. Returns whether the interrupted program continues.
    /// If not, another task runs next.
    pub fn end_interrupt(self, of: Rest) -> bool {
        let continues = self.hot.current.addr() == of.task;
        let has_other_time = continues && self.sched.current.addr() != of.time;
        let rank = if has_other_time { self.rank_of_program() } else { of.rank };
        self.plan_look(of.look, of.began, rank, !continues);
        self.time().start_clock();
        if of.what == Interrupt::Timer {
            self.arm_timer_for_time();
        }
        continues
    }

    /// Serves an interrupt that arrived while the CPU was idle. The caller takes the mail
    /// afterwards.
    pub fn on_idle_interrupt(self, what: Interrupt) {
        self.count(Counter::Interrupt);
        self.note_interrupt(what);
        if what == Interrupt::Timer {
            self.begin_work_of_interrupt();
            self.timer_fired();
            self.arm_timer_for_time();
            self.arm_look();
        }
    }

    /// Serves the interrupt of a device that arrived while the CPU was idle. `place` is the one in
    /// this CPU's table.
    pub fn take_idle_device(self, place: usize) {
        self.count(Counter::Interrupt);
        self.note_interrupt(Interrupt::Device);
        self.begin_work_of_interrupt();
        self.events().interrupt_came(place, self.k.machine.now());
    }

    /// Records an interrupt in the trace.
    #[inline(always)]
    pub fn note_interrupt(self, what: Interrupt) {
        self.trace().event(|| Event::Interrupt {
            irq: match what {
                Interrupt::Timer => Irq::Timer,
                Interrupt::Mail => Irq::Mail,
                Interrupt::Device => Irq::Device,
                Interrupt::Other => Irq::Other,
            },
        });
    }

    /// Saves the vector state of a task that was interrupted, if another task runs next. A grace
    /// round that is not settled yet may make another task ready. A task that has moved to another
    /// CPU was saved before.
    fn save_preempted(self, task: Ref<'k, Task>) {
        let goes_on = self.hot.current.is(task) && !self.cpu.grace().is_unsettled();
        if goes_on || self.sched.interrupted.get() != task.addr() {
            return;
        }
        if self.open(task).is_some_and(|hot| hot.has_flag(FLAG_VECTOR)) {
            self.k.machine.save_vector(task.get().vector(self.pin()));
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
        // Read as one word where the two are next to each other.
        let left = || [self.sched.more_mail.get() as u8, self.sched.before_idle.get() as u8];
        if !self.sched.queue.is_empty() {
            self.run_next()
        } else if u16::from_le_bytes(left()) != 0 {
            // A CPU that idles has set no mail aside, and has nothing to do before.
            ExitAction::Load
        } else {
            ExitAction::Idle
        }
    }

    #[inline(never)]
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
