//! The kinds of operations.
//!
//! Each writes the coming state to the words of the affected pages, makes the system call, and
//! writes the reached state. The model determines what the kernel may refuse; a space that is
//! destroyed meanwhile excuses every refusal.

use abi::{Error, PAGE_SIZE};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::cap::{Access, CNode, Frame, Handle, Notification, Task, Untyped, VSpace};
use user_rt::invoke::{Pages, Pins, copy};
use user_rt::layout::utcb_va;
use user_rt::spawn::own;
use user_rt::{Refusal, Result};

use crate::board::{LARGE, LARGE_SIZE, Of, SMALL_PAGES, Total, address};
use crate::cast::{GLOBALS, has_large, memory_slot, moment_slot};
use crate::content::{LARGE_PAGES, MARKS_AT, Page, WORDS, is_filled, is_mark_of, mark};
use crate::objects::{Object, PAGES_MAX, Run};
use crate::probe::probe;
use crate::word::{GLOBAL, How, IDS, Met, Perm, Pool, Thing};
use crate::worker::Worker;

/// A kind of operation, with its weight.
pub struct Kind {
    pub name: &'static str,
    weight: u64,
    pub run: fn(&mut Worker),
}

pub const KINDS: &[Kind] = &[
    Kind { name: "make a frame", weight: 30, run: |worker| _ = worker.make() },
    Kind { name: "map", weight: 160, run: Worker::map },
    Kind { name: "unmap", weight: 110, run: Worker::unmap },
    Kind { name: "protect", weight: 110, run: Worker::protect },
    Kind { name: "map over a mapping", weight: 6, run: Worker::map_over },
    Kind { name: "map by a copy", weight: 8, run: Worker::map_by_copy },
    Kind { name: "ask what was used", weight: 10, run: Worker::accessed },
    Kind { name: "delete a frame", weight: 16, run: Worker::delete },
    Kind { name: "reset", weight: 1, run: |worker| _ = worker.reset() },
    Kind { name: "revoke", weight: 1, run: Worker::revoke },
    Kind { name: "other objects of the same memory", weight: 1, run: Worker::others },
    Kind { name: "map into the pool", weight: 70, run: Worker::map_pool },
    Kind { name: "unmap pages of the pool", weight: 30, run: Worker::drop_pooled },
    Kind { name: "protect pages of the pool", weight: 50, run: Worker::protect_pooled },
    Kind { name: "transfer pages", weight: 70, run: Worker::transfer },
    Kind { name: "copy a shared page", weight: 25, run: Worker::copy_page },
    Kind { name: "use pooled pages by their frame", weight: 8, run: Worker::use_by_frame },
    Kind { name: "watch a shared page", weight: 15, run: Worker::watch },
    Kind { name: "pin a frame", weight: 6, run: Worker::pin },
    Kind { name: "pages in a call", weight: 60, run: Worker::send },
    Kind { name: "pages in a reply", weight: 40, run: Worker::ask },
    Kind { name: "keep a porter busy", weight: 5, run: Worker::keep_busy },
    Kind { name: "operate under a lock", weight: 50, run: Worker::lock },
];

/// Number of the worker's other action.
pub const LOOKING: usize = KINDS.len();
pub const CHECKING: usize = KINDS.len() + 1;

pub fn names() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name)
}

/// Returns the name of an action.
pub fn name(what: u64) -> &'static str {
    names().chain(["looking around", "looking at everything"]).nth(what as usize).unwrap_or("nothing yet")
}

/// Picks a random kind.
pub fn pick(random: &mut Random) -> usize {
    let mut left = random.below(KINDS.iter().map(|kind| kind.weight).sum());
    for (number, kind) in KINDS.iter().enumerate() {
        match left.checked_sub(kind.weight) {
            Some(rest) => left = rest,
            None => return number,
        }
    }
    0
}

/// Places of tasks that never run, after all workers', in the address space of their process.
const SPARE_TASKS: u32 = 64;

impl Worker {
    pub fn memory(&self) -> Untyped {
        Untyped::at(memory_slot(self.local))
    }

