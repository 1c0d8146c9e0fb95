//! Objects that take several entries to make: their memory is cleared ahead, in bounded steps.

use abi::audit::AUDIT_LOG2;
use abi::events::CELLS_LOG2_MAX;
use abi::{
    Cap, Error, FRAME_PAGES_MAX, LARGE_PAGE_LOG2, ObjType, Op, PAGE_LOG2, PAGE_SIZE, PageMode, PageRange,
    Target,
};
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, Membership};
use kern_base::limits::{CLEAR_BYTES, CLEAR_PARTS, ENTRY_WORK, LOCK_WORK};
use kern_base::memory::{Frame, VSpace};
use kern_base::paging::TABLE_BYTES;
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_base::task::{State, Task};
use smp::chaos::Point;
use smp::host_test;
use smp::sync::Ordering::Relaxed;

use crate::world::make::{INIT, at};
use crate::world::{Regs, Tcb, World};

/// What is in memory that nobody has cleared.
const GARBAGE: u8 = 0xa5;
const GARBAGE_WORD: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// Bytes that the kernel clears in one entry, at most.
const ENTRY_BYTES: u64 = ENTRY_WORK / LOCK_WORK * CLEAR_BYTES;
/// Bytes that an entry writes besides: new objects at the ends of the memory, tables' first words.
const BESIDE: u64 = 8 << 10;
/// A frame that takes some entries: as small as possible, and aligned to a page only.
const PAGES: u64 = 3 * ENTRY_BYTES / PAGE_SIZE;
const LONG_FRAME: u64 = PAGE_LOG2 as u64 | PAGES << 8;

/// An Untyped that is full of garbage, and where its memory is.
fn garbage(w: &mut World, log2: u64) -> (Cap, u64) {
    let memory = w.make(0, ObjType::Untyped, log2);
    let base = w.object::<kern_base::memory::Untyped>(memory).expect("it was made").get().base();
    host_test::fill(base, GARBAGE, 1 << log2);
    (memory, base)
}

/// A Retype of one object.
fn order(memory: Cap, what: ObjType, size: u64, to: Cap, count: u64) -> Regs {
    Regs::op(Op::Retype, &[Target::new(memory, what as u32).0, size, at(to), count])
}

/// Words that are no garbage any more, each one's address.
fn written(base: u64, bytes: u64) -> usize {
    let words = host_test::words(base, bytes as usize / 8);
    words.iter().filter(|word| word.load(Relaxed) != GARBAGE_WORD).count()
}

/// Checks that memory is full of zeros.
pub fn check_zeros(base: u64, bytes: u64, what: &str) {
    let words = host_test::words(base, bytes as usize / 8);
    let place = words.iter().position(|word| word.load(Relaxed) != 0);
    let found = place.map(|place| (place * 8, words[place].load(Relaxed)));
    assert_eq!(found, None, "{what}: not cleared, of {bytes:#x} bytes");
}

fn used(w: &World, memory: Cap) -> (u64, u64) {
    let untyped = w.object::<kern_base::memory::Untyped>(memory).expect("it is there");
    host_test::guarded(untyped.get().inside()).region.used()
}

/// Makes an object step by step. Checks that no step writes more than it may. Returns the number of
/// entries.
fn make_in_steps(w: &mut World, (memory, base): (Cap, u64), log2: u64, call: Regs, to: Cap) -> u64 {
    let (mut entries, mut before) = (0, 0);
    w.summon(0);
    w.prepare(0, call);
    loop {
        let empty = w.object::<Frame>(to).is_none();
        assert!(empty, "it is made, and the call is not over");
        w.syscall(0);
        entries += 1;
        let now = 8 * written(base, 1 << log2) as u64;
        let most = ENTRY_BYTES + BESIDE;
        assert!(now - before <= most, "entry {entries} has written {} bytes", now - before);
        before = now;
        if w.is_over(0) {
            break;
        }
        assert_eq!(used(w, memory), (0, 0), "carved in the middle");
        let word = w.slot_at(to).get().word.load(host_test::pin(0));
        assert_eq!((word.object_type(), word.empty_value()), (0, 0), "claimed in the middle");
    }
    assert_eq!(w.agent(0).regs().error(), None);
    w.dismiss(0);
    entries
}

