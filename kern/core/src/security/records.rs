//! The audit: a record of every grant, revoke, denial and kill, for readers with the right SECURITY
//! of the machine.
//!
//! # Where records are written
//! The CPU that carries out an action records it in its own ring, without a lock, an atomic
//! instruction or a wait. It writes the record once the action cannot fail any more. It records a
//! kill, a revoke and a reset before it begins them, since they take several entries, and their
//! task may be killed in the middle. A full ring loses its oldest records, and the reader learns
//! how many. Without an audit, each place that could write a record costs one load. Fastpaths write
//! no records, since they neither grant nor refuse anything.
//!
//! # The log
//! All audited events also go to the machine's log ([`Machine::tell`]), if the log's level selects
//! them ([`Kernel::log_events`](crate::Kernel::log_events)). The log also gets all other refused
//! system calls. One load of [`Told`] decides for both audit and log.
//!
//! # How the audit ends
//! The rings are in an Untyped. A reset of that Untyped, or of an Untyped that contains it, first
//! removes the kernel's reference ([`Security::end_audit`]). Then it waits, as for every object in
//! that memory, until no CPU can still write.

use abi::audit::{AuditEvent, Record};
use abi::{Counter, Error, FaultAnswer, ObjType, Op, Rights};
use kern_base::audit::Actor;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, Header};
use kern_base::limits::SEND_WORK;
use kern_base::machine::Machine;
use kern_base::memory::Untyped;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::Place;
use kern_base::task::Task;
use smp::door::Ref;
use smp::quiesce;
use smp::sync::AtomicU32;
use smp::sync::Ordering::{AcqRel, Relaxed};

use crate::rooms::Security;
use kern_base::task::OpenTask;

/// The receivers of records of grants, refusals and kills: the log, and a number of audits. It is
/// one word, so that one load shows whether there are any. Audits are counted, because another may
/// begin before an ended one is subtracted.
#[derive(Default)]
pub struct Told(AtomicU32);

impl Told {
    const LOG: u32 = 1;
    /// Count of one audit.
    const AUDIT: u32 = 2;

    #[inline(always)]
    fn anybody(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    pub(crate) fn add_log(&self) {
        self.0.fetch_or(Told::LOG, AcqRel);
    }

    fn has_log(&self) -> bool {
        self.0.load(Relaxed) & Told::LOG != 0
    }

    /// Notes that an audit has begun.
    pub fn add_audit(&self) {
        self.0.fetch_add(Told::AUDIT, AcqRel);
    }

    /// Notes that an audit has ended.
    pub fn end_audit(&self) {
        self.0.fetch_sub(Told::AUDIT, AcqRel);
    }
}

impl<'k, M: Machine> Security<'k, M> {
    /// Returns whether an audit or the log receives events.
    #[inline(always)]
    pub fn is_told(self) -> bool {
        self.k.told.anybody()
    }

