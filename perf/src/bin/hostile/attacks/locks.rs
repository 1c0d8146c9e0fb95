//! Locks that processes share: floods of waits, chains and cycles of waits, and words that lie.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::{
    Cap, Error, FLAG_DEADLINE, LOCK_INDEX_BITS, LockWord, Op, PAGE_SIZE, RegIndex, Target, TaskId, Utcb,
};
use user_rt::arch::{self, Args, memory, syscall};
use user_rt::cap::{Access, Frame, Group, Handle, Task};
use user_rt::invoke::yield_now;
use user_rt::locks::{LockPage, User};
use user_rt::spawn::{Spawned, own};
use user_rt::{Result, boot, utcb};

use crate::attackers::{ATTACKER_PRIORITY, Crowd, Den, alive, alive_if, sit, starts_at, victims};
use crate::lab::LOCKS_SLOT;
use crate::victims::{ECHO, LOCKER, LOCKS, STRANGER};
use crate::words::{Word, own_word};

/// Where the attackers have a page of locks of their own, and that of the victims' locks.
const OWN_AT: u64 = 0xb5_0000_0000;
const VICTIMS_AT: u64 = 0xb6_0000_0000;
/// Words of these attacks.
const GROUP: usize = 0;
const FRAME: usize = 1;
const PASSED: usize = 2;
const HOLDER: usize = 3;
const DEAD: usize = 4;
const CLOSED: usize = 5;

/// Returns the words of a page of locks.
fn words_at(at: u64) -> &'static [AtomicU64] {
    // SAFETY: each attack maps the pages that it uses before any task uses their words. They stay
    // mapped, and all that use them see atomics.
    unsafe { memory::mapped_words(at, PAGE_SIZE as usize / 8) }
}

/// Makes the attackers' own page of locks, and the group of those that use it.
fn own_page(den: &mut Den, users: u32) -> Result<Group> {
    let group = den.nursery.make_group(4, users as u16)?;
    let frame: Frame = den.nursery.make(12)?;
    own::vspace().map(&frame, OWN_AT, Access::Write)?;
    own_word(GROUP).store(group.cap().0.into(), SeqCst);
    own_word(FRAME).store(frame.cap().0.into(), SeqCst);
    Ok(group)
}

fn own_cap(word: usize) -> Cap {
    Cap(own_word(word).load(SeqCst) as u32)
}

/// Returns the word of a lock that a task has for which others wait.
fn taken(id: u64, index: u32) -> LockWord {
    LockWord::of(TaskId::from_raw(id), index).with_waits()
}

/// Waits for so many ticks for a lock of a page, whose word should be `word`.
fn wait(group: Cap, page: Cap, lock: u32, word: LockWord, ticks: u64) -> Result<()> {
    let (group, place) = (group.arg(), Target::new(page, lock).0);
    let mut args = Args::plain(Op::LockWait, group, arch::now() + ticks, place, word.0);
    args.info = args.info.flag(FLAG_DEADLINE);
    syscall(args).done()
}

// --- many waits ----------------------------------------------------------------------------------

const TAKERS: u32 = 200;
const FAR_WAITERS: u32 = 48;
/// The lock that the takers pass on, and those for which others wait on the victims' CPU.
const PASSED_ON: u32 = 0;
const OF_SERVER: u32 = 1;
const OF_STRANGER: u32 = 2;

/// Lets 200 tasks pass one lock on, and others wait for a victims' server as for a lock's owner.
pub fn flood(den: &mut Den) -> Result<()> {
    let group = own_page(den, TAKERS)?;
    for (lock, id, index) in [(OF_SERVER, Word::Server, ECHO), (OF_STRANGER, Word::Stranger, STRANGER)] {
        words_at(OWN_AT)[lock as usize].store(taken(id.get(), index).0, SeqCst);
    }
    for number in 0..TAKERS {
        let taker = den.task(cpu_of(den, number), taker, number.into())?;
        group.expose_task(number, &taker.task)?;
        taker.task.resume()?;
    }
    (0..FAR_WAITERS).try_for_each(|number| den.start(cpu_of(den, number), far_waiter, number.into()))
}

