//! The states in which cases begin, and how the cast is brought into them.

use std::sync::atomic::Ordering::Relaxed;

use abi::membership::EXPOSE_PER_CPU;
use abi::{Cap, ObjType, Op, PageMode, PageRange, Target};

use crate::cast::{
    BELL_SLOT, COW, Cast, DEVICE, FIRST_EACH, FREE, GROUP, HELPER, INNER, LARGE_PAGE, LINK, LINKS, MAPPED,
    ONE_EACH, PAGE, POOLED, REPLY_SLOT, SERVER, SHARED, Tasks, call, lists,
};
use crate::play::LONG;
use crate::world::make::at;
use crate::world::{Regs, Tcb, World};

/// Bytes of the memory that the cast of a case is made of, as a base-2 logarithm.
pub const fn memory_log2(state: State) -> u64 {
    match state {
        State::Deep | State::Wide | State::Waiting => 20,
        State::Large | State::LargeSent => 22,
        _ => 19,
    }
}

/// Sizes of the wide state: clients that call, and clients that wait for room in the pool; Reply
/// objects of the server, and members of the group.
const CALLERS: usize = 6;
const SENDERS: usize = 3;
/// Long events for which a pool has no room.
const EVENTS_MAX: usize = 40;
/// Cells of one of them.
const EVENT_CELLS: u64 = 1 + (abi::MSG_UTCB_WORDS / abi::events::CELL_WORDS) as u64;
const MORE_REPLIES: [Cap; 3] = [Cap(20), Cap(21), Cap(22)];
pub const MORE_MEMBERS: u32 = 4;
const FIRST_MORE: u32 = 20;

/// In which state a case begins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// The server and its helper receive; nothing is under way.
    Quiet,
    /// The server has received a call of the client, which is on another CPU.
    Served,
    /// As before, and another call waits at the server, with a page of the client's pool in
    /// transit.
    Queued,
    /// The server keeps the client's call in the Reply object, and receives. An audit is running.
    Kept,
    /// The client's call has gone on down a chain of calls of its CPU, and its time with it. The
    /// first and the last task of the chain have no time of their own.
    Deep,
    /// As Quiet, with a large page in the client's pool.
    Large,
    /// As Queued, with that page in transit.
    LargeSent,
    /// The client waits for the bell, the server receives and has the hum bound, senders of both
    /// CPUs wait for room in the pool, of which something was read, and a task of each CPU is
    /// exposed at one index.
    Waiting,
    /// The server has received a fault of the client. It handles those of the client's process.
    Faulted,
    /// The server has calls of many clients, queued and kept; the client is a member of the group
    /// several times, and many of its tasks are exposed: more of each than an entry looks at, where
    /// limits are small.
    Wide,
}

/// All of them.
pub const STATES: [State; 10] = [
    State::Quiet,
    State::Served,
    State::Queued,
    State::Kept,
    State::Deep,
    State::Large,
    State::LargeSent,
    State::Waiting,
    State::Faulted,
    State::Wide,
];

impl State {
    /// Whether there is a large page.
    pub fn has_large(self) -> bool {
        matches!(self, State::Large | State::LargeSent)
    }

    /// Whether a run has cases that begin so, where no state is asked for.
    pub fn is_usual(self) -> bool {
        self != State::Wide
    }

    /// On which CPUs there are clients besides the client's own tasks.
    pub fn crowd(self) -> &'static [usize] {
        match self {
            State::Wide => &[0; CALLERS + SENDERS],
            State::Waiting => &[0, 1],
            _ => &[],
        }
    }

    /// Slots of each CSpace.
    pub fn slots(self) -> u64 {
        if self == State::Wide { 64 } else { 16 }
    }

    /// Whether a call of another client waits at the server, with pages.
    pub fn has_queue(self) -> bool {
        matches!(self, State::Queued | State::LargeSent)
    }
}

/// A task of CPU 1 yields, if it runs.
fn make_way(w: &mut World, task: &Tcb) {
    if w.runs(1, task) {
        w.does_and_run(task, Regs::op(Op::Yield, &[]));
    }
}

impl Cast {
    /// Refuses to begin a case in another state than its own. `gather`, `fill` and `call_along`
    /// have checked the rest.
    pub fn is_begun(&self, w: &World, state: State) {
        use kern_base::task::State::{Await, AwaitRemote, Ready, Recv, Sending, WaitBits};
        let Tasks { client, other, server, helper, .. } = self.tasks;
        let (client_does, other_does, server_does) = match state {
            State::Quiet | State::Large => (Ready, Ready, Recv),
            State::Served | State::Faulted | State::Wide => (AwaitRemote, Ready, Ready),
            State::Queued | State::LargeSent => (AwaitRemote, Sending, Ready),
            State::Kept => (AwaitRemote, Ready, Recv),
            State::Deep => (Await, Ready, Recv),
            State::Waiting => (WaitBits, Ready, Recv),
        };
        let does = [client, other, server, helper].map(|task| task.state());
        assert_eq!(does, [client_does, other_does, server_does, Recv], "so {state:?} does not begin");
        let runs = if server_does == Ready { server } else { other };
        assert!(w.runs(1, &runs), "{runs:?} does not run when {state:?} begins");
    }

