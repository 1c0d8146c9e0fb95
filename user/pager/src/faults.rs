//! Faults: finds the page for an address and maps it.

use user_rt::cap::Access;
use user_rt::paging::Denial;

use crate::Client;
use crate::machine::{At, Bytes, Machine};
use crate::state::{Backing, Copy, ObjectId, PageId, Pager, Place, Spot, covers};

/// Pages of a file that are mapped together: those of a row, on its boundary, that are in memory.
const AROUND: usize = 8;
const PAGE: usize = abi::PAGE_SIZE as usize;

impl<M: Machine> Pager<M> {
    /// Serves a fault: maps the page at a client's address with the access that it needs, if the
    /// client may have that.
    pub fn fault(&mut self, client: Client, address: u64, need: Access) -> Result<(), Denial> {
        self.counts.faults += 1;
        if let Some(account) = self.clients.get_mut(&client) {
            account.faults += 1;
        }
        let served = self.provide(client, address, need);
        self.counts.denied += u64::from(served.is_err());
        served
    }

    /// Provides a page without counting a fault.
    pub(crate) fn provide(&mut self, client: Client, address: u64, need: Access) -> Result<(), Denial> {
        let spot = self.spot(client, address)?;
        if !covers(spot.access, need) {
            return Err(Denial::Access);
        }
        let page = self.contents(spot, need)?;
        self.bring_in(page, client)?;
        // The account that paid may have outlived the client.
        self.living(client)?;
        if need == Access::Write {
            self.forget_copy(page);
        }
        self.show(spot, page)?;
        if spot.access != Access::Write {
            self.show_beside(spot);
        }
        Ok(())
    }

    /// Maps pages of the same file around a page, which are in memory anyway, so that they need no
    /// faults. No client is charged for that.
    fn show_beside(&mut self, spot: Spot) {
        let Backing::Object(below) = self.objects[spot.object].backing else { return };
        let first = spot.index - spot.index % AROUND;
        let last = (first + AROUND).min(self.objects[spot.object].entries.len());
        for index in (first..last).filter(|index| *index != spot.index) {
            let here = self.objects[spot.object].entries[index].page;
            let in_file = self.objects[below].entries.get(index).and_then(|entry| entry.page);
            let Some(page) = here.or(in_file) else { continue };
            let address = spot.at.address - (spot.index * PAGE) as u64 + (index * PAGE) as u64;
            let beside = Spot { at: At { address, ..spot.at }, index, ..spot };
            let it = &self.pages[page];
            if it.frame.is_none() || it.places.iter().any(|place| place.at == beside.at) {
                continue;
            }
            if here.is_none() {
                self.enter(spot.object, index, page);
            }
            if self.show(beside, page).is_err() {
                return;
            }
            self.counts.beside += 1;
        }
    }

    /// Returns the page that a region shows at a spot. For a write, the client gets a page of its
    /// own.
    fn contents(&mut self, spot: Spot, need: Access) -> Result<PageId, Denial> {
        let page = match self.objects[spot.object].entries[spot.index].page {
            Some(page) => page,
            None => self.first_touch(spot)?,
        };
        if need == Access::Write && self.pages[page].users > 1 {
            return self.separate(spot, page);
        }
        Ok(page)
    }

    /// Returns a page for an entry that had none, filled with the contents of the object's backing.
    fn first_touch(&mut self, spot: Spot) -> Result<PageId, Denial> {
        let client = spot.at.client;
        let page = match self.objects[spot.object].backing {
            Backing::Zero => {
                let frame = self.take_frame(client, None)?;
                self.machine.clear(frame);
                self.counts.zeroed += 1;
                self.new_page(frame, None, client)
            }
            Backing::Object(below) => {
                match self.objects[below].entries.get(spot.index).and_then(|entry| entry.page) {
                    Some(page) => page,
                    None => self.load(below, spot.index, client)?,
                }
            }
            Backing::File(_) => return Err(Denial::NoRegion),
        };
        self.enter(spot.object, spot.index, page);
        Ok(page)
    }

