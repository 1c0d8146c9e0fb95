//! Broadcasts that carry pages: to readers on all CPUs, while another task of the sender keeps
//! writing to them until the kernel forbids it.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use abi::events::{Progress, Window};
use abi::{Error, PAGE_SIZE, PageMode, PageRange, Rights, Target};
use guest_tests::board::Part as _;
use user_rt::cap::{Frame, Group, Handle};
use user_rt::invoke::yield_now;
use user_rt::ipc::{Message, Patience};
use user_rt::spawn::own;
use user_rt::utcb::{self};

use crate::block::Block;
use crate::faults::{self, HANDLER_INDEX, Script};
use crate::lab::{CHILD_GROUP, Lab, PUPPETS_MAX, Place, Wanted};
use crate::pages::pair::{try_read, try_write};
use crate::readers::{self, COUNT, FROM, READY, Reader, WINDOW, WRONG, add, wait_for};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! { shares_reach_all_that_listen shares_are_refused }

const READERS: u32 = 3;
const SENDER_BLOCK: u32 = PUPPETS_MAX - 3;
const READER_BLOCK: u32 = PUPPETS_MAX - 4;
/// Number of pages, one for each message: more than a pool has room for.
const EACH: u64 = 30;
/// Position in a page of the words that are checked.
const WORD: u64 = 16;

/// Words of a block: the next page; the page that was written last; and the contents of each page.
const AT: usize = 3;
const WRITTEN: usize = 4;
const VALUES: usize = 8;

/// Reads forever: received contents must not change any more.
extern "C" fn reader(number: u64) -> ! {
    let block = Block::at(READER_BLOCK - number as u32);
    let (mut pool, note) = readers::bind();
    pool.open_window(Window { address: WINDOW, pages: EACH });
    block.note(READY).store(1, Release);
    loop {
        while let Some(came) = pool.read() {
            let page = came.ranges().next().map_or(0, |range| range.address);
            let value = try_read(page + WORD);
            for _ in 0..20 {
                let _ = yield_now();
            }
            let same = value.is_some() && try_read(page + WORD) == value && !try_write(page + WORD, 0);
            block.note(VALUES + came.event.regs[0] as usize).store(value.unwrap_or(0), Relaxed);
            add(block, if same { COUNT } else { WRONG });
        }
        readers::wait(&mut pool, &note);
    }
}

