//! What the programs that measure the kernel have in common.
//!
//! - [`echo`]: the message that comes back;
//! - [`stats`]: samples to minimum, median and 99th percentile;
//! - [`mark`]: points that the TCG plugin sees.
#![cfg_attr(not(test), no_std)]

pub mod echo;
pub mod mark;
pub mod stats;
