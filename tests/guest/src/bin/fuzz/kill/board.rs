//! The shared memory of a storm of kills: totals, what each killer is at, what the tasks of its scene do.

use core::fmt;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;

use abi::{Counter, PAGE_SIZE};
use guest_tests::run::Run;
use user_rt::arch::shared;

use super::scene::{house_of, plays};
use user_rt::cap::Notification;
use user_rt::report;
use user_rt::spawn::own;

pub const KILLERS_MAX: usize = 16;
/// Tasks of a scene.
pub const ACTORS: usize = 6;

const TOTAL_WORDS: usize = 64;
const KILLER_WORDS: usize = 16;
const ACTOR_WORDS: usize = 16;
const SCENE_WORDS: usize = KILLER_WORDS + ACTORS * ACTOR_WORDS;
const WORDS: usize = TOTAL_WORDS + KILLERS_MAX * SCENE_WORDS;
pub const PAGES: u32 = (WORDS * 8).div_ceil(PAGE_SIZE as usize) as u32;

/// What kills found, as the kernel counts: of these none may be zero in a long storm on several CPUs.
pub const STAGES: [(&str, Counter); 19] = [
    ("ready", Counter::KillReady),
    ("receiving", Counter::KillReceiving),
    ("waiting", Counter::KillWaiting),
    ("grace", Counter::KillGrace),
    ("queued", Counter::KillQueued),
    ("posting", Counter::KillPosting),
    ("owed", Counter::KillOwed),
    ("out", Counter::KillOut),
    ("there", Counter::KillThere),
    ("back", Counter::KillBack),
    ("ask", Counter::KillAsk),
    ("asked", Counter::KillAsked),
    ("kept", Counter::KillKept),
    ("ask_done", Counter::KillAskDone),
    ("recall_out", Counter::RecallOut),
    ("recall_queued", Counter::RecallQueued),
    ("recall_owed", Counter::RecallOwed),
    ("recall_kept", Counter::RecallKept),
    ("recall_gone", Counter::RecallGone),
];

/// Words of the whole run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Total {
    Seed = 0,
    Cpus,
    /// Kills of tasks that were about something: to do, and done.
    Goal,
    Kills,
    Scenes,
    /// Of those kills, by the end of a process and by a reset of everything.
    ByProcess,
    ByReset,
    /// Processes torn down since nobody was left to handle a fault.
    Torn,
    /// Calls that ended since somebody was killed, and calls that were answered.
    Woken,
    Answered,
    /// Pages that arrived.
    Moved,
    Wrong,
    Stuck,
    LeakedPages,
    Escapes,
    Complaints,
    /// The watchdog has nothing to say any more.
    Silent,
    Life,
    /// Capabilities of what scenes share.
    SharedFrames,
    Image,
    Facts,
}

/// Words of a killer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Killer {
    Memory = 0,
    Spaces,
    Slots,
    /// Number of its scene, and what is played there.
    Scene,
    Plays,
    /// What it is at.
    Step,
    Detail,
    /// Nobody of the scene need begin anything more.
    Over,
    /// No scene comes any more.
    Through,
}

/// Words of a task of a scene.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Of {
    Id = 0,
    Cpu,
    /// How it may end: a [`Doom`].
    Doomed,
    /// What it is about to do: a [`Doing`], and with whom.
    Doing,
    Peer,
    /// It has come to its end by itself.
    Done,
}

/// How a task may end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u64)]
pub enum Doom {
    None = 0,
    /// It may be torn down with its process.
    Perhaps,
    Killed,
}

/// What a task does.
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
}

impl Doing {
    pub const ALL: [Doing; 13] = [
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
    ];
}

#[derive(Clone, Copy)]
pub struct Board {
    words: &'static [AtomicU64],
}

impl Run for Board {
    type Total = Total;

    const PROGRAM: &'static str = "fuzz";
    const WRONG: &'static [Total] = &[Total::Wrong, Total::Stuck, Total::LeakedPages, Total::Escapes];
    const STUCK: Total = Total::Stuck;
    const LIFE: Total = Total::Life;
    const OVER: Total = Total::Silent;
    const COMPLAINTS: Total = Total::Complaints;

    /// The board, in any process of the run.
    fn open() -> Board {
        // SAFETY: the program made `PAGES` pages of shared memory before anything else and maps them
        // in every process it starts.
        Board { words: unsafe { shared::words(0, WORDS) } }
    }

