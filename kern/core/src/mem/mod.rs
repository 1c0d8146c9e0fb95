//! Address spaces, pools of pages, shootdowns: the room [`Mem`](crate::rooms::Mem).

pub mod forget;
pub mod spaces;
