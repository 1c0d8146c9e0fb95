//! Calls, answers and bits between tasks of several CPUs: random histories that the model's own
//! parts make, and some impossible ones.

mod dice;

use abi::{
    Cap, Error, FLAG_DEADLINE, FLAG_NONBLOCK, FLAG_NOTIFICATION, MsgInfo, ObjType, Op, Rights, Target, TaskId,
};
use dice::Dice;
use model::linear::{Call, History, Verdict};
use model::object::{self, Exposure, Member, State};
use model::parts::{Part, Progress, Running, System};
use model::{Args, Id, Kind, Model, Place, Regs};

const CPUS: usize = 3;
const TASKS: usize = 6;
const CALLS: usize = 60;
/// Steps after which the fuzzer gives up.
const LIMIT: u64 = 200_000;

const GROUP: Cap = Cap(20);
/// The slots of the tasks' capabilities begin here.
const TASK: u32 = 40;
const REPLY: u32 = 50;
/// Exposures of the Notifications that are bound to them.
const NOTE: u32 = 8;

/// Some way in the future. The model's own time does not pass.
const LATER: u64 = 1 << 40;

fn home(task: usize) -> usize {
    task % CPUS
}

/// Makes a process with tasks on several CPUs, each exposed, with a bound Notification and a Reply.
fn world() -> (Model, Vec<Id>) {
    let mut model = Model { cpus: CPUS, ..Model::default() };
    let cnode = model.put(Kind::CNode(object::CNode { slots: 64, process: None }));
    let of = object::Process { cnode: Some(cnode), ..object::Process::default() };
    let process = model.put(Kind::Process(of));
    model.cnode_mut(cnode).process = Some(process);
    let members = vec![Some(Member { process, rights: Rights::ALL, custom: 77 })];
    let group = object::Group { members, exposures: vec![Exposure::default(); 16] };
    let group = model.put(Kind::Group(group));
    let give = |model: &mut Model, place: Place, object: Id| model.give(place, object, Rights::ALL, 0);
    give(&mut model, Place::Slot(cnode, GROUP.0), group);
    let mut tasks = Vec::new();
    for nth in 0..TASKS {
        let task = object::Task {
            id: TaskId::from_raw(1000 + nth as u64),
            process: Some(process),
            home: home(nth),
            state: State::Ready,
            time: Some(group),
            ..object::Task::default()
        };
        let task = model.put(Kind::Task(Box::new(task)));
        let note = object::Notification { home: home(nth), bits: 0, waiter: None, bound: Some(task) };
        let note = model.put(Kind::Notification(note));
        model.task_mut(task).bound = Some(note);
        let reply = object::Reply { home: home(nth), caller: None, server: None };
        let reply = model.put(Kind::Reply(reply));
        give(&mut model, Place::Slot(cnode, TASK + nth as u32), task);
        give(&mut model, Place::Slot(cnode, REPLY + nth as u32), reply);
        give(&mut model, Place::Exposure(group, nth as u32), task);
        give(&mut model, Place::Exposure(group, NOTE + nth as u32), note);
        assert_eq!(model.object_type(note), ObjType::Notification);
        tasks.push(task);
    }
    (model, tasks)
}

type Asked = (Op, Args);

fn ask(op: Op, args: [u64; 2], flags: u64, word: u64) -> Asked {
    let at = if flags & FLAG_DEADLINE != 0 { LATER } else { args[1] };
    (op, Args([args[0], at, word, word + 1, word + 2, word + 3], MsgInfo(op as u64 | flags)))
}

fn call(to: usize, flags: u64, word: u64) -> Asked {
    ask(Op::Call, [Target::new(GROUP, to as u32).0, 0], flags, word)
}

fn recv(flags: u64) -> Asked {
    ask(Op::Recv, [0, 0], flags, 0)
}

fn reply(word: u64) -> Asked {
    ask(Op::Reply, [0, 0], 0, word)
}

fn notify(to: usize, bits: u64) -> Asked {
    ask(Op::Notify, [Target::new(GROUP, NOTE + to as u32).0, bits], 0, 0)
}

fn cancel(whom: usize) -> Asked {
    ask(Op::TaskCancel, [Cap(TASK + whom as u32).arg(), 0], 0, 0)
}

