//! Context integrity: a task's registers stay its own through preemption and IPC, and no other task
//! ever sees them.
//!
//! Keepers load all registers with their own values, spin, and compare. Their slices are short and
//! they share CPUs, so they are preempted all the time.

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Counter, Op, RegIndex, Target, cpu_features};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Args};
use user_rt::boot;
use user_rt::cap::Task;
use user_rt::invoke::{Moves, start_regs};
use user_rt::layout::stack_top;
use user_rt::report;
use user_rt::spawn::{Entry, own};

use crate::block::Block;
use crate::lab::{Lab, PUPPETS_MAX, Place, Wanted};
use crate::puppet::observed;
use crate::registers::{
    GS, Kind, Registers, SELECTORS, WORDS, first_look, gs_base, hold, in_use, in_use_after_initial_image,
    name, peek, selectors, set_gs_base,
};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    registers_survive_preemption registers_survive_moves registers_and_calls vector_use_stays_hidden fresh_tasks_start_clean
    vector_registers_go_along
}

/// Words of a block with a keeper's instructions and results.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Note {
    Seed = 0,
    /// Whether to stop after the current round.
    Stop,
    Vector,
    /// Target of calls between rounds; 0: no calls.
    Target,
    /// Rounds done.
    Done,
    /// 1 + the word that changed, and the round.
    Changed,
    Round,
    /// 1 + the word that IPC should have left otherwise.
    Leaked,
    /// Process of the keeper, which chooses its selectors.
    Process,
    /// Whether the machine counts which vector state is in use.
    Counts,
    /// Components that were in use although none may be.
    InUse,
}

