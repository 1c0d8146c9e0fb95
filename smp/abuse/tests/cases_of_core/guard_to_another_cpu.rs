//! A `Cell` on two CPUs: a lock's guard, and its value, shown to another CPU at the same time.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::AtomicLink;
use smp::lock::Guard;

static SHOWN: AtomicLink<Guard<'static, Cell<u64>>> = AtomicLink::null();

fn main() {
    let _ = &SHOWN;
}
