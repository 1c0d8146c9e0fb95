//! Type confusion: a word has five bits for the type, and 0 says that there is no object.
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
