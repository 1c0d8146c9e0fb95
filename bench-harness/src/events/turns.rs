//! Whose turn it is, from a trace: tasks of one priority run in the order in which they came, and
//! get equal shares of the CPU.

use std::collections::{BTreeMap, VecDeque};

use test_abi::trace::{Event, Why};

use super::rings::{Stamped, Trace};

/// A context that ran fewer times is left out.
const RUNS: usize = 500;

/// The rule `turns`: a context that leaves a run queue to run was the first of its priority, unless
/// a task yielded to it.
#[derive(Default)]
pub struct Turns {
    cpus: BTreeMap<u32, Queues>,
}

#[derive(Default)]
struct Queues {
    of: BTreeMap<u8, VecDeque<u64>>,
    /// A context that has left a queue, and the first one there.
    skips: Option<(u64, u64)>,
}

impl Turns {
    /// Takes the next event. Returns what is wrong with it.
    pub fn step(&mut self, at: &Stamped) -> Option<String> {
        let cpu = self.cpus.entry(at.cpu).or_default();
        match at.event {
            Event::Enqueued { context, priority, before } => {
                cpu.skips = cpu.skips.filter(|(who, _)| *who != context);
                let queue = cpu.of.entry(priority).or_default();
                if before { queue.push_front(context) } else { queue.push_back(context) }
            }
            Event::Dequeued { context } => cpu.skips = cpu.take(context),
            Event::Stop { why: Why::Yielded, .. } => cpu.skips = None,
            Event::Run { context, .. } => {
                let (_, first) = cpu.skips.take().filter(|(who, _)| *who == context)?;
                return Some(format!("context {context:#x} runs, and it is {first:#x}'s turn"));
            }
            _ => {}
        }
        None
    }
}

impl Queues {
    /// Takes a context out of its queue. Returns it with the first one there, if that is another.
    fn take(&mut self, context: u64) -> Option<(u64, u64)> {
        let (queue, place) = self.of.values_mut().find_map(|queue| {
            let place = queue.iter().position(|queued| *queued == context)?;
            Some((queue, place))
        })?;
        queue.remove(place);
        (place != 0).then(|| (context, queue[0]))
    }
}

/// What the contexts of one priority have got on a CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shares {
    pub cpu: u32,
    pub priority: u8,
    /// Ticks of each context.
    pub ticks: BTreeMap<u64, u64>,
}

impl Shares {
    /// Returns the contexts that have got more or less than the mean, by so many thousandths of it.
    pub fn unequal(&self, permille: u64) -> Vec<String> {
        let mean = self.ticks.values().sum::<u64>() / self.ticks.len().max(1) as u64;
        let far = |ticks: &u64| ticks.abs_diff(mean) * 1_000 > mean * permille;
        let who = self.ticks.iter().filter(|(_, ticks)| far(ticks));
        who.map(|(context, ticks)| {
            format!("context {context:#x} ran for {ticks} ticks, where {mean} are its share")
        })
        .collect()
    }
}

/// A time at which a context ran on a CPU.
struct Span {
    context: u64,
    begin: u64,
    end: u64,
}

/// Returns what the contexts of a priority got on each CPU while all of them took turns there.
pub fn shares(trace: &Trace, priority: u8) -> Vec<Shares> {
    let of = |(&cpu, ring): (&u32, &super::rings::Ring)| {
        let spans = spans(&ring.events, priority);
        let mut runs: BTreeMap<u64, Vec<&Span>> = BTreeMap::new();
        spans.iter().for_each(|span| runs.entry(span.context).or_default().push(span));
        runs.retain(|_, runs| runs.len() >= RUNS);
        let begin = runs.values().filter_map(|runs| Some(runs.first()?.begin)).max()?;
        let end = runs.values().filter_map(|runs| Some(runs.last()?.end)).min()?;
        let inside = |span: &&Span| span.end.min(end).saturating_sub(span.begin.max(begin));
        let ticks = runs.iter().map(|(context, runs)| (*context, runs.iter().map(inside).sum()));
        Some(Shares { cpu, priority, ticks: ticks.collect() })
    };
    trace.rings.iter().filter_map(of).collect()
}

/// Returns when contexts of a priority ran, by the events of a CPU.
fn spans(events: &[(u64, Event)], priority: u8) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut running: Option<(u64, u64)> = None;
    for &(time, event) in events {
        let next = match event {
            Event::Run { context, priority: its, .. } => Some(context).filter(|_| its == priority),
            Event::Stop { .. } | Event::Idle { .. } => None,
            _ => continue,
        };
        if let Some((context, begin)) = running {
            spans.push(Span { context, begin, end: time });
        }
        running = next.map(|context| (context, time));
    }
    spans
}
