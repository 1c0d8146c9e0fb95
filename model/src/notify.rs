//! Notifications: raise, wait, bind.

use abi::{Error, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, ObjType, Rights, task_rights};

use crate::object::State;
use crate::{Answer, Args, Id, Model, Refusal, Regs, Result};

impl Model {
    pub fn notify(&mut self, me: Id, args: &Args) -> Result {
        let found = self.find_any(me, args.cap(0))?;
        let object = if self.object_type(found.object) == ObjType::Notification {
            self.find(me, args.cap(0), ObjType::Notification, Rights::NOTIFY)?.object
        } else {
            let target = args.target(0);
            let (group, _) = self.find_group(me, target.cap(), Rights::NOTIFY)?;
            let exposed = self.exposed(group, target.index(), self.task(me).home);
            exposed
                .filter(|it| self.object_type(*it) == ObjType::Notification)
                .ok_or(Refusal::new(Error::NoExposure, u64::from(target.index())))?
        };
        self.raise(object, args.0[1]);
        Ok(Answer::DONE)
    }

    /// Gives the bits to the waiting task; else to the bound task, if it receives.
    pub fn raise(&mut self, object: Id, bits: u64) {
        let it = self.notification_mut(object);
        it.bits |= bits;
        let bits = it.bits;
        if bits == 0 {
            return;
        }
        if let Some(waiter) = it.waiter.take() {
            self.notification_mut(object).bits = 0;
            self.goes_on(waiter, Regs::values(MsgInfo(0), [0, 0, bits, 0]));
        } else if let Some(bound) = it.bound
            && self.is_receiving(bound)
            && self.task(bound).time.is_some()
        {
            self.notification_mut(object).bits = 0;
            self.goes_on(bound, Regs::values(MsgInfo(FLAG_NOTIFICATION), [0, 0, bits, 0]));
        }
    }

    /// Ends a task's wait with an answer.
    pub(crate) fn goes_on(&mut self, task: Id, regs: Regs) {
        let it = self.task_mut(task);
        (it.state, it.deadline, it.regs) = (State::Ready, None, regs);
    }

    pub fn wait(&mut self, me: Id, args: &Args) -> Result {
        let object = self.look_wait(me, args)?;
        let bits = core::mem::take(&mut self.notification_mut(object).bits);
        if bits != 0 {
            return Ok(Answer::Values([0, 0, bits, 0]));
        }
        self.notification_mut(object).waiter = Some(me);
        let it = self.task_mut(me);
        (it.state, it.deadline) = (State::Waiting(object), args.deadline());
        Ok(Answer::Settled)
    }

    /// Returns the Notification that has bits, or for which the caller may wait.
    pub(crate) fn look_wait(&self, me: Id, args: &Args) -> Result<Id> {
        let object = self.find(me, args.cap(0), ObjType::Notification, Rights::LISTEN)?.object;
        let it = self.notification(object);
        if it.home != self.task(me).home {
            return Err(Refusal::new(Error::WrongCpu, it.home as u64));
        }
        if it.bits != 0 {
            return Ok(object);
        }
        if it.waiter.is_some() || it.bound.is_some_and(|bound| bound != me) {
            return Err(Error::InUse.into());
        }
        if self.is_dying(object) {
            return Err(Error::Dying.into());
        }
        if args.1.has(FLAG_NONBLOCK) {
            return Err(Error::WouldBlock.into());
        }
        if self.task(me).time.is_none() {
            return Err(Error::NoTime.into());
        }
        self.check_deadline(args)?;
        Ok(object)
    }

    pub fn notification_bind(&mut self, me: Id, args: &Args) -> Result {
        let object = self.find(me, args.cap(0), ObjType::Notification, Rights::LISTEN)?.object;
        let task = self.find(me, args.cap(1), ObjType::Task, task_rights::SCHEDULE)?.object;
        let (here, home) = (self.task(me).home, self.task(task).home);
        let it = self.notification(object);
        if it.home != here || home != here {
            return Err(Refusal::new(Error::WrongCpu, home as u64));
        }
        if it.bound.is_some() || it.waiter.is_some() || self.task(task).bound.is_some() {
            return Err(Error::InUse.into());
        }
        if matches!(self.task(task).state, State::Fresh | State::Dead) {
            return Err(Error::BadState.into());
        }
        if self.is_dying(object) {
            return Err(Error::Dying.into());
        }
        if self.task(task).time.is_none() {
            return Err(Error::NoTime.into());
        }
        self.notification_mut(object).bound = Some(task);
        self.task_mut(task).bound = Some(object);
        self.raise(object, 0);
        Ok(Answer::DONE)
    }
}
