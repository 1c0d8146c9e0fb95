//! Event pools: their processes, and events for one process or for all members of a group that
//! listen.
//!
//! The model does not determine when a sender that waits for room continues: see
//! [`State::Posting`]. It also does not describe wake-ups of readers, or capabilities and pages in
//! events.

use abi::events::{BROADCAST, Progress, cells};
use abi::status::SchedEvent;
use abi::{Error, FLAG_NONBLOCK, ObjType, PAGE_SIZE, Rights, TaskId};
use abi::{machine_rights, process_rights, sched_rights, task_rights};

use crate::object::{Access, Event, Mapping, State, Words};
use crate::{Answer, Args, Id, Model, Place, Refusal, Result};

impl Model {
    /// Returns the pool of a live process.
    fn pool_of(&self, process: Id) -> Option<Id> {
        self.process(process).pool
    }

    pub fn pool_bind(&mut self, me: Id, args: &Args) -> Result {
        let [_, _, _, address, bits, _] = args.0;
        let pool = self.find(me, args.cap(0), ObjType::EventPool, Rights::LISTEN)?.object;
        let process = self.find(me, args.cap(1), ObjType::Process, process_rights::CONFIGURE)?.object;
        let reader = self.find(me, args.cap(2), ObjType::Task, task_rights::SCHEDULE)?;
        if bits == 0 {
            return Err(Refusal::argument(4));
        }
        let pages = self.event_pool(pool).size.pages();
        crate::spaces::check_range(address, pages * PAGE_SIZE, PAGE_SIZE)?;
        if self.task(reader.object).process != Some(process) {
            return Err(Error::BadState.into());
        }
        let place = Place::Reader(pool);
        self.check_empty(place).map_err(|why| match why.error {
            Error::SlotOccupied => Error::InUse.into(),
            _ => why,
        })?;
        if self.event_pool(pool).process.is_some() || self.pool_of(process).is_some() {
            return Err(Error::InUse.into());
        }
        if self.is_dying(process) {
            return Err(Error::Dying.into());
        }
        let vspace = self.process(process).vspace.ok_or(Error::BadState)?;
        self.may_map(vspace, pool, Access::Write)?;
        for n in 0..pages {
            let access = if n == 0 { Access::Write } else { Access::Read };
            let mapped = self.map_page(vspace, address + n * PAGE_SIZE, Mapping::Pool(pool), access);
            if let Err(why) = mapped {
                self.unmap_pool(pool, vspace);
                return Err(why);
            }
        }
        if self.is_dying(reader.object) {
            self.unmap_pool(pool, vspace);
            return Err(Error::Dying.into());
        }
        self.process_mut(process).pool = Some(pool);
        self.event_pool_mut(pool).process = Some(process);
        self.derive(place, reader.place, reader.object, Rights::NONE, 0);
        Ok(Answer::DONE)
    }

    fn unmap_pool(&mut self, pool: Id, vspace: Id) {
        self.vspace_mut(vspace).pages.retain(|_, page| *page != Mapping::Pool(pool));
    }

    /// Separates a pool from its process.
    pub(crate) fn part_pool(&mut self, pool: Id) {
        let Some(process) = self.event_pool_mut(pool).process.take() else { return };
        self.process_mut(process).pool = None;
        self.watch.retain(|_, reports_to| *reports_to != pool);
        if let Some(vspace) = self.process(process).vspace {
            self.unmap_pool(pool, vspace);
        }
    }

