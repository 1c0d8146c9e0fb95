//! Memory: page tables and the frame table say the same, no translation outlives them, objects stand where their
//! Untyped has been carved.

use std::collections::BTreeMap;

use kern_base::events::EventPool;
use kern_base::frames::FrameInfo;
use kern_base::machine::Access;
use kern_base::memory::{Frame, Phys, Untyped, VSpace};
use kern_base::paging::{EntryName, Pte};
use kern_core::spaces::tables::Spot;
use smp::door::Ref;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use super::{Seen, hold, view};
use crate::world::machine::{Hardware, Page, Where};
use crate::world::{World, extent};

/// What all page tables say.
struct Tables {
    pages: BTreeMap<Where, Page>,
    /// Entries that are the place of pages of Frames, by page.
    by_frame: BTreeMap<Phys, Vec<(EntryName, Pte)>>,
}

pub fn check(world: &World, seen: &Seen) {
    let spaces = seen.objects::<VSpace>();
    let tables = Tables::of(world, &spaces, &plain_pages(seen));
    for frame in seen.objects::<Frame>() {
        for at in (0..u64::from(frame.get().pages)).map(|n| frame.get().page(n)) {
            lists(world, frame, at, tables.by_frame.get(&at).map_or(&[], Vec::as_slice));
        }
    }
    let hardware = world.k.machine.hardware();
    for space in &spaces {
        remembered(world, &hardware, &tables, *space);
    }
    one_kind_of_access(&hardware, &tables);
    for n in 0..world.cpus() {
        let Some(task) = world.current(n).map(view) else { continue };
        let pin = host_test::pin(n);
        let shown = world.look(n).cpu.vspace.get(pin).map(|v| v.get().cr3());
        hold!(hardware.space(n) == shown, "cpu{n} is not in the space that it shows: {shown:x?}");
        let own = task.hot.process.get(pin).and_then(|p| p.get().vspace.get(pin)).map(|v| v.get().cr3());
        hold!(shown == own, "cpu{n} runs {} in the space {shown:x?}, not in {own:x?}", task.name());
    }
    drop(hardware);
    untypeds(world, seen);
}

/// What an entry maps.
pub fn page(spot: Spot<'_>) -> Option<Page> {
    let entry = spot.load();
    let (write, execute) = (entry.access() == Access::Write, entry.access() == Access::Execute);
    let log2 = kern_base::paging::log2_of(spot.level);
    (entry.is_present() && entry.is_page(spot.level)).then_some(Page { at: entry.at(), log2, write, execute })
}

