//! Events that carry capabilities and pages: where these arrive, and their fate while an event
//! waits.

use abi::events::Window;
use abi::{Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, Fate, Grant, Listening, ObjType, Op, PAGE_SIZE};
use abi::{PageMode, PageRange, Rights, Target};
use core::sync::atomic::Ordering::Relaxed;

use crate::events::{Reader, fill, receiver, send};
use crate::grants::{MINE, OFFER, arrived, copy, fates, holds, lists, not, owned};
use crate::scene::Scene;
use crate::world::gate::Why;
use crate::world::make::at;
use crate::world::{Regs, Tcb};

const ALL: Rights = Rights::ALL;
const FROM: u64 = 0x6000_0000;
const WINDOW: u64 = 0x7000_0000;
const SLOTS: Listening = Listening { next: OFFER, count: 4 };
const PLACES: Window = Window { address: WINDOW, pages: 8 };
const NOWHERE: Window = Window { address: 0, pages: 0 };

/// A sender on a CPU with a Notification and the only capability of a Reply, and three pages.
fn sender(s: &mut Scene, n: usize) -> (Tcb, Cap) {
    let (task, _) = s.running(n, 10);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, s.process, MINE);
    owned(s, ObjType::Reply, 0, Cap(21));
    let frame = s.w.make(0, ObjType::Frame, 12 | 3 << 8);
    s.w.must(0, Op::Map, &[s.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
    (task, note)
}

/// It sends both capabilities and so many of the pages.
fn loads(task: &Tcb, pages: u64) {
    lists(task, &[copy(MINE), Grant::Move { cap: Cap(21) }]);
    let utcb = task.object.get().utcb(task.pin());
    let words = PageRange::new(PageMode::Move, FROM, pages).words();
    utcb.ranges[0].iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
    utcb.range_count.store(u64::from(pages > 0), Relaxed);
}

fn loaded(target: Target, value: u64) -> Regs {
    send(target, value).flag(FLAG_CAPS | FLAG_PAGES)
}

/// What came is all that [`loads`] says.
fn comes(reader: &mut Reader, value: u64, pages: u64) {
    let Some((event, caps, ranges)) = reader.read_loaded() else { panic!("event {value} did not come") };
    assert_eq!(event.regs[0], value);
    assert_eq!(caps, [arrived(40, ALL, ObjType::Notification), arrived(41, ALL, ObjType::Reply)]);
    assert_eq!(ranges, [PageRange::new(PageMode::Move, WINDOW, pages)]);
}

fn has_all(s: &mut Scene, task: &Tcb, n: usize) {
    let sender = s.process;
    assert!(holds(s, sender, MINE).is_some() && holds(s, sender, Cap(21)).is_some(), "capabilities");
    s.w.does_and_run(task, Regs::op(Op::Null, &[]));
    assert!(s.w.runs(n, task) && s.w.touch(n, FROM), "pages");
}

#[test]
fn events_bring_capabilities_and_pages() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, _, target, mut reader) = receiver(&mut s, 0);
        let (sender, note) = sender(&mut s, sender_cpu);
        reader.offers(SLOTS, PLACES);
        loads(&sender, 2);
        s.w.does_and_run(&sender, loaded(target, 5).words(9));
        assert_eq!(s.w.result(&sender).result().map(|_| ()), Ok(()), "on cpu{sender_cpu}");
        let utcb = sender.object.get().utcb(sender.pin());
        assert_eq!((utcb.grant_count.load(Relaxed), utcb.range_count.load(Relaxed)), (0, 0));
        assert_eq!(fates(&sender), [Fate::Arrived; 2]);
        comes(&mut reader, 5, 2);
        assert_eq!(holds(&mut s, process, OFFER), Some((ObjType::Notification, ALL, 0)));
        assert_eq!(holds(&mut s, process, Cap(41)), Some((ObjType::Reply, ALL, 0)));
        let sends = s.process;
        assert_eq!(holds(&mut s, sends, Cap(21)), None, "it has moved");
        let left =
            (Listening { next: Cap(42), count: 2 }, Window { address: WINDOW + 2 * PAGE_SIZE, pages: 6 });
        assert_eq!(reader.left(), left);
        // Others come between; the third page goes where the last one ended.
        s.w.does_and_run(&sender, send(target, 6).words(3));
        assert_eq!(reader.registers(), [6]);
        let utcb = sender.object.get().utcb(sender.pin());
        let words = PageRange::new(PageMode::Move, FROM + 2 * PAGE_SIZE, 1).words();
        utcb.ranges[0].iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
        utcb.range_count.store(1, Relaxed);
        s.w.does_and_run(&sender, send(target, 7).flag(FLAG_PAGES));
        let came = reader.read_loaded().map(|(_, caps, pages)| (caps, pages));
        assert_eq!(came, Some((vec![], vec![PageRange::new(PageMode::Move, WINDOW + 2 * PAGE_SIZE, 1)])));
        lists(&sender, &[copy(MINE)]);
        s.w.does_and_run(&sender, send(target, 8).flag(FLAG_CAPS));
        let came = reader.read_loaded().map(|(_, caps, pages)| (caps, pages));
        assert_eq!(came, Some((vec![arrived(42, ALL, ObjType::Notification)], vec![])));
        s.w.must(0, Op::CapRevoke, &[at(note)]);
        assert_eq!(holds(&mut s, process, OFFER), None);
        s.w.must(0, Op::Unmap, &[process.vspace.arg(), 0, WINDOW, 0, 0, 3]);
    }
}

