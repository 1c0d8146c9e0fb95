//! Two tasks that alternate: through Notifications, through yields, through long messages. A kernel
//! may have a fast path for these, so the tests check that it loses nothing: values, registers, the
//! ends of slices, accounts of CPU time; within one address space and between two, with and without
//! vector state.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Cap, MSG_UTCB_WORDS, MsgInfo, Op, Rights, task_rights};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Answer, Args};
use user_rt::boot;
use user_rt::cap::{Handle, Notification, SchedContext, Task};
use user_rt::invoke::copy;
use user_rt::utcb;

use crate::block::Block;
use crate::lab::{CHILD_FREE, Lab, PUPPETS_MAX, Place, Wanted};
use crate::puppet::observed;
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    by_notifications by_yielding by_long_messages with_a_third with_somebody_lower
    a_waker_that_never_waits time_of_turns_is_accounted
}

/// Words of the block of one of the two tasks, a *turner*.
const COUNT: usize = 0;
/// The capability that it waits for, and the one that it raises or yields to, as arguments.
const OWN: usize = 1;
const OTHER: usize = 2;
/// Turns that went wrong, and the first of them.
const WRONG: usize = 3;
const FIRST: usize = 4;

const PRIORITY: u8 = 50;

fn word(block: &'static Block, index: usize) -> u64 {
    block.note(index).load(Relaxed)
}

fn count_turn(block: &'static Block, good: bool, found: u64) {
    if !good {
        if word(block, WRONG) == 0 {
            block.note(FIRST).store(found, Relaxed);
        }
        block.note(WRONG).fetch_add(1, Relaxed);
    }
    block.note(COUNT).store(word(block, COUNT) + 1, Relaxed);
}

/// Checks that the answer is one value in rdx, and nothing else.
fn only_rdx((answer, dirt): (Answer, u64)) -> Result<u64, u64> {
    let rest = answer.info.0 | answer.rdi | answer.rsi | answer.r8 | answer.r9 | answer.r10 | answer.r12;
    if rest | dirt == 0 { Ok(answer.rdx) } else { Err(rest | dirt) }
}

fn pattern(op: Op, rdi: u64, rsi: u64) -> Args {
    Args { rdx: 0xd1, r8: 0xd2, r9: 0xd3, r10: 0xd4, ..Args::plain(op, rdi, rsi, 0, 0) }
}

/// Waits for a number and sends the next.
extern "C" fn by_note(number: u64) -> ! {
    let block = Block::at(number as u32);
    let (own, other) = (word(block, OWN), word(block, OTHER));
    let mut expected = None;
    loop {
        let got = only_rdx(observed(&pattern(Op::Wait, own, 0)));
        let value = got.unwrap_or(0);
        let good = got.is_ok() && expected.is_none_or(|expected| value == expected);
        expected = Some(value + 2);
        let sent = only_rdx(observed(&pattern(Op::Notify, other, value + 1)));
        count_turn(block, good && sent == Ok(0), value);
    }
}

/// Yields to the other task repeatedly.
extern "C" fn by_yield(number: u64) -> ! {
    let block = Block::at(number as u32);
    loop {
        let got = only_rdx(observed(&pattern(Op::YieldTo, word(block, OTHER), 0)));
        count_turn(block, got == Ok(0), got.unwrap_or_else(|dirt| dirt));
    }
}

/// Raises the other's bits and never waits.
extern "C" fn waker(number: u64) -> ! {
    let block = Block::at(number as u32);
    loop {
        let got = only_rdx(observed(&pattern(Op::Notify, word(block, OTHER), 1)));
        count_turn(block, got == Ok(0), got.unwrap_or_else(|dirt| dirt));
    }
}

/// Takes any bits.
extern "C" fn taker(number: u64) -> ! {
    let block = Block::at(number as u32);
    loop {
        let got = only_rdx(observed(&pattern(Op::Wait, word(block, OWN), 0)));
        count_turn(block, matches!(got, Ok(bits) if bits != 0), got.unwrap_or_else(|dirt| dirt));
    }
}

/// Counts forever.
extern "C" fn spinner(number: u64) -> ! {
    let block = Block::at(number as u32);
    loop {
        count_turn(block, true, 0);
        arch::pause();
    }
}

struct Turner {
    task: Task,
    sched: SchedContext,
    number: u32,
}

impl Turner {
    fn block(&self) -> &'static Block {
        Block::at(self.number)
    }

    fn turns(&self) -> u64 {
        word(self.block(), COUNT)
    }
}

