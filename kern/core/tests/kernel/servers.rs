//! Servers and hostile clients: what a client does after its call neither restarts its server's
//! reply nor makes it fail. The client's message goes without its payload.

use std::cell::Cell;

use abi::audit::may;
use abi::events::Window;
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_LISTEN, FLAG_NONBLOCK, FLAG_PAGES, FLAG_UNTAKEN, Fate, Grant, Listening,
};
use abi::{ObjType, Op, PageMode, PageRange, Rights, Target};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::limits::MESSAGE_PAGES_MAX;
use kern_base::task::State;
use smp::host_test;

use crate::events::{receiver as reader, send};
use crate::grants::{MINE, OFFER, arrived, came, copy, fates, holds, listens, lists, not, owned};
use crate::labels::{SECRET, SUBJECT, rule, set};
use crate::page_ends::shared_often;
use crate::pages::{FROM, PAGE, POOL, WINDOW, lists as lists_pages, opens, pooled, transfer};
use crate::scene::{GROUP, Scene, call};
use crate::world::gate::Why;
use crate::world::make::{Proc, at};
use crate::world::{Regs, Tcb, World};

/// The server's other slot, with the only capability of a Reply.
const OTHER: Cap = Cap(21);
/// Entries of a reply that may wait for its own pages, and the one that ends it.
const ENTRIES: usize = 2 * abi::RANGES_MAX + 1;
/// Memory of a scene that is made very often.
const MEMORY: u64 = 4 << 20;
const WORDS: [u64; 4] = [9; 4];

/// A server that serves the call of a client of another process, on another CPU.
struct Served {
    s: Scene,
    server: Tcb,
    to_server: Target,
    its: Proc,
    client: Tcb,
    note: Cap,
}

impl Served {
    /// The scene in which the client has not called yet. It listens at two slots, and opens a
    /// window.
    fn before() -> Served {
        Served::in_scene(Scene::new(3))
    }

    fn in_scene(mut s: Scene) -> Served {
        // A grace period has to interrupt this task.
        s.somebody(2, 5);
        s.w.run();
        let (server, to_server) = s.server(0, 10);
        let its = s.w.process();
        let group = s.group;
        s.w.join(group, its, GROUP, Rights::SEND, 0);
        let client = s.w.start(its, 1, 10);
        s.w.run();
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, s.process, MINE);
        owned(&mut s, ObjType::Reply, 0, OTHER);
        let space = s.process.vspace;
        pooled(&mut s, space, FROM, 1);
        lists(&server, &[copy(MINE), Grant::Move { cap: OTHER }]);
        lists_pages(&server, &[PageRange::new(PageMode::Move, FROM, 1)]);
        listens(&client, OFFER, 2);
        opens(&client, WINDOW, PAGE);
        Served { s, server, to_server, its, client, note }
    }

    fn new() -> Served {
        Served::called(Served::before())
    }

    fn called(mut served: Served) -> Served {
        served.s.w.does_and_run(&served.client, call(served.to_server));
        assert!(served.server.is_through() && !served.client.is_through());
        served
    }

    fn offered(&self) -> u64 {
        Target::new(self.its.cnode, OFFER.0).0
    }

    /// The slot in which the client listens was emptied a moment ago.
    fn empties_slot(&mut self) {
        let (note, offered) = (self.note, self.offered());
        self.s.w.must(2, Op::CapCopy, &[note.arg(), offered, 0, 0]);
        self.s.w.must(2, Op::CapDelete, &[offered]);
    }

    /// The server's own system call took one entry, and the reply is gone.
    #[track_caller]
    fn server_is_done(&self, op: Op) {
        assert!(!self.server.must_restart(), "the server's {op:?} starts again: {:?}", self.server.regs());
        match op {
            Op::Reply => assert_eq!(self.s.w.result(&self.server).error(), None),
            _ => assert_eq!(self.server.state(), State::Recv),
        }
    }

    fn server_has(&mut self) -> [bool; 2] {
        let process = self.s.process;
        [MINE, OTHER].map(|slot| holds(&mut self.s, process, slot).is_some())
    }
}

