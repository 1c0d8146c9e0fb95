//! The picture: latency, throughput and the cost of a wake-up over the number of producers.

use anyhow::Result;

use super::OURS;
use super::read::{Figure, Group};
use crate::picture::{self, Height, Line, Mark, Panel};

const OVERSUBSCRIBED: &str = "oversubscribed";

/// Draws three panels, one below the other.
pub fn svg(figures: &[Figure], cores: u32) -> Result<String> {
    // In the middle, as the doubling scale has it, between the last number that is ranked and the
    // next.
    let ranked = f64::from(cores.saturating_sub(1).max(1));
    let from = if cores > 1 { (ranked * (ranked + 1.0)).sqrt() } else { 1.0 };
    let shade = || Some((from, OVERSUBSCRIBED.to_owned()));
    let rate = |nanoseconds: f64| 1000.0 / nanoseconds;
    let panels = [
        panel(figures, Group::Latency, "latency: ns a round trip", shade(), |ns| ns),
        panel(figures, Group::Throughput, "throughput: million messages a second", shade(), rate),
        panel(figures, Group::Wake, "wake, in one thread: ns a message", None, |ns| ns),
    ];
    picture::svg(&panels)
}

fn panel(
    figures: &[Figure],
    group: Group,
    title: &str,
    shade: Option<(f64, String)>,
    unit: impl Fn(f64) -> f64,
) -> Panel {
    let mut queues: Vec<&str> = figures.iter().map(|figure| figure.queue.as_str()).collect();
    queues.sort_by_key(|queue| (*queue != OURS, *queue));
    queues.dedup();
    let line = |queue: &str| {
        let of_queue = figures.iter().filter(|figure| figure.group == group && figure.queue == queue);
        let mark = |figure: &Figure| Mark {
            at: f64::from(figure.parameter),
            figure: unit(figure.median),
            range: Some((unit(figure.low), unit(figure.high))),
        };
        Line { label: queue.to_owned(), marks: of_queue.map(mark).collect() }
    };
    Panel {
        title: title.to_owned(),
        across: "producers".to_owned(),
        height: Height::Doubling,
        lines: queues.into_iter().map(line).collect(),
        shade,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::figure;
    use super::*;

    #[test]
    fn a_picture_marks_what_is_oversubscribed() {
        let of = |group| [1, 2, 4].map(|n| figure(group, n, "queue", (90.0, 100.0, 110.0)));
        let figures = [Group::Latency, Group::Throughput, Group::Wake].map(of).concat();
        let text = svg(&figures, 2).expect("it draws");
        assert_eq!(text.matches("<circle").count(), 3 * (3 + 1), "each panel has its marks, and a legend");
        assert_eq!(text.matches(OVERSUBSCRIBED).count(), 2, "one thread is never oversubscribed");
        assert_eq!(svg(&figures, 8).expect("it draws").matches(OVERSUBSCRIBED).count(), 0);
    }
}
