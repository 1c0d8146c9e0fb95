//! Memory handed out twice: a region without a lock, shared by all CPUs.
#![forbid(unsafe_code)]

use smp::door::{Ptr, Region};

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Ptr<Region>>();
}
