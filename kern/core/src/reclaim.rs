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
//! Every step is idempotent and one system call does a bounded number of them ([`WORK_BOUND`]); then it
//! starts again. Progress is in the objects, so nothing is lost when the caller dies half-way: whoever
//! deletes, revokes or resets next goes on from there.

use abi::{Cap, Error, ObjType, Rights, Target};
use core::sync::atomic::Ordering::{Acquire, Release};
use kern_base::cpu::Mail;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Slot};
use kern_base::task::{Request, State, Task, TaskHot, ctl};
use smp::cpu::{CpuId, Pin};
use smp::door::{RawWord, Ref};
use smp::mailbox::Mailbox;
use smp::quiesce::{self, Cpus, Epoch, GraceMail, GracePort, GraceState};

use crate::schedule::set_state;
use crate::{Answer, Cx, Kernel, Me, Refusal, Result};

/// Slots that one system call empties before it starts again, so that interrupts get their turn.
const WORK_BOUND: usize = 64;

impl<M: Machine> Cpus for Kernel<M> {
    type Mail = Mail;

    fn count(&self) -> usize {
        self.cpus.len()
    }

    fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    fn mailbox<'a>(&'a self, pin: Pin<'a>, cpu: CpuId) -> &'a Mailbox<Mail> {
        &self.block(pin, cpu).mailbox
    }

    fn port<'a>(&'a self, pin: Pin<'a>, cpu: CpuId) -> &'a GracePort<Mail> {
        &self.block(pin, cpu).grace
    }

    fn state<'a>(&'a self, pin: Pin<'a>) -> &'a GraceState {
        &self.block(pin, pin.cpu()).sched.here(pin).grace
    }

    fn interrupt(&self, cpu: CpuId) {
        self.machine.wake(cpu);
    }
}

impl<'k, M: Machine> Cx<'k, M> {
    // --- grace periods ---------------------------------------------------------------------------

    /// Parks the running task until the epoch gets there (0: until this CPU's next round is over).
    pub fn wait_for_grace(self, me: Me<'k>, epoch: u64) {
        if epoch != 0 {
            quiesce::request_epoch(self.k, self.pin, epoch);
        }
        set_state(me.hot, State::Restart);
        me.hot.wait_epoch.set(epoch);
        me.hot.wait_next.set(self.sched.grace_waiters.get(self.pin));
        self.sched.grace_waiters.set(Some(me.task));
        self.block_current();
    }

    /// A grace node came by.
    pub fn grace_arrived(self, mail: GraceMail) {
        quiesce::receive(self.k, self.pin, mail);
    }

    /// Lets the tasks go on whose grace period is over. After every [`quiesce::settle`].
    pub fn wake_grace_waiters(self) {
        let now = self.k.epoch.now();
        let mut next = self.sched.grace_waiters.take(self.pin);
        while let Some(task) = next {
            let Some(hot) = self.task_hot(task) else { break };
            next = hot.wait_next.take(self.pin);
            if hot.wait_epoch.get() <= now {
                self.restart_now(task, hot);
            } else {
                hot.wait_next.set(self.sched.grace_waiters.get(self.pin));
                self.sched.grace_waiters.set(Some(task));
            }
        }
        self.dispatch();
    }

    /// The task makes its system call again.
    pub fn restart_now(self, task: Ref<'k, Task>, hot: &TaskHot) {
        self.make_ready(task, hot);
        self.dispatch();
    }

    /// Takes a task out of the grace waiters.
    pub fn unlink_grace_waiter(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let next = hot.wait_next.take(self.pin);
        if self.sched.grace_waiters.is(task) {
            self.sched.grace_waiters.set(next);
            return;
        }
        let mut at = self.sched.grace_waiters.get(self.pin);
        while let Some(other) = at.and_then(|t| self.task_hot(t)) {
            if other.wait_next.is(task) {
                other.wait_next.set(next);
                return;
            }
            at = other.wait_next.get(self.pin);
        }
    }

    // --- delete and revoke -----------------------------------------------------------------------

    /// [`abi::Op::CapDelete`].
    pub fn cap_delete(self, me: Me<'k>, at: Target) -> Result<Answer> {
        let slot = self.find_slot(me, at, Rights::GRANT)?;
        self.delete_slot(me, slot)?;
        Ok(Answer::DONE)
    }

