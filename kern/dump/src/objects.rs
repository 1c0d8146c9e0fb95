//! The survey's records of capabilities, processes, groups and objects that one CPU owns.

use core::sync::atomic::Ordering::Relaxed;

use abi::PAGE_SIZE;
use abi::events::EventControl;
use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group, Membership};
use kern_base::irq::IrqHandler;
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::port::IoPort;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::slot::{CNode, Slot};
use kern_base::task::TAG_SHIFT;
use kern_core::caps::slots::CLAIMED;
use smp::door::Ref;
use snapshot::{ExtentKind, Sink, SlotUse};

use crate::record::record;
use crate::{Still, Survey};

impl<'k, M: Machine, V: Still<'k, M>, S: Sink> Survey<'_, 'k, M, V, S> {
    pub fn cnode(&mut self, at: u64, cnode: Ref<'k, CNode>) {
        let (slots, pin) = (cnode.get().slots.known(), self.cx.pin());
        self.sink.cnode(&record!(self, CNode of cnode {
            [cnode] process, more, worker;
            next_zombie = self.at(cnode.get().ring.next.addr()),
            next_listed = self.at(cnode.get().listed.next.addr()),
            slots_at = cnode.get().slots.get_or_first(pin, 0),
            slots = slots.len(),
        }));
        self.table_of(slots.get(pin, 0), slots.len(), at);
        for (number, slot) in (0..).zip(slots.iter(pin)) {
            self.slot(at, number, slot);
        }
    }

    /// Records a slot. A slot that has been empty for long is left out.
    fn slot(&mut self, table: u64, number: u32, slot: Ref<'k, Slot>) {
        if slot.is_blank(CLAIMED) {
            return;
        }
        let word = slot.get().word.glance(self.cx.pin());
        let is_full = word.object_type() != 0;
        let used = match word.empty_value() {
            _ if is_full => SlotUse::Full,
            CLAIMED => SlotUse::Claimed,
            stamp if stamp > CLAIMED => SlotUse::Emptying,
            _ => SlotUse::Empty,
        };
        self.sink.slot(&record!(self, Slot {
            [slot] next, prev, depth(), floor(), badge();
            [] table, number, used;
            at = slot,
            kind = word.object_type(),
            object = self.object_of(word),
            rights = if is_full { word.rights() } else { 0 },
        }));
    }

    pub fn process(&mut self, at: u64, process: Ref<'k, Process>) {
        let (cspace_at, cspace_len) = process.published_cspace();
        let memberships = process.memberships.try_lock(self.cx.cpu).map(|list| list.addr());
        let (offer, tasks) = (process.offer.get(), &process.get().tasks);
        self.sink.process(&record!(self, Process of process {
            [process] cnode, vspace, pool, placed_pool, free_number, fault_handler, label_told, vector, next, prev;
            [] cspace_len;
            key = process.key().raw(),
            cspace_at = self.at(cspace_at),
            memberships = self.at(memberships.unwrap_or(0)),
            locked = memberships.is_none(),
            task_numbers = tasks.len(),
            offer_slot = offer.slot,
            offer_from = offer.from,
        }));
        self.table_of(tasks.get(self.cx.pin(), 0), tasks.len(), at);
        for (number, entry) in (0u32..).zip(tasks.iter(self.cx.pin())) {
            if !entry.task.is_null() {
                let its = record!(self, TaskNumber { [entry] task; [] number; process = at, });
                self.sink.task_number(&its);
            }
        }
    }

    pub fn group(&mut self, at: u64, group: Ref<'k, Group>) {
        let (Group { members, exposures, memberships, .. }, pin) = (group.get(), self.cx.pin());
        let (members, exposures, memberships) = (members.known(), exposures.known(), memberships.known());
        self.sink.group(&record!(self, Group of group {
            [group] count, free, watched;
            members = members.len(),
            exposures = exposures.len(),
        }));
        self.table_of(members.get(pin, 0), members.len(), at);
        self.table_of(exposures.get(pin, 0), exposures.len(), at);
        self.table_of(memberships.get(pin, 0), memberships.len(), at);
        for (number, place) in memberships.iter(pin).enumerate() {
            self.member(group, at, number, place);
        }
        for (number, exposure) in (0..).zip(exposures.iter(pin)) {
            self.exposure(at, number, exposure);
        }
    }

