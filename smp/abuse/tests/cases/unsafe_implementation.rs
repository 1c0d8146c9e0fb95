//! All zeros are no value of a type, and an `unsafe` implementation claims that they are.
#![forbid(unsafe_code)]

use smp::door::Zeroed;

struct Cup(&'static u64);

unsafe impl Zeroed for Cup {}

fn main() {
    let _ = Cup(&1).0;
}
