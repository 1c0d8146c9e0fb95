//! Views as the kernel's frames of device memory: each view has an Untyped of its own, whose reset
//! ends the frame and all copies of its capability.

use abi::devices::device_memory;
use abi::{Cap, Error, FrameRights, PAGE_LOG2, Rights, frame_rights};

use super::{Allows, HOLDERS_MAX, Keeper, PAGES_MAX, Range, VIEWS_MAX, ViewDenial};
use crate::cap::{Frame, Handle, Place, Untyped};
use crate::invoke::{Pins, RESET_TRIES, copy, yield_now};
use crate::spawn::{Nursery, own};
use crate::{Refusal, Result};

/// Memory of one view, as a logarithm: what the kernel needs to know of each page takes 32 bytes.
const VIEW_LOG2: u8 = 15;
/// What [`Frames`] needs at most: memory, as a logarithm, and slots.
pub const NURSERY_LOG2: u8 = VIEW_LOG2 + VIEWS_MAX.ilog2() as u8 + 1;
pub const NURSERY_SLOTS: u32 = VIEWS_MAX as u32 * (2 + HOLDERS_MAX as u32);

const _: () = assert!(PAGES_MAX * 32 < 1 << VIEW_LOG2);

/// Makes frames with the process's own Machine, which has to have the right DEVICE.
pub struct Frames {
    nursery: Nursery,
    /// For each used view, its Untyped and the slot of its frame, which is followed by a slot for
    /// each lease.
    views: [Option<(Cap, Cap)>; VIEWS_MAX],
}

impl Frames {
    /// Makes frames from a nursery of [`NURSERY_LOG2`] and [`NURSERY_SLOTS`].
    pub const fn new(nursery: Nursery) -> Frames {
        Frames { nursery, views: [None; VIEWS_MAX] }
    }

    /// Returns the memory and the first slot of a view's place, which later views at that place use
    /// again.
    fn prepared(&mut self, view: usize) -> Result<(Untyped, Cap)> {
        let (memory, frame) = match self.views[view] {
            Some(known) => known,
            None => {
                let memory: Untyped = self.nursery.make(VIEW_LOG2.into())?;
                (memory.cap(), self.nursery.take_slots(1 + HOLDERS_MAX as u32)?)
            }
        };
        self.views[view] = Some((memory, frame));
        Ok((Untyped::at(memory), frame))
    }

    fn known(&self, view: usize) -> core::result::Result<(Untyped, Cap), ViewDenial> {
        self.views[view].map(|(memory, frame)| (Untyped::at(memory), frame)).ok_or(ViewDenial::NotHeld)
    }
}

fn lease_slot(frame: Cap, lease: usize) -> Cap {
    Cap(frame.0 + 1 + lease as u32)
}

fn denial(refusal: Refusal) -> ViewDenial {
    match refusal.error {
        Error::BadAddress => ViewDenial::NoDevice,
        Error::InUse => ViewDenial::InUse,
        Error::Full | Error::NoMemory => ViewDenial::Full,
        _ => ViewDenial::Refused,
    }
}

fn rights_of(allows: Allows) -> FrameRights {
    let Allows { write, dma } = allows;
    let optional = |wanted: bool, right: FrameRights| if wanted { right } else { Rights::NONE.into() };
    Rights::MAP | optional(write, frame_rights::WRITE) | optional(dma, frame_rights::DMA)
}

impl Keeper for Frames {
    type Place = Place;

    fn make(&mut self, view: usize, range: Range, combining: bool) -> core::result::Result<(), ViewDenial> {
        let (memory, frame) = self.prepared(view).map_err(denial)?;
        let size = u64::from(PAGE_LOG2) | u64::from(range.pages) << 8;
        let how = if combining { device_memory::WRITE_COMBINING } else { 0 };
        let made = own::machine().device_frame(&memory, range.address(), size, how, own::cnode().slot(frame));
        made.map_err(denial)
    }

    fn unmake(&mut self, view: usize, devices_are_still: bool) -> core::result::Result<(), ViewDenial> {
        let (memory, _) = self.known(view)?;
        let pins = if devices_are_still { Pins::Ignore } else { Pins::Hold };
        for _ in 0..RESET_TRIES {
            match memory.reset(pins).map_err(|refusal| refusal.error) {
                Ok(_) => return Ok(()),
                Err(Error::InUse) => return Err(ViewDenial::Pinned),
                Err(Error::WouldBlock | Error::Dying) => yield_now().map_err(denial)?,
                Err(_) => return Err(ViewDenial::Refused),
            }
        }
        Err(ViewDenial::Refused)
    }

    fn lend(
        &mut self,
        view: usize,
        lease: usize,
        allows: Allows,
        to: Place,
    ) -> core::result::Result<(), ViewDenial> {
        let (_, frame) = self.known(view)?;
        let (rights, slot) = (rights_of(allows), lease_slot(frame, lease));
        // Of this one there will be a copy.
        copy(&Frame::at(frame), own::cnode().slot(slot), rights.with(Rights::GRANT), 0).map_err(denial)?;
        let given = copy(&Frame::at(slot), to, rights, 0);
        given.map_err(|refusal| {
            // Nobody has it yet, and the frame itself stays.
            let _ = own::cnode().delete(slot);
            match refusal.error {
                Error::SlotOccupied | Error::NoCapability | Error::NoRight => ViewDenial::BadSlot,
                _ => ViewDenial::Refused,
            }
        })
    }

    fn recall(&mut self, view: usize, lease: usize) -> core::result::Result<(), ViewDenial> {
        let (_, frame) = self.known(view)?;
        let slot = lease_slot(frame, lease);
        own::cnode().revoke(slot).and_then(|()| own::cnode().delete(slot)).map_err(denial)
    }
}
