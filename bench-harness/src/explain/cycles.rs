//! An estimate in cycles: llvm-mca's figures for ordinary instructions, and a table's costs for the
//! others.
//!
//! The operation is split at the instructions of [`COSTS`], for which llvm-mca has only default
//! costs. Each stretch in between is analysed once, as it was executed. The analysis assumes that
//! all loads hit the first-level cache and that all branches are predicted. Cache lines that come
//! from another CPU, misses and the wake-up of a halted CPU are not in it; the CPUs' work is added
//! up. It is an estimate, good for comparing two paths.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::story::Line;
use crate::host::find_program;

/// CPUs that the estimate is for: what people call them, and what LLVM does.
const MODELS: [(&str, &str); 3] =
    [("Skylake server", "skylake-avx512"), ("Ice Lake server", "icelake-server"), ("Zen 3", "znver3")];
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
    cycles: Cycles,
    from: From,
}

/// The cycles on each of [`MODELS`].
type Cycles = [u64; MODELS.len()];

/// Where a cost comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// Somebody measured it: who, where, on what.
    Published(&'static str),
    /// Nobody known did, or it was not looked up: an order of magnitude, and why that one.
    Assumed(&'static str),
}

const fn each(mnemonic: &'static str, cycles: Cycles, from: From) -> Cost {
    Cost { mnemonic, with: "", cycles, from }
}

const fn cost(mnemonic: &'static str, with: &'static str, cycles: u64, from: From) -> Cost {
    Cost { mnemonic, with, cycles: [cycles; MODELS.len()], from }
}

/// The repository InstLatx64/InstLatx64: GenuineIntel0050654_SkylakeXeon_20,
/// GenuineIntel00606A6_ICX and AuthenticAMD0A20F10_K19_Vermeer, each _InstLatX64.txt. Rounded;
/// POPFQ is what it takes after PUSHFQ.
const INSTLAT: From = From::Published("InstLatx64: Xeon Platinum 8160, Xeon Gold 6330, Ryzen 9 5950X");
/// lkml.iu.edu/hypermail/linux/kernel/1712.0/03977.html: "~350 cycles per-page".
const HANSEN: From = From::Published("Hansen, linux-kernel, 5 December 2017: Skylake, one page");
/// mail-archive.com/linux-kernel@vger.kernel.org/msg855963.html: 78 ns at 3 GHz, with what it
/// pushes before.
const VLASENKO: From = From::Published("Vlasenko, linux-kernel, 27 March 2015: to the same ring");
/// github.com/AlessandroSangiuliano/Uros/issues/348.
const UROS: From = From::Published("Uros, issue 348: IA32_SYSENTER_ESP on an Intel i7");
/// docs.kernel.org/arch/x86/pti.html: "Moves to CR3 are on the order of a hundred cycles".
const PTI: From = From::Published("Linux, Documentation/arch/x86/pti.rst: on the order of a hundred");
const LLVM: From = From::Published("LLVM 14's model of Skylake server");
const SKYBRIDGE: From = From::Assumed("as SkyBridge, EuroSys 2019, is remembered to say of Skylake");
const SMALL: From = From::Assumed("microcoded, neither serialising nor waiting");
const LARGE: From = From::Assumed("microcoded, serialising or of as much microcode");

/// Cycles of instructions that are microcoded, serialising or privileged: an order of magnitude, to
/// compare two paths with. What was published for one CPU stands for all. The first entry that fits
/// is taken.
const COSTS: &[Cost] = &[
    each("rdtsc", [25, 27, 36], INSTLAT),
    each("lfence", [4, 5, 10], INSTLAT),
    each("mfence", [33, 36, 60], INSTLAT),
    each("cpuid", [99, 104, 128], INSTLAT),
    each("popfq", [24, 24, 21], INSTLAT),
    each("pause", [140, 34, 65], INSTLAT),
    cost("invpcid", "", 350, HANSEN),
    cost("iretq", "", 230, VLASENKO),
    cost("wrmsr", "", 144, UROS),
    cost("xrstor64", "", 37, LLVM),
    cost("xsaveopt64", "", 42, LLVM),
    cost("mov", "mov cr3,", 100, PTI),
    cost("syscall", "", 82, SKYBRIDGE),
    cost("sysretq", "", 75, SKYBRIDGE),
    cost("wrfsbase", "", 20, SMALL),
    cost("wrgsbase", "", 20, SMALL),
    cost("rdfsbase", "", 20, SMALL),
    cost("rdgsbase", "", 20, SMALL),
    cost("mov", ", cr", 20, SMALL),
    cost("sti", "", 20, SMALL),
    cost("cli", "", 20, SMALL),
    cost("xgetbv", "", 20, SMALL),
    cost("mov", "mov cr", 100, LARGE),
    cost("rdmsr", "", 100, LARGE),
    cost("hlt", "", 100, LARGE),
    cost("monitor", "", 100, LARGE),
    cost("mwait", "", 100, LARGE),
    cost("clts", "", 100, LARGE),
    cost("invlpg", "", 100, LARGE),
];

/// What the operation is estimated to take on one CPU model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Estimate {
    pub cpu: &'static str,
    /// By llvm-mca.
    pub ordinary: u64,
    /// By the table: what was measured and published.
    pub published: u64,
    /// By the table: what is assumed.
    pub assumed: u64,
}

impl Estimate {
    pub fn cycles(&self) -> u64 {
        self.ordinary + self.published + self.assumed
    }
}

