//! Exposures of groups: each names a task or a Notification that the members may send to.

use abi::audit::{AuditEvent, may};
use abi::membership::{EXPOSE_PER_CPU, EXPOSE_WATCH, SHIFT_MAX, WATCHERS};
use abi::{Cap, Error, ObjType, Op, Rights, Target};
use kern_base::group::{Exposure, Group};
use kern_base::header::{FLAG_DEAD, Header};
use kern_base::machine::Machine;
use kern_base::notification::Notification;
use kern_base::objects::{RawWord, header_of};
use kern_base::slot::{Place, Slot};
use kern_base::task::{Task, tag_of};
use smp::door::Ref;
use smp::sync::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use smp::sync::fence;

use crate::caps::slots::CLAIMED;
use crate::rooms::Groups;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// In [`Exposure::part_of`]: a per-CPU exposure begins, and this exposure may become an entry of
/// it. No index has that bit.
const TRIED: u32 = 1 << 31;

/// The kind of an exposure.
#[derive(Clone, Copy)]
enum Kind<'k> {
    /// An exposure of a task, or of a Notification that watches nothing.
    One,
    /// An entry for a task of a per-CPU exposure, whose entries start at `first`.
    PerCpu { head: Ref<'k, Exposure>, index: u32, first: u32 },
    /// An exposure of a watcher, with the value of [`Exposure::watch`].
    Watcher(u32),
}

/// An exposure to make: the object of a slot's word, in the group that a capability names.
#[derive(Clone, Copy)]
struct What<'k> {
    by: Cap,
    group: &'k Group,
    source: Ref<'k, Slot>,
    word: RawWord<'k>,
    header: &'k Header,
}

impl<'k, M: Machine> Groups<'k, M> {
    /// Carries out [`abi::Op::Expose`].
    pub fn expose(self, me: OpenTask<'k>, target: Target, object: Cap, how: u64) -> Result<Answer> {
        let group = self.group_for(me, target.cap(), const { Op::Expose.needs(0, ObjType::Group) })?;
        let (source, word) = self.caps().look(me, object)?;
        let header = header_of(word).ok_or(Refusal::new(Error::NoCapability, u64::from(object.0)))?;
        refuse_if(
            word.get::<Task>().is_none() && word.get::<Notification>().is_none(),
            Refusal::new(Error::WrongType, u64::from(word.object_type())),
        )?;
        let missing = const { Op::Expose.needs(1, ObjType::Task) }.minus(Rights(word.rights()));
        refuse_if(missing != Rights::NONE, Refusal::new(Error::NoRight, u64::from(missing.0)))?;
        let what = What { by: target.cap(), group: group.get(), source, word, header };
        let (index, first) = (target.index(), how >> 32);
        let head = self.entry(what.group, u64::from(index))?;
        let (entry, kind) = match how as u32 {
            0 if how == 0 => (head, Kind::One),
            EXPOSE_PER_CPU => self.per_cpu_entry(what, head, index, first)?,
            EXPOSE_WATCH => (head, watcher(word, index, first)?),
            _ => return Err(Refusal::argument(2)),
        };
        self.fill_exposure(me, what, entry, kind)?;
        if let Kind::Watcher(_) = kind {
            // It learns of all changes from here on.
            what.group.watched.fetch_or(1 << (index % WATCHERS), SeqCst);
        }
        let detail = u64::from(index);
        self.security().audit_to(AuditEvent::Expose, Op::Expose, header, &what.group.header, detail);
        Ok(Answer::DONE)
    }

