//! The rooms of the kernel: each is a context of its own, two words as [`Cx`] is, and what is done in it are its methods.
//!
//! A room's context leads to the rooms below it and to no other. So the receiver of a function says which parts of the kernel it
//! may touch, and nothing calls back up. From below to above:
//!
//! | room | what is done there |
//! |---|---|
//! | [`Outbox`] | messages, requests and control bits are sent to other CPUs |
//! | [`Time`] | who runs, and on whose time |
//! | [`Caps`] | capabilities, their slots and tables; labels, the audit |
//! | [`Mem`] | address spaces, pools of pages, shootdowns |
//! | [`Ipc`] | calls, replies, faults, events, notifications, and what messages carry |
//! | [`Life`] | objects are made and end: retype, groups, tasks, kill, reclaim |
//! | [`Door`] | the ways in: system calls, interrupts, mail |

use core::ops::Deref;

use kern_base::machine::Machine;

use crate::Cx;

/// Defines a room by those below it.
macro_rules! room {
    ($(#[$doc:meta])* $room:ident: $($name:ident $below:ident)*) => {
        $(#[$doc])*
        pub struct $room<'k, M: Machine>(Cx<'k, M>);

        impl<M: Machine> Clone for $room<'_, M> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<M: Machine> Copy for $room<'_, M> {}

        impl<'k, M: Machine> Deref for $room<'k, M> {
            type Target = Cx<'k, M>;
            #[inline(always)]
            fn deref(&self) -> &Cx<'k, M> {
                &self.0
            }
        }

        impl<'k, M: Machine> $room<'k, M> {
            /// Enters the room.
            #[inline(always)]
            pub fn of(cx: Cx<'k, M>) -> Self {
                $room(cx)
            }
            $(
                #[inline(always)]
                pub fn $name(self) -> $below<'k, M> {
                    $below(self.0)
                }
            )*
        }
    };
}

room! {
    /// Sending to other CPUs.
    Outbox:
}
room! {
    /// CPU time.
    Time: outbox Outbox
}
room! {
    /// Capabilities.
    Caps: outbox Outbox time Time
}
room! {
    /// Memory.
    Mem: outbox Outbox time Time caps Caps
}
room! {
    /// Messages.
    Ipc: outbox Outbox time Time caps Caps mem Mem
}
room! {
    /// The life of objects.
    Life: outbox Outbox time Time caps Caps mem Mem ipc Ipc
}
room! {
    /// Entries.
    Door: outbox Outbox time Time caps Caps mem Mem ipc Ipc life Life
}
