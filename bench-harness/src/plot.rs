//! The cost of pages in messages against their number: a picture, and the number from which a
//! message with pages is cheaper than copying.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::files;
use crate::picture::{self, Height, Line, Mark, Panel};
use crate::results::{Results, Run};

/// The rows of one line: what stands before the number of pages and behind it, and what the line is
/// called.
const KINDS: &[(&str, &str, &str)] = &[
    ("copy_", "p", "copied by hand"),
    ("remap_move_", "p", "moved"),
    ("remap_move_", "p_2cpu", "moved, seen elsewhere"),
    ("share_ro_", "p", "shared read-only"),
    ("remap_cow_", "p", "copy-on-write"),
];

/// Number of pages and cost.
type Points = Vec<(f64, f64)>;

fn points(run: &Run, before: &str, behind: &str) -> Points {
    let pages = |name: &str| name.strip_prefix(before)?.strip_suffix(behind)?.parse::<u32>().ok();
    let rows = run.rows.iter().filter_map(|row| Some((pages(&row.name)?, row.p50)));
    let mut points: Points = rows.map(|(pages, cost)| (f64::from(pages), cost as f64)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Returns the cost of a number of pages, on the straight lines between the figures.
fn cost_at(points: &Points, pages: f64) -> Option<f64> {
    let pair = points.windows(2).find(|pair| pair[0].0 <= pages && pages <= pair[1].0)?;
    let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
    Some(y0 + (y1 - y0) * (pages - x0) / (x1 - x0))
}

/// Returns the fewest pages for which the other way is cheaper than copying.
fn break_even(copied: &Points, other: &Points) -> Option<u32> {
    (1..=64).find(|pages| {
        let at = f64::from(*pages);
        cost_at(other, at).zip(cost_at(copied, at)).is_some_and(|(one, other)| one < other)
    })
}

/// Draws the rows with pages of every run into `directory`. Returns what was drawn, and from how
/// many pages on copying is dearer.
pub fn draw(results: &Results, directory: &Path) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for run in &results.runs {
        let lines: Vec<(&str, Points)> = KINDS
            .iter()
            .map(|(before, behind, label)| (*label, points(run, before, behind)))
            .filter(|(_, points)| points.len() > 1)
            .collect();
        let Some((_, copied)) = lines.first().filter(|(label, _)| *label == KINDS[0].2) else { continue };
        for (label, other) in &lines[1..] {
            let from = match break_even(copied, other) {
                Some(pages) => format!("cheaper than copying from {pages} pages of 4 KiB on"),
                None => "never cheaper than copying up to 64 pages".to_owned(),
            };
            said.push(format!("{}, {} CPUs: {label}: {from}", run.mode, run.cpus));
        }
        let path = directory.join(format!("pages-{}-{}.svg", run.mode, run.cpus));
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        files::write(&path, picture(run, &lines)?)?;
        said.push(format!("{}: drawn", path.display()));
    }
    Ok(said)
}

fn picture(run: &Run, lines: &[(&str, Points)]) -> Result<String> {
    let line = |(label, points): &(&str, Points)| Line {
        label: (*label).to_owned(),
        marks: points.iter().map(|(at, figure)| Mark::exact(*at, *figure)).collect(),
    };
    let panel = Panel {
        title: format!("Call and reply with pages, {}, {} CPUs: {}", run.mode, run.cpus, run.mode.unit()),
        across: "pages of 4 KiB".to_owned(),
        height: Height::Doubling,
        lines: lines.iter().map(line).collect(),
        shade: None,
    };
    picture::svg(&[panel])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copying_ends_where_the_lines_cross() {
        let copied = vec![(1.0, 700.0), (4.0, 2200.0), (16.0, 8200.0)];
        let moved = vec![(1.0, 1900.0), (4.0, 2000.0), (16.0, 2400.0)];
        assert_eq!(break_even(&copied, &moved), Some(4));
        assert_eq!(cost_at(&copied, 2.0), Some(1200.0));
        assert_eq!(break_even(&moved, &copied), Some(1));
        assert_eq!(break_even(&moved, &vec![(1.0, 5000.0), (16.0, 9000.0)]), None);
    }
}
