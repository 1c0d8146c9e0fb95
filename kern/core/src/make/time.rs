//! Operations on SchedControls and SchedContexts: what CPU time is allowed, set, bound, read and
//! given away.
//!
//! # Authority
//! A SchedContext gets its priority and its CPUs by a SchedControl, and a task gets its CPU by one.
//! A SchedContext is bound only to a task of one of its CPUs, a call takes it only to such CPUs,
//! and they stay while it has an owner or a holder. So it runs only where its priority was allowed.

use abi::{BUDGET_MIN, Cap, Error, MsgInfo, ObjType, Op, PERIOD_MAX, Target};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::sched_control::SchedControl;
use kern_base::task::{State, Task};
use sched::Budget;
use smp::cpu::CpuId;
use smp::door::Ref;
use test_abi::trace::Why;

use crate::answer::write_values;
use crate::args::Args;
use crate::rooms::Make;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// The refusal where a SchedControl does not cover a CPU.
pub const NOT_COVERED: Refusal = Refusal::new(Error::OverLimit, u64::MAX);

/// Returns the priority that a system call names in rdx.
fn priority_of(args: &Args) -> Result<u8> {
    u8::try_from(args.a2).map_err(|_| Refusal::argument(2))
}

/// Refuses a budget in r9 for windows of the length in r10, if it is out of bounds.
#[cold]
#[inline(never)]
fn check_budget(ticks: u64, period: u64) -> Result<()> {
    refuse_if(ticks < BUDGET_MIN, Refusal::argument(4))?;
    refuse_if(!(ticks..=PERIOD_MAX).contains(&period), Refusal::argument(5))
}

