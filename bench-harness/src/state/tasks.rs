//! The text's lines about a task, its registers and its message block, state by state.

use std::iter::successors;

use snapshot::{Call, Object, Registers, RequestKind, Stage, State as Doing, Task};

use super::line::Line;
use super::{LIST_MAX, State, line_of, rounded};

impl State<'_> {
    /// Adds the lines of all tasks.
    pub fn tasks(&self, lines: &mut Vec<Line>) {
        lines.extend(self.s.tasks.iter().map(|task| self.task(task)));
    }

    fn task(&self, task: &Task) -> Line {
        let mut line = line_of(self, task, task.swept);
        line.hex("id", task.id);
        line.number("home", task.home);
        line.flag("under-way", task.under_way);
        line.flag("to-suspend", task.to_suspend);
        if task.control != 0 {
            line.hex("control", task.control);
        }
        // The plain bit is a short way to say what the registers below say: it is left out.
        line.value("state", format_args!("{}#{}", spelled(task.state), task.state_tag));
        line.number("on", task.state_home);
        line.flag("vector", task.vector);
        line.flag("suspended", task.suspended);
        line.flag("in-fault", task.in_fault);
        line.number("pending", task.pending);
        line.value("process", self.name(task.process));
        self.time(&mut line, task);
        line.value("caller", self.name(task.caller));
        self.queues(&mut line, task);
        line.value("bound", self.name(task.bound));
        line.value("waits-for", self.name(task.waits_for));
        if task.deadline_rank != 0 {
            line.number("deadline", rounded(task.deadline));
        }
        line.number("recall", task.recall);
        line.number("starts-on", task.starts_on);
        if task.state == Doing::Restart {
            line.number("for-epoch", task.wait_epoch);
        }
        if task.fault_handler != 0 {
            line.hex("fault-handler", task.fault_handler);
        }
        line.hex("words", task.utcb_hash);
        if let Some(registers) = self.registers.get(&task.at) {
            self.registers(&mut line, task, registers);
        }
        if let Some(call) = self.calls.get(&task.at) {
            self.message(&mut line, task, call);
        }
        line
    }

    /// Adds the task whose CPU time the task has. The field that says so depends on the path
    /// through the kernel.
    fn time(&self, line: &mut Line, task: &Task) {
        line.value("own-time", self.name(task.own_context));
        let own = self.contexts.get(&task.own_context).filter(|own| own.task == task.at);
        let time = match self.running_on(task) {
            Some(cpu) => cpu.context,
            None if task.borrowed != 0 => task.borrowed,
            None => own.map_or(0, |own| own.at),
        };
        let waits_here = matches!(task.state, Doing::Sending | Doing::Await | Doing::AwaitTimed);
        let is_lent = waits_here && self.tasks.get(&task.callee).is_some_and(|c| c.lender == task.at);
        if time == 0 && is_lent {
            line.word("time=lent");
        } else {
            line.value("time", self.name(time));
        }
        line.value("lender", self.name(task.lender));
    }

    /// Adds the tasks that wait for the task, the next first, and the Replies that keep its calls.
    fn queues(&self, line: &mut Line, task: &Task) {
        line.list("senders", self.queue(task.senders));
        line.list("posters", self.queue(task.posters));
        line.list("lock-waiters", self.queue(task.lock_waiters));
        line.list("death-waiters", self.queue(task.death_waiters));
        let reply = |at: u64| self.replies.get(&at).copied();
        let kept = successors(reply(task.replies), |last| reply(last.next)).take(LIST_MAX);
        line.list("kept", kept.map(|reply| self.name(reply.at())));
    }

    /// Adds the registers that matter when the task continues from where it is.
    fn registers(&self, line: &mut Line, task: &Task, r: &Registers) {
        for (name, word) in [("dr0", r.dr0), ("dr1", r.dr1), ("dr2", r.dr2), ("dr3", r.dr3), ("dr7", r.dr7)] {
            if word != 0 {
                line.hex(name, word);
            }
        }
        if matches!(task.state, Doing::Fresh | Doing::Dead) {
            return;
        }
        line.hex("fs", r.fs_base);
        line.hex("gs", r.gs_base);
        // A running task's registers are on the CPU. What was saved is of an earlier entry, or the
        // arguments of the system call that takes the snapshot.
        if self.running_on(task).is_some() {
            return;
        }
        for (name, word) in [("rip", r.rip), ("rsp", r.rsp), ("flags", r.rflags)] {
            line.hex(name, word);
        }
        match task.state {
            // The whole frame counts: it was written, or the task was interrupted. Vector state is
            // for the machine alone to read.
            Doing::Ready | Doing::Faulted if task.full_frame => all_registers(line, r),
            _ if task.in_fault => all_registers(line, r),
            Doing::Ready => answer(line, task, r),
            // The system call will be made again.
            Doing::Restart => arguments(line, r),
            // What ends the wait writes all of them.
            _ => {}
        }
    }

    /// Adds which task has the call or request of a task, and what it is while it is queued or
    /// under way. What else a block has at home says nothing: the fastpath leaves there what a call
    /// on the slow path wrote.
    fn message(&self, line: &mut Line, task: &Task, call: &Call) {
        line.value("callee", self.name(task.callee));
        line.value("held", self.name(task.held));
        match task.state {
            Doing::Sending | Doing::AwaitRemote => {}
            Doing::Restart if matches!(task.stage, Stage::Ask | Stage::AskDone | Stage::Kept) => {}
            // Of a call that was received, the stage is `Owed` if the call was queued before, and
            // otherwise whatever it was.
            _ => return,
        }
        line.value("stage", format_args!("{}#{}", spelled(task.stage), call.number));
        match task.stage {
            Stage::Queued | Stage::Out => words(line, call),
            Stage::Back => line.number("error", call.error),
            Stage::Ask | Stage::AskDone | Stage::Kept => match task.request {
                RequestKind::None => {}
                RequestKind::Shootdown => line.hex("shootdown", task.request_stamp),
                kind => line.value(&spelled(kind), self.name(task.request_about)),
            },
            Stage::Home | Stage::Owed => {}
        }
        // While the block is with its task, the task has the time, and this is what it was.
        if task.message_home != task.home {
            line.value("carries", self.name(task.message_context));
        }
    }
}

