//! Address spaces, case by case: which CPUs may still have which translations.

use abi::{Cap, ObjType, Op};
use smp::planted::{Fault, Planted};

use crate::scene::Scene;
use crate::world::make::{CONTROL, INIT, at};
use crate::world::{Regs, Tcb};

const PAGE: u64 = 0x6000_0000;

fn utcb(task: &Tcb) -> u64 {
    task.object.get().utcb_address()
}

#[test]
fn the_utcb_of_the_dead_is_forgotten_before_anything_takes_its_place() {
    let mut s = Scene::new(3);
    let (dead, _) = s.running(0, 10);
    let (witness, _) = s.running(1, 10);
    let place = utcb(&dead);
    assert!(s.w.runs(1, &witness) && s.w.touch(1, place), "they are of one process");
    s.kill(&dead);
    let next = s.w.make(0, ObjType::Task, 0);
    s.w.must(0, Op::TaskConfigure, &[CONTROL, next.arg(), s.process.process.arg(), place, 0]);
    assert!(s.w.touch(1, place));
    let page = core::ptr::from_ref(s.w.task(next).get().utcb(witness.pin())).addr() as u64;
    let seen = s.w.remembered(1, place);
    assert_eq!(seen.map(|page| page.at.0), Some(page), "the witness sees the new one");
}

#[test]
fn a_frame_takes_the_place_of_a_dead_utcb() {
    let mut s = Scene::new(2);
    let (dead, _) = s.running(0, 10);
    let (witness, _) = s.running(1, 10);
    let place = utcb(&dead);
    assert!(s.w.runs(1, &witness) && s.w.touch(1, place));
    s.kill(&dead);
    let frame = s.w.make(0, ObjType::Frame, 12);
    s.w.must(0, Op::Map, &[s.process.vspace.arg(), frame.arg(), place, 0]);
    assert!(s.w.touch(1, place));
    assert_eq!(
        s.w.remembered(1, place).map(|page| page.write),
        Some(false),
        "not the UTCB, which was writable"
    );
}

#[test]
fn an_empty_table_makes_room_for_a_large_page() {
    let mut s = Scene::new(2);
    let (small, large) = (s.w.make(0, ObjType::Frame, 12), s.w.make(0, ObjType::Frame, 21));
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, small.arg(), PAGE, 0]);
    let refused = s.w.ask(0, Op::Map, &[space, large.arg(), PAGE, 0]);
    assert_eq!(refused, Err((abi::Error::Mapped, PAGE)), "a small page is there");
    s.w.must(0, Op::Unmap, &[space, small.arg(), PAGE, 0]);
    s.w.must(0, Op::Map, &[space, large.arg(), PAGE, 0]);
    let refused = s.w.ask(0, Op::Map, &[space, small.arg(), PAGE, 0]);
    assert_eq!(refused, Err((abi::Error::Mapped, PAGE)), "a large page is there");
    s.w.must(0, Op::Unmap, &[space, large.arg(), PAGE, 0]);
    s.w.must(0, Op::Map, &[space, small.arg(), PAGE, 0]);
}

/// Maps page 0 of a frame somewhere, or not.
fn map(s: &mut Scene, space: Cap, frame: Cap, at: u64, how: u64) -> Result<(), (abi::Error, u64)> {
    s.w.ask(0, Op::Map, &[space.arg(), frame.arg(), at, how]).map(|_| ())
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "maps a page 12 times")]
fn a_frame_is_found_wherever_it_is_mapped() {
    let mut s = Scene::new(2);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let spaces = [s.process.vspace, s.w.process().vspace, s.w.process().vspace];
    let places: Vec<(Cap, u64)> =
        spaces.iter().flat_map(|space| (0..4).map(|n| (*space, PAGE + n * 4096))).collect();
    for (space, at) in &places {
        assert_eq!(map(&mut s, *space, frame, *at, 0), Ok(()));
    }
    // From the middle of the list, its head and its tail.
    for n in [5, 11, 0, 6] {
        let (space, at) = places[n];
        s.w.must(0, Op::Unmap, &[space.arg(), frame.arg(), at, 0]);
        assert_eq!(map(&mut s, space, frame, at, 0), Ok(()), "it is free again");
    }
    s.delete(frame);
    let other = s.w.make(0, ObjType::Frame, 12);
    for (space, at) in places {
        assert_eq!(map(&mut s, space, other, at, 0), Ok(()), "nothing is mapped at {at:#x}");
    }
}

