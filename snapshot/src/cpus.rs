//! Records of CPUs: the running task, the queues, and the state of the hardware.

use crate::values::MailKind;

record! {
    /// A CPU's own state.
    Cpu = "cpu" {
        /// The CPU's number.
        id: u32,
        /// A kernel entry is under way there. Of what that CPU owns, rules say nothing then.
        busy: bool,
        /// The task that runs.
        current: u64,
        /// The SchedContext that the task spends.
        context: u64,
        /// The address space that the CPU shows to the others.
        vspace: u64,
        /// The security labels of tasks that the fastpath may switch to: a bit each.
        expects_labels: u32,
        /// The half of a state word that the fastpath expects of a task that receives.
        expects_receiver: u64,
        /// The half that it expects of a task that awaits a reply.
        expects_caller: u64,
        /// The half that it expects of a task that is ready and plain.
        expects_plain: u64,
        /// The CPU idles.
        idle: bool,
        /// When the SchedContext that is spent is used up.
        until: u64,
        /// The first SchedContext of the run queue, where that stands before all priorities.
        front: u64,
        /// One more than the highest priority that has a queue; 0: none.
        top: u32,
        /// Which of the words are not 0: a bit each.
        summary: u32,
        /// Which priorities have a queue: a bit each, in four words.
        word0: u64,
        /// The second of these words.
        word1: u64,
        /// The third.
        word2: u64,
        /// The fourth.
        word3: u64,
        /// The soonest deadline.
        soonest: u64,
        /// Before this time, deadlines of some priorities may wait after they have passed.
        expire_at: u64,
        /// The number of these priorities, from the lowest on.
        resting: u32,
        /// When the timer fires, as the kernel has it.
        timer: u64,
        /// The event pool that the CPU reports to.
        watch: u64,
        /// How many SchedContexts are ready there, as it reports.
        ready: u32,
        /// The number of that count.
        count_number: u64,
        /// How many tasks have their places there.
        residents: u32,
        /// It is parked: it takes no tasks.
        parked: bool,
        /// It was asked for a sign of life, and has not taken the question from its mailbox.
        owes_sign: bool,
        /// A grace period is under way that this CPU began.
        grace_busy: bool,
        /// The first task that waits for a grace period.
        grace_waiters: u64,
        /// The last of these.
        grace_waiters_last: u64,
        /// The first task whose message block waits here for the end of a shootdown.
        shootdown_waiters: u64,
        /// The last of these.
        shootdown_waiters_last: u64,
        /// The first task whose message block waits here for the answer that a task is dead.
        unanswered: u64,
        /// The last of these.
        unanswered_last: u64,
        /// The first task whose message block leaves here first, to follow its receiver.
        first_followers: u64,
        /// The last of these.
        first_followers_last: u64,
        /// The first task whose message block leaves here after those.
        followers: u64,
        /// The last of these.
        followers_last: u64,
        /// The task whose message block was sent to the CPU's own mailbox, to follow its receiver.
        sent_follower: u64,
        /// A drain has left mail behind, which nobody announces, or tasks rest that have to wake.
        more_mail: bool,
        /// When the CPU looks into its mailbox, if it defers its mail; otherwise all ones.
        look_at: u64,
        /// The mailbox is not empty.
        has_mail: bool,
        /// All shootdowns of this CPU up to this number are over.
        shootdowns_over: u64,
        /// The highest number of a shootdown that this CPU has begun.
        shootdowns_begun: u64,
        /// The most steps that one entry took; 0: nobody counted.
        steps: u64,
    }
}

record! {
    /// The queue of one priority in a CPU's run queue.
    Class = "class" {
        /// The CPU.
        cpu: u32,
        /// The priority.
        priority: u32,
        /// The first SchedContext.
        first: u64,
        /// The last.
        last: u64,
    }
}

record! {
    /// The deadlines of a priority on a CPU.
    Heap = "heap" {
        /// The CPU.
        cpu: u32,
        /// The priority.
        priority: u32,
        /// The root of the heap: a task.
        root: u64,
        /// The soonest deadline.
        soonest: u64,
    }
}

record! {
    /// A message in a CPU's mailbox. Messages are recorded in their order.
    Mail = "mail" {
        /// The CPU.
        cpu: u32,
        /// What it is.
        kind: MailKind,
        /// The task or Notification that it is about.
        about: u64,
    }
}

record! {
    /// What the hardware of a CPU says, where that can be looked at: on a simulated machine.
    Hardware = "hardware" {
        /// The CPU.
        cpu: u32,
        /// When the timer fires; all ones: never.
        timer: u64,
        /// The CR3 value of the address space that the CPU is in; 0: the kernel's own.
        cr3: u64,
        /// An interrupt is on its way.
        interrupted: bool,
        /// The CPU executes no program.
        waits: bool,
        /// It waits, and looks into its mailbox all the time.
        polls: bool,
    }
}

record! {
    /// A translation that a CPU remembers: on a simulated machine.
    Translation = "translation" {
        /// The CPU.
        cpu: u32,
        /// The CR3 value of the address space.
        cr3: u64,
        /// The address.
        address: u64,
        /// Where it leads.
        page: u64,
        /// The page's size, as a base-2 logarithm.
        log2: u32,
        /// It allows to write.
        write: bool,
        /// It allows to execute.
        execute: bool,
    }
}

record! {
    /// The generation of an address space that a CPU has seen last.
    Seen = "seen" {
        /// The VSpace.
        space: u64,
        /// The CPU.
        cpu: u32,
        /// The generation.
        generation: u64,
    }
}
