//! Processes that are killed, case by case.

use abi::{Cap, Error, ObjType, Op, Rights, Target, process_rights};
use kern_base::group::{Group, Member};
use kern_base::limits::ENTRY_WORK;
use kern_base::process::Process;
use kern_base::task::State;
use smp::host_test;
use std::sync::atomic::Ordering::Relaxed;

use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, Tcb};

/// Makes a process beside the scene's. The scene's group watches its tasks.
fn victim(s: &mut Scene) -> Proc {
    let victim = s.w.process_of(abi::INIT_UNTYPED, 16, 64);
    s.w.join_all(s.group, victim, GROUP);
    victim
}

/// A task that runs, since its priority is the highest so far.
fn start(s: &mut Scene, of: Proc, n: usize, exposure: u32) -> (Tcb, Target) {
    let task = s.w.start(of, n, u64::from(exposure));
    s.w.expose(s.group, exposure, task.cap);
    (task, Target::new(GROUP, exposure))
}

fn kill(s: &mut Scene, process: Proc) {
    s.w.must(0, Op::ProcessKill, &[process.process.arg()]);
    s.w.run();
}

fn is_member(s: &Scene, process: Proc) -> bool {
    let pin = host_test::pin(0);
    let key = s.w.object::<Process>(process.process).expect("the process").get().key();
    let group = s.w.object::<Group>(s.group).expect("the group");
    group.get().members.known().iter(pin).any(|record| Member(record.get().load(Relaxed)).key() == key)
}

fn is_exposed(s: &Scene, index: usize) -> bool {
    let pin = host_test::pin(0);
    let group = s.w.object::<Group>(s.group).expect("the group");
    let entry = group.get().exposures.get(pin, index).expect("an exposure");
    entry.get().slot.word.load(pin).object_type() != 0
}

#[test]
fn all_tasks_of_a_killed_process_are_dead_and_their_callers_told() {
    for cpus in [1, 2, 4] {
        let mut s = Scene::new(cpus);
        let victim = victim(&mut s);
        let tasks: Vec<_> = (0..cpus * 2).map(|i| start(&mut s, victim, i % cpus, 4 + i as u32)).collect();
        let (server, _) = tasks[cpus * 2 - 1];
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        // One caller that is served, and others that are queued.
        let clients: Vec<_> = (0..3)
            .map(|i| {
                let (client, _) = s.running(i % cpus, 20 + i as u64);
                s.w.does_and_run(&client, call(Target::new(GROUP, 3 + cpus as u32 * 2)));
                client
            })
            .collect();
        kill(&mut s, victim);
        for (task, _) in &tasks {
            assert_eq!(task.state(), State::Dead, "{task:?}");
        }
        for client in &clients {
            let answer = s.w.result(client);
            assert_eq!((answer.error(), answer.sender()), (Some(Error::Dead), server.id));
        }
        assert!(!is_member(&s, victim) && is_member(&s, s.process));
        assert!((0..tasks.len()).all(|i| !is_exposed(&s, 4 + i)));
        let (client, _) = s.running(0, 31);
        s.w.does_and_run(&client, call(Target::new(GROUP, 5)));
        assert_eq!(s.w.result(&client).error(), Some(Error::NoExposure));
    }
}

#[test]
fn a_killed_process_is_good_for_nothing_and_its_spaces_are_free() {
    let mut s = Scene::new(2);
    let victim = victim(&mut s);
    start(&mut s, victim, 1, 9);
    kill(&mut s, victim);
    kill(&mut s, victim);
    let fresh = s.w.make(0, ObjType::Task, 0);
    let args = [CONTROL, fresh.arg(), victim.process.arg(), 0x5800_0000, 0];
    assert_eq!(s.w.ask(0, Op::TaskConfigure, &args).map_err(|e| e.0), Err(Error::BadState));
    let spaces = |process: Cap| [process.arg(), victim.cnode.arg(), victim.vspace.arg(), 0];
    let again = s.w.ask(0, Op::ProcessConfigure, &spaces(victim.process));
    assert_eq!(again.map_err(|e| e.0), Err(Error::Dying));
    // Another may have them.
    let heir = s.w.make(0, ObjType::Process, 4);
    s.w.must(0, Op::ProcessConfigure, &spaces(heir));
    let heir = Proc { process: heir, ..victim };
    start(&mut s, heir, 1, 10);
    s.delete(victim.process);
}

