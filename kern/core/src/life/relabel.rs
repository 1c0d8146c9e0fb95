//! [`abi::Op::LabelSet`]: gives an object another label. A process's spaces and tasks get it, too.

use abi::audit::{AuditEvent, LABELS};
use abi::{Cap, Counter, Error, Op};
use kern_base::header::{FLAG_DYING, Header};
use kern_base::limits::LABEL_STEPS;
use kern_base::machine::Machine;
use kern_base::memory::VSpace;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_base::task::{LABEL_MASK, ctl};
use smp::door::Ref;
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;

use crate::begun::{began_with, is_again};
use crate::rooms::Life;
use crate::security::labels::differ;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Life<'k, M> {
    /// Carries out [`abi::Op::LabelSet`].
    pub fn label_set(self, me: OpenTask<'k>, machine: Cap, object: Cap, label: u64) -> Result<Answer> {
        self.caps().operand::<MachineObject, { Op::LabelSet as u8 }, 0>(me, machine)?;
        let (_, word) = self.caps().look(me, object)?;
        let header = header_of(word).ok_or(Refusal::new(Error::NoCapability, u64::from(object.0)))?;
        let label = u32::try_from(label).ok().filter(|label| *label < LABELS);
        let label = label.ok_or(Refusal::argument(2))?;
        refuse_if(header.has_flag(FLAG_DYING), Error::Dying)?;
        let goes_on = || began_with(me.part(), &me.regs.r8, header.identity());
        let is_again = is_again(me.part());
        refuse_if(is_again && !goes_on(), Refusal::new(Error::NoCapability, u64::from(object.0)))?;
        let guard = self.caps().lock_bindings();
        if let Some(whole) = self.security().process_with(word).map(|process| process.get().header.label())
            && whole != label
        {
            return Err(differ(whole, label));
        }
        let process = word.get::<Process>();
        let before = header.label();
        // A process that has this label, but has not informed all its tasks, is just getting it:
        // through an earlier entry of this call, or through another caller, whose work continues
        // here.
        let begins = before != label || process.is_none_or(knows_label);
        if begins && is_again {
            // An earlier entry of this call has set the label. Other callers have set another one
            // since, or have completed this call's work.
            return Ok(Answer::DONE);
        }
        if begins {
            self.put_label(word, header, label);
        }
        let done = process.map_or(Ok(()), |process| self.tell_label(process));
        drop(guard);
        if begins {
            let detail = u64::from(before) << 32 | u64::from(label);
            self.security().audit_object(AuditEvent::Label, Op::LabelSet, header, detail);
        }
        done.inspect_err(|_| _ = goes_on()).map(|()| Answer::DONE)
    }

    /// Labels the tasks of a process that has another label, and informs their CPUs; a bounded
    /// number of tasks.
    /// Requires: the lock of spaces is held, so that no CPU sets another label while the count of
    /// informed tasks is used.
    /// Ordering: the label is set before the task numbers are read, and a task takes its number
    /// before it reads the label (`Make::join_process`). So each task
    /// of the process reads the new label, or is informed.
    fn tell_label(self, process: Ref<'k, Process>) -> Result<()> {
        fence(SeqCst);
        let (numbers, told) = (&process.get().tasks, &process.get().label_told);
        let label = process.get().header.label();
        let first = told.load(Relaxed) as usize;
        let end = numbers.len().min(first + LABEL_STEPS);
        for number in first..end {
            let entry = numbers.get(self.pin(), number);
            if let Some(task) = entry.and_then(|entry| entry.get().task.get(self.pin())) {
                // A task that is just being configured takes the label with its process.
                if task.get().owner(self.pin()).is_some() {
                    task.get().header.set_label(label);
                }
                self.send_control(task, ctl::LABEL);
            }
        }
        told.store(end as u32, Relaxed);
        if end < numbers.len() { Err(Refusal::More) } else { Ok(()) }
    }

    /// Gives a task of this CPU the label of its process, which has changed. If the task is
    /// running, also flushes the CPU's branch predictors: tasks with the old label have trained
    /// them, and from here on the fastpath goes to tasks with the new one.
    #[cold]
    pub fn take_label(self, task: OpenTask<'k>) {
        // The task has left its process since it was informed, or gets the label with its process.
        let Some(process) = task.process_if_any(self.pin()) else { return };
        let Some(word) = task.take_label(process.get().header.label()) else { return };
        if self.hot.current.is(task.object()) {
            self.time().expect(word);
            if self.sched.more_mail.get() {
                self.time().expect_none_ready();
            }
            self.hot.special_on.set(self.hot.special_on.get() & !LABEL_MASK | word as u32 & LABEL_MASK);
            self.k.machine.flush_predictors();
            self.count(Counter::LabelSwitch);
        }
    }

    /// Sets the label of an object, and for a process also the labels of its spaces. A process that
    /// gets spaces at the same time gets them before, so that they are labelled here, or finds that
    /// the labels differ.
    /// Requires: the lock of spaces is held.
    fn put_label(self, word: RawWord<'k>, header: &Header, label: u32) {
        header.set_label(label);
        if let Some(space) = word.get::<VSpace>() {
            space.get().set_labelled(label != 0);
        }
        if let Some(process) = word.get::<Process>() {
            process.get().label_told.store(0, Relaxed);
            let cspace = process.get().cnode.get(self.pin()).into_iter();
            for table in cspace.flat_map(|first| CNode::tables(first, self.pin())) {
                table.get().header.set_label(label);
            }
            if let Some(space) = process.get().vspace.get(self.pin()) {
                space.get().header.set_label(label);
                space.get().set_labelled(label != 0);
            }
        }
    }
}

/// Whether all tasks of a process were informed of its label.
/// Requires: the lock of spaces is held.
fn knows_label(process: Ref<'_, Process>) -> bool {
    process.get().label_told.load(Relaxed) as usize >= process.get().tasks.len()
}
