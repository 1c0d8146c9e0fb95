//! Parcels: the runtime copies few bytes and moves many; the receiver's interface is the same.

use core::sync::atomic::AtomicU64;

use abi::{Error, PAGE_SIZE, PageMode, PageRange, Target};
use user_rt::arch::{Buffer, memory};
use user_rt::cap::{Exposure, Frame, Handle};
use user_rt::invoke::transfer;
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::layout::SHARED_VA;
use user_rt::pages::Pooled;
use user_rt::parcel::{BYTES_MAX, Intake, NoParcel, Parcel, Post, REMAP_FROM, REMAP_FROM_SEEN, Seen};
use user_rt::spawn::own;
use user_rt::utcb;

use super::pair::{FROM, TAKER, WINDOW, pattern, taker_cpus};
use crate::lab::{CHILD_FREE, CHILD_GROUP, Lab, PUPPETS_MAX, Place, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq};

const TRAY: u64 = SHARED_VA + 0x2800_0000;
const TRAY_PAGES: u64 = 16;
const SENDER: u32 = PUPPETS_MAX + 7;
/// Slot of the sender's next buffer frame, and of the frame that the receiver copies into.
const BUFFER: abi::Cap = abi::Cap(CHILD_FREE);

/// Commands for sender and receiver.
const SEND: u32 = 1;
const SEND_SHARED: u32 = 2;
const PARCEL: u32 = 3;
const RELEASE: u32 = 4;

/// How a parcel came, in the receiver's answer.
const COPIED: u64 = 1;
const MOVED: u64 = 2;
const NONE: u64 = 3;

fn tray() -> &'static [AtomicU64] {
    // SAFETY: the test mapped as many pages there, in both processes, until both end.
    unsafe { memory::mapped_words(TRAY, (TRAY_PAGES * PAGE_SIZE / 8) as usize) }
}

fn byte(seed: u64, at: u64) -> u8 {
    (pattern(seed, at / 8) >> (at % 8 * 8)) as u8
}

fn wrong_bytes(bytes: &[u8], seed: u64) -> u64 {
    bytes.iter().zip(0..).filter(|(got, at)| **got != byte(seed, *at)).count() as u64
}

extern "C" fn sender(_: u64) -> ! {
    let mut event = recv();
    loop {
        let Ok(Event::Call(call)) = event else { panic!("the sender heard {event:?}") };
        let regs = match call.message.label {
            SEND => send(call.message.regs),
            _ => send_shared(),
        };
        event = reply_recv(&Message::new(0, regs));
    }
}

/// (pages, bytes, seed, seen by others): sends a parcel. Returns the receiver's answer in the first
/// two words, and 1 if the sender kept its buffer.
fn send([pages, bytes, seed, seen]: [u64; 4]) -> [u64; 4] {
    let failed = |what: u64| [0, u64::MAX, what, 0];
    let Ok(mut buffer) = Buffer::make(&own::vspace(), &Frame::at(BUFFER), pages, FROM) else {
        return failed(1);
    };
    for (to, at) in buffer.bytes_mut().iter_mut().zip(0..bytes) {
        *to = byte(seed, at);
    }
    let seen = if seen == 0 { Seen::ByThisCpu } else { Seen::ByOthers };
    let post = Post::new(Exposure(Target::new(CHILD_GROUP, TAKER.index)), tray(), seen);
    match post.send(buffer, bytes, PARCEL, [seed, 0, 0]) {
        Ok(sent) => {
            let [how, wrong, ..] = sent.reply.regs;
            let kept = u64::from(sent.kept.is_some());
            if sent.kept.is_some_and(|buffer| buffer.give_back(&own::vspace()).is_err()) {
                return failed(2);
            }
            [how, wrong, kept, 0]
        }
        Err(unsent) => {
            let kept = u64::from(unsent.kept.is_some());
            let gone = unsent.kept.is_none_or(|buffer| buffer.give_back(&own::vspace()).is_err());
            [0, unsent.refusal.error as u64, kept, u64::from(gone)]
        }
    }
}

