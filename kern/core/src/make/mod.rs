//! Objects are made and configured: the room [`Make`](crate::rooms::Make).

pub mod cpus;
pub mod devices;
pub mod irqs;
pub mod ports;
pub mod recipe;
pub mod retype;
pub mod tasks;
pub mod time;
pub mod vector;
pub mod watch;
