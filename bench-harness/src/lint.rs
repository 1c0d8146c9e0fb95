//! Runs the parts of `./justw lint`, each as one test.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::testsum::Tally;

/// Recipes, and what each checks.
const RECIPES: [(&str, &str); 5] = [
    ("_lint_host", "clippy, crates of the host"),
    ("_lint_image", "clippy, the kernel"),
    ("_lint_test_image", "clippy, the kernel's test builds"),
    ("_lint_user", "clippy, user programs"),
    ("_api", "rustdoc"),
];
/// Lines of a recipe that failed which are shown.
const SHOWN: usize = 40;

pub fn run(lab: &Lab, just: &OsStr) -> Result<Tally> {
    let mut tally = Tally::default();
    for (recipe, name) in RECIPES {
        let _turn = lab.turns.one();
        lab.screen.step(name);
        let output = Command::new(just).arg(recipe).output();
        let output =
            output.with_context(|| format!("starting {}: run this by `./justw test`", just.display()))?;
        let said = [output.stdout, output.stderr].concat();
        let wrong = (!output.status.success()).then(|| last_lines(&String::from_utf8_lossy(&said)));
        tally += lab.judged("lint", name, wrong);
    }
    Ok(tally)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
