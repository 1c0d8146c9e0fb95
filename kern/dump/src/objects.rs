//! The survey's records of capabilities, processes, groups and objects that one CPU owns.

use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use abi::events::EventControl;
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, MEMBER_KEY_SHIFT, Membership};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::slot::{CNode, Slot};
use smp::door::Ref;
use snapshot::{ExtentKind, Member, Sink, SlotUse, TaskNumber};

use super::{Still, Survey, object};
use kern_core::MachineObject;
use kern_core::caps::slots::CLAIMED;

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn cnode(&mut self, cnode: Ref<'k, CNode>) {
        let record = object!(
            self,
            cnode,
            CNode {
                slots_at: self.at(cnode.get().slots.get_or_first(self.pin(), 0).addr()),
                slots: cnode.get().slots.known().len() as u32,
                process: self.at(cnode.get().process.addr()),
                more: self.at(cnode.get().more.addr()),
                next_zombie: self.at(cnode.get().next_zombie.addr()),
            }
        );
        self.sink.cnode(&record);
        self.extent(record.at, size_of::<CNode>() as u64, record.at, ExtentKind::Object);
        let slots = cnode.get().slots.known();
        self.table_of(slots.get(self.pin(), 0), slots.len(), record.at);
        let blank = |slot: &Ref<'k, Slot>| slot.get().is_blank(CLAIMED);
        for (number, slot) in (0..).zip(slots.iter(self.pin())).filter(|(_, slot)| !blank(slot)) {
            self.slot(record.at, number, slot);
        }
    }

    /// Records a slot. A slot that has been empty for long is left out.
    fn slot(&mut self, table: u64, number: u32, slot: Ref<'k, Slot>) {
        let word = slot.get().word.glance(self.pin());
        let is_full = word.object_type() != 0;
        if slot.get().is_blank(CLAIMED) {
            return;
        }
        let used = match word.empty_value() {
            _ if is_full => SlotUse::Full,
            CLAIMED => SlotUse::Claimed,
            stamp if stamp > CLAIMED => SlotUse::Emptying,
            _ => SlotUse::Empty,
        };
        self.sink.slot(&snapshot::Slot {
            at: self.at(slot.addr()),
            table,
            number,
            used,
            kind: word.object_type(),
            object: if is_full { self.at(word.addr()) } else { 0 },
            rights: if is_full { word.rights() } else { 0 },
            depth: u32::from(slot.get().depth()),
            badge: slot.get().badge(),
            next: self.at(slot.get().next.addr()),
            prev: self.at(slot.get().prev.addr()),
        });
    }

    pub fn machine(&mut self, machine: Ref<'k, MachineObject>) {
        let record = object!(self, machine, Machine {});
        self.sink.machine(&record);
        self.extent(record.at, size_of::<MachineObject>() as u64, record.at, ExtentKind::Object);
    }

    pub fn process(&mut self, process: Ref<'k, Process>) {
        let (cspace_at, cspace_len) = process.get().published_cspace();
        let first = process.get().memberships.try_lock(self.cx.cpu).map(|list| list.addr());
        let offered = process.get().offer.get();
        let record = object!(
            self,
            process,
            Process {
                key: process.get().key().raw(),
                number: process.get().key().number(),
                cnode: self.at(process.get().cnode.addr()),
                vspace: self.at(process.get().vspace.addr()),
                pool: self.at(process.get().pool.addr()),
                cspace_at: self.at(cspace_at),
                cspace_len,
                memberships: self.at(first.unwrap_or(0)),
                locked: first.is_none(),
                task_numbers: process.get().tasks.len() as u32,
                free_number: u32::from(process.get().free_number.load(Relaxed)),
                fault_handler: process.get().fault_handler.load(Relaxed),
                label_told: process.get().label_told.load(Relaxed),
                offer_slot: offered.slot,
                offer_from: offered.from,
                vector: process.get().vector.load(Relaxed),
            }
        );
        self.sink.process(&record);
        self.extent(record.at, size_of::<Process>() as u64, record.at, ExtentKind::Object);
        let tasks = &process.get().tasks;
        self.table_of(tasks.get(self.pin(), 0), tasks.len(), record.at);
        for (number, entry) in (0..).zip(tasks.iter(self.pin())) {
            let (generation, task) = (entry.get().generation.load(Relaxed), entry.get().task.addr());
            if generation != 0 || task != 0 {
                let (generation, task) = (u32::from(generation), self.at(task));
                self.sink.task_number(&TaskNumber { process: record.at, number, generation, task });
            }
        }
    }

    pub fn group(&mut self, group: Ref<'k, Group>) {
        let Group { members, exposures, memberships, .. } = group.get();
        let (members, exposures) = (members.known(), exposures.known());
        let record = object!(
            self,
            group,
            Group {
                count: group.get().count.load(Relaxed),
                free: group.get().free.load(Relaxed),
                members: members.len() as u32,
                exposures: exposures.len() as u32,
                watched: group.get().watched.load(Relaxed),
            }
        );
        self.sink.group(&record);
        self.extent(record.at, size_of::<Group>() as u64, record.at, ExtentKind::Object);
        self.table_of(members.get(self.pin(), 0), members.len(), record.at);
        self.table_of(exposures.get(self.pin(), 0), exposures.len(), record.at);
        self.table_of(memberships.get(self.pin(), 0), memberships.len(), record.at);
        for number in 0..members.len() {
            self.member(group, record.at, number);
        }
        for (number, exposure) in (0..).zip(exposures.iter(self.pin())) {
            self.exposure(record.at, number, exposure);
        }
    }

    fn member(&mut self, group: Ref<'k, Group>, at: u64, number: usize) {
        let place = group.get().memberships.get(self.pin(), number);
        let Some((member, place)) = group.get().member(self.pin(), number).zip(place) else { return };
        let Membership { group: listed, index, next, prev } = place.get();
        if member.0 == 0 && listed.is_null() && next.is_null() && prev.is_null() {
            return;
        }
        self.sink.member(&Member {
            at: self.at(place.addr()),
            group: at,
            number: number as u32,
            word: member.0,
            process_number: member.key().number(),
            process_key: member.key().raw(),
            place_group: self.at(listed.addr()),
            place_number: index.load(Relaxed),
            next: self.at(next.addr()),
            prev: self.at(prev.addr()),
        });
    }

    fn exposure(&mut self, group: u64, number: u32, exposure: Ref<'k, Exposure>) {
        let slot = exposure.map(|exposure| &exposure.slot);
        self.slot(group, number, slot);
        let (per_cpu, part_of) = (exposure.get().per_cpu.load(Relaxed), exposure.get().part_of.load(Relaxed));
        if slot.get().word.glance(self.pin()).object_type() != 0 || per_cpu != 0 || part_of != 0 {
            self.sink.exposure(&snapshot::Exposure {
                group,
                number,
                slot: self.at(slot.addr()),
                generation: (exposure.get().tag.load(Relaxed) >> 32) as u32,
                per_cpu,
                watch: exposure.get().watch.load(Relaxed),
                owner: exposure.get().owner.load(Relaxed) >> MEMBER_KEY_SHIFT,
                part_of,
            });
        }
    }

    pub fn notification(&mut self, object: Ref<'k, Notification>) {
        let hot = self.still.inside(object.map(|object| &object.hot));
        let record = object!(
            self,
            object,
            Notification {
                home: self.home(&object.get().hot),
                under_way: object.get().hot.is_under_way(),
                bits: hot.bits.get(),
                waiter: self.at(hot.waiter.addr()),
                bound: self.at(hot.bound.addr()),
                remote: object.get().remote.glance(),
                node: object.get().remote.node_owner(),
            }
        );
        self.sink.notification(&record);
        self.extent(record.at, size_of::<Notification>() as u64, record.at, ExtentKind::Object);
    }

    pub fn reply(&mut self, reply: Ref<'k, Reply>) {
        let hot = self.still.inside(reply.map(|reply| &reply.hot));
        let record = object!(
            self,
            reply,
            Reply {
                home: self.home(&reply.get().hot),
                caller: self.at(hot.caller.addr()),
                server: self.at(hot.server.addr()),
                next: self.at(hot.next.addr()),
                prev: self.at(hot.prev.addr()),
            }
        );
        self.sink.reply(&record);
        self.extent(record.at, size_of::<Reply>() as u64, record.at, ExtentKind::Object);
    }

    pub fn pool(&mut self, pool: Ref<'k, EventPool>) {
        let pages = pool.get().pages();
        let (base, count) =
            pages.fold((u64::MAX, 0), |(base, count), (at, _)| (base.min(at.at().0), count + 1));
        let reader = pool.map(|pool| &pool.reader);
        let record = object!(
            self,
            pool,
            Pool {
                process: self.at(pool.get().process.addr()),
                reader: self.at(reader.addr()),
                address: pool.get().address.load(Relaxed),
                base,
                pages: count,
                writable_pages: EventControl::PAGES as u32,
                closed: pool.get().reserved.is_closed(),
                locked: pool.get().binding.is_locked(),
                log2: u32::from(pool.get().cells_log2),
                reserved: pool.get().reserved.position(),
                bits: pool.get().bits.load(Relaxed),
            }
        );
        self.sink.pool(&record);
        self.extent(record.at, size_of::<EventPool>() as u64, record.at, ExtentKind::Object);
        self.extent(base, u64::from(count) * PAGE_SIZE, record.at, ExtentKind::Pool);
        self.slot(record.at, 0, reader);
    }
}