    fn member(&mut self, group: Ref<'k, Group>, at: u64, number: usize, place: Ref<'k, Membership>) {
        let Some(member) = group.get().member(self.cx.pin(), number) else { return };
        let is_listed = [&place.next, &place.prev].iter().any(|link| !link.is_null());
        let is_listed = is_listed || !place.group.is_null() || !place.process.is_null();
        if member.0 != 0 || is_listed {
            self.sink.member(&record!(self, Member {
                [place] next, prev;
                [] number;
                at = place,
                group = at,
                word = member.0,
                rights = member.rights().0,
                custom = member.custom(),
                process_key = member.key().raw(),
                place_process = place.process,
                place_group = place.group,
            }));
        }
    }

    fn exposure(&mut self, group: u64, number: u32, exposure: Ref<'k, Exposure>) {
        let slot = exposure.map(|exposure| &exposure.slot);
        self.slot(group, number, slot);
        let is_full = slot.word.glance(self.cx.pin()).object_type() != 0;
        if is_full || exposure.per_cpu.load(Relaxed) != 0 || exposure.part_of.load(Relaxed) != 0 {
            self.sink.exposure(&record!(self, Exposure {
                [exposure] per_cpu, watch, part_of;
                [] group, number, slot;
                tag = exposure.tag.load(Relaxed) >> TAG_SHIFT,
                owner = exposure.owner,
            }));
        }
    }

    pub fn notification(&mut self, object: Ref<'k, Notification>) {
        let hot = self.still.inside(object.map(|object| &object.hot));
        self.sink.notification(&record!(self, Notification of object {
            [hot] bits, waiter, bound;
            home = self.home(&object.hot),
            under_way = object.hot.is_under_way(),
            remote = object.remote.glance(),
            node = object.remote.node_owner(),
        }));
    }

    pub fn reply(&mut self, reply: Ref<'k, Reply>) {
        let (hot, pin) = (self.still.inside(reply.map(|reply| &reply.hot)), self.cx.pin());
        self.sink.reply(&record!(self, Reply of reply {
            [hot] caller(pin), server(pin), next(pin), prev(pin);
            home = self.home(&reply.hot),
            unclaimed = reply.hot.is_unclaimed(),
        }));
    }

    pub fn pool(&mut self, at: u64, pool: Ref<'k, EventPool>) {
        let pages = pool.get().pages();
        let (base, count) =
            pages.fold((u64::MAX, 0), |(base, count), (at, _)| (base.min(at.at().0), count + 1));
        let reader = pool.map(|pool| &pool.reader);
        let place = pool.placement.try_lock(self.cx.cpu);
        let is_locked = place.is_none();
        let (placed, address, mapped) =
            place.map_or((0, 0, 0), |place| (place.process.addr(), place.address.get(), place.mapped.get()));
        self.sink.pool(&record!(self, Pool of pool {
            [pool] process, bits;
            [] reader, base, address;
            placed = self.at(placed),
            mapped = mapped as u32,
            pages = count,
            writable_pages = EventControl::PAGES,
            closed = pool.reserved.is_closed(),
            locked = is_locked,
            log2 = pool.cells_log2,
            reserved = pool.reserved.position(),
        }));
        self.extent(base, count * PAGE_SIZE, at, ExtentKind::Pool);
        self.slot(at, 0, reader);
    }

    pub fn irq(&mut self, at: u64, irq: Ref<'k, IrqHandler>) {
        let target = irq.map(|irq| &irq.target);
        let (line, route) = (irq.line(), irq.route());
        self.sink.irq(&record!(self, Irq of irq {
            [irq] bits();
            [] target;
            line = line.map_or(0, |line| line.number + 1),
            signals = line.map_or(0, |line| u32::from(line.how)),
            cpu = route.map_or(0, |route| route.cpu.raw() + 1),
            place = route.map_or(0, |route| u32::from(route.place)),
        }));
        self.slot(at, 0, target);
    }

    pub fn ports(&mut self, ports: Ref<'k, IoPort>) {
        let (first, count) = ports.range();
        self.sink.port(&record!(self, Port of ports { [] first, count; }));
    }
}
