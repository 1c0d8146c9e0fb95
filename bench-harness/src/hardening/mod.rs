//! What the kernel's machine code must never do, however a CPU predicts branches: read from the built kernels.
//!
//! * [`ends`]: nothing is executed behind the end of a path.

mod ends;
mod text;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::testsum::Tally;
use text::Text;

/// The kernels that are looked at: with and without fastpaths, and with those that write a trace.
const VARIANTS: [&str; 3] = ["", "nofast", "trace"];

/// Looks at the kernels that are built; one test for each kernel and rule.
pub fn run(lab: &Lab) -> Result<Tally> {
    let mut tally = Tally::default();
    for variant in VARIANTS {
        let text = Text::read(&lab.artifacts.kernel(variant)?)?;
        for (rule, check) in RULES {
            let outcome = check(&text).with_context(|| format!("kernel `{variant}`: {rule}"));
            if let Err(error) = &outcome {
                lab.screen.say(&format!("{error:#}"));
            }
            tally += Tally::one(outcome.is_ok());
        }
    }
    Ok(tally)
}

type Check = fn(&Text) -> Result<()>;

const RULES: [(&str, Check); 1] = [("a stop follows each end of a path", ends::check)];
