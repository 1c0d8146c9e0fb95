//! Page tables, and which entries map a page: the room [`Tables`](crate::rooms::Tables).

pub mod rmap;
pub mod walk;
