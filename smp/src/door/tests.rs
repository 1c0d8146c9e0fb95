//! Host tests of the doors. One thread plays the CPUs in turn; memory comes from leaked boxes.

use core::cell::Cell;

use super::masked::{FilledTable, NamedTable, mask_index};
use super::*;
use crate::cpu::CpuId;
use crate::host_test::{self, leak, pin};
use crate::sync::AtomicU64;
use crate::sync::Ordering::Relaxed;
use std::boxed::Box;
use std::vec::Vec;

#[repr(C, align(64))]
struct Line([u8; 64]);

/// Makes a region of `lines` cache lines that are filled with 0xaa.
fn region(lines: usize) -> Region {
    let memory: Vec<Line> = (0..lines).map(|_| Line([0xaa; 64])).collect();
    let memory = Box::leak(memory.into_boxed_slice());
    // SAFETY: leaked just now, aligned by its type, and `memory` is not used again.
    unsafe { Region::new(memory.as_mut_ptr().expose_provenance() as u64, lines as u64 * 64) }
}

#[repr(C, align(64))]
struct Thing {
    number: u64,
    next: AtomicLink<Thing>,
}

#[repr(C, align(64))]
struct Other {
    number: u64,
}

crate::kernel_objects! {
    enum Objects(number: u64) {
        Thing = 3, abi::SharedRights;
        Other = 4, abi::SharedRights;
    }
}

/// What two objects of one CPU have of each other.
struct Linked {
    number: u64,
    next: Link<Linked>,
}

fn thing<'k>(region: &Region, number: u64) -> Ref<'k, Thing> {
    let piece = region.carve(size_of::<Thing>() as u64, 64).expect("room");
    piece.emplace(pin(0), Thing { number, next: AtomicLink::null() }).expect("fits")
}

#[test]
fn pieces_are_disjoint_and_aligned() {
    let region = region(64);
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for (size, align) in [(1, 64), (100, 64), (256, 256), (64, 64), (512, 512)] {
        let piece = region.carve(size, align).expect("room");
        assert_eq!((piece.base() % align, piece.size()), (0, size));
        taken.push((piece.base(), piece.base() + size));
        let top = region.carve_top(48).expect("room");
        assert_eq!(top.base() % 64, 0);
        taken.push((top.base(), top.base() + 48));
    }
    taken.sort();
    assert!(taken.windows(2).all(|w| w[0].1 <= w[1].0));
    assert!(taken[0].0 >= region.base() && taken[9].1 <= region.base() + region.size());
}

#[test]
fn region_ends_where_its_ends_meet() {
    let region = region(4);
    assert!(region.is_unused());
    assert!(region.carve(65, 64).is_some() && region.carve_top(64).is_some());
    assert_eq!((region.free(), region.used()), (127, (65, 64)));
    assert!(region.carve_top(65).is_none(), "a rounded-down start would overlap");
    assert!(region.carve(64, 64).is_some());
    assert!(region.carve(1, 1).is_none() && region.carve_top(1).is_none());
    assert!(region.carve(u64::MAX, 64).is_none() && region.carve_top(u64::MAX).is_none());
    region.start_again();
    assert!(region.is_unused() && region.carve(256, 64).is_some());
}

#[test]
fn piece_splits_and_clears() {
    let region = region(4);
    let mut piece = region.carve(256, 64).expect("room");
    assert!(piece.split(257).is_none());
    let front = piece.split(64).expect("room");
    assert_eq!((front.base(), front.size(), piece.base()), (region.base(), 64, region.base() + 64));
    host_test::fill(front.base(), 0xa5, 64);
    let table = front.clear().into_table::<AtomicU64>().expect("fits");
    assert_eq!(table.iter(pin(0)).map(|word| word.load(Relaxed)).collect::<Vec<_>>(), [0; 8]);
    let child = piece.into_region();
    assert_eq!((child.size(), child.is_unused()), (192, true));
}

/// Fills a region's memory with garbage, and returns where it is.
fn garbage(region: &Region) -> u64 {
    host_test::fill(region.base(), 0xa5, region.size() as usize);
    region.base()
}

fn is_zero(piece: &Cleared) -> bool {
    host_test::bytes(piece.base(), piece.size() as usize).iter().all(|byte| *byte == 0)
}

