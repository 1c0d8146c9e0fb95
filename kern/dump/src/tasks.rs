//! The survey's records of tasks and of CPU time.

use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::FLAG_EVENT;
use kern_base::machine::Machine;
use kern_base::sched_context::SchedContext;
use kern_base::task::{
    self, FLAG_IN_FAULT, FLAG_SUSPENDED, FLAG_VECTOR, HOME_MASK, HOME_SHIFT, LABEL_MASK, LABEL_SHIFT,
    Request, TASK_BYTES, Task, ctl,
};
use smp::door::Ref;
use snapshot::{Call, ExtentKind, Registers, RequestKind, Sink, Stage, State};

use super::{Still, Survey, object};
use kern_core::state::{has_flag, is_dying, state_of};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn context(&mut self, context: Ref<'k, SchedContext>) {
        let hot = self.still.inside(context.map(|context| &context.hot));
        let (next, prev, queue_rank) = hot.state.links.survey();
        let record = object!(
            self,
            context,
            Context {
                home: self.home(&context.get().hot),
                under_way: context.get().hot.is_under_way(),
                task: self.at(hot.task.addr()),
                owner: self.at(hot.owner.addr()),
                priority: u32::from(hot.state.priority()),
                endless: hot.state.slice() == sched::ENDLESS,
                slice: hot.state.slice(),
                remaining: hot.state.remaining(),
                consumed: hot.state.consumed(),
                queue_rank,
                queue_next: self.at(next),
                queue_prev: self.at(prev),
            }
        );
        self.sink.context(&record);
        self.extent(record.at, size_of::<SchedContext>() as u64, record.at, ExtentKind::Object);
    }

    pub fn task(&mut self, task: Ref<'k, Task>) {
        let mut record = snapshot::Task::default();
        self.shared(task, &mut record);
        self.hot(task, &mut record);
        self.lists(task, &mut record);
        self.message(task, &mut record);
        self.sink.task(&record);
        self.sink.registers(&self.registers(task, record.at));
        self.sink.call(&self.call(task, record.at));
        self.extent(record.at, TASK_BYTES, record.at, ExtentKind::Object);
    }

    /// Records the state that any CPU may read.
    fn shared(&self, of: Ref<'k, Task>, record: &mut snapshot::Task) {
        let task = of.get();
        let id = task.id();
        let control = task.ctl.glance();
        *record = object!(
            self,
            of,
            Task {
                id: id.raw(),
                number: u32::from(id.task()),
                process_number: id.process().number(),
                generation: id.generation(),
                home: self.home(&task.hot),
                under_way: task.hot.is_under_way(),
                owner: self.at(task.owner.addr()),
                space: self.at(task.space.addr()),
                fault_handler: task.fault_handler.load(Relaxed),
                utcb: self.at(core::ptr::from_ref(task.utcb(self.pin())).addr() as u64),
                utcb_address: task.utcb_address.load(Relaxed),
                control,
                receives_on: control & ctl::RECEIVE != 0,
                label_comes: control & ctl::LABEL != 0,
                control_node: task.ctl.node_owner(),
                to_suspend: task.to_suspend.load(Relaxed),
                utcb_hash: hash(&task.utcb(self.pin()).msg),
                message_home: self.home(&task.msg),
                message_under_way: task.msg.is_under_way(),
                message_node: task.msg_node.owner(),
                ..*record
            }
        );
    }

    /// Records the state that its home CPU owns, except lists.
    fn hot(&self, task: Ref<'k, Task>, record: &mut snapshot::Task) {
        let hot = self.still.inside(task.map(|task| &task.hot));
        let word = hot.state.get();
        *record = snapshot::Task {
            state: state(state_of(hot)),
            plain: hot.is_plain(),
            suspended: has_flag(hot, FLAG_SUSPENDED),
            in_fault: has_flag(hot, FLAG_IN_FAULT),
            vector: has_flag(hot, FLAG_VECTOR),
            state_home: (word as u32 & HOME_MASK) >> HOME_SHIFT,
            state_generation: (word >> 32) as u32,
            state_label: (word as u32 & LABEL_MASK) >> LABEL_SHIFT,
            pending: hot.pending.get() as u32,
            process: self.at(hot.process.addr()),
            borrowed: self.at(hot.borrowed.addr()),
            own_context: self.at(hot.own_sc.addr()),
            caller: self.at(hot.caller.addr()),
            lender: self.at(hot.lender.addr()),
            bound: self.at(hot.bound.addr()),
            waits_for: self.at(hot.waits_for.addr()),
            recall: hot.ending.get().number(),
            ending: is_dying(hot),
            full_frame: hot.regs.full.get() != 0,
            starts_on: hot.start_on.get().index() as u32,
            wait_epoch: hot.wait_epoch.get(),
            ..*record
        };
    }

    /// Records the lists that begin at it, and its place in lists of its home CPU.
    fn lists(&self, task: Ref<'k, Task>, record: &mut snapshot::Task) {
        let hot = self.still.inside(task.map(|task| &task.hot));
        let ends = |list: &sched::PrioList<Task>| list.ends().map(|at| self.at(at));
        let ([senders, senders_last], [posters, posters_last]) = (ends(&hot.senders), ends(&hot.posters));
        let [death_waiters, death_waiters_last] = ends(&hot.kill_waiters);
        let (links, deadline, deadline_rank) = hot.deadline.survey();
        let [deadline_parent, deadline_left, deadline_right] = links.map(|at| self.at(at));
        *record = snapshot::Task {
            senders,
            senders_last,
            posters,
            posters_last,
            death_waiters,
            death_waiters_last,
            replies: self.at(hot.replies.addr()),
            deadline,
            deadline_rank,
            deadline_parent,
            deadline_left,
            deadline_right,
            wait_next: self.at(hot.wait_next.addr()),
            ..*record
        };
    }

    /// Returns the record of its registers.
    fn registers(&self, task: Ref<'k, Task>, at: u64) -> Registers {
        let hot = self.still.inside(task.map(|task| &task.hot));
        let r = &hot.regs;
        let [dr0, dr1, dr2, dr3, dr7] = hot.debug.each_ref().map(Cell::get);
        Registers {
            task: at,
            rax: r.rax.get(),
            rdi: r.rdi.get(),
            rsi: r.rsi.get(),
            rdx: r.rdx.get(),
            r8: r.r8.get(),
            r9: r.r9.get(),
            r10: r.r10.get(),
            r12: r.r12.get(),
            rip: r.rip.get(),
            rsp: r.rsp.get(),
            rflags: r.rflags.get(),
            fs_base: hot.fs_base.get(),
            gs_base: hot.gs_base.get(),
            rbx: r.rbx.get(),
            rcx: r.rcx.get(),
            rbp: r.rbp.get(),
            r11: r.r11.get(),
            r13: r.r13.get(),
            r14: r.r14.get(),
            r15: r.r15.get(),
            fs: r.fs.get(),
            gs: r.gs.get(),
            dr0,
            dr1,
            dr2,
            dr3,
            dr7,
        }
    }

    /// Returns the record of what its message block carries.
    fn call(&self, task: Ref<'k, Task>, at: u64) -> Call {
        let msg = self.still.inside(task.map(|task| &task.msg));
        let [mr0, mr1, mr2, mr3] = msg.regs.each_ref().map(Cell::get);
        Call {
            task: at,
            number: msg.number.get(),
            info: msg.info.get().0,
            mr0,
            mr1,
            mr2,
            mr3,
            exposure: msg.target.get().index(),
            custom: u32::from(msg.custom.get()),
            sender: msg.sender.get().raw(),
            error: msg.outcome.get().number(),
        }
    }

    /// Records its message block.
    fn message(&self, task: Ref<'k, Task>, record: &mut snapshot::Task) {
        let msg = self.still.inside(task.map(|task| &task.msg));
        let (request, about, request_stamp) = request(msg.request.get());
        let queue = msg.queue.survey();
        *record = snapshot::Task {
            stage: stage(msg.stage.get()),
            callee: self.at(msg.callee.addr()),
            held: self.at(msg.held.addr()),
            is_event: msg.info.get().has(FLAG_EVENT),
            message_context: self.at(msg.sc.addr()),
            request,
            request_about: self.at(about),
            request_stamp,
            queue_place: queue.place,
            queue_priority: u32::from(queue.priority),
            queue_next: self.at(queue.next),
            queue_prev: self.at(queue.prev),
            queue_lower: self.at(queue.lower),
            queue_higher: self.at(queue.higher),
            ..*record
        };
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
        Some(Request::Seek(search)) => (RequestKind::Seek, search.at.addr(), 0),
    }
}

const fn state(state: task::State) -> State {
    match state {
        task::State::Fresh => State::Fresh,
        task::State::Ready => State::Ready,
        task::State::Recv => State::Recv,
        task::State::RecvTimed => State::RecvTimed,
        task::State::Sending => State::Sending,
        task::State::Await => State::Await,
        task::State::AwaitTimed => State::AwaitTimed,
        task::State::AwaitRemote => State::AwaitRemote,
        task::State::WaitBits => State::WaitBits,
        task::State::Restart => State::Restart,
        task::State::Faulted => State::Faulted,
        task::State::Dead => State::Dead,
    }
}

const fn stage(stage: task::Stage) -> Stage {
    match stage {
        task::Stage::Home => Stage::Home,
        task::Stage::Queued => Stage::Queued,
        task::Stage::Owed => Stage::Owed,
        task::Stage::Out => Stage::Out,
        task::Stage::Back => Stage::Back,
        task::Stage::Ask => Stage::Ask,
        task::Stage::AskDone => Stage::AskDone,
        task::Stage::Kept => Stage::Waiting,
    }
}
