//! Security labels, and the records of the audit: the room [`Audit`](crate::rooms::Security).

pub mod labels;
pub mod records;
