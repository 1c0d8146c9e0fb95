//! Use after free: a CPU claims to leave by IRET and continues. Others no longer wait for it.
#![forbid(unsafe_code)]

use smp::percpu::LocalEntry;
use smp::quiesce;

fn go_on(entry: &mut LocalEntry<u64, u64, u64>) {
    quiesce::left_by_iret(entry);
    let _ = entry.here();
}

fn main() {}
