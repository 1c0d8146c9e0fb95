//! What a dump says of each object but tasks, and of the derivation trees.

use smp::sync::Ordering::Relaxed;

use kern_base::events::EventPool;
use kern_base::group::{Exposure, Group};
use kern_base::header::{FLAG_DEAD, FLAG_DYING, Header};
use kern_base::machine::Machine;
use kern_base::memory::{Frame, Untyped, VSpace};
use kern_base::notification::Notification;
use kern_base::objects::header_of;
use kern_base::paging::Pte;
use kern_base::process::Process;
use kern_base::reply::Reply;
use kern_base::sched_context::SchedContext;
use kern_base::slot::{CNode, Slot};
use smp::door::Ref;

use crate::caps::found::{Object, for_tree};
use crate::caps::slots::is_claimed;
use crate::door::dump::Dump;
use crate::door::dump::text::Text;
use crate::rooms::Tables;

impl<'k, M: Machine> Dump<'_, 'k, M> {
    pub fn describe(&self, text: &mut Text<'_, M>, object: Object) {
        let pin = self.cx.pin();
        match object {
            Object::Untyped(object) => self.untyped(text, object.get(pin).get()),
            Object::CNode(object) => self.cnode(text, object.get(pin).get()),
            Object::VSpace(object) => self.vspace(text, object.get(pin)),
            Object::Frame(object) => self.frame(text, object.get(pin).get()),
            Object::Process(object) => self.process(text, object.get(pin).get()),
            Object::Task(object) => self.task(text, object.get(pin)),
            Object::SchedContext(object) => self.sched_context(text, object.get(pin)),
            Object::Group(object) => self.group(text, object.get(pin).get()),
            Object::Notification(object) => self.notification(text, object.get(pin).get()),
            Object::Reply(object) => self.reply(text, object.get(pin).get()),
            Object::EventPool(object) => self.pool(text, object.get(pin).get()),
            Object::Machine(object) => self.header(text, &object.get(pin).get().header),
        }
    }

    pub fn header(&self, text: &mut Text<'_, M>, header: &Header) {
        text.number("refs", u64::from(header.refs()));
        text.flag("dying", header.has_flag(FLAG_DYING));
        text.flag("dead", header.has_flag(FLAG_DEAD));
        if header.swept() > 0 {
            text.number("swept", header.swept() as u64);
        }
    }

    fn untyped(&self, text: &mut Text<'_, M>, untyped: &Untyped) {
        self.header(text, &untyped.header);
        let (low, high) = self.cx.k.roots.open(self.cx.cpu, untyped).region().used();
        text.number("log2", u64::from(untyped.log2));
        text.hex("low", low);
        text.hex("high", high);
        text.flag("resetting", untyped.resetting.load(Relaxed));
    }

    fn cnode(&self, text: &mut Text<'_, M>, cnode: &CNode) {
        self.header(text, &cnode.header);
        self.name(text, "of", cnode.process.addr());
        self.name(text, "more", cnode.more.addr());
        text.list("claimed");
        for (index, slot) in cnode.slots.iter(self.cx.pin()).enumerate() {
            if is_claimed(slot.get().word.load(self.cx.pin())) {
                text.item(index as u64);
            }
        }
        text.end_list();
    }

    /// Tables are named by how many are in use: what they say stands in the list of pages, with the Frame each is of
    /// and the number of the page there.
    fn vspace(&self, text: &mut Text<'_, M>, vspace: Ref<'k, VSpace>) {
        let space = vspace.get();
        self.header(text, &space.header);
        self.name(text, "of", space.process.addr());
        text.number("tables", u64::from(space.used.load(Relaxed)));
        text.number("generation", space.generation.load(Relaxed));
        text.number("leave", space.leave.load(Relaxed));
        text.flag("dying", space.is_dying());
        let _guard = space.lock(self.cx.cpu);
        text.list("pages");
        for number in 0..space.used.load(Relaxed) as usize {
            Tables::of(self.cx)
                .pages_of(vspace, number, |address, spot| self.page(text, address, spot.load()));
        }
        text.end_list();
    }

    fn page(&self, text: &mut Text<'_, M>, address: u64, entry: Pte) {
        text.item(address | entry.access() as u64);
        let info = self.cx.k.frames.get(self.cx.pin(), entry.at()).filter(|_| !entry.is_plain());
        if let Some(frame) = info.and_then(|info| info.get().owner(self.cx.pin()).get::<Frame>()) {
            self.names.write(text, frame.addr());
            text.named("+", (entry.at().0 - frame.get().base().0) >> frame.get().log2());
        }
    }

    fn frame(&self, text: &mut Text<'_, M>, frame: &Frame) {
        self.header(text, &frame.header);
        text.number("log2", u64::from(frame.log2()));
        text.number("pages", u64::from(frame.pages()));
        let counts =
            |n| self.cx.k.frames.get(self.cx.pin(), frame.page(n)).map(|info| info.get().glance(self.cx.cpu));
        let counts = (0..u64::from(frame.pages())).filter_map(counts);
        let sums = counts.fold([0; 3], |[mapped, writable, executable], c| {
            [mapped + c.mapped(), writable + c.writable(), executable + c.executable()]
        });
        for (key, sum) in ["mapped", "writable", "executable"].into_iter().zip(sums) {
            text.number(key, sum);
        }
    }

    fn process(&self, text: &mut Text<'_, M>, process: &Process) {
        self.header(text, &process.header);
        text.hex("key", process.key().raw());
        self.name(text, "cnode", process.cnode.addr());
        self.name(text, "vspace", process.vspace.addr());
        self.name(text, "pool", process.pool.addr());
        text.flag("vector", process.vector.load(Relaxed));
        let offered = process.offer.get();
        text.number("accepts", u64::from(offered.slot));
        text.hex("accepts-from", offered.from);
        text.list("tasks");
        for (at, number) in process.tasks.iter(self.cx.pin()).enumerate() {
            let (generation, task) = (number.get().generation.load(Relaxed), number.get().task.addr());
            if generation != 0 {
                text.item(at as u64);
                text.value(u64::from(generation));
                text.gap();
                self.names.write(text, task);
            }
        }
        text.end_list();
    }

    /// Time used and time left depend on how long operations took: rounded, they say which slices were handed over.
    fn sched_context(&self, text: &mut Text<'_, M>, sc: Ref<'k, SchedContext>) {
        self.header(text, &sc.get().header);
        let Some(hot) = self.cx.sc_hot(sc) else {
            text.number("on-cpu", sc.get().hot.home().index() as u64);
            return;
        };
        text.number("priority", u64::from(hot.state.priority()));
        self.time(text, "slice", hot.state.slice());
        self.time(text, "left", hot.state.remaining());
        self.time(text, "used", hot.state.consumed());
        self.name(text, "with", hot.task.addr());
        self.name(text, "of", hot.owner.addr());
        text.flag("runs", self.cx.sched.current.is(sc));
        if let Some(priority) = hot.state.links.priority() {
            text.number("queued", u64::from(priority));
        }
    }

    fn group(&self, text: &mut Text<'_, M>, group: &Group) {
        self.header(text, &group.header);
        text.list("members");
        for (index, member) in group.members.iter(self.cx.pin()).enumerate() {
            let record = member.get().load(Relaxed);
            if record != 0 {
                text.item(index as u64);
                text.value(record);
            }
        }
        text.end_list();
        text.list("exposed");
        for (index, exposure) in group.exposures.iter(self.cx.pin()).enumerate() {
            self.exposure(text, index, exposure.get());
        }
        text.end_list();
    }

    fn exposure(&self, text: &mut Text<'_, M>, index: usize, exposure: &Exposure) {
        let (word, first) = (exposure.slot.word.load(self.cx.pin()), exposure.per_cpu.load(Relaxed));
        let part_of = exposure.part_of.load(Relaxed);
        if word.object_type() == 0 && first == 0 && part_of == 0 {
            return;
        }
        text.item(index as u64);
        if part_of != 0 {
            text.number("part-of", u64::from(part_of - 1));
        }
        if first != 0 {
            text.number("per-cpu", u64::from(first - 1));
            text.hex("owner", exposure.owner.load(Relaxed));
        }
        if word.object_type() != 0 {
            self.names.write(text, word.addr());
            // Of a Notification it says nothing.
            text.hex("tag", exposure.tag.load(Relaxed));
            text.hex("owner", exposure.owner.load(Relaxed));
        }
    }

    fn notification(&self, text: &mut Text<'_, M>, object: &Notification) {
        self.header(text, &object.header);
        text.hex("remote", object.remote.glance());
        let Some(hot) = object.hot.open(self.cx.pin()) else {
            text.number("on-cpu", object.hot.home().index() as u64);
            return;
        };
        text.hex("bits", hot.bits.get());
        self.name(text, "waiter", hot.waiter.addr());
        self.name(text, "bound", hot.bound.addr());
    }

    fn reply(&self, text: &mut Text<'_, M>, reply: &Reply) {
        self.header(text, &reply.header);
        let Some(hot) = reply.hot.open(self.cx.pin()) else {
            text.number("on-cpu", reply.hot.home().index() as u64);
            return;
        };
        for (key, addr) in [("caller", hot.caller.addr()), ("server", hot.server.addr())] {
            self.name(text, key, addr);
        }
        for (key, addr) in [("next", hot.next.addr()), ("prev", hot.prev.addr())] {
            self.name(text, key, addr);
        }
    }

    fn pool(&self, text: &mut Text<'_, M>, pool: &EventPool) {
        self.header(text, &pool.header);
        text.number("log2", u64::from(pool.cells_log2));
        text.number("reserved", pool.reserved.position());
        text.flag("closed", pool.reserved.is_closed());
        self.name(text, "of", pool.process.addr());
        self.name(text, "reader", pool.reader.word.load(self.cx.pin()).addr());
        text.hex("bits", pool.bits.load(Relaxed));
    }

    // --- derivation trees --------------------------------------------------------------------------

    /// Every tree with all its slots, in order. A tree is known by its first slot, which is in some CNode.
    pub fn trees(&self, text: &mut Text<'_, M>) {
        for table in self.names.tables() {
            let Object::CNode(cnode) = table else { continue };
            for slot in cnode.get(self.cx.pin()).get().slots.iter(self.cx.pin()) {
                let word = slot.get().word.load(self.cx.pin());
                if !slot.get().prev.is_null() {
                    continue;
                }
                if let Some(header) = header_of(word) {
                    text.line();
                    text.word("tree");
                    text.end();
                    for_tree(self.cx, slot, header, &mut |slot| self.slot(text, slot));
                }
            }
        }
    }

    fn slot(&self, text: &mut Text<'_, M>, slot: Ref<'k, Slot>) {
        let word = slot.get().word.load(self.cx.pin());
        text.line();
        text.number("depth", u64::from(slot.get().depth()));
        text.gap();
        self.names.write(text, word.addr());
        text.hex("rights", u64::from(word.rights()));
        text.hex("badge", slot.get().badge());
        match self.table_of(slot.addr()) {
            Some((table, index)) => {
                text.key("in");
                self.names.write(text, table);
                text.number("at", index);
            }
            None => text.word("nowhere"),
        }
        text.end();
    }

    /// The CNode, Group or EventPool that has the slot at an address, and where.
    fn table_of(&self, addr: u64) -> Option<(u64, u64)> {
        let pin = self.cx.pin();
        let tables = self.names.tables().filter_map(|table| match table {
            Object::CNode(cnode) => {
                let slots = &cnode.get(pin).get().slots;
                Some((cnode.addr(), slots.get_or_first(pin, 0).addr(), size_of::<Slot>(), slots.len()))
            }
            Object::Group(group) => {
                let exposures = &group.get(pin).get().exposures;
                Some((group.addr(), exposures.get(pin, 0)?.addr(), size_of::<Exposure>(), exposures.len()))
            }
            Object::EventPool(pool) => {
                Some((pool.addr(), pool.get(pin).map(|p| &p.reader).addr(), size_of::<Slot>(), 1))
            }
            _ => None,
        });
        for (table, first, size, len) in tables {
            if addr >= first && addr < first + (size * len) as u64 {
                return Some((table, (addr - first) / size as u64));
            }
        }
        None
    }
}
