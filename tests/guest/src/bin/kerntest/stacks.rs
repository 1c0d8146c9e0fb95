//! Stacks of the runtime: guards, stacks that their keeper grows, stacks in pieces.
//!
//! The keeper is a task that handles the faults of a process. It is in that process or in another,
//! on this CPU or another. It notes its actions in its block.

use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, Error, FaultKind, PAGE_SIZE, Target};
use guest_tests::board::Part as _;
use user_rt::arch::{self, stack::pointer};
use user_rt::boot;
use user_rt::cap::{Exposure, Group, Handle, Task, Untyped, VSpace};
use user_rt::fault::{Fault, Verdict};
use user_rt::invoke::transfer;
use user_rt::ipc::{Event, Message, Patience, recv, reply_recv};
use user_rt::layout::{STACKS_VA, slot, stack_span};
use user_rt::slots::Slots;
use user_rt::spawn::{Entry, Home, Nursery, Run, TaskSpec, task_on};
use user_rt::stack::{Keeper, Label, Segments, Span, Use, Why, room};

use crate::block::Block;
use crate::fate::{Fate, survive};
use crate::lab::{CHILD_FREE, CHILD_GROUP, CHILD_SLOTS, Lab, PRIORITY, PUPPETS_MAX, Place, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    a_guard_below_every_stack stacks_grow beyond_its_reserve stacks_in_their_places_grow memory_for_stacks_runs_out
    wild_pointers_are_no_stacks stacks_in_pieces pieces_run_out places_come_back
}

/// Blocks of the keeper, and of the tasks whose stacks it keeps.
const KEEPER: u32 = PUPPETS_MAX - 1;
const CLIMBER: u32 = PUPPETS_MAX - 2;
/// Exposures in the tested group: the keeper, and the tasks.
const KEEPER_AT: u32 = PUPPETS_MAX + 3;
const CLIMBER_AT: u32 = PUPPETS_MAX + 4;
const LIMIT_SECONDS: u64 = 20;
/// Most stacks of a test's keeper.
const STACKS: usize = 16;
const PAGES: usize = 128;
/// The keeper's memory, its address in the process whose stacks it keeps, and slots for it.
const KEEPER_LOG2: u64 = 20;
const KEEPER_UNTYPED: Cap = Cap(CHILD_FREE);
const KEEPER_SLOTS: u32 = CHILD_FREE + 1;

/// Words of the keeper's block.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Note {
    /// Its objects: slots of the address space and of an Untyped, the first slot to fill, and the
    /// end.
    VSpace = 0,
    Untyped,
    SlotsFrom,
    SlotsTo,
    /// A stack to adopt first: its span, and its mapped part; whether the keeper could.
    AdoptLow,
    AdoptTop,
    AdoptMapped,
    Adopted,
    /// Counts of what it did.
    Stacks,
    Pages,
    Free,
    Faults,
    /// The last fault that it did not handle: 1 + its kind.
    Other,
    /// The last overflow: 1 + the reason, the stack, the address.
    Why,
    Reserve,
    Mapped,
    Address,
}

fn note(which: Note) -> u64 {
    Block::at(KEEPER).note(which as usize).load(Relaxed)
}

fn set(which: Note, value: u64) {
    Block::at(KEEPER).note(which as usize).store(value, Relaxed);
}

fn note_usage(usage: Use) {
    let Use { stacks, pages, free, faults } = usage;
    set(Note::Stacks, stacks as u64);
    set(Note::Pages, pages as u64);
    set(Note::Free, free as u64);
    set(Note::Faults, faults);
}

