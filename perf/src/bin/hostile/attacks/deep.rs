//! Bounds that multiply: far slots, walks along calls, broadcasts, full messages; and what servers
//! share with clients.

use core::arch::naked_asm;
use core::array;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

use abi::events::{EventControl, Progress, Window};
use abi::{
    Cap, Error, FLAG_CAPS, FLAG_DEADLINE, FLAG_PAGES, GRANTS_MAX, Listening, MESSAGE_PAGES_MAX, MsgInfo, Op,
    PAGE_SIZE, PageMode, PageRange, RANGES_MAX, RegIndex, Rights, Target, pages_max,
};
use user_rt::arch::{self, Args, fast, memory, syscall};
use user_rt::cap::{
    CNode, EventPool, Frame, Group, Handle, Notification, Process, SchedContext, Task, VSpace,
};
use user_rt::elf::Image;
use user_rt::grants;
use user_rt::invoke::{copy_raw, yield_now};
use user_rt::ipc::{self, Message, Patience};
use user_rt::layout::slot;
use user_rt::spawn::{Child, Nursery, ProcessSpec, Run, StartIn, TaskSpec, own, process, task};
use user_rt::{Result, boot, utcb};

use super::calls::link;
use crate::attackers::{
    ATTACKER_PRIORITY, Crowd, Den, alive, alive_if, bind_pool, fill_pool, given_task, sit, spin, starts_at,
    victims,
};
use crate::lab::VICTIM_CPU;
use crate::victims::LENDER;
use crate::words::own_word;

// --- far slots -----------------------------------------------------------------------------------

const FAR: u32 = 1024;

/// Searches and lists the last of 16 tables of a CSpace.
pub fn far_slots(den: &mut Den) -> Result<()> {
    let process: Process = den.nursery.make(1)?;
    let first: CNode = den.nursery.make(2)?;
    let space: VSpace = den.nursery.make(4)?;
    process.configure(&first, &space, false)?;
    let group: Group = den.nursery.make(4 | 4 << 16)?;
    let mut at = Cap(0);
    for number in 0..15 {
        let is_last = number == 14;
        let table: CNode = den.nursery.make(if is_last { u64::from(FAR) + 1 } else { 2 })?;
        at = process.grow(&table)?;
        if is_last {
            for slot in 1..=FAR / 2 {
                copy_raw(group.cap(), table.slot(Cap(slot)), Rights::NONE, 0)?;
            }
        }
    }
    own_word(0).store(process.cap().0.into(), SeqCst);
    own_word(1).store(group.cap().0.into(), SeqCst);
    own_word(2).store(at.0.into(), SeqCst);
    den.start_on_all(far_looker)
}

extern "C" fn far_looker(_: u64) -> ! {
    let [process, group, first] = [0, 1, 2].map(|n: usize| own_word(n).load(SeqCst) as u32);
    loop {
        let (process, group) = (Cap(process), Cap(group));
        let wanted = u64::from(Rights::SEND.0);
        let verify = Args::plain(Op::CapVerify, process.arg(), group.arg(), wanted, first.into());
        let verified = syscall(verify).check();
        let from = Target::new(process, first + FAR / 2);
        let listed = syscall(Args::plain(Op::CapList, from.0, 0, 0, 0)).check();
        alive_if(verified.is_ok() && listed.is_ok());
    }
}

// --- a server that is kept -----------------------------------------------------------------------

const SERVERS: u32 = 3;
const TIMES: usize = 0;
const TASKS: usize = 8;

/// Calls the victims' servers with slices that end while a server answers. Then a task of the same
/// priority keeps the CPU.
pub fn hostages(den: &mut Den) -> Result<()> {
    let cpu = den.last_cpu();
    for place in 0..SERVERS {
        let caller = den.task(cpu, hostage_caller, place.into())?;
        own_word(TIMES + place as usize).store(caller.sched.cap().0.into(), SeqCst);
        own_word(TASKS + place as usize).store(caller.task.cap().0.into(), SeqCst);
    }
    let taker = den.task(cpu, hostage_taker, u64::from(cpu != VICTIM_CPU))?;
    taker.sched.configure(ATTACKER_PRIORITY, u64::MAX)?;
    taker.task.resume()
}

