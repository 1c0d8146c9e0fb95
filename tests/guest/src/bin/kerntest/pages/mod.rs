//! Pages in messages: contents arrive, no task writes pages that it has given away, and failures
//! have errors.

mod attacks;
pub mod pair;
mod parcels;

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, PAGE_SIZE, PageMode, PageRange};
use user_rt::cap::{Access, Frame, Handle, Untyped};
use user_rt::invoke::Pins;
use user_rt::layout::SHARED_VA;
use user_rt::pages::Pooled;
use user_rt::spawn::own;

use crate::lab::Lab;
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};
use attacks::{
    pages_that_somebody_keeps_taking_back, pages_that_somebody_keeps_writing,
    ranges_that_somebody_keeps_changing,
};
use pair::*;
use parcels::{parcels_are_copied_or_moved, parcels_without_room_stay, what_is_no_parcel_is_refused};

tests! {
    moved_pages_arrive_and_come_back shared_pages_are_written_by_nobody a_writer_gets_a_copy large_pages_arrive
    refused_pages_stay pages_that_somebody_keeps_writing pages_that_somebody_keeps_taking_back
    ranges_that_somebody_keeps_changing
    a_view_outlives_its_source_and_not_its_memory parcels_are_copied_or_moved parcels_without_room_stay
    what_is_no_parcel_is_refused
}

// --- contents ------------------------------------------------------------------------------------

fn moved_pages_arrive_and_come_back(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        let pair = pair(lab, cpu)?;
        pair.filled(lab, 20, 5)?;
        let range = |address, count| PageRange::new(PageMode::Move, address, count);
        pair.gives_all(&[range(FROM, 3), range(FROM + 3 * PAGE_SIZE, 17)])?;
        expect!(
            came(TAKER).eq([range(WINDOW, 3), range(WINDOW + 3 * PAGE_SIZE, 17)]),
            "on CPU {cpu}: what the taker was told"
        );
        pair.holds(TAKER, WINDOW, 20, 5, "moved")?;
        pair.lacks(GIVER, FROM, 20, "what has moved")?;
        expect_eq!(pair.tell(TAKER, Command::Fill, [WINDOW, 20, 99, 0])?[0], 0, "writing what came");
        // As an answer they arrive in the caller's window.
        pair.lists_of(TAKER, &[range(WINDOW, 20)]);
        let regs = [u64::from(TAKER.index), Command::Give as u64, 1, 0];
        let answer = pair.tell(GIVER, Command::Send, regs)?;
        expect_eq!((answer[0], answer[2]), (0, 1), "on CPU {cpu}: the answer has pages");
        expect!(came(GIVER).eq([range(BACK, 20)]), "on CPU {cpu}: what the giver was told");
        pair.holds(GIVER, BACK, 20, 99, "moved back")?;
        pair.lacks(TAKER, WINDOW, 20, "what has moved back")?;
        // There and back in one call.
        pair.giver_space.transfer(range(BACK, 20), &pair.giver_space, FROM)?;
        pair.returns(TAKER, true);
        pair.gives_all(&[range(FROM + PAGE_SIZE, 9)])?;
        pair.holds(GIVER, BACK, 9, 100, "there and back")?;
        pair.lacks(GIVER, FROM + PAGE_SIZE, 9, "there and back, the old place")?;
        lab.reset()?;
    }
    Ok(())
}

fn refused(result: user_rt::Result<()>) -> Option<(Error, u64)> {
    result.err().map(|refusal| (refusal.error, refusal.detail))
}

