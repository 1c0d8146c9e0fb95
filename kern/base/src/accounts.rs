//! Accounts of CPU time: the [`Room`] for budgets that SchedControls have.
//!
//! A SchedControl without an account may give budgets without limit, and give CPU time without a
//! budget. Only such a SchedControl opens an account, for one that it extends. Those that are
//! extended by that one have the same account. So accounts are few, and programs that did not get
//! such authority cannot use them up.
//!
//! An account is free again when no SchedControl has it, and nothing of its room is used. A
//! SchedContext keeps its share when the SchedControl that set it has ended. What is owed then is
//! forgotten: nobody is left who could take it.
//!
//! # Invariants
//! - What is used of a room is the sum of the shares of the SchedContexts that have the account.
//! - Who takes a share holds the room's lock, and has seen there that its SchedControl is not
//!   dying. So the account still has that SchedControl, and is not another one by now.
//! - An account has a user for each SchedControl that counts in it, and one more while something of
//!   its room is used.
//!
//! # Memory ordering
//! The count of users goes from 0 to 1 by an acquiring exchange, and down by a releasing one. So
//! the CPU that opens an account has it for itself. The room is under its lock.

use core::num::NonZeroU16;

use sched::{Room, Share};
use smp::lock::{Guard, Holder, Lock};
use smp::sync::AtomicU32;
use smp::sync::Ordering::{Acquire, Relaxed, Release, SeqCst};

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
    /// 0: it is free.
    users: AtomicU32,
    room: Lock<Room>,
}

/// All accounts.
pub struct Accounts([Account; ACCOUNTS]);

impl Accounts {
    /// Makes accounts that nobody has. They are too large for a kernel stack.
    pub const fn new() -> Accounts {
        Accounts([const { Account { users: AtomicU32::new(0), room: Lock::new(Room::new(0)) } }; ACCOUNTS])
    }

    fn account(&self, id: AccountId) -> &Account {
        let index = usize::from(id.0.get()) - 1;
        // Only `open` makes ids.
        &self.0[index % ACCOUNTS]
    }

    /// Opens an account for one SchedControl. Returns nothing if all are in use.
    pub fn open(&self, size: Share, by: impl Into<Holder>) -> Option<AccountId> {
        let is_opened = |account: &Account| {
            account.users.load(Relaxed) == 0 && account.users.compare_exchange(0, 1, Acquire, Relaxed).is_ok()
        };
        let index = self.0.iter().position(is_opened)?;
        let id = AccountId::from_raw(index as u64 + 1)?;
        *self.room(id, by) = Room::new(size);
        Some(id)
    }

    /// Counts one more SchedControl that has an account. The caller checks afterwards that another
    /// one, which it has the account from, is not dying.
    pub fn join(&self, id: AccountId) {
        self.account(id).users.fetch_add(1, SeqCst);
    }

    /// Counts one SchedControl less that has an account. Under the room's lock: who has taken a
    /// share there before is counted, and who comes later sees that the SchedControl is dying.
    pub fn leave(&self, id: AccountId, by: impl Into<Holder>) {
        let _room = self.room(id, by);
        self.account(id).users.fetch_sub(1, SeqCst);
    }

    /// Returns how large the room of an account is.
    pub fn size(&self, id: AccountId, by: impl Into<Holder>) -> Share {
        self.room(id, by).size()
    }

    /// Changes what is used of the room of an account, under its lock.
    pub fn change<R>(&self, id: AccountId, by: impl Into<Holder>, change: impl FnOnce(&mut Room) -> R) -> R {
        let users = &self.account(id).users;
        let mut room = self.room(id, by);
        let was_used = room.used() != 0;
        let result = change(&mut room);
        match (was_used, room.used() != 0) {
            (false, true) => _ = users.fetch_add(1, Relaxed),
            (true, false) => _ = users.fetch_sub(1, Release),
            _ => {}
        }
        result
    }

    fn room(&self, id: AccountId, by: impl Into<Holder>) -> Guard<'_, Room> {
        self.account(id).room.lock(by, &"an account of CPU time")
    }

    /// Returns the number of each account, how many users it has, and its room: for surveys.
    pub fn survey<'a>(&'a self, by: impl Into<Holder> + Copy + 'a) -> impl Iterator<Item = (u64, u32, Room)> {
        (1..).zip(&self.0).map(move |(number, account)| {
            (number, account.users.load(Relaxed), *account.room.lock(by, &"an account of CPU time"))
        })
    }
}