/// Makes a new object of garbage in steps. Returns the address of its block.
fn make_large(what: ObjType, size: u64, bytes: u64) -> (World, Cap, u64) {
    let log2 = u64::from((2 * bytes).next_power_of_two().ilog2());
    let mut w = World::unchecked(1, 4 << log2);
    let (memory, base) = garbage(&mut w, log2);
    let to = w.slot();
    let entries = make_in_steps(&mut w, (memory, base), log2, order(memory, what, size, to, 1), to);
    let steps = bytes / ENTRY_BYTES;
    assert!((steps..=steps + 3).contains(&entries), "{what:?}: {entries} entries, of {steps} steps");
    (w, to, base)
}

/// Returns the object of a capability.
pub fn made<T>(w: &World, cap: Cap) -> &'static T
where
    T: smp::door::KernelObject<Set = kern_base::objects::Objects>,
{
    w.object::<T>(cap).expect("it was made").get()
}

#[test]
fn a_large_frame_is_made_in_steps() {
    let (w, frame, _) = make_large(ObjType::Frame, u64::from(LARGE_PAGE_LOG2), 1 << LARGE_PAGE_LOG2);
    check_zeros(made::<Frame>(&w, frame).base().0, 1 << LARGE_PAGE_LOG2, "a large page");
}

#[test]
fn a_frame_of_many_pages_is_made_in_steps() {
    let (pages, bytes) = (u64::from(FRAME_PAGES_MAX), u64::from(FRAME_PAGES_MAX) * PAGE_SIZE);
    let (w, cap, _) = make_large(ObjType::Frame, u64::from(PAGE_LOG2) | pages << 8, bytes);
    let frame = made::<Frame>(&w, cap);
    check_zeros(frame.base().0, bytes, "pages");
    let pin = host_test::pin(0);
    let its = |n: &u64| {
        let info = w.k.frames.get(pin, frame.page(*n)).expect("memory").get();
        info.owner(pin).get::<Frame>() == w.object::<Frame>(cap)
    };
    assert_eq!((0..pages).filter(its).count() as u64, pages, "they are the frame's");
}

#[test]
fn an_address_space_is_made_in_steps() {
    const TABLES: u64 = 256;
    let bytes = (1 + TABLES) * TABLE_BYTES;
    let (w, space, base) = make_large(ObjType::VSpace, TABLES, bytes);
    check_zeros(base, bytes, "page tables");
    let seen = made::<VSpace>(&w, space).seen.iter(host_test::pin(0)).map(|seen| seen.load(Relaxed));
    assert_eq!(seen.collect::<Vec<_>>(), [0], "what stands at the top is not cleared ahead");
}

#[test]
fn a_cnode_is_made_in_steps() {
    const SLOTS: u64 = 1 << 16;
    let (w, cap, base) = make_large(ObjType::CNode, SLOTS, 32 * SLOTS);
    let table = made::<CNode>(&w, cap);
    assert_eq!(table.slots.known().len() as u64, SLOTS);
    assert!(table.slots.known().iter(host_test::pin(0)).all(|slot| slot.is_blank(1)));
    check_zeros(base + size_of::<CNode>() as u64, 32 * SLOTS, "slots");
}

#[test]
fn a_process_is_made_in_steps() {
    const TASKS: u64 = 1 << 16;
    let (w, cap, base) = make_large(ObjType::Process, TASKS, 8 * TASKS);
    assert_eq!(made::<Process>(&w, cap).tasks.len() as u64, TASKS);
    check_zeros(base + size_of::<Process>() as u64, 8 * TASKS, "task numbers");
}

