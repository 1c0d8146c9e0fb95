//! Use after free: pieces taken back without a quiet period of this region's own.
#![forbid(unsafe_code)]

use smp::door::Region;

fn reset(region: &Region) {
    region.start_again();
}

fn main() {
    let _ = reset;
}
