//! Address spaces, case by case: who may still remember what.

use abi::{ObjType, Op};
use core::sync::atomic::Ordering::Relaxed;

use crate::scene::Scene;
use crate::world::Tcb;

const PAGE: u64 = 0x6000_0000;

fn utcb(task: &Tcb) -> u64 {
    task.object.get().utcb_address.load(Relaxed)
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
    s.w.must(0, Op::TaskConfigure, &[next.arg(), s.process.process.arg(), place, 0]);
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
    assert_eq!(refused, Err((abi::Error::Mapped, 0)), "a small page is there");
    s.w.must(0, Op::Unmap, &[space, small.arg(), PAGE, 0]);
    s.w.must(0, Op::Map, &[space, large.arg(), PAGE, 0]);
    let refused = s.w.ask(0, Op::Map, &[space, small.arg(), PAGE, 0]);
    assert_eq!(refused, Err((abi::Error::Mapped, 0)), "a large page is there");
    s.w.must(0, Op::Unmap, &[space, large.arg(), PAGE, 0]);
    s.w.must(0, Op::Map, &[space, small.arg(), PAGE, 0]);
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
