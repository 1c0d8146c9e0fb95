//! Type confusion: another crate adds its own type to the kernel's set, with the number of tasks.
#![forbid(unsafe_code)]

use kern_base::objects::Objects;
use smp::door::{Holds, Numbered};

#[repr(C, align(64))]
pub struct Barrel {
    header: u64,
}

impl Holds<Numbered<6>> for Objects {
    type Object = Barrel;
}

fn main() {}
