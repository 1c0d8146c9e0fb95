//! Directed cases that random steps would rarely reach.

use super::*;

pub fn two_clients(frames: u32, room: usize) -> World {
    let mut world = World::new(frames, room);
    for client in 1..=2 {
        world.pager.register(client, LIMITS).expect("room");
    }
    world
}

pub fn region(world: &mut World, client: Client, pages: u32) -> u64 {
    let start = world.pager.anonymous(client, pages, Access::Write, None).expect("a region");
    world.has_region(client, start, pages);
    start
}

#[test]
fn four_times_the_frames_one_may_hold() {
    let mut world = two_clients(100, 1000);
    let start = region(&mut world, 1, 24);
    for round in 0..5 {
        for page in 0..24 {
            world.touch(1, start, page * 7 % 24, round != 4).expect("memory");
        }
    }
    let counts = world.pager.counts();
    assert!(counts.stored >= 24 * 3 && counts.fetched >= 24 * 3, "{counts:?}");
    assert!(counts.puts * 3 < counts.stored, "several pages go by one call: {counts:?}");
    assert_eq!(world.pager.account(1).unwrap().frames, 6);
}

#[test]
fn what_is_used_stays() {
    let mut world = two_clients(100, 1000);
    let start = region(&mut world, 1, 24);
    for page in 0..6 {
        world.touch(1, start, page, true).expect("memory");
    }
    for page in 6..24 {
        // Page 0 is used between any two others.
        world.touch(1, start, 0, false).expect("memory");
        world.touch(1, start, page, true).expect("memory");
    }
    let at = At { client: 1, address: start };
    assert!(world.pager.machine.mapped.contains_key(&at), "the page that was always used");
    assert!(world.pager.counts().spared > 0);
}

#[test]
fn a_clean_page_is_not_stored_twice() {
    let mut world = two_clients(100, 1000);
    let start = region(&mut world, 1, 12);
    for page in 0..12 {
        world.touch(1, start, page, true).expect("memory");
    }
    for page in 0..12 {
        world.touch(1, start, page, false).expect("memory");
    }
    let stored = world.pager.counts().stored;
    for page in (0..12).chain(0..12) {
        world.touch(1, start, page, false).expect("memory");
    }
    assert!(world.pager.counts().stored <= stored + 6, "only what had not been stored yet");
    assert!(world.pager.counts().dropped > 6);
}

#[test]
fn a_store_that_takes_nothing_is_no_harm_until_memory_ends() {
    let mut world = two_clients(100, 0);
    let start = region(&mut world, 1, 24);
    for page in 0..6 {
        world.touch(1, start, page, true).expect("within the limit");
    }
    assert_eq!(world.touch(1, start, 6, true), Err(Denial::Limit));
    assert_eq!(world.pager.machine.asked, 1, "the policy was asked");
    for page in 0..6 {
        world.touch(1, start, page, true).expect("what was there is there");
    }
    let other = region(&mut world, 2, 2);
    world.touch(2, other, 0, true).expect("nobody else notices");
}

#[test]
fn the_policy_ends_somebody_for_somebody_else() {
    let mut world = two_clients(8, 0);
    let (first, second) = (region(&mut world, 1, 6), region(&mut world, 2, 6));
    for page in 0..6 {
        world.touch(1, first, page, true).expect("memory");
    }
    world.touch(2, second, 0, true).expect("memory");
    world.touch(2, second, 1, true).expect("memory");
    assert_eq!(world.touch(2, second, 2, true), Err(Denial::Memory));
    world.pager.machine.advice = Some(Advice::Kill(1));
    world.touch(2, second, 2, true).expect("the other one's memory");
    assert_eq!(world.pager.fault(1, first, Access::Read), Err(Denial::Ended));
    assert_eq!(world.pager.deny(1, Denial::Ended, first), None);
    assert_eq!(world.pager.fate(1).unwrap().reason, Some(Denial::Ended));
    world.pager.machine.advice = Some(Advice::Kill(2));
    for page in 3..6 {
        world.touch(2, second, page, true).expect("memory");
    }
    let more = world.pager.anonymous(2, 6, Access::Write, None).unwrap();
    assert_eq!(world.pager.fault(2, more, Access::Write), Err(Denial::Ended));
}

