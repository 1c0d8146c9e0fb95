//! Deleting much by one capability, and leaving that half done for others to finish.

use core::sync::atomic::Ordering::SeqCst;

use abi::{Cap, Op, PAGE_SIZE, Rights};
use user_rt::Result;
use user_rt::arch::fast;
use user_rt::cap::{Access, CNode, Frame, Handle, Notification, Task, Untyped, VSpace};
use user_rt::invoke::{copy, copy_raw, transfer, yield_now};
use user_rt::spawn::{Nursery, own};

use crate::attackers::{Den, alive, alive_if};
use crate::words::own_word;

/// Untypeds of frames of mappings: what one delete ends.
const UNTYPEDS: u32 = 64;
const UNTYPED_LOG2: u64 = 18;
const FRAMES: u64 = 60;
const MAPPINGS: u64 = 62;
/// Frames that one Retype makes here.
const AT_ONCE: u64 = 15;
const MAPPED_AT: u64 = 0x1_0000_0000;
/// Words of these attacks: which capability is to be deleted, and how far its deleter is.
const TARGET: usize = 0;
const STATE: usize = 1;
const WAITING: u64 = 0;
const ORDERED: u64 = 1;
const BEGUN: u64 = 2;
const DONE: u64 = 3;

/// What is built for a delete: all of it ends with one capability.
struct Building {
    /// Where the frames' capabilities are, and their first slot in the own CSpace.
    table: CNode,
    first: Cap,
    space: VSpace,
    nursery: Nursery,
}

impl Building {
    fn new(den: &mut Den) -> Result<Building> {
        let frames = u64::from(UNTYPEDS) * FRAMES;
        let table: CNode = den.nursery.make(frames + 1)?;
        let first = own::process().grow(&table)?;
        let space: VSpace = den.nursery.make(frames * MAPPINGS / 512 + 10)?;
        Ok(Building { table, first, space, nursery: den.second_memory(3 * UNTYPEDS)? })
    }

    /// Builds everything again, and calls `filled` for each Untyped. Returns the capability with
    /// which it ends: of a CNode that holds the Untypeds, or CNodes with one Untyped each.
    fn build(&mut self, is_nested: bool, filled: fn()) -> Result<Cap> {
        self.nursery.reset()?;
        let root: CNode = self.nursery.make(u64::from(UNTYPEDS) + 1)?;
        let untypeds = self.nursery.make_many::<Untyped>(UNTYPED_LOG2, UNTYPEDS)?;
        let inner = self.nursery.make_many::<CNode>(2, UNTYPEDS)?;
        for number in 0..UNTYPEDS {
            let untyped = Untyped::at(untypeds.nth(number));
            self.fill(&untyped, number.into())?;
            filled();
            let place = root.slot(Cap(1 + number));
            if is_nested {
                let inner = CNode::at(inner.nth(number));
                transfer(untyped, inner.slot(Cap(1)))?;
                transfer(inner, place)?;
            } else {
                transfer(untyped, place)?;
            }
        }
        Ok(root.cap())
    }

    /// Makes frames of an Untyped, and maps each of them many times.
    fn fill(&self, untyped: &Untyped, number: u64) -> Result<()> {
        for made in (0..FRAMES).step_by(AT_ONCE as usize) {
            let place = self.table.slot(Cap((1 + number * FRAMES + made) as u32));
            untyped.retype::<Frame>(12, place, AT_ONCE)?;
        }
        for index in 0..FRAMES {
            let page = number * FRAMES + index;
            let frame = Frame::at(Cap((u64::from(self.first.0) + page) as u32));
            for mapping in 0..MAPPINGS {
                let at = MAPPED_AT + (page * MAPPINGS + mapping) * PAGE_SIZE;
                self.space.map(&frame, at, Access::Write)?;
            }
        }
        Ok(())
    }
}

/// Deletes a CNode of CNodes of Untypeds of frames with mappings.
pub fn nested(den: &mut Den) -> Result<()> {
    again_and_again(den, true)
}

/// Deletes a CNode of Untypeds of frames with mappings.
pub fn flat(den: &mut Den) -> Result<()> {
    again_and_again(den, false)
}