extern "C" fn hostage_caller(place: u64) -> ! {
    let server = Group::at(victims()).exposure(place as u32);
    loop {
        let _ = server.call(&Message::new(3, [0; 4]));
    }
}

extern "C" fn hostage_taker(is_elsewhere: u64) -> ! {
    let mut noise = 1u64;
    for place in 0..SERVERS {
        let time = SchedContext::at(Cap(own_word(TIMES + place as usize).load(SeqCst) as u32));
        let caller = Task::at(Cap(own_word(TASKS + place as usize).load(SeqCst) as u32));
        let server = Group::at(victims()).exposure(place);
        let _ = caller.resume();
        loop {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let _ = time.configure(ATTACKER_PRIORITY, 100 + (noise >> 40) % 6000);
            let _ = yield_now();
            if is_elsewhere != 0 {
                alive();
                continue;
            }
            let asked = server.call_within(&Message::new(3, [0; 4]), Patience::None);
            if asked.is_err_and(|refusal| refusal.error == Error::WouldBlock) {
                // Until the next one is caught, this one must not go on.
                let _ = time.configure(0, u64::MAX);
                own_word(20).fetch_add(1, SeqCst);
                break;
            }
        }
    }
    loop {
        arch::countdown(2_000);
        alive();
    }
}

// --- a page's mappings ---------------------------------------------------------------------------

const VIEWS: u64 = 0xa0_0000_0000;

/// Maps the page that the victims' server shares with its clients as often as that is possible.
pub fn page_views(den: &mut Den) -> Result<()> {
    let server = Group::at(victims()).exposure(LENDER);
    loop {
        utcb::current().open_window(VIEWS, PAGE_SIZE);
        if server.call(&Message::new(1, [0; 4]))?.pages {
            break;
        }
    }
    let (mut have, mut step) = (1, 1);
    loop {
        let count = have.min(step);
        let range = PageRange::new(PageMode::Share, VIEWS, count);
        match own::vspace().transfer(range, &own::vspace(), VIEWS + have * PAGE_SIZE) {
            Ok(()) => {
                have += count;
                step = MESSAGE_PAGES_MAX;
            }
            Err(_) if step > 1 => step /= 2,
            Err(refusal) => {
                alive_if(refusal.error == Error::Full);
                own_word(0).store(have, SeqCst);
                den.sleep(1);
            }
        }
    }
}

// --- chains of calls with deadlines --------------------------------------------------------------

const CHAINS: u32 = 12;
const DEPTH: u32 = 32;
const IDLERS: u32 = 33;
const WAVE_LOG2: u32 = 24;

/// Adds the links of a chain, the last of which spins. Exposes them from index `base` on.
fn add_links(crowd: &mut Crowd, memory: &Nursery, group: &Group, base: u32, cpu: u32) -> Result<()> {
    for place in 0..DEPTH {
        let link = crowd.add(memory, &own::process(), cpu, false, |regs| {
            starts_at(regs, if place + 1 == DEPTH { spin } else { link });
            regs[RegIndex::FsBase as usize] = group.exposure(base + place + 1).0.0;
        })?;
        group.expose_task(base + place, &link)?;
    }
    Ok(())
}

/// Adds a task with time that runs `code` with a target.
fn add_caller(
    crowd: &mut Crowd,
    memory: &Nursery,
    group: &Group,
    (index, cpu): (u32, u32),
    code: extern "C" fn(),
) -> Result<u32> {
    let number = crowd.count_made();
    crowd.add(memory, &own::process(), cpu, true, |regs| {
        starts_at(regs, code);
        regs[RegIndex::FsBase as usize] = group.exposure(index).0.0;
    })?;
    Ok(number)
}

