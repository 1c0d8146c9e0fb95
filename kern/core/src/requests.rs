//! What a CPU asks of another about an object of the other's own. The request travels in the message
//! block of the task that asks, which waits in [`State::Restart`]; so a request needs no memory, and is
//! served to its end whether or not its sender lives to see it.
//!
//! Whatever a request names is alive: its sender, or the reclaim that the sender is part of, holds it
//! until the answer; and a request whose object has moved follows it only while the object is alive.
//! What a [`Request::Seek`] names is held by nobody: [`crate::search`].

use abi::{Error, TaskId};
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Message, PENDING_BITS, Request, Stage, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::Cx;
use crate::schedule::{is_dying, state_of};

/// Where a request goes when it was served here.
pub enum Next {
    /// Back to its task.
    Done,
    /// On to another CPU, or once more through this one's mailbox.
    Go(CpuId),
    /// Nowhere: it is kept until what it waits for has happened.
    Stay,
}

impl<'k, M: Machine> Cx<'k, M> {
    /// A request came in.
    pub fn request_arrived(self, task: Ref<'k, Task>, msg: &Message) {
        let Some(request) = msg.request.get() else { return };
        match self.serve(task, msg, request) {
            Next::Done => self.answer_request(task, msg),
            Next::Go(to) => self.send_block(task, msg, to),
            Next::Stay => msg.stage.set(Stage::Mourning),
        }
        self.dispatch();
    }

    fn serve(self, task: Ref<'k, Task>, msg: &Message, request: Request) -> Next {
        match request {
            Request::Kill(victim) => self.serve_kill(task, victim.get(self.pin())),
            Request::StopTime(sc) => self.serve_stop_time(task, msg, sc.get(self.pin())),
            Request::StopBits(object) => {
                let object = object.get(self.pin());
                self.at(object.get().hot.mail_target(self.pin()), &object.get().header, || {
                    self.stop_bits(object)
                })
            }
            Request::StopReply(reply) => {
                let reply = reply.get(self.pin());
                self.at(reply.get().hot.mail_target(self.pin()), &reply.get().header, || {
                    self.stop_reply(reply)
                })
            }
            Request::Forgotten(stamp) => self.serve_forgotten(task, stamp),
            Request::Disown(sc) => {
                let sc = sc.get(self.pin());
                self.at(sc.get().hot.mail_target(self.pin()), &sc.get().header, || self.disown(task, sc))
            }
            Request::Fetch(sc) => self.serve_fetch(task, msg, sc.get(self.pin())),
            Request::Seek(search) => self.serve_search(task, msg, search),
        }
    }

    /// Serves a request here, or says where its object has gone.
    fn at(self, home: CpuId, header: &Header, work: impl FnOnce()) -> Next {
        if home == self.id() {
            work();
        } else if !header.has_flag(FLAG_DEAD) {
            return Next::Go(home);
        }
        Next::Done
    }

    /// The answer is home: the task makes its system call again, or goes on with the time it asked for.
    pub fn request_done(self, task: Ref<'k, Task>, hot: &'k TaskHot, msg: &Message) {
        if let Some(sc_hot) = msg.sc.take(self.pin()).and_then(|sc| self.sc_hot(sc)) {
            // Its own, which it asked for; nobody's if it has none any more.
            sc_hot.task.set(Some(task).filter(|_| sc_hot.owner.is(task)));
        }
        let request = msg.request.take();
        if is_dying(hot) {
            return self.go_on_dying(task, hot);
        }
        match request {
            Some(Request::Seek(search)) => self.search_over(task, hot, search),
            _ => self.make_ready(task, hot),
        }
        self.dispatch();
    }

    // --- ending tasks ----------------------------------------------------------------------------

    fn serve_kill(self, mourner: Ref<'k, Task>, victim: Ref<'k, Task>) -> Next {
        if victim.get().header.has_flag(FLAG_DEAD) {
            return Next::Done;
        }
        let Some(hot) = self.task_hot(victim) else {
            return Next::Go(victim.get().hot.mail_target(self.pin()));
        };
        self.control(victim, ctl::KILL);
        if state_of(hot) == State::Dead {
            return Next::Done;
        }
        hot.mourners.insert(self.pin(), mourner, 0);
        Next::Stay
    }

