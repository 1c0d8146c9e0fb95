//! The machine's protections: each test does what one of them must stop, and would succeed with
//! that protection off. `./justw test` shows that, too: it boots a kernel without one (`off=smep`),
//! and expects exactly its tests to fail.
//!
//! The kernel itself tries what it must not do ([`Op::MachineAttempt`]), on every CPU. Only test
//! builds can. What protects programs from each other's priority is tested beside it:
//! [`crate::hog`].

use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, Op, cpu_features};
use test_abi::{Attempt, build};
use user_rt::arch::{Args, memory, syscall};
use user_rt::boot;
use user_rt::cap::{Access, Frame, Handle};
use user_rt::layout::{SHARED_VA, slot};
use user_rt::spawn::own;

use crate::fate::{self, Fate};
use crate::hog::a_hog_delays_no_better_caller;
use crate::lab::{Lab, Wanted};
use crate::suite::{Failure, Outcome};
use crate::{expect, expect_eq, tests};

tests! {
    the_kernel_reaches_no_user_data the_kernel_executes_no_user_text the_kernel_writes_nothing_read_only
    the_kernel_forgets_what_it_could_write the_kernel_executes_no_data programs_execute_no_data nothing_is_written_and_executed tables_are_not_shown
    attempts_are_checked a_hog_delays_no_better_caller
}

/// Holes in this process.
const HOLE: u64 = SHARED_VA + 0x1000_0000;
const ALIAS: u64 = HOLE + 0x10_0000;
/// What the CPU reports: a page fault, and its error code.
const PAGE_FAULT: u64 = 14 << 32;
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 16;

fn attempt(what: u64, address: u64) -> Args {
    Args::plain(Op::MachineAttempt, slot::MACHINE.arg(), what, address, 0)
}

/// Returns what stops an attempt of the kernel, on each CPU. Fails with `through` if nothing does.
fn stopped(lab: &mut Lab<'_>, what: Attempt, address: u64, wanted: u64, through: &str) -> Outcome {
    if !boot::has(build::ATTEMPTS) {
        return Err(Failure::Lacks("the kernel tries nothing that is forbidden"));
    }
    for cpu in 0..lab.cpus {
        let puppet = lab.puppet(&Wanted { cpu, ..Wanted::default() })?;
        let shown = lab.run(&puppet, &attempt(what as u64, address))?;
        expect_eq!(shown.error(), None, "{what:?} on CPU {cpu}");
        expect!(shown.answer.rdi != 0, "{through} on CPU {cpu} ({what:?})");
        expect_eq!(shown.answer.rdi, PAGE_FAULT | PRESENT | wanted, "what stopped {what:?} on CPU {cpu}");
    }
    Ok(())
}

/// Makes a page of return instructions, mapped here.
fn returns(lab: &mut Lab<'_>, access: Access) -> Result<Frame, Failure> {
    let frame: Frame = lab.nursery.make(12)?;
    memory::with_frame(&own::vspace(), &frame, |bytes| bytes.fill(0xc3))?;
    own::vspace().map(&frame, HOLE, access)?;
    Ok(frame)
}

fn the_kernel_reaches_no_user_data(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(cpu_features::SMAP) {
        return Err(Failure::Lacks("the CPU has no SMAP"));
    }
    returns(lab, Access::Write)?;
    stopped(lab, Attempt::Read, HOLE, 0, "the kernel read a program's data")?;
    stopped(lab, Attempt::Write, HOLE, WRITE, "the kernel wrote a program's data")?;
    // The flag that gives the kernel access is also the program's own, for another purpose.
    let with_flag = attempt_with_alignment_flag(Attempt::Read as u64, HOLE);
    expect!(with_flag != 0, "the kernel read a program's data: the program set the flag that permits it");
    expect_eq!(with_flag, PAGE_FAULT | PRESENT, "what stopped it with the flag set");
    Ok(())
}

