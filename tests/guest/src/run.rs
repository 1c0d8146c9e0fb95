//! A run of a program that makes random operations from a seed, on all CPUs, until it reaches a
//! goal or something fails: totals on its [board](mod@crate::board), complaints, the result line,
//! and the end.
//!
//! A run ends once, by [`Run::end`]: the director calls it, or the [`watchdog`](crate::watchdog)
//! when nothing progresses.

use core::fmt;

use abi::{Error, Op};
use test_abi::{Dump, build};
use user_rt::arch::{self, Args, syscall};
use user_rt::cap::{Handle, Notification};
use user_rt::spawn::own;
use user_rt::{boot, report, supervisor};

use crate::board::{Name, Row};
use crate::failure::Failure;

/// Seconds without progress after which a run is stuck: with a host's thread for each CPU, the
/// guest's CPUs share the host's with others.
const PATIENCE_SECONDS: u64 = 40;
/// Complaints that are printed; the others are counted.
const SAID_AT_MOST: u64 = 16;

/// Exports a snapshot of the kernel's state, of all CPUs. Returns how many objects there are.
pub fn export(what: Dump) -> user_rt::Result<u64> {
    let export = Args::plain(Op::MachineDump, own::machine().arg(), what as u64, 0, 0);
    Ok(syscall(export).check()?.rdi)
}

/// Exports all of the kernel's state to the host, which judges it. Does nothing on kernels without
/// the export.
pub fn show_state() {
    if boot::has(build::DUMP)
        && let Err(refusal) = export(Dump::All)
    {
        report!("error no snapshot of the kernel's state: {refusal:?}");
    }
}

/// Waits for that many TSC ticks, or until the Notification has bits.
pub fn wait_ticks(note: &Notification, ticks: u64) -> user_rt::Result<()> {
    match note.wait_until(arch::now() + ticks) {
        Err(refusal) if refusal.error != Error::Timeout => Err(refusal),
        _ => Ok(()),
    }
}

/// A figure of the result line: its name and its source.
pub enum Figure<R: Run> {
    Total(&'static str, R::Total),
    Text(&'static str, fn(&R, &mut fmt::Formatter<'_>) -> fmt::Result),
}

/// The board of a run, as each of its tasks sees it.
pub trait Run: Sync + Sized + 'static {
    /// Names of its totals.
    type Total: Name;

    /// The program's name in reports.
    const PROGRAM: &'static str;
    /// Totals that must stay zero.
    const WRONG: &'static [Self::Total];
    /// The one of those that counts a run without progress.
    const STUCK: Self::Total;
    /// The total that changes while something progresses.
    const LIFE: Self::Total;
    /// The total that is not zero once another task ends the run.
    const OVER: Self::Total;
    const COMPLAINTS: Self::Total;

    /// Returns the board, in any process of the run.
    fn open() -> &'static Self;

    fn totals(&self) -> &Row<Self::Total>;

    /// Returns the result line: its first word, and the figures in their order.
    fn result(&self) -> (&'static str, &'static [Figure<Self>]);

    /// Reports what all tasks do, in a run that is stuck. `alarm` is the watchdog's own.
    fn print_state(&self, alarm: &Notification);

    /// Returns the ticks without progress after which a run is stuck.
    fn patience(&self) -> u64 {
        PATIENCE_SECONDS * boot::facts().tsc_hz
    }

    fn get(&self, which: Self::Total) -> u64 {
        self.totals().get(which)
    }

    fn set(&self, which: Self::Total, value: u64) {
        self.totals().set(which, value);
    }

    /// Adds to a total.
    ///
    /// Returns: the total's value before.
    fn add(&self, which: Self::Total, count: u64) -> u64 {
        self.totals().add(which, count)
    }

    /// Returns the sum of the counts that should be zero.
    fn wrong(&self) -> u64 {
        Self::WRONG.iter().map(|which| self.get(*which)).sum()
    }

    /// Counts a failure, and prints the first few.
    ///
    /// Returns: whether it was printed.
    fn complain(&self, which: Self::Total, what: fmt::Arguments<'_>) -> bool {
        self.add(which, 1);
        let is_said = self.add(Self::COMPLAINTS, 1) < SAID_AT_MOST;
        if is_said {
            report!("error {}: {which:?} at {}: {what}", Self::PROGRAM, arch::now());
        }
        is_said
    }

    /// Ends the run: reports the result, and informs process 1 whether the run passed.
    fn end(&self, outcome: Result<(), Failure>) -> ! {
        if let Err(failure) = &outcome {
            report!("error {}: {failure}", Self::PROGRAM);
        }
        self.set(Self::OVER, 1);
        show_state();
        report!("{}", ResultLine(self));
        let is_good = outcome.is_ok() && self.wrong() == 0;
        supervisor::finish(u64::from(is_good), u64::from(!is_good))
    }

    /// Returns the value of an option of the command line.
    fn number(key: &str, default: u64) -> u64 {
        boot::options().number(key, default).unwrap_or_else(|bad| {
            report!("note {}: {bad}", Self::PROGRAM);
            default
        })
    }
}

struct ResultLine<'a, R: Run>(&'a R);

impl<R: Run> fmt::Display for ResultLine<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, figures) = self.0.result();
        f.write_str(word)?;
        figures.iter().try_for_each(|figure| match figure {
            Figure::Total(name, total) => write!(f, " {name}={}", self.0.get(*total)),
            Figure::Text(name, write_text) => {
                write!(f, " {name}=")?;
                write_text(self.0, f)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{board, words};

    words! {
        enum Total: Sequential { Ops, Wrong, Stuck, Life, Over, Complaints }
    }

    board! {
        struct Board {
            totals: Row<Total>,
        }
    }

    const FIGURES: &[Figure<Board>] = &[
        Figure::Total("ops", Total::Ops),
        Figure::Text("twice", |board, f| write!(f, "{}", 2 * board.get(Total::Ops))),
        Figure::Total("wrong", Total::Wrong),
    ];

    impl Run for Board {
        type Total = Total;

        const PROGRAM: &'static str = "sample";
        const WRONG: &'static [Total] = &[Total::Wrong, Total::Stuck];
        const STUCK: Total = Total::Stuck;
        const LIFE: Total = Total::Life;
        const OVER: Total = Total::Over;
        const COMPLAINTS: Total = Total::Complaints;

        fn open() -> &'static Board {
            unreachable!("no program runs here")
        }

        fn totals(&self) -> &Row<Total> {
            &self.totals
        }

        fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
            (Board::PROGRAM, FIGURES)
        }

        fn print_state(&self, _: &Notification) {}
    }

    #[test]
    fn the_result_line_has_all_figures_in_their_order() {
        // SAFETY: a board consists of words, each of which may be zero.
        let board: Board = unsafe { core::mem::zeroed() };
        board.set(Total::Ops, 21);
        board.add(Total::Wrong, 1);
        assert_eq!(format!("{}", ResultLine(&board)), "sample ops=21 twice=42 wrong=1");
        assert_eq!(board.wrong(), 1);
    }
}
