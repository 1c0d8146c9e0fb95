//! Pages of pools: their owners, and messages that carry them.

use core::sync::atomic::Ordering::Relaxed;

use abi::{
    Cap, Error, FLAG_CAPS, FLAG_PAGES, MAP_POOL, ObjType, Op, PAGE_SIZE, PageMode, PageRange, RANGES_MAX,
    Target,
};
use smp::chaos::Point;

use crate::scene::Scene;
use crate::world::make::{INIT, Proc, at};
use crate::world::{Regs, Tcb};

pub const FROM: u64 = 0x6000_0000;
pub const WINDOW: u64 = 0x7000_0000;
pub const PAGE: u64 = abi::PAGE_SIZE;
/// Where large pages are.
pub const LARGE: u64 = 0x8000_0000;
/// Into the pool, to be written.
pub const POOL: u64 = MAP_POOL | 1;

/// A frame of so many pages, in the pool of a space.
pub fn pooled(s: &mut Scene, space: Cap, at: u64, pages: u64) -> Cap {
    let frame = s.w.make(0, ObjType::Frame, 12 | pages << 8);
    s.w.must(0, Op::Map, &[space.arg(), frame.arg(), at, POOL]);
    frame
}

pub fn transfer(
    s: &mut Scene,
    from: Cap,
    to: Cap,
    range: PageRange,
    target: u64,
) -> Result<(), (Error, u64)> {
    let [words, count] = range.words();
    s.w.ask(0, Op::PageTransfer, &[from.arg(), to.arg(), words, target, count]).map(|_| ())
}

/// What a task sends with its next message.
pub fn lists(task: &Tcb, ranges: &[PageRange]) {
    let utcb = task.object.get().utcb(task.pin());
    utcb.range_count.store(ranges.len() as u64, Relaxed);
    for (range, words) in ranges.iter().zip(&utcb.ranges) {
        words.iter().zip(range.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}

/// Where pages may arrive.
pub fn opens(task: &Tcb, address: u64, bytes: u64) {
    let [start, length] = &task.object.get().utcb(task.pin()).window;
    start.store(address, Relaxed);
    length.store(bytes, Relaxed);
}

/// What arrived.
pub fn arrived(task: &Tcb) -> Vec<PageRange> {
    let utcb = task.object.get().utcb(task.pin());
    let count = utcb.range_count.load(Relaxed) as usize;
    let words = utcb.ranges[..count].iter().map(|words| [0, 1].map(|n: usize| words[n].load(Relaxed)));
    words.filter_map(PageRange::from_words).collect()
}

/// Maps a page elsewhere: whether its frame's capability can.
pub fn can_map(s: &mut Scene, frame: Cap) -> bool {
    let place = FROM + (1 << 20);
    let mapped = s.w.ask(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), place, 0, 0, 1]).is_ok();
    if mapped {
        s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), place, 0, 0, 1]);
    }
    mapped
}

#[test]
fn a_page_of_a_pool_is_nobody_elses() {
    let mut s = Scene::new(2);
    let space = s.process.vspace;
    let frame = pooled(&mut s, space, FROM, 3);
    assert!(!can_map(&mut s, frame));
    let again = s.w.ask(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), FROM, POOL, 1, 1]);
    assert_eq!(again, Err((Error::InUse, FROM)));
    let by_frame = s.w.ask(0, Op::Unmap, &[space.arg(), frame.arg(), FROM, 0]);
    assert_eq!(by_frame, Err((Error::BadAddress, FROM)), "it is the pool's");
    let executable = s.w.ask(0, Op::Map, &[space.arg(), frame.arg(), FROM, MAP_POOL | 2]);
    assert_eq!(executable, Err((Error::BadArgument, 3)));
    let past = s.w.ask(0, Op::Unmap, &[space.arg(), 0, FROM + PAGE, 0, 0, 3]);
    assert_eq!(past, Err((Error::NoPage, FROM + 3 * PAGE)), "two of three went");
    assert!(!can_map(&mut s, frame), "the first page is in the pool");
    s.w.must(0, Op::Unmap, &[space.arg(), 0, FROM, 0, 0, 1]);
    assert!(can_map(&mut s, frame));
}

