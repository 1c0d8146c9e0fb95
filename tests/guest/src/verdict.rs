//! Verdicts on tests: programs that run tables of tests report a verdict on each test.

extern crate alloc;

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::panic::Location;

use user_rt::Refusal;
use user_rt::paging::{Denial, StoreError};
use user_rt::report;
use user_rt::spawn::SpawnError;
use user_rt::views::ViewDenial;

/// The verdict on a test.
pub enum Verdict {
    Ok,
    Failed(String),
    /// The machine lacks what the test needs.
    Skipped(&'static str),
}

/// The reason why a test did not complete, for `?`. Making one takes a heap;
/// [`failure`](crate::failure) is for programs without.
pub enum Failure {
    Of(String),
    /// The machine lacks something: not the test's fault.
    Lacks(&'static str),
}

/// Returns a failure that names the line of the `?`.
fn at(place: &Location<'_>, what: fmt::Arguments<'_>) -> Failure {
    let file = place.file().rsplit('/').next().unwrap_or_default();
    Failure::Of(format!("line {} of {file}: {what}", place.line()))
}

impl From<Refusal> for Failure {
    #[track_caller]
    fn from(refusal: Refusal) -> Failure {
        at(Location::caller(), format_args!("{refusal}"))
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Failure {
        Failure::Of(format!("making a process: {error}"))
    }
}

macro_rules! failure_from {
    ($($error:ty: $what:literal),*) => {$(
        impl From<$error> for Failure {
            #[track_caller]
            fn from(error: $error) -> Failure {
                at(Location::caller(), format_args!("{}: {error:?}", $what))
            }
        }
    )*};
}
failure_from!(Denial: "the pager", StoreError: "the store", ViewDenial: "process 1");

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Of(why) => f.write_str(why),
            Failure::Lacks(what) => f.write_str(what),
        }
    }
}

pub type Outcome = Result<(), Failure>;

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Verdict {
        match outcome {
            Ok(()) => Verdict::Ok,
            Err(Failure::Of(why)) => Verdict::Failed(why),
            Err(Failure::Lacks(what)) => Verdict::Skipped(what),
        }
    }
}

/// Leaves a test with a failure unless the condition holds.
#[macro_export]
macro_rules! expect {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err($crate::verdict::Failure::Of(alloc::format!($($text)*)));
        }
    };
}

/// Leaves a test with a failure unless both are equal, and prints both.
#[macro_export]
macro_rules! expect_eq {
    ($got:expr, $wanted:expr, $($text:tt)*) => {{
        let (got, wanted) = (&$got, &$wanted);
        if got != wanted {
            let what = alloc::format!($($text)*);
            return Err($crate::verdict::Failure::Of(alloc::format!("{what}: got {got:?}, want {wanted:?}")));
        }
    }};
}

/// Counts of verdicts.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl Tally {
    /// Reports a verdict and counts it.
    pub fn add(&mut self, module: &str, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Ok => {
                self.passed += 1;
                report!("test name={module}::{name} ok");
            }
            Verdict::Failed(why) => {
                self.failed += 1;
                report!("test name={module}::{name} FAILED {why}");
            }
            Verdict::Skipped(why) => report!("test name={module}::{name} skipped {why}"),
        }
    }
}
