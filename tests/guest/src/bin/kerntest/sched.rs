//! CPU time: priorities, slices, donation along calls.
//!
//! Spinners count while they run; their counts show how long each ran.

use core::cell::Cell;
use core::sync::atomic::Ordering::Relaxed;

use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::status::{Doing, KERNEL, SchedEvent};
use abi::time::{WHOLE_CPU, room_left};
use abi::{Counter, Error, Op};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Args, timestamp};
use user_rt::boot;
use user_rt::cap::{EventPool, Handle, SchedContext, SchedControl, Task};
use user_rt::events::Pool;
use user_rt::invoke::Settings;
use user_rt::layout::SHARED_VA;
use user_rt::spawn::{Entry, own};
use user_rt::watch::{busy_permille, events};

use crate::block::Block;
use crate::ipc::{answered, call, is_call_of, message, regs};
use crate::lab::{Lab, Place, Puppet, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    higher_priorities_preempt equals_take_turns slices_are_kept changed_priorities_count_at_once
    yield_goes_to_equals who_wants_a_notice_gets_one yield_to_goes_where_it_says yield_to_refuses a_call_takes_the_callers_priority_along
    a_task_without_time_serves_on_its_callers suspended_tasks_do_not_run time_is_accounted
    waking_a_higher_priority_preempts authority_ends_at_its_ceiling_and_cpus
    a_budget_holds_beside_hungry_peers a_task_moves_to_another_cpu a_policy_sees_what_runs
}

/// Counts forever, into its block.
extern "C" fn spinner(number: u64) -> ! {
    loop {
        count_on(number, 256);
    }
}

/// Counts, and yields the CPU each time.
extern "C" fn yielder(number: u64) -> ! {
    loop {
        count_on(number, 16);
        let _ = user_rt::invoke::yield_now();
    }
}

/// Counts, and yields when the kernel gives notice. Notes how often that was.
extern "C" fn heeder(number: u64) -> ! {
    let heeded = Block::at(number as u32).note(1);
    user_rt::utcb::current().want_notice(true);
    loop {
        count_on(number, 256);
        if user_rt::invoke::yield_if_asked() {
            heeded.store(heeded.load(Relaxed) + 1, Relaxed);
        }
    }
}

/// Counts one more. Every so many times it pauses, for emulators that run CPUs in turn: beside a
/// loop without PAUSE the other CPU does not run.
fn count_on(number: u64, pause_at: u64) {
    let count = Block::at(number as u32).note(0);
    let next = count.load(Relaxed) + 1;
    count.store(next, Relaxed);
    if next.is_multiple_of(pause_at) {
        arch::pause();
    }
}

struct Spinner {
    task: Task,
    sched: SchedContext,
    number: u32,
}

impl Spinner {
    fn count(&self) -> u64 {
        Block::at(self.number).note(0).load(Relaxed)
    }
}

/// Starts a spinner on CPU 0.
fn spin(lab: &mut Lab<'_>, entry: Entry, number: u32, priority: u8) -> Result<Spinner, Failure> {
    spin_on(lab, 0, entry, number, priority)
}

/// Starts a spinner. Spinners have the last blocks, puppets the first.
fn spin_on(lab: &mut Lab<'_>, cpu: u32, entry: Entry, number: u32, priority: u8) -> Result<Spinner, Failure> {
    let number = crate::lab::PUPPETS_MAX - 1 - number;
    Block::at(number).clear();
    let wanted = Wanted { place: Place::Own, cpu, priority };
    let made = lab.task(&wanted, entry, u64::from(number))?;
    lab.busy = true;
    made.task.resume()?;
    Ok(Spinner { task: made.task, sched: made.sched, number })
}

/// Waits for two hundredths of a second: two default slices.
fn a_while(lab: &Lab<'_>) {
    lab.sleep(boot::facts().tsc_hz / 50);
}

/// Returns how far each spinner counts meanwhile.
fn counts(lab: &Lab<'_>, spinners: &[&Spinner]) -> alloc::vec::Vec<u64> {
    let before: alloc::vec::Vec<u64> = spinners.iter().map(|spinner| spinner.count()).collect();
    a_while(lab);
    spinners.iter().zip(before).map(|(spinner, before)| spinner.count() - before).collect()
}

