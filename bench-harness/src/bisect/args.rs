//! The options of `gdb --bisect`.

use clap::Args;

use super::Predicate;

const HEADING: &str = "Finding an event";

/// What to search for, and where.
#[derive(Args, Clone, Debug)]
pub struct BisectArgs {
    /// Find the first event of a stress run after which a rule of the invariants does not hold;
    /// print how to stop there
    #[arg(help_heading = HEADING, long, requires = "seed", conflicts_with_all = ["words", "stop_at", "stop_time", "record", "commands", "batch"])]
    pub bisect: bool,
    /// Only these rules, with commas between them
    #[arg(help_heading = HEADING, long, value_name = "RULE,…", value_delimiter = ',', requires = "bisect", conflicts_with_all = ["calm", "until"])]
    rule: Vec<String>,
    /// Find the first event that decides that the run fails: it fails although nothing is perturbed
    /// from there on
    #[arg(help_heading = HEADING, long, requires = "bisect", conflicts_with = "until")]
    calm: bool,
    /// Find the first event at which this holds, as `aurora until` takes it: an expression, or
    /// HELPER ~ REGEX
    #[arg(help_heading = HEADING, long, value_name = "EXPRESSION", requires = "bisect")]
    until: Option<String>,
    /// Search from this event on, at which nothing may be wrong yet (default: the first)
    #[arg(help_heading = HEADING, long, value_name = "N", requires = "bisect", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,
    /// Search up to this event, at which something must be wrong (default: where the guest
    /// complains first, or the last)
    #[arg(help_heading = HEADING, long, value_name = "N", requires = "bisect", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
}

impl BisectArgs {
    pub fn predicate(&self) -> Predicate {
        match &self.until {
            Some(expression) => Predicate::Until(expression.clone()),
            None if self.calm => Predicate::Calm,
            None => Predicate::Rules(self.rule.clone()),
        }
    }
}