    /// [`abi::Op::CapRevoke`].
    pub fn cap_revoke(self, me: Me<'k>, at: Target) -> Result<Answer> {
        let slot = self.find_slot(me, at, Rights::GRANT)?;
        self.revoke_slot(me, slot)?;
        Ok(Answer::DONE)
    }

    /// Deletes all that was derived from a slot.
    fn revoke_slot(self, me: Me<'k>, slot: Ref<'k, Slot>) -> Result<()> {
        for _ in 0..WORK_BOUND {
            match self.first_child(slot) {
                None => return Ok(()),
                Some(child) => self.delete_slot(me, child)?,
            }
        }
        Err(Refusal::More)
    }

    /// The slot behind, where it was derived from this one.
    fn first_child(self, slot: Ref<'k, Slot>) -> Option<Ref<'k, Slot>> {
        let header = self.header_of(slot.get().word.load(self.pin))?;
        let _guard = self.lock_root(header);
        slot.get().next.get(self.pin).filter(|next| next.get().depth() > slot.get().depth())
    }

    /// Empties a slot; if it is its object's last, ends the object first.
    pub fn delete_slot(self, me: Me<'k>, slot: Ref<'k, Slot>) -> Result<()> {
        let word = slot.get().word.load(self.pin);
        let Some(header) = self.header_of(word) else { return Ok(()) };
        let last = {
            let _guard = self.lock_root(header);
            if slot.get().word.load(self.pin) != word {
                return Ok(());
            }
            if header.refs() > 1 {
                self.unlink_slot(slot, word);
                return Ok(());
            }
            header.set_flag(FLAG_DYING);
            word
        };
        self.destroy(me, last)?;
        let gone = {
            let _guard = self.lock_root(header);
            slot.get().word.load(self.pin) == word && self.unlink_slot(slot, word)
        };
        if gone {
            self.after_last(word);
        }
        Ok(())
    }

    /// What is left to do when an object's last slot is empty.
    fn after_last(self, word: RawWord<'k>) {
        if let Some(process) = word.get::<Process>() {
            self.k.processes.release(self.pin, process.get().key());
        }
        if let Some(header) = self.header_of(word) {
            header.set_flag(FLAG_DEAD);
        }
    }

    /// Makes a dying object inert. Idempotent; may have to wait.
    fn destroy(self, me: Me<'k>, word: RawWord<'k>) -> Result<()> {
        match ObjType::from_raw(word.object_type()) {
            Some(ObjType::Task) => word.get::<Task>().map_or(Ok(()), |t| self.end_task(me, t)),
            Some(ObjType::Process) => word.get::<Process>().map_or(Ok(()), |p| self.end_process(me, p)),
            Some(ObjType::CNode) => word.get::<CNode>().map_or(Ok(()), |c| self.end_cnode(me, c)),
            Some(ObjType::VSpace) => word.get::<VSpace>().map_or(Ok(()), |v| self.end_vspace(me, v)),
            Some(ObjType::Frame) => word.get::<Frame>().map_or(Ok(()), |f| self.end_frame(me, f)),
            Some(ObjType::Group) => word.get::<Group>().map_or(Ok(()), |g| self.end_group(g)),
            Some(ObjType::SchedContext) => word.get::<SchedContext>().map_or(Ok(()), |sc| {
                let home = sc.get().hot.home();
                if sc.get().hot.is_under_way() && home == self.id() {
                    // It is in this CPU's mailbox: that is emptied before the call is made again.
                    return Err(Refusal::More);
                }
                self.at_home(me, home, Request::StopTime(sc.ptr()), || self.stop_time(sc))
            }),
            Some(ObjType::Notification) => word.get::<Notification>().map_or(Ok(()), |n| {
                let home = n.get().hot.home();
                self.at_home(me, home, Request::StopBits(n.ptr()), || self.stop_bits(n))
            }),
            Some(ObjType::Reply) => word.get::<Reply>().map_or(Ok(()), |r| {
                let home = r.get().hot.home();
                self.at_home(me, home, Request::StopReply(r.ptr()), || self.stop_reply(r))
            }),
            Some(ObjType::Untyped | ObjType::Machine) | None => Ok(()),
        }
    }

    /// Does something on the home CPU of an object: here, or by asking.
    fn at_home(self, me: Me<'k>, home: CpuId, request: Request, work: impl FnOnce()) -> Result<()> {
        if home == self.id() {
            work();
            return Ok(());
        }
        if me.hot.answered.take() {
            return Ok(());
        }
        Err(self.ask(me, home, request))
    }

    fn end_task(self, me: Me<'k>, task: Ref<'k, Task>) -> Result<()> {
        if task.get().id() == abi::TaskId::NONE || task.get().header.has_flag(FLAG_DEAD) {
            return Ok(());
        }
        me.hot.answered.set(false);
        if self.task_hot(task).is_some() {
            self.control(task, ctl::KILL);
            if task.get().header.has_flag(FLAG_DEAD) {
                return Ok(());
            }
        }
        // It is elsewhere, or its message is: look again when whoever has it was heard of. The question goes
        // by way of the CPU that has the message, behind the recall: to ask oneself would be to wait awake.
        let home = task.get().hot.home();
        let first = if home == self.id() { task.get().msg.home() } else { home };
        Err(self.ask(me, first, Request::Kill(task.ptr())))
    }

    fn end_process(self, me: Me<'k>, process: Ref<'k, Process>) -> Result<()> {
        process.get().header.set_flag(FLAG_DYING);
        for number in process.get().tasks.iter(self.pin) {
            if let Some(task) = number.get().task.get(self.pin) {
                self.end_task(me, task)?;
            }
        }
        process.get().publish_cspace(0, 0);
        if let Some(cnode) = process.get().cnode.get(self.pin) {
            process.get().cnode.set(None);
            cnode.get().process.set(None);
        }
        if let Some(vspace) = process.get().vspace.get(self.pin) {
            process.get().vspace.set(None);
            vspace.get().process.set(None);
        }
        Ok(())
    }

    /// Empties a CNode's slots. A slot that is the last of another CNode is entered, not recursed into:
    /// that one is emptied first, then this one again.
    fn end_cnode(self, me: Me<'k>, cnode: Ref<'k, CNode>) -> Result<()> {
        if let Some(process) = cnode.get().process.get(self.pin) {
            self.end_process(me, process)?;
        }
        let mut inner = cnode;
        let mut work = 0;
        'again: loop {
            for slot in inner.get().slots.iter(self.pin) {
                let word = slot.get().word.load(self.pin);
                if word.object_type() == 0 {
                    continue;
                }
                work += 1;
                if work > WORK_BOUND {
                    return Err(Refusal::More);
                }
                if let Some(other) = word.get::<CNode>().filter(|o| *o != inner && o.get().header.refs() == 1) {
                    if !self.is_empty(other) {
                        other.get().header.set_flag(FLAG_DYING);
                        if let Some(process) = other.get().process.get(self.pin) {
                            self.end_process(me, process)?;
                        }
                        inner = other;
                        continue 'again;
                    }
                }
                self.delete_inner(me, inner, slot, word)?;
            }
            if inner == cnode {
                return Ok(());
            }
            inner = cnode;
        }
    }

