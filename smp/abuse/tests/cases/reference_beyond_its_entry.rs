//! Use after free: a reference that was loaded through a pin is used after the pin's entry.
#![forbid(unsafe_code)]

use smp::cpu::Entry;
use smp::door::AtomicLink;
use smp::percpu::Cpus;
use smp::quiesce;

fn go_on(cpus: &impl Cpus, entry: &mut Entry, link: &AtomicLink<u64>) -> u64 {
    let Some(object) = link.get(entry.pin()) else { return 0 };
    let _ = quiesce::settle(cpus, entry);
    *object
}

fn main() {}
