//! Records which shared words operations use. If another operation writes a word that this
//! operation uses, a stop before that use can show an error that no sequential order of the two
//! shows.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use smp::chaos::Point;
use smp::host_test;

use crate::world::World;

/// A place that is the same in all worlds with the same cast: which of its pieces of memory, and
/// how far into that.
type Place = (usize, u64);
/// A set of words, by their places.
pub type Words = HashSet<Place>;

/// How an operation uses a word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    Reads,
    Writes,
    /// Takes a lock.
    Locks,
    /// Lets a lock go.
    Unlocks,
}

/// One use of a word.
#[derive(Clone, Copy)]
pub struct Use {
    /// The number of the operation's point that is before it.
    pub point: usize,
    /// The number of the word ([`Names`]).
    pub word: usize,
    pub how: How,
}

/// Notes uses while an operation runs.
#[derive(Default)]
pub struct Notes(RefCell<Vec<(usize, u64, How)>>);

impl Notes {
    /// Notes what is at a point with a number.
    pub fn pass(&self, point: Point, number: usize) {
        let how = match point {
            Point::BeforeRead => How::Reads,
            Point::BeforeWrite => How::Writes,
            Point::Locked => How::Locks,
            Point::Unlocked => How::Unlocks,
            _ => return,
        };
        if host_test::word() != 0 {
            self.0.borrow_mut().push((number, host_test::word(), how));
        }
    }

    /// The uses of words that are the same in all worlds.
    pub fn uses(&self, world: &World, names: &mut Names) -> Vec<Use> {
        let notes = self.0.take();
        let of =
            |(point, at, how)| Some(Use { point, word: names.number(place_of(&world.regions, at)?), how });
        notes.into_iter().filter_map(of).collect()
    }

    /// The words that were written.
    pub fn written(self, world: &World) -> Words {
        let notes = self.0.into_inner().into_iter();
        notes
            .filter(|note| note.2 == How::Writes)
            .filter_map(|note| place_of(&world.regions, note.1))
            .collect()
    }
}

pub fn place_of(regions: &[Range<u64>], at: u64) -> Option<Place> {
    let piece = regions.iter().position(|region| region.contains(&at))?;
    Some((piece, at - regions[piece].start))
}

/// The numbers of words.
#[derive(Default)]
pub struct Names(HashMap<Place, usize>);

impl Names {
    fn number(&mut self, place: Place) -> usize {
        let next = self.0.len();
        *self.0.entry(place).or_insert(next)
    }
}

/// What an operation does to each word, by its number.
#[derive(Clone, Default)]
pub struct Touched {
    reads: Vec<bool>,
    writes: Vec<bool>,
    locks: Vec<bool>,
}

impl Touched {
    pub fn new(uses: &[Use]) -> Touched {
        let words = uses.iter().map(|one| one.word + 1).max().unwrap_or(0);
        let of = |how: How| {
            let mut touched = vec![false; words];
            uses.iter().filter(|one| one.how == how).for_each(|one| touched[one.word] = true);
            touched
        };
        Touched { reads: of(How::Reads), writes: of(How::Writes), locks: of(How::Locks) }
    }

    /// The points at which an operation is to stop because the next thing that it does is the use
    /// of a word that this one changes, or the change of one that this reads. Not where it holds a
    /// lock that this one takes: this one would wait.
    pub fn conflicts(&self, uses: &[Use]) -> Vec<usize> {
        let is = |of: &[bool], word: usize| of.get(word).copied().unwrap_or(false);
        let (mut points, mut held) = (Vec::new(), 0);
        for one in uses {
            let locked = is(&self.locks, one.word);
            match one.how {
                How::Locks if locked => held += 1,
                How::Unlocks if locked => held -= 1,
                How::Reads if held == 0 && is(&self.writes, one.word) => points.push(one.point),
                How::Writes if held == 0 && (is(&self.writes, one.word) || is(&self.reads, one.word)) => {
                    points.push(one.point);
                }
                _ => {}
            }
        }
        points.dedup();
        points
    }
}
