//! The export of the kernel's state, in test builds: all of it as [plain records](snapshot). The
//! crate `invariants` judges them, and the harness compares kernels by them.
//!
//! A [survey](survey()) reads the state while it does not change: one thread plays all CPUs, or all
//! CPUs but one are stopped ([`Still`]). So a survey takes no lock; it records which locks are
//! held, and on which CPUs kernel entries are under way. It follows only the links by which
//! capabilities and processes are [found]: a link that leads nowhere is recorded, not followed.
//!
//! [`machine_dump`] is the system call that stops all CPUs and writes the records.
//!
//! The kernel proper knows nothing of this crate: a kernel for users has none of it.
#![no_std]
#![forbid(unsafe_code)]

mod cpus;
pub mod found;
pub mod machine_dump;
mod memory;
mod objects;
mod tasks;

use kern_base::limits::{CALL_STEPS, MAPPED_MAX, TASK_GENERATIONS};
use kern_base::machine::Machine;
use kern_base::slot::{CNode, TABLES_MAX};
use kern_core::caps::slots::DEPTH_MAX;
use kern_core::{Cx, Zombies};
use smp::cpu::{CpuId, Pin};
use smp::door::{Homed, Ref};
use smp::lock::Guarded;
use snapshot::{Extent, ExtentKind, Kernel, LabelRule, Number, Range, Root, Sink};

use crate::found::{Found, Object};

/// A machine that stands still, so that every CPU's own state is readable.
pub trait Still<'k, M: Machine> {
    /// Returns a context for a CPU's own state.
    fn cx(&self, cpu: CpuId) -> Cx<'k, M>;

    /// Whether a kernel entry is under way on a CPU.
    fn is_busy(&self, cpu: CpuId) -> bool;

    /// Returns the contents of CPU-owned state, whichever CPU owns it, also while it is under way.
    fn inside<T>(&self, state: Ref<'k, Homed<T>>) -> &'k T;

    /// Returns state that a lock guards, whichever CPU holds the lock.
    fn guarded<T>(&self, state: &'k Guarded<T>) -> &'k T;
}

/// What is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    /// No Untypeds, CNodes, VSpaces and frames, and nothing of memory.
    WithoutMemory,
}

/// Records the state. `found` is memory for the survey.
pub fn survey<'k, M: Machine, S: Sink>(
    still: &impl Still<'k, M>,
    scope: Scope,
    found: &mut Found,
    sink: &mut S,
) {
    let cx = still.cx(CpuId::BOOT);
    found.clear();
    for (_, process) in cx.k.processes.living(cx.pin()) {
        found.add(Object::Process(process.ptr()));
    }
    let zombies = cx.k.zombies.try_lock(cx.cpu).map(|lists| heads(cx, &lists));
    for cnode in zombies.into_iter().flatten().flat_map(|first| zombies_from(cx, first)) {
        found.add(Object::CNode(cnode.ptr()));
    }
    found.discover(cx);
    let mut survey = Survey { cx, still, scope, sink };
    survey.kernel(zombies);
    for cpu in (0..cx.k.cpu_count()).filter_map(CpuId::new) {
        survey.cpu(cpu);
    }
    let all = scope == Scope::All;
    for object in (0..found.len()).filter_map(|at| found.get(at)).filter(|object| all || !object.is_memory())
    {
        survey.object(object);
    }
    if all {
        survey.ranges();
        survey.infos();
    }
}

/// Returns the first CNode of each list of those that are being emptied.
fn heads<'k, M: Machine>(cx: Cx<'k, M>, lists: &Zombies) -> [Option<Ref<'k, CNode>>; 2] {
    [&lists.open, &lists.refused].map(|list| list.get(cx.pin()))
}

/// Longest such list that the survey follows: a longer one is broken.
const ZOMBIES_MAX: usize = 1 << 14;

fn zombies_from<'k, M: Machine>(
    cx: Cx<'k, M>,
    first: Option<Ref<'k, CNode>>,
) -> impl Iterator<Item = Ref<'k, CNode>> {
    core::iter::successors(first, move |cnode| cnode.get().next_zombie.get(cx.pin())).take(ZOMBIES_MAX)
}

/// A survey under way.
struct Survey<'a, 'k, M: Machine, V, S> {
    /// Context for state that any CPU may read.
    cx: Cx<'k, M>,
    still: &'a V,
    scope: Scope,
    sink: &'a mut S,
}

