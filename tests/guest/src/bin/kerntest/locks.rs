//! Locks that processes share, and what the runtime makes of them.
//!
//! Workers of two processes, on all CPUs, use a page of locks. Its first words are locks and parts
//! of such, the others are what the locks protect: plain numbers that are read and written in two
//! steps.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

use abi::{Cap, Error, MEMBER_RIGHTS, PAGE_SIZE, Rights};
use guest_tests::board::Part as _;
use user_rt::arch::memory::mapped_words;
use user_rt::arch::{self, timestamp};
use user_rt::cap::{Access, Frame, Group, Handle, Notification};
use user_rt::invoke::{copy, who_am_i, yield_now};
use user_rt::ipc::Patience;
use user_rt::layout::SHARED_VA;
use user_rt::locks::{Condition, LockPage, Semaphore, SharedLock, User};
use user_rt::spawn::{Entry, Spawned};
use user_rt::{boot, report};

use crate::block::Block;
use crate::lab::{CHILD_FREE, CHILD_GROUP, Lab, Place, Wanted};
use crate::readers::{COUNT, READY, WRONG, add, wait_for};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    a_lock_keeps_order_between_processes_and_cpus an_owner_that_dies_leaves_its_locks
    a_lock_is_awaited_until_a_deadline an_owner_goes_on_with_its_waiters_priority
    a_cycle_of_locks_is_told conditions_wake_who_waits semaphores_have_no_more_permits_than_given
    readers_read_together_and_writers_alone owners_and_waiters_are_killed_all_the_time
}

const LOCKS_VA: u64 = SHARED_VA + 0x2000_0000;
const WORDS: usize = PAGE_SIZE as usize / 8;
const FRAME: Cap = Cap(CHILD_FREE);
/// The first of the workers' Notifications, in their process's CSpace and in the group.
const BELLS: u32 = CHILD_FREE + 1;
const BELLS_IN_GROUP: u32 = 40;
/// Words of the page: locks, what is made of them, and what they protect.
const CONDITION: u32 = 8;
const PERMITS: u32 = 16;
const WAITING: u32 = 17;
const READERS: u32 = 18;
const IDLE: u32 = 19;
const PLAIN: u32 = 64;
/// Whether the workers are to end.
const OVER: u32 = 80;
const WORKERS: u32 = 6;
/// Rounds of each worker.
const ROUNDS: u64 = 100;
/// Tasks that are killed, unless the option `kills` says how many; and at most so many before all
/// that the test has made is destroyed, because the memory of a killed task is free only then.
const KILLS: u64 = 60;
/// After so many times that, the test tells how far it is.
const TOLD: u64 = 100;

// --- in a worker ---------------------------------------------------------------------------------

struct Worker {
    page: LockPage<'static>,
    me: User,
    number: u32,
    bell: Notification,
    block: &'static Block,
}

impl Worker {
    fn begin(number: u64) -> Worker {
        // SAFETY: the test has mapped the page in each of its processes, for good, and all access
        // it as atomics.
        let words = unsafe { mapped_words(LOCKS_VA, WORDS) };
        let number = number as u32;
        let id = who_am_i().unwrap_or_else(|refusal| panic!("a worker has no id: {refusal}")).0;
        Worker {
            page: LockPage::new(&Group::at(CHILD_GROUP), &Frame::at(FRAME), words),
            me: User::new(id, number + 1),
            number,
            bell: Notification::at(Cap(BELLS + number)),
            block: Block::at(number),
        }
    }

    fn condition(&self, word: u32) -> Condition<'static> {
        Condition::new(self.page.word(word), &Group::at(CHILD_GROUP), BELLS_IN_GROUP)
    }

    fn semaphore(&self) -> Semaphore<'static> {
        let [permits, waiting] = [PERMITS, WAITING].map(|word| self.page.word(word));
        Semaphore::new(permits, waiting, self.page.mutex(0), self.condition(CONDITION))
    }

    fn shared(&self) -> SharedLock<'static> {
        SharedLock::new(self.page.word(READERS), self.page.mutex(0), self.condition(IDLE))
    }

    /// Notes what was not as it should be.
    fn check(&self, right: bool) {
        if !right {
            add(self.block, WRONG);
        }
    }

    fn ends(&self) -> ! {
        add(self.block, READY);
        loop {
            let _ = user_rt::ipc::recv();
        }
    }

    /// Adds one to a number in two steps, between which others run.
    fn add_slowly(&self, number: u32) {
        let word = self.page.word(number);
        let before = word.load(Relaxed);
        if before.is_multiple_of(3) {
            let _ = yield_now();
        }
        arch::pause();
        word.store(before + 1, Relaxed);
    }
}

