//! Event pools: their contents, senders that wait for room, and their processes.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use abi::events::{
    CELL_WORDS, Event, EventControl, EventState, Window, caps_at, cells_of, pages_at, pool_pages, stamp,
};
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, Listening, ObjType, Op, PAGE_SIZE, PageRange, Received,
    Rights, Target,
};
use kern_base::events::EventPool;
use kern_base::task::State;
use smp::host_test;

use crate::scene::{GROUP, Scene};
use crate::world::make::{INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

pub const POOL_VA: u64 = 0x5800_0000;
pub const LOG2: u8 = 6;
const CELLS: u64 = 1 << LOG2;
pub const BITS: u64 = 0x30;

/// A pool as its process reads it: by the layout of `abi`, from the memory itself.
pub struct Reader {
    pub cap: Cap,
    at: u64,
    pub next: u64,
}

impl Reader {
    /// A new pool for a process, which a task of it reads.
    pub fn bind(w: &mut World, process: Proc, task: &Tcb) -> Reader {
        let cap = w.make(0, ObjType::EventPool, u64::from(LOG2));
        w.must(0, Op::PoolBind, &[cap.arg(), process.process.arg(), task.cap.arg(), POOL_VA, BITS]);
        let Some(object) = w.object::<EventPool>(cap) else { panic!("no pool") };
        let Some((first, _)) = object.get().pages().next() else { panic!("no pages") };
        Reader { cap, at: first.at().0, next: 0 }
    }

    /// Makes a reader of a pool that is already bound and was read up to a position.
    pub fn of(pool: &EventPool, next: u64) -> Reader {
        let (first, _) = pool.pages().next().expect("its pages");
        Reader { cap: Cap::NULL, at: first.at().0, next }
    }

    /// Gives back all but so many of the cells that were read.
    pub fn keep(&self, cells: u64) {
        self.word(0).store(self.next.wrapping_sub(cells), Relaxed);
    }

    pub fn word(&self, byte: u64) -> &'static AtomicU64 {
        &host_test::words(self.at + byte, 1)[0]
    }

    fn stamp(&self, position: u64) -> u32 {
        let byte = EventControl::PAGES * PAGE_SIZE + size_of::<EventState>() as u64 + 4 * (position % CELLS);
        (self.word(byte & !7).load(Relaxed) >> (byte % 8 * 8)) as u32
    }

    fn cell(&self, position: u64) -> &'static [AtomicU64; CELL_WORDS] {
        let first = (EventControl::PAGES + EventState::pages(LOG2)) * PAGE_SIZE;
        let words = host_test::words(self.at + first + position % CELLS * 64, CELL_WORDS);
        words.try_into().expect("a cell has eight words")
    }

    /// The next event, with its words, if it is there.
    pub fn read(&mut self) -> Option<(Event, Vec<u64>)> {
        if self.stamp(self.next) != stamp(self.next, LOG2) {
            return None;
        }
        let event = Event::from_cell(self.cell(self.next));
        let word =
            |n: usize| self.cell(self.next + 1 + (n / CELL_WORDS) as u64)[n % CELL_WORDS].load(Relaxed);
        let words: Vec<u64> = (0..event.info.words()).map(word).collect();
        self.next += cells_of(event.info);
        self.word(0).store(self.next, Relaxed);
        Some((event, words))
    }

    /// Reads an event with its payload: the event, the capabilities and the pages.
    pub fn read_loaded(&mut self) -> Option<(Event, Vec<Received>, Vec<PageRange>)> {
        let at = self.next;
        let (event, _) = self.read()?;
        let list = |cells: std::ops::Range<u64>| {
            let words = cells.flat_map(|cell| self.cell(at + cell)).map(|word| word.load(Relaxed));
            let words: Vec<u64> = words.collect();
            words.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect::<Vec<_>>()
        };
        let (caps, pages) = (caps_at(event.info), pages_at(event.info));
        let caps = if event.info.has(FLAG_CAPS) { list(caps..caps + 1) } else { Vec::new() };
        let pages = if event.info.has(FLAG_PAGES) { list(pages..pages + 2) } else { Vec::new() };
        let caps = caps.into_iter().map_while(Received::from_words).collect();
        Some((event, caps, pages.into_iter().map_while(PageRange::from_words).collect()))
    }

    /// Offers slots for capabilities and a window for pages.
    pub fn offers(&self, slots: Listening, window: Window) {
        self.word(16).store(slots.word(), Relaxed);
        self.word(24).store(window.word(), Relaxed);
    }

    pub fn left(&self) -> (Listening, Window) {
        (Listening::from_word(self.word(16).load(Relaxed)), Window::from_word(self.word(24).load(Relaxed)))
    }

    pub fn arm(&self) {
        self.word(8).store(1, Relaxed);
    }

    /// Whether senders are said to wait.
    fn waiting(&self) -> bool {
        self.word(EventControl::PAGES * PAGE_SIZE).load(Relaxed) != 0
    }

    pub fn registers(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.read()).map(|(event, _)| event.regs[0]).collect()
    }
}

