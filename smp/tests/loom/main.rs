//! loom explores the protocols of `smp` in every order that the memory model allows, within bounds.
//!
//! All models are one program, so that what they share is compiled once.
#![cfg(loom)]

mod common;
mod loom_bits;
mod loom_claim;
mod loom_entries;
mod loom_events;
mod loom_home;
mod loom_lock;
mod loom_move;
mod loom_quiesce;
mod loom_recall;
mod loom_residents;
mod loom_ring;
mod loom_shootdown;
mod loom_standstill;
mod loom_timeout;
mod loom_wake;
