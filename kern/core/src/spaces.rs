//! Address spaces: mapping and unmapping frames.

use abi::{Cap, Error, PAGE_SIZE, Rights, USER_TOP};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};
use core::sync::atomic::fence;
use kern_base::header::FLAG_DYING;
use kern_base::machine::{Access, Machine};
use kern_base::memory::{FRAME_MAPPINGS, Frame, Mapping, VSpace};
use smp::door::{AtomicLink, Ref};

use crate::{Answer, Cx, Me, Refusal, Result};

/// Third argument bits of [`abi::Op::Map`].
const WRITE: u64 = 1;
const EXECUTE: u64 = 2;
/// In a mapping record's address word: taken away.
const GOING: u64 = 4;
/// The base-2 logarithm of 2 MiB.
const LARGE: u8 = 21;
/// Records that one entry frees.
const RECORDS_BOUND: usize = 64;

/// A page-aligned range that user level may map: not page 0, not the last page of the lower half.
pub fn check_user_range(address: u64, size: u64) -> Result<()> {
    let end = address.checked_add(size);
    let inside = address >= PAGE_SIZE && end.is_some_and(|end| end <= USER_TOP);
    if inside && address.is_multiple_of(size) {
        Ok(())
    } else {
        Err(Refusal::new(Error::BadAddress, address))
    }
}

impl<'k, M: Machine> Cx<'k, M> {
    /// [`abi::Op::Map`].
    pub fn map(self, me: Me<'k>, vspace: Cap, frame: Cap, address: u64, how: u64) -> Result<Answer> {
        let vspace = self.find::<VSpace>(me, vspace, Rights::MAP)?.object;
        let frame = self.find::<Frame>(me, frame, Rights::MAP)?.object;
        if how & !(WRITE | EXECUTE) != 0 {
            return Err(Refusal::argument(3));
        }
        let access = Access { write: how & WRITE != 0, execute: how & EXECUTE != 0 };
        self.forget_stale(me, vspace.get())?;
        self.map_frame(vspace, frame, address, access)?;
        Ok(Answer::DONE)
    }

    /// Maps a frame; the frame remembers where, and that it is never writable and executable at once.
    pub fn map_frame(
        self,
        vspace: Ref<'k, VSpace>,
        frame: Ref<'k, Frame>,
        address: u64,
        access: Access,
    ) -> Result<()> {
        check_user_range(address, 1 << frame.get().log2)?;
        for record in records(frame) {
            self.release_record(record);
        }
        let _guard = vspace.get().lock.lock();
        if self.is_stale(vspace.get()) {
            return Err(Refusal::More);
        }
        let free = records(frame).find(|m| m.get().vspace.claim(vspace));
        let record = free.ok_or(Refusal::new(Error::Full, frame.get().mappings.len() as u64))?;
        // Who destroys either of them marks it and then looks for mappings; here it is the other way round.
        fence(SeqCst);
        let dying = vspace.get().header.has_flag(FLAG_DYING) || frame.get().header.has_flag(FLAG_DYING);
        let mapped =
            if dying { Err(Error::Dying.into()) } else { self.enter_page(vspace, frame, address, access) };
        if let Err(refusal) = mapped {
            record.get().vspace.set(None);
            return Err(refusal);
        }
        let how = u64::from(access.write) * WRITE + u64::from(access.execute) * EXECUTE;
        record.get().address.store(address | how, Release);
        record.get().frame.set(Some(frame));
        self.link_record(&vspace.get().mappings, record);
        Ok(())
    }

    /// The page table's part of a mapping, and the frame's counts.
    fn enter_page(
        self,
        vspace: Ref<'k, VSpace>,
        frame: Ref<'k, Frame>,
        address: u64,
        access: Access,
    ) -> Result<()> {
        let Frame { base, log2, .. } = *frame.get();
        self.count_access(frame.get(), access)?;
        self.k.machine.map(vspace.get(), address, base, log2, access).map_err(|error| {
            self.uncount_access(frame.get(), access);
            if error == Error::Mapped
                && log2 == LARGE
                && self.k.machine.drop_empty_table(vspace.get(), address)
            {
                self.note_stale(vspace.get());
                return Refusal::More;
            }
            error.into()
        })
    }

    // --- translations that nobody waits for ------------------------------------------------------

    /// Something went from the tables without anybody's waiting until it is forgotten. The lock is held.
    pub fn note_stale(self, vspace: &VSpace) {
        vspace.stale.store(self.k.tours.stamp() + 1, Release);
    }

    /// Whether a CPU may remember such a thing.
    pub fn is_stale(self, vspace: &VSpace) -> bool {
        let stale = vspace.stale.load(Acquire);
        stale != 0 && !self.k.tours.have_forgotten(stale - 1)
    }

    /// Waits until no CPU does: first thing where something is to be mapped.
    pub fn forget_stale(self, me: Me<'k>, vspace: &VSpace) -> Result<()> {
        if self.is_stale(vspace) {
            self.forget_everywhere(me, vspace.stale.load(Acquire) - 1)
        } else {
            Ok(())
        }
    }

    fn link_record(self, list: &AtomicLink<Mapping>, record: Ref<'k, Mapping>) {
        let first = list.get(self.pin());
        record.get().prev.set(None);
        record.get().next.set(first);
        if let Some(first) = first {
            first.get().prev.set(Some(record));
        }
        list.set(Some(record));
    }