/// Returns the time that each spinner uses in a tenth of a second.
fn used(lab: &Lab<'_>, spinners: &[&Spinner]) -> Result<alloc::vec::Vec<u64>, Failure> {
    let read = || -> user_rt::Result<alloc::vec::Vec<u64>> {
        spinners.iter().map(|spinner| Ok(spinner.sched.info()?.used)).collect()
    };
    let before = read()?;
    lab.sleep(boot::facts().tsc_hz / 10);
    Ok(read()?.into_iter().zip(before).map(|(after, before)| after - before).collect())
}

/// Attempts to measure shares: an emulator's timer on a busy host may be so late that slices
/// overrun many times over. Under an instruction count the first attempt is right.
const TRIES: u32 = 30;

/// Measures how spinners share time until the result is `right`.
fn shared(lab: &Lab<'_>, spinners: &[&Spinner], right: impl Fn(&[u64]) -> bool) -> Outcome {
    let mut seen = alloc::vec::Vec::new();
    for _ in 0..TRIES {
        let shares = used(lab, spinners)?;
        if right(&shares) {
            return Ok(());
        }
        seen.push(shares);
    }
    Err(Failure::Of(alloc::format!("time is not shared as it should be: {seen:?}")))
}

fn higher_priorities_preempt(lab: &mut Lab<'_>) -> Outcome {
    let low = spin(lab, spinner, 0, 50)?;
    let alone = counts(lab, &[&low]);
    expect!(alone[0] > 100, "a single spinner does not run: {alone:?}");
    let high = spin(lab, spinner, 1, 60)?;
    let both = counts(lab, &[&low, &high]);
    expect!(both[0] == 0 && both[1] > 100, "low and high: {both:?}");
    high.task.kill()?;
    let after = counts(lab, &[&low, &high]);
    expect!(after[0] > 100 && after[1] == 0, "after the high one's death: {after:?}");
    Ok(())
}

fn equals_take_turns(lab: &mut Lab<'_>) -> Outcome {
    let spinners = [spin(lab, spinner, 0, 50)?, spin(lab, spinner, 1, 50)?, spin(lab, spinner, 2, 50)?];
    for spinner in &spinners {
        spinner.sched.configure(50, boot::facts().tsc_hz / 250)?;
    }
    shared(lab, &[&spinners[0], &spinners[1], &spinners[2]], |shares| {
        let sum: u64 = shares.iter().sum();
        // A third each, give or take a slice where the time was cut.
        shares.iter().all(|share| share * 3 > sum / 2 && share * 3 < sum * 2)
    })
}

/// Checks that a slice three times as long gets three times the time.
fn slices_are_kept(lab: &mut Lab<'_>) -> Outcome {
    let (short, long) = (spin(lab, spinner, 0, 50)?, spin(lab, spinner, 1, 50)?);
    let unit = boot::facts().tsc_hz / 250;
    short.sched.configure(50, unit)?;
    long.sched.configure(50, 3 * unit)?;
    shared(lab, &[&short, &long], |shares| shares[1] > shares[0] * 2 && shares[1] < shares[0] * 4)
}

fn changed_priorities_count_at_once(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let (a, b) = (spin_on(lab, cpu, spinner, 0, 50)?, spin_on(lab, cpu, spinner, 1, 60)?);
        let slice = boot::facts().tsc_hz / 1000;
        for (priority, a_runs) in [(70, true), (55, false), (61, true)] {
            a.sched.configure(priority, slice)?;
            let shares = counts(lab, &[&a, &b]);
            let runs = (shares[0] > 0, shares[1] > 0);
            expect_eq!(runs, (a_runs, !a_runs), "a at {priority} on cpu{cpu}: {shares:?}");
            let told = a.sched.info()?;
            expect_eq!((told.priority, told.slice), (priority, slice), "what was set on cpu{cpu}");
        }
        lab.reset()?;
    }
    Ok(())
}

fn yield_goes_to_equals(lab: &mut Lab<'_>) -> Outcome {
    let (a, b) = (spin(lab, yielder, 0, 50)?, spin(lab, yielder, 1, 50)?);
    let low = spin(lab, spinner, 2, 40)?;
    let shares = counts(lab, &[&a, &b, &low]);
    expect!(shares[0].abs_diff(shares[1]) <= 2, "two yielders: {shares:?}");
    expect!(shares[0] > 100 && shares[2] == 0, "a yield went to a lower priority: {shares:?}");
    Ok(())
}

