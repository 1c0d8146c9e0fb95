//! The kernel's hot structures, and the traits by which it uses the machine.
//!
//! Types that assembly reads are `repr(C)`. All code here is safe: the doors of [`smp::door`]
//! enforce the access rules. This table says which CPU may touch which type:
//!
//! | object | written by | read by |
//! |---|---|---|
//! | [`task::Task`] inside `hot`, [`sched_context::SchedContext`], [`reply::Reply`] | home CPU | home CPU |
//! | [`notification::Notification`] inside | home CPU; its `remote` word by any CPU, atomically | home CPU |
//! | [`slot::Slot`], group tables | holder of the object's root lock | any CPU, word 0 once |
//! | [`sched_control::SchedControl`], [`port::IoPort`] | any CPU, atomically | any CPU |
//! | [`irq::IrqHandler`] | the CPU that has claimed its slot | any CPU |
//! | [`accounts::Accounts`] | holder of an account's lock | holder of an account's lock |
//! | [`process::Process`] | the CPU that configures it, once; the CPU that destroys it | any CPU |
//! | [`memory::Untyped`]: what is carved | holder of the object's root lock | holder of the object's root lock |
//! | [`memory::VSpace`] | holder of its lock | any CPU, hardware |
//! | [`paging::Entry`] | holder of the VSpace's lock | any CPU, hardware |
//! | [`frames::FrameInfo`], [`paging::Links`] | holder of the frame's lock | holder of the frame's lock |
#![no_std]
#![forbid(unsafe_code)]

pub mod accounts;
pub mod audit;
pub mod cpu;
pub mod events;
pub mod fault_ring;
pub mod flags;
pub mod followers;
pub mod frames;
pub mod group;
pub mod header;
pub mod irq;
pub mod limits;
pub mod machine;
pub mod memory;
pub mod message;
mod methods;
pub mod notification;
pub mod objects;
pub mod paging;
pub mod pcids;
pub mod phys;
pub mod port;
pub mod process;
pub mod protection;
pub mod reply;
pub mod roots;
pub mod sched_context;
pub mod sched_control;
pub mod search;
pub mod slot;
pub mod sweep;
pub mod task;

pub use message::block;
