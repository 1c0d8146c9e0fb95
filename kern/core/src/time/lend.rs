//! Donation of CPU time: its owner, its holder, and how it returns.
//!
//! A SchedContext belongs to the task it is bound to, its *owner*. A call lends the time to the
//! callee, which lends it on when it calls in turn. So the time always has one task as its
//! *holder*, and only its holder and its owner refer to it. Each task in the chain knows the caller
//! whose call brought the time: its *lender*. A reply returns the time to the lender. If a callee
//! blocks in another way than by calling, it returns the time, too. The time then *rests* with the
//! caller, which still waits. When the callee is ready again and has no other time, it borrows the
//! time again.
//!
//! # Invariants, between entries
//! For every context `s` that is on this CPU, with holder `t`:
//! * Either `t` is on this CPU, and runs on `s`, or `t.time.borrowed` or `t.time.own` is `s`. Or
//!   `t`'s message block is on this CPU, and `msg.time` is `s`. If `s` has no holder, no task uses
//!   it.
//! * `s` runs or is queued exactly when `t` is runnable and spends `s`.
//!
//! For every task `t` of this CPU:
//! * `t.time.borrowed` is other tasks' time that `t` holds. It is null while `t` runs (its time is
//!   the CPU's running context), and while `t` receives.
//! * `t.time.own` is the time bound to `t`. `t` holds it if the holder of that context is `t`.
//! * `t.time.lender` is the caller whose time `t` holds, or has lent on. It is null for a task that
//!   receives, that spends its own time, or that is ready and has no time.
//! * A task that may run or that receives holds its own time, if it has any and that time is not
//!   about to end.
//!
//! # Time that ends
//! A task that has lent its time on does not refer to it. So when a context ends, it is taken from
//! its holder and its owner, and no chain of calls must be followed, however long it is. The tasks
//! between them then have no time. Time that reaches them later also sets their lenders
//! ([`crate::time::search`]).
//!
//! # Time between CPUs
//! Between CPUs time travels in message blocks: with a call, with the reply, or with the answer to
//! a task's [`Request`] for time.

use abi::status::Doing;
use kern_base::header::FLAG_DYING;
use kern_base::limits::CALL_STEPS;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::task::{FLAG_AWAITED, FLAG_SUSPENDED, OpenTask, Request, State, Task, TaskHot, ctl};
use sched::PrioQueued;
use smp::door::Ref;

use crate::rooms::Time;
use crate::time::search::WALK_WORK;

impl<'k, M: Machine> Time<'k, M> {
    // --- who has what ----------------------------------------------------------------------------