    /// Deletes a slot of a dying CNode. One that refers to the CNode itself is merely unlinked.
    fn delete_inner(self, me: Me<'k>, inner: Ref<'k, CNode>, slot: Ref<'k, Slot>, word: RawWord<'k>) -> Result<()> {
        if word.get::<CNode>() == Some(inner) {
            if let Some(header) = self.header_of(word) {
                let _guard = self.lock_root(header);
                if slot.get().word.load(self.pin) == word {
                    self.unlink_slot(slot, word);
                }
            }
            return Ok(());
        }
        self.delete_slot(me, slot)
    }

    fn is_empty(self, cnode: Ref<'k, CNode>) -> bool {
        cnode.get().slots.iter(self.pin).all(|s| s.get().word.load(self.pin).object_type() == 0)
    }

    fn end_vspace(self, me: Me<'k>, vspace: Ref<'k, VSpace>) -> Result<()> {
        if let Some(process) = vspace.get().process.get(self.pin) {
            self.end_process(me, process)?;
        }
        for _ in 0..WORK_BOUND {
            match vspace.get().mappings.get(self.pin) {
                Some(record) => self.unmap_record(record),
                None => return self.forget_everywhere(me),
            }
        }
        Err(Refusal::More)
    }

    fn end_frame(self, me: Me<'k>, frame: Ref<'k, Frame>) -> Result<()> {
        let mut mapped = false;
        for record in crate::spaces::records(frame).filter(|r| !r.get().vspace.is_null()) {
            self.unmap_record(record);
            mapped = true;
        }
        if mapped || me.hot.answered.get() { self.forget_everywhere(me) } else { Ok(()) }
    }

