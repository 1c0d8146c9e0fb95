//! Processes: numbers of tasks, fields that fastpaths read, event pools.

use snapshot::TaskNumber;

use crate::facts::{Facts, name_of};
use crate::report::Findings;

/// Each task that is configured and alive has a number of its process. All numbers below a
/// process's mark are in use, or used up: a number below that is free would never be given.
pub fn task_numbers(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for task in f.s.tasks.iter().filter(|task| !task.dead && task.id != 0) {
        hold!(out, task.owner != 0, "{} is alive, and of no process", name_of(task));
        hold!(
            out,
            task.state_generation == task.generation,
            "{} has generation {} in its state",
            name_of(task),
            task.state_generation
        );
    }
    for process in f.s.processes.iter().filter(|process| !process.locked) {
        let is_taken =
            |number: &TaskNumber| number.task != 0 || number.generation >= f.kernel.generations_max;
        let its = f.s.task_numbers.iter().filter(|number| number.process == process.at);
        let taken = its.filter(|number| number.number < process.free_number && is_taken(number)).count();
        hold!(
            out,
            taken as u32 == process.free_number,
            "process {} says that {} task numbers are taken, of which {taken} are",
            process.number,
            process.free_number
        );
        hold!(
            out,
            process.free_number <= process.task_numbers,
            "process {} has {} task numbers",
            process.number,
            process.task_numbers
        );
    }
}

/// The slots that the fast path reads of a CSpace are those of its first table.
pub fn cspaces(f: &Facts<'_>, out: &mut Findings) {
    if f.kernel.spaces_locked {
        return;
    }
    for process in &f.s.processes {
        let table = f.cnode(process.cnode).map_or((0, 0), |table| (table.slots_at, u64::from(table.slots)));
        let shown = (process.cspace_at, process.cspace_len);
        hold!(out, shown == table, "process {} shows slots {shown:x?} of {table:x?}", process.number);
        let number = f.s.numbers.iter().find(|number| number.process == process.at);
        let numbered = number.is_some_and(|number| number.number == process.number);
        hold!(out, numbered || f.any_busy(), "process {} is not found under its number", process.number);
    }
}

/// The reader of an event pool that has a process is a task of that process. While senders wait for
/// room, nobody puts an event into the pool before them.
pub fn event_pools(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for pool in f.s.pools.iter().filter(|pool| pool.process != 0 && !pool.locked) {
        let Some(reader) = f.slot(pool.reader).and_then(|slot| f.task(slot.object)) else { continue };
        hold!(
            out,
            reader.dead || reader.owner == pool.process,
            "an event pool of {} is read by {}",
            f.name(pool.process),
            name_of(reader)
        );
        hold!(
            out,
            reader.posters == 0 || pool.closed,
            "senders wait for room in {}, which is open",
            f.name(pool.at)
        );
    }
}
