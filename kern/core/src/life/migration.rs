//! Moves a task to another CPU: to the one for which it was configured, when it is first resumed;
//! to the CPU of the task that configures it; and wherever [`abi::Op::TaskMove`] says.
//!
//! # What moves
//! The task's CPU-local state, its message block, and the SchedContext and the Notification that
//! are bound to it move. The best calls and events that are queued at the task go along, and the
//! others follow ([`crate::life::followers`]). The deadline of a receive goes along, too. A task
//! that moves has nothing else: it is ready or receives, it serves nobody and runs on nobody's
//! time, it holds its own SchedContext, and no other task waits for its Notification.
//!
//! # A move that comes later
//! A task that waits in a call, for bits or for a lock, or serves a call, is told to move
//! ([`TaskHot::is_to_move`](kern_base::task::TaskHot::is_to_move)), and has a place on both CPUs
//! until it leaves. It leaves when nothing keeps it any more: when its wait is over, when it has
//! answered, or when it receives again, before it takes the next call. The fast path leaves such a
//! task to the slow path. There the task stops ([`Time::leave_if_free`](crate::rooms::Time)), and a
//! control bit resumes it in an entry that does nothing else with it: that sends it away.
//!
//! A task that runs, or rests until its next window, is suspended for its way. Its registers are in
//! its frame, and its vector registers are saved before it leaves.
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

use abi::Error;
use abi::status::SchedEvent;
use kern_base::block::Block;
use kern_base::cpu::{CpuBlock, MOVED, Mail};
use kern_base::header::FLAG_DYING;
use kern_base::limits::START_CALLERS;
use kern_base::machine::Machine;
use kern_base::task::{FLAG_SUSPENDED, FLAG_VECTOR, OpenTask, State, Task};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::outbox::mail::Next;
use crate::rooms::Life;
use crate::{NOT_COVERED, Result, refuse_if};

/// Work of sending a task to another CPU for a task of a third one.
pub const MOVE_WORK: u64 = 1_000;

impl<'k, M: Machine> Life<'k, M> {
    /// Sends a task that is resumed to the CPU where it is to run. Returns: whether the task has
    /// left.
    #[inline]
    pub fn move_to_start(self, task: OpenTask<'k>) -> bool {
        let to = task.start_on();
        to != self.id() && self.leave_for(task, to)
    }

    /// Sends a task to the CPU where it is to run: at its first resume in any case, later if
    /// nothing keeps it here. Returns: whether the task has left.
    #[cold]
    #[inline(never)]
    pub fn leave_for(self, task: OpenTask<'k>, to: CpuId) -> bool {
        if !task.is_to_move() {
            return self.move_to(task, to);
        }
        let leaves = self.time().can_leave(task);
        if leaves {
            self.note_work(MOVE_WORK);
            self.send_away(task, to);
            self.time().leave_place_here();
        }
        leaves
    }

    /// Takes a place on CPU `to` for a task of this CPU that is to move there. Returns: whether the
    /// task's own time can go along now.
    /// Errors: Dying, OverLimit, Parked, WouldBlock.
    #[inline(always)]
    pub fn admit_move(self, task: OpenTask<'k>, to: CpuId) -> Result<bool> {
        refuse_if(task.is_dying(), Error::Dying)?;
        let own_goes = self.time().own_goes_along(task, to).ok_or(NOT_COVERED)?;
        // When that ends, nothing looks whether the task is to move.
        refuse_if(self.time().gives_away(task), Error::WouldBlock)?;
        self.time().take_place(to)?;
        Ok(own_goes)
    }

    /// Moves a task for which [`Life::admit_move`] has taken a place, now or as soon as nothing
    /// keeps it here. If it is suspended, it stays so. Returns: whether it moves later.
    #[inline(always)]
    pub fn move_task(self, task: OpenTask<'k>, to: CpuId, own_goes: bool) -> bool {
        let (here, from) = (self.id(), task.start_on());
        // One that was never resumed has only the place where it is to run.
        let is_new = from != here && !task.is_to_move();
        if from != here {
            self.time().leave_place(from);
        }
        task.set_start_on(to);
        self.add_home(task, to);
        let is_resumed = task.has_flag(FLAG_SUSPENDED) && !task.get().is_to_suspend();
        let leaves = to != here && !is_resumed && own_goes && self.time().gets_free(task);
        if leaves {
            self.send_away(task, to);
        } else if to == here {
            task.end_move();
        } else if !is_new {
            task.begin_move();
        }
        if !is_new && (to == here || leaves) {
            self.time().leave_place_here();
        }
        to != here && !leaves
    }

    /// Sends a task of this CPU that can leave it to another one. It has given the time of others
    /// back.
    #[inline(always)]
    fn send_away(self, task: OpenTask<'k>, to: CpuId) {
        task.end_move();
        if self.sched.interrupted.get() == task.object().addr() {
            self.sched.interrupted.set(MOVED);
            if task.has_flag(FLAG_VECTOR) {
                self.k.machine.save_vector(task.get().vector(self.pin()));
            }
        }
        if !task.has_flag(FLAG_SUSPENDED) {
            self.time().stop_own(task);
            task.suspend();
        }
        self.trace().note_leaves(task.object());
        self.move_to(task, to);
    }

