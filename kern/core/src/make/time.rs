//! Operations on SchedControls and SchedContexts: what CPU time is allowed, set, bound, read and
//! given away.
//!
//! # Authority
//! A SchedContext gets its priority and its CPUs by a SchedControl, and a task gets its CPU by one.
//! A SchedContext is bound only to a task of one of its CPUs, a call takes it only to such CPUs,
//! and they stay while it has an owner or a holder. So it runs only where its priority was allowed.

use abi::status::{SchedEvent, Seen};
use abi::time::with_period;
use abi::{BUDGET_MIN, Cap, Error, MsgInfo, ObjType, Op, PERIOD_MAX, Target};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::sched_context::{OpenTime, SchedContext, Settings};
use kern_base::sched_control::{Bound, SchedControl};
use kern_base::task::{Request, State, Task};
use sched::Budget;
use smp::cpu::CpuId;
use smp::door::Ref;
use test_abi::trace::Why;

use crate::answer::write_values;
use crate::args::Args;
use crate::rooms::Make;
use crate::{Answer, NOT_COVERED, OpenTask, Refusal, Result, refuse_if};

/// Work of setting a SchedContext for a task of another CPU.
const CONFIGURE_WORK: u64 = 500;

/// Returns the priority that an argument in rdx names.
fn priority_of(argument: u64) -> Result<u8> {
    u8::try_from(argument).map_err(|_| Refusal::argument(2))
}

/// Returns the settings of a SchedContext that a system call names from rdx on.
#[inline(always)]
fn settings_of(args: &Args) -> Result<(Settings, Option<Seen>)> {
    let (priority, seen) = Seen::split(args.a2);
    let priority = priority_of(priority)?;
    let settings = Settings { priority, slice: args.a3, budget: args.a4, period: args.a5 };
    refuse_if(settings.slice == 0, Refusal::argument(3))?;
    if args.a4 | args.a5 != 0 {
        check_budget(args.a4, args.a5)?;
    }
    Ok((settings, seen))
}

/// Refuses a budget, in r9, or a length of its windows, in r10, outside their bounds.
#[cold]
#[inline(never)]
fn check_budget(budget: u64, period: u64) -> Result<()> {
    refuse_if(budget < BUDGET_MIN, Refusal::argument(4))?;
    refuse_if(!(budget..=PERIOD_MAX).contains(&period), Refusal::argument(5))
}