#[test]
fn a_page_that_the_store_does_not_give_back_is_an_error_each_time() {
    let mut world = two_clients(100, 1000);
    let start = region(&mut world, 1, 8);
    for page in 0..8 {
        world.touch(1, start, page, true).expect("memory");
    }
    world.pager.machine.gets_fail = 1;
    assert_eq!(world.touch(1, start, 0, false), Err(Denial::Lost));
    world.touch(1, start, 0, false).expect("it was only once");
    world.pager.on_error(1, 0x1234).unwrap();
    assert_eq!(world.pager.deny(1, Denial::Lost, start), Some(0x1234));
    assert_eq!(world.pager.deny(1, Denial::Lost, start), None, "once");
    assert_eq!(world.pager.fate(1).unwrap().reason, Some(Denial::Lost));
}

#[test]
fn limits_are_kept_and_refusals_change_nothing() {
    let mut world = two_clients(100, 1000);
    let limits = |frames, pinned, pages| Limits { frames, pinned, pages };
    assert_eq!(world.pager.register(3, limits(3, 0, 1)), Err(Denial::BadRequest), "too few frames");
    assert_eq!(world.pager.register(3, limits(6, 3, 1)), Err(Denial::BadRequest), "all frames pinned");
    assert_eq!(
        world.pager.register(3, limits(6, 2, 1_000_000)),
        Err(Denial::Full),
        "more than there is room for"
    );
    assert_eq!(world.pager.register(1, LIMITS), Err(Denial::Full), "the same again");
    assert_eq!(world.pager.register(0, LIMITS), Err(Denial::BadRequest), "the manager");
    assert_eq!(world.pager.anonymous(1, 25, Access::Write, None), Err(Denial::Limit));
    assert_eq!(world.pager.anonymous(1, 0, Access::Write, None), Err(Denial::BadRequest));
    assert_eq!(world.pager.anonymous(9, 1, Access::Write, None), Err(Denial::NotYou));
    let start = world.pager.anonymous(1, 4, Access::Read, None).unwrap();
    assert_eq!(world.pager.fault(1, start, Access::Write), Err(Denial::Access));
    assert_eq!(world.pager.fault(1, start, Access::Execute), Err(Denial::Access));
    assert_eq!(world.pager.fault(1, start + 4 * abi::PAGE_SIZE, Access::Read), Err(Denial::NoRegion));
    assert_eq!(world.pager.fault(2, start, Access::Read), Err(Denial::NoRegion), "somebody else's");
    assert_eq!(world.pager.share(1, start, 2, Access::Write), Err(Denial::Access));
    let key = world.pager.share(1, start, 2, Access::Read).unwrap();
    assert_eq!(world.pager.attach(1, key), Err(Denial::NotShared), "not with this one");
    assert_eq!(world.pager.attach(2, key + 1), Err(Denial::NotShared));
    assert_eq!(world.pager.pin(1, start, 3), Err(Denial::Limit));
    assert_eq!(world.pager.pin(1, u64::MAX - 5, 3), Err(Denial::NoRegion));
    world.pager.pin(1, start, 2).unwrap();
    world.pager.audit().unwrap();
    let bytes = Bytes { file: 0, first: 0, count: 10 };
    assert_eq!(world.pager.file(1, bytes, 1, Access::Read, Some(start)), Err(Denial::Occupied));
    assert_eq!(world.pager.file(1, bytes, 1, Access::Read, Some(start + 5)), Err(Denial::BadRequest));
    assert_eq!(world.pager.file(1, bytes, 1, Access::Read, Some(0)), Err(Denial::BadRequest));
    world.pager.file(1, bytes, 1, Access::Execute, Some(0x40_0000)).unwrap();
    world.pager.fault(1, 0x40_0000, Access::Execute).unwrap();
    world.pager.audit().unwrap();
}

