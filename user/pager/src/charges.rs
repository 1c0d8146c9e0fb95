//! Charges of frames to clients, and the rings of pages that may be evicted.
//!
//! - A page with a frame and without pins is charged to one client or to nobody, and is in the ring
//!   of that client, or in the common ring, exactly once. Rings are linked through the pages, so
//!   they take no memory of their own.
//! - Each pin costs its client one frame, also if other clients have pinned the same page. A pinned
//!   page is charged to nobody and is in no ring. So the end of a pin never makes another client
//!   pay more.

use crate::Client;
use crate::machine::{FrameId, Machine};
use crate::state::{ObjectId, PageId, Pager};

/// Pages that are charged to one client, or to nobody: the one to look at next first.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Ring {
    first: Option<PageId>,
    last: Option<PageId>,
    len: usize,
}

impl Ring {
    pub fn first(&self) -> Option<PageId> {
        self.first
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

/// The neighbours of a page in its ring, by their places: who is in a ring is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    before: u32,
    behind: u32,
}

/// In place of a neighbour that there is not.
const NOBODY: u32 = u32::MAX;

fn place(page: Option<PageId>) -> u32 {
    page.map_or(NOBODY, PageId::place)
}

impl<M: Machine> Pager<M> {
    // --- rings -----------------------------------------------------------------------------------

    /// Returns a client's ring, or the ring of the pages that are charged to no client.
    pub(crate) fn ring(&self, of: Option<Client>) -> &Ring {
        match of.and_then(|client| self.clients.get(&client)) {
            Some(account) => &account.ring,
            None => &self.common,
        }
    }

    fn ring_mut(&mut self, of: Option<Client>) -> &mut Ring {
        match of.and_then(|client| self.clients.get_mut(&client)) {
            Some(account) => &mut account.ring,
            None => &mut self.common,
        }
    }

    /// Returns the pages of a ring, in order.
    pub(crate) fn pages_in(&self, of: Option<Client>) -> impl Iterator<Item = PageId> {
        let next = |page: &PageId| self.pages.at(self.pages.get(*page)?.link?.behind);
        core::iter::successors(self.ring(of).first, next)
    }

    fn link_of(&mut self, page: Option<PageId>) -> Option<&mut Link> {
        self.pages.get_mut(page?)?.link.as_mut()
    }

    fn link(&mut self, page: PageId, of: Option<Client>) {
        let ring = self.ring_mut(of);
        let before = ring.last.replace(page);
        ring.len += 1;
        if before.is_none() {
            ring.first = Some(page);
        }
        self.pages[page].link = Some(Link { before: place(before), behind: NOBODY });
        if let Some(link) = self.link_of(before) {
            link.behind = page.place();
        }
    }

    fn unlink(&mut self, page: PageId, of: Option<Client>) {
        let Some(link) = self.pages[page].link.take() else { return };
        let [before, behind] = [link.before, link.behind].map(|place| self.pages.at(place));
        if let Some(other) = self.link_of(before) {
            other.behind = link.behind;
        }
        if let Some(other) = self.link_of(behind) {
            other.before = link.before;
        }
        let ring = self.ring_mut(of);
        ring.len -= 1;
        if ring.first == Some(page) {
            ring.first = behind;
        }
        if ring.last == Some(page) {
            ring.last = before;
        }
    }

    /// Moves a page to the back of its ring, because it was looked at and stays in memory.
    pub(crate) fn pass(&mut self, page: PageId) {
        let of = self.pages[page].charged;
        self.unlink(page, of);
        self.link(page, of);
    }

    // --- frames ----------------------------------------------------------------------------------

    /// Gives a page a frame and charges it to a client.
    pub(crate) fn charge(&mut self, page: PageId, frame: FrameId, client: Client) {
        let it = &mut self.pages[page];
        (it.frame, it.age) = (Some(frame), 0);
        self.pay(page, Some(client));
    }

    /// Takes a page's frame away, and the charge for it. Returns: the frame.
    pub(crate) fn uncharge(&mut self, page: PageId) -> Option<FrameId> {
        self.stop_paying(page);
        self.pages[page].frame.take()
    }

    /// Charges a page to a client, or to nobody.
    /// Requires: the page has a frame, no pins, and no charge.
    pub(crate) fn pay(&mut self, page: PageId, client: Option<Client>) {
        let client = client.filter(|client| self.clients.contains_key(client));
        self.pages[page].charged = client;
        if let Some(client) = client {
            self.count(client, |usage| usage.frames += 1);
        }
        self.link(page, client);
    }

    /// Takes a page's charge away, and the page off its ring. Returns: the client that paid.
    pub(crate) fn stop_paying(&mut self, page: PageId) -> Option<Client> {
        let client = self.pages[page].charged.take();
        self.unlink(page, client);
        if let Some(client) = client {
            self.count(client, |usage| usage.frames -= 1);
        }
        client
    }

    // --- pins ------------------------------------------------------------------------------------

    /// Returns how many pins the page of an object's entry has through this entry.
    fn pins_of(&self, object: ObjectId, index: usize) -> u32 {
        let index = index as u32;
        self.objects[object].pins.range((index, 0)..=(index, Client::MAX)).count() as u32
    }

    /// Pins an entry's page for a client.
    /// Requires: the client may have one frame more, or pays for the page.
    pub(crate) fn add_pin(&mut self, object: ObjectId, index: usize, page: PageId, client: Client) {
        if self.pages[page].pins == 0 {
            self.stop_paying(page);
        }
        self.pages[page].pins += 1;
        self.objects[object].pins.insert((index as u32, client));
        self.count(client, |usage| {
            usage.frames += 1;
            usage.pinned += 1;
        });
    }

    /// Takes a client's pin of an entry away, if there is one. The client of a page's last pin is
    /// charged with the page.
    pub(crate) fn drop_pin(&mut self, object: ObjectId, index: usize, client: Client) {
        if !self.objects[object].pins.remove(&(index as u32, client)) {
            return;
        }
        self.count(client, |usage| {
            usage.frames -= 1;
            usage.pinned -= 1;
        });
        let Some(page) = self.objects[object].entries[index].page else { return };
        self.pages[page].pins -= 1;
        if self.pages[page].pins == 0 {
            self.pay(page, Some(client));
        }
    }

    /// Moves the pins of an entry from its old page to its new one; their clients pay as before.
    /// Where the old page has no pin left, the client that was charged with the new page is charged
    /// with the old one instead.
    pub(crate) fn move_pins(&mut self, object: ObjectId, index: usize, from: PageId, to: PageId) {
        let pins = self.pins_of(object, index);
        if pins == 0 {
            return;
        }
        let payer = self.stop_paying(to);
        self.pages[from].pins -= pins;
        self.pages[to].pins += pins;
        if self.pages[from].pins == 0 {
            self.pay(from, payer);
        }
    }
}
