//! A `Cell` on two CPUs: a lock's guard, and so its value, shared with another CPU.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::AtomicLink;
use smp::lock::Guard;

static SHOWN: AtomicLink<Guard<'static, Cell<u64>>> = AtomicLink::null();

fn main() {
    let _ = &SHOWN;
}
