//! Messages by which devices interrupt (MSI): a word that a device writes to the address of a
//! CPU's interrupt controller (Intel SDM, volume 3A, 12.11). The kernel cannot mask them, and no
//! other interrupt controller has a part in them.

use kern_base::irq::Route;

use crate::cpu::percpu;
use crate::trap::FIRST_DEVICE;

/// Where the controllers of CPUs take messages, and the place of a CPU's number there.
const ADDRESS: u64 = 0xfee0_0000;
const DESTINATION_SHIFT: u32 = 12;

/// Returns the number of a CPU's interrupt controller, if it fits in the eight bits that messages
/// and other controllers have for it.
pub fn short_apic_id(to: Route) -> Option<u8> {
    let apic = percpu::of(to.cpu).and_then(|cpu| u8::try_from(cpu.apic_id).ok());
    // That one means all CPUs.
    apic.filter(|apic| *apic != u8::MAX)
}

/// Returns the address and the word of a message to a CPU: fixed, by a change, at the vector of the
/// place in the CPU's table.
pub fn message_to(to: Route) -> Option<(u64, u32)> {
    let apic = short_apic_id(to)?;
    Some((ADDRESS | u64::from(apic) << DESTINATION_SHIFT, (FIRST_DEVICE + to.place).into()))
}
