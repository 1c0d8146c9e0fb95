//! Walks all lists of tasks once. Checks that each is well-formed, and records where each task is
//! linked.
//!
//! A walk ends where a link does not name a task, and after as many steps as there are tasks. Lists
//! of a busy CPU are skipped.

use snapshot::{Cpu, Heap, Task};

use crate::facts::{Facts, name_of};
use crate::report::Findings;

/// Where a task is linked, as those who link it say.
#[derive(Clone, Copy, Default, Debug)]
pub struct Links {
    /// The task that serves its call, and how many do.
    pub server: u64,
    pub servers: u32,
    /// The task in whose queue of callers it is.
    pub callee: u64,
    /// The task in whose queue for room in a pool it is.
    pub reader: u64,
    /// The task that has the lock for which it waits in a queue.
    pub lock_owner: u64,
    /// The Reply that keeps its call, and how many do.
    pub reply: u64,
    pub replies: u32,
    /// The task for whose death it waits.
    pub victim: u64,
    /// One more than the CPU in whose list of tasks that wait for shootdowns it is.
    pub shootdown: u32,
    /// One more than the CPU in whose list of tasks that learn about a death it is.
    pub unanswered: u32,
    /// One more than the CPU from which its call or event has to follow its receiver.
    pub follows: u32,
    /// One more than the CPU in whose list of tasks that wait for a grace period it is.
    pub grace: u32,
    /// One more than the CPU in whose heap of deadlines it is.
    pub deadline: u32,
    /// In how many queues by priority it is.
    pub queues: u32,
    /// How often its message block is in a mailbox, and its control bits.
    pub messages: u32,
    pub controls: u32,
}

/// Where all tasks are linked.
#[derive(Default)]
pub struct Linked {
    tasks: Vec<Links>,
    heap: Vec<u64>,
}

impl Linked {
    /// Returns the lists in which a task and its message block are linked.
    pub fn of(&self, f: &Facts<'_>, task: &Task) -> Links {
        let number = f.index.at(task.at).map_or(usize::MAX, |(_, number)| number);
        self.tasks.get(number).copied().unwrap_or_default()
    }

    fn mark(&mut self, f: &Facts<'_>, at: u64, set: impl FnOnce(&mut Links)) {
        let number = f.task(at).and_then(|_| f.index.at(at)).map(|(_, number)| number);
        if let Some(links) = number.and_then(|number| self.tasks.get_mut(number)) {
            set(links);
        }
    }

    /// Walks all lists of a snapshot, checks them, and notes where each task is linked.
    pub(crate) fn walk(&mut self, f: &Facts<'_>, out: &mut Findings) {
        self.tasks.clear();
        self.tasks.resize(f.s.tasks.len(), Links::default());
        out.begin(crate::LISTS);
        for task in f.s.tasks.iter().filter(|task| !f.is_busy(task.home)) {
            self.of_task(f, task, out);
        }
        for cpu in f.s.cpus.iter().filter(|cpu| !cpu.busy) {
            self.of_cpu(f, cpu, out);
        }
        for mail in &f.s.mails {
            match mail.kind {
                snapshot::MailKind::Message | snapshot::MailKind::Arrival => {
                    self.mark(f, mail.about, |links| links.messages += 1)
                }
                snapshot::MailKind::Control => self.mark(f, mail.about, |links| links.controls += 1),
                _ => {}
            }
        }
    }

    fn of_task(&mut self, f: &Facts<'_>, task: &Task, out: &mut Findings) {
        let at = task.at;
        if task.caller != 0 {
            self.mark(f, task.caller, |links| (links.server, links.servers) = (at, links.servers + 1));
        }
        let owner = (task.home, at);
        self.queue(f, owner, [task.senders, task.senders_last], out, |links| links.callee = at);
        self.queue(f, owner, [task.posters, task.posters_last], out, |links| links.reader = at);
        let waiters = [task.lock_waiters, task.lock_waiters_last];
        self.queue(f, owner, waiters, out, |links| links.lock_owner = at);
        self.queue(f, owner, [task.death_waiters, task.death_waiters_last], out, |links| links.victim = at);
        let (mut prev, mut next) = (0, task.replies);
        for _ in 0..=f.s.replies.len() {
            let Some(reply) = f.reply(next) else { break };
            hold!(
                out,
                reply.prev == prev,
                "the Replies of {}: {next:#x} has another neighbour",
                name_of(task)
            );
            hold!(out, reply.server == at, "{} lists a Reply of {}", name_of(task), f.name(reply.server));
            self.mark(f, reply.caller, |links| (links.reply, links.replies) = (reply.at, links.replies + 1));
            (prev, next) = (next, reply.next);
        }
        hold!(out, next == 0, "the Replies of {} lead to {}", name_of(task), f.name(next));
    }

