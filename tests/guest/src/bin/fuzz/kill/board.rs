//! The shared memory of a storm of kills: totals, the state of each killer, the actions of its
//! scene's tasks.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use abi::{Op, Target};
use guest_tests::board::{Part as _, Row};
use guest_tests::run::{Figure, Run};
use guest_tests::{board, words};

use super::scene::{house_of, plays};
use test_abi::kills::{self, Kill};
use user_rt::arch::{Args, syscall};
use user_rt::cap::{Handle, Notification};
use user_rt::report;
use user_rt::spawn::own;

pub const KILLERS_MAX: usize = 16;
/// Tasks of a scene, and locks that they take.
pub const ACTORS: usize = 6;
pub const LOCKS: usize = 2;

words! {
    /// Words of the whole run.
    pub enum Total: Sequential {
        Seed,
        Cpus,
        /// Kills of tasks in the middle of some work: to do, and done.
        Goal,
        Kills,
        Scenes,
        /// Kills by the end of a process, and by a reset of everything.
        ByProcess,
        ByReset,
        /// Processes that the kernel killed because no task was left to handle a fault.
        Torn,
        /// Calls that ended because a task was killed, and calls that were answered.
        Woken,
        Answered,
        /// Pages that arrived.
        Moved,
        /// Locks that were taken, and those of them that were taken over from a dead owner.
        Locked,
        Inherited,
        Wrong,
        Stuck,
        LeakedPages,
        Escapes,
        Complaints,
        /// Whether the watchdog has nothing left to report.
        Silent,
        Life,
        /// Capabilities of the objects that scenes share.
        SharedFrames,
        Image,
        Facts,
    }

    /// Words of a killer.
    pub enum Killer: Sequential {
        Memory,
        Spaces,
        Slots,
        /// Number of its scene, and the plays of that scene.
        Scene,
        Plays,
        /// What it is doing.
        Step,
        Detail,
        /// Whether the tasks of the scene may stop.
        Over,
        /// Whether no scene follows.
        Through,
    }

    /// Words of a task of a scene.
    pub enum Of: Sequential {
        Id,
        Cpu,
        /// How the task may end: a [`Doom`].
        Doomed,
        /// What the task is about to do: a [`Doing`], and its peer.
        Doing,
        Peer,
        /// Whether it has ended by itself.
        Done,
    }
}

/// How a task may end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u64)]
pub enum Doom {
    None = 0,
    /// It may end with its process.
    Perhaps,
    Killed,
    /// Its capabilities, and so its exposures, are revoked before it is dead.
    Ended,
}

/// What a task is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Doing {
    Nothing = 0,
    Call,
    CallWithPages,
    Fault,
    Send,
    Protect,
    Transfer,
    Memory,
    Wait,
    Receive,
    Serve,
    Reply,
    Kill,
    Lock,
}

impl Doing {
    pub const ALL: [Doing; 14] = [
        Doing::Nothing,
        Doing::Call,
        Doing::CallWithPages,
        Doing::Fault,
        Doing::Send,
        Doing::Protect,
        Doing::Transfer,
        Doing::Memory,
        Doing::Wait,
        Doing::Receive,
        Doing::Serve,
        Doing::Reply,
        Doing::Kill,
        Doing::Lock,
    ];
}

board! {
    /// The board of a storm.
    pub struct Board {
        totals: Row<Total>,
        pub killers: [Row<Killer>; KILLERS_MAX],
        /// The tasks of each killer's scene.
        pub actors: [[Row<Of>; ACTORS]; KILLERS_MAX],
        /// For each lock of the killer's scene: the task that works under it, plus one.
        pub holders: [[AtomicU64; LOCKS]; KILLERS_MAX],
    }
}

pub const PAGES: u32 = board::pages::<Board>();

