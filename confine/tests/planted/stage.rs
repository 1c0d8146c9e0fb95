//! Small states that are made by hand: three processes with a CNode, an address space and a task
//! each, and the objects that a plant adds.

use abi::{ObjType, Rights};
use confine::{Bound, Excess, Judge, Offer, OfferKind, Picture};
use invariants::Snapshot;
use snapshot::{
    CNode, Context, Control, Cpu, Entry, Exposure, Frame, Group, LabelRule, Machine, Member, Notification,
    Pool, Process, Reply, Slot, SlotUse, State, Task, Untyped, VSpace,
};

/// The process that acts, another one, and a third.
pub const A: u64 = 1;
pub const B: u64 = 2;
pub const C: u64 = 3;

/// Objects that are there from the beginning.
pub const NOTE: u64 = 0x10_0000;
pub const GROUP: u64 = 0x11_0000;
pub const FRAME: u64 = 0x12_0000;
pub const PAGE: u64 = 0x20_0000;
pub const MACHINE: u64 = 0x13_0000;
pub const UNTYPED: u64 = 0x14_0000;
pub const MEMORY: u64 = 0x80_0000;
pub const REPLY: u64 = 0x15_0000;
pub const CONTEXT: u64 = 0x16_0000;
pub const CONTROL: u64 = 0x1f_0000;
pub const POOL: u64 = 0x17_0000;
pub const POOL_PAGE: u64 = 0x30_0000;
/// A table that is part of no CSpace, a space in which nobody lives, a task that is not configured,
/// another Frame.
pub const TABLE: u64 = 0x18_0000;
pub const SPACE: u64 = 0x19_0000;
pub const NEW_TASK: u64 = 0x1a_0000;
pub const ADDRESS: u64 = 0x6000_0000;
/// The bit that pools raise.
const POOL_BIT: u64 = 1 << 40;

pub const PRESENT: u64 = 1;
pub const WRITE: u64 = 2;
pub const PLAIN: u64 = 1 << 9;
pub const POOLED: u64 = 1 << 52;
pub const LENT: u64 = 1 << 54;

const fn of(process: u64, what: u64) -> u64 {
    process << 16 | what
}

pub const fn process(number: u64) -> u64 {
    of(number, 0x1000)
}

pub const fn cnode(number: u64) -> u64 {
    of(number, 0x2000)
}

pub const fn space(number: u64) -> u64 {
    of(number, 0x3000)
}

pub const fn task(number: u64) -> u64 {
    of(number, 0x4000)
}

pub const fn utcb(number: u64) -> u64 {
    of(number, 0x5000) + 0x1000_0000
}

/// A state, and what goes with it.
#[derive(Clone, Default)]
pub struct Stage {
    pub s: Snapshot,
    pub offers: Vec<Offer>,
    /// The process that acts beside process A.
    pub others: Vec<u64>,
    next: u32,
}

macro_rules! objects {
    ($s:expr, $($list:ident: $type:ident { $($field:ident: $value:expr),* };)*) => {
        $($s.$list.push($type { $($field: $value,)* ..$type::default() });)*
    };
}

impl Stage {
    pub fn new() -> Stage {
        let mut stage = Stage::default();
        for number in [A, B, C] {
            stage.process(number);
        }
        objects! { stage.s,
            cpus: Cpu {};
            notifications: Notification { at: NOTE, identity: NOTE };
            groups: Group { at: GROUP, identity: GROUP };
            frames: Frame { at: FRAME, identity: FRAME, base: PAGE, log2: 12, pages: 1 };
            machines: Machine { at: MACHINE, identity: MACHINE };
            untypeds: Untyped { at: UNTYPED, identity: UNTYPED, base: MEMORY, size: 0x1_0000 };
            replies: Reply { at: REPLY, identity: REPLY };
            contexts: Context { at: CONTEXT, identity: CONTEXT, priority: 5 };
            controls: Control { at: CONTROL, identity: CONTROL, bound: 10, cpus: 1 };
            pools: Pool { at: POOL, identity: POOL, base: POOL_PAGE, pages: 2, writable_pages: 1 };
            cnodes: CNode { at: TABLE, identity: TABLE, slots_at: TABLE + 0x100, slots: 16 };
            vspaces: VSpace { at: SPACE, identity: SPACE };
            tasks: Task { at: NEW_TASK, identity: NEW_TASK, state: State::Ready };
        }
        stage
    }

    fn process(&mut self, n: u64) {
        objects! { self.s,
            cnodes: CNode { at: cnode(n), identity: cnode(n), slots_at: cnode(n) + 0x100, slots: 16, process: process(n) };
            vspaces: VSpace { at: space(n), identity: space(n), process: process(n) };
            processes: Process {
                at: process(n), identity: process(n), key: n, cnode: cnode(n), vspace: space(n)
            };
            tasks: Task {
                at: task(n), identity: task(n), id: n, owner: process(n), process: process(n), space: space(n),
                utcb: utcb(n), state: State::Ready
            };
        }
    }

