//! Locks for state that several CPUs change. A lock is held for a short time, with interrupts off,
//! and never while its holder waits for anything except another lock.
//!
//! The lock records its holder. A CPU that has spun 2^32 times stops the machine and prints what is
//! known about the object: a lock that is never released is a fault of the kernel, and endless
//! spinning would hide it.
//!
//! # Turns
//! CPUs that find a lock taken get it in the order in which they came. A CPU that comes while
//! others wait, waits behind them, even if the lock is free at that moment. So a CPU waits for at
//! most two turns of each other CPU, however often these take the lock: one of a CPU that came
//! before it, and one of the same CPU that saw nobody wait and was faster.
//!
//! A CPU may leave the line of a [`LeftLock`] ([`Lock::lock_or_leave`]): it marks its turn as one
//! to pass over. Turns that are 16 or more away cannot be marked: such a CPU waits on until its
//! turn is nearer. A CPU that comes again stands at the end of the line.
//!
//! In host tests each lock has a point before it is taken, one after that, and one after its
//! release. A test that stops a CPU in the middle lets it continue when another CPU needs its lock
//! (`crate::host_test::contended`).
//!
//! # Memory ordering
//! Taking the lock is an acquire, releasing it a release: a holder sees all that earlier holders
//! wrote.

use core::cell::UnsafeCell;
use core::fmt::{self, Debug};
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
// On the machine not the words of `sync`: a lock has points of its own.
#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, AtomicU64};

use crate::chaos::{Point, point_at};
use crate::cpu::{CpuId, Pin};
use crate::percpu::{self, Here};
use crate::sync::const_unless_loom;

/// Rounds of a waiting CPU after which the lock will never be released.
pub const PATIENCE: u64 = 1 << 32;

/// The holder of a lock, as in a lock word: never 0, and its lowest bit ([`HELD`]) is set.
///
/// It is a CPU's number, or where the number stands in the CPU's block. Kernel code has the latter
/// at hand, so naming the holder costs nothing beside taking the lock.
#[derive(Clone, Copy)]
pub struct Holder(u64);

/// In the word of a lock that is held.
pub const HELD: u64 = 1;

/// Words below are numbers of CPUs.
const NUMBERS_END: u64 = (crate::cpu::MAX_CPUS as u64) << 1;

impl Holder {
    /// Returns the holder for the CPU whose number, in the CPU's block, is `id`.
    #[inline(always)]
    pub(crate) fn in_block(id: &CpuId) -> Holder {
        // The lowest bit is clear: a CPU's number is aligned. As a step of the address, it is one
        // instruction with it.
        Holder(core::ptr::from_ref(id).wrapping_byte_add(HELD as usize) as u64)
    }

    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Returns the CPU that the holder names, if there is one. The word may have any value: nothing
    /// is read at its address.
    fn cpu(self) -> Option<CpuId> {
        if self.0 < NUMBERS_END { CpuId::new((self.0 >> 1) as usize) } else { percpu::cpu_at(self.0 & !HELD) }
    }
}

impl Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cpu() {
            Some(cpu) => write!(f, "{cpu:?}"),
            None => write!(f, "the CPU whose number stands at {:#x}", self.0 & !HELD),
        }
    }
}

impl From<Pin<'_>> for Holder {
    #[inline(always)]
    fn from(pin: Pin<'_>) -> Holder {
        Holder(u64::from(pin.cpu().raw()) << 1 | HELD)
    }
}

impl<O, S, P> From<Here<'_, O, S, P>> for Holder {
    #[inline(always)]
    fn from(here: Here<'_, O, S, P>) -> Holder {
        here.holder()
    }
}

/// One turn, in `line`. CPUs are fewer.
const TURN: u32 = 1 << 16;
const _: () = assert!(crate::cpu::MAX_CPUS < TURN as usize);

/// Turns that can be marked: the present one, and those after it.
const MARKS: u32 = TURN.ilog2();

