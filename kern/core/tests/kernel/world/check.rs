//! Checks the invariants between kernel entries: takes a survey of the world, which the crate
//! `invariants` judges.

use std::cell::RefCell;

use invariants::{Checker, Snapshot};
use kern_base::limits::ENTRY_WORK;
use kern_base::machine::Access;
use kern_base::paging::log2_of;
use kern_base::task::{FLAG_NEVER, Message, State, Task};
use kern_core::Cx;
use kern_core::tables::walk::Spot;
use kern_dump::found::Found;
use kern_dump::{Still, survey};
use smp::cpu::CpuId;
use smp::door::{Homed, Ref};
use smp::host_test;
use smp::lock::LeftLock;
use smp::mailbox::Idle;
use snapshot::{Hardware, Sink, Translation};
use test_abi::Dump;

use super::machine::{Fake, Page};
use super::{Mode, World};

/// What surveys and checks use again each time.
struct Memory {
    found: Box<Found>,
    snapshot: Snapshot,
    checker: Checker,
}

std::thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory {
        found: Box::new(Found::new()),
        snapshot: Snapshot::default(),
        checker: Checker::default(),
    });
}

/// Fails with the first invariant that does not hold.
pub fn all(world: &World) {
    for n in 0..world.cpus() {
        let left = world.look(n).sched.work.get();
        assert!(left <= ENTRY_WORK, "cpu{n} has the work {left} left for an entry that begins with none");
        deferral(world, n);
    }
    if let Some(violation) = violations(world).into_iter().next() {
        panic!("invariant: {violation}");
    }
}

/// A CPU that defers its mail looks into its mailbox in time: when its timer fires, before a worse
/// program runs, and before it idles. Only such a CPU has set mail aside. The fast path of a CPU
/// that has to attend to something goes on with no other task.
fn deferral(world: &World, n: usize) {
    let (cx, mailbox) = (world.look(n), world.block(n).mailbox());
    let goes_on = cx.hot.plain_half.get() & u64::from(FLAG_NEVER) << 8 == 0;
    assert!(
        !(cx.sched.more_mail.get() && goes_on && cx.current().is_some()),
        "cpu{n} goes on with other tasks, and does not attend to its mail"
    );
    let is_aside = mailbox.has_mail() && !mailbox.has_queued();
    if !cx.cpu.inbox().is_deferring() {
        assert!(!is_aside, "cpu{n} has set mail aside, and does not defer its mail");
        return;
    }
    assert!(cx.sched.more_mail.get(), "cpu{n} defers its mail, and will not look before it idles");
    let (timer, look_at) = (cx.sched.timer.get(), cx.sched.look_at.get());
    assert!(timer <= look_at, "cpu{n} defers its mail until {look_at}, and its timer fires at {timer}");
}

/// Rules that hold also while a CPU stands in the middle of a kernel entry: what hardware may do
/// with memory at that moment.
const ALWAYS: [&str; 4] = ["cpu-spaces", "remembered", "stale-pages", "write-or-execute"];

/// Fails where one of the rules does not hold that hold at any time.
pub fn always(world: &World) {
    MEMORY.with_borrow_mut(|memory| {
        let Memory { found, snapshot, checker } = memory;
        take(world, found, snapshot);
        let violation = checker.check(snapshot).iter().find(|violation| ALWAYS.contains(&violation.rule));
        if let Some(violation) = violation {
            panic!("invariant: {violation}");
        }
    });
}

/// What does not hold.
pub fn violations(world: &World) -> Vec<String> {
    MEMORY.with_borrow_mut(|memory| {
        let Memory { found, snapshot, checker } = memory;
        take(world, found, snapshot);
        let found = checker.check(snapshot).iter().map(ToString::to_string);
        let found = found.chain((0..world.cpus()).filter_map(|n| wrong_time(world, n)));
        found.chain(wrong_accounts(world, snapshot)).collect()
    })
}

/// Checks the accounts of CPU time: the shares of all contexts are what is used of the room, which
/// is not more than there is, and all users are counted.
fn wrong_accounts(world: &World, snapshot: &Snapshot) -> Vec<String> {
    let accounts = world.k.accounts.survey(world.look(0).cpu);
    let wrong = accounts.filter_map(|(number, users, room)| {
        let shares = snapshot.contexts.iter().filter(|it| it.account == number).map(|it| it.share);
        let counted = snapshot.controls.iter().filter(|it| it.account == number).count();
        let used = shares.sum::<u32>();
        let counted = counted as u32 + u32::from(used != 0);
        (used != room.used() || room.taken() > room.size() || counted != users)
            .then(|| format!("account {number}: {used} of {room:?} used, and {counted} of {users} users"))
    });
    wrong.collect()
}