/// Lets callers wait until one time whose time is at the end of chains of 32 calls, where very many
/// others wait without time.
pub fn deadline_chains(den: &mut Den) -> Result<()> {
    let each = DEPTH + IDLERS + 1;
    let group = den.nursery.make_group(4, (CHAINS * DEPTH + 1) as u16)?;
    let mut crowd = Crowd::new(&mut den.nursery, CHAINS * each)?;
    let cpu = den.last_cpu();
    for chain in 0..CHAINS {
        let base = chain * DEPTH;
        add_links(&mut crowd, &den.nursery, &group, base, cpu)?;
        for _ in 0..IDLERS {
            let number =
                add_caller(&mut crowd, &den.nursery, &group, (base + DEPTH - 1, cpu), call_and_rest)?;
            crowd.time(number).configure(0, boot::facts().tsc_hz / 100)?;
            crowd.task(number).resume()?;
        }
    }
    // They call, and wait at tasks that have never run.
    den.sleep(60);
    for chain in 0..CHAINS {
        let first = chain * (DEPTH + IDLERS);
        for number in first + DEPTH..first + DEPTH + IDLERS {
            own::cnode().delete(crowd.time(number).cap())?;
        }
        for number in first..first + DEPTH {
            crowd.task(number).resume()?;
        }
    }
    for chain in 0..CHAINS {
        let head = add_caller(&mut crowd, &den.nursery, &group, (chain * DEPTH, cpu), deadline_head)?;
        crowd.time(head).configure(ATTACKER_PRIORITY, boot::facts().tsc_hz / 10_000)?;
        crowd.task(head).resume()?;
    }
    loop {
        den.sleep(2);
        alive();
    }
}

/// Calls the target that the FS base has, until the next multiple of a wave.
#[unsafe(naked)]
extern "C" fn deadline_head() {
    naked_asm!(
        "2:",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "shr rax, {wave}",
        "inc rax",
        "shl rax, {wave}",
        "mov rsi, rax",
        "rdfsbase rdi",
        "mov rax, {call}",
        "syscall",
        "jmp 2b",
        wave = const WAVE_LOG2,
        call = const MsgInfo(0).op(Op::Call).flag(FLAG_DEADLINE).0,
    )
}

/// Calls the target that the FS base has, then receives for ever.
#[unsafe(naked)]
extern "C" fn call_and_rest() {
    naked_asm!(
        "rdfsbase rdi",
        "mov eax, {call}",
        "syscall",
        "2:",
        "mov eax, {recv}",
        "syscall",
        "jmp 2b",
        call = const Op::Call as u32,
        recv = const Op::Recv as u32,
    )
}

const WAITERS: u32 = 16;

/// Kills a task that has lent its lender's time down 31 calls, and for which others wait.
pub fn killed_lender(den: &mut Den) -> Result<()> {
    let group = den.nursery.make_group(4, DEPTH as u16 + 1)?;
    let mut crowd = Crowd::new(&mut den.nursery, DEPTH + IDLERS + WAITERS + 2)?;
    let mut memory = den.second_memory(4)?;
    let cpu = den.last_cpu();
    loop {
        add_links(&mut crowd, &memory, &group, 0, cpu)?;
        for number in 0..DEPTH {
            crowd.task(number).resume()?;
        }
        let head = add_caller(&mut crowd, &memory, &group, (0, cpu), call_and_rest)?;
        crowd.time(head).configure(ATTACKER_PRIORITY, boot::facts().tsc_hz / 10_000)?;
        crowd.task(head).resume()?;
        den.sleep(4);
        let mut idlers = [0; IDLERS as usize];
        for idler in &mut idlers {
            *idler = add_caller(&mut crowd, &memory, &group, (DEPTH - 1, cpu), call_and_rest)?;
            crowd.task(*idler).resume()?;
        }
        den.sleep(4);
        for idler in idlers {
            own::cnode().delete(crowd.time(idler).cap())?;
        }
        for _ in 0..WAITERS {
            let waiter = add_caller(&mut crowd, &memory, &group, (0, cpu), call_and_rest)?;
            crowd.task(waiter).resume()?;
        }
        den.sleep(4);
        let killed = crowd.task(0).kill();
        alive_if(killed.is_ok());
        den.sleep(4);
        memory.reset()?;
        crowd.restart();
    }
}

// --- broadcasts ----------------------------------------------------------------------------------

