//! The closure of taking and granting: the most that each process may ever hold and see, whatever
//! all processes do.
//!
//! The computation begins with a picture, and adds what a process may take, and what others may
//! give to it, until nothing can be added any more. It may allow too much, never too little: it
//! assumes that each process has done everything it can, in every order, and has kept what it gave
//! away.
//!
//! Later objects are made of existing memory: a holder of an Untyped may hold everything that is
//! ever made of it.

use std::collections::HashMap;

use abi::audit::may;
use abi::{ObjType, Rights, frame_rights, machine_rights, process_rights};
use snapshot::Slot;

use crate::Excess;
use crate::picture::Picture;

/// Something that can be held.
#[derive(Clone, Copy, Debug)]
struct Item {
    kind: ObjType,
    at: u64,
    /// The object's identity; 0 for memory.
    identity: u64,
    /// The bytes of memory, for everything that is made there.
    size: u64,
    label: u32,
}

/// A process; a CNode that is part of no CSpace; or an address space in which nobody lives.
#[derive(Clone, Debug)]
struct Holder {
    /// Where it is.
    at: u64,
    identity: u64,
    label: u32,
    is_process: bool,
    /// The rights to each item; `None` where the process never holds the item.
    rights: Vec<Option<Rights>>,
    /// The rights of its member records in each item that is a group.
    records: Vec<Rights>,
    /// Whether it may see each item that is a frame or memory, and whether it may write it.
    sees: Vec<Option<bool>>,
}

/// The items, and the processes that may come to hold each.
#[derive(Default)]
pub struct Bound {
    items: Vec<Item>,
    holders: Vec<Holder>,
    /// For each holder, the CNodes of its CSpace, by their items.
    tables: Vec<Vec<usize>>,
    /// For each holder, its tasks, by their items.
    tasks: Vec<Vec<usize>>,
    /// For each item that is a group, the holders whose tasks are exposed there.
    shown: Vec<Vec<usize>>,
    /// Somebody may set labels: they bind nobody.
    unlabelled: bool,
    /// The item of each object, and of each piece of an Untyped by its start and size.
    objects: HashMap<u64, usize>,
    pieces: HashMap<(u64, u64), Vec<usize>>,
    /// The items that are groups, the memory of Untypeds, and address spaces.
    groups: Vec<usize>,
    memories: Vec<usize>,
    spaces: Vec<usize>,
    changed: bool,
}

impl Bound {
    /// Computes the bound of what processes may come to hold after a picture. The processes `idle`
    /// take no part.
    pub fn of(picture: &Picture, idle: &[u64]) -> Bound {
        let mut bound = Bound { items: items(picture), ..Bound::default() };
        bound.sort_items(picture);
        bound.gather(picture, idle);
        bound.close(picture);
        bound
    }

    /// Finds the items that are groups, memory, and objects, and indexes them.
    fn sort_items(&mut self, picture: &Picture) {
        let untypeds: Vec<(u64, u64)> =
            picture.s.untypeds.iter().map(|untyped| (untyped.base, untyped.size)).collect();
        self.pieces = untypeds.into_iter().map(|piece| (piece, Vec::new())).collect();
        for (number, item) in self.items.iter().enumerate() {
            if item.size == 0 {
                self.objects.entry(item.at).or_insert(number);
            } else if let Some(items) = self.pieces.get_mut(&(item.at, item.size)) {
                items.push(number);
            }
            match (item.kind, item.size) {
                (ObjType::Group, 0) => self.groups.push(number),
                (ObjType::Untyped, 1..) => self.memories.push(number),
                (ObjType::VSpace, _) => self.spaces.push(number),
                _ => {}
            }
        }
    }

