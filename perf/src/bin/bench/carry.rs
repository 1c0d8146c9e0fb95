//! Messages that carry pages or capabilities; and page copies by the client, for comparison.

use abi::{
    Cap, FLAG_CAPS, FLAG_PAGES, Fate, Grant, Listening, MESSAGE_PAGES_MAX, MsgInfo, Op, PAGE_SIZE, PageMode,
    PageRange, process_rights,
};
use user_rt::arch::{Args, syscall};
use user_rt::cap::{Access, Handle};
use user_rt::layout::{FREE_SLOTS, slot};
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::block::{Block, Word};
use crate::life::FRESH_SLOTS;
use crate::measure::{Verdict, measure, measure_undone, park};
use crate::roles::{MAP_VA, server};
use user_rt::arch::shared;

/// Payload of a row's messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carried {
    pub pages: u64,
    /// Whether the pages are of 2 MiB.
    pub large: bool,
    /// How the pages go. `None`: the client copies them, and the message carries nothing.
    pub mode: Option<PageMode>,
}

/// Destination of the copy.
pub const COPY_VA: u64 = MAP_VA + 0x100_0000;

impl Carried {
    pub const fn new(mode: Option<PageMode>, pages: u64) -> Carried {
        Carried { pages, large: false, mode }
    }

    /// Encodes the payload as a word of a block.
    pub fn word(self) -> u64 {
        let mode = self.mode.map_or(0, |mode| 1 + mode as u64);
        self.pages | u64::from(self.large) << 32 | mode << 40
    }

    fn from_word(word: u64) -> Carried {
        let mode = PageMode::ALL.into_iter().find(|mode| 1 + *mode as u64 == word >> 40);
        Carried { pages: u64::from(word as u32), large: word >> 32 & 1 != 0, mode }
    }

    /// Returns the range of pages in the client's space, or in the server's window.
    fn range(self) -> PageRange {
        let mode = self.mode.unwrap_or(PageMode::Move);
        PageRange { address: MAP_VA, count: self.pages, large: self.large, mode }
    }

    /// Returns the ranges of the messages that carry all pages together.
    fn parts(self) -> impl Iterator<Item = PageRange> + Clone {
        let all = self.range();
        let size = all.page_size();
        (0..all.count).step_by(MESSAGE_PAGES_MAX as usize).map(move |first| PageRange {
            address: all.address + first * size,
            count: (all.count - first).min(MESSAGE_PAGES_MAX),
            ..all
        })
    }
}

/// Requests to the server that are not measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Undo {
    Nothing = 0,
    /// The server returns the pages with its reply.
    Return = 1,
    /// The server unmaps the pages that it received.
    Drop = 2,
}

/// Calls the server with pages, or for what is not measured.
#[inline(always)]
fn call(block: Block, what: Undo, flags: u64) -> MsgInfo {
    let info = MsgInfo::new(what as u32, 0).op(Op::Call).flag(flags);
    syscall(Args { info, rdi: server(block).0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }).info
}

/// Lets the server unmap what it shares with this client, and makes the pages writable again.
fn unshare(block: Block, range: &PageRange) -> bool {
    call(block, Undo::Drop, 0).0 == 0
        && own::vspace().protect_pooled(Pooled::of(range), Access::Write).is_ok()
}

/// Sends pages each time.
pub extern "C" fn carry_client(index: u64) -> ! {
    let block = Block::at(index);
    let carried = Carried::from_word(block.get(Word::Carried));
    let range = carried.range();
    let utcb = utcb::current();
    utcb.open_window(MAP_VA, range.bytes());
    let undo = || match range.mode {
        PageMode::Move => call(block, Undo::Return, 0).has(FLAG_PAGES) && utcb.ranges().eq([range]),
        PageMode::Share | PageMode::Copy => unshare(block, &range),
    };
    let send = || {
        utcb.send_ranges(&[range]);
        call(block, Undo::Nothing, FLAG_PAGES)
    };
    measure_undone(block, send, undo)
}

/// Receives pages, and returns or unmaps them as the client requests.
pub extern "C" fn carry_server(index: u64) -> ! {
    let carried = Carried::from_word(Block::at(index).get(Word::Carried));
    let range = carried.range();
    let utcb = utcb::current();
    utcb.open_window(MAP_VA, range.bytes());
    let mut info = MsgInfo(0).op(Op::ReplyRecv);
    loop {
        let got = syscall(Args { info, rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }).info;
        info = MsgInfo(0).op(Op::ReplyRecv);
        if got.label() == Undo::Return as u32 {
            utcb.send_ranges(&[range]);
            info = info.flag(FLAG_PAGES);
        } else if got.label() == Undo::Drop as u32 && own::vspace().drop_pages(Pooled::of(&range)).is_err() {
            park();
        }
    }
}

