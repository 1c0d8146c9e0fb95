//! A scheduling policy: places tasks on CPUs, and sets their CPU time, as `policy_core` decides.
//!
//! Everything that it knows comes from the kernel without being asked for: events in its pool, and
//! status words in its memory. It never calls what it schedules. If it hangs, lies or dies, the
//! kernel goes on by the last settings, and no task gets more than its budget, nor more than the
//! policy's SchedControl allows. A new policy process learns all from its manager and from the
//! status words.
//!
//! Its maker tells it by an argument how it is to be, gives it capabilities of tasks, and orders it
//! to manage them. Without an argument it is a process of a system, and asks its parent for all
//! that ([`described`]).
//!
//! The program is also the [`watchdog`], in a process of its own.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

mod described;
mod managed;
mod parking;
mod watchdog;

use core::fmt;

use abi::events::PoolSize;
use abi::status::{Doing, KERNEL, SchedEvent, Seen, Status};
use policy_core::cpus::Cpus;
use policy_core::deadlines::{Job, LEVELS, Promised, level_for, spread};
use policy_core::orders::{Kind, Order, Role, Setup, Verdict, Wish, slots};
use policy_core::{CPUS_MAX, TASKS_MAX, balance};
use user_rt::cap::{EventPool, Handle, Notification, SchedContext, Untyped};
use user_rt::events::Pool;
use user_rt::invoke::Settings;
use user_rt::ipc::{Event, Message, Patience, Received, recv_within, reply};
use user_rt::layout::{FREE_SLOTS, SHARED_VA, slot};
use user_rt::log::Shown;
use user_rt::slots::Slots;
use user_rt::spawn::{Nursery, own};
use user_rt::{arch, boot, info, warn, watch};

use described::{CHANGED_BIT, Told};
use managed::Managed;

user_rt::program!(begin);

/// Slots for the policy's own objects end here.
const SLOTS_END: u32 = 1000;
/// The pool: cells for events, and status words for CPUs and tasks.
const POOL: PoolSize = PoolSize { cells_log2: 9, status_pages: 2 };
const POOL_VA: u64 = SHARED_VA;
const BELL: u64 = 1;
/// Ticks between looks of a policy that balances: a slice of the task whose slice is shortest,
/// within these bounds.
const ROUND_LEAST: u64 = 20_000;
const ROUND_MOST: u64 = 1_000_000;
/// Microseconds until a task is tried again that could not be managed.
const AGAIN: u64 = 10_000;

fn begin(argument: u64) -> ! {
    let is_described = argument == 0;
    let setup = match Role::of_argument(argument) {
        Role::Policy(_) if is_described => described::setup(),
        Role::Policy(setup) => setup,
        Role::Watchdog(watch) => watchdog::run(watch),
    };
    match Policy::new(setup, is_described) {
        Ok(mut policy) => policy.run(),
        Err(refusal) => panic!("no policy: {refusal}"),
    }
}

/// An event of a task.
struct Heard {
    what: SchedEvent,
    number: usize,
    since: u64,
    /// The time of which it speaks.
    at: u64,
    sequence: u32,
}

struct Policy {
    setup: Setup,
    /// The parent says which tasks there are, and no order does.
    is_described: bool,
    pool: Pool,
    cpus: Cpus,
    tasks: [Option<Managed>; TASKS_MAX],
    promised: Promised,
    /// Ticks between looks.
    round: u64,
    /// Not all tasks rest. An event says when one that rests wakes, and other changes come without
    /// an event.
    is_busy: bool,
    /// When to try again to manage a task of the description that could not be managed.
    again: Option<u64>,
    /// For how long each CPU had idled when the policy began.
    idled: [u64; CPUS_MAX],
    /// Events that have found no room, as known.
    lost: u64,
    moves: u64,
    settings: u64,
    rescans: u64,
}

