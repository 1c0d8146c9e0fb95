//! Passes over an Untyped's pages, by several tasks that sweep at the same time.

use kern_base::sweep::Sweep;

const PAGES: u64 = 10;

#[test]
fn a_pass_that_has_begun_proves_nothing_to_who_comes_later() {
    let sweep = Sweep::default();
    let first = sweep.pass_from_now();
    sweep.note(sweep.go_on(), 4, PAGES);
    let second = sweep.pass_from_now();
    assert!(!sweep.is_over(first) && !sweep.is_over(second));
    let stretch = sweep.go_on();
    assert_eq!(stretch.first, 4, "it goes on where the first was");
    sweep.note(stretch, PAGES, PAGES);
    assert!(sweep.is_over(first) && !sweep.is_over(second));
    let stretch = sweep.go_on();
    assert_eq!(stretch.first, 0, "the next pass looks at all pages");
    sweep.note(stretch, PAGES, PAGES);
    assert!(sweep.is_over(second));
}

/// One sweep checks the first pages and has not reported it. A sweep that begins then may not count
/// these checks as later than its beginning.
#[test]
fn a_pass_begins_with_its_first_look() {
    let sweep = Sweep::default();
    let first = sweep.pass_from_now();
    let stretch = sweep.go_on();
    let second = sweep.pass_from_now();
    sweep.note(stretch, PAGES, PAGES);
    assert!(sweep.is_over(first) && !sweep.is_over(second));
}

/// Two sweeps check the same pages. The slower one returns when the pass is over, or when the next
/// one is under way.
#[test]
fn who_is_slow_moves_no_later_pass_on() {
    for next_is_under_way in [false, true] {
        let sweep = Sweep::default();
        let slow = sweep.go_on();
        sweep.note(sweep.go_on(), PAGES, PAGES);
        if next_is_under_way {
            sweep.note(sweep.go_on(), 3, PAGES);
        }
        let pass = sweep.pass_from_now();
        sweep.note(slow, 8, PAGES);
        sweep.note(slow, PAGES, PAGES);
        let stretch = sweep.go_on();
        assert_eq!(stretch.first, if next_is_under_way { 3 } else { 0 });
        assert!(!sweep.is_over(pass));
    }
}

/// If two sweeps check the same pages, the one that got further counts.
#[test]
fn looks_of_two_add_up() {
    let sweep = Sweep::default();
    let pass = sweep.pass_from_now();
    let (one, other) = (sweep.go_on(), sweep.go_on());
    sweep.note(one, 7, PAGES);
    sweep.note(other, 5, PAGES);
    assert_eq!(sweep.go_on().first, 7);
    sweep.note(other, PAGES, PAGES);
    assert!(sweep.is_over(pass));
}

#[test]
fn nobody_waits_for_a_pass_that_was_made_up() {
    let sweep = Sweep::default();
    assert_eq!(sweep.pass(1), Some(sweep.pass_from_now()));
    sweep.note(sweep.go_on(), PAGES, PAGES);
    assert_eq!(sweep.pass(2), Some(sweep.pass_from_now()));
    assert!([0, 3, u64::MAX].into_iter().all(|made_up| sweep.pass(made_up).is_none()));
}