/// Picks what a task does next, as the fuzzer does.
fn pick(dice: &mut Dice, me: usize, [serves, keeps]: [bool; 2], word: u64) -> Asked {
    let mostly_receives = |task: usize| task.is_multiple_of(2);
    let mut any = || (me + 1 + dice.below(TASKS as u64 - 1) as usize) % TASKS;
    let first = any();
    let other = if mostly_receives(first) { first } else { any() };
    let kept = Cap(REPLY + if dice.chance(90) { me } else { other } as u32);
    let flags = match dice.below(100) {
        0..30 => FLAG_NONBLOCK,
        30..50 => 0,
        _ => FLAG_DEADLINE,
    };
    if serves && dice.chance(80) {
        return match dice.below(10) {
            0..4 => reply(word),
            4..8 => ask(Op::ReplyRecv, [0, 0], flags, word),
            _ => ask(Op::SaveReply, [kept.arg(), 0], 0, 0),
        };
    }
    if keeps && dice.chance(30) {
        return ask(Op::Reply, [kept.arg(), 0], 0, word);
    }
    let calls = if mostly_receives(me) { 12 } else { 56 };
    match dice.below(100) {
        some if some < calls => {
            let is_in_vain = flags == FLAG_NONBLOCK && home(me) != home(other) && dice.chance(90);
            call(other, if is_in_vain { FLAG_DEADLINE } else { flags }, word)
        }
        0..68 => recv(flags),
        68..76 => ask(Op::ReplyRecv, [0, 0], flags, word),
        76 => reply(word),
        77..82 => ask(Op::Reply, [kept.arg(), 0], 0, word),
        82..94 => notify(other, 1 << dice.below(20)),
        94..96 => ask(Op::SaveReply, [kept.arg(), 0], 0, 0),
        _ => cancel(other),
    }
}

/// Tasks, and what they have done.
struct Past {
    before: System,
    system: System,
    tasks: Vec<Id>,
    calls: Vec<Call>,
    inside: Vec<Option<(usize, Running)>>,
    idle: Vec<u64>,
    clock: u64,
    dice: Dice,
}

impl Past {
    fn new(seed: u64) -> Past {
        let (model, tasks) = world();
        let before = System::new(model);
        let system = before.clone();
        let (inside, idle) = (vec![None; TASKS], vec![0; TASKS]);
        Past { before, system, tasks, calls: vec![], inside, idle, clock: 0, dice: Dice(seed) }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, task: usize, (op, args): Asked) -> usize {
        let (me, began) = (self.tasks[task], self.tick());
        self.inside[task] = Some((self.calls.len(), Running::new(me, op, args)));
        self.calls.push(Call { me, op, args, found: [0; 8], began, ended: u64::MAX });
        self.calls.len() - 1
    }

    fn end(&mut self, task: usize, regs: Regs) {
        let (call, _) = self.inside[task].take().unwrap();
        self.calls[call].found = regs.values;
        self.calls[call].ended = self.tick();
    }

    fn advance(&mut self, task: usize, part: Part) {
        let Some((_, mut running)) = self.inside[task].clone() else { return };
        let progress = self.system.advance(&mut running, part);
        self.inside[task].as_mut().unwrap().1 = running;
        if let Progress::Done(regs) = progress {
            self.end(task, regs);
        }
    }

    /// Does a part of a task's operation. Timeouts are rare.
    fn go_on(&mut self, task: usize, late: u64) {
        let Some((_, running)) = self.inside[task].clone() else { return };
        let mut parts = Vec::new();
        self.system.parts(&running, &mut parts);
        parts.retain(|part| *part != Part::Timeout || self.dice.chance(late));
        if !parts.is_empty() {
            let part = parts[self.dice.below(parts.len() as u64) as usize];
            self.advance(task, part);
        }
    }

    /// Whether a task serves somebody, and keeps a call.
    fn has(&self, model: &Model, task: usize) -> [bool; 2] {
        let keeps = |it: &object::Object| match &it.kind {
            Kind::Reply(reply) => reply.server == Some(self.tasks[task]),
            _ => false,
        };
        [model.task(self.tasks[task]).caller.is_some(), model.objects.iter().any(keeps)]
    }

