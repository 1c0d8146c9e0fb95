//! The scenarios: what happens to workers, and the expected results.

use abi::{Error, PAGE_SIZE, TaskId};
use guest_tests::verdict::Failure;
use user_rt::cap::Access;
use user_rt::layout::SHARED_VA;
use user_rt::paging::{Denial, Faulty, Limits};
use user_rt::spawn::{end, own};
use user_rt::views::{Allows, Range, ViewDenial, Wanted};
use user_rt::{boot, report, supervisor};

use crate::block::{self, Word};
use crate::expect;
use crate::stage::{End, Result, SECOND, STORE_SLOTS, Stage, System, Task, outcome, tell};
use crate::worker::{FAVOURITES, Job, Outcome, random_result, sort_result};

type Scenario = fn(&mut Stage<'_>) -> Result;

pub const ALL: &[(&str, Scenario)] = &[
    ("four_times_the_frames", four_times_the_frames),
    ("everything_once", everything_once),
    ("the_whole_program", the_whole_program),
    ("the_same_program_again", the_same_program_again),
    ("what_is_used_stays", what_is_used_stays),
    ("heap_from_the_pager", heap_from_the_pager),
    ("the_store_fails", the_store_fails),
    ("the_store_lies_to_the_careless", the_store_lies_to_the_careless),
    ("killed_in_a_fault", killed_in_a_fault),
    ("the_pager_is_killed_in_a_fault", the_pager_is_killed_in_a_fault),
    ("the_store_is_killed", the_store_is_killed),
    ("a_hostile_client", a_hostile_client),
    ("memory_runs_out", memory_runs_out),
    ("a_second_pager", a_second_pager),
    ("parts_of_an_account", parts_of_an_account),
    ("destroyed_and_nobody_says_so", destroyed_and_nobody_says_so),
    ("a_view_from_process_1", a_view_from_process_1),
];

const FRAMES: u32 = 24;
/// Four times as many pages as frames.
const PAGES: u32 = 4 * FRAMES;
const LIMITS: Limits = Limits { frames: FRAMES, pinned: 4, pages: 3 * PAGES };
/// Frames of the pager, unless they are to run out.
const PLENTY: u32 = 384;

fn task(job: Job, cpu: u32) -> Task {
    Task { job, cpu, pages: PAGES.into(), amount: 1_500, limits: LIMITS, whole: false }
}

/// Waits for a worker, and fails unless it returns the right result.
fn expect_right(system: &System, number: usize, result: Option<u64>) -> Result {
    let ended = system.end(number);
    expect!(ended == End::Finished, "worker {number} is {ended:?}; {}", tell(number));
    expect!(outcome(number) == Some(Outcome::Right), "{}", tell(number));
    let found = block::of_worker(number as u32).get(Word::Result);
    expect!(
        result.is_none_or(|wanted| wanted == found),
        "worker {number} worked out {found:#x}, not {result:x?}"
    );
    Ok(())
}

fn random_of(number: usize, pages: u32) -> u64 {
    random_result(
        block::of_worker(number as u32).get(Word::Seed),
        pages as usize,
        task(Job::Random, 0).amount,
    )
}

fn tell_counts(system: &System, what: &str) -> Result {
    let counts = system.counts()?;
    let checked: u64 =
        (0..system.workers.len()).map(|number| block::of_worker(number as u32).get(Word::Checked)).sum();
    report!(
        "note paging: {what}: {} faults, {} pages stored by {} calls, {} fetched, {} dropped clean, {} spared; {checked} words checked",
        counts.faults,
        counts.stored,
        counts.puts,
        counts.fetched,
        counts.dropped,
        counts.spared
    );
    Ok(())
}

/// Workers whose memory is four times their limit compute the right results, and hold no more than
/// their limit.
fn four_times_the_frames(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let jobs = [Job::Random, Job::Sort, Job::Random, Job::Random];
    for (cpu, job) in (0..).zip(jobs) {
        stage.worker(&mut system, None, &task(job, cpu))?;
    }
    for (number, job) in jobs.into_iter().enumerate() {
        let result = match job {
            Job::Sort => sort_result(block::of_worker(number as u32).get(Word::Seed), PAGES as usize),
            _ => random_of(number, PAGES),
        };
        expect_right(&system, number, Some(result))?;
    }
    tell_counts(&system, "four times the frames")?;
    let counts = system.counts()?;
    expect!(counts.fetched > 4 * u64::from(PAGES), "only {} pages were fetched", counts.fetched);
    let held = counts.frames - counts.free;
    expect!(held <= 4 * u64::from(FRAMES), "{held} frames are held by four who may hold {FRAMES} each");
    expect!(counts.denied + counts.lost == 0, "{counts:?}");
    // The frames that they held come back.
    for worker in &system.workers {
        end(&worker.first.task)?;
        system.manager.forget(worker.client)?;
    }
    let counts = system.counts()?;
    expect!(counts.free == counts.frames, "{} of {} frames came back", counts.free, counts.frames);
    let used = system.store().counts()?.used;
    expect!(used == 0, "{used} slots of the store are still used");
    Ok(())
}

/// Image and stack count, too: only pages that the pager brings are in memory.
fn the_whole_program(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let limits = Limits { pages: PAGES + 200, ..LIMITS };
    for (cpu, job) in [(0, Job::Random), (1, Job::Sort), (2, Job::Random)] {
        stage.worker(&mut system, None, &Task { whole: true, limits, ..task(job, cpu) })?;
    }
    expect_right(&system, 0, Some(random_of(0, PAGES)))?;
    expect_right(&system, 1, Some(sort_result(block::of_worker(1).get(Word::Seed), PAGES as usize)))?;
    expect_right(&system, 2, Some(random_of(2, PAGES)))?;
    tell_counts(&system, "whole programs")?;
    let counts = system.counts()?;
    let held = counts.frames - counts.free;
    expect!(held <= 3 * u64::from(FRAMES), "{held} frames are held by three who may hold {FRAMES} each");
    expect!(counts.loaded > 5 && counts.denied == 0, "{counts:?}");
    Ok(())
}

/// Starts a program that runs already: its text is in memory, and comes several pages at a time.
fn the_same_program_again(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let limits = Limits { pages: PAGES + 200, ..LIMITS };
    let mut faults = [0; 3];
    for (number, faults) in faults.iter_mut().enumerate() {
        let small = Task { whole: true, limits, pages: 8, ..task(Job::Hoard, number as u32) };
        stage.worker(&mut system, None, &small)?;
        expect_right(&system, number, None)?;
        *faults = system.manager.fate(system.workers[number].client)?.faults;
    }
    let beside = system.counts()?.beside;
    expect!(faults[1] < faults[0] && faults[2] < faults[0], "{faults:?} faults");
    report!("note paging: {faults:?} faults for the same again; {beside} pages came beside others");
    Ok(())
}

/// Clones, files, pins, limits, views: each once, with less memory than it takes.
fn everything_once(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    stage.worker(&mut system, None, &task(Job::Kinds, 0))?;
    stage.worker(&mut system, None, &task(Job::View, 1))?;
    expect_right(&system, 0, None)?;
    expect_right(&system, 1, None)?;
    tell_counts(&system, "everything once")?;
    let counts = system.counts()?;
    expect!(counts.copied > 0 && counts.loaded > 0 && counts.dropped > 0, "{counts:?}");
    Ok(())
}

/// Pages in constant use are not evicted for pages that are used once: the CPU's marks distinguish
/// them.
fn what_is_used_stays(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let wanted = task(Job::Favourites, 1);
    stage.worker(&mut system, None, &wanted)?;
    expect_right(&system, 0, None)?;
    let faults = block::of_worker(0).get(Word::Result);
    let amount = wanted.amount;
    report!("note paging: {faults} faults for {amount} pages once and {FAVOURITES} others {amount} times");
    // With first-in, first-out eviction, each favourite would be evicted and come back once for
    // every frame.
    let in_order = amount + amount * FAVOURITES as u64 / u64::from(FRAMES);
    expect!(faults < amount + (in_order - amount) / 4, "{faults} faults, in order it would be {in_order}");
    Ok(())
}

/// The pager serves the runtime's heap.
fn heap_from_the_pager(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    stage.worker(&mut system, None, &task(Job::Heap, 1))?;
    let words = u64::from(PAGES) * PAGE_SIZE / 8 * 3 / 4 / 512;
    expect_right(&system, 0, Some(random_of(0, words as u32)))
}

/// A store fails at random: a client that loses a page gets an error, and no other client notices.
/// The pager keeps pages that the store refuses.
fn the_store_fails(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let at_most = 2;
    let faulty = Faulty { gets: 4, spoiled: 4, puts: 200, seed: stage.seed, at_most, ..Faulty::default() };
    system.store().fail(faulty)?;
    for cpu in 0..4 {
        stage.worker(&mut system, None, &task(Job::Random, cpu))?;
    }
    let mut denied = 0;
    for number in 0..4 {
        let ended = system.end(number);
        expect!(ended == End::Finished, "worker {number} is {ended:?}; {}", tell(number));
        if outcome(number) == Some(Outcome::Denied) {
            let why = block::of_worker(number as u32).get(Word::Why);
            expect!(why == Denial::Lost as u64, "{}", tell(number));
            denied += 1;
        } else {
            expect_right(&system, number, Some(random_of(number, PAGES)))?;
        }
    }
    let failed = system.store().counts()?;
    report!(
        "note paging: the store failed {} gets and {} puts: {denied} workers were told, {} finished",
        failed.gets_failed,
        failed.puts_failed,
        4 - denied
    );
    expect!(failed.gets_failed == at_most && denied == at_most, "{denied} were told of {failed:?}");
    expect!(failed.puts_failed > 10, "{failed:?}");
    expect!(system.counts()?.lost == at_most, "{:?}", system.counts()?);
    Ok(())
}

/// A store returns wrong contents, to workers without an error handler: they end, and the reason is
/// known.
fn the_store_lies_to_the_careless(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    system.store().fail(Faulty { spoiled: 20, seed: stage.seed, at_most: 1, ..Faulty::default() })?;
    for cpu in 0..3 {
        stage.worker(&mut system, None, &task(Job::Careless, cpu))?;
    }
    let mut dead = 0;
    for number in 0..3 {
        let fate = match system.end(number) {
            End::Stuck => return Err(Failure::Of(tell(number))),
            End::Dead => {
                dead += 1;
                let fate = system.manager.fate(system.workers[number].client)?;
                supervisor::say_lost(
                    system.workers[number].first.id,
                    fate.reason.map_or(0, |why| why as u64),
                    fate.address,
                )?;
                fate.reason
            }
            End::Finished => {
                expect_right(&system, number, Some(random_of(number, PAGES)))?;
                None
            }
        };
        expect!(matches!(fate, None | Some(Denial::Lost)), "worker {number} ended by {fate:?}");
    }
    expect!(dead == 1, "{dead} workers ended because the store lied once");
    Ok(())
}

/// Returns ticks after which a worker that goes through its memory is almost certainly in a fault.
fn slow() -> u64 {
    boot::facts().tsc_hz / 500
}

fn tell_process_1(id: TaskId) -> Result {
    Ok(supervisor::say_lost(id, 0, 0)?)
}

/// Clients are killed while the pager serves their faults: it continues with the others, and has
/// their memory back.
fn killed_in_a_fault(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    for cpu in 0..3 {
        stage.worker(&mut system, None, &task(Job::Churn, cpu))?;
    }
    stage.worker(&mut system, None, &task(Job::Random, 3))?;
    while (0..3).any(|number| block::of_worker(number).get(Word::Progress) < 2 * u64::from(PAGES)) {
        stage.wait(slow() / 10);
    }
    system.store().fail(Faulty { delay: slow(), ..Faulty::default() })?;
    stage.wait(3 * slow());
    for number in 0..3 {
        expect!(outcome(number) == Some(Outcome::Running), "{}", tell(number));
        let worker = &system.workers[number];
        if number == 2 {
            // Its last capability: its whole process ends first, and the pager is informed
            // afterwards.
            end(&worker.first.task)?;
        } else {
            worker.first.task.kill()?;
        }
        let ended = system.end(number);
        expect!(ended == End::Dead, "worker {number} is {ended:?} after it was killed");
        tell_process_1(worker.first.id)?;
        system.manager.forget(worker.client)?;
    }
    system.store().fail(Faulty::default())?;
    expect_right(&system, 3, Some(random_of(3, PAGES)))?;
    system.manager.forget(system.workers[3].client)?;
    let counts = system.counts()?;
    expect!(counts.free == counts.frames, "{} of {} frames came back", counts.free, counts.frames);
    Ok(())
}

/// The pager is killed while faults wait for it: every client ends, no task hangs, and the store is
/// unchanged.
fn the_pager_is_killed_in_a_fault(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    for cpu in 0..4 {
        stage.worker(&mut system, None, &task(Job::Churn, cpu))?;
    }
    while (0..4).any(|number| block::of_worker(number).get(Word::Progress) < 2 * u64::from(PAGES)) {
        stage.wait(slow() / 10);
    }
    system.store().fail(Faulty { delay: slow(), ..Faulty::default() })?;
    stage.wait(3 * slow());
    system.pager.first.task.kill()?;
    tell_process_1(system.pager.first.id)?;
    for number in 0..4 {
        let ended = system.end(number);
        expect!(ended == End::Dead, "worker {number} is {ended:?} after its pager was killed");
        tell_process_1(system.workers[number].first.id)?;
    }
    expect!(system.store().counts()?.used > 0, "the store lives");
    expect!(system.manager.counts() == Err(Denial::NoPager), "the pager lives");
    system.store().forget(1)?;
    let used = system.store().counts()?.used;
    expect!(used == 0, "{used} slots of a pager that is no more are still used");
    Ok(())
}

/// The store is killed: clients get errors for their stored pages, and the pager serves what needs
/// no store.
fn the_store_is_killed(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    for cpu in 0..2 {
        stage.worker(&mut system, None, &task(Job::Churn, cpu))?;
    }
    while (0..2).any(|number| block::of_worker(number).get(Word::Progress) < 2 * u64::from(PAGES)) {
        stage.wait(slow() / 10);
    }
    system.kill_store()?;
    for number in 0..2 {
        let ended = system.end(number);
        expect!(ended == End::Finished, "worker {number} is {ended:?}; {}", tell(number));
        let why = Denial::from_raw(block::of_worker(number as u32).get(Word::Why) as u32);
        let told = matches!(why, Some(Denial::Lost | Denial::Limit));
        expect!(outcome(number) == Some(Outcome::Denied) && told, "{}", tell(number));
    }
    let small = Task { pages: u64::from(FRAMES) / 2, ..task(Job::Hoard, 0) };
    stage.worker(&mut system, None, &small)?;
    expect_right(&system, 2, None)
}

/// A client requests all it can get in the smallest pieces, and then nonsense: the pager continues
/// for others, and has everything back at the end.
fn a_hostile_client(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    stage.worker(&mut system, None, &task(Job::Random, 1))?;
    let limits = Limits { pages: 9 * PAGES, ..LIMITS };
    stage.worker(&mut system, None, &Task { amount: 10_000, limits, ..task(Job::Hostile, 2) })?;
    expect_right(&system, 1, None)?;
    expect_right(&system, 0, Some(random_of(0, PAGES)))?;
    let regions = block::of_worker(1).get(Word::Result);
    expect!(regions == limits.pages.into(), "only {regions} regions of one page");
    for worker in &system.workers {
        end(&worker.first.task)?;
        system.manager.forget(worker.client)?;
    }
    let counts = system.counts()?;
    expect!(counts.free == counts.frames, "{counts:?}");
    expect!(system.store().counts()?.used == 0, "slots of the store are still used");
    Ok(())
}

/// More memory is promised than exists: the policy ends the largest client for a smaller one, and
/// refuses a client that is as large.
fn memory_runs_out(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(64, 0)?;
    let limits = |frames| Limits { frames, pinned: 0, pages: 200 };
    let hoard = |pages: u32, cpu| Task { pages: pages.into(), limits: limits(100), ..task(Job::Hoard, cpu) };
    stage.worker(&mut system, None, &hoard(60, 0))?;
    expect_right(&system, 0, None)?;
    stage.worker(&mut system, None, &hoard(20, 1))?;
    expect_right(&system, 1, None)?;
    let counts = system.counts()?;
    expect!(counts.ended == 1 && counts.asked >= 1, "the policy was asked {} times", counts.asked);
    expect!(system.manager.fate(1)?.reason == Some(Denial::Ended), "the largest was ended");
    stage.worker(&mut system, None, &hoard(60, 2))?;
    let ended = system.end(2);
    expect!(ended == End::Finished && outcome(2) == Some(Outcome::Denied), "{}", tell(2));
    let why = block::of_worker(2).get(Word::Why);
    expect!(why == Denial::Memory as u64, "{}", tell(2));
    expect!(system.manager.fate(2)?.reason.is_none(), "the smaller one was left alone");
    Ok(())
}

/// The heap of a second pager is served by the first, with fewer frames than the heap needs. The
/// second pager's client and the first pager do not know each other.
fn a_second_pager(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    let (second, manager) = stage.second_pager(&system, 64)?;
    stage.worker(&mut system, Some((&second, manager)), &task(Job::Random, 1))?;
    stage.worker(&mut system, None, &task(Job::Random, 3))?;
    expect_right(&system, 0, Some(random_of(0, PAGES)))?;
    expect_right(&system, 1, Some(random_of(1, PAGES)))?;
    expect!(system.manager.fate(1) == Err(Denial::NotYou), "the first pager knows the second one's client");
    let (of_heap, of_client) = (system.manager.fate(SECOND)?.faults, manager.fate(1)?.faults);
    report!("note paging: {of_client} faults at the second pager, {of_heap} of its own at the first");
    expect!(of_client > u64::from(PAGES) && of_heap > 20, "{of_client} and {of_heap} faults");
    // The second pager's client ends with it, and no other process.
    stage.worker(&mut system, Some((&second, manager)), &task(Job::Churn, 0))?;
    stage.worker(&mut system, None, &task(Job::Random, 2))?;
    while block::of_worker(2).get(Word::Progress) < u64::from(PAGES) {
        stage.wait(slow() / 10);
    }
    second.first.task.kill()?;
    let ended = system.end(2);
    expect!(ended == End::Dead, "the client of a killed pager is {ended:?}");
    expect_right(&system, 3, Some(random_of(3, PAGES)))
}

/// A worker splits parts off its account: a client in a part uses the worker's limits, and ends
/// through the worker or with it.
fn parts_of_an_account(stage: &mut Stage<'_>) -> Result {
    let mut system = stage.system(PLENTY, STORE_SLOTS)?;
    stage.worker(&mut system, None, &task(Job::Whole, 0))?;
    let whole = block::of_worker(0);
    while whole.get(Word::Key) == 0 {
        expect!(outcome(0) == Some(Outcome::Running), "{}", tell(0));
        stage.wait(slow() / 10);
    }
    let parts = [0, 16].map(|shift| (whole.get(Word::Key) >> shift) as u16);
    let small = Task { pages: PAGES.into(), ..task(Job::Random, 1) };
    for (part, of) in [(parts[0], 2), (parts[0], parts[1]), (9, 1)] {
        let denied = stage.worker_in(&mut system, part, of, &small)?;
        expect!(denied == Err(Denial::NotYou), "a client of part {part} of {of}: {denied:?}");
    }
    for (part, of) in [(1, 1), (1, 2), (0, 0), (500, 1)] {
        let denied = system.manager.admit(part, of);
        expect!(denied == Err(Denial::NotYou), "a client of part {part} of {of}: {denied:?}");
    }
    for (part, job) in parts.into_iter().zip([Job::Random, Job::Churn]) {
        stage.worker_in(&mut system, part, 1, &Task { job, ..small })??;
        expect!(system.manager.admit(part, 1) == Err(Denial::NotYou), "two clients in a part");
    }
    let mut most = 0;
    while outcome(1) == Some(Outcome::Running) || whole.get(Word::Progress) < small.amount {
        let counts = system.counts()?;
        most = most.max(counts.frames - counts.free);
        expect!(outcome(0) == Some(Outcome::Running), "{}", tell(0));
        expect!(outcome(2) == Some(Outcome::Running), "{}", tell(2));
        stage.wait(slow() / 10);
    }
    expect_right(&system, 1, Some(random_of(1, PAGES)))?;
    expect!(most <= FRAMES.into(), "{most} frames were held by a whole that may hold {FRAMES}");
    whole.set(Word::Command, 1);
    // The part's client never ends by itself. A call would lend it this task's priority, and then
    // the whole would not get to run.
    while whole.get(Word::Found) == 0 {
        expect!(outcome(0) == Some(Outcome::Running), "{}", tell(0));
        stage.wait(slow() / 10);
    }
    let ended = system.end(2);
    expect!(ended == End::Dead, "the client of a closed part is {ended:?}");
    let fate = system.manager.fate(parts[1])?.reason;
    expect!(fate == Some(Denial::Closed), "and ended by {fate:?}");
    whole.set(Word::Command, 2);
    expect_right(&system, 0, Some(random_of(0, PAGES)))?;
    report!(
        "note paging: {most} frames held by a whole and its parts; {} after it closed one",
        whole.get(Word::Found)
    );
    // The other part ends with the whole account.
    end(&system.workers[0].first.task)?;
    system.manager.forget(1)?;
    let fate = system.manager.fate(parts[0])?.reason;
    expect!(fate == Some(Denial::Closed), "the client of a part of what is no more ended by {fate:?}");
    let counts = system.counts()?;
    expect!(counts.free == counts.frames, "{counts:?}");
    expect!(system.store().counts()?.used == 0, "slots of the store are still used");
    for part in parts {
        system.manager.forget(part)?;
    }
    expect!(system.manager.forget(parts[0]) == Err(Denial::NotYou), "forgotten twice");
    Ok(())
}

/// The pager must notice by itself which clients have ended when memory is short, and which only
/// seem to have.
fn destroyed_and_nobody_says_so(stage: &mut Stage<'_>) -> Result {
    // Enough for two of three clients that store nothing.
    let mut system = stage.system(64, 0)?;
    let all = |job, cpu| Task { pages: FRAMES.into(), ..task(job, cpu) };
    let hoarded = |number| block::of_worker(number).get(Word::Progress) >= u64::from(FRAMES);
    stage.worker(&mut system, None, &all(Job::Hoard, 0))?;
    stage.worker(&mut system, None, &all(Job::Keep, 1))?;
    while !hoarded(0) || !hoarded(1) {
        stage.wait(slow() / 10);
    }
    // The pager has lost the address space of this one. The client runs on, and has its memory.
    system.take_space(2)?;
    stage.worker(&mut system, None, &all(Job::Hoard, 2))?;
    expect!(system.end(2) == End::Finished && outcome(2) == Some(Outcome::Denied), "{}", tell(2));
    expect!(block::of_worker(2).get(Word::Why) == Denial::Memory as u64, "{}", tell(2));
    system.workers[0].destroy()?;
    tell_process_1(system.workers[0].first.id)?;
    stage.worker(&mut system, None, &all(Job::Hoard, 3))?;
    expect_right(&system, 3, None)?;
    let fate = system.manager.fate(1)?.reason;
    expect!(fate == Some(Denial::Gone), "the destroyed one ended by {fate:?}");
    let counts = system.counts()?;
    expect!(counts.noticed == 1, "{counts:?}");
    block::of_worker(1).set(Word::Command, 1);
    expect_right(&system, 1, None)?;
    // Nothing is left to forget, but the manager may still ask.
    system.manager.forget(1)?;
    expect!(system.manager.forget(1) == Err(Denial::NotYou), "forgotten twice");
    for number in 1..4 {
        system.workers[number].destroy()?;
        system.manager.forget(system.workers[number].client)?;
    }
    let counts = system.counts()?;
    expect!(counts.free == counts.frames, "{counts:?}");
    Ok(())
}

/// The timer of every PC, which process 1's description of this program lets it read; the first
/// interrupt controller, which it does not; and a range where this program has nothing.
const HPET: Range = Range::at(0xfed0_0000, 1);
const IOAPIC: Range = Range::at(0xfec0_0000, 1);
const HOLE: u64 = SHARED_VA + 0x1000_0000;

/// Sensitive memory comes from process 1, as far as its description of this program allows, and
/// returns to it.
fn a_view_from_process_1(stage: &mut Stage<'_>) -> Result {
    let slot = stage.nursery.take_slot()?;
    let may = Wanted::new(HPET, Allows::READ);
    for refused in [Wanted::new(IOAPIC, Allows::READ), Wanted::new(HPET, Allows::WRITE)] {
        let why = supervisor::view(refused, slot).err();
        expect!(why == Some(ViewDenial::NotAllowed), "process 1 about {refused:x?}: {why:?}");
    }
    let why = supervisor::view(may, user_rt::layout::slot::CNODE).err();
    expect!(why == Some(ViewDenial::BadSlot), "into a slot that has something: {why:?}");
    let made =
        own::machine().device_frame(stage.nursery.untyped(), HPET.address(), 12, 0, own::cnode().slot(slot));
    expect!(made.is_err_and(|refusal| refusal.error == Error::NoRight), "this program makes frames itself");
    for _ in 0..3 {
        let frame = supervisor::view(may, slot)?;
        let why = supervisor::view(may, stage.nursery.take_slot()?).err();
        expect!(why == Some(ViewDenial::InUse), "once more: {why:?}");
        let written = own::vspace().map(&frame, HOLE, Access::Write);
        expect!(written.is_err_and(|refusal| refusal.error == Error::NoRight), "it can be written");
        own::vspace().map(&frame, HOLE, Access::Read)?;
        // SAFETY: a page of registers was just mapped there, and nothing else maps anything there.
        // Its contents depend on the machine.
        let period = unsafe { ((HOLE + 4) as *const u32).read_volatile() };
        supervisor::give_back(HPET)?;
        expect!(period != 0, "the timer's period");
        expect!(own::cnode().inspect(slot)?.is_none(), "the frame is here still");
        expect!(supervisor::give_back(HPET) == Err(ViewDenial::NotHeld), "given back twice");
    }
    Ok(())
}
