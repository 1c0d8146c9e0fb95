//! The pager's state.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use user_rt::cap::Access;
use user_rt::paging::{Counts, Denial, Fate, Limits};

use crate::Client;
use crate::charges::{Link, Ring};
use crate::machine::{At, Bytes, FrameId, Machine, Stored};
use crate::slab::{Id, Slab};

/// Room that a list keeps for each thing in it, at most, and room that it keeps with nothing in it.
pub(crate) const ROOM_FACTOR: usize = 4;
pub(crate) const ROOM_MIN: usize = 4;

pub type PageId = Id<Page>;
pub type ObjectId = Id<Object>;

/// The pager.
pub struct Pager<M> {
    pub machine: M,
    pub(crate) clients: BTreeMap<Client, Account>,
    pub(crate) objects: Slab<Object>,
    pub(crate) pages: Slab<Page>,
    /// What files that somebody uses have, by the bytes.
    pub(crate) files: BTreeMap<Bytes, ObjectId>,
    pub(crate) free: Vec<FrameId>,
    /// Pages that are charged to nobody.
    pub(crate) common: Ring,
    /// Pages of regions that may still be promised to clients.
    pub(crate) capacity: u32,
    pub(crate) counts: Counts,
    /// Clients whose address spaces may be no more, and the fates of those that were
    /// ([`crate::gone`]).
    pub(crate) suspects: BTreeSet<Client>,
    pub(crate) buried: BTreeMap<Client, Fate>,
}

/// What an account has, and what is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    /// Frames that are charged, and of these those of pins.
    pub frames: u32,
    pub pinned: u32,
    /// Pages of regions, and others that may attach one.
    pub pages: u32,
    pub shares: u32,
}

impl Usage {
    pub fn take(&mut self, part: Usage) {
        self.frames -= part.frames;
        self.pinned -= part.pinned;
        self.pages -= part.pages;
        self.shares -= part.shares;
    }
}

/// A client.
pub(crate) struct Account {
    pub limits: Limits,
    /// What it is a part of ([`crate::tree`]).
    pub parent: Option<Client>,
    /// There is a process that uses it.
    pub admitted: bool,
    /// Accounts of its tree, itself included.
    pub accounts: u32,
    /// Pages that the pager has promised to it: none to a part.
    pub promised: u32,
    /// What it has itself, and with all its parts.
    pub own: Usage,
    pub all: Usage,
    /// By their first addresses.
    pub regions: BTreeMap<u64, Region>,
    pub ring: Ring,
    /// Where the next fault that cannot be served is to continue.
    pub on_error: Option<u64>,
    /// Why it was ended, and where it faulted then.
    pub fate: Option<(Denial, u64)>,
    pub faults: u64,
}

impl Account {
    /// Makes an empty account: a part of `parent`'s, or a whole one.
    pub fn new(limits: Limits, parent: Option<Client>) -> Account {
        Account {
            limits,
            parent,
            admitted: parent.is_none(),
            accounts: 1,
            promised: if parent.is_none() { limits.pages } else { 0 },
            own: Usage::default(),
            all: Usage::default(),
            regions: BTreeMap::new(),
            ring: Ring::default(),
            on_error: None,
            fate: None,
            faults: 0,
        }
    }
}

/// Some address range of a client, which shows a whole object.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub object: ObjectId,
    pub pages: u32,
    pub access: Access,
}

/// Contents of a range.
pub struct Object {
    pub(crate) entries: Vec<Entry>,
    pub(crate) backing: Backing,
    /// Regions that show it, and objects that it is the backing of.
    pub(crate) users: u32,
    /// The other clients that may attach it, with which access, and the client that allowed it.
    pub(crate) shared: BTreeMap<Client, (Access, Client)>,
    /// The pinned entries, with the pinning client: each client that has a view pins for itself.
    pub(crate) pins: BTreeSet<(u32, Client)>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    pub page: Option<PageId>,
}

/// What an object has where it has no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backing {
    Zero,
    /// Bytes of a file: no region shows such an object, others take its pages.
    File(Bytes),
    /// The pages of that one, until they are written.
    Object(ObjectId),
}

/// One page of contents.
pub struct Page {
    pub(crate) frame: Option<FrameId>,
    pub(crate) copy: Option<Copy>,
    /// Entries that have it.
    pub(crate) users: u32,
    /// Pins of these entries.
    pub(crate) pins: u32,
    /// The client that pays for its frame, and its place in that client's ring
    /// ([`crate::charges`]).
    pub(crate) charged: Option<Client>,
    pub(crate) link: Option<Link>,
    pub(crate) places: Vec<Place>,
    /// Looks for which it is spared.
    pub(crate) age: u8,
}

/// A copy of the contents outside memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copy {
    Stored(Stored),
    File(Bytes),
}

/// A mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub at: At,
    pub access: Access,
    pub object: ObjectId,
}

