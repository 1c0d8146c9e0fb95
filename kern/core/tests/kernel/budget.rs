//! The work of entries that end objects. A test builds as much as may hang together, ends it with
//! one system call, and counts the points of each entry: atomic accesses and locks.

use std::cell::Cell;

use abi::membership::watch;
use abi::{Cap, FLAG_PAGES, ObjType, Op, PAGE_SIZE, PageMode, PageRange, Rights, Target};
use kern_base::group::Group;
use kern_base::header::FLAG_DEAD;
use kern_base::limits::{ENTRY_WORK, MESSAGE_PAGES_MAX, RAISED_MAX, STAMPS_SETTLED};
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::slot::{CNode, DEPTH_MAX, made_at};
use kern_base::task::State;
use kern_core::work::LOOK_WORK;
#[cfg(feature = "small-limits")]
use smp::chaos::Point;
use smp::door::Ref;
use smp::host_test;
use smp::sync::Ordering::Relaxed;

use crate::pages::{FROM, WINDOW, arrived, lists as lists_pages, opens, pooled, transfer};
use crate::scene::{Scene, call};
use crate::world::make::{INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

/// Points of an entry, at most.
const POINTS: u64 = 2500;
const PLACE: u64 = 0x1_0000_0000;

/// Makes a system call and counts the points of each of its entries. Returns how many entries the
/// call took, and the most points of one.
pub fn work_of(w: &mut World, op: Op, args: &[u64]) -> (u64, u64) {
    let points = Cell::new(0);
    let mut count = |_| points.set(points.get() + 1);
    let (mut entries, mut most) = (0, 0);
    w.summon(0);
    w.prepare(0, Regs::op(op, args));
    while entries == 0 || !w.is_over(0) {
        points.set(0);
        host_test::at_points(&mut count, || {
            if w.must_restart(0) || entries == 0 {
                w.syscall(0);
            } else {
                assert!(w.step(0), "{op:?} waits for nothing");
            }
        });
        entries += 1;
        most = most.max(points.get());
    }
    assert_eq!(w.agent(0).regs().error(), None, "{op:?}");
    w.dismiss(0);
    (entries, most)
}

/// Checks that a system call takes several entries, none of which does too much.
#[track_caller]
pub fn is_bounded(w: &mut World, op: Op, args: &[u64], entries: u64) {
    let (taken, most) = work_of(w, op, args);
    assert!(taken >= entries, "{taken} entries, of {entries}, at most {most} points");
    assert!(most <= POINTS, "an entry has {most} points, of {taken} entries");
}

fn move_to(w: &mut World, cap: Cap, table: Cap, slot: u32) {
    w.must(0, Op::CapMove, &[cap.arg(), Target::new(table, slot).0]);
}

/// A frame with many mappings in a space of its own.
fn mapped(w: &mut World, memory: Cap, space: Cap, times: u64, first: u64) -> Cap {
    let frame = w.make_of(0, memory, ObjType::Frame, 12);
    for n in 0..times {
        let address = PLACE + (first + n) * PAGE_SIZE;
        w.must(0, Op::Map, &[space.arg(), frame.arg(), address, 1, 0, 1]);
    }
    frame
}

/// CNodes of Untypeds of frames of mappings: bounds that multiply.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "maps a page 40 times")]
fn cnodes_of_untypeds_of_frames_end_in_bounded_entries() {
    const EACH: u64 = 6;
    const MAPPINGS: u64 = 40;
    let mut w = World::unchecked(1, 64 << 20);
    let space = w.make(0, ObjType::VSpace, 32);
    let root = w.make(0, ObjType::CNode, 64);
    for n in 0..EACH as u32 {
        let (inner, memory) = (w.make(0, ObjType::CNode, 2), w.make(0, ObjType::Untyped, 16));
        for index in 0..EACH {
            let first = (u64::from(n) * EACH + index) * MAPPINGS;
            let _ = mapped(&mut w, memory, space, MAPPINGS, first);
        }
        move_to(&mut w, memory, inner, 1);
        move_to(&mut w, inner, root, 1 + n);
    }
    is_bounded(&mut w, Op::CapDelete, &[at(root)], EACH * EACH);
}

#[test]
fn nested_cnodes_end_in_bounded_entries() {
    const DEEP: usize = 400;
    let mut w = World::unchecked(1, 64 << 20);
    let mut outer = w.make(0, ObjType::CNode, 2);
    for _ in 0..DEEP {
        let next = w.make(0, ObjType::CNode, 3);
        move_to(&mut w, outer, next, 1);
        outer = next;
    }
    is_bounded(&mut w, Op::CapDelete, &[at(outer)], 20);
}

#[test]
fn cnodes_in_a_circle_end() {
    const LONG: usize = 50;
    let mut w = World::new(1);
    let memory = w.make(0, ObjType::Untyped, 18);
    let tables: Vec<Cap> = (0..LONG).map(|_| w.make_of(0, memory, ObjType::CNode, 4)).collect();
    let objects: Vec<_> = tables.iter().map(|cap| w.object::<CNode>(*cap).expect("a CNode")).collect();
    // Each holds a copy of the next one, and then its own last capability goes to the one before.
    let copies: Vec<Cap> = tables
        .iter()
        .map(|table| {
            let to = w.slot();
            w.must(0, Op::CapCopy, &[table.arg(), at(to), u64::from(Rights::ALL.0), 0]);
            to
        })
        .collect();
    for (n, table) in tables.iter().enumerate() {
        move_to(&mut w, copies[(n + 1) % LONG], *table, 1);
    }
    tables.iter().for_each(|table| _ = w.must(0, Op::CapDelete, &[at(*table)]));
    assert!(objects.iter().all(|cnode| !cnode.get().header.has_flag(FLAG_DEAD)), "they hold each other");
    w.must(0, Op::UntypedReset, &[memory.arg()]);
}

#[test]
fn wide_cnodes_end_in_bounded_entries() {
    const WIDE: u32 = 300;
    let mut w = World::unchecked(1, 64 << 20);
    let table = w.make(0, ObjType::CNode, u64::from(WIDE) + 1);
    for n in 0..WIDE {
        let inner = w.make(0, ObjType::CNode, 2);
        move_to(&mut w, inner, table, 1 + n);
    }
    is_bounded(&mut w, Op::CapDelete, &[at(table)], 20);
    let empty = w.make(0, ObjType::CNode, 1 << 16);
    is_bounded(&mut w, Op::CapDelete, &[at(empty)], 20);
}

/// Nothing is in them, but each has to leave its lists.
#[test]
fn many_empty_cnodes_end_in_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let memory = w.make(0, ObjType::Untyped, 20);
    for _ in 0..200 {
        w.make_of(0, memory, ObjType::CNode, 1);
    }
    let (entries, most) = work_of(&mut w, Op::UntypedReset, &[memory.arg()]);
    assert!(most <= POINTS, "an entry has {most} points, of {entries} entries");
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "maps a page 2,000 times")]
fn a_frame_with_many_mappings_ends_in_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let space = w.make(0, ObjType::VSpace, 16);
    let memory = w.make(0, ObjType::Untyped, 16);
    let frame = mapped(&mut w, memory, space, 2000, 0);
    is_bounded(&mut w, Op::CapDelete, &[at(frame)], 40);
    let frame = mapped(&mut w, memory, space, 2000, 0);
    let _ = frame;
    is_bounded(&mut w, Op::UntypedReset, &[memory.arg()], 40);
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "maps a page 3,000 times")]
fn a_space_with_many_mappings_ends_in_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let space = w.make(0, ObjType::VSpace, 16);
    let memory = w.make(0, ObjType::Untyped, 16);
    let _ = mapped(&mut w, memory, space, 3000, 0);
    is_bounded(&mut w, Op::CapDelete, &[at(space)], 60);
}

