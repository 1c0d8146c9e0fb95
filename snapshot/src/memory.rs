//! Records of memory: Untypeds, frames, page tables, and entries of the frame table.

use crate::values::ExtentKind;

record! {
    /// Memory that the frame table knows.
    Range = "range" {
        /// Where it begins.
        at: u64,
        /// Its bytes.
        bytes: u64,
    }
}

record! {
    /// A piece of memory that an object uses.
    Extent = "extent" {
        /// Where it begins.
        at: u64,
        /// Its bytes.
        bytes: u64,
        /// The object; 0: the kernel.
        object: u64,
        /// What it is for.
        kind: ExtentKind,
    }
}

record! {
    /// An Untyped.
    object Untyped = "untyped" {
        /// The first of the CNodes without capabilities that belong to it.
        zombies: u64,
        /// Where its memory begins.
        base: u64,
        /// Its bytes.
        size: u64,
        /// Bytes carved from the bottom.
        low: u64,
        /// Bytes carved from the top.
        high: u64,
        /// A reset is under way.
        resetting: bool,
        /// That reset has revoked everything, and waits to start the memory again.
        revoked: bool,
    }
}

record! {
    /// An address space.
    object VSpace = "vspace" {
        /// What CR3 gets.
        cr3: u64,
        /// Where the first page table is; the others follow.
        base: u64,
        /// How many page tables there is room for.
        tables: u32,
        /// How many are in use.
        used: u32,
        /// The process that lives there.
        process: u64,
        /// The shootdown with which CPUs leave it; 0: none.
        leave: u64,
        /// Nothing is mapped any more.
        ending: bool,
        /// Somebody holds its lock.
        locked: bool,
        /// Counts translations that went.
        generation: u64,
        /// The CPUs that can remember translations of it: a bit each. CPUs from 64 on have none.
        homes: u64,
    }
}

record! {
    /// A page table that is in use.
    Table = "table" {
        /// Where it is.
        at: u64,
        /// The VSpace.
        space: u64,
        /// Its number among the VSpace's tables.
        number: u32,
        /// What the frame table says of its owner: the object type, 0 for none.
        owner_kind: u8,
        /// The owner there.
        owner: u64,
        /// What the frame table notes of it: the level in the low bits, and the first address.
        note: u64,
    }
}

record! {
    /// A page-table entry that is not empty.
    Entry = "entry" {
        /// Where it is.
        at: u64,
        /// The VSpace.
        space: u64,
        /// The level of its table, and the first address that it is for, as the table's note has
        /// them.
        level: u32,
        /// That address.
        address: u64,
        /// What it says, as the hardware reads it.
        word: u64,
        /// The next entry in the list of those that have the page.
        next: u64,
        /// The previous entry there.
        prev: u64,
    }
}

record! {
    /// A Frame.
    object Frame = "frame" {
        /// Where its memory begins.
        base: u64,
        /// The size of one page, as a base-2 logarithm.
        log2: u32,
        /// How many pages it has.
        pages: u32,
        /// It is device memory.
        device: bool,
        /// Its pages are mapped write-combining.
        combining: bool,
        /// How often it is pinned.
        pins: u32,
    }
}

record! {
    /// What the frame table says of a page. Pages of which it says nothing are left out.
    Info = "info" {
        /// The page.
        at: u64,
        /// It stands in a Frame of device memory, not in the frame table.
        device: bool,
        /// Somebody holds the lock. The counts and flags are unknown then.
        locked: bool,
        /// How often the page is mapped.
        mapped: u32,
        /// How often it is mapped to be written.
        writable: u32,
        /// How often it is mapped to be executed.
        executable: u32,
        /// CPUs may remember other mappings than there are.
        stale: bool,
        /// Its frame is being destroyed.
        dying: bool,
        /// Pools have it.
        pooled: bool,
        /// It was in a pool, and has not been cleared since.
        unclean: bool,
        /// The first entry in the list of those that have it.
        first: u64,
        /// The object type of its owner, 0 for none.
        owner_kind: u8,
        /// The owner.
        owner: u64,
        /// The last shootdown of a translation of it; of a page table its level and address.
        note: u64,
    }
}

record! {
    /// A place in the kernel's list of frames of device memory that has one.
    Device = "device" {
        /// The Frame.
        frame: u64,
    }
}
