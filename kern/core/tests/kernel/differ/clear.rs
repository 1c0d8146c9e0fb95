//! Which steps the model determines: the others are left out.

use abi::{Op, Rights};
use model::object::{State, Task};
use model::tasks::ENDLESS;
use model::{Args, Id, Kind, Model};

use super::cast::PRIORITY;
use super::pair::Pair;

impl Pair {
    /// Whether a task has CPU time of its own, as good as that of the others: else it may never
    /// have its turn, or lose it before its system call is over.
    pub fn is_equal(&self, task: Id) -> bool {
        let time = self.model.task(task).time.map(|time| self.model.sched_context(time));
        time.is_some_and(|time| u64::from(time.priority) == PRIORITY && time.slice == ENDLESS)
    }

    /// Whether a task's own CPU time is on another CPU.
    fn has_time_elsewhere(&self, id: Id) -> bool {
        self.tasks.iter().filter(|(known, _)| *known == id).any(|(_, tcb)| {
            let own = tcb.hot().time.own(tcb.pin());
            own.is_some_and(|own| own.get().hot.home().index() != tcb.home())
        })
    }

    /// Whether a task is to move. If the caller dies that it serves, it keeps the caller's time,
    /// and stays until it receives. If its call is cancelled, its own time may still be elsewhere.
    /// The model does not say what a task has.
    fn is_one_to_move(&self) -> bool {
        let is_it = |it: &model::Object| matches!(&it.kind, Kind::Task(it) if it.is_to_move);
        self.model.objects.iter().any(is_it)
    }

    /// Whether the model determines the result. It does not say where CPU time is that a call took
    /// along, or which task gets it after a change: so no operation touches time that is in use,
    /// and no task gives up its own.
    pub fn is_clear(&self, me: Id, op: Op, args: &Args) -> bool {
        let ends = matches!(
            op,
            Op::TaskKill
                | Op::TaskCancel
                | Op::ProcessKill
                | Op::CapDelete
                | Op::CapRevoke
                | Op::UntypedReset
        );
        if ends && self.is_one_to_move() {
            return false;
        }
        match op {
            Op::SchedInfo | Op::SchedBind | Op::SchedConfigure => self.is_time_clear(me, op, args),
            // The model does not know on which CPU the time is.
            Op::SchedWatch => {
                let first = self.model.watch.get(&0);
                (1..self.model.cpus).all(|cpu| self.model.watch.get(&cpu) == first)
            }
            Op::TaskMove | Op::TaskResume => self.is_move_clear(me, op, args),
            Op::YieldTo | Op::Forward => {
                let named = self.model.find_any(me, args.cap(0)).map(|found| found.object);
                let exposed = self.model.resolve_task(me, args.target(0), Rights::SEND).map(|(task, _)| task);
                let is_poor = |id: Id| match &self.model.objects[id.0].kind {
                    Kind::Task(task) => task.time.is_none(),
                    _ => false,
                };
                ![named, exposed].into_iter().flatten().any(is_poor)
            }
            // The model does not say what happens to a sender that waits for room.
            Op::Send | Op::Broadcast => {
                let mut after = self.model.clone();
                let _ = after.step(me, op, args);
                after.task(me).state != State::Posting
            }
            Op::CapDelete | Op::CapRevoke | Op::UntypedReset => {
                let mut after = self.model.clone();
                let _ = after.step(me, op, args);
                // Process 1 has time that the model knows nothing of.
                let keeps_time = self.agents.contains(&me) || after.task(me).time.is_some();
                keeps_time && !self.is_told_of_its_end(&after)
            }
            Op::ProcessKill => {
                let mut after = self.model.clone();
                let _ = after.step(me, op, args);
                !self.is_told_of_its_end(&after)
            }
            _ => true,
        }
    }

    fn is_time_clear(&self, me: Id, op: Op, args: &Args) -> bool {
        let time = |position: usize| {
            let time = self.model.find_any(me, args.cap(position)).ok()?;
            match &self.model.objects[time.object.0].kind {
                Kind::SchedContext(time) => Some(time),
                _ => None,
            }
        };
        let is_used = |position| time(position).is_some_and(|time| time.owner.is_some() || time.left);
        // The model does not know what was used of a budget, and so what is owed to an account. So
        // none of those that have an account is ever used.
        let has_account = |position| time(position).is_some_and(|time| time.account.is_some());
        let had_budget = |position| time(position).is_some_and(|time| time.budget != 0);
        match op {
            Op::SchedBind => !is_used(0) && !has_account(0),
            Op::SchedConfigure => !is_used(1) && (has_account(1) || !had_budget(1)),
            _ => !is_used(0),
        }
    }

    fn is_move_clear(&self, me: Id, op: Op, args: &Args) -> bool {
        let named = |position| self.model.find_any(me, args.cap(position)).map(|found| found.object);
        let task = |id: Id| match &self.model.objects[id.0].kind {
            Kind::Task(it) => Some(&**it),
            _ => None,
        };
        if op == Op::TaskResume {
            // A call that brings no time is refused by a callee without that moves to its CPU.
            let is_poor = |it: &Task| it.time.is_none() && !it.senders.is_empty();
            let moves_poor = |it: &Task| it.home != it.start_on && is_poor(it);
            return !named(0).is_ok_and(|id| task(id).is_some_and(moves_poor));
        }
        // A ready task may have the time of a waiting caller, or of one that died. Its own may be
        // on another CPU with a call that was cancelled.
        let may_be_helped = |id: Id| {
            let helps = |it: &Task| it.state == State::Ready && !it.senders.is_empty();
            task(id).is_some_and(helps) && !self.is_equal(id)
        };
        let is_left = |it: &model::Object| matches!(&it.kind, Kind::SchedContext(time) if time.left);
        !named(1).is_ok_and(|id| may_be_helped(id) || self.has_time_elsewhere(id))
            && !self.model.objects.iter().any(is_left)
    }

    /// Whether the model says how waits with deadlines end if time passes. A task that is to move
    /// leaves when its own wait ends, and that ends the waits for its locks. The model does not say
    /// whether their deadlines come first.
    pub fn is_end_of_waits_clear(&self) -> bool {
        let is_timed = |it: &model::Object| match &it.kind {
            Kind::Task(it) => it.deadline.is_some() && matches!(it.state, State::InLock(_)),
            _ => false,
        };
        !self.is_one_to_move() || !self.model.objects.iter().any(is_timed)
    }

    /// Whether a watcher may learn about the end of a member although it ends, too, or may learn it
    /// more than once. The model does not say which bits arrive before the watcher's end, or which
    /// arrive together.
    fn is_told_of_its_end(&self, after: &Model) -> bool {
        let ends = |id: Id| after.is_dying(id) || after.objects[id.0].ended;
        let mut told = Vec::new();
        for (group, object) in self.model.objects.iter().enumerate() {
            let Kind::Group(it) = &object.kind else { continue };
            let gone = it.members.iter().flatten().filter(|member| ends(member.process));
            gone.for_each(|_| told.extend(self.model.watchers(Id(group)).map(|(note, _)| note)));
        }
        let is_unclear = |note: &Id| {
            let Kind::Notification(it) = &self.model.objects[note.0].kind else { return false };
            let mut hearers = [it.waiter, it.bound].into_iter().flatten();
            let is_twice = told.iter().filter(|it| *it == note).count() > 1;
            hearers.any(|task| is_twice || self.model.task(task).process.is_some_and(ends))
        };
        told.iter().any(is_unclear)
    }
}