impl Policy {
    fn new(setup: Setup, is_described: bool) -> user_rt::Result<Policy> {
        let mut nursery = Nursery::new(Untyped::at(slot::UNTYPED), Slots::new(FREE_SLOTS..SLOTS_END));
        let bell: Notification =
            if is_described { described::bell(&mut nursery)? } else { nursery.make(0)? };
        bell.bind(&own::task())?;
        let object: EventPool = nursery.make(POOL.raw())?;
        let pool = Pool::bind(object, POOL.cells_log2, &own::process(), &own::task(), POOL_VA, BELL)?;
        let mut cpus = Cpus::new(setup.cpus);
        for cpu in 0..setup.cpus {
            own::machine().watch_cpu(cpu, pool.object(), cpu as u16)?;
            // An earlier policy may have parked it.
            cpus.set_open(cpu, !own::machine().cpu_state(cpu, false)?.is_parked);
        }
        info!("begins: {} on {} CPUs", setup.kind.name(), setup.cpus);
        let now = arch::now();
        let idled = core::array::from_fn(|cpu| idled(&pool, cpu as u16, now));
        Ok(Policy {
            setup,
            is_described,
            pool,
            cpus,
            idled,
            tasks: [const { None }; TASKS_MAX],
            promised: Promised::new(setup.cpus, setup.capacity),
            round: ROUND_MOST,
            is_busy: false,
            again: None,
            lost: 0,
            moves: 0,
            settings: 0,
            rescans: 0,
        })
    }

    fn run(&mut self) -> ! {
        if self.is_described {
            self.look_for_tasks(true);
        }
        loop {
            self.read_events();
            if self.setup.kind == Kind::Balance {
                self.balance();
            }
            if !self.pool.arm() {
                continue;
            }
            // Other bits mean that events came; a timeout means that it is time to look.
            match recv_within(self.patience()) {
                Ok(Event::Call(call)) => {
                    // The caller may have gone.
                    let _ = reply(&self.serve(&call));
                }
                Ok(Event::Bits(bits)) if bits >> CHANGED_BIT & 1 != 0 => self.look_for_tasks(true),
                _ => {}
            }
            if self.again.is_some_and(|again| again <= arch::now()) {
                self.look_for_tasks(false);
            }
        }
    }

    fn patience(&self) -> Patience {
        let balances = self.setup.kind == Kind::Balance && self.is_busy;
        let round = balances.then(|| arch::now().saturating_add(self.round));
        [round, self.again].into_iter().flatten().min().map_or(Patience::Forever, Patience::Until)
    }

    /// Returns the number of a task's status word. CPUs have the first ones.
    fn word(&self, number: usize) -> u16 {
        self.setup.cpus as u16 + number as u16
    }

    // --- orders ----------------------------------------------------------------------------------

    fn serve(&mut self, call: &Received) -> Message {
        let done = || answer(Verdict::Done, [0; 4]);
        match Order::of_words(call.message.label, call.message.regs) {
            // The watchdog says who is silent.
            None | Some(Order::Silent) => answer(Verdict::BadOrder, [0; 4]),
            Some(Order::Manage(_) | Order::Forget { .. }) if self.is_described => {
                answer(Verdict::BadOrder, [0; 4])
            }
            Some(Order::Report) => {
                answer(Verdict::Done, [self.moves, self.settings, self.idle(), self.rescans])
            }
            Some(Order::Forget { number }) => match self.forget(usize::from(number)) {
                true => done(),
                false => answer(Verdict::BadOrder, [0; 4]),
            },
            Some(Order::Manage(wish)) => match self.manage(wish) {
                Ok((cpu, begins)) => answer(Verdict::Done, [u64::from(cpu), begins, 0, 0]),
                Err(failed) => failed.answer(),
            },
            Some(Order::Park { cpu }) => self.park(cpu).map_or_else(Failed::answer, |()| done()),
            Some(Order::Unpark { cpu }) => self.unpark(cpu).map_or_else(Failed::answer, |()| done()),
        }
    }

    /// Returns for how long the CPU that has idled longest has idled, since the policy began.
    fn idle(&self) -> u64 {
        let now = arch::now();
        let of = |cpu: u32| idled(&self.pool, cpu as u16, now).saturating_sub(self.idled[cpu as usize]);
        (0..self.setup.cpus).map(of).max().unwrap_or(0)
    }

    /// Places a task, and sets its CPU time. Returns its CPU, and a time at which a window of its
    /// budget has just begun.
    fn manage(&mut self, wish: Wish) -> Result<(u32, u64), Failed> {
        let number = usize::from(wish.number);
        if self.tasks[number].is_some() || wish.slice == 0 || !self.is_right(wish) {
            return Err(Failed::Order(Verdict::BadOrder));
        }
        let sched = SchedContext::at(slots(wish.number).1);
        sched.watch(self.pool.object(), self.word(number), self.wanted())?;
        let placed = self.place(wish);
        if placed.is_err() {
            // It may have ended.
            let _ = sched.unwatch();
        }
        placed
    }

