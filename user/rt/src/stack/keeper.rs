//! The keeper of an address space's stacks: hands out places, maps pages when they are touched, and
//! takes both back.

use core::fmt;

use abi::{Cap, Error, FaultKind, PAGE_SIZE, TaskId};

use super::area::{Area, Finding, Stack};
use super::{Label, Span};
use crate::cap::{Access, Frame, Handle, VSpace};
use crate::fault::{Fault, Verdict};
use crate::ipc::{Message, Received};
use crate::layout::{STACKS_END, STACKS_VA};
use crate::log::Shown;
use crate::spawn::Nursery;
use crate::{Refusal, Result};

/// No page: the end of a list.
const NONE: u16 = u16::MAX;

/// Pages of memory that stacks have, or had. What an earlier stack left in one stays there: all of
/// them belong to one address space.
#[derive(Debug)]
struct Pages<const N: usize> {
    frames: [Cap; N],
    /// The next in the same list: of a stack's pages, lowest first, or of the free ones.
    next: [u16; N],
    free: u16,
    made: usize,
}

impl<const N: usize> Pages<N> {
    const fn new() -> Self {
        Pages { frames: [Cap::NULL; N], next: [NONE; N], free: NONE, made: 0 }
    }

    /// Returns an unused page, which is in no stack's list; makes one if there is none.
    fn take(&mut self, nursery: &mut Nursery) -> Result<u16> {
        if self.free != NONE {
            let page = self.free;
            self.free = self.next[page as usize];
            return Ok(page);
        }
        if self.made == N.min(NONE as usize) {
            return Err(Refusal::local(Error::NoMemory, N as u64));
        }
        let frame: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
        self.frames[self.made] = frame.cap();
        self.made += 1;
        Ok((self.made - 1) as u16)
    }

    fn give(&mut self, page: u16) {
        self.next[page as usize] = self.free;
        self.free = page;
    }

    fn frame(&self, page: u16) -> Frame {
        Frame::at(self.frames[page as usize])
    }

    fn free(&self) -> usize {
        let after = |page: &u16| Some(self.next[*page as usize]).filter(|next| *next != NONE);
        core::iter::successors(Some(self.free).filter(|page| *page != NONE), after).count()
    }
}

/// Why a stack did not grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow {
    pub task: TaskId,
    pub why: Why,
    pub stack: Stack,
    pub address: u64,
    pub rip: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Its reserve is used up.
    Full,
    /// More was taken from it than was put there.
    Empty,
    /// There was no memory, or no page table.
    NoMemory(Refusal),
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overflow { task, why, stack, address, rip } = self;
        write!(f, "task {}: ", task.raw())?;
        match why {
            Why::Full => f.write_str("its stack overflows")?,
            Why::Empty => f.write_str("its stack underflows")?,
            Why::NoMemory(refusal) => write!(f, "no memory for its stack ({refusal})")?,
        }
        let (mapped, reserve) = (stack.mapped() >> 10, stack.reserve() >> 10);
        write!(f, ": {mapped} KiB of {reserve} at {:#x} in use; {address:#x} touched at {rip:#x}", stack.low)
    }
}

/// What it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    pub stacks: usize,
    /// Mapped in stacks.
    pub pages: usize,
    /// Spare.
    pub free: usize,
    /// Times a stack grew by a fault.
    pub faults: u64,
}

/// Keeps up to `STACKS` stacks of one address space, with up to `PAGES` pages in all. It needs no
/// heap.
///
/// Its own task's stack has to be one that does not grow by it.
#[derive(Debug)]
pub struct Keeper<const STACKS: usize, const PAGES: usize> {
    vspace: VSpace,
    nursery: Nursery,
    area: Area<STACKS>,
    pages: Pages<PAGES>,
    /// The lowest page of each stack that came from this keeper.
    lowest: [u16; STACKS],
    faults: u64,
    /// The last that did not grow.
    pub overflow: Option<Overflow>,
}

impl<const STACKS: usize, const PAGES: usize> Keeper<STACKS, PAGES> {
    /// Makes a keeper of the stacks of an address space (with MAP). Pages come from `nursery`,
    /// which belongs to the keeper from now on.
    pub const fn new(vspace: VSpace, nursery: Nursery) -> Self {
        Keeper {
            vspace,
            nursery,
            area: Area::new(STACKS_VA..STACKS_END),
            pages: Pages::new(),
            lowest: [NONE; STACKS],
            faults: 0,
            overflow: None,
        }
    }

