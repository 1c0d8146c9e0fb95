//! The system calls. The documentation of each is its reference, also in the book.
//!
//! Capability arguments are slots of the caller's CSpace, in the upper half of a register
//! ([`Target`](crate::Target)); "CNode and slot" is a CNode's capability there and a slot of that
//! CNode in the lower half. Every capability argument may be refused with
//! [`NoCapability`](crate::Error::NoCapability), [`WrongType`](crate::Error::WrongType) or
//! [`NoRight`](crate::Error::NoRight); "Errors" lists the other errors.

use crate::audit::{AuditEvent, may};
use crate::authority::{Asks, Behalf, Behalf::*};
use crate::operands::*;
use crate::{MachineRights, ObjType, ProcessRights, Rights};
use crate::{frame_rights, irq_rights, machine_rights, port_rights, process_rights};
use crate::{sched_control_rights, sched_rights, task_rights};

operations! { ($)
    /// Sends a message and waits for the reply. The caller donates its CPU time to the callee.
    ///
    /// In: rdi = target; rsi = deadline where flagged; message registers; UTCB words, which are
    /// copied when the callee receives them. Out: the reply.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise. With capabilities: GRANT, likewise, and GRANT of each that
    /// is copied.
    /// Errors: TooLong, NotMember, NoExposure, SelfCall, Dead, Gone (the callee received again
    /// without a reply, or the Reply object that held the call was deleted), Timeout, WouldBlock,
    /// Cancelled, NoTime (the call was forwarded, or the callee moved). With page ranges: NoPage,
    /// BadAddress, NoRoom, InUse (the memory of a page is being given back), Full (a page has as
    /// many mappings as it can; detail: its address), Forbidden (by the labels of the receiver and
    /// of a page's object). With capabilities: BadArgument (detail: 8 and which of the list),
    /// NoCapability, WrongType (an Untyped is not copied), NoRight, Amplifies, Full (the derivation
    /// tree is too deep), Forbidden (by the labels of the receiver's CSpace and of an object),
    /// Dying (the receiver's CSpace).
    Call = 0 {
        takes
            [member(Rights::SEND)],
            [member(SEND_WORDS)] when "with UTCB words",
            [member(SEND_PAGES)] when "with page ranges",
            [member(SEND_CAPS)] when "with capabilities";
        labels GRANT | READ | WRITE;
        agreed "the task is exposed by a holder of LISTEN; capabilities come into slots, pages \
            into windows that the receiver has opened";
        told Grant;
    }
    /// Replies to the current call, then receives. Without a current call, or with a caller that is
    /// gone, it only receives. Pages and capabilities that the caller cannot take, or that labels
    /// forbid to the caller, stay with the replier ([`FLAG_UNTAKEN`](crate::FLAG_UNTAKEN),
    /// [`Fate::Untaken`](crate::Fate::Untaken)). A listed page that is gone is like a page that the
    /// caller cannot take. Of an empty slot the fate is [`Fate::Gone`](crate::Fate::Gone).
    ///
    /// In: message registers and UTCB words of the reply; rsi = deadline of the receive where
    /// flagged. Out: as Recv.
    /// Errors: TooLong. As for Call: with page ranges NoPage (a malformed range, or a page in two
    /// ranges) and BadAddress; with capabilities BadArgument, NoCapability (the CSpace does not
    /// have the slot), WrongType, NoRight, Amplifies and Full. Where the current call is
    /// a fault, BadArgument (no such answer; detail: all ones) and BadAddress (detail: which
    /// register), before anything is done. Those of Recv, after the reply has been sent.
    ReplyRecv = 1 {
        takes [];
        labels GRANT | READ | WRITE;
        agreed "the caller waits for it; capabilities and pages as with a call, and none as the \
            answer to a fault";
        told Grant, Kill;
    }
    /// Does nothing: measures the cost of an entry. (The first six operations are numbered in the
    /// order in which the entry compares them.)
    Null = 2 {
        takes [];
    }
    /// ORs bits into a Notification. Never waits. Bits for a Notification of another CPU arrive
    /// with that CPU's mail.
    ///
    /// In: rdi = target, or capability of a Notification; rsi = bits.
    /// Rights: NOTIFY; through a group in the member record too.
    /// Errors: NotMember, NoExposure.
    Notify = 3 {
        takes
            [member(Rights::NOTIFY)] when "through a group",
            [bits(Rights::NOTIFY)] when "of a Notification";
        agreed "through a group: the Notification is exposed by a holder of LISTEN";
    }
    /// Waits until a Notification has bits, and takes them.
    ///
    /// In: rdi = capability of the Notification; rsi = deadline where flagged. Out: rdx = bits.
    /// Rights: LISTEN.
    /// Errors: WrongCpu (detail: the Notification's), InUse (another task waits), WouldBlock,
    /// NoTime (the caller has no CPU time of its own, and a call that it serves may end before bits
    /// come), Timeout, Cancelled, Gone (it was deleted).
    Wait = 4 {
        takes [bits(Rights::LISTEN)];
    }
    /// Gives the rest of the slice to a ready task of this CPU. If the slice is over and the caller
    /// was given notice, this is a [`Yield`](Op::Yield). A task of another CPU runs before its
    /// equals there, at most once in the time of four of its slices. The caller then waits for that
    /// CPU's answer. It keeps the rest of its slice, and goes behind its own equals.
    ///
    /// In: rdi = target, or capability of a Task.
    /// Rights: SEND, in capability and member record; or SCHEDULE of the Task.
    /// Errors: NotMember, NoExposure, SelfCall, WouldBlock (it is not ready, or has no CPU time).
    YieldTo = 5 {
        takes
            [member(Rights::SEND)] when "through a group",
            [task(0, task_rights::SCHEDULE)] when "to a Task";
        agreed "through a group: the task is exposed";
    }
    /// Waits for a call, or for bits of the bound Notification. Bits come first, and only to a task
    /// with CPU time of its own. Drops a current call that was neither answered nor kept: its
    /// caller gets Gone.
    ///
    /// In: rsi = deadline where flagged. Out: the message, rdi = exposure index, rsi = sender,
    /// r12 = custom bits; or FLAG_NOTIFICATION and rdx = bits.
    /// Errors: Timeout, WouldBlock, Cancelled.
    Recv = 6 {
        takes [];
    }
    /// Replies to a call. Pages and capabilities stay with the replier as in ReplyRecv.
    ///
    /// In: rdi = 0: to the current call; else the capability of a Reply object; message registers;
    /// UTCB words.
    /// Rights: SEND, in the Reply object's capability.
    /// Errors: TooLong, those about page ranges and capabilities as ReplyRecv, Gone, WrongCpu
    /// (detail: the Reply object's); to a fault BadArgument and BadAddress as ReplyRecv.
    Reply = 7 {
        takes [], [reply(Rights::SEND)] when "to a kept call";
        labels GRANT | READ | WRITE;
        agreed "the caller waits for it; capabilities and pages as with a call, and none as the \
            answer to a fault";
        told Grant, Kill;
    }
    /// Forwards the current call to another target. The reply will go to the first caller. The
    /// receiver sees the caller as sender, the forwarder's words and custom bits, and
    /// [`FLAG_FORWARDED`](crate::FLAG_FORWARDED).
    ///
    /// In: rdi = target; message registers; UTCB words, which pass through the caller's UTCB: until
    /// they are received the caller's process may change them, so use registers for words that it
    /// must not change. A forwarded fault stays a fault, and its registers go along.
    /// Rights: as Call.
    /// Errors: TooLong, NotMember, NoExposure, Gone, SelfCall (the target is the forwarder or the
    /// caller), Dead and NoTime (if the target is on another CPU, the caller gets these instead),
    /// NoPage (Forward carries no page ranges: pages that came with the call are the forwarder's),
    /// NoCapability (nor capabilities), Forbidden (the caller may not join the group).
    Forward = 8 {
        takes [member(Rights::SEND)], [member(SEND_WORDS)] when "with UTCB words";
        acts_for OfCaller;
        labels JOIN;
        agreed "the task is exposed by a holder of LISTEN; no capabilities or pages are carried";
    }
    /// Keeps the current call in an empty Reply object, to answer it later.
    ///
    /// In: rdi = capability of the Reply.
    /// Rights: SEND.
    /// Errors: Dying, InUse, Gone, Forbidden (the caller may not join the Reply).
    SaveReply = 9 {
        takes [reply(Rights::SEND)];
        labels JOIN;
    }
    /// Gives up the CPU to other tasks of the same priority. The next turn has a whole slice. Of
    /// the registers, the kernel keeps where the task goes on, its stack pointer and its flags.
    ///
    /// A task may ask for a notice when its slice is over and others of its priority wait: it sets
    /// `wants_notice` in its UTCB. Then the kernel sets `preempt_pending` to a time until which
    /// the task may run on. That is [`GRACE_MAX`](crate::time::GRACE_MAX) ticks, or half of its
    /// slice if that is less, and no longer than its budget. The task looks at the word where it
    /// has little to lose, sets it to 0, and yields. What it has used of that time comes off its
    /// next slice. If it waits or is preempted meanwhile, its slice is over, too.
    Yield = 10 {
        takes [];
    }
    /// Returns the caller's id and home CPU.
    ///
    /// Out: rdi = own task id; rsi = home CPU.
    WhoAmI = 11 {
        takes [];
    }
    /// Makes objects of an Untyped. Objects made before an error stay. Other tasks may make objects
    /// of the same Untyped between them.
    ///
    /// In: rdi = Untyped (index: type); rsi = size, whose meaning the type gives; rdx = CNode and
    /// first slot; r8 = count, 1 to 256. Out: rdi = bytes left.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: BadArgument, SlotOccupied, NoMemory, Dying (it is being reset), Forbidden.
    Retype = 12 {
        takes [untyped(0), store(2)];
        labels GRANT;
        told Grant;
    }
    /// Copies a capability: the copy is a child of the source, with the same rights or fewer.
    ///
    /// In: rdi = source; rsi = CNode and slot; rdx = rights; r8 = badge, 48 bits, kept where the
    /// source has one and where it is of a Group.
    /// Rights: GRANT of the source (without GRANT a capability may be moved, but not given and
    /// kept); GRANT of the CNode where it is not the caller's own.
    /// Errors: Amplifies, WrongType (an Untyped has one capability), BadArgument, SlotOccupied,
    /// Dying, Forbidden.
    CapCopy = 13 {
        takes [of(0, COPIED, Rights::GRANT), store(1)];
        labels GRANT;
        told Grant;
    }
    /// Moves a capability, with its place in the tree.
    ///
    /// In: rdi = source; rsi = CNode and slot.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: SlotOccupied, Dying (the object, or the CNode, is about to end; or it is an Untyped
    /// that is being reset), Forbidden.
    CapMove = 14 {
        takes [any(0), store(1)];
        labels GRANT;
        told Grant;
    }
    /// Empties a slot. Capabilities that were derived from it move up. Deleting the last capability
    /// of an object destroys the object. A capability that another task puts into the slot before
    /// this is finished stays.
    ///
    /// In: rdi = CNode and slot.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: InUse (the object is the calling task, or the task lives in it; or the object is a
    /// pinned frame).
    CapDelete = 15 {
        takes [store(0)];
        told Take, Kill, Leave, End;
    }
    /// Deletes all capabilities that were derived from a capability, at any depth and in any
    /// CSpace. If it is an Untyped's, also takes its pages out of all pools. If the capability is
    /// moved or deleted in the meantime, some descendants may stay; the next capability in its slot
    /// is not revoked. After success no operation that had looked up one of the deleted
    /// capabilities is under way on any CPU. A message that was sent before stays sent.
    ///
    /// In: rdi = CNode and slot; r8 = 0.
    /// Rights: GRANT of the CNode where it is not the caller's own.
    /// Errors: InUse, as of CapDelete; some are deleted then.
    CapRevoke = 16 {
        takes [store(0)];
        told Revoke, Kill, Leave, End;
    }
    /// Reports the contents of a slot. A capability of a CNode covers that CNode's slots; the first
    /// CNode of the caller's CSpace covers all its tables.
    ///
    /// In: rdi = CNode and slot. Out: rdi = type (0: empty); rsi = rights; rdx = badge; r8 = the
    /// object's identity, which no other object ever has, and which does not reveal its address.
    /// Rights: OBSERVE of the CNode where it is not the caller's own.
    CapInspect = 17 {
        takes [look(0)];
    }
    /// Revokes all objects that were made of an Untyped, waits until nothing refers to them, and
    /// makes all its memory free again.
    ///
    /// In: rdi = Untyped; rsi = 0, or 1 to take back all pins of what was made of it: then no
    /// device may be using it any more; r8 = Machine, in that case. Out: rdi = bytes free.
    /// Rights: to take back pins, DMA of the Machine.
    /// Errors: BadArgument, InUse (the calling task or its process was made of it; or a frame of it
    /// is pinned), NoCapability (it was deleted in the meantime).
    UntypedReset = 18 {
        takes [untyped(0)], [untyped(0), machine(3, machine_rights::DMA)] when "to take back pins";
        told Reset, Pin, Kill, Leave, End;
    }
    /// Adds a process to a group: a member record, and a group capability in the slot that the
    /// process offered to this group, or to the caller's process. A member gives others its own
    /// custom bits; only a holder of DELETE (at first the group's maker) chooses them.
    ///
    /// In: rdi = group; rsi = capability of the process; rdx = rights of the member, no more than
    /// the capability and the caller's own record have; r8 = custom bits: 16 of them with DELETE,
    /// else those of the own record, or [`SEEN_AS_ADDER`](crate::membership::SEEN_AS_ADDER). Out:
    /// rdi = member index.
    /// Rights: ADD, in capability and member record; with DELETE no record is needed.
    /// Errors: NotMember, Amplifies (detail: the rights that are too many), BadArgument (detail: 3:
    /// the custom bits), NoConsent, SlotOccupied, Full, Dying, Forbidden.
    GroupAdd = 19 {
        takes [maker(Rights::ADD), process(1, ProcessRights::NONE)];
        labels JOIN;
        agreed "the process has offered a slot, to this group or to the caller's process";
        told Join;
    }
    /// Removes a member. Its capability stays, and is inert. A process that ends is removed from
    /// all groups. After success no operation that the member began is under way. A message that
    /// was sent before stays sent.
    ///
    /// In: rdi = group (index: member).
    /// Rights: REMOVE, as ADD in GroupAdd.
    /// Errors: NotMember, BadArgument.
    GroupRemove = 20 {
        takes [maker(Rights::REMOVE)];
        told Leave;
    }
    /// Exposes a Task or Notification at an index of a group. Or lets a Notification watch the
    /// group: it gets the bits of [`membership`](crate::membership) when members come and go, and
    /// exposures are taken back.
    ///
    /// In: rdi = group (index: exposure, of a watcher below 64); rsi = its capability; rdx = 0; or
    /// `1 | first << 32` to put a task as its CPU's of a per-CPU exposure, whose entries (as many
    /// as there are CPUs) start at `first`; or `2 | shift << 32` for a watcher, whose bits are
    /// shifted by 60 at most. An exposure belongs to its process: only that process adds tasks to a
    /// per-CPU exposure. The entries of a per-CPU exposure must be empty at first, and hold nothing
    /// else.
    /// Rights: LISTEN, as ADD in GroupAdd; LISTEN of the object.
    /// Errors: NotMember, NoExposure, SlotOccupied (the index is in use, or is another exposure's
    /// entry, or is another process's per-CPU exposure), BadState (a task that is not configured),
    /// BadArgument, Dying, Forbidden (the exposed object may not join the group).
    Expose = 21 {
        takes
            [maker(Rights::LISTEN), of(1, &[ObjType::Task, ObjType::Notification], Rights::LISTEN)];
        labels JOIN;
        told Expose;
    }
    /// Takes an exposure back. For a per-CPU exposure, takes back the index that spreads calls over
    /// its entries; the tasks exposed in the entries stay, as ordinary exposures.
    ///
    /// In: rdi = group (index: exposure).
    /// Rights: REMOVE, as ADD in GroupAdd; LISTEN is enough for exposures of the caller's process,
    /// and for its own tasks.
    /// Errors: NotMember, NoExposure.
    Withdraw = 22 {
        takes
            [maker(Rights::REMOVE)] when "any exposure",
            [maker(Rights::LISTEN)] when "of what the own process exposed, or its task";
        told Withdraw, Kill, End;
    }
    /// Gives a process its CSpace and address space, once. Each serves one process only.
    ///
    /// In: rdi = process; rsi = CNode; rdx = VSpace; r8 = 1 for vector state, 0 without.
    /// Rights: CONFIGURE; GRANT of the CNode; MAP of the VSpace.
    /// Errors: BadArgument, BadState (it has spaces), InUse (a space serves another), Dying,
    /// Forbidden.
    ProcessConfigure = 23 {
        takes [process(0, process_rights::CONFIGURE), cnode(1), space(2)];
        acts_for OfProcess(0);
        same label;
        told Bind;
    }
    /// Offers a slot for a group membership, in one group or from one process. A process has one
    /// offer: the next offer replaces it, and the membership uses it up.
    ///
    /// In: rdi = process; rsi = slot in its CSpace, 0 to withdraw the offer; rdx = capability of
    /// the Group, or of the Process that adds. Out: rdi = the slot that was offered until now; 0:
    /// none, or it was used up.
    /// Rights: CONFIGURE, or the caller's own process.
    /// Errors: BadArgument (detail: 1: the process has no such slot).
    ProcessAccept = 24 {
        takes [OWN_PROCESS, of(2, &[ObjType::Group, ObjType::Process], Rights::NONE)];
        acts_for OfProcess(0);
    }
    /// Binds a fresh task to a process and a CPU, maps its UTCB, and gives it an id. The task is
    /// then suspended. A task that was made on another CPU comes to the caller's CPU for this. A
    /// task without security label gets the one of the process.
    ///
    /// In: rdi = SchedControl that covers the CPU; rsi = task; rdx = process; r8 = UTCB address;
    /// r9 = CPU, to which the first resume moves it. Out: rdi = the task's id.
    /// Rights: SCHEDULE; REGISTERS of the task; CONFIGURE of the process.
    /// Errors: NoCpu, OverLimit, Parked, BadState, Dying, BadAddress, Full (no task number),
    /// Retired, Mapped, NoTables, Forbidden (the task has another label than the process, or may
    /// not be written by processes with that label).
    TaskConfigure = 25 {
        takes [
            control(0, sched_control_rights::SCHEDULE),
            task(1, task_rights::REGISTERS),
            process(2, process_rights::CONFIGURE),
        ];
        acts_for OfProcess(2);
        labels READ | WRITE;
        same label;
        told Bind;
    }
    /// Writes the registers of a ready, suspended task of this CPU, from the UTCB's bulk words. Of
    /// RFLAGS it takes the flags that a program may set itself, including TF (a step), and RF.
    ///
    /// In: rdi = task.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState, BadAddress (detail: which register).
    TaskWriteRegs = 26 {
        takes [task(0, task_rights::REGISTERS)];
        acts_for OfTask(0);
    }
    /// Reads the registers of a suspended task of this CPU into the UTCB's bulk words, as they will
    /// be when it continues. Registers that the answer to a waiting system call will set are zero.
    ///
    /// In: rdi = task. Out: rdi = number of its state.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState.
    TaskReadRegs = 27 {
        takes [task(0, task_rights::REGISTERS)];
        acts_for OfTask(0);
    }
    /// Lets a suspended task run. The first resume moves the task to its CPU, with its CPU time and
    /// its Notification.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskResume = 28 {
        takes [task(0, task_rights::SUSPEND)];
        acts_for OfTask(0);
    }
    /// Stops a task where it is. The operation that it waits in continues. Suspending, resuming,
    /// killing or cancelling a task of another CPU is a request: it is answered when it is sent,
    /// and carried out when that CPU takes its mail.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskSuspend = 29 {
        takes [task(0, task_rights::SUSPEND)];
        acts_for OfTask(0);
    }
    /// Ends a task for good. Tasks that wait for its answer wake with Dead. A task of another CPU
    /// goes on until that CPU learns of it; as soon as it is dead, BadState says so.
    ///
    /// In: rdi = task.
    /// Rights: DESTROY.
    /// Errors: BadState (not configured, or dead).
    TaskKill = 30 {
        takes [task(0, task_rights::DESTROY)];
        acts_for OfTask(0);
        told Kill, Death;
    }
    /// Ends a task's wait with Cancelled. Does nothing to a task whose fault is being handled.
    ///
    /// In: rdi = task.
    /// Rights: SUSPEND.
    /// Errors: BadState (not configured, or dead).
    TaskCancel = 31 {
        takes [task(0, task_rights::SUSPEND)];
        acts_for OfTask(0);
    }
    /// Sets priority, slice and budget of a SchedContext, wherever it is. It may then run on the
    /// CPUs that the SchedControl covers; a call to another CPU does not take it along. While a
    /// task has it, its CPUs stay, and the SchedControl must cover them all. A slice that has begun
    /// does not get longer: the next one has the new length.
    ///
    /// With a budget, it runs for so long at most in each window. The first window begins now; if
    /// the period stays as it was, the present window goes on. When the budget is used up, the
    /// task goes on with the time of a caller that waits for it, or with its own, or rests until
    /// the next window. If the SchedControl has room, there must be a budget, and room for it. If
    /// the budget's share of the room is raised, a window begins, in which counts what was used and
    /// is not paid for.
    ///
    /// In: rdi = SchedControl that allows the priority; rsi = SchedContext; rdx = priority, 0 to
    /// 255, and perhaps a sequence number ([`Seen`](crate::status::Seen)); r8 = slice in TSC ticks,
    /// not 0; all ones: endless; r9 = budget in TSC ticks, at least
    /// [`BUDGET_MIN`](crate::BUDGET_MIN); r10 = length of a window in TSC ticks, from the budget to
    /// [`PERIOD_MAX`](crate::PERIOD_MAX). Both 0: no budget.
    /// Rights: SCHEDULE; CONFIGURE of the SchedContext.
    /// Errors: BadArgument, OverLimit (detail: the ceiling, or all ones, or the room for the
    /// budget), Stale, Dying.
    SchedConfigure = 32 {
        takes [
            control(0, sched_control_rights::SCHEDULE),
            time(1, sched_rights::CONFIGURE),
        ];
    }
    /// Gives a task CPU time of its own, which then moves to the task's CPU. The task starts, or
    /// has started, on a CPU of the SchedContext.
    ///
    /// In: rdi = SchedContext; rsi = task.
    /// Rights: CONFIGURE; SCHEDULE of the task.
    /// Errors: InUse (either is bound), BadState (the SchedContext was never set, or the task is
    /// not configured or ends), OverLimit, Dying.
    SchedBind = 33 {
        takes [time(0, sched_rights::CONFIGURE), task(1, task_rights::SCHEDULE)];
        acts_for OfTask(1);
    }
    /// Reads a SchedContext, wherever it is.
    ///
    /// In: rdi = SchedContext. Out: rdi = TSC ticks used; rsi = priority in bits 0 to 7, and above
    /// it the period ([`with_period`](crate::time::with_period)); rdx = slice; r8 = budget. Budget
    /// and period 0: it has none.
    /// Rights: OBSERVE.
    /// Errors: Dying.
    SchedInfo = 34 {
        takes [time(0, sched_rights::OBSERVE)];
    }
    /// Binds a Notification to a task, so that Recv returns its bits. Both are of this CPU.
    ///
    /// In: rdi = Notification; rsi = task.
    /// Rights: LISTEN; SCHEDULE of the task.
    /// Errors: WrongCpu (detail: the task's), InUse (either is bound, or a task waits), BadState,
    /// NoTime.
    NotificationBind = 35 {
        takes [bits(Rights::LISTEN), task(1, task_rights::SCHEDULE)];
        acts_for OfTask(1);
    }
    /// Maps pages of a frame. A page is never writable at one place and executable at another at
    /// the same time. Pages mapped before an error stay. Only pages that nothing else maps can
    /// enter the pool of the space. Then no capability maps them until they have left all pools,
    /// and they are cleared before that.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = bit 0 write, bit 1 execute, bit 2 into
    /// the pool (not with bit 1); r9 = first page; r10 = how many pages, 0 for all from that page
    /// on.
    /// Rights: MAP of both; WRITE of the frame, to write or into the pool.
    /// Errors: BadArgument, BadAddress, WriteExecute, Mapped, NoTables, Full (the page is mapped
    /// 32,768 times), InUse (a pool has it, or it is to enter a pool and is mapped or pinned),
    /// Dying, Forbidden. Detail of WriteExecute, Mapped, Full and InUse: the address.
    Map = 36 {
        takes
            [space(0), frame(1, TO_MAP)],
            [space(0), frame(1, TO_WRITE)] when "to write",
            [space(0), frame(1, TO_WRITE)] when "into the pool";
        labels READ | WRITE;
    }
    /// Unmaps pages of a frame, and waits until no CPU holds the translations. Pages unmapped
    /// before an error stay unmapped.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = 0; r9 = first page; r10 = how many, as in
    /// Map. Or, for pages of the pool, rsi = 0; r9 = 1 for pages of 2 MiB, else 0; r10 = how many.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped), NoPage (the same, of
    /// the pool).
    Unmap = 37 {
        takes [space(0), frame(1, TO_MAP)], [space(0)] when "in the pool";
    }
    /// Writes UTCB bulk bytes as one log record.
    ///
    /// In: rdi = Machine; rsi = bytes, 1,024 at most; rdx = 0 for the badge's channel, 0x80 for a
    /// report line.
    /// Rights: LOG; for a report line SEND, too.
    /// Errors: BadArgument.
    MachineLog = 38 {
        takes
            [machine(0, machine_rights::LOG)],
            [machine(0, MachineRights::REPORT)] when "of a report line";
    }
    /// Ends the machine.
    ///
    /// In: rdi = Machine; rsi = 0 for pass, 1 for fail.
    /// Rights: EXIT.
    /// Errors: BadArgument.
    MachineExit = 39 {
        takes [machine(0, machine_rights::EXIT)];
        acts_for Machine;
    }
    /// Reads a counter. Another CPU's counter is read as it is at that moment.
    ///
    /// In: rdi = Machine (index: CPU); rsi = counter number. Out: rdi = value.
    /// Rights: INFO.
    /// Errors: NoCpu, BadArgument.
    MachineCounter = 40 {
        takes [machine(0, machine_rights::INFO)];
    }
    /// Exports a snapshot of the kernel's state as records of text, to the log's channel 0x83. Only
    /// in test builds; all others refuse. All CPUs stand still meanwhile. It takes long, and
    /// interrupts wait.
    ///
    /// In: rdi = Machine; rsi = how much, as the crate `test-abi` numbers it. Out: rdi = how many
    /// objects there are.
    /// Rights: DUMP.
    /// Errors: NotBuilt, BadArgument, Full.
    MachineDump = 41 {
        takes [machine(0, machine_rights::DUMP)];
        acts_for Machine;
    }
    /// Sets the caller's FS and GS bases.
    ///
    /// In: rdi = FS base; rsi = GS base.
    /// Errors: BadAddress (detail: which, 0 or 1).
    SetBases = 42 {
        takes [];
    }
    /// Writes an event of the program into the trace of this CPU. Only in tracing builds; all
    /// others refuse.
    ///
    /// In: rdi = Machine; rsi, rdx = two words, which mean what the program says.
    /// Rights: LOG.
    /// Errors: NotBuilt.
    MachineTrace = 43 {
        takes [machine(0, machine_rights::LOG)];
    }
    /// Names the handler of a task's faults, or of the faults of all tasks of a process that have
    /// no handler of their own. The kernel looks the handler up at each fault, like the target of a
    /// call, with the process's capabilities. If that fails, the kernel kills the process.
    ///
    /// In: rdi = Process or Task; rsi = target in the CSpace of the process whose task faults, 0
    /// for none.
    /// Rights: of a process CONFIGURE, or the caller's own; of a task REGISTERS. At the fault: SEND
    /// and STRING, in capability and member record.
    /// Errors: BadState (the task is dead).
    FaultHandler = 44 {
        takes [OWN_PROCESS] when "of a process", [task(0, task_rights::REGISTERS)] when "of a task";
        acts_for OfTask(0);
        agreed "at each fault: SEND and STRING of the handler's group, in capability and record";
    }
    /// Sets the debug registers of a suspended task of this CPU: addresses at which, while it runs
    /// in user mode, it faults with Watch.
    ///
    /// In: rdi = task; rsi, rdx, r8, r9 = DR0 to DR3, user addresses; r10 = DR7: enables,
    /// conditions and lengths, no I/O; 0 for no breakpoints.
    /// Rights: DEBUG.
    /// Errors: WrongCpu (detail: the task's), BadState (not suspended, or dead), BadAddress
    /// (detail: which of the four), BadArgument.
    TaskDebug = 45 {
        takes [task(0, task_rights::DEBUG)];
        acts_for OfTask(0);
    }
    /// Changes what mapped pages of a frame allow. It answers when no CPU uses the earlier
    /// translation. Pages changed before an error stay changed. A page goes from writable to
    /// executable, or back, through a state that allows neither. If another task maps a page
    /// differently in the meantime, that page and later ones may stay in that state. After a
    /// refused page no later page allows more than before.
    ///
    /// In: as Map. Or, for pages of the pool, r8 = bit 0 write, the rest as in Unmap: pages that
    /// are in transit come back.
    /// Rights: as Map.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped), WriteExecute
    /// (detail: the address), NoPage (the first, of the pool), InUse (to be written, while other
    /// spaces see it), Forbidden.
    Protect = 46 {
        takes
            [space(0), frame(1, TO_MAP)],
            [space(0), frame(1, TO_WRITE)] when "to write",
            [space(0)] when "in the pool";
        labels READ | WRITE;
    }
    /// Makes the kernel try something that its protections forbid. Only in test builds; all others
    /// refuse.
    ///
    /// In: rdi = Machine; rsi = number of an `Attempt` of the crate `test-abi`; rdx = address, if
    /// that attempt takes one. Out: rdi = 0 if it succeeded; else the exception that stopped it
    /// (bits 32 and up) and its error code.
    /// Rights: DUMP.
    /// Errors: NotBuilt, BadArgument.
    MachineAttempt = 47 {
        takes [machine(0, machine_rights::DUMP)];
        acts_for Machine;
    }
    /// Reads and clears the accessed bits of mapped pages of a frame. The result is a hint: no TLB
    /// is flushed, and a CPU that still has a translation does not note the next use. It reads all
    /// pages or none.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r9 = first page; r10 = how many, as in Map, 64
    /// at most. Out: rdi = which were used, bit 0 the first; rsi = which were written since they
    /// were mapped, which is not cleared.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress (detail: where the page is not mapped).
    Accessed = 48 {
        takes [space(0), frame(1, TO_MAP)];
    }
    /// Pins a frame, for a device to read or write. While it is pinned, its last capability cannot
    /// be deleted, and its memory is used for nothing else. Pins are counted.
    ///
    /// In: rdi = frame; rsi = Machine. Out: rdi = physical address of its first byte; its pages are
    /// contiguous. rsi = how often it is pinned now.
    /// Rights: DMA of both.
    /// Errors: Dying, Full (it is pinned 2³² − 1 times), InUse (a pool has a page of it).
    FramePin = 49 {
        takes [frame(0, frame_rights::DMA), machine(1, machine_rights::DMA)];
        told Pin;
    }
    /// Takes a pin back, also one that another task set. The caller must know that no device uses
    /// the frame any more.
    ///
    /// In: rdi = frame; rsi = Machine. Out: rsi = how often it is still pinned.
    /// Rights: DMA of both.
    /// Errors: BadState (it is not pinned).
    FrameUnpin = 50 {
        takes [frame(0, frame_rights::DMA), machine(1, machine_rights::DMA)];
        told Pin;
    }
    /// Makes a frame of device memory: of physical pages that are neither RAM nor the interrupt
    /// controllers of the CPUs, or that hold firmware's tables. It is mapped uncached or
    /// write-combining, not to be executed, and never cleared. The Untyped provides the kernel's 32
    /// bytes for each page.
    /// Resetting the Untyped ends the frame.
    ///
    /// In: rdi = Machine; rsi = Untyped; rdx = CNode and empty slot; r8 = physical address; r9 =
    /// size, as Retype has it for a Frame; r10 = how it is mapped (bit
    /// 0: write-combining). Out: rdi = bytes left in the Untyped.
    /// Rights: DEVICE; GRANT of the CNode where it is not the caller's own.
    /// Errors: BadArgument, BadAddress (not on a page boundary, or not all of it is such memory),
    /// InUse (another frame has a part of it), Full (the kernel has as many frames of device memory
    /// as it can), SlotOccupied, NoMemory (detail: bytes left), Dying, Forbidden.
    DeviceFrame = 51 {
        takes [machine(0, machine_rights::DEVICE), untyped(1), store(2)];
        labels GRANT;
        told Grant;
    }
    /// Copies a copy-on-write page of a pool: a page of a frame with the same contents replaces it
    /// in the pool, writable. If no other space sees the page any more, the page itself becomes
    /// writable.
    ///
    /// In: rdi = VSpace; rsi = frame; rdx = address; r8 = 0; r9 = which page of the frame. Out:
    /// rdi = 1 where the frame's page was used, else 0.
    /// Rights: MAP of both; WRITE of the frame.
    /// Errors: BadArgument (detail: 1: the frame is device memory), BadAddress, NoPage (no page of
    /// that size there that is to be copied), InUse (the frame's page is mapped, or another space
    /// copies to it), Dying, Forbidden.
    PageCopy = 52 {
        takes [space(0), frame(1, TO_WRITE)];
        labels READ | WRITE;
    }
    /// Moves pages of one pool to another, or lets both see them, as a message would.
    ///
    /// In: rdi = VSpace that has them; rsi = VSpace; rdx, r9 = the pages, as the words of a
    /// [`PageRange`](crate::PageRange); r8 = address there.
    /// Rights: MAP of both.
    /// Errors: BadArgument, BadAddress, NoPage (detail: the address), NoRoom (detail: the address
    /// that is taken, or has no table), InUse (the memory of a page is being given back), Full (a
    /// page has as many mappings as it can; detail: its address), Dying, Forbidden.
    PageTransfer = 53 {
        takes [space(0), space(1)];
        labels READ | WRITE;
    }
    /// Gives a process an event pool: its pages are mapped there, and events sent to any task of
    /// the process come into it. One task is the reader: the kernel raises bits in the Notification
    /// that is bound to it, and senders that find no room wait at its CPU. The pool belongs to the
    /// process until one of the two ends.
    ///
    /// In: rdi = EventPool; rsi = Process; rdx = Task; r8 = address; r9 = bits, not 0.
    /// Rights: LISTEN; CONFIGURE of the process; SCHEDULE of the task.
    /// Errors: BadArgument, BadAddress, BadState (the task is not one of the process's; the process
    /// has no address space), InUse (the pool has a process, or the process has a pool), Mapped,
    /// NoTables, Full, Dying, Forbidden.
    PoolBind = 54 {
        takes
            [
                pool(0, Rights::LISTEN),
                process(1, process_rights::CONFIGURE),
                task(2, task_rights::SCHEDULE),
            ];
        acts_for OfProcess(1);
        labels READ | WRITE;
        told Bind;
    }
    /// Puts a message into the event pool of an exposed task's process: registers and UTCB words,
    /// pages and capabilities, which go where the pool's first page says. If the pool is full, it
    /// waits after earlier senders until the reader has made room.
    ///
    /// In: rdi = target; rsi = deadline where flagged; message registers; UTCB words.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise. With capabilities: GRANT, likewise, and GRANT of each that
    /// is copied.
    /// Errors: TooLong, NotMember, NoExposure, NoPool, Dead (the exposed task, or, if the pool is
    /// full, its reader), Gone (the pool is full and has no reader; or it ended), Timeout,
    /// WouldBlock, Cancelled; those about page ranges and capabilities as Call.
    Send = 55 {
        takes
            [member(Rights::SEND)],
            [member(SEND_WORDS)] when "with UTCB words",
            [member(SEND_PAGES)] when "with page ranges",
            [member(SEND_CAPS)] when "with capabilities";
        labels GRANT | READ | WRITE;
        agreed "as a call; the receiver's process has an event pool, whose first page says where \
            capabilities and pages may come";
        told Grant;
    }
    /// Lets senders that wait for room in. A pool's reader calls this when it has read something
    /// and [`EventState::waiting`](crate::events::EventState::waiting) is not 0.
    ///
    /// In: rdi = EventPool.
    /// Rights: LISTEN.
    PoolRoom = 56 {
        takes [pool(0, Rights::LISTEN)];
    }
    /// Returns whether a process holds a capability of the same object as one that the caller
    /// holds, with these rights or more, anywhere in its CSpace. A group's capability counts with
    /// the rights that it has in that process, which the member record also limits; with DELETE,
    /// with the maker's. The answer was true at the moment the slot was read; a capability that is
    /// moved during the search may be missed. The search reads a bounded number of slots at a time;
    /// `r8` says where it continues.
    ///
    /// In: rdi = Process; rsi = capability; rdx = rights; r8 = first slot, 0 for all. Out: rdi =
    /// slot in the process's CSpace, 0 where there is none.
    /// Rights: OBSERVE.
    /// Errors: BadArgument, BadState (it has no CSpace).
    CapVerify = 57 {
        takes [process(0, process_rights::OBSERVE), any(1)];
    }
    /// Lists the capabilities of a CSpace: the contents of its full slots, from one slot on, into
    /// the UTCB's bulk words. It reads a bounded number of slots; for the rest, call again from the
    /// slot at which it ended.
    ///
    /// In: rdi = Process or CNode, and first slot. Out: rdi = slot at which to continue, 0 at the
    /// end; rsi = how many, in bulk words each as [`CapEntry`](crate::audit::CapEntry) has it.
    /// Rights: OBSERVE; the caller's own CNode needs none.
    /// Errors: BadState (the process has no CSpace).
    CapList = 58 {
        takes
            [look(0)] when "of a CNode",
            [process(0, process_rights::OBSERVE)] when "of a process";
    }
    /// Sends a message to every process that listens in a group (a member with LISTEN and an event
    /// pool), except the caller's own. It goes in the order of member records, to each at most
    /// once. At a full pool the call waits, as Send does, and then continues. A process that is a
    /// member all the time gets the message, or the call stops and says where. Each gets a share of
    /// the message's pages: copy-on-write, or read-only.
    ///
    /// In: rdi = group (index: [`Progress`](crate::events::Progress), 0 to begin); rsi = deadline
    /// where flagged; message registers; UTCB words. Out: rdi = how many got it.
    /// Rights: SEND, with UTCB words STRING too; each in the capability and in the member record.
    /// With page ranges: MAP, likewise.
    /// Errors: TooLong, NotMember, NoCapability (it carries none), BadAddress, NoPage (there is
    /// none, or it is to be moved). The next errors have the [`Progress`](crate::events::Progress)
    /// so far as detail, from which another call can continue, at that member or at the next:
    /// WouldBlock, Timeout, Cancelled. Gone (that member's pool is full and has no reader), Dead
    /// (its reader, which rsi names), NoRoom (its window is too small for the pages, or in use).
    /// Full (a page has as many mappings as it can), InUse (the memory of a page is being given
    /// back), Forbidden, Dying (the member's address space, or the caller's).
    Broadcast = 59 {
        takes
            [member(Rights::SEND)],
            [member(SEND_WORDS)] when "with UTCB words",
            [member(SEND_PAGES)] when "with page ranges";
        labels READ;
        agreed "the members' records have LISTEN, and their processes event pools, as for an event";
    }
    /// Ends all tasks of a process, on all CPUs. Tasks that wait for an answer of theirs wake with
    /// Dead. The process leaves all groups, its tasks are not exposed any more in the groups that
    /// its CSpace names, and it gives its CSpace and address space back. A process that one of its
    /// own tasks kills keeps its CSpace and address space, and its dead tasks stay exposed, until
    /// another process kills it, too. Killing a dead process is no error: it completes an
    /// unfinished kill.
    ///
    /// In: rdi = Process.
    /// Rights: DESTROY.
    /// Errors: NoCapability (its slot was emptied in the meantime; the kill is unfinished).
    ProcessKill = 60 {
        takes [process(0, process_rights::DESTROY)];
        acts_for OfProcess(0);
        told Kill, Withdraw, Leave, Death;
    }
    /// Sets the security label of an object. For a process, also sets the label of its CSpace,
    /// address space and tasks. Capabilities and mappings of the process stay. A task of the
    /// process runs with the label as soon as its CPU has taken its mail.
    ///
    /// In: rdi = Machine; rsi = capability of the object; rdx = label, below
    /// [`LABELS`](crate::audit::LABELS); 0: none.
    /// Rights: SECURITY.
    /// Errors: BadArgument, Dying, Forbidden (the object is a part of a process with another
    /// label).
    LabelSet = 61 {
        takes [machine(0, machine_rights::SECURITY), any(1)];
        acts_for Machine;
        same label;
        told Label;
    }
    /// Sets the rule for subjects of one label and objects of another. At first every rule allows
    /// everything. Subjects without label are not confined. Checks that are under way on other CPUs
    /// at that moment may use the old rule.
    ///
    /// In: rdi = Machine; rsi = label of subjects, not 0; rdx = label of objects; r8 = what the
    /// rule allows, of [`may`]. Out: rdi = what the old rule allowed.
    /// Rights: SECURITY.
    /// Errors: BadArgument.
    LabelRule = 62 {
        takes [machine(0, machine_rights::SECURITY)];
        acts_for Machine;
        told Rule;
    }
    /// Records every grant, revoke, denial and kill from now on ([`AuditEvent`]), in memory of an
    /// Untyped: a ring for each CPU, which loses its oldest records when it is full. The audit ends
    /// when the Untyped, or one around it, is reset.
    ///
    /// In: rdi = Machine; rsi = Untyped; rdx = base-2 logarithm of the records that each ring has
    /// room for, 4 to 12, of 64 bytes; all rings together have 2 MiB at most. Out: rdi = how many
    /// CPUs.
    /// Rights: SECURITY.
    /// Errors: BadArgument, InUse (there is an audit already), NoMemory (detail: bytes left),
    /// Dying.
    AuditStart = 63 {
        takes [machine(0, machine_rights::SECURITY), untyped(1)];
        acts_for Machine;
        told Began;
    }
    /// Reads records of a CPU's ring, in order, 32 at most, into the UTCB's bulk words: eight words
    /// each ([`Record`](crate::audit::Record)).
    ///
    /// In: rdi = Machine (index: CPU); rsi = number of the first record wanted, from 0. Out: rdi =
    /// how many there are; rsi = the number to continue with; rdx = how many earlier records were
    /// overwritten.
    /// Rights: SECURITY.
    /// Errors: NoCpu, BadState (there is no audit).
    AuditRead = 64 {
        takes [machine(0, machine_rights::SECURITY)];
    }
    /// Reports a member of a group: the first from an index on. It reads a bounded number of
    /// records at a time; `rdi` says where it continues.
    ///
    /// In: rdi = group (index: member). Out: rdi = the identity of its process, which CapInspect
    /// shows, 0 if no record from there on has a member; rsi = index; rdx = rights; r8 = custom
    /// bits.
    /// Rights: LISTEN, as ADD in GroupAdd.
    /// Errors: NotMember.
    GroupMember = 65 {
        takes [maker(Rights::LISTEN)];
    }
    /// Adds a CNode to a process's CSpace, for as long as the process lives. Its slot numbers
    /// continue after the existing ones. Its first slot, slot 0 of the CNode, stays empty.
    ///
    /// In: rdi = Process; rsi = CNode. Out: rdi = number of its slot 1 in the CSpace.
    /// Rights: CONFIGURE, or the caller's own process; GRANT of the CNode.
    /// Errors: BadState (the process has no CSpace), InUse (the CNode serves a process), Full (the
    /// CSpace has 16), Forbidden (they have different labels), Dying.
    CSpaceGrow = 66 {
        takes [OWN_PROCESS, cnode(1)];
        acts_for OfProcess(0);
        same label;
        told Bind;
    }
    /// Reads the vector registers of a suspended task of this CPU, in XSAVE's standard format, from
    /// a word on: up to [`VECTOR_WORDS_AT_ONCE`](crate::VECTOR_WORDS_AT_ONCE) into the UTCB's bulk
    /// words. They are the registers at its interrupt or fault, or those that were written to it.
    /// In a system call a task's vector registers are dead and read as the initial ones.
    ///
    /// In: rdi = task; rsi = first word. Out: rdi = words read; rsi = words in all.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState (it is not suspended, or has no vector
    /// state), BadArgument.
    TaskReadVector = 67 {
        takes [task(0, task_rights::REGISTERS)];
        acts_for OfTask(0);
    }
    /// Writes the vector registers of a suspended task of this CPU, in the same format. The task
    /// must be one that TaskWriteRegs could write: it was interrupted, is fresh, or had its
    /// registers written. The kernel clears what no CPU could have saved: missing components and
    /// bits of MXCSR, and the rest of the header.
    ///
    /// In: rdi = task; rsi = first word; rdx = how many, in the UTCB's bulk words.
    /// Rights: REGISTERS.
    /// Errors: WrongCpu (detail: the task's), BadState (it is not suspended, has no vector state,
    /// waits, or is in a system call), BadArgument.
    TaskWriteVector = 68 {
        takes [task(0, task_rights::REGISTERS)];
        acts_for OfTask(0);
    }
    /// Extends what a SchedControl allows, never beyond what another one does. Its ceiling is set
    /// when it is extended for the first time, and stays. Nothing is taken back later: what was
    /// set and started by a SchedControl stays when its capabilities are revoked, and so do the
    /// SchedControls that it extended.
    ///
    /// All SchedContexts together that a SchedControl with *room* sets have budgets of at most so
    /// much, and none is without a budget. Room is set with the ceiling, and stays. A SchedControl
    /// that is extended by one with room shares it.
    ///
    /// In: rdi = SchedControl by whose authority; rsi = SchedControl to be extended; rdx = its
    /// ceiling, 0 to 255; r8 = a CPU, multiple of 64; r9 = the CPUs to cover, bit 0 is that one;
    /// r10 = room in ten-thousandths of a CPU; 0: without limit. If the first has room: 0.
    /// Rights: SCHEDULE; CONFIGURE of the one to be extended.
    /// Errors: BadArgument, OverLimit (detail: the ceiling of the first, or all ones if that does
    /// not cover all of these CPUs), BadState (it has another ceiling or room; detail: the
    /// ceiling), Full (too many SchedControls have room of their own), Dying.
    SchedAllow = 69 {
        takes [
            control(0, sched_control_rights::SCHEDULE),
            control(1, sched_control_rights::CONFIGURE),
        ];
    }
    /// Moves a task to another CPU, with its CPU time, its Notification, and the callers that wait
    /// for it. There it continues, or waits, as before. A suspended task stays suspended. A task
    /// that waits in a call, for bits or for a lock moves when that wait is over, before it runs
    /// again. A task that serves a call moves when it has answered: before it receives the next
    /// one, and if it keeps calls in Replies, after the last of them. Until then it has a place on
    /// both CPUs. The last TaskMove decides; one to the CPU where the task is takes an earlier one
    /// back.
    ///
    /// In: rdi = SchedControl that covers the CPU; rsi = task; rdx = CPU, and perhaps the sequence
    /// number of the task's own SchedContext ([`Seen`](crate::status::Seen)). Out: rdi = 1 if it
    /// moves later, 0 if it has moved or stays where it is.
    /// Rights: SCHEDULE; SCHEDULE of the task.
    /// Errors: NoCpu, OverLimit (the SchedControl does not cover the CPU, or the task's time may
    /// not run there), Parked, BadState (the task is not configured, or dead), WouldBlock (it is in
    /// the middle of a system call that gives pages or capabilities away; or its time is on another
    /// CPU, and has no number to compare), Stale, Dying.
    TaskMove = 70 {
        takes [control(0, sched_control_rights::SCHEDULE), task(1, task_rights::SCHEDULE)];
        acts_for OfTask(1);
    }
    /// Makes a CPU report to an event pool what it does ([`crate::status`]): when it begins and
    /// ends to idle, and what SchedContexts do there that are watched from the pool. A CPU reports
    /// to one pool. It stops when the pool leaves its process.
    ///
    /// In: rdi = Machine (index: CPU); rsi = EventPool, which has a process; 0: the CPU reports to
    /// nobody from now on; rdx = number of the CPU's status word there.
    /// Rights: SECURITY; LISTEN of the pool.
    /// Errors: NoCpu, BadArgument (the pool does not have the status word), BadState (the pool has
    /// no process), InUse (the CPU reports to another pool), Dying.
    CpuWatch = 71 {
        takes
            [machine(0, machine_rights::SECURITY), pool(1, Rights::LISTEN)],
            [machine(0, machine_rights::SECURITY)] when "to stop it";
        acts_for Machine;
    }
    /// Gives a SchedContext, wherever it is, a status word in an event pool, and says which events
    /// of it the pool gets ([`crate::status`]). It is told by CPUs that report to the pool. A
    /// SchedContext has one status word: the last one that it was given.
    ///
    /// In: rdi = SchedContext; rsi = EventPool; 0: it has none from now on; rdx = number of the
    /// status word; r8 = bits of [`SchedEvent`](crate::status::SchedEvent).
    /// Rights: OBSERVE; LISTEN of the pool.
    /// Errors: BadArgument, BadState (its CPU does not report to the pool), Dying.
    SchedWatch = 72 {
        takes
            [time(0, sched_rights::OBSERVE), pool(1, Rights::LISTEN)],
            [time(0, sched_rights::OBSERVE)] when "to stop it";
    }
    /// Waits for a lock that another task has. The wait is an implicit call to the owner: the
    /// owner goes on with the waiter's CPU time if that outranks its own. The kernel reads the
    /// lock's word, and compares it with what the caller has read. It returns immediately if they
    /// differ, and otherwise when the owner passes the lock on. Either way nobody has got the lock:
    /// the caller looks at the word again.
    ///
    /// In: rdi = group; rsi = deadline where flagged; rdx = Frame (index: the word's number in it);
    /// r8 = the word as the caller has read it, with the bit
    /// [`WAITS`](crate::LockWord::WAITS).
    /// Rights: SEND, in the capability and in the member record; MAP of the Frame.
    /// Errors: NotMember, BadArgument (the Frame does not have the word, or is of a device; the bit
    /// is not set; the index leads to another task on each CPU), OwnerDied, Deadlock, Timeout,
    /// WouldBlock, Cancelled, InUse (the page is in a pool), Forbidden, Dying.
    LockWait = 73 {
        takes [member(Rights::SEND), frame(2, TO_MAP)];
        labels READ;
        agreed "the owner is exposed by a holder of LISTEN";
    }
    /// Wakes the tasks that wait for the caller to pass a lock on: first the best of them, and then
    /// the others, by mail. If the caller passes two locks on in quick succession, tasks that
    /// wait for its other locks may wake, too. The kernel does not look at the lock's word.
    ///
    /// In: rdi = Frame (index: the word's number in it).
    /// Rights: MAP.
    /// Errors: BadArgument (the Frame does not have the word).
    LockPass = 74 {
        takes [frame(0, TO_MAP)];
    }
    /// Parks a CPU, which has to be without tasks, or ends that. A parked CPU takes no task:
    /// TaskConfigure and TaskMove answer Parked. It halts, whatever other CPUs do without work, and
    /// serves only what other CPUs ask of it. A task has its place on the CPU where it is to run,
    /// from TaskConfigure until its end, and also while it waits. One that moves later has its
    /// place on the CPU that it is to leave, too.
    ///
    /// In: rdi = Machine (index: CPU); rsi = 1 to park it, 0 to end that. Out: rdi = 1 if it was
    /// parked before, 0 if not.
    /// Rights: SECURITY.
    /// Errors: NoCpu, BadArgument, InUse (detail: how many tasks it has).
    CpuPark = 75 {
        takes [machine(0, machine_rights::SECURITY)];
        acts_for Machine;
    }
    /// Reports how many tasks a CPU has, whether it is parked, and for how long it has owed a sign
    /// of life. The question for a sign reaches the CPU as mail, like anything that other CPUs ask
    /// of it, and nobody waits for the sign. A CPU that owes one for long does not serve
    /// its mail.
    ///
    /// In: rdi = Machine (index: CPU); rsi = 1 to ask the CPU for a sign, 0 if not. Out: rdi = its
    /// tasks; rsi = 1 if it is parked, 0 if not; rdx = TSC ticks since it was asked for the sign
    /// that it owes, 0 if it owes none.
    /// Rights: INFO.
    /// Errors: NoCpu, BadArgument.
    CpuInfo = 76 {
        takes [machine(0, machine_rights::INFO)];
    }
    /// Gives an IrqHandler a line of the machine's interrupt controllers, or one of a device that
    /// interrupts by a message. It keeps the line until it ends, and no other IrqHandler can have
    /// it. Without an IrqHandler it says which message the device has to write: to the CPU where
    /// the line was bound.
    ///
    /// In: rdi = Machine; rsi = IrqHandler; 0: to ask for the message; rdx = number of the line, as
    /// firmware numbers them (global system interrupt), or from
    /// [`FIRST_MSI`](crate::devices::FIRST_MSI) on; r8 = how it signals: bits of
    /// [`devices::line`](crate::devices::line), 0 for a message. Out: without an IrqHandler rdi =
    /// physical address; rsi = 32-bit word.
    /// Rights: DEVICE; CONFIGURE of the IrqHandler.
    /// Errors: BadArgument (the machine has no such line, or an unknown bit), BadState (it has a
    /// line; or the line was not bound yet), InUse (another one has it), Dying.
    IrqAllow = 77 {
        takes
            [machine(0, machine_rights::DEVICE), irq(1, irq_rights::CONFIGURE)],
            [machine(0, machine_rights::DEVICE)] when "to ask for a message";
        acts_for Machine;
    }
    /// Says where interrupts go: which bits of a Notification they raise, and which CPU they
    /// interrupt. The line stays masked until the first IrqAck. The kernel masks it again at each
    /// interrupt. If the Notification ends, or its capability here is revoked, the line stays
    /// masked, and the IrqHandler can be bound again.
    ///
    /// In: rdi = SchedControl that covers the CPU; rsi = IrqHandler; rdx = Notification; 0: the
    /// interrupts go nowhere from now on; r8 = bits; r9 = CPU.
    /// Rights: SCHEDULE; HANDLE of the IrqHandler; NOTIFY of the Notification.
    /// Errors: BadArgument (no bits), NoCpu (or one that lines cannot interrupt; or the line is
    /// that of a message, which goes to the CPU where it was bound first), OverLimit (the
    /// SchedControl does not cover it), BadState (it has no line), InUse (it is bound), Full (the
    /// CPU has as many lines as it can; detail: how many), Dying.
    IrqBind = 78 {
        takes
            [
                control(0, sched_control_rights::SCHEDULE),
                irq(1, irq_rights::HANDLE),
                bits_at(2, Rights::NOTIFY),
            ],
            [control(0, sched_control_rights::SCHEDULE), irq(1, irq_rights::HANDLE)] when "to end it";
    }
    /// Lets the next interrupt come. A driver calls it first, and then looks what its device wants:
    /// what the device signals after that look interrupts again. If interrupts have taken time from
    /// a task that outranks the driver, the CPU takes no more of them for a while.
    ///
    /// In: rdi = IrqHandler.
    /// Rights: HANDLE.
    /// Errors: BadState (it is not bound), WouldBlock (detail: the time when to ask again).
    IrqAck = 79 {
        takes [irq(0, irq_rights::HANDLE)];
    }
    /// Gives an IoPort its range. It keeps that until it ends. Ranges may overlap.
    ///
    /// In: rdi = Machine; rsi = IoPort; rdx = first port; r8 = how many.
    /// Rights: DEVICE; CONFIGURE of the IoPort.
    /// Errors: BadArgument (there are no such ports, or none), BadAddress (the kernel uses one
    /// itself; detail: which), BadState (it has a range), Dying.
    PortAllow = 80 {
        takes [machine(0, machine_rights::DEVICE), port(1, port_rights::CONFIGURE)];
        acts_for Machine;
    }
    /// Reads an I/O port.
    ///
    /// In: rdi = IoPort; rsi = port; rdx = bytes: 1, 2 or 4. Out: rdi = what was read.
    /// Rights: READ.
    /// Errors: BadArgument (not all of it is in the range, or a wrong width).
    PortRead = 81 {
        takes [port(0, port_rights::READ)];
    }
    /// Writes an I/O port.
    ///
    /// In: rdi = IoPort; rsi = port; rdx = bytes: 1, 2 or 4; r8 = what to write.
    /// Rights: WRITE.
    /// Errors: BadArgument (not all of it is in the range, a wrong width, or a value that is
    /// wider).
    PortWrite = 82 {
        takes [port(0, port_rights::WRITE)];
    }
}
