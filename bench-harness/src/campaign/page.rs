//! The summary: one HTML page without other files.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, html};

use crate::campaign::gather::Findings;
use crate::campaign::log::{Failure, Record};
use crate::campaign::plan::Build;
use crate::trouble::first_line;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --ground: #8881; --bad: #c22; --good: #272; }
@media (prefers-color-scheme: dark) { :root { --bad: #f88; --good: #7d7; } }
* { box-sizing: border-box; }
body { font: 16px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; } h2 { font-size: 1.2rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; overflow-wrap: normal; }
code, pre { font: 14px/1.4 ui-monospace, monospace; }
pre { white-space: pre-wrap; background: var(--ground); border-radius: 4px; padding: .5rem .6rem; margin: .2rem 0 .8rem; }
pre.command { user-select: all; -webkit-user-select: all; cursor: copy; }
summary { cursor: pointer; }
article { border: 1px solid var(--line); border-radius: 6px; padding: .2rem 1rem .8rem; margin: 1rem 0; }
article:target { border-color: var(--bad); }
article h3 { font-size: 1.05rem; margin: .6rem 0; }
.facts, .does { font-size: .9rem; margin: .4rem 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
.bad { color: var(--bad); } .good { color: var(--good); }
";

pub fn render(findings: &Findings) -> String {
    let plan = &findings.charter.plan;
    let (failed, missing) = (findings.failed().count(), findings.missing());
    let title = format!("Campaign: {failed} of {} seeds failed", findings.records.len());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // Without this a telephone lays the page out for a desk, and makes it small.
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (command(&format!("./justw campaign {plan}")))
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

/// Groups failures that differ only in numbers, the most frequent first.
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

/// Returns the guest's first complaint, or else what the harness says, with `#` for each number.
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

/// Makes a box for each failing seed: why it fails, how to see it again, and what is known about
/// it.
fn failures(findings: &Findings) -> Markup {
    html! {
        p.does { "A click on a command selects all of it." }
        @for (record, failure) in failing(findings) {
            article id={ "seed-" (record.seed) } {
                h3 { "Seed " (record.seed) }
                (why(&failure.why))
                p.does { "Run it again:" }
                (command(&failure.replay))
                @if let Some(gdb) = &failure.gdb {
                    p.does { "Look at it in gdb, " (gdb.stops) ":" }
                    (command(&gdb.command))
                    @if let Some(bisect) = &gdb.bisect {
                        p.does { "Find the first event after which something is wrong:" }
                        (command(bisect))
                    }
                }
                p.facts {
                    a href={ (failure.kept) "/" } { "What the guest said" }
                    " · " (format!("{:.1}", record.seconds)) " s"
                    @if let Some(events) = record.events { " · " (events) " events" }
                    @if let Some(hash) = &record.hash { " · hash " code { (hash) } }
                    " · build " code { (record.build) }
                }
            }
        }
    }
}

/// Makes a box with a command that one click selects.
fn command(line: &str) -> Markup {
    html! { pre.command { code { (line) } } }
}

fn why(text: &str) -> Markup {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    html! {
        @if rest.is_empty() { p { (first) } } @else { details { summary { (first) } pre { (rest) } } }
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
    fn beside_each_failing_seed_are_the_commands_for_it() {
        let mut old = record(8, Some("lost=2"));
        old.failure.as_mut().expect("a failure").gdb = None;
        let page = render(&findings(&[record(5, None), record(7, Some("lost=1")), old]));
        let of_seed = |seed: u32| {
            let (_, rest) = page.split_once(&format!("<article id=\"seed-{seed}\">")).expect("its box");
            rest.split_once("</article>").expect("the end of its box").0
        };
        let command = |line: &str| format!("<pre class=\"command\"><code>{line}</code></pre>");
        for line in [
            "./justw stress --seed 7",
            "./justw gdb --stress --seed 7 --stop-at 9",
            "./justw gdb --bisect --seed 7",
        ] {
            assert!(of_seed(7).contains(&command(line)), "{line}: {page}");
        }
        assert!(of_seed(8).contains(&command("./justw stress --seed 8")), "{page}");
        assert!(!of_seed(8).contains("gdb"), "a log of earlier versions has no such command: {page}");
        assert!(!page.contains("seed-5"), "it passed: {page}");
    }

    #[test]
    fn the_page_fits_a_telephone() {
        let page = render(&findings(&[record(7, Some("lost=1"))]));
        assert!(page.contains("<meta name=\"viewport\" content=\"width=device-width"), "{page}");
        assert!(page.contains("overflow-wrap: anywhere") && page.contains("white-space: pre-wrap"), "{page}");
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
