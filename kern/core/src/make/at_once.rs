//! Fast paths of frequent system calls. Each function checks all that its operation checks, and
//! changes nothing unless it completes the operation. It leaves all other cases to the operation
//! itself. Mapping one page: [`crate::mem::map`].
//!
//! Capabilities stay within one CSpace here. So [labels](crate::security::labels) matter only for
//! mapping a page, and for the [audit](crate::security::records) nothing is granted or ended.
//!
//! The destination slot is claimed last, because it belongs to another root. If the capability is
//! gone under the lock, the claim is given up, as on the slow path.

use abi::{Cap, ObjType, Op, Rights, Target};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::memory::Untyped;
use kern_base::notification::Notification;
use kern_base::objects::{RawWord, header_of_inlined};
use kern_base::process::Process;
use kern_base::slot::{BADGE_BITS, CNode, Meta, Place, Slot};
use smp::door::{OBJECT_ALIGN, Ref};
use smp::planted::{Fault, planted};
use smp::sync::fence_after_exchange;

use crate::caps::slots::{CLAIMED, DEPTH_MAX, keeps_badge};
use crate::rooms::Make;

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out a system call on the fast path, if it can: of the process of the running task
    /// with its arguments (rdi, rsi, rdx, r8; for an operation on pages the other arguments select
    /// one page). Returns the answer in rdi; all other answer registers are 0.
    #[inline(always)]
    pub fn do_at_once(self, op: Op, process: Ref<'k, Process>, args: [u64; 4]) -> Option<u64> {
        match op {
            Op::Map => self.mem().map_one(process, args).map(|()| 0),
            Op::Unmap => self.mem().unmap_one(process, args).map(|()| 0),
            Op::CapCopy => self.copy_one(process.get(), args).map(|()| 0),
            Op::CapDelete => self.delete_one(process.get(), args).map(|()| 0),
            Op::Retype => self.retype_one(process.get(), args),
            _ => None,
        }
    }

    /// Returns the slot of a CSpace's table for a capability, or an empty one if the table has no
    /// such slot.
    #[inline(always)]
    fn slot_at_hand(self, table: Ref<'k, CNode>, cap: Cap) -> Ref<'k, Slot> {
        table.get().slots.get_or_first(self.pin(), cap.0 as usize)
    }

    /// Returns the slot that a `CNode and slot` argument names, if it is in the own CNode.
    #[inline(always)]
    fn place_at_hand(self, own: Ref<'k, CNode>, at: Target) -> Option<Place<'k>> {
        let word = self.slot_at_hand(own, at.cap()).get().word.load(self.pin());
        if word.get::<CNode>()? != own {
            return None;
        }
        let slot = own.get().slots.get_but_first(self.pin(), at.index() as usize)?;
        Some(Place { slot, table: &own.get().header })
    }

    /// Claims a slot as [`Caps::claim`](crate::rooms::Caps::claim) does.
    #[inline(always)]
    fn claim_at_hand(self, at: Place<'k>) -> Option<()> {
        let word = &at.slot.get().word;
        let stamp = word.load(self.pin()).empty_value();
        // A slot with an object, or a claimed slot, fails one of the two.
        if !self.k.epoch.is_reusable(stamp) || !word.claim_since(stamp, CLAIMED) {
            return None;
        }
        fence_after_exchange();
        if at.table.has_flag(FLAG_DYING) {
            self.caps().unclaim(at.slot);
            return None;
        }
        Some(())
    }

    /// Does [`Caps::cap_copy`](crate::rooms::Caps::cap_copy).
    #[inline(always)]
    fn copy_one(self, process: &Process, [rdi, rsi, rdx, badge]: [u64; 4]) -> Option<()> {
        let own = process.cnode.get(self.pin())?;
        let from = self.slot_at_hand(own, Target(rdi).cap());
        let at = self.place_at_hand(own, Target(rsi))?;
        let word = from.get().word.load(self.pin());
        let rights = Rights(rdx as u32);
        let header = header_of_inlined(word)?;
        if planted(Fault::UncheckedCopy) {
            return None;
        }
        // An Untyped cannot be copied.
        if word.object_type() == ObjType::Untyped as u8 || badge >> BADGE_BITS != 0 {
            return None;
        }
        if (rights | Rights::GRANT).minus(Rights(word.rights())) != Rights::NONE {
            return None;
        }
        self.claim_at_hand(at)?;
        let root = self.k.roots.lock(self.cpu, header);
        let meta = from.get().meta();
        let gone = from.get().word.load(self.pin()) != word || header.has_flag(FLAG_DYING);
        if !root.leaving.is_null() || gone || meta.depth() >= DEPTH_MAX {
            drop(root);
            self.caps().unclaim(at.slot);
            return None;
        }
        let badge = if badge == 0 { 0 } else { new_badge(word.object_type(), meta, badge) };
        self.caps().link_after(at.slot, from);
        at.slot.get().set_meta_word(meta.below(badge));
        header.add_ref();
        at.slot.get().word.set_raw(word, rights.0);
        Some(())
    }

    /// Does [`Life::cap_delete`](crate::rooms::Life::cap_delete) for a capability that is not its
    /// object's last one and has no derived capability, while no CNode is being emptied.
    #[inline(always)]
    fn delete_one(self, process: &Process, [rdi, ..]: [u64; 4]) -> Option<()> {
        let own = process.cnode.get(self.pin())?;
        let slot = self.place_at_hand(own, Target(rdi))?.slot;
        let word = slot.get().word.load(self.pin());
        let header = header_of_inlined(word)?;
        if !self.k.graves.lock(self.cpu, &"the lists of graves").is_empty() {
            return None;
        }
        let root = self.k.roots.lock(self.cpu, header);
        let there = slot.get().word.load(self.pin()) == word;
        if !there || header.refs() <= 1 || !root.leaving.is_null() || self.caps().child_of(slot).is_some() {
            return None;
        }
        self.caps().take_out(slot, header);
        Some(())
    }

    /// Does [`Make::retype`] for one Notification.
    #[inline(always)]
    fn retype_one(self, process: &Process, [rdi, size, to, count]: [u64; 4]) -> Option<u64> {
        let own = process.cnode.get(self.pin())?;
        let parent = self.slot_at_hand(own, Target(rdi).cap());
        let word = parent.get().word.load(self.pin());
        let untyped = word.get::<Untyped>()?.get();
        if Target(rdi).index() != ObjType::Notification as u32 || size != 0 || count != 1 {
            return None;
        }
        let at = self.place_at_hand(own, Target(to))?;
        self.claim_at_hand(at)?;
        let made = self.make_notification(
            untyped,
            parent,
            word,
            at.slot,
            self.security().label_of_new(process, &untyped.header),
        );
        if made.is_none() {
            self.caps().unclaim(at.slot);
        }
        made
    }

    /// Makes the Notification. Returns the bytes that are left.
    #[inline(always)]
    fn make_notification(
        self,
        untyped: &Untyped,
        parent: Ref<'k, Slot>,
        word: RawWord<'k>,
        slot: Ref<'k, Slot>,
        label: u32,
    ) -> Option<u64> {
        let guard = self.k.roots.open(self.cpu, untyped);
        let there = parent.get().word.load(self.pin()) == word;
        if !there || !self.caps().is_open(untyped) || parent.get().depth() >= DEPTH_MAX {
            return None;
        }
        let region = guard.region();
        let piece = region.carve(size_of::<Notification>() as u64, OBJECT_ALIGN as u64)?;
        let object = piece.emplace(self.pin(), Notification::new(untyped.header.root(), self.id()))?;
        guard.number(&object.get().header);
        object.get().header.set_label(label);
        self.caps().fill(slot, parent, 0, &object.get().header);
        slot.get().word.set(object, Rights::ALL.0);
        Some(region.free())
    }
}

/// Returns the badge that a copy gets in addition to its parent's.
#[cold]
fn new_badge(object_type: u8, parent: Meta, badge: u64) -> u64 {
    if keeps_badge(object_type, parent.badge()) { 0 } else { badge }
}
