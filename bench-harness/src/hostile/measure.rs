//! What one boot of an attack came to: from the plugin's counts and the guest's report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::Report;
use crate::stretches::{Stretches, Watched, Window};

/// Where the attackers run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// On all CPUs but the victims'.
    Other,
    /// On the victims' CPU.
    Own,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Other => "other",
            Place::Own => "own",
        }
    }
}

/// The victims, in the order of their numbers in the guest.
const VICTIMS: [&str; 7] = ["loop", "call", "grant", "copy", "map", "page", "lock"];
/// Regions: see `perf::mark`.
const QUIET: u8 = 0x80;
const LOUD: u8 = 0x90;
const LOUD_WAKES: u8 = 0x9f;
/// Victims are all on the first CPU.
const VICTIM_CPU: usize = 0;
/// Instructions of its CPU after which a victim without progress is stuck.
const STUCK_AFTER: u64 = 50_000_000;

/// An attack from one place.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Measured {
    pub attack: String,
    pub place: Place,
    /// Rounds that the attackers made.
    pub alive: u64,
    /// What they got that should have been refused.
    pub escapes: u64,
    pub victims: Vec<Victim>,
    /// The largest part of the victims' CPU that interrupts took while one of the victims worked,
    /// in percent of its time, by the kernel's own account.
    pub interrupts: f64,
    /// Wakes of the task of priority 200, and the most that its CPU executed from its time on.
    /// Under icount the guest counts that in ticks, each of which is an instruction. The plugin
    /// counts an instruction twice if QEMU begins it again, as it does with writes to a device.
    pub wakes: u64,
    pub late: u64,
    /// The longest stretches with interrupts off, by operation.
    pub stretches: Vec<Stretches>,
}

/// What an attack cost a victim.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Victim {
    pub name: &'static str,
    /// Percent of its CPU's instructions that were not for its work, of those that the CPU executed
    /// while a program could run.
    pub stolen: f64,
    /// What its CPU executed for one operation, undisturbed and beside the attack.
    pub undisturbed: PerOp,
    pub attacked: PerOp,
    /// The most instructions of its CPU between two of its operations.
    pub longest_gap: u64,
    pub is_stuck: bool,
}

/// What a CPU executed for each operation of a victim.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct PerOp {
    pub instructions: f64,
    /// Those while no program could run, and those in wait loops of locks.
    pub idle: f64,
    pub spun: f64,
}

impl PerOp {
    fn of(window: &Window) -> PerOp {
        let per_op = |sum: u64| sum as f64 / window.ops.max(1) as f64;
        PerOp {
            instructions: per_op(window.instructions),
            idle: per_op(window.idle),
            spun: per_op(window.spun),
        }
    }
}

impl Measured {
    /// Returns what a boot came to.
    /// Errors: what is missing, in words.
    pub fn of(attack: &str, place: Place, reports: &[Report], watched: &Watched) -> Result<Measured, String> {
        let said = reports.iter().rev().find_map(said).ok_or("the guest ended without a result")?;
        let number = |key: &str| said.get(key).and_then(|value| value.parse::<u64>().ok());
        let cpu = watched.cpus.get(VICTIM_CPU).ok_or("the plugin saw no CPU")?;
        let window = |id: u8| cpu.windows.iter().find(|window| window.id == id).copied();
        let mut victims = Vec::new();
        for (number, name) in (0..).zip(VICTIMS) {
            let quiet = window(QUIET + number).filter(|window| window.ops > 1);
            let quiet = quiet.ok_or_else(|| format!("the victim {name} did nothing while it was quiet"))?;
            victims.push(Victim::of(name, quiet, window(LOUD + number).unwrap_or_default()));
        }
        let wakes = window(LOUD_WAKES).unwrap_or_default();
        Ok(Measured {
            attack: attack.to_owned(),
            place,
            alive: number("alive").ok_or("the guest does not say whether the attackers are alive")?,
            escapes: number("escapes").ok_or("the guest counts no escapes")?,
            victims,
            interrupts: number("interrupts").ok_or("the guest does not say what interrupts took")? as f64
                / 100.0,
            wakes: wakes.wakes,
            late: match place {
                Place::Own => number("late").ok_or("the guest does not say how late a task woke")?,
                Place::Other => wakes.late_max,
            },
            stretches: watched.stretches(),
        })
    }

    /// Returns the victim from which most was stolen.
    pub fn worst(&self) -> Option<&Victim> {
        self.victims.iter().max_by(|a, b| a.stolen.total_cmp(&b.stolen))
    }

    pub fn stuck(&self) -> usize {
        self.victims.iter().filter(|victim| victim.is_stuck).count() + usize::from(self.wakes == 0)
    }

    /// Returns the longest stretch, whatever the operation.
    pub fn longest(&self) -> Option<&Stretches> {
        self.stretches.iter().max_by_key(|row| row.longest)
    }

    /// Returns the longest stretch with the wait loops of locks in it.
    pub fn longest_with_spinning(&self) -> u64 {
        self.stretches.iter().map(|row| row.longest_with_spinning).max().unwrap_or(0)
    }
}