    /// Returns whether a task may be managed so: with deadlines, it needs a budget, and all tasks
    /// have the same lowest priority.
    fn is_right(&self, wish: Wish) -> bool {
        let has_budget = wish.budget != 0 && wish.budget <= wish.period;
        let first = self.tasks.iter().flatten().next().map_or(wish.priority, |task| task.wish.priority);
        self.setup.kind != Kind::Edf || has_budget && wish.priority == first
    }

    /// Returns which events the policy needs.
    fn wanted(&self) -> u16 {
        match self.setup.kind {
            Kind::Static => 0,
            // That a CPU has nothing more to do, or a task more.
            Kind::Balance => watch::events(&[SchedEvent::Blocked, SchedEvent::Woken, SchedEvent::Died]),
            Kind::Edf => watch::events(&SchedEvent::ALL),
        }
    }

    /// Does what [`Policy::manage`] does, for a task that is watched already.
    fn place(&mut self, wish: Wish) -> Result<(u32, u64), Failed> {
        let number = usize::from(wish.number);
        self.look_at_closed();
        let status = self.pool.status(self.word(number)).ok_or(Failed::Order(Verdict::BadOrder))?;
        let place = u32::from(status.place);
        let part = if self.setup.kind == Kind::Edf { Promised::part(wish.budget, wish.period) } else { 0 };
        let cpu = match wish.stays {
            true if self.setup.kind == Kind::Edf => self.promised.admit(part, [place].into_iter()),
            true => Some(place),
            false => self.choose_cpu(wish.number, part),
        };
        let cpu = cpu.ok_or(Failed::Order(Verdict::Overload))?;
        let managed = Managed::new(wish, cpu, part);
        let set = self.set_first(&managed);
        let begins = arch::now();
        let moved = match cpu == place {
            true => set,
            false => set.and_then(|()| managed.task.move_by(&own::sched_control(), cpu, None)).map(drop),
        };
        self.note_parked(&moved, cpu);
        moved.inspect_err(|_| self.promised.end(cpu, part))?;
        self.moves += u64::from(cpu != place);
        self.round = self.round.min(wish.slice).max(ROUND_LEAST);
        self.tasks[number] = Some(managed);
        self.look_at_job(number, status);
        Ok((cpu, begins))
    }

    /// Sets a task's CPU time for the first time. With deadlines, the highest priority is tried
    /// first: it has to be allowed, too.
    fn set_first(&self, managed: &Managed) -> user_rt::Result<()> {
        let (control, settings) = (own::sched_control(), managed.settings());
        if self.setup.kind == Kind::Edf {
            let priority = settings.priority.saturating_add(LEVELS - 1);
            managed.sched.configure_all(&control, None, Settings { priority, ..settings })?;
        }
        managed.sched.configure_all(&control, None, settings)
    }

    /// Returns the CPU for a task that may be anywhere. With deadlines, it was promised its part
    /// there.
    fn choose_cpu(&mut self, number: u16, part: u64) -> Option<u32> {
        match self.setup.kind {
            Kind::Edf => self.promised.admit(part, self.cpus.open()),
            Kind::Static => self.cpus.of_number(number.into()),
            Kind::Balance => self.emptiest(),
        }
    }

    /// Returns the CPU with the fewest tasks.
    fn emptiest(&self) -> Option<u32> {
        let on = |cpu| self.tasks.iter().flatten().filter(|task| task.cpu == cpu).count();
        self.cpus.open().min_by_key(|cpu| on(*cpu))
    }

    fn forget(&mut self, number: usize) -> bool {
        let Some(managed) = self.tasks[number].take() else { return false };
        self.promised.end(managed.cpu, managed.part);
        // It may have ended.
        let _ = managed.sched.unwatch();
        true
    }

    // --- the tasks of a description --------------------------------------------------------------

