//! Members of groups, and their exposures: the room [`Groups`](crate::rooms::Groups).

pub(crate) mod exposures;
mod membership;
