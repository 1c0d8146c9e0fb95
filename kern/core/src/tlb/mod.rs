//! TLB shootdowns, and what waits for them: the room [`Tlb`](crate::rooms::Tlb).

pub mod mark;
pub mod shootdown;
pub mod stale;
