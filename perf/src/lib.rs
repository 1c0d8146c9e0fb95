//! What the programs that measure and test the kernel have in common.
//!
//! - [`echo`]: the message that comes back;
//! - [`stats`]: samples to minimum, median and 99th percentile;
//! - [`failure`]: why a run cannot go on;
//! - [`mark`]: points that the TCG plugin sees;
//! - [`random`]: sequences of numbers from a seed;
//! - [`seeded`]: what programs have in common that do something random until it is wrong;
//! - [`shared`]: memory that a program shares with processes it starts;
//! - [`watchdog`]: notices when nothing moves any more.
#![cfg_attr(not(test), no_std)]

pub mod echo;
pub mod failure;
pub mod mark;
pub mod random;
pub mod seeded;
pub mod shared;
pub mod stats;
pub mod watchdog;
