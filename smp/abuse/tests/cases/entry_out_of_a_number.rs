//! An entry made from a number. It would make pins of any CPU.
#![forbid(unsafe_code)]

use smp::cpu::{CpuId, Entry};

fn main() {
    let _ = Entry::new(CpuId::BOOT);
}
