//! Security labels: mandatory access control.
//!
//! Every object has a label; 0 is none. A new object gets the label of its Untyped or, if that has
//! none, the label of the process that makes it. A process, its CSpace, its address space and its
//! tasks have one label. Subjects without a label are not confined: they may do what their
//! capabilities allow. So nothing is checked until a label is set, and after that a check costs
//! unlabelled subjects one load.
//!
//! # Where the kernel checks
//! [`Security::may`] is the only check. The kernel calls it when a process gains or sees something:
//! a capability that comes into its CSpace from elsewhere, a group that it joins, a page that comes
//! into its space by mapping, with a message, or as a task's UTCB. A task or a Notification that is
//! exposed in a group joins the group, and so does the caller of a call that is forwarded into a
//! group; a Reply object that keeps a call counts as a group of two. A copy of a page belongs to
//! another object, so [`Security::may_copy`] checks for every subject that may read that object
//! whether it may also read the original. Using what a process already has needs no check. For
//! example, words of IPC through a group need none, since joining the group was checked.
//!
//! # Branch predictors
//! A CPU that switches to a task of another label flushes its branch predictors first. A task's
//! state word has the label of its process, and [`CpuHot::special_on`](kern_base::cpu::CpuHot) has
//! the label of the tasks that trained the CPU's predictors. The fastpath switches only between
//! tasks with equal labels; every other switch compares the two labels. A task gets the label when
//! it is configured. [`abi::Op::LabelSet`] of a process informs its existing tasks.
//!
//! # Memory ordering
//! A rule is one byte. Another byte per subject, written after the rule, holds the union of what
//! all rules of that subject forbid. The CPU that changes a rule stores with `Release`, and a check
//! loads with `Acquire`; no CPU is interrupted, and no other data depends on the order. A check
//! that begins on another CPU after that CPU has learned of the rule (by a message, for example)
//! applies the new rule. A check that is under way at that moment may still apply the old one. That
//! ends when every CPU has left the kernel once, as after any system call that waits for a grace
//! period. Earlier grants stay valid; a revoke takes them back.

use abi::Error;
use abi::audit::{LABELS, may};
use kern_base::frames::FrameInfo;
use kern_base::header::Header;
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::{CNode, Place};
use kern_base::task::Task;
use smp::cpu::Pin;
use smp::door::Ref;
use smp::door::masked::mask_index;
use smp::lock::Lock;
use smp::sync::AtomicU8;
use smp::sync::Ordering::{Acquire, Release};

use crate::rooms::Security;
use crate::{OpenTask, Refusal, Result};

const COUNT: usize = LABELS as usize;

/// Rules: what subjects of one label may not do with objects of another.
pub struct Rules {
    forbidden: [AtomicU8; COUNT * COUNT],
    /// For each subject, what it may not do with objects of some label, so that subjects without
    /// rules pay nothing.
    confined: [AtomicU8; COUNT],
    /// Held while a rule changes.
    changing: Lock<()>,
}

impl Rules {
    /// Makes rules that allow everything.
    pub const fn new() -> Rules {
        Rules {
            forbidden: [const { AtomicU8::new(0) }; COUNT * COUNT],
            confined: [const { AtomicU8::new(0) }; COUNT],
            changing: Lock::new(()),
        }
    }

    /// Returns whether some rule forbids `what` to subjects of a label.
    pub fn confine(&self, subject: u32, what: u8) -> bool {
        self.confined.get(subject as usize).is_none_or(|confined| confined.load(Acquire) & what != 0)
    }

    /// Visits each pair of labels, subject and object, with a rule, and what it forbids. For
    /// surveys.
    pub fn each_forbidden(&self, mut show: impl FnMut(u32, u32, u8)) {
        let confined = |subject: &u32| self.confine(*subject, may::ALL);
        for subject in (0..LABELS).filter(confined) {
            for object in 0..LABELS {
                match self.of(subject, object).map_or(0, |rule| rule.load(Acquire)) {
                    0 => {}
                    forbidden => show(subject, object, forbidden),
                }
            }
        }
    }

    /// Sets what subjects of one label may not do with objects of another. Returns what was
    /// forbidden before.
    pub fn change(&self, pin: Pin<'_>, subject: u32, object: u32, forbidden: u8) -> Option<u8> {
        let _guard = self.changing.lock(pin, &"the rules of labels");
        let before = self.of(subject, object)?.load(Acquire);
        self.of(subject, object)?.store(forbidden, Release);
        let all = (0..LABELS).filter_map(|object| self.of(subject, object));
        let confined = all.fold(0, |all, rule| all | rule.load(Acquire));
        self.confined.get(subject as usize)?.store(confined, Release);
        Some(before)
    }

    fn of(&self, subject: u32, object: u32) -> Option<&AtomicU8> {
        if subject >= LABELS || object >= LABELS {
            return None;
        }
        let [subject, object] = [subject, object].map(|label| mask_index(label as usize, COUNT));
        self.forbidden.get(subject * COUNT + object)
    }
}