const MEMBERS: u32 = 16;
const POOL_AT: u64 = 0xc000_0000;
const PAGES_AT: u64 = 0xd000_0000;
const WINDOW_AT: u64 = 0xe000_0000;

fn pool_control() -> &'static EventControl {
    // SAFETY: the kernel maps the pool's first page there, writable, when the pool is bound.
    unsafe { &*(POOL_AT as *const EventControl) }
}

fn small_process(nursery: &mut Nursery) -> Result<Child> {
    let image =
        Image::parse(memory::archive()).map_err(|_| user_rt::Refusal::local(Error::BadArgument, 0))?;
    let spec = ProcessSpec {
        image: &image,
        vector: false,
        tasks: 4,
        slots: 512,
        tables: 28,
        with_file: false,
        untyped_log2: &[],
        groups: StartIn::None,
        line: None,
    };
    process(nursery, &spec).map_err(|error| error.refusal)
}

/// Broadcasts pages, and words, to 16 processes that wait.
pub fn broadcasts(den: &mut Den) -> Result<()> {
    let mut memory = den.second_memory(3300)?;
    let group = den.nursery.make_group(MEMBERS as u16 + 2, 2)?;
    let cpu = den.last_cpu();
    let frame: Frame = den.nursery.make(12 | 4 << 8)?;
    own::vspace().map_pool(&frame, PAGES_AT)?;
    for _ in 0..MEMBERS {
        let child = small_process(&mut memory)?;
        child.join(&group, slot::GROUPS, Rights::LISTEN, 0)?;
        let pool: EventPool = memory.make(12)?;
        let note: Notification = memory.make(0)?;
        let spec = TaskSpec {
            index: 1,
            cpu,
            priority: ATTACKER_PRIORITY,
            stack_pages: 2,
            run: Run::Function(pool_reader),
            argument: 0,
        };
        let reader = task(&mut memory, &child.home(), &spec)?;
        note.bind(&reader.task)?;
        let bind = Args::plain(Op::PoolBind, pool.arg(), child.process.arg(), reader.task.arg(), POOL_AT);
        syscall(Args { r9: 1, ..bind }).done()?;
        reader.task.resume()?;
    }
    own_word(0).store(group.cap().0.into(), SeqCst);
    den.sleep(5);
    den.start(cpu, broadcaster, 0)
}

extern "C" fn broadcaster(_: u64) -> ! {
    let group = Group::at(Cap(own_word(0).load(SeqCst) as u32));
    let ranges = [0, 1, 2, 3].map(|n| PageRange::new(PageMode::Share, PAGES_AT + n * PAGE_SIZE, 1));
    let note = Notification::at(Cap(own_word(1).load(SeqCst) as u32));
    for turn in 0u64.. {
        let message = Message::new(1, [0; 4]);
        let message = if turn % 2 == 0 {
            utcb::current().send_ranges(&ranges);
            message.with_pages()
        } else {
            message
        };
        let sent = group.broadcast(&message, Progress::from_raw(0), Patience::None);
        alive_if(sent.is_ok_and(|members| members == u64::from(MEMBERS)));
        let _ = note;
        for _ in 0..MEMBERS {
            let _ = yield_now();
        }
    }
    sit(0)
}

extern "C" fn pool_reader(_: u64) -> ! {
    let window = Window { address: WINDOW_AT, pages: 4096 };
    pool_control().window.store(window.word(), SeqCst);
    loop {
        pool_control().armed.store(1, SeqCst);
        let deadline = arch::now() + boot::facts().tsc_hz * 1000;
        let _ = ipc::recv_within(Patience::Until(deadline));
    }
}

// --- full messages to a full pool ----------------------------------------------------------------

const CELLS_LOG2: u64 = 6;
const CELLS: u64 = 1 << CELLS_LOG2;
const READER: u32 = 0;
const POOL: usize = 3;
const SLOTS: usize = 5;
const NOTE: usize = 6;
const TABLE_SLOTS: u32 = 16_000;

