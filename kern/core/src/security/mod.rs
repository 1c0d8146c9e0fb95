//! Security labels, and the records of the audit: the room [`Security`](crate::rooms::Security).

pub mod labels;
pub mod records;