    /// Makes a stack of at least so many bytes, with its first page mapped.
    pub fn take(&mut self, bytes: u64) -> Result<Span> {
        let full = Refusal::local(Error::Full, STACKS as u64);
        let number = self.area.place(bytes.div_ceil(PAGE_SIZE).max(1)).ok_or(full)?;
        if let Err(refusal) = self.add_page(number) {
            self.area.remove(number);
            return Err(refusal);
        }
        let stack = self.area.get(number).ok_or(full)?;
        Ok(Span { low: stack.low, top: stack.top })
    }

    /// Takes charge of a stack that another party made, of which `mapped` bytes are mapped. It
    /// grows up to the whole span.
    pub fn adopt(&mut self, span: Span, mapped: u64) -> Result<()> {
        let stack = Stack { low: span.low, top: span.top, bottom: span.top.saturating_sub(mapped) };
        let number = self.area.adopt(stack).ok_or(Refusal::local(Error::BadAddress, span.low))?;
        self.lowest[number] = NONE;
        Ok(())
    }

    /// Takes back a stack on which no task runs any more. Of an adopted stack, unmaps the pages by
    /// which it has grown.
    pub fn give(&mut self, low: u64) -> Result<()> {
        let bad = Refusal::local(Error::BadAddress, low);
        let number = self.area.at(low).ok_or(bad)?;
        let stack = self.area.remove(number).ok_or(bad)?;
        let (mut page, mut at) = (core::mem::replace(&mut self.lowest[number], NONE), stack.bottom);
        while page != NONE {
            let next = self.pages.next[page as usize];
            self.vspace.unmap(&self.pages.frame(page), at)?;
            self.pages.give(page);
            (page, at) = (next, at + PAGE_SIZE);
        }
        Ok(())
    }

    /// Decides about a task that faulted, if its stack must grow or has overflowed; `None` for
    /// another fault.
    pub fn judge(&mut self, fault: &Fault, task: TaskId) -> Option<Verdict> {
        if fault.kind != FaultKind::StackOverflow {
            return None;
        }
        let (why, stack) = match self.area.judge(fault.address, fault.rsp) {
            Finding::Foreign => return None,
            Finding::Mapped => return Some(Verdict::Resume),
            Finding::Grows { stack, pages } => match (0..pages).try_for_each(|_| self.add_page(stack)) {
                Ok(()) => {
                    self.faults += 1;
                    return Some(Verdict::Resume);
                }
                Err(refusal) => (Why::NoMemory(refusal), *self.area.get(stack)?),
            },
            Finding::Full(stack) => (Why::Full, stack),
            Finding::Empty(stack) => (Why::Empty, stack),
        };
        let overflow = Overflow { task, why, stack, address: fault.address, rip: fault.rip };
        self.overflow = Some(overflow);
        crate::warn!("stack {}", Shown(overflow));
        crate::report!("stack {overflow}");
        Some(Verdict::TearDown)
    }

    /// Answers a message of the protocol in [`super`]; `None` if the message is of another
    /// protocol.
    pub fn serve(&mut self, received: &Received) -> Option<Message> {
        let answer = |done: Result<[u64; 2]>| match done {
            Ok([a, b]) => Message::new(0, [a, b, 0, 0]),
            Err(refusal) => Message::new(refusal.error as u32, [refusal.detail, 0, 0, 0]),
        };
        let [first, ..] = received.message.regs;
        match Label::from_raw(received.message.label)? {
            Label::Take => Some(answer(self.take(first).map(|span| [span.low, span.top]))),
            Label::Give => Some(answer(self.give(first).map(|()| [0; 2]))),
        }
    }

    pub fn usage(&self) -> Use {
        let free = self.pages.free();
        Use { stacks: self.area.iter().count(), pages: self.pages.made - free, free, faults: self.faults }
    }

    /// Maps one more page of a stack.
    fn add_page(&mut self, number: usize) -> Result<()> {
        let bottom = self.area.get(number).map_or(0, |stack| stack.bottom);
        let page = self.pages.take(&mut self.nursery)?;
        let at = bottom.wrapping_sub(PAGE_SIZE);
        if let Err(refusal) = self.vspace.map(&self.pages.frame(page), at, Access::Write) {
            self.pages.give(page);
            return Err(refusal);
        }
        self.area.grow(number);
        self.pages.next[page as usize] = core::mem::replace(&mut self.lowest[number], page);
        Ok(())
    }
}
