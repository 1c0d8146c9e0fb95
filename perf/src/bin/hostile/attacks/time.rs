//! Work that the kernel does in parts, by timer or mail: ends of processes, deadlines, faults; and
//! authority over CPU time.

use core::arch::naked_asm;
use core::sync::atomic::Ordering::SeqCst;

use abi::{Cap, FLAG_DEADLINE, MsgInfo, Op, RegIndex};
use user_rt::arch::{self, fast};
use user_rt::cap::{CNode, Group, Handle, Notification, SchedContext, SchedControl, Task};
use user_rt::spawn::{Child, Entry, Nursery, Run, TaskSpec, own, task};
use user_rt::{Result, boot, utcb};

use crate::attackers::{ATTACKER_PRIORITY, Crowd, Den, alive, given_task, starts_at, victims};
use crate::lab::VICTIM_CPU;
use crate::victims::ECHO;
use crate::words::{Word, own_word};

/// Tasks of a process that dies.
const DYING: u32 = 3000;

/// Lets a process with very many tasks end by a fault, again and again.
pub fn dying_process(den: &mut Den) -> Result<()> {
    let mut nursery = den.second_memory(800)?;
    let mut crowd = Crowd::new(&mut den.nursery, DYING)?;
    loop {
        let child = den.process(&mut nursery, DYING + 8)?;
        for _ in 0..DYING {
            crowd.add(&nursery, &child.process, den.last_cpu(), false, |_| {})?;
        }
        fault(den, &mut nursery, &child)?;
        alive();
        den.sleep(20);
        nursery.reset()?;
        crowd.restart();
    }
}

/// Starts a task of a process that faults.
fn fault(den: &Den, nursery: &mut Nursery, child: &Child) -> Result<()> {
    let spec = TaskSpec {
        index: 1,
        cpu: den.last_cpu(),
        priority: ATTACKER_PRIORITY,
        stack_pages: 1,
        run: Run::Function(faulter),
        argument: 0,
    };
    task(nursery, &child.home(), &spec)?.task.resume()
}

extern "C" fn faulter(_: u64) -> ! {
    arch::die()
}

/// Lets processes without a fault handler end by faults, as fast as they can be made.
pub fn faults(den: &mut Den) -> Result<()> {
    let mut nursery = den.nursery.split(23, 600)?;
    loop {
        let child = den.process(&mut nursery, 8)?;
        fault(den, &mut nursery, &child)?;
        alive();
        den.sleep(1);
        nursery.reset()?;
    }
}

/// Tasks that wait until one time.
const WAITERS: u32 = 1900;
/// They wake at multiples of so many ticks, as a base-2 logarithm.
const WAVE_LOG2: u32 = 24;

/// Lets very many tasks wait until one time, and then until the next.
pub fn deadlines(den: &mut Den) -> Result<()> {
    let notes: CNode = den.nursery.make(u64::from(WAITERS) + 1)?;
    let first = own::process().grow(&notes)?;
    let mut crowd = Crowd::new(&mut den.nursery, WAITERS)?;
    let cpus = den.cpus().count();
    for number in 0..WAITERS {
        den.nursery.untyped().retype::<Notification>(0, notes.slot(Cap(1 + number)), 1)?;
        let cpu = den.cpus().nth(number as usize % cpus).unwrap_or(0);
        let task = crowd.add(&den.nursery, &own::process(), cpu, true, |regs| {
            starts_at(regs, wave);
            regs[RegIndex::FsBase as usize] = Cap(first.0 + number).arg();
        })?;
        task.resume()?;
    }
    loop {
        let next = ((arch::now() >> WAVE_LOG2) + 1) << WAVE_LOG2;
        while arch::now() < next {
            den.wait_until(next);
        }
        alive();
    }
}

/// Waits for the Notification that the FS base names, until the next multiple of a wave.
#[unsafe(naked)]
extern "C" fn wave() {
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
        "mov rax, {wait}",
        "syscall",
        "jmp 2b",
        wave = const WAVE_LOG2,
        wait = const MsgInfo(0).op(Op::Wait).flag(FLAG_DEADLINE).0,
    )
}

/// What a program must not get: so often it got that.
fn escaped(number: usize, did: bool) {
    if did && own_word(number).swap(1, SeqCst) == 0 {
        Word::Escapes.add(1);
    }
}

/// Tries to get priorities and CPUs that nobody allowed.
pub fn priority(den: &mut Den) -> Result<()> {
    let time: SchedContext = den.nursery.make(0)?;
    let allowed: SchedContext = den.nursery.make(0)?;
    allowed.configure(ATTACKER_PRIORITY, u64::MAX)?;
    let control: SchedControl = den.nursery.make(0)?;
    let fresh: Task = den.nursery.make(0)?;
    let (cpus, all) = (Word::Cpus.get(), boot::facts().cpus.min(64) as u32);
    loop {
        for priority in ATTACKER_PRIORITY + 1..=u8::MAX {
            escaped(0, time.configure(priority, u64::MAX).is_ok());
            escaped(1, own::sched_control().allow(&control, priority, 0, cpus).is_ok());
        }
        for cpu in (0..all).filter(|cpu| cpus >> cpu & 1 == 0) {
            escaped(2, fresh.configure(&own::process(), UTCB, cpu).is_ok());
            escaped(3, own::sched_control().allow(&control, ATTACKER_PRIORITY, 0, 1 << cpu).is_ok());
            escaped(4, cpu == VICTIM_CPU && allowed.bind(&given_task(8)).is_ok());
        }
        // A fresh one allows nothing, and is good for nothing.
        escaped(5, time.configure_by(&control, ATTACKER_PRIORITY, 1).is_ok());
        escaped(6, time.bind(&given_task(9)).is_ok());
        alive();
    }
}