/// Makes a task that does not run yet. Turners have the last blocks.
fn turner(
    lab: &mut Lab<'_>,
    place: Place,
    entry: user_rt::spawn::Entry,
    number: u32,
    priority: u8,
) -> Result<Turner, Failure> {
    let number = PUPPETS_MAX - 1 - number;
    Block::at(number).clear();
    let made = lab.task(&Wanted { place, cpu: 0, priority }, entry, u64::from(number))?;
    Ok(Turner { task: made.task, sched: made.sched, number })
}

/// Gives a turner a capability, in the slot that it uses.
fn give<T: Handle>(
    lab: &Lab<'_>,
    place: Place,
    slot: u32,
    object: &T,
    rights: impl Into<T::Rights>,
) -> Result<u64, Failure> {
    if place == Place::Own {
        return Ok(object.arg());
    }
    let slot = Cap(CHILD_FREE + slot);
    copy(object, lab.child(place)?.cnode.slot(slot), rights, 0)?;
    Ok(slot.arg())
}

/// Makes two turners that wait for and raise two Notifications. Neither runs yet.
fn pair_by_notes(
    lab: &mut Lab<'_>,
    places: [Place; 2],
    entries: [user_rt::spawn::Entry; 2],
) -> Result<([Turner; 2], [Notification; 2]), Failure> {
    let turners =
        [turner(lab, places[0], entries[0], 0, PRIORITY)?, turner(lab, places[1], entries[1], 1, PRIORITY)?];
    let notes: [Notification; 2] = [lab.nursery.make(0)?, lab.nursery.make(0)?];
    for (me, turner) in turners.iter().enumerate() {
        // Each has its own slots: both may be in one process.
        let slot = 8 * me as u32;
        let own = give(lab, places[me], slot, &notes[me], Rights::LISTEN)?;
        let other = give(lab, places[me], slot + 1, &notes[1 - me], Rights::NOTIFY)?;
        turner.block().note(OWN).store(own, Relaxed);
        turner.block().note(OTHER).store(other, Relaxed);
    }
    Ok((turners, notes))
}

fn resume(turners: &[Turner]) -> Outcome {
    for turner in turners {
        turner.task.resume()?;
    }
    Ok(())
}

/// Stops turners that never wait. What their end needs from another CPU may take long under an
/// instruction count, as long as a task of this CPU runs without a pause.
fn stop(turners: &[Turner]) -> Outcome {
    for turner in turners {
        turner.task.suspend()?;
    }
    Ok(())
}

/// Waits for four default slices.
fn a_while(lab: &Lab<'_>) {
    lab.sleep(boot::facts().tsc_hz / 25);
}

/// Waits for a while, and then longer until a condition holds: an emulator's CPU may stand still
/// for many slices. Continues after fifty tries if the condition never holds.
fn until(lab: &Lab<'_>, holds: impl Fn() -> bool) {
    for _ in 0..50 {
        a_while(lab);
        if holds() {
            break;
        }
    }
}

/// Waits until each has had more than that many turns.
fn until_turns(lab: &Lab<'_>, turners: &[Turner; 2], least: u64) {
    until(lab, || turners.iter().all(|turner| turner.turns() > least));
}

/// Checks that both alternated without an error. One may have passed its turn on and be stopped
/// before it counts that, while the other takes the next turn.
fn took_turns(turners: &[Turner; 2], least: u64, what: &str) -> Outcome {
    went_on(turners, least, 2, what)
}

fn went_on(turners: &[Turner; 2], least: u64, apart: u64, what: &str) -> Outcome {
    for turner in turners {
        let (wrong, first) = (word(turner.block(), WRONG), word(turner.block(), FIRST));
        expect_eq!((wrong, first), (0, 0), "{what}: turns that went wrong, and the first");
    }
    let turns = [turners[0].turns(), turners[1].turns()];
    expect!(turns[0] > least && turns[0].abs_diff(turns[1]) <= apart, "{what}: turns {turns:?}");
    Ok(())
}

/// Makes the processes of two turners, for every case.
fn all_places(lab: &mut Lab<'_>, case: usize) -> Result<[Place; 2], Failure> {
    Ok(match case {
        0 => [Place::Own, Place::Own],
        1 => [Place::Own, lab.process(false)?],
        2 => [lab.process(false)?, lab.process(false)?],
        3 => [lab.process(false)?, lab.process(true)?],
        4 => [lab.process(true)?, lab.process(true)?],
        _ => {
            let place = lab.process(true)?;
            [place, place]
        }
    })
}

const CASES: usize = 6;