    pub fn entry(self, group: &Group, index: u64) -> Result<Ref<'k, Exposure>> {
        group.exposures.get(self.pin(), index as usize).ok_or(Refusal::new(Error::NoExposure, index))
    }

    /// Finds a group to act in. The creator of a group acts in it with its DELETE right, all other
    /// processes with their member record.
    pub fn group_for(self, me: OpenTask<'k>, cap: Cap, need: Rights) -> Result<Ref<'k, Group>> {
        let (slot, word) = self.caps().look(me, cap)?;
        self.group_by(me, (slot, word), cap, need)
    }

    /// Finds a group to act in by the word of a slot ([`Groups::group_for`]).
    #[inline(always)]
    pub fn group_by(
        self,
        me: OpenTask<'k>,
        (slot, word): (Ref<'k, Slot>, RawWord<'k>),
        cap: Cap,
        need: Rights,
    ) -> Result<Ref<'k, Group>> {
        if Rights(word.rights()).contains(Rights::DELETE) {
            return self.caps().typed::<Group>(word, cap, need);
        }
        Ok(self.caps().group_in(me, slot, word, cap, need)?.group)
    }

    /// Returns the entry of a task in an exposure with one task per CPU, whose entries start at
    /// `first`.
    fn per_cpu_entry(
        self,
        what: What<'k>,
        head: Ref<'k, Exposure>,
        index: u32,
        first: u64,
    ) -> Result<(Ref<'k, Exposure>, Kind<'k>)> {
        let What { group, word, .. } = what;
        let task = word.get::<Task>().ok_or(Refusal::new(Error::WrongType, u64::from(word.object_type())))?;
        let cpus = self.k.cpu_count() as u64;
        let end = first + cpus;
        refuse_if(
            end > group.exposures.known().len() as u64 || (first..end).contains(&u64::from(index)),
            Refusal::argument(2),
        )?;
        let present = head.get().per_cpu.load(Acquire);
        refuse_if(
            head.get().slot.word.load(self.pin()).object_type() != 0
                || (present != 0 && u64::from(present) != first + 1),
            Error::SlotOccupied,
        )?;
        let entry = self.entry(group, first + self.target_home(task) as u64)?;
        Ok((entry, Kind::PerCpu { head, index, first: first as u32 }))
    }

    /// Returns the CPU on which a task runs, or will run: when it is first resumed, or when it
    /// moves.
    fn target_home(self, task: Ref<'k, Task>) -> usize {
        match self.open(task) {
            Some(hot) => hot.start_on().index(),
            None => task.get().hot.destination().index(),
        }
    }

    /// Returns the id of a task that its process has, or had until the task's death. The id of one
    /// that is just being configured may be taken back.
    fn id_of(self, task: Ref<'k, Task>) -> Option<abi::TaskId> {
        let task = task.get();
        let is_known = task.owner(self.pin()).is_some() || task.header.has_flag(FLAG_DEAD);
        Some(task.id()).filter(|id| is_known && *id != abi::TaskId::NONE)
    }

    fn fill_exposure(
        self,
        me: OpenTask<'k>,
        what: What<'k>,
        entry: Ref<'k, Exposure>,
        kind: Kind<'k>,
    ) -> Result<()> {
        let What { group, source, word, header, .. } = what;
        let exposure = entry.get();
        refuse_if(exposure.per_cpu.load(Acquire) != 0, Error::SlotOccupied)?;
        let task = word.get::<Task>();
        let id = task.map(|task| self.id_of(task).ok_or(Refusal::from(Error::BadState))).transpose()?;
        let slot = entry.map(|e| &e.slot);
        // An exposed object receives words or bits, so exposing it joins the group. A task has the
        // label of its process.
        self.security().may(header, &group.header, may::JOIN)?;
        self.caps().claim(Place { slot, table: &group.header })?;
        let root = self.caps().lock_root(header);
        // From here on only the earlier success of another CPU can cause a failure.
        let there = self.caps().check_parent(&root, source, word);
        let begins = there
            .and_then(|()| self.agree(me, group, entry, kind))
            .inspect_err(|_| self.caps().unclaim(slot))?;
        let watch = if let Kind::Watcher(watch) = kind { watch } else { 0 };
        exposure.watch.store(watch, Release);
        exposure.tag.store(id.map_or(0, tag_of), Release);
        exposure.owner.store(self.identity_of(me), Release);
        self.caps().fill_derived(slot, source, word, Rights::NONE, 0);
        let outcome = self.still_exposes(me, what, kind);
        if outcome.is_err() {
            // The slot has no derived capability, and its parent is there: the lock was held all
            // the time.
            self.caps().take_out(slot, header);
            // Others may have claimed the index of a per-CPU exposure that begins here: they see a
            // per-CPU exposure, or none.
            if let Kind::PerCpu { head, first, .. } = kind
                && begins
                && self.is_head_of(head.get(), me, first)
            {
                self.free_entries(group, head.get(), first);
            }
        }
        outcome
    }

    /// Checks that a new exposure stays: the caller still may expose, and a per-CPU exposure has
    /// not ended meanwhile. A member that is removed after this check leaves its exposure behind,
    /// as it leaves older ones.
    fn still_exposes(self, me: OpenTask<'k>, what: What<'k>, kind: Kind<'k>) -> Result<()> {
        fence(SeqCst);
        self.group_for(me, what.by, Rights::LISTEN)?;
        match kind {
            Kind::PerCpu { head, first, .. } if !self.is_head_of(head.get(), me, first) => Err(Refusal::More),
            _ => Ok(()),
        }
    }

    /// Gives an exposure with a claimed slot one kind. No entries may start there. If it is to be
    /// an entry, it must be one of a per-CPU exposure of the same process; otherwise it must be no
    /// entry. Returns whether a per-CPU exposure begins with it.
    ///
    /// The CPU that fills an exposure claims its slot and then checks whether it is an entry. The
    /// CPU that makes entries marks them and then checks whether they are full or claimed. One of
    /// the two sees the other.
    fn agree(
        self,
        me: OpenTask<'k>,
        group: &'k Group,
        entry: Ref<'k, Exposure>,
        kind: Kind<'k>,
    ) -> Result<bool> {
        let exposure = entry.get();
        let mut begins = false;
        refuse_if(exposure.per_cpu.load(Acquire) != 0, Error::SlotOccupied)?;
        let agrees = match kind {
            Kind::One | Kind::Watcher(_) => exposure.part_of.load(SeqCst) == 0,
            Kind::PerCpu { head, index, first } => {
                if head.get().per_cpu.load(Acquire) == 0 {
                    begins = self.begin_per_cpu(me, group, head.get(), (index, first), entry)?;
                }
                self.is_head_of(head.get(), me, first)
            }
        };
        if agrees { Ok(begins) } else { Err(Error::SlotOccupied.into()) }
    }

    /// Gives an exposure entries, one for each CPU.
    /// Returns: whether this call gave it the entries.
    fn begin_per_cpu(
        self,
        me: OpenTask<'k>,
        group: &'k Group,
        head: &Exposure,
        (index, first): (u32, u32),
        claimed: Ref<'k, Exposure>,
    ) -> Result<bool> {
        let word = head.slot.word.load(self.pin());
        refuse_if(word.object_type() != 0, Error::SlotOccupied)?;
        decide(head, word, || {
            refuse_if(head.part_of.load(SeqCst) != 0, Error::SlotOccupied)?;
            if head.per_cpu.load(Acquire) != 0 {
                return Ok(false);
            }
            self.take_entries(group, index, first, claimed)?;
            head.owner.store(self.identity_of(me), Release);
            head.per_cpu.store(first + 1, Release);
            Ok(true)
        })
    }

    /// Marks all entries of a per-CPU exposure, or none. The caller has claimed one of them; the
    /// others must be empty. Calls check the same marks. So each entry has a mark that no call
    /// accepts ([`TRIED`]) until all entries were checked: a call to this exposure must not find
    /// what another exposure left in one of them.
    fn take_entries(
        self,
        group: &'k Group,
        index: u32,
        first: u32,
        claimed: Ref<'k, Exposure>,
    ) -> Result<()> {
        let mark = |entry: Ref<'k, Exposure>| {
            entry.get().part_of.compare_exchange(0, TRIED | (index + 1), SeqCst, Relaxed).is_ok()
        };
        let marked = self.entries(group, first).take_while(|entry| mark(*entry)).count();
        fence(SeqCst);
        let is_free = |entry: Ref<'k, Exposure>| {
            let word = entry.get().slot.word.load(self.pin());
            refuse_if(
                word.object_type() != 0 || entry.get().per_cpu.load(Acquire) != 0,
                Error::SlotOccupied,
            )?;
            let stamp = word.empty_value();
            refuse_if(stamp >= CLAIMED, Refusal::More)?;
            // A call to the earlier contents may just be checking whose entry this is.
            refuse_if(!self.k.cpus.epoch.is_reusable(stamp), Refusal::Restart { epoch: stamp + 2 })
        };
        let outcome = match marked < self.k.cpu_count() {
            true => Err(Error::SlotOccupied.into()),
            false => self.entries(group, first).filter(|entry| *entry != claimed).try_for_each(is_free),
        };
        let part_of = if outcome.is_ok() { index + 1 } else { 0 };
        self.entries(group, first).take(marked).for_each(|entry| entry.get().part_of.store(part_of, Release));
        outcome
    }

    /// Returns the entries of a per-CPU exposure that start at an index.
    fn entries(self, group: &'k Group, first: u32) -> impl Iterator<Item = Ref<'k, Exposure>> {
        let first = first as usize;
        (first..first + self.k.cpu_count()).filter_map(move |at| group.exposures.known().get(self.pin(), at))
    }

    /// Ends an exposure with one task per CPU: of any process (`of_all`), or only of the caller's
    /// own. What is exposed in its entries stays there. Returns whether this call ended it.
    pub fn end_per_cpu(
        self,
        me: OpenTask<'k>,
        group: &'k Group,
        head: &Exposure,
        word: RawWord<'k>,
        of_all: bool,
    ) -> Result<bool> {
        decide(head, word, || {
            let starts = head.per_cpu.load(Acquire);
            refuse_if(starts != 0 && !of_all && !self.is_own(head, me), not_own())?;
            Ok(starts != 0 && self.free_entries(group, head, starts - 1))
        })
    }

    /// Frees the entries of a per-CPU exposure. Returns whether this call ended the exposure. Only
    /// the CPU that ended it removes the marks, and no CPU marks an entry before.
    fn free_entries(self, group: &'k Group, head: &Exposure, first: u32) -> bool {
        let ended = head.per_cpu.compare_exchange(first + 1, 0, AcqRel, Relaxed).is_ok();
        if ended {
            self.entries(group, first).for_each(|entry| entry.get().part_of.store(0, Release));
        }
        ended
    }

    /// Whether the caller may withdraw an exposure: its process made the exposure, or the task in
    /// it is of its process.
    pub fn owns(self, me: OpenTask<'k>, exposure: &Exposure, word: RawWord<'k>) -> bool {
        let own = self.identity_of(me);
        let is_of_own = |task: Ref<'k, Task>| task.get().of_process() == own;
        self.is_own(exposure, me) || word.get::<Task>().is_some_and(is_of_own)
    }

    /// Returns the identity of the caller's process.
    fn identity_of(self, me: OpenTask<'k>) -> u64 {
        me.process(self.pin()).get().header.identity()
    }

    /// Whether the caller's process made an exposure.
    fn is_own(self, exposure: &Exposure, me: OpenTask<'k>) -> bool {
        exposure.owner.load(Acquire) == self.identity_of(me)
    }

    /// Returns whether the caller's process made the per-CPU exposure `head`, whose entries start
    /// at index `first`.
    fn is_head_of(self, head: &Exposure, me: OpenTask<'k>, first: u32) -> bool {
        head.per_cpu.load(Acquire) == first + 1 && self.is_own(head, me)
    }
}

