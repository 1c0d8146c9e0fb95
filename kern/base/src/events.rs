//! Event pools: the object, and the memory that its process sees. [`smp::events`] has the protocol,
//! [`abi::events`] the layout.

use core::cell::Cell;

use smp::lock::Lock;
use smp::sync::Ordering::{Acquire, Relaxed, Release};
#[expect(clippy::disallowed_types, reason = "user level shares it")]
use smp::sync::UserWord;
use smp::sync::{AtomicU32, AtomicU64};

use abi::events::{CELL_WORDS, Event, EventControl, EventState, PoolSize, stamp};
use abi::status::StatusWord;
use abi::{Error, MSG_UTCB_WORDS, ObjType};
use smp::cpu::Pin;
use smp::door::{AtomicLink, Cleared, Ptr, Ref, Table};
use smp::events::{Reserved, Shown};
use smp::shootdown::Stamp;

use crate::header::{Header, RootId};
use crate::machine::Machine;
use crate::phys::{PhysPage, PhysRange};
use crate::process::Process;
use crate::slot::Slot;
use crate::task::Task;

/// One cell of a pool.
#[expect(clippy::disallowed_types, reason = "user level shares it")]
pub type EventCell = [UserWord; CELL_WORDS];

/// A process's pool. The kernel writes its pages through the direct map, on any CPU. The reader's
/// home CPU wakes the reader, and holds the queue of senders that wait for room.
#[repr(C, align(64))]
pub struct EventPool {
    pub header: Header,
    pub cells_log2: u8,
    pub status_pages: u8,
    /// The number of the policy that watches with this pool, since its CPUs report to it; 0: nobody
    /// does. Each number is given once. Changed under the kernel's lock `watching`.
    pub policy: AtomicU64,
    pub reserved: Reserved,
    /// Held while `process` or the pool's mapping changes. Lock order: this one, then the VSpace's.
    pub placement: Lock<Placement>,
    /// The epoch in which it was parted from its last process. Under `placement`.
    pub parted: AtomicU64,
    /// Held while an event with a payload is put into the pool, because the process's offers are
    /// taken one after the other, and while the pool is detached from its process. Before every
    /// other lock.
    pub taking: Lock<()>,
    /// The process that has the pool, all of whose pages it sees.
    pub process: AtomicLink<Process>,
    /// The task that reads, a real capability slot: a task that ends leaves it empty.
    pub reader: Slot,
    /// What is raised in the Notification that is bound to the reader.
    pub bits: AtomicU64,
    memory: PhysRange,
    control: Ptr<EventControl>,
    state: Ptr<EventState>,
    stamps: Table<AtomicU32>,
    cells: Table<EventCell>,
    status: Table<StatusWord>,
}

/// Where a pool's pages are mapped, or are being mapped or unmapped.
#[derive(Default)]
pub struct Placement {
    /// The process in whose address space they are.
    pub process: AtomicLink<Process>,
    /// Where the first page is.
    pub address: Cell<u64>,
    /// How many are mapped: the first ones.
    pub mapped: Cell<u64>,
    /// Why not all of them could be mapped: an error and its detail. Then they are unmapped again.
    pub refused: Cell<Option<(Error, u64)>>,
    /// The last shootdown of pages that were unmapped: until it is over, CPUs may have translations
    /// of them for the process that had the pool.
    pub flushed_by: Cell<Option<Stamp>>,
}

impl Placement {
    /// Notes that pages are mapped from now on.
    pub fn begin(&self, process: Ref<'_, Process>, address: u64) {
        self.process.set(Some(process));
        self.address.set(address);
    }

    /// Notes that no page is mapped any more.
    pub fn end_here(&self) {
        self.process.set(None);
        self.refused.set(None);
    }

    /// Returns the address behind the pages that are mapped.
    pub fn end(&self) -> u64 {
        self.address.get() + self.mapped.get() * abi::PAGE_SIZE
    }
}

