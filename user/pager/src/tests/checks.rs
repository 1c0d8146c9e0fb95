//! Checks after each step, in addition to the pager's own ([`Pager::audit`]). They must hold even
//! if clients, store or policy lie or die.

use super::*;

/// What all clients have, before a step.
pub struct Before(BTreeMap<Client, Usage>);

impl Before {
    pub fn of(pager: &Pager<Sim>) -> Before {
        Before(pager.clients.iter().map(|(client, account)| (*client, account.own)).collect())
    }
}

impl World {
    /// Checks that no client sees a free frame, that no account grows by what others do, and that
    /// the policy sees whole accounts.
    pub fn check(&mut self, before: &Before, actors: &[Client]) {
        for frame in &self.pager.free {
            assert!(!self.pager.machine.sees(*frame), "{frame:?} is free, and somebody sees it");
        }
        for (client, account) in self.pager.clients.iter().filter(|(client, _)| !actors.contains(client)) {
            let was = before.0.get(client).copied().unwrap_or_default();
            let Usage { frames, pinned, pages, shares } = account.own;
            let paid = frames <= was.frames && pinned <= was.pinned;
            let paid = paid && pages <= was.pages && shares <= was.shares;
            assert!(paid, "{client} pays for what {actors:?} did: {was:?} is {:?} now", account.own);
        }
        for client in std::mem::take(&mut self.pager.machine.told) {
            let part = self.pager.clients.get(&client).is_some_and(|account| account.parent.is_some());
            assert!(!part, "the policy was told of {client}, which is a part");
        }
    }

    /// Checks that a refusal has a reason in the client's account, or that another party caused it.
    pub fn check_refusal(&self, client: Client, denial: Denial, failed_before: u32) {
        let pager = &self.pager;
        let full = || pager.line(client).any(|account| account.all.frames >= account.limits.frames);
        match denial {
            Denial::Limit => assert!(full(), "{client} is not at its limit"),
            Denial::Memory => assert!(pager.free.is_empty(), "there are free frames"),
            Denial::Lost => {
                assert!(pager.machine.gets_failed.get() > failed_before, "the store gave what it had");
            }
            Denial::Gone => assert!(!pager.machine.lost.is_empty(), "nobody is lost"),
            // Meanwhile: by the policy, with what it was a part of, or by its death.
            Denial::Ended | Denial::Closed | Denial::NotYou => {}
            denial => panic!("{client} was denied: {denial:?}"),
        }
    }

    /// Checks why a region was not made.
    pub fn check_room(&self, client: Client, pages: u32, denial: Denial) {
        match denial {
            Denial::Limit => assert!(!self.pager.may_have(client, pages), "{client} may have {pages} more"),
            Denial::Ended | Denial::Closed | Denial::NotYou => {}
            denial => panic!("{client} was denied a region of {pages} pages: {denial:?}"),
        }
    }
}
