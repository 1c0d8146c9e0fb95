//! As zeros that are no value, with the word that vouches for it.
#![forbid(unsafe_code)]

use smp::door::Zeroed;

struct Cup(&'static u64);

unsafe impl Zeroed for Cup {}

fn main() {
    let _ = Cup(&1).0;
}
