//! Acts of tasks on memory and capabilities: make, copy, move, map, delete, revoke, reset, start
//! tasks. Their results are not judged; only the invariants must hold, and each act must end.

use abi::devices::FIRST_MSI;
use abi::events::Window;
use abi::{
    Cap, FLAG_NONBLOCK, FLAG_PAGES, Grant, Listening, MAP_POOL, ObjType, Op, PageMode, PageRange, Rights,
    Target,
};
use core::sync::atomic::Ordering::Relaxed;

use super::cast::{AUTHORITY, Cast, GROUP, MACHINE, MEMORY, OTHER, OWN, SELF, SPACE};
use crate::world::machine::DEVICES;
use crate::world::{Regs, Tcb};

/// Slots to play with, and what may be made in them.
pub const FIRST: u32 = 42;
const COUNT: u32 = 12;
const KINDS: [(ObjType, u64); 15] = [
    (ObjType::Notification, 0),
    (ObjType::Reply, 0),
    (ObjType::SchedContext, 0),
    (ObjType::SchedControl, 0),
    (ObjType::IrqHandler, 0),
    (ObjType::Frame, 12),
    (ObjType::Frame, 12 | 3 << 8),
    (ObjType::CNode, 8),
    (ObjType::CNode, 8),
    (ObjType::Untyped, 13),
    (ObjType::Group, 2 | 4 << 16),
    (ObjType::Task, 0),
    (ObjType::Task, 0),
    (ObjType::Process, 2),
    (ObjType::EventPool, 6),
];
pub const PAGES: u64 = 0x6000_0000;
/// Places of pages of pools, the first of which are those of other pages, too.
const PLACES: u8 = 6;
const UTCBS: u64 = 0x7000_0000;
const POOLS: u64 = 0x7800_0000;

fn slot(x: u8) -> Cap {
    Cap(FIRST + u32::from(x) % COUNT)
}

/// A slot of the own CNode.
fn own(x: u8) -> u64 {
    Target::new(OWN, slot(x).0).0
}

fn place(x: u8) -> u64 {
    PAGES + u64::from(x % PLACES) * 4096
}

/// One or two pages.
fn range(b: u8) -> PageRange {
    let mode = PageMode::ALL[usize::from(b / 32 % 3)];
    PageRange::new(mode, place(b), 1 + u64::from(b / 128))
}

impl Cast {
    /// The program that runs on a CPU does something with memory.
    pub fn deed(&mut self, n: usize, what: u8, a: u8, b: u8) {
        if self.world.must_restart(n) {
            self.world.syscall(n);
            return;
        }
        let args = self.pick(n, what, a, b);
        if self.runs_wild(n) {
            self.world.issue(n, args);
            return;
        }
        let Some(me) = self.index_of(n) else { return };
        let task = self.tasks[me];
        if self.model.lives(task) && self.model.is_idle(task) {
            self.model.makes(task, args);
            self.world.issue(n, args);
        }
    }

    /// One of the slots to play with that holds an object of a type (`None`: nothing), in the
    /// CSpace of the process that runs on a CPU.
    fn one_with(&self, n: usize, x: u8, kind: Option<ObjType>) -> Cap {
        let pin = smp::host_test::pin(n);
        let process = self.world.current(n).and_then(|t| t.get().hot.here(pin).process_if_any(pin));
        let cnode = process.and_then(|p| p.get().cnode.get(pin));
        let holds = |slot: &u32| {
            let slot = cnode.and_then(|c| c.get().slots.get_but_first(pin, *slot as usize));
            slot.is_some_and(|s| ObjType::from_raw(s.get().word.load(pin).object_type()) == kind)
        };
        let found: Vec<u32> = (FIRST..FIRST + COUNT).filter(holds).collect();
        if found.is_empty() { slot(x) } else { Cap(found[usize::from(x) % found.len()]) }
    }

