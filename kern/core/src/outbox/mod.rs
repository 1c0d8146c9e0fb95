//! Sending to other CPUs: the room [`Outbox`](crate::rooms::Outbox).

pub mod mail;