/// Makes a client that has split off two parts, with a process in each.
pub fn two_parts(room: usize) -> (World, Client, Client) {
    let mut world = World::new(100, room);
    world.pager.register(1, ROOMY).expect("room");
    world.pager.register(2, LIMITS).expect("room");
    let [first, second] = [0, 1].map(|_| {
        let part = world.pager.split(1, PART).expect("a part");
        world.pager.admit(part, 1).expect("a client for it");
        part
    });
    (world, first, second)
}

#[test]
fn what_parts_hold_the_whole_holds() {
    let (mut world, first, second) = two_parts(1000);
    let regions = [1, first, second].map(|client| (client, region(&mut world, client, 16)));
    for round in 0..6 {
        for page in 0..16 {
            for (client, start) in regions {
                world.touch(client, start, page, round % 2 == 0).expect("memory");
                let all = world.pager.account(1).unwrap().frames;
                assert!(all <= ROOMY.frames.into(), "{all} frames are held together");
                world.pager.audit().unwrap();
            }
        }
    }
    for client in [first, second] {
        assert!(world.pager.account(client).unwrap().frames >= 4, "enough to go on with");
    }
    assert_eq!(world.pager.account(1).unwrap().pages, 48);
    assert_eq!(world.pager.anonymous(first, 9, Access::Write, None), Err(Denial::Limit), "its own limit");
    world.pager.anonymous(first, 8, Access::Write, None).unwrap();
    assert_eq!(
        world.pager.anonymous(second, 5, Access::Write, None),
        Err(Denial::Limit),
        "the whole's limit"
    );
}

#[test]
fn pins_of_parts_leave_enough_for_each() {
    let (mut world, first, second) = two_parts(1000);
    let regions = [1, first, second].map(|client| (client, region(&mut world, client, 8)));
    // Two frames of fourteen are left over when each of three accounts has four.
    assert_eq!(world.pager.pin(first, regions[1].1, 2), Err(Denial::Limit), "its own limit");
    world.pager.pin(first, regions[1].1, 1).unwrap();
    world.pager.pin(1, regions[0].1, 1).unwrap();
    assert_eq!(world.pager.pin(second, regions[2].1, 1), Err(Denial::Limit));
    assert_eq!(world.pager.split(1, PART), Err(Denial::Limit), "no room for a fourth");
    for page in 0..8 {
        for (client, start) in regions {
            world.touch(client, start, page, true).expect("memory");
        }
    }
    world.pager.unpin(1, regions[0].1, 1).unwrap();
    world.pager.pin(second, regions[2].1, 1).unwrap();
    world.pager.audit().unwrap();
}

#[test]
fn parts_are_no_larger_than_the_whole_and_not_too_many() {
    let (mut world, first, _) = two_parts(1000);
    let part = |frames, pinned, pages| Limits { frames, pinned, pages };
    for too_much in [part(15, 0, 1), part(14, 5, 1), part(14, 0, 61)] {
        assert_eq!(world.pager.split(1, too_much), Err(Denial::Limit), "{too_much:?}");
    }
    assert_eq!(world.pager.split(1, part(3, 0, 1)), Err(Denial::BadRequest));
    assert_eq!(world.pager.split(1, part(5, 2, 1)), Err(Denial::BadRequest));
    assert_eq!(world.pager.split(9, part(4, 0, 1)), Err(Denial::NotYou));
    assert_eq!(
        world.pager.split(first, part(8, 0, 1)),
        Err(Denial::Limit),
        "there are three of fourteen frames"
    );
    world.pager.register(3, part(1000, 0, 100)).unwrap();
    let mut line = vec![3];
    while let Ok(part) = world.pager.split(line[line.len() - 1], part(900, 0, 50)) {
        assert_eq!(world.pager.anonymous(part, 1, Access::Read, None), Err(Denial::NotYou), "nobody yet");
        world.pager.admit(part, line[line.len() - 1]).unwrap();
        line.push(part);
    }
    assert_eq!(line.len(), crate::tree::DEPTH_MAX);
    let more = core::iter::from_fn(|| world.pager.split(3, part(10, 0, 1)).ok()).count();
    assert_eq!(more + line.len(), crate::tree::ACCOUNTS_MAX as usize, "so many and no more");
    world.pager.audit().unwrap();
    world.pager.forget(3).unwrap();
    world.pager.audit().unwrap();
    assert!(line[1..].iter().all(|part| world.pager.fate(*part).unwrap().reason == Some(Denial::Closed)));
}

