//! The plan of a campaign, which all of its shards share: what is run, and which shard runs which
//! seed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::artifacts::Artifacts;
use crate::campaign::log::Gdb;
use crate::diff;
use crate::files;
use crate::host;
use crate::lab::Lab;
use crate::machine::Mode;
use crate::stress::{self, Idle};
use crate::trouble::Trouble;

/// Version of the directory's layout.
const SCHEMA: u32 = 1;
const FILE: &str = "campaign.json";

/// What is done with each seed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Kind {
    /// A stress run.
    Stress { mode: Mode, cpus: u32, messages: u64, idle: Option<Idle>, replay: bool, variant: Option<String> },
    /// What else takes a seed: a game of the differential test, and the kernel's random system
    /// calls.
    Test { cpus: u32, steps: u32 },
}

/// What is known of when a seed failed.
#[derive(Clone, Copy, Default, Debug)]
pub struct Place {
    /// When the guest complained first, by its TSC.
    pub complained_at: Option<u64>,
    /// How many events there were.
    pub events: Option<u64>,
}

impl Place {
    /// Returns the option with which gdb stops at this place, and the option's description.
    fn stop(self) -> (String, &'static str) {
        match (self.complained_at, self.events) {
            (Some(time), _) => (format!(" --stop-time {time}"), "stopped where the guest complained first"),
            (None, Some(events)) => (format!(" --stop-at {events}"), "stopped at its last event"),
            (None, None) => (String::new(), "stopped before its first instruction"),
        }
    }
}

/// All seeds, and what is done with each.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub kind: Kind,
    pub first: u32,
    pub seeds: u32,
    /// Seconds that one boot may take, if not as many as usual.
    pub timeout: Option<u64>,
}

impl Plan {
    /// Makes a plan, and checks that its seeds exist.
    pub fn new(kind: Kind, first: u32, seeds: u32, timeout: Option<u64>) -> Result<Plan> {
        if seeds == 0 {
            return Err(Trouble::Usage("a campaign of no seeds: give --seeds".to_owned()).into());
        }
        if first.checked_add(seeds - 1).is_none() {
            let last = u32::MAX;
            let text =
                format!("{seeds} seeds from {first} on go beyond the last, {last}: give a lower --seed");
            return Err(Trouble::Usage(text).into());
        }
        let plan = Plan { kind, first, seeds, timeout };
        plan.stress(seeds).map_or(Ok(()), |wanted| wanted.check())?;
        Ok(plan)
    }

    pub fn all(&self) -> impl Iterator<Item = u32> {
        (0..self.seeds).map(|n| self.first + n)
    }

    /// Returns the one command that repeats what was done with a seed.
    pub fn replay(&self, seed: u32, part: Part) -> String {
        let timeout = self.timeout.map(|seconds| format!(" --timeout {seconds}")).unwrap_or_default();
        let command = match (&self.kind, part) {
            (Kind::Stress { .. }, _) => self.stress(1).map(|wanted| stress::command(&wanted, seed)),
            (Kind::Test { steps, .. }, Part::Game) => {
                Some(format!("./justw diff --seed {seed} --seeds 1 --steps {steps}"))
            }
            (Kind::Test { cpus, .. }, Part::Whole) => {
                Some(format!("./justw run --mode icount --cpus {cpus} {}", kernel_test(seed)))
            }
        };
        command.unwrap_or_default() + &timeout
    }

    /// Returns how gdb reaches the failure of a seed.
    pub fn gdb(&self, seed: u32, part: Part, place: Place) -> Gdb {
        let timeout = self.timeout.map(|seconds| format!(" --timeout {seconds}")).unwrap_or_default();
        let from_start = |mode: Mode, cpus: u32, variant: &str, line: &str| {
            let variant = if variant.is_empty() { String::new() } else { format!(" --variant '{variant}'") };
            Gdb {
                command: format!("./justw gdb --mode {mode} --cpus {cpus}{variant}{timeout} {line}"),
                stops: "stopped before its first instruction".to_owned(),
                bisect: None,
            }
        };
        match (&self.kind, part, self.stress(1)) {
            (Kind::Stress { mode: Mode::Icount, .. }, _, Some(wanted)) => {
                let (stop, stops) = place.stop();
                let command = stress::gdb_command(&wanted, seed, "--stress") + &stop + &timeout;
                let bisect = stress::gdb_command(&wanted, seed, "--bisect") + &timeout;
                Gdb { command, stops: stops.to_owned(), bisect: Some(bisect) }
            }
            (_, _, Some(wanted)) => {
                let job = stress::job(&wanted, seed);
                from_start(job.mode, job.cpus, &job.variant, &job.command_line)
            }
            (Kind::Test { steps, .. }, Part::Game, _) => {
                let job = diff::job(diff::WITH, seed, *steps);
                from_start(job.mode, job.cpus, &job.variant, &job.command_line)
            }
            (Kind::Test { cpus, .. } | Kind::Stress { cpus, .. }, ..) => {
                from_start(Mode::Icount, *cpus, "", &kernel_test(seed))
            }
        }
    }

