//! The tests: all tables, and the selection of the command line.

use alloc::string::String;
use alloc::vec::Vec;

use user_rt::boot;

use crate::lab::Lab;

pub use guest_tests::verdict::{Failure, Outcome, Tally, Verdict};

pub type Test = fn(&mut Lab<'_>) -> Verdict;
type Module = (&'static str, &'static [(&'static str, Test)]);

/// Turns functions that return an [`Outcome`] into a table of tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident)*) => {
        pub const TESTS: &[(&str, $crate::suite::Test)] =
            &[$((stringify!($name), |lab| $crate::suite::Verdict::from($name(lab))),)*];
    };
}

/// All tests.
pub const ALL: &[Module] = &[
    ("arguments", crate::arguments::TESTS),
    ("values", crate::values::TESTS),
    ("caps", crate::caps::TESTS),
    ("holdings", crate::holdings::TESTS),
    ("untyped", crate::untyped::TESTS),
    ("groups", crate::groups::TESTS),
    ("ipc", crate::ipc::TESTS),
    ("irqs", crate::irqs::TESTS),
    ("grants", crate::grants::TESTS),
    ("ends", crate::ends::TESTS),
    ("kills", crate::kills::TESTS),
    ("growth", crate::growth::TESTS),
    ("labels", crate::labels::TESTS),
    ("audit", crate::audit::TESTS),
    ("notify", crate::notify::TESTS),
    ("events", crate::events::TESTS),
    ("loaded", crate::loaded::TESTS),
    ("shares", crate::shares::TESTS),
    ("locks", crate::locks::TESTS),
    ("sched", crate::sched::TESTS),
    ("turns", crate::turns::TESTS),
    ("memory", crate::memory::TESTS),
    ("pages", crate::pages::TESTS),
    ("messages", crate::messages::TESTS),
    ("protection", crate::protection::TESTS),
    ("devices", crate::devices::TESTS),
    ("views", crate::views::TESTS),
    ("hostile", crate::hostile::TESTS),
    ("faults", crate::faults::TESTS),
    ("stacks", crate::stacks::TESTS),
    ("debug", crate::debug::TESTS),
    ("context", crate::context::TESTS),
    ("dump", crate::dump::TESTS),
    ("trace", crate::trace::TESTS),
];

/// Whether the command line selects this test.
pub fn wanted(module: &str, name: &str) -> bool {
    words().is_none_or(|mut words| words.any(|word| names(word, module, name)))
}

/// Checks that each word of `only=` names a module or a test.
///
/// Errors: names the words that do not, and all modules.
pub fn check_words() -> Result<(), String> {
    let unknown: Vec<&str> = words().into_iter().flatten().filter(|word| !is_known(word)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let modules: Vec<&str> = ALL.iter().map(|(module, _)| *module).collect();
    let (unknown, modules) = (unknown.join(","), modules.join(", "));
    Err(alloc::format!("only={unknown}: names no module and no test; the modules are {modules}"))
}

/// Returns the words of `only=`, if the command line has it.
fn words() -> Option<impl Iterator<Item = &'static str>> {
    boot::options().value("only").map(|only| only.split(','))
}

fn names(word: &str, module: &str, test: &str) -> bool {
    word == module || word == test
}

fn is_known(word: &str) -> bool {
    ALL.iter().any(|(module, tests)| tests.iter().any(|(test, _)| names(word, module, test)))
}