    fn total(self, which: Total) -> &'static AtomicU64 {
        &self.words[which as usize]
    }

    fn print(self) {
        let get = |which| self.get(which);
        let kills = |all: &[Counter]| all.iter().map(|counter| counted(*counter)).sum::<u64>();
        report!(
            "storm seed={} cpus={} kills={} callers={} callees={} queued={} faulting={} sending={} lending={} \
             by_process={} by_reset={} torn={} moved={} stages={Stages} woken={} answered={} wrong={} stuck={} \
             leaked_pages={} escapes={}",
            get(Total::Seed),
            get(Total::Cpus),
            get(Total::Kills),
            kills(&[Counter::KillOut, Counter::KillThere, Counter::KillBack, Counter::KillOwed]),
            kills(&[Counter::KillServing]),
            kills(&[Counter::KillQueued, Counter::RecallQueued]),
            kills(&[Counter::KillInFault]),
            kills(&[Counter::KillPosting]),
            kills(&[Counter::KillLending]),
            get(Total::ByProcess),
            get(Total::ByReset),
            get(Total::Torn),
            get(Total::Moved),
            get(Total::Woken),
            get(Total::Answered),
            get(Total::Wrong),
            get(Total::Stuck),
            get(Total::LeakedPages),
            get(Total::Escapes),
        );
    }

    fn print_state(self, _: &Notification) {
        (0..self.get(Total::Cpus) as usize).for_each(|killer| self.print_scene(killer));
    }
}

impl Board {
    fn killer_word(self, killer: usize, which: Killer) -> &'static AtomicU64 {
        &self.words[TOTAL_WORDS + killer * SCENE_WORDS + which as usize]
    }

    pub fn killer(self, killer: usize, which: Killer) -> u64 {
        self.killer_word(killer, which).load(SeqCst)
    }

    pub fn set_killer(self, killer: usize, which: Killer, value: u64) {
        self.killer_word(killer, which).store(value, SeqCst);
    }

    fn actor_word(self, killer: usize, actor: usize, which: Of) -> &'static AtomicU64 {
        let at = TOTAL_WORDS + killer * SCENE_WORDS + KILLER_WORDS + actor * ACTOR_WORDS;
        &self.words[at + which as usize]
    }

    pub fn of(self, killer: usize, actor: usize, which: Of) -> u64 {
        self.actor_word(killer, actor, which).load(SeqCst)
    }

    pub fn set_of(self, killer: usize, actor: usize, which: Of, value: u64) {
        self.actor_word(killer, actor, which).store(value, SeqCst);
    }

    /// A task may end that way now, if it could not by a surer one already.
    pub fn doom(self, killer: usize, actor: usize, how: Doom) {
        self.actor_word(killer, actor, Of::Doomed).fetch_max(how as u64, SeqCst);
    }

    /// Somebody is about to kill a task, if it comes to that: who has its faults handled by it may end, too.
    pub fn doom_perhaps(self, killer: usize, actor: usize) {
        if actor == 0 && self.killer(killer, Killer::Plays) & plays::FAULTS != 0 {
            let wards = (0..ACTORS).filter(|it| house_of(*it) == 0);
            wards.for_each(|it| self.doom(killer, it, Doom::Perhaps));
        }
        self.doom(killer, actor, Doom::Perhaps);
    }

    pub fn is_doomed(self, killer: usize, actor: usize) -> bool {
        self.of(killer, actor, Of::Doomed) != Doom::None as u64
    }

    /// A scene begins: nobody is in it.
    pub fn clear_scene(self, killer: usize) {
        let first = TOTAL_WORDS + killer * SCENE_WORDS + KILLER_WORDS;
        for word in &self.words[first..first + ACTORS * ACTOR_WORDS] {
            word.store(0, SeqCst);
        }
        self.set_killer(killer, Killer::Over, 0);
    }

    /// What a killer and its scene are at.
    pub fn print_scene(self, killer: usize) {
        let word = |which| self.killer(killer, which);
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
            let of = |which| self.of(killer, actor, which);
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

/// A kernel counter of all CPUs.
fn counted(counter: Counter) -> u64 {
    let cpus = user_rt::boot::facts().cpus as u32;
    (0..cpus).map(|cpu| own::machine().counter(cpu, counter).unwrap_or(0)).sum()
}

struct Stages;

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, counter)) in STAGES.into_iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{name}:{}", counted(counter))?;
        }
        Ok(())
    }
}
