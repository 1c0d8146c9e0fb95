//! Memory as programs see it: access and contents of mappings, and that changes apply immediately
//! and on every CPU.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, PAGE_SIZE, USER_TOP};
use guest_tests::board::Part as _;
use user_rt::arch::memory;
use user_rt::cap::{Access, Frame, Handle, VSpace};
use user_rt::invoke::Pages;
use user_rt::layout::SHARED_VA;
use user_rt::spawn::own;

use crate::block::Block;
use crate::fate::{self, Fate};
use crate::lab::{Lab, PUPPETS_MAX, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    forbidden_addresses write_needs_write execute_needs_execute the_own_image_is_w_xor_x
    a_frame_in_two_processes a_frame_in_many_places a_run_of_pages what_was_used tables_run_out large_frames
    unmapping_reaches_every_cpu protecting_reaches_every_cpu deleting_a_frame_unmaps_it the_utcb_is_data
    what_is_protected
}

/// Holes in every process of this program.
const HOLE: u64 = SHARED_VA + 0x1000_0000;
const LARGE: u64 = 2 << 20;
/// A range in which no page was ever mapped, so that no page table exists where a large frame goes.
const LARGE_HOLE: u64 = SHARED_VA + 0x3000_0000;

/// Makes a process that ends at its first fault.
fn victim(lab: &mut Lab<'_>) -> Result<Wanted, Failure> {
    Ok(Wanted { place: lab.process(false)?, ..Wanted::default() })
}

fn vspace(lab: &Lab<'_>, wanted: &Wanted) -> Result<VSpace, Failure> {
    Ok(lab.child(wanted.place)?.vspace.again())
}

fn forbidden_addresses(lab: &mut Lab<'_>) -> Outcome {
    let kernel = 0xffff_8000_0000_0000;
    let image = 0xffff_ffff_8010_0000;
    for address in [0, 8, 0xfff, HOLE, USER_TOP, USER_TOP - 1, 1 << 47, kernel, image, u64::MAX] {
        for entry in [fate::read, fate::write, fate::jump] {
            let wanted = victim(lab)?;
            let what = entry as *const () as u64;
            expect_eq!(lab.fate(&wanted, entry, address)?, Fate::Dead, "{what:#x} at {address:#x}");
            lab.reset()?;
        }
    }
    // Nothing is mapped below a stack.
    let wanted = victim(lab)?;
    expect_eq!(lab.fate(&wanted, fate::overflow, 0)?, Fate::Dead, "a stack that grows for ever");
    Ok(())
}

/// Checks the marks that the CPU sets for reads and writes; each is reported once.
fn what_was_used(lab: &mut Lab<'_>) -> Outcome {
    let frame: Frame = lab.nursery.make(12 | 4 << 8)?;
    let space = own::vspace();
    let words = memory::map_runs(&space, core::iter::once(frame.again()), 4, HOLE)?;
    expect_eq!(space.accessed(&frame, HOLE, Pages::ALL)?, (0, 0), "before any use");
    words[512].load(Relaxed);
    words[3 * 512].store(1, Relaxed);
    expect_eq!(space.accessed(&frame, HOLE, Pages::ALL)?, (0b1010, 0b1000), "one read, one written");
    expect_eq!(space.accessed(&frame, HOLE, Pages::ALL)?, (0, 0b1000), "told already");
    words[0].load(Relaxed);
    let last = Pages { first: 0, count: 1 };
    expect_eq!(space.accessed(&frame, HOLE, last)?, (1, 0), "one page of them");
    // When no CPU has the translation, the next use is marked.
    space.unmap(&frame, HOLE)?;
    let refused = space.accessed(&frame, HOLE, Pages::ALL).map_err(|refusal| (refusal.error, refusal.detail));
    expect_eq!(refused, Err((Error::BadAddress, HOLE)), "unmapped pages");
    Ok(())
}

/// Determines the fate of `entry` at an address with such a mapping.
fn mapped(lab: &mut Lab<'_>, access: Access, entry: user_rt::spawn::Entry) -> Result<Fate, Failure> {
    let wanted = victim(lab)?;
    let frame: Frame = lab.nursery.make(12)?;
    // A return instruction, for entries that jump there.
    memory::with_frame(&own::vspace(), &frame, |bytes| bytes.fill(0xc3))?;
    vspace(lab, &wanted)?.map(&frame, HOLE, access)?;
    let fate = lab.fate(&wanted, entry, HOLE + 100)?;
    lab.reset()?;
    Ok(fate)
}

