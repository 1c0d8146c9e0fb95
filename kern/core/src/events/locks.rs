//! Locks across processes: waits for the owner of a lock, and wakes those who wait.
//!
//! A lock is a word of a Frame ([`LockWord`]). Programs take and give it back without the kernel.
//! The kernel only reads the word, and only to see whether a wait is still right.
//!
//! # A wait
//! A wait is a call that no task receives. The waiter's message block goes to the owner's CPU, by
//! the ways of calls ([`crate::ipc::ways`]), and is queued there: in the owner's `waiters`, by
//! priority, and in order within one. Everything that can end a call can end the wait, and the
//! owner goes on with a waiter's CPU time as with that of a queued caller.
//!
//! The owner's CPU reads the word once more before it queues the block. The owner is not running
//! on another CPU then. So if its word is still there, with the bit that says that somebody waits,
//! the owner gives the lock back later, sees the bit, and passes the lock on. If the word is
//! another one, the waiter returns and looks itself. So no wake-up is lost.
//!
//! # Passing on
//! [`abi::Op::LockPass`] wakes the best waiter of the lock, if that is among the first
//! [`CALL_STEPS`] of the owner's waiters. If others may wait for this lock, the owner's CPU then
//! wakes all of them that were queued before, some in each entry, by mail to itself
//! ([`ctl::PASS`]). Each looks at the lock again, and waits again if it must. So a waiter that is
//! killed or suspended after it was woken keeps nobody from the lock.
//!
//! # Cycles
//! Before a block is queued, the kernel follows the locks from the owner on: if the owner waits for
//! a lock whose word still says that another task has it, to that task, and so on. If the way comes
//! back to the waiter, the wait is refused. If it leads to another CPU, the block goes there, and
//! to the owner's CPU after that. If it is longer than the work of an entry, the block goes on
//! through the CPU's own mailbox. A task's registers say for which lock it waits, and its wait
//! begins before its block follows the way. So of the waits that close a cycle, the last one to
//! begin finds it.
//!
//! # Dead owners
//! A task's id leads nowhere but through its exposure. So where no exposure has the owner, it is
//! dead, or it has left: somebody has withdrawn it while it lives. Operations that end a task take
//! its exposures only when the task is dead, and so has stopped. They are the kill of a process
//! ([`crate::life::kill`]), the deletion of a last capability that is an exposure, and the revoke
//! of the memory of which the task was made ([`crate::life::reclaim`]). So a task that learns that
//! an owner is dead may take its lock.
//!
//! # References
//! A block under way names a Frame and a task ([`Request::Lock`]). Each entry that sends it, first
//! or further, looks whether both are alive, so it arrives before their memory is used again. A
//! block that is queued names no Frame, and knows the lock's word by its address alone.

use abi::audit::may;
use abi::{Error, FLAG_NONBLOCK, LockWord, MsgInfo, ObjType, Op, Target, TaskId};
use kern_base::block::Block;
use kern_base::flags::FLAG_LOCK;
use kern_base::header::{FLAG_DEAD, FLAG_DYING};
use kern_base::limits::{CALL_STEPS, LOCK_CHAIN, WAKE_WORK};
use kern_base::machine::Machine;
use kern_base::memory::Frame;
use kern_base::message::Request;
use kern_base::task::{Ending, FLAG_IN_FAULT, State, Task, TaskHot, ctl};
use sched::PrioQueued;
use smp::door::Ref;
use test_abi::trace::How;

use crate::answer::write_values;
use crate::args::Args;
use crate::ipc::call::{SenderInfo, Words};
use crate::ipc::ends::End;
use crate::ipc::ways::{Sent, There, Way};
use crate::rooms::{Events, Ipc};
use crate::time::search::WALK_WORK;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Priorities, each of whose first waiter a wake may look at.
const PRIORITIES: usize = 256;

/// Work of a step from a lock's owner to the owner of the lock for which that one waits.
const FOLLOW_WORK: u64 = 300;

/// In [`TaskHot::passed`]: several locks. No word of a Frame has this name.
const ANY_LOCK: u64 = u64::MAX;

/// The end of a wait: the waiter looks at the lock again.
const LOOK_AGAIN: End = End::Replied(Words::NONE);

