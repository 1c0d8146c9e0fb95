//! Measures other kernels as Aurora's bench measures Aurora: on the same machine, with the same
//! clock and the same method of sampling.
//!
//! ```text
//!   command ── source     is the checkout the pinned commit?
//!      │   ├── tools      is everything there that the build needs?
//!      │   ├── build      kernel and root task
//!      │   ├── boot       QEMU, until the last report line
//!      │   └── report     report lines to rows
//!      ├── results        the result file, and comparing two of them
//!      └── page           the table in the book
//! ```

mod boot;
mod build;
pub mod command;
pub mod page;
mod report;
pub mod results;
mod settings;
mod source;
mod tools;
