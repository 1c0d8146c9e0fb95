//! What the programs that test the kernel have in common.
//!
//! - [`failure`]: why a run cannot go on;
//! - [`random`]: sequences of numbers from a seed;
//! - [`run`]: a run that does random operations until something is wrong;
//! - [`watchdog`]: notices when nothing moves any more.
#![cfg_attr(not(test), no_std)]

pub mod failure;
pub mod random;
pub mod run;
pub mod watchdog;