    /// A task is dead: whoever waited for that is told.
    pub fn tell_mourners(self, hot: &TaskHot) {
        while let Some(mourner) = hot.mourners.pop_highest(self.pin()) {
            if let Some(msg) = mourner.get().msg.open(self.pin()) {
                self.answer_request(mourner, msg);
            }
        }
    }

    /// A mourner is itself wanted back.
    pub fn stop_mourning(self, mourner: Ref<'k, Task>, msg: &Message) {
        match msg.request.get() {
            Some(Request::Kill(victim)) => {
                if let Some(hot) = self.task_hot(victim.get(self.pin())) {
                    hot.mourners.remove(self.pin(), mourner);
                }
            }
            Some(Request::Forgotten(_)) => self.stop_forgotten(mourner),
            _ => {}
        }
        self.answer_request(mourner, msg);
    }

    // --- CPU time --------------------------------------------------------------------------------

    /// Makes a context inert: its holder loses it here, then its owner, to whose CPU it goes for that.
    fn serve_stop_time(self, asker: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next {
        let home = sc.get().hot.mail_target(self.pin());
        if sc.get().header.has_flag(FLAG_DEAD) {
            return Next::Done;
        }
        if home != self.id() {
            return Next::Go(home);
        }
        msg.sc.set(None);
        match self.stop_time(sc) {
            None => Next::Done,
            Some(owner) => {
                if let Some(hot) = self.sc_hot(sc) {
                    hot.task.set(Some(asker));
                }
                msg.sc.set(Some(sc));
                Next::Go(owner)
            }
        }
    }

    /// The same for a context of this CPU. Where its owner is on another, says on which.
    pub fn stop_time(self, sc: Ref<'k, SchedContext>) -> Option<CpuId> {
        let hot = self.sc_hot(sc)?;
        let owner = hot.owner.get(self.pin());
        if let Some(owner_hot) = owner.and_then(|t| self.task_hot(t)) {
            // First, so that it does not take it right back.
            owner_hot.own_sc.set(None);
            hot.owner.set(None);
        }
        self.seize(sc, hot);
        if let Some(owner) = hot.owner.get(self.pin()) {
            return Some(owner.get().hot.mail_target(self.pin()));
        }
        sc.get().header.set_flag(FLAG_DEAD);
        None
    }

    fn disown(self, owner: Ref<'k, Task>, sc: Ref<'k, SchedContext>) {
        if let Some(hot) = self.sc_hot(sc).filter(|hot| hot.owner.is(owner)) {
            hot.owner.set(None);
        }
    }

    /// Takes a context along for the asking task, whose own it is.
    fn serve_fetch(self, task: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next {
        if sc.get().header.has_flag(FLAG_DYING) {
            return Next::Done;
        }
        let Some(hot) = self.sc_hot(sc) else { return Next::Go(sc.get().hot.mail_target(self.pin())) };
        if !hot.owner.is(task) {
            return Next::Done;
        }
        self.seize(sc, hot);
        hot.task.set(Some(task));
        msg.sc.set(Some(sc));
        Next::Done
    }

    // --- Notifications, Replies ------------------------------------------------------------------

    /// Makes a Notification of this CPU inert: who waits for it is told.
    pub fn stop_bits(self, object: Ref<'k, Notification>) {
        let Some(hot) = object.get().hot.open(self.pin()) else { return };
        if let Some((waiter, task)) = hot.waiter.get(self.pin()).and_then(|t| Some((t, self.task_hot(t)?))) {
            self.fail_wait(waiter, task, Error::Gone);
        }
        if let Some(task) = hot.bound.take(self.pin()).and_then(|t| self.task_hot(t)) {
            task.bound.set(None);
            task.pending.set(task.pending.get() & !PENDING_BITS);
        }
        object.get().header.set_flag(FLAG_DEAD);
    }

    /// Empties a Reply of this CPU: the caller it holds is told that no answer will come.
    pub fn stop_reply(self, reply: Ref<'k, Reply>) {
        let Some(hot) = reply.get().hot.open(self.pin()) else { return };
        if let Some(caller) = hot.caller.get(self.pin()) {
            match self.task_hot(caller) {
                Some(task) => self.fail_wait(caller, task, Error::Gone),
                None => {
                    self.unlink_reply(reply);
                    self.fail_remote(caller, Error::Gone, TaskId::NONE);
                }
            }
        }
        reply.get().header.set_flag(FLAG_DEAD);
    }
}
