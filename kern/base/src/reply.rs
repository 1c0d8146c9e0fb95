//! Reply objects: a call that a server keeps to answer later.

use core::cell::Cell;

use abi::ObjType;
use smp::cpu::CpuId;
use smp::door::{Homed, Link};

use crate::block::BlockLink;
use crate::header::{Header, RootId};
use crate::task::Task;

/// What the home CPU (the server's) owns.
#[repr(C)]
pub struct ReplyHot {
    /// The caller it holds; null when empty.
    pub caller: BlockLink,
    /// The number of that call, among all that Reply objects have held.
    pub number: Cell<u64>,
    /// The task that saved the call, whose death answers the caller.
    pub server: Link<Task>,
    /// Neighbours in the server's list.
    pub next: Link<Reply>,
    pub prev: Link<Reply>,
}

/// A Reply: made empty, filled by [`abi::Op::SaveReply`], emptied by the reply.
#[repr(C, align(64))]
pub struct Reply {
    pub header: Header,
    pub hot: Homed<ReplyHot>,
}

impl Reply {
    pub fn new(root: RootId, home: CpuId) -> Reply {
        Reply {
            header: Header::new(ObjType::Reply, root),
            hot: Homed::new(
                home,
                ReplyHot {
                    caller: BlockLink::null(),
                    number: Cell::new(0),
                    server: Link::null(),
                    next: Link::null(),
                    prev: Link::null(),
                },
            ),
        }
    }
}
