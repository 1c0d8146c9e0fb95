//! Pictures of figures as SVG: panels one below the other, with lines over a number that grows by
//! doubling (CPUs, producers).

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

const COLOURS: [RGBColor; 7] = [
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(90, 90, 90),
];

/// Width of the legend.
const LEGEND: i32 = 170;

/// How a panel's figures are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Height {
    /// Evenly, from zero.
    FromZero,
    /// By doubling, from the smallest figure, which ought to be more than zero.
    Doubling,
}

/// One figure, and the range in which it lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mark {
    pub at: f64,
    pub figure: f64,
    pub range: Option<(f64, f64)>,
}

impl Mark {
    /// A figure that is what it is.
    pub fn exact(at: f64, figure: f64) -> Mark {
        Mark { at, figure, range: None }
    }

    /// The lowest and the highest point that is drawn.
    fn ends(&self) -> (f64, f64) {
        let (one, other) = self.range.unwrap_or((self.figure, self.figure));
        (one.min(other), one.max(other))
    }
}

#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    pub marks: Vec<Mark>,
}

#[derive(Clone, Debug)]
pub struct Panel {
    pub title: String,
    /// What is counted from left to right.
    pub across: String,
    pub height: Height,
    pub lines: Vec<Line>,
    /// From there on the ground is grey, and says so.
    pub shade: Option<(f64, String)>,
}

/// The panels, one below the other.
pub fn svg(size: (u32, u32), panels: &[Panel]) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(panels) {
            let (panel_area, legend) = area.split_horizontally(size.0 as i32 - LEGEND);
            panel.draw(&panel_area)?;
            panel.legend(&legend)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, Y>>;

impl Panel {
    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.lines.iter().flat_map(|line| &line.marks)
    }

    fn draw(&self, area: &Area<'_>) -> Result<()> {
        let most = self.marks().map(|mark| mark.at).fold(2.0, f64::max);
        let least = self.marks().map(|mark| mark.at).fold(most, f64::min);
        let across = (least..most).log_scale().base(2.0);
        let top = self.marks().map(|mark| mark.ends().1).fold(0.0, f64::max) * 1.1;
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(&self.title, ("sans-serif", 16))
            .margin(12)
            .x_label_area_size(34)
            .y_label_area_size(56);
        match self.height {
            Height::FromZero => {
                let chart = builder.build_cartesian_2d(across, 0.0..top.max(1.0)).map_err(failed)?;
                self.fill(chart, most, (0.0, top.max(1.0)))
            }
            Height::Doubling => {
                let positive = self.marks().map(|mark| mark.ends().0).filter(|low| *low > 0.0);
                let lowest = positive.fold(top.max(1.0), f64::min);
                let (bottom, top) = (lowest / 1.1, top.max(lowest * 2.0));
                let height = (bottom..top).log_scale().base(2.0);
                self.fill(builder.build_cartesian_2d(across, height).map_err(failed)?, most, (bottom, top))
            }
        }
    }

    /// Everything inside the axes, which reach to `right` and from `bottom` to `top`.
    fn fill<'a, 'b: 'a, Y>(
        &self,
        mut chart: Chart<'a, 'b, Y>,
        right: f64,
        (bottom, top): (f64, f64),
    ) -> Result<()>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        if let Some((from, what)) = self.shade.as_ref().filter(|(from, _)| *from < right) {
            let ground = Rectangle::new([(*from, bottom), (right, top)], BLACK.mix(0.07).filled());
            let word = Text::new(what.clone(), (*from, top), ("sans-serif", 12).into_font().color(&BLACK));
            chart.draw_series([ground]).map_err(failed)?;
            chart.draw_series([word]).map_err(failed)?;
        }
        let whole = |at: &f64| format!("{at:.0}");
        let short = |at: &f64| if *at < 1.0 { format!("{at:.2}") } else { whole(at) };
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&self.across).x_label_formatter(&whole);
        if self.height == Height::Doubling {
            mesh.y_label_formatter(&short);
        }
        mesh.draw().map_err(failed)?;
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            let at: Vec<(f64, f64)> = line.marks.iter().map(|mark| (mark.at, mark.figure)).collect();
            chart.draw_series(LineSeries::new(at.clone(), colour.stroke_width(2))).map_err(failed)?;
            chart.draw_series(at.iter().map(|at| Circle::new(*at, 3, colour.filled()))).map_err(failed)?;
            let ranges = line.marks.iter().filter_map(|mark| Some((mark.at, mark.range?)));
            let bar = |(at, (low, high))| PathElement::new([(at, low), (at, high)], colour.stroke_width(1));
            chart.draw_series(ranges.map(bar)).map_err(failed)?;
        }
        Ok(())
    }

    /// Which line is which, beside the panel.
    fn legend(&self, area: &Area<'_>) -> Result<()> {
        for (number, (line, colour)) in self.lines.iter().zip(COLOURS).enumerate() {
            let y = 60 + 18 * number as i32;
            area.draw(&PathElement::new([(0, y), (16, y)], colour.stroke_width(2))).map_err(failed)?;
            let label = Text::new(line.label.clone(), (22, y - 6), ("sans-serif", 12));
            area.draw(&label).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(height: Height) -> Panel {
        let range = Some((90.0, 130.0));
        let line = |label: &str| Line {
            label: label.to_owned(),
            marks: vec![Mark { at: 1.0, figure: 100.0, range }, Mark::exact(4.0, 3000.0)],
        };
        Panel {
            title: "figures".to_owned(),
            across: "things".to_owned(),
            height,
            lines: vec![line("one"), line("other")],
            shade: Some((2.0, "too many".to_owned())),
        }
    }

    #[test]
    fn a_picture_has_every_line_in_every_panel() {
        let text = svg((600, 600), &[panel(Height::FromZero), panel(Height::Doubling)]).expect("it draws");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert_eq!((text.matches("\none\n").count(), text.matches("\nother\n").count()), (2, 2), "{text}");
        assert_eq!(text.matches("<circle").count(), 2 * 2 * 2);
        assert_eq!(text.matches("\ntoo many\n").count(), 2);
    }

    #[test]
    fn ground_is_grey_only_where_there_is_something() {
        let mut panel = panel(Height::Doubling);
        panel.shade = Some((4.0, "too many".to_owned()));
        assert!(!svg((600, 300), &[panel]).expect("it draws").contains("too many"));
    }

    #[test]
    fn one_mark_is_a_picture_too() {
        for height in [Height::FromZero, Height::Doubling] {
            let mut panel = panel(height);
            panel.lines.truncate(1);
            panel.lines[0].marks = vec![Mark::exact(1.0, 0.0)];
            assert!(svg((600, 300), &[panel]).is_ok());
        }
    }
}
