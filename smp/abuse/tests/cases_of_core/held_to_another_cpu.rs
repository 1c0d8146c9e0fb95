//! A `Cell` on two CPUs: state held by its home CPU, passed to a CPU whose number is not checked.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Held;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Held<'static, Cell<u64>>>>();
}
