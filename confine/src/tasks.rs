//! Changes of tasks, processes and CPU time: each takes a right.

use abi::{Rights, process_rights, sched_control_rights, sched_rights, task_rights};
use snapshot::{Process, State, Task};

use crate::change::Change;

impl Change<'_> {
    /// Checks that every change of a task was made by right.
    pub fn tasks(&mut self) {
        let (before, after) = (self.before, self.after);
        for was in &before.s.tasks {
            let again = before.thing(was.at).and_then(|thing| after.again(thing));
            let now = again.and_then(|thing| after.s.tasks.get(thing.number));
            if let Some(now) = now {
                self.task(was, now);
            }
        }
    }

    fn task(&mut self, was: &Task, now: &Task) {
        let refuse = |change: &mut Change<'_>, what: &str| {
            let (who, object) = (change.actors(), change.object(was.at));
            let of = change.name(was.owner);
            change.excess("task", format!("{who} could not {what} {object} of {of}"));
        };
        let dies = now.state == State::Dead || now.ending || now.dying || now.dead;
        if dies {
            let is = was.state == State::Dead || was.ending || was.dying || was.dead;
            if !is && !self.may_end_task(was) {
                refuse(self, "end");
            }
            return;
        }
        let registers = self.may(was.at, task_rights::REGISTERS);
        if was.id == 0 && now.id != 0 && !(registers && self.may(now.owner, process_rights::CONFIGURE)) {
            refuse(self, "configure");
        }
        let labels = (self.after.label(now.at), self.after.label(now.owner));
        if was.id == 0 && now.id != 0 && labels.0 != labels.1 {
            self.excess(
                "label",
                format!("a task of label {} is one of a process of label {}", labels.0, labels.1),
            );
        }
        if was.fault_handler != now.fault_handler && !registers {
            refuse(self, "set the fault handler of");
        }
        if was.id != 0 && was.suspended != now.suspended && !self.may(was.at, task_rights::SUSPEND) {
            refuse(self, "suspend or resume");
        }
        let schedule = self.may(was.at, task_rights::SCHEDULE);
        if now.own_context != 0 && was.own_context != now.own_context {
            let time = self.may(now.own_context, sched_rights::CONFIGURE);
            if !(schedule && time) {
                refuse(self, "give CPU time to");
            }
        }
        if now.bound != 0 && was.bound != now.bound && !(schedule && self.may(now.bound, Rights::LISTEN)) {
            refuse(self, "bind a Notification to");
        }
        if now.waits_for != 0 && was.waits_for != now.waits_for && !self.may(now.waits_for, Rights::LISTEN) {
            refuse(self, "wait for bits in");
        }
    }

    /// Returns whether the acting processes may end a task: by its capability, by its process, or
    /// by taking away all its capabilities. A task may always end itself, by a fault.
    fn may_end_task(&self, task: &Task) -> bool {
        self.may(task.at, task_rights::DESTROY)
            || self.may_end_process(task.owner)
            || self.may_take_all(task.at)
    }

    /// Returns whether the acting processes may end a process: by its capability; because they
    /// handle its fault; or because they have ended its fault's handler.
    fn may_end_process(&self, process: u64) -> bool {
        let faults = |task: &Task| {
            let callee = self.before.task(task.callee);
            let by = callee.is_some_and(|callee| self.acts.contains(&callee.owner));
            let gone = callee.is_none_or(|callee| {
                let now = self.after.task(callee.at).filter(|now| now.id == callee.id);
                now.is_none_or(|now| now.ending || now.state == State::Dead)
            });
            task.owner == process && task.in_fault && (by || gone || task.held != 0)
        };
        self.acts.contains(&process)
            || self.may(process, process_rights::DESTROY)
            || self.before.s.tasks.iter().any(faults)
            || self.may_take_all(process)
            || self.may_take_spaces(process)
    }

    /// Returns whether the acting processes may take away all capabilities of a process's address
    /// space, or of a table of its CSpace: the process ends with any of these.
    fn may_take_spaces(&self, process: u64) -> bool {
        let tables = self.before.s.cnodes.iter().filter(|table| table.process == process);
        let space = self.before.process(process).map_or(0, |process| process.vspace);
        let spaces = tables.map(|table| table.at).chain([space]);
        spaces.into_iter().any(|space| space != 0 && self.may_take_all(space))
    }

    /// Returns whether the acting processes may take away all capabilities of an object.
    fn may_take_all(&self, object: u64) -> bool {
        let mut its = self.before.slots().filter(|slot| slot.object == object).peekable();
        its.peek().is_some() && its.all(|slot| self.may_take(slot))
    }

    /// Checks that every change of a process was made by right.
    pub fn processes(&mut self) {
        let (before, after) = (self.before, self.after);
        for now in &after.s.processes {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            if let Some(was) = again.and_then(|thing| before.s.processes.get(thing.number)) {
                self.process(was, now);
            }
        }
        for was in before.s.processes.iter().filter(|was| !was.dead && !was.dying) {
            let again = before.thing(was.at).and_then(|thing| after.again(thing));
            if again.is_none_or(|thing| thing.ends) && !self.may_end_process(was.at) {
                let (who, what) = (self.actors(), self.name(was.at));
                self.excess("process", format!("{who} could not end {what}"));
            }
        }
    }

    fn process(&mut self, was: &Process, now: &Process) {
        let owns = self.may_or_is(was.at, process_rights::CONFIGURE);
        let configures = self.may(was.at, process_rights::CONFIGURE);
        let refuse = |change: &mut Change<'_>, what: &str| {
            let (who, name) = (change.actors(), change.name(was.at));
            change.excess("process", format!("{who} could not {what} {name}"));
        };
        let offers =
            now.offer_slot != 0 && (was.offer_slot, was.offer_from) != (now.offer_slot, now.offer_from);
        if offers && !owns {
            refuse(self, "offer a slot of");
        }
        if was.fault_handler != now.fault_handler && !owns {
            refuse(self, "set the fault handler of");
        }
        let gets = |was: u64, now: u64| now != 0 && was != now;
        if gets(was.vspace, now.vspace) && !(configures && self.may(now.vspace, Rights::MAP)) {
            refuse(self, "give an address space to");
        }
        if gets(was.cnode, now.cnode) && !(configures && self.may(now.cnode, Rights::GRANT)) {
            refuse(self, "give a CSpace to");
        }
        if gets(was.pool, now.pool) && !(configures && self.may(now.pool, Rights::LISTEN)) {
            refuse(self, "give an event pool to");
        }
    }

    /// Returns whether the acting processes may allow a priority.
    fn may_allow(&self, priority: u32) -> bool {
        let mut controls = self.before.s.controls.iter().filter(|control| control.bound > priority);
        controls.any(|control| self.may(control.at, sched_control_rights::SCHEDULE))
    }

    /// Checks that every change of CPU time and of kept calls was made by right.
    pub fn others(&mut self) {
        let (before, after) = (self.before, self.after);
        for now in &after.s.contexts {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            let Some(was) = again.and_then(|thing| before.s.contexts.get(thing.number)) else { continue };
            let changed = (was.priority, was.endless) != (now.priority, now.endless);
            if changed && !(self.may(now.at, sched_rights::CONFIGURE) && self.may_allow(now.priority)) {
                let (who, what) = (self.actors(), self.object(now.at));
                self.excess("time", format!("{who} could not configure {what}"));
            }
        }
        for now in &after.s.controls {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            let was = again.and_then(|thing| before.s.controls.get(thing.number));
            let (bound, cpus) = was.map_or((0, 0), |was| (was.bound, was.cpus));
            let by = sched_control_rights::CONFIGURE;
            let may = || self.may(now.at, by) && self.may_allow(now.bound.saturating_sub(1));
            if (bound, cpus) != (now.bound, now.cpus) && !may() {
                let (who, what) = (self.actors(), self.object(now.at));
                self.excess("time", format!("{who} could not extend {what}"));
            }
        }
        for now in after.s.replies.iter().filter(|now| now.caller != 0) {
            let again = after.thing(now.at).and_then(|thing| before.again(thing));
            let was = again.and_then(|thing| before.s.replies.get(thing.number)).map_or(0, |was| was.caller);
            if was != now.caller && !self.may(now.at, Rights::SEND) {
                let (who, what) = (self.actors(), self.object(now.at));
                self.excess("reply", format!("{who} could not keep a call in {what}"));
            }
        }
    }
}
