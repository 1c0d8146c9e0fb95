//! Regions: made, cloned, shared, pinned, given back.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use abi::PAGE_SIZE;
use user_rt::cap::Access;
use user_rt::paging::{Denial, REGIONS_END, REGIONS_VA};

use crate::Client;
use crate::machine::{Bytes, Machine};
use crate::slab::Id;
use crate::state::{Account, Backing, Entry, Object, ObjectId, Pager, Place, Region, covers};

impl Account {
    /// Returns the first free address for a region of so many bytes, so that used page tables are
    /// used again. The page between two regions belongs to neither, so that an overrun of a
    /// region's end is noticed.
    fn hole(&self, bytes: u64) -> Option<u64> {
        let with_gap = bytes.checked_add(PAGE_SIZE)?;
        let mut start = REGIONS_VA;
        for (&next, region) in &self.regions {
            // The manager may have placed a region right behind another, where the gap would be, or
            // one that begins below.
            if next.checked_sub(start).is_some_and(|room| room >= with_gap) {
                break;
            }
            let end = next.checked_add((u64::from(region.pages) + 1) * PAGE_SIZE)?;
            start = start.max(end);
        }
        (start.checked_add(bytes)? <= REGIONS_END).then_some(start)
    }
}

impl<M: Machine> Pager<M> {
    /// Makes a region of zeroes, at an address or where there is room. Returns its address.
    pub fn anonymous(
        &mut self,
        client: Client,
        pages: u32,
        access: Access,
        at: Option<u64>,
    ) -> Result<u64, Denial> {
        let start = self.room(client, pages, at)?;
        let object = self.add_object(pages, Backing::Zero);
        self.add_region(client, start, object, access)
    }

    /// Makes a region of a file's bytes, at an address or where there is room. Returns its address.
    /// Requires: the file has these bytes.
    pub fn file(
        &mut self,
        client: Client,
        bytes: Bytes,
        pages: u32,
        access: Access,
        at: Option<u64>,
    ) -> Result<u64, Denial> {
        if bytes.count > u64::from(pages) * PAGE_SIZE {
            return Err(Denial::BadRequest);
        }
        let start = self.room(client, pages, at)?;
        let below = match self.files.get(&bytes) {
            Some(below) => *below,
            None => {
                // As many entries as there are bytes: a longer region has the zeroes behind them
                // for itself. So each region has at least as many pages as the file's object has
                // entries, and its client's limit covers them.
                let of_bytes = bytes.count.div_ceil(PAGE_SIZE) as u32;
                let below = self.add_object(of_bytes, Backing::File(bytes));
                self.files.insert(bytes, below);
                below
            }
        };
        self.objects[below].users += 1;
        let object = self.add_object(pages, Backing::Object(below));
        self.add_region(client, start, object, access)
    }

    /// Makes a region with the present contents of another one.
    pub fn clone_of(&mut self, client: Client, address: u64) -> Result<u64, Denial> {
        let Region { object, pages, access } = self.region(client, address)?;
        let start = self.room(client, pages, None)?;
        for index in 0..pages as usize {
            if let Some(page) = self.objects[object].entries[index].page
                && !self.write_protect(page)
                && !(self.reap_for(&[client]) && self.write_protect(page))
            {
                return Err(Denial::Gone);
            }
        }
        let backing = self.objects[object].backing;
        if let Backing::Object(below) = backing {
            self.objects[below].users += 1;
        }
        let twin = self.add_object(pages, backing);
        for index in 0..pages as usize {
            let Some(page) = self.objects[object].entries[index].page else { continue };
            self.enter(twin, index, page);
        }
        self.add_region(client, start, twin, access)
    }

    /// Makes all mappings of a page read-only, and removes those for which that fails. Returns
    /// whether no mapping allows writing any more.
    pub(crate) fn write_protect(&mut self, page: crate::state::PageId) -> bool {
        let it = &mut self.pages[page];
        let Some(frame) = it.frame else { return true };
        let machine = &mut self.machine;
        for place in it.places.iter_mut().filter(|place| place.access == Access::Write) {
            if machine.protect(place.at, frame, Access::Read).is_ok() {
                place.access = Access::Read;
            }
        }
        self.unmap(page, |place| place.access == Access::Write)
    }