    fn end_group(self, group: Ref<'k, Group>) -> Result<()> {
        let mut work = 0;
        for entry in group.get().exposures.iter(self.pin) {
            let word = entry.get().slot.word.load(self.pin);
            if word.object_type() != 0 {
                self.empty_exposure(entry, word);
                work += 1;
                if work > WORK_BOUND {
                    return Err(Refusal::More);
                }
            }
        }
        Ok(())
    }

    /// Every CPU drops translations and leaves dying address spaces: a tour of all CPUs.
    pub fn forget_everywhere(self, me: Me<'k>) -> Result<()> {
        if me.hot.answered.take() {
            return Ok(());
        }
        self.forget_here();
        match CpuId::new(0).filter(|_| self.k.cpu_count() > 1) {
            Some(first) => Err(self.ask(me, first, Request::Forget)),
            None => Ok(()),
        }
    }

    /// This CPU's part of it.
    pub fn forget_here(self) {
        let dying = self.hot.vspace.get(self.pin).is_some_and(|v| v.get().header.has_flag(FLAG_DYING));
        if dying {
            self.hot.vspace.set(None);
        }
        self.k.machine.forget_translations(dying);
    }

    // --- reset -----------------------------------------------------------------------------------

    /// [`abi::Op::UntypedReset`].
    pub fn untyped_reset(self, me: Me<'k>, cap: Cap) -> Result<Answer> {
        let slot = self.slot_of(me.process, cap)?;
        let word = slot.get().word.load(self.pin);
        let untyped = self.typed::<Untyped>(word, cap, Rights::NONE)?;
        if self.lives_in(me, untyped.get()) {
            return Err(Error::InUse.into());
        }
        untyped.get().resetting.store(true, Release);
        self.revoke_slot(me, slot)?;
        if untyped.get().region().is_unused() {
            untyped.get().resetting.store(false, Release);
            return Ok(Answer::one(untyped.get().region().free()));
        }
        self.finish_reset(me, untyped)
    }

    /// Everything is revoked: wait until nothing refers to it, then start the region again.
    fn finish_reset(self, me: Me<'k>, untyped: Ref<'k, Untyped>) -> Result<Answer> {
        let header = &untyped.get().header;
        let ticket = {
            let _guard = self.lock_root(header);
            untyped.get().ticket.get()
        };
        match ticket {
            Some((cpu, ticket)) if cpu == self.id() => {
                let Some(quiet) = quiesce::quiet(self.k, self.pin, ticket) else {
                    return Err(Refusal::Restart { epoch: 0 });
                };
                let _guard = self.lock_root(header);
                untyped.get().ticket.set(None);
                untyped.get().region().reset(&quiet);
                untyped.get().resetting.store(false, Release);
                Ok(Answer::one(untyped.get().region().free()))
            }
            _ => {
                self.forget_everywhere(me)?;
                let ticket = quiesce::request_quiet(self.k, self.pin);
                let _guard = self.lock_root(header);
                untyped.get().ticket.set(Some((self.id(), ticket)));
                Err(Refusal::Restart { epoch: 0 })
            }
        }
    }

    /// Whether the caller itself was made of an Untyped: it can't end itself and be told so.
    fn lives_in(self, me: Me<'k>, untyped: &Untyped) -> bool {
        let region = untyped.region();
        let inside = |at: u64| at >= region.base() && at < region.base() + region.size();
        inside(me.task.addr()) || inside(me.process.addr())
    }

    /// Whether an Untyped may be carved just now.
    pub fn is_open(self, untyped: &Untyped) -> bool {
        !untyped.resetting.load(Acquire) && !untyped.header.has_flag(FLAG_DYING)
    }
}