#[test]
fn a_part_ends_by_its_whole_and_with_it() {
    let (mut world, first, second) = two_parts(1000);
    let [mine, one, two] = [1, first, second].map(|client| region(&mut world, client, 8));
    for page in 0..4 {
        world.touch(1, mine, page, true).unwrap();
        world.touch(first, one, page, true).unwrap();
        world.touch(second, two, page, true).unwrap();
    }
    assert_eq!(world.pager.close(2, first), Err(Denial::NotYou), "somebody else's");
    assert_eq!(world.pager.close(first, second), Err(Denial::NotYou), "a sister's");
    assert_eq!(world.pager.close(1, 1), Err(Denial::NotYou), "the whole itself");
    let before = world.pager.account(1).unwrap();
    world.pager.close(1, first).unwrap();
    let after = world.pager.account(1).unwrap();
    assert!(after.frames < before.frames && after.pages == before.pages - 8, "its memory came back");
    assert_eq!(world.pager.fault(first, one, Access::Read), Err(Denial::Closed));
    assert_eq!(world.pager.anonymous(first, 1, Access::Read, None), Err(Denial::Closed));
    assert_eq!(world.pager.split(first, Limits { frames: 4, pinned: 0, pages: 1 }), Err(Denial::Closed));
    world.touch(second, two, 0, false).expect("the other part's");
    // Its number is not used again before the manager has forgotten it.
    world.pager.forget(second).unwrap();
    let third = world.pager.split(1, PART).unwrap();
    assert_eq!(third, second);
    world.pager.close(1, third).unwrap();
    assert_eq!(world.pager.admit(third, 1), Err(Denial::NotYou), "there was nobody in it");
    world.pager.end(1, Denial::Ended);
    world.pager.audit().unwrap();
    assert_eq!(world.pager.fate(first).unwrap().reason, Some(Denial::Closed), "it was before");
    world.pager.forget(1).unwrap();
    world.pager.forget(first).unwrap();
    assert_eq!(world.pager.counts().free, 100);
}

#[test]
fn who_is_destroyed_is_noticed_when_memory_is_wanted() {
    let mut world = two_clients(8, 0);
    let (first, second) = (region(&mut world, 1, 6), region(&mut world, 2, 6));
    for page in 0..6 {
        world.touch(1, first, page, true).expect("memory");
    }
    world.pager.machine.lose(1, true);
    world.forget(1);
    for page in 0..6 {
        world.touch(2, second, page, true).expect("the other one's memory");
    }
    assert_eq!(world.pager.machine.asked, 0, "no policy was asked");
    assert_eq!(world.pager.counts().noticed, 1);
    assert_eq!(world.pager.fate(1).unwrap().reason, Some(Denial::Gone));
    world.pager.audit().unwrap();
    world.pager.forget(1).unwrap();
    assert_eq!(world.pager.forget(1), Err(Denial::NotYou));
    assert_eq!(world.pager.fate(1), Err(Denial::NotYou));
}

#[test]
fn who_cannot_be_reached_keeps_what_it_sees() {
    let mut world = two_clients(8, 0);
    let (first, second) = (region(&mut world, 1, 6), region(&mut world, 2, 6));
    for page in 0..6 {
        world.touch(1, first, page, true).expect("memory");
    }
    world.pager.machine.lose(1, false);
    world.touch(2, second, 0, true).expect("a free frame");
    world.touch(2, second, 1, true).expect("a free frame");
    assert_eq!(world.touch(2, second, 2, true), Err(Denial::Memory));
    assert!(world.pager.end(1, Denial::Ended), "the policy would end it");
    assert_eq!(world.touch(2, second, 2, true), Err(Denial::Memory), "which does not help");
    assert_eq!(world.pager.counts().noticed, 0);
    world.pager.audit().unwrap();
    // Now it goes.
    world.pager.machine.lose(1, true);
    world.touch(2, second, 2, true).expect("its memory");
    assert_eq!(world.pager.fate(1).unwrap().reason, Some(Denial::Ended));
    assert_eq!(world.pager.counts().free, 8 - 3);
}