#[test]
fn a_wide_group_ends_in_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let group = w.group(4, 2000);
    let process = w.process();
    let task = w.start(process, 0, 5);
    for index in 0..1000 {
        w.expose(group, index, task.cap);
    }
    is_bounded(&mut w, Op::CapDelete, &[at(group)], 20);
}

#[test]
fn a_group_with_many_records_ends_in_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let group = w.group(1 << 15, 4);
    is_bounded(&mut w, Op::CapDelete, &[at(group)], 20);
}

/// A process with many tasks, members of many groups.
fn large_process(w: &mut World) -> Proc {
    let process = w.process_of(abi::INIT_UNTYPED, 128, 256);
    for n in 0..100 {
        let task = w.task_with(process, 0, 5, true);
        let group = w.group(2, 4);
        w.expose(group, 1, task.cap);
        w.join_all(group, process, Cap(20 + n));
    }
    process
}

#[test]
fn a_large_process_ends_in_bounded_entries() {
    for op in [Op::ProcessKill, Op::CapDelete] {
        let mut w = World::unchecked(1, 64 << 20);
        let process = large_process(&mut w).process;
        is_bounded(&mut w, op, &[if op == Op::CapDelete { at(process) } else { process.arg() }], 10);
    }
}

#[test]
fn a_revoke_of_the_deepest_tree_has_bounded_entries() {
    let mut w = World::unchecked(1, 64 << 20);
    let top = w.make(0, ObjType::Notification, 0);
    let mut last = top;
    for _ in 1..DEPTH_MAX {
        let to = w.slot();
        w.must(0, Op::CapCopy, &[last.arg(), at(to), u64::from(Rights::ALL.0), 0]);
        last = to;
    }
    is_bounded(&mut w, Op::CapRevoke, &[at(top)], 5);
}

