use super::*;

fn context(slice: u64) -> ScState<()> {
    let sc = ScState::inert();
    sc.set_slice(slice);
    sc
}

/// Runs a context from time `start` to time `end`. Returns the rest of its slice.
fn run(sc: &ScState<()>, start: u64, end: u64) -> u64 {
    sc.stop(sc.start(start), end);
    sc.remaining()
}

#[test]
fn slices_are_used_up_and_refilled() {
    let sc = context(100);
    assert_eq!(sc.start(1000), 1100);
    assert_eq!(run(&sc, 1000, 1060), 40);
    assert_eq!(run(&sc, 5000, 5041), 0);
    sc.refill();
    assert_eq!((sc.consumed(), sc.remaining()), (101, 100));
    assert_eq!(run(&sc, 6000, 6100), 0);
    assert_eq!(sc.consumed(), 201);
}

#[test]
fn time_is_counted_while_it_goes_on_running() {
    let sc = context(100);
    let until = sc.start(0);
    for now in [10, 10, 99] {
        sc.stop(until, now);
        assert_eq!((sc.remaining(), sc.consumed()), (100 - now, now));
    }
}

#[test]
fn endless_slices_are_charged_but_never_over() {
    let sc = context(ENDLESS);
    assert!(run(&sc, 7, 1 << 62) > 0);
    assert_eq!((sc.consumed(), sc.slice()), ((1 << 62) - 7, ENDLESS));
    assert!(sc.start(1 << 62) >= NEVER);
    sc.set_slice(50);
    assert_eq!((sc.consumed(), sc.remaining()), ((1 << 62) - 7, 50));
    sc.set_slice(ENDLESS);
    sc.refill();
    assert!(sc.start(0) >= NEVER);
    assert_eq!(sc.consumed(), (1 << 62) - 7);
}

#[test]
fn a_shorter_slice_holds_at_once_and_a_longer_one_at_the_refill() {
    let sc = context(100);
    sc.set_slice(30);
    assert_eq!(sc.remaining(), 30);
    sc.set_slice(500);
    assert_eq!(sc.remaining(), 30);
    sc.refill();
    assert_eq!((sc.remaining(), sc.consumed()), (500, 0));
}

#[test]
fn yielding_hands_over_the_rest() {
    let (from, to) = (context(100), context(70));
    let until = from.start(500);
    from.stop(until, 525);
    from.donate_rest(&to);
    assert_eq!((from.remaining(), to.remaining()), (100, 75));
    assert_eq!(to.start(525), until, "the end of the slice stays what it was");
    assert_eq!((from.consumed(), to.consumed()), (25, 0));
}

#[test]
fn a_context_goes_first_once_in_four_slices() {
    let slice = 2 * TURN_MIN;
    let sc = context(slice);
    let uses = |ticks| run(&sc, 0, ticks);
    assert!(sc.may_go_first() && !sc.may_go_first());
    for turn in 0..TURNS {
        assert!(!sc.may_go_first(), "{turn} slices later");
        uses(slice);
        sc.refill();
    }
    assert!(sc.may_go_first() && !sc.may_go_first());
    // Slices that are shorter than a switch count as longer ones.
    sc.set_slice(1);
    sc.refill();
    uses(1);
    sc.refill();
    assert!(!sc.may_go_first());
    for _ in 1..TURNS * TURN_MIN {
        uses(1);
        sc.refill();
    }
    assert!(sc.may_go_first());
}

#[test]
fn a_context_with_a_shorter_slice_goes_first_sooner() {
    let sc = context(ENDLESS);
    assert!(sc.may_go_first());
    sc.set_slice(TURN_MIN);
    for _ in 0..TURNS {
        assert!(!sc.may_go_first());
        sc.refill();
        run(&sc, 0, TURN_MIN);
    }
    assert!(sc.may_go_first());
}

#[test]
fn what_is_used_of_a_grace_comes_off_the_next_slice() {
    let sc = context(100);
    run(&sc, 0, 100);
    assert!(sc.begin_grace(30));
    assert_eq!((sc.start(100), sc.consumed(), sc.needs_care()), (130, 100, true));
    assert!(!sc.begin_grace(30), "a slice has one grace");
    // It gives up in time.
    run(&sc, 100, 112);
    let other = context(100);
    run(&other, 0, 100);
    assert!(other.begin_grace(30));
    run(&other, 100, 112);
    other.refill_after_grace();
    sc.refill();
    assert_eq!((other.remaining(), other.consumed(), other.needs_care()), (88, 112, false));
    assert_eq!((sc.remaining(), sc.consumed(), sc.needs_care()), (88, 112, false));
    // It runs on until the end, and beyond.
    run(&sc, 200, 288);
    assert!(sc.begin_grace(u64::MAX));
    assert_eq!(run(&sc, 288, 345), 0, "half a slice");
    sc.refill();
    assert_eq!((sc.remaining(), sc.consumed()), (50, 112 + 88 + 57));
}

#[test]
fn what_is_given_to_a_context_in_its_grace_is_less_what_that_has_used() {
    let (from, to) = (context(100), context(70));
    run(&to, 0, 70);
    assert!(to.begin_grace(20));
    run(&to, 70, 75);
    run(&from, 75, 125);
    from.donate_rest(&to);
    assert_eq!((from.remaining(), to.remaining(), to.is_in_grace()), (100, 45, false));
    assert_eq!((from.consumed(), to.consumed()), (50, 75));
}

#[test]
fn a_grace_that_is_cut_short_was_not_used() {
    let sc = context(100);
    run(&sc, 0, 100);
    assert!(sc.begin_grace(40));
    run(&sc, 100, 110);
    sc.set_slice_with_care(20);
    assert_eq!(sc.remaining(), 20);
    sc.refill();
    assert_eq!((sc.remaining(), sc.consumed()), (10, 110), "10 were used");
}

