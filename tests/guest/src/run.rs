//! What the programs have in common that do something random from a seed, on all CPUs, until a goal is reached or
//! something is wrong: totals in shared memory, complaints, and how they end.
//!
//! A run ends once, by [`Run::end`]: the director calls it, or the [`watchdog`](crate::watchdog) when nothing moves any
//! more. Totals are sequentially consistent: what somebody says with one is said before what it says with the next.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use abi::cpu_features;
use user_rt::cap::Notification;
use user_rt::spawn::own;
use user_rt::{arch, boot, report, supervisor};

use crate::failure::Failure;

/// How long nothing has to move in a run that is stuck: with a host's thread for each CPU, the guest's share the host's
/// with others.
const PATIENCE_SECONDS: u64 = 40;
/// Complaints that are said; the others are counted.
const SAID_AT_MOST: u64 = 16;

/// Shows the host all of the kernel's state, which it judges. Nothing on kernels that do not export it.
pub fn show_state() {
    if boot::has(cpu_features::DUMP)
        && let Err(refusal) = own::machine().snapshot()
    {
        report!("error no snapshot of the kernel's state: {refusal:?}");
    }
}

/// The board of a run, as any of its tasks sees it.
pub trait Run: Copy {
    /// Names of its totals.
    type Total: Copy + fmt::Debug + 'static;

    /// The program, as reports name it.
    const PROGRAM: &'static str;
    /// Those that have to stay zero.
    const WRONG: &'static [Self::Total];
    /// Of those, the one that goes up when nothing moves any more.
    const STUCK: Self::Total;
    /// What changes as long as something moves.
    const LIFE: Self::Total;
    /// Is not zero once somebody else has the last word.
    const OVER: Self::Total;
    const COMPLAINTS: Self::Total;

    fn open() -> Self;

    fn total(self, which: Self::Total) -> &'static AtomicU64;

    /// The result line.
    fn print(self);

    /// What everybody does, for the report of a run that is stuck. `alarm` is the watchdog's own.
    fn print_state(self, alarm: &Notification);

    /// Ticks without a sign of life that are too many.
    fn patience(self) -> u64 {
        PATIENCE_SECONDS * boot::facts().tsc_hz
    }

    fn get(self, which: Self::Total) -> u64 {
        self.total(which).load(SeqCst)
    }

    fn set(self, which: Self::Total, value: u64) {
        self.total(which).store(value, SeqCst);
    }

    /// What it was before.
    fn add(self, which: Self::Total, count: u64) -> u64 {
        self.total(which).fetch_add(count, SeqCst)
    }

    /// Counts that should be zero, summed.
    fn wrong(self) -> u64 {
        Self::WRONG.iter().map(|which| self.get(*which)).sum()
    }

    /// Counts something wrong, and says what for the first few. Whether it was said.
    fn complain(self, which: Self::Total, what: fmt::Arguments<'_>) -> bool {
        self.add(which, 1);
        let is_said = self.add(Self::COMPLAINTS, 1) < SAID_AT_MOST;
        if is_said {
            report!("error {}: {which:?} at {}: {what}", Self::PROGRAM, arch::now());
        }
        is_said
    }

    /// The last word on the run: whether it passed.
    fn end(self, outcome: Result<(), Failure>) -> ! {
        if let Err(failure) = &outcome {
            report!("error {}: {failure}", Self::PROGRAM);
        }
        self.set(Self::OVER, 1);
        show_state();
        self.print();
        let is_good = outcome.is_ok() && self.wrong() == 0;
        supervisor::finish(u64::from(is_good), u64::from(!is_good))
    }

    /// An option of the command line.
    fn number(key: &str, default: u64) -> u64 {
        boot::options().number(key, default).unwrap_or_else(|bad| {
            report!("note {}: {bad}", Self::PROGRAM);
            default
        })
    }
}
