//! The pager's machine: frames made of its Untyped, the address spaces of its clients, the files of
//! the boot archive, the store and the policy.
//!
//! The pager maps a frame in its own space only while it fills or reads the frame, so that the
//! frame can be executable in a client.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use abi::{Error, PAGE_LOG2, PAGE_SIZE};
use pager_core::{At, Bytes, Client, FrameId, Machine, Sealer, Stored};
use user_rt::arch::{self, memory};
use user_rt::archive::Archive;
use user_rt::cap::{Access, Frame, Group, Handle, VSpace};
use user_rt::invoke::Pages;
use user_rt::layout::{SHARED_VA, WINDOW_VA};
use user_rt::pages::Pooled;
use user_rt::paging::{
    Advice, Denial, FRAMES_TOGETHER, Policy, Question, Store, StoreError, WINDOW_PAGES, pager_slot,
};
use user_rt::spawn::{Many, Nursery, own};
use user_rt::warn;

/// Where a frame is mapped to see whether another process has it mapped: beside the window, in the
/// same page table.
const PROBE_VA: u64 = WINDOW_VA + PAGE_SIZE;

const PAGE_WORDS: usize = PAGE_SIZE as usize / 8;

pub struct World {
    runs: Many,
    store: Store,
    policy: Policy,
    sealer: Sealer,
    /// Pages that the store sees, too; none without a store.
    window: &'static [AtomicU64],
    /// What is copied from one frame to another.
    buffer: Vec<u8>,
    archive: Option<Archive<'static>>,
    /// Clients whose address spaces nobody uses any more.
    gone: u128,
}

impl World {
    pub fn new(nursery: &mut Nursery, frames: u32) -> user_rt::Result<World> {
        let run = u64::from(PAGE_LOG2) | u64::from(FRAMES_TOGETHER) << 8;
        let runs = nursery.make_many::<Frame>(run, frames.div_ceil(FRAMES_TOGETHER))?;
        let window = core::iter::once(Frame::at(pager_slot::WINDOW));
        let window = memory::map_runs(&own::vspace(), window, WINDOW_PAGES as u64, SHARED_VA);
        let store = Store::of(&Group::at(pager_slot::STORE));
        // A pager that had this number before may have left something. There may be no store, too.
        let _ = store.clear();
        Ok(World {
            runs,
            store,
            policy: Policy::of(&Group::at(pager_slot::POLICY)),
            sealer: Sealer::new(key()),
            window: window.unwrap_or(&[]),
            buffer: vec![0; PAGE_SIZE as usize],
            archive: Archive::new(memory::archive()).ok(),
            gone: 0,
        })
    }

    /// Returns a file's number and length.
    pub fn open(&self, name: &str) -> Option<(u64, u64)> {
        let found = self.archive.as_ref()?.programs().find(|file| file.name() == name)?;
        Some((found.channel.into(), found.file.len() as u64))
    }

    /// Returns the contents of a file of the boot archive, by its number.
    pub fn contents(&self, file: u64) -> Option<&'static [u8]> {
        Some(self.archive.as_ref()?.programs().find(|found| u64::from(found.channel) == file)?.file)
    }

    /// Returns the frame object that contains a frame, and the frame's page in it.
    fn place(&self, frame: FrameId) -> (Frame, Pages) {
        let run = Frame::at(self.runs.nth(frame.0 / FRAMES_TOGETHER));
        (run, Pages { first: (frame.0 % FRAMES_TOGETHER).into(), count: 1 })
    }

    /// Maps a frame in the pager's window, and lets `work` write its bytes.
    /// Requires: the frame is mapped nowhere else. So this cannot fail, since the window's page
    /// table exists.
    fn fill<R>(&self, frame: FrameId, work: impl FnOnce(&mut [u8]) -> R) -> R {
        let (run, page) = self.place(frame);
        memory::with_page(&own::vspace(), &run, page.first, work).expect("a frame that nobody has mapped")
    }

    /// Maps a frame in the pager's window, and lets `work` read its bytes.
    fn read<R>(&self, frame: FrameId, work: impl FnOnce(&[u8]) -> R) -> R {
        let (run, page) = self.place(frame);
        show(&run, page.first, work)
    }

    fn is_gone(&self, client: Client) -> bool {
        self.gone >> (client % 128) & 1 != 0
    }

    /// Notes that a client's address space is now to be served.
    pub fn comes(&mut self, client: Client) {
        self.gone &= !(1 << (client % 128));
    }
}

/// Maps a page of a frame in the pager's window, and lets `work` read its bytes. Others may have it
/// mapped to read or execute.
fn show<R>(run: &Frame, page: u64, work: impl FnOnce(&[u8]) -> R) -> R {
    memory::read_page(&own::vspace(), run, page, work).expect("a frame that can be read")
}