fn shared_pages_are_written_by_nobody(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        let pair = pair(lab, cpu)?;
        pair.filled(lab, 4, 7)?;
        pair.gives_all(&[PageRange::new(PageMode::Share, FROM, 4)])?;
        for (agent, at) in [(GIVER, FROM), (TAKER, WINDOW)] {
            for page in 0..4 {
                pair.only_reads(agent, at + page * PAGE_SIZE + 24, "shared")?;
            }
            pair.holds(agent, at, 4, 7, "shared, after writes that failed")?;
        }
        for (space, at) in [(&pair.giver_space, FROM), (&pair.taker_space, WINDOW)] {
            let to_write = space.protect_pooled(Pooled::new(at, 4), Access::Write);
            expect_eq!(refused(to_write), Some((Error::InUse, at)), "to be written while both see it");
        }
        pair.taker_space.drop_pages(Pooled::new(WINDOW, 4))?;
        pair.lacks(TAKER, WINDOW, 4, "dropped")?;
        pair.only_reads(GIVER, FROM, "before Protect")?;
        pair.giver_space.protect_pooled(Pooled::new(FROM, 4), Access::Write)?;
        expect_eq!(pair.tell(GIVER, Command::Fill, [FROM, 4, 8, 0])?[0], 0, "writing again");
        pair.holds(GIVER, FROM, 4, 8, "written again")?;
        lab.reset()?;
    }
    Ok(())
}

fn a_writer_gets_a_copy(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        for taker_writes in [false, true] {
            let pair = pair(lab, cpu)?;
            pair.filled(lab, 2, 11)?;
            pair.gives_all(&[PageRange::new(PageMode::Copy, FROM, 2)])?;
            pair.only_reads(GIVER, FROM, "to be copied")?;
            pair.only_reads(TAKER, WINDOW, "to be copied")?;
            let copies: Frame = lab.nursery.make(12 | 2 << 8)?;
            let (giver, taker) = ((GIVER, FROM, &pair.giver_space), (TAKER, WINDOW, &pair.taker_space));
            let (writer, other) = if taker_writes { (taker, giver) } else { (giver, taker) };
            expect!(writer.2.copy_page(&copies, writer.1, 1)?, "CPU {cpu}: a copy was needed");
            pair.holds(writer.0, writer.1, 2, 11, "the copy")?;
            expect_eq!(pair.tell(writer.0, Command::Fill, [writer.1, 1, 50, 0])?[0], 0, "writing the copy");
            pair.only_reads(writer.0, writer.1 + PAGE_SIZE, "the page that was not copied")?;
            pair.holds(other.0, other.1, 2, 11, "what the other sees")?;
            pair.holds(writer.0, writer.1, 1, 50, "the copy, written")?;
            expect!(!other.2.copy_page(&copies, other.1, 0)?, "CPU {cpu}: alone by now, no copy");
            expect_eq!(pair.tell(other.0, Command::Fill, [other.1, 1, 60, 0])?[0], 0, "writing the original");
            pair.holds(writer.0, writer.1, 1, 50, "the copy, when the original is written")?;
            lab.reset()?;
        }
    }
    Ok(())
}

fn large_pages_arrive(lab: &mut Lab<'_>) -> Outcome {
    const PROBES: u64 = 16;
    let large = |mode, address| PageRange { large: true, ..PageRange::new(mode, address, 1) };
    for cpu in taker_cpus(lab) {
        let pair = pair(lab, cpu)?;
        let frame: Frame = lab.nursery.make(21)?;
        pair.giver_space.map_pool(&frame, FROM)?;
        pair.tell(TAKER, Command::Open, [WINDOW + PAGE_SIZE, 2 * LARGE, 0, 0])?;
        let probe = |n: u64| n * (LARGE / PROBES) + 8 * n;
        for n in 0..PROBES {
            let poked = pair.tell(GIVER, Command::Poke, [FROM + probe(n), pattern(3, n), 0, 0])?;
            expect_eq!(poked[0], 1, "writing a large page");
        }
        for mode in [PageMode::Share, PageMode::Move] {
            pair.gives_all(&[large(mode, FROM)])?;
            // The next boundary of large pages.
            expect!(came(TAKER).eq([large(mode, WINDOW + LARGE)]), "on CPU {cpu}: where it came");
            for n in 0..PROBES {
                let [read, value, ..] =
                    pair.tell(TAKER, Command::Peek, [WINDOW + LARGE + probe(n), 0, 0, 0])?;
                expect_eq!((read, value), (1, pattern(3, n)), "probe {n}, {mode:?}, on CPU {cpu}");
            }
            if mode == PageMode::Share {
                pair.only_reads(GIVER, FROM + probe(9), "a large page, shared")?;
                let view = Pooled { large: true, ..Pooled::new(WINDOW + LARGE, 1) };
                pair.taker_space.drop_pages(view)?;
            }
        }
        pair.lacks(GIVER, FROM, 512, "a large page that has moved")?;
        lab.reset()?;
    }
    Ok(())
}

