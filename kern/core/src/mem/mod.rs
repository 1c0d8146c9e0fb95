//! Pages are mapped, unmapped, shared and moved: the room [`Mem`](crate::rooms::Mem).

mod copying;
mod fastpath;
pub mod map;
pub mod pool;
pub mod transfer;
mod used;
mod word;