fn answer(op: Op, flags: u64) -> Regs {
    Regs::message(op, Target(0), WORDS).flag(flags)
}

#[test]
fn a_reply_does_not_wait_for_its_callers_slot() {
    for op in [Op::ReplyRecv, Op::Reply] {
        let mut served = Served::new();
        served.empties_slot();
        served.s.w.does(&served.server, answer(op, FLAG_CAPS));
        served.server_is_done(op);
        served.s.w.run();
        let got = served.s.w.result(&served.client);
        assert!(got.error().is_none() && got.info().has(FLAG_CAPS) && got.msg() == WORDS, "{got:?}");
        let second = arrived(OFFER.0 + 1, Rights::ALL, ObjType::Reply);
        assert_eq!(came(&served.client), [not(Fate::Untaken), second], "the other slot is ready");
        assert_eq!(fates(&served.server), [Fate::Untaken, Fate::Arrived]);
        assert_eq!(served.server_has(), [true, false]);
    }
}

/// What was to be moved, and was not taken, stays the server's.
#[test]
fn a_capability_that_was_not_taken_stays() {
    let mut served = Served::new();
    served.empties_slot();
    lists(&served.server, &[Grant::Move { cap: OTHER }]);
    served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_CAPS));
    served.server_is_done(Op::ReplyRecv);
    served.s.w.run();
    assert_eq!(
        (came(&served.client), fates(&served.server)),
        (vec![not(Fate::Untaken)], vec![Fate::Untaken])
    );
    assert_eq!(served.server_has(), [true, true]);
}

/// The caller's own call waits for the slot: then the reply brings the capability.
#[test]
fn a_caller_that_listens_waits_for_its_slot_itself() {
    let mut served = Served::before();
    served.empties_slot();
    served.s.w.does(&served.client, call(served.to_server).flag(FLAG_LISTEN));
    assert!(!served.server.is_through() && !served.client.is_through());
    assert!(served.client.must_restart() || served.client.state() == State::Restart);
    served.s.w.run();
    assert!(served.server.is_through(), "the call came");
    served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_CAPS));
    served.server_is_done(Op::ReplyRecv);
    served.s.w.run();
    assert_eq!(fates(&served.server), [Fate::Arrived; 2]);
    let its = served.its;
    assert!(holds(&mut served.s, its, OFFER).is_some());
    // Slots that it cannot fill, or has not, delay no call.
    served.s.w.must(0, Op::CapDelete, &[Target::new(its.cnode, OFFER.0 + 1).0]);
    for (first, count) in [(OFFER, 1), (Cap(0), 2), (Cap(u32::MAX), u32::MAX), (OFFER, 0)] {
        listens(&served.client, first, count);
        served.s.w.does(&served.client, call(served.to_server).flag(FLAG_LISTEN));
        assert!(!served.client.must_restart(), "{first:?} {count}");
        served.s.w.run();
        served.s.w.does_and_run(&served.server, answer(Op::ReplyRecv, 0));
        assert_eq!(served.s.w.result(&served.client).msg(), WORDS);
    }
}

/// How the caller's window can be unfit for pages.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Unfit {
    Closed,
    TooSmall,
    Nowhere,
    Full,
    /// CPU 1 still remembers a page that was there.
    Remembered,
}

