//! Use after free: a pin is used after its entry has passed a quiescent point.
#![forbid(unsafe_code)]

use smp::cpu::Entry;
use smp::percpu::Cpus;
use smp::quiesce;

fn go_on(cpus: &impl Cpus, entry: &mut Entry) {
    let pin = entry.pin();
    let _ = quiesce::settle(cpus, entry);
    let _ = cpus.all().len();
    let _ = pin.cpu();
}

fn main() {}
