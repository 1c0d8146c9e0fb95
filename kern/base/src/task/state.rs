//! What a task is doing: its state word, and what ends a wait from outside.
//!
//! # The word
//! ```text
//!  63                    32 31  30      26 25       16 15      8 7       0
//! +------------------------+---+----------+-----------+---------+---------+
//! |          tag           | 0 |  label   | home CPU  |  flags  |  state  |
//! +------------------------+---+----------+-----------+---------+---------+
//! ```
//! One comparison of the whole word with an expected value checks liveness, tag, label, home, flags
//! and state together. The label is the security label of the task's process: a CPU
//! expects the label of the running task, so the fastpath switches only between tasks with equal
//! labels. [`State::Recv`] and [`State::Await`] mean *without deadline*, so the fastpath never has
//! a timer to cancel.
//!
//! # The tag
//! An exposure and a message under way remember the tag of the task that they mean: the low bits of
//! its id. Tags repeat, and nothing relies on that they do not. A Task object gets one id in its
//! life. An exposure's slot holds a capability of the object, and the object's memory is used again
//! only after all slots are empty and all messages about the object were taken out. So whatever
//! finds a task by an exposure or a message finds the task that was meant. The tag confirms that.
//!
//! # The plain bit
//! Bit 7 of the state, [`PLAIN`], marks the common case of a task that waits for bits or yields.
//! Such a task can be made to run with few checks and stores:
//!
//! * with [`State::WaitBits`]: the wait has no deadline, and the task's own time is not lent. So
//!   queueing that time is enough to let the task run;
//! * with [`State::Ready`]: the task's own context is queued, unless the task is suspended. The
//!   system call that it is in answers with `rdx` of the frame, and with zero in all other message
//!   registers, whatever the frame has there.
//!
//! A running task never has this bit, and code that sets another state clears it.

use abi::audit::LABELS;
use abi::{DEBUG_ADDRESSES, Error, TaskId};
use smp::cpu::{CpuId, MAX_CPUS};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use super::TaskHot;
use crate::limits::TAG_BITS;
use crate::methods::methods;
use crate::process::Process;

