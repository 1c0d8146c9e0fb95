//! Meanings of fields that are not plain numbers.

use crate::record::Word;

/// Owner of a mailbox node that is in a mailbox.
pub const IN_MAILBOX: u32 = u32::MAX;
/// Owner of a mailbox node that belongs to nobody.
pub const FREE_NODE: u32 = u32::MAX - 1;

macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// All values, in order.
            pub const ALL: &'static [$name] = &[$($name::$value,)*];
        }

        impl Default for $name {
            /// Returns the first value of the type.
            fn default() -> $name {
                $name::ALL[0]
            }
        }

        impl Word for $name {
            fn to_word(self) -> u64 {
                self as u64
            }

            fn from_word(word: u64) -> $name {
                $name::ALL.get(word as usize).copied().unwrap_or_default()
            }
        }
    };
}

values! {
    /// What a task is doing. The names are those of the kernel's own states.
    State {
        /// It is made, and not configured.
        Fresh,
        /// It may run.
        Ready,
        /// It receives.
        Recv,
        /// It receives, with a deadline.
        RecvTimed,
        /// Its call waits in the callee's queue.
        Sending,
        /// It waits for a reply.
        Await,
        /// It waits for a reply, with a deadline.
        AwaitTimed,
        /// Its message block is with another CPU.
        AwaitRemote,
        /// It waits for the bits of a Notification.
        WaitBits,
        /// It waits for another CPU, or for a grace period.
        Restart,
        /// It has faulted, and its process ends.
        Faulted,
        /// It could run, and waits for the next window of its CPU time's budget.
        Exhausted,
        /// It has ended.
        Dead,
    }
}

values! {
    /// Where a task's message block stands. The names are those of the kernel's own stages.
    Stage {
        /// At home, not in use.
        Home,
        /// Queued at the callee.
        Queued,
        /// Received; the reply is owed.
        Owed,
        /// In a mailbox, as a call.
        Out,
        /// In a mailbox, on its way back.
        Back,
        /// On its way to have a request served.
        Ask,
        /// On its way back from that.
        AskDone,
        /// Kept until what its request waits for has happened.
        Kept,
    }
}

values! {
    /// What a task asks of another CPU.
    RequestKind {
        /// Nothing.
        None,
        /// To kill a task.
        Kill,
        /// To stop a SchedContext.
        StopTime,
        /// To stop a Notification.
        StopBits,
        /// To stop a Reply.
        StopReply,
        /// To keep the request until a shootdown is over.
        Shootdown,
        /// To forget that it owns a SchedContext.
        Disown,
        /// To send a SchedContext.
        Fetch,
        /// To look for CPU time with a caller.
        Seek,
        /// To set a SchedContext.
        Configure,
        /// To tell what a SchedContext has used.
        Account,
        /// To give a task a SchedContext.
        Bind,
        /// To send a task that was not configured.
        Bring,
        /// To send a task to another CPU.
        Move,
        /// To tell what a SchedContext does.
        Watch,
        /// To tell what the CPU does.
        TellCpu,
        /// To wait for a lock: not a request, but what the wait is about.
        Lock,
        /// To run a task before its equals.
        YieldTo,
    }
}

values! {
    /// What a mailbox carries.
    MailKind {
        /// A task's message block.
        Message,
        /// A task that is to run there, with all that is bound to it.
        Arrival,
        /// A task's control bits.
        Control,
        /// A Notification's bits.
        Bits,
        /// A step of a grace period.
        Grace,
        /// A shootdown of one space.
        Shootdown,
        /// A shootdown of everything.
        ShootdownOfAll,
        /// A question whether the CPU is alive.
        Sign,
    }
}

values! {
    /// How a capability slot is used.
    SlotUse {
        /// It is empty.
        Empty,
        /// It holds a capability.
        Full,
        /// Somebody fills it.
        Claimed,
        /// Somebody has emptied it, and has not noted when.
        Emptying,
    }
}

values! {
    /// What a piece of memory is for.
    ExtentKind {
        /// An object, with its tables.
        Object,
        /// The pages of a frame.
        Frame,
        /// The page tables of a VSpace, with their links.
        Tables,
        /// The pages of an event pool.
        Pool,
        /// The memory of an Untyped.
        Untyped,
        /// The rings of the security audit.
        SecurityAudit,
    }
}
