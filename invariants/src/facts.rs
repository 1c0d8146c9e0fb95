//! A snapshot with the indices by which rules find its records.

use snapshot::{
    CNode, Context, Cpu, Entry, Frame, Group, Info, Irq, Kernel, Member, Notification, Object, Pool, Process,
    Reply, Root, Slot, Stage, State, Table, Task, Untyped, VSpace,
};

use crate::gather::Snapshot;
use crate::index::{Index, Kind};
use crate::lists::Linked;

/// What rules read.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The records.
    pub s: &'a Snapshot,
    pub(crate) index: &'a Index,
    /// Where each task is linked.
    pub(crate) linked: Option<&'a Linked>,
    /// What belongs to no object.
    pub kernel: Kernel,
    /// CPUs on which a kernel entry is under way: a bit each. CPUs from 63 on share one.
    busy: u64,
    /// Roots whose lock is held: a bit each.
    locked_roots: u64,
    /// Somebody holds a VSpace's lock.
    pub(crate) spaces_change: bool,
}

macro_rules! find {
    ($($name:ident: $type:ident = $list:ident $kind:ident, $what:literal;)*) => {
        $(
            #[doc = concat!("The ", $what, " at an address.")]
            #[inline]
            pub fn $name(&self, at: u64) -> Option<&'a $type> {
                match self.index.at(at) {
                    Some((kind, number)) if kind == Kind::$kind as u8 => self.s.$list.get(number),
                    _ => None,
                }
            }
        )*
    };
}

