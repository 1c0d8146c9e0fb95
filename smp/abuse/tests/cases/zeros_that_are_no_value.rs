//! A null reference: a type whose all-zero value is invalid.
#![forbid(unsafe_code)]

use smp::door::Zeroed;

struct Cup(&'static u64);

impl Zeroed for Cup {}

fn main() {
    let _ = Cup(&1).0;
}
