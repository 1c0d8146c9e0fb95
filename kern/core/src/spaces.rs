//! Address spaces: mapping and unmapping frames.

use abi::{Cap, Error, PAGE_SIZE, Rights, USER_TOP};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use kern_base::machine::{Access, Machine};
use kern_base::memory::{FRAME_MAPPINGS, Frame, Mapping, VSpace};
use smp::door::Ref;

use crate::{Answer, Cx, Me, Refusal, Result};

/// Third argument bits of [`abi::Op::Map`].
const WRITE: u64 = 1;
const EXECUTE: u64 = 2;

/// A page-aligned range that user level may map: not page 0, not the last page of the lower half.
pub fn check_user_range(address: u64, size: u64) -> Result<()> {
    let end = address.checked_add(size);
    let inside = address >= PAGE_SIZE && end.is_some_and(|end| end <= USER_TOP);
    if inside && address.is_multiple_of(size) { Ok(()) } else { Err(Refusal::new(Error::BadAddress, address)) }
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
        self.map_frame(vspace, frame, address, access)?;
        Ok(Answer::DONE)
    }

    /// Maps a frame; the frame remembers where, and that it is never writable and executable at once.
    pub fn map_frame(self, vspace: Ref<'k, VSpace>, frame: Ref<'k, Frame>, address: u64, access: Access) -> Result<()> {
        check_user_range(address, 1 << frame.get().log2)?;
        let _guard = vspace.get().lock.lock();
        let free = records(frame).find(|m| m.get().vspace.claim(vspace));
        let record = free.ok_or(Refusal::new(Error::Full, frame.get().mappings.len() as u64))?;
        if let Err(error) = self.count_access(frame.get(), access) {
            record.get().vspace.set(None);
            return Err(error);
        }
        if let Err(error) = self.k.machine.map(vspace.get(), address, frame.get().base, frame.get().log2, access) {
            self.uncount_access(frame.get(), access);
            record.get().vspace.set(None);
            return Err(error.into());
        }
        let how = u64::from(access.write) * WRITE + u64::from(access.execute) * EXECUTE;
        record.get().address.store(address | how, Release);
        record.get().frame.set(Some(frame));
        let first = vspace.get().mappings.get(self.pin);
        record.get().prev.set(None);
        record.get().next.set(first);
        if let Some(first) = first {
            first.get().prev.set(Some(record));
        }
        vspace.get().mappings.set(Some(record));
        Ok(())
    }

    /// Write xor execute, over all mappings of the frame.
    fn count_access(self, frame: &Frame, access: Access) -> Result<()> {
        let bad = access.write && access.execute
            || access.write && frame.executable.load(Acquire) != 0
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
        if access.write && frame.executable.load(Acquire) != 0 || access.execute && frame.writable.load(Acquire) != 0 {
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

    /// [`abi::Op::Unmap`].
    pub fn unmap(self, me: Me<'k>, vspace: Cap, frame: Cap, address: u64) -> Result<Answer> {
        let vspace = self.find::<VSpace>(me, vspace, Rights::MAP)?.object;
        let frame = self.find::<Frame>(me, frame, Rights::MAP)?.object;
        let here = |m: &Ref<'k, Mapping>| {
            m.get().vspace.is(vspace) && m.get().address.load(Acquire) & !(PAGE_SIZE - 1) == address
        };
        if let Some(record) = records(frame).find(here) {
            me.hot.answered.set(false);
            self.unmap_record(record);
        } else if !me.hot.answered.get() {
            return Err(Refusal::new(Error::BadAddress, address));
        }
        self.forget_everywhere(me)?;
        Ok(Answer::DONE)
    }

    /// Takes one mapping of a frame away.
    pub fn unmap_record(self, record: Ref<'k, Mapping>) {
        let Some(vspace) = record.get().vspace.get(self.pin) else { return };
        let _guard = vspace.get().lock.lock();
        let Some(frame) = record.get().frame.get(self.pin).filter(|_| record.get().vspace.is(vspace)) else { return };
        let word = record.get().address.swap(0, AcqRel);
        vspace.get().generation.fetch_add(1, AcqRel);
        self.k.machine.unmap(vspace.get(), word & !(PAGE_SIZE - 1), frame.get().log2);
        self.uncount_access(frame.get(), Access { write: word & WRITE != 0, execute: word & EXECUTE != 0 });
        let (next, prev) = (record.get().next.get(self.pin), record.get().prev.get(self.pin));
        if let Some(next) = next {
            next.get().prev.set(prev);
        }
        match prev {
            Some(prev) => prev.get().next.set(next),
            None => vspace.get().mappings.set(next),
        }
        record.get().frame.set(None);
        record.get().vspace.set(None);
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
