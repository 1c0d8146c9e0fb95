//! Computes the positions of a panel's lines, in pixels, so that no line hides another.
//!
//! Lines with equal figures would lie on top of each other. So marks that would touch are drawn
//! side by side, and lines that would coincide are drawn as alternating dashes.

/// Right and down from a corner of the picture.
pub type Pixel = (i32, i32);

/// Half of what a mark is across.
pub const RADIUS: i32 = 4;
/// From the middle of one mark to the middle of the next beside it.
pub const STEP: i32 = 2 * RADIUS + 1;
/// Lines that are no further apart than this run together.
const NEAR: i32 = 3;
/// Length of a dash, from left to right.
const DASH: i32 = 8;

/// Where one line is drawn.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Track {
    pub marks: Vec<Pixel>,
    /// The whole of each stretch between two marks, or its dashes.
    pub strokes: Vec<[Pixel; 2]>,
}

/// Lays out lines, each of which is given by its figures from left to right. With `apart` all marks
/// of a column stand side by side, whether they would touch or not: bars for ranges hang on them.
pub fn tracks(lines: &[Vec<Pixel>], apart: bool) -> Vec<Track> {
    let mut tracks: Vec<Track> =
        lines.iter().map(|line| Track { marks: line.clone(), strokes: Vec::new() }).collect();
    for group in columns(lines).iter().flat_map(|column| touching(lines, column, apart)) {
        let middle = (group.len() as i32 - 1) * STEP / 2;
        for (place, &(line, mark)) in group.iter().enumerate() {
            tracks[line].marks[mark].0 += place as i32 * STEP - middle;
        }
    }
    for (line, track) in tracks.iter_mut().enumerate() {
        for stretch in 0..track.marks.len().saturating_sub(1) {
            let ends = [track.marks[stretch], track.marks[stretch + 1]];
            let (turn, of) = turn(lines, line, stretch);
            track.strokes.extend(dashes(ends, turn, of));
        }
    }
    tracks
}

/// Returns whether any lines of a panel run together, so that they are dashed.
pub fn has_dashes(tracks: &[Track]) -> bool {
    tracks.iter().any(|track| track.strokes.len() >= track.marks.len().max(1))
}

/// A mark: its line's number and its own.
type Mark = (usize, usize);

/// Returns the marks of each column, by line.
fn columns(lines: &[Vec<Pixel>]) -> Vec<Vec<Mark>> {
    let mut columns = std::collections::BTreeMap::<i32, Vec<Mark>>::new();
    for (line, marks) in lines.iter().enumerate() {
        for (mark, (x, _)) in marks.iter().enumerate() {
            columns.entry(*x).or_default().push((line, mark));
        }
    }
    columns.into_values().collect()
}

/// Returns the marks of a column that touch each other, in groups, each in the order of the lines.
fn touching(lines: &[Vec<Pixel>], column: &[Mark], apart: bool) -> Vec<Vec<Mark>> {
    let height = |&(line, mark): &Mark| lines[line][mark].1;
    let mut sorted = column.to_vec();
    sorted.sort_by_key(height);
    let groups = sorted.chunk_by(|above, below| apart || height(below) - height(above) < STEP);
    groups
        .map(|group| {
            let mut group = group.to_vec();
            group.sort_unstable();
            group
        })
        .collect()
}

/// Returns which turn a line has on a stretch, and how many lines run together there.
fn turn(lines: &[Vec<Pixel>], line: usize, stretch: usize) -> (i32, i32) {
    let (start, end) = (lines[line][stretch], lines[line][stretch + 1]);
    // From left to right height of those that have this stretch, too.
    let mut others: Vec<(usize, i32, i32)> = Vec::new();
    for (other, marks) in lines.iter().enumerate() {
        let same = marks.windows(2).find(|pair| (pair[0].0, pair[1].0) == (start.0, end.0));
        others.extend(same.map(|pair| (other, pair[0].1, pair[1].1)));
    }
    let mut together = vec![(line, start.1, end.1)];
    let mut seen = 0;
    while let Some(&(_, left, right)) = together.get(seen) {
        seen += 1;
        for other in &others {
            let is_near = (other.1 - left).abs() <= NEAR && (other.2 - right).abs() <= NEAR;
            if is_near && !together.contains(other) {
                together.push(*other);
            }
        }
    }
    let turn = together.iter().filter(|(other, ..)| *other < line).count();
    (turn as i32, together.len() as i32)
}

