//! Binding a pool to its process, and parting the two.
//!
//! # In steps
//! A pool has up to 338 pages, so one kernel entry maps or unmaps a part of them. The pool notes
//! where its pages are, and how many ([`Placement`]). The system call goes on from there when it
//! restarts. A task that finds a pool which was not bound completely goes on, if it binds the pool
//! to the same place. Otherwise it unmaps the pages first.
//!
//! A pool belongs to a process when all its pages are mapped. Only then do senders find it. It
//! belongs to nobody as soon as its parting begins. Its process and its address space end after
//! that parting, so the pages never stay behind.
//!
//! # Who may touch what
//! A pool's `process` and its placement change under the pool's lock `placement`, which is taken
//! before the VSpace's lock. The CPU that ends a process or a pool marks it as dying, and then
//! looks at the placement. The CPU that begins to map notes the placement, and then looks at the
//! marks. One of the two sees the other.

use abi::{Error, Op, PAGE_SIZE, Rights};
use kern_base::events::{EventPool, Placement};
use kern_base::header::FLAG_DYING;
use kern_base::limits::POOL_PAGE_WORK;
use kern_base::machine::{Access, Machine};
use kern_base::process::Process;
use kern_base::slot::Place;
use kern_base::task::Task;
use smp::door::Ref;
use smp::sync::Ordering::{Relaxed, SeqCst};
use smp::sync::fence;

use crate::args::Args;
use crate::begun::{is_again, mark_again};
use crate::mem::map::check_user_range;
use crate::rooms::Events;
use crate::{Answer, OpenTask, Refusal, Result, refuse_if};

/// Where a pool shall be mapped.
#[derive(Clone, Copy)]
struct Home<'k> {
    process: Ref<'k, Process>,
    address: u64,
}

impl<'k, M: Machine> Events<'k, M> {
    /// Carries out [`abi::Op::PoolBind`].
    pub fn pool_bind(self, me: OpenTask<'k>, args: &Args) -> Result<Answer> {
        let pool = self.caps().operand::<EventPool, { Op::PoolBind as u8 }, 0>(me, args.cap())?;
        let process = self.caps().operand::<Process, { Op::PoolBind as u8 }, 1>(me, args.cap1())?;
        let cap = args.cap2();
        let source = self.caps().slot_of(me.process(self.pin()), cap)?;
        let word = source.get().word.load(self.pin());
        let reader = self.caps().typed_operand::<Task, { Op::PoolBind as u8 }, 2>(word, cap)?;
        let (address, bits) = (args.a3, args.a4);
        refuse_if(bits == 0, Refusal::argument(4))?;
        let bytes = pool.get().size().pages() * PAGE_SIZE;
        check_user_range(address, bytes, PAGE_SIZE)?;
        refuse_if(reader.get().owner(self.pin()) != Some(process), Error::BadState)?;
        self.make_place_in(process, pool)?;
        let slot = pool.map(|p| &p.reader);
        self.caps().claim(Place { slot, table: &pool.get().header }).map_err(|refusal| match refusal {
            Refusal::Error { error: Error::SlotOccupied, .. } => Error::InUse.into(),
            other => other,
        })?;
        if let Err(refusal) = self.give_pool(me, pool, Home { process, address }, bits) {
            self.caps().unclaim(slot);
            return Err(refusal);
        }
        let header = &reader.get().header;
        let root = self.caps().lock_root(header);
        if let Err(refusal) = self.caps().check_parent(&root, source, word) {
            drop(root);
            self.caps().unclaim(slot);
            // If this entry has no work for all pages, the next task that comes unmaps the others.
            let _ = self.part_pool(pool, None);
            return Err(refusal);
        }
        self.caps().fill_derived(slot, source, word, Rights::NONE, 0);
        self.security().audit_bind(Op::PoolBind, &pool.get().header, process.get());
        Ok(Answer::DONE)
    }

    /// Unmaps the pages of another pool that was not bound to the process completely.
    fn make_place_in(self, process: Ref<'k, Process>, pool: Ref<'k, EventPool>) -> Result<()> {
        let Some(other) = process.get().placed_pool.get(self.pin()).filter(|other| *other != pool) else {
            return Ok(());
        };
        let place = other.get().placement.lock(self.cpu, &other.get().header);
        if !place.process.is(process) {
            return Ok(());
        }
        refuse_if(!other.get().process.is_null(), Error::InUse)?;
        self.unplace(other, &place)
    }

    /// Gives a pool to a process, and maps it there.
    /// Errors: [`Refusal::More`] when pages are left.
    fn give_pool(self, me: OpenTask<'k>, pool: Ref<'k, EventPool>, home: Home<'k>, bits: u64) -> Result<()> {
        let place = pool.get().placement.lock(self.cpu, &pool.get().header);
        refuse_if(!pool.get().process.is_null(), Error::InUse)?;
        self.begin_place(me, pool, &place, home)?;
        let process = home.process.get();
        // The task that ends the pool or the process unmaps the pages, and nobody maps more.
        let headers = [&process.header, &pool.get().header];
        let is_dying = headers.iter().any(|header| header.has_flag(FLAG_DYING));
        let mapped =
            if is_dying { Err(Error::Dying.into()) } else { self.map_pool(me, pool, &place, process) };
        if let Err(Refusal::Error { error, detail, .. }) = mapped {
            place.refused.set(Some((error, detail)));
            mark_again(me.part());
            self.unplace(pool, &place)?;
        }
        mapped?;
        pool.get().bits.store(bits, Relaxed);
        // Senders that waited for room when the pool was another process's wait no more.
        pool.get().reserved.open(&pool.get().shown(self.pin()));
        pool.get().process.set(Some(home.process));
        // From here on other CPUs put events into the pool.
        process.pool.set(Some(pool));
        Ok(())
    }