fn by_notifications(lab: &mut Lab<'_>) -> Outcome {
    for case in 0..CASES {
        let places = all_places(lab, case)?;
        let (turners, notes) = pair_by_notes(lab, places, [by_note, by_note])?;
        resume(&turners)?;
        notes[0].notify(1)?;
        until_turns(lab, &turners, 100);
        took_turns(&turners, 100, &alloc::format!("{places:?}"))?;
        lab.reset()?;
    }
    Ok(())
}

fn by_yielding(lab: &mut Lab<'_>) -> Outcome {
    for case in 0..CASES {
        let places = all_places(lab, case)?;
        let turners =
            [turner(lab, places[0], by_yield, 0, PRIORITY)?, turner(lab, places[1], by_yield, 1, PRIORITY)?];
        for me in 0..2 {
            let other = &turners[1 - me].task;
            let arg = give(lab, places[me], 8 * me as u32, other, task_rights::SCHEDULE)?;
            turners[me].block().note(OTHER).store(arg, Relaxed);
        }
        resume(&turners)?;
        until_turns(lab, &turners, 100);
        // The end of a slice may be between a turn and its count.
        went_on(&turners, 100, 50, &alloc::format!("{places:?}"))?;
        stop(&turners)?;
        lab.reset()?;
    }
    Ok(())
}

/// Calls with every number of words, and checks that each word returns plus one.
extern "C" fn long_caller(number: u64) -> ! {
    let block = Block::at(number as u32);
    let words = utcb::current().message();
    loop {
        let turn = word(block, COUNT);
        let count = turn as usize % (MSG_UTCB_WORDS + 1);
        for (index, word) in words.iter().enumerate() {
            word.store(turn << 8 | index as u64, Relaxed);
        }
        let info = MsgInfo::new(turn as u32, count as u8);
        let args = Args {
            info: info.op(Op::Call),
            rdi: word(block, OTHER),
            rsi: 7,
            rdx: turn,
            r8: 2,
            r9: 3,
            r10: 4,
        };
        let (answer, dirt) = observed(&args);
        let regs = answer.message_registers() == [turn, 2, 3, 4];
        let zero = answer.rdi | answer.rsi | answer.r12 | dirt == 0;
        let right = |(index, word): (usize, &core::sync::atomic::AtomicU64)| {
            word.load(Relaxed) == (turn << 8 | index as u64) + u64::from(index < count)
        };
        let good = answer.info == info && regs && zero && words.iter().enumerate().all(right);
        count_turn(block, good, answer.info.0);
    }
}

/// Answers each word plus one.
extern "C" fn long_server(number: u64) -> ! {
    let block = Block::at(number as u32);
    let words = utcb::current().message();
    let mut args = Args::new(Op::ReplyRecv);
    loop {
        let (answer, dirt) = observed(&args);
        for word in words.iter().take(answer.info.words()) {
            word.store(word.load(Relaxed) + 1, Relaxed);
        }
        let [rdx, r8, r9, r10] = answer.message_registers();
        let good = answer.info.status().is_ok() && answer.info.words() <= MSG_UTCB_WORDS && answer.rdi == 40;
        count_turn(block, good && dirt == 0, answer.info.0);
        args = Args { info: answer.info.op(Op::ReplyRecv), rdi: 5, rsi: 6, rdx, r8, r9, r10 };
    }
}