/// Returns the CPU of one of many tasks: they are on all of the attackers'.
fn cpu_of(den: &Den, number: u32) -> u32 {
    den.cpus().nth(number as usize % den.cpus().count()).unwrap_or(0)
}

extern "C" fn taker(number: u64) -> ! {
    let (group, frame) = (Group::at(own_cap(GROUP)), Frame::at(own_cap(FRAME)));
    let page = LockPage::new(&group, &frame, words_at(OWN_AT));
    let me = User::new(utcb::current().task_id(), number as u32);
    loop {
        let Ok(held) = page.mutex(PASSED_ON).lock(me) else { continue };
        if own_word(HOLDER).swap(1, SeqCst) != 0 {
            Word::Escapes.add(1);
        }
        // The others come, and wait.
        let _ = yield_now();
        own_word(PASSED).fetch_add(1, SeqCst);
        own_word(HOLDER).store(0, SeqCst);
        drop(held);
    }
}

extern "C" fn far_waiter(number: u64) -> ! {
    let lock = if number.is_multiple_of(2) { OF_SERVER } else { OF_STRANGER };
    let word = LockWord(words_at(OWN_AT)[lock as usize].load(SeqCst));
    loop {
        let ended = wait(victims(), own_cap(FRAME), lock, word, 20_000 + number * 3_000);
        let waited = ended.is_err_and(|refusal| refusal.error == Error::Timeout);
        alive_if(waited && own_word(PASSED).swap(0, SeqCst) > 0);
    }
}

// --- chains --------------------------------------------------------------------------------------

/// Tasks of each of two chains: fewer than the kernel follows.
const LINKS: u32 = 60;
/// Locks of a page: those of the first chain's tasks, of the second chain's, of the closers, and
/// that of a victims' server.
const SECOND: u32 = LINKS;
const CLOSERS: u32 = 2 * LINKS;
const END: u32 = CLOSERS + 64;
/// How long a closer waits, in ticks.
const CLOSER_PATIENCE: u64 = 2_000_000;
/// The milliseconds after which all tasks of the chains wait again, at the latest.
const WHOLE_MS: u64 = 40;

/// A lock for which a task of a chain waits.
struct Awaited {
    group: Cap,
    lock: u32,
    word: LockWord,
}

/// Makes two chains of tasks that wait for each other's locks. One ends at a victims' server, and
/// the other at a task that closes it to a cycle. Makes all tasks wait again, and again.
pub fn chain(den: &mut Den) -> Result<()> {
    let group = own_page(den, END)?;
    let mut closers = [const { None }; 64];
    let cpus = den.cpus();
    for (place, (cpu, closer)) in (0..).zip(cpus.zip(&mut closers)) {
        let made = den.task(cpu, self::closer, place.into())?;
        owns(&group, CLOSERS + place, &made.task, made.id.raw())?;
        *closer = Some(made);
    }
    let first = closers[0].as_ref().map_or(0, |closer: &Spawned| closer.id.raw());
    let server = taken(Word::Server.get(), ECHO);
    words_at(OWN_AT)[END as usize].store(server.0, SeqCst);
    let mut crowd = Crowd::new(&mut den.nursery, 2 * LINKS)?;
    add_chain(den, &mut crowd, &group, 0, Awaited { group: victims(), lock: END, word: server })?;
    let cycle = Awaited { group: group.cap(), lock: CLOSERS, word: taken(first, CLOSERS) };
    add_chain(den, &mut crowd, &group, SECOND, cycle)?;
    for number in 0..crowd.count_made() {
        crowd.time(number).configure(ATTACKER_PRIORITY, boot::facts().tsc_hz / 5_000)?;
        crowd.task(number).resume()?;
    }
    closers.iter().flatten().try_for_each(|closer| closer.task.resume())?;
    loop {
        // Until the second chain was a cycle.
        let closed = own_word(CLOSED).load(SeqCst);
        for _ in 0..WHOLE_MS {
            den.sleep(1);
            if own_word(CLOSED).load(SeqCst) != closed {
                break;
            }
        }
        for number in 0..crowd.count_made() {
            let _ = crowd.task(number).cancel();
        }
    }
}

/// Exposes a task as the owner of a lock of the own page.
fn owns(group: &Group, lock: u32, task: &Task, id: u64) -> Result<()> {
    words_at(OWN_AT)[lock as usize].store(taken(id, lock).0, SeqCst);
    group.expose_task(lock, task)
}

