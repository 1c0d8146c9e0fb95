//! CPUs that the policy empties and parks, and takes into use again.

use abi::Error;
use policy_core::TASKS_MAX;
use policy_core::orders::Verdict;
use user_rt::cap::Handle as _;
use user_rt::spawn::own;
use user_rt::{arch, info, utcb};

use crate::{Failed, Policy};

impl Policy {
    /// Moves all tasks away from a CPU, and parks it. If one does not move now, or another task is
    /// there, the CPU takes tasks again.
    pub fn park(&mut self, cpu: u32) -> Result<(), Failed> {
        self.look_at_closed();
        let may = self.cpus.is_open(cpu) && self.cpus.open().count() > 1 && cpu != utcb::current().home_cpu();
        if !may {
            return Err(Failed::Order(Verdict::BadOrder));
        }
        self.cpus.set_open(cpu, false);
        let parked = self.empty(cpu).and_then(|()| Ok(own::machine().park_cpu(cpu)?));
        if parked.is_err() {
            self.cpus.set_open(cpu, true);
        }
        parked.map(|_| info!("CPU {} is parked", cpu))
    }

    /// Lets a CPU take tasks again.
    pub fn unpark(&mut self, cpu: u32) -> Result<(), Failed> {
        if cpu >= self.cpus.count() {
            return Err(Failed::Order(Verdict::BadOrder));
        }
        let was_open = self.cpus.is_open(cpu);
        let was_parked = own::machine().unpark_cpu(cpu)?;
        self.cpus.set_open(cpu, true);
        if was_open && !was_parked {
            return Err(Failed::Order(Verdict::BadOrder));
        }
        info!("CPU {} takes tasks again", cpu);
        Ok(())
    }

    /// Learns which closed CPUs another program has taken into use.
    pub fn look_at_closed(&mut self) {
        for cpu in 0..self.cpus.count() {
            let is_closed = !self.cpus.is_open(cpu);
            if is_closed && own::machine().cpu_state(cpu, false).is_ok_and(|state| !state.is_parked) {
                self.cpus.set_open(cpu, true);
            }
        }
    }

    /// Moves all tasks away from a CPU that is closed.
    fn empty(&mut self, cpu: u32) -> Result<(), Failed> {
        for number in 0..TASKS_MAX {
            let Some(managed) = self.tasks[number].as_ref().filter(|managed| managed.cpu == cpu) else {
                continue;
            };
            let part = managed.part;
            loop {
                let to = self.choose_cpu(number as u16, part).ok_or(Failed::Order(Verdict::Overload))?;
                // Another program may have parked the CPU that was chosen.
                if matches!(self.bring_to(number, to)?, Moved::There) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Moves a task, whatever it does, to a CPU where it was promised its part.
    fn bring_to(&mut self, number: usize, to: u32) -> Result<Moved, Failed> {
        let settles_at = arch::now().saturating_add(self.round);
        let Some(managed) = &mut self.tasks[number] else { return Ok(Moved::There) };
        let part = managed.part;
        let moved = managed.task.move_by(&own::sched_control(), to, None);
        if let Err(refusal) = moved {
            let slot = u64::from(managed.task.cap().0);
            self.promised.end(to, part);
            self.note_parked(&moved, to);
            return match refusal.error {
                Error::Parked => Ok(Moved::Elsewhere),
                // It has ended, and is on no CPU.
                Error::BadState | Error::Dying => Ok(Moved::There),
                Error::NoCapability if refusal.detail == slot => Ok(Moved::There),
                _ => Err(refusal.into()),
            };
        }
        let from = core::mem::replace(&mut managed.cpu, to);
        (managed.settles_at, managed.is_under_way) = (settles_at, true);
        let deadline = managed.deadline;
        managed.carried = deadline;
        self.promised.end(from, part);
        self.moves += 1;
        if let Some(deadline) = deadline {
            self.begin_job(number, deadline);
        }
        Ok(Moved::There)
    }

    /// Learns from the answer to a move that another program has parked a CPU.
    pub fn note_parked<T>(&mut self, moved: &user_rt::Result<T>, to: u32) {
        if matches!(moved, Err(refusal) if refusal.error == Error::Parked) {
            self.cpus.set_open(to, false);
        }
    }
}

/// What has become of a task that was to move.
enum Moved {
    /// It moves, or has ended.
    There,
    /// The CPU takes no tasks: it has to be another one.
    Elsewhere,
}