/// A slot that leaves the tree makes few descendants less deep, and that is work, too.
#[test]
fn a_cnode_of_capabilities_with_copies_ends_in_bounded_entries() {
    const EACH: u32 = RAISED_MAX as u32;
    let mut w = World::unchecked(1, 64 << 20);
    let note = w.make(0, ObjType::Notification, 0);
    let (table, copies) = (w.make(0, ObjType::CNode, 201), w.make(0, ObjType::CNode, 200 * EACH as u64 + 1));
    for n in 0..200 {
        let from = w.slot();
        w.must(0, Op::CapCopy, &[note.arg(), at(from), u64::from(Rights::ALL.0), 0]);
        for copy in 0..EACH {
            let to = Target::new(copies, 1 + n * EACH + copy).0;
            w.must(0, Op::CapCopy, &[from.arg(), to, 0, 0]);
        }
        move_to(&mut w, from, table, 1 + n);
    }
    is_bounded(&mut w, Op::CapDelete, &[at(table)], 10);
}

/// The groups that a process names are looked at a single time after its tasks have ended, however
/// many groups it is a member of.
#[test]
fn a_kill_looks_at_each_slot_once() {
    const SLOTS: u64 = 4000;
    const MOST: u64 =
        if 2 * SLOTS * LOOK_WORK / ENTRY_WORK > 60 { 2 * SLOTS * LOOK_WORK / ENTRY_WORK } else { 60 };
    let mut w = World::unchecked(1, 64 << 20);
    let process = w.process_of(abi::INIT_UNTYPED, 1, SLOTS);
    for n in 0..60 {
        let group = w.group(2, 1);
        w.join_all(group, process, Cap(20 + n));
    }
    let object = w.object::<Process>(process.process).expect("a process");
    let (entries, _) = work_of(&mut w, Op::ProcessKill, &[process.process.arg()]);
    assert!(entries < MOST, "{entries} entries");
    assert_eq!(object.get().kills.load(Relaxed), 2, "once when the last task has ended, once at the end");
}

