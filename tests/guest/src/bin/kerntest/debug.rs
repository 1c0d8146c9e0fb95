//! Debugging: single steps, requested by a handler's answer or by a flag that is written to the
//! task's registers; breakpoints and watchpoints of one task, which do not affect others.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, FaultKind, RFLAGS_TRAP, RegIndex, USER_TOP};
use guest_tests::board::Part as _;
use user_rt::arch;
use user_rt::cap::Task;

use crate::block::Block;
use crate::faults::{HANDLER_INDEX, Note, Script, handled_by, seen, set, start_handler};
use crate::lab::{CHILD_GROUP, Lab, PUPPETS_MAX, Place, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! { steps step_by_flags watched_data watched_instructions status_of_others debug_values }

/// Block of a working task: rounds done, one word that it writes, one that it does not write.
const WORKER: u32 = PUPPETS_MAX - 3;
const ROUNDS: usize = 0;
const WRITTEN: usize = 8;
/// Rounds in a row that must be free of faults, or that must show some.
const ENOUGH: u64 = 20;

/// One round of a worker, at addresses that a test can name.
#[unsafe(naked)]
extern "sysv64" fn work(_word: *const core::sync::atomic::AtomicU64) {
    core::arch::naked_asm!("mov qword ptr [rdi], 7", "nop", "nop", "mov eax, dword ptr [rdi]", "ret")
}

/// Works forever, and counts rounds. The argument is the number of its block.
extern "C" fn worker(number: u64) -> ! {
    let block = Block::at(number as u32);
    loop {
        work(block.note(WRITTEN));
        block.note(ROUNDS).fetch_add(1, Relaxed);
        arch::pause();
    }
}

fn rounds(number: u32) -> u64 {
    Block::at(number).note(ROUNDS).load(Relaxed)
}

/// Starts a worker, in a process whose faults are handled on CPU `cpu`.
fn start_worker(lab: &mut Lab<'_>, cpu: u32, script: Script) -> Result<(Task, Place), Failure> {
    lab.busy = true;
    let place = lab.process(false)?;
    start_handler(lab, place, &Wanted { cpu, priority: 60, ..Wanted::default() }, script)?;
    Ok((another(lab, place, WORKER)?, place))
}

fn another(lab: &mut Lab<'_>, place: Place, number: u32) -> Result<Task, Failure> {
    Block::at(number).clear();
    let task =
        lab.task(&Wanted { place, priority: 50, ..Wanted::default() }, worker, u64::from(number))?.task;
    task.resume()?;
    lab.until("a worker works", || rounds(number) > ENOUGH)?;
    Ok(task)
}

/// Stops a task, changes it while it is ready, and resumes it.
fn stopped(lab: &Lab<'_>, task: &Task, change: impl Fn() -> user_rt::Result<()>) -> Outcome {
    for _ in 0..1000 {
        task.suspend()?;
        lab.settle();
        let changed = change();
        task.resume()?;
        match changed {
            // The task waits for its handler at the moment.
            Err(refusal) if refusal.error == Error::BadState => lab.sleep(100_000),
            other => return Ok(other?),
        }
    }
    Err(Failure::Of("it is never ready".into()))
}

fn handler_cpus(lab: &Lab<'_>) -> impl Iterator<Item = u32> + use<> {
    [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 })
}

fn trail(number: u64) -> u64 {
    Block::at(PUPPETS_MAX - 1).note(Note::Trail as usize + number as usize).load(Relaxed)
}

fn code() -> u64 {
    work as *const () as u64
}

/// Offsets of the instructions of [`work`]: seven bytes, one, one, two, one.
const STARTS: [u64; 5] = [0, 7, 8, 9, 11];