/// Declares the states with their numbers. The one that stands first is the state of every other
/// number, too.
macro_rules! states {
    ($(#[$last_doc:meta])* else $last:ident = $last_number:literal;
     $($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a task is doing. `Recv` to `WaitBits` block it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum State {
            $($(#[$doc])* $name = $number,)*
            $(#[$last_doc])* $last = $last_number,
        }

        impl State {
            pub const ALL: &[State] = &[$(State::$name,)* State::$last];

            /// Returns the task state that a state word has.
            pub const fn of_word(word: u64) -> State {
                match word as u8 & !PLAIN {
                    $($number => State::$name,)*
                    _ => State::$last,
                }
            }
        }
    };
}

states! {
    /// Ended. Never leaves this state.
    else Dead = 12;
    /// Made, not yet configured.
    Fresh = 0,
    /// Has all it needs but CPU time; or has it and is queued or running.
    Ready = 1,
    /// Receiving, no deadline, no message yet.
    Recv = 2,
    /// Receiving with a deadline.
    RecvTimed = 3,
    /// Its call waits in the callee's sender queue.
    Sending = 4,
    /// Its call was received here; waiting for the reply, no deadline.
    Await = 5,
    /// Waiting for a reply, with a deadline.
    AwaitTimed = 6,
    /// Its call went to another CPU; `msg` is there or on the way.
    AwaitRemote = 7,
    /// Waiting for Notification bits.
    WaitBits = 8,
    /// Waits for a grace period or another CPU's answer. Then the task continues at its instruction
    /// pointer, which was set back to the system call that it must restart, unless it waits for CPU
    /// time.
    Restart = 9,
    /// Stopped by a fault that no handler has received yet.
    Faulted = 10,
    /// Could run, but its CPU time has used up the budget of this window, and it can get no other.
    /// Its deadline is the beginning of the next window. A suspended task is never in this state.
    Exhausted = 11,
}

/// Bit of the state byte: see the module's documentation.
pub const PLAIN: u8 = 1 << 7;

/// Flag in the state word: the process has vector state.
pub const FLAG_VECTOR: u8 = 1 << 0;
/// Flag in the state word: suspended; not run until resumed, whatever else happens.
pub const FLAG_SUSPENDED: u8 = 1 << 1;
/// Flag in the state word: while it waited, others with more time than its own began to wait for
/// it, or it was told to move. It looks for their time when it wakes, and moves then. The fast path
/// does not wake it.
pub const FLAG_AWAITED: u8 = 1 << 2;
/// Flag in the state word: debug registers are to be loaded when it runs.
pub const FLAG_DEBUG: u8 = 1 << 3;
/// Flag in the state word: what it waits for, in a call's states, is the answer to its fault. Its
/// frame has all its registers meanwhile.
pub const FLAG_IN_FAULT: u8 = 1 << 5;
/// First bit of the home CPU in a state word.
pub const HOME_SHIFT: u32 = 16;
/// First bit of the tag in a state word.
pub const TAG_SHIFT: u32 = u32::BITS;
/// First bit of the security label in a state word.
pub const LABEL_SHIFT: u32 = 26;
/// The home CPU in a state word.
pub const HOME_MASK: u32 = (1 << LABEL_SHIFT) - (1 << HOME_SHIFT);
/// The security label in a state word.
pub const LABEL_MASK: u32 = (LABELS - 1) << LABEL_SHIFT;
/// The parts of a state word that a CPU has to compare when it switches to another task:
/// [`FLAGS_SPECIAL`] and label.
pub const SPECIAL: u32 = (FLAGS_SPECIAL as u32) << 8 | LABEL_MASK;
/// In no state word. In [`CpuHot::special_on`](crate::cpu::CpuHot) it says that some of
/// [`FLAGS_SPECIAL`] are on, so that every switch has work to do.
pub const FLAGS_ON: u32 = 1 << 31;

const _: () = {
    assert!(LABELS.is_power_of_two() && LABEL_MASK & FLAGS_ON == 0);
    assert!(MAX_CPUS as u32 - 1 <= HOME_MASK >> HOME_SHIFT);
    assert!(TAG_BITS <= u64::BITS - TAG_SHIFT);
};

/// The flags of a task that needs care before it runs, and for which the fastpath leaves all work
/// to the slow path.
pub const FLAGS_SPECIAL: u8 = FLAG_VECTOR | FLAG_DEBUG;
/// From such a flag to one that no task has: in what a CPU expects of others while a task with the
/// flag runs.
pub const POISON_SHIFT: u32 = 4;
/// Flag in expected values only, for the first of them: never matches.
pub const FLAG_NEVER: u8 = FLAG_VECTOR << POISON_SHIFT;
/// Where it stands in the halves of state words that the fast path compares with
/// ([`CpuHot`](crate::cpu::CpuHot)).
pub const NONE_READY: u32 = (FLAG_NEVER as u32) << 8;

const _: () = {
    let real = FLAGS_SPECIAL | FLAG_SUSPENDED | FLAG_AWAITED | FLAG_IN_FAULT;
    assert!(real & FLAGS_SPECIAL << POISON_SHIFT == 0 && FLAGS_SPECIAL >> (8 - POISON_SHIFT) == 0);
};

/// Returns the low half of the state word of a task without a label.
pub const fn state_half(state: State, flags: u8, home: CpuId) -> u32 {
    (state as u32) | ((flags as u32) << 8) | (home.raw() << HOME_SHIFT)
}

/// Returns the tag of a task with an id, at its place in a state word.
pub const fn tag_of(id: TaskId) -> u64 {
    (id.raw() & ((1 << TAG_BITS) - 1)) << TAG_SHIFT
}

/// Returns a security label, shifted to its place in a state word.
pub const fn label_part(label: u32) -> u32 {
    label << LABEL_SHIFT & LABEL_MASK
}

/// What ends a task's wait from outside. If the task's message block is on another CPU, the block
/// is recalled, and the task is ended when the block is back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ending {
    #[default]
    None,
    /// The wait fails with this error, and the task continues.
    Fail(Error),
    /// The task is being killed.
    Kill,
}

impl Ending {
    /// Returns a number for the ending of a wait: an [`Error`]'s, or 0.
    pub const fn number(self) -> u32 {
        match self {
            Ending::None => 0,
            Ending::Fail(error) => error as u32,
            Ending::Kill => Error::Dying as u32,
        }
    }
}

const _: () = assert!(size_of::<Ending>() == 1);

methods! { TaskHot:
    // --- the word as it is -----------------------------------------------------------------------

    /// Returns the task's state word.
    fn word(self) -> u64 = self.word.get();
    /// Returns the task's state, from its state word.
    fn state(self) -> State = State::of_word(self.word.get());
    /// Returns whether the task is in this state.
    fn is_in(self, state: State) -> bool = self.word.get() as u8 & !PLAIN == state as u8;
    /// Returns whether the task's state word has the plain bit.
    fn is_plain(self) -> bool = self.word.get() & u64::from(PLAIN) != 0;
    fn has_flag(self, flag: u8) -> bool = self.word.get() & (u64::from(flag) << 8) != 0;
    /// Returns whether this task has the tag.
    fn is_meant_by(self, tag: u64) -> bool = self.word.get() >> 32 == tag >> 32;
    /// Returns whether the task is dead, or is being killed and still waits for something.
    fn is_dying(self) -> bool = self.ending.get() == Ending::Kill || self.state() == State::Dead;
    /// Returns what ends the task's wait from outside.
    fn ending(self) -> Ending = self.ending.get();

    // --- waits, and their ends -------------------------------------------------------------------

    /// Changes the task's state, and sets the plain bit.
    fn enter_plain(self, state: State) =
        self.word.set((self.word.get() & !0xff) | u64::from(state as u8 | PLAIN));
    /// Notes that the task's wait is over. Returns what has ended it from outside.
    fn end_wait(self) -> Ending = self.ending.take();

    // --- flags -----------------------------------------------------------------------------------

    /// Keeps the task from running, whatever else happens.
    fn suspend(self) = self.set_flag(FLAG_SUSPENDED, true);
    /// Ends what [`TaskHot::suspend`] began.
    fn resume(self) = self.set_flag(FLAG_SUSPENDED, false);
    /// Notes that the task has looked for the time of others. One that is to move stays as it is.
    fn end_awaited(self) = self.set_flag(FLAG_AWAITED, self.is_to_move());
    fn begin_fault(self) = self.set_flag(FLAG_IN_FAULT, true);
    fn end_fault(self) = self.set_flag(FLAG_IN_FAULT, false);

    // --- a task's life ---------------------------------------------------------------------------

    /// Sets the home CPU in the state word of a task that has moved.
    fn set_home(self, home: CpuId) =
        self.word.set(self.word.get() & !u64::from(HOME_MASK) | u64::from(home.raw()) << HOME_SHIFT);
    /// Returns how many task numbers this task has visited while it kills its process.
    fn numbers_visited(self) -> usize = self.numbers_visited.get() as usize;
    /// Counts one more task number that this task has visited while it kills its process.
    fn visit_number(self) = self.numbers_visited.set(self.numbers_visited.get() + 1);
}

impl TaskHot {
    // --- the word as it is -----------------------------------------------------------------------

    /// Returns whether the task is ready and not suspended.
    pub fn is_runnable(&self) -> bool {
        let word = self.word.get();
        word as u8 & !PLAIN == State::Ready as u8 && word & (u64::from(FLAG_SUSPENDED) << 8) == 0
    }

    // --- waits, and their ends -------------------------------------------------------------------

    /// Changes the task's state, and clears the plain bit.
    pub fn enter(&self, state: State) {
        debug_assert!(!self.is_in(State::Dead), "a task that is Dead cannot become {state:?}");
        self.word.set((self.word.get() & !0xff) | state as u64);
    }

    /// Changes the task's state from `from`, without the plain bit, to `to`. `word` is the present
    /// state word.
    pub fn change(&self, word: u64, from: State, to: State) {
        debug_assert!(word == self.word.get() && word as u8 == from as u8, "{from:?} is not in {word:#x}");
        self.word.set(word ^ (from as u64 ^ to as u64));
    }

    /// Ends the fault of a task that awaits the answer to it, and makes the task ready. `word` is
    /// the present state word.
    pub fn end_awaited_fault(&self, word: u64) {
        debug_assert!(word == self.word.get() && word as u8 == State::Await as u8, "no answer: {word:#x}");
        self.word.set(word ^ (u64::from(FLAG_IN_FAULT) << 8 | (State::Await as u64 ^ State::Ready as u64)));
    }

    /// Writes the zeros for which the plain bit stands into the task's register frame, and clears
    /// the bit.
    pub fn materialise_frame(&self) {
        if self.is_plain() {
            self.write_plain_frame();
        }
    }

    #[inline(never)]
    fn write_plain_frame(&self) {
        self.word.set(self.word.get() & !u64::from(PLAIN));
        let regs = &self.regs;
        for register in [&regs.rax, &regs.rdi, &regs.rsi, &regs.r8, &regs.r9, &regs.r10, &regs.r12] {
            register.set(0);
        }
    }

    /// Notes that the task's wait has to fail with this error.
    pub fn fail_wait_with(&self, error: Error) {
        debug_assert!(!self.is_dying(), "a kill ends the wait, and {error:?} cannot");
        self.ending.set(Ending::Fail(error));
    }

    // --- flags -----------------------------------------------------------------------------------

    fn set_flag(&self, flag: u8, on: bool) {
        let bit = u64::from(flag) << 8;
        let word = self.word.get();
        self.word.set(if on { word | bit } else { word & !bit });
    }

    /// Notes that tasks with more time than its own wait for a task that waits itself, or that it
    /// is to move.
    pub fn note_awaited(&self) {
        // The fast path may wake a plain task as it is.
        self.materialise_frame();
        self.set_flag(FLAG_AWAITED, true);
    }

    /// Sets the task's debug registers: the addresses, and DR7. If `on` is false, all are zero.
    pub fn set_debug(&self, addresses: [u64; DEBUG_ADDRESSES], dr7: u64, on: bool) {
        for (cell, value) in self.debug.iter().zip(addresses.into_iter().chain([dr7])) {
            cell.set(if on { value } else { 0 });
        }
        // The fastpath may run a plain task as it is.
        self.materialise_frame();
        self.set_flag(FLAG_DEBUG, on);
    }

    // --- a task's life ---------------------------------------------------------------------------

    /// Makes a fresh task a part of its process: ready, and suspended until its first resume, which
    /// moves it to the CPU `start_on`.
    pub fn join_process(&self, process: Ref<'_, Process>, id: TaskId, home: CpuId, start_on: CpuId) {
        assert!(self.is_in(State::Fresh), "a task in {:?} cannot join a process", self.state());
        self.process.set(Some(process));
        self.start_on.set(start_on);
        let (vector, label) = (process.get().vector.load(Relaxed), process.get().header.label());
        let flags = FLAG_SUSPENDED | if vector { FLAG_VECTOR } else { 0 };
        let half = state_half(State::Ready, flags, home) | label_part(label);
        self.word.set(u64::from(half) | tag_of(id));
    }

    /// Gives the task another label. Returns the new state word, or `None` if it had that label.
    pub fn take_label(&self, label: u32) -> Option<u64> {
        let old = self.word.get();
        let word = old & !u64::from(LABEL_MASK) | u64::from(label_part(label));
        self.word.set(word);
        (word != old).then_some(word)
    }

    /// Marks a task as being killed. It never runs again.
    pub fn mark_killed(&self) {
        self.suspend();
        self.ending.set(Ending::Kill);
    }

    /// Marks a task as being killed last, after the rest of its process.
    pub fn mark_killed_last(&self) {
        self.enter(State::Faulted);
        self.mark_killed();
        self.numbers_visited.set(0);
    }

    /// Ends the task's visits of task numbers while it kills its process: now the task dies itself.
    pub fn end_visits(&self) {
        debug_assert!(self.is_in(State::Faulted), "a task in {:?} visits no numbers", self.state());
        self.enter(State::Ready);
    }

    /// Makes a task that was killed dead.
    pub fn die(&self) {
        assert!(self.ending.take() == Ending::Kill, "a task in {:?} died and was not killed", self.state());
        self.enter(State::Dead);
    }
}
