//! Making large objects, and many: Retype clears memory, and holds the lock of its root.

use user_rt::Result;
use user_rt::cap::{Frame, Notification, Untyped, VSpace};
use user_rt::invoke::Pins;
use user_rt::spawn::own;

use crate::attackers::{Den, alive_if, memory_and_slot, with_memory};

/// Makes frames of 2 MiB.
pub fn frames(den: &mut Den) -> Result<()> {
    den.start_with_memory(framer, 22)
}

extern "C" fn framer(argument: u64) -> ! {
    let (memory, slot) = with_memory(argument);
    loop {
        let made = memory.retype::<Frame>(21, own::cnode().slot(slot), 1);
        let _ = memory.reset(Pins::Hold);
        alive_if(made.is_ok());
    }
}

/// Makes address spaces of very many page tables.
pub fn spaces(den: &mut Den) -> Result<()> {
    den.start_with_memory(spacer::<256>, 22)
}

/// Makes address spaces that hold the lock of their root for a while, on every CPU.
pub fn lock(den: &mut Den) -> Result<()> {
    den.start_with_memory(spacer::<200>, 22)
}

extern "C" fn spacer<const TABLES: u64>(argument: u64) -> ! {
    let (memory, slot) = with_memory(argument);
    loop {
        let made = memory.retype::<VSpace>(TABLES, own::cnode().slot(slot), 1);
        let _ = memory.reset(Pins::Hold);
        alive_if(made.is_ok());
    }
}

/// Makes 128 objects in one system call, and takes them back.
pub fn storm(den: &mut Den) -> Result<()> {
    let cpus = den.cpus();
    for cpu in cpus {
        let memory: Untyped = den.nursery.make(18)?;
        let first = den.nursery.take_slots(SLOTS)?;
        den.start(cpu, maker, memory_and_slot(&memory, first))?;
    }
    Ok(())
}

const SLOTS: u32 = 128;

extern "C" fn maker(argument: u64) -> ! {
    let (memory, first) = with_memory(argument);
    loop {
        let made = memory.retype::<Notification>(0, own::cnode().slot(first), SLOTS.into());
        let _ = memory.reset(Pins::Hold);
        alive_if(made.is_ok());
    }
}
