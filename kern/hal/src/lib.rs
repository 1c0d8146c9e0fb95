//! The hardware: boot, traps, page tables, interrupt controller, per-CPU structures, CPU start.
//!
//! Only this crate and `ipc-fast` depend on the machine. This crate implements the portable
//! kernel's [`Machine`](kern_base::machine::Machine) trait and calls the image back through
//! [`boot::Kernel`].
//!
//! Pure parts (parsing the loader's information, memory ranges, page-table walking, judging CPU
//! features and exceptions) also build for the host and are tested there. The rest is for the
//! kernel target.
//!
//! # Rules
//! * The kernel runs with interrupts off, except in [`cpu::idle`].
//! * No `swapgs`: the word at the base of every kernel stack is the address of the CPU's block
//!   ([`cpu::percpu`]).
//! * Layout numbers reach the assembly only as operands.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod boot;
pub mod cpu;
pub mod dev;
pub mod layout;
pub mod mem;
pub mod trap;

#[cfg(target_os = "none")]
pub mod pc;
mod words;
