//! The objects of a case's operations, made again for each case, and their relations.
//!
//! All of them are made from one piece of memory, so that one reset destroys everything at the end
//! of a case.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use abi::events::Window;
use abi::events::{CELLS_LOG2_MIN, PoolSize};
use abi::{Cap, Grant, Listening, LockWord, MAP_POOL, ObjType, Op, PageMode, PageRange, Rights, Target};
use kern_base::events::EventPool;
use kern_base::memory::Frame;
use smp::host_test;

use crate::states::{MORE_MEMBERS, State, memory_log2};
use crate::world::machine::DEVICES;
use crate::world::make::{CONTROL, INIT, Proc, at};
use crate::world::{Regs, Tcb, World};

/// The group, in the CSpace of each process of the cast.
pub const GROUP: Cap = Cap(5);
/// Bytes of the memory within, as a base-2 logarithm.
pub const CHILD_LOG2: u64 = 15;
pub const PAGE: u64 = abi::PAGE_SIZE;
/// Where the client has pages of a frame, pages of its pool, and pages that it shares; the server's
/// window.
pub const MAPPED: u64 = 0x5040_0000;
pub const POOLED: u64 = 0x5041_0000;
pub const SHARED: u64 = 0x5042_0000;
pub const WINDOW: u64 = 0x5043_0000;
/// Where the client has pages of a device.
pub const DEVICE: u64 = 0x5046_0000;
/// A frame of the simulated machine's device memory.
pub const DEVICE_SIZE: u64 = 12 | 3 << 8;
/// A line of the simulated machine's interrupt controllers, and its ports.
const LINE: u64 = 9;
pub const PORT: u64 = 0x60;
/// The size of the pool of the server's process.
const POOL_SIZE: PoolSize = PoolSize { cells_log2: CELLS_LOG2_MIN, status_pages: 1 };
/// Entries of the audit's ring of a CPU, as a base-2 logarithm.
pub const AUDIT_LOG2: u64 = 4;
/// Where nothing is mapped.
pub const FREE: u64 = 0x5044_0000;
/// Where the client and the server see one page, of which either is to get a copy before it writes.
pub const COW: u64 = 0x5047_0000;
/// Where the client has a page of the memory within.
pub const INNER: u64 = COW + PAGE;
/// Where pages of events come.
pub const EVENT_WINDOW: u64 = 0x504a_0000;
/// Where a second address space sees one shared page several times, side by side.
pub const VIEWS: u64 = 0x5045_0000;
/// How many those views are: where limits are small, the page may have one more after the client's
/// and the server's.
pub const VIEW_COUNT: u64 = 5;
/// Where the client has a large page of its pool, and the window of a server that can get it.
pub const LARGE: u64 = 0x5060_0000;
pub const LARGE_WINDOW: u64 = 0x5080_0000;
/// The window of the client.
pub const CLIENT_WINDOW: u64 = 0x504e_0000;
pub const POOL_AT: u64 = 0x5048_0000;
/// Where the client gets a pool of its own.
pub const OTHER_POOL_AT: u64 = 0x504c_0000;
/// Where a task of the client that is not configured gets its UTCB.
pub const BARE_UTCB: u64 = 0x5049_0000;
/// Addresses of the cast; each has 16 pages to itself.
const PLACES: [u64; 15] = [
    MAPPED,
    POOLED,
    SHARED,
    WINDOW,
    FREE,
    VIEWS,
    DEVICE,
    COW,
    POOL_AT,
    BARE_UTCB,
    EVENT_WINDOW,
    OTHER_POOL_AT,
    CLIENT_WINDOW,
    LARGE,
    LARGE_WINDOW,
];
const _: () = {
    let mut n = 1;
    while n < PLACES.len() {
        assert!(PLACES[n] >= PLACES[n - 1] + 16 * PAGE);
        n += 1;
    }
};
/// Slots of the client: the bell, objects that nobody else has, and the Reply.
pub const BELL_SLOT: Cap = Cap(8);
pub const PARCELS: [Cap; 2] = [Cap(9), Cap(10)];
pub const REPLY_SLOT: Cap = Cap(7);
/// Slot of client and server: the mapped frame, which has locks in its first words.
pub const LOCKS_SLOT: Cap = Cap(15);
/// Slots into which capabilities come: those that the server and the client offer, and those of
/// events.
pub const OFFERED: Listening = Listening { next: Cap(10), count: 2 };
pub const OFFERED_BY_CLIENT: Listening = Listening { next: Cap(12), count: 2 };
pub const OFFERED_FOR_EVENTS: Listening = Listening { next: Cap(12), count: 3 };
/// Exposures of the group.
pub const SERVER: u32 = 1;
pub const HELPER: u32 = 2;
pub const BELL: u32 = 3;
pub const NOWHERE: u32 = 4;
/// Where a watcher can be exposed.
pub const WATCHER: u32 = 12;
/// The first of the tasks along which a deep call goes.
pub const LINK: u32 = 5;
/// Where a task of each CPU can be exposed, and the first of the entries that stand for it.
pub const ONE_EACH: u32 = 11;
pub const FIRST_EACH: u32 = 13;
/// Slot of the client: process 1.
pub const INIT_SLOT: Cap = Cap(4);
/// How many they are: more calls than one kernel entry follows, where limits are small.
pub const LINKS: usize = 6;

