//! The harness on a real QEMU, with guests made for each test.

mod campaign;
mod endings;
mod flow;
mod guest;
mod plugin;
