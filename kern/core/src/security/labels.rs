//! Security labels: the mandatory check.
//!
//! Every object has a label; 0 is none. An object gets that of the Untyped that it is made of, or where that has none that
//! of its maker. A process, its CSpace, its address space and its tasks have one label. Subjects without label are not
//! confined: whoever has none may do what its capabilities let it do. So all of this is off until somebody sets a label,
//! and then it costs the others one load.
//!
//! # Where it is asked
//! [`Security::may`] is the one place. It is asked where a process comes to hold or see something: a capability that comes into
//! its CSpace from elsewhere, a group that it joins, a page that comes into its space, by mapping, with a message, or as a task's
//! UTCB. A task or a Notification that is exposed in a group joins it, and so does the caller of a call that is forwarded
//! into a group; a Reply object that keeps a call stands for a group of two. A page's copy is another object's: [`Security::may_copy`] asks on behalf of all who may read that. Never
//! where it uses what it has: words of IPC through a group need no check, since joining was one.
//!
//! # Branch predictors
//! A CPU that goes on with a task of another label flushes its branch predictors first. A task's state word has the label of
//! its process, and [`CpuHot::special_on`](kern_base::cpu::CpuHot) the label of those who trained the predictors. The
//! fastpath switches only between tasks of one label; every other switch compares the two. A task reads the label when it is
//! configured. [`abi::Op::LabelSet`] of a process tells the tasks that are there already.
//!
//! # Memory ordering
//! A rule is one byte; what all rules of a subject forbid together, another, written after it. Whoever changes it stores with `Release`, a check loads with `Acquire`, no CPU is stopped, and
//! nothing else hangs on it. A check that begins on another CPU after it has learned (by a message, say) that the rule was
//! set goes by the new one. One that is under way at that moment may still go by the old one: that is over when every CPU
//! has left the kernel once, as after any system call that waits for a grace period. What was granted before stays; to
//! take it back is what revoke is for.

use abi::audit::{LABELS, may};
use abi::{Error, TaskId};
use kern_base::frames::FrameInfo;
use kern_base::header::{FLAG_ADOPTED, Header};
use kern_base::machine::{Access, Machine};
use kern_base::memory::VSpace;
use kern_base::objects::{RawWord, header_of};
use kern_base::process::Process;
use kern_base::slot::CNode;
use kern_base::task::Task;
use smp::cpu::Pin;
use smp::door::Ref;
use smp::door::masked::mask_index;
use smp::lock::Lock;
use smp::sync::AtomicU8;
use smp::sync::Ordering::{Acquire, Release};

use crate::rooms::Security;
use crate::{Me, Refusal, Result};
use kern_base::slot::Place;

const COUNT: usize = LABELS as usize;

/// What subjects of one label may not do with objects of another.
pub struct Rules {
    forbidden: [AtomicU8; COUNT * COUNT],
    /// Of each subject, what it may not do with objects of some label: so that it costs those nothing whom no rule confines.
    confined: [AtomicU8; COUNT],
    /// Held by who changes a rule.
    changing: Lock<()>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new()
    }
}

impl Rules {
    /// Everything is allowed.
    pub const fn new() -> Rules {
        Rules {
            forbidden: [const { AtomicU8::new(0) }; COUNT * COUNT],
            confined: [const { AtomicU8::new(0) }; COUNT],
            changing: Lock::new(()),
        }
    }

    /// Whether there are objects with which subjects of a label may not do something.
    pub fn confine(&self, subject: u32, what: u8) -> bool {
        self.confined.get(subject as usize).is_none_or(|confined| confined.load(Acquire) & what != 0)
    }

    /// Shows each pair of labels, subject and object, of which something is forbidden, and what. For surveys.
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

    /// Forbids subjects of one label some things with objects of another, and allows the others: what was forbidden.
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
    /// Whether a subject may come by an object in a way ([`may`]): asked by whatever brings that about, before it does.
    #[inline(always)]
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

    /// Whether a capability of an object may come to a slot. Within one CSpace it may.
    #[inline(always)]
    pub fn may_grant(self, me: Me<'k>, to: Place<'k>, object: &Header) -> Result<()> {
        self.may_grant_new(me, to, object.label())
    }

    /// The same of one that a process sends.
    #[inline(always)]
    pub fn may_send(self, from: Ref<'k, Process>, to: Place<'k>, object: &Header) -> Result<()> {
        if to.table.label() == 0 { Ok(()) } else { self.may_grant_label(from, to, object.label()) }
    }

    /// The same of an object with a label that is not made yet.
    #[inline(always)]
    pub fn may_grant_new(self, me: Me<'k>, to: Place<'k>, label: u32) -> Result<()> {
        if to.table.label() == 0 { Ok(()) } else { self.may_grant_label(me.process(self.pin()), to, label) }
    }

    #[cold]
    fn may_grant_label(self, from: Ref<'k, Process>, to: Place<'k>, label: u32) -> Result<()> {
        if from.get().has_table(self.pin(), to.table) {
            return Ok(());
        }
        self.may_label(to.table.label(), label, may::GRANT)
    }

    /// Whether a space that has a label may map the pages of an object.
    #[cold]
    pub fn may_map(self, space: &VSpace, object: &Header, access: Access) -> Result<()> {
        self.may(&space.header, object, to_map(access))
    }

    /// The same of a page, whosever it is.
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

    /// Whether the contents of one object may be copied into another: nobody who may read the copy is kept from the original.
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

    /// The label of what is made of an Untyped.
    #[inline(always)]
    pub fn label_of_new(self, maker: &Process, untyped: &Header) -> u32 {
        match untyped.label() {
            0 => maker.header.label(),
            own => own,
        }
    }

    /// The three that make up a process have one label. The lock of spaces is held.
    pub fn same_label(self, headers: [&Header; 3]) -> Result<()> {
        let [process, cnode, space] = headers.map(Header::label);
        if process == cnode && process == space {
            return Ok(());
        }
        Err(differ(process, if process == cnode { space } else { cnode }))
    }

    /// Gives a part without label the label of its process, and marks that it came so. The lock of spaces is held.
    ///
    /// Errors: Forbidden, if the part has another label.
    pub fn adopt_label(self, process: &Header, part: &Header) -> Result<()> {
        let (label, before) = (process.label(), part.label());
        if before == label {
            return Ok(());
        }
        if before != 0 {
            return Err(differ(label, before));
        }
        part.set_label(label);
        part.set_flag(FLAG_ADOPTED);
        Ok(())
    }

    /// The process that an object is a part of. The lock of spaces is held.
    pub fn process_with(self, part: RawWord<'k>) -> Option<Ref<'k, Process>> {
        if let Some(table) = part.get::<CNode>() {
            return table.get().process.get(self.pin());
        }
        if let Some(space) = part.get::<VSpace>() {
            return space.get().process.get(self.pin());
        }
        let task = part.get::<Task>()?;
        let id = task.get().id();
        if id == TaskId::NONE {
            return None;
        }
        let process = self.k.processes.process(self.pin(), id.process())?;
        let number = process.get().tasks.get(self.pin(), usize::from(id.task()))?;
        number.get().task.is(task).then_some(process)
    }
}

/// What is refused since a part of a process would have another label than the process.
pub fn differ(process: u32, part: u32) -> Refusal {
    Refusal::new(Error::Forbidden, u64::from(process) << 32 | u64::from(part))
}

/// What a mapping asks for.
const fn to_map(access: Access) -> u8 {
    match access {
        Access::Write => may::READ | may::WRITE,
        Access::Read | Access::Execute => may::READ,
    }
}
