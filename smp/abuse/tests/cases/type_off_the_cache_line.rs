//! A reference to the wrong address: words do not store the lowest bits of an object's address.
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