/// Checks a CPU's running context: it has used no more time than has passed since the machine
/// began, and no less than none. The rest of its slice is part of what it was given.
fn wrong_time(world: &World, n: usize) -> Option<String> {
    let cx = world.look(n);
    let hot = cx.open_time(cx.sched.current.get(host_test::pin(n))?)?;
    let left = cx.sched.until.get().saturating_sub(world.now());
    let consumed = hot.state.consumed().wrapping_add(hot.state.remaining()).wrapping_sub(left);
    let now = world.now();
    (consumed > now).then(|| format!("slice: cpu{n} at {now:#x} runs what has used {consumed:#x} ticks"))
}

/// A snapshot of the world.
pub fn snapshot(world: &World) -> Snapshot {
    with_snapshot(world, Clone::clone)
}

/// Shows a snapshot of the world, which is gone afterwards.
pub fn with_snapshot<R>(world: &World, show: impl FnOnce(&Snapshot) -> R) -> R {
    MEMORY.with_borrow_mut(|memory| {
        take(world, &mut memory.found, &mut memory.snapshot);
        show(&memory.snapshot)
    })
}

/// A survey that nobody judges.
pub fn survey_alone(world: &World) {
    MEMORY.with_borrow_mut(|memory| take(world, &mut memory.found, &mut memory.snapshot));
}

/// Records the whole state into a snapshot, which it clears first.
pub fn record(world: &World, snapshot: &mut Snapshot) {
    MEMORY.with_borrow_mut(|memory| take(world, &mut memory.found, snapshot));
}

fn take(world: &World, found: &mut Found, snapshot: &mut Snapshot) {
    snapshot.clear();
    survey(world, Dump::All, found, snapshot);
    assert!(!found.is_full(), "there are more objects than a survey finds");
    hardware(world, snapshot);
}

impl Still<'static, Fake> for World {
    fn cx(&self, cpu: CpuId) -> Cx<'static, Fake> {
        *self.look(cpu.index())
    }

    fn is_busy(&self, cpu: CpuId) -> bool {
        self.torn == Some(cpu.index())
    }

    fn inside<T>(&self, state: Ref<'static, Homed<T>>) -> &'static T {
        host_test::inside(state)
    }

    fn guarded<T>(&self, state: &'static LeftLock<T>) -> &'static T {
        host_test::guarded(state)
    }
}

/// What the simulated hardware says.
fn hardware(world: &World, sink: &mut impl Sink) {
    let hardware = world.k.machine.hardware();
    for n in 0..world.cpus() {
        let cpu = n as u32;
        let mode = world.mode(n);
        sink.hardware(&Hardware {
            cpu,
            timer: hardware.timers.get(&n).copied().unwrap_or(u64::MAX),
            cr3: hardware.space(n).unwrap_or(0),
            interrupted: hardware.wakes.contains(&n),
            waits: mode != Mode::User,
            polls: mode == Mode::Idle(Idle::Poll),
        });
        for ((_, address), (cr3, page)) in hardware.tlb.get(&n).into_iter().flatten() {
            sink.translation(&Translation {
                cpu,
                cr3: *cr3,
                address: *address,
                page: page.at.0,
                log2: u32::from(page.log2),
                write: page.write,
                execute: page.execute,
            });
        }
    }
}

/// What an entry maps.
pub fn page(spot: Spot<'_>) -> Option<Page> {
    let entry = spot.load();
    let (write, execute) = (entry.access() == Access::Write, entry.access() == Access::Execute);
    let log2 = log2_of(spot.level);
    (entry.is_present() && entry.is_page(spot.level)).then_some(Page { at: entry.at(), log2, write, execute })
}

/// A task as tests see it.
#[derive(Clone, Copy)]
pub struct View {
    pub task: Ref<'static, Task>,
    /// The CPU where it is, or that it is under way to.
    pub home: usize,
    pub state: State,
    /// Its message block.
    pub msg: &'static Message,
}

pub fn view(task: Ref<'static, Task>) -> View {
    let home = task.get().hot.destination().index();
    let state = host_test::inside(task.map(|task| &task.hot)).state();
    View { task, home, state, msg: host_test::inside(task.map(Task::message_state)) }
}

impl View {
    pub fn name(&self) -> String {
        let id = self.task.get().id();
        format!("task {} ({:?}, {:?}, cpu{})", id.raw(), self.state, self.msg.stage(), self.home)
    }

    pub fn receives(&self) -> bool {
        matches!(self.state, State::Recv | State::RecvTimed)
    }
}
