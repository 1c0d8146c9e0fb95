//! What CPUs tell a scheduling policy: status words and events in a pool.

use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::status::{Doing, KERNEL, SchedEvent, Seen, Status};
use abi::{BUDGET_MIN, Cap, Error, ObjType, Op, Target};
use kern_base::events::EventPool;
use kern_base::sched_context::SchedContext;
use kern_base::task::State;
use kern_core::door::entry::Interrupt;
use smp::host_test;

use crate::events::Reader;
use crate::scene::{Scene, call};
use crate::time::answer;
use crate::world::gate::Why;
use crate::world::make::{CONTROL, Proc, at};
use crate::world::{Regs, Tcb, World};

const SIZE: PoolSize = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 };
const POOL_VA: u64 = 0x6100_0000;
const SLICE: u64 = 500;
const ALL: u64 = SchedEvent::MASK as u64;
/// The status words of contexts come after those of CPUs.
const FIRST: u64 = 8;
/// Steps that others take in the middle, at most.
const STEPS: usize = 200;

/// A machine whose CPUs report to the pool of a policy, a task of the last CPU.
struct Watched {
    s: Scene,
    pool: Cap,
    policy: Tcb,
    reader: Reader,
}

impl Watched {
    fn new(cpus: usize) -> Watched {
        let mut s = Scene::new(cpus);
        let (policy, _) = s.running(cpus - 1, 60);
        let pool = s.w.make(0, ObjType::EventPool, SIZE.raw());
        let args = [pool.arg(), s.process.process.arg(), policy.cap.arg(), POOL_VA, 2];
        s.w.must(0, Op::PoolBind, &args);
        s.w.does_and_run(&policy, Regs::op(Op::Recv, &[]));
        let reader = Reader::of(s.w.object::<EventPool>(pool).expect("the pool").get(), 0);
        let mut it = Watched { s, pool, policy, reader };
        for n in 0..cpus {
            assert_eq!(watch_cpu(&mut it.s.w, n, pool.arg(), n as u64), None);
        }
        it
    }

    /// Gives the pool to a process.
    fn bind(&mut self, process: Proc, reader: &Tcb) {
        let args = [self.pool.arg(), process.process.arg(), reader.cap.arg(), POOL_VA, 2];
        self.s.w.must(0, Op::PoolBind, &args);
        self.s.w.run();
        self.reader = Reader::of(self.s.w.object::<EventPool>(self.pool).expect("the pool").get(), 0);
    }

    /// Watches a context from CPU 0.
    fn watch(&mut self, sc: Cap, word: u64, events: u64) -> Option<Error> {
        let wish = self.wish(sc, word, events);
        self.s.w.call(0, wish).error()
    }

    fn wish(&self, sc: Cap, word: u64, events: u64) -> Regs {
        Regs::op(Op::SchedWatch, &[sc.arg(), self.pool.arg(), FIRST + word, events])
    }

    fn word(&self, n: u64) -> Status {
        let pool = self.s.w.object::<EventPool>(self.pool).expect("the pool").get();
        let word = pool.status(host_test::pin(0), n).expect("a word of the pool");
        word.read().expect("nobody writes it now")
    }

    fn of(&self, word: u64) -> Status {
        self.word(FIRST + word)
    }

    fn doing(&self, word: u64) -> Doing {
        self.of(word).doing
    }

    /// Returns the events since the last time: what happened, and to which context.
    fn events(&mut self) -> Vec<(SchedEvent, u64)> {
        let mut came = Vec::new();
        while let Some((event, words)) = self.reader.read() {
            assert_eq!((event.exposure, event.group, words.len()), (KERNEL, 0, 0));
            let what = SchedEvent::from_label(event.info.label()).expect("an event of time");
            came.push((what, u64::from(event.regs[0] as u32) - FIRST));
        }
        self.reader.keep(0);
        came
    }
}

