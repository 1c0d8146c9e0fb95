//! What the fuzzer's clusters are made of: three processes with CNodes, eight workers on four CPUs, and an Untyped.

use abi::{Cap, Rights, cnode_rights, process_rights};
use model::object::{self, State};
use model::parts::System;
use model::{Capability, Id, Kind, Model, Place, Sizes};

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
    let sizes = Sizes { notification: 128, group: 64, ..Sizes::default() };
    let mut model = Model { sizes, cpus: CPUS, process_numbers: 64, ..Model::default() };
    let add = |model: &mut Model, kind: Kind| model.add((model.objects.len() as u64) << 20, None, kind);
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let cnode = add(&mut model, Kind::CNode(object::CNode { slots: 4096, process: None }));
        let of = object::Process { cnode: Some(cnode), vspace: None, tasks: vec![], accept: 0 };
        let process = add(&mut model, Kind::Process(of));
        model.cnode_mut(cnode).process = Some(process);
        processes.push((cnode, process));
    }
    let give = |model: &mut Model, process: usize, slot: Cap, object: Id, rights: Rights| {
        let it = Capability { object, rights, badge: 0, parent: None, children: vec![] };
        model.slots.insert(Place::Slot(processes[process].0, slot.0), it);
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
    let memory = add(&mut model, Kind::Untyped(memory));
    give(&mut model, owner, MEMORY, memory, Rights::ALL);
    let task = |worker: usize| object::Task {
        process: Some(processes[process_of(worker)].1),
        home: worker % CPUS,
        state: State::Ready,
        time: Some(memory),
        ..object::Task::default()
    };
    let tasks = (0..WORKERS).map(|worker| add(&mut model, Kind::Task(Box::new(task(worker))))).collect();
    (System::new(model), tasks)
}