fn steps(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let (task, _) = start_worker(lab, cpu, Script::Step)?;
        // A breakpoint at the first instruction calls the handler, which steps from there.
        stopped(lab, &task, || task.debug([code(), 0, 0, 0], 1))?;
        lab.until("steps", || seen(Note::Count) >= 6)?;
        let rips: alloc::vec::Vec<u64> = (0..6).map(trail).collect();
        expect_eq!(rips[..5], STARTS.map(|start| code() + start), "instruction by instruction");
        expect!(!(code()..code() + 12).contains(&rips[5]), "and out of it");
        stopped(lab, &task, || task.debug([0; 4], 0))?;
        set(Note::Script, Script::Resume as u64);
        lab.settle();
        free_of_faults(lab, WORKER)?;
        lab.reset()?;
    }
    Ok(())
}

/// Checks that the task works on, and that its handler receives no fault.
fn free_of_faults(lab: &Lab<'_>, number: u32) -> Outcome {
    // The current round ends first.
    let begun = rounds(number);
    lab.until("a worker works on", || rounds(number) > begun + ENOUGH)?;
    let (count, begun) = (seen(Note::Count), rounds(number));
    lab.until("a worker works on", || rounds(number) > begun + ENOUGH)?;
    expect_eq!(seen(Note::Count), count, "faults of a task without breakpoints");
    Ok(())
}

fn step_by_flags(lab: &mut Lab<'_>) -> Outcome {
    let (task, _) = start_worker(lab, 0, Script::Resume)?;
    let before = seen(Note::Count);
    expect_eq!(before, 0, "faults of a task that works");
    stopped(lab, &task, || {
        let mut regs = task.read_regs()?;
        regs[RegIndex::Rflags as usize] |= RFLAGS_TRAP;
        task.write_regs(&regs)
    })?;
    lab.until("a step", || seen(Note::Count) >= 1)?;
    expect_eq!(seen(Note::Kind), u64::from(FaultKind::Step.label()), "kind");
    free_of_faults(lab, WORKER)?;
    expect_eq!(seen(Note::Count), 1, "a step is one instruction");
    Ok(())
}

fn watched_data(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let (task, place) = start_worker(lab, cpu, Script::Resume)?;
        // The other task writes the same word: all tasks of the CPU share that address.
        let other = WORKER - 1;
        another(lab, place, other)?;
        let word = Block::at(WORKER).note(WRITTEN) as *const _ as u64;
        // DR2, writes, eight bytes.
        let control = 1 << 4 | 0b1001 << 24;
        stopped(lab, &task, || task.debug([0, 0, word, 0], control))?;
        lab.until("hits", || seen(Note::Count) >= ENOUGH)?;
        expect_eq!(seen(Note::Kind), u64::from(FaultKind::Watch.label()), "kind");
        expect_eq!(seen(Note::Address), 1 << 2, "which of the four");
        expect_eq!(seen(Note::Rip), code() + STARTS[1], "right behind the write");
        // A watchpoint on that word, set by a task that never writes it, while the writer has none.
        stopped(lab, &task, || task.debug([0; 4], 0))?;
        free_of_faults(lab, WORKER)?;
        let bystander = another(lab, place, other - 1)?;
        stopped(lab, &bystander, || bystander.debug([0, 0, word, 0], control))?;
        free_of_faults(lab, WORKER)?;
        free_of_faults(lab, other - 1)?;
        lab.reset()?;
    }
    Ok(())
}

fn watched_instructions(lab: &mut Lab<'_>) -> Outcome {
    let (task, place) = start_worker(lab, 0, Script::Resume)?;
    let other = WORKER - 1;
    another(lab, place, other)?;
    let at = code() + STARTS[2];
    stopped(lab, &task, || task.debug([0, at, 0, 0], 1 << 2))?;
    lab.until("hits", || seen(Note::Count) >= ENOUGH)?;
    expect_eq!(
        (seen(Note::Kind), seen(Note::Rip)),
        (u64::from(FaultKind::Watch.label()), at),
        "kind and RIP"
    );
    let (hits, done) = (seen(Note::Count), rounds(WORKER));
    lab.until("rounds", || rounds(WORKER) > done + ENOUGH)?;
    let (hits, done) = (seen(Note::Count) - hits, rounds(WORKER) - done);
    expect!(hits.abs_diff(done) <= 2, "{hits} hits in {done} rounds: one each, and the other task has none");
    let begun = rounds(other);
    lab.until("the other works on", || rounds(other) > begun + ENOUGH)
}

