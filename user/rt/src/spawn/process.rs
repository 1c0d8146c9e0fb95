//! Making a process: its spaces, its image, the pages it starts with, its own capabilities.

use core::fmt;

use abi::{
    BootPage, Cap, Error, FRAME_PAGES_MAX, MEMBER_RIGHTS, MachineRights, ObjType, PAGE_LOG2, PAGE_SIZE,
    Rights,
};

use super::{Home, Nursery, own};
use crate::arch::memory;
use crate::cap::{Access, CNode, Frame, Group, Handle, Process, SchedControl, VSpace};
use crate::elf::{Image, Segment};
use crate::invoke::copy;
use crate::layout::slot;
use crate::{Refusal, boot};

/// A process to be made.
#[derive(Clone, Copy, Debug)]
pub struct ProcessSpec<'a> {
    pub image: &'a Image<'a>,
    /// With vector state.
    pub vector: bool,
    /// Tasks it may have.
    pub tasks: u32,
    /// Slots of its CSpace.
    pub slots: u32,
    /// Frames for its page tables.
    pub tables: u32,
    /// Give it its own ELF file, so that it can start others of its kind.
    pub with_file: bool,
    /// Sizes (as logarithms) of the Untypeds that it will be given.
    pub untyped_log2: &'a [u8],
    pub groups: StartIn,
    /// Its command line; its maker's if there is none here.
    pub line: Option<&'a str>,
}

/// In which groups a process starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StartIn {
    /// In those of its maker: it finds each where its maker has it, in [`GROUP_SLOTS`], and may do
    /// there what its maker may. Not in one whose maker left its own maker without ADD.
    #[default]
    Makers,
    /// In none.
    None,
}

/// Where a process has the groups in which it started.
pub const GROUP_SLOTS: core::ops::Range<u32> = slot::GROUPS.0..slot::PAGER.0;

/// What went wrong, and at which step.
#[derive(Clone, Copy, Debug)]
pub struct SpawnError {
    pub step: &'static str,
    pub refusal: Refusal,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.refusal)
    }
}

impl core::error::Error for SpawnError {}

/// Names the step at which a refusal happened.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, SpawnError>;
}

impl<T> Step<T> for crate::Result<T> {
    fn step(self, step: &'static str) -> Result<T, SpawnError> {
        self.map_err(|refusal| SpawnError { step, refusal })
    }
}

/// A process that was made, as its maker sees it.
#[derive(Debug)]
pub struct Child {
    pub process: Process,
    pub vspace: VSpace,
    pub cnode: CNode,
    start: u64,
}

/// As what a child is seen in a group that its maker has made: as no client that anybody
/// registered, and not as the maker, who is its servers' manager.
const NO_CLIENT: u16 = u16::MAX;

impl Child {
    /// Returns the child as the home of tasks to be made in it.
    pub fn home(&self) -> Home<'_> {
        let (process, vspace, cnode) = (&self.process, &self.vspace, Some(&self.cnode));
        Home { process, vspace, cnode, control: None, start: self.start }
    }

    /// Makes the child a member of the groups of this process. It speaks for the child until that
    /// has a task: it offers the slots.
    fn join_own_groups(&self) -> crate::Result<()> {
        for slot in GROUP_SLOTS.map(Cap) {
            let Some(held) = own::cnode().inspect(slot)? else { continue };
            let is_makers = held.rights.contains(Rights::DELETE);
            if held.object == ObjType::Group && held.rights.contains(Rights::ADD) {
                let group = Group::at(slot);
                self.process.accept(slot, &group)?;
                match is_makers {
                    true => group.add(&self.process, MEMBER_RIGHTS, NO_CLIENT)?,
                    false => group.add_as_self(&self.process, held.rights)?,
                };
            }
        }
        Ok(())
    }

    /// Makes the child a member of a group, with its group capability in `slot` of the child.
    /// Returns its member index.
    pub fn join(&self, group: &Group, slot: Cap, rights: Rights, custom: u16) -> crate::Result<u32> {
        self.process.accept(slot, group)?;
        group.add(&self.process, rights, custom)
    }

    /// Gives the child a capability of the Machine, with which it can log on this channel.
    pub fn give_machine(&self, rights: MachineRights, channel: u8) -> crate::Result<()> {
        copy(&own::machine(), self.cnode.slot(slot::MACHINE), rights, u64::from(channel))
    }

    /// Gives the child a SchedControl, with which it can set CPU time and start tasks.
    pub fn give_sched_control(&self, control: &SchedControl) -> crate::Result<()> {
        copy(control, self.cnode.slot(slot::SCHED_CONTROL), Rights::ALL, 0)
    }
}