    /// Makes a frame of the free memory, and resets all if none is free.
    pub fn make(&mut self) -> Option<Object> {
        let Some(cap) = self.objects.free() else {
            self.delete();
            return None;
        };
        let large = has_large(self.space, self.local) && self.random.chance(15);
        let pages = if large { 1 } else { 1 + self.random.below(PAGES_MAX) as u32 };
        let size = if large { u64::from(LARGE_SIZE.trailing_zeros()) } else { 12 | u64::from(pages) << 8 };
        let made = self.memory().retype::<Frame>(size, own::cnode().slot(cap), 1);
        self.count();
        match made {
            Ok(_) => {
                let next = self.board.workers[self.me].word(Of::NextId);
                let id = next.fetch_add(1, core::sync::atomic::Ordering::AcqRel) as u32 % IDS;
                return Some(self.objects.put(id, large, pages));
            }
            Err(refusal) if refusal.error == Error::NoMemory => {
                self.reset();
            }
            Err(refusal) => self.wrong(Total::Refused, format_args!("making a frame: {refusal}")),
        }
        None
    }

    pub fn pick_object(&mut self) -> Option<Object> {
        if self.random.chance(25) {
            return Some(Object::global(self.random.below(GLOBALS.len() as u64) as usize));
        }
        let random = self.random.next();
        match self.objects.pick(random) {
            Some(object) => Some(self.refresh(object)),
            None => self.make(),
        }
    }

    /// Picks some pages of a frame, and an empty place.
    fn pick_empty(&mut self) -> Option<Run> {
        let object = self.pick_object()?;
        self.pick_empty_for(object)
    }

    pub fn pick_empty_for(&mut self, object: Object) -> Option<Run> {
        let (space, era) = self.pick_space();
        let count = 1 + self.random.below(u64::from(object.pages)) as u32;
        let first = self.random.below(u64::from(object.pages - count + 1)) as u32;
        for _ in 0..8 {
            let large = object.large || (count == 1 && self.random.chance(4));
            let place = if large { LARGE } else { self.pick_place() % SMALL_PAGES };
            let run = Run { space, era, place, object, first, count, pool: Pool::No };
            let end = place + count as usize;
            let empty = |place: usize| self.my_word(space, place).in_era(era).now() == Perm::None;
            if (large || end <= SMALL_PAGES) && (place..end).all(empty) {
                return Some(run);
            }
        }
        None
    }

    /// Picks an access for pages: execute only if they have their functions.
    fn pick_perm(&mut self, run: &Run) -> Perm {
        let filled = run.pages().all(|(_, thing)| thing.filled);
        match self.random.below(100) {
            0..35 => Perm::Read,
            35..60 if filled => Perm::Execute,
            _ => Perm::Write,
        }
    }

    fn map(&mut self) {
        let Some(run) = self.pick_empty() else { return };
        self.map_run(&run, &Frame::at(run.object.cap));
    }

    /// Whether the kernel's bounds are tiny.
    pub fn has_small_limits(&self) -> bool {
        self.board.get(Total::SmallLimits) != 0
    }

    /// Whether that is the error for a page with all its mappings in use. Pages reach that only
    /// with small bounds.
    pub fn may_be_full(&self, error: Error) -> bool {
        error == Error::Full && self.has_small_limits()
    }

    fn map_run(&mut self, run: &Run, frame: &Frame) {
        let perm = self.pick_perm(run);
        self.begin(run, perm);
        let mapped = self.vspace(run).map_pages(frame, self.address(run), access(perm), pages(run));
        self.count();
        let Some(done) = self.outcome(run, perm, mapped, "map") else { return };
        self.settle(run, done, perm);
        // The pages that the kernel has mapped are in no pool any more.
        for page in (run.first..run.first + done).filter(|page| run.object.may_be_pooled(*page)) {
            self.objects.leave_pools(run.object.id, page);
        }
        if run.space == self.space && done > 0 {
            self.look_after(&run.sub(0, done), perm);
        }
    }

