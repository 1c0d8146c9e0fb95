//! Revokes and resets of memory whose pages are in pools, while other tasks also revoke or reset
//! that memory, or have given up doing so.

use abi::{Cap, Error, MAP_POOL, ObjType, Op, PageMode, PageRange, Target};
use kern_base::limits::{ENTRY_WORK, LOCK_WORK, MAPPED_MAX, MESSAGE_PAGES_MAX};
use kern_base::memory::Frame;
use kern_core::life::reclaim::LEAF_WORK;
use kern_core::work::LOOK_WORK;

use crate::scene::Scene;
use crate::world::make::{INIT, at};
use crate::world::{Regs, Tcb, World};

const PLACE: u64 = 0x4000_0000;
/// Bytes of the memory that is revoked, as a base-2 logarithm: looking at all its pages takes four
/// entries, or more.
const MEMORY_LOG2: u64 = 24;
const ENTRIES: usize = 4;
/// Entries of a pass over that memory.
const PASS: u64 = (1 << (MEMORY_LOG2 - 12)) / SWEEP_STEPS + 1;
/// Pages at which one entry looks, at least: as many stretches as its work suffices for, after the
/// look for capabilities to revoke.
const SWEEP_STEPS: u64 = (ENTRY_WORK - LEAF_WORK) / LOCK_WORK * LOCK_WORK.div_ceil(3 * LOOK_WORK);
/// Places of a page, of which two entries find some, and not all.
const VIEWS: u64 = if 2 * SWEEP_STEPS < MAPPED_MAX { 2 * SWEEP_STEPS + 1 } else { MAPPED_MAX - 1 };

/// The entry in which a sweep has found the first page.
const FINDS: usize = if cfg!(feature = "small-limits") { 4 } else { 2 };

/// Some memory, and a space into whose pool pages of it come.
struct Memory {
    w: World,
    memory: Cap,
    space: Cap,
}

impl Memory {
    fn new(cpus: usize) -> Memory {
        let mut w = World::with_memory(cpus, 64 << 20);
        let memory = w.make(0, ObjType::Untyped, MEMORY_LOG2);
        let space = w.make(0, ObjType::VSpace, 8);
        let mut m = Memory { w, memory, space };
        // Of this root a page has been in a pool.
        m.pool();
        m.w.must(0, Op::Unmap, &[space.arg(), 0, PLACE, 0, 0, 1]);
        m.w.must(0, Op::CapRevoke, &[at(memory)]);
        m
    }

    /// A page of the memory comes into the pool, one of the first that are looked at.
    fn pool(&mut self) -> Cap {
        let frame = self.w.make_of(0, self.memory, ObjType::Frame, 12);
        self.w.must(0, Op::Map, &[self.space.arg(), frame.arg(), PLACE, MAP_POOL | 1]);
        frame
    }

    fn is_pooled(&mut self) -> bool {
        self.w.ask(0, Op::Protect, &[self.space.arg(), 0, PLACE, 0, 0, 1]).is_ok()
    }

    /// Pages of the space go to other places there, on a CPU's doing.
    fn transfer(
        &mut self,
        n: usize,
        mode: PageMode,
        from: u64,
        count: u64,
        to: u64,
    ) -> Result<Regs, (Error, u64)> {
        let place = |page: u64| PLACE + page * abi::PAGE_SIZE;
        let [pages, count] = PageRange::new(mode, place(from), count).words();
        let space = self.space.arg();
        self.w.ask(n, Op::PageTransfer, &[space, space, pages, place(to), count])
    }

    fn revoke(&self) -> Regs {
        Regs::op(Op::CapRevoke, &[at(self.memory)])
    }

    fn reset(&self) -> Regs {
        Regs::op(Op::UntypedReset, &[self.memory.arg(), 0])
    }

    /// A task on CPU 0 that is in the middle of a system call, so many entries after it began.
    fn in_the_middle(&mut self, args: Regs, entries: usize) -> Tcb {
        let task = self.w.start(INIT, 0, 10);
        self.w.does(&task, args);
        for _ in 1..entries {
            assert!(self.w.runs(0, &task) && self.w.step(0));
        }
        assert!(task.must_restart(), "it is in the middle");
        task
    }

