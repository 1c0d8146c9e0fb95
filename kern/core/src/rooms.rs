//! The rooms of the kernel. Each is a context of its own, two words as [`Cx`] is, whose methods are
//! the room's functions.
//!
//! A room's context leads only to the rooms below it. So the receiver of a function says which
//! parts of the kernel the function may touch, and no room calls a room above it. From the lowest
//! to the highest:
//!
//! | room | what is done there |
//! |---|---|
//! | [`Outbox`] | messages, requests and control bits are sent to other CPUs |
//! | [`Time`] | who runs, and on whose time |
//! | [`Security`] | security labels, and the records of the audit |
//! | [`Caps`] | capabilities, their slots and tables |
//! | [`Tlb`] | TLB shootdowns, and what waits for them |
//! | [`Tables`] | page tables, and which entries map a page |
//! | [`Mem`] | pages are mapped, unmapped, shared and moved |
//! | [`Payload`] | what messages carry beside words: pages and capabilities |
//! | [`Ipc`] | calls, replies and faults |
//! | [`Events`] | events, broadcasts and notifications |
//! | [`Grace`] | tasks wait for grace periods |
//! | [`Groups`] | members of groups, and what is exposed there |
//! | [`Life`] | objects end: delete, revoke, reset, kill; tasks stop, move and go on |
//! | [`Make`] | objects are made and configured: retype, processes, tasks, CPU time, devices |
//! | [`Door`] | the ways in: system calls, interrupts, mail |
//!
//! [`Trace`] is beside them: each context leads to it.

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
    /// The trace of events, in builds that have one.
    Trace:
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
    /// Labels and the audit.
    Security: outbox Outbox time Time
}
room! {
    /// Capabilities.
    Caps: outbox Outbox time Time security Security
}
room! {
    /// TLB shootdowns.
    Tlb: outbox Outbox time Time security Security caps Caps
}
room! {
    /// Page tables.
    Tables: outbox Outbox time Time security Security caps Caps tlb Tlb
}
room! {
    /// Mappings.
    Mem: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables
}
room! {
    /// What messages carry.
    Payload: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem
}
room! {
    /// Calls, replies and faults.
    Ipc: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload
}
room! {
    /// Events and notifications.
    Events: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc
}
room! {
    /// Grace periods.
    Grace: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc events Events
}
room! {
    /// Groups.
    Groups: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc events Events grace Grace
}
room! {
    /// The end of objects.
    Life: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc events Events grace Grace groups Groups
}
room! {
    /// The making of objects.
    Make: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc events Events grace Grace groups Groups life Life
}
room! {
    /// Entries.
    Door: outbox Outbox time Time security Security caps Caps tlb Tlb tables Tables mem Mem payload Payload ipc Ipc events Events grace Grace groups Groups life Life make Make
}