#[test]
fn no_grace_lengthens_a_budget() {
    let sc = limited(20, 30, 100, 0);
    run(&sc, 0, 20);
    assert!(sc.begin_grace(10));
    assert_eq!(run(&sc, 20, 30), 0);
    assert_eq!(sc.rests_until(30), Some(100));
    sc.refill();
    assert_eq!((sc.start(100), sc.has_budget(), sc.is_in_grace()), (110, true, false));
    assert!(!context(1).begin_grace(5), "half of one tick");
}

fn limited(slice: u64, ticks: u64, period: u64, now: u64) -> ScState<()> {
    let sc = context(slice);
    sc.set_budget(Some(Budget { ticks, period }), now);
    sc
}

#[test]
fn a_budget_is_used_up_and_comes_back_with_the_window() {
    let sc = limited(1000, 30, 100, 500);
    assert_eq!((sc.rests_until(500), sc.start(500)), (None, 530));
    assert_eq!(run(&sc, 500, 520), 10);
    assert_eq!(run(&sc, 540, 550), 0);
    assert_eq!((sc.rests_until(550), sc.is_slice_over()), (Some(600), false));
    assert_eq!((sc.rests_until(600), sc.start(600), sc.window_ends()), (None, 630, 700));
    assert_eq!(sc.consumed(), 30);
    sc.set_budget(None, 640);
    assert_eq!((sc.budget(), sc.remaining(), sc.start(640)), (0, 970, 1610));
}

#[test]
fn a_window_is_left_only_at_its_end() {
    let sc = limited(1000, 30, 100, 0);
    assert_eq!(sc.start(80), 100, "the window ends first");
    assert_eq!(run(&sc, 80, 100), 0);
    assert_eq!((sc.rests_until(100), sc.start(100)), (None, 130), "all of the next one is left");
}

#[test]
fn what_was_overrun_comes_off_the_next_window_only() {
    let sc = limited(1000, 30, 100, 0);
    assert_eq!(run(&sc, 0, 45), 0);
    assert_eq!(sc.start(100), 115);
    let sc = limited(1000, 30, 100, 0);
    assert_eq!(run(&sc, 0, 45), 0);
    assert_eq!(sc.start(200), 230, "a window between pays for it");
    let sc = limited(1000, 30, 100, 0);
    assert_eq!(run(&sc, 0, 99), 0);
    assert_eq!((sc.start(100), sc.rests_until(100)), (100, Some(200)), "it owes two windows");
    assert_eq!((sc.start(200), sc.rests_until(200)), (200, Some(300)), "and a part of the third");
    assert_eq!((sc.start(300), sc.start(400)), (321, 430));
}

#[test]
fn a_budget_that_is_set_again_does_not_begin_anew() {
    let sc = limited(1000, 30, 100, 0);
    let _ = run(&sc, 0, 30);
    sc.set_budget(Some(Budget { ticks: 30, period: 100 }), 50);
    assert_eq!(sc.rests_until(50), Some(100));
    sc.set_budget(Some(Budget { ticks: 40, period: 100 }), 50);
    assert_eq!((sc.rests_until(50), sc.start(50)), (None, 60));
    sc.set_budget(Some(Budget { ticks: 20, period: 100 }), 50);
    assert_eq!(sc.rests_until(50), Some(100), "it has used more already");
    sc.set_budget(Some(Budget { ticks: 40, period: 100 }), 50);
    assert_eq!(sc.start(50), 60, "nothing is won by setting less and more");
    sc.set_budget(Some(Budget { ticks: 20, period: 100 }), 50);
    assert_eq!(sc.start(100), 120, "but has overrun nothing");
    let sc = limited(1000, 30, 100, 0);
    sc.set_budget(Some(Budget { ticks: 20, period: 50 }), 50);
    assert_eq!((sc.rests_until(50), sc.start(50), sc.window_ends()), (None, 70, 100));
}

#[test]
fn slices_and_gifts_go_on_beside_a_budget() {
    let sc = limited(10, 30, 100, 0);
    assert_eq!((sc.start(0), run(&sc, 0, 10), sc.is_slice_over()), (10, 0, true));
    sc.refill();
    assert_eq!((sc.start(10), sc.is_slice_over()), (20, false));
    let giver = context(500);
    giver.donate_rest(&sc);
    assert_eq!(sc.start(10), 30, "the gift is slice, not budget");
    let endless = limited(ENDLESS, 30, 100, 0);
    assert_eq!((endless.start(0), endless.slice()), (30, ENDLESS));
    let _ = run(&endless, 0, 30);
    endless.refill();
    assert_eq!((endless.start(100), endless.is_slice_over()), (130, false));
}

#[test]
fn affinity_is_a_set() {
    let cpu = |n| smp::host_test::cpu(n);
    let (sc, only) = (context(1), AtomicCpuSet::default());
    only.insert(cpu(70));
    sc.set_cpus(&only, 100);
    assert!(!sc.may_run_on(cpu(1)) && sc.may_run_on(cpu(70)));
    assert!(sc.runs_within(&only, 100) && !sc.roams(100));
    assert!(!sc.runs_within(&AtomicCpuSet::default(), 100));
}

#[test]
fn a_new_context_is_inert_until_it_is_set() {
    let sc = ScState::<()>::inert();
    assert_eq!((sc.is_inert(), sc.consumed(), sc.remaining(), sc.priority()), (true, 0, 0, 0));
    assert!(sc.runs_within(&AtomicCpuSet::default(), 100));
    sc.set_slice(30);
    assert_eq!((sc.is_inert(), sc.consumed(), sc.remaining()), (false, 0, 30));
}
