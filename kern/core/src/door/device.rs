//! The everyday interrupt of a device: its driver waits on this CPU, and outranks the program.
//!
//! As with the timer's everyday interrupt ([`crate::door::timer`]), all checks come first and
//! change nothing: nothing else wants this CPU's attention, and the driver waits for bits, without
//! a deadline, or for calls, and has its own time. Then the driver gets the bits, the line is
//! masked, and the driver runs in place of the program without being queued. It pays for the
//! interrupt. What fails a check is served by the general way, [`Door::on_interrupt`].

use abi::{Counter, FLAG_NOTIFICATION, MsgInfo};
use kern_base::cpu::{BUSY, IDLE_TOLD};
use kern_base::irq::IrqHandler;
use kern_base::machine::Machine;
use kern_base::notification::{Notification, NotificationHot};
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_AWAITED, FLAG_IN_FAULT, FLAG_SUSPENDED, OpenTask, PLAIN, State};

use crate::answer::write_values;
use crate::door::entry::Interrupt;
use crate::door::timer::ShortEnd;
use crate::rooms::Door;

/// A driver that can wake by a few writes.
#[derive(Clone, Copy)]
struct Driver<'k> {
    task: OpenTask<'k>,
    /// Its own time, which rests.
    time: OpenTime<'k>,
    irq: &'k IrqHandler,
    line: u32,
    note: &'k NotificationHot,
}

impl<'k, M: Machine> Door<'k, M> {
    /// Serves the interrupt of a device that came to a program, if it is an everyday one. It is
    /// not acknowledged yet. `place` is the one in this CPU's table.
    #[inline(always)]
    pub fn on_device(self, place: usize) -> ShortEnd<'k> {
        let now = self.k.machine.now();
        let Some(time) = self.running() else { return ShortEnd::General };
        let Some(driver) = self.driver_of(place) else { return ShortEnd::General };
        if driver.time.state.rank() <= time.state.rank() || !self.is_at_ease() {
            return ShortEnd::General;
        }
        self.wake_driver(driver);
        self.save_vector_state();
        self.time().preempt(time, driver.time, now, driver.task);
        self.arm_for_driver(driver);
        self.end_device(driver);
        ShortEnd::Runs(driver.task)
    }

    /// Serves the interrupt of a device that came to an idle CPU, if it is an everyday one.
    #[inline(always)]
    pub fn on_idle_device(self, place: usize) -> ShortEnd<'k> {
        let is_idle = self.sched.current.is_null() && self.sched.queue.is_empty();
        if !(is_idle && self.is_at_ease()) {
            return ShortEnd::General;
        }
        let Some(driver) = self.driver_of(place) else { return ShortEnd::General };
        self.wake_driver(driver);
        let now = self.k.machine.now();
        if self.sched.idle.get() == IDLE_TOLD {
            let _ = self.time().end_told_idling();
        }
        self.sched.idle.set(BUSY);
        self.time().take_over(driver.time, now, driver.task.object(), driver.task.word());
        self.arm_for_driver(driver);
        self.end_device(driver);
        ShortEnd::Runs(driver.task)
    }

    /// Returns the driver of a device, if it waits here, and nothing but the bits has to be told.
    #[inline(always)]
    fn driver_of(self, place: usize) -> Option<Driver<'k>> {
        let pin = self.pin();
        let irq = self.cpu.lines.at(place)?.get(pin)?.get();
        let line = irq.line()?.number;
        let note = irq.target.word.load(pin).get::<Notification>()?.get().hot.open(pin)?;
        let (task, state) = match note.waiter.get(pin) {
            Some(waiter) => (waiter, State::WaitBits),
            None => (note.bound.get(pin)?, State::Recv),
        };
        let task = OpenTask::here(task, pin);
        let flags = u64::from(FLAG_SUSPENDED | FLAG_AWAITED | FLAG_IN_FAULT) << 8;
        let state_and_flags = task.word() & (flags | u64::from(!PLAIN));
        if state_and_flags != state as u64
            || task.deadline.is_queued()
            || self.security().is_told()
            || !task.time.borrows_none()
        {
            return None;
        }
        let time = self.own_time_at_rest(task)?;
        Some(Driver { task, time, irq, line, note })
    }

    /// Gives the driver the bits: from here on nothing can fail. The driver is ready then, and its
    /// time neither runs nor is queued.
    #[inline(always)]
    fn wake_driver(self, Driver { task, irq, note, .. }: Driver<'k>) {
        let pin = self.pin();
        self.count(Counter::Interrupt);
        self.note_interrupt(Interrupt::Device);
        let bits = irq.bits();
        debug_assert!(note.bits.get() == 0, "the driver waits for bits that are there");
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

    /// Masks the line and acknowledges the interrupt. This is the last step: the driver asks for
    /// the next interrupt when it runs. The masking is a call, which few values outlive here.
    #[inline(always)]
    fn end_device(self, driver: Driver<'k>) {
        self.k.machine.mask_line(driver.line);
        self.k.machine.end_of_interrupt();
    }

    /// Sets the timer for a driver with a budget.
    #[inline(always)]
    fn arm_for_driver(self, driver: Driver<'k>) {
        if driver.time.state.has_budget() {
            self.time().arm_timer(self.sched.until.get());
        }
    }
}
