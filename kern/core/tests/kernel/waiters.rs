//! Many tasks that wait for one event: a grace period, the end of a shootdown, or a death. Which of
//! them wake first, what the running program loses, and that each entry wakes few.

use std::cell::Cell;

use abi::{Cap, FLAG_PAGES, ObjType, Op, PAGE_SIZE, PageMode, PageRange, Rights, Target};
use kern_base::limits::{ENTRY_WORK, INTERRUPT_WORK, PROGRAM_WAKES, WAKE_WORK};
use kern_base::task::State;
use smp::host_test;

use crate::pages::{FROM, lists as lists_pages, pooled};
use crate::scene::{GROUP, Scene, call};
use crate::world::make::Proc;
use crate::world::{Regs, Tcb};

/// Ticks between two readings of the clock.
const PACE: u64 = 100;
/// Priorities of the tasks that wait, little below the program's, and of one that is little above.
const LOW: [u64; 3] = [97, 99, 98];
const HIGH: u64 = 101;
const PROGRAM: u64 = 100;
/// Tasks of low priority.
const COUNT: usize = 24;
const MANY: usize = 300;
/// Waiters that one interrupt wakes, at most, and points that one entry has.
const MOST: usize = (INTERRUPT_WORK / WAKE_WORK) as usize + 1 + PROGRAM_WAKES;
const POINTS: u64 = 400;

/// Slots of the waiters' process.
const CNODE: Cap = Cap(2);
const SPACE: Cap = Cap(3);
const VICTIM: Cap = Cap(4);
const NOTE: Cap = Cap(6);
const FIRST: u32 = 16;
const PLACE: u64 = 0x1_0000_0000;

/// What many tasks wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    Grace,
    Shootdown,
    Death,
}

const ALL: [For; 3] = [For::Grace, For::Shootdown, For::Death];

/// Tasks that wait for one event, which CPU 1 delays. A program runs on CPU 0.
struct Crowd {
    s: Scene,
    what: For,
    /// The memory of the process and the task of whose death the tasks are told.
    memory: Cap,
    low: Vec<Tcb>,
    high: Tcb,
    program: Tcb,
    /// One more task that waits.
    other: Tcb,
    /// A server of CPU 0 that outranks all.
    serves: Target,
}

impl Crowd {
    /// A crowd of `count` tasks of low priority, on these CPUs in turn, and one of high priority.
    fn new(what: For, count: usize, cpus: &[usize]) -> Crowd {
        Crowd::mixed(what, what, count, cpus)
    }

    /// A crowd whose task of high priority waits for something of its own.
    fn mixed(what: For, high: For, count: usize, cpus: &[usize]) -> Crowd {
        let what_of = |n: usize| if n == count { high } else { what };
        let mut s = if count > COUNT { Scene::unchecked(3, 64 << 20) } else { Scene::new(3) };
        let (_, serves) = s.server(0, HIGH + 9);
        let slots = u64::from(FIRST) + 2 + count as u64;
        let process = s.w.process_of(abi::INIT_UNTYPED, slots, slots);
        s.w.give(process.cnode, process, CNODE);
        s.w.give(process.vspace, process, SPACE);
        let note = s.w.make(0, ObjType::Notification, 0);
        s.w.give(note, process, NOTE);
        for n in 0..slots as u32 - FIRST {
            prepare(&mut s, what_of(n as usize), process, note, n);
        }
        let memory = s.w.make(0, ObjType::Untyped, 18);
        let (dies, victim) = victim(&mut s, memory);
        s.w.give(dies.process, process, VICTIM);
        let (_, to_server) = s.server(1, PROGRAM);
        s.w.start(process, 1, PROGRAM);
        s.w.hold(Some(1));
        s.w.does_and_run(&victim, call(to_server));
        assert_eq!(victim.state(), State::AwaitRemote);
        let mut waiter = |n: usize, cpu: usize, priority: u64| {
            let (task, what) = (s.w.start(process, cpu, priority), what_of(n));
            if what == For::Grace {
                s.w.does(&task, Regs::op(Op::CapDelete, &[place(n as u32)]));
            }
            s.w.does_and_run(&task, request(what, n as u32));
            assert_eq!(task.state(), State::Restart, "{what:?}: it waits");
            task
        };
        // CPU 1 is asked for the shootdown of this one alone, and for those of all others together.
        let other = waiter(count + 1, 0, LOW[0]);
        let low = (0..count).map(|n| waiter(n, cpus[n % cpus.len()], LOW[n % LOW.len()])).collect();
        let high = waiter(count, 0, HIGH);
        let (_, program) = s.somebody(0, PROGRAM);
        assert!(s.w.runs(0, &program), "the others wait");
        Crowd { s, what, memory, low, high, program, other, serves }
    }

