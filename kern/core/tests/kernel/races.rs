//! State that a CPU has read changes before the CPU acts on it: faults that were found by reading
//! the kernel's sources.

use abi::events::Window;
use abi::{Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, Grant, Listening, ObjType, Op, Rights, Target};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::memory::Frame;
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_base::task::{State, Task};
use smp::host_test;

use crate::events::{BITS, LOG2, POOL_VA, Reader, receiver, send};
use crate::grants::lists;
use crate::scene::{GROUP, Scene};
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

/// Steps that another CPU takes in the middle, at most.
const STEPS: usize = 200;

/// The agent of CPU 0 does what `begin` says after it has set the scene. In the middle of that
/// `others` act, and `end` looks: so at every point, with names or without.
fn at_every_point<T>(
    begin: impl Fn(&mut World) -> (Regs, T),
    others: impl Fn(&mut World, &mut T),
    end: impl Fn(&mut World, T, Option<Error>),
) {
    for at in 0.. {
        let mut w = World::new(3);
        let (own, mut things) = begin(&mut w);
        let mut points = 0..;
        let torn = w.torn_where(0, own, move |_| points.next() == Some(at), |w| others(w, &mut things));
        let outcome = w.finish(0).error();
        if !torn {
            assert!(at > 0, "there is no such point");
            return;
        }
        for n in 1..3 {
            if w.agent(n).state() != State::WaitBits {
                w.finish(n);
            }
        }
        end(&mut w, things, outcome);
    }
}

/// The agent of another CPU makes a system call in the middle. Returns whether it has come to its
/// end there, without error.
fn does(w: &mut World, n: usize, args: Regs) -> bool {
    answers(w, n, args).is_some()
}

/// What it is answered, if it is done.
fn answers(w: &mut World, n: usize, args: Regs) -> Option<Regs> {
    w.begin(n, args);
    let _ = (0..STEPS).all(|_| w.step(n));
    if !w.is_over(n) {
        return None;
    }
    let answer = w.agent(n).regs();
    w.dismiss(n);
    answer.result().ok()
}

/// Waits until all slots that are empty by now can be filled again, also that of a pool's reader:
/// with copies of a capability.
fn waits_for_slots(w: &mut World, of: Cap) {
    w.summon(1);
    w.issue(1, Regs::op(Op::Null, &[]));
    let to = w.slot();
    for op in [Op::CapCopy, Op::CapDelete, Op::CapCopy] {
        let args = if op == Op::CapCopy { vec![of.arg(), at(to), 0, 0] } else { vec![at(to)] };
        w.must(0, op, &args);
    }
    w.finish(1);
}

/// Copies a capability of process 1 to another slot there.
fn copy(w: &mut World, of: Cap, rights: Rights) -> Cap {
    let to = w.slot();
    w.must(0, Op::CapCopy, &[of.arg(), at(to), u64::from(rights.0), 0]);
    to
}

/// A process that ends while another CPU is about to give it a task: the task is refused, and stays
/// what it was.
#[test]
fn a_task_that_a_dying_process_does_not_get_lives() {
    let begin = |w: &mut World| {
        let (process, other) = (w.process(), w.process());
        let task = w.make(0, ObjType::Task, 0);
        let configure =
            |of: Proc| Regs::op(Op::TaskConfigure, &[CONTROL, task.arg(), of.process.arg(), 0x6000_0000, 0]);
        (configure(process), (task, process, configure(other)))
    };
    let others = |w: &mut World, (_, process, _): &mut (Cap, Proc, Regs)| {
        does(w, 1, Regs::op(Op::ProcessKill, &[process.process.arg()]));
    };
    at_every_point(begin, others, |w, (task, _, again), outcome| {
        if outcome.is_some() {
            let object = w.object::<Task>(task).expect("the task");
            assert!(!object.get().header.has_flag(FLAG_DEAD), "{outcome:?}");
            assert_eq!(w.call(0, again).error(), None);
        }
    });
}

