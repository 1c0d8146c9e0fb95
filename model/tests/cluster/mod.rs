//! The state of the fuzzer's clusters: three processes with CNodes, eight workers on four CPUs, and
//! an Untyped.

use abi::{Cap, Rights, cnode_rights, process_rights};
use model::object::{self, State};
use model::parts::System;
use model::{Id, Kind, Model, Place, Sizes};

pub const CPUS: usize = 4;
pub const WORKERS: usize = 8;
pub const PROCESSES: usize = 3;
/// Where the fuzzer has what its processes were given.
pub const OWN_CNODE: Cap = Cap(1);
pub const PEER_CNODES: u32 = 400;
pub const PEER_PROCESSES: u32 = 404;
pub const MEMORY: Cap = Cap(408);
pub fn process_of(worker: usize) -> usize {
    (worker + worker / CPUS * (CPUS % 3)) % PROCESSES
}

pub fn before(owner: usize) -> (System, Vec<Id>) {
    let sizes = Sizes { notification: 128, group: 128, ..Sizes::default() };
    let mut model = Model { sizes, cpus: CPUS, ..Model::default() };
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let cnode = model.put(Kind::CNode(object::CNode { slots: 4096, process: None }));
        let of = object::Process { cnode: Some(cnode), ..object::Process::default() };
        let process = model.put(Kind::Process(of));
        model.cnode_mut(cnode).process = Some(process);
        processes.push((cnode, process));
    }
    let give = |model: &mut Model, process: usize, slot: Cap, object: Id, rights: Rights| {
        model.give(Place::Slot(processes[process].0, slot.0), object, rights, 0);
    };
    let look = cnode_rights::OBSERVE.rights();
    for (of, (cnode, process)) in processes.iter().enumerate() {
        give(&mut model, of, OWN_CNODE, *cnode, Rights::ALL);
        for who in 0..PROCESSES {
            let rights = if (of + 1) % PROCESSES == who { look } else { Rights::GRANT | look };
            give(&mut model, who, Cap(PEER_CNODES + of as u32), *cnode, rights);
            let rights = process_rights::CONFIGURE.rights();
            give(&mut model, who, Cap(PEER_PROCESSES + of as u32), *process, rights);
        }
    }
    let memory = object::Untyped { base: 1 << 30, size: 4096, low: 0, high: 4096 };
    let memory = model.put(Kind::Untyped(memory));
    give(&mut model, owner, MEMORY, memory, Rights::ALL);
    let task = |worker: usize| object::Task {
        process: Some(processes[process_of(worker)].1),
        home: worker % CPUS,
        state: State::Ready,
        time: Some(memory),
        ..object::Task::default()
    };
    let tasks = (0..WORKERS).map(|worker| model.put(Kind::Task(Box::new(task(worker))))).collect();
    (System::new(model), tasks)
}

/// Makes tasks that call each other, as the fuzzer's do. `speakers` has the worker, process, CPU
/// and identity of each.
#[allow(dead_code, reason = "only recorded histories have them")]
pub fn with_speakers(speakers: &[(usize, usize, usize, u64, u8)]) -> (System, Vec<(usize, Id)>) {
    const MOST: u32 = 8;
    const GROUP: u32 = 500;
    const TASKS: u32 = 504;
    const REPLIES: u32 = TASKS + 2 * MOST;
    let (System { mut model, .. }, _) = before(0);
    // As they were added: CNode and process, by turns.
    let cnodes: Vec<Id> = (0..PROCESSES).map(|nth| Id(2 * nth)).collect();
    let processes: Vec<Id> = (0..PROCESSES).map(|nth| Id(2 * nth + 1)).collect();
    let rights = Rights::SEND | Rights::STRING | Rights::NOTIFY;
    let member = |(nth, process): (usize, &Id)| {
        Some(object::Member { process: *process, rights, custom: 70 + nth as u16 })
    };
    let members = core::iter::once(None).chain(processes.iter().enumerate().map(member)).collect();
    let exposures = vec![object::Exposure::default(); 2 * MOST as usize];
    let group = model.put(Kind::Group(object::Group { members, exposures }));
    for (nth, cnode) in cnodes.iter().enumerate() {
        model.give(Place::Slot(*cnode, GROUP), group, rights, (nth as u64 + 1) * 8);
    }
    let mut tasks = Vec::new();
    for (nth, (worker, process, home, identity, rank)) in speakers.iter().enumerate() {
        let (nth, home) = (nth as u32, *home);
        let task = object::Task {
            id: abi::TaskId::from_raw(*identity),
            process: Some(processes[*process]),
            home,
            state: State::Ready,
            time: Some(group),
            rank: *rank,
            ..object::Task::default()
        };
        let task = model.put(Kind::Task(Box::new(task)));
        let note = object::Notification { home, bits: 0, waiter: None, bound: Some(task) };
        let note = model.put(Kind::Notification(note));
        model.task_mut(task).bound = Some(note);
        let reply = model.put(Kind::Reply(object::Reply { home, caller: None, server: None }));
        model.give(Place::Exposure(group, nth), task, Rights::NONE, 0);
        model.give(Place::Exposure(group, MOST + nth), note, Rights::NONE, 0);
        model.give(Place::Slot(cnodes[*process], REPLIES + nth), reply, Rights::ALL, 0);
        for cnode in &cnodes {
            model.give(Place::Slot(*cnode, TASKS + nth), task, abi::task_rights::SUSPEND.rights(), 0);
        }
        tasks.push((*worker, task));
    }
    (System::new(model), tasks)
}
