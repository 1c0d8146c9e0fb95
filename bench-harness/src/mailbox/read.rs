//! Reads criterion's results, and combines the medians of all runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What is measured; the bench explains it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    Latency,
    Throughput,
    Wake,
    Alone,
}

/// A queue at one job, in nanoseconds a message (a round trip of one, for latency).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub group: Group,
    /// Producers; messages at a time for [`Group::Alone`].
    pub parameter: u32,
    pub queue: String,
    /// The median of the runs' medians.
    pub median: f64,
    /// The smallest and the largest of them; criterion's confidence interval where there is one
    /// run.
    pub low: f64,
    pub high: f64,
    /// The fastest sample of all runs, which was disturbed least.
    pub best: f64,
    /// The median of each run, where the runs are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<f64>,
}

/// `benchmark.json`.
#[derive(Deserialize, Debug)]
struct Named {
    group_id: Group,
    function_id: String,
    value_str: String,
    throughput: Throughput,
}

#[derive(Deserialize, Debug)]
struct Throughput {
    #[serde(rename = "Elements")]
    elements: f64,
}

/// `sample.json`: nanoseconds and iterations of each sample.
#[derive(Deserialize, Debug)]
struct Samples {
    times: Vec<f64>,
    iters: Vec<f64>,
}

/// `estimates.json`.
#[derive(Deserialize, Debug)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize, Debug)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize, Debug)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Reads the figures of all runs, by group, parameter and median. Each run is a directory that was
/// criterion's home.
pub fn figures(runs: &[PathBuf]) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    for run in runs {
        for one in figures_of(run)? {
            let same =
                |f: &&mut Figure| (f.group, f.parameter, &f.queue) == (one.group, one.parameter, &one.queue);
            match figures.iter_mut().find(same) {
                Some(figure) => {
                    figure.runs.push(one.median);
                    figure.best = figure.best.min(one.best);
                }
                None => figures.push(one),
            }
        }
    }
    figures.iter_mut().filter(|figure| figure.runs.len() > 1).for_each(Figure::summarise);
    figures.sort_by(|a, b| {
        (a.group, a.parameter).cmp(&(b.group, b.parameter)).then(a.median.total_cmp(&b.median))
    });
    Ok(figures)
}

impl Figure {
    fn summarise(&mut self) {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        self.median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        (self.low, self.high) = (sorted[0], sorted[sorted.len() - 1]);
    }
}

/// Reads every measurement below a directory.
fn figures_of(run: &Path) -> Result<Vec<Figure>> {
    let mut found = Vec::new();
    let mut ahead = vec![run.to_owned()];
    while let Some(directory) = ahead.pop() {
        let new = directory.join("new");
        if new.join("benchmark.json").is_file() {
            found.push(figure(&new)?);
            continue;
        }
        let entries = fs::read_dir(&directory).with_context(|| format!("reading {}", directory.display()))?;
        let paths = entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|entry| entry.path());
        ahead.extend(paths.filter(|path| path.is_dir()));
    }
    Ok(found)
}

fn figure(measurement: &Path) -> Result<Figure> {
    let named: Named = json(&measurement.join("benchmark.json"))?;
    let estimates: Estimates = json(&measurement.join("estimates.json"))?;
    let Samples { times, iters } = json(&measurement.join("sample.json"))?;
    let samples = times.iter().zip(&iters).map(|(nanoseconds, iterations)| nanoseconds / iterations);
    let each = |nanoseconds: f64| nanoseconds / named.throughput.elements;
    let median = each(estimates.median.point_estimate);
    let interval = estimates.median.confidence_interval;
    Ok(Figure {
        group: named.group_id,
        parameter: named.value_str.parse().context("a benchmark's parameter is a number")?,
        queue: named.function_id,
        median,
        low: each(interval.lower_bound),
        high: each(interval.upper_bound),
        best: each(samples.fold(f64::INFINITY, f64::min)),
        runs: vec![median],
    })
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not what criterion writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a run's directory, as criterion leaves it.
    fn run(name: &str, figures: &[(&str, &str, u32, f64)]) -> PathBuf {
        let home = std::env::temp_dir().join(format!("aurora-mailbox-{}-{name}", std::process::id()));
        for (group, queue, parameter, median) in figures {
            let new = home.join(format!("{group}/{queue}/{parameter}/new"));
            fs::create_dir_all(&new).expect("a directory");
            let elements = if *group == "alone" { *parameter } else { 1 };
            let benchmark = format!(
                r#"{{"group_id":"{group}","function_id":"{queue}","value_str":"{parameter}",
                    "throughput":{{"Elements":{elements}}},"title":"ignored"}}"#
            );
            let (low, high) = (median - 1.0, median + 2.0);
            let estimates = format!(
                r#"{{"median":{{"confidence_interval":{{"confidence_level":0.95,"lower_bound":{low},
                    "upper_bound":{high}}},"point_estimate":{median},"standard_error":1.0}}}}"#
            );
            let samples = format!(
                r#"{{"sampling_mode":"Flat","iters":[10.0,10.0],"times":[{},{}]}}"#,
                median * 20.0,
                median * 9.0
            );
            fs::write(new.join("benchmark.json"), benchmark).expect("a file");
            fs::write(new.join("sample.json"), samples).expect("a file");
            fs::write(new.join("estimates.json"), estimates).expect("a file");
        }
        home
    }

    #[test]
    fn runs_are_put_together() {
        let homes = [
            run("a", &[("latency", "x", 1, 100.0), ("latency", "y", 1, 90.0)]),
            run("b", &[("latency", "x", 1, 80.0), ("latency", "y", 1, 95.0)]),
            run("c", &[("latency", "x", 1, 82.0), ("latency", "y", 1, 91.0)]),
        ];
        let found = figures(&homes).expect("they are read");
        let told: Vec<_> = found.iter().map(|f| (f.queue.as_str(), f.median, f.low, f.high)).collect();
        assert_eq!(told, [("x", 82.0, 80.0, 100.0), ("y", 91.0, 90.0, 95.0)]);
        assert_eq!((found[0].runs.as_slice(), found[0].best), ([100.0, 80.0, 82.0].as_slice(), 72.0));
        homes.iter().for_each(|home| fs::remove_dir_all(home).expect("it was made here"));
    }

    #[test]
    fn one_run_has_criterions_interval_and_messages_are_counted() {
        let home = run("one", &[("alone", "x", 4, 8.0)]);
        let found = figures(std::slice::from_ref(&home)).expect("it is read");
        assert_eq!((found[0].median, found[0].low, found[0].high), (2.0, 1.75, 2.5));
        fs::remove_dir_all(home).expect("it was made here");
    }

    #[test]
    fn what_is_damaged_is_said() {
        let home = run("bad", &[("wake", "x", 4, 8.0)]);
        fs::write(home.join("wake/x/4/new/estimates.json"), "{}").expect("a file");
        let error = format!("{:#}", figures(std::slice::from_ref(&home)).expect_err("no median"));
        assert!(error.contains("not what criterion writes"), "{error}");
        fs::remove_dir_all(home).expect("it was made here");
    }
}
