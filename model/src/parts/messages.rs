//! Calls in parts.
//!
//! A call to a task of the same CPU arrives immediately. The message of a call to a task of another
//! CPU leaves, and arrives after all messages that left for that CPU before: a CPU that runs a
//! program takes only messages of better tasks immediately, and so these may overtake others. On
//! arrival it is received, if the callee waits for a message, or queued. Receiving, answering and
//! keeping use only state of the receiver's CPU, and are one part each.
//!
//! When a call ends on another CPU, the caller's message block is sent back. No task can observe
//! where the block is until the caller continues, so in the model an answer arrives immediately. A
//! deadline or a cancel first recalls the message from where it is; the recall overtakes no other
//! mail. If there was no answer before, the call ends when its message is recalled, and never
//! before the message has arrived.
//!
//! A task that cancels a task of another CPU continues before the cancel takes effect. If the other
//! task does not wait by then, the cancel has no effect.

use alloc::vec::Vec;

use abi::{Error, FLAG_NONBLOCK, Op, task_rights};

use super::{At, Part, Running, System};
use crate::object::{CallAt, State};
use crate::{Answer, Id, Kind, Refusal, Regs, Result};

impl System {
    pub(super) fn begin_call(&mut self, running: &mut Running) -> Result<Option<Regs>> {
        let me = running.me;
        let sent = self.model.look_call(me, &running.args)?;
        if self.model.task(sent.callee).state == State::Dead {
            return Err(Refusal::dead(self.model.task(sent.callee).id));
        }
        self.model.begin_calling(me, &running.args);
        if self.is_at_home(me, sent.callee) {
            self.model.arrive(me, sent);
        } else {
            self.sent.push((me, sent));
        }
        running.at = At::Waits;
        Ok(None)
    }

    pub(super) fn begin_cancel(&mut self, running: &Running) -> Result<Option<Regs>> {
        let task = self.model.controlled(running.me, &running.args, task_rights::SUSPEND)?;
        if self.is_at_home(running.me, task) {
            self.cancel(task);
        } else {
            self.cancels.push(task);
        }
        Ok(Some(super::regs(Ok(Answer::DONE))))
    }

    /// Returns the task that an operation cancels immediately.
    pub fn to_cancel(&self, running: &Running) -> Option<Id> {
        if running.op != Op::TaskCancel {
            return None;
        }
        let task = self.model.controlled(running.me, &running.args, task_rights::SUSPEND).ok()?;
        self.is_at_home(running.me, task).then_some(task)
    }

    /// Returns the task that gets bits which an operation raises next on the same CPU, with the
    /// bits.
    pub fn raises_for(&self, running: &Running) -> Option<(Id, u64)> {
        let At::Raise { group, index, bits } = running.at else { return None };
        let object = self.model.exposed(group, index, self.model.task(running.me).home)?;
        let Kind::Notification(it) = &self.model.objects[object.0].kind else { return None };
        let task = it.bound?;
        self.is_at_home(running.me, task).then_some((task, bits))
    }

    pub fn is_at_home(&self, me: Id, task: Id) -> bool {
        self.model.task(me).home == self.model.task(task).home
    }

    /// Cancels a task, on the task's CPU.
    fn cancel(&mut self, task: Id) {
        match self.model.task(task).state {
            State::Ready => {}
            State::Calling if self.is_away(task) => {
                if !self.recalled.contains(&task) {
                    self.recalled.push(task);
                }
            }
            _ => self.model.fail(task, Error::Cancelled.into()),
        }
    }

    fn is_on_its_way(&self, caller: Id) -> bool {
        self.sent.iter().any(|(it, _)| *it == caller)
    }

    /// Returns whether the message of a caller is not on the caller's CPU.
    fn is_away(&self, caller: Id) -> bool {
        let home = match self.model.task(caller).call.map(|call| call.at) {
            Some(CallAt::Queued(callee) | CallAt::Served(callee)) => self.model.task(callee).home,
            Some(CallAt::Kept(reply)) => self.model.reply_object(reply).home,
            None => return true,
        };
        home != self.model.task(caller).home
    }

