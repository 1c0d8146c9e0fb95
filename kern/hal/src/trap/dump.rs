//! Exception dumps that a person can read, on COM1.

use core::fmt;

use x86_64::registers::control::Cr2;

use super::frame::KernelFrame;
use super::{FIRST_INTERRUPT, GENERAL_PROTECTION, MACHINE_CHECK, PAGE_FAULT};
use crate::cpu::machine_check;
use crate::cpu::percpu;
use crate::eprintln;
use crate::layout::{self, DIRECT_MAP, KERNEL_BASE, STACK_SIZE};
use crate::mem::{kernel, tlb};

/// Deepest backtrace that is printed.
const MAX_FRAMES: usize = 24;

/// Returns the name of an exception.
pub fn name(vector: u8) -> &'static str {
    const NAMES: &str = "divide error,debug,non-maskable interrupt,breakpoint,overflow,bound range exceeded,\
        invalid opcode,device not available,double fault,coprocessor segment overrun,invalid TSS,\
        segment not present,stack fault,general protection,page fault,reserved exception,\
        x87 floating point,alignment check,machine check,SIMD floating point,virtualization,\
        control protection";
    match vector {
        28 => "hypervisor injection",
        29 => "VMM communication",
        30 => "security",
        FIRST_INTERRUPT.. => "interrupt",
        _ => NAMES.split(',').nth(vector.into()).unwrap_or("reserved exception"),
    }
}

/// Returns the name of the CPU that runs this; before its window exists it is the one that boots.
pub fn cpu_name() -> impl fmt::Display {
    fmt::from_fn(|f| match percpu::this() {
        Some(cpu) => write!(f, "{:?} (APIC {:#x})", cpu.id, cpu.apic_id),
        None => f.write_str("the boot CPU, early"),
    })
}

/// Describes the meaning of an exception's error code.
fn cause(vector: u8, error: u64) -> impl fmt::Display {
    // The name of the first bits that are all set.
    let first = move |names: &[(u64, &'static str)]| {
        names.iter().find(|(bits, _)| error & bits == *bits).map_or("", |(_, name)| *name)
    };
    fmt::from_fn(move |f| match vector {
        PAGE_FAULT => {
            let who = first(&[(1 << 2, "user"), (0, "kernel")]);
            let what = first(&[(1 << 4, "execute"), (1 << 1, "write"), (0, "read")]);
            let in_table = (1 << 3, "reserved bit set in a page table");
            let why = first(&[in_table, (1 << 5, "protection key"), (1, "not allowed"), (0, "not mapped")]);
            write!(f, ": {who} {what}, {why}")
        }
        10..=GENERAL_PROTECTION if error == 0 => f.write_str(": no selector"),
        10..=GENERAL_PROTECTION => {
            let table = first(&[(1 << 1, "IDT"), (1 << 2, "LDT"), (0, "GDT")]);
            write!(f, ": {table} entry {:#x}", error >> 3 & 0x1fff)
        }
        _ => Ok(()),
    })
}

/// Names the part of the kernel's address map that an address is in.
fn place(address: u64) -> &'static str {
    match address {
        0..layout::PAGE => "null page",
        layout::PAGE..layout::USER_END => "user half",
        DIRECT_MAP..0xffff_c000_0000_0000 => "direct map",
        KERNEL_BASE..layout::CPU_WINDOWS => "kernel image",
        layout::CPU_WINDOWS..layout::DEVICE_WINDOW if kernel::is_stack_guard(address) => {
            "stack guard: kernel stack overflow"
        }
        layout::CPU_WINDOWS..layout::DEVICE_WINDOW => "per-CPU window",
        layout::DEVICE_WINDOW..layout::ENTRY_SLOTS => "device window",
        layout::ENTRY_SLOTS.. => "entry slots",
        _ => "nowhere",
    }
}

/// Prints everything about an exception in kernel mode.
pub fn exception(frame: &KernelFrame) {
    let vector = frame.vector as u8;
    eprintln!("\naurora: kernel exception on {}: {} (vector {vector})", cpu_name(), name(vector));
    eprintln!("  error {:#x}{}", frame.error, cause(vector, frame.error));
    if vector == MACHINE_CHECK {
        machine_check::print();
    }
    let cr2 = Cr2::read_raw();
    eprintln!("  cr2 {cr2:#018x} ({})", place(cr2));
    eprintln!("  rip {:#018x} ({})  cs {:#x}", frame.rip, place(frame.rip), frame.cs);
    eprintln!(
        "  rsp {:#018x} ({})  ss {:#x}  rflags {:#x}",
        frame.rsp,
        place(frame.rsp),
        frame.ss,
        frame.rflags
    );
    let f = frame;
    for line in [
        [("rax", f.rax), ("rbx", f.rbx), ("rcx", f.rcx), ("rdx", f.rdx)],
        [("rsi", f.rsi), ("rdi", f.rdi), ("rbp", f.rbp), ("r8 ", f.r8)],
        [("r9 ", f.r9), ("r10", f.r10), ("r11", f.r11), ("r12", f.r12)],
        [("r13", f.r13), ("r14", f.r14), ("r15", f.r15), ("cr3", tlb::current())],
    ] {
        let [a, b, c, d] = line;
        eprintln!("  {} {:016x}  {} {:016x}  {} {:016x}  {} {:016x}", a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1);
    }
    backtrace(f.rip, f.rbp);
}

/// Prints the calls that led to `rip`, following saved frame pointers while they make sense.
pub fn backtrace(rip: u64, rbp: u64) {
    eprintln!("  backtrace (look the addresses up in the kernel's ELF file):");
    eprintln!("    {rip:#018x}");
    let mut rbp = rbp;
    for _ in 0..MAX_FRAMES {
        let Some((next, back)) = caller_of(rbp) else {
            break;
        };
        eprintln!("    {back:#018x}");
        // Frames lie above one another on one stack.
        if next <= rbp {
            break;
        }
        rbp = next;
    }
}

/// Prints a backtrace of the caller.
#[inline(never)]
pub fn backtrace_here() {
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    if let Some((next, rip)) = caller_of(rbp) {
        backtrace(rip, next);
    }
}

/// Returns saved frame pointer and return address at `rbp`, if that is on a kernel stack.
fn caller_of(rbp: u64) -> Option<(u64, u64)> {
    let last_word = STACK_SIZE - 16;
    let on_stack = rbp.is_multiple_of(8)
        && rbp & (STACK_SIZE - 1) <= last_word
        && (layout::CPU_WINDOWS..layout::DEVICE_WINDOW).contains(&rbp)
        && kernel::is_mapped(rbp);
    if !on_stack {
        return None;
    }
    // SAFETY: the check above: two mapped, aligned words on a kernel stack. The tables that it
    // reads are the kernel's own, which only grow.
    let (next, back) = unsafe { ((rbp as *const u64).read(), (rbp as *const u64).add(1).read()) };
    (KERNEL_BASE..layout::CPU_WINDOWS).contains(&back).then_some((next, back))
}
