//! Rows of locks that processes share.

use core::iter::once;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, PAGE_SIZE};
use user_rt::arch::memory::{map_words, mapped_words};
use user_rt::arch::{self, timestamp};
use user_rt::cap::{Frame, Group, Handle, Notification, Task};
use user_rt::invoke::who_am_i;
use user_rt::locks::{LockPage, Mutex, User};
use user_rt::spawn::own;

use crate::block::{Block, Word};
use crate::measure::{measure, measure_between, park};
use crate::roles::MAP_VA;

/// Where client and owner are exposed in the row's group.
const CLIENT: u32 = 1;
const OWNER: u32 = 2;
const WORDS: usize = PAGE_SIZE as usize / 8;

/// Returns the lock of a row, in the words of its page.
fn lock_in(block: Block, words: &'static [AtomicU64]) -> Mutex<'static> {
    let group = Group::at(Cap(block.get(Word::Group) as u32));
    let frame = Frame::at(Cap(block.get(Word::Frame) as u32));
    LockPage::new(&group, &frame, words).mutex(0)
}

/// Maps the page of locks, which the owner uses from then on. Returns its lock.
fn prepare(block: Block) -> Mutex<'static> {
    let frame = Frame::at(Cap(block.get(Word::Frame) as u32));
    let Ok(words) = map_words(&own::vspace(), once(frame), MAP_VA) else { park() };
    lock_in(block, words)
}

fn user(index: u32) -> User {
    let Ok((id, _)) = who_am_i() else { park() };
    User::new(id, index)
}

/// Takes a lock that nobody has, and gives it back.
pub extern "C" fn lock_client(index: u64) -> ! {
    let block = Block::at(index);
    let (mutex, me) = (prepare(block), user(CLIENT));
    measure(block, || mutex.lock(me).is_ok())
}

/// Takes the lock and wakes the client, which outranks this task, and gives the lock back when it
/// goes on.
pub extern "C" fn lock_owner(index: u64) -> ! {
    let block = Block::at(index);
    while block.get(Word::Beside) == 0 {
        arch::pause();
    }
    // SAFETY: the client has mapped the page there, for as long as its process lives, and its words
    // are only accessed as atomics.
    let words = unsafe { mapped_words(MAP_VA, WORDS) };
    let (mutex, me) = (lock_in(block, words), user(OWNER));
    let bell = Notification::at(Cap(block.get(Word::NoteClient) as u32));
    let passed = block.word(Word::Ran);
    loop {
        let held = mutex.lock(me);
        let _ = bell.notify(1);
        passed.store(timestamp(), Relaxed);
        drop(held);
    }
}

/// Waits for the owner to take the lock, then takes it itself.
/// Measures from the owner's giving it back, or (`WHOLE`) from the attempt to take it.
#[inline(always)]
fn contend<const WHOLE: bool>(index: u64) -> ! {
    let block = Block::at(index);
    let (mutex, me) = (prepare(block), user(CLIENT));
    let group = Group::at(Cap(block.get(Word::Group) as u32));
    let owner = Task::at(Cap(block.get(Word::Background) as u32));
    if group.expose_task(OWNER, &owner).is_err() {
        park();
    }
    block.set(Word::Beside, 1);
    let bell = Notification::at(Cap(block.get(Word::NoteClient) as u32));
    let passed = block.word(Word::Ran);
    let take = || {
        let woken = bell.wait().is_ok();
        let start = timestamp();
        let held = mutex.lock(me);
        let end = timestamp();
        (if WHOLE { start } else { passed.load(Relaxed) }, end, woken && held.is_ok())
    };
    measure_between(block, take, || true)
}

/// Waits for a lock: from its owner's giving it back.
pub extern "C" fn lock_hand_over_client(index: u64) -> ! {
    contend::<false>(index)
}

/// Waits for a lock: from the attempt to take it.
pub extern "C" fn lock_wait_client(index: u64) -> ! {
    contend::<true>(index)
}
