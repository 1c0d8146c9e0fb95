//! Limits and ends of pages in pools: the greatest number of mappings, frames that are being
//! deleted, page tables at the destination.

use abi::{Cap, Error, ObjType, Op, PageMode, PageRange};
use kern_base::frames::Counts;
use kern_base::limits::MAPPED_MAX;
use kern_base::memory::{Frame, VSpace};
use smp::chaos::Point;

use crate::pages::{FROM, LARGE, PAGE, POOL, call, can_map, lists, pooled, receiver, transfer};
use crate::scene::Scene;
use crate::world::Regs;
use crate::world::make::{CONTROL, INIT, at};

/// Shares a page of a space in so many other places of that space: the error where that is refused.
fn share(s: &mut Scene, space: Cap, from: u64, count: u64, target: u64) -> Result<(), Error> {
    transfer(s, space, space, PageRange::new(PageMode::Share, from, count), target)
        .map_err(|(error, _)| error)
}

/// What the kernel counts of the first page of a frame.
fn counts_of(s: &Scene, frame: Cap) -> Counts {
    let cx = s.w.look(0);
    let base = s.w.object::<Frame>(frame).expect("the frame").get().base();
    cx.k.frames.get(cx.pin(), base).expect("what is known of it").get().glance(cx.pin())
}

/// A frame's page, in the pool of a new space, in as many places as there may be, less `room`.
pub fn shared_often(s: &mut Scene, room: u64) -> (Cap, Cap) {
    let tables = MAPPED_MAX / 512 + 8;
    let space = s.w.make(0, ObjType::VSpace, tables);
    let frame = pooled(s, space, FROM, 1);
    let mut places = 1;
    while places < MAPPED_MAX - room {
        // Only the first place may be shared that often.
        let half = (MAPPED_MAX / 2).saturating_sub(places).max(1);
        let most = places.min(kern_base::limits::MESSAGE_PAGES_MAX).min(half);
        let count = most.min(MAPPED_MAX - room - places);
        share(s, space, FROM, count, FROM + places * PAGE).expect("a share within the limit");
        places += count;
    }
    assert_eq!(counts_of(s, frame).mapped(), MAPPED_MAX - room);
    (space, frame)
}

#[test]
fn a_page_is_shared_as_often_as_its_count_can_say_and_no_more() {
    for room in [0, 1, 3] {
        let mut s = Scene::unchecked(1, 32 << 20);
        let (space, frame) = shared_often(&mut s, room);
        let before = counts_of(&s, frame);
        let target = FROM + MAPPED_MAX * PAGE;
        let range = PageRange::new(PageMode::Share, FROM, 2);
        let refused = transfer(&mut s, space, space, range, target);
        let at = FROM + if room == 0 { 0 } else { PAGE };
        assert_eq!(refused, Err((Error::Full, at)), "{room} places are left, for the first place");
        assert_eq!(counts_of(&s, frame), before, "a message that is refused counts nothing");
        for n in 0..room {
            assert_eq!(share(&mut s, space, FROM, 1, target + n * PAGE), Ok(()));
        }
        assert_eq!(counts_of(&s, frame).mapped(), MAPPED_MAX);
        assert_eq!(share(&mut s, space, FROM, 1, target + room * PAGE), Err(Error::Full));
    }
}