/// Returns the refusal for a lock whose owner is no task any more that may have it.
pub const fn owner_died(who: TaskId) -> Refusal {
    Refusal::Error { error: Error::OwnerDied, detail: 0, who }
}

/// A lock that a task found taken.
struct Taken<'k> {
    frame: Ref<'k, Frame>,
    /// The name of the lock's word.
    name: u64,
    word: LockWord,
    owner: Ref<'k, Task>,
    custom: u16,
}

/// Where the locks lead, from the owner of one to the owner of that for which it waits, and so on.
enum Lead<'k> {
    /// To a task that waits for no lock.
    Free,
    /// Back to the waiter, or too far.
    Cycle,
    /// To this task, after so many steps. What it waits for is to be found on its CPU.
    On(Ref<'k, Task>, u64),
}

/// The words of a wait's message.
struct LockCall {
    name: u64,
    word: LockWord,
    /// How many steps the block has followed locks; [`LockCall::FOLLOWED`]: to the end.
    steps: u64,
    /// How often the owner had passed locks on when the block was queued.
    passes: u64,
}

impl LockCall {
    const FOLLOWED: u64 = u64::MAX;

    fn of(words: Words) -> LockCall {
        let [name, word, steps, passes] = words.regs;
        LockCall { name, word: LockWord(word), steps, passes }
    }

    fn words(&self) -> Words {
        Words { info: MsgInfo(FLAG_LOCK), regs: [self.name, self.word.0, self.steps, self.passes] }
    }
}

/// The way of a wait to an owner of this CPU.
struct Behind<'k>(OpenTask<'k>);

impl<'k, M: Machine> Way<'k, M> for Behind<'k> {
    const HOW: How = How::Queued;

    fn state(_: bool) -> State {
        State::Sending
    }

    fn begin(self, ipc: Ipc<'k, M>, _: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        ipc.time().stop_current();
        queue(ipc, block, self.0, sent);
        ipc.time().dispatch();
    }

    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, _: Option<OpenTask<'k>>, sent: &Sent<'k>) {
        queue(ipc, block, self.0, sent);
    }
}

/// Queues a wait at the owner of the lock, which goes on with the waiter's time if that outranks
/// its own.
fn queue<'k, M: Machine>(ipc: Ipc<'k, M>, block: Block<'k>, owner: OpenTask<'k>, sent: &Sent<'k>) {
    let call = LockCall { passes: owner.passes.get(), ..LockCall::of(sent.words) };
    // A block that waits names no Frame, also not one of an earlier wait that was recalled.
    let _ = block.take_request();
    block.write(call.words(), sent.from);
    let waiter = block.task();
    let priority = ipc.waits_at_priority(waiter);
    block.queue_at(owner.object());
    owner.waiters.put(ipc.pin(), block, priority);
    ipc.raise(owner, waiter, priority);
}

/// The way of a wait to another CPU, or through this CPU's own mailbox.
struct Away<'k> {
    to: Ref<'k, Task>,
    lock: Request,
}