    fn gather(&mut self, picture: &Picture, idle: &[u64]) {
        let count = self.items.len();
        let holder = |at: u64, is_process: bool| {
            let thing = picture.thing(at);
            Holder {
                at,
                identity: thing.map_or(0, |thing| thing.identity),
                label: picture.label(at),
                is_process,
                rights: vec![None; count],
                records: vec![Rights::NONE; count],
                sees: vec![None; count],
            }
        };
        let acting = picture.s.processes.iter().filter(|process| !idle.contains(&process.at));
        let processes = acting.map(|process| holder(process.at, true));
        let boxes = picture.s.cnodes.iter().filter(|cnode| cnode.process == 0);
        let spaces = picture.s.vspaces.iter().filter(|space| space.process == 0);
        let others = boxes.map(|cnode| cnode.at).chain(spaces.map(|space| space.at));
        self.holders = processes.chain(others.map(|at| holder(at, false))).collect();
        self.tables = vec![Vec::new(); self.holders.len()];
        self.tasks = vec![Vec::new(); self.holders.len()];
        self.shown = vec![Vec::new(); count];
        for task in &picture.s.tasks {
            if let (Some(holder), Some(item)) = (self.holder(task.owner), self.object(task.at)) {
                self.tasks[holder].push(item);
            }
        }
        for cnode in &picture.s.cnodes {
            let of = if cnode.process == 0 { cnode.at } else { cnode.process };
            if let (Some(holder), Some(item)) = (self.holder(of), self.object(cnode.at)) {
                self.tables[holder].push(item);
            }
        }
        for slot in picture.slots() {
            self.gather_slot(picture, slot);
        }
        self.unlabelled = self.has_machine(machine_rights::SECURITY.rights());
        for group in &picture.s.groups {
            self.gather_group(picture, group.at);
        }
        for view in picture.views().iter().filter(|view| !view.plain) {
            let Some(holder) = self.resident(picture, view.space) else { continue };
            if let Some(item) = self.item_of_page(view.page) {
                self.see(holder, item, view.writable || view.lent);
            }
        }
    }

    fn gather_slot(&mut self, picture: &Picture, slot: &Slot) {
        let holder = picture.holder(slot.table);
        let holder = self.holder(if holder == 0 { slot.table } else { holder });
        let Some(holder) = holder else { return };
        if let Some(item) = self.object(slot.object) {
            self.hold(holder, item, Rights(slot.rights));
        }
        if slot.kind == ObjType::Untyped as u8 {
            let untyped = picture.s.untypeds.iter().find(|untyped| untyped.at == slot.object);
            let piece = untyped.map(|untyped| (untyped.base, untyped.size));
            let items = piece.and_then(|piece| self.pieces.get(&piece)).cloned().unwrap_or_default();
            items.into_iter().for_each(|item| self.hold(holder, item, Rights::ALL));
        }
    }

    fn gather_group(&mut self, picture: &Picture, group: u64) {
        let Some(item) = self.object(group) else { return };
        for says in picture.members(group) {
            let process = picture.process_with(says.key).and_then(|process| self.holder(process.at));
            if let Some(process) = process {
                let records = &mut self.holders[process].records[item];
                *records = records.union(says.rights);
            }
        }
        for exposure in picture.s.exposures.iter().filter(|exposure| exposure.group == group) {
            let task = picture.task(picture.exposed(exposure));
            if let Some(of) = task.and_then(|task| self.holder(task.owner)) {
                self.shown[item].push(of);
            }
        }
    }

    // --- looking up ------------------------------------------------------------------------------

    fn holder(&self, at: u64) -> Option<usize> {
        self.holders.iter().position(|holder| holder.at == at && at != 0)
    }

    /// Returns the holder that sees the pages of a space: the process that lives in it, or the
    /// space itself.
    fn resident(&self, picture: &Picture, space: u64) -> Option<usize> {
        match picture.resident(space) {
            0 => self.holder(space),
            process => self.holder(process),
        }
    }

    fn object(&self, at: u64) -> Option<usize> {
        self.objects.get(&at).copied()
    }