/// One page of a region.
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub at: At,
    pub object: ObjectId,
    pub index: usize,
    pub access: Access,
}

/// Shrinks a list's memory to [`ROOM_FACTOR`] times its contents, so that no client is charged for
/// contents that are gone.
pub(crate) fn trim<T>(list: &mut Vec<T>) {
    if list.capacity() > ROOM_MIN.max(ROOM_FACTOR * list.len()) {
        list.shrink_to(2 * list.len());
    }
}

/// Returns whether a mapping with the access `have` also allows the access `need`.
pub(crate) fn covers(have: Access, need: Access) -> bool {
    need == Access::Read || have == need
}

impl<M: Machine> Pager<M> {
    /// Makes a pager with frames that no other program uses. Its regions have at most `capacity`
    /// pages in all.
    pub fn new(machine: M, frames: impl IntoIterator<Item = FrameId>, capacity: u32) -> Pager<M> {
        let free: Vec<FrameId> = frames.into_iter().collect();
        let counts = Counts { frames: free.len() as u64, ..Counts::default() };
        Pager {
            machine,
            clients: BTreeMap::new(),
            // A region of one page has an object, and its file's bytes have another; each has a
            // page.
            objects: Slab::with_room(2 * capacity),
            pages: Slab::with_room(2 * capacity),
            files: BTreeMap::new(),
            free,
            common: Ring::default(),
            capacity,
            counts,
            suspects: BTreeSet::new(),
            buried: BTreeMap::new(),
        }
    }

    pub fn counts(&self) -> Counts {
        Counts { free: self.free.len() as u64, ..self.counts }
    }

    /// Returns the account of an admitted client that was not ended.
    pub(crate) fn living(&mut self, client: Client) -> Result<&mut Account, Denial> {
        let account =
            self.clients.get_mut(&client).filter(|account| account.admitted).ok_or(Denial::NotYou)?;
        match account.fate {
            Some((Denial::Closed, _)) => Err(Denial::Closed),
            Some(_) => Err(Denial::Ended),
            None => Ok(account),
        }
    }

    /// Returns the place of an address in a client's region: the region's object, and the page's
    /// index in it.
    pub(crate) fn spot(&mut self, client: Client, address: u64) -> Result<Spot, Denial> {
        let account = self.living(client)?;
        let (&start, region) = account.regions.range(..=address).next_back().ok_or(Denial::NoRegion)?;
        let index = (address - start) / abi::PAGE_SIZE;
        if index >= region.pages.into() {
            return Err(Denial::NoRegion);
        }
        let at = At { client, address: start + index * abi::PAGE_SIZE };
        Ok(Spot { at, object: region.object, index: index as usize, access: region.access })
    }

    // --- places ----------------------------------------------------------------------------------

    /// Unmaps a page from the places for which `which` is true. Returns whether that was possible
    /// at all of them.
    pub(crate) fn unmap(&mut self, page: PageId, mut which: impl FnMut(&Place) -> bool) -> bool {
        let it = &mut self.pages[page];
        let Some(frame) = it.frame else { return true };
        let (machine, suspects) = (&mut self.machine, &mut self.suspects);
        let mut all = true;
        it.places.retain(|place| {
            let stays = which(place) && !machine.unmap(place.at, frame);
            if stays {
                suspects.insert(place.at.client);
            }
            all &= !stays;
            stays || !which(place)
        });
        trim(&mut it.places);
        all
    }

    // --- entries and pages -----------------------------------------------------------------------

    /// Makes a page of a frame that was filled, and charges it to a client.
    pub(crate) fn new_page(&mut self, frame: FrameId, copy: Option<Copy>, client: Client) -> PageId {
        let page = self.pages.add(Page {
            frame: None,
            copy,
            users: 0,
            pins: 0,
            charged: None,
            link: None,
            places: Vec::new(),
            age: 0,
        });
        self.charge(page, frame, client);
        page
    }

    /// Puts a page into an object's entry. Drops the entry's earlier page, which no view of the
    /// object maps any more. Pins stay with the entry.
    pub(crate) fn enter(&mut self, object: ObjectId, index: usize, page: PageId) {
        self.pages[page].users += 1;
        if let Some(old) = self.objects[object].entries[index].page.replace(page) {
            self.move_pins(object, index, old, page);
            self.let_go(old);
        }
    }

    /// Drops an entry's reference to a page, and frees the page with the last one.
    /// Requires: the page is unmapped wherever a view showed the entry. So a page without entries
    /// is mapped nowhere.
    pub(crate) fn let_go(&mut self, page: PageId) {
        self.pages[page].users -= 1;
        if self.pages[page].users > 0 {
            return;
        }
        debug_assert!(self.pages[page].places.is_empty(), "a page that is let go is seen");
        let freed = self.uncharge(page);
        self.free.extend(freed);
        if let Some(Page { copy: Some(Copy::Stored(stored)), .. }) = self.pages.remove(page) {
            self.machine.free(stored);
        }
    }
}
