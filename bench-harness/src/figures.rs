//! The table of figures in the README, out of the last bench run.
//!
//! Aurora's are read from the result file; seL4's were measured in the same mode (QEMU 7.2, icount, one
//! CPU unless the row says two, stubs included, empty measurement subtracted) and stand here.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What makes the README's table.
pub const RECIPE: &str = "./justw figures";
/// Where a table ends in a page.
const END: &str = "<!-- end of figures -->";

/// A row of the table: which row of which number of CPUs, what it is, and seL4's figure for the same.
struct Line {
    row: &'static str,
    cpus: u64,
    what: &'static str,
    peer: &'static str,
}

const fn line(row: &'static str, cpus: u64, what: &'static str, peer: &'static str) -> Line {
    Line { row, cpus, what, peer }
}

const LINES: &[Line] = &[
    line(
        "call_reply_cross_as",
        1,
        "call and reply, two address spaces, 4 words",
        "449 (uniprocessor kernel)",
    ),
    line("call_reply_same_as", 1, "the same in one address space", "445"),
    line("call_reply_cross_as_vec", 1, "the same in two, both with vector state", "435 (no words)"),
    line("call_reply_cross_as_nofast", 1, "the same without the fastpath", "–"),
    line("call_reply_64w", 1, "call and reply, 4 + 64 words", "1,572 (10 words)"),
    line("fault_null", 1, "fault to a handler in another process, and back", "1,212"),
    line("fault_roundtrip", 1, "the same, with a page mapped", "1,947"),
    line("map_unmap_1p", 1, "map a page and unmap it", "1,302"),
    line("map_unmap_512p", 1, "the same with 512 pages", "–"),
    line("remap_move_1p", 1, "call that moves a page, and reply", "–"),
    line("remap_move_512p", 1, "the same with 512 pages of 4 KiB", "662,016 (unmap 575 + map 718 a page)"),
    line("share_ro_512p", 1, "call that shares 512 pages read-only, and reply", "–"),
    line("copy_512p", 1, "512 pages copied by hand, call and reply", "–"),
    line("null_syscall", 1, "null system call", "89"),
    line("yield_to", 1, "yield to a task, one switch", "262 (half of two)"),
    line("send_event", 1, "send 4 words into an event pool", "700 (a send on its slow path)"),
    line("send_event_wake", 1, "the same, which wakes the reader", "–"),
    line("broadcast_64", 1, "one message into the pools of 64 processes", "–"),
    line("grant_cap_in_call", 1, "call with a capability, and reply", "–"),
    line("cap_copy", 1, "copy a capability", "804"),
    line("cap_delete", 1, "delete a copy", "706"),
    line("retype_notification", 1, "make an object", "815"),
    line("notify_no_waiter", 1, "notify, nobody waits", "370"),
    line("notify_wait_same_cpu", 1, "notify and wait, there and back", "1,952"),
    line("call_reply_cross_cpu_polled", 2, "call and reply across CPUs, idle CPUs poll", "–"),
    line("call_reply_cross_cpu_halted", 2, "the same, idle CPUs halt", "2,777"),
    line("call_reply_cross_cpu_busy", 2, "the same, the target's CPU runs user code", "–"),
    line("shootdown_2cpu", 2, "unmap a page that another CPU may remember", "–"),
];

/// The table, as Markdown, from the text of a result file.
pub fn render(results: &str) -> Result<String> {
    let results: Value = serde_json::from_str(results).context("the result file is not JSON")?;
    let mut table = String::from("| row | | Aurora | seL4 |\n|---|---|---:|---:|\n");
    for line in LINES {
        let Some(median) = median(&results, line) else { continue };
        let _ = writeln!(table, "| `{}` | {} | {median} | {} |", line.row, line.what, line.peer);
    }
    let host = |key: &str| results["host"][key].as_str().unwrap_or("?").to_owned();
    let _ =
        writeln!(table, "\nAurora: QEMU {}, `-cpu {}`, {}.", host("qemu"), host("guest_cpu"), host("rustc"));
    Ok(table)
}

fn median(results: &Value, line: &Line) -> Option<String> {
    let runs = results["runs"].as_array()?;
    let run = runs.iter().find(|run| run["mode"] == "icount" && run["cpus"] == line.cpus)?;
    let row = run["rows"].as_array()?.iter().find(|row| row["name"] == line.row)?;
    row["p50"].as_u64().map(grouped)
}

/// Digits in groups of three.
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
    let begin = format!("<!-- figures: made by `{recipe}` -->");
    let text = std::fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else { bail!("{} has no place for figures", page.display()) };
    std::fs::write(page, format!("{before}{begin}\n{table}{END}{after}"))
        .with_context(|| format!("writing {}", page.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = r#"{"host":{"qemu":"7.2","guest_cpu":"max","rustc":"rustc 1"},"runs":[
        {"mode":"tcg","cpus":1,"rows":[{"name":"null_syscall","p50":1}]},
        {"mode":"icount","cpus":1,"rows":[{"name":"null_syscall","p50":29},{"name":"call_reply_64w","p50":1296}]}]}"#;

    #[test]
    fn the_table_has_what_was_measured_under_icount() {
        let table = render(RESULTS).expect("renders");
        assert!(table.contains("| `null_syscall` | null system call | 29 | 89 |"), "{table}");
        assert!(table.contains("| 1,296 | 1,572 (10 words) |"), "{table}");
        assert!(!table.contains("yield_to"), "{table}");
    }
}
