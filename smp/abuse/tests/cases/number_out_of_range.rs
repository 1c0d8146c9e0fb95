//! Type confusion: a type number that does not fit the five bits of a word, or is 0 (no object).
#![forbid(unsafe_code)]

#[repr(C, align(64))]
pub struct Cup {
    header: u64,
}

smp::kernel_objects! {
    pub enum Objects(header: u64) {
        Cup = 32, abi::SharedRights;
    }
}

fn main() {}
