//! Retype: how objects are carved from the two ends of an Untyped.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use abi::events::PoolSize;
use abi::{Error, ObjType, Rights};

use crate::caps::Found;
use crate::object::{
    CNode, CpuBits, EventPool, Exposure, Frame, Group, IoPort, IrqHandler, Notification, Process, Reply,
    SchedContext, SchedControl, Task, Untyped, VSpace,
};
use crate::{Answer, Args, Id, Kind, Model, Place, Refusal, Result};

/// Most objects that one system call makes.
const RETYPE_MAX: u64 = 256;
const ENTRIES_MAX: u64 = 1 << 16;
const LINE: u64 = 64;
const PAGE: u64 = abi::PAGE_SIZE;
/// A slot, a page table with its links, a task, a task number, a member record, an exposure.
const SLOT: u64 = 32;
const TABLE: u64 = 3 * PAGE;
const TASK: u64 = 2 * PAGE;
const TASK_NUMBER: u64 = 8;
const MEMBER: u64 = 8;
const MEMBERSHIP: u64 = 32;
const EXPOSURE: u64 = 64;
/// Alignment of a process.
const PROCESS_ALIGN: u64 = 256;

impl Untyped {
    pub fn free(&self) -> u64 {
        self.high - self.low
    }

    /// Takes pieces from the top of the memory, each on a cache line, then a block from the bottom.
    /// Returns their addresses, or `None` if they do not all fit.
    fn carve(&mut self, tops: &[u64], size: u64, align: u64) -> Option<(Vec<u64>, u64)> {
        let mut high = self.high;
        let mut at_top = Vec::new();
        for top in tops {
            high = high.checked_sub(*top)? & !(LINE - 1);
            at_top.push(self.base + high);
        }
        let at = (self.base + self.low).checked_next_multiple_of(align)? - self.base;
        let end = at.checked_add(size).filter(|end| *end <= high)?;
        (self.low, self.high) = (end, high);
        Some((at_top, self.base + at))
    }
}

/// Returns the base-2 logarithm of a frame's page size, and the number of pages, by the frame's
/// size.
pub fn pages(size: u64) -> Option<(u8, u64)> {
    let (log2, count) = (size as u8, (size >> 8).max(1));
    let most = match log2 {
        abi::PAGE_LOG2 => u64::from(abi::FRAME_PAGES_MAX),
        abi::LARGE_PAGE_LOG2 => 1,
        _ => return None,
    };
    (count <= most).then_some((log2, count))
}

/// Returns the type to be made.
/// Errors: the position of a bad argument.
fn recipe(raw: u32, size: u64) -> Result<ObjType> {
    let what = u8::try_from(raw).ok().and_then(ObjType::from_raw).ok_or(Refusal::argument(0))?;
    let fits = match what {
        ObjType::Machine => return Err(Refusal::argument(0)),
        ObjType::Untyped => (12..=40).contains(&size),
        ObjType::Frame => pages(size).is_some(),
        ObjType::CNode | ObjType::Process => (1..=ENTRIES_MAX).contains(&size),
        ObjType::VSpace => (1..=4096).contains(&size),
        ObjType::Group => size >> 32 == 0 && size & 0xffff != 0 && size >> 16 != 0,
        ObjType::EventPool => PoolSize::from_raw(size).is_some(),
        ObjType::Task
        | ObjType::SchedContext
        | ObjType::SchedControl
        | ObjType::IrqHandler
        | ObjType::IoPort
        | ObjType::Notification
        | ObjType::Reply => size == 0,
    };
    if fits { Ok(what) } else { Err(Refusal::argument(1)) }
}

impl Model {
    pub fn retype(&mut self, me: Id, args: &Args) -> Result {
        let [_, size, _, count, ..] = args.0;
        let (source, what) = self.look_retype(me, args)?;
        let to = args.target(2);
        let mut places = Vec::new();
        let Place::Slot(table, first) = self.find_slot(me, to, Rights::GRANT)? else {
            return Err(Error::NoCapability.into());
        };
        for i in 0..count {
            // All of one table.
            let number = u32::try_from(u64::from(first) + i).ok();
            let number = number.filter(|number| *number < self.cnode(table).slots);
            let missing = Refusal::new(Error::NoCapability, u64::from(to.index()) + i);
            let place = Place::Slot(table, number.ok_or(missing)?);
            if self.slots.contains_key(&place) {
                return Err(Error::SlotOccupied.into());
            }
            places.push(place);
        }
        self.may_grant(me, places[0], self.label_of_new(me, source.object))?;
        if self.is_dying(source.object) {
            return Err(Error::Dying.into());
        }
        for place in places {
            self.make(me, source.object, what, size, place, source.place)?;
        }
        Ok(Answer::one(self.untyped(source.object).free()))
    }

    /// Checks a Retype: finds the Untyped, and what to make of it.
    pub(crate) fn look_retype(&self, me: Id, args: &Args) -> Result<(Found, ObjType)> {
        let [_, size, _, count, ..] = args.0;
        let source = self.find(me, args.cap(0), ObjType::Untyped, Rights::NONE)?;
        let what = recipe(args.target(0).index(), size)?;
        if count == 0 || count > RETYPE_MAX {
            return Err(Refusal::argument(3));
        }
        Ok((source, what))
    }