#[test]
fn events_to_who_does_not_listen() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, _, target, mut reader) = receiver(&mut s, 0);
        let (sender, note) = sender(&mut s, sender_cpu);
        owned(&mut s, ObjType::Untyped, 12, Cap(22));
        s.w.give(note, process, OFFER);
        reader.offers(Listening { next: OFFER, count: 1 }, NOWHERE);
        lists(&sender, &[copy(MINE), Grant::Move { cap: Cap(21) }, Grant::Move { cap: Cap(22) }]);
        s.w.does_and_run(&sender, send(target, 5).flag(FLAG_CAPS));
        let told = [Fate::Disposed, Fate::Disposed, Fate::Kept];
        assert_eq!(reader.read_loaded().map(|(_, caps, _)| caps), Some(told.map(not).to_vec()));
        assert_eq!(fates(&sender), told);
        let sends = s.process;
        let left = [MINE, Cap(21), Cap(22)].map(|slot| holds(&mut s, sends, slot).is_some());
        assert_eq!(left, [true, false, true]);
        // Pages without room are the sender's error, and nothing goes.
        owned(&mut s, ObjType::Reply, 0, Cap(21));
        for window in [NOWHERE, Window { pages: 2, ..PLACES }, Window { address: 1 << 47, pages: 9 }] {
            reader.offers(Listening { next: Cap(41), count: 2 }, window);
            loads(&sender, 3);
            s.w.does_and_run(&sender, loaded(target, 6));
            assert_eq!(s.w.result(&sender).error(), Some(Error::NoRoom), "{window:?}");
            assert!(reader.read().is_none() && holds(&mut s, process, Cap(41)).is_none());
            has_all(&mut s, &sender, sender_cpu);
        }
    }
}

/// A full pool: nothing has gone until there is room.
#[test]
fn what_waits_for_room_is_still_the_senders() {
    for (reader_cpu, sender_cpu) in [(0, 0), (0, 1)] {
        for what in 0..8 {
            let mut s = Scene::new(3);
            let (process, task, target, mut reader) = receiver(&mut s, reader_cpu);
            let (filler, _) = s.running(2, 10);
            let (sender, note) = sender(&mut s, sender_cpu);
            let count = fill(&mut s, &filler, target);
            // Nobody listens now: nothing may be disposed of before there is room.
            reader.offers(Listening::NOT, NOWHERE);
            loads(&sender, 3);
            let soon = s.w.now() + 1000;
            let args = loaded(target, 50);
            s.w.does_and_run(
                &sender,
                match what {
                    0 => args.flag(FLAG_NONBLOCK),
                    1 => args.deadline(soon),
                    _ => args,
                },
            );
            assert_eq!(sender.is_through(), what == 0);
            reader.offers(SLOTS, PLACES);
            let want = match what {
                0 => Some(Error::WouldBlock),
                1 => {
                    s.w.wait_until(soon + 1);
                    Some(Error::Timeout)
                }
                2 => {
                    s.w.must(2, Op::TaskCancel, &[sender.cap.arg()]);
                    Some(Error::Cancelled)
                }
                3 => {
                    s.kill(&task);
                    Some(Error::Dead)
                }
                4 => {
                    s.delete(reader.cap);
                    Some(Error::Gone)
                }
                5 => {
                    s.w.must(0, Op::CapRevoke, &[at(note)]);
                    Some(Error::NoCapability)
                }
                6 => {
                    reader.offers(SLOTS, NOWHERE);
                    Some(Error::NoRoom)
                }
                _ => None,
            };
            s.w.run();
            let case = format!("case {what}, sender on CPU {sender_cpu}");
            if what >= 5 {
                assert_eq!(reader.registers().len() as u64, count);
                s.w.must(0, Op::PoolRoom, &[reader.cap.arg()]);
                s.w.run();
            }
            assert!(sender.is_through(), "{case}");
            assert_eq!(s.w.result(&sender).error(), want, "{case}");
            let sends = s.process;
            match want {
                None => comes(&mut reader, 50, 3),
                Some(Error::NoCapability) => assert!(holds(&mut s, sends, Cap(21)).is_some(), "{case}"),
                Some(_) => has_all(&mut s, &sender, sender_cpu),
            }
            if want.is_some() && what != 4 {
                assert_eq!(holds(&mut s, process, OFFER), None, "{case}");
            }
        }
    }
}

