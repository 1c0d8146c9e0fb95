//! Ids that last: no program uses up what others need to make processes and tasks, no id is given
//! twice, and no name that an ended process left behind names a later process.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Error, MEMBER_RIGHTS, ObjType, Op, Rights, Target, TaskId};
use kern_base::group::{Group, Member};
use kern_base::limits::TAG_BITS;
use kern_base::process::Process;
use kern_base::task::Task;
use smp::host_test;

use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

/// Objects that one system call makes.
const AT_ONCE: u64 = 250;
/// Size of the memory that is used again and again, of processes and of tasks.
const PROCESSES_LOG2: u64 = 18;
const TASKS_LOG2: u64 = 21;

fn make_many(w: &mut World, untyped: Cap, what: ObjType, size: u64, first: Cap) {
    w.must(0, Op::Retype, &[Target::new(untyped, what as u32).0, size, at(first), AT_ONCE]);
}

fn reset(w: &mut World, untyped: Cap) {
    w.must(0, Op::UntypedReset, &[untyped.arg(), 0, 0]);
}

fn identity_of(w: &World, process: Cap) -> u64 {
    w.object::<Process>(process).expect("a process").get().header.identity()
}

/// More than 65,536 numbers with 4,096 generations, or 64 numbers with 64 in the tests' builds,
/// would allow with as many processes.
#[test]
fn processes_are_made_for_ever() {
    let mut w = World::unchecked(1, 8 << 20);
    let memory = w.make(0, ObjType::Untyped, PROCESSES_LOG2);
    let first = w.slots(AT_ONCE as u32);
    let mut last = 0;
    for _ in 0..100_000 / AT_ONCE {
        make_many(&mut w, memory, ObjType::Process, 1, first);
        for n in 0..AT_ONCE as u32 {
            let identity = identity_of(&w, Cap(first.0 + n));
            assert!(identity > last, "identity {identity:#x} comes after {last:#x}");
            last = identity;
        }
        reset(&mut w, memory);
    }
    let other = w.process();
    w.start(other, 0, 5);
}

/// All memory of a machine can be processes: nothing else limits their number.
#[test]
fn only_memory_limits_how_many_processes_there_are() {
    let mut w = World::unchecked(1, 8 << 20);
    let first = w.slots(AT_ONCE as u32 * 4);
    let memory = w.make(0, ObjType::Untyped, PROCESSES_LOG2 + 1);
    for n in 0..4 {
        make_many(&mut w, memory, ObjType::Process, 1, Cap(first.0 + n * AT_ONCE as u32));
    }
    let mut keys: HashSet<u64> = HashSet::new();
    for n in 0..AT_ONCE as u32 * 4 {
        let process = w.object::<Process>(Cap(first.0 + n)).expect("a process");
        assert!(keys.insert(process.get().key().raw()), "two processes have one key");
    }
    let more = [Target::new(memory, ObjType::Process as u32).0, 1, at(first), AT_ONCE];
    reset(&mut w, memory);
    w.must(0, Op::Retype, &more);
}

#[test]
fn tasks_of_one_process_are_made_for_ever() {
    let mut w = World::unchecked(1, 8 << 20);
    // Two task numbers, so each is used by thousands of tasks.
    let process = w.process_of(abi::INIT_UNTYPED, 2, 16);
    let memory = w.make(0, ObjType::Untyped, 13);
    let task = w.slot();
    let mut seen = HashSet::new();
    for _ in 0..100_000 {
        w.must(0, Op::Retype, &[Target::new(memory, ObjType::Task as u32).0, 0, at(task), 1]);
        let args = [CONTROL, task.arg(), process.process.arg(), 0x5000_0000, 0];
        let id = w.must(0, Op::TaskConfigure, &args).rdi;
        assert!(seen.insert(id), "id {id:#x} was given before");
        reset(&mut w, memory);
    }
    w.start(process, 0, 5);
}

