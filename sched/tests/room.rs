//! Room for budgets under random histories: contexts that are set, run, and go at any time use no
//! more than the room in the long run.

use proptest::prelude::*;
use sched::{Budget, Room, ScState, Share};

/// The longest time for which a context runs on after it should have been looked at.
const OVERRUN: u64 = 3_000;
/// The room: two fifths of a CPU.
const ROOM: Share = 4_000;
/// A whole CPU.
const WHOLE: u64 = 10_000;
/// The longest window.
const PERIOD: u64 = 4_000_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A context runs, for so much of what it may; and so much longer if it uses all of that.
    Run { which: usize, eighths: u64, late: u64 },
    /// Nobody runs.
    Wait { ticks: u64 },
    /// A context gets a budget, or another one goes and gets it when it is made again.
    Set { which: usize, percent: u64, period: u64, new: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0..4usize;
    let period = prop_oneof![Just(PERIOD), Just(PERIOD / 4), Just(PERIOD + 1), Just(PERIOD / 50)];
    let percent = prop_oneof![1..42u64, Just(1), Just(38)];
    prop_oneof![
        4 => (which.clone(), 1..=8u64, 0..OVERRUN)
            .prop_map(|(which, eighths, late)| Step::Run { which, eighths, late }),
        2 => prop_oneof![0..PERIOD / 100, 0..PERIOD].prop_map(|ticks| Step::Wait { ticks }),
        4 => (which, percent, period, any::<bool>())
            .prop_map(|(which, percent, period, new)| Step::Set { which, percent, period, new }),
    ]
}

/// How budgets are set, in which turn, and when.
type Way = fn(&mut Room, &mut Vec<Timed>, u64, u64);

/// A context and the share that it has.
struct Timed {
    state: ScState<()>,
    share: Share,
}

fn new() -> Timed {
    let state = ScState::inert();
    state.set_slice(sched::ENDLESS);
    Timed { state, share: 0 }
}

fn set(room: &mut Room, it: &mut Timed, budget: Budget, now: u64) {
    if let Ok(share) = room.change(&it.state, it.share, budget, now) {
        it.share = share;
        it.state.set_budget(Some(budget), now);
    }
}

/// Returns the time used, and the time passed.
fn play(steps: &[Step]) -> (u64, u64) {
    let (mut room, mut now, mut used) = (Room::new(ROOM), 0, 0);
    let mut all: Vec<Timed> = (0..4).map(|_| new()).collect();
    for step in steps {
        match *step {
            Step::Wait { ticks } => now += ticks,
            Step::Run { which, eighths, late } => {
                let it = &all[which].state;
                if all[which].share == 0 || it.rests_until(now).is_some() {
                    continue;
                }
                let until = it.start(now);
                let end = if eighths == 8 { until + late } else { now + (until - now) * eighths / 8 };
                it.stop(until, end);
                used += end - now;
                now = end;
            }
            Step::Set { which, percent, period, new: is_new } => {
                let it = &mut all[which];
                if is_new {
                    room.give_back(it.share, it.state.used_at(now), now);
                    *it = new();
                }
                set(&mut room, it, Budget { ticks: period * percent / 100, period }, now);
            }
        }
        assert!(room.used() <= ROOM && room.used() == all.iter().map(|it| it.share).sum::<Share>());
    }
    (used, now)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Each context may have used one budget in advance, and one run may have been too long.
    #[test]
    fn all_together_use_no_more_than_the_room(steps in prop::collection::vec(step(), 1..400)) {
        let (used, now) = play(&steps);
        let most = now * u64::from(ROOM) / WHOLE + PERIOD * u64::from(ROOM) / WHOLE + 4 * OVERRUN;
        prop_assert!(used <= most, "{used} of {most} in {now}");
    }
}

/// Budgets that are raised at the end of each window, and lowered when it is over.
#[test]
fn who_raises_its_budgets_at_the_end_of_windows_gains_nothing() {
    const COUNT: u64 = 9;
    let (mut room, mut used) = (Room::new(1_000), 0);
    let mut all: Vec<Timed> = (0..COUNT).map(|_| new()).collect();
    let budget = |share: u64| Budget { ticks: PERIOD * share / WHOLE, period: PERIOD };
    for (n, it) in (0..).zip(&mut all) {
        set(&mut room, it, budget(1), PERIOD * n / COUNT);
    }
    let mut now = PERIOD;
    for turn in 0..20 * COUNT {
        let it = &mut all[(turn % COUNT) as usize];
        now = PERIOD * (COUNT + turn) / COUNT - PERIOD / COUNT;
        set(&mut room, it, budget(991), now);
        if it.state.rests_until(now).is_none() {
            let until = it.state.start(now);
            let end = until.min(now + PERIOD / COUNT);
            it.state.stop(until, end);
            used += end - now;
            now = end;
        }
        set(&mut room, it, budget(1), now);
    }
    assert!(used <= now / 10 + PERIOD / 10, "{used} of {now}");
}

/// A budget that is set again whenever it is used up: with another period, from a new context, or
/// in turn with other contexts.
#[test]
fn who_sets_its_budgets_again_and_again_gains_nothing() {
    let ways: [Way; 3] = [
        |room, all, turn, now| {
            let period = PERIOD + turn % 2;
            set(room, &mut all[0], Budget { ticks: period * 2 / 5, period }, now);
        },
        |room, all, _, now| {
            let old = &all[0];
            room.give_back(old.share, old.state.used_at(now), now);
            all[0] = new();
            set(room, &mut all[0], Budget { ticks: PERIOD * 2 / 5, period: PERIOD }, now);
        },
        |room, all, _, now| {
            set(room, &mut all[0], Budget { ticks: 1_000, period: PERIOD }, now);
            all.rotate_left(1);
            set(room, &mut all[0], Budget { ticks: PERIOD * 39 / 100, period: PERIOD }, now);
        },
    ];
    for (n, way) in ways.into_iter().enumerate() {
        let (mut room, mut now, mut used) = (Room::new(ROOM), 0, 0);
        let mut all: Vec<Timed> = (0..4).map(|_| new()).collect();
        for turn in 0..2_000 {
            way(&mut room, &mut all, turn, now);
            let it = &all[0];
            if it.share == 0 || it.state.rests_until(now).is_some() {
                now += PERIOD / 100;
                continue;
            }
            let until = it.state.start(now);
            it.state.stop(until, until);
            used += until - now;
            now = until;
        }
        let most = (now + 2 * PERIOD) * u64::from(ROOM) / WHOLE;
        assert!(used <= most && used > most / 4, "way {n}: {used} of {now}");
    }
}

/// A policy that gives a context a little more whenever it looks, or more and less in turn: the
/// context runs all the same.
#[test]
fn who_is_raised_again_and_again_goes_on() {
    for raised in [|turn: u64| 30 + turn / 100, |turn: u64| 39 + turn % 2] {
        let (mut room, mut now, mut used) = (Room::new(ROOM), 0, 0);
        let mut it = new();
        for turn in 0..1_000 {
            set(&mut room, &mut it, Budget { ticks: PERIOD * raised(turn) / 100, period: PERIOD }, now);
            let next = now + PERIOD / 7;
            while now < next && it.state.rests_until(now).is_none() {
                let until = it.state.start(now);
                let end = until.min(next);
                it.state.stop(until, end);
                used += end - now;
                now = end;
            }
            now = next;
        }
        assert!(used >= now * 28 / 100 && used <= (now + PERIOD) * 2 / 5, "{used} of {now}");
    }
}