fn again_and_again(den: &mut Den, is_nested: bool) -> Result<()> {
    let mut building = Building::new(den)?;
    loop {
        let root = building.build(is_nested, alive)?;
        own::cnode().delete(root)?;
        alive();
    }
}

/// Deletes what it is told to.
extern "C" fn deleter(_: u64) -> ! {
    loop {
        while own_word(STATE).load(SeqCst) != ORDERED {
            let _ = yield_now();
        }
        own_word(STATE).store(BEGUN, SeqCst);
        let _ = own::cnode().delete(Cap(own_word(TARGET).load(SeqCst) as u32));
        own_word(STATE).store(DONE, SeqCst);
    }
}

/// How long a delete stays half done: so often so many milliseconds.
const HALF_DONE: u64 = 40;
const HALF_DONE_MS: u64 = 10;

/// Lets a task delete a capability, and stops that task half-way for a while.
fn leave_half_done(den: &Den, deleter: &Task, target: Cap) -> Result<()> {
    own_word(TARGET).store(target.0.into(), SeqCst);
    own_word(STATE).store(ORDERED, SeqCst);
    deleter.resume()?;
    while own_word(STATE).load(SeqCst) == ORDERED {
        let _ = yield_now();
    }
    deleter.suspend()?;
    for _ in 0..HALF_DONE {
        alive();
        den.sleep(HALF_DONE_MS);
    }
    deleter.resume()?;
    while own_word(STATE).load(SeqCst) != DONE {
        let _ = yield_now();
    }
    own_word(STATE).store(WAITING, SeqCst);
    deleter.suspend()
}

/// Leaves the delete of much memory half done, so that others find it so.
pub fn half_nested(den: &mut Den) -> Result<()> {
    let mut building = Building::new(den)?;
    let deleter = den.task(den.last_cpu(), deleter, 0)?.task;
    loop {
        let root = building.build(true, || {})?;
        leave_half_done(den, &deleter, root)?;
    }
}

/// Tables of copies of one capability, and slots of each.
const TABLES: u32 = 4;
const COPIES: u64 = 1 << 16;

/// Leaves the delete of a capability with very many copies half done.
pub fn half_copies(den: &mut Den) -> Result<()> {
    let original: Notification = den.nursery.make(0)?;
    let tables = den.nursery.make_many::<CNode>(COPIES, TABLES)?;
    let parent = den.nursery.take_slot()?;
    let deleter = den.task(den.last_cpu(), deleter, 0)?.task;
    loop {
        copy(&original, own::cnode().slot(parent), Rights::ALL, 0)?;
        for table in tables.iter::<CNode>() {
            for slot in 1..COPIES {
                let to = table.slot(Cap(slot as u32)).0.0;
                fast::order(Op::CapCopy, [parent.arg(), to, u64::from(Rights::NONE.0), 0]);
            }
        }
        leave_half_done(den, &deleter, parent)?;
        own::cnode().revoke(original.cap())?;
    }
}

// --- chains of copies ----------------------------------------------------------------------------

/// Copies of copies, as many as the tree allows.
const DEEP: u32 = 32;
const CHAINS: u32 = 64;

/// Deletes the first of a chain of copies, then the next one, on every CPU.
pub fn deep_copies(den: &mut Den) -> Result<()> {
    let note: Notification = den.nursery.make(0)?;
    own_word(TARGET).store(note.cap().0.into(), SeqCst);
    let cpus = den.cpus();
    for cpu in cpus {
        let first = den.nursery.take_slots(DEEP * CHAINS)?;
        den.start(cpu, chain_deleter, first.0.into())?;
    }
    Ok(())
}

extern "C" fn chain_deleter(first: u64) -> ! {
    let note = Cap(own_word(TARGET).load(SeqCst) as u32);
    let slot = |chain: u32, depth: u32| Cap(first as u32 + chain * DEEP + depth);
    loop {
        for chain in 0..CHAINS {
            let mut from = note;
            for depth in 0..DEEP {
                let to = slot(chain, depth);
                let _ = copy_raw(from, own::cnode().slot(to), Rights::ALL, 0);
                from = to;
            }
        }
        for chain in 0..CHAINS {
            for depth in 0..DEEP {
                alive_if(own::cnode().delete(slot(chain, depth)).is_ok());
            }
        }
    }
}
