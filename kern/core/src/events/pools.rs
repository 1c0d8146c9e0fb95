//! Event pools: sending without waiting for an answer.
//! [`crate::events::binding`] gives a pool to its process.
//!
//! # A send
//! A send checks the capability, the member record and the exposure as a call does. It puts the
//! event into the pool of the exposed task's process, on any CPU, without a message to that CPU
//! ([`smp::events`]). If the pool's reader has armed the pool, the reader's home CPU raises the
//! bits of its Notification.
//!
//! An event that carries pages or capabilities takes another path: [`crate::events::payloads`].
//!
//! # Without room
//! A sender that finds the pool full waits as a caller does whose callee is busy. Its message block
//! is queued at the reader, on the reader's home CPU, and everything that can end a call can end
//! the wait ([`crate::outbox::mail`], [`crate::life::control`]). The queue is the reader's
//! `posters`: by priority, and in order within one. No task receives from it. The kernel itself
//! takes the first sender as soon as the pool has room.

use core::mem::take;

use abi::events::Event;
use abi::{Error, FLAG_DEADLINE, FLAG_NONBLOCK, MsgInfo, Op, Rights, Target};
use kern_base::block::Block;
use kern_base::events::EventPool;
use kern_base::flags::FLAG_EVENT;
use kern_base::header::FLAG_DEAD;
use kern_base::limits::{ENTRY_WORK, EVENT_WORD_WORK, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::task::{State, Task, TaskHot, ctl};
use smp::door::Ref;
use smp::events::{Shown, Turn};
use smp::sync::Ordering::Relaxed;
use test_abi::trace::How;

use crate::answer::write_values;
use crate::args::Args;
use crate::events::payloads::loaded_event;
use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::ends::{End, is_broadcast, no_callee};
use crate::ipc::ways::{Sent, There, Way};
use crate::payload::carry::{PAYLOAD_FLAGS, rights_of_words};
use crate::rooms::{Events, Ipc};
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// The way of an event to a full pool whose reader is on this CPU: the sender waits in the reader's
/// queue for room.
struct Room<'k, M: Machine> {
    events: Events<'k, M>,
    reader: OpenTask<'k>,
}

