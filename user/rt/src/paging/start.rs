//! Starts a pager, a store and a policy, and gives them access to each other and to clients.
//!
//! Each is a process of its own with a group of its own, in which its task is exposed at [`SERVER`]
//! and its maker is the [manager](super::MANAGER). All objects are made in the nursery that the
//! caller passes, so a reset of the nursery ends all of them.

use abi::{Cap, Rights, Target, machine_rights};

use super::{Denial, Manager, PagerSetup, SERVER, StoreSetup, pager_slot, store_window};
use crate::cap::{Frame, Group, Untyped};
use crate::elf::Image;
use crate::invoke::{copy, transfer};
use crate::layout::{PROGRAM_SLOTS, slot};
use crate::spawn::{
    Child, Nursery, ProcessSpec, Run, SpawnError, Spawned, StartIn, Step, TaskSpec, process, task,
};

/// A server that was made. It does nothing until its task is resumed.
#[derive(Debug)]
pub struct Service {
    pub child: Child,
    pub first: Spawned,
    pub group: Group,
}

/// How a server is to be.
#[derive(Clone, Copy, Debug)]
pub struct ServiceSpec<'a> {
    pub image: &'a Image<'a>,
    /// Its memory: a power of two of bytes, as a logarithm; 0 for none.
    pub memory_log2: u8,
    pub cpu: u32,
    pub priority: u8,
    /// Its log channel.
    pub channel: u8,
}

const TABLES: u32 = 64;
const STACK_PAGES: u32 = 8;
/// Members of a server's group: its clients, its maker, and some to be sure.
const MEMBERS: u16 = super::CLIENTS_MAX + 4;

/// What clients of a server may do in its group: call, with words, and fault.
const CLIENT_RIGHTS: Rights = Rights(Rights::SEND.0 | Rights::STRING.0);

fn service(
    nursery: &mut Nursery,
    spec: &ServiceSpec<'_>,
    with_file: bool,
    argument: u64,
) -> Result<Service, SpawnError> {
    let spec_of_process = ProcessSpec {
        image: spec.image,
        vector: false,
        tasks: 4,
        slots: PROGRAM_SLOTS,
        tables: TABLES,
        with_file,
        untyped_log2: if spec.memory_log2 == 0 { &[] } else { &[spec.memory_log2] },
        groups: StartIn::None,
        line: None,
    };
    let child = process(nursery, &spec_of_process)?;
    child.give_machine(machine_rights::LOG, spec.channel).step("letting a server log")?;
    if spec.memory_log2 != 0 {
        let memory: Untyped = nursery.make(spec.memory_log2.into()).step("making a server's memory")?;
        transfer(memory, child.cnode.slot(slot::UNTYPED)).step("giving a server its memory")?;
    }
    let first = TaskSpec {
        index: 0,
        cpu: spec.cpu,
        priority: spec.priority,
        stack_pages: STACK_PAGES,
        run: Run::Main,
        argument,
    };
    let first = task(nursery, &child.home(), &first).step("making a server's task")?;
    let group = nursery.make_group(MEMBERS, 1).step("making a server's group")?;
    group.expose_task(SERVER, &first.task).step("exposing a server")?;
    Ok(Service { child, first, group })
}

impl Service {
    /// Makes a process a client of the service, which sees it by these custom bits. Returns its
    /// number as a member of the service's group.
    fn admit(&self, client: &Child, place: Cap, custom: u16) -> Result<u32, SpawnError> {
        client.join(&self.group, place, CLIENT_RIGHTS, custom).step("making a client")
    }
}

/// Starts a store that keeps `slots` pages, with a window for each of the pagers 1, 2, ….
pub fn store(
    nursery: &mut Nursery,
    spec: &ServiceSpec<'_>,
    slots: u32,
    windows: &[Frame],
) -> Result<Service, SpawnError> {
    let setup = StoreSetup { slots, pagers: windows.len() as u16 };
    let store = service(nursery, spec, false, setup.argument())?;
    for (pager, window) in (1..).zip(windows) {
        let place = store.child.cnode.slot(store_window(pager));
        copy(window, place, Rights::ALL, 0).step("giving a store a window")?;
    }
    Ok(store)
}

/// Starts an out-of-memory policy.
pub fn policy(nursery: &mut Nursery, spec: &ServiceSpec<'_>) -> Result<Service, SpawnError> {
    service(nursery, spec, false, 0)
}

/// Starts a pager. Its image has the boot archive as its file, whose contents it can then serve.
pub fn pager(
    nursery: &mut Nursery,
    spec: &ServiceSpec<'_>,
    setup: PagerSetup,
) -> Result<Service, SpawnError> {
    service(nursery, spec, true, setup.argument())
}

/// Gives a pager, before it runs, a store and the window to it. The store knows the pager by
/// `number`, which is at least 1.
pub fn connect_store(
    pager: &Service,
    store: &Service,
    number: u16,
    window: &Frame,
) -> Result<(), SpawnError> {
    copy(window, pager.child.cnode.slot(pager_slot::WINDOW), Rights::ALL, 0)
        .step("giving a pager its window")?;
    store.admit(&pager.child, pager_slot::STORE, number).map(|_| ())
}

/// Gives a pager, before it runs, an out-of-memory policy, which knows the pager by `number`.
pub fn connect_policy(pager: &Service, policy: &Service, number: u16) -> Result<(), SpawnError> {
    policy.admit(&pager.child, pager_slot::POLICY, number).map(|_| ())
}

/// Makes a process, before it runs, a client of a pager, which serves its faults and its requests
/// once the manager that is returned has registered it.
pub fn entrust(pager: &Service, client: &Child, number: u16) -> Result<Manager, SpawnError> {
    make_client(pager, client, number).map(|_| Manager::of(&pager.group))
}

/// Makes a process a client by the number of a part, which the client `of` split off its account,
/// and registers it. If the pager denies that, the process is no client.
pub fn entrust_part(
    pager: &Service,
    client: &Child,
    part: u16,
    of: u16,
) -> Result<Result<Manager, Denial>, SpawnError> {
    let member = make_client(pager, client, part)?;
    let manager = Manager::of(&pager.group);
    let Err(denial) = manager.admit(part, of) else { return Ok(Ok(manager)) };
    pager.group.remove(member).step("removing a client")?;
    client.process.fault_handler(None).step("naming no fault handler")?;
    pager.child.cnode.delete(pager_slot::vspace(part)).step("taking an address space from a pager")?;
    Ok(Err(denial))
}

/// Makes a process a client. Returns its number as a member of the pager's group.
fn make_client(pager: &Service, client: &Child, number: u16) -> Result<u32, SpawnError> {
    let place = pager.child.cnode.slot(pager_slot::vspace(number));
    copy(&client.vspace, place, Rights::MAP, 0).step("giving a pager an address space")?;
    let member = pager.admit(client, slot::PAGER, number)?;
    let handler = Target::new(slot::PAGER, SERVER);
    client.process.fault_handler(Some(handler)).step("naming a fault handler")?;
    Ok(member)
}