#[test]
fn a_run_is_mapped_in_parts() {
    let mut s = Scene::new(2);
    let frame = s.w.make(0, ObjType::Frame, 12 | 200 << 8);
    let space = s.process.vspace.arg();
    let start = 0x5fff_0000;
    s.w.must(0, Op::Map, &[space, frame.arg(), start, 1]);
    let middle = s.w.ask(0, Op::Map, &[space, frame.arg(), start - 4096, 1, 0, 2]);
    assert_eq!(middle, Err((abi::Error::Mapped, start)), "the first page of it is mapped");
    let past = s.w.ask(0, Op::Unmap, &[space, frame.arg(), start, 0, 1, 3]);
    assert_eq!(past, Err((abi::Error::BadAddress, start)), "page 1 is not mapped there");
    s.w.must(0, Op::Unmap, &[space, frame.arg(), start + 100 * 4096, 0, 100, 0]);
    s.w.must(0, Op::Unmap, &[space, frame.arg(), start, 0, 0, 100]);
    s.w.must(0, Op::Unmap, &[space, frame.arg(), start - 4096, 0, 0, 1]);
    for (first, count, wrong) in [(200, 0, 4), (0, 201, 5), (199, 2, 5), (u64::MAX, 1, 4), (1, u64::MAX, 5)] {
        let refused = s.w.ask(0, Op::Map, &[space, frame.arg(), PAGE, 0, first, count]);
        assert_eq!(refused, Err((abi::Error::BadArgument, wrong)), "{count} pages from {first}");
    }
}

#[test]
fn who_may_read_a_frame_does_not_write_it() {
    let mut s = Scene::new(1);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let weak = s.w.slot();
    let write = abi::frame_rights::WRITE.rights();
    s.w.must(0, Op::CapCopy, &[frame.arg(), at(weak), u64::from(abi::Rights::ALL.minus(write).0), 0]);
    let space = s.process.vspace;
    let refused = Err((abi::Error::NoRight, u64::from(write.0)));
    for how in [1, abi::MAP_POOL, abi::MAP_POOL | 1] {
        assert_eq!(map(&mut s, space, weak, PAGE, how), refused, "mapping it with {how}");
    }
    assert_eq!(map(&mut s, space, weak, PAGE, 0), Ok(()));
    let args = [space.arg(), weak.arg(), PAGE, 1];
    assert_eq!(s.w.ask(0, Op::Protect, &args).map(|_| ()), refused, "and then letting it be written");
    s.w.must(0, Op::Protect, &[space.arg(), weak.arg(), PAGE, 2]);
    let args = [space.arg(), weak.arg(), PAGE, 0, 0];
    assert_eq!(s.w.ask(0, Op::PageCopy, &args).map(|_| ()), refused, "as a copy");
    s.w.must(0, Op::Unmap, &[space.arg(), weak.arg(), PAGE, 0]);
    assert_eq!(map(&mut s, space, frame, PAGE, 1), Ok(()), "the other capability has all rights");
}

