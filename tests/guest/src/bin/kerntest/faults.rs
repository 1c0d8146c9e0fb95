//! Faults as messages: handlers on this CPU and another, in another process and in the same one;
//! what they see, what they may answer, and the fate of a fault that no task answers.

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, FLAG_FAULT, FaultAnswer, FaultKind, MEMBER_RIGHTS, MsgInfo, Op, RegIndex, Rights, TaskId};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Args};
use user_rt::boot;
use user_rt::cap::{Access, Frame, Handle, Reply, Task, VSpace};
use user_rt::fault::{Fault, Verdict, registers};
use user_rt::ipc::{Event, Message, Patience, recv, reply_recv};
use user_rt::layout::SHARED_VA;
use user_rt::spawn::{Entry, own};

use crate::block::Block;
use crate::fate::{self, Fate, survive};
use crate::lab::{CHILD_GROUP, Lab, PUPPETS_MAX, Place, Puppet, Shown, Wanted};
use crate::registers::{Kind, Registers, hold_over_fault, name, peek};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    every_kind registers_survive_faults pages_mapped_by_the_handler stack_overflow_is_cured a_handler_in_the_same_process
    answers_that_are_refused no_handler killed_by_the_handler torn_down_by_the_handler let_go_or_dead killed_while_handled
    suspended_and_cancelled forwarded_and_kept handlers_have_handlers own_handlers_go_first
}

/// A hole in every process of this program.
const HOLE: u64 = SHARED_VA + 0x1000_0000;
/// Blocks of the scripted handler, and of tasks that fault.
const HANDLER: u32 = PUPPETS_MAX - 1;
const FAULTER: u32 = PUPPETS_MAX - 2;
/// Exposures in the tested group of the handler, and of the tasks that fault.
pub const HANDLER_INDEX: u32 = PUPPETS_MAX + 3;
const FAULTER_INDEX: u32 = PUPPETS_MAX + 4;
/// Seconds to determine the fate of a task.
const LIMIT_SECONDS: u64 = 20;

/// Words of the handler's block: its instructions, and the fault that it saw last.
#[derive(Clone, Copy)]
#[repr(usize)]
pub enum Note {
    /// A [`Script`].
    Script = 0,
    /// Slots of a frame and of the address space that it is mapped in.
    Frame,
    VSpace,
    /// Whether it checks its vector registers, and the result: 1 + the word.
    Vector,
    Dirty,
    Count,
    Kind,
    Address,
    Rip,
    Rsp,
    Exception,
    Error,
    Sender,
    Custom,
    /// All addresses, ORed.
    Told,
    /// RIP of each of the first faults.
    Trail = 16,
}

/// Number of faults in [`Note::Trail`].
const TRAIL: u64 = 16;

/// Answers of the scripted handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Script {
    /// The task continues at the address in its r15.
    ToR15 = 0,
    /// The task continues two bytes after RIP.
    Skip,
    Resume,
    Step,
    /// The task continues with r14 as RSP and r15 as RIP.
    Restore,
    Map,
    Kill,
    TearDown,
}

pub fn seen(which: Note) -> u64 {
    Block::at(HANDLER).note(which as usize).load(Relaxed)
}

pub fn set(which: Note, value: u64) {
    Block::at(HANDLER).note(which as usize).store(value, Relaxed);
}

/// Handles faults by the script in its block, and answers calls.
pub extern "C" fn handler(_: u64) -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => match Fault::of(&call) {
                Some(fault) => handle(&fault, call.sender, call.custom).reply_recv(),
                None => reply_recv(&Message::default()),
            },
            _ => recv(),
        }
    }
}

