//! Test builds: the boot option `off=NAMES` leaves protections off ([`kern_base::protection`]), to
//! prove that these protections stop the tests' attempts. `fault=KIND` makes the kernel fault on
//! purpose, to test its report.
//!
//! | kind | what happens |
//! |---|---|
//! | `null`, `text`, `direct`, `constant`, `data`, `address` | a read of page 0; writes to text, to text in the direct map, to a constant; a jump to data; a non-canonical access |
//! | `opcode`, `divide`, `vector` | an undefined instruction, a division by 0, a vector instruction |
//! | `stack` | endless recursion into the guard |
//! | `panic` | a panic |
//! | `nmi` | an NMI to this CPU, after which it continues |
//! | `other` | the CPU with the highest number executes an undefined instruction |
//! | `log-nmi` | an NMI, whose handler logs, while this CPU writes a record |
//! | `log-panic`, `log-fault`, `log-double` | a panic, a fault, a double fault in the middle of a record |
//! | `log-cut` | a panic when half of a record has been sent |
//! | `log-storm` | all other CPUs log at the same time, and NMIs come in between |
//! | `silent` | the boot CPU does not start the second CPU, which therefore does not answer |

use core::arch::asm;
use core::hint::black_box;
use core::sync::atomic::Ordering::Relaxed;

use kern_base::protection::Protection;
use smp::cpu::CpuId;

use super::option;
use crate::cpu::percpu;
use crate::dev::{lapic, logport};
use crate::layout::DIRECT_MAP;
use crate::mem::kernel;
use crate::println;

static CONSTANT: u64 = 1;
/// What a CPU logs in a storm, and after how many records another one has an NMI.
const STORM_RECORDS: u32 = 200;
const STORM_NMIS: u32 = 20;
/// A text that takes several writes to send.
const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// Switches off the protections that the command line names. Called before page tables are built
/// and control registers are written.
pub fn leave_protections_off() {
    let Some(names) = option("off") else { return };
    println!("aurora: test: off={names}");
    if !Protection::leave_off(names) {
        println!("aurora: test: off= names something that is no protection");
    }
}

/// Returns whether the boot option for faults asks for this kind of fault.
pub fn is(wanted: &str) -> bool {
    option("fault") == Some(wanted)
}

/// Causes the fault that the boot option names, on the boot CPU at the end of the boot.
pub fn run_on_boot_cpu() {
    let text = run_on_boot_cpu as *const () as u64;
    let Some(kind) = option("fault") else { return };
    println!("aurora: test: fault={kind}");
    match kind {
        "null" => read(0x10),
        "address" => read(0x8000_0000_0000_0000),
        "text" => write(text),
        "direct" => write(DIRECT_MAP + kernel::image_address(text as *const u8)),
        "constant" => write(&raw const CONSTANT as u64),
        // SAFETY: faults; the handler ends the run.
        "data" => unsafe { asm!("jmp {}", in(reg) DIRECT_MAP) },
        "opcode" => undefined_instruction(),
        // SAFETY: faults; the handler ends the run.
        "divide" => unsafe { asm!("div {0:e}", in(reg) 0, out("eax") _, out("edx") _) },
        // SAFETY: faults, CR0.TS being set; the handler ends the run.
        "vector" => unsafe { asm!("movd xmm0, eax") },
        "stack" => println!("{}", recurse(1)),
        "panic" => panic!("asked for by fault=panic"),
        "nmi" => {
            lapic::send_nmi(lapic::id());
            println!("aurora: test: still here");
        }
        "log-nmi" => log_midway(|| interrupt(CpuId::BOOT)),
        "log-panic" => log_midway(|| panic!("asked for by fault=log-panic")),
        "log-fault" => log_midway(|| read(0x10)),
        // SAFETY: faults without a stack; the handler ends the run.
        "log-double" => log_midway(|| unsafe { asm!("mov rsp, 8", "push rax", options(noreturn)) }),
        "log-cut" => {
            logport::cut_next();
            defmt::info!("a record that is cut {=str}", LONG);
        }
        "other" | "silent" | "log-storm" => (),
        _ => println!("aurora: test: no such fault"),
    }
}

/// Causes the fault that the boot option names for the last CPU, once that CPU has been released.
pub fn run_on_other_cpu(cpu: CpuId) {
    if is("other") && cpu.index() + 1 == percpu::count() {
        undefined_instruction();
    }
    if is("log-storm") {
        storm(cpu);
    }
}

/// Logs a record, and calls `happens` when the record is half made.
fn log_midway(happens: fn()) {
    defmt::info!("a record {} of two halves", Midway(happens));
    println!("aurora: test: still here");
}

struct Midway(fn());

impl defmt::Format for Midway {
    fn format(&self, f: defmt::Formatter<'_>) {
        (self.0)();
        defmt::write!(f, "in the middle");
    }
}

/// Sends an NMI to a CPU, and waits until the CPU has taken it.
fn interrupt(cpu: CpuId) {
    let Some(cpu) = percpu::of(cpu) else { return };
    let before = cpu.nmis.load(Relaxed);
    lapic::send_nmi(cpu.apic_id);
    while cpu.nmis.load(Relaxed) == before {
        core::hint::spin_loop();
    }
}

/// Logs as fast as it can; every few records, the next CPU but the boot CPU has an NMI.
fn storm(cpu: CpuId) {
    let next = CpuId::new(cpu.index() + 1).filter(|next| next.index() < percpu::count());
    for number in 0..STORM_RECORDS {
        if number % STORM_NMIS == 0
            && let Some(next) = next
        {
            interrupt(next);
        }
        crate::info!("storm {} {}", number, LONG);
    }
}

fn read(address: u64) {
    // SAFETY: faults; the handler ends the run.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _) }
}

fn write(address: u64) {
    // SAFETY: faults; the handler ends the run.
    unsafe { asm!("mov qword ptr [{0}], 0", in(reg) address) }
}

fn undefined_instruction() {
    // SAFETY: faults; the handler ends the run.
    unsafe { asm!("ud2") }
}

#[inline(never)]
#[expect(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 32]);
    recurse(black_box(depth + 1)) + room[3]
}