    /// Returns how many pages were changed, by the kernel's answer, which the model must allow.
    /// Returns `None` if the space has ended: then the progress is unknown, and mappings end later.
    /// The words stay those of changing pages, in an era that is over.
    fn outcome(&self, run: &Run, perm: Perm, answer: Result<()>, what: &str) -> Option<u32> {
        let wrong = |answer: &dyn core::fmt::Display| {
            let at = self.address(run);
            self.wrong(Total::Refused, format_args!("{what} at {at:#x} {perm:?}, {run:?}: {answer}"));
        };
        let refusal = match answer {
            Ok(()) => {
                if perm != Perm::Read && (0..run.count).any(|page| self.conflicts(run, page, perm).0) {
                    wrong(&"write and execute at the same time");
                }
                if run.pages().any(|(_, thing)| self.held(thing.id, thing.page).certain > 0) {
                    wrong(&"pages that a pool has");
                }
                return Some(run.count);
            }
            Err(refusal) => refusal,
        };
        let Refusal { error, detail, .. } = refusal;
        let done = match error {
            _ if self.is_gone(run) => return None,
            Error::WriteExecute => match self.pages_before(run, detail) {
                Some(done) if self.conflicts(run, done, perm).1 => done,
                _ => {
                    wrong(&refusal);
                    0
                }
            },
            Error::InUse => match self.pages_before(run, detail) {
                Some(done) if run.object.may_be_pooled(run.first + done) => done,
                _ => {
                    wrong(&refusal);
                    0
                }
            },
            error if self.may_be_full(error) => self.pages_before(run, detail).unwrap_or_else(|| {
                wrong(&refusal);
                0
            }),
            // Each time a large page replaces a table, one table fewer is left.
            Error::NoTables if run.place == LARGE => 0,
            _ => {
                wrong(&refusal);
                0
            }
        };
        Some(done)
    }

    fn unmap(&mut self) {
        let Some(run) = self.pick_mapped() else { return self.map() };
        self.begin(&run, Perm::None);
        let answer =
            self.vspace(&run).unmap_pages(&Frame::at(run.object.cap), self.address(&run), pages(&run));
        self.count();
        let Some(done) = self.outcome(&run, Perm::Read, answer, "unmap") else { return };
        self.settle(&run, done, Perm::None);
        if run.space == self.space {
            self.look(self.me, run.place, None);
        }
    }

    fn protect(&mut self) {
        let Some(run) = self.pick_mapped() else { return self.map() };
        let perm = self.pick_perm(&run);
        self.begin(&run, perm);
        let frame = Frame::at(run.object.cap);
        let answer = self.vspace(&run).protect_pages(&frame, self.address(&run), access(perm), pages(&run));
        self.count();
        let Some(done) = self.outcome(&run, perm, answer, "protect") else { return };
        (done..run.count).for_each(|page| self.make_sure(&run.sub(page, 1), perm));
        self.settle(&run, done, perm);
        if run.space == self.space && done > 0 {
            self.look_after(&run.sub(0, done), perm);
        }
    }

    /// Repeats a change for pages that could not be made `perm`: from writable to executable, or
    /// back, a page may have become neither. Its word still says that it changes, which allows both
    /// accesses to fail.
    fn make_sure(&mut self, run: &Run, perm: Perm) {
        let word = self.my_word(run.space, run.place).in_era(run.era);
        if !word.now().excludes(perm) {
            return;
        }
        let frame = Frame::at(run.object.cap);
        let answer = self.vspace(run).protect_pages(&frame, self.address(run), Access::Read, pages(run));
        self.count();
        if self.outcome(run, Perm::Read, answer, "protect again").is_some_and(|done| done > 0) {
            self.settle(run, 1, Perm::Read);
        }
    }