/// A process leaves a group with many watchers, which get bits: not in an entry that has just
/// visited as many task numbers as it may.
#[test]
fn a_watched_process_leaves_in_an_entry_of_its_own() {
    const NUMBERS: u64 = 250;
    const WATCHERS: u32 = 32;
    let mut w = World::unchecked(1, 64 << 20);
    let process = w.process_of(abi::INIT_UNTYPED, NUMBERS, 32);
    let group = w.group(2, WATCHERS.into());
    for n in 0..WATCHERS {
        let note = w.make(0, ObjType::Notification, 0);
        w.must(0, Op::Expose, &[Target::new(group, n).0, note.arg(), watch(0)]);
    }
    w.join_all(group, process, Cap(20));
    let object = w.object::<Process>(process.process).expect("a process").get();
    let is_member =
        || object.memberships.lock(host_test::pin(0), &object.header).get(host_test::pin(0)).is_some();
    w.summon(0);
    w.prepare(0, Regs::op(Op::ProcessKill, &[process.process.arg()]));
    let mut visited = object.header.swept();
    w.syscall(0);
    loop {
        assert!(is_member() || visited >= NUMBERS as usize, "it had visited {visited} numbers");
        if !is_member() {
            break;
        }
        visited = object.header.swept();
        assert!(w.event(0) || w.step(0), "it is not over");
    }
    w.finish(0);
}

/// Callers whose pages come back when their server dies: that is work, too.
#[test]
#[cfg_attr(feature = "small-limits", ignore = "lends 64 pages at a time")]
fn callers_with_pages_are_told_one_by_one() {
    const CALLERS: u64 = 6;
    const PAGES: u64 = 64;
    let mut s = Scene::new(1);
    let (server, to_server) = s.task(0, 5, true);
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, CALLERS * PAGES);
    let callers: Vec<Tcb> = (0..CALLERS)
        .map(|n| {
            let (caller, _) = s.running(0, 10);
            let range = PageRange::new(PageMode::Share, FROM + n * PAGES * PAGE_SIZE, PAGES);
            lists_pages(&caller, &[range]);
            s.w.does(&caller, call(to_server).flag(FLAG_PAGES));
            caller
        })
        .collect();
    let waiting = || callers.iter().filter(|caller| caller.state() != State::Ready).count();
    let mut left = waiting();
    assert_eq!(left, CALLERS as usize);
    s.w.begin(0, Regs::op(Op::TaskKill, &[server.cap.arg()]));
    while left > 0 {
        let now = waiting();
        assert!(left - now <= 1, "{left} to {now} in one entry");
        left = now;
        assert!(left == 0 || s.w.event(0) || s.w.step(0));
    }
}

/// The pages of a message, and the places for them, have stamps of shootdowns that are over: an
/// entry removes some of these, and the next one goes on.
#[test]
fn stamps_are_removed_in_several_entries() {
    let mut s = Scene::unchecked(4, 32 << 20);
    let (space, third) = (s.process.vspace, s.w.process());
    let witness = s.w.start(third, 2, 10);
    s.w.run();
    pooled(&mut s, space, FROM, MESSAGE_PAGES_MAX);
    let share = PageRange::new(PageMode::Share, FROM, MESSAGE_PAGES_MAX);
    assert_eq!(transfer(&mut s, space, third.vspace, share, WINDOW), Ok(()));
    for number in 0..MESSAGE_PAGES_MAX {
        assert!(s.w.runs(2, &witness) && s.w.touch(2, WINDOW + number * PAGE_SIZE));
    }
    s.w.must(0, Op::Unmap, &[third.vspace.arg(), 0, WINDOW, 0, 0, MESSAGE_PAGES_MAX]);
    let [words, count] = share.words();
    is_bounded(
        &mut s.w,
        Op::PageTransfer,
        &[space.arg(), third.vspace.arg(), words, WINDOW, count],
        2 * MESSAGE_PAGES_MAX / STAMPS_SETTLED,
    );
}