impl EventPool {
    /// For the fastpath of send: the page that the process writes, the stamps, the cells and their
    /// number.
    pub const CONTROL_OFFSET: usize = core::mem::offset_of!(EventPool, control);
    pub const STAMPS_OFFSET: usize =
        core::mem::offset_of!(EventPool, stamps) + Table::<AtomicU32>::BASE_OFFSET;
    pub const STAMP_SIZE: usize = size_of::<AtomicU32>();
    pub const CELLS_OFFSET: usize = core::mem::offset_of!(EventPool, cells) + Table::<EventCell>::BASE_OFFSET;
    pub const CELLS_LEN_OFFSET: usize =
        core::mem::offset_of!(EventPool, cells) + Table::<EventCell>::LEN_OFFSET;

    /// Makes a pool in a piece of memory of [`PoolSize::pages`].
    #[inline(never)]
    pub fn new(
        root: RootId,
        machine: &impl Machine,
        mut piece: Cleared,
        size: PoolSize,
        pin: Pin<'_>,
    ) -> Option<EventPool> {
        let PoolSize { cells_log2, status_pages } = size;
        let memory = PhysRange::trusted(machine.phys(piece.base()), size.pages() * abi::PAGE_SIZE);
        if piece.size() < memory.bytes() {
            return None;
        }
        let control =
            piece.split(EventControl::PAGES * abi::PAGE_SIZE)?.emplace_zeroed::<EventControl>(pin)?;
        let mut told = piece.split(EventState::pages(cells_log2) * abi::PAGE_SIZE)?;
        let state = told.split(size_of::<EventState>() as u64)?.emplace_zeroed::<EventState>(pin)?;
        state.get().cells_log2.store(u64::from(cells_log2), Relaxed);
        state.get().status_pages.store(u64::from(status_pages), Relaxed);
        let cells = piece.split((size_of::<EventCell>() as u64) << cells_log2)?;
        Some(EventPool {
            header: Header::new(ObjType::EventPool, root),
            cells_log2,
            status_pages,
            policy: AtomicU64::new(0),
            reserved: Reserved::default(),
            placement: Lock::new(Placement::default()),
            parted: AtomicU64::new(0),
            taking: Lock::new(()),
            process: AtomicLink::null(),
            reader: Slot::new(),
            bits: AtomicU64::new(0),
            memory,
            control: control.ptr(),
            state: state.ptr(),
            stamps: told.into_table()?,
            cells: cells.into_table()?,
            status: if status_pages == 0 { Table::empty() } else { piece.into_table()? },
        })
    }

    /// Returns the pool's size.
    pub const fn size(&self) -> PoolSize {
        PoolSize { cells_log2: self.cells_log2, status_pages: self.status_pages }
    }

    /// Returns a status word of the pool.
    pub fn status<'k>(&'k self, pin: Pin<'k>, word: u64) -> Option<&'k StatusWord> {
        Some(self.status.get(pin, usize::try_from(word).ok()?)?.get())
    }

    /// Returns the task that reads the pool.
    pub fn reader_task<'k>(&self, pin: Pin<'k>) -> Option<Ref<'k, Task>> {
        self.reader.word.load(pin).get::<Task>()
    }

    /// Counts an event of the kernel that has found no room.
    pub fn count_lost(&self, pin: Pin<'_>) {
        self.state.get(pin).get().lost.fetch_add(1, Relaxed);
    }

    /// Returns the pool's pages, in order: each page's memory, and whether the process may write
    /// the page.
    pub fn pages(&self) -> impl Iterator<Item = (PhysPage, bool)> + use<> {
        let memory = self.memory;
        let pages = (0..self.size().pages()).map(move |n| (memory.page(n, abi::PAGE_LOG2), n));
        pages.filter_map(|(page, n)| Some((page?, n < EventControl::PAGES)))
    }

    /// Returns the pool's memory that its process sees and may change.
    #[inline(always)]
    pub fn shown<'k>(&'k self, pin: Pin<'k>) -> ShownPool<'k> {
        let mask = (self.cells.len() as u64).wrapping_sub(1);
        ShownPool { pool: self, pin, control: self.control.get(pin).get(), mask }
    }
}

