//! Address spaces: which page is mapped where, with which access. No page is writable and
//! executable at the same time.
//!
//! Pools, pages in messages and accessed bits are left out.

use abi::{Error, FrameRights, ObjType, PAGE_SIZE, Rights, USER_TOP, frame_rights, machine_rights};

use crate::object::{Access, Mapping};
use crate::{Answer, Args, Id, Kind, Model, Refusal, Result};

/// Checks that user level may map a range.
pub fn check_range(address: u64, size: u64, align: u64) -> Result<()> {
    let inside = address >= PAGE_SIZE && address.checked_add(size).is_some_and(|end| end <= USER_TOP);
    if inside && address.is_multiple_of(align) {
        Ok(())
    } else {
        Err(Refusal::new(Error::BadAddress, address))
    }
}

/// Pages of a frame, and where they are or are to be.
struct Run {
    vspace: Id,
    frame: Id,
    address: u64,
    first: u64,
    count: u64,
    log2: u8,
}

impl Run {
    /// Returns number and address of each page.
    fn pages(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let Run { first, count, address, log2, .. } = *self;
        (0..count).map(move |n| (first + n, address + (n << log2)))
    }
}

fn access(raw: u64) -> Result<Access> {
    match raw {
        0 => Ok(Access::Read),
        1 => Ok(Access::Write),
        2 => Ok(Access::Execute),
        3 => Err(Error::WriteExecute.into()),
        _ => Err(Refusal::argument(3)),
    }
}

/// Returns the rights that a frame's capability needs to be mapped as the argument says.
fn rights_for(raw: u64) -> FrameRights {
    if raw & 1 == 0 { Rights::MAP.into() } else { Rights::MAP | frame_rights::WRITE }
}

impl Model {
    pub fn map(&mut self, me: Id, args: &Args) -> Result {
        let run = self.run_of(me, args, rights_for(args.0[3]))?;
        let access = access(args.0[3])?;
        if self.is_dying(run.vspace) || self.is_dying(run.frame) {
            return Err(Error::Dying.into());
        }
        self.may_map(run.vspace, run.frame, access)?;
        for (number, address) in run.pages() {
            let page = Mapping::Page { frame: run.frame, number, access };
            self.map_page(run.vspace, address, page, access)?;
        }
        Ok(Answer::DONE)
    }

    pub fn unmap(&mut self, me: Id, args: &Args) -> Result {
        let run = self.run_of(me, args, Rights::MAP)?;
        for (number, address) in run.pages() {
            self.mapped(&run, number, address)?;
            self.vspace_mut(run.vspace).pages.remove(&address);
        }
        Ok(Answer::DONE)
    }

    pub fn protect(&mut self, me: Id, args: &Args) -> Result {
        let run = self.run_of(me, args, rights_for(args.0[3]))?;
        let access = access(args.0[3])?;
        self.may_map(run.vspace, run.frame, access)?;
        for (number, address) in run.pages() {
            let was = self.mapped(&run, number, address)?;
            self.vspace_mut(run.vspace).pages.remove(&address);
            let allowed = self.check_access(run.frame, number, access, address);
            let now = if allowed.is_ok() { access } else { was };
            let page = Mapping::Page { frame: run.frame, number, access: now };
            self.vspace_mut(run.vspace).pages.insert(address, page);
            allowed?;
        }
        Ok(Answer::DONE)
    }

    fn run_of(&self, me: Id, args: &Args, of_frame: impl Into<FrameRights>) -> Result<Run> {
        let vspace = self.find(me, args.cap(0), ObjType::VSpace, Rights::MAP)?.object;
        let frame = self.find(me, args.cap(1), ObjType::Frame, of_frame.into())?.object;
        let [_, _, address, _, first, count] = args.0;
        let (log2, pages) = (self.frame(frame).log2, self.frame(frame).pages);
        let rest = pages.checked_sub(first).filter(|rest| *rest > 0).ok_or(Refusal::argument(4))?;
        let count = if count == 0 { rest } else { count };
        if count > rest {
            return Err(Refusal::argument(5));
        }
        check_range(address, count << log2, 1 << log2)?;
        Ok(Run { vspace, frame, address, first, count, log2 })
    }

