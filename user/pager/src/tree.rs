//! Accounts as a tree: what one account holds is charged to all accounts of which it is a part.
//!
//! A client can split off a part of its account for another process. The part has limits of its
//! own, none above those of the whole. A charge to the part is also a charge to every account above
//! it. The limits of the parts together may exceed the limit of the whole, which still applies. If
//! it is reached, pages of the parts are evicted, those of the largest holder first. Pins always
//! leave [`FRAMES_MIN`] frames for each account of a tree, so that each can make progress.
//!
//! A part has a number, and no process until the manager admits one ([`Pager::admit`]). The manager
//! also names the account that it expects to own the part. If the number was given to a part of
//! another account meanwhile, the pager refuses. A part ends when the account that split it off
//! closes it, or when that account ends.

use alloc::vec::Vec;

use user_rt::paging::{CLIENTS_MAX, Denial, Limits};

use crate::machine::Machine;
use crate::state::{Account, Pager, Usage};
use crate::{Client, FRAMES_MIN};

/// Accounts of a tree: so nobody takes all numbers.
pub const ACCOUNTS_MAX: u32 = 9;
/// Accounts from the whole to the smallest part: what has to be looked at for each frame.
pub const DEPTH_MAX: usize = 4;

/// Returns whether a client can run with these limits: the frames that one instruction needs are
/// never pinned.
pub(crate) fn are_sound(limits: Limits) -> bool {
    limits.frames.checked_sub(FRAMES_MIN).is_some_and(|most| limits.pinned <= most)
}

impl Account {
    /// Returns how many pages all accounts of the tree may pin, if the tree has `accounts`
    /// accounts.
    fn pins_max(&self, accounts: u32) -> u32 {
        self.limits.pinned.min(self.limits.frames.saturating_sub(FRAMES_MIN * accounts))
    }

    /// Returns whether a tree of accounts could have one account more, and each would have enough
    /// frames.
    fn bears_another(&self) -> bool {
        let accounts = self.accounts + 1;
        accounts * FRAMES_MIN <= self.limits.frames
            && self.all.pinned <= self.limits.frames - accounts * FRAMES_MIN
            && (self.parent.is_some() || accounts <= ACCOUNTS_MAX)
    }

    /// Returns whether the account is a part to which no client was admitted yet.
    fn is_empty_part(&self) -> bool {
        self.parent.is_some() && !self.admitted
    }
}

impl<M: Machine> Pager<M> {
    /// Splits off a part of a client's account, with these limits. Returns the part's number.
    pub fn split(&mut self, client: Client, limits: Limits) -> Result<Client, Denial> {
        let whole = self.living(client)?.limits;
        if !are_sound(limits) {
            return Err(Denial::BadRequest);
        }
        let most =
            [(limits.frames, whole.frames), (limits.pinned, whole.pinned), (limits.pages, whole.pages)];
        let fits = most.iter().all(|(part, whole)| part <= whole);
        let line: Vec<&Account> = self.line(client).collect();
        if !fits || line.len() >= DEPTH_MAX || !line.iter().all(|account| account.bears_another()) {
            return Err(Denial::Limit);
        }
        // A number of which the manager still has something to say is not free.
        let free = |number: &Client| !self.clients.contains_key(number) && !self.buried.contains_key(number);
        let number = (1..=CLIENTS_MAX).rev().find(free).ok_or(Denial::Full)?;
        self.clients.insert(number, Account::new(limits, Some(client)));
        self.each_above(Some(client), |account| account.accounts += 1);
        Ok(number)
    }

    /// Admits a process as the client with the number of a part, which `whole` split off.
    pub fn admit(&mut self, client: Client, whole: Client) -> Result<(), Denial> {
        let part = self.clients.get_mut(&client).ok_or(Denial::NotYou)?;
        if part.parent != Some(whole) || part.admitted {
            return Err(Denial::NotYou);
        }
        part.admitted = true;
        Ok(())
    }

    /// Ends a part that a client split off, and all parts of that part.
    pub fn close(&mut self, client: Client, part: Client) -> Result<(), Denial> {
        self.living(client)?;
        if self.clients.get(&part).is_none_or(|part| part.parent != Some(client)) {
            return Err(Denial::NotYou);
        }
        self.end(part, Denial::Closed);
        self.remove_empty(part);
        Ok(())
    }

