//! Tests of the table, with a keeper that simulates the kernel.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HPET: Range = Range { first: 0xfed00, pages: 1 };
const SCREEN: Range = Range { first: 0xe0000, pages: 16 };

const ALL: &[Grant] = &[Grant::new(Range { first: 0, pages: 1 << 20 }, Allows { write: true, dma: true })];

/// Copies of a frame by their leases: what each allows, and where it was put.
type Copies = BTreeMap<usize, (Allows, u32)>;

/// Frames that there are.
#[derive(Default)]
struct Sim {
    frames: BTreeMap<usize, (Range, Copies)>,
    pinned: BTreeSet<usize>,
    /// Ranges of which another process has made frames.
    elsewhere: Vec<Range>,
    made: usize,
    /// Those that are mapped write-combining.
    combining: BTreeSet<usize>,
}

impl Keeper for Sim {
    /// 0 is never empty.
    type Place = u32;

    fn make(&mut self, view: usize, range: Range, combining: bool) -> Result<(), ViewDenial> {
        let mut others = self.frames.values().map(|(other, _)| other).chain(&self.elsewhere);
        if others.any(|other| other.overlaps(range)) {
            return Err(ViewDenial::InUse);
        }
        assert!(self.frames.insert(view, (range, Copies::new())).is_none(), "made over another frame");
        self.made += 1;
        self.combining.retain(|other| other != &view);
        self.combining.extend(combining.then_some(view));
        Ok(())
    }

    fn unmake(&mut self, view: usize, devices_are_still: bool) -> Result<(), ViewDenial> {
        if !devices_are_still && self.pinned.contains(&view) {
            return Err(ViewDenial::Pinned);
        }
        self.pinned.remove(&view);
        self.frames.remove(&view).map(|_| ()).ok_or(ViewDenial::Refused)
    }

    fn lend(&mut self, view: usize, lease: usize, allows: Allows, to: u32) -> Result<(), ViewDenial> {
        let (_, copies) = self.frames.get_mut(&view).expect("a frame to lend");
        if to == 0 {
            return Err(ViewDenial::BadSlot);
        }
        assert!(copies.insert(lease, (allows, to)).is_none(), "lent over another lease");
        Ok(())
    }

    fn recall(&mut self, view: usize, lease: usize) -> Result<(), ViewDenial> {
        let (_, copies) = self.frames.get_mut(&view).expect("a frame that was lent");
        copies.remove(&lease).map(|_| ()).ok_or(ViewDenial::Refused)
    }
}

fn views() -> Views<Sim> {
    Views::new(Sim::default())
}

fn copies(views: &Views<Sim>) -> usize {
    views.keeper.frames.values().map(|(_, copies)| copies.len()).sum()
}

#[test]
fn a_view_has_one_holder_and_comes_back() {
    let mut views = views();
    let wanted = Wanted::new(HPET, Allows::WRITE);
    assert_eq!(views.lend(1, &wanted, ALL, 5), Ok(()));
    assert_eq!(views.lend(2, &wanted, ALL, 6), Err(ViewDenial::InUse));
    assert_eq!(views.lend(1, &wanted, ALL, 6), Err(ViewDenial::InUse), "the same one again");
    assert_eq!(views.lend(2, &Wanted::shared(HPET), ALL, 6), Err(ViewDenial::InUse), "only to read it");
    assert_eq!(views.give_back(2, HPET), Err(ViewDenial::NotHeld));
    assert_eq!(views.ended(2, true), Ok(0));
    assert_eq!(views.ended(1, false), Ok(1));
    assert!(views.is_idle(HPET), "the keeper has it again");
    assert_eq!((copies(&views), views.keeper.made), (0, 2), "made anew, nobody's");
    assert_eq!(views.lend(2, &wanted, ALL, 6), Ok(()));
    assert!(views.holders(HPET).eq([2]));
    assert_eq!(views.give_back(2, HPET), Ok(()));
    assert_eq!(views.drop_idle(), Ok(()));
    assert!(views.keeper.frames.is_empty());
}