    /// Tries to map over a mapped page, which must stay.
    fn map_over(&mut self) {
        let (Some(run), Some(object)) = (self.pick_mapped(), self.pick_object()) else { return };
        // The picked object may have been made after a reset of everything.
        let word = self.my_word(run.space, run.place).in_era(run.era);
        if word.now() == Perm::None || object.large != (run.place == LARGE) {
            return;
        }
        let at = self.address(&run);
        let one = Pages { first: 0, count: if object.large { 0 } else { 1 } };
        let answer = self.vspace(&run).map_pages(&Frame::at(object.cap), at, Access::Read, one);
        self.count();
        match answer {
            Err(refusal) if refusal.error == Error::Mapped && refusal.detail == at => {}
            // A large page where a table is in use.
            Err(refusal) if self.may_be_full(refusal.error) => {}
            Err(_) if self.is_gone(&run) || run.place == LARGE => {}
            answer => self.wrong(Total::Refused, format_args!("map over {at:#x}: {answer:?}")),
        }
        if run.space == self.space {
            self.look(self.me, run.place, None);
        }
    }

    /// Maps through a copy of a capability; the mapping must stay when the copy is deleted.
    fn map_by_copy(&mut self) {
        let Some(run) = self.pick_empty() else { return };
        let slot = moment_slot(self.local, 0);
        let copied = copy::<Frame>(&Frame::at(run.object.cap), own::cnode().slot(slot), abi::Rights::ALL, 0);
        if let Err(refusal) = copied {
            return self.wrong(Total::Refused, format_args!("copying a frame: {refusal}"));
        }
        self.map_run(&run, &Frame::at(slot));
        if let Err(refusal) = own::cnode().delete(slot) {
            self.wrong(Total::Refused, format_args!("deleting a copy: {refusal}"));
        }
        self.count();
        if run.space == self.space {
            self.look(self.me, run.place, None);
        }
    }

    /// Checks that the kernel reports a page as written that was just written.
    fn accessed(&mut self) {
        let Some(run) = self.pick_mapped() else { return self.map() };
        // One call checks 64 pages, with small bounds two.
        let run = if self.has_small_limits() { run.sub(0, run.count.min(2)) } else { run };
        let word = self.my_word(run.space, run.place).in_era(run.era);
        let at = self.address(&run) + MARKS_AT * 8;
        let written = run.space == self.space && word.now() == Perm::Write;
        if written && probe(How::Write, at, mark(self.me as u64, word.thing(), MARKS_AT)) == Met::Fault {
            self.wrong(Total::Lost, format_args!("a fault writing {at:#x}, {run:?}"));
        }
        let frame = Frame::at(run.object.cap);
        let answer = self.vspace(&run).accessed(&frame, self.address(&run), pages(&run));
        self.count();
        match answer {
            Ok((used, dirty)) if (used | dirty) >> run.count == 0 && (!written || dirty & 1 != 0) => {}
            Err(_) if self.is_gone(&run) => {}
            answer => self.wrong(Total::Refused, format_args!("used at {at:#x}, {run:?}: {answer:x?}")),
        }
    }

    fn delete(&mut self) {
        let random = self.random.next();
        let Some(object) = self.objects.pick(random) else { return };
        // Pools keep their pages.
        let ends = |thing: Thing| thing.id == object.id && !thing.is_pooled();
        self.begin_end(ends);
        let done = own::cnode().delete(object.cap);
        self.count();
        if let Err(refusal) = done {
            self.wrong(Total::Refused, format_args!("deleting frame {:#x}: {refusal}", object.id));
        }
        self.settle_end(ends);
        self.objects.remove(object.id);
    }

    /// Takes back all memory, mapped or not: the same number of bytes every time.
    fn reset(&mut self) -> bool {
        self.reset_with(Pins::Hold)
    }

    /// Takes back all memory, with frames pinned or not.
    pub fn reset_with(&mut self, pins: Pins) -> bool {
        self.begin_end(is_own);
        let answer = self.memory().take_back(pins);
        self.count();
        self.board.add(Total::Resets, 1);
        self.settle_end(is_own);
        self.objects.clear();
        match answer {
            Ok(free) => {
                let bytes = *self.bytes.get_or_insert(free);
                if free != bytes {
                    self.wrong(Total::LeakedPages, format_args!("a reset gave back {free} bytes of {bytes}"));
                }
                true
            }
            Err(refusal) => {
                self.wrong(Total::Refused, format_args!("reset: {refusal}"));
                false
            }
        }
    }