    fn of_cpu(&mut self, f: &Facts<'_>, cpu: &Cpu, out: &mut Findings) {
        let waiters = [cpu.shootdown_waiters, cpu.shootdown_waiters_last];
        self.queue(f, (cpu.id, 0), waiters, out, |links| links.shootdown = cpu.id + 1);
        let waiters = [cpu.unanswered, cpu.unanswered_last];
        self.queue(f, (cpu.id, 0), waiters, out, |links| links.unanswered = cpu.id + 1);
        for followers in
            [[cpu.first_followers, cpu.first_followers_last], [cpu.followers, cpu.followers_last]]
        {
            self.queue(f, (cpu.id, 0), followers, out, |links| links.follows = cpu.id + 1);
        }
        let waiters = [cpu.grace_waiters, cpu.grace_waiters_last];
        self.queue(f, (cpu.id, 0), waiters, out, |links| links.grace = cpu.id + 1);
        let mut soonest = u64::MAX;
        for heap in f.s.heaps.iter().filter(|heap| heap.cpu == cpu.id) {
            self.deadlines(f, cpu, heap, out);
            soonest = soonest.min(heap.soonest);
        }
        hold!(
            out,
            cpu.soonest == soonest,
            "cpu{}: the soonest deadline is {soonest}, not {}",
            cpu.id,
            cpu.soonest
        );
    }

    /// Walks a queue of waiting calls, by priority. `owner` is the CPU that owns it, and the task
    /// if the queue is a task's.
    fn queue(
        &mut self,
        f: &Facts<'_>,
        owner: (u32, u64),
        [first, last]: [u64; 2],
        out: &mut Findings,
        set: impl Fn(&mut Links),
    ) {
        let (cpu, of) = owner;
        // The previous in the order, and the first of the priority.
        let (mut prev, mut head): (Option<&Task>, Option<&Task>) = (None, None);
        let mut next = first;
        for _ in 0..=f.s.tasks.len() {
            let Some(task) = f.task(next) else { break };
            let name = || format!("a queue of {} on cpu{cpu}: {}", f.name(of), name_of(task));
            let before = prev.map_or(0, |prev| prev.at);
            hold!(out, task.message_home == cpu, "{} stands there with its message elsewhere", name());
            hold!(out, task.queue_prev == before, "{} has another neighbour", name());
            let follows = head.is_some_and(|head| head.queue_priority == task.queue_priority);
            let falls = prev.is_none_or(|prev| prev.queue_priority >= task.queue_priority);
            hold!(out, falls, "{} outranks the waiter before it", name());
            let place = if follows { 2 } else { 1 };
            hold!(out, task.queue_place == place, "{} has place {} there", name(), task.queue_place);
            if !follows {
                let above = head.map_or(0, |head| head.at);
                let linked =
                    task.queue_higher == above && head.is_none_or(|head| head.queue_lower == task.at);
                hold!(out, linked, "{} is not linked with the next higher priority", name());
                head = Some(task);
            } else {
                let free = task.queue_higher | task.queue_lower == 0;
                hold!(out, free, "{} is no first, and linked with other priorities", name());
            }
            self.mark(f, next, |links| {
                links.queues += 1;
                set(links);
            });
            prev = Some(task);
            next = task.queue_next;
        }
        let end = prev.map_or(0, |prev| prev.at);
        hold!(out, next == 0, "a queue of {} on cpu{cpu} leads to {}", f.name(of), f.name(next));
        hold!(out, last == end, "a queue of {} on cpu{cpu} ends with another than its last", f.name(of));
        let lowest = head.is_none_or(|head| head.queue_lower == 0);
        hold!(out, lowest, "a queue of {} on cpu{cpu} has a priority below the last", f.name(of));
    }

    /// Walks a heap of deadlines.
    fn deadlines(&mut self, f: &Facts<'_>, cpu: &Cpu, of: &Heap, out: &mut Findings) {
        let mut heap = std::mem::take(&mut self.heap);
        heap.clear();
        heap.push(of.root);
        let soonest = f.task(of.root).map_or(u64::MAX, |task| task.deadline);
        hold!(
            out,
            of.soonest == soonest,
            "cpu{}: the soonest deadline of priority {} is {soonest}, not {}",
            cpu.id,
            of.priority,
            of.soonest
        );
        let mut at = 0;
        while at < heap.len() && heap.len() <= 2 * f.s.tasks.len() {
            let node = heap[at];
            at += 1;
            let Some(task) = f.task(node) else {
                out.add(format_args!("cpu{}: the deadlines lead to {}", cpu.id, f.name(node)));
                continue;
            };
            hold!(out, task.home == cpu.id, "{} has its deadline on cpu{}", name_of(task), cpu.id);
            if node == of.root {
                hold!(out, task.deadline_parent == 0, "{} is the soonest, and has a parent", name_of(task));
            }
            let rank = |child: u64| f.task(child).map_or(0, |child| child.deadline_rank);
            let (left, right) = (rank(task.deadline_left), rank(task.deadline_right));
            let ranked = task.deadline_rank == left.min(right) + 1 && left >= right;
            hold!(out, ranked, "{} has rank {} above {left} and {right}", name_of(task), task.deadline_rank);
            for child in [task.deadline_left, task.deadline_right].into_iter().filter(|child| *child != 0) {
                let fits =
                    f.task(child).is_none_or(|c| c.deadline_parent == node && c.deadline >= task.deadline);
                hold!(
                    out,
                    fits,
                    "{} is no later than {}, or has another parent",
                    f.name(child),
                    name_of(task)
                );
                heap.push(child);
            }
            self.mark(f, node, |links| links.deadline = cpu.id + 1);
        }
        self.heap = heap;
    }
}
