//! Retype: objects from Untyped memory.
//!
//! Retype first checks everything and claims the destination slots, then makes the objects. If it
//! fails in the middle, it releases the remaining claims; the objects made so far stay, as if the
//! caller had asked only for them.

use core::mem::size_of;

use abi::events::{CELLS_LOG2_MAX, CELLS_LOG2_MIN, pool_pages};
use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, Membership};
use kern_base::header::RootId;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::Headed;
use kern_base::paging::TABLE_BYTES;
use kern_base::phys::PhysRange;
use kern_base::process::{Process, TaskNumber};
use kern_base::reply::Reply;
use kern_base::roots::UntypedGuard;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::{CNode, Place, Slot};
use kern_base::task::{TASK_BYTES, Task};
use smp::cpu::CpuId;
use smp::door::masked::{FilledTable, NamedTable};
use smp::door::{Piece, Ref, Region, Table};
use smp::sync::AtomicU64;

use crate::caps::slots::UntypedCap;
use crate::rooms::Make;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Most objects that one system call makes.
pub const RETYPE_MAX: u64 = 256;
/// Bytes that one entry writes, unless a single object is larger.
const ENTRY_BYTES: u64 = 64 << 10;
/// Most entries of a table object.
const ENTRIES_MAX: u64 = 1 << 16;
const PAGE: u64 = abi::PAGE_SIZE;

/// The pages of a frame.
#[derive(Clone, Copy)]
pub struct Pages {
    pub log2: u8,
    pub count: u32,
}

impl Pages {
    /// Decodes the size of a frame to be made: in the low byte the base-2 logarithm of a page's
    /// size, above it the number of pages, where 0 means one.
    pub fn of(size: u64) -> Option<Pages> {
        let (log2, count) = (size as u8, u32::try_from(size >> 8).ok()?.max(1));
        let most = match log2 {
            abi::PAGE_LOG2 => abi::FRAME_PAGES_MAX,
            abi::LARGE_PAGE_LOG2 => 1,
            _ => return None,
        };
        (count <= most).then_some(Pages { log2, count })
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.count) << self.log2
    }
}

/// The type and size of objects to make.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub object_type: ObjType,
    pub size: u64,
}

impl Recipe {
    /// Checks the type and the size of objects to be made. The error's detail is the argument's
    /// position.
    pub fn new(raw_type: u32, size: u64) -> Result<Recipe> {
        let object_type =
            u8::try_from(raw_type).ok().and_then(ObjType::from_raw).ok_or(Refusal::argument(0))?;
        let fits = match object_type {
            ObjType::Untyped => (12..=40).contains(&size),
            ObjType::Frame => Pages::of(size).is_some(),
            ObjType::CNode | ObjType::Process => (1..=ENTRIES_MAX).contains(&size),
            ObjType::VSpace => (1..=4096).contains(&size),
            ObjType::Group => size >> 32 == 0 && size & 0xffff != 0 && size >> 16 != 0,
            ObjType::EventPool => (u64::from(CELLS_LOG2_MIN)..=u64::from(CELLS_LOG2_MAX)).contains(&size),
            ObjType::Machine => false,
            ObjType::Task
            | ObjType::SchedContext
            | ObjType::SchedControl
            | ObjType::Notification
            | ObjType::Reply => size == 0,
        };
        if fits {
            Ok(Recipe { object_type, size })
        } else {
            Err(Refusal::argument(if raw_type == ObjType::Machine as u32 { 0 } else { 1 }))
        }
    }

    /// Returns about how many bytes making one object writes.
    fn bytes(self) -> u64 {
        match self.object_type {
            ObjType::Frame => Pages::of(self.size).map_or(0, Pages::bytes),
            ObjType::VSpace => (1 + self.size) * TABLE_BYTES,
            ObjType::CNode => self.size * size_of::<Slot>() as u64,
            ObjType::Process => self.size * size_of::<TaskNumber>() as u64,
            ObjType::Group => {
                (self.size & 0xffff) * (8 + size_of::<Membership>() as u64)
                    + (self.size >> 16) * size_of::<Exposure>() as u64
            }
            ObjType::Task => TASK_BYTES,
            ObjType::EventPool => pool_pages(self.size as u8) * PAGE,
            _ => 64,
        }
        .max(64)
    }
}

/// Consecutive destination slots of one table. They stay the same slots whatever happens to the
/// capability by which the table was found.
#[derive(Clone, Copy)]
struct Run<'k> {
    table: Ref<'k, CNode>,
    first: usize,
}