#[test]
fn blocks_are_cleared_ahead_in_steps() {
    let region = region(16);
    let base = garbage(&region);
    assert!(!region.is_ahead(0, 512, 64));
    let step = |size| region.clear_ahead(0, size, 64, 192);
    assert_eq!(step(512), Some(base..base + 192));
    assert_eq!(step(512), Some(base + 192..base + 384));
    assert!(!region.is_ahead(0, 512, 64) && region.is_ahead(0, 384, 64));
    assert_eq!(step(512), Some(base + 384..base + 512));
    assert_eq!((step(512), region.is_ahead(0, 512, 64)), (None, true));
    assert_eq!(region.used(), (0, 0), "nothing is carved");
    assert_eq!(step(2048), None, "no room");
    // What is carved leaves the range, from below and from above.
    assert!(region.carve(64, 64).is_some() && region.is_ahead(0, 448, 64) && !region.is_ahead(0, 449, 64));
    assert!(region.carve_top(600).is_some() && !region.is_ahead(0, 384, 64) && region.is_ahead(0, 320, 64));
    assert!(region.carve_cleared(0, 320, 64).is_some_and(|(_, piece)| is_zero(&piece)));
    assert!(!region.is_ahead(0, 1, 64));
}

#[test]
fn blocks_are_clear_whatever_was_cleared_ahead() {
    // How far it is cleared ahead, from where, and where the block is.
    for (ahead, align, skip, size) in
        [(0, 64, 0, 192), (128, 64, 0, 192), (192, 64, 64, 256), (128, 512, 0, 640)]
    {
        let region = region(16);
        garbage(&region);
        region.clear_ahead(0, 256, align, ahead);
        assert!(skip == 0 || region.carve(skip, 64).is_some());
        let (_, piece) = region.carve_cleared(0, size, 64).expect("room");
        assert!(is_zero(&piece), "{ahead} bytes ahead, aligned to {align}");
    }
}

#[test]
fn the_head_of_a_block_is_not_cleared_ahead() {
    let region = region(16);
    let base = garbage(&region);
    assert_eq!(region.clear_ahead(100, 500, 64, 1024), Some(base + 100..base + 500));
    assert!(region.is_ahead(100, 500, 64) && !region.is_ahead(99, 500, 64));
    // Another object's head is longer, or shorter.
    let (head, rest) = region.carve_cleared(64, 500, 64).expect("room");
    assert!(is_zero(&rest) && host_test::bytes(head.base(), 64).iter().all(|byte| *byte == 0xa5));
}

#[test]
fn a_region_that_starts_again_has_nothing_cleared() {
    let region = region(16);
    garbage(&region);
    region.clear_ahead(0, 512, 64, 512);
    garbage(&region);
    region.start_again();
    assert!(!region.is_ahead(0, 64, 64));
    assert!(region.carve_cleared(0, 512, 64).is_some_and(|(_, piece)| is_zero(&piece)));
}

#[test]
fn a_short_block_below_the_range_is_clear() {
    let region = host_test::region(4096, 4096);
    garbage(&region);
    assert!(region.carve(64, 64).is_some());
    region.clear_ahead(0, 1024, 1024, 512);
    assert!(!region.is_ahead(0, 64, 64));
    assert!(region.carve_cleared(0, 128, 64).is_some_and(|(_, piece)| is_zero(&piece)));
    assert!(region.is_ahead(0, 512, 1024), "the range is not used up");
}

/// A block that begins above the range continues it; one that begins below starts a new one.
#[test]
fn a_range_that_is_cleared_moves_down_only() {
    let region = host_test::region(4096, 4096);
    let (base, upper) = (garbage(&region), 1024);
    assert!(region.carve(64, 64).is_some());
    let clear = |size, align, most| region.clear_ahead(0, size, align, most);
    assert_eq!(clear(1024, 1024, 64), Some(base + upper..base + upper + 64));
    assert_eq!(clear(256, 64, 64), Some(base + 64..base + 128));
    assert_eq!(clear(1024, 1024, 64), Some(base + 128..base + 192));
    assert_eq!(clear(256, 64, 128), Some(base + 192..base + 320));
    assert!(region.is_ahead(0, 256, 64));
}

