//! A type whose all-zero value is invalid, with an `unsafe` implementation that claims the
//! opposite.
#![forbid(unsafe_code)]

use smp::door::Zeroed;

struct Cup(&'static u64);

unsafe impl Zeroed for Cup {}

fn main() {
    let _ = Cup(&1).0;
}
