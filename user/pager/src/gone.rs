//! Detects clients that have ended without a report.
//!
//! When a process is destroyed, its address space ends, and so does the pager's capability of it. A
//! missing capability alone proves nothing: the maker of the pager may have removed it, while the
//! client still runs. But no other process maps the pager's frames, and the kernel knows of each
//! frame whether it is mapped. So if a frame that the pager mapped only for one client is not
//! mapped any more, the kernel has removed the client's address space, which it does only after all
//! CPUs have left it. One such frame is enough.
//!
//! A client is *suspected* when something could not be mapped, changed or unmapped in its address
//! space. The pager then checks it once, when a frame is wanted next.

use alloc::vec::Vec;

use user_rt::paging::{Denial, Fate};

use crate::Client;
use crate::machine::Machine;
use crate::state::{Page, PageId, Pager};

impl<M: Machine> Pager<M> {
    /// Forgets the suspected clients whose address space is destroyed. Returns whether there were
    /// any.
    pub(crate) fn reap(&mut self) -> bool {
        let mut some = false;
        while let Some(client) = self.suspects.pop_first() {
            some |= self.bury(client);
        }
        some
    }

    /// Forgets the suspected clients that have ended. Returns whether there were any, and all of
    /// `clients` still live.
    pub(crate) fn reap_for(&mut self, clients: &[Client]) -> bool {
        self.reap() && clients.iter().all(|client| self.living(*client).is_ok())
    }

    /// Forgets all clients that cannot be reached and whose address space is destroyed. Returns
    /// whether there were any.
    pub(crate) fn reap_all(&mut self) -> bool {
        let admitted = self.clients.iter().filter(|(_, account)| account.admitted);
        self.suspects = admitted.map(|(client, _)| *client).collect();
        self.reap()
    }

    /// Forgets a client if its address space is destroyed. Keeps its fate for the manager, until
    /// the manager forgets the client. Returns whether it was forgotten.
    fn bury(&mut self, client: Client) -> bool {
        let Ok(fate) = self.fate(client) else { return false };
        if !self.is_out_of_reach(client) || !self.is_destroyed(client) || self.forget(client).is_err() {
            return false;
        }
        self.counts.noticed += 1;
        self.buried.insert(client, Fate { reason: fate.reason.or(Some(Denial::Gone)), ..fate });
        true
    }

    /// Returns whether the pager cannot map or unmap in a client's address space, and the manager
    /// has not reported its end.
    pub(crate) fn is_out_of_reach(&mut self, client: Client) -> bool {
        self.clients.get(&client).is_some_and(|account| account.admitted) && self.machine.is_lost(client)
    }

    /// Returns whether the address space of a client, which is out of reach, is destroyed: no task
    /// sees a page there.
    fn is_destroyed(&mut self, client: Client) -> bool {
        let mapped = |page: &Page| page.places.iter().any(|place| place.at.client == client);
        let pages = || self.pages.iter().filter(|(_, page)| mapped(page)).map(|(page, _)| page);
        if pages().next().is_none() {
            return true;
        }
        let Some(witness) = pages().find(|page| self.speaks_for(client, *page)) else { return false };
        let Some(frame) = self.pages[witness].frame else { return false };
        if !self.machine.is_unseen(frame) {
            return false;
        }
        // What was in the frame is lost. Who else has the page finds it elsewhere.
        if self.pages[witness].copy.is_some() && self.pages[witness].pins == 0 {
            self.pages[witness].places = Vec::new();
            let freed = self.uncharge(witness);
            self.free.extend(freed);
        }
        true
    }

    /// Returns whether a page is mapped for a client alone, and no other client needs the contents
    /// of its frame.
    fn speaks_for(&self, client: Client, page: PageId) -> bool {
        let it = &self.pages[page];
        let alone = |object| it.users == 1 && self.objects[object].users == 1;
        it.places.iter().all(|place| place.at.client == client)
            && (it.copy.is_some() && it.pins == 0 || it.places.iter().all(|place| alone(place.object)))
    }
}
