//! Pages in messages while a task of the sender's process, on another CPU, writes them, takes them
//! back, or changes their list.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, PAGE_SIZE, PageMode, PageRange, RANGES_MAX};
use guest_tests::board::Part as _;
use user_rt::arch;
use user_rt::boot;
use user_rt::cap::{Access, Frame, Task};
use user_rt::invoke::Pages;
use user_rt::layout::SHARED_VA;
use user_rt::pages::Pooled;
use user_rt::spawn::{Entry, own};

use super::pair::*;
use super::refused;
use crate::block::Block;
use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq};

/// Words of the disturber's block: address, size; how often it acted.
const WHERE: usize = 0;
const TIMES: usize = 2;

/// Writes the giver's pages forever, where it can.
extern "C" fn keep_writing(number: u64) -> ! {
    let block = Block::at(number as u32);
    let address = block.note(WHERE).load(Relaxed);
    let mut value = 0;
    loop {
        for (at, ..) in words(address, ATTACKED) {
            value += 1;
            if !try_write(at, value) {
                break;
            }
            block.note(TIMES).fetch_add(1, Relaxed);
        }
    }
}

/// Number of pages that are written.
const ATTACKED: u64 = 2;

/// Returns how often each way is tested. A taker on the disturber's CPU has its turns in between.
const fn rounds(cpu: u32) -> u64 {
    if cpu == 1 { 20 } else { 200 }
}

/// How pages go from the giver to the taker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Call,
    Reply,
    Transfer,
}

/// Starts a task of the giver's process, on another CPU, which runs until it is suspended.
fn disturb(lab: &mut Lab<'_>, pair: &Pair, entry: Entry, address: u64) -> Result<Task, Failure> {
    let block = Block::at(DISTURBER);
    block.clear();
    block.note(WHERE).store(address, Relaxed);
    let wanted = Wanted { place: pair.giver, cpu: 1, ..Wanted::default() };
    lab.busy = true;
    let task = lab.task(&wanted, entry, u64::from(DISTURBER))?.task;
    task.resume()?;
    while block.note(TIMES).load(Relaxed) == 0 {
        lab.sleep(100_000);
    }
    Ok(task)
}

/// Returns the takers' CPUs while CPU 1 is disturbed: the giver's, and another if the machine has
/// one, else the disturber's.
fn attacked_cpus(lab: &Lab<'_>) -> Result<[u32; 2], Failure> {
    if lab.cpus < 2 {
        return Err(Failure::Lacks("a second CPU"));
    }
    if boot::options().value("turns").is_some() {
        return Err(Failure::Lacks("CPUs that run at the same time"));
    }
    Ok([0, lab.cpus - 1])
}

/// Waits until the disturber is active: its writes arrive, and its CPU's TLB has the page.
fn await_write(lab: &Lab<'_>) -> Outcome {
    let deadline = arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz;
    let times = || Block::at(DISTURBER).note(TIMES).load(Relaxed);
    let before = times();
    while times() <= before + 1 {
        expect!(arch::now() < deadline, "nobody writes");
        lab.sleep(20_000);
    }
    Ok(())
}

pub fn pages_that_somebody_keeps_writing(lab: &mut Lab<'_>) -> Outcome {
    for cpu in attacked_cpus(lab)? {
        let pair = pair_handled_on(lab, cpu, 1)?;
        let frame: Frame = lab.nursery.make(12 | (2 * ATTACKED) << 8)?;
        let first = Pages { first: 0, count: ATTACKED };
        pair.giver_space.map_pool_pages(&frame, FROM, first)?;
        let disturber = disturb(lab, &pair, keep_writing, FROM)?;
        // The half of the frame that the giver has.
        let mut half = 0;
        for (way, mode) in ways() {
            for round in 0..rounds(cpu) {
                await_write(lab)
                    .and_then(|()| attack(&pair, way, mode, &frame, &mut half))
                    .map_err(|failure| during(failure, cpu, way, mode, round))?;
            }
        }
        disturber.suspend()?;
        lab.reset()?;
    }
    Ok(())
}

/// Sends pages to the taker, which checks them. Returns the error and its detail, if the send
/// fails.
fn pass(pair: &Pair, way: Way, mode: PageMode) -> Result<Option<[u64; 2]>, Failure> {
    let range = PageRange::new(mode, FROM, ATTACKED);
    pair.lists_of(GIVER, &[range]);
    let of = |index: u32, label: Command| [u64::from(index), label as u64, 1, 0];
    let (error, detail) = match way {
        Way::Call => {
            let [error, detail, ..] = pair.tell(GIVER, Command::Send, of(TAKER.index, Command::Deliver))?;
            (error, detail)
        }
        Way::Reply => match pair.tell(TAKER, Command::Send, of(GIVER.index, Command::Give))? {
            // The reply came without its pages, which are taken back again and again.
            [0, _, 0, 0] => (1 + Error::InUse as u64, 0),
            [0, _, 0, why] => (why, 0),
            [error, detail, ..] => (error, detail),
        },
        Way::Transfer => match pair.giver_space.transfer(range, &pair.taker_space, WINDOW) {
            Ok(()) => {
                pair.tell(TAKER, Command::Look, [WINDOW, ATTACKED, 0, 0])?;
                (0, 0)
            }
            Err(refusal) => (1 + refusal.error as u64, refusal.detail),
        },
    };
    Ok((error != 0).then_some([error - u64::from(error != 0), detail]))
}

