//! A snapshot with indices for the rules: the process of each slot, the page at each address, the
//! record of each member.

use abi::audit::may;
use abi::{MEMBER_RIGHTS, ObjType, Rights};
use invariants::Snapshot;
use invariants::pte::{Pte, What};
use snapshot::{Exposure, Frame, Member, Notification, Object, Process, Slot, State, Task};

/// What each kind of object has in common.
#[derive(Clone, Copy, Debug)]
pub struct Thing {
    /// Where it is.
    pub at: u64,
    /// Which object type it has.
    pub kind: ObjType,
    /// The number that no other object ever has.
    pub identity: u64,
    /// The security label.
    pub label: u32,
    /// It is destroyed, or is being destroyed.
    pub ends: bool,
    /// Its number in the snapshot's list of its kind.
    pub number: usize,
}

/// A page that an address space shows at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// The VSpace.
    pub space: u64,
    /// The address there.
    pub address: u64,
    /// The page.
    pub page: u64,
    /// Programs may use the entry now. An entry of a page in transit shows nothing.
    pub present: bool,
    /// Programs may write, or could before the page was lent.
    pub writable: bool,
    /// The page is one of a page pool.
    pub pooled: bool,
    /// No Frame stands for the page: it is part of a task or of an event pool.
    pub plain: bool,
    /// The entry was writable before the page was to be shared.
    pub lent: bool,
}

/// What a member record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Says {
    /// The key of the process.
    pub key: u64,
    /// The rights of the member.
    pub rights: Rights,
    /// The custom bits.
    pub custom: u64,
}

impl Says {
    /// Returns what a member record says, if it is one of a member.
    pub fn of(member: &Member) -> Option<Says> {
        let says = Says {
            key: member.process_key,
            rights: Rights(member.rights).and(MEMBER_RIGHTS),
            custom: u64::from(member.custom),
        };
        (member.word != 0).then_some(says)
    }
}

/// A snapshot, and tables that find its records. All tables are sorted.
#[derive(Default, Clone)]
pub struct Picture {
    /// The records.
    pub s: Snapshot,
    things: Vec<Thing>,
    /// The process whose CSpace each CNode is part of; 0 if none.
    holders: Vec<(u64, u64)>,
    /// Full slots by where they are.
    slots: Vec<(u64, usize)>,
    views: Vec<View>,
}

impl Picture {
    /// Empties the picture, and returns the place for new records. The caller fills it, and then
    /// calls [`Picture::index`].
    pub fn begin(&mut self) -> &mut Snapshot {
        self.s.clear();
        &mut self.s
    }

    /// Makes the tables by which objects, slots and views are found.
    pub fn index(&mut self) {
        self.things.clear();
        let things = &mut self.things;
        fn thing(object: &impl Object, kind: ObjType, number: usize) -> Thing {
            let ends = object.is_dead() || object.is_dying();
            Thing { at: object.at(), kind, identity: object.identity(), label: object.label(), ends, number }
        }
        macro_rules! add {
            ($($list:ident $kind:ident,)*) => {
                $(things.extend(self.s.$list.iter().enumerate().map(|(n, it)| thing(it, ObjType::$kind, n)));)*
            };
        }
        add! {
            untypeds Untyped, cnodes CNode, vspaces VSpace, frames Frame, processes Process, tasks Task,
            contexts SchedContext, groups Group, notifications Notification, replies Reply, machines Machine,
            pools EventPool, controls SchedControl, irqs IrqHandler, ports IoPort,
        }
        self.things.sort_unstable_by_key(|thing| thing.at);
        self.find_holders();
        let full = self.s.slots.iter().enumerate().filter(|(_, slot)| slot.kind != 0);
        self.slots.clear();
        self.slots.extend(full.map(|(number, slot)| (slot.at, number)));
        self.slots.sort_unstable();
        self.find_views();
    }

    fn find_holders(&mut self) {
        self.holders.clear();
        let Self { s, holders, .. } = self;
        holders.extend(s.cnodes.iter().map(|cnode| (cnode.at, cnode.process)));
        holders.sort_unstable();
    }

