//! Fuzz runs: seeds, and the summary line of a run.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::confined::Confined;
use crate::lab::Lab;
use crate::planted;
use crate::probe;
use crate::report::Report;
use crate::seeded::{self, Said};
use crate::session::Session;
use crate::stretches::Collector;
use crate::trouble::Trouble;

/// Counts that must be zero. Panics are the harness's own.
const WRONG: &[&str] = &["divergences", "leaked_pages", "escapes", "leaked_marks", "undocumented"];
const WRONG_IN_STORM: &[&str] = &["stale", "leaked_pages", "escapes"];
const WRONG_IN_KILLS: &[&str] = &["wrong", "stuck", "leaked_pages", "escapes"];
/// What has to be among the killed: on any number of CPUs, and on several.
const KILLED: &[&str] = &["callers", "callees", "queued", "faulting", "sending", "lending", "moved", "woken"];
/// Stages that there are on one CPU, too.
const STAGES_HERE: &[&str] = &["ready", "receiving", "waiting", "queued", "posting", "owed"];
/// The stages that a short storm has, too.
const COMMON_STAGES: &[&str] = &["ready", "receiving", "posting", "owed"];
/// Kills from which on these are asked for, and all.
const ENOUGH_KILLS: u64 = 1_000;
const MANY_KILLS: u64 = 50_000;
/// What more time a kill may take than another operation.
const LIMIT_OF_A_KILL: Duration = Duration::from_millis(40);
/// Operations on contended objects, of a hundred, at least.
const CONTENDED: u64 = 20;
/// Windows from which on calls of speakers have to be answered, so many in each on average.
const ENOUGH_WINDOWS: u64 = 100;
const ANSWERED: u64 = 2;

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    #[command(flatten)]
    pub seeded: seeded::Wanted,
    /// Run a storm of this one operation instead
    #[arg(long)]
    pub storm: Option<Storm>,
}

/// What is done over and over in a storm.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Storm {
    /// Capabilities are revoked while others use them, and the memory is used again immediately
    Revoke,
    /// Tasks and processes are killed in the midst of all that they can be in the midst of
    Kill,
}

/// Returns whether a run of a kernel with a planted bug finds the bug: in histories, or in who
/// holds what.
pub fn sees_a_bug(lab: &Lab, wanted: &Wanted, seed: u32) -> Result<bool> {
    let session = lab.run(&wanted.seeded.job("fuzz", "", seed))?;
    let said = Outcome::of(&session, wanted, seed).said;
    let some = |key: &str| said.get(key).parse().is_ok_and(|count: u64| count > 0);
    Ok(some("divergences") || some("escapes"))
}

/// Runs every seed, printing a line for each, until one fails: of a kernel with a planted bug, one
/// has to.
pub fn run(lab: &Lab, wanted: &Wanted) -> Result<()> {
    probe::check_mode(lab, wanted.seeded.mode)?;
    planted::judge(&wanted.seeded.variant().unwrap_or_default(), fuzz(lab, wanted))
}

/// Runs every seed, printing a line for each.
pub fn fuzz(lab: &Lab, wanted: &Wanted) -> Result<()> {
    if wanted.storm == Some(Storm::Kill) && wanted.seeded.limits == seeded::Limits::Small {
        let why = "a storm of kills maps what its tasks share more often than a kernel with small limits lets it: \
                   leave out `--limits small`, or take `torture` or `stress`";
        return Err(Trouble::Usage(why.to_owned()).into());
    }
    let words = match wanted.storm {
        None => "",
        Some(Storm::Revoke) => "storm=revoke ",
        Some(Storm::Kill) => "storm=kill ",
    };
    let mut collector = Collector::new(wanted.seeded.stretches.as_deref())?;
    for seed in wanted.seeded.seeds() {
        let mut job = wanted.seeded.job("fuzz", words, seed);
        if wanted.storm == Some(Storm::Kill) {
            job.limit += LIMIT_OF_A_KILL * wanted.seeded.ops as u32;
        }
        let session = collector.run(lab, &job)?;
        let outcome = Outcome::of(&session, wanted, seed);
        let verdict = outcome.said.judge(&session, &outcome.wrong());
        let verdict =
            verdict.and_then(|()| seeded::check_judged(&session, wanted.seeded.variant().as_deref()));
        let confined = wanted.storm.is_some() || session.confined.pictures > 0 || session.snapshots == 0;
        let verdict = verdict.and_then(|()| match confined {
            true => Ok(()),
            false => Err(Trouble::CheckFailed(format!(
                "{}: no process was compared with its bound",
                session.label
            ))),
        });
        let verdict = match verdict {
            Err(trouble) if trouble.is_of_the_host() => return Err(trouble.into()),
            verdict => verdict,
        };
        if wanted.storm.is_none() {
            println!("{}", outcome.line_of_messages());
        }
        println!("{}", outcome.line());
        outcome.confined.told.iter().for_each(|excess| println!("  | {excess}"));
        verdict?;
    }
    collector.finish()
}

