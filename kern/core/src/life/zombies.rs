//! Zombies: CNodes without capabilities, which later system calls empty slot by slot.
//!
//! A CNode's slots may hold the last capabilities of other CNodes, to any depth and in cycles. So
//! when a CNode ends, the objects in its slots do not end immediately: the CNode's last capability
//! is deleted, and the CNode, which user level cannot reach any more, joins the kernel's list of
//! zombies. Every delete, revoke and reset then empties the CNodes in the list, a bounded number of
//! slots in one entry. A CNode's header holds the progress: if the task that works on the CNode
//! dies, the next one continues. A reset of memory completes only when none of the CNodes in it is
//! listed any more.
//!
//! # The task that ended a CNode
//! The objects in a CNode end because of the task that ended the CNode, not because of the task
//! that happens to empty it. So, if there is an [audit](crate::security::records), the CNode keeps
//! the id of the task that ended it, and so does each CNode that ends with it.
//!
//! # What cannot be emptied
//! A task cannot destroy its own objects. Nobody can destroy a pinned frame. A CNode with such an
//! object goes to a second list. The kernel tries that list again in a reset, and when a system
//! call begins or restarts and finds the first list empty. So a system call ends, however many such
//! CNodes there are.

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
use crate::{OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    /// Adds a CNode without capabilities to the zombies, so that it will be emptied.
    pub fn bury(self, cnode: Ref<'k, CNode>) {
        let zombies = self.k.zombies.lock(self.cpu, &"the lists of zombies");
        if self.security().is_told() {
            cnode.get().set_ender(self.security().actor());
        }
        self.put_zombie(&zombies.open, cnode);
    }

    fn put_zombie(self, list: &AtomicLink<CNode>, cnode: Ref<'k, CNode>) {
        cnode.get().next_zombie.set(list.get(self.pin()));
        list.set(Some(cnode));
    }

    /// Empties all zombies, except those with objects that the running task cannot end.
    pub fn empty_zombies(self, me: OpenTask<'k>) -> Result<()> {
        self.retry_zombies();
        let mut work = 0;
        loop {
            let first = self.k.zombies.lock(self.cpu, &"the lists of zombies").open.get(self.pin());
            let Some(cnode) = first else { return Ok(()) };
            match self.empty_for_ender(me, cnode, &mut work) {
                Ok(()) => self.take_zombie(cnode, |_| _ = cnode.get().header.set_flag(FLAG_DEAD)),
                Err(Refusal::Error { error: Error::InUse, .. }) => {
                    self.take_zombie(cnode, |zombies| self.put_zombie(&zombies.refused, cnode));
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }

    /// Moves the CNodes that could not be emptied back to the first list, if that list is empty.
    pub fn retry_zombies(self) {
        let zombies = self.k.zombies.lock(self.cpu, &"the lists of zombies");
        if zombies.open.is_null() {
            zombies.open.set(zombies.refused.get(self.pin()));
            zombies.refused.set(None);
        }
    }

    /// Empties a CNode. The audit records each object that ends with it under the task that ended
    /// the CNode.
    fn empty_for_ender(self, me: OpenTask<'k>, cnode: Ref<'k, CNode>, work: &mut usize) -> Result<()> {
        self.sched.ender.set(self.security().is_told().then(|| cnode.get().ender()));
        let emptied = self.empty(me, cnode, work);
        self.sched.ender.set(None);
        emptied
    }

    /// Empties the remaining slots of a CNode.
    /// Errors: [`Refusal::More`] after a bounded number of slots, which `work` counts.
    fn empty(self, me: OpenTask<'k>, cnode: Ref<'k, CNode>, work: &mut usize) -> Result<()> {
        let header = &cnode.get().header;
        loop {
            let at = header.swept();
            let Some(slot) = cnode.get().slots.known().get(self.pin(), at) else { return Ok(()) };
            refuse_if(*work == ZOMBIE_SLOTS || is_claimed(slot.get().word.load(self.pin())), Refusal::More)?;
            *work += 1;
            self.delete_slot(me, slot, Pins::Hold)?;
            header.sweep(at);
        }
    }

    /// Removes a CNode from the first list of zombies and then calls `then`, unless another CPU has
    /// removed it. Only CNodes that other CPUs have added since are before it in the list.
    fn take_zombie(self, cnode: Ref<'k, CNode>, then: impl FnOnce(&Zombies)) {
        let zombies = self.k.zombies.lock(self.cpu, &"the lists of zombies");
        let mut link: &AtomicLink<CNode> = &zombies.open;
        for _ in 0..ZOMBIE_SLOTS {
            // The end of the list: another CPU has removed the CNode.
            let Some(at) = link.get(self.pin()) else { return };
            if at == cnode {
                link.set(cnode.get().next_zombie.get(self.pin()));
                return then(&zombies);
            }
            link = &at.get().next_zombie;
        }
    }

    /// Whether a CNode in an Untyped's memory is still a zombie.
    pub fn has_zombies(self, untyped: &Untyped) -> bool {
        let zombies = self.k.zombies.lock(self.cpu, &"the lists of zombies");
        let all = [&zombies.open, &zombies.refused].map(|list| list.get(self.pin()));
        let next = |cnode: &Ref<'k, CNode>| cnode.get().next_zombie.get(self.pin());
        all.into_iter()
            .flat_map(|first| core::iter::successors(first, next))
            .any(|cnode| untyped.contains(cnode.addr()))
    }

    /// Deletes the capabilities that an earlier check has marked in the list of the running task's
    /// message. Then the system call restarts, because an object that it has looked up may have
    /// ended.
    #[inline(never)]
    pub fn dispose_grants(self, me: OpenTask<'k>) -> Refusal {
        self.dispose_all(me).err().unwrap_or(Refusal::More)
    }

    fn dispose_all(self, me: OpenTask<'k>) -> Result<()> {
        let mut grants = Grants::new();
        let mut settled = false;
        self.payload().grants_of(me.object(), &mut grants)?;
        for (place, grant) in grants.into_iter().enumerate() {
            settled |= matches!(grant, Grant::Settled { .. });
            let Grant::Dispose { cap, of } = grant else { continue };
            let fate = match self.dispose(me, cap, of) {
                Ok(fate) => fate,
                Err(Refusal::Error { .. }) => Fate::Kept,
                Err(later) => return Err(later),
            };
            self.payload().mark(me.object(), place, Grant::Settled { cap, fate });
        }
        // A CNode that an earlier entry has deleted may not be empty yet.
        if settled { self.empty_zombies(me) } else { Ok(()) }
    }

    /// Deletes a capability of the object with the identity `of`. If the slot holds another object
    /// by now, leaves it.
    fn dispose(self, me: OpenTask<'k>, cap: Cap, of: u64) -> Result<Fate> {
        let slot = self.caps().slot_of(me.process(self.pin()), cap)?;
        let object = header_of(slot.get().word.load(self.pin()));
        if object.map(Header::identity) != Some(of) {
            return Ok(Fate::Gone);
        }
        self.delete_slot(me, slot, Pins::Hold)?;
        Ok(Fate::Disposed)
    }
}

/// The lists of zombies: the first CNode of each.
#[derive(Default)]
pub struct Zombies {
    /// CNodes that are being emptied.
    pub open: AtomicLink<CNode>,
    /// CNodes that could not be emptied.
    pub refused: AtomicLink<CNode>,
}
