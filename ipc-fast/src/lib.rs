//! System call entry, and the assembly fastpaths: call and reply_recv; notify, wait and yield_to;
//! send.
//!
//! # Entry
//! Each CPU's LSTAR points to a slot of its own that loads r15 with the CPU's block and jumps to
//! `syscall_entry` (`entry.s`): no `swapgs`, no scratch register, no memory access. All
//! callee-saved registers are free: the ABI makes them zero on return, so a stub saves the
//! registers that it needs.
//!
//! The slow path saves the message registers in the current task's frame, switches to the CPU's
//! stack and calls the operation's handler through a table. When it comes back to the same task, it
//! leaves by SYSRET; otherwise the next task's context is loaded, which may mean idling first.
//!
//! # Fastpaths
//! They serve the common case of their operation, and leave every other case to Rust with nothing
//! changed. A kernel without the feature `fastpath` never enters them. It does all work in Rust and
//! reaches an equal exportable state: the differential test compares the two.
//!
//! The table shows what they cost besides plain instructions. The slow path needs all of these,
//! too:
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
//! # Why no interrupt can see a half-entered kernel
//! FMASK switches interrupts off at SYSCALL. NMI, #MC and #DF have stacks of their own, and so has
//! #DB, which can come only from a MOV SS that shadowed it until here.
#![no_std]

#[cfg(target_os = "none")]
pub mod entry;
#[cfg(target_os = "none")]
pub mod fast;
