//! Objects that end while others use them, on their own CPU: whoever waits for them is told, whoever has them loses them.

use abi::{Error, TaskId};
use kern_base::events::EventPool;
use kern_base::header::FLAG_DEAD;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::task::{Message, PENDING_BITS, Request, State, Task, TaskHot, ctl};
use smp::cpu::CpuId;
use smp::door::Ref;

use crate::caps::slots::is_claimed;
use crate::life::reclaim::Pins;
use crate::outbox::mail::Next;
use crate::rooms::Life;
use crate::state::state_of;
use crate::{Me, Refusal, Result};

impl<'k, M: Machine> Life<'k, M> {
    pub fn serve_kill(self, mourner: Ref<'k, Task>, victim: Ref<'k, Task>) -> Next {
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

    /// Tells the tasks that waited for a task's end that it is dead.
    pub fn tell_mourners(self, hot: &TaskHot) {
        while let Some(mourner) = hot.mourners.pop_highest(self.pin()) {
            if let Some(msg) = mourner.get().msg.open(self.pin()) {
                self.outbox().answer_request(mourner, msg);
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
            Some(Request::Forgotten(_)) => self.tlb().stop_forgotten(mourner),
            _ => {}
        }
        self.outbox().answer_request(mourner, msg);
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
        self.time().seize(sc, hot);
        if let Some(owner) = hot.owner.get(self.pin()) {
            return Some(owner.get().hot.mail_target(self.pin()));
        }
        sc.get().header.set_flag(FLAG_DEAD);
        None
    }

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
                    self.ipc().unlink_reply(reply);
                    self.ipc().fail_remote(caller, Error::Gone, TaskId::NONE);
                }
            }
        }
        reply.get().header.set_flag(FLAG_DEAD);
    }

    /// A pool is dying: who waits for room in it is told. First its reader's capability goes: where that is the caller's own
    /// last one, the pool serves on.
    pub fn end_pool(self, me: Me<'k>, pool: Ref<'k, EventPool>) -> Result<()> {
        if is_claimed(pool.get().reader.word.load(self.pin())) {
            return Err(Refusal::More);
        }
        let reader = self.events().reader_of(pool);
        self.delete_slot(me, pool.map(|p| &p.reader), Pins::Hold)?;
        self.events().part_pool(pool);
        if let Some(reader) = reader.filter(|r| !r.get().header.has_flag(FLAG_DEAD)) {
            self.outbox().raise_control(reader, ctl::ROOM);
        }
        Ok(())
    }
}
