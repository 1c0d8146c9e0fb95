//! Finds marks in registers, UTCBs, event pools and pages of each process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::ObjType;
use abi::audit::{LABELS, may};
use confine::{Excess, Mark, Picture, View};
use smp::host_test;

use crate::play::Play;
use crate::world::Tcb;
use crate::world::machine::DEVICES;

/// Words of a page that programs write.
const WORDS: usize = 8;
const PAGE_WORDS: usize = abi::PAGE_SIZE as usize / 8;

/// All registers of a task.
pub fn registers(of: &Tcb) -> Vec<u64> {
    let r = &of.hot().regs;
    let all = [
        &r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r11, &r.r12, &r.r13,
        &r.r14, &r.r15, &r.rip, &r.rsp, &r.rflags, &r.fs, &r.gs,
    ];
    all.map(|register| register.get()).to_vec()
}

fn marks(words: &[AtomicU64]) -> impl Iterator<Item = Mark> {
    words.iter().filter_map(|word| Mark::of(word.load(Relaxed)))
}

/// Whether somebody who may read what has one label may not read what has the other.
fn launders(picture: &Picture, from: u32, to: u32) -> bool {
    let reads = |subject: u32, object: u32| picture.allows(subject, object, may::READ);
    from != to && (1..LABELS).any(|subject| reads(subject, to) && !reads(subject, from))
}

impl Play {
    /// Marks that have turned up where nobody sent them. Where everything that is new is
    /// `justified`, pages that a process sees newly may be seen with what is in them.
    pub fn scan(&mut self, justified: bool) -> Vec<String> {
        let mut leaked = Vec::new();
        self.scan_tasks(&mut leaked);
        self.scan_pools(&mut leaked);
        self.scan_new(&mut leaked);
        self.scan_pages(justified, &mut leaked);
        leaked
    }

    fn leak(&self, mark: Mark, process: u64, place: &str) -> Option<String> {
        let number = self.numbers.of(&self.after, process);
        let text = || {
            let writer = self.ledger.writer(mark).unwrap_or(0);
            format!(
                "word {} of act {}, of process {writer}, in {place} of process {number}",
                mark.place, mark.act
            )
        };
        (!self.ledger.may_see(mark, number)).then(text)
    }

    /// The label under which a word was written: unknown as soon as somebody has set labels.
    fn label_of(&self, mark: Mark) -> Option<u32> {
        self.ledger.label(mark).filter(|_| !self.relabelled)
    }

    /// Whether a label of something, or a rule, is not what it was.
    pub fn sets_labels(&self) -> bool {
        let was = |now: &confine::Thing| self.before.again(now).is_some_and(|was| was.label != now.label);
        self.before.s.label_rules != self.after.s.label_rules || self.after.things().iter().any(was)
    }

    fn scan_tasks(&self, leaked: &mut Vec<String>) {
        for task in self.after.s.tasks.iter().filter(|task| task.id != 0 && task.owner != 0) {
            let utcb = marks(host_test::words(task.utcb, PAGE_WORDS));
            leaked.extend(utcb.filter_map(|mark| self.leak(mark, task.owner, "a UTCB")));
        }
        for tcb in &self.cast.tasks {
            let task = self.after.task(tcb.object.addr()).filter(|task| task.id == tcb.id.raw());
            let Some(task) = task.filter(|task| task.owner != 0 && task.state == snapshot::State::Ready)
            else {
                continue;
            };
            let found = registers(tcb).into_iter().filter_map(Mark::of);
            leaked.extend(found.filter_map(|mark| self.leak(mark, task.owner, "registers")));
        }
    }

    fn scan_pools(&self, leaked: &mut Vec<String>) {
        for pool in self.after.s.pools.iter().filter(|pool| pool.process != 0) {
            let found = marks(host_test::words(pool.base, pool.pages as usize * PAGE_WORDS));
            leaked.extend(found.filter_map(|mark| self.leak(mark, pool.process, "an event pool")));
        }
    }

    /// What is new is empty.
    fn scan_new(&self, leaked: &mut Vec<String>) {
        for thing in self.after.things().iter().filter(|thing| self.before.again(thing).is_none()) {
            let (base, pages) = match thing.kind {
                ObjType::Frame => {
                    let frame = self.after.frame(thing.at).filter(|frame| !frame.device);
                    frame.map_or((0, 0), |frame| (frame.base, frame.pages as usize))
                }
                ObjType::EventPool => {
                    let pool = self.after.s.pools.get(thing.number);
                    pool.map_or((0, 0), |pool| (pool.base, pool.pages as usize))
                }
                ObjType::Task => (self.after.task(thing.at).map_or(0, |task| task.utcb), 1),
                _ => continue,
            };
            let found = marks(host_test::words(base, pages * PAGE_WORDS));
            leaked.extend(found.map(|mark| format!("word {mark:?} in a new {:?}", thing.kind)));
        }
    }

    fn scan_pages(&mut self, justified: bool, leaked: &mut Vec<String>) {
        let after = &self.after;
        let shown = |view: &&View| view.present && !view.plain && view.page < DEVICES;
        for view in after.views().iter().filter(shown) {
            let resident = after.resident(view.space);
            if let Some(owner) = after.owner_of(view.page) {
                for mark in marks(host_test::words(view.page, WORDS)) {
                    let from = self.label_of(mark).filter(|from| launders(after, *from, owner.label));
                    if let Some(from) = from {
                        let what = format!(
                            "what was written under label {from} is in a page of label {}",
                            owner.label
                        );
                        self.outcome.exceeded.push(Excess { rule: "label", what });
                    }
                }
            }
            if resident == 0 {
                continue;
            }
            let was = self.before.view(view.space, view.address);
            // A process that gets a space gets what it shows.
            let moved_in = self.before.resident(view.space) != resident;
            let is_new = moved_in || was.is_none_or(|was| was.page != view.page || !was.present);
            for mark in marks(host_test::words(view.page, WORDS)) {
                if is_new && justified {
                    self.ledger.show(mark, 1 << self.numbers.of(after, resident));
                }
                let number = self.numbers.of(after, resident);
                if !self.ledger.may_see(mark, number) {
                    let writer = self.ledger.writer(mark).unwrap_or(0);
                    leaked.push(format!(
                        "word {mark:?} of process {writer} in page {:x} of process {number}",
                        view.page
                    ));
                }
                let subject = after.label(view.space);
                let object = self.label_of(mark).filter(|object| !after.allows(subject, *object, may::READ));
                if let Some(object) = object {
                    let what =
                        format!("what was written under label {object} is in a space of label {subject}");
                    self.outcome.exceeded.push(Excess { rule: "label", what });
                }
            }
        }
    }
}