#[test]
#[cfg_attr(feature = "small-limits", ignore = "asks for 64 pages in one entry")]
fn what_was_used_is_told_once() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    assert!(s.w.runs(1, &user));
    let frame = s.w.make(0, ObjType::Frame, 12 | 100 << 8);
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, 1]);
    let ask = |s: &mut Scene, first: u64, count| {
        let at = PAGE + first * 4096;
        s.w.ask(0, Op::Accessed, &[space, frame.arg(), at, 0, first, count]).map(|regs| (regs.rdi, regs.rsi))
    };
    assert_eq!(ask(&mut s, 0, 64), Ok((0, 0)), "nothing was used");
    for page in [1, 3, 63, 70] {
        assert!(s.w.touch(1, PAGE + page * 4096));
    }
    assert_eq!(ask(&mut s, 2, 2), Ok((2, 0)));
    assert_eq!(ask(&mut s, 0, 64), Ok((1 << 63 | 2, 0)), "page 3 was told already");
    assert!(s.w.touch(1, PAGE + 4096), "which CPU 1 remembers");
    assert_eq!(ask(&mut s, 0, 64), Ok((0, 0)), "so nothing is noted");
    assert_eq!(ask(&mut s, 0, 65), Err((abi::Error::BadArgument, 5)));
    assert_eq!(ask(&mut s, 0, 0), Err((abi::Error::BadArgument, 5)), "all of them are too many");
    s.w.must(0, Op::Unmap, &[space, frame.arg(), PAGE + 71 * 4096, 0, 71, 1]);
    assert_eq!(ask(&mut s, 70, 2), Err((abi::Error::BadAddress, PAGE + 71 * 4096)));
    assert_eq!(ask(&mut s, 70, 1), Ok((1, 0)), "what was refused changed nothing");
}

#[test]
fn nobody_writes_what_others_execute() {
    let mut s = Scene::new(2);
    let (writer, _) = s.running(1, 10);
    assert!(s.w.runs(1, &writer));
    let frame = s.w.make(0, ObjType::Frame, 12);
    let space = s.process.vspace;
    assert_eq!(map(&mut s, space, frame, PAGE, 1), Ok(()));
    assert!(s.w.touch(1, PAGE), "CPU 1 may write");
    assert_eq!(map(&mut s, INIT.vspace, frame, PAGE, 2), Err((abi::Error::WriteExecute, PAGE)));
    // The check after every entry watches that the other CPU has forgotten it in between.
    s.w.must(0, Op::Protect, &[space.arg(), frame.arg(), PAGE, 2]);
    assert_eq!(map(&mut s, INIT.vspace, frame, PAGE, 1), Err((abi::Error::WriteExecute, PAGE)));
    assert_eq!(map(&mut s, INIT.vspace, frame, PAGE, 2), Ok(()));
    let both = s.w.ask(0, Op::Protect, &[space.arg(), frame.arg(), PAGE, 1]);
    assert_eq!(both, Err((abi::Error::WriteExecute, PAGE)), "it is executable elsewhere");
    s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), PAGE, 0]);
    assert!(s.w.touch(1, PAGE));
    s.w.must(0, Op::Protect, &[space.arg(), frame.arg(), PAGE, 1]);
    assert!(s.w.touch(1, PAGE));
    assert_eq!(s.w.remembered(1, PAGE).map(|page| (page.write, page.execute)), Some((true, false)));
}

#[test]
fn a_long_run_is_protected_whole() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    assert!(s.w.runs(1, &user));
    let frame = s.w.make(0, ObjType::Frame, 12 | 200 << 8);
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, 1]);
    let pages = || (0..200).map(|n| PAGE + n * 4096);
    for (how, wanted) in [(2, (false, true)), (0, (false, false)), (1, (true, false)), (2, (false, true))] {
        assert!(pages().all(|at| s.w.touch(1, at)));
        s.w.must(0, Op::Protect, &[space, frame.arg(), PAGE, how]);
        for at in pages() {
            assert!(s.w.touch(1, at));
            let seen = s.w.remembered(1, at).map(|page| (page.write, page.execute));
            assert_eq!(seen, Some(wanted), "{at:#x} with access {how}");
        }
    }
    assert!(pages().all(|at| s.w.touch(1, at)));
    s.w.must(0, Op::Unmap, &[space, frame.arg(), PAGE, 0]);
    assert!(pages().all(|at| !s.w.touch(1, at)), "nothing is left");
}

#[test]
fn what_was_protected_before_an_error_is_so_everywhere() {
    for (from, to, seen) in
        [(0, 1, (true, false)), (1, 0, (false, false)), (2, 1, (true, false)), (1, 2, (false, true))]
    {
        let mut s = Scene::new(2);
        let (user, _) = s.running(1, 10);
        let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
        let space = s.process.vspace.arg();
        s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, from, 0, 1]);
        assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE));
        let error = s.w.ask(0, Op::Protect, &[space, frame.arg(), PAGE, to]);
        assert_eq!(error, Err((abi::Error::BadAddress, PAGE + 4096)), "the second page is not mapped");
        assert!(s.w.touch(1, PAGE));
        let now = s.w.remembered(1, PAGE).map(|page| (page.write, page.execute));
        assert_eq!(now, Some(seen), "from access {from} to {to}");
    }
}

