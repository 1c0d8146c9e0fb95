//! A paging store: keeps pages for pagers. This one keeps them in its own memory. For tests it can
//! be told to fail.
//!
//! The custom bits of its member record identify a pager. Only the pager that put a page can get or
//! free it, and it has no more slots than its share. A page travels in the pager's *window*, a
//! frame that both have mapped.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

extern crate alloc;

mod fail;
mod slots;

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{PAGE_LOG2, PAGE_SIZE};
use protocols::store::{self, Refusal, answer, request};
use user_rt::arch::{self, memory};
use user_rt::cap::{Frame, Handle, Untyped};
use user_rt::ipc::{Event, Message, Received, recv, reply_recv};
use user_rt::layout::{PROGRAM_SLOTS, SHARED_VA, slot};
use user_rt::paging::{
    Faulty, MANAGER, PAGERS_MAX, REGIONS_VA, STORE_FREE_SLOT, StoreSetup, WINDOW_PAGES, store_window,
};
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, own};
use user_rt::talk::{put, with_bytes};
use user_rt::{debug, heap, info};

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
        info!("begins: {} slots, {} pagers", setup.slots, setup.pagers);
        Ok(Store {
            memory: memory.as_chunks().0,
            windows: windows.as_chunks().0.as_chunks().0,
            table: Table::new(setup.slots, setup.pagers.min(PAGERS_MAX)),
            fails: Fails::default(),
        })
    }

    fn serve(&mut self, call: &Received) -> Message {
        with_bytes(&call.message, |bytes| {
            // A fault is no message of anybody's: it has no label.
            store::serve(self, call, call.message.label, bytes, |answer| put(store::ANSWER, answer))
        })
    }

    fn window(&self, pager: u16) -> Result<&'static [[AtomicU64; PAGE_WORDS]; WINDOW_PAGES], Refusal> {
        let index = usize::from(pager).checked_sub(1).ok_or(Refusal::BadRequest)?;
        self.windows.get(index).ok_or(Refusal::BadRequest)
    }

    fn put_page(&mut self, pager: u16, page: Page<'_>) -> Result<u64, Refusal> {
        if self.fails.put() {
            debug!("a put of pager {} fails as told", pager);
            return Err(Refusal::Failed);
        }
        let slot = self.table.take(pager)?;
        copy(page, &self.memory[slot as usize]);
        Ok(slot)
    }

    fn get_page(&mut self, pager: u16, slot: u64) -> Result<(), Refusal> {
        let [page, ..] = self.window(pager)?;
        self.table.check(pager, slot)?;
        let until = arch::now().saturating_add(self.fails.delay());
        while arch::now() < until {
            // Others may run; whether they do does not matter.
            let _ = user_rt::invoke::yield_now();
        }
        let outcome = self.fails.get();
        if outcome == Get::Fails {
            debug!("a get of pager {} fails as told", pager);
            return Err(Refusal::Failed);
        }
        copy(&self.memory[slot as usize], page);
        if let Get::Spoils(word) = outcome {
            debug!("a page of pager {} is spoilt as told", pager);
            page[word % PAGE_WORDS].fetch_xor(1 << (word % 64), Relaxed);
        }
        Ok(())
    }
}

impl store::Server<Received> for Store {
    fn put(
        &mut self,
        from: &Received,
        asked: request::put::Reader<'_>,
        answer: answer::put::Builder<'_>,
    ) -> Result<(), Refusal> {
        let window = self.window(from.custom)?;
        let wanted = usize::from(asked.get_pages());
        let pages = window.get(..wanted).filter(|pages| !pages.is_empty()).ok_or(Refusal::BadRequest)?;
        let mut slots = [0; WINDOW_PAGES];
        let mut kept = 0;
        for (page, slot) in pages.iter().zip(&mut slots) {
            match self.put_page(from.custom, page) {
                Ok(taken) => *slot = taken,
                // Those before are kept.
                Err(_) if kept > 0 => break,
                Err(refusal) => return Err(refusal),
            }
            kept += 1;
        }
        let mut list = answer.init_slots(kept);
        (0..kept).zip(slots).for_each(|(index, slot)| list.set(index, slot));
        Ok(())
    }

    fn get(&mut self, from: &Received, asked: request::get::Reader<'_>) -> Result<(), Refusal> {
        self.get_page(from.custom, asked.get_slot())
    }

    fn free(&mut self, from: &Received, asked: request::free::Reader<'_>) -> Result<(), Refusal> {
        self.table.free(from.custom, asked.get_slot())
    }

    fn clear(&mut self, from: &Received) -> Result<(), Refusal> {
        self.table.forget(from.custom)
    }

    fn allow(&mut self, from: &Received, asked: request::allow::Reader<'_>) -> Result<(), Refusal> {
        manager(from)?;
        self.table.allow(asked.get_pager(), asked.get_slots())
    }

    fn forget(&mut self, from: &Received, asked: request::forget::Reader<'_>) -> Result<(), Refusal> {
        manager(from)?;
        self.table.forget(asked.get_pager())
    }

    fn fail(&mut self, from: &Received, asked: request::fail::Reader<'_>) -> Result<(), Refusal> {
        manager(from)?;
        let how = asked.get_how()?;
        self.fails.set(Faulty {
            gets: how.get_gets(),
            puts: how.get_puts(),
            spoiled: how.get_spoiled(),
            delay: how.get_delay(),
            seed: how.get_seed(),
            at_most: how.get_at_most(),
        });
        Ok(())
    }

    fn counts(&mut self, from: &Received, answer: answer::counts::Builder<'_>) -> Result<(), Refusal> {
        manager(from)?;
        let (used, slots) = self.table.used();
        let mut figures = answer.init_figures();
        figures.set_used(used);
        figures.set_slots(slots);
        figures.set_gets_failed(self.fails.gets);
        figures.set_puts_failed(self.fails.puts);
        Ok(())
    }
}

fn manager(from: &Received) -> Result<(), Refusal> {
    if from.custom == MANAGER { Ok(()) } else { Err(Refusal::BadRequest) }
}

/// Copies a page. Only one side of a window works at a time: the system call between them orders
/// what they do.
fn copy(from: Page<'_>, to: Page<'_>) {
    for (to, from) in to.iter().zip(from) {
        to.store(from.load(Relaxed), Relaxed);
    }
}
