//! The survey's records of tasks and of CPU time.

use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use kern_base::accounts::AccountId;
use kern_base::flags::{FLAG_EVENT, FLAG_LOCK};
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::task::{
    FLAG_IN_FAULT, FLAG_SUSPENDED, FLAG_VECTOR, HOME_MASK, HOME_SHIFT, LABEL_MASK, LABEL_SHIFT, Message,
    Request, TAG_SHIFT, Task, TaskHot, ctl,
};
use smp::cpu::CpuId;
use smp::door::Ref;
use snapshot::{RequestKind, Sink};

use crate::record::record;
use crate::{Still, Survey};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn context(&mut self, context: Ref<'k, SchedContext>) {
        let hot = self.still.inside(context.map(|context| &context.hot));
        let state = &hot.state;
        let (next, prev, queue_rank) = state.links.survey();
        let cpu = &self.cx.k.block(self.cx.pin(), context.hot.home());
        let policy = cpu.watch.get(self.cx.pin()).map_or(0, |pool| pool.get().policy.load(Relaxed));
        let is_told = state.is_watched() && hot.watch.policy.get() == policy;
        self.sink.context(&record!(self, Context of context {
            [hot] task, owner;
            [state] priority(), slice(), remaining(), consumed(), budget(), period(), window_ends();
            [] queue_rank;
            cpus = state.cpu_bits(),
            home = self.home(&context.hot),
            under_way = context.hot.is_under_way(),
            endless = state.slice() == sched::ENDLESS,
            told = if is_told { hot.watch.told.get().doing as u32 } else { 0 },
            counted = hot.watch.counted_in.get(),
            account = hot.paid.account.get().map_or(0, AccountId::raw),
            share = hot.paid.share.get(),
            queue_next = self.at(next),
            queue_prev = self.at(prev),
        }));
    }

    pub fn control(&mut self, control: Ref<'k, SchedControl>) {
        self.sink.control(&record!(self, Control of control {
            bound = control.bound().map_or(0, |bound| u32::from(bound.ceiling) + 1),
            cpus = control.word(CpuId::BOOT),
            account = control.bound().and_then(|bound| bound.account).map_or(0, AccountId::raw),
        }));
    }

    pub fn task(&mut self, at: u64, task: Ref<'k, Task>) {
        let hot = self.still.inside(task.map(|task| &task.hot));
        let (time, pin) = (&hot.time, self.cx.pin());
        let msg = self.still.inside(task.map(Task::message_state));
        let (id, control, word) = (task.id(), task.ctl.glance(), hot.word());
        let [senders, senders_last] = self.ends(hot.callers());
        let [posters, posters_last] = self.ends(&hot.posters);
        let [lock_waiters, lock_waiters_last] = self.ends(&hot.waiters);
        let [death_waiters, death_waiters_last] = self.ends(&hot.kill_waiters);
        let (links, deadline, deadline_rank) = hot.deadline.survey();
        let [deadline_parent, deadline_left, deadline_right] = links.map(|at| self.at(at));
        self.sink.task(&record!(self, Task of task {
            [task] owner(pin), space(pin), fault_handler, utcb_address(), zombies;
            [hot] pending(), caller(pin), bound(pin), waits_for(pin), wait_epoch;
            [time] borrowed(pin), lender(pin);
            [] id, control, senders, senders_last, posters, posters_last, death_waiters, death_waiters_last;
            [] lock_waiters, lock_waiters_last;
            [] deadline, deadline_rank, deadline_parent, deadline_left, deadline_right;
            number = task.number(),
            tag = task.tag() >> TAG_SHIFT,
            process = hot.process_if_any(pin),
            bound_to = task.bound_to(pin),
            of_process = task.of_process(),
            home = self.home(&task.hot),
            under_way = task.hot.is_under_way(),
            state = hot.state(),
            plain = hot.is_plain(),
            suspended = hot.has_flag(FLAG_SUSPENDED),
            in_fault = hot.has_flag(FLAG_IN_FAULT),
            vector = hot.has_flag(FLAG_VECTOR),
            state_home = (word as u32 & HOME_MASK) >> HOME_SHIFT,
            state_tag = word >> TAG_SHIFT,
            state_label = (word as u32 & LABEL_MASK) >> LABEL_SHIFT,
            own_context = time.own(pin),
            recall = hot.ending(),
            replies = hot.first_reply(pin),
            to_suspend = task.is_to_suspend(),
            ending = hot.is_dying(),
            full_frame = hot.regs.full,
            starts_on = hot.start_on(),
            utcb = self.at(core::ptr::from_ref(task.utcb(pin)).addr() as u64),
            receives_on = control & ctl::RECEIVE != 0,
            label_comes = control & ctl::LABEL != 0,
            control_node = task.ctl.node_owner(),
            utcb_hash = hash(&task.utcb(pin).msg),
            message_home = self.home(task.message_state()),
            message_under_way = task.message_state().is_under_way(),
            message_node = task.msg_node.owner(),
            ..self.message(msg)
        }));
        self.registers(at, hot);
        let ([mr0, mr1, mr2, mr3], from) = (msg.words().regs, msg.sender());
        self.sink.call(&record!(self, Call {
            [msg] number(), info();
            [from] custom, sender;
            [] mr0, mr1, mr2, mr3;
            task = at,
            exposure = from.target.index(),
            error = msg.outcome(),
        }));
    }

    /// Returns the fields of a task's record that its message block gives.
    fn message(&self, msg: &Message) -> snapshot::Task {
        let (request, about, request_stamp) = request(msg.request());
        let frame = if let Some(Request::Lock { frame, .. }) = msg.request() { frame.addr() } else { 0 };
        let (links, queue_priority, queue_place) = msg.queue().survey();
        let ([queue_next, queue_prev, queue_lower, queue_higher], pin) =
            (links.map(|at| self.at(at)), self.cx.pin());
        record!(self, Task {
            [msg] stage(), callee(pin), held(pin);
            [] request, request_stamp, queue_place, queue_priority;
            [] queue_next, queue_prev, queue_lower, queue_higher;
            is_event = msg.info().has(FLAG_EVENT),
            is_lock_wait = msg.info().has(FLAG_LOCK),
            message_context = msg.time(pin),
            request_about = self.at(about),
            request_frame = self.at(frame),
            ..snapshot::Task::default()
        })
    }

    fn registers(&mut self, task: u64, hot: &TaskHot) {
        let regs = &hot.regs;
        let [dr0, dr1, dr2, dr3, dr7] = hot.debug().each_ref().map(Cell::get);
        self.sink.registers(&record!(self, Registers {
            [regs] rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp, r8, r9, r10, r11, r12, r13, r14, r15;
            [regs] rip, rflags, fs, gs;
            [hot] fs_base, gs_base;
            [] task, dr0, dr1, dr2, dr3, dr7;
        }));
    }
}