/// Does what `pool-stall` does, with messages that have everything: 64 words, as many pages as fit
/// in up to eight ranges, and capabilities.
pub fn full_messages(den: &mut Den) -> Result<()> {
    let group: Group = den.nursery.make_group(4, 4)?;
    own_word(0).store(group.cap().0.into(), SeqCst);
    let reader = given_task(0);
    group.expose_task(READER, &reader)?;
    let frame: Frame = den.nursery.make(12 | MESSAGE_PAGES_MAX << 8)?;
    own::vspace().map_pool(&frame, PAGES_AT)?;
    let note: Notification = den.nursery.make(0)?;
    own_word(NOTE).store(note.cap().0.into(), SeqCst);
    let table: CNode = den.nursery.make(u64::from(TABLE_SLOTS) + 1)?;
    own_word(SLOTS).store(own::process().grow(&table)?.0.into(), SeqCst);
    let pool: EventPool = den.nursery.make(CELLS_LOG2)?;
    bind_pool(&pool, &reader, POOL_AT)?;
    own_word(POOL).store(pool.cap().0.into(), SeqCst);
    pool_control().window.store(Window { address: WINDOW_AT, pages: 4096 }.word(), SeqCst);
    fill_pool(group.exposure(READER).0);
    den.start(den.last_cpu(), full_sender, 0)?;
    den.sleep(20);
    den.start(den.last_cpu(), full_teaser, 0)
}

extern "C" fn full_sender(_: u64) -> ! {
    let group = Group::at(Cap(own_word(0).load(SeqCst) as u32));
    let target = group.exposure(READER).0;
    let note = Notification::at(Cap(own_word(NOTE).load(SeqCst) as u32));
    let caps = [(); GRANTS_MAX].map(|()| grants::copied(&note, Rights::NOTIFY, 0));
    for turn in 0usize.. {
        let has_caps = turn % 2 == 0;
        send_many(PAGES_AT, turn / 2, has_caps);
        let info = MsgInfo::new(1, 64).op(Op::Send).flag(FLAG_PAGES);
        let info = if has_caps { info.flag(FLAG_CAPS) } else { info };
        utcb::current().send_grants(&caps);
        let _ = syscall(Args { info, rdi: target.0, ..Args::new(Op::Send) });
        own_word(POOL + 1).fetch_add(1, Relaxed);
    }
    sit(0)
}

extern "C" fn full_teaser(_: u64) -> ! {
    const ROOM: u64 = 1_500;
    const NO_ROOM: u64 = 20_000;
    let pool = Cap(own_word(POOL).load(SeqCst) as u32).arg();
    let first = own_word(SLOTS).load(SeqCst) as u32;
    for turn in 0u32.. {
        let next = Cap(first + turn * GRANTS_MAX as u32 % (TABLE_SLOTS - 8));
        pool_control().listening.store(Listening { next, count: GRANTS_MAX as u32 }.word(), SeqCst);
        pool_control().head.store(CELLS, SeqCst);
        fast::plain(Op::PoolRoom, pool, 0);
        arch::countdown(ROOM);
        pool_control().head.store(0, SeqCst);
        arch::countdown(NO_ROOM);
        alive();
    }
    sit(0)
}

// --- crowds of callers ---------------------------------------------------------------------------

const CROWD: u32 = 900;

/// Lets very many tasks call the victims' servers with 64 words, all the time.
pub fn call_crowd(den: &mut Den) -> Result<()> {
    let mut crowd = Crowd::new(&mut den.nursery, CROWD)?;
    let cpus = den.cpus().count();
    for number in 0..CROWD {
        let cpu = den.cpus().nth(number as usize % cpus).unwrap_or(0);
        let server = Group::at(victims()).exposure(number % SERVERS);
        let caller = crowd.add(&den.nursery, &own::process(), cpu, true, |regs| {
            starts_at(regs, call_again);
            regs[RegIndex::FsBase as usize] = server.0.0;
        })?;
        caller.resume()?;
    }
    loop {
        den.sleep(2);
        alive();
    }
}

