//! The text's lines about CPUs, and about state that belongs to no object and no CPU.

use std::iter::successors;

use snapshot::{CNode, Cpu};

use super::line::Line;
use super::{LIST_MAX, State, rounded};

/// A time that never comes.
const NEVER: u64 = u64::MAX;

impl State<'_> {
    /// Adds running task, run queue, timer and waiters of every CPU.
    pub fn cpus(&self, lines: &mut Vec<Line>) {
        lines.extend(self.s.cpus.iter().map(|cpu| self.cpu(cpu)));
    }

    fn cpu(&self, cpu: &Cpu) -> Line {
        let mut line = Line::new(&format!("cpu={}", cpu.id));
        line.flag("mail", cpu.has_mail);
        line.value("runs", self.name(cpu.current));
        line.value("with", self.name(cpu.context));
        line.value("in", self.name(cpu.vspace));
        // What the fastpath expects of others: it depends on the vector state of the running task.
        let expected = [cpu.expects_receiver, cpu.expects_caller, cpu.expects_plain];
        line.list("expects", expected.iter().map(|half| format!("{half:x}")));
        line.number("left", rounded(cpu.until.saturating_sub(self.now)));
        line.list("queued", self.run_queue(cpu));
        if cpu.timer != NEVER {
            line.number("timer", rounded(cpu.timer.saturating_sub(self.now)));
        }
        if cpu.soonest != NEVER {
            line.number("soonest", rounded(cpu.soonest));
        }
        line.flag("grace", cpu.grace_busy);
        line.flag("more-mail", cpu.more_mail);
        if cpu.look_at != NEVER {
            line.number("looks", rounded(cpu.look_at.saturating_sub(self.now)));
        }
        line.list("for-grace", self.queue(cpu.grace_waiters));
        line.list("for-shootdown", self.queue(cpu.shootdown_waiters));
        line.list("unanswered", self.queue(cpu.unanswered));
        line
    }

    /// Returns the SchedContexts of a CPU's run queue, the next first, each with its priority.
    fn run_queue(&self, cpu: &Cpu) -> Vec<String> {
        let mut classes: Vec<_> = self.s.classes.iter().filter(|class| class.cpu == cpu.id).collect();
        classes.sort_by_key(|class| std::cmp::Reverse(class.priority));
        let context = |at: u64| self.contexts.get(&at).copied();
        let front = context(cpu.front).map(|front| (u64::from(front.queue_rank).saturating_sub(1), front));
        let waiting = classes.into_iter().flat_map(|class| {
            let all = successors(context(class.first), |last| context(last.queue_next)).take(LIST_MAX);
            all.map(|context| (u64::from(class.priority), context))
        });
        let all = front.into_iter().chain(waiting);
        all.map(|(priority, context)| format!("{priority:x}:{}", self.name(context.at))).collect()
    }

    /// Adds the kernel's state that belongs to no object and to no CPU.
    pub fn kernel(&self, lines: &mut Vec<Line>) {
        let Some(kernel) = self.s.kernels.first() else { return };
        let mut line = Line::new("kernel");
        line.number("epoch", kernel.epoch);
        line.number("objects", self.names.len() as u64);
        let is_zombie = |cnode: &&CNode| cnode.refs == 0 && cnode.dying;
        let zombies = self.s.cnodes.iter().filter(is_zombie).take(LIST_MAX);
        line.list("zombies", zombies.map(|cnode| self.name(cnode.at)));
        lines.push(line);
    }
}