#[test]
fn a_process_kills_itself_on_all_cpus() {
    for cpus in [1, 2, 4] {
        let mut s = Scene::new(cpus);
        let victim = victim(&mut s);
        s.w.give(victim.process, victim, Cap(30));
        let (server, to_server) = start(&mut s, victim, 0, 4);
        s.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let (client, _) = s.running(0, 5);
        s.w.does_and_run(&client, call(to_server));
        let tasks: Vec<_> = (0..cpus * 2).map(|i| start(&mut s, victim, i % cpus, 6 + i as u32)).collect();
        // Two of them at the same time, if there are two CPUs.
        for n in 0..cpus.min(2) {
            s.w.does(&tasks[cpus + n].0, Regs::op(Op::ProcessKill, &[Cap(30).arg()]));
        }
        s.w.run();
        assert!(tasks.iter().all(|(task, _)| task.state() == State::Dead), "on {cpus} CPUs");
        assert_eq!(server.state(), State::Dead);
        assert_eq!(s.w.result(&client).error(), Some(Error::Dead));
        assert!(!is_member(&s, victim));
        // The dead are exposed until another process kills them, too.
        assert!((0..tasks.len()).all(|i| is_exposed(&s, 6 + i)));
        kill(&mut s, victim);
        assert!((0..tasks.len()).all(|i| !is_exposed(&s, 6 + i)));
        s.delete(victim.process);
    }
}

#[test]
fn the_machine_ends_with_process_1_and_with_no_other() {
    let deaths = |s: &Scene| s.w.k.machine.hardware().first_deaths;
    let mut s = Scene::new(1);
    let victim = victim(&mut s);
    let (faulting, _) = start(&mut s, victim, 0, 4);
    s.w.fault(0, 0x10);
    s.w.run();
    assert_eq!(faulting.state(), State::Dead);
    let (killed, _) = s.running(0, 5);
    s.kill(&killed);
    let second = s.w.start(INIT, 0, 6);
    s.kill(&second);
    assert_eq!(deaths(&s), 0, "others, and another task of process 1");
    let ways: [fn(&mut Scene); 3] = [
        |s| s.w.does(&s.w.agent(0), Regs::op(Op::ProcessKill, &[abi::INIT_PROCESS.arg()])),
        |s| s.w.does(&s.w.agent(0), Regs::op(Op::TaskKill, &[abi::INIT_TASK.arg()])),
        |s| s.w.fault(0, 0x10),
    ];
    for way in ways {
        let mut s = Scene::new(1);
        s.w.summon(0);
        way(&mut s);
        assert_eq!(deaths(&s), 1);
    }
}

#[test]
fn a_process_is_killed_in_the_middle_of_a_fault_and_of_calls() {
    let mut s = Scene::new(2);
    let victim = victim(&mut s);
    let (handler, to_handler) = s.server(1, 10);
    s.w.must(0, Op::FaultHandler, &[victim.process.arg(), to_handler.0]);
    let (faulter, _) = start(&mut s, victim, 0, 9);
    s.w.fault(0, 0x1234_5000);
    s.w.run();
    assert_eq!(s.w.result(&handler).sender(), faulter.id, "its fault is being handled");
    let (caller, _) = start(&mut s, victim, 0, 10);
    let (callee, to_callee) = s.server(1, 20);
    s.w.does_and_run(&caller, call(to_callee));
    kill(&mut s, victim);
    assert_eq!([faulter.state(), caller.state()], [State::Dead; 2]);
    // Late answers find nobody.
    s.w.does_and_run(&callee, Regs::op(Op::Reply, &[]));
    assert_eq!(s.w.result(&callee).error(), Some(Error::Gone));
    s.w.does_and_run(&callee, Regs::op(Op::Recv, &[]));
    s.w.does_and_run(&handler, Regs::op(Op::Reply, &[]));
    assert_eq!(s.w.result(&handler).error(), Some(Error::Gone));
}

