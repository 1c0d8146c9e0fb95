//! Physical memory mapped: a page-table entry made from a number, with any address.
#![forbid(unsafe_code)]

use kern_base::paging::{Entry, Pte};

fn main() {
    Entry::default().store(Pte(0x10_0007));
}