/// The result of one seed.
#[derive(Debug)]
struct Outcome {
    seed: u32,
    cpus: u32,
    /// The kernel panicked, or one of its invariants did not hold.
    panicked: bool,
    storm: Option<Storm>,
    /// What the rooms came to hold and see beyond what the first snapshot lets them.
    confined: Confined,
    said: Said,
}

impl Outcome {
    fn of(session: &Session, wanted: &Wanted, seed: u32) -> Outcome {
        let said = Said::of(session, |report| match report {
            Report::Fuzz(fields) => Some(fields),
            _ => None,
        });
        let panicked = session.has_broken_kernel();
        Outcome {
            seed,
            cpus: wanted.seeded.cpus,
            storm: wanted.storm,
            panicked,
            confined: session.confined.clone(),
            said,
        }
    }

    /// Returns the counts of a run that are wrong: missing or not zero, or too little contention.
    fn wrong(&self) -> Vec<String> {
        match self.storm {
            Some(Storm::Revoke) => return self.said.not_zero(WRONG_IN_STORM),
            Some(Storm::Kill) => return self.wrong_in_kills(),
            None => {}
        }
        let mut bad = self.said.not_zero(WRONG);
        bad.extend((self.exceeded() != Some(0)).then(|| self.count_exceeded()));
        let busy = self.said.get("contended").parse().is_ok_and(|share: u64| share >= CONTENDED);
        bad.extend((!busy).then(|| self.said.count("contended")));
        let number = |key: &str| self.said.get(key).parse().unwrap_or(0);
        let windows: u64 = number("windows");
        let too_few = windows >= ENOUGH_WINDOWS && number("answered") < windows * ANSWERED;
        bad.extend(too_few.then(|| self.said.counts(&["windows", "answered"])));
        bad
    }

    /// Returns how much the oracle and the guest found, or `None` if the guest did not say.
    fn exceeded(&self) -> Option<u64> {
        let guest: u64 = self.said.get("exceeded").parse().ok()?;
        Some(guest + self.confined.exceeded)
    }

    fn count_exceeded(&self) -> String {
        format!("exceeded={}", self.exceeded().map_or("?".to_owned(), |count| count.to_string()))
    }

    /// Returns what is wrong in a storm of kills: after enough kills, no kind of task and no stage
    /// may be missing among the killed.
    fn wrong_in_kills(&self) -> Vec<String> {
        let said = &self.said;
        let mut bad = said.not_zero(WRONG_IN_KILLS);
        let kills = said.get("kills").parse().unwrap_or(0);
        if kills < ENOUGH_KILLS {
            return bad;
        }
        bad.extend(
            KILLED.iter().filter(|kind| matches!(said.get(kind), "0" | "?")).map(|kind| said.count(kind)),
        );
        let stages = said.get("stages").split(',').filter_map(|stage| stage.split_once(':'));
        let asked_for = |stage: &str| match self.cpus {
            _ if kills < MANY_KILLS => COMMON_STAGES.contains(&stage),
            1 => STAGES_HERE.contains(&stage),
            _ => true,
        };
        let missing = stages.filter(|(stage, count)| *count == "0" && asked_for(stage));
        bad.extend(missing.map(|(stage, _)| format!("stage {stage}=0")));
        bad
    }

    /// Writes the result of the speakers' calls. A run in which few calls were answered has not
    /// tested much.
    fn line_of_messages(&self) -> String {
        format!("messages: {}", self.said.counts(&["windows", "calls", "answered", "ended"]))
    }

