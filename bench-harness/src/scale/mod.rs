//! How costs grow with the number of CPUs: boots the `scale` program on each number, under icount
//! with the TCG plugin, and makes a table, a file, a picture and a text of the counts of plugin and
//! kernel.
//!
//! Under icount CPUs take turns on one clock, so no figure here is a speed. The figures are the
//! *work* of one operation, summed over all CPUs, and the cache lines that it shares with other
//! CPUs. If the work grows with the number of CPUs, it grows on a real machine, too. If it does not
//! grow, the cache lines that change hands limit a real machine.

mod data;
mod markdown;
mod plot;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use console::style;
use serde::{Deserialize, Serialize};

use crate::cli::cpus;
use crate::counted::Counted;
use crate::figures;
use crate::files;
use crate::host::Host;
use crate::lab::{Job, Lab};
use crate::machine::{GUEST_CPU, Mode};
use crate::report::Report;
use crate::session::Session;
use crate::stress::Idle;
use crate::trouble::Trouble;

pub use data::{Results, Verdict};

/// What makes the figures in the book.
pub const RECIPE: &str = "./justw scale --update";
/// The committed figures.
const COMMITTED: &str = "perf/scale.json";
const LIMIT: Duration = Duration::from_secs(900);

/// Loads of the program, with the plugin's region of each.
const LOADS: [(&str, u8); 5] = [
    ("pairs_local", 4),
    ("server_per_cpu", 5),
    ("pairs_crossing", 6),
    ("server_for_all", 7),
    ("notify_storm", 8),
];

/// What to run and where the results go.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Numbers of CPUs to count on
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,6,8,12,16,24,32", value_name = "N,…",
        value_parser = cpus())]
    pub cpus: Vec<u32>,
    /// Operations of each client
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(2..))]
    pub operations: u32,
    /// How idle CPUs wait
    #[arg(long, default_value = "halt")]
    pub idle: Idle,
    /// Directory for scale.json and scale.svg
    #[arg(long, default_value = "target/scale", value_name = "DIR")]
    pub output: PathBuf,
    /// Compare the figures with perf/scale.json; fail if one has moved
    #[arg(long)]
    pub check: bool,
    /// Write the figures into perf/scale.json
    #[arg(long, conflicts_with = "check")]
    pub update: bool,
}

/// One load on one number of CPUs, per operation.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Point {
    pub load: String,
    pub cpus: u32,
    pub clients: u32,
    pub operations: u64,
    pub instructions: f64,
    pub lines: f64,
    /// What the kernel counted, by the name of its counter.
    pub counted: BTreeMap<String, f64>,
}

impl Point {
    pub fn counter(&self, name: &str) -> f64 {
        self.counted.get(name).copied().unwrap_or(0.0)
    }

    pub fn interrupts(&self) -> f64 {
        self.counter("interrupt")
    }
}

/// The points of one load, by number of CPUs.
#[derive(Clone, Debug)]
pub struct Series {
    pub load: String,
    pub points: Vec<Point>,
    /// What the figures say.
    pub words: String,
}

/// Runs the loads, prints the figures, and writes `scale.json` and `scale.svg`.
pub fn command(lab: &Lab, wanted: &Wanted) -> Result<()> {
    std::fs::create_dir_all(&wanted.output).with_context(|| format!("making {}", wanted.output.display()))?;
    // Read first: a file that is not there should not be noticed after the run.
    let committed = wanted.check.then(|| Results::read(Path::new(COMMITTED))).transpose()?;
    let results = measure(lab, wanted)?;
    print!("{}", render(&results));
    results.write(&wanted.output.join("scale.json"))?;
    let drawn = wanted.output.join("scale.svg");
    files::write(&drawn, picture(&results)?)?;
    lab.screen.say(&format!("{}: scale.json, scale.svg", wanted.output.display()));
    if wanted.update {
        results.write(Path::new(COMMITTED))?;
        lab.screen.say(&format!("{COMMITTED}: written; `{}` puts it into the book", figures::RECIPE));
    }
    committed.map_or(Ok(()), |committed| check(lab, &results, &committed))
}

