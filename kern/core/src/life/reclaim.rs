//! Delete, revoke, reset: how objects end and their memory comes back.
//!
//! # Steps
//! A slot is emptied at once unless it is its object's last. The last capability ends the object: it
//! is marked dying (no new reference), then made inert on the CPUs that own parts of it, then its slot
//! is emptied. The memory stays until the Untyped it came from is reset: reset revokes everything,
//! lets every CPU forget translations and dying address spaces, waits for a quiet period
//! ([`smp::quiesce`]: no entry and no message refers to the objects any more), and starts the region
//! again.
//!
//! # Long operations
//! Every step is idempotent and one system call does a bounded number of them ([`DELETE_STEPS`]); then it
//! starts again. Progress is in the objects, so nothing is lost when the caller dies half-way: whoever
//! deletes, revokes or resets next goes on from there.

use core::cell::Cell;

use abi::audit::{AuditEvent, Record};
use abi::{Cap, Error, ObjType, Op, Rights, Target, machine_rights};
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::limits::DELETE_STEPS;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Reset, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::roots::{RootGuard, UntypedGuard};
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Place, Slot};
use kern_base::sweep::Pass;
use kern_base::task::{Request, Task, ctl};
use smp::door::{AtomicLink, Ref};
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;

use crate::begun::is_again;
use crate::caps::slots::is_claimed;
use crate::rooms::Life;
use crate::security::records::about;
use crate::tlb::mark::Mark;
use crate::{Answer, Me, Refusal, Result};

/// Types of objects that serve on where their end is refused.
const SERVES_ON_UNTYPED: u8 = ObjType::Untyped as u8;
const SERVES_ON_GROUP: u8 = ObjType::Group as u8;
const SERVES_ON_POOL: u8 = ObjType::EventPool as u8;

impl<'k, M: Machine> Life<'k, M> {
    // --- delete and revoke -----------------------------------------------------------------------

    /// [`abi::Op::CapDelete`].
    pub fn cap_delete(self, me: Me<'k>, at: Target) -> Result<Answer> {
        let place = self.caps().find_slot(me.process(self.pin()), at, Rights::GRANT)?;
        let header = header_of(place.slot.get().word.load(self.pin()));
        if self.goes_on_with(me, header.map(Header::identity)) {
            if self.security().is_told() {
                self.delete_audited(me, place)?;
            } else {
                self.delete_slot(me, place.slot, Pins::Hold)?;
            }
        }
        self.empty_graves(me)?;
        Ok(Answer::DONE)
    }

    /// [`abi::Op::CapRevoke`].
    pub fn cap_revoke(self, me: Me<'k>, at: Target) -> Result<Answer> {
        if !self.grace().awaits_quiet(me) {
            self.revoke(me, at)?;
        }
        // What was looked up before may still do what it allowed.
        self.grace().wait_quiet(me)?;
        Ok(Answer::DONE)
    }

    /// Takes away all that was derived from a slot, and waits until no CPU remembers a page of it.
    #[inline(always)]
    fn revoke(self, me: Me<'k>, at: Target) -> Result<()> {
        let again = is_again(me.hot);
        if !again {
            me.hot.regs.rsi.set(0);
        }
        let slot = self.caps().find_slot(me.process(self.pin()), at, Rights::GRANT)?.slot;
        let header = header_of(slot.get().word.load(self.pin()));
        let goes_on = self.goes_on_with(me, header.map(Header::identity));
        let mark = Mark::new(me.hot.regs.r8.get());
        if mark.only_waits() {
            self.tlb().wait_marked(me, mark)?;
        } else if let Some(object) = header.filter(|_| goes_on) {
            if !again {
                self.security().audit_object(AuditEvent::Revoke, Op::CapRevoke, object, 0);
            }
            self.revoke_all(me, slot, again.then_some(object))?;
        }
        Ok(())
    }

