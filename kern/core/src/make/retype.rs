//! Retype: objects from Untyped memory.
//!
//! # Steps
//! One kernel entry does a bounded amount of [work](crate::work), and holds a lock for a quarter of
//! that at most. An object that is more than a lock's hold is *long*. Its memory is cleared before
//! anything else happens ([`crate::caps::ahead`]): until then no slot is claimed and no memory
//! carved, so there is nothing to give back if the caller ends meanwhile. A step that makes objects
//! checks everything, and claims the destination slots of these objects. It clears their memory
//! under the Untyped's lock, takes the root's lock, too, and makes the objects. The rest is a
//! system call of its own.
//!
//! If a step fails in the middle, it releases its claims; the objects made so far stay, as if the
//! caller had asked only for them.

use abi::events::PoolSize;
use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, Membership};
use kern_base::header::RootId;
use kern_base::irq::IrqHandler;
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::Headed;
use kern_base::phys::PhysRange;
use kern_base::port::IoPort;
use kern_base::process::{Process, TaskNumber};
use kern_base::reply::Reply;
use kern_base::roots::Root;
use kern_base::sched_context::SchedContext;
use kern_base::sched_control::SchedControl;
use kern_base::slot::{CNode, Place, Slot, made_at};
use kern_base::task::Task;
use smp::cpu::CpuId;
use smp::door::masked::{FilledTable, NamedTable};
use smp::door::{Cleared, Piece, Ref, Region, Table};
use smp::sync::AtomicU64;
use smp::sync::Ordering::Relaxed;

use crate::begun::{is_again, mark_again};
use crate::caps::ahead::Layout;
use crate::caps::slots::UntypedCap;
use crate::make::recipe::Recipe;
use crate::rooms::Make;
use crate::work::LOOK_WORK;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Most objects that one system call makes.
pub const RETYPE_MAX: u64 = 256;

/// Consecutive destination slots of one table. They stay the same slots whatever happens to the
/// capability by which the table was found.
#[derive(Clone, Copy)]
struct Run<'k> {
    table: Ref<'k, CNode>,
    first: usize,
}

/// The site of a new object: its memory, its first capability's slot, and that capability's parent.
struct Site<'a, 'k> {
    root: &'a Root,
    region: &'a Region,
    slot: Ref<'k, Slot>,
    parent: Ref<'k, Slot>,
    untyped: Ref<'k, Untyped>,
    label: u32,
    layout: Layout,
}

impl Site<'_, '_> {
    fn root(&self) -> RootId {
        self.untyped.get().header.root()
    }

    /// Carves the object's block. Returns its front, which the object writes, and the rest, all of
    /// whose bytes are 0.
    #[inline(always)]
    fn block(&self) -> Option<(Piece, Cleared)> {
        self.region.carve_cleared(self.layout.head, self.layout.size, self.layout.align)
    }

    /// Carves room for a `T` at the region's top, and the object's block.
    #[inline(always)]
    fn block_with_top<T>(&self) -> Option<(Piece, Cleared)> {
        if !self.layout.fits(self.region) {
            return None;
        }
        Some((self.region.carve_top(size_of::<T>() as u64)?, self.block()?.1))
    }
}

