//! Clients: admitted with limits, ended, forgotten.

use alloc::vec::Vec;

use user_rt::paging::{Account as Figures, Fate};
use user_rt::paging::{CLIENTS_MAX, Denial, Limits, MANAGER};

use crate::Client;
use crate::machine::Machine;
use crate::state::{Account, Pager, Usage};
use crate::tree::are_sound;

impl<M: Machine> Pager<M> {
    /// Admits a client with these limits.
    pub fn register(&mut self, client: Client, limits: Limits) -> Result<(), Denial> {
        if client == MANAGER || client > CLIENTS_MAX {
            return Err(Denial::BadRequest);
        }
        if !are_sound(limits) {
            return Err(Denial::BadRequest);
        }
        if self.clients.contains_key(&client) {
            return Err(Denial::Full);
        }
        if self.capacity < limits.pages {
            self.reap_all();
        }
        self.capacity = self.capacity.checked_sub(limits.pages).ok_or(Denial::Full)?;
        self.buried.remove(&client);
        self.clients.insert(client, Account::new(limits, None));
        Ok(())
    }

    /// Ends a client and all its parts, and takes their memory back. They stay known, and get
    /// nothing any more. Returns whether there was memory to take, or a client to end.
    pub fn end(&mut self, client: Client, why: Denial) -> bool {
        let mut something = false;
        for part in self.tree_of(client) {
            let Some(account) = self.clients.get_mut(&part) else { continue };
            something |= account.fate.is_none() || account.own != Usage::default();
            account.fate = account.fate.or(Some((why, 0)));
            if self.is_out_of_reach(part) {
                // It may see its pages still. Should it be no more, that will be noticed.
                self.suspects.insert(part);
            } else {
                self.let_all_go(part);
            }
        }
        something
    }

    /// Forgets a client whose address space was destroyed, or in which no task runs any more. Its
    /// parts end with it. The pager may have noticed its end before.
    pub fn forget(&mut self, client: Client) -> Result<(), Denial> {
        if self.clients.get(&client).is_none_or(|account| !account.admitted) {
            return self.buried.remove(&client).map(|_| ()).ok_or(Denial::NotYou);
        }
        self.machine.gone(client);
        self.let_all_go(client);
        self.end(client, Denial::Closed);
        let left = self.cut_off(client);
        self.remove(client);
        left.into_iter().for_each(|part| self.promise(part));
        Ok(())
    }

    /// Takes a client's shares and regions away. Pages that others still use are charged to nobody
    /// from now on. A region whose pages cannot be unmapped stays, and so do the charges, until the
    /// client is forgotten.
    fn let_all_go(&mut self, client: Client) {
        self.forget_shares(client);
        if !self.take_regions(client) {
            return;
        }
        while let Some(page) = self.clients.get(&client).and_then(|account| account.ring.first()) {
            self.stop_paying(page);
            self.pay(page, None);
        }
    }

    /// Ends all sharing of regions with a client and by it. Views that other clients have stay.
    fn forget_shares(&mut self, client: Client) {
        let mut gone = Vec::new();
        for object in self.objects.values_mut() {
            object.shared.retain(|with, (_, by)| {
                let ends = *with == client || *by == client;
                gone.extend(ends.then_some(*by));
                !ends
            });
        }
        gone.into_iter().for_each(|by| self.unshare(by));
    }

    /// Takes a client's regions away. Returns whether all of them could be taken.
    fn take_regions(&mut self, client: Client) -> bool {
        let first =
            |pager: &Self| pager.clients.get(&client)?.regions.first_key_value().map(|(start, _)| *start);
        while let Some(start) = first(self) {
            if !self.remove_region(client, start) {
                return false;
            }
        }
        true
    }

    /// Sets the address at which the client continues after the next fault that cannot be served.
    pub fn on_error(&mut self, client: Client, address: u64) -> Result<(), Denial> {
        self.living(client)?.on_error = Some(address).filter(|address| *address != 0);
        Ok(())
    }

    /// Denies a client's fault. Returns the address at which the client is to continue, or `None`
    /// if it must end; then `why` is kept as the reason.
    pub fn deny(&mut self, client: Client, why: Denial, address: u64) -> Option<u64> {
        let account = self.clients.get_mut(&client).filter(|account| account.admitted)?;
        if let Some(place) = account.on_error.take().filter(|_| account.fate.is_none()) {
            return Some(place);
        }
        let reason = account.fate.map_or(why, |(reason, _)| reason);
        account.fate = Some((reason, address));
        // It is killed, and all that it has goes with it.
        self.end(client, reason);
        None
    }

    pub fn fate(&self, client: Client) -> Result<Fate, Denial> {
        if let Some(fate) = self.buried.get(&client) {
            return Ok(*fate);
        }
        let account = self.clients.get(&client).ok_or(Denial::NotYou)?;
        let (reason, address) = account.fate.map_or((None, 0), |(reason, address)| (Some(reason), address));
        Ok(Fate { reason, address, faults: account.faults })
    }

    pub fn account(&self, client: Client) -> Result<Figures, Denial> {
        let account = self.clients.get(&client).ok_or(Denial::NotYou)?;
        Ok(Figures {
            frames: account.all.frames.into(),
            limit: account.limits.frames.into(),
            pages: account.all.pages.into(),
            faults: account.faults,
        })
    }
}