impl<'k, M: Machine> Way<'k, M> for Away<'k> {
    const HOW: How = How::Sent;

    fn state(_: bool) -> State {
        State::AwaitRemote
    }

    fn begin(self, ipc: Ipc<'k, M>, me: OpenTask<'k>, block: Block<'k>, sent: &Sent<'k>) {
        block.note_lock(self.lock);
        There { tag: self.to.get().tag() }.begin(ipc, me, block, sent);
    }

    fn pass(self, ipc: Ipc<'k, M>, block: Block<'k>, sender: Option<OpenTask<'k>>, sent: &Sent<'k>) {
        block.note_lock(self.lock);
        There { tag: self.to.get().tag() }.pass(ipc, block, sender, sent);
    }
}

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::LockWait`].
    pub fn lock_wait(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let Some(lock) = self.find_taken(me, args)? else { return Ok(Answer::DONE) };
        let Taken { owner, .. } = lock;
        refuse_if(owner == me.object(), Error::Deadlock)?;
        let deadline = args.deadline();
        refuse_if(deadline.is_some_and(|at| at <= self.k.machine.now()), Error::Timeout)?;
        refuse_if(MsgInfo(args.info).has(FLAG_NONBLOCK), Error::WouldBlock)?;
        let from = SenderInfo { sender: me.get().id(), target: Target(args.a0), custom: lock.custom };
        let call = |steps| LockCall { name: lock.name, word: lock.word, steps, passes: 0 };
        let sent = |callee, steps| Sent { callee, words: call(steps).words(), from };
        let carried = Request::Lock { frame: lock.frame.ptr(), owner: owner.ptr() };
        let Some(here) = self.open(owner) else {
            let way = Away { to: owner, lock: carried };
            self.ipc().begin(me, way, &sent(owner, 0), deadline);
            return Ok(Answer::Settled);
        };
        refuse_if(here.is_dying(), owner_died(owner.get().id()))?;
        match self.follow_locks(here, me.object(), 0) {
            Lead::Free => self.ipc().begin(me, Behind(here), &sent(owner, LockCall::FOLLOWED), deadline),
            Lead::Cycle => return Err(Error::Deadlock.into()),
            Lead::On(next, steps) => {
                let way = Away { to: next, lock: carried };
                self.ipc().begin(me, way, &sent(next, steps), deadline);
            }
        }
        Ok(Answer::Settled)
    }

    /// Checks the arguments of a task's [`abi::Op::LockWait`], and finds the lock and its owner.
    /// Returns `None` if the lock's word is not the one that the task names.
    /// Errors: the word names no task that may have the lock.
    fn find_taken(self, me: OpenTask<'k>, args: &Args) -> Result<Option<Taken<'k>>> {
        let need = const { Op::LockWait.needs(0, ObjType::Group) };
        let frame = self.caps().operand::<Frame, { Op::LockWait as u8 }, 2>(me, args.cap2())?;
        let group = self.caps().find_group(me, args.cap(), need)?;
        refuse_if(frame.get().header.has_flag(FLAG_DYING), Error::Dying)?;
        self.security().may(&me.process(self.pin()).get().header, &frame.get().header, may::READ)?;
        let word = LockWord(args.a3);
        refuse_if(!word.waits(), Refusal::argument(3))?;
        let name = self.mem().name_of_word(frame, Target(args.a2).index(), 2)?;
        if self.mem().read_word(frame, name)? != word.0 {
            return Ok(None);
        }
        // Otherwise the index leads to the owner only from the owner's CPU.
        refuse_if(group.group.get().is_per_cpu(self.pin(), word.index()), Refusal::argument(3))?;
        let dest = self.caps().task_in(group, word.index());
        let dest = dest.map_err(|_| match group.group.get().header.has_flag(FLAG_DYING) {
            // The end of the group has taken the exposure, whatever its task does.
            true => Error::Dying.into(),
            false => owner_died(TaskId::NONE),
        })?;
        let owner = dest.task;
        let is_owner = word.names(owner.get().id()) && !owner.get().header.has_flag(FLAG_DEAD);
        refuse_if(!is_owner, owner_died(TaskId::NONE))?;
        Ok(Some(Taken { frame, name, word, owner, custom: dest.custom }))
    }

    // --- cycles ----------------------------------------------------------------------------------

    /// Follows the locks for which tasks wait, from one of this CPU on, as far as this entry may: a
    /// step, and as many more as there is work for.
    fn follow_locks(self, from: OpenTask<'k>, waiter: Ref<'k, Task>, steps: u64) -> Lead<'k> {
        let (mut at, mut steps) = (from, steps);
        for _ in 0..CALL_STEPS {
            let Some(next) = self.awaited_owner(at) else { return Lead::Free };
            self.note_work(FOLLOW_WORK);
            steps += 1;
            if next == waiter || steps > LOCK_CHAIN {
                return Lead::Cycle;
            }
            match self.open(next) {
                Some(next) => at = next,
                None => return Lead::On(next, steps),
            }
            if !self.has_work(FOLLOW_WORK) {
                break;
            }
        }
        Lead::On(at.object(), steps)
    }

    /// Returns the owner of the lock for which a task of this CPU waits, if the lock's word still
    /// names that owner.
    fn awaited_owner(self, task: OpenTask<'k>) -> Option<Ref<'k, Task>> {
        if !self.is_in_lock_wait(task) || task.ending() != Ending::None {
            return None;
        }
        self.find_taken(task, &args_of(task.part())).ok()?.map(|lock| lock.owner)
    }

    /// Returns whether a task of this CPU waits for a lock.
    fn is_in_lock_wait(self, task: OpenTask<'k>) -> bool {
        let waits = matches!(task.state(), State::Sending | State::AwaitRemote);
        waits && !task.has_flag(FLAG_IN_FAULT) && task.regs.rax.get() as u8 == Op::LockWait as u8
    }

    // --- waits from other CPUs -------------------------------------------------------------------

    /// Queues the wait of a task, whose message block has come, at the owner of the lock, or sends
    /// the block on.
    #[cold]
    #[inline(never)]
    pub fn lock_wait_arrived(self, block: Block<'k>, sent: &Sent<'k>) {
        let Some(Request::Lock { frame, owner }) = block.take_request() else {
            // Its owner has moved to another CPU, and it was queued before.
            return self.ipc().end(block, LOOK_AGAIN);
        };
        let lock = Request::Lock { frame, owner };
        let (frame, owner) = (frame.get(self.pin()), owner.get(self.pin()));
        if frame.get().header.has_flag(FLAG_DYING) {
            return self.ipc().end(block, LOOK_AGAIN);
        }
        // Before the block goes on, also where it follows other locks: a CPU sends on nothing that
        // names what is dead, since its memory may be used again before that arrives.
        let died = owner_died(owner.get().id());
        if owner.get().header.has_flag(FLAG_DEAD) {
            return self.ipc().refuse(block, died);
        }
        let call = LockCall::of(sent.words);
        let at = sent.callee;
        if at != owner && call.steps != LockCall::FOLLOWED {
            return self.follow_further(block, (at, owner), sent, lock);
        }
        let Some(here) = self.open(owner) else {
            return self.send_wait(block, owner, sent, lock, call.steps);
        };
        if here.is_dying() || !call.word.names(owner.get().id()) {
            return self.ipc().refuse(block, died);
        }
        if self.mem().read_word(frame, call.name) != Ok(call.word.0) {
            return self.ipc().end(block, LOOK_AGAIN);
        }
        if call.steps != LockCall::FOLLOWED {
            match self.follow_locks(here, block.task(), call.steps) {
                Lead::Free => {}
                Lead::Cycle => return self.ipc().refuse(block, Error::Deadlock.into()),
                Lead::On(next, steps) => return self.send_wait(block, next, sent, lock, steps),
            }
        }
        self.ipc().pass(block, Behind(here), &Sent { callee: owner, ..*sent });
    }

    /// Follows the locks from the task `at` on, to which they have led a wait for a lock of
    /// `owner`.
    fn follow_further(
        self,
        block: Block<'k>,
        (at, owner): (Ref<'k, Task>, Ref<'k, Task>),
        sent: &Sent<'k>,
        lock: Request,
    ) {
        let steps = LockCall::of(sent.words).steps;
        let way = match self.open(at) {
            _ if at.get().header.has_flag(FLAG_DEAD) => Lead::Free,
            Some(here) => self.follow_locks(here, block.task(), steps),
            None => Lead::On(at, steps),
        };
        match way {
            Lead::Free => self.send_wait(block, owner, sent, lock, LockCall::FOLLOWED),
            Lead::Cycle => self.ipc().refuse(block, Error::Deadlock.into()),
            Lead::On(next, steps) => self.send_wait(block, next, sent, lock, steps),
        }
    }

    /// Sends a wait to the CPU of a task, after so many steps along the locks.
    fn send_wait(self, block: Block<'k>, to: Ref<'k, Task>, sent: &Sent<'k>, lock: Request, steps: u64) {
        let words = LockCall { steps, ..LockCall::of(sent.words) }.words();
        self.ipc().pass(block, Away { to, lock }, &Sent { callee: to, words, ..*sent });
    }

    // --- passing on ------------------------------------------------------------------------------

    /// Carries out [`abi::Op::LockPass`].
    pub fn lock_pass(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        let frame = self.caps().operand::<Frame, { Op::LockPass as u8 }, 0>(me, target.cap())?;
        let name = self.mem().name_of_word(frame, target.index(), 0)?;
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        if !me.waiters.is_empty() {
            self.pass_lock(me, name);
        }
        Ok(Answer::Settled)
    }

    /// Wakes the best task that waits for a lock of this owner, and makes the others wake by mail,
    /// if there may be some.
    fn pass_lock(self, owner: OpenTask<'k>, name: u64) {
        owner.passes.set(owner.passes.get() + 1);
        let (mut best, mut others, mut looks) = (None, false, 0);
        for waiter in self.time().lock_waiters(owner).take(CALL_STEPS) {
            looks += 1;
            if self.lock_of(waiter).is_some_and(|lock| lock.name == name) {
                others = best.is_some();
                best = best.or(Some(waiter));
            }
            if others {
                break;
            }
        }
        if others || looks == CALL_STEPS {
            // Two locks at a time: all who wait look again.
            let before = owner.passed.replace(name);
            if before != 0 && before != name {
                owner.passed.set(ANY_LOCK);
            }
            self.outbox().raise_control(owner.object(), ctl::PASS);
        }
        if let Some(block) = best.and_then(|best| owner.waiters.take(self.pin(), best)) {
            self.hand_over(owner, block);
        }
    }

    /// Wakes the task of a block, which has waited for a lock of the running task, as a reply wakes
    /// a caller: if the owner runs on the waiter's time, the waiter goes on with that
    /// immediately.
    fn hand_over(self, owner: OpenTask<'k>, block: Block<'k>) {
        match self.open(block.task()) {
            Some(waiter) => {
                self.time().clear_deadline(waiter);
                write_values(&waiter.regs, MsgInfo(0), [0; 4]);
                self.ipc().note_over(waiter.object(), None);
                self.ipc().end_call(owner, block, waiter);
            }
            None => self.ipc().answer_elsewhere(owner, block, Words::NONE),
        }
        self.ipc().go_on(owner);
    }

    /// Returns for which lock a task waits, whose message block is queued on this CPU.
    fn lock_of(self, waiter: Ref<'k, Task>) -> Option<LockCall> {
        waiter.get().message(self.pin()).map(|msg| LockCall::of(msg.words()))
    }

    /// Wakes the tasks that waited for a lock of a task of this CPU when it passed that on, as many
    /// as this entry may. Those that wait for other locks go behind others of their priority.
    #[cold]
    #[inline(never)]
    pub fn wake_lock_waiters(self, owner: OpenTask<'k>) {
        let (passes, passed) = (owner.passes.get(), owner.passed.get());
        let was_there = |waiter| {
            let is_left = self.lock_of(waiter).is_some_and(|lock| lock.passes < passes);
            if !is_left {
                self.note_work(LOOK_WORK);
            }
            is_left
        };
        for step in 0.. {
            let tasks = owner.waiters.tasks();
            let next = tasks.find_first(self.pin(), PRIORITIES, was_there);
            let Some((waiter, lock)) = next.and_then(|next| Some((next, self.lock_of(next)?))) else {
                return owner.passed.set(0);
            };
            let wakes = passed == ANY_LOCK || lock.name == passed;
            if step > 0 && !self.spend(if wakes { WAKE_WORK } else { WALK_WORK }) {
                return self.outbox().raise_control(owner.object(), ctl::PASS);
            }
            let priority = waiter.prio_links(self.pin()).priority().unwrap_or(0);
            let Some(block) = owner.waiters.take(self.pin(), waiter) else { return };
            if wakes {
                self.ipc().end(block, LOOK_AGAIN);
            } else {
                block.write(LockCall { passes, ..lock }.words(), block.sender());
                owner.waiters.put(self.pin(), block, priority);
            }
        }
    }
}

/// Returns the arguments of the system call in which a task waits.
fn args_of(hot: &TaskHot) -> Args {
    let regs = &hot.regs;
    Args {
        info: regs.rax.get(),
        a0: regs.rdi.get(),
        a1: regs.rsi.get(),
        a2: regs.rdx.get(),
        a3: regs.r8.get(),
        a4: regs.r9.get(),
        a5: regs.r10.get(),
    }
}
