//! Decodes page-table entries: the fields of the processor's manual, and the kernel's fields in
//! bits that the processor ignores. The kernel decodes its entries by other code
//! (`kern_base::paging`); a test there compares both.

/// Entries of one table.
pub const ENTRIES: u64 = 512;
/// The level of the root table.
pub const ROOT_LEVEL: u32 = 4;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const CACHING: u64 = 1 << 3 | 1 << 4;
const COMBINING: u64 = 1 << 3;
const LARGE: u64 = 1 << 7;
const PLAIN: u64 = 1 << 9;
const POOL: u64 = 1 << 52;
const COPY: u64 = 1 << 53;
const LENT: u64 = 1 << 54;
const TRANSIT: u64 = 1 << 55;
const TRANSIT_WRITE: u64 = 1 << 56;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// In an entry that is not present: CPUs may remember what was there.
const GONE: u64 = 1 << 1;
const STAMP_SHIFT: u32 = 3;

/// What an entry of a table is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Nothing was there for long.
    Empty,
    /// Something was there, until the shootdown with this stamp.
    Gone(u64),
    /// It leads to a table.
    Table,
    /// It maps a page.
    Page,
    /// It is the place of a page that a message has, and maps nothing.
    Transit,
    /// Nothing that the kernel writes.
    Unknown,
}

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(pub u64);

impl Pte {
    /// Returns the meaning of a page-table entry in a table of `level`.
    pub const fn what(self, level: u32) -> What {
        let word = self.0;
        if word & PRESENT != 0 {
            return if level == 1 || word & LARGE != 0 { What::Page } else { What::Table };
        }
        if word == 0 {
            What::Empty
        } else if word & GONE != 0 {
            What::Gone(word >> STAMP_SHIFT)
        } else if word & TRANSIT != 0 {
            What::Transit
        } else {
            What::Unknown
        }
    }

    /// Returns the address of the page or table to which the page-table entry leads.
    pub const fn at(self) -> u64 {
        self.0 & ADDRESS
    }

    /// Returns whether the page-table entry lets user level use the page.
    pub const fn is_user(self) -> bool {
        self.0 & USER != 0
    }

    /// Returns whether the page-table entry maps a page of 2 MiB.
    pub const fn is_large(self) -> bool {
        self.0 & LARGE != 0
    }

    /// Returns whether the page-table entry allows to write, or did before its page was in transit.
    pub const fn is_writable(self) -> bool {
        self.0 & (if self.0 & PRESENT != 0 { WRITE } else { TRANSIT_WRITE }) != 0
    }

    /// Returns whether the page-table entry allows to execute.
    pub const fn is_executable(self) -> bool {
        self.0 & (PRESENT | NO_EXECUTE) == PRESENT
    }

    /// Returns whether the page-table entry lets the processor cache the page as memory of this
    /// kind has to be: `device` memory not at all, except for writes if it is `combining`.
    pub const fn is_cached_as(self, device: bool, combining: bool) -> bool {
        let wanted = if combining {
            COMBINING
        } else if device {
            CACHING
        } else {
            0
        };
        self.0 & CACHING == wanted
    }

    /// Returns whether the page-table entry maps memory that no Frame stands for.
    pub const fn is_plain(self) -> bool {
        self.0 & PLAIN != 0
    }

    /// Returns whether the page-table entry is that of a page of the space's pool.
    pub const fn is_pooled(self) -> bool {
        self.0 & POOL != 0
    }

    /// Returns whether the page-table entry says that a write copies the page.
    pub const fn is_copied(self) -> bool {
        self.0 & COPY != 0
    }

    /// Returns whether a message that has not gone yet is to share the page, which could be written
    /// before.
    pub const fn is_lent(self) -> bool {
        self.0 & LENT != 0
    }
}

/// Returns the number of an address's entry in a page table of `level`.
pub const fn index_of(address: u64, level: u32) -> u64 {
    address >> (12 + 9 * (level - 1)) & (ENTRIES - 1)
}

/// Returns how many bytes an entry of a page table of `level` maps.
pub const fn span(level: u32) -> u64 {
    1 << (12 + 9 * (level - 1))
}

/// Returns the CPU and the number in the stamp of a shootdown.
pub const fn stamp(raw: u64) -> (u64, u64) {
    (raw >> 48, raw & ((1 << 48) - 1))
}

/// Returns the level and the first address in the note of a page table.
pub const fn table_note(raw: u64) -> (u32, u64) {
    ((raw & 7) as u32, raw & !7)
}
