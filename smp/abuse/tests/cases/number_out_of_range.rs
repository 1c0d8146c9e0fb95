//! Type confusion: a type number that does not fit. A word has five bits for it, and 0 means that
//! there is no object.
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
