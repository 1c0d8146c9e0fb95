//! Zombies: CNodes without capabilities, whose slots must still be emptied.
//!
//! A CNode's slots may hold the last capabilities of other CNodes, to any depth and in cycles. So
//! when a CNode ends, the objects in its slots do not end immediately: the CNode's last capability
//! is deleted, and the CNode, which user level cannot reach any more, becomes a zombie. A CNode's
//! header holds how far it is emptied.
//!
//! # Whose work it is
//! * The **task** whose system call ended the CNode empties it, and also the CNodes that end
//!   meanwhile, except for those that were made since ([`CNode::made`]): others could make more of
//!   them for ever. They are in a list of that task. The list is dissolved when the task begins
//!   another delete, revoke or reset, and when it dies.
//! * The **Untyped** that the CNode was made of has it in a ring. A reset of the Untyped empties
//!   the whole ring, whatever the tasks do, and completes only when the ring is empty. When an
//!   Untyped ends, its zombies go to the Untyped of which it was made.
//!
//! Nobody else does any of it: a delete, revoke or reset of something else takes no longer because
//! of zombies.
//!
//! # What zombies keep alive
//! The capabilities in a zombie's slots stay in their derivation trees, where a revoke finds them.
//! Until then, or until the zombie is emptied, they keep their objects: a task whose last
//! capability is there runs on.
//!
//! # Locks
//! The rings of a root's Untypeds change under the root's lock, and the lists of tasks under
//! [`Kernel::zombies`](crate::Kernel::zombies). Lock order: a root's, then that one. A CNode enters
//! its ring before its last capability leaves the tree, under the same hold of the root's lock. So
//! a reset that finds neither descendants nor zombies has seen all.
//!
//! A task's list has references that outlive a kernel entry. The CPU that finishes a zombie takes
//! it out of its ring and out of the list before its entry is over, and the memory is reused only
//! after that.
//!
//! # The task that ended a CNode
//! The objects in a CNode end because of the task that ended the CNode, not because of the task
//! that happens to empty it. So, if there is an [audit](crate::security::records), the CNode keeps
//! the id of the task that ended it, and so does each CNode that ends with it.
//!
//! # What cannot be emptied
//! A task cannot destroy its own objects. Nobody can destroy a pinned frame. A task drops a CNode
//! with such an object from its list, and its system call ends without an error. A reset tries each
//! of its zombies in one *pass*, then all that are left in a second one. If some are left after
//! that, it is refused.

use abi::{Cap, Error, Fate, Grant};
use kern_base::header::{FLAG_DEAD, Header};
use kern_base::limits::{DELETE_WORK, RECORD_WORK};
use kern_base::machine::Machine;
use kern_base::memory::Untyped;
use kern_base::objects::header_of;
use kern_base::slot::{CNode, made_at};
use kern_base::task::Task;
use smp::door::Ref;
use smp::lock::Guard;
use smp::sync::Ordering::Relaxed;

