//! The acts of a storm, one step at a time.

use abi::status::SchedEvent;
use abi::{
    BUDGET_MIN, Cap, Error, FLAG_CAPS, FLAG_NONBLOCK, FLAG_PAGES, FaultAnswer, LockWord, ObjType, Op,
    RegIndex, Target, TaskId,
};
use core::sync::atomic::Ordering::Relaxed;
use kern_base::sched_context::SchedContext;

use super::cast::{Cast, FIRST_NOTE, FIRST_REPLY, FIRST_TASK, GROUP, LOCKS, POOL, REPLIES, SPARES};
use crate::world::check::view;
use crate::world::make::{CONTROL, at};
use crate::world::{AFTER, Regs, Tcb};

/// Four numbers that say what happens: what, where, and two choices. Whatever they are, they mean
/// something; so every part of a storm is a storm.
#[derive(Clone, Copy)]
pub struct Act(pub [u8; 4]);

impl std::fmt::Debug for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // In one line, so that a storm can be copied into a test.
        let [what, place, a, b] = self.0;
        write!(f, "Act([{what}, {place}, {a}, {b}])")
    }
}

/// System calls that take a deadline pass it after at most this long.
const LONGEST: u64 = 600;

impl Cast {
    pub fn perform(&mut self, act: Act) {
        let [what, place, a, b] = act.0;
        let mut n = usize::from(place) % self.world.cpus();
        if what % 16 < 9 {
            match self.where_something_runs(n) {
                Some(there) => n = there,
                None => return self.stir(a, b),
            }
        }
        match what % 16 {
            0..2 if self.busy_with_memory => self.program(n, what / 16, a, b),
            0..8 if self.busy_with_memory => self.deed(n, what / 16, a, b),
            0..8 => self.program(n, what / 16, a, b),
            8 => self.deed(n, what / 16, a, b),
            10..13 if self.slow == Some(n) => {}
            9..13 => {
                self.world.event(n);
            }
            13 => {
                self.world.advance(u64::from(a) * 4);
                self.touch(n, b);
            }
            _ => self.agent(n, what / 16, a, b),
        }
        self.look_at_all();
    }

    /// The CPU `n`, or else the next, that runs a program which the storm leads.
    fn where_something_runs(&self, n: usize) -> Option<usize> {
        let cpus = self.world.cpus();
        let leads =
            |n: &usize| self.busy[*n].is_none() && (self.index_of(*n).is_some() || self.runs_wild(*n));
        (n..n + cpus).map(|n| n % cpus).find(leads)
    }

    /// Nobody runs: something that waits to happen happens, or time passes, or somebody is told to
    /// go on.
    fn stir(&mut self, a: u8, b: u8) {
        let cpus = self.world.cpus();
        let next = (0..cpus)
            .map(|i| (i + usize::from(a)) % cpus)
            .find(|n| self.world.has_event(*n) || self.busy[*n].is_some());
        let timer = self.world.k.machine.hardware().timers.values().min().copied();
        match (next, timer) {
            (Some(n), _) if self.busy[n].is_some() => {
                self.world.step(n);
            }
            (Some(n), _) => {
                self.world.event(n);
            }
            (None, Some(at)) => self.world.advance(at.saturating_sub(self.world.now())),
            (None, None) => {
                let task = self.tasks[usize::from(a) % self.tasks.len()];
                let op = if b.is_multiple_of(2) { Op::TaskResume } else { Op::TaskCancel };
                self.hear(op, task);
                self.begin(usize::from(b) % cpus, Regs::op(op, &[task.cap.arg()]));
            }
        }
        self.look_at_all();
    }

    /// Informs the model of every task that has returned from a system call.
    pub fn look_at_all(&mut self) {
        self.look_at_fault_ends();
        let now = self.world.now();
        for task in self.tasks.clone() {
            if self.model.lives(task) && self.model.doing(task).is_some() && task.is_through() {
                self.model.is_back(task, task.regs(), now);
            }
        }
        for n in 0..self.world.cpus() {
            if self.busy[n].is_some() && self.world.is_over(n) {
                self.busy[n] = None;
                self.world.dismiss(n);
                if let Some(next) = self.next[n].take() {
                    self.begin(n, next);
                }
            }
        }
    }

