//! Pictures of figures as SVG: panels one below the other, with lines over a number that grows by
//! doubling (CPUs, producers).
//!
//! A picture is narrow enough to be readable on a phone. The legend is below the lines and covers
//! none of them. Lines differ in colour and in the shape of their marks, and no line hides another:
//! see [`spread`].

mod spread;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use spread::{Pixel, RADIUS, Track};

const COLOURS: [RGBColor; 7] = [
    RGBColor(31, 119, 180),
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(90, 90, 90),
];

/// The width of the whole picture.
const WIDTH: u32 = 520;
/// A panel's height without its legend.
const HEIGHT: i32 = 330;
/// A line of the legend.
const ROW: i32 = 24;
/// The plotters' size of a font of 16 pixels.
const FONT: i32 = 20;
const SMALL_FONT: i32 = 17;
/// What the legend says where lines run together.
const TURNS: &str = "Lines that coincide are dashed in turns, their marks side by side.";

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
    /// Makes an exact figure, without a range.
    pub fn exact(at: f64, figure: f64) -> Mark {
        Mark { at, figure, range: None }
    }

    /// Returns the lowest and the highest point that is drawn.
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

/// Draws the panels, one below the other.
pub fn svg(panels: &[Panel]) -> Result<String> {
    let height: i32 = panels.iter().map(|panel| HEIGHT + panel.legend_height()).sum();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height as u32)).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let mut rest = root.clone();
        for panel in panels {
            let (area, below) = rest.split_vertically(HEIGHT);
            let (legend, below) = below.split_vertically(panel.legend_height());
            let is_dashed = panel.draw(&area)?;
            panel.legend(&legend, is_dashed)?;
            rest = below;
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

/// What is drawn within the axes, in pixels of the panel.
#[derive(Default)]
struct Inside {
    tracks: Vec<Track>,
    /// From where to where the ranges of each line's marks reach.
    ranges: Vec<Vec<Option<(i32, i32)>>>,
}

impl Panel {
    fn marks(&self) -> impl Iterator<Item = &Mark> {
        self.lines.iter().flat_map(|line| &line.marks)
    }

    /// Returns whether lines are dashed because they run together.
    fn draw(&self, area: &Area<'_>) -> Result<bool> {
        let most = self.marks().map(|mark| mark.at).fold(2.0, f64::max);
        let least = self.marks().map(|mark| mark.at).fold(most, f64::min);
        // Room for marks that stand side by side.
        let room = (most / least).max(2.0).powf(0.08);
        let across = (least / room..most * room).log_scale().base(2.0);
        let top = self.marks().map(|mark| mark.ends().1).fold(0.0, f64::max) * 1.1;
        let mut builder = ChartBuilder::on(area);
        builder
            .caption(&self.title, ("sans-serif", FONT))
            .margin(8)
            .margin_right(16)
            .x_label_area_size(46)
            .y_label_area_size(52);
        let inside = match self.height {
            Height::FromZero => {
                let (bottom, top) = (-0.03 * top.max(1.0), top.max(1.0));
                let chart = builder.build_cartesian_2d(across, bottom..top).map_err(failed)?;
                self.axes(chart, area, most * room, (bottom, top))?
            }
            Height::Doubling => {
                let positive = self.marks().map(|mark| mark.ends().0).filter(|low| *low > 0.0);
                let lowest = positive.fold(top.max(1.0), f64::min);
                let (bottom, top) = (lowest / 1.1, top.max(lowest * 2.0));
                let height = (bottom..top).log_scale().base(2.0);
                let chart = builder.build_cartesian_2d(across, height).map_err(failed)?;
                self.axes(chart, area, most * room, (bottom, top))?
            }
        };
        self.fill(area, &inside)?;
        Ok(spread::has_dashes(&inside.tracks))
    }

    /// Draws the axes, which reach to `right` and from `bottom` to `top`, and their ground.
    fn axes<'a, 'b: 'a, Y>(
        &self,
        mut chart: Chart<'a, 'b, Y>,
        area: &Area<'_>,
        right: f64,
        (bottom, top): (f64, f64),
    ) -> Result<Inside>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        if let Some((from, what)) =
            self.shade.as_ref().filter(|(from, _)| self.marks().any(|mark| mark.at > *from))
        {
            let ground = Rectangle::new([(*from, bottom), (right, top)], BLACK.mix(0.07).filled());
            let font = ("sans-serif", SMALL_FONT).into_font().color(&BLACK);
            let word = Text::new(what.clone(), (*from, top), font);
            chart.draw_series([ground]).map_err(failed)?;
            chart.draw_series([word]).map_err(failed)?;
        }
        let whole = |at: &f64| format!("{at:.0}");
        let short = |at: &f64| match at {
            _ if at.fract() == 0.0 => whole(at),
            _ if *at < 1.0 && self.height == Height::Doubling => format!("{at:.2}"),
            _ => format!("{at:.1}"),
        };
        let mut mesh = chart.configure_mesh();
        mesh.x_desc(&self.across).x_label_formatter(&whole).y_label_formatter(&short);
        mesh.label_style(("sans-serif", SMALL_FONT)).axis_desc_style(("sans-serif", SMALL_FONT));
        mesh.bold_line_style(BLACK.mix(0.15)).light_line_style(TRANSPARENT).y_labels(6);
        mesh.draw().map_err(failed)?;
        let (left, above) = area.get_base_pixel();
        let pixel = |at: f64, figure: f64| -> Pixel {
            let (x, y) = chart.backend_coord(&(at, figure));
            (x - left, y - above)
        };
        let lines: Vec<Vec<Pixel>> = self
            .lines
            .iter()
            .map(|line| line.marks.iter().map(|mark| pixel(mark.at, mark.figure)).collect())
            .collect();
        let range =
            |mark: &Mark| mark.range.map(|(low, high)| (pixel(mark.at, low).1, pixel(mark.at, high).1));
        let ranges = self.lines.iter().map(|line| line.marks.iter().map(range).collect()).collect();
        let apart = self.marks().any(|mark| mark.range.is_some());
        Ok(Inside { tracks: spread::tracks(&lines, apart), ranges })
    }

    /// Draws the lines, then the marks, so that no line covers a mark.
    fn fill(&self, area: &Area<'_>, inside: &Inside) -> Result<()> {
        for (number, track) in inside.tracks.iter().enumerate() {
            for stroke in &track.strokes {
                area.draw(&PathElement::new(*stroke, colour(number).stroke_width(2))).map_err(failed)?;
            }
        }
        for (number, (track, ranges)) in inside.tracks.iter().zip(&inside.ranges).enumerate() {
            for ((x, y), range) in track.marks.iter().zip(ranges) {
                if let Some((low, high)) = range {
                    let bar = PathElement::new([(*x, *low), (*x, *high)], colour(number).stroke_width(1));
                    area.draw(&bar).map_err(failed)?;
                }
                mark(area, number, (*x, *y))?;
            }
        }
        Ok(())
    }

    fn legend_height(&self) -> i32 {
        (self.lines.len().div_ceil(2) + 1) as i32 * ROW + 12
    }

    /// Draws the legend below the panel.
    fn legend(&self, area: &Area<'_>, is_dashed: bool) -> Result<()> {
        let rows = self.lines.len().div_ceil(2);
        for (number, line) in self.lines.iter().enumerate() {
            let (x, y) = (28 + (number / rows) as i32 * 250, 10 + (number % rows) as i32 * ROW);
            let sample = PathElement::new([(x - 12, y), (x + 12, y)], colour(number).stroke_width(2));
            area.draw(&sample).map_err(failed)?;
            mark(area, number, (x, y))?;
            let label = Text::new(line.label.clone(), (x + 20, y - 8), ("sans-serif", FONT));
            area.draw(&label).map_err(failed)?;
        }
        if is_dashed {
            let at = (16, 2 + rows as i32 * ROW);
            area.draw(&Text::new(TURNS, at, ("sans-serif", SMALL_FONT))).map_err(failed)?;
        }
        Ok(())
    }
}

fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

/// Draws a mark of the line of this number: each has a shape of its own.
fn mark(area: &Area<'_>, number: usize, (x, y): Pixel) -> Result<()> {
    let (r, colour) = (RADIUS, colour(number));
    let filled = |corners: &[Pixel]| {
        let corners: Vec<Pixel> = corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect();
        area.draw(&Polygon::new(corners, colour.filled()))
    };
    let stroke = |[from, to]: [Pixel; 2]| {
        let ends = [(x + from.0, y + from.1), (x + to.0, y + to.1)];
        area.draw(&PathElement::new(ends, colour.stroke_width(2)))
    };
    let drawn = match number % COLOURS.len() {
        0 => area.draw(&Circle::new((x, y), r, colour.filled())),
        1 => filled(&[(-r, -r), (r, -r), (r, r), (-r, r)]),
        2 => filled(&[(0, -r), (r, r), (-r, r)]),
        3 => filled(&[(0, -r), (r, 0), (0, r), (-r, 0)]),
        4 => filled(&[(0, r), (r, -r), (-r, -r)]),
        5 => stroke([(-r, -r), (r, r)]).and_then(|()| stroke([(-r, r), (r, -r)])),
        _ => stroke([(-r, 0), (r, 0)]).and_then(|()| stroke([(0, -r), (0, r)])),
    };
    drawn.map_err(failed)
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
        let text = svg(&[panel(Height::FromZero), panel(Height::Doubling)]).expect("it draws");
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert_eq!((text.matches("\none\n").count(), text.matches("\nother\n").count()), (2, 2), "{text}");
        // Two marks and one in the legend; the second line's are squares.
        assert_eq!(text.matches("<circle").count(), 2 * 3);
        assert_eq!(text.matches("<polygon").count(), 2 * 3);
        assert_eq!(text.matches("\ntoo many\n").count(), 2);
    }

    #[test]
    fn a_line_that_hides_none_is_said_to_take_turns() {
        let mut panel = panel(Height::FromZero);
        panel.lines.iter_mut().flat_map(|line| &mut line.marks).for_each(|mark| mark.range = None);
        let text = svg(&[panel.clone()]).expect("it draws");
        assert!(text.contains(TURNS), "{text}");
        panel.lines[1].marks.iter_mut().for_each(|mark| mark.figure *= 2.0);
        assert!(!svg(&[panel]).expect("it draws").contains(TURNS));
    }

    #[test]
    fn every_line_has_a_colour_and_a_shape() {
        let mut panel = panel(Height::FromZero);
        let line = panel.lines[0].clone();
        panel.lines = vec![line; COLOURS.len()];
        let text = svg(&[panel]).expect("it draws");
        for RGBColor(red, green, blue) in COLOURS {
            let colour = format!("#{red:02X}{green:02X}{blue:02X}");
            assert!(text.matches(&colour).count() >= 4, "{colour}: {text}");
        }
    }

    #[test]
    fn ground_is_grey_only_where_there_is_something() {
        let mut panel = panel(Height::Doubling);
        panel.shade = Some((4.0, "too many".to_owned()));
        assert!(!svg(&[panel]).expect("it draws").contains("too many"));
    }

    #[test]
    fn one_mark_is_a_picture_too() {
        for height in [Height::FromZero, Height::Doubling] {
            let mut panel = panel(height);
            panel.lines.truncate(1);
            panel.lines[0].marks = vec![Mark::exact(1.0, 0.0)];
            assert!(svg(&[panel]).is_ok());
        }
    }
}