#[test]
fn a_pool_has_no_page_that_a_device_may_use() {
    let mut s = Scene::new(2);
    let space = s.process.vspace;
    let frame = pooled(&mut s, space, FROM, 2);
    s.w.must(0, Op::Unmap, &[space.arg(), 0, FROM, 0, 0, 1]);
    let pin = [frame.arg(), abi::INIT_MACHINE.arg()];
    assert_eq!(
        s.w.ask(0, Op::FramePin, &pin).map(|_| ()),
        Err((Error::InUse, 0)),
        "its second page is in the pool"
    );
    s.w.must(0, Op::Unmap, &[space.arg(), 0, FROM + PAGE, 0, 0, 1]);
    s.w.must(0, Op::FramePin, &pin);
    let pooled = s.w.ask(0, Op::Map, &[space.arg(), frame.arg(), FROM, POOL]);
    assert_eq!(pooled, Err((Error::InUse, FROM)));
    s.w.must(0, Op::FrameUnpin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
    s.w.must(0, Op::Map, &[space.arg(), frame.arg(), FROM, POOL]);
}

#[test]
fn what_was_in_a_pool_is_cleared() {
    let mut s = Scene::new(2);
    let space = s.process.vspace;
    let frame = pooled(&mut s, space, FROM, 1);
    let Some(object) = s.w.object::<kern_base::memory::Frame>(frame) else { panic!("no frame") };
    let page = object.get().base().0;
    smp::host_test::fill(page, 0x5a, 4096);
    s.w.must(0, Op::Unmap, &[space.arg(), 0, FROM, 0, 0, 1]);
    assert!(can_map(&mut s, frame));
    assert!(smp::host_test::bytes(page, 4096).iter().all(|byte| *byte == 0));
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "moves 64 pages")]
fn pages_move_from_space_to_space() {
    let mut s = Scene::new(2);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    let frame = pooled(&mut s, a, FROM, 64);
    let move_all = PageRange::new(PageMode::Move, FROM, 64);
    assert_eq!(transfer(&mut s, a, b, move_all, WINDOW), Ok(()));
    assert_eq!(transfer(&mut s, a, b, move_all, WINDOW + (1 << 20)), Err((Error::NoPage, FROM)));
    let back = PageRange::new(PageMode::Move, WINDOW + 60 * PAGE, 5);
    assert_eq!(transfer(&mut s, b, a, back, FROM), Err((Error::NoPage, WINDOW + 64 * PAGE)), "all or none");
    assert_eq!(transfer(&mut s, b, a, PageRange { count: 4, ..back }, FROM), Ok(()));
    let taken = PageRange::new(PageMode::Move, FROM, 1);
    assert_eq!(transfer(&mut s, a, b, taken, WINDOW), Err((Error::NoRoom, WINDOW)), "a page is there");
    assert_eq!(transfer(&mut s, a, b, taken, WINDOW + 60 * PAGE), Ok(()), "this one went");
    s.delete(frame);
    assert_eq!(
        transfer(&mut s, b, a, taken_at(WINDOW), FROM),
        Ok(()),
        "pools keep what their frame does not"
    );
}

fn taken_at(address: u64) -> PageRange {
    PageRange::new(PageMode::Move, address, 1)
}

#[test]
fn nobody_sees_a_page_that_has_moved() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 4);
    assert!(s.w.runs(1, &user) && (0..4).all(|n| s.w.touch(1, FROM + n * PAGE)));
    s.w.summon(0);
    let [words, count] = PageRange::new(PageMode::Move, FROM, 4).words();
    s.w.issue(0, Regs::op(Op::PageTransfer, &[a.arg(), b.arg(), words, WINDOW, count]));
    while s.w.step(0) {}
    assert!(s.w.remembered(1, FROM).is_some(), "CPU 1 has not heard of it");
    assert!(!s.w.agent(0).is_through(), "so the pages have not gone");
    // Meanwhile nobody sends them elsewhere.
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::PageTransfer, &[a.arg(), b.arg(), words, WINDOW + (1 << 20), count]));
    while s.w.step(2) {}
    assert!(!s.w.agent(2).is_through());
    s.w.run();
    let results = [0, 2].map(|n| s.w.result(&s.w.agent(n)).result().map(|_| ()));
    assert!(results.contains(&Ok(())) && results.contains(&Err((Error::NoPage, FROM))), "{results:?}");
    assert!((0..4).all(|n| !s.w.touch(1, FROM + n * PAGE)));
}

/// A page on its way out comes back by Protect, read-only, or has gone: when that answers, no CPU
/// goes by what the page allowed before.
#[test]
fn a_page_that_is_called_back_read_only_is_so_everywhere() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    s.w.summon(0);
    let [words, count] = PageRange::new(PageMode::Move, FROM, 1).words();
    s.w.issue(0, Regs::op(Op::PageTransfer, &[a.arg(), b.arg(), words, WINDOW, count]));
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::Protect, &[a.arg(), 0, FROM, 0, 0, 1]));
    while s.w.step(2) {}
    let writes = s.w.remembered(1, FROM).is_some_and(|page| page.write);
    assert!(!(writes && s.w.agent(2).is_through()), "CPU 1 has not heard of it");
    s.w.run();
    let [moved, back] = [0, 2].map(|n| s.w.result(&s.w.agent(n)).result().map(|_| ()));
    assert_eq!(moved, Ok(()));
    assert!(matches!(back, Ok(()) | Err((Error::NoPage, FROM))), "{back:?}");
}