/// Runs the keeper: handles faults, answers messages.
extern "C" fn keeper(_: u64) -> ! {
    let cap = |which| Cap(note(which) as u32);
    let slots = Slots::new(note(Note::SlotsFrom) as u32..note(Note::SlotsTo) as u32);
    let nursery = Nursery::new(Untyped::at(cap(Note::Untyped)), slots);
    let mut keeper: Keeper<STACKS, PAGES> = Keeper::new(VSpace::at(cap(Note::VSpace)), nursery);
    if note(Note::AdoptTop) != 0 {
        let span = Span { low: note(Note::AdoptLow), top: note(Note::AdoptTop) };
        set(Note::Adopted, u64::from(keeper.adopt(span, note(Note::AdoptMapped)).is_ok()));
    }
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => match Fault::of(&call) {
                Some(fault) => {
                    let verdict = keeper.judge(&fault, call.sender);
                    note_usage(keeper.usage());
                    note_overflow(&keeper);
                    if verdict.is_none() {
                        set(Note::Other, 1 + u64::from(fault.kind.label()));
                    }
                    verdict.unwrap_or(Verdict::TearDown).reply_recv()
                }
                None => {
                    let answer = keeper.serve(&call).unwrap_or_default();
                    note_usage(keeper.usage());
                    reply_recv(&answer)
                }
            },
            _ => recv(),
        }
    }
}

fn note_overflow(keeper: &Keeper<STACKS, PAGES>) {
    let Some(overflow) = &keeper.overflow else { return };
    let why = match overflow.why {
        Why::Full => 1,
        Why::Empty => 2,
        Why::NoMemory(_) => 3,
    };
    set(Note::Why, why);
    set(Note::Reserve, overflow.stack.reserve());
    set(Note::Mapped, overflow.stack.mapped());
    set(Note::Address, overflow.address);
}

/// Process and CPU of a keeper.
#[derive(Clone, Copy, Debug)]
struct Seat {
    /// Whether it is in the process whose stacks it keeps.
    inside: bool,
    cpu: u32,
}

fn seats(lab: &Lab<'_>) -> impl Iterator<Item = Seat> + use<> {
    let cpus = [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 });
    cpus.flat_map(|cpu| [false, true].map(|inside| Seat { inside, cpu }))
}

const HERE: Seat = Seat { inside: false, cpu: 0 };

/// Makes a process with a keeper, and returns the exposure at which this program calls the keeper.
fn kept(lab: &mut Lab<'_>, seat: Seat, adopt: Option<(Span, u64)>) -> Result<(Place, Exposure), Failure> {
    let place = lab.process(false)?;
    let memory: Untyped = lab.nursery.make(KEEPER_LOG2)?;
    Block::at(KEEPER).clear();
    Block::at(CLIMBER).clear();
    let (vspace, untyped, slots) = if seat.inside {
        transfer(memory, lab.child(place)?.cnode.slot(KEEPER_UNTYPED))?;
        (slot::VSPACE, KEEPER_UNTYPED, KEEPER_SLOTS..CHILD_SLOTS)
    } else {
        let first = (0..PAGES).try_fold(None, |first: Option<Cap>, _| {
            lab.nursery.take_slot().map(|slot| first.or(Some(slot)))
        })?;
        let first = first.map_or(0, |cap| cap.0);
        (lab.child(place)?.vspace.cap(), memory.cap(), first..first + PAGES as u32)
    };
    for (which, value) in [
        (Note::VSpace, vspace.0),
        (Note::Untyped, untyped.0),
        (Note::SlotsFrom, slots.start),
        (Note::SlotsTo, slots.end),
    ] {
        set(which, u64::from(value));
    }
    if let Some((span, mapped)) = adopt {
        set(Note::AdoptLow, span.low);
        set(Note::AdoptTop, span.top);
        set(Note::AdoptMapped, mapped);
    }
    let home = if seat.inside { place } else { Place::Own };
    let task = lab.task(&Wanted { place: home, cpu: seat.cpu, ..Wanted::default() }, keeper, 0)?.task;
    let group = lab.group()?;
    group.expose_task(KEEPER_AT, &task)?;
    task.resume()?;
    lab.child(place)?.process.fault_handler(Some(Target::new(CHILD_GROUP, KEEPER_AT)))?;
    // The keeper is ready.
    let keeper = group.exposure(KEEPER_AT);
    keeper.call(&Message::default())?;
    Ok((place, keeper))
}

