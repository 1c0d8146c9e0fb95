//! The operations: each operation of the kernel, with arguments that name members of the [`Cast`].

use abi::{Cap, FLAG_CAPS, FLAG_PAGES, Grant, MAP_POOL, MEMBER_RIGHTS, ObjType, Op};
use abi::{PageMode, PageRange, Rights, Target};

use crate::cast::{
    AUDIT_LOG2, BELL, BELL_SLOT, COW, Cast, DEVICE, EVENT_WINDOW, FREE, GROUP, HELPER, LARGE, LARGE_PAGE,
    LARGE_WINDOW, LINK, MAPPED, NOWHERE, OFFERED, OFFERED_FOR_EVENTS, PAGE, PARCELS, POOLED, PORT,
    REPLY_SLOT, Role, SERVER, SHARED, VIEWS, WATCHER, WINDOW, call, grants, lists,
};
use crate::states::State;
use crate::world::make::at;
use crate::world::{Regs, Tcb};
use crate::{members, processes, waits};

/// The actor of an operation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum By {
    /// A task of process 1, on whatever CPU.
    Hand,
    Client,
    Other,
    Server,
    /// The last task of a chain of calls.
    Last,
}

/// What happens.
#[derive(Clone, Copy)]
pub enum What {
    /// A system call; the number tells apart those of one case, which have empty slots of their
    /// own.
    Call(fn(&Cast, usize) -> Regs),
    /// Two system calls, one behind the other; the first is over immediately. Only ever beside
    /// another operation.
    Calls([fn(&Cast, usize) -> Regs; 2]),
    /// The task that runs reads an address at which nothing is mapped.
    Fault(u64),
    /// The timer of that CPU ticks, later than every deadline.
    Timer,
    /// The CPU takes the mail that it has.
    Mail,
}

#[derive(Clone, Copy)]
pub struct Deed {
    pub name: &'static str,
    pub by: By,
    pub what: What,
    /// What it has to do with.
    pub of: &'static [Role],
}

pub const fn hand(name: &'static str, of: &'static [Role], what: fn(&Cast, usize) -> Regs) -> Deed {
    Deed { name, by: By::Hand, what: What::Call(what), of }
}

pub const fn by(who: By, name: &'static str, of: &'static [Role], what: fn(&Cast, usize) -> Regs) -> Deed {
    Deed { name, by: who, what: What::Call(what), of }
}

/// All of them.
pub const BYS: [By; 5] = [By::Hand, By::Client, By::Other, By::Server, By::Last];

impl By {
    /// The task that does it, where it is one of the cast.
    pub fn task(self, cast: &Cast) -> Option<Tcb> {
        match self {
            By::Hand => None,
            By::Client => Some(cast.tasks.client),
            By::Other => Some(cast.tasks.other),
            By::Server => Some(cast.tasks.server),
            By::Last => Some(cast.tasks.last),
        }
    }

    /// The CPU of that task.
    pub const fn cpu(self) -> Option<usize> {
        match self {
            By::Hand => None,
            By::Client | By::Last => Some(0),
            By::Other | By::Server => Some(1),
        }
    }

    /// Whether that task can make a system call when a case begins so.
    pub fn can(self, state: State) -> bool {
        match self {
            By::Hand => true,
            By::Client => matches!(state, State::Quiet | State::Large),
            // Elsewhere the server runs.
            By::Other => {
                matches!(state, State::Quiet | State::Kept | State::Deep | State::Large | State::Waiting)
            }
            By::Server => matches!(state, State::Served | State::Faulted | State::Wide) || state.has_queue(),
            By::Last => state == State::Deep,
        }
    }
}

/// What a case that begins with a chain of calls is about.
const OF_CHAINS: &[Role] = &[
    Role::Client,
    Role::ClientTime,
    Role::ClientProcess,
    Role::Link,
    Role::Last,
    Role::ServerProcess,
    Role::Memory,
    Role::FirstHand,
];

/// What a case that begins with a large page is about.
const OF_LARGE: &[Role] = &[
    Role::Large,
    Role::ClientSpace,
    Role::ServerSpace,
    Role::ClientProcess,
    Role::ServerProcess,
    Role::Client,
    Role::Other,
    Role::Server,
    Role::Memory,
    Role::FirstHand,
];

/// What a case is about that begins where tasks wait.
const OF_WAITING: &[Role] = &[
    Role::Poster,
    Role::Hum,
    Role::Bell,
    Role::Client,
    Role::Server,
    Role::Helper,
    Role::Pool,
    Role::Group,
    Role::ClientProcess,
    Role::ServerProcess,
    Role::Memory,
    Role::FirstHand,
];

/// What a case is about that begins with a fault.
const OF_FAULTS: &[Role] = &[
    Role::Fault,
    Role::Client,
    Role::Server,
    Role::ClientProcess,
    Role::ServerProcess,
    Role::ClientTime,
    Role::Reply,
    Role::Group,
    Role::Memory,
    Role::FirstHand,
];

