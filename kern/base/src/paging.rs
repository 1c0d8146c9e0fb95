//! Page tables as objects: the format of their entries, and the links that lead from a frame to all
//! page-table entries that map it.
//!
//! An entry has the format of x86-64. The hardware reads entries at any time, and sets *accessed*
//! and *dirty* in them, so each is an atomic word that is always written whole. The kernel changes
//! them under the lock of their [`VSpace`](crate::memory::VSpace).
//!
//! # Entries that map nothing
//! An entry that maps nothing is empty or *gone*. *Gone* means that its page was unmapped, and that
//! CPUs may have translations until the shootdown whose stamp the entry has is over. Until then the
//! kernel maps no page there.
//!
//! # Pages of the pool
//! Pages that messages can carry ([`Pte::pooled`]) are mapped only by pools. While a page is moved
//! out of a space, its entry is *in transit*: not present, but its place stays reserved.
//!
//! # The list of a page's mappings
//! All entries that map one frame are in a list, whose head is in the frame's
//! [`FrameInfo`](crate::frames::FrameInfo). The names of an entry's two neighbours in the list are
//! in its VSpace's [`Links`], at the same index; a name is a physical address ([`EntryName`]).
//! Links change under the frame's lock. Most frames are mapped once and use no links: both are
//! zero.

use smp::sync::{AtomicU64, Ordering};

use smp::door::Vouched;
use smp::shootdown::Stamp;

use crate::machine::Access;
use crate::phys::{Phys, PhysPage};
use crate::protection::Protection;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// Levels of tables: the root is of level 4, and entries of level 1 map 4 KiB.
pub const LEVELS: u32 = 4;

const PRESENT: u64 = 1 << 0;
/// In an entry that is not present: what went there may be remembered.
const GONE: u64 = 1 << 1;
/// In such an entry, where the stamp begins.
const STAMP_SHIFT: u32 = 3;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Set by the hardware: the entry was used, and written through.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// The bits that choose a place of the page attribute table, of the four that are used. The machine
/// layer fills the table so: see [`Caching`].
const CACHING: u64 = 1 << 3 | 1 << 4;
const LARGE: u64 = 1 << 7;
/// The kernel's own, in an entry: memory that no Frame stands for, so in no list.
pub const PLAIN: u64 = 1 << 9;
/// The kernel's own: a page of the space's pool.
const POOL: u64 = 1 << 52;
/// A page of the pool that is copied when it is written.
const COPY: u64 = 1 << 53;
/// A page of the pool that was writable before a message borrowed it for sharing; the message has
/// not gone yet.
const LENT: u64 = 1 << 54;
/// In an entry that is not present: a page of the pool on its way out; and whether it could be
/// written.
const TRANSIT: u64 = 1 << 55;
const TRANSIT_WRITE: u64 = 1 << 56;
/// A page of the pool that a write copies, and of which a copy is being made. No other change of
/// the entry keeps it, except one that shares the page once more.
const COPYING: u64 = 1 << 57;
/// A page of the pool that came from another place as a share.
const VIEW: u64 = 1 << 58;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What entries that map a page have, by [`Access`].
const ALLOW: [u64; 3] = [PRESENT | USER | NO_EXECUTE, PRESENT | USER | NO_EXECUTE | WRITE, PRESENT | USER];

/// What the processor may keep of a page in its caches, and of writes to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Caching {
    /// Everything: memory.
    WriteBack = 0,
    /// Writes, for a while, to make few of many.
    WriteCombining = 1 << 3,
    /// Nothing: each access reaches the device, in its order.
    Uncached = 1 << 3 | 1 << 4,
}

/// A kind of pages of a pool: see [`Pte::own_kind`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnKind(u64);

impl OwnKind {
    /// Returns the address of the page of a page-table entry of this kind. For an entry of another
    /// kind the result has no meaning.
    #[inline(always)]
    pub const fn at(self, entry: Pte) -> Phys {
        Phys(entry.0 ^ self.0)
    }