/// A process with a pool, its reader, exposed, which receives on CPU `n`.
pub fn receiver(s: &mut Scene, n: usize) -> (Proc, Tcb, Target, Reader) {
    let process = s.w.process();
    let task = s.w.start(process, n, 20);
    let (target, reader) = pool_for(s, process, &task, 10 + n as u32);
    s.w.run();
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    (process, task, target, reader)
}

fn pool_for(s: &mut Scene, process: Proc, task: &Tcb, index: u32) -> (Target, Reader) {
    let group = s.group;
    s.w.expose(group, index, task.cap);
    (Target::new(GROUP, index), Reader::bind(&mut s.w, process, task))
}

pub fn send(target: Target, value: u64) -> Regs {
    Regs::message(Op::Send, target, [value, value + 1, value + 2, value + 3])
}

/// Sends until there is no room.
pub fn fill(s: &mut Scene, sender: &Tcb, target: Target) -> u64 {
    for count in 0.. {
        s.w.does_and_run(sender, send(target, count).flag(FLAG_NONBLOCK));
        match s.w.result(sender).error() {
            None => {}
            Some(error) => {
                assert_eq!(error, Error::WouldBlock);
                return count;
            }
        }
    }
    unreachable!()
}

#[test]
fn events_come_in_order_with_all_that_they_carry() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (_, _, target, mut reader) = receiver(&mut s, 0);
        let (sender, _) = s.running(sender_cpu, 10);
        let utcb = sender.object.get().utcb(sender.pin());
        for (n, word) in (0..).zip(&utcb.msg) {
            word.store(1000 + n, Relaxed);
        }
        for (count, words) in [0u8, 1, 8, 9, 64, 0].into_iter().enumerate() {
            s.w.does_and_run(&sender, send(target, count as u64).words(words));
            assert_eq!(s.w.result(&sender).result().map(|r| r.msg()), Ok([0; 4]));
            let Some((event, got)) = reader.read() else { panic!("event {count} did not come") };
            assert_eq!(event.regs, [0, 1, 2, 3].map(|n| count as u64 + n));
            assert_eq!((event.sender, event.exposure), (sender.object.get().id(), target.index()));
            assert_eq!(got, (0..u64::from(words)).map(|n| 1000 + n).collect::<Vec<_>>());
            assert!(reader.read().is_none());
        }
        assert_eq!(sender.state(), State::Ready, "nobody waited");
    }
}

#[test]
fn events_go_round_and_round() {
    let mut s = Scene::new(2);
    let (_, _, target, mut reader) = receiver(&mut s, 1);
    let (sender, _) = s.running(0, 10);
    for count in 0..5 * CELLS {
        s.w.does_and_run(&sender, send(target, count).words((count % 3 * 8) as u8));
        assert_eq!(reader.registers(), [count]);
    }
}