    /// The task goes on to the end.
    fn ends(&mut self, task: &Tcb) {
        self.w.run();
        assert_eq!(self.w.result(task).error(), None);
    }
}

#[test]
fn a_sweep_that_was_cut_short_leaves_nothing_out_for_the_next() {
    for (first, entries) in [(true, 1), (true, 2), (false, 1), (false, 2)] {
        for second in [Memory::revoke, Memory::reset] {
            let mut m = Memory::new(1);
            m.pool();
            let args = if first { m.revoke() } else { m.reset() };
            let killed = m.in_the_middle(args, entries);
            // With small limits it takes more entries until the page has gone.
            while first && m.is_pooled() {
                assert!(m.w.step(0) && killed.must_restart());
            }
            m.w.must(0, Op::TaskKill, &[killed.cap.arg()]);
            if first {
                m.pool();
            }
            let args = second(&m);
            assert_eq!(m.w.call(0, args).error(), None);
            assert!(!m.is_pooled(), "its memory was revoked (after a revoke: {first}, entries: {entries})");
        }
    }
}

#[test]
fn two_that_sweep_at_the_same_time_both_find_what_was_there_before() {
    for entries in 1..ENTRIES {
        for second in [Memory::revoke, Memory::reset] {
            let mut m = Memory::new(2);
            let revoke = m.revoke();
            let first = m.in_the_middle(revoke, entries);
            m.pool();
            let args = second(&m);
            assert_eq!(m.w.call(1, args).error(), None);
            assert!(!m.is_pooled(), "the second began when the page was in the pool ({entries} entries)");
            m.ends(&first);
        }
    }
}

/// A frame that is made, and whose page comes into a pool behind where the revoke has got to, is
/// revoked, too; so its page goes like those that were there before.
#[test]
fn what_a_revoke_ends_is_in_no_pool_when_it_answers() {
    for entries in 1..ENTRIES {
        let mut m = Memory::new(1);
        let revoke = m.revoke();
        let task = m.in_the_middle(revoke, entries);
        m.pool();
        m.ends(&task);
        assert!(!m.is_pooled(), "its frame was revoked ({entries} entries)");
    }
}

/// The fourth argument is where a revoke keeps which pass it waits for. Who sets it deceives nobody
/// but itself.
#[test]
fn a_pass_that_was_made_up_harms_nobody_else() {
    for made_up in [1, 2, 3, 1 << 40, u64::MAX] {
        let mut m = Memory::new(2);
        let frame = m.pool();
        m.w.must(0, Op::CapDelete, &[at(frame)]);
        m.w.must(0, Op::CapRevoke, &[at(m.memory), 0, 0, made_up]);
        let reset = m.reset();
        assert_eq!(m.w.call(0, reset).error(), None);
        assert!(!m.is_pooled(), "its memory was reset (made up: {made_up})");
    }
}

/// One that goes on with what another left makes the rest of that pass, and one of its own.
#[test]
fn a_sweep_ends_whatever_others_left() {
    let mut m = Memory::new(1);
    let revoke = m.revoke();
    for _ in 0..5 {
        let killed = m.in_the_middle(revoke, 1);
        m.w.must(0, Op::TaskKill, &[killed.cap.arg()]);
    }
    let task = m.in_the_middle(revoke, 1);
    let mut entries = 1;
    while m.w.runs(0, &task) && m.w.step(0) {
        entries += 1;
    }
    assert!(task.is_through() && entries <= 2 * PASS, "{entries} entries");
}

/// Sharing a page, or moving it, is one entry for hundreds of places. Who does so on other CPUs all
/// the time would add places faster than a sweep takes them away, and the memory would never come
/// back.
#[test]
fn what_a_sweep_has_found_goes_nowhere_else() {
    for sweep in [Memory::revoke, Memory::reset] {
        for mode in [PageMode::Share, PageMode::Copy, PageMode::Move] {
            let mut m = Memory::new(2);
            m.pool();
            let mut made = 1;
            while made < VIEWS {
                // Only the first place may be shared more often than that.
                let half = (MAPPED_MAX / 2).saturating_sub(made).max(1);
                let more = made.min(VIEWS - made).min(MESSAGE_PAGES_MAX).min(half);
                m.transfer(1, PageMode::Copy, 0, more, made).expect("there is room for more");
                made += more;
            }
            let args = sweep(&m);
            let task = m.in_the_middle(args, FINDS);
            m.w.hold(Some(0));
            let refused = m.transfer(1, mode, 0, 1, VIEWS).map(drop);
            assert_eq!(refused, Err((Error::InUse, PLACE)), "{mode:?}");
            m.w.hold(None);
            m.ends(&task);
            m.pool();
            m.transfer(1, mode, 0, 1, 1).expect("who has the memory now has all of it");
        }
    }
}

