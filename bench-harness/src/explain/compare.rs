//! Two explanations side by side: what was added, what was removed, and where.
//!
//! Two instructions count as equal if they have equal mnemonics, operand kinds and registers, and
//! are in the same phase on the same CPU. Displacements and targets are not compared, since every
//! change of a structure or a function moves them.

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::fold::{Block, fold};
use super::story::Line;

/// A difference.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    pub added: bool,
    /// How often it is executed in a row.
    pub turns: usize,
    #[serde(flatten)]
    pub line: Line,
}

/// Everything that differs, in the order of execution.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Difference {
    pub changes: Vec<Change>,
}

impl Difference {
    pub fn new(base: &[Line], now: &[Line]) -> Difference {
        let (base, now) = (by_cpu(base), by_cpu(now));
        let (old, new) = (elements(&base), elements(&now));
        let keys = |elements: &[(usize, &Line)]| elements.iter().map(key).collect::<Vec<_>>();
        let mut changes = Vec::new();
        let change = |added: bool, (turns, line): &(usize, &Line)| Change {
            added,
            turns: *turns,
            line: (*line).clone(),
        };
        for op in capture_diff_slices(Algorithm::Myers, &keys(&old), &keys(&new)) {
            if !matches!(op, DiffOp::Equal { .. }) {
                changes.extend(old[op.old_range()].iter().map(|element| change(false, element)));
                changes.extend(new[op.new_range()].iter().map(|element| change(true, element)));
            }
        }
        Difference { changes }
    }

    /// Returns how many executed instructions were added, or removed.
    pub fn count(&self, added: bool) -> usize {
        self.changes.iter().filter(|change| change.added == added).map(|change| change.turns).sum()
    }
}

/// Sorts lines by CPU: if CPUs only take turns otherwise, that is no difference.
fn by_cpu(lines: &[Line]) -> Vec<Line> {
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| line.cpu);
    lines
}

/// Returns the instructions that count, each with how often it comes in a row.
fn elements(lines: &[Line]) -> Vec<(usize, &Line)> {
    let of_block = |block: Block| {
        lines[block.start..block.start + block.period].iter().map(move |line| (block.turns, line))
    };
    fold(lines).into_iter().flat_map(of_block).filter(|(_, line)| line.counts()).collect()
}

fn key((turns, line): &(usize, &Line)) -> String {
    let phase = line.phase.map_or("", |phase| phase.name());
    format!("{} {turns} {phase} {}", line.cpu, line.shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::phase::Phase;
    use crate::explain::story::examples::line;

    fn path() -> Vec<Line> {
        vec![
            line(0, 1, &[0x0f, 0x05], Phase::User),
            line(0, 2, &[0x85, 0xc0], Phase::Entry),
            line(0, 4, &[0x4d, 0x8b, 0x77, 0x40], Phase::Checks),
            line(0, 8, &[0x48, 0x0f, 0x07], Phase::Exit),
        ]
    }

    #[test]
    fn an_added_instruction_is_pointed_at() {
        let mut now = path();
        now.insert(3, line(0, 8, &[0x90], Phase::Checks));
        let difference = Difference::new(&path(), &now);
        assert_eq!((difference.count(true), difference.count(false)), (1, 0));
        let change = &difference.changes[0];
        assert_eq!((change.line.text.as_str(), change.line.phase), ("nop", Some(Phase::Checks)));
        assert_eq!(Difference::new(&now, &path()).count(false), 1);
    }

    #[test]
    fn another_displacement_is_no_difference_and_another_register_is() {
        let mut now = path();
        now[2] = line(0, 4, &[0x4d, 0x8b, 0x77, 0x48], Phase::Checks);
        assert!(Difference::new(&path(), &now).changes.is_empty());
        now[2] = line(0, 4, &[0x4d, 0x8b, 0x75, 0x40], Phase::Checks);
        let difference = Difference::new(&path(), &now);
        assert_eq!((difference.count(true), difference.count(false)), (1, 1));
    }

    #[test]
    fn when_cpus_take_turns_is_no_difference() {
        let (a, b) = (line(0, 1, &[0x90], Phase::Idle), line(1, 9, &[0xf4], Phase::Idle));
        let difference = Difference::new(&[a.clone(), b.clone()], &[b, a]);
        assert!(difference.changes.is_empty());
    }

    #[test]
    fn the_turns_of_a_loop_count() {
        let base: Vec<Line> = (0..64).map(|_| line(0, 9, &[0x90], Phase::Commit)).collect();
        let difference = Difference::new(&base, &base[..60]);
        assert_eq!((difference.count(true), difference.count(false)), (60, 64));
    }
}
