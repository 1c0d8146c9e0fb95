//! Porters: tasks of every space that receive pages from workers and send pages to them, and only
//! do as they are told.
//!
//! A worker [takes](crate::board::Board::take_porter) a porter and tells it where its window is, at
//! addresses of the worker's own. Then the worker calls it with pages, or lets it reply with some.
//! So one worker owns the addresses on both sides, and no other worker's message uses that window.

use abi::{PageMode, PageRange};
use guest_tests::random::mix;
use user_rt::arch;
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::utcb;

/// Commands for porters, as labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// (address, bytes): its window.
    Open = 1,
    /// Receives pages, or none. Answers the first two ranges as it sees them.
    Take,
    /// The words of a range: replies with these pages.
    Give,
    /// (ticks): is busy for that long.
    Nap,
}

impl Command {
    const ALL: [Command; 4] = [Command::Open, Command::Take, Command::Give, Command::Nap];
}

/// Entry of a porter's task.
pub extern "C" fn porter(_: u64) -> ! {
    let mut event = recv();
    loop {
        let Ok(Event::Call(call)) = event else {
            // The caller has ended.
            let _ = yield_now();
            event = recv();
            continue;
        };
        let reply = serve(&call.message);
        event = reply_recv(&reply);
        if let Err(refusal) = event
            && reply.pages
        {
            // The pages could not be sent: the caller gets the reason.
            event = reply_recv(&Message::new(refused(refusal.error), [refusal.detail, 0, 0, 0]));
        }
    }
}

/// Returns the label by which a porter reports that its pages could not be sent.
pub const fn refused(error: abi::Error) -> u32 {
    1 + error as u32
}

fn serve(message: &Message) -> Message {
    let [a, b, ..] = message.regs;
    let plain = Message::new(0, [0; 4]);
    match Command::ALL.into_iter().find(|command| *command as u32 == message.label) {
        Some(Command::Open) => utcb::current().open_window(a, b),
        Some(Command::Take) => return Message::new(0, seen(message.pages)),
        Some(Command::Give) => {
            let range = PageRange::from_words([a, b]);
            utcb::current().send_ranges(range.as_slice());
            return plain.with_pages();
        }
        Some(Command::Nap) => {
            let end = arch::now() + a;
            while arch::now() < end {
                arch::pause();
            }
        }
        None => {}
    }
    plain
}

/// Returns the words of the received ranges, at most two.
fn seen(pages: bool) -> [u64; 4] {
    let mut words = [0; 4];
    if pages {
        let ranges = utcb::current().ranges().flat_map(PageRange::words);
        words.iter_mut().zip(ranges).for_each(|(to, word)| *to = word);
    }
    words
}

/// Returns the CPU of a space's porter in an era.
pub const fn cpu_of(space: usize, era: u64, number: usize, cpus: u32) -> u32 {
    (mix(era << 16 | (space as u64) << 8 | number as u64) % cpus as u64) as u32
}

/// An empty range.
pub const NOTHING: PageRange = PageRange::new(PageMode::Move, abi::PAGE_SIZE, 1);
