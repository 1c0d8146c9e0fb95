//! Compares the confinement oracle's bound (the crate [`confine`]) with snapshots of the guest's
//! kernel.
//!
//! By a report line `confined`, the guest names the processes that must stay confined, by their
//! identities. The next snapshot is the start. Each later snapshot must stay within the closure of
//! the start, and so must the capabilities that these processes report in lines `holds`. Snapshots
//! take long, so most checks use these lines.

use std::collections::BTreeSet;

use abi::Rights;
use confine::{Bound, Excess, Picture};
use invariants::Snapshot;

/// Excesses that are kept to be told; the others are counted.
const TOLD_AT_MOST: usize = 8;

/// The result of the comparison.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Confined {
    /// Snapshots that were compared with the start.
    pub pictures: u32,
    /// Holdings that the guest reported and that were compared with the bound.
    pub holdings: u32,
    /// Different things that somebody holds or sees beyond the bound.
    pub exceeded: u64,
    /// The first of these.
    pub told: Vec<String>,
}

/// Watches the snapshots of a run.
#[derive(Default)]
pub struct Watch {
    identities: Vec<u64>,
    bound: Option<Bound>,
    picture: Picture,
    known: BTreeSet<String>,
    found: Confined,
}

impl Watch {
    /// Reads a report line, which may name the processes that are to stay confined from now on.
    pub fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("confined") => {
                self.identities = words.filter_map(|word| word.parse().ok()).collect();
                self.bound = None;
            }
            Some("holds") => {
                let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
                self.judge_holding(&numbers);
            }
            _ => {}
        }
    }

    /// Judges what a process says that it holds: its number among the confined, identity and label
    /// of the object, rights; and how many operations were done by then.
    fn judge_holding(&mut self, numbers: &[u64]) {
        let (&[number, object, label, rights, done], Some(bound)) = (numbers, &self.bound) else { return };
        let process = self.identities.get(number as usize).copied().unwrap_or(0);
        self.found.holdings += 1;
        if !bound.lets_hold(process, object, label as u32, Rights(rights as u32)) {
            let what =
                format!("roomer {number} holds object {object} with label {label} and rights {rights:#x}");
            self.note(Excess { rule: "bound", what }, Some(done));
        }
    }

    /// Judges a snapshot by the confinement of the processes.
    pub fn look(&mut self, snapshot: &mut Snapshot) {
        if self.identities.is_empty() {
            return;
        }
        std::mem::swap(&mut self.picture.s, snapshot);
        self.picture.index();
        match &self.bound {
            None => self.begin(),
            Some(bound) => {
                let mut out = Vec::new();
                bound.judge(&self.picture, &mut out);
                self.found.pictures += 1;
                out.into_iter().for_each(|excess| self.note(excess, None));
            }
        }
        std::mem::swap(&mut self.picture.s, snapshot);
    }

    fn begin(&mut self) {
        let processes = &self.picture.s.processes;
        let confined = |identity: &u64| self.identities.contains(identity);
        let others = processes.iter().filter(|process| !confined(&process.identity));
        let idle: Vec<u64> = others.map(|process| process.at).collect();
        if processes.len() - idle.len() != self.identities.len() {
            let what = "a process that is to be confined is not in the snapshot".to_owned();
            self.note(Excess { rule: "bound", what }, None);
        }
        self.bound = Some(Bound::of(&self.picture, &idle));
    }

    fn note(&mut self, excess: Excess, done: Option<u64>) {
        let Excess { rule, what } = excess;
        let text = format!("{rule}: {what}");
        if self.known.contains(&text) {
            return;
        }
        self.found.exceeded += 1;
        if self.found.told.len() < TOLD_AT_MOST {
            let picture = self.found.pictures;
            let when = done.map_or(format!("in snapshot {picture} behind the start"), |done| {
                format!("after {done} operations")
            });
            self.found.told.push(format!("{text}, {when}"));
        }
        self.known.insert(text);
    }

    /// Returns the result of the comparison.
    pub fn end(self) -> Confined {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process with a Notification, in which it may raise bits; another one, which nobody has.
    const START: &str = "\
:kernel cpus
kernel 1
:process at identity cnode
process 1000 7 2000
process 1100 17 2100
:cnode at identity process
cnode 2000 8 1000
cnode 2100 18 1100
:notification at identity
notification 3000 9
notification 3100 a
:slot at table number kind object rights
slot 2020 2000 1 KIND 3000 40
slot 2120 2100 1 KIND 3100 40
:end
";

    fn start() -> Watch {
        let mut watch = Watch::default();
        watch.hear("confined 7");
        watch.look(&mut snapshot(START));
        watch
    }

    fn snapshot(text: &str) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let kind = format!("{:x}", abi::ObjType::Notification as u8);
        snapshot.read(&text.replace("KIND", &kind)).expect("a snapshot");
        snapshot
    }

    #[test]
    fn what_the_start_lets_it_hold_is_no_excess() {
        let mut watch = start();
        watch.look(&mut snapshot(START));
        watch.hear("holds 0 9 0 64 5");
        assert_eq!(watch.end(), Confined { pictures: 1, holdings: 1, ..Confined::default() });
    }

    #[test]
    fn more_rights_and_what_is_anothers_are() {
        let mut watch = start();
        watch.hear("holds 0 9 0 192 5");
        watch.hear("holds 0 10 0 64 6");
        watch.hear("holds 0 10 0 64 7");
        watch.look(&mut snapshot(&START.replace("1 KIND 3000 40", "1 KIND 3000 c0")));
        let found = watch.end();
        assert_eq!((found.exceeded, found.told.len()), (3, 3), "each once: {:?}", found.told);
        assert!(found.told[1].ends_with("object 10 with label 0 and rights 0x40, after 6 operations"));
        assert!(found.told[2].ends_with("in snapshot 1 behind the start"));
    }

    #[test]
    fn who_is_to_be_confined_must_be_there() {
        let mut watch = Watch::default();
        watch.hear("confined 7 99");
        watch.look(&mut snapshot(START));
        assert_eq!(watch.end().exceeded, 1);
    }

    #[test]
    fn nobody_is_watched_unless_the_guest_says_so() {
        let mut watch = Watch::default();
        watch.look(&mut snapshot(START));
        watch.hear("holds 0 9 0 64 5");
        assert_eq!(watch.end(), Confined::default());
    }
}
