//! Sending events, with and without a waiting reader, and receiving them.

use abi::events::PoolSize;
use abi::{Cap, MsgInfo, Op};
use perf::echo::{WORDS, same_words};
use user_rt::arch::{fast, syscall};
use user_rt::cap::{EventPool, Exposure, Group, Handle, Notification, Task, Untyped};
use user_rt::events::Pool;
use user_rt::invoke::yield_now;
use user_rt::ipc::{Event, Message, recv, reply_recv};
use user_rt::layout::{FREE_SLOTS, slot};
use user_rt::spawn::own;
use user_rt::utcb::{self, Local};

use crate::block::{Block, Word};
use crate::measure::{Verdict, measure, measure_undone, park};
use crate::roles::{MAP_VA, long_message, say_ready, server};

const SIZE: PoolSize = PoolSize { cells_log2: 6, status_pages: 0 };
/// Cells of the pool of a process that only listens. No task reads them, so the pool has room for
/// all events.
pub const LISTENER_CELLS_LOG2: u8 = 10;
/// Broadcasts that are measured; the warm-up has at most as many.
pub const BROADCAST_SAMPLES: u64 = 400;
/// Broadcasts of nine cells each that are measured.
pub const LONG_BROADCAST_SAMPLES: u64 = 50;
const _: () = assert!(2 * BROADCAST_SAMPLES < 1 << LISTENER_CELLS_LOG2);
const _: () = assert!(2 * 9 * LONG_BROADCAST_SAMPLES < 1 << LISTENER_CELLS_LOG2);
/// After the slots that tasks of a process may find occupied.
const POOL: Cap = Cap(FREE_SLOTS + 66);
const NOTE: Cap = Cap(FREE_SLOTS + 67);

/// Returns the running task.
pub fn own_task() -> Task {
    Task::at(Cap(utcb::current().local(Local::OwnTask) as u32))
}

/// Makes an event pool for the running task's process, with a task of it as its reader.
pub fn pool_of(memory: &Untyped, at: Cap, size: PoolSize, reader: &Task) -> Pool {
    let made = memory.retype::<EventPool>(size.raw(), own::cnode().slot(at), 1);
    let bind = || Pool::bind(EventPool::at(at), size.cells_log2, &own::process(), reader, MAP_VA, 1);
    made.and_then(|_| bind()).unwrap_or_else(|_| park())
}

fn own_pool() -> Pool {
    pool_of(&Untyped::at(slot::UNTYPED), POOL, SIZE, &own_task())
}

/// Receives all events of the pool. Returns how many came with the right words.
fn read_all(pool: &mut Pool) -> u64 {
    let mut good = 0;
    while let Some(came) = pool.read() {
        good += u64::from(same_words(came.event.regs));
    }
    good
}

/// Receives events when it is called, and answers with their number.
pub extern "C" fn pool_server(index: u64) -> ! {
    let mut pool = own_pool();
    say_ready(Block::at(index));
    let mut event = recv();
    while let Ok(Event::Call(_)) = event {
        event = reply_recv(&Message::new(0, [read_all(&mut pool), 0, 0, 0]));
    }
    park()
}

/// Sends four words into a pool that no task waits for.
pub extern "C" fn send_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    let read = || Exposure(to).call(&Message::default()).is_ok_and(|reply| reply.regs[0] == 1);
    measure_undone(block, || fast::send(to, WORDS), read)
}

/// Sends 64 words besides into a pool that no task waits for.
pub extern "C" fn send_words_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    let args = long_message(Op::Send, to);
    let read = || Exposure(to).call(&Message::default()).is_ok_and(|reply| reply.regs[0] == 1);
    measure_undone(block, || syscall(args).info, read)
}

/// A reply that is right if the broadcast reached all listeners.
struct Heard((MsgInfo, u64), u64);

impl Verdict for Heard {
    fn good(&self) -> bool {
        (self.0.0.0, self.0.1) == (0, self.1)
    }

    fn info(&self) -> MsgInfo {
        self.0.0
    }
}

/// Sends four words to all listeners, into pools that have room and no waiting reader.
pub extern "C" fn broadcast_client(index: u64) -> ! {
    let block = Block::at(index);
    let group = Group::at(Cap(block.get(Word::Group) as u32)).exposure(0).0;
    let listeners = block.get(Word::Listeners);
    measure(block, || Heard(fast::broadcast(group, WORDS), listeners))
}

/// Sends 64 words besides to all listeners.
pub extern "C" fn broadcast_words_client(index: u64) -> ! {
    let block = Block::at(index);
    let group = Group::at(Cap(block.get(Word::Group) as u32)).exposure(0).0;
    let (args, listeners) = (long_message(Op::Broadcast, group), block.get(Word::Listeners));
    let broadcast = || {
        let answer = syscall(args);
        Heard((answer.info, answer.rdi), listeners)
    };
    measure(block, broadcast)
}

/// Waits for single events.
pub extern "C" fn waiting_pool_server(index: u64) -> ! {
    let mut pool = own_pool();
    let place = own::cnode().slot(NOTE);
    let note = Notification::at(NOTE);
    let reader = own_task();
    if Untyped::at(slot::UNTYPED).retype::<Notification>(0, place, 1).is_err() || note.bind(&reader).is_err()
    {
        park();
    }
    say_ready(Block::at(index));
    loop {
        read_all(&mut pool);
        if pool.arm() && note.wait().is_err() {
            park();
        }
    }
}

/// Sends four words to a waiting reader. The send makes the reader ready, and it runs when the
/// sender yields.
pub extern "C" fn send_wake_client(index: u64) -> ! {
    let block = Block::at(index);
    let to = server(block);
    measure_undone(block, || fast::send(to, WORDS), || yield_now().is_ok())
}

/// An event that was received, with its four words.
struct Read(Option<[u64; 4]>);

impl Verdict for Read {
    fn good(&self) -> bool {
        self.0.is_some_and(same_words)
    }

    fn info(&self) -> MsgInfo {
        MsgInfo(0)
    }
}

/// Receives an event of its own process's pool, which it has sent itself.
pub extern "C" fn receive_client(index: u64) -> ! {
    let block = Block::at(index);
    let named = |word| Cap(block.get(word) as u32);
    let reader = Task::at(named(Word::TaskClient));
    let mut pool = pool_of(&Untyped::at(named(Word::Untyped)), named(Word::Slots), SIZE, &reader);
    let to = server(block);
    let send = || fast::send(to, WORDS).0 == 0;
    if !send() {
        park();
    }
    measure_undone(block, || Read(pool.read().map(|came| came.event.regs)), send)
}
