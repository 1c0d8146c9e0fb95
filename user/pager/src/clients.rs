//! Clients: admitted with limits, ended, forgotten.

use alloc::collections::BTreeMap;

use user_rt::paging::{Account as Figures, Fate};
use user_rt::paging::{CLIENTS_MAX, Denial, Limits, MANAGER};

use crate::machine::Machine;
use crate::state::{Account, Pager, Ring};
use crate::{Client, FRAMES_MIN};

impl<M: Machine> Pager<M> {
    /// Admits a client.
    pub fn register(&mut self, client: Client, limits: Limits) -> Result<(), Denial> {
        if client == MANAGER || client > CLIENTS_MAX {
            return Err(Denial::BadRequest);
        }
        let most = limits.frames.checked_sub(FRAMES_MIN).ok_or(Denial::BadRequest)?;
        if limits.pinned > most {
            return Err(Denial::BadRequest);
        }
        if self.clients.contains_key(&client) {
            return Err(Denial::Full);
        }
        self.capacity = self.capacity.checked_sub(limits.pages).ok_or(Denial::Full)?;
        let account = Account {
            limits,
            regions: BTreeMap::new(),
            held: 0,
            pinned: 0,
            pages: 0,
            shares: 0,
            ring: Ring::new(),
            on_error: None,
            fate: None,
            faults: 0,
        };
        self.clients.insert(client, account);
        Ok(())
    }

    /// Takes a client's memory back. It stays known, and gets nothing any more. Whether there was something to take.
    pub fn end(&mut self, client: Client, why: Denial) -> bool {
        let Some(account) = self.clients.get_mut(&client).filter(|account| account.fate.is_none()) else {
            return false;
        };
        account.fate = Some((why, 0));
        self.counts.ended += 1;
        self.take_regions(client);
        true
    }

    /// A client is no more: its address space has been destroyed, or no task runs in it any more.
    pub fn forget(&mut self, client: Client) -> Result<(), Denial> {
        if !self.clients.contains_key(&client) {
            return Err(Denial::NotYou);
        }
        self.machine.gone(client);
        self.take_regions(client);
        self.forget_shares(client);
        // What others still use of its pages is paid by nobody.
        while let Some(page) = self.ring(Some(client)).pop_front() {
            if self.in_ring(page, Some(client)) {
                self.pages[page].charged = None;
                self.common.push_back(page);
            }
        }
        if let Some(account) = self.clients.remove(&client) {
            self.capacity += account.limits.pages;
        }
        Ok(())
    }

    /// What was shared with a client, or by it, is not any more. Views that others have stay.
    fn forget_shares(&mut self, client: Client) {
        let objects: alloc::vec::Vec<_> = self.objects.iter().map(|(id, _)| id).collect();
        for object in objects {
            let shared = core::mem::take(&mut self.objects[object].shared);
            let (gone, kept) =
                shared.into_iter().partition(|(with, (_, by))| *with == client || *by == client);
            self.objects[object].shared = kept;
            let gone: alloc::collections::BTreeMap<Client, (user_rt::cap::Access, Client)> = gone;
            gone.values().for_each(|(_, by)| self.unshare(*by));
        }
    }

    fn take_regions(&mut self, client: Client) {
        while let Some(start) = self
            .clients
            .get(&client)
            .and_then(|account| account.regions.first_key_value())
            .map(|(start, _)| *start)
        {
            self.remove_region(client, start);
        }
    }

    /// Where the next fault that cannot be served is to continue.
    pub fn on_error(&mut self, client: Client, address: u64) -> Result<(), Denial> {
        self.living(client)?.on_error = Some(address).filter(|address| *address != 0);
        Ok(())
    }

    /// A fault cannot be served: where the client is to continue; `None`: it has to end, and why is kept.
    pub fn deny(&mut self, client: Client, why: Denial, address: u64) -> Option<u64> {
        let account = self.clients.get_mut(&client)?;
        if let Some(place) = account.on_error.take().filter(|_| account.fate.is_none()) {
            return Some(place);
        }
        let reason = account.fate.map_or(why, |(reason, _)| reason);
        account.fate = Some((reason, address));
        None
    }

    pub fn fate(&self, client: Client) -> Result<Fate, Denial> {
        let account = self.clients.get(&client).ok_or(Denial::NotYou)?;
        let (reason, address) = account.fate.map_or((None, 0), |(reason, address)| (Some(reason), address));
        Ok(Fate { reason, address, faults: account.faults })
    }

    pub fn account(&self, client: Client) -> Result<Figures, Denial> {
        let account = self.clients.get(&client).ok_or(Denial::NotYou)?;
        Ok(Figures {
            frames: account.held.into(),
            limit: account.limits.frames.into(),
            pages: account.pages.into(),
            faults: account.faults,
        })
    }
}
