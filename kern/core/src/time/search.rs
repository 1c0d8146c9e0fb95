//! Searches for CPU time along chains of calls of any length, across CPUs.
//!
//! A task makes one call at a time. So all tasks that wait for a task, directly or indirectly, form
//! a tree: the callers of a task are above it, and the task at the end of all calls is the root.
//! The root may use the time of every task in the tree, since no other task in the tree can run.
//!
//! # Up: a search
//! A root that is ready and has no time sends its message block, which is not in use at that time,
//! from caller to caller ([`Search`]). At each task of the tree the search first checks the callers
//! for time that rests with them, in the order in which they would be received. Then it enters each
//! caller: it looks for the caller's own time, on whichever CPU that is, and then searches the
//! caller's callers. It marks each task that it enters as `wanted`.
//!
//! A search takes only time that may run on every CPU of the machine, since the chain of calls, on
//! which the time comes down and goes back, may visit any. A callee on the same CPU borrows other
//! time, too ([`Time::borrow`]).
//!
//! # Down: time, news, and taking back
//! * If the search finds time, the same block carries the time down the calls. On the way it sets
//!   each task's lender. The task that is at the end by then gets the time if it has none.
//!   Otherwise the time rests with the caller.
//! * When a task is given time, a control bit travels down the calls, along the marked tasks, and
//!   removes the marks. If the task at the end has no time, it searches again
//!   ([`Time::time_came`]).
//! * When a call ends early, its caller gets back the time that it had lent. The walk down to the
//!   holder clears each task's lender, so that a reply cannot return the time to a task that the
//!   walk has passed ([`Time::unlend`]).
//!
//! # Bounds
//! One entry takes [`CALL_STEPS`] steps of any of these and then continues by mail. Calls change
//! meanwhile. A search is lost when the call that it has reached is over, or when such a change has
//! led it into a cycle of calls. Then it restarts at the root. If no call changes, a search is
//! never lost, because no cycle can be above a task that is in no call itself.
//!
//! A search that was misled may set a wrong lender, and that task then returns the time to the
//! wrong caller. The owner takes the time back as soon as it needs it; no time is lost, and no
//! reference dangles. A waiting task that lends time on keeps no other time: two lenders would be
//! one too many to remember, and what comes back would meet what was kept.
//!
//! # References
//! A search under way names a caller and perhaps a context. In the entry that sent the search, both
//! were alive and other objects referred to them. So the search arrives before their memory can be
//! reused ([`crate::life::reclaim`]).

