//! Derivation trees: what descends from what, whatever has left the tree.

use abi::{Cap, ObjType, Op, Rights};
use kern_base::limits::RAISED_MAX;
use kern_base::notification::Notification;
use kern_base::slot::DEPTH_MAX;
use smp::host_test;

use crate::world::make::at;
use crate::world::{Regs, World};

/// More children than become less deep when their parent leaves.
const MANY: usize = 3 * RAISED_MAX;

fn copy(w: &mut World, of: Cap) -> Cap {
    let to = w.slot();
    w.must(0, Op::CapCopy, &[of.arg(), at(to), u64::from(Rights::ALL.0), 0]);
    to
}

fn copies(w: &mut World, of: Cap, count: usize) -> Vec<Cap> {
    (0..count).map(|_| copy(w, of)).collect()
}

/// Which of some capabilities are there.
fn alive(w: &World, caps: &[Cap]) -> Vec<bool> {
    caps.iter().map(|cap| w.object::<Notification>(*cap).is_some()).collect()
}

/// Deletes a capability from which so many others were derived. Returns the points of the entry.
fn leaves_in_one_entry(count: usize) -> u64 {
    let mut w = World::unchecked(1, 16 << 20);
    let top = w.make(0, ObjType::Notification, 0);
    let leaving = copy(&mut w, top);
    let children = copies(&mut w, leaving, count);
    w.summon(0);
    w.prepare(0, Regs::op(Op::CapDelete, &[at(leaving)]));
    let mut points = 0;
    host_test::at_points(&mut |_| points += 1, || w.syscall(0));
    assert!(w.is_over(0), "it takes more than one entry");
    w.dismiss(0);
    assert!(alive(&w, &children).into_iter().all(|is| is));
    w.must(0, Op::CapRevoke, &[at(top)]);
    assert!(alive(&w, &children).into_iter().all(|is| !is), "they descend from its parent");
    points
}

#[test]
fn a_capability_leaves_in_one_entry_however_many_children_it_has() {
    assert_eq!(leaves_in_one_entry(40 * RAISED_MAX), leaves_in_one_entry(MANY));
}

/// A family: `top` has the children `elder`, `leaving` and `younger`; `leaving` has many children,
/// each with a child of its own.
struct Family {
    w: World,
    top: Cap,
    elder: Cap,
    leaving: Cap,
    younger: Cap,
    children: Vec<Cap>,
    grandchildren: Vec<Cap>,
}

impl Family {
    fn new(count: usize) -> Family {
        let mut w = World::with_memory(1, 16 << 20);
        let top = w.make(0, ObjType::Notification, 0);
        // What is derived last stands first.
        let [younger, leaving, elder] = [(); 3].map(|()| copy(&mut w, top));
        let children = copies(&mut w, leaving, count);
        let grandchildren = children.iter().map(|child| copy(&mut w, *child)).collect();
        Family { w, top, elder, leaving, younger, children, grandchildren }
    }

    fn delete(&mut self, cap: Cap) {
        self.w.must(0, Op::CapDelete, &[at(cap)]);
    }

    fn revoke(&mut self, cap: Cap) {
        self.w.must(0, Op::CapRevoke, &[at(cap)]);
    }

    fn all(&self) -> Vec<Cap> {
        let mut all = vec![self.top, self.elder, self.younger];
        all.extend(self.children.iter().chain(&self.grandchildren));
        all
    }

    /// Checks that of all but the leaving one those are gone, and no others.
    #[track_caller]
    fn check_gone(&self, gone: &[Cap]) {
        let all = self.all();
        let wrong: Vec<_> = (0..)
            .zip(&all)
            .filter(|(_, cap)| gone.contains(cap) == self.w.object::<Notification>(**cap).is_some())
            .collect();
        assert_eq!(wrong, [], "of {} children", self.children.len());
    }
}

#[test]
fn children_of_what_has_left_descend_from_nobody_new() {
    for count in [1, 2, RAISED_MAX, MANY] {
        let mut f = Family::new(count);
        f.delete(f.leaving);
        f.revoke(f.elder);
        f.revoke(f.younger);
        f.check_gone(&[]);
        // Each child still has its own child.
        let (child, grandchild) = (f.children[count / 2], f.grandchildren[count / 2]);
        f.revoke(child);
        f.check_gone(&[grandchild]);
        f.delete(child);
        f.revoke(f.elder);
        f.check_gone(&[grandchild, child]);
        f.revoke(f.top);
        let rest = f.all()[1..].to_vec();
        f.check_gone(&rest);
    }
}

#[test]
fn what_descends_from_several_that_have_left_descends_from_the_rest() {
    for count in [1, 2, RAISED_MAX, MANY] {
        let mut f = Family::new(count);
        let great = f.grandchildren.clone().into_iter().map(|cap| copy(&mut f.w, cap)).collect::<Vec<_>>();
        // The first slot of each level keeps the floor of all that have left before it.
        let first = *f.children.last().expect("a child");
        f.delete(f.leaving);
        f.delete(first);
        f.delete(*f.grandchildren.last().expect("a grandchild"));
        f.revoke(f.elder);
        assert!(alive(&f.w, &great).into_iter().all(|is| is), "they descend from an uncle");
        // The elder one gets a child, and leaves, too.
        let late = copy(&mut f.w, f.elder);
        f.delete(f.elder);
        f.revoke(late);
        assert!(alive(&f.w, &great).into_iter().all(|is| is), "they descend from a cousin");
        f.revoke(f.top);
        assert!(alive(&f.w, &great).into_iter().all(|is| !is));
    }
}

#[test]
fn a_capability_that_is_copied_on_and_on_gets_no_deeper() {
    let mut w = World::new(1);
    let top = w.make(0, ObjType::Notification, 0);
    let mut last = copy(&mut w, top);
    let _ = copies(&mut w, top, MANY);
    for _ in 0..2 * DEPTH_MAX {
        let next = copy(&mut w, last);
        w.must(0, Op::CapDelete, &[at(last)]);
        last = next;
    }
}

#[test]
fn a_tree_has_a_greatest_depth() {
    let mut w = World::new(1);
    let mut last = w.make(0, ObjType::Notification, 0);
    let mut depth = 1;
    let full = loop {
        let to = w.slot();
        match w.ask(0, Op::CapCopy, &[last.arg(), at(to), u64::from(Rights::ALL.0), 0]) {
            Ok(_) => (last, depth) = (to, depth + 1),
            Err(error) => break error,
        }
    };
    assert_eq!((full, depth), ((abi::Error::Full, DEPTH_MAX.into()), DEPTH_MAX));
}
