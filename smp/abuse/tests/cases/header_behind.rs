//! An object whose header is not at its start, where assembly and deletion expect it.
#![forbid(unsafe_code)]

#[repr(C, align(64))]
pub struct Cup {
    content: u64,
    header: u64,
}

smp::kernel_objects! {
    pub enum Objects(header: u64) {
        Cup = 1, abi::SharedRights;
    }
}

fn main() {}