fn by_long_messages(lab: &mut Lab<'_>) -> Outcome {
    for case in 0..CASES {
        let places = all_places(lab, case)?;
        let group = lab.group()?;
        let caller = turner(lab, places[0], long_caller, 0, PRIORITY)?;
        let server = turner(lab, places[1], long_server, 1, PRIORITY)?;
        group.expose_task(40, &server.task)?;
        let slot = if places[0] == Place::Own { group.cap() } else { crate::lab::CHILD_GROUP };
        caller.block().note(OTHER).store(abi::Target::new(slot, 40).0, Relaxed);
        let turners = [caller, server];
        resume(&turners)?;
        until_turns(lab, &turners, 2 * MSG_UTCB_WORDS as u64);
        took_turns(&turners, 2 * MSG_UTCB_WORDS as u64, &alloc::format!("{places:?}"))?;
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a third task of equal priority has its share: slices end while two alternate.
fn with_a_third(lab: &mut Lab<'_>) -> Outcome {
    let slice = boot::facts().tsc_hz / 1000;
    let (turners, notes) = pair_by_notes(lab, [Place::Own; 2], [by_note, by_note])?;
    let third = turner(lab, Place::Own, spinner, 2, PRIORITY)?;
    for sched in [&turners[0].sched, &turners[1].sched, &third.sched] {
        sched.configure(PRIORITY, slice)?;
    }
    resume(&turners)?;
    notes[0].notify(1)?;
    third.task.resume()?;
    until(lab, || third.turns() > 100);
    expect!(third.turns() > 100, "a third beside two that take turns ran {} times", third.turns());
    took_turns(&turners, 2, "beside a third")?;
    // The two continue as before when it has ended.
    third.task.kill()?;
    let before = turners[0].turns();
    until_turns(lab, &turners, before + 100);
    took_turns(&turners, before + 100, "after a third")
}

/// Checks that a task of lower priority is always ready and never runs.
fn with_somebody_lower(lab: &mut Lab<'_>) -> Outcome {
    let low = turner(lab, Place::Own, spinner, 2, PRIORITY - 1)?;
    low.task.resume()?;
    let (turners, notes) = pair_by_notes(lab, [Place::Own; 2], [by_note, by_note])?;
    resume(&turners)?;
    notes[0].notify(1)?;
    let before = low.turns();
    until_turns(lab, &turners, 100);
    took_turns(&turners, 100, "above somebody lower")?;
    expect_eq!(low.turns(), before, "turns of somebody lower");
    Ok(())
}

/// Checks that a task that an equal wakes runs when the waker's slice ends.
fn a_waker_that_never_waits(lab: &mut Lab<'_>) -> Outcome {
    let slice = boot::facts().tsc_hz / 1000;
    let (turners, _) = pair_by_notes(lab, [Place::Own; 2], [waker, taker])?;
    for turner in &turners {
        turner.sched.configure(PRIORITY, slice)?;
    }
    let start = arch::now();
    resume(&turners)?;
    let turns = || [turners[0].turns(), turners[1].turns()];
    until(lab, || turns()[1] >= 20);
    // After each of the waker's slices the taker has the bits that woke it and those raised since.
    let (turns, slices) = (turns(), (arch::now() - start) / slice);
    expect!(
        turns[0] > 100 && turns[1] >= 20 && turns[1] <= 3 * slices,
        "waker and taker: {turns:?} in {slices} slices"
    );
    expect_eq!(word(turners[0].block(), WRONG) + word(turners[1].block(), WRONG), 0, "turns that went wrong");
    Ok(())
}

/// Measurements of how two tasks share the time, until one is fair.
const LOOKS: u32 = 5;

/// Checks that the time of two alternating tasks adds up to the elapsed time, some of it for each.
fn time_of_turns_is_accounted(lab: &mut Lab<'_>) -> Outcome {
    for yielding in [false, true] {
        let (turners, notes) = if yielding {
            let turners = [
                turner(lab, Place::Own, by_yield, 0, PRIORITY)?,
                turner(lab, Place::Own, by_yield, 1, PRIORITY)?,
            ];
            for me in 0..2 {
                turners[me].block().note(OTHER).store(turners[1 - me].task.arg(), Relaxed);
            }
            (turners, None)
        } else {
            let (turners, notes) = pair_by_notes(lab, [Place::Own; 2], [by_note, by_note])?;
            (turners, Some(notes))
        };
        resume(&turners)?;
        if let Some(notes) = notes {
            notes[0].notify(1)?;
        }
        a_while(lab);
        let used = || -> Result<[u64; 2], Failure> {
            Ok([turners[0].sched.info()?.used, turners[1].sched.info()?.used])
        };
        let look = || -> Result<[u64; 2], Failure> {
            let (before, start) = (used()?, arch::now());
            a_while(lab);
            let (after, passed) = (used()?, arch::now() - start);
            let spent = [after[0] - before[0], after[1] - before[1]];
            let sum = spent[0] + spent[1];
            expect!(
                sum > passed * 8 / 10 && sum <= passed,
                "yielding {yielding}: {spent:?} of {passed} ticks"
            );
            Ok(spent)
        };
        // Halves under an instruction count. An emulator's clock is the host's. The host may be
        // away in one task's turn, but not every time.
        let is_fair = |spent: [u64; 2]| spent[0].min(spent[1]) > (spent[0] + spent[1]) / 5;
        let mut spent = look()?;
        for _ in 1..LOOKS {
            if !is_fair(spent) {
                spent = look()?;
            }
        }
        expect!(is_fair(spent), "yielding {yielding}: one has nearly all: {spent:?}");
        stop(&turners)?;
        lab.reset()?;
    }
    Ok(())
}
