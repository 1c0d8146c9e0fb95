//! Checks all invariants of the pager, for tests, and for callers that want to verify its state.

use alloc::collections::{BTreeMap, BTreeSet};

use user_rt::cap::Access;
use user_rt::paging::Limits;

use crate::machine::Machine;
use crate::slab::Id;
use crate::state::{Account, Page, PageId, Pager, Usage};
use crate::tree::DEPTH_MAX;
use crate::{Client, FRAMES_MIN};

macro_rules! hold {
    ($so:expr, $what:literal) => {
        if !$so {
            return Err($what);
        }
    };
}

impl<M: Machine> Pager<M> {
    /// Checks the pager's whole state. Returns a text that says what is wrong.
    pub fn audit(&self) -> Result<(), &'static str> {
        let mut users: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (_, object) in self.objects.iter() {
            for (index, entry) in (0u32..).zip(&object.entries) {
                let pins = object.pins.range((index, 0)..=(index, Client::MAX)).count() as u32;
                let Some(page) = entry.page else {
                    hold!(pins == 0, "a pinned entry has no page");
                    continue;
                };
                hold!(self.pages.get(page).is_some(), "an entry's page is gone");
                let count = users.entry(page.raw()).or_default();
                *count = (count.0 + 1, count.1 + pins);
            }
            let behind = object.pins.last().is_some_and(|(index, _)| *index as usize >= object.entries.len());
            hold!(!behind, "a pin of an entry that there is not");
        }
        let mut frames: BTreeSet<_> = self.free.iter().copied().collect();
        hold!(frames.len() == self.free.len(), "a frame is free twice");
        for (id, page) in self.pages.iter() {
            let counted = users.get(&id.raw()).copied().unwrap_or_default();
            hold!(counted == (page.users, page.pins), "a page's users are miscounted");
            hold!(page.frame.is_none_or(|frame| frames.insert(frame)), "a frame is used twice");
            self.audit_page(id, page)?;
        }
        hold!(frames.len() as u64 == self.counts.frames, "a frame got lost");
        self.audit_rings()?;
        self.audit_heap()?;
        self.audit_accounts()
    }

    /// Checks that each ring has each page that is charged to its owner once, and no other page.
    fn audit_rings(&self) -> Result<(), &'static str> {
        let owners = self.clients.keys().copied().map(Some).chain([None]);
        let mut all = BTreeSet::new();
        for of in owners {
            let mut len = 0;
            for page in self.pages_in(of) {
                let it = self.pages.get(page).ok_or("a ring has a page that is gone")?;
                hold!(it.charged == of, "a page is in another's ring");
                hold!(it.frame.is_some() && it.pins == 0, "a ring has a page that cannot go");
                hold!(all.insert(page.raw()), "a page is in a ring twice");
                len += 1;
            }
            hold!(len == self.ring(of).len(), "a ring's length is miscounted");
        }
        let may_go = |page: &Page| page.frame.is_some() && page.pins == 0;
        let count = self.pages.iter().filter(|(_, page)| may_go(page)).count();
        hold!(all.len() == count, "a page with a frame is in no ring");
        Ok(())
    }

    fn audit_page(&self, id: PageId, page: &Page) -> Result<(), &'static str> {
        hold!(page.frame.is_some() || page.copy.is_some(), "a page has no contents");
        hold!(page.frame.is_some() || page.places.is_empty(), "a page without a frame is mapped");
        hold!(page.frame.is_some() || page.pins == 0, "a pinned page has no frame");
        let may_be_charged = page.frame.is_some() && page.pins == 0;
        hold!(may_be_charged || page.charged.is_none(), "a page without a frame, or with pins, is charged");
        let alone = page.users == 1 && page.copy.is_none();
        let written = page.places.iter().any(|place| place.access == Access::Write);
        hold!(alone || !written, "a page with copies or other users can be written");
        for place in &page.places {
            let object = self.objects.get(place.object).ok_or("a mapping's object is gone")?;
            hold!(
                object.entries.iter().any(|entry| entry.page == Some(id)),
                "a mapping's object has not the page"
            );
        }
        Ok(())
    }

    fn audit_accounts(&self) -> Result<(), &'static str> {
        for (client, account) in &self.clients {
            let held = self.pages.iter().filter(|(_, page)| page.charged == Some(*client)).count();
            let pins = self.objects.iter().flat_map(|(_, object)| &object.pins);
            let pinned = pins.filter(|(_, by)| by == client).count();
            let pages: u32 = account.regions.values().map(|region| region.pages).sum();
            let shares = self.objects.iter().flat_map(|(_, object)| object.shared.values());
            let shares = shares.filter(|(_, by)| by == client).count();
            let [frames, pinned, shares] = [held + pinned, pinned, shares].map(|count| count as u32);
            hold!(
                account.own == Usage { frames, pinned, pages, shares },
                "what an account has is miscounted"
            );
            let known = |id: Id<_>| self.objects.get(id).is_some();
            hold!(account.regions.values().all(|region| known(region.object)), "a region's object is gone");
            self.audit_tree(*client, account)?;
        }
        Ok(())
    }

    fn audit_tree(&self, client: Client, account: &Account) -> Result<(), &'static str> {
        let tree = self.tree_of(client);
        let mut all = Usage::default();
        for part in tree.iter().filter_map(|part| self.clients.get(part)) {
            all.frames += part.own.frames;
            all.pinned += part.own.pinned;
            all.pages += part.own.pages;
            all.shares += part.own.shares;
        }
        hold!(account.all == all, "what an account and its parts have is miscounted");
        hold!(account.accounts as usize == tree.len(), "an account's parts are miscounted");
        let Limits { frames, pinned, pages } = account.limits;
        hold!(all.frames <= frames, "an account is over its limit");
        hold!(all.pinned <= pinned, "an account has pinned too much");
        hold!(all.pages <= pages, "an account has too many pages");
        hold!(all.shares <= pages, "an account shares too much");
        let left = all.pinned + FRAMES_MIN * account.accounts <= frames;
        hold!(left || account.fate.is_some(), "pins leave too few frames to continue");
        hold!(self.line(client).count() <= DEPTH_MAX, "parts of parts of parts");
        let Some(whole) = account.parent else { return Ok(()) };
        hold!(account.promised == 0, "a part was promised memory");
        let whole = self.clients.get(&whole).ok_or("a part of nothing")?;
        hold!(whole.admitted, "a part of what nobody uses");
        hold!(whole.fate.is_none() || account.fate.is_some(), "a part has outlived the whole");
        hold!(
            frames <= whole.limits.frames && pages <= whole.limits.pages,
            "a part is larger than the whole"
        );
        Ok(())
    }
}
