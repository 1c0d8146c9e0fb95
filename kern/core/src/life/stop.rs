//! Ends objects that other tasks use, on the objects' home CPU: tasks that wait for such an object
//! wake with an error, and tasks that hold it lose it.

use abi::status::SchedEvent;
use abi::{Error, TaskId};
use kern_base::events::EventPool;
use kern_base::header::FLAG_DEAD;
use kern_base::limits::{PROGRAM_WAKES, SEND_WORK};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Message, Request, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::caps::slots::is_claimed;
use crate::life::reclaim::Pins;
use crate::outbox::mail::Next;
use crate::rooms::Life;
use crate::{OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    /// Serves a request to kill a task. Keeps the request until the task is dead.
    pub fn serve_kill(self, victim: Ref<'k, Task>) -> Next<'k> {
        if victim.get().header.has_flag(FLAG_DEAD) {
            return Next::Done;
        }
        let Some(victim) = self.open(victim) else {
            return Next::Go(victim.get().hot.mail_target(self.pin()));
        };
        self.kill_here(victim);
        if victim.get().header.has_flag(FLAG_DEAD) {
            Next::Done
        } else {
            Next::Keep(&victim.part().kill_waiters)
        }
    }

    /// Kills a task of this CPU. A task without process is dead immediately.
    pub fn kill_here(self, victim: OpenTask<'k>) {
        if victim.get().id() == TaskId::NONE {
            victim.get().header.set_flag(FLAG_DEAD);
        } else {
            self.control(victim, ctl::KILL);
        }
    }

    /// Answers the requests of tasks that wait for a task's death. There may be any number of them:
    /// answers the best few, and leaves the others to the next interrupts ([`crate::door::wake`]).
    /// The dead task, whose memory may soon be used again, does not keep them.
    pub fn answer_kill_waiters(self, hot: &TaskHot) {
        if hot.kill_waiters.is_empty() {
            return;
        }
        let unanswered = &self.sched.unanswered;
        unanswered.append(self.pin(), &hot.kill_waiters);
        for _ in 0..PROGRAM_WAKES {
            let Some(block) = unanswered.pop(self.pin()) else { return };
            self.note_work(SEND_WORK);
            self.outbox().answer_request(block);
        }
        if !unanswered.is_empty() {
            self.time().arm_timer_for_waiters(self.k.machine.now());
        }
    }

    /// Sends back a request that this CPU keeps for `waiter`, although its event has not come,
    /// because the request was recalled.
    pub fn drop_kept(self, waiter: Ref<'k, Task>, msg: &Message) {
        let queue = match msg.request() {
            Some(Request::Kill(_)) if self.sched.unanswered.may_take(self.pin(), waiter) => {
                &self.sched.unanswered
            }
            // The waiter is at an end of its victim's queue, so the victim is not dead.
            Some(Request::Kill(victim)) => match self.open(victim.get(self.pin())) {
                Some(victim) => &victim.part().kill_waiters,
                None => return,
            },
            _ => &self.sched.forgetful,
        };
        if let Some(block) = queue.take(self.pin(), waiter) {
            self.outbox().answer_request(block);
        }
    }

    /// Ends a SchedContext of this CPU. If its owner is on another CPU, returns that CPU, which
    /// must complete the end.
    pub fn stop_time(self, sc: Ref<'k, SchedContext>) -> Option<CpuId> {
        let sc = self.open_time(sc)?;
        let owner = sc.owner.get(self.pin());
        if let Some(owner) = owner.and_then(|owner| self.open(owner)) {
            // Before the context is taken from its holder, so that the owner does not fetch it
            // back.
            owner.time.unbind(self.pin());
            self.time().tell_event(sc, SchedEvent::Died, 0);
            if sc.state.is_in_grace() {
                self.time().take_notice_back(sc);
            }
            sc.owner.set(None);
        }
        self.time().seize(sc);
        if let Some(owner) = owner.and_then(|owner| self.open(owner)) {
            // Its time may have been elsewhere.
            self.time().leave_if_free(owner);
        }
        if let Some(owner) = sc.owner.get(self.pin()) {
            return Some(owner.get().hot.mail_target(self.pin()));
        }
        self.time().end_watch(sc);
        self.time().give_share_back(sc);
        sc.get().header.set_flag(FLAG_DEAD);
        None
    }

    /// Makes a Notification of this CPU inert. A waiting task wakes with an error.
    pub fn stop_bits(self, object: Ref<'k, Notification>) {
        let hot = object.get().hot.here(self.pin());
        if let Some(waiter) = hot.waiter.get(self.pin()).and_then(|waiter| self.open(waiter)) {
            self.fail_wait(waiter, Error::Gone);
        }
        if let Some(task) = hot.bound.take(self.pin()).and_then(|t| self.open(t)) {
            task.lose_notification();
        }
        object.get().header.set_flag(FLAG_DEAD);
    }

    /// Makes a dying Reply inert that is unclaimed or of this CPU. The caller whose call it keeps
    /// wakes with an error.
    pub fn stop_reply(self, reply: Ref<'k, Reply>) {
        let Reply { header, hot } = reply.get();
        if let Some(caller) = hot.open(self.pin()).and_then(|hot| hot.caller(self.pin())) {
            match self.open(caller) {
                Some(caller) => self.fail_wait(caller, Error::Gone),
                None => {
                    let server = hot.here(self.pin()).server(self.pin());
                    if let Some(block) = Reply::release(reply, self.pin()) {
                        self.ipc().refuse(block, Error::Gone.into());
                    }
                    if let Some(server) = server.and_then(|server| self.open(server)) {
                        self.time().leave_if_free(server);
                    }
                }
            }
        }
        // Now it is unclaimed, or was. Until it belongs to this CPU for good, a server of another
        // CPU that does not know of its end can still keep a call in it.
        if hot.claim(self.pin()).is_some() || hot.open(self.pin()).is_some() {
            header.set_flag(FLAG_DEAD);
        }
    }

    /// Ends a dying pool: its waiting senders wake with an error. First deletes the reader's
    /// capability. If that is the last capability of the caller itself, refuses, and the pool stays
    /// usable.
    pub fn end_pool(self, me: OpenTask<'k>, pool: Ref<'k, EventPool>) -> Result<()> {
        refuse_if(is_claimed(pool.get().reader.word.load(self.pin())), Refusal::More)?;
        let reader = self.events().reader_of(pool);
        self.delete_slot(me, pool.map(|p| &p.reader), Pins::Hold)?;
        if let Some(reader) = reader.filter(|r| !r.get().header.has_flag(FLAG_DEAD)) {
            self.outbox().raise_control(reader, ctl::ROOM);
        }
        self.events().part_pool(pool, None)
    }
}