/// A reply with many pages is the work of an entry: the pages of the call that its replier receives
/// next come in another one.
#[test]
fn pages_of_a_reply_and_of_the_next_call_come_in_two_entries() {
    let mut s = Scene::unchecked(1, 32 << 20);
    let (server, to_server) = s.server(0, 10);
    let (asker, _) = s.running(0, 10);
    let space = s.process.vspace;
    pooled(&mut s, space, FROM, 2 * MESSAGE_PAGES_MAX);
    let [first, second] = [0, MESSAGE_PAGES_MAX]
        .map(|n| PageRange::new(PageMode::Share, FROM + n * PAGE_SIZE, MESSAGE_PAGES_MAX));
    let far = WINDOW + (1 << 30);
    opens(&asker, WINDOW, MESSAGE_PAGES_MAX * PAGE_SIZE);
    s.w.does_and_run(&asker, Regs::op(Op::Call, &[to_server.0]));
    assert!(server.is_through(), "it serves the asker");
    let (giver, _) = s.running(0, 20);
    lists_pages(&giver, &[second]);
    s.w.does_and_run(&giver, Regs::op(Op::Call, &[to_server.0]).flag(FLAG_PAGES));
    opens(&server, far, MESSAGE_PAGES_MAX * PAGE_SIZE);
    lists_pages(&server, &[first]);
    s.w.does(&server, Regs::op(Op::ReplyRecv, &[]).flag(FLAG_PAGES));
    while !asker.is_through() {
        assert!(s.w.event(0) || s.w.step(0), "the reply comes");
    }
    assert_eq!(server.state(), State::Recv, "the other call's pages are not there yet");
    s.w.run();
    assert_eq!(server.state(), State::Ready);
    let come_to =
        |task: &Tcb| arrived(task).iter().map(|range| (range.address, range.count)).collect::<Vec<_>>();
    assert_eq!(come_to(&asker), [(WINDOW, MESSAGE_PAGES_MAX)]);
    assert_eq!(come_to(&server), [(far, MESSAGE_PAGES_MAX)]);
}

// --- whose work it is ----------------------------------------------------------------------------

/// Slots of a CNode whose delete takes many entries.
const SLOTS: u32 = 4000;

/// A CNode of some memory, full of copies, and what they are copies of.
fn full_table(w: &mut World, memory: Cap) -> (Cap, Ref<'static, CNode>) {
    let note = w.make(0, ObjType::Notification, 0);
    let table = w.make_of(0, memory, ObjType::CNode, u64::from(SLOTS));
    for slot in 1..SLOTS {
        let to = Target::new(table, slot).0;
        w.must(0, Op::CapCopy, &[note.arg(), to, 0, 0]);
    }
    (table, w.object::<CNode>(table).expect("a CNode"))
}

/// An innocent's operations take one entry.
#[track_caller]
fn innocent_is_quick(w: &mut World) {
    let note = w.make(0, ObjType::Notification, 0);
    let to = w.slot();
    w.must(0, Op::CapCopy, &[note.arg(), at(to), 0, 0]);
    for (op, slot) in [(Op::CapDelete, to), (Op::CapDelete, note)] {
        let (entries, points) = work_of(w, op, &[at(slot)]);
        assert!(entries == 1 && points <= POINTS, "{op:?} takes {entries} entries, {points} points");
    }
}

#[test]
fn strangers_do_none_of_the_work_of_a_delete() {
    let mut w = World::unchecked(2, 64 << 20);
    let memory = w.make(0, ObjType::Untyped, 20);
    let (table, object) = full_table(&mut w, memory);
    w.begin(1, Regs::op(Op::CapDelete, &[at(table)]));
    let before = object.get().header.swept();
    assert!(!w.is_over(1) && before > 0 && before < SLOTS as usize, "{before} slots are empty");
    w.hold(Some(1));
    innocent_is_quick(&mut w);
    let other = w.make(0, ObjType::Untyped, 14);
    w.make_of(0, other, ObjType::Notification, 0);
    w.summon(0);
    w.begin(0, Regs::op(Op::UntypedReset, &[other.arg()]));
    assert_eq!(object.get().header.swept(), before, "others have emptied slots");
    w.hold(None);
    w.finish(0);
    assert_eq!(w.finish(1).error(), None);
    assert!(object.get().header.has_flag(FLAG_DEAD), "the delete is over, and the CNode is not empty");
}

