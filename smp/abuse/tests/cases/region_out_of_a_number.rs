//! Physical memory written: a region made from an address.
#![forbid(unsafe_code)]

use smp::door::Region;

fn main() {
    let _ = Region::new(0xffff_8000_0000_0000, 4096);
}
