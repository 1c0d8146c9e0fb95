//! The picture: work, interrupts and shared lines of one operation over the number of CPUs.

use anyhow::Result;

use super::{Point, Series};
use crate::picture::{self, Height, Line, Mark, Panel};

/// Draws three panels, one below the other.
pub fn svg(series: &[Series]) -> Result<String> {
    let panels = [
        panel(series, "instructions per operation, all CPUs together", |p| p.instructions),
        panel(series, "interrupts per operation", Point::interrupts),
        panel(series, "cache lines that change hands per operation", |p| p.lines),
    ];
    picture::svg(&panels)
}

fn panel(series: &[Series], title: &str, figure: impl Fn(&Point) -> f64) -> Panel {
    let mark = |point: &Point| Mark::exact(f64::from(point.cpus), figure(point));
    let line = |series: &Series| Line {
        label: series.load.clone(),
        marks: series.points.iter().map(mark).collect(),
    };
    Panel {
        title: title.to_owned(),
        across: "CPUs".to_owned(),
        height: Height::FromZero,
        lines: series.iter().map(line).collect(),
        shade: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_load_in_every_panel() {
        let point = |load: &str, cpus| Point {
            load: load.to_owned(),
            cpus,
            clients: cpus,
            operations: 1,
            instructions: 100.0,
            lines: 0.0,
            counted: Default::default(),
        };
        let series: Vec<Series> = ["one", "other"]
            .map(|load| Series {
                load: load.to_owned(),
                points: vec![point(load, 1), point(load, 32)],
                words: String::new(),
            })
            .into();
        let text = svg(&series).expect("it draws");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert_eq!(text.matches("\none\n").count(), 3, "{text}");
        // Two marks and one in the legend, of the first line; the other's are squares.
        assert_eq!(text.matches("<circle").count(), 3 * 3);
    }

    #[test]
    fn one_point_is_a_picture_too() {
        let point = Point {
            load: "one".to_owned(),
            cpus: 1,
            clients: 1,
            operations: 1,
            instructions: 0.0,
            lines: 0.0,
            counted: Default::default(),
        };
        let series = [Series { load: "one".to_owned(), points: vec![point], words: String::new() }];
        assert!(svg(&series).is_ok());
    }
}
