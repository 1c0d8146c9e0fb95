//! Interrupts of devices arrive: the kernel masks their line, and raises bits of a Notification.
//!
//! The line stays masked until the driver asks for the next interrupt ([`abi::Op::IrqAck`]). So
//! interrupts come no more often than their driver runs, on its own CPU time. (Messages cannot be
//! masked: [`abi::devices`].) A driver may still run on another CPU, or at a lower priority than
//! the program that its device interrupts. Then the CPU *rests* from that interrupt for
//! [`REST_FACTOR`] times what it took, as it rests from mail (the module `door::look`): IrqAck is
//! refused until then. Rests of several devices follow each other.

use kern_base::irq::IrqHandler;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use smp::door::Ref;

use crate::outbox::mail::LOWEST_RANK;
use crate::rooms::Events;
use crate::time::schedule::{REST_FACTOR, REST_MAX, rest_after};

/// The handler of an interrupt, and the line on which it came.
#[derive(Clone, Copy)]
pub struct Signal<'k> {
    pub irq: &'k IrqHandler,
    line: u32,
}

impl<'k, M: Machine> Events<'k, M> {
    /// Serves the interrupt of a device, which has come to a place of this CPU's table in an entry
    /// that began at `began`.
    pub fn interrupt_came(self, place: usize, began: u64) {
        let Some(signal) = self.signal_at(place) else {
            // Its IrqHandler has ended. A line that is open all the same would interrupt for ever.
            self.k.machine.mask_place(place as u8);
            return self.k.machine.end_of_interrupt();
        };
        let before = self.hot.current.addr();
        let rested = self.begin_rest(signal, began, before != 0);
        self.end_signal(signal);
        if let Some(object) = self.told_by(signal) {
            match object.get().hot.open(self.pin()) {
                Some(hot) => self.raise(hot, signal.irq.bits()),
                None => self.raise_for(signal.irq, object),
            }
        }
        let takes_time = before != 0 && self.takes_time_from(before);
        self.settle_rest(signal, rested, began, takes_time.then(|| self.k.machine.now()));
    }

    /// Returns what has interrupted this CPU at a place of its table.
    #[inline(always)]
    pub fn signal_at(self, place: usize) -> Option<Signal<'k>> {
        let irq = self.cpu.lines.at(place)?.get(self.pin())?.get();
        Some(Signal { irq, line: irq.line()?.number })
    }

    /// Returns the Notification that an interrupt raises bits of.
    #[inline(always)]
    pub fn told_by(self, signal: Signal<'k>) -> Option<Ref<'k, Notification>> {
        signal.irq.target.word.load(self.pin()).get::<Notification>()
    }

    /// Masks the line of an interrupt, and acknowledges it. Masking comes first: a line that
    /// signals as long as the device wants something would interrupt again. Masking is a call,
    /// which few values outlive.
    #[inline(always)]
    pub fn end_signal(self, signal: Signal<'k>) {
        self.k.machine.mask_line(signal.line);
        self.k.machine.end_of_interrupt();
    }

    /// Ends an interrupt of a program, which goes on, and raises its bits on another CPU. Returns
    /// the time.
    #[inline(always)]
    pub fn send_signal(self, signal: Signal<'k>, object: Ref<'k, Notification>, began: u64) -> u64 {
        let rested = self.begin_rest(signal, began, true);
        self.end_signal(signal);
        self.raise_for(signal.irq, object);
        let now = self.k.machine.now();
        self.settle_rest(signal, rested, began, Some(now));
        now
    }

    /// Lets this CPU rest from a device for now, if a program `runs`: from the moment at which the
    /// line is masked another CPU may ask for the next interrupt. Returns until when it rests
    /// already.
    #[inline(always)]
    fn begin_rest(self, signal: Signal<'k>, began: u64, runs: bool) -> u64 {
        let rested = signal.irq.rests_until();
        if runs {
            signal.irq.rest_until(began.saturating_add(REST_MAX));
        }
        rested
    }

    /// Sets until when this CPU rests from a device whose interrupt began at `began`: longer, if
    /// the interrupt has taken time that nobody pays for, until `now`. A message comes although the
    /// CPU rests: it would make all other devices wait for it.
    #[inline(always)]
    fn settle_rest(self, signal: Signal<'k>, rested: u64, began: u64, now: Option<u64>) {
        let until = now.filter(|_| rested <= began).map_or(rested, |now| self.rest_from(began, now));
        signal.irq.rest_until(until);
    }

    /// Raises bits on another CPU, for the rank of the task that has bound the IrqHandler, and not
    /// for that of the program that is interrupted.
    #[inline(always)]
    fn raise_for(self, irq: &IrqHandler, object: Ref<'_, Notification>) {
        let before = self.sched.works_for.replace(irq.rank().max(LOWEST_RANK));
        self.outbox().raise_remote(object, irq.bits());
        self.sched.works_for.set(before);
    }

    /// Returns whether an interrupt has taken time that nobody pays for: the program of the task at
    /// address `before` goes on, or a driver whose budget does not count it runs now.
    fn takes_time_from(self, before: u64) -> bool {
        self.hot.current.addr() == before || self.running().is_some_and(|sc| sc.state.has_budget())
    }

    /// Returns until when this CPU rests from the device whose interrupt began at `began`: after
    /// all others from which it rests.
    #[inline(always)]
    fn rest_from(self, began: u64, now: u64) -> u64 {
        let rest = rest_after(now.wrapping_sub(began), REST_FACTOR);
        let until = self.sched.devices_rest.get().max(now).saturating_add(rest);
        self.sched.devices_rest.set(until);
        until
    }
}
