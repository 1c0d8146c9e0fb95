//! Memory handed out twice: a reference to the region that outlives the lock.
#![forbid(unsafe_code)]

use kern_base::memory::UntypedGuard;
use smp::door::Piece;

fn carve(untyped: UntypedGuard<'_>) -> Option<Piece> {
    let region = &untyped.region;
    drop(untyped);
    region.carve(64, 64)
}

fn main() {
    let _ = carve;
}
