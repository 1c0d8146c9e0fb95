//! Converts records of the log port to events in order.
//!
//! Each CPU wrote its own ring, so the rings are merged by time. The event of a mailbox push has
//! the time before the push, so all effects of a message come after that event.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use test_abi::trace::{EVENT_BYTES, Event, RING_EVENTS_MAX, RingPart, TRACE_CHANNEL};

use super::names::Names;
use crate::records::{self, Piece, Splitter};

/// An event with its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamped {
    /// TSC.
    pub time: u64,
    pub cpu: u32,
    pub event: Event,
}

/// What one CPU wrote.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ring {
    /// In the order in which they were written.
    pub events: Vec<(u64, Event)>,
    /// How many came before them and were written over.
    pub lost: u64,
    /// Events that this harness does not know, or that follow a gap.
    pub unknown: u64,
    /// Whether the ring's end was seen.
    whole: bool,
    /// Number of the event that comes next.
    next: u64,
}

/// A run's events.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Trace {
    /// By CPU.
    pub rings: BTreeMap<u32, Ring>,
    /// Ticks a second.
    pub tsc_hz: u64,
    /// When tracing stopped.
    pub stopped: u64,
    pub names: Names,
}

impl Trace {
    /// Reads what the guest wrote to its log port.
    pub fn read(log: &[u8]) -> Result<Trace> {
        let mut splitter = Splitter::default();
        splitter.push(log);
        let mut trace = Trace::default();
        for piece in splitter.by_ref() {
            match piece {
                Piece::Record { channel: TRACE_CHANNEL, payload } => {
                    if let Some((part, events)) = RingPart::decode(&payload) {
                        trace.add(part, events);
                    }
                }
                Piece::Record { channel: records::REPORT, payload } => {
                    trace.names.learn(&String::from_utf8_lossy(&payload));
                }
                _ => {}
            }
        }
        if trace.rings.is_empty() {
            bail!(
                "the run left no events: either its kernel does not trace, or it ended without the kernel \
                 (killed from outside, triple fault); `./justw trace` builds and boots the tracing kernel"
            );
        }
        Ok(trace)
    }

    fn add(&mut self, part: RingPart, bytes: &[u8]) {
        (self.tsc_hz, self.stopped) = (part.tsc_hz, part.stopped);
        let ring = self.rings.entry(part.cpu).or_default();
        if ring.events.is_empty() {
            ring.lost = part.first;
        } else if part.first != ring.next {
            ring.unknown += part.first.saturating_sub(ring.next);
        }
        ring.next = part.first + u64::from(part.events);
        ring.whole |= part.events == 0;
        for bytes in bytes.chunks_exact(EVENT_BYTES) {
            let word =
                |at: usize| u64::from_le_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap_or_default());
            match Event::decode(&[word(1), word(2), word(3)]) {
                Some(event) => ring.events.push((word(0), event)),
                None => ring.unknown += 1,
            }
        }
    }

    /// Makes a complete trace of these events of each CPU. For tests.
    pub fn of(tsc_hz: u64, rings: &[&[(u64, Event)]]) -> Trace {
        let ring =
            |events: &&[(u64, Event)]| Ring { events: events.to_vec(), whole: true, ..Ring::default() };
        let rings: BTreeMap<u32, Ring> = (0..).zip(rings.iter().map(ring)).collect();
        let last = rings.values().filter_map(|ring| Some(ring.events.last()?.0)).max();
        Trace { rings, tsc_hz, stopped: last.unwrap_or_default() + 1, names: Names::default() }
    }

    /// Whether nothing of any CPU is missing.
    pub fn is_complete(&self) -> bool {
        self.rings.values().all(|ring| ring.lost + ring.unknown == 0 && ring.whole)
    }

    /// Returns all events from the time on from which those of every CPU are known, in the order of
    /// time. The events of one CPU stay in their own order.
    pub fn in_order(&self) -> Vec<Stamped> {
        let known_from = self.known_from();
        let mut all: Vec<Stamped> = Vec::new();
        for (&cpu, ring) in &self.rings {
            let known = ring.events.iter().filter(|(time, _)| *time >= known_from);
            all.extend(known.map(|&(time, event)| Stamped { time, cpu, event }));
        }
        // Stable: the events of a CPU stay in their order.
        all.sort_by_key(|stamped| stamped.time);
        all
    }

    /// Returns the time from which on the events of all CPUs are known.
    fn known_from(&self) -> u64 {
        let cut = self.rings.values().filter(|ring| ring.lost > 0);
        cut.filter_map(|ring| Some(ring.events.first()?.0)).max().unwrap_or(0)
    }

    /// Describes what is there and what is missing, with a line for each CPU.
    pub fn describe(&self) -> Vec<String> {
        let line = |(cpu, ring): (&u32, &Ring)| {
            let mut line = format!("cpu {cpu}: {} events", ring.events.len());
            if ring.lost > 0 {
                line += &format!(
                    ", {} before them were written over (a longer ring: --events {})",
                    ring.lost,
                    (ring.lost + ring.events.len() as u64).next_power_of_two().min(RING_EVENTS_MAX.into())
                );
            }
            if ring.unknown > 0 {
                line += &format!(", {} not understood", ring.unknown);
            }
            if !ring.whole {
                line += ", and the end is missing";
            }
            line
        };
        let mut lines: Vec<String> = self.rings.iter().map(line).collect();
        if self.known_from() > 0 {
            let (known, all) =
                (self.in_order().len(), self.rings.values().map(|ring| ring.events.len()).sum::<usize>());
            lines.push(format!(
                "{known} of {all} events are from when those of all CPUs are there; the others are left out"
            ));
        }
        lines
    }
}