#[test]
fn nothing_is_sent_where_nothing_may_come() {
    let mut s = Scene::new(2);
    let (process, task, target, mut reader) = receiver(&mut s, 0);
    let (sender, other) = s.running(0, 10);
    s.w.does_and_run(&sender, send(other, 1));
    assert_eq!(s.w.result(&sender).result().map(|_| ()), Err((Error::NoPool, u64::from(other.index()))));
    s.w.does_and_run(&sender, send(target, 1).words(65));
    assert_eq!(s.w.result(&sender).error(), Some(Error::TooLong));
    let stranger = s.w.process();
    let weak = s.w.start(stranger, 1, 10);
    let group = s.group;
    s.w.join(group, stranger, GROUP, Rights::SEND, 7);
    s.w.run();
    s.w.does_and_run(&weak, send(target, 5).words(1));
    assert_eq!(s.w.result(&weak).error(), Some(Error::NoRight), "words take STRING");
    s.w.does_and_run(&weak, send(target, 5));
    assert_eq!(reader.read().map(|(event, _)| (event.custom, event.regs[0])), Some((7, 5)));
    s.kill(&task);
    s.w.does_and_run(&sender, send(target, 1));
    assert_eq!(s.w.result(&sender).error(), Some(Error::Dead));
    let _ = process;
}

#[test]
fn whoever_finds_no_room_waits_in_turn() {
    for cpu in [0, 1] {
        let mut s = Scene::new(3);
        let (_, _, target, mut reader) = receiver(&mut s, 0);
        let (sender, _) = s.running(2, 10);
        let [(low, _), (high, _), (late, _)] =
            [(cpu, 5), (cpu, 15), (1 - cpu, 15)].map(|(n, p)| s.running(n, p));
        assert_eq!(fill(&mut s, &sender, target), CELLS);
        assert!(!reader.waiting());
        for (who, value) in [(&high, 1002), (&low, 1001), (&late, 1003)] {
            s.w.does_and_run(who, send(target, value));
            assert!(!who.is_through() && reader.waiting(), "it waits");
        }
        assert_eq!(reader.read().map(|(event, _)| event.regs[0]), Some(0));
        s.w.does_and_run(&sender, send(target, 7).flag(FLAG_NONBLOCK));
        assert_eq!(s.w.result(&sender).error(), Some(Error::WouldBlock), "nobody overtakes those who wait");
        s.w.must(1, Op::PoolRoom, &[reader.cap.arg()]);
        s.w.run();
        assert!(high.is_through() && !late.is_through() && !low.is_through(), "one more had room");
        let rest: Vec<u64> = (1..CELLS).chain([1002]).collect();
        assert_eq!(reader.registers(), rest);
        s.w.must(1, Op::PoolRoom, &[reader.cap.arg()]);
        s.w.run();
        assert_eq!(reader.registers(), [1003, 1001], "by priority, in order within one");
        assert!(late.is_through() && low.is_through() && !reader.waiting());
        s.w.does_and_run(&sender, send(target, 7).flag(FLAG_NONBLOCK));
        assert_eq!(reader.registers(), [7]);
    }
}

#[test]
fn a_long_event_waits_for_all_its_cells() {
    let mut s = Scene::new(2);
    let (_, _, target, mut reader) = receiver(&mut s, 1);
    let (sender, _) = s.running(0, 10);
    fill(&mut s, &sender, target);
    s.w.does_and_run(&sender, send(target, 99).words(64));
    for _ in 0..8 {
        reader.read();
        s.w.must(0, Op::PoolRoom, &[reader.cap.arg()]);
        s.w.run();
        assert!(!sender.is_through());
    }
    reader.read();
    s.w.must(0, Op::PoolRoom, &[reader.cap.arg()]);
    s.w.run();
    assert!(sender.is_through());
    let last = std::iter::from_fn(|| reader.read()).last();
    assert_eq!(last.map(|(event, words)| (event.regs[0], words.len())), Some((99, 64)));
}

