//! TLB shootdowns, and the tasks that wait for them: the room [`Tlb`](crate::rooms::Tlb).

pub mod mark;
pub mod shootdown;
pub mod stale;
