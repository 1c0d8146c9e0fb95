//! The audit: a record of every grant, revoke, denial and kill, for whoever has the right SECURITY of the machine.
//!
//! # Where it is written
//! Where the thing is done, by the CPU that does it into its own ring: no lock, no atomic instruction, no wait. A
//! thing is told of once it cannot fail any more; a kill, a revoke and a reset before anything is done, since they take several
//! entries, and who does them may be killed in the middle. A ring that is full loses its oldest records; who reads is told how many. Without an audit all
//! of this is one load where a record would be. Fastpaths have none: they neither grant nor refuse.
//!
//! # The log
//! What is told to the audit is told to the machine's log, too ([`Machine::tell`]), where somebody wants that
//! ([`Kernel::log_events`](crate::Kernel::log_events)), and of refused system calls all. The load is the same one: of [`Told`].
//!
//! # How it ends
//! The rings live in an Untyped. Reset of that Untyped, or of one around it, first takes the kernel's reference away
//! ([`Security::end_audit`]), and then waits, as for everything that was made there, until no CPU can still write.

use abi::audit::{AuditEvent, Record};
use abi::{Counter, Error, FaultAnswer, ObjType, Op, Rights};
use kern_base::audit::Actor;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, Header};
use kern_base::machine::Machine;
use kern_base::memory::Untyped;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::task::Task;
use smp::door::Ref;
use smp::quiesce;
use smp::sync::AtomicU32;
use smp::sync::Ordering::{AcqRel, Relaxed};

use crate::Me;
use crate::rooms::Security;
use kern_base::slot::Place;

/// Who is told of grants, refusals and kills: one word, so that one load says whether there is anybody. Audits are counted:
/// one that ends may be followed by another before it is taken out of the count.
#[derive(Default)]
pub struct Told(AtomicU32);

impl Told {
    const LOG: u32 = 1;
    /// One audit.
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

    /// An audit has begun.
    pub fn add_audit(&self) {
        self.0.fetch_add(Told::AUDIT, AcqRel);
    }

    /// One that had begun has ended.
    pub fn end_audit(&self) {
        self.0.fetch_sub(Told::AUDIT, AcqRel);
    }
}

impl<'k, M: Machine> Security<'k, M> {
    /// Whether anybody is told of what happens: the audit, or the log.
    #[inline(always)]
    pub fn is_told(self) -> bool {
        self.k.told.anybody()
    }

    /// Writes a record, if anybody is told. What `make` leaves out is filled in.
    #[inline(always)]
    pub fn audit(self, event: AuditEvent, make: impl FnOnce(Record) -> Record) {
        if self.is_told() {
            self.write_record(event, make);
        }
    }

    #[cold]
    #[inline(never)]
    fn write_record(self, event: AuditEvent, make: impl FnOnce(Record) -> Record) {
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

    /// Whose doing it is what this CPU does: the running task's, or that of who ended the CNode that is being emptied.
    pub fn actor(self) -> Actor {
        let entry = self.entry_number();
        let running = || self.running_actor().unwrap_or(Actor::NONE);
        self.sched.ender.get().or_else(|| self.noted_actor(entry)).unwrap_or_else(running)
    }

    /// The running task, if there is one.
    fn running_actor(self) -> Option<Actor> {
        self.hot.current.get(self.pin()).map(|task| self.actor_of(task))
    }

    /// Who was noted in the entry of that number, if anybody was.
    fn noted_actor(self, entry: u64) -> Option<Actor> {
        self.sched.acts.get().filter(|(noted, _)| *noted == entry).map(|(_, actor)| actor)
    }

    /// A number that no other entry of this CPU has in which somebody may act: what is counted in each.
    fn entry_number(self) -> u64 {
        let counted = [Counter::Idle, Counter::SlowEntry, Counter::Interrupt];
        let entered = counted.map(|counter| self.cpu.counters[counter as usize].racy());
        quiesce::exits(self.k, self.pin()) + entered.iter().sum::<u64>()
    }

    /// What the running task does is told of as its doing up to the end of this entry, though it may lose the CPU by it.
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

    /// A task, with the label of its process.
    fn actor_of(self, task: Ref<'k, Task>) -> Actor {
        let label = task.get().owner.get(self.pin()).map_or(0, |process| process.get().header.label());
        Actor { task: task.get().id(), label }
    }

    /// Something happened to the object of a header, by an operation.
    #[inline(always)]
    pub fn audit_object(self, event: AuditEvent, op: Op, object: &Header, detail: u64) {
        self.audit(event, |record| Record { op: Some(op), detail, ..about(record, object) });
    }

    /// A capability has come to a slot by the doing of a task. Within one CSpace it is no grant.
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
            actor.get().owner.get(self.pin()).is_some_and(|from| from.get().has_table(self.pin(), to.table));
        let Some(object) = header_of(word).filter(|_| !is_own) else { return };
        self.audit(AuditEvent::Grant, |record| {
            let (rights, detail) = (Rights(word.rights()), to.slot.get().badge());
            let record = Record { op, rights, to: to.table.identity(), detail, ..record };
            about(by(record, self.actor_of(actor)), object)
        });
    }

