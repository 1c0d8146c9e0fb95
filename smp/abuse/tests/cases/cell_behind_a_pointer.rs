//! A `Cell` on two CPUs: a stored reference inside a value that a lock passes from CPU to CPU.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Ptr;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Ptr<Cell<u64>>>>();
}
