//! CPU time: whose it is, who spends it, how it comes back.
//!
//! A SchedContext belongs to the task it is bound to, its *owner*. A call lends it to the callee, which
//! lends it on when it calls in turn; so it is always with one task, its *holder*. Every task on the way
//! knows whose call brought the time: its *lender*. A reply returns it. A callee that blocks otherwise
//! than by calling returns it, too: it then *rests* with the caller, who waits, and is borrowed again by
//! a callee that has nothing else to go on with.
//!
//! # Invariants, between entries
//! For every context `s` that is on this CPU, with holder `t`:
//! * `t` is of this CPU, and `t.sc` is `s`, or `t.own_sc` is and `t` goes on with a caller's time; or
//!   `t`'s message block is on this CPU and `msg.sc` is `s`. No holder: nobody uses it.
//! * `s` runs or is queued exactly when `t` is runnable and `t.sc` is `s`.
//!
//! For every task `t` of this CPU:
//! * `t.sc` is its time. While it waits in a call whose callee's lender it is, `t.sc` says nothing.
//! * `t.lender` is the caller whose time `t` has, or has lent on. While `t` receives it says nothing.
//! * A task that may run, or receives, holds its own time, if it has any.
//!
//! Between CPUs time travels in message blocks: with a call, with the reply, or with a [`Request`] by
//! which a task that went on otherwise than by a reply asks for what it had lent ([`Cx::seek`]).

