//! The shared memory of a run: what workers are to do, and what they have done.

use guest_tests::board::Row;
use guest_tests::run::{Figure, Run};
use guest_tests::{board, words};
use policy_core::orders::Kind;
use user_rt::boot;
use user_rt::cap::Notification;

pub const WORKERS_MAX: usize = 96;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Cpus,
        /// Workers that the policy manages.
        Tasks,
        Migrations,
        /// Policies that were killed.
        Kills,
        /// Settings that the policy made.
        Settings,
        /// For how long a CPU has idled.
        Idled,
        Life,
        Over,
        Complaints,
        /// Jobs that were over too late.
        Missed,
        /// Workers that got more time than they may have, or another share than they should.
        Overrun,
        /// Workers that did not do all their work, or were not where they should be; orders that
        /// were answered wrongly.
        Lost,
        Stuck,
    }
}

words! {
    /// What a worker is to do, and what it has done.
    pub enum Of: Published {
        /// Loops of a job, or of a piece of work.
        Loops,
        /// Jobs, or pieces.
        Jobs,
        /// When its first job begins, and how long after that the next one.
        Begin,
        Period,
        Done,
        Missed,
        /// Where it did its last job.
        Cpu,
        /// The capabilities of its task and of its SchedContext, for a liar.
        Task,
        Sched,
    }
}

board! {
    /// The board of a run.
    pub struct Board {
        totals: Row<Total>,
        pub workers: [Row<Of>; WORKERS_MAX],
    }
}

/// Pages of the board.
pub const PAGES: u32 = board::pages::<Board>();

const FIGURES: &[Figure<Board>] = &[
    Figure::Text("name", |_, f| f.write_str(kind().name())),
    Figure::Total("seed", Total::Seed),
    Figure::Total("cpus", Total::Cpus),
    Figure::Total("tasks", Total::Tasks),
    Figure::Total("migrations", Total::Migrations),
    Figure::Total("missed", Total::Missed),
    Figure::Total("overrun", Total::Overrun),
    Figure::Total("lost", Total::Lost),
    Figure::Total("stuck", Total::Stuck),
    Figure::Total("kills", Total::Kills),
    Figure::Total("settings", Total::Settings),
    Figure::Total("idled", Total::Idled),
];

/// Returns the policy that the run is about.
pub fn kind() -> Kind {
    boot::options().value("policy").and_then(Kind::of_name).unwrap_or(Kind::Balance)
}

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "policies";
    const WRONG: &'static [Total] = &[Total::Missed, Total::Overrun, Total::Lost, Total::Stuck];
    const STUCK: Total = Total::Stuck;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Over;
    const COMPLAINTS: Total = Total::Complaints;

    fn open() -> &'static Board {
        // SAFETY: `main` has made that many pages of shared memory, and all tasks of the run are
        // this process's.
        unsafe { board::open() }
    }

    fn totals(&self) -> &Row<Total> {
        &self.totals
    }

    fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
        ("policy", FIGURES)
    }

    fn print_state(&self, _: &Notification) {
        for (number, worker) in self.workers.iter().enumerate().take(self.get(Total::Tasks) as usize) {
            let [done, jobs, cpu] = [Of::Done, Of::Jobs, Of::Cpu].map(|of| worker.get(of));
            user_rt::report!("note worker {number}: {done} of {jobs}, last on cpu{cpu}");
        }
    }
}

impl Board {
    /// Notes that a worker has done a piece of work.
    pub fn note_done(&self, number: usize, cpu: u32) {
        let worker = &self.workers[number];
        worker.set(Of::Cpu, cpu.into());
        worker.add(Of::Done, 1);
        self.add(Total::Life, 1);
    }
}
