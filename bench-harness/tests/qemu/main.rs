//! The harness on a real QEMU, with guests made for each test.

mod endings;
mod guest;
mod plugin;