/// What a deed has to do with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Memory,
    Child,
    ClientProcess,
    ClientTable,
    ClientSpace,
    ServerProcess,
    ServerTable,
    ServerSpace,
    /// An address space of no process.
    Space,
    Group,
    /// A task of the client on CPU 0, and one on CPU 1.
    Client,
    Other,
    /// The server's task on CPU 1, and one on CPU 0.
    Server,
    Helper,
    /// The first and the last of the tasks along which a deep call goes, all on CPU 0.
    Link,
    Last,
    /// One that waits for room in the pool.
    Poster,
    /// The fault that the server has to answer.
    Fault,
    /// A task that has not been resumed; it is to run on CPU 1.
    Fresh,
    /// Another, which is not configured.
    Bare,
    /// One of the client on CPU 0 that has registers and no time.
    Idle,
    /// A process without spaces.
    Stem,
    /// A frame that the client has mapped, one that is in its pool, one in both pools, one that is
    /// mapped nowhere.
    Mapped,
    Pooled,
    Shared,
    Spare,
    /// A frame of 2 MiB in the client's pool.
    Large,
    /// A frame of device memory that the client has mapped.
    Device,
    /// The interrupt of a device, which raises bits of the server's Notification; one without a
    /// line.
    Irq,
    OtherIrq,
    /// A range of I/O ports.
    Ports,
    /// A frame whose page client and server see until one of them writes; one that is pinned.
    Cow,
    Pinned,
    /// Notifications: bound to the fresh task; waited for by nobody, or by the client; the
    /// server's.
    Bound,
    Bell,
    Hum,
    /// A branch of the bell's capabilities.
    Branch,
    /// CPU time: the fresh task's, the client's, nobody's.
    FreshTime,
    ClientTime,
    Time,
    /// A SchedControl for one CPU.
    Control,
    Reply,
    Pool,
    /// An event pool of nobody.
    OtherPool,
    /// What only the client has.
    Parcel,
    /// A CNode with copies of capabilities.
    Table,
    /// The task that carries out the first operation.
    FirstHand,
}

