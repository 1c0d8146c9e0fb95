//! Records of capabilities, processes, groups, and of objects that one CPU owns.

use crate::values::SlotUse;

record! {
    /// What belongs to no object and to no CPU, and the limits that the kernel was built with.
    Kernel = "kernel" {
        /// How many CPUs there are.
        cpus: u32,
        /// Most mappings of one page.
        mappings_max: u32,
        /// Most callers of a task that one kernel entry looks at.
        call_steps: u32,
        /// Greatest depth of a derivation tree.
        depth_max: u32,
        /// Most tables of a CSpace.
        tables_max: u32,
        /// Most steps of one kernel entry; 0: nobody counts.
        steps_max: u64,
        /// The count of grace periods.
        epoch: u64,
        /// Somebody changes which task empties which CNodes.
        zombies_locked: bool,
        /// Somebody changes which process has which spaces.
        spaces_locked: bool,
        /// The time.
        now: u64,
        /// There are no records of Untypeds, CNodes, VSpaces, frames and pages: no rule can be
        /// applied.
        without_memory: bool,
    }
}

record! {
    /// A derivation root of which there is something to say.
    Root = "root" {
        /// Its number.
        id: u32,
        /// A CPU holds its lock. Its tree may be half changed.
        locked: bool,
        /// The first of the processes that were made of its memory.
        processes: u64,
    }
}

record! {
    /// What subjects of a security label may not do with objects of another. Pairs that allow
    /// everything are left out.
    LabelRule = "label-rule" {
        /// The label of subjects.
        subject: u32,
        /// The label of objects.
        object: u32,
        /// What is forbidden: a bit each, as `abi::audit::may` has them.
        forbidden: u32,
    }
}

record! {
    /// A table of capability slots.
    object CNode = "cnode" {
        /// Where its slots are.
        slots_at: u64,
        /// How many slots it has.
        slots: u32,
        /// The process whose CSpace it is part of.
        process: u64,
        /// The next table of that CSpace.
        more: u64,
        /// The next CNode in the ring of those that must be emptied.
        next_zombie: u64,
        /// The next CNode in the list of those that one task empties.
        next_listed: u64,
        /// The task whose list begins with it.
        worker: u64,
    }
}

record! {
    /// A capability slot that is not empty, or that is linked.
    Slot = "slot" {
        /// Where it is.
        at: u64,
        /// The CNode, Group or EventPool that it is part of.
        table: u64,
        /// Its number there.
        number: u32,
        /// How it is used.
        used: SlotUse,
        /// The object type of the capability.
        kind: u8,
        /// The object.
        object: u64,
        /// The rights.
        rights: u32,
        /// The depth in the derivation tree.
        depth: u32,
        /// Its floor there: it descends from slots before it whose depth is less.
        floor: u32,
        /// The badge.
        badge: u64,
        /// The next slot of the tree.
        next: u64,
        /// The previous slot.
        prev: u64,
    }
}

record! {
    /// A process.
    object Process = "process" {
        /// Its key, by which member records name it.
        key: u64,
        /// The next process of its root.
        next: u64,
        /// The previous process of its root.
        prev: u64,
        /// The first table of its CSpace.
        cnode: u64,
        /// Its address space.
        vspace: u64,
        /// Its event pool.
        pool: u64,
        /// The event pool that is mapped in its address space, wholly or in part.
        placed_pool: u64,
        /// Where the fastpath finds its slots; 0: nowhere.
        cspace_at: u64,
        /// How many.
        cspace_len: u64,
        /// The first of its memberships.
        memberships: u64,
        /// Somebody holds the lock of that list, and of the task numbers. The list is unknown then.
        locked: bool,
        /// How many task numbers it has.
        task_numbers: u32,
        /// All task numbers below are in use.
        free_number: u32,
        /// The target that handles the faults of its tasks, in its own CSpace; 0: none.
        fault_handler: u64,
        /// The tasks with numbers below have got the label.
        label_told: u32,
        /// The slot that it offers for a membership; 0: none.
        offer_slot: u32,
        /// The identity of the group, or of the process that adds, to which it offers that.
        offer_from: u64,
        /// Its tasks have vector state.
        vector: bool,
    }
}

record! {
    /// A task number that a task has.
    TaskNumber = "task-number" {
        /// The process.
        process: u64,
        /// The number.
        number: u32,
        /// The task that has it.
        task: u64,
    }
}

record! {
    /// A group.
    object Group = "group" {
        /// How many members it has.
        count: u32,
        /// All records before this one are in use.
        free: u32,
        /// How many records there is room for.
        members: u32,
        /// How many exposures there is room for.
        exposures: u32,
        /// Which of the first 64 exposures may be watchers: a bit each.
        watched: u64,
    }
}

