//! Page tables against the frame table.
//!
//! An entry with a page in transit counts as a place of that page, like an entry that maps it.
//! While a VSpace's lock is held, entries, counts and lists change one after the other, so rules
//! that compare them do not judge then.

use snapshot::{Entry, Info, VSpace};

use super::memory::is_free;
use crate::facts::{Facts, name_of};
use crate::index::Kind;
use crate::pte::{self, Pte, What};
use crate::report::Findings;

const PAGE: u64 = abi::PAGE_SIZE;
/// Entries of a root table from here on are the kernel's own.
const KERNEL_HALF: u64 = pte::ENTRIES / 2;
/// Bits of an address above those of the lower half.
const HALF_SHIFT: u32 = 47;

/// Returns the entry, decoded by its table's level, if it maps a page or has one in transit.
fn place(entry: &Entry) -> Option<Pte> {
    let word = Pte(entry.word);
    matches!(word.what(entry.level), What::Page | What::Transit).then_some(word)
}

fn is_kernels(entry: &Entry) -> bool {
    entry.level == pte::ROOT_LEVEL && entry.at / 8 % pte::ENTRIES >= KERNEL_HALF
}

fn say(f: &Facts<'_>, entry: &Entry) -> String {
    format!(
        "the entry for {:#x} of {} ({:#x}, level {})",
        entry.address,
        f.name(entry.space),
        entry.word,
        entry.level
    )
}

/// Each page table in use is led to by one entry at most: of the table above, in its own VSpace.
/// What a table that none leads to maps, nobody could find.
pub fn page_tables(f: &Facts<'_>, out: &mut Findings) {
    if f.spaces_change {
        return;
    }
    for entry in
        f.s.entries
            .iter()
            .filter(|entry| Pte(entry.word).what(entry.level) == What::Table && !is_kernels(entry))
    {
        let Some(table) = f.table(Pte(entry.word).at()) else {
            out.add(format_args!("{} leads to no page table in use", say(f, entry)));
            continue;
        };
        hold!(
            out,
            table.space == entry.space,
            "{} leads to a table of {}",
            say(f, entry),
            f.name(table.space)
        );
        hold!(out, table.number != 0, "{} leads to the root table", say(f, entry));
        let ended = f.vspace(entry.space).is_some_and(|space| is_let_go(space, table.number));
        let (level, address) = pte::table_note(table.note);
        let fits = level + 1 == entry.level && address == entry.address;
        hold!(out, fits || ended, "{} leads to a table of level {level} for {address:#x}", say(f, entry));
    }
    for table in f.s.tables.iter().filter(|table| table.number != 0) {
        let (level, address) = pte::table_note(table.note);
        let leads = |entry: &&Entry| {
            Pte(entry.word).what(entry.level) == What::Table && Pte(entry.word).at() == table.at
        };
        let above = entry_for(f, table.space, level + 1, address).filter(leads);
        let its = |entry: &&Entry| entry.at & !(PAGE - 1) == table.at;
        if above.is_none()
            && let Some(entry) = f.s.entries.iter().filter(its).find(|entry| place(entry).is_some())
        {
            out.add(format_args!("no entry leads to the table of {}", say(f, entry)));
        }
    }
}

/// Returns the entry for an address in a VSpace's table of `level`, found as the hardware finds it.
fn entry_for<'a>(f: &Facts<'a>, space: u64, level: u32, address: u64) -> Option<&'a Entry> {
    let mut table = f.vspace(space)?.base;
    let mut at = pte::ROOT_LEVEL;
    loop {
        let entry = f.entry(table + 8 * pte::index_of(address, at))?;
        if at == level {
            return Some(entry);
        }
        let word = Pte(entry.word);
        if word.what(at) != What::Table {
            return None;
        }
        (table, at) = (word.at(), at - 1);
    }
}

/// Returns whether the destruction of a VSpace has already released its table `number`.
fn is_let_go(space: &VSpace, number: u32) -> bool {
    space.dying && u64::from(number) < u64::from(space.swept) / (PAGE / 8)
}