/// How a thing is related to another that contains it, or that it follows from.
const PARTS: &[(Role, Role, &str)] = &[
    (Role::Child, Role::Memory, "memory within memory"),
    (Role::Client, Role::ClientProcess, "task of process"),
    (Role::Other, Role::ClientProcess, "task of process"),
    (Role::Fresh, Role::ClientProcess, "task of process"),
    (Role::Idle, Role::ClientProcess, "task of process"),
    (Role::Server, Role::ServerProcess, "task of process"),
    (Role::Helper, Role::ServerProcess, "task of process"),
    (Role::Link, Role::ServerProcess, "task of process"),
    (Role::Last, Role::ServerProcess, "task of process"),
    (Role::ClientTable, Role::ClientProcess, "CSpace of process"),
    (Role::ServerTable, Role::ServerProcess, "CSpace of process"),
    (Role::ClientSpace, Role::ClientProcess, "address space of process"),
    (Role::ServerSpace, Role::ServerProcess, "address space of process"),
    (Role::Client, Role::ClientSpace, "task in address space"),
    (Role::Other, Role::ClientSpace, "task in address space"),
    (Role::Fresh, Role::ClientSpace, "task in address space"),
    (Role::Idle, Role::ClientSpace, "task in address space"),
    (Role::Server, Role::ServerSpace, "task in address space"),
    (Role::Helper, Role::ServerSpace, "task in address space"),
    (Role::Link, Role::ServerSpace, "task in address space"),
    (Role::Last, Role::ServerSpace, "task in address space"),
    (Role::Mapped, Role::ClientSpace, "page in address space"),
    (Role::Pooled, Role::ClientSpace, "page in address space"),
    (Role::Shared, Role::ClientSpace, "page in address space"),
    (Role::Shared, Role::ServerSpace, "page in address space"),
    (Role::Shared, Role::Space, "page in address space"),
    (Role::Large, Role::ClientSpace, "page in address space"),
    (Role::Device, Role::ClientSpace, "page in address space"),
    (Role::Cow, Role::ClientSpace, "page in address space"),
    (Role::Cow, Role::ServerSpace, "page in address space"),
    (Role::Large, Role::ServerSpace, "page in address space"),
    (Role::ClientProcess, Role::Group, "member of group"),
    (Role::ServerProcess, Role::Group, "member of group"),
    (Role::Server, Role::Group, "exposed in group"),
    (Role::Helper, Role::Group, "exposed in group"),
    (Role::Bell, Role::Group, "exposed in group"),
    (Role::Client, Role::Server, "caller and callee"),
    (Role::Other, Role::Server, "caller and callee"),
    (Role::Client, Role::Link, "caller and callee"),
    (Role::Client, Role::Last, "ends of a chain of calls"),
    (Role::Link, Role::Last, "ends of a chain of calls"),
    (Role::Client, Role::Other, "tasks of one process"),
    (Role::Bound, Role::Fresh, "bound to task"),
    (Role::Hum, Role::Server, "bound to task"),
    (Role::Hum, Role::ServerProcess, "bound to task"),
    (Role::Irq, Role::Hum, "interrupt raises bits of Notification"),
    (Role::Irq, Role::Bell, "interrupt may raise bits of Notification"),
    (Role::Irq, Role::OtherIrq, "interrupts of one line"),
    (Role::Bell, Role::Client, "waited for by task"),
    (Role::Poster, Role::Pool, "waits for room in event pool"),
    (Role::Poster, Role::Helper, "waits for reader of event pool"),
    (Role::Poster, Role::ClientProcess, "task of process"),
    (Role::Fault, Role::Client, "fault of task"),
    (Role::Fault, Role::ClientProcess, "fault in process"),
    (Role::Fault, Role::Server, "fault at handler"),
    (Role::FreshTime, Role::Fresh, "CPU time of task"),
    (Role::ClientTime, Role::Client, "CPU time of task"),
    (Role::ClientTime, Role::Server, "lender and borrower"),
    (Role::ClientTime, Role::Link, "lender and borrower"),
    (Role::ClientTime, Role::Last, "lender and borrower"),
    (Role::Reply, Role::Server, "reply of callee"),
    (Role::Reply, Role::Client, "reply to caller"),
    (Role::Pool, Role::ServerProcess, "event pool of process"),
    (Role::Pool, Role::ServerSpace, "event pool in address space"),
    (Role::Pool, Role::Helper, "reader of event pool"),
    (Role::Bell, Role::Table, "capability in table"),
    (Role::Mapped, Role::Table, "capability in table"),
    (Role::Bell, Role::ClientTable, "capability in table"),
    (Role::Branch, Role::Bell, "derived from capability"),
    (Role::Parcel, Role::ClientTable, "capability in table"),
    (Role::Reply, Role::ServerTable, "capability in table"),
    (Role::Group, Role::ClientTable, "capability in table"),
    (Role::Group, Role::ServerTable, "capability in table"),
];

/// How two things are related, if they are.
pub fn relation(one: Role, other: Role) -> Option<&'static str> {
    if one == other {
        return Some(same(one));
    }
    let part = PARTS.iter().find(|(a, b, _)| (*a, *b) == (one, other) || (*a, *b) == (other, one));
    part.map(|(_, _, name)| *name).or_else(|| {
        let of_memory = one == Role::Memory || other == Role::Memory;
        of_memory.then_some("object of memory")
    })
}

