//! Calls and events that follow a task to the CPU to which its first resume has moved it: more of
//! them wait than go along.

use std::cell::Cell;

use abi::{Cap, Error, ObjType, Op, Target};
use kern_base::limits::START_CALLERS;
use kern_base::message::Stage;
use kern_base::task::State;
use smp::host_test;
use snapshot::MailKind;

use crate::events::{Reader, fill, send};
use crate::scene::{GROUP, Scene, call};
use crate::world::make::{CONTROL, Proc};
use crate::world::{Regs, Tcb, World, check};

/// The CPU where the task is made, the one where it is to run, and one that has to do with neither.
const SOURCE: usize = 0;
const DESTINATION: usize = 1;
const THIRD: usize = 2;
/// Callers that follow in small crowds, and in large ones.
const FEW: usize = 9;
const MANY: usize = 900;
/// Points of an entry, at most: a resume whose callers follow, and one that serves mail.
const POINTS: u64 = 700;
/// Every so many callers, one is of [`THIRD`].
const REMOTE: usize = 4;
const PRIORITIES: [u64; 2] = [5, 6];

/// A task that has never run, and those who call it.
struct Crowd {
    s: Scene,
    memory: Cap,
    task: Tcb,
    target: Target,
    /// In the order in which they called.
    callers: Vec<Tcb>,
    clients: Proc,
}

impl Crowd {
    /// `count` callers of SOURCE and [`THIRD`], with this deadline.
    fn new(count: usize, deadline: Option<u64>) -> Crowd {
        let mut s = if count > 100 { Scene::unchecked(3, 64 << 20) } else { Scene::unchecked(3, 8 << 20) };
        let memory = s.w.make(SOURCE, ObjType::Untyped, 20);
        let process = s.w.process_of(memory, 8, 64);
        let clients = s.w.process_of(abi::INIT_UNTYPED, 2 * count as u64 + 8, 64);
        s.w.join_all(s.group, clients, GROUP);
        let task = s.w.task_of(memory, process, DESTINATION, 10, true);
        s.w.expose(s.group, 1, task.cap);
        let mut crowd =
            Crowd { s, memory, task, target: Target::new(GROUP, 1), callers: Vec::new(), clients };
        crowd.callers = crowd.calls(count, crowd.target, deadline);
        // So that SOURCE and THIRD always have something to run.
        for n in [SOURCE, THIRD] {
            crowd.s.w.start(clients, n, 1);
        }
        crowd.s.w.checked = count <= 100;
        crowd
    }

    fn calls(&mut self, count: usize, target: Target, deadline: Option<u64>) -> Vec<Tcb> {
        let w = &mut self.s.w;
        let start = |n: usize| {
            let cpu = if n % REMOTE == 1 { THIRD } else { SOURCE };
            let caller = w.start(self.clients, cpu, PRIORITIES[n / 2 % 2]);
            w.does_and_run(&caller, deadline.map_or(call(target), |at| call(target).deadline(at)));
            assert!(matches!(caller.state(), State::Sending | State::AwaitRemote));
            caller
        };
        (0..count).map(start).collect()
    }

    /// The first resume. The agent of SOURCE has not finished its entry's work, so no call has
    /// followed.
    fn resume(&mut self) {
        self.s.w.begin(SOURCE, Regs::op(Op::TaskResume, &[self.task.cap.arg()]));
    }

    /// Those whose calls have to follow, in the order in which they will.
    fn followers(&self) -> Vec<Tcb> {
        let followers = &self.s.w.look(SOURCE).sched.followers;
        let pin = host_test::pin(SOURCE);
        let mut found = Vec::new();
        for queue in followers.queues() {
            let tasks = queue.tasks();
            let all = std::iter::successors(tasks.first(pin), |task| tasks.after(pin, *task));
            found.extend(
                all.map(|task| *self.callers.iter().find(|tcb| tcb.object == task).expect("a caller")),
            );
        }
        found
    }