/// Returns the mark of a turn in [`Lock::turn`].
const fn mark(turn: u32) -> u32 {
    1 << (turn % MARKS)
}

/// A value that one CPU at a time has. A CPU that waits for it may leave if `LEFT` is set: all who
/// wait look for turns that are to be passed over then.
pub struct Lock<T, const LEFT: bool = false> {
    /// 0, or the holder ([`Holder`]).
    word: AtomicU64,
    /// How many CPUs wait, in the low half; and above, the turn of the next one that comes.
    line: AtomicU32,
    /// The marks of turns whose CPUs have left, in the low half; and above, whose turn it is.
    turn: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, of which there is one at a time: the exchange
// that makes it succeeds only where the word is 0, and only the guard's end makes it 0. The value
// moves from CPU to CPU, hence `Send`.
unsafe impl<T: Send, const LEFT: bool> Sync for Lock<T, LEFT> {}

/// The value, for as long as the lock is held: on the CPU that took the lock, and there alone.
pub struct Guard<'a, T, const LEFT: bool = false>(&'a Lock<T, LEFT>, PhantomData<*const ()>);

/// A lock whose line a CPU may leave, and its guard.
pub type LeftLock<T> = Lock<T, true>;
pub type LeftGuard<'a, T> = Guard<'a, T, true>;

impl<T, const LEFT: bool> Lock<T, LEFT> {
    const_unless_loom! {
        fn free(value: T) -> Lock<T, LEFT> {
            let (line, turn) = (AtomicU32::new(0), AtomicU32::new(0));
            Lock { word: AtomicU64::new(0), line, turn, value: UnsafeCell::new(value) }
        }
    }
}

impl<T> Lock<T> {
    const_unless_loom! {
        pub fn new(value: T) -> Lock<T> {
            Lock::free(value)
        }
    }
}

impl<T> LeftLock<T> {
    const_unless_loom! {
        pub fn with_exit(value: T) -> LeftLock<T> {
            Lock::free(value)
        }
    }

    /// Takes the lock as [`Lock::lock`] does, but leaves the line when `leaves` says so, which is
    /// asked after each round of waiting with their number. Returns `None` then.
    #[inline(always)]
    pub fn lock_or_leave(
        &self,
        by: impl Into<Holder>,
        of: &impl Debug,
        leaves: impl Fn(u64) -> bool,
    ) -> Option<LeftGuard<'_, T>> {
        let by = by.into();
        point_at(&raw const self.word, Point::BeforeLock);
        if (self.is_awaited() || !self.take(by)) && !self.wait_or_leave(by, of, leaves) {
            return None;
        }
        point_at(&raw const self.word, Point::Locked);
        Some(Guard(self, PhantomData))
    }

    /// [`Lock::wait`] out of line: code that may return early saves registers anyway.
    #[cold]
    #[inline(never)]
    fn wait_or_leave(&self, by: Holder, of: &impl Debug, leaves: impl Fn(u64) -> bool) -> bool {
        self.wait(by, of, leaves)
    }
}

