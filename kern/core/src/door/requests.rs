//! Requests: what one CPU asks another CPU to do with an object that the other CPU owns. A request
//! travels in the message block of the requesting task, which waits in [`State::Restart`]. So a
//! request needs no memory, and it is served completely even if the task dies.
//!
//! A request names only live objects: its task, or the reclaim that the task carries out, keeps
//! each of them alive until the answer. If an object has moved, the request follows it only while
//! the object is alive. The exceptions are [`Request::Seek`] ([`crate::time::search`]) and system
//! calls about CPU time or a task of another CPU ([`Request::Configure`], [`Request::Account`],
//! [`Request::Bind`], [`Request::Bring`], [`Request::Move`], [`Request::YieldTo`]). Nothing keeps
//! alive what they name. It is alive in the entry that sends the request, so the request arrives
//! before its memory can be reused.

use abi::status::{SchedEvent, Seen};
use abi::{Error, Op, TaskId};
use kern_base::block::Block;
use kern_base::cpu::IDLE;
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::machine::Machine;
use kern_base::message::Words;
use kern_base::sched_context::{OpenTime, SchedContext};
use kern_base::sched_control::SchedControl;
use kern_base::task::{Message, OpenTask, Outcome, Request, State, Task};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::shootdown::{ShootMail, What};

use crate::answer::{write_error, write_values};
use crate::life::migration::MOVE_WORK;
use crate::outbox::mail::Next;
use crate::rooms::Door;
use crate::{Answer, Refusal, Result};

impl<'k, M: Machine> Door<'k, M> {
    /// Serves a request that has arrived: answers it, sends it on, or keeps it.
    pub fn request_arrived(self, block: Block<'k>) {
        let next = match block.request() {
            Some(request) => self.serve(&block, request),
            None => Next::Done,
        };
        match next {
            Next::Done => self.outbox().answer_request(block),
            Next::Go(to) => self.outbox().send_block(block, to),
            Next::Keep(queue) => self.outbox().keep(block, queue),
        }
        self.time().dispatch();
    }

