//! Type confusion: a word that was stored as one type would load as another with its number.
#![forbid(unsafe_code)]

#[repr(C, align(64))]
pub struct Cup {
    header: u64,
}

#[repr(C, align(64))]
pub struct Barrel {
    header: u64,
}

smp::kernel_objects! {
    pub enum Objects(header: u64) {
        Cup = 1, abi::SharedRights;
        Barrel = 1, abi::SharedRights;
    }
}

fn main() {}
