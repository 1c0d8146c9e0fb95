//! Test builds: the boot option `off=NAMES` leaves protections off ([`kern_base::protection`]), to see that it is they
//! that stop what they stop; `fault=KIND` makes the kernel fault on purpose, to see what it says.
//!
//! | kind | what happens |
//! |---|---|
//! | `null`, `text`, `direct`, `constant`, `data`, `address` | a read of page 0; writes to text, to text in the direct map, to a constant; a jump to data; a non-canonical access |
//! | `opcode`, `divide`, `vector` | an undefined instruction, a division by 0, a vector instruction |
//! | `stack` | endless recursion into the guard |
//! | `panic` | a panic |
//! | `nmi` | an NMI to this CPU, after which it goes on |
//! | `other` | the last CPU executes an undefined instruction |
//! | `silent` | the second CPU is not started, so it does not come up |

use core::arch::asm;
use core::hint::black_box;

use kern_base::protection::Protection;
use smp::cpu::CpuId;

use super::info::{self, BootInfo};
use crate::cpu::percpu;
use crate::dev::lapic;
use crate::layout::DIRECT_MAP;
use crate::mem::kernel;
use crate::println;

static CONSTANT: u64 = 1;

/// Before page tables are built and control registers written.
pub fn leave_protections_off(boot_info: &BootInfo) {
    let Some(names) = info::option(boot_info.command_line(), "off") else { return };
    println!("aurora: test: off={names}");
    if !Protection::leave_off(names) {
        println!("aurora: test: off= names something that is no protection");
    }
}

/// Whether the option asks for `kind`.
pub fn is(kind: &str) -> bool {
    super::command_line().and_then(|line| info::option(line, "fault")) == Some(kind)
}

/// Faults as the option says, on the boot CPU at the end of the boot.
pub fn run_on_boot_cpu() {
    let text = run_on_boot_cpu as *const () as u64;
    let Some(kind) = super::command_line().and_then(|line| info::option(line, "fault")) else {
        return;
    };
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
        "other" | "silent" => (),
        _ => println!("aurora: test: no such fault"),
    }
}

/// The part of the last CPU, once it has been released.
pub fn run_on_other_cpu(cpu: CpuId) {
    if is("other") && cpu.index() + 1 == percpu::count() {
        undefined_instruction();
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
