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
use crate::time::schedule::{REST_FACTOR, REST_MAX};

impl<M: Machine> Events<'_, M> {
    /// Serves the interrupt of a device, which has come to a place of this CPU's table in an entry
    /// that began at `began`.
    pub fn interrupt_came(self, place: usize, began: u64) {
        let irq = self.cpu.lines.at(place).and_then(|link| link.get(self.pin()));
        let Some((irq, line)) = irq.and_then(|irq| Some((irq.get(), irq.get().line()?))) else {
            // Its IrqHandler has ended. A line that is open all the same would interrupt for ever.
            self.k.machine.mask_place(place as u8);
            return self.k.machine.end_of_interrupt();
        };
        let before = self.hot.current.addr();
        let rested = irq.rests_until();
        if before != 0 {
            // From the moment at which the line is masked another CPU may ask for the next one.
            irq.rest_until(began.saturating_add(REST_MAX));
        }
        // Before the interrupt is acknowledged: a line that signals as long as the device wants
        // something would interrupt again.
        self.k.machine.mask_line(line.number);
        self.k.machine.end_of_interrupt();
        if let Some(object) = irq.target.word.load(self.pin()).get::<Notification>() {
            match object.get().hot.open(self.pin()) {
                Some(hot) => self.raise(hot, irq.bits()),
                None => self.raise_for(irq, object),
            }
        }
        if before != 0 {
            // A message comes although the CPU rests: it would make all other devices wait for it.
            let rests_on = rested > began;
            let takes_time = !rests_on && self.takes_time_from(before);
            irq.rest_until(if takes_time { self.rest_from(began) } else { rested });
        }
    }

    /// Raises bits on another CPU, for the rank of the task that has bound the IrqHandler, and not
    /// for that of the program that is interrupted.
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
    fn rest_from(self, began: u64) -> u64 {
        let now = self.k.machine.now();
        let rest = self.time().end_of_rest(began, REST_FACTOR).saturating_sub(now);
        let until = self.sched.devices_rest.get().max(now).saturating_add(rest);
        self.sched.devices_rest.set(until);
        until
    }
}