fn measure(lab: &Lab, wanted: &Wanted) -> Result<Results> {
    let mut points = Vec::new();
    for &cpus in &wanted.cpus {
        let session = boot(lab, wanted, cpus)?;
        points.extend(points_of(&session.reports, &Counted::read(&counted_file(lab, cpus))?, cpus)?);
    }
    Ok(Results::new(&Host::look(&lab.qemu.version, GUEST_CPU), wanted, points))
}

/// Measures these numbers of CPUs once more, and compares with the committed figures.
pub fn held(lab: &Lab, cpus: &[u32]) -> Result<Verdict> {
    let committed = Results::read(Path::new(COMMITTED))?;
    let wanted = Wanted {
        cpus: cpus.to_vec(),
        operations: committed.operations,
        idle: committed.idle,
        output: PathBuf::new(),
        check: true,
        update: false,
    };
    Ok(measure(lab, &wanted)?.compare(&committed))
}

/// Compares results with the committed ones, and reports the figures that moved.
fn check(lab: &Lab, results: &Results, committed: &Results) -> Result<()> {
    match results.compare(committed) {
        Verdict::Held(points) => lab.screen.say(&format!("check: {points} points as committed")),
        Verdict::Skipped(why) => lab.screen.say(&format!("check: skipped, {why}")),
        Verdict::Moved(lines) => {
            lines.iter().for_each(|line| lab.screen.say(&format!("check: {line}")));
            let text = format!("{} figures are not as committed in {COMMITTED}", lines.len());
            return Err(Trouble::CheckFailed(text).into());
        }
    }
    Ok(())
}

/// Makes the book's table.
pub fn page(results: &Results) -> String {
    let table = markdown::render(&series(&results.points));
    format!("{}; {}.\n\n{table}", results.conditions(), results.key)
}

/// Makes the book's picture.
pub fn picture(results: &Results) -> Result<String> {
    plot::svg(&series(&results.points))
}

fn counted_file(lab: &Lab, cpus: u32) -> PathBuf {
    lab.artifacts.boot_dir().join(format!("counted-scale-{cpus}.json"))
}

fn boot(lab: &Lab, wanted: &Wanted, cpus: u32) -> Result<Session> {
    let job = Job {
        label: format!("scale-{cpus}"),
        variant: String::new(),
        command_line: format!("run=scale n={} idle={}", wanted.operations, wanted.idle),
        mode: Mode::Icount,
        cpus,
        counted: Some(counted_file(lab, cpus)),
        limit: LIMIT,
    };
    let session = lab.run(&job)?;
    session.check_passed()?;
    Ok(session)
}

fn points_of(reports: &[Report], plugin: &Counted, cpus: u32) -> Result<Vec<Point>> {
    let said: Vec<_> =
        reports.iter().filter_map(|r| if let Report::Scale(f) = r { Some(f) } else { None }).collect();
    let mut points = Vec::new();
    for (load, region) in LOADS {
        let missing = |what: &str| Trouble::GuestDied(format!("scale on {cpus} CPUs: no {what} for {load}"));
        let fields = said
            .iter()
            .find(|f| f.get("name").is_some_and(|n| n == load))
            .ok_or_else(|| missing("result"))?;
        let region =
            plugin.regions.iter().find(|r| r.id == region && r.ops > 1).ok_or_else(|| missing("region"))?;
        let number = |key: &str| fields.get(key).and_then(|value| value.parse::<u64>().ok());
        let operations =
            number("ops").filter(|ops| *ops > 0).ok_or_else(|| missing("number of operations"))?;
        let clients = number("clients").ok_or_else(|| missing("number of clients"))?;
        let mut counted = BTreeMap::new();
        for report in reports {
            if let Report::Counter(counter) = report
                && counter.row.as_deref() == Some(load)
            {
                *counted.entry(counter.name.clone()).or_insert(0.0) +=
                    counter.value as f64 / operations as f64;
            }
        }
        counted.retain(|_, count| {
            *count = rounded(*count);
            *count > 0.0
        });
        points.push(Point {
            load: load.to_owned(),
            cpus,
            clients: clients as u32,
            operations,
            instructions: rounded(region.span.instructions as f64 / (region.ops - 1) as f64),
            lines: rounded(region.span.lines as f64 / (region.ops - 1) as f64),
            counted,
        });
    }
    Ok(points)
}