    fn item_of_page(&self, page: u64) -> Option<usize> {
        let within = |item: &&(usize, &Item)| {
            let Item { kind, at, size, .. } = *item.1;
            size != 0 && kind != ObjType::Group && (at..at + size).contains(&page)
        };
        let items = self.items.iter().enumerate();
        items.filter(|item| within(&item)).min_by_key(|(_, item)| item.size).map(|(number, _)| number)
    }

    // --- closing ---------------------------------------------------------------------------------

    fn hold(&mut self, holder: usize, item: usize, rights: Rights) {
        let has = &mut self.holders[holder].rights[item];
        let all = has.unwrap_or(Rights::NONE).union(rights);
        self.changed |= *has != Some(all);
        *has = Some(all);
    }

    fn see(&mut self, holder: usize, item: usize, writes: bool) {
        let has = &mut self.holders[holder].sees[item];
        let all = has.unwrap_or(false) || writes;
        self.changed |= *has != Some(all);
        *has = Some(all);
    }

    /// Returns whether a holder may come to hold an item with these rights.
    fn may(&self, holder: usize, item: usize, need: Rights) -> bool {
        self.holders[holder].rights[item].is_some_and(|has| has.contains(need))
    }

    fn may_in(&self, holder: usize, group: usize, need: Rights) -> bool {
        self.may(holder, group, need) && self.holders[holder].records[group].contains(need)
    }

    fn may_to(&self, holder: usize, group: usize, need: Rights) -> bool {
        self.may(holder, group, need.union(Rights::DELETE)) || self.may_in(holder, group, need)
    }

    fn close(&mut self, picture: &Picture) {
        self.changed = true;
        while core::mem::take(&mut self.changed) {
            for from in 0..self.holders.len() {
                for to in 0..self.holders.len() {
                    if from != to {
                        self.give(picture, from, to);
                        self.join_new(from, to);
                    }
                }
                self.map(picture, from);
            }
            for number in 0..self.groups.len() {
                self.join(picture, self.groups[number]);
            }
        }
    }

    /// Adds the rights and the views that one holder may pass to another.
    fn give(&mut self, picture: &Picture, from: usize, to: usize) {
        let stores = self.tables[to].iter().any(|table| self.may(from, *table, Rights::GRANT));
        // A table that is made later can become part of the other's CSpace.
        let stores = stores || self.has_memory(from) && self.names(from, to);
        // A table can become part of a CSpace with all that it holds, as soon as it serves nobody:
        // its process may end.
        let takes =
            self.holders[to].is_process && self.tables[from].iter().any(|table| self.serves(*table, to));
        let acts = self.holders[from].is_process;
        let answers = acts && self.calls(to, from, Rights::NONE);
        if takes || acts && stores || answers || acts && self.calls(from, to, Rights::GRANT) {
            for item in 0..self.items.len() {
                let Some(rights) = self.holders[from].rights[item] else { continue };
                // What is in a table was asked of the table's label when it came there, and a
                // process takes tables of its own.
                let along = takes && (self.unlabelled || self.holders[from].label == self.holders[to].label);
                if along || self.may_come(picture, from, to, item, may::GRANT) {
                    self.hold(to, item, rights);
                }
            }
        }
        // So can a space: its pages stay there.
        let at =
            picture.process(self.holders[from].at).map_or(self.holders[from].at, |process| process.vspace);
        let space = self.object(at).filter(|item| self.items[*item].kind == ObjType::VSpace);
        let moves_in = self.holders[to].is_process && space.is_some_and(|space| self.serves(space, to));
        // Of memory that both have a space can be made, through which pages go.
        if moves_in || answers || acts && (self.calls(from, to, Rights::MAP) || self.share_memory(from, to)) {
            self.show_pages(picture, from, to);
        }
    }

    /// Returns whether any holder may make a table part of a process's CSpace, or a space its
    /// address space.
    fn serves(&self, item: usize, process: usize) -> bool {
        let right = if self.items[item].kind == ObjType::VSpace { Rights::MAP } else { Rights::GRANT };
        let object = self.object(self.holders[process].at);
        (0..self.holders.len()).any(|by| {
            let configures = object.is_some_and(|it| self.may(by, it, process_rights::CONFIGURE.rights()));
            self.may(by, item, right) && (by == process || configures)
        })
    }

