//! CSpaces that grow: a CNode is added to a process's CSpace, and its slots continue the numbering.
//!
//! The tables form a chain that starts at the table with which the process was configured. Each
//! table refers to the process. Fastpaths look only into the first table, and leave all other
//! tables to the slow path. Tables are only added, never removed. The chain exists as long as the
//! process, and the end of any of its tables ends the process.
//!
//! # Who may touch what
//! The tables of a process change under the [binding lock](crate::Kernel::binding_lock); every CPU
//! may read them. A CPU that ends the process or a table marks it and then looks at the chain under
//! that lock. A CPU that adds a table checks for marks under the same lock.
//!
//! Slot 0 of a table is never filled. So the first number of an added table is unused.
//!
//! # How far numbers reach
//! The slots of all tables of a process are numbered in one sequence, for the process itself and
//! for holders of OBSERVE for it. Through a capability of one CNode only the slots of that CNode
//! can be reached, whatever table follows ([`Reach`]). Otherwise a process that lends a table would
//! also lend tables that are added after it.

use core::ops::Range;

use abi::{Cap, Error, Op};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::slot::{CNode, Place, Slot, TABLES_MAX};
use smp::door::Ref;

use crate::rooms::Caps;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// The slots that numbers of user level reach: those of a CNode and, for a whole CSpace, of the
/// tables that follow it.
#[derive(Clone, Copy)]
pub struct Reach<'k> {
    pub first: Ref<'k, CNode>,
    /// Whether the first CNode stands for the whole CSpace.
    pub whole: bool,
}

impl<'k> Reach<'k> {
    /// Returns the reach of a whole CSpace, whose first table is `first`.
    pub fn cspace(first: Ref<'k, CNode>) -> Reach<'k> {
        Reach { first, whole: true }
    }
}

impl<'k, M: Machine> Caps<'k, M> {
    /// Returns the tables within reach.
    fn tables_in(self, reach: Reach<'k>) -> impl Iterator<Item = Ref<'k, CNode>> {
        CNode::tables(reach.first, self.pin()).take(if reach.whole { TABLES_MAX } else { 1 })
    }

    /// Returns how many slots the tables within reach have together.
    pub fn slots_in(self, reach: Reach<'k>) -> usize {
        self.tables_in(reach).map(|table| table.get().slots.known().len()).sum()
    }

    /// Visits the slots within reach whose numbers are in a range, each with its number, until a
    /// visit returns something. Returns that. It looks for the first one's table only once.
    #[inline(always)]
    pub fn find_in_slots<R>(
        self,
        reach: Reach<'k>,
        numbers: Range<usize>,
        mut visit: impl FnMut(usize, Ref<'k, Slot>) -> Option<R>,
    ) -> Option<R> {
        let mut start = 0;
        for table in self.tables_in(reach) {
            let slots = &table.get().slots;
            let end = start + slots.known().len();
            for number in numbers.start.max(start + 1)..numbers.end.min(end) {
                let found = slots.get_but_first(self.pin(), number - start);
                if let Some(result) = found.and_then(|slot| visit(number, slot)) {
                    return Some(result);
                }
            }
            start = end;
        }
        None
    }

    /// Returns a slot by its number, which user level chose.
    #[inline(always)]
    pub fn slot_in(self, reach: Reach<'k>, number: usize) -> Option<Place<'k>> {
        let first = reach.first.get();
        let slot = first.slots.get_but_first(self.pin(), number);
        slot.map(|slot| Place { slot, table: &first.header }).or_else(|| self.slot_beyond(reach, number))
    }

    #[cold]
    #[inline(never)]
    fn slot_beyond(self, reach: Reach<'k>, number: usize) -> Option<Place<'k>> {
        let (table, number) = self.table_with(reach, number)?;
        let slot = table.get().slots.get_but_first(self.pin(), number)?;
        Some(Place { slot, table: &table.get().header })
    }

    /// Returns the table with a slot, and the slot's number in it, which is not 0.
    pub fn table_with(self, reach: Reach<'k>, mut number: usize) -> Option<(Ref<'k, CNode>, usize)> {
        for table in self.tables_in(reach) {
            let len = table.get().slots.known().len();
            if number < len {
                return Some((table, number)).filter(|_| number != 0);
            }
            number -= len;
        }
        None
    }

    /// Returns the slot of a capability in a process's CSpace, with the process of its table.
    pub fn place_of(self, process: Ref<'k, Process>, cap: Cap) -> Option<Place<'k>> {
        self.slot_in(Reach::cspace(process.get().cnode.get(self.pin())?), cap.0 as usize)
    }

    /// Carries out [`abi::Op::CSpaceGrow`].
    pub fn cspace_grow(self, me: OpenTask<'k>, process: Cap, table: Cap) -> Result<Answer> {
        let found = self.find_configurable(me, process)?;
        let table = self.operand::<CNode, { Op::CSpaceGrow as u8 }, 1>(me, table)?;
        let _spaces = self.lock_bindings();
        let first = found.get().cnode.get(self.pin()).ok_or(Refusal::from(Error::BadState))?;
        let headers = [&found.get().header, &first.get().header, &table.get().header];
        self.security().same_label(headers)?;
        refuse_if(!table.get().process.is_null(), Error::InUse)?;
        let (last, number) = self.last_table(first)?;
        refuse_if(headers.iter().any(|header| header.has_flag(FLAG_DYING)), Error::Dying)?;
        table.get().process.set(Some(found));
        last.get().more.set(Some(table));
        self.security().audit_bind(Op::CSpaceGrow, &table.get().header, found.get());
        Ok(Answer::one(number as u64 + 1))
    }

    /// Returns the last table of a CSpace, and the number of the slot that would follow its slots.
    /// Requires: the lock of spaces is held, here and below.
    fn last_table(self, first: Ref<'k, CNode>) -> Result<(Ref<'k, CNode>, usize)> {
        let (mut last, mut count, mut number) = (first, 0, 0);
        for table in CNode::tables(first, self.pin()) {
            (last, count, number) = (table, count + 1, number + table.get().slots.known().len());
        }
        refuse_if(count == TABLES_MAX, Refusal::new(Error::Full, TABLES_MAX as u64))?;
        Ok((last, number))
    }

    /// Separates the tables of the CSpace of a process that ends: they belong to no process any
    /// more, and none follows another.
    pub fn part_tables(self, process: Ref<'k, Process>) {
        let mut at = process.get().cnode.get(self.pin());
        process.get().cnode.set(None);
        while let Some(table) = at {
            at = table.get().more.get(self.pin());
            table.get().more.set(None);
            table.get().process.set(None);
        }
    }
}