    pub const fn access(self) -> Access {
        // A present entry has no bit of an entry in transit, nor the other way round.
        if self.0 & (WRITE | TRANSIT_WRITE) == 0 { Access::Read } else { Access::Write }
    }

    pub const fn is_present(self) -> bool {
        Pte(self.0).is_present()
    }
}

/// Returns the bit that a page-table entry for a page of 2^`log2` bytes has set: none for 4 KiB.
#[inline(always)]
const fn size_bit(log2: u8) -> u64 {
    if log2 == abi::PAGE_LOG2 { 0 } else { LARGE }
}

/// What the entries for all pages of one frame have in common: everything but the address.
#[derive(Clone, Copy)]
pub struct FramePte(u64);

impl FramePte {
    /// Makes the common part of entries that map pages of 2^`log2` bytes for user level.
    #[inline(always)]
    pub const fn new(log2: u8, access: Access, caching: Caching) -> FramePte {
        FramePte(size_bit(log2) | ALLOW[access as usize] | caching as u64)
    }

    /// Returns the page-table entry for one page of the frame.
    #[inline(always)]
    pub const fn of(self, page: PhysPage) -> Pte {
        Pte(page.at().0 | self.0)
    }
}

/// One entry of a page table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Pte(u64);

impl Pte {
    pub const EMPTY: Pte = Pte(0);

    /// Makes an entry that leads to a page table. It restricts nothing: the entries of that table
    /// say what is allowed.
    pub const fn table(table: PhysPage) -> Pte {
        Pte(table.at().0 | PRESENT | WRITE | USER)
    }

