//! CPUs that the policy empties and parks, and takes into use again.

use abi::Error;
use policy_core::TASKS_MAX;
use policy_core::orders::Verdict;
use user_rt::spawn::own;
use user_rt::{info, utcb};

use crate::{Failed, Policy};

impl Policy {
    /// Moves all tasks away from a CPU, and parks it. If one does not move now, or another task is
    /// there, the CPU takes tasks again.
    pub fn park(&mut self, cpu: u32) -> Result<(), Failed> {
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
        let was_parked = own::machine().unpark_cpu(cpu)?;
        self.cpus.set_open(cpu, true);
        if !was_parked {
            return Err(Failed::Order(Verdict::BadOrder));
        }
        info!("CPU {} takes tasks again", cpu);
        Ok(())
    }

    /// Moves all tasks away from a CPU that is closed.
    fn empty(&mut self, cpu: u32) -> Result<(), Failed> {
        for number in 0..TASKS_MAX {
            let Some(managed) = self.tasks[number].as_ref().filter(|managed| managed.cpu == cpu) else {
                continue;
            };
            let part = managed.part;
            let to = self.choose_cpu(number as u16, part).ok_or(Failed::Order(Verdict::Overload))?;
            self.bring_to(number, to)?;
        }
        Ok(())
    }

    /// Moves a task, whatever it does, to a CPU where it was promised its part. A task that has
    /// ended is on no CPU any more.
    fn bring_to(&mut self, number: usize, to: u32) -> Result<(), Failed> {
        let Some(managed) = &mut self.tasks[number] else { return Ok(()) };
        let moved = managed.task.move_by(&own::sched_control(), to, None);
        let is_gone = moved.is_err_and(|refusal| {
            matches!(refusal.error, Error::BadState | Error::Dying | Error::NoCapability)
        });
        if moved.is_err() && !is_gone {
            self.promised.end(to, managed.part);
            self.note_parked(&moved, to);
            return Ok(moved?);
        }
        let from = core::mem::replace(&mut managed.cpu, to);
        let (part, deadline) = (managed.part, managed.deadline);
        self.promised.end(from, part);
        self.moves += u64::from(!is_gone);
        if let Some(deadline) = deadline.filter(|_| !is_gone) {
            self.begin_job(number, deadline);
        }
        Ok(())
    }

    /// Learns from the answer to a move that another program has parked a CPU.
    pub fn note_parked(&mut self, moved: &user_rt::Result<()>, to: u32) {
        if moved.is_err_and(|refusal| refusal.error == Error::Parked) {
            self.cpus.set_open(to, false);
        }
    }
}