    /// Returns the `stress` run that the plan needs, if the plan is about that.
    pub fn stress(&self, seeds: u32) -> Option<stress::Wanted> {
        let Kind::Stress { mode, cpus, messages, idle, replay, variant } = &self.kind else { return None };
        Some(stress::Wanted {
            seed: Some(self.first),
            seeds,
            cpus: *cpus,
            messages: *messages,
            mode: *mode,
            replay: *replay,
            idle: *idle,
            variant: variant.clone(),
            stop: stress::Stop::default(),
        })
    }

    /// Returns the builds of the kernel that the plan needs.
    pub fn variants(&self) -> Vec<String> {
        match self.stress(1) {
            Some(wanted) => vec![wanted.variant().to_owned()],
            None => ["", "dump", "nofast-dump"].map(str::to_owned).to_vec(),
        }
    }
}

/// Returns the kernel's command line for its tests that take a seed.
pub fn kernel_test(seed: u32) -> String {
    format!("run=test only=random_system_calls seed={seed}")
}

/// Which part of a seed something is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of it, or the part that is a boot of its own.
    Whole,
    /// The game of the differential test.
    Game,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Stress { mode, cpus, messages, idle, replay, variant } => {
                write!(f, "stress --mode {mode} --cpus {cpus} --messages {messages}")?;
                if let Some(idle) = idle {
                    write!(f, " --idle {idle}")?;
                }
                if let Some(variant) = variant {
                    write!(f, " --variant '{variant}'")?;
                }
                if *replay { f.write_str(" --replay") } else { Ok(()) }
            }
            Kind::Test { cpus, steps } => write!(f, "test --cpus {cpus} --steps {steps}"),
        }
    }
}

/// As the options that ask for it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} --seed {} --seeds {}", self.kind, self.first, self.seeds)?;
        self.timeout.map_or(Ok(()), |seconds| write!(f, " --timeout {seconds}"))
    }
}

/// Part `index` of `count`, from 1: every `count`th seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

    /// Returns the seeds of the shard. Neighbouring seeds go to different shards, because long ones
    /// often come in a row.
    pub fn seeds(self, plan: &Plan) -> impl Iterator<Item = u32> {
        plan.all().skip(self.index as usize - 1).step_by(self.count as usize)
    }

    pub fn file_name(self) -> String {
        format!("shard-{}-of-{}.jsonl", self.index, self.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err("a shard is i/n with i from 1 to n, as 2/8".to_owned()),
        }
    }
}

/// What the seeds were run on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Build {
    /// SHA-256 of each kernel, by name, and of the boot archive.
    pub files: BTreeMap<String, String>,
    pub commit: String,
    pub rustc: String,
    pub qemu: String,
}

impl Build {
    pub fn look(lab: &Lab, plan: &Plan) -> Result<Build> {
        let mut files = BTreeMap::new();
        let mut add = |path: &Path| -> Result<()> {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            files.insert(name.unwrap_or_default(), hex(&Sha256::digest(bytes)));
            Ok(())
        };
        for variant in plan.variants() {
            add(&kernel(&lab.artifacts, &variant)?)?;
        }
        add(&lab.artifacts.archive()?)?;
        let (commit, rustc, qemu) = (host::commit(), host::rustc_version(), lab.qemu.version.clone());
        Ok(Build { files, commit, rustc, qemu })
    }

    /// Returns a short hash, long enough to tell builds apart.
    pub fn short(&self) -> String {
        let mut hash = Sha256::new();
        for (name, digest) in &self.files {
            hash.update(name);
            hash.update(digest);
        }
        hex(&hash.finalize())[..12].to_owned()
    }
}