    fn stage(&self, caller: &Tcb) -> Stage {
        host_test::inside(caller.object.map(kern_base::task::Task::message_state)).stage()
    }

    /// The callers in the order in which they are served.
    fn in_order(&self) -> Vec<Tcb> {
        let of = |priority: u64| {
            let its = move |(n, _): &(usize, &Tcb)| PRIORITIES[n / 2 % 2] == priority;
            self.callers.iter().enumerate().filter(its).map(|(_, tcb)| *tcb)
        };
        of(PRIORITIES[1]).chain(of(PRIORITIES[0])).collect()
    }

    /// The task serves these callers, and no others.
    #[track_caller]
    fn serves(&mut self, callers: &[Tcb]) {
        let w = &mut self.s.w;
        assert!(w.runs(DESTINATION, &self.task), "it runs where it was to run");
        w.does_and_run(&self.task, Regs::op(Op::Recv, &[]));
        for caller in callers {
            assert_eq!(w.result(&self.task).sender(), caller.id, "in their order");
            w.does_and_run(&self.task, Regs::message(Op::ReplyRecv, Target(0), [1; 4]));
            assert!(caller.is_through());
            assert_eq!(caller.regs().error(), None);
        }
        assert_eq!(self.task.state(), State::Recv, "nobody else has called");
    }