/// Where a task would have its UTCB that must not come to be.
const UTCB: u64 = 0x3_0000_0000;

// --- notices before preemption -------------------------------------------------------------------

/// Turns of a loop between two looks at a notice.
const TURNS: u64 = 500;
/// Words of these tasks: what the hogs and the honest task of a CPU have done, and friends.
const WORK: usize = 8;
const FRIENDS: usize = 32;
/// The slice of a task that makes as many notices as it can.
const SHORTEST: u64 = 100;
/// Turns of a hog from which on its share says something, and the percentage of an equal's share
/// that it may have. Only where the clock is exact: a late timer lengthens slice and grace.
const ENOUGH: u64 = 2_000;
const MOST: u64 = 120;

/// Lets tasks ask for notices that they do not heed, or heed in favour of friends, or take along
/// into the victims' server; beside an equal that asks for none.
pub fn grace_hog(den: &mut Den) -> Result<()> {
    let slice = boot::facts().tsc_hz / 10_000;
    let cpus = den.cpus();
    for (place, cpu) in (0..8).zip(cpus) {
        let kinds: [(Entry, u64); 8] = [
            (hog, slice),
            (liar, slice),
            (friend, slice),
            (friend, slice),
            (taker_along, slice),
            (hog, SHORTEST),
            (friendless, SHORTEST),
            (honest, slice),
        ];
        for (number, (entry, slice)) in (0..).zip(kinds) {
            let made = den.task(cpu, entry, place << 8 | number)?;
            made.sched.configure(ATTACKER_PRIORITY, slice)?;
            if number == 2 || number == 3 {
                let friend = FRIENDS + 2 * place as usize + (number as usize ^ 1) % 2;
                own_word(friend).store(made.task.cap().0.into(), SeqCst);
            }
            made.task.resume()?;
        }
    }
    let is_exact = Word::Burst.get() > 0;
    loop {
        den.sleep(5);
        for place in 0..den.cpus().count().min(8) {
            let [hog, honest] = [0, 1].map(|n| own_word(WORK + 2 * place + n).load(SeqCst));
            escaped(0, is_exact && hog > ENOUGH && 100 * hog > MOST * honest);
        }
    }
}

/// Notes a turn of the work of a CPU's first hog, or of its honest task.
fn note_work(argument: u64, number: usize) {
    own_word(WORK + 2 * (argument >> 8) as usize + number).fetch_add(1, SeqCst);
}

/// Asks for notices and goes on. Counts those that come.
extern "C" fn hog(argument: u64) -> ! {
    let utcb = utcb::current();
    utcb.want_notice(true);
    let mut was_told = false;
    loop {
        arch::countdown(TURNS);
        if argument as u8 == 0 {
            note_work(argument, 0);
        }
        let is_told = utcb.preempt_pending().is_some();
        if is_told && !was_told {
            alive();
        }
        was_told = is_told;
    }
}

/// Goes on, and writes into both words of notices itself.
extern "C" fn liar(_: u64) -> ! {
    let page = utcb::current();
    for turn in 0u64.. {
        page.want_notice(!turn.is_multiple_of(3));
        arch::countdown(TURNS);
        page.heed_notice();
    }
    arch::die()
}

/// Gives the rest of each slice, and of each grace, to a friend.
extern "C" fn friend(argument: u64) -> ! {
    let friend = own_word(FRIENDS + 2 * (argument >> 8) as usize + argument as usize % 2);
    let utcb = utcb::current();
    utcb.want_notice(true);
    for turn in 0u64.. {
        arch::countdown(TURNS);
        if utcb.preempt_pending().is_some() || turn.is_multiple_of(64) {
            utcb.heed_notice();
            let _ = Task::at(Cap(friend.load(SeqCst) as u32)).yield_to();
        }
    }
    arch::die()
}

/// Heeds each notice, as soon as it comes.
extern "C" fn friendless(_: u64) -> ! {
    utcb::current().want_notice(true);
    loop {
        arch::countdown(TURNS / 50);
        user_rt::invoke::yield_if_asked();
    }
}

/// Calls the victims' server all the time, so that a grace begins or ends there.
extern "C" fn taker_along(_: u64) -> ! {
    let server = Group::at(victims()).exposure(ECHO).0;
    utcb::current().want_notice(true);
    loop {
        fast::call(server, [1, 2, 3, 4]);
    }
}

/// Works, and asks for no notice.
extern "C" fn honest(argument: u64) -> ! {
    loop {
        arch::countdown(TURNS);
        note_work(argument, 1);
    }
}
