//! The summary: one HTML page that needs nothing else.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, html};

use crate::campaign::gather::Findings;
use crate::campaign::log::{Failure, Record};
use crate::campaign::plan::Build;
use crate::trouble::first_line;

const STYLE: &str = "
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
code, pre { font: 13px/1.4 ui-monospace, monospace; }
pre { overflow-x: auto; margin: .4rem 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.bad { color: #c22; } .good { color: #282; }
@media (prefers-color-scheme: dark) { .bad { color: #f77; } .good { color: #7d7; } }
";

pub fn render(findings: &Findings) -> String {
    let plan = &findings.charter.plan;
    let (failed, missing) = (findings.failed().count(), findings.missing());
    let title = format!("Campaign: {failed} of {} seeds failed", findings.records.len());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { (title) } style { (maud::PreEscaped(STYLE)) } }
            body {
                h1 { (title) }
                p { code { "./justw campaign " (plan) } }
                (counts(findings, failed, missing))
                @if failed > 0 {
                    h2 { "Causes" }
                    (causes(findings))
                    h2 { "Failing seeds" }
                    (failures(findings))
                }
                h2 { "Run on" }
                (builds(&findings.charter.builds))
            }
        }
    };
    page.into_string()
}

fn counts(findings: &Findings, failed: usize, missing: usize) -> Markup {
    let seconds: f64 = findings.records.values().map(|record| record.seconds).sum();
    html! {
        table {
            tr { th { "passed" } td.number.good { (findings.records.len() - failed) } }
            tr { th { "failed" } td.number.bad[failed > 0] { (failed) } }
            tr { th { "not run" } td.number.bad[missing > 0] { (missing) } }
            tr { th { "machine time" } td.number { (format!("{seconds:.0} s")) } }
        }
    }
}

/// Failures that read the same but for numbers, the most frequent first.
fn causes(findings: &Findings) -> Markup {
    let mut causes: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (record, failure) in failing(findings) {
        causes.entry(cause(&failure.why)).or_default().push(record.seed);
    }
    let mut causes: Vec<_> = causes.into_iter().collect();
    causes.sort_by_key(|(_, seeds)| std::cmp::Reverse(seeds.len()));
    html! {
        table {
            tr { th.number { "seeds" } th { "cause" } th { "first" } }
            @for (cause, seeds) in &causes {
                tr {
                    td.number { (seeds.len()) }
                    td { code { (cause) } }
                    td { a href={ "#seed-" (seeds[0]) } { (seeds[0]) } }
                }
            }
        }
    }
}

fn failing(findings: &Findings) -> impl Iterator<Item = (&Record, &Failure)> {
    findings.failed().filter_map(|record| Some((record, record.failure.as_ref()?)))
}

/// The guest's first complaint if it had any, else what the harness says; numbers are `#`.
fn cause(why: &str) -> String {
    let complaint = why.lines().find_map(|line| line.trim_start_matches([' ', '|']).strip_prefix("error "));
    let line = complaint.unwrap_or_else(|| first_line(why));
    let mut text = String::new();
    let mut digits = false;
    for character in line.chars() {
        let digit = character.is_ascii_digit();
        if !digit {
            text.push(character);
        } else if !digits {
            text.push('#');
        }
        digits = digit;
    }
    text
}

fn failures(findings: &Findings) -> Markup {
    html! {
        table {
            tr { th { "seed" } th { "why, and what replays it" } th { "hash" } th.number { "events" } th.number { "seconds" } th { "build" } }
            @for (record, failure) in failing(findings) {
                tr id={ "seed-" (record.seed) } {
                    td { (record.seed) }
                    td {
                        (why(&failure.why))
                        pre { code { (failure.replay) } }
                        a href={ (failure.kept) "/" } { "what the guest said" }
                    }
                    td { code { (record.hash.as_deref().unwrap_or("-")) } }
                    td.number { (record.events.map_or("-".to_owned(), |events| events.to_string())) }
                    td.number { (format!("{:.1}", record.seconds)) }
                    td { code { (record.build) } }
                }
            }
        }
    }
}

fn why(text: &str) -> Markup {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    html! {
        @if rest.is_empty() { (first) } @else { details { summary { (first) } pre { (rest) } } }
    }
}

fn builds(builds: &[Build]) -> Markup {
    html! {
        @if builds.len() > 1 {
            p.bad { "The shards ran on " (builds.len()) " different builds: they are not one campaign." }
        }
        @for build in builds {
            table {
                tr { th { "build" } td { code { (build.short()) } } }
                tr { th { "commit" } td { code { (build.commit) } } }
                tr { th { "compiler" } td { (build.rustc) } }
                tr { th { "QEMU" } td { (build.qemu) } }
                @for (name, digest) in &build.files {
                    tr { th { (name) } td { code { "sha256:" (digest) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::gather::tests::charter;
    use crate::campaign::log::tests::record;

    fn findings(records: &[Record]) -> Findings {
        let records = records.iter().map(|record| (record.seed, record.clone())).collect();
        Findings { charter: charter(9, "c0ffee"), records }
    }

    #[test]
    fn what_guests_say_is_text_and_nothing_else() {
        let bad = "<script>alert('&')</script>\n  | \"</pre>\"";
        let page = render(&findings(&[record(7, Some(bad))]));
        assert!(!page.contains("<script>") && !page.contains("\"</pre>\""), "{page}");
        assert!(page.contains("&lt;script&gt;alert('&amp;')&lt;/script&gt;"), "{page}");
    }

    #[test]
    fn the_page_has_what_one_needs_to_go_on() {
        let page = render(&findings(&[record(1, None), record(7, Some("lost=1"))]));
        for part in [
            "1 of 2 seeds failed",
            "lost=1",
            "./justw stress --seed 7",
            "c0ffee",
            "rustc 1",
            "--seed 1 --seeds 9",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("http"), "it needs nothing else");
    }

    #[test]
    fn causes_do_not_depend_on_numbers() {
        let [one, other] = [
            "stress-icount-4-7: lost=1\n  | error stress: Lost: seat 3 of 12",
            "x\n  | error stress: Lost: seat 14 of 7",
        ]
        .map(cause);
        assert_eq!(one, "stress: Lost: seat # of #");
        assert_eq!(one, other);
        assert_eq!(cause("no end after 30 s"), "no end after # s");
    }
}
