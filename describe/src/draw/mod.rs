//! Draws which processes may call which: processes, groups and devices as a graph, in SVG.
//!
//! Arrows lead from members to their group, and from the group to its servers; each group has a
//! colour. A dashed arrow leads from a driver to its device. Processes that differ only in their
//! names share a box.

mod boxes;
mod canvas;

use layout::core::base::Orientation;
use layout::core::color::Color;
use layout::core::geometry::{Point, Position};
use layout::core::style::{LineStyleKind, StyleAttr};
use layout::std_shapes::shapes::{Arrow, Element, LineEndKind, ShapeKind};
use layout::topo::layout::VisualGraph;

use crate::system::System;
use boxes::Client;
use canvas::Canvas;

/// Fills of processes, by the number of their label; the first is for none.
const FILLS: [&str; 8] =
    ["#ffffff", "#d9e8ff", "#ffe9d0", "#e2f4da", "#f8e0ef", "#fff6c8", "#dcf4f4", "#ece4fa"];
const DEVICE_FILL: &str = "#f4f1dc";
const BLACK: &str = "#333333";
/// Colours of groups and of the arrows to and from them.
const COLOURS: [&str; 10] = [
    "#1f5fa8", "#b4511a", "#2c7d3a", "#8e3b8a", "#a33030", "#0f7f86", "#6a5acd", "#7a6a10", "#b0307a",
    "#4a6572",
];

/// Free space around a box.
const MARGIN: (f64, f64) = (36.0, 12.0);

/// A graph that is being made.
struct Graph {
    graph: VisualGraph,
}

type Node = layout::adt::dag::NodeHandle;

/// Returns the picture of a system.
pub fn svg(system: &System) -> String {
    let mut graph = Graph { graph: VisualGraph::new(Orientation::LeftToRight) };
    let clients = boxes::clients(system);
    let groups: Vec<Node> = (system.groups.iter().zip(COLOURS.iter().cycle()))
        .map(|(group, colour)| graph.ellipse(&group.name, colour))
        .collect();
    for client in &clients {
        let fill = FILLS[usize::from(client.label) % FILLS.len()];
        let node = graph.rectangle(&client.text, fill);
        graph.connect(system, client, node, &groups);
    }
    let title = format!("{}: {}", system.name, system.about);
    let mut canvas = Canvas::new(&title, &legend(system));
    graph.graph.do_it(false, false, false, &mut canvas);
    canvas.finish()
}

/// Returns each label that a process has, and the fill of its processes.
fn legend(system: &System) -> Vec<(String, &'static str)> {
    let has = |number: u8| system.processes.iter().any(|process| process.label == number);
    let labels = system.labels.iter().filter(|label| has(label.number));
    labels.map(|label| (label.name.clone(), FILLS[usize::from(label.number) % FILLS.len()])).collect()
}

impl Graph {
    fn add(&mut self, shape: ShapeKind, size: (f64, f64), fill: &str, line: &str, width: usize) -> Node {
        let look = StyleAttr::new(Color::fast(line), width, Some(Color::fast(fill)), 0, canvas::FONT);
        let size = Point::new(size.0, size.1);
        let mut element = Element::create(shape, look, Orientation::LeftToRight, size);
        let margin = Point::new(MARGIN.0, MARGIN.1);
        element.pos = Position::new(Point::zero(), size, Point::zero(), margin);
        self.graph.add_node(element)
    }

    fn rectangle(&mut self, text: &str, fill: &str) -> Node {
        self.add(ShapeKind::new_box(text), canvas::size(text), fill, BLACK, 1)
    }

    fn ellipse(&mut self, text: &str, colour: &str) -> Node {
        let (width, height) = canvas::size(text);
        self.add(ShapeKind::new_circle(text), (width + 14.0, height + 6.0), "#ffffff", colour, 2)
    }

    fn arrow(&mut self, from: Node, to: Node, colour: &str, width: usize, style: LineStyleKind) {
        let look = StyleAttr::new(Color::fast(colour), width, None, 0, canvas::FONT);
        let arrow = Arrow::new(LineEndKind::None, LineEndKind::Arrow, style, "", &look, &None, &None);
        self.graph.add_edge(arrow, from, to);
    }

    /// Draws the arrows of a box: to groups, from groups, and to devices.
    fn connect(&mut self, system: &System, client: &Client, node: Node, groups: &[Node]) {
        for (place, (group, to)) in system.groups.iter().zip(groups).enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            if group.exposes.contains(&client.first) {
                self.arrow(*to, node, colour, 3, LineStyleKind::Normal);
            } else if group.members.iter().any(|member| member.process == client.first) {
                self.arrow(node, *to, colour, 1, LineStyleKind::Normal);
            }
        }
        for device in &system.processes[usize::from(client.first)].devices {
            let text = boxes::of_device(&system.devices[usize::from(*device)]);
            let device = self.rectangle(&text, DEVICE_FILL);
            self.arrow(node, device, BLACK, 1, LineStyleKind::Dashed);
        }
    }
}
