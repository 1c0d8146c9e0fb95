//! Use after free: a forged ticket of a quiet period that never began, and so counts as over.
#![forbid(unsafe_code)]

use smp::cpu::CpuId;
use smp::quiesce::Ticket;

fn main() {
    let _ = Ticket { cpu: CpuId::BOOT, number: 0 };
}
