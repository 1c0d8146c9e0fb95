//! Use after free: a CPU claims to leave by IRET and continues. Others no longer wait for it.
#![forbid(unsafe_code)]

use smp::cpu::Entry;
use smp::quiesce::{self, Cpus};

fn go_on(cpus: &impl Cpus, entry: &mut Entry) {
    quiesce::left_by_iret(cpus, entry);
    let _ = entry.pin();
}

fn main() {}
