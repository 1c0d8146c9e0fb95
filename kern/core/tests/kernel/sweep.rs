//! Revokes and resets of memory whose pages are in pools: what they find, whoever else is at it or was.

use abi::{MAP_POOL, ObjType, Op, Target};
use kern_base::memory::Frame;

use crate::world::make::at;
use crate::world::{Regs, World};

const PLACE: u64 = 0x4000_0000;

/// A revoke looks at a page for the pools that have it, and the page becomes a frame's, which is mapped twice: wherever the
/// revoke stands meanwhile, the page's counts are that frame's.
#[test]
fn a_page_that_becomes_a_frames_while_a_revoke_looks_at_it_is_counted() {
    let mut cases = 0;
    for stop in 0.. {
        let mut w = World::new(2);
        let memory = w.make(0, ObjType::Untyped, 14);
        let spaces = [0, 1].map(|_| w.make(0, ObjType::VSpace, 8));
        // The first page has been in a pool, so the revoke looks at all of them. The second one is the next frame's.
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
        let info = cx.k.frames.get(cx.pin(), frame.get().base).expect("what is known of it");
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
