//! Counts the bytes of heap that records take for each client, for [`Pager::audit`]. The bound is
//! [`HEAP_PER_PAGE`] for each page of the client's regions.
//!
//! A region is charged for its object, for the backing object behind that, for the pages of their
//! entries, and for its own mappings. Several regions may be charged for one object, since each
//! could be the last one that keeps it.

use core::mem::size_of;

use user_rt::paging::HEAP_PER_PAGE;

use crate::Client;
use crate::machine::{At, Bytes, Machine};
use crate::slab::Slab;
use crate::state::{
    Backing, Entry, Object, ObjectId, Page, Pager, Place, ROOM_FACTOR, ROOM_MIN, Region, Usage,
};

/// Returns the most bytes that a standard-library tree of `count` elements takes: a node has room
/// for eleven elements, and at least five in use.
const fn in_tree<T>(count: usize) -> usize {
    const NODE: usize = 11;
    const NODE_HEAD: usize = 16;
    const LEAST: usize = 5;
    count.div_ceil(LEAST) * (NODE * size_of::<T>() + NODE_HEAD)
}

/// Bytes of the trees of a client with few regions: one node each.
const SOME: usize = in_tree::<(u64, Region)>(1) + in_tree::<(Bytes, ObjectId)>(1);

impl<M: Machine> Pager<M> {
    /// Checks that the pager's records of each client take no more memory than was promised for its
    /// pages.
    pub(crate) fn audit_heap(&self) -> Result<(), &'static str> {
        for (client, account) in &self.clients {
            let Usage { pages, .. } = account.own;
            let most = u64::from(pages) * HEAP_PER_PAGE + SOME as u64;
            if self.heap_of(*client) as u64 > most {
                return Err("a client makes the pager remember more than it promised");
            }
        }
        let entries = |id: ObjectId| self.objects.get(id).map_or(0, |object| object.entries.capacity());
        for region in self.clients.values().flat_map(|account| account.regions.values()) {
            let behind = match self.objects.get(region.object).map(|object| object.backing) {
                Some(Backing::Object(below)) => entries(below),
                _ => 0,
            };
            if entries(region.object).max(behind) > region.pages as usize {
                return Err("a region's objects have more entries than it has pages");
            }
        }
        let reached = |id: ObjectId| {
            let shown = |region: &Region| region.object == id;
            let behind = |object: &Object| object.backing == Backing::Object(id);
            self.clients.values().any(|account| account.regions.values().any(shown))
                || self.objects.iter().any(|(_, object)| behind(object))
        };
        if !self.objects.iter().all(|(id, _)| reached(id)) {
            return Err("the pager remembers an object without users");
        }
        if self.pages.iter().any(|(_, page)| page.users == 0) {
            return Err("the pager remembers a page without users");
        }
        let roomy = |page: &Page| page.places.capacity() > ROOM_MIN.max(ROOM_FACTOR * page.places.len());
        if self.pages.iter().any(|(_, page)| roomy(page)) {
            return Err("a page keeps room for mappings that are no more");
        }
        Ok(())
    }

    /// Returns the bytes of the pager's heap that a client's regions take.
    pub(crate) fn heap_of(&self, client: Client) -> usize {
        let Some(account) = self.clients.get(&client) else { return 0 };
        let objects = account.regions.iter().map(|(start, region)| {
            let range = *start..*start + u64::from(region.pages) * abi::PAGE_SIZE;
            let Some(object) = self.objects.get(region.object) else { return 0 };
            let behind = match object.backing {
                Backing::Object(below) => {
                    self.objects.get(below).map_or(0, |object| self.heap_of_object(object))
                }
                _ => 0,
            };
            let mappings = object.entries.iter().filter_map(|entry| self.pages.get(entry.page?));
            let here = |at: At| at.client == client && range.contains(&at.address);
            let mappings = mappings.flat_map(|page| &page.places).filter(|place| here(place.at));
            behind + self.heap_of_object(object) + mappings.count() * ROOM_FACTOR * size_of::<Place>()
        });
        in_tree::<(u64, Region)>(account.regions.len())
            + in_tree::<(Bytes, ObjectId)>(account.regions.len())
            + objects.sum::<usize>()
    }

    fn heap_of_object(&self, object: &Object) -> usize {
        let pages = object.entries.iter().filter(|entry| entry.page.is_some()).count();
        Slab::<Object>::PLACE
            + object.entries.capacity() * size_of::<Entry>()
            + in_tree::<(u32, Client)>(object.pins.len())
            + pages * (Slab::<Page>::PLACE + ROOM_MIN * size_of::<Place>())
    }
}
