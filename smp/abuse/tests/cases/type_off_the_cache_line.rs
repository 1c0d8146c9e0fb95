//! A reference to the wrong place: words have no room for the lowest bits of an object's address.
#![forbid(unsafe_code)]

#[repr(C, align(32))]
pub struct Cup {
    header: u64,
}

smp::kernel_objects! {
    pub enum Objects(header: u64) {
        Cup = 1, abi::SharedRights;
    }
}

fn main() {}
