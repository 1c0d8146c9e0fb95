//! The mapping of one page of one address space, in one word, and the permitted results of an
//! access there.
//!
//! Only the page's *owner* writes its word: before a system call that changes the page ("changing",
//! from one access to another), and after its answer ("is"). Other workers read the word before and
//! after an access. If the word has not changed, the access must do exactly what it says. While the
//! page changes, the old or the new state is right. If the word moved on by one or two steps, one
//! of those states is right. A sequence number distinguishes an unchanged word from one that
//! changed back.
//!
//! A word of another *era* than the address space's is from before the space was made again:
//! nothing is mapped there.

use abi::PageMode;

/// The access that a page allows. It always includes reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Perm {
    None = 0,
    Read,
    Write,
    Execute,
}

impl Perm {
    const fn from_raw(raw: u64) -> Perm {
        match raw & 3 {
            0 => Perm::None,
            1 => Perm::Read,
            2 => Perm::Write,
            _ => Perm::Execute,
        }
    }

    pub const fn allows(self, how: How) -> bool {
        match how {
            How::Read => !matches!(self, Perm::None),
            How::Write => matches!(self, Perm::Write),
            How::Execute => matches!(self, Perm::Execute),
        }
    }

    /// Whether write xor execute forbids to map a page with this access and with `other` at the
    /// same time.
    pub const fn excludes(self, other: Perm) -> bool {
        matches!((self, other), (Perm::Write, Perm::Execute) | (Perm::Execute, Perm::Write))
    }
}

/// The kind of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Read,
    Write,
    Execute,
}

/// The result of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Met {
    Fault,
    /// The word that was read or written, or the function's result.
    Value(u64),
}

/// What is mapped: a page of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thing {
    /// Number of the frame among all that its owner ever made; or [`GLOBAL`] and the number of a
    /// frame that all share.
    pub id: u32,
    /// Its page; 0 for a large frame.
    pub page: u32,
    pub large: bool,
    /// Whether the page has its contents. Otherwise it is clear, or being filled.
    pub filled: bool,
    /// How it is in the space's pool. For a pool page, this thing describes the contents, which may
    /// be a copy of another page's.
    pub pool: Pool,
}

/// How a page is in the pool of a space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Pool {
    No = 0,
    Has,
    /// A write copies it.
    CopyOnWrite,
}

impl Pool {
    const fn from_raw(raw: u64) -> Pool {
        match raw & 3 {
            0 => Pool::No,
            1 => Pool::Has,
            _ => Pool::CopyOnWrite,
        }
    }
}

/// Bit of a frame's number: the director made it for all processes.
pub const GLOBAL: u32 = 1 << 23;
/// Numbers of frames repeat after this many.
pub const IDS: u32 = GLOBAL;

impl Thing {
    pub const NOTHING: Thing = Thing { id: 0, page: 0, large: false, filled: false, pool: Pool::No };

    pub const fn is_pooled(self) -> bool {
        !matches!(self.pool, Pool::No)
    }
}

/// The word of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(pub u64);

const CHANGING: u64 = 1;
const NOW_AT: u32 = 1;
/// Next state; of a word that is not changing, the last change's next state.
const NEXT_AT: u32 = 3;
const FILLED: u64 = 1 << 5;
const LARGE: u64 = 1 << 6;
const PAGE_AT: u32 = 7;
const PAGE_BITS: u64 = (1 << 5) - 1;
const POOL_AT: u32 = 12;
/// While the page changes, it may be missing.
const TRANSIT: u64 = 1 << 14;
const ERA_AT: u32 = 16;
const ERA_BITS: u64 = (1 << 4) - 1;
const ID_AT: u32 = 20;
const ID_BITS: u64 = (1 << 24) - 1;
const SEQUENCE_AT: u32 = 44;
const SEQUENCE_BITS: u64 = (1 << 20) - 1;

impl Word {
    const fn sequence(self) -> u64 {
        self.0 >> SEQUENCE_AT
    }

    pub const fn now(self) -> Perm {
        Perm::from_raw(self.0 >> NOW_AT)
    }

    pub const fn next(self) -> Perm {
        Perm::from_raw(self.0 >> NEXT_AT)
    }

    pub const fn changing(self) -> bool {
        self.0 & CHANGING != 0
    }

    /// Returns its state, and its next state.
    pub const fn either(self) -> [Perm; 2] {
        [self.now(), if self.changing() { self.next() } else { self.now() }]
    }

    pub const fn era(self) -> u64 {
        self.0 >> ERA_AT & ERA_BITS
    }