    fn arrivals(&mut self, percent: u64) {
        let bits: Vec<(Id, usize)> =
            self.system.on_their_way().map(|(object, bits)| (object, bits.len())).collect();
        for (object, count) in bits {
            if self.dice.chance(percent) {
                self.system.arrive(object, 1 + self.dice.below(count as u64) as usize);
            }
        }
        let messages: Vec<(Id, Id)> = self.system.next_to_arrive().collect();
        for (caller, _) in messages {
            if self.dice.chance(percent) {
                self.system.deliver(caller);
            }
        }
        for task in self.system.to_be_cancelled().to_vec() {
            if self.dice.chance(percent) {
                self.system.arrive_cancel(task);
            }
        }
    }

    fn turn(&mut self) {
        self.arrivals(20);
        let task = self.dice.below(TASKS as u64) as usize;
        if self.idle[task] > 0 {
            self.idle[task] -= 1;
            return;
        }
        if self.inside[task].is_none() && self.calls.len() < CALLS {
            let has = self.has(&self.system.model, task);
            let next = pick(&mut self.dice, task, has, 100 * self.calls.len() as u64);
            self.begin(task, next);
        }
        self.go_on(task, 5);
        self.idle[task] = self.dice.below(6);
    }

    /// Cancels all waiting tasks until none waits.
    fn bring_home(&mut self) {
        self.idle.fill(0);
        for _ in 0..2_000 {
            (0..TASKS).for_each(|task| self.go_on(task, 50));
            self.arrivals(50);
            let waits = |task: &usize| self.inside[*task].is_some();
            let whom = (0..TASKS).find(waits);
            let Some(whom) = whom.filter(|_| self.calls.len() < 100) else { continue };
            if let Some(who) = (0..TASKS).find(|task| !waits(task)) {
                self.begin(who, cancel(whom));
            } else {
                // Nobody is left to do it.
                self.system.arrive_cancel(self.tasks[whom]);
                self.rescue(whom);
            }
        }
        assert!(self.inside.iter().all(Option::is_none));
    }

    /// Ends a wait without a deadline if all tasks wait: the history is cut short here.
    fn rescue(&mut self, whom: usize) {
        let (call, _) = self.inside[whom].clone().unwrap();
        if self.calls[call].args.deadline().is_none() {
            let (_, running) = self.inside[whom].as_mut().unwrap();
            running.args.1 = running.args.1.flag(FLAG_DEADLINE);
            self.calls[call].args.1 = self.calls[call].args.1.flag(FLAG_DEADLINE);
            self.calls[call].args.0[1] = LATER;
            self.system.model.task_mut(self.tasks[whom]).deadline = Some(LATER);
        }
    }

    fn window(&mut self) {
        while self.calls.len() < CALLS && self.clock < 1_000_000 {
            let before = self.clock;
            for _ in 0..400 {
                self.turn();
            }
            if self.clock == before {
                break;
            }
        }
        self.bring_home();
    }

    /// Makes a call that is over, or waits, when this function returns. All that it sends arrives
    /// immediately.
    fn at_once(&mut self, task: usize, what: Asked) -> usize {
        let call = self.begin(task, what);
        self.advance(task, Part::Next);
        self.settle();
        call
    }

    fn settle(&mut self) {
        self.arrivals(100);
        for task in 0..TASKS {
            let Some((_, running)) = &self.inside[task] else { continue };
            if !self.system.waits(running) {
                self.advance(task, Part::Next);
            }
        }
    }

    fn search(&self) -> (Verdict, u64) {
        let settled = self.clock;
        History { before: &self.before, calls: &self.calls, settled }.search(LIMIT, || ())
    }

    #[track_caller]
    fn fits(&self) {
        let (verdict, steps) = self.search();
        assert_eq!(verdict, Verdict::Fits, "{steps} steps");
    }

    #[track_caller]
    fn diverges(&self) {
        let (verdict, steps) = self.search();
        assert!(matches!(verdict, Verdict::Diverges { .. }), "{verdict:?} after {steps} steps");
    }

    fn found(&mut self, call: usize) -> &mut [u64; 8] {
        &mut self.calls[call].found
    }
}

