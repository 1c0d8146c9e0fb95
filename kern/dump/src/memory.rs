//! The survey's records of memory.

use abi::PAGE_SIZE;
use kern_base::frames::FrameInfo;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Reset, Untyped, VSpace};
use kern_base::paging::{Caching, ENTRIES, LEVELS, TABLE_BYTES, TableNote};
use kern_base::phys::Phys;
use smp::cpu::CpuId;
use smp::door::Ref;
use snapshot::{ExtentKind, Sink};

use crate::record::record;
use crate::{Still, Survey};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn untyped(&mut self, at: u64, untyped: Ref<'k, Untyped>) {
        let inside = self.still.guarded(untyped.get().inside());
        let base = self.at(untyped.base());
        let (low, high) = inside.region.used();
        self.sink.untyped(&record!(self, Untyped of untyped {
            [untyped] zombies, resetting, size();
            [] base, low, high;
            revoked = inside.reset.get() != Reset::No,
        }));
        self.extent(base, untyped.size(), at, ExtentKind::Untyped);
    }

    pub fn frame(&mut self, at: u64, frame: Ref<'k, Frame>) {
        let (pages, pin) = (u64::from(frame.pages()), self.cx.pin());
        self.sink.frame(&record!(self, Frame of frame {
            [frame] base(), log2(), pages(), pins();
            device = frame.is_device(),
            combining = frame.caching() == Caching::WriteCombining,
        }));
        if !frame.is_device() {
            self.extent(frame.base().0, pages << frame.log2(), at, ExtentKind::Frame);
            return;
        }
        self.table_of(frame.get().info(pin, frame.base()), pages as usize, at);
        for page in (0..pages).map(|number| frame.page(number)) {
            if let Some(info) = frame.get().info(pin, page) {
                self.info(page, info.get(), true);
            }
        }
    }

    /// Records all memory that the frame table knows, and what it says of each page.
    pub fn infos(&mut self) {
        for (at, infos) in self.cx.k.frames.ranges(self.cx.pin()) {
            let bytes = infos.len() as u64 * PAGE_SIZE;
            self.sink.range(&record!(self, Range { [] at, bytes; }));
            for (number, info) in (0..).zip(infos).filter(|(_, info)| !info.is_blank()) {
                self.info(Phys(at.0 + number * PAGE_SIZE), info, false);
            }
        }
        for frame in self.cx.k.frames.devices(self.cx.pin()) {
            self.sink.device(&record!(self, Device { [] frame; }));
        }
    }

    #[inline]
    fn info(&mut self, at: Phys, info: &FrameInfo, device: bool) {
        let (counts, first, note) = info.survey();
        let owner = info.glance_owner(self.cx.pin());
        let locked = counts.is_none();
        let counts = counts.unwrap_or_default();
        self.sink.info(&record!(self, Info {
            [counts] mapped(), writable(), executable();
            [] at, device, locked, note;
            stale = counts.is_stale(),
            dying = counts.is_dying(),
            pooled = counts.is_pooled(),
            unclean = counts.is_unclean(),
            first = first.0,
            owner_kind = owner.object_type(),
            owner = self.object_of(owner),
        }));
    }

    pub fn vspace(&mut self, at: u64, vspace: Ref<'k, VSpace>) {
        let (seen, pin) = (&vspace.get().seen, self.cx.pin());
        let tables = vspace.entries.len() / ENTRIES;
        let record = record!(self, VSpace of vspace {
            [vspace] used, process, leave, generation, cr3(), base();
            [] tables;
            ending = vspace.is_dying(),
            locked = vspace.is_locked(),
            homes = vspace.homes.word(CpuId::BOOT),
        });
        self.sink.vspace(&record);
        self.extent(record.base, tables as u64 * TABLE_BYTES, at, ExtentKind::Tables);
        self.table_of(seen.get(pin, 0), seen.len(), at);
        for (cpu, seen) in (0u32..).zip(seen.iter(pin)) {
            self.sink.seen(&record!(self, Seen { [] cpu; space = at, generation = *seen, }));
        }
        for number in 0..tables.min(record.used as usize) {
            self.table(vspace, at, number);
        }
    }

    /// Records a page table in use, with its entries. The root's address range is not recorded.
    fn table(&mut self, vspace: Ref<'k, VSpace>, space: u64, number: usize) {
        let (pin, at) = (self.cx.pin(), vspace.place_of(number));
        let Some(info) = self.cx.k.frames.get(pin, at) else { return };
        let ((_, _, note), owner) = (info.survey(), info.get().glance_owner(pin));
        self.sink.table(&record!(self, Table {
            [] at, space, number, note;
            owner_kind = owner.object_type(),
            owner = self.object_of(owner),
        }));
        let note = if number == 0 { TableNote::new(LEVELS, 0) } else { TableNote::from_raw(note) };
        let has_level = (1..=LEVELS).contains(&note.level());
        let first = number * ENTRIES;
        let entries = vspace.get().entries.row(pin, first, ENTRIES).unwrap_or(&[]);
        let links = vspace.get().links.row(pin, first, ENTRIES).unwrap_or(&[]);
        for (index, (entry, links)) in entries.iter().zip(links).enumerate() {
            if !entry.is_blank() || !links.is_blank() {
                self.sink.entry(&record!(self, Entry {
                    [] space;
                    at = vspace.name_of(first + index).0,
                    level = if has_level { note.level() } else { 0 },
                    address = if has_level { note.address(index) } else { 0 },
                    word = entry.load().raw(),
                    next = links.next().0,
                    prev = links.prev().0,
                }));
            }
        }
    }
}