fn kernel(artifacts: &Artifacts, variant: &str) -> Result<std::path::PathBuf> {
    let found = artifacts.kernel(variant);
    match variant.strip_prefix("planted-") {
        Some(bug) => {
            found.with_context(|| format!("`./justw campaign stress --variant planted-{bug} …` builds it"))
        }
        None => found,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `campaign.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charter {
    schema: u32,
    pub plan: Plan,
    /// One, unless directories were merged.
    pub builds: Vec<Build>,
}

impl Charter {
    pub fn new(plan: Plan, builds: Vec<Build>) -> Charter {
        Charter { schema: SCHEMA, plan, builds }
    }

    /// Returns whether a directory has a charter.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FILE).is_file()
    }

    pub fn read(dir: &Path) -> Result<Charter> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} is no campaign's directory: reading {FILE}", dir.display()))?;
        let charter: Charter =
            serde_json::from_str(&text).with_context(|| format!("{} is not understood", path.display()))?;
        ensure!(charter.schema == SCHEMA, "{} has another layout: {}", path.display(), charter.schema);
        Ok(charter)
    }

    /// Writes the charter into a directory, or checks that the directory has this charter: shards
    /// may begin at the same time.
    pub fn settle(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        let draft = dir.join(format!("{FILE}.{}", std::process::id()));
        files::write(&draft, serde_json::to_string_pretty(self)? + "\n")?;
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).with_context(|| format!("removing {}", draft.display()))?;
        match linked {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("making {}", path.display())),
        }
        let there = Charter::read(dir)?;
        if there.plan != self.plan {
            bail!(
                "{} has another campaign:\n  there: {}\n  here:  {}\ngo on with its options, or give another --out",
                dir.display(),
                there.plan,
                self.plan
            );
        }
        if there.builds != self.builds {
            bail!(
                "{} was begun on another build (kernel, programs, commit, compiler or QEMU differ from those in \
                 {FILE}): check that out again, or give another --out",
                dir.display()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stress(variant: Option<&str>) -> Kind {
        let variant = variant.map(str::to_owned);
        Kind::Stress { mode: Mode::Icount, cpus: 4, messages: 1000, idle: None, replay: false, variant }
    }

    fn plan(first: u32, seeds: u32) -> Plan {
        Plan::new(stress(None), first, seeds, None).expect("a plan")
    }

    #[test]
    fn shards_share_all_seeds_out_and_no_seed_twice() {
        for count in 1..=9 {
            let mut all: Vec<u32> = (1..=count)
                .flat_map(|index| Shard { index, count }.seeds(&plan(10, 7)).collect::<Vec<_>>())
                .collect();
            all.sort_unstable();
            assert_eq!(all, (10..17).collect::<Vec<_>>(), "{count} shards");
        }
    }

    #[test]
    fn shards_are_written_as_they_are_read() {
        let shard: Shard = "3/8".parse().expect("a shard");
        assert_eq!((shard.to_string().as_str(), shard.file_name().as_str()), ("3/8", "shard-3-of-8.jsonl"));
        for wrong in ["0/8", "9/8", "1/0", "1", "a/b", "1/2/3", "-1/2", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn seeds_do_not_wrap_around() {
        assert!(Plan::new(stress(None), u32::MAX, 1, None).is_ok());
        assert!(Plan::new(stress(None), u32::MAX, 2, None).is_err());
        assert!(Plan::new(stress(None), 1, 0, None).is_err());

        assert_eq!(plan(u32::MAX, 1).all().collect::<Vec<_>>(), [u32::MAX]);
    }

    #[test]
    fn what_does_not_replay_is_not_replayed() {
        let kind =
            |mode| Kind::Stress { mode, cpus: 4, messages: 1000, idle: None, replay: true, variant: None };
        assert!(Plan::new(kind(Mode::Icount), 1, 1, None).is_ok());
        assert!(Plan::new(kind(Mode::Tcg), 1, 1, None).is_err());
    }

    #[test]
    fn the_command_that_replays_builds_what_it_needs() {
        let replay = |kind: Kind, part| Plan::new(kind, 1, 9, None).expect("a plan").replay(7, part);
        assert_eq!(
            replay(stress(None), Part::Whole),
            "./justw stress --mode icount --seed 7 --cpus 4 --messages 1000"
        );
        assert_eq!(
            replay(stress(Some("planted-lost-wake")), Part::Whole),
            "./justw planted lost-wake --mode icount --seed 7 --cpus 4 --messages 1000"
        );
        assert_eq!(
            replay(stress(Some("chaos")), Part::Whole),
            "./justw stress --mode icount --seed 7 --cpus 4 --messages 1000 --variant 'chaos'"
        );
        let test = Kind::Test { cpus: 2, steps: 500 };
        assert_eq!(replay(test.clone(), Part::Game), "./justw diff --seed 7 --seeds 1 --steps 500");
        assert_eq!(
            replay(test, Part::Whole),
            "./justw run --mode icount --cpus 2 run=test only=random_system_calls seed=7"
        );
    }

    #[test]
    fn gdb_stops_where_the_failure_is_known_to_be() {
        let gdb = |kind: Kind, part, complained_at, events| {
            let plan = Plan::new(kind, 1, 9, None).expect("a plan");
            plan.gdb(7, part, Place { complained_at, events })
        };
        let lost = gdb(stress(Some("planted-lost-wake")), Part::Whole, Some(812), Some(9000));
        let run = "--seed 7 --cpus 4 --messages 1000 --variant 'planted-lost-wake'";
        assert_eq!(lost.command, format!("./justw gdb --stress {run} --stop-time 812"));
        assert_eq!(lost.bisect, Some(format!("./justw gdb --bisect {run}")));
        let silent = gdb(stress(None), Part::Whole, None, Some(9000));
        assert_eq!(silent.command, "./justw gdb --stress --seed 7 --cpus 4 --messages 1000 --stop-at 9000");
        let dead = gdb(stress(None), Part::Whole, None, None);
        assert_eq!(dead.command, "./justw gdb --stress --seed 7 --cpus 4 --messages 1000");
        assert_eq!(dead.stops, "stopped before its first instruction");
    }

    #[test]
    fn what_has_no_events_is_debugged_from_its_start() {
        let kind =
            |mode| Kind::Stress { mode, cpus: 2, messages: 5, idle: None, replay: false, variant: None };
        let gdb =
            |kind, part| Plan::new(kind, 1, 9, Some(60)).expect("a plan").gdb(7, part, Place::default());
        let tcg = gdb(kind(Mode::Tcg), Part::Whole);
        assert_eq!(
            tcg.command,
            "./justw gdb --mode tcg --cpus 2 --variant 'dump' --timeout 60 run=stress seed=7 messages=5 idle=halt"
        );
        assert_eq!(tcg.bisect, None);
        let test = Kind::Test { cpus: 2, steps: 500 };
        assert_eq!(
            gdb(test.clone(), Part::Game).command,
            "./justw gdb --mode icount --cpus 1 --variant 'dump' --timeout 60 run=diff seed=7 steps=500"
        );
        assert_eq!(
            gdb(test, Part::Whole).command,
            "./justw gdb --mode icount --cpus 2 --timeout 60 run=test only=random_system_calls seed=7"
        );
    }

    #[test]
    fn a_time_limit_is_part_of_the_command() {
        let plan = Plan::new(stress(None), 1, 9, Some(60)).expect("a plan");
        assert!(plan.replay(7, Part::Whole).ends_with("--messages 1000 --timeout 60"));
    }

    #[test]
    fn plans_are_kept_as_they_are() {
        for kind in [stress(Some("x")), Kind::Test { cpus: 1, steps: 2 }] {
            let charter = Charter::new(Plan::new(kind, 3, 4, Some(5)).expect("a plan"), Vec::new());
            let text = serde_json::to_string(&charter).expect("serialises");
            assert_eq!(serde_json::from_str::<Charter>(&text).expect("parses"), charter);
        }
    }

    #[test]
    fn a_directory_takes_one_campaign() {
        let dir = crate::campaign::scratch("charter");
        let first = Charter::new(plan(1, 5), Vec::new());
        first.settle(&dir).expect("empty directory");
        first.settle(&dir).expect("the same again");
        let other = Charter::new(plan(1, 6), Vec::new()).settle(&dir).expect_err("another plan");
        assert!(other.to_string().contains("give another --out"), "{other}");
        let build = Build { files: BTreeMap::new(), commit: "x".into(), rustc: "y".into(), qemu: "z".into() };
        let other = Charter::new(plan(1, 5), vec![build]).settle(&dir).expect_err("another build");
        assert!(other.to_string().contains("another build"), "{other}");
        assert_eq!(fs::read_dir(&dir).expect("readable").count(), 1, "no draft is left");
    }
}
