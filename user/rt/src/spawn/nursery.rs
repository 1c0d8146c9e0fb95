//! Where objects are made: an Untyped, and slots for their capabilities.

use abi::{Cap, Error, PAGE_SIZE};

use super::own;
use crate::cap::{Frame, Group, Handle, Untyped};
use crate::invoke::Pins;
use crate::layout::{FREE_SLOTS, PROGRAM_SLOTS, slot};
use crate::slots::Slots;
use crate::turn::Turns;
use crate::{Refusal, Result};

/// Objects that one system call makes at most.
const AT_ONCE: u32 = 128;

/// Whose the process's offer of a slot is.
static OFFERS: Turns = Turns::new();

/// An Untyped of this process and a range of slots of its own CNode.
#[derive(Debug)]
pub struct Nursery {
    untyped: Untyped,
    slots: Slots,
}

/// Capabilities made in one go, in consecutive slots.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    first: Cap,
    count: u32,
}

impl Many {
    pub fn nth(&self, index: u32) -> Cap {
        assert!(index < self.count, "object {index} of {}", self.count);
        Cap(self.first.0 + index)
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter<T: Handle>(self) -> impl Iterator<Item = T> {
        (0..self.count).map(move |index| T::at(self.nth(index)))
    }
}

impl Nursery {
    pub const fn new(untyped: Untyped, slots: Slots) -> Nursery {
        Nursery { untyped, slots }
    }

    /// Returns a nursery of the program's Untyped number `index` and all slots that the program may
    /// fill. A program calls it once.
    pub fn of_program(index: u32) -> Nursery {
        let untyped = Untyped::at(Cap(slot::UNTYPED.0 + index));
        Nursery::new(untyped, Slots::new(FREE_SLOTS..PROGRAM_SLOTS))
    }

    /// Makes one object of type `T`. The type defines the meaning of `size`.
    pub fn make<T: Handle>(&mut self, size: u64) -> Result<T> {
        Ok(T::at(self.make_many::<T>(size, 1)?.first))
    }

    /// Makes one object of type `T` of another Untyped, with its capability in a slot of this
    /// nursery. It stays when the nursery is reset.
    pub fn make_of<T: Handle>(&mut self, source: &Untyped, size: u64) -> Result<T> {
        let slot = self.slots.take(1)?;
        let made = source.retype::<T>(size, own::cnode().slot(slot), 1);
        if made.is_err() {
            self.slots.give_back(1);
        }
        made.map(|_| T::at(slot))
    }

    /// Makes `count` objects of type `T` in consecutive slots. If the memory runs out half-way, the
    /// objects that were made keep their slots until the nursery is reset.
    pub fn make_many<T: Handle>(&mut self, size: u64, count: u32) -> Result<Many> {
        let first = self.slots.take(count)?;
        let mut made = 0;
        while made < count {
            let now = (count - made).min(AT_ONCE);
            let place = own::cnode().slot(Cap(first.0 + made));
            if let Err(refusal) = self.untyped.retype::<T>(size, place, u64::from(now)) {
                self.slots.give_back(count - made - now);
                return Err(refusal);
            }
            made += now;
        }
        Ok(Many { first, count })
    }

    /// Makes a group of which this process is the first member, with all rights, so that its
    /// maker's capability also serves for calls. A process has one offer of a slot, which its tasks
    /// use in turn.
    pub fn make_group(&mut self, members: u16, exposures: u16) -> Result<Group> {
        let group: Group = self.make(u64::from(members) | u64::from(exposures) << 16)?;
        let spare = self.slots.take(1)?;
        let _turn = OFFERS.wait().ok_or(Refusal::local(Error::NoConsent, 0))?;
        own::process().accept(spare, &group)?;
        let added = group.add(&own::process(), abi::MEMBER_RIGHTS, 0);
        if added.is_err() {
            own::process().accept_none()?;
        }
        added.map(|_| group)
    }

    /// Makes `count` frames of one 4 KiB page each.
    pub fn make_pages(&mut self, count: u32) -> Result<Many> {
        self.make_many::<Frame>(u64::from(PAGE_SIZE.trailing_zeros()), count)
    }

    /// Returns an empty slot, for a capability that does not come from [`Nursery::make`].
    pub fn take_slot(&mut self) -> Result<Cap> {
        self.slots.take(1)
    }

    /// Returns the first of several empty slots in a row.
    pub fn take_slots(&mut self, count: u32) -> Result<Cap> {
        self.slots.take(count)
    }

    /// Returns how many slots are left.
    pub const fn slots_left(&self) -> u32 {
        self.slots.left()
    }

    /// Splits off a nursery of `1 << log2` bytes and `slots` slots.
    pub fn split(&mut self, log2: u8, slots: u32) -> Result<Nursery> {
        let untyped = self.make::<Untyped>(u64::from(log2))?;
        Ok(Nursery::new(untyped, self.slots.split(slots)?))
    }

    /// Destroys all objects that were made from the nursery. Returns the bytes that are free then.
    pub fn reset(&mut self) -> Result<u64> {
        self.reset_with(Pins::Hold)
    }

    pub fn reset_with(&mut self, pins: Pins) -> Result<u64> {
        let free = self.untyped.take_back(pins)?;
        self.slots.restart();
        Ok(free)
    }

    /// Resets the nursery, and does not try again if an object cannot be destroyed yet.
    pub fn try_reset(&mut self, pins: Pins) -> Result<u64> {
        let free = self.untyped.reset(pins)?;
        self.slots.restart();
        Ok(free)
    }

    pub fn untyped(&self) -> &Untyped {
        &self.untyped
    }
}
