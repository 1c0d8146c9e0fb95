//! Kills a process: its tasks, then its memberships in groups and its tasks' exposures.
//!
//! A task's exposures go when it is dead: while it may run, they say that it may have locks
//! ([`crate::events::locks`]).
//!
//! Tasks end as by TaskKill, each on its home CPU, and the tasks that wait for them wake with an
//! error. If the process is not the caller's own, all its tasks are dead when the system call
//! returns. A kill of the caller's own process completes asynchronously: the caller sends KILL to
//! the other tasks and dies last, as when a process faults without a handler
//! ([`crate::life::control`]). Until then nothing can stop it. The dead tasks stay exposed, until
//! another process kills the dead one, too.
//!
//! The audit records a kill when it begins, with the task that begins it. It does not record the
//! tasks that continue it.
//!
//! The Process object survives without tasks until it is deleted. It holds the progress of its
//! kill, so the next task that kills it continues there.

use abi::audit::AuditEvent;
use abi::{Cap, Error, Op};
use kern_base::group::Group;
use kern_base::limits::DELETE_WORK;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::slot::TABLES_MAX;
use kern_base::task::{State, Task};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::caps::growth::Reach;
use crate::life::reclaim::Pins;
use crate::rooms::Life;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Slots at which a kill looks before it notes how far it is.
const LOOKS: usize = 8;
/// Work of a look at a slot of a table that was added to a CSpace.
const FAR_WORK: u64 = TABLES_MAX as u64 * LOOK_WORK;

impl<'k, M: Machine> Life<'k, M> {
    /// Carries out [`abi::Op::ProcessKill`].
    pub fn process_kill(self, me: OpenTask<'k>, cap: Cap) -> Result<Answer> {
        let process = self.caps().operand::<Process, { Op::ProcessKill as u8 }, 0>(me, cap)?;
        refuse_if(
            !self.goes_on_with(me, Some(process.get().header.identity())),
            Refusal::new(Error::NoCapability, u64::from(cap.0)),
        )?;
        self.end_with_first(process);
        if process == me.process(self.pin()) {
            return Ok(self.kill_own(me));
        }
        self.end_tasks(me, process)?;
        self.groups().leave_groups(process, None, false)?;
        // Before the look at all slots, which would begin again in each entry after it.
        self.take_pool(process)?;
        self.withdraw_tasks(me, process)?;
        self.take_spaces(process);
        Ok(Answer::DONE)
    }

    /// Kills the caller's own process. The caller dies last.
    fn kill_own(self, me: OpenTask<'k>) -> Answer {
        self.mark_dying(me, &me.process(self.pin()).get().header);
        self.time().leave_rest(me);
        me.enter(State::Faulted);
        self.work_without_time(|| _ = self.time().stop_current(), || self.begin_teardown(me));
        Answer::Settled
    }

    /// Lets the next look at the groups of a process's CSpace begin with the first slot, and look
    /// at each group again.
    pub fn begin_looking(self, process: Ref<'k, Process>) {
        process.get().kills.fetch_add(1, Relaxed);
        process.get().left.store(0, Relaxed);
    }

    /// Withdraws a process's tasks, which are dead, from the groups that its CSpace names. Other
    /// CPUs may do the same at the same time, or begin again.
    /// Errors: [`Refusal::More`] when the entry has no work left.
    fn withdraw_tasks(self, me: OpenTask<'k>, process: Ref<'k, Process>) -> Result<()> {
        // Without a CSpace the process has no group.
        let Some(reach) = process.get().cnode.get(self.pin()).map(Reach::cspace) else { return Ok(()) };
        // A dying process gets no more tables.
        let (slots, near) = (self.caps().slots_in(reach), reach.first.get().slots.known().len());
        loop {
            let mut at = process.get().left.load(Relaxed);
            let number = (at >> 32) as usize;
            if number >= slots {
                // The next kill looks at all groups again.
                self.begin_looking(process);
                return Ok(());
            }
            let end = slots.min(number + LOOKS);
            // A slot of the first table is found by its number alone.
            self.afford(LOOKS as u64 * if end <= near { LOOK_WORK } else { FAR_WORK })?;
            for number in number..end {
                let slot = self.caps().slot_in(reach, number).map(|place| place.slot);
                if let Some(slot) = slot
                    && let Some(group) = slot.get().word.load(self.pin()).get::<Group>()
                {
                    note_left(process.get(), &mut at, (number as u64) << 32)?;
                    self.withdraw_from(me, process, group, &mut at)?;
                }
            }
            note_left(process.get(), &mut at, (end as u64) << 32)?;
            self.bound_work();
        }
    }

    /// Withdraws a process's tasks from one group. A CSpace may have a million capabilities of one
    /// group with 65,535 exposures, so each kill looks at a group's exposures once. `at` says how
    /// far it is.
    // Its registers would be spilled in each turn of the loop over the slots.
    #[inline(never)]
    fn withdraw_from(
        self,
        me: OpenTask<'k>,
        process: Ref<'k, Process>,
        group: Ref<'k, Group>,
        at: &mut u64,
    ) -> Result<()> {
        let kill = process.get().kill();
        let last = || group.get().withdrawn.lock(self.cpu, &group.get().header);
        if last().get() == kill {
            return Ok(());
        }
        let exposures = group.get().exposures.known();
        for index in *at as u32 as usize..exposures.len() {
            let Some(entry) = exposures.get(self.pin(), index) else { break };
            self.afford(2 * LOOK_WORK)?;
            let task = entry.get().slot.word.load(self.pin()).get::<Task>();
            if task.is_some_and(|task| task.get().of_process() == process.get().header.identity()) {
                self.afford(DELETE_WORK)?;
                self.delete_slot(me, entry.map(|e| &e.slot), Pins::Hold)?;
                let (header, at) = (&group.get().header, index as u64);
                self.security().audit_object(AuditEvent::Withdraw, Op::ProcessKill, header, at);
            }
            let next = *at & !0xffff_ffff | (index as u64 + 1);
            note_left(process.get(), at, next)?;
            self.bound_work();
        }
        last().set(kill);
        Ok(())
    }
}

/// Notes how far a killed process has parted with groups, if it is still `at` this place, and not
/// farther already.
/// Errors: [`Refusal::More`] if another CPU has gone on meanwhile, or begun again.
fn note_left(process: &Process, at: &mut u64, new: u64) -> Result<()> {
    if new > *at {
        let is_same = process.left.compare_exchange(*at, new, Relaxed, Relaxed).is_ok();
        refuse_if(!is_same, Refusal::More)?;
        *at = new;
    }
    Ok(())
}
