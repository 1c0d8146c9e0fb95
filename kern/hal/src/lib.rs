//! The hardware: boot, traps, page tables, interrupt controller, per-CPU structures, CPU start.
//!
//! The only crate beside `ipc-fast` that knows the machine. It implements the portable kernel's
//! [`Machine`](kern_base::machine::Machine) trait and calls the image back through
//! [`boot::Kernel`].
//!
//! Parts that are pure (parsing what the loader says, memory ranges, page-table walking, judging CPU
//! features and exceptions) build for the host, too, and are tested there; everything else is for the kernel target.
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
