//! Devices: who gave a line or ports away, and who said where interrupts go.

use abi::{Rights, irq_rights, machine_rights, port_rights, sched_control_rights};

use crate::change::Change;

impl Change<'_> {
    /// Checks that every change of IrqHandlers and IoPorts was made by right.
    pub fn devices(&mut self) {
        let (before, after) = (self.before, self.after);
        for now in &after.s.irqs {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            let was = again.and_then(|thing| before.s.irqs.get(thing.number));
            if now.line != 0 && was.map_or(0, |was| was.line) != now.line {
                self.given(now.at, self.may(now.at, irq_rights::CONFIGURE));
            }
            let target = after.slot(now.target).map_or(0, |slot| slot.object);
            let had = was.and_then(|was| before.slot(was.target)).map_or(0, |slot| slot.object);
            if target != 0 && target != had && !self.may_bind(now.at, target) {
                let (who, what) = (self.actors(), self.object(now.at));
                let to = self.object(target);
                self.excess("device", format!("{who} could not bind {what} to {to}"));
            }
        }
        for now in &after.s.ports {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            let was = again.and_then(|thing| before.s.ports.get(thing.number));
            if now.count != 0 && was.map_or(0, |was| was.count) == 0 {
                self.given(now.at, self.may(now.at, port_rights::CONFIGURE));
            }
        }
    }

    /// Complains if a device was given away by processes that could not, even if they `may` change
    /// the object that has it now.
    fn given(&mut self, at: u64, may: bool) {
        if !(may && self.may_machine(machine_rights::DEVICE)) {
            let (who, what) = (self.actors(), self.object(at));
            self.excess("device", format!("{who} could not give a device to {what}"));
        }
    }

    fn may_bind(&self, irq: u64, to: u64) -> bool {
        let mut controls = self.before.s.controls.iter();
        self.may(irq, irq_rights::HANDLE)
            && self.may(to, Rights::NOTIFY)
            && controls.any(|control| self.may(control.at, sched_control_rights::SCHEDULE))
    }
}
