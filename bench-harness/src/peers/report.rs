//! Report lines of the root task.
//!
//! ```text
//! row name=… scope=… n=… min=… p50=… p99=… max=… overhead=… what=all the rest of the line
//! failed row=… reason=… value=…
//! done rows=…
//! ```

use anyhow::{Result, bail};

use super::results::Row;
use crate::trouble::Trouble;

/// Reads the rows from the output of the serial port.
///
/// Errors: the root task reported a failure, stopped before its last line, or counts other rows
/// than came.
pub fn read(serial: &str) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in serial.lines() {
        if let Some(fields) = line.strip_prefix("row ") {
            let row = read_row(fields)?;
            if rows.iter().any(|other| other.name == row.name) {
                bail!("the root task reported the row {} twice", row.name);
            }
            rows.push(row);
        } else if let Some(reason) = line.strip_prefix("failed ") {
            return Err(Trouble::CheckFailed(format!("the root task failed: {reason}")).into());
        } else if let Some(fields) = line.strip_prefix("done ") {
            let told = number(fields, "rows")?;
            if told != rows.len() as u64 {
                bail!("the root task measured {told} rows, of which {} arrived", rows.len());
            }
            rows.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(rows);
        }
    }
    let last = serial.lines().last().unwrap_or("nothing");
    Err(Trouble::GuestDied(format!("the root task stopped after {} rows; it said last: {last}", rows.len()))
        .into())
}

fn read_row(fields: &str) -> Result<Row> {
    let Some((figures, what)) = fields.split_once(" what=") else {
        bail!("a row without explanation (what=): {fields}");
    };
    let scope = word(figures, "scope")?;
    if !["operation", "one-way", "round-trip"].contains(&scope) {
        bail!("a row with an unknown scope: {fields}");
    }
    Ok(Row {
        name: word(figures, "name")?.to_owned(),
        what: what.to_owned(),
        scope: scope.to_owned(),
        n: number(figures, "n")?,
        min: number(figures, "min")?,
        p50: number(figures, "p50")?,
        p99: number(figures, "p99")?,
        max: number(figures, "max")?,
    })
}

fn word<'a>(fields: &'a str, name: &str) -> Result<&'a str> {
    let found = fields.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    found.ok_or_else(|| anyhow::anyhow!("a report without {name}=: {fields}"))
}

fn number(fields: &str, name: &str) -> Result<u64> {
    let text = word(fields, name)?;
    text.parse().map_err(|_| anyhow::anyhow!("{name}={text} is not a number: {fields}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &str = "Booting all finished\n\
        row name=yield scope=operation n=1000 min=1 p50=2 p99=3 max=4 overhead=6 what=Yield, n=1 alone\n\
        row name=call scope=round-trip n=10 min=5 p50=6 p99=7 max=8 overhead=6 what=Call\n";

    #[test]
    fn rows_are_read_and_sorted() {
        let rows = read(&format!("{ROWS}done rows=2\n")).expect("two rows");
        assert_eq!(rows[0].name, "call");
        let row = &rows[1];
        assert_eq!((row.n, row.min, row.p50, row.p99, row.max), (1000, 1, 2, 3, 4));
        assert_eq!((row.scope.as_str(), row.what.as_str()), ("operation", "Yield, n=1 alone"));
    }

    #[test]
    fn a_run_without_end_has_failed() {
        let error = read(ROWS).expect_err("no end").to_string();
        assert!(error.contains("after 2 rows; it said last: row name=call"), "{error}");
        assert!(read("").expect_err("nothing").to_string().contains("nothing"));
    }

    #[test]
    fn a_failure_of_the_root_task_is_passed_on() {
        let error = read("failed row=yield reason=wrong_words value=3\ndone rows=0\n").expect_err("failed");
        assert!(error.to_string().contains("row=yield reason=wrong_words"), "{error}");
    }

    #[test]
    fn what_is_no_row_is_refused() {
        for line in [
            "row name=a scope=operation n=1 min=1 p50=1 p99=1 max=1",
            "row name=a scope=sideways n=1 min=1 p50=1 p99=1 max=1 what=x",
            "row name=a scope=operation n=1 min=one p50=1 p99=1 max=1 what=x",
            "row scope=operation n=1 min=1 p50=1 p99=1 max=1 what=x",
        ] {
            assert!(read(&format!("{line}\ndone rows=1\n")).is_err(), "{line}");
        }
        assert!(read(&format!("{ROWS}done rows=3\n")).is_err(), "a row is missing");
        assert!(read(&format!("{ROWS}{ROWS}done rows=4\n")).is_err(), "a row came twice");
    }
}