#[test]
fn misfits_are_refused() {
    let region = region(8);
    let small = region.carve(63, 64).expect("room");
    assert!(small.emplace(pin(0), Thing { number: 0, next: AtomicLink::null() }).is_none());
    let mut odd = region.carve(256, 64).expect("room");
    odd.split(8);
    assert!(odd.emplace(pin(0), Thing { number: 0, next: AtomicLink::null() }).is_none());
    let nothing = region.carve(64, 64).expect("room");
    assert!(nothing.emplace_slice(|_| ()).is_none());
}

#[test]
fn tables_are_bounded() {
    let table = region(2).carve(128, 64).and_then(|p| p.emplace_slice(|i| i as u32 * 3)).expect("fits");
    assert_eq!(table.len(), 32);
    assert_eq!(table.get(pin(1), 31).map(|r| *r), Some(93));
    assert!(table.get(pin(1), 32).is_none() && table.get(pin(1), usize::MAX).is_none());
    assert!(table.iter(pin(0)).map(|r| *r).eq((0..32).map(|i| i * 3)));
    let none: Table<u64> = Table::empty();
    assert!(none.is_empty() && none.get(pin(0), 0).is_none());
    assert_eq!(Table::from_static(&[5u8, 6]).get(pin(0), 1).map(|r| *r), Some(6));
}

#[test]
fn indices_are_masked() {
    for len in [1, 2, 33, usize::MAX] {
        for index in [0, 1, 32, 33, usize::MAX - 1, usize::MAX] {
            assert_eq!(mask_index(index, len), if index < len { index } else { 0 }, "{index} of {len}");
        }
    }
    assert_eq!(mask_index(0, 0), 0);
}

#[test]
fn tables_named_by_user_level_are_bounded() {
    let table = |len: u64| {
        let piece = region(2).carve(64, 64).and_then(|mut p| p.split(len)).expect("fits");
        piece.emplace_slice(|i| i as u8).expect("a table")
    };
    let named = NamedTable::new(table(16));
    let at = |index| named.get(pin(0), index).map(|r| *r);
    assert_eq!((at(0), at(15), at(16), at(usize::MAX)), (Some(0), Some(15), None, None));
    assert_eq!((named.masked(15), named.masked(16)), (Some(15), None));
    assert_eq!((named.get_from(pin(0), 14, 9), named.get_from(pin(0), 2, 2)), (&[14, 15][..], &[2, 3][..]));
    assert!([16, usize::MAX].iter().all(|first| named.get_from(pin(0), *first, 9).is_empty()));
    assert!(NamedTable::new(table(0)).get(pin(0), 0).is_none());
    let filled = FilledTable::new(table(16)).expect("it has elements");
    let or_first = |index| *filled.get_or_first(pin(0), index);
    assert_eq!((or_first(0), or_first(15), or_first(16), or_first(usize::MAX)), (0, 15, 0, 0));
    let but_first = |index| filled.get_but_first(pin(0), index).map(|r| *r);
    assert_eq!((but_first(0), but_first(15), but_first(16)), (None, Some(15), None));
    assert!(FilledTable::new(table(0)).is_none());
}

#[test]
fn words_hold_object_rights_and_type() {
    let region = region(4);
    let a = thing(&region, 7);
    let word: ObjWord<Objects> = ObjWord::empty();
    assert_eq!((word.load(pin(0)).object_type(), word.load(pin(0)).empty_value()), (0, 0));
    for rights in [0, 1, 0x1ffff] {
        word.set(a, rights);
        let read = word.load(pin(0));
        assert_eq!((read.object_type(), read.rights(), read.addr()), (3, rights, a.addr()));
        assert!(read.get::<Thing>() == Some(a) && read.get::<Other>().is_none());
    }
    let copy = ObjWord::empty();
    copy.set_raw(word.load(pin(0)), 5);
    assert_eq!((copy.load(pin(0)).rights(), copy.load(pin(0)).addr()), (5, a.addr()));
    copy.set_empty(u64::MAX >> RIGHTS_SHIFT);
    assert_eq!(copy.load(pin(0)).empty_value(), u64::MAX >> RIGHTS_SHIFT);
    assert!(copy.load(pin(0)).get::<Thing>().is_none());
    copy.set_note(9);
    assert_eq!((copy.load(pin(0)).object_type(), copy.load(pin(0)).empty_value()), (0, 9));
}

