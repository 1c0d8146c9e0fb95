//! Bounds of the kernel that programs do not see, in one place. The bounds that programs see are in
//! `abi`.
//!
//! Test builds make them tiny (feature `small-limits`), so that tests reach every limit, and every
//! operation takes several kernel entries.
//!
//! # Bounds that do not change
//! The hardware defines the 512 entries of a page table. Programs see the depth of a derivation
//! tree, the tables of a CSpace and the size of a Retype, and tests reach them.

/// Returns a bound: `small` in test builds with small limits, and else `normal`.
const fn limit<T: Copy>(normal: T, small: T) -> T {
    if cfg!(feature = "small-limits") { small } else { normal }
}

/// Pages that a message can have: programs see the normal bound.
pub const MESSAGE_PAGES_MAX: u64 = limit(abi::MESSAGE_PAGES_MAX, 4);

/// Most pages that one kernel entry lends to be shared and also transfers. Each further range of
/// them counts as [`abi::RANGE_PAGES`].
pub const LENT_AND_SENT: u64 = limit(16, 1);

/// Stamps of past shootdowns that one kernel entry removes from a message's pages, and from where
/// these arrive.
pub const STAMPS_SETTLED: u64 = limit(32, 2);

/// Most mappings that a page can have. A power of two: a count that has reached it has its bit set.
pub const MAPPED_MAX: u64 = limit(0x8000, 16);

/// Slots of a CSpace that one kernel entry looks at.
pub const HOLDING_LOOKS: usize = limit(256, 3);

/// Messages that an interrupt of a program takes from its CPU's mailbox.
pub const PROGRAM_MAIL: usize = limit(2, 2);

/// Messages that an interrupt of a program takes out of its CPU's mailbox to find better ones.
pub const SORT_STEPS: usize = limit(24, 3);

/// Calls that one kernel entry follows, up or down, and callers of a task that it checks. Longer
/// walks continue by mail, so a chain of calls may have any length.
pub const CALL_STEPS: usize = limit(12, 3);

/// Locks that a wait may follow, from its owner to the lock that this one waits for, and so on.
/// Longer chains count as cycles.
pub const LOCK_CHAIN: u64 = limit(64, 6);

/// Waiting calls and events that go along with a task to another CPU. The others follow one by one.
pub const START_CALLERS: usize = limit(8, 1);

/// Tasks that do not outrank the program, and that an interrupt of it wakes: by their deadlines,
/// and at the end of a grace period, a shootdown or a task.
pub const PROGRAM_WAKES: usize = limit(2, 1);

/// Priorities in which a CPU looks for a task whose grace period or shootdown is over.
pub const WAKE_LOOKS: usize = limit(16, 2);

/// Task numbers of a process to which one kernel entry sends a new label.
pub const LABEL_STEPS: usize = limit(64, 2);

/// Members that get a broadcast in one kernel entry.
pub const BROADCAST_STEPS: u16 = limit(16, 2);

/// UTCB words for which a member's share of a broadcast counts twice, thrice, and so on: 16 members
/// get a message without such words in one entry, and 4 one of 64 words.
pub const BROADCAST_WORDS: u16 = limit(20, 1);

/// Member records that one kernel entry of a broadcast looks at.
pub const BROADCAST_LOOKS: usize = limit(128, 3);

/// Member records that one kernel entry looks at.
pub const MEMBER_LOOKS: u32 = limit(128, 3);

/// Task numbers that one kernel entry looks at.
pub const NUMBER_LOOKS: usize = limit(256, 3);

/// Serial numbers that a CPU takes together.
pub const SERIAL_BLOCK: u64 = limit(1 << 10, 2);

/// Accounts of CPU time: SchedControls with room for budgets that do not share it.
pub const ACCOUNTS: usize = limit(256, 3);

/// Bits of a task's tag. Fewer bits only make tags repeat sooner.
pub const TAG_BITS: u32 = limit(32, 1);

/// Descendants of a deleted capability up to which all become one less deep. With more descendants
/// they keep their depth.
pub const RAISED_MAX: usize = limit(8, 2);

/// Queued calls that one receive refuses in one kernel entry, where the entry's work does not end
/// the receive before: in the first step of an operation that ends objects.
pub const REFUSED_STEPS: usize = limit(16, 2);

/// Pages that one kernel entry maps, unmaps, protects or copies.
pub const PAGE_STEPS: u64 = limit(64, 2);

/// Pages up to which a CPU forgets each by itself, and not all of the address space.
pub const FORGET_EACH: u64 = limit(8, 2);

/// Work that one kernel entry does, in instructions.
pub const ENTRY_WORK: u64 = limit(6 << 10, 1 << 9);

/// Work that an interrupt of a program does.
pub const INTERRUPT_WORK: u64 = limit(2_000, 1 << 9);

/// Work of a message from the mailbox. Loops that serve it spend more for all but their first step.
pub const MAIL_WORK: u64 = limit(900, 1 << 7);

/// Work of the end of a wait: the task gets an answer and becomes ready, here or on its own CPU.
pub const WAKE_WORK: u64 = limit(600, 1 << 7);

/// Work of a word of an event that is put into a pool.
pub const EVENT_WORD_WORK: u64 = limit(75, 1);

/// Work of a delete of a capability that is not its object's last.
pub const DELETE_WORK: u64 = limit(110, 1 << 7);

/// Work of the end of an object, besides its mappings, tasks and tables.
pub const END_WORK: u64 = limit(2000, 1 << 8);

/// Work of the end of a member record, without its watchers.
pub const RECORD_WORK: u64 = limit(250, 1 << 6);

/// Work of a message that says something to another CPU.
pub const SEND_WORK: u64 = limit(150, 1 << 5);

/// Work of a page that a space's pool drops or changes the access of, if no other pool has it.
pub const POOL_PAGE_WORK: u64 = limit(110, 1 << 6);

/// Work that comes on top if other pools have the page, too.
pub const SHARED_PAGE_WORK: u64 = limit(150, 1 << 6);

/// Work of a message with pages, without its ranges and pages: checks, words, and the wake of who
/// gets it.
pub const LOAD_WORK: u64 = limit(1_200, 1 << 7);

/// Work of a range of pages in a message, without its pages: each may be in other tables.
pub const RANGE_WORK: u64 = limit(700, 1 << 6);

/// Work of a page that is lent.
pub const LEND_WORK: u64 = limit(75, 1 << 6);

/// Work of a page that was checked for a message in vain.
pub const VAIN_WORK: u64 = limit(110, 1 << 6);

/// Work of the end of a mapping, without a shootdown.
pub const UNMAP_WORK: u64 = limit(350, 1 << 7);

/// Work that one kernel entry does while it holds the lock of a root. The entry may hold the lock
/// several times. It releases the lock earlier if another CPU waits for it.
pub const LOCK_WORK: u64 = limit(2 << 10, 1 << 7);

/// Rounds of waiting for the lock of a root after which a CPU leaves the line if it is wanted
/// elsewhere. A round takes about ten instructions.
pub const LOCK_ROUNDS: u64 = limit(80, 0);

/// Bytes that one kernel entry clears while it holds the lock of their Untyped.
pub const CLEAR_BYTES: u64 = 8 * LOCK_WORK;

/// Parts of 4 KiB of a large page that one kernel entry clears or copies, while it holds the page's
/// lock.
pub const CLEAR_PARTS: u64 = limit(CLEAR_BYTES / abi::PAGE_SIZE, 1);