const FIGURES: &[Figure<Board>] = &[
    Figure::Total("seed", Total::Seed),
    Figure::Total("cpus", Total::Cpus),
    Figure::Total("kills", Total::Kills),
    Figure::Text("callers", |_, f| {
        write!(f, "{}", counted(&[Kill::Out, Kill::There, Kill::Back, Kill::Owed]))
    }),
    Figure::Text("callees", |_, f| write!(f, "{}", counted(&[Kill::Serving]))),
    Figure::Text("queued", |_, f| write!(f, "{}", counted(&[Kill::Queued, Kill::RecallQueued]))),
    Figure::Text("faulting", |_, f| write!(f, "{}", counted(&[Kill::InFault]))),
    Figure::Text("sending", |_, f| write!(f, "{}", counted(&[Kill::Posting]))),
    Figure::Text("lending", |_, f| write!(f, "{}", counted(&[Kill::Lending]))),
    Figure::Total("by_process", Total::ByProcess),
    Figure::Total("by_reset", Total::ByReset),
    Figure::Total("torn", Total::Torn),
    Figure::Total("moved", Total::Moved),
    Figure::Text("stages", |_, f| write_stages(f)),
    Figure::Total("woken", Total::Woken),
    Figure::Total("answered", Total::Answered),
    Figure::Total("wrong", Total::Wrong),
    Figure::Total("stuck", Total::Stuck),
    Figure::Total("leaked_pages", Total::LeakedPages),
    Figure::Total("escapes", Total::Escapes),
];

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "fuzz";
    const WRONG: &'static [Total] = &[Total::Wrong, Total::Stuck, Total::LeakedPages, Total::Escapes];
    const STUCK: Total = Total::Stuck;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Silent;
    const COMPLAINTS: Total = Total::Complaints;

    fn open() -> &'static Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps
        // them in every process it starts.
        unsafe { board::open() }
    }

    fn totals(&self) -> &Row<Total> {
        &self.totals
    }

    fn result(&self) -> (&'static str, &'static [Figure<Board>]) {
        ("storm", FIGURES)
    }

    fn print_state(&self, _: &Notification) {
        (0..self.get(Total::Cpus) as usize).for_each(|killer| self.print_scene(killer));
    }
}

impl Board {
    /// Notes that a task may end that way now, unless it could already end by a surer one.
    pub fn doom(&self, killer: usize, actor: usize, how: Doom) {
        self.actors[killer][actor].word(Of::Doomed).fetch_max(how as u64, SeqCst);
    }

    /// Notes that a killer may be about to kill a task. A task whose faults it handles may end,
    /// too.
    pub fn doom_perhaps(&self, killer: usize, actor: usize) {
        if actor == 0 && self.killers[killer].get(Killer::Plays) & plays::FAULTS != 0 {
            let wards = (0..ACTORS).filter(|it| house_of(*it) == 0);
            wards.for_each(|it| self.doom(killer, it, Doom::Perhaps));
        }
        self.doom(killer, actor, Doom::Perhaps);
    }

    pub fn is_doomed(&self, killer: usize, actor: usize) -> bool {
        self.actors[killer][actor].get(Of::Doomed) != Doom::None as u64
    }

    /// Clears the rows of a killer's scene before it begins.
    pub fn clear_scene(&self, killer: usize) {
        self.actors[killer].clear();
        self.holders[killer].iter().for_each(|holder| holder.store(0, SeqCst));
        self.killers[killer].set(Killer::Over, 0);
    }

    /// Prints the state of a killer and its scene.
    pub fn print_scene(&self, killer: usize) {
        let word = |which| self.killers[killer].get(which);
        report!(
            "state killer={killer} scene={} plays={:#x} step={} detail={} over={} through={}",
            word(Killer::Scene),
            word(Killer::Plays),
            word(Killer::Step),
            word(Killer::Detail),
            word(Killer::Over),
            word(Killer::Through),
        );
        for actor in 0..ACTORS {
            let of = |which| self.actors[killer][actor].get(which);
            report!(
                "state killer={killer} actor={actor} task={:#x} cpu={} doomed={} done={} in {:?} with {}",
                of(Of::Id),
                of(Of::Cpu),
                of(Of::Doomed),
                of(Of::Done),
                Doing::ALL.get(of(Of::Doing) as usize),
                of(Of::Peer),
            );
        }
    }
}

/// Sums kernel counters of all CPUs.
/// Returns how many kills are counted so, on all CPUs; 0 in a kernel that counts none.
fn counted(kills: &[Kill]) -> u64 {
    let cpus = user_rt::boot::facts().cpus as u32;
    let read = |cpu, kill: Kill| {
        let rdi = Target::new(own::machine().cap(), cpu).0;
        let answer = syscall(Args::plain(Op::MachineCounter, rdi, kill.number() as u64, 0, 0));
        answer.check().map_or(0, |answer| answer.rdi)
    };
    kills.iter().flat_map(|kill| (0..cpus).map(move |cpu| read(cpu, *kill))).sum()
}

/// Writes the stages that kills found. In a long storm on several CPUs none of them may be zero.
fn write_stages(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, kill) in Kill::ALL[..kills::STAGES].iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        write!(f, "{comma}{}:{}", kill.name(), counted(&[*kill]))?;
    }
    Ok(())
}