fn handle(fault: &Fault, sender: TaskId, custom: u16) -> Verdict {
    if seen(Note::Vector) != 0
        && let Some(word) = peek(Kind::of(true)).vector_differs(&Registers::initial(), Kind::of(true))
    {
        set(Note::Dirty, word as u64 + 1);
    }
    let mut regs = registers();
    let count = seen(Note::Count);
    for (which, value) in [
        (Note::Kind, u64::from(fault.kind.label())),
        (Note::Address, fault.address),
        (Note::Rip, fault.rip),
        (Note::Rsp, fault.rsp),
        (Note::Exception, u64::from(fault.exception)),
        (Note::Error, u64::from(fault.error)),
        (Note::Sender, sender.raw()),
        (Note::Custom, u64::from(custom)),
    ] {
        set(which, value);
    }
    if count < TRAIL {
        Block::at(HANDLER).note(Note::Trail as usize + count as usize).store(fault.rip, Relaxed);
    }
    set(Note::Told, seen(Note::Told) | fault.address);
    set(Note::Count, count + 1);
    let reg = |which: RegIndex| regs[which as usize];
    const SCRIPTS: [Script; 8] = [
        Script::ToR15,
        Script::Skip,
        Script::Resume,
        Script::Step,
        Script::Restore,
        Script::Map,
        Script::Kill,
        Script::TearDown,
    ];
    match SCRIPTS[seen(Note::Script) as usize % SCRIPTS.len()] {
        Script::ToR15 => Verdict::ResumeAt(reg(RegIndex::R15)),
        Script::Skip => Verdict::ResumeAt(fault.rip + 2),
        Script::Resume => Verdict::Resume,
        Script::Step => Verdict::Step,
        Script::Restore => {
            (regs[RegIndex::Rsp as usize], regs[RegIndex::Rip as usize]) =
                (reg(RegIndex::R14), reg(RegIndex::R15));
            Verdict::Registers(regs)
        }
        Script::Map => {
            let cap = |which| abi::Cap(seen(which) as u32);
            let (space, frame) = (VSpace::at(cap(Note::VSpace)), Frame::at(cap(Note::Frame)));
            match space.map(&frame, fault.address & !(abi::PAGE_SIZE - 1), Access::Write) {
                Ok(()) => Verdict::Resume,
                Err(_) => Verdict::TearDown,
            }
        }
        Script::Kill => Verdict::Kill,
        Script::TearDown => Verdict::TearDown,
    }
}

/// Starts the scripted handler, in its own process, for the faults of `of`.
pub fn start_handler(lab: &mut Lab<'_>, of: Place, wanted: &Wanted, script: Script) -> Result<Task, Failure> {
    Block::at(HANDLER).clear();
    set(Note::Script, script as u64);
    let task = lab.task(wanted, handler, 0)?.task;
    let group = lab.group()?;
    group.expose_task(HANDLER_INDEX, &task)?;
    task.resume()?;
    handled_by(lab, of, HANDLER_INDEX)?;
    Ok(task)
}

/// Makes the task at exposure `index` the fault handler of a process of the test.
pub fn handled_by(lab: &Lab<'_>, of: Place, index: u32) -> Outcome {
    let handler = abi::Target::new(CHILD_GROUP, index);
    lab.child(of)?.process.fault_handler(Some(handler))?;
    Ok(())
}

/// Starts a task that runs `entry`. It answers calls if it completes.
fn start(lab: &mut Lab<'_>, wanted: &Wanted, entry: Entry, argument: u64) -> Result<Task, Failure> {
    let task = lab.task(wanted, entry, argument)?.task;
    lab.group()?.expose_task(FAULTER_INDEX, &task)?;
    task.resume()?;
    Ok(task)
}

/// Determines the fate of that task.
fn outcome(lab: &mut Lab<'_>) -> Result<Fate, Failure> {
    let group = lab.group()?;
    let patience = Patience::Until(arch::now() + LIMIT_SECONDS * boot::facts().tsc_hz);
    let called = group.exposure(FAULTER_INDEX).call_within(&Message::default(), patience);
    group.withdraw(FAULTER_INDEX)?;
    match called {
        Ok(_) => Ok(Fate::Alive),
        Err(refusal) if refusal.error == Error::Dead => Ok(Fate::Dead),
        Err(refusal) => Err(Failure::Of(alloc::format!("neither alive nor dead: {refusal}"))),
    }
}

