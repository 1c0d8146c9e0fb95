//! The host side of Aurora: boots the machine, decodes and judges its output, and prints tables.
//!
//! ```text
//!   cli ── bench / stress / diff / suite / …           what to boot, what to make of it
//!             │
//!          session ── report, logs, screen           one boot, from start to its ending
//!             │
//!          machine, bochs ── records, tail           processes and bytes
//! ```
//!
//! No code here trusts the guest. Bytes that are not records are skipped and counted, lines that
//! are not reports are shown, and a silent guest is ended and its last words are printed.
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod baseline;
pub mod bench;
pub mod bisect;
mod bisecttest;
pub mod bochs;
pub mod campaign;
pub mod capture;
pub mod cli;
pub mod confined;
mod count;
pub mod counted;
mod deaths;
pub mod decode;
pub mod diff;
pub mod events;
mod exits;
pub mod explain;
pub mod figures;
mod files;
mod frames;
pub mod fuzz;
pub mod gdb;
pub mod gdbtest;
mod hardening;
pub mod helptexts;
pub mod host;
pub mod hostile;
pub mod iso;
mod isotest;
pub mod judge;
pub mod junit;
pub mod lab;
mod lanes;
mod lint;
pub mod logs;
pub mod logtest;
pub mod machine;
pub mod mailbox;
pub mod message;
pub mod monitor;
mod newprogram;
pub mod pack;
mod pairs;
pub mod peers;
pub mod picture;
pub mod plan;
pub mod planted;
pub mod plot;
mod policy;
pub mod probe;
pub mod protection;
pub mod records;
pub mod reference;
pub mod report;
pub mod restarts;
pub mod results;
pub mod rows;
pub mod rules;
pub mod scale;
pub mod scheduling;
pub mod screen;
pub mod seeded;
pub mod session;
mod shelltest;
pub mod shrink;
mod state;
pub mod stress;
pub mod stretches;
pub mod suite;
pub mod symptom;
pub mod systems;
pub mod table;
pub mod tail;
pub mod terminal;
pub mod testsum;
pub mod torture;
mod tracetest;
pub mod trouble;
pub mod turns;
mod tutorials;
