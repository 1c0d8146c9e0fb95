//! Memory handed out twice: two CPUs carve one Untyped at the same time.
#![forbid(unsafe_code)]

use kern_base::memory::Untyped;
use smp::door::Piece;

fn carve(untyped: &Untyped) -> Option<Piece> {
    untyped.inside().region.carve(64, 64)
}

fn main() {
    let _ = carve;
}
