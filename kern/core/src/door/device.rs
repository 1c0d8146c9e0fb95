//! The everyday interrupt of a device: its driver waits on this CPU, and outranks the program.
//!
//! As with the timer's everyday interrupt ([`crate::door::timer`]), all checks come first and
//! change nothing: nothing else wants this CPU's attention, and the driver waits for bits, without
//! a deadline, or for calls, and has its own time. Then the line is masked, the driver gets the
//! bits, and runs in place of the program without being queued. It pays for the interrupt. What
//! fails a check is served by the general way, [`Door::on_interrupt`].

use abi::{Counter, FLAG_NOTIFICATION, MsgInfo};
use kern_base::cpu::{BUSY, IDLE_TOLD};
use kern_base::irq::IrqHandler;
use kern_base::machine::Machine;
use kern_base::notification::{Notification, NotificationHot};
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_AWAITED, FLAG_IN_FAULT, FLAG_SUSPENDED, OpenTask, State};

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
    pub fn on_device(self, place: u8) -> ShortEnd<'k> {
        let Some(time) = self.running() else { return ShortEnd::General };
        let now = self.k.machine.now();
        let Some(driver) = self.driver_of(place) else { return ShortEnd::General };
        if driver.time.state.rank() <= time.state.rank() || !self.is_at_ease() {
            return ShortEnd::General;
        }
        self.begin_device(driver);
        self.wake_driver(driver);
        self.save_vector_state();
        self.time().preempt(time, driver.time, now, driver.task);
        self.arm_for_driver(driver);
        ShortEnd::Runs(driver.task)
    }

    /// Serves the interrupt of a device that came to an idle CPU, if it is an everyday one.
    #[inline(always)]
    pub fn on_idle_device(self, place: u8) -> ShortEnd<'k> {
        let is_idle = self.sched.current.is_null() && self.sched.queue.is_empty();
        if !(is_idle && self.is_at_ease()) {
            return ShortEnd::General;
        }
        let now = self.k.machine.now();
        let Some(driver) = self.driver_of(place) else { return ShortEnd::General };
        self.begin_device(driver);
        self.wake_driver(driver);
        if self.sched.idle.get() == IDLE_TOLD {
            let _ = self.time().end_told_idling();
        }
        self.sched.idle.set(BUSY);
        self.time().take_over(driver.time, now, driver.task.object(), driver.task.word());
        self.arm_for_driver(driver);
        ShortEnd::Runs(driver.task)
    }

    /// Returns the driver of a device, if it waits here, and nothing but the bits has to be told.
    #[inline(always)]
    fn driver_of(self, place: u8) -> Option<Driver<'k>> {
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
        let waits = task.is_in(state) && task.word() & flags == 0 && !task.deadline.is_queued();
        if !waits || self.security().is_told() || !task.time.borrows_none() {
            return None;
        }
        let time = self.own_time_at_rest(task)?;
        Some(Driver { task, time, irq, line, note })
    }

    /// Begins to serve the interrupt: from here on nothing can fail.
    #[inline(always)]
    fn begin_device(self, driver: Driver<'k>) {
        self.k.machine.mask_line(driver.line);
        self.k.machine.end_of_interrupt();
        self.count(Counter::Interrupt);
        self.note_interrupt(Interrupt::Device);
    }

    /// Gives the driver the bits. It is ready then, and its time neither runs nor is queued.
    #[inline(always)]
    fn wake_driver(self, Driver { task, irq, note, .. }: Driver<'k>) {
        let pin = self.pin();
        let bits = note.bits.take() | irq.bits();
        let info = if note.waiter.take(pin).is_some() {
            if let Some(object) = task.end_wait_for_bits(pin) {
                self.trace().note_bits(task.object(), object);
            }
            task.materialise_frame();
            MsgInfo(0)
        } else {
            task.set_bits_pending(false);
            if let Some(object) = task.bound(pin) {
                self.trace().note_bits(task.object(), object);
            }
            MsgInfo(FLAG_NOTIFICATION)
        };
        write_values(&task.regs, info, [0, 0, bits, 0]);
        task.time.owe_none();
        task.enter(State::Ready);
    }

    /// Sets the timer for a driver with a budget.
    #[inline(always)]
    fn arm_for_driver(self, driver: Driver<'k>) {
        if driver.time.state.has_budget() {
            self.time().arm_timer(self.sched.until.get());
        }
    }
}
