//! Questions that a trace answers: each prints a table, the most remarkable first.

use std::collections::BTreeMap;

use clap::ValueEnum;

use super::rings::Trace;
use super::story::{Call, Mail, Span, Story, Wait};

/// What can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Query {
    /// Tasks that were in a run queue longest, and the tasks that ran during that time
    LongestWait,
    /// Which calls took longest, and where the time went
    LongestCall,
    /// Tasks that ran longest without a stop
    LongestRun,
    /// How long idle CPUs took from a message to waking, the longest first
    LongestWake,
    /// How much of the time each CPU, and each task, was running
    Busy,
    /// Round trips by caller and callee: how many, the shortest, median and longest
    Calls,
}

/// Lines of an answer, without the head.
const LINES: usize = 10;

/// Answers a question.
pub fn answer(trace: &Trace, story: &Story, query: Query) -> Vec<String> {
    let view = View { trace, story };
    let mut lines = match query {
        Query::LongestWait => view.longest_wait(),
        Query::LongestCall => view.longest_call(),
        Query::LongestRun => view.longest_run(),
        Query::LongestWake => view.longest_wake(),
        Query::Busy => view.busy(),
        Query::Calls => view.calls(),
    };
    if lines.len() < 2 {
        lines.push("  nothing of that kind in this trace".to_owned());
    }
    lines
}

struct View<'a> {
    trace: &'a Trace,
    story: &'a Story,
}

