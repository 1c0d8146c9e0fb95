//! IoPorts get their ranges, and programs read and write ports through them.

use abi::devices::PORTS;
use abi::{Error, Op};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::port::IoPort;

use crate::args::Args;
use crate::rooms::Make;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::PortAllow`].
    pub fn port_allow(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::PortAllow as u8 }, 0>(me, args.cap())?;
        let ports = self.caps().operand::<IoPort, { Op::PortAllow as u8 }, 1>(me, args.cap1())?.get();
        let (first, count) = (args.a2, args.a3);
        refuse_if(first >= PORTS, Refusal::argument(2))?;
        refuse_if(count == 0 || count > PORTS - first, Refusal::argument(3))?;
        let last = (first + count - 1) as u16;
        if let Some(used) = self.k.machine.used_port(first as u16, last) {
            return Err(Refusal::new(Error::BadAddress, used.into()));
        }
        refuse_if(ports.header.has_flag(FLAG_DYING), Error::Dying)?;
        refuse_if(!ports.give(first as u16, count), Error::BadState)?;
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::PortRead`].
    pub fn port_read(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let ports = self.caps().operand::<IoPort, { Op::PortRead as u8 }, 0>(me, args.cap())?.get();
        let (port, bytes) = port_of(ports, args)?;
        Ok(Answer::one(self.k.machine.read_port(port, bytes).into()))
    }

    /// Carries out [`abi::Op::PortWrite`].
    pub fn port_write(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let ports = self.caps().operand::<IoPort, { Op::PortWrite as u8 }, 0>(me, args.cap())?.get();
        let (port, bytes) = port_of(ports, args)?;
        refuse_if(args.a3 >> (u32::from(bytes) * u8::BITS) != 0, Refusal::argument(3))?;
        self.k.machine.write_port(port, bytes, args.a3 as u32);
        Ok(Answer::DONE)
    }
}

/// Returns the port that a system call names, and how many bytes.
fn port_of(ports: &IoPort, args: &Args) -> Result<(u16, u8)> {
    refuse_if(!matches!(args.a2, 1 | 2 | 4), Refusal::argument(2))?;
    let port = ports.port(args.a1, args.a2).ok_or(Refusal::argument(1))?;
    Ok((port, args.a2 as u8))
}