record! {
    /// A member record that is in use, or whose place in a process's list is.
    Member = "member" {
        /// Where its place in that list is.
        at: u64,
        /// The group that has the record.
        group: u64,
        /// Its number there.
        number: u32,
        /// What it says; 0: it is empty.
        word: u64,
        /// The rights in it.
        rights: u32,
        /// The custom bits in it.
        custom: u32,
        /// The key of the process in it.
        process_key: u64,
        /// The process that its place names.
        place_process: u64,
        /// The group that its place in the list names.
        place_group: u64,
        /// The next place in the list.
        next: u64,
        /// The previous place.
        prev: u64,
    }
}

record! {
    /// An exposure that is not empty, or an entry of one that has a task for each CPU.
    Exposure = "exposure" {
        /// The group.
        group: u64,
        /// Its number there.
        number: u32,
        /// Its slot.
        slot: u64,
        /// The tag that an exposed task must have.
        tag: u32,
        /// One more than the number of the first exposure of one task for each CPU; 0: it is none
        /// of that kind.
        per_cpu: u32,
        /// One more than the shift of the bits of a watcher; 0: it is none.
        watch: u32,
        /// The identity of the process that has exposed this.
        owner: u64,
        /// One more than the number of the exposure of one task for each CPU that it is an entry
        /// of; 0: of none.
        part_of: u32,
    }
}

record! {
    /// A Notification.
    object Notification = "notification" {
        /// The CPU that owns it, or will.
        home: u32,
        /// It is under way to that CPU.
        under_way: bool,
        /// Its bits.
        bits: u64,
        /// The task that waits for it.
        waiter: u64,
        /// The task that it is bound to.
        bound: u64,
        /// Bits that other CPUs have raised.
        remote: u64,
        /// The owner of the mailbox node that announces them.
        node: u32,
    }
}

record! {
    /// A Reply.
    object Reply = "reply" {
        /// The CPU that owns it, or owned it last.
        home: u32,
        /// No CPU owns it.
        unclaimed: bool,
        /// The caller whose call it keeps.
        caller: u64,
        /// The task that keeps the call.
        server: u64,
        /// The next Reply of that task.
        next: u64,
        /// The previous one.
        prev: u64,
    }
}

record! {
    /// An event pool.
    object Pool = "pool" {
        /// Its process.
        process: u64,
        /// The slot that has its reader.
        reader: u64,
        /// The process in whose address space its pages are, or some of them.
        placed: u64,
        /// Where its pages are in that process.
        address: u64,
        /// How many of them are there, from the first on.
        mapped: u32,
        /// Where they are in memory.
        base: u64,
        /// How many pages it has.
        pages: u32,
        /// How many of them, from the first on, the process writes.
        writable_pages: u32,
        /// Nobody puts an event there before those who wait for room.
        closed: bool,
        /// Somebody changes whose it is.
        locked: bool,
        /// How many cells for events it has, as a base-2 logarithm.
        log2: u32,
        /// How many cells were reserved, since it was made.
        reserved: u64,
        /// Its bits.
        bits: u64,
    }
}

record! {
    /// A SchedControl.
    object Control = "control" {
        /// One more than the highest priority that it allows; 0: none.
        bound: u32,
        /// Which of the CPUs 0 to 63 it covers, as bits.
        cpus: u64,
        /// The number of the account of CPU time that it has; 0: it has none.
        account: u64,
    }
}

record! {
    /// The interrupt of a device.
    object Irq = "irq" {
        /// The number of its line + 1; 0: it has none.
        line: u32,
        /// How the line signals (`abi::devices::line`).
        signals: u32,
        /// The CPU that it interrupts + 1; 0: none.
        cpu: u32,
        /// Its place in that CPU's table.
        place: u32,
        /// The bits that it raises.
        bits: u64,
        /// The slot with the Notification.
        target: u64,
    }
}

record! {
    /// A line of the machine's interrupt controllers that an IrqHandler has.
    Line = "line" {
        /// Its number + 1.
        number: u32,
        /// The IrqHandler.
        irq: u64,
    }
}

record! {
    /// A place of a CPU's table of devices' interrupts that an IrqHandler has.
    Route = "route" {
        /// The CPU + 1.
        cpu: u32,
        /// The place.
        place: u32,
        /// The IrqHandler.
        irq: u64,
    }
}

record! {
    /// A range of I/O ports.
    object Port = "port" {
        /// The first one.
        first: u64,
        /// How many; 0: none.
        count: u64,
    }
}

record! {
    /// The object that stands for the machine.
    object Machine = "machine" {
    }
}