/// The frame table notes, for each page table in use, whose table it is, its level, and the address
/// that it is for.
pub fn table_notes(f: &Facts<'_>, out: &mut Findings) {
    for table in f.s.tables.iter().filter(|table| table.number != 0) {
        let Some(space) = f.vspace(table.space).filter(|space| !space.locked) else { continue };
        let at = space.base + u64::from(table.number) * PAGE;
        hold!(out, table.at == at, "table {} of {} is at {:#x}", table.number, f.name(space.at), table.at);
        hold!(
            out,
            space.used <= space.tables,
            "{} uses {} tables of {}",
            f.name(space.at),
            space.used,
            space.tables
        );
        if is_let_go(space, table.number) {
            hold!(
                out,
                table.owner_kind == 0,
                "table {} of {} was released, and is owned",
                table.number,
                f.name(space.at)
            );
            continue;
        }
        let owned = table.owner_kind == Kind::VSpace as u8 && table.owner == space.at;
        hold!(
            out,
            owned,
            "table {} of {} is owned by {}",
            table.number,
            f.name(space.at),
            f.name(table.owner)
        );
        let (level, address) = pte::table_note(table.note);
        let is_table = (1..pte::ROOT_LEVEL).contains(&level) && address % pte::span(level + 1) == 0;
        hold!(out, is_table, "table {} of {} is noted as {:#x}", table.number, f.name(space.at), table.note);
    }
}

/// Each entry is of a form that the kernel writes. What is mapped in the upper half is not user
/// level's. An entry that has no page has no neighbours.
pub fn entries(f: &Facts<'_>, out: &mut Findings) {
    for entry in &f.s.entries {
        let word = Pte(entry.word);
        if is_kernels(entry) {
            hold!(out, !word.is_user(), "{} is the kernel's, and open to user level", say(f, entry));
            continue;
        }
        let what = word.what(entry.level);
        let fits = match what {
            What::Empty | What::Gone(_) => true,
            What::Table => entry.level > 1 && word.is_user() && !word.is_pooled(),
            What::Page => {
                matches!(entry.level, 1 | 2) && word.is_user() && word.is_large() == (entry.level == 2)
            }
            What::Transit => {
                matches!(entry.level, 1 | 2) && word.is_pooled() && word.is_large() == (entry.level == 2)
            }
            What::Unknown => false,
        };
        hold!(out, fits, "{} is nothing that the kernel writes", say(f, entry));
        let linked = entry.next | entry.prev != 0;
        let may = matches!(what, What::Page | What::Transit) && !word.is_plain() || f.spaces_change;
        hold!(out, !linked || may, "{} has no page of a frame, and has neighbours", say(f, entry));
    }
}

/// Each entry that is the place of a page leads to a page of a live Frame of that size; or to a
/// page in pools, whose Frame may have ended; or to a UTCB, an event pool, or memory that boot gave
/// away. [`plain_pages`] checks the last kinds. A Frame that is being destroyed has no mapping of a
/// page that its destruction is through with.
pub fn mappings(f: &Facts<'_>, out: &mut Findings) {
    for (entry, word) in f.s.entries.iter().filter_map(|entry| Some((entry, place(entry)?))) {
        let (page, span) = (word.at(), pte::span(entry.level));
        let user =
            entry.address >= PAGE && entry.address.checked_add(span).is_some_and(|end| end <= abi::USER_TOP);
        hold!(
            out,
            user && entry.address >> HALF_SHIFT == 0,
            "{} is where user level must have nothing",
            say(f, entry)
        );
        hold!(out, page % span == 0, "{} leads into the middle of a page", say(f, entry));
        if word.is_plain() {
            hold!(
                out,
                entry.level == 1 && !word.is_pooled(),
                "{} is plain, and large or pooled",
                say(f, entry)
            );
            continue;
        }
        let info = f.info(page);
        let owner = info.filter(|info| info.owner_kind == Kind::Frame as u8).map(|info| info.owner);
        match owner.map(|owner| f.frame(owner)) {
            Some(Some(frame)) => {
                hold!(
                    out,
                    1 << frame.log2 == span,
                    "{} maps a page of 2^{} bytes",
                    say(f, entry),
                    frame.log2
                );
                let number = page.wrapping_sub(frame.base) >> frame.log2;
                let ended = frame.dying && number < u64::from(frame.swept) && !word.is_pooled();
                hold!(out, !ended, "{} maps a page whose Frame is through with it", say(f, entry));
                let cached = word.is_cached_as(frame.device, frame.combining);
                hold!(out, cached, "{} has a page cached as its Frame does not say", say(f, entry));
                let device = !frame.device || !word.is_pooled() && !word.is_executable();
                hold!(out, device, "{} maps device memory as if it were none", say(f, entry));
            }
            // Rules about owners say when a Frame that has ended may still own a page.
            Some(None) if word.is_pooled() => {}
            _ => out.add(format_args!("{} leads to no page of a live Frame", say(f, entry))),
        }
        hold!(out, !is_free(f, page) || f.any_root_locked(), "{} leads to free memory", say(f, entry));
    }
}