extern "C" fn adder(number: u64) -> ! {
    let it = Worker::begin(number);
    for round in 0..ROUNDS {
        let lock = (round % 2) as u32;
        match it.page.mutex(lock).lock(it.me) {
            Ok(held) => {
                it.check(!held.is_abandoned());
                it.add_slowly(PLAIN + lock);
            }
            Err(_) => it.check(false),
        }
        add(it.block, COUNT);
    }
    it.ends()
}

/// Takes a lock and keeps it.
extern "C" fn keeper(number: u64) -> ! {
    let it = Worker::begin(number);
    let held = it.page.mutex(0).lock(it.me);
    it.check(held.is_ok());
    add(it.block, COUNT);
    core::mem::forget(held);
    loop {
        arch::pause();
        let _ = yield_now();
    }
}

/// Takes the lock of a dead task, and gives it back.
extern "C" fn heir(number: u64) -> ! {
    let it = Worker::begin(number);
    match it.page.mutex(0).lock(it.me) {
        Ok(held) if held.is_abandoned() => add(it.block, COUNT),
        Ok(_) => {}
        Err(_) => it.check(false),
    }
    it.ends()
}

/// Waits for a lock, but not for long.
extern "C" fn impatient(number: u64) -> ! {
    let it = Worker::begin(number);
    let mutex = it.page.mutex(0);
    it.check(mutex.try_lock(it.me).is_none());
    let error = |patience| mutex.lock_within(it.me, patience).err().map(|refusal| refusal.error);
    it.check(error(Patience::None) == Some(Error::WouldBlock));
    it.check(error(Patience::Until(timestamp() + 200_000)) == Some(Error::Timeout));
    it.ends()
}

/// Takes a lock, and works until others want it.
extern "C" fn slow_owner(number: u64) -> ! {
    let it = Worker::begin(number);
    if let Ok(held) = it.page.mutex(0).lock(it.me) {
        add(it.block, COUNT);
        while it.page.word(0).load(Relaxed) & abi::LockWord::WAITS == 0 {
            arch::pause();
        }
        drop(held);
    }
    it.ends()
}

/// Spins for ever.
extern "C" fn spinner(_: u64) -> ! {
    loop {
        arch::pause();
    }
}

/// Takes its own lock, and then that of the next worker.
extern "C" fn philosopher(number: u64) -> ! {
    let it = Worker::begin(number);
    let own = it.page.mutex(it.number).lock(it.me);
    it.check(own.is_ok());
    it.page.word(PLAIN).fetch_add(1, Relaxed);
    while it.page.word(PLAIN).load(Relaxed) < u64::from(WORKERS) {
        arch::pause();
        let _ = yield_now();
    }
    match it.page.mutex((it.number + 1) % WORKERS).lock(it.me) {
        Ok(_) => {}
        Err(refusal) if refusal.error == Error::Deadlock => add(it.block, COUNT),
        Err(_) => it.check(false),
    }
    drop(own);
    it.ends()
}

/// Puts numbers into a place that has room for one, or takes them out of it.
extern "C" fn trader(number: u64) -> ! {
    let it = Worker::begin(number);
    let (mutex, place) = (it.page.mutex(0), it.page.word(PLAIN));
    let (empty, full) = (it.condition(CONDITION), it.condition(CONDITION + 1));
    let puts = it.number.is_multiple_of(2);
    for _ in 0..ROUNDS {
        let Ok(mut held) = mutex.lock(it.me) else {
            it.check(false);
            continue;
        };
        let mine = if puts { &empty } else { &full };
        while (place.load(Relaxed) != 0) == puts {
            match mine.wait(held, it.number, &it.bell, Patience::Forever) {
                Ok(again) => held = again,
                Err(_) => {
                    it.check(false);
                    it.ends();
                }
            }
        }
        if puts {
            place.store(1, Relaxed);
            full.signal();
        } else {
            place.store(0, Relaxed);
            empty.signal();
        }
        drop(held);
        add(it.block, COUNT);
    }
    it.ends()
}