    /// What a revoke does before nothing is left to do but to wait. An entry that says that it is not the first may have been
    /// made by anybody: it tells of the object (`untold`) where it has taken anything.
    fn revoke_all(self, me: Me<'k>, slot: Ref<'k, Slot>, untold: Option<&Header>) -> Result<()> {
        let found = Cell::new(false);
        let revoked = self.revoke_slot(me, slot, Pins::Hold, &found);
        if let Some(task) = slot.get().word.load(self.pin()).get::<Task>() {
            self.events().may_read_no_more(task);
        }
        if found.get() {
            if let Some(object) = untold {
                self.security().audit_object(AuditEvent::Revoke, Op::CapRevoke, object, 0);
            }
            // Pages of what ends now are to be looked for from now on.
            me.hot.regs.r8.set(0);
        }
        revoked?;
        self.empty_graves(me)?;
        match slot.get().word.load(self.pin()).get::<Untyped>() {
            Some(untyped) => self.mem().revoke_pages(me, untyped),
            None => Ok(()),
        }
    }

    /// Deletes all that was derived from a slot, leaves first. Notes whether there was anything.
    fn revoke_slot(self, me: Me<'k>, slot: Ref<'k, Slot>, pins: Pins, found: &Cell<bool>) -> Result<()> {
        let word = slot.get().word.load(self.pin());
        let Some(header) = header_of(word) else { return Ok(()) };
        let mut from = None;
        for _ in 0..DELETE_STEPS {
            let Some((leaf, before)) = self.leaf_below(slot, word, header, from)? else { return Ok(()) };
            found.set(true);
            self.delete_slot(me, leaf, pins)?;
            from = Some(before);
        }
        Err(Refusal::More)
    }