    fn waiting(&self) -> usize {
        self.low.iter().filter(|task| task.state() == State::Restart).count()
    }

    /// Lets all CPUs go on until a waiter wakes.
    fn until_one_wakes(&mut self) {
        self.s.w.hold(None);
        while self.high.state() == State::Restart && self.waiting() == self.low.len() {
            if !(self.s.w.event(1) | self.s.w.event(0) | self.s.w.event(2)) {
                let timers = self.s.w.k.machine.hardware().timers.values().min().copied();
                let at = timers.expect("a timer goes on with them");
                self.s.w.advance(at.saturating_sub(self.s.w.now()));
            }
        }
    }

    /// Lets time pass until the timer of CPU 0 fires, and one entry there. Returns the ticks
    /// outside of the kernel, and inside.
    fn until_timer(&mut self) -> (u64, u64) {
        let at = self.s.w.k.machine.hardware().timers.get(&0).copied();
        let outside = at.expect("the timer goes on with them").saturating_sub(self.s.w.now());
        self.s.w.advance(outside);
        let entered = self.s.w.now();
        assert!(self.s.w.event(0));
        (outside, self.s.w.now() - entered)
    }

    /// Checks that those who woke are at least as good as those who wait.
    #[track_caller]
    fn best_first(&self) {
        let priority = |n: usize| LOW[n % LOW.len()];
        let (wait, woke): (Vec<_>, Vec<_>) =
            (0..self.low.len()).partition(|n| self.low[*n].state() == State::Restart);
        let best = wait.into_iter().map(priority).max().unwrap_or(0);
        assert!(woke.into_iter().all(|n| priority(n) >= best), "{:?}: a better one waits", self.what);
    }

    /// Lets the best waiter run, and complete its system call. Then the program goes on.
    fn serve_best(&mut self) {
        while !self.s.w.runs(0, &self.high) {
            assert!(self.s.w.event(0), "{:?}: the best waiter does not run", self.what);
        }
        while self.s.w.must_restart(0) && self.s.w.runs(0, &self.high) {
            self.s.w.syscall(0);
        }
        if self.s.w.runs(0, &self.high) {
            self.s.w.does(&self.high, Regs::op(Op::Recv, &[]));
        }
        assert!(self.s.w.runs(0, &self.program), "{:?}", self.what);
    }

    /// Lets all tasks complete their system calls and then wait for calls. Checks that all but
    /// these have completed theirs once.
    #[track_caller]
    fn all_end(&mut self, killed: &[usize]) {
        let all = || self.low.iter().chain([&self.high, &self.program, &self.other]).copied();
        let all: Vec<Tcb> = all().collect();
        let mut ends = vec![0; all.len()];
        loop {
            self.s.w.run();
            let runs = |(n, task): (usize, &Tcb)| (0..3).any(|cpu| self.s.w.runs(cpu, task)).then_some(n);
            let Some(n) = all.iter().enumerate().find_map(runs) else { break };
            ends[n] += 1;
            assert_eq!(self.s.w.result(&all[n]).error(), None, "{:?}: {n}", self.what);
            self.s.w.does(&all[n], Regs::op(Op::Recv, &[]));
        }
        for (n, task) in self.low.iter().enumerate() {
            let state = if killed.contains(&n) { State::Dead } else { State::Recv };
            assert_eq!(
                (task.state(), ends[n]),
                (state, usize::from(state == State::Recv)),
                "{:?}: {n}",
                self.what
            );
        }
    }

    fn kill(&mut self, numbers: &[usize]) {
        numbers.iter().for_each(|n| _ = self.s.w.must(0, Op::TaskKill, &[self.low[*n].cap.arg()]));
    }
}

/// Makes what waiter `n` needs.
fn prepare(s: &mut Scene, what: For, process: Proc, note: Cap, n: u32) {
    match what {
        For::Grace => s.w.give(note, process, Cap(FIRST + n)),
        For::Shootdown => {
            let frame = s.w.make(0, ObjType::Frame, 12);
            let address = PLACE + u64::from(n) * PAGE_SIZE;
            s.w.must(0, Op::Map, &[process.vspace.arg(), frame.arg(), address, 1, 0, 1]);
            s.w.give(frame, process, Cap(FIRST + n));
        }
        For::Death => {}
    }
}

/// A process with a task of CPU 0 that may call, made of some memory.
fn victim(s: &mut Scene, memory: Cap) -> (Proc, Tcb) {
    let process = s.w.process_of(memory, 2, 16);
    s.w.join_all(s.group, process, GROUP);
    let task = s.w.task_of(memory, process, 0, HIGH, true);
    s.w.resume(&task);
    s.w.run();
    (process, task)
}