#[test]
fn a_transfer_whose_target_goes_leaves_the_pages() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    let copied = s.w.slot();
    s.w.must(0, Op::CapCopy, &[b.arg(), at(copied), u64::from(abi::Rights::ALL.0), 0]);
    pooled(&mut s, a, FROM, 2);
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    s.w.summon(0);
    let [words, count] = PageRange::new(PageMode::Move, FROM, 2).words();
    s.w.issue(0, Regs::op(Op::PageTransfer, &[a.arg(), copied.arg(), words, WINDOW, count]));
    while s.w.step(0) {}
    assert!(!s.w.agent(0).is_through(), "it waits for CPU 1");
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::CapDelete, &[at(copied)]));
    while s.w.step(2) {}
    s.w.run();
    let refused = s.w.result(&s.w.agent(0)).result().map(|_| ());
    assert!(matches!(refused, Err((Error::NoCapability, _))), "{refused:?}");
    assert!(s.w.runs(1, &user) && (0..2).all(|n| s.w.touch(1, FROM + n * PAGE)));
}

#[test]
fn pages_wait_for_what_another_space_did_to_them() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let (a, alone) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    let page = PageRange::new(PageMode::Copy, FROM, 1);
    assert_eq!(transfer(&mut s, a, alone, page, WINDOW), Ok(()));
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    // CPU 1 must flush the page, and has not received the request.
    s.w.summon(0);
    let [words, count] = taken_at(FROM).words();
    s.w.issue(0, Regs::op(Op::PageTransfer, &[a.arg(), a.arg(), words, WINDOW, count]));
    while s.w.step(0) {}
    s.w.summon(2);
    let [words, count] = taken_at(WINDOW).words();
    s.w.issue(2, Regs::op(Op::PageTransfer, &[alone.arg(), alone.arg(), words, FROM, count]));
    while s.w.step(2) {}
    s.w.run();
    for n in [0, 2] {
        assert_eq!(s.w.result(&s.w.agent(n)).result().map(|_| ()), Ok(()), "on CPU {n}");
    }
}

#[test]
fn shared_pages_are_written_by_nobody() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    let frame = pooled(&mut s, a, FROM, 2);
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Share, FROM, 2), WINDOW), Ok(()));
    assert!(s.w.touch(1, FROM));
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(false));
    for (space, at) in [(a, FROM), (b, WINDOW)] {
        let refused = s.w.ask(0, Op::Protect, &[space.arg(), 0, at, 1, 0, 2]);
        assert_eq!(refused, Err((Error::InUse, at)));
    }
    let untouched = PageRange::new(PageMode::Copy, FROM, 1);
    let copy = s.w.make(0, ObjType::Frame, 12);
    assert_eq!(transfer(&mut s, a, b, untouched, WINDOW + (1 << 20)), Ok(()), "once more, to be copied");
    let read_only = s.w.ask(0, Op::PageCopy, &[b.arg(), copy.arg(), WINDOW]);
    assert_eq!(read_only, Err((Error::NoPage, WINDOW)), "this is a view");
    s.w.must(0, Op::Unmap, &[b.arg(), 0, WINDOW + (1 << 20), 0, 0, 1]);
    s.w.must(0, Op::Unmap, &[b.arg(), 0, WINDOW, 0, 0, 2]);
    s.w.must(0, Op::Protect, &[a.arg(), 0, FROM, 1, 0, 2]);
    assert!(s.w.touch(1, FROM));
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(true));
    s.w.must(0, Op::Unmap, &[a.arg(), 0, FROM, 0, 0, 2]);
    assert!(can_map(&mut s, frame));
}

