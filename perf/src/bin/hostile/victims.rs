//! The victims: tasks of the CPU 0 that do their own work, and the one that must wake in time.
//!
//! One victim works at a time. Each marks its work for the TCG plugin: a window while it works, and
//! each operation that it has done. Quiet and attacked work are windows of different numbers, so
//! that the harness compares what the CPU executed for one operation.

use alloc::vec::Vec;

use abi::{Cap, Error, Fate, Listening, LockWord, PAGE_SIZE, PageMode, PageRange, Rights, Target, TaskId};
use perf::mark::{self, BEGIN, DUE, END, OP, WOKE, mark};
use user_rt::arch::{self, fast, memory};
use user_rt::cap::{Access, Frame, Group, Handle, Notification, Process};
use user_rt::grants;
use user_rt::invoke::{copy, copy_raw, yield_now};
use user_rt::ipc::{self, Message, Patience};
use user_rt::layout::slot;
use user_rt::locks::{LockPage, User};
use user_rt::pages::Pooled;
use user_rt::spawn::{Child, Entry, Spawned, own};
use user_rt::utcb;

use crate::lab::{Lab, Size, VICTIM_CPU};
use crate::words::Word;
use crate::{Failure, at};

/// Above everything that attackers may be, and below the task that must wake in time.
const PRIORITY: u8 = 150;
/// The priority of the task that must wake in time.
const WAKER_PRIORITY: u8 = 200;
/// Exposures of the victims' servers.
pub const ECHO: u32 = 0;
pub const GIVER: u32 = 1;
pub const LENDER: u32 = 2;
/// Exposures of users of locks: of a victim, and of a task of the attackers'.
pub const LOCKER: u32 = 3;
pub const STRANGER: u32 = 4;

/// How many victims there are.
pub const COUNT: u64 = 7;
/// Their numbers, in the order of their turns.
const LOOP: u8 = 0;
const CALL: u8 = 1;
const GRANT: u8 = 2;
const COPY: u8 = 3;
const MAP: u8 = 4;
const PAGE: u8 = 5;
const LOCK: u8 = 6;

/// Slots of victims.
const CALL_TO_WORK: Cap = Cap(99);
const NOTE: Cap = Cap(100);
const SPARE: Cap = Cap(200);
/// So many that the CPUs have long forgotten a slot when it is filled again.
const SPARES: u32 = 3500;
const FRAME: Cap = Cap(101);
const FRAME_AT: u64 = 0x9000_0000;
/// Where the lender has the page that it shares, and where its clients get that page.
const LENT_AT: u64 = 0x9100_0000;
const SHARED_AT: u64 = 0x9200_0000;
/// Where the victim that takes locks has their page.
const LOCKS_AT: u64 = 0x9300_0000;
/// Locks that it takes in turn, and how long it waits for one, in ticks.
pub const LOCKS: u32 = 8;
const LOCK_PATIENCE: u64 = 20_000;
const SIZE: Size = Size { tables: 32, slots: 4000, tasks: 8, with_file: false };
/// Turns of a loop that is one operation.
const TURNS: u64 = 500;
/// How long the waker waits, in ticks. No period of an attack is a multiple of that: so it wakes at
/// every stage of the attack.
const PERIOD: u64 = 61 << 16;

/// The victims' processes that others need.
pub struct Victims {
    pub group: Group,
    /// The process of the loop.
    pub looping: Child,
    /// The page of the victims' locks.
    pub locks: Frame,
    /// For each victim the Notification that tells it to look whose turn it is.
    calls: Vec<Notification>,
}