/// Returns the CPUs on which handlers are tested: this one, and the last.
fn handler_cpus(lab: &Lab<'_>) -> impl Iterator<Item = u32> + use<> {
    [0, lab.cpus - 1].into_iter().take(if lab.cpus > 1 { 2 } else { 1 })
}

/// A program that faults: name, entry, kind of fault, address, error code.
type Program = (&'static str, Entry, FaultKind, Option<u64>, Option<u32>);

/// Makes programs of instructions. A program continues at `2:` when its handler resumes it; r15
/// holds that address.
macro_rules! programs {
    ($table:ident { $($kind:ident $address:expr, $error:expr, $name:literal: $($instruction:literal),+;)* }) => {
        const $table: &[Program] = &[$((
            $name,
            {
                extern "C" fn program(_: u64) -> ! {
                    // SAFETY: as in `hostile`: forbidden instructions fault, and the handler lets
                    // the program continue after them, with the stack as it was.
                    unsafe { core::arch::asm!("lea r15, [rip + 2f]", "mov r14, rsp", $($instruction),+, "2:", "cld",
                        "mov rsp, r14",
                        out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _,
                        out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _) };
                    survive()
                }
                program as Entry
            },
            FaultKind::$kind,
            $address,
            $error,
        ),)*];
    };
}

programs! { PROGRAMS {
    Page Some(0), Some(4), "page 0, read": "xor ecx, ecx", "mov al, [rcx]";
    Page Some(8), Some(6), "page 0, written": "mov ecx, 8", "mov [rcx], al";
    Page Some(0), Some(0x14), "page 0, executed": "xor ecx, ecx", "jmp rcx";
    Page Some(0x1234_5678_9000), Some(4), "a wild pointer": "mov rcx, 0x123456789000", "mov al, [rcx]";
    Page Some(0xffff_ffff_8000_0000), None, "the kernel, read": "mov rcx, 0xffffffff80000000", "mov al, [rcx]";
    Page Some(0xffff_8000_0010_0000), None, "the direct map, written": "mov rcx, 0xffff800000100000", "mov [rcx], al";
    Page None, Some(7), "the own text, written": "lea rcx, [rip + 2f]", "mov [rcx], al";
    Page None, Some(0x15), "the own stack, executed": "lea rcx, [rsp - 256]", "jmp rcx";
    Protection Some(0), Some(0), "a wild pointer that is not canonical": "mov rcx, 0x800000000000", "mov al, [rcx]";
    Protection None, Some(0), "a stack that is not canonical": "mov rsp, 0x900000000000", "push rax";
    Protection None, Some(0), "a privileged instruction": "hlt";
    Protection None, None, "an interrupt that is not a program's": "int 0x20";
    Instruction None, Some(0), "no instruction": "ud2";
    Divide None, Some(0), "division by zero": "xor edx, edx", "xor ecx, ecx", "div rcx";
    Divide None, Some(0), "a quotient that does not fit": "mov rdx, -1", "mov ecx, 1", "div rcx";
    Breakpoint None, Some(0), "breakpoint": "int3";
    Step Some(1 << 14), Some(0), "single step": "push 0x302", "popfq", "nop", "nop", "nop";
    StackOverflow None, Some(6), "stack overflow": "3:", "push rax", "jmp 3b";
    StackOverflow None, Some(4), "stack underflow": "lea rsp, [rsp + 0x10000]", "and rsp, -65536", "pop rax";
} }

programs! { WITHOUT_VECTOR {
    NoVector None, Some(0), "a vector instruction without vector state": "xorps xmm0, xmm0";
    NoVector None, Some(0), "x87 without vector state": "fld1";
} }

programs! { WITH_VECTOR {
    Float None, Some(0), "a pending x87 exception": "fninit", "push 0x37b", "fldcw word ptr [rsp]", "fld1", "fldz",
        "fdivp st(1), st", "fwait";
} }

// Instructions that some emulators do not refuse.
programs! { SOMETIMES {
    Alignment None, Some(0), "alignment": "push 0x40202", "popfq", "mov eax, [rsp + 1]", "push 0x202", "popfq";
    Float None, Some(0), "an unmasked SSE exception": "push 0x1f00", "ldmxcsr [rsp]", "xorps xmm1, xmm1",
        "divss xmm1, xmm1";
} }

fn run(lab: &mut Lab<'_>, programs: &[Program], vector: bool, sometimes: bool) -> Outcome {
    for &(name, entry, kind, address, error) in programs {
        for cpu in handler_cpus(lab) {
            let place = lab.process_with(vector, MEMBER_RIGHTS, 0x5a)?;
            let home = lab.process(true)?;
            start_handler(lab, place, &Wanted { place: home, cpu, ..Wanted::default() }, Script::ToR15)?;
            let task = lab.task(&Wanted { place, ..Wanted::default() }, entry, 0)?;
            lab.group()?.expose_task(FAULTER_INDEX, &task.task)?;
            task.task.resume()?;
            let fate = outcome(lab)?;
            let wanted = u64::from(kind.label());
            let what = alloc::format!("{name}, handled on CPU {cpu}");
            let (count, seen_kind) = (seen(Note::Count), seen(Note::Kind));
            if sometimes && (fate, count) == (Fate::Alive, 0) {
                lab.reset()?;
                continue;
            }
            expect_eq!((fate, count), (Fate::Alive, 1), "{what}: fate and number of faults");
            expect_eq!(seen_kind, wanted, "{what}: kind");
            expect_eq!((seen(Note::Sender), seen(Note::Custom)), (task.id.raw(), 0x5a), "{what}: from whom");
            if let Some(address) = address {
                expect_eq!(seen(Note::Address), address, "{what}: address");
            }
            if let Some(error) = error {
                expect_eq!(seen(Note::Error), u64::from(error), "{what}: error code");
            }
            lab.reset()?;
        }
    }
    Ok(())
}

fn every_kind(lab: &mut Lab<'_>) -> Outcome {
    run(lab, PROGRAMS, false, false)?;
    run(lab, WITHOUT_VECTOR, false, false)?;
    run(lab, WITH_VECTOR, true, false)?;
    run(lab, SOMETIMES, true, true)
}

/// Faults repeatedly, with its own values in every register. Word 0 is 1 + the first word that
/// changed.
extern "C" fn holder(vector: u64) -> ! {
    let kind = Kind::of(vector != 0);
    for seed in 1..=20 {
        let want = Registers::random(seed);
        let got = hold_over_fault(kind, &want);
        if let Some(word) = got.differs(&want, kind) {
            Block::at(FAULTER).note(0).store(word as u64 + 1, Relaxed);
        }
    }
    Block::at(FAULTER).note(1).store(1, Relaxed);
    survive()
}

fn registers_survive_faults(lab: &mut Lab<'_>) -> Outcome {
    for (vector, handler_vector) in [(false, false), (true, true), (true, false)] {
        for cpu in handler_cpus(lab) {
            let place = lab.process(vector)?;
            let home = lab.process(handler_vector)?;
            start_handler(lab, place, &Wanted { place: home, cpu, ..Wanted::default() }, Script::Skip)?;
            set(Note::Vector, u64::from(handler_vector));
            Block::at(FAULTER).clear();
            start(lab, &Wanted { place, ..Wanted::default() }, holder, u64::from(vector))?;
            expect_eq!(outcome(lab)?, Fate::Alive, "a task that keeps faulting");
            let changed = Block::at(FAULTER).note(0).load(Relaxed) as usize;
            expect!(changed == 0, "{} changed over a fault", name(changed - 1));
            let dirty = seen(Note::Dirty) as usize;
            expect!(dirty == 0, "the handler sees the faulter's {}", name(dirty - 1));
            expect_eq!(
                (seen(Note::Count), seen(Note::Kind)),
                (20, u64::from(FaultKind::Instruction.label())),
                "faults"
            );
            lab.reset()?;
        }
    }
    Ok(())
}

fn pages_mapped_by_the_handler(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let place = lab.process(false)?;
        start_handler(lab, place, &Wanted { cpu, ..Wanted::default() }, Script::Map)?;
        let frame: Frame = lab.nursery.make(12)?;
        set(Note::Frame, u64::from(frame.cap().0));
        set(Note::VSpace, u64::from(lab.child(place)?.vspace.cap().0));
        start(lab, &Wanted { place, ..Wanted::default() }, fate::write, HOLE + 0x123)?;
        expect_eq!(outcome(lab)?, Fate::Alive, "a write where the handler maps a page");
        expect_eq!((seen(Note::Count), seen(Note::Address)), (1, HOLE + 0x123), "faults");
        lab.reset()?;
    }
    Ok(())
}

