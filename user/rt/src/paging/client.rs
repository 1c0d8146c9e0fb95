//! A client's requests to its pager: the client's part of the protocol of `schema/pager.capnp`.

use core::sync::atomic::AtomicU64;

use abi::PAGE_SIZE;
use protocols::pager::{self, bytes};

use super::{Denial, Limits, NAME_MAX, SERVER};
use crate::arch::memory;
use crate::cap::{Access, Group, Handle};
use crate::layout::slot;
use crate::talk::Line;

/// A pager, as one of its clients sees it.
#[derive(Clone, Copy, Debug)]
pub struct Pager(pager::Client<Line>);

/// Memory that the pager serves, at an address of this process. It is given back by
/// [`Pager::give_back`] only.
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

    /// Returns the region's words. An access may take long. If a word cannot be provided, the
    /// process ends, or its error handler runs ([`Pager::on_error`]).
    pub fn words(&self) -> &[AtomicU64] {
        memory::region_words(self)
    }
}

/// Returns a number of pages as a request has it; an error if there are too many.
pub(super) fn count(pages: u64) -> Result<u32, Denial> {
    u32::try_from(pages).map_err(|_| Denial::Limit)
}

pub(super) fn put_bytes(mut to: bytes::Builder<'_>, (file, first, count): (u64, u64, u64)) {
    to.set_file(file);
    to.set_first(first);
    to.set_count(count);
}

/// Opens a file of the boot archive. Returns its number and length.
pub(super) fn open(of: &pager::Client<Line>, name: &str) -> Result<(u64, u64), Denial> {
    if name.len() > NAME_MAX {
        return Err(Denial::NoFile);
    }
    let found = of.open(
        |mut open| open.set_name(name),
        |answer| {
            let file = answer.get_file()?;
            Ok((file.get_number(), file.get_bytes()))
        },
    )?;
    Ok(found)
}

impl Pager {
    /// Returns the pager that this process was given.
    pub fn own() -> Pager {
        Pager::of(&Group::at(slot::PAGER))
    }

    /// Returns the pager that is exposed in a group.
    pub fn of(group: &Group) -> Pager {
        Pager(pager::Client(Line::to(group.exposure(SERVER))))
    }

    /// Makes a region of zeroes.
    pub fn anonymous(self, pages: u64, access: Access) -> Result<Region, Denial> {
        let wanted = count(pages)?;
        let address = self.0.anonymous(
            |mut ask| {
                ask.set_pages(wanted);
                ask.set_access(access.into());
            },
            |answer| Ok(answer.get_address()),
        )?;
        Ok(Region { address, pages })
    }

    /// Opens a file of the boot archive. Returns its number and length.
    pub fn open(self, name: &str) -> Result<(u64, u64), Denial> {
        open(&self.0, name)
    }

    /// Makes a region of a file's bytes, with zeroes up to the end of the last page. If it may be
    /// written, the written pages belong to this client alone.
    pub fn file(self, file: u64, first: u64, bytes: u64, access: Access) -> Result<Region, Denial> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let wanted = count(pages)?;
        let address = self.0.file(
            |mut ask| {
                ask.set_pages(wanted);
                ask.set_access(access.into());
                put_bytes(ask.init_bytes(), (file, first, bytes));
            },
            |answer| Ok(answer.get_address()),
        )?;
        Ok(Region { address, pages })
    }

    /// Makes a region with the present contents of another one.
    pub fn clone_of(self, region: &Region) -> Result<Region, Denial> {
        let address =
            self.0.clone_of(|mut ask| ask.set_address(region.address), |answer| Ok(answer.get_address()))?;
        Ok(Region { address, pages: region.pages })
    }

    /// Lets another client attach a region. Returns the key that it needs.
    pub fn share(self, region: &Region, with: u16, access: Access) -> Result<u64, Denial> {
        let key = self.0.share(
            |mut ask| {
                ask.set_address(region.address);
                ask.set_with(with);
                ask.set_access(access.into());
            },
            |answer| Ok(answer.get_key()),
        )?;
        Ok(key)
    }

    /// Makes a view of a region that another client shares by this key.
    pub fn attach(self, key: u64) -> Result<Region, Denial> {
        let region = self.0.attach(
            |mut ask| ask.set_key(key),
            |answer| Ok(Region { address: answer.get_address(), pages: answer.get_pages().into() }),
        )?;
        Ok(region)
    }

    /// Gives a region back to the pager.
    pub fn give_back(self, region: Region) -> Result<(), Denial> {
        Ok(self.0.give_back(|mut ask| ask.set_address(region.address))?)
    }

    /// Brings pages of a region in, and keeps them in memory.
    pub fn pin(self, region: &Region, first: u64, pages: u64) -> Result<(), Denial> {
        let wanted = count(pages)?;
        Ok(self.0.pin(|mut ask| {
            ask.set_address(region.address + first * PAGE_SIZE);
            ask.set_pages(wanted);
        })?)
    }

    pub fn unpin(self, region: &Region, first: u64, pages: u64) -> Result<(), Denial> {
        let wanted = count(pages)?;
        Ok(self.0.unpin(|mut ask| {
            ask.set_address(region.address + first * PAGE_SIZE);
            ask.set_pages(wanted);
        })?)
    }

    /// Sets the function that runs after the next fault that cannot be served, in the task that
    /// faulted and on its stack: with the [`Denial`]'s number and the address.
    pub fn on_error(self, handler: extern "C" fn(u64, u64) -> !) -> Result<(), Denial> {
        Ok(self.0.on_error(|mut ask| ask.set_handler(handler as *const () as u64))?)
    }

    /// Splits off a part of this client's account. Returns its number, by which the manager admits
    /// a process ([`super::entrust_part`]).
    pub fn split(self, part: Limits) -> Result<u16, Denial> {
        Ok(self.0.split(|ask| part.put(ask.init_limits()), |answer| Ok(answer.get_part()))?)
    }

    /// Ends a part of this client's account. The process that uses it loses all its memory.
    pub fn close(self, part: u16) -> Result<(), Denial> {
        Ok(self.0.close(|mut ask| ask.set_part(part))?)
    }

    pub fn account(self) -> Result<Account, Denial> {
        let account = self.0.account(|answer| {
            let it = answer.get_account()?;
            let (frames, limit) = (it.get_frames(), it.get_limit());
            Ok(Account { frames, limit, pages: it.get_pages(), faults: it.get_faults() })
        })?;
        Ok(account)
    }
}
