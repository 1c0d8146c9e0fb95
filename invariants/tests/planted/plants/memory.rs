//! Planted violations about memory: its owner, its mappings, its translations in CPUs.

use invariants::Snapshot;
use invariants::pte::{Pte, What};
use snapshot::{ExtentKind, Translation};

use super::{NOTHING, Planted, kind_of};

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const PLAIN: u64 = 1 << 9;
const POOL: u64 = 1 << 52;
const COPY: u64 = 1 << 53;
const LENT: u64 = 1 << 54;
const NO_EXECUTE: u64 = 1 << 63;

/// A page that a frame's capability maps, or one of a pool, of 4 KiB.
fn mapped(word: u64, pooled: bool) -> bool {
    let word = Pte(word);
    word.what(1) == What::Page && !word.is_large() && !word.is_plain() && word.is_pooled() == pooled
}

/// A CPU remembers a page where nothing is mapped.
fn remember(s: &mut Snapshot, page: u64) -> Option<()> {
    let hardware = s.hardwares.iter().find(|hardware| hardware.cr3 != 0)?;
    let (cpu, cr3) = (hardware.cpu, hardware.cr3);
    s.translations.push(Translation {
        cpu,
        cr3,
        address: 0x1234_5000,
        page,
        log2: 12,
        ..Translation::default()
    });
    Some(())
}

