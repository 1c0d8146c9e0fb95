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
//! `kern/core` does not depend on this crate, and ordinary kernels do not contain it.
#![no_std]
#![forbid(unsafe_code)]

mod cpus;
pub mod found;
pub mod machine_dump;
mod memory;
mod objects;
mod record;
mod tasks;

use kern_base::audit::Audit;
use kern_base::block::BlockQueue;
use kern_base::header::RootId;
use kern_base::limits::{CALL_STEPS, MAPPED_MAX};
use kern_base::machine::Machine;
use kern_base::objects::RawWord;
use kern_base::roots::MAX_ROOTS;
use kern_base::slot::{DEPTH_MAX, TABLES_MAX};
use kern_core::Cx;
use smp::cpu::CpuId;
use smp::door::{Homed, Ref};
use smp::lock::LeftLock;
use snapshot::{Extent, ExtentKind, Sink};
use test_abi::Dump;

use crate::found::{Found, OBJECTS_MAX, Object};
use crate::record::record;

/// A machine that stands still, so that every CPU's own state is readable.
pub trait Still<'k, M: Machine> {
    /// Returns a context for a CPU's own state.
    fn cx(&self, cpu: CpuId) -> Cx<'k, M>;

    /// Whether a kernel entry is under way on a CPU.
    fn is_busy(&self, cpu: CpuId) -> bool;

    /// Returns the contents of CPU-owned state, whichever CPU owns it, also while it is under way.
    fn inside<T>(&self, state: Ref<'k, Homed<T>>) -> &'k T;

    /// Returns state that a lock guards, whichever CPU holds the lock.
    fn guarded<T>(&self, state: &'k LeftLock<T>) -> &'k T;
}

/// Passes records of the kernel's whole state to `sink`. `found` is memory for the walk over the
/// objects.
pub fn survey<'k, M: Machine, S: Sink>(
    still: &impl Still<'k, M>,
    scope: Dump,
    found: &mut Found,
    sink: &mut S,
) {
    let cx = still.cx(CpuId::BOOT);
    let pin = cx.pin();
    found.clear();
    found.add(cx.k.first.get(pin).map(|first| Object::Process(first.ptr())));
    for root in (0..MAX_ROOTS as u16).map(RootId) {
        let processes = cx.k.roots.processes(pin, root).take(PROCESSES_MAX);
        found.add(processes.map(|process| Object::Process(process.ptr())));
    }
    found.discover(pin);
    let mut survey = Survey { cx, still, scope, sink };
    survey.kernel();
    for cpu in (0..cx.k.cpu_count()).filter_map(CpuId::new) {
        survey.cpu(cpu);
    }
    let all = scope == Dump::All;
    for object in found.objects().filter(|object| all || !object.is_memory()) {
        survey.object(object);
    }
    if all {
        survey.infos();
    }
}

/// Longest list of a root's processes that the survey follows: a longer one is broken.
const PROCESSES_MAX: usize = OBJECTS_MAX;

/// A survey under way.
struct Survey<'a, 'k, M: Machine, V, S> {
    /// Context for state that any CPU may read.
    cx: Cx<'k, M>,
    still: &'a V,
    scope: Dump,
    sink: &'a mut S,
}

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    /// Returns the CPU that state belongs to. State that is under way belongs to its destination
    /// CPU, unless the old home is just giving it up.
    fn home<T>(&self, state: &Homed<T>) -> u32 {
        let (from, to) = (state.home(), state.destination());
        let home = if self.still.is_busy(from) { from } else { to };
        home.index() as u32
    }

    /// Returns an object's physical address, as records have it: 0 for none.
    fn at(&self, addr: u64) -> u64 {
        record::address(&self.cx.k.machine, addr)
    }

    /// Returns the physical address of the object that a capability's word names, as records have
    /// it.
    fn object_of(&self, word: RawWord<'_>) -> u64 {
        if word.object_type() == 0 { 0 } else { self.at(word.addr()) }
    }

    /// Returns the first and the last task of a list.
    fn ends(&self, queue: &BlockQueue) -> [u64; 2] {
        queue.tasks().ends().map(|at| self.at(at))
    }

    fn extent(&mut self, at: u64, bytes: u64, object: u64, kind: ExtentKind) {
        if bytes != 0 && self.scope == Dump::All {
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

    fn kernel(&mut self) {
        let (k, pin) = (self.cx.k, self.cx.pin());
        self.sink.kernel(&record!(self, Kernel {
            cpus = k.cpu_count(),
            mappings_max = MAPPED_MAX,
            call_steps = CALL_STEPS,
            depth_max = DEPTH_MAX,
            tables_max = TABLES_MAX,
            steps_max = 0u64,
            epoch = k.cpus.epoch.now(),
            zombies_locked = k.zombies.is_locked(),
            spaces_locked = k.binding_lock.is_locked(),
            now = k.machine.now(),
            without_memory = self.scope == Dump::WithoutMemory,
        }));
        for (id, root) in (0u32..).zip(k.roots.iter()) {
            let processes = k.roots.processes(pin, RootId(id as u16)).next();
            if root.is_locked() || processes.is_some() {
                self.sink.root(&record!(self, Root { [] id, processes; locked = root.is_locked(), }));
            }
        }
        k.rules.each_forbidden(|subject, object, forbidden| {
            self.sink.label_rule(&record!(self, LabelRule { [] subject, object, forbidden; }));
        });
        for (number, irq) in k.lines.taken(pin) {
            let irq = self.at(irq.addr());
            self.sink.line(&record!(self, Line { [] irq; number = number + 1, }));
        }
        for cpu in (0..k.cpu_count()).filter_map(CpuId::new) {
            for (place, irq) in k.block(pin, cpu).lines.taken(pin) {
                let irq = self.at(irq.addr());
                self.sink.route(&record!(self, Route { [] place, irq; cpu = cpu.raw() + 1, }));
            }
        }
        if let Some(rings) = k.audit.get(pin) {
            let log2 = rings.places().ilog2() as u8;
            let bytes = Audit::bytes(k.cpu_count(), log2);
            self.extent(self.at(rings.addr()), bytes, 0, ExtentKind::SecurityAudit);
        }
    }

    fn object(&mut self, object: Object) {
        let (at, pin) = (self.at(object.addr()), self.cx.pin());
        self.extent(at, object.bytes(), at, ExtentKind::Object);
        match object {
            Object::Untyped(object) => self.untyped(at, object.get(pin)),
            Object::CNode(object) => self.cnode(at, object.get(pin)),
            Object::VSpace(object) => self.vspace(at, object.get(pin)),
            Object::Frame(object) => self.frame(at, object.get(pin)),
            Object::Process(object) => self.process(at, object.get(pin)),
            Object::Task(object) => self.task(at, object.get(pin)),
            Object::SchedContext(object) => self.context(object.get(pin)),
            Object::Group(object) => self.group(at, object.get(pin)),
            Object::Notification(object) => self.notification(object.get(pin)),
            Object::Reply(object) => self.reply(object.get(pin)),
            Object::SchedControl(object) => self.control(object.get(pin)),
            Object::IrqHandler(object) => self.irq(at, object.get(pin)),
            Object::IoPort(object) => self.ports(object.get(pin)),
            Object::Machine(object) => {
                let object = object.get(pin);
                self.sink.machine(&record!(self, Machine of object {}));
            }
            Object::EventPool(object) => self.pool(at, object.get(pin)),
        }
    }
}
