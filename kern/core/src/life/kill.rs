//! Killing a process: its tasks, then what they are in groups.
//!
//! Tasks end as by TaskKill, each at its home, and whoever waits for one is told. A process of somebody else's is dead when
//! the system call is over. One's own is by the time that anybody could ask: its tasks are sent for, and the calling one
//! goes last, as when a process faults and nobody handles it ([`crate::life::control`]); till then nothing can stop it.
//!
//! A kill is told to the audit when it begins, by who begins it: who goes on with it later is not told of.
//!
//! What is left is what a process is that has no task: an object with capabilities, which deleting ends. How far it has
//! come stands in the process, so whoever kills it next goes on from there.

use abi::audit::AuditEvent;
use abi::{Cap, Error, Op, process_rights};
use kern_base::group::Group;
use kern_base::limits::KILL_LOOKS;
use kern_base::machine::Machine;
use kern_base::process::Process;
use kern_base::task::{State, Task};
use smp::door::Ref;
use smp::sync::Ordering::Relaxed;

use crate::caps::growth::Reach;
use crate::life::reclaim::Pins;
use crate::rooms::Life;
use crate::state::set_state;
use crate::{Answer, Me, Refusal, Result};

impl<'k, M: Machine> Life<'k, M> {
    /// [`abi::Op::ProcessKill`].
    pub fn process_kill(self, me: Me<'k>, cap: Cap) -> Result<Answer> {
        let process = self.caps().find::<Process>(me, cap, process_rights::DESTROY)?.object;
        self.end_with_first(process.get().key());
        if process == me.process(self.pin()) {
            return self.kill_own(me);
        }
        if !self.goes_on_with(me, Some(process.get().header.identity())) {
            return Err(Refusal::new(Error::NoCapability, u64::from(cap.0)));
        }
        self.end_tasks(me, process)?;
        self.withdraw_tasks(me, process)?;
        self.groups().leave_groups(process, None)?;
        self.take_spaces(process);
        Ok(Answer::DONE)
    }

    fn kill_own(self, me: Me<'k>) -> Result<Answer> {
        self.withdraw_tasks(me, me.process(self.pin()))?;
        self.mark_dying(me, &me.process(self.pin()).get().header);
        set_state(me.hot, State::Faulted);
        self.time().stop_current();
        self.begin_teardown(me.task, me.hot);
        Ok(Answer::Settled)
    }

    /// A process's tasks are not exposed any more in the groups that its CSpace names.
    fn withdraw_tasks(self, me: Me<'k>, process: Ref<'k, Process>) -> Result<()> {
        let Some(reach) = process.get().cnode.get(self.pin()).map(Reach::cspace) else { return Ok(()) };
        let progress = &process.get().left;
        let mut looked = 0;
        while looked < KILL_LOOKS {
            let at = progress.load(Relaxed);
            let number = (at >> 32) as usize;
            if number >= self.caps().slots_in(reach) {
                // Who kills it once more looks at all again.
                process.get().kills.fetch_add(1, Relaxed);
                progress.store(0, Relaxed);
                return Ok(());
            }
            looked += 1;
            let slot = self.caps().slot_in(reach, number).map(|place| place.slot);
            if let Some(slot) = slot
                && let Some(group) = slot.get().word.load(self.pin()).get::<Group>()
            {
                self.withdraw_from(me, process, group, &mut looked)?;
            }
            progress.fetch_max(((at >> 32) + 1) << 32, Relaxed);
        }
        Err(Refusal::More)
    }

    /// The same of one group. A CSpace may have a million capabilities of one group with 65,535 exposures: each kill looks
    /// at them once.
    fn withdraw_from(
        self,
        me: Me<'k>,
        process: Ref<'k, Process>,
        group: Ref<'k, Group>,
        looked: &mut u32,
    ) -> Result<()> {
        let kill = process.get().kill_word();
        if group.get().withdrawn.load(Relaxed) == kill {
            return Ok(());
        }
        let progress = &process.get().left;
        let at = progress.load(Relaxed);
        let exposures = &group.get().exposures;
        for index in at as u32 as usize..exposures.len() {
            let Some(entry) = exposures.get_known(self.pin(), index) else { break };
            if *looked >= KILL_LOOKS {
                return Err(Refusal::More);
            }
            *looked += 1;
            let task = entry.get().slot.word.load(self.pin()).get::<Task>();
            if task.is_some_and(|task| task.get().id().process() == process.get().key()) {
                match self.delete_slot(me, entry.map(|e| &e.slot), Pins::Hold) {
                    // The calling task's last capability: it can't end in the middle of this.
                    Err(Refusal::Error { error: Error::InUse, .. }) => {}
                    done => {
                        done?;
                        let header = &group.get().header;
                        self.security().audit_object(
                            AuditEvent::Withdraw,
                            Op::ProcessKill,
                            header,
                            index as u64,
                        );
                    }
                }
            }
            progress.fetch_max((at & !0xffff_ffff) + index as u64 + 1, Relaxed);
        }
        group.get().withdrawn.store(kill, Relaxed);
        Ok(())
    }
}