/// The pages of one message are about an entry's work.
#[test]
fn a_waiting_sender_with_pages_has_an_entry_of_its_own() {
    let mut s = Scene::new(3);
    let (_, _, target, mut reader) = receiver(&mut s, 0);
    let (plain, _) = s.running(2, 10);
    let (sender, _) = sender(&mut s, 1);
    fill(&mut s, &plain, target);
    reader.offers(SLOTS, PLACES);
    s.w.does_and_run(&plain, send(target, 50));
    loads(&sender, 3);
    s.w.does_and_run(&sender, loaded(target, 51));
    assert!(!plain.is_through() && !sender.is_through());
    reader.registers();
    s.w.summon(0);
    s.w.prepare(0, Regs::op(Op::PoolRoom, &[reader.cap.arg()]));
    s.w.syscall(0);
    assert_eq!(reader.registers(), [50], "the other one comes with the next entry");
    s.w.run();
    s.w.dismiss(0);
    comes(&mut reader, 51, 3);
}

#[test]
fn moves_that_waited_for_room_are_disposed_of_then() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(3);
        let (_, _, target, mut reader) = receiver(&mut s, 0);
        let (filler, _) = s.running(2, 10);
        let (sender, _) = sender(&mut s, sender_cpu);
        let count = fill(&mut s, &filler, target);
        lists(&sender, &[Grant::Move { cap: Cap(21) }]);
        s.w.does_and_run(&sender, send(target, 50).flag(FLAG_CAPS));
        let sends = s.process;
        assert!(!sender.is_through() && holds(&mut s, sends, Cap(21)).is_some());
        assert_eq!(reader.registers().len() as u64, count);
        s.w.must(0, Op::PoolRoom, &[reader.cap.arg()]);
        s.w.run();
        assert_eq!(reader.read_loaded().map(|(_, caps, _)| caps), Some(vec![not(Fate::Disposed)]));
        assert!(holds(&mut s, sends, Cap(21)).is_none());
        assert!(sender.is_through() && s.w.result(&sender).error().is_none());
    }
}

/// A slot that was emptied a moment ago is waited for.
#[test]
fn slots_are_used_again_by_events() {
    let mut s = Scene::new(2);
    let (process, _, target, mut reader) = receiver(&mut s, 1);
    let (sender, _) = sender(&mut s, 0);
    for round in 0..5 {
        reader.offers(SLOTS, NOWHERE);
        lists(&sender, &[copy(MINE)]);
        s.w.does_and_run(&sender, send(target, round).flag(FLAG_CAPS));
        let came = reader.read_loaded().map(|(event, caps, _)| (event.regs[0], caps));
        assert_eq!(came, Some((round, vec![arrived(40, ALL, ObjType::Notification)])));
        s.w.must(0, Op::CapDelete, &[Target::new(process.cnode, OFFER.0).0]);
    }
}

/// Two CPUs send a capability each to a reader that offers slots for both, one in the middle of
/// what the other does.
#[test]
fn two_at_once_both_find_a_slot() {
    for point in 0.. {
        let mut s = Scene::new(3);
        let (process, _, target, reader) = receiver(&mut s, 0);
        let senders = [1, 2].map(|n| s.running(n, 10).0);
        reader.offers(SLOTS, NOWHERE);
        for (sender, cap) in senders.iter().zip([Cap(21), Cap(22)]) {
            owned(&mut s, ObjType::Reply, 0, cap);
            lists(sender, &[Grant::Move { cap }]);
        }
        let give = |value| send(target, value).flag(FLAG_CAPS);
        s.w.prepare(1, give(1));
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let stopped = s.w.tear(1, Why::SystemCall, here, |w| w.issue(2, give(2)));
        if !stopped {
            s.w.issue(2, give(2));
        }
        s.w.run();
        assert_eq!(senders.map(|sender| fates(&sender)[0]), [Fate::Arrived; 2], "stopped at point {point}");
        for slot in [OFFER, Cap(41)] {
            assert_eq!(holds(&mut s, process, slot), Some((ObjType::Reply, ALL, 0)));
        }
        assert_eq!(reader.left().0, Listening { next: Cap(42), count: 2 });
        if !stopped {
            assert!(point > 10, "a send has points");
            return;
        }
    }
}

/// The last sender that is let in needs no message that lets in more.
#[test]
fn nothing_goes_on_when_nobody_waits() {
    let mut s = Scene::new(2);
    let (_, _, target, mut reader) = receiver(&mut s, 0);
    let (filler, _) = s.running(1, 10);
    let (sender, _) = sender(&mut s, 0);
    fill(&mut s, &filler, target);
    loads(&sender, 3);
    s.w.does_and_run(&sender, loaded(target, 50));
    assert!(!sender.is_through(), "it waits for room");
    reader.offers(SLOTS, PLACES);
    while reader.read().is_some() {}
    s.w.must(1, Op::PoolRoom, &[reader.cap.arg()]);
    assert!(s.w.event(0) && sender.is_through(), "the reader's CPU was told");
    assert!(!s.w.block(0).mailbox().has_mail());
}