/// The program's own words of its UTCB must stay unchanged, whatever happens to its stack.
extern "C" fn overflower(_: u64) -> ! {
    let words = user_rt::utcb::current().message();
    for (number, word) in (0u64..).zip(words) {
        word.store(number, Relaxed);
    }
    // SAFETY: the handler restores the stack.
    unsafe {
        core::arch::asm!("lea r15, [rip + 2f]", "mov r14, rsp", "3:", "push rax", "jmp 3b", "2:", out("r14") _, out("r15") _);
    }
    let kept = (0u64..).zip(words).all(|(number, word)| word.load(Relaxed) == number);
    Block::at(FAULTER).note(0).store(u64::from(kept), Relaxed);
    survive()
}

fn stack_overflow_is_cured(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let place = lab.process(false)?;
        start_handler(lab, place, &Wanted { cpu, ..Wanted::default() }, Script::Restore)?;
        Block::at(FAULTER).clear();
        start(lab, &Wanted { place, ..Wanted::default() }, overflower, 0)?;
        expect_eq!(outcome(lab)?, Fate::Alive, "with its stack put back");
        expect_eq!(seen(Note::Kind), u64::from(FaultKind::StackOverflow.label()), "kind");
        expect_eq!(
            Block::at(FAULTER).note(0).load(Relaxed),
            1,
            "the message words in its UTCB are still its own"
        );
        lab.reset()?;
    }
    Ok(())
}