/// Lists the kinds of instructions in these lines that the table knows: mnemonic, cycles, and the
/// source of that figure.
pub fn sources(lines: &[Line]) -> Vec<String> {
    let used = COSTS.iter().filter(|cost| {
        lines.iter().filter(|line| line.counts()).filter_map(tabled).any(|other| std::ptr::eq(*cost, other))
    });
    let text = |cost: &Cost| {
        let name = match cost.with.strip_prefix(", ") {
            Some(from) => format!("mov from {from}"),
            None if cost.with.is_empty() => cost.mnemonic.to_owned(),
            None => cost.with.trim_end_matches(',').to_owned(),
        };
        match cost.from {
            From::Published(by) => format!("{name} {} ({by})", in_words(&cost.cycles)),
            From::Assumed(why) => format!("{name} {} (assumed: {why})", in_words(&cost.cycles)),
        }
    };
    used.map(text).collect()
}

/// Writes one number, or one for each model.
fn in_words(cycles: &Cycles) -> String {
    let mut all: Vec<String> = cycles.iter().map(u64::to_string).collect();
    all.dedup();
    all.join("/")
}

/// The instructions of each CPU, cut at those that cost what the table says; and what these sum up
/// to.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stretches {
    ordinary: Vec<String>,
    published: Cycles,
    assumed: Cycles,
}

/// Returns the table's cost of an instruction, if it is of such a kind.
fn tabled(line: &Line) -> Option<&'static Cost> {
    COSTS.iter().find(|cost| cost.mnemonic == line.mnemonic && line.text.contains(cost.with))
}

fn stretches(lines: &[Line]) -> Stretches {
    let mut all =
        Stretches { ordinary: Vec::new(), published: [0; MODELS.len()], assumed: [0; MODELS.len()] };
    let mut cpus: Vec<u8> = lines.iter().map(|line| line.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    for cpu in cpus {
        let mut open = String::new();
        let mut before = None;
        for line in lines.iter().filter(|line| line.cpu == cpu && line.counts()) {
            // QEMU counts each turn of a repeated string instruction; the analyser takes it for all
            // of them.
            if before.replace(line.pc) == Some(line.pc) && line.text.starts_with("rep") {
                continue;
            }
            match tabled(line) {
                Some(cost) => {
                    let sums = match cost.from {
                        From::Published(_) => &mut all.published,
                        From::Assumed(_) => &mut all.assumed,
                    };
                    sums.iter_mut().zip(cost.cycles).for_each(|(sum, cycles)| *sum += cycles);
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

/// Finds `$LLVM_MCA`, or the analyser by the names that distributions give it.
fn find_analyser() -> Option<PathBuf> {
    if let Ok(name) = std::env::var("LLVM_MCA") {
        return find_program(&name);
    }
    let versioned = VERSIONS.rev().map(|version| format!("llvm-mca-{version}"));
    std::iter::once("llvm-mca".to_owned()).chain(versioned).find_map(|name| find_program(&name))
}

/// Returns the estimates, one for each model.
pub fn estimate(lines: &[Line]) -> Result<Vec<Estimate>> {
    if lines.len() > LONGEST {
        bail!("{} instructions are too many for llvm-mca", lines.len());
    }
    let analyser = find_analyser().context(
        "llvm-mca is missing: `./justw explain` installs it, or apt-get install llvm, or set LLVM_MCA to one",
    )?;
    let Stretches { ordinary, published, assumed } = stretches(lines);
    let estimate = |((cpu, model), (published, assumed))| {
        Ok(Estimate { cpu, ordinary: analyse(&analyser, model, &ordinary)?, published, assumed })
    };
    MODELS.into_iter().zip(published.into_iter().zip(assumed)).map(estimate).collect()
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

/// Writes one region for each stretch.
fn assembly(stretches: &[String]) -> String {
    let mut text = String::new();
    for (number, stretch) in stretches.iter().enumerate() {
        let _ = write!(text, "# LLVM-MCA-BEGIN s{number}\n{stretch}# LLVM-MCA-END s{number}\n");
    }
    text
}

/// Returns the sum of the cycles of all regions.
fn cycles_in(said: &str, regions: usize) -> Result<u64> {
    let totals = said.lines().filter_map(|line| line.strip_prefix("Total Cycles:"));
    let totals: Vec<u64> = totals.filter_map(|number| number.trim().parse().ok()).collect();
    if totals.len() != regions {
        bail!("llvm-mca reported {} stretches, expected {regions}", totals.len());
    }
    Ok(totals.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::phase::Phase;
    use crate::explain::story::examples::line;

    fn cost_of(bytes: &[u8]) -> Option<u64> {
        tabled(&line(0, 0, bytes, Phase::Switch)).map(|cost| cost.cycles[0])
    }

    #[test]
    fn privileged_instructions_have_costs_and_others_do_not() {
        assert_eq!(cost_of(&[0x0f, 0x22, 0xdb]), Some(100)); // mov cr3, rbx
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
            line(0, 2, &[0x0f, 0x31], Phase::User), // rdtsc
            line(0, 3, &[0x48, 0x89, 0xc3], Phase::Entry),
        ];
        let Stretches { ordinary, published, assumed } = stretches(&lines);
        assert_eq!(ordinary, ["nop\n", "mov %rax,%rbx\n", "nop\n"]);
        assert_eq!((published, assumed), ([25, 27, 36], [82, 82, 82]));
        let sources = sources(&lines);
        assert!(sources[0].starts_with("rdtsc 25/27/36 (InstLatx64"), "{sources:?}");
        assert!(sources[1].starts_with("syscall 82 (assumed: "), "{sources:?}");
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
            assert!(cycles.iter().all(|cycles| *cycles > 0) && text.len() > 10);
        }
    }
}
