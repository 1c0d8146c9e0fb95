//! An estimate in cycles: what llvm-mca says of ordinary instructions, and published costs of the others.
//!
//! The operation is cut at the instructions of [`COSTS`], which the analyser knows nothing of (it takes defaults for
//! them); each stretch between two of them is analysed as it was executed, once, with all loads hitting the first
//! cache, all branches predicted. Cache lines that come from another CPU, misses and the wake-up of a halted CPU
//! are not in it; the CPUs' work is added up. It is an estimate, good for comparing two paths.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::story::Line;
use crate::host::find_program;

/// CPUs that the estimate is for: what people call them, and what LLVM does.
const MODELS: &[(&str, &str)] =
    &[("Skylake server", "skylake-avx512"), ("Ice Lake server", "icelake-server"), ("Zen 3", "znver3")];
/// Beyond this many instructions the analyser takes minutes.
const LONGEST: usize = 20_000;
/// Versions of LLVM whose analyser may be installed under a name of its own.
const VERSIONS: std::ops::RangeInclusive<u32> = 11..=30;

/// A cost that no analyser knows.
#[derive(Debug)]
pub struct Cost {
    mnemonic: &'static str,
    /// Nothing, or what the text has to contain.
    with: &'static str,
    cycles: u64,
    from: From,
}

/// Where a cost comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// Somebody measured it: who, where, on what.
    Published(&'static str),
    /// Nobody known did: an order of magnitude, and why that one.
    Assumed(&'static str),
}

const fn cost(mnemonic: &'static str, with: &'static str, cycles: u64, from: From) -> Cost {
    Cost { mnemonic, with, cycles, from }
}

const SKYBRIDGE: From =
    From::Published("Mi et al., SkyBridge, EuroSys 2019, doi 10.1145/3302424.3303946: Skylake");
const FOG: From = From::Published("Fog, Instruction tables: Skylake-X");
const INTEL: From =
    From::Published("Intel, Optimization Reference Manual: PAUSE takes up to 140 cycles on Skylake");
const SMALL: From = From::Assumed("microcoded, neither serialising nor waiting");
const LARGE: From = From::Assumed("microcoded, serialising or of as much microcode");

/// Cycles of instructions that are microcoded, serialising or privileged. The same for every model: the order of
/// magnitude is what they are for. The first entry that fits is taken. The figures stand here as their authors are
/// remembered to have published them, not copied from the page: look there before a cycle more or less matters.
const COSTS: &[Cost] = &[
    cost("syscall", "", 82, SKYBRIDGE),
    cost("sysretq", "", 75, SKYBRIDGE),
    cost("mov", "mov cr3,", 186, SKYBRIDGE),
    cost("rdtsc", "", 25, FOG),
    cost("lfence", "", 4, FOG),
    cost("mfence", "", 33, FOG),
    cost("cpuid", "", 100, FOG),
    cost("popfq", "", 20, FOG),
    cost("pause", "", 140, INTEL),
    cost("wrfsbase", "", 20, SMALL),
    cost("wrgsbase", "", 20, SMALL),
    cost("rdfsbase", "", 20, SMALL),
    cost("rdgsbase", "", 20, SMALL),
    cost("mov", ", cr", 20, SMALL),
    cost("sti", "", 20, SMALL),
    cost("cli", "", 20, SMALL),
    cost("xgetbv", "", 20, SMALL),
    cost("mov", "mov cr", 100, LARGE),
    cost("wrmsr", "", 100, LARGE),
    cost("rdmsr", "", 100, LARGE),
    cost("iretq", "", 100, LARGE),
    cost("hlt", "", 100, LARGE),
    cost("monitor", "", 100, LARGE),
    cost("mwait", "", 100, LARGE),
    cost("clts", "", 100, LARGE),
    cost("invlpg", "", 100, LARGE),
    cost("invpcid", "", 100, LARGE),
    cost("xrstor64", "", 100, LARGE),
    cost("xsaveopt64", "", 100, LARGE),
];

/// What the operation is estimated to take on one CPU model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Estimate {
    pub cpu: &'static str,
    /// By llvm-mca.
    pub ordinary: u64,
    /// By the table: what was measured and published.
    pub published: u64,
    /// By the table: what nobody published.
    pub assumed: u64,
}