    /// The program that runs on a CPU makes its next step.
    fn program(&mut self, n: usize, what: u8, a: u8, b: u8) {
        if self.world.must_restart(n) {
            self.world.syscall(n);
            return;
        }
        if self.runs_wild(n) {
            return self.wild(n, what, a, b);
        }
        let Some(me) = self.index_of(n) else { return };
        let task = self.tasks[me];
        if !self.model.lives(task) || !self.model.is_idle(task) {
            return;
        }
        let serves = self.model.serves(task);
        match (what, serves) {
            (0..5, None) | (0..2, Some(_)) => self.call(n, task, a, b),
            (2..6, Some(_)) if self.poor => self.call(n, task, a, if b < 64 { b } else { 6 + b % 6 }),
            (5..10, None) => self.receive(n, task, Op::Recv, a, b),
            (2..4, Some(_)) => self.receive(n, task, Op::ReplyRecv, a, b),
            (4..7, Some(number)) => self.reply(n, task, number, a),
            (7, Some(_)) if b < 128 => self.receive(n, task, Op::Recv, a, b),
            (7 | 9, Some(_)) => self.forward(n, task, a),
            (8, Some(_)) => self.save(n, task, a),
            (10, _) => self.reply_saved(n, task, a),
            (11, _) => self.does(n, task, Regs::op(Op::Notify, &[self.note(a), 1 << (b % 8)])),
            (12, _) => self.wait(n, task, a, b),
            (13, _) if b < 192 => self.lock(n, task, a, b),
            (13, _) => {
                self.does(n, task, Regs::op(Op::YieldTo, &[self.target(usize::from(a) % self.tasks.len()).0]))
            }
            (14, _) if b < 40 => self.does(n, task, Regs::op(Op::Yield, &[])),
            (14, _) if b < 60 => {
                self.read_events(n, b);
                self.does(n, task, Regs::op(Op::PoolRoom, &[POOL.arg()]));
            }
            (14, _) if b < 220 => self.send(n, task, a, b),
            (14, _) => self.fault(n, task),
            _ => self.meddle(n, task, a, b),
        }
    }

    /// A task faults. Its handler finds the number of that as the address.
    fn fault(&mut self, n: usize, task: Tcb) {
        let number = self.model.number();
        let own = task.object.get().fault_handler.load(Relaxed);
        let of = task.hot().process_if_any(task.pin());
        let handler = if own != 0 { own } else { of.map_or(0, |p| p.get().fault_handler.load(Relaxed)) };
        let to = self.tasks.get(Target(handler).index() as usize).filter(|_| handler != 0).map(|t| t.id);
        self.model.faults(task, number, to);
        self.world.fault(n, number);
    }

    /// Faults that ended processes since the last look.
    fn look_at_fault_ends(&mut self) {
        for end in self.world.take_fault_ends() {
            self.model.fault_failed(end.task, end.why);
            self.lose_process(end.task);
        }
    }

    /// The process of a task has ended, or may.
    fn lose_process(&mut self, of: TaskId) {
        let of = self.tasks.iter().find(|task| task.id == of).map(|task| task.of);
        let tasks = self.tasks.iter().copied().filter(|task| Some(task.of) == of).collect();
        self.model.lose(tasks);
    }

    /// An answer to the fault `number`: label, and the second word.
    fn verdict(&mut self, task: Tcb, number: u64, a: u8) -> (FaultAnswer, u64) {
        let faulter = self.model.caller_of(number);
        let answer = match a % 32 {
            0..12 => FaultAnswer::Resume,
            12..22 => FaultAnswer::ResumeAt,
            22..25 => FaultAnswer::Step,
            25..30 => FaultAnswer::Registers,
            30 => FaultAnswer::Kill,
            _ => FaultAnswer::TearDown,
        };
        match (answer, faulter) {
            (FaultAnswer::Registers, _) => {
                let bulk = &task.object.get().utcb(task.pin()).bulk;
                bulk.iter().for_each(|word| word.store(0, Relaxed));
                bulk[RegIndex::Rip as usize].store(AFTER, Relaxed);
            }
            (FaultAnswer::Kill, Some(faulter)) => self.model.lose_one(faulter),
            (FaultAnswer::TearDown, Some(faulter)) => self.lose_process(faulter),
            _ => {}
        }
        (answer, AFTER)
    }