/// What parts do by chance is allowed, and the checker finds how within its steps.
#[test]
fn what_parts_do_by_chance_fits() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count = std::env::var("CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let mut hardest: Vec<(u64, u64)> = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    for seed in first..first + count {
        let mut past = Past::new(seed);
        past.window();
        for call in &past.calls {
            *seen.entry(format!("{:?} {:?}", call.op, call.status())).or_insert(0) += 1;
        }
        let (verdict, steps) = past.search();
        assert_eq!(verdict, Verdict::Fits, "seed {seed}, {steps} steps");
        hardest.push((steps, seed));
    }
    hardest.sort_unstable();
    println!("{seen:#?}");
    println!("hardest: {:?}", &hardest[hardest.len().saturating_sub(12)..]);
    if count >= 300 {
        for what in
            ["Call None", "Call Some(Gone)", "Call Some(Cancelled)", "Call Some(Timeout)", "Reply None"]
        {
            assert!(seen.get(what).is_some_and(|it| *it > 20), "too few: {what}");
        }
    }
}

/// If everything that leaves arrives immediately, the parts do what the model does.
#[test]
fn parts_alone_do_what_a_step_does() {
    for seed in 0..2_000 {
        let mut past = Past::new(seed);
        let mut model = past.before.model.clone();
        for _ in 0..60 {
            let task = past.dice.below(TASKS as u64) as usize;
            let me = past.tasks[task];
            if past.inside[task].is_some() {
                if past.dice.chance(10) && model.task(me).deadline.is_some() {
                    model.fail(me, Error::Timeout.into());
                    past.advance(task, Part::Timeout);
                }
            } else {
                let has = past.has(&model, task);
                let word = past.clock;
                let (op, args) = pick(&mut past.dice, task, has, word);
                let _ = model.step(me, op, &args);
                let call = past.at_once(task, (op, args));
                // A cancel whose message is elsewhere.
                for other in 0..TASKS {
                    if past.inside[other].is_some() {
                        let mut parts = Vec::new();
                        past.system.parts(&past.inside[other].as_ref().unwrap().1, &mut parts);
                        if parts.contains(&Part::Cancelled) {
                            past.advance(other, Part::Cancelled);
                        }
                    }
                }
                past.settle();
                if past.inside[task].is_none() {
                    assert_eq!(past.calls[call].found, model.task(me).regs.values, "seed {seed} {op:?}");
                }
            }
            for it in &past.tasks {
                let (is, should) = (past.system.model.task(*it), model.task(*it));
                assert_eq!(
                    (is.state, is.caller, &is.senders),
                    (should.state, should.caller, &should.senders)
                );
                assert!(is.state != State::Ready || past.calls.is_empty() || is.deadline == should.deadline);
            }
        }
        past.bring_home();
        let (verdict, steps) = past.search();
        assert_eq!(verdict, Verdict::Fits, "seed {seed}, {steps} steps");
    }
}

/// A changed answer is noticed, unless a wait could have ended in the same way: late, or cancelled.
#[test]
fn a_changed_answer_is_seen() {
    let (mut seen, mut of) = (0, 0);
    for seed in 0..60 {
        let mut past = Past::new(seed);
        past.window();
        let which = seed as usize % past.calls.len();
        let it = &mut past.calls[which];
        // In an error the third word means nothing; in others nothing else has this one.
        let word = if it.status().is_some() { 0 } else { 3 };
        it.found[word] ^= 1;
        of += 1;
        let settled = past.clock;
        let history = History { before: &past.before, calls: &past.calls, settled };
        let verdict = history.search(5_000, || ()).0;
        if verdict == Verdict::Fits {
            println!("seed {seed}: nobody sees {:x?}", past.calls[which]);
        }
        seen += u32::from(verdict != Verdict::Fits);
    }
    assert!(seen * 100 >= of * 95, "{seen} of {of}");
}

/// Makes two calls from different CPUs, and a server that answers both.
fn two_calls() -> (Past, [usize; 2]) {
    let mut past = Past::new(0);
    let first = past.at_once(1, call(0, FLAG_DEADLINE, 100));
    let second = past.at_once(2, call(0, FLAG_DEADLINE, 200));
    for word in [1000, 2000] {
        past.at_once(0, recv(FLAG_NONBLOCK));
        past.at_once(0, reply(word));
    }
    (past, [first, second])
}