#[test]
fn what_was_unmapped_before_an_error_is_gone_everywhere() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let frame = s.w.make(0, ObjType::Frame, 12 | 3 << 8);
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, 1, 0, 2]);
    assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE) && s.w.touch(1, PAGE + 4096));
    let error = s.w.ask(0, Op::Unmap, &[space, frame.arg(), PAGE, 0]);
    assert_eq!(error, Err((abi::Error::BadAddress, PAGE + 8192)), "the third page is not mapped");
    assert!(!s.w.touch(1, PAGE) && !s.w.touch(1, PAGE + 4096), "the others are unmapped, for all CPUs");
}

/// Unmaps a page while CPU 1, which remembers it, is in another space; then CPU 1 comes back.
fn unmapped_meanwhile() {
    let mut s = Scene::new(2);
    let (user, _) = s.running(1, 10);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let space = s.process.vspace;
    assert_eq!(map(&mut s, space, frame, PAGE, 1), Ok(()));
    assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE));
    let other = s.w.process();
    let passer = s.w.start(other, 1, 20);
    assert!(s.w.runs(1, &passer), "another space, with the first one's translations kept");
    s.w.must(0, Op::Unmap, &[space.arg(), frame.arg(), PAGE, 0]);
    s.delete(passer.cap);
    assert!(s.w.runs(1, &user) && !s.w.touch(1, PAGE), "it is unmapped");
}

#[test]
fn who_comes_back_to_a_space_finds_it_as_it_is() {
    unmapped_meanwhile();
}

#[test]
#[should_panic(expected = "cpu1 remembers 0x60000000")]
fn a_planted_missing_pcid_flush_is_caught() {
    let _planted = Planted::new(Fault::MissingPcidFlush);
    unmapped_meanwhile();
}

#[test]
#[should_panic(expected = "cpu1 remembers 0x60000000")]
fn a_planted_missing_flush_is_caught() {
    let _planted = Planted::new(Fault::MissingFlush);
    let mut s = Scene::new(2);
    let frame = written(&mut s);
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Unmap, &[space, frame.arg(), PAGE, 0]);
}

/// A frame that a program of CPU 1 can write, and remembers so.
fn written(s: &mut Scene) -> Cap {
    let (writer, _) = s.running(1, 10);
    let frame = s.w.make(0, ObjType::Frame, 12);
    let space = s.process.vspace;
    assert_eq!(map(s, space, frame, PAGE, 1), Ok(()));
    assert!(s.w.runs(1, &writer) && s.w.touch(1, PAGE), "CPU 1 may write");
    frame
}

#[test]
fn nobody_executes_what_a_cpu_may_still_write() {
    let mut s = Scene::new(3);
    let frame = written(&mut s);
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::Unmap, &[s.process.vspace.arg(), frame.arg(), PAGE, 0]));
    assert!(s.w.remembered(1, PAGE).is_some(), "CPU 1 has not heard of it");
    s.w.summon(2);
    // The check after every entry watches that it is not executable yet.
    s.w.issue(2, Regs::op(Op::Map, &[INIT.vspace.arg(), frame.arg(), PAGE, 2]));
    let other = s.w.agent(2);
    assert!(!other.is_through(), "it waits");
    s.w.run();
    assert!(s.w.remembered(1, PAGE).is_none());
    assert_eq!(s.w.result(&other).result().map(|_| ()), Ok(()));
    s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), PAGE, 0]);
}

