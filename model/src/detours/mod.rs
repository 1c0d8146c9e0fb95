//! Small worlds in which processes look for detours: ways to a right that nobody gave.
//!
//! [`worlds`]: what two processes begin with. [`moves`]: every system call that one of them can
//! make then, with every argument. The search (`model/tests/detours`) plays all moves on the model;
//! the kernel's tests play some of them, and all that was found, on the kernel beside it.

pub mod moves;
pub mod worlds;
