//! Memory handed out twice: a region that no lock guards, where all CPUs find it.
#![forbid(unsafe_code)]

use smp::door::{Ptr, Region};

fn seen_by_all_cpus<T: Sync>() {}

fn main() {
    seen_by_all_cpus::<Ptr<Region>>();
}
