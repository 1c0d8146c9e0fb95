//! System calls in the middle of which other CPUs act: at each point in turn, each time in a new
//! world.

use abi::events::Window;
use abi::{Cap, Error, FLAG_CAPS, Grant, Listening, ObjType, Op, Rights, Target};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::group::Group;
use kern_base::memory::Untyped;
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_base::task::{LABEL_MASK, LABEL_SHIFT, Task};
use smp::chaos::Point;

use crate::events::Reader;
use crate::grants::lists;
use crate::scene::Scene;
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, World};

/// Steps that the other CPU takes in the middle, at most.
const STEPS: usize = 100;

/// The agent of CPU 0 does what `begin` says after it has set the scene, and in the middle of that
/// the agent of CPU 1 does what the other part says; both come to their end, and then `end` looks.
/// So at every point that has a name.
fn at_named_points<T>(
    begin: impl Fn(&mut World) -> (Regs, Regs, T),
    end: impl Fn(&mut World, T, Option<Error>),
) {
    in_steps(STEPS, begin, end);
}

/// Runs an operation while the other CPU takes only that many steps in the middle.
fn in_steps<T>(
    steps: usize,
    begin: impl Fn(&mut World) -> (Regs, Regs, T),
    end: impl Fn(&mut World, T, Option<Error>),
) {
    for at in 0.. {
        let mut w = Scene::new(2).w;
        let (own, others, things) = begin(&mut w);
        let torn = w.torn(0, own, at, |w| {
            w.begin(1, others);
            // It may begin again and again until the other is done.
            let _ = (0..steps).all(|_| w.step(1));
        });
        let outcome = w.finish(0).error();
        if !torn {
            assert!(at > 0, "there is no such point");
            return;
        }
        w.finish(1);
        end(&mut w, things, outcome);
    }
}

/// The parts of a process that are not put together yet.
fn parts(w: &mut World) -> Proc {
    let process = w.make(0, ObjType::Process, 1);
    Proc { process, cnode: w.make(0, ObjType::CNode, 8), vspace: w.make(0, ObjType::VSpace, 4) }
}

fn configure(of: Proc) -> Regs {
    Regs::op(Op::ProcessConfigure, &[of.process.arg(), of.cnode.arg(), of.vspace.arg(), 0])
}

fn delete(cap: Cap) -> Regs {
    Regs::op(Op::CapDelete, &[at(cap)])
}

#[test]
fn a_cnode_stays_with_its_process_whatever_others_try() {
    let begin = |w: &mut World| {
        let (owner, other) = (w.process(), parts(w));
        let wrong = Proc { cnode: owner.cnode, ..other };
        (configure(wrong), delete(other.process), owner)
    };
    at_named_points(begin, |w, owner, _| {
        let process = w.object::<Process>(owner.process).expect("the process");
        let cnode = w.object::<CNode>(owner.cnode).expect("its CNode");
        assert!(process.get().cnode.is(cnode) && cnode.get().process.is(process));
    });
}

#[test]
fn a_process_is_whole_or_none_when_a_part_of_it_ends() {
    for part in 0..3 {
        let begin = |w: &mut World| {
            let new = parts(w);
            (configure(new), delete([new.process, new.cnode, new.vspace][part]), new)
        };
        // The check after every entry looks whether all that is left fits.
        at_named_points(begin, |w, new, _| {
            let process = w.object::<Process>(new.process);
            assert!(process.is_none_or(|p| p.get().cnode.is_null() && p.get().vspace.is_null()));
            // The remaining parts serve others.
            let mut next = parts(w);
            next.cnode = if part == 1 { next.cnode } else { new.cnode };
            next.vspace = if part == 2 { next.vspace } else { new.vspace };
            assert_eq!(w.call(0, configure(next)).error(), None);
        });
    }
}

#[test]
fn a_table_is_added_or_not_when_a_part_of_its_process_ends() {
    for part in 0..3 {
        let begin = |w: &mut World| {
            let (process, table) = (w.process(), w.make(0, ObjType::CNode, 8));
            let own = Regs::op(Op::CSpaceGrow, &[process.process.arg(), table.arg()]);
            (own, delete([process.process, process.cnode, table][part]), table)
        };
        at_named_points(begin, |w, table, _| {
            if part != 2 {
                let other = w.process();
                assert!(w.ask(0, Op::CSpaceGrow, &[other.process.arg(), table.arg()]).is_ok());
            }
        });
    }
}

