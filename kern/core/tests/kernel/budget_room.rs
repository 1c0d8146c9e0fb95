//! Room for budgets: what SchedControls with an account give, and when it comes back.

use abi::time::{WHOLE_CPU, room_left};
use abi::{Cap, Error, ObjType, Op};
use kern_base::limits::ACCOUNTS;
use kern_base::task::State;

use crate::scene::Scene;
use crate::world::make::{CONTROL, at};
use crate::world::{Regs, Tcb, World, check};

const PERIOD: u64 = 100_000;
const SLICE: u64 = 1_000;
const HALF: u64 = WHOLE_CPU / 2;

type Refused = (Error, u64);
/// What is done with a SchedControl and a context that it has set.
type Turn = fn(&mut Scene, Cap, Cap) -> Result<(), Refused>;

fn no_room(free: u64) -> Result<(), Refused> {
    Err((Error::OverLimit, room_left(free)))
}

/// Extends a SchedControl by another one, for the first two CPUs.
fn allow(w: &mut World, by: u64, to: Cap, room: u64) -> Result<(), Refused> {
    w.ask(0, Op::SchedAllow, &[by, to.arg(), 20, 0, 3, room]).map(drop)
}

/// A SchedControl with room.
fn control(s: &mut Scene, room: u64) -> Cap {
    let control = s.w.make(0, ObjType::SchedControl, 0);
    allow(&mut s.w, CONTROL, control, room).expect("room for it");
    control
}

/// Sets a budget from CPU `n`, as a part of [`PERIOD`].
fn set(w: &mut World, n: usize, by: Cap, time: Cap, budget: u64, period: u64) -> Result<(), Refused> {
    let args = [by.arg(), time.arg(), 9, SLICE, budget, period];
    w.ask(n, Op::SchedConfigure, &args).map(drop)
}

fn inert(s: &mut Scene) -> Cap {
    s.w.retype_of(0, abi::INIT_UNTYPED, ObjType::SchedContext, 0)
}

/// A task on CPU 1 with this time, which runs.
fn start(s: &mut Scene, time: Cap) -> Tcb {
    let (task, _) = s.task(1, 9, false);
    s.w.must(0, Op::SchedBind, &[time.arg(), task.cap.arg()]);
    s.w.resume(&task);
    s.w.run();
    task
}

#[test]
fn budgets_share_the_room() {
    let mut s = Scene::new(2);
    let by = control(&mut s, HALF);
    let times = [inert(&mut s), inert(&mut s), inert(&mut s)];
    assert_eq!(set(&mut s.w, 0, by, times[0], 0, 0), no_room(HALF), "time without a budget has no end");
    assert_eq!(set(&mut s.w, 0, by, times[0], PERIOD / 2 + 1, PERIOD), no_room(HALF));
    assert_eq!(set(&mut s.w, 0, by, times[0], PERIOD / 5, PERIOD), Ok(()));
    assert_eq!(set(&mut s.w, 0, by, times[1], 4 * PERIOD, 10 * PERIOD), no_room(3_000));
    assert_eq!(set(&mut s.w, 0, by, times[1], 3 * PERIOD, 10 * PERIOD), Ok(()));
    assert_eq!(set(&mut s.w, 0, by, times[2], 1_000, 100_000_000), no_room(0), "it is rounded up");
    check::all(&s.w);
    // Where the time is does not matter.
    start(&mut s, times[0]);
    let more = PERIOD / 5 + PERIOD / 100;
    assert_eq!(set(&mut s.w, 0, by, times[0], more, PERIOD), no_room(2_000), "what it has");
    assert_eq!(set(&mut s.w, 1, by, times[0], PERIOD / 10, PERIOD), Ok(()));
    check::all(&s.w);
}

/// A context that has used up its budget gets no other one in the same window, however it is set,
/// and nor does another context in its place.
#[test]
fn what_is_given_back_is_free_when_its_window_ends() {
    let turns: [Turn; 4] = [
        |s, by, time| set(&mut s.w, 0, by, time, PERIOD, 2 * PERIOD),
        |s, by, time| {
            set(&mut s.w, 0, by, time, 1_000, PERIOD).expect("it is less");
            let other = inert(s);
            set(&mut s.w, 0, by, other, PERIOD / 2, PERIOD)
        },
        |s, by, time| {
            s.delete(time);
            let other = inert(s);
            set(&mut s.w, 0, by, other, PERIOD / 2, PERIOD)
        },
        |s, by, time| {
            s.w.must(0, Op::SchedConfigure, &[CONTROL, time.arg(), 9, SLICE]);
            let other = inert(s);
            set(&mut s.w, 0, by, other, PERIOD / 2, PERIOD)
        },
    ];
    for (n, turn) in turns.into_iter().enumerate() {
        let mut s = Scene::new(2);
        let (by, time) = (control(&mut s, HALF), inert(&mut s));
        set(&mut s.w, 0, by, time, PERIOD / 2, PERIOD).expect("it is free");
        let task = start(&mut s, time);
        assert!(s.w.runs(1, &task));
        s.w.advance(PERIOD * 3 / 4);
        s.w.event(1);
        let refused = turn(&mut s, by, time);
        assert!(
            matches!(refused, Err((Error::OverLimit, left)) if left < room_left(HALF)),
            "{n}: {refused:?}"
        );
        check::all(&s.w);
        s.w.advance(PERIOD);
        s.w.event(1);
        let other = inert(&mut s);
        if n == 0 {
            s.delete(time);
            s.w.advance(2 * PERIOD);
        }
        assert_eq!(set(&mut s.w, 0, by, other, PERIOD / 2 - 1_000, PERIOD), Ok(()), "{n}");
        check::all(&s.w);
    }
}

