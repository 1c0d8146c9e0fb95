//! Records of tasks with their message blocks, and of SchedContexts.

use crate::values::{RequestKind, Stage, State};

record! {
    /// A task.
    object Task = "task" {
        /// Its TaskId; 0: it is not configured.
        id: u64,
        /// Which of its process's task numbers it has, or had last.
        number: u32,
        /// The process whose task number it has.
        bound_to: u64,
        /// The identity of the process that it belongs to, or belonged to when it ended.
        of_process: u64,
        /// Its tag: bits of its id.
        tag: u32,
        /// The CPU that owns it, or will.
        home: u32,
        /// It is under way to that CPU.
        under_way: bool,
        /// What it is doing.
        state: State,
        /// It has the plain bit.
        plain: bool,
        /// It is suspended.
        suspended: bool,
        /// It waits for the answer to its fault.
        in_fault: bool,
        /// It has vector state.
        vector: bool,
        /// The home that its state word names.
        state_home: u32,
        /// The tag that its state word has.
        state_tag: u32,
        /// The security label that its state word names.
        state_label: u32,
        /// What a receive finds besides a call: bit 0 = senders, bit 1 = bits, bit 2 = a fault.
        pending: u32,
        /// Its process.
        process: u64,
        /// The SchedContext of others that it has while it does not run.
        borrowed: u64,
        /// The SchedContext that is bound to it.
        own_context: u64,
        /// The caller that it serves.
        caller: u64,
        /// The caller whose CPU time it has, or has lent on.
        lender: u64,
        /// The first caller in its queue.
        senders: u64,
        /// The last.
        senders_last: u64,
        /// The first sender that waits for room in the pool that it reads.
        posters: u64,
        /// The last.
        posters_last: u64,
        /// The first task that waits for a lock that it has.
        lock_waiters: u64,
        /// The last.
        lock_waiters_last: u64,
        /// The first task that waits for its death.
        death_waiters: u64,
        /// The last.
        death_waiters_last: u64,
        /// The first Reply that keeps a call for it.
        replies: u64,
        /// The Notification that is bound to it.
        bound: u64,
        /// The Notification that it waits for.
        waits_for: u64,
        /// Its deadline.
        deadline: u64,
        /// Its rank in the heap of deadlines; 0: it has no deadline.
        deadline_rank: u32,
        /// Its parent in that heap.
        deadline_parent: u64,
        /// Its left child.
        deadline_left: u64,
        /// Its right child.
        deadline_right: u64,
        /// Why its message was recalled, as an error number; 0: it was not.
        recall: u32,
        /// It is being killed.
        ending: bool,
        /// Its frame has all registers.
        full_frame: bool,
        /// Its process, as any CPU may read.
        owner: u64,
        /// Its address space, as any CPU may read.
        space: u64,
        /// The target that handles its faults, in its process's CSpace; 0: that of its process.
        fault_handler: u64,
        /// The page of its UTCB.
        utcb: u64,
        /// Where that is mapped.
        utcb_address: u64,
        /// The first of the CNodes without capabilities that it has to empty.
        zombies: u64,
        /// Its control bits.
        control: u64,
        /// It is to receive what it could not receive in one entry.
        receives_on: bool,
        /// It is to get the security label of its process.
        label_comes: bool,
        /// The owner of the mailbox node that carries them.
        control_node: u32,
        /// Suspend was asked for last, not resume.
        to_suspend: bool,
        /// The CPU that it moves to when it is first resumed.
        starts_on: u32,
        /// The grace period that it waits for.
        wait_epoch: u64,
        /// A hash of the message words in its UTCB.
        utcb_hash: u64,
        /// The CPU that owns its message block, or will.
        message_home: u32,
        /// The message block is under way to that CPU with its task.
        message_under_way: bool,
        /// The owner of the mailbox node that carries the message block.
        message_node: u32,
        /// Where the message block stands.
        stage: Stage,
        /// The task that has the call, or will receive it.
        callee: u64,
        /// The Reply that keeps the call.
        held: u64,
        /// The message is an event.
        is_event: bool,
        /// The message is a wait for a lock.
        is_lock_wait: bool,
        /// The SchedContext that travels with the message block.
        message_context: u64,
        /// What the message block asks of another CPU.
        request: RequestKind,
        /// The object of that request.
        request_about: u64,
        /// The Frame that has the lock's word, in a wait for a lock that is under way.
        request_frame: u64,
        /// Its shootdown.
        request_stamp: u64,
        /// It stands in a queue: 0 = no, 1 = as the first of its priority, 2 = behind another.
        queue_place: u32,
        /// Its priority there.
        queue_priority: u32,
        /// The next in the queue.
        queue_next: u64,
        /// The previous.
        queue_prev: u64,
        /// The first of the next lower priority.
        queue_lower: u64,
        /// The first of the next higher priority.
        queue_higher: u64,
    }
}