/// Makes a key for seals that only this process knows, from the CPU's random number generator. If
/// the CPU has none, the key is the time, which a store can guess: then seals find accidents, but
/// no lies.
fn key() -> [u64; 2] {
    if let (Some(first), Some(second)) = (arch::random(), arch::random()) {
        return [first, second];
    }
    warn!("the CPU has no random numbers: a store that lies could be believed");
    [arch::now(), arch::now()]
}

fn space(of: At) -> VSpace {
    VSpace::at(pager_slot::vspace(of.client))
}

fn denial(refusal: user_rt::Refusal) -> Denial {
    match refusal.error {
        Error::NoTables => Denial::NoTables,
        Error::Mapped => Denial::Occupied,
        Error::Full => Denial::Full,
        Error::WriteExecute => Denial::Access,
        Error::BadAddress | Error::BadArgument => Denial::BadRequest,
        _ => Denial::Gone,
    }
}

impl Machine for World {
    fn map(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial> {
        let (run, page) = self.place(frame);
        space(at).map_pages(&run, at.address, access, page).map_err(denial)
    }

    fn protect(&mut self, at: At, frame: FrameId, access: Access) -> Result<(), Denial> {
        let (run, page) = self.place(frame);
        space(at).protect_pages(&run, at.address, access, page).map_err(denial)
    }

    fn unmap(&mut self, at: At, frame: FrameId) -> bool {
        let (run, page) = self.place(frame);
        match space(at).unmap_pages(&run, at.address, page) {
            Ok(()) => true,
            // The task that unmapped it there also waited until no CPU saw it.
            Err(refusal) if refusal.error == Error::BadAddress => true,
            Err(_) => self.is_gone(at.client),
        }
    }

    fn gone(&mut self, client: Client) {
        self.gone |= 1 << (client % 128);
    }

    fn is_lost(&mut self, client: Client) -> bool {
        matches!(own::cnode().inspect(pager_slot::vspace(client)), Ok(None))
    }

    /// Whether nothing maps a page: only then can it enter a pool.
    fn is_unseen(&mut self, frame: FrameId) -> bool {
        let (run, page) = self.place(frame);
        let alone = own::vspace().map_pool_pages(&run, PROBE_VA, page).is_ok();
        alone && own::vspace().drop_pages(Pooled::new(PROBE_VA, 1)).is_ok()
    }

    fn accessed(&mut self, at: At, frame: FrameId) -> bool {
        let (run, page) = self.place(frame);
        space(at).accessed(&run, at.address, page).is_ok_and(|(used, _)| used != 0)
    }

    fn clear(&mut self, frame: FrameId) {
        self.fill(frame, |bytes| bytes.fill(0));
    }

    fn copy(&mut self, from: FrameId, to: FrameId) {
        let mut buffer = core::mem::take(&mut self.buffer);
        self.read(from, |bytes| buffer.copy_from_slice(bytes));
        self.fill(to, |bytes| bytes.copy_from_slice(&buffer));
        self.buffer = buffer;
    }

    fn load(&mut self, bytes: Bytes, frame: FrameId) {
        let file = self.contents(bytes.file).unwrap_or(&[]);
        let first = (bytes.first as usize).min(file.len());
        let part = &file[first..(first + bytes.count as usize).min(file.len())];
        self.fill(frame, |to| {
            to[..part.len()].copy_from_slice(part);
            to[part.len()..].fill(0);
        });
    }

    fn put(&mut self, frames: &[FrameId]) -> Result<Vec<Stored>, StoreError> {
        let window: &[[AtomicU64; PAGE_WORDS]] = self.window.as_chunks().0;
        if window.is_empty() {
            return Err(StoreError::NoStore);
        }
        let mut stored = Vec::with_capacity(frames.len());
        for (page, frame) in window.iter().zip(frames) {
            let (run, of_run) = self.place(*frame);
            let seal = show(&run, of_run.first, |bytes| {
                for (word, from) in page.iter().zip(bytes.as_chunks().0) {
                    word.store(u64::from_le_bytes(*from), Relaxed);
                }
                self.sealer.seal(bytes)
            });
            stored.push(Stored { slot: 0, seal });
        }
        let slots = self.store.put(stored.len())?;
        Ok(stored.into_iter().zip(slots).map(|(stored, slot)| Stored { slot, ..stored }).collect())
    }

    fn get(&mut self, stored: Stored, frame: FrameId) -> Result<(), StoreError> {
        self.store.get(stored.slot)?;
        let window = self.window;
        let holds = self.fill(frame, |bytes| {
            for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(window) {
                *to = word.load(Relaxed).to_le_bytes();
            }
            // Of the copy: the store may still write into the window.
            self.sealer.holds(stored.seal, bytes)
        });
        if holds { Ok(()) } else { Err(StoreError::Failed) }
    }

    fn free(&mut self, stored: Stored) {
        // A store that is no more keeps nothing either.
        let _ = self.store.free(stored.slot);
    }

    fn advise(&mut self, question: &Question<'_>) -> Advice {
        self.policy.ask(question)
    }
}
