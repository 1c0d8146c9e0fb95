//! Physical memory mapped: an entry of a page table that leads anywhere.
#![forbid(unsafe_code)]

use kern_base::paging::{Entry, Pte};

fn main() {
    Entry::default().store(Pte(0x10_0007));
}