    /// Notes that CPU `to` may have translations of the task's address space, before it runs there.
    fn add_home(self, task: OpenTask<'k>, to: CpuId) {
        let process = task.process_if_any(self.pin());
        let vspace = process.and_then(|process| process.get().vspace.get(self.pin()));
        if let Some(vspace) = vspace.filter(|vspace| !vspace.get().homes.contains(to)) {
            let _guard = vspace.get().lock(self.cpu);
            vspace.get().add_home(to);
        }
    }

    /// Serves a request to send a new task to the CPU of the task that configures it. If it was
    /// configured meanwhile, or is dying, it stays: the asking task makes its system call again,
    /// and that is refused.
    pub fn serve_bring(self, asker: Ref<'k, Task>, wanted: Ref<'k, Task>) -> Next<'k> {
        if wanted.get().header.has_flag(FLAG_DYING) {
            return Next::Done;
        }
        let Some(task) = self.open(wanted) else {
            return Next::Go(wanted.get().hot.mail_target(self.pin()));
        };
        let to = asker.get().hot.home();
        let is_new = task.state() == State::Fresh && task.process_if_any(self.pin()).is_none();
        if is_new && to != self.id() {
            self.move_to(task, to);
        }
        Next::Done
    }

    /// Sends a task of this CPU that stands still to another CPU, with the best callers that are
    /// queued at it. The others follow. Returns: whether the task has left.
    #[inline(always)]
    fn move_to(self, task: OpenTask<'k>, to: CpuId) -> bool {
        let pin = self.pin();
        let Some(cpu) = self.k.cpus.get(pin, to.index()) else { return false };
        self.time().clear_deadline(task);
        if let Some(own) = task.time.own(pin).and_then(|own| self.open_time(own)) {
            self.time().tell_event(own, SchedEvent::Moved, u64::from(to.raw()));
        }
        if !(task.callers().is_empty() && task.posters.is_empty() && task.waiters.is_empty()) {
            self.move_with_others(task, cpu);
            return true;
        }
        self.hand_over(task, to);
        let node = task.object().map(|t| &t.msg_node);
        self.outbox().push(cpu.get(), node, Mail::Arrival(task.object().ptr()));
        true
    }

    /// Does what [`Life::move_to`] does for a task for which others wait.
    #[cold]
    #[inline(never)]
    fn move_with_others(self, task: OpenTask<'k>, cpu: Ref<'k, CpuBlock>) {
        let (pin, to, word) = (self.pin(), cpu.get().id(), task.word());
        let (callers, posters) = (task.take_calls(pin), task.posters.take_all(pin));
        if !task.waiters.is_empty() {
            // They wake on their way, and ask again.
            posters.append(pin, &task.waiters.take_all(pin));
        }
        self.hand_over(task, to);
        let mut batch = cpu.get().mailbox().batch(pin);
        batch.add(task.object().map(|t| &t.msg_node), Mail::Arrival(task.object().ptr()));
        for _ in 0..START_CALLERS {
            let Some(block) = callers.pop(pin).or_else(|| posters.pop(pin)) else { break };
            self.ipc().send_along(block, task.object(), to, word, &mut batch);
        }
        self.outbox().interrupt(to, batch.push());
        self.follow(&callers, &posters);
    }

    /// Gives a task up with its parts: from here on they are under way to CPU `to`.
    #[inline(always)]
    fn hand_over(self, task: OpenTask<'k>, to: CpuId) {
        let pin = self.pin();
        if let Some(sc) = task.time.own(pin).and_then(|sc| sc.get().hot.hold(pin)) {
            sc.leave_for(to);
        }
        if let Some(object) = task.bound(pin).and_then(|object| object.get().hot.hold(pin)) {
            object.leave_for(to);
        }
        Block::take(task.object(), pin).leave_with_task(to);
        task.get().hot.hold_here(pin).leave_for(to);
        task.get().msg_node.set_rank(self.rank_out());
    }

    /// Takes over a task, with its parts, on the CPU where it is to run, and resumes it.
    #[cold]
    #[inline(never)]
    pub fn task_arrived(self, task: Ref<'k, Task>) {
        let pin = self.pin();
        assert!(task.get().arrive(pin), "{:?} got a task that was not sent to it", self.id());
        let task = OpenTask::here(task, pin);
        if let Some(sc) = task.time.own(pin) {
            sc.get().hot.arrive(pin);
        }
        if let Some(object) = task.bound(pin) {
            object.get().hot.arrive(pin);
        }
        task.set_home(self.id());
        if task.process_if_any(pin).is_some() {
            task.get().tell_home(pin, self.id());
        }
        if task.is_in(State::RecvTimed) {
            self.set_deadline_again(task);
        }
        if !task.get().is_to_suspend() {
            self.resume(task);
        }
        self.time().dispatch();
    }

    /// Sets the deadline of a task that has taken it along, at the priority of its own time.
    #[cold]
    fn set_deadline_again(self, task: OpenTask<'k>) {
        let own = self.time().own_at_rest(task).and_then(|own| self.open_time(own));
        let priority = own.map_or(0, |sc| sc.state.priority());
        self.time().set_deadline_at(task.object(), task.deadline.last(), priority);
    }
}
