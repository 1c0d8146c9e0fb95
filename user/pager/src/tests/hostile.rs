//! Attacks of hostile clients, viewers and stores that once succeeded, case by case.

use user_rt::paging::HEAP_PER_PAGE;

use super::cases::{region, two_clients, two_parts};
use super::*;

fn entries(world: &World) -> usize {
    world.pager.objects.iter().map(|(_, object)| object.entries.capacity()).sum()
}

#[test]
fn what_is_remembered_of_files_is_promised_by_who_has_them_now() {
    let mut world = World::new(64, 10_000);
    let pages = 600;
    world.pager.register(1, Limits { frames: 16, pinned: 4, pages }).unwrap();
    let one_byte = |first| Bytes { file: 1, first, count: 1 };
    for first in 0..100 {
        world.pager.file(1, one_byte(first), 1, Access::Read, None).unwrap();
    }
    for first in 0..100 {
        let big = world.pager.file(1, one_byte(first), 500, Access::Read, None).unwrap();
        for page in 0..4 {
            world.pager.fault(1, big + page * abi::PAGE_SIZE, Access::Read).unwrap();
        }
        world.pager.give_back(1, big).unwrap();
        world.pager.audit().unwrap();
    }
    assert_eq!(entries(&world), 200, "an entry for each region, and one for each file's byte");
    assert_eq!(world.pager.pages.iter().count(), 100, "a page of each file");
}

#[test]
fn a_page_keeps_no_room_for_views_that_are_no_more() {
    let mut world = World::new(16, 100);
    world.pager.register(1, Limits { frames: 8, pinned: 0, pages: 200 }).unwrap();
    let at = region(&mut world, 1, 1);
    let key = world.pager.share(1, at, 1, Access::Read).unwrap();
    let views: Vec<u64> = (0..150).map(|_| world.pager.attach(1, key).unwrap().0).collect();
    for view in &views {
        world.pager.fault(1, *view, Access::Read).unwrap();
    }
    world.pager.audit().unwrap();
    for view in views {
        world.pager.give_back(1, view).unwrap();
    }
    world.pager.audit().unwrap();
    let room: usize = world.pager.pages.iter().map(|(_, page)| page.places.capacity()).sum();
    assert!(room <= 4, "room for {room} mappings of nothing");
}

#[test]
fn a_page_that_said_who_is_gone_keeps_no_room_for_its_mappings() {
    let mut world = World::new(16, 100);
    let bytes = Bytes { file: 0, first: 0, count: 8 };
    for client in 1..=2 {
        world.pager.register(client, LIMITS).unwrap();
    }
    let at = world.pager.file(1, bytes, 1, Access::Read, None).unwrap();
    world.pager.file(2, bytes, 1, Access::Read, None).unwrap();
    let key = world.pager.share(1, at, 1, Access::Read).unwrap();
    for _ in 0..6 {
        let (view, _) = world.pager.attach(1, key).unwrap();
        world.pager.fault(1, view, Access::Read).unwrap();
    }
    world.pager.machine.lose(1, true);
    assert!(world.pager.reap_all(), "its page is in the file, too");
    assert_eq!(world.pager.pages.iter().count(), 1, "the other one's, still");
    world.pager.audit().unwrap();
}

#[test]
fn the_worst_page_is_within_what_is_promised_for_it() {
    let mut world = World::new(100, 100);
    world.pager.register(1, Limits { frames: 60, pinned: 40, pages: 50 }).unwrap();
    world.pager.register(2, LIMITS).unwrap();
    for first in 0..50 {
        let bytes = Bytes { file: 0, first, count: 8 };
        let at = world.pager.file(1, bytes, 1, Access::Write, None).unwrap();
        world.pager.fault(1, at, Access::Read).unwrap();
        world.pager.fault(1, at, Access::Write).unwrap();
        let _ = world.pager.pin(1, at, 1);
        world.pager.share(1, at, 2, Access::Read).unwrap();
    }
    world.pager.audit().unwrap();
    let all = world.pager.heap_of(1) as u64;
    assert!(all <= 50 * HEAP_PER_PAGE, "{} bytes a page", all / 50);
    assert!(all > 25 * HEAP_PER_PAGE, "only {} bytes a page: the constant promises too little", all / 50);
}

