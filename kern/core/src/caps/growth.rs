//! CSpaces that grow: a CNode is added to a process's CSpace, and its slots are numbered on from those that are there.
//!
//! The tables stand in a chain, from the one that the process was configured with; each knows the process. What is in the
//! first is found as before, by fastpaths too; they leave what is beyond to the slow path. Tables are only added: the
//! chain ends with the process, and any of its tables that ends, ends the process, as the first does.
//!
//! # Who may touch what
//! Which tables a process has changes under the lock of all [spaces](crate::Kernel::spaces); anybody reads it. Who ends the
//! process, or a table, marks it and then looks under that lock; who adds one looks for marks under it.
//!
//! Slot 0 of a table is never filled. So the first number of one that was added is a hole.
//!
//! # How far numbers reach
//! A process numbers all its tables through; so does whoever may look at the process. A capability of one CNode is of that one:
//! its numbers end where its slots do, whatever follows ([`Reach`]). Else a table that is lent would bring along what others add
//! behind it.

use abi::{Cap, Error, Op, Rights, process_rights};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::slot::{CNode, TABLES_MAX};
use smp::door::Ref;

use crate::rooms::Caps;
use crate::{Answer, Me, Refusal, Result};
use kern_base::slot::Place;

/// The slots that numbers of user level reach: those of a CNode, and of the tables that follow where they are meant, too.
#[derive(Clone, Copy)]
pub struct Reach<'k> {
    pub first: Ref<'k, CNode>,
    /// Whether the first one is taken for the whole CSpace.
    pub whole: bool,
}

impl<'k> Reach<'k> {
    /// A whole CSpace, by its first table.
    pub fn cspace(first: Ref<'k, CNode>) -> Reach<'k> {
        Reach { first, whole: true }
    }
}

impl<'k, M: Machine> Caps<'k, M> {
    /// The tables within reach.
    fn tables_in(self, reach: Reach<'k>) -> impl Iterator<Item = Ref<'k, CNode>> {
        CNode::tables(reach.first, self.pin()).take(if reach.whole { TABLES_MAX } else { 1 })
    }

    /// How many slots they have together.
    pub fn slots_in(self, reach: Reach<'k>) -> usize {
        self.tables_in(reach).map(|table| table.get().slots.len()).sum()
    }

    /// A slot by its number, which user level chose.
    #[inline(always)]
    pub fn slot_in(self, reach: Reach<'k>, number: usize) -> Option<Place<'k>> {
        match reach.first.get().slots.get_but_first(self.pin(), number) {
            Some(slot) => Some(Place { slot, table: &reach.first.get().header }),
            None => self.slot_beyond(reach, number),
        }
    }

    #[cold]
    #[inline(never)]
    fn slot_beyond(self, reach: Reach<'k>, number: usize) -> Option<Place<'k>> {
        let (table, number) = self.table_with(reach, number)?;
        let slot = table.get().slots.get_but_first(self.pin(), number)?;
        Some(Place { slot, table: &table.get().header })
    }

    /// The table that has a slot, and the slot's number there, which is not 0.
    pub fn table_with(self, reach: Reach<'k>, mut number: usize) -> Option<(Ref<'k, CNode>, usize)> {
        for table in self.tables_in(reach) {
            let len = table.get().slots.len();
            if number < len {
                return Some((table, number)).filter(|_| number != 0);
            }
            number -= len;
        }
        None
    }

    /// The slot of a capability in a process's CSpace, and whose table it is in.
    pub fn place_of(self, process: Ref<'k, Process>, cap: Cap) -> Option<Place<'k>> {
        if cap == Cap::NULL {
            return None;
        }
        self.slot_in(Reach::cspace(process.get().cnode.get(self.pin())?), cap.0 as usize)
    }

    /// [`abi::Op::CSpaceGrow`].
    pub fn cspace_grow(self, me: Me<'k>, process: Cap, table: Cap) -> Result<Answer> {
        let found = self.find::<Process>(me, process, Rights::NONE)?.object;
        if found != me.process(self.pin()) {
            self.find::<Process>(me, process, process_rights::CONFIGURE)?;
        }
        let table = self.find::<CNode>(me, table, Rights::GRANT)?.object;
        let _spaces = self.lock_spaces();
        let first = found.get().cnode.get(self.pin()).ok_or(Refusal::from(Error::BadState))?;
        let headers = [&found.get().header, &first.get().header, &table.get().header];
        self.security().same_label(headers)?;
        if !table.get().process.is_null() {
            return Err(Error::InUse.into());
        }
        let (last, number) = self.last_table(first)?;
        if headers.iter().any(|header| header.has_flag(FLAG_DYING)) {
            return Err(Error::Dying.into());
        }
        table.get().process.set(Some(found));
        last.get().more.set(Some(table));
        self.security().audit_bind(Op::CSpaceGrow, &table.get().header, found.get());
        Ok(Answer::one(number as u64 + 1))
    }

    /// The last table, and the number of the next one's slot 0. The lock of spaces is held, here and below.
    fn last_table(self, first: Ref<'k, CNode>) -> Result<(Ref<'k, CNode>, usize)> {
        let (mut last, mut count, mut number) = (first, 0, 0);
        for table in CNode::tables(first, self.pin()) {
            (last, count, number) = (table, count + 1, number + table.get().slots.len());
        }
        if count == TABLES_MAX {
            return Err(Refusal::new(Error::Full, TABLES_MAX as u64));
        }
        Ok((last, number))
    }

    /// A process ends: its tables are nobody's, and none follows another.
    pub fn part_tables(self, process: Ref<'k, Process>) {
        let mut at = process.get().cnode.get(self.pin());
        process.get().cnode.set(None);
        while let Some(table) = at {
            at = table.get().more.get(self.pin());
            table.get().more.set(None);
            table.get().process.set(None);
        }
    }

    /// Whether a CNode is being emptied.
    pub fn has_open_graves(self) -> bool {
        !self.k.graves.lock(self.cpu, &"the lists of graves").open.is_null()
    }
}
