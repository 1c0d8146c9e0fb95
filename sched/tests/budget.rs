//! Budgets under random histories: windows see no more than what they may.

use proptest::prelude::*;
use sched::{Budget, ScState};

/// The longest time for which a context runs on after it should have been looked at.
const OVERRUN: u64 = 7;
/// Windows in a history.
const WINDOWS: u64 = 60;

/// One run: how long the context waits before it, which part of its time it uses, how late it stops
/// where it uses all, and whether its budget is set again.
type Run = (u64, u64, u64, bool);

fn runs() -> impl Strategy<Value = Vec<Run>> {
    prop::collection::vec((0..40u64, 1..=8u64, 0..OVERRUN, any::<bool>()), 10..400)
}

/// Plays a history. Returns the ticks used in each window.
fn play(sc: &ScState<()>, budget: Budget, history: &[Run]) -> Vec<u64> {
    let (mut now, mut used) = (0, vec![0; WINDOWS as usize + 8]);
    for (wait, eighths, late, again) in history {
        now += wait;
        now = sc.rests_until(now).unwrap_or(now);
        if now / budget.period >= WINDOWS {
            break;
        }
        let until = sc.start(now);
        let end = if *eighths == 8 { until + late } else { now + (until - now) * eighths / 8 };
        sc.stop(until, end);
        (now..end).for_each(|at| used[(at / budget.period) as usize] += 1);
        now = end;
        if sc.is_slice_over() {
            sc.refill();
        }
        if *again {
            sc.set_budget(Some(budget), now);
        }
    }
    used
}

proptest! {
    #[test]
    fn no_window_sees_more_than_its_budget(
        ticks in 10..60u64, more in 0..60u64, slice in 5..200u64, history in runs(),
    ) {
        let (sc, budget) = (ScState::<()>::inert(), Budget { ticks, period: ticks + more });
        sc.set_slice(slice);
        sc.set_budget(Some(budget), 0);
        let used = play(&sc, budget, &history);
        // The end of a late run may be in the next window.
        let most = used.iter().max().copied().unwrap_or(0);
        prop_assert!(most <= ticks + 2 * OVERRUN, "{most} of {ticks} in one window");
        let all: u64 = used.iter().sum();
        prop_assert_eq!(all, sc.consumed());
        let begun = used.iter().rposition(|ticks| *ticks != 0).map_or(0, |last| last as u64 + 1);
        prop_assert!(all <= ticks * begun + OVERRUN, "{all} in {begun} windows of {ticks}");
    }

    #[test]
    fn a_hungry_context_gets_all_of_its_budget(ticks in 10..60u64, more in 0..60u64, slice in 5..200u64) {
        let (sc, budget) = (ScState::<()>::inert(), Budget { ticks, period: ticks + more });
        sc.set_slice(slice);
        sc.set_budget(Some(budget), 0);
        let hungry = [(0, 8, 0, false); 4000];
        let used = play(&sc, budget, &hungry);
        prop_assert!(used.iter().take(WINDOWS as usize - 1).all(|used| *used == ticks), "{used:?} of {ticks}");
    }
}
