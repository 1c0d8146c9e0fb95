//! The plain records of which a snapshot of the kernel's state consists.
//!
//! The kernel writes these records (`kern_dump::survey`), the crate `invariants` judges them.
//! Records have no kernel types: a reference is the address of what it names, or 0. So an invalid
//! reference can be recorded, too.
//!
//! # Addresses
//! All addresses are physical, whether they name objects, pages or page-table entries.
//!
//! # Text
//! A record can travel as a line of text ([`text`]): its name, then its fields as hexadecimal
//! numbers, in the order that an earlier line gives. The writer needs no memory.
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[macro_use]
mod record;
mod cpus;
mod memory;
mod objects;
mod tasks;
pub mod text;
mod values;

pub use cpus::{Class, Cpu, Hardware, Heap, Mail, Seen, Translation};
pub use memory::{Device, Entry, Extent, Frame, Info, Range, Table, Untyped, VSpace};
pub use objects::{
    CNode, Control, Exposure, Group, Irq, Kernel, LabelRule, Line, Machine, Member, Notification, Pool, Port,
    Process, Reply, Root, Route, Slot, TaskNumber,
};
pub use record::{Object, Record, Sink, Word};
pub use tasks::{Call, Context, Registers, Task};
pub use values::{ExtentKind, FREE_NODE, IN_MAILBOX, MailKind, RequestKind, SlotUse, Stage, State};
