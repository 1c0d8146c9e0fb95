//! Library of the programs that measure the kernel.
//!
//! - [`echo`]: the message that clients send and expect back;
//! - [`stats`]: minimum, median and 99th percentile of samples;
//! - [`mark`]: points that the TCG plugin sees.
#![cfg_attr(not(test), no_std)]

pub mod echo;
pub mod mark;
pub mod stats;