    /// Loads a page of a file, which its object keeps from now on. For a page behind the file's
    /// end, returns a page of zeroes that belongs to the region alone.
    fn load(&mut self, object: ObjectId, index: usize, client: Client) -> Result<PageId, Denial> {
        let Backing::File(bytes) = self.objects[object].backing else { return Err(Denial::NoRegion) };
        let frame = self.take_frame(client, None)?;
        let bytes = page_bytes(bytes, index);
        self.machine.load(bytes, frame);
        self.counts.loaded += 1;
        let page = self.new_page(frame, Some(Copy::File(bytes)), client);
        if index < self.objects[object].entries.len() {
            self.enter(object, index, page);
        }
        Ok(page)
    }

    /// Makes a copy of a page for an object that is about to be written. The new page has no stored
    /// copy; views of the object see the page when they fault. The writer pays for the additional
    /// page. The clients that have pinned the entry pay for their pins as before.
    fn separate(&mut self, spot: Spot, page: PageId) -> Result<PageId, Denial> {
        let client = spot.at.client;
        let frame = self.take_frame(client, Some(page))?;
        let filled = match (self.pages[page].frame, self.pages[page].copy) {
            (Some(from), _) => {
                self.machine.copy(from, frame);
                Ok(())
            }
            (None, copy) => self.fill(copy, frame),
        };
        if let Err(denial) = filled {
            self.free.push(frame);
            return Err(denial);
        }
        let views = |place: &Place| place.object == spot.object;
        let unseen = self.unmap(page, views) || self.reap_for(&[client]) && self.unmap(page, views);
        if !unseen {
            self.free.push(frame);
            return Err(Denial::Gone);
        }
        self.counts.copied += 1;
        let own = self.new_page(frame, None, client);
        self.enter(spot.object, spot.index, own);
        Ok(own)
    }

    /// Gives a page a frame with its contents, if it has no frame.
    fn bring_in(&mut self, page: PageId, client: Client) -> Result<(), Denial> {
        if self.pages[page].frame.is_some() {
            return Ok(());
        }
        let frame = self.take_frame(client, Some(page))?;
        if let Err(denial) = self.fill(self.pages[page].copy, frame) {
            self.free.push(frame);
            return Err(denial);
        }
        self.charge(page, frame, client);
        Ok(())
    }

    /// Fills a frame from a page's copy in the store or in a file.
    fn fill(&mut self, copy: Option<Copy>, frame: crate::FrameId) -> Result<(), Denial> {
        match copy {
            Some(Copy::Stored(stored)) => {
                if self.machine.get(stored, frame).is_err() {
                    self.counts.lost += 1;
                    return Err(Denial::Lost);
                }
                self.counts.fetched += 1;
            }
            Some(Copy::File(bytes)) => {
                self.machine.load(bytes, frame);
                self.counts.loaded += 1;
            }
            // Never so: a page without a frame has a copy.
            None => return Err(Denial::Lost),
        }
        Ok(())
    }

    /// Drops the copies of a page that is about to be written.
    fn forget_copy(&mut self, page: PageId) {
        if let Some(Copy::Stored(stored)) = self.pages[page].copy.take() {
            self.machine.free(stored);
        }
    }

    /// Maps a page with a frame for a client, or raises the access of its mapping at the spot.
    fn show(&mut self, spot: Spot, page: PageId) -> Result<(), Denial> {
        let it = &mut self.pages[page];
        let Some(frame) = it.frame else { return Err(Denial::Lost) };
        let writable = it.users == 1 && it.copy.is_none();
        let access = match spot.access {
            Access::Write if !writable => Access::Read,
            access => access,
        };
        let place = Place { at: spot.at, access, object: spot.object };
        let shown = match it.places.iter_mut().find(|place| place.at == spot.at) {
            Some(old) if covers(old.access, access) => Ok(()),
            Some(old) => {
                let done = self.machine.protect(spot.at, frame, access);
                done.map(|()| old.access = access)
            }
            None => {
                let done = self.machine.map(spot.at, frame, access);
                done.map(|()| it.places.push(place))
            }
        };
        if shown == Err(Denial::Gone) {
            self.suspects.insert(spot.at.client);
        }
        shown
    }
}

/// Returns the bytes of page `index` of a file's region; none behind the region's end.
pub fn page_bytes(region: Bytes, index: usize) -> Bytes {
    let skip = (index as u64 * abi::PAGE_SIZE).min(region.count);
    let count = (region.count - skip).min(abi::PAGE_SIZE);
    Bytes { file: region.file, first: region.first + skip, count }
}