/// Ends the process by a fault of another task.
#[test]
fn a_task_that_a_torn_down_process_does_not_get_lives() {
    let begin = |w: &mut World| {
        let (process, other) = (w.process(), w.process());
        w.start(process, 1, 10);
        let task = w.make(0, ObjType::Task, 0);
        let configure =
            |of: Proc| Regs::op(Op::TaskConfigure, &[CONTROL, task.arg(), of.process.arg(), 0x6000_0000, 0]);
        (configure(process), (task, process, configure(other)))
    };
    let others = |w: &mut World, _: &mut (Cap, Proc, Regs)| {
        w.fault(1, 0x1000);
        let _ = (0..STEPS).all(|_| w.step(1));
    };
    at_every_point(begin, others, |w, (task, process, again), outcome| {
        w.run();
        let object = w.object::<Task>(task).expect("the task");
        if outcome.is_some() {
            assert!(!object.get().header.has_flag(FLAG_DEAD), "{outcome:?}");
            assert_eq!(w.call(0, again).error(), None);
        } else {
            assert!(object.get().header.has_flag(FLAG_DEAD), "it was a task of a process that ended");
        }
        let process = w.object::<Process>(process.process).expect("the process");
        assert!(process.get().tasks.iter(host_test::pin(0)).all(|number| number.get().task.is_null()));
    });
}

/// How many members a group has.
fn members(w: &World, group: Cap) -> u32 {
    w.object::<Group>(group).expect("the group").get().count.load(Relaxed)
}

const MEMBER: Cap = Cap(900);
const ACCEPTED: u64 = 5;

/// A former member adds no process.
#[test]
fn a_member_that_was_removed_adds_nobody() {
    let begin = |w: &mut World| {
        let (group, other) = (w.group(4, 2), w.process());
        let index = w.join(group, INIT, MEMBER, Rights::ADD, 0);
        w.must(0, Op::ProcessAccept, &[other.process.arg(), ACCEPTED, group.arg()]);
        let add = Regs::op(Op::GroupAdd, &[MEMBER.arg(), other.process.arg(), u64::from(Rights::ADD.0), 0]);
        (add, (group, index, None))
    };
    let others = |w: &mut World, (group, index, left): &mut (Cap, u64, Option<u32>)| {
        let removed = does(w, 1, Regs::op(Op::GroupRemove, &[Target::new(*group, *index as u32).0]));
        *left = removed.then(|| members(w, *group));
    };
    at_every_point(begin, others, |w, (group, _, left), outcome| {
        assert!(left.is_none_or(|left| members(w, group) == left), "{left:?}, then {outcome:?}");
    });
}

/// A process that has withdrawn its consent joins nothing; a process that has given it again after
/// its use keeps it.
#[test]
fn consent_counts_when_a_process_joins() {
    let consent = |w: &World, of: Proc| {
        let process = w.object::<Process>(of.process).expect("the process");
        u64::from(process.get().offer.get().slot)
    };
    for next in [0, ACCEPTED] {
        let begin = |w: &mut World| {
            let (group, other) = (w.group(4, 2), w.process());
            w.must(0, Op::ProcessAccept, &[other.process.arg(), ACCEPTED, group.arg()]);
            let rights = u64::from(Rights::SEND.0);
            (Regs::op(Op::GroupAdd, &[group.arg(), other.process.arg(), rights, 0]), (group, other, None))
        };
        let others = |w: &mut World, (group, other, before): &mut (Cap, Proc, Option<u64>)| {
            let accept = Regs::op(Op::ProcessAccept, &[other.process.arg(), next, group.arg()]);
            *before = answers(w, 1, accept).map(|regs| regs.rdi);
        };
        at_every_point(begin, others, |w, (group, other, before), outcome| match before {
            Some(ACCEPTED) if next == 0 => {
                assert_eq!((members(w, group), outcome), (0, Some(Error::NoConsent)), "it was withdrawn");
            }
            Some(0) if next != 0 => assert_eq!(consent(w, other), next, "it was given for the next group"),
            _ => {}
        });
    }
}