/// Permits of the semaphore.
const PERMITTED: u64 = 2;

extern "C" fn visitor(number: u64) -> ! {
    let it = Worker::begin(number);
    let (semaphore, inside) = (it.semaphore(), it.page.word(PLAIN));
    for _ in 0..ROUNDS {
        let taken = semaphore.take(it.me, it.number, &it.bell, Patience::Forever);
        it.check(taken.is_ok());
        it.check(inside.fetch_add(1, Relaxed) < PERMITTED);
        let _ = yield_now();
        inside.fetch_sub(1, Relaxed);
        it.check(semaphore.give(it.me).is_ok());
        add(it.block, COUNT);
    }
    it.ends()
}

/// Reads two numbers that are equal, or writes them.
extern "C" fn scribe(number: u64) -> ! {
    let it = Worker::begin(number);
    let (lock, [one, two]) = (it.shared(), [PLAIN, PLAIN + 1].map(|word| it.page.word(word)));
    for round in 0..ROUNDS {
        if (round + number).is_multiple_of(3) {
            let written = lock.write(it.me, it.number, &it.bell, Patience::Forever);
            it.check(written.is_ok());
            it.add_slowly(PLAIN);
            it.add_slowly(PLAIN + 1);
        } else {
            let read = lock.read(it.me, Patience::Forever);
            it.check(read.is_ok());
            let before = one.load(Relaxed);
            let _ = yield_now();
            it.check(two.load(Relaxed) == before);
        }
        add(it.block, COUNT);
    }
    it.ends()
}

/// Takes a lock again and again, and sees to it that nobody else is where the lock lets it be. Who
/// takes over the lock of a dead task tidies up.
extern "C" fn mortal(number: u64) -> ! {
    let it = Worker::begin(number);
    let inside = it.page.word(PLAIN);
    while it.page.word(OVER).load(Relaxed) == 0 {
        match it.page.mutex(0).lock(it.me) {
            Ok(held) => {
                let before = inside.swap(number + 1, Relaxed);
                it.check(before == 0 || held.is_abandoned());
                if it.block.note(COUNT).load(Relaxed).is_multiple_of(4) {
                    let _ = yield_now();
                }
                arch::pause();
                it.check(inside.swap(0, Relaxed) == number + 1);
            }
            Err(_) => it.check(false),
        }
        add(it.block, COUNT);
    }
    it.ends()
}

// --- in the test ---------------------------------------------------------------------------------

/// A page of locks, and two processes that have it.
struct Page {
    places: [Place; 2],
    words: &'static [AtomicU64],
    bells: u32,
}

impl Page {
    fn new(lab: &mut Lab<'_>) -> Result<Page, Failure> {
        let frame: Frame = lab.nursery.make(12)?;
        let places = [lab.process_with(false, MEMBER_RIGHTS, 0)?, lab.process_with(true, MEMBER_RIGHTS, 0)?];
        for place in places {
            let child = lab.child(place)?;
            copy(&frame, child.cnode.slot(FRAME), Rights::MAP, 0)?;
            child.vspace.map(&frame, LOCKS_VA, Access::Write)?;
        }
        let own = user_rt::spawn::own::vspace();
        let words = arch::memory::map_words(&own, core::iter::once(frame), LOCKS_VA)?;
        Ok(Page { places, words, bells: BELLS_IN_GROUP })
    }

    /// Starts a worker.
    fn worker(
        &self,
        lab: &mut Lab<'_>,
        number: u32,
        cpu: u32,
        priority: u8,
        entry: Entry,
    ) -> Result<Spawned, Failure> {
        let made = self.task(lab, number, cpu, priority, entry)?;
        made.task.resume()?;
        Ok(made)
    }

