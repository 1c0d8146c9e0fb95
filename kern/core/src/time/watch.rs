//! Status words and events: what CPUs tell a scheduling policy ([`abi::status`]).
//!
//! A CPU reports to one event pool ([`CpuShared::watch`](kern_base::cpu::CpuShared)). While CPUs
//! report to it, a pool has a number, which no pool had before: its *policy*. A watched
//! SchedContext names its policy, and only a CPU that reports to that policy reports the context.
//! So nothing refers to a pool but the CPUs' links. These and the number go when the pool leaves
//! its process, and no policy that ends leaves anything behind: a context whose CPU reports to
//! another policy, or to none, is not watched any more ([`Time::tell`]). A process that gets the
//! pool later is another policy.
//!
//! Nothing here costs anything while nobody asks. A watched context is one that needs care where it
//! starts and stops ([`ScState::needs_care`](sched::ScState::needs_care)), as one with a budget
//! does, and the fast path starts and stops neither.
//!
//! # Who writes
//! A context's word is written by the CPU that has the context, a CPU's word by that CPU. The
//! program that reads the pool cannot write the words. Two contexts that were given one word spoil
//! it for their policy alone.

use core::cell::Cell;

use abi::events::{Event, cells};
use abi::status::{Doing, KERNEL, SchedEvent, Status};
use abi::{MsgInfo, TaskId};
use kern_base::cpu::{BUSY, IDLE, IDLE_TOLD};
use kern_base::events::EventPool;
use kern_base::machine::Machine;
use kern_base::sched_context::OpenTime;
use kern_base::task::{State, ctl};
use smp::door::Ref;
use smp::events::Turn;
use smp::lock::Guard;
use smp::sync::Ordering::Relaxed;

use crate::rooms::Time;