#[test]
fn cpus_give_out_different_ids() {
    let mut w = World::unchecked(3, 8 << 20);
    let memory = w.make(0, ObjType::Untyped, TASKS_LOG2);
    let process = w.process_of(abi::INIT_UNTYPED, AT_ONCE, 16);
    let mut seen: HashSet<u64> = (0..3).map(|n| w.agent(n).id.raw()).collect();
    assert!(seen.contains(&TaskId::FIRST.raw()), "process 1's first task has the first id");
    for n in 0..60 {
        let cpu = n % 3;
        let task = w.retype_of(cpu, memory, ObjType::Task, 0);
        let utcb = 0x5000_0000 + 0x1000 * n as u64;
        let args = [CONTROL, task.arg(), process.process.arg(), utcb, cpu as u64];
        let id = w.must(cpu, Op::TaskConfigure, &args).rdi;
        assert!(id != 0 && seen.insert(id), "id {id:#x} was given before");
    }
}

/// A place in memory where one process is made after the other, and a group that they join.
struct Place {
    s: Scene,
    memory: Cap,
    watcher: Cap,
}

/// The exposure that each process at the place makes.
const SHOWN: u32 = 3;

impl Place {
    fn new(cpus: usize) -> Place {
        let mut s = Scene::new(cpus);
        let memory = s.w.make(0, ObjType::Untyped, 18);
        let watcher = s.w.make(0, ObjType::Notification, 0);
        Place { s, memory, watcher }
    }

    /// Makes a process, a member of the group, with a task that has CPU time.
    fn inhabit(&mut self, rights: Rights) -> (Proc, Tcb) {
        let process = self.s.w.process_of(self.memory, 4, 64);
        self.s.w.join(self.s.group, process, GROUP, rights, 0);
        let task = self.s.w.start(process, 0, 9);
        (process, task)
    }

    /// Makes a process at the same place, whose CSpace is another CNode.
    fn heir(&mut self, cnode: Cap) -> Proc {
        self.s.w.make_of(0, self.memory, ObjType::CNode, 64);
        let vspace = self.s.w.make_of(0, self.memory, ObjType::VSpace, 16);
        let process = self.s.w.make_of(0, self.memory, ObjType::Process, 4);
        self.s.w.must(0, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), 0]);
        Proc { process, cnode, vspace }
    }

    /// Takes the memory back.
    fn clear(&mut self) {
        reset(&mut self.s.w, self.memory);
        self.s.w.run();
    }

    fn key(&self, process: Proc) -> u64 {
        self.s.w.object::<Process>(process.process).expect("a process").get().key().raw()
    }

    fn members(&self) -> Vec<u64> {
        let group = self.s.w.object::<Group>(self.s.group).expect("the group").get();
        let records = group.members.known().iter(host_test::pin(0)).map(|it| Member(it.get().load(Relaxed)));
        records.filter(|member| *member != Member::EMPTY).map(|member| member.key().raw()).collect()
    }
}

#[test]
fn no_record_names_a_later_process_at_the_same_place() {
    let mut place = Place::new(2);
    let (first, task) = place.inhabit(MEMBER_RIGHTS);
    let (key, identity) = (place.key(first), identity_of(&place.s.w, first.process));
    assert!(place.members().contains(&key));
    // It leaves a copy of its group capability in a CNode of other memory.
    let shelf = place.s.w.make(0, ObjType::CNode, 64);
    place.s.w.give(shelf, first, Cap(20));
    let copies = [GROUP.arg(), Target::new(Cap(20), GROUP.0).0, u64::from(Rights::SEND.0), 0];
    place.s.w.does_and_run(&task, Regs::op(Op::CapCopy, &copies));
    assert_eq!(place.s.w.result(&task).error(), None);
    place.clear();
    assert!(!place.members().contains(&key), "the end of a process takes it out of its groups");
    let second = place.heir(shelf);
    assert_eq!(place.key(second), key, "the second process is at the place of the first");
    assert_ne!(identity_of(&place.s.w, second.process), identity);
    // The copy names the record of the first process, which is empty now.
    let task = place.s.w.start(second, 0, 9);
    let (_, target) = place.s.server(1, 10);
    place.s.w.does_and_run(&task, call(Target::new(GROUP, target.index())));
    assert_eq!(place.s.w.result(&task).error(), Some(Error::NotMember));
}