/// Makes a region of so many pages of the file, to be read.
fn file(world: &mut World, client: Client, pages: u32) -> u64 {
    let bytes = Bytes { file: 0, first: 0, count: (u64::from(pages) * abi::PAGE_SIZE).min(FILE_BYTES) };
    let start = world.pager.file(client, bytes, pages, Access::Read, None).expect("a region");
    let words = (0..pages as usize).map(|page| file_word(crate::faults::page_bytes(bytes, page)));
    world.model.objects.push(words.collect());
    world.model.regions.insert((client, start), (world.model.objects.len() - 1, Access::Read));
    start
}

#[test]
fn what_is_in_memory_of_a_file_comes_together() {
    let mut world = World::new(100, 0);
    for client in 1..=3 {
        world.pager.register(client, ROOMY).expect("room");
    }
    let regions = [1, 2, 3].map(|client| (client, file(&mut world, client, 12)));
    let mut faults = Vec::new();
    for (client, start) in regions {
        let before = world.pager.counts().faults;
        (0..12).for_each(|page| world.touch(client, start, page, false).expect("memory"));
        faults.push(world.pager.counts().faults - before);
        world.pager.audit().unwrap();
    }
    assert_eq!(faults, [12, 7, 7], "one for the row of eight that has bytes of the file");
    assert_eq!(world.pager.account(2).unwrap().frames, 6, "of zeroes behind the file: the rest cost nothing");
}

#[test]
fn pages_that_others_use_say_who_is_gone_only_if_they_are_elsewhere_too() {
    let mut world = two_clients(12, 0);
    let (first, second) = (file(&mut world, 1, 2), file(&mut world, 2, 2));
    world.touch(1, first, 0, false).unwrap();
    world.touch(2, second, 0, false).unwrap();
    world.pager.machine.lose(1, true);
    world.forget(1);
    assert!(!world.pager.reap_all(), "only a page that the other one sees");
    world.pager.machine.lost.clear();
    // One that the other could have, but has not mapped.
    let mut world = two_clients(12, 0);
    let (first, second) = (file(&mut world, 1, 2), file(&mut world, 2, 2));
    world.touch(2, second, 1, false).unwrap();
    world.touch(1, first, 0, false).unwrap();
    world.pager.machine.lose(1, true);
    world.forget(1);
    assert!(world.pager.reap_all(), "a page that is in the file");
    world.pager.audit().unwrap();
    world.touch(2, second, 0, false).expect("it is read again");
    world.touch(2, second, 1, false).expect("it was there all the time");
}

#[test]
fn what_was_promised_to_the_destroyed_is_promised_again() {
    let mut world = two_clients(12, 0);
    region(&mut world, 1, 6);
    let most = Limits { pages: CAPACITY - LIMITS.pages, ..LIMITS };
    assert_eq!(world.pager.register(3, most), Err(Denial::Full));
    world.pager.machine.lose(1, true);
    world.pager.register(3, most).expect("what the first one had");
    world.pager.audit().unwrap();
}

#[test]
fn who_is_torn_down_has_nothing_any_more() {
    let mut world = two_clients(100, 1000);
    let start = region(&mut world, 1, 6);
    for page in 0..6 {
        world.touch(1, start, page, true).expect("memory");
    }
    assert_eq!(world.pager.fault(1, start - 1, Access::Read), Err(Denial::NoRegion));
    assert_eq!(world.pager.deny(1, Denial::NoRegion, start - 1), None);
    assert_eq!(world.pager.counts().free, 100, "its memory is free at once");
    let fate = world.pager.fate(1).unwrap();
    assert_eq!((fate.reason, fate.address), (Some(Denial::NoRegion), start - 1));
    assert_eq!(world.pager.fault(1, start, Access::Read), Err(Denial::Ended), "another task of it");
    assert_eq!(world.pager.deny(1, Denial::Ended, start), None);
    assert_eq!(world.pager.fate(1).unwrap().reason, Some(Denial::NoRegion), "what was first");
}