impl Estimate {
    pub fn cycles(&self) -> u64 {
        self.ordinary + self.published + self.assumed
    }
}

/// The kinds of instructions in these lines that the table knows: mnemonic, cycles, and where that is from.
pub fn sources(lines: &[Line]) -> Vec<String> {
    let used = COSTS.iter().filter(|cost| {
        lines.iter().filter(|line| !line.measuring).filter_map(tabled).any(|other| std::ptr::eq(*cost, other))
    });
    let text = |cost: &Cost| {
        let name = match cost.with.strip_prefix(", ") {
            Some(from) => format!("mov from {from}"),
            None if cost.with.is_empty() => cost.mnemonic.to_owned(),
            None => cost.with.trim_end_matches(',').to_owned(),
        };
        match cost.from {
            From::Published(by) => format!("{name} {} ({by})", cost.cycles),
            From::Assumed(why) => format!("{name} {} (assumed: {why})", cost.cycles),
        }
    };
    used.map(text).collect()
}

/// The instructions of each CPU, cut at those that cost what the table says; and what these sum up to.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stretches {
    ordinary: Vec<String>,
    published: u64,
    assumed: u64,
}

/// The table's cost of an instruction, if it is of that kind.
fn tabled(line: &Line) -> Option<&'static Cost> {
    COSTS.iter().find(|cost| cost.mnemonic == line.mnemonic && line.text.contains(cost.with))
}