    /// Returns the access that a page of a run is mapped with.
    fn mapped(&self, run: &Run, number: u64, address: u64) -> Result<Access> {
        match self.vspace(run.vspace).pages.get(&address) {
            Some(Mapping::Page { frame, number: at, access }) if (*frame, *at) == (run.frame, number) => {
                Ok(*access)
            }
            _ => Err(Refusal::new(Error::BadAddress, address)),
        }
    }

    /// Maps a page at an address where nothing is mapped. Page tables that were made for it stay,
    /// also if the mapping is refused.
    pub fn map_page(&mut self, vspace: Id, address: u64, page: Mapping, access: Access) -> Result<()> {
        self.make_tables(vspace, address)?;
        if self.vspace(vspace).pages.contains_key(&address) {
            return Err(Refusal::new(Error::Mapped, address));
        }
        if let Mapping::Page { frame, number, .. } = page {
            self.check_access(frame, number, access, address)?;
        }
        self.vspace_mut(vspace).pages.insert(address, page);
        Ok(())
    }

    fn make_tables(&mut self, vspace: Id, address: u64) -> Result<()> {
        let space = self.vspace_mut(vspace);
        for (level, shift) in [(3, 39), (2, 30), (1, 21)] {
            let table = (level, address >> shift);
            if !space.used.contains(&table) && space.used.len() as u64 == space.tables {
                return Err(Error::NoTables.into());
            }
            space.used.insert(table);
        }
        Ok(())
    }

    /// Checks that a page may be mapped with this access: it must not be writable and executable by
    /// different mappings.
    fn check_access(&self, frame: Id, number: u64, access: Access, address: u64) -> Result<()> {
        let excluded = match access {
            Access::Read => return Ok(()),
            Access::Write => Access::Execute,
            Access::Execute => Access::Write,
        };
        let is_excluded = |page: &Mapping| *page == Mapping::Page { frame, number, access: excluded };
        let spaces = self.objects.iter().filter_map(|object| match &object.kind {
            Kind::VSpace(space) => Some(space),
            _ => None,
        });
        if spaces.flat_map(|space| space.pages.values()).any(is_excluded) {
            return Err(Refusal::new(Error::WriteExecute, address));
        }
        Ok(())
    }

    pub fn unmap_everywhere(&mut self, of: Id) {
        for object in &mut self.objects {
            if let Kind::VSpace(space) = &mut object.kind {
                space.pages.retain(|_, page| !matches!(page, Mapping::Page { frame, .. } if *frame == of));
            }
        }
    }

    // --- pins ------------------------------------------------------------------------------------

    pub fn frame_pin(&mut self, me: Id, args: &Args) -> Result {
        let frame = self.find(me, args.cap(0), ObjType::Frame, frame_rights::DMA)?.object;
        self.find(me, args.cap(1), ObjType::Machine, machine_rights::DMA)?;
        if self.is_dying(frame) {
            return Err(Error::Dying.into());
        }
        let it = self.frame_mut(frame);
        it.pins += 1;
        Ok(Answer::Values([it.base, it.pins, 0, 0]))
    }

    pub fn frame_unpin(&mut self, me: Id, args: &Args) -> Result {
        let frame = self.find(me, args.cap(0), ObjType::Frame, frame_rights::DMA)?.object;
        self.find(me, args.cap(1), ObjType::Machine, machine_rights::DMA)?;
        let it = self.frame_mut(frame);
        it.pins = it.pins.checked_sub(1).ok_or(Error::BadState)?;
        Ok(Answer::Values([0, it.pins, 0, 0]))
    }
}
