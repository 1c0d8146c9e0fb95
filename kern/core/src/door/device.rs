//! The everyday interrupt of a device: its driver waits on this CPU, and outranks the program; or
//! it is on another CPU, and the program goes on.
//!
//! As with the timer's everyday interrupt ([`crate::door::timer`]), all checks come first and
//! change nothing: nothing else wants this CPU's attention, and the driver listens as the module
//! `door::listener` says. Then the driver gets the bits, the line is masked, and the driver runs in
//! place of the program without being queued. It pays for the interrupt. Bits for another CPU are
//! sent there. What fails a check is served by the general way, [`Door::on_interrupt`].

use abi::Counter;
use kern_base::cpu::{BUSY, IDLE_TOLD};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::sched_context::OpenTime;
use smp::door::Ref;

use crate::door::entry::Interrupt;
use crate::door::listener::Listener;
use crate::door::timer::ShortEnd;
use crate::events::interrupts::Signal;
use crate::rooms::Door;

impl<'k, M: Machine> Door<'k, M> {
    /// Serves the interrupt of a device that came to a program, if it is an everyday one. It is
    /// not acknowledged yet. `place` is the one in this CPU's table.
    #[inline(always)]
    pub fn on_device(self, place: usize) -> ShortEnd<'k> {
        let now = self.k.machine.now();
        let Some(time) = self.running() else { return ShortEnd::General };
        let Some(signal) = self.events().signal_at(place) else { return ShortEnd::General };
        let Some(object) = self.events().told_by(signal) else { return ShortEnd::General };
        let Some(note) = object.get().hot.open(self.pin()) else {
            return self.send_on(signal, object, time, now);
        };
        let Some(driver) = self.listener_of(note) else { return ShortEnd::General };
        if driver.time.state.rank() <= time.state.rank() || !self.is_at_ease() {
            return ShortEnd::General;
        }
        self.wake_driver(driver, signal);
        self.save_vector_state();
        self.time().preempt(time, driver.time, now, driver.task);
        self.arm_for_driver(driver);
        self.events().end_signal(signal);
        ShortEnd::Runs(driver.task)
    }

    /// Serves the interrupt of a device that came to an idle CPU, if it is an everyday one.
    #[inline(always)]
    pub fn on_idle_device(self, place: usize) -> ShortEnd<'k> {
        let is_idle = self.sched.current.is_null() && self.sched.queue.is_empty();
        if !(is_idle && self.is_at_ease()) {
            return ShortEnd::General;
        }
        let Some(signal) = self.events().signal_at(place) else { return ShortEnd::General };
        let object = self.events().told_by(signal);
        let note = object.and_then(|object| object.get().hot.open(self.pin()));
        let Some(driver) = note.and_then(|note| self.listener_of(note)) else { return ShortEnd::General };
        self.wake_driver(driver, signal);
        let now = self.k.machine.now();
        if self.sched.idle.get() == IDLE_TOLD {
            let _ = self.time().end_told_idling();
        }
        self.sched.idle.set(BUSY);
        self.time().take_over(driver.time, now, driver.task.object(), driver.task.word());
        self.arm_for_driver(driver);
        self.events().end_signal(signal);
        ShortEnd::Runs(driver.task)
    }

    /// Sends the bits of an interrupt that came at `began` to another CPU. The program goes on, and
    /// does not pay for the interrupt.
    #[inline(always)]
    fn send_on(
        self,
        signal: Signal<'k>,
        object: Ref<'k, Notification>,
        time: OpenTime<'k>,
        began: u64,
    ) -> ShortEnd<'k> {
        if !self.is_at_ease() {
            return ShortEnd::General;
        }
        self.note_device();
        self.time().begin_interrupt(began);
        let now = self.events().send_signal(signal, object, began);
        self.time().excuse_until(time, now);
        ShortEnd::Continues
    }

    /// Gives the driver the bits: from here on nothing can fail.
    #[inline(always)]
    fn wake_driver(self, driver: Listener<'k>, signal: Signal<'k>) {
        self.note_device();
        self.give_bits(driver, signal.irq.bits());
    }

    #[inline(always)]
    fn note_device(self) {
        self.count(Counter::Interrupt);
        self.note_interrupt(Interrupt::Device);
    }

    /// Sets the timer for a driver with a budget.
    #[inline(always)]
    fn arm_for_driver(self, driver: Listener<'k>) {
        if driver.time.state.has_budget() {
            self.time().arm_timer(self.sched.until.get());
        }
    }
}
