//! Using up what others need to make processes: names, of which a machine could run out.

use abi::Cap;
use user_rt::Result;
use user_rt::cap::{CNode, Process, Untyped};
use user_rt::invoke::Pins;

use crate::attackers::{Den, alive};
use crate::words::Word;

/// Processes that one system call makes.
const AT_ONCE: u64 = 255;
/// Slots of a table of them, besides the first, which stays empty.
const SLOTS: u64 = AT_ONCE * 8;
/// Tables for more than 65,536 processes.
const TABLES: u32 = 40;

/// Makes processes until its memory is used up or its tables are full, and keeps them.
pub fn hoard(den: &mut Den) -> Result<()> {
    let tables = den.nursery.make_many::<CNode>(SLOTS + 1, TABLES)?;
    'all: for table in tables.iter::<CNode>() {
        for first in (1..=SLOTS).step_by(AT_ONCE as usize) {
            let place = table.slot(Cap(first as u32));
            if den.nursery.untyped().retype::<Process>(1, place, AT_ONCE).is_err() {
                break 'all;
            }
            alive();
        }
    }
    loop {
        den.sleep(10);
        alive();
    }
}

/// Makes processes and takes their memory back, so that names are given again and again.
pub fn spend(den: &mut Den) -> Result<()> {
    let memory: Untyped = den.nursery.make(20)?;
    let table: CNode = den.nursery.make(AT_ONCE + 1)?;
    loop {
        let made = memory.retype::<Process>(1, table.slot(Cap(1)), AT_ONCE);
        if made.is_err() {
            Word::Escapes.add(1);
        }
        memory.reset(Pins::Hold)?;
        alive();
    }
}