use kern_base::flags::{FLAG_EVENT, FLAG_LOCK};
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::CALL_STEPS;
use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::search::{Search, Step};
use kern_base::task::{FLAG_SUSPENDED, Message, OpenTask, Request, Stage, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::outbox::mail::Next;
use crate::rooms::Time;

/// Work of one step of a search.
const STEP_WORK: u64 = 150;
/// Work of one step along calls that searches for nothing.
pub const WALK_WORK: u64 = 40;

/// The outcome of one step of a search.
enum Found<'k> {
    /// The search continues at this caller, with this step.
    Way(Ref<'k, Task>, Step),
    /// Another CPU must take the same step.
    Elsewhere(CpuId),
    /// The search has ended: it has brought time, or there is none.
    End,
    /// The search must restart.
    Lost,
}

impl<'k, M: Machine> Time<'k, M> {
    // --- the calls as they stand -----------------------------------------------------------------

    /// Returns the callers of a task: the one that it serves, those in the queue, the best first,
    /// those that wait for its locks, likewise, and those whose calls it keeps.
    pub fn callers(self, hot: &TaskHot) -> impl Iterator<Item = Ref<'k, Task>> + use<'_, 'k, M> {
        core::iter::successors(self.first_caller(hot), move |caller| self.caller_after(hot, *caller))
    }

    fn first_caller(self, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        hot.caller(self.pin()).or_else(|| self.first_queued(hot))
    }

    fn first_queued(self, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        let queued = hot.callers().tasks().first(self.pin());
        queued.or_else(|| self.first_lock_waiter(hot))
    }

    fn first_lock_waiter(self, hot: &TaskHot) -> Option<Ref<'k, Task>> {
        hot.waiters.tasks().first(self.pin()).or_else(|| self.kept_in(hot.first_reply(self.pin())))
    }

    /// Returns the callers in a task's queue, the best first.
    pub fn queued(self, task: OpenTask<'k>) -> impl Iterator<Item = Ref<'k, Task>> + use<'k, M> {
        let pin = self.pin();
        let after = move |caller: &Ref<'k, Task>| task.callers().tasks().after(pin, *caller);
        core::iter::successors(task.callers().tasks().first(pin), after)
    }

    /// Returns the tasks that wait for locks of a task, the best first.
    pub fn lock_waiters(self, task: OpenTask<'k>) -> impl Iterator<Item = Ref<'k, Task>> + use<'k, M> {
        let pin = self.pin();
        let after = move |waiter: &Ref<'k, Task>| task.waiters.tasks().after(pin, *waiter);
        core::iter::successors(task.waiters.tasks().first(pin), after)
    }

    /// Returns the caller whose call a Reply object keeps.
    fn kept_in(self, reply: Option<Ref<'k, Reply>>) -> Option<Ref<'k, Task>> {
        reply?.get().hot.open(self.pin())?.caller(self.pin())
    }

    /// Returns the next caller after another whose call this task has.
    fn caller_after(self, hot: &TaskHot, caller: Ref<'k, Task>) -> Option<Ref<'k, Task>> {
        if hot.serves(caller) {
            return self.first_queued(hot);
        }
        let held = caller.get().message(self.pin())?.held(self.pin());
        match held {
            Some(reply) => self.kept_in(reply.get().hot.open(self.pin())?.next(self.pin())),
            None => {
                let queued = hot.callers().tasks().after(self.pin(), caller);
                if caller.get().message(self.pin())?.info().has(FLAG_LOCK) {
                    return queued.or_else(|| self.kept_in(hot.first_reply(self.pin())));
                }
                queued.or_else(|| self.first_lock_waiter(hot))
            }
        }
    }

    /// Returns the task of this CPU at which a caller's call is queued, or that has received it.
    fn callee_of(self, caller: Ref<'k, Task>) -> Option<OpenTask<'k>> {
        let msg = caller.get().message(self.pin())?;
        let calls = match self.open(caller) {
            Some(caller) => match caller.state() {
                State::Await | State::AwaitTimed => true,
                State::Sending => !is_event(msg),
                _ => false,
            },
            None => matches!(msg.stage(), Stage::Queued | Stage::Owed) && !is_event(msg),
        };
        let callee = msg.callee(self.pin()).filter(|_| calls)?;
        self.open(callee)
    }

    /// Whether a task of this CPU waits in a call. (Or for room in an event pool of another CPU.)
    fn awaits(self, task: OpenTask<'k>) -> bool {
        match task.state() {
            State::Await | State::AwaitTimed | State::AwaitRemote => true,
            State::Sending => task.get().message(self.pin()).is_some_and(|msg| !is_event(msg)),
            _ => false,
        }
    }

    // --- news of time ----------------------------------------------------------------------------

    /// Informs the task at the end of `task`'s calls that time has come to `task`, or to a caller
    /// of it. That task searches for the time if it has none.
    pub fn time_came(self, task: OpenTask<'k>) {
        let mut at = task;
        for step in 0.. {
            self.note_work(WALK_WORK);
            let task = at;
            if task.is_runnable() {
                if self.time_of(task).is_none() {
                    self.start(task);
                }
                return;
            }
            match task.state() {
                State::Restart => return task.search.time_came(),
                State::Exhausted => return self.end_rest(task),
                _ => {}
            }
            if !self.awaits(task) || !task.search.leave() {
                return;
            }
            match self.callee_of(task.object()) {
                Some(callee) if step < CALL_STEPS => at = callee,
                _ => return self.outbox().raise_with_message(task.object(), ctl::TIME),
            }
        }
    }

    /// Continues [`Time::time_came`] by mail, where the message block of `caller` is.
    pub fn time_arrived(self, caller: Ref<'k, Task>) {
        if let Some(callee) = self.callee_of(caller) {
            self.time_came(callee);
        }
    }

    // --- taking time back ------------------------------------------------------------------------

    /// Ends what `from`, whose call is here, has lent on: clears the lenders down its calls.
    /// Returns the holder of the time and the time. If they are still to be found, the walk
    /// continues by mail, and the holder loses the time.
    pub fn unlend(self, from: Ref<'k, Task>) -> Option<(OpenTask<'k>, Ref<'k, SchedContext>)> {
        let mut at = from;
        for _ in 0..CALL_STEPS {
            self.note_work(WALK_WORK);
            let Some(callee) = self.callee_of(at) else { break };
            if !callee.time.is_lent_by(at) {
                return None;
            }
            let held = self.borrowed_by(callee);
            if held.is_some_and(|sc| self.is_owned_by(sc, at)) {
                // The time that it had borrowed is gone, and the callee continues with its own.
                return None;
            }
            callee.time.owe_none();
            if let Some(sc) = held {
                return Some((callee, sc));
            }
            at = callee.object();
        }
        if self.open(at).is_none_or(|task| self.awaits(task)) {
            self.outbox().raise_with_message(at, ctl::UNLEND);
        }
        None
    }

    /// Continues [`Time::unlend`] by mail, where the message block of `from` is, and takes the time
    /// from its holder. The time has no holder then. Its owner, or a task that its owner waits for,
    /// gets it from here when it needs the time.
    pub fn unlend_arrived(self, from: Ref<'k, Task>) {
        let Some(msg) = from.get().message(self.pin()) else {
            // Follows the block, also on its way back: the time may be in it.
            return self.outbox().raise_with_message(from, ctl::UNLEND);
        };
        let (home, stage) = (self.open(from), msg.stage());
        if matches!(stage, Stage::Out | Stage::Back) {
            // Still in this CPU's own mailbox: checks again after that mail.
            return self.outbox().raise_with_message(from, ctl::UNLEND);
        }
        let held = match home {
            // It has been lent other time meanwhile, or has lent its own.
            Some(from) if from.time.lender(self.pin()).is_some() || self.lacks_own(from) => return,
            Some(from) => self.borrowed_by(from),
            None if matches!(stage, Stage::Queued | Stage::Owed) => msg.time(self.pin()),
            None => return,
        };
        let found = held.or_else(|| {
            let _ = self.callee_of(from)?;
            self.unlend(from).map(|(_, sc)| sc)
        });
        if let Some(sc) = found.and_then(|sc| self.open_time(sc)).filter(|sc| !sc.owner.is(from)) {
            self.seize(sc);
        }
    }

    fn is_owned_by(self, sc: Ref<'k, SchedContext>, task: Ref<'k, Task>) -> bool {
        self.open_time(sc).is_some_and(|sc| sc.owner.is(task))
    }

    /// Returns whether another task holds a task's own CPU time.
    fn lacks_own(self, task: OpenTask<'k>) -> bool {
        task.time.has_own() && self.own_at_rest(task).is_none()
    }

    /// Returns whether CPU time may run on every CPU of the machine.
    fn roams(self, sc: &OpenTime<'k>) -> bool {
        sc.state.roams(self.k.cpu_count())
    }

    /// Returns whether a ready task can get no CPU time: it has none, and has no SchedContext of
    /// its own that a search could request.
    fn starves(self, task: OpenTask<'k>) -> bool {
        task.is_runnable() && self.own_time(task.part()).is_none() && self.time_of(task).is_none()
    }

    // --- searches --------------------------------------------------------------------------------

    /// Begins a search for CPU time for a task that was ready and had none, if it still has none.
    pub fn look_for_time(self, task: OpenTask<'k>) {
        if !self.starves(task) || self.borrow(task) {
            return;
        }
        // The calls of the last callers are over: the task waits for other time.
        let Some(first) = self.first_caller(task.part()) else { return };
        task.search.begin();
        task.enter(State::Restart);
        self.outbox().send_request(task, self.id(), Request::Seek(Search::new(first)));
    }

    /// Lets a task continue whose search for CPU time is over, successful or not.
    pub fn search_over(self, task: OpenTask<'k>, search: Search) {
        task.enter(State::Ready);
        if task.has_flag(FLAG_SUSPENDED) {
            return;
        }
        // A search without success has left the last caller. Time that a search has brought may be
        // gone again by now.
        let in_vain = matches!(search.step, Step::Leave);
        if task.search.end() || !in_vain || !self.starves(task) {
            self.start(task);
            self.attend(task);
        } else if task.is_to_move() {
            self.leave_if_free(task);
        }
    }

    /// Takes a bounded number of steps of a task's search for CPU time. Returns where the message
    /// block that carries the search goes then.
    pub fn serve_search(self, asker: Ref<'k, Task>, msg: &Message, search: Search) -> Next<'k> {
        let mut search = if self.outbox().is_asked_back(asker, msg) { search.lost() } else { search };
        let mut next = Next::Go(self.id());
        for _ in 0..CALL_STEPS {
            self.note_work(STEP_WORK);
            let at = search.at.get(self.pin());
            match self.step(asker, msg, search) {
                Found::Way(at, step) => search = search.moved(at, step),
                Found::Elsewhere(cpu) => next = Next::Go(cpu),
                Found::End => next = Next::Done,
                Found::Lost => search = search.lost(),
            }
            if matches!(search.step, Step::Lost) {
                self.put_back(msg, at);
                next = Next::Done;
            }
            if !matches!(next, Next::Go(cpu) if cpu == self.id()) {
                break;
            }
        }
        msg.note_search(search);
        next
    }

    /// Leaves the CPU time that a search carries, if any, with the caller `at`, if that caller's
    /// call is on this CPU. Otherwise the time has no holder.
    fn put_back(self, msg: &Message, at: Ref<'k, Task>) {
        // The search had found none.
        let Some(sc) = msg.take_time(self.pin()) else { return };
        let sc = OpenTime::here(sc, self.pin());
        if self.callee_of(at).is_some() {
            self.rest_with(at, sc);
        } else {
            sc.task.set(None);
        }
    }

    fn step(self, asker: Ref<'k, Task>, msg: &Message, search: Search) -> Found<'k> {
        let at = search.at.get(self.pin());
        if at.get().header.has_flag(FLAG_DEAD) {
            return Found::Lost;
        }
        match search.step {
            Step::Scan => self.scan(asker, msg, at),
            Step::Enter => self.enter_caller(asker, msg, at),
            Step::Beyond => self.pass_caller(at),
            Step::Leave => self.leave_caller(asker, at),
            Step::Fetch(sc) => self.fetch_for(asker, msg, at, sc.get(self.pin())),
            Step::Part => self.part(at),
            Step::Carry => self.carry(asker, msg, at),
            Step::Lost => Found::Lost,
        }
    }

    /// Returns the task that has a caller's call on this CPU.
    /// Errors: how the search continues if the call is not on this CPU.
    fn follow_call(self, caller: Ref<'k, Task>) -> Result<OpenTask<'k>, Found<'k>> {
        if caller.get().message(self.pin()).is_none() {
            return Err(Found::Elsewhere(caller.get().message_state().mail_target(self.pin())));
        }
        self.callee_of(caller).ok_or(Found::Lost)
    }

    fn scan(self, asker: Ref<'k, Task>, msg: &Message, at: Ref<'k, Task>) -> Found<'k> {
        let callee = match self.follow_call(at) {
            Ok(callee) => callee,
            Err(found) => return found,
        };
        if let Some(sc) = self.resting_time(at).filter(|sc| self.roams(sc)) {
            return self.take_along(asker, msg, at, sc);
        }
        match (self.caller_after(callee.part(), at), self.first_caller(callee.part())) {
            (Some(next), _) => Found::Way(next, Step::Scan),
            (None, Some(first)) => Found::Way(first, Step::Enter),
            (None, None) => Found::Lost,
        }
    }

    /// Takes CPU time that the caller `at` has kept, to carry it on to the callee of that caller's
    /// call.
    fn take_along(
        self,
        asker: Ref<'k, Task>,
        msg: &Message,
        at: Ref<'k, Task>,
        sc: OpenTime<'k>,
    ) -> Found<'k> {
        self.take_resting(at, sc.object());
        if let Some(block) = at.get().message(self.pin()).filter(|block| block.has_time(sc.object())) {
            // On its way back, in this CPU's own mailbox.
            block.set_time(None);
        }
        sc.task.set(Some(asker));
        msg.set_time(Some(sc.object()));
        Found::Way(at, Step::Carry)
    }

    fn enter_caller(self, asker: Ref<'k, Task>, msg: &Message, at: Ref<'k, Task>) -> Found<'k> {
        let Some(at) = self.open(at) else {
            return Found::Elsewhere(at.get().hot.mail_target(self.pin()));
        };
        if !self.awaits(at) {
            return Found::Lost;
        }
        at.search.enter();
        let resting = self.resting_time(at.object());
        if let Some(sc) = resting.filter(|sc| self.roams(sc)) {
            return self.take_along(asker, msg, at.object(), sc);
        }
        if let Some(own) = self.own_time(at.part()).filter(|own| resting.is_none_or(|sc| sc.object() != *own))
        {
            return Found::Way(at.object(), Step::Fetch(own.ptr()));
        }
        self.go_beyond(at)
    }

    fn pass_caller(self, at: Ref<'k, Task>) -> Found<'k> {
        let Some(at) = self.open(at) else {
            return Found::Elsewhere(at.get().hot.mail_target(self.pin()));
        };
        if self.awaits(at) { self.go_beyond(at) } else { Found::Lost }
    }

    /// Goes on from a waiting caller, whose own time is of no use, to its callers.
    fn go_beyond(self, at: OpenTask<'k>) -> Found<'k> {
        match self.first_caller(at.part()) {
            Some(first) => Found::Way(first, Step::Scan),
            None => Found::Way(at.object(), Step::Leave),
        }
    }

    fn leave_caller(self, asker: Ref<'k, Task>, at: Ref<'k, Task>) -> Found<'k> {
        let callee = match self.follow_call(at) {
            Ok(callee) => callee,
            Err(found) => return found,
        };
        match self.caller_after(callee.part(), at) {
            Some(next) => Found::Way(next, Step::Enter),
            None if callee.object() == asker => Found::End,
            None if self.awaits(callee) => Found::Way(callee.object(), Step::Leave),
            // The way down has ended at a task that made no search.
            None => Found::Lost,
        }
    }

    /// Takes the own CPU time of the waiting caller `at` from its holder, to carry it on to the
    /// callee of that caller's call.
    fn fetch_for(
        self,
        asker: Ref<'k, Task>,
        msg: &Message,
        at: Ref<'k, Task>,
        sc: Ref<'k, SchedContext>,
    ) -> Found<'k> {
        if sc.get().header.has_flag(FLAG_DYING) {
            return Found::Lost;
        }
        let Some(sc) = self.open_time(sc) else {
            return Found::Elsewhere(sc.get().hot.mail_target(self.pin()));
        };
        let waits = self.open(at).is_none_or(|task| self.awaits(task));
        if !sc.owner.is(at) || !waits {
            return Found::Lost;
        }
        if !self.roams(&sc) {
            return Found::Way(at, Step::Beyond);
        }
        self.seize(sc);
        sc.task.set(Some(asker));
        msg.set_time(Some(sc.object()));
        Found::Way(at, Step::Part)
    }

    /// Takes time of others from the waiting caller `at`, whose own time is on its way to the
    /// callee of that caller's call.
    fn part(self, at: Ref<'k, Task>) -> Found<'k> {
        let Some(at) = self.open(at) else {
            return Found::Elsewhere(at.get().hot.mail_target(self.pin()));
        };
        if !self.awaits(at) {
            return Found::Lost;
        }
        self.give_back(at);
        at.time.owe_none();
        Found::Way(at.object(), Step::Carry)
    }

    /// Notes that a waiting task lends on the time that `lender` lends to it. Other time, which the
    /// task had kept because it could not go along with its call, goes back.
    fn owe_more(self, task: OpenTask<'k>, lender: Ref<'k, Task>) {
        if let Some(kept) = task.time.borrowed(self.pin()) {
            if task.time.is_lent_by(lender) {
                // It cannot rest with the lender, which lends other time now.
                task.time.put_down();
                if let Some(kept) = self.open_time(kept) {
                    self.leave_to_owner(kept);
                }
            } else {
                self.give_back(task);
            }
        }
        task.time.owe(lender);
    }

    fn carry(self, asker: Ref<'k, Task>, msg: &Message, at: Ref<'k, Task>) -> Found<'k> {
        // The time may have ended on the way.
        let Some(sc) = msg.time(self.pin()) else { return Found::Lost };
        let callee = match self.follow_call(at) {
            Ok(callee) => callee,
            Err(found) => return found,
        };
        if self.awaits(callee) {
            self.owe_more(callee, at);
            return Found::Way(callee.object(), Step::Carry);
        }
        if callee.object() != asker && !self.starves(callee) || callee.is_dying() {
            if callee.state() == State::Restart {
                callee.search.time_came();
            }
            return Found::Lost;
        }
        msg.set_time(None);
        if let Some(sc) = self.open_time(sc) {
            self.hold(callee, sc);
            callee.time.owe(at);
        }
        if callee.object() == asker {
            return Found::End;
        }
        self.start(callee);
        Found::Lost
    }
}

/// Returns whether a message block that is queued at a task is that of an event, which waits for
/// room in a pool.
fn is_event(msg: &Message) -> bool {
    msg.info().has(FLAG_EVENT)
}
