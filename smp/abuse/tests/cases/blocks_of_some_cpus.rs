//! Use after free: a kernel that knows of one CPU, so that grace periods end too soon.
#![forbid(unsafe_code)]

use smp::door::Table;
use smp::percpu::{All, PerCpu};

fn all(blocks: &'static [PerCpu<u64, u64, u64>]) -> All<u64, u64, u64> {
    All::new(Table::from_static(blocks))
}

fn main() {
    let _ = all;
}