fn same(role: Role) -> &'static str {
    match role {
        Role::Memory | Role::Child => "same memory",
        Role::ClientProcess | Role::ServerProcess | Role::Stem => "same process",
        Role::ClientTable | Role::ServerTable | Role::Table => "same table",
        Role::ClientSpace | Role::ServerSpace | Role::Space => "same address space",
        Role::Group => "same group",
        Role::Client | Role::Other | Role::Server | Role::Helper | Role::Link | Role::Last => "same task",
        Role::Fresh | Role::Bare | Role::Idle => "same task",
        Role::Mapped | Role::Pooled | Role::Shared | Role::Spare | Role::Large | Role::Device => "same frame",
        Role::Cow | Role::Pinned => "same frame",
        Role::Bound | Role::Bell | Role::Hum => "same Notification",
        Role::Irq | Role::OtherIrq => "same interrupt",
        Role::Ports => "same ports",
        Role::Poster => "same task",
        Role::Fault => "same fault",
        Role::FreshTime | Role::ClientTime | Role::Time => "same CPU time",
        Role::Control => "same SchedControl",
        Role::Reply => "same Reply",
        Role::Pool | Role::OtherPool => "same event pool",
        Role::Parcel | Role::Branch => "same capability",
        Role::FirstHand => "whoever does it",
    }
}

/// The ceiling of the SchedControl.
pub const CEILING: u64 = 20;

/// The capabilities and tasks of one case.
#[derive(Clone)]
pub struct Cast {
    pub memory: Cap,
    pub child: Cap,
    /// A frame of the memory within, in the client's pool.
    pub inner: Cap,
    pub client: Proc,
    pub server: Proc,
    pub group: Cap,
    pub tasks: Tasks,
    pub bare: Cap,
    pub mapped: Cap,
    pub pooled: Cap,
    pub shared: Cap,
    pub spare: Cap,
    /// The spare frame, where a case begins without a large one.
    pub large: Cap,
    pub device: Cap,
    pub irq: Cap,
    pub other_irq: Cap,
    pub ports: Cap,
    pub cow: Cap,
    pub pinned: Cap,
    pub stem: Cap,
    pub other_pool: Cap,
    pub bound: Cap,
    pub bell: Cap,
    pub hum: Cap,
    pub time: Cap,
    pub control: Cap,
    pub reply: Cap,
    pub pool: Cap,
    pub table: Cap,
    /// Slots of process 1 that are empty: one for each operation of a case.
    pub empty: [Cap; 3],
    /// A copy of the bell's capability, and one of the mapped frame's.
    pub copies: [Cap; 2],
    /// A copy of the bell's capability with copies of its own, of which two have copies.
    pub branch: Cap,
    /// A second address space, of no process.
    pub space: Cap,
    /// The member records of client and server.
    pub members: [u64; 2],
    /// The tasks of process 1 that carry out the operations of a case, by CPU.
    pub hands: [Option<Tcb>; 3],
}

#[derive(Clone, Copy)]
pub struct Tasks {
    pub client: Tcb,
    pub other: Tcb,
    pub server: Tcb,
    pub helper: Tcb,
    pub fresh: Tcb,
    pub idle: Tcb,
    /// The ends of the chain. Where a case begins without one, the helper.
    pub link: Tcb,
    pub last: Tcb,
    /// One that waits for room in the pool. Where a case begins without one, the helper.
    pub poster: Tcb,
}