    pub const fn thing(self) -> Thing {
        Thing {
            id: (self.0 >> ID_AT & ID_BITS) as u32,
            page: (self.0 >> PAGE_AT & PAGE_BITS) as u32,
            large: self.0 & LARGE != 0,
            filled: self.0 & FILLED != 0,
            pool: Pool::from_raw(self.0 >> POOL_AT),
        }
    }

    /// Whether the page may be out of reach during the change.
    const fn in_transit(self) -> bool {
        self.0 & TRANSIT != 0
    }

    /// Returns the word in an era: empty, if it is of another one.
    pub const fn in_era(self, era: u64) -> Word {
        if self.era() == era & ERA_BITS {
            return self;
        }
        Word(self.0 & (SEQUENCE_BITS << SEQUENCE_AT) | (era & ERA_BITS) << ERA_AT)
    }

    const fn step(self, bits: u64, era: u64, thing: Thing) -> Word {
        let sequence = (self.sequence() + 1) & SEQUENCE_BITS;
        let flags = if thing.filled { FILLED } else { 0 } | if thing.large { LARGE } else { 0 };
        let place = (era & ERA_BITS) << ERA_AT | (thing.page as u64 & PAGE_BITS) << PAGE_AT;
        let flags = flags | (thing.pool as u64) << POOL_AT;
        Word(sequence << SEQUENCE_AT | (thing.id as u64 & ID_BITS) << ID_AT | place | flags | bits)
    }

    /// Returns the next word, which changes from the current state to `next`.
    pub const fn change(self, era: u64, thing: Thing, next: Perm) -> Word {
        let now = self.in_era(era).now() as u64;
        self.step(CHANGING | now << NOW_AT | (next as u64) << NEXT_AT, era, thing)
    }

    /// Returns the next word for a change during which the page may be out of reach.
    pub const fn change_in_transit(self, era: u64, thing: Thing, next: Perm) -> Word {
        Word(self.change(era, thing, next).0 | TRANSIT)
    }

    /// Returns the next word, which has reached a state. It keeps the next state and whether the
    /// page may have been in transit, for workers that read the word before: pages of a refused
    /// message were away for a while.
    pub const fn settle(self, era: u64, thing: Thing, now: Perm) -> Word {
        let was = if self.changing() { self.0 & (TRANSIT | 3 << NEXT_AT) } else { (now as u64) << NEXT_AT };
        let thing = if matches!(now, Perm::None) { Thing::NOTHING } else { thing };
        self.step((now as u64) << NOW_AT | was, era, thing)
    }
}

impl core::fmt::Debug for Word {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Thing { id, page, large, filled, pool } = self.thing();
        write!(f, "[{} {:?}", self.sequence(), self.now())?;
        if self.changing() {
            write!(f, "->{:?}", self.next())?;
        }
        write!(f, " frame {id:#x}.{page}")?;
        let copied = pool == Pool::CopyOnWrite;
        let flags = [
            (large, " large"),
            (filled, " filled"),
            (pool == Pool::Has, " pooled"),
            (copied, " copy-on-write"),
            (self.in_transit(), " in transit"),
        ];
        for (is, name) in flags {
            f.write_str(if is { name } else { "" })?;
        }
        write!(f, " era {}]", self.era())
    }
}

/// Computes the result of a page that went from one pool to another: the arrived thing for the
/// changing `word`, and the word of the giving place. That may have been cleared since, with its
/// space.
pub fn passed(given: Word, word: Word, era: u64, mode: PageMode) -> (Thing, Word) {
    if mode == PageMode::Move {
        return (word.thing(), given.settle(era, Thing::NOTHING, Perm::None));
    }
    let pool = if mode == PageMode::Copy { Pool::CopyOnWrite } else { Pool::Has };
    let kept = if given.now() == Perm::Write { Thing { pool, ..given.thing() } } else { given.thing() };
    (Thing { pool, ..word.thing() }, given.settle(era, kept, Perm::Read))
}

/// A wrong access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// The access should have faulted, or saw something else than the mapped page.
    Stale,
    /// The access faulted and should not have.
    Lost,
}