/// A space that has got a page from another can use up half of its mappings, also by moving its
/// view. The other half is for the space where the page was first.
#[test]
fn views_of_a_page_leave_half_of_its_mappings() {
    let mut s = Scene::unchecked(1, 32 << 20);
    let tables = MAPPED_MAX / 512 + 8;
    let [first, greedy] = [(); 2].map(|()| s.w.make(0, ObjType::VSpace, tables));
    let frame = pooled(&mut s, first, FROM, 1);
    let page = |count| PageRange::new(PageMode::Share, FROM, count);
    transfer(&mut s, first, greedy, page(1), FROM).expect("one view");
    let mut places = 1;
    while places + 1 < MAPPED_MAX / 2 {
        let count = places.min(kern_base::limits::MESSAGE_PAGES_MAX).min(MAPPED_MAX / 2 - 1 - places);
        share(&mut s, greedy, FROM, count, FROM + places * PAGE).expect("a view of a view");
        places += count;
    }
    let beyond = FROM + MAPPED_MAX * PAGE;
    assert_eq!(share(&mut s, greedy, FROM, 1, beyond), Err(Error::Full));
    transfer(&mut s, greedy, greedy, PageRange::new(PageMode::Move, FROM, 1), beyond).expect("it may move");
    assert_eq!(share(&mut s, greedy, beyond, 1, beyond + PAGE), Err(Error::Full), "a view it is still");
    assert_eq!(share(&mut s, first, FROM, 1, FROM + PAGE), Ok(()));
    assert_eq!(counts_of(&s, frame).mapped(), MAPPED_MAX / 2 + 1);
}

#[test]
fn a_large_page_in_transit_keeps_its_place() {
    let mut s = Scene::unchecked(2, 32 << 20);
    let (_, server, target) = receiver(&mut s, 1);
    let (busy, _) = s.running(1, 10);
    s.w.does_and_run(&busy, crate::scene::call(target));
    assert!(s.w.runs(1, &server), "the server is busy");
    let (client, _) = s.running(0, 10);
    let space = s.process.vspace;
    let large = s.w.make(0, ObjType::Frame, 21);
    s.w.must(0, Op::Map, &[space.arg(), large.arg(), LARGE, POOL]);
    lists(&client, &[PageRange { large: true, ..PageRange::new(PageMode::Move, LARGE, 1) }]);
    s.w.does_and_run(&client, call(target));
    let entry = |s: &Scene| {
        let cx = s.w.look(0);
        cx.tables()
            .spot::<2>(s.w.object::<VSpace>(space).expect("the space"), LARGE)
            .expect("its entry")
            .load()
    };
    let before = entry(&s);
    assert!(before.is_in_transit(), "the call is queued");
    // Nothing small takes its place: neither a frame's page, nor one that comes with a message, nor
    // a UTCB.
    let small = s.w.make(0, ObjType::Frame, 12);
    assert_eq!(
        s.w.ask(0, Op::Map, &[space.arg(), small.arg(), LARGE + PAGE, 1]).map_err(|(error, _)| error).err(),
        Some(Error::Mapped)
    );
    pooled(&mut s, space, FROM, 1);
    assert_eq!(share(&mut s, space, FROM, 1, LARGE + PAGE), Err(Error::NoRoom));
    let task = s.w.make(0, ObjType::Task, 0);
    assert_eq!(
        s.w.ask(0, Op::TaskConfigure, &[CONTROL, task.arg(), s.process.process.arg(), LARGE + PAGE, 0])
            .map_err(|(error, _)| error)
            .err(),
        Some(Error::Mapped)
    );
    assert_eq!(entry(&s), before);
    s.w.must(1, Op::TaskCancel, &[client.cap.arg()]);
    s.w.run();
    assert!(entry(&s).is_present(), "it is back");
}

/// A frame of many pages is being deleted, which takes several entries. One of its pages is in a
/// pool when the delete reaches it, and leaves the pool then. The capability, which is still there,
/// does not map that page again.
#[test]
fn nothing_maps_a_page_of_a_frame_that_is_ending() {
    let mut s = Scene::unchecked(1, 32 << 20);
    let memory = s.w.make(0, ObjType::Untyped, 21);
    let space = s.w.make(0, ObjType::VSpace, 8);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12 | 200 << 8);
    s.w.must(0, Op::Map, &[space.arg(), frame.arg(), FROM, POOL, 0, 1]);
    let deleter = s.w.start(INIT, 0, 10);
    s.w.does(&deleter, Regs::op(Op::CapDelete, &[at(frame)]));
    assert!(deleter.must_restart(), "it is in the middle");
    s.w.summon(0);
    s.w.must(0, Op::Unmap, &[space.arg(), 0, FROM, 0, 0, 1]);
    let mapped = s.w.ask(0, Op::Map, &[space.arg(), frame.arg(), FROM, 1, 0, 1]);
    assert_eq!(mapped.map_err(|(error, _)| error).err(), Some(Error::Dying));
    s.w.dismiss(0);
    s.w.run();
    assert!(deleter.is_through() && s.w.object::<Frame>(frame).is_none());
    s.w.must(0, Op::UntypedReset, &[memory.arg(), 0]);
    let cx = s.w.look(0);
    let entry = cx
        .tables()
        .spot::<1>(s.w.object::<VSpace>(space).expect("the space"), FROM)
        .expect("its entry")
        .load();
    assert!(!entry.is_present(), "memory that was reset is mapped");
}