/// Label of what is labelled.
const LABEL: u32 = 5;

#[test]
fn the_parts_of_a_process_have_one_label_also_when_it_gets_them_just_then() {
    for grows in [false, true] {
        let begin = |w: &mut World| {
            let (mut new, table) = (parts(w), w.make(0, ObjType::CNode, 8));
            if grows {
                new = w.process();
            }
            let own = Regs::op(Op::CSpaceGrow, &[new.process.arg(), table.arg()]);
            let label = [abi::INIT_MACHINE.arg(), new.process.arg(), u64::from(LABEL)];
            let own = if grows { own } else { configure(new) };
            (own, Regs::op(Op::LabelSet, &label), (new, table))
        };
        at_named_points(begin, |w, (new, table), _| {
            let process = w.object::<Process>(new.process).expect("the process").get();
            assert_eq!(process.header.label(), LABEL);
            let pin = smp::host_test::pin(0);
            if let Some(cnode) = process.cnode.get(pin) {
                assert!(
                    CNode::tables(cnode, w.look(0).pin()).all(|table| table.get().header.label() == LABEL)
                );
            }
            if let Some(space) = process.vspace.get(pin) {
                assert_eq!(space.get().header.label(), LABEL);
            }
            let table = w.object::<CNode>(table).expect("the table").get();
            assert!(!grows || table.process.is_null() || table.header.label() == LABEL);
        });
    }
}

#[test]
fn new_objects_are_there_or_their_slots_are_free_when_the_capability_of_the_table_goes() {
    for alias in [false, true] {
        let begin = |w: &mut World| {
            let table = w.make(0, ObjType::CNode, 8);
            let from = Target::new(abi::INIT_UNTYPED, ObjType::SchedContext as u32).0;
            let by = if alias { w.slot() } else { table };
            if alias {
                w.must(0, Op::CapCopy, &[table.arg(), at(by), u64::from(Rights::ALL.0), 0]);
            }
            (Regs::op(Op::Retype, &[from, 0, Target::new(by, 3).0, 3]), delete(by), table)
        };
        // The check after every entry sees what is claimed.
        at_named_points(begin, |w, table, _| {
            let held = (3..6).filter(|n| w.must(0, Op::CapInspect, &[Target::new(table, *n).0]).rdi != 0);
            assert!(!alias || [0, 3].contains(&held.count()));
        });
    }
}

#[test]
fn memory_does_not_start_again_while_its_capability_moves() {
    let begin = |w: &mut World| {
        let memory = w.make(0, ObjType::Untyped, 13);
        let note = w.make_of(1, memory, ObjType::Notification, 0);
        let to = w.slot();
        (
            Regs::op(Op::UntypedReset, &[memory.arg()]),
            Regs::op(Op::CapMove, &[memory.arg(), at(to)]),
            ([memory, to], note),
        )
    };
    // The check after every entry looks at what waits to start again.
    at_named_points(begin, |w, (places, note), _| {
        let memory = places.into_iter().find(|cap| w.object::<Untyped>(*cap).is_some()).expect("the memory");
        assert!(w.ask(0, Op::UntypedReset, &[memory.arg()]).is_ok());
        assert!(w.object::<Notification>(note).is_none());
        w.make_of(0, memory, ObjType::Notification, 0);
    });
}

#[test]
fn a_revoke_goes_no_further_than_what_descends_from_a_capability_that_is_deleted() {
    /// More than one entry lets a leaving slot pass.
    const CHILDREN: usize = 100;
    let begin = |w: &mut World| {
        let parent = w.make(0, ObjType::Notification, 0);
        let mut copy = |of: Cap| {
            let to = w.slot();
            w.must(0, Op::CapCopy, &[of.arg(), at(to), u64::from(Rights::GRANT.0), 0]);
            to
        };
        // What is derived last stands first: the elder right before the one that is revoked and
        // deleted.
        let top = copy(parent);
        let elder = copy(parent);
        (1..CHILDREN).for_each(|_| _ = copy(top));
        let child = copy(top);
        let _ = [copy(child), copy(child)];
        (Regs::op(Op::CapRevoke, &[at(top)]), delete(top), [parent, elder])
    };
    in_steps(0, begin, |w, kept, _| {
        assert!(kept.iter().all(|cap| w.object::<Notification>(*cap).is_some()));
    });
}

