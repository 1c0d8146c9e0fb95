//! A null reference: zeros are no value of the type.
#![forbid(unsafe_code)]

use smp::door::Zeroed;

struct Cup(&'static u64);

impl Zeroed for Cup {}

fn main() {
    let _ = Cup(&1).0;
}