#[test]
fn a_reply_leaves_its_pages_if_its_caller_has_no_place() {
    for unfit in [Unfit::Closed, Unfit::TooSmall, Unfit::Nowhere, Unfit::Full, Unfit::Remembered] {
        let mut served = Served::new();
        let space = served.its.vspace;
        match unfit {
            Unfit::Closed => opens(&served.client, 0, 0),
            Unfit::TooSmall => opens(&served.client, WINDOW, PAGE - 1),
            Unfit::Nowhere => opens(&served.client, u64::MAX - PAGE, PAGE),
            Unfit::Full | Unfit::Remembered => _ = pooled(&mut served.s, space, WINDOW, 1),
        }
        let mut witness = None;
        if unfit == Unfit::Remembered {
            // The client runs elsewhere, too, and that CPU does not answer yet.
            let there = served.s.w.start(served.its, 1, 20);
            served.s.w.run();
            assert!(served.s.w.runs(1, &there) && served.s.w.touch(1, WINDOW));
            witness = Some(there);
            served.s.w.summon(2);
            served.s.w.issue(2, Regs::op(Op::Unmap, &[space.arg(), 0, WINDOW, 0, 0, 1]));
            while served.s.w.step(2) {}
            assert!(served.s.w.remembered(1, WINDOW).is_some());
        }
        served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_CAPS | FLAG_PAGES));
        served.server_is_done(Op::ReplyRecv);
        served.s.w.run();
        if let Some(witness) = witness {
            served.s.w.does_and_run(&witness, Regs::op(Op::Recv, &[]));
        }
        let got = served.s.w.result(&served.client);
        assert_eq!((got.error(), got.msg()), (None, WORDS), "{unfit:?}");
        assert_eq!(got.info().flags(), FLAG_UNTAKEN, "{unfit:?}");
        assert_eq!(fates(&served.server), [Fate::Untaken; 2], "nothing came");
        assert_eq!(served.server_has(), [true, true]);
        let utcb = served.server.object.get().utcb(served.server.pin());
        assert_eq!(utcb.range_count.load(Relaxed), 1, "this tells the server");
        served.s.w.does_and_run(&served.client, call(served.to_server));
        assert!(served.s.w.runs(0, &served.server) && served.s.w.touch(0, FROM), "the page is the server's");
    }
}

/// A capability that was disposed of before the client closed its window is gone, and the server
/// learns that.
#[test]
fn what_was_disposed_of_is_not_untaken() {
    let mut served = Served::new();
    listens(&served.client, Cap(0), 0);
    lists(&served.server, &[Grant::Move { cap: OTHER }, copy(MINE)]);
    served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_CAPS | FLAG_PAGES));
    while served.server_has()[1] {
        assert!(served.s.w.must_restart(0));
        served.s.w.syscall(0);
    }
    opens(&served.client, 0, 0);
    served.s.w.run();
    assert_eq!(served.s.w.result(&served.client).info().flags(), FLAG_UNTAKEN);
    assert_eq!(fates(&served.server), [Fate::Disposed, Fate::Untaken]);
}

/// A rule that forbids a client what its server sends makes no reply fail, whether the client
/// offers a slot or not.
#[test]
fn a_reply_leaves_what_its_callers_label_forbids() {
    let expected = [([Fate::Untaken, Fate::Arrived], 2), ([Fate::Disposed; 2], 0)];
    for (op, (told, count)) in
        [Op::ReplyRecv, Op::Reply].into_iter().flat_map(|op| expected.map(|it| (op, it)))
    {
        let mut served = Served::new();
        let w = &mut served.s.w;
        set(w, served.its.process, SUBJECT);
        set(w, served.note, SECRET);
        rule(w, SUBJECT, SECRET, may::ALL & !may::GRANT);
        listens(&served.client, OFFER, count);
        served.s.w.does_and_run(&served.server, answer(op, FLAG_CAPS));
        served.server_is_done(op);
        let got = served.s.w.result(&served.client);
        assert!(got.error().is_none() && got.info().has(FLAG_CAPS) && got.msg() == WORDS, "{got:?}");
        assert_eq!(fates(&served.server), told, "{op:?} to {count} slots");
        assert_eq!(served.server_has(), [true, false]);
        let its = served.its;
        assert_eq!(holds(&mut served.s, its, OFFER), None);
    }
}

