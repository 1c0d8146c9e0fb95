//! Devices: interrupt lines and I/O ports. The model has no interrupts.

use abi::devices::{CPU_LINES, PORTS, is_msi, line};
use abi::{Error, ObjType, Rights, irq_rights, machine_rights, port_rights};

use crate::{Answer, Args, Id, Kind, Model, Place, Refusal, Result};

/// Whether a line is that of a device which interrupts by a message.
fn is_message(number: u64) -> bool {
    u32::try_from(number).is_ok_and(is_msi)
}

impl Model {
    pub fn irq_allow(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::DEVICE)?;
        if args.0[1] == 0 {
            return self.irq_message(args.0[2]);
        }
        let irq = self.find(me, args.cap(1), ObjType::IrqHandler, irq_rights::CONFIGURE)?.object;
        let (number, how) = (args.0[2], args.0[3]);
        if number >= self.limits.lines && !is_message(number) {
            return Err(Refusal::argument(2));
        }
        let known = if is_message(number) { 0 } else { line::ALL };
        if how & !known != 0 {
            return Err(Refusal::argument(3));
        }
        if self.irq_handler(irq).line.is_some() {
            return Err(Error::BadState.into());
        }
        if self.irqs().any(|other| self.irq_handler(other).line == Some(number)) {
            return Err(Error::InUse.into());
        }
        if self.is_dying(irq) {
            return Err(Error::Dying.into());
        }
        self.irq_handler_mut(irq).line = Some(number);
        Ok(Answer::DONE)
    }

    /// Says what a device writes to interrupt, or rather whether that can be said.
    fn irq_message(&self, number: u64) -> Result {
        if !is_message(number) {
            return Err(Refusal::argument(2));
        }
        let owner = self.irqs().find(|irq| self.irq_handler(*irq).line == Some(number));
        match owner.is_some_and(|irq| self.irq_handler(irq).cpu.is_some()) {
            true => Ok(Answer::Free([0; 4], 0b11)),
            false => Err(Error::BadState.into()),
        }
    }

    /// Returns the IrqHandlers that have not ended.
    fn irqs(&self) -> impl Iterator<Item = Id> {
        self.ids().filter(|id| {
            let object = &self.objects[id.0];
            matches!(object.kind, Kind::IrqHandler(_)) && !object.ended
        })
    }

    pub fn irq_bind(&mut self, me: Id, args: &Args) -> Result {
        let control = self.find_control(me, args.cap(0))?;
        let irq = self.find(me, args.cap(1), ObjType::IrqHandler, irq_rights::HANDLE)?.object;
        let place = Place::Target(irq);
        if args.0[2] == 0 {
            self.delete(me, place, crate::reclaim::Pins::Hold)?;
            return Ok(Answer::DONE);
        }
        let note = self.find(me, args.cap(2), ObjType::Notification, Rights::NOTIFY)?;
        if args.0[3] == 0 {
            return Err(Refusal::argument(3));
        }
        self.check_cpu(control, args.0[4])?;
        let cpu = args.0[4] as usize;
        if self.irq_handler(irq).line.is_none() {
            return Err(Error::BadState.into());
        }
        self.check_empty(place).map_err(|why| match why.error {
            Error::SlotOccupied => Error::InUse.into(),
            _ => why,
        })?;
        let (line, before) = (self.irq_handler(irq).line, self.irq_handler(irq).cpu);
        if line.is_some_and(is_message) && before.is_some_and(|before| before != cpu) {
            return Err(Refusal::new(Error::NoCpu, self.cpus as u64));
        }
        let others = self.irqs().filter(|other| self.irq_handler(*other).cpu == Some(cpu)).count();
        if self.irq_handler(irq).cpu != Some(cpu) && others >= CPU_LINES {
            return Err(Refusal::new(Error::Full, CPU_LINES as u64));
        }
        // It arrives there from here on, whatever follows.
        self.irq_handler_mut(irq).cpu = Some(cpu);
        if self.is_dying(note.object) {
            return Err(Error::Dying.into());
        }
        self.irq_handler_mut(irq).bits = args.0[3];
        self.derive(place, note.place, note.object, Rights::NONE, 0);
        Ok(Answer::DONE)
    }

    pub fn irq_ack(&mut self, me: Id, args: &Args) -> Result {
        let irq = self.find(me, args.cap(0), ObjType::IrqHandler, irq_rights::HANDLE)?.object;
        match self.slots.contains_key(&Place::Target(irq)) {
            true => Ok(Answer::DONE),
            false => Err(Error::BadState.into()),
        }
    }

    pub fn port_allow(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::DEVICE)?;
        let ports = self.find(me, args.cap(1), ObjType::IoPort, port_rights::CONFIGURE)?.object;
        let [_, _, first, count, ..] = args.0;
        if first >= PORTS {
            return Err(Refusal::argument(2));
        }
        if count == 0 || count > PORTS - first {
            return Err(Refusal::argument(3));
        }
        let kernels = self.limits.ports.clone();
        if let Some(used) = (first..first + count).find(|port| kernels.contains(port)) {
            return Err(Refusal::new(Error::BadAddress, used));
        }
        if self.is_dying(ports) {
            return Err(Error::Dying.into());
        }
        if self.io_port(ports).count != 0 {
            return Err(Error::BadState.into());
        }
        *self.io_port_mut(ports) = crate::object::IoPort { first, count };
        Ok(Answer::DONE)
    }

    /// Checks the arguments of an operation on a port. The model does not say what is read.
    pub fn port_access(&self, me: Id, args: &Args, writes: bool) -> Result {
        let need = if writes { port_rights::WRITE } else { port_rights::READ };
        let ports = self.find(me, args.cap(0), ObjType::IoPort, need)?.object;
        let [_, port, bytes, value, ..] = args.0;
        if !matches!(bytes, 1 | 2 | 4) {
            return Err(Refusal::argument(2));
        }
        let crate::object::IoPort { first, count } = *self.io_port(ports);
        let is_within = port >= first && port < first + count && bytes <= first + count - port;
        if !is_within {
            return Err(Refusal::argument(1));
        }
        if !writes {
            return Ok(Answer::Free([0; 4], 1));
        }
        if value >> (bytes * 8) != 0 { Err(Refusal::argument(3)) } else { Ok(Answer::DONE) }
    }
}
