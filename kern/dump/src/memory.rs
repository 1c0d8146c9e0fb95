//! The survey's records of memory.

use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use kern_base::frames::FrameInfo;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Reset, Untyped, VSpace};
use kern_base::paging::{ENTRIES, Entry, LEVELS, Links, Pte, TABLE_BYTES, TableNote};
use kern_base::phys::Phys;
use smp::door::Ref;
use snapshot::{Device, ExtentKind, Info, Seen, Sink, Table};

use super::{Still, Survey, object};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn untyped(&mut self, untyped: Ref<'k, Untyped>) {
        let inside = self.still.guarded(untyped.get().inside());
        let ((low, high), revoked) = (inside.region.used(), inside.reset.get() != Reset::No);
        let (base, size) = (self.at(untyped.get().base()), untyped.get().size());
        let record = object!(
            self,
            untyped,
            Untyped { base, size, low, high, resetting: untyped.get().resetting.load(Relaxed), revoked }
        );
        self.sink.untyped(&record);
        self.extent(record.at, size_of::<Untyped>() as u64, record.at, ExtentKind::Object);
        self.extent(base, size, record.at, ExtentKind::Untyped);
    }

    pub fn frame(&mut self, frame: Ref<'k, Frame>) {
        let (base, log2, pages) = (frame.get().base(), frame.get().log2(), frame.get().pages());
        let record = object!(
            self,
            frame,
            Frame {
                base: base.0,
                log2: u32::from(log2),
                pages,
                device: frame.get().is_device(),
                pins: frame.get().pins(),
            }
        );
        self.sink.frame(&record);
        self.extent(record.at, size_of::<Frame>() as u64, record.at, ExtentKind::Object);
        if !record.device {
            self.extent(base.0, u64::from(pages) << log2, record.at, ExtentKind::Frame);
            return;
        }
        if let Some(first) = frame.get().info(self.pin(), base) {
            let bytes = u64::from(pages) * size_of::<FrameInfo>() as u64;
            self.extent(self.at(first.addr()), bytes, record.at, ExtentKind::Object);
        }
        for at in (0..u64::from(pages)).map(|number| frame.get().page(number)) {
            if let Some(info) = frame.get().info(self.pin(), at) {
                self.info(at, info.get(), true);
            }
        }
    }

    /// Records the frame table's contents for all memory.
    pub fn infos(&mut self) {
        for (first, infos) in self.cx.k.frames.ranges(self.pin()) {
            for (number, info) in (0..).zip(infos).filter(|(_, info)| !info.is_blank()) {
                self.info(Phys(first.0 + number * PAGE_SIZE), info, false);
            }
        }
        for frame in self.cx.k.frames.devices(self.pin()) {
            self.sink.device(&Device { frame: self.at(frame.addr()) });
        }
    }

    #[inline]
    fn info(&mut self, at: Phys, info: &FrameInfo, device: bool) {
        let (counts, first, note) = info.survey();
        let owner = info.glance_owner(self.pin());
        let locked = counts.is_none();
        let counts = counts.unwrap_or_default();
        let owned = owner.object_type() != 0;
        self.sink.info(&Info {
            at: at.0,
            device,
            locked,
            mapped: counts.mapped() as u32,
            writable: counts.writable() as u32,
            executable: counts.executable() as u32,
            stale: counts.is_stale(),
            dying: counts.is_dying(),
            pooled: counts.is_pooled(),
            unclean: counts.is_unclean(),
            first: first.0,
            owner_kind: owner.object_type(),
            owner: if owned { self.at(owner.addr()) } else { 0 },
            note,
        });
    }

    pub fn vspace(&mut self, vspace: Ref<'k, VSpace>) {
        let space = vspace.get();
        let tables = (space.entries.len() / ENTRIES) as u32;
        let used = space.used.load(Relaxed);
        let record = object!(
            self,
            vspace,
            VSpace {
                cr3: space.cr3(),
                base: space.base().0,
                tables,
                used,
                process: self.at(space.process.addr()),
                leave: space.leave.load(Relaxed),
                ending: space.is_dying(),
                locked: space.is_locked(),
                generation: space.generation.load(Relaxed),
                homes: space.homes.snapshot().first_word(),
            }
        );
        self.sink.vspace(&record);
        let at = record.at;
        self.extent(at, size_of::<VSpace>() as u64, at, ExtentKind::Object);
        self.extent(record.base, u64::from(tables) * TABLE_BYTES, at, ExtentKind::Tables);
        self.table_of(space.seen.get(self.pin(), 0), space.seen.len(), at);
        for (cpu, seen) in (0..).zip(space.seen.iter(self.pin())) {
            self.sink.seen(&Seen { space: at, cpu, generation: seen.get().load(Relaxed) });
        }
        for number in 0..used.min(tables) as usize {
            self.table(vspace, at, number);
        }
    }

    /// Records a page table in use, with its entries. The root's address range is not recorded.
    fn table(&mut self, vspace: Ref<'k, VSpace>, space: u64, number: usize) {
        let at = vspace.get().place_of(number);
        let Some(info) = self.cx.k.frames.get_memory(self.pin(), at) else { return };
        let (_, _, raw) = info.get().survey();
        let owner = info.get().glance_owner(self.pin());
        let owned = owner.object_type() != 0;
        self.sink.table(&Table {
            at: at.0,
            space,
            number: number as u32,
            owner_kind: owner.object_type(),
            owner: if owned { self.at(owner.addr()) } else { 0 },
            note: raw,
        });
        let note = if number == 0 { TableNote::new(LEVELS, 0) } else { TableNote::from_raw(raw) };
        let first = number * ENTRIES;
        let entries = vspace.get().entries.row(self.pin(), first, ENTRIES).unwrap_or(&[]);
        let links = vspace.get().links.row(self.pin(), first, ENTRIES).unwrap_or(&[]);
        let used = |(_, (entry, links)): &(usize, (&Entry, &Links))| !entry.is_blank() || !links.is_blank();
        for (index, (entry, links)) in entries.iter().zip(links).enumerate().filter(used) {
            self.entry(vspace.get().name_of(first + index).0, space, note, index, (entry.load(), links));
        }
    }

    fn entry(&mut self, at: u64, space: u64, note: TableNote, index: usize, (entry, links): (Pte, &Links)) {
        let (level, address) =
            if (1..=LEVELS).contains(&note.level()) { (note.level(), note.address(index)) } else { (0, 0) };
        self.sink.entry(&snapshot::Entry {
            at,
            space,
            level,
            address,
            word: entry.raw(),
            next: links.next().0,
            prev: links.prev().0,
        });
    }
}