/// Takes a stack from the keeper.
fn take(keeper: Exposure, bytes: u64) -> Result<Span, Failure> {
    let answer = keeper.call(&Message::new(Label::Take as u32, [bytes, 0, 0, 0]))?;
    expect_eq!(answer.label, 0, "taking a stack of {bytes:#x} bytes");
    let [low, top, ..] = answer.regs;
    expect!(top - low >= bytes, "it has {:#x} bytes", top - low);
    Ok(Span { low, top })
}

/// Makes a task on a stack with `pages` mapped pages.
fn climber(
    lab: &mut Lab<'_>,
    place: Place,
    index: u32,
    stack: Span,
    pages: u32,
    run: (Entry, u64),
) -> Result<Task, Failure> {
    let spec = TaskSpec {
        index,
        cpu: 0,
        priority: PRIORITY,
        stack_pages: pages,
        run: Run::Function(run.0),
        argument: run.1,
    };
    let Place::Child(number) = place else { return Err(Failure::Of("not in this process".into())) };
    let Lab { nursery, children, .. } = lab;
    let home: Home<'_> = children[number].home();
    let task = task_on(nursery, &home, &spec, stack)?.task;
    lab.group()?.expose_task(CLIMBER_AT, &task)?;
    task.resume()?;
    Ok(task)
}

/// Determines the task's fate.
fn outcome(lab: &mut Lab<'_>) -> Result<Fate, Failure> {
    let group = lab.group()?;
    let patience = Patience::Until(arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz);
    let called = group.exposure(CLIMBER_AT).call_within(&Message::default(), patience);
    group.withdraw(CLIMBER_AT)?;
    match called {
        Ok(_) => Ok(Fate::Alive),
        Err(refusal) if refusal.error == Error::Dead => Ok(Fate::Dead),
        Err(refusal) => Err(Failure::Of(alloc::format!("neither alive nor dead: {refusal}"))),
    }
}

// --- what they run -------------------------------------------------------------------------------

/// Least bytes of a frame of [`climb`].
const FRAME: usize = 700;

/// Recurses to a depth. Returns a sum over the memory of every frame, read after all deeper frames
/// have returned.
#[inline(never)]
fn climb(depth: u64) -> u64 {
    let frame = black_box([depth; FRAME / 8]);
    if depth == 0 {
        return 0;
    }
    climb(depth - 1) + black_box(&frame).iter().sum::<u64>() / (FRAME / 8) as u64
}

fn sum_to(depth: u64) -> u64 {
    depth * (depth + 1) / 2
}

/// Climbs to the depth of its argument. Word 0 of its block: whether the sum is right; 1: the room
/// that it had.
extern "C" fn climbs(depth: u64) -> ! {
    let block = Block::at(CLIMBER);
    block.note(1).store(room(), Relaxed);
    block.note(0).store(u64::from(climb(depth) == sum_to(depth)), Relaxed);
    survive()
}

/// Writes to the address.
extern "C" fn touches(address: u64) -> ! {
    // SAFETY: none: the effect is what the test is about.
    unsafe { (address as *mut u8).write_volatile(1) };
    survive()
}

/// Writes to an address relative to its stack's lowest mapped address, which word 0 of its block
/// holds, with the stack pointer there.
extern "C" fn sinks(address: u64) -> ! {
    // SAFETY: it faults; otherwise the stack pointer is restored.
    unsafe {
        core::arch::asm!("mov {kept}, rsp", "mov rsp, {there}", "mov byte ptr [rsp], 1", "mov rsp, {kept}",
            kept = out(reg) _, there = in(reg) address);
    }
    survive()
}

// --- tests ---------------------------------------------------------------------------------------

