//! A `Cell` on two CPUs: state that its home CPU holds, handed to another CPU that is not asked for its number.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Held;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Held<'static, Cell<u64>>>>();
}
