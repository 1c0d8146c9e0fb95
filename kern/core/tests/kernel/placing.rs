//! Pools whose pages are mapped and unmapped in several entries, and what others do in between.

use abi::{Cap, Error, FLAG_NONBLOCK, ObjType, Op, PAGE_SIZE, Target};
use kern_base::events::EventPool;
use kern_base::process::Process;

use crate::budget::{is_bounded, work_of};
use crate::events::{BITS, POOL_VA};
use crate::world::make::{Proc, at};
use crate::world::{Regs, Tcb, World};

/// The cells of the largest pool, as a base-2 logarithm.
const LARGEST: u8 = 14;

/// A world with a process, a task of it on the second CPU, and a pool for it.
struct Scenery {
    w: World,
    process: Proc,
    task: Tcb,
    pool: Cap,
}

impl Scenery {
    fn new(cells_log2: u8) -> Scenery {
        Scenery::of(World::with_memory(3, 32 << 20), cells_log2)
    }

    fn of(mut w: World, cells_log2: u8) -> Scenery {
        let process = w.process();
        let task = w.start(process, 1, 10);
        let pool = w.make(0, ObjType::EventPool, u64::from(cells_log2));
        Scenery { w, process, task, pool }
    }

    fn bind(&self, pool: Cap, address: u64) -> Regs {
        bind(pool, self.process, &self.task, address)
    }

    fn pages(&self) -> u64 {
        self.w.object::<EventPool>(self.pool).expect("the pool").get().pages().count() as u64
    }

    /// Maps a page of a frame where the pool's last page would be. Returns its address.
    fn last_page_is_taken(&mut self) -> (Cap, u64) {
        let (frame, last) = (self.w.make(0, ObjType::Frame, 12), POOL_VA + (self.pages() - 1) * PAGE_SIZE);
        self.w.must(0, Op::Map, &[self.process.vspace.arg(), frame.arg(), last, 1]);
        (frame, last)
    }

    /// Begins to bind the pool. Returns whether there is more to do.
    fn begins(&mut self) -> bool {
        self.w.begin(0, self.bind(self.pool, POOL_VA));
        !self.w.is_over(0)
    }

    /// Runs the task, and returns whether it sees the pool's first page.
    fn sees(&mut self) -> bool {
        self.w.run();
        assert!(self.w.runs(1, &self.task));
        self.w.touch(1, POOL_VA)
    }

    fn is_bound(&self) -> bool {
        let (pool, process) =
            (self.w.object::<EventPool>(self.pool), self.w.object::<Process>(self.process.process));
        pool.zip(process).is_some_and(|(pool, process)| {
            let bound = pool.get().process.is(process);
            assert_eq!(bound, process.get().pool.is(pool));
            bound
        })
    }
}

fn bind(pool: Cap, to: Proc, reader: &Tcb, address: u64) -> Regs {
    Regs::op(Op::PoolBind, &[pool.arg(), to.process.arg(), reader.cap.arg(), address, BITS])
}

#[test]
fn a_large_pool_is_bound_and_ends_in_bounded_entries() {
    for ends_process in [false, true] {
        // The checks of a world have points, too.
        let mut s = Scenery::of(World::unchecked(3, 32 << 20), LARGEST);
        let args = [s.pool.arg(), s.process.process.arg(), s.task.cap.arg(), POOL_VA, BITS];
        is_bounded(&mut s.w, Op::PoolBind, &args, 5);
        assert!(s.is_bound() && s.sees());
        if ends_process {
            s.w.must(0, Op::TaskKill, &[s.task.cap.arg()]);
            s.w.run();
        }
        let ended = if ends_process { s.process.process } else { s.pool };
        is_bounded(&mut s.w, Op::CapDelete, &[at(ended)], 5);
        assert!(ends_process || !s.sees());
    }
}

/// A kill looks at all slots of the process once, however many entries its pool takes.
#[test]
fn a_pool_adds_few_entries_to_a_kill() {
    let entries = |cells_log2: u8| {
        let mut w = World::unchecked(3, 32 << 20);
        let process = w.process_of(abi::INIT_UNTYPED, 4, 1 << 14);
        let task = w.start(process, 1, 10);
        let pool = w.make(0, ObjType::EventPool, u64::from(cells_log2));
        assert_eq!(w.call(0, bind(pool, process, &task, POOL_VA)).error(), None);
        w.must(0, Op::TaskKill, &[task.cap.arg()]);
        w.run();
        work_of(&mut w, Op::ProcessKill, &[process.process.arg()]).0
    };
    let (small, large) = (entries(6), entries(LARGEST));
    assert!(large > small && large <= small + 60, "{small} and {large}");
}

/// A pool that fits all but its last page is refused as often as one tries, and nothing of it
/// stays.
#[test]
fn what_does_not_fit_wholly_is_unmapped_in_steps() {
    let mut s = Scenery::new(LARGEST);
    let (frame, last) = s.last_page_is_taken();
    for _ in 0..2 {
        let args = s.bind(s.pool, POOL_VA);
        assert_eq!(s.w.call(0, args).result().map(drop), Err((Error::Mapped, last)));
        assert!(!s.is_bound() && !s.sees());
    }
    s.w.must(0, Op::Unmap, &[s.process.vspace.arg(), frame.arg(), last]);
    let args = s.bind(s.pool, POOL_VA);
    assert_eq!(s.w.call(0, args).error(), None);
    assert!(s.is_bound() && s.sees());
}