/// Rounds to a thousandth, so that the file reads well.
fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

fn series(points: &[Point]) -> Vec<Series> {
    LOADS
        .iter()
        .map(|(load, _)| {
            let points: Vec<Point> = points.iter().filter(|point| point.load == *load).cloned().collect();
            Series { load: (*load).to_owned(), words: words::describe(&points), points }
        })
        .collect()
}

fn render(results: &Results) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", results.conditions());
    for Series { load, points, words } in &series(&results.points) {
        let heading = format!(
            "\n{load:<16} {:>5} {:>8} {:>14} {:>12} {:>8} {:>8} {:>12}",
            "CPUs", "clients", "instructions", "interrupts", "IPIs", "idle", "lines moved"
        );
        let _ = writeln!(text, "{}", style(heading).bold());
        for point in points {
            let _ = writeln!(
                text,
                "{:<16} {:>5} {:>8} {:>14.1} {:>12.3} {:>8.3} {:>8.3} {:>12.3}",
                "",
                point.cpus,
                point.clients,
                point.instructions,
                point.interrupts(),
                point.counter("ipi_sent"),
                point.counter("idle"),
                point.lines
            );
        }
        let _ = writeln!(text, "  {words}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(ops: u64) -> Vec<Report> {
        let mut lines: Vec<String> =
            LOADS.iter().map(|(load, _)| format!("scale name={load} cpus=2 clients=2 ops={ops}")).collect();
        lines.push("counter cpu=0 row=pairs_crossing name=interrupt value=500".to_owned());
        lines.push("counter cpu=1 row=pairs_crossing name=interrupt value=500".to_owned());
        lines.push("counter cpu=0 name=interrupt value=7777".to_owned());
        lines.iter().map(|line| Report::parse(line)).collect()
    }

    fn counted_regions() -> Counted {
        let regions: Vec<String> = LOADS
            .iter()
            .map(|(_, id)| {
                format!(r#"{{"id":{id},"ops":1000,"instructions":[1],"span":{{"instructions":151848,"lines":1998}},
                    "sample":{{"n":999,"min":1,"p50":1,"p99":1,"max":1}},"lines":7}}"#)
            })
            .collect();
        serde_json::from_str(&format!(r#"{{"regions":[{}]}}"#, regions.join(","))).expect("it parses")
    }

    #[test]
    fn a_boot_gives_a_point_for_each_load() {
        let points = points_of(&reports(1000), &counted_regions(), 2).expect("all is there");
        assert_eq!(points.len(), LOADS.len());
        let crossing = points.iter().find(|point| point.load == "pairs_crossing").expect("it is there");
        assert_eq!((crossing.instructions, crossing.lines, crossing.interrupts()), (152.0, 2.0, 1.0));
        assert_eq!(points[0].interrupts(), 0.0, "counters since boot belong to no load");
    }

    #[test]
    fn what_is_missing_is_said() {
        let error =
            points_of(&reports(1000)[1..], &counted_regions(), 2).expect_err("a load is missing").to_string();
        assert!(error.contains("no result for pairs_local"), "{error}");
        let error = points_of(&reports(0), &counted_regions(), 2).expect_err("nothing was done").to_string();
        assert!(error.contains("number of operations"), "{error}");
    }
}