/// The fields that all records of objects have.
macro_rules! object {
    ($survey:ident, $object:expr, $record:ident { $($fields:tt)* }) => {{
        let header: &kern_base::header::Header = &$object.get().header;
        snapshot::$record {
            at: $survey.at($object.addr()),
            refs: header.refs(),
            dying: header.has_flag(kern_base::header::FLAG_DYING),
            dead: header.has_flag(kern_base::header::FLAG_DEAD),
            root: u32::from(header.root().0),
            identity: header.identity(),
            label: header.label(),
            swept: header.swept() as u32,
            $($fields)*
        }
    }};
}
use object;

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    fn pin(&self) -> Pin<'k> {
        self.cx.pin()
    }

    /// Returns the CPU that state belongs to. State that is under way belongs to its destination
    /// CPU, unless the old home is just giving it up.
    fn home<T>(&self, state: &Homed<T>) -> u32 {
        let (from, to) = (state.home(), state.destination());
        let home = if self.still.is_busy(from) { from } else { to };
        home.index() as u32
    }

    /// Returns an object's address in the form of records: 0 for none.
    fn at(&self, addr: u64) -> u64 {
        if addr == 0 { 0 } else { self.cx.k.machine.phys(addr).0 }
    }

    fn extent(&mut self, at: u64, bytes: u64, object: u64, kind: ExtentKind) {
        if bytes != 0 && self.scope == Scope::All {
            self.sink.extent(&Extent { at, bytes, object, kind });
        }
    }

    /// Records the memory of an object's table, by the table's first element and length.
    fn table_of<T: 'static>(&mut self, first: Option<Ref<'k, T>>, len: usize, object: u64) {
        if let Some(first) = first {
            let bytes = (len * size_of::<T>()) as u64;
            self.extent(self.at(first.addr()), bytes, object, ExtentKind::Object);
        }
    }

    fn kernel(&mut self, zombies: Option<[Option<Ref<'k, CNode>>; 2]>) {
        let k = self.cx.k;
        let [open, refused] = zombies.unwrap_or([None; 2]).map(|first| self.at(first.map_or(0, Ref::addr)));
        self.sink.kernel(&Kernel {
            cpus: k.cpu_count() as u32,
            mappings_max: MAPPED_MAX as u32,
            call_steps: CALL_STEPS as u32,
            depth_max: u32::from(DEPTH_MAX),
            tables_max: TABLES_MAX as u32,
            generations_max: u32::from(TASK_GENERATIONS),
            steps_max: 0,
            epoch: k.epoch.now(),
            zombies: open,
            refused_zombies: refused,
            zombies_locked: zombies.is_none(),
            spaces_locked: k.binding_lock.is_locked(),
            now: k.machine.now(),
            without_memory: self.scope == Scope::WithoutMemory,
        });
        for (id, root) in (0..).zip(k.roots.iter()) {
            let leaving = root.try_lock(self.cx.cpu).map(|root| root.leaving.addr());
            if leaving != Some(0) {
                let leaving = self.at(leaving.unwrap_or(0));
                self.sink.root(&Root { id, locked: root.is_locked(), leaving });
            }
        }
        k.rules.each_forbidden(|subject, object, forbidden| {
            let forbidden = u32::from(forbidden);
            self.sink.label_rule(&LabelRule { subject, object, forbidden });
        });
        for (number, process) in k.processes.living(self.pin()) {
            self.sink.number(&Number { number, process: self.at(process.addr()) });
        }
        if let Some(rings) = k.audit.get(self.pin()) {
            let log2 = rings.get().places().ilog2() as u8;
            let bytes = kern_base::audit::Audit::bytes(k.cpu_count(), log2);
            self.extent(self.at(rings.addr()), bytes, 0, ExtentKind::SecurityAudit);
        }
    }

    fn ranges(&mut self) {
        for (at, infos) in self.cx.k.frames.ranges(self.pin()) {
            self.sink.range(&Range { at: at.0, bytes: infos.len() as u64 * abi::PAGE_SIZE });
        }
    }

    fn object(&mut self, object: Object) {
        let pin = self.pin();
        match object {
            Object::Untyped(object) => self.untyped(object.get(pin)),
            Object::CNode(object) => self.cnode(object.get(pin)),
            Object::VSpace(object) => self.vspace(object.get(pin)),
            Object::Frame(object) => self.frame(object.get(pin)),
            Object::Process(object) => self.process(object.get(pin)),
            Object::Task(object) => self.task(object.get(pin)),
            Object::SchedContext(object) => self.context(object.get(pin)),
            Object::Group(object) => self.group(object.get(pin)),
            Object::Notification(object) => self.notification(object.get(pin)),
            Object::Reply(object) => self.reply(object.get(pin)),
            Object::Machine(object) => self.machine(object.get(pin)),
            Object::EventPool(object) => self.pool(object.get(pin)),
        }
    }
}