    /// Returns the borrowed CPU time that a task of this CPU holds.
    #[inline(always)]
    pub fn borrowed_by(self, task: OpenTask<'k>) -> Option<Ref<'k, SchedContext>> {
        if self.hot.current.is(task.object()) {
            return self.sched.current.get(self.pin()).filter(|sc| !task.time.owns(*sc));
        }
        task.time.borrowed(self.pin())
    }

    /// Returns the CPU time that a task of this CPU spends, or would spend: the borrowed time, or
    /// else its own.
    #[inline]
    pub fn time_of(self, task: OpenTask<'k>) -> Option<Ref<'k, SchedContext>> {
        if self.hot.current.is(task.object()) {
            return self.sched.current.get(self.pin());
        }
        task.time.borrowed(self.pin()).or_else(|| self.own_at_rest(task))
    }

    /// Returns a task's own CPU time, if it is on this CPU and the task itself holds it.
    #[inline]
    pub fn own_at_rest(self, task: OpenTask<'k>) -> Option<Ref<'k, SchedContext>> {
        let rests =
            |own: &Ref<'k, SchedContext>| self.open_time(*own).is_some_and(|sc| sc.task.is(task.object()));
        task.time.own(self.pin()).filter(rests)
    }

    /// Returns a task's own CPU time, on any CPU, unless that time is about to end.
    pub fn own_time(self, hot: &TaskHot) -> Option<Ref<'k, SchedContext>> {
        hot.time.own(self.pin()).filter(|own| !own.get().header.has_flag(FLAG_DYING))
    }

    /// Returns the CPU time that a caller, whose call is on this CPU, has kept while it waits.
    #[inline]
    pub fn resting_time(self, caller: Ref<'k, Task>) -> Option<OpenTime<'k>> {
        let sc = match self.open(caller) {
            Some(caller) => self.time_of(caller)?,
            None => caller.get().message(self.pin())?.time(self.pin())?,
        };
        self.open_time(sc)
    }

    /// Whether a call would leave its callee without CPU time: the caller brings none, and the
    /// callee has none of its own.
    pub fn lacks_time(self, caller: Ref<'k, Task>, callee: OpenTask<'k>) -> bool {
        !callee.time.has_own() && self.resting_time(caller).is_none()
    }

    /// Makes a task of this CPU, which does not run, the holder of CPU time.
    #[inline]
    pub fn hold(self, task: OpenTask<'k>, sc: OpenTime<'k>) {
        sc.task.set(Some(task.object()));
        if task.time.owns(sc.object()) {
            return;
        }
        if !task.time.borrows_none() {
            self.part_with(task.part());
        }
        task.time.borrow(sc.object());
    }

    /// Takes borrowed time from a task that is given other time. The borrowed time has no holder
    /// then.
    #[cold]
    #[inline(never)]
    fn part_with(self, hot: &TaskHot) {
        // The task runs on its own time, or on none.
        let Some(sc) = hot.time.borrowed(self.pin()) else { return };
        if let Some(sc) = self.open_time(sc) {
            self.dequeue(sc);
            sc.task.set(None);
        }
    }

    /// Takes CPU time out of the run queue, if it is queued.
    #[inline(always)]
    fn dequeue(self, sc: OpenTime<'k>) {
        if self.sched.queue.remove(self.pin(), sc.object()) {
            self.tell_if_watched(sc, Doing::Rests);
        }
    }

    /// Leaves CPU time with a task of this CPU that waits, or in the message block that a task of
    /// another CPU has on this CPU.
    pub fn rest_with(self, task: Ref<'k, Task>, sc: OpenTime<'k>) {
        if let Some(task) = self.open(task) {
            self.hold(task, sc);
        } else if let Some(msg) = task.get().message(self.pin()) {
            sc.task.set(Some(task));
            msg.set_time(Some(sc.object()));
        } else {
            sc.task.set(None);
        }
    }

    /// Takes the CPU time that a caller, whose call is on this CPU, has kept, for a callee of that
    /// call, direct or indirect.
    #[inline]
    pub fn take_resting(self, caller: Ref<'k, Task>, sc: Ref<'k, SchedContext>) {
        let Some(caller) = self.open(caller) else {
            if let Some(msg) = caller.get().message(self.pin()) {
                msg.set_time(None);
            }
            return;
        };
        caller.time.pass_on(sc);
    }

    /// Lends the CPU time that `lender`, whose call is on this CPU, has kept to `callee`, which
    /// does not run.
    #[inline]
    pub fn lend(self, sc: OpenTime<'k>, lender: Ref<'k, Task>, callee: OpenTask<'k>) {
        self.take_resting(lender, sc.object());
        self.hold(callee, sc);
        callee.time.owe(lender);
    }

    /// Returns whether a SchedContext of this CPU runs or is queued.
    #[inline(always)]
    pub fn is_active(self, sc: Ref<'k, SchedContext>) -> bool {
        self.sched.current.is(sc) || self.sched.queue.contains(self.pin(), sc)
    }

    /// Takes a SchedContext off the CPU or out of the run queue. Its holder keeps it.
    #[inline(never)]
    pub fn withdraw(self, sc: Ref<'k, SchedContext>) {
        self.take_off(sc);
    }

    /// Does what [`Time::withdraw`] does, as a part of its caller.
    #[inline(always)]
    pub fn take_off(self, sc: Ref<'k, SchedContext>) {
        if self.sched.current.is(sc) {
            self.stop_current();
        } else if let Some(sc) = self.open_time(sc) {
            self.dequeue(sc);
        }
    }

    // --- coming back -----------------------------------------------------------------------------

    /// Returns time that is not the task's own to its lender, when `task` blocks otherwise than by
    /// calling.
    #[inline(always)]
    pub fn give_back(self, task: OpenTask<'k>) {
        if let Some(sc) = self.borrowed_by(task) {
            self.give_back_borrowed(task.part(), sc);
        }
    }

    pub fn give_back_borrowed(self, hot: &TaskHot, sc: Ref<'k, SchedContext>) {
        let lender = hot.time.take_lender(self.pin());
        // Impossible: a task borrows only its CPU's time. An assertion would cost each hand-over.
        let Some(sc) = self.open_time(sc) else { return };
        self.put_down(hot, sc);
        match lender {
            Some(lender) => self.rest_with(lender, sc),
            None => sc.task.set(None),
        }
    }

    /// Takes borrowed CPU time off the CPU or out of the run queue, and from its holder.
    fn put_down(self, hot: &TaskHot, sc: OpenTime<'k>) {
        if self.sched.current.is(sc.object()) {
            self.stop(sc);
        } else {
            self.dequeue(sc);
            hot.time.put_down();
        }
    }

    /// Returns time that came with `caller`'s call from `task` to `caller`, both of this CPU.
    /// Returns which time, if there was any. If `task` runs on it, the context continues to run:
    /// the caller of this function must put the right task on it.
    #[inline(always)]
    pub fn return_time(self, task: OpenTask<'k>, caller: OpenTask<'k>) -> Option<OpenTime<'k>> {
        if !task.time.end_loan_of(caller.object()) {
            return None;
        }
        let runs = self.hot.current.is(task.object());
        let sc = if runs { self.running()? } else { self.open_time(task.time.borrowed(self.pin())?)? };
        if !caller.time.borrows_none() {
            self.return_beside(task.part(), sc);
            return None;
        }
        if runs {
            sc.task.set(Some(caller.object()));
        } else {
            self.put_down(task.part(), sc);
            self.hold(caller, sc);
        }
        Some(sc)
    }

    /// Takes borrowed time from its holder, whose lender has other time meanwhile and continues
    /// with that. Either the lender has lent its own time, which it gets back, or a search that was
    /// misled has named the wrong lender.
    #[cold]
    fn return_beside(self, holder: &TaskHot, sc: OpenTime<'k>) {
        self.put_down(holder, sc);
        self.leave_to_owner(sc);
    }

    /// Leaves CPU time, which has no holder, with its owner, if that is a task of this CPU.
    /// Otherwise the owner gets the time from here when it needs it.
    pub fn leave_to_owner(self, sc: OpenTime<'k>) {
        let owner = sc.owner.get(self.pin());
        sc.task.set(owner.filter(|owner| self.open(*owner).is_some()));
    }

    /// Takes `caller`'s time back from its callees: its call to `callee` is over, not through
    /// `callee`. The holder continues with its own time or its next caller's. A holder on another
    /// CPU, or more than [`CALL_STEPS`] calls away, loses the time by mail; meanwhile `caller`
    /// continues with the time that it finds.
    pub fn recover(self, caller: Ref<'k, Task>, callee: OpenTask<'k>) {
        if !callee.time.end_loan_of(caller) {
            return;
        }
        let found = match self.borrowed_by(callee) {
            Some(sc) => Some((callee, sc)),
            None => self.unlend(callee.object()),
        };
        let Some((holder, sc)) = found else { return };
        // Impossible: a task borrows only its CPU's time. An assertion would cost each call.
        let Some(sc) = self.open_time(sc) else { return };
        self.take_from(holder.part(), sc);
        self.rest_with(caller, sc);
        self.go_on_with_other(holder);
    }

    /// Lets a task that has lost the time on which it ran or could run go on with other time.
    fn go_on_with_other(self, holder: OpenTask<'k>) {
        if holder.is_runnable() {
            self.start(holder);
            self.mind_less_time();
        } else if holder.state() == State::Exhausted {
            self.end_rest(holder);
        }
    }

    /// Takes from a task of this CPU the time on which it runs, or which it has borrowed. The
    /// caller of this function starts the task again.
    fn take_from(self, hot: &TaskHot, sc: OpenTime<'k>) {
        self.put_down(hot, sc);
        hot.materialise_frame();
        hot.time.owe_none();
    }

    /// Takes a SchedContext of this CPU from its holder, which continues on other time, if it can
    /// find some.
    pub fn seize(self, sc: OpenTime<'k>) {
        // Nobody holds it.
        let Some(holder) = sc.task.take(self.pin()) else { return };
        if let Some(msg) = holder.get().message(self.pin()).filter(|msg| msg.has_time(sc.object())) {
            msg.set_time(None);
            return;
        }
        // A holder of another CPU runs on nothing of this one.
        let Some(holder) = self.open(holder) else { return };
        if self.sched.current.is(sc.object()) || holder.time.borrows(sc.object()) {
            self.take_from(holder.part(), sc);
        } else {
            self.dequeue(sc);
            holder.materialise_frame();
        }
        self.go_on_with_other(holder);
    }

    // --- finding some ----------------------------------------------------------------------------

    /// Queues the CPU time of `task`, which became runnable. If the task has none, finds it some.
    #[inline(always)]
    pub fn start(self, task: OpenTask<'k>) {
        if self.hot.current.is(task.object()) {
            return;
        }
        match task.time.to_spend(self.pin()).and_then(|sc| self.open_time(sc)) {
            Some(sc) if sc.task.is(task.object()) => {
                if !sc.state.links.is_queued() {
                    self.enqueue(sc);
                }
            }
            _ => self.find_time(task),
        }
    }

    /// Finds CPU time for a runnable task that has none: fetches its own, or borrows a waiting
    /// caller's. Without either, the task stays ready until it is called or is given time.
    #[cold]
    #[inline(never)]
    fn find_time(self, task: OpenTask<'k>) {
        if let Some(own) = self.own_time(task.part()) {
            match self.open_time(own) {
                Some(own) => {
                    self.seize(own);
                    own.task.set(Some(task.object()));
                    self.enqueue(own);
                }
                None => return self.fetch_own(task, own),
            }
        } else if !self.borrow(task) {
            if self.callers(task.part()).next().is_some() {
                // By mail, because the caller may be in the middle of a system call.
                self.outbox().raise_control(task.object(), ctl::SEEK);
            }
            return;
        }
        self.take_best(task);
        self.mind_less_time();
    }

    /// Lends a task the CPU time that a waiting caller has kept: the caller that the task serves,
    /// the best in the queue, or one whose call it keeps. Returns whether one of the first
    /// [`CALL_STEPS`] callers has any. If none has, a search checks all.
    pub fn borrow(self, task: OpenTask<'k>) -> bool {
        let mut callers = self.callers(task.part()).take(CALL_STEPS);
        let Some(mut found) = callers.find_map(|caller| self.look_for_rest(caller)) else { return false };
        if self.is_exhausted(found.1) {
            // That time is better than none: the task goes on at its next window.
            let mut left = callers.filter_map(|caller| self.look_for_rest(caller));
            found = left.find(|(_, sc)| !self.is_exhausted(*sc)).unwrap_or(found);
        }
        let (lender, sc) = found;
        self.lend(sc, lender, task);
        self.enqueue(sc);
        true
    }

    /// Looks for CPU time that rests with a caller of a task: a step of a walk along the callers.
    fn look_for_rest(self, caller: Ref<'k, Task>) -> Option<(Ref<'k, Task>, OpenTime<'k>)> {
        self.note_work(WALK_WORK);
        self.resting_time(caller).map(|sc| (caller, sc))
    }

    /// Lets a task of this CPU that may run go on with the time of the best caller that waits for
    /// it, if that outranks the time that it has. Time of another caller goes back to that caller,
    /// which waits still. So a caller that has lent a task less time cannot keep it from better
    /// callers. The caller of this function dispatches afterwards.
    ///
    /// The idea is the helping of the NOVA microhypervisor.
    #[inline]
    pub fn take_better(self, task: OpenTask<'k>) {
        if !task.waiters.is_empty() {
            return self.take_best(task);
        }
        if let Some(first) = task.callers().tasks().first(self.pin())
            && let Some(has) = self.time_of(task)
        {
            self.take_above(task, has, first.prio_links(self.pin()).priority().unwrap_or(0));
        }
    }

    /// Does what [`Time::take_better`] does for a task that has the time `has`, if a caller of this
    /// priority outranks that.
    #[inline(always)]
    pub fn take_above(self, task: OpenTask<'k>, has: Ref<'k, SchedContext>, priority: u8) {
        if self.open_time(has).is_some_and(|has| has.state.priority() < priority) {
            self.take_best(task);
        }
    }

    /// Notes that a task of this priority begins to wait for one that waits itself. If the other
    /// one may have less time when it wakes, it will look for better time then.
    #[cold]
    #[inline(never)]
    pub fn note_awaited(self, task: OpenTask<'k>, priority: u8) {
        // One that has stopped to leave does so no later than who waits for it wants.
        if task.is_to_move() && task.has_flag(FLAG_SUSPENDED) && !task.get().is_to_suspend() {
            self.outbox().raise_control(task.object(), ctl::RESUME);
        }
        // One that is ready is suspended: when it is resumed, it looks in any case.
        if task.state() != State::Ready && self.wakes_with(task).is_none_or(|has| has < priority) {
            task.note_awaited();
        }
    }

    /// Returns the priority with which a task that waits wakes, if that is known: that of its own
    /// time, or of the time of its client, which it has lent on. A task that receives wakes with
    /// the time of its next caller.
    fn wakes_with(self, task: OpenTask<'k>) -> Option<u8> {
        if matches!(task.state(), State::Recv | State::RecvTimed) || !task.time.borrows_none() {
            return None;
        }
        let lends = match task.time.lender(self.pin()) {
            None => task,
            Some(client) => self.open(client).filter(|client| client.time.lender(self.pin()).is_none())?,
        };
        let own = lends.time.own(self.pin()).and_then(|own| self.open_time(own))?;
        Some(own.state.priority())
    }

    /// Lets a task that waits no more go on with the time of one that began to wait for it
    /// meanwhile, if that is better; or lets it leave, if it was told to move. The caller of this
    /// function dispatches afterwards.
    #[inline(always)]
    pub fn attend(self, task: OpenTask<'k>) {
        if task.has_flag(FLAG_AWAITED) {
            self.attend_with_care(task);
        }
    }

    #[cold]
    #[inline(never)]
    fn attend_with_care(self, task: OpenTask<'k>) {
        let leaves = task.is_to_move() && self.leave_if_free(task);
        // One that has still to fetch its own time looks when it has that.
        if !leaves && task.is_runnable() {
            task.end_awaited();
            self.take_best(task);
        }
    }

    /// Lets a task go on with the best time of its callers if that outranks what the task has, or
    /// if the budget of what it has is used up.
    #[cold]
    #[inline(never)]
    pub fn take_best(self, task: OpenTask<'k>) {
        if !task.is_runnable() {
            // Its time was set while it waits: it looks when it wakes.
            if task.state() != State::Ready {
                task.note_awaited();
            }
            return;
        }
        let Some(has) = self.time_of(task).and_then(|sc| self.open_time(sc)) else { return };
        let spent = self.is_exhausted(has);
        let resting = |caller| self.look_for_rest(caller).filter(|(_, sc)| !self.is_exhausted(*sc));
        // A caller that lends the task time already has lent what it has to lend: its own time may
        // rest beside.
        let lends_none = |caller: &Ref<'k, Task>| !task.time.is_lent_by(*caller);
        // The best in the queue; others before it may have lost their time while they wait.
        let queued = self.queued(task).take(CALL_STEPS).filter(lends_none).find_map(resting);
        let served = task.caller(self.pin()).filter(lends_none).and_then(resting);
        let rank = |it: &(Ref<'k, Task>, OpenTime<'k>)| it.1.state.priority();
        let waiting = self.lock_waiters(task).take(CALL_STEPS).filter(lends_none).find_map(resting);
        let best = waiting.into_iter().chain(queued).chain(served).max_by_key(rank);
        // Without any time of its own, it takes that of a caller whose call it keeps, too.
        let any = || self.callers(task.part()).take(CALL_STEPS).filter(lends_none).find_map(resting);
        let best = if spent { best.or_else(any) } else { best };
        let Some((caller, better)) = best else { return };
        if has.state.priority() >= better.state.priority() && !spent {
            return;
        }
        match self.borrowed_by(task) {
            Some(sc) => self.give_back_borrowed(task.part(), sc),
            None => self.withdraw(has.object()),
        }
        task.materialise_frame();
        self.lend(better, caller, task);
        self.enqueue(better);
    }

    /// Ends the help of a waiting caller for the running task, which yields: it cannot go on now,
    /// and lets others run. It goes on with its own time, if it has some, until the next call
    /// queues. Returns whether it does.
    pub fn end_help(self, task: OpenTask<'k>) -> bool {
        let helper = task.time.lender(self.pin()).filter(|lender| !task.serves(*lender));
        let own = task.time.own(self.pin()).and_then(|own| self.open_time(own));
        let own = own.filter(|own| own.task.is(task.object()) && !self.is_exhausted(*own));
        let (Some(_), Some(own), Some(sc)) = (helper, own, self.borrowed_by(task)) else { return false };
        self.give_back_borrowed(task.part(), sc);
        self.enqueue(own);
        true
    }

    /// Requests a task's own time, which is on another CPU. The task is ready to continue and has
    /// no time to spend. Its message block, which carries the request, is on this CPU, since its
    /// call is over.
    fn fetch_own(self, task: OpenTask<'k>, own: Ref<'k, SchedContext>) {
        task.enter(State::Restart);
        if self.callers(task.part()).next().is_some() {
            task.note_awaited();
        }
        let to = own.get().hot.mail_target(self.pin());
        self.outbox().send_request(task, to, Request::Fetch(own.ptr()));
    }
}
