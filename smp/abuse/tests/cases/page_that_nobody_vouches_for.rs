//! Physical memory mapped: only unsafe code vouches for an address.
#![forbid(unsafe_code)]

use kern_base::phys::PhysPage;
use smp::door::Vouched;

fn main() {
    let _ = PhysPage::vouched(Vouched::new(0x10_0000));
}