    /// Returns whether labels let `by` bring an item to `to`, in a way ([`may`]). An object that is
    /// made of memory without label gets its maker's label.
    fn may_come(&self, picture: &Picture, by: usize, to: usize, item: usize, way: u8) -> bool {
        let Item { size, label, .. } = self.items[item];
        let (subject, maker) = (self.holders[to].label, self.holders[by].label);
        self.unlabelled
            || picture.allows(subject, label, way)
            || size != 0 && label == 0 && picture.allows(subject, maker, way)
    }

    /// Returns whether the holder `from` may call the process `to`, or send it an event.
    fn calls(&self, from: usize, to: usize, need: Rights) -> bool {
        let groups = self.groups.iter().copied();
        let mut groups = groups.filter(|group| self.may_in(from, *group, Rights::SEND.union(need)));
        self.holders[to].is_process
            && (self.may_meet(from, to) || groups.any(|group| self.receives(to, group)))
    }

    /// Returns whether any holder of memory may make a group in which `one` and `other` are
    /// members, and are exposed.
    fn may_meet(&self, one: usize, other: usize) -> bool {
        (0..self.holders.len()).any(|by| {
            self.memories.iter().any(|item| self.may(by, *item, Rights::NONE))
                && self.names(by, one)
                && self.names(by, other)
        })
    }

    /// Returns whether `by` is the process `of`, or may hold a capability of it; or whether both
    /// may hold some memory, of which a process can be made that connects them.
    fn names(&self, by: usize, of: usize) -> bool {
        let named =
            self.object(self.holders[of].at).is_some_and(|process| self.may(by, process, Rights::NONE));
        by == of || named || self.share_memory(by, of)
    }

    fn has_memory(&self, holder: usize) -> bool {
        self.share_memory(holder, holder)
    }

    fn share_memory(&self, one: usize, other: usize) -> bool {
        let has = |by: usize, item: usize| self.may(by, item, Rights::NONE);
        self.memories.iter().any(|item| has(one, *item) && has(other, *item))
    }

    /// Adds memberships for the process `to`: if `by` holds memory and can name `to`, it may add
    /// `to` to groups that it makes of that memory.
    fn join_new(&mut self, by: usize, to: usize) {
        for number in 0..self.memories.len() {
            let memory = self.memories[number];
            if !self.may(by, memory, Rights::NONE) || !self.names(by, to) {
                continue;
            }
            let Item { at, size, .. } = self.items[memory];
            let items = self.pieces.get(&(at, size)).into_iter().flatten();
            let groups = items.copied().find(|item| self.items[*item].kind == ObjType::Group);
            if let Some(groups) = groups {
                self.hold(to, groups, abi::MEMBER_RIGHTS.minus(Rights::DELETE));
            }
        }
    }

    /// Returns whether messages in a group may reach a process: it listens, or some holder may
    /// expose one of its tasks.
    fn receives(&self, process: usize, group: usize) -> bool {
        let exposes = |by: usize| self.may_to(by, group, Rights::LISTEN) && self.has_task_of(by, process);
        self.shown[group].contains(&process)
            || self.holders[process].records[group].contains(Rights::LISTEN)
            || (0..self.holders.len()).any(exposes)
    }

    /// Whether a process may come to hold a task of another: an existing one, or one that is made
    /// later by a process that may make tasks there.
    fn has_task_of(&self, by: usize, process: usize) -> bool {
        let makes = |maker: usize| {
            let configures = |item| self.may(maker, item, process_rights::CONFIGURE.rights());
            maker == process || self.object(self.holders[process].at).is_some_and(configures)
        };
        let gives = |maker: &usize| *maker == by || self.share_memory(*maker, by);
        by == process
            || self.tasks[process].iter().any(|task| self.may(by, *task, Rights::LISTEN))
            || (0..self.holders.len()).filter(|maker| makes(*maker)).any(|maker| gives(&maker))
    }

