//! As a pin out of a number: entries make pins.
#![forbid(unsafe_code)]

use smp::cpu::{CpuId, Entry};

fn main() {
    let _ = Entry::new(CpuId::BOOT);
}
