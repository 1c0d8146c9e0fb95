//! All that one CPU owns, opened on another one: a pin made by the wish of its user.
#![forbid(unsafe_code)]

use smp::cpu::{CpuId, Pin};

fn main() {
    let _ = Pin::new(CpuId::BOOT);
}