/// The site of a new object: its memory, its first capability's slot, and that capability's parent.
struct Site<'a, 'k> {
    memory: &'a UntypedGuard<'a>,
    slot: Ref<'k, Slot>,
    parent: Ref<'k, Slot>,
    label: u32,
}

impl<'a> Site<'a, '_> {
    const fn region(&self) -> &'a Region {
        self.memory.region()
    }

    fn root(&self) -> RootId {
        self.memory.untyped().header.root()
    }
}

impl<'k, M: Machine> Make<'k, M> {
    /// Carries out [`abi::Op::Retype`].
    pub fn retype(
        self,
        me: OpenTask<'k>,
        source: Target,
        size: u64,
        to: Target,
        count: u64,
    ) -> Result<Answer> {
        let process = me.process(self.pin());
        let from = self.caps().find_untyped(me, source.cap())?;
        let recipe = Recipe::new(source.index(), size)?;
        refuse_if(count == 0 || count > RETYPE_MAX, Refusal::argument(3))?;
        let dest = self.find_run(process, to, count)?;
        let label = self.security().label_of_new(process.get(), &from.untyped.get().header);
        self.security().may_grant_new(me, self.place_in(dest, 0)?, label)?;
        let now = count.min((ENTRY_BYTES / recipe.bytes()).max(1));
        let free = self.retype_some(me, from, recipe, dest, now, label)?;
        if now < count {
            // The rest is a system call of its own.
            me.regs.rdx.set(Target::new(to.cap(), to.index() + now as u32).0);
            me.regs.r8.set(count - now);
            return Err(Refusal::More);
        }
        Ok(Answer::one(free))
    }

