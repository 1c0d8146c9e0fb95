//! The chaos build: the kernel perturbs its own run, driven by a seed, at labelled points between
//! shared accesses.
//!
//! Under `-icount` QEMU runs one CPU until it pauses, halts or takes a timer tick, so most
//! interleavings never happen by themselves. In the chaos build a point may execute PAUSEs, which
//! lets another CPU run at that point, or make the timer fire soon, which preempts the task that
//! runs next. The seed is the boot option `chaos=N`; with it a run under icount replays exactly.
//!
//! `stop_at=N` selects event N, `stop_time=T` the first event at or after TSC T; 0, the default,
//! selects none. `stop_then` says what happens there:
//!
//! - 0: all CPUs stop where they are, for a debugger to look at.
//! - 1: all CPUs finish their kernel entries and stand still, undisturbed; one writes a snapshot of
//!   the kernel's state, and the run ends. Builds that do not export their state stop as with 0.
//! - 2: the run continues, and nothing is perturbed any more.
//!
//! The run before the event must not depend on these numbers. Otherwise the same seed would give
//! different runs. So the harness writes each number with a fixed number of digits, and no code
//! here branches on them before the event.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kern_base::machine::Machine;
use kern_hal::boot::option;
use kern_hal::cpu::time;
use kern_hal::pc::Pc;
use kern_hal::println;
use smp::chaos::{Point, set_hook};

/// State of the generator. CPUs share it: under icount they take turns, so its order is part of
/// what replays; elsewhere any order will do.
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
/// What happens there: `stop_then`.
static THEN: AtomicU64 = AtomicU64::new(0);
#[cfg(feature = "dump")]
const THEN_SNAPSHOT: u64 = 1;
const THEN_CALM: u64 = 2;
/// Nothing is perturbed any more.
static CALM: AtomicBool = AtomicBool::new(false);

/// Starts the random pauses and timer ticks of this build, with the seed of the boot option
/// `chaos`. Without that option there are none.
pub fn start() {
    let number = |key| option(key).and_then(|value| value.parse::<u64>().ok());
    let Some(seed) = number("chaos") else { return };
    STATE.store(seed.wrapping_mul(2).wrapping_add(1), Ordering::Relaxed);
    STOP_AT.store(number("stop_at").unwrap_or(0), Ordering::Relaxed);
    GO_UNTIL.store(number("stop_time").unwrap_or(0).wrapping_sub(1), Ordering::Relaxed);
    THEN.store(number("stop_then").unwrap_or(0), Ordering::Relaxed);
    set_hook(perturb);
    println!("aurora: chaos by seed {seed}");
}

/// Returns the next number of a Weyl sequence, mixed (splitmix64).
fn next_number() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn perturb(point: Point, event: u64) {
    let now = time::tsc();
    if event == STOP_AT.load(Ordering::Relaxed) || now > GO_UNTIL.load(Ordering::Relaxed) {
        reached(point, event, now);
    }
    if CALM.load(Ordering::Relaxed) {
        return;
    }
    let number = next_number();
    match number % (2 * RARITY) {
        0 => (0..=(number >> 32) % PAUSES).for_each(|_| spin_loop()),
        1 => Pc.set_timer(Some(time::tsc() + (number >> 32) % TICK)),
        _ => {}
    }
}

/// Does what the boot options ask for at the chosen event.
#[cold]
#[inline(never)]
fn reached(point: Point, event: u64, now: u64) {
    STOP_AT.store(0, Ordering::Relaxed);
    GO_UNTIL.store(u64::MAX, Ordering::Relaxed);
    match THEN.load(Ordering::Relaxed) {
        #[cfg(feature = "dump")]
        THEN_SNAPSHOT => still::ask(),
        THEN_CALM => {}
        _ => kern_hal::trap::freeze(format_args!("stopped at event {event} ({point:?}), TSC {now}")),
    }
    CALM.store(true, Ordering::Relaxed);
    println!("aurora: calm from event {event} ({point:?}), TSC {now}");
}

#[cfg(feature = "dump")]
pub use still::end_if_asked;

/// The snapshot after an event. At the event itself a kernel entry is half done. So the snapshot
/// waits for the beginning of an interrupt, where nothing is, and brings all other CPUs to one.
#[cfg(feature = "dump")]
mod still {
    use core::sync::atomic::{AtomicBool, Ordering};

    use kern_base::machine::Machine;
    use kern_core::Refusal;
    use kern_core::rooms::Door;
    use kern_dump::machine_dump::write_snapshot;
    use kern_hal::cpu::percpu;
    use kern_hal::dev::exit::{Exit, exit};
    use kern_hal::pc::Pc;
    use kern_hal::println;
    use test_abi::Dump;

    static IS_ASKED_FOR: AtomicBool = AtomicBool::new(false);

    /// Requests a snapshot, with which the run then ends. Interrupts this CPU itself, because its
    /// present work may lead to a long sleep.
    pub fn ask() {
        IS_ASKED_FOR.store(true, Ordering::Relaxed);
        if let Some(local) = percpu::this() {
            Pc.wake(local.id);
        }
    }

    /// Writes the snapshot, if one was requested, and ends the run, at the beginning of an
    /// interrupt, with no operation half done.
    #[inline(always)]
    pub fn end_if_asked(cx: Door<'_, Pc>) {
        if IS_ASKED_FOR.load(Ordering::Relaxed) {
            end(cx);
        }
    }

    #[cold]
    #[inline(never)]
    fn end(cx: Door<'_, Pc>) {
        // One CPU takes it. The others reach the point where they stand still for it.
        if !IS_ASKED_FOR.swap(false, Ordering::Relaxed) {
            return;
        }
        match write_snapshot(*cx, Dump::All) {
            Ok(_) => {
                println!("aurora: snapshot taken");
                exit(Exit::Pass)
            }
            // Another CPU is just taking one for the guest. This one has to stand still for it
            // first.
            Err(Refusal::More) => ask(),
            Err(_) => {
                println!("aurora: there are more objects than a snapshot has room for");
                exit(Exit::Fail)
            }
        }
    }
}
