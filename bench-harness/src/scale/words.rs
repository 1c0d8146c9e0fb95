//! Describes the figures in words: whether a load's cost is flat, where it changes, and what
//! changes with it.

use super::Point;
use crate::lab::Job;

/// Figures that differ by less are the same.
const SAME: f64 = 0.02;
/// Steps larger than this, compared to the figure before, are called a bend.
const BEND: f64 = 0.05;
/// The largest bends are told, so many.
const BENDS: usize = 2;
/// Changes of counters, per operation, that are worth a word.
const WORTH: f64 = 0.02;

/// Describes one load's figures in a sentence or two.
pub fn describe(points: &[Point]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return "no figures".to_owned() };
    let range = if first.cpus == last.cpus {
        format!("on {}", Job::cpus_text(first.cpus))
    } else {
        format!("from {} to {} CPUs", first.cpus, last.cpus)
    };
    let shared = lines(points);
    if is_flat(points, |point| point.instructions) {
        return format!("flat: {:.1} instructions {range}; {shared}", last.instructions);
    }
    let mut text =
        format!("{:.1} to {:.1} instructions {range}; {shared}", first.instructions, last.instructions);
    let mut bends: Vec<(f64, &[Point])> = points
        .windows(2)
        .map(|pair| (pair[1].instructions - pair[0].instructions, pair))
        .filter(|(step, pair)| step.abs() > BEND * pair[0].instructions)
        .collect();
    bends.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    bends.truncate(BENDS);
    bends.sort_by_key(|(_, pair)| pair[0].cpus);
    for (step, pair) in bends {
        let (from, to) = (&pair[0], &pair[1]);
        let why = changes(from, to);
        text += &format!("; bends between {} and {}: {step:+.1} instructions, {why}", from.cpus, to.cpus);
    }
    text
}

fn is_flat(points: &[Point], figure: impl Fn(&Point) -> f64) -> bool {
    let (least, most) =
        points.iter().map(figure).fold((f64::MAX, f64::MIN), |(a, b), f| (a.min(f), b.max(f)));
    most - least <= SAME * least.abs()
}

fn lines(points: &[Point]) -> String {
    let most = points.iter().map(|point| point.lines).fold(0.0, f64::max);
    let last = points.last().map_or(0.0, |point| point.lines);
    if most == 0.0 {
        "no cache line changes hands".to_owned()
    } else if is_flat(points, |point| point.lines) {
        format!("{last:.2} lines change hands, however many CPUs")
    } else {
        let first = points.first().map_or(0.0, |point| point.lines);
        format!("{first:.2} to {last:.2} lines change hands")
    }
}

/// Returns the counters that changed most from one point to the next.
fn changes(before: &Point, after: &Point) -> String {
    let names = before.counted.keys().chain(after.counted.keys());
    let mut changes: Vec<(f64, &str)> =
        names.map(|name| (after.counter(name) - before.counter(name), name.as_str())).collect();
    changes.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()).then(a.1.cmp(b.1)));
    changes.dedup();
    let told: Vec<String> = changes
        .iter()
        .filter(|(change, _)| change.abs() >= WORTH)
        .take(4)
        .map(|(change, name)| format!("{name} {change:+.2}"))
        .collect();
    if told.is_empty() { "no counter tells why".to_owned() } else { format!("with {}", told.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(cpus: u32, instructions: f64, lines: f64, counted: &[(&str, f64)]) -> Point {
        Point {
            load: "x".to_owned(),
            cpus,
            clients: cpus,
            operations: 1000,
            instructions,
            lines,
            counted: counted.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        }
    }

    #[test]
    fn what_stays_is_flat() {
        let text = describe(&[point(1, 154.0, 0.0, &[]), point(32, 154.5, 0.0, &[])]);
        assert_eq!(text, "flat: 154.5 instructions from 1 to 32 CPUs; no cache line changes hands");
    }

    #[test]
    fn one_number_of_cpus_is_no_range() {
        let text = describe(&[point(1, 154.0, 0.0, &[])]);
        assert_eq!(text, "flat: 154.0 instructions on 1 CPU; no cache line changes hands");
    }

    #[test]
    fn a_bend_is_found_and_told_by_what_changed_with_it() {
        let points = [
            point(1, 154.0, 0.0, &[("fast_call", 1.0)]),
            point(2, 760.0, 22.0, &[("express_call", 1.0), ("interrupt", 2.0)]),
            point(4, 765.0, 22.0, &[("express_call", 1.0), ("interrupt", 2.0)]),
        ];
        let text = describe(&points);
        assert!(
            text.starts_with("154.0 to 765.0 instructions from 1 to 4 CPUs; 0.00 to 22.00 lines"),
            "{text}"
        );
        let bend = "bends between 1 and 2: +606.0 instructions, with interrupt +2.00, express_call +1.00, fast_call -1.00";
        assert!(text.ends_with(bend), "{text}");
        assert_eq!(text.matches("bends").count(), 1);
    }

    #[test]
    fn nothing_is_no_figures() {
        assert_eq!(describe(&[]), "no figures");
    }
}
