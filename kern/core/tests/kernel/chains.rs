//! CPU time along chains of calls of any length.

use abi::{Cap, Error, ObjType, Op, Target};
use kern_base::limits::CALL_STEPS;
use kern_base::sched_context::SchedContext;
use kern_base::task::State;

use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb, World, check};

/// The group, in the process's CSpace.
const GROUP: Cap = Cap(5);
/// Lengths of chains: shorter than what one entry follows, a little longer, much longer.
const LENGTHS: [usize; 4] = [20, 33, 40, 100];
const ANSWER: [u64; 4] = [5, 6, 7, 8];

/// Tasks of one process, each of which calls the next.
struct Chain {
    w: World,
    process: Proc,
    group: Cap,
    tasks: Vec<Tcb>,
    /// Contexts are made of this, so that it can be reset without the tasks.
    memory: Cap,
    /// SchedControls for each CPU alone. With them, every second context may run only on the CPU of
    /// its task.
    narrow: Vec<Cap>,
}

impl Chain {
    /// Makes that many tasks, which receive except the first, on the CPUs that `place` returns.
    fn new(cpus: usize, length: usize, own_time: bool, place: impl Fn(usize) -> usize) -> Chain {
        let mut chain = Chain::of(cpus, 4 + length as u64);
        chain.w.checked = false;
        chain.suspended_task(place(0), 10);
        for n in 1..length {
            let task = chain.task(place(n), 10);
            chain.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        }
        if !own_time {
            for n in 1..length {
                chain.end_time(n);
            }
        }
        chain.w.checked = true;
        chain.resume(0);
        chain
    }

    /// No task yet, and room for so many.
    fn of(cpus: usize, room: u64) -> Chain {
        let mut w = World::with_memory(cpus, 32 << 20);
        let process = w.process_of(abi::INIT_UNTYPED, room, 256);
        let group = w.group(4, room + 1);
        w.join_all(group, process, GROUP);
        let memory = w.make(0, ObjType::Untyped, 18);
        Chain { w, process, group, tasks: Vec::new(), memory, narrow: Vec::new() }
    }

    /// One more task, which runs.
    fn task(&mut self, n: usize, priority: u64) -> Tcb {
        let task = self.suspended_task(n, priority);
        self.resume(self.tasks.len() - 1);
        task
    }

    fn resume(&mut self, n: usize) {
        self.w.resume(&self.tasks[n].clone());
        self.w.run();
    }

    /// One more task.
    fn suspended_task(&mut self, n: usize, priority: u64) -> Tcb {
        let mut task = self.w.task_with(self.process, n, priority, false);
        task.sc = self.time_for(0, n, priority);
        self.w.must(0, Op::SchedBind, &[task.sc.arg(), task.cap.arg()]);
        self.w.expose(self.group, 1 + self.tasks.len() as u32, task.cap);
        self.tasks.push(task);
        task
    }

    /// New time, which nobody has.
    fn time(&mut self, priority: u64) -> Cap {
        self.time_on(0, priority)
    }

    fn time_on(&mut self, n: usize, priority: u64) -> Cap {
        self.time_for(n, n, priority)
    }

    /// New time, made on CPU `n` for a task of CPU `place`.
    fn time_for(&mut self, n: usize, place: usize, priority: u64) -> Cap {
        let sc = self.w.make_of(n, self.memory, ObjType::SchedContext, 0);
        let only = self.narrow.get(place).filter(|_| sc.0.is_multiple_of(2));
        let control = only.map_or(CONTROL, |control| control.arg());
        self.w.must(n, Op::SchedConfigure, &[control, sc.arg(), priority, 1000]);
        sc
    }

    /// From now on some time does not travel.
    fn keep_time_at_home(&mut self) {
        for n in 0..self.w.cpus() {
            self.narrow.push(self.w.control_of(0, abi::INIT_UNTYPED, 255, 1 << n));
        }
    }

    fn end_time(&mut self, n: usize) {
        self.w.must(0, Op::CapDelete, &[at(self.tasks[n].sc)]);
        self.w.run();
        self.tasks[n].sc = Cap::NULL;
    }

