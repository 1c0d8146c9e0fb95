//! The ways of a message from its sender to its receiver. Calls, faults and events are one state
//! machine. They differ only in the way, which is chosen once, and which the compiler knows from
//! then on.
//!
//! | way | receiver | sender waits in |
//! |---|---|---|
//! | [`Direct`] | receives, on this CPU: the message goes from registers to registers | `Await` |
//! | [`Queue`] | does something else, on this CPU: the message waits in its block | `Sending` |
//! | [`There`] | is on another CPU: the block goes there by mail | `AwaitRemote` |
//!
//! Two further ways are queues from which no task receives: [in event pools](crate::events::pools)
//! and [at owners of locks](crate::events::locks).
//! [`Direct`] uses no mailbox, and writes only the link to the callee in the block.
//!
//! [`Ipc::begin`] sends a message of the running task, whose CPU time is donated with it.
//! [`Ipc::pass`] sends a message whose sender waits already, because its call was forwarded,
//! arrived by mail, or moves with its receiver. In that case the sender's time is not in use: it is
//! with the sender or in the block. [`crate::ipc::ends`] has the ends of messages.

use abi::status::Doing;
use abi::{FLAG_FAULT, MsgInfo};
use kern_base::block::Block;
use kern_base::cpu::Mail;
use kern_base::flags::{FLAG_EVENT, FLAG_LOCK};
use kern_base::machine::Machine;
use kern_base::protection::Protection;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::task::{FLAG_AWAITED, FLAG_NEVER, Message, State, Task};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::mailbox::Batch;
use test_abi::trace::{Event, How, Path};

use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::faults::take_registers_along;
use crate::payload::carry::PAYLOAD_FLAGS;
use crate::rooms::Ipc;
use kern_base::task::OpenTask;

/// Flags of messages that are more than a call's registers and words.
const SPECIAL: u64 = FLAG_FAULT | PAYLOAD_FLAGS | FLAG_EVENT | FLAG_LOCK;

/// A message on its way.
#[derive(Clone, Copy)]
pub struct Sent<'k> {
    pub callee: Ref<'k, Task>,
    pub words: Words,
    pub from: SenderInfo,
}

/// A way for a message.
pub trait Way<'k, M: Machine>: Sized {
    const HOW: How;

    /// Returns the state in which the sender waits, with or without a deadline.
    fn state(timed: bool) -> State;

    /// Sends the message of the running task, and lets another task run.
    fn begin(self, ipc: Ipc<'k, M>, me: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>);

    /// Sends the message of a sender that waits; `sender` has its state, if the sender is on this
    /// CPU.
    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, sender: Option<OpenTask<'k>>, sent: &Sent<'k>);
}

/// The callee receives, on this CPU. `FAULT`: the message may be a fault.
pub struct Direct<'k, const FAULT: bool>(pub OpenTask<'k>);

impl<'k, M: Machine, const FAULT: bool> Way<'k, M> for Direct<'k, FAULT> {
    const HOW: How = How::Delivered;

    #[inline(always)]
    fn state(timed: bool) -> State {
        if timed { State::AwaitTimed } else { State::Await }
    }

    #[inline(always)]
    fn begin(self, ipc: Ipc<'k, M>, me: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        block.address_to(sent.callee);
        ipc.deliver::<FAULT>(block, self.0, sent);
        ipc.pass_time(me.object(), self.0);
        if self.0.has_flag(FLAG_AWAITED) {
            ipc.attend_now(self.0);
        }
    }

    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, _: Option<OpenTask<'k>>, sent: &Sent<'k>) {
        let sender = block.task();
        ipc.trace().note_received(sender, sent.callee);
        block.address_to(sent.callee);
        block.mark_received();
        ipc.deliver::<FAULT>(block, self.0, sent);
        match ipc.time().resting_time(sender) {
            Some(sc) if !ipc.time().is_worse_than_own(sc, self.0) => {
                ipc.time().lend(sc, sender, self.0);
                ipc.time().enqueue(sc);
            }
            _ => ipc.time().start(self.0),
        }
        ipc.time().attend(self.0);
    }
}

/// The callee is on this CPU and does not receive.
pub struct Queue<'k>(pub OpenTask<'k>);

impl<'k, M: Machine> Way<'k, M> for Queue<'k> {
    const HOW: How = How::Queued;

    fn state(_: bool) -> State {
        State::Sending
    }

    fn begin(self, ipc: Ipc<'k, M>, _: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        ipc.time().stop_current();
        ipc.queue_call(block, self.0, sent);
        ipc.time().dispatch();
    }

    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, _: Option<OpenTask<'k>>, sent: &Sent<'k>) {
        ipc.queue_call(block, self.0, sent);
    }
}

/// The callee is on another CPU. The generation half of its state word is `tag`'s.
pub struct There {
    pub tag: u64,
}

impl<'k, M: Machine> Way<'k, M> for There {
    const HOW: How = How::Sent;