    /// An answer that there is not: the call is still there.
    fn nonsense(&mut self, n: usize, task: Tcb, a: u8) {
        let label = if a.is_multiple_of(2) { 77 } else { FaultAnswer::ResumeAt.label() };
        let mut args = Regs::message(Op::Reply, Target(0), [0, abi::USER_TOP, 0, 0]);
        args.rax |= u64::from(label) << 32;
        self.does(n, task, args);
        let error = task.regs().error();
        let right = matches!(error, Some(Error::BadArgument | Error::BadAddress | Error::Gone));
        assert!(right, "{task:?} answers a fault by nonsense, and is told {error:?}");
    }

    fn does(&mut self, n: usize, task: Tcb, args: Regs) {
        self.model.makes(task, args);
        self.world.issue(n, args);
    }

    /// Sends an event to any task. A task that others wait for, because it is in the middle of a
    /// call, does not wait.
    fn send(&mut self, n: usize, task: Tcb, a: u8, b: u8) {
        let to = self.target(usize::from(a) % self.tasks.len());
        let words = [self.model.number(), 0, 0, 0];
        let args = match a % 3 {
            0 => {
                let args = Regs::message(Op::Broadcast, Target::new(GROUP, u32::from(b / 16 % 4)), words);
                self.lists(task, b ^ a.rotate_left(3));
                if a.is_multiple_of(2) { args.flag(FLAG_PAGES) } else { args }
            }
            _ => self.with_load(Regs::message(Op::Send, to, words), task, a.rotate_left(1), b),
        };
        let args = args.words(b % 65);
        let args =
            if self.model.serves(task).is_some() { args.flag(FLAG_NONBLOCK) } else { self.patience(args, b) };
        self.does(n, task, args);
    }

    /// A deadline soon, or not; or no waiting at all.
    fn patience(&self, args: Regs, b: u8) -> Regs {
        match b % 4 {
            0 => args.deadline(self.world.now() + u64::from(b) * LONGEST / 256),
            1 => args.flag(FLAG_NONBLOCK),
            _ => args,
        }
    }

    fn call(&mut self, n: usize, task: Tcb, a: u8, b: u8) {
        let to = self.callee(a, task);
        let number = self.model.number();
        let args = Regs::message(Op::Call, self.target(to), [number, 2, 3, 4]).words(b % 3);
        let args = self.patience(args, b / 3);
        self.listens(task, a.rotate_left(2) ^ b);
        let args = self.with_load(args, task, a, b);
        self.model.calls(task, self.tasks[to].id, args);
        self.world.issue(n, args);
    }

    /// Adds pages, capabilities or both to a message, sometimes.
    fn with_load(&self, mut args: Regs, task: Tcb, a: u8, b: u8) -> Regs {
        if (a ^ b).is_multiple_of(4) {
            self.lists(task, b ^ a.rotate_left(3));
            args = args.flag(FLAG_PAGES);
        }
        if (a ^ (b / 4)) % 4 == 1 {
            self.gives(task, b.wrapping_mul(5) ^ a);
            args = args.flag(FLAG_CAPS);
        }
        args
    }

    /// Whom a task calls: mostly one that receives, if there is any, and seldom itself.
    fn callee(&self, a: u8, task: Tcb) -> usize {
        let count = self.tasks.len();
        let to = usize::from(a) % count;
        let receives = |i: &usize| view(self.tasks[*i].object).receives();
        let receiver = (0..count).map(|i| (to + i) % count).find(receives);
        match receiver {
            Some(receiver) if a < 192 => receiver,
            _ if self.tasks[to] == task && a != 0 => (to + 1) % count,
            _ => to,
        }
    }

    fn receive(&mut self, n: usize, task: Tcb, op: Op, a: u8, b: u8) {
        self.opens(task, a ^ b.rotate_left(3));
        self.listens(task, b ^ a.rotate_left(5));
        let serves = self.model.serves(task);
        let token = self.model.number();
        let answers = serves.filter(|_| op == Op::ReplyRecv);
        let args = self.answer(op, Target(0), task, answers, token, a);
        let args = self.patience(args, b);
        if op == Op::ReplyRecv {
            self.model.answers(task, serves, token);
        } else {
            self.model.drops(task);
        }
        self.does(n, task, args);
    }