fn a_handler_in_the_same_process(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let place = lab.process(false)?;
        start_handler(lab, place, &Wanted { place, cpu, ..Wanted::default() }, Script::ToR15)?;
        start(lab, &Wanted { place, ..Wanted::default() }, PROGRAMS[0].1, 0)?;
        expect_eq!(
            (outcome(lab)?, seen(Note::Count)),
            (Fate::Alive, 1),
            "handled by another task of the process"
        );
        lab.reset()?;
    }
    Ok(())
}

// --- puppets as handlers -------------------------------------------------------------------------

/// Returns the answer to a fault, as a puppet makes it.
fn verdict(op: Op, to: u64, answer: u32, rip: u64) -> Args {
    Args { info: MsgInfo::new(answer, 0).op(op), rdi: to, r8: rip, ..Args::default() }
}

/// A puppet on a CPU that has received the fault of another process's task.
struct Handled {
    puppet: Puppet,
    task: Task,
    shown: Shown,
}

fn handled(lab: &mut Lab<'_>, cpu: u32, entry: Entry) -> Result<Handled, Failure> {
    let place = lab.process(false)?;
    let puppet = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
    handled_by(lab, place, puppet.number + 1)?;
    lab.ask(&puppet, &Args::new(Op::Recv))?;
    let task = start(lab, &Wanted { place, ..Wanted::default() }, entry, 0)?;
    let shown = lab.answer(&puppet)?;
    expect!(shown.answer.info.has(FLAG_FAULT), "it received {shown:?}");
    Ok(Handled { puppet, task, shown })
}

/// Index of the program that reads page 0.
const NULL: usize = 0;