/// Makes CPU `n` report to a pool, or to none. CPU 0 asks.
fn watch_cpu(w: &mut World, n: usize, pool: u64, word: u64) -> Option<Error> {
    let machine = Target::new(abi::INIT_MACHINE, n as u32).0;
    w.call(0, Regs::op(Op::CpuWatch, &[machine, pool, word])).error()
}

#[test]
fn a_context_tells_what_it_does() {
    let mut it = Watched::new(2);
    let (low, _) = it.s.running(1, 20);
    let (high, _) = it.s.running(1, 30);
    for (n, task) in [&low, &high].into_iter().enumerate() {
        assert_eq!(it.watch(task.sc, n as u64, ALL), None);
    }
    let told = it.of(1);
    assert_eq!((told.doing, told.place, told.priority), (Doing::Runs, 1, 30));
    assert_eq!((it.doing(0), it.word(1).place), (Doing::Ready, 1), "the CPU counts it as ready");
    assert_eq!(it.events(), [], "nothing has happened yet");

    let before = it.of(0);
    it.s.w.does_and_run(&high, Regs::op(Op::Recv, &[]));
    assert_eq!((it.doing(0), it.doing(1)), (Doing::Runs, Doing::Rests));
    assert_eq!(it.events(), [(SchedEvent::Blocked, 1)], "who was ready has not woken");
    assert_eq!(it.word(1).place, 0);
    it.s.w.advance(300);
    it.s.w.does_and_run(&low, Regs::op(Op::Recv, &[]));
    let told = it.of(0);
    assert_eq!((told.doing, told.sequence), (Doing::Rests, before.sequence + 1));
    let used = told.ticks - before.ticks;
    assert!((300..400).contains(&used), "it has used {used} ticks");
    let info = it.s.w.must(0, Op::SchedInfo, &[low.sc.arg()]);
    assert_eq!(info.rdi, told.ticks, "the account says the same");
}

#[test]
fn a_cpu_tells_how_long_it_idles() {
    let mut it = Watched::new(2);
    assert_eq!(it.word(0).doing, Doing::Rests);
    let (task, _) = it.s.running(1, 20);
    let first = it.word(1);
    assert_eq!(first.doing, Doing::Runs);
    it.s.w.advance(1_000);
    it.s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    it.s.w.event(1);
    let rests = it.word(1);
    assert_eq!((rests.doing, rests.ticks, rests.count), (Doing::Rests, first.ticks, first.count + 1));
    it.s.w.advance(5_000);
    it.s.running(1, 20);
    let busy = it.word(1);
    assert_eq!(busy.doing, Doing::Runs);
    let idled = busy.ticks - rests.ticks;
    assert!((5_000..5_500).contains(&idled), "it has idled {idled} ticks");
}

#[test]
fn only_what_was_asked_for_is_reported() {
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    assert_eq!(it.watch(task.sc, 0, SchedEvent::Woken as u64), None);
    let first = it.of(0).sequence;
    for _ in 0..3 {
        for (op, doing) in [(Op::TaskSuspend, Doing::Rests), (Op::TaskResume, Doing::Runs)] {
            it.s.w.must(0, op, &[task.cap.arg()]);
            it.s.w.run();
            assert_eq!(it.doing(0), doing);
        }
    }
    assert_eq!(it.events(), [(SchedEvent::Woken, 0); 3]);
    assert_eq!(it.of(0).sequence, first + 3);
    // Without any events the word is still written.
    assert_eq!(it.watch(task.sc, 1, 0), None);
    it.s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    assert_eq!((it.events(), it.doing(1)), (vec![], Doing::Rests));
}