/// Returns the refusal for an exposure of another process, whose withdrawal needs REMOVE.
pub fn not_own() -> Refusal {
    Refusal::new(Error::NoRight, u64::from(Rights::REMOVE.0))
}

/// Claims an empty exposure's slot while its kind changes, because the CPU with the claim decides
/// the kind of an index.
/// Errors: [`Refusal::More`] if another CPU decides.
fn decide<T>(head: &Exposure, word: RawWord<'_>, change: impl FnOnce() -> Result<T>) -> Result<T> {
    refuse_if(word.empty_value() >= CLAIMED || !head.slot.word.claim(word, CLAIMED), Refusal::More)?;
    let outcome = change();
    head.slot.word.set_empty(word.empty_value());
    outcome
}

/// Checks that an exposure may become a watcher's: a Notification, whose bits are shifted by
/// `shift`.
fn watcher<'k>(word: RawWord<'k>, index: u32, shift: u64) -> Result<Kind<'k>> {
    refuse_if(
        word.get::<Notification>().is_none(),
        Refusal::new(Error::WrongType, u64::from(word.object_type())),
    )?;
    refuse_if(index >= WATCHERS, Refusal::argument(0))?;
    if shift > SHIFT_MAX { Err(Refusal::argument(2)) } else { Ok(Kind::Watcher(shift as u32 + 1)) }
}
