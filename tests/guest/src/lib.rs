//! Library of the programs that test the kernel.
//!
//! - [`board`](mod@board): memory that all tasks of a run share;
//! - [`failure`]: the reason why a run cannot continue, without a heap;
//! - [`random`]: sequences of numbers from a seed;
//! - [`run`]: a run that makes random operations until something fails;
//! - [`verdict`]: the verdicts on the tests of a table;
//! - [`watchdog`]: notices when nothing progresses.
#![cfg_attr(not(test), no_std)]

pub mod board;
pub mod failure;
pub mod random;
pub mod run;
pub mod verdict;
pub mod watchdog;
