//! Writes shapes, texts and arrows as SVG. Arrows are below shapes, so that texts stay readable.

use std::fmt::Write;

use layout::core::color::Color;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::Point;
use layout::core::style::StyleAttr;

/// Size of the font, in pixels.
pub const FONT: usize = 12;
/// Width of a letter, and height of a line, in pixels.
const LETTER: f64 = 7.3;
const LINE: f64 = 15.0;
/// Space between a text and its frame.
const PADDING: f64 = 8.0;
/// Space around the picture, and for the title above it.
const BORDER: f64 = 20.0;
const TITLE: f64 = 60.0;

/// Returns the size of a box with a text of some lines.
pub fn size(text: &str) -> (f64, f64) {
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
    (longest as f64 * LETTER + 2.0 * PADDING, text.lines().count() as f64 * LINE + PADDING)
}

/// A picture that is being written.
pub struct Canvas {
    title: String,
    legend: Vec<(String, &'static str)>,
    arrows: String,
    shapes: String,
    /// The colours of arrows, each of which has a head of its own.
    heads: Vec<String>,
    /// The corners of what was drawn.
    low: Point,
    high: Point,
}

/// Escapes the letters that have a meaning in SVG.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Returns a colour as browsers take it, or none.
fn colour(colour: Option<Color>) -> String {
    colour.map_or("none".to_owned(), |colour| colour.to_web_color())
}

impl Canvas {
    pub fn new(title: &str, legend: &[(String, &'static str)]) -> Canvas {
        Canvas {
            title: title.to_owned(),
            legend: legend.to_vec(),
            arrows: String::new(),
            shapes: String::new(),
            heads: Vec::new(),
            low: Point::splat(f64::MAX),
            high: Point::splat(f64::MIN),
        }
    }

    /// Notes that there is something at a point.
    fn reach(&mut self, point: Point) {
        self.low = Point::new(self.low.x.min(point.x), self.low.y.min(point.y));
        self.high = Point::new(self.high.x.max(point.x), self.high.y.max(point.y));
    }

    /// Returns the head of arrows of a colour.
    fn head(&mut self, colour: &str) -> usize {
        let known = self.heads.iter().position(|head| head == colour);
        known.unwrap_or_else(|| {
            self.heads.push(colour.to_owned());
            self.heads.len() - 1
        })
    }

    /// Returns the whole picture.
    pub fn finish(mut self) -> String {
        if self.low.x > self.high.x {
            self.reach(Point::zero());
        }
        let (left, top) = (self.low.x - BORDER, self.low.y - BORDER - TITLE);
        let longest = self.title.chars().count() as f64 * LETTER * 1.4;
        let width = (self.high.x - self.low.x).max(longest) + 2.0 * BORDER;
        let height = self.high.y - self.low.y + 2.0 * BORDER + TITLE;
        let mut svg = String::new();
        let mut write = |text: std::fmt::Arguments<'_>| {
            svg.write_fmt(text).expect("a string takes any text");
            svg.push('\n');
        };
        write(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"{left:.1} {top:.1} {width:.1} {height:.1}\" font-family=\"monospace\" font-size=\"{FONT}\">"
        ));
        write(format_args!(
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<defs>"
        ));
        for (number, colour) in self.heads.iter().enumerate() {
            write(format_args!(
                "<marker id=\"head{number}\" markerWidth=\"9\" markerHeight=\"8\" refX=\"8\" refY=\"4\" \
                 orient=\"auto\" markerUnits=\"userSpaceOnUse\"><path d=\"M 0 0 L 9 4 L 0 8 z\" fill=\"{colour}\"/></marker>"
            ));
        }
        let (x, y) = (self.low.x, self.low.y - TITLE);
        let title = escaped(&self.title);
        write(format_args!("</defs>\n<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"16\">{title}</text>"));
        let mut x = x;
        for (name, fill) in &self.legend {
            let (width, height) = size(name);
            let (y, text_y) = (y + 14.0, y + 14.0 + height / 2.0);
            write(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" \
                 stroke=\"#999999\"/><text x=\"{:.1}\" y=\"{text_y:.1}\" dy=\"0.35em\">{}</text>",
                x + PADDING,
                escaped(name)
            ));
            x += width + PADDING;
        }
        write(format_args!("{}{}</svg>", self.arrows, self.shapes));
        svg
    }

    fn shape(&mut self, text: std::fmt::Arguments<'_>) {
        writeln!(self.shapes, "{text}").expect("a string takes any text");
    }
}

impl RenderBackend for Canvas {
    fn draw_rect(
        &mut self,
        xy: Point,
        size: Point,
        look: &StyleAttr,
        _: Option<String>,
        _: Option<ClipHandle>,
    ) {
        self.reach(xy);
        self.reach(xy.add(size));
        self.shape(format_args!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"3\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>",
            xy.x, xy.y, size.x, size.y, colour(look.fill_color), colour(Some(look.line_color)), look.line_width
        ));
    }

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, xy: Point, size: Point, look: &StyleAttr, _: Option<String>) {
        let half = size.scale(0.5);
        self.reach(xy.sub(half));
        self.reach(xy.add(half));
        self.shape(format_args!(
            "<ellipse cx=\"{:.1}\" cy=\"{:.1}\" rx=\"{:.1}\" ry=\"{:.1}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"/>",
            xy.x, xy.y, half.x, half.y, colour(look.fill_color), colour(Some(look.line_color)), look.line_width
        ));
    }

    fn draw_text(&mut self, xy: Point, text: &str, _: &StyleAttr) {
        let first = xy.y - (text.lines().count().saturating_sub(1)) as f64 * LINE / 2.0;
        for (number, line) in text.lines().enumerate() {
            let weight = if number == 0 { " font-weight=\"bold\"" } else { "" };
            let y = first + number as f64 * LINE;
            self.shape(format_args!(
                "<text x=\"{:.1}\" y=\"{y:.1}\" dy=\"0.35em\" text-anchor=\"middle\"{weight}>{}</text>",
                xy.x,
                escaped(line)
            ));
        }
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        dashed: bool,
        _: (bool, bool),
        look: &StyleAttr,
        _: Option<String>,
        _: &str,
    ) {
        let [(start, exit), (control, first), rest @ ..] = path else { return };
        let mut line = format!(
            "M {:.1} {:.1} C {:.1} {:.1}, {:.1} {:.1}, {:.1} {:.1}",
            start.x, start.y, exit.x, exit.y, control.x, control.y, first.x, first.y
        );
        for (control, point) in rest {
            write!(line, " S {:.1} {:.1}, {:.1} {:.1}", control.x, control.y, point.x, point.y)
                .expect("a string takes any text");
        }
        path.iter().skip(1).for_each(|(_, point)| self.reach(*point));
        let colour = look.line_color.to_web_color();
        let dash = if dashed { " stroke-dasharray=\"5,4\"" } else { "" };
        let head = self.head(&colour);
        writeln!(
            self.arrows,
            "<path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"{dash} marker-end=\"url(#head{head})\"/>",
            look.line_width
        )
        .expect("a string takes any text");
    }

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}
