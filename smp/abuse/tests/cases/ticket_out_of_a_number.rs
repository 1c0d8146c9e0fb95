//! Use after free: a quiet period that is over, since it was never begun.
#![forbid(unsafe_code)]

use smp::cpu::CpuId;
use smp::quiesce::Ticket;

fn main() {
    let _ = Ticket { cpu: CpuId::BOOT, number: 0 };
}