/// What the steps of a Retype make of what, and where.
#[derive(Clone, Copy)]
struct Order<'k> {
    from: UntypedCap<'k>,
    recipe: Recipe,
    layout: Layout,
    dest: Run<'k>,
    label: u32,
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
        let (dest, number) = self.find_run(process, to)?;
        if !is_again(me.part()) {
            self.check_run(dest, number, count)?;
            self.note_work(count * LOOK_WORK);
        }
        let label = self.security().label_of_new(process.get(), &from.untyped.get().header);
        self.security().may_grant_new(me, self.place_in(dest, 0)?, label)?;
        let order = Order { from, recipe, layout: recipe.layout(self.k.cpu_count()), dest, label };
        let mut made = 0;
        let outcome = self.retype_within(me, order, count, &mut made);
        if !matches!(outcome, Ok(_) | Err(Refusal::Error { .. })) {
            // The rest is a system call of its own.
            mark_again(me.part());
            me.regs.rdx.set(Target::new(to.cap(), to.index() + made as u32).0);
            me.regs.r8.set(count - made);
        }
        outcome.map(Answer::one)
    }

    /// Finds the slot that a `CNode and slot` argument names, as the first of some that follow each
    /// other in one table. Returns also the number by which the caller names it.
    #[inline(always)]
    fn find_run(self, process: Ref<'k, Process>, to: Target) -> Result<(Run<'k>, u64)> {
        let (reach, number) = self.caps().find_cnode::<{ Op::Retype as u8 }, 2>(process, to)?;
        let missing = Refusal::new(Error::NoCapability, number as u64);
        let (table, first) = self.caps().table_with(reach, number).ok_or(missing)?;
        Ok((Run { table, first }, number as u64))
    }

    /// Checks that the slots of a run are all there, and that none of them is full. Each step
    /// checks its own slots again.
    fn check_run(self, run: Run<'k>, number: u64, count: u64) -> Result<()> {
        for i in 0..count {
            let missing = Refusal::new(Error::NoCapability, number + i);
            let place = self.place_in(run, i).map_err(|_| missing)?;
            refuse_if(place.slot.get().word.load(self.pin()).object_type() != 0, Error::SlotOccupied)?;
        }
        Ok(())
    }

    fn place_in(self, run: Run<'k>, i: u64) -> Result<Place<'k>> {
        let Run { table, first } = run;
        let slot = table.get().slots.get_but_first(self.pin(), first + i as usize);
        slot.map(|slot| Place { slot, table: &table.get().header }).ok_or(Error::NoCapability.into())
    }

    /// Makes objects in the first `count` of the destination slots, as many as one entry may, and
    /// counts them. Returns: the bytes that the Untyped has left.
    #[inline(always)]
    fn retype_within(self, me: OpenTask<'k>, order: Order<'k>, count: u64, made: &mut u64) -> Result<u64> {
        let (each, most) = (order.layout.work, order.layout.at_once());
        loop {
            if order.layout.is_long() {
                self.caps().clear_ahead(order.from, order.layout)?;
            }
            let left = count - *made;
            let now = left.min(most);
            self.afford(now * each)?;
            let (some, free) = self.retype_some(me, order, *made..*made + now)?;
            *made += some;
            if some == left {
                return Ok(free);
            }
        }
    }

    /// Makes objects in some of the destination slots: fewer if another CPU waits for the root's
    /// lock. Returns how many, and the bytes that the Untyped has left.
    fn retype_some(
        self,
        me: OpenTask<'k>,
        order: Order<'k>,
        slots: core::ops::Range<u64>,
    ) -> Result<(u64, u64)> {
        let Order { from, recipe, layout, dest, label } = order;
        for i in slots.clone() {
            let claimed = self.place_in(dest, i).and_then(|to| self.caps().claim(to));
            claimed.inspect_err(|_| self.unclaim_run(dest, slots.start..i))?;
        }
        let opened = self.caps().open_or_leave(from.untyped);
        let inside = opened.inspect_err(|_| self.unclaim_run(dest, slots.clone()))?;
        let region = &inside.region;
        layout.clear(region, slots.end - slots.start);
        let locked = self.caps().lock_to_make(from);
        let root = locked.inspect_err(|_| self.leave(region, &order, slots.clone()))?;
        self.caps().check_depth(from.slot).inspect_err(|_| self.leave(region, &order, slots.clone()))?;
        for i in slots.clone() {
            let made = self.place_in(dest, i).and_then(|to| {
                let (slot, parent, untyped) = (to.slot, from.slot, from.untyped);
                self.make(&Site { root: &root, region, slot, parent, untyped, label, layout }, recipe)?;
                self.security().audit_grant(me.object(), Some(Op::Retype), to);
                Ok(())
            });
            made.inspect_err(|_| self.leave(region, &order, i..slots.end))?;
            if root.is_awaited() {
                self.leave(region, &order, i + 1..slots.end);
                // Most of their work stays spent: slots were claimed, and locks are taken again.
                self.take_back((slots.end - i - 1) * layout.work / 4);
                return Ok((i + 1 - slots.start, region.free()));
            }
        }
        Ok((slots.end - slots.start, region.free()))
    }

    /// Gives claimed slots back for which no objects are made now, and makes the region forget what
    /// was cleared for these objects. What was cleared in steps is still there for the next entry.
    #[cold]
    fn leave(self, region: &Region, order: &Order<'k>, slots: core::ops::Range<u64>) {
        if !order.layout.is_long() {
            region.forget_cleared();
        }
        self.unclaim_run(order.dest, slots);
    }

    #[cold]
    fn unclaim_run(self, dest: Run<'k>, slots: core::ops::Range<u64>) {
        for place in slots.filter_map(|i| self.place_in(dest, i).ok()) {
            self.caps().unclaim(place.slot);
        }
    }

    /// Makes one object and fills its first slot.
    /// Errors: [`Refusal::More`] if the memory of a long object must be cleared first.
    fn make(self, site: &Site<'_, 'k>, recipe: Recipe) -> Result<()> {
        let Recipe { object_type, size } = recipe;
        refuse_if(!site.layout.is_ahead(site.region), Refusal::More)?;
        let made = match object_type {
            ObjType::Untyped => self.make_untyped(site, size as u8),
            ObjType::Frame => self.make_frame(site, size as u8),
            ObjType::VSpace => self.make_vspace(site),
            ObjType::CNode => self.make_cnode(site),
            ObjType::Process => self.make_process(site),
            ObjType::Group => self.make_group(site, size),
            ObjType::Task => self.make_task(site),
            ObjType::SchedContext => self.make_homed(site, SchedContext::new),
            ObjType::SchedControl => self.make_plain(site, SchedControl::new),
            ObjType::IrqHandler => self.make_plain(site, IrqHandler::new),
            ObjType::IoPort => self.make_plain(site, IoPort::new),
            ObjType::Notification => self.make_homed(site, Notification::new),
            ObjType::Reply => self.make_homed(site, Reply::new),
            ObjType::EventPool => self.make_pool(site, size),
            ObjType::Machine => return Err(Refusal::argument(0)),
        };
        made.ok_or_else(|| Refusal::new(Error::NoMemory, site.region.free()))
    }

    /// Writes a new object into a piece, and its first capability into the slot. Returns `None` if
    /// the piece is too small.
    fn place<T: Headed>(self, site: &Site<'_, 'k>, piece: Piece, object: T) -> Option<()> {
        self.fill_site(site, piece.emplace(self.pin(), object)?);
        Some(())
    }

    /// Writes the first capability of a new object into its slot.
    fn fill_site<T: Headed>(self, site: &Site<'_, 'k>, object: Ref<'k, T>) {
        self.caps().fill_first(site.root, site.slot, object, site.parent, site.label);
    }

    fn make_untyped(self, site: &Site<'_, 'k>, log2: u8) -> Option<()> {
        if !site.layout.fits(site.region) {
            return None;
        }
        let head = site.region.carve_top(size_of::<Untyped>() as u64)?;
        let block = site.region.carve(site.layout.size, site.layout.align)?;
        let above = site.untyped.get();
        let pcids = above.pcids.divide(log2, above.log2);
        let untyped = Untyped::new(site.root(), log2, block.into_region(), pcids);
        untyped.made_of.set(Some(site.untyped));
        self.place(site, head, untyped)
    }

    fn make_frame(self, site: &Site<'_, 'k>, log2: u8) -> Option<()> {
        let (head, block) = site.block_with_top::<Frame>()?;
        let memory = PhysRange::of_piece(&self.k.machine, block.into_piece());
        let frame = head.emplace(self.pin(), Frame::new(site.root(), memory, log2))?;
        let pages = frame.get().pages() as usize;
        for info in self.k.frames.row(self.pin(), frame.get().base(), pages) {
            if site.layout.is_long() {
                debug_assert!(info.is_blank(), "a page is cleared ahead, and its use is not forgotten");
                info.set_owner(frame);
            } else {
                info.give(self.cpu, frame, 0);
            }
        }
        self.fill_site(site, frame);
        Some(())
    }

    fn make_vspace(self, site: &Site<'_, 'k>) -> Option<()> {
        let (head, tables) = site.block_with_top::<VSpace>()?;
        let seen = site.region.carve_top(site.layout.tops[1])?.clear().into_table()?;
        let vspace = self.new_vspace(site.root(), tables, seen)?;
        vspace.set_labelled(site.label != 0);
        if site.untyped.get().pcids.take() {
            vspace.take_pcid(&self.k.machine, Some(site.untyped));
        }
        self.place(site, head, vspace)
    }

    /// Makes a VSpace whose tables and links fill a piece of memory.
    pub fn new_vspace(self, root: RootId, piece: Cleared, seen: Table<AtomicU64>) -> Option<VSpace> {
        VSpace::new(root, &self.k.machine, self.pin(), piece, seen)
    }

    fn make_cnode(self, site: &Site<'_, 'k>) -> Option<()> {
        let (head, tail) = site.block()?;
        let table = FilledTable::new(tail.into_table::<Slot>()?)?;
        let cnode = CNode::new(site.root(), table);
        cnode.made_of.set(Some(site.untyped));
        cnode.made.store(made_at(self.k.machine.now()), Relaxed);
        self.place(site, head, cnode)
    }

    fn make_process(self, site: &Site<'_, 'k>) -> Option<()> {
        let (head, tail) = site.block()?;
        let process = Process::make(head, self.pin(), site.root(), tail.into_table::<TaskNumber>()?)?;
        self.k.roots.list(site.root, self.pin(), process);
        self.fill_site(site, process);
        Some(())
    }

    fn make_task(self, site: &Site<'_, 'k>) -> Option<()> {
        self.fill_site(site, Task::make(site.block()?, self.pin(), site.root(), self.id())?);
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
        let piece = site.region.carve(site.layout.size, site.layout.align)?;
        self.place(site, piece, new(site.root()))
    }

    fn make_pool(self, site: &Site<'_, 'k>, size: u64) -> Option<()> {
        let (head, block) = site.block_with_top::<EventPool>()?;
        let size = PoolSize::from_raw(size)?;
        let pool = EventPool::new(site.root(), &self.k.machine, block, size, self.pin())?;
        self.place(site, head, pool)
    }

    fn make_group(self, site: &Site<'_, 'k>, size: u64) -> Option<()> {
        let count = size & 0xffff;
        let (head, mut piece) = site.block()?;
        let mut member_piece = piece.split((count * 8).next_multiple_of(64))?;
        let members = NamedTable::new(member_piece.split(count * 8)?.into_table()?);
        let place_bytes = count * size_of::<Membership>() as u64;
        let mut place_piece = piece.split(place_bytes.next_multiple_of(64))?;
        let places = NamedTable::new(place_piece.split(place_bytes)?.into_table()?);
        let exposures = NamedTable::new(piece.into_table::<Exposure>()?);
        self.place(site, head, Group::new(site.root(), members, exposures, places))
    }

    /// Makes a process the first one, at boot: the machine ends with it.
    pub fn begin_with(self, process: Ref<'k, Process>) {
        self.k.first.set(Some(process));
        let root = self.k.roots.lock(self.cpu, &process.get().header);
        self.k.roots.list(&root, self.pin(), process);
    }

    /// Fills the first slot of a boot object, from which nothing is derived yet.
    pub fn fill_boot<T: Headed>(self, cnode: &CNode, cap: Cap, object: Ref<'k, T>) -> Option<()> {
        let header = object.get().header();
        let slot = cnode.slots.get_but_first(self.pin(), cap.0 as usize)?;
        slot.get().set_meta(0, 0, 0);
        self.k.roots.lock(self.cpu, header).number(header);
        header.add_ref();
        slot.get().word.set(object, Rights::ALL.0);
        Some(())
    }
}