impl<'k, M: Machine> Security<'k, M> {
    /// Checks that the rules let a subject gain an object in a way ([`may`]). Each operation that
    /// has this effect calls it before.
    pub fn may(self, subject: &Header, object: &Header, what: u8) -> Result<()> {
        if subject.label() == 0 { Ok(()) } else { self.may_label(subject.label(), object.label(), what) }
    }

    #[cold]
    fn may_label(self, subject: u32, object: u32, what: u8) -> Result<()> {
        if !self.k.rules.confine(subject, what) {
            return Ok(());
        }
        let forbidden = self.k.rules.of(subject, object).map_or(may::ALL, |rule| rule.load(Acquire));
        if forbidden & what == 0 {
            return Ok(());
        }
        Err(Refusal::new(Error::Forbidden, u64::from(subject) << 32 | u64::from(object)))
    }

    /// Checks that the rules let a capability of an object come to a slot. Within one CSpace they
    /// always do.
    pub fn may_grant(self, me: OpenTask<'k>, to: Place<'k>, object: &Header) -> Result<()> {
        self.may_grant_new(me, to, object.label())
    }

    /// Checks that the rules let a process send a capability of an object to a slot.
    pub fn may_send(self, from: Ref<'k, Process>, to: Place<'k>, object: &Header) -> Result<()> {
        if to.table.label() == 0 { Ok(()) } else { self.may_grant_label(from, to, object.label()) }
    }

    /// Checks that the rules let a capability of a new object with a label come to a slot. The
    /// object is not made yet.
    pub fn may_grant_new(self, me: OpenTask<'k>, to: Place<'k>, label: u32) -> Result<()> {
        if to.table.label() == 0 { Ok(()) } else { self.may_grant_label(me.process(self.pin()), to, label) }
    }

    #[cold]
    fn may_grant_label(self, from: Ref<'k, Process>, to: Place<'k>, label: u32) -> Result<()> {
        if from.get().has_table(self.pin(), to.table) {
            return Ok(());
        }
        self.may_label(to.table.label(), label, may::GRANT)
    }

    /// Checks that the rules let a space with a label map the pages of an object.
    #[cold]
    pub fn may_map(self, space: &VSpace, object: &Header, access: Access) -> Result<()> {
        self.may(&space.header, object, to_map(access))
    }

    /// Checks that the rules let a space with a label map a page, whichever object the page is of.
    #[inline(always)]
    pub fn may_see(self, space: &VSpace, page: &FrameInfo, access: Access) -> Result<()> {
        if !self.k.rules.confine(space.header.label(), to_map(access)) {
            return Ok(());
        }
        match header_of(page.owner(self.pin())) {
            Some(owner) => self.may_map(space, owner, access),
            None => Ok(()),
        }
    }

    /// Checks that the rules let the contents of one object be copied into another: each subject
    /// that may read the copy must be allowed to read the original.
    pub fn may_copy(self, from: &Header, to: &Header) -> Result<()> {
        let (from, to) = (from.label(), to.label());
        if from == to {
            return Ok(());
        }
        let launders = |subject: &u32| {
            self.may_label(*subject, to, may::READ).is_ok()
                && self.may_label(*subject, from, may::READ).is_err()
        };
        match (1..LABELS).find(launders) {
            Some(_) => Err(Refusal::new(Error::Forbidden, u64::from(to) << 32 | u64::from(from))),
            None => Ok(()),
        }
    }

    /// Returns the label of objects made of an Untyped.
    #[inline(always)]
    pub fn label_of_new(self, maker: &Process, untyped: &Header) -> u32 {
        match untyped.label() {
            0 => maker.header.label(),
            own => own,
        }
    }

    /// Checks that the three parts of a process have one label.
    /// Requires: the lock of spaces is held.
    pub fn same_label(self, headers: [&Header; 3]) -> Result<()> {
        let [process, cnode, space] = headers.map(Header::label);
        if process == cnode && process == space {
            return Ok(());
        }
        Err(differ(process, if process == cnode { space } else { cnode }))
    }

    /// Whether a part of a process may get the process's label: it has that one, or none.
    pub fn may_adopt(self, process: &Header, part: &Header) -> Result<()> {
        let (label, before) = (process.label(), part.label());
        if before == label || before == 0 { Ok(()) } else { Err(differ(label, before)) }
    }

    /// Returns the process that an object is a part of.
    /// Requires: the lock of spaces is held.
    pub fn process_with(self, part: RawWord<'k>) -> Option<Ref<'k, Process>> {
        if let Some(table) = part.get::<CNode>() {
            return table.get().process.get(self.pin());
        }
        if let Some(space) = part.get::<VSpace>() {
            return space.get().process.get(self.pin());
        }
        part.get::<Task>()?.get().bound_to(self.pin())
    }
}

/// Returns the refusal for a part of a process with another label than the process.
pub fn differ(process: u32, part: u32) -> Refusal {
    Refusal::new(Error::Forbidden, u64::from(process) << 32 | u64::from(part))
}

/// Returns what the rules must allow for a mapping with this access.
const fn to_map(access: Access) -> u8 {
    match access {
        Access::Write => may::READ | may::WRITE,
        Access::Read | Access::Execute => may::READ,
    }
}
