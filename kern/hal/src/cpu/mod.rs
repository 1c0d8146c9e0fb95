//! One CPU: its features, its structures, time, idling, and how the others are started.

pub mod features;
pub mod mitigations;

#[cfg(target_os = "none")]
pub mod context;
pub mod debug;
#[cfg(target_os = "none")]
pub mod enable;
#[cfg(target_os = "none")]
pub mod idle;
#[cfg(target_os = "none")]
pub mod machine_check;
#[cfg(target_os = "none")]
pub mod percpu;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod syscall;
#[cfg(target_os = "none")]
pub mod tables;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod vector;