/// A revoke looks at a page for the pools that have it, and the page becomes a frame's, which is
/// mapped twice: wherever the revoke stands meanwhile, the page's counts are that frame's.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "a later entry of the revoke deletes the frame")]
fn a_page_that_becomes_a_frames_while_a_revoke_looks_at_it_is_counted() {
    let mut cases = 0;
    for stop in 0.. {
        let mut w = World::new(2);
        let memory = w.make(0, ObjType::Untyped, 14);
        let spaces = [0, 1].map(|_| w.make(0, ObjType::VSpace, 8));
        // The first page has been in a pool, so the revoke looks at all of them. The second one is
        // the next frame's.
        let first = w.make_of(0, memory, ObjType::Frame, 12);
        w.must(0, Op::Map, &[spaces[0].arg(), first.arg(), PLACE, MAP_POOL | 1]);
        w.must(0, Op::Unmap, &[spaces[0].arg(), 0, PLACE, 0, 0, 1]);
        w.must(0, Op::CapDelete, &[at(first)]);
        let frame = w.slot();
        let retype = [Target::new(memory, ObjType::Frame as u32).0, 12, at(frame), 1];
        let mut points = 0..;
        let here = move |_| points.next() == Some(stop);
        let torn = w.torn_where(0, Regs::op(Op::CapRevoke, &[at(memory)]), here, |w| {
            does(w, Regs::op(Op::Retype, &retype));
            spaces.iter().for_each(|space| does(w, Regs::op(Op::Map, &[space.arg(), frame.arg(), PLACE, 0])));
        });
        if !torn {
            assert!(cases > 20, "{cases} of {stop} cases");
            return;
        }
        w.finish(0);
        w.finish(1);
        // Where the revoke had looked for what to delete before, the frame is there.
        let Some(frame) = w.object::<Frame>(frame) else { continue };
        let cx = w.look(0);
        let info = cx.k.frames.get(cx.pin(), frame.get().base()).expect("what is known of it");
        assert_eq!(info.get().glance(cx.pin()).mapped(), 2, "stopped at point {stop}");
        cases += 1;
    }
}

/// The agent of CPU 1 makes a system call that needs nobody else.
fn does(w: &mut World, args: Regs) {
    if w.is_over(1) {
        w.issue(1, args);
    } else {
        w.begin(1, args);
    }
    while !w.is_over(1) {
        assert!(w.step(1), "it waits for somebody");
    }
}

/// Pages that a revoke takes out of pools are out of reach when it is over: another CPU that
/// remembers one has forgotten it.
#[test]
fn who_revokes_memory_waits_until_no_cpu_remembers_its_pages() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let memory = s.w.make(0, ObjType::Untyped, 16);
    let frame = s.w.make_of(0, memory, ObjType::Frame, 12 | 3 << 8);
    s.w.must(0, Op::Map, &[s.process.vspace.arg(), frame.arg(), PLACE, MAP_POOL | 1]);
    let revoker = s.w.start(INIT, 0, 10);
    assert!(s.w.runs(1, &user) && (0..3).all(|n| s.w.touch(1, PLACE + n * abi::PAGE_SIZE)));
    s.w.hold(Some(1));
    s.w.does(&revoker, Regs::op(Op::CapRevoke, &[at(memory)]));
    s.w.run();
    assert!(!revoker.is_through(), "it is over, and the other CPU has not been heard");
    s.w.hold(None);
    s.w.run();
    assert_eq!(s.w.result(&revoker).error(), None);
    assert!(s.w.remembered(1, PLACE).is_none() && !s.w.touch(1, PLACE));
}