/// What ends a wait for room, and with which error.
#[test]
fn waits_for_room_end() {
    for (reader_cpu, sender_cpu) in [(0, 0), (0, 1)] {
        for what in 0..6 {
            let mut s = Scene::new(3);
            let (process, task, target, mut reader) = receiver(&mut s, reader_cpu);
            let (filler, _) = s.running(2, 10);
            let (sender, _) = s.running(sender_cpu, 10);
            fill(&mut s, &filler, target);
            let soon = s.w.now() + 1000;
            let args = send(target, 50);
            s.w.does_and_run(&sender, if what == 0 { args.deadline(soon) } else { args });
            assert!(!sender.is_through());
            let want = match what {
                0 => {
                    s.w.wait_until(soon + 1);
                    Error::Timeout
                }
                1 => {
                    s.w.must(2, Op::TaskCancel, &[sender.cap.arg()]);
                    Error::Cancelled
                }
                2 => {
                    s.kill(&sender);
                    assert_eq!(sender.state(), State::Dead);
                    assert_eq!(reader.registers().len() as u64, CELLS, "it sent nothing");
                    continue;
                }
                3 => {
                    s.kill(&task);
                    Error::Dead
                }
                4 => {
                    s.delete(reader.cap);
                    Error::Gone
                }
                _ => {
                    s.delete(process.process);
                    Error::Dead
                }
            };
            s.w.run();
            assert_eq!(s.w.result(&sender).error(), Some(want), "case {what}, sender on CPU {sender_cpu}");
        }
    }
}

#[test]
fn a_pool_that_nobody_waits_for_any_more_takes_events_again() {
    let mut s = Scene::new(2);
    let (_, _, target, mut reader) = receiver(&mut s, 0);
    let [(sender, _), (other, _)] = [0, 1].map(|n| s.running(n, 10));
    fill(&mut s, &other, target);
    s.w.does_and_run(&sender, send(target, 50));
    s.kill(&sender);
    reader.registers();
    // The kernel goes by the queue: the next who asks opens it.
    s.w.does_and_run(&other, send(target, 51));
    assert!(other.is_through());
    assert_eq!(reader.registers(), [51]);
    s.w.does_and_run(&other, send(target, 52).flag(FLAG_NONBLOCK));
    assert_eq!(reader.registers(), [52]);
}

#[test]
fn an_armed_reader_is_told_once() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (process, task, target, mut reader) = receiver(&mut s, 0);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.must(0, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
        s.w.give(note, process, Cap(40));
        let (sender, _) = s.running(sender_cpu, 10);
        s.w.does_and_run(&sender, send(target, 1));
        assert!(!task.is_through(), "it did not ask");
        reader.arm();
        s.w.does_and_run(&sender, send(target, 2));
        assert_eq!((s.w.result(&task).rdx, reader.registers()), (BITS, vec![1, 2]));
        s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        s.w.does_and_run(&sender, send(target, 3));
        assert!(!task.is_through(), "armed once");
    }
}

#[test]
fn heads_that_cannot_be_are_a_full_pool() {
    let mut s = Scene::new(1);
    let (_, _, target, mut reader) = receiver(&mut s, 0);
    let (sender, _) = s.running(0, 10);
    for head in [1, CELLS, 1 << 63, u64::MAX - CELLS] {
        reader.word(0).store(head, Relaxed);
        s.w.does_and_run(&sender, send(target, 1).flag(FLAG_NONBLOCK));
        assert_eq!(s.w.result(&sender).error(), Some(Error::WouldBlock), "head {head:#x}");
    }
    reader.word(0).store(0, Relaxed);
    s.w.does_and_run(&sender, send(target, 1));
    assert_eq!(reader.registers(), [1]);
}

