//! A trace in the format of Chrome's trace viewer, which Perfetto reads, too.
//!
//! Each CPU has a track: which task runs, why it stopped, when the CPU idles. Calls, replies, wakes
//! and interrupts are arrows (flow events) between them; mailbox depth and run queue length are
//! counters; shootdowns, user events, faults, tasks that begin and end, and broken rules are
//! instants. `schema.json` beside this file describes the output.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::{Map, Value, json};
use test_abi::trace::{Event, TaskState, Why};

use super::check::Violation;
use super::names::Names;
use super::rings::{Stamped, Trace};
use super::story::{At, Bits, Call, Mail, Rest, Span, Story, Wait};

/// The one process of the trace: the machine.
const MACHINE: u32 = 1;

/// One element of `traceEvents`.
#[derive(Serialize, Clone, PartialEq, Debug)]
struct Item {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    ph: &'static str,
    /// Microseconds since the trace began.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// Where an arrow ends: in the slice that encloses the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    /// Scope of an instant: its track.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    args: Map<String, Value>,
}

/// Writes a trace as JSON, with what its check found.
pub fn render(trace: &Trace, story: &Story, violations: &[Violation]) -> String {
    let mut picture = Picture::new(trace, story);
    picture.tracks(trace);
    picture.slices(story);
    picture.arrows(story);
    picture.rest(&trace.in_order());
    violations.iter().for_each(|violation| picture.broken(violation));
    let whole = json!({
        "displayTimeUnit": "ns",
        "otherData": { "tsc_hz": trace.tsc_hz, "begin": story.begin, "end": story.end },
        "traceEvents": picture.items,
    });
    whole.to_string()
}

struct Picture<'a> {
    names: &'a Names,
    items: Vec<Item>,
    begin: u64,
    tsc_hz: u64,
    arrows: u64,
    /// When each task's spans begin, to find where an arrow to it ends.
    runs: HashMap<u64, Vec<(u64, u32)>>,
}

/// Returns a CPU's track. There is no track 0: Perfetto takes its slices for another track's, and
/// drops overlapping ones.
fn track(cpu: u32) -> u32 {
    cpu + 1
}

