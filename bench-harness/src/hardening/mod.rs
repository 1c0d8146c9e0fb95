//! Checks the machine code of the built kernels for what it must never do, however a CPU predicts
//! branches.
//!
//! * [`ends`]: no code is executed after the end of a path.
//! * [`indices`]: the entry code makes no address from an unbounded user register.
//! * Lookups in Rust by an index that user level chose go through one conditional move, and there
//!   are many of them.
//! * Rust code does not jump through a table.
//!
//! It also checks for absent code:
//!
//! * [`points`]: released kernels contain no points of tests.

mod ends;
mod indices;
mod points;
mod text;

use std::collections::HashMap;

use anyhow::{Result, ensure};
use iced_x86::{FlowControl, Mnemonic, Register};

use crate::lab::Lab;
use crate::testsum::Tally;
use text::Text;

/// The kernels that are looked at: with and without fastpaths, and with those that write a trace.
const VARIANTS: [&str; 3] = ["", "nofast", "trace"];
/// The kernel that has points for tests: what is not found in the others is found there.
const WITH_POINTS: &str = "chaos";
/// The least number of places in Rust that look something up by an index that user level chose:
/// about half of the present ones. Each has the conditional move of `smp::door::masked`, which the
/// compiler makes nowhere by itself.
const MASKED_PLACES: usize = 100;

/// Checks the kernels that are built: one test for each kernel and rule.
pub fn run(lab: &Lab) -> Result<Tally> {
    let mut tally = Tally::default();
    for variant in VARIANTS {
        let kernel = lab.artifacts.kernel(variant)?;
        let text = Text::read(&kernel)?;
        for (rule, check) in RULES {
            tally += judged(lab, &format!("kernel `{variant}`: {rule}"), check(&text));
        }
        tally += judged(lab, &format!("kernel `{variant}`: no points"), points::are_missing(&kernel));
    }
    let there = points::are_there(&lab.artifacts.kernel(WITH_POINTS)?);
    tally += judged(lab, &format!("kernel `{WITH_POINTS}`: points"), there);
    Ok(tally)
}

/// Counts one test, and says why it failed.
fn judged(lab: &Lab, name: &str, outcome: Result<()>) -> Tally {
    let wrong = outcome.err().map(|error| format!("{error:#}"));
    if let Some(wrong) = &wrong {
        lab.screen.say(&format!("{name}: {wrong}"));
    }
    lab.cases.one(name, wrong)
}

type Check = fn(&Text) -> Result<()>;

const RULES: [(&str, Check); 4] = [
    ("a stop follows each end of a path", ends::check),
    ("no address is made from a register of user level", indices::check),
    ("Rust masks the indices that user level chooses", check_masks),
    ("Rust jumps through no table", check_jumps),
];

/// Compiled before this kernel was: it formats what the kernel says at boot and when it dies.
const PRECOMPILED: [&str; 3] = ["core::", "<core::", "<char>"];

/// Checks that enough instructions use the zero that masks indices. The zero has no name once the
/// kernel is linked, so it is the address that most of these instructions use.
fn check_masks(text: &Text) -> Result<()> {
    let mut places: HashMap<u64, usize> = HashMap::new();
    for instruction in text.instructions(text.all()) {
        if instruction.mnemonic() == Mnemonic::Cmovae && instruction.is_ip_rel_memory_operand() {
            *places.entry(instruction.ip_rel_memory_address()).or_default() += 1;
        }
    }
    let most = places.into_values().max().unwrap_or(0);
    ensure!(most >= MASKED_PLACES, "{most} places do, where at least {MASKED_PLACES} have to");
    Ok(())
}

fn check_jumps(text: &Text) -> Result<()> {
    let by_table = text.instructions(text.entry()?.end..text.all().end).filter(|instruction| {
        instruction.flow_control() == FlowControl::IndirectBranch
            && instruction.memory_index() != Register::None
    });
    let places: Vec<String> = by_table.map(|instruction| text.place(instruction.ip())).collect();
    let (known, wrong): (Vec<_>, Vec<_>) =
        places.into_iter().partition(|place| PRECOMPILED.iter().any(|start| place.starts_with(start)));
    ensure!(wrong.is_empty(), "{} do, and {} of core: {}", wrong.len(), known.len(), wrong.join(", "));
    Ok(())
}
