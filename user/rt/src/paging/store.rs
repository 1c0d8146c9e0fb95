//! What a pager asks of a paging store. Pages travel in the window, a frame of [`WINDOW_PAGES`](super::WINDOW_PAGES) that
//! both have mapped.

use super::{SERVER, numbered};
use crate::cap::{Exposure, Group};
use crate::ipc::Message;

numbered! {
    /// What is asked of a store: the label.
    StoreRequest {
        /// Keep pages of the window. 0: how many, from its first on. Out: 0: how many of these are kept, from the first on,
        /// and at least that; UTCB words: their slots.
        Put = 1;
        /// Put the contents of a slot into the window's first page. 0: slot.
        Get = 2;
        /// A slot is not needed any more. 0: slot.
        Free = 3;
        /// Manager: how it is to fail. 0: of 1,000 gets, that many fail; 1: of 1,000 puts; 2: of 1,000 gets, that many
        /// give something else; 3: ticks that each get takes. UTCB words: seed; failures at most, of gets of either kind.
        Fail = 64;
        /// Manager: figures. Out: 0: slots used; 1: slots there are; 2: gets that failed or gave something else; 3: puts
        /// that failed.
        Counts = 65;
    }

    /// Why a store does not do what was asked: the label of its answer.
    StoreError {
        /// There is no such request, or no such slot of the caller's.
        BadRequest = 1;
        /// All slots are in use.
        Full = 2;
        /// The device failed.
        Failed = 3;
        /// The store could not be reached: it is no more.
        NoStore = 4;
    }
}

/// How a store for tests fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faulty {
    /// Of 1,000 gets, puts: how many fail; how many gets give something else.
    pub gets: u64,
    pub puts: u64,
    pub spoiled: u64,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store(Exposure);

impl Store {
    pub fn of(group: &Group) -> Store {
        Store(group.exposure(SERVER))
    }

    fn ask(self, request: StoreRequest, regs: [u64; 4], words: &[u64]) -> Result<[u64; 4], StoreError> {
        for (to, from) in crate::utcb::current().message().iter().zip(words) {
            to.store(*from, core::sync::atomic::Ordering::Relaxed);
        }
        let message = Message::with_words(request as u32, regs, words.len() as u8);
        let answer = self.0.call(&message).map_err(|_| StoreError::NoStore)?;
        match answer.label {
            0 => Ok(answer.regs),
            label => Err(StoreError::from_raw(label).unwrap_or(StoreError::Failed)),
        }
    }

    /// Keeps so many pages of the window, or some of them from the first on; where.
    pub fn put(self, pages: usize) -> Result<impl Iterator<Item = u64>, StoreError> {
        let [kept, ..] = self.ask(StoreRequest::Put, [pages as u64, 0, 0, 0], &[])?;
        let words = crate::utcb::current().message();
        let kept = usize::try_from(kept).map_or(pages, |kept| kept.min(pages));
        Ok(words.iter().take(kept).map(|word| word.load(core::sync::atomic::Ordering::Relaxed)))
    }

    /// Puts it into the window.
    pub fn get(self, slot: u64) -> Result<(), StoreError> {
        self.ask(StoreRequest::Get, [slot, 0, 0, 0], &[]).map(|_| ())
    }

    pub fn free(self, slot: u64) -> Result<(), StoreError> {
        self.ask(StoreRequest::Free, [slot, 0, 0, 0], &[]).map(|_| ())
    }

    pub fn fail(self, how: Faulty) -> Result<(), StoreError> {
        let regs = [how.gets, how.puts, how.spoiled, how.delay];
        self.ask(StoreRequest::Fail, regs, &[how.seed, how.at_most]).map(|_| ())
    }

    pub fn counts(self) -> Result<StoreCounts, StoreError> {
        let [used, slots, gets_failed, puts_failed] = self.ask(StoreRequest::Counts, [0; 4], &[])?;
        Ok(StoreCounts { used, slots, gets_failed, puts_failed })
    }
}