    /// Finds `count` consecutive slots, from the one that a `CNode and slot` argument names on. All
    /// are in one table, and none of them is full.
    fn find_run(self, process: Ref<'k, Process>, to: Target, count: u64) -> Result<Run<'k>> {
        let (reach, number) = self.caps().find_cnode::<{ Op::Retype as u8 }, 2>(process, to)?;
        let missing = |i: u64| Refusal::new(Error::NoCapability, number as u64 + i);
        let (table, first) = self.caps().table_with(reach, number).ok_or(missing(0))?;
        let run = Run { table, first };
        for i in 0..count {
            let place = self.place_in(run, i).map_err(|_| missing(i))?;
            refuse_if(place.slot.get().word.load(self.pin()).object_type() != 0, Error::SlotOccupied)?;
        }
        Ok(run)
    }

    fn place_in(self, run: Run<'k>, i: u64) -> Result<Place<'k>> {
        let Run { table, first } = run;
        let slot = table.get().slots.get_but_first(self.pin(), first + i as usize);
        slot.map(|slot| Place { slot, table: &table.get().header }).ok_or(Error::NoCapability.into())
    }

    /// Makes objects in the first `count` of the destination slots. Returns: the bytes that the
    /// Untyped has left.
    fn retype_some(
        self,
        me: OpenTask<'k>,
        from: UntypedCap<'k>,
        recipe: Recipe,
        dest: Run<'k>,
        count: u64,
        label: u32,
    ) -> Result<u64> {
        for i in 0..count {
            let claimed = self.place_in(dest, i).and_then(|to| self.caps().claim(to));
            claimed.inspect_err(|_| self.unclaim_run(dest, 0..i))?;
        }
        let opened = self.caps().open_to_make(from);
        let guard = opened.inspect_err(|_| self.unclaim_run(dest, 0..count))?;
        self.caps().check_depth(from.slot).inspect_err(|_| self.unclaim_run(dest, 0..count))?;
        for i in 0..count {
            let made = self.place_in(dest, i).and_then(|to| {
                self.make(&guard, recipe, to.slot, from.slot, label)?;
                self.security().audit_grant(me.object(), Some(Op::Retype), to);
                Ok(())
            });
            made.inspect_err(|_| self.unclaim_run(dest, i..count))?;
        }
        Ok(guard.region().free())
    }

    #[cold]
    fn unclaim_run(self, dest: Run<'k>, slots: core::ops::Range<u64>) {
        for place in slots.filter_map(|i| self.place_in(dest, i).ok()) {
            self.caps().unclaim(place.slot);
        }
    }

    /// Makes one object and fills its first slot.
    pub fn make(
        self,
        memory: &UntypedGuard<'_>,
        recipe: Recipe,
        slot: Ref<'k, Slot>,
        parent: Ref<'k, Slot>,
        label: u32,
    ) -> Result<()> {
        let site = Site { memory, slot, parent, label };
        let Recipe { object_type, size } = recipe;
        let made = match object_type {
            ObjType::Untyped => self.make_untyped(&site, size as u8),
            ObjType::Frame => Pages::of(size).and_then(|pages| self.make_frame(&site, pages)),
            ObjType::VSpace => self.make_vspace(&site, size),
            ObjType::CNode => self.make_cnode(&site, size),
            ObjType::Process => self.make_process(&site, size)?,
            ObjType::Group => self.make_group(&site, size),
            ObjType::Task => self.make_task(&site),
            ObjType::SchedContext => self.make_homed(&site, SchedContext::new),
            ObjType::SchedControl => self.make_plain(&site, SchedControl::new),
            ObjType::Notification => self.make_homed(&site, Notification::new),
            ObjType::Reply => self.make_homed(&site, Reply::new),
            ObjType::EventPool => self.make_pool(&site, size as u8),
            ObjType::Machine => return Err(Refusal::argument(0)),
        };
        made.ok_or_else(|| Refusal::new(Error::NoMemory, site.region().free()))
    }

    /// Writes a new object into a piece, and its first capability into the slot. Returns `None` if
    /// the piece is too small.
    fn place<T: Headed>(self, site: &Site<'_, 'k>, piece: Piece, object: T) -> Option<()> {
        self.fill_site(site, piece.emplace(self.pin(), object)?);
        Some(())
    }

    /// Writes the first capability of a new object into its slot.
    fn fill_site<T: Headed>(self, site: &Site<'_, 'k>, object: Ref<'k, T>) {
        self.caps().fill_first(site.memory, site.slot, object, site.parent, site.label);
    }

    fn make_untyped(self, site: &Site<'_, 'k>, log2: u8) -> Option<()> {
        let (head, block) = carve_block::<Untyped>(site.region(), 1 << log2, 1 << log2)?;
        self.place(site, head, Untyped::new(&self.k.roots, site.root(), log2, block.into_region()))
    }

    fn make_frame(self, site: &Site<'_, 'k>, pages: Pages) -> Option<()> {
        let Pages { log2, count } = pages;
        let (head, mut block) = carve_block::<Frame>(site.region(), pages.bytes(), 1 << log2)?;
        block.zero();
        let memory = PhysRange::of_piece(&self.k.machine, block);
        let frame = head.emplace(self.pin(), Frame::new(site.root(), memory, log2))?;
        for info in (0..u64::from(count)).filter_map(|n| self.k.frames.get(self.pin(), frame.get().page(n))) {
            info.get().give(self.cpu, frame, 0);
        }
        self.fill_site(site, frame);
        Some(())
    }

    fn make_vspace(self, site: &Site<'_, 'k>, tables: u64) -> Option<()> {
        let seen_bytes = self.k.cpu_count() as u64 * 8;
        let tops = [size_of::<VSpace>() as u64, seen_bytes];
        if !fits(site.region(), &tops, (1 + tables) * TABLE_BYTES, PAGE) {
            return None;
        }
        let head = site.region().carve_top(size_of::<VSpace>() as u64)?;
        let seen = site.region().carve_top(seen_bytes)?.emplace_slice(|_| AtomicU64::new(0))?;
        let tables = site.region().carve((1 + tables) * TABLE_BYTES, PAGE)?;
        let vspace = self.new_vspace(site.root(), tables, seen)?;
        vspace.set_labelled(site.label != 0);
        self.place(site, head, vspace)
    }

    /// Makes a VSpace whose tables and links fill a piece of memory.
    pub fn new_vspace(self, root: RootId, piece: Piece, seen: Table<AtomicU64>) -> Option<VSpace> {
        VSpace::new(root, &self.k.machine, self.pin(), piece, seen)
    }

    fn make_cnode(self, site: &Site<'_, 'k>, slots: u64) -> Option<()> {
        let (head, tail) = carve_pair::<CNode, Slot>(site.region(), slots)?;
        let table = FilledTable::new(tail.emplace_slice(|_| Slot::new())?)?;
        self.place(site, head, CNode::new(site.root(), table))
    }

    /// Makes a Process. Returns `None` if the memory is too small; other failures are errors.
    fn make_process(self, site: &Site<'_, 'k>, tasks: u64) -> Result<Option<()>> {
        if !fits(site.region(), &[], pair_size::<Process, TaskNumber>(tasks), 64) {
            return Ok(None);
        }
        let key = self.k.processes.allocate(self.pin())?;
        let make = || {
            let (head, tail) = carve_pair::<Process, TaskNumber>(site.region(), tasks)?;
            let table = tail.emplace_slice(|_| TaskNumber::default())?;
            let process = head.emplace(self.pin(), Process::new(site.root(), key, table))?;
            self.k.processes.enter(self.pin(), process);
            self.fill_site(site, process);
            Some(())
        };
        Ok(make())
    }

    fn make_task(self, site: &Site<'_, 'k>) -> Option<()> {
        let piece = site.region().carve(TASK_BYTES, PAGE)?;
        self.fill_site(site, Task::make(piece, self.pin(), site.root(), self.id())?);
        Some(())
    }

    /// Makes an object of fixed size with `new`, and with its home on this CPU. Returns `None` if
    /// the memory is too small.
    fn make_homed<T: Headed>(self, site: &Site<'_, 'k>, new: impl Fn(RootId, CpuId) -> T) -> Option<()> {
        self.make_plain(site, |root| new(root, self.id()))
    }

    /// Makes an object of fixed size with `new`. Returns `None` if the memory is too small.
    #[inline(always)]
    fn make_plain<T: Headed>(self, site: &Site<'_, 'k>, new: impl Fn(RootId) -> T) -> Option<()> {
        let piece = site.region().carve((size_of::<T>() as u64).next_multiple_of(64), 64)?;
        self.place(site, piece, new(site.root()))
    }

    fn make_pool(self, site: &Site<'_, 'k>, cells_log2: u8) -> Option<()> {
        let (head, block) = carve_block::<EventPool>(site.region(), pool_pages(cells_log2) * PAGE, PAGE)?;
        let pool = EventPool::new(site.root(), &self.k.machine, block, cells_log2, self.pin())?;
        self.place(site, head, pool)
    }

    fn make_group(self, site: &Site<'_, 'k>, size: u64) -> Option<()> {
        let (members, exposures) = (size & 0xffff, size >> 16);
        let count = members;
        let member_bytes = (members * 8).next_multiple_of(64);
        let exposure_bytes = exposures * size_of::<Exposure>() as u64;
        let place_bytes = (members * size_of::<Membership>() as u64).next_multiple_of(64);
        let bytes = size_of::<Group>() as u64 + member_bytes + place_bytes + exposure_bytes;
        let mut piece = site.region().carve(bytes, 64)?;
        let head = piece.split(size_of::<Group>() as u64)?;
        let mut member_piece = piece.split(member_bytes)?;
        let members = NamedTable::new(member_piece.split(members * 8)?.emplace_slice(|_| AtomicU64::new(0))?);
        let mut place_piece = piece.split(place_bytes)?;
        let places = place_piece.split(count * size_of::<Membership>() as u64)?;
        let places = places.emplace_slice(|_| Membership::default())?;
        let exposures = NamedTable::new(piece.emplace_slice(|_| Exposure::default())?);
        self.place(site, head, Group::new(site.root(), members, exposures, places))
    }

    /// Fills the first slot of a boot object, from which nothing is derived yet.
    pub fn fill_boot<T: Headed>(self, cnode: &CNode, cap: Cap, object: Ref<'k, T>) -> Option<()> {
        let header = object.get().header();
        let slot = cnode.slots.get_but_first(self.pin(), cap.0 as usize)?;
        slot.get().set_meta(0, 0);
        self.k.roots.lock(self.cpu, header).number(header);
        header.add_ref();
        slot.get().word.set(object, Rights::ALL.0);
        Some(())
    }
}

/// Takes memory of a region: room for a `T` at its top, and `bytes` bytes at its bottom.
fn carve_block<T>(region: &Region, bytes: u64, align: u64) -> Option<(Piece, Piece)> {
    let head = size_of::<T>() as u64;
    if !fits(region, &[head], bytes, align) {
        return None;
    }
    Some((region.carve_top(head)?, region.carve(bytes, align)?))
}

/// Takes memory of a region for a `T`, and for a table of `entries` elements `E`.
fn carve_pair<T, E>(region: &Region, entries: u64) -> Option<(Piece, Piece)> {
    let mut piece = region.carve(pair_size::<T, E>(entries), 64)?;
    let head = piece.split(size_of::<T>() as u64)?;
    Some((head, piece))
}

fn pair_size<T, E>(entries: u64) -> u64 {
    size_of::<T>() as u64 + entries * size_of::<E>() as u64
}

/// Returns whether a region has room for pieces of the sizes `tops` at its top and for a block at
/// its bottom. Callers that take more than one piece ask first, so that a failure loses no memory.
pub fn fits(region: &Region, tops: &[u64], size: u64, align: u64) -> bool {
    let (low, used) = region.used();
    let high = tops.iter().try_fold(region.size() - used, |high, top| Some(high.checked_sub(*top)? & !63));
    let at = (region.base() + low).checked_next_multiple_of(align).map(|at| at - region.base());
    let end = at.and_then(|at| at.checked_add(size));
    high.zip(end).is_some_and(|(high, end)| end <= high)
}