    /// A slot that was derived from this one, directly or not, and from which nothing is derived; and what stands before
    /// it. The depth of a tree is bounded, and the search goes on `from` where it last was.
    fn leaf_below(
        self,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        header: &Header,
        from: Option<Before<'k>>,
    ) -> Result<Option<(Ref<'k, Slot>, Before<'k>)>> {
        let root = self.caps().lock_root(header);
        self.caps().settle_tree(&root)?;
        if slot.get().word.load(self.pin()) != word {
            return Ok(None);
        }
        let deepest = |top| {
            core::iter::successors(self.caps().child_of(top), |child| self.caps().child_of(*child)).last()
        };
        // What stood before the last leaf is its parent, or a leaf itself, unless somebody has moved it. Where any slot of
        // the tree has left its children, it may be the one from which that one descended.
        let from = from.filter(|from| from.slot != slot && from.passed == root.passed.get());
        let from = from.filter(|from| from.slot.get().word.load(self.pin()).object_type() != 0);
        let leaf = from.map_or_else(|| deepest(slot), |from| Some(deepest(from.slot).unwrap_or(from.slot)));
        let before = |leaf: Ref<'k, Slot>| Before {
            slot: leaf.get().prev.get(self.pin()).unwrap_or(slot),
            passed: root.passed.get(),
        };
        Ok(leaf.map(|leaf| (leaf, before(leaf))))
    }

    /// Empties a slot, to the end.
    pub fn delete_slot(self, me: Me<'k>, slot: Ref<'k, Slot>, pins: Pins) -> Result<()> {
        match self.empty_slot(me, slot, pins)? {
            Emptied::OnItsWay => Err(Refusal::More),
            Emptied::Now | Emptied::ByOthers => Ok(()),
        }
    }

    /// Deletes a capability, and tells where it was in somebody else's CSpace.
    #[cold]
    #[inline(never)]
    fn delete_audited(self, me: Me<'k>, from: Place<'k>) -> Result<()> {
        let word = from.slot.get().word.load(self.pin());
        let emptied = self.empty_slot(me, from.slot, Pins::Hold)?;
        let tells =
            emptied != Emptied::ByOthers && !me.process(self.pin()).get().has_table(self.pin(), from.table);
        if let Some(object) = header_of(word).filter(|_| tells) {
            self.security().audit(AuditEvent::Take, |record| {
                let (rights, to) = (Rights(word.rights()), from.table.identity());
                about(Record { op: Some(Op::CapDelete), rights, to, ..record }, object)
            });
        }
        // What is on its way out is told of now: others may get it past the rest of its children.
        if emptied == Emptied::OnItsWay { Err(Refusal::More) } else { Ok(()) }
    }

    /// Empties a slot; if it is its object's last, ends the object first. A task can't end what it is itself
    /// part of, and be told so. A frame that is pinned does not end, unless the pins go too. Who has seen the slot full may
    /// find it empty here, but never full of something else, since it is filled again only after the entry is over.
    pub fn empty_slot(self, me: Me<'k>, slot: Ref<'k, Slot>, pins: Pins) -> Result<Emptied> {
        let word = slot.get().word.load(self.pin());
        let Some(header) = header_of(word) else { return Ok(Emptied::ByOthers) };
        let root = self.caps().lock_root(header);
        // It may be this one that leaves.
        self.caps().settle_tree(&root)?;
        if slot.get().word.load(self.pin()) != word {
            return Ok(Emptied::ByOthers);
        }
        if header.refs() > 1 {
            return Ok(self
                .caps()
                .unlink_slot(&root, slot, header)
                .map_or(Emptied::OnItsWay, |()| Emptied::Now));
        }
        self.end_object(me, slot, word, header, pins, root)
    }

    /// Ends an object and empties its last slot. (Out of line: another slot is emptied without what this takes.)
    #[inline(never)]
    fn end_object(
        self,
        me: Me<'k>,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        header: &Header,
        pins: Pins,
        root: RootGuard<'k>,
    ) -> Result<Emptied> {
        {
            let _root = root;
            // Nobody makes a table a part of the caller's CSpace between the look and the mark.
            let _spaces = word.get::<CNode>().map(|_| self.caps().lock_spaces());
            if self.is_part_of(me, word) {
                return Err(Error::InUse.into());
            }
            if let Some(frame) = word.get::<Frame>() {
                self.release(frame.get(), pins)?;
            }
            self.mark_dying(me, header);
        }
        self.security().note_actor();
        let destroyed = self.destroy(me, slot, word, pins);
        let serves_on = matches!(word.object_type(), SERVES_ON_UNTYPED | SERVES_ON_POOL);
        if matches!(destroyed, Err(Refusal::Error { .. })) && serves_on {
            // Something in that memory does not end now, or who reads the pool.
            header.clear_flag(FLAG_DYING);
        }
        destroyed?;
        let root = self.caps().lock_root(header);
        self.caps().settle_tree(&root)?;
        if slot.get().word.load(self.pin()) != word {
            return Ok(Emptied::ByOthers);
        }
        if matches!(word.object_type(), SERVES_ON_UNTYPED | SERVES_ON_GROUP | SERVES_ON_POOL) {
            self.check_ended(slot, word)?;
        }
        // Of a last capability nothing is derived.
        self.caps().take_out(slot, header);
        drop(root);
        self.security().audit_end(word);
        self.after_last(word);
        Ok(Emptied::Now)
    }

    /// An object begins to end, unless it has begun before. Who brings that about is told of before anything is done.
    #[inline(always)]
    pub fn mark_dying(self, me: Me<'k>, header: &Header) {
        if header.set_flag(FLAG_DYING) && self.security().is_told() {
            self.security().audit_kill(me, header);
        }
        fence(SeqCst);
    }

    /// Lets a frame end. The root lock is held.
    fn release(self, frame: &Frame, pins: Pins) -> Result<()> {
        if frame.pins() != 0 {
            if pins == Pins::Hold {
                return Err(Error::InUse.into());
            }
            self.security().audit_object(AuditEvent::Pin, Op::UntypedReset, &frame.header, 0);
            frame.unpin_all();
        }
        Ok(())
    }

    /// An object that serves on where its end is refused has ended, whatever others did who tried to end it at the same
    /// time. Its root's lock is held and the tree settled.
    #[cold]
    fn check_ended(self, slot: Ref<'k, Slot>, word: RawWord<'k>) -> Result<()> {
        if let Some(untyped) = word.get::<Untyped>() {
            if self.caps().child_of(slot).is_some() {
                return Err(Refusal::More);
            }
            untyped.get().header.set_flag(FLAG_DYING);
        }
        if let Some(pool) = word.get::<EventPool>() {
            pool.get().header.set_flag(FLAG_DYING);
            // Who binds it claims the reader's slot and then looks for the mark.
            fence(SeqCst);
            let reader = pool.get().reader.word.load(self.pin());
            if reader.object_type() != 0 || is_claimed(reader) || !pool.get().process.is_null() {
                return Err(Refusal::More);
            }
        }
        match word.get::<Group>() {
            Some(group) if !is_emptied(group.get()) => Err(Refusal::More),
            _ => Ok(()),
        }
    }

    /// Whether the caller is, or runs in, the object.
    fn is_part_of(self, me: Me<'k>, word: RawWord<'k>) -> bool {
        let process = me.process(self.pin()).get();
        word.get::<Task>() == Some(me.task)
            || word.get::<Process>() == Some(me.process(self.pin()))
            || word.get::<CNode>().is_some_and(|c| c.get().process.is(me.process(self.pin())))
            || word.get::<VSpace>().is_some_and(|v| process.vspace.is(v))
            || word.get::<Untyped>().is_some_and(|u| self.lives_in(me, u.get()))
    }

    /// What is left to do when an object's last slot is empty.
    fn after_last(self, word: RawWord<'k>) {
        if let Some(cnode) = word.get::<CNode>() {
            // Dead only when it is empty.
            self.bury(cnode);
            return;
        }
        if let Some(process) = word.get::<Process>() {
            self.k.processes.release(self.pin(), process.get().key());
        }
        if let Some(vspace) = word.get::<VSpace>() {
            self.k.machine.end_space(vspace.get().cr3());
        }
        if let Some(frame) = word.get::<Frame>().filter(|frame| frame.get().is_device()) {
            self.k.frames.remove_device(self.pin(), frame);
        }
        if let Some(header) = header_of(word) {
            header.set_flag(FLAG_DEAD);
        }
    }

    /// Makes a dying object inert. Idempotent; may have to wait.
    fn destroy(self, me: Me<'k>, slot: Ref<'k, Slot>, word: RawWord<'k>, pins: Pins) -> Result<()> {
        match ObjType::from_raw(word.object_type()) {
            Some(ObjType::Untyped) => self.revoke_slot(me, slot, pins, &Cell::new(false)),
            Some(ObjType::Task) => word.get::<Task>().map_or(Ok(()), |t| self.end_task(me, t)),
            Some(ObjType::Process) => word.get::<Process>().map_or(Ok(()), |p| self.end_process(me, p)),
            Some(ObjType::CNode) => {
                let process = word.get::<CNode>().and_then(|c| self.lives_there(&c.get().process));
                process.map_or(Ok(()), |p| self.end_process(me, p))
            }
            Some(ObjType::VSpace) => word.get::<VSpace>().map_or(Ok(()), |v| self.end_vspace(me, v)),
            Some(ObjType::Frame) => word.get::<Frame>().map_or(Ok(()), |f| self.mem().end_frame(me, f)),
            Some(ObjType::Group) => word.get::<Group>().map_or(Ok(()), |g| self.end_group(me, g)),
            Some(ObjType::SchedContext | ObjType::Notification | ObjType::Reply) => self.end_homed(me, word),
            Some(ObjType::EventPool) => word.get::<EventPool>().map_or(Ok(()), |p| self.end_pool(me, p)),
            Some(ObjType::Machine) | None => Ok(()),
        }
    }

    /// Ends an object that is nothing but one CPU's: there.
    fn end_homed(self, me: Me<'k>, word: RawWord<'k>) -> Result<()> {
        if header_of(word).is_none_or(|header| header.has_flag(FLAG_DEAD)) {
            return Ok(());
        }
        let here = self.id();
        if let Some(sc) = word.get::<SchedContext>() {
            let home = sc.get().hot.mail_target(self.pin());
            if home == here && self.stop_time(sc).is_none() {
                return Ok(());
            }
            return Err(self.outbox().ask(me, home, Request::StopTime(sc.ptr())));
        }
        if let Some(object) = word.get::<Notification>() {
            let home = object.get().hot.mail_target(self.pin());
            if home != here {
                return Err(self.outbox().ask(me, home, Request::StopBits(object.ptr())));
            }
            self.stop_bits(object);
        }
        if let Some(reply) = word.get::<Reply>() {
            let home = reply.get().hot.mail_target(self.pin());
            if home != here {
                return Err(self.outbox().ask(me, home, Request::StopReply(reply.ptr())));
            }
            self.stop_reply(reply);
        }
        Ok(())
    }

    fn end_task(self, me: Me<'k>, task: Ref<'k, Task>) -> Result<()> {
        if task.get().id() == abi::TaskId::NONE || task.get().header.has_flag(FLAG_DEAD) {
            return Ok(());
        }
        if self.task_hot(task).is_some() {
            self.control(task, ctl::KILL);
            if task.get().header.has_flag(FLAG_DEAD) {
                return Ok(());
            }
        }
        // It is elsewhere, or its message is: its home answers when it is dead.
        Err(self.outbox().ask(me, task.get().hot.mail_target(self.pin()), Request::Kill(task.ptr())))
    }

    /// Ends the tasks of a process and takes its spaces away.
    fn end_process(self, me: Me<'k>, process: Ref<'k, Process>) -> Result<()> {
        if process == me.process(self.pin()) {
            return Err(Error::InUse.into());
        }
        self.end_tasks(me, process)?;
        self.groups().leave_groups(process, None)?;
        self.take_spaces(process);
        Ok(())
    }

    /// Ends the tasks of a process, which is not the caller's. It gets no others.
    pub fn end_tasks(self, me: Me<'k>, process: Ref<'k, Process>) -> Result<()> {
        let header = &process.get().header;
        self.mark_dying(me, header);
        for _ in 0..DELETE_STEPS {
            let at = header.swept();
            let Some(number) = process.get().tasks.get(self.pin(), at) else { return Ok(()) };
            if let Some(task) = number.get().task.get(self.pin()) {
                if !task.get().owner.is(process) {
                    // Another CPU is just about to bind it, and may see that the process is dying: it is nobody's then.
                    return Err(Refusal::More);
                }
                self.end_task(me, task)?;
            }
            header.sweep(at);
        }
        Err(Refusal::More)
    }

    pub fn take_spaces(self, process: Ref<'k, Process>) {
        if let Some(pool) = process.get().pool.get(self.pin()) {
            self.events().part_pool(pool);
        }
        let _spaces = self.caps().lock_spaces();
        process.get().withdraw_cspace();
        self.caps().part_tables(process);
        if let Some(vspace) = process.get().vspace.get(self.pin()) {
            process.get().vspace.set(None);
            vspace.get().process.set(None);
        }
    }

    fn end_vspace(self, me: Me<'k>, vspace: Ref<'k, VSpace>) -> Result<()> {
        if let Some(process) = self.lives_there(&vspace.get().process) {
            self.end_process(me, process)?;
        }
        self.mem().end_mappings(me, vspace)
    }

    /// The process of a space that is dying: it gets no other.
    fn lives_there(self, process: &AtomicLink<Process>) -> Option<Ref<'k, Process>> {
        let _spaces = self.caps().lock_spaces();
        process.get(self.pin())
    }

    /// Empties a dying group's exposures and records. If it exposes the caller by its last capability, that does not end
    /// now and the group serves on: also others that are at it begin anew then, since what they have seen empty may be
    /// full again. How far it has come counts only while the group is dying all the time.
    fn end_group(self, me: Me<'k>, group: Ref<'k, Group>) -> Result<()> {
        let header = &group.get().header;
        let (mut at, refused) = {
            let _root = self.caps().lock_root(header);
            if !header.has_flag(FLAG_DYING) {
                return Err(Refusal::More);
            }
            (header.swept(), group.get().refused.load(Relaxed))
        };
        let done = self.empty_exposures(me, group, &mut at);
        let _root = self.caps().lock_root(header);
        if group.get().refused.load(Relaxed) != refused {
            return done.and(Err(Refusal::More));
        }
        if let Err(Refusal::Error { .. }) = done {
            group.get().refused.store(refused + 1, Relaxed);
            header.unsweep();
            header.clear_flag(FLAG_DYING);
        } else {
            header.sweep_below(at);
        }
        done?;
        for _ in 0..DELETE_STEPS {
            if is_emptied(group.get()) {
                return Ok(());
            }
            let at = header.swept();
            let _ = self.groups().leave_group(group, at - group.get().exposures.len());
            header.sweep(at);
        }
        Err(Refusal::More)
    }

    fn empty_exposures(self, me: Me<'k>, group: Ref<'k, Group>, at: &mut usize) -> Result<()> {
        for _ in 0..DELETE_STEPS {
            let Some(entry) = group.get().exposures.get_known(self.pin(), *at) else { return Ok(()) };
            if is_claimed(entry.get().slot.word.load(self.pin())) {
                return Err(Refusal::More);
            }
            self.delete_slot(me, entry.map(|e| &e.slot), Pins::Hold)?;
            *at += 1;
        }
        Err(Refusal::More)
    }

    // --- reset -----------------------------------------------------------------------------------

    /// [`abi::Op::UntypedReset`].
    pub fn untyped_reset(self, me: Me<'k>, cap: Cap, pins: u64, machine: Cap) -> Result<Answer> {
        let (slot, word, untyped) = match self.to_reset(me, cap) {
            Ok(found) => found,
            Err(refusal) => {
                // A table that this call ends may have had the last capability of the memory from which this one descends.
                if is_again(me.hot) {
                    self.empty_graves(me)?;
                }
                return Err(refusal);
            }
        };
        let pins = match pins {
            0 => Pins::Hold,
            1 => {
                self.caps().find_machine(me, machine, machine_rights::DMA)?;
                Pins::Go
            }
            _ => return Err(Refusal::argument(1)),
        };
        if self.lives_in(me, untyped.get()) {
            return Err(Error::InUse.into());
        }
        if !untyped.get().resetting.load(SeqCst) {
            self.begin_reset(slot, word, untyped)?;
        }
        let revoked = self
            .revoke_slot(me, slot, pins, &Cell::new(false))
            .and_then(|()| self.empty_graves(me))
            .and_then(|()| self.no_graves(untyped.get()));
        if let Err(Refusal::Error { .. }) = revoked {
            self.end_reset(&self.caps().open_untyped(untyped));
        }
        revoked?;
        self.security().end_audit(untyped.get());
        self.finish_reset(me, slot, word, untyped)
    }

    /// The Untyped that a reset is of, and its slot.
    #[inline(always)]
    fn to_reset(self, me: Me<'k>, cap: Cap) -> Result<(Ref<'k, Slot>, RawWord<'k>, Ref<'k, Untyped>)> {
        let slot = self.caps().slot_of(me.process(self.pin()), cap)?;
        let word = slot.get().word.load(self.pin());
        let untyped = self.caps().typed::<Untyped>(word, cap, Rights::NONE)?;
        if !self.goes_on_with(me, Some(untyped.get().header.identity())) {
            return Err(Refusal::new(Error::NoCapability, u64::from(cap.0)));
        }
        Ok((slot, word, untyped))
    }

    /// Closes an Untyped that is to be reset. Its capability stays where it is then, so that whoever resets it finds it again.
    #[inline(never)]
    fn begin_reset(self, slot: Ref<'k, Slot>, word: RawWord<'k>, untyped: Ref<'k, Untyped>) -> Result<()> {
        let _root = self.caps().lock_root(&untyped.get().header);
        if slot.get().word.load(self.pin()) != word {
            return Err(Refusal::More);
        }
        untyped.get().resetting.store(true, SeqCst);
        self.security().audit_object(AuditEvent::Reset, Op::UntypedReset, &untyped.get().header, 0);
        Ok(())
    }

    /// No CNode in some memory is still being emptied, after those that could not be were tried once more.
    fn no_graves(self, untyped: &Untyped) -> Result<()> {
        if !self.has_graves(untyped) {
            untyped.retried.store(false, Relaxed);
            return Ok(());
        }
        if untyped.retried.swap(true, Relaxed) {
            untyped.retried.store(false, Relaxed);
            return Err(Error::InUse.into());
        }
        self.retry_graves();
        Err(Refusal::More)
    }

    /// Opens an Untyped that is being reset, and from which nothing is derived. What a reset waits for counts only as long
    /// as it is so.
    fn open_revoked(
        self,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        untyped: Ref<'k, Untyped>,
    ) -> Result<UntypedGuard<'k>> {
        let root = self.caps().open_untyped(untyped);
        self.caps().settle_tree(&root)?;
        let is_there = slot.get().word.load(self.pin()) == word;
        if is_there && self.caps().child_of(slot).is_none() && untyped.get().resetting.load(SeqCst) {
            return Ok(root);
        }
        // Another task has deleted its capability, or given a reset of its own up.
        self.end_reset(&root);
        Err(Refusal::More)
    }

    /// The region is as new. Who was deleting the Untyped may have been killed in the middle of that; if not, he finds that it
    /// is open again.
    fn complete_reset(self, root: &UntypedGuard<'k>) -> Answer {
        root.untyped().header.clear_flag(FLAG_DYING);
        Answer::one(self.end_reset(root))
    }

    /// Ends a reset, whatever it has come to. Returns: the bytes that are free.
    fn end_reset(self, root: &UntypedGuard<'k>) -> u64 {
        root.reset().set(Reset::No);
        root.region().give_up_reset();
        root.untyped().resetting.store(false, SeqCst);
        root.region().free()
    }

    /// Everything is revoked: waits until no pool has a page of the memory, and nothing refers to what was made of it; then
    /// starts the region again.
    fn finish_reset(
        self,
        me: Me<'k>,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        untyped: Ref<'k, Untyped>,
    ) -> Result<Answer> {
        let mut root = self.open_revoked(slot, word, untyped)?;
        if root.region().is_unused() {
            return Ok(self.complete_reset(&root));
        }
        if root.reset().get() == Reset::No {
            root.reset().set(Reset::Sweep(root.sweep().pass_from_now()));
        }
        if let Reset::Sweep(pass) = root.reset().get()
            && !self.is_swept(&root, pass)
        {
            drop(root);
            self.mem().sweep_until(untyped, pass)?;
            root = self.open_revoked(slot, word, untyped)?;
        }
        match root.reset().get() {
            Reset::Sweep(pass) if self.is_swept(&root, pass) => {
                let stamp = self.tlb().shoot_everything(None);
                root.reset().set(Reset::Forget(stamp));
                drop(root);
                self.tlb().wait_over(me, stamp)?;
                Err(Refusal::More)
            }
            // Another task's reset was refused meanwhile, and more was made.
            Reset::No | Reset::Sweep(_) => Err(Refusal::More),
            Reset::Forget(stamp) if !self.tlb().is_over(stamp) => {
                drop(root);
                self.tlb().wait_over(me, stamp)?;
                Err(Refusal::More)
            }
            Reset::Forget(_) => {
                root.region().begin_reset(self.k, self.pin());
                root.reset().set(Reset::Quiet);
                Err(Refusal::Restart { epoch: self.k.epoch.now() + 1 })
            }
            Reset::Quiet if root.region().end_reset(self.k, self.pin()) => Ok(self.complete_reset(&root)),
            // It may be another CPU's: a round of this one's own brings the task back here.
            Reset::Quiet => Err(Refusal::Restart { epoch: self.k.epoch.now() + 1 }),
        }
    }

    /// Whether no pool has a page of an Untyped's memory, if none got one since a pass was asked for.
    fn is_swept(self, root: &UntypedGuard<'k>, pass: Pass) -> bool {
        root.sweep().is_over(pass) || !self.mem().may_be_pooled(root.untyped())
    }

    /// Whether the caller itself was made of an Untyped: it can't end itself and be told so.
    fn lives_in(self, me: Me<'k>, untyped: &Untyped) -> bool {
        let process = me.process(self.pin()).get();
        let tables =
            process.cnode.get(self.pin()).into_iter().flat_map(|first| CNode::tables(first, self.pin()));
        let parts = [me.task.addr(), me.process(self.pin()).addr(), process.vspace.addr()];
        parts.into_iter().chain(tables.map(Ref::addr)).any(|at| untyped.contains(at))
    }
}

/// Where a search for descendants of a slot was last.
#[derive(Clone, Copy)]
struct Before<'k> {
    slot: Ref<'k, Slot>,
    /// [`crate::Root::passed`] at that time.
    passed: u64,
}

/// What has come of emptying a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emptied {
    Now,
    /// Nothing can stop it any more, but it has children to get past: [`Caps::settle_tree`](crate::rooms::Caps::settle_tree).
    OnItsWay,
    /// It was empty, or others emptied it meanwhile.
    ByOthers,
}

/// What becomes of the pins of frames that would end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pins {
    /// They keep the frame.
    Hold,
    /// They end with it.
    Go,
}

/// Whether a dying group has come to its end, and not served on since. The root lock is held.
fn is_emptied(group: &Group) -> bool {
    let end = group.exposures.len() + group.members.len();
    group.header.has_flag(FLAG_DYING) && group.header.swept() == end
}