/// Calls the target that the FS base has, with 64 words, for ever.
#[unsafe(naked)]
extern "C" fn call_again() {
    naked_asm!(
        "2:",
        "rdfsbase rdi",
        "mov eax, {call}",
        "syscall",
        "jmp 2b",
        call = const Op::Call as u32 | 64 << 8,
    )
}

// --- deadlines of messages with pages ------------------------------------------------------------

const LENDERS: u32 = 4;

/// Lets senders with 64 pages wait at a full pool until one time, at two priorities.
pub fn lent_deadlines(den: &mut Den) -> Result<()> {
    let cpu = den.last_cpu();
    let group: Group = den.nursery.make_group(4, 4)?;
    own_word(0).store(group.cap().0.into(), SeqCst);
    let reader = den.task(cpu, sit, 0)?;
    group.expose_task(READER, &reader.task)?;
    let pool: EventPool = den.nursery.make(CELLS_LOG2)?;
    bind_pool(&pool, &reader.task, POOL_AT)?;
    fill_pool(group.exposure(READER).0);
    for place in 0..LENDERS {
        let frame: Frame = den.nursery.make(12 | MESSAGE_PAGES_MAX << 8)?;
        own::vspace().map_pool(&frame, PAGES_AT + u64::from(place) * MESSAGE_PAGES_MAX * PAGE_SIZE)?;
        let sender = den.task(cpu, lending_sender, place.into())?;
        sender.sched.configure((place % 2) as u8, boot::facts().tsc_hz / 1000)?;
        sender.task.resume()?;
    }
    loop {
        den.sleep(2);
        alive();
    }
}

extern "C" fn lending_sender(place: u64) -> ! {
    let group = Group::at(Cap(own_word(0).load(SeqCst) as u32));
    let target = group.exposure(READER).0;
    let from = PAGES_AT + place * MESSAGE_PAGES_MAX * PAGE_SIZE;
    loop {
        let now = arch::now();
        let deadline = ((now >> (WAVE_LOG2 - 2)) + 1) << (WAVE_LOG2 - 2);
        if deadline - now < 1 << (WAVE_LOG2 - 4) {
            // Too late to be there in time.
            let _ = yield_now();
            continue;
        }
        utcb::current().send_ranges(&[PageRange::new(PageMode::Share, from, MESSAGE_PAGES_MAX)]);
        let info = MsgInfo::new(1, 0).op(Op::Send).flag(FLAG_PAGES).flag(FLAG_DEADLINE);
        let _ = syscall(Args { info, rdi: target.0, rsi: deadline, ..Args::new(Op::Send) });
        own_word(POOL + 1).fetch_add(1, Relaxed);
    }
}

// --- senders of pages that are killed ------------------------------------------------------------

const KILLED: u32 = 8;

/// Kills tasks that wait for room in a pool with 64 lent pages each, together.
pub fn killed_senders(den: &mut Den) -> Result<()> {
    let cpu = den.last_cpu();
    let group: Group = den.nursery.make_group(4, 4)?;
    let reader = den.task(cpu, sit, 0)?;
    group.expose_task(READER, &reader.task)?;
    let pool: EventPool = den.nursery.make(CELLS_LOG2)?;
    bind_pool(&pool, &reader.task, POOL_AT)?;
    fill_pool(group.exposure(READER).0);
    let frame: Frame = den.nursery.make(12 | (u64::from(KILLED) * MESSAGE_PAGES_MAX) << 8)?;
    own::vspace().map_pool(&frame, PAGES_AT)?;
    let mut senders = Crowd::new(&mut den.nursery, KILLED)?;
    let mut memory = den.nursery.split(17, 4)?;
    loop {
        for number in 0..KILLED {
            let sender = senders.add(&memory, &own::process(), cpu, true, |regs| {
                starts_at(regs, send_again);
                regs[RegIndex::FsBase as usize] = group.exposure(READER).0.0;
                regs[RegIndex::Rbx as usize] = MsgInfo(0).op(Op::Send).flag(FLAG_PAGES).0;
            })?;
            let from = PAGES_AT + u64::from(number) * BYTES;
            let words = PageRange::new(PageMode::Share, from, MESSAGE_PAGES_MAX).words();
            let utcb = senders.utcb(number);
            utcb.ranges[0].iter().zip(words).for_each(|(place, word)| place.store(word, Relaxed));
            utcb.range_count.store(1, Relaxed);
            sender.resume()?;
        }
        den.sleep(2);
        for number in 0..KILLED {
            senders.task(number).kill()?;
        }
        memory.reset()?;
        senders.restart();
        alive();
    }
}

