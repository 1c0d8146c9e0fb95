//! Locks that processes share: waits for the owner of a lock, and passing a lock on.
//!
//! A lock is a word of a Frame. Programs write such words, and the kernel only reads them: in a
//! test, the environment writes them ([`Model::write_word`]). A wait is a call that no task
//! receives. It ends when the owner passes the lock on, dies or moves to another CPU, and by all
//! that ends a call.
//!
//! The model does not describe the order in which the tasks that wait for a lock wake: when a
//! [`LockPass`](abi::Op::LockPass) is over and the system has settled, all of them are awake.

use alloc::vec::Vec;

use abi::{Error, FLAG_NONBLOCK, LockWord, MsgInfo, ObjType, Rights, TaskId};

use crate::object::{LockWait, State};
use crate::{Answer, Args, Id, Kind, Model, Refusal, Regs, Result};

/// Bytes of a word, as a base-2 logarithm.
const WORD_LOG2: u8 = 3;

/// Returns the refusal for a lock whose owner is no task any more that may have it.
pub fn owner_died(who: TaskId) -> Refusal {
    Refusal { who, ..Error::OwnerDied.into() }
}

impl Model {
    // --- operations ------------------------------------------------------------------------------

    pub fn lock_wait(&mut self, me: Id, args: &Args) -> Result {
        let Some(wait) = self.find_taken(me, args)? else { return Ok(Answer::DONE) };
        if wait.owner == me {
            return Err(Error::Deadlock.into());
        }
        self.check_deadline(args)?;
        if args.1.has(FLAG_NONBLOCK) {
            return Err(Error::WouldBlock.into());
        }
        if self.closes_cycle(me, wait.owner) {
            return Err(Error::Deadlock.into());
        }
        let it = self.task_mut(me);
        (it.state, it.deadline) = (State::InLock(wait), args.deadline());
        Ok(Answer::Settled)
    }

    pub fn lock_pass(&mut self, me: Id, args: &Args) -> Result {
        let frame = self.find(me, args.cap(0), ObjType::Frame, Rights::MAP)?.object;
        let word = self.address_of_word(frame, args.target(0).index(), 0)?;
        for waiter in self.lock_waiters(me) {
            if self.lock_wait_of(waiter).is_some_and(|wait| wait.word == word) {
                self.looks_again(waiter);
            }
        }
        Ok(Answer::DONE)
    }

    // --- words -----------------------------------------------------------------------------------

    /// Writes a word of a frame, as a program does that has mapped it.
    pub fn write_word(&mut self, frame: Id, number: u32, word: u64) {
        self.frame_mut(frame).words.insert(number, word);
    }

    pub fn read_word(&self, frame: Id, number: u32) -> u64 {
        self.frame(frame).words.get(&number).copied().unwrap_or(0)
    }

    /// Returns the address of a frame's word. `position` is that of the argument that says which
    /// word.
    fn address_of_word(&self, frame: Id, number: u32, position: u64) -> Result<u64> {
        let it = self.frame(frame);
        if u64::from(number) >= it.pages << (it.log2 - WORD_LOG2) {
            return Err(Refusal::argument(position));
        }
        Ok(it.base + (u64::from(number) << WORD_LOG2))
    }

    // --- waits -----------------------------------------------------------------------------------

    /// Checks the arguments of a LockWait, and finds the lock and its owner. Returns `None` if the
    /// lock's word is not the one that the task names.
    fn find_taken(&self, me: Id, args: &Args) -> Result<Option<LockWait>> {
        let (number, word) = (args.target(2).index(), LockWord(args.0[3]));
        let frame = self.find(me, args.cap(2), ObjType::Frame, Rights::MAP)?.object;
        let group = self.find_group(me, args.cap(0), Rights::SEND)?.0;
        if self.is_dying(frame) {
            return Err(Error::Dying.into());
        }
        self.may_read(self.process_of(me), frame)?;
        if !word.waits() {
            return Err(Refusal::argument(3));
        }
        let address = self.address_of_word(frame, number, 2)?;
        if self.read_word(frame, number) != word.0 {
            return Ok(None);
        }
        let exposure = self.group(group).exposures.get(word.index() as usize);
        if exposure.is_some_and(|it| it.per_cpu.is_some()) {
            return Err(Refusal::argument(3));
        }
        let exposed = self.exposed(group, word.index(), self.task(me).home);
        let owner = exposed.filter(|it| self.has_lock(*it, word)).ok_or(owner_died(TaskId::NONE))?;
        Ok(Some(LockWait { owner, word: address, args: *args }))
    }

    /// Returns whether an object is a live task that a lock's word names.
    fn has_lock(&self, object: Id, word: LockWord) -> bool {
        match &self.objects[object.0].kind {
            Kind::Task(task) => word.names(task.id) && task.state != State::Dead,
            _ => false,
        }
    }

    /// Returns whether the locks lead from the owner of one back to the task that is to wait for
    /// it, or through too many tasks.
    fn closes_cycle(&self, waiter: Id, owner: Id) -> bool {
        let mut at = owner;
        for _ in 0..self.limits.lock_chain {
            match self.awaited_owner(at) {
                None => return false,
                Some(next) if next == waiter => return true,
                Some(next) => at = next,
            }
        }
        self.awaited_owner(at).is_some()
    }

    /// Returns the owner of the lock for which a task waits, if the lock's word still names that
    /// owner. The waiting task's arguments are checked once more, with what it has now.
    fn awaited_owner(&self, task: Id) -> Option<Id> {
        let wait = self.lock_wait_of(task)?;
        self.find_taken(task, &wait.args).ok()?.map(|lock| lock.owner)
    }

    /// Returns the wait for a lock in which a task is.
    pub fn lock_wait_of(&self, task: Id) -> Option<LockWait> {
        match &self.objects[task.0].kind {
            Kind::Task(it) => match it.state {
                State::InLock(wait) => Some(wait),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the tasks that wait for locks of a task.
    pub fn lock_waiters(&self, owner: Id) -> Vec<Id> {
        let waits = |id: &Id| self.lock_wait_of(*id).is_some_and(|wait| wait.owner == owner);
        self.ids().filter(waits).collect()
    }

    /// Ends a wait for a lock: the waiter looks at the lock again.
    pub fn looks_again(&mut self, waiter: Id) {
        self.goes_on(waiter, Regs::values(MsgInfo(0), [0; 4]));
    }
}
