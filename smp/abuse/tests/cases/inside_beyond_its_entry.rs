//! A `Cell` on two CPUs: opened state is used after its entry, when it may have another home.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::cpu::Entry;
use smp::door::Homed;
use smp::percpu::Cpus;
use smp::quiesce;

fn go_on(cpus: &impl Cpus, entry: &mut Entry, state: &'static Homed<Cell<u64>>) {
    let Some(inside) = state.open(entry.pin()) else { return };
    let _ = quiesce::settle(cpus, entry);
    inside.set(1);
}

fn main() {}
