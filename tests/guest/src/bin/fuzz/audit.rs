//! Checks everything that the processes hold, by [`CapList`](abi::Op::CapList): every capability
//! must be one that the rules allow.
//!
//! The capabilities that a process was given for the run must all be there, unchanged. The objects
//! in a worker's arena were made of its own memory, so no other process may hold them. The only
//! exception is the Machine, whose capability must still have its first rights. The clusters have
//! ended by then, and no capability of their objects may remain. The audit also asks the kernel,
//! right by right, what each process may do to the others ([`CapVerify`](abi::Op::CapVerify)). The
//! answers must agree with the list.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::audit::CapEntry;
use abi::{Cap, ObjType, Rights};
use guest_tests::run::Run as _;
use user_rt::cap::{Handle, Process};
use user_rt::spawn::own;

use crate::arena;
use crate::board::{Board, Of, PROCESSES, Total, WORKERS_MAX};
use crate::cast::Cast;
use crate::clusters;
use crate::storm;
use crate::worker::HEAP_SLOTS;

/// Number of all rights.
const RIGHTS: u32 = Rights::ALL.0.count_ones();

pub struct Audit {
    board: &'static Board,
    /// The given capabilities, by process and slot.
    given: BTreeMap<(usize, u32), CapEntry>,
    /// The pages of each process's heap, as one number.
    heaps: [u64; PROCESSES],
}

/// Owner of the slots that were not given one by one.
enum Owner {
    Clusters,
    Heap,
    Worker(usize),
}

fn owner(slot: u32) -> Option<Owner> {
    let shared = clusters::SLOTS.contains(&slot) || storm::SLOTS.contains(&slot);
    if shared && !clusters::MEMORIES.contains(&Cap(slot)) {
        return Some(Owner::Clusters);
    }
    if HEAP_SLOTS.contains(&slot) {
        return Some(Owner::Heap);
    }
    (0..WORKERS_MAX).find(|worker| arena::played(*worker).contains(&slot)).map(Owner::Worker)
}

/// Visits all that a process holds.
fn each(process: &Process, mut look: impl FnMut(CapEntry)) -> user_rt::Result<()> {
    let mut next = Some(Cap(1));
    while let Some(first) = next {
        let piece = process.list(first)?;
        piece.entries().for_each(|entry| look(*entry));
        next = piece.next;
    }
    Ok(())
}

/// Hashes an entry, so that another capability, or another slot, almost surely has another number.
fn digest(entry: &CapEntry) -> u64 {
    let mix = |all: u64, word: &u64| (all ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    entry.words().iter().fold(0, mix)
}

impl Audit {
    /// Notes what was given.
    pub fn new(board: &'static Board, cast: &Cast) -> user_rt::Result<Audit> {
        let (mut given, mut heaps) = (BTreeMap::new(), [0; PROCESSES]);
        for (process, child) in cast.children.iter().enumerate() {
            each(&child.process, |it| match owner(it.slot) {
                None => _ = given.insert((process, it.slot), it),
                Some(Owner::Heap) => heaps[process] ^= digest(&it),
                Some(_) => {}
            })?;
        }
        Ok(Audit { board, given, heaps })
    }

    /// Checks everything, while no worker operates.
    pub fn look(&self, cast: &Cast) -> user_rt::Result<()> {
        let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
        let known: Vec<u64> = self.given.values().map(|it| it.identity).collect();
        let mut there = 0;
        for (process, child) in cast.children.iter().enumerate() {
            let mut heap = 0;
            each(&child.process, |found| {
                let good = match owner(found.slot) {
                    Some(Owner::Clusters) => false,
                    Some(Owner::Heap) => {
                        heap ^= digest(&found);
                        true
                    }
                    Some(Owner::Worker(worker)) => {
                        let lives_here = self.board.workers[worker].get(Of::Process) as usize == process;
                        lives_here && may_have(worker, &found, &known, &mut owners)
                    }
                    None => {
                        there += 1;
                        self.given.get(&(process, found.slot)) == Some(&found)
                    }
                };
                if !good {
                    self.board.complain(Total::Escapes, format_args!("process {process} has {found:x?}"));
                }
            })?;
            if heap != self.heaps[process] {
                self.board.complain(Total::Escapes, format_args!("process {process} has another heap"));
            }
        }
        if there != self.given.len() {
            let what = format_args!("of {} capabilities that were given {there} are there", self.given.len());
            self.board.complain(Total::Escapes, what);
        }
        Ok(())
    }

    /// Asks what each process may do to the others, right by right.
    pub fn verify(&self, cast: &Cast) -> user_rt::Result<()> {
        for (who, child) in cast.children.iter().enumerate() {
            for other in &cast.children {
                for object in [other.process.cap(), other.cnode.cap(), other.vspace.cap()] {
                    let Some(it) = own::cnode().inspect(object)? else { continue };
                    for bit in 0..RIGHTS {
                        let right = Rights(1 << bit);
                        let holds = child.process.holds_raw(object, right)?;
                        let given = self.given.range((who, 0)..(who + 1, 0)).map(|(_, held)| held);
                        let is_it =
                            |held: &&CapEntry| held.identity == it.identity && held.rights.contains(right);
                        let listed = given.filter(is_it).map(|held| Cap(held.slot)).next();
                        if holds != listed {
                            let what = format_args!(
                                "process {who} holds {it:x?} with {right:x?}: {holds:?}, not {listed:?}"
                            );
                            self.board.complain(Total::Escapes, what);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a worker can have this capability in its arena.
fn may_have(worker: usize, found: &CapEntry, known: &[u64], owners: &mut BTreeMap<u64, usize>) -> bool {
    if found.object == ObjType::Machine {
        return found.rights.minus(arena::MACHINE_RIGHTS) == Rights::NONE;
    }
    !known.contains(&found.identity) && *owners.entry(found.identity).or_insert(worker) == worker
}
