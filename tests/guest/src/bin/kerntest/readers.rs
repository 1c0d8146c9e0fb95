//! Readers of event pools in their own processes, and the words of their blocks.

use core::sync::atomic::Ordering::{Acquire, Release};

use abi::{Cap, Rights};
use guest_tests::board::Part as _;
use user_rt::cap::{EventPool, Handle, Notification, Task};
use user_rt::events::Pool;
use user_rt::invoke::copy;
use user_rt::layout::SHARED_VA;
use user_rt::spawn::{Entry, own};
use user_rt::utcb::{self, Local};

use crate::block::Block;
use crate::expect_eq;
use crate::lab::{CHILD_FREE, Lab, Place, Wanted};
use crate::suite::{Failure, Outcome};

const CELLS_LOG2: u8 = 6;
pub const POOL_VA: u64 = SHARED_VA + 0x3000_0000;
const POOL: Cap = Cap(CHILD_FREE);
const NOTE: Cap = Cap(CHILD_FREE + 1);
/// The slots after those that a reader's process uses here.
pub const FREE: u32 = CHILD_FREE + 2;
/// Pages to send, and a window for pages: holes in every process of this program.
pub const FROM: u64 = SHARED_VA + 0x1000_0000;
pub const WINDOW: u64 = SHARED_VA + 0x1800_0000;
/// The bit of the reader's Notification for events.
const EVENTS: u64 = 1;

/// Words of a reader's or a sender's block: ready, done; how much was right, and how much was
/// wrong.
pub const READY: usize = 0;
pub const COUNT: usize = 1;
pub const WRONG: usize = 2;

pub fn add(block: &'static Block, note: usize) {
    block.note(note).fetch_add(1, Release);
}

// --- in the reader -------------------------------------------------------------------------------

/// Binds the reader's own pool to it. Returns the pool and its Notification.
pub fn bind() -> (Pool, Notification) {
    let task = Task::at(Cap(utcb::current().local(Local::OwnTask) as u32));
    let pool = Pool::bind(EventPool::at(POOL), CELLS_LOG2, &own::process(), &task, POOL_VA, EVENTS);
    (pool.unwrap_or_else(|refusal| panic!("the reader has no pool: {refusal}")), Notification::at(NOTE))
}

/// Waits until another event may have come. Returns whether it slept.
pub fn wait(pool: &mut Pool, note: &Notification) -> bool {
    let sleeps = pool.arm();
    if sleeps && note.wait().is_err() {
        panic!("the reader cannot wait");
    }
    sleeps
}

// --- in the test ---------------------------------------------------------------------------------

/// A reader to be started.
pub struct Reader {
    pub place: Place,
    pub cpu: u32,
    pub entry: Entry,
    pub argument: u64,
    /// The number of its block.
    pub block: u32,
    /// Its exposure in the lab's group.
    pub exposed: Option<u32>,
}

impl Reader {
    /// Starts the reader. Returns its Notification, when it is ready.
    pub fn start(&self, lab: &mut Lab<'_>) -> Result<Notification, Failure> {
        Block::at(self.block).clear();
        let pool: EventPool = lab.nursery.make(u64::from(CELLS_LOG2))?;
        let note: Notification = lab.nursery.make(0)?;
        let cnode = &lab.child(self.place)?.cnode;
        copy(&pool, cnode.slot(POOL), Rights::ALL, 0)?;
        copy(&note, cnode.slot(NOTE), Rights::ALL, 0)?;
        let wanted = Wanted { place: self.place, cpu: self.cpu, ..Wanted::default() };
        let task = lab.task(&wanted, self.entry, self.argument)?.task;
        if let Some(index) = self.exposed {
            lab.group()?.expose_task(index, &task)?;
        }
        // The Notification moves to the reader's CPU with the task.
        note.bind(&task)?;
        task.resume()?;
        wait_for(lab, self.block, READY, 1, "a reader is ready")?;
        Ok(note)
    }
}

/// Waits until a word of a block has a value.
pub fn wait_for(lab: &Lab<'_>, block: u32, note: usize, value: u64, what: &str) -> Outcome {
    let word = Block::at(block).note(note);
    for _ in 0..20_000 {
        if word.load(Acquire) >= value {
            break;
        }
        lab.sleep(100_000);
    }
    expect_eq!(word.load(Acquire), value, "{what}");
    Ok(())
}
