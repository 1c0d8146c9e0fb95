//! Notifications: raise, wait, bind.

use abi::{Cap, Error, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, ObjType, Op, Target};
use kern_base::group::Group;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::notification::{Notification, NotificationHot};
use kern_base::sched_context::OpenTime;
use kern_base::task::{FLAG_AWAITED, FLAG_SUSPENDED, State, Task, TaskHot};
use smp::door::Ref;
use test_abi::trace::{Event, object_name};

use crate::answer::write_values;
use crate::args::Args;
use crate::rooms::Events;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::Notify`].
    #[inline(always)]
    pub fn notify(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let target = Target(args.a0);
        let slot = self.caps().slot_of(me.process(self.pin()), target.cap())?;
        let word = slot.get().word.load(self.pin());
        let object = if word.object_type() == ObjType::Notification as u8 {
            self.caps().typed_operand::<Notification, { Op::Notify as u8 }, 0>(word, target.cap())?
        } else {
            let need = const { Op::Notify.needs(0, ObjType::Group) };
            let group = self.caps().group_in(me, slot, word, target.cap(), need)?.group;
            self.exposed_notification(group, target.index())?
        };
        let hot = object.get().hot.open(self.pin());
        self.trace().event(|| Event::Notified {
            object: object_name(object.addr()),
            bits: args.a1,
            remote: hot.is_none(),
        });
        match hot {
            Some(hot) => self.raise(hot, args.a1),
            None => self.outbox().raise_remote(object, args.a1),
        }
        Ok(Answer::DONE)
    }

    /// Returns the Notification that an index of a group leads to.
    fn exposed_notification(self, group: Ref<'k, Group>, index: u32) -> Result<Ref<'k, Notification>> {
        let (_, word) = self.caps().exposed(group.get(), index)?;
        word.get::<Notification>().ok_or(Refusal::new(Error::NoExposure, u64::from(index)))
    }

    /// Raises bits of a Notification whose home is this CPU, and wakes the task that waits for
    /// them.
    #[inline]
    pub fn raise(self, hot: &NotificationHot, bits: u64) {
        hot.bits.set(hot.bits.get() | bits);
        if hot.bits.get() == 0 {
            return;
        }
        if let Some(waiter) = hot.waiter.take(self.pin()) {
            self.wake_waiter(waiter, hot);
        } else if let Some(bound) = hot.bound.get(self.pin()) {
            self.wake_bound(bound, hot);
        }
    }

    fn wake_waiter(self, waiter: Ref<'k, Task>, hot: &NotificationHot) {
        let waiter = OpenTask::here(waiter, self.pin());
        if let Some(object) = waiter.end_wait_for_bits(self.pin()) {
            self.trace().note_bits(waiter.object(), object);
        }
        if waiter.is_plain() && !waiter.has_flag(FLAG_AWAITED) {
            self.wake_plain(waiter.part(), hot.bits.take());
            return;
        }
        waiter.materialise_frame();
        self.time().clear_deadline(waiter);
        write_values(&waiter.regs, MsgInfo(0), [0, 0, hot.bits.take(), 0]);
        self.time().make_ready(waiter);
        self.time().dispatch();
    }

    /// Wakes a task with the plain bit, the common case: no other task has the waiter's own time.
    fn wake_plain(self, task: &TaskHot, bits: u64) {
        task.regs.rdx.set(bits);
        task.enter_plain(State::Ready);
        if task.has_flag(FLAG_SUSPENDED) {
            return;
        }
        if let Some(own) = task.time.own(self.pin()).and_then(|own| self.open_time(own)) {
            self.time().enqueue(own);
            self.time().dispatch();
        }
    }

    /// Marks a bound Notification's bits as pending for its task. Wakes the task if it receives and
    /// has its own time.
    fn wake_bound(self, bound: Ref<'k, Task>, hot: &NotificationHot) {
        let bound = OpenTask::here(bound, self.pin());
        bound.set_bits_pending(true);
        let receiving = matches!(bound.state(), State::Recv | State::RecvTimed);
        if !receiving || bound.has_flag(FLAG_SUSPENDED) || self.time().own_at_rest(bound).is_none() {
            return;
        }
        self.time().clear_deadline(bound);
        bound.set_bits_pending(false);
        if let Some(object) = bound.bound(self.pin()) {
            self.trace().note_bits(bound.object(), object);
        }
        write_values(&bound.regs, MsgInfo(FLAG_NOTIFICATION), [0, 0, hot.bits.take(), 0]);
        self.time().make_ready(bound);
        self.time().dispatch();
    }

    /// Carries out [`abi::Op::Wait`].
    #[inline(always)]
    pub fn wait(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let object = self.caps().operand::<Notification, { Op::Wait as u8 }, 0>(me, args.cap())?;
        let hot = self.here(&object.get().hot)?;
        let bits = hot.bits.take();
        if bits != 0 {
            self.trace().note_bits(me.object(), object);
            self.clear_bound_pending(hot);
            return Ok(Answer::Values([0, 0, bits, 0]));
        }
        refuse_if(!hot.waiter.is_null() || !hot.bound.is_null() && !hot.bound.is(me.object()), Error::InUse)?;
        refuse_if(object.get().header.has_flag(FLAG_DYING), Error::Dying)?;
        let info = MsgInfo(args.info);
        refuse_if(info.has(FLAG_NONBLOCK), Error::WouldBlock)?;
        refuse_if(!me.time.has_own(), Error::NoTime)?;
        if info.has(FLAG_DEADLINE) {
            refuse_if(args.a1 <= self.k.machine.now(), Error::Timeout)?;
            self.time().set_deadline(me.object(), args.a1);
        }
        me.wait_for(me.object(), object, hot);
        let is_plain = |sc: &OpenTime<'k>| {
            !info.has(FLAG_DEADLINE) && me.time.owns(sc.object()) && !sc.state.needs_care()
        };
        let own = self.running().filter(is_plain);
        if let Some(own) = own {
            me.enter_plain(State::WaitBits);
            self.time().stop(own);
            self.time().dispatch();
        } else {
            me.enter(State::WaitBits);
            self.ipc().rest(me);
        }
        Ok(Answer::Settled)
    }

    /// Clears the mark of pending bits at the task that the Notification is bound to.
    fn clear_bound_pending(self, hot: &NotificationHot) {
        if let Some(bound) = hot.bound.get(self.pin()).and_then(|t| self.open(t)) {
            bound.set_bits_pending(false);
        }
    }

    /// Carries out [`abi::Op::NotificationBind`].
    pub fn notification_bind(self, me: OpenTask<'k>, object: Cap, task: Cap) -> Result<Answer> {
        let object = self.caps().operand::<Notification, { Op::NotificationBind as u8 }, 0>(me, object)?;
        let task = self.caps().operand::<Task, { Op::NotificationBind as u8 }, 1>(me, task)?;
        let task = self.open_here(task)?;
        let Some(hot) = object.get().hot.open(self.pin()) else {
            // Both must be on one CPU. The error names the task's CPU, which is this one.
            return Err(match self.elsewhere(&object.get().hot) {
                Refusal::More => Refusal::More,
                _ => Refusal::new(Error::WrongCpu, self.id().index() as u64),
            });
        };
        refuse_if(
            !hot.bound.is_null() || task.bound(self.pin()).is_some() || !hot.waiter.is_null(),
            Error::InUse,
        )?;
        refuse_if(task.state() == State::Fresh || task.is_dying(), Error::BadState)?;
        refuse_if(object.get().header.has_flag(FLAG_DYING), Error::Dying)?;
        refuse_if(!task.time.has_own(), Error::NoTime)?;
        task.bind(task.object(), object, hot);
        if hot.bits.get() != 0 {
            self.raise(hot, 0);
        }
        Ok(Answer::DONE)
    }
}