/// Sends what RBX says to the target that the FS base has, for ever.
#[unsafe(naked)]
extern "C" fn send_again() {
    naked_asm!("2:", "rdfsbase rdi", "mov rax, rbx", "syscall", "jmp 2b")
}

// --- pages with a reply and with the next call ---------------------------------------------------

const REPLY_FROM: u64 = 0xc0_0000_0000;
const CALL_FROM: u64 = 0xc1_0000_0000;
const REPLY_TO: u64 = 0xc2_0000_0000;
const CALL_TO: u64 = 0xc3_0000_0000;
const BYTES: u64 = MESSAGE_PAGES_MAX * PAGE_SIZE;

/// Replies with 64 pages, and in the same system call receives a call with 64 pages.
pub fn pages_both_ways(den: &mut Den) -> Result<()> {
    let cpu = den.last_cpu();
    let group = den.nursery.make_group(4, 4)?;
    own_word(0).store(group.cap().0.into(), SeqCst);
    for at in [REPLY_FROM, CALL_FROM] {
        let frame: Frame = den.nursery.make(12 | MESSAGE_PAGES_MAX << 8)?;
        own::vspace().map_pool(&frame, at)?;
    }
    let server = den.task(cpu, two_way_server, 0)?;
    group.expose_task(READER, &server.task)?;
    server.task.resume()?;
    den.start(cpu, two_way_asker, 0)?;
    den.start(cpu, two_way_giver, 0)
}

/// Sends as many pages as a message can have, in one, two, four or eight ranges by `turn`, and in
/// an order that no row of entries follows. Capabilities leave no room for eight.
fn send_many(from: u64, turn: usize, caps: bool) {
    let count = 1 << (turn % if caps { 3 } else { 4 });
    let each = pages_max(count, caps) / count as u64;
    let ranges: [PageRange; RANGES_MAX] = array::from_fn(|n| {
        let place = if n % 2 == 0 { n / 2 } else { count / 2 + n / 2 } as u64;
        PageRange::new(PageMode::Share, from + place * each * PAGE_SIZE, each)
    });
    utcb::current().send_ranges(&ranges[..count]);
}

extern "C" fn two_way_server(_: u64) -> ! {
    let mut _event = ipc::recv();
    for turn in 0usize.. {
        let came = own::vspace().drop_pages(user_rt::pages::Pooled::new(CALL_TO, MESSAGE_PAGES_MAX)).is_ok();
        utcb::current().open_window(CALL_TO, BYTES);
        if came {
            _event = ipc::reply_recv(&Message::new(1, [0; 4]));
        } else {
            for _ in 0..4 {
                let _ = yield_now();
            }
            send_many(REPLY_FROM, turn, false);
            _event = ipc::reply_recv(&Message::new(1, [0; 4]).with_pages());
        }
    }
    sit(0)
}

extern "C" fn two_way_asker(_: u64) -> ! {
    let server = Group::at(Cap(own_word(0).load(SeqCst) as u32)).exposure(READER);
    loop {
        utcb::current().open_window(REPLY_TO, BYTES);
        let answered = server.call(&Message::new(1, [0; 4]));
        alive_if(answered.is_ok_and(|answer| answer.pages));
        let _ = own::vspace().drop_pages(user_rt::pages::Pooled::new(REPLY_TO, MESSAGE_PAGES_MAX));
    }
}

extern "C" fn two_way_giver(_: u64) -> ! {
    let server = Group::at(Cap(own_word(0).load(SeqCst) as u32)).exposure(READER);
    for turn in 0usize.. {
        send_many(CALL_FROM, turn / 4, false);
        let _ = server.call(&Message::new(1, [0; 4]).with_pages());
    }
    sit(0)
}
