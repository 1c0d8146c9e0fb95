//! Whom workers send pages to, and ask for pages: tasks of every space that only do as they are told.
//!
//! A worker [takes](crate::board::Board::take_porter) a porter, tells it where its window is to be, at addresses of the
//! worker's own, and then calls it with pages, or lets it reply with some. So one and the same worker owns the addresses on
//! both sides, and nobody else's message finds that window.

use abi::{PageMode, PageRange};
use guest_tests::random::mix;
use user_rt::arch;
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::utcb;

/// What porters are told, by label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// (address, bytes): its window.
    Open = 1,
    /// Here are pages, or there are none. It answers the first two ranges as it sees them.
    Take,
    /// The words of a range: replies with these pages.
    Give,
    /// (ticks): is busy for so long.
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
            // Whoever called has gone.
            let _ = yield_now();
            event = recv();
            continue;
        };
        let reply = serve(&call.message);
        event = reply_recv(&reply);
        if let Err(refusal) = event
            && reply.pages
        {
            // They could not go: the caller hears why.
            event = reply_recv(&Message::new(refused(refusal.error), [refusal.detail, 0, 0, 0]));
        }
    }
}

/// The label by which a porter says that its pages could not go.
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

/// The ranges that came, two at most, in words.
fn seen(pages: bool) -> [u64; 4] {
    let mut words = [0; 4];
    if pages {
        let ranges = utcb::current().ranges().flat_map(PageRange::words);
        words.iter_mut().zip(ranges).for_each(|(to, word)| *to = word);
    }
    words
}

/// The CPU of a space's porter in an era.
pub const fn cpu_of(space: usize, era: u64, number: usize, cpus: u32) -> u32 {
    (mix(era << 16 | (space as u64) << 8 | number as u64) % cpus as u64) as u32
}

/// A range that says nothing.
pub const NOTHING: PageRange = PageRange::new(PageMode::Move, abi::PAGE_SIZE, 1);
