//! How CNodes end: emptied slot by slot, by whoever reclaims something next.
//!
//! A CNode's slots may hold the last capabilities of other CNodes, and theirs, in any depth and in
//! circles. So ending a CNode ends nothing else at once: its last capability goes, and the CNode, which
//! nobody can reach any more, joins the kernel's list of *graves*. Every delete, revoke and reset then
//! empties what is listed, a bounded number of slots at a time. How far a CNode has come stands in its
//! header; so if the task that works on it dies, the next one goes on. A reset of memory goes through
//! only when none of the CNodes in it is listed any more.

use abi::Error;
use kern_base::header::FLAG_DEAD;
use kern_base::machine::Machine;
use kern_base::slot::CNode;
use smp::door::{AtomicLink, Ref, Region};

use crate::caps::is_claimed;
use crate::reclaim::{Pins, is_inside};
use crate::{Cx, Me, Refusal, Result};

/// Slots that one entry looks at.
const SLOTS_BOUND: usize = 256;

impl<'k, M: Machine> Cx<'k, M> {
    /// A CNode whose last capability is gone: it will be emptied.
    pub fn bury(self, cnode: Ref<'k, CNode>) {
        let first = self.k.graves.lock();
        cnode.get().next_grave.set(first.get(self.pin()));
        first.set(Some(cnode));
    }

    /// Empties the CNodes that nobody refers to any more. What belongs to the task that does this it cannot
    /// end: that is left to others. So is a frame that is pinned, to whoever takes the pin or the memory back.
    pub fn empty_graves(self, me: Me<'k>) -> Result<()> {
        let mut work = 0;
        let mut at = self.first_grave();
        while let Some(cnode) = at {
            match self.empty(me, cnode, &mut work) {
                Ok(()) => {
                    self.close_grave(cnode);
                    at = self.first_grave();
                }
                Err(Refusal::Error { error: Error::InUse, .. }) => at = self.next_grave(cnode),
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    fn first_grave(self) -> Option<Ref<'k, CNode>> {
        self.k.graves.lock().get(self.pin())
    }

    fn next_grave(self, cnode: Ref<'k, CNode>) -> Option<Ref<'k, CNode>> {
        let _guard = self.k.graves.lock();
        cnode.get().next_grave.get(self.pin())
    }

    fn empty(self, me: Me<'k>, cnode: Ref<'k, CNode>, work: &mut usize) -> Result<()> {
        let header = &cnode.get().header;
        loop {
            let at = header.swept();
            let Some(slot) = cnode.get().slots.get(self.pin(), at) else { return Ok(()) };
            if *work == SLOTS_BOUND || is_claimed(slot.get().word.load(self.pin())) {
                return Err(Refusal::More);
            }
            *work += 1;
            self.delete_slot(me, slot, Pins::Hold)?;
            header.sweep(at);
        }
    }

    /// An empty CNode leaves the list, unless another CPU was first.
    fn close_grave(self, cnode: Ref<'k, CNode>) {
        let first = self.k.graves.lock();
        let mut link: &AtomicLink<CNode> = &first;
        while let Some(at) = link.get(self.pin()) {
            if at == cnode {
                link.set(cnode.get().next_grave.get(self.pin()));
                cnode.get().header.set_flag(FLAG_DEAD);
                return;
            }
            link = &at.get().next_grave;
        }
    }

    /// Whether a CNode in this memory is still being emptied.
    pub fn has_graves(self, region: &Region) -> bool {
        let first = self.k.graves.lock();
        core::iter::successors(first.get(self.pin()), |cnode| cnode.get().next_grave.get(self.pin()))
            .any(|cnode| is_inside(region, cnode.addr()))
    }
}
