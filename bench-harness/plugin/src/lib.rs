//! QEMU TCG plugin: counts the cost of a marked operation on all CPUs together.
//!
//! It counts the instructions that each CPU executes, and the cache lines that CPUs take from each
//! other, between markers in the guest's code. The book's chapter on measuring has the markers and
//! the output. On request it records every instruction of a few operations instead, or watches a
//! whole run block by block. [`marker`], [`counts`], [`work`], [`recorder`], [`stretch`] and
//! [`watch`] are plain logic; only [`qemu`] uses QEMU's interface.
//!
//! # Concurrency
//! QEMU calls back from one thread per CPU (under icount: from one thread). All state is behind
//! one mutex, taken for each executed instruction: exactness matters here, speed does not. Watching
//! has a mutex for each CPU, taken for each executed block, by that CPU's thread.
#![deny(unsafe_code)]

mod counts;
mod marker;
#[cfg(not(test))] // a test binary has no QEMU to link against
mod qemu;
mod recorder;
#[cfg_attr(test, allow(dead_code))] // used by `qemu`
mod stretch;
#[cfg_attr(test, allow(dead_code))] // as above
mod watch;
mod work;
