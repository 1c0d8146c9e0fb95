//! The system calls.

macro_rules! syscalls {
    ($($(#[doc = $doc:expr])* $name:ident = $value:literal;)*) => {
        /// Operation number, in the low byte of `rax`. The documentation of each variant is its
        /// reference: arguments by register, results, rights asked.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum Op { $($(#[doc = $doc])* $name = $value,)* }

        impl Op {
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];
            pub const COUNT: usize = Self::ALL.len();

            pub const fn from_raw(raw: u8) -> Option<Op> {
                match raw { $($value => Some(Op::$name),)* _ => None }
            }
        }
    };
}

syscalls! {
    /// Send a message and wait for the reply. rdi = [`Target`](crate::Target); rsi = deadline where
    /// [`FLAG_DEADLINE`](crate::FLAG_DEADLINE); message registers and UTCB words travel. The caller's
    /// CPU time goes with it. Right: SEND, in the capability and in the member record; STRING there for UTCB words.
    Call = 0;
    /// Reply to the current call, then receive. Message registers as the reply. A reply that finds its caller
    /// gone is dropped: the receive goes on.
    ReplyRecv = 1;
    /// Nothing: the cost of an entry.
    Null = 2;
    /// Wait for a call or for bits of the bound Notification. rsi = deadline where flagged.
    Recv = 3;
    /// Reply. rdi = 0: to the current call; else the capability of a Reply object.
    Reply = 4;
    /// Hand the current call on, with the message registers given, to another target; the reply will go
    /// to the first caller. rdi = target. Right: as Call.
    Forward = 5;
    /// Keep the current call in a Reply object, to answer later. rdi = capability of an empty Reply.
    SaveReply = 6;
    /// OR bits into a Notification. rdi = target (group and exposure) or capability of a Notification;
    /// rsi = bits. Right: NOTIFY.
    Notify = 7;
    /// Wait until a Notification has bits, take them. rdi = its capability; rsi = deadline where flagged.
    /// Result: rdx = bits. Right: LISTEN. The waiter's home must be the Notification's.
    Wait = 8;
    /// Give up the CPU to others of the same priority.
    Yield = 9;
    /// Give the rest of the slice to a ready task of this CPU. rdi = target, or capability of a Task. Right: SEND,
    /// or SCHEDULE of the Task.
    YieldTo = 10;
    /// Who am I: rdi = own task id, rsi = home CPU.
    WhoAmI = 11;
    /// Make objects. rdi = Untyped (index: type); rsi = size, whose meaning the type gives; rdx = CNode and first
    /// slot; r8 = count. Result: rdi = bytes left.
    Retype = 12;
    /// Copy a capability with fewer rights. rdi = source; rsi = CNode and slot; rdx = rights; r8 = badge
    /// (kept where the source has one). Right: GRANT of the CNode where it is not the caller's own.
    CapCopy = 13;
    /// Move a capability. rdi = source; rsi = CNode and slot.
    CapMove = 14;
    /// Empty a slot. rdi = CNode and slot. The last capability of an object destroys it.
    CapDelete = 15;
    /// Delete all that was derived from a capability. rdi = CNode and slot.
    CapRevoke = 16;
    /// Look at a slot. rdi = CNode and slot. Result: rdi = type (0: empty), rsi = rights, rdx = badge, r8 = object's
    /// address-free identity.
    CapInspect = 17;
    /// Revoke all that was made of an Untyped and start it again. rdi = Untyped.
    UntypedReset = 18;
    /// Add a process to a group. rdi = group; rsi = capability of the process; rdx = rights of the member,
    /// r8 = custom bits. Writes a group capability to the slot which the process offered. Result: rdi = member index.
    /// Right: ADD, in the member record too.
    GroupAdd = 19;
    /// Remove a member. rdi = group (index: member). Right: REMOVE.
    GroupRemove = 20;
    /// Expose a Task or Notification. rdi = group (index: exposure); rsi = its capability; rdx = 0, or
    /// `1 | first << 32` to put it as its CPU's task of a per-CPU exposure whose entries (as many as there are CPUs)
    /// start at `first`. Right: LISTEN in the group and on the object.
    Expose = 21;
    /// Take an exposure back. rdi = group (index: exposure). Right: REMOVE, or LISTEN for an own one.
    Withdraw = 22;
    /// Give a process its spaces, once. rdi = process; rsi = CNode, rdx = VSpace (capabilities), r8 = 1 for
    /// vector state. Right: CONFIGURE.
    ProcessConfigure = 23;
    /// Offer a slot for the next group membership. rdi = process; rsi = slot in its CSpace, 0 to withdraw.
    /// Right: CONFIGURE, or one's own process.
    ProcessAccept = 24;
    /// Bind a task to a process and a CPU, and map its UTCB. rdi = task; rsi = process; rdx = UTCB address; r8 = CPU.
    /// Result: rdi = the task's id. Right: REGISTERS, and CONFIGURE of the process.
    TaskConfigure = 25;
    /// Write a suspended task's registers from the UTCB's bulk words. rdi = task. Right: REGISTERS.
    TaskWriteRegs = 26;
    /// Read a suspended task's registers into the UTCB's bulk words. rdi = task. Right: REGISTERS.
    TaskReadRegs = 27;
    /// Let a suspended task run. rdi = task. Right: SUSPEND.
    TaskResume = 28;
    /// Stop a task where it is; what it waits for goes on. rdi = task. Right: SUSPEND.
    TaskSuspend = 29;
    /// End a task for good. rdi = task. Right: DESTROY.
    TaskKill = 30;
    /// End what a task waits for, with [`Error::Cancelled`](crate::Error::Cancelled). rdi = task. Right: SUSPEND.
    TaskCancel = 31;
    /// Set priority and slice. rdi = SchedContext; rsi = priority 0–255; rdx = slice in TSC ticks. Right: CONFIGURE.
    SchedConfigure = 32;
    /// Give a task CPU time of its own. rdi = SchedContext; rsi = task. Right: CONFIGURE and SCHEDULE.
    SchedBind = 33;
    /// Read a SchedContext: rdi = TSC ticks used, rsi = priority, rdx = slice. Right: OBSERVE.
    SchedInfo = 34;
    /// Bind a Notification to a task, so that Recv returns its bits. rdi = Notification; rsi = task.
    NotificationBind = 35;
    /// Map a frame. rdi = VSpace; rsi = frame; rdx = address; r8 = bit 0 write, bit 1 execute. Right: MAP of both.
    Map = 36;
    /// Unmap a frame. rdi = VSpace; rsi = frame; rdx = address. Right: MAP of both.
    Unmap = 37;
    /// Write UTCB bulk bytes as one log record. rdi = Machine; rsi = bytes; rdx = 0 for the badge's channel, or 0x80
    /// for a report line. Right: LOG.
    MachineLog = 38;
    /// End the machine. rdi = Machine; rsi = 0 for pass, 1 for fail. Right: EXIT.
    MachineExit = 39;
    /// Read a counter. rdi = Machine (index: CPU); rsi = counter number. Result: rdi = value. Right: INFO.
    MachineCounter = 40;
    /// Export kernel state to the log as text, and its hash in rdi (test builds). rdi = Machine. Right: DUMP.
    MachineDump = 41;
    /// Set the own FS and GS bases. rdi, rsi.
    SetBases = 42;
}

/// Per-CPU counters, read by [`Op::MachineCounter`].
macro_rules! counters {
    ($($(#[doc = $doc:expr])* $name:ident = $text:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $doc])* $name,)* }
        impl Counter {
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Counter::$name => $text,)* } }
        }
    };
}

