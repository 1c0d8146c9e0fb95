//! The simulated machine and the model, in step.

use std::collections::BTreeMap;

use abi::{Cap, LockWord, MsgInfo, ObjType, Op, TaskId};
use kern_base::events::EventPool;
use kern_base::group::Group;
use kern_base::irq::IrqHandler;
use kern_base::limits::{ACCOUNTS, HOLDING_LOOKS, LOCK_CHAIN};
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::port::IoPort;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::CNode;
use kern_base::task::{State, Task};
use model::object::{self, LockWait, State as ModelState};
use model::{Args, Id, Kind, Limits, Model, Place, Sizes};
use smp::door::Ref;
use smp::host_test;

use super::locks::Waits;
use crate::world::dice::Dice;
use crate::world::make::SLOTS;
use crate::world::{Regs, Tcb, World};

/// Memory of the machine, and of what a sequence plays with.
const MEMORY: u64 = (2 << 20) + (1 << 16);
const PLAYGROUND_LOG2: u64 = 20;
/// Deadlines that are not over yet are this far ahead.
pub const FAR: u64 = 1 << 40;

/// Turns of others until a task must have had its own. A system call that waits for other CPUs
/// takes several.
const TURNS: usize = 200;

pub struct Pair {
    pub world: World,
    pub model: Model,
    /// The tasks of both, but process 1's.
    pub tasks: Vec<(Id, Tcb)>,
    /// Process 1's task on each CPU.
    pub agents: Vec<Id>,
    /// The memory that a sequence plays with, in process 1.
    pub playground: Cap,
    /// A deadline that is not over.
    pub later: u64,
    pub tell: bool,
    /// Slots of process 1 that something was made in.
    pub made: Vec<Cap>,
    /// A task that has no capability but its exposure, and where it has the only one of that group.
    pub hermit: Option<(Id, Cap)>,
    /// How far each pool was read.
    pub read: BTreeMap<Id, u64>,
    /// All is set up: now everything counts.
    plays: bool,
    pub tally: Tally,
}

/// What was done.
#[derive(Default)]
pub struct Tally {
    /// How often each operation was done, and how often refused.
    pub ops: BTreeMap<u8, [u64; 2]>,
    pub waits: Waits,
}

pub type Outcome<T = ()> = Result<T, String>;

fn sizes() -> Sizes {
    let line = |bytes: usize| (bytes as u64).next_multiple_of(64);
    Sizes {
        untyped: size_of::<Untyped>() as u64,
        cnode: size_of::<CNode>() as u64,
        vspace: size_of::<VSpace>() as u64,
        frame: size_of::<Frame>() as u64,
        process: size_of::<Process>() as u64,
        sched_context: line(size_of::<SchedContext>()),
        sched_control: line(size_of::<SchedControl>()),
        group: size_of::<Group>() as u64,
        notification: line(size_of::<Notification>()),
        reply: line(size_of::<Reply>()),
        event_pool: size_of::<EventPool>() as u64,
        irq_handler: line(size_of::<IrqHandler>()),
        io_port: line(size_of::<IoPort>()),
    }
}

/// The registers of a task that the model speaks of.
fn found(regs: &Regs) -> [u64; 8] {
    [regs.rax, regs.rdi, regs.rsi, regs.rdx, regs.r8, regs.r9, regs.r10, regs.r12]
}

fn to_kernel(op: Op, args: &Args) -> Regs {
    let Args([rdi, rsi, rdx, r8, r9, r10], info) = *args;
    Regs { rax: info.op(op).0, rdi, rsi, rdx, r8, r9, r10, r12: 0 }
}

impl Pair {
    pub fn new(seed: u64, tell: bool) -> Outcome<Pair> {
        let mut dice = Dice::new(seed);
        let cpus = dice.of(&[1, 1, 1, 2, 2, 3]);
        let mut pair = Pair::booted(cpus, dice.once_in(2));
        pair.set_up(&mut dice)?;
        pair.begin(tell)?;
        Ok(pair)
    }