    /// Adds the views of `from` to `to`, to which it may show them. A process that gets a page as a
    /// copy can write it once no other process sees it, because the page is its own then.
    fn show_pages(&mut self, picture: &Picture, from: usize, to: usize) {
        for item in 0..self.items.len() {
            if self.holders[from].sees[item].is_none() {
                continue;
            }
            if self.may_come(picture, from, to, item, may::READ) {
                self.see(to, item, self.may_come(picture, from, to, item, may::WRITE));
            }
        }
    }

    /// Adds the views that a process may map into its own space, or into other spaces that it
    /// holds.
    fn map(&mut self, picture: &Picture, by: usize) {
        let spaces = self.spaces.iter().copied();
        let spaces: Vec<usize> = spaces.filter(|space| self.may(by, *space, Rights::MAP)).collect();
        let residents = spaces.iter().filter_map(|space| self.resident(picture, self.items[*space].at));
        let residents: Vec<usize> = residents.collect();
        for item in 0..self.items.len() {
            let Item { kind, at, size, .. } = self.items[item];
            let frame = size == 0 && kind == ObjType::Frame;
            if !(frame || size != 0) || kind == ObjType::Group || !self.may(by, item, Rights::MAP) {
                continue;
            }
            let page = if frame { picture.frame(at).map_or(0, |frame| frame.base) } else { at };
            let Some(memory) = (if frame { self.item_of_page(page) } else { Some(item) }) else { continue };
            let writes = self.may(by, item, frame_rights::WRITE.rights());
            for to in &residents {
                if self.may_come(picture, by, *to, item, may::READ) {
                    self.see(*to, memory, writes);
                }
            }
        }
        for from in &residents {
            for to in residents.iter().filter(|to| *to != from) {
                self.show_pages(picture, *from, *to);
            }
        }
    }

    /// Adds memberships of a group for the processes that may become its members.
    fn join(&mut self, picture: &Picture, group: usize) {
        for by in 0..self.holders.len() {
            if !self.may_to(by, group, Rights::ADD) {
                continue;
            }
            let Some(cap) = self.holders[by].rights[group] else { continue };
            let is_maker = cap.contains(Rights::DELETE);
            let gives = if is_maker { cap } else { self.holders[by].records[group] };
            let gives = gives.and(abi::MEMBER_RIGHTS);
            for to in 0..self.holders.len() {
                // An owner of memory makes processes, which join, and keeps their tables when they
                // are gone: with a capability that names a record of nobody.
                if self.has_memory(to) {
                    self.hold(to, group, gives.and(cap).minus(Rights::DELETE));
                }
                let process = self.object(self.holders[to].at);
                let named = process.is_some_and(|process| self.may(by, process, Rights::NONE));
                let (subject, object) = (self.holders[to].label, self.items[group].label);
                if named && (self.unlabelled || picture.allows(subject, object, may::JOIN)) {
                    let records = self.holders[to].records[group].union(gives);
                    self.changed |= records != self.holders[to].records[group];
                    self.holders[to].records[group] = records;
                    self.hold(to, group, gives.and(cap).minus(Rights::DELETE));
                }
            }
        }
    }

    // --- judging ---------------------------------------------------------------------------------

