//! What messages carry beside words: the room [`Payload`](crate::rooms::Payload).

pub mod carry;
pub mod grants;
pub mod pages;