#[test]
fn events_that_find_no_room_are_counted() {
    const EVENTS: u64 = 100;
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    assert_eq!(it.watch(task.sc, 0, ALL), None);
    let first = u64::from(it.of(0).sequence);
    for n in 0..EVENTS {
        let op = if n % 2 == 0 { Op::TaskSuspend } else { Op::TaskResume };
        it.s.w.must(0, op, &[task.cap.arg()]);
        it.s.w.run();
    }
    let room = 1 << SIZE.cells_log2;
    assert_eq!(it.events().len(), room);
    let lost = it.reader.word(abi::PAGE_SIZE + 16).load(smp::sync::Ordering::Relaxed);
    assert_eq!((room as u64 + lost, u64::from(it.of(0).sequence)), (EVENTS, first + EVENTS));
}

#[test]
fn a_reader_that_waits_is_woken_by_an_event() {
    for n in 0..2 {
        let mut it = Watched::new(2);
        let bell = it.s.w.make(1, ObjType::Notification, 0);
        it.s.w.must(1, Op::NotificationBind, &[bell.arg(), it.policy.cap.arg()]);
        let (task, _) = it.s.running(n, 20);
        assert_eq!(it.watch(task.sc, 0, ALL), None);
        it.reader.arm();
        it.s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
        assert_eq!(it.policy.state(), State::Ready, "the policy runs, on the task's CPU or another");
        assert_eq!(it.s.w.result(&it.policy).msg()[0], 2, "the bits that it was bound with");
        assert_eq!(it.events(), [(SchedEvent::Blocked, 0)]);
    }
}

#[test]
fn a_budget_that_is_used_up_is_told() {
    const PERIOD: u64 = 10 * BUDGET_MIN;
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    assert_eq!(it.watch(task.sc, 0, SchedEvent::Exhausted as u64), None);
    let args = [CONTROL, task.sc.arg(), 20, SLICE, BUDGET_MIN, PERIOD];
    it.s.w.must(0, Op::SchedConfigure, &args);
    for n in 1..4 {
        it.s.w.advance(BUDGET_MIN);
        it.s.w.interrupt(1, Interrupt::Timer);
        let told = it.of(0);
        assert_eq!((task.state(), told.doing, told.count), (State::Exhausted, Doing::Exhausted, n));
        it.s.w.advance(PERIOD);
        it.s.w.interrupt(1, Interrupt::Timer);
        assert_eq!(it.doing(0), Doing::Runs);
    }
    assert_eq!(it.events(), [(SchedEvent::Exhausted, 0); 3]);
}

/// A call takes the client's time along, on the CPU and to another one. That is no block: the time
/// is spent elsewhere.
#[test]
fn time_that_a_call_takes_along_is_told_where_it_is_spent() {
    for far in [false, true] {
        let mut it = Watched::new(3);
        let (client, _) = it.s.running(1, 20);
        let (server, target) = it.s.server(if far { 0 } else { 1 }, 30);
        assert_eq!(it.watch(client.sc, 0, ALL), None);
        it.s.w.does_and_run(&client, call(target));
        assert_eq!((it.doing(0), it.of(0).place), (Doing::Runs, u16::from(!far)), "far: {far}");
        it.s.w.does_and_run(&server, answer());
        assert_eq!((it.doing(0), it.of(0).place), (Doing::Runs, 1));
        assert_eq!(it.events(), []);
    }
}

#[test]
fn what_becomes_of_a_task_is_told() {
    let mut it = Watched::new(2);
    let sc = it.s.time(20);
    let asked = SchedEvent::Created as u64 | SchedEvent::Died as u64 | SchedEvent::Moved as u64;
    assert_eq!(it.watch(sc, 0, asked), None);
    let (task, _) = it.s.task(0, 0, false);
    it.s.w.must(0, Op::SchedBind, &[sc.arg(), task.cap.arg()]);
    it.s.w.resume(&task);
    it.s.w.run();
    assert_eq!(it.events(), [(SchedEvent::Created, 0)]);
    it.s.w.must(0, Op::TaskMove, &[CONTROL, task.cap.arg(), 1]);
    it.s.w.run();
    assert_eq!((it.events(), it.of(0).place), (vec![(SchedEvent::Moved, 0)], 1));
    it.s.kill(&task);
    assert_eq!(it.events(), [(SchedEvent::Died, 0)]);
}