    /// Ends everything that was made of the memory. The memory is not used again before it is
    /// reset.
    fn revoke(&mut self) {
        self.begin_end(is_own);
        let done = own::cnode().revoke(self.memory().cap());
        self.count();
        self.settle_end(is_own);
        self.objects.clear();
        if let Err(refusal) = done {
            self.wrong(Total::Refused, format_args!("revoke: {refusal}"));
        }
    }

    /// Checks that newly mapped pages are clear, and fills writable ones once.
    fn look_after(&mut self, run: &Run, perm: Perm) {
        for page in 0..run.count {
            let one = run.sub(page, 1);
            let object = self.objects.find(run.object.id).unwrap_or(run.object);
            if !object.is_filled(one.first) {
                self.expect_clear(&Run { object, ..one });
                if perm == Perm::Write && self.random.chance(80) && self.fill(one.place) {
                    self.objects.fill(object.id, one.first);
                }
            }
        }
        let place = run.place + self.random.below(u64::from(run.count)) as usize;
        self.look(self.me, place, None);
    }

    /// Checks some words, sometimes all, of a page that no task has filled.
    pub fn expect_clear(&mut self, run: &Run) {
        if run.object.is_doubtful(run.first) {
            return;
        }
        let cleared = run.object.was_cleared(run.first);
        let all = self.random.chance(if cleared { 30 } else { 6 }) && !run.object.large;
        let looks = if all { WORDS } else { 12 };
        // Remains of its earlier contents are found soonest there.
        let had = Page::of(self.me as u64, run.object.thing(run.first), 0);
        for number in 0..looks {
            let word = match number {
                _ if all => number,
                0..4 if cleared => had.place(number),
                _ => self.random.below(WORDS),
            };
            let page = if run.object.large { self.random.below(LARGE_PAGES) } else { 0 };
            let at = self.address(run) + page * PAGE_SIZE + word * 8;
            self.accesses += 1;
            let fine = |value| value == 0 || (word >= MARKS_AT && is_mark_of(self.me as u64, value));
            match probe(How::Read, at, 0) {
                Met::Value(value) if fine(value) => {}
                Met::Value(value) => {
                    self.wrong(
                        Total::Dirty,
                        format_args!("{value:#x} at {at:#x}, in word {word} of a new page, {run:?}"),
                    );
                    return;
                }
                Met::Fault => {
                    self.wrong(Total::Lost, format_args!("a fault at {at:#x}, mapped just now, {run:?}"));
                    return;
                }
            }
        }
    }

    /// Fills the page at a place in this space.
    /// Requires: the page is writable.
    pub fn fill(&mut self, place: usize) -> bool {
        let word = self.my_word(self.space, place).in_era(self.era);
        let thing = word.thing();
        let count = if thing.large { LARGE_PAGES } else { 1 };
        for page in (0..count).filter(|page| is_filled(thing.large, *page)) {
            let base = address(self.me, place) + page * PAGE_SIZE;
            for (number, value) in Page::of(self.me as u64, thing, page).contents() {
                let at = base + number * 8;
                if probe(How::Write, at, value) == Met::Fault {
                    self.wrong(Total::Lost, format_args!("a fault writing {at:#x}, {word:?}"));
                    return false;
                }
            }
        }
        let filled = Thing { filled: true, ..thing };
        self.board.set_word(self.space, self.me, place, word.settle(self.era, filled, Perm::Write));
        true
    }

    /// Uses the same memory as frames, then as kernel objects, which must be new, then as frames
    /// again.
    fn others(&mut self) {
        if !self.reset() {
            return;
        }
        for _ in 0..=self.random.below(3) {
            let done = match self.random.below(4) {
                0 => self.notifications(),
                1 => self.cnode(),
                2 => self.unused_space(),
                _ => self.unused_task(),
            };
            match done {
                Err(refusal) if refusal.error != Error::NoMemory => {
                    self.wrong(Total::Refused, format_args!("other objects: {refusal}"));
                }
                _ => {}
            }
            if !self.reset() {
                return;
            }
        }
    }