impl Cast {
    pub fn new(w: &mut World, state: State) -> Cast {
        let memory = w.make(0, ObjType::Untyped, memory_log2(state));
        // The first: at the end of the memory there are descriptors.
        let large = state.has_large().then(|| w.make_of(0, memory, ObjType::Frame, 21));
        let process = |w: &mut World, vector| {
            let cnode = w.make_of(0, memory, ObjType::CNode, state.slots());
            let vspace = w.make_of(0, memory, ObjType::VSpace, 6);
            let process = w.make_of(0, memory, ObjType::Process, 8 + state.crowd().len() as u64);
            w.must(0, Op::ProcessConfigure, &[process.arg(), cnode.arg(), vspace.arg(), vector]);
            Proc { process, cnode, vspace }
        };
        let (client, server) = (process(w, 1), process(w, 0));
        let group = w.make_of(0, memory, ObjType::Group, (4 + MORE_MEMBERS as u64) | 16 << 16);
        let members = [client, server].map(|who| w.join(group, who, GROUP, abi::MEMBER_RIGHTS, 7));
        let task = |w: &mut World, of, n, own| w.task_of(memory, of, n, 10, own);
        let helper = task(w, server, 0, true);
        let links: Vec<Tcb> = match state {
            State::Deep => (0..LINKS).map(|_| task(w, server, 0, true)).collect(),
            _ => Vec::new(),
        };
        let crowd: Vec<Tcb> = state.crowd().iter().map(|n| task(w, client, *n, true)).collect();
        let tasks = Tasks {
            client: task(w, client, 0, true),
            other: task(w, client, 1, true),
            server: task(w, server, 1, true),
            helper,
            fresh: task(w, client, 1, true),
            idle: task(w, client, 0, false),
            link: *links.first().unwrap_or(&helper),
            last: *links.last().unwrap_or(&helper),
            poster: *crowd.last().unwrap_or(&helper),
        };
        let note = |w: &mut World| w.make_of(0, memory, ObjType::Notification, 0);
        let (bound, bell) = (note(w), note(w));
        let frame = |w: &mut World| w.make_of(0, memory, ObjType::Frame, 12 | 3 << 8);
        let (mapped, pooled, shared, spare) = (frame(w), frame(w), frame(w), frame(w));
        let child = w.make_of(0, memory, ObjType::Untyped, CHILD_LOG2);
        let _ = w.make_of(0, child, ObjType::Notification, 0);
        let inner = w.make_of(0, child, ObjType::Frame, 12);
        let cast = Cast {
            memory,
            child,
            inner,
            client,
            server,
            group,
            tasks,
            bare: w.make_of(0, memory, ObjType::Task, 0),
            mapped,
            pooled,
            shared,
            spare,
            large: large.unwrap_or(spare),
            device: w.slot(),
            irq: w.make_of(0, memory, ObjType::IrqHandler, 0),
            other_irq: w.make_of(0, memory, ObjType::IrqHandler, 0),
            ports: w.make_of(0, memory, ObjType::IoPort, 0),
            cow: w.make_of(0, memory, ObjType::Frame, 12),
            // Of other memory: a pin would keep this from being reset.
            pinned: w.make(0, ObjType::Frame, 12),
            stem: w.make_of(0, memory, ObjType::Process, 4),
            other_pool: w.make_of(0, memory, ObjType::EventPool, 6),
            bound,
            bell,
            hum: w.make_of(1, memory, ObjType::Notification, 0),
            time: w.make_of(0, memory, ObjType::SchedContext, 0),
            control: w.control_of(0, memory, CEILING, 1),
            reply: w.make_of(1, memory, ObjType::Reply, 0),
            pool: w.make_of(0, memory, ObjType::EventPool, POOL_SIZE.raw()),
            table: w.make_of(0, memory, ObjType::CNode, 8),
            empty: core::array::from_fn(|_| w.slot()),
            copies: core::array::from_fn(|_| w.slot()),
            branch: w.slot(),
            space: w.make_of(0, memory, ObjType::VSpace, 4),
            members,
            hands: [None; 3],
        };
        cast.furnish(w, state);
        cast.prepare_chain(w, &links);
        cast.begin(w, state);
        match state {
            State::Deep => cast.call_along(w, &links),
            State::Wide => cast.gather(w, &crowd),
            State::Waiting => cast.wait(w, &crowd),
            _ => {}
        }
        cast.is_begun(w, state);
        cast
    }

