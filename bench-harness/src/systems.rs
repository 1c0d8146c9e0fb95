//! Lists the descriptions of systems, checks them, and draws which processes of one may call which.

use std::fs;
use std::path::{Path, PathBuf};

use abi::options;
use abi::time::WHOLE_CPU;
use anyhow::{Context, Result};
use clap::Args;
use console::style;
use describe::System;
use describe::system::{Cpus, Process, Untyped};
use protocols::capnp::Word;
use protocols::system as schema;

use crate::artifacts::Artifacts;
use crate::files;
use crate::pack;
use crate::trouble::Trouble;

pub const EXAMPLES: &str = "\
Examples:
  aurora-bench systems                              all systems, each with what it is for
  aurora-bench systems test                         its processes and groups
  aurora-bench systems --draw paging --out paging.svg
  aurora-bench systems --draw my-system.toml        target/systems/my-system.svg
  aurora-bench systems --check my-system.toml       every mistake, with its place and the fix

The book's page Systems has the language of the files. Programs are compared with those of the
boot archive, where one is built.";

/// The first port of the first serial line.
const COM1: u16 = 0x3f8;

/// Where pictures go, unless the command line says otherwise.
const PICTURES: &str = "target/systems";

/// What to do with which system.
#[derive(Args, Clone, Debug)]
pub struct Wanted {
    /// Show the processes and groups of this system, or of this file `….toml` (default: list all
    /// systems)
    name: Option<String>,
    /// Draw which processes may call which in this system, or in this file `….toml`, as SVG
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    draw: Option<String>,
    /// Where the picture goes [default: target/systems/NAME.svg]
    #[arg(long, value_name = "FILE", requires = "draw")]
    out: Option<PathBuf>,
    /// Check this system, or this file `….toml`
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "draw"])]
    check: Option<PathBuf>,
    /// Directory with the descriptions
    #[arg(long, value_name = "DIR", default_value = "systems")]
    dir: PathBuf,
}

/// Runs the command.
pub fn command(artifacts: &Artifacts, wanted: &Wanted) -> Result<()> {
    let programs = programs(artifacts);
    let programs = programs.as_deref();
    if let Some(file) = &wanted.check {
        let named = file.to_str().map(|name| path_of(&wanted.dir, name)).filter(|path| path.is_file());
        let file = &named.unwrap_or_else(|| files::as_given(file));
        let system = load(file, programs)?;
        println!("{}: no mistake; processes: {}", file.display(), system.processes.len());
        return Ok(());
    }
    if let Some(name) = &wanted.draw {
        let system = find(&wanted.dir, name, programs)?;
        let picture = || Path::new(PICTURES).join(format!("{}.svg", system.name));
        let out = wanted.out.as_deref().map_or_else(picture, files::as_given);
        files::demand_room_for(&out)?;
        files::write(&out, describe::draw::svg(&system))?;
        println!("{}", out.display());
        return Ok(());
    }
    match &wanted.name {
        Some(name) => print!("{}", show(&find(&wanted.dir, name, programs)?)),
        None => list(&wanted.dir, programs)?,
    }
    Ok(())
}

/// Returns the programs of the boot archive; none if it has not been built.
fn programs(artifacts: &Artifacts) -> Option<Vec<String>> {
    let programs = artifacts.programs().ok()?;
    Some(programs.into_iter().map(|program| program.name).collect())
}

/// Reads a description. Prints its mistakes.
fn load(file: &Path, programs: Option<&[String]>) -> Result<System> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    describe::load(&file.display().to_string(), &bytes, programs).map_err(|report| {
        eprintln!("{}", report.render(console::colors_enabled_stderr()));
        let mistakes =
            if report.count() == 1 { "1 mistake" } else { &format!("{} mistakes", report.count()) };
        Trouble::CheckFailed(format!("{} has {mistakes}", file.display())).into()
    })
}

