//! Figures in README and book: each is taken by name from committed data, and a host test compares
//! text and data.
//!
//! ```text
//!   command ── data     the figures by name: perf/baseline.json, perf/scale.json, peers/sel4/results.json
//!          │            perf/phases.json, perf/steps.json, perf/worst.json
//!          ├── marks    a figure in a sentence: `167<!--=call_reply_cross_as-->`
//!          ├── worst    the longest stretches of long runs
//!          └── tables ── versus   whole tables: which row of the other kernel stands beside which of ours
//! ```
//!
//! `bench --check`, `scale --check` and `peers sel4 --check` compare the data with runs. So the
//! pages agree with the runs, and a change of the data without a change of the pages fails a test.

pub mod command;
pub mod data;
mod marks;
mod tables;
mod versus;
mod worst;

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::files;

/// What writes the figures of all pages.
pub const RECIPE: &str = "./justw figures";
/// Where a table ends in a page.
const END: &str = "<!-- end of figures -->";

/// Writes a number with its digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Puts the table that a recipe makes where the page has markers for it.
pub fn update(page: &Path, recipe: &str, table: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let text = with_table(&text, recipe, table).with_context(|| format!("in {}", page.display()))?;
    files::write(page, text)
}

/// Returns the text of a page with this table between the markers.
fn with_table(text: &str, recipe: &str, table: &str) -> Result<String> {
    put(text, &format!("<!-- figures: made by `{recipe}` -->"), table)
}

/// Replaces one of several tables of a page: the text between the markers that have its name.
fn with_named_table(text: &str, name: &str, table: &str) -> Result<String> {
    put(text, &format!("<!-- figures: {name}, made by `{RECIPE}` -->"), table)
}

fn put(text: &str, begin: &str, table: &str) -> Result<String> {
    let parts = text.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else { bail!("there is no place for figures: {begin} … {END}") };
    Ok(format!("{before}{begin}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_tables_has_its_place() {
        let of =
            |name: &str, table: &str| format!("<!-- figures: {name}, made by `{RECIPE}` -->\n{table}{END}\n");
        let page = of("a", "1\n") + &of("b", "2\n");
        let filled = with_named_table(&page, "b", "3\n").expect("there is a place");
        assert_eq!(filled, of("a", "1\n") + &of("b", "3\n"));
        assert!(with_named_table(&page, "c", "").is_err());
    }
}