impl<'a> Facts<'a> {
    pub(crate) fn new(s: &'a Snapshot, index: &'a Index) -> Facts<'a> {
        let bit = |cpu: u32| 1 << cpu.min(63);
        Facts {
            s,
            index,
            linked: None,
            kernel: s.kernels.last().copied().unwrap_or_default(),
            busy: s.cpus.iter().filter(|cpu| cpu.busy).fold(0, |bits, cpu| bits | bit(cpu.id)),
            locked_roots: s.roots.iter().filter(|root| root.locked).fold(0, |bits, root| bits | bit(root.id)),
            spaces_change: s.vspaces.iter().any(|space| space.locked),
        }
    }

    /// Returns whether a task's request was about a death that has come, and waits for its answer.
    pub(crate) fn is_unanswered(&self, task: &Task) -> bool {
        self.linked.is_some_and(|linked| linked.of(self, task).unanswered != 0)
    }

    pub(crate) fn with_lists(self, linked: &'a Linked) -> Facts<'a> {
        Facts { linked: Some(linked), ..self }
    }

    find! {
        untyped: Untyped = untypeds Untyped, "Untyped";
        cnode: CNode = cnodes CNode, "CNode";
        vspace: VSpace = vspaces VSpace, "VSpace";
        frame: Frame = frames Frame, "Frame";
        process: Process = processes Process, "process";
        task: Task = tasks Task, "task";
        context: Context = contexts Context, "SchedContext";
        group: Group = groups Group, "group";
        notification: Notification = notifications Notification, "Notification";
        reply: Reply = replies Reply, "Reply";
        pool: Pool = pools Pool, "event pool";
        irq: Irq = irqs Irq, "IrqHandler";
        slot: Slot = slots Slot, "full slot";
        member: Member = members Member, "place of a member";
    }

    /// Returns the derivation root of the object at an address.
    pub fn root_of(&self, at: u64) -> Option<u32> {
        fn root(object: Option<&impl Object>) -> Option<u32> {
            object.map(Object::root)
        }
        let (s, (kind, number)) = (self.s, self.index.at(at)?);
        match Kind::from_raw(kind)? {
            Kind::Untyped => root(s.untypeds.get(number)),
            Kind::CNode => root(s.cnodes.get(number)),
            Kind::VSpace => root(s.vspaces.get(number)),
            Kind::Frame => root(s.frames.get(number)),
            Kind::Process => root(s.processes.get(number)),
            Kind::Task => root(s.tasks.get(number)),
            Kind::Context => root(s.contexts.get(number)),
            Kind::Group => root(s.groups.get(number)),
            Kind::Notification => root(s.notifications.get(number)),
            Kind::Reply => root(s.replies.get(number)),
            Kind::Machine => root(s.machines.get(number)),
            Kind::Pool => root(s.pools.get(number)),
            Kind::Control => root(s.controls.get(number)),
            Kind::Irq => root(s.irqs.get(number)),
            Kind::Port => root(s.ports.get(number)),
            Kind::Slot | Kind::Member => None,
        }
    }

    /// Returns whether an object of type `kind` is at an address.
    pub fn is_object(&self, kind: u8, at: u64) -> bool {
        self.index.at(at).is_some_and(|(found, _)| found == kind)
    }

    /// Returns the frame table's record of a page, by the page's address.
    pub fn info(&self, page: u64) -> Option<&'a Info> {
        self.s.infos.get(self.index.infos.get(page)?)
    }

    /// Returns the page-table entry that is stored at an address.
    pub fn entry(&self, at: u64) -> Option<&'a Entry> {
        self.s.entries.get(self.index.entries.get(at)?)
    }

    /// Returns the page table in use that is at an address.
    pub fn table(&self, at: u64) -> Option<&'a Table> {
        self.s.tables.get(self.index.tables.get(at)?)
    }

    /// Returns a CPU by its number.
    pub fn cpu(&self, id: u32) -> Option<&'a Cpu> {
        let at = self.s.cpus.get(id as usize).filter(|cpu| cpu.id == id);
        at.or_else(|| self.s.cpus.iter().find(|cpu| cpu.id == id))
    }

    /// Returns the record of a derivation root, by its number.
    pub fn root(&self, id: u32) -> Option<&'a Root> {
        self.s.roots.iter().find(|root| root.id == id)
    }

    /// Whether a kernel entry is under way on a CPU.
    #[inline]
    pub fn is_busy(&self, cpu: u32) -> bool {
        self.busy & 1 << cpu.min(63) != 0
    }

    /// Returns whether a kernel entry is under way on any CPU.
    pub fn any_busy(&self) -> bool {
        self.busy != 0
    }

    /// Returns whether a call or event has to follow its receiver, which has left the CPU where the
    /// message block is.
    pub(crate) fn follows(&self, task: &Task) -> bool {
        self.linked.is_some_and(|linked| linked.of(self, task).follows == task.message_home + 1)
    }

    /// Returns whether a CPU holds the lock of a derivation root, and may be changing its tree.
    pub fn is_root_locked(&self, root: u32) -> bool {
        self.locked_roots & 1 << root.min(63) != 0
    }

    /// Returns whether a CPU holds the lock of any derivation root.
    pub fn any_root_locked(&self) -> bool {
        self.locked_roots != 0
    }

    /// Returns whether a task is steady: neither the task nor its message block is on a CPU with a
    /// kernel entry under way.
    #[inline]
    pub fn is_steady(&self, task: &Task) -> bool {
        self.busy == 0 || !self.is_busy(task.home) && !self.is_busy(task.message_home)
    }

    /// Returns the tasks whose home CPU, and the CPU of whose message block, have no kernel entry
    /// under way.
    pub fn steady_tasks(&self) -> impl Iterator<Item = &'a Task> + use<'a, '_> {
        self.s.tasks.iter().filter(|task| self.is_steady(task))
    }

    /// Returns the task that has received a caller's call, or will receive it, if the call is at
    /// that task.
    pub fn callee(&self, task: &Task) -> Option<&'a Task> {
        if is_at_callee(task) && !self.follows(task) { self.task(task.callee) } else { None }
    }

    /// Returns the borrowed SchedContext that a task has: the one that it runs on, or that it keeps
    /// for later.
    pub fn borrowed(&self, task: &Task) -> Option<&'a Context> {
        match self.cpu(task.home) {
            Some(cpu) if cpu.current == task.at => {
                self.context(cpu.context).filter(|context| context.at != task.own_context)
            }
            _ => self.context(task.borrowed),
        }
    }

    /// Returns the SchedContext that a task spends, or would spend: the borrowed one, or else its
    /// own.
    pub fn time(&self, task: &Task) -> Option<&'a Context> {
        self.borrowed(task).or_else(|| {
            let own = self.context(task.own_context)?;
            (own.task == task.at && own.home == task.home).then_some(own)
        })
    }

    /// Returns a task's own SchedContext, on any CPU, unless it is being destroyed.
    pub fn own_time(&self, task: &Task) -> Option<&'a Context> {
        self.context(task.own_context).filter(|own| !own.dying)
    }

    /// Returns whether the shootdown with the stamp `raw` is over.
    pub fn is_over(&self, raw: u64) -> bool {
        let (by, number) = crate::pte::stamp(raw);
        self.cpu(by as u32).is_some_and(|cpu| cpu.shootdowns_over >= number)
    }

    /// Returns whether the shootdown with the stamp `raw` has begun.
    pub fn has_begun(&self, raw: u64) -> bool {
        let (by, number) = crate::pte::stamp(raw);
        self.cpu(by as u32).is_some_and(|cpu| cpu.shootdowns_begun >= number)
    }

    /// Describes the object at an address, for messages to people.
    pub fn name(&self, at: u64) -> String {
        if at == 0 {
            return "nothing".to_owned();
        }
        match self.index.at(at).and_then(|(kind, number)| Some((Kind::from_raw(kind)?, number))) {
            Some((Kind::Task, number)) => name_of(&self.s.tasks[number]),
            Some((kind, _)) => format!("{kind:?} {at:#x}"),
            None => format!("{at:#x}, where nothing is"),
        }
    }
}

/// Describes a task, for messages to people.
pub fn name_of(task: &Task) -> String {
    let Task { id, state, stage, home, .. } = task;
    format!("task {id} ({state:?}, {stage:?}, cpu{home})")
}

/// Whether a task waits in a call.
pub fn awaits(task: &Task) -> bool {
    matches!(task.state, State::Sending | State::Await | State::AwaitTimed | State::AwaitRemote)
}

/// Whether a task waits in a call whose message block is on its own CPU.
pub fn awaits_here(task: &Task) -> bool {
    matches!(task.state, State::Sending | State::Await | State::AwaitTimed)
}

/// Whether a task receives.
pub fn receives(task: &Task) -> bool {
    matches!(task.state, State::Recv | State::RecvTimed)
}

/// Whether a task may run.
pub fn is_runnable(task: &Task) -> bool {
    task.state == State::Ready && !task.suspended
}

/// Whether a task's call is at its callee, by the account of the callee's CPU.
pub fn is_at_callee(task: &Task) -> bool {
    match task.state {
        State::Sending | State::Await | State::AwaitTimed => !task.ending,
        State::AwaitRemote => matches!(task.stage, Stage::Queued | Stage::Owed),
        _ => false,
    }
}

/// Returns whether a task's message block is in a mailbox, or will be put into one.
pub fn is_under_way(task: &Task) -> bool {
    matches!(task.stage, Stage::Out | Stage::Back | Stage::Ask | Stage::AskDone)
}
