//! Broadcasts that carry pages: which members get which pages, and when.

use abi::events::{Progress, Window};
use abi::{
    Cap, Error, FLAG_NONBLOCK, FLAG_PAGES, Listening, MEMBER_RIGHTS, ObjType, Op, PAGE_SIZE, PageMode,
    PageRange, Rights,
};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::limits::{BROADCAST_STEPS, ENTRY_WORK, LOAD_WORK, MAPPED_MAX, RANGE_WORK, SHARED_PAGE_WORK};
use smp::chaos::Point;
use smp::host_test;

use crate::broadcast::{Meeting, say, say_from};
use crate::pages::lists;
use crate::world::Regs;
use crate::world::make::{Proc, at};

const FROM: u64 = 0x6000_0000;
const WINDOW: u64 = 0x7000_0000;

/// So many members that listen, each with a window for `places` pages; the sender on CPU `n`, with
/// a pool of `pages`.
fn meeting(cpus: usize, n: usize, members: usize, pages: u64, places: u64) -> Meeting {
    let mut m = Meeting::ears(cpus, n, members);
    let frame = m.w.make(0, ObjType::Frame, 12 | pages << 8);
    m.w.must(0, Op::Map, &[m.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
    m.ears
        .iter()
        .for_each(|ear| ear.reader.offers(Listening::NOT, Window { address: WINDOW, pages: places }));
    m
}

const fn copies(pages: u64) -> PageRange {
    PageRange::new(PageMode::Copy, FROM, pages)
}

/// The sender says something with pages.
fn shows(m: &mut Meeting, ranges: &[PageRange], args: Regs) {
    lists(&m.sender, ranges);
    m.says(args.flag(FLAG_PAGES));
}

/// What came with each of a member's events.
fn came(m: &mut Meeting, ear: usize) -> Vec<(u64, Vec<PageRange>)> {
    let reader = &mut m.ears[ear].reader;
    std::iter::from_fn(|| reader.read_loaded()).map(|(event, _, pages)| (event.regs[0], pages)).collect()
}

/// Whether a page of the pool can be written by saying so: nobody else sees it.
fn may_be_written(m: &mut Meeting, of: Proc, address: u64) -> bool {
    m.w.ask(0, Op::Protect, &[of.vspace.arg(), 0, address, 1, 0, 1]).is_ok()
}

/// What the sender's CPU has of its first page: where it is, and whether it can be written.
fn seen(m: &Meeting, n: usize) -> Option<(u64, bool)> {
    assert!(m.w.touch(n, FROM), "the sender's page");
    m.w.remembered(n, FROM).map(|page| (page.at.0, page.write))
}

#[test]
fn each_member_gets_its_share() {
    // Each of them has a view of each page, and so has the sender.
    let members = 20.min(MAPPED_MAX as usize - 1);
    for (sender_cpu, mode) in [(0, PageMode::Copy), (1, PageMode::Share)] {
        let mut m = meeting(2, sender_cpu, members, 4, 3);
        let before = seen(&m, sender_cpu);
        shows(&mut m, &[PageRange { mode, ..copies(2) }], say(7));
        assert_eq!(m.answer(), Ok(members as u64));
        assert_eq!(m.sender.object.get().utcb(m.sender.pin()).range_count.load(Relaxed), 0);
        let there = PageRange { address: WINDOW, mode, ..copies(2) };
        for ear in 0..members {
            assert_eq!(came(&mut m, ear), [(7, vec![there])], "member {ear}");
            let left = m.ears[ear].reader.left().1;
            assert_eq!(left, Window { address: WINDOW + 2 * PAGE_SIZE, pages: 1 });
        }
        m.w.does_and_run(&m.sender.clone(), Regs::op(Op::Null, &[]));
        assert_eq!(seen(&m, sender_cpu), before.map(|(at, _)| (at, false)), "nobody writes it");
        let (own, first, last) = (m.process, m.ears[0].process, m.ears[members - 1].process);
        for process in [own, first, last] {
            let at = if process.vspace == own.vspace { FROM } else { WINDOW };
            assert!(!may_be_written(&mut m, process, at));
        }
        let frame = m.w.make(0, ObjType::Frame, 12 | 2 << 8);
        let copy = m.w.ask(0, Op::PageCopy, &[first.vspace.arg(), frame.arg(), WINDOW, 0, 0]);
        assert_eq!(copy.is_ok(), mode == PageMode::Copy, "who writes gets a copy");
        // When all others have let go of it, it is the sender's alone.
        for ear in 0..members {
            assert!(!may_be_written(&mut m, own, FROM + PAGE_SIZE));
            let space = m.ears[ear].process.vspace;
            m.w.must(0, Op::Unmap, &[space.arg(), 0, WINDOW, 0, 0, 2]);
        }
        assert!(may_be_written(&mut m, own, FROM) && may_be_written(&mut m, own, FROM + PAGE_SIZE));
    }
}

/// Another CPU of the sender's may write: nobody gets anything before it has forgotten that.
#[test]
fn nothing_comes_before_all_cpus_have_forgotten() {
    for reader_cpu in [0, 2] {
        let mut m = Meeting::new(3, 0, 5);
        for _ in 0..3 {
            m.ear(reader_cpu, Rights::LISTEN);
        }
        let frame = m.w.make(0, ObjType::Frame, 12);
        m.w.must(0, Op::Map, &[m.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
        m.ears.iter().for_each(|ear| {
            ear.reader.offers(Listening::NOT, Window { address: WINDOW, pages: 1 });
        });
        let writer = m.w.start(m.process, 1, 10);
        m.w.run();
        assert!(m.w.runs(1, &writer) && m.w.touch(1, FROM));
        lists(&m.sender, &[copies(1)]);
        let sender = m.sender;
        m.w.does(&sender, say(3).flag(FLAG_PAGES));
        for _ in 0..100 {
            while m.w.step(0) {}
            while m.w.step(2) {}
        }
        assert_eq!(m.w.remembered(1, FROM).map(|page| page.write), Some(true), "CPU 1 has not heard of it");
        assert!(!m.sender.is_through());
        assert!((0..3).all(|ear| came(&mut m, ear).is_empty()), "it could still be written");
        m.w.run();
        assert_eq!(m.answer(), Ok(3));
        assert!((0..3).all(|ear| came(&mut m, ear).len() == 1));
        assert!(m.w.touch(1, FROM));
        assert_eq!(m.w.remembered(1, FROM).map(|page| page.write), Some(false));
    }
}

#[test]
fn a_member_without_room_stops_it() {
    for cpus in [1, 2] {
        let mut m = meeting(cpus, 0, 4, 3, 3);
        if cpus == 2 {
            let other = m.w.start(m.process, 1, 10);
            m.w.run();
            assert!(m.w.runs(1, &other) && m.w.touch(1, FROM));
        }
        m.ears[1].reader.offers(Listening::NOT, Window { address: WINDOW, pages: 2 });
        shows(&mut m, &[copies(3)], say(5));
        assert_eq!(m.answer(), Err((Error::NoRoom, 2, 1)));
        // It begins again there, or behind.
        shows(&mut m, &[copies(3)], say_from(Progress { next: 2, sent: 1 }, 5));
        assert_eq!(m.answer(), Err((Error::NoRoom, 2, 1)), "still");
        shows(&mut m, &[copies(3)], say_from(Progress { next: 3, sent: 1 }, 5));
        assert_eq!(m.answer(), Ok(3));
        let got: Vec<_> = (0..4).map(|ear| came(&mut m, ear).len()).collect();
        assert_eq!(got, [1, 0, 1, 1], "on {cpus} CPUs");
    }
}

#[test]
fn what_cannot_go_is_told_and_stays() {
    for cpus in [1, 2] {
        let mut m = meeting(cpus, 0, 2, 2, 8);
        let other = (cpus == 2).then(|| m.w.start(m.process, 1, 10));
        m.w.run();
        assert!(other.is_none_or(|other| m.w.runs(1, &other) && m.w.touch(1, FROM)));
        let moved = PageRange::new(PageMode::Move, FROM + PAGE_SIZE, 1);
        let refusals = [
            (vec![copies(1), moved], Error::NoPage, FROM + PAGE_SIZE),
            (vec![copies(3)], Error::NoPage, FROM + 2 * PAGE_SIZE),
            (vec![copies(1), copies(1)], Error::NoPage, FROM),
            (
                vec![copies(kern_base::limits::MESSAGE_PAGES_MAX), copies(1)],
                Error::TooLong,
                abi::pages_max(2, false).min(kern_base::limits::MESSAGE_PAGES_MAX),
            ),
        ];
        for (ranges, error, detail) in refusals {
            shows(&mut m, &ranges, say(1));
            assert_eq!(m.w.result(&m.sender).result().map(drop), Err((error, detail)));
            assert!((0..2).all(|ear| came(&mut m, ear).is_empty()));
            m.w.does_and_run(&m.sender.clone(), Regs::op(Op::Null, &[]));
            assert_eq!(seen(&m, 0).map(|(_, write)| write), Some(true), "it is as it was");
        }
        // Neither may who has no MAP.
        let process = m.w.process();
        let group = m.w.make(0, ObjType::Group, 4 | 4 << 16);
        m.w.join(group, process, Cap(5), MEMBER_RIGHTS.minus(Rights::MAP), 0);
        let task = m.w.start(process, 0, 30);
        m.w.does_and_run(&task, say(1).flag(FLAG_PAGES));
        let refused = m.w.result(&task).result().map(drop);
        assert_eq!(refused, Err((Error::NoRight, u64::from(Rights::MAP.0))));
    }
}

#[test]
fn pages_that_nobody_got_are_as_they_were() {
    let mut m = meeting(2, 0, 3, 2, 8);
    let other = m.w.start(m.process, 1, 10);
    m.w.run();
    assert!(m.w.runs(1, &other) && m.w.touch(1, FROM));
    m.fill(0);
    shows(&mut m, &[copies(2)], say(1).flag(FLAG_NONBLOCK));
    assert_eq!(m.answer(), Err((Error::WouldBlock, 1, 0)));
    assert!(m.w.touch(1, FROM));
    assert_eq!(m.w.remembered(1, FROM).map(|page| page.write), Some(true));
    // All leave while it waits for the first: its pages were lent, and nobody has them.
    shows(&mut m, &[copies(2)], say(2));
    assert!(!m.sender.is_through());
    assert!(m.w.touch(1, FROM));
    assert_eq!(m.w.remembered(1, FROM).map(|page| page.write), Some(false), "nobody writes what waits");
    for ear in 0..3 {
        let pool = m.ears[2 - ear].reader.cap;
        m.w.must(0, Op::CapDelete, &[at(pool)]);
    }
    m.w.run();
    assert_eq!(m.answer(), Ok(0));
    assert!(m.w.touch(1, FROM));
    assert_eq!(m.w.remembered(1, FROM).map(|page| page.write), Some(true), "it is as it was");
}

/// A full pool is waited for; what waits has its pages, and the list is there for those behind.
#[test]
fn shares_wait_for_room() {
    for (sender_cpu, reader_cpu) in [(0, 0), (0, 1), (1, 0)] {
        for narrow in [false, true] {
            let mut m = Meeting::new(2, sender_cpu, 6);
            for _ in 0..4 {
                m.ear(reader_cpu, Rights::LISTEN);
            }
            let frame = m.w.make(0, ObjType::Frame, 12 | 2 << 8);
            m.w.must(0, Op::Map, &[m.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
            let window = Window { address: WINDOW, pages: 2 };
            m.ears.iter().for_each(|ear| ear.reader.offers(Listening::NOT, window));
            m.fill(1);
            shows(&mut m, &[copies(2)], say(4));
            assert!(!m.sender.is_through());
            assert_eq!((came(&mut m, 0).len(), came(&mut m, 2).len()), (1, 0));
            if narrow {
                m.ears[1].reader.offers(Listening::NOT, Window { address: 0, pages: 0 });
            }
            m.room(1);
            let case = format!("sender on CPU {sender_cpu}, readers on {reader_cpu}");
            if narrow {
                assert_eq!(m.answer(), Err((Error::NoRoom, 2, 1)), "{case}");
                continue;
            }
            assert_eq!(m.answer(), Ok(4), "{case}");
            let there = PageRange { address: WINDOW, ..copies(2) };
            for ear in 1..4 {
                assert_eq!(came(&mut m, ear), [(4, vec![there])], "{case}");
            }
        }
    }
}

/// One entry shares no more pages than one message may have.
#[test]
fn an_entry_is_bounded() {
    let pages = kern_base::limits::MESSAGE_PAGES_MAX * 2 / 5;
    let mut m = meeting(1, 0, 6, pages, 256);
    lists(&m.sender, &[copies(pages)]);
    let sender = m.sender;
    m.w.does(&sender, say(9).flag(FLAG_PAGES));
    let mut got = 0;
    loop {
        let more: usize = (0..6).map(|ear| came(&mut m, ear).len()).sum();
        assert!(more <= 2, "{more} members in one entry");
        got += more;
        if m.sender.is_through() {
            break;
        }
        assert!(m.w.step(0));
    }
    assert_eq!((m.answer(), got), (Ok(6), 6));
}

/// Another thread of the sender writes another list while an entry shares pages: what the entry
/// does is what it has read, and has counted.
#[test]
fn an_entry_shares_what_it_has_counted() {
    let mut m = Meeting::new(2, 0, 10);
    (0..6).for_each(|_| _ = m.ear(1, Rights::LISTEN));
    let frame = m.w.make(0, ObjType::Frame, 12 | 60 << 8);
    m.w.must(0, Op::Map, &[m.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
    let window = Window { address: WINDOW, pages: 256 };
    m.ears.iter().for_each(|ear| ear.reader.offers(Listening::NOT, window));
    m.ears[0].reader.arm();
    let sender = m.sender;
    lists(&sender, &[copies(1)]);
    let mut is_written = false;
    let mut other_thread = |point| {
        // The first member has its share, and its reader is told.
        if point == Point::BitsRaised {
            lists(&sender, &[copies(60)]);
            is_written = true;
        }
    };
    host_test::at_points(&mut other_thread, || m.w.does(&sender, say(9).flag(FLAG_PAGES)));
    assert!(is_written, "the list was written in the middle");
    // The list says something else before the next entry.
    let served = ENTRY_WORK / (LOAD_WORK + RANGE_WORK + SHARED_PAGE_WORK);
    for ear in 0..served.clamp(1, u64::from(BROADCAST_STEPS)) as usize {
        let shares: Vec<u64> =
            came(&mut m, ear).iter().flat_map(|(_, pages)| pages).map(|range| range.count).collect();
        assert_eq!(shares, [1], "member {ear}");
    }
}

/// Members that go while others have their shares.
#[test]
fn shares_outlive_their_sender() {
    let mut m = meeting(2, 0, 3, 1, 1);
    shows(&mut m, &[copies(1)], say(1));
    assert_eq!(m.answer(), Ok(3));
    for gone in [m.process, m.ears[0].process] {
        m.w.must(0, Op::CapDelete, &[at(gone.process)]);
        m.w.must(0, Op::CapDelete, &[at(gone.vspace)]);
    }
    m.w.run();
    let (second, third) = (m.ears[1].process, m.ears[2].process);
    assert!(!may_be_written(&mut m, second, WINDOW));
    m.w.must(0, Op::Unmap, &[third.vspace.arg(), 0, WINDOW, 0, 0, 1]);
    assert!(may_be_written(&mut m, second, WINDOW), "it is the last that sees it");
}