fn write_needs_write(lab: &mut Lab<'_>) -> Outcome {
    expect_eq!(mapped(lab, Access::Read, fate::read)?, Fate::Alive, "reading a page to read");
    expect_eq!(mapped(lab, Access::Read, fate::write)?, Fate::Dead, "writing a page to read");
    expect_eq!(mapped(lab, Access::Execute, fate::write)?, Fate::Dead, "writing a page to execute");
    expect_eq!(mapped(lab, Access::Write, fate::write)?, Fate::Alive, "writing a page to write");
    Ok(())
}

fn execute_needs_execute(lab: &mut Lab<'_>) -> Outcome {
    expect_eq!(mapped(lab, Access::Execute, fate::jump)?, Fate::Alive, "executing a page to execute");
    expect_eq!(mapped(lab, Access::Execute, fate::read)?, Fate::Alive, "reading a page to execute");
    expect_eq!(mapped(lab, Access::Read, fate::jump)?, Fate::Dead, "executing a page to read");
    expect_eq!(mapped(lab, Access::Write, fate::jump)?, Fate::Dead, "executing a page to write");
    Ok(())
}

fn the_own_image_is_w_xor_x(lab: &mut Lab<'_>) -> Outcome {
    static CONSTANT: [u8; 16] = [0xc3; 16];
    let text = fate::read as *const () as u64;
    let rodata = CONSTANT.as_ptr() as u64;
    let boot_page = abi::BOOT_PAGE_VA;
    for address in [text, rodata, boot_page] {
        let wanted = victim(lab)?;
        expect_eq!(lab.fate(&wanted, fate::write, address)?, Fate::Dead, "writing {address:#x}");
        lab.reset()?;
    }
    let wanted = victim(lab)?;
    expect_eq!(lab.fate(&wanted, fate::jump, rodata)?, Fate::Dead, "executing a constant");
    Ok(())
}

fn a_frame_in_two_processes(lab: &mut Lab<'_>) -> Outcome {
    let (reader, writer) = (victim(lab)?, victim(lab)?);
    let frames = lab.nursery.make_pages(1)?;
    let frame = Frame::at(frames.nth(0));
    vspace(lab, &reader)?.map(&frame, HOLE, Access::Read)?;
    vspace(lab, &writer)?.map(&frame, HOLE, Access::Write)?;
    let words = memory::map_words(&own::vspace(), frames.iter::<Frame>(), HOLE + 0x10_0000)?;
    expect_eq!(lab.fate(&writer, fate::write, HOLE + 9)?, Fate::Alive, "writing in one");
    expect_eq!(words[1].load(Relaxed), 0xc300, "what another sees");
    expect_eq!(lab.fate(&reader, fate::write, HOLE + 9)?, Fate::Dead, "writing where it is read-only");
    own::vspace().unmap(&frame, HOLE + 0x10_0000)?;
    Ok(())
}

fn a_frame_in_many_places(lab: &mut Lab<'_>) -> Outcome {
    const PLACES: u64 = 600;
    let frame: Frame = lab.nursery.make(12)?;
    let at = |n: u64| HOLE + n * PAGE_SIZE;
    for n in 0..PLACES {
        own::vspace().map(&frame, at(n), Access::Read)?;
    }
    let refused = own::vspace().map(&frame, at(PLACES), Access::Execute);
    expect_eq!(refused, Ok(()), "executing what nobody writes");
    let refused = own::vspace().map(&frame, at(PLACES + 1), Access::Write).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::WriteExecute, at(PLACES + 1))), "writing what somebody executes");
    // In an order in which each place has been first, last and in between.
    for n in (0..=PLACES).map(|n| n * 7 % (PLACES + 1)) {
        own::vspace().unmap(&frame, at(n))?;
    }
    own::vspace().map(&frame, at(0), Access::Write)?;
    own::vspace().unmap(&frame, at(0))?;
    Ok(())
}