fn answers_that_are_refused(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let Handled { puppet, shown, .. } = handled(lab, cpu, PROGRAMS[NULL].1)?;
        for op in [Op::Reply, Op::ReplyRecv] {
            for label in [FaultAnswer::ALL.len() as u32, 99, u32::MAX] {
                let told = lab.run(&puppet, &verdict(op, 0, label, 0))?;
                expect_eq!(
                    (told.error(), told.answer.rdi),
                    (Some(Error::BadArgument), u64::MAX),
                    "{op:?} {label}"
                );
            }
            for rip in [abi::USER_TOP, 1 << 47, u64::MAX] {
                let told = lab.run(&puppet, &verdict(op, 0, FaultAnswer::ResumeAt.label(), rip))?;
                let wanted = (Some(Error::BadAddress), RegIndex::Rip as u64);
                expect_eq!((told.error(), told.answer.rdi), wanted, "{op:?} to {rip:#x}");
            }
        }
        // After the instruction of two bytes.
        let rip = shown.answer.r8 + 2;
        let told = lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::ResumeAt.label(), rip))?;
        expect_eq!(told.error(), None, "the call was still there");
        expect_eq!(outcome(lab)?, Fate::Alive, "and the task");
        let gone = lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::Resume.label(), 0))?;
        expect_eq!(gone.error(), Some(Error::Gone), "once");
        lab.reset()?;
    }
    Ok(())
}

/// Checks that a faulting task dies, in a process that `prepare` makes.
fn dies(lab: &mut Lab<'_>, what: &str, prepare: impl Fn(&mut Lab<'_>) -> Result<Place, Failure>) -> Outcome {
    let place = prepare(lab)?;
    start(lab, &Wanted { place, ..Wanted::default() }, PROGRAMS[NULL].1, 0)?;
    expect_eq!(outcome(lab)?, Fate::Dead, "{what}");
    lab.reset()?;
    Ok(())
}

fn no_handler(lab: &mut Lab<'_>) -> Outcome {
    dies(lab, "without a handler", |lab| lab.process(false))?;
    dies(lab, "with one that was withdrawn", |lab| {
        let place = lab.process(false)?;
        start_handler(lab, place, &Wanted::default(), Script::ToR15)?;
        lab.child(place)?.process.fault_handler(None)?;
        Ok(place)
    })?;
    for rights in [Rights::SEND, Rights::STRING] {
        dies(lab, "with a right missing", |lab| {
            let place = lab.process_with(false, rights, 0)?;
            start_handler(lab, place, &Wanted::default(), Script::ToR15)?;
            Ok(place)
        })?;
    }
    for (slot, index) in
        [(CHILD_GROUP.0 + 3, 0), (CHILD_GROUP.0, HANDLER_INDEX), (0, 7), (u32::MAX, u32::MAX)]
    {
        dies(lab, "with nothing there", |lab| {
            let place = lab.process(false)?;
            let handler = abi::Target::new(abi::Cap(slot), index);
            lab.child(place)?.process.fault_handler(Some(handler))?;
            Ok(place)
        })?;
    }
    dies(lab, "as its own handler", |lab| {
        let place = lab.process(false)?;
        handled_by(lab, place, FAULTER_INDEX)?;
        Ok(place)
    })?;
    for cpu in handler_cpus(lab) {
        dies(lab, "with a dead handler", |lab| {
            let place = lab.process(false)?;
            start_handler(lab, place, &Wanted { cpu, ..Wanted::default() }, Script::ToR15)?.kill()?;
            lab.settle();
            Ok(place)
        })?;
    }
    Ok(())
}

fn killed_by_the_handler(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let place = lab.process(false)?;
        let bystander = lab.puppet(&Wanted { place, ..Wanted::default() })?;
        start_handler(lab, place, &Wanted { cpu, ..Wanted::default() }, Script::Kill)?;
        start(lab, &Wanted { place, ..Wanted::default() }, PROGRAMS[NULL].1, 0)?;
        expect_eq!(outcome(lab)?, Fate::Dead, "killed");
        expect_eq!(
            lab.run(&bystander, &Args::new(Op::Null))?.error(),
            None,
            "the others of its process live"
        );
        lab.reset()?;
    }
    Ok(())
}