    /// Writes the result line.
    fn line(&self) -> String {
        let Outcome { seed, cpus, said, .. } = self;
        let panics = u32::from(self.panicked);
        if self.storm == Some(Storm::Kill) {
            let first =
                said.counts(&["kills", "callers", "callees", "queued", "faulting", "sending", "lending"]);
            let ways = said.counts(&["by_process", "by_reset", "torn", "moved", "stages"]);
            let last = said.counts(&["woken", "answered", "wrong", "stuck"]);
            let memory = said.counts(&["leaked_pages", "escapes"]);
            return format!(
                "kill-storm: seed={seed} cpus={cpus} {first} {ways} {last} panics={panics} {memory}"
            );
        }
        if self.storm.is_some() {
            let first = said.counts(&["rounds", "uses", "refused", "stale"]);
            let last = said.counts(&["leaked_pages", "escapes"]);
            return format!("revoke-storm: seed={seed} cpus={cpus} {first} panics={panics} {last}");
        }
        let first =
            format!("{} {}% {}", said.count("ops"), said.count("contended"), said.count("divergences"));
        let memory = said.counts(&["leaked_pages", "escapes"]);
        let mut last = format!("{memory} {} {}", self.count_exceeded(), said.count("leaked_marks"));
        // Only where there are some: the line is otherwise the documented one.
        if said.get("undocumented") != "0" {
            last = format!("{last} {}", said.count("undocumented"));
        }
        format!("fuzz: seed={seed} cpus={cpus} {first} panics={panics} {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "fuzz seed=7 cpus=4 ops=1003 contended=24 divergences=0 leaked_pages=0 escapes=0 exceeded=0 leaked_marks=0 undocumented=0 windows=300 calls=1500 answered=700 ended=600";

    fn outcome(line: &str) -> Outcome {
        let Report::Fuzz(said) = Report::parse(line) else { panic!("not a fuzz line") };
        Outcome {
            seed: 7,
            cpus: 4,
            panicked: false,
            storm: None,
            confined: Confined::default(),
            said: said.into(),
        }
    }

    #[test]
    fn the_line_is_the_documented_one() {
        let outcome = outcome(GOOD);
        assert_eq!(
            outcome.line(),
            "fuzz: seed=7 cpus=4 ops=1003 contended=24% divergences=0 panics=0 leaked_pages=0 escapes=0 \
             exceeded=0 leaked_marks=0"
        );
        assert!(outcome.wrong().is_empty());
    }

    #[test]
    fn what_is_wrong_or_missing_is_named() {
        let outcome = outcome(&GOOD.replace("divergences=0", "divergences=2").replace("escapes=0 ", ""));
        assert_eq!(outcome.wrong(), ["divergences=2", "escapes=?"]);
    }

    #[test]
    fn a_storm_has_a_line_of_its_own() {
        let said = "storm seed=7 cpus=4 rounds=9 uses=20 refused=3 stale=0 leaked_pages=0 escapes=0";
        let Report::Fuzz(said) = Report::parse(said) else { panic!("not a storm line") };
        let outcome = Outcome {
            seed: 7,
            cpus: 4,
            panicked: false,
            storm: Some(Storm::Revoke),
            confined: Confined::default(),
            said: said.into(),
        };
        assert_eq!(
            outcome.line(),
            "revoke-storm: seed=7 cpus=4 rounds=9 uses=20 refused=3 stale=0 panics=0 leaked_pages=0 escapes=0"
        );
        assert!(outcome.wrong().is_empty());
    }

    #[test]
    fn who_is_missing_among_the_killed_is_named() {
        let said = "storm seed=7 cpus=4 kills=60000 callers=9 callees=8 queued=7 faulting=6 sending=5 lending=4 by_process=3 \
                    by_reset=2 torn=1 moved=11 stages=ready:12,back:3 woken=13 answered=14 wrong=0 stuck=0 \
                    leaked_pages=0 escapes=0";
        let outcome = |said: &str| {
            let Report::Fuzz(said) = Report::parse(said) else { panic!("not a storm line") };
            Outcome {
                seed: 7,
                cpus: 4,
                panicked: false,
                storm: Some(Storm::Kill),
                confined: Confined::default(),
                said: said.into(),
            }
        };
        let line = said.replace("storm ", "kill-storm: ").replace("stuck=0 ", "stuck=0 panics=0 ");
        assert_eq!(outcome(said).line(), line);
        assert!(outcome(said).wrong().is_empty());
        let few = said.replace("back:3", "back:0");
        assert_eq!(outcome(&few).wrong(), ["stage back=0"]);
        assert!(outcome(&few.replace("60000", "6000")).wrong().is_empty());
        assert_eq!(outcome(&said.replace("faulting=6", "faulting=0")).wrong(), ["faulting=0"]);
        assert_eq!(outcome(&said.replace("stuck=0 ", "")).wrong(), ["stuck=?"]);
    }

    #[test]
    fn too_few_answers_are_a_failure() {
        assert_eq!(
            outcome(GOOD).line_of_messages(),
            "messages: windows=300 calls=1500 answered=700 ended=600"
        );
        let few = GOOD.replace("answered=700", "answered=599");
        assert_eq!(outcome(&few).wrong(), ["windows=300 answered=599"]);
        assert_eq!(outcome(&GOOD.replace("answered=700 ", "")).wrong(), ["windows=300 answered=?"]);
        // A short run need not have them.
        assert!(outcome(&few.replace("windows=300", "windows=99")).wrong().is_empty());
    }

    #[test]
    fn too_little_contention_is_a_failure() {
        assert_eq!(outcome(&GOOD.replace("contended=24", "contended=19")).wrong(), ["contended=19"]);
    }
}