    /// Notes where a pool is being mapped, unless it is half mapped there already. What is mapped
    /// elsewhere is unmapped first, and so is what could not be mapped completely.
    /// Errors: why it could not be mapped, to the task that had begun to.
    fn begin_place(
        self,
        me: OpenTask<'k>,
        pool: Ref<'k, EventPool>,
        place: &Placement,
        home: Home<'k>,
    ) -> Result<()> {
        if let Some(process) = place.process.get(self.pin()) {
            let is_same = process == home.process && place.address.get() == home.address;
            let refused = place.refused.get();
            if is_same && refused.is_none() {
                return Ok(());
            }
            self.unplace(pool, place)?;
            // Another task that comes for that place tries again.
            if let Some((error, detail)) = refused.filter(|_| is_same && is_again(me.part())) {
                return Err(Refusal::new(error, detail));
            }
        }
        // A CPU that has found the pool through its former process may still put an event there.
        let parted = pool.get().parted.load(Relaxed);
        refuse_if(!self.k.cpus.epoch.is_reusable(parted), Refusal::Restart { epoch: parted + 2 })?;
        // And a CPU that runs tasks of that process may still reach the pool's pages.
        if let Some(stamp) = place.flushed_by.get() {
            self.tlb().wait_over(me, stamp)?;
            place.flushed_by.set(None);
        }
        refuse_if(!home.process.get().placed_pool.claim(pool), Error::InUse)?;
        place.begin(home.process, home.address);
        fence(SeqCst);
        Ok(())
    }

    /// Maps the pages of a pool that are not mapped yet.
    fn map_pool(
        self,
        me: OpenTask<'k>,
        pool: Ref<'k, EventPool>,
        place: &Placement,
        process: &'k Process,
    ) -> Result<()> {
        let vspace = process.vspace.get(self.pin()).ok_or(Refusal::from(Error::BadState))?;
        if !vspace.get().is_plain() {
            self.security().may_map(vspace.get(), &pool.get().header, Access::Write)?;
        }
        let _guard = vspace.get().lock(self.cpu);
        for (page, write) in pool.get().pages().skip(place.mapped.get() as usize) {
            self.afford(POOL_PAGE_WORK)?;
            let access = if write { Access::Write } else { Access::Read };
            self.mem().map_plain(Some(me), vspace, place.end(), page, access)?;
            place.mapped.set(place.mapped.get() + 1);
        }
        Ok(())
    }

    /// Unmaps the pages of a pool that are mapped, and gives up its place. Unmaps one page without
    /// asking for work.
    /// Errors: [`Refusal::More`] when pages are left.
    fn unplace(self, pool: Ref<'k, EventPool>, place: &Placement) -> Result<()> {
        let Some(process) = place.process.get(self.pin()) else { return Ok(()) };
        let mut pages = place.mapped.get().min(1);
        if pages != 0 {
            self.bound_work();
        }
        while pages < place.mapped.get() && self.spend(POOL_PAGE_WORK) {
            pages += 1;
        }
        place.mapped.set(place.mapped.get() - pages);
        // A process loses its address space after its pool.
        if let Some(vspace) = process.get().vspace.get(self.pin()) {
            let _guard = vspace.get().lock(self.cpu);
            let stamp = self.mem().unmap_plain(vspace, place.end(), pages);
            place.flushed_by.set(stamp.or(place.flushed_by.get()));
        }
        refuse_if(place.mapped.get() != 0, Refusal::More)?;
        debug_assert!(process.get().placed_pool.is(pool), "a pool's place is its process's");
        process.get().placed_pool.set(None);
        place.end_here();
        Ok(())
    }

    /// Makes a pool nobody's. No CPU reports to it from now on.
    fn leave_process(self, pool: Ref<'k, EventPool>) {
        if pool.get().status_pages == 0 {
            return pool.get().process.set(None);
        }
        let _policies = self.time().lock_watching();
        pool.get().policy.store(0, Relaxed);
        for cpu in self.k.cpus.iter(self.pin()).filter(|cpu| cpu.watch.is(pool)) {
            cpu.watch.set(None);
        }
        pool.get().process.set(None);
    }

    /// Separates a pool from its process, and unmaps its pages. No event transfers capabilities or
    /// pages to that process any more, whose spaces may belong to another process afterwards.
    /// Another process can get the pool after a grace period. With `from`, only if it is that
    /// process's.
    /// Errors: [`Refusal::More`] when pages are left.
    pub fn part_pool(self, pool: Ref<'k, EventPool>, from: Option<Ref<'k, Process>>) -> Result<()> {
        let taking = pool.get().taking.lock(self.cpu, &pool.get().header);
        let place = pool.get().placement.lock(self.cpu, &pool.get().header);
        // Another CPU has separated it, and perhaps it is already being bound to another process.
        if from.is_some_and(|process| !place.process.is(process)) {
            return Ok(());
        }
        // Otherwise it was not bound completely.
        if let Some(process) = pool.get().process.get(self.pin()) {
            process.get().pool.set(None);
            self.leave_process(pool);
            pool.get().parted.store(self.k.cpus.epoch.stamp(), Relaxed);
        }
        drop(taking);
        self.unplace(pool, &place)
    }
}