    fn pick(&mut self, n: usize, what: u8, a: u8, b: u8) -> Regs {
        let all = u64::from(Rights::ALL.0);
        let page = PAGES + u64::from(b % 4) * 4096;
        let of = |kind| self.one_with(n, a, Some(kind));
        let free = self.one_with(n, b, None);
        let free_place = Target::new(OWN, free.0).0;
        let inside = Target::new(self.one_with(n, b, Some(ObjType::CNode)), 1 + u32::from(b / 16) % 7).0;
        match what {
            0..3 => {
                let (kind, size) = KINDS[usize::from(b) % KINDS.len()];
                let from = if a % 8 == 7 { of(ObjType::Untyped) } else { MEMORY };
                Regs::op(
                    Op::Retype,
                    &[Target::new(from, kind as u32).0, size, free_place, 1 + u64::from(b / 200)],
                )
            }
            3 => Regs::op(Op::CapCopy, &[slot(a).arg(), free_place, all, 0]),
            4 => Regs::op(Op::CapCopy, &[slot(a).arg(), inside, all, 0]),
            5 => {
                Regs::op(Op::CapMove, &[slot(a).arg(), if b.is_multiple_of(2) { free_place } else { inside }])
            }
            6 => Regs::op(Op::CapDelete, &[if b.is_multiple_of(4) { inside } else { own(a) }]),
            7 => Regs::op(Op::CapRevoke, &[own(a)]),
            8 if b < 100 => Regs::op(
                Op::UntypedReset,
                &[
                    if b.is_multiple_of(2) { MEMORY } else { of(ObjType::Untyped) }.arg(),
                    u64::from(b / 2 % 2),
                    0,
                    MACHINE.arg(),
                ],
            ),
            8..11 if a.is_multiple_of(2) => self.pool(a / 2, b, of(ObjType::Frame)),
            8..11 => {
                let frame = of(ObjType::Frame).arg();
                let (access, first, count) = (u64::from(b / 4 % 3), u64::from(b / 16 % 3), u64::from(b / 64));
                match what {
                    10 if b % 16 == 15 => {
                        Regs::op(Op::Accessed, &[SPACE.arg(), frame, page, 0, first, count])
                    }
                    10 if b % 16 < 6 => Regs::op(Op::Unmap, &[SPACE.arg(), frame, page, 0, first, count]),
                    10 => Regs::op(Op::Protect, &[SPACE.arg(), frame, page, access, first, count]),
                    _ => Regs::op(Op::Map, &[SPACE.arg(), frame, page, access, first, count]),
                }
            }
            11 => {
                let (at, cpu) = (UTCBS + u64::from(a % 8) * 4096, u64::from(b) % self.world.cpus() as u64);
                Regs::op(Op::TaskConfigure, &[AUTHORITY.arg(), of(ObjType::Task).arg(), SELF.arg(), at, cpu])
            }
            12 if b < 8 => {
                let line = [0, 1, u64::from(FIRST_MSI)][usize::from(a % 3)];
                let irq = if b == 0 { 0 } else { of(ObjType::IrqHandler).arg() };
                Regs::op(Op::IrqAllow, &[MACHINE.arg(), irq, line])
            }
            12 if b < 20 => {
                let note = if b < 18 { of(ObjType::Notification).arg() } else { 0 };
                let (irq, cpu) = (of(ObjType::IrqHandler).arg(), u64::from(a % 2));
                Regs::op(Op::IrqBind, &[AUTHORITY.arg(), irq, note, 4, cpu])
            }
            12 if b < 26 => Regs::op(Op::IrqAck, &[of(ObjType::IrqHandler).arg()]),
            12 if b < 48 => {
                let (base, pages) = (DEVICES + u64::from(a % 4) * 4096, 1 + u64::from(a / 4 % 3));
                let args = [MACHINE.arg(), MEMORY.arg(), free_place, base, 12 | pages << 8];
                Regs::op(Op::DeviceFrame, &args)
            }
            12 if b < 72 => Regs::op(Op::FramePin, &[of(ObjType::Frame).arg(), MACHINE.arg()]),
            12 if b < 128 => Regs::op(Op::FrameUnpin, &[of(ObjType::Frame).arg(), MACHINE.arg()]),
            12 if b < 160 => {
                let by = if a.is_multiple_of(2) { AUTHORITY } else { of(ObjType::SchedControl) };
                Regs::op(Op::SchedConfigure, &[by.arg(), of(ObjType::SchedContext).arg(), 5, 1000])
            }
            12 if b < 176 => {
                let to = of(ObjType::SchedControl);
                Regs::op(Op::SchedAllow, &[AUTHORITY.arg(), to.arg(), 5, 0, u64::from(a % 4)])
            }
            12 => Regs::op(
                Op::SchedBind,
                &[of(ObjType::SchedContext).arg(), self.one_with(n, b, Some(ObjType::Task)).arg()],
            ),
            13 if b < 40 => {
                Regs::op(Op::TaskMove, &[AUTHORITY.arg(), of(ObjType::Task).arg(), u64::from(a % 2)])
            }
            13 if b < 128 => Regs::op(Op::TaskResume, &[of(ObjType::Task).arg()]),
            13 => self.with_pool(n, a, b),
            14 => {
                let kind = if b < 128 { ObjType::Task } else { ObjType::Notification };
                let how = if b > 192 { abi::membership::watch(u32::from(a % 61)) } else { 0 };
                Regs::op(Op::Expose, &[Target::new(GROUP, 16 + u32::from(b % 8)).0, of(kind).arg(), how])
            }
            _ => {
                let op = [Op::TaskKill, Op::TaskSuspend, Op::TaskCancel, Op::Withdraw][usize::from(b) % 4];
                let exposure = Target::new(GROUP, 16 + u32::from(a % 8)).0;
                Regs::op(op, &[if op == Op::Withdraw { exposure } else { of(ObjType::Task).arg() }])
            }
        }
    }

