//! A paging store: keeps pages for pagers. This one keeps them in memory of its own, and fails as it is told, for tests.
//!
//! A pager is known by the custom bits of its member record; only it gets back, or frees, what it put. A page travels
//! in the pager's *window*, a frame that both have mapped.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod fail;
mod slots;

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{PAGE_LOG2, PAGE_SIZE};
use user_rt::arch::{self, memory};
use user_rt::cap::{Frame, Handle, Untyped};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::layout::{PROGRAM_SLOTS, SHARED_VA, slot};
use user_rt::paging::{
    Faulty, MANAGER, PAGERS_MAX, REGIONS_VA, STORE_FREE_SLOT, StoreError, StoreRequest, StoreSetup,
    WINDOW_PAGES, store_window,
};
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, own};
use user_rt::{heap, utcb};

use fail::{Fails, Get};
use slots::Table;

user_rt::program!(begin);

const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;
/// Pages made, and mapped, at a time.
const TOGETHER: u32 = 64;
/// Slots whose table fits a page of the heap, with room to spare.
const SLOTS_PER_HEAP_PAGE: u32 = 400;

type Page<'a> = &'a [AtomicU64; PAGE_WORDS];

struct Store {
    /// The pages of the slots.
    memory: &'static [[AtomicU64; PAGE_WORDS]],
    /// Those shared with pagers 1, 2, ….
    windows: &'static [[[AtomicU64; PAGE_WORDS]; WINDOW_PAGES]],
    table: Table,
    fails: Fails,
}

fn begin(argument: u64) -> ! {
    let setup = StoreSetup::of_argument(argument);
    let mut store = Store::new(setup).expect("memory for a store");
    let mut event = recv();
    loop {
        event = match event {
            Ok(Event::Call(call)) => reply_recv(&store.serve(&call)),
            _ => recv(),
        };
    }
}

impl Store {
    fn new(setup: StoreSetup) -> user_rt::Result<Store> {
        let mut nursery =
            Nursery::new(Untyped::at(slot::UNTYPED), Slots::new(STORE_FREE_SLOT..PROGRAM_SLOTS));
        let vspace = own::vspace();
        heap::add(&vspace, &mut nursery, setup.slots / SLOTS_PER_HEAP_PAGE + 2)?;
        let runs = setup.slots.div_ceil(TOGETHER);
        let run = u64::from(PAGE_LOG2) | u64::from(TOGETHER) << 8;
        let frames = nursery.make_many::<Frame>(run, runs)?;
        let memory = memory::map_runs(&vspace, frames.iter::<Frame>(), TOGETHER.into(), REGIONS_VA)?;
        let windows = (1..=setup.pagers.min(PAGERS_MAX)).map(|pager| Frame::at(store_window(pager)));
        let windows = memory::map_runs(&vspace, windows, WINDOW_PAGES as u64, SHARED_VA)?;
        Ok(Store {
            memory: memory.as_chunks().0,
            windows: windows.as_chunks().0.as_chunks().0,
            table: Table::new(setup.slots),
            fails: Fails::default(),
        })
    }

    fn serve(&mut self, call: &Received) -> Message {
        match self.answer(call) {
            Ok((regs, words)) => Message::with_words(0, regs, words),
            Err(error) => Message::new(error as u32, [0; 4]),
        }
    }

    /// Registers, and how many UTCB words go with them.
    fn answer(&mut self, call: &Received) -> Result<([u64; 4], u8), StoreError> {
        let request = StoreRequest::from_raw(call.message.label).filter(|_| !call.fault);
        let [first, second, third, fourth] = call.message.regs;
        match request.ok_or(StoreError::BadRequest)? {
            StoreRequest::Put => self.put(call.custom, first).map(|kept| ([kept, 0, 0, 0], kept as u8)),
            StoreRequest::Get => self.get(call.custom, first).map(|()| ([0; 4], 0)),
            StoreRequest::Free => self.table.free(call.custom, first).map(|()| ([0; 4], 0)),
            StoreRequest::Fail if call.custom == MANAGER && call.message.words >= 2 => {
                let words = utcb::current().message();
                let (seed, at_most) = (words[0].load(Relaxed), words[1].load(Relaxed));
                let how = Faulty { gets: first, puts: second, spoiled: third, delay: fourth, seed, at_most };
                self.fails.set(how);
                Ok(([0; 4], 0))
            }
            StoreRequest::Counts if call.custom == MANAGER => {
                let (used, all) = self.table.used();
                Ok(([used, all, self.fails.gets, self.fails.puts], 0))
            }
            _ => Err(StoreError::BadRequest),
        }
    }

    fn window(&self, pager: u16) -> Result<&'static [[AtomicU64; PAGE_WORDS]; WINDOW_PAGES], StoreError> {
        let index = usize::from(pager).checked_sub(1).ok_or(StoreError::BadRequest)?;
        self.windows.get(index).ok_or(StoreError::BadRequest)
    }

    /// How many pages of the window were kept; their slots are in the UTCB.
    fn put(&mut self, pager: u16, pages: u64) -> Result<u64, StoreError> {
        let window = self.window(pager)?;
        let wanted = usize::try_from(pages).ok().filter(|pages| (1..=WINDOW_PAGES).contains(pages));
        let words = utcb::current().message();
        let mut kept = 0;
        for (page, word) in window.iter().zip(words).take(wanted.ok_or(StoreError::BadRequest)?) {
            match self.put_page(pager, page) {
                Ok(slot) => word.store(slot, Relaxed),
                // Those before are kept.
                Err(_) if kept > 0 => break,
                Err(error) => return Err(error),
            }
            kept += 1;
        }
        Ok(kept)
    }

    fn put_page(&mut self, pager: u16, page: Page<'_>) -> Result<u64, StoreError> {
        if self.fails.put() {
            return Err(StoreError::Failed);
        }
        let slot = self.table.take(pager)?;
        copy(page, &self.memory[slot as usize]);
        Ok(slot)
    }

    fn get(&mut self, pager: u16, slot: u64) -> Result<(), StoreError> {
        let [page, ..] = self.window(pager)?;
        self.table.check(pager, slot)?;
        let until = arch::now().saturating_add(self.fails.delay());
        while arch::now() < until {
            // Others may run; whether they do does not matter.
            let _ = user_rt::invoke::yield_now();
        }
        let outcome = self.fails.get();
        if outcome == Get::Fails {
            return Err(StoreError::Failed);
        }
        copy(&self.memory[slot as usize], page);
        if let Get::Spoils(word) = outcome {
            page[word % PAGE_WORDS].fetch_xor(1 << (word % 64), Relaxed);
        }
        Ok(())
    }
}

/// Only one side of a window works at a time: the system call between them orders what they do.
fn copy(from: Page<'_>, to: Page<'_>) {
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Relaxed), Relaxed);
    }
}
