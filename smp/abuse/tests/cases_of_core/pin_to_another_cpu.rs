//! All that one CPU owns, opened on another one: a pin says on which CPU code runs.
#![forbid(unsafe_code)]

use smp::cpu::Pin;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Pin<'static>>>();
}