#[test]
fn what_was_decided_before_a_change_is_refused() {
    for n in 0..2 {
        let mut it = Watched::new(2);
        let (task, _) = it.s.running(n, 20);
        assert_eq!(it.watch(task.sc, 0, ALL), None);
        it.s.w.must(0, Op::TaskSuspend, &[task.cap.arg()]);
        it.s.w.run();
        let seen = it.of(0).sequence;
        let set = |seen: u32| [CONTROL, task.sc.arg(), Seen(seen).with(25), SLICE];
        assert_eq!(
            it.s.w.ask(0, Op::SchedConfigure, &set(seen - 1)).err(),
            Some((Error::Stale, seen.into()))
        );
        assert_eq!(it.of(0).priority, 20);
        it.s.w.must(0, Op::SchedConfigure, &set(seen));
        let told = it.of(0);
        assert_eq!((told.priority, told.sequence), (25, seen + 1), "a setting is a change, too");
        let go = |seen: u32| [CONTROL, task.cap.arg(), Seen(seen).with(1 - n as u64)];
        assert_eq!(it.s.w.ask(0, Op::TaskMove, &go(seen)).err(), Some((Error::Stale, (seen + 1).into())));
        it.s.w.must(0, Op::TaskMove, &go(seen + 1));
        it.s.w.run();
        assert_eq!(task.home(), 1 - n);
        // Without a number it is done whatever has changed.
        it.s.w.must(0, Op::SchedConfigure, &[CONTROL, task.sc.arg(), 26, SLICE]);
    }
}

/// When a pool leaves its process, nobody reports to it, and what was watched goes on.
#[test]
fn a_policy_that_ends_leaves_nothing_behind() {
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    assert_eq!(it.watch(task.sc, 0, ALL), None);
    it.s.w.must(0, Op::CapDelete, &[at(it.pool)]);
    it.s.w.run();
    for n in 0..2 {
        assert!(it.s.w.block(n).watch.is_null());
    }
    it.s.w.does_and_run(&task, Regs::op(Op::Yield, &[]));
    it.s.w.does_and_run(&task, Regs::op(Op::Recv, &[]));
    let watched = it.s.w.object::<SchedContext>(task.sc).expect("the context");
    assert!(!watched.get().hot.here(host_test::pin(1)).state.is_watched(), "it needs no care any more");
}

/// A pool that another process gets is another policy's: what was watched with it before is not
/// reported to that process, nor counted for it.
#[test]
fn a_pool_that_changes_hands_reports_nothing_of_before() {
    let mut it = Watched::new(2);
    for n in 0..2 {
        assert_eq!(watch_cpu(&mut it.s.w, n, 0, 0), None);
    }
    let (low, _) = it.s.running(1, 20);
    let (high, _) = it.s.running(1, 30);
    it.pool = it.s.w.make(0, ObjType::EventPool, SIZE.raw());
    let memory = it.s.w.make(0, ObjType::Untyped, 20);
    let first = it.s.w.process_of(memory, 8, 64);
    let policy = it.s.w.task_of(memory, first, 0, 40, true);
    it.bind(first, &policy);
    assert_eq!(watch_cpu(&mut it.s.w, 1, it.pool.arg(), 1), None);
    assert_eq!(it.watch(low.sc, 0, ALL), None);
    assert_eq!((it.doing(0), it.word(1).place), (Doing::Ready, 1));
    it.s.w.must(0, Op::UntypedReset, &[memory.arg(), 1, 0, abi::INIT_MACHINE.arg()]);
    it.s.w.run();
    let (second, policy) = it.s.somebody(0, 40);
    it.bind(second, &policy);
    assert_eq!(it.watch(high.sc, 1, ALL), Some(Error::BadState), "no CPU reports to it");
    assert_eq!(watch_cpu(&mut it.s.w, 1, it.pool.arg(), 1), None);
    let before = it.of(0);
    assert_eq!(it.word(1).place, 0, "nobody that it watches is ready");
    it.s.w.does_and_run(&high, Regs::op(Op::Recv, &[]));
    it.s.w.does_and_run(&low, Regs::op(Op::Yield, &[]));
    assert_eq!((it.of(0), it.events()), (before, vec![]), "not its own");
    assert_eq!(it.watch(low.sc, 0, ALL), None);
    it.s.w.does_and_run(&low, Regs::op(Op::Recv, &[]));
    assert_eq!((it.doing(0), it.events()), (Doing::Rests, vec![(SchedEvent::Blocked, 0)]));
}

