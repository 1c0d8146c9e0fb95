//! The rooms of the kernel. A room is a group of modules with a context type of its own: two words,
//! like [`Cx`], whose methods are the room's functions.
//!
//! A room's context gives access only to the rooms below it. So the type of a method's receiver
//! shows which parts of the kernel the method may use, and no room calls a room above it. These are
//! the rooms, from the lowest to the highest:
//!
//! | room | what is done there |
//! |---|---|
//! | [`Outbox`] | messages, requests and control bits are sent to other CPUs |
//! | [`Time`] | which task runs, and on whose CPU time |
//! | [`Security`] | security labels, and the records of the audit |
//! | [`Caps`] | capabilities, their slots and tables |
//! | [`Tlb`] | TLB shootdowns, and tasks that wait for them |
//! | [`Tables`] | page tables, and the lists of entries that map a page |
//! | [`Mem`] | pages are mapped, unmapped, shared and moved |
//! | [`Payload`] | what messages carry beside words: pages and capabilities |
//! | [`Ipc`] | calls, replies and faults |
//! | [`Events`] | events, broadcasts and notifications |
//! | [`Grace`] | tasks wait for grace periods |
//! | [`Groups`] | members of groups, and what is exposed there |
//! | [`Life`] | objects end: delete, revoke, reset, kill; tasks stop, move and continue |
//! | [`Make`] | objects are made and configured: retype, processes, tasks, CPU time, devices |
//! | [`Door`] | entries into the kernel: system calls, interrupts, mail |
//!
//! [`Trace`] is not part of this order: every context gives access to it.

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
            /// Makes this group of the kernel's functions available on a context.
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