#[test]
fn who_waits_for_an_epoch_that_another_cpus_round_has_just_brought_goes_on() {
    for at_point in 0.. {
        let mut w = Scene::new(2).w;
        let note = w.make(0, ObjType::Notification, 0);
        let emptied = [w.slot(), w.slot()];
        for to in emptied {
            w.must(0, Op::CapCopy, &[note.arg(), at(to), 0, 0]);
        }
        let _ = emptied.map(|slot| w.must(0, Op::CapDelete, &[at(slot)]));
        let [own, others] = emptied.map(|to| Regs::op(Op::CapCopy, &[note.arg(), at(to), 0, 0]));
        // The second round of CPU 1 is answered, which CPU 1 has not seen yet.
        let before = w.k.cpus.epoch.now();
        // It runs, so it has to be asked.
        w.begin(0, Regs::op(Op::Null, &[]));
        w.begin(1, others);
        while w.k.cpus.epoch.now() == before {
            let _ = (w.step(0), w.step(1));
        }
        while w.step(0) {}
        assert_eq!(w.k.cpus.epoch.now(), before + 1);
        let torn = w.torn(0, own, at_point, |w| while w.step(1) {});
        assert_eq!(w.finish(0).error(), None);
        if !torn {
            assert!(at_point > 0, "there is no such point");
            return;
        }
    }
}

/// A process of CPU 1 with a pool, which offers slots, and whose reader process 1 can reach with
/// capabilities: it, and where the reader is.
fn listener(w: &mut World) -> (Proc, Target) {
    const GROUP: Cap = Cap(60);
    let process = w.process();
    let task = w.start(process, 1, 20);
    let group = w.group(4, 16);
    w.join_all(group, INIT, GROUP);
    w.expose(group, 1, task.cap);
    let reader = Reader::bind(w, process, &task);
    reader.offers(Listening { next: Cap(20), count: 4 }, Window { address: 0, pages: 0 });
    task.object.get().utcb(task.pin()).listening.store(Listening { next: Cap(20), count: 4 }.word(), Relaxed);
    w.run();
    (process, Target::new(GROUP, 1))
}

#[test]
fn what_was_to_move_to_a_process_that_ends_goes_there_or_stays() {
    for kills in [false, true] {
        let begin = |w: &mut World| {
            let (process, target) = listener(w);
            let note = w.make(0, ObjType::Notification, 0);
            lists(&w.agent(0), &[Grant::Move { cap: note }]);
            let sends = Regs::message(Op::Send, target, [1; 4]).flag(FLAG_CAPS);
            let kill = Regs::op(Op::ProcessKill, &[process.process.arg()]);
            (sends, if kills { kill } else { delete(process.cnode) }, note)
        };
        at_named_points(begin, |w, note, outcome| {
            let stays = w.object::<Notification>(note).is_some();
            assert_eq!(stays, outcome.is_some(), "{outcome:?}");
        });
    }
}

/// A member that adds with rights that it lacks is told so, or that it has no capability: also
/// where that goes meanwhile, and the slot's word is none.
#[test]
fn a_member_whose_capability_goes_as_it_adds_has_no_more_rights() {
    const ADDER: Cap = Cap(900);
    const REFILLED: Cap = Cap(901);
    // An emptied slot has the epoch, in which any bit can look like a right.
    for rounds in 0..10 {
        let begin = |w: &mut World| {
            let (group, other) = (w.group(4, 2), w.process());
            w.join(group, INIT, ADDER, Rights::ADD, 0);
            w.must(0, Op::ProcessAccept, &[other.process.arg(), 5, group.arg()]);
            for _ in 0..rounds {
                w.must(0, Op::CapCopy, &[group.arg(), at(REFILLED), 0, 0]);
                w.must(0, Op::CapDelete, &[at(REFILLED)]);
            }
            let more = u64::from((Rights::ADD | Rights::REMOVE).0);
            (Regs::op(Op::GroupAdd, &[ADDER.arg(), other.process.arg(), more, 0]), delete(ADDER), ())
        };
        at_named_points(begin, |_, (), outcome| {
            assert!(matches!(outcome, Some(Error::Amplifies | Error::NoCapability)), "{outcome:?}");
        });
    }
}

