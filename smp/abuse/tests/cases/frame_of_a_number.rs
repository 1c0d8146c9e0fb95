//! Physical memory mapped: a frame of memory that was not carved.
#![forbid(unsafe_code)]

use kern_base::header::RootId;
use kern_base::memory::Frame;
use kern_base::phys::{Phys, PhysRange};

fn main() {
    let _ = Frame::new(RootId(0), PhysRange { base: Phys(0), bytes: 4096 }, 12);
}