#[test]
fn addresses_of_the_upper_half_survive_packing() {
    let word: RawWord<'_, Objects> = RawWord::new((0xffff_8123_4567_89c0 << ADDR_SHIFT) | 3);
    assert_eq!(word.addr(), 0xffff_8123_4567_89c0);
}

#[test]
fn links_follow_objects() {
    let linked = |number| leak(Linked { number, next: Link::null() });
    let (a, b) = (linked(1), linked(2));
    assert!(a.next.is_null() && a.next.addr() == 0);
    a.next.set(Some(b));
    assert!(a.next.is(b) && !a.next.is(a) && a.next.addr() == b.addr());
    assert_eq!(a.next.get(pin(0)).map(|t| t.number), Some(2));
    assert_eq!(a.next.take(pin(0)).map(|t| *t.map(|t| &t.number)), Some(2));
    assert!(a.next.is_null());
    assert!(a != b && a == a.ptr().get(pin(1)));
}

#[test]
fn homed_opens_at_home_only() {
    let state = leak(Homed::new(CpuId::BOOT, Cell::new(5)));
    assert_eq!(state.open(pin(0)).map(Cell::get), Some(5));
    assert!(state.open(pin(1)).is_none());
    state.get().hold_here(pin(0)).hand_to_with(None::<Held<'_, ()>>, pin(1).cpu());
    assert!(state.open(pin(0)).is_none());
    assert_eq!((state.home(), state.here(pin(1)).get()), (pin(1).cpu(), 5));
}

/// Returns what each of three CPUs sees of some state: whether the CPU can open it, and where the
/// CPU sends mail about it.
fn seen_by_each(state: Ref<'_, Homed<Cell<u64>>>) -> [(bool, usize); 3] {
    [0, 1, 2].map(|n| (state.open(pin(n)).is_some(), state.mail_target(pin(n)).index()))
}

#[test]
fn nobody_opens_what_is_under_way() {
    let state = leak(Homed::new(pin(1).cpu(), Cell::new(5)));
    assert_eq!(seen_by_each(state), [(false, 1), (true, 1), (false, 1)]);
    assert!(!state.arrive(pin(2)) && !state.arrive(pin(1)) && !state.is_under_way());
    let Some(held) = state.hold(pin(1)) else { panic!("it is at home") };
    held.leave_for(pin(0).cpu());
    assert_eq!(seen_by_each(state), [(false, 1), (false, 0), (false, 1)], "the old home sends mail on");
    assert!(state.is_under_way() && state.hold(pin(1)).is_none());
    assert_eq!((state.home().index(), state.destination().index()), (1, 0));
    let table = region(1).carve(64, 64).and_then(|piece| piece.emplace_slice(|n| n as u64));
    let Some(table) = table else { panic!("no room") };
    assert!(state.at_home(pin(2), &table).is_none());
    assert!(!state.arrive(pin(2)), "it is not this one that it goes to");
    assert!(state.arrive(pin(0)));
    assert_eq!(seen_by_each(state), [(true, 0), (false, 0), (false, 0)]);
    assert!(!state.arrive(pin(0)) && !state.is_under_way());
    assert_eq!(state.at_home(pin(2), &table).map(|n| *n.get()), Some(0));
}

#[test]
fn the_last_cpu_is_a_destination_too() {
    let last = crate::cpu::MAX_CPUS - 1;
    let state = leak(Homed::new(pin(last).cpu(), ()));
    for (from, to) in [(last, last - 1), (last - 1, last)] {
        let Some(held) = state.hold(pin(from)) else { panic!("it is at home") };
        held.leave_for(pin(to).cpu());
        assert_eq!((state.home().index(), state.destination().index()), (from, to));
        assert!(state.arrive(pin(to)));
    }
}

#[test]
#[should_panic(expected = "cpu1 opened or moved state whose home is cpu0")]
fn homed_says_who_was_wrong() {
    Homed::new(CpuId::BOOT, ()).here(pin(1));
}

#[test]
#[should_panic(expected = "cpu1 opened or moved state whose home is cpu0")]
fn only_its_home_moves_state() {
    Homed::new(CpuId::BOOT, ()).hold_here(pin(1)).leave_for(pin(0).cpu());
}