impl<'k, M: Machine> Way<'k, M> for Room<'k, M> {
    const HOW: How = How::Queued;

    fn state(_: bool) -> State {
        State::Sending
    }

    fn begin(self, ipc: Ipc<'k, M>, _: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        ipc.time().stop_current();
        block.write(sent.words, sent.from);
        self.events.queue_poster(block, self.reader);
        ipc.time().dispatch();
    }

    fn pass(self, _: Ipc<'k, M>, block: Block<'k>, _: Option<OpenTask<'k>>, _: &Sent<'k>) {
        self.events.queue_poster(block, self.reader);
    }
}

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::Send`].
    pub fn send(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let words = args.words()?;
        if MsgInfo(args.info).has(PAYLOAD_FLAGS) {
            return self.send_with_payload(me, args, args.with_payload(words));
        }
        let (pool, from) = self.pool_of_target(me, args, rights_of_words(words.info))?;
        if self.put_event(pool, me.object(), words.as_event(from, 0), Turn::Any) {
            return Ok(Answer::DONE);
        }
        self.wait_for_room(me, args, pool, words, from)
    }

    /// Returns the pool that an event goes to, and what the event says about its sender.
    #[inline(always)]
    pub fn pool_of_target(
        self,
        me: OpenTask<'k>,
        args: &Args,
        need: Rights,
    ) -> Result<(Ref<'k, EventPool>, SenderInfo)> {
        let dest = self.caps().resolve_task(me, Target(args.a0), need)?;
        refuse_if(dest.task.get().header.has_flag(FLAG_DEAD), Refusal::dead(dest.task.get().id()))?;
        let pool = dest.task.get().owner(self.pin()).and_then(|p| p.get().pool.get(self.pin()));
        let target = Target(args.a0);
        let pool = pool.ok_or(Refusal::new(Error::NoPool, u64::from(target.index())))?;
        Ok((pool, SenderInfo { sender: me.get().id(), target, custom: dest.custom }))
    }

    /// Puts an event into a pool, and informs the reader if it has armed the pool. Returns whether
    /// there was room.
    #[inline(always)]
    pub fn put_event(
        self,
        pool: Ref<'k, EventPool>,
        sender: Ref<'k, Task>,
        event: Event,
        turn: Turn,
    ) -> bool {
        let (shown, reserved) = (pool.get().shown(self.pin()), &pool.get().reserved);
        let Ok(at) = reserved.reserve(&shown, abi::events::cells(event.info.words()), turn) else {
            return false;
        };
        shown.write(at, event, &sender.get().utcb(self.pin()).msg);
        if reserved.publish(&shown, at) {
            self.call_reader(pool);
        }
        true
    }

    /// Puts an event without UTCB words into a pool, unless senders wait there. Returns whether
    /// there was room.
    #[inline(always)]
    pub fn put_registers(self, pool: Ref<'k, EventPool>, event: Event) -> bool {
        let (shown, reserved) = (pool.get().shown(self.pin()), &pool.get().reserved);
        let Ok(at) = reserved.reserve(&shown, 1, Turn::Any) else { return false };
        shown.write_header(at, event);
        if reserved.publish(&shown, at) {
            self.call_one_reader(pool);
        }
        true
    }

    /// Informs a pool's reader as [`Events::call_reader`] does, out of line: the loop of a
    /// broadcast has the registers for itself.
    #[cold]
    #[inline(never)]
    fn call_one_reader(self, pool: Ref<'k, EventPool>) {
        self.call_reader(pool);
    }

    /// Completes a send that the fast path made into an armed pool: informs the reader. Another
    /// task may run afterwards.
    #[inline(always)]
    pub fn tell_of_event(self, me: Ref<'k, Task>, pool: Ref<'k, EventPool>) {
        if let Some(me) = self.open(me) {
            write_values(&me.regs, MsgInfo(0), [0; 4]);
        }
        if pool.get().shown(self.pin()).disarm() {
            self.call_reader(pool);
        }
        self.time().dispatch();
    }

    /// Returns the task that reads a pool.
    pub fn reader_of(self, pool: Ref<'k, EventPool>) -> Option<Ref<'k, Task>> {
        pool.get().reader_task(self.pin())
    }

    /// Informs a pool's reader that events arrived, on the reader's home CPU.
    #[inline]
    pub fn call_reader(self, pool: Ref<'k, EventPool>) {
        // No task waits at the pool: its process reads it without being woken.
        let Some(reader) = self.reader_of(pool) else { return };
        match self.open(reader) {
            Some(reader) => self.tell_reader(reader.part()),
            None => self.outbox().raise_control(reader, ctl::EVENT),
        }
    }

    /// Raises a pool's bits in the Notification of its reader, a task of this CPU.
    pub fn tell_reader(self, hot: &TaskHot) {
        let pool = hot.process_if_any(self.pin()).and_then(|p| p.get().pool.get(self.pin()));
        let object = hot.bound(self.pin()).and_then(|n| n.get().hot.open(self.pin()));
        if let Some((pool, object)) = pool.zip(object) {
            self.raise(object, pool.get().bits.load(Relaxed));
        }
    }

    // --- full pools ------------------------------------------------------------------------------

    /// Blocks the sender until the pool has room: queues its message block at the pool's reader, or
    /// sends the block to the reader's CPU.
    /// Errors: the sender may not wait, its deadline has passed, or no reader can make room.
    #[cold]
    #[inline(never)]
    pub fn wait_for_room(
        self,
        me: OpenTask<'k>,
        args: &Args,
        pool: Ref<'k, EventPool>,
        words: Words,
        from: SenderInfo,
    ) -> Result<Answer> {
        let info = MsgInfo(args.info);
        refuse_if(info.has(FLAG_NONBLOCK), Error::WouldBlock)?;
        let deadline = info.has(FLAG_DEADLINE).then_some(args.a1);
        refuse_if(deadline.is_some_and(|at| at <= self.k.machine.now()), Error::Timeout)?;
        let reader = self.reader_of(pool).ok_or(Refusal::from(Error::Gone))?;
        let id = reader.get().id();
        refuse_if(reader == me.object(), Error::SelfCall)?;
        refuse_if(reader.get().header.has_flag(FLAG_DEAD), Refusal::dead(id))?;
        let sent = Sent { callee: reader, words: Words { info: words.info.flag(FLAG_EVENT), ..words }, from };
        match self.open(reader) {
            Some(reader) if reader.is_dying() => return Err(Refusal::dead(id)),
            Some(reader) => self.ipc().begin(me, Room { events: self, reader }, &sent, deadline),
            None => {
                self.ipc().begin(me, There { tag: reader.get().tag() }, &sent, deadline);
            }
        }
        Ok(Answer::Settled)
    }

    /// Queues a sender whose message block arrived from another CPU.
    pub fn event_arrived(self, block: Block<'k>, reader: OpenTask<'k>, sent: &Sent<'k>) {
        self.ipc().pass(block, Room { events: self, reader }, sent);
    }

    /// Queues a sender at the pool's reader. Lets it in immediately if there is room and no other
    /// sender waits.
    fn queue_poster(self, block: Block<'k>, reader: OpenTask<'k>) {
        let priority = self.ipc().waits_at_priority(block.task());
        block.queue_at(reader.object());
        reader.posters.put(self.pin(), block, priority);
        if let Some(pool) = self.pool_read_by(reader) {
            pool.get().reserved.close(&pool.get().shown(self.pin()));
        }
        self.let_posters_in(reader);
    }

    /// Returns the pool that a task of this CPU reads.
    fn pool_read_by(self, reader: OpenTask<'k>) -> Option<Ref<'k, EventPool>> {
        let pool = reader.process_if_any(self.pin())?.get().pool.get(self.pin())?;
        (self.reader_of(pool) == Some(reader.object())).then_some(pool)
    }

    /// Puts the events of waiting senders into the pool of a reader of this CPU, while there is
    /// room. Refuses all waiting senders if there is no pool any more. Does as much as the entry's
    /// work allows, then sends the reader ROOM again.
    pub fn let_posters_in(self, reader: OpenTask<'k>) {
        let pool = self.pool_read_by(reader);
        let mut is_first = true;
        loop {
            let Some(sender) = reader.posters.tasks().first(self.pin()) else {
                if let Some(pool) = pool {
                    pool.get().reserved.open(&pool.get().shown(self.pin()));
                }
                return;
            };
            // The pages of one message are about an entry's work.
            let may = take(&mut is_first) || !self.payload().sends_pages(sender) && self.spend(WAKE_WORK);
            if !may {
                return self.outbox().raise_control(reader.object(), ctl::ROOM);
            }
            let put = match pool {
                Some(pool) => self.put_waiting(pool, sender),
                None => Err(Error::Gone.into()),
            };
            if matches!(put, Ok(false)) {
                return;
            }
            let Some(block) = reader.posters.take(self.pin(), sender) else { no_callee(sender.get().id()) };
            match put {
                Ok(_) => self.has_been_sent(block),
                Err(refusal) => self.ipc().refuse(block, refusal),
            }
        }
    }

    /// Returns whether the first sender that waits for room in a task's pool sends pages.
    pub fn poster_sends_pages(self, reader: OpenTask<'k>) -> bool {
        reader.posters.tasks().first(self.pin()).is_some_and(|sender| self.payload().sends_pages(sender))
    }

    /// Puts the event of a sender that waits for room into the pool. Returns whether there was
    /// room.
    fn put_waiting(self, pool: Ref<'k, EventPool>, sender: Ref<'k, Task>) -> Result<bool> {
        let Some(msg) = sender.get().message(self.pin()) else { return Err(Error::Gone.into()) };
        let event = loaded_event(msg.words(), msg.sender(), if is_broadcast(msg) { msg.group() } else { 0 });
        if event.info.has(PAYLOAD_FLAGS) {
            self.note_work(ENTRY_WORK);
            return self.put_waiting_load(pool, sender, event);
        }
        self.note_work(event.info.words() as u64 * EVENT_WORD_WORK);
        Ok(self.put_event(pool, sender, event, Turn::Waiting))
    }

    /// Ends the system call of a sender whose event is in the pool now, and lets the sender
    /// continue.
    fn has_been_sent(self, block: Block<'k>) {
        let end = if is_broadcast(&block) { End::Posted } else { End::Replied(Words::NONE) };
        self.ipc().end(block, end);
    }

    /// Carries out [`abi::Op::PoolRoom`].
    pub fn pool_room(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let pool = self.caps().operand::<EventPool, { Op::PoolRoom as u8 }, 0>(me, args.cap())?;
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        if let Some(reader) = self.reader_of(pool).filter(|r| !r.get().header.has_flag(FLAG_DEAD)) {
            match self.open(reader) {
                Some(reader) if reader.is_dying() => {}
                Some(reader) => self.let_posters_in(reader),
                None => self.outbox().raise_control(reader, ctl::ROOM),
            }
        }
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Refuses the senders that wait at `task` for room, if it does not read its process's pool any
    /// more. Called after a revoke of the task's capabilities, perhaps including the pool's reader
    /// capability: then no CPU would find the task through the pool. The pool may have been parted
    /// from the process since.
    pub fn may_read_no_more(self, task: Ref<'k, Task>) {
        let pool = task.get().owner(self.pin()).and_then(|p| p.get().pool.get(self.pin()));
        if pool.is_none_or(|pool| self.reader_of(pool).is_none()) {
            self.outbox().raise_control(task, ctl::ROOM);
        }
    }
}