/// Another binding begins while the pages of a refused one are still there.
#[test]
fn an_error_is_of_the_place_that_it_was_found_at() {
    let elsewhere = POOL_VA + (1 << 24);
    let mut seen = [false; 2];
    for entries in 0.. {
        let mut s = Scenery::new(LARGEST);
        let (_, last) = s.last_page_is_taken();
        s.w.begin(0, s.bind(s.pool, POOL_VA));
        let over = (0..=entries).any(|n| s.w.is_over(0) || n < entries && !s.w.step(0));
        s.w.hold(Some(0));
        s.w.begin(2, s.bind(s.pool, elsewhere));
        while !s.w.is_over(2) {
            assert!(s.w.step(2) || [2, 1, 0].into_iter().any(|n| s.w.event(n)));
        }
        s.w.hold(None);
        assert_eq!(s.w.agent(2).regs().error(), None);
        s.w.dismiss(2);
        let refused = s.w.finish(0).result().map(drop);
        seen[usize::from(over)] = true;
        assert_eq!(refused, Err(if over { (Error::Mapped, last) } else { (Error::InUse, 0) }));
        assert!(s.is_bound() && !s.sees() && s.w.touch(1, elsewhere));
        if over {
            break;
        }
    }
    assert_eq!(seen, [true; 2]);
}

/// Senders find the pool only when all its pages are mapped.
#[test]
fn a_pool_that_is_being_bound_takes_no_event() {
    let mut s = Scenery::new(LARGEST);
    let group = s.w.group(4, 4);
    let sender = s.w.process();
    let client = s.w.start(sender, 2, 10);
    s.w.join_all(group, sender, Cap(5));
    s.w.expose(group, 1, s.task.cap);
    let send = Regs::message(Op::Send, Target::new(Cap(5), 1), [1; 4]).flag(FLAG_NONBLOCK);
    assert!(s.begins());
    let mut refused = 0;
    while !s.w.is_over(0) {
        s.w.hold(Some(0));
        s.w.does_and_run(&client, send);
        s.w.hold(None);
        assert_eq!(s.w.result(&client).error(), Some(Error::NoPool));
        refused += 1;
        assert!(s.w.step(0));
    }
    assert!(refused > 3);
    assert_eq!(s.w.finish(0).error(), None);
    s.w.does_and_run(&client, send);
    assert_eq!(s.w.result(&client).error(), None);
}

/// What ends while a pool is being bound takes the pages with it, and the pool or the process can
/// be used again.
#[test]
fn what_ends_meanwhile_takes_its_pages_along() {
    for (entries, ends_pool) in (0..3).flat_map(|n| [(n, false), (n, true)]) {
        let mut s = Scenery::new(LARGEST);
        assert!(s.begins());
        assert!((0..entries).all(|_| s.w.step(0)) && !s.w.is_over(0));
        s.w.hold(Some(0));
        let end = if ends_pool { s.pool } else { s.process.process };
        s.w.begin(2, Regs::op(Op::CapDelete, &[at(end)]));
        s.w.hold(None);
        let refused = s.w.finish(0).error();
        assert_eq!(s.w.finish(2).error(), None);
        assert!(refused.is_some());
        if ends_pool {
            assert!(!s.sees());
            s.pool = s.w.make(0, ObjType::EventPool, 6);
            let args = s.bind(s.pool, POOL_VA);
            assert_eq!(s.w.call(0, args).error(), None);
            assert!(s.sees());
        } else {
            let next = s.w.process();
            let reader = s.w.start(next, 1, 10);
            assert_eq!(s.w.call(0, bind(s.pool, next, &reader, POOL_VA)).error(), None);
        }
    }
}

/// A task that was killed in the middle leaves pages behind: the next one goes on, or unmaps them
/// first.
#[test]
fn whoever_comes_next_goes_on_or_makes_room() {
    #[derive(Clone, Copy, Debug)]
    enum Next {
        Same,
        OtherPlace,
        OtherPool,
        OtherProcess,
    }
    for next in [Next::Same, Next::OtherPlace, Next::OtherPool, Next::OtherProcess] {
        let mut s = Scenery::new(LARGEST);
        let first = s.pool;
        let other_pool = s.w.make(0, ObjType::EventPool, 6);
        let other = s.w.process();
        let reader = s.w.start(other, 1, 5);
        assert!(s.begins());
        assert!(s.w.step(0) && !s.w.is_over(0));
        assert!(s.w.touch(1, POOL_VA), "it sees the pages that are there");
        s.w.hold(Some(0));
        let args = match next {
            Next::Same => s.bind(s.pool, POOL_VA),
            Next::OtherPlace => s.bind(s.pool, POOL_VA + (1 << 24)),
            Next::OtherPool => {
                s.pool = other_pool;
                s.bind(s.pool, POOL_VA + (1 << 24))
            }
            Next::OtherProcess => {
                s.process = other;
                bind(s.pool, other, &reader, POOL_VA + (1 << 24))
            }
        };
        s.w.begin(2, args);
        // The other CPU comes to its mail only where it must.
        while !s.w.is_over(2) {
            assert!(s.w.step(2) || s.w.event(2) || s.w.event(1), "{next:?}");
        }
        // The first pool is nobody else's as long as a CPU remembers its pages.
        let remembers = s.w.remembered(1, POOL_VA).is_some();
        assert_eq!(remembers, matches!(next, Next::Same | Next::OtherPool), "{next:?}");
        assert_eq!(s.w.agent(2).regs().error(), None, "{next:?}");
        s.w.hold(None);
        s.w.dismiss(2);
        assert!(s.is_bound(), "{next:?}");
        let refused = s.w.finish(0).error();
        assert_eq!(refused, Some(Error::InUse), "{next:?}");
        if !matches!(next, Next::OtherProcess) {
            assert_eq!(s.sees(), matches!(next, Next::Same), "{next:?}");
        }
        let is_nobodys = s.w.object::<EventPool>(first).expect("the first pool").get().process.is_null();
        assert_eq!(is_nobodys, matches!(next, Next::OtherPool));
    }
}