    /// Lets the client `with` attach a region. Returns the key that it needs.
    pub fn share(
        &mut self,
        client: Client,
        address: u64,
        with: Client,
        access: Access,
    ) -> Result<u64, Denial> {
        let region = self.region(client, address)?;
        if !covers(region.access, access) {
            return Err(Denial::Access);
        }
        self.clients.get(&with).ok_or(Denial::NotShared)?;
        if !self.may_share(client) {
            return Err(Denial::Limit);
        }
        self.count(client, |usage| usage.shares += 1);
        if let Some((_, by)) = self.objects[region.object].shared.insert(with, (access, client)) {
            self.unshare(by);
        }
        Ok(region.object.raw())
    }

    /// Makes a view of a region that another client shares by this key. Returns its address and
    /// number of pages.
    pub fn attach(&mut self, client: Client, key: u64) -> Result<(u64, u32), Denial> {
        let id: ObjectId = Id::from_raw(key);
        let object = self.objects.get(id).ok_or(Denial::NotShared)?;
        let (access, _) = *object.shared.get(&client).ok_or(Denial::NotShared)?;
        let pages = object.entries.len() as u32;
        let start = self.room(client, pages, None)?;
        Ok((self.add_region(client, start, id, access)?, pages))
    }

    /// Counts that a client shares one object less with another client.
    pub(crate) fn unshare(&mut self, client: Client) {
        self.count(client, |usage| usage.shares -= 1);
    }

    /// Gives a region back. Errors: `Gone` where a page cannot be unmapped; the region stays.
    pub fn give_back(&mut self, client: Client, address: u64) -> Result<(), Denial> {
        self.region(client, address)?;
        if self.remove_region(client, address) { Ok(()) } else { Err(Denial::Gone) }
    }

    /// Brings pages in and keeps them in memory, so that no access that the region allows faults.
    /// Pins all of them or none.
    pub fn pin(&mut self, client: Client, address: u64, pages: u32) -> Result<(), Denial> {
        let mut new = Vec::new();
        for page in 0..u64::from(pages) {
            let at = address.checked_add(page * PAGE_SIZE).ok_or(Denial::NoRegion)?;
            match self.pin_page(client, at) {
                Ok(true) => new.push(at),
                Ok(false) => {}
                Err(denial) => {
                    // What was pinned before stays so.
                    for at in new {
                        self.unpin(client, at, 1)?;
                    }
                    return Err(denial);
                }
            }
        }
        Ok(())
    }

    /// Pins one page for a client, whatever other clients have pinned.
    /// Returns: whether this client had not pinned it yet.
    fn pin_page(&mut self, client: Client, address: u64) -> Result<bool, Denial> {
        let spot = self.spot(client, address)?;
        if self.objects[spot.object].pins.contains(&(spot.index as u32, client)) {
            return Ok(false);
        }
        if !self.may_pin(client) {
            return Err(Denial::Limit);
        }
        self.provide(client, address, spot.access)?;
        let Some(page) = self.objects[spot.object].entries[spot.index].page else { return Err(Denial::Lost) };
        // Who pins, pays: also for a page for which others do so.
        while let Some(full) = self.full(client, self.pages[page].charged) {
            if !self.evict_within(full, Some(page)) && !self.reap() {
                return Err(Denial::Limit);
            }
            // It may have been found to be no more.
            self.living(client)?;
        }
        self.add_pin(spot.object, spot.index, page, client);
        Ok(true)
    }

