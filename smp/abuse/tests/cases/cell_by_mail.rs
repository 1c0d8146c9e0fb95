//! A `Cell` on two CPUs: one of them sends the other a reference.
#![forbid(unsafe_code)]

use core::cell::Cell;

use smp::cpu::Pin;
use smp::door::{Ptr, Ref};
use smp::mailbox::{Mailbox, Node, Wake};

type Letter = Ptr<Cell<u64>>;

fn send(pin: Pin<'_>, to: &Mailbox<Letter>, node: Ref<'_, Node<Letter>>, cell: Ref<'_, Cell<u64>>) -> Wake {
    to.push(pin, node, cell.ptr())
}

fn main() {
    let _ = send;
}