#[test]
fn a_page_that_did_not_go_is_as_it_was() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 2);
    pooled(&mut s, b, WINDOW + PAGE, 1);
    assert!(s.w.runs(1, &user));
    let fails = |s: &mut Scene, mode, written| {
        let refused = transfer(s, a, b, PageRange::new(mode, FROM, 2), WINDOW);
        assert_eq!(refused, Err((Error::NoRoom, WINDOW + PAGE)));
        for at in [FROM, FROM + PAGE] {
            assert!(s.w.touch(1, at));
            assert_eq!(s.w.remembered(1, at).map(|page| page.write), Some(written), "{mode:?}");
        }
    };
    PageMode::ALL.iter().for_each(|mode| fails(&mut s, *mode, true));
    // Somebody saw them, and does no more; or it is said that nobody is to write them.
    for seen in [true, false] {
        if seen {
            let place = WINDOW + (1 << 20);
            assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Share, FROM, 2), place), Ok(()));
            s.w.must(0, Op::Unmap, &[b.arg(), 0, place, 0, 0, 2]);
        } else {
            s.w.must(0, Op::Protect, &[a.arg(), 0, FROM, 1, 0, 2]);
            s.w.must(0, Op::Protect, &[a.arg(), 0, FROM, 0, 0, 2]);
        }
        PageMode::ALL.iter().for_each(|mode| fails(&mut s, *mode, false));
    }
}

#[test]
fn a_page_that_did_not_go_can_be_written_by_who_saw_it_lent() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    pooled(&mut s, b, WINDOW, 1);
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    s.w.summon(0);
    let [words, count] = PageRange::new(PageMode::Share, FROM, 1).words();
    s.w.issue(0, Regs::op(Op::PageTransfer, &[a.arg(), b.arg(), words, WINDOW, count]));
    while s.w.step(0) {}
    while s.w.step(1) {}
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(false), "it is lent");
    s.w.run();
    assert_eq!(s.w.result(&s.w.agent(0)).error(), Some(Error::NoRoom));
    assert!(s.w.touch(1, FROM));
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(true));
}

#[test]
fn who_writes_a_shared_page_gets_a_copy() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Copy, FROM, 1), WINDOW), Ok(()));
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    let old = s.w.remembered(1, FROM).map(|page| page.at);
    let copy = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    assert_eq!(s.w.must(0, Op::PageCopy, &[a.arg(), copy.arg(), FROM, 0, 1]).rdi, 1);
    assert!(s.w.touch(1, FROM));
    let Some(new) = s.w.remembered(1, FROM) else { panic!("nothing is there") };
    assert!(new.write && Some(new.at) != old, "it is another page");
    assert_eq!(s.w.must(0, Op::PageCopy, &[b.arg(), copy.arg(), WINDOW, 0, 0]).rdi, 0, "alone by now");
    let done = s.w.ask(0, Op::PageCopy, &[b.arg(), copy.arg(), WINDOW, 0, 0]);
    assert_eq!(done, Err((Error::NoPage, WINDOW)));
    assert!(can_map(&mut s, copy), "page 0 of the frame was not used");
    let place = WINDOW + (1 << 20);
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Copy, FROM, 1), place), Ok(()));
    let itself = s.w.ask(0, Op::PageCopy, &[a.arg(), copy.arg(), FROM, 0, 1]).map(|_| ());
    assert_eq!(itself, Err((Error::InUse, FROM)), "a page is not its own copy");
    let beside = FROM + (1 << 12);
    let nothing = s.w.ask(0, Op::PageCopy, &[a.arg(), copy.arg(), beside, 0, 0]).map(|_| ());
    assert_eq!(nothing, Err((Error::NoPage, beside)), "nothing is there, in a table that is");
}

/// Its page is nowhere for a moment, although a pool counts it.
#[test]
fn a_revoke_finds_a_copy_that_is_just_being_made() {
    let mut s = Scene::new(2);
    let (a, b) = (INIT.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Copy, FROM, 1), WINDOW), Ok(()));
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let copy = s.w.make_of(0, memory, ObjType::Frame, 12);
    let revoke = Regs::op(Op::CapRevoke, &[at(memory)]);
    (0..2).for_each(|n| s.w.summon(n));
    let of_page = Regs::op(Op::PageCopy, &[a.arg(), copy.arg(), FROM]);
    assert!(s.w.torn_where(0, of_page, |point| point == Point::PageCopying, |w| w.issue(1, revoke)));
    s.w.run();
    assert_eq!(s.w.result(&s.w.agent(1)).error(), None);
    let arrived = s.w.ask(0, Op::Protect, &[a.arg(), 0, FROM, 1, 0, 1]).map(|_| ());
    assert_eq!(arrived, Err((Error::NoPage, FROM)), "its memory is gone");
}