    /// With process 1 and nothing else.
    pub fn booted(cpus: usize, is_fast: bool) -> Pair {
        let mut world = World::unchecked(cpus, MEMORY);
        world.gate.fast = is_fast;
        let playground = world.make(0, ObjType::Untyped, PLAYGROUND_LOG2);
        let now = world.now();
        let limits = Limits {
            slots_listed: HOLDING_LOOKS as u32,
            accounts: ACCOUNTS,
            lock_chain: LOCK_CHAIN,
            ..Limits::default()
        };
        let model = Model { now, sizes: sizes(), cpus, limits, ..Model::default() };
        let later = world.now() + FAR;
        let (tasks, agents, made) = (Vec::new(), Vec::new(), Vec::new());
        let mut pair = Pair {
            world,
            model,
            tasks,
            agents,
            playground,
            later,
            tell: false,
            made,
            hermit: None,
            read: BTreeMap::new(),
            plays: false,
            tally: Tally::default(),
        };
        pair.boot();
        pair
    }

    /// From now on all is compared.
    pub fn begin(&mut self, tell: bool) -> Outcome {
        (self.tell, self.tally, self.plays) = (tell, Tally::default(), true);
        self.compare()?;
        self.world.trace = tell && std::env::var("MODEL_TRACE").is_ok();
        Ok(())
    }

    /// What is there before the first system call of a sequence, as the model has it.
    fn boot(&mut self) {
        let (world, model) = (&self.world, &mut self.model);
        let at = |cap: Cap| world.slot_at(cap).get().word.load(host_test::pin(0)).addr();
        let cnode = object::CNode { slots: SLOTS as u32, process: Some(Id(2)) };
        let vspace = object::VSpace {
            process: Some(Id(2)),
            tables: 32,
            used: Default::default(),
            pages: Default::default(),
        };
        let process = object::Process {
            cnode: Some(Id(0)),
            vspace: Some(Id(1)),
            tasks: vec![None; 64],
            ..object::Process::default()
        };
        let untyped = world.object::<Untyped>(self.playground).expect("the playground").get();
        let (base, size) = (untyped.base(), untyped.size());
        let memory = object::Untyped { base, size, low: 0, high: size };
        let mut control = object::SchedControl::WHOLE;
        control.cpus.0[1..].fill(0);
        let boot = [
            (abi::INIT_CNODE, Kind::CNode(cnode)),
            (abi::INIT_VSPACE, Kind::VSpace(vspace)),
            (abi::INIT_PROCESS, Kind::Process(process)),
            (abi::INIT_MACHINE, Kind::Machine),
            (self.playground, Kind::Untyped(memory)),
            (abi::INIT_SCHED_CONTROL, Kind::SchedControl(control)),
        ];
        for (cap, kind) in boot {
            let object = model.add(at(cap), None, kind);
            model.give(Place::Slot(Id(0), cap.0), object, abi::Rights::ALL, 0);
        }
        for n in 0..world.cpus() {
            let agent = world.agent(n);
            let task = object::Task {
                id: agent.id,
                process: Some(Id(2)),
                born_in: Some(Id(2)),
                home: n,
                start_on: n,
                state: ModelState::Ready,
                utcb: vec![0; abi::MSG_UTCB_WORDS],
                ..object::Task::default()
            };
            let id = model.add(agent.object.addr(), None, Kind::Task(Box::new(task)));
            model.process_mut(Id(2)).tasks[n] = Some(id);
            model.ids_given.push(agent.id);
            self.agents.push(id);
        }
    }

    pub fn name(&self, id: Id) -> String {
        format!("task {}", self.model.task(id).id.raw())
    }

    // --- both make a system call -----------------------------------------------------------------

    /// Process 1's task on a CPU makes a system call, which never waits.
    pub fn agent(&mut self, n: usize, op: Op, args: &Args) -> Outcome<bool> {
        let me = self.agents[n];
        let place = self.task_named_by(me, op, args);
        let regs = self.world.call(n, to_kernel(op, args));
        self.world.run();
        let answer = self.step(me, op, args);
        let expected = self.model.task(me).regs;
        if !expected.allow(found(&regs)) {
            return Err(format!("{op:?}: the kernel answers {:x?}, the model {expected:x?}", found(&regs)));
        }
        self.learn(answer.is_ok(), place, regs.rdi)?;
        self.compare()?;
        Ok(answer.is_ok())
    }