/// Returns the dashes of a stretch that one of `of` lines draws.
fn dashes([start, end]: [Pixel; 2], turn: i32, of: i32) -> Vec<[Pixel; 2]> {
    if of == 1 || end.0 <= start.0 {
        return vec![[start, end]];
    }
    let at = |x: i32| {
        let (along, across) = (f64::from(x - start.0), f64::from(end.0 - start.0));
        (x, start.1 + (f64::from(end.1 - start.1) * along / across).round() as i32)
    };
    let period = DASH * of;
    // Counted from the picture's edge: so the turns of all lines fit together, wherever their marks
    // stand.
    let first = (start.0 - turn * DASH).div_euclid(period) * period + turn * DASH;
    let mut all = Vec::new();
    let mut x = first;
    while x < end.0 {
        let (from, to) = (x.max(start.0), (x + DASH).min(end.0));
        if from < to {
            all.push([at(from), at(to)]);
        }
        x += period;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Returns what a viewer sees: the line that painted each pixel last, first all strokes and
    /// then all marks.
    fn painted(tracks: &[Track]) -> BTreeMap<Pixel, usize> {
        let mut pixels = BTreeMap::new();
        for (line, track) in tracks.iter().enumerate() {
            for [start, end] in &track.strokes {
                for x in start.0..end.0 {
                    let y = start.1 + (end.1 - start.1) * (x - start.0) / (end.0 - start.0);
                    pixels.insert((x, y), line);
                    pixels.insert((x, y + 1), line);
                }
            }
        }
        for (line, track) in tracks.iter().enumerate() {
            for (x, y) in &track.marks {
                let square = (-RADIUS..=RADIUS).flat_map(|dx| (-RADIUS..=RADIUS).map(move |dy| (dx, dy)));
                pixels.extend(square.map(|(dx, dy)| ((x + dx, y + dy), line)));
            }
        }
        pixels
    }

    /// Pixels of a line between two columns that nothing else has painted over.
    fn seen(pixels: &BTreeMap<Pixel, usize>, line: usize, from: i32, to: i32) -> usize {
        pixels.iter().filter(|((x, _), painter)| **painter == line && (from..to).contains(x)).count()
    }

    #[test]
    fn lines_that_coincide_are_all_seen() {
        let flat = vec![(100, 50), (200, 50), (300, 50)];
        for count in 2..=7 {
            let tracks = tracks(&vec![flat.clone(); count], false);
            let pixels = painted(&tracks);
            for line in 0..count {
                // Between the marks: its share of dashes.
                let between = seen(&pixels, line, 135, 165);
                assert!(count > 3 || between >= 12, "line {line} of {count}: {between} pixels");
                let all = seen(&pixels, line, 0, 400);
                assert!(all >= 3 * 81, "line {line} of {count}: three marks, {all} pixels");
            }
            assert!(has_dashes(&tracks));
        }
    }

    #[test]
    fn lines_that_lie_apart_stay_where_they_are() {
        let lines = [vec![(0, 10), (100, 10)], vec![(0, 60), (100, 20)]];
        let tracks = tracks(&lines, false);
        for (track, line) in tracks.iter().zip(&lines) {
            assert_eq!(track.marks, *line);
            assert_eq!(track.strokes, [[line[0], line[1]]]);
        }
        assert!(!has_dashes(&tracks));
    }

    #[test]
    fn bars_stand_side_by_side() {
        let tracks = tracks(&[vec![(50, 10)], vec![(50, 200)], vec![(50, 90)]], true);
        let across: Vec<i32> = tracks.iter().map(|track| track.marks[0].0).collect();
        assert_eq!(across, [50 - STEP, 50, 50 + STEP]);
    }

    proptest! {
        #[test]
        fn no_mark_covers_another(heights in prop::collection::vec(prop::collection::vec(0..40, 4), 2..=7)) {
            let line = |heights: &Vec<i32>| {
                heights.iter().enumerate().map(|(column, y)| (100 * column as i32, *y)).collect::<Vec<Pixel>>()
            };
            let marks: Vec<Pixel> =
                tracks(&heights.iter().map(line).collect::<Vec<_>>(), false).into_iter().flat_map(|t| t.marks).collect();
            for (number, one) in marks.iter().enumerate() {
                for other in &marks[..number] {
                    let apart = (one.0 - other.0).abs().max((one.1 - other.1).abs());
                    prop_assert!(apart >= STEP, "{one:?} and {other:?}");
                }
            }
        }

        #[test]
        fn turns_do_not_overlap(y in 0..9, count in 2..=7_usize) {
            let lines: Vec<Vec<Pixel>> = (0..count).map(|_| vec![(7, y), (307, y + 40)]).collect();
            let mut dashes: Vec<(i32, i32)> = tracks(&lines, false)
                .iter()
                .flat_map(|track| track.strokes.iter().map(|[start, end]| (start.0, end.0)).collect::<Vec<_>>())
                .collect();
            dashes.sort_unstable();
            prop_assert!(dashes.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{dashes:?}");
        }
    }
}
