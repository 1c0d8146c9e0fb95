//! Capability slots: lookup, and the derivation tree.
//!
//! # Lock protocol
//! The tree of one root changes under that root's lock ([`crate::Kernel::roots`]); the root is that
//! of the slot's object. A CPU never holds two root locks together. Look-ups take no lock. They
//! read word 0 once, and the words that belong to it do not change for the rest of the entry,
//! because an emptied slot is filled again only after a grace period.

use abi::{CNodeRights, Cap, Error, ObjType, Op, Rights, Target};
use kern_base::group::{Exposure, Group};
use kern_base::header::{FLAG_DYING, Header};
use kern_base::limits::{LOCK_ROUNDS, RAISED_MAX};
use kern_base::machine::Machine;
use kern_base::memory::{Untyped, UntypedGuard};
use kern_base::objects::{Headed, RawWord, header_of};
use kern_base::process::Process;
use kern_base::roots::RootGuard;
use kern_base::slot::{CNode, DEPTH_MAX, Found, Place, Slot};
use kern_base::task::Task;
use smp::cpu::Pin;
use smp::door::{Ref, number_of};
use smp::lock::Guard;
use smp::planted::{Fault, linger, planted};
use smp::sync::Ordering::{Acquire, Relaxed, SeqCst};
use smp::sync::fence_after_exchange;

use crate::args::Args;
use crate::caps::growth::Reach;
use crate::rooms::Caps;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, Root, refuse_if};

/// A task that was found through a group.
pub struct Dest<'k> {
    pub task: Ref<'k, Task>,
    /// The tag half of its state word, as exposed.
    pub tag: u64,
    /// The caller's custom bits in the group.
    pub custom: u16,
}

/// A group that the caller may act in.
#[derive(Clone, Copy)]
pub struct InGroup<'k> {
    pub group: Ref<'k, Group>,
    pub custom: u16,
}

/// A capability of an Untyped, as it was found in its slot.
#[derive(Clone, Copy)]
pub struct UntypedCap<'k> {
    pub slot: Ref<'k, Slot>,
    pub word: RawWord<'k>,
    pub untyped: Ref<'k, Untyped>,
}

impl<'k> UntypedCap<'k> {
    /// Returns whether the capability of the Untyped is still in its slot.
    #[inline(always)]
    pub fn is_there(self, pin: Pin<'k>) -> bool {
        self.slot.get().word.load(pin) == self.word
    }
}

/// Work of a descendant of a slot that leaves the tree.
const RAISE_WORK: u64 = 3 * LOOK_WORK;

impl<'k, M: Machine> Caps<'k, M> {
    /// Returns the slot of a capability in a process's CSpace.
    #[inline(always)]
    pub fn slot_of(self, process: Ref<'k, Process>, cap: Cap) -> Result<Ref<'k, Slot>> {
        let missing = Refusal::new(Error::NoCapability, u64::from(cap.0));
        let cnode = process.get().cnode.get(self.pin()).ok_or(missing)?;
        self.slot_in(Reach::cspace(cnode), cap.0 as usize).map(|place| place.slot).ok_or(missing)
    }

    /// Returns the slot of the caller's capability, and its word, which is read once: others may
    /// empty the slot meanwhile.
    #[inline(always)]
    pub fn look(self, me: OpenTask<'k>, cap: Cap) -> Result<(Ref<'k, Slot>, RawWord<'k>)> {
        let slot = self.slot_of(me.process(self.pin()), cap)?;
        Ok((slot, slot.get().word.load(self.pin())))
    }

    /// Returns the object of a capability's word, if the object is a `T` and the word has the
    /// rights. The error names `cap`.
    #[inline(always)]
    pub fn typed<T: Headed>(
        self,
        word: RawWord<'k>,
        cap: Cap,
        need: impl Into<T::Rights>,
    ) -> Result<Ref<'k, T>> {
        let need: Rights = need.into().into();
        word.get_with::<T>(need.0).ok_or_else(|| Self::why_not::<T>(word, cap, need))
    }