/// A former member exposes nothing.
#[test]
fn a_member_that_was_removed_exposes_nothing() {
    const INDEX: u32 = 1;
    let is_exposed = |w: &World, group: Cap| {
        let group = w.object::<Group>(group).expect("the group").get();
        let pin = host_test::pin(0);
        let entry = group.exposures.known().get(pin, INDEX as usize).expect("the entry");
        entry.get().slot.word.load(pin).object_type() != 0
    };
    let begin = |w: &mut World| {
        let (group, note) = (w.group(4, 2), w.make(0, ObjType::Notification, 0));
        let index = w.join(group, INIT, MEMBER, Rights::LISTEN, 0);
        let expose = Regs::op(Op::Expose, &[Target::new(MEMBER, INDEX).0, note.arg(), 0]);
        (expose, (group, index, None))
    };
    let others = |w: &mut World, (group, index, there): &mut (Cap, u64, Option<bool>)| {
        let removed = does(w, 1, Regs::op(Op::GroupRemove, &[Target::new(*group, *index as u32).0]));
        *there = removed.then(|| is_exposed(w, *group));
    };
    at_every_point(begin, others, |w, (group, _, there), outcome| {
        assert!(there != Some(false) || !is_exposed(w, group), "{outcome:?}");
    });
}

/// An exposure with one task per CPU is taken back while its process exposes another task there:
/// that one is exposed afterwards, as its entry, or behind the index, too.
#[test]
fn a_task_that_is_exposed_while_its_exposure_is_taken_back_stays() {
    const INDEX: u32 = 8;
    let how = [INDEX as u64, 1 | 10 << 32];
    let begin = |w: &mut World| {
        let group = w.group(4, 16);
        w.must(0, Op::Expose, &[Target::new(group, INDEX).0, w.agent(0).cap.arg(), how[1]]);
        let own = copy(w, group, Rights::LISTEN | Rights::DELETE);
        let process = w.process();
        let task = w.start(process, 1, 10);
        (Regs::op(Op::Withdraw, &[Target::new(own, INDEX).0]), (group, task, false))
    };
    let others = |w: &mut World, (group, task, exposed): &mut (Cap, Tcb, bool)| {
        let args = [Target::new(*group, INDEX).0, task.cap.arg(), how[1]];
        *exposed = does(w, 2, Regs::op(Op::Expose, &args));
    };
    at_every_point(begin, others, |w, (group, task, exposed), outcome| {
        let object = w.object::<Group>(group).expect("the group").get();
        let entry = object.exposures.known().get(host_test::pin(1), 11);
        let found = entry.and_then(|entry| entry.get().slot.word.load(host_test::pin(1)).get::<Task>());
        assert!(!exposed || found == Some(task.object), "{outcome:?}");
    });
}

/// Two end a process, and its pool serves another one by the time that the slower one looks for it.
#[test]
fn a_pool_that_has_another_process_by_now_stays_with_it() {
    let begin = |w: &mut World| {
        let (process, next) = (w.process(), w.process());
        let [old, new] = [process, next].map(|of| w.start(of, 1, 10));
        let pool = w.make(0, ObjType::EventPool, u64::from(LOG2));
        let bind = |of: Proc, by: Cap| {
            Regs::op(Op::PoolBind, &[pool.arg(), of.process.arg(), by.arg(), POOL_VA, BITS])
        };
        assert_eq!(w.call(0, bind(process, old.cap)).error(), None);
        w.must(0, Op::CapRevoke, &[at(old.cap)]);
        waits_for_slots(w, pool);
        w.must(0, Op::TaskKill, &[old.cap.arg()]);
        w.run();
        let kill = Regs::op(Op::ProcessKill, &[process.process.arg()]);
        (kill, (kill, bind(next, new.cap), next, pool, false))
    };
    type Things = (Regs, Regs, Proc, Cap, bool);
    let others = |w: &mut World, (kill, bind, _, _, begun): &mut Things| {
        *begun = does(w, 2, *kill);
        if *begun {
            // It waits until nobody can come with the old process's pool any more.
            does(w, 2, *bind);
        }
    };
    at_every_point(begin, others, |w, (_, _, next, pool, begun), outcome| {
        assert!(!begun || has_pool(w, next, pool), "{outcome:?}");
    });
}