/// Two tasks delete a group that exposes one of them by its last capability. That one is refused,
/// and the group serves on for it: what it exposes in the middle of the other's delete goes with
/// the group.
#[test]
fn a_group_that_serves_on_for_one_ends_whole_for_another() {
    let mut exposed = 0;
    for at_point in 0.. {
        let mut w = World::new(2);
        let group = w.group(4, 8);
        let notes = [0; 3].map(|_| w.make(0, ObjType::Notification, 0));
        let agent = w.agent(1).cap;
        for (index, object) in (1..).step_by(2).zip([notes[0], agent, notes[1]]) {
            w.expose(group, index, object);
        }
        w.must(0, Op::CapDelete, &[at(agent)]);
        let over = |w: &mut World| {
            let _ = (0..STEPS).all(|_| w.step(1));
            w.is_over(1) && w.agent(1).regs().error() != Some(Error::NoCapability)
        };
        let mut points = 0..;
        // Once it is sent for, CPU 1's agent makes no system call any more.
        let here = move |point| point == Point::SlotRead && points.next() == Some(at_point);
        let torn = w.torn_where(0, delete(group), here, |w| {
            w.begin(1, delete(group));
            if !over(w) {
                return;
            }
            assert_eq!(w.agent(1).regs().error(), Some(Error::InUse));
            w.issue(1, Regs::op(Op::Expose, &[Target::new(group, 0).0, notes[2].arg(), 0]));
            if over(w) && w.agent(1).regs().error().is_none() {
                exposed += 1;
            }
        });
        assert_eq!(w.finish(0).error(), None);
        for note in notes {
            let note = w.object::<Notification>(note).expect("it is not the group's");
            assert_eq!(note.get().header.refs(), 1, "what was exposed is not any more");
        }
        if !torn {
            assert!(exposed > 0, "nothing was exposed in the middle");
            return;
        }
    }
}

/// An exposure is taken back once, and one of the two has done it.
#[test]
fn of_two_who_take_an_exposure_back_one_finds_none() {
    const INDEX: u32 = 2;
    for at_point in 0.. {
        let mut w = World::new(2);
        let (group, note) = (w.group(4, 4), w.make(0, ObjType::Notification, 0));
        w.expose(group, INDEX, note);
        let withdraw = Regs::op(Op::Withdraw, &[Target::new(group, INDEX).0]);
        let torn = w.torn(0, withdraw, at_point, |w| {
            w.begin(1, withdraw);
            let _ = (0..STEPS).all(|_| w.step(1));
        });
        if !torn {
            assert!(at_point > 0, "there is no such point");
            return;
        }
        let outcomes = [0, 1].map(|n| w.finish(n).error());
        let missing = Some(Error::NoExposure);
        assert!([[None, missing], [missing, None]].contains(&outcomes), "{outcomes:?} at point {at_point}");
    }
}

/// Two that expose a task each, as their CPUs' in one exposure: how, and what is expected of both.
fn two_expose(hows: [(u32, u64); 2], expected: impl Fn([Option<Error>; 2]) -> bool) {
    for at_point in 0.. {
        let mut s = Scene::new(2);
        let tasks = [0, 1].map(|n| s.w.start(s.process, n, 10));
        s.w.run();
        let group = s.group;
        let expose = [0, 1].map(|n: usize| {
            let (index, how) = hows[n];
            Regs::op(Op::Expose, &[Target::new(group, index).0, tasks[n].cap.arg(), how])
        });
        let torn = s.w.torn(0, expose[0], at_point, |w| {
            w.begin(1, expose[1]);
            let _ = (0..STEPS).all(|_| w.step(1));
        });
        if !torn {
            assert!(at_point > 0, "there is no such point");
            return;
        }
        let outcomes = [0, 1].map(|n| s.w.finish(n).error());
        assert!(expected(outcomes), "{outcomes:?} at point {at_point}");
        // Who was refused has lost nothing, and nobody calls the other's task for it.
        for n in 0..2 {
            let object = tasks[n].object.get();
            assert_eq!(object.header.refs(), 1 + u32::from(outcomes[n].is_none()), "task {n} at {at_point}");
        }
        let exposed = |n: usize| {
            let object = s.w.object::<Group>(group)?;
            s.w.look(n).caps().exposed(object.get(), 8).ok()?.1.get::<Task>()
        };
        for n in 0..2 {
            let own = hows[n].1 != 0 && outcomes[n].is_none();
            assert!(!own || exposed(n) == Some(tasks[n].object), "task {n} at {at_point}");
        }
    }
}