// --- what is refused -----------------------------------------------------------------------------

fn refused_pages_stay(lab: &mut Lab<'_>) -> Outcome {
    const PAGES: u64 = 4;
    let code = |error: Error| error as u64;
    let moved = |address, count| PageRange::new(PageMode::Move, address, count).words();
    let kernel = 0xffff_8000_0000_0000;
    for cpu in taker_cpus(lab) {
        let pair = pair(lab, cpu)?;
        pair.filled(lab, PAGES, 21)?;
        let block_page = SHARED_VA;
        let own_utcb = pair.giver_utcb;
        let share_second = PageRange::new(PageMode::Share, FROM + PAGE_SIZE, 1).words();
        let wrong: &[(&str, u64, &[[u64; 2]], Error)] = &[
            ("a hole", 1, &[moved(FROM - PAGE_SIZE, 1)], Error::NoPage),
            ("one too many", 1, &[moved(FROM, PAGES + 1)], Error::NoPage),
            ("good ones, then a hole", 2, &[moved(FROM, 2), moved(BACK, 1)], Error::NoPage),
            ("a plain page", 1, &[moved(block_page, 1)], Error::NoPage),
            ("the own text", 1, &[moved(agent as *const () as u64 & !(PAGE_SIZE - 1), 1)], Error::NoPage),
            ("the own UTCB", 1, &[moved(own_utcb, 1)], Error::NoPage),
            ("overlapping ranges", 2, &[moved(FROM, 3), share_second], Error::NoPage),
            ("the same twice", 2, &[share_second, share_second], Error::NoPage),
            ("nine ranges", 9, &[moved(FROM, 1); 8], Error::TooLong),
            ("very many ranges", u64::MAX, &[moved(FROM, 1); 8], Error::TooLong),
            ("more than 64 pages", 2, &[[FROM, 64], [FROM, 1]], Error::TooLong),
            ("65 pages of one range", 1, &[[FROM, 65]], Error::TooLong),
            ("no pages of a range", 1, &[[FROM, 0]], Error::NoPage),
            ("a count that overflows", 1, &[[FROM, u64::MAX]], Error::NoPage),
            ("no mode", 1, &[[FROM | 3, 1]], Error::NoPage),
            ("bits of no meaning", 1, &[[FROM | 0x800, 1]], Error::NoPage),
            ("a large page off its boundary", 1, &[[(FROM + PAGE_SIZE) | 4, 1]], Error::NoPage),
            ("small pages as a large one", 1, &[[FROM | 4, 1]], Error::NoPage),
            ("the kernel", 1, &[moved(kernel, 1)], Error::BadAddress),
            ("an address that is not canonical", 1, &[moved(1 << 60, 1)], Error::BadAddress),
            ("up to the kernel", 1, &[moved(abi::USER_TOP & !(PAGE_SIZE - 1), 64)], Error::BadAddress),
        ];
        for (what, count, ranges, error) in wrong {
            let given = pair.gives(*count, ranges)?;
            expect_eq!(given.map_err(|(code, _)| code), Err(code(*error)), "CPU {cpu}: {what}");
            stayed(&pair, PAGES, what)?;
        }
        let windows: &[(&str, u64, u64)] = &[
            ("no window", 0, 0),
            ("a small window", WINDOW, (PAGES - 1) * PAGE_SIZE),
            ("a window off the boundary of a page", WINDOW + 1, PAGES * PAGE_SIZE),
            ("a window in the kernel", kernel, WINDOW_BYTES),
            ("a window that wraps", u64::MAX - PAGE_SIZE, WINDOW_BYTES),
            ("a window over the text", agent as *const () as u64 & !(PAGE_SIZE - 1), WINDOW_BYTES),
            ("a window over shared memory", SHARED_VA, WINDOW_BYTES),
            ("a window at the end of user space", abi::USER_TOP & !(PAGE_SIZE - 1), WINDOW_BYTES),
        ];
        for (what, address, bytes) in windows {
            pair.tell(TAKER, Command::Open, [*address, *bytes, 0, 0])?;
            let given = pair.gives(1, &[moved(FROM, PAGES)])?;
            expect_eq!(given.map_err(|(code, _)| code), Err(code(Error::NoRoom)), "CPU {cpu}: {what}");
            stayed(&pair, PAGES, what)?;
        }
        pair.tell(TAKER, Command::Open, [WINDOW, WINDOW_BYTES, 0, 0])?;
        let taken: Frame = lab.nursery.make(12)?;
        pair.taker_space.map(&taken, WINDOW + 2 * PAGE_SIZE, Access::Read)?;
        let given = pair.gives(1, &[moved(FROM, PAGES)])?;
        expect_eq!(given.map_err(|(code, _)| code), Err(code(Error::NoRoom)), "CPU {cpu}: a page is there");
        stayed(&pair, PAGES, "a page in the window")?;
        lab.reset()?;
    }
    Ok(())
}