/// A capability that the client gave its server may be gone when the server returns it.
#[test]
fn a_reply_goes_without_what_was_revoked() {
    for op in [Op::ReplyRecv, Op::Reply] {
        let mut served = Served::new();
        served.s.w.must(2, Op::CapRevoke, &[at(served.note)]);
        served.s.w.does(&served.server, answer(op, FLAG_CAPS));
        served.server_is_done(op);
        served.s.w.run();
        let got = served.s.w.result(&served.client);
        assert!(got.error().is_none() && got.info().has(FLAG_CAPS) && got.msg() == WORDS, "{got:?}");
        assert_eq!(came(&served.client), [not(Fate::Gone), arrived(OFFER.0, Rights::ALL, ObjType::Reply)]);
        assert_eq!(fates(&served.server), [Fate::Gone, Fate::Arrived]);
    }
    // The fate is the same if the whole payload stays.
    let mut served = Served::new();
    served.s.w.must(2, Op::CapRevoke, &[at(served.note)]);
    opens(&served.client, 0, 0);
    served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_CAPS | FLAG_PAGES));
    served.server_is_done(Op::ReplyRecv);
    assert_eq!(fates(&served.server), [Fate::Gone, Fate::Untaken]);
}

/// The memory of a page that the client gave its server may have ended when the server returns it.
#[test]
fn a_reply_goes_without_pages_that_are_gone() {
    let all = [PageMode::Move, PageMode::Share, PageMode::Copy];
    for (mode, is_alone) in all.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
        let mut served = Served::new();
        if !is_alone {
            let process = served.s.process;
            served.s.w.start(process, 1, 5);
            served.s.w.run();
        }
        let (space, there) = (served.s.process.vspace, FROM + 8 * PAGE);
        let memory = served.s.w.make(0, ObjType::Untyped, 16);
        let frame = served.s.w.make_of(0, memory, ObjType::Frame, 12);
        served.s.w.must(0, Op::Map, &[space.arg(), frame.arg(), there, POOL]);
        // The first page is there, and stays the server's.
        lists_pages(&served.server, &[FROM, there].map(|address| PageRange::new(mode, address, 1)));
        opens(&served.client, WINDOW, 2 * PAGE);
        served.s.w.must(2, Op::CapRevoke, &[at(memory)]);
        served.s.w.does_and_run(&served.server, answer(Op::ReplyRecv, FLAG_PAGES));
        served.server_is_done(Op::ReplyRecv);
        let got = served.s.w.result(&served.client);
        let expected = (None, FLAG_UNTAKEN, WORDS);
        assert_eq!((got.error(), got.info().flags(), got.msg()), expected, "{mode:?} {is_alone}");
        let utcb = served.server.object.get().utcb(served.server.pin());
        assert_eq!(utcb.range_count.load(Relaxed), 2, "this tells the server");
        served.s.w.does_and_run(&served.client, call(served.to_server));
        assert!(served.s.w.runs(0, &served.server) && served.s.w.touch(0, FROM), "{mode:?} {is_alone}");
    }
}

/// What the server has wrong in its own lists is its own error.
#[test]
fn a_reply_that_is_wrong_itself_is_refused() {
    let mut served = Served::new();
    for cap in [Cap::NULL, Cap(999)] {
        lists(&served.server, &[copy(cap)]);
        served.s.w.does_and_run(&served.server, answer(Op::ReplyRecv, FLAG_CAPS));
        assert_eq!(served.s.w.result(&served.server).error(), Some(Error::NoCapability));
    }
    opens(&served.client, WINDOW, 4 * PAGE);
    lists_pages(&served.server, &[PageRange::new(PageMode::Move, FROM, 1); 2]);
    served.s.w.does_and_run(&served.server, answer(Op::ReplyRecv, FLAG_PAGES));
    assert_eq!(served.s.w.result(&served.server).error(), Some(Error::NoPage));
    assert!(!served.client.is_through(), "the call is still the server's to answer");
}

/// What a client does on its own CPU in the middle of its server's reply.
const TURNS: usize = 9;