/// How the entries that have a page use it.
#[derive(Clone, Copy, Default)]
struct Uses {
    all: u32,
    writable: u32,
    executable: u32,
    pooled: u32,
    lent: u32,
}

/// The frame table counts how often each page is mapped at all, to be written, and to be executed:
/// never more than the limit, and never the last two together.
pub fn counts(f: &Facts<'_>, out: &mut Findings) {
    for (info, uses) in uses(f) {
        let counted = [info.mapped, info.writable, info.executable];
        let wanted = [uses.all, uses.writable, uses.executable];
        hold!(out, counted == wanted, "page {:#x} counts {counted:?} mappings, and has {wanted:?}", info.at);
        let max = f.kernel.mappings_max;
        hold!(
            out,
            info.mapped.max(uses.all) <= max,
            "page {:#x} has {} mappings, of {max} at most",
            info.at,
            uses.all
        );
        let either =
            (info.writable == 0 || info.executable == 0) && (uses.writable == 0 || uses.executable == 0);
        hold!(out, either, "page {:#x} is writable and executable", info.at);
    }
}

/// Returns how entries use each page whose info is not being changed.
fn uses<'a>(f: &Facts<'a>) -> impl Iterator<Item = (&'a Info, Uses)> + use<'a> {
    let mut uses = vec![Uses::default(); f.s.infos.len()];
    for (entry, word) in f.s.entries.iter().filter_map(|entry| Some((entry, place(entry)?))) {
        let number = if word.is_plain() { None } else { f.index.infos.get(word.at()) };
        let Some(uses) = number.and_then(|number| uses.get_mut(number)) else { continue };
        let one = |is: bool| u32::from(is);
        uses.all += 1;
        uses.writable += one(word.is_writable());
        uses.executable += one(word.is_executable());
        uses.pooled += one(word.is_pooled());
        uses.lent += one(word.is_pooled() && word.is_lent());
        let _ = entry;
    }
    let judged = !f.spaces_change;
    f.s.infos.iter().zip(uses).filter(move |(info, _)| judged && !info.locked)
}

/// The entries that map a page are in a list that starts at the page's record, each once. A single
/// entry has no neighbours.
pub fn reverse_map(f: &Facts<'_>, out: &mut Findings) {
    if f.spaces_change {
        return;
    }
    for info in f.s.infos.iter().filter(|info| !info.locked && info.first != 0) {
        let (mut prev, mut next, mut length) = (0, info.first, 0);
        while next != 0 && length <= info.mapped {
            let Some(entry) = f.entry(next) else {
                out.add(format_args!("{next:#x} in the list of page {:#x} is no entry", info.at));
                break;
            };
            let maps = place(entry).is_some_and(|word| !word.is_plain() && word.at() == info.at);
            hold!(out, maps, "{} is in the list of page {:#x}", say(f, entry), info.at);
            hold!(
                out,
                entry.prev == prev,
                "{} has another neighbour in the list of page {:#x}",
                say(f, entry),
                info.at
            );
            (prev, next, length) = (next, entry.next, length + 1);
        }
        hold!(
            out,
            length == info.mapped,
            "the list of page {:#x} has {length} entries of {}",
            info.at,
            info.mapped
        );
    }
    for info in f.s.infos.iter().filter(|info| !info.locked && info.first == 0) {
        hold!(out, info.mapped == 0, "page {:#x} is mapped {} times, and has no list", info.at, info.mapped);
    }
}

/// A page is in pools with all its mappings, or with none. Several pools have it to read only; one
/// that a message is to share is in one pool. Nothing executes it, and no device uses it. A page
/// that was in a pool is cleared before it is mapped.
pub fn pools(f: &Facts<'_>, out: &mut Findings) {
    for (info, uses) in uses(f) {
        let page = info.at;
        let wanted = if info.pooled { uses.all } else { 0 };
        hold!(
            out,
            uses.pooled == wanted,
            "page {page:#x} is in {} pools of {} mappings",
            uses.pooled,
            uses.all
        );
        hold!(out, !info.pooled || uses.all > 0, "page {page:#x} is the pools', and in none");
        if uses.pooled > 0 {
            hold!(out, uses.all < 2 || uses.writable == 0, "page {page:#x} is shared, and can be written");
            hold!(out, uses.lent == 0 || uses.all == 1, "page {page:#x} is lent, and another space has it");
            hold!(out, uses.executable == 0, "page {page:#x} is in a pool, and can be executed");
            let pins = f.frame(info.owner).map_or(0, |frame| frame.pins);
            hold!(out, pins == 0 || f.any_busy(), "page {page:#x} is in a pool, and pinned");
        }
        hold!(out, !info.unclean || uses.all == 0, "page {page:#x} is not cleared, and mapped");
    }
    for entry in &f.s.entries {
        let Some(word) = place(entry).filter(|word| word.is_pooled()) else { continue };
        hold!(
            out,
            !word.is_copied() || !word.is_writable(),
            "{} is copied on a write, and writable",
            say(f, entry)
        );
    }
}

/// Every stamp is of a shootdown that has begun: a task that waits for another stamp waits for
/// ever. A page is stale exactly while it has one.
pub fn stamps(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() || f.spaces_change {
        return;
    }
    for info in f.s.infos.iter().filter(|info| info.owner_kind == Kind::Frame as u8 && !info.locked) {
        hold!(
            out,
            info.stale == (info.note != 0),
            "page {:#x} has stamp {:#x}, and stale is {}",
            info.at,
            info.note,
            info.stale
        );
        let begun = info.note == 0 || f.has_begun(info.note);
        hold!(out, begun, "page {:#x} waits for shootdown {:#x}, which has not begun", info.at, info.note);
    }
    for entry in &f.s.entries {
        if let What::Gone(stamp) = Pte(entry.word).what(entry.level) {
            hold!(out, f.has_begun(stamp), "{} waits for a shootdown that has not begun", say(f, entry));
        }
    }
    for space in f.s.vspaces.iter().filter(|space| space.leave != 0) {
        hold!(out, f.has_begun(space.leave), "{} waits for a shootdown that has not begun", f.name(space.at));
    }
    for task in f.s.tasks.iter().filter(|task| task.request_stamp != 0) {
        let begun = f.has_begun(task.request_stamp);
        hold!(out, begun, "{} waits for a shootdown that has not begun", name_of(task));
    }
}

/// Memory that no Frame stands for is mapped where its owner says: the UTCB of a task of that
/// process, the pages of an event pool that are there, or memory that is in no Untyped, which
/// process 1 got at boot. And each UTCB and pool is mapped there.
pub fn plain_pages(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() || f.spaces_change || f.kernel.spaces_locked {
        return;
    }
    let mut wanted = 0;
    let mut want = |space: u64,
                    address: u64,
                    page: u64,
                    writable: bool,
                    what: &dyn Fn() -> String,
                    out: &mut Findings| {
        wanted += 1;
        let word = entry_for(f, space, 1, address).map(|entry| Pte(entry.word));
        let maps = word.is_some_and(|word| {
            word.what(1) == What::Page
                && word.is_plain()
                && word.at() == page
                && word.is_writable() == writable
        });
        hold!(out, maps, "{} is not mapped at {address:#x} of {}: {word:x?} is", what(), f.name(space));
    };
    for task in f.s.tasks.iter().filter(|task| task.process != 0) {
        if let Some(space) = f.process(task.process).map(|process| process.vspace).filter(|space| *space != 0)
        {
            want(
                space,
                task.utcb_address,
                task.utcb,
                true,
                &|| format!("the UTCB of {}", name_of(task)),
                out,
            );
        }
    }
    for pool in f.s.pools.iter().filter(|pool| pool.process != 0) {
        let is_whole = pool.placed == pool.process && pool.mapped == pool.pages;
        hold!(out, is_whole, "{} is bound, and not mapped wholly", f.name(pool.at));
    }
    for pool in f.s.pools.iter().filter(|pool| pool.placed != 0) {
        let Some(process) = f.process(pool.placed).filter(|process| process.vspace != 0) else { continue };
        for number in 0..u64::from(pool.mapped) {
            let (address, page) = (pool.address + number * PAGE, pool.base + number * PAGE);
            let writable = number < u64::from(pool.writable_pages);
            want(
                process.vspace,
                address,
                page,
                writable,
                &|| format!("{} of process {:#x}", f.name(pool.at), process.at),
                out,
            );
        }
    }
    let is_boots = |entry: &Entry| matches!(f.index.memory(Pte(entry.word).at()), (None, None));
    let plain = f.s.entries.iter().filter(|entry| {
        !is_kernels(entry) && Pte(entry.word).what(entry.level) == What::Page && Pte(entry.word).is_plain()
    });
    let (boots, owned): (Vec<&Entry>, Vec<&Entry>) = plain.partition(|entry| is_boots(entry));
    for entry in boots {
        let writable_code = Pte(entry.word).is_writable() && Pte(entry.word).is_executable();
        hold!(out, !writable_code, "{} is writable and executable", say(f, entry));
    }
    hold!(out, owned.len() == wanted, "{} pages of UTCBs and pools are mapped, of {wanted}", owned.len());
}