    fn notifications(&mut self) -> Result<()> {
        const MANY: u32 = 8;
        let first = moment_slot(self.local, 1);
        self.memory().retype::<Notification>(0, own::cnode().slot(first), u64::from(MANY))?;
        self.count();
        for number in 0..MANY {
            let made = Notification::at(moment_slot(self.local, 1 + number));
            let bits = self.random.next() | 1;
            match made.poll() {
                Err(refusal) if refusal.error == Error::WouldBlock => {}
                answer => self.wrong(Total::Dirty, format_args!("a new Notification: {answer:?}")),
            }
            made.notify(bits)?;
            let got = made.poll()?;
            if got != bits {
                self.wrong(Total::Dirty, format_args!("a Notification got {bits:#x}, gave {got:#x}"));
            }
        }
        Ok(())
    }

    fn cnode(&mut self) -> Result<()> {
        const SLOTS: u64 = 256;
        let place = moment_slot(self.local, 9);
        self.memory().retype::<CNode>(SLOTS, own::cnode().slot(place), 1)?;
        self.count();
        let cnode = CNode::at(place);
        for _ in 0..16 {
            let slot = abi::Cap(1 + self.random.below(SLOTS - 1) as u32);
            if let Some(found) = cnode.inspect(slot)? {
                self.wrong(Total::Dirty, format_args!("slot {slot:?} of a new CNode: {found:?}"));
            }
        }
        copy::<VSpace>(&own::vspace(), cnode.slot(abi::Cap(SLOTS as u32 / 2)), abi::Rights::ALL, 0)
    }

    /// Makes a space without a process, and a page in it.
    fn unused_space(&mut self) -> Result<()> {
        let [place, frame] = [10, 11].map(|which| moment_slot(self.local, which));
        self.memory().retype::<VSpace>(4, own::cnode().slot(place), 1)?;
        self.count();
        self.memory().retype::<Frame>(12, own::cnode().slot(frame), 1)?;
        self.count();
        let at = (1 + self.random.below((abi::USER_TOP >> 12) - 2)) << 12;
        VSpace::at(place).map(&Frame::at(frame), at, Access::Write)?;
        self.count();
        Ok(())
    }

    /// Makes a task that never runs, and checks that its UTCB can be read while the task exists.
    fn unused_task(&mut self) -> Result<()> {
        let place = moment_slot(self.local, 12);
        self.memory().retype::<Task>(0, own::cnode().slot(place), 1)?;
        self.count();
        let utcb = utcb_va(SPARE_TASKS + self.local);
        let cpu = self.board.workers[self.me].get(Of::Cpu) as u32;
        let configured = Task::at(place).configure(&own::process(), utcb, cpu);
        self.count();
        match configured {
            // Large pages have replaced so many tables that none is left for this one.
            Err(refusal) if refusal.error == Error::NoTables => return Ok(()),
            answer => _ = answer?,
        }
        let last = utcb + PAGE_SIZE - 8;
        if probe(How::Read, last, 0) == Met::Fault {
            self.wrong(Total::Lost, format_args!("a fault at {last:#x}, in a task's UTCB"));
        }
        if self.reset() && probe(How::Read, last, 0) != Met::Fault {
            self.wrong(Total::Stale, format_args!("the UTCB of a task that is no more, at {last:#x}"));
        }
        Ok(())
    }
}

fn is_own(thing: Thing) -> bool {
    thing.id & GLOBAL == 0
}

pub const fn access(perm: Perm) -> Access {
    match perm {
        Perm::None | Perm::Read => Access::Read,
        Perm::Write => Access::Write,
        Perm::Execute => Access::Execute,
    }
}

pub fn pages(run: &Run) -> Pages {
    if run.object.large {
        return Pages::ALL;
    }
    Pages { first: u64::from(run.first), count: u64::from(run.count) }
}

/// Workers of different numbers never share an address.
const _: () = assert!(address(1, 0) == address(0, SMALL_PAGES - 1) + PAGE_SIZE);