/// Checks that the giver has its pages and may write them, and that the taker received nothing.
fn stayed(pair: &Pair, pages: u64, what: &str) -> Outcome {
    pair.holds(GIVER, FROM, pages, 21, what)?;
    for page in 0..pages {
        let at = FROM + page * PAGE_SIZE;
        let written = pair.tell(GIVER, Command::Poke, [at, pattern(21 + page, 0), 0, 0])?[0];
        let left = refused(pair.giver_space.protect_pooled(Pooled::new(at, 1), Access::Write));
        expect_eq!((written, left), (1, None), "{what}: page {page} can be written");
    }
    expect_eq!(note(TAKER, DELIVERIES).load(Relaxed), 0, "{what}: deliveries");
    Ok(())
}

// --- how long pages live -------------------------------------------------------------------------

fn a_view_outlives_its_source_and_not_its_memory(lab: &mut Lab<'_>) -> Outcome {
    const PAGES: u64 = 4;
    for cpu in taker_cpus(lab) {
        for mode in PageMode::ALL {
            let pair = pair(lab, cpu)?;
            let memory: Untyped = lab.nursery.make(17)?;
            let place = lab.nursery.take_slot()?;
            memory.retype::<Frame>(12 | PAGES << 8, own::cnode().slot(place), 1)?;
            let frame = Frame::at(place);
            pair.giver_space.map_pool(&frame, FROM)?;
            expect_eq!(pair.tell(GIVER, Command::Fill, [FROM, PAGES, 77, 0])?[0], 0, "filling");
            pair.gives_all(&[PageRange::new(mode, FROM, PAGES)])?;
            let child = lab.child(pair.giver)?;
            for cap in [child.process.cap(), child.vspace.cap(), child.cnode.cap()] {
                own::cnode().revoke(cap)?;
                own::cnode().delete(cap)?;
            }
            own::cnode().delete(frame.cap())?;
            pair.holds(TAKER, WINDOW, PAGES, 77, "its source and its frame are gone")?;
            own::cnode().revoke(memory.cap())?;
            pair.lacks(TAKER, WINDOW, PAGES, "its memory was revoked")?;
            memory.reset(Pins::Hold)?;
            memory.retype::<Frame>(12 | PAGES << 8, own::cnode().slot(place), 1)?;
            pair.taker_space.map(&frame, WINDOW, Access::Read)?;
            for page in 0..PAGES {
                let peeked = pair.tell(TAKER, Command::Peek, [WINDOW + page * PAGE_SIZE, 0, 0, 0])?;
                expect_eq!(peeked[..2], [1, 0], "{mode:?}: the memory comes back clean");
            }
            lab.reset()?;
        }
    }
    Ok(())
}
