//! The chaos build: the kernel perturbs itself, by seed, at labelled points between shared accesses.
//!
//! Under `-icount` QEMU runs one CPU until it pauses, halts or takes a timer tick, so most
//! interleavings never happen by themselves. Here a point may PAUSE for a while, which lets another
//! CPU run just there, or let the timer fire soon, which preempts whatever runs next. The seed is the
//! boot option `chaos=N`; with it a run under icount replays exactly.
//!
//! `stop_at=N` stops the machine at event N, `stop_time=T` at the first event at or after TSC T, for a
//! debugger to look at; 0, the default, is never. What comes before must be the same whatever the
//! numbers are, or the seed would be another run: so the harness gives both with 16 digits each, and
//! nothing here branches on them.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use kern_base::machine::Machine;
use kern_hal::boot::Boot;
use kern_hal::cpu::time;
use kern_hal::pc::Pc;
use kern_hal::println;
use smp::chaos::{Point, set_hook};

/// State of the generator. CPUs share it: under icount they take turns, so its order is part of what
/// replays; elsewhere any order will do.
static STATE: AtomicU64 = AtomicU64::new(0);

/// Once in so many points something happens.
const RARITY: u64 = 8;
/// Most PAUSEs at a point.
const PAUSES: u64 = 24;
/// A tick comes this many TSC ticks later at most.
const TICK: u64 = 4_000;

/// Event to stop at, and the last TSC not to stop at.
static STOP_AT: AtomicU64 = AtomicU64::new(0);
static GO_UNTIL: AtomicU64 = AtomicU64::new(u64::MAX);

/// Reads the seed; no seed, no chaos.
pub fn start(boot: &Boot) {
    let Some(seed) = boot.option("chaos").and_then(|seed| seed.parse::<u64>().ok()) else { return };
    STATE.store(seed.wrapping_mul(2).wrapping_add(1), Ordering::Relaxed);
    let number = |key| boot.option(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    STOP_AT.store(number("stop_at"), Ordering::Relaxed);
    GO_UNTIL.store(number("stop_time").wrapping_sub(1), Ordering::Relaxed);
    set_hook(perturb);
    println!("aurora: chaos by seed {seed}");
}

/// The next number of a Weyl sequence, mixed (splitmix64).
fn next() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn perturb(point: Point, event: u64) {
    let now = time::tsc();
    if event == STOP_AT.load(Ordering::Relaxed) || now > GO_UNTIL.load(Ordering::Relaxed) {
        stop(point, event, now);
    }
    let number = next();
    match number % (2 * RARITY) {
        0 => (0..=(number >> 32) % PAUSES).for_each(|_| spin_loop()),
        1 => Pc.set_timer(Some(time::tsc() + (number >> 32) % TICK)),
        _ => {}
    }
}

#[cold]
#[inline(never)]
fn stop(point: Point, event: u64, now: u64) -> ! {
    kern_hal::trap::freeze(format_args!("stopped at event {event} ({point:?}), TSC {now}"))
}
