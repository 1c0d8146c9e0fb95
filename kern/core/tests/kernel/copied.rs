//! Copies of large pages, which take several entries: nobody sees half of one.

use abi::{Cap, Op, PAGE_SIZE, PageMode, PageRange};
use kern_base::limits::CLEAR_PARTS;
use smp::host_test;
use smp::sync::Ordering::Relaxed;

use crate::ahead::{LARGE, LARGE_VA, beside, check_zeros, half_done, kill, large_frame, map_large};
use crate::world::{Regs, Tcb, World};

const SPACE: u64 = (abi::INIT_VSPACE.0 as u64) << 32;
/// Where a second space of the pool sees the shared page, in the same address space.
const SECOND: u64 = LARGE_VA + LARGE;
/// Contents of the shared page, and other contents.
const OLD: u8 = 0x11;
const NEW: u8 = 0x22;

/// A shared large page, and a frame for its copy.
struct Shared {
    w: World,
    /// Where the shared page's memory is.
    base: u64,
    frame: Cap,
    copy: u64,
}

fn call(op: Op, args: &[u64]) -> Regs {
    Regs::op(op, args)
}

/// Sends the page at `from` to `to`, in the same space.
fn share(from: u64, to: u64) -> Regs {
    let [first, counts] = PageRange { address: from, count: 1, large: true, mode: PageMode::Copy }.words();
    call(Op::PageTransfer, &[SPACE, SPACE, first, to, counts])
}

fn drop_at(address: u64) -> Regs {
    call(Op::Unmap, &[SPACE, 0, address, 0, 1, 1])
}

fn fill(base: u64, with: u8) {
    host_test::fill(base, with, LARGE as usize);
}

/// Checks that all bytes of a large page are equal.
fn check_all(base: u64, byte: u8) {
    let word = u64::from_le_bytes([byte; 8]);
    let other = host_test::words(base, LARGE as usize / 8).iter().position(|w| w.load(Relaxed) != word);
    assert_eq!(other, None, "a word of the copy that is not {word:#x}");
}

impl Shared {
    fn new() -> Shared {
        let mut w = World::with_memory(2, 32 << 20);
        let (shared, base) = large_frame(&mut w);
        let (frame, copy) = large_frame(&mut w);
        w.must(0, Op::Map, &map_large(shared, LARGE_VA, abi::MAP_POOL | 1));
        fill(base, OLD);
        w.call(0, share(LARGE_VA, SECOND));
        Shared { w, base, frame, copy }
    }

    fn copying(&self) -> Regs {
        call(Op::PageCopy, &[SPACE, self.frame.arg(), SECOND])
    }

    /// A task that has copied some of the page.
    fn half_done(&mut self) -> Tcb {
        let copying = self.copying();
        let worker = half_done(&mut self.w, copying, 4);
        assert!(worker.must_restart());
        let words = host_test::words(self.copy, LARGE as usize / 8).iter();
        let copied = 8 * words.filter(|word| word.load(Relaxed) != 0).count() as u64;
        assert!(
            (1..=4 * CLEAR_PARTS * PAGE_SIZE).contains(&copied),
            "{copied} bytes are copied in 4 entries"
        );
        worker
    }

    /// Lets the task come to its end, which it must.
    fn finish(&mut self, worker: &Tcb) {
        assert!(self.w.run_until(|_| worker.is_through()));
        assert_eq!((worker.regs().error(), worker.regs().rdi), (None, 1), "it is a copy");
    }
}

#[test]
fn a_large_page_is_copied_in_parts() {
    let mut s = Shared::new();
    let worker = s.half_done();
    s.finish(&worker);
    check_all(s.copy, OLD);
    fill(s.copy, NEW);
    check_all(s.base, OLD);
}

/// The copy that was begun is no page that somebody could map.
#[test]
fn who_is_killed_while_it_copies_leaves_a_page_that_is_cleared() {
    let mut s = Shared::new();
    let worker = s.half_done();
    kill(&mut s.w, &worker);
    s.w.must(0, Op::Map, &map_large(s.frame, SECOND + LARGE, 0));
    check_zeros(s.copy, LARGE, "the page of a copy that was given up");
    s.w.must(0, Op::Unmap, &map_large(s.frame, SECOND + LARGE, 0));
    // Another task copies the page after that.
    let copying = s.copying();
    assert_eq!(s.w.call(0, copying).rdi, 1);
    check_all(s.copy, OLD);
}