#[test]
fn whoever_is_left_alone_needs_no_copy() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let (a, b) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, a, FROM, 1);
    assert_eq!(transfer(&mut s, a, b, PageRange::new(PageMode::Copy, FROM, 1), WINDOW), Ok(()));
    assert!(s.w.runs(1, &user) && s.w.touch(1, FROM));
    s.w.must(0, Op::Unmap, &[b.arg(), 0, WINDOW, 0, 0, 1]);
    let copy = s.w.make(0, ObjType::Frame, 12);
    // CPU 1 remembers that it can't be written, so this waits.
    assert_eq!(s.w.must(0, Op::PageCopy, &[a.arg(), copy.arg(), FROM]).rdi, 0);
    assert!(s.w.touch(1, FROM));
    assert_eq!(s.w.remembered(1, FROM).map(|page| page.write), Some(true));
    assert!(can_map(&mut s, copy));
}

/// A process with a task that receives on CPU `n`, and where it does.
pub fn receiver(s: &mut Scene, n: usize) -> (Proc, Tcb, Target) {
    let process = s.w.process();
    let group = s.group;
    s.w.join_all(group, process, crate::scene::GROUP);
    let task = s.w.start(process, n, 10);
    s.w.run();
    let index = 10 + n as u32;
    s.w.expose(group, index, task.cap);
    opens(&task, WINDOW, 1 << 20);
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    (process, task, Target::new(crate::scene::GROUP, index))
}

pub fn call(target: Target) -> Regs {
    crate::scene::call(target).flag(FLAG_PAGES)
}

#[test]
fn pages_come_with_calls_and_replies() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (_, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let space = s.process.vspace;
        pooled(&mut s, space, FROM, 4);
        lists(
            &client,
            &[PageRange::new(PageMode::Move, FROM, 2), PageRange::new(PageMode::Share, FROM + 2 * PAGE, 2)],
        );
        opens(&client, FROM + (1 << 20), 1 << 20);
        s.w.run();
        s.w.does_and_run(&client, call(target));
        let got = s.w.result(&server);
        assert!(got.info().has(FLAG_PAGES) && got.msg() == [1, 2, 3, 4], "{got:?}");
        let moved = PageRange::new(PageMode::Move, WINDOW, 2);
        let shared = PageRange::new(PageMode::Share, WINDOW + 2 * PAGE, 2);
        assert_eq!(arrived(&server), [moved, shared]);
        assert!(arrived(&client).is_empty(), "they have gone");
        assert!(s.w.runs(server_cpu, &server) && (0..4).all(|n| s.w.touch(server_cpu, WINDOW + n * PAGE)));
        lists(&server, &[moved]);
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [5; 4]).flag(FLAG_PAGES));
        let back = s.w.result(&client);
        assert!(back.error().is_none() && back.info().has(FLAG_PAGES), "{back:?}");
        assert_eq!(arrived(&client), [PageRange::new(PageMode::Move, FROM + (1 << 20), 2)]);
        assert!(s.w.runs(0, &client) && s.w.touch(0, FROM + (1 << 20)) && !s.w.touch(0, FROM));
    }
}

#[test]
fn pages_that_another_cpu_has_seen_come_too() {
    let mut s = Scene::new(2);
    let (_, server, target) = receiver(&mut s, 0);
    let [(client, _), (other, _)] = [0, 1].map(|n| s.running(n, 10));
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, 2);
    s.w.run();
    assert!(s.w.runs(1, &other) && s.w.touch(1, FROM));
    for mode in [PageMode::Share, PageMode::Move] {
        lists(&client, &[PageRange::new(mode, FROM, 2)]);
        opens(&server, WINDOW + 4 * PAGE * mode as u64, 2 * PAGE);
        s.w.does_and_run(&client, call(target));
        assert_eq!(arrived(&server), [PageRange::new(mode, WINDOW + 4 * PAGE * mode as u64, 2)]);
        assert!(s.w.runs(0, &server) && s.w.touch(0, WINDOW + 4 * PAGE * mode as u64));
        assert_eq!(s.w.touch(1, FROM), mode == PageMode::Share);
        s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
        assert!(s.w.runs(0, &client));
    }
}

#[test]
fn a_queued_call_has_its_pages_in_transit() {
    let mut s = Scene::new(3);
    let (_, server, target) = receiver(&mut s, 1);
    let [(client, _), (other, _)] = [0, 2].map(|n| s.running(n, 10));
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, 2);
    assert!(s.w.runs(2, &other) && s.w.touch(2, FROM));
    // The server is busy with another call.
    let (busy, _) = s.running(1, 10);
    s.w.does_and_run(&busy, crate::scene::call(target));
    assert!(s.w.runs(1, &server));
    lists(&client, &[PageRange::new(PageMode::Move, FROM, 1)]);
    s.w.does_and_run(&client, call(target));
    assert!(!s.w.touch(2, FROM), "nobody has it while it is under way");
    s.w.must(2, Op::TaskCancel, &[client.cap.arg()]);
    s.w.run();
    assert_eq!(s.w.result(&client).error(), Some(Error::Cancelled));
    assert!(s.w.runs(2, &other) && s.w.touch(2, FROM), "it is back");
    lists(&client, &[PageRange::new(PageMode::Move, FROM, 1)]);
    s.w.does_and_run(&client, call(target));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    assert_eq!(arrived(&server), [PageRange::new(PageMode::Move, WINDOW, 1)]);
    s.kill(&client);
    if s.w.runs(1, &busy) {
        s.w.does_and_run(&busy, Regs::op(Op::Recv, &[]));
    }
    assert!(s.w.runs(1, &server) && s.w.touch(1, WINDOW), "what came stays");
}