    /// Maps, binds, copies and exposes.
    fn furnish(&self, w: &mut World, state: State) {
        let space = self.client.vspace.arg();
        w.must(0, Op::Map, &[space, self.mapped.arg(), MAPPED, 1]);
        w.must(0, Op::DeviceFrame, &self.device_args(self.device));
        w.must(0, Op::Map, &[space, self.device.arg(), DEVICE, 1]);
        w.must(0, Op::IrqAllow, &self.line_args(self.irq));
        w.must(0, Op::IrqBind, &self.bind_args(self.hum, 0));
        w.must(0, Op::PortAllow, &self.port_args());
        w.must(0, Op::Map, &[space, self.pooled.arg(), POOLED, MAP_POOL | 1]);
        w.must(0, Op::Map, &[space, self.shared.arg(), SHARED, MAP_POOL | 1]);
        let [words, count] = PageRange::new(PageMode::Share, SHARED, 3).words();
        w.must(0, Op::PageTransfer, &[space, self.server.vspace.arg(), words, SHARED, count]);
        for n in 0..VIEW_COUNT {
            let [words, count] = PageRange::new(PageMode::Share, SHARED, 1).words();
            w.must(0, Op::PageTransfer, &[space, self.space.arg(), words, VIEWS + n * PAGE, count]);
        }
        if state.has_large() {
            w.must(0, Op::Map, &[space, self.large.arg(), LARGE, MAP_POOL | 1]);
        }
        w.must(0, Op::SchedConfigure, &[CONTROL, self.time.arg(), 10, 1000]);
        let accepted = w.slot();
        w.must(0, Op::ProcessAccept, &[abi::INIT_PROCESS.arg(), u64::from(accepted.0), self.group.arg()]);
        if state == State::Kept {
            w.must(0, Op::AuditStart, &[abi::INIT_MACHINE.arg(), self.child.arg(), AUDIT_LOG2]);
        }
        w.must(0, Op::NotificationBind, &[self.bound.arg(), self.tasks.fresh.cap.arg()]);
        for (from, to) in [(self.bell, at(self.copies[0])), (self.mapped, at(self.copies[1]))] {
            w.must(0, Op::CapCopy, &[from.arg(), to, u64::from(Rights::ALL.0), 0]);
        }
        for (from, slot) in [(self.bell, 2), (self.mapped, 3)] {
            let to = Target::new(self.table, slot).0;
            w.must(0, Op::CapCopy, &[from.arg(), to, u64::from(Rights::ALL.0), 0]);
        }
        let copy = |w: &mut World, from: Cap, to: Cap| {
            w.must(0, Op::CapCopy, &[from.arg(), at(to), u64::from(Rights::ALL.0), 0]);
            to
        };
        let branch = copy(w, self.bell, self.branch);
        for has_copy in [true, false, true] {
            let to = w.slot();
            let twig = copy(w, branch, to);
            if has_copy {
                let to = w.slot();
                copy(w, twig, to);
            }
        }
        let exposed = [(SERVER, self.tasks.server.cap), (HELPER, self.tasks.helper.cap), (BELL, self.bell)];
        exposed.into_iter().for_each(|(index, object)| w.expose(self.group, index, object));
        let reader = self.tasks.helper.cap;
        w.must(0, Op::PoolBind, &[self.pool.arg(), self.server.process.arg(), reader.arg(), POOL_AT, 2]);
        w.must(0, Op::CpuWatch, &[Target::new(abi::INIT_MACHINE, 0).0, self.pool.arg(), 0]);
        w.must(0, Op::FramePin, &[self.pinned.arg(), abi::INIT_MACHINE.arg()]);
        w.must(0, Op::Map, &[space, self.cow.arg(), COW, MAP_POOL | 1]);
        w.must(0, Op::Map, &[space, self.inner.arg(), INNER, MAP_POOL | 1]);
        let [words, count] = PageRange::new(PageMode::Copy, COW, 1).words();
        w.must(0, Op::PageTransfer, &[space, self.server.vspace.arg(), words, COW, count]);
        self.offer(w, state);
    }