    /// Writes a record, if there is a receiver. Fills in the fields that `make` leaves out.
    #[inline(always)]
    pub fn audit(self, event: AuditEvent, make: impl FnOnce(Record) -> Record) {
        if self.is_told() {
            self.write_record(event, make);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_record(self, event: AuditEvent, make: impl FnOnce(Record) -> Record) {
        self.note_work(SEND_WORK);
        let record = self.record(event, make);
        if let Some(audit) = self.k.audit.get(self.pin()) {
            audit.get().write(self.pin(), &record);
        }
        if self.k.told.has_log() {
            self.k.machine.tell(&record);
        }
    }

    fn record(self, event: AuditEvent, make: impl FnOnce(Record) -> Record) -> Record {
        let actor = self.actor();
        make(Record {
            time: self.k.machine.now(),
            event,
            op: None,
            error: None,
            actor: actor.task,
            label: actor.label,
            object: None,
            identity: 0,
            rights: Rights::NONE,
            to: 0,
            detail: 0,
        })
    }

    /// Returns the actor on this CPU: the running task, or the task that ended the CNode that is
    /// being emptied.
    pub fn actor(self) -> Actor {
        let entry = self.entry_number();
        let running = || self.running_actor().unwrap_or(Actor::NONE);
        self.sched.ender.get().or_else(|| self.noted_actor(entry)).unwrap_or_else(running)
    }

    /// Returns the running task as an actor, if there is one.
    fn running_actor(self) -> Option<Actor> {
        self.hot.current.get(self.pin()).map(|task| self.actor_of(task))
    }

    /// Returns the actor that was noted in the kernel entry with that number, if one was.
    fn noted_actor(self, entry: u64) -> Option<Actor> {
        self.sched.acts.get().filter(|(noted, _)| *noted == entry).map(|(_, actor)| actor)
    }

    /// Returns the number of this kernel entry: no other entry of this CPU with an actor has it. It
    /// is made of counters that each such entry increments.
    fn entry_number(self) -> u64 {
        let counted = [Counter::Idle, Counter::SlowEntry, Counter::Interrupt];
        let entered = counted.map(|counter| self.cpu.counters[counter as usize].racy());
        quiesce::exits(self.k, self.pin()) + entered.iter().sum::<u64>()
    }

    /// Notes the running task as the actor up to the end of this entry, even if it loses the CPU by
    /// its action.
    #[inline(always)]
    pub fn note_actor(self) {
        if self.is_told() {
            self.keep_actor();
        }
    }

    #[cold]
    #[inline(never)]
    fn keep_actor(self) {
        let entry = self.entry_number();
        if self.noted_actor(entry).is_none() {
            self.sched.acts.set(self.running_actor().map(|actor| (entry, actor)));
        }
    }

    /// Returns a task as an actor, with the label of its process.
    fn actor_of(self, task: Ref<'k, Task>) -> Actor {
        let label = task.get().owner(self.pin()).map_or(0, |process| process.get().header.label());
        Actor { task: task.get().id(), label }
    }

    /// Records what an operation did to the object of a header.
    #[inline(always)]
    pub fn audit_object(self, event: AuditEvent, op: Op, object: &Header, detail: u64) {
        self.audit(event, |record| Record { op: Some(op), detail, ..about(record, object) });
    }

    /// Records that an operation brought an object to another one: into a process, or a group.
    #[inline(always)]
    pub fn audit_to(self, event: AuditEvent, op: Op, object: &Header, to: &Header, detail: u64) {
        self.audit(event, |record| Record {
            op: Some(op),
            to: to.identity(),
            detail,
            ..about(record, object)
        });
    }

    /// Records that a task brought a capability to a slot. Within one CSpace that is no grant.
    #[inline(always)]
    pub fn audit_grant(self, actor: Ref<'k, Task>, op: Option<Op>, to: Place<'k>) {
        if self.is_told() {
            self.write_grant(actor, op, to);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_grant(self, actor: Ref<'k, Task>, op: Option<Op>, to: Place<'k>) {
        let word = to.slot.get().word.load(self.pin());
        let is_own =
            actor.get().owner(self.pin()).is_some_and(|from| from.get().has_table(self.pin(), to.table));
        // Within the actor's own CSpace it is no grant.
        let Some(object) = header_of(word).filter(|_| !is_own) else { return };
        self.audit(AuditEvent::Grant, |record| {
            let (rights, detail) = (Rights(word.rights()), to.slot.get().badge());
            let record = Record { op, rights, to: to.table.identity(), detail, ..record };
            about(by(record, self.actor_of(actor)), object)
        });
    }

    /// Records that a process became a member of a group.
    #[inline(always)]
    pub fn audit_join(self, group: &Group, process: &Process, rights: Rights, index: u64) {
        self.audit(AuditEvent::Join, |record| {
            let to = process.header.identity();
            let record = Record { op: Some(Op::GroupAdd), rights, to, detail: index, ..record };
            about(record, &group.header)
        });
    }

    /// Records that a process leaves a group because it ends: through one of its tasks, or through
    /// the actor on this CPU.
    #[inline(always)]
    pub fn audit_leave(self, group: &Group, index: usize, process: &Process, actor: Option<Ref<'k, Task>>) {
        self.audit(AuditEvent::Leave, |record| {
            let (to, detail) = (process.header.identity(), index as u64);
            let record = actor.map_or(record, |task| by(record, self.actor_of(task)));
            about(Record { to, detail, ..record }, &group.header)
        });
    }

    /// Records that an object becomes part of a process.
    #[inline(always)]
    pub fn audit_bind(self, op: Op, object: &Header, process: &Process) {
        self.audit_to(AuditEvent::Bind, op, object, &process.header, 0);
    }

    /// Records that a system call of a task is refused. The audit gets refusals for lack of
    /// authority, the log gets all.
    #[inline(always)]
    pub fn audit_refusal(self, caller: Ref<'k, Task>, op: Option<Op>, error: Error, detail: u64, to: u64) {
        if self.is_told() {
            self.write_refusal(caller, op, error, [detail, to]);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_refusal(self, caller: Ref<'k, Task>, op: Option<Op>, error: Error, [detail, to]: [u64; 2]) {
        let make =
            |record| by(Record { op, error: Some(error), to, detail, ..record }, self.actor_of(caller));
        if is_denial(error) {
            self.write_record(AuditEvent::Denial, make);
        } else if self.k.told.has_log() {
            self.k.machine.tell(&self.record(AuditEvent::Denial, make));
        }
    }

    /// Records that labels keep a caller from taking a part of its reply's payload. The reply is
    /// sent. `labels` is the detail of [`Error::Forbidden`].
    #[cold]
    #[inline(never)]
    pub fn audit_untaken(self, replier: Ref<'k, Task>, labels: u64) {
        if let Some(me) = self.open(replier).filter(|_| self.is_told()) {
            self.write_refusal(replier, op_of(me), Error::Forbidden, [labels, me.regs.rdi.get()]);
        }
    }

    /// Records that the running task begins to end an object. Only for a living task, a process or
    /// a group.
    #[cold]
    #[inline(never)]
    pub fn audit_kill(self, me: OpenTask<'k>, object: &Header) {
        if ends_told(object) && !object.has_flag(FLAG_DEAD) {
            // An object that ends with a CNode ends because of an earlier system call.
            let op = self.sched.ender.get().map_or_else(|| op_of(me), |_| None);
            self.audit(AuditEvent::Kill, |record| about(Record { op, ..record }, object));
        }
    }

    /// Records that a task's fault was not handled, and that its process ends.
    #[inline(always)]
    pub fn audit_teardown(self, task: Ref<'k, Task>) {
        self.audit(AuditEvent::Kill, |record| {
            let process = task.get().owner(self.pin());
            let record = by(record, self.actor_of(task));
            process.map_or(record, |process| about(record, &process.get().header))
        });
    }

    /// Records that the running task's answer to a fault is about to end the faulting task, or its
    /// process.
    #[cold]
    #[inline(never)]
    pub fn audit_answer(self, me: OpenTask<'k>, task: Ref<'k, Task>, answer: FaultAnswer) {
        self.audit(AuditEvent::Kill, |record| {
            let record = Record { op: op_of(me), ..record };
            match task.get().owner(self.pin()) {
                Some(process) if answer == FaultAnswer::TearDown => about(record, &process.get().header),
                _ => about(record, &task.get().header),
            }
        });
    }

    /// Records that a task is dead.
    /// Requires: the task's process is still known.
    #[inline(always)]
    pub fn audit_death(self, task: Ref<'k, Task>) {
        self.audit(AuditEvent::Death, |record| about(by(record, self.actor_of(task)), &task.get().header));
    }

    /// Records that a task, process or group has lost its last capability.
    #[inline(always)]
    pub fn audit_end(self, word: RawWord<'k>) {
        if self.is_told()
            && let Some(object) = header_of(word).filter(|object| ends_told(object))
        {
            self.audit(AuditEvent::End, |record| about(record, object));
        }
    }

    /// Ends an audit whose records are in memory that is about to be reset.
    pub fn end_audit(self, untyped: &Untyped) {
        let at = self.k.audit.addr();
        if untyped.contains(at) && self.k.audit.cut(at) {
            self.k.told.end_audit();
        }
    }
}

/// Returns the operation that a task is in.
fn op_of(me: OpenTask<'_>) -> Option<Op> {
    Op::from_raw(me.regs.rax.get() as u8)
}

/// Returns whether the audit records the end of such an object.
fn ends_told(object: &Header) -> bool {
    matches!(object.object_type(), Some(ObjType::Task | ObjType::Process | ObjType::Group))
}

/// Adds an actor to a record.
fn by(record: Record, actor: Actor) -> Record {
    Record { actor: actor.task, label: actor.label, ..record }
}

/// Adds an object to a record.
pub fn about(record: Record, object: &Header) -> Record {
    Record { object: object.object_type(), identity: object.identity(), ..record }
}

/// Whether an error means that authority was lacking.
const fn is_denial(error: Error) -> bool {
    use Error::{Amplifies, Forbidden, NoConsent, NoRight, NotMember};
    matches!(error, Amplifies | Forbidden | NoConsent | NoRight | NotMember)
}
