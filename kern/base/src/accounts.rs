//! Accounts of CPU time: the [`Room`] for budgets that SchedControls have.
//!
//! A SchedControl without an account may give budgets without limit, and give CPU time without a
//! budget. Only such a SchedControl opens an account, for one that it extends. Those that are
//! extended by that one have the same account. So accounts are few, and programs that did not get
//! such authority cannot use them up.
//!
//! An account is free again when no SchedControl has it, and nothing of its room is used. A
//! SchedContext keeps its share when the SchedControl that set it has ended.
//!
//! # Invariants
//! - What is used of a room is the sum of the shares of the SchedContexts that have the account.
//! - Who takes a share holds the room's lock, and has seen there that its SchedControl is not
//!   dying. So the account still has that SchedControl, and is not another one by now.
//!
//! # Memory ordering
//! The count of SchedControls goes from 0 to 1 by an acquiring exchange, and down by a releasing
//! one. Everything else is under the room's lock.

use core::num::NonZeroU16;

use sched::{Room, Share};
use smp::lock::{Guard, Holder, Lock};
use smp::sync::AtomicU32;
use smp::sync::Ordering::{Acquire, Relaxed, Release};

use crate::limits::ACCOUNTS;

/// Names an account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountId(NonZeroU16);

impl AccountId {
    /// Returns the number under which an account is stored, if this is one; 0 is none.
    pub(crate) fn from_raw(raw: u64) -> Option<AccountId> {
        u16::try_from(raw).ok().and_then(NonZeroU16::new).map(AccountId)
    }

    /// Returns the number; not 0.
    pub fn raw(self) -> u64 {
        self.0.get().into()
    }
}

struct Account {
    /// The SchedControls that have it; 0: it is free, if its room is.
    controls: AtomicU32,
    room: Lock<Room>,
}

/// All accounts.
pub struct Accounts([Account; ACCOUNTS]);

impl Default for Accounts {
    /// Makes accounts that nobody has.
    fn default() -> Self {
        let free = || Account { controls: AtomicU32::new(0), room: Lock::new(Room::default()) };
        Accounts(core::array::from_fn(|_| free()))
    }
}

impl Accounts {
    fn account(&self, id: AccountId) -> &Account {
        let index = usize::from(id.0.get()) - 1;
        // Only `open` makes ids.
        &self.0[index % ACCOUNTS]
    }

    /// Opens an account for one SchedControl at the time `now`. Returns nothing if all are in use.
    pub fn open(&self, size: Share, by: impl Into<Holder> + Copy, now: u64) -> Option<AccountId> {
        let is_opened = |account: &Account| {
            if account.controls.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
                return false;
            }
            let mut room = account.room.lock(by, &"an account of CPU time");
            if room.is_unused(now) {
                *room = Room::new(size);
                return true;
            }
            drop(room);
            account.controls.fetch_sub(1, Release);
            false
        };
        let index = self.0.iter().position(is_opened)?;
        AccountId::from_raw(index as u64 + 1)
    }

    /// Counts one more SchedControl that has an account. The caller has one that does.
    pub fn join(&self, id: AccountId) {
        self.account(id).controls.fetch_add(1, Relaxed);
    }

    /// Counts one SchedControl less that has an account.
    pub fn leave(&self, id: AccountId) {
        self.account(id).controls.fetch_sub(1, Release);
    }

    /// Returns the number of each account, how many SchedControls have it, and its room: for
    /// surveys.
    pub fn survey<'a>(&'a self, by: impl Into<Holder> + Copy + 'a) -> impl Iterator<Item = (u64, u32, Room)> {
        (1..).zip(&self.0).map(move |(number, account)| {
            (number, account.controls.load(Relaxed), *account.room.lock(by, &"an account of CPU time"))
        })
    }

    /// Locks the room of an account.
    pub fn room(&self, id: AccountId, by: impl Into<Holder>) -> Guard<'_, Room> {
        self.account(id).room.lock(by, &"an account of CPU time")
    }
}