fn who_wants_a_notice_gets_one(lab: &mut Lab<'_>) -> Outcome {
    const GRACES: [Counter; 4] =
        [Counter::GraceGranted, Counter::GraceYielded, Counter::GraceExpired, Counter::GraceRevoked];
    let graces = || -> Result<[u64; 4], Failure> {
        let mut counts = [0; 4];
        for (count, which) in counts.iter_mut().zip(GRACES) {
            *count = own::machine().counter(0, which)?;
        }
        Ok(counts)
    };
    // Three kinds of equals: what is preempted, what also heeds its notices, and what yields alone.
    for (equal, has_half) in [(spinner as Entry, true), (heeder, true), (yielder, false)] {
        let before = graces()?;
        let (a, b) = (spin(lab, heeder, 0, 50)?, spin(lab, equal, 1, 50)?);
        if has_half {
            shared(lab, &[&a, &b], |used| used[0].abs_diff(used[1]) < (used[0] + used[1]) / 10)?;
        } else {
            let shares = counts(lab, &[&a, &b]);
            expect!(shares.iter().all(|share| *share > 0), "one does not run: {shares:?}");
        }
        let heeded: u64 = [&a, &b].map(|one| Block::at(one.number).note(1).load(Relaxed)).iter().sum();
        for one in [a, b] {
            one.task.kill()?;
        }
        let after = graces()?;
        let [given, yielded, expired, revoked] = core::array::from_fn(|at| after[at] - before[at]);
        expect!(given > 0 && heeded <= given, "{heeded} of {given} notices were heeded");
        expect_eq!(given, yielded + expired + revoked, "graces that have ended");
        // Where the clock is the host's, the grace may be over before the emulator is back in the
        // loop.
        expect!(heeded > 0 || !clock_counts_instructions(), "none of {given} notices was heeded");
    }
    Ok(())
}

/// Returns whether the clock counts instructions: then it takes as long each time to read it, but
/// where an interrupt comes between.
pub fn clock_counts_instructions() -> bool {
    const READS: usize = 1_000;
    const OTHERS: usize = 20;
    let usual = {
        let start = timestamp();
        timestamp() - start
    };
    let others = (0..READS).filter(|_| {
        let start = timestamp();
        timestamp() - start != usual
    });
    others.count() < OTHERS
}

fn yield_to_goes_where_it_says(lab: &mut Lab<'_>) -> Outcome {
    let giver = lab.puppet(&Wanted::default())?;
    let priority = crate::lab::PRIORITY;
    let others = [spin(lab, spinner, 0, priority)?, spin(lab, spinner, 1, priority)?];
    // No slice ends before its turn counts, however long the host keeps the machine from running.
    for sched in [&giver.sched, &others[0].sched, &others[1].sched] {
        sched.configure(priority, u64::MAX)?;
    }
    for spinner in &others {
        spinner.task.suspend()?;
    }
    // The rest of the slice that the giver was made with goes first.
    expect_eq!(lab.run(&giver, &Args::new(Op::Yield))?.error(), None, "yielding to nobody");
    for chosen in [0, 1, 1, 0] {
        // In the queue: the giver, then the two others.
        lab.ask(&giver, &Args::plain(Op::YieldTo, others[chosen].task.arg(), 0, 0, 0))?;
        for spinner in &others {
            spinner.task.resume()?;
        }
        let before = [others[0].count(), others[1].count()];
        let ran = || [others[0].count() - before[0], others[1].count() - before[1]];
        for _ in 0..100 {
            lab.sleep(boot::facts().tsc_hz / 10_000);
            if ran() != [0, 0] {
                break;
            }
        }
        expect!(ran()[chosen] > 0, "chosen {chosen}, ran {:?}", ran());
        for spinner in &others {
            spinner.task.suspend()?;
        }
        expect_eq!(lab.answer(&giver)?.error(), None, "yielding");
    }
    Ok(())
}

fn yield_to_refuses(lab: &mut Lab<'_>) -> Outcome {
    let (giver, blocked) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    lab.ask(&blocked, &Args::new(Op::Recv))?;
    lab.stays_blocked(&blocked)?;
    let to = |task: &Task| Args::plain(Op::YieldTo, task.arg(), 0, 0, 0);
    expect_eq!(lab.run(&giver, &to(&blocked.task))?.error(), Some(Error::WouldBlock), "to a blocked task");
    expect_eq!(lab.run(&giver, &to(&giver.task))?.error(), Some(Error::SelfCall), "to itself");
    if lab.cpus > 1 {
        let far = lab.puppet(&Wanted { cpu: 1, ..Wanted::default() })?;
        lab.ask(&far, &Args::new(Op::Recv))?;
        lab.stays_blocked(&far)?;
        let shown = lab.run(&giver, &to(&far.task))?;
        expect_eq!(shown.error(), Some(Error::WouldBlock), "to a blocked task of another CPU");
    }
    Ok(())
}

