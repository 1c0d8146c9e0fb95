//! A `Cell` on two CPUs: the guard of a lock, and with it the value, shown to another CPU while this one goes on.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::AtomicLink;
use smp::lock::Guard;

static SHOWN: AtomicLink<Guard<'static, Cell<u64>>> = AtomicLink::null();

fn main() {
    let _ = &SHOWN;
}