    /// Reports everything in a later picture that the bound does not allow.
    pub fn judge(&self, picture: &Picture, out: &mut Vec<Excess>) {
        let known = |at: u64| {
            let thing = picture.thing(at)?;
            let holder = self.holder(at)?;
            (self.holders[holder].identity == thing.identity).then_some(holder)
        };
        for slot in picture.slots() {
            let Some(holder) = known(picture.holder(slot.table)) else { continue };
            if !self.may_hold(picture, holder, slot) {
                let number = self.holders[holder].identity;
                let what =
                    format!("{:?}", picture.thing(slot.object).map(|thing| (thing.kind, thing.identity)));
                let what = format!("process {number:#x} holds {what} with rights {:#x}", slot.rights);
                out.push(Excess { rule: "bound", what });
            }
        }
        for view in picture.views().iter().filter(|view| view.present && !view.plain) {
            let Some(holder) = known(picture.resident(view.space)) else { continue };
            let Some(item) = self.item_of_page(view.page) else { continue };
            let allowed = self.holders[holder].sees[item].is_some_and(|writes| writes || !view.writable);
            let is_made = |n: usize| self.may(holder, n, Rights::MAP) && self.items[n].size != 0;
            let made =
                |n: &usize| (self.items[*n].at..self.items[*n].at + self.items[*n].size).contains(&view.page);
            if !allowed && !(0..self.items.len()).filter(made).any(is_made) {
                let number = self.holders[holder].identity;
                let what =
                    format!("process {number:#x} sees page {:#x} (writable: {})", view.page, view.writable);
                out.push(Excess { rule: "bound", what });
            }
        }
    }

    fn may_hold(&self, picture: &Picture, holder: usize, slot: &Slot) -> bool {
        let Some(thing) = picture.thing(slot.object) else { return true };
        self.items.iter().enumerate().any(|(number, item)| {
            let within = (item.at..item.at + item.size).contains(&thing.at);
            let fits = match item.kind {
                _ if item.size == 0 => item.at == thing.at && item.identity == thing.identity,
                ObjType::Group => within && thing.kind == ObjType::Group,
                _ => within,
            };
            fits && self.may(holder, number, Rights(slot.rights))
        })
    }

    /// Returns whether the bound lets a process hold an object with these rights, both by their
    /// identities. An object that the first picture does not show was made of memory that has its
    /// label.
    pub fn lets_hold(&self, process: u64, object: u64, label: u32, rights: Rights) -> bool {
        let Some(holder) = self.holders.iter().position(|holder| holder.identity == process) else {
            return false;
        };
        match self.items.iter().position(|item| item.size == 0 && item.identity == object) {
            Some(item) => self.may(holder, item, rights),
            None => {
                let made = |item: &&usize| self.items[**item].label == label && label != 0;
                self.memories.iter().filter(made).any(|item| self.may(holder, *item, Rights::NONE))
            }
        }
    }

    /// Returns whether any process may ever set pins, and so may let devices access memory.
    pub fn has_dma(&self) -> bool {
        self.has_machine(machine_rights::DMA.rights())
    }

    /// Returns whether any process may hold a capability of the Machine with these rights.
    fn has_machine(&self, need: Rights) -> bool {
        let machine = |item: &usize| self.items[*item].kind == ObjType::Machine;
        let has = |item: usize| (0..self.holders.len()).any(|by| self.may(by, item, need));
        (0..self.items.len()).filter(machine).any(has)
    }
}

/// Returns a list of what capabilities may be of, now or later: all objects, the memory of each
/// Untyped, the pages of each Frame, and for the memory of each Untyped the Group objects that can
/// be made of it.
fn items(picture: &Picture) -> Vec<Item> {
    let objects = picture.things().iter().map(|thing| Item {
        kind: thing.kind,
        at: thing.at,
        identity: thing.identity,
        size: 0,
        label: thing.label,
    });
    let memory = picture.s.untypeds.iter().map(|untyped| Item {
        kind: ObjType::Untyped,
        at: untyped.base,
        identity: 0,
        size: untyped.size,
        label: untyped.label,
    });
    let frames = picture.s.frames.iter().map(|frame| Item {
        kind: ObjType::Frame,
        at: frame.base,
        identity: 0,
        size: u64::from(frame.pages) << frame.log2,
        label: frame.label,
    });
    let groups = memory.clone().map(|item| Item { kind: ObjType::Group, ..item });
    objects.chain(memory).chain(frames).chain(groups).collect()
}