    /// Returns the refusal for a capability whose word is not a `T` with these rights.
    #[cold]
    fn why_not<T: Headed>(word: RawWord<'k>, cap: Cap, need: Rights) -> Refusal {
        match word.object_type() {
            0 => Refusal::new(Error::NoCapability, u64::from(cap.0)),
            _ if word.get::<T>().is_some() => {
                Refusal::new(Error::NoRight, u64::from(need.minus(Rights(word.rights())).0))
            }
            other => Refusal::new(Error::WrongType, u64::from(other)),
        }
    }

    /// Finds the object that an operation takes in an argument, and checks the rights that the list
    /// of operations asks. An argument that the list does not have does not compile.
    #[inline(always)]
    pub fn operand<T: Headed, const OP: u8, const AT: usize>(
        self,
        me: OpenTask<'k>,
        cap: Cap,
    ) -> Result<Ref<'k, T>> {
        let word = self.slot_of(me.process(self.pin()), cap)?.get().word.load(self.pin());
        self.typed_operand::<T, OP, AT>(word, cap)
    }

    /// Finds the objects that an operation takes in its first two arguments, as
    /// [`Caps::operand`] finds each.
    #[inline(always)]
    pub fn operands<A: Headed, B: Headed, const OP: u8>(
        self,
        me: OpenTask<'k>,
        args: &Args,
    ) -> Result<(Ref<'k, A>, Ref<'k, B>)> {
        let [first, second] = [args.cap(), args.cap1()];
        let missing = |cap: Cap| Refusal::new(Error::NoCapability, u64::from(cap.0));
        let cnode = me.process(self.pin()).get().cnode.get(self.pin()).ok_or(missing(first))?;
        let word = |cap: Cap| -> Result<RawWord<'k>> {
            let place = self.slot_in(Reach::cspace(cnode), cap.0 as usize).ok_or(missing(cap))?;
            Ok(place.slot.get().word.load(self.pin()))
        };
        let a = self.typed_operand::<A, OP, 0>(word(first)?, first)?;
        let b = self.typed_operand::<B, OP, 1>(word(second)?, second)?;
        Ok((a, b))
    }

    /// Returns the object of a capability's word, checked as argument `AT` of operation `OP` by
    /// type and rights.
    #[inline(always)]
    pub fn typed_operand<T: Headed, const OP: u8, const AT: usize>(
        self,
        word: RawWord<'k>,
        cap: Cap,
    ) -> Result<Ref<'k, T>> {
        self.typed::<T>(word, cap, const { Op::asked(OP, AT, number_of::<T>()) })
    }

    /// Finds the object of a capability, and checks its rights.
    #[inline(always)]
    pub fn find<T: Headed>(
        self,
        me: OpenTask<'k>,
        cap: Cap,
        need: impl Into<T::Rights>,
    ) -> Result<Found<'k, T>> {
        self.find_of(me.process(self.pin()), cap, need)
    }

    /// Finds the object of a capability in a process's CSpace, and checks its rights.
    #[inline(always)]
    fn find_of<T: Headed>(
        self,
        process: Ref<'k, Process>,
        cap: Cap,
        need: impl Into<T::Rights>,
    ) -> Result<Found<'k, T>> {
        let slot = self.slot_of(process, cap)?;
        let word = slot.get().word.load(self.pin());
        let object = self.typed::<T>(word, cap, need)?;
        Ok(Found { object, rights: Rights(word.rights()), badge: slot.get().badge() })
    }

    /// Finds a process that is the caller's own, or that the caller may configure.
    #[inline(always)]
    pub fn find_configurable(self, me: OpenTask<'k>, cap: Cap) -> Result<Ref<'k, Process>> {
        let process = self.find::<Process>(me, cap, Rights::NONE)?.object;
        if process != me.process(self.pin()) {
            self.find::<Process>(me, cap, abi::OWN_PROCESS.rights)?;
        }
        Ok(process)
    }

    /// Returns the object of a capability in a CSpace's table, if it has the rights. Slot 0 is
    /// empty.
    #[inline(always)]
    pub fn object<T: Headed>(
        self,
        table: &CNode,
        cap: Cap,
        need: impl Into<T::Rights>,
    ) -> Option<Ref<'k, T>> {
        let need: Rights = need.into().into();
        table.slots.get_or_first(self.pin(), cap.0 as usize).get().word.load(self.pin()).get_with::<T>(need.0)
    }

    /// Finds the slot that a `CNode and slot` argument names.
    #[inline(always)]
    pub fn find_slot<const OP: u8, const AT: usize>(
        self,
        process: Ref<'k, Process>,
        at: Target,
    ) -> Result<Place<'k>> {
        let (reach, index) = self.find_cnode::<OP, AT>(process, at)?;
        self.slot_in(reach, index).ok_or(Refusal::new(Error::NoCapability, index as u64))
    }

    /// Finds the reach of the CNode that a `CNode and slot` argument names, and the number of the
    /// slot, which is not 0.
    #[inline(always)]
    pub fn find_cnode<const OP: u8, const AT: usize>(
        self,
        process: Ref<'k, Process>,
        at: Target,
    ) -> Result<(Reach<'k>, usize)> {
        let need = const { Op::asked(OP, AT, ObjType::CNode as u8) };
        let reach = self.reach_of(process, at.cap(), need)?;
        match at.index() {
            0 => Err(Refusal::new(Error::NoCapability, 0)),
            index => Ok((reach, index as usize)),
        }
    }

    /// Returns the slots that a CNode's capability reaches. The caller's own CNode needs no right,
    /// and stands for its whole CSpace.
    #[inline(always)]
    pub fn reach_of(
        self,
        process: Ref<'k, Process>,
        cap: Cap,
        need: impl Into<CNodeRights>,
    ) -> Result<Reach<'k>> {
        let own = process.get().cnode.get(self.pin());
        let cnode = self.find_of::<CNode>(process, cap, Rights::NONE)?;
        let missing = need.into().rights().minus(cnode.rights);
        let whole = own == Some(cnode.object);
        refuse_if(!whole && missing != Rights::NONE, Refusal::new(Error::NoRight, u64::from(missing.0)))?;
        Ok(Reach { first: cnode.object, whole })
    }

    /// Finds a group by capability and member record: both must have the rights.
    #[inline(always)]
    pub fn find_group(self, me: OpenTask<'k>, cap: Cap, need: Rights) -> Result<InGroup<'k>> {
        let (slot, word) = self.look(me, cap)?;
        self.group_in(me, slot, word, cap, need)
    }

    /// Finds a group by the word of a slot. The caller reads the word once, because others may fill
    /// the slot meanwhile.
    #[inline(always)]
    pub fn group_in(
        self,
        me: OpenTask<'k>,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        cap: Cap,
        need: Rights,
    ) -> Result<InGroup<'k>> {
        let group = self.typed::<Group>(word, cap, need)?;
        let member = group.get().member_of(self.pin(), slot.get()).ok_or(Refusal::from(Error::NotMember))?;
        let missing = need.minus(member.rights());
        refuse_if(
            member.key() != me.process(self.pin()).get().key() || missing != Rights::NONE,
            Refusal::new(Error::NotMember, u64::from(missing.0)),
        )?;
        Ok(InGroup { group, custom: member.custom() })
    }

    /// Returns an exposure and its contents; for one task per CPU, this CPU's entry.
    #[inline(always)]
    pub fn exposed(self, group: &'k Group, index: u32) -> Result<(&'k Exposure, RawWord<'k>)> {
        let missing = Refusal::new(Error::NoExposure, u64::from(index));
        let entry = group.exposures.get(self.pin(), index as usize).ok_or(missing)?.get();
        match entry.per_cpu.load(Acquire) {
            0 => Ok((entry, entry.slot.word.load(self.pin()))),
            first => self.entry_here(group, index, first - 1).ok_or(missing),
        }
    }

    /// Returns this CPU's entry of an exposure with one task per CPU. The exposure may end
    /// meanwhile, and the entry may get another owner, so this function reads the owner after the
    /// contents. The entry cannot change its owner and change back in between, because a new
    /// exposure waits until this kernel entry is over.
    #[inline(always)]
    fn entry_here(self, group: &'k Group, index: u32, first: u32) -> Option<(&'k Exposure, RawWord<'k>)> {
        let entry = group.exposures.known().get(self.pin(), first as usize + self.id().index())?.get();
        let word = entry.slot.word.load(self.pin());
        (entry.part_of.load(Acquire) == index + 1).then_some((entry, word))
    }

    /// Finds the task that a target names: an index of a group. The running task's process must be
    /// a member of that group, and have the rights in its capability and in its member record.
    #[inline(always)]
    pub fn resolve_task(self, me: OpenTask<'k>, target: Target, need: Rights) -> Result<Dest<'k>> {
        self.task_in(self.find_group(me, target.cap(), need)?, target.index())
    }

    /// Returns the task that is exposed at an index of a group.
    #[inline(always)]
    pub fn task_in(self, InGroup { group, custom }: InGroup<'k>, index: u32) -> Result<Dest<'k>> {
        let (entry, word) = self.exposed(group.get(), index)?;
        let task = word.get::<Task>().ok_or(Refusal::new(Error::NoExposure, u64::from(index)))?;
        Ok(Dest { task, tag: entry.tag.load(Relaxed), custom })
    }

    /// Locks the tree of an object's root.
    pub fn lock_root(self, header: &Header) -> RootGuard<'k> {
        self.k.roots.lock(self.cpu, header)
    }

    /// Locks the tree of an object's root, where a system call can start again.
    /// Errors: [`Refusal::More`] if this CPU has waited, and an interrupt waits for it.
    #[inline(always)]
    pub fn lock_root_or_leave(self, header: &Header) -> Result<RootGuard<'k>> {
        self.k.roots.lock_or_leave(self.cpu, header, |rounds| self.leaves(rounds)).ok_or(Refusal::More)
    }

    /// Returns whether a CPU leaves the line of a lock after so many rounds of waiting.
    #[inline(always)]
    fn leaves(self, rounds: u64) -> bool {
        // Not in each round: to ask takes longer than a round.
        rounds >= LOCK_ROUNDS && rounds.is_multiple_of(16) && self.time().is_wanted()
    }

    /// Finds the capability of an Untyped that objects are made of, or that is reset.
    #[inline(always)]
    pub fn find_untyped(self, me: OpenTask<'k>, cap: Cap) -> Result<UntypedCap<'k>> {
        let (slot, word) = self.look(me, cap)?;
        Ok(UntypedCap { slot, word, untyped: self.typed::<Untyped>(word, cap, Rights::NONE)? })
    }

    /// Takes the lock of an Untyped.
    pub fn open(self, untyped: Ref<'k, Untyped>) -> UntypedGuard<'k> {
        untyped.get().lock(self.cpu)
    }

    /// Takes the lock of an Untyped, where a system call can start again.
    /// Errors: [`Refusal::More`] as for [`Caps::lock_root_or_leave`].
    #[inline(always)]
    pub fn open_or_leave(self, untyped: Ref<'k, Untyped>) -> Result<UntypedGuard<'k>> {
        untyped.get().lock_or_leave(self.cpu, |rounds| self.leaves(rounds)).ok_or(Refusal::More)
    }

    /// Locks the root of an Untyped to make objects of it, if the capability is still there, and
    /// objects may be made now. Requires: the Untyped's lock is held.
    #[inline(always)]
    pub fn lock_to_make(self, cap: UntypedCap<'k>) -> Result<RootGuard<'k>> {
        let root = self.lock_root_or_leave(&cap.untyped.get().header)?;
        self.check_open(cap)?;
        Ok(root)
    }

    /// Checks that the capability of an Untyped is still there, and that objects may be made of it.
    /// The answer holds while the root's lock and the Untyped's are held.
    #[inline(always)]
    pub fn check_open(self, cap: UntypedCap<'k>) -> Result<()> {
        let untyped = cap.untyped.get();
        let open = !untyped.resetting.load(SeqCst) && !untyped.header.has_flag(FLAG_DYING);
        refuse_if(!(cap.is_there(self.pin()) && open), Error::Dying)
    }

    /// Claims an empty slot for filling. Waits for the grace period of its last capability.
    ///
    /// The CPU that destroys the table marks the table as dying and then checks its slots; this
    /// function claims the slot and then checks the table. One of the two sees the other.
    #[inline(always)]
    pub fn claim(self, at: Place<'k>) -> Result<()> {
        let word = at.slot.get().word.load(self.pin());
        self.check_fillable(word)?;
        refuse_if(!at.slot.get().word.claim(word, CLAIMED), Error::SlotOccupied)?;
        fence_after_exchange();
        if at.table.has_flag(FLAG_DYING) {
            self.unclaim(at.slot);
            return Err(Error::Dying.into());
        }
        Ok(())
    }

    /// Checks that a slot with this word can be filled: it is empty, and its grace period is over.
    #[inline(always)]
    pub fn check_fillable(self, word: RawWord<'k>) -> Result<()> {
        let stamp = word.empty_value();
        refuse_if(word.object_type() != 0 || stamp == CLAIMED, Error::SlotOccupied)?;
        // Another CPU is emptying it.
        refuse_if(stamp > CLAIMED, Refusal::More)?;
        refuse_if(!self.k.cpus.epoch.is_reusable(stamp), Refusal::Restart { epoch: stamp + 2 })
    }

    /// Claims an empty slot for what fills it. If that is refused, gives the slot up unused.
    #[inline(always)]
    pub fn claim_for<T>(self, at: Place<'k>, fill: impl FnOnce() -> Result<T>) -> Result<T> {
        self.claim(at)?;
        fill().inspect_err(|_| self.unclaim(at.slot))
    }

    /// Gives up a claimed slot unused.
    pub fn unclaim(self, slot: Ref<'k, Slot>) {
        slot.get().word.set_empty(0);
    }

    /// Checks that a capability can be derived from the capability that was read from this slot
    /// before its root lock was taken.
    pub fn check_parent(self, _root: &Root, parent: Ref<'k, Slot>, word: RawWord<'k>) -> Result<()> {
        self.check_there(parent, word)?;
        self.check_depth(parent)
    }

    /// Checks that a slot still has the capability that was read before its root lock was taken, of
    /// an object that does not end.
    pub fn check_there(self, slot: Ref<'k, Slot>, word: RawWord<'k>) -> Result<()> {
        let ends = header_of(word).is_none_or(|header| header.has_flag(FLAG_DYING));
        if ends || slot.get().word.load(self.pin()) != word { Err(Error::Dying.into()) } else { Ok(()) }
    }

    /// Checks that the tree's depth allows another derivation from this capability.
    pub fn check_depth(self, parent: Ref<'k, Slot>) -> Result<()> {
        if parent.get().depth() < DEPTH_MAX {
            Ok(())
        } else {
            Err(Refusal::new(Error::Full, u64::from(DEPTH_MAX)))
        }
    }

    /// Fills a claimed slot with a new object's first capability. The object gets its number and
    /// label.
    pub fn fill_first<T: Headed>(
        self,
        root: &Root,
        slot: Ref<'k, Slot>,
        object: Ref<'k, T>,
        parent: Ref<'k, Slot>,
        label: u32,
    ) {
        let header = object.get().header();
        root.number(header);
        if label != 0 {
            header.set_label(label);
        }
        self.fill(slot, parent, 0, header);
        slot.get().word.set(object, Rights::ALL.0);
    }

    /// Fills a claimed slot with a child of `parent`.
    /// Requires: the root lock is held, and `word` was read from `parent` under it.
    pub fn fill_derived(
        self,
        slot: Ref<'k, Slot>,
        parent: Ref<'k, Slot>,
        word: RawWord<'k>,
        rights: Rights,
        badge: u64,
    ) {
        if let Some(header) = header_of(word) {
            self.fill(slot, parent, badge, header);
            slot.get().word.set_raw(word, rights.0);
        }
    }

    /// Writes all but the word of a slot that becomes a child of `parent`, and adds a reference to
    /// the object.
    /// Requires: the root lock is held.
    #[inline(always)]
    pub fn fill(self, slot: Ref<'k, Slot>, parent: Ref<'k, Slot>, badge: u64, header: &Header) {
        self.join(Some(slot), parent.get().next.get(self.pin()));
        self.join(Some(parent), Some(slot));
        let depth = parent.get().depth() + 1;
        slot.get().set_meta(badge, depth, depth);
        header.add_ref();
    }

    /// Makes two slots neighbours in the tree's list. `None`: the list ends there.
    #[inline(always)]
    fn join(self, prev: Option<Ref<'k, Slot>>, next: Option<Ref<'k, Slot>>) {
        if let Some(prev) = prev {
            prev.get().next.set(next);
        }
        if let Some(next) = next {
            next.get().prev.set(prev);
        }
    }

    /// Takes a slot out of the tree and empties it; its children become those of its parent.
    /// Requires: the root lock is held.
    #[inline(always)]
    pub fn take_out(self, slot: Ref<'k, Slot>, object: &Header) {
        let (next, prev) = (slot.get().next.get(self.pin()), slot.get().prev.get(self.pin()));
        if let Some(next) = next
            && slot.get().floor() < next.get().floor()
        {
            self.hand_floor(slot, next);
        }
        self.join(prev, next);
        slot.get().next.set(None);
        slot.get().prev.set(None);
        self.k.cpus.epoch.retire(&slot.get().word);
        object.drop_ref();
    }

    /// Hands the floor of a slot that leaves the tree to the slot after it ([`kern_base::slot`]).
    /// If the leaving slot has few descendants, they become one less deep. So a capability that is
    /// copied on and on, with each original deleted, does not reach the greatest depth.
    #[inline(never)]
    fn hand_floor(self, slot: Ref<'k, Slot>, next: Ref<'k, Slot>) {
        let (depth, floor) = (slot.get().depth(), slot.get().floor());
        let below = || {
            core::iter::successors(Some(next), |at| at.get().next.get(self.pin()))
                .take_while(|at| at.get().floor() > depth)
        };
        let count = below().take(RAISED_MAX + 1).count();
        self.note_work(count as u64 * RAISE_WORK);
        if count <= RAISED_MAX {
            for at in below().take(count) {
                at.get().set_level(at.get().depth() - 1, at.get().floor() - 1);
            }
        }
        next.get().set_level(next.get().depth(), floor);
    }

    /// Returns the slot after this one, if it was derived from this one.
    /// Requires: the root lock is held.
    #[inline(always)]
    pub fn child_of(self, slot: Ref<'k, Slot>) -> Option<Ref<'k, Slot>> {
        slot.get().next.get(self.pin()).filter(|next| next.get().floor() > slot.get().depth())
    }

    /// Carries out [`abi::Op::CapCopy`].
    pub fn cap_copy(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (source, rights, badge) = (args.cap(), Rights(args.a2 as u32), args.a3);
        let process = me.process(self.pin());
        let from = self.slot_of(process, source)?;
        let at = self.find_slot::<{ Op::CapCopy as u8 }, 1>(process, Target(args.a1))?;
        let word = from.get().word.load(self.pin());
        let header = header_of(word).ok_or(Refusal::new(Error::NoCapability, u64::from(source.0)))?;
        self.check_copy(word, rights)?;
        refuse_if(badge >> kern_base::slot::BADGE_BITS != 0, Refusal::argument(3))?;
        self.security().may_grant(me, at, header)?;
        self.claim_for(at, || {
            linger();
            let root = self.lock_root_or_leave(header)?;
            if !planted(Fault::UncheckedCopy) {
                self.check_parent(&root, from, word)?;
            }
            self.fill_copy(at.slot, from, word, rights, badge);
            Ok(())
        })?;
        self.security().audit_grant(me.object(), Some(Op::CapCopy), at);
        Ok(Answer::DONE)
    }

    /// Checks that a slot's capability can be copied with these rights.
    pub fn check_copy(self, word: RawWord<'k>, rights: Rights) -> Result<()> {
        let excess = rights.minus(Rights(word.rights()));
        refuse_if(excess != Rights::NONE, Refusal::new(Error::Amplifies, u64::from(excess.0)))?;
        if word.object_type() == ObjType::Untyped as u8 {
            // With two capabilities of one Untyped, the kernel could not tell whose objects a reset
            // would end.
            return Err(Refusal::new(Error::WrongType, u64::from(word.object_type())));
        }
        // Also within one CSpace: a copy can be moved away, and the original remains.
        if Rights(word.rights()).contains(Rights::GRANT) {
            Ok(())
        } else {
            Err(Refusal::new(Error::NoRight, u64::from(Rights::GRANT.0)))
        }
    }

    /// Fills a claimed slot with a copy of the capability in `from`, as [`Caps::fill_derived`]
    /// does, with the badge that a copy gets.
    pub fn fill_copy(
        self,
        slot: Ref<'k, Slot>,
        from: Ref<'k, Slot>,
        word: RawWord<'k>,
        rights: Rights,
        badge: u64,
    ) {
        let keep = keeps_badge(word.object_type(), from.get().badge());
        let badge = if keep { from.get().badge() } else { badge };
        self.fill_derived(slot, from, word, rights, badge);
    }

    /// Carries out [`abi::Op::CapMove`].
    pub fn cap_move(self, me: OpenTask<'k>, source: Cap, to: Target) -> Result<Answer> {
        let process = me.process(self.pin());
        let from = self.slot_of(process, source)?;
        let at = self.find_slot::<{ Op::CapMove as u8 }, 1>(process, to)?;
        let word = from.get().word.load(self.pin());
        let header = header_of(word).ok_or(Refusal::new(Error::NoCapability, u64::from(source.0)))?;
        self.security().may_grant(me, at, header)?;
        self.claim_for(at, || {
            let _root = self.lock_root_or_leave(header)?;
            self.check_there(from, word)?;
            refuse_if(self.is_being_reset(word), Error::Dying)?;
            self.replace_slot(from, at.slot, word);
            Ok(())
        })?;
        self.security().audit_grant(me.object(), Some(Op::CapMove), at);
        Ok(Answer::DONE)
    }

    /// Moves the capability of `from` to `slot`. `from` becomes empty.
    /// Requires: the root lock is held.
    pub fn replace_slot(self, from: Ref<'k, Slot>, slot: Ref<'k, Slot>, word: RawWord<'k>) {
        let (next, prev) = (from.get().next.get(self.pin()), from.get().prev.get(self.pin()));
        slot.get().set_meta(from.get().badge(), from.get().depth(), from.get().floor());
        self.join(prev, Some(slot));
        self.join(Some(slot), next);
        from.get().next.set(None);
        from.get().prev.set(None);
        self.k.cpus.epoch.retire(&from.get().word);
        slot.get().word.set_raw(word, word.rights());
    }

    /// Returns whether a capability's object is an Untyped that is being reset.
    /// Requires: the lock of the Untyped's root is held.
    pub fn is_being_reset(self, word: RawWord<'k>) -> bool {
        word.get::<Untyped>().is_some_and(|untyped| untyped.get().resetting.load(SeqCst))
    }

    /// Takes the lock that guards which process has which spaces.
    pub fn lock_bindings(self) -> Guard<'k, ()> {
        self.k.binding_lock.lock(self.cpu, &"which process has which spaces")
    }
}

/// Returns whether a copy of a capability keeps the badge of its parent, whatever the caller asks
/// for. The badge of a group capability is its member record, which no copy may choose; the fast
/// path relies on this.
pub fn keeps_badge(object_type: u8, badge: u64) -> bool {
    object_type == ObjType::Group as u8 || badge != 0
}

/// Value of an empty word while a CPU fills it.
pub const CLAIMED: u64 = (1 << 59) - 2;
/// Returns whether a CPU has claimed an empty word to fill it.
pub fn is_claimed(word: RawWord<'_>) -> bool {
    word.object_type() == 0 && word.empty_value() == CLAIMED
}
