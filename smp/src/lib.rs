//! Multiprocessor foundations: the only safe doors from code to raw kernel memory,
//! and the lock-free protocols by which CPUs communicate.
//!
//! * [`cpu`]: CPU numbers and [`Pin`](cpu::Pin), the proof of running on one CPU within one kernel
//!   entry.
//! * [`door`]: [`Ref`](door::Ref), [`Link`](door::Link), [`Homed`](door::Homed),
//!   [`ObjWord`](door::ObjWord), [`Region`](door::Region): how safe code holds, stores and makes
//!   kernel objects.
//! * [`cpuset`]: sets of CPUs.
//! * [`percpu`]: the CPU blocks, kernel entries that know their CPU's block, and what the protocols
//!   need to know of a kernel.
//! * [`mailbox`]: the intrusive multi-producer queue that each CPU owns, with its wake rule.
//! * [`coalesced`]: bits that any CPU may raise and one message announces.
//! * [`quiesce`]: grace periods, after which no CPU holds a reference it loaded earlier.
//! * [`events`]: how events enter a pool from any CPU.
//! * [`shootdown`]: how a CPU makes others flush translations.
//! * [`entries`]: entries of a table that live as long as they have users.
//! * [`residents`]: how many tasks a CPU has, and whether it takes more.
//! * [`lock`]: locks for state that several CPUs change.
//! * [`standstill`]: how one CPU stops all others, in test builds.
//! * [`sync`]: atomics and named fences; the only module that knows loom from the machine.
//! * [`chaos`], [`planted`]: perturbed runs and planted bugs, absent from normal builds.
//!
//! `sched`, `kern/base` and `kern/core`, which stand on this crate, are safe code. Each door
//! documents why that is sound.
#![no_std]
#![cfg_attr(test, allow(clippy::undocumented_unsafe_blocks))]

#[cfg(any(test, loom, feature = "host-test"))]
extern crate std;

pub mod chaos;
pub mod coalesced;
pub mod cpu;
pub mod cpuset;
pub mod door;
pub mod entries;
pub mod events;
#[cfg(any(test, loom, feature = "host-test"))]
pub mod host_test;
pub mod lock;
pub mod mailbox;
pub mod percpu;
pub mod planted;
pub mod quiesce;
pub mod residents;
pub mod ring;
pub mod shootdown;
pub mod standstill;
pub mod sync;
pub mod trace;