/// What the word of a context says that loses the CPU is what it has used, however it loses it.
#[test]
fn a_context_that_loses_the_cpu_has_used_what_its_word_says() {
    for way in 0..3 {
        let mut it = Watched::new(1);
        let (one, _) = it.s.running(0, 20);
        let (other, _) = it.s.running(0, 20);
        assert_eq!(it.watch(one.sc, 0, ALL), None);
        it.s.w.must(0, Op::SchedConfigure, &[CONTROL, one.sc.arg(), 20, SLICE]);
        if !it.s.w.runs(0, &one) {
            it.s.w.does_and_run(&other, Regs::op(Op::Yield, &[]));
        }
        assert!(it.s.w.runs(0, &one));
        match way {
            // Its slice is over: by the timer's short way.
            0 => {
                it.s.w.advance(SLICE + 100);
                it.s.w.interrupt(0, Interrupt::Timer);
            }
            1 => it.s.w.does_and_run(&one, Regs::op(Op::Yield, &[])),
            // A better task becomes ready.
            _ => drop(it.s.running(0, 40)),
        }
        assert!(!it.s.w.runs(0, &one));
        let told = it.of(0);
        let info = it.s.w.must(0, Op::SchedInfo, &[one.sc.arg()]);
        assert_eq!((told.doing, told.ticks), (Doing::Ready, info.rdi), "way {way}");
    }
}

/// A number of what was seen holds only while somebody watches.
#[test]
fn what_nobody_watches_is_always_stale() {
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    let set = |seen: u32| [CONTROL, task.sc.arg(), Seen(seen).with(25), SLICE];
    let stale = |it: &mut Watched, seen| it.s.w.ask(0, Op::SchedConfigure, &set(seen)).err().map(|why| why.0);
    assert_eq!(stale(&mut it, 0), Some(Error::Stale));
    assert_eq!(it.watch(task.sc, 0, ALL), None);
    let seen = it.of(0).sequence;
    assert_eq!(it.s.w.call(0, Regs::op(Op::SchedWatch, &[task.sc.arg()])).error(), None);
    it.s.w.must(0, Op::SchedConfigure, &[CONTROL, task.sc.arg(), 26, SLICE]);
    assert_eq!(it.watch(task.sc, 0, ALL), None);
    assert_eq!(stale(&mut it, seen), Some(Error::Stale), "it was set meanwhile");
    let seen = it.of(0).sequence;
    assert_eq!(stale(&mut it, seen), None);
    // A task without time of its own.
    let task = it.s.w.task_with(it.s.process, 1, 20, false);
    let go = [CONTROL, task.cap.arg(), Seen(0).with(0)];
    assert_eq!(it.s.w.ask(0, Op::TaskMove, &go).err().map(|why| why.0), Some(Error::Stale));
}

