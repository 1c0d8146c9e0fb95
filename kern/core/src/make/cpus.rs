//! System calls about CPUs: park one, and ask how it is.
//!
//! # Parked CPUs
//! A task has a place on the CPU where it is to run ([`Residents`](smp::residents::Residents)): it
//! takes the place when it is configured or moves, and leaves it when it has moved or is dead. So a
//! CPU parks only without tasks, and none is on its way there. Everything else on the CPU goes on:
//! it has SchedContexts and Notifications without task, and serves what other CPUs ask of them.
//!
//! # Signs of life
//! [`Mail::Sign`](kern_base::cpu::Mail::Sign) is a question that the CPU answers by taking it from
//! its mailbox. It has the rank of the task that asks, so it disturbs nobody more than a request
//! would. The same mail makes a CPU look whether it is parked.

use abi::{Error, Op, Target};
use kern_base::cpu::CpuBlock;
use kern_base::machine::Machine;
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::args::Args;
use crate::rooms::Make;
use crate::{Answer, Cx, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Cx<'k, M> {
    /// Returns the CPU that the index of a capability names.
    pub fn cpu_named(self, target: Target) -> Result<Ref<'k, CpuBlock>> {
        let cpu = self.k.cpus.get_masked(self.pin(), target.index() as usize);
        cpu.ok_or_else(|| Refusal::new(Error::NoCpu, self.k.cpu_count() as u64))
    }
}

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`Op::CpuPark`].
    pub fn cpu_park(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::CpuPark as u8 }, 0>(me, args.cap())?;
        let cpu = self.cpu_named(args.target())?;
        refuse_if(args.a1 > 1, Refusal::argument(1))?;
        let residents = &cpu.get().residents;
        let was_parked = match args.a1 {
            0 => residents.open(),
            _ => residents.close().map_err(|taken| Refusal::new(Error::InUse, taken.0))?,
        };
        self.ask_for_sign(cpu);
        Ok(Answer::one(was_parked.into()))
    }

    /// Carries out [`Op::CpuInfo`].
    pub fn cpu_info(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::CpuInfo as u8 }, 0>(me, args.cap())?;
        let cpu = self.cpu_named(args.target())?;
        refuse_if(args.a1 > 1, Refusal::argument(1))?;
        if args.a1 == 1 {
            self.ask_for_sign(cpu);
        }
        let (tasks, is_parked) = cpu.get().residents.glance();
        Ok(Answer::Values([tasks, is_parked.into(), self.owes_for(cpu.get()), 0]))
    }

    /// Returns for how many ticks a CPU has owed a sign of life, or 0 if it owes none. CPUs that
    /// ask at the same time may note an older question as the last one: then it counts from the
    /// last sign.
    fn owes_for(self, cpu: &CpuBlock) -> u64 {
        if cpu.sign.glance() == 0 {
            return 0;
        }
        let since = cpu.asked_at.load(Relaxed).max(cpu.answered_at.load(Relaxed));
        self.k.machine.now().saturating_sub(since).max(1)
    }

    /// Asks another CPU for a sign of life, and to look whether it is parked.
    fn ask_for_sign(self, cpu: Ref<'k, CpuBlock>) {
        if cpu.get().id() == self.id() {
            return;
        }
        if cpu.get().sign.glance() == 0 {
            cpu.get().asked_at.store(self.k.machine.now(), Relaxed);
        }
        self.outbox().raise_sign(cpu);
    }
}