/// The grant says how a view is mapped. An idle view that is mapped otherwise makes way.
#[test]
fn a_view_is_mapped_as_its_grant_says() {
    let mut views = views();
    let screen = [Grant { combining: true, ..Grant::new(SCREEN, Allows::WRITE) }];
    let registers = [Grant::new(SCREEN, Allows::WRITE)];
    let wanted = Wanted::new(SCREEN, Allows::WRITE);
    for (granted, combining) in [(&screen, 1), (&registers, 0), (&screen, 1)] {
        assert_eq!(views.lend(1, &wanted, granted, 5), Ok(()));
        assert_eq!((views.keeper.frames.len(), views.keeper.combining.len()), (1, combining));
        assert_eq!(views.ended(1, true), Ok(1));
        assert_eq!(views.keeper.combining.len(), combining, "the keeper's own is like the holder's");
    }
    assert_eq!(views.lend(1, &Wanted::shared(SCREEN), &screen, 5), Ok(()));
    let refused = views.lend(2, &Wanted::shared(SCREEN), &registers, 5);
    assert_eq!(refused, Err(ViewDenial::InUse), "a page is mapped in one way");
    assert_eq!(views.lend(2, &Wanted::shared(SCREEN), &screen, 5), Ok(()));
}

#[test]
fn what_was_not_granted_is_refused() {
    let mut views = views();
    let granted = [Grant::new(SCREEN, Allows::WRITE), Grant::new(HPET, Allows { write: false, dma: true })];
    let part = Range { first: SCREEN.first + 3, pages: 2 };
    let before = Range { first: SCREEN.first - 1, pages: 2 };
    let dma = Allows { write: false, dma: true };
    for (range, allows) in [(before, Allows::READ), (HPET, Allows::WRITE), (part, dma), (HPET.next(), dma)] {
        let refused = views.lend(1, &Wanted::new(range, allows), &granted, 1);
        assert_eq!(refused, Err(ViewDenial::NotAllowed), "{range:?} {allows:?}");
    }
    assert_eq!(views.keeper.made, 0, "nothing was made for that");
    assert_eq!(views.lend(1, &Wanted::new(part, Allows::WRITE), &granted, 1), Ok(()));
    assert_eq!(views.lend(1, &Wanted::new(SCREEN, Allows::READ), &granted, 2), Err(ViewDenial::InUse));
    assert_eq!(views.lend(1, &Wanted::new(HPET, dma), &granted, 3), Ok(()));
    assert_eq!(views.lend(1, &Wanted::new(HPET, dma), &[], 3), Err(ViewDenial::NotAllowed));
}

impl Range {
    fn next(self) -> Range {
        Range { first: self.first + 1, pages: self.pages }
    }
}

#[test]
fn readers_share_if_all_of_them_said_so() {
    let mut views = views();
    let shared = Wanted::shared(SCREEN);
    for holder in 0..HOLDERS_MAX as u16 {
        assert_eq!(views.lend(holder, &shared, ALL, 7), Ok(()));
    }
    assert_eq!(views.lend(99, &shared, ALL, 7), Err(ViewDenial::Full));
    assert_eq!(views.lend(99, &Wanted::new(SCREEN, Allows::READ), ALL, 7), Err(ViewDenial::InUse), "alone");
    let part = Wanted::shared(Range { pages: 1, ..SCREEN });
    assert_eq!(views.lend(99, &part, ALL, 7), Err(ViewDenial::InUse), "a part of it");
    assert_eq!(views.ended(3, false), Ok(1));
    assert_eq!((copies(&views), views.keeper.made), (HOLDERS_MAX - 1, 1), "the others keep theirs");
    assert_eq!(views.lend(99, &shared, ALL, 7), Ok(()));
    let both = Wanted { shared: true, allows: Allows::WRITE, range: HPET };
    assert_eq!(views.lend(1, &both, ALL, 7), Err(ViewDenial::BadRequest));
}

#[test]
fn a_pinned_view_stays_until_the_device_is_still() {
    let mut views = views();
    let wanted = Wanted::new(SCREEN, Allows { write: true, dma: true });
    views.lend(1, &wanted, ALL, 1).unwrap();
    views.lend(1, &Wanted::new(HPET, Allows::READ), ALL, 2).unwrap();
    views.keeper.pinned.insert(0);
    assert_eq!(views.give_back(1, SCREEN), Err(ViewDenial::Pinned));
    assert_eq!(views.ended(1, false), Err(ViewDenial::Pinned));
    assert!(views.is_idle(HPET), "the other one came back");
    assert_eq!(views.lend(2, &wanted, ALL, 1), Err(ViewDenial::InUse));
    assert_eq!(views.ended(1, true), Ok(1));
    assert_eq!(views.lend(2, &wanted, ALL, 1), Ok(()));
}

