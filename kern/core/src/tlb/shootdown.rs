//! Begins [shootdowns](smp::shootdown) and makes tasks wait for their end.
//!
//! A CPU that removes a mapping knows the [`Stamp`] of the shootdown that it will begin before its
//! entry ends ([`Tlb::next_stamp`]). It stores the stamp in the entry and in the page's record. A
//! task that must wait for a shootdown waits on the CPU that began it: its message block travels
//! there, as a [`Request::Forgotten`], and stays until the shootdown ends.

use abi::Counter;
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::task::Request;
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::planted::miss_this_flush;
use smp::shootdown::{self, Begun, Received, ShootMail, Stamp, What};
use test_abi::trace::Event;

use crate::outbox::mail::Next;
use crate::rooms::Tlb;
use crate::{OpenTask, Refusal, Result};

impl<'k, M: Machine> Tlb<'k, M> {
    // --- beginning -------------------------------------------------------------------------------

    /// Returns the stamp of the shootdown that this CPU begins next.
    pub fn next_stamp(self) -> Stamp {
        shootdown::next_stamp(self.k, self.pin())
    }

    /// Makes the CPUs that have a space loaded check its generation, which the caller has
    /// increased. If this entry must wait for other CPUs' shootdowns ([`Tlb::widen`]), makes all
    /// CPUs flush everything.
    pub fn shoot_space(self, vspace: Ref<'k, VSpace>) -> Stamp {
        if self.sched.shoot_wide.take() {
            return self.shoot_everything(None);
        }
        let missed = miss_this_flush();
        let is_there = |cpu| !missed && self.k.block(self.pin(), cpu).vspace.is(vspace);
        let homes = vspace.get().homes.members(self.k.cpu_count());
        self.begun(shootdown::begin(self.k, self.pin(), What::Space, self.rank_out(), homes, is_there))
    }

    /// Makes CPUs flush everything, and leave dying spaces that no process has: the CPUs that can
    /// have a space loaded, or all.
    pub fn shoot_everything(self, vspace: Option<Ref<'k, VSpace>>) -> Stamp {
        self.forget_here();
        let is_home = |cpu: &CpuId| vspace.is_none_or(|vspace| vspace.get().homes.contains(*cpu));
        let cpus = (0..self.k.cpu_count()).filter_map(CpuId::new).filter(is_home);
        let rank = self.rank_out();
        self.begun(shootdown::begin(self.k, self.pin(), What::Everything, rank, cpus, |_| true))
    }

    fn begun(self, begun: Begun) -> Stamp {
        let Begun { stamp, sent, batched, avoided } = begun;
        self.trace().event(|| Event::ShootdownBegun { number: stamp.raw(), asked: (sent + batched) as u32 });
        self.add(Counter::ShootdownSent, sent);
        self.add(Counter::ShootdownBatched, batched);
        self.add(Counter::ShootdownAvoided, avoided);
        stamp
    }

    /// Makes the next shootdown of this entry cover one that another CPU began.
    #[cold]
    pub fn widen(self) {
        self.sched.shoot_wide.set(true);
    }

    // --- being asked -----------------------------------------------------------------------------

    /// Handles a shootdown mail: flushes and answers, or takes in the answer. Returns whether that
    /// ended shootdowns of this CPU.
    pub fn shoot_arrived(self, mail: ShootMail, what: What) -> bool {
        match shootdown::receive(self.k, self.pin(), mail) {
            Received::Question => {
                match what {
                    What::Space => self.look_again(),
                    What::Everything => self.forget_here(),
                }
                self.trace().event(|| Event::ShootdownServed {});
                let rank = shootdown::answer(self.k, self.pin(), mail);
                // The space of the program changes, for a task that may be its equal.
                self.sched.best_rank.set(self.sched.best_rank.get().max(rank + 1));
                false
            }
            Received::Same => false,
            Received::Advanced => {
                self.trace().event(|| Event::ShootdownOver {
                    number: shootdown::last_over(self.k, self.pin()).raw(),
                });
                true
            }
        }
    }

    /// Flushes the translations of the space that this CPU has loaded, if the space has changed.
    fn look_again(self) {
        // The kernel's own tables are loaded, of which no user page is remembered.
        let Some(vspace) = self.cpu.vspace.get(self.pin()) else { return };
        let generation = vspace.get().generation.load(smp::sync::Ordering::Acquire);
        if vspace.get().see(self.pin(), generation) {
            self.k.machine.forget_space();
        }
    }

    /// Flushes all translations of this CPU, and leaves a dying space once its process is detached
    /// from it. Until then the CPU may still run tasks of that process, also one that was just
    /// preempted and continues when this entry ends.
    fn forget_here(self) {
        let is_left = |v: Ref<'k, VSpace>| v.get().header.has_flag(FLAG_DYING) && v.get().process.is_null();
        let leaves = self.cpu.vspace.get(self.pin()).is_some_and(is_left);
        if leaves {
            self.cpu.vspace.set(None);
        }
        self.k.machine.forget_translations(leaves);
    }

    // --- waiting ---------------------------------------------------------------------------------

    /// Whether a shootdown is over.
    #[inline(always)]
    pub fn is_over(self, stamp: Stamp) -> bool {
        shootdown::is_over(self.k, self.pin(), stamp)
    }

    /// Waits until a shootdown is over.
    pub fn wait_over(self, me: OpenTask<'k>, stamp: Stamp) -> Result<()> {
        if self.is_over(stamp) {
            return Ok(());
        }
        match stamp.by() {
            Some(by) if by != self.id() => Err(self.outbox().ask(me, by, Request::Forgotten(stamp))),
            _ => Err(self.stay(me, stamp)),
        }
    }

    /// Makes the running task wait until a shootdown of this CPU, which keeps the request, is over.
    fn stay(self, me: OpenTask<'k>, stamp: Stamp) -> Refusal {
        self.outbox().keep_own(me, Request::Forgotten(stamp), &self.sched.forgetful)
    }

    /// Serves a task's request to wait for one of this CPU's shootdowns.
    pub fn serve_forgotten(self, stamp: Stamp) -> Next<'k> {
        if self.is_over(stamp) { Next::Done } else { Next::Keep(&self.cpu.own().sched.forgetful) }
    }
}