fn torn_down_by_the_handler(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let place = lab.process(false)?;
        let client = lab.puppet(&Wanted::default())?;
        let bystander = lab.puppet(&Wanted { place, ..Wanted::default() })?;
        start_handler(lab, place, &Wanted { cpu, ..Wanted::default() }, Script::TearDown)?;
        start(lab, &Wanted { place, ..Wanted::default() }, PROGRAMS[NULL].1, 0)?;
        expect_eq!(outcome(lab)?, Fate::Dead, "torn down");
        lab.settle();
        let shown = lab.run(&client, &Args::plain(Op::Call, lab.target(&client, &bystander).0, 0, 0, 0))?;
        expect_eq!(shown.error(), Some(Error::Dead), "with its whole process");
        lab.reset()?;
    }
    Ok(())
}

fn let_go_or_dead(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let Handled { puppet, .. } = handled(lab, cpu, PROGRAMS[NULL].1)?;
        lab.ask(&puppet, &Args::new(Op::Recv))?;
        expect_eq!(outcome(lab)?, Fate::Dead, "its handler receives anew");
        lab.reset()?;
        let Handled { puppet, .. } = handled(lab, cpu, PROGRAMS[NULL].1)?;
        puppet.task.kill()?;
        expect_eq!(outcome(lab)?, Fate::Dead, "its handler is killed");
        lab.reset()?;
    }
    let Handled { puppet, .. } = handled(lab, 0, PROGRAMS[NULL].1)?;
    let kept: Reply = lab.nursery.make(0)?;
    let save = Args::plain(Op::SaveReply, kept.arg(), 0, 0, 0);
    expect_eq!(lab.run(&puppet, &save)?.error(), None, "keeping the fault");
    own::cnode().delete(kept.cap())?;
    expect_eq!(outcome(lab)?, Fate::Dead, "what kept it is deleted");
    Ok(())
}

fn killed_while_handled(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let Handled { puppet, task, .. } = handled(lab, cpu, PROGRAMS[NULL].1)?;
        task.kill()?;
        expect_eq!(outcome(lab)?, Fate::Dead, "killed");
        lab.settle();
        let late = lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::Resume.label(), 0))?;
        expect_eq!(late.error(), Some(Error::Gone), "a late answer");
        lab.reset()?;
    }
    Ok(())
}

fn suspended_and_cancelled(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let Handled { puppet, task, shown } = handled(lab, cpu, PROGRAMS[NULL].1)?;
        task.cancel()?;
        task.suspend()?;
        lab.settle();
        let regs = task.read_regs()?;
        expect_eq!(regs[RegIndex::Rip as usize], shown.answer.r8, "its registers are there to read");
        let written = task.write_regs(&regs).err().map(|refusal| refusal.error);
        expect_eq!(written, Some(Error::BadState), "but not to write");
        let rip = regs[RegIndex::R15 as usize];
        let told = lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::ResumeAt.label(), rip))?;
        expect_eq!(told.error(), None, "the answer to a task that is suspended");
        lab.settle();
        task.resume()?;
        expect_eq!(outcome(lab)?, Fate::Alive, "a cancel is nothing to a fault");
        lab.reset()?;
    }
    Ok(())
}

fn forwarded_and_kept(lab: &mut Lab<'_>) -> Outcome {
    let cpus: alloc::vec::Vec<u32> = handler_cpus(lab).collect();
    for (first, second) in cpus.iter().flat_map(|a| cpus.iter().map(move |b| (*a, *b))) {
        let Handled { puppet, shown, .. } = handled(lab, first, PROGRAMS[NULL].1)?;
        let last = lab.puppet(&Wanted { cpu: second, ..Wanted::default() })?;
        lab.ask(&last, &Args::new(Op::Recv))?;
        let target = lab.target(&puppet, &last);
        let forward = Args { rdi: target.0, rdx: 1, r8: 2, r9: 3, r10: 4, ..Args::new(Op::Forward) };
        expect_eq!(lab.run(&puppet, &forward)?.error(), None, "handing a fault on");
        let got = lab.answer(&last)?;
        expect!(got.answer.info.has(FLAG_FAULT), "it stays a fault: {got:?}");
        expect_eq!(got.answer.rsi, shown.answer.rsi, "of the task that faulted");
        let mut to = 0;
        // A Reply belongs to the CPU of the task that made it.
        if second == 0 {
            let kept: Reply = lab.nursery.make(0)?;
            to = kept.arg();
            expect_eq!(lab.run(&last, &Args::plain(Op::SaveReply, to, 0, 0, 0))?.error(), None, "keeping it");
            let told = lab.run(&last, &verdict(Op::Reply, to, 99, 0))?;
            expect_eq!(told.error(), Some(Error::BadArgument), "nonsense to what is kept");
        }
        // With the registers that the handler was shown: at the same instruction, which faults
        // again.
        handled_again(lab, &last, to, &puppet)?;
        let told =
            lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::ResumeAt.label(), shown.answer.r8 + 2))?;
        expect_eq!(told.error(), None, "the second fault");
        expect_eq!(outcome(lab)?, Fate::Alive, "in the end");
        lab.reset()?;
    }
    Ok(())
}