/// The task that ended a CNode is killed half-way: the reset of the CNode's memory empties it, and
/// nothing else does.
#[test]
fn what_a_dead_task_left_is_emptied_by_the_reset_of_its_memory() {
    let mut w = World::unchecked(1, 64 << 20);
    let above = w.make(0, ObjType::Untyped, 21);
    let memory = w.make_of(0, above, ObjType::Untyped, 20);
    let (table, object) = full_table(&mut w, memory);
    let kept = w.make(0, ObjType::Notification, 0);
    let note = w.object::<Notification>(kept).expect("a Notification");
    w.must(0, Op::CapDelete, &[Target::new(table, SLOTS - 1).0]);
    move_to(&mut w, kept, table, SLOTS - 1);
    let deleter = w.start(INIT, 0, 5);
    w.does(&deleter, Regs::op(Op::CapDelete, &[at(table)]));
    let before = object.get().header.swept();
    assert!(deleter.must_restart() && before < SLOTS as usize);
    w.must(0, Op::TaskKill, &[deleter.cap.arg()]);
    assert_eq!(deleter.state(), State::Dead);
    innocent_is_quick(&mut w);
    assert_eq!(object.get().header.swept(), before);
    assert!(!note.get().header.has_flag(FLAG_DEAD), "a slot that is not empty keeps its object");
    // The Untyped ends, and its zombies go to the one above.
    w.must(0, Op::CapDelete, &[at(memory)]);
    innocent_is_quick(&mut w);
    is_bounded(&mut w, Op::UntypedReset, &[above.arg()], 10);
    assert!(note.get().header.has_flag(FLAG_DEAD), "the memory is reset, and the CNode not emptied");
}

/// A task whose restarted delete is cancelled begins another one without the work of the first.
#[test]
fn a_delete_that_was_given_up_is_the_work_of_its_memory() {
    let mut w = World::unchecked(1, 64 << 20);
    let memory = w.make(0, ObjType::Untyped, 20);
    let (table, object) = full_table(&mut w, memory);
    let note = w.make(0, ObjType::Notification, 0);
    w.summon(0);
    w.prepare(0, Regs::op(Op::CapDelete, &[at(table)]));
    w.syscall(0);
    assert!(!w.is_over(0));
    let before = object.get().header.swept();
    // Its registers are written meanwhile, as a debugger may do: a new call.
    w.prepare(0, Regs::op(Op::CapDelete, &[at(note)]));
    w.syscall(0);
    assert!(w.is_over(0));
    w.dismiss(0);
    assert_eq!(object.get().header.swept(), before, "its next delete has emptied slots");
    w.must(0, Op::UntypedReset, &[memory.arg()]);
    assert!(object.get().header.has_flag(FLAG_DEAD));
}

/// Others may fill what is being emptied. What they have made since is not the deleter's work.
#[test]
fn cnodes_made_during_a_delete_are_the_work_of_their_memory() {
    let mut w = World::unchecked(1, 64 << 20);
    let memory = w.make(0, ObjType::Untyped, 20);
    let (table, object) = full_table(&mut w, memory);
    let (late, later) = full_table(&mut w, memory);
    let (early, earlier) = full_table(&mut w, memory);
    for (inner, slot) in [(late, SLOTS - 2), (early, SLOTS - 1)] {
        w.must(0, Op::CapDelete, &[Target::new(table, slot).0]);
        move_to(&mut w, inner, table, slot);
    }
    later.get().made.store(made_at(w.now()) + 1, Relaxed);
    w.must(0, Op::CapDelete, &[at(table)]);
    let is_dead = |cnode: Ref<'_, CNode>| cnode.get().header.has_flag(FLAG_DEAD);
    assert!(is_dead(object) && is_dead(earlier) && !is_dead(later));
    assert_eq!(later.get().header.swept(), 0);
    w.must(0, Op::UntypedReset, &[memory.arg()]);
    assert!(is_dead(later));
}

