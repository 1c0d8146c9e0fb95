//! Physical memory mapped: a page from an address, which only unsafe code may make.
#![forbid(unsafe_code)]

use kern_base::phys::PhysPage;
use smp::door::Vouched;

fn main() {
    let _ = PhysPage::vouched(Vouched::new(0x10_0000));
}
