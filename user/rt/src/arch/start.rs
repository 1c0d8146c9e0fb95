//! The entry point of every task of a program.
//!
//! The maker of a task passes these values, in the order of a C function's arguments: the address
//! of the UTCB (rdi); what to run (rsi: 0 for the program's main function, else the address of an
//! [`Entry`](crate::spawn::Entry) in the same image). Then the argument (rdx), the slot of the
//! task's own capability (rcx; 0 for [`slot::TASK`]), and the lowest address of its stack (r8). The
//! kernel, which makes process 1's first task, passes zeros.

use core::arch::naked_asm;

use abi::Cap;

use crate::layout::slot;
use crate::{invoke, utcb};

unsafe extern "C" {
    /// Runs the program's main function. [`program!`](crate::program) defines this symbol.
    fn aurora_main(argument: u64) -> !;
}

unsafe extern "Rust" {
    /// Made by [`program!`](crate::program); immutable.
    safe static AURORA_PROGRAM: &'static str;
}

/// Returns the name of the program's file.
pub fn program_name() -> &'static str {
    AURORA_PROGRAM
}

/// Starts every task: its first instruction is here.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text._start")]
pub extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "and rsp, -16", "call {begin}", "ud2", begin = sym begin)
}

extern "C" fn begin(utcb_address: u64, entry: u64, argument: u64, own: u64, stack_low: u64) -> ! {
    if super::fs_base() != utcb_address {
        // Only process 1's first task comes here without: the kernel made it. Should the kernel
        // refuse, the first use of the UTCB faults, which names this place.
        let _ = invoke::set_bases(utcb_address, 0);
    }
    let own = if own == 0 { slot::TASK } else { Cap(own as u32) };
    utcb::current().set_local(utcb::Local::OwnTask, u64::from(own.0));
    utcb::current().set_local(utcb::Local::StackLow, stack_low);
    if entry == 0 {
        // SAFETY: the program defines it with this signature, by `program!`.
        unsafe { aurora_main(argument) }
    }
    // SAFETY: the maker of this task took the address from an `Entry` of this very image
    // (`spawn::TaskSpec` asks for one), and images are loaded where they are linked.
    let entry = unsafe { core::mem::transmute::<u64, crate::spawn::Entry>(entry) };
    entry(argument)
}
