//! Kernel memory mapped for user level: a frame of a piece of memory in which an object is.
#![forbid(unsafe_code)]

use kern_base::machine::Machine;
use kern_base::phys::PhysRange;
use smp::cpu::Pin;
use smp::door::Piece;

fn make(machine: &impl Machine, piece: Piece, pin: Pin<'_>) -> PhysRange {
    let memory = PhysRange::of_piece(machine, piece);
    piece.emplace(pin, 1_u64);
    memory
}

fn main() {}