#[test]
fn nothing_takes_the_place_of_what_a_cpu_may_still_see() {
    let mut s = Scene::new(3);
    let frame = written(&mut s);
    let space = s.process.vspace;
    let [other, elsewhere] = [0, 1].map(|_| s.w.make(2, ObjType::Frame, 12));
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::Unmap, &[space.arg(), frame.arg(), PAGE, 0]));
    assert!(s.w.remembered(1, PAGE).is_some(), "CPU 1 has not heard of it");
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::Map, &[space.arg(), elsewhere.arg(), PAGE + 4096, 0]));
    assert!(s.w.agent(2).is_through(), "other addresses do not wait");
    s.w.issue(2, Regs::op(Op::Map, &[space.arg(), other.arg(), PAGE, 0]));
    while s.w.step(2) {}
    assert!(!s.w.agent(2).is_through(), "it waits");
    s.w.run();
    assert_eq!(s.w.result(&s.w.agent(2)).result().map(|_| ()), Ok(()));
    assert!(s.w.touch(1, PAGE), "it sees the other frame");
}

#[test]
fn a_page_of_two_spaces_is_forgotten_in_both() {
    let mut s = Scene::new(5);
    let frame = written(&mut s);
    let other = s.w.process();
    let reader = s.w.start(other, 3, 10);
    s.w.run();
    assert_eq!(map(&mut s, other.vspace, frame, PAGE, 0), Ok(()));
    assert!(s.w.runs(3, &reader) && s.w.touch(3, PAGE));
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::Unmap, &[s.process.vspace.arg(), frame.arg(), PAGE, 0]));
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::Unmap, &[other.vspace.arg(), frame.arg(), PAGE, 0]));
    // The second unmapping is answered, the first is not: CPU 1 may still write.
    while s.w.step(3) || s.w.step(2) {}
    assert!(s.w.remembered(1, PAGE).is_some() && s.w.remembered(3, PAGE).is_none());
    s.w.summon(4);
    s.w.issue(4, Regs::op(Op::Map, &[INIT.vspace.arg(), frame.arg(), PAGE, 2]));
    while s.w.step(4) {}
    assert!(!s.w.agent(4).is_through(), "it waits");
    s.w.run();
    assert_eq!(s.w.result(&s.w.agent(4)).result().map(|_| ()), Ok(()));
    s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), PAGE, 0]);
}

#[test]
fn two_protect_the_same_pages() {
    let mut s = Scene::new(3);
    let (user, _) = s.running(1, 10);
    let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    let space = s.process.vspace.arg();
    s.w.must(0, Op::Map, &[space, frame.arg(), PAGE, 1]);
    assert!(s.w.runs(1, &user) && s.w.touch(1, PAGE) && s.w.touch(1, PAGE + 4096));
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::Protect, &[space, frame.arg(), PAGE + 4096, 0, 1, 1]));
    // The first page has to be forgotten, and the second by another's doing.
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::Protect, &[space, frame.arg(), PAGE, 0]));
    s.w.run();
    for agent in [s.w.agent(0), s.w.agent(2)] {
        assert_eq!(s.w.result(&agent).result().map(|_| ()), Ok(()));
    }
    assert!(s.w.remembered(1, PAGE).is_none() && s.w.remembered(1, PAGE + 4096).is_none());
}

#[test]
fn a_frame_that_is_being_deleted_is_mapped_no_more() {
    let mut s = Scene::new(3);
    let frame = written(&mut s);
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::CapDelete, &[at(frame)]));
    assert!(s.w.remembered(1, PAGE).is_some(), "CPU 1 has not heard of it");
    s.w.summon(2);
    s.w.issue(2, Regs::op(Op::Map, &[INIT.vspace.arg(), frame.arg(), PAGE, 0]));
    let other = s.w.agent(2);
    assert_eq!(s.w.result(&other).error(), Some(abi::Error::Dying));
    s.w.run();
    assert!(s.w.remembered(1, PAGE).is_none());
}