/// Sends more pages than a message carries, by several calls each time.
pub extern "C" fn carry_many_client(index: u64) -> ! {
    let block = Block::at(index);
    let carried = Carried::from_word(block.get(Word::Carried));
    let utcb = utcb::current();
    let undo = || match carried.range().mode {
        PageMode::Move => carried.parts().all(|part| {
            utcb.open_window(part.address, part.bytes());
            call(block, Undo::Return, 0).has(FLAG_PAGES) && utcb.ranges().eq([part])
        }),
        PageMode::Share | PageMode::Copy => unshare(block, &carried.range()),
    };
    let send = || {
        let mut answers = carried.parts().map(|part| {
            utcb.send_ranges(&[part]);
            call(block, Undo::Nothing, FLAG_PAGES)
        });
        answers.find(|answer| answer.0 != 0).unwrap_or(MsgInfo(0))
    };
    measure_undone(block, send, undo)
}

/// Receives the pages of several calls one after another, and returns or unmaps them as the client
/// requests.
pub extern "C" fn carry_many_server(index: u64) -> ! {
    let carried = Carried::from_word(Block::at(index).get(Word::Carried));
    let utcb = utcb::current();
    let mut info = MsgInfo(0).op(Op::ReplyRecv);
    let (mut places, mut returned) = (carried.parts().cycle(), carried.parts().cycle());
    let mut open_next = || places.next().into_iter().for_each(|at| utcb.open_window(at.address, at.bytes()));
    open_next();
    loop {
        let got = syscall(Args { info, rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }).info;
        info = MsgInfo(0).op(Op::ReplyRecv);
        if got.label() == Undo::Return as u32 {
            returned.next().into_iter().for_each(|part| utcb.send_ranges(&[part]));
            info = info.flag(FLAG_PAGES);
        } else if got.label() == Undo::Drop as u32 {
            if own::vspace().drop_pages(Pooled::of(&carried.range())).is_err() {
                park();
            }
        } else {
            open_next();
        }
    }
}

/// A reply that is right if the call's capability arrived at the server.
struct Granted(MsgInfo);

impl Verdict for Granted {
    fn good(&self) -> bool {
        self.0.0 == 0 && utcb::current().fate(0) == Some(Fate::Arrived)
    }

    fn info(&self) -> MsgInfo {
        self.0
    }
}

/// Sends a copy of a capability each time, with one right.
pub extern "C" fn grant_client(index: u64) -> ! {
    let block = Block::at(index);
    let rights = process_rights::OBSERVE.rights();
    let grant = Grant::Copy { cap: slot::PROCESS, rights, badge: 0 };
    let info = MsgInfo(0).op(Op::Call).flag(FLAG_CAPS);
    measure(block, || {
        utcb::current().send_grants(&[grant]);
        Granted(syscall(Args { info, rdi: server(block).0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 }).info)
    })
}

/// Receives each capability in a slot that was never used.
pub extern "C" fn grant_server(_: u64) -> ! {
    // After the slots that tasks of a process may find occupied.
    utcb::current().listen(Listening { next: Cap(FREE_SLOTS + 64), count: FRESH_SLOTS });
    let info = MsgInfo(0).op(Op::ReplyRecv);
    loop {
        syscall(Args { info, rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 });
    }
}

/// Receives each capability in one slot, which it empties again.
pub extern "C" fn grant_again_server(_: u64) -> ! {
    let place = Cap(FREE_SLOTS + 64);
    let listening = Listening { next: place, count: 1 };
    utcb::current().listen(listening);
    let info = MsgInfo(0).op(Op::ReplyRecv);
    loop {
        syscall(Args { info, rdi: 0, rsi: 0, rdx: 0, r8: 0, r9: 0, r10: 0 });
        // Deleting fails if no capability came. The next call of the client then fails, and the
        // bench notices.
        let _ = own::cnode().delete(place);
        utcb::current().listen(listening);
    }
}

/// Copies the pages to memory that the server could read, and calls.
pub extern "C" fn copy_client(index: u64) -> ! {
    let block = Block::at(index);
    let bytes = (Carried::from_word(block.get(Word::Carried)).pages * PAGE_SIZE) as usize;
    let copy_and_call = || {
        // SAFETY: the bench has mapped that many pages at both addresses, for this client only.
        unsafe { core::ptr::copy_nonoverlapping(MAP_VA as *const u8, COPY_VA as *mut u8, bytes) };
        user_rt::arch::fast::call(server(block), [0; 4]).info
    };
    measure_undone(block, copy_and_call, || true)
}

/// Unmaps a page of a space that other CPUs have loaded.
pub extern "C" fn shoot_client(index: u64) -> ! {
    let block = Block::at(index);
    let (space, frame) =
        (own::vspace().arg(), user_rt::cap::Frame::at(abi::Cap(block.get(Word::Frame) as u32)));
    let map = || own::vspace().map(&frame, MAP_VA, Access::Write).is_ok();
    map();
    let unmap = Args::plain(Op::Unmap, space, frame.arg(), MAP_VA, 0);
    measure_undone(block, || syscall(unmap).info, map)
}

/// Leaves its CPU idle, in the space of its process.
pub extern "C" fn idle_server(index: u64) -> ! {
    shared::meet(Block::at(0).word(Word::Arrived), Block::at(index).get(Word::Parties));
    park()
}
