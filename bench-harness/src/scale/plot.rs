//! The picture: work, interrupts and shared lines of one operation over the number of CPUs.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{Point, Series};

const SIZE: (u32, u32) = (760, 1020);
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
];

/// Three panels, one below the other.
pub fn svg(series: &[Series]) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let panels = root.split_evenly((3, 1));
        panel(&panels[0], series, "instructions per operation, all CPUs together", |p| p.instructions)?;
        panel(&panels[1], series, "interrupts per operation", Point::interrupts)?;
        panel(&panels[2], series, "cache lines that change hands per operation", |p| p.lines)?;
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn panel(area: &Area<'_>, series: &[Series], title: &str, figure: impl Fn(&Point) -> f64) -> Result<()> {
    let all = || series.iter().flat_map(|series| &series.points);
    let cpus = all().map(|point| point.cpus).max().unwrap_or(1).max(2);
    let least = all().map(|point| point.cpus).min().unwrap_or(1);
    let top = all().map(&figure).fold(0.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d((f64::from(least)..f64::from(cpus)).log_scale().base(2.0), 0.0..top.max(1.0))
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("CPUs")
        .x_label_formatter(&|cpus| format!("{cpus:.0}"))
        .draw()
        .map_err(failed)?;
    for (Series { load, points, .. }, colour) in series.iter().zip(COLOURS) {
        let at: Vec<(f64, f64)> = points.iter().map(|point| (f64::from(point.cpus), figure(point))).collect();
        chart
            .draw_series(LineSeries::new(at.clone(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(load.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        chart.draw_series(at.iter().map(|at| Circle::new(*at, 3, colour.filled()))).map_err(failed)?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(SeriesLabelPosition::MiddleRight)
        .draw()
        .map_err(failed)
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
        assert_eq!(text.matches("<circle").count(), 2 * 2 * 3);
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