/// A space that has a page with another one writes it, and gets a copy. Just before that the other
/// one lets go: the page is in no pool then, and its frame maps it again.
#[test]
fn a_page_whose_last_view_becomes_a_copy_leaves_the_pool() {
    let mut s = Scene::new(2);
    let other = s.w.make(0, ObjType::VSpace, 8);
    let space = s.process.vspace;
    let frame = pooled(&mut s, space, FROM, 1);
    transfer(&mut s, space, other, PageRange::new(PageMode::Copy, FROM, 1), FROM).expect("a shared page");
    let fresh = s.w.make(0, ObjType::Frame, 12);
    let drop = Regs::op(Op::Unmap, &[other.arg(), 0, FROM, 0, 0, 1]);
    let torn = s.w.torn_where(
        0,
        Regs::op(Op::PageCopy, &[space.arg(), fresh.arg(), FROM]),
        |point| point == Point::PageCopying,
        |w| {
            w.begin(1, drop);
            while w.step(1) {}
        },
    );
    assert!(torn);
    s.w.finish(0);
    s.w.finish(1);
    assert!(can_map(&mut s, frame));
}

/// A program that maps several pages learns at which of them the kernel stopped.
#[test]
fn who_maps_pages_is_told_which_has_all_its_mappings() {
    let mut s = Scene::unchecked(1, 32 << 20);
    let space = s.w.make(0, ObjType::VSpace, MAPPED_MAX / 512 + 8);
    let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    let map = |s: &mut Scene, at: u64, first: u64, count: u64| {
        s.w.ask(0, Op::Map, &[space.arg(), frame.arg(), at, 0, first, count]).map(drop)
    };
    for n in 0..MAPPED_MAX {
        assert_eq!(map(&mut s, FROM + n * PAGE, 1, 1), Ok(()));
    }
    let at = FROM + (MAPPED_MAX + 1) * PAGE;
    assert_eq!(map(&mut s, at, 0, 2), Err((Error::Full, at + PAGE)), "the second page is full");
    assert_eq!(map(&mut s, at, 0, 1), Err((Error::Mapped, at)), "the first is mapped");
}

/// A copy waits for a CPU to forget the page that it replaces. Meanwhile the frame's capability
/// goes: the copy comes all the same, and is not left where nobody can use it.
#[test]
fn a_copy_comes_though_its_frames_capability_went() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (space, other) = (s.process.vspace, s.w.make(0, ObjType::VSpace, 8));
    pooled(&mut s, space, FROM, 1);
    transfer(&mut s, space, other, PageRange::new(PageMode::Copy, FROM, 1), FROM).expect("a shared page");
    let fresh = s.w.make(0, ObjType::Frame, 12);
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    let copier = s.w.start(INIT, 0, 10);
    s.w.does(&copier, Regs::op(Op::PageCopy, &[space.arg(), fresh.arg(), FROM]));
    assert!(!copier.is_through(), "it waits for the other CPU");
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::CapDelete, &[at(fresh)]));
    s.w.run();
    s.w.dismiss(0);
    s.w.run();
    assert_eq!(s.w.result(&copier).result().map(|regs| regs.rdi), Ok(1));
    assert!(s.w.touch(1, FROM), "the copy is there");
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(true));
}
