//! The system calls. The documentation of each is its reference, in the book too.
//!
//! Capability arguments are slots of the caller's CSpace, in the upper half of a register
//! ([`Target`](crate::Target)); "CNode and slot" is a CNode's capability there and a slot of that CNode in the lower
//! half. Every capability argument may be refused with [`NoCapability`](crate::Error::NoCapability),
//! [`WrongType`](crate::Error::WrongType) or [`NoRight`](crate::Error::NoRight); "Errors" lists what else there is.

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

            /// The operation's documentation, as in the source.
            pub const fn doc(self) -> &'static str {
                match self { $(Op::$name => concat!($($doc, "\n",)*),)* }
            }
        }
    };
}

syscalls! {
    /// Send a message and wait for the reply. The caller's CPU time goes with it.
    ///
    /// In: rdi = target; rsi = deadline where flagged; message registers; UTCB words, which are copied when the
    /// callee receives them. Out: the reply.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise. With capabilities: GRANT, likewise, and GRANT of each that is copied.
    /// Errors: TooLong, NotMember, NoExposure, SelfCall, Dead, Gone (the callee received anew without a reply, or
    /// the Reply object that held the call was deleted), Timeout, WouldBlock, Cancelled, NoTime (the call was forwarded,
    /// or the callee moved). With page ranges: NoPage, BadAddress, NoRoom, InUse (the memory of a page is being given back), Full
    /// (a page has as many mappings as it can; detail: its address), Forbidden (by the labels of the receiver and of a page's object).
    /// With capabilities: BadArgument (detail: 8 and which of the list), NoCapability, WrongType (an Untyped is not
    /// copied), NoRight, Amplifies, Full (derivations from derivations), Forbidden (by the labels of the receiver's
    /// CSpace and of an object), Dying (the receiver's CSpace).
    Call = 0;
    /// Reply to the current call, then receive. Without a current call, or with a caller that is gone, just receive.
    ///
    /// In: message registers and UTCB words of the reply; rsi = deadline of the receive where flagged. Out: as Recv.
    /// Errors: TooLong, those about page ranges and capabilities as Call, and, where the current call is a fault, BadArgument (no such answer; detail: all ones) and
    /// BadAddress (detail: which register), before anything is done; those of Recv, after the reply has been sent.
    ReplyRecv = 1;
    /// Nothing: the cost of an entry. (The first six are numbered in the order in which the entry tells them apart.)
    Null = 2;
    /// OR bits into a Notification. Never waits; on another CPU they arrive with its mail.
    ///
    /// In: rdi = target, or capability of a Notification; rsi = bits.
    /// Rights: NOTIFY; through a group in the member record too.
    /// Errors: NotMember, NoExposure.
    Notify = 3;
    /// Wait until a Notification has bits, and take them.
    ///
    /// In: rdi = capability of the Notification; rsi = deadline where flagged. Out: rdx = bits.
    /// Rights: LISTEN.
    /// Errors: WrongCpu (detail: the Notification's), InUse (somebody waits), WouldBlock, Timeout, Cancelled, Gone
    /// (it was deleted).
    Wait = 4;
    /// Give the rest of the slice to a ready task of this CPU.
    ///
    /// In: rdi = target, or capability of a Task.
    /// Rights: SEND, in capability and member record; or SCHEDULE of the Task.
    /// Errors: NotMember, NoExposure, WrongCpu (detail: the task's), SelfCall, WouldBlock (it is not ready, or has no
    /// CPU time).
    YieldTo = 5;
    /// Wait for a call, or for bits of the bound Notification. Bits come first, and only to a task with CPU time of
    /// its own. A current call that was neither answered nor kept is dropped: its caller gets Gone.
    ///
    /// In: rsi = deadline where flagged. Out: the message, rdi = exposure index, rsi = sender, r12 = custom bits; or
    /// FLAG_NOTIFICATION and rdx = bits.
    /// Errors: Timeout, WouldBlock, Cancelled.
    Recv = 6;
    /// Reply.
    ///
    /// In: rdi = 0: to the current call; else the capability of a Reply object; message registers; UTCB words.
    /// Rights: SEND, in the Reply object's capability.
    /// Errors: TooLong, those about page ranges and capabilities as Call, Gone, WrongCpu (detail: the Reply object's); to a fault BadArgument and BadAddress as ReplyRecv.
    Reply = 7;
    /// Hand the current call on to another target; the reply will go to its caller. The receiver sees the caller as
    /// sender, the forwarder's words and custom bits, and [`FLAG_FORWARDED`](crate::FLAG_FORWARDED).
    ///
    /// In: rdi = target; message registers; UTCB words, which come by way of the caller's UTCB: until they are received its
    /// process may change them, and what has to be the forwarder's own goes in registers. A fault stays one: its registers go
    /// along.
    /// Rights: as Call.
    /// Errors: TooLong, NotMember, NoExposure, Gone, SelfCall (the target is the forwarder or the caller), Dead and
    /// NoTime (of a target on another CPU the caller is told, instead), NoPage (it carries no page ranges: what came with
    /// the call is the forwarder's), NoCapability (nor capabilities), Forbidden (the caller may not join the group).
    Forward = 8;
    /// Keep the current call in an empty Reply object, to answer it later.
    ///
    /// In: rdi = capability of the Reply.
    /// Rights: SEND.
    /// Errors: WrongCpu (detail: the Reply's), InUse, Gone, Forbidden (the caller may not join the Reply).
    SaveReply = 9;
    /// Give up the CPU to others of the same priority; the next turn has a whole slice.
    Yield = 10;
    /// Who am I.
    ///
    /// Out: rdi = own task id; rsi = home CPU.
    WhoAmI = 11;
    /// Make objects of an Untyped. What was made before an error stays.
    ///
    /// In: rdi = Untyped (index: type); rsi = size, whose meaning the type gives; rdx = CNode and first slot; r8 =
    /// count, 1 to 256. Out: rdi = bytes left.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: BadArgument, SlotOccupied, NoMemory, Retired, Dying (it is being reset), Forbidden.
    Retype = 12;
    /// Derive a capability: the copy is a child of the source, with the same rights or fewer.
    ///
    /// In: rdi = source; rsi = CNode and slot; rdx = rights; r8 = badge, 48 bits, kept where the source has one and
    /// where it is of a Group.
    /// Rights: GRANT of the source (without it a capability may be moved, never given and kept); GRANT of the CNode where it
    /// is not the caller's own.
    /// Errors: Amplifies, WrongType (an Untyped has one capability), BadArgument, SlotOccupied, Dying, Forbidden.
    CapCopy = 13;
    /// Move a capability, with its place in the tree.
    ///
    /// In: rdi = source; rsi = CNode and slot.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: SlotOccupied, Dying (the object, or the CNode, is about to end; or it is an Untyped that is being reset),
    /// Forbidden.
    CapMove = 14;
    /// Empty a slot; what was derived from it moves up. The last capability of an object destroys it. What somebody puts
    /// into the slot before all of that is done stays.
    ///
    /// In: rdi = CNode and slot.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: InUse (the calling task is, or lives in, what would end; or that is a frame that is pinned).
    CapDelete = 15;
    /// Delete all that was derived from a capability, at whatever depth and in whatever CSpace. Of an Untyped no page is
    /// in a pool any more. Of a capability that is moved away or deleted meanwhile some may be left; what comes into its slot then
    /// is not revoked. When it succeeds, no operation of another CPU is under way any more that had looked one of them up; a
    /// message that was sent before stays sent.
    ///
    /// In: rdi = CNode and slot; r8 = 0.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: InUse, as of CapDelete; some are deleted then.
    CapRevoke = 16;
    /// Look at a slot. A capability of a CNode is of that CNode's slots; the first of the own CSpace stands for all its tables.
    ///
    /// In: rdi = CNode and slot. Out: rdi = type (0: empty); rsi = rights; rdx = badge; r8 = the object's identity,
    /// which no other object ever had or gets, and which says nothing of its address.
    /// Rights: OBSERVE of the CNode where it is not the caller's own.
    CapInspect = 17;
    /// Revoke all that was made of an Untyped, wait until nothing refers to it, and start it again.
    ///
    /// In: rdi = Untyped; rsi = 0, or 1 to take back all pins of what was made of it: then no device may be using it any
    /// more; r8 = Machine, for the latter. Out: rdi = bytes free.
    /// Rights: to take back pins, DMA of the Machine.
    /// Errors: BadArgument, InUse (the calling task or its process was made of it; or a frame of it is pinned), NoCapability
    /// (it was deleted meanwhile).
    UntypedReset = 18;
    /// Add a process to a group: a member record, and a group capability in the slot that the process offered to this group, or
    /// to the caller's process. A member adds others as what it is seen as itself; the custom bits are the choice of whoever
    /// made the group.
    ///
    /// In: rdi = group; rsi = capability of the process; rdx = rights of the member, no more than the capability and the
    /// caller's own record have; r8 = custom bits: 16 of them with DELETE, else those of the own record, or
    /// [`SEEN_AS_ADDER`](crate::membership::SEEN_AS_ADDER). Out: rdi = member index.
    /// Rights: ADD, in capability and member record; with DELETE the record is not asked.
    /// Errors: NotMember, Amplifies (detail: the rights that are too many), BadArgument (detail: 3: the custom bits),
    /// NoConsent, SlotOccupied, Full, Dying, Forbidden.
    GroupAdd = 19;
    /// Remove a member. Its capability stays, and is inert. A process that ends is removed from all groups. When it succeeds, nothing
    /// is under way any more that the member began; a message that was sent before stays sent.
    ///
    /// In: rdi = group (index: member).
    /// Rights: REMOVE, as ADD in GroupAdd.
    /// Errors: NotMember, BadArgument.
    GroupRemove = 20;
    /// Expose a Task or Notification at an index of a group. Or let a Notification watch the group: it gets the bits of
    /// [`membership`](crate::membership) when members come and go, and exposures are taken back.
    ///
    /// In: rdi = group (index: exposure, of a watcher below 64); rsi = its capability; rdx = 0; or `1 | first << 32` to put
    /// a task as its CPU's of a per-CPU exposure, whose entries (as many as there are CPUs) start at `first`; or
    /// `2 | shift << 32` for a watcher, whose bits are shifted by 60 at most. An exposure is its process's: only that one adds
    /// tasks to a per-CPU exposure, whose entries have to be empty at first, and are for nothing else.
    /// Rights: LISTEN, as ADD in GroupAdd; LISTEN of the object.
    /// Errors: NotMember, NoExposure, SlotOccupied (something is there, or the index is another exposure's entry, or it is another
    /// process's per-CPU exposure), BadState (a task that is not configured), BadArgument, Dying, Forbidden (what is exposed may not
    /// join the group).
    Expose = 21;
    /// Take an exposure back. Of a per-CPU exposure that is the index that spreads calls over its entries; what is exposed in
    /// them stays, and is then as any other.
    ///
    /// In: rdi = group (index: exposure).
    /// Rights: REMOVE, as ADD in GroupAdd; LISTEN does for what the own process has exposed, and for its own tasks.
    /// Errors: NotMember, NoExposure.
    Withdraw = 22;
    /// Give a process its spaces, once. Each serves one process only.
    ///
    /// In: rdi = process; rsi = CNode; rdx = VSpace; r8 = 1 for vector state, 0 without.
    /// Rights: CONFIGURE; GRANT of the CNode; MAP of the VSpace.
    /// Errors: BadArgument, BadState (it has spaces), InUse (a space serves another), Dying, Forbidden.
    ProcessConfigure = 23;
    /// Offer a slot for a group membership, in one group or from one process. A process has one offer: the next takes its place,
    /// and the membership uses it up.
    ///
    /// In: rdi = process; rsi = slot in its CSpace, 0 to withdraw the offer; rdx = capability of the Group, or of the Process that
    /// adds. Out: rdi = the slot that was offered until now; 0: none, or it was used up.
    /// Rights: CONFIGURE, or one's own process.
    /// Errors: BadArgument (detail: 1: the process has no such slot).
    ProcessAccept = 24;
    /// Bind a fresh task to a process and a CPU, map its UTCB, give it an id. It is suspended then. On the CPU on
    /// which the task was made. A task without security label gets the one of the process.
    ///
    /// In: rdi = task; rsi = process; rdx = UTCB address; r8 = CPU, to which the first resume moves it. Out: rdi =
    /// the task's id.
    /// Rights: REGISTERS; CONFIGURE of the process.
    /// Errors: NoCpu, WrongCpu, BadState, Dying, BadAddress, Full (no task number), Mapped, NoTables, Forbidden (the
    /// task has another label than the process, or may not be written by processes with that label).
    TaskConfigure = 25;
    /// Write the registers of a ready, suspended task of this CPU, from the UTCB's bulk words. Of RFLAGS those that a
    /// program may set itself count, TF (a step) among them, and RF.
    ///
    /// In: rdi = task.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState, BadAddress (detail: which register).
    TaskWriteRegs = 26;
    /// Read the registers of a suspended task of this CPU into the UTCB's bulk words, as they will be when it goes on;
    /// those that the answer to a system call it waits in will bring are zero.
    ///
    /// In: rdi = task. Out: rdi = number of its state.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState.
    TaskReadRegs = 27;
    /// Let a suspended task run. The first time it moves to its CPU, with its CPU time and its Notification.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskResume = 28;
    /// Stop a task where it is; what it waits for goes on. To suspend, resume, kill or cancel a task of another CPU
    /// is a request: answered when sent, carried out when that CPU takes its mail.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskSuspend = 29;
    /// End a task for good. Whoever waits for its answer wakes with Dead.
    ///
    /// In: rdi = task.
    /// Rights: DESTROY.
    /// Errors: BadState (not configured, or dead).
    TaskKill = 30;
    /// End what a task waits for, with Cancelled. A task whose fault is being handled waits for nothing that could end
    /// so: nothing happens.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskCancel = 31;
    /// Set priority and slice of a SchedContext of this CPU. A slice that has begun gets no longer by this: the next one has the
    /// new length.
    ///
    /// In: rdi = SchedContext; rsi = priority, 0 to 255; rdx = slice in TSC ticks, not 0; all ones: endless.
    /// Rights: CONFIGURE.
    /// Errors: BadArgument, WrongCpu (detail: where it is).
    SchedConfigure = 32;
    /// Give a task CPU time of its own. Both are of this CPU.
    ///
    /// In: rdi = SchedContext; rsi = task.
    /// Rights: CONFIGURE; SCHEDULE of the task.
    /// Errors: WrongCpu (detail: where it is), InUse (either is bound), BadState.
    SchedBind = 33;
    /// Read a SchedContext of this CPU.
    ///
    /// In: rdi = SchedContext. Out: rdi = TSC ticks used; rsi = priority; rdx = slice.
    /// Rights: OBSERVE.
    /// Errors: WrongCpu (detail: where it is).
    SchedInfo = 34;
    /// Bind a Notification to a task, so that Recv returns its bits. Both are of this CPU.
    ///
    /// In: rdi = Notification; rsi = task.
    /// Rights: LISTEN; SCHEDULE of the task.
    /// Errors: WrongCpu (detail: the task's), InUse (either is bound, or somebody waits), BadState.
    NotificationBind = 35;
    /// Map pages of a frame. No page is mapped writable somewhere and executable somewhere at a time. Pages mapped
    /// before an error stay. Into the pool of the space come only pages that nothing else maps; then no capability maps
    /// them until no pool has them any more, and then they are cleared first.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = bit 0 write, bit 1 execute, bit 2 into the pool (not with bit
    /// 1); r9 = first page; r10 = how many pages, 0 for all from there on.
    /// Rights: MAP of both; WRITE of the frame, to write or into the pool.
    /// Errors: BadArgument, BadAddress, WriteExecute, Mapped, NoTables, Full (the page is mapped 32,768 times), InUse (a
    /// pool has it, or it is to come into one and is mapped or pinned), Dying, Forbidden. Detail of WriteExecute, Mapped,
    /// Full and InUse: the address.
    Map = 36;
    /// Unmap pages of a frame, and wait until no CPU holds the translations. Pages unmapped before an error are.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = 0; r9 = first page; r10 = how many, as in Map. Or, for pages of
    /// the pool, rsi = 0; r9 = 1 for pages of 2 MiB, else 0; r10 = how many.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped), NoPage (the same, of the pool).
    Unmap = 37;
    /// Write UTCB bulk bytes as one log record.
    ///
    /// In: rdi = Machine; rsi = bytes, 1,024 at most; rdx = 0 for the badge's channel, 0x80 for a report line.
    /// Rights: LOG; for a report line SEND, too.
    /// Errors: BadArgument.
    MachineLog = 38;
    /// End the machine.
    ///
    /// In: rdi = Machine; rsi = 0 for pass, 1 for fail.
    /// Rights: EXIT.
    /// Errors: BadArgument.
    MachineExit = 39;
    /// Read a counter, of another CPU as it is just then.
    ///
    /// In: rdi = Machine (index: CPU); rsi = counter number. Out: rdi = value.
    /// Rights: INFO.
    /// Errors: NoCpu, BadArgument.
    MachineCounter = 40;
    /// Export the kernel's state as text, to the log's channel 0x81. Only in test builds; all others refuse. What
    /// other CPUs own is left out. It takes long, and interrupts wait.
    ///
    /// In: rdi = Machine; rsi = 0, or 1 for the hash alone, plus 2 to leave capabilities and memory out; or 4 for a
    /// snapshot of everything, of all CPUs, which stand still meanwhile, as records to channel 0x83. Out: rdi = the
    /// text's hash; of a snapshot, how many objects there are.
    /// Rights: DUMP.
    /// Errors: NotBuilt, BadArgument.
    MachineDump = 41;
    /// Set the own FS and GS bases.
    ///
    /// In: rdi = FS base; rsi = GS base.
    /// Errors: BadAddress (detail: which, 0 or 1).
    SetBases = 42;
    /// Write an event of one's own into the trace of this CPU. Only in tracing builds; all others refuse.
    ///
    /// In: rdi = Machine; rsi, rdx = two words, which mean what the program says.
    /// Rights: LOG.
    /// Errors: NotBuilt.
    MachineTrace = 43;
    /// Say who handles the faults of a task, or of all tasks of a process that have no handler of their own. Looked up
    /// at each fault as the target of a call is, with the process's capabilities; where that fails, the process is torn
    /// down.
    ///
    /// In: rdi = Process or Task; rsi = target in the CSpace of the process whose task faults, 0 for none.
    /// Rights: of a process CONFIGURE, or one's own; of a task REGISTERS. At the fault: SEND and STRING, in capability
    /// and member record.
    /// Errors: BadState (the task is dead).
    FaultHandler = 44;
    /// Set the debug registers of a suspended task of this CPU: addresses at which, while it runs in user mode, it faults
    /// with Watch.
    ///
    /// In: rdi = task; rsi, rdx, r8, r9 = DR0 to DR3, user addresses; r10 = DR7: enables, conditions and lengths, no
    /// I/O; 0 for no breakpoints.
    /// Rights: DEBUG.
    /// Errors: WrongCpu (detail: the task's), BadState (not suspended, or dead), BadAddress (detail: which of the four),
    /// BadArgument.
    TaskDebug = 45;
    /// Change what mapped pages of a frame allow. It answers when no CPU goes by what they allowed before. Pages
    /// changed before an error stay so. From writable to executable, and back, the way is over neither: where somebody
    /// maps a page otherwise meanwhile, that page and those behind it may be left so. No page behind one that is refused
    /// comes to allow more.
    ///
    /// In: as Map. Or, for pages of the pool, r8 = bit 0 write, the rest as in Unmap: pages that are in transit come
    /// back.
    /// Rights: as Map.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped), WriteExecute (detail: the address), NoPage
    /// (the first, of the pool), InUse (to be written, while others see it), Forbidden.
    Protect = 46;
    /// Let the kernel try something that its protections forbid. Only in test builds; all others refuse.
    ///
    /// In: rdi = Machine; rsi = what, the number of an `Attempt` of the crate `test-abi`; rdx = address, where that wants
    /// one. Out: rdi = 0 where it went through; else the exception that stopped it (bits 32 and up) and its error code.
    /// Rights: DUMP.
    /// Errors: NotBuilt, BadArgument.
    MachineAttempt = 47;
    /// Read and clear the accessed bits of mapped pages of a frame. A hint: no CPU is told, and one that still remembers a
    /// translation does not note the next use. All pages are looked at or none.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r9 = first page; r10 = how many, as in Map, 64 at most. Out: rdi =
    /// which were used, bit 0 the first; rsi = which were written since they were mapped, which is not cleared.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped).
    Accessed = 48;
    /// Keep a frame where it is, for a device to read or write: while it is pinned, its last capability can't be deleted,
    /// and its memory is not used for anything else. Pins are counted.
    ///
    /// In: rdi = frame; rsi = Machine. Out: rdi = physical address of its first byte; its pages stand in a row. rsi = how
    /// often it is pinned now.
    /// Rights: DMA of both.
    /// Errors: Dying, Full (it is pinned 2³² − 1 times), InUse (a pool has a page of it).
    FramePin = 49;
    /// Take a pin back, anybody's: whoever does knows that no device uses the frame any more.
    ///
    /// In: rdi = frame; rsi = Machine. Out: rsi = how often it is still pinned.
    /// Rights: DMA of both.
    /// Errors: BadState (it is not pinned).
    FrameUnpin = 50;
    /// Make a frame of device memory: of physical pages that are no RAM, nor the interrupt controllers of the CPUs. It is
    /// mapped uncached, not to be executed, and never cleared. The Untyped gives what the kernel needs to know of it, 32
    /// bytes a page, and ends it when it is reset.
    ///
    /// In: rdi = Machine; rsi = Untyped; rdx = CNode and empty slot; r8 = physical address; r9 = size, as Retype has it
    /// for a Frame. Out: rdi = bytes left in the Untyped.
    /// Rights: DEVICE; GRANT of the CNode unless it is the own one.
    /// Errors: BadArgument, BadAddress (off the boundary of a page, or not all of it is such memory), InUse (another
    /// frame has a part of it), Full (the kernel has as many frames of device memory as it can), SlotOccupied, NoMemory
    /// (detail: bytes left), Dying, Forbidden.
    DeviceFrame = 51;
    /// Give a copy-on-write page of a pool a copy: a page of a frame, which comes into the pool in its place with the
    /// same contents, to be written. Where nobody else sees the page any more, it can be written itself.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = 0; r9 = which page of the frame. Out: rdi = 1 where the
    /// frame's page was used, else 0.
    /// Rights: MAP of both; WRITE of the frame.
    /// Errors: BadArgument, BadAddress, NoPage (no page of that size there that is to be copied), InUse (the frame's
    /// page is mapped), Dying, Forbidden.
    PageCopy = 52;
    /// Take pages of one pool to another, or let both see them, as a message would.
    ///
    /// In: rdi = VSpace that has them; rsi = VSpace; rdx, r9 = the pages, as the words of a [`PageRange`](crate::PageRange);
    /// r8 = address there.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress, NoPage (detail: the address), NoRoom (detail: the address that is taken, or
    /// has no table), InUse (the memory of a page is being given back), Full (a page has as many mappings as it can;
    /// detail: its address), Dying, Forbidden.
    PageTransfer = 53;
    /// Give a process an event pool: its pages are mapped there, and events sent to any task of the process come into it.
    /// One task reads: bits are raised in the Notification that is bound to it, and senders wait at its CPU where there is
    /// no room. The pool stays the process's until one of the two ends.
    ///
    /// In: rdi = EventPool; rsi = Process; rdx = Task; r8 = address; r9 = bits, not 0.
    /// Rights: LISTEN; CONFIGURE of the process; SCHEDULE of the task.
    /// Errors: BadArgument, BadAddress, BadState (the task is not one of the process's; the process has no address
    /// space), InUse (the pool has a process, or the process has a pool), Mapped, NoTables, Full, Dying, Forbidden.
    PoolBind = 54;
    /// Put a message into the event pool of the process of the task that is exposed there: registers and UTCB words, pages
    /// and capabilities, which go where the pool's first page says. Where the
    /// pool is full it waits, behind those who wait already, until the reader has made room.
    ///
    /// In: rdi = target; rsi = deadline where flagged; message registers; UTCB words.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise. With capabilities: GRANT, likewise, and GRANT of each that is copied.
    /// Errors: TooLong, NotMember, NoExposure, NoPool, Dead (the task exposed
    /// there, or where the pool is full its reader), Gone (the pool is full, and nobody reads it; or it ended), Timeout,
    /// WouldBlock, Cancelled; those about page ranges and capabilities as Call.
    Send = 55;
    /// Let senders that wait for room in: what whoever reads a pool calls when it has read something and
    /// [`EventState::waiting`](crate::events::EventState::waiting) is not 0.
    ///
    /// In: rdi = EventPool.
    /// Rights: LISTEN.
    PoolRoom = 56;
    /// Whether a process holds a capability: of the same object as one that the caller holds, with these rights or more,
    /// wherever in its CSpace. A group's counts with the rights that it has in that process: those of its member record,
    /// too; with DELETE the maker's. The answer is true of the moment in which that slot was looked at; one that is moved
    /// meanwhile may be missed. Slots are looked at a bounded number at a time; `r8` says from where on it goes on.
    ///
    /// In: rdi = Process; rsi = capability; rdx = rights; r8 = first slot, 0 for all. Out: rdi = slot in the process's
    /// CSpace, 0 where there is none.
    /// Rights: OBSERVE.
    /// Errors: BadArgument, BadState (it has no CSpace).
    CapVerify = 57;
    /// List the capabilities of a CSpace: what its full slots hold, from one on, into the UTCB's bulk words. Looks at a
    /// bounded number of slots: who wants the rest asks again from where it ended.
    ///
    /// In: rdi = Process or CNode, and first slot. Out: rdi = slot at which to go on, 0 at the end; rsi = how many, in bulk
    /// words each as [`CapEntry`](crate::audit::CapEntry) has it.
    /// Rights: OBSERVE; one's own CNode needs none.
    /// Errors: BadState (the process has no CSpace).
    CapList = 58;
    /// Send a message to every process that listens in a group: that is a member with LISTEN and has an event pool. Not to the
    /// caller's own. In the order of member records, each at most once. Where a pool is full the call waits there, as Send
    /// does, and then goes on. Whoever is a member all the time gets it, or the call stops and says where.
    /// Each gets its share of the pages that the message carries: copy-on-write, or to be read only.
    ///
    /// In: rdi = group (index: [`Progress`](crate::events::Progress), 0 to begin); rsi = deadline where flagged; message
    /// registers; UTCB words. Out: rdi = how many got it.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise.
    /// Errors: TooLong, NotMember, NoCapability (it carries none), BadAddress, NoPage (there is none, or it is to be moved). And,
    /// with the [`Progress`](crate::events::Progress) so far
    /// as detail, from which another call can go on, at the next member or the one behind: WouldBlock, Timeout,
    /// Cancelled, Gone (nobody reads that member's pool, which is full), Dead (its reader, which rsi names), NoRoom (its
    /// window is too small for the pages, or something is mapped there), Full (a page has as many mappings as it can),
    /// InUse (the memory of a page is being given back), Forbidden, Dying (its address space, or the own one).
    Broadcast = 59;
    /// End all tasks of a process, on whatever CPUs: nothing runs in it any more, and whoever waits for an answer of
    /// theirs wakes with Dead. It is a member of no group any more, its tasks are not exposed in those that its CSpace
    /// names, and it gives its spaces back; who kills the process that it runs in keeps those until the process is
    /// deleted. Killing a dead one is no error: what is left undone is done.
    ///
    /// In: rdi = Process.
    /// Rights: DESTROY.
    /// Errors: NoCapability (its slot was emptied meanwhile; it is not killed to the end).
    ProcessKill = 60;
    /// Set the security label of an object; of a process also that of its CSpace, address space and tasks. What it holds, or
    /// has mapped, stays. A task of the process runs with the label as soon as its CPU has taken its mail.
    ///
    /// In: rdi = Machine; rsi = capability of the object; rdx = label, below [`LABELS`](crate::audit::LABELS); 0: none.
    /// Rights: SECURITY.
    /// Errors: BadArgument, Dying, Forbidden (the object is a part of a process with another label).
    LabelSet = 61;
    /// Say what subjects of a label may do with objects of another. At first they may do everything. Subjects without
    /// label are not confined. Checks that are under way on other CPUs at that moment may go by the old rule.
    ///
    /// In: rdi = Machine; rsi = label of subjects, not 0; rdx = label of objects; r8 = what they may, of
    /// [`may`](crate::audit::may). Out: rdi = what they could.
    /// Rights: SECURITY.
    /// Errors: BadArgument.
    LabelRule = 62;
    /// Record every grant, revoke, denial and kill from now on ([`AuditEvent`](crate::audit::AuditEvent)), in memory of an
    /// Untyped: a ring for each CPU, which loses its oldest records when it is full. It ends when the Untyped, or one around
    /// it, is reset.
    ///
    /// In: rdi = Machine; rsi = Untyped; rdx = base-2 logarithm of the records that each ring has room for, 4 to 12, of 64
    /// bytes; all rings together have 2 MiB at most. Out: rdi = how many CPUs.
    /// Rights: SECURITY.
    /// Errors: BadArgument, InUse (there is an audit already), NoMemory (detail: bytes left), Dying.
    AuditStart = 63;
    /// Read records of a CPU's ring, in order, 32 at most, into the UTCB's bulk words: eight words each
    /// ([`Record`](crate::audit::Record)).
    ///
    /// In: rdi = Machine (index: CPU); rsi = number of the first record wanted, from 0. Out: rdi = how many there are; rsi =
    /// the number to go on with; rdx = how many before them were written over already.
    /// Rights: SECURITY.
    /// Errors: NoCpu, BadState (there is no audit).
    AuditRead = 64;
    /// Tell of a member of a group: the first from an index on. Looks at a bounded number of records at a time; `rdi` says
    /// from where on it goes on.
    ///
    /// In: rdi = group (index: member). Out: rdi = its process, 0 where there is none from there on; rsi = index; rdx =
    /// rights; r8 = custom bits.
    /// Rights: LISTEN, as ADD in GroupAdd.
    /// Errors: NotMember.
    GroupMember = 65;
    /// Add a CNode to a process's CSpace, for as long as the process lives. Its slots are numbered on from those that are
    /// there; the first, slot 0 of the CNode, stays empty.
    ///
    /// In: rdi = Process; rsi = CNode. Out: rdi = number of its slot 1 in the CSpace.
    /// Rights: CONFIGURE, or one's own process; GRANT of the CNode.
    /// Errors: BadState (the process has no CSpace), InUse (the CNode serves a process), Full (the CSpace has 16), Forbidden
    /// (they have different labels), Dying.
    CSpaceGrow = 66;
    /// Read the vector registers of a suspended task of this CPU, as XSAVE has them in its standard format, from a word on: up
    /// to [`VECTOR_WORDS_AT_ONCE`](crate::VECTOR_WORDS_AT_ONCE) into the UTCB's bulk words. They are those with which an
    /// interrupt or a fault found it, or that were written to it; of a task that made a system call they are dead, and read
    /// as the initial ones.
    ///
    /// In: rdi = task; rsi = first word. Out: rdi = words read; rsi = words that there are.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState (it is not suspended, or has no vector state), BadArgument.
    TaskReadVector = 67;
    /// Write them, likewise, to a task that TaskWriteRegs could write to: one that was interrupted, is fresh, or had its
    /// registers written. What no CPU could have saved is left out: components and bits of MXCSR that there are not, and what
    /// else the header has.
    ///
    /// In: rdi = task; rsi = first word; rdx = how many, in the UTCB's bulk words.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState (it is not suspended, has no vector state, waits for something, or is in a
    /// system call), BadArgument.
    TaskWriteVector = 68;
}