/// Sends pages, one after the other, to all readers, while another task writes to each.
extern "C" fn caster(_: u64) -> ! {
    let block = Block::at(SENDER_BLOCK);
    let group = Group::at(CHILD_GROUP);
    for number in 0..EACH {
        let address = FROM + number * PAGE_SIZE;
        block.note(AT).store(address, Release);
        while block.note(WRITTEN).load(Acquire) != address {
            let _ = yield_now();
        }
        utcb::current().send_ranges(&[PageRange::new(PageMode::Copy, address, 1)]);
        let message = Message::new(0, [number, 0, 0, 0]).with_pages();
        let sent = group.broadcast(&message, Progress::default(), Patience::Forever);
        add(block, if sent == Ok(u64::from(READERS)) { COUNT } else { WRONG });
    }
    block.note(AT).store(0, Release);
    block.note(READY).store(1, Release);
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Writes to the next page to be sent, forever.
extern "C" fn writer(_: u64) -> ! {
    let block = Block::at(SENDER_BLOCK);
    let mut value = 1;
    loop {
        let at = block.note(AT).load(Acquire);
        if at != 0 && try_write(at + WORD, value) {
            value += 1;
            block.note(WRITTEN).store(at, Release);
        } else {
            let _ = yield_now();
        }
    }
}

/// Starts a reader in its own process.
fn start_reader(lab: &mut Lab<'_>, number: u32) -> Outcome {
    let place = lab.process(false)?;
    lab.child(place)?.process.fault_handler(Some(Target::new(CHILD_GROUP, HANDLER_INDEX)))?;
    let (cpu, block) = (number % lab.cpus, READER_BLOCK - number);
    Reader { place, cpu, entry: reader, argument: u64::from(number), block, exposed: None }.start(lab)?;
    Ok(())
}

/// Makes a process with pages to send, whose faults are handled on CPU 0.
fn sender(lab: &mut Lab<'_>) -> Result<Place, crate::suite::Failure> {
    Block::at(SENDER_BLOCK).clear();
    let (place, home) = (lab.process(false)?, lab.process(false)?);
    faults::start_handler(lab, place, &Wanted { place: home, ..Wanted::default() }, Script::ToR15)?;
    let frame: Frame = lab.nursery.make(12 | EACH << 8)?;
    lab.child(place)?.vspace.map_pool(&frame, FROM)?;
    Ok(place)
}

fn shares_reach_all_that_listen(lab: &mut Lab<'_>) -> Outcome {
    lab.busy = true;
    let place = sender(lab)?;
    for number in 0..READERS {
        start_reader(lab, number)?;
    }
    for (entry, cpu) in [(caster as user_rt::spawn::Entry, 0), (writer, lab.cpus - 1)] {
        lab.task(&Wanted { place, cpu, ..Wanted::default() }, entry, 0)?.task.resume()?;
    }
    wait_for(lab, SENDER_BLOCK, READY, 1, "the sender is through")?;
    let counts = [COUNT, WRONG].map(|note| Block::at(SENDER_BLOCK).note(note).load(Acquire));
    expect_eq!(counts, [EACH, 0], "what was sent");
    for number in 0..READERS {
        wait_for(lab, READER_BLOCK - number, COUNT, EACH, "what a reader has got")?;
    }
    let values = |number| {
        let block = Block::at(READER_BLOCK - number);
        core::array::from_fn::<_, { EACH as usize }, _>(|page| block.note(VALUES + page).load(Relaxed))
    };
    expect!(values(0).iter().all(|value| *value != 0), "pages that nobody wrote: {:?}", values(0));
    for number in 1..READERS {
        expect_eq!(values(number), values(0), "what reader {number} saw");
    }
    Ok(())
}

/// Refuses moves and missing pages. Skips a reader without room and continues after it.
fn shares_are_refused(lab: &mut Lab<'_>) -> Outcome {
    // Its handler also handles the readers' faults.
    sender(lab)?;
    for number in 0..READERS {
        start_reader(lab, number)?;
    }
    let frame: Frame = lab.nursery.make(12 | 2 << 8)?;
    own::vspace().map_pool(&frame, FROM)?;
    let process = own::process();
    let slot = lab.nursery.take_slot()?;
    process.accept(slot, &lab.group()?)?;
    lab.group()?.add(&process, abi::MEMBER_RIGHTS.minus(Rights::LISTEN), 0)?;
    let group = Group::at(slot);
    let send = |ranges: &[PageRange], from: Progress| {
        utcb::current().send_ranges(ranges);
        let sent = group.broadcast(&Message::default().with_pages(), from, Patience::None);
        sent.map_err(|refusal| (refusal.error, refusal.detail))
    };
    let copied = |pages| PageRange::new(PageMode::Copy, FROM, pages);
    let moved = send(&[PageRange::new(PageMode::Move, FROM, 1)], Progress::default());
    expect_eq!(moved, Err((Error::NoPage, FROM)), "a page cannot move to many");
    let past = send(&[copied(3)], Progress::default());
    expect_eq!(past, Err((Error::NoPage, FROM + 2 * PAGE_SIZE)), "there are two");
    expect_eq!(send(&[], Progress::default()), Ok(u64::from(READERS)), "no pages at all");
    // The window of each reader has room for that many pages.
    for sent in 0..EACH / 2 {
        expect_eq!(send(&[copied(2)], Progress::default()), Ok(u64::from(READERS)), "message {sent}");
        lab.settle();
    }
    let none = send(&[copied(2)], Progress::default());
    let Err((Error::NoRoom, detail)) = none else {
        return Err(crate::suite::Failure::Of(alloc::format!("without room: {none:?}")));
    };
    expect_eq!(Progress::from_raw(detail as u32).sent, 0, "nobody has room");
    for number in 0..READERS {
        wait_for(lab, READER_BLOCK - number, COUNT, EACH / 2, "what a reader has got")?;
    }
    own::vspace().drop_pages(user_rt::pages::Pooled::new(FROM, 2))?;
    own::cnode().delete(slot)?;
    Ok(())
}