impl Victims {
    /// Makes all victims, and lets them wait for their turns.
    pub fn new(lab: &mut Lab) -> Result<Victims, Failure> {
        let group = at("making the victims' group", lab.nursery.make_group(16, 8))?;
        let note: Notification = at("making a Notification", lab.nursery.make(0))?;
        let frame: Frame = at("making a frame", lab.nursery.make(12))?;
        let server = serve(lab, &group, ECHO, echo, None)?;
        Word::Server.set(server.raw());
        serve(lab, &group, GIVER, giver, Some((note.cap(), NOTE)))?;
        serve(lab, &group, LENDER, lender, Some((frame.cap(), FRAME)))?;
        let mut calls = Vec::new();
        let mut worker = |lab: &mut Lab, entry| worker(lab, &group, entry, &mut calls);
        let looping = worker(lab, looper)?;
        worker(lab, caller)?;
        worker(lab, asker)?;
        let copying = worker(lab, copier)?;
        at("giving what is copied", copy(&note, copying.cnode.slot(NOTE), Rights::ALL, 0))?;
        let mapping = worker(lab, mapper)?;
        let frame: Frame = at("making a frame", lab.nursery.make(12))?;
        at("giving what is mapped", copy(&frame, mapping.cnode.slot(FRAME), Rights::ALL, 0))?;
        worker(lab, borrower)?;
        let locks = locking(lab, &group, &mut calls)?;
        let waking = lab.process(&SIZE)?;
        let quiet: Notification = at("making a Notification", lab.nursery.make(0))?;
        at("giving what is waited for", copy(&quiet, waking.cnode.slot(NOTE), Rights::ALL, 0))?;
        let waker = lab.task(&waking, VICTIM_CPU, WAKER_PRIORITY, waker, 0)?;
        at("starting the waker", waker.task.resume())?;
        Ok(Victims { group, looping, locks, calls })
    }

    /// Gives a turn to a victim, by its number plus one, or to none.
    pub fn give_turn(&self, turn: u64) {
        Word::Turn.set(turn);
        for call in &self.calls {
            let _ = call.notify(1);
        }
    }
}

fn serve(
    lab: &mut Lab,
    group: &Group,
    exposure: u32,
    entry: Entry,
    gift: Option<(Cap, Cap)>,
) -> Result<TaskId, Failure> {
    let child = lab.process(&SIZE)?;
    if let Some((cap, slot)) = gift {
        at("giving what a server answers with", copy_raw(cap, child.cnode.slot(slot), Rights::ALL, 0))?;
    }
    let server = lab.task(&child, VICTIM_CPU, PRIORITY, entry, 0)?;
    at("exposing a server", group.expose_task(exposure, &server.task))?;
    at("starting a server", server.task.resume())?;
    Ok(server.id)
}

fn worker(
    lab: &mut Lab,
    group: &Group,
    entry: Entry,
    calls: &mut Vec<Notification>,
) -> Result<Child, Failure> {
    let (child, task) = resting(lab, group, entry, calls)?;
    at("starting a victim", task.task.resume())?;
    Ok(child)
}

/// Starts the victim that takes locks. Returns the page of the locks.
fn locking(lab: &mut Lab, group: &Group, calls: &mut Vec<Notification>) -> Result<Frame, Failure> {
    let (child, task) = resting(lab, group, locker, calls)?;
    let locks: Frame = at("making a page of locks", lab.nursery.make(12))?;
    at("mapping the locks", child.vspace.map(&locks, LOCKS_AT, Access::Write))?;
    at("giving the locks", copy(&locks, child.cnode.slot(FRAME), Rights::ALL, 0))?;
    at("exposing a user of locks", group.expose_task(LOCKER, &task.task))?;
    Word::Locker.set(LockWord::of(task.id, LOCKER).0);
    at("starting a victim", task.task.resume())?;
    Ok(locks)
}

/// Makes a victim, which is still suspended.
fn resting(
    lab: &mut Lab,
    group: &Group,
    entry: Entry,
    calls: &mut Vec<Notification>,
) -> Result<(Child, Spawned), Failure> {
    let child = lab.process(&SIZE)?;
    let rights = Rights::SEND | Rights::STRING | Rights::GRANT;
    at("joining the group", child.join(group, slot::GROUPS, rights, 0))?;
    let call: Notification = at("making a Notification", lab.nursery.make(0))?;
    at("giving what is waited for", copy(&call, child.cnode.slot(CALL_TO_WORK), Rights::ALL, 0))?;
    calls.push(call);
    let task = lab.task(&child, VICTIM_CPU, PRIORITY, entry, 0)?;
    Ok((child, task))
}

/// Waits for so many ticks, or until it is another victim's turn.
fn rest(ticks: u64) {
    let _ = Notification::at(CALL_TO_WORK).wait_until(arch::now() + ticks);
}