#[test]
fn who_pins_in_turns_makes_no_ring_grow() {
    let mut world = two_clients(64, 100);
    let at = region(&mut world, 1, 1);
    let key = world.pager.share(1, at, 2, Access::Write).unwrap();
    let (view, _) = world.pager.attach(2, key).unwrap();
    for _ in 0..100 {
        for (client, at) in [(1, at), (2, view)] {
            world.pager.pin(client, at, 1).unwrap();
            world.pager.unpin(client, at, 1).unwrap();
            world.pager.audit().unwrap();
        }
    }
    let [first, second] = [1, 2].map(|client| world.pager.ring(Some(client)).len());
    assert_eq!((first, second), (0, 1), "who pinned last pays");
}

#[test]
fn what_cannot_be_unmapped_is_not_taken_back() {
    let mut world = two_clients(4, 0);
    let (kept, at) = (region(&mut world, 1, 1), region(&mut world, 1, 2));
    for (start, page) in [(kept, 0), (at, 0), (at, 1)] {
        world.touch(1, start, page, true).unwrap();
    }
    world.pager.machine.lose(1, false);
    world.forget(1);
    assert_eq!(world.pager.give_back(1, at), Err(Denial::Gone));
    world.pager.audit().unwrap();
    let other = region(&mut world, 2, 4);
    world.touch(2, other, 0, true).expect("a free frame");
    assert_eq!(world.touch(2, other, 1, true), Err(Denial::Memory), "the others are seen");
    world.check(&Before::of(&world.pager), &[2]);
    // Once it is no more, all of it is free.
    world.pager.machine.lose(1, true);
    for page in 0..4 {
        world.touch(2, other, page, true).expect("the other one's frames");
    }
    world.pager.audit().unwrap();
    assert_eq!(world.pager.account(1), Err(Denial::NotYou), "it was noticed");
}

#[test]
fn who_is_destroyed_while_it_gives_back_leaves_nothing() {
    for destroyed in [true, false] {
        for steps in 0..4 {
            let mut world = two_clients(8, 100);
            let at = region(&mut world, 1, 12);
            for page in 0..12 {
                world.touch(1, at, page, true).unwrap();
            }
            assert!(!world.pager.machine.store.is_empty(), "some pages are out");
            world.pager.machine.doom = Some(Doom { client: 1, steps, destroyed });
            assert_eq!(world.pager.give_back(1, at), Err(Denial::Gone), "after {steps}");
            world.check(&Before::of(&world.pager), &[]);
            world.pager.audit().unwrap();
            world.forget(1);
            world.pager.machine.vouched = true;
            world.pager.forget(1).unwrap();
            let (objects, pages) = (world.pager.objects.iter().count(), world.pager.pages.iter().count());
            assert_eq!((objects, pages, world.pager.machine.store.len()), (0, 0, 0), "after {steps}");
            assert_eq!(world.pager.counts().free, 8);
        }
    }
}

#[test]
fn no_lie_of_a_store_is_believed() {
    for lie in [Lie::Flip, Lie::Other, Lie::Old, Lie::Forged] {
        let mut world = two_clients(100, 1000);
        let start = region(&mut world, 1, 12);
        for page in (0..12).chain(0..12) {
            world.touch(1, start, page, true).unwrap();
        }
        world.pager.machine.lies = Some((lie, 1));
        assert_eq!(world.touch(1, start, 0, false), Err(Denial::Lost), "{lie:?}");
        world.touch(1, start, 0, false).expect("the slot is kept: another try works");
    }
}

