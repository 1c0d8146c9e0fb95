//! The work that one kernel entry may still do, so that no entry keeps interrupts off for long.
//!
//! Work is counted in instructions, roughly: a word that is cleared is one. An entry that may be
//! long begins with [`ENTRY_WORK`]. Every loop in it spends what its next step takes, at most, and
//! ends where the rest does not suffice. The system call then begins again as an entry of its own.
//! Other long work goes on by mail, or with the next interrupt. A loop that goes on by mail does
//! one step without asking, so that it ends even if its message is always the last of many.
//!
//! # Steps that take other steps
//! The operations that end objects have loops in loops, and a step of the outer one is long. Such
//! an entry begins with [`Cx::begin_steps`]: until its first step is done, it may do what it likes.
//! From then on ([`Cx::bound_work`]) it has the work of any other entry, less what it has done.
//!
//! # Invariants
//! * An entry that has done nothing yet can do one step, since a step takes [`ENTRY_WORK`] at most.
//!   So work in many entries ends.
//! * Between two entries a CPU has at most [`ENTRY_WORK`] left. So an entry that forgets to begin
//!   its work may end too early, and never too late.

use kern_base::limits::{ENTRY_WORK, INTERRUPT_WORK};
use kern_base::machine::Machine;

use crate::{Cx, Refusal, Result, refuse_if};

/// Work of a look at a slot, a record or a number.
pub const LOOK_WORK: u64 = 12;

/// Marks the work of an entry whose first step is not done yet: there is enough for any step.
const FIRST: u64 = 1 << 62;

impl<M: Machine> Cx<'_, M> {
    /// Gives this entry its work, and lets it do a first step, whatever that takes.
    #[inline(always)]
    pub fn begin_steps(self) {
        self.sched.work.set(FIRST + ENTRY_WORK);
    }

    /// Lets this entry do one more step, whatever it has done.
    #[cold]
    pub fn allow_step(self) {
        self.sched.work.set(FIRST + self.sched.work.get() % FIRST);
    }

    /// Notes that the first step is done and its effect stays, or that what follows does a step
    /// without asking: from now on the entry has only its own work.
    #[inline(always)]
    pub fn bound_work(self) {
        let work = self.sched.work.get();
        if work > FIRST / 2 {
            self.sched.work.set(work.saturating_sub(FIRST));
        }
    }

    /// Gives this entry its work.
    #[inline(always)]
    pub fn begin_work(self) {
        self.sched.work.set(ENTRY_WORK);
    }

    /// Gives this entry, an interrupt of a program, its work.
    #[inline(always)]
    pub fn begin_work_of_interrupt(self) {
        self.sched.work.set(INTERRUPT_WORK);
    }

    /// Returns whether this entry may still do a step that takes so much.
    #[inline(always)]
    pub fn has_work(self, work: u64) -> bool {
        work.min(ENTRY_WORK) <= self.sched.work.get()
    }

    /// Spends the work of a step, which must follow.
    /// Returns: whether the entry may do it. Otherwise it has to end.
    #[must_use]
    #[inline(always)]
    pub fn spend(self, work: u64) -> bool {
        let may = self.has_work(work);
        if may {
            self.note_work(work);
        }
        may
    }

    /// Takes back work that was spent for steps which do not follow.
    #[cold]
    pub fn take_back(self, work: u64) {
        self.sched.work.set(self.sched.work.get() + work);
    }

    /// Spends the work of a step of a system call.
    /// Errors: [`Refusal::More`] if the entry has to end.
    #[inline(always)]
    pub fn afford(self, work: u64) -> Result<()> {
        refuse_if(!self.spend(work), Refusal::More)
    }

    /// Counts work that the entry has done already, whether it might or not.
    #[inline(always)]
    pub fn note_work(self, work: u64) {
        self.sched.work.set(self.sched.work.get().saturating_sub(work));
    }
}
