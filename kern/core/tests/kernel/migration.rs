//! The first resume of a task that is to run on another CPU, while other CPUs act: at each point of
//! the entry in which the task leaves its CPU, and of the entry in which it arrives.

use abi::{Cap, Error, FLAG_NONBLOCK, FLAG_NOTIFICATION, ObjType, Op, Target};
use kern_base::header::FLAG_DEAD;
use kern_base::sched_context::SchedContext;
use kern_base::task::State;
use smp::chaos::Point;

use crate::events::{BITS, Reader, fill, send};
use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb, World, check};

/// Steps that the others take in the middle, at most.
const STEPS: usize = 60;
/// The CPU where the task is made, the one where it is to run, and one that has to do with neither.
const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const THIRD: usize = 2;
/// Bits that are raised.
const RAISED: u64 = 4;
/// Priority of those who call.
const CALLERS: u64 = 5;

/// What is stopped in the middle.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Leaving,
    Arriving,
}

/// A task that has never run, what is bound to it, and who waits for it.
struct Mover {
    memory: Cap,
    process: Proc,
    task: Tcb,
    note: Cap,
    /// The context's address.
    sc: u64,
    target: Target,
    /// In the order in which they are to be served.
    callers: Vec<Tcb>,
    /// They run, and have not called.
    idlers: [Tcb; 3],
}

