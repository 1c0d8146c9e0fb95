//! How CNodes end: emptied slot by slot, by whoever reclaims something next.
//!
//! A CNode's slots may hold the last capabilities of other CNodes, and theirs, in any depth and in
//! circles. So ending a CNode ends nothing else at once: its last capability goes, and the CNode, which
//! nobody can reach any more, joins the kernel's list of *graves*. Every delete, revoke and reset then
//! empties what is listed, a bounded number of slots at a time. How far a CNode has come stands in its
//! header; so if the task that works on it dies, the next one goes on. A reset of memory goes through
//! only when none of the CNodes in it is listed any more.
//!
//! # Who ended it
//! What a CNode holds ends by the doing of the task that ended the CNode, not of the one that happens to empty it. So, where
//! there is an [audit](crate::security::records), the CNode keeps that task's name, and so does each CNode that ends with it.
//!
//! # What cannot be emptied
//! What belongs to the task that works on it that task cannot end, and a frame that is pinned nobody. A CNode with such a
//! thing goes to a second list. It is tried again by whoever finds the first list empty when its system call begins (or begins
//! anew), and by a reset. So a system call comes to its end however many there are.

use abi::{Cap, Error, Fate, Grant};
use kern_base::header::{FLAG_DEAD, Header};
use kern_base::limits::ZOMBIE_SLOTS;
use kern_base::machine::Machine;
use kern_base::memory::Untyped;
use kern_base::objects::header_of;
use kern_base::slot::CNode;
use smp::door::{AtomicLink, Ref};

use crate::caps::slots::is_claimed;
use crate::life::reclaim::Pins;
use crate::payload::grants::Grants;
use crate::rooms::Life;
use crate::{Me, Refusal, Result};

impl<'k, M: Machine> Life<'k, M> {
    /// A CNode whose last capability is gone: it will be emptied.
    pub fn bury(self, cnode: Ref<'k, CNode>) {
        let graves = self.k.graves.lock(self.cpu, &"the lists of graves");
        if self.security().is_told() {
            cnode.get().set_ender(self.security().actor());
        }
        self.put_grave(&graves.open, cnode);
    }

    fn put_grave(self, list: &AtomicLink<CNode>, cnode: Ref<'k, CNode>) {
        cnode.get().next_grave.set(list.get(self.pin()));
        list.set(Some(cnode));
    }

    /// Empties the CNodes that nobody refers to any more, except where that is not for this task to do.
    pub fn empty_graves(self, me: Me<'k>) -> Result<()> {
        self.retry_graves();
        let mut work = 0;
        loop {
            let first = self.k.graves.lock(self.cpu, &"the lists of graves").open.get(self.pin());
            let Some(cnode) = first else { return Ok(()) };
            match self.empty_for_ender(me, cnode, &mut work) {
                Ok(()) => self.take_grave(cnode, |_| _ = cnode.get().header.set_flag(FLAG_DEAD)),
                Err(Refusal::Error { error: Error::InUse, .. }) => {
                    self.take_grave(cnode, |graves| self.put_grave(&graves.refused, cnode));
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// What could not be emptied before is tried again, unless there is other work.
    pub fn retry_graves(self) {
        let graves = self.k.graves.lock(self.cpu, &"the lists of graves");
        if graves.open.is_null() {
            graves.open.set(graves.refused.get(self.pin()));
            graves.refused.set(None);
        }
    }

    /// What ends with a CNode is told of as the doing of who ended that, whoever empties it.
    fn empty_for_ender(self, me: Me<'k>, cnode: Ref<'k, CNode>, work: &mut usize) -> Result<()> {
        self.sched.ender.set(self.security().is_told().then(|| cnode.get().ender()));
        let emptied = self.empty(me, cnode, work);
        self.sched.ender.set(None);
        emptied
    }

    fn empty(self, me: Me<'k>, cnode: Ref<'k, CNode>, work: &mut usize) -> Result<()> {
        let header = &cnode.get().header;
        loop {
            let at = header.swept();
            let Some(slot) = cnode.get().slots.get_known(self.pin(), at) else { return Ok(()) };
            if *work == ZOMBIE_SLOTS || is_claimed(slot.get().word.load(self.pin())) {
                return Err(Refusal::More);
            }
            *work += 1;
            self.delete_slot(me, slot, Pins::Hold)?;
            header.sweep(at);
        }
    }

    /// A CNode leaves the list, unless another CPU was first. It is the first, but for what others have buried since.
    fn take_grave(self, cnode: Ref<'k, CNode>, then: impl FnOnce(&Graves)) {
        let graves = self.k.graves.lock(self.cpu, &"the lists of graves");
        let mut link: &AtomicLink<CNode> = &graves.open;
        for _ in 0..ZOMBIE_SLOTS {
            let Some(at) = link.get(self.pin()) else { return };
            if at == cnode {
                link.set(cnode.get().next_grave.get(self.pin()));
                return then(&graves);
            }
            link = &at.get().next_grave;
        }
    }

    /// Whether a CNode in an Untyped's memory is still being emptied.
    pub fn has_graves(self, untyped: &Untyped) -> bool {
        let graves = self.k.graves.lock(self.cpu, &"the lists of graves");
        let all = [&graves.open, &graves.refused].map(|list| list.get(self.pin()));
        let next = |cnode: &Ref<'k, CNode>| cnode.get().next_grave.get(self.pin());
        all.into_iter()
            .flat_map(|first| core::iter::successors(first, next))
            .any(|cnode| untyped.contains(cnode.addr()))
    }

    /// What the last look at a sender's list has found to be disposed of is deleted, by the sender itself. Then its system
    /// call begins anew: whatever it has found until now may have ended.
    #[inline(never)]
    pub fn dispose_grants(self, me: Me<'k>) -> Refusal {
        self.dispose_all(me).err().unwrap_or(Refusal::More)
    }

    fn dispose_all(self, me: Me<'k>) -> Result<()> {
        let mut grants = Grants::new();
        let mut settled = false;
        self.payload().grants_of(me.task, &mut grants)?;
        for (place, grant) in grants.into_iter().enumerate() {
            let (cap, of) = match grant {
                Grant::Dispose { cap, of } => (cap, of),
                Grant::Settled { .. } => {
                    settled = true;
                    continue;
                }
                Grant::Copy { .. } | Grant::Move { .. } => continue,
            };
            let fate = match self.dispose(me, cap, of) {
                Ok(fate) => fate,
                Err(Refusal::Error { .. }) => Fate::Kept,
                Err(later) => return Err(later),
            };
            self.payload().mark(me.task, place, Grant::Settled { cap, fate });
        }
        // What an entry before this has deleted may not be empty yet.
        if settled { self.empty_graves(me) } else { Ok(()) }
    }

    /// Deletes a capability of an object. What has come into its slot since stays there.
    fn dispose(self, me: Me<'k>, cap: Cap, of: u64) -> Result<Fate> {
        let slot = self.caps().slot_of(me.process(self.pin()), cap)?;
        let object = header_of(slot.get().word.load(self.pin()));
        if object.map(Header::identity) != Some(of) {
            return Ok(Fate::Gone);
        }
        self.delete_slot(me, slot, Pins::Hold)?;
        Ok(Fate::Disposed)
    }
}

/// CNodes that nobody refers to any more: the first of each list.
#[derive(Default)]
pub struct Graves {
    /// They are being emptied.
    pub open: AtomicLink<CNode>,
    /// That was refused.
    pub refused: AtomicLink<CNode>,
}

impl Graves {
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.open.addr() | self.refused.addr() == 0
    }
}