#[test]
fn a_page_that_was_lent_twice_does_not_go_too_early() {
    let mut s = Scene::new(4);
    let (_, server, target) = receiver(&mut s, 1);
    let [(client, _), (other, _)] = [0, 2].map(|n| s.running(n, 10));
    let (space, elsewhere) = (s.process.vspace, s.w.process().vspace);
    pooled(&mut s, space, FROM, 1);
    let (busy, _) = s.running(1, 10);
    s.w.does_and_run(&busy, crate::scene::call(target));
    let page = PageRange::new(PageMode::Move, FROM, 1);
    lists(&client, &[page]);
    s.w.does_and_run(&client, call(target));
    // While the call is queued, somebody brings the page back, uses it, and begins to send it
    // elsewhere.
    s.w.must(3, Op::Protect, &[space.arg(), 0, FROM, 1, 0, 1]);
    assert!(s.w.runs(2, &other) && s.w.touch(2, FROM));
    s.w.summon(3);
    let [words, count] = page.words();
    s.w.issue(3, Regs::op(Op::PageTransfer, &[space.arg(), elsewhere.arg(), words, WINDOW, count]));
    while s.w.step(3) {}
    assert!(s.w.remembered(2, FROM).is_some() && !s.w.agent(3).is_through(), "CPU 2 has not heard of it");
    // Now the call is received. The check after the entry watches that the page is not delivered
    // yet.
    s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    s.w.run();
    if s.w.runs(1, &busy) {
        s.w.does_and_run(&busy, Regs::op(Op::Recv, &[]));
    }
    assert!(s.w.runs(1, &server) && s.w.touch(1, WINDOW), "it was called again, and the page came");
    assert_eq!(s.w.result(&s.w.agent(3)).result().map(|_| ()), Err((Error::NoPage, FROM)));
}

#[test]
fn a_replier_who_loses_its_caller_keeps_its_pages() {
    for receives in [false, true] {
        let mut s = Scene::new(3);
        let (there, server, target) = receiver(&mut s, 0);
        let (client, _) = s.running(2, 10);
        let other = s.w.start(there, 1, 10);
        pooled(&mut s, there.vspace, FROM, 1);
        opens(&client, WINDOW, 1 << 20);
        s.w.run();
        assert!(s.w.runs(1, &other) && s.w.touch(1, FROM));
        s.w.does_and_run(&client, crate::scene::call(target));
        assert!(s.w.runs(0, &server));
        lists(&server, &[PageRange::new(PageMode::Move, FROM, 1)]);
        let op = if receives { Op::ReplyRecv } else { Op::Reply };
        s.w.does(&server, Regs::message(op, Target(0), [0; 4]).flag(FLAG_PAGES));
        while s.w.step(0) {}
        assert!(!server.is_through() && s.w.remembered(1, FROM).is_some(), "CPU 1 has not forgotten it");
        s.w.summon(2);
        s.w.issue(2, Regs::op(Op::TaskCancel, &[client.cap.arg()]));
        while s.w.step(2) || s.w.step(0) {}
        assert_eq!(s.w.result(&client).error(), Some(Error::Cancelled));
        s.w.run();
        if receives {
            assert!(!server.is_through(), "it waits for the next call");
        } else {
            assert_eq!(s.w.result(&server).error(), Some(Error::Gone));
        }
        assert!(s.w.runs(1, &other) && s.w.touch(1, FROM), "the page is not on its way any more");
    }
}