/// Announces a parcel, but sends pages copy-on-write.
fn send_shared() -> [u64; 4] {
    let Ok(buffer) = Buffer::make(&own::vspace(), &Frame::at(BUFFER), 4, FROM) else { return [0; 4] };
    utcb::current().send_ranges(&[PageRange::new(PageMode::Copy, FROM, 4)]);
    let message = Message::new(PARCEL, [4 * PAGE_SIZE, 0, 0, 0]).with_pages();
    let answer = Exposure(Target::new(CHILD_GROUP, TAKER.index)).call(&message);
    // No other process sees them by now.
    let ended = buffer.give_back(&own::vspace()).is_ok();
    [answer.map_or(0, |reply| reply.regs[0]), u64::from(ended), 0, 0]
}

/// Keeps moved pages until it is told to release them.
extern "C" fn receiver(_: u64) -> ! {
    const PLACES: usize = 3;
    let space = own::vspace();
    let mut intake = Intake::new(tray(), WINDOW, PLACES);
    let mut kept: [Option<Buffer>; PLACES] = [const { None }; PLACES];
    let copy = Buffer::make(&space, &Frame::at(BUFFER), TRAY_PAGES, FROM);
    let Ok(mut copy) = copy else { panic!("no memory to copy to: {copy:?}") };
    let mut answer = None;
    loop {
        if intake.open().is_err() {
            utcb::current().open_window(0, 0);
        }
        let event = match answer {
            None => recv(),
            Some(regs) => reply_recv(&Message::new(0, regs)),
        };
        let Ok(Event::Call(call)) = event else { panic!("the receiver heard {event:?}") };
        answer = Some(match call.message.label {
            PARCEL => match intake.take(&space, &call.message) {
                Ok(Parcel::Copied(tray)) => {
                    let length = tray.copy_to(copy.bytes_mut());
                    [COPIED, wrong_bytes(&copy.bytes()[..length], call.message.regs[1]), tray.bytes(), 0]
                }
                Ok(Parcel::Moved(buffer, bytes)) => {
                    let wrong = wrong_bytes(&buffer.bytes()[..bytes as usize], call.message.regs[1]);
                    let place = kept.iter_mut().find(|place| place.is_none());
                    place.map_or_else(|| panic!("more places than there are"), |place| *place = Some(buffer));
                    [MOVED, wrong, bytes, 0]
                }
                Ok(Parcel::Shared(..)) => panic!("nobody shares parcels here"),
                Err(NoParcel) => [NONE, 0, 0, 0],
            },
            _ => {
                let released = kept.iter_mut().filter_map(Option::take);
                let failed = released.map(|buffer| intake.give_back(&space, buffer)).filter(|r| r.is_err());
                [failed.count() as u64, 0, 0, 0]
            }
        });
    }
}

struct Exchange {
    sender: Exposure,
    receiver: Exposure,
    home: Place,
}

fn exchange(lab: &mut Lab<'_>, cpu: u32) -> Result<Exchange, Failure> {
    let (home, there) = (lab.process(false)?, lab.process(false)?);
    let group = lab.group()?;
    let words: Frame = lab.nursery.make(12 | TRAY_PAGES << 8)?;
    for place in [home, there] {
        lab.child(place)?.vspace.map(&words, TRAY, user_rt::cap::Access::Write)?;
    }
    let copy: Frame = lab.nursery.make(12 | TRAY_PAGES << 8)?;
    transfer(copy, lab.child(there)?.cnode.slot(BUFFER))?;
    let tasks = [(sender as user_rt::spawn::Entry, home, 0, SENDER), (receiver, there, cpu, TAKER.index)];
    for (entry, place, cpu, index) in tasks {
        let task = lab.task(&Wanted { place, cpu, ..Wanted::default() }, entry, 0)?.task;
        group.expose_task(index, &task)?;
        task.resume()?;
    }
    Ok(Exchange { sender: group.exposure(SENDER), receiver: group.exposure(TAKER.index), home })
}