    /// Makes a worker's task and its Notification.
    fn task(
        &self,
        lab: &mut Lab<'_>,
        number: u32,
        cpu: u32,
        priority: u8,
        entry: Entry,
    ) -> Result<Spawned, Failure> {
        Block::at(number).clear();
        let place = self.places[(number % 2) as usize];
        let made = lab.task(&Wanted { place, cpu, priority }, entry, u64::from(number))?;
        let bell: Notification = lab.nursery.make(0)?;
        let (cnode, slot) = (&lab.child(place)?.cnode, Cap(BELLS + number));
        // That of a dead task, if there was one.
        let _ = cnode.delete(slot);
        copy(&bell, cnode.slot(slot), Rights::ALL, 0)?;
        let group = lab.group()?;
        group.expose_task(number + 1, &made.task)?;
        group.expose_notification(self.bells + number, &bell)?;
        bell.bind(&made.task)?;
        lab.busy = true;
        Ok(made)
    }

    /// Starts workers of three priorities on all CPUs, and waits until they are through. Returns
    /// how often each has counted.
    fn all(&self, lab: &mut Lab<'_>, entry: Entry) -> Result<[u64; WORKERS as usize], Failure> {
        self.of_priorities(lab, entry, 3)
    }

    fn of_priorities(
        &self,
        lab: &mut Lab<'_>,
        entry: Entry,
        priorities: u32,
    ) -> Result<[u64; WORKERS as usize], Failure> {
        for number in 0..WORKERS {
            let priority = 100 + (number % priorities) as u8;
            self.worker(lab, number, number % lab.cpus, priority, entry)?;
        }
        through(lab, 0..WORKERS)?;
        Ok(core::array::from_fn(|number| Block::at(number as u32).note(COUNT).load(Acquire)))
    }

    fn word(&self, number: u32) -> &'static AtomicU64 {
        &self.words[number as usize]
    }
}

/// Waits until workers are through. None of them may have found anything wrong.
fn through(lab: &Lab<'_>, workers: core::ops::Range<u32>) -> Outcome {
    for number in workers {
        wait_for(lab, number, READY, 1, "a worker is through")?;
        expect_eq!(Block::at(number).note(WRONG).load(Acquire), 0, "what worker {number} found wrong");
    }
    Ok(())
}

fn a_lock_keeps_order_between_processes_and_cpus(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    let counts = page.all(lab, adder)?;
    expect_eq!(counts, [ROUNDS; WORKERS as usize], "rounds");
    let sums = [0, 1].map(|lock| page.word(PLAIN + lock).load(Relaxed));
    expect_eq!(sums, [u64::from(WORKERS) * ROUNDS / 2; 2], "what was added");
    expect_eq!([0, 1].map(|lock| page.word(lock).load(Relaxed)), [0; 2], "who has the locks");
    Ok(())
}

fn an_owner_that_dies_leaves_its_locks(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let page = Page::new(lab)?;
        let owner = page.worker(lab, 0, cpu, 100, keeper)?;
        wait_for(lab, 0, COUNT, 1, "a task keeps the lock")?;
        for number in 1..WORKERS {
            page.worker(lab, number, number % lab.cpus, 101, heir)?;
        }
        lab.sleep(1_000_000);
        expect!((1..WORKERS).all(|number| Block::at(number).note(READY).load(Acquire) == 0), "who waits");
        owner.task.kill()?;
        through(lab, 1..WORKERS)?;
        let told = (1..WORKERS).map(|number| Block::at(number).note(COUNT).load(Acquire)).sum::<u64>();
        expect_eq!(told, 1, "tasks that took over what a dead one had");
        expect_eq!(page.word(0).load(Relaxed), 0, "who has the lock");
        lab.reset()?;
    }
    Ok(())
}

fn a_lock_is_awaited_until_a_deadline(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    page.worker(lab, 0, 0, 100, keeper)?;
    wait_for(lab, 0, COUNT, 1, "a task keeps the lock")?;
    for number in 1..WORKERS {
        page.worker(lab, number, number % lab.cpus, 101, impatient)?;
    }
    through(lab, 1..WORKERS)
}

