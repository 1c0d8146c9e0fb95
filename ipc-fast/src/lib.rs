//! System call entry, and the assembly fastpaths: call and reply_recv; notify, wait and yield_to;
//! send.
//!
//! # Entry
//! Each CPU's LSTAR points to a slot of its own that loads r15 with the CPU's block and jumps to
//! `syscall_entry` (`fastpath.s`): no `swapgs`, no scratch register, no memory access. All
//! callee-saved registers are free: the ABI makes them zero on return, so a stub saves the
//! registers that it needs.
//!
//! The slow path saves the message registers in the current task's frame, switches to the CPU's
//! stack and calls the operation's handler through a table. If the same task runs next, the slow
//! path leaves by SYSRET. Otherwise it idles until a task is ready, if necessary, and loads that
//! task's context.
//!
//! # Fastpaths
//! Each serves the common case of its operation, and leaves every other case to Rust, without
//! having changed anything. A kernel without the feature `fastpath` never enters them. It does all
//! work in Rust, and must reach an equal state: the differential test compares both kernels.
//!
//! The table shows the costly instructions of each fastpath. The slow path needs all of these, too:
//!
//! | operation | locked | fences | MSR writes | CR3 writes | other |
//! |---|---|---|---|---|---|
//! | null, notify | 0 | 0 | 0 | 0 | |
//! | call, reply_recv | 0 | 0 | 0 | 1 if the address space changes | WRFSBASE, WRGSBASE |
//! | … with vector state | 0 | 0 | 0 | the same | STMXCSR, XGETBV; XRSTOR unless all is initial |
//! | … with UTCB words | 0 | 0 | 0 | the same | one REP MOVSQ |
//! | send | 2 | 0 | 0 | 0 | |
//! | wait that lets another task run, yield_to | 0 | 0 | 0 | the same | WRFSBASE, WRGSBASE, one RDTSC |
//!
//! # Why no interrupt finds a half-entered kernel
//! FMASK switches interrupts off at SYSCALL. NMI, #MC, #DF and #DB have stacks of their own. A #DB
//! can arrive here only if a MOV SS before the SYSCALL delayed it.
#![no_std]

#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod fast;