/// Checks that a handler of the process's faults sees a page fault near the stack pointer.
fn a_guard_below_every_stack(lab: &mut Lab<'_>) -> Outcome {
    for pages in [1u32, 2, 4, 14] {
        let (place, _) = kept(lab, HERE, None)?;
        let Span { top, .. } = stack_span(40);
        let low = top - u64::from(pages) * PAGE_SIZE;
        // A neighbour below, whose UTCB is next to the guard.
        let neighbour = stack_span(39);
        let utcb = neighbour.top;
        expect!(utcb + PAGE_SIZE <= low - PAGE_SIZE, "there is a page between {utcb:#x} and {low:#x}");
        climber(lab, place, 40, Span { low, top }, pages, (sinks, low - 1))?;
        expect_eq!(outcome(lab)?, Fate::Dead, "a stack of {pages} pages, one byte further");
        let kind = FaultKind::from_label((note(Note::Other) as u32).wrapping_sub(1));
        expect_eq!(kind, Some(FaultKind::StackOverflow), "which is told as");
        lab.reset()?;
        let (place, _) = kept(lab, HERE, None)?;
        climber(lab, place, 40, Span { low, top }, pages, (sinks, low))?;
        expect_eq!(outcome(lab)?, Fate::Alive, "a stack of {pages} pages, its last byte");
        lab.reset()?;
    }
    Ok(())
}

fn stacks_grow(lab: &mut Lab<'_>) -> Outcome {
    const RESERVE: u64 = 64 * PAGE_SIZE;
    // Deep enough for at least half of it.
    const DEPTH: u64 = RESERVE / 2 / FRAME as u64;
    for seat in seats(lab) {
        let (place, keeper) = kept(lab, seat, None)?;
        let stack = take(keeper, RESERVE)?;
        expect_eq!((note(Note::Pages), note(Note::Faults)), (1, 0), "{seat:?}: pages at first, and faults");
        climber(lab, place, 40, stack, 0, (climbs, DEPTH))?;
        expect_eq!(outcome(lab)?, Fate::Alive, "{seat:?}: a deep recursion");
        let block = Block::at(CLIMBER);
        expect_eq!(block.note(0).load(Relaxed), 1, "{seat:?}: every frame was its own");
        let had = block.note(1).load(Relaxed);
        expect!(
            (RESERVE - PAGE_SIZE..RESERVE).contains(&had),
            "{seat:?}: at the start it had room for {had:#x}"
        );
        let (pages, faults) = (note(Note::Pages), note(Note::Faults));
        expect!((32..64).contains(&pages), "{seat:?}: it has {pages} pages");
        expect_eq!(faults, pages - 1, "{seat:?}: a fault for each page but the first");
        lab.reset()?;
    }
    Ok(())
}

fn beyond_its_reserve(lab: &mut Lab<'_>) -> Outcome {
    const RESERVE: u64 = 8 * PAGE_SIZE;
    for seat in seats(lab) {
        let (place, keeper) = kept(lab, seat, None)?;
        let stack = take(keeper, RESERVE)?;
        // Above it is another stack, which must stay intact.
        let above = take(keeper, RESERVE)?;
        expect_eq!(above.low - PAGE_SIZE, stack.top, "{seat:?}: the next stack");
        climber(lab, place, 40, stack, 0, (climbs, u64::MAX))?;
        expect_eq!(outcome(lab)?, Fate::Dead, "{seat:?}: a recursion without end");
        // A keeper in the process has ended with it.
        expect_eq!((note(Note::Why), note(Note::Reserve)), (1, RESERVE), "{seat:?}: why, and which");
        expect_eq!(note(Note::Mapped), RESERVE, "{seat:?}: all of it was in use");
        let touched = note(Note::Address);
        expect!((stack.low - PAGE_SIZE..stack.low).contains(&touched), "{seat:?}: {touched:#x} was touched");
        lab.reset()?;
    }
    Ok(())
}

fn stacks_in_their_places_grow(lab: &mut Lab<'_>) -> Outcome {
    let stack = stack_span(40);
    for (depth, wanted) in [(40, Fate::Alive), (200, Fate::Dead)] {
        let (place, _) = kept(lab, HERE, Some((stack, 2 * PAGE_SIZE)))?;
        expect_eq!(note(Note::Adopted), 1, "adopting");
        climber(lab, place, 40, stack, 2, (climbs, depth))?;
        expect_eq!(outcome(lab)?, wanted, "{depth} frames in 14 pages");
        let grown = stack.top - stack.low - 2 * PAGE_SIZE;
        let most = grown / PAGE_SIZE;
        if wanted == Fate::Alive {
            expect!((5..most).contains(&note(Note::Pages)), "it grew by {} pages", note(Note::Pages));
        } else {
            expect_eq!(
                (note(Note::Why), note(Note::Pages)),
                (1, most),
                "why it ended, and by how much it grew"
            );
        }
        lab.reset()?;
    }
    Ok(())
}