/// Does an operation again and again while it is the victim's turn. `QUIET` and `LOUD` are its
/// windows. An operation that returns false was refused, and does not count as done: a victim that
/// gets nothing but refusals is stuck.
fn work<const KIND: u8, const QUIET: u8, const LOUD: u8>(mut operation: impl FnMut() -> bool) -> ! {
    let is_mine = || Word::Turn.get() == u64::from(KIND) + 1;
    loop {
        while !is_mine() {
            let _ = Notification::at(CALL_TO_WORK).wait();
        }
        if Word::Loud.get() != 0 {
            turn::<LOUD>(is_mine, &mut operation);
        } else {
            turn::<QUIET>(is_mine, &mut operation);
        }
    }
}

fn turn<const WINDOW: u8>(is_mine: impl Fn() -> bool, operation: &mut impl FnMut() -> bool) {
    let (burst, loud) = (Word::Burst.get(), Word::Loud.get());
    while is_mine() && Word::Loud.get() == loud {
        let until = arch::now() + burst;
        mark::<BEGIN, WINDOW>();
        while is_mine() && Word::Loud.get() == loud && (burst == 0 || arch::now() < until) {
            if operation() {
                mark::<OP, WINDOW>();
            }
        }
        mark::<END, WINDOW>();
        if burst != 0 {
            rest(burst);
        }
    }
}

extern "C" fn looper(_: u64) -> ! {
    work::<LOOP, { mark::HOSTILE_QUIET + LOOP }, { mark::HOSTILE_LOUD + LOOP }>(|| {
        arch::countdown(TURNS);
        true
    })
}

extern "C" fn caller(_: u64) -> ! {
    let server = Target::new(slot::GROUPS, ECHO);
    work::<CALL, { mark::HOSTILE_QUIET + CALL }, { mark::HOSTILE_LOUD + CALL }>(|| {
        fast::call(server, [1, 2, 3, 4]);
        true
    })
}

extern "C" fn echo(_: u64) -> ! {
    let mut message = fast::Short::EMPTY;
    loop {
        message = fast::reply_recv(message.regs);
    }
}

/// Calls the server that answers with a capability.
extern "C" fn asker(_: u64) -> ! {
    let server = Group::at(slot::GROUPS).exposure(GIVER);
    let mut next = 0;
    work::<GRANT, { mark::HOSTILE_QUIET + GRANT }, { mark::HOSTILE_LOUD + GRANT }>(|| {
        let at = Cap(SPARE.0 + next % SPARES);
        next += 1;
        utcb::current().listen(Listening { next: at, count: 1 });
        let answered = server.call(&Message::new(1, [0; 4]).that_listens());
        let came = utcb::current().received().next().is_some_and(|came| came.fate == Fate::Arrived);
        let came = answered.is_ok() && came;
        if came {
            Word::Granted.add(1);
            let _ = own::cnode().delete(at);
        } else {
            Word::Refused.add(1);
        }
        came
    })
}

/// Answers each call with a copy of a capability.
extern "C" fn giver(_: u64) -> ! {
    let note = Notification::at(NOTE);
    let mut event = ipc::recv();
    loop {
        utcb::current().send_grants(&[grants::copied(&note, Rights::NOTIFY, 0)]);
        event = match event {
            Ok(_) => ipc::reply_recv(&Message::new(7, [0; 4]).with_caps()),
            Err(_) => ipc::recv(),
        };
    }
}

/// Calls the server that answers with a page, and drops the page.
extern "C" fn borrower(_: u64) -> ! {
    let server = Group::at(slot::GROUPS).exposure(LENDER);
    work::<PAGE, { mark::HOSTILE_QUIET + PAGE }, { mark::HOSTILE_LOUD + PAGE }>(|| {
        utcb::current().open_window(SHARED_AT, PAGE_SIZE);
        let answered = server.call(&Message::new(1, [0; 4]));
        let came = answered.is_ok_and(|answer| answer.pages);
        if came {
            Word::Granted.add(1);
            let _ = own::vspace().drop_pages(Pooled::new(SHARED_AT, 1));
        } else {
            Word::Refused.add(1);
        }
        came
    })
}

/// Shares one page with each caller.
extern "C" fn lender(_: u64) -> ! {
    let _ = own::vspace().map_pool(&Frame::at(FRAME), LENT_AT);
    let mut event = ipc::recv();
    loop {
        utcb::current().send_ranges(&[PageRange::new(PageMode::Share, LENT_AT, 1)]);
        event = match event {
            Ok(_) => ipc::reply_recv(&Message::new(7, [0; 4]).with_pages()),
            Err(_) => ipc::recv(),
        };
    }
}