/// The owner has less priority than a task that spins on its CPU, and the waiter more.
fn an_owner_goes_on_with_its_waiters_priority(lab: &mut Lab<'_>) -> Outcome {
    for cpu in [0, lab.cpus - 1] {
        let page = Page::new(lab)?;
        page.worker(lab, 0, 0, 20, slow_owner)?;
        wait_for(lab, 0, COUNT, 1, "a task has the lock")?;
        page.worker(lab, 1, 0, 60, spinner)?;
        page.worker(lab, 2, cpu, 90, heir)?;
        through(lab, 2..3)?;
        lab.reset()?;
    }
    Ok(())
}

fn a_cycle_of_locks_is_told(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    // They wait for each other by yielding, which lets only equals run.
    let told = page.of_priorities(lab, philosopher, 1)?.into_iter().sum::<u64>();
    expect!(told >= 1, "nobody was told of the cycle");
    Ok(())
}

fn conditions_wake_who_waits(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    expect_eq!(page.all(lab, trader)?, [ROUNDS; WORKERS as usize], "rounds");
    expect_eq!(page.word(PLAIN).load(Relaxed), 0, "what was put and not taken");
    Ok(())
}

fn semaphores_have_no_more_permits_than_given(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    page.word(PERMITS).store(PERMITTED, Relaxed);
    expect_eq!(page.all(lab, visitor)?, [ROUNDS; WORKERS as usize], "rounds");
    expect_eq!(page.word(PERMITS).load(Relaxed), PERMITTED, "permits");
    Ok(())
}

fn readers_read_together_and_writers_alone(lab: &mut Lab<'_>) -> Outcome {
    let page = Page::new(lab)?;
    expect_eq!(page.all(lab, scribe)?, [ROUNDS; WORKERS as usize], "rounds");
    expect_eq!(page.word(READERS).load(Relaxed), 0, "readers");
    Ok(())
}

/// Tasks that have a lock, or wait for it, are killed, and others take their places. No two tasks
/// are ever where the lock lets one be, and the lock comes to all who are left.
fn owners_and_waiters_are_killed_all_the_time(lab: &mut Lab<'_>) -> Outcome {
    let options = boot::options();
    let mut random = oorandom::Rand64::new(u128::from(options.number("seed", 1).unwrap_or(1)));
    let mut left = options.number("kills", 1).unwrap_or(KILLS);
    while left > KILLS {
        kills(lab, &mut random, KILLS)?;
        lab.reset()?;
        left -= KILLS;
        if left % (TOLD * KILLS) < KILLS {
            report!("progress {left} kills are left");
        }
    }
    kills(lab, &mut random, left)
}

fn kills(lab: &mut Lab<'_>, random: &mut oorandom::Rand64, count: u64) -> Outcome {
    let page = Page::new(lab)?;
    let group = lab.group()?;
    let start = |lab: &mut Lab<'_>, number: u32| {
        let wrong = Block::at(number).note(WRONG).load(Acquire);
        let made = page.task(lab, number, number % lab.cpus, 100 + (number % 2) as u8, mortal)?;
        Block::at(number).note(WRONG).store(wrong, Relaxed);
        made.task.resume()?;
        Ok::<_, Failure>(made.task)
    };
    let mut tasks = alloc::vec::Vec::new();
    for number in 0..WORKERS {
        Block::at(number).clear();
        tasks.push(start(lab, number)?);
    }
    for _ in 0..count {
        lab.sleep(random.rand_range(10_000..200_000));
        // The owner, if somebody is there.
        let inside = page.word(PLAIN).load(Relaxed);
        let any = random.rand_range(0..u64::from(WORKERS));
        let number = inside.checked_sub(1).filter(|_| random.rand_range(0..4) != 0).unwrap_or(any) as u32;
        // While it lives, nobody may be told that the owner is gone: it may be inside.
        tasks[number as usize].kill_and_wait()?;
        group.withdraw(number + 1)?;
        group.withdraw(page.bells + number)?;
        tasks[number as usize] = start(lab, number)?;
    }
    let before: u64 = counted();
    lab.until("somebody gets the lock again", || counted() > before)?;
    page.word(OVER).store(1, Relaxed);
    through(lab, 0..WORKERS)?;
    expect_eq!(page.word(0).load(Relaxed), 0, "who has the lock");
    Ok(())
}

/// Returns how often all workers have counted.
fn counted() -> u64 {
    (0..WORKERS).map(|number| Block::at(number).note(COUNT).load(Acquire)).sum()
}