/// A place of the window that was emptied a moment ago, and that some CPU still remembers, is no
/// reason to refuse.
#[test]
fn pages_wait_for_a_place_that_is_being_forgotten() {
    for (client_cpu, server_cpu, queued) in
        [(0, 0, false), (0, 0, true), (0, 1, false), (0, 1, true), (1, 0, true)]
    {
        let mut s = Scene::new(4);
        let (there, server, target) = receiver(&mut s, server_cpu);
        let witness = s.w.start(there, 2, 10);
        let space = s.process.vspace;
        pooled(&mut s, space, FROM, 1);
        pooled(&mut s, there.vspace, WINDOW, 1);
        s.w.run();
        if queued {
            let (busy, _) = s.running(server_cpu, 20);
            s.w.does_and_run(&busy, crate::scene::call(target));
        }
        let (client, _) = s.running(client_cpu, 30);
        assert!(s.w.runs(2, &witness) && s.w.touch(2, WINDOW));
        s.w.summon(3);
        s.w.issue(3, Regs::op(Op::Unmap, &[there.vspace.arg(), 0, WINDOW, 0, 0, 1]));
        while s.w.step(3) {}
        assert!(s.w.remembered(2, WINDOW).is_some() && !s.w.agent(3).is_through());
        let others = |w: &mut crate::world::World| {
            for _ in 0..20 {
                for n in [0, 1, 3] {
                    w.step(n);
                }
            }
        };
        lists(&client, &[PageRange::new(PageMode::Move, FROM, 1)]);
        s.w.does(&client, call(target));
        others(&mut s.w);
        if queued {
            s.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
            others(&mut s.w);
        }
        assert!(!client.is_through(), "it is not refused");
        s.w.run();
        assert_eq!(arrived(&server), [PageRange::new(PageMode::Move, WINDOW, 1)]);
        assert!(!client.is_through(), "it waits for the answer");
    }
}

/// A receiver with a deadline that is resumed, and finds only calls for which it has no room, still
/// waits no longer.
#[test]
fn a_receiver_without_room_keeps_its_deadline() {
    let mut s = Scene::new(2);
    let (_, server, target) = receiver(&mut s, 0);
    let (client, _) = s.running(1, 10);
    s.w.does_and_run(&client, crate::scene::call(target));
    let soon = s.w.now() + 1000;
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]).deadline(soon));
    opens(&server, WINDOW, 0);
    s.w.must(0, Op::TaskSuspend, &[server.cap.arg()]);
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, 1);
    lists(&client, &[PageRange::new(PageMode::Move, FROM, 1)]);
    s.w.does_and_run(&client, call(target));
    assert!(!client.is_through());
    s.w.must(0, Op::TaskResume, &[server.cap.arg()]);
    s.w.run();
    assert_eq!(s.w.result(&client).error(), Some(Error::NoRoom));
    assert!(!server.is_through());
    s.w.wait_until(soon + 1);
    s.w.run();
    assert_eq!(s.w.result(&server).error(), Some(Error::Timeout));
}

#[test]
fn a_killed_caller_leaves_its_pages_to_its_process() {
    let mut s = Scene::new(2);
    let (_, server, target) = receiver(&mut s, 1);
    let (client, _) = s.running(0, 10);
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, 1);
    let (busy, _) = s.running(1, 10);
    s.w.does_and_run(&busy, crate::scene::call(target));
    lists(&client, &[PageRange::new(PageMode::Move, FROM, 1)]);
    s.w.run();
    s.w.does_and_run(&client, call(target));
    s.kill(&client);
    let (heir, _) = s.running(0, 10);
    assert!(s.w.runs(0, &heir) && s.w.touch(0, FROM));
    s.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), [0; 4]));
    assert!(!server.is_through(), "nothing comes");
}

#[test]
fn pages_that_find_no_room_stay() {
    for server_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (there, server, target) = receiver(&mut s, server_cpu);
        let (client, _) = s.running(0, 10);
        let space = s.process.vspace;
        pooled(&mut s, space, FROM, 3);
        s.w.run();
        let range = PageRange::new(PageMode::Move, FROM, 3);
        let too_small = [(WINDOW, 2 * PAGE), (u64::MAX - PAGE, PAGE), (WINDOW | 1, 3 * PAGE)];
        let none = [(0, 1 << 20, 0)];
        for (address, bytes, detail) in
            too_small.map(|(at, bytes)| (at, bytes, 3 * PAGE)).into_iter().chain(none)
        {
            opens(&server, address, bytes);
            lists(&client, &[range]);
            s.w.does_and_run(&client, call(target));
            let refused = s.w.result(&client).result().map(|_| ());
            assert_eq!(refused, Err((Error::NoRoom, detail)), "window {address:#x}, {bytes}");
            assert!(s.w.runs(0, &client) && s.w.touch(0, FROM), "it has its pages");
            assert!(!server.is_through(), "the server hears nothing");
        }
        opens(&server, WINDOW, 1 << 20);
        pooled(&mut s, there.vspace, WINDOW + 2 * PAGE, 1);
        lists(&client, &[range]);
        s.w.does_and_run(&client, call(target));
        let refused = s.w.result(&client).result().map(|_| ());
        assert_eq!(refused, Err((Error::NoRoom, WINDOW + 2 * PAGE)), "a page is there");
        let twice = [range, PageRange::new(PageMode::Share, FROM + PAGE, 1)];
        opens(&server, WINDOW + (1 << 20), 1 << 20);
        lists(&client, &twice);
        s.w.does_and_run(&client, call(target));
        let refused = s.w.result(&client).error();
        assert_eq!(refused, Some(Error::NoPage), "a page goes once");
        assert!(s.w.runs(0, &client) && s.w.touch(0, FROM + PAGE));
    }
}

