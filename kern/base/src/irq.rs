//! IrqHandlers: the interrupts of devices, and the lines that bring them.
//!
//! An IrqHandler has a line of the machine's interrupt controllers, from `IrqAllow` until it ends.
//! While it is *bound*, its slot refers to a Notification, and an entry of a CPU's table leads from
//! the vector of the interrupt to the IrqHandler.
//!
//! # Invariants
//! - The line is set once. [`Lines`] has the IrqHandler of each line. A line that was given back is
//!   given away again after a grace period: a CPU may still use it for the last IrqHandler.
//! - Who claims the slot of an IrqHandler that does not end may change its route, and nobody else.
//!   The CPU that ends the IrqHandler may, when nobody has the slot any more.
//! - The line is masked while the slot is empty, or from the next interrupt on; unless it is that
//!   of a message, which nobody can mask.
//!
//! # Memory ordering
//! A CPU that gives an IrqHandler a line, or claims its slot, looks afterwards whether it is dying.
//! The CPU that ends it marks it, and looks at both afterwards. One of the two sees the other.

use abi::ObjType;
use abi::devices::{CPU_LINES, LINES};
use smp::cpu::{CpuId, Pin};
use smp::door::{AtomicLink, Ref};
use smp::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use smp::sync::{AtomicU32, AtomicU64};

use crate::header::{Header, RootId};
use crate::slot::Slot;

/// Lines that the kernel can manage: of all interrupt controllers together, and of messages.
pub const LINES_MAX: usize = LINES as usize;

/// The interrupt of a device.
#[repr(C, align(64))]
pub struct IrqHandler {
    pub header: Header,
    /// The number of the line + 1, and above that how it signals ([`abi::devices::line`]); 0: none.
    line: AtomicU32,
    /// Its CPU + 1, and above that its place in the CPU's table; 0: none.
    route: AtomicU32,
    /// The bits that an interrupt raises.
    bits: AtomicU64,
    /// Before this time no next interrupt may come.
    rests_until: AtomicU64,
    /// The rank of the task that has bound it: that of the mail to a driver on another CPU.
    rank: AtomicU32,
    /// A capability of the Notification.
    pub target: Slot,
}

/// A line, and how it signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    pub number: u32,
    /// Bits of [`abi::devices::line`].
    pub how: u8,
}

/// Where a line's interrupts arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    pub cpu: CpuId,
    /// The place in the CPU's table.
    pub place: u8,
}

/// Above the number of a line, or of a CPU.
const SHIFT: u32 = 24;

impl Line {
    fn raw(self) -> u32 {
        u32::from(self.how) << SHIFT | (self.number + 1)
    }

    fn from_raw(raw: u32) -> Option<Line> {
        let number = (raw & ((1 << SHIFT) - 1)).checked_sub(1)?;
        Some(Line { number, how: (raw >> SHIFT) as u8 })
    }
}

impl IrqHandler {
    /// Makes an IrqHandler without a line.
    pub fn new(root: RootId) -> IrqHandler {
        IrqHandler {
            header: Header::new(ObjType::IrqHandler, root),
            line: AtomicU32::new(0),
            route: AtomicU32::new(0),
            bits: AtomicU64::new(0),
            rests_until: AtomicU64::new(0),
            rank: AtomicU32::new(0),
            target: Slot::new(),
        }
    }

    /// Returns its line, if it has one.
    pub fn line(&self) -> Option<Line> {
        Line::from_raw(self.line.load(Acquire))
    }

    /// Returns where its interrupts arrive.
    pub fn route(&self) -> Option<Route> {
        let raw = self.route.load(Acquire);
        let cpu = CpuId::new((raw & ((1 << SHIFT) - 1)).checked_sub(1)? as usize)?;
        Some(Route { cpu, place: (raw >> SHIFT) as u8 })
    }

    /// Changes where its interrupts arrive.
    pub fn set_route(&self, route: Option<Route>) {
        let raw = route.map_or(0, |to| u32::from(to.place) << SHIFT | (to.cpu.raw() + 1));
        self.route.store(raw, Release);
    }

    /// Returns the rank of the task that has bound it.
    pub fn rank(&self) -> u32 {
        self.rank.load(Relaxed)
    }

    /// Returns the bits that an interrupt raises.
    pub fn bits(&self) -> u64 {
        self.bits.load(Relaxed)
    }

    /// Sets the bits that an interrupt raises, and the rank of the task that says so. The slot,
    /// which is filled later, publishes them.
    pub fn set_bits(&self, bits: u64, rank: u32) {
        self.bits.store(bits, Relaxed);
        self.rank.store(rank, Relaxed);
    }