/// Checks that a server of low priority serves a high caller while a task in between would have the
/// CPU.
fn a_call_takes_the_callers_priority_along(lab: &mut Lab<'_>) -> Outcome {
    let server = lab.puppet(&Wanted { priority: 30, ..Wanted::default() })?;
    let client = lab.puppet(&Wanted { priority: 120, ..Wanted::default() })?;
    lab.ask(&server, &Args::new(Op::Recv))?;
    lab.stays_blocked(&server)?;
    let between = spin(lab, spinner, 0, 60)?;
    call(lab, &client, &server, 1)?;
    // The server informs the director and takes commands on the caller's time.
    is_call_of(&lab.answer(&server)?, &server, &client, 1)?;
    // Waiting for a command returns the time: the server is at its own low priority now.
    lab.settle();
    lab.ask(&server, &message(Op::Reply, crate::ipc::NOBODY, 2, regs(2), 0))?;
    lab.stays_blocked(&client)?;
    between.task.kill()?;
    expect_eq!(lab.answer(&server)?.error(), None, "replying");
    answered(lab, &client, 2)
}

fn a_task_without_time_serves_on_its_callers(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        serves_without_time(lab, cpu)?;
        lab.reset()?;
    }
    Ok(())
}

fn serves_without_time(lab: &mut Lab<'_>, cpu: u32) -> Outcome {
    let client = lab.puppet(&Wanted::default())?;
    let server = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
    lab.ask(&server, &message(Op::ReplyRecv, crate::ipc::NOBODY, 0, regs(0), 0))?;
    lab.stays_blocked(&server)?;
    user_rt::spawn::own::cnode().revoke(server.sched.cap())?;
    user_rt::spawn::own::cnode().delete(server.sched.cap())?;
    call(lab, &client, &server, 1)?;
    // It runs on the client's time, also while it looks for commands, until it has answered.
    is_call_of(&lab.answer(&server)?, &server, &client, 1)?;
    lab.ask(&server, &message(Op::Reply, crate::ipc::NOBODY, 2, regs(2), 0))?;
    answered(lab, &client, 2)?;
    lab.stays_blocked(&server)?;
    let sched: SchedContext = lab.nursery.make(0)?;
    sched.configure(crate::lab::PRIORITY, boot::facts().tsc_hz / 100)?;
    sched.bind(&server.task)?;
    expect_eq!(lab.answer(&server)?.error(), None, "with time again");
    Ok(())
}

fn suspended_tasks_do_not_run(lab: &mut Lab<'_>) -> Outcome {
    let spinner = spin(lab, spinner, 0, 50)?;
    for _ in 0..3 {
        expect!(counts(lab, &[&spinner])[0] > 0, "it does not run");
        spinner.task.suspend()?;
        spinner.task.suspend()?;
        expect_eq!(counts(lab, &[&spinner])[0], 0, "suspended, it counted");
        spinner.task.resume()?;
        spinner.task.resume()?;
    }
    Ok(())
}

/// Measurements of a share of the time, until one is enough.
const LOOKS: usize = 5;

fn time_is_accounted(lab: &mut Lab<'_>) -> Outcome {
    let (spinner, idle) = (spin(lab, spinner, 0, 50)?, spin(lab, spinner, 1, 40)?);
    let mut shares = [0; LOOKS];
    for share in &mut shares {
        let before = spinner.sched.info()?.used;
        let start = arch::now();
        a_while(lab);
        let (used, passed) = (spinner.sched.info()?.used - before, arch::now() - start);
        expect!(used <= passed, "used {used} of {passed} ticks");
        *share = used * 100 / passed;
        if *share > 50 {
            break;
        }
    }
    // The host may be away while another task has the CPU, but not each time.
    expect!(shares.iter().any(|share| *share > 50), "used {shares:?} % of the time");
    expect_eq!(idle.sched.info()?.used, 0, "time of one that never ran");
    Ok(())
}