fn stretches(lines: &[Line]) -> Stretches {
    let mut all = Stretches { ordinary: Vec::new(), published: 0, assumed: 0 };
    let mut cpus: Vec<u8> = lines.iter().map(|line| line.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    for cpu in cpus {
        let mut open = String::new();
        let mut before = None;
        for line in lines.iter().filter(|line| line.cpu == cpu && !line.measuring) {
            // QEMU counts each turn of a repeated string instruction; the analyser takes it for all of them.
            if before.replace(line.pc) == Some(line.pc) && line.text.starts_with("rep") {
                continue;
            }
            match tabled(line) {
                Some(cost) => {
                    match cost.from {
                        From::Published(_) => all.published += cost.cycles,
                        From::Assumed(_) => all.assumed += cost.cycles,
                    }
                    all.ordinary.push(std::mem::take(&mut open));
                }
                None => {
                    let _ = writeln!(open, "{}", line.gas);
                }
            }
        }
        all.ordinary.push(open);
    }
    all.ordinary.retain(|stretch| !stretch.is_empty());
    all
}

/// `$LLVM_MCA`, or the analyser as distributions call it.
fn find_analyser() -> Option<PathBuf> {
    if let Ok(name) = std::env::var("LLVM_MCA") {
        return find_program(&name);
    }
    let versioned = VERSIONS.rev().map(|version| format!("llvm-mca-{version}"));
    std::iter::once("llvm-mca".to_owned()).chain(versioned).find_map(|name| find_program(&name))
}

/// The estimates, one for each model.
pub fn estimate(lines: &[Line]) -> Result<Vec<Estimate>> {
    if lines.len() > LONGEST {
        bail!("{} instructions are too many for llvm-mca", lines.len());
    }
    let analyser = find_analyser().context(
        "llvm-mca is missing: `./justw explain` installs it, or apt-get install llvm, or set LLVM_MCA to one",
    )?;
    let Stretches { ordinary, published, assumed } = stretches(lines);
    let estimate = |(cpu, model): &(&'static str, &str)| {
        Ok(Estimate { cpu, ordinary: analyse(&analyser, model, &ordinary)?, published, assumed })
    };
    MODELS.iter().map(estimate).collect()
}

fn analyse(analyser: &PathBuf, model: &str, stretches: &[String]) -> Result<u64> {
    let mut child = Command::new(analyser)
        .args(["-mtriple=x86_64-unknown-unknown", "-iterations=1", "-resource-pressure=false"])
        .args(["-instruction-info=false", &format!("-mcpu={model}"), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", analyser.display()))?;
    let mut input = child.stdin.take().context("the analyser's input")?;
    let text = assembly(stretches);
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("waiting for llvm-mca")?;
    let _ = writer.join();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first: Vec<&str> = said.lines().take(2).map(str::trim).collect();
        bail!("llvm-mca cannot say for {model}: {}", first.join(" "));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    cycles_in(&said, stretches.len())
}

/// One region for each stretch.
fn assembly(stretches: &[String]) -> String {
    let mut text = String::new();
    for (number, stretch) in stretches.iter().enumerate() {
        let _ = write!(text, "# LLVM-MCA-BEGIN s{number}\n{stretch}# LLVM-MCA-END s{number}\n");
    }
    text
}

/// The sum of what it says of all regions.
fn cycles_in(said: &str, regions: usize) -> Result<u64> {
    let totals = said.lines().filter_map(|line| line.strip_prefix("Total Cycles:"));
    let totals: Vec<u64> = totals.filter_map(|number| number.trim().parse().ok()).collect();
    if totals.len() != regions {
        bail!("llvm-mca spoke of {} stretches of {regions}", totals.len());
    }
    Ok(totals.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::phase::Phase;
    use crate::explain::story::examples::line;

    fn cost_of(bytes: &[u8]) -> Option<u64> {
        tabled(&line(0, 0, bytes, Phase::Switch)).map(|cost| cost.cycles)
    }

    #[test]
    fn privileged_instructions_have_costs_and_others_do_not() {
        assert_eq!(cost_of(&[0x0f, 0x22, 0xdb]), Some(186)); // mov cr3, rbx
        assert_eq!(cost_of(&[0x0f, 0x22, 0xe3]), Some(100)); // mov cr4, rbx
        assert_eq!(cost_of(&[0x0f, 0x05]), Some(82));
        assert_eq!(cost_of(&[0x48, 0x0f, 0x07]), Some(75)); // sysretq
        assert_eq!(cost_of(&[0x48, 0x89, 0xc3]), None); // mov rbx, rax
    }

    #[test]
    fn stretches_end_at_privileged_instructions_and_are_of_one_cpu() {
        let lines = [
            line(0, 0, &[0x90], Phase::User),
            line(1, 0, &[0x90], Phase::Idle),
            line(0, 1, &[0x0f, 0x05], Phase::User),
            line(0, 3, &[0x48, 0x89, 0xc3], Phase::Entry),
        ];
        let Stretches { ordinary, published, assumed } = stretches(&lines);
        assert_eq!(ordinary, ["nop\n", "mov %rax,%rbx\n", "nop\n"]);
        assert_eq!((published, assumed), (82, 0));
        assert_eq!(sources(&lines).len(), 1);
    }

    #[test]
    fn a_repeated_string_instruction_is_analysed_once() {
        let turn = line(0, 0, &[0xf3, 0x48, 0xa5], Phase::Commit);
        let Stretches { ordinary, .. } = stretches(&[turn.clone(), turn]);
        assert_eq!(ordinary.len(), 1);
        assert_eq!(ordinary[0].lines().count(), 1, "{ordinary:?}");
    }

    #[test]
    fn cycles_of_all_regions_are_added() {
        let said = "[0] Code Region - s0\nTotal Cycles:      12\n\n[1] …\nTotal Cycles:      30\n";
        assert_eq!(cycles_in(said, 2).expect("is there"), 42);
        assert!(cycles_in(said, 3).is_err());
    }

    #[test]
    fn every_cost_says_where_it_comes_from() {
        for Cost { cycles, from: From::Published(text) | From::Assumed(text), .. } in COSTS {
            assert!(*cycles > 0 && text.len() > 10);
        }
    }
}
