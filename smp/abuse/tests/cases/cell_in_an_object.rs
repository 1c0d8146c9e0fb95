//! A `Cell` on two CPUs: every CPU can load a reference to a kernel object from an `ObjWord`.
#![forbid(unsafe_code)]

use core::cell::Cell;

#[repr(C, align(64))]
pub struct Cup {
    header: Cell<u64>,
}

smp::kernel_objects! {
    pub enum Objects(header: Cell<u64>) {
        Cup = 1, abi::SharedRights;
    }
}

fn main() {}
