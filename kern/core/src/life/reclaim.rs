//! Delete and revoke: how objects end.
//!
//! # Steps
//! If a slot does not hold its object's last capability, it is emptied immediately. The delete of
//! the last capability ends the object. The object is marked as dying, so that no new reference can
//! be made; then it is stopped on the CPUs that own parts of it; then the slot is emptied. The
//! memory stays until the Untyped from which it was made is reset ([`crate::life::reset`]).
//!
//! # Long operations
//! Every step is idempotent, and one entry does as many as its work suffices for
//! ([`crate::work`]). Then the system call restarts. Progress is in the objects, so nothing is lost
//! when the caller dies half-way: the next task that ends the same object continues there.

use core::cell::Cell;

use abi::audit::{AuditEvent, Record};
use abi::{Error, ObjType, Op, Rights, Target};
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::irq::{IrqHandler, Route};
use kern_base::limits::{DELETE_WORK, END_WORK, LOCK_WORK, RECORD_WORK};
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::{Headed, RawWord, header_of};
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::roots::RootGuard;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::{CNode, Slot};
use kern_base::task::{Request, Task};
use smp::door::{AtomicLink, Homed, Ref};
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;

use crate::begun::is_again;
use crate::caps::slots::is_claimed;
use crate::rooms::Life;
use crate::security::records::about;
use crate::tlb::mark::Mark;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Work of the delete of a leaf of a tree, without the steps of the search for it. The lock of the
/// root is taken each time, and other CPUs may want it, too.
pub const LEAF_WORK: u64 = DELETE_WORK + 3 * LOOK_WORK;

