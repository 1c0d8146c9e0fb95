//! Holdings: reads slots one by one, in runs, or searches them for a capability.
//!
//! Nothing here takes a lock or changes anything. A slot's word is read once; the words that belong
//! to it do not change for the rest of the entry, as in every look-up ([`crate::caps::slots`]). A
//! run is no snapshot: a capability that moves during the run may be seen twice or not at all.

use abi::audit::{CAP_LIST_MAX, CapEntry};
use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::group::Group;
use kern_base::limits::HOLDING_LOOKS;
use kern_base::machine::Machine;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::Slot;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::caps::growth::Reach;
use crate::rooms::Caps;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Work of a look at a capability and at its group's record.
const HOLDING_WORK: u64 = 4 * LOOK_WORK;
/// Rights of a group's capability with DELETE in a process without a member record.
const MAKER: Rights = Rights(Rights::DELETE.0 | Rights::ADD.0 | Rights::REMOVE.0 | Rights::LISTEN.0);

impl<'k, M: Machine> Caps<'k, M> {
    /// Carries out [`abi::Op::CapInspect`].
    pub fn cap_inspect(self, me: OpenTask<'k>, at: Target) -> Result<Answer> {
        let slot = self.find_slot::<{ Op::CapInspect as u8 }, 0>(me.process(self.pin()), at)?.slot;
        let Some(entry) = self.entry_of(slot, at.index()) else { return Ok(Answer::DONE) };
        let CapEntry { object, rights, badge, identity, .. } = entry;
        Ok(Answer::Values([object as u64, u64::from(rights.0), badge, identity]))
    }

    /// Returns the contents of a slot.
    fn entry_of(self, slot: Ref<'k, Slot>, number: u32) -> Option<CapEntry> {
        let word = slot.get().word.load(self.pin());
        let header = header_of(word)?;
        Some(CapEntry {
            slot: number,
            object: ObjType::from_raw(word.object_type())?,
            rights: Rights(word.rights()),
            badge: slot.get().badge(),
            identity: header.identity(),
            label: header.label(),
        })
    }

    /// Carries out [`abi::Op::CapVerify`]: finds a slot in which a process holds a capability of
    /// the same object as the caller's, with at least the given rights. Returns: the slot, or 0.
    /// Errors: [`Refusal::More`], after a bounded number of slots.
    pub fn cap_verify(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let process = self.operand::<Process, { Op::CapVerify as u8 }, 0>(me, args.cap())?;
        let (_, wanted) = self.look(me, args.cap1())?;
        refuse_if(wanted.object_type() == 0, Refusal::new(Error::NoCapability, u64::from(args.cap1().0)))?;
        let rights = u32::try_from(args.a2).map(Rights).map_err(|_| Refusal::argument(2))?;
        let first = u32::try_from(args.a3).map_err(|_| Refusal::argument(3))? as usize;
        let reach = self.cspace_of(process)?;
        let slots = self.slots_in(reach);
        let end = slots.min(first.saturating_add(HOLDING_LOOKS));
        let go_on_at = |at: usize| {
            me.regs.r8.set(at as u64);
            Err(Refusal::More)
        };
        let found = self.find_in_slots(reach, first..end, |at, slot| {
            if self.holds(process, slot, wanted, rights) {
                return Some(Ok(Answer::one(at as u64)));
            }
            (!self.spend(HOLDING_WORK)).then(|| go_on_at(at + 1))
        });
        found.unwrap_or_else(|| if end < slots { go_on_at(end) } else { Ok(Answer::DONE) })
    }

    /// Returns all slots of a process.
    fn cspace_of(self, process: Ref<'k, Process>) -> Result<Reach<'k>> {
        process.get().cnode.get(self.pin()).map(Reach::cspace).ok_or(Error::BadState.into())
    }

    /// Whether a slot of a process's CSpace gives it the rights to an object.
    fn holds(
        self,
        process: Ref<'k, Process>,
        slot: Ref<'k, Slot>,
        wanted: RawWord<'k>,
        rights: Rights,
    ) -> bool {
        let word = slot.get().word.load(self.pin());
        if word.addr() != wanted.addr() || word.object_type() != wanted.object_type() {
            return false;
        }
        let held = Rights(word.rights());
        let Some(group) = word.get::<Group>() else { return held.contains(rights) };
        let record = group.get().member_of(self.pin(), slot.get());
        let record = record.filter(|record| record.key() == process.get().key());
        let maker = if held.contains(Rights::DELETE) { MAKER } else { Rights::NONE };
        match record {
            Some(record) => held.and(record.rights() | maker).contains(rights),
            None => maker != Rights::NONE && held.and(maker).contains(rights),
        }
    }

    /// Carries out [`abi::Op::CapList`].
    pub fn cap_list(self, me: OpenTask<'k>, from: Target) -> Result<Answer> {
        let reach = self.listed(me, from.cap())?;
        let slots = self.slots_in(reach);
        let bulk = &me.get().utcb(self.pin()).bulk;
        let first = (from.index() as usize).max(1);
        let end = slots.min(first.saturating_add(HOLDING_LOOKS));
        let mut places = bulk.chunks_exact(abi::audit::CAP_ENTRY_WORDS).take(CAP_LIST_MAX);
        let (mut after, mut count) = (end.max(first), 0);
        let _ = self.find_in_slots(reach, first..end, |at, slot| {
            let entry = self.entry_of(slot, at as u32)?;
            let Some(place) = places.next() else { return Some(()) };
            for (word, value) in place.iter().zip(entry.words()) {
                word.store(value, Relaxed);
            }
            count += 1;
            if count < CAP_LIST_MAX {
                return None;
            }
            after = at + 1;
            Some(())
        });
        let next = if after < slots { after } else { 0 };
        Ok(Answer::Values([next as u64, count as u64, 0, 0]))
    }

    /// Returns the slots to list: those of a CNode, or of a process's whole CSpace.
    fn listed(self, me: OpenTask<'k>, cap: Cap) -> Result<Reach<'k>> {
        let (_, word) = self.look(me, cap)?;
        if word.object_type() == ObjType::Process as u8 {
            return self.cspace_of(self.operand::<Process, { Op::CapList as u8 }, 0>(me, cap)?);
        }
        self.reach_of(me.process(self.pin()), cap, const { Op::CapList.needs(0, ObjType::CNode) })
    }
}