use crate::begun::is_again;
use crate::caps::slots::is_claimed;
use crate::life::reclaim::Pins;
use crate::payload::grants::Grants;
use crate::rooms::Life;
use crate::work::LOOK_WORK;
use crate::{OpenTask, Refusal, Result, Root, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    fn lock_zombies(self) -> Guard<'k, ()> {
        self.k.zombies.lock(self.cpu, &"the lists of zombies")
    }

    /// Makes a zombie of a CNode whose last capability is about to leave its tree. The running task
    /// empties it, unless it was made after the task's first zombie had ended.
    /// Requires: the lock of the CNode's root is held.
    pub fn bury(self, me: OpenTask<'k>, cnode: Ref<'k, CNode>) {
        if self.security().is_told() {
            cnode.get().set_ender(self.security().actor());
        }
        if let Some(owner) = self.owner_of(cnode) {
            self.enter_ring(owner, cnode);
            owner.get().zombies.set(Some(cnode));
        }
        let now = made_at(self.k.machine.now());
        let _lists = self.lock_zombies();
        let first = me.get().zombies.get(self.pin());
        if first.is_none() {
            me.get().zombies_since.store(now, Relaxed);
        } else if is_later(cnode.get().made.load(Relaxed), me.get().zombies_since.load(Relaxed)) {
            return;
        }
        cnode.get().worker.set(Some(me.object()));
        cnode.get().listed.next.set(first);
        if let Some(first) = first {
            first.get().worker.set(None);
            first.get().listed.prev.set(Some(cnode));
        }
        me.get().zombies.set(Some(cnode));
    }

    /// Returns the Untyped that has a zombie in its ring: the one that the CNode was made of, or
    /// the first above it that has not ended. An Untyped is smaller than the one it was made of, so
    /// few are above each other.
    /// Requires: the root lock is held, here and in the functions below.
    fn owner_of(self, cnode: Ref<'k, CNode>) -> Option<Ref<'k, Untyped>> {
        let mut owner = cnode.get().made_of.get(self.pin())?;
        while owner.get().header.has_flag(FLAG_DEAD)
            && let Some(above) = owner.get().made_of.get(self.pin())
        {
            owner = above;
        }
        Some(owner)
    }

    /// Puts a zombie into a ring, behind all others.
    fn enter_ring(self, owner: Ref<'k, Untyped>, cnode: Ref<'k, CNode>) {
        let first = owner.get().zombies.get(self.pin()).unwrap_or(cnode);
        let last = first.get().ring.prev.get(self.pin()).unwrap_or(cnode);
        join(last, cnode);
        join(cnode, first);
        owner.get().zombies.set(Some(first));
    }

    /// Takes a zombie out of its ring.
    fn leave_ring(self, owner: Ref<'k, Untyped>, cnode: Ref<'k, CNode>) {
        let ring = &cnode.get().ring;
        let Some((prev, next)) = ring.prev.get(self.pin()).zip(ring.next.get(self.pin())) else { return };
        join(prev, next);
        if owner.get().zombies.is(cnode) {
            owner.get().zombies.set(Some(next).filter(|next| *next != cnode));
        }
        ring.next.set(None);
        ring.prev.set(None);
    }

    /// Hands the zombies of an Untyped that ends to the Untyped of which it was made. The memory of
    /// a boot Untyped is not reused, and its zombies stay with it.
    pub fn hand_zombies_up(self, untyped: Ref<'k, Untyped>) {
        untyped.get().header.set_flag(FLAG_DEAD);
        let Some(above) = untyped.get().made_of.get(self.pin()) else { return };
        let Some(first) = untyped.get().zombies.get(self.pin()) else { return };
        untyped.get().zombies.set(None);
        if let Some(other) = above.get().zombies.get(self.pin())
            && let Some(last) = first.get().ring.prev.get(self.pin())
            && let Some(other_last) = other.get().ring.prev.get(self.pin())
        {
            join(last, other);
            join(other_last, first);
        }
        // In front: a pass that is under way has not tried them.
        above.get().zombies.set(Some(first));
    }

    /// Dissolves a task's list of zombies: from now on they are the work of their Untypeds only.
    pub fn drop_zombies(self, task: Ref<'k, Task>) {
        if task.get().zombies.is_null() {
            return;
        }
        let _lists = self.lock_zombies();
        if let Some(first) = task.get().zombies.get(self.pin()) {
            first.get().worker.set(None);
            task.get().zombies.set(None);
        }
    }

    /// Dissolves the running task's list of zombies if the task begins a system call.
    #[inline(always)]
    pub fn begin_zombies(self, me: OpenTask<'k>) {
        if !is_again(me.part()) {
            self.drop_zombies(me.object());
        }
    }

    /// Empties what a refused system call has ended, before the caller gets the error: in this
    /// entry, or in later ones, in which the call is refused again. `counts`: the entry has counted
    /// its work, so that not much may be left.
    #[cold]
    pub fn empty_before(self, me: OpenTask<'k>, counts: bool) -> Result<()> {
        if counts {
            self.allow_step();
        } else {
            self.begin_steps();
        }
        let emptied = self.empty_own_zombies(me);
        self.bound_work();
        emptied
    }

    /// Takes a zombie out of the list of the task that empties it, if it is in one.
    fn leave_list(self, cnode: Ref<'k, CNode>) {
        let _lists = self.lock_zombies();
        let CNode { listed, worker, .. } = cnode.get();
        let (prev, next) = (listed.prev.get(self.pin()), listed.next.get(self.pin()));
        let task = worker.get(self.pin());
        if let Some(prev) = prev {
            prev.get().listed.next.set(next);
        }
        if let Some(next) = next {
            next.get().listed.prev.set(prev);
            // Only the first of a list names the task.
            next.get().worker.set(task);
        }
        if let Some(task) = task {
            task.get().zombies.set(next);
        }
        listed.next.set(None);
        listed.prev.set(None);
        worker.set(None);
    }

    /// Notes that a zombie is empty: nothing refers to it any more.
    fn finish_zombie(self, cnode: Ref<'k, CNode>) {
        {
            let _root = self.caps().lock_root(&cnode.get().header);
            if cnode.get().header.set_flag(FLAG_DEAD)
                && let Some(owner) = self.owner_of(cnode)
            {
                self.leave_ring(owner, cnode);
            }
        }
        self.leave_list(cnode);
    }

    /// Empties the zombies of the running task's list. Those with objects that the task cannot end
    /// leave the list.
    #[inline(always)]
    pub fn empty_own_zombies(self, me: OpenTask<'k>) -> Result<()> {
        if me.get().zombies.is_null() { Ok(()) } else { self.empty_list(me) }
    }

    #[cold]
    #[inline(never)]
    fn empty_list(self, me: OpenTask<'k>) -> Result<()> {
        while let Some(cnode) = me.get().zombies.get(self.pin()) {
            // There may be many, and all empty.
            self.afford(RECORD_WORK)?;
            match self.empty_for_ender(me, cnode) {
                Ok(()) => self.finish_zombie(cnode),
                Err(Refusal::Error { error: Error::InUse, .. }) => self.leave_list(cnode),
                Err(refusal) => return Err(refusal),
            }
            self.bound_work();
        }
        Ok(())
    }

    /// Begins a pass over an Untyped's zombies: each of them is tried.
    pub fn begin_pass(self, root: &Root, untyped: &Untyped) {
        untyped.pass.store(root.next_pass(), Relaxed);
    }

    /// Empties the zombies of an Untyped.
    /// Errors: [`Error::InUse`] if some of them could not be emptied in two passes.
    pub fn empty_zombies_of(self, me: OpenTask<'k>, untyped: Ref<'k, Untyped>) -> Result<()> {
        while let Some(cnode) = self.untried_zombie(untyped)? {
            // There may be many, and all empty.
            self.afford(RECORD_WORK)?;
            match self.empty_for_ender(me, cnode) {
                Ok(()) => self.finish_zombie(cnode),
                Err(Refusal::Error { error: Error::InUse, .. }) => self.pass_over(cnode),
                Err(refusal) => return Err(refusal),
            }
            self.bound_work();
        }
        Ok(())
    }

    /// Returns a zombie of an Untyped that the pass under way has not tried; `None` if the Untyped
    /// has none.
    fn untried_zombie(self, untyped: Ref<'k, Untyped>) -> Result<Option<Ref<'k, CNode>>> {
        let root = self.caps().lock_root(&untyped.get().header);
        let Untyped { zombies, pass, retried, .. } = untyped.get();
        let first = zombies.get(self.pin());
        // Those that were tried are behind the others.
        if first.is_some_and(|first| first.get().tried.load(Relaxed) == pass.load(Relaxed)) {
            if retried.swap(true, Relaxed) {
                retried.store(false, Relaxed);
                return Err(Error::InUse.into());
            }
            self.begin_pass(&root, untyped.get());
        }
        if first.is_none() {
            retried.store(false, Relaxed);
        }
        Ok(first)
    }

    /// Notes that the pass under way has tried a zombie in vain.
    fn pass_over(self, cnode: Ref<'k, CNode>) {
        let _root = self.caps().lock_root(&cnode.get().header);
        if let Some(owner) = self.owner_of(cnode)
            && !cnode.get().header.has_flag(FLAG_DEAD)
        {
            cnode.get().tried.store(owner.get().pass.load(Relaxed), Relaxed);
            self.leave_ring(owner, cnode);
            self.enter_ring(owner, cnode);
        }
    }

    /// Empties a CNode. The audit records each object that ends with it under the task that ended
    /// the CNode.
    fn empty_for_ender(self, me: OpenTask<'k>, cnode: Ref<'k, CNode>) -> Result<()> {
        self.sched.ender.set(self.security().is_told().then(|| cnode.get().ender()));
        let emptied = self.empty(me, cnode);
        self.sched.ender.set(None);
        emptied
    }

    /// Empties the remaining slots of a CNode.
    /// Errors: [`Refusal::More`] when the entry has no work left.
    fn empty(self, me: OpenTask<'k>, cnode: Ref<'k, CNode>) -> Result<()> {
        let header = &cnode.get().header;
        loop {
            let at = header.swept();
            let Some(slot) = cnode.get().slots.known().get(self.pin(), at) else { return Ok(()) };
            self.afford(2 * LOOK_WORK)?;
            let word = slot.get().word.load(self.pin());
            refuse_if(is_claimed(word), Refusal::More)?;
            if word.object_type() != 0 {
                self.afford(DELETE_WORK)?;
                self.delete_slot(me, slot, Pins::Hold)?;
            }
            header.sweep(at);
            self.bound_work();
        }
    }

    /// Deletes the capabilities that an earlier check has marked in the list of the running task's
    /// message. Then the system call restarts, because an object that it has looked up may have
    /// ended.
    #[inline(never)]
    pub fn dispose_grants(self, me: OpenTask<'k>) -> Refusal {
        self.begin_steps();
        let disposed = self.dispose_all(me);
        self.bound_work();
        disposed.err().unwrap_or(Refusal::More)
    }

    fn dispose_all(self, me: OpenTask<'k>) -> Result<()> {
        let mut grants = Grants::new();
        self.payload().grants_of(me.object(), &mut grants)?;
        for (place, grant) in grants.into_iter().enumerate() {
            let Grant::Dispose { cap, of } = grant else { continue };
            let fate = match self.dispose(me, cap, of) {
                Ok(fate) => fate,
                Err(Refusal::Error { .. }) => Fate::Kept,
                Err(later) => return Err(later),
            };
            self.payload().mark(me.object(), place, Grant::Settled { cap, fate });
        }
        self.empty_own_zombies(me)
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

/// Whether a CNode was made after a time. Times wrap: one that is very long ago is later.
fn is_later(made: u32, since: u32) -> bool {
    made.wrapping_sub(since) as i32 > 0
}

/// Makes two zombies neighbours in a ring.
fn join(prev: Ref<'_, CNode>, next: Ref<'_, CNode>) {
    prev.get().ring.next.set(Some(next));
    next.get().ring.prev.set(Some(prev));
}
