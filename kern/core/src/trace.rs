//! Trace events of the portable kernel. In builds without tracing, this module compiles to nothing.
//!
//! # Runs and stops of tasks
//! Within one entry the running task may change several times, and its state is final only when the
//! entry is nearly over. So a stop is only noted ([`Trace::note_stop`]). Its event is written when
//! the next task runs or the CPU becomes idle, with the stopped task's state at that time. If the
//! noted task continues instead, no event is written.

use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::task::{State, Task};
use smp::door::Ref;
use smp::mailbox::Idle;
use smp::trace::record;
use test_abi::trace::{Event, How, IdleHow, MailKind, Path, TaskState, Why, object_name};

use crate::rooms::Trace;

const _: () = {
    let mut i = 0;
    while i < State::ALL.len() {
        assert!(TaskState::ALL[i] as u8 == State::ALL[i] as u8, "the trace has the kernel's numbers");
        i += 1;
    }
    assert!(TaskState::ALL.len() == State::ALL.len());
};

impl<'k, M: Machine> Trace<'k, M> {
    /// Writes an event into this CPU's ring.
    #[inline(always)]
    pub fn event(self, make: impl FnOnce() -> Event) {
        record(self.pin(), make);
    }

    /// Notes that the running task is being stopped.
    #[inline(always)]
    pub fn note_stop(self) {
        #[cfg(feature = "trace")]
        if let Some(task) = self.hot.current.get(self.pin()) {
            self.sched.stopped_task.set(Some(task));
            self.sched.stopped_why.set(Why::Blocked as u8);
        }
    }

    /// Notes why the running task stops, if it is not because the task blocks.
    #[inline(always)]
    pub fn note_why(self, _why: Why) {
        #[cfg(feature = "trace")]
        self.sched.stopped_why.set(_why as u8);
    }

    /// Notes that a task leaves for another CPU, where it may run before this entry is over: so its
    /// stop is written now.
    #[inline(always)]
    pub fn note_leaves(self, _task: Ref<'k, Task>) {
        #[cfg(feature = "trace")]
        if self.sched.stopped_task.is(_task) {
            self.write_stop();
        }
    }

    /// Notes that `task` runs from here on.
    /// Requires: `current` has not been changed yet.
    #[inline(always)]
    pub fn note_run(self, _task: Ref<'k, Task>) {
        #[cfg(feature = "trace")]
        self.write_run(_task);
    }

    /// Notes that nothing runs.
    #[inline(always)]
    pub fn note_nobody(self) {
        #[cfg(feature = "trace")]
        self.write_stop();
    }

    #[cfg(feature = "trace")]
    fn write_run(self, task: Ref<'k, Task>) {
        if let Some(handed) =
            self.hot.current.get(self.pin()).filter(|old| *old != task && !self.sched.stopped_task.is(*old))
        {
            self.sched.stopped_task.set(Some(handed));
            self.sched.stopped_why.set(Why::HandedOver as u8);
        }
        let stopped = self.sched.stopped_task.get(self.pin());
        if stopped == Some(task) {
            self.sched.stopped_task.set(None);
        } else {
            self.write_stop();
        }
        if let Some(sc) = self.running() {
            let (context, priority) = (object_name(sc.object().addr()), sc.state.priority());
            self.event(|| Event::Run { task: task.get().id(), context, priority });
        }
    }

    #[cfg(feature = "trace")]
    fn write_stop(self) {
        let Some(task) = self.sched.stopped_task.take(self.pin()) else { return };
        // A task whose home is another CPU by now was under way there when it stopped.
        let state = self.open(task).map_or(State::Restart, |hot| hot.state());
        let why = Why::from_number(self.sched.stopped_why.get()).unwrap_or(Why::Blocked);
        let why = match (why, state) {
            (Why::Blocked, State::Ready) => Why::Withdrawn,
            (Why::HandedOver, State::Ready) => Why::Preempted,
            (Why::Blocked, State::Faulted) => Why::Faulted,
            _ => why,
        };
        let state = TaskState::from_number(state as u8).unwrap_or(TaskState::Ready);
        self.event(|| Event::Stop { task: task.get().id(), why, state });
    }

    /// Notes that the CPU waits for work.
    #[inline(always)]
    pub fn note_waiting(self, how: Idle) {
        self.event(|| Event::Idle {
            how: match how {
                Idle::Halt => IdleHow::Halt,
                Idle::Poll => IdleHow::Poll,
            },
        });
    }

    /// Notes that a queued or sent call is received.
    #[inline(always)]
    pub fn note_received(self, caller: Ref<'k, Task>, callee: Ref<'k, Task>) {
        self.event(|| Event::Received { caller: caller.get().id(), callee: callee.get().id() });
    }

    /// Notes that a call is answered.
    #[inline(always)]
    pub fn note_reply(self, caller: Ref<'k, Task>, callee: Ref<'k, Task>, path: Path, how: How, error: u8) {
        self.event(|| {
            let (caller, callee) = (caller.get().id(), callee.get().id());
            Event::Reply { caller, callee, path, how, error }
        });
    }

    /// Notes that a message was taken from the mailbox.
    #[inline(always)]
    pub fn note_mail(self, mail: &Mail) {
        self.event(|| {
            let (kind, about) = match mail {
                Mail::Message(parcel) => (MailKind::Message, parcel.task_id(self.pin()).raw()),
                Mail::Control(task) => (MailKind::Control, task.get(self.pin()).get().id().raw()),
                Mail::Arrival(task) => (MailKind::Arrival, task.get(self.pin()).get().id().raw()),
                Mail::Bits(object) => (MailKind::Bits, object_name(object.addr())),
                Mail::Grace(_) => (MailKind::Grace, 0),
                Mail::Shoot(_) | Mail::ShootAll(_) => (MailKind::Shootdown, 0),
                Mail::Sign => (MailKind::Sign, 0),
            };
            Event::MailOpened { about, kind }
        });
    }

    /// Notes that a task got a Notification's bits.
    #[inline(always)]
    pub fn note_bits(self, task: Ref<'k, Task>, object: Ref<'k, Notification>) {
        self.event(|| Event::BitsTaken { task: task.get().id(), object: object_name(object.addr()) });
    }
}
