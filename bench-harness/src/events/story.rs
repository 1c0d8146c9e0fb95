//! Derives from the events when each task ran, all calls, the waits for a CPU, and which mail woke
//! which CPU. Overwritten events are missing; spans that began before the trace start at its
//! beginning.

use std::collections::{BTreeMap, HashMap, VecDeque};

use abi::TaskId;
use test_abi::trace::{Event, IdleHow, TaskState, Why};

use super::rings::{Stamped, Trace};

/// A time in which one task ran on one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub cpu: u32,
    pub task: TaskId,
    pub context: u64,
    pub priority: u8,
    pub from: u64,
    pub to: u64,
    /// `None`: it still ran when the trace ended.
    pub stopped: Option<(Why, TaskState)>,
}

/// A time in which a CPU idled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rest {
    pub cpu: u32,
    pub how: IdleHow,
    pub from: u64,
    pub to: u64,
}

/// A point in time on a CPU.
pub type At = (u64, u32);

/// A call from its beginning to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    pub caller: TaskId,
    /// The last one that it was sent to.
    pub callee: TaskId,
    pub begun: At,
    pub received: Option<At>,
    pub replied: Option<At>,
    /// When the caller had the outcome.
    pub over: Option<At>,
    pub error: u8,
}

/// A time in which a context stood in a run queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    pub cpu: u32,
    pub context: u64,
    pub priority: u8,
    pub from: u64,
    pub to: u64,
    /// The task that ran on it then; `None`: it was taken out, or still waited at the end.
    pub task: Option<TaskId>,
    pub over: bool,
}

/// A mailbox message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mail {
    pub pushed: At,
    pub to: u32,
    /// The CPU idled when it was pushed.
    pub idle: bool,
    /// When a CPU that idled stopped doing so.
    pub woken: Option<u64>,
    pub taken: Option<u64>,
}

/// Bits that were raised, and who got them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits {
    pub raised: At,
    pub taken: At,
    pub task: TaskId,
}

#[derive(Default, Debug)]
pub struct Story {
    pub begin: u64,
    pub end: u64,
    pub spans: Vec<Span>,
    pub rests: Vec<Rest>,
    pub calls: Vec<Call>,
    pub waits: Vec<Wait>,
    pub mails: Vec<Mail>,
    pub bits: Vec<Bits>,
}

/// What is going on while the events are gone through.
#[derive(Default)]
struct Now {
    running: BTreeMap<u32, Span>,
    resting: BTreeMap<u32, Rest>,
    calls: HashMap<TaskId, usize>,
    queued: HashMap<(u32, u64), usize>,
    /// The last wait of a context that left the queue, by CPU: it runs next, or was taken out.
    left: HashMap<(u32, u64), usize>,
    mail: HashMap<(u32, u64), VecDeque<usize>>,
    raised: HashMap<u64, At>,
}

impl Now {
    fn runs(&self, cpu: u32, task: TaskId) -> bool {
        self.running.get(&cpu).is_some_and(|span| span.task == task)
    }
}

impl Story {
    pub fn of(trace: &Trace) -> Story {
        let events = trace.in_order();
        let begin = events.first().map_or(0, |first| first.time);
        let end = events.last().map_or(0, |last| last.time).max(trace.stopped);
        let mut story = Story { begin, end, ..Story::default() };
        let mut now = Now::default();
        for stamped in &events {
            story.scheduling(&mut now, stamped);
            story.messages(&mut now, stamped);
            story.mail(&mut now, stamped);
        }
        story.spans.extend(now.running.into_values().map(|span| Span { to: end, ..span }));
        story.rests.extend(now.resting.into_values().map(|rest| Rest { to: end, ..rest }));
        for at in now.queued.into_values() {
            story.waits[at].to = end;
        }
        story.spans.sort_by_key(|span| (span.from, span.cpu));
        story
    }

