//! The message blocks on a CPU that have to follow their receivers to other CPUs.
//!
//! A task that is resumed for the first time may leave with any number of callers and senders. The
//! best few go along with it. The others wait here, and follow one by one: each entry that serves
//! one sends the next one off. `kern_core::life::followers` explains the steps.
//!
//! # Invariants
//! * A block in one of the two queues is on this CPU, in [`Stage::Queued`](crate::task::Stage). It
//!   names a callee that has left this CPU since. The callee may have ended, or may be back.
//! * Between entries, if a block is in a queue, then another one is `sent`: it is in this CPU's own
//!   mailbox. So the CPU comes here again without a timer.
//! * If a CPU is in `put_off`, its question in a grace round is in this CPU's own mailbox.
//!
//! # Grace rounds
//! The blocks name their callees, so the callees' memory must not be used again before the blocks
//! have left. A flush of mailboxes ([`smp::quiesce`]) sees only the block that is sent. So a CPU
//! that asks is answered after all blocks have left that were here when its question came. Those
//! are `first`, and, if `is_awaited`, the one that is sent. Blocks that come later wait in `later`,
//! and do not delay the answer, unless another CPU asks. Each CPU has one question at most, and a
//! question that is put off adds nothing when it comes round again.

use core::cell::Cell;

use smp::cpu::{CpuId, Pin};
use smp::cpuset::CpuSetCell;
use smp::door::{Link, Ref};

use crate::block::{Block, BlockQueue};
use crate::methods::methods;
use crate::task::Task;

/// The calls and events of a CPU that follow their receivers to other CPUs.
#[derive(Default)]
pub struct Followers {
    /// Blocks for whose leaving a question of another CPU waits. They leave first.
    first: BlockQueue,
    later: BlockQueue,
    /// The task whose block was sent to this CPU's own mailbox, and has not come out.
    sent: Link<Task>,
    /// A question of another CPU waits for the block that was sent.
    is_awaited: Cell<bool>,
    /// CPUs whose questions were put off, and how many they are.
    put_off: CpuSetCell,
    count: Cell<u32>,
}

methods! { Followers:
    /// Returns whether no block has to follow, and no question is put off.
    fn is_idle(self) -> bool = self.sent.is_null() && self.count.get() == 0;
    /// Adds all blocks of `blocks`, which then follow.
    fn add(self, pin: Pin<'_>, blocks: &BlockQueue) = self.later.append(pin, blocks);
    /// Returns the queue of the blocks that leave first, and that of the others. For surveys.
    fn queues(self) -> [&BlockQueue; 2] = [&self.first, &self.later];
    /// Returns the task whose block was sent.
    fn sent<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.sent.get(pin);
}

impl Followers {
    /// Takes the block that follows next, and notes that it is sent. Returns `None` if no block
    /// waits, or if one is sent already.
    pub fn send_next<'k>(&self, pin: Pin<'k>) -> Option<Block<'k>> {
        if !self.sent.is_null() {
            return None;
        }
        let first = self.first.pop(pin);
        self.is_awaited.set(first.is_some());
        let block = first.or_else(|| self.later.pop(pin))?;
        self.sent.set(Some(block.task()));
        Some(block)
    }

    /// Notes that the block of `task` has come out of this CPU's mailbox. Returns whether it is
    /// the one that was sent, so that the next one may follow.
    #[inline(always)]
    pub fn has_come(&self, task: Ref<'_, Task>) -> bool {
        let is_sent = self.sent.is(task);
        if is_sent {
            self.sent.set(None);
            self.is_awaited.set(false);
        }
        is_sent
    }

    /// Takes the block of `task` out, if it waits to follow.
    pub fn take<'k>(&self, pin: Pin<'k>, task: Ref<'k, Task>) -> Option<Block<'k>> {
        let queue = if self.first.may_take(pin, task) { &self.first } else { &self.later };
        queue.take(pin, task)
    }

    /// Returns whether the question of a CPU must come again, behind all mail that is there.
    pub fn puts_off(&self, pin: Pin<'_>, asker: CpuId) -> bool {
        let is_known = self.put_off.contains(asker);
        if !is_known {
            self.first.append(pin, &self.later);
            self.is_awaited.set(!self.sent.is_null());
        }
        let waits = self.is_awaited.get() || !self.first.is_empty();
        if waits != is_known {
            let change = if waits { CpuSetCell::insert } else { CpuSetCell::remove };
            change(&self.put_off, asker);
            self.count.set(if waits { self.count.get() + 1 } else { self.count.get() - 1 });
        }
        waits
    }
}