/// Refuses a priority above a SchedControl's ceiling.
fn check_ceiling(control: &SchedControl, priority: u8) -> Result<()> {
    let ceiling = control.ceiling().ok_or(NOT_COVERED)?;
    refuse_if(priority > ceiling, Refusal::new(Error::OverLimit, u64::from(ceiling)))
}

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::SchedAllow`].
    pub fn sched_allow(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (by, to) =
            self.caps().operands::<SchedControl, SchedControl, { Op::SchedAllow as u8 }>(me, args)?;
        let ceiling = priority_of(args.a2)?;
        let first = usize::try_from(args.a3).ok().filter(|first| first.is_multiple_of(64));
        let first = first.and_then(CpuId::new).ok_or(Refusal::argument(3))?;
        check_ceiling(by.get(), ceiling)?;
        refuse_if(args.a4 & !by.get().word(first) != 0, NOT_COVERED)?;
        let opening = self.time().account_for(by.get(), to.get(), args.a5)?;
        let bound = Bound { ceiling, account: opening.account };
        let extended = to.get().extend(bound, first, args.a4);
        self.time().is_extended(opening, to.get(), extended == Ok(true));
        extended.map_err(|has| Refusal::new(Error::BadState, u64::from(has.ceiling)))?;
        Ok(Answer::DONE)
    }

    /// Carries out [`abi::Op::SchedConfigure`]: on this CPU, or by a request to the CPU where the
    /// SchedContext is.
    pub fn sched_configure(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (control, sc) =
            self.caps().operands::<SchedControl, SchedContext, { Op::SchedConfigure as u8 }>(me, args)?;
        let (settings, seen) = settings_of(args)?;
        check_ceiling(control.get(), settings.priority)?;
        let Some(here) = self.open_time(sc) else {
            let request = Request::Configure { sc: sc.ptr(), control: control.ptr() };
            let to = sc.get().hot.mail_target(self.pin());
            return Err(self.outbox().ask_with(me, to, request, settings.to_words(seen)));
        };
        self.check_seen(here, seen)?;
        self.admit(here, control.get(), settings)?;
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.configure(here, settings);
        Ok(Answer::Settled)
    }

    /// Refuses what was decided before a SchedContext changed. Nobody counts changes of one that is
    /// not watched.
    #[inline(always)]
    pub fn check_seen(self, sc: OpenTime<'k>, seen: Option<Seen>) -> Result<()> {
        let Some(seen) = seen else { return Ok(()) };
        let has = sc.watch.told.get().sequence;
        refuse_if(seen.0 != has || !sc.state.is_watched(), Refusal::new(Error::Stale, u64::from(has)))
    }

    /// Lets a SchedContext be set by a SchedControl: takes room for its budget, if the SchedControl
    /// has an account, and the CPUs.
    #[inline(always)]
    fn admit(self, sc: OpenTime<'k>, by: &SchedControl, settings: Settings) -> Result<()> {
        if by.has_account() || sc.paid.account.get().is_some() {
            self.pay(sc, by, settings)?;
        }
        self.take_cpus(sc, by)
    }

    /// Takes room for the budget of a SchedContext, if it may have the SchedControl's CPUs.
    #[cold]
    #[inline(never)]
    fn pay(self, sc: OpenTime<'k>, by: &SchedControl, settings: Settings) -> Result<()> {
        let is_used = !(sc.owner.is_null() && sc.task.is_null());
        refuse_if(is_used && !sc.state.runs_within(by.cpus(), self.k.cpu_count()), NOT_COVERED)?;
        self.note_work(CONFIGURE_WORK);
        self.time().pay(sc, by, settings)
    }

    /// Lets a SchedContext run on the CPUs that a SchedControl covers. If the context is in use,
    /// its CPUs stay, and the SchedControl must cover them.
    fn take_cpus(self, sc: OpenTime<'k>, control: &SchedControl) -> Result<()> {
        let (cpus, count) = (control.cpus(), self.k.cpu_count());
        if sc.owner.is_null() && sc.task.is_null() {
            sc.state.set_cpus(cpus, count);
            return Ok(());
        }
        refuse_if(!sc.state.runs_within(cpus, count), NOT_COVERED)
    }

    /// Sets a SchedContext, and lets the task run that is the best by then.
    #[inline(always)]
    fn configure(self, sc: OpenTime<'k>, settings: Settings) {
        let (state, object) = (&sc.state, sc.object());
        if self.sched.current.is(object) || settings.budget != 0 || state.needs_care() {
            return self.configure_running(sc, settings);
        }
        state.set_slice(settings.slice);
        state.set_priority(settings.priority);
        let Some(holder) = sc.task.get(self.pin()) else { return };
        self.sched.queue.change_priority(self.pin(), object, settings.priority);
        self.choose_after(holder);
    }

    /// Does what [`Make::configure`] does for time that runs or needs care, or gets a budget.
    #[cold]
    #[inline(never)]
    fn configure_running(self, sc: OpenTime<'k>, settings: Settings) {
        let Settings { priority, slice, budget, period } = settings;
        let runs = self.sched.current.is(sc.object());
        let now = if runs { self.time().charge() } else { 0 };
        sc.state.set_slice_with_care(slice);
        sc.state.set_priority(priority);
        if budget != 0 || sc.state.has_budget() {
            self.set_budget(sc, (budget != 0).then_some(Budget { ticks: budget, period }));
        } else if runs {
            self.sched.until.set(sc.state.start(now));
        }
        if let Some(task) = self.hot.current.get(self.pin()).filter(|_| runs) {
            self.trace().note_run(task);
        }
        self.sched.queue.change_priority(self.pin(), sc.object(), priority);
        if sc.state.is_watched() {
            self.time().note_set(sc);
        }
        if runs && self.sched.queue.outranks(self.pin(), priority) {
            self.time().rotate(Why::Preempted);
        }
        if let Some(holder) = sc.task.get(self.pin()) {
            self.choose_after(holder);
        }
        self.time().mind_less_time();
    }

    /// Lets the task run that is the best after the time of `holder` was set.
    #[inline(always)]
    fn choose_after(self, holder: Ref<'k, Task>) {
        if let Some(holder) = self.open(holder) {
            self.time().take_better(holder);
        }
        let best = self.sched.queue.first_rank(self.pin());
        if self.running().is_none_or(|sc| best >= sc.state.rank()) {
            self.choose();
        }
    }

    /// Lets the best task run, with a timer if it has equals.
    #[inline(never)]
    fn choose(self) {
        self.time().dispatch();
        self.time().arm_timer_for_slice();
    }

    /// Serves [`Request::Configure`] on the CPU where the SchedContext is.
    pub fn serve_configure(self, sc: OpenTime<'k>, by: &SchedControl, words: [u64; 4]) -> Result<Answer> {
        self.note_work(CONFIGURE_WORK);
        let (settings, seen) = Settings::from_words(words);
        self.check_seen(sc, seen)?;
        self.admit(sc, by, settings)?;
        self.configure(sc, settings);
        Ok(Answer::DONE)
    }

    /// Sets the budget of a SchedContext, whose account is up to date, or takes it away.
    #[cold]
    #[inline(never)]
    fn set_budget(self, sc: OpenTime<'k>, budget: Option<Budget>) {
        let now = self.k.machine.now();
        sc.state.set_budget(budget, now);
        if self.sched.current.is(sc.object()) {
            return self.time().charge_with_care(sc, now);
        }
        self.time().care_from_now(sc);
        let Some(holder) = sc.task.get(self.pin()).and_then(|holder| self.open(holder)) else { return };
        if holder.state() == State::Exhausted {
            self.time().end_rest(holder);
        }
    }

    /// Carries out [`abi::Op::SchedBind`].
    pub fn sched_bind(self, me: OpenTask<'k>, sc: Cap, task: Cap) -> Result<Answer> {
        let sc = self.caps().operand::<SchedContext, { Op::SchedBind as u8 }, 0>(me, sc)?;
        let task = self.caps().operand::<Task, { Op::SchedBind as u8 }, 1>(me, task)?;
        if self.open_time(sc).is_none() || self.open(task).is_none() {
            let request = Request::Bind { sc: sc.ptr(), task: task.ptr() };
            return Err(self.outbox().ask(me, sc.get().hot.mail_target(self.pin()), request));
        }
        self.bind_time(sc, task)?;
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.time().dispatch();
        Ok(Answer::Settled)
    }

    /// Refuses a SchedContext that a task has, or that was never set.
    pub fn check_free(self, sc: OpenTime<'k>) -> Result<()> {
        refuse_if(!sc.owner.is_null() || !sc.task.is_null(), Error::InUse)?;
        refuse_if(sc.state.is_inert(), Error::BadState)
    }

    /// Gives a task a SchedContext as its own.
    pub fn bind_time(self, sc: Ref<'k, SchedContext>, task: Ref<'k, Task>) -> Result<()> {
        let (sc_hot, task) = (self.here(&sc.get().hot)?, self.open_here(task)?);
        self.check_free(OpenTime::here(sc, self.pin()))?;
        refuse_if(task.time.has_own(), Error::InUse)?;
        refuse_if(task.state() == State::Fresh || task.is_dying(), Error::BadState)?;
        // One that is to move runs here until then.
        let may_run = sc_hot.state.may_run_on(task.start_on());
        let may_run = may_run && (!task.is_to_move() || sc_hot.state.may_run_on(self.id()));
        refuse_if(!may_run, NOT_COVERED)?;
        refuse_if(sc.get().header.has_flag(FLAG_DYING), Error::Dying)?;
        sc_hot.owner.set(Some(task.object()));
        sc_hot.task.set(Some(task.object()));
        task.time.bind(sc);
        self.time().tell_event(OpenTime::here(sc, self.pin()), SchedEvent::Created, 0);
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
        match self.open_time(sc) {
            Some(sc) => Ok(self.account(sc)),
            None => {
                let to = sc.get().hot.mail_target(self.pin());
                Err(self.outbox().ask(me, to, Request::Account(sc.ptr())))
            }
        }
    }

    /// Returns what a SchedContext of this CPU has used, and how it is set, as
    /// [`abi::Op::SchedInfo`] tells it.
    pub fn account(self, sc: OpenTime<'k>) -> Answer {
        self.time().charge();
        let state = &sc.state;
        let setting = with_period(state.priority(), state.period());
        Answer::Values([state.consumed(), setting, state.slice(), state.budget()])
    }

    /// Carries out [`abi::Op::YieldTo`]: gives the rest of the slice to a ready task of this CPU,
    /// or asks the CPU of another task to run that task next.
    #[inline(always)]
    pub fn yield_to(self, me: OpenTask<'k>, target: Target) -> Result<Answer> {
        let (_, word) = self.caps().look(me, target.cap())?;
        let need = const { Op::YieldTo.needs(0, ObjType::Group) };
        let task = match word.get::<Task>() {
            Some(_) => self.caps().typed_operand::<Task, { Op::YieldTo as u8 }, 0>(word, target.cap())?,
            None => self.caps().resolve_task(me, target, need)?.task,
        };
        let Some(task) = self.open(task) else { return Err(self.ask_to_run(me, task)) };
        refuse_if(task.object() == me.object(), Error::SelfCall)?;
        let sc = self.time_to_run(task)?;
        if self.running_now().state.is_in_grace() {
            return Ok(self.yield_instead(me));
        }
        if self.time().borrowed_by(me).is_none() && !self.running_now().state.needs_care() {
            me.regs.rdx.set(0);
            me.enter_plain(State::Ready);
        } else {
            write_values(&me.regs, MsgInfo(0), [0; 4]);
        }
        self.time().switch_to(sc, task);
        Ok(Answer::Settled)
    }

    /// Returns the time on which a task that does not run waits for its turn.
    #[inline(always)]
    fn time_to_run(self, task: OpenTask<'k>) -> Result<OpenTime<'k>> {
        let sc = if task.is_runnable() { self.time().time_of(task) } else { None };
        let sc = sc.and_then(|sc| self.open_time(sc)).filter(|sc| sc.state.links.is_queued());
        sc.ok_or(Error::WouldBlock.into())
    }

    #[cold]
    #[inline(never)]
    fn ask_to_run(self, me: OpenTask<'k>, task: Ref<'k, Task>) -> Refusal {
        let to = task.get().hot.mail_target(self.pin());
        self.outbox().ask(me, to, Request::YieldTo(task.ptr()))
    }

    /// Serves [`Request::YieldTo`] on the CPU of the task: puts the task before its equals, unless
    /// it was put there too short a time ago.
    pub fn let_run_next(self, task: OpenTask<'k>) -> Result<()> {
        if self.hot.current.is(task.object()) {
            return Ok(());
        }
        let sc = self.time_to_run(task)?;
        if sc.state.links.has_equal_before() && sc.state.may_go_first() {
            self.time().put_first(sc);
        }
        Ok(())
    }

    /// Yields to the next task: the slice is over, and there is nothing to give.
    #[cold]
    #[inline(never)]
    fn yield_instead(self, me: OpenTask<'k>) -> Answer {
        write_values(&me.regs, MsgInfo(0), [0; 4]);
        self.time().rotate(Why::Yielded);
        Answer::Settled
    }
}
