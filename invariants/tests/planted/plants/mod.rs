//! Violations, by the rules that must report them.

/// The first record of a list for which something holds.
macro_rules! first {
    ($s:ident.$list:ident, |$record:ident| $holds:expr) => {
        $s.$list.iter_mut().find(|$record| $holds)
    };
}

mod memory;
mod objects;

use crate::Plant;

/// An address at which nothing is.
const NOTHING: u64 = 0x7777_0000;

fn kind_of(object: abi::ObjType) -> u8 {
    object as u8
}

/// The rule, what is planted, and how.
pub type Planted = (&'static str, &'static str, Plant);

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Planted> {
    memory::PLANTS.iter().chain(objects::PLANTS)
}
