//! Locks that the workers of all spaces share. Workers are killed while they have locks, wait for
//! them or pass them on.
//!
//! The board says for each lock which worker works under it. A worker that takes a lock must find
//! no other there, unless the lock's last owner has died and the worker has been told so.

use core::sync::atomic::Ordering::SeqCst;

use abi::{Error, PAGE_SIZE};
use guest_tests::run::Run as _;
use user_rt::arch::memory;
use user_rt::cap::{Frame, Group, Handle};
use user_rt::ipc::Patience;
use user_rt::layout::slot;
use user_rt::locks::{Held, LockPage, User};
use user_rt::{arch, boot, utcb};

use crate::board::{LOCKS, LOCKS_VA, Of, Total};
use crate::cast::LOCKS_SLOT;
use crate::handlers::worker_index;
use crate::worker::Worker;

/// Locks that a worker takes one inside the other, and operations that it makes under each.
const DEEPEST: u32 = 2;
const MOST_UNDER: u64 = 4;
/// Most ticks of a short wait, and the seconds after which a worker is stuck.
const SHORT: u64 = 400_000;
const LONG_SECONDS: u64 = 30;

impl Worker {
    /// Takes a lock, makes some operations, and gives the lock back.
    pub fn lock(&mut self) {
        if self.locks == DEEPEST {
            return;
        }
        // SAFETY: the director has mapped the page there in all processes, for good, and all access
        // it as atomics.
        let words = unsafe { memory::mapped_words(LOCKS_VA, PAGE_SIZE as usize / 8) };
        let page = LockPage::new(&Group::at(slot::GROUPS), &Frame::at(LOCKS_SLOT), words);
        let index = worker_index(self.board.get(Total::Cpus) as u32, self.me);
        let user = User::new(utcb::current().task_id(), index);
        let number = self.random.below(LOCKS as u64) as usize;
        let is_short = self.random.chance(30);
        let ticks = if is_short { self.random.below(SHORT) } else { LONG_SECONDS * boot::facts().tsc_hz };
        match page.mutex(number as u32).lock_within(user, Patience::Until(arch::now() + ticks)) {
            Ok(held) => {
                self.enter(number, &held);
                self.locks += 1;
                for _ in 0..=self.random.below(MOST_UNDER) {
                    self.operate();
                }
                self.locks -= 1;
                self.leave(number);
                drop(held);
            }
            // The worker has a lock, and that one's next owner may have this one.
            Err(refusal) if refusal.error == Error::Deadlock && self.locks > 0 => {}
            Err(refusal) if refusal.error == Error::Timeout && is_short => {}
            Err(refusal) if refusal.error == Error::Timeout => {
                self.wrong(Total::Stuck, format_args!("waiting for lock {number}: {refusal}"));
            }
            Err(refusal) => self.wrong(Total::Refused, format_args!("taking lock {number}: {refusal}")),
        }
    }

    /// Returns the board's name of this worker, which no successor has.
    fn holder(&self) -> u64 {
        (self.me as u64 + 1) | self.era << 8
    }

    /// Whether the holder with this name has died, or is being killed.
    fn has_died(&self, holder: u64) -> bool {
        let worker = (holder as u8 - 1) as usize;
        self.board.workers[worker].get(Of::Life) != 2 * (holder >> 8)
    }

    fn enter(&self, number: usize, held: &Held<'_>) {
        let before = self.board.holders[number].swap(self.holder(), SeqCst);
        self.board.add(Total::Locked, 1);
        self.board.add(Total::Inherited, u64::from(held.is_abandoned()));
        if before != 0 && !(held.is_abandoned() && self.has_died(before)) {
            self.two_have_it(number, before);
        }
    }

    fn leave(&self, number: usize) {
        let holder = &self.board.holders[number];
        if let Err(other) = holder.compare_exchange(self.holder(), 0, SeqCst, SeqCst) {
            self.two_have_it(number, other);
        }
    }

    fn two_have_it(&self, number: usize, other: u64) {
        self.wrong(Total::Doubled, format_args!("lock {number} also has the owner {other:#x}"));
    }
}