#[test]
fn a_view_outlives_its_source_and_not_its_memory() {
    let mut s = Scene::new(2);
    let memory = s.w.make(0, ObjType::Untyped, 19);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12 | 4 << 8);
    let source = s.w.process();
    let (_, server, _) = receiver(&mut s, 1);
    let there =
        s.w.object::<kern_base::task::Task>(server.cap).and_then(|task| task.get().space(server.pin()));
    assert!(there.is_some());
    s.w.must(0, Op::Map, &[source.vspace.arg(), frame.arg(), FROM, POOL]);
    let (reader, target) = s.running(1, 10);
    let _ = target;
    let view = PageRange::new(PageMode::Share, FROM, 4);
    let space = s.process.vspace;
    assert_eq!(transfer(&mut s, source.vspace, space, view, WINDOW), Ok(()));
    for cap in [source.process, source.vspace, source.cnode, frame] {
        s.delete(cap);
    }
    assert!(s.w.runs(1, &reader) && (0..4).all(|n| s.w.touch(1, WINDOW + n * PAGE)), "its source is gone");
    s.w.must(0, Op::CapRevoke, &[at(memory)]);
    s.w.run();
    assert!((0..4).all(|n| !s.w.touch(1, WINDOW + n * PAGE)), "its memory is gone");
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12 | 4 << 8);
    assert!(can_map(&mut s, frame));
}

#[test]
fn a_space_that_ends_gives_its_pool_back() {
    let mut s = Scene::new(2);
    let other = s.w.process();
    let frame = pooled(&mut s, other.vspace, FROM, 2);
    assert_eq!(
        transfer(&mut s, other.vspace, INIT.vspace, PageRange::new(PageMode::Share, FROM, 1), WINDOW),
        Ok(())
    );
    s.delete(other.process);
    s.delete(other.vspace);
    assert!(!can_map(&mut s, frame), "process 1 sees the first page");
    s.w.must(0, Op::Protect, &[INIT.vspace.arg(), 0, WINDOW, 1, 0, 1]);
    s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), 0, WINDOW, 0, 0, 1]);
    assert!(can_map(&mut s, frame));
}

/// The more ranges a message has, the fewer pages fit, and fewer still with capabilities. The
/// refusal says how many.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "a message can have 4 pages, in whatever ranges")]
fn ranges_and_capabilities_leave_room_for_fewer_pages() {
    for (count, caps) in (1..=RANGES_MAX).flat_map(|count| [(count, false), (count, true)]) {
        if abi::pages_max(count, caps) < count as u64 {
            continue;
        }
        let mut s = Scene::unchecked(1, 32 << 20);
        let (server, to_server) = s.server(0, 10);
        let (caller, _) = s.running(0, 10);
        let space = s.process.vspace;
        pooled(&mut s, space, FROM, 65);
        opens(&server, WINDOW, 65 * PAGE_SIZE);
        let most = abi::pages_max(count, caps);
        for pages in [most + 1, most] {
            let mut ranges: Vec<PageRange> =
                (1..count as u64).map(|n| page(FROM + n * PAGE_SIZE - PAGE_SIZE)).collect();
            let rest = pages + 1 - count as u64;
            ranges.push(PageRange::new(PageMode::Share, FROM + (count as u64 - 1) * PAGE_SIZE, rest));
            lists(&caller, &ranges);
            let flags = FLAG_PAGES | if caps { FLAG_CAPS } else { 0 };
            s.w.does_and_run(&caller, Regs::op(Op::Call, &[to_server.0]).flag(flags));
            if pages > most {
                assert_eq!(
                    s.w.result(&caller).result().map(drop),
                    Err((Error::TooLong, most)),
                    "{count} {caps}"
                );
            }
        }
        assert_eq!(arrived(&server).len(), count, "{count} ranges, capabilities: {caps}");
    }
}

fn page(at: u64) -> PageRange {
    PageRange::new(PageMode::Share, at, 1)
}