impl<T, const LEFT: bool> Lock<T, LEFT> {
    /// Waits for this CPU's turn, and takes the lock. `of` is the object that the lock belongs to,
    /// for the report about a lock that is never free.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self, by: impl Into<Holder>, of: &impl Debug) -> Guard<'_, T, LEFT> {
        let by = by.into();
        point_at(&raw const self.word, Point::BeforeLock);
        if self.is_awaited() || !self.take(by) {
            self.wait(by, of, |_| false);
        }
        point_at(&raw const self.word, Point::Locked);
        Guard(self, PhantomData)
    }

    /// Takes the lock when it is this CPU's turn. Returns `false` if it has left the line.
    ///
    /// Inline, and without a call that comes back: a function that takes a lock is to save no
    /// registers for it.
    #[inline(always)]
    #[track_caller]
    fn wait(&self, by: Holder, of: &impl Debug, leaves: impl Fn(u64) -> bool) -> bool {
        let turn = self.line.fetch_add(TURN | 1, Relaxed) / TURN;
        let mut rounds = 0;
        let may_take = || self.turn.load(Relaxed) / TURN == turn && !self.is_locked();
        let has_lock = loop {
            if may_take() && self.take(by) {
                self.turn.fetch_add(TURN, Relaxed);
                break true;
            }
            if leaves(rounds) && self.leave(turn) {
                break false;
            }
            if LEFT && self.pass_over() {
                continue;
            }
            waiting(&|| may_take() || LEFT && self.is_left());
            rounds += 1;
            if rounds == PATIENCE {
                never_free(by, self.word.load(Relaxed), of);
            }
        };
        self.line.fetch_sub(1, Relaxed);
        has_lock
    }

    /// Marks a turn as one to pass over. Returns `false` if it is too far away to be marked.
    fn leave(&self, turn: u32) -> bool {
        let is_near = |word: u32| (TURN + turn - word / TURN) % TURN < MARKS;
        let marked = |word| is_near(word).then_some(word | mark(turn));
        self.turn.fetch_update(Relaxed, Relaxed, marked).is_ok()
    }

    /// Passes over the present turn if it is marked: whichever CPU waits does it. Returns whether
    /// it was. The turn behind it may be marked, too.
    #[inline(always)]
    fn pass_over(&self) -> bool {
        let word = self.turn.load(Relaxed);
        let its = mark(word / TURN);
        let is_left = word & its != 0;
        if is_left {
            let _ = self.turn.compare_exchange(word, (word - its).wrapping_add(TURN), Relaxed, Relaxed);
        }
        is_left
    }

    /// Returns whether the CPU whose turn it is has left.
    fn is_left(&self) -> bool {
        let word = self.turn.load(Relaxed);
        word & mark(word / TURN) != 0
    }

    /// Returns whether a CPU waits for the lock.
    #[inline(always)]
    pub fn is_awaited(&self) -> bool {
        !self.line.load(Relaxed).is_multiple_of(TURN)
    }

    /// Takes the lock if it is free: for surveys, which must not wait.
    pub fn try_lock(&self, by: impl Into<Holder>) -> Option<Guard<'_, T, LEFT>> {
        // A guard only where the lock was taken: the end of one unlocks.
        self.take(by.into()).then(|| Guard(self, PhantomData))
    }

    /// Returns whether a CPU holds the lock now.
    pub fn is_locked(&self) -> bool {
        self.word.load(Relaxed) != 0
    }

    /// Returns the value without the lock. Requires: no CPU changes it, as `crate::host_test` and
    /// [`crate::standstill`] ensure.
    pub(crate) fn value(&self) -> &T {
        // SAFETY: only a guard gives an exclusive reference; the callers ensure that no other CPU
        // has one.
        unsafe { &*self.value.get() }
    }

    #[inline(always)]
    fn take(&self, by: Holder) -> bool {
        self.word.compare_exchange(0, by.0, Acquire, Relaxed).is_ok()
    }
}

impl<T, const LEFT: bool> Guard<'_, T, LEFT> {
    /// Returns whether another CPU waits for the lock. Then a holder with much to do releases it,
    /// and waits for its next turn.
    #[inline(always)]
    pub fn is_awaited(&self) -> bool {
        self.0.is_awaited()
    }
}

impl<T, const LEFT: bool> Deref for Guard<'_, T, LEFT> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for as long as the guard lives, and this is its only guard.
        unsafe { &*self.0.value.get() }
    }
}

impl<T, const LEFT: bool> DerefMut for Guard<'_, T, LEFT> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; the guard is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T, const LEFT: bool> Drop for Guard<'_, T, LEFT> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.word.store(0, Release);
        point_at(&raw const self.0.word, Point::Unlocked);
    }
}

/// Takes one turn of a CPU that waits for a lock. In host tests the stopped CPU continues until the
/// lock is free.
#[inline(always)]
pub fn waiting(_is_free: &dyn Fn() -> bool) {
    #[cfg(all(feature = "host-test", not(loom)))]
    crate::host_test::contended(_is_free);
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(any(feature = "host-test", loom)))]
    core::hint::spin_loop();
}