#[test]
fn a_group_is_made_in_steps() {
    const MOST: u64 = (1 << 16) - 1;
    let bytes = MOST * (8 + size_of::<Membership>() as u64 + size_of::<Exposure>() as u64);
    let (w, cap, base) = make_large(ObjType::Group, MOST | MOST << 16, bytes);
    let group = made::<Group>(&w, cap);
    assert_eq!((group.members.known().len(), group.exposures.known().len()), (65_535, 65_535));
    check_zeros(base + size_of::<Group>() as u64, bytes, "records and exposures");
}

#[test]
fn an_event_pool_is_made_in_steps() {
    let bytes = abi::events::pool_pages(CELLS_LOG2_MAX) * PAGE_SIZE;
    let (w, cap, base) = make_large(ObjType::EventPool, u64::from(CELLS_LOG2_MAX), bytes);
    let _ = made::<EventPool>(&w, cap);
    check_zeros(base, PAGE_SIZE, "the page that the process writes");
    let words = host_test::words(base, bytes as usize / 8).iter().map(|word| word.load(Relaxed));
    let others: Vec<u64> = words.filter(|word| *word != 0).collect();
    assert_eq!(others, [u64::from(CELLS_LOG2_MAX)], "all but its size is zero");
}

/// A task is short, or not, by the limits; and its memory comes after other memory that is not.
#[test]
fn small_objects_are_clear_whatever_stands_there() {
    let mut w = World::unchecked(1, 4 << 20);
    let (memory, _) = garbage(&mut w, 17);
    let cnode = w.retype_of(0, memory, ObjType::CNode, 3);
    let task = w.retype_of(0, memory, ObjType::Task, 0);
    let frame = w.retype_of(0, memory, ObjType::Frame, 12);
    let table = made::<CNode>(&w, cnode);
    assert!(table.slots.known().iter(host_test::pin(0)).all(|slot| slot.is_blank(1)));
    let utcb = core::ptr::from_ref(made::<Task>(&w, task).utcb(host_test::pin(0))).addr() as u64;
    check_zeros(utcb, PAGE_SIZE, "a UTCB");
    check_zeros(made::<Frame>(&w, frame).base().0, PAGE_SIZE, "a page");
}

/// The audit's rings are no object, and as large as one.
#[test]
fn rings_of_the_audit_are_made_in_steps() {
    let mut w = World::unchecked(1, 8 << 20);
    let (memory, base) = garbage(&mut w, 20);
    let call =
        Regs::op(Op::AuditStart, &[abi::INIT_MACHINE.arg(), memory.arg(), u64::from(*AUDIT_LOG2.end())]);
    w.begin(0, call);
    let mut entries = 1;
    while !w.is_over(0) {
        assert_eq!(used(&w, memory), (0, 0), "carved in the middle");
        w.step(0);
        entries += 1;
    }
    assert_eq!(w.finish(0).error(), None);
    let bytes = 64 << AUDIT_LOG2.end();
    assert!((bytes / ENTRY_BYTES..=bytes / ENTRY_BYTES + 3).contains(&entries), "{entries} entries");
    let rest = written(base, 1 << 20) as u64 * 8;
    assert!(rest >= bytes, "{rest:#x} of {bytes:#x} bytes are cleared");
}

/// A task of process 1 on CPU 1 that has made some entries of a Retype.
pub fn half_done(w: &mut World, call: Regs, entries: usize) -> Tcb {
    let worker = w.start(INIT, 1, 10);
    w.does(&worker, call);
    for _ in 1..entries {
        assert!(worker.must_restart(), "it is over early");
        w.syscall(1);
    }
    worker
}

