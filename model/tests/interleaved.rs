//! Random histories of workers on several CPUs, which the model's own parts make from the fuzzer's
//! operations. Each is possible, and the checker must find an order for it. As in the kernel, an
//! operation mostly continues until it ends or waits for another CPU, and waiting takes long.

mod cluster;
mod dice;

use abi::{Cap, FLAG_DEADLINE, FLAG_NONBLOCK, MsgInfo, ObjType, Op, Rights, Target};
use cluster::{MEMORY, OWN_CNODE, PEER_CNODES, PROCESSES, WORKERS, before, process_of};
use dice::Dice;
use model::linear::{Call, History, Verdict};
use model::parts::{Part, Progress, Running, System};
use model::{Args, Id, Regs};

/// Slots of the owner, and of the others.
const OWN: std::ops::Range<u32> = 410..418;
const LENT: std::ops::Range<u32> = 420..423;
const CALLS: usize = 60;
/// Steps after which the fuzzer gives up.
const LIMIT: u64 = 200_000;

impl Dice {
    fn of(&mut self, slots: std::ops::Range<u32>) -> u32 {
        slots.start + self.below(u64::from(slots.end - slots.start)) as u32
    }

    fn rights(&mut self) -> u64 {
        let few = [Rights::ALL, Rights::ALL, Rights::NOTIFY, Rights::LISTEN, Rights::NOTIFY | Rights::LISTEN];
        u64::from(few[self.below(5) as usize].0)
    }
}

fn at(slot: u32) -> u64 {
    Target::new(OWN_CNODE, slot).0
}

fn into(process: usize, slot: u32) -> u64 {
    Target::new(Cap(PEER_CNODES + process as u32), slot).0
}

fn plain(op: Op, args: [u64; 4]) -> (Op, Args) {
    let [a, b, c, d] = args;
    (op, Args([a, b, c, d, 0, 0], MsgInfo(op as u64)))
}

fn make(slot: u32) -> (Op, Args) {
    plain(Op::Retype, [Target::new(MEMORY, ObjType::Notification as u32).0, 0, at(slot), 1])
}

fn wait(dice: &mut Dice, slot: u32, percent: u64) -> (Op, Args) {
    let (op, mut args) = plain(Op::Wait, [Cap(slot).arg(), 0, 0, 0]);
    let polls = dice.chance(percent);
    args.0[1] = if polls { 0 } else { 1 << 40 };
    args.1 = args.1.flag(if polls { FLAG_NONBLOCK } else { FLAG_DEADLINE });
    (op, args)
}

/// Picks an operation as a worker of the owner does.
fn pick_own(dice: &mut Dice) -> (Op, Args) {
    let (from, to) = (dice.of(OWN), dice.of(OWN));
    match dice.below(100) {
        0..14 => plain(Op::CapInspect, [at(from), 0, 0, 0]),
        14..28 => plain(Op::Notify, [Cap(from).arg(), 1 << dice.below(20), 0, 0]),
        28..42 => wait(dice, from, 60),
        42..60 => plain(Op::CapCopy, [Cap(from).arg(), at(to), dice.rights(), dice.below(3)]),
        60..68 => {
            let to = into(dice.below(PROCESSES as u64) as usize, dice.of(LENT));
            plain(Op::CapCopy, [Cap(from).arg(), to, dice.rights(), 0])
        }
        68..74 => plain(Op::CapMove, [Cap(from).arg(), at(to), 0, 0]),
        74..82 => plain(Op::CapDelete, [at(from), 0, 0, 0]),
        82..88 => plain(Op::CapRevoke, [at(from), 0, 0, 0]),
        88..96 => make(to),
        96..98 => plain(Op::CapRevoke, [at(MEMORY.0), 0, 0, 0]),
        _ => plain(Op::UntypedReset, [MEMORY.arg(), 0, 0, 0]),
    }
}

/// Picks an operation as a worker of another process does.
fn pick_lent(dice: &mut Dice, of: usize) -> (Op, Args) {
    let (from, to, there) = (dice.of(LENT), dice.of(LENT), dice.of(OWN));
    match dice.below(100) {
        0..12 => plain(Op::CapInspect, [at(from), 0, 0, 0]),
        12..24 => plain(Op::CapInspect, [into(of, there), 0, 0, 0]),
        24..42 => plain(Op::Notify, [Cap(from).arg(), 1 << dice.below(20), 0, 0]),
        42..52 => wait(dice, from, 60),
        52..62 => plain(Op::CapCopy, [Cap(from).arg(), at(to), dice.rights(), 0]),
        62..72 => plain(Op::CapCopy, [Cap(from).arg(), into(of, there), dice.rights(), 0]),
        72..78 => plain(Op::CapMove, [Cap(from).arg(), into(of, there), 0, 0]),
        78..86 => plain(Op::CapDelete, [at(from), 0, 0, 0]),
        86..92 => plain(Op::CapDelete, [into(of, there), 0, 0, 0]),
        92..96 => plain(Op::CapRevoke, [at(from), 0, 0, 0]),
        _ => plain(Op::CapRevoke, [into(of, there), 0, 0, 0]),
    }
}

/// Workers, and what they have done.
struct Past {
    before: System,
    system: System,
    tasks: Vec<Id>,
    owner: usize,
    calls: Vec<Call>,
    /// By worker: the call that it is in, and for how long it does nothing.
    inside: Vec<Option<(usize, Running)>>,
    idle: Vec<u64>,
    clock: u64,
    dice: Dice,
}