fn a_run_of_pages(lab: &mut Lab<'_>) -> Outcome {
    const COUNT: u64 = 512;
    let frame: Frame = lab.nursery.make(12 | COUNT << 8)?;
    let words_of = |at: u64, pages: u64| {
        // SAFETY: mapped, writable, and unmapped only after the last use.
        unsafe { memory::mapped_words(at, (pages * PAGE_SIZE / 8) as usize) }
    };
    own::vspace().map(&frame, HOLE, Access::Write)?;
    let words = words_of(HOLE, COUNT);
    expect!(words.iter().all(|word| word.load(Relaxed) == 0), "it is not clear");
    for (n, page) in words.chunks_exact((PAGE_SIZE / 8) as usize).enumerate() {
        page[n].store(n as u64 + 1, Relaxed);
    }
    // A part of it elsewhere, not at the boundary of a page table.
    let elsewhere = HOLE + LARGE - 5 * PAGE_SIZE;
    let part = Pages { first: 100, count: 50 };
    let refused =
        own::vspace().map_pages(&frame, elsewhere, Access::Read, part).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::Mapped, elsewhere)), "over the end of the first");
    own::vspace().unmap_pages(&frame, elsewhere, Pages { first: COUNT - 5, count: 5 })?;
    own::vspace().map_pages(&frame, elsewhere, Access::Read, part)?;
    for (n, page) in (100..).zip(words_of(elsewhere, 50).chunks_exact((PAGE_SIZE / 8) as usize)) {
        expect_eq!(page[n].load(Relaxed), n as u64 + 1, "page {n}");
    }
    let wrong = own::vspace().unmap_pages(&frame, elsewhere, Pages { first: 99, count: 1 });
    expect_eq!(
        wrong.map_err(|r| (r.error, r.detail)),
        Err((Error::BadAddress, elsewhere)),
        "page 99 is not there"
    );
    own::cnode().delete(frame.cap())?;
    let other: Frame = lab.nursery.make(12 | COUNT << 8)?;
    own::vspace().map(&other, HOLE, Access::Write)?;
    own::vspace().unmap(&other, HOLE)?;
    Ok(())
}

fn what_is_protected(lab: &mut Lab<'_>) -> Outcome {
    for (from, to, entry, wanted) in [
        (Access::Write, Access::Read, fate::write as user_rt::spawn::Entry, Fate::Dead),
        (Access::Read, Access::Write, fate::write, Fate::Alive),
        (Access::Execute, Access::Read, fate::jump, Fate::Dead),
        (Access::Write, Access::Execute, fate::jump, Fate::Alive),
        (Access::Write, Access::Execute, fate::write, Fate::Dead),
    ] {
        let victim = victim(lab)?;
        let frame: Frame = lab.nursery.make(12)?;
        memory::with_frame(&own::vspace(), &frame, |bytes| bytes.fill(0xc3))?;
        vspace(lab, &victim)?.map(&frame, HOLE, from)?;
        vspace(lab, &victim)?.protect(&frame, HOLE, to)?;
        expect_eq!(lab.fate(&victim, entry, HOLE + 100)?, wanted, "{from:?}, then {to:?}");
        lab.reset()?;
    }
    let frame: Frame = lab.nursery.make(12)?;
    own::vspace().map(&frame, HOLE, Access::Execute)?;
    own::vspace().map(&frame, HOLE + PAGE_SIZE, Access::Read)?;
    let refused =
        own::vspace().protect(&frame, HOLE + PAGE_SIZE, Access::Write).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::WriteExecute, HOLE + PAGE_SIZE)), "what is executed elsewhere");
    let refused =
        own::vspace().protect(&frame, HOLE + 2 * PAGE_SIZE, Access::Read).map_err(|r| (r.error, r.detail));
    expect_eq!(refused, Err((Error::BadAddress, HOLE + 2 * PAGE_SIZE)), "where nothing is mapped");
    own::vspace().unmap(&frame, HOLE)?;
    own::vspace().unmap(&frame, HOLE + PAGE_SIZE)?;
    Ok(())
}

fn tables_run_out(lab: &mut Lab<'_>) -> Outcome {
    let frame: Frame = lab.nursery.make(12)?;
    for tables in 1..8 {
        let vspace: VSpace = lab.nursery.make(tables)?;
        let mut mapped = 0;
        // Each in a region of its own: every mapping needs three tables below the root, or none.
        let refusal = loop {
            match vspace.map(&frame, 0x1000 + mapped * (1 << 39), Access::Read) {
                Ok(()) => mapped += 1,
                Err(refusal) => break refusal.error,
            }
        };
        expect_eq!((mapped, refusal), (tables / 3, Error::NoTables), "with {tables} tables");
        own::cnode().delete(vspace.cap())?;
    }
    Ok(())
}