#[test]
fn a_reply_to_the_wrong_caller_is_seen() {
    let (mut past, [first, second]) = two_calls();
    past.fits();
    let swapped = *past.found(first);
    *past.found(first) = *past.found(second);
    *past.found(second) = swapped;
    past.diverges();
}

/// Messages of different CPUs that were under way at the same time arrive in any order, but each
/// with its own sender.
#[test]
fn who_sent_it_is_seen() {
    let (mut past, _) = two_calls();
    let receives: Vec<usize> = (0..past.calls.len()).filter(|it| past.calls[*it].op == Op::Recv).collect();
    past.found(receives[0])[2] = 1003;
    past.diverges();
}

#[test]
fn a_message_that_is_lost_is_seen() {
    let mut past = Past::new(0);
    let lost = past.at_once(1, call(0, FLAG_DEADLINE, 100));
    let receives = past.at_once(0, recv(FLAG_NONBLOCK));
    past.at_once(0, reply(500));
    past.fits();
    // It was answered, but nobody has received it.
    *past.found(receives) = [Error::WouldBlock as u64, 0, 0, 0, 0, 0, 0, 0];
    past.diverges();
    // It ended late, which can be; but then the reply finds no caller.
    *past.found(lost) = [Error::Timeout as u64, 0, 0, 0, 0, 0, 0, 0];
    past.diverges();
    let answers = past.calls.len() - 1;
    *past.found(answers) = [Error::Gone as u64, 0, 0, 0, 0, 0, 0, 0];
    past.fits();
}

#[test]
fn a_message_that_comes_twice_is_seen() {
    let mut past = Past::new(0);
    past.at_once(1, call(0, FLAG_DEADLINE, 100));
    let first = past.at_once(0, recv(FLAG_NONBLOCK));
    past.at_once(0, reply(500));
    let second = past.at_once(0, recv(FLAG_NONBLOCK));
    past.fits();
    *past.found(second) = *past.found(first);
    past.diverges();
}

#[test]
fn messages_to_one_cpu_keep_their_order() {
    let mut past = Past::new(0);
    for (from, to) in [(1, 0), (2, 3), (4, 5)] {
        past.begin(from, call(to, FLAG_DEADLINE, 0));
        past.advance(from, Part::Next);
    }
    let next = |past: &Past| past.system.next_to_arrive().map(|(caller, _)| caller).collect::<Vec<_>>();
    // The first two go to tasks of one CPU.
    assert_eq!(next(&past), [past.tasks[1], past.tasks[4]]);
    past.system.deliver(past.tasks[1]);
    assert_eq!(next(&past), [past.tasks[2], past.tasks[4]]);
}

#[test]
fn bits_come_before_calls() {
    let mut past = Past::new(0);
    past.at_once(3, notify(0, 4));
    past.at_once(1, call(0, FLAG_DEADLINE, 100));
    let bits = past.at_once(0, recv(FLAG_NONBLOCK));
    let message = past.at_once(0, recv(FLAG_NONBLOCK));
    past.at_once(0, reply(1));
    assert_eq!(past.found(bits)[0], FLAG_NOTIFICATION);
    past.fits();
    // Raised on the receiver's own CPU they are there.
    let found = *past.found(bits);
    *past.found(bits) = *past.found(message);
    *past.found(message) = found;
    past.diverges();
}

#[test]
fn who_cancels_is_asked() {
    let mut past = Past::new(0);
    let cancelled = past.at_once(1, call(0, FLAG_DEADLINE, 100));
    past.at_once(2, cancel(1));
    past.advance(1, Part::Cancelled);
    past.fits();
    assert_eq!(past.calls[cancelled].status(), Some(Error::Cancelled));
    // Nobody has done so.
    past.calls.pop();
    past.diverges();
    // Late it can be.
    *past.found(cancelled) = [Error::Timeout as u64, 0, 0, 0, 0, 0, 0, 0];
    past.fits();
    // But not without a deadline, and not gone where nobody had it.
    *past.found(cancelled) = [Error::Gone as u64, 0, 1000, 0, 0, 0, 0, 0];
    past.diverges();
}