impl<'k, M: Machine> Time<'k, M> {
    /// Takes the lock that guards to which pool a CPU reports. It has the number of policies that
    /// there were so far.
    pub fn lock_watching(self) -> Guard<'k, Cell<u64>> {
        self.k.watching.lock(self.cpu, &"which pools CPUs report to")
    }

    /// Returns the pool to which a context is reported, if this CPU reports to it.
    fn told_pool(self, sc: OpenTime<'k>) -> Option<Ref<'k, EventPool>> {
        let pool = self.cpu.watch.get(self.pin())?;
        (pool.get().policy.load(Relaxed) == sc.watch.policy.get()).then_some(pool)
    }

    /// Tells what a watched context does from now on, and the event that this is. It is watched no
    /// more if this CPU does not report to its pool.
    #[cold]
    #[inline(never)]
    pub fn tell(self, sc: OpenTime<'k>, doing: Doing) {
        let Some(pool) = self.told_pool(sc) else { return self.end_watch(sc) };
        let was = sc.watch.told.get().doing;
        let event = match doing {
            Doing::Ready | Doing::Runs if was == Doing::Rests => Some(SchedEvent::Woken),
            Doing::Rests if matches!(was, Doing::Ready | Doing::Runs) => Some(SchedEvent::Blocked),
            _ => None,
        };
        self.set_told(pool, sc, doing, event.map(|event| (event, 0)));
    }

    /// Does what [`Time::tell`] does, if the context is watched.
    #[inline(always)]
    pub fn tell_if_watched(self, sc: OpenTime<'k>, doing: Doing) {
        if sc.state.is_watched() {
            self.tell(sc, doing);
        }
    }

    /// Returns what a context of this CPU does.
    pub fn doing_of(self, sc: OpenTime<'k>) -> Doing {
        let holder = sc.task.get(self.pin()).and_then(|holder| self.open(holder));
        if self.sched.current.is(sc.object()) {
            Doing::Runs
        } else if sc.state.links.is_queued() {
            Doing::Ready
        } else if holder.is_some_and(|holder| holder.state() == State::Exhausted) {
            Doing::Exhausted
        } else {
            Doing::Rests
        }
    }

    /// Tells an event of a watched context that changes nothing about what the context does.
    #[inline(always)]
    pub fn tell_event(self, sc: OpenTime<'k>, event: SchedEvent, what: u64) {
        if sc.state.is_watched() {
            self.tell_event_of_watched(sc, event, what);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_event_of_watched(self, sc: OpenTime<'k>, event: SchedEvent, what: u64) {
        let Some(pool) = self.told_pool(sc) else { return self.end_watch(sc) };
        self.set_told(pool, sc, sc.watch.told.get().doing, Some((event, what)));
    }

    /// Tells that the budget of a context is used up until `window`, if it is watched.
    #[cold]
    #[inline(never)]
    pub fn tell_exhausted(self, sc: OpenTime<'k>, window: u64) {
        let told = sc.watch.told.get();
        if !sc.state.is_watched() || told.doing == Doing::Exhausted {
            return;
        }
        let Some(pool) = self.told_pool(sc) else { return self.end_watch(sc) };
        sc.watch.told.set(Status { count: told.count.wrapping_add(1), ..told });
        self.set_told(pool, sc, Doing::Exhausted, Some((SchedEvent::Exhausted, window)));
    }

    /// Writes the status word of a context, and reports an event, if the pool wants it.
    fn set_told(
        self,
        pool: Ref<'k, EventPool>,
        sc: OpenTime<'k>,
        doing: Doing,
        event: Option<(SchedEvent, u64)>,
    ) {
        let event = event.filter(|(event, _)| sc.watch.events.get() & *event as u16 != 0);
        let now = self.k.machine.now();
        let told = sc.watch.told.get();
        let runs = doing == Doing::Runs && self.sched.current.is(sc.object());
        let used = sc.state.consumed();
        // Never less than was told before: what an interrupt takes is not charged.
        let rest = || self.until_end(self.clock_of(sc));
        let status = Status {
            version: told.version.wrapping_add(1),
            place: self.id().raw() as u16,
            priority: sc.state.priority(),
            doing,
            ticks: if runs { used + sc.state.remaining().saturating_sub(rest()) } else { used },
            since: now,
            sequence: told.sequence.wrapping_add(u32::from(event.is_some())),
            count: told.count,
        };
        sc.watch.told.set(status);
        if let Some(word) = pool.get().status(self.pin(), u64::from(sc.watch.word.get())) {
            word.write(status);
        }
        // Also where the request that makes this CPU report is still under way.
        self.count_for(sc.watch.policy.get());
        self.count_ready(sc, doing == Doing::Ready);
        if let Some((event, what)) = event {
            self.report(pool, sc, event, what);
        }
    }

    /// Returns the ticks until the running context has to be looked at.
    fn until_end(self, now: u64) -> u64 {
        self.sched.until.get().saturating_sub(now)
    }

    /// Puts an event of the kernel into a pool. If there is no room, counts it as lost.
    fn report(self, pool: Ref<'k, EventPool>, sc: OpenTime<'k>, event: SchedEvent, what: u64) {
        let (shown, reserved) = (pool.get().shown(self.pin()), &pool.get().reserved);
        let Ok(at) = reserved.reserve(&shown, cells(0), Turn::Any) else {
            return pool.get().count_lost(self.pin());
        };
        let told = sc.watch.told.get();
        let word = u64::from(sc.watch.word.get()) | u64::from(told.sequence) << 32;
        let event = Event {
            info: MsgInfo::new(event as u32, 0),
            sender: sc.owner.get(self.pin()).map_or(TaskId::NONE, |owner| owner.get().id()),
            exposure: KERNEL,
            custom: self.id().raw() as u16,
            group: 0,
            regs: [word, told.ticks, told.since, what],
        };
        shown.write_header(at, event);
        if reserved.publish(&shown, at) {
            self.call_reader_later(pool);
        }
    }

    /// Informs a pool's reader that an event arrived. Always by mail, also to this CPU: this entry
    /// may be about to choose what runs, and must not begin to run the reader meanwhile.
    fn call_reader_later(self, pool: Ref<'k, EventPool>) {
        if let Some(reader) = pool.get().reader_task(self.pin()) {
            self.outbox().raise_control(reader, ctl::EVENT);
        }
    }

    /// Returns the policy to which this CPU reports; 0: none.
    pub fn policy(self) -> u64 {
        self.cpu.watch.get(self.pin()).map_or(0, |pool| pool.get().policy.load(Relaxed))
    }

    /// Counts from now on which contexts are ready that this policy watches, and not those of an
    /// earlier one.
    pub fn count_for(self, policy: u64) {
        if self.sched.counts_for.replace(policy) != policy {
            self.sched.count_number.set(self.sched.count_number.get() + 1);
            self.sched.ready.set(0);
            self.sched.told.set(Status { place: 0, ..self.sched.told.get() });
        }
    }

    /// Counts a context among those of this CPU that are ready and watched, or does not.
    fn count_ready(self, sc: OpenTime<'k>, ready: bool) {
        let number = self.sched.count_number.get();
        let was_ready = sc.watch.counted_in.replace(if ready { number } else { 0 }) == number && number != 0;
        if was_ready == ready {
            return;
        }
        let count = self.sched.ready.get();
        self.sched.ready.set(if ready { count.saturating_add(1) } else { count.saturating_sub(1) });
        let told = self.sched.told.get();
        self.write_cpu(Status { place: self.sched.ready.get(), ..told });
    }

    /// Ends that a context is watched.
    #[cold]
    pub fn end_watch(self, sc: OpenTime<'k>) {
        self.count_ready(sc, false);
        sc.watch.policy.set(0);
        sc.state.set_watched(false);
    }

    // --- the CPU ---------------------------------------------------------------------------------

    /// Does the last of what [`CpuSched::before_idle`] asks for: tells that this CPU is about to
    /// idle, if it reports to a pool, and then asks for this again. Sets how the CPU waits: a
    /// parked one in the way `halts`, any other one in the `usual` way.
    ///
    /// [`CpuSched::before_idle`]: kern_base::cpu::CpuSched
    #[cold]
    #[inline(never)]
    pub fn look_before_idle(self, usual: u8, halts: u8) {
        let is_parked = self.cpu.residents.is_closed();
        self.sched.waits_by.set(if is_parked { halts } else { usual });
        self.sched.before_idle.set(self.tell_before_idle());
    }

    /// Tells that this CPU is about to idle, if it reports to a pool. Returns whether it does.
    fn tell_before_idle(self) -> bool {
        let reports = !self.cpu.watch.is_null();
        self.sched.idle_as.set(if reports { IDLE_TOLD } else { IDLE });
        if reports && self.sched.told.get().doing != Doing::Rests {
            self.tell_cpu(Doing::Rests);
        }
        reports
    }

    /// Tells that this CPU idles no more, if it was told that it does. Returns the current time.
    #[cold]
    #[inline(never)]
    pub fn end_told_idling(self) -> Option<u64> {
        if self.sched.idle.get() != IDLE_TOLD {
            return None;
        }
        self.tell_cpu(Doing::Runs);
        Some(self.end_idling())
    }

    /// Tells what this CPU does, to the pool that it reports to from now on.
    pub fn tell_from_now(self) {
        self.count_for(self.policy());
        let idles = self.sched.idle.get() != BUSY;
        self.tell_cpu(if idles { Doing::Rests } else { Doing::Runs });
        if idles {
            self.sched.idle.set(IDLE_TOLD);
        }
        self.sched.before_idle.set(true);
    }

    /// Tells what this CPU does from now on.
    #[cold]
    #[inline(never)]
    fn tell_cpu(self, doing: Doing) {
        let (told, now) = (self.sched.told.get(), self.k.machine.now());
        let idled = if told.doing == Doing::Rests { now.saturating_sub(told.since) } else { 0 };
        let begins = doing == Doing::Rests && told.doing != Doing::Rests;
        self.write_cpu(Status {
            doing,
            ticks: told.ticks + idled,
            since: now,
            count: told.count.wrapping_add(u32::from(begins)),
            ..told
        });
    }

    /// Writes the status word of this CPU.
    fn write_cpu(self, status: Status) {
        let status = Status { version: status.version.wrapping_add(1), ..status };
        self.sched.told.set(status);
        // First the pool, which is set after the number of its word.
        if let Some(pool) = self.cpu.watch.get(self.pin())
            && let Some(word) = pool.get().status(self.pin(), self.cpu.watch_word.load(Relaxed))
        {
            word.write(status);
        }
    }

    /// Notes that a watched context was set: what was decided before is out of date.
    pub fn note_set(self, sc: OpenTime<'k>) {
        let told = sc.watch.told.get();
        sc.watch.told.set(Status { sequence: told.sequence.wrapping_add(1), ..told });
        self.tell(sc, told.doing);
    }
}
