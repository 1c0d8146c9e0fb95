//! Folds loops: a few instructions that are executed again and again are shown once.

use super::story::Line;

/// Longest loop body that is looked for.
const PERIOD_MAX: usize = 12;
/// From so many turns on it is worth it.
const TURNS_MIN: usize = 3;

/// `period` instructions from `start` on, executed `turns` times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    pub start: usize,
    pub period: usize,
    pub turns: usize,
}

/// Divides the instructions into blocks, in order. Together the blocks are all of them.
pub fn fold(lines: &[Line]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut start = 0;
    while start < lines.len() {
        let looping = (1..=PERIOD_MAX).map(|period| (period, turns(lines, start, period)));
        let (period, turns) = looping.into_iter().find(|(_, turns)| *turns >= TURNS_MIN).unwrap_or((1, 1));
        blocks.push(Block { start, period, turns });
        start += period * turns;
    }
    blocks
}

/// Returns how often the `period` instructions at `start` come in a row.
fn turns(lines: &[Line], start: usize, period: usize) -> usize {
    let same =
        |a: &Line, b: &Line| (a.cpu, a.pc, a.phase, a.uncounted) == (b.cpu, b.pc, b.phase, b.uncounted);
    let rest = &lines[start..];
    let repeating = (period..rest.len()).take_while(|&at| same(&rest[at], &rest[at - period])).count();
    1 + repeating / period
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::phase::Phase;
    use crate::explain::story::examples::line;

    fn folded(pcs: &[u64]) -> Vec<(usize, usize, usize)> {
        let lines: Vec<Line> = pcs.iter().map(|&pc| line(0, pc, &[0x90], Phase::User)).collect();
        fold(&lines).into_iter().map(|block| (block.start, block.period, block.turns)).collect()
    }

    #[test]
    fn loops_are_folded_and_nothing_is_lost() {
        assert_eq!(folded(&[1, 2, 3, 2, 3, 2, 3, 4]), [(0, 1, 1), (1, 2, 3), (7, 1, 1)]);
        assert_eq!(folded(&[5, 5, 5, 5]), [(0, 1, 4)]);
        assert_eq!(folded(&[1, 2, 1, 2]), [(0, 1, 1), (1, 1, 1), (2, 1, 1), (3, 1, 1)]);
    }

    #[test]
    fn what_is_left_of_a_turn_stands_alone() {
        assert_eq!(folded(&[1, 2, 1, 2, 1, 2, 1]), [(0, 2, 3), (6, 1, 1)]);
    }
}
