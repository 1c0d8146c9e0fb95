//! Frames of device memory, and frames that devices read and write (pins).
//!
//! # Pins
//! A pinned frame stays a frame: its last capability is not deleted ([`Pins::Hold`]), so its
//! Untyped is not reset, and the memory has no other use while a device may write to it. A process
//! that controls devices (DMA of the Machine) removes pins, one by one or by a reset that takes
//! back all pins ([`Pins::Go`]). It must stop the device first. No other process may remove a pin,
//! not even the owner of the memory: otherwise the owner could make kernel objects of it while the
//! device writes. A pin is set, and the last capability is marked as ending, under one lock, the
//! root's. One of the two sees the other.
//!
//! [`Pins::Hold`]: crate::life::reclaim::Pins::Hold
//! [`Pins::Go`]: crate::life::reclaim::Pins::Go

use abi::audit::AuditEvent;
use abi::devices::device_memory;
use abi::{Cap, Error, Op, Target};
use core::mem::size_of;
use kern_base::frames::{FrameInfo, NoFrame};
use kern_base::header::{FLAG_DYING, RootId};
use kern_base::machine::Machine;
use kern_base::memory::Frame;
use kern_base::paging::Caching;
use kern_base::phys::{Phys, PhysRange};
use smp::door::{Ref, Region};

use crate::args::Args;
use crate::make::recipe::Pages;
use crate::rooms::Make;
use crate::{Answer, MachineObject, OpenTask, Refusal, Result, refuse_if};

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::FramePin`].
    pub fn frame_pin(self, me: OpenTask<'k>, cap: Cap, machine: Cap) -> Result<Answer> {
        let frame = self.frame_to_pin(me, cap)?;
        self.caps().operand::<MachineObject, { Op::FramePin as u8 }, 1>(me, machine)?;
        let _root = self.caps().lock_root(&frame.header);
        self.frame_to_pin(me, cap)?;
        refuse_if(frame.header.has_flag(FLAG_DYING), Error::Dying)?;
        let pins = frame.pin().ok_or(Refusal::new(Error::Full, u64::from(u32::MAX)))?;
        // Counted before they are checked: `Cx::why_not_pool`.
        let mut infos =
            (0..u64::from(frame.pages())).filter_map(|n| self.k.frames.get(self.pin(), frame.page(n)));
        if infos.any(|info| info.get().glance(self.cpu).is_pooled()) {
            let _ = frame.unpin();
            return Err(Error::InUse.into());
        }
        self.security().audit_object(AuditEvent::Pin, Op::FramePin, &frame.header, u64::from(pins));
        Ok(Answer::Values([frame.base().0, u64::from(pins), 0, 0]))
    }

    /// Carries out [`abi::Op::FrameUnpin`].
    pub fn frame_unpin(self, me: OpenTask<'k>, cap: Cap, machine: Cap) -> Result<Answer> {
        let frame = self.frame_to_pin(me, cap)?;
        self.caps().operand::<MachineObject, { Op::FrameUnpin as u8 }, 1>(me, machine)?;
        let _root = self.caps().lock_root(&frame.header);
        self.frame_to_pin(me, cap)?;
        let pins = frame.unpin().ok_or(Refusal::from(Error::BadState))?;
        self.security().audit_object(AuditEvent::Pin, Op::FrameUnpin, &frame.header, u64::from(pins));
        Ok(Answer::Values([0, u64::from(pins), 0, 0]))
    }

    /// Finds the frame that a capability allows to pin. Called again under the root's lock: a
    /// capability that is gone by then pins nothing. (A slot gets no other capability during this
    /// entry.)
    fn frame_to_pin(self, me: OpenTask<'k>, cap: Cap) -> Result<&'k Frame> {
        Ok(self.caps().operand::<Frame, { Op::FramePin as u8 }, 0>(me, cap)?.get())
    }

    /// Carries out [`abi::Op::DeviceFrame`].
    pub fn device_frame(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let (at, size, how) = (args.a3, args.a4, args.a5);
        self.caps().operand::<MachineObject, { Op::DeviceFrame as u8 }, 0>(me, args.cap())?;
        let process = me.process(self.pin());
        let source = self.caps().find_untyped(me, args.cap1())?;
        let place = self.caps().find_slot::<{ Op::DeviceFrame as u8 }, 2>(process, Target(args.a2))?;
        let pages = Pages::of(size).ok_or(Refusal::argument(4))?;
        refuse_if(how & !device_memory::ALL != 0, Refusal::argument(5))?;
        let combines = how & device_memory::WRITE_COMBINING != 0;
        let caching = if combines { Caching::WriteCombining } else { Caching::Uncached };
        let memory = PhysRange::of_device(&self.k.machine, Phys(at), pages.bytes());
        let Some(memory) = memory.filter(|_| at.is_multiple_of(1 << pages.log2)) else {
            return Err(Refusal::new(Error::BadAddress, at));
        };
        let label = self.security().label_of_new(process.get(), &source.untyped.get().header);
        self.security().may_grant_new(me, place, label)?;
        self.caps().claim_for(place, || {
            let guard = self.caps().open_or_leave(source.untyped)?;
            let root = self.caps().lock_to_make(source)?;
            self.caps().check_depth(source.slot)?;
            let root_id = source.untyped.get().header.root();
            let frame = self.make_device(root_id, &guard.region, memory, pages, caching)?;
            self.caps().fill_first(&root, place.slot, frame, source.slot, label);
            self.security().audit_grant(me.object(), Some(Op::DeviceFrame), place);
            Ok(Answer::one(guard.region.free()))
        })
    }

    /// Makes the frame of a range of device memory. No capability refers to the frame yet.
    fn make_device(
        self,
        root: RootId,
        region: &Region,
        memory: PhysRange,
        pages: Pages,
        caching: Caching,
    ) -> Result<Ref<'k, Frame>> {
        let (head, tail) =
            (size_of::<Frame>() as u64, u64::from(pages.count) * size_of::<FrameInfo>() as u64);
        let mut made = None;
        let make = || {
            if !region.has_room(&[head, tail], 0, 1) {
                return None;
            }
            let (head, tail) = (region.carve_top(head)?, region.carve_top(tail)?);
            let infos = tail.clear().into_table()?;
            let frame = Frame::of_device(root, memory, pages.log2, caching, infos);
            let frame = head.emplace(self.pin(), frame)?;
            for info in
                (0..u64::from(pages.count)).filter_map(|n| frame.get().info(self.pin(), frame.get().page(n)))
            {
                // Nothing is known of it yet, and nobody else can find it.
                info.get().set_owner(frame);
            }
            made = Some(frame);
            made
        };
        let added = self.k.frames.add_device(self.pin(), (memory.base(), memory.bytes()), make);
        let refusal = match added {
            Ok(()) => return made.ok_or(Error::NoMemory.into()),
            Err(NoFrame::Taken) => Error::InUse.into(),
            Err(NoFrame::Full) => Refusal::new(Error::Full, kern_base::frames::DEVICES_MAX as u64),
            Err(NoFrame::NoMemory) => Refusal::new(Error::NoMemory, region.free()),
        };
        Err(refusal)
    }
}