#[test]
fn a_process_sees_its_pool_and_nobody_elses() {
    let mut s = Scene::new(2);
    let (process, _, _, reader) = receiver(&mut s, 0);
    let task = s.w.start(process, 0, 10);
    s.w.run();
    assert!(s.w.runs(0, &task));
    for page in 0..pool_pages(LOG2) {
        assert!(s.w.touch(0, POOL_VA + page * PAGE_SIZE));
        let seen = s.w.remembered(0, POOL_VA + page * PAGE_SIZE);
        assert_eq!(seen.map(|seen| seen.write), Some(page < EventControl::PAGES), "page {page}");
    }
    assert!(!s.w.touch(0, POOL_VA + pool_pages(LOG2) * PAGE_SIZE));
    s.delete(reader.cap);
    assert!(s.w.runs(0, &task) && !s.w.touch(0, POOL_VA), "it went with the pool");
    let again = s.w.make(0, ObjType::EventPool, 6);
    s.w.must(0, Op::PoolBind, &[again.arg(), process.process.arg(), task.cap.arg(), POOL_VA, 1]);
    assert!(s.w.runs(0, &task) && s.w.touch(0, POOL_VA));
}

#[test]
fn a_pool_is_one_processs() {
    let mut s = Scene::new(2);
    let (process, task, _, reader) = receiver(&mut s, 0);
    let other = s.w.process();
    let stranger = s.w.start(other, 0, 10);
    let spare = s.w.make(0, ObjType::EventPool, 6);
    let bind = |s: &mut Scene, pool: Cap, of: Proc, task: &Tcb, va: u64, bits: u64| {
        s.w.ask(0, Op::PoolBind, &[pool.arg(), of.process.arg(), task.cap.arg(), va, bits]).map(|_| ())
    };
    let va = POOL_VA + (1 << 20);
    assert_eq!(bind(&mut s, spare, process, &task, va, 1), Err((Error::InUse, 0)), "it has one");
    assert_eq!(bind(&mut s, reader.cap, other, &stranger, va, 1), Err((Error::InUse, 0)), "it is taken");
    assert_eq!(bind(&mut s, spare, other, &task, va, 1), Err((Error::BadState, 0)), "another's task");
    assert_eq!(bind(&mut s, spare, other, &stranger, va, 0), Err((Error::BadArgument, 4)));
    assert_eq!(bind(&mut s, spare, other, &stranger, va + 8, 1).map_err(|(e, _)| e), Err(Error::BadAddress));
    let frame = s.w.make(0, ObjType::Frame, 12);
    s.w.must(0, Op::Map, &[other.vspace.arg(), frame.arg(), va + 2 * PAGE_SIZE, 1]);
    assert_eq!(bind(&mut s, spare, other, &stranger, va, 1), Err((Error::Mapped, va + 2 * PAGE_SIZE)));
    assert!(s.w.runs(0, &stranger) && !s.w.touch(0, va), "nothing of it stays");
    s.w.must(0, Op::Unmap, &[other.vspace.arg(), frame.arg(), va + 2 * PAGE_SIZE]);
    assert_eq!(bind(&mut s, spare, other, &stranger, va, 1), Ok(()));
}

#[test]
fn pools_end_with_their_memory() {
    let mut s = Scene::new(2);
    let memory = s.w.make(0, ObjType::Untyped, 19);
    let process = s.w.process();
    let task = s.w.start(process, 1, 10);
    let pool = s.w.make_of(0, memory, ObjType::EventPool, 8);
    s.w.must(0, Op::PoolBind, &[pool.arg(), process.process.arg(), task.cap.arg(), POOL_VA, 1]);
    s.w.run();
    assert!(s.w.runs(1, &task) && s.w.touch(1, POOL_VA));
    s.w.must(0, Op::CapRevoke, &[at(memory)]);
    s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    assert!(!s.w.touch(1, POOL_VA), "nobody sees memory that is somebody else's");
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12);
    s.w.must(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), POOL_VA, 1]);
    let pool = s.w.make_of(0, memory, ObjType::EventPool, 8);
    s.w.must(0, Op::PoolBind, &[pool.arg(), process.process.arg(), task.cap.arg(), POOL_VA, 1]);
    s.delete(process.process);
    let left = s.w.make(0, ObjType::EventPool, 6);
    let refused = s.w.ask(0, Op::PoolBind, &[left.arg(), INIT.process.arg(), task.cap.arg(), POOL_VA, 1]);
    assert_eq!(refused.map(|_| ()), Err((Error::BadState, 0)), "a dead task");
}