/// Refuses a priority above a SchedControl's ceiling.
fn check_ceiling(control: &SchedControl, priority: u8) -> Result<()> {
    let ceiling = control.ceiling().ok_or(NOT_COVERED)?;
    refuse_if(priority > ceiling, Refusal::new(Error::OverLimit, u64::from(ceiling)))
}

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::SchedAllow`].
    pub fn sched_allow(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let by = self.caps().operand::<SchedControl, { Op::SchedAllow as u8 }, 0>(me, args.cap())?;
        let to = self.caps().operand::<SchedControl, { Op::SchedAllow as u8 }, 1>(me, args.cap1())?;
        let ceiling = priority_of(args)?;
        let first = usize::try_from(args.a3).ok().filter(|first| first.is_multiple_of(64));
        let first = first.and_then(CpuId::new).ok_or(Refusal::argument(3))?;
        check_ceiling(by.get(), ceiling)?;
        refuse_if(args.a4 & !by.get().word(first) != 0, NOT_COVERED)?;
        let extended = to.get().extend(ceiling, first, args.a4);
        extended.map_err(|has| Refusal::new(Error::BadState, u64::from(has)))?;
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::SchedConfigure`].
    pub fn sched_configure(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let control = self.caps().operand::<SchedControl, { Op::SchedConfigure as u8 }, 0>(me, args.cap())?;
        let sc = self.caps().operand::<SchedContext, { Op::SchedConfigure as u8 }, 1>(me, args.cap1())?;
        let (priority, slice) = (priority_of(args)?, args.a3);
        refuse_if(slice == 0, Refusal::argument(3))?;
        let limits = args.a4 | args.a5 != 0;
        if limits {
            check_budget(args.a4, args.a5)?;
        }
        check_ceiling(control.get(), priority)?;
        let hot = self.here(&sc.get().hot)?;
        let (cpus, count) = (control.get().cpus(), self.k.cpu_count());
        if hot.owner.is_null() && hot.task.is_null() {
            hot.state.set_cpus(cpus, count);
        } else {
            refuse_if(!hot.state.runs_within(cpus, count), NOT_COVERED)?;
        }
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        let runs = self.sched.current.is(sc);
        let now = if runs { self.time().charge() } else { 0 };
        hot.state.set_slice(slice);
        hot.state.set_priority(priority);
        if limits || hot.state.has_budget() {
            self.set_budget(OpenTime::here(sc, self.pin()), args.a4, args.a5);
        } else if runs {
            self.sched.until.set(hot.state.start(now));
        }
        if let Some(task) = self.hot.current.get(self.pin()).filter(|_| runs) {
            self.trace().note_run(task);
        }
        self.sched.queue.change_priority(self.pin(), sc, priority);
        if runs && self.sched.queue.outranks(self.pin(), priority) {
            self.time().rotate(Why::Preempted);
        }
        if let Some(holder) = hot.task.get(self.pin()).and_then(|holder| self.open(holder)) {
            self.time().take_better(holder);
        }
        self.time().mind_less_time();
        self.time().dispatch();
        self.time().arm_timer_for_slice();
        Ok(Answer::Settled)
    }

    /// Sets the budget of a SchedContext, whose account is up to date, or takes it away: then both
    /// numbers are 0.
    #[cold]
    #[inline(never)]
    fn set_budget(self, sc: OpenTime<'k>, ticks: u64, period: u64) {
        let now = self.k.machine.now();
        sc.state.set_budget((ticks != 0).then_some(Budget { ticks, period }), now);
        if self.sched.current.is(sc.object()) {
            return self.time().charge_budget(sc, now);
        }
        let Some(holder) = sc.task.get(self.pin()).and_then(|holder| self.open(holder)) else { return };
        // The fast path starts the time of a task with the plain bit, and knows no budgets.
        holder.materialise_frame();
        if holder.state() == State::Exhausted {
            self.time().end_rest(holder);
        }
    }

    /// Carries out [`abi::Op::SchedBind`].
    pub fn sched_bind(self, me: OpenTask<'k>, sc: Cap, task: Cap) -> Result<Answer> {
        let sc = self.caps().operand::<SchedContext, { Op::SchedBind as u8 }, 0>(me, sc)?;
        let task = self.caps().operand::<Task, { Op::SchedBind as u8 }, 1>(me, task)?;
        self.bind_time(sc, task)?;
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Gives a task a SchedContext as its own.
    pub fn bind_time(self, sc: Ref<'k, SchedContext>, task: Ref<'k, Task>) -> Result<()> {
        let (sc_hot, task) = (self.here(&sc.get().hot)?, self.open_here(task)?);
        refuse_if(!sc_hot.owner.is_null() || !sc_hot.task.is_null() || task.time.has_own(), Error::InUse)?;
        refuse_if(task.state() == State::Fresh || task.is_dying(), Error::BadState)?;
        refuse_if(sc_hot.state.is_inert(), Error::BadState)?;
        refuse_if(!sc_hot.state.may_run_on(task.start_on()), NOT_COVERED)?;
        refuse_if(sc.get().header.has_flag(FLAG_DYING), Error::Dying)?;
        sc_hot.owner.set(Some(task.object()));
        sc_hot.task.set(Some(task.object()));
        task.time.bind(sc);
        if task.is_runnable() {
            self.time().start(task);
        } else if task.has_pending() {
            self.ipc().receive_pending(task);
        }
        self.time().time_came(task);
        Ok(())
    }

    /// Carries out [`abi::Op::SchedInfo`].
    pub fn sched_info(self, me: OpenTask<'k>, sc: Cap) -> Result<Answer> {
        let sc = self.caps().operand::<SchedContext, { Op::SchedInfo as u8 }, 0>(me, sc)?;
        let hot = self.here(&sc.get().hot)?;
        self.time().charge();
        let priority = u64::from(hot.state.priority());
        Ok(Answer::Values([hot.state.consumed(), priority, hot.state.slice(), hot.state.budget()]))
    }

    /// Carries out [`abi::Op::YieldTo`]: gives the rest of the slice to a ready task of this CPU.
    #[inline(always)]
    pub fn yield_to(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        let (_, word) = self.caps().look(me, target.cap())?;
        let need = const { Op::YieldTo.needs(0, ObjType::Group) };
        let task = match word.get::<Task>() {
            Some(_) => self.caps().typed_operand::<Task, { Op::YieldTo as u8 }, 0>(word, target.cap())?,
            None => self.caps().resolve_task(me, target, need)?.task,
        };
        let task = self.open_here(task)?;
        refuse_if(task.object() == me.object(), Error::SelfCall)?;
        let sc = if task.is_runnable() { self.time().time_of(task) } else { None };
        let sc = sc.and_then(|sc| self.open_time(sc)).filter(|sc| sc.state.links.is_queued());
        let Some(sc) = sc else { return Err(Error::WouldBlock.into()) };
        if self.time().borrowed_by(me).is_none() && !self.running_now().state.has_budget() {
            me.regs.rdx.set(0);
            me.enter_plain(State::Ready);
        } else {
            write_values(&me.regs, MsgInfo(0), [0; 4]);
        }
        self.time().switch_to(sc, task);
        Ok(Answer::Settled)
    }
}