impl Exchange {
    /// Makes the sender send a parcel in new pages. Returns how it came, and whether the sender
    /// kept its buffer.
    fn sends(&self, lab: &mut Lab<'_>, pages: u64, bytes: u64, seen: bool) -> Result<[u64; 4], Failure> {
        let frame: Frame = lab.nursery.make(12 | pages << 8)?;
        transfer(frame, lab.child(self.home)?.cnode.slot(BUFFER))?;
        let regs = [pages, bytes, bytes ^ pages, u64::from(seen)];
        let answer = self.sender.call(&Message::new(SEND, regs))?.regs;
        lab.child(self.home)?.cnode.delete(BUFFER)?;
        Ok(answer)
    }

    fn releases(&self) -> Outcome {
        expect_eq!(self.receiver.call(&Message::new(RELEASE, [0; 4]))?.regs[0], 0, "releasing what came");
        Ok(())
    }
}

pub fn parcels_are_copied_or_moved(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        let exchange = exchange(lab, cpu)?;
        for seen in [false, true] {
            let from = if seen { REMAP_FROM_SEEN } else { REMAP_FROM };
            for pages in [1, from - 1, from, from + 1, 64] {
                for bytes in [(pages - 1) * PAGE_SIZE + 1, pages * PAGE_SIZE] {
                    let way = if pages >= from { MOVED } else { COPIED };
                    let answer = exchange.sends(lab, pages, bytes, seen)?;
                    let kept = u64::from(way == COPIED);
                    expect_eq!(answer, [way, 0, kept, 0], "{bytes} bytes, seen by others: {seen}, CPU {cpu}");
                    exchange.releases()?;
                }
            }
        }
        lab.reset()?;
    }
    Ok(())
}

pub fn parcels_without_room_stay(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        let exchange = exchange(lab, cpu)?;
        let bytes = 20 * PAGE_SIZE;
        for round in 0..2 {
            for _ in 0..3 {
                expect_eq!(exchange.sends(lab, 20, bytes, false)?, [MOVED, 0, 0, 0], "round {round}");
            }
            let refused = exchange.sends(lab, 20, bytes, false)?;
            expect_eq!(
                refused,
                [0, Error::NoRoom as u64, 1, 0],
                "no place left, CPU {cpu}: the buffer stays"
            );
            expect_eq!(exchange.sends(lab, 1, 9, false)?, [COPIED, 0, 1, 0], "copying takes no place");
            exchange.releases()?;
        }
        let too_long = exchange.sends(lab, 2, 2 * PAGE_SIZE + 1, false)?;
        expect_eq!(too_long, [0, Error::TooLong as u64, 1, 0], "more bytes than the buffer has");
        expect!(BYTES_MAX == 64 * PAGE_SIZE, "the longest parcel");
        lab.reset()?;
    }
    Ok(())
}

/// Copy-on-write pages are no parcel: the receiver reports that, and unmaps them.
pub fn what_is_no_parcel_is_refused(lab: &mut Lab<'_>) -> Outcome {
    for cpu in taker_cpus(lab) {
        let exchange = exchange(lab, cpu)?;
        let frame: Frame = lab.nursery.make(12 | 4 << 8)?;
        transfer(frame, lab.child(exchange.home)?.cnode.slot(BUFFER))?;
        let [how, ended, ..] = exchange.sender.call(&Message::new(SEND_SHARED, [0; 4]))?.regs;
        expect_eq!((how, ended), (NONE, 1), "pages to be copied, CPU {cpu}");
        let there = lab.children.last().map(|child| child.vspace.drop_pages(Pooled::new(WINDOW, 1)));
        let dropped = there.and_then(Result::err).map(|refusal| refusal.error);
        expect_eq!(dropped, Some(Error::NoPage), "the receiver has let go of them");
        lab.reset()?;
    }
    Ok(())
}
