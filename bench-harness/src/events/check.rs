//! Scheduling invariants, verified from a trace. Each has a name, and reports a violation with its
//! place in the trace.
//!
//! | rule | what must hold |
//! |---|---|
//! | `idle-with-work` | a CPU never idles while a context is in its run queue |
//! | `not-the-best` | when a kernel entry ends, no queued context outranks the running context |
//! | `turns` | contexts of one priority run in the order in which they came to the queue, unless a task yields to one |
//! | `queue` | a context is in at most one queue, once, and leaves only a queue that it is in |
//! | `two-places` | a task runs on one CPU at a time, and not after its death |
//! | `stop` | a task that stops on a CPU has run there |
//! | `no-interrupt` | a push into the empty mailbox of a CPU that does not poll is followed by an interrupt to it |
//! | `sleeps-on-mail` | a CPU that idles with mail in its mailbox wakes up soon |
//! | `mail-order` | every message that a CPU takes was pushed exactly once, and messages of one producer arrive in its order, except those that were set aside |
//! | `lost-bits` | bits raised at another CPU's Notification send a message to that CPU, or find one on its way |
//! | `call` | a task makes one call at a time; only calls that were made are received, answered or ended |
//! | `caller-of-the-dead` | no call to a dead callee stays open |
//!
//! Events before a ring's oldest one are not known, so the check does not judge what depends on
//! them. A call, a message or a queued context that is still under way when the trace ends breaks
//! no rule: it is listed as still waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;

use abi::TaskId;
use test_abi::trace::{Event, How, IdleHow};

use super::bits::Raises;
use super::names::Names;
use super::rings::{Stamped, Trace};
use super::turns::Turns;

/// Most violations that are kept; a broken kernel has as many as events.
const MOST: usize = 100;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    pub rule: &'static str,
    pub time: u64,
    pub cpu: u32,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} on cpu {}: {}", self.rule, self.time, self.cpu, self.what)
    }
}

/// What a check found.
#[derive(Default, Debug)]
pub struct Findings {
    pub events: usize,
    pub violations: Vec<Violation>,
    /// What was under way at the end.
    pub waiting: Vec<String>,
}

/// Ticks that a CPU may idle with mail, or a call stay open after its callee's death: half a
/// second. Under icount one CPU may keep the others waiting for a tenth.
pub fn patience(trace: &Trace) -> u64 {
    trace.tsc_hz / 2
}

/// Checks every rule.
pub fn check(trace: &Trace) -> Findings {
    let events = trace.in_order();
    let mut checker = Checker::new(trace);
    for stamped in &events {
        checker.step(stamped);
    }
    checker.finish(trace);
    checker.found.events = events.len();
    checker.found
}

/// What is known of a CPU.
#[derive(Default)]
struct Cpu {
    /// The running task and its priority.
    running: Option<(TaskId, u8)>,
    idle: Option<(u64, IdleHow)>,
    queued: BTreeMap<u64, u8>,
    /// Somebody outranks who runs since then.
    outranked: Option<(u64, String)>,
    /// An interrupt is due to that CPU, for a push at that time.
    owes: Option<(u32, u64)>,
    /// The mailbox, in the order of the pushes.
    mail: VecDeque<Mail>,
    /// Nothing of its ring is missing.
    complete: bool,
}

/// A message in a mailbox.
#[derive(Clone, Copy)]
struct Mail {
    /// The CPU that pushed it.
    by: u32,
    node: u64,
    since: u64,
    /// It is out of the queue, and waits for its CPU's next look.
    aside: bool,
}

struct Open {
    callee: TaskId,
    received: bool,
    since: u64,
}

struct Checker {
    names: Names,
    cpus: BTreeMap<u32, Cpu>,
    calls: HashMap<TaskId, Open>,
    /// Where every running task runs.
    places: HashMap<TaskId, u32>,
    /// Callers of which something is known: what they did before the trace is over.
    known: HashSet<TaskId>,
    dead: HashMap<TaskId, u64>,
    pushed_before: BTreeSet<(u32, u64)>,
    raises: Raises,
    turns: Turns,
    complete: bool,
    patience: u64,
    found: Findings,
}