#[test]
fn wrong_watches_are_refused() {
    let mut it = Watched::new(2);
    let (task, _) = it.s.running(1, 20);
    let words = SIZE.status_words() as u64;
    let (pool, sc) = (it.pool.arg(), task.sc.arg());
    let machine = |cpu: u32| Target::new(abi::INIT_MACHINE, cpu).0;
    let plain = it.s.w.make(0, ObjType::EventPool, CELLS_LOG2_MIN.into()).arg();
    let other = it.s.w.make(0, ObjType::EventPool, SIZE.raw()).arg();
    let refused: [(Op, &[u64], Error); 9] = [
        (Op::CpuWatch, &[machine(2), pool, 0], Error::NoCpu),
        (Op::CpuWatch, &[machine(1), pool, words], Error::BadArgument),
        (Op::CpuWatch, &[machine(1), plain, 0], Error::BadArgument),
        (Op::CpuWatch, &[machine(1), other, 0], Error::BadState),
        (Op::CpuWatch, &[machine(1), sc, 0], Error::WrongType),
        (Op::SchedWatch, &[sc, pool, words, 0], Error::BadArgument),
        (Op::SchedWatch, &[sc, pool, 0, ALL + 1], Error::BadArgument),
        (Op::SchedWatch, &[sc, other, 0, ALL], Error::BadState),
        (Op::SchedWatch, &[pool, pool, 0, ALL], Error::WrongType),
    ];
    for (op, args, error) in refused {
        assert_eq!(it.s.w.ask(0, op, args).err().map(|(error, _)| error), Some(error), "{op:?} {args:?}");
    }
    assert_eq!(watch_cpu(&mut it.s.w, 1, 0, 0), None, "it reports to nobody");
    assert_eq!(it.watch(task.sc, 0, ALL), Some(Error::BadState), "its CPU does not report");
}

/// A pool ends while a CPU is at any point of telling something; and a CPU begins to report while
/// the pool ends.
#[test]
fn a_pool_ends_at_every_point_of_a_report() {
    for case in 0..2 {
        for point in 0.. {
            let mut it = Watched::new(3);
            let (task, _) = it.s.running(1, 20);
            assert_eq!(it.watch(task.sc, 0, ALL), None);
            let mut points = 0..;
            let here = move |_| points.next() == Some(point);
            let pool = it.pool;
            let others = |w: &mut World| {
                w.begin(0, Regs::op(Op::CapDelete, &[at(pool)]));
                let _ = (0..STEPS).all(|_| w.step(0) | w.step(2 - case));
            };
            let stands = if case == 0 {
                it.s.w.prepare(1, Regs::op(Op::Recv, &[]));
                it.s.w.tear(1, Why::SystemCall, here, others)
            } else {
                let machine = Target::new(abi::INIT_MACHINE, 1).0;
                let watch = Regs::op(Op::CpuWatch, &[machine, pool.arg(), 3]);
                it.s.w.torn_where(2, watch, here, others)
            };
            if !stands {
                assert!(point > 0, "there is no such point");
                break;
            }
            it.s.w.run();
            assert_eq!(it.s.w.finish(0).error(), None);
            it.s.w.run();
            assert!((0..3).all(|n| it.s.w.block(n).watch.is_null()), "case {case}, point {point}");
        }
    }
}

/// A context is watched from another CPU at every point of a call that takes it to a third, and it
/// is reported there.
#[test]
fn a_watch_finds_time_that_travels() {
    for point in 0.. {
        let mut it = Watched::new(3);
        let (client, _) = it.s.running(1, 20);
        let (server, target) = it.s.server(2, 30);
        let wish = it.wish(client.sc, 0, ALL);
        let mut points = 0..;
        let here = move |_| points.next() == Some(point);
        let others = |w: &mut World| {
            w.begin(0, wish);
            let _ = (0..STEPS).all(|_| w.step(0) | w.step(2));
        };
        it.s.w.prepare(1, call(target));
        if !it.s.w.tear(1, Why::SystemCall, here, others) {
            assert!(point > 0, "there is no such point");
            break;
        }
        it.s.w.run();
        assert_eq!(it.s.w.finish(0).error(), None);
        assert_eq!((it.doing(0), it.of(0).place), (Doing::Runs, 2), "point {point}");
        it.s.w.does_and_run(&server, answer());
        assert_eq!((it.doing(0), it.of(0).place), (Doing::Runs, 1), "point {point}");
    }
}
