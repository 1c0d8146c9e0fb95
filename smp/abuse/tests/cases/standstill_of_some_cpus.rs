//! A `Cell` on two CPUs: a standstill gives the pins of all CPUs, but some were not stopped.
#![forbid(unsafe_code)]

use smp::cpu::Pin;
use smp::standstill::{Standstill, Stopped};

fn stop<'a>(standstill: &'a Standstill, pin: Pin<'_>) -> Option<Stopped<'a>> {
    standstill.stop_all_of(1, pin, |_| {})
}

fn main() {
    let _ = stop;
}