/// CPU 0 makes a system call, while CPU 1 is between two entries and only takes its mail.
pub fn beside(w: &mut World, call: Regs) {
    w.hold(Some(1));
    w.begin(0, call);
    while !w.is_over(0) {
        let moved = [w.event(1), w.step(0)];
        assert_ne!(moved, [false; 2], "it does not end");
    }
    w.hold(None);
    assert_eq!(w.agent(0).regs().error(), None);
    w.dismiss(0);
}

pub fn kill(w: &mut World, worker: &Tcb) {
    w.begin(0, Regs::op(Op::TaskKill, &[worker.cap.arg()]));
    while w.event(1) {}
    w.finish(0);
    assert_eq!(worker.state(), State::Dead);
}

/// Finishes a system call of the agent of CPU 0. Returns its entries.
fn count_entries(w: &mut World, call: Regs) -> usize {
    w.begin(0, call);
    let mut entries = 1;
    while !w.is_over(0) {
        if !w.event(0) {
            w.syscall(0);
            entries += 1;
        }
    }
    assert_eq!(w.finish(0).error(), None);
    entries
}

#[test]
fn who_is_killed_between_two_steps_leaves_nothing_behind() {
    let whole = {
        let mut w = World::unchecked(2, 8 << 20);
        let ((memory, _), to) = (garbage(&mut w, 20), w.slot());
        count_entries(&mut w, order(memory, ObjType::Frame, LONG_FRAME, to, 1))
    };
    assert!(whole > 2, "{whole} entries");
    for entries in 1..whole {
        let mut w = World::with_memory(2, 8 << 20);
        let ((memory, _), to) = (garbage(&mut w, 20), w.slot());
        let call = order(memory, ObjType::Frame, LONG_FRAME, to, 1);
        let worker = half_done(&mut w, call, entries);
        assert!(worker.must_restart());
        kill(&mut w, &worker);
        assert_eq!(used(&w, memory), (0, 0));
        // Another task finds the slot free, and does not clear again what is clear.
        let rest = count_entries(&mut w, call);
        assert_eq!(rest + entries, whole, "of {entries} entries that were made");
        check_zeros(made::<Frame>(&w, to).base().0, PAGES * PAGE_SIZE, "pages");
    }
}

/// What was cleared ahead was in use meanwhile, and is free again by a reset.
#[test]
fn a_reset_forgets_what_was_cleared() {
    let mut w = World::with_memory(2, 8 << 20);
    let ((memory, base), to) = (garbage(&mut w, 20), w.slot());
    let worker = half_done(&mut w, order(memory, ObjType::Frame, LONG_FRAME, to, 1), 2);
    let page = w.slot();
    beside(&mut w, order(memory, ObjType::Frame, 12, page, 1));
    assert_eq!(made::<Frame>(&w, page).base().0, base, "it stands where that was cleared");
    check_zeros(base, PAGE_SIZE, "a page");
    host_test::fill(base, GARBAGE, PAGE_SIZE as usize);
    beside(&mut w, Regs::op(Op::UntypedReset, &[memory.arg(), 0]));
    assert!(w.run_until(|_| worker.is_through()));
    assert_eq!(worker.regs().error(), None);
    let frame = made::<Frame>(&w, to);
    assert_eq!(frame.base().0, base);
    check_zeros(base, PAGES * PAGE_SIZE, "pages");
}

/// A reset that begins while a call is between two steps refuses the call.
#[test]
fn a_call_of_several_steps_ends_when_its_memory_is_reset() {
    let mut w = World::with_memory(2, 32 << 20);
    let ((memory, _), to) = (garbage(&mut w, 22), w.slot());
    let _ = w.make_of(0, memory, ObjType::CNode, 1 << 12);
    let worker = half_done(&mut w, order(memory, ObjType::Frame, LONG_FRAME, to, 1), 2);
    w.begin(0, Regs::op(Op::UntypedReset, &[memory.arg(), 0]));
    assert!(!w.is_over(0));
    w.syscall(1);
    assert_eq!(worker.regs().error(), Some(Error::Dying));
    assert_eq!(w.finish(0).error(), None);
    assert_eq!(used(&w, memory), (0, 0));
    let again = order(memory, ObjType::Frame, LONG_FRAME, to, 1);
    count_entries(&mut w, again);
    check_zeros(made::<Frame>(&w, to).base().0, PAGES * PAGE_SIZE, "pages");
}

