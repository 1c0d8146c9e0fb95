//! The findings of rules.

use std::fmt;

/// A rule that does not hold, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The name of the rule.
    pub rule: &'static str,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Violations of one rule that are kept; there may be thousands.
const KEPT: usize = 8;

/// Collects violations.
#[derive(Default)]
pub struct Findings {
    rule: &'static str,
    of_rule: usize,
    all: Vec<Violation>,
}

impl Findings {
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// Notes the name of the rule that is applied from here on.
    pub(crate) fn begin(&mut self, rule: &'static str) {
        (self.rule, self.of_rule) = (rule, 0);
    }

    /// Notes a violation of the rule that is applied.
    #[cold]
    pub fn add(&mut self, text: fmt::Arguments<'_>) {
        self.of_rule += 1;
        if self.of_rule <= KEPT {
            self.all.push(Violation { rule: self.rule, text: text.to_string() });
        }
    }

    pub(crate) fn all(&self) -> &[Violation] {
        &self.all
    }
}

/// Notes a violation unless something holds.
macro_rules! hold {
    ($findings:expr, $holds:expr, $($text:tt)+) => {
        if !$holds {
            $findings.add(format_args!($($text)+));
        }
    };
}
