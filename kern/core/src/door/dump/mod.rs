//! [`abi::Op::MachineDump`] of test builds: the kernel's state as text.
//!
//! There are two texts. One is for comparing kernels, and is described here. The other is for judging one, and has
//! everything of all CPUs: a [`snapshot`].
//!
//! What is exported is what somebody could come to see: objects, capabilities, who waits for whom, whose
//! CPU time is where. Two kernels that did the same operations export the same text, however they did
//! them; so what says nothing in the state that an object is in, what one way through the kernel leaves
//! behind and another does not, and how long anything took, is left out. Each such place says why.
//!
//! Objects have no names, and their addresses are not the same in two builds: each is called by its type
//! and the order in which the walk comes by it ([`names`]). The walk begins at the caller's CSpace and
//! follows derivation trees, so it finds all objects of all trees that it meets.
//!
//! # Other CPUs
//! What another CPU owns cannot be opened here: the dump says where it is. What CPUs share is read as it
//! is just then, each tree under its root's lock. On one CPU, or with the others at rest, that is exact.
//!
//! # Bounds
//! One entry does all of it, with interrupts off: milliseconds. Lists are followed [`LIST_MAX`] entries
//! far. A kernel for users has none of this.

mod names;
mod objects;
mod snapshot;
mod tasks;
mod text;

use abi::{Cap, machine_rights};
use kern_base::machine::Machine;
use sched::NEVER;

use crate::caps::found::{Found, Object};
use crate::door::dump::names::NAMES;
use crate::door::dump::text::Text;
use crate::rooms::Door;
use crate::{Answer, Cx, Me, Refusal, Result};

/// Longest list that is followed: longer ones are broken.
const LIST_MAX: usize = 4096;

/// Bits of the argument.
const HASH_ONLY: u64 = 1 << 0;
const WITHOUT_MEMORY: u64 = 1 << 1;
const SNAPSHOT: u64 = 1 << 2;

/// The unit of time in a dump, as a shift: times are rounded to 64 G ticks, which is about a minute. What an
/// operation takes depends on the way it took; a slice handed over, a deadline set, a timer armed does not.
const TIME_SHIFT: u32 = 36;

impl<'k, M: Machine> Door<'k, M> {
    /// [`abi::Op::MachineDump`].
    pub fn machine_dump(self, me: Me<'k>, cap: Cap, how: u64) -> Result<Answer> {
        self.caps().find_machine(me, cap, machine_rights::DUMP)?;
        if how == SNAPSHOT {
            return self.machine_snapshot();
        }
        if how & !(HASH_ONLY | WITHOUT_MEMORY) != 0 {
            return Err(Refusal::argument(1));
        }
        self.time().charge();
        // As in a snapshot: whoever has it may wait for this CPU.
        let mut names = NAMES.try_lock(self.cpu).ok_or(Refusal::More)?;
        names.discover_from(*self, me);
        let mut text = Text::new(&self.k.machine, how & HASH_ONLY == 0);
        let dump = Dump { cx: *self, names: &names, memory: how & WITHOUT_MEMORY == 0 };
        dump.cpus(&mut text);
        dump.objects(&mut text);
        dump.kernel(&mut text);
        let hash = text.finish();
        if how & HASH_ONLY == 0 {
            exported(hash);
        }
        Ok(Answer::one(hash))
    }
}

/// Where a debugger stops that wants to see what was just exported as text: nothing has changed since.
#[inline(never)]
fn exported(hash: u64) {
    core::hint::black_box(hash);
}

/// A walk over what was found.
struct Dump<'a, 'k, M: Machine> {
    cx: Cx<'k, M>,
    names: &'a Found,
    /// Capabilities, frames, mappings, Untypeds, too.
    memory: bool,
}

impl<M: Machine> Dump<'_, '_, M> {
    /// The name of the object at an address; `-` for none.
    fn name(&self, text: &mut Text<'_, M>, key: &str, addr: u64) {
        text.key(key);
        self.names.write(text, addr);
    }

