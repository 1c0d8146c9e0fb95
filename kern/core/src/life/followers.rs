//! Calls and events that follow a task to the CPU to which it has moved.
//!
//! Any number of callers may wait at a task that moves. Its move sends the best few along
//! ([`crate::life::migration`]), and keeps the others in two queues of the CPU
//! ([`Followers`](kern_base::followers::Followers)), in a number of steps that does not depend on
//! how many they are. Then they follow one by one:
//!
//! 1. The CPU sends one block to its own mailbox, as a call of another CPU would come.
//! 2. The block comes out of the mailbox. First the CPU sends the next one there. Then it forwards
//!    this one to the CPU where the callee is, or refuses it if the callee is dead: `call_arrived`
//!    in `door/arrivals.rs`.
//!
//! So each block is the usual work of one message, and interrupts and better tasks come between.
//!
//! # Order
//! A call of higher priority goes first, and calls of one priority go in the order in which they
//! came. A later call of another task, which goes to the callee's new CPU directly, may arrive
//! before a call that still has to follow.
//!
//! # A wait that ends meanwhile
//! The callee has borrowed no time from these callers. So a caller that is cancelled or killed, or
//! whose deadline passes, just leaves the queue. If its block is the one in the mailbox, the end
//! waits for that block, as it does for all blocks under way.
//!
//! The callee may be back on this CPU meanwhile, and have a queue of callers again. A block does
//! not say in which queue it is, but the ends of the queues do: a block at an end of the callee's
//! queue is in that queue, and one at an end of these queues is in these. One in the middle can be
//! taken out of any.
//!
//! # Memory
//! The blocks refer to their callees. If a callee dies meanwhile, its memory stays until they have
//! left: this CPU puts off the questions of grace rounds for so long ([`crate::grace`]). That ends,
//! because with each question that comes round again one more block has left, and blocks that are
//! added meanwhile do not count.

use kern_base::block::{Block, BlockQueue};
use kern_base::machine::Machine;
use kern_base::task::Task;
use smp::door::Ref;

use crate::ipc::ends::no_callee;
use crate::rooms::Life;

impl<'k, M: Machine> Life<'k, M> {
    /// Makes the calls and events in these queues, whose receiver has left this CPU, follow it.
    pub fn follow(self, callers: &BlockQueue, posters: &BlockQueue) {
        for queue in [callers, posters].into_iter().filter(|queue| !queue.is_empty()) {
            self.sched.followers.add(self.pin(), queue);
            self.send_follower();
        }
    }

    /// Sends the next call or event that has to follow its receiver to this CPU's own mailbox,
    /// unless one is there already.
    pub fn send_follower(self) {
        let Some(block) = self.sched.followers.send_next(self.pin()) else { return };
        let Some(receiver) = block.callee(self.pin()) else { no_callee(block.task().get().id()) };
        self.ipc().send_after(block, receiver);
    }

    /// Takes out a call or event that has to follow its receiver. It has lent nothing.
    #[cold]
    #[inline(never)]
    pub fn unlink_follower(self, caller: Ref<'k, Task>) -> Block<'k> {
        let block = self.sched.followers.take(self.pin(), caller);
        block.unwrap_or_else(|| no_callee(caller.get().id()))
    }
}
