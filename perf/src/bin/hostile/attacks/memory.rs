//! Pages and translations: shootdowns, grace periods, words that the kernel shares with programs.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::{Cap, Listening, PAGE_SIZE, PageMode, PageRange, Rights, Utcb};
use user_rt::Result;
use user_rt::arch;
use user_rt::cap::{Access, Frame, Group, Handle, Notification, VSpace};
use user_rt::invoke::copy_raw;
use user_rt::ipc::Message;
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::attackers::{Den, alive, alive_if, given_space, victims};
use crate::victims::{GIVER, LENDER};
use crate::words::own_word;

/// Where attackers map into the victims' address space: each task has a page.
const THERE: u64 = 0xb000_0000;
const FRAMES: usize = 0;

/// Maps and unmaps pages in an address space that runs on the victims' CPU.
pub fn shootdowns(den: &mut Den) -> Result<()> {
    let count = den.cpus().count() as u32;
    let frames = den.nursery.make_pages(count)?;
    own_word(FRAMES).store(frames.nth(0).0.into(), SeqCst);
    den.start_on_all(unmapper)
}

extern "C" fn unmapper(place: u64) -> ! {
    let frame = Frame::at(Cap((own_word(FRAMES).load(SeqCst) + place) as u32));
    let at = THERE + place * PAGE_SIZE;
    loop {
        let mapped = given_space().map(&frame, at, Access::Write);
        let _ = given_space().unmap(&frame, at);
        alive_if(mapped.is_ok());
    }
}

/// Fills a slot and empties it: each time the slot must wait for a grace period.
pub fn grace(den: &mut Den) -> Result<()> {
    let note: Notification = den.nursery.make(0)?;
    own_word(FRAMES).store(note.cap().0.into(), SeqCst);
    let first = den.nursery.take_slots(den.cpus().count() as u32)?;
    own_word(FRAMES + 1).store(first.0.into(), SeqCst);
    den.start_on_all(filler)
}

extern "C" fn filler(place: u64) -> ! {
    let note = Cap(own_word(FRAMES).load(SeqCst) as u32);
    let slot = Cap((own_word(FRAMES + 1).load(SeqCst) + place) as u32);
    loop {
        let copied = copy_raw(note, own::cnode().slot(slot), Rights::NOTIFY, 0);
        let _ = own::cnode().delete(slot);
        alive_if(copied.is_ok());
    }
}

const UTCB: usize = 2;
/// The first of the slots in which the caller listens.
const SLOTS: usize = 3;
const HAMMERED: u32 = 16;

/// Calls the victims' server with words and a slot, while another task writes all over the caller's
/// UTCB, which the kernel reads.
pub fn words(den: &mut Den) -> Result<()> {
    let first = den.nursery.take_slots(HAMMERED)?;
    own_word(SLOTS).store(first.0.into(), SeqCst);
    den.start(den.last_cpu(), hammer, 0)?;
    let first = den.cpus().next().unwrap_or(0);
    den.start(first, hammered_caller, 0)
}

extern "C" fn hammered_caller(_: u64) -> ! {
    let server = Group::at(victims()).exposure(GIVER);
    let first = own_word(SLOTS).load(SeqCst) as u32;
    own_word(UTCB).store(arch::fs_base(), SeqCst);
    loop {
        utcb::current().listen(Listening { next: Cap(first), count: 1 });
        let _ = server.call(&Message::with_words(2, [0; 4], 64));
        for slot in first..first + HAMMERED {
            let _ = own::cnode().delete(Cap(slot));
        }
        alive();
    }
}

extern "C" fn hammer(_: u64) -> ! {
    while own_word(UTCB).load(SeqCst) == 0 {
        arch::pause();
    }
    // SAFETY: the other task's UTCB, mapped for as long as that lives; all of it are atomics.
    let page = unsafe { &*(own_word(UTCB).load(SeqCst) as *const Utcb) };
    let mut noise = 1u64;
    loop {
        let single = [&page.range_count, &page.grant_count, &page.window[0], &page.window[1]];
        let pairs = page.ranges.iter().chain(&page.grants).flatten();
        for word in page.msg.iter().chain(single).chain(pairs) {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.store(noise, Relaxed);
        }
        let slot = Cap(own_word(SLOTS).load(Relaxed) as u32 + (noise >> 60) as u32);
        page.listening.store(Listening { next: slot, count: 1 }.word(), Relaxed);
        arch::pause();
    }
}