impl<'k, M: Machine> Life<'k, M> {
    /// Carries out [`abi::Op::CapDelete`].
    pub fn cap_delete(self, me: OpenTask<'k>, at: Target) -> Result<Answer> {
        self.begin_zombies(me);
        let place = self.caps().find_slot::<{ Op::CapDelete as u8 }, 0>(me.process(self.pin()), at)?;
        let word = place.slot.get().word.load(self.pin());
        let object = header_of(word);
        // A slot that was empty then may be full now. The delete begins with what it was then.
        if self.goes_on_with(me, object.map(Header::identity)) && object.is_some() {
            let emptied = self.empty_slot(me, place.slot, Pins::Hold)?;
            if emptied == Emptied::Now && self.security().is_told() {
                self.audit_take(me, place.table, word);
            }
        }
        self.empty_own_zombies(me)?;
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::CapRevoke`].
    pub fn cap_revoke(self, me: OpenTask<'k>, at: Target) -> Result<Answer> {
        self.begin_zombies(me);
        if self.grace().quiet_ticket(me).is_none() {
            self.revoke(me, at)?;
        }
        // A CPU that has looked up a capability before may still do what it allowed.
        self.grace().wait_quiet(me)?;
        Ok(Answer::DONE)
    }

    /// Deletes everything derived from a slot, and waits until no CPU has a translation of its
    /// pages.
    #[inline(always)]
    fn revoke(self, me: OpenTask<'k>, at: Target) -> Result<()> {
        let again = is_again(me.part());
        if !again {
            me.regs.rsi.set(0);
        }
        let slot = self.caps().find_slot::<{ Op::CapRevoke as u8 }, 0>(me.process(self.pin()), at)?.slot;
        let header = header_of(slot.get().word.load(self.pin()));
        let goes_on = self.goes_on_with(me, header.map(Header::identity));
        let mark = Mark::new(me.regs.r8.get());
        if mark.only_waits() {
            self.tlb().wait_marked(me, mark)?;
        } else if let Some(object) = header.filter(|_| goes_on) {
            if !again {
                self.security().audit_object(AuditEvent::Revoke, Op::CapRevoke, object, 0);
            }
            return self.revoke_all(me, slot, again.then_some(object));
        }
        // Another task has emptied the slot, but what has ended already is this task's work.
        self.empty_own_zombies(me)
    }

    /// Does all work of a revoke except the final wait. `untold` is the revoked object if the audit
    /// may have no record of the revoke, because the entry claims to be a restart, which can be
    /// forged. Then the revoke is recorded only if something is deleted.
    fn revoke_all(self, me: OpenTask<'k>, slot: Ref<'k, Slot>, untold: Option<&Header>) -> Result<()> {
        let found = Cell::new(false);
        // Read before, because another CPU may empty the slot when the pool's reader is gone.
        let word = slot.get().word.load(self.pin());
        let revoked = self.revoke_slot(me, slot, Pins::Hold, &found);
        if let Some(task) = word.get::<Task>() {
            self.events().may_read_no_more(task);
        }
        if found.get() {
            if let Some(object) = untold {
                self.security().audit_object(AuditEvent::Revoke, Op::CapRevoke, object, 0);
            }
            // More objects end now, so the search for their pages must start again.
            me.regs.r8.set(0);
        }
        revoked?;
        self.empty_own_zombies(me)?;
        match word.get::<Untyped>() {
            Some(untyped) => self.mem().revoke_pages(me, untyped),
            None => Ok(()),
        }
    }

    /// Deletes all capabilities derived from a slot, leaves of the tree first. Sets `found` if
    /// there were any.
    pub fn revoke_slot(
        self,
        me: OpenTask<'k>,
        slot: Ref<'k, Slot>,
        pins: Pins,
        found: &Cell<bool>,
    ) -> Result<()> {
        let word = slot.get().word.load(self.pin());
        let Some(header) = header_of(word) else { return Ok(()) };
        let mut from = None;
        loop {
            self.afford(LEAF_WORK)?;
            let root = self.caps().lock_root_or_leave(header)?;
            if slot.get().word.load(self.pin()) != word {
                return Ok(());
            }
            let Some(leaf) = self.leaf_below(slot, from) else { return Ok(()) };
            found.set(true);
            let its = leaf.get().word.load(self.pin());
            if let Some(task) = its.get::<Task>().filter(|task| self.ends_first(me, word, *task)) {
                self.end_first(me, task, root)?;
                from = Some(leaf);
                continue;
            }
            from = leaf.get().prev.get(self.pin());
            if let Some(object) = header_of(its) {
                self.empty_locked(me, leaf, (its, object), pins, root)?;
            }
            self.bound_work();
        }
    }

    /// Returns whether a revoke of a slot with the word `top` has to end a task before it takes the
    /// first of the task's capabilities: it takes all of them, and some may be exposures. As long
    /// as the task may run, these say that it may have [locks](crate::events::locks).
    fn ends_first(self, me: OpenTask<'k>, top: RawWord<'k>, task: Ref<'k, Task>) -> bool {
        let header = &task.get().header;
        // Below a task's own capability are only some of its capabilities. Everywhere else, memory
        // is revoked of which the task was made.
        let takes_all = top.get::<Task>().is_none() && task != me.object();
        takes_all && header.refs() > 1 && !header.has_flag(FLAG_DEAD)
    }

    /// Ends a task, and leaves all its capabilities where they are.
    fn end_first(self, me: OpenTask<'k>, task: Ref<'k, Task>, root: RootGuard<'k>) -> Result<()> {
        self.afford(END_WORK)?;
        self.mark_dying(me, &task.get().header);
        drop(root);
        self.security().note_actor();
        self.end_task(me, task)?;
        self.bound_work();
        Ok(())
    }

    /// Returns a slot that was derived from this one, directly or not, and from which nothing is
    /// derived. The search continues `from` the slot before the last leaf: that is a descendant,
    /// too, or the slot itself, unless it was emptied or moved.
    /// Requires: the root lock is held.
    fn leaf_below(self, slot: Ref<'k, Slot>, from: Option<Ref<'k, Slot>>) -> Option<Ref<'k, Slot>> {
        let from = from.filter(|from| *from != slot);
        let from = from.filter(|from| from.get().word.load(self.pin()).object_type() != 0);
        let mut leaf = from.unwrap_or(slot);
        while let Some(child) = self.caps().child_of(leaf) {
            self.note_work(LOOK_WORK);
            leaf = child;
        }
        Some(leaf).filter(|leaf| *leaf != slot)
    }

    /// Empties a slot, and ends its object if the slot is the last ([`Life::empty_slot`]).
    pub fn delete_slot(self, me: OpenTask<'k>, slot: Ref<'k, Slot>, pins: Pins) -> Result<()> {
        self.empty_slot(me, slot, pins).map(drop)
    }

    /// Records that a capability is deleted from a table, if that is not the caller's own.
    #[cold]
    #[inline(never)]
    fn audit_take(self, me: OpenTask<'k>, table: &Header, word: RawWord<'k>) {
        let is_own = me.process(self.pin()).get().has_table(self.pin(), table);
        if let Some(object) = header_of(word).filter(|_| !is_own) {
            self.security().audit(AuditEvent::Take, |record| {
                let (rights, to) = (Rights(word.rights()), table.identity());
                about(Record { op: Some(Op::CapDelete), rights, to, ..record }, object)
            });
        }
    }

    /// Empties a slot. If it is its object's last, ends the object first. A task cannot end an
    /// object that it is part of, since it could not get the answer. A pinned frame does not end,
    /// unless its pins go with it. A CPU that has seen the slot full may find it empty later in the
    /// same entry, but never with other contents, since it is filled again only after that entry.
    pub fn empty_slot(self, me: OpenTask<'k>, slot: Ref<'k, Slot>, pins: Pins) -> Result<Emptied> {
        let word = slot.get().word.load(self.pin());
        let Some(header) = header_of(word) else { return Ok(Emptied::ByOthers) };
        let root = self.caps().lock_root_or_leave(header)?;
        if slot.get().word.load(self.pin()) != word {
            return Ok(Emptied::ByOthers);
        }
        self.empty_locked(me, slot, (word, header), pins, root)
    }

    /// Empties a slot as [`Life::empty_slot`] does, whose word and object were read under the lock
    /// of its root.
    #[inline(always)]
    fn empty_locked(
        self,
        me: OpenTask<'k>,
        slot: Ref<'k, Slot>,
        (word, header): (RawWord<'k>, &Header),
        pins: Pins,
        root: RootGuard<'k>,
    ) -> Result<Emptied> {
        if header.refs() > 1 {
            self.caps().take_out(slot, header);
            return Ok(Emptied::Now);
        }
        self.end_object(me, slot, word, header, pins, root)
    }

    /// Ends an object and empties its last slot. (Out of line, because other slots need none of
    /// this work.)
    #[inline(never)]
    fn end_object(
        self,
        me: OpenTask<'k>,
        slot: Ref<'k, Slot>,
        word: RawWord<'k>,
        header: &Header,
        pins: Pins,
        root: RootGuard<'k>,
    ) -> Result<Emptied> {
        self.afford(END_WORK)?;
        {
            let _root = root;
            // No CPU may add a table to the caller's CSpace between the check and the mark.
            let _spaces = word.get::<CNode>().map(|_| self.caps().lock_bindings());
            refuse_if(self.is_part_of(me, word), Error::InUse)?;
            if let Some(frame) = word.get::<Frame>() {
                self.release(frame.get(), pins)?;
            }
            self.mark_dying(me, header);
        }
        self.security().note_actor();
        let destroyed = self.destroy(me, slot, word, pins);
        let object_type = ObjType::from_raw(word.object_type());
        if matches!(destroyed, Err(Refusal::Error { .. }))
            && matches!(object_type, Some(ObjType::Untyped | ObjType::EventPool))
        {
            // An object in that memory cannot end now, or the pool's reader cannot. The object
            // stays usable.
            header.clear_flag(FLAG_DYING);
        }
        destroyed?;
        let root = self.caps().lock_root(header);
        if slot.get().word.load(self.pin()) != word {
            return Ok(Emptied::ByOthers);
        }
        if matches!(object_type, Some(ObjType::Untyped | ObjType::Group | ObjType::EventPool)) {
            self.check_ended(slot, word)?;
        }
        // What has no capability any more is in a ring of zombies before others can know.
        if let Some(cnode) = word.get::<CNode>() {
            self.bury(me, cnode);
        }
        if let Some(untyped) = word.get::<Untyped>() {
            self.hand_zombies_up(untyped);
        }
        // Nothing is derived from a last capability.
        self.caps().take_out(slot, header);
        if let Some(process) = word.get::<Process>() {
            self.k.roots.unlist(&root, self.pin(), process);
        }
        drop(root);
        self.bound_work();
        self.security().audit_end(word);
        self.after_last(word);
        Ok(Emptied::Now)
    }

    /// Marks an object as dying. The first mark is recorded for the audit, before anything ends.
    /// Ordering: later reads of this CPU come after the mark.
    #[inline(always)]
    pub fn mark_dying(self, me: OpenTask<'k>, header: &Header) {
        if header.set_flag(FLAG_DYING) && self.security().is_told() {
            self.security().audit_kill(me, header);
        }
        fence(SeqCst);
    }

    /// Lets a frame end, if it is not pinned, or if `pins` says to remove its pins.
    /// Requires: the root lock is held.
    fn release(self, frame: &Frame, pins: Pins) -> Result<()> {
        if frame.pins() != 0 {
            refuse_if(pins == Pins::Hold, Error::InUse)?;
            self.security().audit_object(AuditEvent::Pin, Op::UntypedReset, &frame.header, 0);
            frame.unpin_all();
        }
        Ok(())
    }

    /// Checks that an object which stays usable after a refused end has really ended, whatever
    /// other tasks did that tried to end it at the same time.
    /// Requires: the root lock is held.
    #[cold]
    fn check_ended(self, slot: Ref<'k, Slot>, word: RawWord<'k>) -> Result<()> {
        if let Some(untyped) = word.get::<Untyped>() {
            refuse_if(self.caps().child_of(slot).is_some(), Refusal::More)?;
            untyped.get().header.set_flag(FLAG_DYING);
        }
        if let Some(pool) = word.get::<EventPool>() {
            pool.get().header.set_flag(FLAG_DYING);
            // The CPU that binds the pool claims the reader's slot and then looks for the mark.
            fence(SeqCst);
            let reader = pool.get().reader.word.load(self.pin());
            // A CPU that places the pool notes that under its lock, and then looks for the mark.
            let place = pool.get().placement.try_lock(self.cpu);
            let is_placed = place.is_none_or(|place| !place.process.is_null());
            refuse_if(reader.object_type() != 0 || is_claimed(reader) || is_placed, Refusal::More)?;
        }
        match word.get::<Group>() {
            Some(group) if !is_emptied(group.get()) => Err(Refusal::More),
            _ => Ok(()),
        }
    }

    /// Returns whether an object is a part of the caller: its task, its process, one of its spaces,
    /// or memory of which one of these was made.
    fn is_part_of(self, me: OpenTask<'k>, word: RawWord<'k>) -> bool {
        let process = me.process(self.pin()).get();
        word.get::<Task>() == Some(me.object())
            || word.get::<Process>() == Some(me.process(self.pin()))
            || word.get::<CNode>().is_some_and(|c| c.get().process.is(me.process(self.pin())))
            || word.get::<VSpace>().is_some_and(|v| process.vspace.is(v))
            || word.get::<Untyped>().is_some_and(|u| self.lives_in(me, u.get()))
    }

    /// Completes the end of an object after its last slot was emptied.
    fn after_last(self, word: RawWord<'k>) {
        if word.get::<CNode>().is_some() {
            // It is dead only when it is empty.
            return;
        }
        if let Some(vspace) = word.get::<VSpace>() {
            self.k.machine.end_space(vspace.get().cr3());
            if let Some(untyped) = vspace.get().pcid_of.get(self.pin()) {
                untyped.get().pcids.give();
            }
        }
        if let Some(untyped) = word.get::<Untyped>()
            && let Some(above) = untyped.get().made_of.get(self.pin())
        {
            above.get().pcids.unite(&untyped.get().pcids);
        }
        if let Some(frame) = word.get::<Frame>().filter(|frame| frame.get().is_device()) {
            self.k.frames.remove_device(self.pin(), frame);
        }
        if let Some(header) = header_of(word) {
            header.set_flag(FLAG_DEAD);
        }
    }

    /// Makes a dying object inert. Idempotent; may have to wait.
    fn destroy(self, me: OpenTask<'k>, slot: Ref<'k, Slot>, word: RawWord<'k>, pins: Pins) -> Result<()> {
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
            Some(ObjType::SchedContext) => word.get::<SchedContext>().map_or(Ok(()), |sc| {
                self.end_homed(me, sc, &sc.get().hot, Request::StopTime(sc.ptr()), || _ = self.stop_time(sc))
            }),
            Some(ObjType::Notification) => word.get::<Notification>().map_or(Ok(()), |n| {
                self.end_homed(me, n, &n.get().hot, Request::StopBits(n.ptr()), || self.stop_bits(n))
            }),
            Some(ObjType::Reply) => word.get::<Reply>().map_or(Ok(()), |reply| {
                self.stop_reply(reply);
                self.end_homed(me, reply, &reply.get().hot, Request::StopReply(reply.ptr()), || ())
            }),
            Some(ObjType::EventPool) => word.get::<EventPool>().map_or(Ok(()), |p| self.end_pool(me, p)),
            Some(ObjType::SchedControl) => {
                let control = word.get::<SchedControl>();
                control.iter().for_each(|control| self.time().end_control(control.get()));
                Ok(())
            }
            Some(ObjType::IrqHandler) => word.get::<IrqHandler>().map_or(Ok(()), |irq| self.end_irq(me, irq)),
            Some(ObjType::IoPort | ObjType::Machine) | None => Ok(()),
        }
    }

    /// Makes the interrupts of an IrqHandler go nowhere, and takes its line back.
    /// Errors: [`Refusal::More`] while another CPU binds it.
    fn end_irq(self, me: OpenTask<'k>, irq: Ref<'k, IrqHandler>) -> Result<()> {
        let object = irq.get();
        refuse_if(is_claimed(object.target.word.load(self.pin())), Refusal::More)?;
        self.delete_slot(me, irq.map(|irq| &irq.target), Pins::Hold)?;
        // No CPU can bind it again from here on.
        if let Some(line) = object.line() {
            let _ = self.k.machine.route_line(line, None);
        }
        if let Some(route) = object.route() {
            object.set_route(None);
            self.leave_line_place(irq, route);
        }
        self.k.lines.take_back(irq, self.k.cpus.epoch.now());
        Ok(())
    }

    /// Gives the place of an IrqHandler in a CPU's table back.
    pub fn leave_line_place(self, irq: Ref<'k, IrqHandler>, route: Route) {
        if let Some(place) = self.k.block(self.pin(), route.cpu).lines.at(route.place.into()) {
            let _ = place.cut(irq.addr());
        }
    }

    /// Makes an object inert that belongs to one CPU as a whole, on that CPU. `stop` marks the
    /// object as dead if this CPU can complete the end. If not, asks the object's home CPU, which
    /// answers when the object is dead.
    fn end_homed<T: Headed, H>(
        self,
        me: OpenTask<'k>,
        object: Ref<'k, T>,
        hot: &Homed<H>,
        request: Request,
        stop: impl FnOnce(),
    ) -> Result<()> {
        let (header, home) = (object.get().header(), hot.mail_target(self.pin()));
        if !header.has_flag(FLAG_DEAD) && home == self.id() {
            stop();
        }
        if header.has_flag(FLAG_DEAD) { Ok(()) } else { Err(self.outbox().ask(me, home, request)) }
    }

    /// Kills a task, on its home CPU. A task without process has nothing that a kill ends, but it
    /// may be under way to who configures it.
    fn end_task(self, me: OpenTask<'k>, task: Ref<'k, Task>) -> Result<()> {
        let request = Request::Kill(task.ptr());
        self.end_homed(me, task, &task.get().hot, request, || {
            // A kill tells some of the task's callers without asking.
            self.bound_work();
            self.kill_here(OpenTask::here(task, self.pin()));
        })
    }

    /// Ends the tasks and memberships of a process, and detaches its spaces.
    fn end_process(self, me: OpenTask<'k>, process: Ref<'k, Process>) -> Result<()> {
        refuse_if(process == me.process(self.pin()), Error::InUse)?;
        self.end_tasks(me, process)?;
        self.groups().leave_groups(process, None, false)?;
        self.take_pool(process)?;
        self.take_spaces(process);
        Ok(())
    }

    /// Ends the tasks of a process, which is not the caller's, and marks it so that it gets no
    /// others.
    pub fn end_tasks(self, me: OpenTask<'k>, process: Ref<'k, Process>) -> Result<()> {
        let header = &process.get().header;
        self.mark_dying(me, header);
        loop {
            let at = header.swept();
            let Some(number) = process.get().tasks.get(self.pin(), at) else { return Ok(()) };
            self.afford(2 * LOOK_WORK)?;
            if let Some(task) = number.get().task.get(self.pin()) {
                self.afford(END_WORK)?;
                if task.get().owner(self.pin()) != Some(process) {
                    // Another CPU is just binding this task, and may see that the process is dying.
                    // Then the task belongs to no process.
                    return Err(Refusal::More);
                }
                self.end_task(me, task)?;
            }
            header.sweep(at);
            if process.get().tasks.get(self.pin(), at + 1).is_none() {
                // No task is exposed any more from now on. A kill that was half done may have
                // passed groups in which tasks were exposed since.
                self.begin_looking(process);
            }
            self.bound_work();
        }
    }

    /// Detaches the event pool from a process, which is dying and so gets no other.
    /// Errors: [`Refusal::More`] when pages of the pool are left.
    pub fn take_pool(self, process: Ref<'k, Process>) -> Result<()> {
        let pool = process.get().placed_pool.get(self.pin());
        pool.map_or(Ok(()), |pool| self.events().part_pool(pool, Some(process)))
    }

    /// Detaches the CSpace and the address space from a process, which has no event pool any more.
    pub fn take_spaces(self, process: Ref<'k, Process>) {
        let _spaces = self.caps().lock_bindings();
        process.get().withdraw_cspace();
        self.caps().part_tables(process);
        if let Some(vspace) = process.get().vspace.get(self.pin()) {
            process.get().vspace.set(None);
            vspace.get().process.set(None);
        }
    }

    /// Ends the process of an address space, then its mappings.
    fn end_vspace(self, me: OpenTask<'k>, vspace: Ref<'k, VSpace>) -> Result<()> {
        if let Some(process) = self.lives_there(&vspace.get().process) {
            self.end_process(me, process)?;
        }
        self.mem().end_mappings(me, vspace)
    }

    /// Returns the process of a space that is dying, and so will get no other process.
    fn lives_there(self, process: &AtomicLink<Process>) -> Option<Ref<'k, Process>> {
        let _spaces = self.caps().lock_bindings();
        process.get(self.pin())
    }

    /// Empties a dying group's exposures and records. If the group exposes the caller by the
    /// caller's last capability, its end is refused and the group stays usable. Then other tasks
    /// that are ending the group start again, too, because exposures that they have seen empty may
    /// be full again. Progress counts only while the group stays dying.
    fn end_group(self, me: OpenTask<'k>, group: Ref<'k, Group>) -> Result<()> {
        let header = &group.get().header;
        let (mut at, refused) = {
            let _root = self.caps().lock_root(header);
            refuse_if(!header.has_flag(FLAG_DYING), Refusal::More)?;
            (header.swept(), group.get().refused.load(Relaxed))
        };
        let done = self.empty_exposures(me, group, &mut at);
        let root = self.caps().lock_root(header);
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
        drop(root);
        self.end_members(group, refused)
    }

    /// Ends the member records of a dying group whose exposures are empty, unless its end was
    /// refused since `refused` was read.
    fn end_members(self, group: Ref<'k, Group>, refused: u64) -> Result<()> {
        let header = &group.get().header;
        loop {
            self.afford(LOCK_WORK)?;
            let root = self.caps().lock_root(header);
            let goes_on = header.has_flag(FLAG_DYING) && group.get().refused.load(Relaxed) == refused;
            refuse_if(!goes_on, Refusal::More)?;
            let mut left = LOCK_WORK;
            while left > 0 {
                if is_emptied(group.get()) {
                    return Ok(());
                }
                let at = header.swept();
                let index = at - group.get().exposures.known().len();
                let was_there = self.groups().leave_group(group, index).is_some();
                left = left.saturating_sub(if was_there { RECORD_WORK } else { 2 * LOOK_WORK });
                header.sweep(at);
                if root.is_awaited() {
                    break;
                }
            }
            self.bound_work();
        }
    }

    /// Empties a group's exposures, from `at` on.
    fn empty_exposures(self, me: OpenTask<'k>, group: Ref<'k, Group>, at: &mut usize) -> Result<()> {
        loop {
            let Some(entry) = group.get().exposures.known().get(self.pin(), *at) else { return Ok(()) };
            self.afford(2 * LOOK_WORK)?;
            let word = entry.get().slot.word.load(self.pin());
            refuse_if(is_claimed(word), Refusal::More)?;
            if word.object_type() != 0 {
                self.afford(DELETE_WORK)?;
                self.delete_slot(me, entry.map(|e| &e.slot), Pins::Hold)?;
            }
            *at += 1;
            self.bound_work();
        }
    }

    /// Whether a part of the caller was made of an Untyped. The caller cannot end itself, since it
    /// could not get the answer.
    pub fn lives_in(self, me: OpenTask<'k>, untyped: &Untyped) -> bool {
        let process = me.process(self.pin()).get();
        let tables =
            process.cnode.get(self.pin()).into_iter().flat_map(|first| CNode::tables(first, self.pin()));
        let parts = [me.object().addr(), me.process(self.pin()).addr(), process.vspace.addr()];
        parts.into_iter().chain(tables.map(Ref::addr)).any(|at| untyped.contains(at))
    }
}

/// The outcome of emptying a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emptied {
    Now,
    /// The slot was empty, or another CPU emptied it meanwhile.
    ByOthers,
}

/// The fate of the pins of frames that would end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pins {
    /// They keep the frame.
    Hold,
    /// They end with the frame.
    Go,
}

/// Returns whether a dying group is completely empty, and its end was not refused since it was
/// marked as dying.
/// Requires: the root lock is held.
fn is_emptied(group: &Group) -> bool {
    let end = group.exposures.known().len() + group.members.known().len();
    group.header.has_flag(FLAG_DYING) && group.header.swept() == end
}