/// Memory is cleared before the root's lock is taken. Until then only those wait that make objects
/// of the same Untyped: a CPU that holds its lock lets all others go on that use other memory.
#[test]
fn who_uses_other_memory_does_not_wait_for_what_is_cleared() {
    const PAGE: u64 = PAGE_LOG2 as u64;
    for (what, size) in
        [(ObjType::Task, 0), (ObjType::Frame, PAGE), (ObjType::CNode, 16), (ObjType::Reply, 0)]
    {
        let mut w = World::with_memory(2, 8 << 20);
        let ((memory, base), (other, _)) = (garbage(&mut w, 18), garbage(&mut w, 18));
        let [to, copy, made_there, made_here] = [(); 4].map(|()| w.slot());
        let note = w.make(0, ObjType::Notification, 0);
        let is_there =
            move |w: &World, cap| w.slot_at(cap).get().word.load(host_test::pin(0)).object_type() != 0;
        let mut locks = 0;
        let second_lock = move |point| {
            locks += u64::from(point == Point::BeforeLock);
            locks == 2
        };
        let torn = w.torn_where(1, order(memory, what, size, to, 1), second_lock, |w| {
            let is_cleared = written(base, 1 << 18) > 0;
            assert!(is_cleared || what == ObjType::Reply, "{what:?}: it is still to be cleared");
            w.must(0, Op::CapCopy, &[note.arg(), at(copy), 0, 0]);
            w.must(0, Op::CapDelete, &[at(copy)]);
            w.must(0, Op::Retype, &[Target::new(other, what as u32).0, size, at(made_there), 1]);
            assert!(!is_there(w, to), "{what:?}: the other CPU waited until it was made");
            w.must(0, Op::Retype, &[Target::new(memory, what as u32).0, size, at(made_here), 1]);
        });
        assert!(torn, "{what:?}: nothing is locked");
        w.finish(1);
        assert!([to, made_there, made_here].iter().all(|cap| is_there(&w, *cap)), "{what:?}");
    }
}

/// Two tasks make objects of one memory step by step, in turn. One of them wants a block farther up
/// than the other's.
#[test]
fn two_tasks_do_not_undo_each_others_steps() {
    const SLOTS: u64 = 2 * ENTRY_BYTES / 32;
    for first in 0..4 {
        let mut w = World::with_memory(2, 32 << 20);
        let (memory, base) = garbage(&mut w, 23);
        let _ = w.retype_of(0, memory, ObjType::Notification, 0);
        let (large, table) = (w.slot(), w.slot());
        let worker = half_done(&mut w, order(memory, ObjType::CNode, SLOTS, table, 1), 1);
        w.begin(0, order(memory, ObjType::Frame, u64::from(LARGE_PAGE_LOG2), large, 1));
        (0..first).for_each(|_| _ = w.step(0));
        let mut turns = 0;
        while !(w.is_over(0) && worker.is_through()) {
            w.step(0);
            w.step(1);
            turns += 1;
            assert!(turns < 4 * (4 << 20) / ENTRY_BYTES, "they undo each other's steps");
        }
        assert_eq!((w.finish(0).error(), worker.regs().error()), (None, None));
        check_zeros(made::<Frame>(&w, large).base().0, 1 << LARGE_PAGE_LOG2, "a large page");
        let slots = made::<CNode>(&w, table).slots.known();
        assert!(slots.iter(host_test::pin(0)).all(|slot| slot.is_blank(1)), "at {base:#x}");
    }
}