/// A pool as its process sees it.
#[derive(Clone, Copy)]
pub struct ShownPool<'k> {
    pool: &'k EventPool,
    pin: Pin<'k>,
    control: &'k EventControl,
    /// From a position to the place of its cell.
    mask: u64,
}

impl<'k> ShownPool<'k> {
    fn cell(self, position: u64) -> Option<&'k EventCell> {
        let at = position & self.mask;
        Some(self.pool.cells.get(self.pin, at as usize)?.get())
    }

    /// Writes an event without words to a reserved cell.
    #[inline(always)]
    pub fn write_header(self, position: u64, event: Event) {
        if let Some(cell) = self.cell(position) {
            event.write(cell);
        }
    }

    /// Whether the reader wants a wake-up at the next event.
    #[inline(always)]
    pub fn is_armed(self) -> bool {
        self.control.armed.load(Relaxed) != 0
    }

    /// Returns two words that the process writes: the slots, and the addresses, that it offers to
    /// received events.
    #[expect(clippy::disallowed_types, reason = "user level shares it")]
    pub fn offers(self) -> [&'k UserWord; 2] {
        [&self.control.listening, &self.control.window]
    }

    /// Writes whole cells in a row, from the reserved cell at `position` on.
    pub fn write_list(self, position: u64, words: &[[u64; 2]]) {
        self.write_words(position, words.as_flattened());
    }

    /// Writes words to cells in a row, from `from` on. Out of line, because inlined into a loop
    /// over pools it would take the loop's registers.
    #[inline(never)]
    fn write_words<W: Readable>(self, from: u64, words: &[W]) {
        for (position, words) in (from..).zip(words.chunks(CELL_WORDS)) {
            let Some(cell) = self.cell(position) else { return };
            cell.iter().zip(words).for_each(|(place, word)| place.store(word.read(), Relaxed));
        }
    }

    /// Writes an event and its words to reserved cells, from `position` on. `text` has all words
    /// that a message can have.
    #[expect(clippy::disallowed_types, reason = "user level shares it")]
    #[inline]
    pub fn write(self, position: u64, event: Event, text: &[UserWord; MSG_UTCB_WORDS]) {
        self.write_header(position, event);
        self.write_words(position + 1, text.get(..event.info.words()).unwrap_or(text));
    }
}

/// A word that is copied to a pool.
trait Readable {
    fn read(&self) -> u64;
}

impl Readable for u64 {
    #[inline(always)]
    fn read(&self) -> u64 {
        *self
    }
}

#[expect(clippy::disallowed_types, reason = "user level shares it")]
impl Readable for UserWord {
    #[inline(always)]
    fn read(&self) -> u64 {
        self.load(Relaxed)
    }
}

impl Shown for ShownPool<'_> {
    #[inline(always)]
    fn cells(&self) -> u64 {
        self.pool.cells.len() as u64
    }

    #[inline(always)]
    fn head(&self) -> u64 {
        self.control.head.load(Acquire)
    }

    #[inline(always)]
    fn stamp(&self, position: u64) {
        let at = position & self.mask;
        if let Some(word) = self.pool.stamps.get(self.pin, at as usize) {
            word.get().swap(stamp(position, self.pool.cells_log2), Release);
        }
    }

    #[inline(always)]
    fn disarm(&self) -> bool {
        let armed = self.is_armed();
        if armed {
            self.control.armed.store(0, Relaxed);
        }
        armed
    }

    fn show_waiting(&self, waiting: bool) {
        self.pool.state.get(self.pin).get().waiting.swap(u64::from(waiting), Release);
    }
}
