//! Small worlds in which processes look for detours: sequences of operations by which a process
//! gets a right that no process gave it.
//!
//! [`worlds`]: the initial states of two processes. [`moves`]: every system call that one of them
//! can make, with all arguments. The search (`model/tests/detours`) plays all moves on the model.
//! The kernel's tests play some of them, and the moves to all findings, on the kernel and the
//! model.

pub mod moves;
pub mod worlds;