/// Adds the tasks of a chain, who own the locks from `first` on, beginning with the last, which
/// waits for `end`.
fn add_chain(den: &Den, crowd: &mut Crowd, group: &Group, first: u32, end: Awaited) -> Result<()> {
    let mut awaited = end;
    for lock in (first..first + LINKS).rev() {
        let number = crowd.count_made();
        let place = Target::new(own_cap(FRAME), awaited.lock);
        let utcb = crowd.utcb_address(number);
        let task = crowd.add(&den.nursery, &own::process(), cpu_of(den, lock), true, |regs| {
            starts_at(regs, link);
            regs[RegIndex::FsBase as usize] = utcb;
        })?;
        let utcb = crowd.utcb(number);
        for (word, value) in utcb.user.iter().zip([awaited.group.arg(), place.0, awaited.word.0]) {
            word.store(value, Relaxed);
        }
        let id = utcb.task_id.load(Relaxed);
        owns(group, lock, &task, id)?;
        awaited = Awaited { group: group.cap(), lock, word: taken(id, lock) };
    }
    Ok(())
}

/// Waits for the lock that the task's UTCB names, for ever.
#[unsafe(naked)]
extern "C" fn link() {
    naked_asm!(
        "2:",
        "mov rdi, fs:[{user}]",
        "mov rdx, fs:[{user} + 8]",
        "mov r8, fs:[{user} + 16]",
        "mov eax, {wait}",
        "syscall",
        "jmp 2b",
        user = const offset_of!(Utcb, user),
        wait = const Op::LockWait as u32,
    )
}

/// Waits for the first lock of each chain: the first closer is at the second chain's end.
extern "C" fn closer(place: u64) -> ! {
    let wait_for = |lock: u32| {
        let word = LockWord(words_at(OWN_AT)[lock as usize].load(SeqCst));
        wait(own_cap(GROUP), own_cap(FRAME), lock, word, CLOSER_PATIENCE).err().map(|refusal| refusal.error)
    };
    loop {
        let is_cycle = wait_for(SECOND) == Some(Error::Deadlock);
        let is_long = wait_for(0) == Some(Error::Timeout);
        if place == 0 && is_cycle && is_long {
            own_word(CLOSED).fetch_add(1, SeqCst);
            alive();
        }
    }
}

// --- words that lie ------------------------------------------------------------------------------

/// How long an attacker waits for a lock of the victim's, in ticks.
const LIAR_PATIENCE: u64 = 50_000;

/// Writes all over the words of the locks that a victim takes, and waits for these locks.
pub fn words(den: &mut Den) -> Result<()> {
    own::vspace().map(&Frame::at(LOCKS_SLOT), VICTIMS_AT, Access::Write)?;
    let dead = den.task(den.last_cpu(), sit, 0)?;
    dead.task.kill_and_wait()?;
    own_word(DEAD).store(dead.id.raw(), SeqCst);
    den.start_on_all(liar)
}

extern "C" fn liar(place: u64) -> ! {
    let words = &words_at(VICTIMS_AT)[..LOCKS as usize];
    let victim = LockWord(Word::Locker.get());
    let dead = own_word(DEAD).load(SeqCst);
    let id = victim.0 >> (LOCK_INDEX_BITS + 1);
    let stranger = Word::Stranger.get();
    let mut noise = place + 1;
    loop {
        for (lock, word) in (0..).zip(words) {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let lies = [
                0,
                LockWord::WAITS,
                victim.0,
                victim.with_waits().0,
                LockWord::of(TaskId::from_raw(dead), LOCKER).0,
                taken(dead, 4095).0,
                taken(id, ECHO).0,
                taken(stranger, STRANGER).0,
                taken(stranger, LOCKER).0,
                noise,
            ];
            word.store(lies[(noise >> 40) as usize % lies.len()], Relaxed);
            arch::countdown(1 + (noise >> 50) % 512);
            if noise >> 60 == 0 {
                word.store(victim.with_waits().0, Relaxed);
                let _ = wait(victims(), LOCKS_SLOT, lock, victim.with_waits(), LIAR_PATIENCE);
            }
        }
        alive();
    }
}