    fn scheduling(&mut self, now: &mut Now, &Stamped { time, cpu, event }: &Stamped) {
        match event {
            // Not interrupted: it goes on with other time, or its time has another priority.
            Event::Run { task, context, priority } if now.runs(cpu, task) => {
                if let Some(span) = now.running.get_mut(&cpu) {
                    (span.context, span.priority) = (context, priority);
                }
                now.left.remove(&(cpu, context));
            }
            Event::Run { task, context, priority } => {
                self.end_span(now, cpu, time, None);
                now.running
                    .insert(cpu, Span { cpu, task, context, priority, from: time, to: time, stopped: None });
                if let Some(at) = now.left.remove(&(cpu, context)) {
                    self.waits[at].task = Some(task);
                }
            }
            Event::Stop { why, state, .. } => self.end_span(now, cpu, time, Some((why, state))),
            Event::Enqueued { context, priority, .. } => {
                let wait = Wait { cpu, context, priority, from: time, to: time, task: None, over: false };
                now.queued.insert((cpu, context), self.waits.len());
                self.waits.push(wait);
            }
            Event::Dequeued { context } => {
                if let Some(at) = now.queued.remove(&(cpu, context)) {
                    (self.waits[at].to, self.waits[at].over) = (time, true);
                    now.left.insert((cpu, context), at);
                }
            }
            Event::Idle { how } => {
                now.resting.insert(cpu, Rest { cpu, how, from: time, to: time });
            }
            Event::Woken {} => {
                if let Some(rest) = now.resting.remove(&cpu) {
                    self.rests.push(Rest { to: time, ..rest });
                }
            }
            _ => {}
        }
    }

    /// Ends the span of what ran on a CPU.
    fn end_span(&mut self, now: &mut Now, cpu: u32, time: u64, stopped: Option<(Why, TaskState)>) {
        if let Some(span) = now.running.remove(&cpu) {
            self.spans.push(Span { to: time, stopped, ..span });
        }
    }

    fn messages(&mut self, now: &mut Now, &Stamped { time, cpu, event }: &Stamped) {
        let at = (time, cpu);
        match event {
            Event::Call { caller, callee, how, .. } => {
                let received = (how == test_abi::trace::How::Delivered).then_some(at);
                now.calls.insert(caller, self.calls.len());
                self.calls.push(Call {
                    caller,
                    callee,
                    begun: at,
                    received,
                    replied: None,
                    over: None,
                    error: 0,
                });
            }
            Event::Received { caller, callee } => {
                if let Some(call) = now.calls.get(&caller).map(|n| &mut self.calls[*n]) {
                    (call.callee, call.received) = (callee, Some(at));
                }
            }
            Event::Reply { caller, how, error, .. } => {
                if let Some(n) = now.calls.get(&caller).copied() {
                    let call = &mut self.calls[n];
                    (call.replied, call.error) = (Some(at), error);
                    if how != test_abi::trace::How::Sent {
                        call.over = Some(at);
                        now.calls.remove(&caller);
                    }
                }
            }
            Event::CallOver { caller, error } => {
                if let Some(n) = now.calls.remove(&caller) {
                    (self.calls[n].over, self.calls[n].error) = (Some(at), error);
                }
            }
            Event::Notified { object, .. } => {
                now.raised.insert(object, at);
            }
            Event::BitsTaken { task, object } => {
                if let Some(raised) = now.raised.remove(&object) {
                    self.bits.push(Bits { raised, taken: at, task });
                }
            }
            _ => {}
        }
    }

    fn mail(&mut self, now: &mut Now, &Stamped { time, cpu, event }: &Stamped) {
        match event {
            Event::MailPushed { node, to, .. } => {
                let idle = now.resting.contains_key(&to);
                now.mail.entry((to, node)).or_default().push_back(self.mails.len());
                self.mails.push(Mail { pushed: (time, cpu), to, idle, woken: None, taken: None });
            }
            Event::MailTaken { node } => {
                if let Some(n) = now.mail.get_mut(&(cpu, node)).and_then(VecDeque::pop_front) {
                    self.mails[n].taken = Some(time);
                }
            }
            Event::Woken {} => {
                for waiting in now.mail.iter().filter(|((to, _), _)| *to == cpu).flat_map(|(_, all)| all) {
                    self.mails[*waiting].woken.get_or_insert(time);
                }
            }
            _ => {}
        }
    }
}