extern "C" fn copier(_: u64) -> ! {
    let mut next = 0;
    work::<COPY, { mark::HOSTILE_QUIET + COPY }, { mark::HOSTILE_LOUD + COPY }>(|| {
        let at = Cap(SPARE.0 + next % SPARES);
        next += 1;
        let copied = copy_raw(NOTE, own::cnode().slot(at), Rights::NOTIFY, 0).is_ok();
        own::cnode().delete(at).is_ok() && copied
    })
}

extern "C" fn mapper(_: u64) -> ! {
    let frame = Frame::at(FRAME);
    work::<MAP, { mark::HOSTILE_QUIET + MAP }, { mark::HOSTILE_LOUD + MAP }>(|| {
        let mapped = own::vspace().map(&frame, FRAME_AT, Access::Write).is_ok();
        own::vspace().unmap(&frame, FRAME_AT).is_ok() && mapped
    })
}

/// Takes locks that the attackers can reach, too, and gives them back. A lock whose word the
/// attackers have changed may be refused, with an error that says why.
extern "C" fn locker(_: u64) -> ! {
    // SAFETY: the program has mapped the page there, for good, and all access it as atomics.
    let words = unsafe { memory::mapped_words(LOCKS_AT, PAGE_SIZE as usize / 8) };
    let page = LockPage::new(&Group::at(slot::GROUPS), &Frame::at(FRAME), words);
    let me = User::new(utcb::current().task_id(), LOCKER);
    let mut next = 0;
    work::<LOCK, { mark::HOSTILE_QUIET + LOCK }, { mark::HOSTILE_LOUD + LOCK }>(|| {
        let mutex = page.mutex(next % LOCKS);
        next += 1;
        match mutex.lock_within(me, Patience::Until(arch::now() + LOCK_PATIENCE)) {
            Ok(held) => {
                arch::countdown(TURNS);
                drop(held);
                true
            }
            Err(refusal) => matches!(refusal.error, Error::Deadlock | Error::Timeout),
        }
    })
}

/// Starts a program on each of these CPUs, which runs until the attack begins. So victims have
/// neighbours before and after: what it costs to ask a running CPU is not the attackers' fault.
pub fn start_bystanders(lab: &mut Lab, cpus: u64) -> Result<(), Failure> {
    let child = lab.process(&Size { tasks: u64::BITS, ..SIZE })?;
    for cpu in (0..u64::BITS).filter(|cpu| cpus >> cpu & 1 != 0) {
        let bystander = lab.task(&child, cpu, 0, bystander, 0)?;
        at("starting a bystander", bystander.task.resume())?;
    }
    Ok(())
}

extern "C" fn bystander(_: u64) -> ! {
    while Word::Loud.get() == 0 {
        arch::countdown(TURNS);
    }
    loop {
        let _ = ipc::recv();
    }
}

/// Keeps the clock of instructions going while all others wait: it would jump else.
pub extern "C" fn keeper(_: u64) -> ! {
    loop {
        arch::countdown(TURNS);
    }
}

/// Wakes by timer again and again. The plugin counts how late, and the task itself in ticks.
extern "C" fn waker(_: u64) -> ! {
    let note = Notification::at(NOTE);
    loop {
        let is_loud = Word::Loud.get() != 0;
        mark::<DUE, 0>();
        let due = arch::now() + PERIOD;
        let answer = note.wait_until(due);
        let late = arch::now() - due;
        let is_woken = answer.is_err_and(|refusal| refusal.error == Error::Timeout);
        // What ends the attack may outrank this task.
        let is_loud = is_loud && Word::Loud.get() != 0;
        match (is_woken, is_loud) {
            (true, true) => {
                mark::<WOKE, { mark::HOSTILE_LOUD_WAKES }>();
                Word::Late.set(Word::Late.get().max(late));
            }
            (true, false) => mark::<WOKE, { mark::HOSTILE_QUIET_WAKES }>(),
            (false, _) => {
                let _ = yield_now();
            }
        }
    }
}

/// Returns whether a program that has nothing to do with the attack can still make a process.
pub fn can_make_process(lab: &mut Lab) -> bool {
    let made = lab.nursery.untyped().retype::<Process>(1, own::cnode().slot(lab.spare), 1);
    made.is_ok() && own::cnode().delete(lab.spare).is_ok()
}
