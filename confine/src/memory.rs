//! Memory: pages that a process newly sees, pins, labels.

use abi::audit::may;
use abi::{Rights, frame_rights, machine_rights, process_rights, task_rights};
use snapshot::Frame;

use crate::change::{Change, OfferKind};
use crate::picture::{Picture, Thing, View};

impl Change<'_> {
    /// Checks that every page that an address space newly shows, or newly allows to be written,
    /// came there by right.
    pub fn views(&mut self) {
        for view in self.after.views().iter().filter(|view| view.present) {
            let was = self.before.view(view.space, view.address).filter(|was| was.page == view.page);
            let same = was.is_some_and(|was| was.present && (was.writable || !view.writable));
            if same && self.is_known(view.space) {
                continue;
            }
            if !self.may_view(view, was) {
                let (who, what) = (self.actors(), self.view(view));
                self.excess("mapped", format!("{what}, by {who}"));
            }
            // A page that comes back from a message that nobody received was there before: labels
            // that are newer do not take it away.
            let back = |was: &View| was.lent || !was.present && (was.writable || !view.writable);
            let returns = was.is_some_and(back);
            if !returns {
                self.label_of_page(view);
            }
        }
    }

    fn is_known(&self, at: u64) -> bool {
        self.after.thing(at).and_then(|thing| self.before.again(thing)).is_some()
    }

    fn may_view(&self, view: &View, was: Option<&View>) -> bool {
        let back = was.is_some_and(|was| was.pooled && (was.writable || was.lent || !view.writable));
        back || if view.plain {
            self.is_mapped_by_kernel(view)
        } else {
            self.by_frame(view) || self.by_pool(view)
        }
    }

    /// Returns whether the acting processes held the space and a frame of the page, and so could
    /// map it.
    fn by_frame(&self, view: &View) -> bool {
        let write = if view.writable || view.pooled { frame_rights::WRITE.rights() } else { Rights::NONE };
        let need = Rights::MAP.union(write);
        let with = |frame: &&Frame| Picture::has_page(frame, view.page);
        let mut frames = self.before.s.frames.iter().filter(with);
        self.may(view.space, Rights::MAP) && frames.any(|frame| self.may(frame.at, need))
    }

    /// Returns whether a page of a pool came from another pool, through a holder of both spaces or
    /// in a message. A page that can be written must be in no other space.
    fn by_pool(&self, view: &View) -> bool {
        if !view.pooled || view.writable && self.after.views_of(view.page).count() > 1 {
            return false;
        }
        let resident = self.before.resident(view.space);
        let taken = |from: &View| self.may(from.space, Rights::MAP) && self.may(view.space, Rights::MAP);
        let sent = |from: &View| {
            let offered = self.is_offered(resident, view.address, OfferKind::Addresses);
            let is_own = self.acts.contains(&self.before.resident(from.space));
            is_own && offered && self.may_tell(resident, Rights::MAP)
        };
        self.before.views_of(view.page).filter(|from| from.pooled).any(|from| taken(from) || sent(from))
    }

    /// Returns whether a page is a UTCB or of an event pool, mapped by a process that may configure
    /// the task or bind the pool.
    fn is_mapped_by_kernel(&self, view: &View) -> bool {
        let resident = self.after.resident(view.space);
        let configures = self.may(resident, process_rights::CONFIGURE);
        let task = self.after.s.tasks.iter().find(|task| task.utcb == view.page);
        let utcb =
            task.is_some_and(|task| task.owner == resident && self.may(task.at, task_rights::REGISTERS));
        let its = |pool: &&snapshot::Pool| {
            let (end, writable) = (u64::from(pool.pages), u64::from(pool.writable_pages));
            let end = if view.writable { writable } else { end };
            (pool.base..pool.base + end * abi::PAGE_SIZE).contains(&view.page) && pool.process == resident
        };
        let pool = self.after.s.pools.iter().find(its);
        configures && (utcb || pool.is_some_and(|pool| self.may(pool.at, Rights::LISTEN)))
    }

    fn label_of_page(&mut self, view: &View) {
        let subject = self.after.label(view.space);
        // A page that outlives its frame is nobody's. What was written there before keeps its
        // label, as its marks do.
        let Some(object) = self.after.owner_of(view.page).map(|thing| thing.label) else { return };
        let what = if view.writable { may::READ | may::WRITE } else { may::READ };
        if !self.before.allows(subject, object, what) {
            let shown = self.view(view);
            self.excess(
                "label",
                format!("{shown}: an object of label {object} in a space of label {subject}"),
            );
        }
    }

    /// Checks that pins were made and removed with the rights to the frame and to devices' access
    /// to memory.
    pub fn pins(&mut self) {
        let (before, after) = (self.before, self.after);
        for was in &before.s.frames {
            let again = before.thing(was.at).and_then(|thing| after.again(thing));
            let pins = again.and_then(|thing| after.s.frames.get(thing.number)).map_or(0, |frame| frame.pins);
            let machine = self.may_machine(machine_rights::DMA);
            let frame = self.may(was.at, frame_rights::DMA);
            let what = (was.pins, pins);
            if pins > was.pins && !(machine && frame) || pins < was.pins && !machine {
                let (who, object) = (self.actors(), self.object(was.at));
                self.excess(
                    "pins",
                    format!("{object} was pinned {} times, now {}: {who} may not", what.0, what.1),
                );
            }
        }
    }

    /// Checks that labels were set by right, and that new objects have the label of their memory or
    /// of their maker.
    pub fn labels(&mut self) {
        let (before, after) = (self.before, self.after);
        let security = self.may_machine(machine_rights::SECURITY);
        if before.s.label_rules != after.s.label_rules && !security {
            let who = self.actors();
            self.excess("label", format!("{who} may not change what labels allow"));
        }
        for now in after.things() {
            match before.again(now) {
                Some(was) if was.label != now.label && !security && !self.has_joined(was, now) => {
                    let (who, what) = (self.actors(), self.object(now.at));
                    self.excess(
                        "label",
                        format!("{who} may not make {} of label {} of {what}", now.label, was.label),
                    );
                }
                None => self.label_of_new(now.at, now.label),
                _ => {}
            }
        }
    }

    /// Returns whether an object that had no label has become a task of a process with the object's
    /// present label.
    fn has_joined(&self, was: &Thing, now: &Thing) -> bool {
        let is_new = self.before.task(was.at).is_some_and(|task| task.id == 0);
        let process = self.after.task(now.at).map_or(0, |task| task.owner);
        was.label == 0 && is_new && process != 0 && self.after.label(process) == now.label
    }

    fn label_of_new(&mut self, at: u64, label: u32) {
        let of = |base: u64, size: u64| (base..base + size).contains(&at);
        let untypeds = self.before.s.untypeds.iter().filter(|untyped| of(untyped.base, untyped.size));
        let Some(memory) = untypeds.min_by_key(|untyped| untyped.size) else { return };
        let makers = self.acts.iter().map(|process| self.before.label(*process));
        let fits = if memory.label != 0 {
            label == memory.label
        } else {
            makers.clone().any(|maker| maker == label)
        };
        if !fits {
            let what = self.object(at);
            self.excess(
                "label",
                format!("{what} is new, of label {label}; its memory's is {}", memory.label),
            );
        }
    }
}