    fn find_views(&mut self) {
        self.views.clear();
        for entry in &self.s.entries {
            let pte = Pte(entry.word);
            let what = pte.what(entry.level);
            if !matches!(what, What::Page | What::Transit) {
                continue;
            }
            self.views.push(View {
                space: entry.space,
                address: entry.address,
                page: pte.at(),
                present: what == What::Page,
                writable: pte.is_writable(),
                pooled: pte.is_pooled(),
                plain: pte.is_plain(),
                lent: pte.is_lent(),
            });
        }
        self.views.sort_unstable_by_key(|view| (view.space, view.address));
    }

    // --- objects ---------------------------------------------------------------------------------

    /// Returns all objects.
    pub fn things(&self) -> &[Thing] {
        &self.things
    }

    /// Returns the object at an address.
    pub fn thing(&self, at: u64) -> Option<&Thing> {
        let found = self.things.binary_search_by_key(&at, |thing| thing.at).ok()?;
        self.things.get(found)
    }

    /// Returns the object that is `of` in another picture: at the same address, with the same
    /// identity.
    pub fn again(&self, of: &Thing) -> Option<&Thing> {
        self.thing(of.at).filter(|thing| thing.identity == of.identity && thing.kind == of.kind)
    }

    fn number(&self, at: u64, kind: ObjType) -> Option<usize> {
        self.thing(at).filter(|thing| thing.kind == kind).map(|thing| thing.number)
    }

    /// Returns the process at an address.
    pub fn process(&self, at: u64) -> Option<&Process> {
        self.s.processes.get(self.number(at, ObjType::Process)?)
    }

    /// Returns the process with a key.
    pub fn process_with(&self, key: u64) -> Option<&Process> {
        self.s.processes.iter().find(|process| process.key == key)
    }

    /// Returns the task at an address.
    pub fn task(&self, at: u64) -> Option<&Task> {
        self.s.tasks.get(self.number(at, ObjType::Task)?)
    }

    /// Returns the Frame at an address.
    pub fn frame(&self, at: u64) -> Option<&Frame> {
        self.s.frames.get(self.number(at, ObjType::Frame)?)
    }

    /// Returns the Notification at an address.
    pub fn notification(&self, at: u64) -> Option<&Notification> {
        self.s.notifications.get(self.number(at, ObjType::Notification)?)
    }

    /// Returns the process that lives in a VSpace; 0: none.
    pub fn resident(&self, space: u64) -> u64 {
        let number = self.number(space, ObjType::VSpace);
        number.and_then(|number| self.s.vspaces.get(number)).map_or(0, |space| space.process)
    }

    // --- slots -----------------------------------------------------------------------------------

    /// Returns the process whose CSpace a table is part of; 0: none.
    pub fn holder(&self, table: u64) -> u64 {
        let found = self.holders.binary_search_by_key(&table, |(cnode, _)| *cnode);
        found.map_or(0, |at| self.holders[at].1)
    }