    /// A time or a span, rounded.
    fn time(&self, text: &mut Text<'_, M>, key: &str, ticks: u64) {
        text.number(key, ticks.saturating_add(1 << (TIME_SHIFT - 1)) >> TIME_SHIFT);
    }

    fn objects(&self, text: &mut Text<'_, M>) {
        for at in 0..self.names.len() {
            let Some(object) = self.names.get(at) else { continue };
            if object.is_memory() && !self.memory {
                continue;
            }
            text.line();
            self.names.write(text, object.addr());
            self.describe(text, object);
            text.end();
            if let (Object::Task(task), true) = (object, self.memory) {
                self.utcb(text, task.get(self.cx.pin()));
            }
        }
        if self.memory {
            self.trees(text);
        }
    }

    /// Run queue, timer, waiters of every CPU that can be looked into.
    fn cpus(&self, text: &mut Text<'_, M>) {
        let cx = self.cx;
        for cpu in cx.k.cpus.iter(cx.pin()) {
            text.line();
            text.number("cpu", cpu.get().id().index() as u64);
            text.flag("mail", cpu.get().mailbox().has_mail());
            if cpu.get().id() != cx.id() {
                text.word("elsewhere");
            } else {
                self.this_cpu(text);
            }
            text.end();
        }
    }

    fn this_cpu(&self, text: &mut Text<'_, M>) {
        let (cx, sched, hot) = (self.cx, &self.cx.sched, &self.cx.hot);
        self.name(text, "runs", hot.current.addr());
        self.name(text, "with", sched.current.addr());
        self.name(text, "in", cx.cpu.vspace.addr());
        // What the fastpath expects of others: that depends on the vector state of who runs.
        text.list("expects");
        for half in [&hot.recv_half, &hot.await_half, &hot.plain_half] {
            text.item(half.get());
        }
        text.end_list();
        let now = cx.k.machine.now();
        self.time(text, "left", sched.until.get().saturating_sub(now));
        text.list("queued");
        for (priority, sc) in sched.queue.iter(cx.pin()).take(LIST_MAX) {
            text.item(u64::from(priority));
            self.names.write(text, sc.addr());
        }
        text.end_list();
        let timer = sched.timer.get();
        if timer != NEVER {
            self.time(text, "timer", timer.saturating_sub(now));
        }
        if !sched.deadlines.is_empty() {
            self.time(text, "soonest", sched.deadlines.soonest());
        }
        text.flag("grace", sched.grace.is_busy());
        text.flag("more-mail", sched.more_mail.get());
        text.list("for-grace");
        let waiters = core::iter::successors(sched.grace_waiters.get(cx.pin()), |task| {
            cx.task_hot(*task)?.wait_next.get(cx.pin())
        });
        for task in waiters.take(LIST_MAX) {
            text.gap();
            self.names.write(text, task.addr());
        }
        text.end_list();
    }

    /// What belongs to no object and to no CPU.
    fn kernel(&self, text: &mut Text<'_, M>) {
        let cx = self.cx;
        text.line();
        text.number("epoch", cx.k.epoch.now());
        #[cfg(feature = "chaos")]
        text.number("events", smp::chaos::events());
        text.number("objects", self.names.len() as u64);
        text.flag("too-many", self.names.is_full());
        text.list("graves");
        let lists = cx.k.graves.lock(cx.pin(), &"the lists of graves");
        let graves = [&lists.open, &lists.refused].map(|list| list.get(cx.pin())).into_iter();
        let graves = graves
            .flat_map(|first| core::iter::successors(first, |cnode| cnode.get().next_grave.get(cx.pin())));
        for cnode in graves.take(LIST_MAX) {
            text.gap();
            self.names.write(text, cnode.addr());
        }
        text.end_list();
        text.end();
    }
}
