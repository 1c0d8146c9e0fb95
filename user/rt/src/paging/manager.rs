//! What the manager of a pager asks: whoever started it, and its clients.

use abi::PAGE_SIZE;

use super::client::{ask, ask_with_words};
use super::{Denial, Request, SERVER, name_words};
use crate::cap::{Access, Exposure, Group};
use crate::elf::Image;
use crate::stack::Span;
use crate::utcb;

/// A pager, as its manager sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manager(Exposure);

/// What a client may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Frames at a time.
    pub frames: u32,
    /// Of these, pinned.
    pub pinned: u32,
    /// Pages of all its regions, in memory or not.
    pub pages: u32,
}

impl Limits {
    /// As words of a message.
    pub const fn words(self) -> [u64; 2] {
        [self.frames as u64 | (self.pinned as u64) << 32, self.pages as u64]
    }

    /// What words of a message say; `None` of more pages than can be counted.
    pub fn of_words([frames, pages]: [u64; 2]) -> Option<Limits> {
        let pages = u32::try_from(pages).ok()?;
        Some(Limits { frames: frames as u32, pinned: (frames >> 32) as u32, pages })
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
    ($($(#[doc = $doc:expr])* $name:ident,)*) => {
        /// Figures of a pager.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counts { $($(#[doc = $doc])* pub $name: u64,)* }

        impl Counts {
            pub const WORDS: usize = [$(stringify!($name),)*].len();
            pub const NAMES: [&'static str; Self::WORDS] = [$(stringify!($name),)*];

            pub const fn words(&self) -> [u64; Self::WORDS] {
                [$(self.$name,)*]
            }

            pub const fn of_words(words: [u64; Self::WORDS]) -> Counts {
                let [$($name,)*] = words;
                Counts { $($name,)* }
            }
        }
    };
}

counts! {
    /// Faults taken, and those of them that were not served.
    faults,
    denied,
    /// Pages made of zeroes, read from files, copied because one side wrote.
    zeroed,
    loaded,
    copied,
    /// Calls by which pages were put into the store.
    puts,
    /// Pages put into the store and got back; pages given up whose contents were elsewhere, too.
    stored,
    fetched,
    dropped,
    /// What the store refused to take, and what it could not give back.
    refused,
    lost,
    /// Times the policy was asked, and clients that it ended.
    asked,
    ended,
    /// Clients that it noticed to be no more.
    noticed,
    /// Pages that were kept because they had been used.
    spared,
    /// Pages that were mapped beside one that was wanted.
    beside,
    /// Frames that there are, that are free, and that were given up because somebody may still see them.
    frames,
    free,
    leaked,
}

impl Manager {
    pub fn of(group: &Group) -> Manager {
        Manager(group.exposure(SERVER))
    }

    /// Admits a client, whose address space is in the pager's slot for it.
    pub fn register(self, client: u16, limits: Limits) -> Result<(), Denial> {
        let [frames, pages] = limits.words();
        ask(self.0, Request::Register, [u64::from(client), frames, pages, 0]).map(|_| ())
    }

    /// Admits a client to a part of the account of another, which split it off. The address space is in the pager's slot
    /// for it.
    pub fn admit(self, part: u16, of: u16) -> Result<(), Denial> {
        ask(self.0, Request::Admit, [u64::from(part), u64::from(of), 0, 0]).map(|_| ())
    }

    pub fn forget(self, client: u16) -> Result<(), Denial> {
        ask(self.0, Request::Forget, [u64::from(client), 0, 0, 0]).map(|_| ())
    }

    pub fn fate(self, client: u16) -> Result<Fate, Denial> {
        let [reason, address, faults, _] = ask(self.0, Request::Fate, [u64::from(client), 0, 0, 0])?;
        Ok(Fate { reason: Denial::from_raw(reason as u32), address, faults })
    }

    pub fn counts(self) -> Result<Counts, Denial> {
        ask(self.0, Request::Counts, [0; 4])?;
        let words = utcb::current().message();
        let word = |index: usize| words[index].load(core::sync::atomic::Ordering::Relaxed);
        Ok(Counts::of_words(core::array::from_fn(word)))
    }

    /// A file of the boot archive: its number.
    pub fn open(self, name: &str) -> Result<u64, Denial> {
        let words = name_words(name).ok_or(Denial::NoFile)?;
        let [file, ..] = ask_with_words(self.0, Request::Open, [0; 4], &words)?;
        Ok(file)
    }

    /// Puts an image, which is the file of that name, at its addresses in a client.
    pub fn place_image(self, client: u16, name: &str, image: &Image<'_>) -> Result<(), Denial> {
        let file = self.open(name)?;
        for segment in image.segments() {
            let (first, bytes) = segment.in_file().ok_or(Denial::BadRequest)?;
            let pages = segment.pages().into();
            self.place(client, segment.first_page(), (file, first, bytes), pages, segment.access)?;
        }
        Ok(())
    }

    /// Puts a stack at an address of a client.
    pub fn place_stack(self, client: u16, stack: Span) -> Result<(), Denial> {
        let pages = (stack.top - stack.low) / PAGE_SIZE;
        self.place(client, stack.low, (0, 0, 0), pages, Access::Write)
    }

    /// Puts a file's bytes, and zeroes behind them, at an address of a client; of file 0, only zeroes.
    pub fn place(
        self,
        client: u16,
        address: u64,
        (file, first, bytes): (u64, u64, u64),
        pages: u64,
        access: Access,
    ) -> Result<(), Denial> {
        let regs = [file, first, bytes, pages | access.bits() << 32];
        ask_with_words(self.0, Request::Place, regs, &[u64::from(client), address]).map(|_| ())
    }
}

const _: () = assert!(Counts::WORDS <= abi::MSG_UTCB_WORDS);