    /// Does an operation that must succeed.
    pub fn must(&mut self, n: usize, op: Op, args: [u64; 6]) -> Outcome {
        match self.agent(n, op, &Args(args, MsgInfo(0)))? {
            true => Ok(()),
            false => {
                Err(format!("{op:?} of process 1 is refused: {:x?}", self.model.task(self.agents[n]).regs))
            }
        }
    }

    /// A task makes a system call.
    pub fn task(&mut self, me: Id, op: Op, args: &Args) -> Outcome {
        self.task_while(me, op, args, None)
    }

    /// A task makes a system call. Meanwhile, before other CPUs have mail of it, this word of a
    /// Frame becomes that of a free lock: that for which the task waits.
    pub fn task_while(&mut self, me: Id, op: Op, args: &Args, freed: Option<(Id, u32)>) -> Outcome {
        let tcb = self.tcb(me);
        let place = self.task_named_by(me, op, args);
        self.bring_on(&tcb)?;
        self.write_words(me, &tcb);
        self.world.issue(tcb.home(), to_kernel(op, args));
        if let Some((frame, number)) = freed {
            self.write_memory(frame, number, LockWord::FREE);
        }
        self.world.run();
        while tcb.must_restart() {
            self.bring_on(&tcb)?;
            self.world.run();
        }
        if op == Op::CapList {
            // What it lists would be no registers for TaskWriteRegs.
            let bulk = &tcb.object.get().utcb(tcb.pin()).bulk;
            bulk.iter().for_each(|word| word.store(0, std::sync::atomic::Ordering::Relaxed));
        }
        let answer = self.step(me, op, args);
        if let Some((frame, number)) = freed {
            self.ends_under_way(me, frame, number);
        }
        if op == Op::TaskConfigure {
            self.learn(answer.is_ok(), place, tcb.regs().rdi)?;
        }
        self.compare()
    }

    /// Time passes, beyond every deadline.
    pub fn pass_time(&mut self) -> Outcome {
        self.world.wait_until(self.later + 1);
        let waits = self.lock_waits();
        self.model.pass_time(self.later + 1);
        self.note_ends_of_waits(&waits, None);
        if self.tell {
            println!("    time passes");
        }
        self.later = self.world.now() + FAR;
        self.compare()
    }

    /// The model makes a system call.
    fn step(&mut self, me: Id, op: Op, args: &Args) -> model::Result {
        let waits = self.lock_waits();
        let answer = self.model.step(me, op, args);
        if op == Op::LockWait {
            self.note_wait(me, args, &answer);
        }
        self.note_ends_of_waits(&waits, Some(op));
        self.note(me, op, args, &answer);
        answer
    }

    fn note(&mut self, me: Id, op: Op, args: &Args, answer: &model::Result) {
        self.tally.ops.entry(op as u8).or_default()[usize::from(answer.is_err())] += 1;
        if self.tell {
            let flags = if args.1.0 == 0 { String::new() } else { format!(" with {:x}", args.1.0) };
            println!("    {} {op:?} {:x?}{flags}: {answer:x?}", self.name(me), args.0);
        }
    }

    fn tcb(&self, me: Id) -> Tcb {
        let known = self.tasks.iter().find(|(id, _)| *id == me);
        known.expect("a task that plays").1
    }

    /// Others of its CPU, which are its equals, let a task run.
    fn bring_on(&mut self, task: &Tcb) -> Outcome {
        let n = task.home();
        for _ in 0..TURNS {
            match self.world.current(n) {
                Some(current) if current == task.object => return Ok(()),
                // It has made its system call again, and that was its end.
                _ if task.state() == State::Dead => return Ok(()),
                Some(current) => {
                    let other = self.tasks.iter().find(|(_, tcb)| tcb.object == current);
                    let (_, other) = *other.ok_or("a task runs that the model does not know")?;
                    let answered = other.regs();
                    self.world.issue(n, Regs::op(Op::Yield, &[]));
                    other.put_regs(&answered);
                }
                None => break,
            }
            self.world.run();
        }
        let runs = self.world.current(n).map(|task| task.get().id());
        Err(format!("{task:?} can go on, says the model; the kernel lets {runs:?} run: {:?}", task.state()))
    }

    /// Message words that tell who wrote them when.
    fn write_words(&mut self, me: Id, tcb: &Tcb) {
        let utcb = tcb.object.get().utcb(tcb.pin());
        for n in 0..4 {
            let word = self.world.now() << 16 | (me.0 as u64) << 8 | n as u64;
            utcb.msg[n].store(word, std::sync::atomic::Ordering::Relaxed);
            self.model.task_mut(me).utcb[n] = word;
        }
    }