    fn unlink_record(self, list: &AtomicLink<Mapping>, record: Ref<'k, Mapping>) {
        let (next, prev) = (record.get().next.get(self.pin()), record.get().prev.get(self.pin()));
        if let Some(next) = next {
            next.get().prev.set(prev);
        }
        match prev {
            Some(prev) => prev.get().next.set(next),
            None => list.set(next),
        }
    }

    /// Write xor execute, over all mappings of the frame.
    fn count_access(self, frame: &Frame, access: Access) -> Result<()> {
        let bad = access.write && (access.execute || frame.executable.load(Acquire) != 0)
            || access.execute && frame.writable.load(Acquire) != 0;
        if bad {
            return Err(Error::WriteExecute.into());
        }
        if access.write {
            frame.writable.fetch_add(1, AcqRel);
        }
        if access.execute {
            frame.executable.fetch_add(1, AcqRel);
        }
        // Another CPU may have counted the other kind meanwhile: then neither stands.
        if access.write && frame.executable.load(Acquire) != 0
            || access.execute && frame.writable.load(Acquire) != 0
        {
            self.uncount_access(frame, access);
            return Err(Error::WriteExecute.into());
        }
        Ok(())
    }

    fn uncount_access(self, frame: &Frame, access: Access) {
        if access.write {
            frame.writable.fetch_sub(1, AcqRel);
        }
        if access.execute {
            frame.executable.fetch_sub(1, AcqRel);
        }
    }

    /// [`abi::Op::Unmap`]. `progress` is 0 at first; when the call starts again it says, plus one, when the
    /// mapping was taken away.
    pub fn unmap(self, me: Me<'k>, vspace: Cap, frame: Cap, address: u64, progress: u64) -> Result<Answer> {
        let vspace = self.find::<VSpace>(me, vspace, Rights::MAP)?.object;
        let frame = self.find::<Frame>(me, frame, Rights::MAP)?.object;
        let here = |m: &Ref<'k, Mapping>| {
            let word = m.get().address.load(Acquire);
            m.get().vspace.is(vspace) && word & GOING == 0 && word & !(PAGE_SIZE - 1) == address
        };
        let stamp = if progress != 0 && progress <= self.k.tours.stamp() + 1 {
            progress - 1
        } else {
            let taken = records(frame).find(here).and_then(|record| self.take_away(record));
            taken.ok_or(Refusal::new(Error::BadAddress, address))?
        };
        me.hot.regs.r8.set(stamp + 1);
        self.forget_everywhere(me, stamp)?;
        for record in records(frame) {
            self.release_record(record);
        }
        Ok(Answer::DONE)
    }

    /// Takes a mapping out of the page tables; its record stays until all CPUs have forgotten it. When that
    /// was; `None` where there is none.
    pub fn take_away(self, record: Ref<'k, Mapping>) -> Option<u64> {
        let vspace = record.get().vspace.get(self.pin())?;
        let _guard = vspace.get().lock.lock();
        let frame = record.get().frame.get(self.pin()).filter(|_| record.get().vspace.is(vspace))?;
        let word = record.get().address.load(Acquire);
        if word & GOING != 0 {
            return Some(record.get().stamp.load(Acquire));
        }
        vspace.get().generation.fetch_add(1, AcqRel);
        self.k.machine.unmap(vspace.get(), word & !(PAGE_SIZE - 1), frame.get().log2);
        let stamp = self.k.tours.stamp();
        record.get().stamp.store(stamp, Release);
        record.get().address.store(word | GOING, Release);
        self.unlink_record(&vspace.get().mappings, record);
        self.link_record(&vspace.get().going, record);
        Some(stamp)
    }

    /// Frees the record of a mapping that was taken away, if it is forgotten by now.
    pub fn release_record(self, record: Ref<'k, Mapping>) {
        let Some(vspace) = record.get().vspace.get(self.pin()) else { return };
        let _guard = vspace.get().lock.lock();
        let word = record.get().address.load(Acquire);
        let going = record.get().vspace.is(vspace) && word & GOING != 0;
        if !going || !self.k.tours.have_forgotten(record.get().stamp.load(Acquire)) {
            return;
        }
        self.unlink_record(&vspace.get().going, record);
        if let Some(frame) = record.get().frame.get(self.pin()) {
            self.uncount_access(
                frame.get(),
                Access { write: word & WRITE != 0, execute: word & EXECUTE != 0 },
            );
        }
        record.get().address.store(0, Release);
        record.get().frame.set(None);
        record.get().vspace.set(None);
    }

    /// Frees the records of all mappings of a dying address space, which are forgotten by now.
    pub fn release_going(self, vspace: Ref<'k, VSpace>) -> Result<()> {
        for _ in 0..RECORDS_BOUND {
            match vspace.get().going.get(self.pin()) {
                Some(record) => self.release_record(record),
                None => return Ok(()),
            }
        }
        Err(Refusal::More)
    }
}

/// The mapping records of a frame.
pub fn records<'k>(frame: Ref<'k, Frame>) -> impl Iterator<Item = Ref<'k, Mapping>> {
    let fields: [for<'a> fn(&'a Frame) -> &'a Mapping; FRAME_MAPPINGS] = [
        |f| &f.mappings[0],
        |f| &f.mappings[1],
        |f| &f.mappings[2],
        |f| &f.mappings[3],
        |f| &f.mappings[4],
        |f| &f.mappings[5],
    ];
    fields.into_iter().map(move |field| frame.map(field))
}