#[test]
fn what_is_extended_shares_the_room_of_its_origin() {
    let mut s = Scene::new(2);
    let (by, next) = (control(&mut s, HALF), s.w.make(0, ObjType::SchedControl, 0));
    assert_eq!(allow(&mut s.w, by.arg(), next, 1_000), Err((Error::BadArgument, 5)), "it has none to divide");
    assert_eq!(allow(&mut s.w, by.arg(), next, 0), Ok(()));
    let (one, other) = (inert(&mut s), inert(&mut s));
    set(&mut s.w, 0, by, one, PERIOD / 4, PERIOD).expect("it is free");
    assert_eq!(set(&mut s.w, 0, next, other, PERIOD / 2, PERIOD), no_room(HALF / 2));
    assert_eq!(set(&mut s.w, 0, next, one, PERIOD / 2, PERIOD), Ok(()), "it is in the same account");
    // The first is gone, and the room stays.
    s.delete(by);
    check::all(&s.w);
    assert_eq!(set(&mut s.w, 0, next, other, PERIOD / 10, PERIOD), no_room(0));
}

#[test]
fn room_is_set_once() {
    let mut s = Scene::new(2);
    let by = control(&mut s, HALF);
    assert_eq!(allow(&mut s.w, CONTROL, by, HALF), Ok(()), "as it is");
    for other in [HALF + 1, 0] {
        assert_eq!(allow(&mut s.w, CONTROL, by, other), Err((Error::BadState, 20)), "{other}");
    }
    let free = s.w.control_of(0, abi::INIT_UNTYPED, 20, 3);
    assert_eq!(allow(&mut s.w, CONTROL, free, HALF), Err((Error::BadState, 20)));
    assert_eq!(allow(&mut s.w, by.arg(), free, 0), Err((Error::BadState, 20)), "it has no room");
    let new = s.w.make(0, ObjType::SchedControl, 0);
    for wrong in [WHOLE_CPU * smp::cpu::MAX_CPUS as u64 + 1, u64::MAX] {
        assert_eq!(allow(&mut s.w, CONTROL, new, wrong), Err((Error::BadArgument, 5)));
    }
    check::all(&s.w);
}

/// Accounts come back: with the last SchedControl, and with the last context that has a share.
#[test]
fn accounts_are_used_again() {
    let mut s = Scene::new(2);
    let mut controls: Vec<Cap> = (0..ACCOUNTS).map(|_| control(&mut s, HALF)).collect();
    let new = s.w.make(0, ObjType::SchedControl, 0);
    assert_eq!(allow(&mut s.w, CONTROL, new, 1), Err((Error::Full, 0)));
    let (last, time) = (controls.pop().expect("there are some"), inert(&mut s));
    set(&mut s.w, 0, last, time, PERIOD / 2, PERIOD).expect("it is free");
    s.delete(last);
    check::all(&s.w);
    assert_eq!(allow(&mut s.w, CONTROL, new, 1), Err((Error::Full, 0)), "the context has its share");
    s.delete(time);
    assert_eq!(allow(&mut s.w, CONTROL, new, 1), Ok(()));
    check::all(&s.w);
    s.w.must(0, Op::CapRevoke, &[at(new)]);
    s.delete(new);
    for control in controls {
        s.delete(control);
    }
    for _ in 0..ACCOUNTS {
        control(&mut s, WHOLE_CPU);
    }
    check::all(&s.w);
}

/// A context ends on its own CPU before the deletion that ends it is over on another one. Nobody
/// would give back what it takes in between.
#[test]
fn a_context_that_has_ended_takes_nothing() {
    let mut refused = 0;
    for steps in 0..8 {
        let mut s = Scene::new(2);
        let (by, time) = (control(&mut s, HALF), inert(&mut s));
        set(&mut s.w, 0, by, time, PERIOD / 4, PERIOD).expect("it is free");
        s.w.begin(1, Regs::op(Op::CapDelete, &[at(time)]));
        (0..steps).for_each(|_| _ = s.w.step(1) | s.w.step(0));
        refused += u32::from(set(&mut s.w, 0, by, time, PERIOD / 2, PERIOD) == Err((Error::Dying, 0)));
        assert_eq!(s.w.finish(1).error(), None);
        s.w.run();
        check::all(&s.w);
    }
    assert!(refused > 0, "no step was between");
}

/// A budget that is raised at the end of its window, and lowered when the window is over, is the
/// greater one for a whole period.
#[test]
fn a_budget_that_is_raised_lasts_from_then_on() {
    let mut s = Scene::new(2);
    let (by, time) = (control(&mut s, HALF), inert(&mut s));
    set(&mut s.w, 0, by, time, 1_000, PERIOD).expect("it is free");
    let task = start(&mut s, time);
    s.w.advance(1_000);
    s.w.event(1);
    assert_eq!(task.state(), State::Exhausted);
    s.w.advance(PERIOD * 9 / 10 - 1_000);
    set(&mut s.w, 0, by, time, PERIOD / 2, PERIOD).expect("there is room");
    s.w.run();
    assert!(s.w.runs(1, &task));
    s.w.advance(PERIOD / 2);
    s.w.event(1);
    assert_eq!(task.state(), State::Exhausted, "also when the first window would have been over");
    set(&mut s.w, 0, by, time, 1_000, PERIOD).expect("it is less");
    let other = inert(&mut s);
    assert!(set(&mut s.w, 0, by, other, PERIOD / 2, PERIOD).is_err());
    check::all(&s.w);
}