fn turns_on(w: &mut World, turn: usize, its: Proc, client: &Tcb, note: Cap, group: Cap) {
    let offered = Target::new(its.cnode, OFFER.0).0;
    let mut does = |op: Op, args: &[u64]| {
        if w.agent(2).is_through() || !w.runs(2, &w.agent(2)) {
            w.begin(2, Regs::op(op, args));
        }
        let _ = (0..200).all(|_| w.step(2));
        if w.is_over(2) {
            w.dismiss(2);
        }
    };
    match turn {
        0 => listens(client, Cap(0), 0),
        1 => listens(client, Cap(u32::MAX), u32::MAX),
        2 => does(Op::CapCopy, &[note.arg(), offered, 0, 0]),
        3 => {
            does(Op::CapCopy, &[note.arg(), offered, 0, 0]);
            does(Op::CapDelete, &[offered]);
        }
        4 => opens(client, FROM, 0),
        5 => does(Op::CapDelete, &[at(its.cnode)]),
        6 => does(Op::ProcessKill, &[its.process.arg()]),
        7 => does(Op::CapRevoke, &[at(note)]),
        _ => does(Op::GroupRemove, &[Target::new(group, 1).0]),
    }
}

#[test]
fn a_reply_ends_whatever_its_caller_does_meanwhile() {
    let op = Op::ReplyRecv;
    for turn in 0..TURNS {
        for point in 0.. {
            let mut served = Served::called(Served::in_scene(Scene::unchecked(3, MEMORY)));
            // Copies, so that nothing has to be disposed of.
            lists(&served.server, &[copy(MINE)]);
            let (its, note, group) = (served.its, served.note, served.s.group);
            served.s.w.prepare(0, answer(op, FLAG_CAPS | FLAG_PAGES));
            let mut points = 0..;
            let client = &served.client;
            let torn = served.s.w.tear(
                0,
                Why::SystemCall,
                move |_| points.next() == Some(point),
                |w| turns_on(w, turn, its, client, note, group),
            );
            if !torn {
                assert!(point > 5, "{point} points");
                break;
            }
            served.server_is_done(op);
            served.s.w.run();
            let is_ending = turn == 5 || turn == 6;
            assert!(is_ending || served.s.w.result(&served.client).msg() == WORDS, "turn {turn} at {point}");
        }
    }
}

/// A server of CPU 0, its client of CPU 1, and a third process with which it shares pages, whose
/// task runs on CPU 2.
struct Shared {
    server: Tcb,
    to_server: Target,
    client: Tcb,
    third: Proc,
    witness: Tcb,
    /// The server's.
    space: Cap,
}

impl Shared {
    fn new(s: &mut Scene) -> Shared {
        let (server, to_server) = s.server(0, 10);
        let (its, third) = (s.w.process(), s.w.process());
        let group = s.group;
        s.w.join(group, its, GROUP, Rights::SEND, 0);
        let client = s.w.start(its, 1, 10);
        let witness = s.w.start(third, 2, 10);
        s.w.run();
        Shared { server, to_server, client, third, witness, space: s.process.vspace }
    }
}