    fn end(mut self) {
        self.s.w.checked = false;
        self.s.w.must(SOURCE, Op::UntypedReset, &[self.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
        check::all(&self.s.w);
    }
}

/// Counts the points of what is done.
fn points_of(w: &mut World, run: impl FnOnce(&mut World)) -> u64 {
    let points = Cell::new(0);
    let mut count = |_| points.set(points.get() + 1);
    host_test::at_points(&mut count, || run(w));
    points.get()
}

#[test]
fn a_first_resume_with_many_callers_is_one_short_entry() {
    let mut least = 0;
    for count in [START_CALLERS + FEW, MANY] {
        let mut crowd = Crowd::new(count, None);
        let w = &mut crowd.s.w;
        w.checked = false;
        w.summon(SOURCE);
        let resume = Regs::op(Op::TaskResume, &[crowd.task.cap.arg()]);
        let points = points_of(w, |w| w.issue(SOURCE, resume));
        if least == 0 {
            least = points;
        }
        assert!(points.abs_diff(least) <= 4, "{points} points with {count} callers, {least} with few");
        assert_eq!(crowd.followers().len(), count - START_CALLERS - 1);
        crowd.s.w.dismiss(SOURCE);
        let mut entries = 0;
        while let left @ 1.. = crowd.followers().len() {
            let w = &mut crowd.s.w;
            assert!(w.has_event(SOURCE), "{left} wait, and nothing makes the CPU look");
            let points = points_of(w, |w| _ = w.step(SOURCE));
            assert!(points <= POINTS, "an entry has {points} points, and {left} wait");
            let _ = crowd.s.w.step(DESTINATION);
            entries += 1;
        }
        assert!(entries > (count - START_CALLERS) / 10, "{entries} entries for {count} callers");
        crowd.s.w.run();
        let order = crowd.in_order();
        crowd.serves(&order);
        crowd.end();
    }
}

/// What ends a wait from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Cancel,
    Kill,
}

#[test]
fn a_caller_that_is_to_follow_can_be_cancelled_or_killed() {
    for end in [End::Cancel, End::Kill] {
        for by in [SOURCE, THIRD] {
            for which in 0..FEW {
                let mut crowd = Crowd::new(START_CALLERS + FEW, None);
                crowd.resume();
                let followers = crowd.followers();
                assert_eq!(followers.len(), FEW - 1);
                // The last one is that which was sent.
                let sent = |tcb: &&Tcb| crowd.stage(tcb) == Stage::Out && !followers.contains(tcb);
                let sent = *crowd.in_order().iter().rev().find(sent).expect("one was sent");
                let one = followers.get(which).copied().unwrap_or(sent);
                let op = if end == End::Cancel { Op::TaskCancel } else { Op::TaskKill };
                let w = &mut crowd.s.w;
                let regs = Regs::op(op, &[one.cap.arg()]);
                if by == SOURCE {
                    w.issue(SOURCE, regs);
                    w.dismiss(SOURCE);
                    w.run();
                } else {
                    w.dismiss(SOURCE);
                    w.must(THIRD, op, &[one.cap.arg()]);
                    w.run();
                }
                match end {
                    End::Cancel => assert_eq!(w.result(&one).error(), Some(Error::Cancelled)),
                    End::Kill => assert_eq!(one.state(), State::Dead),
                }
                let mut others = crowd.in_order();
                others.retain(|tcb| *tcb != one);
                crowd.serves(&others);
                crowd.end();
            }
        }
    }
}

#[test]
fn deadlines_end_the_waits_of_calls_that_are_to_follow() {
    for steps in 0..6 {
        let soon = 1_000_000;
        let mut crowd = Crowd::new(START_CALLERS + 3 * FEW, Some(soon));
        crowd.resume();
        crowd.s.w.dismiss(SOURCE);
        for _ in 0..steps {
            let _ = crowd.s.w.step(SOURCE);
        }
        crowd.s.w.k.machine.hardware().now = soon;
        crowd.s.w.wait_until(soon + 1_000_000);
        for caller in crowd.callers.clone() {
            assert_eq!(crowd.s.w.result(&caller).error(), Some(Error::Timeout), "after {steps} steps");
        }
        assert!(crowd.followers().is_empty());
        crowd.serves(&[]);
        crowd.end();
    }
}

#[test]
fn a_task_that_dies_while_calls_follow_it_answers_all() {
    for steps in 0..8 {
        let mut crowd = Crowd::new(START_CALLERS + FEW, None);
        crowd.resume();
        crowd.s.w.dismiss(SOURCE);
        for _ in 0..steps {
            let _ = crowd.s.w.step(SOURCE);
        }
        crowd.s.w.begin(THIRD, Regs::op(Op::TaskKill, &[crowd.task.cap.arg()]));
        // The task dies before its callers arrive.
        settle_but(&mut crowd.s.w, SOURCE);
        assert_eq!(crowd.s.w.finish(THIRD).error(), None);
        crowd.s.w.run();
        assert_eq!(crowd.task.state(), State::Dead);
        for caller in crowd.callers.clone() {
            let answer = crowd.s.w.result(&caller);
            assert_eq!((answer.error(), answer.sender()), (Some(Error::Dead), crowd.task.id));
        }
        crowd.end();
    }
}

#[test]
fn a_task_that_is_suspended_while_calls_follow_it_serves_them_later() {
    let mut crowd = Crowd::new(START_CALLERS + FEW, None);
    crowd.resume();
    crowd.s.w.dismiss(SOURCE);
    crowd.s.w.must(THIRD, Op::TaskSuspend, &[crowd.task.cap.arg()]);
    crowd.s.w.run();
    assert!(crowd.followers().is_empty() && crowd.task.state() == State::Ready);
    assert!(!crowd.s.w.runs(DESTINATION, &crowd.task));
    crowd.s.w.must(THIRD, Op::TaskResume, &[crowd.task.cap.arg()]);
    crowd.s.w.run();
    let order = crowd.in_order();
    crowd.serves(&order);
    crowd.end();
}

/// A call that goes to the task directly is served before those that follow. All are served.
#[test]
fn a_later_call_keeps_none_from_following() {
    for by in [SOURCE, THIRD] {
        let mut crowd = Crowd::new(START_CALLERS + FEW, None);
        let last = crowd.s.w.start(crowd.clients, by, 20);
        crowd.resume();
        crowd.s.w.dismiss(SOURCE);
        settle_but(&mut crowd.s.w, SOURCE);
        assert_eq!(crowd.followers().len(), FEW - 1);
        crowd.s.w.does_and_run(&last, call(crowd.target));
        let order = crowd.in_order();
        crowd.serves(&[vec![last], order].concat());
        crowd.end();
    }
}

/// Brings the task, whose callers follow it, back to [`SOURCE`], where they still are.
fn bring_back(w: &mut World, task: &Tcb) {
    w.dismiss(SOURCE);
    // Until the resume's mail is there. No call has followed.
    settle_but(w, SOURCE);
    w.begin(THIRD, Regs::op(Op::TaskMove, &[CONTROL, task.cap.arg(), SOURCE as u64]));
    settle_but(w, SOURCE);
    // The task leaves its mailbox in one step, and the mail of SOURCE in one entry.
    while task.home() != SOURCE {
        assert!(w.step(SOURCE), "it comes back");
    }
}

/// Ends one call after the other of those who follow a task that is back on their CPU.
#[test]
fn a_caller_that_follows_a_task_that_is_back_can_leave() {
    for end in [None, Some(Op::TaskCancel), Some(Op::TaskKill)] {
        for which in 0..3 * FEW {
            let soon = 1_000_000;
            let deadline = end.is_none().then_some(soon);
            let mut crowd = Crowd::new(START_CALLERS + 5 * FEW, deadline);
            crowd.resume();
            bring_back(&mut crowd.s.w, &crowd.task.clone());
            let left = crowd.followers();
            assert!(left.len() > FEW, "{} follow a task that is back", left.len());
            let Some(one) = left.get(which).copied() else { continue };
            let w = &mut crowd.s.w;
            match end {
                Some(op) => {
                    w.begin(SOURCE, Regs::op(op, &[one.cap.arg()]));
                    w.dismiss(SOURCE);
                    w.run();
                    assert!(one.is_through() || one.state() == State::Dead);
                }
                None => {
                    w.k.machine.hardware().now = soon;
                    w.wait_until(soon + 1_000_000);
                    assert!(crowd.callers.iter().all(Tcb::is_through), "all have timed out");
                }
            }
            crowd.s.w.run();
            assert!(crowd.followers().is_empty(), "the others are where the task is");
            crowd.end();
        }
    }
}

/// Whether a question of a grace round waits in the mailbox of a CPU.
fn is_asked(w: &World, n: usize) -> bool {
    check::snapshot(w).mails.iter().any(|mail| mail.cpu == n as u32 && mail.kind == MailKind::Grace)
}

/// Lets all CPUs but one come as far as they can.
fn settle_but(w: &mut World, n: usize) {
    w.hold(Some(n));
    w.run();
    w.hold(None);
}

#[test]
fn memory_is_not_used_again_while_calls_refer_to_it() {
    let mut crowd = Crowd::new(START_CALLERS + 5 * FEW, None);
    crowd.s.w.checked = false;
    crowd.resume();
    crowd.s.w.dismiss(SOURCE);
    let reset = [crowd.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()];
    crowd.s.w.begin(THIRD, Regs::op(Op::UntypedReset, &reset));
    let mut put_off = 0;
    loop {
        settle_but(&mut crowd.s.w, SOURCE);
        let under_way = |tcb: &Tcb| !tcb.is_through();
        let left = crowd.callers.iter().filter(|tcb| under_way(tcb)).count();
        if crowd.s.w.is_over(THIRD) {
            assert_eq!(left, 0, "calls refer to memory that is free");
            break;
        }
        put_off += usize::from(is_asked(&crowd.s.w, SOURCE));
        assert!(crowd.s.w.step(SOURCE), "the reset goes on");
    }
    assert!(put_off > 2, "the question came while calls had to follow");
    crowd.s.w.dismiss(THIRD);
    for caller in crowd.callers.clone() {
        assert_eq!(crowd.s.w.result(&caller).error(), Some(Error::Dead));
    }
    crowd.end();
}

/// A round waits for the calls that are there when it asks, and not for those that come later.
#[test]
fn calls_that_follow_later_do_not_delay_a_grace_round() {
    let mut crowd = Crowd::new(START_CALLERS + 5 * FEW, None);
    let other = crowd.s.w.task_with(crowd.clients, DESTINATION, 10, true);
    crowd.s.w.expose(crowd.s.group, 2, other.cap);
    crowd.s.w.checked = false;
    let later = crowd.calls(START_CALLERS + 5 * FEW, Target::new(GROUP, 2), None);
    crowd.resume();
    crowd.s.w.dismiss(SOURCE);
    let reset = [crowd.memory.arg(), 1, 0, abi::INIT_MACHINE.arg()];
    crowd.s.w.begin(THIRD, Regs::op(Op::UntypedReset, &reset));
    // A question that has come waits for the calls that leave first.
    while crowd.s.w.look(SOURCE).sched.followers.queues()[0].is_empty() {
        assert!(crowd.s.w.step(SOURCE), "the question comes while calls have to follow");
        settle_but(&mut crowd.s.w, SOURCE);
    }
    crowd.s.w.begin(SOURCE, Regs::op(Op::TaskResume, &[other.cap.arg()]));
    crowd.s.w.dismiss(SOURCE);
    while is_asked(&crowd.s.w, SOURCE) {
        assert!(crowd.s.w.step(SOURCE), "the round goes on");
    }
    let is_left = |caller: &&Tcb| matches!(crowd.stage(caller), Stage::Queued | Stage::Out);
    let left = crowd.callers.iter().filter(is_left).count();
    let source = crowd.s.w.look(SOURCE);
    let waits = !source.sched.followers.queues()[1].is_empty();
    assert!(left == 0 && waits, "the round has waited for calls to another task, or not for its own");
    assert_eq!(crowd.s.w.finish(THIRD).error(), None);
    crowd.s.w.run();
    assert!(later.iter().all(|caller| caller.state() == State::AwaitRemote), "all have followed");
    crowd.end();
}

/// Senders wait for room in the pool of a task that moves.
#[test]
fn events_follow_their_reader() {
    let count = START_CALLERS + FEW;
    let mut s = Scene::new(3);
    let (task, target) = s.task(DESTINATION, 10, true);
    let mut reader = Reader::bind(&mut s.w, s.process, &task);
    let clients = s.w.process_of(abi::INIT_UNTYPED, count as u64 + 4, 64);
    s.w.join_all(s.group, clients, GROUP);
    let first = s.w.start(clients, SOURCE, 10);
    let filled = fill(&mut s, &first, target);
    let senders: Vec<Tcb> = (0..count)
        .map(|n| {
            let cpu = if n % REMOTE == 1 { THIRD } else { SOURCE };
            let sender = s.w.start(clients, cpu, 20);
            s.w.does_and_run(&sender, send(target, filled + n as u64));
            assert!(matches!(sender.state(), State::Sending | State::AwaitRemote));
            sender
        })
        .collect();
    s.w.begin(SOURCE, Regs::op(Op::TaskResume, &[task.cap.arg()]));
    s.w.issue(SOURCE, Regs::op(Op::TaskCancel, &[senders[count - 2].cap.arg()]));
    s.w.dismiss(SOURCE);
    s.w.run();
    assert!(s.w.runs(DESTINATION, &task));
    assert_eq!(s.w.result(&senders[count - 2]).error(), Some(Error::Cancelled));
    assert!(senders.iter().all(|sender| sender.state() != State::Sending), "all have followed");
    for number in (0..filled + count as u64).filter(|number| *number != filled + count as u64 - 2) {
        if number % 8 == 0 {
            s.w.must(SOURCE, Op::PoolRoom, &[reader.cap.arg()]);
            s.w.run();
        }
        assert_eq!(reader.read().expect("an event").0.regs[0], number, "in their order");
    }
    for sender in senders.iter().filter(|sender| **sender != senders[count - 2]) {
        assert_eq!(s.w.result(sender).error(), None);
    }
}
