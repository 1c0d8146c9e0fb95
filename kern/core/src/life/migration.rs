//! Moves a task to the CPU for which it was configured, when the task is resumed for the first
//! time.
//!
//! # What moves
//! The task's CPU-local state, its message block, and the SchedContext and the Notification that
//! are bound to it move. The best calls and events that are queued at the task go along, and the
//! others follow ([`crate::life::followers`]). A task that has never run has nothing else: it
//! neither waits nor serves, it holds its own SchedContext, and no other task waits for its
//! Notification.
//!
//! # Steps
//! 1. The source gives each part up ([`Held::leave_for`](smp::door::Held::leave_for)), so that no
//!    CPU can open it.
//! 2. The source pushes one [`Batch`](smp::mailbox::Batch): the task ([`Mail::Arrival`], in the
//!    node of its message block), then up to [`START_CALLERS`] of its callers and senders in their
//!    order. No later call can get between them.
//! 3. The destination becomes the home of each part ([`Homed::arrive`](smp::door::Homed::arrive)).
//!    The state word gets the new home last. Then the task runs, unless it was suspended meanwhile.
//!
//! # Mail about a part that is under way
//! While a part is under way, the source is still its home. So control bits, bits of a
//! Notification, calls and requests are sent to the source, even by the destination itself. The
//! source cannot open the part, and forwards the mail
//! ([`Homed::mail_target`](smp::door::Homed::mail_target)). The mail arrives after the task, which
//! nothing overtakes in a mailbox. The source also forwards mail that was sent to it before the
//! destination became the home.
//!
//! A task that destroys a part waits for the answer of the part's home, and so for its arrival. So
//! a part that is under way is alive, and the message refers to nothing else.
//!
//! An operation that only the home CPU can do is refused, and the error names the destination. On
//! the destination itself the operation restarts, since the part is about to arrive
//! ([`Cx::elsewhere`](crate::Cx::elsewhere)).

use kern_base::block::Block;
use kern_base::cpu::Mail;
use kern_base::limits::START_CALLERS;
use kern_base::machine::Machine;
use kern_base::task::{OpenTask, Task};
use smp::door::Ref;

use crate::rooms::Life;

impl<'k, M: Machine> Life<'k, M> {
    /// Sends a task that is resumed for the first time to the CPU where it is to run, with the best
    /// callers that are queued at it. The others follow. Returns: whether the task has left.
    pub fn move_to_start(self, task: OpenTask<'k>) -> bool {
        let (pin, to) = (self.pin(), task.start_on());
        let Some(cpu) = self.k.cpus.get(pin, to.index()).filter(|_| to != self.id()) else { return false };
        let word = task.word();
        let (callers, posters) = (task.take_calls(pin), task.posters.take_all(pin));
        if let Some(sc) = task.time.own(pin).and_then(|sc| sc.get().hot.hold(pin)) {
            sc.leave_for(to);
        }
        if let Some(object) = task.bound(pin).and_then(|object| object.get().hot.hold(pin)) {
            object.leave_for(to);
        }
        Block::take(task.object(), pin).leave_with_task(to);
        task.get().hot.hold_here(pin).leave_for(to);
        let mut batch = cpu.get().mailbox().batch(pin);
        task.get().msg_node.set_rank(self.rank_for(to));
        batch.add(task.object().map(|t| &t.msg_node), Mail::Arrival(task.object().ptr()));
        for _ in 0..START_CALLERS {
            let Some(block) = callers.pop(pin).or_else(|| posters.pop(pin)) else { break };
            self.ipc().send_along(block, task.object(), to, word, &mut batch);
        }
        self.outbox().interrupt(to, batch.push());
        self.follow(&callers, &posters);
        true
    }

    /// Takes over a task, with its parts, on the CPU where it is to run, and resumes it.
    #[inline(never)]
    pub fn task_arrived(self, task: Ref<'k, Task>) {
        let pin = self.pin();
        let whole = task.get().arrive(pin);
        let Some(task) = self.open(task).filter(|_| whole) else {
            panic!("{:?} got a task that was not sent to it", self.id());
        };
        if let Some(sc) = task.time.own(pin) {
            sc.get().hot.arrive(pin);
        }
        if let Some(object) = task.bound(pin) {
            object.get().hot.arrive(pin);
        }
        task.set_home(self.id());
        if !task.get().is_to_suspend() {
            self.resume(task);
        }
        self.time().dispatch();
    }
}
