//! Deletes of copies in a table of its own: alone, and beside a delete of many that another task
//! has begun. A delete is the work of the task that asked for it, so both cost the same.

use abi::{Cap, Op, Rights};
use user_rt::arch::{fast, timestamp};
use user_rt::cap::{CNode, Handle, Notification, Untyped};
use user_rt::invoke::{copy, yield_now};
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::life::named;
use crate::measure::{measure, park};

/// Memory of the rows, as base-2 logarithms.
pub const GENERAL_LOG2: u64 = 18;
pub const BESIDE_LOG2: u64 = 25;
/// Slots that they need: the table with the copies, then the parent of many, then their tables.
pub const BESIDE_SLOTS: u32 = PARENT + 1 + TABLES;
/// Copies that are deleted, warm-up included.
const COPIES: u64 = 4000;
const PARENT: u32 = 1;
/// Tables of copies of the parent, and slots of each: 983,025 copies.
const TABLES: u32 = 15;
const EACH: u64 = 1 << 16;
/// How long the other task works before the row begins, in ticks.
const A_WHILE: u64 = 1_000_000;

/// What the other task does.
const WAITS: u64 = 0;
const MAY_BEGIN: u64 = 1;
const HAS_BEGUN: u64 = 2;
const IS_DONE: u64 = 3;

fn slot(block: Block, number: u32) -> Cap {
    Cap(named(block, Word::Slots).0 + number)
}

/// Makes a table of the row's memory, full of copies without rights.
fn full_table(block: Block, number: u32, of: Cap, slots: u64) -> CNode {
    let memory = Untyped::at(named(block, Word::Untyped));
    let at = slot(block, number);
    if memory.retype::<CNode>(slots, own::cnode().slot(at), 1).is_err() {
        park();
    }
    let table = CNode::at(at);
    for place in 1..slots {
        let to = table.slot(Cap(place as u32)).0.0;
        fast::order(Op::CapCopy, [of.arg(), to, u64::from(Rights::NONE.0), 0]);
    }
    table
}

fn delete_copies(block: Block) -> ! {
    let table = full_table(block, 0, named(block, Word::NoteServer), COPIES);
    let mut next = 0;
    measure(block, || {
        next += 1;
        fast::on(Op::CapDelete, table.slot(Cap(next)).0.0).0
    })
}

/// Deletes copies in another table.
pub extern "C" fn delete_general_client(index: u64) -> ! {
    delete_copies(Block::at(index))
}

/// Deletes copies in another table, while a delete of many copies of the same capability stands
/// half-way.
pub extern "C" fn delete_beside_client(index: u64) -> ! {
    let block = Block::at(index);
    let parent = slot(block, PARENT);
    let source = Notification::at(named(block, Word::NoteServer));
    if copy(&source, own::cnode().slot(parent), Rights::ALL, 0).is_err() {
        park();
    }
    for number in 0..TABLES {
        let _ = full_table(block, PARENT + 1 + number, parent, EACH);
    }
    block.set(Word::Beside, MAY_BEGIN);
    // Its priority is lower, so it works only now.
    let _ = Notification::at(named(block, Word::NoteClient)).wait_until(timestamp() + A_WHILE);
    if block.get(Word::Beside) != HAS_BEGUN {
        park();
    }
    delete_copies(block)
}

/// Deletes a capability with many copies, and then the tables with these copies.
pub extern "C" fn many_deleter(index: u64) -> ! {
    let block = Block::at(index);
    while block.get(Word::Beside) == WAITS {
        let _ = yield_now();
    }
    block.set(Word::Beside, HAS_BEGUN);
    for number in 0..=TABLES {
        let _ = own::cnode().delete(slot(block, PARENT + number));
    }
    block.set(Word::Beside, IS_DONE);
    park()
}