    // --- new tasks -------------------------------------------------------------------------------

    /// The task that a TaskConfigure is about.
    fn task_named_by(&self, me: Id, op: Op, args: &Args) -> Option<(Id, Place)> {
        let found = self.model.find_any(me, args.cap(1)).ok().filter(|_| op == Op::TaskConfigure)?;
        (self.model.object_type(found.object) == ObjType::Task).then_some((found.object, found.place))
    }

    fn learn(&mut self, ok: bool, task: Option<(Id, Place)>, raw: u64) -> Outcome {
        let Some((task, place)) = task.filter(|_| ok) else { return Ok(()) };
        let id = TaskId::from_raw(raw);
        self.model.named(task, id);
        let slot = self.locate().get(&place).copied().ok_or("the task's slot is nowhere")?;
        let object = slot.get().word.load(host_test::pin(0)).get::<Task>().ok_or("it is no task")?;
        self.tasks.push((task, Tcb::new(Cap::NULL, Cap::NULL, object)));
        Ok(())
    }

    // --- comparing -------------------------------------------------------------------------------

    /// Every task is in the same state, and was answered the same.
    fn compare(&mut self) -> Outcome {
        if !self.plays {
            return Ok(());
        }
        let model = &self.model;
        self.tasks.retain(|(id, _)| !model.objects[id.0].ended);
        for (id, tcb) in &self.tasks {
            self.compare_task(*id, tcb).map_err(|why| format!("{tcb:?}: {why}"))?;
        }
        let waits = self.lock_waits();
        for (id, tcb) in self.tasks.clone() {
            self.compare_queue(id, &tcb)?;
            self.compare_lock_waiters(id, &tcb, &waits)?;
        }
        Ok(())
    }

    /// Checks that the same callers wait, in the same order. The order may differ if a caller has
    /// no time of its own, or had none when it called, or has it on another CPU and has lost its
    /// own callers' time: such calls have the lowest priority.
    fn compare_queue(&mut self, id: Id, tcb: &Tcb) -> Outcome {
        let at = |id: &Id| self.model.objects[id.0].at;
        let (callers, pin) = (tcb.hot().callers().tasks(), tcb.pin());
        let all = std::iter::successors(callers.first(pin), |task| callers.after(pin, *task));
        let found: Vec<u64> = all.map(|task| task.addr()).collect();
        let mut senders: Vec<Id> = self.model.task(id).senders.iter().copied().collect();
        let has_time = |id: &Id| {
            let it = self.model.task(*id);
            it.time.is_some() && it.call.is_some_and(|call| call.timed)
        };
        if self.model.cpus > 1 || !senders.iter().all(has_time) {
            senders.sort_by_key(|id| found.iter().position(|it| *it == at(id)));
        }
        if !senders.iter().map(at).eq(found.iter().copied()) {
            return Err(format!("{tcb:?} has callers {found:x?} in the kernel, {senders:?} in the model"));
        }
        self.model.task_mut(id).senders = senders.into();
        Ok(())
    }

