//! Floods: system calls that make the victims' CPU work, as fast as they go.

use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::events::{EventControl, Window};
use abi::{Cap, FLAG_PAGES, MESSAGE_PAGES_MAX, MsgInfo, Op, PageMode, PageRange, Rights};
use user_rt::Result;
use user_rt::arch::{self, Args, fast, syscall};
use user_rt::cap::{EventPool, Frame, Group, Handle, Notification, Reply, SchedContext};
use user_rt::invoke::Pins;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::attackers::{
    ATTACKER_PRIORITY, Den, alive, alive_if, bind_pool, fill_pool, given_device, given_note, given_task,
    with_memory,
};
use crate::lab::GIVEN;
use crate::words::own_word;

/// Raises Notifications of the victims' CPU, for which nobody waits.
pub fn notify(den: &mut Den) -> Result<()> {
    den.start_on_all(notifier)
}

extern "C" fn notifier(place: u64) -> ! {
    let mut number = place as u32 * 7;
    loop {
        for _ in 0..GIVEN {
            fast::plain(Op::Notify, given_note(number).arg(), 1);
            number += 1;
        }
        alive();
    }
}

/// Registers of the device: to raise its interrupt, and to take it back.
const RAISE: usize = 0x60 / 4;
const ACKNOWLEDGE: usize = 0x64 / 4;

/// Lets a device interrupt the victims' CPU, as often as its driver may ask for interrupts.
pub fn interrupts(den: &mut Den) -> Result<()> {
    den.start(den.last_cpu(), driver, 0)
}

extern "C" fn driver(_: u64) -> ! {
    let (irq, registers) = given_device();
    loop {
        let is_open = irq.next().is_ok_and(|rests_until| rests_until.is_none());
        registers[RAISE].store(1, Relaxed);
        registers[ACKNOWLEDGE].store(1, Relaxed);
        alive_if(is_open);
    }
}

/// Groups have places for so many watchers.
const WATCHERS: u32 = abi::membership::WATCHERS;
/// Words of these attacks.
const GROUP: usize = 0;
const SLOTS: usize = 1;
const NOTE: usize = 2;
/// Exposures that change, and slots in which memberships come.
const EXPOSURES: u32 = 2900;
const SEATS: u32 = 500;

/// Makes a group that Notifications of the victims' CPU watch.
fn watched_group(den: &mut Den, size: u64) -> Result<Group> {
    let group: Group = den.nursery.make(size)?;
    for index in 0..WATCHERS {
        group.watch(index, &given_note(index), 0)?;
    }
    own_word(GROUP).store(group.cap().0.into(), SeqCst);
    Ok(group)
}

fn group() -> Group {
    Group::at(Cap(own_word(GROUP).load(SeqCst) as u32))
}

/// Exposes and withdraws, so that each change tells the watchers.
pub fn watchers(den: &mut Den) -> Result<()> {
    watched_group(den, 8 | 3000 << 16)?;
    let note: Notification = den.nursery.make(0)?;
    own_word(NOTE).store(note.cap().0.into(), SeqCst);
    den.start_on_all(exposer)
}

extern "C" fn exposer(place: u64) -> ! {
    let (group, note) = (group(), Notification::at(Cap(own_word(NOTE).load(SeqCst) as u32)));
    let mut index = place as u32 * 700;
    loop {
        let at = WATCHERS + index % EXPOSURES;
        index += 1;
        let exposed = group.expose_notification(at, &note);
        let _ = group.withdraw(at);
        alive_if(exposed.is_ok());
    }
}

/// Joins a group and is removed from it, so that each change tells the watchers.
pub fn members(den: &mut Den) -> Result<()> {
    watched_group(den, 8 | 128 << 16)?;
    let first = den.nursery.take_slots(SEATS)?;
    own_word(SLOTS).store(first.0.into(), SeqCst);
    // A process has one offer of a slot: one task makes all changes.
    den.start(den.last_cpu(), joiner, 0)
}

extern "C" fn joiner(_: u64) -> ! {
    let (group, first) = (group(), own_word(SLOTS).load(SeqCst) as u32);
    let mut seat = 0;
    loop {
        let slot = Cap(first + seat % SEATS);
        seat += 1;
        let _ = own::process().accept(slot, &group);
        if let Ok(member) = group.add(&own::process(), Rights::SEND, 0) {
            let _ = group.remove(member);
            let _ = own::cnode().delete(slot);
            alive();
        }
    }
}

