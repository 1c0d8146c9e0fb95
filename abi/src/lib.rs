//! The only definition of the kernel's interface: system calls, message layout, object types and
//! rights, errors, identifiers, the UTCB and the initial state of process 1.
//!
//! Kernel, runtime, programs and host tools all use this crate; none repeats a number of it.
//!
//! # Register convention
//! | register | in | out |
//! |---|---|---|
//! | rax | [`MsgInfo`]: operation, UTCB words, flags, label | [`MsgInfo`]: [`Error`] or 0, UTCB words, flags, label |
//! | rdi | first argument, or [`Target`] | exposure index of a received call, or first result |
//! | rsi | second argument (deadline of a message) | sender's [`TaskId`], or second result |
//! | rdx, r8, r9, r10 | message registers 0–3, or further arguments | message registers 0–3, or further results |
//! | r12 | – | the sender's custom bits in the group |
//! | rcx, r11 | – | used by SYSCALL and SYSRET: address and flags of the caller itself |
//!
//! Every other register is zero on return, callee-saved ones included: a stub saves what it needs.
#![no_std]
#![forbid(unsafe_code)]

pub mod audit;
mod authority;
mod boot;
mod counter;
#[macro_use]
mod define_op;
pub mod devices;
mod error;
pub mod events;
mod fault;
mod grants;
mod ids;
pub mod level;
mod locks;
pub mod membership;
mod msg;
mod named;
mod object;
mod operands;
pub mod options;
mod pages;
pub mod status;
mod syscall;
pub mod time;
mod utcb;

pub use authority::*;
pub use boot::*;
pub use counter::*;
pub use error::*;
pub use fault::*;
pub use grants::*;
pub use ids::*;
pub use level::Level;
pub use locks::*;
pub use msg::*;
pub use named::*;
pub use object::*;
pub use operands::*;
pub use pages::*;
pub use syscall::*;
pub use time::{BUDGET_MIN, PERIOD_MAX};
pub use utcb::*;