macro_rules! counters {
    ($($(#[doc = $doc:expr])* $name:ident = $text:literal;)*) => {
        /// Per-CPU counters, read by [`Op::MachineCounter`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $doc])* $name,)* }
        impl Counter {
            pub const ALL: &'static [Counter] = &[$(Counter::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Counter::$name => $text,)* } }
            /// The counter's documentation, as in the source.
            pub const fn doc(self) -> &'static str { match self { $(Counter::$name => concat!($($doc, "\n",)*),)* } }
        }
    };
}

counters! {
    /// Calls taken by the fastpath.
    FastCall = "fast_call";
    /// Replies taken by the fastpath.
    FastReply = "fast_reply";
    /// Notify, Wait and YieldTo taken by the fastpath.
    FastNotify = "fast_notify";
    /// …
    FastWait = "fast_wait";
    /// …
    FastYield = "fast_yield";
    /// Sends taken by the fastpath.
    FastSend = "fast_send";
    /// Calls to tasks of other CPUs, sent by the fastpath and the express path behind it.
    ExpressCall = "express_call";
    /// Replies to callers of other CPUs, likewise.
    ExpressReply = "express_reply";
    /// Calls that took the slow path because of flags or too many UTCB words.
    MissCallMessage = "miss_call_message";
    /// … because the capability was empty, of another type, or without the rights.
    MissCallCap = "miss_call_cap";
    /// … because the process is not a member with the rights.
    MissCallMember = "miss_call_member";
    /// … because nothing, or no single task, is exposed there.
    MissCallExposure = "miss_call_exposure";
    /// … because the receiver was not waiting here (busy, dead, or elsewhere and there are UTCB words), or has another
    /// security label.
    MissCallReceiver = "miss_call_receiver";
    /// … because of vector state on one side.
    MissCallVector = "miss_call_vector";
    /// Replies that took the slow path because of flags or too many UTCB words.
    MissReplyMessage = "miss_reply_message";
    /// … because there was no caller, it was elsewhere and there are UTCB words, or it has another security label.
    MissReplyCaller = "miss_reply_caller";
    /// … because senders or Notification bits were waiting.
    MissReplyPending = "miss_reply_pending";
    /// … because the CPU time in use was not the caller's.
    MissReplySched = "miss_reply_sched";
    /// … because of vector state on one side.
    MissReplyVector = "miss_reply_vector";
    /// Notify that took the slow path: no right, a bound Notification, one of another CPU, a waiter with a deadline,
    /// with vector state, with another security label, without time of its own or of higher priority, or more tasks
    /// ready than one.
    MissNotify = "miss_notify";
    /// Wait that took the slow path: flags, no right, another waiter, borrowed time, vector state, or nothing that
    /// could run next at once and has the same security label.
    MissWait = "miss_wait";
    /// YieldTo that took the slow path: no right, or a task that is not the best ready one, or that has vector state
    /// or another security label, or was preempted.
    MissYield = "miss_yield";
    /// Send that took the slow path: UTCB words, flags, no right, nobody or no single task exposed, no pool, no room, or
    /// two that came at the same moment.
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
    /// Times the CPU flushed its branch predictors, where it can do that: it went on with a task of another security label
    /// than the last one, or the running task got another label.
    LabelSwitch = "label_switch";
    /// Kills, by what they found the task in: running, or ready to.
    KillReady = "kill_ready";
    /// … receiving.
    KillReceiving = "kill_receiving";
    /// … waiting for the bits of a Notification.
    KillWaiting = "kill_waiting";
    /// … waiting for a grace period.
    KillGrace = "kill_grace";
    /// … its call queued at a task of this CPU.
    KillQueued = "kill_queued";
    /// … its event waiting for room in a pool that a task of this CPU reads.
    KillPosting = "kill_posting";
    /// … its call received by a task of this CPU.
    KillOwed = "kill_owed";
    /// … its call or event in the mailbox of another CPU.
    KillOut = "kill_out";
    /// … its call or event taken by another CPU.
    KillThere = "kill_there";
    /// … the answer to its call in this CPU's mailbox.
    KillBack = "kill_back";
    /// … its request in the mailbox of another CPU.
    KillAsk = "kill_ask";
    /// … its request taken by another CPU.
    KillAsked = "kill_asked";
    /// … its request kept by this CPU until what it waits for has happened.
    KillKept = "kill_kept";
    /// … the answer to its request in this CPU's mailbox.
    KillAskDone = "kill_ask_done";
    /// Of these kills, those of tasks that waited for the answer to a fault.
    KillInFault = "kill_in_fault";
    /// … that had lent pages to a message.
    KillLending = "kill_lending";
    /// … that served a call, or kept one in a Reply.
    KillServing = "kill_serving";
    /// … at which others were queued.
    KillCalled = "kill_called";
    /// … that were asked for on another CPU.
    KillMailed = "kill_mailed";
    /// Messages asked back for a kill that were found still in the mailbox: the kill had overtaken them.
    RecallOut = "recall_out";
    /// … queued at a task.
    RecallQueued = "recall_queued";
    /// … received by a task.
    RecallOwed = "recall_owed";
    /// … kept until what they wait for has happened.
    RecallKept = "recall_kept";
    /// … gone: they were on their way home.
    RecallGone = "recall_gone";
}
