//! Runtime of Aurora's user programs: entry, system call stubs, typed capabilities, messages, UTCB,
//! heap, panic and logging, and creation of tasks and processes.
//!
//! ```text
//!   spawn    processes and tasks out of Untyped         elf       what an image asks for
//!   stack    stacks that grow, stacks in pieces         fault     faults of other tasks
//!   ipc      calls, replies, forwards                   cap       handles, one type per object
//!   log      defmt frames, report lines                 slots     free places in a CSpace
//!   paging   pagers, their stores and policies          archive   the boot archive
//!   events   event pools, and sending to them           grants    messages with capabilities
//!   pages    messages with pages                       parcel    bytes, copied or with their pages
//!   talk     messages that describe themselves
//!   views    device memory that is lent                 boot      facts that it was started with
//!   devices  interrupts and I/O ports
//!   names    connections by name                       console  a line to a person
//!   journal  lines for the system's log
//!   locks    locks that processes share
//!     │                                                   │
//!   utcb     this task's page                           arch      SYSCALL, time stamps, entry
//! ```
//!
//! # Where unsafe lives
//! Only in `arch`, `utcb` and `heap`. A system call counts as safe, like a write to
//! `/proc/self/mem` through a file. What a program does to itself with its own capabilities (for
//! example unmapping its own text) is outside the scope of Rust's types, and the kernel protects
//! all other programs. The runtime itself hands out references only to memory that it mapped, and
//! unmaps only memory without references.
//!
//! # Tasks of one program
//! Every task has its UTCB's address as FS base. By this address the runtime knows in which task it
//! runs. The runtime has no other state per task, and only the heap takes a lock.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub extern crate abi;
pub extern crate protocols;

#[allow(unsafe_code)]
pub mod arch;
pub mod archive;
pub mod audit;
pub mod boot;
pub mod cap;
pub mod cmdline;
pub mod console;
pub mod devices;
pub mod elf;
mod error;
pub mod events;
pub mod fault;
pub mod grants;
#[allow(unsafe_code)]
pub mod heap;
pub mod holdings;
pub mod invoke;
pub mod ipc;
pub mod journal;
pub mod labels;
pub mod layout;
pub mod locks;
pub mod log;
pub mod names;
pub mod pages;
pub mod paging;
#[cfg(target_os = "none")]
mod panic;
pub mod parcel;
pub mod slots;
pub mod spawn;
pub mod stack;
pub mod supervisor;
pub mod talk;
pub mod turn;
#[allow(unsafe_code)]
pub mod utcb;
pub mod views;
pub mod watch;

pub use error::{Refusal, Result};

/// Names the function that a program begins with: `fn begin(argument: u64) -> !` (by any name but
/// `main`).
///
/// Built for the host, the program only says where it belongs, so that host builds of the whole
/// workspace check every line of it.
#[macro_export]
macro_rules! program {
    ($begin:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        static AURORA_PROGRAM: &str = env!("CARGO_BIN_NAME");

        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        extern "C" fn aurora_main(argument: u64) -> ! {
            let begin: fn(u64) -> ! = $begin;
            begin(argument)
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn(u64) -> ! = $begin;
            eprintln!("this program runs on Aurora: boot it with `./justw run`");
            std::process::exit(2);
        }
    };
}