/// Another process drops its views of a page one after another, each time before the server's reply
/// enters the kernel again. Returns how many entries the reply took, and the flags that the client
/// gets.
fn replies_while_views_go(mode: PageMode) -> (usize, u64) {
    const VIEWS: u64 = 40;
    let mut s = Scene::new(4);
    let Shared { server, to_server, client, third, witness, space } = Shared::new(&mut s);
    pooled(&mut s, space, FROM, 1);
    let share = PageRange::new(PageMode::Share, FROM, 1);
    for view in 0..VIEWS {
        assert_eq!(transfer(&mut s, space, third.vspace, share, WINDOW + view * PAGE), Ok(()));
    }
    opens(&client, WINDOW, PAGE);
    s.w.does_and_run(&client, call(to_server));
    lists_pages(&server, &[PageRange { mode, ..share }]);
    let mut entries = 0;
    for view in 0..VIEWS {
        assert!(s.w.runs(2, &witness) && s.w.touch(2, WINDOW + view * PAGE));
        s.w.begin(3, Regs::op(Op::Unmap, &[third.vspace.arg(), 0, WINDOW + view * PAGE, 0, 0, 1]));
        while s.w.step(3) {}
        assert!(!s.w.is_over(3), "CPU 2 still remembers the page");
        if view == 0 {
            s.w.does(&server, answer(Op::ReplyRecv, FLAG_PAGES));
        } else {
            while s.w.event(0) {}
            assert!(s.w.must_restart(0), "view {view}: {:?}", server.state());
            s.w.syscall(0);
        }
        entries += 1;
        if server.state() == State::Recv {
            break;
        }
        let is_over = s.w.run_until_but(0, |w| w.is_over(3));
        assert!(is_over);
        s.w.dismiss(3);
    }
    assert_eq!(server.state(), State::Recv, "after {entries} entries");
    s.w.run();
    (entries, s.w.result(&client).info().flags())
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "makes 40 views of a page")]
fn a_reply_waits_a_bounded_number_of_times_for_its_pages() {
    let (entries, flags) = replies_while_views_go(PageMode::Move);
    assert!(entries <= ENTRIES, "{entries} entries");
    assert_eq!(flags, FLAG_UNTAKEN);
}

/// No CPU can write a page that several pools have. So it can be shared further whatever CPUs
/// remember of it.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "makes 40 views of a page")]
fn a_reply_shares_a_page_while_others_drop_it() {
    for mode in [PageMode::Share, PageMode::Copy] {
        assert_eq!(replies_while_views_go(mode), (1, FLAG_PAGES), "{mode:?}");
    }
}

/// The last view of a page goes while a reply shares many: its first entry checks them all in vain.
/// Then it only waits, since another look at all of them would be too much for an entry.
#[test]
fn a_reply_of_many_pages_looks_at_them_once_an_entry() {
    let mut s = Scene::unchecked(4, 32 << 20);
    let Shared { server, to_server, client, third, witness, space } = Shared::new(&mut s);
    pooled(&mut s, space, FROM, MESSAGE_PAGES_MAX);
    let share = PageRange::new(PageMode::Share, FROM, MESSAGE_PAGES_MAX);
    assert_eq!(transfer(&mut s, space, third.vspace, share, WINDOW), Ok(()));
    opens(&client, WINDOW, MESSAGE_PAGES_MAX * PAGE);
    s.w.does_and_run(&client, call(to_server));
    let last = WINDOW + (MESSAGE_PAGES_MAX - 1) * PAGE;
    assert!(s.w.runs(2, &witness) && s.w.touch(2, last));
    s.w.begin(3, Regs::op(Op::Unmap, &[third.vspace.arg(), 0, last, 0, 0, 1]));
    while s.w.step(3) {}
    assert!(!s.w.is_over(3), "CPU 2 still remembers the page");
    lists_pages(&server, &[share]);
    let points = Cell::new(0);
    let mut count = |_| points.set(points.get() + 1);
    host_test::at_points(&mut count, || s.w.does(&server, answer(Op::ReplyRecv, FLAG_PAGES)));
    assert_ne!(server.state(), State::Recv, "a page is not ready");
    assert!(points.get() <= 100 + 16 * MESSAGE_PAGES_MAX, "the entry has {} points", points.get());
    s.w.run();
    assert_eq!(server.state(), State::Recv);
    assert_eq!(s.w.result(&client).info().flags(), FLAG_PAGES);
}

