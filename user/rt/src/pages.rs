//! Pages in messages: the pool of an address space, sending, and windows for receiving.
//!
//! ```text
//! space.map_pool(&frame, address)?;                        // once
//! utcb::current().send_ranges(&[PageRange::new(PageMode::Move, address, 3)]);
//! exposure.call(&message.with_pages())?;                   // the receiver has them now
//! ```
//! A receiver opens a window before it receives
//! ([`open_window`](crate::utcb::Current::open_window)), and finds in
//! [`ranges`](crate::utcb::Current::ranges) the addresses of the pages that came with a message
//! ([`Message::pages`](crate::ipc::Message::pages)).

use abi::{MAP_POOL, Op, PageRange};

use crate::Result;
use crate::arch::{Args, syscall};
use crate::cap::{Access, Frame, Handle, VSpace};
use crate::invoke::Pages;
use crate::ipc::Message;
use crate::utcb;

/// Pages of a pool: where, how many, and of which size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pooled {
    pub address: u64,
    pub count: u64,
    /// Pages of 2 MiB; else of 4 KiB.
    pub large: bool,
}

impl Pooled {
    /// Makes a range of pages of 4 KiB.
    pub const fn new(address: u64, count: u64) -> Pooled {
        Pooled { address, count, large: false }
    }

    pub const fn of(range: &PageRange) -> Pooled {
        Pooled { address: range.address, count: range.count, large: range.large }
    }
}

/// Releases from the pool all pages that came with a message, because the receiver wanted none, or
/// not these.
pub fn drop_all(own: &VSpace, message: &Message) {
    let ranges = message.pages.then(|| utcb::current().ranges()).into_iter().flatten();
    for range in ranges {
        // Where that is refused, they are gone already: a revoke came first.
        let _ = own.drop_pages(Pooled::of(&range));
    }
}

impl VSpace {
    /// Maps all pages of a frame into the pool of this space, writable.
    pub fn map_pool(&self, frame: &Frame, address: u64) -> Result<()> {
        self.map_pool_pages(frame, address, Pages::ALL)
    }

    pub fn map_pool_pages(&self, frame: &Frame, address: u64, pages: Pages) -> Result<()> {
        self.on_pages(Op::Map, frame.arg(), address, MAP_POOL | Access::Write.bits(), pages)
    }

    /// Releases pages from the pool of this space. Their frame can be mapped again when no pool has
    /// them; they are cleared then.
    pub fn drop_pages(&self, pages: Pooled) -> Result<()> {
        self.on_pooled(Op::Unmap, 0, pages)
    }

    /// Changes the access of pages of this space's pool. Only pages that no other space sees can be
    /// made writable.
    pub fn protect_pooled(&self, pages: Pooled, access: Access) -> Result<()> {
        self.on_pooled(Op::Protect, access.bits(), pages)
    }

    fn on_pooled(&self, op: Op, how: u64, pages: Pooled) -> Result<()> {
        let sizes = Pages { first: u64::from(pages.large), count: pages.count };
        self.on_pages(op, 0, pages.address, how, sizes)
    }

    /// Replaces a copy-on-write page by a copy, in page `number` of a frame, or makes it writable
    /// if no other space sees it. Returns whether the frame's page was used.
    pub fn copy_page(&self, frame: &Frame, address: u64, number: u64) -> Result<bool> {
        let mut args = Args::plain(Op::PageCopy, self.arg(), frame.arg(), address, 0);
        args.r9 = number;
        Ok(syscall(args).check()?.rdi == 1)
    }

    /// Moves pages from this space's pool to the pool of another space, or lets both spaces see
    /// them.
    pub fn transfer(&self, range: PageRange, to: &VSpace, address: u64) -> Result<()> {
        let [words, count] = range.words();
        let mut args = Args::plain(Op::PageTransfer, self.arg(), to.arg(), words, address);
        args.r9 = count;
        syscall(args).check().map(|_| ())
    }
}