/// A small object takes memory below the block that is being cleared.
#[test]
fn a_small_object_below_the_block_is_clear() {
    let mut w = World::with_memory(2, 32 << 20);
    let ((memory, _), to) = (garbage(&mut w, 23), w.slot());
    let _ = w.retype_of(0, memory, ObjType::Notification, 0);
    let _ = half_done(&mut w, order(memory, ObjType::Frame, u64::from(LARGE_PAGE_LOG2), to, 1), 2);
    let table = w.slot();
    beside(&mut w, order(memory, ObjType::CNode, 16, table, 1));
    let slots = made::<CNode>(&w, table).slots.known();
    assert!(slots.iter(host_test::pin(0)).all(|slot| slot.is_blank(1)));
}

/// The other ends of the memory are used while a block is cleared.
#[test]
fn what_others_carve_is_not_cleared_again() {
    let mut w = World::with_memory(2, 32 << 20);
    let ((memory, base), to) = (garbage(&mut w, 20), w.slot());
    let worker = half_done(&mut w, order(memory, ObjType::Frame, LONG_FRAME, to, 1), 2);
    // An Untyped at the place that is cleared, and its descriptor at the top.
    let (inner, inside) = (w.slot(), w.slot());
    beside(&mut w, order(memory, ObjType::Untyped, 12, inner, 1));
    beside(&mut w, order(inner, ObjType::CNode, 16, inside, 1));
    let before = host_test::bytes(base, PAGE_SIZE as usize);
    assert!(w.run_until(|_| worker.is_through()));
    assert_eq!(worker.regs().error(), None);
    let frame = made::<Frame>(&w, to);
    assert_eq!(frame.base().0, base + PAGE_SIZE);
    check_zeros(frame.base().0, PAGES * PAGE_SIZE, "pages");
    assert!(host_test::bytes(base, PAGE_SIZE as usize) == before, "another's memory was cleared");
    assert_eq!(made::<CNode>(&w, inside).slots.known().len(), 16);
}

/// The block does not fit any more, after some steps.
#[test]
fn memory_that_goes_meanwhile_is_missed() {
    let mut w = World::with_memory(2, 32 << 20);
    let bytes = (PAGES * PAGE_SIZE).next_power_of_two();
    let ((memory, _), to) = (garbage(&mut w, u64::from(bytes.ilog2()) + 1), w.slot());
    let worker = half_done(&mut w, order(memory, ObjType::Frame, LONG_FRAME, to, 1), 2);
    let rest = 2 * bytes - PAGES * PAGE_SIZE;
    let other = w.slot();
    beside(&mut w, order(memory, ObjType::CNode, rest / 32 - 8, other, 1));
    assert!(w.run_until(|_| worker.is_through()));
    assert_eq!(worker.regs().error(), Some(Error::NoMemory));
    let word = w.slot_at(to).get().word.load(host_test::pin(0));
    assert_eq!((word.object_type(), word.empty_value()), (0, 0), "the slot is free");
}

/// Nothing remembers how the pages were used before they became the frame's.
#[test]
fn pages_of_an_earlier_frame_can_be_mapped() {
    let mut w = World::with_memory(1, 32 << 20);
    let (memory, _) = garbage(&mut w, 20);
    for _ in 0..2 {
        let frame = w.retype_of(0, memory, ObjType::Frame, LONG_FRAME);
        for how in [0, abi::MAP_POOL] {
            w.must(0, Op::Map, &[abi::INIT_VSPACE.arg(), frame.arg(), 0x6000_0000, how]);
            if how == 0 {
                w.must(0, Op::Unmap, &[abi::INIT_VSPACE.arg(), frame.arg(), 0x6000_0000, 0]);
            }
        }
        w.must(0, Op::UntypedReset, &[memory.arg(), 0]);
    }
}