impl Deed {
    /// Whether it can be done, and is worth it, when a case begins so.
    pub fn can(&self, state: State) -> bool {
        let fits = match state {
            State::Deep => self.names(OF_CHAINS),
            State::Large | State::LargeSent => self.names(OF_LARGE),
            State::Waiting => self.names(OF_WAITING) && !self.names(&[Role::Fault]),
            State::Faulted => self.names(OF_FAULTS) && !self.names(&[Role::Poster]),
            State::Wide => !self.names(&[Role::Link, Role::Last, Role::Large, Role::Fault]),
            _ => !self.names(&[Role::Link, Role::Last, Role::Large, Role::Poster, Role::Fault]),
        };
        fits && self.by.can(state)
    }

    /// Whether it has to do with one of these.
    pub fn names(&self, roles: &[Role]) -> bool {
        self.of.iter().any(|role| roles.contains(role))
    }
}

const ALL: u64 = Rights::ALL.0 as u64;

/// What no operation here does, and why.
const LEFT_OUT: &[(Op, &str)] = &[
    (Op::Null, "it does nothing"),
    (Op::WhoAmI, "about the caller alone"),
    (Op::SetBases, "about the caller alone"),
    (Op::MachineLog, "about no object"),
    (Op::MachineExit, "about no object"),
    (Op::MachineCounter, "about no object"),
    (Op::MachineDump, "in test builds"),
    (Op::MachineTrace, "in test builds"),
    (Op::MachineAttempt, "in test builds"),
];

/// Operations that are refused in all states, unless another has gone before.
pub const REFUSED: &[&str] = &[
    "CapCopy child",
    "CapDelete pinned",
    "CapDelete time of idle",
    "Map another frame where mapped was",
    "Map large by its capability",
    "Map pooled by its capability",
    "Map shared by its capability",
    "Map spare where large was",
    "Protect shared",
    "FramePin pooled",
    "DeviceFrame again",
    "IrqAllow again",
    "IrqAllow another the same line",
    "IrqBind to bell",
    "PortAllow again",
    "TaskConfigure bare where something is",
    "Expose bare",
    "YieldTo helper",
];

/// Operations that are also refused, if limits are small.
pub const REFUSED_SMALL: &[&str] = &["share views of one page", "copy views of one page on write"];

pub fn op(op: Op, args: &[u64]) -> Regs {
    Regs::op(op, args)
}

/// Pages from one pool to another: where limits are small, more than a CPU forgets one by one.
fn transfer(c: &Cast, mode: PageMode, from: u64, target: u64) -> Regs {
    let [words, count] = PageRange::new(mode, from, 3).words();
    op(Op::PageTransfer, &[c.client.vspace.arg(), c.server.vspace.arg(), words, target, count])
}

/// Pages of the second space, which are views of one page.
fn views(c: &Cast, mode: PageMode) -> Regs {
    let [words, count] = PageRange::new(mode, VIEWS, 3).words();
    op(Op::PageTransfer, &[c.space.arg(), c.space.arg(), words, VIEWS + 16 * PAGE, count])
}

/// A small object of a type, made in an empty slot.
fn make(c: &Cast, n: usize, from: Cap, what: ObjType, size: u64) -> Regs {
    op(Op::Retype, &[Target::new(from, what as u32).0, size, at(c.empty[n]), 1])
}

/// Names the slot that the operation after this one fills, if it fills one.
fn of_next(c: &Cast, n: usize, what: Op) -> Regs {
    op(what, &[at(c.empty[(n + 1) % c.empty.len()])])
}

fn copy(from: Cap, to: u64) -> Regs {
    op(Op::CapCopy, &[from.arg(), to, ALL, 0])
}

/// Pages go with the next call of a task.
fn with_pages(task: &Tcb, mode: PageMode, from: u64) -> Regs {
    lists(task, &[PageRange::new(mode, from, 2)]);
    call().flag(FLAG_PAGES)
}

pub fn send() -> Regs {
    Regs::message(Op::Send, Target::new(GROUP, HELPER), [5; 4])
}

/// A copy of the bell's capability and a capability that nobody else has go with a message of the
/// client's process.
fn with_caps(task: &Tcb, parcel: Cap, message: Regs) -> Regs {
    let bell = Grant::Copy { cap: BELL_SLOT, rights: Rights::ALL, badge: 0 };
    grants(task, &[bell, Grant::Move { cap: parcel }]);
    message.flag(FLAG_CAPS)
}

