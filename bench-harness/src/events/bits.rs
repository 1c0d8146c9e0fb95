//! Checks bits that are raised at another CPU's Notification: each raise must send a message, or
//! find one on its way.
//!
//! A raise begins with its event and is over before the next event of its CPU. If the raise sends a
//! message, that next event is the push. A message is on its way from the beginning of such a raise
//! until it is opened. The CPU that opens it takes the bits before it writes its next event, which
//! may be much later. If another message is pushed in between, it was pushed after the bits were
//! taken, and is the next message. A raise that was under way while the bits were taken may have
//! been right or wrong. If it was wrong, its bits stay set without a message, and the next raise
//! certainly breaks the rule.

use std::collections::{BTreeMap, HashMap};

use test_abi::trace::{Event, MailKind};

use super::rings::Stamped;
use super::story::At;

/// Goes along with the events.
pub struct Raises {
    objects: HashMap<u64, Object>,
    /// What each message is about.
    nodes: HashMap<u64, u64>,
    /// What each CPU began with its last event.
    begun: BTreeMap<u32, Begun>,
    /// The message that each CPU took last.
    taken: BTreeMap<u32, u64>,
    /// Nothing is missing in the trace.
    complete: bool,
}

#[derive(Clone, Copy)]
enum Begun {
    Raise {
        object: u64,
        bits: u64,
        since: At,
    },
    /// A message was opened, its bits are about to be taken.
    Opened {
        object: u64,
        since: u64,
    },
}

/// What is known of a Notification.
#[derive(Default)]
struct Object {
    /// A message is on its way.
    sent: bool,
    /// When its bits were taken last.
    taken: Option<Taken>,
    /// The last raise that sent nothing, and when it was over.
    quiet: Option<(At, u64)>,
    /// Such a raise that was under way when bits were taken last.
    doubtful: Option<At>,
    /// A raise since then was too late; one is enough to say.
    said: bool,
}

/// Bits were taken between two times on a CPU.
#[derive(Clone, Copy)]
struct Taken {
    from: u64,
    until: u64,
    cpu: u32,
}

impl Object {
    /// Returns how the bits came to be wrong, as far as the events say.
    fn last_words(&self) -> String {
        let Some(Taken { until, cpu, .. }) = self.taken else { return String::new() };
        let mut text = format!("; the last was taken by cpu {cpu} until {until}");
        if let Some((since, by)) = self.doubtful {
            text += &format!(", while cpu {by} was raising since {since}");
        }
        text
    }

    fn look_for_doubt(&mut self) {
        if let (Some(taken), Some((since, over))) = (self.taken, self.quiet)
            && since.0 <= taken.until
            && over >= taken.from
        {
            self.doubtful = Some(since);
        }
    }
}

impl Raises {
    pub fn new(complete: bool) -> Raises {
        Raises {
            objects: HashMap::new(),
            nodes: HashMap::new(),
            begun: BTreeMap::new(),
            taken: BTreeMap::new(),
            complete,
        }
    }

    /// Takes the next event. Returns what is wrong with the raise that this event shows to be over.
    pub fn step(&mut self, at: &Stamped) -> Option<String> {
        let wrong = match self.begun.remove(&at.cpu) {
            Some(Begun::Raise { object, bits, since }) => self.over(at, object, bits, since),
            Some(Begun::Opened { object, since: from }) => {
                let object = self.objects.entry(object).or_default();
                object.said = false;
                object.taken = Some(Taken { from, until: at.time, cpu: at.cpu });
                object.doubtful = None;
                object.look_for_doubt();
                None
            }
            None => None,
        };
        match at.event {
            Event::Notified { object, bits, remote: true } if bits != 0 => {
                let since = (at.time, at.cpu);
                self.begun.insert(at.cpu, Begun::Raise { object, bits, since });
            }
            Event::MailTaken { node } => {
                self.taken.insert(at.cpu, node);
            }
            Event::MailOpened { about, kind: MailKind::Bits } => {
                if let Some(node) = self.taken.remove(&at.cpu) {
                    self.nodes.insert(node, about);
                }
                self.objects.entry(about).or_default().sent = false;
                self.begun.insert(at.cpu, Begun::Opened { object: about, since: at.time });
            }
            // Bits that are passed on to where their Notification has moved are raised by nobody.
            Event::MailPushed { node, .. } => {
                if let Some(object) = self.nodes.get(&node) {
                    self.objects.entry(*object).or_default().sent = true;
                }
            }
            _ => {}
        }
        wrong
    }

    fn over(&mut self, at: &Stamped, name: u64, bits: u64, since: At) -> Option<String> {
        if let Event::MailPushed { node, .. } = at.event {
            self.nodes.insert(node, name);
            return None;
        }
        // About to push, or to take the bits.
        let same = |begun: &Begun| match begun {
            Begun::Raise { object, .. } | Begun::Opened { object, .. } => *object == name,
        };
        let others = self.begun.values().any(same);
        let complete = self.complete;
        let object = self.objects.entry(name).or_default();
        let meanwhile = object.taken.is_some_and(|taken| taken.until >= since.0);
        let known = complete || object.taken.is_some();
        let wrong = known && !object.sent && !meanwhile && !others && !object.said;
        object.said |= wrong;
        let last = object.last_words();
        object.quiet = Some((since, at.time));
        object.look_for_doubt();
        let since = since.0;
        wrong.then(|| {
            format!("bits {bits:#x} raised at {since} in Notification {name:#x} sent no message, and none was on its way{last}")
        })
    }
}
