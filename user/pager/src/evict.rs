//! Finds frames: free ones, or those of pages that were not used lately; otherwise it asks the
//! policy.
//!
//! Each client has a ring of pages, and pages that are charged to nobody have a common ring. If a
//! page was used since the last look, it is spared, for at most [`AGE`] looks; after that it is
//! evicted.

use alloc::vec;
use alloc::vec::Vec;

use user_rt::paging::{Advice, Denial, HOLDERS_MAX, Holder, Question, Shortage, WINDOW_PAGES};

use crate::Client;
use crate::machine::{FrameId, Machine};
use crate::state::{Copy, PageId, Pager};

/// Looks for which a page that was used is spared.
const AGE: u8 = 2;
/// How many pages the store may refuse before another client's pages are tried.
const REFUSALS_MAX: u32 = 8;
/// Pages that are looked at for others that could go to the store with one.
const LOOKED_AT: usize = 16;
/// Times that the policy is asked for one frame.
const QUESTIONS_MAX: u32 = 16;

impl<M: Machine> Pager<M> {
    /// Returns a free frame, or evicts a page, for a client that may have one more frame. Does not
    /// evict `keep`, which is about to be read and would have to come back immediately.
    pub(crate) fn take_frame(&mut self, client: Client, keep: Option<PageId>) -> Result<FrameId, Denial> {
        let mut asked = 0;
        loop {
            self.reap();
            self.living(client)?;
            let shortage = if let Some(full) = self.full(client, None) {
                if self.evict_within(full, keep) || self.reap() {
                    continue;
                }
                Shortage::Limit
            } else {
                if let Some(frame) = self.free.pop() {
                    return Ok(frame);
                }
                if self.evict_anywhere(keep) || self.reap() {
                    continue;
                }
                Shortage::Memory
            };
            if asked == QUESTIONS_MAX || !self.ask(shortage, client, asked, keep) {
                return Err(if shortage == Shortage::Limit { Denial::Limit } else { Denial::Memory });
            }
            asked += 1;
        }
    }

    /// Evicts one page: first of those charged to nobody, then of the accounts with the most
    /// frames, with all their parts. Returns whether a page was evicted.
    pub(crate) fn evict_anywhere(&mut self, keep: Option<PageId>) -> bool {
        if self.evict(None, keep) {
            return true;
        }
        let largest: Vec<Client> = self.holders().iter().map(|holder| holder.client).collect();
        largest.into_iter().any(|whole| self.evict_within(whole, keep))
    }

    /// Evicts a page that is charged to an account or its parts. Returns whether a page was
    /// evicted.
    pub(crate) fn evict_within(&mut self, whole: Client, keep: Option<PageId>) -> bool {
        if self.clients.get(&whole).is_some_and(|account| account.accounts == 1) {
            return self.evict(Some(whole), keep);
        }
        let unpinned = |client: &Client| {
            let own = self.clients.get(client).map(|account| account.own).unwrap_or_default();
            core::cmp::Reverse(own.frames - own.pinned)
        };
        let mut tree = self.tree_of(whole);
        tree.sort_by_key(unpinned);
        tree.into_iter().any(|client| self.evict(Some(client), keep))
    }

    /// Evicts a page that is charged to `of`. Returns whether a page was evicted.
    pub(crate) fn evict(&mut self, of: Option<Client>, keep: Option<PageId>) -> bool {
        // Whom a policy names need not be anybody.
        if of.is_some_and(|client| !self.clients.contains_key(&client)) {
            return false;
        }
        let mut refused = 0;
        // Every page is looked at until it would not be spared any more.
        for _ in 0..self.ring(of).len() * (usize::from(AGE) + 2) {
            let Some(page) = self.ring(of).first() else { return false };
            if Some(page) != keep && !self.is_spared(page) {
                if self.put_away(page, of, keep) {
                    return true;
                }
                refused += 1;
            }
            self.pass(page);
            if refused == REFUSALS_MAX {
                return false;
            }
        }
        false
    }