/// Stops the machine: a CPU has waited for a lock for [`PATIENCE`] turns. `held_by` is the lock's
/// word, or the part of it that names the holder.
///
/// Computes the report here, because code before the call is in every function that takes a lock.
#[cold]
#[inline(never)]
pub fn never_free(who: Holder, held_by: u64, of: &dyn Debug) -> ! {
    // A lock that was just released names no holder: then the lowest CPU.
    let holder = Holder(held_by | HELD);
    panic!("{who:?} waits for a lock that nobody lets go of: {of:?}, held by {holder:?}");
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::door::Table;
    use crate::host_test::pin;
    use crate::percpu::PerCpu;

    #[test]
    fn one_at_a_time_has_the_value() {
        let lock = Lock::new(1);
        {
            let mut guard = lock.lock(pin(0), &"a test");
            *guard += 1;
            assert!(lock.try_lock(pin(1)).is_none());
            assert!(lock.is_locked(), "who comes in vain lets it be");
        }
        assert!(!lock.is_locked());
        assert_eq!(*lock.lock(pin(1), &"a test"), 2);
    }

    #[test]
    fn marked_turns_are_passed_over() {
        let lock = LeftLock::with_exit(());
        let guard = lock.lock(pin(0), &"a test");
        let leave = |at| lock.lock_or_leave(pin(at), &"a test", |rounds| rounds == 0).is_none();
        assert!(leave(1) && leave(2));
        assert_eq!(lock.turn.load(Relaxed), mark(0) | mark(1));
        assert!(lock.leave(MARKS - 1), "the last turn that can be marked");
        assert!(!lock.leave(MARKS), "it would be mistaken for the first");
        // A CPU that waits looks again while the present turn is left.
        assert_eq!([(); 3].map(|()| (lock.is_left(), lock.pass_over()).0), [true, true, false]);
        assert_eq!(lock.turn.load(Relaxed), mark(MARKS - 1) | (2 * TURN));
        lock.turn.store(((TURN - 1) * TURN) | mark(TURN - 1), Relaxed);
        lock.pass_over();
        assert_eq!(lock.turn.load(Relaxed), 0, "turns begin again");
        assert!(lock.leave(0));
        drop(guard);
        assert!(!lock.is_awaited());
    }

    /// Makes a block for each of three CPUs.
    fn blocks() -> crate::percpu::All<(), u64, u64> {
        let blocks: std::vec::Vec<_> =
            (0..3).map(|n| PerCpu::new(crate::host_test::cpu(n), (), 0, Table::empty())).collect();
        crate::host_test::all_cpus(Table::from_static(std::boxed::Box::leak(blocks.into_boxed_slice())))
    }

    #[test]
    fn a_holder_that_is_named_by_its_block_is_reported_by_its_number() {
        let all = blocks();
        let named = |n: usize| all.block(pin(n), crate::host_test::cpu(n)).here(pin(n)).map(Holder::from);
        let said = [0, 1, 2].map(|n| std::format!("{:?}", named(n).unwrap_or(Holder(HELD))));
        assert_eq!(said, ["cpu0", "cpu1", "cpu2"]);
        let Some(Holder(word)) = named(2) else { panic!("it has a block") };
        for stray in [word + 8, word + 2 * (word - named(1).map_or(0, Holder::word)), 0xdead_0001] {
            let said = std::format!("{:?}", Holder(stray));
            assert_eq!(said, std::format!("the CPU whose number stands at {:#x}", stray & !HELD));
        }
    }

    #[test]
    #[should_panic = "cpu1 waits for a lock that nobody lets go of: \"a test\", held by cpu3"]
    fn a_lock_that_is_never_free_says_whose_it_is() {
        let lock = Lock::new(());
        let _guard = lock.lock(pin(3), &"a test");
        never_free(pin(1).into(), lock.word.load(Relaxed), &"a test");
    }
}
