//! A `Cell` on two CPUs: any CPU opens a shared link.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::AtomicLink;

static LINK: AtomicLink<Cell<u64>> = AtomicLink::null();

fn main() {
    let _ = &LINK;
}