    /// Returns the time before which no next interrupt may come.
    pub fn rests_until(&self) -> u64 {
        self.rests_until.load(Relaxed)
    }

    /// Lets the CPU rest from this interrupt until a time.
    pub fn rest_until(&self, at: u64) {
        self.rests_until.store(at, Relaxed);
    }
}

/// The IrqHandlers of all lines.
pub struct Lines([Owner; LINES_MAX]);

/// Whose a line is.
struct Owner {
    irq: AtomicLink<IrqHandler>,
    /// The epoch in which it was given back last. A CPU that has found its IrqHandler before may
    /// still mask the line in this entry.
    free_since: AtomicU64,
}

impl Default for Lines {
    fn default() -> Self {
        Lines::new()
    }
}

impl Lines {
    /// Makes a table of lines that nobody has.
    pub const fn new() -> Lines {
        Lines([const { Owner { irq: AtomicLink::null(), free_since: AtomicU64::new(0) } }; LINES_MAX])
    }

    /// Returns the epoch in which a line was given back last; 0: it never was.
    pub fn free_since(&self, line: u32) -> u64 {
        self.0.get(line as usize).map_or(0, |owner| owner.free_since.load(Acquire))
    }

    /// Gives a line to an IrqHandler. An IrqHandler names no line before it is its.
    pub fn give(&self, line: Line, to: Ref<'_, IrqHandler>) -> Result<(), NoLine> {
        let owner = self.0.get(line.number as usize).ok_or(NoLine::Missing)?;
        if to.get().line().is_some() {
            return Err(NoLine::HasOne);
        }
        if !owner.irq.claim(to) {
            return Err(NoLine::Taken);
        }
        let before = to.get().line.compare_exchange(0, line.raw(), AcqRel, Acquire);
        before.map(drop).map_err(|_| {
            let _ = owner.irq.cut(to.addr());
            NoLine::HasOne
        })
    }

    /// Returns the IrqHandler that has a line.
    pub fn owner<'k>(&self, line: u32, pin: Pin<'k>) -> Option<Ref<'k, IrqHandler>> {
        self.0.get(line as usize)?.irq.get(pin)
    }

    /// Returns the lines that IrqHandlers have. For surveys.
    pub fn taken<'k>(&self, pin: Pin<'k>) -> impl Iterator<Item = (u32, Ref<'k, IrqHandler>)> {
        (0..).zip(&self.0).filter_map(move |(number, owner)| Some((number, owner.irq.get(pin)?)))
    }

    /// Takes the line back, in this epoch, from an IrqHandler that ends.
    pub fn take_back(&self, from: Ref<'_, IrqHandler>, epoch: u64) {
        if let Some(owner) = from.get().line().and_then(|line| self.0.get(line.number as usize)) {
            owner.free_since.store(epoch, Release);
            let _ = owner.irq.cut(from.addr());
        }
    }
}

/// Why an IrqHandler gets no line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoLine {
    /// There is no such line.
    Missing,
    /// The IrqHandler has a line.
    HasOne,
    /// Another IrqHandler has it.
    Taken,
}

/// The interrupts that arrive at a CPU, by their vectors.
pub struct CpuLines([AtomicLink<IrqHandler>; CPU_LINES]);

impl Default for CpuLines {
    fn default() -> Self {
        CpuLines([const { AtomicLink::null() }; CPU_LINES])
    }
}

impl CpuLines {
    /// Returns the link of a place.
    pub fn at(&self, place: usize) -> Option<&AtomicLink<IrqHandler>> {
        self.0.get(place)
    }

    /// Returns the places that IrqHandlers have. For surveys.
    pub fn taken<'k>(&self, pin: Pin<'k>) -> impl Iterator<Item = (u32, Ref<'k, IrqHandler>)> {
        (0..).zip(&self.0).filter_map(move |(place, link)| Some((place, link.get(pin)?)))
    }

    /// Takes a free place for an IrqHandler. Returns `None` if there is none.
    pub fn take(&self, to: Ref<'_, IrqHandler>) -> Option<u8> {
        self.0.iter().position(|place| place.claim(to)).map(|place| place as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_routes_are_read_back() {
        let irq = IrqHandler::new(RootId(0));
        assert_eq!((irq.line(), irq.route()), (None, None));
        for number in [0, 1, 255] {
            let line = Line { number, how: 3 };
            assert_eq!(Line::from_raw(line.raw()), Some(line));
        }
        for (cpu, place) in [(0, 0), (1, 47), (255, 3)] {
            let route = CpuId::new(cpu).map(|cpu| Route { cpu, place });
            irq.set_route(route);
            assert_eq!(irq.route(), route);
        }
        irq.set_route(None);
        assert_eq!(irq.route(), None);
    }
}
