//! A pager's requests to a paging store: the protocol of `schema/store.capnp`. Pages travel in the
//! window, a frame of [`WINDOW_PAGES`] that both have mapped.

use protocols::{Failure, store};

use super::{SERVER, WINDOW_PAGES};
use crate::Refusal;
use crate::cap::{Exposure, Group};
use crate::talk::Line;

/// Why a store does not do what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// There is no such request, or no such slot of the caller's.
    BadRequest,
    /// All slots are in use, or all that the caller may have.
    Full,
    /// The device failed, or the answer is none.
    Failed,
    /// The store could not be reached: it is no more.
    NoStore,
}

impl From<Failure<store::Refusal, Refusal>> for StoreError {
    fn from(failure: Failure<store::Refusal, Refusal>) -> StoreError {
        match failure {
            Failure::Refused(store::Refusal::BadRequest) => StoreError::BadRequest,
            Failure::Refused(store::Refusal::Full) => StoreError::Full,
            Failure::Refused(store::Refusal::Failed) | Failure::Malformed => StoreError::Failed,
            Failure::Transport(_) => StoreError::NoStore,
        }
    }
}

/// How a store for tests fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faulty {
    /// How many of 1,000 gets and puts fail, and how many gets return other contents.
    pub gets: u16,
    pub puts: u16,
    pub spoiled: u16,
    /// TSC ticks that a get takes.
    pub delay: u64,
    pub seed: u64,
    /// Gets that fail or give something else, at most.
    pub at_most: u64,
}

/// Figures of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreCounts {
    pub used: u64,
    pub slots: u64,
    pub gets_failed: u64,
    pub puts_failed: u64,
}

/// A paging store.
#[derive(Clone, Copy, Debug)]
pub struct Store(store::Client<Line>);

impl Store {
    pub fn of(group: &Group) -> Store {
        Store::at(group.exposure(SERVER))
    }

    pub fn at(exposure: Exposure) -> Store {
        Store(store::Client(Line::to(exposure)))
    }

    /// Stores up to `pages` pages of the window, or some of them from the first on. Returns the
    /// slots that have them.
    pub fn put(self, pages: usize) -> Result<impl Iterator<Item = u64>, StoreError> {
        let wanted = pages.min(WINDOW_PAGES);
        let kept = self.0.put(
            |mut put| put.set_pages(wanted as u16),
            |kept| {
                let slots = kept.get_slots()?;
                let mut kept = [0; WINDOW_PAGES];
                kept.iter_mut().zip(slots).for_each(|(to, slot)| *to = slot);
                Ok(kept.into_iter().take(wanted.min(slots.len() as usize)))
            },
        )?;
        Ok(kept)
    }

    /// Reads the page in a slot back into the window.
    pub fn get(self, slot: u64) -> Result<(), StoreError> {
        Ok(self.0.get(|mut get| get.set_slot(slot))?)
    }

    pub fn free(self, slot: u64) -> Result<(), StoreError> {
        Ok(self.0.free(|mut free| free.set_slot(slot))?)
    }

    /// Frees all slots that the caller has in the store.
    pub fn clear(self) -> Result<(), StoreError> {
        Ok(self.0.clear()?)
    }

    /// Sets how many slots a pager may have. Only the store's manager may do this.
    pub fn allow(self, pager: u16, slots: u64) -> Result<(), StoreError> {
        Ok(self.0.allow(|mut allow| {
            allow.set_pager(pager);
            allow.set_slots(slots);
        })?)
    }

    /// Frees the slots of a pager that has ended. Only the store's manager may do this.
    pub fn forget(self, pager: u16) -> Result<(), StoreError> {
        Ok(self.0.forget(|mut forget| forget.set_pager(pager))?)
    }

    pub fn fail(self, how: Faulty) -> Result<(), StoreError> {
        let fill = |to: store::request::fail::Builder<'_>| {
            let mut to = to.init_how();
            to.set_gets(how.gets);
            to.set_puts(how.puts);
            to.set_spoiled(how.spoiled);
            to.set_delay(how.delay);
            to.set_seed(how.seed);
            to.set_at_most(how.at_most);
        };
        Ok(self.0.fail(fill)?)
    }

    pub fn counts(self) -> Result<StoreCounts, StoreError> {
        let counts = self.0.counts(|counts| {
            let figures = counts.get_figures()?;
            Ok(StoreCounts {
                used: figures.get_used(),
                slots: figures.get_slots(),
                gets_failed: figures.get_gets_failed(),
                puts_failed: figures.get_puts_failed(),
            })
        })?;
        Ok(counts)
    }
}
