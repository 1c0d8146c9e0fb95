//! Reply objects: a call that a server keeps to answer later.
//!
//! A Reply that keeps no call is unclaimed: it belongs to no CPU. The CPU of the server that keeps
//! a call in it is its home until the call is taken out. So a server can use its Reply objects on
//! any CPU to which it moves. A Reply that ends belongs to the CPU that stops it, and stays there.

use core::cell::Cell;

use abi::ObjType;
use smp::cpu::{CpuId, Pin};
use smp::door::{HasHomed, HeldOf, Homed, Link, Ref};

use crate::block::{Block, BlockLink};
use crate::header::{Header, RootId};
use crate::methods::methods;
use crate::task::{OpenTask, Task};

/// What the home CPU (the server's) owns while it keeps a call.
#[repr(C)]
#[derive(Default)]
pub struct ReplyHot {
    /// The caller it holds; null when empty.
    caller: BlockLink,
    /// The number of that call, among all that Reply objects have held.
    number: Cell<u64>,
    /// The task that saved the call, whose death answers the caller.
    server: Link<Task>,
    /// Neighbours in the server's list.
    next: Link<Reply>,
    prev: Link<Reply>,
}

methods! { ReplyHot:
    /// Returns the caller whose call the Reply object keeps.
    fn caller<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.caller.get(pin);
    /// Returns the number of the call that the Reply object keeps, or kept last.
    fn number(self) -> u64 = self.number.get();
    /// Returns the task that saved its caller's call in this Reply object.
    fn server<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Task>> = self.server.get(pin);
    /// Returns the next Reply object in the list of its server.
    fn next<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Reply>> = self.next.get(pin);
    /// Returns the Reply object before this one in the list of its server.
    fn prev<'k>(self, pin: Pin<'k>) -> Option<Ref<'k, Reply>> = self.prev.get(pin);
}

impl ReplyHot {
    /// Keeps a call, with a number, for the task `server` that serves it. `this` is the Reply
    /// object itself, which this CPU has claimed.
    pub fn keep<'k>(
        &self,
        this: Ref<'k, Reply>,
        pin: Pin<'k>,
        call: Block<'k>,
        number: u64,
        server: OpenTask<'k>,
    ) {
        let first = server.replies.get(pin);
        call.set_held(Some(this));
        self.caller.put(call);
        self.number.set(number);
        self.server.set(Some(server.object()));
        self.prev.set(None);
        self.next.set(first);
        if let Some(first) = first {
            first.get().hot.here(pin).prev.set(Some(this));
        }
        server.replies.set(Some(this));
    }
}

/// The key with which this module alone gives a Reply up.
pub struct ReplyKey(());

impl HasHomed<ReplyHot> for Reply {
    type Key = ReplyKey;

    fn homed(&self) -> &Homed<ReplyHot> {
        &self.hot
    }
}

/// A Reply: made empty, filled by [`abi::Op::SaveReply`], emptied by the reply.
#[repr(C, align(64))]
pub struct Reply {
    pub header: Header,
    pub hot: Homed<ReplyHot>,
}

impl Reply {
    pub fn new(root: RootId, home: CpuId) -> Reply {
        Reply { header: Header::new(ObjType::Reply, root), hot: Homed::unclaimed(home, ReplyHot::default()) }
    }

    /// Takes the call out of a Reply object, which is unclaimed then, and the object out of its
    /// server's list.
    pub fn release<'k>(reply: Ref<'k, Reply>, pin: Pin<'k>) -> Option<Block<'k>> {
        let hot = reply.get().hot.here(pin);
        let server = hot.server.take(pin)?;
        let (next, prev) = (hot.next.take(pin), hot.prev.take(pin));
        if let Some(next) = next {
            next.get().hot.here(pin).prev.set(prev);
        }
        match prev {
            Some(prev) => prev.get().hot.here(pin).next.set(next),
            None => server.get().hot.here(pin).replies.set(next),
        }
        let call = hot.caller.take(pin)?;
        call.set_held(None);
        HeldOf::here(reply, pin, ReplyKey(())).held().unclaim();
        Some(call)
    }
}
