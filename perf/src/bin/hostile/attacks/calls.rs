//! Clients of servers, callers of each other, members of groups.

use core::arch::naked_asm;
use core::sync::atomic::Ordering::SeqCst;

use abi::{Cap, Fate, Listening, Op, PAGE_SIZE, RegIndex, Rights, Utcb};
use user_rt::Result;
use user_rt::arch::{self, fast};
use user_rt::cap::{Group, Handle, Notification};
use user_rt::invoke::{copy_raw, yield_now};
use user_rt::ipc::Message;
use user_rt::pages::Pooled;
use user_rt::spawn::own;
use user_rt::utcb;

use crate::attackers::{Crowd, Den, alive, alive_if, sit, starts_at, victims};
use crate::victims::{GIVER, LENDER};
use crate::words::{Word, own_word};

/// Words of these attacks.
const UTCB: usize = 0;
const NOTE: usize = 1;
const SLOTS: usize = 2;
/// Slots among which the listening slot moves.
const PLACES: u32 = 2000;

/// Calls the victims' server, which answers with a capability, while another task keeps moving the
/// slot where the caller listens.
pub fn moving_slot(den: &mut Den) -> Result<()> {
    let note: Notification = den.nursery.make(0)?;
    own_word(NOTE).store(note.cap().0.into(), SeqCst);
    let first = den.nursery.take_slots(PLACES)?;
    own_word(SLOTS).store(first.0.into(), SeqCst);
    den.start(den.last_cpu(), mover, 0)?;
    let first_cpu = den.cpus().next().unwrap_or(0);
    den.start(first_cpu, moving_caller, 0)
}

extern "C" fn moving_caller(_: u64) -> ! {
    let server = Group::at(victims()).exposure(GIVER);
    own_word(UTCB).store(arch::fs_base(), SeqCst);
    loop {
        if server.call(&Message::new(2, [0; 4])).is_ok() {
            Word::Answered.add(1);
        }
        if let Some(came) = utcb::current().received().next()
            && came.fate == Fate::Arrived
        {
            let _ = own::cnode().delete(came.cap);
        }
    }
}

/// Fills a slot, empties it, and lets the caller listen there.
extern "C" fn mover(_: u64) -> ! {
    while own_word(UTCB).load(SeqCst) == 0 {
        let _ = yield_now();
    }
    // SAFETY: the other task's UTCB, mapped for as long as that lives; all of it are atomics.
    let page = unsafe { &*(own_word(UTCB).load(SeqCst) as *const Utcb) };
    let note = Cap(own_word(NOTE).load(SeqCst) as u32);
    let first = own_word(SLOTS).load(SeqCst) as u32;
    let mut number = 0;
    loop {
        let at = Cap(first + number % PLACES);
        number += 1;
        if copy_raw(note, own::cnode().slot(at), Rights::NONE, 0).is_ok() {
            let _ = own::cnode().delete(at);
            page.listening.store(Listening { next: at, count: 1 }.word(), SeqCst);
        }
        alive();
    }
}

/// Where the caller's window is.
const WINDOW: u64 = 0xe000_0000;

/// Calls the victims' server, which answers with a page, while another task keeps closing the
/// caller's window and dropping the page.
pub fn moving_window(den: &mut Den) -> Result<()> {
    den.start(den.last_cpu(), dropper, 0)?;
    let first_cpu = den.cpus().next().unwrap_or(0);
    den.start(first_cpu, windowed_caller, 0)
}

extern "C" fn windowed_caller(_: u64) -> ! {
    let server = Group::at(victims()).exposure(LENDER);
    own_word(UTCB).store(arch::fs_base(), SeqCst);
    loop {
        if server.call(&Message::new(2, [0; 4])).is_ok() {
            Word::Answered.add(1);
        }
    }
}

/// Opens and closes the caller's window, and drops what came there.
extern "C" fn dropper(_: u64) -> ! {
    while own_word(UTCB).load(SeqCst) == 0 {
        let _ = yield_now();
    }
    // SAFETY: the other task's UTCB, mapped for as long as that lives; all of it are atomics.
    let page = unsafe { &*(own_word(UTCB).load(SeqCst) as *const Utcb) };
    page.window[0].store(WINDOW, SeqCst);
    for turn in 0u64.. {
        // Closed every eighth turn.
        page.window[1].store(if turn % 8 == 0 { 0 } else { PAGE_SIZE }, SeqCst);
        alive_if(own::vspace().drop_pages(Pooled::new(WINDOW, 1)).is_ok());
    }
    sit(0)
}

