//! What a message from another CPU may overtake, where better mail is served first, and which mail
//! is much work.
//!
//! Some mail must come after what was pushed before it:
//! * A task that arrives must come before mail about it, and before mail about what moves with it.
//!   So nothing overtakes it ([`Order::Barrier`]).
//! * A question of a grace round waits until all mail has been served that was pushed before it.
//! * RECALL, TIME and UNLEND follow a task's message block, which may be here already.
//! * A request may name an object that comes in a message block before it.
//! * Calls and events that follow their receivers take turns with questions of grace rounds
//!   ([`crate::life::followers`]).
//!
//! All other mail is about objects that are here, or is forwarded. Shootdowns overtake everything:
//! what they do is less than to set them aside and to come to them again.

use abi::FLAG_PAGES;
use kern_base::block::Parcel;
use kern_base::cpu::Mail;
use kern_base::machine::Machine;
use kern_base::task::{Stage, ctl};
use smp::mailbox::Order;

use crate::rooms::Door;

/// Control bits that follow a task's message block.
const FOLLOWING: u64 = ctl::RECALL | ctl::TIME | ctl::UNLEND;

impl<M: Machine> Door<'_, M> {
    /// Returns whether a message lets pages in: its own, those of a sender that waits for room, or
    /// those of a call that waits to be received. That may be the work of a whole entry.
    pub fn has_pages(self, mail: &Mail) -> bool {
        match mail {
            Mail::Message(parcel) => parcel.message(self.pin()).is_some_and(|msg| {
                matches!(msg.stage(), Stage::Out | Stage::Back) && msg.info().has(FLAG_PAGES)
            }),
            Mail::Control(task) => {
                let task = task.get(self.pin());
                let bits = task.get().ctl.glance();
                bits & (ctl::ROOM | ctl::RECEIVE) != 0
                    && self.open(task).is_some_and(|task| {
                        bits & ctl::ROOM != 0 && self.events().poster_sends_pages(task)
                            || bits & ctl::RECEIVE != 0 && self.ipc().next_call_has_pages(task)
                    })
            }
            _ => false,
        }
    }

    /// Returns what a message in this CPU's mailbox may overtake.
    pub fn order_of(self, mail: &Mail) -> Order {
        match mail {
            Mail::Arrival(_) => Order::Barrier,
            Mail::Grace(_) => Order::Behind,
            Mail::Shoot(_) | Mail::ShootAll(_) => Order::Always,
            Mail::Bits(_) | Mail::Sign => Order::ByRank,
            Mail::Control(task) if task.get(self.pin()).get().ctl.glance() & FOLLOWING == 0 => Order::ByRank,
            Mail::Control(_) => Order::Behind,
            Mail::Message(parcel) if self.is_request(parcel) || self.is_follower(parcel) => Order::Behind,
            Mail::Message(_) => Order::ByRank,
        }
    }

    fn is_request(self, parcel: &Parcel) -> bool {
        parcel.message(self.pin()).is_some_and(|msg| msg.stage() == Stage::Ask)
    }

    /// Returns whether a message has come through this CPU's own mailbox to follow its receiver.
    fn is_follower(self, parcel: &Parcel) -> bool {
        self.sched.followers.sent(self.pin()).is_some_and(|task| task.addr() == parcel.addr())
    }
}
