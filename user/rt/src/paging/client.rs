//! What a client asks of its pager.

use core::sync::atomic::AtomicU64;

use abi::PAGE_SIZE;

use super::{Denial, Limits, NAME_WORDS, Request, SERVER, name_words};
use crate::arch::memory;
use crate::cap::{Access, Exposure, Group, Handle};
use crate::ipc::Message;
use crate::layout::slot;
use crate::utcb;

/// A pager, as one of its clients sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pager(Exposure);

/// Memory that the pager serves, at an address of this process. It is given back by [`Pager::give_back`] only.
#[derive(Debug, PartialEq, Eq)]
pub struct Region {
    address: u64,
    pages: u64,
}

/// What an account holds, with all its parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Account {
    /// Frames that it holds, and may hold.
    pub frames: u64,
    pub limit: u64,
    /// Pages of its regions.
    pub pages: u64,
    pub faults: u64,
}

impl Region {
    pub fn address(&self) -> u64 {
        self.address
    }

    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Its words. To touch one may take long; where it cannot be had, the process ends, or its error handler runs
    /// ([`Pager::on_error`]).
    pub fn words(&self) -> &[AtomicU64] {
        memory::region_words(self)
    }
}

/// Asks a server at an exposure of a group.
pub(super) fn ask(of: Exposure, request: Request, regs: [u64; 4]) -> Result<[u64; 4], Denial> {
    ask_with_words(of, request, regs, &[])
}

pub(super) fn ask_with_words(
    of: Exposure,
    request: Request,
    regs: [u64; 4],
    words: &[u64],
) -> Result<[u64; 4], Denial> {
    for (to, from) in utcb::current().message().iter().zip(words) {
        to.store(*from, core::sync::atomic::Ordering::Relaxed);
    }
    let message = Message::with_words(request as u32, regs, words.len() as u8);
    let answer = of.call(&message).map_err(|_| Denial::NoPager)?;
    match answer.label {
        0 => Ok(answer.regs),
        label => Err(Denial::from_raw(label).unwrap_or(Denial::NoPager)),
    }
}

impl Pager {
    /// The one that this process was given.
    pub fn own() -> Pager {
        Pager::of(&Group::at(slot::PAGER))
    }

    /// The one that is exposed in a group.
    pub fn of(group: &Group) -> Pager {
        Pager(group.exposure(SERVER))
    }

    fn region(self, request: Request, pages: u64, regs: [u64; 4]) -> Result<Region, Denial> {
        let [address, ..] = ask(self.0, request, regs)?;
        Ok(Region { address, pages })
    }

    /// Zeroes.
    pub fn anonymous(self, pages: u64, access: Access) -> Result<Region, Denial> {
        self.region(Request::Anonymous, pages, [pages, access.bits(), 0, 0])
    }

    /// A file of the boot archive: its number, and how many bytes it has.
    pub fn open(self, name: &str) -> Result<(u64, u64), Denial> {
        let words: [u64; NAME_WORDS] = name_words(name).ok_or(Denial::NoFile)?;
        let [file, bytes, ..] = ask_with_words(self.0, Request::Open, [0; 4], &words)?;
        Ok((file, bytes))
    }

    /// Bytes of a file, and zeroes up to the end of the last page. Where it may be written, what is written is this
    /// client's own.
    pub fn file(self, file: u64, first: u64, bytes: u64, access: Access) -> Result<Region, Denial> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        self.region(Request::File, pages, [file, first, bytes, pages | access.bits() << 32])
    }

    /// What the region has now.
    pub fn clone_of(self, region: &Region) -> Result<Region, Denial> {
        self.region(Request::Clone, region.pages, [region.address, 0, 0, 0])
    }

    /// Lets another client attach it by the key.
    pub fn share(self, region: &Region, with: u16, access: Access) -> Result<u64, Denial> {
        let [key, ..] = ask(self.0, Request::Share, [region.address, u64::from(with), access.bits(), 0])?;
        Ok(key)
    }

    /// A view of what another client shares.
    pub fn attach(self, key: u64) -> Result<Region, Denial> {
        let [address, pages, ..] = ask(self.0, Request::Attach, [key, 0, 0, 0])?;
        Ok(Region { address, pages })
    }

    /// Gives it back.
    pub fn give_back(self, region: Region) -> Result<(), Denial> {
        ask(self.0, Request::Drop, [region.address, 0, 0, 0]).map(|_| ())
    }

    /// Brings pages in and keeps them.
    pub fn pin(self, region: &Region, first: u64, pages: u64) -> Result<(), Denial> {
        ask(self.0, Request::Pin, [region.address + first * PAGE_SIZE, pages, 0, 0]).map(|_| ())
    }

    pub fn unpin(self, region: &Region, first: u64, pages: u64) -> Result<(), Denial> {
        ask(self.0, Request::Unpin, [region.address + first * PAGE_SIZE, pages, 0, 0]).map(|_| ())
    }

    /// Where the next fault that cannot be served continues, in the task that faulted and on its stack: with the
    /// [`Denial`]'s number and the address.
    pub fn on_error(self, handler: extern "C" fn(u64, u64) -> !) -> Result<(), Denial> {
        ask(self.0, Request::OnError, [handler as *const () as u64, 0, 0, 0]).map(|_| ())
    }

    /// Splits off a part of the account: its number, by which the manager admits a process ([`super::entrust_part`]).
    pub fn split(self, part: Limits) -> Result<u16, Denial> {
        let [frames, pages] = part.words();
        let [number, ..] = ask(self.0, Request::Split, [frames, pages, 0, 0])?;
        Ok(number as u16)
    }

    /// Ends a part. Whoever uses it loses all its memory.
    pub fn close(self, part: u16) -> Result<(), Denial> {
        ask(self.0, Request::Close, [part.into(), 0, 0, 0]).map(|_| ())
    }

    pub fn account(self) -> Result<Account, Denial> {
        let [frames, limit, pages, faults] = ask(self.0, Request::Account, [0; 4])?;
        Ok(Account { frames, limit, pages, faults })
    }
}