    /// Makes an entry of a word for which unsafe code vouches: its page may be mapped in this way.
    pub const fn vouched(entry: Vouched<u64>) -> Pte {
        Pte(entry.get())
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Maps a page (of 4 KiB or 2 MiB) for user level.
    #[inline(always)]
    pub const fn page(page: PhysPage, access: Access) -> Pte {
        Pte(page.at().0 | size_bit(page.log2()) | ALLOW[access as usize])
    }

    /// Returns an entry with the bits of an access, and without a page: for tables indexed by such
    /// bits.
    pub(crate) const fn of_access(access: Access) -> Pte {
        Pte(ALLOW[access as usize])
    }

    /// Returns the page that an entry of a table of this level maps, or has in transit.
    pub const fn memory(self, level: u32) -> Option<PhysPage> {
        if self.has_page(level) { Some(PhysPage::trusted(self.at(), log2_of(level))) } else { None }
    }

    pub const fn is_cached_as(self, caching: Caching) -> bool {
        self.0 & CACHING == caching as u64
    }

    /// Returns the entry marked as mapping memory without a Frame.
    pub const fn plain(self) -> Pte {
        Pte(self.0 | PLAIN)
    }

    /// Makes the entry of a page that was unmapped: until the shootdown with this stamp is over,
    /// CPUs may have translations of that page.
    pub const fn gone(stamp: Stamp) -> Pte {
        Pte(stamp.raw() << STAMP_SHIFT | GONE)
    }

    /// Returns the stamp of the shootdown of the page that the entry mapped earlier, if CPUs may
    /// have its translation.
    pub const fn shootdown(self) -> Option<Stamp> {
        if self.0 & (PRESENT | GONE) == GONE { Stamp::from_raw(self.0 >> STAMP_SHIFT) } else { None }
    }

    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    pub const fn is_accessed(self) -> bool {
        self.0 & ACCESSED != 0
    }

    pub const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    /// Returns the entry as the hardware leaves it after a read, or a write (`written`): for
    /// machines of tests.
    #[must_use]
    pub const fn used(self, written: bool) -> Pte {
        Pte(self.0 | ACCESSED | if written { DIRTY } else { 0 })
    }

    pub const fn is_plain(self) -> bool {
        self.0 & PLAIN != 0
    }

    /// Whether an entry of a table of this level maps memory, and does not lead to a table.
    pub const fn is_page(self, level: u32) -> bool {
        level == 1 || self.0 & LARGE != 0
    }

    /// Returns whether this entry, in a table of `level`, maps the page at `at` for a Frame.
    #[inline(always)]
    pub const fn maps(self, at: Phys, level: u32) -> bool {
        let size = if level == 1 { 0 } else { LARGE };
        self.0 & (ADDRESS | PRESENT | PLAIN | POOL | size) == at.0 | PRESENT | size
    }

    /// Returns whether this entry, in a table of `level`, maps a page, or has a page of a pool in
    /// transit.
    pub const fn has_page(self, level: u32) -> bool {
        self.is_present() && self.is_page(level) || self.is_in_transit()
    }

    pub const fn at(self) -> Phys {
        Phys(self.0 & ADDRESS)
    }

    #[inline(always)]
    pub const fn access(self) -> Access {
        if self.0 & NO_EXECUTE == 0 {
            Access::Execute
        } else if self.0 & WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// Returns whether the entry, which maps a page of a pool, lets programs write it.
    #[inline(always)]
    pub const fn is_writable(self) -> bool {
        self.0 & WRITE != 0
    }

    /// More than any [`Pte::access_bits`].
    pub const ACCESS_BITS: usize = 6;

    /// Returns the access bits of the entry as an index of tables, below [`Pte::ACCESS_BITS`].
    #[inline(always)]
    pub const fn access_bits(self) -> usize {
        const BITS: u64 = (NO_EXECUTE | WRITE).rotate_left(1);
        (self.0.rotate_left(1) & BITS) as usize
    }

    /// Returns the entry marked as that of a page of a pool.
    #[must_use]
    pub const fn pooled(self) -> Pte {
        Pte(self.0 | POOL)
    }

    /// Returns whether the entry is the place of a page of a pool: maps it, or has it in transit.
    /// An entry that leads to a table is no such place.
    pub const fn is_pooled(self) -> bool {
        self.0 & POOL != 0 && (self.is_present() || self.is_in_transit())
    }

    /// Returns whether the entry maps a page of the space's pool, which is not in transit.
    pub const fn is_pooled_and_present(self) -> bool {
        self.0 & (POOL | PRESENT) == POOL | PRESENT
    }

    pub const fn is_in_transit(self) -> bool {
        self.0 & (PRESENT | GONE | TRANSIT) == TRANSIT
    }

    /// Returns this entry of a pool page, changed to have the page in transit: mapped for no task.
    #[must_use]
    pub const fn in_transit(self) -> Pte {
        let write = if self.0 & WRITE != 0 { TRANSIT_WRITE } else { 0 };
        Pte(self.0 & (ADDRESS | POOL | LARGE | COPY | LENT | VIEW) | TRANSIT | write)
    }

    /// Returns the access of a pool page; for a page in transit, its access before that.
    pub const fn pool_access(self) -> Access {
        if self.0 & (if self.is_in_transit() { TRANSIT_WRITE } else { WRITE }) != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }

    /// Returns the entry of a pool page, mapped with this access. Before, the page may be mapped or
    /// in transit.
    #[must_use]
    pub const fn arrived(self, access: Access) -> Pte {
        Pte(self.0 & (ADDRESS | POOL | LARGE | COPY | LENT | VIEW) | ALLOW[access as usize])
    }

    /// Returns the entry of a pool page that other spaces map, too: read-only. With `copy`, a write
    /// copies the page. An entry that was read-only stays as it is.
    #[must_use]
    pub const fn shared(self, copy: bool) -> Pte {
        // Without a branch, since it is for each page of a message.
        let write = self.0 & WRITE;
        let lent = write * (LENT / WRITE);
        let copy = if copy { write * (COPY / WRITE) } else { 0 };
        Pte(self.0 & !WRITE | lent | copy)
    }

    /// Returns a read-only entry of this pool page for the receiver's space. With `copy`, a write
    /// copies the page.
    #[must_use]
    pub const fn view(self, copy: bool) -> Pte {
        let copy = if copy { COPY | VIEW } else { VIEW };
        Pte(self.0 & (ADDRESS | POOL | LARGE) | ALLOW[Access::Read as usize] | copy)
    }

    /// Returns whether the page came from another place as a share.
    pub const fn is_view(self) -> bool {
        self.0 & VIEW != 0
    }

    /// Returns the entry without the mark that a message borrows the page: the message has gone, or
    /// a system call has set the access.
    #[must_use]
    pub const fn given(self) -> Pte {
        Pte(self.0 & !LENT)
    }

    /// Returns the entry of a pool page that no other space maps: a write does not copy it, and no
    /// message borrows it.
    #[must_use]
    pub const fn unshared(self) -> Pte {
        Pte(self.0 & !(COPY | LENT | VIEW))
    }

    /// Returns the entry marked: its page has not changed since a copy of it began.
    #[must_use]
    pub const fn copying(self) -> Pte {
        Pte(self.0 | COPYING)
    }

    /// Returns whether a copy of the entry's page has begun, and the page is as it was then.
    pub const fn is_copying(self) -> bool {
        self.0 & (PRESENT | POOL | COPY | COPYING) == PRESENT | POOL | COPY | COPYING
    }

    pub const fn is_copied_on_write(self) -> bool {
        self.0 & COPY != 0
    }

    /// Returns whether a message that has not gone yet borrows the page, and the page was writable
    /// before.
    pub const fn is_lent(self) -> bool {
        self.0 & LENT != 0
    }

    /// Returns the kind of the entry: its bits without address, accessed bit and dirty bit. `None`
    /// unless it is the place of a never shared page of the pool, of 2 MiB if `large`, else of 4
    /// KiB.
    #[inline(always)]
    pub const fn own_kind(self, large: bool) -> Option<OwnKind> {
        let size = if large { LARGE } else { 0 };
        let never_shared = self.0 & (POOL | COPY | LENT | LARGE) == POOL | size;
        let own = never_shared && (self.is_present() || self.is_in_transit());
        if own { Some(OwnKind(self.0 & !(ADDRESS | ACCESSED | DIRTY))) } else { None }
    }

    /// Returns the address of the page if the entry is of this kind; `None` if not. The low bits of
    /// the address may have any value.
    #[inline(always)]
    pub const fn own_at(self, kind: OwnKind) -> Option<Phys> {
        let at = kind.at(self);
        if at.0 & !(ADDRESS | ACCESSED | DIRTY) == 0 { Some(at) } else { None }
    }

    /// Returns the entry of a page with its access replaced by this one.
    #[must_use]
    pub const fn allowing(self, access: Access) -> Pte {
        Pte(self.0 & !(WRITE | NO_EXECUTE) | ALLOW[access as usize])
    }
}

/// An entry where it stands. A page table is 512 of them, at the start of a page.
#[derive(Default)]
#[repr(transparent)]
pub struct Entry(AtomicU64);

smp::zeroed! { Entry { 0 } }

impl Entry {
    #[inline(always)]
    pub fn load(&self) -> Pte {
        from_hardware(self.0.load(Ordering::Acquire))
    }

    /// Returns whether the page-table entry is zero. For surveys, which look at many entries.
    #[inline(always)]
    pub fn is_blank(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Overwrites the entry without reading it: a bit that the hardware sets at that moment is
    /// lost.
    #[inline(always)]
    pub fn store(&self, entry: Pte) {
        self.0.store(to_hardware(entry), Ordering::Release);
    }

    /// Clears the accessed bit. Returns the entry as it was before.
    pub fn take_accessed(&self) -> Pte {
        from_hardware(self.0.fetch_and(!ACCESSED, Ordering::AcqRel))
    }

    /// Replaces the entry by what `change` makes of it. Bits that the hardware sets meanwhile stay.
    pub fn update(&self, change: impl Fn(Pte) -> Pte) {
        let mut old = self.0.load(Ordering::Relaxed);
        while let Err(seen) = self.0.compare_exchange(
            old,
            to_hardware(change(from_hardware(old))),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            old = seen;
        }
    }
}

/// In an entry of a test build that leaves [`Protection::NoExecute`] off: that it should have had
/// the bit.
const MEANT_NO_EXECUTE: u64 = 1 << 10;

/// Returns the number that the hardware reads in a page table for this entry.
#[inline(always)]
fn to_hardware(entry: Pte) -> u64 {
    if Protection::NoExecute.is_off() && entry.0 & NO_EXECUTE != 0 {
        return entry.0 & !NO_EXECUTE | MEANT_NO_EXECUTE;
    }
    entry.0
}

#[inline(always)]
fn from_hardware(entry: u64) -> Pte {
    // What is not present has other things to say there.
    if Protection::NoExecute.is_off() && entry & (PRESENT | MEANT_NO_EXECUTE) == PRESENT | MEANT_NO_EXECUTE {
        return Pte(entry & !MEANT_NO_EXECUTE | NO_EXECUTE);
    }
    Pte(entry)
}

/// Returns the index of a virtual address's entry in a page table of `level`.
#[inline(always)]
pub const fn index_of(address: u64, level: u32) -> usize {
    (address >> (abi::PAGE_LOG2 as u32 + 9 * (level - 1))) as usize % ENTRIES
}

/// Returns the number of bytes that an entry of a page table of `level` maps, as a base-2
/// logarithm.
pub const fn log2_of(level: u32) -> u8 {
    abi::PAGE_LOG2 + 9 * (level as u8 - 1)
}

/// What the frame table notes of a page table: its level, and the first address that it is for,
/// which is a multiple of 2 MiB.
#[derive(Clone, Copy)]
pub struct TableNote(u64);

/// The level, in a [`TableNote`].
pub const LEVEL_MASK: u64 = 7;

impl TableNote {
    /// Makes the note of a page table of `level` that is for the virtual address `address`.
    pub const fn new(level: u32, address: u64) -> TableNote {
        let base = address & !((1 << log2_of(level + 1)) - 1);
        TableNote(base | level as u64)
    }

    pub const fn from_raw(raw: u64) -> TableNote {
        TableNote(raw)
    }

    pub const fn raw(self) -> u64 {
        self.0
    }

    pub const fn level(self) -> u32 {
        (self.0 & LEVEL_MASK) as u32
    }

    /// Returns the virtual address that a page-table entry of this table maps; `index` is the
    /// entry's index among all entries of its VSpace.
    pub const fn address(self, index: usize) -> u64 {
        (self.0 & !LEVEL_MASK) + (((index % ENTRIES) as u64) << log2_of(self.level()))
    }
}

/// The name of an entry: its physical address. Zero names none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct EntryName(pub u64);

impl EntryName {
    pub const NONE: EntryName = EntryName(0);

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    pub const fn table(self) -> Phys {
        Phys(self.0 & ADDRESS)
    }

    /// Returns the name of the entry that follows in the same page table.
    #[must_use]
    pub const fn next(self) -> EntryName {
        EntryName(self.0 + size_of::<Entry>() as u64)
    }
}

/// The neighbours of one entry in its frame's list.
#[derive(Default)]
#[repr(C)]
pub struct Links {
    next: AtomicU64,
    prev: AtomicU64,
}

smp::zeroed! { Links { next, prev } }

impl Links {
    pub fn next(&self) -> EntryName {
        EntryName(self.next.load(Ordering::Relaxed))
    }

    pub fn prev(&self) -> EntryName {
        EntryName(self.prev.load(Ordering::Relaxed))
    }

    /// Returns whether the entry has no neighbours in a list of mappings. For surveys, which look
    /// at many entries.
    #[inline(always)]
    pub fn is_blank(&self) -> bool {
        self.next.load(Ordering::Relaxed) | self.prev.load(Ordering::Relaxed) == 0
    }

    pub fn set_next(&self, to: EntryName) {
        self.next.store(to.0, Ordering::Relaxed);
    }

    pub fn set_prev(&self, to: EntryName) {
        self.prev.store(to.0, Ordering::Relaxed);
    }
}

/// Bytes of a page table with its links.
pub const TABLE_BYTES: u64 = (ENTRIES * (size_of::<Entry>() + size_of::<Links>())) as u64;

const _: () = assert!(TABLE_BYTES == 3 * abi::PAGE_SIZE);
