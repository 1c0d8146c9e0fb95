//! Builds and runs the programs of the book's tutorials, as they are written there.
//!
//! A tutorial begins with `./justw new-program NAME`. A line of its page that is only a file's name
//! in backquotes and a colon says that the code block behind it is that file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::files;
use crate::lab::Lab;
use crate::machine::Mode;
use crate::newprogram;
use crate::suite;
use crate::testsum::Tally;

/// Pages, their programs, and the numbers of CPUs that they name.
const PAGES: [(&str, &str, u32); 2] = [("tutorial-server.md", "adder", 2), ("tutorial-driver.md", "edu", 1)];
/// A test's name for the program as it is made first.
const FRESH: (&str, u32) = ("hello", 1);

/// Runs all tutorials, and the program of which each is made.
pub fn run(lab: &Lab) -> Result<Tally> {
    let tree = std::env::current_dir().context("finding the tree")?;
    let mut sum = play(lab, &tree, FRESH.0, &BTreeMap::new(), FRESH.1)?;
    for (page, program, cpus) in PAGES {
        let path = tree.join("docs/src").join(page);
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let files = code(&text);
        let shown = ["src/main.rs".to_owned(), format!("{program}.toml")];
        let missing = shown.iter().find(|file| !files.contains_key(*file));
        sum += match missing {
            Some(file) => lab.judged("tutorials", page, Some(format!("it does not show {file}"))),
            None => play(lab, &tree, program, &files, cpus)?,
        };
    }
    Ok(sum)
}

/// Returns the files that a page shows. A later block of the same file counts.
fn code(page: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut lines = page.lines();
    let mut named = None;
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if let Some(file) = named.take() {
                files.insert(file, block.join("\n") + "\n");
            }
        } else if !line.is_empty() {
            named = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:")).map(str::to_owned);
        }
    }
    files
}

/// Makes a program with these files, builds it, and boots its system.
fn play(lab: &Lab, tree: &Path, name: &str, files: &BTreeMap<String, String>, cpus: u32) -> Result<Tally> {
    let out = suite::target_dir(lab).join("tutorials").join(name);
    let out = std::path::absolute(out)?;
    let _ = std::fs::remove_dir_all(&out);
    newprogram::make(tree, name, &out)?;
    for (file, text) in files {
        let path = out.join(file);
        files::make_dir_of(&path)?;
        files::write(&path, text)?;
    }
    let mut sum = Tally::default();
    for mode in [Mode::Icount, Mode::Tcg] {
        let wrong = run_there(&out, name, mode, cpus)?;
        sum += lab.judged("tutorials", &format!("{name} runs, {mode}"), wrong);
    }
    Ok(sum)
}

/// Builds and runs a program as a person does. Returns what is wrong, if anything is.
fn run_there(out: &Path, name: &str, mode: Mode, cpus: u32) -> Result<Option<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "run",
        "--release",
        "--quiet",
        "--",
        "--mode",
        &mode.to_string(),
        "--cpus",
        &cpus.to_string(),
    ]);
    // Where the person is, and not where this command was called.
    command.current_dir(out).env_remove("AURORA_FROM").env_remove("CARGO_TARGET_DIR");
    if std::env::var("AURORA_BUILD_STD").is_ok_and(|value| value == "1") {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    let ran = command.output().context("running cargo")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    // Its log is decoded with its own strings: time, CPU, program.
    let is_its = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|cpu| cpu.starts_with("cpu")) && words.next() == Some(name)
    };
    let logs = said.lines().any(is_its);
    let is_right = ran.status.success() && logs && said.contains(&format!("note {name}: "));
    let text = || format!("{}\n{said}{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    Ok((!is_right).then(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_before_their_code() {
        let page = "Text.\n\n`src/main.rs`:\n\n```rust,ignore\nfn a() {}\n```\n\nMore `x`:\n\n```sh\nls\n```\n\n`a.toml`:\n```toml\nb = 1\n```\n";
        let files = code(page);
        assert_eq!(files.len(), 2);
        assert_eq!(files["src/main.rs"], "fn a() {}\n");
        assert_eq!(files["a.toml"], "b = 1\n");
    }
}