fn memory_for_stacks_runs_out(lab: &mut Lab<'_>) -> Outcome {
    // The keeper has more pages of address space than memory.
    let (place, keeper) = kept(lab, HERE, None)?;
    let stack = take(keeper, 2 * PAGES as u64 * PAGE_SIZE)?;
    climber(lab, place, 40, stack, 0, (climbs, u64::MAX))?;
    expect_eq!(outcome(lab)?, Fate::Dead, "a recursion without end");
    expect_eq!((note(Note::Why), note(Note::Pages)), (3, PAGES as u64), "why, and with how many pages");
    Ok(())
}

fn wild_pointers_are_no_stacks(lab: &mut Lab<'_>) -> Outcome {
    let kinds = |kind: FaultKind| 1 + u64::from(kind.label());
    // Into the reserve of a stack from another one; into its guard; into an unused range.
    for (at, sinks_there, other) in
        [(0, false, FaultKind::Page), (-1, false, FaultKind::Page), (-2, true, FaultKind::StackOverflow)]
    {
        let (place, keeper) = kept(lab, HERE, None)?;
        let (own, another) = (take(keeper, 8 * PAGE_SIZE)?, take(keeper, 8 * PAGE_SIZE)?);
        let address = match at {
            0 => another.low,
            -1 => another.low - 1,
            _ => STACKS_VA - PAGE_SIZE,
        };
        let entry: Entry = if sinks_there { sinks } else { touches };
        climber(lab, place, 40, own, 0, (entry, address))?;
        expect_eq!(outcome(lab)?, Fate::Dead, "a pointer to {address:#x}");
        expect_eq!(
            (note(Note::Other), note(Note::Why)),
            (kinds(other), 0),
            "at {address:#x}: not the keeper's"
        );
        expect_eq!(note(Note::Pages), 2, "no page was mapped");
        lab.reset()?;
    }
    // A task that needs more of its stack than is mapped.
    let (place, keeper) = kept(lab, HERE, None)?;
    let stack = take(keeper, 8 * PAGE_SIZE)?;
    climber(lab, place, 40, stack, 0, (sinks, stack.top))?;
    expect_eq!(outcome(lab)?, Fate::Dead, "a stack pointer at its top");
    expect_eq!(note(Note::Why), 2, "an underflow");
    Ok(())
}

/// Recurses, and requests room for each call. Returns the sum as [`climb`] does, and counts how
/// often the stack changed.
#[inline(never)]
fn climb_in_pieces(segments: &Segments, depth: u64, changes: &mut u64) -> user_rt::Result<u64> {
    let frame = black_box([depth; FRAME / 8]);
    if depth == 0 {
        return Ok(0);
    }
    let here = pointer();
    let below = segments.call(2 * PAGE_SIZE, || {
        if here.abs_diff(pointer()) > PAGE_SIZE {
            *changes += 1;
        }
        climb_in_pieces(segments, depth - 1, changes)
    })??;
    Ok(below + black_box(&frame).iter().sum::<u64>() / (FRAME / 8) as u64)
}

/// Climbs three times, on its own stack and stacklets. Words of its block: 0: whether the sums are
/// right, 1: how often the stack changed, 2: 1 + an error.
extern "C" fn climbs_in_pieces(depth: u64) -> ! {
    let block = Block::at(CLIMBER);
    let segments = Segments::new(Group::at(CHILD_GROUP).exposure(KEEPER_AT));
    let (mut changes, mut right) = (0, true);
    for _ in 0..3 {
        match climb_in_pieces(&segments, depth, &mut changes) {
            Ok(sum) => right &= sum == sum_to(depth),
            Err(refusal) => block.note(2).store(1 + refusal.error as u64, Relaxed),
        }
    }
    block.note(0).store(u64::from(right), Relaxed);
    block.note(1).store(changes, Relaxed);
    if segments.trim().is_err() {
        block.note(2).store(u64::MAX, Relaxed);
    }
    survive()
}