fn said(report: &Report) -> Option<&BTreeMap<String, String>> {
    match report {
        Report::Hostile(fields) => Some(fields),
        _ => None,
    }
}

impl Victim {
    /// Compares what the CPU executed for each of the victim's operations, undisturbed and beside
    /// the attack. What the CPU executes while no program can run does not count: nobody misses it.
    /// Nor does the longest of the undisturbed operations: a message of the program's own may have
    /// come in its midst.
    fn of(name: &'static str, quiet: Window, loud: Window) -> Victim {
        let rate = |ops: u64, instructions: u64| ops as f64 / instructions.max(1) as f64;
        let busy = |window: &Window| window.instructions.saturating_sub(window.idle);
        let usual = rate(quiet.ops - 1, busy(&quiet) - quiet.longest_busy_gap);
        let left = rate(loud.ops, busy(&loud)) / usual;
        Victim {
            name,
            stolen: (100.0 * (1.0 - left)).clamp(0.0, 100.0),
            undisturbed: PerOp::of(&quiet),
            attacked: PerOp::of(&loud),
            longest_gap: loud.longest_gap,
            is_stuck: loud.ops == 0 || loud.longest_gap > STUCK_AFTER,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Makes what a boot came to: the victim `call` lost three quarters, the CPU idled while `copy`
    /// waited, `map` made no progress.
    pub fn example() -> Measured {
        let mut windows = Vec::new();
        for victim in 0..VICTIMS.len() as u8 {
            let (id, loud) = (QUIET + victim, LOUD + victim);
            let (instructions, idle, ops, gap) = match victim {
                1 => (40_000, 0, 100, 9_000),
                3 => (25_000, 15_000, 100, 20_000),
                4 => (70_000, 0, 0, 70_000),
                _ => (10_000, 0, 100, 200),
            };
            let window = |id, instructions, idle, ops, gap| {
                format!(
                    r#"{{"id":{id},"instructions":{instructions},"idle":{idle},"spun":0,"ops":{ops},"longest_gap":{gap},"longest_busy_gap":{gap},"wakes":0,"late_max":0}}"#
                )
            };
            windows.push(window(id, 10_000, 0, 101, 0));
            windows.push(window(loud, instructions, idle, ops, gap));
        }
        windows.push(
            r#"{"id":159,"instructions":0,"idle":0,"spun":0,"ops":0,"longest_gap":0,"longest_busy_gap":0,"wakes":9,"late_max":4321}"#
                .to_owned(),
        );
        let text = format!(
            r#"{{"cpus":[{{"executed":9,"user":1,"spun":0,"windows":[{}]}}],"stretches":[
                {{"kind":"op","number":15,"entries":2,"total":800,"longest":700,"spun":9000,"longest_with_spinning":9700}},
                {{"kind":"vector","number":113,"entries":2,"total":800,"longest":750,"spun":0,"longest_with_spinning":750}}]}}"#,
            windows.join(",")
        );
        let watched: Watched = serde_json::from_str(&text).expect("it parses");
        let reports =
            [Report::parse("hostile name=notify-flood place=other alive=77 escapes=1 interrupts=123")];
        Measured::of("notify-flood", Place::Other, &reports, &watched).expect("all is there")
    }

    #[test]
    fn a_victim_loses_what_its_cpu_executed_besides() {
        let measured = example();
        let stolen: Vec<f64> = measured.victims.iter().map(|victim| victim.stolen).collect();
        assert_eq!(stolen, [0.0, 75.0, 0.0, 0.0, 100.0, 0.0, 0.0]);
        assert_eq!(measured.worst().map(|victim| victim.name), Some("map"));
        assert_eq!((measured.stuck(), measured.alive, measured.escapes), (1, 77, 1));
        assert_eq!((measured.late, measured.longest_with_spinning()), (4321, 9700));
        let longest = measured.longest().expect("there are stretches");
        assert_eq!((longest.operation.as_str(), longest.longest), ("timer interrupt", 750));
    }

    #[test]
    fn a_long_gap_is_no_progress() {
        let window =
            |instructions, longest_gap| Window { instructions, ops: 10, longest_gap, ..Window::default() };
        let victim = |gap| Victim::of("loop", window(1000, 100), window(1000, gap));
        assert!(!victim(STUCK_AFTER).is_stuck && victim(STUCK_AFTER + 1).is_stuck);
        assert_eq!(victim(1).stolen, 0.0);
        assert_eq!(
            Victim::of("loop", window(1000, 1), window(900, 1)).stolen,
            0.0,
            "faster is nothing stolen"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let watched: Watched = serde_json::from_str(r#"{"cpus":[],"stretches":[]}"#).expect("it parses");
        let fails = |lines: &[&str]| {
            let reports: Vec<Report> = lines.iter().map(|line| Report::parse(line)).collect();
            Measured::of("priority", Place::Own, &reports, &watched).expect_err("nothing is there")
        };
        assert!(fails(&["progress loop"]).contains("without a result"));
        assert!(fails(&["hostile name=priority alive=1 escapes=0"]).contains("no CPU"));
    }
}