    fn target(n: usize) -> Target {
        Target::new(GROUP, 1 + n as u32)
    }

    fn call(&mut self, from: usize, to: usize) {
        let call = Regs::message(Op::Call, Chain::target(to), [from as u64; 4]);
        self.w.does_and_run(&self.tasks[from].clone(), call);
    }

    /// Everybody calls the next.
    fn calls(&mut self) {
        self.w.checked = false;
        for n in 1..self.tasks.len() {
            self.call(n - 1, n);
        }
        self.w.checked = true;
    }

    fn answers(&mut self, n: usize) {
        self.w.does_and_run(&self.tasks[n].clone(), Regs::message(Op::ReplyRecv, Target(0), ANSWER));
    }

    fn runs(&self, n: usize) -> bool {
        self.w.runs(self.tasks[n].home(), &self.tasks[n])
    }

    /// The address of a task's own context.
    fn own(&self, n: usize) -> u64 {
        self.tasks[n].own_time()
    }

    /// Tasks that refer to a context, by whatever field.
    fn mentions(&self, sc: u64) -> Vec<usize> {
        let records = check::snapshot(&self.w).tasks;
        let refers = |task: &Tcb| {
            let of = |record: &&snapshot::Task| record.at == task.object.addr();
            let record = records.iter().find(of).expect("the task is found");
            [record.borrowed, record.own_context, record.message_context].contains(&sc)
        };
        (0..self.tasks.len()).filter(|n| refers(&self.tasks[*n])).collect()
    }

    /// Ends all behind a task, from the last on.
    fn kill_behind(&mut self, n: usize) {
        self.w.checked = false;
        for n in (n + 1..self.tasks.len()).rev() {
            self.w.must(0, Op::TaskKill, &[self.tasks[n].cap.arg()]);
        }
        self.w.run();
        self.w.checked = true;
    }

    /// Everybody from `last` on up answers. Each caller has its own time then, if there is any.
    fn unwinds(&mut self, last: usize) {
        for n in (1..=last).rev() {
            self.w.checked = n % 8 == 0 || n < 3;
            self.answers(n);
            assert_eq!(self.w.result(&self.tasks[n - 1]).msg(), ANSWER, "{n} has answered");
        }
        for task in &self.tasks {
            let Some(own) = task.hot().time.own(task.pin()) else { continue };
            let with = own.get().hot.here(task.pin()).task.get(task.pin());
            assert!(with == Some(task.object), "the time of {task:?} is with it");
        }
    }
}

/// On one CPU; on two, in two long parts; on two by turns.
fn places(length: usize) -> [Box<dyn Fn(usize) -> usize>; 3] {
    [Box::new(|_| 0), Box::new(move |n| 2 * n / length), Box::new(|n| n % 2)]
}

/// Time ends that a whole chain of calls has lent on, or that rests in the middle of it, or at its
/// end. Nobody refers to it, and its memory can be another context's.
#[test]
fn nobody_refers_to_time_that_has_ended_however_long_the_chain() {
    for length in LENGTHS {
        for (which, place) in places(length).into_iter().enumerate() {
            for whose in [0, length / 2, length - 1] {
                let mut chain = Chain::new(2, length, true, place.as_ref());
                chain.calls();
                assert!(chain.runs(length - 1));
                let ended = chain.own(whose);
                chain.end_time(whose);
                assert_eq!(chain.mentions(ended), [], "length {length}, places {which}, of {whose}");
                assert!(chain.runs(length - 1), "the last goes on with other time");
                chain.unwinds(length - 1);
            }
        }
    }
}