fn stacks_in_pieces(lab: &mut Lab<'_>) -> Outcome {
    const PIECE: u64 = 4 * PAGE_SIZE;
    // At least half of each piece is used before the next call does not fit.
    const DEPTH: u64 = 6 * PIECE / 2 / FRAME as u64;
    for seat in seats(lab) {
        let (place, keeper) = kept(lab, seat, None)?;
        let stack = take(keeper, PIECE)?;
        let before = (note(Note::Stacks), note(Note::Pages));
        climber(lab, place, 40, stack, 0, (climbs_in_pieces, DEPTH))?;
        expect_eq!(outcome(lab)?, Fate::Alive, "{seat:?}: a recursion in pieces");
        let [right, changes, error] = [0, 1, 2].map(|word| Block::at(CLIMBER).note(word).load(Relaxed));
        expect_eq!((right, error), (1, 0), "{seat:?}: the sums, and no error");
        expect!((12..60).contains(&changes), "{seat:?}: the stack changed {changes} times");
        let after = (note(Note::Stacks), note(Note::Pages));
        expect_eq!(after.0, before.0, "{seat:?}: stacklets that are left");
        expect!(after.1 <= before.1 + 3, "{seat:?}: {} pages before, {} after", before.1, after.1);
        expect!(note(Note::Free) >= 6, "{seat:?}: {} pages came back", note(Note::Free));
        lab.reset()?;
    }
    Ok(())
}

fn pieces_run_out(lab: &mut Lab<'_>) -> Outcome {
    let (place, keeper) = kept(lab, HERE, None)?;
    let stack = take(keeper, 4 * PAGE_SIZE)?;
    climber(lab, place, 40, stack, 0, (climbs_in_pieces, 100_000))?;
    expect_eq!(outcome(lab)?, Fate::Alive, "who gets no more is told so");
    let error = Block::at(CLIMBER).note(2).load(Relaxed);
    expect_eq!(error, 1 + Error::Full as u64, "what it is told");
    expect_eq!(note(Note::Stacks), 1, "all stacklets came back");
    Ok(())
}

fn places_come_back(lab: &mut Lab<'_>) -> Outcome {
    let (place, keeper) = kept(lab, HERE, None)?;
    let give =
        |low: u64| keeper.call(&Message::new(Label::Give as u32, [low, 0, 0, 0])).map(|answer| answer.label);
    for round in 0..5 {
        let stack = take(keeper, 32 * PAGE_SIZE)?;
        expect_eq!(stack.low, STACKS_VA + PAGE_SIZE, "round {round}: its place");
        let task = climber(lab, place, 40 + round, stack, 0, (climbs, 100))?;
        expect_eq!(outcome(lab)?, Fate::Alive, "round {round}");
        expect_eq!(Block::at(CLIMBER).note(0).load(Relaxed), 1, "round {round}: the sum");
        task.kill()?;
        lab.settle();
        expect_eq!(give(stack.low)?, 0, "giving it back");
        expect_eq!((note(Note::Stacks), note(Note::Pages)), (0, 0), "round {round}: what is left");
        expect_eq!(give(stack.low)?, Error::BadAddress as u32, "twice");
    }
    for wrong in [0, STACKS_VA, u64::MAX] {
        expect_eq!(give(wrong)?, Error::BadAddress as u32, "what was never taken");
    }
    for bytes in [1 << 40, u64::MAX] {
        let answer = keeper.call(&Message::new(Label::Take as u32, [bytes, 0, 0, 0]))?;
        expect_eq!(answer.label, Error::Full as u32, "{bytes:#x} bytes");
    }
    Ok(())
}