counters! {
    /// Calls taken by the fastpath.
    FastCall = "fast_call";
    /// Replies taken by the fastpath.
    FastReply = "fast_reply";
    /// Calls that took the slow path because of flags or UTCB words.
    MissCallMessage = "miss_call_message";
    /// … because the capability was empty, of another type, or without the right.
    MissCallCap = "miss_call_cap";
    /// … because the process is not a member with SEND.
    MissCallMember = "miss_call_member";
    /// … because nothing, or no single task, is exposed there.
    MissCallExposure = "miss_call_exposure";
    /// … because the receiver was not waiting here (busy, elsewhere, dead).
    MissCallReceiver = "miss_call_receiver";
    /// … because of vector state on one side.
    MissCallVector = "miss_call_vector";
    /// Replies that took the slow path because of flags or UTCB words.
    MissReplyMessage = "miss_reply_message";
    /// … because there was no caller, or it was elsewhere.
    MissReplyCaller = "miss_reply_caller";
    /// … because senders or Notification bits were waiting.
    MissReplyPending = "miss_reply_pending";
    /// … because the CPU time in use was not the caller's.
    MissReplySched = "miss_reply_sched";
    /// … because of vector state on one side.
    MissReplyVector = "miss_reply_vector";
    /// Entries by system call that the Rust path served.
    SlowEntry = "slow_entry";
    /// Entries by interrupt.
    Interrupt = "interrupt";
    /// Interrupts sent to other CPUs.
    IpiSent = "ipi_sent";
    /// Messages taken from the mailbox.
    MailTaken = "mail_taken";
    /// Times the CPU went idle.
    Idle = "idle";
}
