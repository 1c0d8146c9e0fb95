//! A `Cell` on two CPUs: opened state, passed from its home CPU to code of another CPU.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Held;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Held<'static, Cell<u64>>>>();
}