/// Deletes, revokes, moves and copies of a capability.
macro_rules! caps {
    ($($role:ident $cap:ident),*) => {
        &[$(
            hand(concat!("CapDelete ", stringify!($cap)), &[Role::$role], |c, _| op(Op::CapDelete, &[at(c.$cap)])),
            hand(concat!("CapRevoke ", stringify!($cap)), &[Role::$role], |c, _| op(Op::CapRevoke, &[at(c.$cap)])),
            hand(concat!("CapMove ", stringify!($cap)), &[Role::$role], |c, n| op(Op::CapMove, &[c.$cap.arg(), at(c.empty[n])])),
            hand(concat!("CapCopy ", stringify!($cap)), &[Role::$role], |c, n| copy(c.$cap, at(c.empty[n]))),
        )*]
    };
}

/// Names capabilities of parts of processes.
macro_rules! parts {
    ($($role:ident $process:ident $part:ident),*) => {
        &[$(
            hand(concat!("CapDelete ", stringify!($process), " ", stringify!($part)), &[Role::$role],
                |c, _| op(Op::CapDelete, &[at(c.$process.$part)])),
            hand(concat!("CapCopy ", stringify!($process), " ", stringify!($part)), &[Role::$role],
                |c, n| copy(c.$process.$part, at(c.empty[n]))),
        )*]
    };
}

/// What is done to a task.
macro_rules! tasks {
    ($($role:ident $task:ident),*) => {
        &[$(
            hand(concat!("TaskKill ", stringify!($task)), &[Role::$role], |c, _| op(Op::TaskKill, &[c.tasks.$task.cap.arg()])),
            hand(concat!("TaskSuspend ", stringify!($task)), &[Role::$role], |c, _| op(Op::TaskSuspend, &[c.tasks.$task.cap.arg()])),
            hand(concat!("TaskResume ", stringify!($task)), &[Role::$role], |c, _| op(Op::TaskResume, &[c.tasks.$task.cap.arg()])),
            hand(concat!("TaskCancel ", stringify!($task)), &[Role::$role], |c, _| op(Op::TaskCancel, &[c.tasks.$task.cap.arg()])),
            hand(concat!("CapDelete task ", stringify!($task)), &[Role::$role], |c, _| op(Op::CapDelete, &[at(c.tasks.$task.cap)])),
            hand(concat!("CapDelete time of ", stringify!($task)), &[Role::$role], |c, _| op(Op::CapDelete, &[at(c.tasks.$task.sc)])),
        )*]
    };
}

const CAPS: &[Deed] = caps!(
    Child child, Group group, Mapped mapped, Pooled pooled, Shared shared, Spare spare, Large large, Device device, Irq irq, Ports ports, Bound bound,
    Bell bell, Hum hum, Branch branch, Time time, Reply reply, Pool pool, OtherPool other_pool, Table table, Bare bare, Stem stem, Cow cow, Pinned pinned
);

const PARTS: &[Deed] = parts!(
    ClientProcess client process, ClientTable client cnode, ClientSpace client vspace,
    ServerProcess server process, ServerTable server cnode, ServerSpace server vspace
);

const TASKS: &[Deed] = tasks!(
    Client client, Other other, Server server, Helper helper, Fresh fresh, Idle idle, Link link, Last last, Poster poster
);