impl Checker {
    fn new(trace: &Trace) -> Checker {
        let cpu = |(&n, ring): (&u32, &super::rings::Ring)| {
            (n, Cpu { complete: ring.lost + ring.unknown == 0, ..Cpu::default() })
        };
        Checker {
            names: trace.names.clone(),
            cpus: trace.rings.iter().map(cpu).collect(),
            calls: HashMap::new(),
            places: HashMap::new(),
            known: HashSet::new(),
            dead: HashMap::new(),
            pushed_before: BTreeSet::new(),
            raises: Raises::new(trace.is_complete()),
            turns: Turns::default(),
            complete: trace.is_complete(),
            patience: patience(trace),
            found: Findings::default(),
        }
    }

    fn cpu(&mut self, n: u32) -> &mut Cpu {
        self.cpus.entry(n).or_default()
    }

    fn broken(&mut self, rule: &'static str, at: &Stamped, what: String) {
        if self.found.violations.len() < MOST {
            self.found.violations.push(Violation { rule, time: at.time, cpu: at.cpu, what });
        }
    }

    fn step(&mut self, at: &Stamped) {
        self.debts(at);
        if let Some(what) = self.raises.step(at) {
            self.broken("lost-bits", at, what);
        }
        if let Some(what) = self.turns.step(at) {
            self.broken("turns", at, what);
        }
        match at.event {
            Event::Run { task, priority, .. } => self.run(at, task, priority),
            Event::Stop { task, .. } => self.stop(at, task),
            Event::Enqueued { context, priority, .. } => self.enqueued(at, context, priority),
            Event::Dequeued { context } => self.dequeued(at, context),
            Event::Idle { how } => self.idle(at, how),
            Event::Woken {} => self.woken(at),
            Event::MailPushed { node, to, empty, polls } => self.pushed(at, node, to, empty && !polls),
            Event::MailTaken { node } => self.taken(at, node),
            Event::MailAside { node } => self.set_aside(at, node),
            Event::TaskDead { task } => {
                self.dead.insert(task, at.time);
                self.calls.remove(&task);
            }
            _ => self.message(at),
        }
        self.rank(at);
    }

    // --- who runs --------------------------------------------------------------------------------

    fn run(&mut self, at: &Stamped, task: TaskId, priority: u8) {
        if let Some(old) = self.cpu(at.cpu).running.replace((task, priority)) {
            self.places.remove(&old.0);
        }
        if let Some(place) = self.places.insert(task, at.cpu).filter(|place| *place != at.cpu) {
            self.broken(
                "two-places",
                at,
                format!("{} runs, and runs on cpu {place}, too", self.names.of(task)),
            );
        }
        if self.dead.contains_key(&task) {
            self.broken("two-places", at, format!("{} runs, and is dead", self.names.of(task)));
        }
    }

    fn stop(&mut self, at: &Stamped, task: TaskId) {
        let running = self.cpu(at.cpu).running.take();
        if let Some((who, _)) = running {
            self.places.remove(&who);
            if who != task {
                let what = format!("{} stops where {} runs", self.names.of(task), self.names.of(who));
                self.broken("stop", at, what);
            }
        }
    }

    fn idle(&mut self, at: &Stamped, how: IdleHow) {
        let cpu = self.cpu(at.cpu);
        cpu.idle = Some((at.time, how));
        let running = cpu.running.take();
        let queued: Vec<String> = cpu.queued.iter().map(|(sc, p)| format!("{sc:#x} of {p}")).collect();
        if let Some((task, _)) = running {
            self.places.remove(&task);
            self.broken("stop", at, format!("idles, and {} has not stopped", self.names.of(task)));
        }
        if !queued.is_empty() {
            self.broken("idle-with-work", at, format!("contexts in its queue: {}", queued.join(", ")));
        }
    }

    // --- run queues ------------------------------------------------------------------------------

    fn enqueued(&mut self, at: &Stamped, context: u64, priority: u8) {
        if self.cpu(at.cpu).queued.insert(context, priority).is_some() {
            self.broken("queue", at, format!("context {context:#x} is queued, and was already"));
        }
    }

