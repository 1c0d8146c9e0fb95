//! A task that waits, and can run by a few writes: it has its own time, and nothing has to be done
//! or told but what it waits for.
//!
//! Most such tasks are *listeners*: they wait on this CPU for the bits of a Notification, in Wait
//! without a deadline, or receive, with the Notification bound to them. The short ways of a
//! device's interrupt ([`crate::door::device`]) and of bits that come alone as mail
//! ([`crate::door::arrivals`]) let a listener run without queueing it. The answer to a request lets
//! its task run in the same way ([`crate::door::requests`]).

use abi::{FLAG_NOTIFICATION, MsgInfo};
use kern_base::machine::Machine;
use kern_base::notification::NotificationHot;
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_AWAITED, FLAG_IN_FAULT, FLAG_SUSPENDED, OpenTask, PLAIN, State};

use crate::answer::write_values;
use crate::rooms::Door;

/// A task that listens to a Notification.
#[derive(Clone, Copy)]
pub struct Listener<'k> {
    pub task: OpenTask<'k>,
    /// Its own time, which rests.
    pub time: OpenTime<'k>,
    note: &'k NotificationHot,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Returns the task that listens to a Notification of this CPU.
    #[inline(always)]
    pub(super) fn listener_of(self, note: &'k NotificationHot) -> Option<Listener<'k>> {
        let pin = self.pin();
        let (task, state) = match note.waiter.get(pin) {
            Some(waiter) => (waiter, State::WaitBits),
            // Bits that came while its time was elsewhere are told before.
            None if note.bits.get() != 0 => return None,
            None => (note.bound.get(pin)?, State::Recv),
        };
        let task = OpenTask::here(task, pin);
        let time = self.time_to_go_on(task, state)?;
        Some(Listener { task, time, note })
    }

    /// Returns the time of a task of this CPU that waits in this state, if the task can go on with
    /// its own time, and nothing else has to be done or told when it does.
    #[inline(always)]
    pub(super) fn time_to_go_on(self, task: OpenTask<'k>, state: State) -> Option<OpenTime<'k>> {
        let flags = u64::from(FLAG_SUSPENDED | FLAG_AWAITED | FLAG_IN_FAULT) << 8;
        let state_and_flags = task.word() & (flags | u64::from(!PLAIN));
        if state_and_flags != state as u64
            || task.deadline.is_queued()
            || self.security().is_told()
            || !task.time.borrows_none()
        {
            return None;
        }
        self.own_time_at_rest(task)
    }

    /// Gives a listener bits. It is ready then, and its time neither runs nor is queued.
    #[inline(always)]
    pub(super) fn give_bits(self, Listener { task, note, .. }: Listener<'k>, bits: u64) {
        let pin = self.pin();
        debug_assert!(note.bits.get() == 0, "a task listens for bits that are there");
        let info = if note.waiter.take(pin).is_some() {
            if let Some(object) = task.end_wait_for_bits(pin) {
                self.trace().note_bits(task.object(), object);
            }
            MsgInfo(0)
        } else {
            task.set_bits_pending(false);
            if let Some(object) = task.bound(pin) {
                self.trace().note_bits(task.object(), object);
            }
            MsgInfo(FLAG_NOTIFICATION)
        };
        // Writes all registers for which the plain bit stands, and clears that bit.
        write_values(&task.regs, info, [0, 0, bits, 0]);
        task.time.owe_none();
        task.enter(State::Ready);
    }
}
