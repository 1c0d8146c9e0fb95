//! Use after free: a forged answer of a CPU ends its grace period. (A second answer panics.)
#![forbid(unsafe_code)]

use smp::cpu::CpuId;
use smp::quiesce::GraceMail;

fn main() {
    let _ = GraceMail { by: CpuId::BOOT, at: CpuId::BOOT };
}