/// Pages that were cleared for frames which were not made then, because another CPU waited, become
/// pages of a frame that takes several steps. The kernel has forgotten what the pages were before.
#[test]
fn pages_that_were_cleared_for_others_are_forgotten() {
    const SHORT: u64 = 3;
    let pages = CLEAR_BYTES / PAGE_SIZE + 1;
    let mut w = World::with_memory(2, 8 << 20);
    let (memory, base) = garbage(&mut w, 18);
    let note = w.make(0, ObjType::Notification, 0);
    let short = w.slots(SHORT as u32);
    let [copy, long] = [(); 2].map(|()| w.slot());
    let page = u64::from(PAGE_LOG2);
    let before = w.retype_of(0, memory, ObjType::Frame, page | (2 * pages) << 8);
    w.must(0, Op::Map, &[abi::INIT_VSPACE.arg(), before.arg(), LARGE_VA, abi::MAP_POOL]);
    w.must(0, Op::UntypedReset, &[memory.arg(), 0]);
    // The other CPU waits while the first of the short frames is made.
    let mut locks = 0;
    let second_lock = move |point| {
        locks += u64::from(point == Point::Locked);
        locks == 2
    };
    w.torn_where(1, order(memory, ObjType::Frame, page, short, SHORT), second_lock, |w| {
        w.must(0, Op::CapCopy, &[note.arg(), at(copy), 0, 0]);
        let what = Target::new(memory, ObjType::Frame as u32);
        w.must(0, Op::Retype, &[what.0, page | pages << 8, at(long), 1]);
    });
    w.finish(1);
    let first = made::<Frame>(&w, long).base().0 - base;
    assert!(first < SHORT * PAGE_SIZE || CLEAR_PARTS == 1, "it has none of these pages");
    w.must(0, Op::Map, &[abi::INIT_VSPACE.arg(), long.arg(), LARGE_VA, 0]);
    w.must(0, Op::CapDelete, &[at(long)]);
}

/// Many objects of one system call: each entry makes some, and what is made stays.
#[test]
fn many_objects_take_several_entries() {
    const COUNT: u64 = 256;
    let mut w = World::with_memory(2, 8 << 20);
    let (memory, _) = garbage(&mut w, 18);
    let to = w.slots(COUNT as u32);
    let worker = half_done(&mut w, order(memory, ObjType::Notification, 0, to, COUNT), 2);
    let is_there = |w: &World, n: &u64| {
        w.object::<kern_base::notification::Notification>(Cap(to.0 + *n as u32)).is_some()
    };
    let made = (0..COUNT).filter(|n| is_there(&w, n)).count() as u64;
    assert!((1..COUNT).contains(&made), "{made} are made in two entries");
    assert!(made <= 2 * ENTRY_WORK / 100, "{made} are made in two entries");
    kill(&mut w, &worker);
    let rest = Cap(to.0 + made as u32);
    w.must(0, Op::Retype, &[Target::new(memory, ObjType::Notification as u32).0, 0, at(rest), COUNT - made]);
    assert_eq!((0..COUNT).filter(|n| is_there(&w, n)).count() as u64, COUNT);
}

/// Long objects of one system call: each has its memory cleared ahead, and none is made twice.
#[test]
fn long_objects_are_made_one_by_one() {
    const COUNT: u64 = 3;
    // As short as a long one can be: several would fit a lock's hold.
    let pages = CLEAR_BYTES / PAGE_SIZE + 1;
    for (what, size) in
        [(ObjType::Frame, u64::from(PAGE_LOG2) | pages << 8), (ObjType::CNode, CLEAR_BYTES / 64 + 1)]
    {
        let mut w = World::with_memory(2, 8 << 20);
        let (memory, _) = garbage(&mut w, 20);
        let to = w.slots(COUNT as u32);
        w.must(0, Op::Retype, &[Target::new(memory, what as u32).0, size, at(to), COUNT]);
        for n in 0..COUNT as u32 {
            let word = w.slot_at(Cap(to.0 + n)).get().word.load(host_test::pin(0));
            assert_eq!(word.object_type(), what as u8, "{what:?} {n}");
        }
    }
}