    fn reply(&mut self, n: usize, task: Tcb, number: u64, a: u8) {
        if self.model.is_fault(number) && a >= 240 {
            return self.nonsense(n, task, a);
        }
        let token = self.model.number();
        let args = self.answer(Op::Reply, Target(0), task, Some(number), token, a);
        self.model.answers(task, Some(number), token);
        self.does(n, task, args);
    }

    /// The answer to a call, or what is as good as one where there is none.
    fn answer(&mut self, op: Op, to: Target, task: Tcb, number: Option<u64>, token: u64, a: u8) -> Regs {
        if let Some(number) = number.filter(|number| self.model.is_fault(*number)) {
            let (answer, rip) = self.verdict(task, number, a);
            let mut args = Regs::message(op, to, [token, rip, 0, 0]);
            args.rax |= u64::from(answer.label()) << 32;
            return args;
        }
        let words = if number.is_some() { a % 3 } else { 0 };
        let args = Regs::message(op, to, [token, number.unwrap_or(0), 0, 0]).words(words);
        // A task that answers a kept call with a payload that cannot be sent still keeps the call.
        if number.is_some() && to == Target(0) {
            self.with_load(args, task, a, a.rotate_left(3))
        } else {
            args
        }
    }

    /// The Reply objects of a CPU.
    fn reply_slot(&self, n: usize, a: u8) -> (usize, u64) {
        let index = n * REPLIES + usize::from(a) % REPLIES;
        (index, Cap(FIRST_REPLY + index as u32).arg())
    }

    fn save(&mut self, n: usize, task: Tcb, a: u8) {
        let (index, arg) = self.reply_slot(n, a);
        let args = Regs::op(Op::SaveReply, &[arg]);
        let number = self.model.serves(task);
        self.does(n, task, args);
        if task.is_through() && task.regs().error().is_none() {
            self.model.keeps(task);
            self.model.kept.insert(index, number);
        }
    }

    fn reply_saved(&mut self, n: usize, task: Tcb, a: u8) {
        let (index, arg) = self.reply_slot(n, a);
        let token = self.model.number();
        let number = self.model.kept.remove(&index).flatten();
        let args = self.answer(Op::Reply, Target(arg), task, number, token, a / 2);
        self.model.answers(task, number, token);
        self.does(n, task, args);
    }

    fn forward(&mut self, n: usize, task: Tcb, a: u8) {
        let to = self.callee(a, task);
        let Some(number) = self.model.serves(task) else { return };
        let args = Regs::message(Op::Forward, self.target(to), [number, 5, 6, 7]).words(a % 2);
        self.model.may_go_to(number, self.tasks[to].id);
        self.does(n, task, args);
        // It runs no more, or not yet, only if it was done.
        let refused = task.is_through() && task.regs().error().is_some();
        if !refused {
            self.model.forwards(task, self.tasks[to].id);
        }
    }

    fn note(&self, a: u8) -> u64 {
        Cap(FIRST_NOTE + u32::from(a) % self.notes.len() as u32).arg()
    }

    fn wait(&mut self, n: usize, task: Tcb, a: u8, b: u8) {
        let args = self.patience(Regs::op(Op::Wait, &[self.note(a)]), b);
        self.does(n, task, args);
    }

    /// A task takes a lock, or gives it back, or waits for it; or it lies.
    fn lock(&mut self, n: usize, task: Tcb, a: u8, b: u8) {
        let Some(index) = self.tasks.iter().position(|it| *it == task) else { return };
        let (own, number) = (LockWord::of(task.id, index as u32), u32::from(a % 3));
        if self.lies && b.is_multiple_of(4) {
            let other = usize::from(a / 4) % self.tasks.len();
            let index = if b < 16 { usize::from(a / 16) } else { other };
            self.write_lock(number, LockWord::of(self.tasks[other].id, index as u32).with_waits());
        }
        let (word, place) = (self.lock_word(number), Target::new(LOCKS, number).0);
        if word.is_free() {
            return self.write_lock(number, own);
        }
        if word.names(task.id) {
            self.write_lock(number, LockWord::FREE);
            if word.waits() || self.lies {
                self.does(n, task, Regs::op(Op::LockPass, &[place]));
            }
            return;
        }
        let word = word.with_waits();
        self.write_lock(number, word);
        let args = Regs::op(Op::LockWait, &[GROUP.arg(), 0, place, word.0]);
        let args = self.patience(args, b / 4);
        self.does(n, task, args);
        if task.is_through() && task.regs().error() == Some(Error::OwnerDied) {
            self.write_lock(number, own.with_waits());
        }
    }