fn arguments(line: &mut Line, r: &Registers) {
    let all = [r.rax, r.rdi, r.rsi, r.rdx, r.r8, r.r9, r.r10];
    for (name, word) in ["rax", "rdi", "rsi", "rdx", "r8", "r9", "r10"].into_iter().zip(all) {
        line.hex(name, word);
    }
}

fn all_registers(line: &mut Line, r: &Registers) {
    line.word("full");
    arguments(line, r);
    let names = ["rbx", "rcx", "rbp", "r11", "r12", "r13", "r14", "r15", "frame-fs", "frame-gs"];
    let words = [r.rbx, r.rcx, r.rbp, r.r11, r.r12, r.r13, r.r14, r.r15, r.fs, r.gs];
    names.into_iter().zip(words).for_each(|(name, word)| line.hex(name, word));
}

/// Adds what the system call answers. A plain task's answer is RDX, and zero in all others,
/// whatever the frame has.
fn answer(line: &mut Line, task: &Task, r: &Registers) {
    line.hex("rdx", r.rdx);
    let others = [r.rax, r.rdi, r.rsi, r.r8, r.r9, r.r10, r.r12];
    for (name, word) in ["rax", "rdi", "rsi", "r8", "r9", "r10", "r12"].into_iter().zip(others) {
        line.hex(name, if task.plain { 0 } else { word });
    }
}

fn words(line: &mut Line, call: &Call) {
    line.hex("info", call.info);
    for (name, word) in ["mr0", "mr1", "mr2", "mr3"].into_iter().zip([call.mr0, call.mr1, call.mr2, call.mr3])
    {
        line.hex(name, word);
    }
    line.hex("exposure", call.exposure);
    line.hex("custom", call.custom);
    line.hex("sender", call.sender);
}

/// Returns a value's name as the text has it: `RecvTimed` is `recv-timed`.
fn spelled(value: impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.extend(letter.to_lowercase());
    }
    text
}
