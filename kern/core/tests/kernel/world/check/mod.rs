//! Invariants that hold between kernel entries, whatever happened.

mod caps;
mod ipc;
pub mod memory;
mod time;

use std::collections::BTreeMap;

use abi::ObjType;
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::Header;
use kern_base::process::Process;
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Slot};
use kern_base::task::{Message, Stage, State, Task, TaskHot};
use kern_core::make::header_of;
use kern_core::schedule::state_of;
use smp::door::{KernelObject, RawWord, Ref};
use smp::host_test;

use super::World;

/// Fails with a text about an object of the kernel.
macro_rules! hold {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            panic!("invariant: {}", format!($($text)+));
        }
    };
}
pub(crate) use hold;

/// All of them.
pub fn all(world: &World) {
    let seen = Seen::collect(world);
    caps::check(world, &seen);
    ipc::check(world, &seen);
    time::check(world, &seen);
    memory::check(world, &seen);
}

/// Everything that can be found from process 1's capabilities, from CNodes that are being emptied, and from
/// the tables of processes.
pub struct Seen {
    /// Full slots by address: CNodes', exposures' and pools'.
    pub slots: BTreeMap<u64, Ref<'static, Slot>>,
    pub empty: Vec<Ref<'static, Slot>>,
    pub tasks: Vec<Ref<'static, Task>>,
    pub words: BTreeMap<u64, RawWord<'static>>,
}

impl Seen {
    pub fn collect(world: &World) -> Seen {
        let pin = host_test::pin(0);
        let mut seen =
            Seen { slots: BTreeMap::new(), empty: Vec::new(), tasks: Vec::new(), words: BTreeMap::new() };
        let mut cnodes: Vec<Ref<'static, CNode>> =
            world.init_process().get().cnode.get(pin).into_iter().collect();
        let graves = world.k.graves.lock(pin, &"the graves");
        for first in [&graves.open, &graves.refused] {
            cnodes.extend(core::iter::successors(first.get(pin), |c| c.get().next_grave.get(pin)));
        }
        drop(graves);
        let mut at = 0;
        loop {
            while at < cnodes.len() {
                for slot in cnodes[at].get().slots.iter(pin) {
                    seen.slot(slot, &mut cnodes);
                }
                at += 1;
            }
            // A CNode that nobody can reach (its only capability is in itself, say) is part of the trees.
            let neighbours = |slot: &Ref<'static, Slot>| [slot.get().next.get(pin), slot.get().prev.get(pin)];
            let unknown = |slot: &Ref<'static, Slot>| !seen.slots.contains_key(&slot.addr());
            let found: Vec<_> = seen.slots.values().flat_map(neighbours).flatten().filter(unknown).collect();
            if found.is_empty() {
                break;
            }
            for slot in found {
                hold!(slot.get().word.load(pin).object_type() != 0, "an empty slot is part of a tree");
                seen.slot(slot, &mut cnodes);
            }
        }
        seen.tasks = seen.collect_tasks(world);
        seen
    }

    fn slot(&mut self, slot: Ref<'static, Slot>, cnodes: &mut Vec<Ref<'static, CNode>>) {
        let pin = host_test::pin(0);
        let word = slot.get().word.load(pin);
        if word.object_type() == 0 {
            self.empty.push(slot);
            return;
        }
        self.slots.insert(slot.addr(), slot);
        self.words.insert(word.addr(), word);
        if let Some(cnode) = word.get::<CNode>()
            && !cnodes.contains(&cnode)
        {
            cnodes.push(cnode);
        }
        if let Some(pool) = word.get::<EventPool>() {
            let reader = pool.map(|pool| &pool.reader);
            if !self.slots.contains_key(&reader.addr()) {
                self.slot(reader, cnodes);
            }
        }
        if let Some(group) = word.get::<Group>() {
            for entry in group.get().exposures.iter(pin) {
                let slot = entry.map(|e| &e.slot);
                if !self.slots.contains_key(&slot.addr()) {
                    self.slot(slot, cnodes);
                }
            }
        }
    }