    /// Makes one object, with its first capability, which has all rights.
    pub(crate) fn make(
        &mut self,
        me: Id,
        from: Id,
        what: ObjType,
        size: u64,
        place: Place,
        parent: Place,
    ) -> Result<()> {
        let home = self.task(me).home;
        let (tops, bytes, align) = self.bytes_of(what, size);
        let mut left = self.untyped(from).clone();
        let no_memory = Refusal::new(Error::NoMemory, left.free());
        let (tops, block) = left.carve(&tops, bytes, align).ok_or(no_memory)?;
        *self.untyped_mut(from) = left;
        let at = tops.first().copied().unwrap_or(block);
        let object = self.add(at, Some(from), self.fresh(what, size, home, block));
        self.objects[object.0].label = self.label_of_new(me, from);
        self.derive(place, parent, object, Rights::ALL, 0);
        Ok(())
    }

    /// Returns the state of a new object. `block` is the memory that it stands for.
    fn fresh(&self, what: ObjType, size: u64, home: usize, block: u64) -> Kind {
        match what {
            ObjType::Untyped => {
                let bytes = 1 << size;
                Kind::Untyped(Untyped { base: block, size: bytes, low: 0, high: bytes })
            }
            ObjType::Frame => {
                let (log2, pages) = pages(size).expect("a size that was checked");
                Kind::Frame(Frame { base: block, log2, pages, pins: 0, words: Default::default() })
            }
            ObjType::VSpace => Kind::VSpace(VSpace {
                process: None,
                tables: size,
                used: Default::default(),
                pages: Default::default(),
            }),
            ObjType::CNode => Kind::CNode(CNode { slots: size as u32, process: None }),
            ObjType::Process => {
                Kind::Process(Process { tasks: vec![None; size as usize], ..Process::default() })
            }
            ObjType::Group => Kind::Group(Group {
                members: vec![None; size as usize & 0xffff],
                exposures: vec![Exposure::default(); size as usize >> 16],
            }),
            ObjType::Task => {
                let utcb = vec![0; abi::MSG_UTCB_WORDS];
                Kind::Task(Box::new(Task { home, start_on: home, utcb, ..Task::default() }))
            }
            ObjType::SchedContext => {
                let cpus = CpuBits::default();
                Kind::SchedContext(SchedContext {
                    priority: 0,
                    slice: 0,
                    budget: 0,
                    period: 0,
                    account: None,
                    share: 0,
                    cpus,
                    owner: None,
                    left: false,
                })
            }
            ObjType::SchedControl => Kind::SchedControl(SchedControl::default()),
            ObjType::IrqHandler => Kind::IrqHandler(IrqHandler::default()),
            ObjType::IoPort => Kind::IoPort(IoPort::default()),
            ObjType::Notification => {
                Kind::Notification(Notification { home, bits: 0, waiter: None, bound: None })
            }
            ObjType::Reply => Kind::Reply(Reply { home, caller: None, server: None }),
            ObjType::EventPool => Kind::EventPool(EventPool {
                size: PoolSize::from_raw(size).expect("a size that was checked"),
                process: None,
                events: Vec::new(),
                kept: 0,
            }),
            ObjType::Machine => Kind::Machine,
        }
    }

    /// Returns the memory that an object takes: pieces at the top of its Untyped, and a block, with
    /// its alignment, at the bottom. The object is at the first piece, or where the block begins.
    fn bytes_of(&self, what: ObjType, size: u64) -> (Vec<u64>, u64, u64) {
        let Model { sizes, cpus, .. } = self;
        let whole = |bytes: u64| (vec![], bytes.next_multiple_of(LINE), LINE);
        match what {
            ObjType::Untyped => (vec![sizes.untyped], 1 << size, 1 << size),
            ObjType::Frame => {
                let (log2, count) = pages(size).expect("a size that was checked");
                (vec![sizes.frame], count << log2, 1 << log2)
            }
            ObjType::VSpace => (vec![sizes.vspace, *cpus as u64 * 8], (1 + size) * TABLE, PAGE),
            ObjType::CNode => (vec![], sizes.cnode + size * SLOT, LINE),
            ObjType::Process => (vec![], sizes.process + size * TASK_NUMBER, PROCESS_ALIGN),
            ObjType::Group => {
                let members = ((size & 0xffff) * MEMBER).next_multiple_of(LINE);
                let memberships = ((size & 0xffff) * MEMBERSHIP).next_multiple_of(LINE);
                (vec![], sizes.group + members + memberships + (size >> 16) * EXPOSURE, LINE)
            }
            ObjType::Task => (vec![], TASK, PAGE),
            ObjType::SchedContext => whole(sizes.sched_context),
            ObjType::SchedControl => whole(sizes.sched_control),
            ObjType::IrqHandler => whole(sizes.irq_handler),
            ObjType::IoPort => whole(sizes.io_port),
            ObjType::Notification => whole(sizes.notification),
            ObjType::Reply => whole(sizes.reply),
            ObjType::EventPool => {
                let size = PoolSize::from_raw(size).expect("a size that was checked");
                (vec![sizes.event_pool], size.pages() * PAGE, PAGE)
            }
            ObjType::Machine => (vec![], 0, LINE),
        }
    }

    /// Returns whether an object is in the memory of an Untyped, directly or in that of an Untyped
    /// made of it.
    pub fn is_inside(&self, object: Id, untyped: Id) -> bool {
        let made_of = |id: &Id| self.objects[id.0].made_of;
        core::iter::successors(made_of(&object), made_of).any(|of| of == untyped)
    }
}