    /// Something with pages of pools, the own one and another's.
    fn pool(&self, a: u8, b: u8, frame: Cap) -> Regs {
        let space = |other: u8| if other.is_multiple_of(2) { SPACE } else { OTHER }.arg();
        let (from, to) = (space(b / 8), space(b / 16));
        match a % 8 {
            0 => Regs::op(
                Op::Map,
                &[from, frame.arg(), place(b), MAP_POOL | u64::from(b / 128), u64::from(b / 32 % 3), 1],
            ),
            1 => Regs::op(Op::Unmap, &[from, 0, place(b), 0, 0, 1 + u64::from(b / 128)]),
            2 => {
                Regs::op(Op::Protect, &[from, 0, place(b), u64::from(b / 32 % 2), 0, 1 + u64::from(b / 128)])
            }
            3 => Regs::op(Op::PageCopy, &[from, frame.arg(), place(b), 0, u64::from(b / 32 % 3)]),
            _ => {
                let [first, count] = range(b).words();
                Regs::op(Op::PageTransfer, &[from, to, first, place(a / 8), count])
            }
        }
    }

    /// Something with event pools.
    fn with_pool(&mut self, n: usize, a: u8, b: u8) -> Regs {
        let pool = self.one_with(n, a, Some(ObjType::EventPool));
        match b % 4 {
            0 => {
                let task = self.one_with(n, b, Some(ObjType::Task));
                let at = POOLS + u64::from(a % 4) * (1 << 16);
                Regs::op(Op::PoolBind, &[pool.arg(), SELF.arg(), task.arg(), at, 1 + u64::from(b)])
            }
            1 => {
                self.read_events(n, b);
                Regs::op(Op::PoolRoom, &[pool.arg()])
            }
            _ => {
                let to = Target::new(GROUP, 16 + u32::from(a % 8));
                Regs::message(Op::Send, to, [0; 4]).words(b / 4).flag(FLAG_NONBLOCK)
            }
        }
    }