/// In the order of the rules.
pub const PLANTS: &[Planted] = &[
    ("disjoint", "two objects at one place", |s| {
        let at = s.contexts.first()?.at;
        first!(s.extents, |extent| extent.kind == ExtentKind::Object && extent.at != at)?.at = at;
        Some(())
    }),
    ("disjoint", "a page table in a frame", |s| {
        let frame = s.frames.iter().find(|frame| !frame.device)?.base;
        first!(s.extents, |extent| extent.kind == ExtentKind::Tables)?.at = frame;
        Some(())
    }),
    ("disjoint", "an object outside memory", |s| {
        first!(s.extents, |extent| extent.kind == ExtentKind::Object)?.at = 1 << 45;
        Some(())
    }),
    ("carved", "an object in memory that was started again", |s| {
        let inside = |base, size| s.contexts.iter().any(|context| context.at.wrapping_sub(base) < size);
        let number = s.untypeds.iter().position(|untyped| inside(untyped.base, untyped.size))?;
        (s.untypeds[number].low, s.untypeds[number].high) = (0, 0);
        Some(())
    }),
    ("carved", "an Untyped that has carved more than it has", |s| {
        let untyped = s.untypeds.first_mut()?;
        untyped.low = untyped.size;
        untyped.high = 64;
        Some(())
    }),
    ("carved", "an object of another root", |s| {
        let at = s
            .extents
            .iter()
            .find(|extent| s.contexts.iter().any(|c| c.at == extent.at && c.root == 0))?
            .object;
        first!(s.contexts, |context| context.at == at)?.root = 9;
        Some(())
    }),
    ("page-owners", "a page of a frame that does not have it", |s| {
        let info = first!(s.infos, |info| info.owner_kind == kind_of(abi::ObjType::Frame))?;
        let other = s.frames.iter().find(|frame| frame.at != info.owner)?;
        info.owner = other.at;
        Some(())
    }),
    ("page-owners", "a mapped page that nobody owns", |s| {
        let info = first!(s.infos, |info| info.mapped > 0)?;
        (info.owner_kind, info.owner) = (0, 0);
        Some(())
    }),
    ("page-owners", "a page that is noted as a table, and is none", |s| {
        let space = s.vspaces.first()?;
        let (at, base, used) = (space.at, space.base, u64::from(space.used));
        let mut info = *s.infos.first()?;
        (info.at, info.owner, info.owner_kind) = (base + used * 4096, at, kind_of(abi::ObjType::VSpace));
        s.infos.push(info);
        Some(())
    }),
    ("frame-pages", "a frame whose page is another's", |s| {
        let number = s.frames.iter().position(|frame| !frame.dying && !frame.device)?;
        let base = s.frames[number].base;
        first!(s.infos, |info| info.at == base)?.owner = NOTHING;
        Some(())
    }),
    ("devices", "a device frame that nobody lists", |s| s.devices.pop().map(drop)),
    ("devices", "two frames of one device", |s| {
        let mut frame = *s.frames.iter().find(|frame| frame.device)?;
        frame.at = NOTHING;
        s.frames.push(frame);
        Some(())
    }),
    ("page-tables", "a table that two entries lead to", |s| {
        let of = |level, entry: &snapshot::Entry| {
            entry.level == level && Pte(entry.word).what(level) == What::Table
        };
        let tables: Vec<usize> = (0..s.entries.len()).filter(|n| of(2, &s.entries[*n])).collect();
        let two = tables.windows(2).find(|two| s.entries[two[0]].space == s.entries[two[1]].space)?;
        s.entries[two[0]].word = s.entries[two[1]].word;
        Some(())
    }),
    ("page-tables", "an entry that leads to memory that is no table", |s| {
        first!(s.entries, |entry| entry.level == 2 && Pte(entry.word).what(2) == What::Table)?.word ^=
            1 << 40;
        Some(())
    }),
    ("page-tables", "pages in a table that no entry leads to", |s| {
        let entry = s.entries.iter().find(|entry| entry.level == 1 && mapped(entry.word, false))?;
        let table = entry.at & !0xfff;
        first!(s.entries, |entry| entry.level == 2 && Pte(entry.word).at() == table)?.word = 0;
        Some(())
    }),
    ("table-notes", "a table that is noted as another space's", |s| {
        let other = s.vspaces.first()?.at;
        first!(s.tables, |table| table.number > 0 && table.space != other)?.owner = other;
        Some(())
    }),
    ("table-notes", "a table without a level", |s| {
        first!(s.tables, |table| table.number > 0)?.note = 0;
        Some(())
    }),
    ("entries", "an entry of the kernel's half that user level may use", |s| {
        let base = s.vspaces.first()?.base;
        let mut entry = *s.entries.iter().find(|entry| entry.level == 4)?;
        (entry.at, entry.word) = (base + 8 * 300, 0x1000 | PRESENT | USER);
        s.entries.push(entry);
        Some(())
    }),
    ("entries", "a page that is not user level's", |s| {
        first!(s.entries, |entry| entry.level == 1 && mapped(entry.word, false))?.word &= !USER;
        Some(())
    }),
    ("entries", "neighbours of an entry that has no page", |s| {
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).is_plain())?.next = NOTHING;
        Some(())
    }),
    ("mappings", "a mapping of memory that is no frame's", |s| {
        first!(s.entries, |entry| entry.level == 1 && mapped(entry.word, false))?.word ^= 1 << 40;
        Some(())
    }),
    ("mappings", "a mapping of an object", |s| {
        let page = s.tasks.first()?.at;
        let entry = first!(s.entries, |entry| entry.level == 1 && mapped(entry.word, false))?;
        entry.word = entry.word & 0xfff | NO_EXECUTE | page;
        Some(())
    }),
    ("mappings", "a page of 4 KiB mapped as one of 2 MiB", |s| {
        let page = s
            .frames
            .iter()
            .find(|frame| frame.log2 == 12 && !frame.device && frame.base % (2 << 20) == 0)?
            .base;
        let entry = first!(s.entries, |entry| entry.level == 2 && Pte(entry.word).what(2) == What::Table)?;
        entry.word = page | PRESENT | USER | LARGE | NO_EXECUTE;
        Some(())
    }),
    ("mappings", "a page of the last page of user level", |s| {
        first!(s.entries, |entry| entry.level == 1 && mapped(entry.word, false))?.address = abi::USER_TOP;
        Some(())
    }),
    ("mappings", "a page whose frame is through with it", |s| {
        let word = s.entries.iter().find(|entry| entry.level == 1 && mapped(entry.word, false))?.word;
        let frame = first!(s.frames, |frame| frame.base == Pte(word).at())?;
        (frame.dying, frame.swept) = (true, 1);
        Some(())
    }),
    ("mappings", "device memory that is cached", |s| {
        let base = s.frames.iter().find(|frame| frame.device)?.base;
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == base)?.word &= !(3 << 3);
        Some(())
    }),
    ("mappings", "registers whose writes are combined", |s| {
        let base = s.frames.iter().find(|frame| frame.device && !frame.combining)?.base;
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == base)?.word &= !(1 << 4);
        Some(())
    }),
    ("mappings", "memory that is not cached", |s| {
        let base = s.frames.iter().find(|frame| !frame.device && frame.log2 == 12)?.base;
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == base)?.word |= 3 << 3;
        Some(())
    }),
    ("counts", "one mapping that is not counted", |s| {
        first!(s.infos, |info| info.mapped > 0)?.mapped -= 1;
        Some(())
    }),
    ("counts", "a mapping to write that is not counted as such", |s| {
        first!(s.infos, |info| info.writable > 0)?.writable = 0;
        Some(())
    }),
    ("counts", "more mappings than there may be", |s| {
        s.infos.iter().find(|info| info.mapped > 0)?;
        s.kernels[0].mappings_max = 0;
        Some(())
    }),
    ("counts", "a page that is writable and executable", |s| {
        let words: Vec<(usize, u64)> = (0..s.entries.len()).map(|n| (n, s.entries[n].word)).collect();
        let twice =
            |word: u64| words.iter().filter(|(_, other)| Pte(*other).at() == Pte(word).at()).count() > 1;
        let (number, word) = words.iter().copied().find(|(n, word)| {
            s.entries[*n].level == 1 && mapped(*word, false) && !Pte(*word).is_writable() && twice(*word)
        })?;
        s.entries[number].word |= WRITE;
        let page = Pte(word).at();
        let other = words.iter().find(|(n, other)| *n != number && Pte(*other).at() == page)?.0;
        s.entries[other].word &= !NO_EXECUTE & !WRITE;
        let info = first!(s.infos, |info| info.at == page)?;
        (info.writable, info.executable) = (1, 1);
        Some(())
    }),
    ("reverse-map", "a mapping that no list has", |s| {
        first!(s.infos, |info| info.mapped == 1)?.first = 0;
        Some(())
    }),
    ("reverse-map", "a list that ends too early", |s| {
        let first = s.infos.iter().find(|info| info.mapped > 1)?.first;
        first!(s.entries, |entry| entry.at == first)?.next = 0;
        Some(())
    }),
    ("reverse-map", "a neighbour that is another's", |s| {
        let first = s.infos.iter().find(|info| info.mapped > 1)?.first;
        let next = s.entries.iter().find(|entry| entry.at == first)?.next;
        first!(s.entries, |entry| entry.at == next)?.prev = NOTHING;
        Some(())
    }),
    ("reverse-map", "a list with an entry that has another page", |s| {
        let other = s.entries.iter().find(|entry| Pte(entry.word).is_plain() && entry.level == 1)?.at;
        first!(s.infos, |info| info.mapped == 1)?.first = other;
        Some(())
    }),
    ("pools", "a page that is in a pool, and the frame table does not know", |s| {
        first!(s.infos, |info| info.pooled)?.pooled = false;
        Some(())
    }),
    ("pools", "a page that is in no pool, and the frame table says so", |s| {
        let info =
            first!(s.infos, |info| info.mapped == 0 && info.owner_kind == kind_of(abi::ObjType::Frame))?;
        info.pooled = true;
        Some(())
    }),
    ("pools", "a shared page that can be written", |s| {
        let page = s.infos.iter().find(|info| info.pooled && info.mapped > 1)?.at;
        let entry = first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == page)?;
        entry.word |= WRITE;
        Some(())
    }),
    ("pools", "a page that is lent, and in two pools", |s| {
        let page = s.infos.iter().find(|info| info.pooled && info.mapped > 1)?.at;
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == page)?.word |= LENT;
        Some(())
    }),
    ("pools", "a page of a pool that a device uses", |s| {
        let owner = s
            .infos
            .iter()
            .find(|info| info.pooled && s.frames.iter().any(|frame| frame.at == info.owner))?
            .owner;
        first!(s.frames, |frame| frame.at == owner)?.pins = 1;
        Some(())
    }),
    ("pools", "a page that is mapped, and was not cleared", |s| {
        first!(s.infos, |info| info.mapped > 0 && !info.pooled)?.unclean = true;
        Some(())
    }),
    ("pools", "a page that is copied on a write, and can be written", |s| {
        first!(s.entries, |entry| entry.level == 1
            && mapped(entry.word, true)
            && Pte(entry.word).is_writable())?
        .word |= COPY;
        Some(())
    }),
    ("stamps", "a page that waits for a shootdown that never began", |s| {
        let info = first!(s.infos, |info| info.owner_kind == kind_of(abi::ObjType::Frame))?;
        (info.stale, info.note) = (true, 1 << 40);
        Some(())
    }),
    ("stamps", "a page that is stale, and waits for nothing", |s| {
        first!(s.infos, |info| info.owner_kind == kind_of(abi::ObjType::Frame) && info.note == 0)?.stale =
            true;
        Some(())
    }),
    ("stamps", "an entry that waits for a shootdown that never began", |s| {
        let gone = |entry: &snapshot::Entry| matches!(Pte(entry.word).what(entry.level), What::Gone(_));
        first!(s.entries, |entry| gone(entry))?.word |= 1 << 45;
        Some(())
    }),
    ("plain-pages", "a UTCB that is mapped nowhere", |s| {
        let utcb = s.tasks.iter().find(|task| task.process != 0)?.utcb;
        first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == utcb)?.word = 0;
        Some(())
    }),
    ("plain-pages", "another task's page for a UTCB", |s| {
        let utcbs: Vec<u64> = s.tasks.iter().filter(|task| task.process != 0).map(|task| task.utcb).collect();
        let entry = first!(s.entries, |entry| entry.level == 1 && Pte(entry.word).at() == utcbs[0])?;
        entry.word = entry.word - utcbs[0] + utcbs.get(1)?;
        Some(())
    }),
    ("plain-pages", "an object that is mapped as if it were a UTCB", |s| {
        let page = s.processes.first()?.at & !0xfff;
        let entry = first!(s.entries, |entry| entry.level == 1 && mapped(entry.word, false))?;
        entry.word = page | PRESENT | WRITE | USER | PLAIN | NO_EXECUTE;
        Some(())
    }),
    ("cpu-spaces", "a CPU that shows another space", |s| {
        let spaces: Vec<u64> = s.vspaces.iter().map(|space| space.at).collect();
        let cpu = first!(s.cpus, |cpu| cpu.current != 0)?;
        cpu.vspace = *spaces.iter().find(|space| **space != cpu.vspace)?;
        Some(())
    }),
    ("cpu-spaces", "a CPU that is in another space", |s| {
        first!(s.hardwares, |hardware| !hardware.waits)?.cr3 ^= 0x1000;
        Some(())
    }),
    ("remembered", "a translation of what is not mapped", |s| remember(s, 0x1000)),
    ("stale-pages", "a page that one CPU remembers, and another frame has", |s| {
        let page =
            s.infos.iter().find(|info| info.owner_kind == kind_of(abi::ObjType::Frame) && info.note == 0)?.at;
        remember(s, page)
    }),
    ("stale-pages", "a device's page that a CPU remembers, and nobody has", |s| {
        let page = s.infos.iter().find(|info| info.device)?.at;
        s.infos.retain(|info| info.at != page);
        remember(s, page)
    }),
    ("stale-pages", "an object in a page that a CPU remembers", |s| {
        let page = s.processes.first()?.at & !0xfff;
        remember(s, page)
    }),
    ("write-or-execute", "a page that one CPU writes and another executes", |s| {
        let word = s
            .entries
            .iter()
            .find(|entry| entry.level == 1 && mapped(entry.word, false) && Pte(entry.word).is_writable())?
            .word;
        let hardware = s.hardwares.iter().find(|hardware| hardware.cr3 != 0)?;
        let (cpu, cr3, page) = (hardware.cpu, hardware.cr3, Pte(word).at());
        s.translations.push(Translation {
            cpu,
            cr3,
            address: 0x1234_5000,
            page,
            log2: 12,
            write: false,
            execute: true,
        });
        Some(())
    }),
    ("entries", "a page of a pool in an entry that leads to a table", |s| {
        first!(s.entries, |entry| entry.level == 2 && Pte(entry.word).what(2) == What::Table)?.word |= POOL;
        Some(())
    }),
];
