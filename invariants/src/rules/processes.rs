//! Processes: numbers of tasks, fields that fastpaths read, event pools.

use crate::facts::{Facts, name_of};
use crate::report::Findings;

/// Each task that is configured and alive has a number of its process, and its tag in its state
/// word. All numbers below a process's mark are in use: a number below that is free would never be
/// given.
pub fn task_numbers(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    for task in f.s.tasks.iter().filter(|task| !task.dead && task.id != 0) {
        hold!(out, task.owner != 0, "{} is alive, and of no process", name_of(task));
        hold!(
            out,
            task.state_tag == task.tag,
            "{} has the tag {:#x} in its state",
            name_of(task),
            task.state_tag
        );
    }
    for process in f.s.processes.iter().filter(|process| !process.locked) {
        let its = f.s.task_numbers.iter().filter(|number| number.process == process.at);
        let taken = its.filter(|number| number.number < process.free_number && number.task != 0).count();
        hold!(
            out,
            taken as u32 == process.free_number,
            "process {:#x} says that {} task numbers are taken, of which {taken} are",
            process.at,
            process.free_number
        );
        hold!(
            out,
            process.free_number <= process.task_numbers,
            "process {:#x} has {} task numbers",
            process.at,
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
        hold!(out, shown == table, "process {:#x} shows slots {shown:x?} of {table:x?}", process.at);
    }
}

/// A root lists each process that was made of its memory and has not ended. The process is first
/// in the list, or the process before it leads to it.
pub fn process_lists(f: &Facts<'_>, out: &mut Findings) {
    if f.any_busy() {
        return;
    }
    let processes = f.s.processes.iter().filter(|process| process.refs != 0);
    for process in processes.filter(|process| !f.is_root_locked(process.root)) {
        let listed = match process.prev {
            0 => f.s.roots.iter().any(|root| root.processes == process.at),
            prev => f.process(prev).is_some_and(|prev| prev.next == process.at),
        };
        hold!(out, listed, "process {:#x} is in no list", process.at);
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
