//! Capabilities, their slots and tables, labels and the audit: the room [`Caps`](crate::rooms::Caps).

pub mod audit;
pub mod found;
pub mod growth;
pub mod holdings;
pub mod labels;
pub mod slots;