const MEMORY: &[Deed] = &[
    hand("UntypedReset memory", &[Role::Memory], |c, _| op(Op::UntypedReset, &[c.memory.arg(), 0])),
    hand("CapRevoke memory", &[Role::Memory], |c, _| op(Op::CapRevoke, &[at(c.memory)])),
    hand("CapDelete memory", &[Role::Memory], |c, _| op(Op::CapDelete, &[at(c.memory)])),
    hand("CapMove memory", &[Role::Memory], |c, n| op(Op::CapMove, &[c.memory.arg(), at(c.empty[n])])),
    // It makes all CPUs forget everything, and so has to do with spaces.
    hand("UntypedReset child", &[Role::Child, Role::Memory, Role::ClientSpace, Role::ServerSpace], |c, _| {
        op(Op::UntypedReset, &[c.child.arg(), 0])
    }),
    hand("CapDelete empty", &[Role::Memory, Role::Bell, Role::Parcel], |c, n| of_next(c, n, Op::CapDelete)),
    hand("CapRevoke empty", &[Role::Memory, Role::Bell, Role::Parcel], |c, n| of_next(c, n, Op::CapRevoke)),
    hand("Retype Notification", &[Role::Memory], |c, n| make(c, n, c.memory, ObjType::Notification, 0)),
    hand("Retype Frame", &[Role::Memory], |c, n| make(c, n, c.memory, ObjType::Frame, 12 | 2 << 8)),
    hand("Retype Untyped", &[Role::Memory], |c, n| make(c, n, c.memory, ObjType::Untyped, 13)),
    hand("Retype VSpace", &[Role::Memory], |c, n| make(c, n, c.memory, ObjType::VSpace, 2)),
    hand("Retype in child", &[Role::Child], |c, n| make(c, n, c.child, ObjType::Frame, 12)),
    hand("Retype into table", &[Role::Memory, Role::Table], |c, _| {
        op(
            Op::Retype,
            &[Target::new(c.memory, ObjType::SchedContext as u32).0, 0, Target::new(c.table, 4).0, 2],
        )
    }),
    Deed {
        name: "make in child and map into pool",
        by: By::Hand,
        what: What::Calls([
            |c, n| make(c, n, c.child, ObjType::Frame, 12),
            |c, n| op(Op::Map, &[c.client.vspace.arg(), c.empty[n].arg(), FREE, MAP_POOL | 1]),
        ]),
        of: &[Role::Child, Role::ClientSpace],
    },
    hand("CapCopy into table", &[Role::Bell, Role::Table], |c, n| {
        copy(c.bell, Target::new(c.table, 5 + n as u32).0)
    }),
    hand("CapDelete copy", &[Role::Bell], |c, _| op(Op::CapDelete, &[at(c.copies[0])])),
    hand("CapRevoke of copy", &[Role::Mapped], |c, _| op(Op::CapRevoke, &[at(c.copies[1])])),
    hand("CapDelete in table", &[Role::Bell, Role::Table], |c, _| {
        op(Op::CapDelete, &[Target::new(c.table, 2).0])
    }),
    hand("CapInspect in table", &[Role::Bell, Role::Table], |c, _| {
        op(Op::CapInspect, &[Target::new(c.table, 2).0])
    }),
    hand("CapList table", &[Role::Table], |c, _| op(Op::CapList, &[c.table.arg()])),
    hand("CapDelete reply of server", &[Role::Reply, Role::ServerTable], |c, _| {
        op(Op::CapDelete, &[Target::new(c.server.cnode, REPLY_SLOT.0).0])
    }),
    hand("CapDelete bell of client", &[Role::Bell, Role::ClientTable], |c, _| {
        op(Op::CapDelete, &[Target::new(c.client.cnode, BELL_SLOT.0).0])
    }),
    hand("CapDelete parcel", &[Role::Parcel, Role::ClientTable], |c, _| {
        op(Op::CapDelete, &[Target::new(c.client.cnode, PARCELS[0].0).0])
    }),
    hand("CapMove parcel away", &[Role::Parcel, Role::ClientTable], |c, n| {
        op(Op::CapMove, &[Target::new(c.client.cnode, PARCELS[0].0).0, at(c.empty[n])])
    }),
    hand("CapCopy into offered slot", &[Role::Time, Role::ServerTable, Role::Server], |c, _| {
        copy(c.time, Target::new(c.server.cnode, OFFERED.next.0).0)
    }),
    hand("CapCopy into slot for events", &[Role::Time, Role::ServerTable, Role::Pool], |c, _| {
        copy(c.time, Target::new(c.server.cnode, OFFERED_FOR_EVENTS.next.0).0)
    }),
    hand("AuditStart in child", &[Role::Child, Role::Memory], |c, _| {
        op(Op::AuditStart, &[abi::INIT_MACHINE.arg(), c.child.arg(), AUDIT_LOG2])
    }),
    hand("AuditRead", &[Role::Child, Role::Memory], |_, _| {
        op(Op::AuditRead, &[Target::new(abi::INIT_MACHINE, 0).0, 0])
    }),
];