/// Makes a process without tasks.
pub fn process(nursery: &mut Nursery, spec: &ProcessSpec<'_>) -> Result<Child, SpawnError> {
    let child = unloaded(nursery, spec)?;
    for segment in spec.image.segments() {
        load(nursery, &child.vspace, segment).step("loading its image")?;
    }
    Ok(child)
}

/// Makes a process without its image, which a pager maps later.
pub fn unloaded(nursery: &mut Nursery, spec: &ProcessSpec<'_>) -> Result<Child, SpawnError> {
    let cnode: CNode = nursery.make(u64::from(spec.slots)).step("making its CNode")?;
    let vspace: VSpace = nursery.make(u64::from(spec.tables)).step("making its VSpace")?;
    let process: Process = nursery.make(u64::from(spec.tasks)).step("making its Process")?;
    process.configure(&cnode, &vspace, spec.vector).step("configuring it")?;
    let child = Child { process, vspace, cnode, start: spec.image.entry };
    give_own(&child).step("giving it its own capabilities")?;
    if spec.groups == StartIn::Makers {
        child.join_own_groups().step("taking it along into the own groups")?;
    }
    give_boot_page(nursery, &child.vspace, spec).step("giving it the boot page")?;
    if spec.with_file {
        give_file(nursery, &child.vspace, spec.image.file).step("giving it its file")?;
    }
    Ok(child)
}

fn give_own(child: &Child) -> crate::Result<()> {
    copy(&child.cnode, child.cnode.slot(slot::CNODE), Rights::ALL, 0)?;
    copy(&child.vspace, child.cnode.slot(slot::VSPACE), Rights::ALL, 0)?;
    copy(&child.process, child.cnode.slot(slot::PROCESS), Rights::ALL, 0)
}

/// Makes the pages of an image's segment, fills them, and maps them in the child's address space.
fn load(nursery: &mut Nursery, vspace: &VSpace, segment: &Segment<'_>) -> crate::Result<()> {
    let place = (segment.first_page(), segment.pages());
    give_pages(nursery, vspace, place, segment.access, |index| segment.page(index))
}

/// Makes pages, as few frames as there can be, and maps them in the child's address space.
/// `content` returns a page's bytes, and where they begin in it.
fn give_pages<'a>(
    nursery: &mut Nursery,
    vspace: &VSpace,
    (address, pages): (u64, u32),
    access: Access,
    content: impl Fn(u32) -> (usize, &'a [u8]),
) -> crate::Result<()> {
    for first in (0..pages).step_by(FRAME_PAGES_MAX as usize) {
        let count = (pages - first).min(FRAME_PAGES_MAX);
        let frame: Frame = nursery.make(u64::from(PAGE_LOG2) | u64::from(count) << 8)?;
        for page in 0..count {
            let (offset, bytes) = content(first + page);
            if !bytes.is_empty() {
                memory::with_page(&own::vspace(), &frame, page.into(), |page| {
                    page[offset..offset + bytes.len()].copy_from_slice(bytes);
                })?;
            }
        }
        vspace.map(&frame, address + u64::from(first) * PAGE_SIZE, access)?;
    }
    Ok(())
}

/// Gives the child the parent's boot page, changed for the child.
fn give_boot_page(nursery: &mut Nursery, vspace: &VSpace, spec: &ProcessSpec<'_>) -> crate::Result<()> {
    let mut page: BootPage = *boot::facts();
    page.archive_len = if spec.with_file { spec.image.file.len() as u64 } else { 0 };
    page.untyped_count = spec.untyped_log2.len() as u64;
    page.untyped_log2 = [0; abi::BOOT_UNTYPED_MAX];
    for (to, from) in page.untyped_log2.iter_mut().zip(spec.untyped_log2) {
        *to = *from;
    }
    if let Some(line) = spec.line {
        let bytes = line.as_bytes();
        let room = page.cmdline.get_mut(..bytes.len());
        room.ok_or(Refusal::local(Error::BadArgument, bytes.len() as u64))?.copy_from_slice(bytes);
        page.cmdline_len = bytes.len() as u64;
    }
    let frame: Frame = nursery.make(u64::from(PAGE_SIZE.trailing_zeros()))?;
    let bytes = memory::page_bytes(&page);
    memory::with_frame(&own::vspace(), &frame, |to| to[..bytes.len()].copy_from_slice(bytes))?;
    vspace.map(&frame, abi::BOOT_PAGE_VA, Access::Read)
}

fn give_file(nursery: &mut Nursery, vspace: &VSpace, file: &[u8]) -> crate::Result<()> {
    let pages = (file.len() as u64).div_ceil(PAGE_SIZE) as u32;
    give_pages(nursery, vspace, (abi::ARCHIVE_VA, pages), Access::Read, |index| {
        let from = index as usize * PAGE_SIZE as usize;
        (0, &file[from..file.len().min(from + PAGE_SIZE as usize)])
    })
}