impl Past {
    fn new(seed: u64) -> Past {
        let owner = seed as usize % PROCESSES;
        let (before, tasks) = before(owner);
        let (inside, idle) = (vec![None; WORKERS], vec![0; WORKERS]);
        let system = before.clone();
        Past { before, system, tasks, owner, calls: Vec::new(), inside, idle, clock: 0, dice: Dice(seed) }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn begin(&mut self, worker: usize, (op, args): (Op, Args)) {
        let (me, began) = (self.tasks[worker], self.tick());
        self.inside[worker] = Some((self.calls.len(), Running::new(me, op, args)));
        self.calls.push(Call { me, op, args, found: [0; 8], began, ended: u64::MAX });
    }

    fn end(&mut self, worker: usize, regs: Regs) {
        let Some((call, running)) = self.inside[worker].take() else { return };
        let mut found = regs.values;
        if running.op == Op::CapInspect && found[0] == 0 {
            let place = self.system.inspected(&running).unwrap();
            found[4] = self.system.model.slots.get(&place).map_or(0, |it| it.object.0 as u64);
        }
        self.calls[call].found = found;
        self.calls[call].ended = self.tick();
    }

    /// Does a part of a worker's operation. Returns whether another part can follow immediately.
    fn go_on(&mut self, worker: usize) -> bool {
        let Some((_, mut running)) = self.inside[worker].clone() else { return false };
        let mut parts = Vec::new();
        self.system.parts(&running, &mut parts);
        parts.retain(|part| *part != Part::Timeout || self.dice.chance(10));
        if parts.is_empty() {
            return false;
        }
        let part = parts[self.dice.below(parts.len() as u64) as usize];
        let progress = self.system.advance(&mut running, part);
        let goes_on = self.system.is_midway(&running);
        self.inside[worker].as_mut().unwrap().1 = running;
        if let Progress::Done(regs) = progress {
            self.end(worker, regs);
            return false;
        }
        goes_on
    }

    fn arrivals(&mut self) {
        let coming: Vec<(Id, usize)> =
            self.system.on_their_way().map(|(of, bits)| (of, bits.len())).collect();
        for (object, count) in coming {
            if self.dice.chance(20) {
                self.system.arrive(object, 1 + self.dice.below(count as u64) as usize);
            }
        }
    }

    /// Lets one worker do something.
    fn turn(&mut self, is_over: bool) {
        self.arrivals();
        let worker = self.dice.below(WORKERS as u64) as usize;
        if self.idle[worker] > 0 {
            self.idle[worker] -= 1;
            return;
        }
        if self.inside[worker].is_none() {
            if is_over {
                return;
            }
            let next = match process_of(worker) {
                of if of == self.owner => pick_own(&mut self.dice),
                _ => pick_lent(&mut self.dice, self.owner),
            };
            self.begin(worker, next);
            // A slot that was emptied is filled only when all CPUs have been seen.
            if self.dice.chance(15) {
                self.idle[worker] = self.dice.below(30);
                return;
            }
        }
        while self.go_on(worker) && self.dice.chance(97) {}
        self.idle[worker] = self.dice.below(if self.inside[worker].is_some() { 12 } else { 6 });
    }

    fn alone(&mut self, worker: usize, what: (Op, Args)) {
        self.begin(worker, what);
        while self.inside[worker].is_some() {
            self.go_on(worker);
        }
    }

    /// Plays a window. Returns when it was over.
    fn window(&mut self) -> u64 {
        let keeper = (0..WORKERS).find(|it| process_of(*it) == self.owner).unwrap();
        let copy = |from: u32, to: u64, rights: Rights| {
            plain(Op::CapCopy, [Cap(from).arg(), to, u64::from(rights.0), 0])
        };
        self.alone(keeper, make(410));
        self.alone(keeper, make(411));
        self.alone(keeper, copy(410, at(412), Rights::NOTIFY));
        self.alone(keeper, copy(410, at(413), Rights::ALL));
        let other = (self.owner + 2) % PROCESSES;
        self.alone(keeper, copy(413, into(other, 420), Rights::NOTIFY | Rights::LISTEN));
        while self.calls.len() < CALLS {
            self.turn(false);
        }
        while self.inside.iter().any(Option::is_some) {
            self.turn(true);
        }
        let settled = self.tick();
        let coming = |system: &System| system.on_their_way().map(|(of, bits)| (of, bits.len())).next();
        while let Some((object, count)) = coming(&self.system) {
            self.system.arrive(object, count);
        }
        for process in 0..PROCESSES {
            let slots = if process == self.owner { OWN } else { LENT };
            slots.for_each(|slot| self.alone(keeper, plain(Op::CapInspect, [into(process, slot), 0, 0, 0])));
        }
        for slot in OWN {
            let poll = wait(&mut Dice(0), slot, 100);
            self.alone(keeper, poll);
        }
        settled
    }
}

/// What the model's parts do is allowed, and the checker finds how within its steps.
#[test]
fn what_parts_do_by_chance_fits() {
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count = std::env::var("CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(300);
    let mut hardest: Vec<(u64, u64)> = Vec::new();
    for seed in first..first + count {
        let mut past = Past::new(seed);
        let settled = past.window();
        let (verdict, steps) =
            History { before: &past.before, calls: &past.calls, settled }.search(LIMIT, || ());
        assert_eq!(verdict, Verdict::Fits, "seed {seed}, {steps} steps");
        hardest.push((steps, seed));
    }
    hardest.sort_unstable();
    println!("hardest: {:?}", &hardest[hardest.len().saturating_sub(12)..]);
}