/// Checks that `last` answers with the registers that it has, that the task faults again, and that
/// its handler receives that fault.
fn handled_again(lab: &Lab<'_>, last: &Puppet, to: u64, handler: &Puppet) -> Outcome {
    lab.ask(handler, &Args::new(Op::Recv))?;
    let told = lab.run(last, &verdict(Op::Reply, to, FaultAnswer::Registers.label(), 0))?;
    expect_eq!(told.error(), None, "an answer with registers");
    let again = lab.answer(handler)?;
    expect_eq!(again.answer.info.label(), FaultKind::Page.label(), "the same instruction faults again");
    Ok(())
}

/// Answers faults after a fault of its own.
extern "C" fn clumsy_handler(_: u64) -> ! {
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => match Fault::of(&call) {
                Some(fault) => {
                    let verdict = Verdict::ResumeAt(fault.rip + 2);
                    arch::fault_once();
                    verdict.reply_recv()
                }
                None => reply_recv(&Message::default()),
            },
            _ => recv(),
        }
    }
}

fn handlers_have_handlers(lab: &mut Lab<'_>) -> Outcome {
    for cpu in handler_cpus(lab) {
        let (place, middle) = (lab.process(false)?, lab.process(false)?);
        start_handler(lab, middle, &Wanted { cpu, ..Wanted::default() }, Script::Skip)?;
        let clumsy = lab.task(&Wanted { place: middle, ..Wanted::default() }, clumsy_handler, 0)?.task;
        lab.group()?.expose_task(HANDLER_INDEX + 2, &clumsy)?;
        clumsy.resume()?;
        handled_by(lab, place, HANDLER_INDEX + 2)?;
        start(lab, &Wanted { place, ..Wanted::default() }, PROGRAMS[NULL].1, 0)?;
        expect_eq!(outcome(lab)?, Fate::Alive, "handled by a handler that faults");
        expect_eq!((seen(Note::Count), seen(Note::Address)), (1, 0), "whose fault is handled, too");
        lab.reset()?;
    }
    Ok(())
}

fn own_handlers_go_first(lab: &mut Lab<'_>) -> Outcome {
    let place = lab.process(false)?;
    start_handler(lab, place, &Wanted::default(), Script::Kill)?;
    let puppet = lab.puppet(&Wanted::default())?;
    lab.ask(&puppet, &Args::new(Op::Recv))?;
    let task = lab.task(&Wanted { place, ..Wanted::default() }, PROGRAMS[NULL].1, 0)?.task;
    task.fault_handler(Some(abi::Target::new(CHILD_GROUP, puppet.number + 1)))?;
    lab.group()?.expose_task(FAULTER_INDEX, &task)?;
    task.resume()?;
    let shown = lab.answer(&puppet)?;
    let rip = shown.answer.r8 + 2;
    lab.run(&puppet, &verdict(Op::Reply, 0, FaultAnswer::ResumeAt.label(), rip))?;
    expect_eq!((outcome(lab)?, seen(Note::Count)), (Fate::Alive, 0), "its own handler, not its process's");
    Ok(())
}