    /// Cuts off the parts of an account that ends. They are trees of their own until the manager
    /// forgets them; parts without an admitted client are removed. Returns the remaining parts.
    pub(crate) fn cut_off(&mut self, whole: Client) -> Vec<Client> {
        let mut left = Vec::new();
        for part in self.parts_of(whole) {
            self.remove_empty(part);
            let Some(account) = self.clients.get_mut(&part).filter(|account| account.parent == Some(whole))
            else {
                continue;
            };
            account.parent = None;
            let (all, accounts) = (account.all, account.accounts);
            self.each_above(Some(whole), |above| {
                above.all.take(all);
                above.accounts -= accounts;
            });
            left.push(part);
        }
        left
    }

    /// Promises a tree that was cut off the pages that it has, since they cannot be taken from it.
    pub(crate) fn promise(&mut self, whole: Client) {
        if let Some(account) = self.clients.get_mut(&whole) {
            account.promised = account.all.pages.min(self.capacity);
            self.capacity -= account.promised;
        }
    }

    fn remove_empty(&mut self, client: Client) {
        if self.clients.get(&client).is_some_and(Account::is_empty_part) {
            self.remove(client);
        }
    }

    /// Removes an account that has no memory and no parts from its tree.
    pub(crate) fn remove(&mut self, client: Client) {
        let Some(account) = self.clients.remove(&client) else { return };
        self.capacity += account.promised;
        self.each_above(account.parent, |above| above.accounts -= account.accounts);
    }

    // --- up and down the tree --------------------------------------------------------------------

    /// Returns a client's account, then the account that it is a part of, and so on up to a whole
    /// one.
    pub(crate) fn line(&self, client: Client) -> impl Iterator<Item = &Account> {
        let first = self.clients.get(&client);
        core::iter::successors(first, |account| self.clients.get(&account.parent?))
    }

    /// Returns the whole account that a client's account is a part of, directly or not.
    pub(crate) fn whole_of(&self, client: Client) -> Client {
        let above = |client: &Client| self.clients.get(client)?.parent;
        core::iter::successors(Some(client), above).last().unwrap_or(client)
    }

    /// Returns whether an account is `whole`, or a part of it.
    pub(crate) fn is_within(&self, client: Client, whole: Client) -> bool {
        client == whole || self.line(client).any(|account| account.parent == Some(whole))
    }

    /// Returns an account's tree, itself included. Parts come after the accounts that they are
    /// parts of.
    pub(crate) fn tree_of(&self, whole: Client) -> Vec<Client> {
        let mut tree: Vec<Client> =
            self.clients.keys().copied().filter(|client| self.is_within(*client, whole)).collect();
        tree.sort_by_key(|client| self.line(*client).count());
        tree
    }

    /// Returns the parts of an account without the account itself, smaller parts first.
    fn parts_of(&self, whole: Client) -> Vec<Client> {
        self.tree_of(whole).into_iter().skip(1).rev().collect()
    }

    fn each_above(&mut self, from: Option<Client>, mut change: impl FnMut(&mut Account)) {
        let mut at = from;
        while let Some(account) = at.and_then(|client| self.clients.get_mut(&client)) {
            change(account);
            at = account.parent;
        }
    }

    /// Changes the usage of a client's account, and of all accounts that it is a part of.
    pub(crate) fn count(&mut self, client: Client, change: impl Fn(&mut Usage)) {
        if let Some(account) = self.clients.get_mut(&client) {
            change(&mut account.own);
        }
        self.each_above(Some(client), |account| change(&mut account.all));
    }

    /// Returns the smallest account, among a client's and those that it is a part of, that may have
    /// no more frames. A page that is charged to `payer` is already charged to all accounts above
    /// `payer`.
    pub(crate) fn full(&self, client: Client, payer: Option<Client>) -> Option<Client> {
        let mut at = Some(client);
        while let Some(client) = at {
            let account = self.clients.get(&client)?;
            if payer.is_some_and(|payer| self.is_within(payer, client)) {
                return None;
            }
            if account.all.frames >= account.limits.frames {
                return Some(client);
            }
            at = account.parent;
        }
        None
    }

    /// Whether a client may pin one page more.
    pub(crate) fn may_pin(&self, client: Client) -> bool {
        self.line(client).all(|account| account.all.pinned < account.pins_max(account.accounts))
    }

    /// Returns whether a client's regions may have `pages` pages more, by the limits of its account
    /// and of all accounts that it is a part of.
    pub(crate) fn may_have(&self, client: Client, pages: u32) -> bool {
        let fits = |have: u32, more: u32, most| have.checked_add(more).is_some_and(|all| all <= most);
        self.line(client).all(|account| fits(account.all.pages, pages, account.limits.pages))
    }

    pub(crate) fn may_share(&self, client: Client) -> bool {
        self.line(client).all(|account| account.all.shares < account.limits.pages)
    }
}
