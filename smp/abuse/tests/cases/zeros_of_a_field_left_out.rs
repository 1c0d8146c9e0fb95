//! A null reference: a structure is said to start as zeros, and one of its fields is left out.
#![forbid(unsafe_code)]

use smp::sync::AtomicU64;

struct Cup {
    number: AtomicU64,
    next: &'static u64,
}

smp::zeroed! { Cup { number } }

fn main() {}
