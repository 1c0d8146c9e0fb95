//! A `Cell` on two CPUs: tables are read by all.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::door::Table;

static TABLE: Table<Cell<u64>> = Table::empty();

fn main() {
    let _ = &TABLE;
}