/// Judges an access between two readings of the page's word, both in the era of the space; `fits`
/// says whether a value can come from a page, or from any page of the owner's if none is named.
pub fn judge(
    before: Word,
    after: Word,
    how: How,
    met: Met,
    fits: impl Fn(Option<Thing>, u64) -> bool,
) -> Option<Wrong> {
    const NEAR: u64 = 2;
    let steps = after.sequence().wrapping_sub(before.sequence()) & SEQUENCE_BITS;
    if steps > NEAR {
        // The page meanwhile is unknown, but it was the owner's.
        return match met {
            Met::Value(value) if how != How::Write && !fits(None, value) => Some(Wrong::Stale),
            _ => None,
        };
    }
    let claims = |perm: &dyn Fn(Perm, Thing) -> bool| {
        [before, after]
            .into_iter()
            .any(|word| word.either().into_iter().any(|either| perm(either, word.thing())))
    };
    match met {
        Met::Fault if before.changing() && before.in_transit() => None,
        Met::Fault if after.in_transit() && after.sequence() != before.sequence() => None,
        Met::Fault if steps > 0 && !after.next().allows(how) => None,
        Met::Fault => (!claims(&|perm, _| !perm.allows(how))).then_some(Wrong::Lost),
        Met::Value(value) => {
            let fine =
                claims(&|perm, thing| perm.allows(how) && (how == How::Write || fits(Some(thing), value)));
            (!fine).then_some(Wrong::Stale)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THING: Thing = Thing { id: 7, page: 3, large: false, filled: true, pool: Pool::No };
    const ERA: u64 = 5;

    fn start() -> Word {
        Word(0).in_era(ERA)
    }

    /// Judges an access where only 70 fits, and 99 is another page's.
    fn judged(before: Word, after: Word, how: How, met: Met) -> Option<Wrong> {
        judge(before, after, how, met, |thing, value| match thing {
            Some(thing) => thing == THING && value == 70,
            None => value == 70 || value == 99,
        })
    }

    fn still(word: Word, how: How, met: Met) -> Option<Wrong> {
        judged(word, word, how, met)
    }

    #[test]
    fn words_say_what_was_put_in() {
        let changing = start().change(ERA, THING, Perm::Write);
        assert_eq!((changing.now(), changing.next(), changing.changing()), (Perm::None, Perm::Write, true));
        let word = changing.settle(ERA, THING, Perm::Write);
        assert_eq!(
            (word.now(), word.changing(), word.thing(), word.sequence()),
            (Perm::Write, false, THING, 2)
        );
        let large = Thing { id: GLOBAL | 9, page: 0, large: true, filled: false, pool: Pool::CopyOnWrite };
        assert_eq!(word.change(ERA, large, Perm::None).thing(), large);
        assert_eq!(word.settle(ERA, THING, Perm::None).thing(), Thing::NOTHING);
        let last = Word(SEQUENCE_BITS << SEQUENCE_AT);
        assert_eq!(last.settle(ERA, THING, Perm::Read).sequence(), 0);
    }

    #[test]
    fn what_stands_still_is_what_an_access_meets() {
        let nothing = start();
        for how in [How::Read, How::Write, How::Execute] {
            assert_eq!(still(nothing, how, Met::Fault), None);
            assert_eq!(still(nothing, how, Met::Value(70)), Some(Wrong::Stale));
        }
        let read = nothing.settle(ERA, THING, Perm::Read);
        assert_eq!(still(read, How::Read, Met::Value(70)), None);
        assert_eq!(still(read, How::Read, Met::Value(99)), Some(Wrong::Stale), "another page's content");
        assert_eq!(still(read, How::Read, Met::Fault), Some(Wrong::Lost));
        assert_eq!(still(read, How::Write, Met::Fault), None);
        assert_eq!(still(read, How::Write, Met::Value(0)), Some(Wrong::Stale));
        let write = nothing.settle(ERA, THING, Perm::Write);
        assert_eq!(still(write, How::Write, Met::Value(0)), None);
        assert_eq!(still(write, How::Write, Met::Fault), Some(Wrong::Lost));
        assert_eq!(still(write, How::Execute, Met::Value(70)), Some(Wrong::Stale));
        let execute = nothing.settle(ERA, THING, Perm::Execute);
        assert_eq!(still(execute, How::Execute, Met::Value(70)), None);
        assert_eq!(still(execute, How::Write, Met::Value(0)), Some(Wrong::Stale));
    }

    #[test]
    fn what_changes_may_be_either() {
        let mapped = start().settle(ERA, THING, Perm::Write);
        let going = mapped.change(ERA, THING, Perm::Read);
        let gone = going.settle(ERA, THING, Perm::Read);
        for (before, after) in [(mapped, going), (going, going), (going, gone), (mapped, gone)] {
            assert_eq!(judged(before, after, How::Write, Met::Value(0)), None);
            assert_eq!(judged(before, after, How::Write, Met::Fault), None);
            assert_eq!(judged(before, after, How::Read, Met::Fault), Some(Wrong::Lost), "both can be read");
            assert_eq!(judged(before, after, How::Read, Met::Value(99)), Some(Wrong::Stale));
        }
        let unmapped = gone.change(ERA, THING, Perm::None).settle(ERA, THING, Perm::None);
        assert_eq!(judged(gone, unmapped, How::Read, Met::Fault), None);
        assert_eq!(judged(unmapped, unmapped, How::Read, Met::Value(70)), Some(Wrong::Stale));
        // Too much has happened in between, but the value is still the owner's.
        assert_eq!(judged(start(), unmapped, How::Read, Met::Value(99)), None);
        assert_eq!(judged(start(), unmapped, How::Read, Met::Value(1)), Some(Wrong::Stale));
        assert_eq!(judged(start(), unmapped, How::Write, Met::Value(1)), None);
    }

    #[test]
    fn what_is_in_transit_may_be_missed_and_nothing_else() {
        let shared = Thing { pool: Pool::CopyOnWrite, ..THING };
        let read = start().settle(ERA, shared, Perm::Read);
        let copied = read.change_in_transit(ERA, shared, Perm::Write);
        for how in [How::Read, How::Write, How::Execute] {
            assert_eq!(still(copied, how, Met::Fault), None);
        }
        assert_eq!(still(copied, How::Execute, Met::Value(70)), Some(Wrong::Stale));
        assert_eq!(still(read, How::Read, Met::Fault), Some(Wrong::Lost));
        let own = copied.settle(ERA, shared, Perm::Write);
        assert_eq!(own.thing(), shared);
        assert_eq!(judged(read, own, How::Read, Met::Fault), None, "it was in transit in between");
        assert_eq!(judged(copied, own, How::Read, Met::Fault), None);
        assert_eq!(still(own, How::Read, Met::Fault), Some(Wrong::Lost), "and is not any more");
        let next = own.change(ERA, shared, Perm::Write).settle(ERA, shared, Perm::Write);
        assert_eq!(judged(own, next, How::Read, Met::Fault), Some(Wrong::Lost));
    }

    #[test]
    fn a_page_may_be_away_with_a_message_that_is_refused() {
        let mapped = start().change(ERA, THING, Perm::Write).settle(ERA, THING, Perm::Write);
        let moved = mapped.change(ERA, THING, Perm::None);
        let back = moved.settle(ERA, THING, Perm::Write);
        for (before, after) in [(mapped, moved), (moved, moved), (moved, back), (mapped, back)] {
            assert_eq!(judged(before, after, How::Read, Met::Fault), None);
        }
        assert_eq!(still(back, How::Read, Met::Fault), Some(Wrong::Lost), "and is back");
        assert_eq!(judged(mapped, back, How::Read, Met::Value(99)), Some(Wrong::Stale));
        let shared = back.change(ERA, THING, Perm::Read);
        let own = shared.settle(ERA, THING, Perm::Write);
        assert_eq!(judged(back, own, How::Write, Met::Fault), None, "it was read-only in between");
        assert_eq!(judged(back, own, How::Read, Met::Fault), Some(Wrong::Lost), "but could be read");
    }

    #[test]
    fn what_changes_may_be_mapped_either_way() {
        let mapped = start().settle(ERA, THING, Perm::Write);
        let going = mapped.change(ERA, THING, Perm::Execute);
        assert_eq!((mapped.either(), going.either()), ([Perm::Write; 2], [Perm::Write, Perm::Execute]));
        assert_eq!(going.settle(ERA, THING, Perm::Write).either(), [Perm::Write; 2]);
    }

    #[test]
    fn another_era_has_nothing() {
        let mapped = start().settle(ERA, THING, Perm::Write);
        let later = mapped.in_era(ERA + 1);
        assert_eq!((later.now(), later.sequence()), (Perm::None, mapped.sequence()));
        assert_eq!(still(later, How::Read, Met::Value(70)), Some(Wrong::Stale));
        assert_eq!(mapped.change(ERA + 1, THING, Perm::Read).now(), Perm::None);
    }

    #[test]
    fn a_page_arrives_though_the_space_that_gave_it_is_gone() {
        let pooled = |pool| Thing { pool, ..THING };
        let has = start().settle(ERA, pooled(Pool::Has), Perm::Write);
        for (mode, arrived) in
            [(PageMode::Move, Pool::Has), (PageMode::Share, Pool::Has), (PageMode::Copy, Pool::CopyOnWrite)]
        {
            let target = start().change(ERA, has.thing(), Perm::Read);
            let (thing, left) = passed(has, target, ERA, mode);
            assert_eq!(thing, pooled(arrived), "{mode:?}");
            assert_eq!(left.thing().is_pooled(), mode != PageMode::Move);
            let (thing, _) = passed(has.in_era(ERA + 1), target, ERA, mode);
            assert_eq!(thing, pooled(arrived), "{mode:?}, and the giver's space is another");
        }
    }
}