    /// Lets the tasks of a chain receive. The first and the last have no time of their own then.
    pub fn prepare_chain(&self, w: &mut World, links: &[Tcb]) {
        for (n, link) in links.iter().enumerate() {
            w.expose(self.group, LINK + n as u32, link.cap);
            w.resume(link);
            w.run();
            w.does_and_run(link, Regs::op(Op::Recv, &[]));
            if n % (LINKS - 1) == 0 {
                w.must(0, Op::CapDelete, &[at(link.sc)]);
            }
        }
    }

    /// The client calls the first, and each the next.
    pub fn call_along(&self, w: &mut World, links: &[Tcb]) {
        let callers = [&self.tasks.client].into_iter().chain(links);
        for (n, caller) in callers.take(links.len()).enumerate() {
            let to = Target::new(GROUP, LINK + n as u32);
            w.does_and_run(caller, Regs::message(Op::Call, to, [n as u64; 4]));
        }
    }

    /// Many clients call the server, some with deadlines. It keeps some of the calls and serves
    /// another. Others send to the pool until they have to wait. The server receives when this
    /// begins.
    pub fn gather(&self, w: &mut World, crowd: &[Tcb]) {
        let Tasks { other, server, .. } = self.tasks;
        for (n, task) in crowd.iter().enumerate() {
            w.resume(task);
            w.run();
            if n >= CALLERS {
                self.fill(w, 0, task);
                continue;
            }
            w.expose(self.group, LINK + n as u32, task.cap);
            let deadline = w.now() + LONG / 2;
            w.does_and_run(task, if n % 2 == 0 { call() } else { call().deadline(deadline) });
        }
        let does = |w: &mut World, what: Regs| {
            make_way(w, &other);
            w.does_and_run(&server, what);
        };
        for slot in MORE_REPLIES {
            let reply = w.make_of(1, self.memory, ObjType::Reply, 0);
            w.give(reply, self.server, slot);
            does(w, Regs::op(Op::SaveReply, &[slot.arg()]));
            does(w, Regs::op(Op::Recv, &[]));
        }
        make_way(w, &other);
        for n in 0..MORE_MEMBERS {
            w.join(self.group, self.client, Cap(FIRST_MORE + n), abi::MEMBER_RIGHTS, 7);
        }
    }

    /// A task sends long events until it has to wait for room.
    fn fill(&self, w: &mut World, n: usize, task: &Tcb) {
        for _ in 0..EVENTS_MAX {
            if w.runs(n, task) {
                let send = Regs::message(Op::Send, Target::new(GROUP, HELPER), [1, 2, 3, 4]);
                w.does_and_run(task, send.words(abi::MSG_UTCB_WORDS as u8));
            }
        }
        assert!(!w.runs(n, task), "there is room for all events");
    }

    /// The client waits for bits, and senders for room. Some of what was sent has been read.
    pub fn wait(&self, w: &mut World, senders: &[Tcb]) {
        let Tasks { client, other, server, helper, .. } = self.tasks;
        for (n, task) in senders.iter().enumerate() {
            w.resume(task);
            w.run();
            if n == 1 {
                make_way(w, &other);
            }
            self.fill(w, n, task);
        }
        if let Some(head) = self.pool_words(w) {
            head[0].store(EVENT_CELLS, Relaxed);
        }
        w.does_and_run(&client, Regs::op(Op::Wait, &[BELL_SLOT.arg()]));
        w.must(1, Op::NotificationBind, &[self.hum.arg(), server.cap.arg()]);
        for task in [helper, server] {
            let one_each = u64::from(EXPOSE_PER_CPU) | u64::from(FIRST_EACH) << 32;
            w.must(0, Op::Expose, &[Target::new(self.group, ONE_EACH).0, task.cap.arg(), one_each]);
        }
        self.handle_faults(w);
    }

    /// The server handles the faults of the client's process.
    fn handle_faults(&self, w: &mut World) {
        w.must(0, Op::FaultHandler, &[self.client.process.arg(), Target::new(GROUP, SERVER).0]);
    }

    /// Lets the tasks run, and brings them into the state in which the case begins.
    pub fn begin(&self, w: &mut World, state: State) {
        let Tasks { client, other, server, helper, .. } = self.tasks;
        for task in [helper, client, server, other] {
            w.resume(&task);
            w.run();
            if task == helper || task == server {
                w.does_and_run(&task, Regs::op(Op::Recv, &[]));
            }
        }
        // Both CPUs of the client remember its pages.
        for address in [MAPPED, MAPPED + PAGE, POOLED, POOLED + PAGE, SHARED, DEVICE + PAGE, COW, INNER] {
            assert!(w.touch(0, address) && w.touch(1, address));
        }
        if matches!(state, State::Quiet | State::Deep | State::Large | State::Waiting) {
            return;
        }
        if state == State::Faulted {
            self.handle_faults(w);
            w.fault(0, FREE);
            w.run();
        } else {
            w.does_and_run(&client, call());
        }
        make_way(w, &other);
        if state.has_queue() {
            make_way(w, &server);
            let pages = PageRange::new(PageMode::Move, POOLED, 2);
            lists(&other, &[if state.has_large() { LARGE_PAGE } else { pages }]);
            w.does_and_run(&other, call().flag(abi::FLAG_PAGES));
            // It is made again when no CPU remembers the pages, and by then the server runs.
            make_way(w, &server);
        }
        if matches!(state, State::Kept | State::Wide) {
            w.does_and_run(&server, Regs::op(Op::SaveReply, &[REPLY_SLOT.arg()]));
            w.does_and_run(&server, Regs::op(Op::Recv, &[]));
        }
    }
}
