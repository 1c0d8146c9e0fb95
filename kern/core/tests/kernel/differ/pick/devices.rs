//! Arguments of the operations on devices.

use abi::devices::{FIRST_MSI, line};
use abi::{ObjType, Op};

use super::Pick;

/// Bits of the interrupts.
const BITS: u64 = 1 << 9;

impl Pick<'_> {
    pub(super) fn arguments_of_devices(&mut self, op: Op) -> [u64; 6] {
        let machine = self.cap(ObjType::Machine);
        let irq = self.cap(ObjType::IrqHandler);
        match op {
            Op::IrqAllow => {
                let has_none = |model: &model::Model, it| model.irq_handler(it).line.is_none();
                let irq = self.cap_where(ObjType::IrqHandler, has_none);
                let wrong = self.dice.of(&[24, u64::MAX]);
                let line = self.dice.below(24) as u64;
                let message = u64::from(FIRST_MSI) + self.dice.below(3) as u64;
                let number = if self.dice.once_in(8) { wrong } else { self.dice.of(&[line, line, message]) };
                if self.dice.once_in(4) {
                    return [machine, 0, self.dice.of(&[message, message, number]), 0, 0, 0];
                }
                let how =
                    self.dice.of(&[0, 0, line::LEVEL, line::LEVEL, line::ALL, line::ALL, line::ALL + 1]);
                [machine, irq, number, how, 0, 0]
            }
            Op::IrqBind => {
                let with_line = |model: &model::Model, it| model.irq_handler(it).line.is_some();
                let irq = self.cap_where(ObjType::IrqHandler, with_line);
                let bits = if self.dice.once_in(3) { 0 } else { self.cap(ObjType::Notification) };
                let cpus = self.pair.world.cpus();
                let wrong = usize::from(self.dice.once_in(8));
                let cpu = self.dice.below(cpus + wrong) as u64;
                [self.control(), irq, bits, self.dice.of(&[BITS, BITS, BITS, BITS, 0]), cpu, 0]
            }
            Op::IrqAck => [irq, 0, 0, 0, 0, 0],
            Op::PortAllow => {
                let has_none = |model: &model::Model, it| model.io_port(it).count == 0;
                let ports = self.cap_where(ObjType::IoPort, has_none);
                let first = self.dice.of(&[0x60, 0x60, 0x60, 0x60, 0x6f, 0x72, 0xfff8, 0x1_0000]);
                [machine, ports, first, self.dice.of(&[4, 4, 4, 8, 8, 9, 0, 0x1_0001]), 0, 0]
            }
            Op::PortRead | Op::PortWrite => {
                let has_some = |model: &model::Model, it| model.io_port(it).count != 0;
                let ports = self.cap_where(ObjType::IoPort, has_some);
                let port = self.dice.of(&[0x60, 0x60, 0x60, 0x61, 0x61, 0x63, 0x64, 0x72, 0xfff8, u64::MAX]);
                let value = self.dice.of(&[0, 0, 0xff, 0xff, 0x100, 0xffff_ffff, u64::MAX]);
                [ports, port, self.dice.of(&[1, 1, 2, 2, 4, 4, 3, 0]), value, 0, 0]
            }
            _ => self.arguments_of_memory(op),
        }
    }
}