fn mover() -> (World, Mover) {
    let mut w = World::new(3);
    // What comes before is checked elsewhere.
    w.checked = false;
    let memory = w.make(SOURCE, ObjType::Untyped, 20);
    let (process, clients) = (w.process_of(memory, 8, 64), w.process_of(abi::INIT_UNTYPED, 16, 64));
    let task = w.task_of(memory, process, DESTINATION, 10, true);
    let note = w.make_of(SOURCE, memory, ObjType::Notification, 0);
    w.must(SOURCE, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
    let group = w.group(4, 16);
    w.join_all(group, clients, GROUP);
    w.expose(group, 1, task.cap);
    let target = Target::new(GROUP, 1);
    let mut callers = Vec::new();
    for (cpu, priority) in
        [(SOURCE, CALLERS), (THIRD, CALLERS), (SOURCE, CALLERS + 1), (DESTINATION, CALLERS)]
    {
        let caller = w.start(clients, cpu, priority);
        w.does_and_run(&caller, call(target));
        callers.push(caller);
    }
    callers.swap(0, 2);
    callers[1..3].reverse();
    let cpus = [SOURCE, DESTINATION, THIRD];
    let idlers = cpus.map(|cpu| w.start(clients, cpu, CALLERS));
    // No CPU is ever without something to run: it would wait for the rest of a message that is
    // being sent.
    let _ = cpus.map(|cpu| w.start(clients, cpu, 1));
    let sc = w.object::<SchedContext>(task.sc).expect("its time").addr();
    assert_eq!(task.home(), SOURCE);
    w.checked = true;
    (w, Mover { memory, process, task, note, sc, target, callers, idlers })
}

/// What the others do.
enum Act {
    /// The agent of a CPU makes a system call.
    Agent(usize, Regs),
    /// A task that runs calls the one that moves.
    Call(usize),
}

/// All that is under way comes as far as it can without the CPU that is stopped.
fn settle(w: &mut World) {
    for _ in 0..STEPS {
        let _ = (0..w.cpus()).map(|n| w.step(n)).count();
    }
}

fn begin(w: &mut World, m: &Mover, act: &Act) {
    match act {
        Act::Agent(cpu, regs) => w.begin(*cpu, *regs),
        Act::Call(cpu) => {
            if *cpu == THIRD {
                // As late as can be: the task may have come to its CPU by now.
                settle(w);
            }
            w.does(&m.idlers[*cpu], call(m.target));
        }
    }
    settle(w);
}

/// Stops the entry at each point in turn, in a world of its own, and lets the others act there. All
/// comes to its end; then `end` looks, also at what the agent was answered; then all memory starts
/// again.
fn at_every_point(entry: Entry, act: impl Fn(&Mover) -> Act, end: impl Fn(&mut World, &Mover, Regs)) {
    for point in 0.. {
        let (mut w, m) = mover();
        let act = act(&m);
        let resume = Regs::op(Op::TaskResume, &[m.task.cap.arg()]);
        let mut points = 0..;
        let here = move |at: Point| at.is_named() && points.next() == Some(point);
        let torn = match entry {
            Entry::Leaving => w.torn_where(SOURCE, resume, here, |w| begin(w, &m, &act)),
            Entry::Arriving => {
                w.begin(SOURCE, resume);
                w.dismiss(SOURCE);
                w.torn_mail(DESTINATION, here, |w| begin(w, &m, &act))
            }
        };
        if !torn {
            assert!(point > 2, "{entry:?}: there is no such point");
            return;
        }
        if let Entry::Leaving = entry {
            w.finish(SOURCE);
        }
        let outcome = match act {
            Act::Agent(cpu, _) => w.finish(cpu),
            Act::Call(_) => Regs::default(),
        };
        w.run();
        end(&mut w, &m, outcome);
        w.checked = false;
        w.must(SOURCE, Op::UntypedReset, &[m.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
        check::all(&w);
    }
}

/// Both entries, with the act on each of the CPUs that can act then.
fn everywhere(act: impl Fn(&Mover, usize) -> Act, end: impl Fn(&mut World, &Mover, usize, Regs)) {
    let cases = [(Entry::Leaving, [DESTINATION, THIRD]), (Entry::Arriving, [SOURCE, THIRD])];
    for (entry, cpus) in cases {
        for cpu in cpus {
            at_every_point(entry, |m| act(m, cpu), |w, m, outcome| end(w, m, cpu, outcome));
        }
    }
}

/// The task runs, and serves its callers in order, and then `last`. Who is served is in nobody's
/// way any more.
fn serves(w: &mut World, m: &Mover, last: Option<&Tcb>) {
    assert!(w.runs(DESTINATION, &m.task), "it runs where it was to run");
    w.checked = false;
    for idler in m.idlers.iter().filter(|idler| Some(*idler) != last) {
        w.must(SOURCE, Op::TaskKill, &[idler.cap.arg()]);
    }
    w.run();
    w.does_and_run(&m.task, Regs::op(Op::Recv, &[]));
    for caller in m.callers.iter().chain(last) {
        assert_eq!(w.result(&m.task).sender(), caller.id, "in their order");
        w.does_and_run(&m.task, Regs::message(Op::ReplyRecv, Target(0), [1; 4]));
        assert_eq!(w.result(caller).error(), None);
        w.must(SOURCE, Op::TaskKill, &[caller.cap.arg()]);
        w.run();
    }
    assert_eq!(m.task.state(), State::Recv);
}

#[test]
fn a_task_moves_with_all_that_is_its_own() {
    let (mut w, m) = mover();
    w.must(SOURCE, Op::Notify, &[m.note.arg(), RAISED]);
    w.begin(SOURCE, Regs::op(Op::TaskResume, &[m.task.cap.arg()]));
    let parts = (w.object::<SchedContext>(m.task.sc).expect("its time"), m.task.object.get());
    assert!(
        parts.1.hot.is_under_way()
            && parts.1.message_state().is_under_way()
            && parts.0.get().hot.is_under_way()
    );
    w.finish(SOURCE);
    w.run();
    assert!(w.runs(DESTINATION, &m.task));
    w.does_and_run(&m.task, Regs::op(Op::Recv, &[]));
    assert_eq!((w.result(&m.task).info().has(FLAG_NOTIFICATION), m.task.regs().rdx), (true, RAISED));
    serves(&mut w, &m, None);
}

#[test]
fn bits_raised_while_a_task_moves_are_not_lost() {
    everywhere(
        |m, cpu| Act::Agent(cpu, Regs::op(Op::Notify, &[m.note.arg(), RAISED])),
        |w, m, _, outcome| {
            assert_eq!(outcome.error(), None);
            assert!(w.runs(DESTINATION, &m.task));
            w.does_and_run(&m.task, Regs::op(Op::Recv, &[]));
            assert_eq!(w.result(&m.task).rdx, RAISED, "the bits come first");
            serves(w, m, None);
        },
    );
}

#[test]
fn a_notification_that_ends_while_its_task_moves_is_bound_to_nobody() {
    everywhere(
        |m, cpu| Act::Agent(cpu, Regs::op(Op::CapDelete, &[at(m.note)])),
        |w, m, _, outcome| {
            assert_eq!(outcome.error(), None);
            assert!(m.task.hot().bound(m.task.pin()).is_none(), "it refers to a Notification that is dead");
            serves(w, m, None);
        },
    );
}

#[test]
fn time_that_ends_while_its_task_moves_is_nobodys() {
    everywhere(
        |m, cpu| Act::Agent(cpu, Regs::op(Op::CapDelete, &[at(m.task.sc)])),
        |w, m, _, outcome| {
            assert_eq!(outcome.error(), None);
            let hot = m.task.hot();
            assert!(
                !hot.time.has_own()
                    && hot.time.borrowed(m.task.pin()).map_or(0, smp::door::Ref::addr) != m.sc,
                "it refers to time that is dead"
            );
            // It goes on with its callers' time.
            serves(w, m, None);
        },
    );
}

#[test]
fn a_task_that_is_killed_while_it_moves_tells_its_callers() {
    everywhere(
        |m, cpu| Act::Agent(cpu, Regs::op(Op::TaskKill, &[m.task.cap.arg()])),
        |w, m, _, outcome| {
            assert_eq!(outcome.error(), None);
            assert_eq!(m.task.state(), State::Dead);
            for caller in &m.callers {
                let answer = w.result(caller);
                assert_eq!((answer.error(), answer.sender()), (Some(Error::Dead), m.task.id));
            }
        },
    );
}

#[test]
fn a_task_that_is_suspended_while_it_moves_stays_so() {
    everywhere(
        |m, cpu| Act::Agent(cpu, Regs::op(Op::TaskSuspend, &[m.task.cap.arg()])),
        |w, m, cpu, outcome| {
            assert_eq!(outcome.error(), None);
            // The one who asked last.
            let suspended = m.task.object.get().is_to_suspend();
            assert_eq!(
                w.runs(DESTINATION, &m.task),
                !suspended,
                "it runs though it was suspended, or not at all"
            );
            w.must(cpu, Op::TaskResume, &[m.task.cap.arg()]);
            w.run();
            serves(w, m, None);
        },
    );
}

#[test]
fn nothing_happens_to_a_moving_task_by_what_asks_for_nothing() {
    for op in [Op::TaskResume, Op::TaskCancel] {
        everywhere(
            |m, cpu| Act::Agent(cpu, Regs::op(op, &[m.task.cap.arg()])),
            |w, m, _, outcome| {
                assert_eq!(outcome.error(), None);
                serves(w, m, None);
            },
        );
    }
}

/// An operation that only the home CPU can do is refused elsewhere, and the error says which CPU to
/// go to.
#[test]
fn who_asks_on_the_wrong_cpu_is_told_the_right_one() {
    for which in 0..2 {
        let ask = |m: &Mover| match which {
            0 => Regs::op(Op::Wait, &[m.note.arg()]).flag(FLAG_NONBLOCK),
            _ => Regs::op(Op::NotificationBind, &[m.note.arg(), m.task.cap.arg()]),
        };
        everywhere(
            |m, cpu| Act::Agent(cpu, ask(m)),
            |w, m, cpu, outcome| {
                match outcome.result() {
                    Err((Error::WrongCpu, right)) => assert_ne!(right, cpu as u64, "operation {which}"),
                    // They are bound already.
                    done => {
                        assert_eq!(
                            (done.err().map(|(error, _)| error), cpu),
                            (Some(Error::InUse), DESTINATION)
                        )
                    }
                }
                serves(w, m, None);
            },
        );
    }
}

/// The time that moves along is set, told, and refused to others, wherever it is.
#[test]
fn time_is_set_and_told_while_it_moves() {
    for which in 0..3 {
        let ask = |m: &Mover| match which {
            0 => Regs::op(Op::SchedInfo, &[m.task.sc.arg()]),
            1 => Regs::op(Op::SchedConfigure, &[CONTROL, m.task.sc.arg(), 10, 1000]),
            _ => Regs::op(Op::SchedBind, &[m.task.sc.arg(), m.task.cap.arg()]),
        };
        everywhere(
            |m, cpu| Act::Agent(cpu, ask(m)),
            |w, m, _, outcome| {
                let error = outcome.result().err().map(|(error, _)| error);
                assert_eq!(error, [None, None, Some(Error::InUse)][which]);
                serves(w, m, None);
            },
        );
    }
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "a later call may overtake those that follow")]
fn a_later_call_does_not_overtake_those_that_move_along() {
    everywhere(|_, cpu| Act::Call(cpu), |w, m, cpu, _| serves(w, m, Some(&m.idlers[cpu])));
}

#[test]
fn memory_that_starts_again_while_a_task_of_it_moves_has_nothing_left() {
    for which in 0..3 {
        let ask = |m: &Mover| match which {
            0 => Regs::op(Op::UntypedReset, &[m.memory.arg(), 0]),
            1 => Regs::op(Op::CapRevoke, &[at(m.memory)]),
            _ => Regs::op(Op::ProcessKill, &[m.process.process.arg()]),
        };
        everywhere(
            |m, cpu| Act::Agent(cpu, ask(m)),
            |w, m, _, outcome| {
                assert_eq!(outcome.error(), None);
                if which == 2 {
                    assert!(m.task.object.get().header.has_flag(FLAG_DEAD));
                }
                for caller in &m.callers {
                    let answer = w.result(caller);
                    assert_eq!(answer.error(), Some(Error::Dead), "they are told");
                }
            },
        );
    }
}

/// Control bits come in one message with the one to resume: all are for the task where it goes.
#[test]
fn what_is_asked_together_with_the_first_resume_comes_after_the_task() {
    let mut s = Scene::new(3);
    let (task, target) = s.task(DESTINATION, 10, true);
    let note = s.w.make(SOURCE, ObjType::Notification, 0);
    s.w.must(SOURCE, Op::NotificationBind, &[note.arg(), task.cap.arg()]);
    let reader = Reader::bind(&mut s.w, s.process, &task);
    reader.arm();
    let (sender, _) = s.running(THIRD, 10);
    // CPU 0 does not look into its mailbox between the two.
    s.w.begin(THIRD, Regs::op(Op::TaskResume, &[task.cap.arg()]));
    s.w.dismiss(THIRD);
    s.w.does(&sender, send(target, 1));
    s.w.run();
    assert!(s.w.runs(DESTINATION, &task));
    s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    assert!(task.is_through(), "the reader of an armed pool hears of the event");
    assert_eq!(s.w.result(&task).rdx, BITS);
}

/// Senders that wait for room go along with the reader, and their events come in their order.
#[test]
fn who_waits_for_room_at_a_task_that_moves_is_let_in() {
    let mut s = Scene::new(3);
    let (task, target) = s.task(DESTINATION, 10, true);
    let mut reader = Reader::bind(&mut s.w, s.process, &task);
    let (first, _) = s.running(SOURCE, 10);
    let (second, _) = s.running(THIRD, 10);
    let count = fill(&mut s, &first, target);
    s.w.does_and_run(&first, send(target, count));
    s.w.does_and_run(&second, send(target, count + 1));
    assert_eq!((first.state(), second.state()), (State::Sending, State::AwaitRemote));
    s.w.must(SOURCE, Op::TaskResume, &[task.cap.arg()]);
    s.w.run();
    assert!(s.w.runs(DESTINATION, &task));
    assert_eq!((first.state(), second.state()), (State::AwaitRemote, State::AwaitRemote));
    for number in 0..count {
        assert_eq!(reader.read().expect("an event").0.regs[0], number);
    }
    s.w.must(SOURCE, Op::PoolRoom, &[reader.cap.arg()]);
    s.w.run();
    for (number, sender) in [(count, first), (count + 1, second)] {
        assert_eq!(reader.read().expect("an event").0.regs[0], number, "in their order");
        assert_eq!(s.w.result(&sender).error(), None);
    }
}

/// Mail about what is under way reaches the source, which sends it on to the destination: nobody
/// asks again and again.
#[test]
fn the_source_sends_mail_on_without_waiting() {
    let asks: [fn(&Mover) -> Act; 7] = [
        |m| Act::Agent(THIRD, Regs::op(Op::Notify, &[m.note.arg(), RAISED])),
        |m| Act::Agent(THIRD, Regs::op(Op::TaskKill, &[m.task.cap.arg()])),
        |m| Act::Agent(THIRD, Regs::op(Op::TaskSuspend, &[m.task.cap.arg()])),
        |m| Act::Agent(THIRD, Regs::op(Op::CapDelete, &[at(m.note)])),
        |m| Act::Agent(THIRD, Regs::op(Op::CapDelete, &[at(m.task.sc)])),
        |m| Act::Agent(THIRD, Regs::op(Op::ProcessKill, &[m.process.process.arg()])),
        |_| Act::Call(THIRD),
    ];
    for (number, ask) in asks.into_iter().enumerate() {
        let (mut w, m) = mover();
        w.begin(SOURCE, Regs::op(Op::TaskResume, &[m.task.cap.arg()]));
        w.dismiss(SOURCE);
        // The destination does not look into its mailbox.
        match ask(&m) {
            Act::Agent(cpu, regs) => w.begin(cpu, regs),
            Act::Call(cpu) => w.does(&m.idlers[cpu], call(m.target)),
        }
        let mut steps = 0;
        while w.step(SOURCE) | w.step(THIRD) {
            steps += 1;
            assert!(steps < 8, "ask {number} goes round and round");
        }
        assert!(m.task.object.get().hot.is_under_way() && steps > 0, "ask {number} came to the source");
        if let Act::Agent(cpu, _) = ask(&m) {
            w.finish(cpu);
        }
        w.run();
        w.must(SOURCE, Op::UntypedReset, &[m.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
    }
}

#[test]
fn where_a_moving_task_goes_is_known_at_once() {
    let (mut w, m) = mover();
    w.begin(SOURCE, Regs::op(Op::TaskResume, &[m.task.cap.arg()]));
    w.issue(SOURCE, Regs::op(Op::TaskReadRegs, &[m.task.cap.arg()]));
    assert_eq!(w.agent(SOURCE).regs().result().map(drop), Err((Error::WrongCpu, DESTINATION as u64)));
    w.begin(THIRD, Regs::op(Op::TaskReadRegs, &[m.task.cap.arg()]));
    assert_eq!(w.agent(THIRD).regs().result().map(drop), Err((Error::WrongCpu, DESTINATION as u64)));
    let _ = [SOURCE, THIRD].map(|cpu| w.finish(cpu));
    w.run();
    serves(&mut w, &m, None);
}