/// In a chain only the first task has time. When that time ends, nothing refers to it.
#[test]
fn nobody_refers_to_the_only_time_of_a_chain_when_it_has_ended() {
    for length in LENGTHS {
        for (which, place) in places(length).into_iter().enumerate() {
            let mut chain = Chain::new(2, length, false, place.as_ref());
            chain.calls();
            assert!(chain.runs(length - 1), "on the first task's time");
            let ended = chain.own(0);
            chain.end_time(0);
            assert_eq!(chain.mentions(ended), [], "length {length}, places {which}");
            assert!((0..2).all(|n| chain.w.current(n).is_none()), "nobody has any time");
            chain.w.must(0, Op::UntypedReset, &[chain.memory.arg(), 0]);
            // What is given to the first is found by the last, across all calls.
            let again = chain.time(10);
            let home = chain.tasks[0].home();
            chain.w.must(home, Op::SchedBind, &[again.arg(), chain.tasks[0].cap.arg()]);
            chain.w.run();
            assert!(chain.runs(length - 1), "length {length}, places {which}: time was given to the first");
            chain.unwinds(length - 1);
        }
    }
}

/// A task in the middle of a chain is killed or deleted while it has lent time on.
#[test]
fn a_chain_parts_where_a_task_of_it_ends() {
    for length in LENGTHS {
        for (which, place) in places(length).into_iter().enumerate() {
            for (own_time, deletes) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut chain = Chain::new(2, length, own_time, place.as_ref());
                chain.calls();
                let middle = length / 2;
                let (op, arg) = if deletes {
                    chain.w.must(0, Op::Withdraw, &[Target::new(chain.group, 1 + middle as u32).0]);
                    (Op::CapDelete, at(chain.tasks[middle].cap))
                } else {
                    (Op::TaskKill, chain.tasks[middle].cap.arg())
                };
                chain.w.must(0, op, &[arg]);
                chain.w.run();
                let what = format!("length {length}, places {which}, own time {own_time}, {op:?}");
                let told = chain.w.result(&chain.tasks[middle - 1]);
                assert_eq!(told.error(), Some(Error::Dead), "{what}");
                assert!(chain.w.time_of(&chain.tasks[middle - 1]) != 0, "{what}: its caller goes on");
                assert!(
                    chain.w.time_of(&chain.tasks[length - 1]) != chain.own(0),
                    "{what}: the last does not"
                );
                chain.kill_behind(middle);
                chain.unwinds(middle - 1);
            }
        }
    }
}

/// The last goes on with its caller's own time when that of the first is taken back: nobody who
/// takes back the first's, and comes later, ends that loan.
#[test]
fn a_loan_that_is_newer_is_not_taken_back() {
    for length in CALL_STEPS + 2..CALL_STEPS + 8 {
        let mut chain = Chain::new(1, length, true, |_| 0);
        let last = length - 1;
        chain.end_time(last);
        chain.calls();
        chain.w.must(0, Op::TaskKill, &[chain.tasks[1].cap.arg()]);
        chain.w.run();
        assert_eq!(chain.w.time_of(&chain.tasks[last]), chain.own(last - 1), "length {length}");
        let task = &chain.tasks[last];
        let lender = task.hot().time.lender(task.pin()).map_or(0, smp::door::Ref::addr);
        assert_eq!(lender, chain.tasks[last - 1].object.addr(), "length {length}: whose it is");
        chain.kill_behind(1);
        chain.unwinds(0);
    }
}

/// A call in the middle, or the first, is over before its time. The caller continues immediately;
/// the task that had its time loses it.
#[test]
fn a_call_that_times_out_takes_its_time_back_from_however_deep() {
    for length in LENGTHS {
        for (which, place) in places(length).into_iter().enumerate() {
            for (from, own_time) in [(0, false), (0, true), (length / 2, false), (length / 2, true)] {
                let mut chain = Chain::new(2, length, own_time, place.as_ref());
                let deadline = chain.w.now() + 10_000_000;
                chain.w.checked = false;
                for n in 1..length {
                    let call = Regs::message(Op::Call, Chain::target(n), [1; 4]);
                    let call = if n == from + 1 { call.deadline(deadline) } else { call };
                    chain.w.does_and_run(&chain.tasks[n - 1].clone(), call);
                }
                chain.w.checked = true;
                chain.w.wait_until(deadline + 1);
                let what = format!("length {length}, places {which}, from {from}, own time {own_time}");
                assert_eq!(chain.w.result(&chain.tasks[from]).error(), Some(Error::Timeout), "{what}");
                assert!(chain.w.time_of(&chain.tasks[from]) != 0, "{what}: it goes on");
                let last = chain.w.time_of(&chain.tasks[length - 1]);
                assert!(last != chain.own(0), "{what}: the last has lost it");
                assert_eq!(last != 0, own_time, "{what}: it has its own, or none");
                chain.kill_behind(from);
                chain.unwinds(from);
            }
        }
    }
}

