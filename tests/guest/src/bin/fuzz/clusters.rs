//! Clusters: objects that all workers operate on, and the operations on them.
//!
//! Each cluster belongs to a process. A cluster of *capabilities* is an Untyped, eight slots of its
//! process and three of each other process. Workers make Notifications there, copy, move, delete,
//! revoke, raise and await them; they revoke and reset the Untyped. A cluster of a *group* is a
//! group with a Notification to expose, and two slots of each process for memberships. Members and
//! exposures come and go, and workers raise bits through the group.
//!
//! In each window a keeper, a worker of the cluster's process, makes the cluster again. The cluster
//! of *messages* stays, and has its own workers ([`talk`]). A cluster's record has the operations
//! of the keeper and of all other workers.

use abi::membership::SEEN_AS_ADDER;
use abi::{Cap, FLAG_DEADLINE, FLAG_NONBLOCK, MEMBER_RIGHTS, ObjType, Op, Rights, Target, process_rights};
use guest_tests::random::Random;
use guest_tests::run::Run as _;
use user_rt::arch::{self, Answer, Args, syscall};
use user_rt::cap::{Handle, Untyped};
use user_rt::invoke::Pins;
use user_rt::layout::slot;

use crate::board::{Board, CLUSTERS, In, Of, PROCESSES, Total};
use crate::talk;
use core::sync::atomic::Ordering::Relaxed;

/// Slots in each process with capabilities of the processes' CNodes and of the processes.
pub const PEER_CNODES: u32 = 400;
pub const PEER_PROCESSES: u32 = 404;
/// The Untypeds of a process's clusters.
pub const MEMORIES: [Cap; 2] = [Cap(408), Cap(409)];
pub const MEMORY_LOG2: u8 = 12;
/// A process's slots in the cluster of its own capabilities.
const OWN_SLOTS: u32 = 410;
const OWN_COUNT: u32 = 8;
/// Its slots in another process's cluster, by that process.
const LENT_SLOTS: u32 = 420;
const LENT_COUNT: u32 = 3;
/// The owner's group, and the Notification that it exposes.
const GROUP: Cap = Cap(440);
const NOTE: Cap = Cap(441);
/// Slots that a process offers for a membership, by the group's process.
const OFFERS: u32 = 444;
const OFFER_COUNT: u32 = 2;
/// All slots of clusters.
pub const SLOTS: core::ops::Range<u32> = MEMORIES[0].0..OFFERS + PROCESSES as u32 * OFFER_COUNT;

/// Badge of the members of a group.
const CUSTOM: u64 = 7;
const MEMBERS: u32 = 4;
const EXPOSURES: u32 = 3;
/// Calls of a window in a cluster; calls before and after it.
pub const WINDOW_MAX: usize = 60;
/// Longest wait of a worker for bits, in ticks.
const PATIENCE: u64 = 60_000;

/// Returns the rights of a process's capability of another process's CNode. One of the two does not
/// let it change slots.
pub const fn cnode_rights(of: usize, who: usize) -> Rights {
    let look = abi::cnode_rights::OBSERVE.rights();
    if (of + 1) % PROCESSES == who { look } else { Rights::GRANT.union(look) }
}

/// What a process may do to another process and to itself in the clusters.
pub const PROCESS_RIGHTS: Rights = process_rights::CONFIGURE.rights();

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Capabilities,
    Group,
    Messages,
}

pub fn kind(cluster: usize) -> Kind {
    match cluster.checked_sub(PROCESSES) {
        None => Kind::Capabilities,
        Some(0) => Kind::Group,
        Some(_) => Kind::Messages,
    }
}

/// Returns the process that owns a cluster. The processes take turns at owning a group, because
/// each offers one slot at a time; so they do with messages, which need no owner.
pub fn owner(cluster: usize, window: u64) -> usize {
    if cluster < PROCESSES { cluster } else { window as usize % PROCESSES }
}

/// Returns the memory that a cluster is made of, if it is made again in each window.
pub fn memory(cluster: usize) -> Option<Cap> {
    MEMORIES.get(kind(cluster) as usize).copied()
}

fn cnode_of(process: usize) -> Cap {
    Cap(PEER_CNODES + process as u32)
}

fn process_cap(process: usize) -> Cap {
    Cap(PEER_PROCESSES + process as u32)
}

fn own_slot(number: u32) -> Cap {
    Cap(OWN_SLOTS + number)
}

fn lent_slot(of: usize, number: u32) -> Cap {
    Cap(LENT_SLOTS + of as u32 * LENT_COUNT + number)
}

fn offer(of: usize, number: u32) -> Cap {
    Cap(OFFERS + of as u32 * OFFER_COUNT + number)
}

