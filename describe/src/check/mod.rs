//! Checks what no single value tells: names that refer to others, claims of two to one thing,
//! sums, and cycles.

mod devices;
mod groups;
mod labels;
mod limits;
mod names;
mod order;
mod pages;
mod processes;
mod time;

use crate::problem::Problems;
use crate::written::Written;

pub use order::Needs;
pub use pages::{pager_clients, pagers};
pub use time::first_cpu;

/// What the checks know besides the description.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    pub text: &'a str,
    /// The programs of the boot image, where they are known.
    pub programs: Option<&'a [String]>,
}

/// Checks a description.
/// Returns: for each process the processes that it needs, and the order of their start; none if the
/// order has a cycle.
pub fn check(written: &Written, known: Known<'_>, problems: &mut Problems) -> Option<Needs> {
    limits::check(written, problems);
    names::check(written, problems);
    labels::check(written, problems);
    devices::check(written, problems);
    groups::check(written, problems);
    processes::check(written, known, problems);
    pages::check(written, problems);
    time::check(written, problems);
    order::order(written, problems)
}