/// Returns the taker's pages to the giver, and checks that they are unchanged.
fn give_back(pair: &Pair, mode: PageMode) -> Outcome {
    if mode == PageMode::Move {
        pair.taker_space.transfer(PageRange::new(mode, WINDOW, ATTACKED), &pair.giver_space, FROM)?;
    } else {
        pair.taker_space.drop_pages(Pooled::new(WINDOW, ATTACKED))?;
    }
    pair.giver_space.protect_pooled(Pooled::new(FROM, ATTACKED), Access::Write)?;
    Ok(())
}

/// Checks that received pages are unchanged.
fn unchanged(pair: &Pair) -> Outcome {
    pair.tell(TAKER, Command::Recheck, [0; 4])?;
    expect_eq!(note(TAKER, CHANGES).load(Relaxed), 0, "what was received changed");
    Ok(())
}

/// Sends pages there and back while another task tries to write.
fn attack(pair: &Pair, way: Way, mode: PageMode, frame: &Frame, half: &mut u64) -> Outcome {
    expect_eq!(pass(pair, way, mode)?, None, "error and detail");
    if mode == PageMode::Copy {
        for page in 0..ATTACKED {
            let number = (1 - *half) * ATTACKED + page;
            expect!(pair.giver_space.copy_page(frame, FROM + page * PAGE_SIZE, number)?, "a copy was needed");
        }
        *half = 1 - *half;
    }
    unchanged(pair)?;
    give_back(pair, mode)
}

/// Changes the access of the giver's pages forever, which takes back pages in transit; and writes.
extern "C" fn keep_protecting(number: u64) -> ! {
    let block = Block::at(number as u32);
    let address = block.note(WHERE).load(Relaxed);
    let mut random = oorandom::Rand64::new(5);
    let mut value = 0;
    loop {
        value += 1;
        let access = if value % 4 == 0 { Access::Read } else { Access::Write };
        let _ = own::vspace().protect_pooled(Pooled::new(address, ATTACKED), access);
        for _ in 0..1 << random.rand_range(0..10) {
            let page = random.rand_range(0..ATTACKED);
            if !try_write(address + page * PAGE_SIZE + random.rand_range(0..PAGE_WORDS) * 8, value) {
                break;
            }
        }
        block.note(TIMES).fetch_add(1, Relaxed);
    }
}

pub fn pages_that_somebody_keeps_taking_back(lab: &mut Lab<'_>) -> Outcome {
    for cpu in attacked_cpus(lab)? {
        let pair = pair_handled_on(lab, cpu, 1)?;
        pair.filled(lab, ATTACKED, 1)?;
        let disturber = disturb(lab, &pair, keep_protecting, FROM)?;
        for (way, mode) in ways() {
            let mut went = 0;
            for round in 0..rounds(cpu) {
                let what = |failure| during(failure, cpu, way, mode, round);
                await_write(lab).map_err(what)?;
                match pass(&pair, way, mode).map_err(what)? {
                    None => {
                        unchanged(&pair).and_then(|()| give_back(&pair, mode)).map_err(what)?;
                        went += 1;
                    }
                    Some([error, detail]) => {
                        let taken_back = [Error::InUse, Error::NoPage].map(|error| error as u64);
                        expect!(
                            taken_back.contains(&error),
                            "{mode:?} by {way:?}, round {round}: error {error}, detail {detail:#x}"
                        );
                        let all = Pooled::new(FROM, ATTACKED);
                        pair.giver_space.protect_pooled(all, Access::Write)?;
                    }
                }
            }
            expect!(went > 0, "{mode:?} by {way:?}, taker on CPU {cpu}: nothing went");
        }
        disturber.suspend()?;
        lab.reset()?;
    }
    Ok(())
}

fn ways() -> impl Iterator<Item = (Way, PageMode)> {
    [Way::Call, Way::Reply, Way::Transfer].into_iter().flat_map(|way| PageMode::ALL.map(|mode| (way, mode)))
}

/// Adds the round to a failure.
fn during(failure: Failure, cpu: u32, way: Way, mode: PageMode, round: u64) -> Failure {
    match failure {
        Failure::Of(why) => {
            Failure::Of(alloc::format!("taker on CPU {cpu}, {mode:?} by {way:?}, round {round}: {why}"))
        }
        lacks => lacks,
    }
}