/// The slot that waiter `n` empties and fills again, to wait for a grace period.
fn place(n: u32) -> u64 {
    Target::new(CNODE, FIRST + n).0
}

/// The system call by which waiter `n` waits.
fn request(what: For, n: u32) -> Regs {
    match what {
        For::Grace => Regs::op(Op::CapCopy, &[NOTE.arg(), place(n), u64::from(Rights::ALL.0)]),
        For::Shootdown => {
            let address = PLACE + u64::from(n) * PAGE_SIZE;
            Regs::op(Op::Unmap, &[SPACE.arg(), Cap(FIRST + n).arg(), address, 0, 0, 1])
        }
        For::Death => Regs::op(Op::ProcessKill, &[VICTIM.arg()]),
    }
}

#[test]
fn a_waiter_of_high_priority_wakes_first() {
    for what in ALL {
        let mut crowd = Crowd::new(what, COUNT, &[0]);
        crowd.until_one_wakes();
        crowd.serve_best();
        assert!(COUNT - crowd.waiting() < MOST, "{what:?}: however many wait longer");
    }
}

/// Tasks that wait for different things wake in the order of their priorities, too, once all of it
/// has come.
#[test]
fn the_best_of_all_lists_wakes_first() {
    for (what, high) in ALL.into_iter().flat_map(|what| ALL.map(|high| (what, high))) {
        let mut crowd = Crowd::mixed(what, high, COUNT, &[0]);
        crowd.s.w.hold(None);
        while crowd.high.state() == State::Restart {
            while crowd.s.w.event(1) | crowd.s.w.event(2) {}
            assert!(crowd.s.w.event(0), "{high:?} does not come");
        }
        let woke = COUNT - crowd.waiting();
        assert!(woke <= PROGRAM_WAKES, "{high:?} wakes after {woke} of {what:?}");
    }
}

#[test]
fn all_waiters_wake_and_the_program_keeps_its_cpu() {
    for what in ALL {
        let mut crowd = Crowd::new(what, COUNT, &[0]);
        crowd.s.w.k.machine.hardware().pace = PACE;
        crowd.until_one_wakes();
        crowd.serve_best();
        let (mut inside, mut outside, mut left) = (0, 0, crowd.waiting());
        assert!(left > COUNT / 2, "{what:?}: {left} wait for their turn");
        while left > 0 {
            let (more_outside, more_inside) = crowd.until_timer();
            (outside, inside) = (outside + more_outside, inside + more_inside);
            let now = crowd.waiting();
            assert!(left - now <= 2 * PROGRAM_WAKES, "{what:?}: {left} to {now}");
            left = now;
            crowd.best_first();
        }
        assert!(outside >= 4 * inside, "{what:?}: {inside} ticks in the kernel, {outside} outside");
        assert!(crowd.s.w.runs(0, &crowd.program));
    }
}

/// Tasks that rest for the sake of a program wake when it stops.
#[test]
fn waiters_rest_no_longer_than_the_program_runs() {
    for what in ALL {
        let mut crowd = Crowd::new(what, COUNT, &[0]);
        crowd.s.w.k.machine.hardware().pace = PACE;
        crowd.until_one_wakes();
        crowd.serve_best();
        let timer = |crowd: &Crowd| crowd.s.w.k.machine.hardware().timers[&0];
        while timer(&crowd) < crowd.s.w.now() + 20 * PACE {
            crowd.until_timer();
        }
        let (left, rest_ends) = (crowd.waiting(), timer(&crowd));
        assert!(left > COUNT / 3, "{what:?}: {left} rest");
        crowd.s.w.k.machine.hardware().pace = 0;
        crowd.s.w.does(&crowd.program, Regs::op(Op::Recv, &[]));
        while crowd.s.w.event(0) {}
        let mut last = HIGH;
        while let Some(n) = (0..COUNT).find(|n| crowd.s.w.runs(0, &crowd.low[*n])) {
            assert!(LOW[n % LOW.len()] <= last, "{what:?}: a better one has waited");
            last = LOW[n % LOW.len()];
            while crowd.s.w.must_restart(0) && crowd.s.w.runs(0, &crowd.low[n]) {
                crowd.s.w.syscall(0);
            }
            if crowd.s.w.runs(0, &crowd.low[n]) {
                crowd.s.w.does(&crowd.low[n], Regs::op(Op::Recv, &[]));
            }
            while crowd.s.w.event(0) {}
        }
        assert_eq!(crowd.waiting(), 0, "{what:?}: some rest still");
        assert!(crowd.s.w.now() < rest_ends, "{what:?}: they have rested");
    }
}