    fn state(_: bool) -> State {
        State::AwaitRemote
    }

    fn begin(self, ipc: Ipc<'k, M>, me: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        let to = sent.callee.get().hot.mail_target(ipc.pin());
        let rank = ipc.take_running_along(&block, to);
        take_registers_along(me.part(), &block);
        block.take_number_of(me.part());
        ipc.send_out(block, self.tag, sent, to, rank);
        ipc.time().dispatch();
    }

    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, sender: Option<OpenTask<'k>>, sent: &Sent<'k>) {
        let to = sent.callee.get().hot.mail_target(ipc.pin());
        ipc.leave_sender(&block, sender, to);
        ipc.send_out(block, self.tag, sent, to, ipc.rank_for(to));
    }
}

impl<'k, M: Machine> Ipc<'k, M> {
    /// Sends a message of the running task, which waits for its end, with or without a deadline.
    #[inline(always)]
    pub fn begin<W: Way<'k, M>>(self, me: OpenTask<'k>, way: W, sent: &Sent<'k>, deadline: Option<u64>) {
        let block = Block::take(me.object(), self.pin());
        if let Some(at) = deadline {
            self.time().set_deadline(me.object(), at);
        }
        self.trace().event(|| {
            let (caller, callee) = (me.get().id(), sent.callee.get().id());
            Event::Call { caller, callee, path: Path::Slow, how: W::HOW }
        });
        me.enter(W::state(deadline.is_some()));
        way.begin(self, me, block, sent);
    }

    /// Sends a message whose sender waits already.
    pub fn pass<W: Way<'k, M>>(self, block: Block<'k>, way: W, sent: &Sent<'k>) {
        let sender = self.open(block.task());
        if let Some(sender) = sender {
            sender.enter(W::state(sender.deadline.is_queued()));
        }
        way.pass(self, block, sender, sent);
    }

    /// Delivers or queues a call whose caller already waits, at a callee of this CPU.
    pub fn pass_on(self, block: Block<'k>, callee: OpenTask<'k>, sent: &Sent<'k>) {
        block.address_to(sent.callee);
        if !self.is_receiving(callee.part()) {
            return self.pass(block, Queue(callee), sent);
        }
        if sent.words.info.has(PAYLOAD_FLAGS)
            && let Err(why) = self.payload().pass_waiting_load(block.task(), sent.callee, sent.words.info)
        {
            return self.refuse(block, why);
        }
        self.pass(block, Direct::<true>(callee), sent);
    }

    /// Gives a call to a receiving task: writes the message, records the caller, and makes the task
    /// ready.
    #[inline(always)]
    fn deliver<const FAULT: bool>(self, block: Block<'k>, callee: OpenTask<'k>, sent: &Sent<'k>) {
        let (caller, words) = (block.task(), sent.words);
        if callee.is_in(State::RecvTimed) {
            self.time().clear_deadline(callee);
        }
        self.copy_utcb(caller, sent.callee, words.info.words());
        self.write_message(callee.part(), words, sent.from);
        callee.serve(block);
        callee.enter(State::Ready);
        if FAULT && words.info.has(FLAG_FAULT) {
            self.show_fault(caller, callee);
        }
    }

    /// Lends the running context to the callee, which runs immediately. There is no accounting,
    /// because the time is still charged to the same context.
    #[inline(always)]
    fn pass_time(self, me: Ref<'k, Task>, callee: OpenTask<'k>) {
        callee.time.owe(me);
        self.running_now().task.set(Some(callee.object()));
        self.time().run_task(callee);
    }

    /// Lets a task that has just got a call go on with better time, if somebody has waited for it.
    #[cold]
    #[inline(never)]
    fn attend_now(self, callee: OpenTask<'k>) {
        self.time().attend(callee);
        self.time().dispatch();
    }

    /// Queues a call at a task that is not receiving. The caller's time rests with the caller; a
    /// callee that has no time, or less, continues with it.
    fn queue_call(self, block: Block<'k>, callee: OpenTask<'k>, sent: &Sent<'k>) {
        block.write(sent.words, sent.from);
        let caller = block.task();
        let priority = self.waits_at_priority(caller);
        block.queue_at(sent.callee);
        callee.queue_call(self.pin(), block, priority);
        self.raise(callee, caller, priority);
    }

    /// Lets a task go on with the time of one that waits for it from now on at a priority, if it
    /// has no time, or less. A task that waits itself does so when it wakes.
    #[inline(always)]
    pub fn raise(self, callee: OpenTask<'k>, caller: Ref<'k, Task>, priority: u8) {
        if Protection::Inheritance.is_off() {
            return;
        }
        let has = if callee.is_runnable() { self.time().time_of(callee) } else { None };
        match has {
            Some(has) => self.time().take_above(callee, has, priority),
            None if callee.state() == State::Exhausted => self.time().end_rest_by(callee, caller),
            None => {
                self.time().note_awaited(callee, priority);
                self.time().time_came(callee);
            }
        }
    }

    /// Returns the priority at which a sender begins to wait. Reports that its time rests, if that
    /// is watched.
    pub fn waits_at_priority(self, sender: Ref<'k, Task>) -> u8 {
        let Some(sc) = self.time().resting_time(sender) else { return 0 };
        self.time().tell_if_watched(sc, Doing::Rests);
        sc.state.priority()
    }

    // --- to another CPU --------------------------------------------------------------------------

    /// Sends a message in its block to the callee's CPU. `rank` counts if no time goes along.
    fn send_out(self, block: Block<'k>, tag: u64, sent: &Sent<'k>, to: CpuId, rank: u32) {
        block.write(sent.words, sent.from);
        block.goes_out(sent.callee, tag_of(tag, sent.words.info));
        block.task().get().msg_node.set_rank(rank);
        self.outbox().send_block(block, to);
    }

    /// Adds a queued call or event to the batch in which its receiver moves to another CPU. `word`
    /// is the receiver's state word.
    pub fn send_along(
        self,
        block: Block<'k>,
        receiver: Ref<'k, Task>,
        to: CpuId,
        word: u64,
        batch: &mut Batch<'k, Mail>,
    ) {
        self.leave_queue(&block, receiver, to, word & !u64::from(u32::MAX));
        let node = block.task().map(|t| &t.msg_node);
        batch.add(node, Mail::Message(self.outbox().seal(block, to)));
    }

    /// Sends a call or event, whose receiver has left this CPU, through this CPU's own mailbox,
    /// from which it goes on to the receiver.
    pub fn send_after(self, block: Block<'k>, receiver: Ref<'k, Task>) {
        self.leave_queue(&block, receiver, self.id(), receiver.get().tag());
        // For one whose time does not go along.
        block.task().get().msg_node.set_rank(0);
        self.outbox().send_block(block, self.id());
    }

    /// Makes a block that has left a queue ready to travel.
    fn leave_queue(self, block: &Block<'k>, receiver: Ref<'k, Task>, to: CpuId, tag: u64) {
        let sender = self.open(block.task());
        if let Some(sender) = sender {
            sender.enter(State::AwaitRemote);
        }
        self.leave_sender(block, sender, to);
        block.goes_out(receiver, tag_of(tag, block.info()));
    }

    /// Makes the block of a waiting sender ready to leave this CPU. The sender's time goes along,
    /// if it may run on the other CPU.
    fn leave_sender(self, block: &Block<'k>, sender: Option<OpenTask<'k>>, to: CpuId) {
        // Its own CPU saw to registers and number when the block left there.
        let Some(sender) = sender else { return self.keep_time_from(block, to) };
        self.take_time_along(block, sender, to);
        take_registers_along(sender.part(), block);
        block.take_number_of(sender.part());
    }

    /// Stops the running task. Puts its time into its message block, if the time may run on the
    /// other CPU. Otherwise returns the rank of the message.
    #[inline(always)]
    fn take_running_along(self, msg: &Message, to: CpuId) -> u32 {
        match self.running().filter(|sc| sc.state.may_run_on(to)) {
            Some(sc) => {
                self.time().halt(&sc);
                msg.set_time(Some(sc.object()));
                0
            }
            None => {
                let rank = self.rank_for(to);
                self.time().stop_current();
                msg.set_time(None);
                rank
            }
        }
    }

    /// Takes the time out of a block that goes on to another CPU, if it may not run there. Then it
    /// has no holder, and stays here until its owner needs it.
    fn keep_time_from(self, block: &Block<'k>, to: CpuId) {
        let sc = block.time(self.pin()).map(|sc| OpenTime::here(sc, self.pin()));
        if let Some(sc) = sc.filter(|sc| !sc.state.may_run_on(to)) {
            sc.task.set(None);
            block.set_time(None);
        }
    }

    /// Puts a caller's resting time into its message block, if the time may run on the other CPU.
    fn take_time_along(self, block: &Block<'k>, caller: OpenTask<'k>, to: CpuId) {
        let fits = |sc: &Ref<'k, SchedContext>| self.open_time(*sc).is_some_and(|h| h.state.may_run_on(to));
        let sc = self.time().time_of(caller).filter(fits);
        if sc.is_some_and(|sc| caller.time.borrows(sc)) {
            caller.time.put_down();
        }
        block.set_time(sc);
    }
}

/// Returns the tag by which a callee's CPU checks a message. A tag with [`FLAG_NEVER`] makes the
/// message take the slow path there. The slow path compares only the generation. The fast path,
/// which would deliver an ordinary message, compares the whole tag, and [`FLAG_NEVER`] never
/// matches.
fn tag_of(tag: u64, info: MsgInfo) -> u64 {
    if info.has(SPECIAL) { tag | u64::from(FLAG_NEVER) << 8 } else { tag }
}