#[test]
fn a_kill_takes_its_right_and_many_entries() {
    let mut s = Scene::new(2);
    // More slots, exposures and tasks than one entry looks at.
    let big = s.w.process_of(abi::INIT_UNTYPED, 200, 900);
    let group = s.w.group(4, 700);
    s.w.join_all(group, big, Cap(800));
    let task = s.w.start(big, 1, 10);
    s.w.expose(group, 3, task.cap);
    s.w.expose(group, 699, task.cap);
    let weak = s.w.slot();
    let rights = u64::from(Rights::ALL.minus(process_rights::DESTROY.rights()).0);
    s.w.must(0, Op::CapCopy, &[big.process.arg(), at(weak), rights, 0]);
    let refused = s.w.ask(0, Op::ProcessKill, &[weak.arg()]);
    assert_eq!(refused, Err((Error::NoRight, u64::from(process_rights::DESTROY.rights().0))));
    assert_eq!(task.state(), State::Ready);
    // Two kill it at the same time.
    s.w.begin(1, Regs::op(Op::ProcessKill, &[big.process.arg()]));
    s.w.begin(0, Regs::op(Op::ProcessKill, &[big.process.arg()]));
    for n in [0, 1] {
        assert_eq!(s.w.finish(n).error(), None);
    }
    assert_eq!(task.state(), State::Dead);
    let pin = host_test::pin(0);
    let group = s.w.object::<Group>(group).expect("the group");
    assert!(group.get().members.known().iter(pin).all(|record| record.get().load(Relaxed) == 0));
    assert!(group.get().exposures.known().iter(pin).all(|e| e.get().slot.word.load(pin).object_type() == 0));
}

/// A program chooses how many capabilities it has, and how many exposures their groups have. Who
/// kills it looks at the sum of both, not at the product.
#[test]
fn a_kill_looks_at_a_group_once_however_many_capabilities_name_it() {
    const EXPOSURES: u64 = 512;
    const SLOTS: u32 = 64;
    /// Work of a look, about.
    const LOOK: u64 = 24;
    let mut s = Scene::new(1);
    let victim = victim(&mut s);
    let group = s.w.group(4, EXPOSURES);
    s.w.join_all(group, victim, Cap(10));
    (11..SLOTS).for_each(|slot| s.w.give(group, victim, Cap(slot)));
    let task = s.w.task_with(victim, 0, 1, true);
    s.w.expose(group, EXPOSURES as u32 - 1, task.cap);
    for priority in [10, 11] {
        let killer = s.w.start(INIT, 0, priority);
        s.w.does(&killer, Regs::op(Op::ProcessKill, &[victim.process.arg()]));
        let mut entries = 0;
        while s.w.runs(0, &killer) && s.w.step(0) {
            entries += 1;
        }
        let product = EXPOSURES * u64::from(SLOTS) / (ENTRY_WORK / LOOK);
        assert!(killer.is_through() && entries <= product / 4, "{entries} entries");
        let pin = host_test::pin(0);
        let group = s.w.object::<Group>(group).expect("the group");
        assert!(
            group.get().exposures.known().iter(pin).all(|e| e.get().slot.word.load(pin).object_type() == 0)
        );
    }
}

#[test]
fn memory_of_a_killed_process_comes_back() {
    let mut s = Scene::new(2);
    let memory = s.w.make(0, ObjType::Untyped, 19);
    for round in 0..3 {
        let process = s.w.process_of(memory, 8, 64);
        s.w.join_all(s.group, process, GROUP);
        let task = s.w.task_of(memory, process, 1, 10, true);
        s.w.expose(s.group, 12, task.cap);
        s.w.resume(&task);
        s.w.run();
        s.w.must(0, Op::ProcessKill, &[process.process.arg()]);
        let free = s.w.must(0, Op::UntypedReset, &[memory.arg()]).rdi;
        assert_eq!(free, 1 << 19, "round {round}");
    }
}