const PAGES: &[Deed] = &[
    hand("Map spare", &[Role::Spare, Role::ClientSpace], |c, _| {
        op(Op::Map, &[c.client.vspace.arg(), c.spare.arg(), FREE, 1])
    }),
    hand("Map spare to execute", &[Role::Spare, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.spare.arg(), FREE, 2])
    }),
    hand("Map spare into pool", &[Role::Spare, Role::ClientSpace], |c, _| {
        op(Op::Map, &[c.client.vspace.arg(), c.spare.arg(), FREE, MAP_POOL | 1])
    }),
    hand("Map spare into other pool", &[Role::Spare, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.spare.arg(), WINDOW, MAP_POOL | 1])
    }),
    hand("Map mapped elsewhere", &[Role::Mapped, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.mapped.arg(), FREE, 1])
    }),
    hand("Map pooled by its capability", &[Role::Pooled, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.space.arg(), c.pooled.arg(), FREE, 1])
    }),
    hand("Map shared by its capability", &[Role::Shared], |c, _| {
        op(Op::Map, &[c.space.arg(), c.shared.arg(), FREE, 1])
    }),
    hand("Map another frame where mapped was", &[Role::Spare, Role::ClientSpace], |c, _| {
        op(Op::Map, &[c.client.vspace.arg(), c.spare.arg(), MAPPED, 1])
    }),
    hand("Unmap mapped", &[Role::Mapped, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), c.mapped.arg(), MAPPED, 0])
    }),
    hand("Protect mapped", &[Role::Mapped, Role::ClientSpace], |c, _| {
        op(Op::Protect, &[c.client.vspace.arg(), c.mapped.arg(), MAPPED, 2])
    }),
    hand("Accessed mapped", &[Role::Mapped, Role::ClientSpace], |c, _| {
        op(Op::Accessed, &[c.client.vspace.arg(), c.mapped.arg(), MAPPED, 0, 0, 2])
    }),
    hand("Unmap pooled", &[Role::Pooled, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), 0, POOLED, 0, 0, 3])
    }),
    hand("Protect pooled", &[Role::Pooled, Role::ClientSpace], |c, _| {
        op(Op::Protect, &[c.client.vspace.arg(), 0, POOLED, 0, 0, 2])
    }),
    hand("Unmap shared of client", &[Role::Shared, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), 0, SHARED, 0, 0, 3])
    }),
    hand("Unmap shared of server", &[Role::Shared, Role::ServerSpace], |c, _| {
        op(Op::Unmap, &[c.server.vspace.arg(), 0, SHARED, 0, 0, 3])
    }),
    hand("Protect shared", &[Role::Shared, Role::ClientSpace], |c, _| {
        op(Op::Protect, &[c.client.vspace.arg(), 0, SHARED, 1, 0, 1])
    }),
    hand("move pooled", &[Role::Pooled, Role::ClientSpace, Role::ServerSpace], |c, _| {
        transfer(c, PageMode::Move, POOLED, FREE)
    }),
    hand("move pooled to window", &[Role::Pooled, Role::ClientSpace, Role::ServerSpace], |c, _| {
        transfer(c, PageMode::Move, POOLED, WINDOW)
    }),
    hand("share pooled", &[Role::Pooled, Role::ClientSpace, Role::ServerSpace], |c, _| {
        transfer(c, PageMode::Share, POOLED, FREE)
    }),
    hand("copy pooled on write", &[Role::Pooled, Role::ClientSpace, Role::ServerSpace], |c, _| {
        transfer(c, PageMode::Copy, POOLED, FREE)
    }),
    hand("share shared again", &[Role::Shared, Role::ClientSpace, Role::ServerSpace], |c, _| {
        transfer(c, PageMode::Share, SHARED, FREE + 4 * PAGE)
    }),
    hand("Unmap device", &[Role::Device, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), c.device.arg(), DEVICE + PAGE, 0, 1, 2])
    }),
    hand("Map device elsewhere", &[Role::Device, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.device.arg(), FREE, 1])
    }),
    hand("IrqAllow again", &[Role::Irq], |c, _| op(Op::IrqAllow, &c.line_args(c.irq))),
    hand("IrqAllow another the same line", &[Role::Irq, Role::OtherIrq], |c, _| {
        op(Op::IrqAllow, &c.line_args(c.other_irq))
    }),
    hand("IrqBind to nothing", &[Role::Irq], |c, _| op(Op::IrqBind, &c.bind_args(Cap(0), 0))),
    hand("IrqBind to bell", &[Role::Irq, Role::Bell], |c, _| op(Op::IrqBind, &c.bind_args(c.bell, 1))),
    hand("IrqAck", &[Role::Irq], |c, _| op(Op::IrqAck, &[c.irq.arg()])),
    hand("PortAllow again", &[Role::Ports], |c, _| op(Op::PortAllow, &c.port_args())),
    hand("PortRead", &[Role::Ports], |c, _| op(Op::PortRead, &[c.ports.arg(), PORT, 1])),
    hand("PortWrite", &[Role::Ports], |c, _| op(Op::PortWrite, &[c.ports.arg(), PORT, 1, 0])),
    hand("DeviceFrame again", &[Role::Device, Role::Memory], |c, n| {
        op(Op::DeviceFrame, &c.device_args(c.empty[n]))
    }),
    hand("share views of one page", &[Role::Shared, Role::Space], |c, _| views(c, PageMode::Share)),
    hand("copy views of one page on write", &[Role::Shared, Role::Space], |c, _| views(c, PageMode::Copy)),
    hand("Unmap views of one page", &[Role::Shared, Role::Space], |c, _| {
        op(Op::Unmap, &[c.space.arg(), 0, VIEWS, 0, 0, 3])
    }),
    hand("CapDelete other space", &[Role::Space], |c, _| op(Op::CapDelete, &[at(c.space)])),
    hand("Map large by its capability", &[Role::Large, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.large.arg(), LARGE, 0])
    }),
    hand("Map spare where large was", &[Role::Large, Role::ClientSpace, Role::Spare], |c, _| {
        op(Op::Map, &[c.client.vspace.arg(), c.spare.arg(), LARGE + PAGE, 1])
    }),
    hand("Map spare where large goes", &[Role::Large, Role::ServerSpace, Role::Spare], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.spare.arg(), LARGE_WINDOW + PAGE, 1])
    }),
    hand("Unmap large", &[Role::Large, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), 0, LARGE, 0, 1, 1])
    }),
    hand("Protect large", &[Role::Large, Role::ClientSpace], |c, _| {
        op(Op::Protect, &[c.client.vspace.arg(), 0, LARGE, 0, 1, 1])
    }),
    hand("share large", &[Role::Large, Role::ClientSpace, Role::ServerSpace], |c, _| {
        let [words, count] = PageRange { mode: PageMode::Share, ..LARGE_PAGE }.words();
        op(Op::PageTransfer, &[c.client.vspace.arg(), c.server.vspace.arg(), words, LARGE, count])
    }),
    hand("FramePin spare", &[Role::Spare], |c, _| {
        op(Op::FramePin, &[c.spare.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("FramePin mapped", &[Role::Mapped], |c, _| {
        op(Op::FramePin, &[c.mapped.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("FramePin device", &[Role::Device], |c, _| {
        op(Op::FramePin, &[c.device.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("FramePin pooled", &[Role::Pooled], |c, _| {
        op(Op::FramePin, &[c.pooled.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("FramePin pinned", &[Role::Pinned], |c, _| {
        op(Op::FramePin, &[c.pinned.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("FrameUnpin pinned", &[Role::Pinned], |c, _| {
        op(Op::FrameUnpin, &[c.pinned.arg(), abi::INIT_MACHINE.arg()])
    }),
    hand("Map pinned", &[Role::Pinned, Role::ClientSpace], |c, _| {
        op(Op::Map, &[c.client.vspace.arg(), c.pinned.arg(), FREE, 1])
    }),
    hand("PageCopy for client", &[Role::Cow, Role::ClientSpace, Role::Spare], |c, _| {
        op(Op::PageCopy, &[c.client.vspace.arg(), c.spare.arg(), COW, 0, 0])
    }),
    hand("PageCopy for server", &[Role::Cow, Role::ServerSpace, Role::Spare], |c, _| {
        op(Op::PageCopy, &[c.server.vspace.arg(), c.spare.arg(), COW, 0, 1])
    }),
    hand("Unmap copy-on-write page", &[Role::Cow, Role::ClientSpace], |c, _| {
        op(Op::Unmap, &[c.client.vspace.arg(), 0, COW, 0, 0, 1])
    }),
    hand("Map spare where events come", &[Role::Spare, Role::Pool, Role::ServerSpace], |c, _| {
        op(Op::Map, &[c.server.vspace.arg(), c.spare.arg(), EVENT_WINDOW, MAP_POOL | 1])
    }),
];

const GROUPS: &[Deed] = &[
    hand("GroupRemove client", &[Role::Group, Role::ClientProcess], |c, _| {
        op(Op::GroupRemove, &[Target::new(c.group, c.members[0] as u32).0])
    }),
    hand("GroupRemove server", &[Role::Group, Role::ServerProcess], |c, _| {
        op(Op::GroupRemove, &[Target::new(c.group, c.members[1] as u32).0])
    }),
    hand("GroupAdd process 1", &[Role::Group], |c, _| {
        op(Op::GroupAdd, &[c.group.arg(), abi::INIT_PROCESS.arg(), u64::from(MEMBER_RIGHTS.0), 3])
    }),
    hand("ProcessAccept", &[Role::Group], |c, n| {
        op(Op::ProcessAccept, &[abi::INIT_PROCESS.arg(), u64::from(c.empty[n].0), c.group.arg()])
    }),
    hand("Withdraw server", &[Role::Group, Role::Server], |c, _| {
        op(Op::Withdraw, &[Target::new(c.group, SERVER).0])
    }),
    hand("Withdraw bell", &[Role::Group, Role::Bell], |c, _| {
        op(Op::Withdraw, &[Target::new(c.group, BELL).0])
    }),
    hand("Expose client", &[Role::Group, Role::Client], |c, _| {
        op(Op::Expose, &[Target::new(c.group, NOWHERE).0, c.tasks.client.cap.arg(), 0])
    }),
    hand("Expose bare", &[Role::Group, Role::Bare], |c, _| {
        op(Op::Expose, &[Target::new(c.group, NOWHERE).0, c.bare.arg(), 0])
    }),
    hand("Expose watcher", &[Role::Group, Role::Bell], |c, _| {
        op(Op::Expose, &[Target::new(c.group, WATCHER).0, c.bell.arg(), 2])
    }),
    hand("Notify bell", &[Role::Bell], |c, _| op(Op::Notify, &[c.bell.arg(), 1])),
    hand("Notify bound", &[Role::Bound, Role::Fresh], |c, _| op(Op::Notify, &[c.bound.arg(), 4])),
    hand("GroupMember", &[Role::Group], |c, _| op(Op::GroupMember, &[c.group.arg()])),
    hand("PoolRoom", &[Role::Pool], |c, _| op(Op::PoolRoom, &[c.pool.arg()])),
];

const MESSAGES: &[Deed] = &[
    by(By::Client, "Call server", &[Role::Client, Role::Server, Role::Group, Role::ClientTime], |_, _| {
        call()
    }),
    by(By::Client, "Call helper", &[Role::Client, Role::Helper, Role::Group], |_, _| {
        Regs::message(Op::Call, Target::new(GROUP, HELPER), [1; 4])
    }),
    by(
        By::Client,
        "Call with pages moved",
        &[Role::Client, Role::Server, Role::Pooled, Role::ClientSpace],
        |c, _| with_pages(&c.tasks.client, PageMode::Move, POOLED),
    ),
    by(
        By::Client,
        "Call with pages shared",
        &[Role::Client, Role::Server, Role::Pooled, Role::ClientSpace],
        |c, _| with_pages(&c.tasks.client, PageMode::Share, POOLED),
    ),
    by(
        By::Client,
        "Call with large page",
        &[Role::Client, Role::Server, Role::Large, Role::ClientSpace],
        |c, _| {
            lists(&c.tasks.client, &[LARGE_PAGE]);
            call().flag(FLAG_PAGES)
        },
    ),
    by(By::Client, "Call with deadline", &[Role::Client, Role::Server], |_, _| call().deadline(100_000)),
    by(By::Client, "Send", &[Role::Client, Role::Helper, Role::Pool], |_, _| send()),
    by(By::Client, "Notify through group", &[Role::Client, Role::Bell, Role::Group], |_, _| {
        op(Op::Notify, &[Target::new(GROUP, BELL).0, 2])
    }),
    by(By::Client, "Broadcast", &[Role::Client, Role::Group, Role::Pool], |_, _| {
        Regs::message(Op::Broadcast, Target::new(GROUP, 0), [6; 4])
    }),
    by(
        By::Client,
        "Call with capabilities",
        &[Role::Client, Role::Server, Role::Bell, Role::Parcel, Role::ClientTable, Role::ServerTable],
        |c, _| with_caps(&c.tasks.client, PARCELS[0], call()),
    ),
    by(
        By::Client,
        "Send with capabilities",
        &[
            Role::Client,
            Role::Helper,
            Role::Pool,
            Role::Bell,
            Role::Parcel,
            Role::ClientTable,
            Role::ServerTable,
        ],
        |c, _| with_caps(&c.tasks.client, PARCELS[0], send()),
    ),
    by(
        By::Other,
        "Send with capabilities of other",
        &[Role::Other, Role::Helper, Role::Pool, Role::Bell, Role::ClientTable, Role::ServerTable],
        |c, _| with_caps(&c.tasks.other, PARCELS[1], send()),
    ),
    by(
        By::Client,
        "Send with pages",
        &[Role::Client, Role::Helper, Role::Pool, Role::Pooled, Role::ClientSpace, Role::ServerSpace],
        |c, _| {
            lists(&c.tasks.client, &[PageRange::new(PageMode::Move, POOLED, 2)]);
            send().flag(FLAG_PAGES)
        },
    ),
    by(
        By::Client,
        "Broadcast with pages",
        &[Role::Client, Role::Group, Role::Pool, Role::Pooled, Role::ClientSpace, Role::ServerSpace],
        |c, _| {
            lists(&c.tasks.client, &[PageRange::new(PageMode::Share, POOLED, 2)]);
            Regs::message(Op::Broadcast, Target::new(GROUP, 0), [6; 4]).flag(FLAG_PAGES)
        },
    ),
    by(By::Client, "Wait of client", &[Role::Client, Role::Bell], |_, _| op(Op::Wait, &[BELL_SLOT.arg()])),
    by(By::Client, "Wait with deadline", &[Role::Client, Role::Bell], |_, _| {
        op(Op::Wait, &[BELL_SLOT.arg()]).deadline(100_000)
    }),
    by(By::Client, "Yield of client", &[Role::Client, Role::ClientTime], |_, _| op(Op::Yield, &[])),
    by(By::Client, "YieldTo helper", &[Role::Client, Role::Helper, Role::Group], |_, _| {
        op(Op::YieldTo, &[Target::new(GROUP, HELPER).0])
    }),
    by(By::Other, "Reply through object", &[Role::Other, Role::Reply, Role::Client, Role::Server], |_, _| {
        Regs::message(Op::Reply, Target(REPLY_SLOT.arg()), [9; 4])
    }),
    by(By::Server, "SaveReply", &[Role::Server, Role::Client, Role::Reply], |_, _| {
        op(Op::SaveReply, &[REPLY_SLOT.arg()])
    }),
    Deed {
        name: "keep and reply",
        by: By::Server,
        what: What::Calls([
            |_, _| op(Op::SaveReply, &[REPLY_SLOT.arg()]),
            |_, _| Regs::message(Op::Reply, Target(REPLY_SLOT.arg()), [9; 4]),
        ]),
        of: &[Role::Server, Role::Client, Role::Reply],
    },
    by(
        By::Server,
        "Reply with capabilities",
        &[Role::Server, Role::Client, Role::Reply, Role::ClientTable, Role::ServerTable],
        |c, _| {
            grants(&c.tasks.server, &[Grant::Move { cap: REPLY_SLOT }]);
            Regs::message(Op::Reply, Target(0), [9; 4]).flag(FLAG_CAPS)
        },
    ),
    by(
        By::Server,
        "Reply with pages",
        &[Role::Server, Role::Client, Role::Shared, Role::ClientSpace, Role::ServerSpace],
        |c, _| {
            lists(&c.tasks.server, &[PageRange::new(PageMode::Share, SHARED, 2)]);
            Regs::message(Op::ReplyRecv, Target(0), [9; 4]).flag(FLAG_PAGES)
        },
    ),
    by(By::Client, "Recv of client", &[Role::Client], |_, _| op(Op::Recv, &[])),
    by(By::Other, "Call server of its CPU", &[Role::Other, Role::Server, Role::Group], |_, _| call()),
    by(By::Server, "Reply", &[Role::Server, Role::Client], |_, _| {
        Regs::message(Op::Reply, Target(0), [9; 4])
    }),
    by(By::Server, "ReplyRecv", &[Role::Server, Role::Client], |_, _| {
        Regs::message(Op::ReplyRecv, Target(0), [9; 4])
    }),
    by(By::Server, "Recv that drops", &[Role::Server, Role::Client], |_, _| op(Op::Recv, &[])),
    by(By::Server, "Forward to helper", &[Role::Server, Role::Client, Role::Helper, Role::Group], |_, _| {
        Regs::message(Op::Forward, Target::new(GROUP, HELPER), [9; 4])
    }),
    by(By::Last, "Reply of last", &[Role::Last, Role::Link], |_, _| {
        Regs::message(Op::Reply, Target(0), [9; 4])
    }),
    by(By::Last, "ReplyRecv of last", &[Role::Last, Role::Link], |_, _| {
        Regs::message(Op::ReplyRecv, Target(0), [9; 4])
    }),
    by(By::Last, "Recv of last", &[Role::Last, Role::Link], |_, _| op(Op::Recv, &[])),
    by(By::Last, "Call of last to first", &[Role::Last, Role::Link, Role::Group], |_, _| {
        Regs::message(Op::Call, Target::new(GROUP, LINK), [1; 4])
    }),
    by(By::Last, "Call of last to server", &[Role::Last, Role::Server, Role::Group], |_, _| call()),
    Deed {
        name: "fault of client",
        by: By::Client,
        what: What::Fault(FREE),
        of: &[Role::Client, Role::ClientProcess],
    },
    Deed {
        name: "fault of other",
        by: By::Other,
        what: What::Fault(FREE),
        of: &[Role::Other, Role::ClientProcess],
    },
    Deed { name: "timer", by: By::Hand, what: What::Timer, of: &[Role::Client, Role::Other, Role::Server] },
    Deed { name: "mail", by: By::Hand, what: What::Mail, of: &[Role::Client, Role::Other, Role::Server] },
    // The same where the client's task runs, and nobody's beside it.
    Deed {
        name: "mail while other runs",
        by: By::Other,
        what: What::Mail,
        of: &[Role::Other, Role::ClientSpace, Role::ClientProcess],
    },
    Deed {
        name: "timer while other runs",
        by: By::Other,
        what: What::Timer,
        of: &[Role::Other, Role::ClientSpace, Role::ClientProcess],
    },
    hand("TaskKill of whoever does it", &[Role::FirstHand], |c, _| {
        op(Op::TaskKill, &[c.hands[0].map_or(0, |hand| hand.cap.arg())])
    }),
];

/// All of them.
pub fn all() -> Vec<Deed> {
    let own = [CAPS, PARTS, TASKS, MEMORY, PAGES, processes::PROCESSES, GROUPS, MESSAGES].concat();
    [&own, members::DEEDS, waits::DEEDS, waits::ANSWERS].concat()
}

/// Operations of the kernel that none of these carries out, and that are not left out on purpose.
pub fn missing(cast: &Cast) -> Vec<Op> {
    let of = |what: What| match what {
        What::Call(regs) => vec![regs(cast, 0)],
        What::Calls(both) => both.iter().map(|regs| regs(cast, 0)).collect(),
        _ => Vec::new(),
    };
    let done: Vec<Option<Op>> =
        all().into_iter().flat_map(|deed| of(deed.what)).map(|regs| Op::from_raw(regs.rax as u8)).collect();
    let is_left_out = |op: &Op| LEFT_OUT.iter().any(|(other, _)| other == op);
    (0..=u8::MAX)
        .filter_map(Op::from_raw)
        .filter(|op| !done.contains(&Some(*op)) && !is_left_out(op))
        .collect()
}