    /// Checks that the same tasks wait for locks of a task. The model does not say in which order.
    fn compare_lock_waiters(&self, id: Id, tcb: &Tcb, waits: &[(Id, LockWait)]) -> Outcome {
        let (waiters, pin) = (tcb.hot().waiters.tasks(), tcb.pin());
        let all = std::iter::successors(waiters.first(pin), |task| waiters.after(pin, *task));
        let mut found: Vec<u64> = all.map(|task| task.addr()).collect();
        let known = waits.iter().filter(|(_, wait)| wait.owner == id).map(|(waiter, _)| *waiter);
        let mut expected: Vec<u64> = known.map(|id| self.model.objects[id.0].at).collect();
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            return Err(format!(
                "{found:x?} wait for locks of {tcb:?} in the kernel, {expected:x?} in the model"
            ));
        }
        Ok(())
    }

    fn compare_task(&self, id: Id, tcb: &Tcb) -> Outcome {
        let (it, hot) = (self.model.task(id), tcb.hot());
        let same = match it.state {
            ModelState::Fresh => tcb.state() == State::Fresh,
            ModelState::Ready => tcb.state() == State::Ready,
            ModelState::Receiving => matches!(tcb.state(), State::Recv | State::RecvTimed),
            ModelState::Calling => {
                matches!(tcb.state(), State::Sending | State::Await | State::AwaitTimed | State::AwaitRemote)
            }
            ModelState::InLock(_) => matches!(tcb.state(), State::Sending | State::AwaitRemote),
            ModelState::Waiting(_) => tcb.state() == State::WaitBits,
            ModelState::Posting => false,
            ModelState::Dead => tcb.state() == State::Dead,
        };
        if !same {
            return Err(format!("is {:?} in the kernel, {:?} in the model", tcb.state(), it.state));
        }
        if it.state == ModelState::Dead {
            return Ok(());
        }
        if tcb.home() != it.home {
            return Err(format!("is on cpu{} in the kernel, on cpu{} in the model", tcb.home(), it.home));
        }
        if hot.has_flag(kern_base::task::FLAG_SUSPENDED) != it.suspended {
            return Err(format!("suspended in the model: {}, in the kernel not so", it.suspended));
        }
        let caller = hot.caller(tcb.pin()).map(Ref::addr);
        if caller != it.caller.map(|caller| self.model.objects[caller.0].at) {
            return Err(format!("serves {caller:x?} in the kernel, {:?} in the model", it.caller));
        }
        if it.state == ModelState::Ready {
            self.compare_answer(it, tcb)?;
        }
        Ok(())
    }

    fn compare_answer(&self, it: &object::Task, tcb: &Tcb) -> Outcome {
        let regs = found(&tcb.regs());
        if !it.regs.allow(regs) {
            return Err(format!("was answered {regs:x?} by the kernel, {:x?} by the model", it.regs));
        }
        let words = &tcb.object.get().utcb(tcb.pin()).msg;
        let got = words.iter().map(|word| word.load(std::sync::atomic::Ordering::Relaxed));
        if !got.eq(it.utcb.iter().copied()) {
            return Err("has other message words in the kernel than in the model".to_owned());
        }
        Ok(())
    }

    /// Where the kernel has the slots that somebody can reach, at whatever remove.
    pub fn locate(&self) -> BTreeMap<Place, Ref<'static, kern_base::slot::Slot>> {
        let pin = host_test::pin(0);
        let first = self.world.init_process().get().cnode.get(pin).expect("process 1's CSpace");
        let mut places = BTreeMap::new();
        let mut left = vec![(Id(0), first)];
        for (id, tcb) in &self.tasks {
            let process = self.model.task(*id).process.map(|process| self.model.process(process));
            let found = tcb.hot().process_if_any(tcb.pin()).and_then(|process| process.get().cnode.get(pin));
            left.extend(process.and_then(|process| process.cnode).zip(found));
        }
        let mut seen: Vec<Id> = left.iter().map(|(id, _)| *id).collect();
        while let Some((id, cnode)) = left.pop() {
            let next = self.model.tables_from(id).get(1).copied();
            if let Some((id, table)) = next.zip(cnode.get().more.get(pin))
                && !seen.contains(&id)
            {
                seen.push(id);
                left.push((id, table));
            }
            let from = Place::Slot(id, 0);
            for (place, it) in self.model.slots.range(from..) {
                let Place::Slot(table, index) = *place else { break };
                if table != id {
                    break;
                }
                let Some(slot) = cnode.get().slots.get_but_first(pin, index as usize) else { continue };
                places.insert(*place, slot);
                let word = slot.get().word.load(pin);
                if let Some(inner) = word.get::<CNode>()
                    && !seen.contains(&it.object)
                {
                    seen.push(it.object);
                    left.push((it.object, inner));
                }
                if let Some(pool) = word.get::<EventPool>() {
                    places.insert(Place::Reader(it.object), pool.map(|p| &p.reader));
                }
                if let Some(irq) = word.get::<IrqHandler>() {
                    places.insert(Place::Target(it.object), irq.map(|irq| &irq.target));
                }
                if let Some(group) = word.get::<Group>() {
                    for (index, entry) in group.get().exposures.known().iter(pin).enumerate() {
                        places.insert(Place::Exposure(it.object, index as u32), entry.map(|e| &e.slot));
                    }
                }
            }
        }
        places
    }
}
