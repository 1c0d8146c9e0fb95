//! Accounts of CPU time: the [`Room`] for budgets that SchedControls have.
//!
//! A SchedControl without an account may give budgets without limit, and give CPU time without a
//! budget. Only such a SchedControl opens an account, for one that it extends. Those that are
//! extended by that one have the same account. So accounts are few, and programs that did not get
//! such authority cannot use them up.
//!
//! An account is an [entry](smp::entries) whose users are SchedControls, and which is in use while
//! something of its room is. So it is free again when no SchedControl has it, and nothing of its
//! room is used. A SchedContext keeps its share when the SchedControl that set it has ended. What
//! is owed then is forgotten: nobody is left who could take it.
//!
//! # Invariants
//! - What is used of a room is the sum of the shares of the SchedContexts that have the account.
//! - Who takes a share holds the room's lock, and has seen there that its SchedControl is not
//!   dying. So the account still has that SchedControl, and is not another one by now.

use core::num::NonZeroU16;

use sched::{Room, Share};
use smp::entries::{Entries, Entry, Value};
use smp::lock::Holder;

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

    /// Returns the account's place in the table.
    fn place(self) -> usize {
        usize::from(self.0.get()) - 1
    }
}

/// The room of an account.
#[derive(Clone, Copy)]
struct Account(Room);

impl Value for Account {
    fn is_used(&self) -> bool {
        self.0.used() != 0
    }
}

/// All accounts.
pub struct Accounts(Entries<Account, ACCOUNTS>);

impl Accounts {
    /// Makes accounts that nobody has. They are too large for a kernel stack.
    pub const fn new() -> Accounts {
        let entries = [const { Entry::new(Account(Room::new(0))) }; ACCOUNTS];
        Accounts(Entries::new(entries, "an account of CPU time"))
    }

    /// Opens an account for one SchedControl. Returns nothing if all are in use.
    pub fn open(&self, size: Share, by: impl Into<Holder>) -> Option<AccountId> {
        let place = self.0.open(Account(Room::new(size)), by)?;
        AccountId::from_raw(place as u64 + 1)
    }

    /// Counts one more SchedControl, which has the account from another one. Returns whether it is
    /// counted: not if the other one is dying.
    #[must_use]
    pub fn join(&self, id: AccountId, by: impl Into<Holder>, is_dying: impl FnOnce() -> bool) -> bool {
        self.0.join(id.place(), by, is_dying)
    }

    /// Counts one SchedControl less that has an account.
    pub fn leave(&self, id: AccountId, by: impl Into<Holder>) {
        self.0.leave(id.place(), by);
    }

    /// Returns how large the room of an account is.
    pub fn size(&self, id: AccountId, by: impl Into<Holder>) -> Share {
        self.0.look(id.place(), by, |account| account.0.size())
    }

    /// Changes what is used of the room of an account, under its lock.
    pub fn change<R>(&self, id: AccountId, by: impl Into<Holder>, change: impl FnOnce(&mut Room) -> R) -> R {
        self.0.change(id.place(), by, |account| change(&mut account.0))
    }

    /// Returns the number of each account, how many users it has, and its room: for surveys.
    pub fn survey<'a>(&'a self, by: impl Into<Holder> + Copy + 'a) -> impl Iterator<Item = (u64, u32, Room)> {
        (1..).zip(self.0.survey(by)).map(|(number, (users, account))| (number, users, account.0))
    }
}