fn at(slot: Cap) -> u64 {
    Target::new(slot::CNODE, slot.0).0
}

fn into(process: usize, slot: Cap) -> u64 {
    Target::new(cnode_of(process), slot.0).0
}

/// A worker at a cluster.
pub struct Player<'a> {
    pub board: &'static Board,
    pub me: usize,
    pub process: usize,
    pub window: u64,
    pub random: &'a mut Random,
}

impl Player<'_> {
    /// Makes a system call, and records it.
    pub fn record(&mut self, cluster: usize, limit: usize, args: Args) -> Option<Answer> {
        let number = self.board.take(cluster, limit)?;
        self.board.workers[self.me].set(Of::Doing, args.info.0 & 0xff);
        self.board.workers[self.me].set(Of::First, args.rdi);
        self.board.workers[self.me].set(Of::Second, args.rsi);
        self.board.begin_call(cluster, number, self.me, &args);
        let answer = syscall(args);
        self.board.end_call(cluster, number, &answer);
        self.board.workers[self.me].word(Of::Ops).fetch_add(1, Relaxed);
        Some(answer)
    }

    /// Makes one operation of a window. Returns `false` if the cluster's record is full.
    pub fn play(&mut self, cluster: usize) -> bool {
        let owner = owner(cluster, self.window);
        let args = match (kind(cluster), owner == self.process) {
            (Kind::Capabilities, true) => self.pick_own(),
            (Kind::Capabilities, false) => self.pick_lent(owner),
            (Kind::Group, owns) => self.pick_group(owner, owns),
            (Kind::Messages, _) => return false,
        };
        let limit = self.board.clusters[cluster].get(In::Last);
        self.record(cluster, limit as usize, args).is_some()
    }

    fn number(&mut self, count: u32) -> u32 {
        self.random.below(u64::from(count)) as u32
    }

    fn own(&mut self) -> Cap {
        let number = self.number(OWN_COUNT);
        own_slot(number)
    }

    fn some_rights(&mut self) -> u64 {
        let few = [Rights::NOTIFY, Rights::LISTEN, Rights::NOTIFY | Rights::LISTEN];
        u64::from(match self.random.below(8) {
            0..3 => Rights::ALL.0,
            3 => self.random.next() as u32 & Rights::ALL.0,
            other => few[other as usize % 3].0,
        })
    }

    fn bits(&mut self) -> u64 {
        1 << self.random.below(20)
    }

    fn wait(&mut self, note: Cap) -> Args {
        let mut args = Args::plain(Op::Wait, note.arg(), 0, 0, 0);
        if self.random.chance(60) {
            args.info = args.info.flag(FLAG_NONBLOCK);
        } else {
            args.rsi = arch::now() + self.random.below(PATIENCE);
            args.info = args.info.flag(FLAG_DEADLINE);
        }
        args
    }

    /// Picks an operation in the cluster of the own process's capabilities.
    fn pick_own(&mut self) -> Args {
        let (from, to) = (self.own(), self.own());
        let memory = MEMORIES[0];
        match self.random.below(100) {
            0..14 => Args::plain(Op::CapInspect, at(from), 0, 0, 0),
            14..28 => {
                let bits = self.bits();
                Args::plain(Op::Notify, from.arg(), bits, 0, 0)
            }
            28..42 => self.wait(from),
            42..60 => {
                let (rights, badge) = (self.some_rights(), self.random.below(3));
                Args::plain(Op::CapCopy, from.arg(), at(to), rights, badge)
            }
            60..68 => {
                let process = self.random.below(PROCESSES as u64) as usize;
                let number = self.number(LENT_COUNT);
                let (to, rights) = (into(process, lent_slot(self.process, number)), self.some_rights());
                Args::plain(Op::CapCopy, from.arg(), to, rights, 0)
            }
            68..74 => Args::plain(Op::CapMove, from.arg(), at(to), 0, 0),
            74..82 => Args::plain(Op::CapDelete, at(from), 0, 0, 0),
            82..88 => Args::plain(Op::CapRevoke, at(from), 0, 0, 0),
            88..96 => {
                let what = Target::new(memory, ObjType::Notification as u32).0;
                Args::plain(Op::Retype, what, 0, at(to), 1)
            }
            96 => Args::plain(Op::CapRevoke, at(memory), 0, 0, 0),
            97 => Args::plain(Op::UntypedReset, memory.arg(), 0, 0, 0),
            98 => Args::plain(Op::Notify, memory.arg(), 1, 0, 0),
            _ => Args::plain(Op::CapCopy, memory.arg(), at(to), 0, 0),
        }
    }

    /// Picks an operation in another process's cluster: on what that process lent, and on its
    /// CNode.
    fn pick_lent(&mut self, of: usize) -> Args {
        let (first, second) = (self.number(LENT_COUNT), self.number(LENT_COUNT));
        let (from, to, there) = (lent_slot(of, first), lent_slot(of, second), self.own());
        match self.random.below(100) {
            0..12 => Args::plain(Op::CapInspect, at(from), 0, 0, 0),
            12..24 => Args::plain(Op::CapInspect, into(of, there), 0, 0, 0),
            24..42 => {
                let bits = self.bits();
                Args::plain(Op::Notify, from.arg(), bits, 0, 0)
            }
            42..52 => self.wait(from),
            52..62 => {
                let rights = self.some_rights();
                Args::plain(Op::CapCopy, from.arg(), at(to), rights, 0)
            }
            62..72 => Args::plain(Op::CapCopy, from.arg(), into(of, there), self.some_rights(), 0),
            72..78 => Args::plain(Op::CapMove, from.arg(), into(of, there), 0, 0),
            78..86 => Args::plain(Op::CapDelete, at(from), 0, 0, 0),
            86..92 => Args::plain(Op::CapDelete, into(of, there), 0, 0, 0),
            92..96 => Args::plain(Op::CapRevoke, at(from), 0, 0, 0),
            _ => Args::plain(Op::CapRevoke, into(of, there), 0, 0, 0),
        }
    }

    /// Picks an operation in the cluster of a group.
    fn pick_group(&mut self, of: usize, owns: bool) -> Args {
        let (first, second) = (self.number(OFFER_COUNT), self.number(OFFER_COUNT));
        let (mine, other) = (offer(of, first), offer(of, second));
        let group = if owns && self.random.chance(60) { GROUP } else { mine };
        let who = process_cap(self.random.below(PROCESSES as u64) as usize);
        let (exposure, member) = (self.number(EXPOSURES + 1), self.number(MEMBERS + 1));
        match self.random.below(100) {
            0..18 => {
                let rights = match self.random.below(4) {
                    0 => MEMBER_RIGHTS.0,
                    1 => self.random.next() as u32,
                    _ => (Rights::NOTIFY | Rights::ADD | Rights::REMOVE).0,
                };
                // A member adds others with the badge that it has itself.
                let custom = match self.random.below(3) {
                    0 => self.random.below(0x1_0100),
                    1 => SEEN_AS_ADDER,
                    _ => CUSTOM,
                };
                Args::plain(Op::GroupAdd, group.arg(), who.arg(), u64::from(rights), custom)
            }
            18..32 => {
                let slot = if self.random.chance(10) { 0 } else { u64::from(mine.0) };
                let from = if self.random.chance(30) { who.arg() } else { group.arg() };
                Args::plain(Op::ProcessAccept, process_cap(self.process).arg(), slot, from, 0)
            }
            32..42 => Args::plain(Op::GroupRemove, Target::new(group, member).0, 0, 0, 0),
            42..68 => {
                let bits = self.bits();
                Args::plain(Op::Notify, Target::new(group, exposure).0, bits, 0, 0)
            }
            68..76 => Args::plain(Op::Expose, Target::new(group, exposure).0, NOTE.arg(), 0, 0),
            76..80 => Args::plain(Op::Withdraw, Target::new(group, exposure).0, 0, 0, 0),
            80..86 => Args::plain(Op::CapInspect, at(mine), 0, 0, 0),
            86..90 => Args::plain(Op::CapCopy, mine.arg(), at(other), self.some_rights(), 0),
            90..94 => Args::plain(Op::CapDelete, at(mine), 0, 0, 0),
            _ => self.wait(NOTE),
        }
    }

    // --- before and after a window ---------------------------------------------------------------

    /// Deletes everything in the cluster. Reports what remains in its slots.
    pub fn wipe(&mut self, cluster: usize) {
        let Some(memory) = memory(cluster) else { return };
        let free = Untyped::at(memory).reset(Pins::Hold);
        if free != Ok(1 << MEMORY_LOG2) {
            self.board.complain(Total::LeakedPages, format_args!("reset of cluster {cluster}: {free:x?}"));
        }
        for (process, slot) in slots(cluster, self.process) {
            let found = syscall(Args::plain(Op::CapInspect, into(process, slot), 0, 0, 0));
            if found.info.status().is_err() || found.rdi != 0 {
                let what = format_args!("slot {} of process {process} after its end: {found:x?}", slot.0);
                self.board.complain(Total::Escapes, what);
            }
        }
    }

    /// Begins a window's record with the first state.
    pub fn prepare(&mut self, cluster: usize) {
        self.board.clusters[cluster].set(In::Taken, 0);
        let memory = memory(cluster).unwrap_or(Cap::NULL);
        let make = |what: ObjType, size: u64, to: Cap| {
            Args::plain(Op::Retype, Target::new(memory, what as u32).0, size, at(to), 1)
        };
        let mut done = 0;
        let mut must = |player: &mut Self, args: Args| {
            player.record(cluster, usize::MAX, args);
            done += 1;
        };
        match kind(cluster) {
            Kind::Capabilities => {
                must(self, make(ObjType::Notification, 0, own_slot(0)));
                must(self, make(ObjType::Notification, 0, own_slot(1)));
                let copy = |from: Cap, to: u64, rights: Rights| {
                    Args::plain(Op::CapCopy, from.arg(), to, u64::from(rights.0), 0)
                };
                must(self, copy(own_slot(0), at(own_slot(2)), Rights::NOTIFY));
                must(self, copy(own_slot(0), at(own_slot(3)), Rights::ALL));
                let me = self.process;
                for process in (0..PROCESSES).filter(|process| *process != me) {
                    let to = into(process, lent_slot(me, 0));
                    must(self, copy(own_slot(3), to, Rights::NOTIFY | Rights::LISTEN | Rights::GRANT));
                }
            }
            Kind::Group => {
                let size = u64::from(MEMBERS | EXPOSURES << 16);
                must(self, make(ObjType::Group, size, GROUP));
                must(self, make(ObjType::Notification, 0, NOTE));
                must(self, Args::plain(Op::Expose, GROUP.arg(), NOTE.arg(), 0, 0));
                for process in 0..PROCESSES {
                    let (who, slot) = (process_cap(process).arg(), u64::from(offer(self.process, 0).0));
                    must(self, Args::plain(Op::ProcessAccept, who, slot, GROUP.arg(), 0));
                    let rights = (Rights::NOTIFY | Rights::ADD | Rights::GRANT).0;
                    must(self, Args::plain(Op::GroupAdd, GROUP.arg(), who, u64::from(rights), CUSTOM));
                }
            }
            Kind::Messages => {}
        }
        let first = done;
        self.board.clusters[cluster].set(In::First, first);
        let rests = kind(cluster) == Kind::Messages && talk::rest(self.window);
        let count = if rests { 0 } else { WINDOW_MAX as u64 };
        self.board.clusters[cluster].set(In::Last, first + count);
    }

    /// Records the last state.
    pub fn finish(&mut self, cluster: usize) {
        let _ = syscall(Args::new(Op::WhoAmI));
        self.board.clusters[cluster].set(In::Last, self.taken(cluster));
        self.board.clusters[cluster].set(In::Settled, self.board.tick());
        for (process, slot) in slots(cluster, self.process) {
            self.record(cluster, usize::MAX, Args::plain(Op::CapInspect, into(process, slot), 0, 0, 0));
        }
        let notes = match kind(cluster) {
            Kind::Capabilities => OWN_SLOTS..OWN_SLOTS + OWN_COUNT,
            Kind::Group => NOTE.0..NOTE.0 + 1,
            Kind::Messages => 0..0,
        };
        for note in notes {
            let mut args = Args::plain(Op::Wait, Cap(note).arg(), 0, 0, 0);
            args.info = args.info.flag(FLAG_NONBLOCK);
            self.record(cluster, usize::MAX, args);
        }
        if kind(cluster) == Kind::Group {
            // No offer may remain for the next window.
            for process in 0..PROCESSES {
                let who = process_cap(process).arg();
                let _ = syscall(Args::plain(Op::ProcessAccept, who, 0, 0, 0));
            }
        }
    }

    pub fn taken(&self, cluster: usize) -> u64 {
        self.board.clusters[cluster].get(In::Taken)
    }
}

/// Returns the slots of a cluster, by process, without the slot of its memory.
fn slots(cluster: usize, owner: usize) -> impl Iterator<Item = (usize, Cap)> {
    let own = move |process: usize| match kind(cluster) {
        Kind::Capabilities if process == owner => OWN_SLOTS..OWN_SLOTS + OWN_COUNT,
        Kind::Capabilities => {
            let first = lent_slot(owner, 0).0;
            first..first + LENT_COUNT
        }
        Kind::Group => {
            let first = offer(owner, 0).0;
            first..first + OFFER_COUNT
        }
        Kind::Messages => 0..0,
    };
    (0..PROCESSES).flat_map(move |process| own(process).map(move |slot| (process, Cap(slot))))
}

/// Draws one of the clusters that all workers operate on.
pub fn any(random: &mut Random) -> usize {
    random.below(CLUSTERS as u64 - 1) as usize
}

const _: () = assert!(WINDOW_MAX <= 64);
