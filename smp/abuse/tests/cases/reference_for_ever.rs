//! Use after free: a reference stored where the next entry finds it.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{AtomicLink, Ref};

fn keep(kept: &Cell<Option<Ref<'static, u64>>>, link: &AtomicLink<u64>, pin: Pin<'_>) {
    kept.set(link.get(pin));
}

fn main() {
    let _ = keep;
}
