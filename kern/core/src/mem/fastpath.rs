//! Fast paths that map or unmap a frame of one RAM page of 4 KiB, in an existing page table and at
//! a usable entry. In all other cases they change nothing, and leave the work to the operations in
//! [`map`](super::map).

use abi::{PAGE_SIZE, Rights, Target, USER_TOP};
use kern_base::frames::FrameInfo;
use kern_base::machine::{Access, Machine};
use kern_base::memory::{Frame, VSpace};
use kern_base::paging::Pte;
use kern_base::phys::PhysPage;
use kern_base::process::Process;
use smp::door::Ref;

use super::map::{SMALL, TO_WRITE};
use crate::rooms::Mem;

/// The page, and its present or future place.
#[derive(Clone, Copy)]
struct One<'k> {
    vspace: Ref<'k, VSpace>,
    frame: Ref<'k, Frame>,
    info: &'k FrameInfo,
    page: PhysPage,
    address: u64,
}

impl<'k, M: Machine> Mem<'k, M> {
    /// Carries out [`abi::Op::Map`] of one page on the fast path, or does nothing and returns
    /// `None`.
    #[inline(always)]
    pub fn map_one(self, process: Ref<'k, Process>, args: [u64; 4]) -> Option<()> {
        let one = self.one_of(process, args)?;
        let access = Access::from_raw(args[3])?;
        let _guard = one.vspace.get().lock(self.cpu);
        if !one.vspace.get().is_plain() && !self.may_still_see(one, access) {
            return None;
        }
        let spot = self.tables().spot::<SMALL>(one.vspace, one.address)?;
        if spot.load() != Pte::EMPTY || one.frame.get().is_device() {
            return None;
        }
        let locked = one.info.lock(self.cpu);
        if !locked.counts.get().allow(access) {
            return None;
        }
        self.add_mapping(&locked, spot, Pte::page(one.page, access), access);
        Some(())
    }

    /// Returns whether a mapping is still allowed in its space, after the lock was taken: the space
    /// may be dying or have a label.
    #[cold]
    fn may_still_see(self, one: One<'k>, access: Access) -> bool {
        let space = one.vspace.get();
        !space.is_dying() && self.security().may_see(space, one.info, access).is_ok()
    }

    /// Carries out [`abi::Op::Unmap`] of one page on the fast path, or does nothing and returns
    /// `None`.
    #[inline(always)]
    pub fn unmap_one(self, process: Ref<'k, Process>, args: [u64; 4]) -> Option<()> {
        let one = self.one_of(process, args)?;
        let waits = args[3] != 0;
        let _guard = one.vspace.get().lock(self.cpu);
        let spot = self.tables().spot::<SMALL>(one.vspace, one.address)?;
        let entry = spot.load();
        if waits || !entry.maps(one.page.at(), 1) || !one.vspace.get().is_alone(self.id()) {
            return None;
        }
        self.take_away(spot, entry, one.info, one.address);
        Some(())
    }

    /// Finds the VSpace and the frame that the system call's arguments name.
    #[inline(always)]
    fn one_of(self, process: Ref<'k, Process>, args: [u64; 4]) -> Option<One<'k>> {
        let [rdi, rsi, address, _] = args;
        let table = process.get().cnode.get(self.pin())?.get();
        let vspace = self.caps().object::<VSpace>(table, Target(rdi).cap(), Rights::MAP)?;
        // A capability that allows only reading takes the slow path.
        let frame = self.caps().object::<Frame>(table, Target(rsi).cap(), TO_WRITE)?;
        let (log2, pages) = (frame.get().log2(), frame.get().pages());
        // After the rotation, an address that is not page-aligned is larger than any page's number.
        let page = address.wrapping_sub(PAGE_SIZE).rotate_right(u32::from(abi::PAGE_LOG2));
        if pages != 1 || log2 != abi::PAGE_LOG2 || page >= (USER_TOP - PAGE_SIZE) / PAGE_SIZE {
            return None;
        }
        let page = frame.get().memory(0)?;
        let info = self.k.frames.get(self.pin(), page.at())?.get();
        Some(One { vspace, frame, info, page, address })
    }
}
