//! Physical memory mapped: a page made from its fields.
#![forbid(unsafe_code)]

use kern_base::phys::{Phys, PhysPage};

fn main() {
    let _ = PhysPage { at: Phys(0x10_0000), log2: 12 };
}