/// Whether a process and an event pool have each other.
fn has_pool(w: &World, process: Proc, pool: Cap) -> bool {
    let process = w.object::<Process>(process.process).expect("the process");
    let pool = w.object::<EventPool>(pool).expect("the pool");
    process.get().pool.is(pool) && pool.get().process.is(process)
}

/// A table that comes into the caller's own CSpace while another of its tasks deletes it does not
/// end, and serves on.
#[test]
fn a_table_that_does_not_end_takes_capabilities() {
    let begin = |w: &mut World| {
        let (table, note) = (w.make(0, ObjType::CNode, 8), w.make(0, ObjType::Notification, 0));
        (Regs::op(Op::CapDelete, &[at(table)]), (table, note))
    };
    let others = |w: &mut World, (table, _): &mut (Cap, Cap)| {
        does(w, 1, Regs::op(Op::CSpaceGrow, &[INIT.process.arg(), table.arg()]));
    };
    at_every_point(begin, others, |w, (table, note), outcome| {
        if outcome.is_some() {
            let to = Target::new(table, 3).0;
            assert_eq!(outcome, Some(Error::InUse));
            assert!(w.ask(0, Op::CapCopy, &[note.arg(), to, 0, 0]).is_ok(), "it is part of a CSpace");
        }
    });
}

/// Senders wait for room in a pool whose reader is none any more, since the capability goes by
/// which it is: they are told.
#[test]
fn who_waits_for_room_is_told_when_the_pool_has_no_reader() {
    for sender_cpu in [0, 1] {
        let mut s = Scene::new(2);
        let (_, task, target, reader) = receiver(&mut s, 0);
        let sender = fills(&mut s, sender_cpu, target);
        let pool = s.w.object::<EventPool>(reader.cap).expect("the pool");
        s.w.must(0, Op::CapRevoke, &[at(task.cap)]);
        s.w.run();
        assert_eq!(pool.get().reader.word.load(host_test::pin(0)).object_type(), 0);
        assert_eq!(s.w.result(&sender).error(), Some(Error::Gone), "nobody else would tell it");
    }
}

/// A task on a CPU that sends events until there is no room, and waits for some.
fn fills(s: &mut Scene, n: usize, target: Target) -> Tcb {
    let (sender, _) = s.running(n, 10);
    loop {
        s.w.does_and_run(&sender, send(target, 1));
        if !sender.is_through() {
            return sender;
        }
    }
}

/// A pool for whose room somebody waited when its process ended is open for the next one.
#[test]
fn a_pool_is_open_for_its_next_process() {
    let mut s = Scene::new(2);
    let (process, task, target, mut reader) = receiver(&mut s, 0);
    let sender = fills(&mut s, 1, target);
    s.w.must(0, Op::CapRevoke, &[at(task.cap)]);
    s.w.must(0, Op::ProcessKill, &[process.process.arg()]);
    s.w.run();
    assert!(sender.is_through());
    let next = s.w.process();
    let task = s.w.start(next, 0, 20);
    let args = [reader.cap.arg(), next.process.arg(), task.cap.arg(), POOL_VA, BITS];
    s.w.must(0, Op::PoolBind, &args);
    let group = s.group;
    s.w.expose(group, 9, task.cap);
    assert!(!reader.registers().is_empty());
    s.w.does_and_run(&sender, send(Target::new(GROUP, 9), 2).flag(FLAG_NONBLOCK));
    assert_eq!(s.w.result(&sender).error(), None);
    assert_eq!(reader.registers(), [2]);
}

