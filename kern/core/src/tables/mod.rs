//! Page tables, and the entries that map each page: the room [`Tables`](crate::rooms::Tables).

pub mod rmap;
pub mod walk;
