//! Interrupts of devices arrive: the kernel masks their line, and raises bits of a Notification.
//!
//! The line stays masked until the driver asks for the next interrupt ([`abi::Op::IrqAck`]). So
//! interrupts come no more often than their driver runs, on its own CPU time. A driver may still
//! run on another CPU, or at a lower priority than the program that its device interrupts. Then
//! the CPU *rests* from that interrupt for [`REST_FACTOR`] times what it took, as it rests from
//! mail (the module `door::look`): IrqAck is refused until then.

use kern_base::machine::Machine;
use kern_base::notification::Notification;

use crate::rooms::Events;
use crate::time::schedule::REST_FACTOR;

impl<M: Machine> Events<'_, M> {
    /// Serves the interrupt of a device, which has come to a place of this CPU's table in an entry
    /// that began at `began`.
    pub fn interrupt_came(self, place: u8, began: u64) {
        let irq = self.cpu.lines.at(place).and_then(|link| link.get(self.pin()));
        let line = irq.and_then(|irq| irq.get().line());
        // Before the interrupt is acknowledged: a line that signals as long as the device wants
        // something would interrupt again.
        if let Some(line) = line {
            self.k.machine.mask_line(line.number);
        }
        self.k.machine.end_of_interrupt();
        let Some(irq) = irq.map(|irq| irq.get()) else { return };
        let Some(object) = irq.target.word.load(self.pin()).get::<Notification>() else { return };
        let before = self.hot.current.addr();
        match object.get().hot.open(self.pin()) {
            Some(hot) => self.raise(hot, irq.bits()),
            None => self.outbox().raise_remote(object, irq.bits()),
        }
        if before != 0 && self.hot.current.addr() == before {
            irq.rest_until(self.time().end_of_rest(began, REST_FACTOR));
        }
    }
}