/// A former member, or a process whose capability is gone, removes no member.
#[test]
fn who_has_lost_the_right_removes_nobody() {
    for revokes in [false, true] {
        let begin = |w: &mut World| {
            let (group, other) = (w.group(4, 2), w.process());
            let index = w.join(group, INIT, MEMBER, Rights::REMOVE, 0);
            let victim = w.join(group, other, Cap(6), Rights::SEND, 0);
            let remove = |by: Cap, index: u64| Regs::op(Op::GroupRemove, &[Target::new(by, index as u32).0]);
            let take = if revokes { Regs::op(Op::CapRevoke, &[at(group)]) } else { remove(group, index) };
            (remove(MEMBER, victim), (group, take, None))
        };
        let others = |w: &mut World, (group, take, left): &mut (Cap, Regs, Option<u32>)| {
            *left = does(w, 1, *take).then(|| members(w, *group));
        };
        at_every_point(begin, others, |w, (group, _, left), outcome| {
            assert!(left.is_none_or(|left| members(w, group) == left), "{left:?}, then {outcome:?}");
        });
    }
}

/// A capability that was revoked pins nothing, and unpins nothing.
#[test]
fn who_has_lost_a_frame_pins_it_no_more() {
    for pinned in [0, 1] {
        let pins = |w: &World, frame: Cap| w.object::<Frame>(frame).expect("the frame").get().pins();
        let begin = |w: &mut World| {
            let frame = w.make(0, ObjType::Frame, 12);
            let own = copy(w, frame, Rights::ALL);
            let pin = Regs::op(Op::FramePin, &[own.arg(), abi::INIT_MACHINE.arg()]);
            if pinned == 0 {
                return (pin, (frame, None));
            }
            assert_eq!(w.call(0, pin).error(), None);
            (Regs::op(Op::FrameUnpin, &[own.arg(), abi::INIT_MACHINE.arg()]), (frame, None))
        };
        let others = |w: &mut World, (frame, left): &mut (Cap, Option<u32>)| {
            *left = does(w, 1, Regs::op(Op::CapRevoke, &[at(*frame)])).then(|| pins(w, *frame));
        };
        at_every_point(begin, others, |w, (frame, left), outcome| {
            assert!(left.is_none_or(|left| pins(w, frame) == left), "{left:?}, then {outcome:?}");
        });
    }
}

/// A pool that its own reader may not delete, since that would end the reader, serves on.
#[test]
fn a_pool_whose_end_is_refused_serves_on() {
    let mut w = World::new(2);
    let agent = w.agent(1);
    let pool = w.make(0, ObjType::EventPool, u64::from(LOG2));
    w.must(0, Op::PoolBind, &[pool.arg(), INIT.process.arg(), agent.cap.arg(), POOL_VA, BITS]);
    w.must(0, Op::CapDelete, &[at(agent.cap)]);
    assert_eq!(w.call(1, Regs::op(Op::CapDelete, &[at(pool)])).error(), Some(Error::InUse));
    let object = w.object::<EventPool>(pool).expect("the pool").get();
    assert!(!object.header.has_flag(FLAG_DYING) && object.process.is(w.init_process()));
    // Another task ends it, and the reader with it.
    w.must(0, Op::CapDelete, &[at(pool)]);
    assert!(w.object::<EventPool>(pool).is_none() && agent.object.get().header.has_flag(FLAG_DEAD));
}

