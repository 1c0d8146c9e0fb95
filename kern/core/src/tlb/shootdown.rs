//! Forgetting: the kernel's part in [shootdowns](smp::shootdown), and how tasks wait for their end.
//!
//! Who takes a mapping out of the tables knows the [`Stamp`] of the shootdown that it will begin before its entry ends
//! ([`Tlb::next_stamp`]), and notes it where the mapping was. A task that must wait for a shootdown does so on
//! the CPU that began it: its message block goes there, as a [`Request::Forgotten`], and stays until then.

use abi::{Counter, Error};
use kern_base::header::FLAG_DYING;
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::task::{Request, Stage, Task};
use smp::cpu::CpuId;
use smp::door::Ref;
use smp::planted::miss_this_flush;
use smp::shootdown::{self, Begun, Received, ShootMail, Stamp, What};
use test_abi::trace::Event;

use crate::outbox::mail::Next;
use crate::rooms::Tlb;
use crate::{Me, Refusal, Result};

impl<'k, M: Machine> Tlb<'k, M> {
    // --- beginning -------------------------------------------------------------------------------

    /// The stamp of the shootdown that this CPU begins next.
    pub fn next_stamp(self) -> Stamp {
        shootdown::next_stamp(self.k, self.pin())
    }

    /// Makes the CPUs that are in a space look at it again, after its generation was bumped. Or, where this entry
    /// has to wait for what others began ([`Tlb::widen`]), makes all forget everything.
    pub fn shoot_space(self, vspace: Ref<'k, VSpace>) -> Stamp {
        if self.sched.shoot_wide.take() {
            return self.shoot_everything(None);
        }
        let missed = miss_this_flush();
        let is_there = |cpu| !missed && self.k.block(self.pin(), cpu).vspace.is(vspace);
        let homes = vspace.get().homes.snapshot();
        self.begun(shootdown::begin(self.k, self.pin(), What::Space, homes.iter(), is_there))
    }

    /// Makes CPUs forget everything, and leave dying spaces that no process has: the CPUs that can be in a space, or all.
    pub fn shoot_everything(self, vspace: Option<Ref<'k, VSpace>>) -> Stamp {
        self.forget_here();
        let is_home = |cpu: &CpuId| vspace.is_none_or(|vspace| vspace.get().homes.contains(*cpu));
        let cpus = (0..self.k.cpu_count()).filter_map(CpuId::new).filter(is_home);
        self.begun(shootdown::begin(self.k, self.pin(), What::Everything, cpus, |_| true))
    }

    fn begun(self, begun: Begun) -> Stamp {
        let Begun { stamp, sent, batched, avoided } = begun;
        self.trace().event(|| Event::ShootdownBegun { number: stamp.raw(), asked: (sent + batched) as u32 });
        self.add(Counter::ShootdownSent, sent);
        self.add(Counter::ShootdownBatched, batched);
        self.add(Counter::ShootdownAvoided, avoided);
        stamp
    }

    /// The next shootdown of this entry has to cover one that another CPU began.
    #[cold]
    pub fn widen(self) {
        self.sched.shoot_wide.set(true);
    }

    // --- being asked -----------------------------------------------------------------------------

    /// A shootdown node came by. Returns whether shootdowns of this CPU are over by that.
    pub fn shoot_arrived(self, mail: ShootMail, what: What) -> bool {
        match shootdown::receive(self.k, self.pin(), mail) {
            Received::Question => {
                match what {
                    What::Space => self.look_again(),
                    What::Everything => self.forget_here(),
                }
                self.trace().event(|| Event::ShootdownServed {});
                shootdown::answer(self.k, self.pin(), mail);
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

    /// Forgets the space that this CPU is in, if it has changed.
    fn look_again(self) {
        let Some(vspace) = self.cpu.vspace.get(self.pin()) else { return };
        let generation = vspace.get().generation.load(smp::sync::Ordering::Acquire);
        if vspace.get().see(self.pin(), generation) {
            self.k.machine.forget_space();
        }
    }

    /// Forgets everything, and leaves a dying space once its process is parted from it. Until then the CPU may still
    /// run tasks of that process, also one that is preempted just now and goes on when this entry ends.
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
    pub fn wait_over(self, me: Me<'k>, stamp: Stamp) -> Result<()> {
        if self.is_over(stamp) {
            return Ok(());
        }
        match stamp.by() {
            Some(by) if by != self.id() => Err(self.outbox().ask(me, by, Request::Forgotten(stamp))),
            _ => Err(self.stay(me, stamp)),
        }
    }

    /// The same for a shootdown of this CPU, which keeps the request.
    fn stay(self, me: Me<'k>, stamp: Stamp) -> Refusal {
        let Some(msg) = me.task.get().msg.open(self.pin()) else { return Error::BadState.into() };
        self.outbox().write_request(me.task, msg, Request::Forgotten(stamp));
        self.sched.forgetful.insert(self.pin(), me.task, 0);
        msg.stage.set(Stage::Mourning);
        Refusal::Again
    }

    /// A task waits for one of this CPU's.
    pub fn serve_forgotten(self, task: Ref<'k, Task>, stamp: Stamp) -> Next {
        if self.is_over(stamp) {
            return Next::Done;
        }
        self.sched.forgetful.insert(self.pin(), task, 0);
        Next::Stay
    }

    /// Such a task is wanted back.
    pub fn stop_forgotten(self, task: Ref<'k, Task>) {
        self.sched.forgetful.remove(self.pin(), task);
    }
}