/// An exposure with one task per CPU, whose entries start at `first`.
fn per_cpu(first: u64) -> (u32, u64) {
    (8, 1 | first << 32)
}

#[test]
fn of_two_whose_entries_start_elsewhere_one_gets_the_exposure() {
    let one = |outcomes: [Option<Error>; 2]| {
        outcomes == [None, Some(Error::SlotOccupied)] || outcomes == [Some(Error::SlotOccupied), None]
    };
    two_expose([per_cpu(10), per_cpu(12)], one);
    // Or one of the two wants it for one task.
    two_expose([per_cpu(10), (8, 0)], one);
    two_expose([(8, 0), per_cpu(10)], one);
    // Or for an entry of its own.
    two_expose([(8, 1 | 10 << 32), (6, 1 | 7 << 32)], one);
}

#[test]
fn tasks_of_two_cpus_are_exposed_at_once() {
    two_expose([per_cpu(10); 2], |outcomes| outcomes == [None; 2]);
}

#[test]
fn a_task_has_the_label_of_its_process_also_when_both_come_just_then() {
    let begin = |w: &mut World| {
        let (process, task) = (w.process(), w.make(0, ObjType::Task, 0));
        let own = Regs::op(Op::TaskConfigure, &[CONTROL, task.arg(), process.process.arg(), 0x7000_0000, 0]);
        let label = [abi::INIT_MACHINE.arg(), process.process.arg(), u64::from(LABEL)];
        (own, Regs::op(Op::LabelSet, &label), task)
    };
    at_named_points(begin, |w, task, error| {
        assert_eq!(error, None);
        w.run();
        assert_eq!(label_in_word(w, task, 0), LABEL);
        assert_eq!(w.object::<Task>(task).expect("the task").get().header.label(), LABEL);
    });
}

/// The label in the state word of a task that is at home on CPU `n`.
fn label_in_word(w: &World, task: Cap, n: usize) -> u32 {
    let hot = w.object::<Task>(task).expect("the task").get().hot.here(smp::host_test::pin(n));
    (hot.word() as u32 & LABEL_MASK) >> LABEL_SHIFT
}

#[test]
fn a_task_under_way_to_its_cpu_gets_the_new_label_of_its_process() {
    let begin = |w: &mut World| {
        let process = w.process();
        let task = w.task_with(process, 1, 10, true).cap;
        let label = [abi::INIT_MACHINE.arg(), process.process.arg(), u64::from(LABEL)];
        (Regs::op(Op::TaskResume, &[task.arg()]), Regs::op(Op::LabelSet, &label), task)
    };
    at_named_points(begin, |w, task, error| {
        assert_eq!(error, None);
        w.run();
        assert_eq!(label_in_word(w, task, 1), LABEL);
    });
}

#[test]
fn of_two_labels_at_once_all_tasks_of_the_process_get_one() {
    let begin = |w: &mut World| {
        let process = w.process_of(abi::INIT_UNTYPED, 8, 32);
        let tasks = [0, 1, 0, 1, 0].map(|n| (w.start(process, n, 10).cap, n));
        let label = |label: u32| {
            Regs::op(Op::LabelSet, &[abi::INIT_MACHINE.arg(), process.process.arg(), u64::from(label)])
        };
        (label(LABEL), label(LABEL + 1), (process, tasks))
    };
    at_named_points(begin, |w, (process, tasks), error| {
        assert_eq!(error, None);
        w.run();
        let label = w.object::<Process>(process.process).expect("the process").get().header.label();
        assert!(label == LABEL || label == LABEL + 1);
        assert_eq!(tasks.map(|(task, n)| label_in_word(w, task, n)), [label; 5]);
        let of = |task: Cap| w.object::<Task>(task).expect("a task").get().header.label();
        assert_eq!(tasks.map(|(task, _)| of(task)), [label; 5]);
    });
}