record! {
    /// What a task that does not run has in its registers, as the kernel has saved them.
    Registers = "saved-registers" {
        /// The task.
        task: u64,
        /// RAX.
        rax: u64,
        /// RDI.
        rdi: u64,
        /// RSI.
        rsi: u64,
        /// RDX.
        rdx: u64,
        /// R8.
        r8: u64,
        /// R9.
        r9: u64,
        /// R10.
        r10: u64,
        /// R12.
        r12: u64,
        /// RIP.
        rip: u64,
        /// RSP.
        rsp: u64,
        /// RFLAGS.
        rflags: u64,
        /// The FS base that every exit from a system call sets.
        fs_base: u64,
        /// The GS base of that kind.
        gs_base: u64,
        /// RBX.
        rbx: u64,
        /// RCX.
        rcx: u64,
        /// RBP.
        rbp: u64,
        /// R11.
        r11: u64,
        /// R13.
        r13: u64,
        /// R14.
        r14: u64,
        /// R15.
        r15: u64,
        /// The FS base as an interrupt found it.
        fs: u64,
        /// The GS base of that kind.
        gs: u64,
        /// DR0.
        dr0: u64,
        /// DR1.
        dr1: u64,
        /// DR2.
        dr2: u64,
        /// DR3.
        dr3: u64,
        /// DR7.
        dr7: u64,
    }
}

record! {
    /// What a task's message block carries, beside the links and the request in [`Task`].
    Call = "call" {
        /// The task.
        task: u64,
        /// Which of its messages to other CPUs it is.
        number: u32,
        /// The message word.
        info: u64,
        /// The first message register.
        mr0: u64,
        /// The second.
        mr1: u64,
        /// The third.
        mr2: u64,
        /// The fourth.
        mr3: u64,
        /// The index of the exposure that was called.
        exposure: u32,
        /// The custom bits that the receiver sees.
        custom: u32,
        /// The TaskId that the receiver sees.
        sender: u64,
        /// The error number of a reply on its way; 0: none.
        error: u32,
    }
}

record! {
    /// A SchedContext.
    object Context = "context" {
        /// The CPU that owns it, or will.
        home: u32,
        /// It is under way to that CPU.
        under_way: bool,
        /// The task that has it.
        task: u64,
        /// The task that it is bound to.
        owner: u64,
        /// Its priority.
        priority: u32,
        /// On which of the CPUs 0 to 63 it may run, as bits.
        cpus: u64,
        /// Its slice never ends.
        endless: bool,
        /// The ticks of a slice; 0: it was never set.
        slice: u64,
        /// The ticks of its budget; 0: it has none.
        budget: u64,
        /// The ticks of a window of its budget.
        period: u64,
        /// When the present window ends; 0: it has no budget.
        window_ends: u64,
        /// The number of the account of CPU time in which its budget has a share; 0: in none.
        account: u64,
        /// The share, in ten-thousandths of a CPU.
        share: u32,
        /// How many of them were left when its time was last counted.
        remaining: u64,
        /// The ticks that it has spent until then.
        consumed: u64,
        /// One more than the priority under which it is queued; 0: it is not.
        queue_rank: u32,
        /// The next in the queue of that priority.
        queue_next: u64,
        /// The previous.
        queue_prev: u64,
        /// What it does, as its CPU has told last (`abi::status::Doing`); 0: the CPU tells
        /// nothing of it.
        told: u32,
        /// The number of its CPU's count of ready contexts in which it is; 0: in none.
        counted: u64,
    }
}