    /// Gives process A a capability.
    pub fn hold(&mut self, object: u64, rights: impl Into<Rights>) -> u64 {
        self.next += 1;
        self.put(cnode(A), self.next, object, rights.into(), 0)
    }

    /// Puts a capability into a slot. Returns its address.
    pub fn put(
        &mut self,
        table: u64,
        number: u32,
        object: u64,
        rights: impl Into<Rights>,
        badge: u64,
    ) -> u64 {
        let at = table + 0x100 + u64::from(number) * 0x40;
        self.s.slots.retain(|slot| slot.at != at);
        let (kind, used) = (self.kind(object) as u8, SlotUse::Full);
        let rights = rights.into().0;
        self.s.slots.push(Slot { at, table, number, used, kind, object, rights, badge, ..Slot::default() });
        at
    }

    /// Empties the slot at an address.
    pub fn clear(&mut self, at: u64) {
        self.s.slots.retain(|slot| slot.at != at);
    }

    fn kind(&self, object: u64) -> ObjType {
        let mut picture = Picture::default();
        *picture.begin() = self.s.clone();
        picture.index();
        picture.thing(object).map_or(ObjType::Notification, |thing| thing.kind)
    }

    /// Sets a record of a group: its process, rights and custom bits.
    pub fn record(&mut self, number: u32, key: u64, rights: impl Into<Rights>, custom: u64) {
        let rights: Rights = rights.into();
        self.s.members.retain(|member| member.number != number);
        self.s.members.push(Member {
            group: GROUP,
            number,
            word: 1,
            process_key: key,
            rights: rights.0,
            custom: custom as u32,
            ..Member::default()
        });
    }

    /// Makes process A a member, as far as its record says.
    pub fn joins(&mut self, record: impl Into<Rights>) {
        self.record(1, A, record, 0);
    }

    /// Gives process A a capability of the group, for its record.
    pub fn member(&mut self, rights: impl Into<Rights>) -> u64 {
        self.next += 1;
        self.put(cnode(A), self.next, GROUP, rights, 8)
    }

    /// Exposes an object in the group, for a process by its number; 0: for none.
    pub fn show(&mut self, number: u32, object: u64, owner: u64) {
        let at = GROUP + 0x100 + u64::from(number) * 0x40;
        let (used, kind) = (SlotUse::Full, self.kind(object) as u8);
        self.s.slots.push(Slot { at, table: GROUP, number, used, kind, object, ..Slot::default() });
        let owner = if owner == 0 { 0 } else { process(owner) };
        let exposure = Exposure { group: GROUP, number, slot: at, owner, ..Exposure::default() };
        self.s.exposures.push(exposure);
    }

    /// Offers slots, or addresses, of a process for messages.
    pub fn offer(&mut self, number: u64, kind: OfferKind, first: u64, count: u64) {
        self.offers.push(Offer { process: process(number), first, count, kind });
    }

    /// Maps a page in a space.
    pub fn map(&mut self, space: u64, page: u64, bits: u64) {
        let word = page | PRESENT | 4 | bits;
        self.s.entries.retain(|entry| entry.space != space || entry.address != ADDRESS);
        self.s.entries.push(Entry { space, level: 1, address: ADDRESS, word, ..Entry::default() });
    }

    /// Forbids subjects of a label to do something with objects of another.
    pub fn forbid(&mut self, subject: u32, object: u32, what: u8) {
        self.s.label_rules.push(LabelRule { subject, object, forbidden: u32::from(what) });
    }

    pub fn its_task(&mut self, at: u64) -> &mut Task {
        self.s.tasks.iter_mut().find(|task| task.at == at).expect("the task")
    }

    pub fn its_process(&mut self, number: u64) -> &mut Process {
        self.s.processes.iter_mut().find(|it| it.at == process(number)).expect("the process")
    }

    pub fn picture(&self) -> Picture {
        let mut picture = Picture::default();
        *picture.begin() = self.s.clone();
        picture.index();
        picture
    }

    /// Returns what the oracle says about the step from this state to another: process A has made a
    /// system call.
    pub fn judge(&self, after: &Stage) -> Vec<Excess> {
        let (before, after) = (self.picture(), after.picture());
        let acts: Vec<u64> = [process(A)].into_iter().chain(self.others.iter().copied()).collect();
        Judge::new(POOL_BIT).judge(&before, &after, &acts, &self.offers).to_vec()
    }

    /// Returns what the closure from this state says about another.
    pub fn bound(&self, after: &Stage) -> Vec<Excess> {
        let mut found = Vec::new();
        Bound::of(&self.picture(), &[]).judge(&after.picture(), &mut found);
        found
    }
}