    fn dequeued(&mut self, at: &Stamped, context: u64) {
        let cpu = self.cpu(at.cpu);
        if cpu.queued.remove(&context).is_none() && cpu.complete {
            self.broken("queue", at, format!("context {context:#x} leaves a queue that it is not in"));
        }
    }

    /// Notes from when on who runs is outranked.
    fn rank(&mut self, at: &Stamped) {
        let cpu = self.cpus.entry(at.cpu).or_default();
        let best = cpu.queued.iter().max_by_key(|(_, priority)| **priority);
        let outranked = cpu.running.zip(best).filter(|((_, priority), (_, best))| *best > priority);
        match outranked {
            Some(((task, priority), (context, best))) if cpu.outranked.is_none() => {
                let what = format!(
                    "{} runs at priority {priority} while context {context:#x} of {best} is queued",
                    self.names.of(task)
                );
                cpu.outranked = Some((at.time, what));
            }
            Some(_) => {}
            None => cpu.outranked = None,
        }
    }

    /// Checks what the CPU owed at the end of its last entry, if this event begins another entry;
    /// and the interrupt that is due after a push.
    fn debts(&mut self, at: &Stamped) {
        let begins = matches!(
            at.event,
            Event::Interrupt { .. }
                | Event::Call { .. }
                | Event::Notified { .. }
                | Event::User { .. }
                | Event::Fault { .. }
        );
        if begins && let Some((_, what)) = self.cpu(at.cpu).outranked.take() {
            self.broken("not-the-best", at, what);
        }
        if let Some((to, since)) = self.cpu(at.cpu).owes.take()
            && at.event != (Event::IpiSent { to })
        {
            let what = format!("the push at {since} into cpu {to}'s empty mailbox brought no interrupt");
            self.broken("no-interrupt", at, what);
        }
    }

    // --- mail ------------------------------------------------------------------------------------

    fn pushed(&mut self, at: &Stamped, node: u64, to: u32, owes: bool) {
        if owes {
            self.cpu(at.cpu).owes = Some((to, at.time));
        }
        self.pushed_before.insert((to, node));
        let mail = &mut self.cpu(to).mail;
        let twice = mail.iter().any(|queued| queued.node == node);
        mail.push_back(Mail { by: at.cpu, node, since: at.time, aside: false });
        if twice {
            self.broken(
                "mail-order",
                at,
                format!("node {node:#x} is pushed, and is in that mailbox already"),
            );
        }
    }

    fn taken(&mut self, at: &Stamped, node: u64) {
        if let Some(place) = self.place_of(at, node) {
            self.cpu(at.cpu).mail.remove(place);
        }
    }

    fn set_aside(&mut self, at: &Stamped, node: u64) {
        if let Some(place) = self.place_of(at, node) {
            self.cpu(at.cpu).mail[place].aside = true;
        }
    }

    /// Returns the place of a message that a CPU takes out of its mailbox or sets aside. It must
    /// not overtake one of its producer, unless just one of the two was set aside.
    fn place_of(&mut self, at: &Stamped, node: u64) -> Option<usize> {
        let known = self.complete || self.pushed_before.contains(&(at.cpu, node));
        let mail = &self.cpu(at.cpu).mail;
        let place = mail.iter().position(|queued| queued.node == node);
        let overtaken = place.and_then(|place| {
            let Mail { by, aside, .. } = mail[place];
            mail.iter().take(place).find(|first| first.by == by && first.aside == aside).copied()
        });
        if let Some(Mail { by, node: first, since, .. }) = overtaken {
            let what = format!("node {node:#x} of cpu {by} overtook {first:#x}, pushed at {since}");
            self.broken("mail-order", at, what);
        }
        if place.is_none() && known {
            self.broken("mail-order", at, format!("node {node:#x} is taken, and was not pushed"));
        }
        place
    }

    fn woken(&mut self, at: &Stamped) {
        let patience = self.patience;
        let cpu = self.cpu(at.cpu);
        let since = cpu.idle.take().map(|(since, _)| since);
        let oldest = cpu.mail.front().map(|mail| mail.since);
        if let Some((idle, mail)) = since.zip(oldest) {
            let slept = at.time.saturating_sub(idle.max(mail));
            if slept > patience {
                let what = format!("woke up {slept} ticks after its mail of {mail} was there");
                self.broken("sleeps-on-mail", at, what);
            }
        }
    }