    fn collect_tasks(&self, world: &World) -> Vec<Ref<'static, Task>> {
        let pin = host_test::pin(0);
        let of_processes = self
            .objects::<Process>()
            .into_iter()
            .flat_map(|p| p.get().tasks.iter(pin).filter_map(|n| n.get().task.get(pin)).collect::<Vec<_>>());
        let on_cpus = (0..world.cpus()).filter_map(|n| world.look(n).hot.current.get(host_test::pin(n)));
        let mut tasks = self.objects::<Task>();
        for task in of_processes.chain(on_cpus) {
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        tasks
    }

    /// The objects of a type that slots refer to.
    pub fn objects<T: KernelObject>(&self) -> Vec<Ref<'static, T>> {
        self.words.values().filter_map(|word| word.get::<T>()).collect()
    }

    pub fn contexts(&self) -> Vec<Ref<'static, SchedContext>> {
        self.objects::<SchedContext>()
    }
}

/// The header of what a slot refers to, and its type.
pub fn header(slot: Ref<'static, Slot>) -> Option<(&'static Header, Option<ObjType>)> {
    let word = slot.get().word.load(host_test::pin(0));
    Some((header_of(word)?, ObjType::from_raw(word.object_type())))
}

/// A task as the checks see it.
#[derive(Clone, Copy)]
pub struct View {
    pub task: Ref<'static, Task>,
    pub home: usize,
    pub hot: &'static TaskHot,
    pub state: State,
    /// Its message block, and on which CPU that is.
    pub msg: &'static Message,
    pub msg_home: usize,
}

pub fn view(task: Ref<'static, Task>) -> View {
    let home = task.get().hot.home().index();
    let msg_home = task.get().msg.home().index();
    let hot = task.get().hot.here(host_test::pin(home));
    let msg = task.get().msg.here(host_test::pin(msg_home));
    View { task, home, hot, state: state_of(hot), msg, msg_home }
}

impl View {
    pub fn name(&self) -> String {
        let id = self.task.get().id();
        format!(
            "task {}.{} ({:?}, {:?}, cpu{})",
            id.process().number(),
            id.task(),
            self.state,
            self.msg.stage.get(),
            self.home
        )
    }

    pub fn is_suspended(&self) -> bool {
        kern_core::schedule::has_flag(self.hot, kern_base::task::FLAG_SUSPENDED)
    }

    /// It waits for the answer to its fault.
    pub fn is_in_fault(&self) -> bool {
        kern_core::schedule::has_flag(self.hot, kern_base::task::FLAG_IN_FAULT)
    }

    pub fn is_dying(&self) -> bool {
        kern_core::remote::is_dying(self.hot)
    }

    pub fn awaits(&self) -> bool {
        matches!(self.state, State::Sending | State::Await | State::AwaitTimed | State::AwaitRemote)
    }

    pub fn receives(&self) -> bool {
        matches!(self.state, State::Recv | State::RecvTimed)
    }

    /// Its call is at its callee, by whose CPU's account it is.
    pub fn is_at_callee(&self) -> bool {
        match self.state {
            State::Sending | State::Await | State::AwaitTimed => !self.is_dying(),
            State::AwaitRemote => matches!(self.msg.stage.get(), Stage::Queued | Stage::Owed),
            _ => false,
        }
    }

    /// The callee, of a call that is there.
    pub fn callee(&self) -> Option<View> {
        let callee = self.msg.callee.get(host_test::pin(self.msg_home)).filter(|_| self.is_at_callee())?;
        Some(view(callee))
    }

    /// The caller whose time it has or has lent on.
    pub fn lender(&self) -> Option<View> {
        if self.receives() || self.state == State::Dead {
            return None;
        }
        self.hot.lender.get(host_test::pin(self.home)).map(view)
    }

    /// Whether its call has lent its time.
    pub fn has_lent(&self) -> bool {
        self.callee().is_some_and(|callee| callee.lender().is_some_and(|lender| lender.task == self.task))
    }

    pub fn is_runnable(&self) -> bool {
        self.state == State::Ready && !self.is_suspended()
    }
}
