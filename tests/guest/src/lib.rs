//! What the programs that test the kernel have in common.
//!
//! - [`board`](mod@board): memory that all tasks of a run share;
//! - [`failure`]: why a run cannot go on, without a heap;
//! - [`random`]: sequences of numbers from a seed;
//! - [`run`]: a run that does random operations until something is wrong;
//! - [`verdict`]: what becomes of the tests of a table;
//! - [`watchdog`]: notices when nothing moves any more.
#![cfg_attr(not(test), no_std)]

pub mod board;
pub mod failure;
pub mod random;
pub mod run;
pub mod verdict;
pub mod watchdog;