/// Pages that a reply has lent are back before it sends them, because another task of its process
/// has listed them, too, and its message has failed.
#[test]
fn pages_that_are_back_are_lent_again() {
    let mut s = Scene::new(4);
    let Shared { server, to_server, client, space, .. } = Shared::new(&mut s);
    let process = s.process;
    s.w.start(process, 3, 10);
    s.w.run();
    pooled(&mut s, space, FROM, MESSAGE_PAGES_MAX);
    let share = PageRange::new(PageMode::Share, FROM, MESSAGE_PAGES_MAX);
    opens(&client, WINDOW, MESSAGE_PAGES_MAX * PAGE);
    s.w.does_and_run(&client, call(to_server));
    lists_pages(&server, &[share]);
    s.w.does(&server, answer(Op::ReplyRecv, FLAG_PAGES));
    while !s.w.must_restart(0) {
        assert!(s.w.event(0) | s.w.event(3), "the next entry sends them when CPU 3 has flushed them");
    }
    let space = s.w.look(3).cpu.vspace.get(host_test::pin(3)).expect("its task runs");
    s.w.look(0).mem().take_back(space, &share);
    s.w.run();
    assert_eq!(server.state(), State::Recv);
    assert_eq!(s.w.result(&client).info().flags(), FLAG_PAGES);
}

/// A client that has mapped a page as often as it can be mapped makes no reply fail.
#[test]
fn a_reply_leaves_a_page_that_is_mapped_too_often() {
    let mut served = Served::called(Served::in_scene(Scene::unchecked(3, 32 << 20)));
    let (space, at) = (served.s.process.vspace, FROM + 8 * PAGE);
    let (other, _) = shared_often(&mut served.s, 1);
    let share = PageRange::new(PageMode::Share, FROM, 1);
    assert_eq!(transfer(&mut served.s, other, space, share, at), Ok(()), "the last one");
    lists_pages(&served.server, &[PageRange { address: at, ..share }]);
    served.s.w.does(&served.server, answer(Op::ReplyRecv, FLAG_PAGES));
    served.server_is_done(Op::ReplyRecv);
    served.s.w.run();
    assert_eq!(served.s.w.result(&served.client).info().flags(), FLAG_UNTAKEN);
}

/// A send that waits for nobody does not wait for slots of the pool's reader.
#[test]
fn a_send_waits_for_slots_only_if_it_may() {
    let mut s = Scene::new(3);
    s.somebody(2, 5);
    let (its, _, target, mut pool) = reader(&mut s, 1);
    let (server, _) = s.running(0, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, s.process, MINE);
    pool.offers(Listening { next: OFFER, count: 1 }, Window { address: 0, pages: 0 });
    let offered = Target::new(its.cnode, OFFER.0).0;
    // Meanwhile CPU 0 takes its mail, and does not make its system call again.
    let empties = |s: &mut Scene| {
        s.w.hold(Some(0));
        for (op, args) in [(Op::CapCopy, vec![note.arg(), offered, 0, 0]), (Op::CapDelete, vec![offered])] {
            s.w.begin(1, Regs::op(op, &args));
            while !s.w.is_over(1) {
                assert!([s.w.event(0), s.w.step(1), s.w.step(2)] != [false; 3], "{op:?} does not end");
            }
            assert_eq!(s.w.agent(1).regs().error(), None);
            s.w.dismiss(1);
        }
        s.w.hold(None);
    };
    empties(&mut s);
    lists(&server, &[copy(MINE)]);
    s.w.does(&server, send(target, 1).flag(FLAG_CAPS | FLAG_NONBLOCK));
    assert_eq!(s.w.result(&server).error(), Some(Error::WouldBlock));
    let soon = s.w.now() + 100_000;
    s.w.does(&server, send(target, 2).flag(FLAG_CAPS).deadline(soon));
    assert!(!server.is_through(), "it may wait until its deadline: {:?}", server.regs());
    s.w.advance(200_000);
    empties(&mut s);
    s.w.run();
    assert_eq!(s.w.result(&server).error(), Some(Error::Timeout));
    assert!(pool.read_loaded().is_none());
    s.w.does_and_run(&server, send(target, 3).flag(FLAG_CAPS));
    assert_eq!(pool.read_loaded().map(|(_, caps, _)| caps.len()), Some(1), "this one waited");
}
