//! Type confusion: an implementation by hand claims a number that the set has for another type.
#![forbid(unsafe_code)]

use smp::door::{KernelObject, Numbered};

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
    }
}

impl KernelObject for Barrel {
    type Set = Objects;
    type Number = Numbered<1>;
    type Rights = abi::SharedRights;
}

fn main() {}