/// Checks that a handler sees only its own process's breakpoints in the debug status: no earlier
/// hit of another process, and no hit of a disarmed breakpoint whose address is still in its
/// register.
fn status_of_others(lab: &mut Lab<'_>) -> Outcome {
    let (task, _) = start_worker(lab, 0, Script::Resume)?;
    let other = WORKER - 1;
    let place = lab.process(false)?;
    handled_by(lab, place, HANDLER_INDEX)?;
    let stranger = another(lab, place, other)?;
    let [own, word] = [WORKER, other].map(|number| Block::at(number).note(WRITTEN) as *const _ as u64);
    // DR1 and DR2, writes, eight bytes. The first is the address of the other process, which writes
    // it; this process never does.
    let control = 1 << 2 | 1 << 4 | 0b1001 << 20 | 0b1001 << 24;
    stopped(lab, &task, || task.debug([0, word, own, 0], control))?;
    lab.until("hits", || seen(Note::Count) >= ENOUGH)?;
    expect_eq!(seen(Note::Told), 1 << 2, "which of the four");
    stopped(lab, &task, || task.debug([0; 4], 0))?;
    free_of_faults(lab, WORKER)?;
    // The other process stops before it writes its word, and steps over the write.
    set(Note::Told, 0);
    set(Note::Script, Script::Step as u64);
    let begun = seen(Note::Count);
    stopped(lab, &stranger, || stranger.debug([code(), 0, 0, 0], 1))?;
    lab.until("steps", || seen(Note::Count) >= begun + ENOUGH)?;
    const STEP: u64 = 1 << 14;
    expect_eq!(seen(Note::Told), 1 | STEP, "a breakpoint, and steps");
    stopped(lab, &stranger, || stranger.debug([0; 4], 0))?;
    set(Note::Script, Script::Resume as u64);
    free_of_faults(lab, other)
}

fn debug_values(lab: &mut Lab<'_>) -> Outcome {
    let task = lab.task(&Wanted::default(), worker, u64::from(WORKER))?.task;
    let refused = |addresses, control| task.debug(addresses, control).err().map(|r| (r.error, r.detail));
    for (n, address) in [(0, USER_TOP), (1, 1 << 47), (2, 0xffff_ffff_8000_0000), (3, u64::MAX)] {
        let mut addresses = [0; 4];
        addresses[n] = address;
        expect_eq!(refused(addresses, 0), Some((Error::BadAddress, n as u64)), "DR{n} = {address:#x}");
    }
    // GD, reserved bits, I/O, an instruction of two bytes, addresses that are not aligned.
    for control in [1 << 10, 1 << 11, 1 << 13, 1 << 32, u64::MAX, 1 | 2 << 16, 1 | 1 << 18, 1 | 0b0101 << 16]
    {
        expect_eq!(refused([0x1001; 4], control), Some((Error::BadArgument, 5)), "DR7 = {control:#x}");
    }
    expect_eq!(refused([0x1000; 4], 1 | 0b1001 << 16), None, "a watch on eight bytes");
    expect_eq!(refused([0; 4], 0), None, "none any more");
    let handler = Some(abi::Target::new(CHILD_GROUP, HANDLER_INDEX));
    task.fault_handler(handler)?;
    task.kill()?;
    lab.settle();
    expect_eq!(refused([0; 4], 0), Some((Error::BadState, 0)), "of a dead task");
    let of_dead = task.fault_handler(handler).err().map(|refusal| refusal.error);
    expect_eq!(of_dead, Some(Error::BadState), "a handler for the dead");
    Ok(())
}