fn waking_a_higher_priority_preempts(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let high: Puppet = lab.puppet(&Wanted { cpu, priority: 150, ..Wanted::default() })?;
        let low = spin(lab, spinner, 0, 50)?;
        for _ in 0..10 {
            expect_eq!(lab.run(&high, &Args::new(Op::Null))?.error(), None, "beside a spinner");
        }
        low.task.kill()?;
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a program starts no task and sets no priority beyond what its SchedControl allows.
fn authority_ends_at_its_ceiling_and_cpus(lab: &mut Lab<'_>) -> Outcome {
    let told = |result: user_rt::Result<()>| result.map_err(|refusal| (refusal.error, refusal.detail));
    let beyond = |detail| Err((Error::OverLimit, detail));
    let low: SchedControl = lab.nursery.make(0)?;
    let (time, task): (SchedContext, Task) = (lab.nursery.make(0)?, lab.nursery.make(0)?);
    let (own, place) = (own::process(), user_rt::layout::utcb_va(4000));
    expect_eq!(told(time.configure_by(&low, 0, 1000)), beyond(u64::MAX), "a new one allows nothing");
    own::sched_control().allow(&low, 20, 0, 1)?;
    expect_eq!(told(time.configure_by(&low, 21, 1000)), beyond(20), "above its ceiling");
    expect_eq!(told(low.allow(&low, 21, 0, 1)), beyond(20), "raising itself");
    expect_eq!(told(low.allow(&low, 20, 0, 2)), beyond(u64::MAX), "covering another CPU");
    if lab.cpus > 1 {
        expect_eq!(told(task.configure_by(&low, &own, place, 1).map(drop)), beyond(u64::MAX), "on cpu1");
    }
    time.configure_by(&low, 20, 1000)?;
    task.configure_by(&low, &own, place, 0)?;
    time.bind(&task)?;
    expect_eq!(told(time.configure_by(&low, 21, 1000)), beyond(20), "once it is bound");
    let roomy: SchedControl = lab.nursery.make(0)?;
    own::sched_control().allow_within(&roomy, 20, 0, 1, WHOLE_CPU / 2)?;
    let (first, second): (SchedContext, SchedContext) = (lab.nursery.make(0)?, lab.nursery.make(0)?);
    let beyond = |free| Err((Error::OverLimit, room_left(free)));
    let set = |time: &SchedContext, budget| {
        let settings = Settings { priority: 20, slice: 1000, budget, period: 1_000_000 };
        told(time.configure_all(&roomy, None, settings))
    };
    expect_eq!(told(first.configure_by(&roomy, 20, 1000)), beyond(WHOLE_CPU / 2), "without a budget");
    expect_eq!(set(&first, 500_001), beyond(WHOLE_CPU / 2), "more than the room");
    expect_eq!(set(&first, 300_000), Ok(()), "a part of it");
    expect_eq!(set(&second, 300_000), beyond(WHOLE_CPU / 5), "more than is left");
    expect_eq!(set(&second, 200_000), Ok(()), "what is left");
    Ok(())
}

/// A fifth of each of a hundred windows, within a hundredth, whatever the slice and the others.
fn a_budget_holds_beside_hungry_peers(lab: &mut Lab<'_>) -> Outcome {
    let hz = boot::facts().tsc_hz;
    let (period, all) = (hz / 1000, hz / 10);
    for (priority, slice) in [(60, u64::MAX), (50, period / 7)] {
        let limited = spin(lab, spinner, 0, priority)?;
        let peer = spin(lab, spinner, 1, 50)?;
        peer.sched.configure(50, period / 7)?;
        limited.sched.configure_budget(priority, slice, period / 5, period)?;
        expect_eq!(limited.sched.info()?.budget, period / 5, "the budget that was set");
        let holds = |used: u64| used.abs_diff(all / 5) <= all / 500;
        // Interrupts are charged to neither of them.
        let counted = || own::machine().counter(0, Counter::InterruptTicks).unwrap_or_default();
        let before = Cell::new(counted());
        let rest = |used: u64| (all / 100 * 78..=all / 100 * 82).contains(&used);
        shared(lab, &[&limited, &peer], |used| {
            let interrupts = counted();
            let taken = interrupts - before.replace(interrupts);
            holds(used[0]) && rest(used[1] + taken)
        })?;
        for spinner in [limited, peer] {
            spinner.task.kill()?;
        }
    }
    Ok(())
}

/// The exposure of the server that moves.
const TELLER: u32 = 40;

/// Answers each call with the number of its CPU.
extern "C" fn teller(_: u64) -> ! {
    let mut cpu = 0;
    loop {
        let _ = arch::syscall(Args { rdx: cpu, ..Args::new(Op::ReplyRecv) });
        cpu = arch::syscall(Args::new(Op::WhoAmI)).rsi;
    }
}

/// A task that runs on each CPU is watched: its CPU is busy meanwhile, its account grows, and what
/// it does is told. A CPU without a task idles.
fn a_policy_sees_what_runs(lab: &mut Lab<'_>) -> Outcome {
    const BITS: u64 = 1;
    const AT: u64 = SHARED_VA + 0x2100_0000;
    const SIZE: PoolSize = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 };
    let object: EventPool = lab.nursery.make(SIZE.raw())?;
    let reader = lab.puppet(&Wanted::default())?.task;
    let mut pool = Pool::bind(object, SIZE.cells_log2, &own::process(), &reader, AT, BITS)?;
    let cpus = lab.cpus as u16;
    for cpu in 0..cpus {
        own::machine().watch_cpu(cpu.into(), pool.object(), cpu)?;
    }
    for cpu in 0..cpus {
        let spins = spin_on(lab, cpu.into(), spinner, cpu.into(), 60)?;
        // Its own word: the last one may still be dying.
        let (word, all) = (cpus + cpu, events(&SchedEvent::ALL));
        spins.sched.watch(pool.object(), word, all)?;
        // Without a word, nothing is as expected.
        let read = |pool: &Pool, word| (timestamp(), pool.status(word).unwrap_or_default());
        let (cpu_before, before) = (read(&pool, cpu), read(&pool, word));
        expect!(matches!(before.1.doing, Doing::Runs | Doing::Ready), "it runs or is ready: {before:?}");
        expect_eq!((before.1.place, before.1.priority), (cpu, 60), "its CPU and priority");
        let _ = counts(lab, &[&spins]);
        let (busy, after) = (busy_permille(cpu_before, read(&pool, cpu)), read(&pool, word));
        expect!(busy >= 950, "cpu{cpu} is busy for {busy} of 1,000");
        spins.task.suspend()?;
        lab.settle();
        let rests = pool.status(word).map(|status| (status.doing, status.ticks > before.1.ticks));
        expect_eq!(rests, Some((Doing::Rests, true)), "suspended, and it has used time ({after:?})");
        let mut told = false;
        while let Some(came) = pool.read() {
            expect_eq!(came.event.exposure, KERNEL, "who reports");
            told |= SchedEvent::from_label(came.event.info.label()) == Some(SchedEvent::Blocked);
        }
        expect!(told, "that it stopped was reported");
        spins.task.kill()?;
    }
    expect_eq!(pool.lost(), 0, "no event was lost");
    for cpu in 0..lab.cpus {
        own::machine().unwatch_cpu(cpu)?;
    }
    Ok(())
}