/// A kill that its own process began, and that ended with the killer, leaves no task exposed.
#[test]
fn a_kill_begins_with_the_first_group_again_when_all_tasks_have_ended() {
    let mut w = World::new(1);
    let process = w.process();
    let (group, task) = (w.group(2, 4), w.task_with(process, 0, 5, true));
    w.join_all(group, process, Cap(3));
    w.expose(group, 1, task.cap);
    w.object::<Process>(process.process).expect("a process").get().left.store(20 << 32, Relaxed);
    w.must(0, Op::ProcessKill, &[process.process.arg()]);
    let exposed = w.object::<Group>(group).expect("a group").get().exposures.known().get(task.pin(), 1);
    assert_eq!(exposed.map(|entry| entry.get().slot.word.load(task.pin()).object_type()), Some(0));
}

/// Somebody moves what is being revoked. What the revoke has ended is empty when it returns.
#[test]
fn a_revoke_of_what_was_moved_empties_what_it_ended() {
    let mut w = World::unchecked(2, 64 << 20);
    let (memory, other) = (w.make(0, ObjType::Untyped, 21), w.slot());
    let (_, object) = full_table(&mut w, memory);
    w.begin(1, Regs::op(Op::CapRevoke, &[at(memory)]));
    while !w.is_over(1) && object.get().header.swept() == 0 {
        assert!(w.step(1));
    }
    assert!(!w.is_over(1));
    w.hold(Some(1));
    w.must(0, Op::CapMove, &[memory.arg(), at(other)]);
    w.hold(None);
    assert_eq!(w.finish(1).error(), None);
    assert!(object.get().header.has_flag(FLAG_DEAD));
}

/// CPU 0 stands with the lock of a root, and CPU 1 wants it. `due`: CPU 1's timer has fired.
/// Returns whether CPU 1's system call is over after its first entry, and CPU 0's.
#[cfg(feature = "small-limits")]
fn at_a_lock(due: bool, op: Op) -> [bool; 2] {
    let mut s = Scene::new(2);
    let (sleeper, _) = s.running(1, 10);
    let (cap, copy) = (s.w.make(0, ObjType::Notification, 0), s.w.slot());
    s.w.must(0, Op::CapCopy, &[cap.arg(), at(copy), u64::from(Rights::ALL.0), 0]);
    let [first, second] = [s.w.slot(), s.w.slot()];
    let deadline = s.w.now() + 1000;
    s.w.does_and_run(&sleeper, Regs::op(Op::Recv, &[]).deadline(deadline));
    let copies = move |to| Regs::op(Op::CapCopy, &[cap.arg(), at(to), u64::from(Rights::ALL.0), 0]);
    let other = match op {
        Op::CapCopy => copies(second),
        Op::CapMove => Regs::op(op, &[copy.arg(), at(second)]),
        Op::Retype => {
            Regs::op(op, &[Target::new(abi::INIT_UNTYPED, ObjType::Notification as u32).0, 0, at(second), 1])
        }
        _ => Regs::op(op, &[at(copy)]),
    };
    let mut over = [false; 2];
    let stands = s.w.torn_where(
        0,
        copies(first),
        |point| point == Point::Locked,
        |w| {
            w.advance(if due { 2000 } else { 0 });
            w.begin(1, other);
            over = [w.is_over(1), w.object::<Notification>(first).is_some()];
        },
    );
    assert!(stands);
    for n in [0, 1] {
        assert_eq!(s.w.finish(n).error(), None, "{op:?} on cpu{n}");
    }
    over
}

/// With small limits, a CPU that waits for a lock is asked at its first round.
#[cfg(feature = "small-limits")]
#[test]
fn a_cpu_whose_timer_has_fired_leaves_the_line_of_a_lock() {
    for op in [Op::CapCopy, Op::CapMove, Op::CapDelete, Op::Retype] {
        assert_eq!(at_a_lock(false, op), [true, true], "{op:?} waits for its turn");
        assert_eq!(at_a_lock(true, op), [false, false], "{op:?} starts again");
    }
}