fn args(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Returns why a task stopped, for its slice.
fn reason(stopped: Option<(Why, TaskState)>) -> String {
    match stopped {
        None => "still running at the end".to_owned(),
        Some((Why::Blocked | Why::HandedOver, state)) => state.text().to_owned(),
        Some((why, _)) => why.text().to_owned(),
    }
}

impl<'a> Picture<'a> {
    fn new(trace: &'a Trace, story: &Story) -> Picture<'a> {
        let mut runs: HashMap<u64, Vec<(u64, u32)>> = HashMap::new();
        for span in &story.spans {
            runs.entry(span.task.raw()).or_default().push((span.from, span.cpu));
        }
        Picture {
            names: &trace.names,
            items: Vec::new(),
            begin: story.begin,
            tsc_hz: trace.tsc_hz.max(1),
            arrows: 0,
            runs,
        }
    }

    fn name(&self, task: abi::TaskId) -> String {
        self.names.of(task)
    }

    /// Converts a TSC value to nanoseconds: whole ones, as the viewers have them. So no slice's end
    /// is rounded to a time after the next slice's beginning.
    fn nanos(&self, time: u64) -> u64 {
        let ticks = u128::from(time.saturating_sub(self.begin));
        u64::try_from(ticks * 1_000_000_000 / u128::from(self.tsc_hz)).unwrap_or(u64::MAX)
    }

    fn micros(&self, time: u64) -> f64 {
        self.nanos(time) as f64 / 1e3
    }

    fn length(&self, from: u64, to: u64) -> f64 {
        self.nanos(to).saturating_sub(self.nanos(from)) as f64 / 1e3
    }

    fn item(&self, name: &str, ph: &'static str, time: u64, cpu: u32) -> Item {
        Item {
            name: name.to_owned(),
            cat: None,
            ph,
            ts: self.micros(time),
            dur: None,
            pid: MACHINE,
            tid: track(cpu),
            id: None,
            bp: None,
            s: None,
            args: Map::new(),
        }
    }

    /// Names the tracks.
    fn tracks(&mut self, trace: &Trace) {
        let name = |mut item: Item, name: String| {
            item.args = args(json!({ "name": name }));
            item
        };
        self.items.push(name(self.item("process_name", "M", self.begin, 0), "Aurora".to_owned()));
        for (&cpu, ring) in &trace.rings {
            let title = match ring.lost {
                0 => format!("cpu {cpu}"),
                lost => format!("cpu {cpu} ({lost} events before the first are lost)"),
            };
            self.items.push(name(self.item("thread_name", "M", self.begin, cpu), title));
        }
    }

    // --- slices ----------------------------------------------------------------------------------

    fn slices(&mut self, story: &Story) {
        for span in &story.spans {
            let item = self.span(span);
            self.items.push(item);
        }
        for &Rest { cpu, how, from, to } in &story.rests {
            let mut item = self.item("idle", "X", from, cpu);
            item.cat = Some("idle");
            item.dur = Some(self.length(from, to));
            item.args = args(json!({ "how": how.text() }));
            self.items.push(item);
        }
    }

    fn span(&self, span: &Span) -> Item {
        let mut item = self.item(&self.name(span.task), "X", span.from, span.cpu);
        item.cat = Some("task");
        item.dur = Some(self.length(span.from, span.to));
        item.args = args(json!({
            "stopped": reason(span.stopped),
            "priority": span.priority,
            "context": format!("{:#x}", span.context),
            "ticks": span.to - span.from,
        }));
        item
    }

    // --- arrows ----------------------------------------------------------------------------------

    /// Returns where and when a task runs next.
    fn next_run(&self, task: abi::TaskId, after: u64) -> Option<At> {
        let runs = self.runs.get(&task.raw())?;
        runs.get(runs.partition_point(|(from, _)| *from < after)).copied()
    }

    fn arrow(&mut self, name: &str, cat: &'static str, from: At, to: At) {
        self.arrows += 1;
        for (ph, (time, cpu), bp) in [("s", from, None), ("f", to, Some("e"))] {
            let mut item = self.item(name, ph, time, cpu);
            (item.cat, item.id, item.bp) = (Some(cat), Some(self.arrows), bp);
            self.items.push(item);
        }
    }

    fn arrows(&mut self, story: &Story) {
        for call in &story.calls {
            self.call(call);
        }
        for &Bits { raised, taken, task } in &story.bits {
            if let Some(to) = self.next_run(task, taken.0) {
                self.arrow("notify", "message", raised, to);
            }
        }
        for &Mail { pushed, to, woken, .. } in &story.mails {
            if let Some(woken) = woken {
                self.arrow("wake", "wake", pushed, (woken, to));
            }
        }
        for &Wait { cpu, from, to, task, .. } in &story.waits {
            if let Some(run) = task.and_then(|task| self.next_run(task, to)).filter(|run| run.1 == cpu) {
                self.arrow("queued", "queue", (from, cpu), run);
            }
        }
    }

    fn call(&mut self, call: &Call) {
        if let Some(received) = call.received
            && let Some(to) = self.next_run(call.callee, received.0)
        {
            self.arrow(&format!("call {}", self.name(call.callee)), "message", call.begun, to);
        }
        if let Some((replied, over)) = call.replied.zip(call.over)
            && let Some(to) = self.next_run(call.caller, over.0)
        {
            self.arrow(&format!("reply to {}", self.name(call.caller)), "message", replied, to);
        }
    }

    // --- counters, instants, interrupts ----------------------------------------------------------

    fn rest(&mut self, events: &[Stamped]) {
        let mut depth: BTreeMap<u32, i64> = BTreeMap::new();
        let mut queue: BTreeMap<u32, i64> = BTreeMap::new();
        let mut interrupts: BTreeMap<u32, At> = BTreeMap::new();
        for at in events {
            let (time, cpu) = (at.time, at.cpu);
            match at.event {
                Event::MailPushed { to, .. } => {
                    self.count("mailbox", to, time, depth.entry(to).or_default(), 1)
                }
                Event::MailTaken { .. } => {
                    self.count("mailbox", cpu, time, depth.entry(cpu).or_default(), -1);
                }
                Event::Enqueued { .. } => {
                    self.count("run queue", cpu, time, queue.entry(cpu).or_default(), 1)
                }
                Event::Dequeued { .. } => {
                    self.count("run queue", cpu, time, queue.entry(cpu).or_default(), -1)
                }
                Event::IpiSent { to } => {
                    interrupts.insert(to, (time, cpu));
                }
                Event::Interrupt { irq } => {
                    self.instant(&format!("{} interrupt", irq.text()), "interrupt", at, json!({}));
                    if irq == test_abi::trace::Irq::Mail
                        && let Some(sent) = interrupts.remove(&cpu)
                    {
                        self.arrow("interrupt", "interrupt", sent, (time, cpu));
                    }
                }
                _ => self.incident(at),
            }
        }
    }

    /// Adds a counter of each CPU. What was counted up before the trace began may be counted down
    /// in it.
    fn count(&mut self, name: &str, cpu: u32, time: u64, value: &mut i64, step: i64) {
        *value = (*value + step).max(0);
        let mut item = self.item(&format!("{name} cpu {cpu}"), "C", time, cpu);
        item.args = args(json!({ "n": *value }));
        self.items.push(item);
    }

    fn instant(&mut self, name: &str, cat: &'static str, at: &Stamped, what: Value) {
        let mut item = self.item(name, "i", at.time, at.cpu);
        (item.cat, item.s, item.args) = (Some(cat), Some("t"), args(what));
        self.items.push(item);
    }

    fn broken(&mut self, &Violation { rule, time, cpu, ref what }: &Violation) {
        let mut item = self.item(&format!("broken: {rule}"), "i", time, cpu);
        (item.cat, item.s, item.args) = (Some("broken"), Some("t"), args(json!({ "what": what })));
        self.items.push(item);
    }

    fn incident(&mut self, at: &Stamped) {
        match at.event {
            Event::User { first, second } => {
                let what = json!({ "first": format!("{first:#x}"), "second": format!("{second:#x}") });
                self.instant("user event", "user", at, what);
            }
            Event::Fault { task, address, vector } => {
                let what = json!({ "vector": vector, "address": format!("{address:#x}") });
                self.instant(&format!("{} faults", self.name(task)), "fault", at, what);
            }
            Event::TaskMade { task, cpu } => {
                self.instant(&format!("{} is made", self.name(task)), "life", at, json!({ "cpu": cpu }));
            }
            Event::TaskDead { task } => {
                self.instant(&format!("{} is dead", self.name(task)), "life", at, json!({}));
            }
            Event::ShootdownBegun { number, asked } => {
                let what = json!({ "number": format!("{number:#x}"), "asked": asked });
                self.instant("shootdown begins", "shootdown", at, what);
            }
            Event::ShootdownServed {} => {
                self.instant("forgets translations", "shootdown", at, json!({}));
            }
            Event::ShootdownOver { number } => {
                self.instant(
                    "shootdown is over",
                    "shootdown",
                    at,
                    json!({ "number": format!("{number:#x}") }),
                );
            }
            Event::Forward { caller, callee } => {
                let name = format!("{}'s call goes on to {}", self.name(caller), self.name(callee));
                self.instant(&name, "message", at, json!({}));
            }
            _ => {}
        }
    }
}