    /// A task does something to another, or to itself.
    fn meddle(&mut self, n: usize, task: Tcb, a: u8, b: u8) {
        let other = usize::from(a) % self.tasks.len();
        let op = control(b);
        let args = Regs::op(op, &[Cap(FIRST_TASK + other as u32).arg()]);
        self.model.makes(task, args);
        self.hear(op, self.tasks[other]);
        self.world.issue(n, args);
    }

    /// Informs the model of an operation on a task.
    fn hear(&mut self, op: Op, task: Tcb) {
        match op {
            Op::TaskCancel => self.model.cancelled(task),
            Op::TaskKill => self.model.killed(task),
            _ => {}
        }
    }

    // --- agents ----------------------------------------------------------------------------------

    /// The agent of a CPU does something to others.
    fn agent(&mut self, n: usize, what: u8, a: u8, b: u8) {
        if self.busy[n].is_some() {
            self.world.step(n);
            return;
        }
        let any = usize::from(a) % self.tasks.len();
        let task = self.tasks[any];
        let (op, args) = match what {
            3..10 if self.poor => return self.time(n, any, what, b),
            0..10 => (control(b), vec![task.cap.arg()]),
            10 if b.is_multiple_of(3) => {
                let (budget, period) =
                    (BUDGET_MIN * u64::from(1 + b % 4), BUDGET_MIN * u64::from(5 + b % 16));
                let priority = u64::from(b % 40);
                (Op::SchedConfigure, vec![CONTROL, task.sc.arg(), priority, 500, budget, period])
            }
            10 if b % 3 == 1 => {
                let cpu = usize::from(b / 3) % self.world.cpus();
                (Op::TaskMove, vec![CONTROL, task.cap.arg(), cpu as u64])
            }
            10 if b % 9 == 2 => {
                let pool = self.watch.filter(|_| a < 200).map_or(0, Cap::arg);
                let events = u64::from(a) & u64::from(SchedEvent::MASK);
                (Op::SchedWatch, vec![task.sc.arg(), pool, 8 + u64::from(b % 8), events])
            }
            10 if b % 9 == 5 => {
                let cpu = usize::from(b / 9) % self.world.cpus();
                let pool = self.watch.filter(|_| a < 128).map_or(0, Cap::arg);
                (Op::CpuWatch, vec![Target::new(abi::INIT_MACHINE, cpu as u32).0, pool, cpu as u64])
            }
            10 if b % 9 == 8 => {
                let cpu = usize::from(b / 9) % self.world.cpus();
                (Op::CpuPark, vec![Target::new(abi::INIT_MACHINE, cpu as u32).0, u64::from(a % 2)])
            }
            10 => (Op::SchedConfigure, vec![CONTROL, task.sc.arg(), u64::from(b % 40), 500]),
            12 if (60..70).contains(&b) && self.watch.is_some() => {
                return self.delete(n, self.watch.unwrap_or(task.cap));
            }
            11 if b < 60 => return self.delete(n, task.sc),
            12 if b < 60 => return self.delete(n, self.replies[usize::from(a) % self.replies.len()]),
            13 if b < 60 => return self.delete(n, self.notes[usize::from(a) % self.notes.len()]),
            14 if b < 60 => return self.delete(n, task.cap),
            15 if b < 30 => return self.end_process(n, a, b),
            15 if b < 40 => return self.kill_process(n, a),
            15 if b < 140 => {
                let handler =
                    if b.is_multiple_of(8) { 0 } else { self.target(usize::from(b) % self.tasks.len()).0 };
                let of = if b.is_multiple_of(2) { task.cap } else { self.process_of(task) };
                return self.begin(n, Regs::op(Op::FaultHandler, &[of.arg(), handler]));
            }
            11 | 12 => (Op::SchedBind, vec![self.spares[n][usize::from(b) % SPARES].arg(), task.cap.arg()]),
            13 => {
                let note = self.notes[usize::from(b) % self.notes.len()];
                (Op::NotificationBind, vec![note.arg(), task.cap.arg()])
            }
            14 => {
                // Calls that find nobody there are told so.
                self.model.deleted = true;
                let exposure = Target::new(self.group, any as u32).0;
                if b < 140 {
                    (Op::Withdraw, vec![exposure])
                } else {
                    (Op::Expose, vec![exposure, task.cap.arg(), 0])
                }
            }
            _ => (Op::TaskResume, vec![task.cap.arg()]),
        };
        self.hear(op, task);
        self.begin(n, Regs::op(op, &args));
    }