/// What is on its way to a process that ends does not come to the next one that gets its spaces.
#[test]
fn what_was_sent_to_a_process_does_not_come_to_the_next_one_in_its_spaces() {
    const OFFERED: Cap = Cap(20);
    const WAY: Cap = Cap(901);
    type Things = (Proc, Regs, Regs, Option<bool>);
    let is_there = |w: &World, of: Proc| {
        let cnode = w.object::<CNode>(of.cnode).expect("the CNode").get();
        let slot = cnode.slots.known().get(host_test::pin(0), OFFERED.0 as usize).expect("the slot");
        slot.get().word.load(host_test::pin(0)).object_type() != 0
    };
    let begin = |w: &mut World| {
        let process = w.process();
        let task = w.start(process, 2, 20);
        let group = w.group(4, 4);
        w.join_all(group, INIT, WAY);
        w.expose(group, 1, task.cap);
        let reader = Reader::bind(w, process, &task);
        reader.offers(Listening { next: OFFERED, count: 1 }, Window { address: 0, pages: 0 });
        let note = w.make(0, ObjType::Notification, 0);
        lists(&w.agent(0), &[Grant::Move { cap: note }]);
        let next = w.make(0, ObjType::Process, 4);
        let kill = Regs::op(Op::ProcessKill, &[process.process.arg()]);
        let args = [next.arg(), process.cnode.arg(), process.vspace.arg(), 0];
        let send = Regs::message(Op::Send, Target::new(WAY, 1), [1; 4]).flag(FLAG_CAPS);
        (send, (process, kill, Regs::op(Op::ProcessConfigure, &args), None))
    };
    let others = |w: &mut World, (process, kill, configure, there): &mut Things| {
        let done = does(w, 2, *kill) && does(w, 2, *configure);
        *there = done.then(|| is_there(w, *process));
    };
    at_every_point(begin, others, |w, (process, _, _, there), outcome| {
        assert!(there != Some(false) || !is_there(w, process), "{outcome:?}");
    });
}

/// What is sent to a process that ends does not come to the next one that gets its pool.
#[test]
fn what_was_sent_to_a_process_does_not_come_to_the_next_one_with_its_pool() {
    const WAY: Cap = Cap(901);
    type Things = (Proc, Cap, [Regs; 2], bool, Option<u64>);
    let position =
        |w: &World, pool: Cap| w.object::<EventPool>(pool).expect("the pool").get().reserved.position();
    let begin = |w: &mut World| {
        let (process, next) = (w.process(), w.process());
        let [old, new] = [process, next].map(|of| w.start(of, 2, 20));
        let pool = Reader::bind(w, process, &old).cap;
        w.must(0, Op::CapRevoke, &[at(old.cap)]);
        let group = w.group(4, 4);
        w.join_all(group, INIT, WAY);
        w.expose(group, 1, old.cap);
        waits_for_slots(w, group);
        let kill = Regs::op(Op::ProcessKill, &[process.process.arg()]);
        let args = [pool.arg(), next.process.arg(), new.cap.arg(), POOL_VA, BITS];
        let send = Regs::message(Op::Send, Target::new(WAY, 1), [1; 4]);
        (send, (next, pool, [kill, Regs::op(Op::PoolBind, &args)], false, None))
    };
    let others = |w: &mut World, (_, pool, [kill, bind], begun, found): &mut Things| {
        *begun = does(w, 2, *kill);
        let done = *begun && does(w, 2, *bind);
        *found = done.then(|| position(w, *pool));
    };
    at_every_point(begin, others, |w, (next, pool, _, begun, found), outcome| {
        assert!(found.is_none_or(|found| found == position(w, pool)), "{outcome:?}");
        assert!(!begun || has_pool(w, next, pool), "{outcome:?}");
    });
}

#[test]
fn a_delete_of_an_empty_slot_does_not_begin_to_end_what_comes_into_it() {
    let begin = |w: &mut World| {
        let slot = w.slot();
        (Regs::op(Op::CapDelete, &[at(slot)]), slot)
    };
    let others = |w: &mut World, slot: &mut Cap| {
        let notification = Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32);
        let _ = does(w, 1, Regs::op(Op::Retype, &[notification.0, 0, at(*slot), 1]));
    };
    at_every_point(begin, others, |w, slot, outcome| {
        assert_eq!(outcome, None);
        let there = w.object::<Notification>(slot);
        assert!(there.is_none_or(|there| !there.get().header.has_flag(FLAG_DYING)), "half ended");
    });
}