impl Tables {
    /// All pages of all spaces; those that no Frame stands for are UTCBs and event pools, each where its owner says.
    fn of(world: &World, spaces: &[Ref<'static, VSpace>], plain: &BTreeMap<Where, Page>) -> Tables {
        let mut tables = Tables { pages: BTreeMap::new(), by_frame: BTreeMap::new() };
        for space in spaces {
            for number in 0..space.get().used.load(Relaxed) as usize {
                world.look(0).pages_of(*space, number, |va, spot| {
                    let (entry, at) = (spot.load(), (space.get().cr3(), va));
                    if let Some(page) = page(spot) {
                        hold!(tables.pages.insert(at, page).is_none(), "two entries for {at:x?}");
                        let known = !entry.is_plain() || plain.get(&at) == Some(&page);
                        hold!(known, "{at:x?} maps {page:x?}, which is no UTCB, and of no pool");
                    }
                    if !entry.is_plain() {
                        tables.by_frame.entry(entry.at()).or_default().push((spot.name(), entry));
                    }
                });
            }
        }
        for (at, page) in plain {
            hold!(tables.pages.get(at) == Some(page), "{at:x?} should map {page:x?}, of a UTCB or pool");
        }
        tables
    }
}

/// Where tasks' UTCBs and processes' event pools are mapped.
fn plain_pages(seen: &Seen) -> BTreeMap<Where, Page> {
    let mut pages = BTreeMap::new();
    for task in &seen.tasks {
        let pin = host_test::pin(task.get().hot.home().index());
        let vspace = view(*task).hot.process.get(pin).and_then(|p| p.get().vspace.get(pin));
        if let Some(vspace) = vspace {
            let at = Phys(core::ptr::from_ref(task.get().utcb(pin)).addr() as u64);
            let page = Page { at, log2: 12, write: true, execute: false };
            pages.insert((vspace.get().cr3(), task.get().utcb_address.load(Relaxed)), page);
        }
    }
    for pool in seen.objects::<EventPool>() {
        let pin = host_test::pin(0);
        let Some(process) = pool.get().process.get(pin) else { continue };
        hold!(process.get().pool.is(pool), "a pool is of a process that has another, or none");
        let Some(vspace) = process.get().vspace.get(pin) else { continue };
        let mut address = pool.get().address.load(Relaxed);
        for (at, write) in pool.get().pages() {
            pages.insert((vspace.get().cr3(), address), Page { at, log2: 12, write, execute: false });
            address += abi::PAGE_SIZE;
        }
    }
    pages
}

/// A page's list and counts, against the entries that map it.
fn lists(world: &World, frame: Ref<'static, Frame>, at: Phys, entries: &[(EntryName, Pte)]) {
    let cx = world.look(0);
    let Some(info) = world.k.frames.get(cx.pin(), at) else { panic!("{at:x?} is in no frame table") };
    let info: &FrameInfo = info.get();
    let owner = info.owner(cx.pin()).get::<Frame>();
    hold!(owner.is_none_or(|owner| owner == frame), "{at:x?} is of another frame");
    let counts = info.glance(cx.pin());
    let access = |entry: Pte| if entry.is_pooled() { entry.pool_access() } else { entry.access() };
    let with = |kind| entries.iter().filter(|(_, entry)| access(*entry) == kind).count() as u64;
    let wanted = [entries.len() as u64, with(Access::Write), with(Access::Execute)];
    hold!(
        [counts.mapped(), counts.writable(), counts.executable()] == wanted,
        "{at:x?} counts {counts:?}, its entries are {entries:x?}"
    );
    hold!(wanted[1] == 0 || wanted[2] == 0, "{at:x?} is writable and executable");
    let pooled = entries.iter().filter(|(_, entry)| entry.is_pooled()).count();
    hold!(pooled == if counts.is_pooled() { entries.len() } else { 0 }, "{at:x?} is in pools, or is not");
    hold!(pooled < 2 || wanted[1] == 0, "{at:x?} is shared, and can be written");
    let lent = entries.iter().any(|(_, entry)| entry.is_pooled() && entry.is_lent());
    hold!(!lent || entries.len() == 1, "{at:x?} is lent, and another space has it, too");
    let mut listed = Vec::new();
    let (mut name, mut prev) = (info.lock(cx.pin()).first(), EntryName::NONE);
    while !name.is_none() && listed.len() <= entries.len() {
        let Some(spot) = cx.named(name) else { panic!("{name:x?} in the list of {at:x?} is no entry") };
        hold!(cx.links(spot).prev() == prev, "{name:x?} in the list of {at:x?} has another neighbour");
        listed.push(name);
        (prev, name) = (name, cx.links(spot).next());
    }
    let mut mapped: Vec<EntryName> = entries.iter().map(|(name, ..)| *name).collect();
    listed.sort_by_key(|name| name.0);
    mapped.sort_by_key(|name| name.0);
    hold!(listed == mapped, "{at:x?} is listed with {listed:x?} and mapped by {mapped:x?}");
}

/// What CPUs remember of a space is true, or is about to be forgotten: the CPU is asked to, or forgets it when it enters.
fn remembered(world: &World, hardware: &Hardware, tables: &Tables, space: Ref<'static, VSpace>) {
    let cr3 = space.get().cr3();
    for (cpu, tlb) in &hardware.tlb {
        let generation = space.get().generation.load(Relaxed);
        let seen = space.get().seen.get(host_test::pin(*cpu), *cpu).map(|seen| seen.get().load(Relaxed));
        let keeps = cr3 >> 63 != 0 && seen == Some(generation);
        if hardware.space(*cpu) != Some(cr3) && !keeps {
            continue;
        }
        for ((_, va), (_, page)) in tlb.iter().filter(|(_, (of, _))| *of == cr3) {
            let now = tables.pages.get(&(cr3, *va));
            if now != Some(page) && is_going(world, space, *va, page.at) {
                continue;
            }
            hold!(now == Some(page), "cpu{cpu} remembers {va:#x} of {cr3:#x} as {page:x?}: it is {now:x?}");
        }
    }
}

/// Whether what CPUs remember of an address is being shot down: what was mapped there, or what that allowed.
fn is_going(world: &World, space: Ref<'static, VSpace>, va: u64, at: Phys) -> bool {
    let cx = world.look(0);
    let spots = [cx.spot::<1>(space, va), cx.spot::<2>(space, va)];
    spots.into_iter().flatten().map(|spot| spot.load()).any(|entry| match entry.shootdown() {
        Some(stamp) => !cx.is_over(stamp),
        None => {
            let info = cx.k.frames.get(cx.pin(), at).filter(|_| entry != Pte::EMPTY);
            info.and_then(|info| info.get().stamp()).is_some_and(|stamp| !cx.is_over(stamp))
        }
    })
}

/// No page can be written by one CPU and executed by another, whatever is in their TLBs.
fn one_kind_of_access(hardware: &Hardware, tables: &Tables) {
    let in_tlbs = hardware.tlb.iter().flat_map(|(cpu, tlb)| {
        let space = hardware.space(*cpu);
        tlb.values().filter(move |(of, _)| Some(*of) == space).map(|(_, page)| page)
    });
    let mut kinds: BTreeMap<Phys, (bool, bool)> = BTreeMap::new();
    for page in tables.pages.values().chain(in_tlbs) {
        let kind = kinds.entry(page.at).or_default();
        *kind = (kind.0 | page.write, kind.1 | page.execute);
        hold!(*kind != (true, true), "{:x?} is writable and executable", page.at);
    }
}

/// Every object of an Untyped's root stands in memory that was carved, each in its own.
fn untypeds(world: &World, seen: &Seen) {
    let all = seen.objects::<Untyped>();
    let used = |u: &Ref<'static, Untyped>| {
        let untyped = world.k.roots.open(host_test::pin(0), u.get());
        let (low, high) = untyped.region().used();
        let whole = extent(untyped.region());
        (whole.clone(), whole.start + low, whole.end - high)
    };
    for (at, word) in &seen.words {
        for (whole, low, high) in all.iter().map(used) {
            let carved = !whole.contains(at) || *at < low || *at >= high;
            hold!(
                carved,
                "a {:?} stands at {at:#x}, which is not carved",
                abi::ObjType::from_raw(word.object_type())
            );
        }
    }
}