    pub(super) fn parts_of_waiting(&self, me: Id, parts: &mut Vec<Part>) {
        let it = self.model.task(me);
        if it.state == State::Ready {
            parts.push(Part::Next);
        } else if !self.is_on_its_way(me) {
            parts.extend(it.deadline.map(|_| Part::Timeout));
            parts.extend(self.recalled.contains(&me).then_some(Part::Cancelled));
        }
    }

    /// Ends a task's wait with an error; or its call, whose deadline had passed before its first
    /// part.
    pub(super) fn end_waiting(&mut self, running: &Running, error: Error) -> Result<Regs> {
        let me = running.me;
        if running.at == At::Begun {
            if let Err(why) = self.model.look_call(me, &running.args)
                && why.error != Error::WouldBlock
            {
                return Err(why);
            }
            return Err(error.into());
        }
        self.recalled.retain(|it| *it != me);
        self.model.fail(me, error.into());
        Ok(self.model.task(me).regs)
    }

    /// Returns the answer of a receive without waiting that has no caller to answer and finds
    /// nothing.
    pub(super) fn finds_nothing(&self, running: &Running) -> Option<Refusal> {
        let it = self.model.task(running.me);
        let bits = it.bound.map_or(0, |bound| self.model.notification(bound).bits);
        let is_idle = it.caller.is_none() && it.senders.is_empty() && bits == 0;
        (is_idle && running.args.1.has(FLAG_NONBLOCK)).then(|| Error::WouldBlock.into())
    }

    // --- what is on its way ----------------------------------------------------------------------

    /// Returns caller and callee of the messages that can be the next to arrive.
    pub fn next_to_arrive(&self) -> impl Iterator<Item = (Id, Id)> {
        let home = |callee: Id| self.model.task(callee).home;
        let is_first = move |nth: usize, caller: Id, to: usize| {
            self.sent[..nth]
                .iter()
                .all(|(before, earlier)| home(earlier.callee) != to || self.may_overtake(caller, *before))
        };
        let all = self.sent.iter().enumerate();
        all.filter(move |(nth, (caller, it))| is_first(*nth, *caller, home(it.callee)))
            .map(|(_, (caller, it))| (*caller, it.callee))
    }

    /// Returns whether a task's message may overtake that of another one: the task may be better. A
    /// server runs on the time of its callers, and so it may be better than by its own.
    fn may_overtake(&self, one: Id, other: Id) -> bool {
        let [one, other] = [one, other].map(|task| self.model.task(task));
        one.rank > other.rank || one.rank != other.rank && (one.caller.is_some() || other.caller.is_some())
    }

    /// Returns the receiver of a caller's message under way.
    pub fn sent_to(&self, caller: Id) -> Option<Id> {
        self.sent.iter().find(|(it, _)| *it == caller).map(|(_, it)| it.callee)
    }

    /// Lets the message of a caller arrive at its receiver.
    pub fn deliver(&mut self, caller: Id) {
        let Some(at) = self.sent.iter().position(|(it, _)| *it == caller) else { return };
        let (_, sent) = self.sent.remove(at);
        self.model.arrive(caller, sent);
    }

    /// Returns the tasks whose cancellation is on its way.
    pub fn to_be_cancelled(&self) -> &[Id] {
        &self.cancels
    }

    /// Lets a task's cancellation arrive.
    pub fn arrive_cancel(&mut self, task: Id) {
        let Some(at) = self.cancels.iter().position(|it| *it == task) else { return };
        self.cancels.remove(at);
        self.cancel(task);
    }

    /// Returns whether a caller's message is queued at the task `server`, served by it, or kept by
    /// a Reply of it.
    pub fn is_with(&self, caller: Id, server: Id) -> bool {
        match self.model.task(caller).call.map(|call| call.at) {
            Some(CallAt::Queued(it) | CallAt::Served(it)) => it == server,
            Some(CallAt::Kept(reply)) => self.model.reply_object(reply).server == Some(server),
            None => false,
        }
    }

    /// Returns whether a task has received a caller's message.
    pub fn is_taken(&self, caller: Id) -> bool {
        let at = self.model.task(caller).call.map(|call| call.at);
        matches!(at, Some(CallAt::Served(_) | CallAt::Kept(_)))
    }

    /// Returns whether an operation waits for a message, bits or room, so that others can cancel
    /// it.
    pub fn waits(&self, running: &Running) -> bool {
        running.at == At::Waits && self.model.task(running.me).state != State::Ready
    }
}