    /// Sets a SchedContext: what a policy asks most often.
    #[inline(never)]
    fn serve_configure(
        self,
        block: &Block<'k>,
        sc: Ref<'k, SchedContext>,
        control: &SchedControl,
    ) -> Next<'k> {
        self.with_time(block, sc, Some(&control.header), |sc| {
            self.make().serve_configure(sc, control, block.words().regs)
        })
    }

    fn serve(self, block: &Block<'k>, request: Request) -> Next<'k> {
        let (task, msg): (_, &Message) = (block.task(), block);
        match request {
            Request::Kill(victim) => self.life().serve_kill(victim.get(self.pin())),
            Request::StopTime(sc) => self.serve_stop_time(task, msg, sc.get(self.pin())),
            Request::StopBits(object) => {
                let object = object.get(self.pin());
                self.at(object.get().hot.mail_target(self.pin()), &object.get().header, || {
                    self.life().stop_bits(object)
                })
            }
            Request::StopReply(reply) => {
                let reply = reply.get(self.pin());
                self.life().stop_reply(reply);
                self.at(reply.get().hot.mail_target(self.pin()), &reply.get().header, || ())
            }
            Request::Forgotten(stamp) => self.tlb().serve_forgotten(stamp),
            Request::Disown(sc) => {
                let sc = sc.get(self.pin());
                self.at(sc.get().hot.mail_target(self.pin()), &sc.get().header, || self.disown(task, sc))
            }
            Request::Fetch(sc) => self.serve_fetch(task, msg, sc.get(self.pin())),
            Request::Seek(search) => self.time().serve_search(task, msg, search),
            Request::Configure { sc, control } => {
                self.serve_configure(block, sc.get(self.pin()), control.get(self.pin()).get())
            }
            Request::Account(sc) => {
                self.with_time(block, sc.get(self.pin()), None, |sc| Ok(self.make().account(sc)))
            }
            Request::Bind { sc, task } => self.serve_bind(block, sc.get(self.pin()), task.get(self.pin())),
            Request::Bring(wanted) => self.life().serve_bring(task, wanted.get(self.pin())),
            Request::Move(moved) => self.serve_move(block, moved.get(self.pin())),
            Request::Watch(sc) => self.with_time(block, sc.get(self.pin()), None, |sc| {
                self.make().serve_watch(sc, block.words().regs)
            }),
            Request::TellCpu => {
                self.time().tell_from_now();
                answer(block, Ok(Answer::DONE))
            }
            Request::YieldTo(target) => self.serve_yield_to(block, target.get(self.pin())),
            // Comes with a call, and not as a request to be served.
            Request::Lock { .. } => Next::Done,
        }
    }

    /// Serves a system call about CPU time that a task of another CPU makes, if the time is here.
    /// If it is not, sends the request on.
    /// Errors: Dying, if the time or what is named `with` it is.
    fn with_time(
        self,
        block: &Block<'k>,
        sc: Ref<'k, SchedContext>,
        with: Option<&Header>,
        serve: impl FnOnce(OpenTime<'k>) -> Result<Answer>,
    ) -> Next<'k> {
        if sc.get().header.has_flag(FLAG_DYING) || with.is_some_and(|other| other.has_flag(FLAG_DYING)) {
            return answer(block, Err(Error::Dying.into()));
        }
        let Some(time) = self.open_time(sc) else { return Next::Go(sc.get().hot.mail_target(self.pin())) };
        answer(block, serve(time))
    }

    /// Serves a request to give a task CPU time: where the time is, and then where the task is, to
    /// which the time travels. Meanwhile the asking task holds the time.
    /// Errors: Dying, if the time or the task is.
    fn serve_bind(self, block: &Block<'k>, sc: Ref<'k, SchedContext>, task: Ref<'k, Task>) -> Next<'k> {
        let carried = block.take_time(self.pin()).and_then(|sc| self.open_time(sc));
        carried.inspect(|sc| sc.task.set(None));
        if sc.get().header.has_flag(FLAG_DYING) || task.get().header.has_flag(FLAG_DYING) {
            return answer(block, Err(Error::Dying.into()));
        }
        let Some(time) = self.open_time(sc) else { return Next::Go(sc.get().hot.mail_target(self.pin())) };
        if self.open(task).is_some() {
            return answer(block, self.make().bind_time(sc, task).map(|()| Answer::DONE));
        }
        if let Err(refusal) = self.make().check_free(time) {
            return answer(block, Err(refusal));
        }
        time.task.set(Some(block.task()));
        block.set_time(Some(sc));
        Next::Go(task.get().hot.mail_target(self.pin()))
    }

    /// Serves a request to send a task to another CPU.
    /// Errors: Dying, if the task is.
    fn serve_move(self, block: &Block<'k>, task: Ref<'k, Task>) -> Next<'k> {
        if task.get().header.has_flag(FLAG_DYING) {
            return answer(block, Err(Error::Dying.into()));
        }
        let Some(task) = self.open(task) else { return Next::Go(task.get().hot.mail_target(self.pin())) };
        let (to, seen) = Seen::split(block.words().regs[0]);
        let to = usize::try_from(to).ok().and_then(CpuId::new);
        let moved = to.ok_or(Error::NoCpu.into()).and_then(|to| {
            self.make().check_seen_of(task, seen)?;
            let own_goes = self.life().admit_move(task, to)?;
            self.note_work(MOVE_WORK);
            Ok(Answer::one(self.life().move_task(task, to, own_goes).into()))
        });
        answer(block, moved)
    }

    /// Serves a request to run a task before its equals.
    /// Errors: WouldBlock, if the task is dying, not ready, or without CPU time.
    fn serve_yield_to(self, block: &Block<'k>, task: Ref<'k, Task>) -> Next<'k> {
        if task.get().header.has_flag(FLAG_DYING) {
            return answer(block, Err(Error::WouldBlock.into()));
        }
        let Some(task) = self.open(task) else { return Next::Go(task.get().hot.mail_target(self.pin())) };
        answer(block, self.make().let_run_next(task).map(|()| Answer::DONE))
    }

    /// Runs `work` for a request if this CPU is its object's home. Otherwise returns the CPU to
    /// which the object has moved.
    fn at(self, home: CpuId, header: &Header, work: impl FnOnce()) -> Next<'k> {
        if home == self.id() {
            work();
        } else if !header.has_flag(FLAG_DEAD) {
            return Next::Go(home);
        }
        Next::Done
    }

    /// Ends a request whose answer is back, if that is an everyday one: the answer is no error, and
    /// the task goes on with its own time on this CPU, which idles. Returns the task. (One that is
    /// dying does not go on: it is suspended.)
    #[inline(always)]
    pub fn answer_delivered(self, block: &Block<'k>) -> Option<OpenTask<'k>> {
        let task = OpenTask::here(block.task(), self.pin());
        let is_everyday = block.outcome() == Outcome::Replied && self.sched.idle.get() == IDLE;
        // Only requests in the place of a system call end so, and nothing travels with them.
        debug_assert!(!is_everyday || block.time(self.pin()).is_none(), "an answer with CPU time");
        let time = self.time_to_go_on(task, State::Restart).filter(|_| is_everyday)?;
        let now = self.time().end_idling();
        let Words { info, regs } = block.words();
        block.take_request();
        self.unwind(task.part());
        write_values(&task.regs, info, regs);
        task.time.owe_none();
        task.enter(State::Ready);
        self.time().take_over(time, now, task.object(), task.word());
        Some(task)
    }

    /// Ends a request whose answer is back: the task goes on with the answer of its system call, or
    /// restarts the call, or continues with the time that it asked for. If the task is being
    /// killed, continues the kill.
    pub fn request_done(self, block: Block<'k>, task: OpenTask<'k>) {
        if let Some(sc) = block.take_time(self.pin()).and_then(|sc| self.open_time(sc)) {
            // The task's own time, which it asked for. The context has no holder if the task does
            // not own it any more.
            sc.task.set(Some(task.object()).filter(|task| sc.owner.is(*task)));
        }
        let request = block.take_request();
        let answer = match block.outcome() {
            Outcome::Retry => None,
            outcome => Some((outcome, block.words())),
        };
        block.rest();
        if task.is_dying() {
            return self.life().go_on_dying(task);
        }
        if let Some(Request::Seek(search)) = request {
            self.time().search_over(task, search);
            return self.time().dispatch();
        }
        match answer {
            None => {}
            Some((Outcome::Failed(error), words)) => {
                self.answer_with(task, request, error, words.regs[0]);
            }
            Some((_, words)) => {
                self.unwind(task.part());
                write_values(&task.regs, words.info, words.regs);
            }
        }
        self.time().make_ready(task);
        self.time().dispatch();
    }

    /// Answers a task's system call with the error with which another CPU has refused it.
    #[cold]
    fn answer_with(self, task: OpenTask<'k>, request: Option<Request>, error: Error, detail: u64) {
        let op = match request {
            Some(Request::Configure { .. }) => Some(Op::SchedConfigure),
            Some(Request::Bind { .. }) => Some(Op::SchedBind),
            Some(Request::Move(_)) => Some(Op::TaskMove),
            Some(Request::Watch(_)) => Some(Op::SchedWatch),
            Some(Request::YieldTo(_)) => Some(Op::YieldTo),
            _ => None,
        };
        self.security().audit_refusal(task.object(), op, error, detail, task.regs.rdi.get());
        self.unwind(task.part());
        write_error(&task.regs, error, detail, TaskId::NONE);
    }

    /// Serves a request to make a SchedContext inert. First its holder loses it, on the holder's
    /// CPU; then its owner, on the owner's CPU, to which the context travels.
    fn serve_stop_time(self, asker: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next<'k> {
        let home = sc.get().hot.mail_target(self.pin());
        if sc.get().header.has_flag(FLAG_DEAD) {
            return Next::Done;
        }
        if home != self.id() {
            return Next::Go(home);
        }
        msg.set_time(None);
        match self.life().stop_time(sc) {
            None => Next::Done,
            Some(owner) => {
                if let Some(sc) = self.open_time(sc) {
                    sc.task.set(Some(asker));
                }
                msg.set_time(Some(sc));
                Next::Go(owner)
            }
        }
    }

    /// Takes a SchedContext away from its dying owner.
    fn disown(self, owner: Ref<'k, Task>, sc: Ref<'k, SchedContext>) {
        if let Some(sc) = self.open_time(sc).filter(|sc| sc.owner.is(owner)) {
            self.time().tell_event(sc, SchedEvent::Died, 0);
            sc.owner.set(None);
        }
    }

    /// Takes a SchedContext from the task that has it, and puts it into the message block of its
    /// owner, which asks. Sends the request on if the context is on another CPU. Does nothing if
    /// the context is dying or has another owner by now.
    fn serve_fetch(self, task: Ref<'k, Task>, msg: &Message, sc: Ref<'k, SchedContext>) -> Next<'k> {
        if sc.get().header.has_flag(FLAG_DYING) {
            return Next::Done;
        }
        let Some(sc) = self.open_time(sc) else { return Next::Go(sc.get().hot.mail_target(self.pin())) };
        if !sc.owner.is(task) {
            return Next::Done;
        }
        self.time().seize(sc);
        sc.task.set(Some(task));
        msg.set_time(Some(sc.object()));
        Next::Done
    }

    /// Serves a shootdown mail: flushes and answers, or wakes the tasks that waited for a shootdown
    /// that is over.
    #[cold]
    #[inline(never)]
    pub fn shoot_arrived(self, mail: ShootMail, what: What) {
        if self.tlb().shoot_arrived(mail, what) {
            self.wake_waiters();
        }
    }
}

/// Answers the system call in whose place a request was served. If the refusal is no error, the
/// task makes the call again.
fn answer<'k>(block: &Block<'k>, result: Result<Answer>) -> Next<'k> {
    match result {
        Ok(Answer::Values(values)) => block.answers(values),
        Err(Refusal::Error { error, detail, .. }) => block.refuses(error, detail),
        _ => {}
    }
    Next::Done
}