    /// Removes a client's pins of pages, so that they may be evicted again.
    pub fn unpin(&mut self, client: Client, address: u64, pages: u32) -> Result<(), Denial> {
        for page in 0..u64::from(pages) {
            let at = address.checked_add(page * PAGE_SIZE).ok_or(Denial::NoRegion)?;
            let spot = self.spot(client, at)?;
            self.drop_pin(spot.object, spot.index, client);
        }
        Ok(())
    }

    // --- the parts -------------------------------------------------------------------------------

    fn region(&mut self, client: Client, address: u64) -> Result<Region, Denial> {
        self.living(client)?.regions.get(&address).copied().ok_or(Denial::NoRegion)
    }

    /// Returns the address for a region of so many pages, at `at` or where there is room. Changes
    /// nothing.
    fn room(&mut self, client: Client, pages: u32, at: Option<u64>) -> Result<u64, Denial> {
        self.living(client)?;
        if pages == 0 {
            return Err(Denial::BadRequest);
        }
        if !self.may_have(client, pages) {
            return Err(Denial::Limit);
        }
        let account = self.living(client)?;
        let bytes = u64::from(pages) * PAGE_SIZE;
        let start = match at {
            Some(start) => start,
            None => account.hole(bytes).ok_or(Denial::Full)?,
        };
        let end = start.checked_add(bytes).ok_or(Denial::BadRequest)?;
        if !start.is_multiple_of(PAGE_SIZE) || start == 0 || end > abi::USER_TOP {
            return Err(Denial::BadRequest);
        }
        let before = account.regions.range(..end).next_back();
        if before.is_some_and(|(other, region)| other + u64::from(region.pages) * PAGE_SIZE > start) {
            return Err(Denial::Occupied);
        }
        Ok(start)
    }

    fn add_object(&mut self, pages: u32, backing: Backing) -> ObjectId {
        let entries: Vec<Entry> = vec![Entry::default(); pages as usize];
        self.objects.add(Object {
            entries,
            backing,
            users: 0,
            shared: BTreeMap::new(),
            pins: BTreeSet::new(),
        })
    }

    fn add_region(
        &mut self,
        client: Client,
        start: u64,
        object: ObjectId,
        access: Access,
    ) -> Result<u64, Denial> {
        let pages = self.objects[object].entries.len() as u32;
        self.objects[object].users += 1;
        let account = self.living(client)?;
        account.regions.insert(start, Region { object, pages, access });
        self.count(client, |usage| usage.pages += pages);
        Ok(start)
    }

    /// Removes a region, and the objects that only it used. If a page cannot be unmapped there, the
    /// region stays, with all that leads to its pages. Returns: whether the region is gone.
    pub(crate) fn remove_region(&mut self, client: Client, start: u64) -> bool {
        let Some(account) = self.clients.get(&client) else { return true };
        let Some(&Region { object, pages, .. }) = account.regions.get(&start) else { return true };
        let range = start..start + u64::from(pages) * PAGE_SIZE;
        for index in 0..pages as usize {
            let Some(page) = self.objects[object].entries[index].page else { continue };
            let here = |place: &Place| place.at.client == client && range.contains(&place.at.address);
            if !self.unmap(page, here) {
                return false;
            }
        }
        // Nothing below can fail.
        for index in 0..pages as usize {
            self.drop_pin(object, index, client);
        }
        if let Some(account) = self.clients.get_mut(&client) {
            account.regions.remove(&start);
        }
        self.count(client, |usage| usage.pages -= pages);
        self.drop_object(object);
        true
    }

    /// Removes one user of an object.
    fn drop_object(&mut self, object: ObjectId) {
        self.objects[object].users -= 1;
        if self.objects[object].users > 0 {
            return;
        }
        let Some(gone) = self.objects.remove(object) else { return };
        for (_, by) in gone.shared.values() {
            self.unshare(*by);
        }
        for page in gone.entries.iter().filter_map(|entry| entry.page) {
            self.let_go(page);
        }
        match gone.backing {
            Backing::Object(below) => self.drop_object(below),
            Backing::File(bytes) => {
                self.files.remove(&bytes);
            }
            Backing::Zero => {}
        }
    }
}