#[test]
fn an_idle_cpu_wakes_a_crowd_in_bounded_entries() {
    for what in ALL {
        let mut crowd = Crowd::new(what, MANY, &[0]);
        crowd.s.w.does(&crowd.program, Regs::op(Op::Recv, &[]));
        crowd.s.w.hold(None);
        let (mut entries, mut left) = (0, MANY);
        while left > 0 {
            let points = Cell::new(0);
            let mut count = |_| points.set(points.get() + 1);
            let w = &mut crowd.s.w;
            let mut moved = false;
            host_test::at_points(&mut count, || moved = w.event(0));
            assert!(points.get() <= POINTS, "{what:?}: an entry has {} points", points.get());
            if !moved && !(w.event(1) | w.event(2)) {
                let at = w.k.machine.hardware().timers.values().min().copied();
                w.advance(at.expect("a timer goes on with them").saturating_sub(w.now()));
            }
            let now = crowd.waiting();
            assert!(left - now <= (ENTRY_WORK / WAKE_WORK) as usize + MOST, "{what:?}: {left} to {now}");
            entries += u64::from(now < left);
            left = now;
        }
        assert!(entries >= MANY as u64 * WAKE_WORK / ENTRY_WORK / 2, "{what:?}: {entries} entries");
        crowd.all_end(&[]);
    }
}

/// A killed waiter leaves the list wherever it is, before the event or after it, and all others
/// wake once.
#[test]
fn waiters_that_are_killed_leave_the_list() {
    let (before, after) = ([0, 7, 8, COUNT - 1], [1, 2, 9, 10, 12, COUNT - 2, COUNT - 3]);
    for (what, cpus) in
        ALL.map(|what| (what, [0, 0])).into_iter().chain([(For::Death, [2, 2]), (For::Death, [0, 2])])
    {
        let mut crowd = Crowd::new(what, COUNT, &cpus);
        crowd.kill(&before);
        crowd.until_one_wakes();
        assert!(crowd.waiting() > 0, "{what:?}: some wait for their turn");
        crowd.kill(&after);
        crowd.all_end(&[before.as_slice(), after.as_slice()].concat());
    }
}

/// The memory of the dead task serves something else while tasks still wait to learn about the
/// death.
#[test]
fn those_who_are_told_of_a_death_do_not_need_the_dead() {
    let mut crowd = Crowd::new(For::Death, MANY, &[0]);
    crowd.until_one_wakes();
    let memory = crowd.memory;
    // So that the others rest meanwhile.
    crowd.s.w.k.machine.hardware().pace = PACE;
    crowd.s.w.must(0, Op::UntypedReset, &[memory.arg()]);
    for _ in 0..64 {
        crowd.s.w.make_of(0, memory, ObjType::Notification, 0);
    }
    let left: Vec<usize> = (0..MANY).filter(|n| crowd.low[*n].state() == State::Restart).step_by(7).collect();
    assert!(left.len() > 4, "few wait for their turn: {left:?}");
    crowd.kill(&left);
    crowd.s.w.run();
    assert!(left.iter().all(|n| crowd.low[*n].state() == State::Dead));
    assert_eq!(crowd.waiting(), 0);
}

/// The timer looks at tasks whose waits are not over, each time that it fires. A message with pages
/// does not come in such an interrupt, and it comes all the same.
#[test]
fn pages_do_not_wait_for_those_who_wait() {
    let mut crowd = Crowd::new(For::Grace, 3, &[0]);
    let s = &mut crowd.s;
    s.w.k.machine.hardware().pace = PACE;
    let (process, caller) = s.somebody(2, PROGRAM - 5);
    s.w.join_all(s.group, process, GROUP);
    pooled(s, process.vspace, FROM, 1);
    lists_pages(&caller, &[PageRange::new(PageMode::Share, FROM, 1)]);
    let note = s.w.make(0, ObjType::Notification, 0);
    s.w.give(note, process, NOTE);
    let waits_there = |s: &Scene| s.w.block(0).mailbox().has_mail();
    // Nothing of it is urgent, so CPU 0 defers what comes next.
    s.w.does(&caller, Regs::op(Op::Notify, &[NOTE.arg(), 1]));
    s.w.event(0);
    let at = s.w.look(0).sched.look_at.get();
    assert!(s.w.look(0).cpu.inbox().is_deferring());
    s.w.does(&caller, call(crowd.serves).flag(FLAG_PAGES));
    assert!(waits_there(s));
    s.w.advance(at.saturating_sub(s.w.now()));
    for _ in 0..3 {
        s.w.event(0);
    }
    assert!(!waits_there(s), "they come with the third interrupt at the latest");
}
