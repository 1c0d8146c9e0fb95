//! Receives calls and bits: a task waits for a message, takes the next call from its queue, or
//! takes bits of its Notification.

use abi::{Error, FLAG_FAULT, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, TaskId};
use kern_base::block::Block;
use kern_base::limits::{REFUSED_STEPS, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::task::{State, Task, ctl};
use smp::door::Ref;

use crate::answer::{write_error, write_values};
use crate::args::Args;
use crate::payload::carry::PAYLOAD_FLAGS;
use crate::rooms::Ipc;
use crate::{Answer, OpenTask, Refusal, Result};

impl<'k, M: Machine> Ipc<'k, M> {
    /// Carries out [`abi::Op::Recv`].
    pub fn recv(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.begin_work();
        self.drop_unanswered(me);
        self.receive(me, args)
    }

    /// Fails the current call of a task that receives again without having answered.
    fn drop_unanswered(self, me: OpenTask<'k>) {
        if let Some(block) = me.take_caller(self.pin()) {
            if me.time.is_lent_by(block.task()) {
                self.time().give_back(me);
            }
            self.refuse(block, Refusal::Error { error: Error::Gone, detail: 0, who: me.get().id() });
        }
    }

    /// Receives for the running task: takes bits, else a queued call, else waits. The task may have
    /// no CPU time any more.
    pub fn receive(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        if me.has_pending() {
            let leaves = me.is_to_move() && self.receives_elsewhere(me, args);
            if leaves || self.take_pending(me) {
                return Ok(Answer::Settled);
            }
            self.time().leave_rest(me);
        }
        self.await_call(me, args)
    }

    /// Lets a task that is to move receive on its new CPU, if nothing keeps it here. Returns
    /// whether it does.
    #[cold]
    #[inline(never)]
    fn receives_elsewhere(self, me: OpenTask<'k>, args: &Args) -> bool {
        // Also what a dead caller has left it.
        self.time().give_back(me);
        if !self.time().leave_if_free(me) {
            return false;
        }
        if self.is_over_now(args) {
            // It looks there. A reply that this system call has made is over.
            self.rewind(me.part());
            self.time().dispatch();
        } else {
            self.wait_for_call(me, args);
        }
        true
    }

    /// Waits for a message, because nothing is pending.
    #[inline(always)]
    pub fn await_call(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        if MsgInfo(args.info).flags() != 0 {
            return self.receive_bounded(me, args);
        }
        me.enter(State::Recv);
        self.rest(me);
        Ok(Answer::Settled)
    }

    /// Takes pending bits or a queued call, if the task may have them now. Returns whether it took
    /// any.
    fn take_pending(self, me: OpenTask<'k>) -> bool {
        // On a waiting caller's time the task takes that call, and no bits.
        let own_time = self.time().own_at_rest(me).is_some();
        if me.has_pending_bits() && own_time {
            self.take_bound_bits(me);
            self.time().make_ready(me);
            self.time().dispatch();
            return true;
        }
        self.accept_next(me)
    }

    /// Waits for a message until a deadline, or answers an error immediately, as the flags say.
    #[cold]
    fn receive_bounded(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        if self.is_over_now(args) {
            let error = if args.deadline().is_some() { Error::Timeout } else { Error::WouldBlock };
            write_error(&me.regs, error, 0, TaskId::NONE);
            self.time().make_ready(me);
            self.time().dispatch();
        } else {
            self.wait_for_call(me, args);
        }
        Ok(Answer::Settled)
    }

    /// Returns whether a receive answers an error if nothing is there.
    fn is_over_now(self, args: &Args) -> bool {
        MsgInfo(args.info).has(FLAG_NONBLOCK) || args.deadline().is_some_and(|at| at <= self.k.machine.now())
    }

    /// Waits for a message, perhaps until a deadline.
    fn wait_for_call(self, me: OpenTask<'k>, args: &Args) {
        let deadline = args.deadline();
        me.enter(if deadline.is_some() { State::RecvTimed } else { State::Recv });
        if let Some(at) = deadline {
            // Not the present time: a reply may have given the CPU to the caller.
            let own = self.time().own_at_rest(me).and_then(|own| self.open_time(own));
            self.time().set_deadline_at(me.object(), at, own.map_or(0, |sc| sc.state.priority()));
        }
        self.rest(me);
    }

    /// Lets a receiving task take bits or calls that could not be received before, for example
    /// while it was suspended.
    pub fn receive_pending(self, task: OpenTask<'k>) {
        if !self.is_receiving(task.part()) {
            return;
        }
        let me = task;
        let bits = task.has_pending_bits() && self.time().own_at_rest(task).is_some();
        if !bits && task.callers().is_empty() {
            return;
        }
        if bits {
            self.take_bound_bits(me);
            self.time().clear_deadline(task);
            self.time().make_ready(task);
        } else {
            // If none of the calls can be received, the task continues to wait until its deadline.
            self.accept_next(me);
        }
    }

    /// Stops a task that waits without having made a call. Borrowed CPU time goes back to its
    /// lender.
    #[inline(always)]
    pub fn rest(self, me: OpenTask<'k>) {
        self.time().give_back(me);
        self.park(me);
    }

    /// Stops a task, running or not, without giving CPU time back.
    #[inline(always)]
    pub fn park(self, me: OpenTask<'k>) {
        if self.hot.current.is(me.object()) {
            self.time().block_current();
            return;
        }
        if let Some(sc) = self.time().time_of(me)
            && self.time().is_active(sc)
        {
            self.time().withdraw(sc);
        }
        self.time().dispatch();
    }

    /// Takes the bits of the bound Notification, and answers the receive with them.
    fn take_bound_bits(self, me: OpenTask<'k>) {
        let object = me.bound(self.pin());
        let bits = object.and_then(|n| n.get().hot.open(self.pin())).map_or(0, |n| n.bits.take());
        if let Some(object) = object {
            self.trace().note_bits(me.object(), object);
        }
        me.set_bits_pending(false);
        write_values(&me.regs, MsgInfo(FLAG_NOTIFICATION), [0, 0, bits, 0]);
    }

    /// Takes the best queued call that can be received. Returns whether there was one. Continues by
    /// mail if the entry has no work left after a call that cannot be received, or for the pages of
    /// a call; until then the task waits.
    fn accept_next(self, me: OpenTask<'k>) -> bool {
        for step in 0..REFUSED_STEPS {
            let is_late = step > 0 && !self.has_work(WAKE_WORK);
            if is_late || !self.has_work(1) && self.next_call_has_pages(me) {
                break;
            }
            let Some(block) = me.next_call(self.pin()) else { return false };
            let info = block.info();
            if info.has(PAYLOAD_FLAGS)
                && let Err(why) = self.payload().pass_waiting_load(block.task(), me.object(), info)
            {
                self.refuse(block, why);
                self.note_work(WAKE_WORK);
                continue;
            }
            self.accept(me, block);
            return true;
        }
        if !me.callers().is_empty() {
            self.outbox().raise_control(me.object(), ctl::RECEIVE);
        }
        false
    }

    /// Returns whether the call that a task receives next has pages.
    pub fn next_call_has_pages(self, task: OpenTask<'k>) -> bool {
        task.callers().tasks().first(self.pin()).is_some_and(|caller| self.payload().sends_pages(caller))
    }

    /// Receives a queued call. The receiver continues on the caller's time.
    fn accept(self, me: OpenTask<'k>, block: Block<'k>) {
        let (caller, words) = (block.task(), block.words());
        self.trace().note_received(caller, me.object());
        self.copy_utcb(caller, me.object(), words.info.words());
        self.write_message(me.part(), words, block.sender());
        block.mark_received();
        me.serve(block);
        if words.info.has(FLAG_FAULT) {
            self.show_fault(caller, me);
        }
        if let Some(caller) = self.open(caller) {
            caller.enter(if caller.deadline.is_queued() { State::AwaitTimed } else { State::Await });
        }
        self.time().clear_deadline(me);
        me.enter(State::Ready);
        if !me.time.is_lent_by(caller) {
            self.take_up(me, caller);
        }
        if !self.hot.current.is(me.object()) {
            self.time().start(me);
            self.time().attend(me);
            self.time().mind_less_time();
        }
        self.time().dispatch();
    }

    /// Lends a caller's time to the receiver of its call. Time that the receiver had borrowed
    /// before goes back, and its own time stops.
    fn take_up(self, me: OpenTask<'k>, caller: Ref<'k, Task>) {
        self.time().give_back(me);
        // The caller had no time, or it was taken away since, or its budget is used up: the
        // receiver goes on with its own.
        let Some(sc) = self.time().resting_time(caller) else { return };
        if self.time().is_worse_than_own(sc, me) {
            return;
        }
        if self.hot.current.is(me.object()) {
            self.time().stop_current();
        }
        self.time().lend(sc, caller, me);
    }
}