/// A range of pages that one operation takes at most.
const RANGE: u64 = abi::MESSAGE_PAGES_MAX;
const FROM: u64 = 0xc000_0000;
const TO: u64 = 0xd000_0000;
/// Distance of the ranges of two tasks.
const STRIDE: u64 = RANGE * PAGE_SIZE;

/// Shares as many pages together as one operation takes, and drops them.
pub fn shares(den: &mut Den) -> Result<()> {
    let cpus = den.cpus();
    for (place, cpu) in (0..).zip(cpus) {
        let frame: Frame = den.nursery.make(12 | RANGE << 8)?;
        own::vspace().map_pool(&frame, FROM + place * STRIDE)?;
        den.start(cpu, sharer, place)?;
    }
    Ok(())
}

extern "C" fn sharer(place: u64) -> ! {
    let (from, to) = (FROM + place * STRIDE, TO + place * STRIDE);
    loop {
        let range = PageRange::new(PageMode::Share, from, RANGE);
        let shared = own::vspace().transfer(range, &own::vspace(), to);
        let _ = own::vspace().drop_pages(Pooled::new(to, RANGE));
        alive_if(shared.is_ok());
    }
}

const LARGE: u64 = 0x9000_0000;
const LARGE_LOG2: u64 = 21;
const SPACES: usize = 4;

/// Copies a shared page of 2 MiB, and maps one that was in a pool.
pub fn copies(den: &mut Den) -> Result<()> {
    let cpus = den.cpus();
    for (place, cpu) in (0..).zip(cpus) {
        let spaces = den.nursery.make_many::<VSpace>(16, 2)?;
        let frames = den.nursery.make_many::<Frame>(LARGE_LOG2, 2)?;
        own_word(SPACES + 2 * place).store(spaces.nth(0).0.into(), SeqCst);
        own_word(SPACES + 2 * place + 1).store(frames.nth(0).0.into(), SeqCst);
        den.start(cpu, page_copier, place as u64)?;
    }
    Ok(())
}

extern "C" fn page_copier(place: u64) -> ! {
    let first = |word: usize| own_word(SPACES + 2 * place as usize + word).load(SeqCst) as u32;
    let [lender, borrower] = [0, 1].map(|n| VSpace::at(Cap(first(0) + n)));
    let [lent, copied] = [0, 1].map(|n| Frame::at(Cap(first(1) + n)));
    let large = |mode| PageRange { address: LARGE, count: 1, large: true, mode };
    loop {
        let _ = lender.map_pool(&lent, LARGE);
        let _ = lender.transfer(large(PageMode::Copy), &borrower, LARGE);
        let done = borrower.copy_page(&copied, LARGE, 0);
        let _ = borrower.drop_pages(Pooled { address: LARGE, count: 1, large: true });
        let _ = lender.drop_pages(Pooled { address: LARGE, count: 1, large: true });
        let _ = lender.map(&lent, LARGE, Access::Write);
        let _ = lender.unmap(&lent, LARGE);
        alive_if(done.is_ok());
    }
}

const OWN_FRAMES: usize = 0;
const OWN: u64 = 0xe000_0000;
const BORROWED: u64 = 0xf000_0000;

/// Asks the victims' server for pages while other tasks hold the lock of the caller's address
/// space.
pub fn client_space(den: &mut Den) -> Result<()> {
    let cpus = den.cpus();
    for (place, cpu) in (0..).zip(cpus) {
        let frame: Frame = den.nursery.make(12 | RANGE << 8)?;
        own_word(OWN_FRAMES + place).store(frame.cap().0.into(), SeqCst);
        den.start(cpu, own_mapper, place as u64)?;
        den.start(cpu, page_asker, place as u64)?;
    }
    Ok(())
}

extern "C" fn own_mapper(place: u64) -> ! {
    let frame = Frame::at(Cap(own_word(OWN_FRAMES + place as usize).load(SeqCst) as u32));
    let at = OWN + place * STRIDE;
    loop {
        let mapped = own::vspace().map(&frame, at, Access::Write);
        let _ = own::vspace().unmap(&frame, at);
        alive_if(mapped.is_ok());
    }
}

extern "C" fn page_asker(place: u64) -> ! {
    let server = Group::at(victims()).exposure(LENDER);
    let at = BORROWED + place * PAGE_SIZE;
    loop {
        utcb::current().open_window(at, PAGE_SIZE);
        let answered = server.call(&Message::new(1, [0; 4]));
        let _ = own::vspace().drop_pages(Pooled::new(at, 1));
        alive_if(answered.is_ok());
    }
}
