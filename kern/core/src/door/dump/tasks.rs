//! What a dump says of a task, its registers and its message block, state by state.

use smp::sync::Ordering::Relaxed;

use kern_base::machine::Machine;
use kern_base::reply::Reply;
use kern_base::task::{
    FLAG_DEBUG, FLAG_IN_FAULT, FLAG_SUSPENDED, FLAG_VECTOR, HOME_MASK, HOME_SHIFT, Message, RegFrame,
    Request, Stage, State, Task, TaskHot,
};
use smp::door::Ref;

use crate::door::dump::text::Text;
use crate::door::dump::{Dump, LIST_MAX};
use crate::rooms::Time;
use crate::state::{has_flag, state_of};

/// Waits in a call whose message block is not known to be elsewhere.
fn waits_here(hot: &TaskHot) -> bool {
    matches!(state_of(hot), State::Sending | State::Await | State::AwaitTimed)
}

impl<'k, M: Machine> Dump<'_, 'k, M> {
    pub fn task(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>) {
        self.header(text, &task.get().header);
        text.hex("id", task.get().id().raw());
        text.number("home", task.get().hot.home().index() as u64);
        text.flag("under-way", task.get().hot.is_under_way());
        // Which of suspend and resume was the last to be asked for.
        text.flag("to-suspend", task.get().to_suspend.load(Relaxed));
        if task.get().ctl.glance() != 0 {
            text.hex("control", task.get().ctl.glance());
        }
        match self.cx.task_hot(task) {
            Some(hot) => self.hot(text, task, hot),
            None => text.word("elsewhere"),
        }
        match task.get().msg.open(self.cx.pin()) {
            Some(msg) => self.message(text, task, msg),
            None => text.word("message-elsewhere"),
        }
    }

    fn hot(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>, hot: &'k TaskHot) {
        text.key("state");
        // Spelled out: the plain bit is a short way to say what the registers below say.
        text.named(state_name(state_of(hot)), hot.state.get() >> 32);
        text.number("on", u64::from(hot.state.get() as u32 & HOME_MASK) >> HOME_SHIFT);
        text.flag("vector", has_flag(hot, FLAG_VECTOR));
        text.flag("suspended", has_flag(hot, FLAG_SUSPENDED));
        text.flag("in-fault", has_flag(hot, FLAG_IN_FAULT));
        text.number("pending", hot.pending.get());
        self.name(text, "process", hot.process.addr());
        self.task_time(text, task, hot);
        self.name(text, "caller", hot.caller.addr());
        self.queues(text, hot);
        self.name(text, "bound", hot.bound.addr());
        self.name(text, "waits-for", hot.waits_for.addr());
        if let Some(deadline) = hot.deadline.deadline() {
            self.time(text, "deadline", deadline);
        }
        text.number("recall", u64::from(hot.recall.get()));
        text.number("starts-on", hot.start_on.get().index() as u64);
        if state_of(hot) == State::Restart {
            text.number("for-epoch", hot.wait_epoch.get());
        }
        let handler = task.get().fault_handler.load(Relaxed);
        if handler != 0 {
            text.hex("fault-handler", handler);
        }
        if has_flag(hot, FLAG_DEBUG) {
            for (name, register) in ["dr0", "dr1", "dr2", "dr3", "dr7"].into_iter().zip(&hot.debug) {
                text.hex(name, register.get());
            }
        }
        self.registers(text, task, hot);
    }

    fn task_time(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>, hot: &TaskHot) {
        self.name(text, "own-time", hot.own_sc.addr());
        let lent = waits_here(hot) && self.callee_of(task).is_some_and(|callee| callee.lender.is(task));
        match Time::of(self.cx).time_of(task, hot) {
            None if lent => text.word("time=lent"),
            time => self.name(text, "time", time.map_or(0, Ref::addr)),
        }
        self.name(text, "lender", hot.lender.addr());
    }

    fn callee_of(&self, task: Ref<'k, Task>) -> Option<&'k TaskHot> {
        self.cx.task_hot(task.get().msg.open(self.cx.pin())?.callee.get(self.cx.pin())?)
    }

    /// Who waits for it, next first.
    fn queues(&self, text: &mut Text<'_, M>, hot: &TaskHot) {
        for (key, list) in [("senders", &hot.senders), ("posters", &hot.posters), ("mourners", &hot.mourners)]
        {
            text.list(key);
            for (priority, task) in list.iter(self.cx.pin()).take(LIST_MAX) {
                text.item(u64::from(priority));
                self.names.write(text, task.addr());
            }
            text.end_list();
        }
        text.list("kept");
        let pin = self.cx.pin();
        let next = |reply: Ref<'k, Reply>| reply.get().hot.open(pin)?.next.get(pin);
        for reply in core::iter::successors(hot.replies.get(pin), |reply| next(*reply)).take(LIST_MAX) {
            text.gap();
            self.names.write(text, reply.addr());
        }
        text.end_list();
    }

    /// Those that matter when the task goes on from where it is.
    fn registers(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>, hot: &TaskHot) {
        let regs = &hot.regs;
        if matches!(state_of(hot), State::Fresh | State::Dead) {
            return;
        }
        text.hex("fs", hot.fs_base.get());
        text.hex("gs", hot.gs_base.get());
        // In the middle of the very system call that dumps: the others are its arguments.
        if self.cx.hot.current.is(task) {
            return;
        }
        for (name, cell) in [("rip", &regs.rip), ("rsp", &regs.rsp), ("flags", &regs.rflags)] {
            text.hex(name, cell.get());
        }
        match state_of(hot) {
            // The whole frame: written, or interrupted. Its vector state is for the machine alone to read.
            State::Ready | State::Faulted if regs.full.get() != 0 => self.all_registers(text, regs),
            _ if has_flag(hot, FLAG_IN_FAULT) => self.all_registers(text, regs),
            State::Ready => self.answer(text, hot),
            // The system call will be made again.
            State::Restart => self.arguments(text, regs),
            // Whatever ends the wait writes all of them.
            _ => {}
        }
    }

    fn all_registers(&self, text: &mut Text<'_, M>, regs: &RegFrame) {
        text.word("full");
        self.arguments(text, regs);
        let rest = [
            ("rbx", &regs.rbx),
            ("rcx", &regs.rcx),
            ("rbp", &regs.rbp),
            ("r11", &regs.r11),
            ("r12", &regs.r12),
        ];
        let last =
            [("r13", &regs.r13), ("r14", &regs.r14), ("r15", &regs.r15), ("fs", &regs.fs), ("gs", &regs.gs)];
        for (name, cell) in rest.into_iter().chain(last) {
            text.hex(name, cell.get());
        }
    }

    /// What the system call answers. A plain task's answer is rdx, and zero in all others, whatever the frame has.
    fn answer(&self, text: &mut Text<'_, M>, hot: &TaskHot) {
        let plain = hot.is_plain();
        let regs = &hot.regs;
        text.hex("rdx", regs.rdx.get());
        let others = [
            ("rax", &regs.rax),
            ("rdi", &regs.rdi),
            ("rsi", &regs.rsi),
            ("r8", &regs.r8),
            ("r9", &regs.r9),
            ("r10", &regs.r10),
            ("r12", &regs.r12),
        ];
        for (name, cell) in others {
            text.hex(name, if plain { 0 } else { cell.get() });
        }
    }

    fn arguments(&self, text: &mut Text<'_, M>, regs: &RegFrame) {
        let all = [
            ("rax", &regs.rax),
            ("rdi", &regs.rdi),
            ("rsi", &regs.rsi),
            ("rdx", &regs.rdx),
            ("r8", &regs.r8),
            ("r9", &regs.r9),
            ("r10", &regs.r10),
        ];
        for (name, cell) in all {
            text.hex(name, cell.get());
        }
    }

    // --- message blocks ----------------------------------------------------------------------------

    /// Whom the call or request of a task is with, and what it is while it is queued or under way. What else a block
    /// that is home has in it says nothing: the fastpath leaves what a call on the slow path wrote.
    fn message(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>, msg: &Message) {
        self.name(text, "callee", msg.callee.addr());
        self.name(text, "held", msg.held.addr());
        if let Some(hot) = self.cx.task_hot(task) {
            match state_of(hot) {
                State::Sending | State::AwaitRemote => {}
                State::Restart
                    if matches!(msg.stage.get(), Stage::Ask | Stage::AskDone | Stage::Mourning) => {}
                // Of one that was received, `stage` is "owed" if it was queued before, and else whatever it was.
                _ => return,
            }
        }
        text.key("stage");
        text.named(stage_name(msg.stage.get()), msg.number.get().into());
        match msg.stage.get() {
            Stage::Queued | Stage::Out => self.call(text, msg),
            Stage::Back => text.number("error", u64::from(msg.error.get())),
            Stage::Ask | Stage::AskDone | Stage::Mourning => self.request(text, msg),
            Stage::Home | Stage::Owed => {}
        }
        // Of a task of this CPU the time is with the task, and this is what it was.
        if self.cx.task_hot(task).is_none() {
            self.name(text, "carries", msg.sc.addr());
        }
    }

    fn call(&self, text: &mut Text<'_, M>, msg: &Message) {
        text.hex("info", msg.info.get().0);
        for (name, cell) in ["mr0", "mr1", "mr2", "mr3"].into_iter().zip(&msg.regs) {
            text.hex(name, cell.get());
        }
        text.hex("exposure", u64::from(msg.target.get().index()));
        text.hex("custom", u64::from(msg.custom.get()));
        text.hex("sender", msg.sender.get().raw());
    }

    fn request(&self, text: &mut Text<'_, M>, msg: &Message) {
        let (what, addr) = match msg.request.get() {
            None => return,
            Some(Request::Kill(task)) => ("kill", task.addr()),
            Some(Request::StopTime(sc)) => ("stop-time", sc.addr()),
            Some(Request::StopBits(object)) => ("stop-bits", object.addr()),
            Some(Request::StopReply(reply)) => ("stop-reply", reply.addr()),
            Some(Request::Forgotten(stamp)) => return text.hex("forgotten", stamp.raw()),
            Some(Request::Disown(sc)) => ("disown", sc.addr()),
            Some(Request::Fetch(sc)) => ("fetch", sc.addr()),
            Some(Request::Seek(search)) => ("seek", search.at.addr()),
        };
        self.name(text, what, addr);
    }

    /// The page that task and kernel share.
    pub fn utcb(&self, text: &mut Text<'_, M>, task: Ref<'k, Task>) {
        let utcb = task.get().utcb(self.cx.pin());
        let mut hash = 0u64;
        for word in &utcb.msg {
            hash = (hash.rotate_left(5) ^ word.load(Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        text.line();
        text.word("words");
        text.gap();
        self.names.write(text, task.addr());
        text.hex("hash", hash);
        text.end();
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Fresh => "fresh#",
        State::Ready => "ready#",
        State::Recv => "recv#",
        State::RecvTimed => "recv-timed#",
        State::Sending => "sending#",
        State::Await => "await#",
        State::AwaitTimed => "await-timed#",
        State::AwaitRemote => "await-remote#",
        State::WaitBits => "wait-bits#",
        State::Restart => "restart#",
        State::Faulted => "faulted#",
        State::Dead => "dead#",
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Home => "home#",
        Stage::Queued => "queued#",
        Stage::Owed => "owed#",
        Stage::Out => "out#",
        Stage::Back => "back#",
        Stage::Ask => "ask#",
        Stage::AskDone => "ask-done#",
        Stage::Mourning => "mourning#",
    }
}