/// Makes a small object and takes its memory back.
pub fn resets(den: &mut Den) -> Result<()> {
    den.start_with_memory(resetter, 12)
}

extern "C" fn resetter(argument: u64) -> ! {
    let (memory, slot) = with_memory(argument);
    loop {
        let made = memory.retype::<Reply>(0, own::cnode().slot(slot), 1);
        let _ = memory.reset(Pins::Hold);
        alive_if(made.is_ok());
    }
}

/// Cancels tasks of the victims' CPU, which wait for nothing.
pub fn cancels(den: &mut Den) -> Result<()> {
    den.start_on_all(canceller)
}

extern "C" fn canceller(place: u64) -> ! {
    let mut number = place as u32;
    loop {
        for _ in 0..GIVEN {
            fast::plain(Op::TaskCancel, given_task(number).arg(), 0);
            number += 1;
        }
        alive();
    }
}

/// Sends CPU time to the victims' CPU, for tasks there that may not have it: it is refused there,
/// and comes back.
pub fn time(den: &mut Den) -> Result<()> {
    for cpu in den.cpus() {
        let time: SchedContext = den.nursery.make(0)?;
        time.configure(ATTACKER_PRIORITY, u64::MAX)?;
        den.start(cpu, time_sender, time.cap().0.into())?;
    }
    Ok(())
}

extern "C" fn time_sender(time: u64) -> ! {
    let time = Cap(time as u32).arg();
    loop {
        for number in 0..GIVEN {
            fast::plain(Op::SchedBind, time, given_task(number).arg());
        }
        alive();
    }
}

/// Where the pool and the pages that are sent are mapped.
const POOL_AT: u64 = 0xc000_0000;
const PAGES_AT: u64 = 0xd000_0000;
const WINDOW_AT: u64 = 0xe000_0000;
const CELLS_LOG2: u64 = 6;
const CELLS: u64 = 1 << CELLS_LOG2;
const READER: u32 = 0;
const POOL: usize = 3;

fn control() -> &'static EventControl {
    // SAFETY: the kernel maps the pool's first page there, writable, when the pool is bound.
    unsafe { &*(POOL_AT as *const EventControl) }
}

/// Fills a pool whose reader is on the victims' CPU, and lets a sender wait with pages. The pool's
/// owner then shows room and takes it away again.
pub fn pool(den: &mut Den) -> Result<()> {
    let group: Group = den.nursery.make_group(4, 4)?;
    own_word(GROUP).store(group.cap().0.into(), SeqCst);
    let reader = given_task(0);
    group.expose_task(READER, &reader)?;
    let frame: Frame = den.nursery.make(12 | MESSAGE_PAGES_MAX << 8)?;
    own::vspace().map_pool(&frame, PAGES_AT)?;
    let pool: EventPool = den.nursery.make(CELLS_LOG2)?;
    bind_pool(&pool, &reader, POOL_AT)?;
    own_word(POOL).store(pool.cap().0.into(), SeqCst);
    let window = Window { address: WINDOW_AT, pages: 4096 };
    control().window.store(window.word(), SeqCst);
    fill_pool(group.exposure(READER).0);
    den.start(den.last_cpu(), waiting_sender, 0)?;
    den.sleep(20);
    den.start(den.last_cpu(), teaser, 0)
}

extern "C" fn waiting_sender(_: u64) -> ! {
    let target = group().exposure(READER).0;
    loop {
        utcb::current().send_ranges(&[PageRange::new(PageMode::Share, PAGES_AT, MESSAGE_PAGES_MAX)]);
        let info = MsgInfo(0).op(Op::Send).flag(FLAG_PAGES);
        let _ = syscall(Args { info, rdi: target.0, ..Args::new(Op::Send) });
        own_word(POOL + 1).fetch_add(1, Relaxed);
    }
}

extern "C" fn teaser(_: u64) -> ! {
    /// Turns of a loop in which there seems to be room, and in which there is none.
    const ROOM: u64 = 1_500;
    const NO_ROOM: u64 = 20_000;
    let pool = Cap(own_word(POOL).load(SeqCst) as u32).arg();
    loop {
        control().head.store(CELLS, SeqCst);
        fast::plain(Op::PoolRoom, pool, 0);
        arch::countdown(ROOM);
        control().head.store(0, SeqCst);
        arch::countdown(NO_ROOM);
        alive();
    }
}
