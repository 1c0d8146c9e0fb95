//! Events from several CPUs: all arrive complete, once, in each sender's order; a waiting reader
//! wakes; senders that wait for room get it.

use crate::common::model;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;
use smp::events::{Full, Reserved, Shown, Turn};

/// A pool of a few cells. An event is one cell, whose word is not 0.
struct Pool {
    reserved: Reserved,
    head: AtomicU64,
    armed: AtomicU64,
    waiting: AtomicU64,
    stamps: Vec<AtomicU64>,
    cells: Vec<AtomicU64>,
    /// Bits of the reader's Notification.
    bits: AtomicU64,
}

impl Shown for Pool {
    fn cells(&self) -> u64 {
        self.cells.len() as u64
    }
    fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }
    fn stamp(&self, position: u64) {
        let at = (position % self.cells()) as usize;
        self.stamps[at].swap(position / self.cells() + 1, Ordering::AcqRel);
    }
    fn disarm(&self) -> bool {
        self.armed.load(Ordering::Relaxed) != 0 && self.armed.swap(0, Ordering::Relaxed) != 0
    }
    fn show_waiting(&self, waiting: bool) {
        self.waiting.swap(u64::from(waiting), Ordering::AcqRel);
    }
}

impl Pool {
    fn new(cells: usize) -> Arc<Pool> {
        let words = || (0..cells).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Pool {
            reserved: Reserved::default(),
            head: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            stamps: words(),
            cells: words(),
            bits: AtomicU64::new(0),
        })
    }

    fn send(&self, value: u64, turn: Turn) -> Result<(), Full> {
        let at = self.reserved.reserve(self, 1, turn)?;
        self.cells[(at % self.cells()) as usize].store(value, Ordering::Relaxed);
        if self.reserved.publish(self, at) {
            self.bits.fetch_or(1, Ordering::AcqRel);
        }
        Ok(())
    }

    fn read(&self, at: u64) -> Option<u64> {
        let cell = (at % self.cells()) as usize;
        let there = self.stamps[cell].load(Ordering::Acquire) == at / self.cells() + 1;
        there.then(|| self.cells[cell].load(Ordering::Relaxed))
    }

    /// What the reader does when it has read the event before `at`: whether it calls for those who
    /// wait.
    fn advance(&self, at: u64) -> bool {
        self.head.store(at, Ordering::Release);
        fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) != 0
    }
}

#[test]
fn events_come_whole_and_once() {
    model(3, || {
        let pool = Pool::new(4);
        let senders = [1u64, 2].map(|who| {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.send(who << 8, Turn::Any).and_then(|()| pool.send(who << 8 | 1, Turn::Any))
            })
        });
        let mut got = Vec::new();
        for at in 0..2 {
            if let Some(value) = pool.read(at) {
                assert_ne!(value, 0, "an event before it was written");
                got.push(value);
            } else {
                break;
            }
        }
        let first = got.len() as u64;
        for sender in senders {
            assert_eq!(sender.join().unwrap(), Ok(()));
        }
        got.extend((first..4).filter_map(|at| pool.read(at)));
        for who in [1, 2] {
            let own: Vec<u64> = got.iter().copied().filter(|value| value >> 8 == who).collect();
            assert_eq!(own, [who << 8, who << 8 | 1], "in the sender's order");
        }
    });
}

/// Arms, looks again, waits; wakes when an event arrives.
fn wait_for_one(fences: bool) {
    model(3, move || {
        let pool = Pool::new(4);
        let sender = {
            let pool = pool.clone();
            thread::spawn(move || pool.send(7, Turn::Any))
        };
        pool.armed.store(1, Ordering::Relaxed);
        if fences {
            fence(Ordering::SeqCst);
        }
        let seen = pool.read(0);
        assert_eq!(sender.join().unwrap(), Ok(()));
        assert!(seen.is_some() || pool.bits.load(Ordering::Acquire) != 0, "it waits, and nobody tells it");
    });
}

#[test]
fn a_waiting_reader_is_told() {
    wait_for_one(true);
}

#[test]
#[should_panic(expected = "nobody tells it")]
fn a_reader_without_a_fence_may_sleep_for_ever() {
    wait_for_one(false);
}

/// A pool of one cell is full; a sender queues while the reader makes room.
fn make_room(reader_fences: bool) {
    model(3, move || {
        let pool = Pool::new(1);
        assert_eq!(pool.send(1, Turn::Any), Ok(()));
        let home = {
            let pool = pool.clone();
            thread::spawn(move || {
                if pool.send(2, Turn::Any).is_ok() {
                    return true;
                }
                pool.reserved.close(&*pool);
                let sent = pool.send(2, Turn::Waiting).is_ok();
                if sent {
                    pool.reserved.open(&*pool);
                }
                sent
            })
        };
        assert_eq!(pool.read(0), Some(1));
        let called = if reader_fences {
            pool.advance(1)
        } else {
            pool.head.store(1, Ordering::Release);
            pool.waiting.load(Ordering::Relaxed) != 0
        };
        let sent = home.join().unwrap();
        assert!(sent || called, "it waits, and nobody lets it in");
        if !sent {
            assert_eq!(pool.send(3, Turn::Any), Err(Full), "nobody overtakes it");
            assert_eq!(pool.send(2, Turn::Waiting), Ok(()));
            pool.reserved.open(&*pool);
        }
        assert_eq!(pool.read(1), Some(2));
    });
}

#[test]
fn who_waits_for_room_gets_it() {
    make_room(true);
}

#[test]
#[should_panic(expected = "nobody lets it in")]
fn without_the_readers_fence_somebody_waits_for_ever() {
    make_room(false);
}