    /// Forgets the tasks of the description that have ended, and manages the others. `warns`: of
    /// those that it cannot manage.
    fn look_for_tasks(&mut self, warns: bool) {
        // All of them, before others are admitted: these may need what those were promised.
        for number in 0..TASKS_MAX as u16 {
            if self.tasks[usize::from(number)].is_some() && !described::is_there(number) {
                self.forget(number.into());
            }
        }
        self.again = None;
        for number in 0..TASKS_MAX as u16 {
            if self.tasks[usize::from(number)].is_some() {
                continue;
            }
            let failed = match described::get(number) {
                Told::Runs(wish) => self.manage(wish).err(),
                Told::Ended => None,
                Told::NoMore => return,
                Told::Failed(failed) => Some(failed),
            };
            if failed.is_some() {
                self.again = Some(arch::now().saturating_add(boot::ticks(AGAIN)));
            }
            if let Some(failed) = failed.filter(|_| warns) {
                warn!("task {} is not managed: {}", number, Shown(failed));
            }
        }
    }

    // --- events ----------------------------------------------------------------------------------

    fn read_events(&mut self) {
        // As many as the pool holds, so that orders are served in between.
        for _ in 0..1 << POOL.cells_log2 {
            let Some(told) = self.next_event() else { break };
            if self.setup.kind == Kind::Edf {
                self.follow_job(&told);
            }
        }
        let lost = self.pool.lost();
        if lost != self.lost {
            self.lost = lost;
            self.rescan();
        }
    }

    /// Returns the next event of a task.
    fn next_event(&mut self) -> Option<Heard> {
        let cpus = self.setup.cpus as usize;
        loop {
            let event = self.pool.read()?.event;
            let [word, _, since, at] = event.regs;
            let (number, sequence) = ((word as u32 as usize).wrapping_sub(cpus), (word >> 32) as u32);
            // Others may send events to this process, too.
            if let Some(what) = SchedEvent::from_label(event.info.label())
                && event.exposure == KERNEL
                && number < TASKS_MAX
            {
                return Some(Heard { what, number, since, at, sequence });
            }
        }
    }

    /// Learns from all status words what events would have said that were lost.
    fn rescan(&mut self) {
        self.rescans += 1;
        for number in 0..TASKS_MAX {
            let status = self.pool.status(self.word(number));
            let known = self.tasks[number].as_ref().map(|managed| managed.sequence);
            if let (Some(known), Some(status)) = (known, status)
                && known != status.sequence
            {
                self.look_at_job(number, status);
            }
        }
    }

    // --- earliest deadline first -----------------------------------------------------------------

    /// Begins or ends a job of a task.
    fn follow_job(&mut self, told: &Heard) {
        let Some(managed) = &mut self.tasks[told.number] else { return };
        managed.sequence = told.sequence;
        let period = managed.wish.period;
        // A task that moves is reported as blocked and woken, and its job goes on.
        let carried = managed.carried;
        if told.what != SchedEvent::Blocked && told.what != SchedEvent::Moved {
            managed.carried = None;
        }
        match told.what {
            SchedEvent::Woken => {
                self.begin_job(told.number, carried.unwrap_or(told.since.saturating_add(period)));
            }
            // It goes on in its next window.
            SchedEvent::Exhausted => self.begin_job(told.number, told.at.saturating_add(period)),
            SchedEvent::Blocked | SchedEvent::Died => managed.deadline = None,
            SchedEvent::Created | SchedEvent::Moved => {}
        }
    }

    /// Begins or ends a job by what a status word says: when it began is not known, so it is as if
    /// it began now.
    fn look_at_job(&mut self, number: usize, status: Status) {
        let Some(managed) = &mut self.tasks[number] else { return };
        managed.sequence = status.sequence;
        if self.setup.kind != Kind::Edf {
            return;
        }
        let deadline = arch::now().saturating_add(managed.wish.period);
        match status.doing {
            Doing::Ready | Doing::Runs | Doing::Exhausted => self.begin_job(number, deadline),
            Doing::Rests | Doing::Unknown | Doing::Waits => managed.deadline = None,
        }
    }

    fn begin_job(&mut self, number: usize, deadline: u64) {
        let Some(managed) = &mut self.tasks[number] else { return };
        managed.deadline = Some(deadline);
        let (cpu, present) = (managed.cpu, managed.level);
        let jobs = |(other, task): (usize, &Option<Managed>)| {
            let task = task.as_ref().filter(|task| task.cpu == cpu)?;
            Some((other as u16, Job { deadline: task.deadline?, level: task.level }))
        };
        let others = self.tasks.iter().enumerate().filter(|(other, _)| *other != number);
        if let Some(level) = level_for(deadline, present, others.filter_map(jobs).map(|(_, job)| job)) {
            return self.set_level(number, level);
        }
        let mut all = [(0, Job { deadline: 0, level: 0 }); TASKS_MAX];
        let mut count = 0;
        for job in self.tasks.iter().enumerate().filter_map(jobs) {
            all[count] = job;
            count += 1;
        }
        spread(&mut all[..count]);
        for (number, job) in &all[..count] {
            self.set_level(usize::from(*number), job.level);
        }
    }