    /// Returns all full slots, in the order of their addresses.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter_map(|(_, number)| self.s.slots.get(*number))
    }

    /// Returns the full slot at an address.
    pub fn slot(&self, at: u64) -> Option<&Slot> {
        let found = self.slots.binary_search_by_key(&at, |(slot, _)| *slot).ok()?;
        self.s.slots.get(self.slots[found].1)
    }

    /// Returns the number of a slot in a process's CSpace. The tables are numbered one after the
    /// other.
    pub fn number_in(&self, process: u64, slot: &Slot) -> u64 {
        let first = self.process(process).map_or(0, |process| process.cnode);
        let (mut at, mut behind) = (first, 0);
        while let Some(cnode) = self.s.cnodes.iter().find(|cnode| cnode.at == at) {
            if cnode.at == slot.table {
                return behind + u64::from(slot.number);
            }
            behind += u64::from(cnode.slots);
            at = cnode.more;
        }
        0
    }

    /// Returns the slot from which a slot's capability was derived.
    pub fn parent(&self, slot: &Slot) -> Option<&Slot> {
        let mut before = self.slot(slot.prev)?;
        for _ in 0..self.slots.len() {
            if before.depth < slot.depth {
                return Some(before);
            }
            before = self.slot(before.prev)?;
        }
        None
    }

    /// Returns whether this picture and `of` show the same capability in a slot. Its rights count,
    /// its place in the tree does not.
    pub fn has_still(&self, slot: &Slot, of: &Picture) -> bool {
        self.slot(slot.at).is_some_and(|now| {
            let same = (now.object, now.kind, now.rights, now.badge);
            let identity = |picture: &Picture| picture.thing(slot.object).map(|thing| thing.identity);
            same == (slot.object, slot.kind, slot.rights, slot.badge) && identity(self) == identity(of)
        })
    }

    // --- groups ----------------------------------------------------------------------------------

    /// Returns the member record of a group at an index.
    pub fn member(&self, group: u64, number: u64) -> Option<Says> {
        let found = |member: &&Member| member.group == group && u64::from(member.number) == number;
        self.s.members.iter().find(found).and_then(Says::of)
    }

    /// Returns all member records of a group.
    pub fn members(&self, group: u64) -> impl Iterator<Item = Says> {
        self.s.members.iter().filter(move |member| member.group == group).filter_map(Says::of)
    }

    /// Returns the object that an exposure shows; 0: none.
    pub fn exposed(&self, exposure: &Exposure) -> u64 {
        self.slot(exposure.slot).map_or(0, |slot| slot.object)
    }

    /// Returns the exposure of a group with a number.
    pub fn exposure(&self, group: u64, number: u32) -> Option<&Exposure> {
        self.s.exposures.iter().find(|it| it.group == group && it.number == number)
    }

    // --- memory ----------------------------------------------------------------------------------

    /// Returns all pages that address spaces show, in the order of spaces and addresses.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Returns the page that a space shows at an address.
    pub fn view(&self, space: u64, address: u64) -> Option<&View> {
        let found = self.views.binary_search_by_key(&(space, address), |view| (view.space, view.address));
        self.views.get(found.ok()?)
    }

    /// Returns the views of one page.
    pub fn views_of(&self, page: u64) -> impl Iterator<Item = &View> {
        self.views.iter().filter(move |view| view.page == page)
    }

    /// Whether a Frame has a page.
    pub fn has_page(frame: &Frame, page: u64) -> bool {
        (frame.base..frame.base + (u64::from(frame.pages) << frame.log2)).contains(&page)
    }

    /// Returns the object to whose memory a page belongs.
    pub fn owner_of(&self, page: u64) -> Option<&Thing> {
        let frame = self.s.frames.iter().find(|frame| Picture::has_page(frame, page)).map(|frame| frame.at);
        let task = || self.s.tasks.iter().find(|task| task.utcb == page).map(|task| task.at);
        let pool = || {
            let its =
                |base: u64, pages: u32| (base..base + u64::from(pages) * abi::PAGE_SIZE).contains(&page);
            self.s.pools.iter().find(|pool| its(pool.base, pool.pages)).map(|pool| pool.at)
        };
        self.thing(frame.or_else(task).or_else(pool)?)
    }

    // --- labels ----------------------------------------------------------------------------------

    /// Returns whether the rules of labels let subjects of one label do `what` with objects of
    /// another.
    pub fn allows(&self, subject: u32, object: u32, what: u8) -> bool {
        let rule = |rule: &&snapshot::LabelRule| rule.subject == subject && rule.object == object;
        let forbidden = self.s.label_rules.iter().find(rule).map_or(0, |rule| rule.forbidden);
        subject == 0 || forbidden & u32::from(what & may::ALL) == 0
    }

    /// Returns the label of the object at an address.
    pub fn label(&self, at: u64) -> u32 {
        self.thing(at).map_or(0, |thing| thing.label)
    }

    // --- who acts --------------------------------------------------------------------------------

    /// Returns the processes that may act at any moment, because they wait for something: for a
    /// message that no task has received, or for another CPU.
    pub fn pending(&self) -> impl Iterator<Item = u64> {
        let waits = |task: &&Task| match task.state {
            State::Sending | State::Await | State::AwaitTimed | State::AwaitRemote => {
                task.stage != snapshot::Stage::Owed
            }
            State::Restart => true,
            _ => false,
        };
        self.s.tasks.iter().filter(waits).map(|task| task.owner).filter(|owner| *owner != 0)
    }
}
