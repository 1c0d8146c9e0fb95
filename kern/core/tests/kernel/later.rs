//! Later entries of a system call: what it began with is another object by then, or a right is
//! gone, or the call is refused. It ends nothing else, and leaves nothing half done.

use abi::events::Window;
use abi::{Cap, Error, FLAG_PAGES, Listening, ObjType, Op, PageMode, PageRange, Rights, Target};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::group::Group;
use kern_base::header::FLAG_DYING;
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::task::State;
use smp::door::Ref;
use smp::host_test;

use crate::begun::{begin, beside};
use crate::broadcast::{Meeting, say};
use crate::events::{BITS, LOG2, POOL_VA, fill, send};
use crate::pages::lists;
use crate::scene::{GROUP, Scene};
use crate::world::make::{INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

const STEPS: usize = 200;

fn dying(w: &World, of: Cap) -> bool {
    w.object::<Process>(of).expect("the process").get().header.has_flag(FLAG_DYING)
}

/// The caller asked to kill another process, and its own comes into the slot.
#[test]
fn a_kill_of_another_does_not_end_the_callers_own_process() {
    let mut w = World::with_memory(2, 32 << 20);
    let killed = w.process_of(abi::INIT_UNTYPED, 4, 1 << 14);
    let copy = w.slot();
    w.must(0, Op::CapCopy, &[killed.process.arg(), at(copy), u64::from(Rights::ALL.0), 0]);
    let own = w.process();
    let killer = Cap(9);
    w.give(killed.process, own, killer);
    let worker = w.start(own, 0, 20);
    w.run();
    w.does(&worker, Regs::op(Op::ProcessKill, &[killer.arg()]));
    assert!(worker.must_restart(), "the kill is over at once");
    // Its own thread, or its supervisor, empties the slot and fills it again.
    let slot = Target::new(own.cnode, killer.0).0;
    assert_eq!(beside(&mut w, Op::CapDelete, &[slot]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapCopy, &[own.process.arg(), slot, u64::from(Rights::ALL.0), 0]), Ok(0));
    assert!(worker.must_restart(), "{:?}", worker.state());
    w.run();
    assert!(!dying(&w, own.process), "the caller has killed itself: {:?}", worker.state());
}

/// The first process comes into the slot, whose end would be that of the machine.
#[test]
fn a_kill_of_another_does_not_end_the_machine() {
    let mut w = World::with_memory(2, 32 << 20);
    let killed = w.process_of(abi::INIT_UNTYPED, 4, 1 << 14);
    let own = w.process();
    let killer = Cap(9);
    w.give(killed.process, own, killer);
    let worker = w.start(own, 0, 20);
    w.run();
    w.does(&worker, Regs::op(Op::ProcessKill, &[killer.arg()]));
    assert!(worker.must_restart(), "the kill is over at once");
    let slot = Target::new(own.cnode, killer.0).0;
    assert_eq!(beside(&mut w, Op::CapDelete, &[slot]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapCopy, &[INIT.process.arg(), slot, u64::from(Rights::ALL.0), 0]), Ok(0));
    assert!(worker.must_restart(), "{:?}", worker.state());
    w.run();
    assert_eq!(worker.regs().error(), Some(Error::NoCapability), "the kill was refused");
    assert_eq!(w.k.machine.hardware().first_deaths, 0, "and the machine ended");
}

/// The caller asked to kill its own process. That has begun when the first entry is over, and
/// nothing comes into the slot before.
#[test]
fn a_kill_of_the_own_process_begins_at_once() {
    let mut w = World::with_memory(2, 32 << 20);
    let own = w.process_of(abi::INIT_UNTYPED, 4, 1 << 14);
    let killer = Cap(9);
    w.give(own.process, own, killer);
    let worker = w.start(own, 0, 20);
    w.run();
    w.does(&worker, Regs::op(Op::ProcessKill, &[killer.arg()]));
    assert!(dying(&w, own.process), "{:?}", worker.state());
    w.run();
    assert_eq!(worker.state(), State::Dead);
}

/// A `Withdraw` that waits for the end of what was exposed finds something else there.
#[test]
fn a_withdrawal_leaves_what_is_exposed_there_next() {
    const INDEX: u32 = 1;
    let mut w = World::new(2);
    let group = w.group(4, 4);
    let own = w.process();
    let task = w.start(own, 1, 10);
    let note = w.make(0, ObjType::Notification, 0);
    w.expose(group, INDEX, task.cap);
    w.must(0, Op::CapDelete, &[at(task.cap)]);
    let index = Target::new(group, INDEX).0;
    begin(&mut w, Op::Withdraw, &[index]);
    assert_eq!(beside(&mut w, Op::Withdraw, &[index]), Ok(0));
    assert_eq!(beside(&mut w, Op::Expose, &[index, note.arg(), 0]), Ok(0));
    let outcome = w.finish(0).error();
    let object = w.object::<Group>(group).expect("the group").get();
    let pin = host_test::pin(0);
    let word = object.exposures.known().get(pin, INDEX as usize).expect("it").get().slot.word.load(pin);
    assert!(word.get::<Notification>().is_some(), "it was withdrawn, though exposed since: {outcome:?}");
}

/// A revoke takes a pool's reader, while another CPU deletes or moves the capability that is
/// revoked. Senders that wait for room in the pool are told.
#[test]
fn who_waits_for_room_is_told_that_the_reader_is_gone() {
    for moves in [false, true] {
        for reader_cpu in [0, 1] {
            for at_point in 0.. {
                let mut s = Scene::new(3);
                let process = s.w.process();
                let task = s.w.start(process, reader_cpu, 20);
                s.w.expose(s.group, 12, task.cap);
                let target = Target::new(GROUP, 12);
                let (top, to) = (s.w.slot(), s.w.slot());
                s.w.must(0, Op::CapCopy, &[task.cap.arg(), at(top), u64::from(Rights::ALL.0), 0]);
                let pool = s.w.make(0, ObjType::EventPool, u64::from(LOG2));
                s.w.must(0, Op::PoolBind, &[pool.arg(), process.process.arg(), top.arg(), POOL_VA, BITS]);
                s.w.run();
                s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
                let (sender, _) = s.running(2, 10);
                fill(&mut s, &sender, target);
                s.w.does_and_run(&sender, send(target, 50));
                assert!(!sender.is_through());
                let mut points = 0..;
                let others = match moves {
                    true => Regs::op(Op::CapMove, &[top.arg(), at(to)]),
                    false => Regs::op(Op::CapDelete, &[at(top)]),
                };
                let torn = s.w.torn_where(
                    0,
                    Regs::op(Op::CapRevoke, &[at(top)]),
                    move |_| points.next() == Some(at_point),
                    |w| {
                        w.begin(1, others);
                        let _ = (0..STEPS).all(|_| w.step(1));
                    },
                );
                let _ = s.w.finish(0);
                if !torn {
                    assert!(at_point > 0);
                    break;
                }
                s.w.finish(1);
                s.w.run();
                let has_reader = {
                    let pool = s.w.object::<kern_base::events::EventPool>(pool).expect("the pool");
                    pool.get().reader.word.load(host_test::pin(0)).object_type() != 0
                };
                assert!(
                    has_reader || sender.is_through(),
                    "nobody can let it in any more: point {at_point}, moves {moves}, reader on {reader_cpu}"
                );
            }
        }
    }
}

/// The caller comes to live in the memory that it resets.
#[test]
fn memory_whose_reset_is_refused_late_is_open_again() {
    let mut w = World::new(2);
    let memory = w.make(0, ObjType::Untyped, 16);
    let table = w.make_of(0, memory, ObjType::CNode, 4);
    for _ in 0..50 {
        let _ = w.make_of(1, memory, ObjType::Notification, 0);
    }
    begin(&mut w, Op::UntypedReset, &[memory.arg(), 0]);
    assert!(beside(&mut w, Op::CSpaceGrow, &[INIT.process.arg(), table.arg()]).is_ok());
    assert_eq!(w.finish(0).error(), Some(Error::InUse));
    // As with any InUse: "An Untyped in which the caller lives does not end for the caller".
    assert_eq!(
        w.ask(0, Op::UntypedReset, &[memory.arg(), 0]).map(drop).map_err(|(e, _)| e),
        Err(Error::InUse)
    );
    let slot = w.slot();
    let args = [Target::new(memory, ObjType::Notification as u32).0, 0, at(slot), 1];
    assert_eq!(w.ask(0, Op::Retype, &args).map(drop), Ok(()), "nothing can be made of it any more");
}

/// The caller of a reset that takes pins loses the Machine meanwhile.
#[test]
fn memory_whose_reset_loses_its_right_is_open_again() {
    let mut w = World::new(2);
    let memory = w.make(0, ObjType::Untyped, 16);
    let machine = w.slot();
    w.must(0, Op::CapCopy, &[abi::INIT_MACHINE.arg(), at(machine), u64::from(Rights::ALL.0), 0]);
    for _ in 0..50 {
        let _ = w.make_of(1, memory, ObjType::Notification, 0);
    }
    w.begin(0, {
        let mut regs = Regs::op(Op::UntypedReset, &[memory.arg(), 1, 0, machine.arg()]);
        regs.r8 = machine.arg();
        regs
    });
    assert!(!w.is_over(0));
    assert!(beside(&mut w, Op::CapDelete, &[at(machine)]).is_ok());
    assert_eq!(w.finish(0).error(), Some(Error::NoCapability));
    let slot = w.slot();
    let args = [Target::new(memory, ObjType::Notification as u32).0, 0, at(slot), 1];
    assert_eq!(w.ask(0, Op::Retype, &args).map(drop), Ok(()), "nothing can be made of it any more");
}

const FROM: u64 = 0x6000_0000;
const WINDOW: u64 = 0x7000_0000;

/// At every point of a broadcast, a member ends, or its pool.
#[test]
fn a_broadcast_with_pages_skips_a_member_that_ends() {
    for kills in [false, true] {
        for pages in [false, true] {
            for at_point in 0.. {
                let mut m = Meeting::new(3, 0, 6);
                for _ in 0..3 {
                    m.ear(1, Rights::LISTEN);
                }
                let frame = m.w.make(0, ObjType::Frame, 12 | 2 << 8);
                m.w.must(0, Op::Map, &[m.process.vspace.arg(), frame.arg(), FROM, abi::MAP_POOL | 1]);
                m.ears
                    .iter()
                    .for_each(|e| e.reader.offers(Listening::NOT, Window { address: WINDOW, pages: 2 }));
                lists(&m.sender, &[PageRange::new(PageMode::Copy, FROM, 2)]);
                let args = if pages { say(3).flag(FLAG_PAGES) } else { say(3) };
                let (process, pool): (Proc, Cap) = (m.ears[1].process, m.ears[1].reader.cap);
                let ends = match kills {
                    true => Regs::op(Op::ProcessKill, &[process.process.arg()]),
                    false => Regs::op(Op::CapDelete, &[at(pool)]),
                };
                assert!(m.w.runs(0, &m.sender));
                m.w.prepare(0, args);
                let mut points = 0..;
                let torn = m.w.tear(
                    0,
                    crate::world::gate::Why::SystemCall,
                    move |_| points.next() == Some(at_point),
                    |w| {
                        w.begin(2, ends);
                        let _ = (0..STEPS).all(|_| w.step(2) | w.step(1));
                    },
                );
                m.w.run();
                if !torn {
                    assert!(at_point > 0);
                    break;
                }
                let answer = m.answer();
                let skipped = answer.is_ok() || matches!(answer, Err((Error::Dying, ..)));
                assert!(skipped, "{answer:?} at {at_point}, kills {kills}, pages {pages}");
            }
        }
    }
}

/// Another process comes into the slot when most tasks of the first one do not have the label yet.
#[test]
fn a_label_that_was_half_set_is_no_success() {
    use kern_base::limits::LABEL_STEPS;
    use kern_base::task::{LABEL_MASK, LABEL_SHIFT};
    let mut w = World::with_memory(2, 32 << 20);
    let many = 2 * LABEL_STEPS as u64 + 8;
    let process = w.process_of(abi::INIT_UNTYPED, many, 32);
    let other = w.process();
    let tasks: Vec<Tcb> = (0..many).map(|_| w.task_with(process, 0, 10, false)).collect();
    let aside = w.slot();
    begin(&mut w, Op::LabelSet, &[abi::INIT_MACHINE.arg(), process.process.arg(), 7]);
    assert_eq!(beside(&mut w, Op::CapMove, &[process.process.arg(), at(aside)]), Ok(0));
    assert_eq!(beside(&mut w, Op::CapMove, &[other.process.arg(), at(process.process)]), Ok(0));
    assert!(!w.is_over(0));
    let outcome = w.finish(0).error();
    w.run();
    let label = |t: &Tcb| (t.hot().word() as u32 & LABEL_MASK) >> LABEL_SHIFT;
    let without = tasks.iter().filter(|t| label(t) != 7).count();
    assert!(outcome.is_some() || without == 0, "done, but {without} of {many} tasks have the old label");
}

/// A delete ends the table that holds its own slot. No other CPU does anything.
#[test]
fn a_delete_that_ends_its_own_table_empties_what_it_ended() {
    ends_its_own_table(false);
}

#[test]
fn a_revoke_that_ends_its_own_table_empties_what_it_ended() {
    ends_its_own_table(true);
}

fn ends_its_own_table(revokes: bool) {
    let mut w = World::with_memory(2, 32 << 20);
    let memory = w.make(0, ObjType::Untyped, 16);
    let table = w.make_of(0, memory, ObjType::CNode, 8);
    let around = w.make(0, ObjType::Untyped, 21);
    let large = w.make_of(0, around, ObjType::CNode, 1 << 14);
    let note = w.make(0, ObjType::Notification, 0);
    let object = w.object::<Notification>(note).expect("it");
    w.must(0, Op::CapMove, &[note.arg(), Target::new(large, 16_000).0]);
    w.must(0, Op::CapMove, &[memory.arg(), Target::new(large, 1).0]);
    let op = if revokes {
        w.must(0, Op::CapMove, &[around.arg(), Target::new(table, 5).0]);
        Op::CapRevoke
    } else {
        w.must(0, Op::CapMove, &[large.arg(), Target::new(table, 5).0]);
        Op::CapDelete
    };
    let outcome = w.ask(0, op, &[Target::new(table, 5).0]).map(drop);
    w.run();
    assert!(
        object.get().header.has_flag(FLAG_DYING),
        "{op:?} answers {outcome:?}, and has not emptied the CNode that it ended"
    );
}

/// A server that receives, and its client. One of them has a large CNode in slot 20.
struct Pair {
    w: World,
    server: Tcb,
    client: Tcb,
    /// What the CNode holds far behind its first slot, by its last capability.
    object: Ref<'static, Notification>,
}

impl Pair {
    fn new(server_has_it: bool) -> Pair {
        let mut w = World::with_memory(2, 32 << 20);
        let (p, q) = (w.process(), w.process());
        let server = w.start(q, 0, 20);
        let group = w.group(4, 4);
        w.join_all(group, p, GROUP);
        w.expose(group, 1, server.cap);
        w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let owner = if server_has_it { q } else { p };
        let (large, object) = full_cnode(&mut w);
        w.must(0, Op::CapMove, &[large.arg(), Target::new(owner.cnode, 20).0]);
        let client = w.start(p, 0, 10);
        w.run();
        Pair { w, server, client, object }
    }
}

/// Makes a large CNode that holds the last capability of an object far behind its first slot.
fn full_cnode(w: &mut World) -> (Cap, Ref<'static, Notification>) {
    let large = w.make(0, ObjType::CNode, 1 << 14);
    let note = w.make(0, ObjType::Notification, 0);
    let object = w.object::<Notification>(note).expect("it");
    w.must(0, Op::CapMove, &[note.arg(), Target::new(large, 16_000).0]);
    (large, object)
}

/// A call disposes of a CNode, and its server ends before that is empty.
#[test]
fn what_a_refused_call_has_disposed_of_is_ended_whole() {
    use crate::grants::lists as grants;
    use abi::{FLAG_CAPS, Grant};
    let Pair { mut w, server, client, object } = Pair::new(false);
    grants(&client, &[Grant::Move { cap: Cap(20) }]);
    w.does(&client, Regs::message(Op::Call, Target::new(GROUP, 1), [1; 4]).flag(FLAG_CAPS));
    assert!(client.must_restart());
    let _ = w.step(0);
    assert!(client.must_restart() && !object.get().header.has_flag(FLAG_DYING));
    // The server ends.
    w.must(0, Op::TaskKill, &[server.cap.arg()]);
    w.run();
    let outcome = w.result(&client).error();
    assert!(
        object.get().header.has_flag(FLAG_DYING),
        "the call answers {outcome:?}, and has left half of the CNode that it disposed of"
    );
}

/// A task is killed that could not bind a pool, and what was in its way goes.
#[test]
fn a_refusal_of_a_dead_binder_is_not_told_to_the_next() {
    let mut failed = Vec::new();
    for entries in 0..60 {
        let mut w = World::with_memory(2, 32 << 20);
        let process = w.process();
        let reader = w.start(process, 0, 5);
        let pool = w.make(0, ObjType::EventPool, 14);
        let obstacle = w.make(0, ObjType::Frame, 12);
        let there = POOL_VA + 240 * 0x1000;
        w.must(0, Op::Map, &[process.vspace.arg(), obstacle.arg(), there, 0]);
        let worker = w.start(INIT, 1, 10);
        let bind = [pool.arg(), process.process.arg(), reader.cap.arg(), POOL_VA, BITS];
        let args = {
            let mut regs = Regs::op(Op::PoolBind, &bind);
            regs.r9 = BITS;
            regs
        };
        w.does(&worker, args);
        for _ in 0..entries {
            if worker.must_restart() {
                w.syscall(1);
            }
        }
        if !worker.must_restart() {
            assert!(entries > 0);
            break;
        }
        w.must(0, Op::TaskKill, &[worker.cap.arg()]);
        w.run();
        assert_eq!(worker.state(), State::Dead);
        w.must(0, Op::Unmap, &[process.vspace.arg(), obstacle.arg(), there, 0]);
        let outcome = w.call(0, args).error();
        if outcome.is_some() {
            failed.push((entries, outcome));
        }
    }
    assert_eq!(failed, []);
}

/// A delete and a call that nobody refuses end a CNode.
#[test]
fn what_a_delete_or_a_call_ends_is_ended_whole() {
    use crate::grants::lists as grants;
    use abi::{FLAG_CAPS, Grant};
    let mut w = World::with_memory(2, 32 << 20);
    let table = w.make(0, ObjType::CNode, 8);
    let (large, object) = full_cnode(&mut w);
    w.must(0, Op::CapMove, &[large.arg(), Target::new(table, 5).0]);
    w.must(0, Op::CapDelete, &[Target::new(table, 5).0]);
    assert!(object.get().header.has_flag(FLAG_DYING));

    let Pair { mut w, client, object, .. } = Pair::new(false);
    grants(&client, &[Grant::Move { cap: Cap(20) }]);
    w.does(&client, Regs::message(Op::Call, Target::new(GROUP, 1), [1; 4]).flag(FLAG_CAPS));
    w.run();
    assert!(object.get().header.has_flag(FLAG_DYING));
}

/// A delete, revoke or reset has ended a CNode when it is refused for a pinned frame.
#[test]
fn what_a_refused_delete_has_ended_is_ended_whole() {
    let mut bad = Vec::new();
    for op in [Op::CapDelete, Op::CapRevoke, Op::UntypedReset] {
        for pinned in [false, true] {
            let mut w = World::with_memory(2, 32 << 20);
            let memory = w.make(0, ObjType::Untyped, 16);
            let frame = w.make_of(0, memory, ObjType::Frame, 12);
            if pinned {
                w.must(0, Op::FramePin, &[frame.arg(), abi::INIT_MACHINE.arg()]);
            }
            let table = w.make_of(0, memory, ObjType::CNode, 8);
            let note = w.make(0, ObjType::Notification, 0);
            let object = w.object::<Notification>(note).expect("it");
            w.must(0, Op::CapMove, &[note.arg(), Target::new(table, 3).0]);
            let arg = if op == Op::UntypedReset { memory.arg() } else { at(memory) };
            let outcome = w.ask(0, op, &[arg]).map(drop);
            w.run();
            let table_is_there = w.object::<kern_base::slot::CNode>(table).is_some();
            let ended = object.get().header.has_flag(FLAG_DYING);
            if !table_is_there && !ended {
                bad.push(format!("{op:?} pinned {pinned}: {outcome:?}"));
            }
        }
    }
    assert!(bad.is_empty(), "the table is gone, and what it held lives: {bad:#?}");
}

/// A broadcast comes to a full pool at every point of its end.
#[test]
fn a_broadcast_skips_a_member_whose_full_pool_ends() {
    let mut bad = Vec::new();
    for at_point in 0.. {
        let mut m = Meeting::new(3, 0, 6);
        for _ in 0..3 {
            m.ear(1, Rights::LISTEN);
        }
        m.fill(1);
        let pool = m.ears[1].reader.cap;
        assert!(m.w.runs(0, &m.sender));
        let sender = m.sender;
        let mut points = 0..;
        let torn = m.w.torn_where(
            2,
            Regs::op(Op::CapDelete, &[at(pool)]),
            move |_| points.next() == Some(at_point),
            |w| {
                w.does(&sender, say(3));
                let _ = (0..STEPS).all(|_| w.step(0) | w.step(1));
            },
        );
        m.w.run();
        if !torn {
            assert!(at_point > 0);
            break;
        }
        if !m.sender.is_through() {
            bad.push((at_point, format!("{:?}", m.sender.state())));
        } else if m.answer().is_err() {
            bad.push((at_point, format!("{:?}", m.answer())));
        }
    }
    assert!(bad.is_empty(), "{bad:?}");
}

/// A task resets memory that another one resets already, which could not end its own objects.
#[test]
fn a_reset_tries_what_another_task_could_not_end() {
    use kern_base::memory::Untyped;
    let (mut bad, mut seen) = (Vec::new(), 0);
    for n in (100..900).step_by(37) {
        let mut w = World::with_memory(2, 64 << 20);
        let reset_of = w.make(0, ObjType::Untyped, 21);
        // Memory in memory in memory, and in the last one the worker.
        let mut nested = vec![w.make(0, ObjType::Untyped, 23)];
        for log2 in (15..23).rev() {
            let above = *nested.last().expect("one");
            nested.push(w.make_of(0, above, ObjType::Untyped, log2));
        }
        let worker = w.task_of(*nested.last().expect("one"), INIT, 1, 10, true);
        w.resume(&worker);
        w.run();
        nested.push(worker.cap);
        let _ = w.make_of(0, reset_of, ObjType::CNode, n);
        for cap in nested {
            let table = w.make_of(0, reset_of, ObjType::CNode, 4);
            w.must(0, Op::CapMove, &[cap.arg(), Target::new(table, 1).0]);
        }
        let untyped = w.object::<Untyped>(reset_of).expect("it");
        w.does(&worker, Regs::op(Op::UntypedReset, &[reset_of.arg(), 0]));
        while worker.must_restart() && !untyped.get().retried.load(Relaxed) {
            let _ = w.step(1);
        }
        if !worker.must_restart() {
            assert_eq!(worker.regs().error(), Some(Error::InUse));
            continue;
        }
        seen += 1;
        w.hold(Some(1));
        w.begin(0, Regs::op(Op::UntypedReset, &[reset_of.arg(), 0]));
        for _ in 0..100 {
            let _ = w.step(0);
        }
        w.hold(None);
        let outcome = w.finish(0).error();
        if outcome.is_some() {
            bad.push((n, outcome));
        }
    }
    assert!(seen > 0, "never between two passes");
    assert_eq!(bad, [], "of {seen}");
}

/// A reply disposes of a CNode, and its caller gives up before that is empty.
#[test]
fn what_a_reply_has_disposed_of_is_ended_whole_when_its_caller_gives_up() {
    use crate::grants::lists as grants;
    use abi::{FLAG_CAPS, Grant};
    let mut bad = Vec::new();
    for (op, gives_up) in [(Op::Reply, true), (Op::ReplyRecv, true), (Op::ReplyRecv, false)] {
        let Pair { mut w, server, client, object } = Pair::new(true);
        w.does_and_run(&client, Regs::message(Op::Call, Target::new(GROUP, 1), [1; 4]));
        assert!(w.runs(0, &server));
        grants(&server, &[Grant::Move { cap: Cap(20) }]);
        w.does(&server, Regs::message(op, Target(0), [1; 4]).flag(FLAG_CAPS));
        assert!(server.must_restart());
        let _ = w.step(0);
        assert!(server.must_restart() && !object.get().header.has_flag(FLAG_DYING));
        if gives_up {
            w.must(0, Op::TaskCancel, &[client.cap.arg()]);
        }
        w.run();
        if !object.get().header.has_flag(FLAG_DYING) {
            bad.push(format!(
                "{op:?} gives up {gives_up}: server {:?} {:?}",
                server.state(),
                server.regs().error()
            ));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

/// The server of a call ends before what the call carries is disposed of. The same list moves the
/// capability with the next call.
#[test]
fn a_refused_call_leaves_the_list_as_it_was() {
    use crate::grants::{OFFER, listens, lists as grants};
    use abi::{FLAG_CAPS, Grant};
    let mut w = World::new(2);
    let (p, q, r) = (w.process(), w.process(), w.process());
    let (deaf, ear) = (w.start(q, 0, 20), w.start(r, 0, 21));
    let group = w.group(4, 4);
    w.join_all(group, p, GROUP);
    w.expose(group, 1, deaf.cap);
    w.expose(group, 2, ear.cap);
    w.run();
    w.does_and_run(&ear, Regs::op(Op::Recv, &[]));
    w.does_and_run(&deaf, Regs::op(Op::Recv, &[]));
    listens(&deaf, OFFER, 0);
    listens(&ear, OFFER, 1);
    let note = w.make(0, ObjType::Notification, 0);
    w.must(0, Op::CapMove, &[note.arg(), Target::new(p.cnode, 20).0]);
    let client = w.start(p, 0, 10);
    w.run();
    grants(&client, &[Grant::Move { cap: Cap(20) }]);
    let words = || [0, 1].map(|n: usize| client.object.get().utcb(client.pin()).grants[0][n].load(Relaxed));
    let before = words();
    w.does(&client, Regs::message(Op::Call, Target::new(GROUP, 1), [1; 4]).flag(FLAG_CAPS));
    assert!(client.must_restart());
    w.must(0, Op::TaskKill, &[deaf.cap.arg()]);
    w.run();
    assert_eq!(w.result(&client).error(), Some(Error::Dead));
    let after = words();
    // Again, with the same list, to somebody who listens.
    w.does_and_run(&client, Regs::message(Op::Call, Target::new(GROUP, 2), [1; 4]).flag(FLAG_CAPS));
    let arrived = w.must(0, Op::CapInspect, &[Target::new(r.cnode, OFFER.0).0]).rdi != 0;
    assert!(arrived, "the capability did not arrive: {before:x?}, then {after:x?}");
}