use abi::TaskId;
use kern_base::machine::Machine;
use kern_base::sched_context::{SchedContext, SchedHot};
use kern_base::task::{FLAG_SUSPENDED, Request, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::Cx;
use crate::schedule::{has_flag, runnable, set_state, state_of};

/// Longest chain of calls, or list of kept calls, that CPU time is followed along in one entry.
const CHAIN_LIMIT: usize = 32;

/// Where a task that waits in a call and has nothing to lend finds CPU time: its own, what had rested with a
/// caller and is to go down the calls now, or what such a caller finds.
pub enum Above<'k> {
    Own(Ref<'k, SchedContext>),
    Rested(Ref<'k, SchedContext>, &'k SchedHot),
    Caller(Ref<'k, Task>),
    Nobody,
}

impl<'k, M: Machine> Cx<'k, M> {
    /// Who lent a task the time that it has or has lent on.
    fn lender_of(self, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        match state_of(hot) {
            State::Recv | State::RecvTimed => None,
            _ => hot.lender.get(self.pin()),
        }
    }

    /// `callee` goes on with time that rests with `lender`, whose call is here.
    #[inline(always)]
    pub fn lend(
        self,
        sc: Ref<'k, SchedContext>,
        sc_hot: &SchedHot,
        lender: Ref<'k, Task>,
        callee: Ref<'k, Task>,
        hot: &TaskHot,
    ) {
        if self.task_hot(lender).is_none()
            && let Some(msg) = lender.get().msg.open(self.pin())
        {
            msg.sc.set(None);
        }
        hot.sc.set(Some(sc));
        hot.lender.set(Some(lender));
        sc_hot.task.set(Some(callee));
    }

    /// The time that rests with a caller whose call is on this CPU, and which the caller has not lent.
    #[inline]
    pub fn resting_time(self, caller: Ref<'k, Task>) -> Option<(Ref<'k, SchedContext>, &'k SchedHot)> {
        let sc = match self.task_hot(caller) {
            Some(hot) => hot.sc.get(self.pin())?,
            None => caller.get().msg.open(self.pin())?.sc.get(self.pin())?,
        };
        Some((sc, self.sc_hot(sc)?))
    }

    /// A task's own time, if it is here and with that task.
    pub fn own_at_rest(self, task: Ref<'k, Task>, hot: &TaskHot) -> Option<Ref<'k, SchedContext>> {
        let rests = |own: &Ref<'k, SchedContext>| self.sc_hot(*own).is_some_and(|sc| sc.task.is(task));
        hot.own_sc.get(self.pin()).filter(rests)
    }

    /// Lets time rest with a task of this CPU, or in the message block that a task of another has here.
    fn rest_with(self, task: Ref<'k, Task>, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot) {
        sc_hot.task.set(Some(task));
        if let Some(hot) = self.task_hot(task) {
            hot.sc.set(Some(sc));
        } else if let Some(msg) = task.get().msg.open(self.pin()) {
            msg.sc.set(Some(sc));
        }
    }

    /// Whether a context of this CPU runs or is queued.
    #[inline(always)]
    pub fn is_active(self, sc: Ref<'k, SchedContext>) -> bool {
        self.sched.current.is(sc) || self.sched.queue.contains(self.pin(), sc)
    }

    /// Takes a context off the CPU or out of the queue, wherever it is here.
    pub fn withdraw(self, sc: Ref<'k, SchedContext>) {
        if self.sched.current.is(sc) {
            self.stop_current();
        } else {
            self.sched.queue.remove(self.pin(), sc);
        }
    }

    // --- coming back -----------------------------------------------------------------------------

    /// `task` blocks otherwise than by calling: time that is not its own goes back to its lender.
    #[inline(always)]
    pub fn give_back(self, task: Ref<'k, Task>, hot: &TaskHot) {
        let Some(sc) = hot.sc.get(self.pin()) else { return };
        if !hot.own_sc.is(sc) {
            self.give_back_borrowed(task, hot, sc);
        }
    }

    fn give_back_borrowed(self, _task: Ref<'k, Task>, hot: &TaskHot, sc: Ref<'k, SchedContext>) {
        hot.sc.set(hot.own_sc.get(self.pin()));
        let lender = hot.lender.take(self.pin());
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        self.withdraw(sc);
        match lender {
            Some(lender) => self.rest_with(lender, sc, sc_hot),
            None => sc_hot.task.set(None),
        }
    }

    /// What `task`, which is running, got from `caller`'s call, goes back to `caller` of this CPU: whether
    /// there was any. It may still be running; the caller of this sees to it that the right task does.
    #[inline(always)]
    pub fn return_time(
        self,
        hot: &TaskHot,
        caller: Ref<'k, Task>,
        caller_hot: &TaskHot,
    ) -> Option<Ref<'k, SchedContext>> {
        if !hot.lender.is(caller) {
            return None;
        }
        let sc = hot.sc.get(self.pin())?;
        hot.sc.set(hot.own_sc.get(self.pin()));
        hot.lender.set(None);
        caller_hot.sc.set(Some(sc));
        self.sc_hot(sc)?.task.set(Some(caller));
        Some(sc)
    }

    /// `caller`'s call to `callee` is over for `caller`, not by `callee`'s own doing. Time that it lent comes
    /// back to it, from however deep on this CPU; who had it goes on with its own or its next caller's.
    pub fn recover(self, caller: Ref<'k, Task>, callee: Ref<'k, Task>, hot: &'k TaskHot) {
        if self.lender_of(hot) != Some(caller) {
            return;
        }
        let found = self.deepest(callee, hot);
        hot.lender.set(None);
        let Some((holder, holder_hot, sc)) = found else {
            if let Some(caller_hot) = self.task_hot(caller) {
                caller_hot.sc.set(None);
            }
            return;
        };
        let Some(sc_hot) = self.sc_hot(sc) else { return };
        self.take_from(holder_hot, sc);
        self.rest_with(caller, sc, sc_hot);
        if runnable(holder_hot) {
            self.start(holder, holder_hot);
        }
    }

    /// `caller`, who dies, leaves its time with `callee` until that one blocks or uses it up.
    pub fn bequeath(self, caller: Ref<'k, Task>, hot: &TaskHot) {
        if self.lender_of(hot) == Some(caller) {
            hot.lender.set(None);
            if let Some(caller_hot) = self.task_hot(caller) {
                caller_hot.sc.set(None);
            }
        }
    }

    /// At the end of the calls of this CPU with which `task` lent its time on: who has it, and the time.
    fn deepest(
        self,
        task: Ref<'k, Task>,
        hot: &'k TaskHot,
    ) -> Option<(Ref<'k, Task>, &'k TaskHot, Ref<'k, SchedContext>)> {
        let mut at = (task, hot);
        for _ in 0..CHAIN_LIMIT {
            match self.lent_to(at.0, at.1) {
                Some(next) => at = next,
                None => return Some((at.0, at.1, at.1.sc.get(self.pin())?)),
            }
        }
        None
    }

    /// The callee of this CPU to which a task's call has lent its time.
    pub fn lent_to(self, task: Ref<'k, Task>, hot: &TaskHot) -> Option<(Ref<'k, Task>, &'k TaskHot)> {
        if !matches!(state_of(hot), State::Sending | State::Await | State::AwaitTimed) {
            return None;
        }
        self.callee_here(task).filter(|(_, hot)| self.lender_of(hot) == Some(task))
    }

    /// Takes time from a task of this CPU that has it. Whether it still can run is the caller's care.
    fn take_from(self, hot: &TaskHot, sc: Ref<'k, SchedContext>) {
        self.withdraw(sc);
        hot.spell_out();
        self.forget_lender(hot);
        hot.sc.set(hot.own_sc.get(self.pin()).filter(|own| *own != sc));
    }

    /// Takes a context of this CPU from whoever has it. That one goes on as it can.
    pub fn seize(self, sc: Ref<'k, SchedContext>, sc_hot: &SchedHot) {
        self.withdraw(sc);
        let Some(holder) = sc_hot.task.take(self.pin()) else { return };
        let hot = self.task_hot(holder);
        if let Some(hot) = hot.filter(|hot| hot.sc.is(sc) && self.lent_to(holder, hot).is_none()) {
            self.take_from(hot, sc);
            if runnable(hot) {
                self.start(holder, hot);
            }
        } else if let Some(msg) = holder.get().msg.open(self.pin()).filter(|msg| msg.sc.is(sc)) {
            msg.sc.set(None);
        }
    }

    // --- finding some ----------------------------------------------------------------------------

    /// `task` became runnable: queues its time, or finds it some.
    #[inline]
    pub fn start(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        match hot.sc.get(self.pin()) {
            Some(sc) => self.enqueue_once(sc),
            None => self.find_time(task, hot),
        }
    }

    #[inline]
    fn enqueue_once(self, sc: Ref<'k, SchedContext>) {
        if !self.is_active(sc) {
            self.enqueue(sc);
        }
    }

    /// A task without time is runnable: its own comes back, or it goes on with a waiting caller's. Without
    /// either it stays ready until somebody calls it or gives it time.
    #[cold]
    #[inline(never)]
    fn find_time(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if let Some(own) = hot.own_sc.get(self.pin()) {
            match self.sc_hot(own) {
                Some(own_hot) => self.take_own(task, hot, own, own_hot),
                None => self.seek(
                    task,
                    hot,
                    own.get().hot.mail_target(self.pin()),
                    Request::Fetch(own.ptr()),
                    TaskId::NONE,
                ),
            }
        } else if !self.borrow(task, hot) && self.callers(hot).next().is_some() {
            // By mail: it may be in the middle of a system call.
            self.raise_control(task, ctl::SEEK);
        }
    }

    /// What that mail is for.
    pub fn look_for_time(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if runnable(hot) && hot.sc.is_null() && hot.own_sc.is_null() && !self.borrow(task, hot) {
            self.ask_callers(task, hot, TaskId::NONE);
        }
    }

    /// Asks a task's callers for time, one after the other, that they or those above them have: the one after
    /// `asked`. All are asked again if any of them was given some meanwhile.
    #[cold]
    fn ask_callers(self, task: Ref<'k, Task>, hot: &'k TaskHot, asked: TaskId) {
        let again = hot.look_again.take();
        let asked = self.callers(hot).position(|c| !again && c.get().id() == asked);
        let Some(caller) = self.callers(hot).nth(asked.map_or(0, |at| at + 1)) else { return };
        self.forget_lender(hot);
        let request = Request::Seek(caller.ptr(), CHAIN_LIMIT as u8);
        self.seek(task, hot, caller.get().hot.mail_target(self.pin()), request, caller.get().id());
    }

    /// A task that waits in a call was given time, or a caller with some: for whoever has none down its calls.
    pub fn start_callee(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        if let Some((callee, hot)) = self.callee_below(task, hot) {
            self.start_last(callee, hot);
        }
    }

    /// A caller of `task` has time. Who could go on with it, `task` or the last down its calls, looks for it
    /// unless it has some. What those in between have in `sc` says nothing.
    pub fn start_last(self, task: Ref<'k, Task>, hot: &'k TaskHot) {
        let mut at = (task, hot);
        for _ in 0..CHAIN_LIMIT {
            if runnable(at.1) {
                if at.1.sc.is_null() {
                    self.start(at.0, at.1);
                }
                return;
            }
            let Some(below) = self.callee_below(at.0, at.1) else { return };
            at = below;
        }
    }

    /// The callee of this CPU of a task that waits in a call. Where that is elsewhere, and asked for time: tells
    /// it.
    fn callee_below(self, task: Ref<'k, Task>, hot: &TaskHot) -> Option<(Ref<'k, Task>, &'k TaskHot)> {
        match state_of(hot) {
            State::Sending | State::Await | State::AwaitTimed => self.callee_here(task),
            State::AwaitRemote => {
                if hot.wanted.take() {
                    self.raise_with_message(task, ctl::TIME);
                }
                None
            }
            State::Restart => {
                hot.look_again.set(true);
                None
            }
            _ => None,
        }
    }

    /// Who has a task's call, or will receive it, on this CPU.
    fn callee_here(self, task: Ref<'k, Task>) -> Option<(Ref<'k, Task>, &'k TaskHot)> {
        let callee = task.get().msg.open(self.pin())?.callee.get(self.pin())?;
        Some((callee, self.task_hot(callee)?))
    }

    /// The owner of a message block that is here was given time: as [`Cx::start_callee`].
    pub fn time_arrived(self, caller: Ref<'k, Task>) {
        if let Some((callee, hot)) = self.callee_here(caller) {
            self.start_last(callee, hot);
        }
    }

    fn take_own(self, task: Ref<'k, Task>, hot: &TaskHot, own: Ref<'k, SchedContext>, own_hot: &SchedHot) {
        if !own_hot.task.is(task) {
            self.seize(own, own_hot);
            own_hot.task.set(Some(task));
        }
        self.forget_lender(hot);
        hot.sc.set(Some(own));
        self.enqueue_once(own);
    }

    /// Goes on with the time that rests with a waiting caller: the one it serves, the best that is queued, or
    /// one whose call it keeps. Whether there was one.
    pub fn borrow(self, task: Ref<'k, Task>, hot: &TaskHot) -> bool {
        let Some((lender, sc, sc_hot)) = self.callers(hot).find_map(|c| self.lendable(hot, c)) else {
            return false;
        };
        self.forget_lender(hot);
        self.lend(sc, sc_hot, lender, task, hot);
        self.enqueue_once(sc);
        true
    }

    /// The lenders of this CPU keep the time that went through them in their `sc`, too: a fast reply leaves it
    /// there. It may be another than they lent, if that was lost and time of somebody further down the chain
    /// took its place.
    pub fn note_lent(self, hot: &TaskHot, sc: Ref<'k, SchedContext>) {
        if let Some(lender) = hot.lender.get(self.pin()).and_then(|t| self.task_hot(t)) {
            self.note_with_lenders(lender, sc);
        }
    }

    /// The same for a lender and those above it, up to one that knows.
    fn note_with_lenders(self, lender: &TaskHot, sc: Ref<'k, SchedContext>) {
        let mut at = lender;
        for _ in 0..CHAIN_LIMIT {
            if at.sc.is(sc) {
                return;
            }
            at.sc.set(Some(sc));
            match at.lender.get(self.pin()).and_then(|t| self.task_hot(t)) {
                Some(above) => at = above,
                None => return,
            }
        }
    }

    /// A task goes on with other time than its lender's, which was lost on the way. Of what the lender has now
    /// its own time is left, if that rests with it; then it is done with its own lender's, too.
    pub fn forget_lender(self, hot: &TaskHot) {
        let mut at = hot;
        for _ in 0..CHAIN_LIMIT {
            let lender = self.lender_of(at).and_then(|t| Some((t, self.task_hot(t)?)));
            at.lender.set(None);
            let Some((lender, lender_hot)) = lender else { return };
            let own = self.own_at_rest(lender, lender_hot);
            lender_hot.sc.set(own);
            if own.is_none() {
                return;
            }
            at = lender_hot;
        }
    }

    /// What may serve those down the calls of a task that waits in one, now that all it had lent is lost.
    pub fn time_above(self, hot: &TaskHot) -> Above<'k> {
        if let Some(own) = hot.own_sc.get(self.pin()) {
            self.forget_lender(hot);
            return Above::Own(own);
        }
        if let Some((lender, sc, sc_hot)) = self.callers(hot).find_map(|c| self.lendable(hot, c)) {
            self.forget_lender(hot);
            hot.lender.set(Some(lender));
            self.seize(sc, sc_hot);
            return Above::Rested(sc, sc_hot);
        }
        let lender = hot.lender.get(self.pin());
        lender.or_else(|| self.callers(hot).next()).map_or(Above::Nobody, Above::Caller)
    }

    /// The callers of a task: the one that it serves, those in the queue, the best first, those kept.
    fn callers(self, hot: &TaskHot) -> impl Iterator<Item = Ref<'k, Task>> + use<'_, 'k, M> {
        let queued = hot.senders.iter(self.pin()).map(|(_, caller)| caller).take(CHAIN_LIMIT);
        hot.caller.get(self.pin()).into_iter().chain(queued).chain(self.kept(hot))
    }

    /// The callers whose calls a task keeps in Reply objects.
    fn kept(self, hot: &TaskHot) -> impl Iterator<Item = Ref<'k, Task>> + use<'k, M> {
        let inside = move |reply: Ref<'k, kern_base::reply::Reply>| reply.get().hot.open(self.pin());
        core::iter::successors(hot.replies.get(self.pin()), move |reply| inside(*reply)?.next.get(self.pin()))
            .take(CHAIN_LIMIT)
            .filter_map(move |reply| inside(reply)?.caller.get(self.pin()))
    }

    /// A caller of `hot`'s task with its time, where that rests.
    fn lendable(
        self,
        hot: &TaskHot,
        caller: Ref<'k, Task>,
    ) -> Option<(Ref<'k, Task>, Ref<'k, SchedContext>, &'k SchedHot)> {
        if hot.lender.is(caller) && self.task_hot(caller).is_some() {
            // It lent its time, and that was lost on the way: its `sc` says nothing.
            return None;
        }
        let (sc, sc_hot) = self.resting_time(caller)?;
        Some((caller, sc, sc_hot))
    }

    /// A task that is ready to go on, with nothing to spend, asks for time that is its to spend, or that `caller`
    /// will have lent it. Its message block, which carries the request, is home, since its call is over.
    fn seek(self, task: Ref<'k, Task>, hot: &TaskHot, to: CpuId, request: Request, caller: TaskId) {
        let Some(msg) = task.get().msg.open(self.pin()) else { return };
        set_state(hot, State::Restart);
        self.send_request(task, msg, to, request, caller);
    }

    /// What was sought has come with the task's message block, or not. `asked` is the caller that was asked, who
    /// may be no more.
    pub fn found_time(
        self,
        task: Ref<'k, Task>,
        hot: &'k TaskHot,
        sc: Option<Ref<'k, SchedContext>>,
        asked: TaskId,
    ) {
        if let Some((sc, sc_hot)) = sc.and_then(|sc| Some((sc, self.sc_hot(sc)?))) {
            let lender = self.callers(hot).find(|c| c.get().id() == asked);
            if hot.own_sc.is(sc) {
                hot.lender.set(None);
                hot.sc.set(Some(sc));
            } else if lender.is_none() {
                // Whose it was has gone meanwhile: it is not this task's to spend.
                sc_hot.task.set(None);
            } else {
                hot.lender.set(lender);
                self.note_lent(hot, sc);
                hot.sc.set(Some(sc));
            }
        }
        if has_flag(hot, FLAG_SUSPENDED) {
            return;
        }
        match hot.sc.get(self.pin()) {
            Some(sc) => self.enqueue_once(sc),
            None if self.borrow(task, hot) => {}
            None => self.ask_callers(task, hot, asked),
        }
    }
}
