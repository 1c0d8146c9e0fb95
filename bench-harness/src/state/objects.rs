//! The text's lines about all objects except tasks, and about the derivation trees.

use std::iter::successors;

use abi::ObjType;
use invariants::pte::{Pte, What};
use snapshot::{
    Context, Entry, Exposure, Frame, Group, Member, Notification, Pool, Process, Slot, SlotUse, VSpace,
};

use super::line::Line;
use super::{State, line_of, rounded};

/// The most slots of one derivation tree that are followed: a longer tree is broken.
const TREE_MAX: usize = 1 << 16;

impl State<'_> {
    /// Adds the lines of all objects except tasks.
    pub fn objects(&self, lines: &mut Vec<Line>) {
        let s = self.s;
        lines.extend(s.processes.iter().map(|process| self.process(process)));
        lines.extend(s.contexts.iter().map(|context| self.context(context)));
        lines.extend(s.groups.iter().map(|group| self.group(group)));
        lines.extend(s.notifications.iter().map(|note| self.notification(note)));
        lines.extend(s.replies.iter().map(|reply| {
            let mut line = line_of(self, reply, reply.swept);
            let links = [
                ("caller", reply.caller),
                ("server", reply.server),
                ("next", reply.next),
                ("prev", reply.prev),
            ];
            links.into_iter().for_each(|(key, at)| line.value(key, self.name(at)));
            line
        }));
        lines.extend(s.pools.iter().map(|pool| self.pool(pool)));
        lines.extend(s.controls.iter().map(|control| {
            let mut line = line_of(self, control, control.swept);
            line.number("bound", control.bound);
            line.hex("cpus", control.cpus);
            line.number("account", control.account);
            line
        }));
        lines.extend(s.irqs.iter().map(|irq| {
            let mut line = line_of(self, irq, irq.swept);
            line.number("line", irq.line);
            line.number("signals", irq.signals);
            line.value("arrives", format_args!("{}:{}", irq.cpu, irq.place));
            line.hex("bits", irq.bits);
            line
        }));
        lines.extend(s.ports.iter().map(|ports| {
            let mut line = line_of(self, ports, ports.swept);
            line.hex("first", ports.first);
            line.number("count", ports.count);
            line
        }));
        lines.extend(s.machines.iter().map(|machine| line_of(self, machine, machine.swept)));
        if self.memory {
            self.memory(lines);
            self.trees(lines);
        }
    }

    fn process(&self, process: &Process) -> Line {
        let mut line = line_of(self, process, process.swept);
        line.value("cnode", self.name(process.cnode));
        line.value("vspace", self.name(process.vspace));
        line.value("pool", self.name(process.pool));
        line.flag("vector", process.vector);
        line.number("accepts", process.offer_slot);
        line.hex("accepts-from", process.offer_from);
        let its = self.s.task_numbers.iter().filter(|number| number.process == process.at);
        line.list("tasks", its.map(|n| format!("{:x}:{}", n.number, self.name(n.task))));
        line
    }

    /// Writes a SchedContext. Time used and time left depend on how long operations took: rounded,
    /// they say which slices were handed over.
    fn context(&self, context: &Context) -> Line {
        let mut line = line_of(self, context, context.swept);
        line.number("home", context.home);
        line.number("priority", context.priority);
        line.number("slice", rounded(context.slice));
        line.hex("cpus", context.cpus);
        line.number("left", rounded(context.remaining));
        line.number("used", rounded(context.consumed));
        line.value("share", format_args!("{}:{}", context.account, context.share));
        line.value("with", self.name(context.task));
        line.value("of", self.name(context.owner));
        line.flag("runs", self.s.cpus.iter().any(|cpu| cpu.context == context.at));
        if context.queue_rank > 0 {
            line.number("queued", context.queue_rank - 1);
        }
        line
    }

    fn group(&self, group: &Group) -> Line {
        let mut line = line_of(self, group, group.swept);
        let members = self.s.members.iter().filter(|member| member.group == group.at && member.word != 0);
        // The key in the record depends on where the process is in memory.
        let shown = |member: &Member| {
            let process = self.name(member.place_process);
            format!("{:x}:{process} {:x} {:x}", member.number, member.rights, member.custom)
        };
        line.list("members", members.map(shown));
        let exposures = self.s.exposures.iter().filter(|exposure| exposure.group == group.at);
        line.list("exposed", exposures.map(|exposure| self.exposure(exposure)));
        line
    }

    fn exposure(&self, exposure: &Exposure) -> String {
        let mut text = format!("{:x}:", exposure.number);
        if exposure.part_of != 0 {
            text += &format!(" part-of={}", exposure.part_of - 1);
        }
        if exposure.per_cpu != 0 {
            text += &format!(" per-cpu={} owner={:x}", exposure.per_cpu - 1, exposure.owner);
        }
        if let Some(slot) = self.slots.get(&exposure.slot).filter(|slot| slot.used == SlotUse::Full) {
            let name = self.name(slot.object);
            // Of a Notification the tag says nothing.
            text += &format!("{name} tag={:x} owner={:x}", exposure.tag, exposure.owner);
        }
        text
    }

    fn notification(&self, note: &Notification) -> Line {
        let mut line = line_of(self, note, note.swept);
        line.number("home", note.home);
        line.hex("remote", note.remote);
        line.hex("bits", note.bits);
        line.value("waiter", self.name(note.waiter));
        line.value("bound", self.name(note.bound));
        line
    }

    fn pool(&self, pool: &Pool) -> Line {
        let mut line = line_of(self, pool, pool.swept);
        line.number("log2", pool.log2);
        line.number("reserved", pool.reserved);
        line.flag("closed", pool.closed);
        line.value("of", self.name(pool.process));
        line.value("reader", self.name(self.slots.get(&pool.reader).map_or(0, |slot| slot.object)));
        line.hex("bits", pool.bits);
        line
    }

    // --- memory ----------------------------------------------------------------------------------

    fn memory(&self, lines: &mut Vec<Line>) {
        let s = self.s;
        lines.extend(s.untypeds.iter().map(|untyped| {
            let mut line = line_of(self, untyped, untyped.swept);
            line.hex("size", untyped.size);
            line.hex("low", untyped.low);
            line.hex("high", untyped.high);
            line.flag("resetting", untyped.resetting);
            line
        }));
        lines.extend(s.cnodes.iter().map(|cnode| {
            let mut line = line_of(self, cnode, cnode.swept);
            line.value("of", self.name(cnode.process));
            line.value("more", self.name(cnode.more));
            let claimed = |slot: &&Slot| slot.table == cnode.at && slot.used == SlotUse::Claimed;
            let claimed = s.slots.iter().filter(claimed);
            line.list("claimed", claimed.map(|slot| format!("{:x}", slot.number)));
            line
        }));
        lines.extend(s.vspaces.iter().map(|space| self.vspace(space)));
        lines.extend(s.frames.iter().map(|frame| self.frame(frame)));
    }

    /// Tables are named by how many are in use: what they say stands in the list of pages, with the
    /// frame that each page is of, and the page's number there. `~`: a message has the page.
    fn vspace(&self, space: &VSpace) -> Line {
        let mut line = line_of(self, space, space.swept);
        line.value("of", self.name(space.process));
        line.number("tables", space.used);
        line.number("generation", space.generation);
        line.number("leave", space.leave);
        line.flag("ending", space.ending);
        let entries = self.s.entries.iter().filter(|entry| entry.space == space.at);
        line.list("pages", entries.filter_map(|entry| self.page(entry)));
        line
    }

    fn page(&self, entry: &Entry) -> Option<String> {
        let pte = Pte(entry.word);
        let is_transit = match pte.what(entry.level) {
            What::Page => false,
            What::Transit => true,
            _ => return None,
        };
        let access = if pte.is_executable() { 2 } else { u64::from(pte.is_writable()) };
        let mut text = format!("{:x}:", entry.address | access);
        let info = self.infos.get(&pte.at()).filter(|_| !pte.is_plain());
        let owner = info.filter(|info| info.owner_kind == ObjType::Frame as u8).map(|info| info.owner);
        if let Some(frame) = owner.and_then(|owner| self.frames.get(&owner)) {
            text += &format!("{}+{}", self.name(frame.at), (pte.at() - frame.base) >> frame.log2);
        }
        Some(if is_transit { text + "~" } else { text })
    }

    fn frame(&self, frame: &Frame) -> Line {
        let mut line = line_of(self, frame, frame.swept);
        line.number("log2", frame.log2);
        line.number("pages", frame.pages);
        let pages = (0..u64::from(frame.pages)).map(|number| frame.base + (number << frame.log2));
        let sums = pages.filter_map(|page| self.infos.get(&page)).fold([0; 3], |[a, b, c], info| {
            [a + u64::from(info.mapped), b + u64::from(info.writable), c + u64::from(info.executable)]
        });
        for (key, sum) in ["mapped", "writable", "executable"].into_iter().zip(sums) {
            line.number(key, sum);
        }
        line
    }

    // --- derivation trees ------------------------------------------------------------------------

    /// Adds every tree with all its slots, in order. A tree is found by its first slot, which is in
    /// some CNode.
    fn trees(&self, lines: &mut Vec<Line>) {
        let is_first = |slot: &&Slot| slot.prev == 0 && slot.used == SlotUse::Full;
        for first in self.s.slots.iter().filter(is_first) {
            lines.push(Line::new("tree"));
            let slots = successors(Some(first), |last| self.slots.get(&last.next).copied());
            lines.extend(slots.take(TREE_MAX).map(|slot| self.slot(slot)));
        }
    }

    fn slot(&self, slot: &Slot) -> Line {
        let mut line = Line::new(&format!("depth={}", slot.depth));
        line.word(self.name(slot.object));
        line.hex("rights", slot.rights);
        line.hex("badge", slot.badge);
        line.value("in", self.name(slot.table));
        line.number("at", slot.number);
        line
    }
}
