//! The figures as tables of the book: a row for each queue, a column for each job.

use std::fmt::Write;

use super::read::{Figure, Group};
use super::{OURS, is_ranked, place};

/// Writes what is ranked, then what is not.
pub fn render(figures: &[Figure], cores: u32) -> String {
    let same = |a: &Figure, b: &Figure| (a.group, a.parameter) == (b.group, b.parameter);
    let is_of_ranked = |job: &&[Figure]| is_ranked(job[0].group, job[0].parameter, cores);
    let (ranked, others): (Vec<&[Figure]>, Vec<&[Figure]>) = figures.chunk_by(same).partition(is_of_ranked);
    let mut text = String::new();
    for (heading, jobs, places) in [
        ("Place, median, range and best sample in ns", ranked, true),
        ("Oversubscribed: median, range and best sample in ns", others, false),
    ] {
        // One for each group: wide tables are hard to read.
        for jobs in jobs.chunk_by(|a, b| a[0].group == b[0].group) {
            let _ = writeln!(text, "{heading}:\n\n{}", table(jobs, places));
        }
    }
    text
}

/// Writes one table of jobs.
fn table(jobs: &[&[Figure]], places: bool) -> String {
    let mut text = String::from("| |");
    for job in jobs {
        let _ = write!(text, " {} |", title(job[0].group, job[0].parameter));
    }
    text += "\n|---|";
    text += &"---:|".repeat(jobs.len());
    text.push('\n');
    for queue in queues(jobs) {
        let _ = write!(text, "| {queue} |");
        for job in jobs {
            let figure = job.iter().find(|figure| figure.queue == queue);
            let _ =
                write!(text, " {} |", figure.map_or_else(String::new, |figure| cell(figure, job, places)));
        }
        text.push('\n');
    }
    text
}

/// Returns the mailbox, then the other queues by name.
fn queues<'a>(jobs: &[&'a [Figure]]) -> Vec<&'a str> {
    let mut queues: Vec<&str> = jobs.iter().flat_map(|job| job.iter().map(|f| f.queue.as_str())).collect();
    queues.sort_by_key(|queue| (*queue != OURS, *queue));
    queues.dedup();
    queues
}

fn cell(figure: &Figure, job: &[Figure], places: bool) -> String {
    let Figure { median, low, high, best, .. } = figure;
    let rank = if places { format!("**{}.** ", place(figure, job)) } else { String::new() };
    format!("{rank}{median:.1} ({low:.1}–{high:.1}; {best:.1})")
}

fn title(group: Group, parameter: u32) -> String {
    let s = if parameter == 1 { "" } else { "s" };
    match group {
        Group::Latency => format!("latency, {parameter} producer{s}"),
        Group::Throughput => format!("throughput, {parameter} producer{s}"),
        Group::Wake => format!("wake, {parameter} producer{s}"),
        Group::Alone => format!("alone, {parameter} at a time"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::figure;
    use super::*;

    #[test]
    fn what_is_not_ranked_has_no_places() {
        let figures = [
            figure(Group::Latency, 1, "other", (80.0, 90.0, 95.0)),
            figure(Group::Latency, 1, OURS, (100.0, 110.0, 120.0)),
            figure(Group::Latency, 2, OURS, (300.0, 310.0, 320.0)),
        ];
        let text = render(&figures, 2);
        let ranked = "| | latency, 1 producer |\n|---|---:|\n| mailbox | **2.** 110.0 (100.0–120.0; 100.0) |\n\
                      | other | **1.** 90.0 (80.0–95.0; 80.0) |\n";
        assert!(text.contains(ranked), "{text}");
        let rest = text.split_once("Oversubscribed").expect("a second table").1;
        assert!(rest.contains("| mailbox | 310.0 (300.0–320.0; 300.0) |") && !rest.contains("**"), "{text}");
    }
}
