//! The table in the book, from a result file.

use std::fmt::Write;

use super::results::{Results, Row};
use crate::figures::grouped;
use crate::lab::Job;

/// What makes the table.
pub const RECIPE: &str = "./justw peers table";

/// Returns all rows of all configurations as Markdown: medians, and the maximum where it is another
/// figure.
pub fn render(results: &Results) -> String {
    let mut text = String::from("| row | scope |");
    for measured in &results.configurations {
        let _ = write!(text, " {} |", measured.name);
    }
    text += " what is measured |\n|---|---|";
    text += &"---:|".repeat(results.configurations.len());
    text += "---|\n";
    for row in names(results) {
        let _ = write!(text, "| `{}` | {} |", row.name, row.scope);
        for measured in &results.configurations {
            let found = measured.rows.iter().find(|other| other.name == row.name);
            let _ = write!(text, " {} |", found.map_or_else(|| "–".to_owned(), figure));
        }
        let _ = writeln!(text, " {} |", row.what.replace('|', "\\|"));
    }
    let host = &results.host;
    let _ = writeln!(
        text,
        "\n{} {}, commit `{}`. {}, QEMU {}, `-cpu {}`.\n",
        results.name, results.version, results.commit, host.compiler, host.qemu, host.guest_cpu
    );
    for measured in &results.configurations {
        let settings: Vec<String> =
            measured.settings.iter().map(|(name, value)| format!("`{name}={value}`")).collect();
        let cpus = Job::cpus_text(measured.cpus);
        let _ = writeln!(text, "- {}, {cpus}: {}", measured.name, settings.join(" "));
    }
    text
}

/// Returns one row of each name, in the order of names.
fn names(results: &Results) -> Vec<&Row> {
    let mut rows: Vec<&Row> = results.configurations.iter().flat_map(|measured| &measured.rows).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows.dedup_by(|a, b| a.name == b.name);
    rows
}

fn figure(row: &Row) -> String {
    let median = grouped(row.p50);
    if (row.min, row.max) == (row.p50, row.p50) {
        return median;
    }
    format!("{median} ({}–{})", grouped(row.min), grouped(row.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::results::tests::results;

    #[test]
    fn each_row_stands_once_with_all_configurations() {
        let table = render(&results());
        let what = "a \"thing\" \\| more |";
        assert!(table.contains("| row | scope | uniprocessor | smp | what is measured |"), "{table}");
        assert!(table.contains(&format!("| `call` | operation | 1,414 | 583 | {what}")), "{table}");
        assert!(table.contains(&format!("| `cross` | operation | – | 2,775 | {what}")), "{table}");
        assert_eq!(table.matches("| `call` |").count(), 1);
        assert!(table.contains("- uniprocessor, 1 CPU: `KernelFastpath=ON`"), "{table}");
        assert!(table.contains("- smp, 2 CPUs: `KernelFastpath=ON`"), "{table}");
    }

    #[test]
    fn samples_that_differ_are_shown() {
        let mut results = results();
        results.configurations[0].rows[0].max = 2000;
        assert!(render(&results).contains("| 1,414 (1,414–2,000) | 583 |"));
    }
}
