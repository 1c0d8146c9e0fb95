//! Physical memory written: memory at any address, cleared as if it were a frame's page.
#![forbid(unsafe_code)]

use kern_base::machine::Machine;
use kern_base::phys::Phys;

fn clear(machine: &impl Machine) {
    machine.clear(Phys(0x10_0000));
}

fn main() {}
