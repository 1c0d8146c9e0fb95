//! The manager's requests to a pager: the manager's part of the protocol of `schema/pager.capnp`.
//! The manager is the process that started the pager, and admits its clients.

use abi::PAGE_SIZE;
use protocols::pager::{self, counts, limits};

use super::client::{count, open, put_bytes};
use super::{Denial, SERVER};
use crate::cap::{Access, Group};
use crate::elf::Image;
use crate::stack::Span;
use crate::talk::Line;

/// A pager, as its manager sees it.
#[derive(Clone, Copy, Debug)]
pub struct Manager(pager::Client<Line>);

/// What a client may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Frames at a time.
    pub frames: u32,
    /// The pinned ones among these.
    pub pinned: u32,
    /// Pages of all its regions, in memory or not.
    pub pages: u32,
}

impl Limits {
    /// Writes limits into a request.
    pub(super) fn put(self, mut to: limits::Builder<'_>) {
        to.set_frames(self.frames);
        to.set_pinned(self.pinned);
        to.set_pages(self.pages);
    }

    /// Reads limits from a request.
    pub fn read(from: limits::Reader<'_>) -> Limits {
        Limits { frames: from.get_frames(), pinned: from.get_pinned(), pages: from.get_pages() }
    }
}

/// Why a client was ended, and where it faulted then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fate {
    pub reason: Option<Denial>,
    pub address: u64,
    pub faults: u64,
}

macro_rules! counts {
    ($($(#[doc = $doc:expr])* $name:ident $get:ident $set:ident,)*) => {
        /// Figures of a pager.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Counts {
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Returns all figures in the order of their names.
            pub fn all(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$name,)*]
            }

            /// Writes the figures into an answer.
            pub fn put(&self, mut to: counts::Builder<'_>) {
                $(to.$set(self.$name);)*
            }

            fn read(from: counts::Reader<'_>) -> Counts {
                Counts { $($name: from.$get(),)* }
            }
        }
    };
}

counts! {
    /// Faults taken, and those of them that were not served.
    faults get_faults set_faults,
    denied get_denied set_denied,
    /// Pages made of zeroes, read from files, copied because one side wrote.
    zeroed get_zeroed set_zeroed,
    loaded get_loaded set_loaded,
    copied get_copied set_copied,
    /// Calls by which pages were put into the store.
    puts get_puts set_puts,
    /// Pages put into the store and got back; pages given up whose contents were elsewhere, too.
    stored get_stored set_stored,
    fetched get_fetched set_fetched,
    dropped get_dropped set_dropped,
    /// What the store refused to take, and what it could not give back.
    refused get_refused set_refused,
    lost get_lost set_lost,
    /// Times the policy was asked, and clients that it ended.
    asked get_asked set_asked,
    ended get_ended set_ended,
    /// Clients that it noticed to be no more.
    noticed get_noticed set_noticed,
    /// Pages that were kept because they had been used.
    spared get_spared set_spared,
    /// Pages that were mapped beside one that was wanted.
    beside get_beside set_beside,
    /// Frames that there are, and that are free.
    frames get_frames set_frames,
    free get_free set_free,
}

impl Manager {
    pub fn of(group: &Group) -> Manager {
        Manager(pager::Client(Line::to(group.exposure(SERVER))))
    }

    /// Admits a client, whose address space is in the pager's slot for it.
    pub fn register(self, client: u16, limits: Limits) -> Result<(), Denial> {
        Ok(self.0.register(|mut ask| {
            ask.set_client(client);
            limits.put(ask.init_limits());
        })?)
    }

    /// Admits a client to a part of the account of another, which split it off. The address space
    /// is in the pager's slot for it.
    pub fn admit(self, part: u16, of: u16) -> Result<(), Denial> {
        Ok(self.0.admit(|mut ask| {
            ask.set_part(part);
            ask.set_of(of);
        })?)
    }

    pub fn forget(self, client: u16) -> Result<(), Denial> {
        Ok(self.0.forget(|mut ask| ask.set_client(client))?)
    }

    pub fn fate(self, client: u16) -> Result<Fate, Denial> {
        let fate = self.0.fate(
            |mut ask| ask.set_client(client),
            |answer| {
                let fate = answer.get_fate()?;
                let reason = if fate.get_ended() { Some(fate.get_reason()?.into()) } else { None };
                Ok(Fate { reason, address: fate.get_address(), faults: fate.get_faults() })
            },
        )?;
        Ok(fate)
    }

    pub fn counts(self) -> Result<Counts, Denial> {
        Ok(self.0.counts(|answer| Ok(Counts::read(answer.get_counts()?)))?)
    }

    /// Opens a file of the pager's boot archive. Returns its number.
    pub fn open(self, name: &str) -> Result<u64, Denial> {
        Ok(open(&self.0, name)?.0)
    }

    /// Maps an image, which is the file with this name, at its addresses in a client.
    pub fn place_image(self, client: u16, name: &str, image: &Image<'_>) -> Result<(), Denial> {
        let file = self.open(name)?;
        for segment in image.segments() {
            let (first, bytes) = segment.in_file().ok_or(Denial::BadRequest)?;
            let pages = segment.pages().into();
            self.place(client, segment.first_page(), (file, first, bytes), pages, segment.access)?;
        }
        Ok(())
    }

    /// Provides a stack at an address of a client.
    pub fn place_stack(self, client: u16, stack: Span) -> Result<(), Denial> {
        let pages = (stack.top - stack.low) / PAGE_SIZE;
        self.place(client, stack.low, (0, 0, 0), pages, Access::Write)
    }

    /// Makes a region of a file's bytes, and zeroes behind them, at an address of a client; for
    /// file 0, only zeroes. `bytes` are the file's number, the first byte, and their count.
    pub fn place(
        self,
        client: u16,
        address: u64,
        bytes: (u64, u64, u64),
        pages: u64,
        access: Access,
    ) -> Result<(), Denial> {
        let pages = count(pages)?;
        Ok(self.0.place(|mut ask| {
            ask.set_client(client);
            ask.set_access(access.into());
            ask.set_pages(pages);
            let mut at = ask.init_at();
            at.set_address(address);
            if bytes != (0, 0, 0) {
                put_bytes(at.init_bytes(), bytes);
            }
        })?)
    }
}