/// Pages that the list of the giver's UTCB may name. It never names the page after them.
const LISTED: u64 = 6;
const ALL_PAGES: u64 = LISTED + 1;
const LIST_SEED: u64 = 31;

/// Rewrites the list in a UTCB forever, with ranges of all kinds, most of them good.
extern "C" fn keep_listing(number: u64) -> ! {
    let block = Block::at(number as u32);
    let utcb = utcb_at(block.note(WHERE).load(Relaxed));
    let mut random = oorandom::Rand64::new(7);
    loop {
        let words = &utcb.ranges[random.rand_range(0..RANGES_MAX as u64) as usize];
        let page = random.rand_range(0..LISTED);
        let count = 1 + random.rand_range(0..LISTED - page);
        let address = FROM + page * PAGE_SIZE;
        let [first, count] = match random.rand_range(0..16) {
            0 => [SHARED_VA, 1],
            1 => [random.rand_u64(), random.rand_range(0..4)],
            2 => [WINDOW, 1],
            3 => [0xffff_8000_0000_0000, 1],
            n => [address | (n % 3), if n % 2 == 0 { 1 } else { count }],
        };
        words[0].store(first, Relaxed);
        words[1].store(count, Relaxed);
        let count = match random.rand_range(0..32) {
            0 => random.rand_u64(),
            n => n % 4,
        };
        utcb.range_count.store(count, Relaxed);
        block.note(TIMES).fetch_add(1, Relaxed);
        // So that some lists exist as long as a message takes.
        for _ in 0..1 << random.rand_range(0..16) {
            arch::pause();
        }
    }
}

pub fn ranges_that_somebody_keeps_changing(lab: &mut Lab<'_>) -> Outcome {
    const TYPED: [Error; 6] =
        [Error::NoPage, Error::NoRoom, Error::TooLong, Error::BadAddress, Error::InUse, Error::Full];
    for cpu in attacked_cpus(lab)? {
        let pair = pair(lab, cpu)?;
        pair.filled(lab, ALL_PAGES, LIST_SEED)?;
        let disturber = disturb(lab, &pair, keep_listing, pair.giver_utcb)?;
        let (mut sent, mut pages) = (0, 0);
        let messages = 4 * rounds(cpu);
        for round in 0..messages {
            note(TAKER, CAME_COUNT).store(0, Relaxed);
            // The giver's own list sometimes, so that the other task finds one in the making.
            pair.lists_of(GIVER, &[PageRange::new(PageMode::ALL[round as usize % 3], FROM, LISTED)]);
            let regs = [u64::from(TAKER.index), Command::Deliver as u64, round % 2, 0];
            let answer = pair.tell(GIVER, Command::Send, regs)?;
            let typed = answer[0] == 0 || TYPED.iter().any(|error| 1 + *error as u64 == answer[0]);
            expect!(typed, "round {round}: error {answer:?}");
            sent += u64::from(answer[0] == 0);
            for range in came(TAKER) {
                pages += take_back(&pair, &range)?;
            }
            // Pages that were lent and are in no list any more.
            let all = refused(pair.giver_space.protect_pooled(Pooled::new(FROM, ALL_PAGES), Access::Write));
            expect_eq!(all, None, "round {round}: the giver has all its pages, and alone");
            if round % 50 == 0 {
                pair.holds(GIVER, FROM, ALL_PAGES, LIST_SEED, "after messages whose lists changed")?;
                pair.lacks(TAKER, WINDOW, 3 * ALL_PAGES, "after all was given back")?;
            }
        }
        pair.holds(GIVER, FROM, ALL_PAGES, LIST_SEED, "in the end")?;
        expect_eq!(note(TAKER, CHANGES).load(Relaxed), 0, "what was received changed");
        expect!(sent > 0 && pages > 0, "of {messages} messages {sent} went, with {pages} pages");
        disturber.suspend()?;
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a page that came was listed, and returns it to its place or drops its view.
fn take_back(pair: &Pair, range: &PageRange) -> Result<u64, Failure> {
    for n in 0..range.count {
        let at = range.address + n * PAGE_SIZE;
        let [read, value, ..] = pair.tell(TAKER, Command::Peek, [at, 0, 0, 0])?;
        let page = (0..LISTED).find(|page| pattern(LIST_SEED + page, 0) == value);
        let (1, Some(page)) = (read, page) else {
            return Err(Failure::Of(alloc::format!("{range:x?}: page {n} was never listed: {value:#x}")));
        };
        pair.holds(TAKER, at, 1, LIST_SEED + page, "what came")?;
        if range.mode == PageMode::Move {
            let one = PageRange::new(PageMode::Move, at, 1);
            pair.taker_space.transfer(one, &pair.giver_space, FROM + page * PAGE_SIZE)?;
        } else {
            pair.taker_space.drop_pages(Pooled::new(at, 1))?;
        }
    }
    Ok(range.count)
}
