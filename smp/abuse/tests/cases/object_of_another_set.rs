//! Type confusion: a word of the kernel's slots, read as a type of another set.
#![forbid(unsafe_code)]

use kern_base::objects::RawWord;
use smp::door::Ref;

#[repr(C, align(64))]
pub struct Barrel {
    header: u64,
}

smp::kernel_objects! {
    pub enum Others(header: u64) {
        Barrel = 6, abi::SharedRights;
    }
}

fn read<'k>(word: RawWord<'k>) -> Option<Ref<'k, Barrel>> {
    word.get::<Barrel>()
}

fn main() {
    let _ = read;
}