#[test]
fn a_view_that_is_pinned_is_no_matter_to_others_who_pin() {
    let mut world = two_clients(16, 100);
    let at = region(&mut world, 1, 1);
    let key = world.pager.share(1, at, 2, Access::Read).unwrap();
    let (view, _) = world.pager.attach(2, key).unwrap();
    world.pager.pin(2, view, 1).unwrap();
    world.pager.pin(1, at, 1).expect("the owner's own pin");
    world.pager.audit().unwrap();
    let usage = |world: &World| [1, 2].map(|client| world.pager.clients[&client].own);
    let pays = |usage: &Usage| (usage.frames, usage.pinned);
    assert_eq!(usage(&world).each_ref().map(pays), [(1, 1), (1, 1)], "each pays for his pin");
    world.pager.unpin(2, view, 1).unwrap();
    world.pager.audit().unwrap();
    assert_eq!(usage(&world).each_ref().map(pays), [(1, 1), (0, 0)]);
    world.pager.unpin(1, at, 1).unwrap();
    world.pager.audit().unwrap();
    assert_eq!(usage(&world).each_ref().map(pays), [(1, 0), (0, 0)], "as before all pins");
}

#[test]
fn who_writes_what_others_have_pinned_pays_himself() {
    // The viewer can hold nothing more, and the store is full.
    let mut world = World::new(64, 0);
    world.pager.register(1, Limits { frames: 20, pinned: 0, pages: 16 }).unwrap();
    world.pager.register(2, Limits { frames: 5, pinned: 1, pages: 16 }).unwrap();
    let at = region(&mut world, 1, 1);
    world.touch(1, at, 0, true).unwrap();
    let key = world.pager.share(1, at, 2, Access::Read).unwrap();
    let (view, _) = world.pager.attach(2, key).unwrap();
    world.pager.pin(2, view, 1).unwrap();
    let mine = region(&mut world, 2, 4);
    for page in 0..4 {
        world.touch(2, mine, page, true).unwrap();
    }
    world.pager.clone_of(1, at).unwrap();
    assert_eq!(world.pager.account(1).unwrap().frames, 0, "the viewer's pin pays");
    world.pager.fault(1, at, Access::Write).expect("room on the writer's account");
    world.pager.audit().unwrap();
    let held = [1, 2].map(|client| world.pager.account(client).unwrap().frames);
    assert_eq!(held, [1, 5], "the writer pays for the copy that there is more");
}

#[test]
fn who_splits_what_he_has_is_as_large_as_before() {
    let (mut world, first, second) = two_parts(0);
    let regions = [1, first, second].map(|client| (client, region(&mut world, client, 4)));
    for (client, start) in regions {
        (0..4).for_each(|page| world.touch(client, start, page, true).unwrap());
    }
    let all = world.pager.counts().free;
    let other = region(&mut world, 2, 6);
    (0..6).for_each(|page| world.touch(2, other, page, true).unwrap());
    // Frames that nobody has.
    world.pager.free.truncate(0);
    world.pager.counts.frames -= all - 6;
    let more = region(&mut world, first, 4);
    assert_eq!(world.touch(first, more, 0, true), Err(Denial::Memory));
    assert_eq!(world.pager.machine.told.iter().copied().collect::<Vec<_>>(), [1, 2], "whole accounts");
    let holders = world.pager.holders();
    let held: Vec<(Client, u32)> = holders.iter().map(|holder| (holder.client, holder.frames)).collect();
    assert_eq!(held, [(1, 12), (2, 6)]);
    // The account that holds most evicts a page first, whichever part of it has that page.
    world.pager.machine.room = 1;
    assert!(world.pager.evict_anywhere(None));
    assert_eq!(world.pager.clients[&2].own.frames, 6, "the smaller one keeps what it has");
    world.pager.audit().unwrap();
}

#[test]
fn regions_side_by_side_leave_room_for_others() {
    let mut world = two_clients(16, 100);
    let page = abi::PAGE_SIZE;
    // One that reaches over where regions begin, and two without a page between them.
    for (at, pages) in [(REGIONS_VA - page, 2), (REGIONS_VA + 4 * page, 1), (REGIONS_VA + 5 * page, 1)] {
        world.pager.anonymous(1, pages, Access::Write, Some(at)).unwrap();
    }
    assert_eq!(world.pager.anonymous(1, 1, Access::Write, None), Ok(REGIONS_VA + 2 * page));
    assert_eq!(world.pager.anonymous(1, 1, Access::Write, None), Ok(REGIONS_VA + 7 * page));
    world.pager.audit().unwrap();
}