/// Between two parts the page is written: this space has it alone for a while.
#[test]
fn a_page_that_changes_meanwhile_is_copied_anew() {
    let mut s = Shared::new();
    let worker = s.half_done();
    beside(&mut s.w, drop_at(LARGE_VA));
    beside(&mut s.w, call(Op::Protect, &[SPACE, 0, SECOND, 1, 1, 1]));
    fill(s.base, NEW);
    beside(&mut s.w, share(SECOND, LARGE_VA));
    s.finish(&worker);
    check_all(s.copy, NEW);
}

/// Another page takes the place of the one that is copied.
#[test]
fn another_page_at_the_place_is_copied_anew() {
    let mut s = Shared::new();
    let (other, base) = large_frame(&mut s.w);
    let worker = s.half_done();
    for step in [drop_at(SECOND), drop_at(LARGE_VA)] {
        beside(&mut s.w, step);
    }
    beside(&mut s.w, call(Op::Map, &map_large(other, LARGE_VA, abi::MAP_POOL | 1)));
    fill(base, NEW);
    beside(&mut s.w, share(LARGE_VA, SECOND));
    s.finish(&worker);
    check_all(s.copy, NEW);
}

/// The new page is mapped and written between two parts.
#[test]
fn a_new_page_that_is_used_meanwhile_is_copied_anew() {
    let mut s = Shared::new();
    let worker = s.half_done();
    beside(&mut s.w, call(Op::Map, &map_large(s.frame, SECOND + LARGE, 1)));
    fill(s.copy, NEW);
    beside(&mut s.w, call(Op::Unmap, &map_large(s.frame, SECOND + LARGE, 0)));
    s.finish(&worker);
    check_all(s.copy, OLD);
}

/// Another space copies another page to the same frame, and is given up half-way.
#[test]
fn a_copy_of_another_space_is_not_taken_for_ones_own() {
    let mut s = Shared::new();
    let other = s.w.process();
    let (frame, base) = large_frame(&mut s.w);
    let there = other.vspace.arg();
    s.w.must(0, Op::Map, &[there, frame.arg(), LARGE_VA, abi::MAP_POOL | 1]);
    fill(base, NEW);
    let [first, counts] =
        PageRange { address: LARGE_VA, count: 1, large: true, mode: PageMode::Copy }.words();
    s.w.must(0, Op::PageTransfer, &[there, there, first, SECOND, counts]);
    let worker = s.half_done();
    s.w.hold(Some(1));
    s.w.begin(0, call(Op::PageCopy, &[there, s.frame.arg(), SECOND]));
    for _ in 0..8 {
        let _ = s.w.event(1) || s.w.step(0);
    }
    s.w.hold(None);
    assert!(!s.w.is_over(0), "it is over early");
    // Both go on in turn; one of them gets the frame.
    let done = |w: &World| w.is_over(0) && worker.is_through();
    assert!(s.w.run_until(done));
    let (mine, theirs) = (worker.regs().error(), s.w.agent(0).regs().error());
    assert!(mine.is_none() != theirs.is_none(), "{mine:?}, {theirs:?}");
    check_all(s.copy, if mine.is_none() { OLD } else { NEW });
}

/// Two tasks copy pages of one space in turn.
#[test]
fn two_copies_in_one_space_come_to_their_ends() {
    let mut s = Shared::new();
    let (frame, copy) = large_frame(&mut s.w);
    let worker = s.half_done();
    // At the other place, where the page is shared, too.
    s.w.begin(0, call(Op::PageCopy, &[SPACE, frame.arg(), LARGE_VA]));
    let mut turns = 0;
    while !(s.w.is_over(0) && worker.is_through()) {
        s.w.step(0);
        s.w.step(1);
        turns += 1;
        assert!(turns < 4 * 512, "they undo each other's copies");
    }
    assert_eq!((s.w.agent(0).regs().error(), worker.regs().error()), (None, None));
    // Who is last has the page alone, and needs no copy.
    let copies = [s.w.agent(0).regs().rdi, worker.regs().rdi];
    assert_eq!(copies.iter().sum::<u64>(), 1, "{copies:?}");
    check_all(if copies[0] == 1 { copy } else { s.copy }, OLD);
}