impl View<'_> {
    fn name(&self, task: abi::TaskId) -> String {
        self.trace.names.of(task)
    }

    /// Ticks, and what they are in microseconds.
    fn ticks(&self, ticks: u64) -> String {
        format!("{ticks} ticks ({:.1} µs)", ticks as f64 * 1e6 / self.trace.tsc_hz.max(1) as f64)
    }

    /// Writes a point in time, counted from the trace's beginning.
    fn at(&self, time: u64) -> String {
        let micros = (time - self.story.begin) as f64 * 1e6 / self.trace.tsc_hz.max(1) as f64;
        format!("at {micros:.1} µs")
    }

    /// Lists the longest of `all` by `length`, as `line` writes them, below `head`.
    fn longest<T>(
        &self,
        head: &str,
        all: &[T],
        length: impl Fn(&T) -> Option<u64>,
        line: impl Fn(&T) -> String,
    ) -> Vec<String> {
        let mut sorted: Vec<(u64, &T)> = all.iter().filter_map(|one| Some((length(one)?, one))).collect();
        sorted.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        let lines = sorted
            .iter()
            .take(LINES)
            .map(|(length, one)| format!("  {}  {}", self.ticks(*length), line(one)));
        std::iter::once(format!("{head} ({} in all):", sorted.len())).chain(lines).collect()
    }

    fn longest_wait(&self) -> Vec<String> {
        let line = |wait: &Wait| {
            let who =
                wait.task.map_or_else(|| format!("context {:#x}", wait.context), |task| self.name(task));
            let end = if wait.over { "" } else { ", still waiting at the end" };
            let ran = self.ran_meanwhile(wait);
            format!(
                "{who} on cpu {} {}, priority {}{end}; meanwhile {ran}",
                wait.cpu,
                self.at(wait.from),
                wait.priority
            )
        };
        self.longest("longest waits for the CPU", &self.story.waits, |wait| Some(wait.to - wait.from), line)
    }

    /// Returns the tasks that ran on a CPU while a task waited there, the longest first.
    fn ran_meanwhile(&self, wait: &Wait) -> String {
        let mut shares: BTreeMap<u64, u64> = BTreeMap::new();
        for span in self.story.spans.iter().filter(|span| span.cpu == wait.cpu) {
            let overlap = span.to.min(wait.to).saturating_sub(span.from.max(wait.from));
            if overlap > 0 {
                *shares.entry(span.task.raw()).or_default() += overlap;
            }
        }
        let mut shares: Vec<(u64, u64)> = shares.into_iter().collect();
        shares.sort_by_key(|(_, share)| std::cmp::Reverse(*share));
        let whole = (wait.to - wait.from).max(1);
        let name = |(task, share): &(u64, u64)| {
            format!("{} {} %", self.name(abi::TaskId::from_raw(*task)), share * 100 / whole)
        };
        let names: Vec<String> = shares.iter().take(3).map(name).collect();
        if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
    }

    fn longest_call(&self) -> Vec<String> {
        let length = |call: &Call| Some(call.over.map_or(self.story.end, |over| over.0) - call.begun.0);
        let line = |call: &Call| {
            let part = |name: &str, from: Option<u64>, to: Option<u64>| match (from, to) {
                (Some(from), Some(to)) => format!("{name} {}", to.saturating_sub(from)),
                (Some(_), None) => format!("not {name} by the end"),
                _ => String::new(),
            };
            let time = |at: Option<(u64, u32)>| at.map(|at| at.0);
            let (begun, received, replied) = (Some(call.begun.0), time(call.received), time(call.replied));
            let parts = [
                part("received", begun, received),
                part("answered", received, replied),
                part("home", replied, time(call.over)),
            ];
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            let error = if call.error == 0 { String::new() } else { format!(", error {}", call.error) };
            format!(
                "{} → {} from cpu {} {}: {}{error}",
                self.name(call.caller),
                self.name(call.callee),
                call.begun.1,
                self.at(call.begun.0),
                parts.join(", ")
            )
        };
        self.longest("longest calls", &self.story.calls, length, line)
    }

    fn longest_run(&self) -> Vec<String> {
        let line = |span: &Span| {
            let end = span.stopped.map_or("still running at the end", |(why, _)| why.text());
            format!(
                "{} on cpu {} {}, priority {}; then {end}",
                self.name(span.task),
                span.cpu,
                self.at(span.from),
                span.priority
            )
        };
        self.longest("longest runs", &self.story.spans, |span| Some(span.to - span.from), line)
    }

    fn longest_wake(&self) -> Vec<String> {
        let length = |mail: &Mail| mail.idle.then(|| mail.woken.unwrap_or(self.story.end) - mail.pushed.0);
        let line = |mail: &Mail| {
            let end = if mail.woken.is_none() { ", which sleeps on" } else { "" };
            format!("cpu {} for mail of cpu {} {}{end}", mail.to, mail.pushed.1, self.at(mail.pushed.0))
        };
        self.longest("longest ways from a message to a CPU that wakes", &self.story.mails, length, line)
    }

    fn busy(&self) -> Vec<String> {
        let whole = (self.story.end - self.story.begin).max(1);
        let mut lines = vec![format!("busy, of {}:", self.ticks(whole))];
        for cpu in self.trace.rings.keys() {
            let spans = self.story.spans.iter().filter(|span| span.cpu == *cpu);
            let (runs, ticks) = spans.fold((0, 0), |(n, sum), span| (n + 1, sum + (span.to - span.from)));
            lines.push(format!("  cpu {cpu}: {:.1} % in {runs} runs", ticks as f64 * 100.0 / whole as f64));
        }
        let mut tasks: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for span in &self.story.spans {
            let entry = tasks.entry(span.task.raw()).or_default();
            *entry = (entry.0 + span.to - span.from, entry.1 + 1);
        }
        let mut tasks: Vec<(u64, (u64, u64))> = tasks.into_iter().collect();
        tasks.sort_by_key(|(_, (ticks, _))| std::cmp::Reverse(*ticks));
        for (task, (ticks, runs)) in tasks.iter().take(LINES) {
            let share = *ticks as f64 * 100.0 / whole as f64;
            lines.push(format!(
                "  {}: {share:.1} % of a CPU in {runs} runs",
                self.name(abi::TaskId::from_raw(*task))
            ));
        }
        lines
    }

    fn calls(&self) -> Vec<String> {
        let mut pairs: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
        for call in &self.story.calls {
            if let Some(over) = call.over {
                pairs.entry((call.caller.raw(), call.callee.raw())).or_default().push(over.0 - call.begun.0);
            }
        }
        let mut pairs: Vec<((u64, u64), Vec<u64>)> = pairs.into_iter().collect();
        pairs.iter_mut().for_each(|(_, times)| times.sort_unstable());
        pairs.sort_by_key(|(_, times)| std::cmp::Reverse(times.len()));
        let line = |((caller, callee), times): &((u64, u64), Vec<u64>)| {
            let name = |raw: u64| self.name(abi::TaskId::from_raw(raw));
            let (least, most) = (times[0], times[times.len() - 1]);
            let median = times[times.len() / 2];
            format!(
                "  {} → {}: {} calls, {least} / {median} / {most} ticks",
                name(*caller),
                name(*callee),
                times.len()
            )
        };
        let head = format!("calls that are over, least / median / most ({} pairs):", pairs.len());
        std::iter::once(head).chain(pairs.iter().take(LINES).map(line)).collect()
    }
}
