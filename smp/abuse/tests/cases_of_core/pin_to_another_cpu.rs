//! State of one CPU, opened on another CPU: a pin of the first CPU is passed there.
#![forbid(unsafe_code)]

use smp::cpu::Pin;
use smp::lock::Lock;

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Lock<Pin<'static>>>();
}