/// Returns the names of the systems in a directory, in order.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries =
        fs::read_dir(dir).with_context(|| format!("cannot read the directory {}", dir.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn path_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.toml"))
}

/// Reads a system by its name, or from a file.
fn find(dir: &Path, name: &str, programs: Option<&[String]>) -> Result<System> {
    if name.ends_with(".toml") {
        return load(&files::as_given(Path::new(name)), programs);
    }
    let names = names(dir)?;
    if !names.iter().any(|known| known == name) {
        let text = format!("there is no system {name} in {}; there are {}", dir.display(), names.join(", "));
        return Err(Trouble::Usage(text).into());
    }
    load(&path_of(dir, name), programs)
}

/// Reads all systems of a directory.
pub fn all(dir: &Path) -> Result<Vec<System>> {
    names(dir)?.iter().map(|name| load(&path_of(dir, name), None)).collect()
}

/// Returns the words of a kernel command line, and what they boot with: the first word may be a
/// system's name, or the file of one, which the boot archive then has, too, with the programs of
/// the files `with`.
pub fn named(artifacts: &Artifacts, words: &[String], with: &[PathBuf]) -> Result<(Artifacts, Vec<String>)> {
    let is_name =
        |word: &String| !word.contains('=') && !options::WORDS.iter().any(|known| known.key == word);
    let named = words.split_first().filter(|(first, _)| is_name(first));
    let is_file = named.is_some_and(|(first, _)| first.ends_with(".toml"));
    if !with.is_empty() && !is_file {
        let text =
            "--with takes a system from a file, which names the program: `run my-system.toml --with PROGRAM`";
        return Err(Trouble::Usage(text.to_owned()).into());
    }
    let Some((first, others)) = named else { return Ok((artifacts.clone(), words.to_vec())) };
    let (artifacts, name) = match is_file {
        true => {
            let more = pack::programs_at(artifacts, with)?;
            let names = programs(artifacts).map(|known| {
                known.into_iter().chain(more.iter().map(|program| program.name.clone())).collect::<Vec<_>>()
            });
            let system = load(&files::as_given(Path::new(first)), names.as_deref())?;
            (pack::with_system(artifacts, &system, more)?, system.name)
        }
        false => (artifacts.clone(), first.clone()),
    };
    let words = [format!("run={name}")].into_iter().chain(others.iter().cloned()).collect();
    Ok((artifacts, words))
}

/// Returns whether a process of this system drives the first serial line.
pub fn drives_com1(artifacts: &Artifacts, name: &str) -> Result<bool> {
    let Some(words) = pack::system_of(artifacts, name)? else { return Ok(false) };
    let message = schema::open(Word::words_to_bytes(&words));
    for device in message.get_root::<schema::system::Reader<'_>>()?.get_devices()? {
        if device.get_ports()?.iter().any(|ports| (ports.get_first()..=ports.get_last()).contains(&COM1)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prints each system with what it is for. Prints all mistakes of all of them before it fails.
fn list(dir: &Path, programs: Option<&[String]>) -> Result<()> {
    let names = names(dir)?;
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let mut failed = None;
    for name in names {
        match load(&path_of(dir, &name), programs) {
            Ok(system) => println!("{}  {}", style(format!("{name:<width$}")).bold(), system.about),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Returns a system's processes and groups as text.
fn show(system: &System) -> String {
    let mut text = format!("{}: {}\n\n", system.name, system.about);
    let width = system.processes.iter().map(|process| process.name.len()).max().unwrap_or_default();
    for (place, process) in system.processes.iter().enumerate() {
        let verdict = if system.verdict.map(usize::from) == Some(place) { ", verdict" } else { "" };
        text += &format!("{:<width$}  {}{verdict}\n", process.name, of_process(system, process));
    }
    for group in &system.groups {
        let name = |place: &u16| system.processes[usize::from(*place)].name.as_str();
        let servers: Vec<&str> = group.exposes.iter().map(name).collect();
        let members: Vec<&str> = group.members.iter().map(|member| name(&member.process)).collect();
        text += &format!("\ngroup {}: served by {}", group.name, servers.join(", "));
        text +=
            &format!("; members {}\n", if members.is_empty() { "none".into() } else { members.join(", ") });
    }
    text
}

/// Returns the properties of a process in one line.
fn of_process(system: &System, process: &Process) -> String {
    let mut parts = vec![format!("program {}", process.program), format!("priority {}", process.priority)];
    parts.push(match &process.cpus {
        Cpus::All => "all CPUs".to_owned(),
        Cpus::These(set) => {
            let numbers: Vec<String> = set.iter().map(u16::to_string).collect();
            format!("CPU {}", numbers.join(" "))
        }
    });
    match process.memory {
        Untyped::None => {}
        Untyped::Log2(log2) => parts.push(format!("memory {} KiB", (1u64 << log2) >> 10)),
        Untyped::Rest => parts.push("rest of the memory".to_owned()),
    }
    if let Some(budget) = process.budget {
        parts.push(format!("budget {} of {} us", budget.time, budget.period));
    }
    if process.room != 0 {
        parts.push(format!("room {} %", u64::from(process.room) * 100 / WHOLE_CPU));
    }
    let label = system.labels.iter().find(|label| label.number == process.label);
    parts.extend(label.map(|label| format!("label {}", label.name)));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../systems")
    }

    #[test]
    fn the_trees_systems_can_be_listed_and_shown() {
        list(&tree(), None).unwrap();
        let test = find(&tree(), "test", None).unwrap();
        let text = show(&test);
        assert!(
            text.starts_with("test: ") && text.contains("\nkerntest  program kerntest, priority 200"),
            "{text}"
        );
        assert!(text.contains("rest of the memory, verdict\n"), "{text}");
    }

    #[test]
    fn an_unknown_system_is_a_wrong_command_line() {
        let error = find(&tree(), "tset", None).unwrap_err();
        assert_eq!(crate::trouble::status_of(&error), crate::trouble::status::USAGE);
        assert!(error.to_string().contains("supervision, tables, test"), "{error}");
    }

    #[test]
    fn mistakes_fail_the_check() {
        let programs = ["init".to_owned()];
        let error = load(&path_of(&tree(), "test"), Some(&programs)).unwrap_err();
        assert_eq!(crate::trouble::status_of(&error), crate::trouble::status::CHECK_FAILED);
        assert!(error.to_string().ends_with("test.toml has 1 mistake"), "{error}");
    }
}
