//! A `Cell` on two CPUs: all CPUs read tables.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Table;

static TABLE: Table<Cell<u64>> = Table::empty();

fn main() {
    let _ = &TABLE;
}