#[test]
fn a_space_that_ends_lets_go_of_frames() {
    let mut s = Scene::new(2);
    let frames = [s.w.make(0, ObjType::Frame, 12 | 3 << 8), s.w.make(0, ObjType::Frame, 21)];
    let other = s.w.process();
    for (frame, at) in frames.into_iter().zip([PAGE, PAGE + (4 << 20)]) {
        assert_eq!(map(&mut s, other.vspace, frame, at, 1), Ok(()));
        assert_eq!(map(&mut s, INIT.vspace, frame, at, 1), Ok(()));
        let refused = map(&mut s, INIT.vspace, frame, at + (8 << 20), 2);
        assert_eq!(refused, Err((abi::Error::WriteExecute, at + (8 << 20))));
        s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), at, 0]);
    }
    s.delete(other.process);
    s.delete(other.vspace);
    for (frame, at) in frames.into_iter().zip([PAGE, PAGE + (4 << 20)]) {
        assert_eq!(map(&mut s, INIT.vspace, frame, at, 2), Ok(()), "nobody writes it any more");
        s.w.must(0, Op::Unmap, &[INIT.vspace.arg(), frame.arg(), at, 0]);
        s.delete(frame);
    }
}

#[test]
fn address_spaces_give_their_pcids_back() {
    let mut s = Scene::new(2);
    let before = s.w.k.machine.hardware().pcids_taken();
    for _ in 0..20 {
        let process = s.w.process();
        let taken = s.w.k.machine.hardware().pcids_taken();
        assert!(taken > before, "the new space has one");
        let task = s.w.start(process, 1, 10);
        assert!(s.w.runs(1, &task) && s.w.touch(1, utcb(&task)));
        for cap in [task.cap, process.process, process.vspace, process.cnode] {
            s.delete(cap);
        }
        assert_eq!(s.w.k.machine.hardware().pcids_taken(), before, "it is free again");
    }
}

#[test]
fn a_cpu_leaves_a_space_that_ends() {
    let mut s = Scene::new(2);
    let memory = s.w.make(0, ObjType::Untyped, 19);
    for _ in 0..3 {
        // Each time at the same place.
        let process = s.w.process_of(memory, 4, 16);
        let task = s.w.task_of(memory, process, 1, 10, true);
        s.w.resume(&task);
        s.w.run();
        assert!(s.w.runs(1, &task) && s.w.touch(1, utcb(&task)), "CPU 1 is in the new space");
        s.w.must(0, Op::UntypedReset, &[memory.arg()]);
        s.w.run();
    }
}

/// On the way from executable to writable the first page is neither, and its call has to wait for
/// what another CPU does to that page. Then somebody executes it elsewhere: the call fails there,
/// and no page behind it may allow more than before.
#[test]
fn pages_behind_one_that_is_refused_do_not_come_to_allow_more() {
    let mut s = Scene::new(4);
    let (user, _) = s.running(1, 10);
    let frame = s.w.make(0, ObjType::Frame, 12 | 2 << 8);
    let space = s.process.vspace.arg();
    let pages = [PAGE, PAGE + 4096];
    s.w.must(0, Op::Map, &[space, frame.arg(), pages[0], 2, 0, 1]);
    s.w.must(0, Op::Map, &[space, frame.arg(), pages[1], 0, 1, 1]);
    s.w.must(0, Op::Map, &[INIT.vspace.arg(), frame.arg(), PAGE, 0, 0, 1]);
    (2..4).for_each(|cpu| s.w.summon(cpu));
    assert!(s.w.runs(1, &user) && s.w.touch(3, PAGE));
    assert!(pages.iter().all(|at| s.w.touch(1, *at)));
    s.w.summon(0);
    s.w.issue(0, Regs::op(Op::Protect, &[space, frame.arg(), PAGE, 1]));
    s.w.issue(2, Regs::op(Op::Unmap, &[INIT.vspace.arg(), frame.arg(), PAGE, 0, 0, 1]));
    for cpu in [1, 3, 0, 2] {
        while s.w.step(cpu) {}
    }
    s.w.issue(2, Regs::op(Op::Map, &[INIT.vspace.arg(), frame.arg(), PAGE, 2, 0, 1]));
    while s.w.step(2) {}
    assert_eq!(s.w.result(&s.w.agent(2)).result().map(|_| ()), Ok(()), "nobody may write it yet");
    s.w.run();
    let protected = s.w.result(&s.w.agent(0)).result().map(|_| ());
    assert_eq!(protected, Err((abi::Error::WriteExecute, PAGE)));
    for at in pages {
        assert!(s.w.touch(1, at));
        assert_eq!(s.w.remembered(1, at).map(|page| page.write), Some(false), "{at:#x}");
    }
}