    // --- calls -----------------------------------------------------------------------------------

    fn message(&mut self, at: &Stamped) {
        match at.event {
            Event::Call { caller, callee, how, .. } => {
                self.known.insert(caller);
                let open = Open { callee, received: how == How::Delivered, since: at.time };
                if self.calls.insert(caller, open).is_some() {
                    self.broken("call", at, format!("{} calls, and waits in a call", self.names.of(caller)));
                }
            }
            Event::Received { caller, callee } => self.of_call(at, caller, "receives", |open| {
                (open.callee, open.received) = (callee, true);
                true
            }),
            Event::Forward { caller, callee } => self.of_call(at, caller, "forwards", |open| {
                let was = open.received;
                (open.callee, open.received) = (callee, false);
                was
            }),
            Event::Reply { caller, how, .. } => {
                self.of_call(at, caller, "answers", |open| open.received);
                if how == How::Sent {
                    // Until it is home: another answer would be one too many.
                    if let Some(open) = self.calls.get_mut(&caller) {
                        open.received = false;
                    }
                } else {
                    self.calls.remove(&caller);
                }
            }
            Event::CallOver { caller, .. } => {
                self.of_call(at, caller, "ends", |_| true);
                self.calls.remove(&caller);
            }
            _ => {}
        }
    }

    /// Checks an event of a caller's call: the call exists, and `fits` says whether it has come so
    /// far.
    fn of_call(&mut self, at: &Stamped, caller: TaskId, does: &str, fits: impl FnOnce(&mut Open) -> bool) {
        let known = self.complete || self.known.contains(&caller);
        let what = match self.calls.get_mut(&caller) {
            Some(open) => match fits(open) {
                true => return,
                false => "which no task has received, or which was answered",
            },
            None if known => "which there is not",
            None => return,
        };
        self.broken("call", at, format!("somebody {does} a call of {}, {what}", self.names.of(caller)));
    }

    // --- the end ---------------------------------------------------------------------------------

    fn finish(&mut self, trace: &Trace) {
        let end = trace.stopped;
        let (mut late, mut waiting) = (Vec::new(), Vec::new());
        for (&n, cpu) in &self.cpus {
            if let (Some((idle, how)), Some(Mail { by, node, since: pushed, .. })) =
                (cpu.idle, cpu.mail.front())
            {
                let slept = end.saturating_sub(idle.max(*pushed));
                if slept > self.patience {
                    let what = format!(
                        "idles ({}) since {idle} with mail {node:#x} of cpu {by}, pushed at {pushed}: for {slept} \
                         ticks, until the end",
                        how.text()
                    );
                    late.push(Violation { rule: "sleeps-on-mail", time: end, cpu: n, what });
                }
            }
            for Mail { by, node, since: pushed, .. } in &cpu.mail {
                waiting.push(format!("mail {node:#x} of cpu {by} in cpu {n}'s mailbox since {pushed}"));
            }
            for (context, priority) in &cpu.queued {
                waiting.push(format!("context {context:#x} of priority {priority} in cpu {n}'s run queue"));
            }
        }
        let mut calls: Vec<(&TaskId, &Open)> = self.calls.iter().collect();
        calls.sort_by_key(|(caller, _)| caller.raw());
        for (caller, open) in calls {
            let (caller, callee) = (self.names.of(*caller), self.names.of(open.callee));
            let died = self.dead.get(&open.callee).filter(|died| end.saturating_sub(**died) > self.patience);
            if let Some(died) = died {
                let what = format!("{caller} waits for {callee}, which died at {died}");
                late.push(Violation { rule: "caller-of-the-dead", time: end, cpu: 0, what });
            }
            let how = if open.received { "has the call of" } else { "has not received the call of" };
            waiting.push(format!("{callee} {how} {caller}, made at {}", open.since));
        }
        self.found.violations.extend(late);
        self.found.waiting = waiting;
    }
}