    /// Says where pages and capabilities come, and gives tasks capabilities that they can send.
    fn offer(&self, w: &mut World, state: State) {
        let Tasks { client, server, .. } = self.tasks;
        let utcb = server.object.get().utcb(server.pin());
        let window = if state.has_large() { (LARGE_WINDOW, 2 << 20) } else { (WINDOW, 4 * PAGE) };
        utcb.window[0].store(window.0, Relaxed);
        utcb.window[1].store(window.1, Relaxed);
        utcb.listening.store(OFFERED.word(), Relaxed);
        let utcb = client.object.get().utcb(client.pin());
        utcb.window[0].store(CLIENT_WINDOW, Relaxed);
        utcb.window[1].store(4 * PAGE, Relaxed);
        utcb.listening.store(OFFERED_BY_CLIENT.word(), Relaxed);
        if let Some(words) = self.pool_words(w) {
            words[2].store(OFFERED_FOR_EVENTS.word(), Relaxed);
            words[3].store(Window { address: EVENT_WINDOW, pages: 4 }.word(), Relaxed);
        }
        w.give(self.bell, self.client, BELL_SLOT);
        for process in [self.client, self.server] {
            w.give(self.mapped, process, LOCKS_SLOT);
        }
        let base = w.object::<Frame>(self.mapped).map_or(0, |frame| frame.get().base().0);
        for (number, word) in self.locks().into_iter().enumerate() {
            host_test::words(base, 2)[number].store(word.0, Relaxed);
        }
        w.give(abi::INIT_PROCESS, self.client, INIT_SLOT);
        w.give(self.reply, self.client, REPLY_SLOT);
        w.give(self.reply, self.server, REPLY_SLOT);
        for slot in PARCELS {
            let parcel = w.make_of(0, self.memory, ObjType::Reply, 0);
            w.must(0, Op::CapMove, &[parcel.arg(), Target::new(self.client.cnode, slot.0).0]);
        }
    }

    /// The words of locks: the server has the first one, and the helper the second.
    pub fn locks(&self) -> [LockWord; 2] {
        let word = |task: Tcb, index| LockWord::of(task.id, index).with_waits();
        [word(self.tasks.server, SERVER), word(self.tasks.helper, HELPER)]
    }

    /// A wait for one of them.
    pub fn lock_wait(&self, number: u32) -> Regs {
        let place = Target::new(LOCKS_SLOT, number).0;
        Regs::op(Op::LockWait, &[GROUP.arg(), 0, place, self.locks()[number as usize].0])
    }

    /// What the pool's process writes of it.
    pub fn pool_words(&self, w: &World) -> Option<&'static [AtomicU64]> {
        let (page, _) = w.object::<EventPool>(self.pool)?.get().pages().next()?;
        Some(host_test::words(page.at().0, 4))
    }

    /// What makes the frame of device memory.
    pub fn device_args(&self, place: Cap) -> [u64; 5] {
        [abi::INIT_MACHINE.arg(), self.memory.arg(), at(place), DEVICES, DEVICE_SIZE]
    }

    /// What gives an interrupt its line.
    pub fn line_args(&self, irq: Cap) -> [u64; 4] {
        [abi::INIT_MACHINE.arg(), irq.arg(), LINE, 0]
    }

    /// What lets the interrupt come to a CPU, and raise bits.
    pub fn bind_args(&self, note: Cap, cpu: u64) -> [u64; 5] {
        [CONTROL, self.irq.arg(), note.arg(), 16, cpu]
    }

    /// What gives a range of ports.
    pub fn port_args(&self) -> [u64; 4] {
        [abi::INIT_MACHINE.arg(), self.ports.arg(), PORT, 4]
    }

    /// A task of process 1 that carries out operations on a CPU, and runs there.
    pub fn hand(&mut self, w: &mut World, n: usize) -> Tcb {
        let hand = w.start(INIT, n, 200);
        self.hands[n] = Some(hand);
        hand
    }
}

/// The large page, as a message moves it.
pub const LARGE_PAGE: PageRange = PageRange { address: LARGE, count: 1, large: true, mode: PageMode::Move };

/// A call to the server.
pub fn call() -> Regs {
    Regs::message(Op::Call, Target::new(GROUP, SERVER), [1, 2, 3, 4])
}

/// What a task sends with its next message.
pub fn lists(task: &Tcb, ranges: &[PageRange]) {
    let utcb = task.object.get().utcb(task.pin());
    utcb.range_count.store(ranges.len() as u64, Relaxed);
    for (range, words) in ranges.iter().zip(&utcb.ranges) {
        words.iter().zip(range.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}

/// Which capabilities a task sends with its next message.
pub fn grants(task: &Tcb, grants: &[Grant]) {
    let utcb = task.object.get().utcb(task.pin());
    utcb.grant_count.store(grants.len() as u64, Relaxed);
    for (grant, words) in grants.iter().zip(&utcb.grants) {
        words.iter().zip(grant.words()).for_each(|(word, value)| word.store(value, Relaxed));
    }
}
