//! Two objects in one piece of memory.
#![forbid(unsafe_code)]

use smp::cpu::Pin;
use smp::door::Piece;

fn make(piece: Piece, pin: Pin<'_>) -> bool {
    piece.emplace(pin, 1_u64).is_some() && piece.emplace(pin, "two").is_some()
}

fn main() {
    let _ = make;
}