fn large_frames(lab: &mut Lab<'_>) -> Outcome {
    let frames = lab.nursery.make_many::<Frame>(21, 1)?;
    let frame = Frame::at(frames.nth(0));
    let refused = own::vspace().map(&frame, LARGE_HOLE + PAGE_SIZE, Access::Write).map_err(|r| r.error);
    expect_eq!(refused, Err(Error::BadAddress), "a large frame off its alignment");
    own::vspace().map(&frame, LARGE_HOLE, Access::Write)?;
    let small: Frame = lab.nursery.make(12)?;
    let inside = own::vspace().map(&small, LARGE_HOLE + 5 * PAGE_SIZE, Access::Write).map_err(|r| r.error);
    expect_eq!(inside, Err(Error::Mapped), "a page inside a large one");
    // SAFETY: just mapped, writable, and unmapped only below, after the last use.
    let words = unsafe { memory::mapped_words(LARGE_HOLE, (LARGE / 8) as usize) };
    expect!(words.iter().all(|word| word.load(Relaxed) == 0), "it is not clear");
    for (index, word) in words.iter().enumerate().step_by(511) {
        word.store(index as u64, Relaxed);
    }
    let good = words.iter().enumerate().step_by(511).all(|(index, word)| word.load(Relaxed) == index as u64);
    expect!(good, "it does not hold what was written");
    own::vspace().unmap(&frame, LARGE_HOLE)?;
    own::vspace().map(&small, LARGE_HOLE + 5 * PAGE_SIZE, Access::Write)?;
    own::vspace().unmap(&small, LARGE_HOLE + 5 * PAGE_SIZE)?;
    Ok(())
}

/// Checks that an unmap stops a reader on another CPU, although its TLB has the translation.
fn unmapping_reaches_every_cpu(lab: &mut Lab<'_>) -> Outcome {
    for cpu in 0..lab.cpus.min(4) {
        stop_a_reader(lab, cpu, |lab, wanted, frame| Ok(vspace(lab, wanted)?.unmap(frame, HOLE)?))?;
    }
    Ok(())
}

/// Checks that a protect stops a writer on another CPU, and not a reader.
fn protecting_reaches_every_cpu(lab: &mut Lab<'_>) -> Outcome {
    for cpu in 0..lab.cpus.min(4) {
        stop(lab, cpu, Access::Write, fate::keep_writing, |lab, wanted, frame| {
            Ok(vspace(lab, wanted)?.protect(frame, HOLE, Access::Read)?)
        })?;
    }
    Ok(())
}

fn deleting_a_frame_unmaps_it(lab: &mut Lab<'_>) -> Outcome {
    for cpu in 0..lab.cpus.min(4) {
        stop_a_reader(lab, cpu, |_, _, frame| Ok(own::cnode().delete(frame.cap())?))?;
    }
    Ok(())
}

fn stop_a_reader(lab: &mut Lab<'_>, cpu: u32, end: impl Fn(&Lab<'_>, &Wanted, &Frame) -> Outcome) -> Outcome {
    stop(lab, cpu, Access::Read, fate::keep_reading, end)
}

/// Checks that `end` stops a task that uses a page all the time on another CPU.
fn stop(
    lab: &mut Lab<'_>,
    cpu: u32,
    access: Access,
    user: user_rt::spawn::Entry,
    end: impl Fn(&Lab<'_>, &Wanted, &Frame) -> Outcome,
) -> Outcome {
    let wanted = Wanted { place: lab.process(false)?, cpu, ..Wanted::default() };
    let frame: Frame = lab.nursery.make(12)?;
    vspace(lab, &wanted)?.map(&frame, HOLE, access)?;
    let number = PUPPETS_MAX - 1;
    let block = Block::at(number);
    block.clear();
    block.note(0).store(HOLE, Relaxed);
    let task = lab.task(&wanted, user, u64::from(number))?.task;
    task.resume()?;
    let reads = || block.note(1).load(Relaxed);
    while reads() < 100 {
        lab.sleep(100_000);
    }
    end(lab, &wanted, &frame)?;
    let after = reads();
    lab.sleep(1_000_000);
    // The use that was under way may still have been counted.
    expect!(reads() <= after + 1, "on CPU {cpu}: {} uses after it was taken away", reads() - after);
    lab.reset()?;
    Ok(())
}

fn the_utcb_is_data(lab: &mut Lab<'_>) -> Outcome {
    let wanted = victim(lab)?;
    expect_eq!(lab.fate(&wanted, fate::jump_to_utcb, 0)?, Fate::Dead, "executing the own UTCB");
    Ok(())
}