    /// What a task sends with its next message, and where pages may come to it.
    pub fn lists(&self, task: Tcb, b: u8) {
        let utcb = task.object.get().utcb(task.pin());
        let ranges = [range(b), range(b.rotate_left(4))];
        for (range, words) in ranges.iter().zip(&utcb.ranges) {
            words.iter().zip(range.words()).for_each(|(word, value)| word.store(value, Relaxed));
        }
        utcb.range_count.store(1 + u64::from(b / 128), Relaxed);
    }

    /// Gives capabilities with a message.
    pub fn gives(&self, task: Tcb, b: u8) {
        let utcb = task.object.get().utcb(task.pin());
        let grant = |b: u8| match b % 8 {
            0..3 => Grant::Copy { cap: slot(b / 8), rights: Rights::ALL, badge: 0 },
            7 if b < 32 => Grant::Dispose { cap: slot(b / 8), of: 0 },
            _ => Grant::Move { cap: slot(b / 8) },
        };
        for (n, words) in (0..).zip(&utcb.grants) {
            let grant = grant(b.rotate_left(n));
            words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
        }
        utcb.grant_count.store(1 + u64::from(b % 4), Relaxed);
    }

    /// Some offer slots, full or empty, and some do not.
    pub fn listens(&self, task: Tcb, b: u8) {
        let offer = Listening { next: slot(b), count: u32::from(b / 16 % 5) };
        task.object.get().utcb(task.pin()).listening.store(offer.word(), Relaxed);
    }

    pub fn opens(&self, task: Tcb, b: u8) {
        let [start, bytes] = &task.object.get().utcb(task.pin()).window;
        start.store(place(b), Relaxed);
        bytes.store((1 + u64::from(b / 64)) * 4096, Relaxed);
    }

    /// Makes the program on a CPU read some events of its process's pool, or write an impossible
    /// value, and request a notification for the next event. Then the pool has room for one event
    /// or two.
    pub fn read_events(&mut self, n: usize, b: u8) {
        let pin = smp::host_test::pin(n);
        let process = self.world.current(n).and_then(|t| t.get().hot.here(pin).process_if_any(pin));
        let Some(pool) = process.and_then(|process| process.get().pool.get(pin)) else { return };
        let Some((first, _)) = pool.get().pages().next() else { return };
        let [head, armed, slots, window] = smp::host_test::words(first.at().0, 4) else { return };
        let lie = if b < 16 { u64::from(b) << 40 } else { 0 };
        head.store(pool.get().reserved.position().wrapping_sub(u64::from(50 + b % 14)) ^ lie, Relaxed);
        armed.store(u64::from(b), Relaxed);
        slots.store(Listening { next: slot(b), count: u32::from(b % 7) }.word(), Relaxed);
        window.store(Window { address: place(b), pages: u64::from(b / 64) }.word(), Relaxed);
    }

    /// The program that runs on a CPU reads memory, if it may.
    pub fn touch(&mut self, n: usize, b: u8) {
        let base = if b < 192 { PAGES } else { UTCBS };
        self.world.touch(n, base + u64::from(b % PLACES) * 4096);
    }

    /// A task that nobody judges goes on.
    pub fn wild(&mut self, n: usize, what: u8, a: u8, b: u8) {
        let to = self.target(usize::from(a) % self.tasks.len());
        let args = match what {
            0..4 => Regs::message(Op::Call, to, [0; 4]),
            4 if b < 100 => Regs::message(Op::Broadcast, Target::new(GROUP, 0), [0; 4])
                .words(b % 65)
                .flag(if b.is_multiple_of(2) { FLAG_PAGES } else { 0 }),
            4 => Regs::message(Op::Send, to, [0; 4]).words(b % 65),
            5..8 => Regs::op(Op::Recv, &[]),
            8..10 => Regs::message(Op::Reply, Target(0), [0; 4]),
            10 if b < 128 => return self.world.fault(n, 0),
            10 => Regs::op(Op::Yield, &[]),
            11 => return self.touch(n, b),
            _ => return self.deed(n, a % 16, b, a / 2),
        };
        self.world.issue(n, args);
    }
}