#[test]
fn refusals_leave_nothing() {
    let mut views = views();
    let wanted = Wanted::new(HPET, Allows::READ);
    assert_eq!(views.lend(1, &wanted, ALL, 0), Err(ViewDenial::BadSlot));
    assert!(views.is_idle(HPET) && copies(&views) == 0);
    assert_eq!(views.lend(2, &wanted, ALL, 1), Ok(()));
    views.keeper.elsewhere.push(SCREEN);
    assert_eq!(views.lend(1, &Wanted::new(SCREEN, Allows::READ), ALL, 1), Err(ViewDenial::InUse));
    for range in
        [Range { pages: 0, ..HPET }, Range { pages: 513, ..HPET }, Range { first: u64::MAX, pages: 1 }]
    {
        let wanted = Wanted::new(range, Allows::READ);
        assert_eq!(views.lend(1, &wanted, ALL, 1), Err(ViewDenial::BadRequest), "{range:?}");
        assert_eq!(wanted.sound(), Err(ViewDenial::BadRequest));
    }
}

#[test]
fn as_many_as_there_can_be() {
    let mut views = views();
    let nth = |n: u64| Wanted::new(Range { first: 1000 + n, pages: 1 }, Allows::READ);
    for n in 0..VIEWS_MAX as u64 {
        assert_eq!(views.lend(1, &nth(n), ALL, 1), Ok(()));
    }
    assert_eq!(views.lend(2, &nth(100), ALL, 1), Err(ViewDenial::Full));
    assert_eq!(views.give_back(1, nth(5).range), Ok(()));
    assert_eq!(views.lend(2, &nth(100), ALL, 1), Ok(()), "one that nobody has makes way");
    assert!(!views.is_idle(nth(5).range));
    assert_eq!(views.ended(1, false), Ok(VIEWS_MAX - 1));
    // One that lies across several that nobody has.
    assert_eq!(views.lend(3, &Wanted::new(Range { first: 1002, pages: 9 }, Allows::READ), ALL, 1), Ok(()));
}

#[test]
fn denials_survive_the_way_to_the_holder() {
    use protocols::{Failure, supervisor::Refusal};
    for &denial in ViewDenial::ALL {
        let failure: Failure<_, crate::Refusal> = Failure::Refused(Refusal::from(denial));
        assert_eq!(ViewDenial::from(failure), denial);
    }
}

/// What the model knows: who has which pages, and how.
type Model = Vec<(u16, Wanted)>;

/// Whether this may be lent, as the module says.
fn may(model: &Model, holder: u16, wanted: &Wanted) -> bool {
    let meets = model.iter().filter(|(_, other)| other.range.overlaps(wanted.range));
    meets
        .clone()
        .all(|(by, other)| *by != holder && other.shared && wanted.shared && other.range == wanted.range)
}

proptest! {
    /// Holders make random requests: no two holders have one view, and the lent views are those of
    /// the model.
    #[test]
    fn nobody_has_what_somebody_else_has(
        steps in proptest::collection::vec((0..4u16, 0..10u64, 1..4u32, 0..4u8, 0..3u8), 1..120),
    ) {
        let mut views = views();
        let mut model = Model::new();
        for (holder, first, pages, how, step) in steps {
            let range = Range { first, pages };
            let allows = Allows { write: how == 1, dma: how == 2 };
            let wanted = Wanted { range, allows, shared: how == 3 };
            match step {
                0 => {
                    let done = views.lend(holder, &wanted, ALL, 1);
                    prop_assert_eq!(done.is_ok(), may(&model, holder, &wanted), "{:?}", done);
                    if done.is_ok() {
                        model.push((holder, wanted));
                    }
                }
                1 => {
                    let held = model.iter().position(|(by, other)| *by == holder && other.range == range);
                    prop_assert_eq!(views.give_back(holder, range).is_ok(), held.is_some());
                    held.map(|held| model.swap_remove(held));
                }
                _ if how == 0 => {
                    let had = model.iter().filter(|(by, _)| *by == holder).count();
                    prop_assert_eq!(views.ended(holder, false), Ok(had));
                    model.retain(|(by, _)| *by != holder);
                }
                _ => {}
            }
            prop_assert_eq!(copies(&views), model.len(), "as many copies as holders");
            for (holder, wanted) in &model {
                prop_assert!(views.holders(wanted.range).any(|one| one == *holder));
                let lent = views.keeper.frames.values().filter(|(range, _)| *range == wanted.range);
                let mut lent = lent.flat_map(|(_, copies)| copies.values());
                prop_assert!(lent.any(|(allows, _)| *allows == wanted.allows));
            }
        }
    }
}