    fn set_level(&mut self, number: usize, level: u8) {
        let Some(managed) = &mut self.tasks[number] else { return };
        if managed.level == level {
            return;
        }
        managed.level = level;
        self.settings += 1;
        // Refused: the SchedContext has ended, since the highest priority was allowed.
        let _ = managed.sched.configure_all(&own::sched_control(), None, managed.settings());
    }

    // --- balancing -------------------------------------------------------------------------------

    /// Moves tasks until no move makes a difference.
    fn balance(&mut self) {
        let now = arch::now();
        let rests = |number| self.pool.status(self.word(number)).is_some_and(|it| it.doing == Doing::Rests);
        let mut managed = (0..TASKS_MAX).filter(|number| self.tasks[*number].is_some());
        self.is_busy = !managed.all(rests);
        for _ in 0..TASKS_MAX {
            let seen = self.see(now);
            let Some((number, cpu)) = balance::choose(self.cpus, seen.into_iter()) else { return };
            self.move_task(number, cpu, now);
        }
    }

    fn see(&self, now: u64) -> [balance::Seen; TASKS_MAX] {
        core::array::from_fn(|number| {
            let none = balance::Seen { cpu: 0, is_runnable: false, may_move: false, since: 0 };
            let Some(managed) = &self.tasks[number] else { return none };
            let Some(status) = self.pool.status(self.word(number)) else { return none };
            let settles = now < managed.settles_at;
            // One that is under way is ready where it arrives.
            let moves = settles && managed.is_under_way;
            let cpu = if moves { managed.cpu } else { u32::from(status.place) };
            balance::Seen {
                cpu,
                is_runnable: moves || matches!(status.doing, Doing::Ready | Doing::Runs),
                may_move: !settles && status.doing == Doing::Ready,
                since: status.since,
            }
        })
    }

    fn move_task(&mut self, number: usize, cpu: u32, now: u64) {
        let seen = self.pool.status(self.word(number)).map(|status| Seen(status.sequence));
        let Some(managed) = &mut self.tasks[number] else { return };
        managed.settles_at = now.saturating_add(self.round);
        let moved = managed.task.move_by(&own::sched_control(), cpu, seen);
        managed.is_under_way = moved.is_ok();
        if moved.is_ok() {
            managed.cpu = cpu;
            self.moves += 1;
        }
        self.note_parked(&moved, cpu);
    }
}

/// Returns for how long a CPU has idled until `now`, by its status word.
fn idled(pool: &Pool, cpu: u16, now: u64) -> u64 {
    let Some(status) = pool.status(cpu) else { return 0 };
    let rests = if status.doing == Doing::Rests { now.saturating_sub(status.since) } else { 0 };
    status.ticks.saturating_add(rests)
}

/// Why an order could not be carried out.
#[derive(Clone, Copy)]
enum Failed {
    Order(Verdict),
    Kernel(user_rt::Refusal),
    /// The parent of a policy in a system.
    Parent,
}

fn answer(verdict: Verdict, regs: [u64; 4]) -> Message {
    Message { label: verdict as u32, regs, ..Message::default() }
}

impl Failed {
    fn answer(self) -> Message {
        match self {
            Failed::Order(verdict) => answer(verdict, [0; 4]),
            Failed::Parent => answer(Verdict::BadOrder, [0; 4]),
            Failed::Kernel(refusal) => answer(Verdict::Refused, [refusal.error as u64, 0, 0, 0]),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Order(verdict) => write!(f, "{verdict:?}"),
            Failed::Kernel(refusal) => refusal.fmt(f),
            Failed::Parent => f.write_str("the parent does not give it"),
        }
    }
}

impl From<user_rt::Refusal> for Failed {
    fn from(refusal: user_rt::Refusal) -> Failed {
        Failed::Kernel(refusal)
    }
}