    pub fn cpu_watch(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::Machine, machine_rights::SECURITY)?;
        let cpu = self.named_cpu(args)?;
        if args.0[1] == 0 {
            self.watch.remove(&cpu);
            return Ok(Answer::DONE);
        }
        let pool = self.find(me, args.cap(1), ObjType::EventPool, Rights::LISTEN)?.object;
        self.check_status_word(pool, args)?;
        if self.is_dying(pool) {
            return Err(Error::Dying.into());
        }
        if self.event_pool(pool).process.is_none() {
            return Err(Error::BadState.into());
        }
        if self.watch.get(&cpu).is_some_and(|other| *other != pool) {
            return Err(Error::InUse.into());
        }
        self.watch.insert(cpu, pool);
        Ok(Answer::DONE)
    }

    fn check_status_word(&self, pool: Id, args: &Args) -> Result<()> {
        let words = self.event_pool(pool).size.status_words();
        if args.0[2] < words as u64 { Ok(()) } else { Err(Refusal::argument(2)) }
    }

    /// Checks the arguments. The model does not say on which CPU the time is: at least one of the
    /// CPUs has to report to the pool.
    pub fn sched_watch(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::SchedContext, sched_rights::OBSERVE)?;
        if args.0[1] == 0 {
            return Ok(Answer::DONE);
        }
        let pool = self.find(me, args.cap(1), ObjType::EventPool, Rights::LISTEN)?.object;
        self.check_status_word(pool, args)?;
        if args.0[3] & !u64::from(SchedEvent::MASK) != 0 {
            return Err(Refusal::argument(3));
        }
        let reports = self.watch.values().any(|reports_to| *reports_to == pool);
        if reports { Ok(Answer::DONE) } else { Err(Error::BadState.into()) }
    }

    /// Checks the arguments. The model does not say when waiting senders continue.
    pub fn pool_room(&mut self, me: Id, args: &Args) -> Result {
        self.find(me, args.cap(0), ObjType::EventPool, Rights::LISTEN)?;
        Ok(Answer::DONE)
    }

    pub fn send(&mut self, me: Id, args: &Args) -> Result {
        let words = Words::new(args)?;
        let (task, custom) = self.resolve_task(me, args.target(0), words.need())?;
        if self.task(task).state == State::Dead {
            return Err(Refusal::dead(self.task(task).id));
        }
        let exposure = args.target(0).index();
        let missing = Refusal::new(Error::NoPool, u64::from(exposure));
        let pool = self.task(task).process.and_then(|process| self.pool_of(process)).ok_or(missing)?;
        if self.put_event(me, pool, words, exposure, custom, None) {
            return Ok(Answer::DONE);
        }
        self.wait_for_room(me, args, pool)?;
        Ok(Answer::Settled)
    }

    pub fn broadcast(&mut self, me: Id, args: &Args) -> Result {
        let words = Words::new(args)?;
        let (group, own) = self.find_group(me, args.cap(0), words.need())?;
        let mut progress = Progress::from_raw(args.target(0).index());
        while let Some(record) = self.group(group).members.get(usize::from(progress.next)).copied() {
            let listens = |it: &crate::object::Member| {
                it.process != self.process_of(me) && it.rights.contains(Rights::LISTEN)
            };
            let pool = record.filter(listens).and_then(|it| self.pool_of(it.process));
            let Some(pool) = pool else {
                progress = progress.past(false);
                continue;
            };
            if !self.put_event(me, pool, words, BROADCAST, own.custom, Some(group)) {
                let detail = Some(u64::from(progress.raw()));
                self.wait_for_room(me, args, pool).map_err(|why| Refusal { detail, ..why })?;
                return Ok(Answer::Settled);
            }
            progress = progress.past(true);
        }
        Ok(Answer::one(u64::from(progress.sent)))
    }

    /// Puts an event into a pool. Returns whether there was room.
    fn put_event(
        &mut self,
        me: Id,
        pool: Id,
        words: Words,
        exposure: u32,
        custom: u16,
        group: Option<Id>,
    ) -> bool {
        let it = self.event_pool(pool);
        let unread = it.events.iter().map(|event| cells(event.text.len())).sum::<u64>();
        if it.kept + unread + cells(words.count) > 1 << it.size.cells_log2 {
            return false;
        }
        let text = self.task(me).utcb[..words.count].to_vec();
        let event = Event { words, sender: self.task(me).id, exposure, custom, group, text };
        self.event_pool_mut(pool).events.push(event);
        true
    }

    /// Checks whether a sender may wait for room, and lets it wait.
    fn wait_for_room(&mut self, me: Id, args: &Args, pool: Id) -> Result<()> {
        if args.1.has(FLAG_NONBLOCK) {
            return Err(Error::WouldBlock.into());
        }
        self.check_deadline(args)?;
        let reader = self.slots.get(&Place::Reader(pool)).ok_or(Refusal::from(Error::Gone))?.object;
        if reader == me {
            return Err(Error::SelfCall.into());
        }
        let Refusal { error, who, .. } = Refusal::dead(self.task(reader).id);
        if self.task(reader).state == State::Dead {
            return Err(Refusal { error, detail: Some(0), who });
        }
        debug_assert!(who != TaskId::NONE);
        self.task_mut(me).state = State::Posting;
        Ok(())
    }
}