    /// Returns whether a page was used lately, and ages it.
    fn is_spared(&mut self, page: PageId) -> bool {
        let it = &mut self.pages[page];
        let Some(frame) = it.frame else { return false };
        let machine = &mut self.machine;
        // All of them: each forgets.
        let used = it.places.iter().fold(false, |used, place| machine.accessed(place.at, frame) | used);
        it.age = if used { AGE } else { it.age.saturating_sub(1) };
        self.counts.spared += u64::from(used);
        it.age > 0
    }

    /// Evicts a page: unmaps it and takes its frame away, if its contents are, or can be, kept
    /// elsewhere. Returns whether the page was evicted.
    fn put_away(&mut self, page: PageId, of: Option<Client>, keep: Option<PageId>) -> bool {
        if !self.unmap(page, |_| true) {
            return false;
        }
        if self.pages[page].copy.is_some() {
            self.counts.dropped += 1;
        } else if !self.store(page, of, keep) {
            self.counts.refused += 1;
            return false;
        }
        let freed = self.uncharge(page);
        self.free.extend(freed);
        true
    }

    /// Writes an unmapped page, the first of its ring, to the store, together with some that would
    /// be evicted next: those stay in memory, but need no store if they do not change. Returns
    /// whether the store kept the page.
    fn store(&mut self, page: PageId, of: Option<Client>, keep: Option<PageId>) -> bool {
        let mut pages = vec![page];
        let others: Vec<PageId> = self.pages_in(of).skip(1).take(LOOKED_AT).collect();
        for next in others.into_iter().filter(|next| Some(*next) != keep) {
            if pages.len() == WINDOW_PAGES {
                break;
            }
            if self.is_idle(next) && self.write_protect(next) {
                pages.push(next);
            }
        }
        let frames: Vec<FrameId> = pages.iter().filter_map(|page| self.pages[*page].frame).collect();
        self.counts.puts += 1;
        let Ok(stored) = self.machine.put(&frames) else { return false };
        self.counts.stored += stored.len() as u64;
        for (page, stored) in pages.iter().zip(&stored) {
            self.pages[*page].copy = Some(Copy::Stored(*stored));
        }
        !stored.is_empty()
    }

    /// Returns whether a page has no copy, and would be evicted if it were looked at now.
    fn is_idle(&mut self, page: PageId) -> bool {
        let it = &self.pages[page];
        it.copy.is_none() && it.age <= 1 && !self.is_spared(page)
    }

    /// Returns the holders of frames, the largest first. Each is a whole account with all its
    /// parts, so that no client gets smaller by splitting its account.
    pub(crate) fn holders(&self) -> Vec<Holder> {
        let wholes = self.clients.iter().filter(|(_, account)| account.parent.is_none());
        let mut holders: Vec<Holder> = wholes
            .filter(|(_, account)| account.all.frames > 0)
            .map(|(&client, account)| Holder {
                client,
                frames: account.all.frames,
                pinned: account.all.pinned,
                limit: account.limits.frames,
            })
            .collect();
        holders.sort_by_key(|holder| core::cmp::Reverse(holder.frames));
        holders
    }

    /// Asks the policy, and does what it says. Returns whether it is worth trying again. The policy
    /// learns how often it was asked before, because its advice may have been of no use.
    fn ask(&mut self, shortage: Shortage, asker: Client, before: u32, keep: Option<PageId>) -> bool {
        let mut holders = self.holders();
        holders.truncate(HOLDERS_MAX);
        self.counts.asked += 1;
        let question = Question { shortage, asker: self.whole_of(asker), before, holders: &holders };
        let _useful = match self.machine.advise(&question) {
            Advice::Refuse => return false,
            Advice::Evict(client) => self.evict_within(client, keep),
            Advice::Kill(client) => {
                let ended = self.end(client, Denial::Ended);
                self.counts.ended += u64::from(ended);
                ended
            }
        };
        true
    }
}