/// All slots are checked before the first object is made, however many entries that takes.
#[test]
fn nothing_is_made_if_one_of_the_slots_is_full() {
    let mut w = World::with_memory(1, 8 << 20);
    let (memory, _) = garbage(&mut w, 18);
    let to = w.slots(256);
    w.must(0, Op::CapMove, &[w.agent(0).cap.arg(), at(to)]);
    w.must(0, Op::CapMove, &[to.arg(), at(Cap(to.0 + 255))]);
    let call = order(memory, ObjType::Notification, 0, to, 256);
    assert_eq!(w.call(0, call).error(), Some(Error::SlotOccupied));
    assert_eq!(used(&w, memory), (0, 0));
}

pub const LARGE_VA: u64 = 0x6000_0000;
pub const LARGE: u64 = 1 << LARGE_PAGE_LOG2;

/// A large frame, and where its memory is.
pub fn large_frame(w: &mut World) -> (Cap, u64) {
    let frame = w.make(0, ObjType::Frame, u64::from(LARGE_PAGE_LOG2));
    (frame, made::<Frame>(w, frame).base().0)
}

/// Arguments that map a large frame.
pub fn map_large(frame: Cap, address: u64, how: u64) -> [u64; 6] {
    [abi::INIT_VSPACE.arg(), frame.arg(), address, how, 0, 0]
}

/// Takes a large page out of the pool, with garbage in it.
fn drop_garbage(w: &mut World, base: u64, address: u64) {
    host_test::fill(base, GARBAGE, LARGE as usize);
    w.must(0, Op::Unmap, &[abi::INIT_VSPACE.arg(), 0, address, 0, 1, 1]);
}

/// Maps a large page that has to be cleared, in at most `steps` entries. Returns whether the call
/// came to its end; otherwise the caller is killed.
fn map_in_steps(w: &mut World, (frame, base): (Cap, u64), steps: usize) -> bool {
    let worker = half_done(w, Regs::op(Op::Map, &map_large(frame, LARGE_VA, 0)), 1);
    let mut before = 0;
    for _ in 1..steps {
        let now = 8 * written(base, LARGE) as u64;
        assert!(now - before <= CLEAR_PARTS * PAGE_SIZE, "an entry has cleared {} bytes", now - before);
        before = now;
        if worker.is_through() {
            assert_eq!(worker.regs().error(), None);
            check_zeros(base, LARGE, "a large page");
            return true;
        }
        w.syscall(1);
    }
    kill(w, &worker);
    false
}

/// A large page that was in a pool is cleared in parts before it is mapped again, once more if
/// other contents came meanwhile.
#[test]
fn a_large_page_is_cleared_in_parts() {
    let mut w = World::with_memory(2, 32 << 20);
    let (frame, base) = large_frame(&mut w);
    w.must(0, Op::Map, &map_large(frame, LARGE_VA, abi::MAP_POOL | 1));
    drop_garbage(&mut w, base, LARGE_VA);
    assert!(!map_in_steps(&mut w, (frame, base), 3));
    // It becomes the copy of a page that two places share.
    let (shared, second) = (large_frame(&mut w).0, LARGE_VA + LARGE);
    w.must(0, Op::Map, &map_large(shared, LARGE_VA, abi::MAP_POOL | 1));
    let range = PageRange { address: LARGE_VA, count: 1, large: true, mode: PageMode::Copy };
    let ([first, counts], space) = (range.words(), abi::INIT_VSPACE.arg());
    w.must(0, Op::PageTransfer, &[space, space, first, second, counts]);
    assert_eq!(w.must(0, Op::PageCopy, &[space, frame.arg(), second]).rdi, 1);
    drop_garbage(&mut w, base, second);
    w.must(0, Op::Unmap, &[space, 0, LARGE_VA, 0, 1, 1]);
    assert!(map_in_steps(&mut w, (frame, base), 1000));
}
