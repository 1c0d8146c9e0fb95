//! Entries with users: nobody has an entry that is another one by now, and nothing of an entry is
//! lost that somebody uses.

use std::sync::Arc;

use crate::common::model;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use smp::entries::{Counted, Entries, Entry, Value};
use smp::host_test::pin;
use smp::planted::{Fault, Planted};

/// A value: the number with which the entry was opened, and how much of it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Room {
    of: u32,
    used: u32,
}

impl Value for Room {
    fn is_used(&self) -> bool {
        self.used != 0
    }
}

/// A user of an entry, as the kernel has them: with a mark, and a sign that it is counted.
#[derive(Default)]
struct User {
    is_ending: AtomicBool,
    counted: Counted,
}

impl User {
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }

    /// Ends a user as CPU `at`.
    fn end(&self, entries: &Entries<Room, 1>, at: usize) {
        self.is_ending.swap(true, Ordering::AcqRel);
        self.leave(entries, at);
    }

    fn leave(&self, entries: &Entries<Room, 1>, at: usize) {
        if self.counted.end() {
            entries.leave(0, pin(at));
        }
    }
}

const FIRST: u32 = 1;
const SECOND: u32 = 2;

struct World {
    entries: Entries<Room, 1>,
    /// Has the entry from the beginning.
    first: User,
    /// Has it from the first one.
    joins: User,
}

impl World {
    fn new() -> Arc<World> {
        let entries = Entries::new([Entry::new(Room { of: 0, used: 0 })], "an entry");
        let (first, joins) = (User::default(), User::default());
        assert_eq!(entries.open(Room { of: FIRST, used: 0 }, pin(0)), Some(0));
        assert!(!first.counted.begin(|| first.is_ending()));
        Arc::new(World { entries, first, joins })
    }

    /// Lets the second user join, as CPU `at`. Returns whether it did.
    fn join(&self, at: usize) -> bool {
        if !self.entries.join(0, pin(at), || self.first.is_ending()) {
            return false;
        }
        if self.joins.counted.begin(|| self.joins.is_ending()) {
            self.joins.leave(&self.entries, at);
        }
        true
    }

    /// Opens the entry for another user, as CPU `at`, if it is free.
    fn open(&self, at: usize) -> bool {
        self.entries.open(Room { of: SECOND, used: 0 }, pin(at)).is_some()
    }

    /// Ends the first user on another CPU, and opens the entry for another user then. Returns
    /// whether it was free.
    fn end_first_and_open(self: &Arc<World>) -> thread::JoinHandle<bool> {
        let world = Arc::clone(self);
        thread::spawn(move || {
            world.first.end(&world.entries, 1);
            world.open(1)
        })
    }

    fn state(&self) -> (u32, Room) {
        self.entries.survey(pin(0)).next().unwrap()
    }
}

/// One user joins while the one from which it has the entry ends. Then another user wants it.
fn join_beside_an_end() {
    model(5, || {
        let world = World::new();
        let ends = world.end_first_and_open();
        let joined = world.join(0);
        if joined {
            assert_eq!(world.state().1.of, FIRST, "who has joined has another entry");
        }
        let opened = ends.join().unwrap();
        assert!(!(joined && opened), "who has joined has another entry");
        assert_eq!(world.state().0, u32::from(joined) + u32::from(opened));
    });
}

/// Something of an entry is taken for a user while that one ends. Then another user wants it.
fn use_beside_an_end() {
    model(5, || {
        let world = World::new();
        let ends = world.end_first_and_open();
        let took = world.entries.change(0, pin(0), |room| {
            let may = !world.first.is_ending();
            if may {
                assert_eq!(room.of, FIRST, "taken from another entry");
                room.used += 1;
            }
            may
        });
        let opened = ends.join().unwrap();
        assert!(!(took && opened), "what was taken is lost");
        assert_eq!(world.state().0, u32::from(took) + u32::from(opened));
        if took {
            assert_eq!(world.state().1, Room { of: FIRST, used: 1 });
            world.entries.change(0, pin(0), |room| room.used -= 1);
            assert!(world.open(0), "given back, and free");
        }
    });
}

/// A user ends while it joins.
fn end_beside_a_join() {
    model(5, || {
        let world = World::new();
        let ends = {
            let world = Arc::clone(&world);
            thread::spawn(move || world.joins.end(&world.entries, 1))
        };
        assert!(world.join(0));
        ends.join().unwrap();
        assert_eq!(world.state().0, 1, "one leaves for each that was counted");
    });
}

#[test]
fn who_joins_has_the_same_entry() {
    join_beside_an_end();
}

#[test]
fn what_is_used_stays() {
    use_beside_an_end();
}

#[test]
fn who_ends_leaves_once() {
    end_beside_a_join();
}

#[test]
#[should_panic(expected = "has another entry")]
fn caught_a_join_that_does_not_look() {
    let _planted = Planted::new(Fault::JoinedUnseen);
    join_beside_an_end();
}

#[test]
#[should_panic(expected = "is lost")]
fn caught_a_user_that_leaves_without_the_lock() {
    let _planted = Planted::new(Fault::LeftUnlocked);
    use_beside_an_end();
}

#[test]
#[should_panic(expected = "one leaves for each that was counted")]
fn caught_a_count_that_the_end_does_not_see() {
    let _planted = Planted::new(Fault::CountedUnseen);
    end_beside_a_join();
}
