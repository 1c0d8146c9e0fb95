//! All references of the kernel that can be judged alone, in one table.
//!
//! A row describes a field: which object it names, when it is valid, and what that object's own
//! record must contain in return. Fields with further requirements have rules of their own: links
//! of queues and lists, derivation trees, page tables, and the fields of SchedContexts and calls. A
//! reference must always name a live object of its type: never one whose last capability is gone,
//! never free memory.

use snapshot::{
    CNode, Context, Cpu, Device, Line, Member, Notification, Pool, Process, Reply, RequestKind, Root, Route,
    Stage, State, Task, TaskNumber, Untyped, VSpace,
};

use crate::Snapshot;
use crate::facts::{Facts, is_at_callee, name_of};
use crate::report::Findings;
use crate::rules::is_shell;

/// A row of the table.
pub struct Reference {
    /// The record and its field.
    pub name: &'static str,
    /// What the reference is.
    pub doc: &'static str,
    /// Judges the field of all records.
    pub(crate) check: fn(&Facts<'_>, &mut Findings),
    /// The number of the first record in which the field says something.
    pub(crate) first: fn(&Facts<'_>) -> Option<usize>,
    /// Makes the field of a record name something else.
    pub(crate) set: fn(&mut Snapshot, usize, u64),
}

/// A record that has references.
trait Refers {
    /// Describes the record, for messages to people.
    fn name(&self) -> String;

    /// Returns whether no kernel entry can be changing the record.
    fn is_steady(&self, _f: &Facts<'_>) -> bool {
        true
    }
}

macro_rules! refers {
    ($($type:ident: |$record:ident, $f:ident| $name:expr, $steady:expr;)*) => {
        $(
            impl Refers for $type {
                fn name(&self) -> String {
                    let $record = self;
                    $name
                }

                fn is_steady(&self, $f: &Facts<'_>) -> bool {
                    let $record = self;
                    let _ = $record;
                    $steady
                }
            }
        )*
    };
}

refers! {
    Task: |r, f| name_of(r), f.is_steady(r);
    Context: |r, f| format!("SchedContext {:#x}", r.at), !f.is_busy(r.home);
    Notification: |r, f| format!("Notification {:#x}", r.at), !f.is_busy(r.home);
    Reply: |r, f| format!("Reply {:#x}", r.at), !f.is_busy(r.home);
    Cpu: |r, _f| format!("cpu{}", r.id), !r.busy;
    CNode: |r, f| format!("CNode {:#x}", r.at), !f.kernel.spaces_locked;
    Process: |r, f| format!("process {:#x}", r.at), !f.kernel.spaces_locked;
    VSpace: |r, f| format!("VSpace {:#x}", r.at), !f.kernel.spaces_locked;
    Pool: |r, f| format!("event pool {:#x}", r.at), !r.locked && !f.any_busy();
    Root: |r, f| format!("root {}", r.id), !f.any_busy();
    Member: |r, f| format!("member {} of {:#x}", r.number, r.group), !f.any_busy();
    TaskNumber: |r, f| format!("task number {} of {:#x}", r.number, r.process), !f.any_busy();
    Untyped: |r, f| format!("Untyped {:#x}", r.at), !f.is_root_locked(r.root);
    Device: |r, _f| format!("device frame {:#x}", r.frame), true;
    Line: |r, f| format!("line {}", r.number), !f.any_busy();
    Route: |r, f| format!("place {} of cpu{}", r.place, r.cpu), !f.any_busy();
}

impl Reference {
    /// Makes the field of a record name something else. For tests.
    pub fn plant(&self, snapshot: &mut Snapshot, record: usize, to: u64) {
        (self.set)(snapshot, record, to);
    }
}

macro_rules! references {
    ($(
        $(#[doc = $doc:literal])*
        $list:ident.$field:ident: $type:ident -> $find:ident,
        when |$f:ident, $r:ident| $when:expr,
        agrees |$to:ident| $agrees:expr;
    )*) => {
        /// The table.
        pub const REFERENCES: &[Reference] = &[$(
            Reference {
                name: concat!(stringify!($list), ".", stringify!($field)),
                doc: concat!($($doc,)*),
                check: {
                    fn check(f: &Facts<'_>, out: &mut Findings) {
                        for record in f.s.$list.iter().filter(|record| record.$field != 0) {
                            if says(f, record) {
                                judge(f, record, out);
                            }
                        }
                    }

                    #[inline]
                    fn says($f: &Facts<'_>, $r: &$type) -> bool {
                        $r.is_steady($f) && $when
                    }

                    #[inline]
                    fn judge($f: &Facts<'_>, $r: &$type, out: &mut Findings) {
                        let name = concat!(stringify!($list), ".", stringify!($field));
                        let Some($to) = $f.$find($r.$field) else {
                            return out.add(format_args!(
                                "{name}: {} names {}, which is no live {}",
                                $r.name(),
                                $f.name($r.$field),
                                stringify!($find),
                            ));
                        };
                        hold!(out, !$to.dead, "{name}: {} names {}, which is dead", $r.name(), $f.name($r.$field));
                        hold!(out, $agrees, "{name}: {} names {}, which does not agree", $r.name(), $f.name($r.$field));
                    }

                    check
                },
                first: {
                    fn first($f: &Facts<'_>) -> Option<usize> {
                        $f.s.$list.iter().position(|$r| $r.$field != 0 && $r.is_steady($f) && $when)
                    }

                    first
                },
                set: |s, number, to| s.$list[number].$field = to,
            },
        )*];
    };
}

references! {
    /// The process whose CSpace a CNode is part of finds the CNode there.
    cnodes.process: CNode -> process, when |f, r| true, agrees |to| is_in_cspace(f, to.cnode, r.at);
    /// The next table of a CSpace is of the same process.
    cnodes.more: CNode -> cnode, when |f, r| true, agrees |to| to.process == r.process && to.process != 0;
    /// The next CNode in a ring of those without capabilities has none, too.
    cnodes.next_zombie: CNode -> cnode, when |f, r| !f.any_busy(), agrees |to| to.refs == 0;
    /// The next CNode in the list of those that a task empties has no capability, and is not the
    /// first.
    cnodes.next_listed: CNode -> cnode, when |f, r| !f.any_busy(), agrees |to| to.refs == 0 && to.worker == 0;
    /// The task whose list of CNodes begins with one knows it.
    cnodes.worker: CNode -> task, when |f, r| !f.any_busy(), agrees |to| to.zombies == r.at;
    /// The first CNode that a task has to empty knows the task, and has no capability.
    tasks.zombies: Task -> cnode, when |f, r| !f.any_busy(), agrees |to| to.worker == r.at && to.refs == 0;
    /// The first CNode that belongs to an Untyped because it has no capability has none.
    untypeds.zombies: Untyped -> cnode, when |f, r| !f.any_busy(), agrees |to| to.refs == 0;
    /// The first table of a process's CSpace is that process's.
    processes.cnode: Process -> cnode, when |f, r| true, agrees |to| to.process == r.at;
    /// A process's address space is that process's.
    processes.vspace: Process -> vspace, when |f, r| true, agrees |to| to.process == r.at;
    /// A process's event pool is that process's.
    processes.pool: Process -> pool, when |f, r| !f.any_busy(), agrees |to| to.process == r.at;
    /// An event pool in a process's address space is placed there.
    processes.placed_pool: Process -> pool, when |f, r| !f.any_busy(), agrees |to| to.placed == r.at;
    /// The process that lives in an address space knows it.
    vspaces.process: VSpace -> process, when |f, r| true, agrees |to| to.vspace == r.at;
    /// The process of an event pool knows it.
    pools.process: Pool -> process, when |f, r| true, agrees |to| to.pool == r.at;
    /// The process in whose address space an event pool is knows the pool.
    pools.placed: Pool -> process, when |f, r| true, agrees |to| to.placed_pool == r.at;
    /// The first process of a root has no process before it.
    roots.processes: Root -> process, when |f, r| true, agrees |to| to.prev == 0;
    /// The next process of a root knows the one before it, and is of that root.
    processes.next: Process -> process, when |f, r| !f.any_busy(),
        agrees |to| to.prev == r.at && to.root == r.root;
    /// The process that the place of a member record names has the record's key.
    members.place_process: Member -> process, when |f, r| true, agrees |to| to.key == r.process_key;
    /// The task that has a task number knows that number, and is of that process.
    task_numbers.task: TaskNumber -> task, when |f, r| true,
        agrees |to| to.number == r.number && to.owner == r.process;
    /// The process whose task number a task has is the task's own.
    tasks.bound_to: Task -> process, when |f, r| true,
        agrees |to| to.at == r.owner && to.identity == r.of_process;
    /// A task's process has that task under its number.
    tasks.process: Task -> process, when |f, r| true, agrees |to| has_number(f, to.at, r);
    /// The copy of the link to a task's process that other CPUs read is equal to that link.
    tasks.owner: Task -> process, when |f, r| true, agrees |to| r.process == to.at;
    /// The copy of the link to a task's address space that other CPUs read names its process's,
    /// unless the process has none any more.
    tasks.space: Task -> vspace, when |f, r| true, agrees |to| to.process == r.owner || to.process == 0;
    /// A SchedContext that a task has borrowed is with that task, and not its own. The lender
    /// does not refer to it.
    tasks.borrowed: Task -> context, when |f, r| true,
        agrees |to| to.task == r.at && to.home == r.home && to.owner != r.at;
    /// A task's own SchedContext is bound to it.
    tasks.own_context: Task -> context, when |f, r| true, agrees |to| f.is_busy(to.home) || to.owner == r.at;
    /// The caller that a task serves has called that task.
    tasks.caller: Task -> task, when |f, r| true, agrees |to| is_caller(f, to, r);
    /// The caller whose CPU time a task has, has called that task.
    tasks.lender: Task -> task, when |f, r| !r.ending, agrees |to| is_caller(f, to, r);
    /// The Notification that is bound to a task knows it, and is on its CPU.
    tasks.bound: Task -> notification, when |f, r| true, agrees |to| to.bound == r.at && to.home == r.home;
    /// The Notification for which a task waits knows it, is on its CPU, and has no bits.
    tasks.waits_for: Task -> notification, when |f, r| true,
        agrees |to| r.state == State::WaitBits && to.waiter == r.at && to.home == r.home && to.bits == 0;
    /// The first Reply that keeps a call for a task knows it.
    tasks.replies: Task -> reply, when |f, r| true, agrees |to| to.server == r.at && to.prev == 0;
    /// The callee of a call that is there serves it, has it in its queue, or has a Reply keep it:
    /// one of these.
    tasks.callee: Task -> task, when |f, r| is_at_callee(r) && !r.ending && !f.follows(r),
        agrees |to| !f.is_steady(to) || is_known_once(f, r, to);
    /// The Reply that keeps a call knows the caller.
    tasks.held: Task -> reply, when |f, r| is_at_callee(r) && !r.ending,
        agrees |to| f.is_busy(to.home) || to.caller == r.at;
    /// The SchedContext in a message block is with its task, on the CPU that has the block.
    tasks.message_context: Task -> context, when |f, r| true,
        agrees |to| to.home == r.message_home && to.task == r.at;
    /// What a request is about is held by the task that reclaims it, until the answer. Where two
    /// reclaim it at the same time, one may have ended it while the request of the other is under
    /// way. Its memory is not reused meanwhile: the grace period before that flushes all mailboxes.
    /// A request that waits only for its answer names nothing any more. A wait for a lock that is
    /// under way names the owner, and arrives before the owner's memory is reused.
    tasks.request_about: Task -> of_request,
        when |f, r| is_lock_under_way(r) || is_held(r) && !f.is_unanswered(r),
        agrees |to| to.kind.is_none_or(|kind| is_asked(r.request, kind));
    /// A wait for a lock that is under way names the Frame with the lock's word, and arrives before
    /// the Frame's memory is reused.
    tasks.request_frame: Task -> of_request, when |f, r| is_lock_under_way(r),
        agrees |to| to.kind.is_none_or(|kind| kind == abi::ObjType::Frame as u8);
    /// The task that has a SchedContext is alive. Rules about CPU time say who it is.
    contexts.task: Context -> task, when |f, r| true, agrees |to| true;
    /// The task to which a SchedContext is bound knows it, unless that task is just ending.
    contexts.owner: Context -> task, when |f, r| true,
        agrees |to| !f.is_steady(to) || to.own_context == r.at || to.ending && to.state != State::Dead;
    /// The task that waits for a Notification says so, and is on its CPU.
    notifications.waiter: Notification -> task, when |f, r| true,
        agrees |to| to.state == State::WaitBits && to.waits_for == r.at && to.home == r.home;
    /// The task to which a Notification is bound knows it, and is on its CPU.
    notifications.bound: Notification -> task, when |f, r| true, agrees |to| to.bound == r.at && to.home == r.home;
    /// The caller whose call a Reply keeps knows that, unless it is being killed.
    replies.caller: Reply -> task, when |f, r| true,
        agrees |to| r.server != 0 && (!f.is_steady(to) || to.ending || to.held == r.at && is_at_callee(to));
    /// The task for which a Reply keeps a call has the Reply in its list.
    replies.server: Reply -> task, when |f, r| true,
        agrees |to| r.caller != 0 && to.home == r.home && (r.prev != 0 || to.replies == r.at);
    /// The next Reply in a task's list knows the one before.
    replies.next: Reply -> reply, when |f, r| true, agrees |to| to.prev == r.at && to.server == r.server;
    /// The previous Reply in a task's list knows the one behind.
    replies.prev: Reply -> reply, when |f, r| true, agrees |to| to.next == r.at && to.server == r.server;
    /// The task that runs on a CPU has its home there.
    cpus.current: Cpu -> task, when |f, r| true, agrees |to| to.home == r.id;
    /// The SchedContext that is spent on a CPU is on that CPU, and with the task that runs.
    cpus.context: Cpu -> context, when |f, r| true, agrees |to| to.home == r.id && to.task == r.current;
    /// The address space that a CPU shows counts the CPU among those that can remember its
    /// translations.
    cpus.vspace: Cpu -> vspace, when |f, r| true, agrees |to| r.id >= 64 || to.homes & 1 << r.id != 0;
    /// The pool that a CPU reports to has a process.
    cpus.watch: Cpu -> pool, when |f, r| true, agrees |to| to.process != 0;
    /// The IrqHandler that has a line knows it.
    lines.irq: Line -> irq, when |f, r| true, agrees |to| to.line == r.number;
    /// The IrqHandler that has a place in a CPU's table knows it.
    routes.irq: Route -> irq, when |f, r| true, agrees |to| to.cpu == r.cpu && to.place == r.place;
    /// What the kernel's list of frames of device memory has is one.
    devices.frame: Device -> frame, when |f, r| true, agrees |to| to.device;
}

/// The object of a request, as far as a row of the table reads it.
#[derive(Clone, Copy)]
pub(crate) struct OfRequest {
    /// Its type; `None` of one that has ended.
    kind: Option<u8>,
    /// A task may be dead when the request to kill it arrives; so may the others.
    dead: bool,
}

impl Facts<'_> {
    fn of_request(&self, at: u64) -> Option<OfRequest> {
        let there = self.index.at(at).map(|(kind, _)| kind);
        (there.is_some() || is_shell(self, at)).then_some(OfRequest { kind: there, dead: false })
    }
}

/// Returns whether the task's request holds its object: the object stays while the task asks.
fn is_held(task: &Task) -> bool {
    let held = matches!(
        task.request,
        RequestKind::Kill | RequestKind::StopTime | RequestKind::StopBits | RequestKind::StopReply
    );
    held && !task.ending && matches!(task.stage, Stage::Ask | Stage::Kept)
}

/// Returns whether a task's message block is on its way to the owner of a lock, or to a task to
/// which locks lead. What an earlier wait has left in the block says nothing.
fn is_lock_under_way(task: &Task) -> bool {
    task.is_lock_wait && task.request == RequestKind::Lock && task.stage == Stage::Out
}

/// Returns whether a request can be about an object of type `kind`.
fn is_asked(request: RequestKind, kind: u8) -> bool {
    let wanted = match request {
        RequestKind::None | RequestKind::Shootdown | RequestKind::TellCpu => return false,
        RequestKind::Kill
        | RequestKind::Lock
        | RequestKind::Seek
        | RequestKind::Bring
        | RequestKind::Move
        | RequestKind::YieldTo => abi::ObjType::Task,
        RequestKind::StopTime
        | RequestKind::Disown
        | RequestKind::Fetch
        | RequestKind::Configure
        | RequestKind::Account
        | RequestKind::Bind
        | RequestKind::Watch => abi::ObjType::SchedContext,
        RequestKind::StopBits => abi::ObjType::Notification,
        RequestKind::StopReply => abi::ObjType::Reply,
    };
    kind == wanted as u8
}

/// Whether a CNode is one of the tables that follow each other from `first` on.
fn is_in_cspace(f: &Facts<'_>, first: u64, cnode: u64) -> bool {
    let tables = std::iter::successors(f.cnode(first), |table| f.cnode(table.more));
    tables.take(f.kernel.tables_max as usize).any(|table| table.at == cnode)
}

fn has_number(f: &Facts<'_>, process: u64, task: &Task) -> bool {
    let its = |number: &&TaskNumber| number.process == process && number.number == task.number;
    f.s.task_numbers.iter().find(its).is_some_and(|number| number.task == task.at)
}

/// Returns whether `caller` waits in a call to `callee`. If the caller's CPU may be changing its
/// record, returns true.
fn is_caller(f: &Facts<'_>, caller: &Task, callee: &Task) -> bool {
    if !f.is_steady(caller) {
        return true;
    }
    let ended = caller.ending && caller.message_home == caller.home && caller.home != callee.home;
    caller.callee == callee.at && !ended && (is_at_callee(caller) || caller.ending)
}

/// Returns whether the callee of a task's call has it in exactly the place that the caller's state
/// names.
fn is_known_once(f: &Facts<'_>, task: &Task, callee: &Task) -> bool {
    let Some(linked) = f.linked.map(|linked| linked.of(f, task)) else { return true };
    let served = linked.servers == 1 && linked.server == callee.at;
    let queues = [linked.callee, linked.reader, linked.lock_owner];
    let queued = linked.queues == 1 && queues.contains(&callee.at);
    let kept = linked.replies == 1 && linked.reply == task.held && task.held != 0;
    let is_queued = if task.state == State::AwaitRemote {
        task.stage == Stage::Queued
    } else {
        task.state == State::Sending
    };
    let places = linked.servers + linked.queues + linked.replies;
    places == 1 && callee.home == task.message_home && if is_queued { queued } else { served || kept }
}

/// Checks that every reference names a live object of its type, whose own record agrees.
pub(crate) fn check(f: &Facts<'_>, out: &mut Findings) {
    for reference in REFERENCES {
        (reference.check)(f, out);
    }
}