/// Returns a hash of words.
fn hash(words: &[AtomicU64]) -> u64 {
    let mix = |hash: u64, word: &AtomicU64| {
        (hash.rotate_left(5) ^ word.load(Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    words.iter().fold(0, mix)
}

/// Returns the kind of a request, the address of its object, and its shootdown.
fn request(request: Option<Request>) -> (RequestKind, u64, u64) {
    match request {
        None => (RequestKind::None, 0, 0),
        Some(Request::Kill(task)) => (RequestKind::Kill, task.addr(), 0),
        Some(Request::StopTime(sc)) => (RequestKind::StopTime, sc.addr(), 0),
        Some(Request::StopBits(object)) => (RequestKind::StopBits, object.addr(), 0),
        Some(Request::StopReply(reply)) => (RequestKind::StopReply, reply.addr(), 0),
        Some(Request::Forgotten(stamp)) => (RequestKind::Shootdown, 0, stamp.raw()),
        Some(Request::Disown(sc)) => (RequestKind::Disown, sc.addr(), 0),
        Some(Request::Fetch(sc)) => (RequestKind::Fetch, sc.addr(), 0),
        Some(Request::Configure { sc, .. }) => (RequestKind::Configure, sc.addr(), 0),
        Some(Request::Account(sc)) => (RequestKind::Account, sc.addr(), 0),
        Some(Request::Bind { sc, .. }) => (RequestKind::Bind, sc.addr(), 0),
        Some(Request::Bring(task)) => (RequestKind::Bring, task.addr(), 0),
        Some(Request::Move(task)) => (RequestKind::Move, task.addr(), 0),
        Some(Request::Watch(sc)) => (RequestKind::Watch, sc.addr(), 0),
        Some(Request::TellCpu) => (RequestKind::TellCpu, 0, 0),
        Some(Request::YieldTo(task)) => (RequestKind::YieldTo, task.addr(), 0),
        Some(Request::Lock { owner, .. }) => (RequestKind::Lock, owner.addr(), 0),
        Some(Request::Seek(search)) => (RequestKind::Seek, search.at.addr(), 0),
    }
}

#[cfg(test)]
mod tests {
    use kern_base::task::{Stage, State};
    use std::format;

    extern crate std;

    /// Records have the numbers of the kernel's own states and stages, and their names.
    #[test]
    fn states_and_stages_have_their_names() {
        assert_eq!(format!("{:?}", State::ALL), format!("{:?}", snapshot::State::ALL));
        let stages = [
            Stage::Home,
            Stage::Queued,
            Stage::Owed,
            Stage::Out,
            Stage::Back,
            Stage::Ask,
            Stage::AskDone,
            Stage::Kept,
        ];
        assert!((0..).zip(stages).all(|(number, stage)| stage as u8 == number));
        assert_eq!(format!("{stages:?}"), format!("{:?}", snapshot::Stage::ALL));
        let told = stages.map(|stage| test_abi::trace::Stage::from_number(stage as u8).unwrap());
        assert_eq!(format!("{stages:?}"), format!("{told:?}"));
    }
}
