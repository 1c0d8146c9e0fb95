//! Programs that do forbidden things: the kernel stops each one alone, and the others continue.
//!
//! Each line of the tables is a program: its instructions, and whether it may survive. A program
//! runs in its own process; after each one, puppets elsewhere call each other.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Op, Utcb, cpu_features};
use guest_tests::board::Part as _;
use user_rt::arch::{self, Args};
use user_rt::boot;
use user_rt::cap::Untyped;
use user_rt::invoke::transfer;
use user_rt::layout::{SHARED_VA, slot};
use user_rt::spawn::Entry;

use crate::block::Block;
use crate::fate::{Fate, survive};
use crate::ipc::{answered, call, is_call_of, reply};
use crate::lab::{CHILD_FREE, CHILD_SLOTS, Lab, PUPPETS_MAX, Place, Wanted};
use crate::suite::Outcome;
use crate::{expect, expect_eq, tests};

tests! {
    privileged_instructions interrupts_and_exceptions segments_and_bases flags stacks_and_jumps
    vector_state scribbled_utcb random_system_calls
}

/// A program: name, entry, expected fate.
type Program = (&'static str, Entry, Fate);

/// Offset in the UTCB of a word for the program's own use.
const OWN_WORD: usize = offset_of!(Utcb, user) + 40 * size_of::<u64>();

/// Makes programs of instructions, in which `{null}` is a harmless system call and `{word}` is
/// [`OWN_WORD`]. They may use all registers; those that complete survive. (The comment at the end
/// is for programs that use neither operand: an unused operand is an error.)
macro_rules! programs {
    ($($table:ident { $($fate:ident $name:literal: $($instruction:literal),+;)* })*) => {$(
        const $table: &[Program] = &[$((
            $name,
            {
                extern "C" fn program(_: u64) -> ! {
                    // SAFETY: none: the kernel must cope with this. Afterwards the program only
                    // runs `survive`, which needs a stack, the FS base and clear flags; programs
                    // that change those restore them.
                    unsafe { asm!($($instruction),+, "/* {null} {word} */",
                        null = const Op::Null as u32, word = const OWN_WORD,
                        out("rax") _, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _,
                        out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _,
                        out("r14") _, out("r15") _) };
                    survive()
                }
                program as Entry
            },
            Fate::$fate,
        ),)*];
    )*};
}

programs! {
    PRIVILEGED {
        Dead "cli": "cli";
        Dead "sti": "sti";
        Dead "hlt": "hlt";
        Dead "in": "in al, 0x60";
        Dead "out": "mov al, 0x10", "out 0xf4, al";
        Dead "outs": "mov dx, 0xe9", "mov rsi, rsp", "outsb";
        Dead "mov from cr0": "mov rax, cr0";
        Dead "mov to cr0": "xor eax, eax", "mov cr0, rax";
        Dead "mov from cr3": "mov rax, cr3";
        Dead "mov to cr3": "xor eax, eax", "mov cr3, rax";
        Dead "mov to cr4": "xor eax, eax", "mov cr4, rax";
        Dead "mov to cr8": "xor eax, eax", "mov cr8, rax";
        Dead "mov from dr7": "mov rax, dr7";
        Dead "mov to dr0": "mov dr0, rsp";
        Dead "clts": "clts";
        Dead "lgdt": "lgdt [rsp]";
        Dead "lidt": "lidt [rsp]";
        Dead "lldt": "xor eax, eax", "lldt ax";
        Dead "ltr": "mov eax, 0x28", "ltr ax";
        Dead "lmsw": "xor eax, eax", "lmsw ax";
        Dead "invlpg": "invlpg [rsp]";
        Dead "invd": "invd";
        Dead "wbinvd": "wbinvd";
        Dead "rdmsr": "mov ecx, 0xc0000080", "rdmsr";
        Dead "wrmsr": "mov ecx, 0xc0000082", "xor eax, eax", "xor edx, edx", "wrmsr";
        Dead "xsetbv": "xor ecx, ecx", "mov eax, 1", "xor edx, edx", "xsetbv";
        Dead "swapgs": "swapgs";
        Dead "sysret": "sysretq";
        Dead "sysexit": "sysexit";
        Dead "sysenter": "sysenter";
        Dead "monitor": "xor ecx, ecx", "xor edx, edx", "mov rax, rsp", "monitor";
        Dead "mwait": "xor ecx, ecx", "xor eax, eax", "mwait";
        Dead "rsm": "rsm";
        Dead "vmcall": "vmcall";
        Dead "vmmcall": "vmmcall";
        Dead "stac": "stac";
        Dead "clac": "clac";
        Alive "cpuid": "push rbx", "xor eax, eax", "cpuid", "pop rbx";
        Alive "rdtsc": "rdtsc";
        Dead "rdpkru": "xor ecx, ecx", ".byte 0x0f, 0x01, 0xee";
        Alive "xgetbv": "xor ecx, ecx", "xgetbv";
    }
    EXCEPTIONS {
        Dead "int timer": "int 0x20";
        Dead "int mailbox": "int 0x21";
        Dead "int page fault": "int 14";
        Dead "int double fault": "int 8";
        Dead "int nmi": "int 2";
        Dead "int machine check": "int 18";
        Dead "int linux": "int 0x80";
        Dead "int 255": "int 0xff";
        Dead "int3": "int3";
        Dead "int1": ".byte 0xf1";
        Dead "ud2": "ud2";
        Dead "divide by zero": "xor edx, edx", "xor ecx, ecx", "mov eax, 1", "div rcx";
        Dead "divide overflow": "mov rdx, -1", "mov ecx, 1", "div rcx";
        Either "lock on a register": ".byte 0xf0, 0x48, 0x89, 0xc0";
        Dead "into": ".byte 0xce";
        Dead "far call of old": ".byte 0x9a, 0, 0, 0, 0, 0, 0";
        Dead "sixteen bytes": ".fill 15, 1, 0x66", "nop";
        Dead "push es": ".byte 0x06";
    }
    SEGMENTS {
        Dead "kernel code in cs": "push 8", "lea rax, [rip + 2f]", "push rax", "retfq", "2:";
        Dead "kernel data in ss": "mov eax, 0x10", "mov ss, ax";
        Dead "kernel data in ds": "mov eax, 0x10", "mov ds, ax";
        Dead "a selector beyond the table": "mov eax, 0xfff8", "mov es, ax";
        Dead "iret to ring 0": "mov rcx, rsp", "push 0x10", "push rcx", "push 0x202", "push 8",
            "lea rax, [rip + 2f]", "push rax", "iretq", "2:";
        Either "fs base not canonical": "mov rax, 0x800000000000", "wrfsbase rax";
        Either "gs base not canonical": "mov rax, 0x800000000000", "wrgsbase rax";
        Alive "null selectors": "rdfsbase rcx", "xor eax, eax", "mov ds, ax", "mov es, ax", "mov fs, ax",
            "mov gs, ax", "wrfsbase rcx";
        Alive "gs base in the kernel": "mov rax, -4096", "wrgsbase rax", "mov eax, {null}", "push rbx", "push rbp",
            "syscall", "pop rbp", "pop rbx";
        Alive "fs base in the kernel": "rdfsbase r15", "push r15", "mov rax, -4096", "wrfsbase rax", "mov eax, {null}",
            "push rbx", "push rbp", "syscall", "pop rbp", "pop rbx", "pop r15", "wrfsbase r15";
    }
    FLAGS {
        Alive "i/o privilege": "push 0x3202", "popfq", "pushfq", "pop rax", "test eax, 0x3000", "jz 2f", "ud2", "2:";
        Alive "interrupts off by popf": "push 2", "popfq", "pushfq", "pop rax", "test eax, 0x200", "jnz 2f", "ud2",
            "2:";
        Alive "direction": "std", "mov eax, {null}", "push rbx", "push rbp", "syscall", "pop rbp", "pop rbx", "cld";
        Alive "alignment check": "push 0x40202", "popfq", "mov eax, {null}", "push rbx", "push rbp", "syscall",
            "pop rbp", "pop rbx", "push 0x202", "popfq";
        Alive "nested task": "push 0x4202", "popfq", "mov eax, {null}", "push rbx", "push rbp", "syscall", "pop rbp",
            "pop rbx", "push 0x202", "popfq";
        Dead "single step": "push 0x302", "popfq", "nop", "nop";
        Dead "single step into the kernel": "mov eax, {null}", "push 0x302", "popfq", "syscall", "nop";
        Dead "iret with nested task": "push 0x4202", "popfq", "mov rcx, rsp", "push 0x23", "push rcx", "push 0x4202",
            "push 0x2b", "lea rax, [rip + 2f]", "push rax", "iretq", "2:", "hlt";
        Alive "odd flags": "push 0x240ad7", "popfq", "mov eax, {null}", "push rbx", "push rbp", "syscall", "pop rbp",
            "pop rbx", "push 0x202", "popfq";
    }
    JUMPS {
        Dead "to the kernel": "mov rax, 0xffffffff80000000", "jmp rax";
        Dead "to the direct map": "mov rax, 0xffff800000000000", "jmp rax";
        Dead "to an address that is not canonical": "mov rax, 0x800000000000", "jmp rax";
        Dead "to the end of user space": "mov rax, 0x7ffffffff000", "jmp rax";
        Dead "to nothing": "xor eax, eax", "jmp rax";
        Dead "a return that is not canonical": "mov rax, 0x800000000000", "push rax", "ret";
        Dead "a stack at nothing": "xor esp, esp", "push rax";
        Dead "a stack that is not canonical": "mov rsp, 0x800000000000", "push rax";
        Dead "a stack in the kernel": "mov rsp, 0xffffffff80100000", "push rax";
        // The UTCB has words for the program, in which it keeps its stack.
        Alive "a system call without a stack": "push rbx", "push rbp", "mov fs:[{word}], rsp", "xor esp, esp",
            "mov eax, {null}", "syscall", "mov rsp, fs:[{word}]", "pop rbp", "pop rbx";
        Dead "a system call on a kernel stack": "mov rsp, 0xffffffff80100000", "mov eax, {null}", "syscall", "push rax";
        Dead "a system call on a stack that is not canonical": "mov rsp, 0x800000000000", "mov eax, {null}", "syscall",
            "push rax";
        Dead "a fault on a stack in the kernel": "mov rsp, 0xffffffff80100000", "ud2";
        Dead "an exit without a stack": "xor esp, esp", "ud2";
    }
    UMIP {
        Dead "sgdt": "sub rsp, 16", "sgdt [rsp]", "add rsp, 16";
        Dead "sidt": "sub rsp, 16", "sidt [rsp]", "add rsp, 16";
        Dead "sldt": "sldt ax";
        Dead "str": "str ax";
        Dead "smsw": "smsw ax";
    }
    VECTOR {
        Dead "sse": "xorps xmm0, xmm0";
        Dead "sse2 load": "movdqu xmm15, [rsp]";
        Dead "x87": "fld1";
        Dead "mmx": "movq mm0, rax";
        Dead "fxsave": "sub rsp, 1024", "and rsp, -64", "fxsave64 [rsp]";
        Dead "ldmxcsr": "push 0x1f80", "ldmxcsr [rsp]";
        // QEMU ignores CR0.TS there: the result depends on the contents of the stack.
        Either "xrstor": "mov eax, 7", "xor edx, edx", "mov rsp, rsp", "xrstor [rsp]";
    }
    WITH_VECTOR {
        Alive "sse": "xorps xmm0, xmm0";
        Alive "x87": "fninit", "fld1", "fstp st(0)";
        Dead "a pending x87 exception": "fninit", "push 0x37b", "fldcw word ptr [rsp]", "fld1", "fldz",
            "fdivp st(1), st", "fwait", "pop rax";
        Alive "an x87 exception left pending": "fninit", "push 0x37b", "fldcw word ptr [rsp]", "fld1", "fldz",
            "fdivp st(1), st", "pop rax";
    }
}

/// Runs the programs, each in its own process, with a call elsewhere after each.
fn run(lab: &mut Lab<'_>, programs: &[Program], vector: bool) -> Outcome {
    for (name, entry, fate) in programs {
        let (client, server) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
        lab.ask(&server, &Args::new(Op::Recv))?;
        let place = lab.process(vector)?;
        let seen = lab.fate(&Wanted { place, ..Wanted::default() }, *entry, 0)?;
        expect!(*fate == Fate::Either || seen == *fate, "{name}: it is {seen:?}");
        call(lab, &client, &server, 1)?;
        is_call_of(&lab.answer(&server)?, &server, &client, 1)?;
        reply(lab, &server, 2)?;
        answered(lab, &client, 2)?;
        lab.reset()?;
    }
    Ok(())
}

fn privileged_instructions(lab: &mut Lab<'_>) -> Outcome {
    run(lab, PRIVILEGED, false)?;
    if boot::has(cpu_features::UMIP) { run(lab, UMIP, false) } else { Ok(()) }
}

fn interrupts_and_exceptions(lab: &mut Lab<'_>) -> Outcome {
    run(lab, EXCEPTIONS, false)
}

fn segments_and_bases(lab: &mut Lab<'_>) -> Outcome {
    run(lab, SEGMENTS, false)
}

fn flags(lab: &mut Lab<'_>) -> Outcome {
    run(lab, FLAGS, false)
}

fn stacks_and_jumps(lab: &mut Lab<'_>) -> Outcome {
    run(lab, JUMPS, false)
}

fn vector_state(lab: &mut Lab<'_>) -> Outcome {
    run(lab, VECTOR, false)?;
    run(lab, WITH_VECTOR, true)
}

/// Fills its UTCB with nonsense between calls.
fn scribbled_utcb(lab: &mut Lab<'_>) -> Outcome {
    let (client, server) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
    for puppet in [&client, &server] {
        let scribble = Args::new(Op::Null);
        lab.ask_with_scribble(puppet, &scribble)?;
        expect_eq!(lab.answer(puppet)?.error(), None, "after scribbling");
    }
    for round in 0..3 {
        call(lab, &client, &server, round)?;
        is_call_of(&lab.run(&server, &Args::new(Op::Recv))?, &server, &client, round)?;
        reply(lab, &server, round + 1)?;
        answered(lab, &client, round + 1)?;
        let who = lab.run(&client, &Args::new(Op::WhoAmI))?;
        expect_eq!(who.answer.rdi, client.id.raw(), "who it is, whatever its UTCB says");
    }
    Ok(())
}

/// System calls that a fuzzer makes.
const FUZZED: u64 = 3000;

/// Makes random system calls, most of them nearly right, and counts them in its block.
extern "C" fn fuzzer(number: u64) -> ! {
    let block = Block::at(number as u32);
    let mut random = oorandom::Rand64::new(u128::from(block.note(0).load(Relaxed)));
    for done in 1..=FUZZED {
        let args = random_args(&mut random);
        arch::syscall(args);
        block.note(1).store(done, Relaxed);
    }
    survive()
}

fn random_args(random: &mut oorandom::Rand64) -> Args {
    let op = loop {
        let op = Op::ALL[random.rand_range(0..Op::COUNT as u64) as usize];
        // The harness would take its messages for results.
        if op != Op::MachineLog {
            break op;
        }
    };
    let mut value = || match random.rand_range(0..8) {
        0 => random.rand_u64(),
        1 => random.rand_range(0..16),
        2 => 1 << random.rand_range(0..64),
        3 => abi::Target::new(abi::Cap(1), random.rand_range(0..u64::from(CHILD_SLOTS)) as u32).0,
        4 => SHARED_VA + 0x1000 * random.rand_range(0..0x10_0000),
        _ => {
            let slot = abi::Cap(random.rand_range(0..u64::from(CHILD_SLOTS)) as u32);
            abi::Target::new(slot, random.rand_range(0..14) as u32).0
        }
    };
    let [rdi, rsi, rdx, r8, r9, r10] = core::array::from_fn(|_| value());
    let label = value() as u32;
    let words = (value() & 0xff) as u8;
    // The fuzzer must not wait, because no task would answer.
    let info = abi::MsgInfo::new(label, words).op(op).flag(abi::FLAG_NONBLOCK);
    Args { info, rdi, rsi, rdx, r8, r9, r10 }
}

/// Runs a dozen programs; `seed=` chooses which.
fn random_system_calls(lab: &mut Lab<'_>) -> Outcome {
    const PROGRAMS: u64 = 12;
    let campaign = boot::options().number("seed", 0).unwrap_or(0);
    for seed in (0..PROGRAMS).map(|n| campaign * PROGRAMS + n) {
        let (client, server) = (lab.puppet(&Wanted::default())?, lab.puppet(&Wanted::default())?);
        // In its own group: it would withdraw exposures that others need.
        let child = lab.process_alone(false)?;
        let group = lab.nursery.make_group(4, 4)?;
        lab.children[child].join(&group, slot::GROUPS, abi::MEMBER_RIGHTS, 7)?;
        let memory: Untyped = lab.nursery.make(18)?;
        transfer(memory, lab.children[child].cnode.slot(abi::Cap(CHILD_FREE)))?;
        let number = PUPPETS_MAX - 1;
        let block = Block::at(number);
        block.clear();
        block.note(0).store(seed, Relaxed);
        let cpu = seed as u32 % lab.cpus;
        let task = lab
            .task(
                &Wanted { place: Place::Child(child), cpu, ..Wanted::default() },
                fuzzer,
                u64::from(number),
            )?
            .task;
        task.resume()?;
        // It completes, ends or stops itself; other tasks must not notice.
        for _ in 0..50 {
            lab.sleep(boot::facts().tsc_hz / 1000);
            if block.note(1).load(Relaxed) == FUZZED {
                break;
            }
        }
        expect!(block.note(1).load(Relaxed) > 0, "seed {seed}: the fuzzer never ran");
        call(lab, &client, &server, 1)?;
        is_call_of(&lab.run(&server, &Args::new(Op::Recv))?, &server, &client, 1)?;
        reply(lab, &server, 2)?;
        answered(lab, &client, 2)?;
        lab.reset()?;
    }
    Ok(())
}
