//! Members of groups, and what is exposed there: the room [`Groups`](crate::rooms::Groups).

pub(crate) mod exposures;
mod membership;