#[test]
fn members_are_listed_by_identities_that_inspect_shows() {
    let mut place = Place::new(1);
    for _ in 0..3 {
        let (process, _) = place.inhabit(MEMBER_RIGHTS);
        let identity = identity_of(&place.s.w, process.process);
        let shown = place.s.w.must(0, Op::CapInspect, &[at(process.process)]).r8;
        let mut listed = Vec::new();
        let mut from = 0;
        loop {
            let member = place.s.w.must(0, Op::GroupMember, &[Target::new(place.s.group, from).0]);
            if member.rdi == 0 {
                break;
            }
            listed.push(member.rdi);
            from = member.rsi as u32 + 1;
        }
        assert_eq!(shown, identity);
        assert_eq!(listed.iter().filter(|it| **it == identity).count(), 1, "{listed:x?}");
        assert_eq!(listed.len(), 2, "the scene's process, and this one");
        place.clear();
    }
}

#[test]
fn an_exposure_belongs_to_no_later_process_at_the_same_place() {
    let mut place = Place::new(1);
    let withdraws = Regs::op(Op::Withdraw, &[Target::new(GROUP, SHOWN).0]);
    let (first, task) = place.inhabit(Rights::SEND | Rights::LISTEN);
    place.s.w.give(place.watcher, first, Cap(20));
    let shows = Regs::op(Op::Expose, &[Target::new(GROUP, SHOWN).0, Cap(20).arg(), 0, 0]);
    for call in [shows, withdraws, shows] {
        place.s.w.does_and_run(&task, call);
        assert_eq!(place.s.w.result(&task).error(), None, "what it shows is its own");
    }
    let key = place.key(first);
    place.clear();
    let (second, task) = place.inhabit(Rights::SEND | Rights::LISTEN);
    assert_eq!(place.key(second), key, "the second process is at the place of the first");
    place.s.w.does_and_run(&task, withdraws);
    assert_eq!(place.s.w.result(&task).error(), Some(Error::NoRight), "the exposure is another's");
}

#[test]
fn each_kill_looks_at_all_exposures_also_at_the_same_place() {
    let mut place = Place::new(1);
    let mut key = 0;
    for round in 0..3 {
        let (process, task) = place.inhabit(MEMBER_RIGHTS);
        assert!(round == 0 || place.key(process) == key, "all processes are at one place");
        key = place.key(process);
        place.s.w.expose(place.s.group, SHOWN, task.cap);
        place.s.w.must(0, Op::ProcessKill, &[process.process.arg()]);
        place.s.w.run();
        let group = place.s.w.object::<Group>(place.s.group).expect("the group").get();
        let entry = group.exposures.get(host_test::pin(0), SHOWN as usize).expect("an exposure");
        let shown = entry.get().slot.word.load(host_test::pin(0)).get::<Task>();
        assert!(shown.is_none(), "kill {round} has withdrawn the task");
        place.clear();
    }
}

/// Tags repeat: in small builds after two tasks. What a task's exposure and messages find is still
/// that task.
#[test]
fn calls_reach_the_task_that_was_exposed_whatever_its_tag() {
    let mut s = Scene::new(2);
    let servers: Vec<(Tcb, Target)> = (0..6).map(|n| s.server(n % 2, 10 + n as u64)).collect();
    let (client, _) = s.running(1, 4);
    for (server, target) in &servers {
        s.w.does_and_run(&client, call(*target));
        assert_eq!(s.w.result(server).sender(), client.id);
        s.w.does_and_run(server, Regs::message(Op::ReplyRecv, Target(0), [5, 6, 7, 8]));
        assert_eq!(s.w.result(&client).msg(), [5, 6, 7, 8]);
    }
    let tags: HashSet<u64> = servers.iter().map(|(server, _)| server.object.get().tag()).collect();
    assert!(TAG_BITS > 2 || tags.len() < servers.len(), "some have one tag");
    let init = INIT.process;
    assert_ne!(identity_of(&s.w, init), identity_of(&s.w, s.process.process));
}