    /// A process became a member of a group.
    #[inline(always)]
    pub fn audit_join(self, group: &Group, process: &Process, rights: Rights, index: u64) {
        self.audit(AuditEvent::Join, |record| {
            let to = process.header.identity();
            let record = Record { op: Some(Op::GroupAdd), rights, to, detail: index, ..record };
            about(record, &group.header)
        });
    }

    /// A process is a member of a group no more, since it ends: by the doing of one of its tasks, or of whoever acts.
    #[inline(always)]
    pub fn audit_leave(self, group: &Group, index: usize, process: &Process, actor: Option<Ref<'k, Task>>) {
        self.audit(AuditEvent::Leave, |record| {
            let (to, detail) = (process.header.identity(), index as u64);
            let record = actor.map_or(record, |task| by(record, self.actor_of(task)));
            about(Record { to, detail, ..record }, &group.header)
        });
    }

    /// An object becomes part of a process.
    #[inline(always)]
    pub fn audit_bind(self, op: Op, object: &Header, process: &Process) {
        self.audit(AuditEvent::Bind, |record| {
            about(Record { op: Some(op), to: process.header.identity(), ..record }, object)
        });
    }

    /// An object was exposed in a group.
    #[inline(always)]
    pub fn audit_expose(self, group: &Group, word: RawWord<'k>, index: u32) {
        self.audit(AuditEvent::Expose, |record| {
            let (to, detail) = (group.header.identity(), u64::from(index));
            let record = Record { op: Some(Op::Expose), to, detail, ..record };
            header_of(word).map_or(record, |object| about(record, object))
        });
    }

    /// A system call of a task is refused. The audit is told where authority was lacking, the log always.
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

    /// An object begins to end by what the running task does. That is told of a task that lives, a process and a group.
    #[cold]
    #[inline(never)]
    pub fn audit_kill(self, me: Me<'k>, object: &Header) {
        const TOLD: [ObjType; 3] = [ObjType::Task, ObjType::Process, ObjType::Group];
        let is_told = object.object_type().is_some_and(|of| TOLD.contains(&of));
        if is_told && !object.has_flag(FLAG_DEAD) {
            // What ends with a CNode ends by what another system call did.
            let op = self.sched.ender.get().map_or_else(|| op_of(me), |_| None);
            self.audit(AuditEvent::Kill, |record| about(Record { op, ..record }, object));
        }
    }

    /// A task faulted, nobody handles that, and its process is torn down.
    #[inline(always)]
    pub fn audit_teardown(self, task: Ref<'k, Task>) {
        self.audit(AuditEvent::Kill, |record| {
            let process = task.get().owner.get(self.pin());
            let record = by(record, self.actor_of(task));
            process.map_or(record, |process| about(record, &process.get().header))
        });
    }

    /// The running task's answer to a task's fault is about to end the task, or its process.
    #[cold]
    #[inline(never)]
    pub fn audit_answer(self, me: Me<'k>, task: Ref<'k, Task>, answer: FaultAnswer) {
        self.audit(AuditEvent::Kill, |record| {
            let record = Record { op: op_of(me), ..record };
            match task.get().owner.get(self.pin()) {
                Some(process) if answer == FaultAnswer::TearDown => about(record, &process.get().header),
                _ => about(record, &task.get().header),
            }
        });
    }

    /// A task is dead. Its process is still known.
    #[inline(always)]
    pub fn audit_death(self, task: Ref<'k, Task>) {
        self.audit(AuditEvent::Death, |record| about(by(record, self.actor_of(task)), &task.get().header));
    }

    /// A task, process or group has lost its last capability.
    #[inline(always)]
    pub fn audit_end(self, word: RawWord<'k>) {
        const TOLD: [u8; 3] = [ObjType::Task as u8, ObjType::Process as u8, ObjType::Group as u8];
        let ends = TOLD.contains(&word.object_type()) && self.is_told();
        if let Some(object) = header_of(word).filter(|_| ends) {
            self.audit(AuditEvent::End, |record| about(record, object));
        }
    }

    /// Ends an audit whose records stand in memory that is about to be reset.
    pub fn end_audit(self, untyped: &Untyped) {
        let at = self.k.audit.addr();
        if untyped.contains(at) && self.k.audit.cut(at) {
            self.k.told.end_audit();
        }
    }
}

/// The operation that a task is in.
fn op_of(me: Me<'_>) -> Option<Op> {
    Op::from_raw(me.hot.regs.rax.get() as u8)
}

/// A record of what an actor did.
fn by(record: Record, actor: Actor) -> Record {
    Record { actor: actor.task, label: actor.label, ..record }
}

/// A record of an object.
pub fn about(record: Record, object: &Header) -> Record {
    Record { object: object.object_type(), identity: object.identity(), ..record }
}

/// Whether that error says that somebody lacks authority.
const fn is_denial(error: Error) -> bool {
    use Error::{Amplifies, Forbidden, NoConsent, NoRight, NotMember};
    matches!(error, Amplifies | Forbidden | NoConsent | NoRight | NotMember)
}
