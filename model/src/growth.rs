//! CSpaces that grow: CNodes that are added to the CNode with which a process was configured. Their
//! slot numbers continue that CNode's.

use alloc::vec::Vec;

use abi::{Error, ObjType, Rights};

use crate::{Answer, Args, Id, Model, Place, Refusal, Result};

/// Tables of a CSpace, at most.
const TABLES_MAX: usize = 16;

/// The slots that numbers reach: those of a CNode, and of the tables that follow where they are
/// meant, too.
#[derive(Clone, Copy)]
pub struct Reach {
    pub first: Id,
    /// Whether the first one is taken for the whole CSpace.
    pub whole: bool,
}

impl Reach {
    /// Returns the reach of a whole CSpace, whose first table is `first`.
    pub fn cspace(first: Id) -> Reach {
        Reach { first, whole: true }
    }
}

impl Model {
    /// Returns the tables of a CSpace from `first` on. A table that serves no process is the only
    /// one.
    pub fn tables_from(&self, first: Id) -> Vec<Id> {
        let Some(process) = self.cnode(first).process else { return [first].into() };
        self.tables_of(process).into_iter().skip_while(|table| *table != first).collect()
    }

    /// Returns all tables of a process's CSpace.
    pub fn tables_of(&self, process: Id) -> Vec<Id> {
        let process = self.process(process);
        process.cnode.into_iter().chain(process.more.iter().copied()).collect()
    }

    /// Returns the tables within reach.
    fn tables_in(&self, reach: Reach) -> Vec<Id> {
        if reach.whole { self.tables_from(reach.first) } else { [reach.first].into() }
    }

    /// Returns how many slots are within reach.
    pub fn slots_in(&self, reach: Reach) -> u32 {
        self.tables_in(reach).into_iter().map(|table| self.cnode(table).slots).sum()
    }

    /// Returns all slots within reach, by number.
    pub fn places_in(&self, reach: Reach) -> Vec<(u32, Place)> {
        let (mut places, mut before) = (Vec::new(), 0);
        for table in self.tables_in(reach) {
            let slots = self.cnode(table).slots;
            places.extend((1..slots).map(|n| (before + n, Place::Slot(table, n))));
            before += slots;
        }
        places
    }

    /// Returns a slot by its number. The first slot of each table cannot be used.
    pub(crate) fn slot_in(&self, reach: Reach, mut number: u32) -> Option<Place> {
        for table in self.tables_in(reach) {
            let slots = self.cnode(table).slots;
            if number < slots {
                return (number != 0).then_some(Place::Slot(table, number));
            }
            number -= slots;
        }
        None
    }

    pub fn cspace_grow(&mut self, me: Id, args: &Args) -> Result {
        let process = self.find_process(me, args.cap(0))?;
        let table = self.find(me, args.cap(1), ObjType::CNode, Rights::GRANT)?.object;
        let first = self.process(process).cnode.ok_or(Error::BadState)?;
        self.same_label([process, first, table])?;
        if self.cnode(table).process.is_some() {
            return Err(Error::InUse.into());
        }
        if self.tables_of(process).len() == TABLES_MAX {
            return Err(Refusal::new(Error::Full, TABLES_MAX as u64));
        }
        if [process, first, table].into_iter().any(|it| self.is_dying(it)) {
            return Err(Error::Dying.into());
        }
        let number = self.slots_in(Reach::cspace(first));
        self.cnode_mut(table).process = Some(process);
        self.process_mut(process).more.push(table);
        Ok(Answer::one(u64::from(number) + 1))
    }
}
