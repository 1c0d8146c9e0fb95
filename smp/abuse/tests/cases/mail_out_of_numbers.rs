//! Use after free: an answer of a CPU that has not answered ends its grace period. (One that is taken in twice panics.)
#![forbid(unsafe_code)]

use smp::cpu::CpuId;
use smp::quiesce::GraceMail;

fn main() {
    let _ = GraceMail { by: CpuId::BOOT, at: CpuId::BOOT };
}