/// Tasks that wait for one server.
const CALLERS: u32 = 1500;
const SERVER: u32 = 0;

/// Lets very many callers wait for a task, and kills that task.
pub fn waiting_callers(den: &mut Den) -> Result<()> {
    let group = den.nursery.make_group(4, 4)?;
    let mut callers = Crowd::new(&mut den.nursery, CALLERS)?;
    let mut servers = Crowd::new(&mut den.nursery, 1)?;
    let mut memory = den.nursery.split(16, 4)?;
    let cpu = den.last_cpu();
    for _ in 0..CALLERS {
        callers.add(&den.nursery, &own::process(), cpu, true, |regs| {
            starts_at(regs, call_and_rest);
            regs[RegIndex::FsBase as usize] = group.exposure(SERVER).0.0;
        })?;
    }
    for number in 0..CALLERS {
        callers.task(number).resume()?;
    }
    loop {
        let server = servers.add(&memory, &own::process(), cpu, false, |_| {})?;
        group.expose_task(SERVER, &server)?;
        // They rest in a receive: this ends it, and they call.
        for number in 0..CALLERS {
            let _ = callers.task(number).cancel();
        }
        den.sleep(10);
        server.kill()?;
        alive();
        memory.reset()?;
        servers.restart();
    }
}

/// Calls the target that the FS base has, then receives until that is cancelled.
#[unsafe(naked)]
extern "C" fn call_and_rest() {
    naked_asm!(
        "2:",
        "rdfsbase rdi",
        "mov eax, {call}",
        "syscall",
        "mov eax, {recv}",
        "syscall",
        "jmp 2b",
        call = const Op::Call as u32,
        recv = const Op::Recv as u32,
    )
}

/// Links of a chain of calls.
const LINKS: u32 = 1000;

/// Calls along a chain of tasks, whose end answers nobody, and kills that end.
pub fn chain(den: &mut Den) -> Result<()> {
    let group = den.nursery.make_group(4, LINKS as u16 + 2)?;
    let mut links = Crowd::new(&mut den.nursery, LINKS)?;
    let mut ends = Crowd::new(&mut den.nursery, 1)?;
    let mut memory = den.nursery.split(16, 4)?;
    let cpu = den.last_cpu();
    for number in 0..LINKS {
        let task = links.add(&den.nursery, &own::process(), cpu, false, |regs| {
            starts_at(regs, link);
            regs[RegIndex::FsBase as usize] = group.exposure(number + 1).0.0;
        })?;
        task.resume()?;
        group.expose_task(number, &task)?;
    }
    own_word(SLOTS).store(group.exposure(0).0.0, SeqCst);
    den.start(cpu, head, 0)?;
    loop {
        let end = ends.add(&memory, &own::process(), cpu, false, |regs| starts_at(regs, hole))?;
        end.resume()?;
        group.expose_task(LINKS, &end)?;
        den.sleep(20);
        end.kill()?;
        alive();
        memory.reset()?;
        ends.restart();
    }
}

extern "C" fn head(_: u64) -> ! {
    let target = abi::Target(own_word(SLOTS).load(SeqCst));
    loop {
        fast::call(target, [1; 4]);
    }
}

/// Receives, calls the target that the FS base has, and answers.
#[unsafe(naked)]
pub extern "C" fn link() {
    naked_asm!(
        "mov eax, {recv}",
        "syscall",
        "2:",
        "rdfsbase rdi",
        "mov eax, {call}",
        "syscall",
        "mov eax, {reply}",
        "syscall",
        "jmp 2b",
        call = const Op::Call as u32,
        recv = const Op::Recv as u32,
        reply = const Op::ReplyRecv as u32,
    )
}

/// Receives for ever.
#[unsafe(naked)]
extern "C" fn hole() {
    naked_asm!("2:", "mov eax, {recv}", "syscall", "jmp 2b", recv = const Op::Recv as u32)
}

/// Exposures of a wide group.
const EXPOSURES: u32 = 3000;

/// Makes a group of very many exposures, and deletes it.
pub fn wide_group(den: &mut Den) -> Result<()> {
    let mut memory = den.nursery.split(20, 8)?;
    let note: Notification = den.nursery.make(0)?;
    loop {
        let group: Group = memory.make(8 | u64::from(EXPOSURES) << 16)?;
        for index in 0..EXPOSURES {
            group.expose_notification(index, &note)?;
        }
        own::cnode().delete(group.cap())?;
        alive();
        memory.reset()?;
    }
}