    /// Time is deleted, or made, or set, or given to a task.
    fn time(&mut self, n: usize, any: usize, what: u8, b: u8) {
        let spare = self.spares[n][usize::from(b) % SPARES];
        if what < 7 {
            return self.delete(n, if b < 128 { self.tasks[any].sc } else { spare });
        }
        let args = if self.world.object::<SchedContext>(spare).is_none() {
            let kind = Target::new(self.memory, ObjType::SchedContext as u32).0;
            Regs::op(Op::Retype, &[kind, 0, at(spare), 1])
        } else if what == 9 {
            Regs::op(Op::SchedConfigure, &[CONTROL, spare.arg(), 15, 1000])
        } else {
            Regs::op(Op::SchedBind, &[spare.arg(), self.tasks[any].cap.arg()])
        };
        self.begin(n, args);
    }

    fn begin(&mut self, n: usize, args: Regs) {
        self.busy[n] = Op::from_raw(args.rax as u8);
        self.world.begin(n, args);
    }

    /// All capabilities of an object go, so the object ends.
    fn delete(&mut self, n: usize, cap: Cap) {
        if cap == Cap::NULL {
            return;
        }
        self.model.deleted = true;
        for task in self.tasks.clone() {
            if task.cap == cap {
                self.model.killed(task);
            }
        }
        self.next[n] = Some(Regs::op(Op::CapDelete, &[at(cap)]));
        self.begin(n, Regs::op(Op::CapRevoke, &[at(cap)]));
    }

    /// A process ends: by its own end, or by that of its CSpace or address space.
    fn end_process(&mut self, n: usize, a: u8, b: u8) {
        let process = self.processes[usize::from(a) % self.processes.len()];
        let cap = [process.process, process.cnode, process.vspace][usize::from(b) % 3];
        let tasks: Vec<Tcb> =
            self.tasks.iter().copied().filter(|t| self.belongs(*t, process.process)).collect();
        self.model.lose(tasks);
        self.delete(n, cap);
    }

    /// A process is killed, and nothing of it deleted.
    fn kill_process(&mut self, n: usize, a: u8) {
        let process = self.processes[usize::from(a) % self.processes.len()].process;
        let tasks: Vec<Tcb> = self.tasks.iter().copied().filter(|t| self.belongs(*t, process)).collect();
        self.model.lose(tasks);
        // Calls that find nobody there are told so; members that are gone, too.
        self.model.deleted = true;
        self.begin(n, Regs::op(Op::ProcessKill, &[process.arg()]));
    }

    fn process_of(&self, task: Tcb) -> Cap {
        let of = self.processes.iter().find(|p| self.belongs(task, p.process));
        of.map_or(self.processes[0].process, |p| p.process)
    }

    fn belongs(&self, task: Tcb, process: Cap) -> bool {
        let of = self.world.object::<kern_base::process::Process>(process);
        of.is_some_and(|p| p.get().header.identity() == task.of)
    }

    /// Lets agents come to an end with what they do.
    pub fn finish_agents(&mut self) {
        for _ in 0..3 {
            self.world.run();
            self.look_at_all();
        }
        assert!(self.busy.iter().all(Option::is_none), "agents never come to an end: {:?}", self.busy);
    }
}

fn control(b: u8) -> Op {
    match b % 16 {
        0..4 => Op::TaskCancel,
        4..8 => Op::TaskSuspend,
        8 if b < 32 => Op::TaskKill,
        _ => Op::TaskResume,
    }
}
