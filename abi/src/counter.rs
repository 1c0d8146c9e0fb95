//! The counters of each CPU.

macro_rules! counters {
    ($($(#[doc = $doc:expr])* $name:ident = $text:literal;)*) => {
        /// Per-CPU counters, read by [`Op::MachineCounter`](crate::Op::MachineCounter).
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $doc])* $name,)* }
        impl Counter {
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Counter::$name => $text,)* } }
            /// Returns the counter's documentation, as in the source.
            pub const fn doc(self) -> &'static str { match self { $(Counter::$name => concat!($($doc, "\n",)*),)* } }
        }
    };
}

counters! {
    /// Calls taken by the fastpath.
    FastCall = "fast_call";
    /// Replies taken by the fastpath.
    FastReply = "fast_reply";
    /// Notifies taken by the fastpath.
    FastNotify = "fast_notify";
    /// Waits taken by the fastpath.
    FastWait = "fast_wait";
    /// Yields and YieldTos taken by a short path.
    FastYield = "fast_yield";
    /// Sends taken by the fastpath.
    FastSend = "fast_send";
    /// Calls to tasks of other CPUs that the fastpath gave to the short path in Rust. Of these, the
    /// ones that had to start over count as `slow_entry`, too.
    ExpressCall = "express_call";
    /// Replies to callers of other CPUs, sent in the same way.
    ExpressReply = "express_reply";
    /// Calls that took the slow path because of flags or too many UTCB words.
    MissCallMessage = "miss_call_message";
    /// … because the capability was empty, of another type, or without the rights.
    MissCallCap = "miss_call_cap";
    /// … because the process is not a member with the rights.
    MissCallMember = "miss_call_member";
    /// … because nothing, or no single task, is exposed there.
    MissCallExposure = "miss_call_exposure";
    /// … because the receiver was not waiting here (busy, dead, or elsewhere and there are UTCB
    /// words), or has another security label.
    MissCallReceiver = "miss_call_receiver";
    /// … because of vector state on one side.
    MissCallVector = "miss_call_vector";
    /// Replies that took the slow path because of flags or too many UTCB words.
    MissReplyMessage = "miss_reply_message";
    /// … because there was no caller, it was elsewhere and there are UTCB words, or it has another
    /// security label.
    MissReplyCaller = "miss_reply_caller";
    /// … because senders or Notification bits were waiting.
    MissReplyPending = "miss_reply_pending";
    /// … because the CPU time in use was not the caller's.
    MissReplySched = "miss_reply_sched";
    /// … because of vector state on one side.
    MissReplyVector = "miss_reply_vector";
    /// Notify that took the slow path: no right, a bound Notification, one of another CPU, a waiter
    /// with a deadline, with vector state, with another security label, without time of its own or
    /// of higher priority, or more tasks ready than one.
    MissNotify = "miss_notify";
    /// Wait that took the slow path: flags, no right, another waiter, borrowed time, vector state,
    /// or no plain task at the front with the same security label.
    MissWait = "miss_wait";
    /// YieldTo that took the slow path: no right, or a task that is not the best ready one, or that
    /// has vector state or another security label, or was preempted.
    MissYield = "miss_yield";
    /// Send that took the slow path: UTCB words, flags, no right, no single task exposed, no pool,
    /// no room, or two sends at the same moment.
    MissSend = "miss_send";
    /// Entries by system call that the Rust path served.
    SlowEntry = "slow_entry";
    /// Entries by interrupt.
    Interrupt = "interrupt";
    /// Interrupts sent to other CPUs.
    IpiSent = "ipi_sent";
    /// Messages taken from the mailbox.
    MailTaken = "mail_taken";
    /// CPUs that a shootdown of this one sent its node to.
    ShootdownSent = "shootdown_sent";
    /// … that need not be asked, since they were not in the address space.
    ShootdownAvoided = "shootdown_avoided";
    /// … that were being asked already, and were then asked again, once for all.
    ShootdownBatched = "shootdown_batched";
    /// Times the CPU went idle.
    Idle = "idle";
    /// Times the CPU flushed its branch predictors, if it can: it switched to a task
    /// of another security label, or the running task got another label.
    LabelSwitch = "label_switch";
    /// Times that a task got a notice, with a grace, instead of losing the CPU at the end of its
    /// slice ([`Op::Yield`](crate::Op::Yield)).
    GraceGranted = "grace_granted";
    /// … and yielded in its grace.
    GraceYielded = "grace_yielded";
    /// … and lost the rest of its grace: it was preempted, it waited, its budget was used up, or
    /// the grace ended while another task spent it.
    GraceRevoked = "grace_revoked";
    /// … and did not yield in its grace.
    GraceExpired = "grace_expired";
    /// TSC ticks of interrupts of programs, with the mail that they served, which no SchedContext
    /// was charged for.
    InterruptTicks = "interrupt_ticks";
}
