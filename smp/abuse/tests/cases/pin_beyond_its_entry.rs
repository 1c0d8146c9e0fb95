//! Use after free: a pin is used after its entry has passed a quiescent point.
#![forbid(unsafe_code)]

use smp::cpu::Entry;
use smp::quiesce::{self, Cpus};

fn go_on(cpus: &impl Cpus, entry: &mut Entry) {
    let pin = entry.pin();
    let _ = quiesce::settle(cpus, entry);
    cpus.epoch().now();
    let _ = pin.cpu();
}

fn main() {}