/// A task moves round all CPUs, runs there, and leaves its CPU to others; and a server that waits
/// moves, and answers.
fn a_task_moves_to_another_cpu(lab: &mut Lab<'_>) -> Outcome {
    let (high, low) = (spin(lab, spinner, 0, 60)?, spin(lab, spinner, 1, 50)?);
    for cpu in (0..lab.cpus).rev() {
        high.task.move_to(cpu)?;
        let shares = counts(lab, &[&high, &low]);
        expect!(shares[0] > 100 && (shares[1] > 0) == (cpu != 0), "on cpu{cpu}: {shares:?}");
    }
    let client = lab.puppet(&Wanted { priority: 120, ..Wanted::default() })?;
    let server = lab.task(&Wanted { priority: 120, ..Wanted::default() }, teller, 0)?.task;
    let group = lab.group()?;
    group.expose_task(TELLER, &server)?;
    server.resume()?;
    for cpu in (0..lab.cpus).rev() {
        server.move_to(cpu)?;
        let asks = message(Op::Call, group.exposure(TELLER).0, 1, regs(1), 0);
        let told = lab.run(&client, &asks)?;
        expect_eq!(told.error(), None, "the call to cpu{cpu}");
        expect_eq!(told.answer.message_registers()[0], u64::from(cpu), "where the server is");
    }
    let beyond = high.task.move_to(lab.cpus).map_err(|refusal| (refusal.error, refusal.detail));
    expect_eq!(beyond, Err((Error::NoCpu, u64::from(lab.cpus))), "a CPU that there is not");
    Ok(())
}