/// Makes the system call with RFLAGS.AC set.
fn attempt_with_alignment_flag(what: u64, address: u64) -> u64 {
    let stopped;
    // SAFETY: a system call, which defines every register but RSP. The flag is clear again
    // afterwards, and in between only the stack is used, which is aligned.
    unsafe {
        core::arch::asm!(
            "push rbx", "push rbp", "push 0x40202", "popfq", "syscall", "push 0x202", "popfq", "pop rbp", "pop rbx",
            inout("rax") Op::MachineAttempt as u64 => _,
            inout("rdi") slot::MACHINE.arg() => stopped,
            inout("rsi") what => _,
            inout("rdx") address => _,
            out("rcx") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _,
            out("r14") _, out("r15") _,
        );
    }
    stopped
}

fn the_kernel_executes_no_user_text(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(cpu_features::SMEP) {
        return Err(Failure::Lacks("the CPU has no SMEP"));
    }
    returns(lab, Access::Execute)?;
    stopped(lab, Attempt::Execute, HOLE, FETCH, "the kernel executed a program's text")
}

fn the_kernel_writes_nothing_read_only(lab: &mut Lab<'_>) -> Outcome {
    stopped(lab, Attempt::WriteText, 0, WRITE, "the kernel wrote to its text")?;
    stopped(lab, Attempt::WriteTextAlias, 0, WRITE, "the kernel wrote to its text by the direct map")?;
    stopped(lab, Attempt::WriteConstant, 0, WRITE, "the kernel wrote to a constant")
}

/// Checks that CPUs that could write to the kernel's image have flushed those translations.
fn the_kernel_forgets_what_it_could_write(lab: &mut Lab<'_>) -> Outcome {
    stopped(lab, Attempt::WriteSealed, 0, WRITE, "the kernel wrote to what was sealed")
}

fn the_kernel_executes_no_data(lab: &mut Lab<'_>) -> Outcome {
    stopped(lab, Attempt::ExecuteData, 0, FETCH, "the kernel executed its data")?;
    stopped(lab, Attempt::ExecuteDataAlias, 0, FETCH, "the kernel executed the direct map")
}

fn programs_execute_no_data(lab: &mut Lab<'_>) -> Outcome {
    for access in [Access::Read, Access::Write] {
        let victim = Wanted { place: lab.process(false)?, ..Wanted::default() };
        let frame: Frame = lab.nursery.make(12)?;
        memory::with_frame(&own::vspace(), &frame, |bytes| bytes.fill(0xc3))?;
        lab.child(victim.place)?.vspace.map(&frame, HOLE, access)?;
        let fate = lab.fate(&victim, fate::jump, HOLE)?;
        expect_eq!(fate, Fate::Dead, "a program that executes a page mapped to {access:?}");
        lab.reset()?;
    }
    let victim = Wanted { place: lab.process(false)?, ..Wanted::default() };
    expect_eq!(lab.fate(&victim, fate::jump_to_utcb, 0)?, Fate::Dead, "a program that executes its UTCB");
    lab.reset()?;
    let victim = Wanted { place: lab.process(false)?, ..Wanted::default() };
    expect_eq!(lab.fate(&victim, fate::jump_to_stack, 0)?, Fate::Dead, "a program that executes its stack");
    Ok(())
}

/// A step towards memory that is both written and executed.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u64, Access),
    Protect(u64, Access),
}

/// Ways to such memory. Each step but the last is allowed.
const WAYS: &[(&str, &[Step])] = &[
    (
        "text that is mapped to be written",
        &[Step::Map(ALIAS, Access::Execute), Step::Map(HOLE, Access::Write)],
    ),
    (
        "data that is mapped to be executed",
        &[Step::Map(HOLE, Access::Write), Step::Map(ALIAS, Access::Execute)],
    ),
    (
        "text that becomes writable elsewhere",
        &[
            Step::Map(HOLE, Access::Read),
            Step::Map(ALIAS, Access::Execute),
            Step::Protect(HOLE, Access::Write),
        ],
    ),
    (
        "data that becomes executable elsewhere",
        &[
            Step::Map(HOLE, Access::Write),
            Step::Map(ALIAS, Access::Read),
            Step::Protect(ALIAS, Access::Execute),
        ],
    ),
    (
        "data that was text, which comes back",
        &[
            Step::Map(HOLE, Access::Execute),
            Step::Map(ALIAS, Access::Read),
            Step::Protect(HOLE, Access::Write),
            Step::Protect(ALIAS, Access::Execute),
        ],
    ),
];