/// A server that has no time left continues with the time of the highest caller that waits, and of
/// the next one when that has ended, too.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "an entry looks at three callers, and four have no time")]
fn a_depleted_server_goes_on_with_its_highest_waiting_callers_time() {
    let mut chain = Chain::of(1, 16);
    let server = chain.task(0, 40);
    chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    chain.end_time(0);
    for (n, priority) in [10, 15, 20, 25, 30].into_iter().enumerate() {
        let caller = chain.task(0, priority);
        chain.call(n + 1, 0);
        assert_eq!(caller.state() == State::Sending, n > 0, "the first is received, the others wait");
    }
    for n in [5, 4, 3, 2, 1] {
        assert!(chain.runs(0));
        assert_eq!(chain.w.time_of(&server), chain.own(n), "the time of caller {n}");
        chain.end_time(n);
    }
    assert!(chain.w.current(0).is_none(), "nobody has any time");
}

/// A server in the middle of a call of low priority goes on with the time of a better caller that
/// waits for it, and no task of a priority between keeps the CPU from it.
#[test]
fn a_better_caller_helps_its_server() {
    for elsewhere in [false, true] {
        let mut chain = Chain::of(2, 16);
        let server = chain.task(0, 40);
        chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let low = chain.task(0, 10);
        chain.call(1, 0);
        assert!(chain.runs(0));
        let between = chain.task(0, 20);
        assert!(chain.w.runs(0, &between));
        let high = chain.task(usize::from(elsewhere), 30);
        chain.call(3, 0);
        assert!(chain.runs(0), "elsewhere: {elsewhere}");
        assert_eq!(chain.w.time_of(&server), chain.own(3));
        assert_eq!(chain.w.time_of(&low), chain.own(1), "its time rests with it");
        chain.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
        assert!(chain.runs(0), "it has received the other call");
        assert_eq!(chain.w.time_of(&server), chain.own(3));
        chain.w.does_and_run(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
        for task in [&high, &low] {
            assert_eq!(chain.w.result(task).msg(), ANSWER);
        }
    }
}

/// The time on which a server runs becomes worse than that of a caller which waits.
#[test]
fn a_client_that_lowers_its_time_keeps_no_server() {
    let mut chain = Chain::of(1, 16);
    let server = chain.task(0, 40);
    chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
    let low = chain.task(0, 10);
    chain.call(1, 0);
    let other = chain.task(0, 10);
    chain.w.does_and_run(&server, Regs::op(Op::Yield, &[]));
    assert!(chain.w.runs(0, &other));
    chain.call(2, 0);
    assert!(chain.runs(0), "on the first client's time, since the second one's is no better");
    let taker = chain.task(0, 10);
    chain.w.does_and_run(&server, Regs::op(Op::Yield, &[]));
    assert!(chain.w.runs(0, &taker));
    chain.w.must(0, Op::SchedConfigure, &[CONTROL, low.sc.arg(), 0, 1000]);
    assert_eq!(chain.w.time_of(&server), chain.own(2));
    chain.w.does_and_run(&taker, Regs::op(Op::Yield, &[]));
    assert!(chain.runs(0), "it is its turn");
}

/// A caller whose time helps its server gives up: the server goes on with its own time.
#[test]
fn a_helper_that_gives_up_takes_its_time_along() {
    for own in [false, true] {
        let mut chain = Chain::of(1, 16);
        let server = chain.task(0, if own { 5 } else { 40 });
        if !own {
            chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
            chain.task(0, 10);
            chain.call(1, 0);
        } else {
            chain.task(0, 4);
        }
        let high = chain.task(0, 30);
        chain.call(2, 0);
        assert_eq!(chain.w.time_of(&server), chain.own(2));
        chain.w.must(0, Op::TaskCancel, &[high.cap.arg()]);
        chain.w.run();
        assert_eq!(chain.w.result(&high).error(), Some(Error::Cancelled));
        assert_eq!(chain.w.time_of(&server), chain.own(0), "own: {own}");
        assert_eq!(chain.w.time_of(&high), chain.own(2));
    }
}

/// The only time is that of the last of many callers: in the queue, or in a Reply object.
#[test]
fn a_depleted_server_finds_the_one_caller_that_has_time() {
    const CALLERS: usize = 40;
    for kept in [false, true] {
        for elsewhere in [false, true] {
            let mut chain = Chain::of(2, CALLERS as u64 + 8);
            chain.w.checked = false;
            let server = chain.task(0, 5);
            chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
            // The first is received immediately, the second is the last in the queue. Of those kept
            // the first is the last.
            let rich = if kept { 1 } else { 2 };
            for n in 1..=CALLERS {
                chain.task(usize::from(elsewhere), 20 + n as u64);
                chain.call(n, 0);
                if kept {
                    let reply = chain.w.make(0, ObjType::Reply, 0);
                    let slot = Cap(20 + n as u32);
                    chain.w.give(reply, chain.process, slot);
                    chain.w.does_and_run(&server, Regs::op(Op::SaveReply, &[slot.arg()]));
                    chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
                }
            }
            for n in (1..=CALLERS).filter(|n| *n != rich) {
                chain.end_time(n);
            }
            chain.w.checked = true;
            if kept {
                // It has no time, and is made ready without any.
                chain.end_time(0);
                chain.w.must(0, Op::TaskCancel, &[server.cap.arg()]);
            } else {
                chain.end_time(0);
            }
            chain.w.run();
            let what = format!("kept {kept}, elsewhere {elsewhere}");
            assert!(chain.runs(0), "{what}: it has found the time of the one caller that has some");
            assert_eq!(chain.w.time_of(&server), chain.own(rich), "{what}");
        }
    }
}

/// Callers of callers, and theirs: a tree of calls, in which the only time is given to a task
/// anywhere.
#[test]
fn time_is_found_wherever_it_is_up_a_tree_of_calls() {
    const TASKS: usize = 30;
    for (cpus, given) in [1, 2].into_iter().flat_map(|cpus| (1..TASKS).step_by(4).map(move |n| (cpus, n))) {
        let mut chain = Chain::of(2, TASKS as u64 + 8);
        chain.w.checked = false;
        for n in 0..TASKS {
            let task = chain.task(n % cpus, 10 + n as u64);
            if n == 0 {
                chain.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
            } else {
                // Each calls one of those before it: three callers a task.
                chain.call(n, (n - 1) / 3);
            }
        }
        for n in 0..TASKS {
            chain.end_time(n);
        }
        chain.w.checked = true;
        assert!((0..2).all(|n| chain.w.current(n).is_none()), "nobody has any time");
        let time = chain.time(10);
        let task = chain.tasks[given];
        let time = if task.home() == 0 { time } else { chain.time_on(task.home(), 10) };
        chain.w.must(task.home(), Op::SchedBind, &[time.arg(), task.cap.arg()]);
        chain.w.run();
        assert!(chain.runs(0), "{cpus} CPUs: time was given to task {given}");
        assert_eq!(chain.w.time_of(&chain.tasks[0]), chain.own(given));
    }
}

/// A circle of calls over two CPUs, and many who wait for one of its tasks: time that comes to them
/// helps nobody, keeps no CPU busy, and is theirs when the circle breaks.
#[test]
fn time_for_a_long_circle_of_calls_keeps_no_cpu_busy() {
    for length in LENGTHS {
        let mut chain = Chain::new(2, length, true, |n| n % 2);
        chain.calls();
        // The last calls the first.
        chain.call(length - 1, 0);
        for n in 0..length {
            chain.end_time(n);
        }
        let time = chain.time(10);
        chain.w.must(0, Op::SchedBind, &[time.arg(), chain.tasks[2].cap.arg()]);
        chain.w.run();
        assert!((0..2).all(|n| chain.w.current(n).is_none()), "all wait");
        chain.w.must(0, Op::TaskCancel, &[chain.tasks[length / 2].cap.arg()]);
        chain.w.run();
        assert!(chain.runs(length / 2), "the circle is broken there, and the time is for its new end");
    }
}

/// A small generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Many tasks with little time, who call each other all the time.
struct Crowd {
    chain: Chain,
    dice: Dice,
    replies: Vec<Cap>,
}

impl Crowd {
    fn new(seed: u64) -> Crowd {
        let mut dice = Dice(seed);
        let cpus = 1 + dice.below(3);
        let tasks = 4 + dice.below(36);
        let mut chain = Chain::of(cpus, tasks as u64 + 4);
        chain.w.gate.fast = dice.below(4) != 0;
        chain.w.checked = false;
        if dice.below(2) == 0 {
            chain.keep_time_at_home();
        }
        let mut replies = Vec::new();
        for n in 0..tasks {
            let place = dice.below(cpus);
            chain.task(place, [10, 10, 20][dice.below(3)]);
            if n % 4 == 0 {
                let slot = Cap(20 + n as u32);
                let reply = chain.w.make(place, ObjType::Reply, 0);
                chain.w.give(reply, chain.process, slot);
                replies.push(slot);
            }
        }
        chain.w.checked = true;
        Crowd { chain, dice, replies }
    }

    fn any(&mut self) -> usize {
        self.dice.below(self.chain.tasks.len())
    }

    /// Somebody that runs makes a system call.
    fn play(&mut self) {
        let cpus = self.chain.w.cpus();
        let n = self.dice.below(cpus);
        let runs = (0..self.chain.tasks.len()).find(|i| self.chain.w.runs(n, &self.chain.tasks[*i]));
        let Some(who) = runs else { return };
        if self.chain.w.must_restart(n) {
            return;
        }
        let other = self.any();
        let kept = self.replies[self.dice.below(self.replies.len())];
        let call = Regs::message(Op::Call, Chain::target(other), [who as u64; 4]);
        let soon = self.chain.w.now() + 300 + 500 * self.dice.below(8) as u64;
        let args = match self.dice.below(24) {
            0..10 => call,
            10 | 11 => call.deadline(soon),
            12..15 => Regs::op(Op::Recv, &[]),
            15 => Regs::op(Op::Recv, &[]).deadline(soon),
            16 | 17 => Regs::message(Op::ReplyRecv, Target(0), ANSWER),
            18 => Regs::message(Op::Reply, Target(0), ANSWER),
            19 => Regs::message(Op::Reply, Target::new(kept, 0), ANSWER),
            20 | 21 => Regs::op(Op::SaveReply, &[kept.arg()]),
            22 => Regs::message(Op::Forward, Chain::target(other), ANSWER),
            _ => Regs::op([Op::Yield, Op::YieldTo][self.dice.below(2)], &[Chain::target(other).0]),
        };
        self.chain.w.issue(n, args);
    }

    /// Somebody from outside takes time away or gives some, or ends a call.
    fn meddle(&mut self) {
        let (n, on) = (self.dice.below(self.chain.w.cpus()), self.any());
        let task = self.chain.tasks[on];
        if task.state() == State::Dead {
            return;
        }
        match self.dice.below(16) {
            0..5 if task.sc != Cap::NULL => {
                let _ = self.chain.w.ask(n, Op::CapDelete, &[at(task.sc)]);
                self.chain.tasks[on].sc = Cap::NULL;
            }
            5..8 if task.sc == Cap::NULL => {
                let home = task.home();
                let priority = [10, 10, 20][self.dice.below(3)];
                let sc = self.chain.time_on(home, priority);
                match self.chain.w.ask(home, Op::SchedBind, &[sc.arg(), task.cap.arg()]) {
                    Ok(_) => self.chain.tasks[on].sc = sc,
                    Err(_) => drop(self.chain.w.ask(home, Op::CapDelete, &[at(sc)])),
                }
            }
            8 | 9 => drop(self.chain.w.ask(n, Op::TaskCancel, &[task.cap.arg()])),
            10 => drop(self.chain.w.ask(n, Op::TaskSuspend, &[task.cap.arg()])),
            11..14 => drop(self.chain.w.ask(n, Op::TaskResume, &[task.cap.arg()])),
            14 if self.dice.below(6) == 0 => drop(self.chain.w.ask(n, Op::TaskKill, &[task.cap.arg()])),
            _ => self.chain.w.advance(700),
        }
    }

    /// All ends, and the memory comes back.
    fn end(mut self) {
        self.chain.w.run();
        for task in self.chain.tasks.clone() {
            let _ = self.chain.w.ask(0, Op::TaskKill, &[task.cap.arg()]);
        }
        self.chain.w.run();
        self.chain.w.must(0, Op::UntypedReset, &[self.chain.memory.arg(), 0]);
        for task in check::snapshot(&self.chain.w).tasks.iter().filter(|task| task.dead) {
            assert!(task.borrowed | task.lender == 0, "a dead task refers to time");
        }
        assert!(
            self.chain.w.object::<SchedContext>(abi::INIT_SCHED).is_some(),
            "the agent's own is no part of it"
        );
    }
}

fn storm(seed: u64) {
    let mut crowd = Crowd::new(seed);
    crowd.chain.w.trace = std::env::var("CHAIN_TRACE").is_ok();
    for _ in 0..200 + crowd.dice.below(400) {
        match crowd.dice.below(10) {
            0..6 => crowd.play(),
            6 | 7 => drop(crowd.chain.w.step(crowd.dice.below(crowd.chain.w.cpus()))),
            8 => crowd.meddle(),
            _ if crowd.dice.below(3) == 0 => crowd.chain.w.run(),
            _ => crowd.chain.w.advance(200),
        }
    }
    crowd.end();
}

/// All invariants hold after each entry, whatever a crowd does that has too little time.
/// `CHAIN_CASES` says how many crowds, `CHAIN_SEED` which is the first.
#[test]
fn a_crowd_that_is_short_of_time_loses_none() {
    let number = |name, normal| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(normal);
    let first = number("CHAIN_SEED", 1);
    for seed in first..first + number("CHAIN_CASES", 40) {
        println!("CHAIN_SEED={seed}");
        storm(seed);
    }
}

/// News of time for the head of a long chain. On its way it is joined with a recall of a task in
/// the middle, which waits on another CPU although the call is over.
#[test]
fn news_of_time_is_not_lost() {
    for stale in [false, true] {
        let (first, last) = (2, 2 + CALL_STEPS + 7);
        let middle = first + CALL_STEPS;
        let mut chain = Chain::of(2, 8 + last as u64);
        chain.w.checked = false;
        let server = chain.task(1, 20);
        chain.w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        let filler = chain.task(1, 1);
        assert!(chain.w.runs(1, &filler));
        chain.suspended_task(0, 10);
        for n in first + 1..=last {
            let task = chain.task(0, 10);
            if n == middle && stale {
                let deadline = chain.w.now() + 5000;
                let call = Regs::message(Op::Call, Chain::target(0), [1; 4]);
                chain.w.does(&task, call.deadline(deadline));
                chain.w.event(1);
                assert!(chain.w.runs(1, &server), "it serves the call");
                chain.w.advance(6000);
                chain.w.event(0);
                assert_eq!(task.state(), State::AwaitRemote);
                chain.w.does(&server, Regs::message(Op::ReplyRecv, Target(0), ANSWER));
                chain.w.event(0);
                assert_eq!(chain.w.result(&task).msg(), ANSWER);
                assert!(chain.w.block(1).mailbox().has_mail(), "the recall is still on its way");
                chain.w.hold(Some(1));
            }
            chain.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        }
        for n in first + 1..=last {
            chain.end_time(n);
        }
        chain.resume(first);
        for n in first + 1..=last {
            chain.call(n - 1, n);
        }
        assert!(chain.runs(last), "on the first task's time");
        chain.end_time(first);
        assert!(chain.w.current(0).is_none(), "nobody has any time");
        let again = chain.time(10);
        chain.w.must(0, Op::SchedBind, &[again.arg(), chain.tasks[first].cap.arg()]);
        chain.w.run();
        chain.w.hold(None);
        chain.w.run();
        assert!(chain.runs(last), "stale {stale}: time was given to the first, and the last has none");
    }
}

/// A helped server yields, because it waits for a task of lower priority: that task runs.
#[test]
fn a_helped_server_that_yields_lets_others_run() {
    let mut chain = Chain::of(1, 16);
    let server = chain.task(0, 10);
    let partner = chain.task(0, 10);
    chain.task(0, 30);
    chain.call(2, 0);
    assert!(chain.runs(0));
    assert_eq!(chain.w.time_of(&server), chain.own(2));
    chain.w.does_and_run(&server, Regs::op(Op::Yield, &[]));
    assert!(chain.w.runs(0, &partner));
    assert_eq!([chain.w.time_of(&server), chain.w.time_of(&chain.tasks[2])], [chain.own(0), chain.own(2)]);
}

/// A caller that helps with time which it has borrowed, and has better time of its own, lends one
/// of the two.
#[test]
fn a_helper_lends_one_time() {
    let mut chain = Chain::of(1, 16);
    let server = chain.task(0, 5);
    let middle = chain.task(0, 40);
    chain.w.does_and_run(&middle, Regs::op(Op::Recv, &[]));
    chain.task(0, 10);
    chain.call(2, 1);
    assert!(chain.runs(1));
    chain.call(1, 0);
    assert_eq!(chain.w.time_of(&server), chain.own(2), "the middle one's client pays");
    chain.task(0, 6);
    let other = chain.task(0, 7);
    chain.w.must(0, Op::SchedConfigure, &[CONTROL, other.sc.arg(), 7, 1000]);
    chain.w.must(0, Op::SchedConfigure, &[CONTROL, chain.tasks[2].sc.arg(), 8, 1000]);
    assert_eq!(chain.w.time_of(&server), chain.own(2));
}

/// A server that works on the time of its client calls another one. A better caller queues at it
/// meanwhile: when it goes on, its own time, which outranks both, does not count.
#[test]
fn a_server_that_is_answered_goes_on_with_its_callers_time() {
    for far in [0, 1] {
        let mut s = Scene::new(2);
        let (last, deeper) = s.server(far, 40);
        let (server, target) = s.server(0, 30);
        let (client, _) = s.running(0, 3);
        s.w.does_and_run(&client, call(target));
        s.w.does_and_run(&server, call(deeper));
        assert!(s.w.runs(far, &last));
        let (better, _) = s.running(1, 20);
        s.w.does_and_run(&better, call(target));
        let (between, _) = s.running(0, 10);
        if far == 0 {
            s.w.must(1, Op::TaskSuspend, &[between.cap.arg()]);
            s.w.run();
        }
        s.w.does_and_run(&last, answer());
        s.w.must(1, Op::TaskResume, &[between.cap.arg()]);
        s.w.run();
        assert!(s.w.runs(0, &server), "on its caller's time, with {far}");
        s.w.does_and_run(&server, answer());
        s.w.does_and_run(&server, answer());
        assert!(s.w.runs(1, &better));
    }
}

/// A server waits for bits in the middle of its work, and a better caller queues at it. When it
/// wakes, it goes before a task of a priority between the two.
#[test]
fn a_server_that_wakes_goes_on_with_its_callers_time() {
    const NOTE: Cap = Cap(31);
    for wants in [0, 1] {
        let mut s = Scene::new(2);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, s.process, NOTE);
        let (server, target) = s.running(0, 5);
        s.w.does_and_run(&server, Regs::op(Op::Wait, &[NOTE.arg()]));
        let (client, _) = s.running(wants, 20);
        s.w.does_and_run(&client, call(target));
        let (between, _) = s.running(0, 10);
        s.w.does_and_run(&between, Regs::op(Op::Notify, &[NOTE.arg(), 4]));
        assert!(s.w.runs(0, &server), "on its caller's time");
        s.w.does_and_run(&server, answer());
        s.w.does_and_run(&server, answer());
        assert!(s.w.runs(wants, &client));
    }
}
