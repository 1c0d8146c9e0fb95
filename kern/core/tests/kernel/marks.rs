//! Operations on pages that wait for shootdowns: they wait for their own shootdowns, and for no
//! others.

use abi::{Cap, Error, MAP_POOL, ObjType, Op, PageMode, PageRange};
use kern_base::limits::{ENTRY_WORK, PAGE_STEPS, POOL_PAGE_WORK};

use crate::scene::Scene;
use crate::world::make::INIT;
use crate::world::{Regs, Tcb};

const PAGE: u64 = abi::PAGE_SIZE;
const FROM: u64 = 0x6000_0000;
/// Pages that others unmap.
const OTHERS: u64 = 0x7000_0000;
/// Into the pool, to be written.
const POOL: u64 = MAP_POOL | 1;

/// A space whose tasks run on CPUs 1 and 2, and a task on CPU 0 that works on its pages.
struct Shared {
    s: Scene,
    space: Cap,
    worker: Tcb,
}

impl Shared {
    fn new() -> Shared {
        let mut s = Scene::new(3);
        let users = [1, 2].map(|n| s.running(n, 10).0);
        let space = s.process.vspace;
        let worker = s.w.start(INIT, 0, 10);
        assert!(users.iter().all(|user| s.w.runs(user.home(), user)) && s.w.runs(0, &worker));
        let mut shared = Shared { s, space, worker };
        shared.pages(OTHERS, 4, POOL);
        shared
    }

    fn pages(&mut self, from: u64, count: u64, how: u64) -> Cap {
        let frame = self.s.w.make(0, ObjType::Frame, 12 | count << 8);
        self.s.w.must(0, Op::Map, &[self.space.arg(), frame.arg(), from, how]);
        assert!((0..count).all(|n| self.s.w.touch(1, from + n * PAGE) && self.s.w.touch(2, from + n * PAGE)));
        frame
    }

    fn worker_does(&mut self, op: Op, args: &[u64]) {
        let worker = self.worker;
        self.s.w.does(&worker, Regs::op(op, args));
    }

    /// Another task on CPU 0 begins a shootdown.
    fn another_begins(&mut self, number: u64) {
        let page = OTHERS + number * PAGE;
        self.s.w.begin(0, Regs::op(Op::Unmap, &[self.space.arg(), 0, page, 0, 0, 1]));
        while self.s.w.step(0) {}
        assert!(!self.s.w.agent(0).is_through(), "the other CPUs have not heard of it");
    }

    /// The other CPUs forget what they are asked to just now, and CPU 0 learns that.
    fn others_forget_once(&mut self) {
        [1, 2].into_iter().for_each(|n| assert!(self.s.w.event(n)));
        while self.s.w.step(0) {}
    }
}

/// While the worker waits, another task on its CPU begins a shootdown, which is not over when the
/// worker's is.
fn ends_with_its_own(
    what: &str,
    prepare: impl FnOnce(&mut Shared) -> (Op, Vec<u64>, Result<(), (Error, u64)>),
) {
    let mut shared = Shared::new();
    let (op, args, expected) = prepare(&mut shared);
    shared.worker_does(op, &args);
    assert!(!shared.worker.is_through(), "{what}: it waits");
    shared.another_begins(0);
    assert!(!shared.worker.is_through(), "{what}: the other CPUs have not heard of it");
    shared.others_forget_once();
    assert!(!shared.s.w.agent(0).is_through(), "{what}: the other one's is not over");
    assert!(shared.worker.is_through(), "{what}: its own is over");
    assert_eq!(shared.s.w.result(&shared.worker).result().map(drop), expected, "{what}");
    shared.s.w.run();
}

#[test]
fn unmapping_from_a_pool_ends_with_its_own_shootdown() {
    ends_with_its_own("unmapped from the pool", |shared| {
        shared.pages(FROM, 1, POOL);
        (Op::Unmap, vec![shared.space.arg(), 0, FROM, 0, 0, 1], Ok(()))
    });
    ends_with_its_own("the second page is not there", |shared| {
        shared.pages(FROM, 1, POOL);
        let args = vec![shared.space.arg(), 0, FROM, 0, 0, 2];
        (Op::Unmap, args, Err((Error::NoPage, FROM + PAGE)))
    });
}

#[test]
fn protecting_pages_of_a_pool_ends_with_its_own_shootdown() {
    ends_with_its_own("to be read only", |shared| {
        shared.pages(FROM, 2, POOL);
        (Op::Protect, vec![shared.space.arg(), 0, FROM, 0, 0, 2], Ok(()))
    });
    ends_with_its_own("to be read only, and one is not there", |shared| {
        shared.pages(FROM, 2, POOL);
        let args = vec![shared.space.arg(), 0, FROM, 0, 0, 3];
        (Op::Protect, args, Err((Error::NoPage, FROM + 2 * PAGE)))
    });
}

