//! State of one CPU, opened on another CPU: a pin made from a number.
#![forbid(unsafe_code)]

use smp::cpu::{CpuId, Pin};

fn main() {
    let _ = Pin::new(CpuId::BOOT);
}