/// `mov eax, 0x5eed; ret`.
const CODE: u64 = 0xc300_005e_edb8;
const RESULT: u64 = 0x5eed;

fn nothing_is_written_and_executed(lab: &mut Lab<'_>) -> Outcome {
    for (log2, at) in [(12, 0), (21, 0x2_0000_0000)] {
        for (way, steps) in WAYS {
            let frame: Frame = lab.nursery.make(log2)?;
            if let Some(result) = written_and_executed(&frame, at, steps)? {
                return Err(Failure::Of(alloc::format!(
                    "{way}: written, then executed: it returns {result:#x}"
                )));
            }
            lab.reset()?;
        }
    }
    // Nor can both be requested together.
    const WRITE_AND_EXECUTE: u64 = 3;
    let frame: Frame = lab.nursery.make(12)?;
    let args = Args::plain(Op::Map, own::vspace().arg(), frame.cap().arg(), HOLE, WRITE_AND_EXECUTE);
    expect_eq!(syscall(args).info.status(), Err(Error::WriteExecute), "both at once");
    Ok(())
}

/// Takes such a way. Returns the result of the code that was written and executed at its end, or
/// `None` if a step was refused.
fn written_and_executed(frame: &Frame, by: u64, steps: &[Step]) -> Result<Option<u64>, Failure> {
    let space = own::vspace();
    let (last, first) = steps.split_last().ok_or_else(|| Failure::Of("no steps".into()))?;
    let step = |step: &Step| match *step {
        Step::Map(at, access) => space.map(frame, place(by, at), access),
        Step::Protect(at, access) => space.protect(frame, place(by, at), access),
    };
    first.iter().try_for_each(step)?;
    match step(last).map_err(|refusal| refusal.error) {
        Err(Error::WriteExecute) => return Ok(None),
        Err(other) => return Err(Failure::Of(alloc::format!("{last:?}: {other:?}"))),
        Ok(()) => {}
    }
    // SAFETY: one of the two is writable now, the other one executable; both are one piece of
    // memory, which nothing else uses.
    let (words, result) = unsafe { (memory::mapped_words(place(by, HOLE), 1), place(by, ALIAS)) };
    words[0].store(CODE, Relaxed);
    let got: u64;
    // SAFETY: code that changes nothing but RAX.
    unsafe { core::arch::asm!("call {}", in(reg) result, out("rax") got, clobber_abi("sysv64")) };
    Ok((got == RESULT).then_some(got))
}

/// Returns the address for a frame: large frames go where no page table was.
fn place(by: u64, at: u64) -> u64 {
    if by == 0 || at == HOLE { by + at } else { by + at - 0x10_0000 + (2 << 20) }
}

fn tables_are_not_shown(lab: &mut Lab<'_>) -> Outcome {
    if !boot::has(cpu_features::UMIP) {
        return Err(Failure::Lacks("the CPU has no UMIP"));
    }
    let victim = Wanted { place: lab.process(false)?, ..Wanted::default() };
    expect_eq!(lab.fate(&victim, fate::read_interrupt_table, 0)?, Fate::Dead, "a program that runs SIDT");
    Ok(())
}

fn attempts_are_checked(_: &mut Lab<'_>) -> Outcome {
    for what in [Attempt::ALL.len() as u64, u64::MAX] {
        let answer = syscall(attempt(what, HOLE));
        let got = answer.info.status().map_err(|error| (error, answer.rdi));
        expect_eq!(got, Err((Error::BadArgument, 1)), "attempt {what:#x}");
    }
    if !boot::has(build::ATTEMPTS) {
        let refused = syscall(attempt(0, HOLE)).info.status();
        expect_eq!(refused, Err(Error::NotBuilt), "a kernel that tries nothing");
        return Ok(());
    }
    // The kernel survives every address.
    for address in [0, HOLE, 1 << 47, 0xffff_8000_0000_0000 - 1, 0xffff_c000_0000_0000, u64::MAX] {
        for what in [Attempt::Read, Attempt::Write, Attempt::Execute] {
            let answer = syscall(attempt(what as u64, address));
            expect_eq!(answer.info.status(), Ok(()), "{what:?} at {address:#x}");
            expect!(answer.rdi != 0, "{what:?} at {address:#x}, where nothing is, went through");
        }
    }
    Ok(())
}
