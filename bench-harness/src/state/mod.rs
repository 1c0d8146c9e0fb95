//! The kernel's state as text for comparing kernels, made from a [snapshot].
//!
//! The text has everything that a program could ever observe: objects, capabilities, queues, which
//! task has which CPU time. Two kernels that did the same operations must have equal texts,
//! whichever paths through the kernel they took. So the text leaves out fields that have no meaning
//! in an object's present state, fields that differ between two paths, and durations. A comment at
//! each such place gives the reason.
//!
//! Addresses differ between two builds. So an object's name is its type and its place among the
//! objects of its type. Records come in the order in which the kernel's survey finds the objects:
//! it begins at process 1 and the processes of each root, the latest first, and follows derivation
//! trees.
//!
//! Snapshots [without memory](snapshot::Kernel::without_memory) have a text without capabilities,
//! frames, mappings and Untypeds, which are named `?` there.

mod cpus;
mod line;
mod objects;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use invariants::Snapshot;
use snapshot::{Call, Context, Cpu, Frame, Info, Object, Registers, Reply, Slot, Task};

use line::Line;

/// The longest list that is followed: a longer one is broken.
const LIST_MAX: usize = 4096;

/// The unit of time, as a shift: times are rounded to 64 G ticks, which is about a minute. What an
/// operation takes depends on the way it took; a slice handed over, a deadline set, a timer armed
/// does not.
const TIME_SHIFT: u32 = 36;

/// Returns the text of a snapshot: a line for each CPU and each object.
pub fn text(snapshot: &Snapshot) -> Vec<String> {
    let state = State::new(snapshot);
    let mut lines = Vec::new();
    state.cpus(&mut lines);
    state.tasks(&mut lines);
    state.objects(&mut lines);
    state.kernel(&mut lines);
    lines.into_iter().map(Line::into_text).collect()
}

/// A snapshot, with tables that find its records by address.
struct State<'s> {
    s: &'s Snapshot,
    names: HashMap<u64, (&'static str, usize)>,
    tasks: HashMap<u64, &'s Task>,
    registers: HashMap<u64, &'s Registers>,
    calls: HashMap<u64, &'s Call>,
    contexts: HashMap<u64, &'s Context>,
    replies: HashMap<u64, &'s Reply>,
    slots: HashMap<u64, &'s Slot>,
    frames: HashMap<u64, &'s Frame>,
    infos: HashMap<u64, &'s Info>,
    now: u64,
    /// There are records of capabilities and memory.
    memory: bool,
}

fn by<R>(records: &[R], address: impl Fn(&R) -> u64) -> HashMap<u64, &R> {
    records.iter().map(|record| (address(record), record)).collect()
}

impl<'s> State<'s> {
    fn new(s: &'s Snapshot) -> State<'s> {
        let kernel = s.kernels.first().copied().unwrap_or_default();
        State {
            s,
            names: names(s),
            tasks: by(&s.tasks, Object::at),
            registers: by(&s.registers, |record| record.task),
            calls: by(&s.calls, |record| record.task),
            contexts: by(&s.contexts, Object::at),
            replies: by(&s.replies, Object::at),
            slots: by(&s.slots, |slot| slot.at),
            frames: by(&s.frames, Object::at),
            infos: by(&s.infos, |info| info.at),
            now: kernel.now,
            memory: !kernel.without_memory,
        }
    }

    /// Returns the name of the object at an address: `-` for no object, `?` for one without a
    /// record.
    fn name(&self, address: u64) -> String {
        match self.names.get(&address) {
            _ if address == 0 => "-".to_owned(),
            Some((kind, number)) => format!("{kind}{number}"),
            None => "?".to_owned(),
        }
    }

    /// Returns the CPU that a task runs on.
    fn running_on(&self, task: &Task) -> Option<&'s Cpu> {
        self.s.cpus.iter().find(|cpu| cpu.current == task.at)
    }

    /// Returns the tasks of a queue, the next first, each with its priority there.
    fn queue(&self, first: u64) -> impl Iterator<Item = String> {
        let task = |at: u64| self.tasks.get(&at).copied();
        let tasks = std::iter::successors(task(first), move |last| task(last.queue_next));
        tasks.take(LIST_MAX).map(|task| format!("{:x}:{}", task.queue_priority, self.name(task.at)))
    }
}

/// Returns a time or a duration, rounded.
fn rounded(ticks: u64) -> u64 {
    ticks.saturating_add(1 << (TIME_SHIFT - 1)) >> TIME_SHIFT
}

/// Begins the line of an object.
fn line_of(state: &State<'_>, object: &impl Object, swept: u32) -> Line {
    let mut line = Line::new(&state.name(object.at()));
    line.number("refs", object.refs());
    line.flag("dying", object.is_dying());
    line.flag("dead", object.is_dead());
    if swept > 0 {
        line.number("swept", swept);
    }
    line
}

/// Names all objects.
fn names(s: &Snapshot) -> HashMap<u64, (&'static str, usize)> {
    let mut names = HashMap::new();
    macro_rules! name {
        ($($list:ident $name:literal;)*) => {
            $(names.extend((1..).zip(&s.$list).map(|(number, object)| (object.at, ($name, number))));)*
        };
    }
    name! {
        untypeds "untyped";
        cnodes "cnode";
        vspaces "vspace";
        frames "frame";
        processes "process";
        tasks "task";
        contexts "time";
        groups "group";
        notifications "note";
        replies "reply";
        controls "control";
        irqs "irq";
        ports "port";
        machines "machine";
        pools "pool";
    }
    names
}