#[test]
fn unmapping_a_frame_ends_with_its_own_shootdown() {
    ends_with_its_own("one is not there", |shared| {
        let frame = shared.pages(FROM, 2, 1);
        let space = shared.space.arg();
        shared.s.w.must(0, Op::Unmap, &[space, frame.arg(), FROM + PAGE, 0, 1, 1]);
        let args = vec![space, frame.arg(), FROM, 0, 0, 2];
        (Op::Unmap, args, Err((Error::BadAddress, FROM + PAGE)))
    });
}

/// An error is told when the pages before are forgotten, also those of an entry before.
#[test]
fn an_error_waits_for_the_pages_before_it() {
    for (pool, op) in [(true, Op::Unmap), (true, Op::Protect), (false, Op::Unmap)] {
        let mut shared = Shared::new();
        let one_entry = if pool { PAGE_STEPS.min(ENTRY_WORK / POOL_PAGE_WORK) } else { PAGE_STEPS };
        let space = shared.space.arg();
        let frame = shared.pages(FROM, one_entry + 1, if pool { POOL } else { 1 });
        let last = FROM + one_entry * PAGE;
        let unmap = if pool {
            vec![space, 0, last, 0, 0, 1]
        } else {
            vec![space, frame.arg(), last, 0, one_entry, 1]
        };
        shared.s.w.must(0, Op::Unmap, &unmap);
        // The first entry does all pages but one, the second finds nothing.
        shared.worker_does(op, &[space, if pool { 0 } else { frame.arg() }, FROM, 0, 0, one_entry + 1]);
        while shared.s.w.step(0) {}
        assert!(!shared.worker.is_through(), "{op:?}: the other CPUs have not heard of it");
        shared.another_begins(0);
        shared.others_forget_once();
        let expected = if pool { (Error::NoPage, last) } else { (Error::BadAddress, last) };
        assert_eq!(shared.s.w.result(&shared.worker).result().map(drop), Err(expected));
        shared.s.w.run();
    }
}

/// A task ends its call although it always restarts while another task's next shootdown is under
/// way.
#[test]
fn others_that_keep_beginning_shootdowns_delay_nobody() {
    let mut shared = Shared::new();
    shared.pages(FROM, 130, POOL);
    shared.worker_does(Op::Protect, &[shared.space.arg(), 0, FROM, 0, 0, 131]);
    for number in 0..4 {
        shared.another_begins(number);
        shared.others_forget_once();
        if shared.worker.is_through() {
            let expected = Err((Error::NoPage, FROM + 130 * PAGE));
            assert_eq!(shared.s.w.result(&shared.worker).result().map(drop), expected);
            shared.s.w.run();
            return;
        }
        shared.s.w.finish(0);
    }
    panic!("it has waited for all of them");
}

/// A page that another CPU lends is unmapped meanwhile: that, too, answers when nobody sees the
/// page any more.
#[test]
fn a_page_that_is_lent_is_unmapped_when_nobody_sees_it() {
    let mut shared = Shared::new();
    shared.pages(FROM, 1, POOL);
    let to = shared.s.w.process().vspace;
    let Shared { s, space, .. } = &mut shared;
    let [words, count] = PageRange::new(PageMode::Move, FROM, 1).words();
    s.w.begin(2, Regs::op(Op::PageTransfer, &[space.arg(), to.arg(), words, OTHERS, count]));
    while s.w.step(2) {}
    s.w.begin(0, Regs::op(Op::Unmap, &[space.arg(), 0, FROM, 0, 0, 1]));
    while s.w.step(0) {}
    assert!(s.w.remembered(1, FROM).is_some(), "CPU 1 has not heard of it");
    assert!(!s.w.agent(0).is_through(), "so the page is not unmapped");
    s.w.run();
    assert_eq!(s.w.result(&s.w.agent(0)).error(), None);
    assert!(s.w.remembered(1, FROM).is_none());
}

/// The fourth argument is where a call keeps what it has begun. A call that forges it is answered
/// immediately, or as if it were 0.
#[test]
fn a_mark_that_was_made_up_ends() {
    let mut shared = Shared::new();
    shared.pages(FROM, 1, POOL);
    for made_up in [1, 2 << 48 | 1 << 40, 1 << 61, 1 << 62, 1 << 63 | 1, 3 << 62 | 1, u64::MAX, !0 >> 1] {
        let args = [shared.space.arg(), 0, FROM, made_up, 0, 1];
        let _ = shared.s.w.ask(0, Op::Unmap, &args);
        let _ = shared.s.w.ask(0, Op::Protect, &args);
    }
}
