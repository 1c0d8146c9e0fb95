//! Looks through all that the processes hold: everything must be what the rules can have given them.
//!
//! What they were given for the run stays as it was when they began. What a worker has in its arena was made of its own
//! memory: nobody else has it, and it is nothing that was given, but the Machine, with the rights that it came with. Of the
//! clusters, which have ended by then, nothing is left.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::{Cap, ObjType, Rights};
use user_rt::cap::Inspection;

use crate::arena;
use crate::board::{Board, Of, Total};
use crate::cast::Cast;
use crate::clusters;
use crate::storm;

pub struct Audit {
    board: Board,
    /// What was given: process, slot, what.
    given: BTreeMap<(usize, u32), Inspection>,
}

fn is_in_cluster(slot: u32) -> bool {
    let shared = clusters::SLOTS.contains(&slot) || storm::SLOTS.contains(&slot);
    shared && !clusters::MEMORIES.contains(&Cap(slot))
}

impl Audit {
    /// Notes what was given.
    pub fn new(board: Board, cast: &Cast) -> Audit {
        let mut given = BTreeMap::new();
        for (process, child) in cast.children.iter().enumerate() {
            let slots = (1..arena::FIRST.0).filter(|slot| !is_in_cluster(*slot));
            for slot in slots {
                if let Ok(Some(found)) = child.cnode.inspect(Cap(slot)) {
                    given.insert((process, slot), found);
                }
            }
        }
        Audit { board, given }
    }

    /// Looks through everything, while nobody operates.
    pub fn look(&self, cast: &Cast) {
        let workers = self.board.get(Total::Workers) as usize;
        let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
        let known: Vec<u64> = self.given.values().map(|it| it.identity).collect();
        for (process, child) in cast.children.iter().enumerate() {
            for slot in 1..arena::FIRST.0 {
                let found = child.cnode.inspect(Cap(slot)).ok().flatten();
                if is_in_cluster(slot) {
                    if found.is_some() {
                        self.escaped(process, slot, found);
                    }
                } else if found != self.given.get(&(process, slot)).copied() {
                    self.escaped(process, slot, found);
                }
            }
            for worker in (0..workers).filter(|it| self.board.of(*it, Of::Process) as usize == process) {
                for slot in arena::played(worker) {
                    let Ok(Some(found)) = child.cnode.inspect(Cap(slot)) else { continue };
                    if !self.may_have(worker, &found, &known, &mut owners) {
                        self.escaped(process, slot, Some(found));
                    }
                }
            }
        }
    }

    fn may_have(
        &self,
        worker: usize,
        found: &Inspection,
        known: &[u64],
        owners: &mut BTreeMap<u64, usize>,
    ) -> bool {
        if found.object == ObjType::Machine {
            return found.rights.minus(arena::MACHINE_RIGHTS) == Rights::NONE;
        }
        !known.contains(&found.identity) && *owners.entry(found.identity).or_insert(worker) == worker
    }

    fn escaped(&self, process: usize, slot: u32, found: Option<Inspection>) {
        let what = format_args!("process {process} has {found:x?} in slot {slot}");
        self.board.complain(Total::Escapes, what);
    }
}
