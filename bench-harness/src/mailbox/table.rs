//! The ranked table, and one line about the mailbox for each job.

use std::fmt::Write;

use console::style;

use super::read::{Figure, Group};
use super::{OURS, is_ranked, place};

/// Writes one table for each job.
pub fn render(figures: &[Figure], cores: u32) -> String {
    let mut text = String::new();
    let same = |a: &Figure, b: &Figure| (a.group, a.parameter) == (b.group, b.parameter);
    for job in figures.chunk_by(same) {
        let (group, parameter) = (job[0].group, job[0].parameter);
        let ranked = is_ranked(group, parameter, cores);
        let note = if ranked {
            String::new()
        } else {
            format!("; oversubscribed, not ranked: {} threads on {cores} cores", parameter + 1)
        };
        let title = title(group, parameter);
        let _ = writeln!(text, "\n{}{note}", style(&title).bold());
        let _ = writeln!(text, "{:<30}{:>9}  {:<20} {:>9}", "", "median", "range of runs", "best");
        for figure in job {
            let rank = if ranked { place(figure, job).to_string() } else { "–".to_owned() };
            let _ = writeln!(text, "  {rank:>2}  {}", row(figure));
        }
        if ranked {
            let _ = writeln!(text, "  {}", words(job));
        }
    }
    text
}

fn title(group: Group, parameter: u32) -> String {
    let s = if parameter == 1 { "" } else { "s" };
    match group {
        Group::Latency => format!("latency, {parameter} producer{s}: ns a round trip"),
        Group::Throughput => format!("throughput, {parameter} producer{s}: ns a message"),
        Group::Wake => format!("wake, {parameter} producer{s}, one thread: ns a message"),
        Group::Alone => format!("alone, {parameter} message{s} at a time, one thread: ns a message"),
    }
}

fn row(figure: &Figure) -> String {
    let Figure { queue, median, low, high, best, .. } = figure;
    let range = format!("{low:.1} to {high:.1}");
    let rate = match figure.group {
        Group::Throughput => format!("{:>8.1} M/s", 1000.0 / median),
        _ => String::new(),
    };
    format!("{queue:<24} {median:>9.1}  {range:<20} {best:>9.1}{rate}").trim_end().to_owned()
}

/// Names the queues that are ahead of the mailbox, and those that it is ahead of.
fn words(job: &[Figure]) -> String {
    let Some(ours) = job.iter().find(|figure| figure.queue == OURS) else {
        return "the mailbox was not measured".to_owned();
    };
    let names = |which: &dyn Fn(&Figure) -> bool| {
        let names: Vec<&str> = job.iter().filter(|f| which(f)).map(|f| f.queue.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join("; ") }
    };
    let ahead = |figure: &Figure| figure.high < ours.low;
    let behind = |figure: &Figure| ours.high < figure.low;
    let level = |figure: &Figure| figure.queue != OURS && !ahead(figure) && !behind(figure);
    format!(
        "the mailbox is ahead of: {}\n  level with: {}\n  behind: {}",
        names(&behind),
        names(&level),
        names(&ahead)
    )
}

#[cfg(test)]
mod tests {
    use super::super::tests::figure;
    use super::*;

    #[test]
    fn the_table_ranks_and_says_where_it_does_not() {
        let figures = [
            figure(Group::Latency, 1, "ring", (80.0, 90.0, 95.0)),
            figure(Group::Latency, 1, OURS, (100.0, 110.0, 120.0)),
            figure(Group::Latency, 1, "near", (119.0, 121.0, 130.0)),
            figure(Group::Latency, 1, "lock", (300.0, 310.0, 320.0)),
            figure(Group::Throughput, 2, OURS, (10.0, 20.0, 30.0)),
        ];
        let text = render(&figures, 2);
        assert!(
            text.contains("   2  mailbox                      110.0  100.0 to 120.0           100.0\n"),
            "{text}"
        );
        assert!(text.contains("   2  near"), "{text}");
        assert!(text.contains("   4  lock"), "{text}");
        let words = "the mailbox is ahead of: lock\n  level with: near\n  behind: ring\n";
        assert!(text.contains(words), "{text}");
        assert!(text.contains("oversubscribed, not ranked: 3 threads on 2 cores"), "{text}");
        assert!(text.contains("   –  mailbox") && text.contains("50.0 M/s"), "{text}");
    }
}
