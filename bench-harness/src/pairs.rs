//! Runs pairs of operations of the kernel on the simulated machine, and records what each changes
//! alone.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::suite::{cargo, target_dir, yielding};
use crate::testsum::Tally;

/// Bounds of the kernel, and what builds one that has them.
const LIMITS: [(&str, &[&str]); 2] = [("normal", &[]), ("small", &["--features", "small-limits"])];

/// Cases of pairs, with each.
const CASES: &str = "50000";

/// Cases of confinement, with normal limits and with small ones.
const CONFINE_CASES: [&str; 2] = ["1200", "500"];

/// Plays a sample of the pairs of operations on a kernel with normal limits and on one with small
/// ones. An operation that is done alone must change the same things on both.
pub fn run(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for (name, limits) in LIMITS {
        sum += one(lab, &format!("pairs, {name} limits"), play(lab, limits, &["--cases", CASES])?);
    }
    let mut texts = Vec::new();
    for (name, limits) in LIMITS {
        let file = target_dir(lab).join(format!("alone-{name}.txt"));
        let path = file.to_str().context("the path of the target directory is no text")?;
        if !play(lab, limits, &["--alone", path])? {
            sum += one(lab, &format!("operations alone, {name} limits"), false);
            return Ok(sum);
        }
        texts.push(fs::read_to_string(&file).with_context(|| format!("reading {path}"))?);
    }
    let same = compare(&texts[0], &texts[1]);
    sum += lab.cases.one("operations alone change the same with all limits", same.clone().err());
    lab.screen.say(&match same {
        Ok(count) => {
            format!("alone: {count} operations change the same with normal limits and with small ones")
        }
        Err(wrong) => format!("alone: {wrong}"),
    });
    Ok(sum)
}

/// Plays random histories and pairs of operations, and checks them by the rules of authority: on a
/// kernel with normal limits, and fewer on one with small limits.
pub fn confine(lab: &Lab) -> Result<Tally> {
    let mut sum = Tally::default();
    for ((name, limits), cases) in LIMITS.into_iter().zip(CONFINE_CASES) {
        let passed = played_on_host(lab, "confine", limits, &["--cases", cases])?;
        sum += one(lab, &format!("confine, {name} limits"), passed);
    }
    Ok(sum)
}

/// Counts one test, which has itself reported what is wrong.
fn one(lab: &Lab, name: &str, passed: bool) -> Tally {
    lab.cases.one(name, (!passed).then(String::new))
}

fn play(lab: &Lab, limits: &[&str], options: &[&str]) -> Result<bool> {
    played_on_host(lab, "pairs", limits, options)
}

/// Runs a test of the simulated machine that has a command line of its own, with cargo's arguments
/// and its own, and shows what it says. Returns whether it passed.
fn played_on_host(lab: &Lab, test: &str, cargo_arguments: &[&str], options: &[&str]) -> Result<bool> {
    lab.screen.step(test);
    let mut command = yielding(&cargo());
    command.args(["test", "--quiet", "--package", "kern-core", "--test", test]).args(cargo_arguments);
    command.arg("--").args(options);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {test}"))?;
    String::from_utf8_lossy(&output.stdout).lines().for_each(|line| lab.screen.say(line));
    Ok(output.status.success())
}

/// Returns, by operation and state, the answer and all changes.
fn effects(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let (mut all, mut at) = (BTreeMap::<&str, Vec<&str>>::new(), "");
    for line in text.lines() {
        if let Some((name, _)) = line.rsplit_once(": ").filter(|_| !line.starts_with(' ')) {
            at = name;
        }
        all.entry(at).or_default().push(line);
    }
    all
}

/// Compares two texts. Returns how many operations there are, if both say the same about each.
fn compare(normal: &str, small: &str) -> Result<usize, String> {
    let (normal, small) = (effects(normal), effects(small));
    for name in normal.keys().chain(small.keys()) {
        let (one, other) = (lines_of(&normal, name), lines_of(&small, name));
        if one != other {
            return Err(format!(
                "{name} changes something else with other limits\n  only with normal ones:{}\n  only with small ones:{}\n\
                 `./justw pairs --alone FILE` writes all, with `--limits small` those of small limits",
                not_in(one, other),
                not_in(other, one)
            ));
        }
    }
    if normal.is_empty() { Err("no operation was done".to_owned()) } else { Ok(normal.len()) }
}

fn lines_of<'a, 't>(all: &'a BTreeMap<&'t str, Vec<&'t str>>, name: &str) -> &'a [&'t str] {
    all.get(name).map_or(&[], Vec::as_slice)
}

/// Returns the lines that the other text does not have.
fn not_in(all: &[&str], other: &[&str]) -> String {
    let lines = all.iter().filter(|line| !other.contains(line));
    lines.map(|line| format!("\n    {}", line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_told() {
        let one = "A in Quiet: Done\n    x 1 -> 2\nB in Quiet: Done\n";
        assert_eq!(compare(one, one), Ok(2));
        let wrong = compare(one, "A in Quiet: Done\n    x 1 -> 3\nB in Quiet: Done\n").unwrap_err();
        assert!(wrong.starts_with("A in Quiet") && !wrong.contains("B in"), "{wrong}");
        assert!(wrong.contains("x 1 -> 2") && wrong.contains("x 1 -> 3"), "{wrong}");
        assert!(compare(one, "A in Quiet: Done\n    x 1 -> 2\n").is_err(), "one is missing");
        assert!(compare("", "").is_err(), "nothing was done");
    }
}