fn note(block: &'static Block, which: Note) -> &'static core::sync::atomic::AtomicU64 {
    block.note(which as usize)
}

/// Returns a keeper's slice, in ticks: `slice=` on the command line.
fn slice() -> u64 {
    let usual = boot::facts().tsc_hz / 5000;
    boot::options().number("slice", usual).unwrap_or(usual)
}

/// Returns the most turns of a keeper's spin, of about three ticks each: up to two slices.
fn spins() -> u64 {
    slice() * 2 / 3
}

/// Holds register sets, one after the other, with calls in between.
extern "C" fn keeper(number: u64) -> ! {
    let block = Block::at(number as u32);
    let kind = Kind::of(note(block, Note::Vector).load(Relaxed) != 0);
    let target = note(block, Note::Target).load(Relaxed);
    let process = note(block, Note::Process).load(Relaxed);
    let mut random = oorandom::Rand64::new(u128::from(note(block, Note::Seed).load(Relaxed)));
    for round in 0.. {
        if note(block, Note::Stop).load(Relaxed) != 0 {
            break;
        }
        let want = Registers::random(random.rand_u64()).with_selectors_of(process);
        let got = hold(kind, &want, random.rand_range(0..spins()));
        if let Some(word) = got.differs(&want, kind) {
            say(block, Note::Changed, word, round);
        }
        if target != 0 {
            let args = Args::plain(Op::Call, target, 0, random.rand_u64(), random.rand_u64());
            let base = set_gs_base(random.rand_u64());
            let (answer, dirt) = observed(&args);
            look_at_use(block);
            if ![0, base].contains(&gs_base()) {
                say(block, Note::Leaked, GS, round);
            }
            if answer.info.0 != 0 || dirt != 0 || answer.rdx != args.rdx || answer.r8 != args.r8 {
                say(block, Note::Leaked, 0, round);
            }
            if !want.explains(selectors()) {
                say(block, Note::Leaked, SELECTORS, round);
            }
            if let Some(word) = peek(kind).vector_differs(&Registers::initial(), kind) {
                say(block, Note::Leaked, word, round);
            }
        }
        note(block, Note::Done).store(round + 1, Relaxed);
        arch::pause();
    }
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Checks that after a call all vector state is initial, if the machine can tell.
fn look_at_use(block: &'static Block) {
    if note(block, Note::Counts).load(Relaxed) != 0 {
        note(block, Note::InUse).fetch_or(in_use(), Relaxed);
    }
}

/// Reports whether the machine counts vector state in use.
extern "C" fn counter(number: u64) -> ! {
    let block = Block::at(number as u32);
    note(block, Note::Counts).store(u64::from(in_use_after_initial_image() == 0), Relaxed);
    note(block, Note::Done).store(1, Relaxed);
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Runs without vector state, and checks that none is in use: in the middle of its slices, and
/// after calls.
extern "C" fn watcher(number: u64) -> ! {
    let block = Block::at(number as u32);
    let target = note(block, Note::Target).load(Relaxed);
    for round in 1.. {
        if note(block, Note::Stop).load(Relaxed) != 0 {
            break;
        }
        if target != 0 {
            let _ = observed(&Args::plain(Op::Call, target, 0, 0, 0));
        }
        let end = arch::now() + slice();
        while arch::now() < end {
            note(block, Note::InUse).fetch_or(in_use(), Relaxed);
        }
        note(block, Note::Done).store(round, Relaxed);
    }
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Keeps the first failure.
fn say(block: &'static Block, what: Note, word: usize, round: u64) {
    if note(block, what).load(Relaxed) == 0 {
        note(block, Note::Round).store(round, Relaxed);
        note(block, what).store(word as u64 + 1, Relaxed);
    }
}

/// Answers calls, and checks that its registers hold only the message. Its vector state is its own
/// still if it got the next call without another task having run.
extern "C" fn looker(number: u64) -> ! {
    let block = Block::at(number as u32);
    let kind = Kind::of(note(block, Note::Vector).load(Relaxed) != 0);
    let mut args = Args::new(Op::ReplyRecv);
    let process = note(block, Note::Process).load(Relaxed);
    let (mut base, mut own) = (0, Registers::initial());
    for round in 1.. {
        let (answer, dirt) = observed(&args);
        let found = peek(kind);
        if found.vector_differs(&own, kind).is_some() {
            look_at_use(block);
            if let Some(word) = found.vector_differs(&Registers::initial(), kind) {
                say(block, Note::Leaked, word, round);
            }
        }
        if ![0, base].contains(&gs_base()) {
            say(block, Note::Leaked, GS, round);
        }
        if !Registers::EMPTY.with_selectors_of(process).explains(selectors()) {
            say(block, Note::Leaked, SELECTORS, round);
        }
        if answer.info.0 != 0 || dirt | answer.r12 != 0 {
            say(block, Note::Leaked, 0, round);
        }
        // Values of its own, which the caller must not see.
        hold(kind, &Registers::random(round).with_selectors_of(process), 10);
        own = peek(kind);
        base = set_gs_base(round << 12);
        let [rdx, r8, r9, r10] = answer.message_registers();
        args = Args { rdx, r8, r9, r10, ..Args::new(Op::ReplyRecv) };
        note(block, Note::Done).store(round, Relaxed);
    }
    loop {
        arch::pause();
    }
}

/// Keepers and lookers of a test.
struct Company {
    numbers: Vec<u32>,
    keepers: Vec<u32>,
    tasks: Vec<Task>,
    next: u32,
    /// Whether the machine knows which vector state is in use.
    counts: bool,
}

impl Company {
    fn new() -> Company {
        Company { numbers: Vec::new(), keepers: Vec::new(), tasks: Vec::new(), next: 0, counts: false }
    }

    fn block(&mut self, place: Place, vector: bool) -> (u32, &'static Block) {
        let number = self.next;
        self.next += 1;
        self.numbers.push(number);
        let block = Block::at(number);
        block.clear();
        note(block, Note::Vector).store(u64::from(vector), Relaxed);
        let process = match place {
            Place::Own => 0,
            Place::Child(index) => index as u64 + 1,
        };
        note(block, Note::Process).store(process, Relaxed);
        note(block, Note::Counts).store(u64::from(self.counts), Relaxed);
        (number, block)
    }

    /// Starts a keeper on a CPU, in one of two processes, with calls to `target`.
    fn keeper(&mut self, lab: &mut Lab<'_>, cpu: u32, place: Place, vector: bool, target: Target) -> Outcome {
        self.start(lab, keeper, &Wanted { place, cpu, priority: 50 }, vector, target)
    }

    /// Starts a task that counts rounds.
    fn start(
        &mut self,
        lab: &mut Lab<'_>,
        entry: Entry,
        wanted: &Wanted,
        vector: bool,
        target: Target,
    ) -> Outcome {
        let (number, block) = self.block(wanted.place, vector);
        let seed = boot::options().number("seed", 1).unwrap_or(1) * 1000 + u64::from(number);
        for (which, value) in [(Note::Seed, seed), (Note::Target, target.0)] {
            note(block, which).store(value, Relaxed);
        }
        let made = lab.task(wanted, entry, u64::from(number))?;
        made.sched.configure(50, slice())?;
        made.task.resume()?;
        self.keepers.push(number);
        self.tasks.push(made.task);
        Ok(())
    }

    /// Moves each keeper to a CPU drawn at random. Returns how many have moved: one in the middle
    /// of a call does so later.
    fn wander(&self, cpus: u32, random: &mut oorandom::Rand64) -> Result<usize, Failure> {
        let mut moved = 0;
        for task in &self.tasks {
            let moves = task.move_to(random.rand_range(0..u64::from(cpus)) as u32)?;
            moved += usize::from(moves == Moves::Now);
        }
        Ok(moved)
    }

    /// Waits until all keepers have done their rounds and `enough` holds. Reports the first
    /// failure.
    fn finish(&self, lab: &Lab<'_>, mut enough: impl FnMut() -> bool) -> Outcome {
        let wanted = rounds_wanted();
        let deadline = arch::now() + wanted.div_ceil(ROUNDS) * LIMIT_SECONDS * boot::facts().tsc_hz;
        let rounds = |number: &u32| note(Block::at(*number), Note::Done).load(Relaxed);
        let mut told = 0;
        while !enough() || self.keepers.iter().any(|number| rounds(number) < wanted) {
            lab.sleep(slice() * 2);
            let done: Vec<u64> = self.keepers.iter().map(rounds).collect();
            let least = done.iter().min().copied().unwrap_or(0);
            if least >= told + PROGRESS {
                told = least;
                report!("progress each keeper has done {least} rounds");
            }
            expect!(arch::now() < deadline, "keepers do not get through, or nobody preempts them: {done:?}");
        }
        for number in &self.keepers {
            note(Block::at(*number), Note::Stop).store(1, Relaxed);
        }
        for number in &self.numbers {
            let found = |which| note(Block::at(*number), which).load(Relaxed) as usize;
            let in_use = found(Note::InUse);
            expect!(in_use == 0, "task {number}: components {in_use:#x} of others' vector state are in use");
            let (changed, leaked, round) = (found(Note::Changed), found(Note::Leaked), found(Note::Round));
            expect!(changed == 0, "task {number}, round {round}: {} changed", name(changed - 1));
            expect!(leaked == 0, "task {number}, round {round}: {} is not clean", name(leaked - 1));
        }
        Ok(())
    }
}

/// Returns the least rounds of each keeper: `rounds=` on the command line.
fn rounds_wanted() -> u64 {
    boot::options().number("rounds", ROUNDS).unwrap_or(ROUNDS)
}

const ROUNDS: u64 = 40;
/// Rounds after which a long run says how far it is.
const PROGRESS: u64 = 5000;
/// Moves of keepers, at least.
const MOVES: usize = 500;
/// Seconds for that many rounds.
const LIMIT_SECONDS: u64 = 60;

/// Returns how many interrupts a CPU has taken.
fn interrupts(cpu: u32) -> u64 {
    own::machine().counter(cpu, Counter::Interrupt).unwrap_or(0)
}

fn registers_survive_preemption(lab: &mut Lab<'_>) -> Outcome {
    let places = [lab.process(false)?, lab.process(true)?, lab.process(true)?];
    let cpus = lab.cpus.min(8);
    let before: Vec<u64> = (0..cpus).map(interrupts).collect();
    let mut company = Company::new();
    for cpu in 0..cpus {
        for (place, vector) in places.iter().zip([false, true, true]) {
            company.keeper(lab, cpu, *place, vector, Target(0))?;
        }
        company.keeper(lab, cpu, places[1], true, Target(0))?;
    }
    // An emulator on a busy host may interrupt late: the keepers continue until it has.
    company.finish(lab, || (0..cpus).zip(&before).all(|(cpu, before)| interrupts(cpu) - before > ROUNDS))
}

/// Keepers that move all the time: some only hold registers, others call servers.
fn registers_survive_moves(lab: &mut Lab<'_>) -> Outcome {
    let places = [lab.process(false)?, lab.process(true)?];
    let (cpus, group) = (lab.cpus.min(8), lab.group()?);
    let mut company = Company::new();
    let (number, _) = company.block(places[1], true);
    let made =
        lab.task(&Wanted { place: places[1], cpu: cpus - 1, priority: 50 }, looker, u64::from(number))?;
    group.expose_task(number + 1, &made.task)?;
    made.task.resume()?;
    for (place, vector) in places.iter().zip([false, true]) {
        for target in [Target(0), Target::new(crate::lab::CHILD_GROUP, number + 1)] {
            company.keeper(lab, 0, *place, vector, target)?;
        }
    }
    let mut random = oorandom::Rand64::new(u128::from(boot::options().number("seed", 1).unwrap_or(1)));
    let taken = || (0..cpus).map(interrupts).sum::<u64>();
    let (mut moved, mut failed, before) = (0, None, taken());
    company.finish(lab, || {
        match company.wander(cpus, &mut random) {
            Ok(some) => moved += some,
            Err(failure) => failed = Some(failure),
        }
        failed.is_some() || moved >= MOVES
    })?;
    let rounds = |number: &u32| note(Block::at(*number), Note::Done).load(Relaxed);
    let calls: u64 = company.keepers.iter().skip(1).step_by(2).map(rounds).sum();
    report!("note registers_survive_moves: calls={calls} moves={moved} interrupts={}", taken() - before);
    failed.map_or(Ok(()), Err)
}

fn registers_and_calls(lab: &mut Lab<'_>) -> Outcome {
    let (plain, vector) = (lab.process(false)?, lab.process(true)?);
    let servers = [lab.process(false)?, lab.process(true)?];
    let cpus = lab.cpus.min(4);
    let group = lab.group()?;
    let mut company = Company::new();
    // Every CPU has a looker of each kind. Keepers of each kind call them, on their own CPU and on
    // others.
    let mut targets = Vec::new();
    for cpu in 0..cpus {
        for (place, with) in servers.iter().zip([false, true]) {
            let (number, _) = company.block(*place, with);
            let made = lab.task(&Wanted { place: *place, cpu, priority: 50 }, looker, u64::from(number))?;
            group.expose_task(number + 1, &made.task)?;
            made.task.resume()?;
            targets.push(number + 1);
        }
    }
    let slot = crate::lab::CHILD_GROUP;
    for cpu in 0..cpus {
        for (index, (place, with)) in [(plain, false), (vector, true), (vector, true)].into_iter().enumerate()
        {
            let target = targets[(cpu as usize * 2 + index * 3) % targets.len()];
            company.keeper(lab, cpu, place, with, Target::new(slot, target))?;
        }
    }
    company.finish(lab, || true)
}

/// Checks that a program without vector state cannot observe the vector state of others. XGETBV(1)
/// shows any program which components are in use, and on some CPUs faulting code can compute with
/// the registers before it faults.
fn vector_use_stays_hidden(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(cpu_features::XGETBV1) {
        return Err(Failure::Lacks("the CPU has no XGETBV(1)"));
    }
    let [vector, server] = [lab.process(true)?, lab.process(true)?];
    let plain = lab.process(false)?;
    let mut company = Company::new();
    let (number, block) = company.block(vector, true);
    let wanted = Wanted { place: vector, cpu: 0, priority: 50 };
    lab.task(&wanted, counter, u64::from(number))?.task.resume()?;
    while note(block, Note::Done).load(Relaxed) == 0 {
        lab.sleep(100_000);
    }
    if note(block, Note::Counts).load(Relaxed) == 0 {
        return Err(Failure::Lacks("the machine shows vector state in use that is initial"));
    }
    let group = lab.group()?;
    company.counts = true;
    let (number, _) = company.block(server, true);
    let looks = lab.task(&Wanted { place: server, cpu: 0, priority: 50 }, looker, u64::from(number))?;
    group.expose_task(1, &looks.task)?;
    looks.task.resume()?;
    for target in [Target(0), Target::new(crate::lab::CHILD_GROUP, 1)] {
        company.keeper(lab, 0, vector, true, target)?;
        company.start(lab, watcher, &Wanted { place: plain, cpu: 0, priority: 50 }, false, target)?;
    }
    company.finish(lab, || true)
}

/// Checks that the registers of a new task hold only what its maker wrote.
fn fresh_tasks_start_clean(lab: &mut Lab<'_>) -> Outcome {
    let [place, other] = [lab.process(true)?, lab.process(true)?];
    let mut company = Company::new();
    company.keeper(lab, 0, place, true, Target(0))?;
    company.keeper(lab, 0, place, true, Target(0))?;
    let number = PUPPETS_MAX - 1;
    for round in 0..10 {
        Block::at(number).clear();
        let at = Block::at(number).note(0) as *const _ as u64;
        let made = lab.task(&Wanted { place: other, cpu: 0, priority: 60 }, keeper, 0)?;
        let mut regs = start_regs(first_look as *const () as u64, stack_top(1));
        regs[RegIndex::Rdi as usize] = at;
        regs[RegIndex::Rbx as usize] = 0xb + round;
        let old = made.task.read_regs()?;
        regs[RegIndex::Rsp as usize] = old[RegIndex::Rsp as usize];
        made.task.write_regs(&regs)?;
        made.task.resume()?;
        let flags = Block::at(number).note(14);
        for _ in 0..10_000 {
            lab.sleep(200_000);
            if flags.load(Relaxed) != 0 {
                break;
            }
        }
        let seen: [u64; WORDS] = core::array::from_fn(|word| Block::at(number).note(word).load(Relaxed));
        let mut wanted = [0; WORDS];
        wanted[1] = 0xb + round;
        wanted[14] = 0x202;
        expect_eq!(seen, wanted, "a fresh task's registers");
        made.task.kill()?;
    }
    company.finish(lab, || true)
}

/// Holds a register set until it is told to stop, and reports whether the set was intact then.
extern "C" fn holder(number: u64) -> ! {
    let block = Block::at(number as u32);
    let kind = Kind::of(true);
    note(block, Note::Round).store(1, Relaxed);
    let process = note(block, Note::Process).load(Relaxed);
    let want = Registers::random(note(block, Note::Seed).load(Relaxed)).with_selectors_of(process);
    let got = hold(kind, &want, note(block, Note::Target).load(Relaxed));
    note(block, Note::Changed).store(got.differs(&want, kind).map_or(0, |word| word as u64 + 1), Relaxed);
    note(block, Note::Done).store(1, Relaxed);
    loop {
        let _ = user_rt::ipc::recv();
    }
}

/// Reads a task with all its registers in the middle of a computation. A fresh task, on any CPU,
/// continues with them while others use theirs.
fn vector_registers_go_along(lab: &mut Lab<'_>) -> Outcome {
    for cpu in 0..lab.cpus.min(4) {
        lab.busy = true;
        let place = lab.process(true)?;
        let mut company = Company::new();
        company.keeper(lab, 0, place, true, Target(0))?;
        company.keeper(lab, cpu, place, true, Target(0))?;
        let (number, block) = company.block(place, true);
        note(block, Note::Seed).store(77 + u64::from(cpu), Relaxed);
        // Long enough to be stopped in the middle.
        note(block, Note::Target).store(boot::facts().tsc_hz / 10, Relaxed);
        let task = lab.task(&Wanted { place, cpu: 0, priority: 50 }, holder, u64::from(number))?.task;
        task.resume()?;
        while note(block, Note::Round).load(Relaxed) == 0 {
            lab.sleep(100_000);
        }
        lab.sleep(2_000_000);
        task.suspend()?;
        expect_eq!(note(block, Note::Done).load(Relaxed), 0, "it is in the middle of it");
        let fresh = lab.task(&Wanted { place, cpu, priority: 50 }, holder, 0)?.task;
        task.registers_to(&fresh)?;
        // The new task has its own: the old task's registers do not matter now.
        task.write_vector(0, &[0; 100])?;
        fresh.resume()?;
        for _ in 0..100_000 {
            if note(block, Note::Done).load(Relaxed) != 0 {
                break;
            }
            lab.sleep(200_000);
        }
        expect_eq!(note(block, Note::Done).load(Relaxed), 1, "CPU {cpu}: it came to its end");
        let changed = note(block, Note::Changed).load(Relaxed) as usize;
        expect!(changed == 0, "CPU {cpu}: {} did not go along", name(changed - 1));
        lab.reset()?;
    }
    Ok(())
}
